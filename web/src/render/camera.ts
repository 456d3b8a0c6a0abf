/** A camera that keeps both fighters in view and moves without haste. World units, y up. */
import type { State } from "../abi";
import { isDead } from "../melee/actions";
import type { Stage } from "../melee/stages";

export interface Camera { x: number; y: number; /** Pixels per world unit. */ scale: number; ready: boolean }

const MARGIN_X = 34;
const MARGIN_UP = 42;
const MARGIN_DOWN = 26;
const MIN_WIDTH = 148;
/** How far towards a blast zone the camera follows. */
const REACH = 0.82;
const EASE = 0.085;

export const newCamera = (): Camera => ({ x: 0, y: 20, scale: 4, ready: false });

/** Moves the camera one frame on; `width`, `height` in pixels. `bottom` pixels are kept free for readouts. */
export function follow(camera: Camera, state: State, stage: Stage, width: number, height: number, bottom: number): void {
  const { blast } = stage;
  let left = 1e9, right = -1e9, low = 1e9, high = -1e9;
  for (let i = 0; i < 2; i++) {
    const player = state.players[i];
    const gone = isDead(player.action);
    const x = gone ? 0 : Math.max(blast.left * REACH, Math.min(blast.right * REACH, player.x));
    const y = gone ? 20 : Math.max(blast.bottom * REACH, Math.min(blast.top * REACH, player.y));
    left = Math.min(left, x); right = Math.max(right, x);
    low = Math.min(low, y); high = Math.max(high, y);
  }
  left -= MARGIN_X; right += MARGIN_X; low -= MARGIN_DOWN; high += MARGIN_UP;
  const free = height - bottom;
  const wide = Math.max(right - left, MIN_WIDTH, (high - low) * (width / free));
  const scale = width / wide;
  const x = (left + right) / 2;
  const y = (low + high) / 2 - bottom / 2 / scale;
  if (!camera.ready) {
    camera.x = x; camera.y = y; camera.scale = scale; camera.ready = true;
    return;
  }
  camera.x += (x - camera.x) * EASE;
  camera.y += (y - camera.y) * EASE;
  // Widen faster than narrow: losing sight of a fighter is worse than a late close-up.
  camera.scale += (scale - camera.scale) * (scale < camera.scale ? EASE : EASE * 0.4);
}
