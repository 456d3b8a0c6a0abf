import { describe, expect, it } from "vitest";
import { FRAME_MESSAGE_BYTES } from "../abi";
import { newFrameQueue } from "./queue";

const message = (frame: number): ArrayBuffer => {
  const buffer = new ArrayBuffer(FRAME_MESSAGE_BYTES);
  new DataView(buffer).setUint32(8, frame, true);
  return buffer;
};
const TICK = 1000 / 60;

/** Paints for `seconds` on a display of `hertz`; frames come at 60 Hz with `jitter` ms. */
function paint(delay: number, hertz: number, jitter: number, seconds: number): number[] {
  const queue = newFrameQueue(delay);
  const shown: number[] = [];
  let next = 1;
  for (let tick = 0; tick < hertz * seconds; tick++) {
    const now = (tick * 1000) / hertz + 3;
    while (next * TICK + (next % 3) * jitter <= now) queue.push(message(next++));
    const view = queue.take(now);
    if (view !== null) shown.push(view.getUint32(8, true));
  }
  return shown;
}

describe("the frame queue", () => {
  it("shows every frame on an even line", () => expect(paint(1, 60, 0, 10).length).toBeGreaterThan(590));
  it("shows at least 55 a second with jitter", () => expect(new Set(paint(1, 60, 7, 10)).size).toBeGreaterThan(550));
  it("never shows a frame twice or out of order", () => {
    for (const hertz of [50, 60, 75, 120, 144]) {
      const shown = paint(1, hertz, 5, 5);
      shown.forEach((frame, i) => { if (i > 0) expect(frame).toBeGreaterThan(shown[i - 1]); });
    }
  });
  it("does not run faster than the match on a fast display", () => expect(paint(1, 144, 0, 5).length).toBeLessThanOrEqual(300));
  it("catches up after a stall", () => {
    const queue = newFrameQueue(1);
    for (let frame = 1; frame <= 200; frame++) queue.push(message(frame));
    expect(queue.take(1000)?.getUint32(8, true)).toBeGreaterThan(195);
  });
  it("shows the newest at once when the delay is none", () => {
    const queue = newFrameQueue(0);
    for (let frame = 1; frame <= 4; frame++) queue.push(message(frame));
    expect(queue.take(1000)?.getUint32(8, true)).toBe(4);
    expect(queue.take(1020)).toBeNull();
  });
});
