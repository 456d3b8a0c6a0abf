/** Sparks, dust, rings and shake in fixed pools: nothing is allocated while a match runs. */
import { ALARM, BONE, PLAYERS, SIGNAL } from "./palette";

const SPARKS = 320;
const RINGS = 24;
/** Per spark: x, y, vx, vy, age, life, drag, gravity. */
const STRIDE = 8;
const COLOURS = [PLAYERS[0].line, PLAYERS[1].line, BONE, "#7f9090", SIGNAL, ALARM];
export const Tint = { First: 0, Second: 1, White: 2, Dust: 3, Signal: 4, Alarm: 5 } as const;

export interface Effects {
  sparks: Float32Array;
  tint: Uint8Array;
  next: number;
  /** Per ring: x, y, radius, growth, age, life. */
  rings: Float32Array;
  ringTint: Uint8Array;
  nextRing: number;
  shake: number;
  /** What was heard since the last frame, see `Cue`. */
  cues: number;
  seed: number;
}

export function newEffects(): Effects {
  return {
    sparks: new Float32Array(SPARKS * STRIDE), tint: new Uint8Array(SPARKS), next: 0,
    rings: new Float32Array(RINGS * 6), ringTint: new Uint8Array(RINGS), nextRing: 0, shake: 0, cues: 0, seed: 1,
  };
}

export function clearEffects(effects: Effects): void {
  effects.sparks.fill(0);
  effects.rings.fill(0);
  effects.shake = 0;
}

/** A cheap generator of its own, so that a replay looks the same each time. In 0..1. */
export function noise(effects: Effects): number {
  effects.seed = (Math.imul(effects.seed, 1664525) + 1013904223) >>> 0;
  return effects.seed / 4294967296;
}

function spark(effects: Effects, tint: number, x: number, y: number, vx: number, vy: number, life: number, drag: number, gravity: number): void {
  const i = effects.next;
  effects.next = (i + 1) % SPARKS;
  const at = i * STRIDE;
  const s = effects.sparks;
  s[at] = x; s[at + 1] = y; s[at + 2] = vx; s[at + 3] = vy; s[at + 4] = 0; s[at + 5] = life; s[at + 6] = drag; s[at + 7] = gravity;
  effects.tint[i] = tint;
}

export function ring(effects: Effects, tint: number, x: number, y: number, radius: number, growth: number, life: number): void {
  const i = effects.nextRing;
  effects.nextRing = (i + 1) % RINGS;
  const at = i * 6;
  const s = effects.rings;
  s[at] = x; s[at + 1] = y; s[at + 2] = radius; s[at + 3] = growth; s[at + 4] = 0; s[at + 5] = life;
  effects.ringTint[i] = tint;
}

/** Sparks in a cone; `angle` radians, `spread` half the opening. */
export function burst(effects: Effects, tint: number, x: number, y: number, count: number, angle: number, spread: number, speed: number, life: number): void {
  for (let i = 0; i < count; i++) {
    const a = angle + (noise(effects) * 2 - 1) * spread;
    const v = speed * (0.35 + noise(effects) * 0.65);
    spark(effects, noise(effects) < 0.3 ? Tint.White : tint, x, y, Math.cos(a) * v, Math.sin(a) * v, life * (0.5 + noise(effects) * 0.5), 0.88, -0.03);
  }
}

/** Dust along the ground, thrown towards `direction` (0: both ways). */
export function dust(effects: Effects, x: number, y: number, direction: number, count: number): void {
  for (let i = 0; i < count; i++) {
    const way = direction === 0 ? (i % 2 === 0 ? 1 : -1) : direction;
    spark(effects, Tint.Dust, x + way * noise(effects) * 2, y + noise(effects) * 0.6, way * (0.25 + noise(effects) * 0.7), 0.05 + noise(effects) * 0.3, 12 + noise(effects) * 10, 0.9, 0.004);
  }
}

/** A column of fire from where a fighter left the world, towards its middle. */
export function blastOff(effects: Effects, tint: number, x: number, y: number, angle: number): void {
  burst(effects, tint, x, y, 70, angle, 0.22, 7.5, 46);
  burst(effects, Tint.White, x, y, 24, angle, 0.1, 9, 34);
  ring(effects, tint, x, y, 4, 2.6, 34);
  ring(effects, Tint.White, x, y, 2, 1.5, 26);
  effects.shake = 1;
}

/** One frame on. */
export function stepEffects(effects: Effects): void {
  const s = effects.sparks;
  for (let i = 0; i < SPARKS; i++) {
    const at = i * STRIDE;
    if (s[at + 5] === 0) continue;
    s[at] += s[at + 2]; s[at + 1] += s[at + 3];
    s[at + 2] *= s[at + 6]; s[at + 3] = s[at + 3] * s[at + 6] + s[at + 7];
    if (++s[at + 4] >= s[at + 5]) s[at + 5] = 0;
  }
  const q = effects.rings;
  for (let i = 0; i < RINGS; i++) {
    const at = i * 6;
    if (q[at + 5] === 0) continue;
    q[at + 2] += q[at + 3]; q[at + 3] *= 0.93;
    if (++q[at + 4] >= q[at + 5]) q[at + 5] = 0;
  }
  effects.shake *= 0.86;
}

/** Draws everything, one path per colour and half of life. World coordinates. */
export function drawEffects(ctx: CanvasRenderingContext2D, effects: Effects, line: number): void {
  const s = effects.sparks;
  ctx.lineCap = "round";
  for (let tint = 0; tint < COLOURS.length; tint++) {
    for (let old = 0; old < 2; old++) {
      let any = false;
      for (let i = 0; i < SPARKS; i++) {
        const at = i * STRIDE;
        if (s[at + 5] === 0 || effects.tint[i] !== tint || (s[at + 4] * 2 >= s[at + 5] ? 1 : 0) !== old) continue;
        if (!any) { ctx.beginPath(); any = true; }
        const stretch = tint === Tint.Dust ? 0.6 : 1.6;
        ctx.moveTo(s[at], s[at + 1]);
        ctx.lineTo(s[at] - s[at + 2] * stretch, s[at + 1] - s[at + 3] * stretch);
      }
      if (!any) continue;
      ctx.globalAlpha = old === 0 ? 0.95 : 0.4;
      ctx.lineWidth = line * (tint === Tint.Dust ? 1.6 : 1.3);
      ctx.strokeStyle = COLOURS[tint];
      ctx.stroke();
    }
  }
  const q = effects.rings;
  for (let i = 0; i < RINGS; i++) {
    const at = i * 6;
    if (q[at + 5] === 0) continue;
    ctx.globalAlpha = 1 - q[at + 4] / q[at + 5];
    ctx.strokeStyle = COLOURS[effects.ringTint[i]];
    ctx.lineWidth = line * 1.4;
    ctx.beginPath();
    ctx.arc(q[at], q[at + 1], q[at + 2], 0, Math.PI * 2);
    ctx.stroke();
  }
  ctx.globalAlpha = 1;
}
