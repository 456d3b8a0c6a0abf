/**
 * Frames between network and display. They arrive at 60 Hz with jitter and are painted at the
 * display's own pace; waiting for `delay` frames trades latency for evenness. Fixed memory.
 */
import { FRAME_MESSAGE_BYTES } from "../abi";

const SLOTS = 64;
/** Frames over the delay that are shed one by one, and at once. */
const EASE_OFF = 2;
const CATCH_UP = 10;
/** Least time between two painted frames, a little under 1/60 s: faster displays wait. */
const PERIOD_MS = 16;
const EARLY_MS = 4;

export interface FrameQueue {
  push(message: ArrayBuffer): void;
  /** At each display tick: the next message to paint, or null. Valid until the next push. */
  take(now: number): DataView | null;
  /** Frames to wait for: 0 shows the newest at once. */
  setDelay(frames: number): void;
  clear(): void;
}

export function newFrameQueue(initialDelay: number): FrameQueue {
  const slots = Array.from({ length: SLOTS }, () => new Uint8Array(FRAME_MESSAGE_BYTES));
  const views = slots.map((slot) => new DataView(slot.buffer));
  let head = 0;
  let tail = 0;
  let delay = initialDelay;
  let starved = true;
  let due = 0;
  return {
    push(message) {
      if (tail - head === SLOTS) head++;
      slots[tail % SLOTS].set(new Uint8Array(message));
      tail++;
    },
    take(now) {
      let depth = tail - head;
      if (depth === 0) { starved = true; return null; }
      if (starved && depth <= delay) return null;
      if (now < due - EARLY_MS) return null;
      starved = false;
      if (delay === 0 || depth > delay + CATCH_UP) head = tail - 1 - delay;
      else if (depth > delay + EASE_OFF) head++;
      depth = tail - head;
      due = Math.max(due, now - PERIOD_MS) + PERIOD_MS;
      return views[head++ % SLOTS];
    },
    setDelay(frames) { delay = Math.max(0, Math.min(CATCH_UP, frames)); },
    clear() { head = tail; starved = true; },
  };
}
