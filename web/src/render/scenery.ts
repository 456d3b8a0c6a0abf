/** What does not move: graticule, blast zone, stage. Paths are built once per stage. */
import type { State } from "../abi";
import type { Platform, Stage } from "../melee/stages";
import { BONE, GRID, GRID_STRONG } from "./palette";

const CELL = 20;
const TICK = 10;
/** Marks on the axis: how far apart, and half of one's length. */
const MARK = 4;
const MARK_HALF = 0.9;
/** Depth of the floor: its far edge is this much higher and narrower. */
const DEPTH = 3.4;
const BACK = 0.9;

export interface Scenery {
  stage: Stage;
  block: Path2D;
  /** The floor running into depth behind the fighters. */
  floor: Path2D;
  /** Heights of the platforms as drawn: moving ones follow whoever stands on them. */
  heights: Float32Array;
}

export function newScenery(stage: Stage): Scenery {
  const block = new Path2D();
  const { edge, edgeY, under } = stage;
  const slope = edgeY < -1 ? edge * 0.7 : edge;
  block.moveTo(-edge, edgeY);
  block.lineTo(-slope, 0); block.lineTo(slope, 0); block.lineTo(edge, edgeY);
  for (let i = 0; i < under.length; i += 2) block.lineTo(under[i], under[i + 1]);
  block.closePath();
  const floor = new Path2D();
  for (let x = -Math.floor(slope / TICK) * TICK; x <= slope; x += TICK) { floor.moveTo(x, 0); floor.lineTo(x * BACK, DEPTH); }
  floor.moveTo(-slope, 0); floor.lineTo(-slope * BACK, DEPTH); floor.lineTo(slope * BACK, DEPTH); floor.lineTo(slope, 0);
  floor.moveTo(-slope * BACK * 1.04, DEPTH / 2); floor.lineTo(slope * BACK * 1.04, DEPTH / 2);
  return { stage, block, floor, heights: Float32Array.from(stage.platforms, (platform) => platform.y) };
}

const isSide = (platform: Platform): boolean => platform.left >= 0 || platform.right <= 0;

/** Moving platforms: whoever stands in the air column above the floor shows where they are. */
export function followPlatforms(scenery: Scenery, state: State): void {
  if (!scenery.stage.moving) return;
  scenery.stage.platforms.forEach((platform, i) => {
    if (!isSide(platform)) return;
    for (const player of state.players) {
      const onIt = player.onGround && player.y > 3 && player.y < 36 && player.x >= platform.left && player.x <= platform.right;
      if (onIt && player.action > 13) scenery.heights[i] = player.y;
    }
  });
}

/** Graticule, axis and blast zone. All of it is upright or level, and rectangles cost a fraction of strokes. */
function drawGraticule(ctx: CanvasRenderingContext2D, stage: Stage, line: number): void {
  const { left, right, top, bottom } = stage.blast;
  const upright = (x: number, wide: number): void => ctx.fillRect(x - wide / 2, bottom, wide, top - bottom);
  const level = (y: number, wide: number): void => ctx.fillRect(left, y - wide / 2, right - left, wide);
  ctx.fillStyle = GRID;
  for (let x = Math.ceil(left / CELL) * CELL; x <= right; x += CELL) upright(x, line);
  for (let y = Math.ceil(bottom / CELL) * CELL; y <= top; y += CELL) level(y, line);
  ctx.fillStyle = GRID_STRONG;
  upright(0, line);
  for (let y = Math.ceil(bottom / MARK) * MARK; y <= top; y += MARK) ctx.fillRect(-MARK_HALF, y - line / 2, 2 * MARK_HALF, line);
  ctx.fillStyle = "#3a1d22";
  for (const x of [left, right]) upright(x, line * 1.5);
  for (const y of [bottom, top]) level(y, line * 1.5);
}

/** Draws in world coordinates; `line` is the width of one thin line there. */
export function drawScenery(ctx: CanvasRenderingContext2D, scenery: Scenery, line: number): void {
  ctx.lineCap = "butt";
  ctx.lineJoin = "miter";
  drawGraticule(ctx, scenery.stage, line);
  ctx.fillStyle = "#070f12";
  ctx.fill(scenery.block);
  ctx.lineWidth = line * 1.3;
  ctx.strokeStyle = "#38494b";
  ctx.stroke(scenery.block);
  ctx.strokeStyle = "#23383b";
  ctx.stroke(scenery.floor);
  const { edge, edgeY } = scenery.stage;
  const slope = edgeY < -1 ? edge * 0.7 : edge;
  ctx.lineWidth = line * 2.4;
  ctx.strokeStyle = BONE;
  ctx.beginPath();
  ctx.moveTo(-edge, edgeY); ctx.lineTo(-slope, 0); ctx.lineTo(slope, 0); ctx.lineTo(edge, edgeY);
  const { platforms } = scenery.stage;
  for (let i = 0; i < platforms.length; i++) {
    ctx.moveTo(platforms[i].left, scenery.heights[i]);
    ctx.lineTo(platforms[i].right, scenery.heights[i]);
  }
  ctx.stroke();
  ctx.lineWidth = line;
  ctx.strokeStyle = "#41575a";
  ctx.beginPath();
  for (let i = 0; i < platforms.length; i++) {
    const y = scenery.heights[i];
    const { left, right } = platforms[i];
    ctx.moveTo(left, y); ctx.lineTo(left * 0.97, y + 1.5); ctx.lineTo(right * 0.97, y + 1.5); ctx.lineTo(right, y);
    ctx.moveTo(left + 1, y - 1.6); ctx.lineTo(right - 1, y - 1.6);
  }
  ctx.stroke();
}
