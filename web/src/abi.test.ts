import { describe, expect, it } from "vitest";
import { Button, emptyState, neutralPad, readPad, readState, STATE_BYTES, writePad } from "./abi";

/** The same values and bytes as the golden tests of the `worldline-abi` crate. */
describe("golden bytes", () => {
  it("a pad is twelve bytes", () => {
    const bytes = new Uint8Array(12);
    writePad(new DataView(bytes.buffer), 0, { ...neutralPad(), stickX: 1, stickY: -1, cX: 1 / 80, triggerL: 1, triggerR: 7 / 255, buttons: Button.A | Button.Start });
    expect([...bytes]).toEqual([0x00, 0x7d, 0x00, 0x83, 0x90, 0x01, 0x00, 0x00, 255, 7, 0x00, 0x11]);
    const pad = neutralPad();
    readPad(new DataView(bytes.buffer), 0, pad);
    expect(pad.stickY).toBe(-1);
    expect(pad.buttons).toBe(Button.A | Button.Start);
  });

  it("a state keeps its bytes", () => {
    const bytes = new Uint8Array(STATE_BYTES);
    bytes.set([1, 3, 31, 0xff, 4, 3, 2, 1, 0x80, 0x70, 0, 0, 0, 0, 0, 0], 0);
    bytes.set([0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 9, 0, 0, 0, 2, 0, 0, 0], 16);
    bytes.set([0x00, 0xf0, 0xff, 0xff, 0, 0, 0, 0, 128, 0], 128);
    bytes.set([0x00, 0x04, 0x00, 60, 14, 0, 0, 4, 0, 0, 0, 20, 0, 0, 0x58, 0x02], 146);
    const state = emptyState();
    readState(new DataView(bytes.buffer), 0, state);
    expect(state).toMatchObject({ version: 1, status: 3, stage: 31, winner: 0xff, frame: 0x01020304, clock: 28_800, ruleHits: 2 });
    expect(state.players[1]).toMatchObject({ x: -1, percent: 2, groundX: 1, shield: 60, action: 14, stocks: 4, character: 20, since: 600, facing: -1, onGround: false });
    expect(state.players[0]).toMatchObject({ x: 0, y: 0, percent: 0, stocks: 0 });
  });
});

describe("decoding", () => {
  it("refuses a state that is cut short", () => {
    expect(() => readState(new DataView(new ArrayBuffer(255)), 0, emptyState())).toThrow(/256 bytes, 255/);
  });
  it("keeps a pad inside its range, on the 1/80 grid", () => {
    const view = new DataView(new ArrayBuffer(12));
    writePad(view, 0, { ...neutralPad(), stickX: 3, stickY: 0.5031, triggerL: -1, triggerR: 9 });
    expect(view.getInt16(0, true)).toBe(32000);
    expect(view.getInt16(2, true) % 400).toBe(0);
    expect(view.getUint8(8)).toBe(0);
    expect(view.getUint8(9)).toBe(255);
  });
});
