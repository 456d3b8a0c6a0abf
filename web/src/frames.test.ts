import { describe, expect, it } from "vitest";
import { emptyState } from "./abi";
import { framesSource } from "./frames";

const frame = (x: number, action: number): unknown => ({ players: [{ x, y: 1, percent: 12.5, action_state: action, facing: 1, on_ground: true, stocks: 4, character: 9 }, { x: -x, y: 0, action_state: 14, facing: 0 }] });

describe("JSON frames", () => {
  it("become states, with the age of an action counted", () => {
    const source = framesSource({ stage: 32, characters: [2, 20], frames: [frame(1, 14), frame(2, 14), frame(3, 20)] });
    const state = emptyState();
    source.read(1, state);
    expect(source.length).toBe(3);
    expect(state).toMatchObject({ stage: 32, frame: 1 });
    expect(state.players[0]).toMatchObject({ x: 2, percent: 12.5, since: 1, character: 9, facing: 1 });
    expect(state.players[1]).toMatchObject({ character: 20, facing: -1 });
    source.read(2, state);
    expect(state.players[0].since).toBe(0);
  });
  it("are refused in words when they are wrong", () => {
    expect(() => framesSource(null)).toThrow(/no “frames”/);
    expect(() => framesSource({ frames: [] })).toThrow(/no “frames”/);
    expect(() => framesSource({ frames: [{ players: [{}] }] })).toThrow(/Frame 0/);
    expect(() => framesSource({ frames: [frame(0, 14), { players: [{ x: "left" }, {}] }] })).toThrow(/Frame 1: “x” is not a number/);
  });
});
