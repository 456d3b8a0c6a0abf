/** Counts what was really painted: distinct frame numbers, and frames a second. */

const WINDOW = 60;
/** An 8-minute match has 28,800 frames; a bit each. */
const MOST_FRAMES = 1 << 17;

export interface Meter {
  /** Distinct frame numbers painted since the match began. */
  paintedFrames: number;
  lastFrame: number;
  /** Painted frames a second over the last second. */
  fps: number;
  reset(): void;
  painted(frame: number, now: number): void;
}

export function newMeter(): Meter {
  const seen = new Uint8Array(MOST_FRAMES / 8);
  const times = new Float64Array(WINDOW);
  let count = 0;
  const meter: Meter = {
    paintedFrames: 0, lastFrame: -1, fps: 0,
    reset() {
      seen.fill(0);
      count = 0;
      meter.paintedFrames = 0;
      meter.lastFrame = -1;
      meter.fps = 0;
    },
    painted(frame, now) {
      meter.lastFrame = frame;
      const at = frame % MOST_FRAMES;
      const bit = 1 << (at & 7);
      if ((seen[at >> 3] & bit) !== 0) return;
      seen[at >> 3] |= bit;
      meter.paintedFrames++;
      const oldest = times[count % WINDOW];
      times[count % WINDOW] = now;
      count++;
      if (count > WINDOW) meter.fps = (1000 * WINDOW) / (now - oldest);
    },
  };
  return meter;
}

declare global {
  interface Window { __worldline: Meter }
}

/** The one meter of the page; tests read it as `window.__worldline`. */
export const meter: Meter = newMeter();
window.__worldline = meter;
