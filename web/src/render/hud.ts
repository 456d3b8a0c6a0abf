/** Readouts on the tube: clock, percent, stocks. Screen pixels, y down. */
import { FRAMES_PER_SECOND, type State } from "../abi";
import { isDead } from "../melee/actions";
import { bodyById } from "../melee/characters";
import type { Camera } from "./camera";
import type { Fighter } from "./fighter";
import { ALARM, BONE, DIM, PLAYERS } from "./palette";
import { numberWidth, strokeNumber, strokeWord, traceGlyph } from "./vector";

/** From calm to critical. */
const HEAT = [BONE, "#ffe9a3", "#ffc861", "#ff9447", ALARM];
const HEAT_STEP = 32;
const COLON = 58;
const PERCENT = 37;
const LAST_SECONDS = 10;

export interface Seats { names: [string, string] }

/** Pixels at the bottom that the readouts take. */
export function hudHeight(width: number, height: number): number {
  return Math.round(Math.max(74, Math.min(132, Math.min(width * 0.24, height * 0.19))));
}

function clock(ctx: CanvasRenderingContext2D, state: State, width: number, unit: number): void {
  const seconds = Math.ceil(state.clock / FRAMES_PER_SECOND);
  const size = unit * 0.3;
  const y = unit * 0.2;
  const middle = width / 2;
  ctx.lineWidth = Math.max(1.2, unit * 0.02);
  ctx.strokeStyle = seconds <= LAST_SECONDS ? ALARM : BONE;
  strokeNumber(ctx, seconds % 60, 2, middle + numberWidth(2, size) + size * 0.5, y, size);
  strokeNumber(ctx, Math.floor(seconds / 60), 1, middle - size * 0.1, y, size);
  ctx.beginPath();
  traceGlyph(ctx, COLON, middle - size * 0.13, y, size);
  ctx.stroke();
}

/** One player's plate; the second seat's is the mirror image of the first. */
function plate(ctx: CanvasRenderingContext2D, state: State, fighter: Fighter, seat: number, name: string, width: number, height: number, unit: number): void {
  const player = state.players[seat];
  const hue = PLAYERS[seat];
  const side = seat === 0 ? 1 : -1;
  const wide = Math.min(unit * 2.2, width * 0.43);
  const centre = width / 2 - side * Math.min(width * 0.2, unit * 3) - side * wide * 0.14;
  const outer = Math.max(width * 0.03, Math.min(width * 0.97, centre - (side * wide) / 2));
  const top = height - unit * 0.94;
  const shake = fighter.hudShake > 0 ? ((fighter.hudShake % 2) * 2 - 1) * fighter.hudShake * 0.35 : 0;
  const size = unit * 0.46;

  // A bracket in the player's hue holds the plate.
  ctx.strokeStyle = hue.line;
  ctx.lineWidth = Math.max(1.2, unit * 0.016);
  ctx.beginPath();
  ctx.moveTo(outer + side * unit * 0.12, top); ctx.lineTo(outer, top); ctx.lineTo(outer, top + unit * 0.78); ctx.lineTo(outer + side * unit * 0.12, top + unit * 0.78);
  ctx.stroke();

  const gone = isDead(player.action) && player.stocks === 0;
  ctx.strokeStyle = gone ? DIM : HEAT[Math.min(HEAT.length - 1, Math.floor(player.percent / HEAT_STEP))];
  ctx.lineWidth = Math.max(1.8, unit * 0.036);
  const right = seat === 0 ? outer + unit * 0.16 + numberWidth(3, size) : outer - unit * 0.16 - size * 0.48;
  strokeNumber(ctx, player.percent, 1, right + shake, top + shake, size);
  ctx.lineWidth = Math.max(1.2, unit * 0.02);
  ctx.beginPath();
  traceGlyph(ctx, PERCENT, right + unit * 0.08 + shake, top + size * 0.5 + shake, size * 0.5);
  ctx.stroke();

  ctx.strokeStyle = hue.line;
  ctx.lineWidth = Math.max(1, unit * 0.014);
  const label = Math.max(9, unit * 0.13);
  const base = top + unit * 0.62;
  strokeWord(ctx, name, outer + side * unit * 0.16, base, label, seat);

  const pip = unit * 0.07;
  const inner = outer + side * wide * 0.98;
  ctx.fillStyle = hue.line;
  ctx.beginPath();
  for (let i = 0; i < player.stocks; i++) {
    const x = inner - side * (pip + i * pip * 2.7), y = base + label / 2;
    ctx.moveTo(x, y - pip); ctx.lineTo(x + pip, y); ctx.lineTo(x, y + pip); ctx.lineTo(x - pip, y);
    ctx.closePath();
  }
  ctx.fill();
}

/** Arrows at the rim for fighters the camera has lost. */
function strays(ctx: CanvasRenderingContext2D, state: State, camera: Camera, width: number, height: number, bottom: number, ratio: number): void {
  for (let seat = 0; seat < 2; seat++) {
    const player = state.players[seat];
    if (isDead(player.action)) continue;
    const x = (player.x - camera.x) * camera.scale + width / 2;
    const y = height / 2 - (player.y + 6 - camera.y) * camera.scale;
    if (x >= 0 && x <= width && y >= 0 && y <= height - bottom) continue;
    const rim = 26 * ratio;
    const px = Math.max(rim, Math.min(width - rim, x));
    const py = Math.max(rim, Math.min(height - bottom - rim, y));
    const a = Math.atan2(y - py, x - px);
    const r = 13 * ratio;
    ctx.strokeStyle = PLAYERS[seat].line;
    ctx.lineWidth = 2 * ratio;
    ctx.beginPath();
    ctx.arc(px, py, r, 0, Math.PI * 2);
    ctx.moveTo(px + Math.cos(a - 0.5) * r, py + Math.sin(a - 0.5) * r);
    ctx.lineTo(px + Math.cos(a) * r * 1.7, py + Math.sin(a) * r * 1.7);
    ctx.lineTo(px + Math.cos(a + 0.5) * r, py + Math.sin(a + 0.5) * r);
    ctx.stroke();
  }
}

export function drawHud(ctx: CanvasRenderingContext2D, state: State, fighters: readonly Fighter[], camera: Camera, seats: Seats | null, width: number, height: number, ratio: number): void {
  const unit = hudHeight(width, height);
  ctx.lineCap = "round";
  ctx.lineJoin = "round";
  strays(ctx, state, camera, width, height, unit, ratio);
  clock(ctx, state, width, unit);
  for (let seat = 0; seat < 2; seat++) {
    const name = seats?.names[seat] ?? bodyById(state.players[seat].character).short;
    plate(ctx, state, fighters[seat], seat, name, width, height, unit);
  }
}
