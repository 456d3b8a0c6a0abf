/** A fighter on its own, breathing: the picture of a seat in the lobby. */
import { prefersReducedMotion } from "../dom";
import type { Clip } from "../melee/actions";
import { bodyById } from "../melee/characters";
import { drawFigure, newJoints, solve } from "../render/figure";
import { DIM, GRID_STRONG, PLAYERS } from "../render/palette";
import { blendPose, POSE_SIZE, sampleClip } from "../render/poses";
import { loop, onResize } from "./loop";

/** The routine it goes through, each for this many frames. */
const ROUTINE: [Clip, number][] = [["wait", 170], ["jab", 20], ["jab2", 24], ["wait", 90], ["usmash", 44], ["wait", 130], ["flip", 26], ["wait", 110], ["taunt", 80]];
const HEIGHT = 24;

export interface Mannequin { setCharacter(id: number | null): void; cheer(): void; close(): void }

export function mannequin(canvas: HTMLCanvasElement, seat: 0 | 1): Mannequin {
  const ctx = canvas.getContext("2d")!;
  const pose = new Float32Array(POSE_SIZE);
  const target = new Float32Array(POSE_SIZE);
  const joints = newJoints();
  const facing = seat === 0 ? 1 : -1;
  let character: number | null = null;
  let step = 0;
  let time = 0;
  let dirty = true;

  function fit(): void {
    const ratio = Math.min(window.devicePixelRatio || 1, 2);
    canvas.width = Math.max(1, Math.round(canvas.clientWidth * ratio));
    canvas.height = Math.max(1, Math.round(canvas.clientHeight * ratio));
    dirty = true;
  }

  function paint(): void {
    const { width, height } = canvas;
    const scale = height / HEIGHT;
    const line = 1.5 / scale * Math.min(window.devicePixelRatio || 1, 2);
    ctx.setTransform(1, 0, 0, 1, 0, 0);
    ctx.clearRect(0, 0, width, height);
    ctx.setTransform(scale, 0, 0, -scale, width / 2, height - 3 * scale);
    const half = width / scale / 2;
    ctx.lineWidth = line;
    ctx.strokeStyle = GRID_STRONG;
    ctx.beginPath();
    for (let x = -Math.floor(half / 4) * 4; x <= half; x += 4) { ctx.moveTo(x, 0); ctx.lineTo(x, HEIGHT); }
    for (let y = 4; y < HEIGHT; y += 4) { ctx.moveTo(-half, y); ctx.lineTo(half, y); }
    ctx.stroke();
    ctx.strokeStyle = DIM;
    ctx.beginPath();
    ctx.moveTo(-half, 0); ctx.lineTo(half, 0);
    ctx.stroke();
    if (character === null) return;
    const body = bodyById(character);
    solve(body, pose, 0, 0, facing, joints);
    drawFigure(ctx, body, pose, joints, facing, PLAYERS[seat], line, false);
  }

  function tick(): void {
    if (prefersReducedMotion() && !dirty) return;
    dirty = false;
    time++;
    if (time > ROUTINE[step][1]) { time = 0; step = (step + 1) % ROUTINE.length; }
    sampleClip(ROUTINE[step][0], time, 0, target);
    blendPose(pose, target, 0.4);
    paint();
  }

  fit();
  sampleClip("wait", 0, 0, pose);
  const stopLoop = loop(tick);
  const stopResize = onResize(canvas, fit);
  return {
    setCharacter(id) {
      if (id === character) return;
      character = id;
      step = 1;
      time = 0;
      dirty = true;
    },
    cheer() { step = ROUTINE.length - 1; time = 0; },
    close() { stopLoop(); stopResize(); },
  };
}
