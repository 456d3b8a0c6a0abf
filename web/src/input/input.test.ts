import { describe, expect, it } from "vitest";
import { Button, neutralPad } from "../abi";
import { layoutOf, readGamepad } from "./gamepad";
import { DEFAULT_KEYS, rebind } from "./keymap";

const pad = (id: string, axes: number[], pressed: number[]): Pick<Gamepad, "id" | "axes" | "buttons"> => ({
  id, axes, buttons: Array.from({ length: 17 }, (_, i) => ({ pressed: pressed.includes(i), touched: false, value: pressed.includes(i) ? 1 : 0 })),
});

describe("gamepads", () => {
  it("map by place, with a dead zone and the y axis up", () => {
    const out = neutralPad();
    readGamepad(pad("Xbox Controller", [0.05, -1, 0, 0], [0, 7]), out);
    expect(out.stickX).toBeCloseTo(0.05, 1);
    expect(out.stickY).toBeCloseTo(1, 1);
    expect(out.buttons).toBe(Button.A | Button.R);
    expect(out.triggerR).toBe(1);
    readGamepad(pad("Xbox Controller", [0.05, 0.05, 0, 0], []), out);
    expect(out).toEqual(neutralPad());
  });
  it("know a GameCube adapter", () => {
    expect(layoutOf("MAYFLASH GameCube Controller Adapter (Vendor: 0079 Product: 1843)")).toBe("gamecube");
    const out = neutralPad();
    readGamepad(pad("MAYFLASH GameCube Controller Adapter", [0, 0, 0, -1, -1, 0], [1, 7]), out);
    expect(out.buttons).toBe(Button.A | Button.Z);
    expect(out.triggerL).toBe(0);
  });
});

describe("the key map", () => {
  it("swaps rather than loses a key", () => {
    const keys = rebind(DEFAULT_KEYS, "attack", DEFAULT_KEYS.special);
    expect(keys.attack).toBe(DEFAULT_KEYS.special);
    expect(keys.special).toBe(DEFAULT_KEYS.attack);
  });
});
