/** A fighter's wireframe: joints solved from a pose, drawn as dark plates with bright edges. */
import type { Body } from "../melee/characters";
import { J, type Pose, type Striker } from "./poses";
import type { Hue } from "./palette";

/** Joint indices; each takes two floats (x, y), world units, y up. */
const HIP = 0, NECK = 1, HEAD = 2, ELBOW_F = 3, HAND_F = 4, ELBOW_B = 5, HAND_B = 6, KNEE_F = 7, FOOT_F = 8, KNEE_B = 9, FOOT_B = 10, TIP = 11;
const JOINTS = 12;
export type Joints = Float32Array;
export const newJoints = (): Joints => new Float32Array(JOINTS * 2);

const STRIKER_JOINT: Record<Striker, number> = { handF: HAND_F, footF: FOOT_F, footB: FOOT_B, handB: HAND_B, head: HEAD };

function limb(joints: Joints, from: number, to: number, angle: number, length: number, facing: number): void {
  joints[to * 2] = joints[from * 2] + Math.sin(angle) * length * facing;
  joints[to * 2 + 1] = joints[from * 2 + 1] - Math.cos(angle) * length;
}

/** Places every joint of a fighter that stands at (x, y). */
export function solve(body: Body, pose: Pose, x: number, y: number, facing: number, joints: Joints): void {
  const height = body.height;
  const leg = height * body.legs * 0.5;
  const torso = height * (1 - body.legs) * (body.head > 2 ? 0.42 : 0.56);
  const arm = height * (body.head > 2 ? 0.15 : 0.19);
  const headRadius = height * 0.085 * body.head;
  const spin = pose[J.spin];
  const legF = pose[J.legF] - spin;
  const legB = pose[J.legB] - spin;
  const shinF = legF + pose[J.kneeF];
  const shinB = legB + pose[J.kneeB];
  const depth = Math.max(Math.cos(legF) + Math.cos(shinF), Math.cos(legB) + Math.cos(shinB), 0.2) * leg;
  const planted = pose[J.planted];
  joints[HIP * 2] = x;
  joints[HIP * 2 + 1] = y + planted * depth + (1 - planted) * height * 0.5 + pose[J.lift] * height;
  limb(joints, HIP, KNEE_F, legF, leg, facing);
  limb(joints, KNEE_F, FOOT_F, shinF, leg, facing);
  limb(joints, HIP, KNEE_B, legB, leg, facing);
  limb(joints, KNEE_B, FOOT_B, shinB, leg, facing);
  const up = pose[J.lean] + spin;
  limb(joints, HIP, NECK, Math.PI - up, torso, facing);
  limb(joints, NECK, HEAD, Math.PI - up - pose[J.head], headRadius * 1.15, facing);
  const armF = pose[J.armF] - spin;
  const armB = pose[J.armB] - spin;
  limb(joints, NECK, ELBOW_F, armF, arm, facing);
  limb(joints, ELBOW_F, HAND_F, armF + pose[J.elbowF], arm, facing);
  limb(joints, NECK, ELBOW_B, armB, arm, facing);
  limb(joints, ELBOW_B, HAND_B, armB + pose[J.elbowB], arm, facing);
  limb(joints, HAND_F, TIP, armF + pose[J.elbowF] + (body.blade > 0 ? 0.5 : 0), body.blade, facing);
}

export const hipX = (joints: Joints): number => joints[HIP * 2];
export const hipY = (joints: Joints): number => joints[HIP * 2 + 1];

/** Where a strike's light is: the blade's tip for a hand that holds one. */
export function strikeX(joints: Joints, striker: Striker, body: Body): number {
  return joints[(striker === "handF" && body.blade > 0 ? TIP : STRIKER_JOINT[striker]) * 2];
}
export function strikeY(joints: Joints, striker: Striker, body: Body): number {
  return joints[(striker === "handF" && body.blade > 0 ? TIP : STRIKER_JOINT[striker]) * 2 + 1];
}

function plate(ctx: CanvasRenderingContext2D, joints: Joints, from: number, to: number, wide: number, narrow: number): void {
  const ax = joints[from * 2], ay = joints[from * 2 + 1], bx = joints[to * 2], by = joints[to * 2 + 1];
  const dx = bx - ax, dy = by - ay;
  const length = Math.sqrt(dx * dx + dy * dy) || 1;
  const nx = -dy / length, ny = dx / length;
  const mx = ax + dx * 0.28, my = ay + dy * 0.28;
  ctx.moveTo(ax, ay);
  ctx.lineTo(mx + nx * wide, my + ny * wide);
  ctx.lineTo(bx + nx * narrow, by + ny * narrow);
  ctx.lineTo(bx - nx * narrow, by - ny * narrow);
  ctx.lineTo(mx - nx * wide, my - ny * wide);
  ctx.closePath();
}

function foot(ctx: CanvasRenderingContext2D, joints: Joints, knee: number, at: number, size: number, facing: number): void {
  const x = joints[at * 2], y = joints[at * 2 + 1];
  const dx = x - joints[knee * 2], dy = y - joints[knee * 2 + 1];
  const length = Math.sqrt(dx * dx + dy * dy) || 1;
  // Toes point forward, at right angles to the shin.
  const tx = (-dy / length) * facing, ty = (dx / length) * facing;
  const ux = dx / length, uy = dy / length;
  ctx.moveTo(x - tx * size * 0.5, y - ty * size * 0.5);
  ctx.lineTo(x + tx * size * 1.5 + ux * size * 0.2, y + ty * size * 1.5 + uy * size * 0.2);
  ctx.lineTo(x - ux * size * 0.7, y - uy * size * 0.7);
  ctx.closePath();
}

/** Head outlines in head radii, facing right and up: x, y pairs. */
const OUTLINES: Record<Body["shape"], number[]> = {
  human: [-0.9, -0.4, -0.5, -0.95, 0.45, -1, 0.95, -0.45, 1, 0.35, 0.55, 0.95, -0.4, 1, -0.95, 0.5],
  hair: [-1.5, -1.1, -0.5, -0.95, 0.45, -1, 0.95, -0.45, 1.05, 0.3, 0.7, 1, -0.2, 1.2, -1.05, 0.75, -1.2, -0.2],
  ears: [-0.95, -0.4, -0.4, -0.95, 0.5, -0.9, 1.55, -0.45, 1.45, -0.05, 0.85, 0.4, 0.75, 1, 0.5, 1.9, 0.05, 1, -0.35, 1, -0.7, 1.95, -1, 0.8],
  beak: [-1.5, 0.1, -0.9, -0.5, -0.4, -0.95, 0.4, -0.85, 0.8, -0.5, 1.9, -0.45, 0.95, 0.25, 0.6, 0.95, -0.2, 1.05, -1.6, 1.1, -1, 0.5],
  cap: [-0.9, -0.4, -0.4, -0.95, 0.5, -0.95, 1.05, -0.5, 1, 0.2, 1.6, 0.25, 1, 0.65, 0.4, 1.15, -0.7, 1.1, -1.15, 0.4],
  helm: [-1, -0.6, -0.4, -1.05, 0.7, -1, 1.1, -0.3, 1.1, 0.4, 0.6, 1.05, -0.1, 1.35, -0.9, 1, -1.15, 0.2],
  snout: [-0.9, -0.4, -0.2, -0.95, 1.1, -1, 1.8, -0.5, 1.75, 0.1, 0.9, 0.3, 0.7, 1, 0.1, 1.25, -0.7, 0.95],
  ball: [-1, -0.38, -0.7, -0.75, 0, -1, 0.7, -0.75, 1, -0.38, 1, 0.38, 0.7, 0.8, 0, 1.02, -0.7, 0.8, -1, 0.38],
  horns: [-0.9, -0.5, -0.2, -0.95, 1.2, -1, 1.6, -0.4, 1.3, 0.3, 0.8, 0.5, 0.95, 1.5, 0.35, 1, -0.2, 1.05, -0.9, 1.8, -0.8, 0.6],
};

/** The lit eye line, in head radii. */
const EYE = [0.25, 0.18, 0.95, 0.05];

function head(ctx: CanvasRenderingContext2D, body: Body, joints: Joints, angle: number, facing: number, hue: Hue, line: number): void {
  const radius = body.height * 0.085 * body.head;
  const outline = OUTLINES[body.shape];
  const cx = joints[HEAD * 2], cy = joints[HEAD * 2 + 1];
  const cos = Math.cos(angle) * radius, sin = Math.sin(angle) * radius;
  ctx.beginPath();
  for (let i = 0; i < outline.length; i += 2) {
    const px = cx + (outline[i] * cos + outline[i + 1] * sin) * facing;
    const py = cy + (-outline[i] * sin + outline[i + 1] * cos);
    if (i === 0) ctx.moveTo(px, py);
    else ctx.lineTo(px, py);
  }
  ctx.closePath();
  ctx.fill();
  ctx.stroke();
  ctx.beginPath();
  ctx.moveTo(cx + (EYE[0] * cos + EYE[1] * sin) * facing, cy - EYE[0] * sin + EYE[1] * cos);
  ctx.lineTo(cx + (EYE[2] * cos + EYE[3] * sin) * facing, cy - EYE[2] * sin + EYE[3] * cos);
  ctx.lineWidth = line * 1.8;
  ctx.strokeStyle = hue.line;
  ctx.stroke();
  ctx.lineWidth = line;
}

/** Traces the bones alone: the wide, faint stroke under a figure. */
function bones(ctx: CanvasRenderingContext2D, joints: Joints): void {
  ctx.beginPath();
  ctx.moveTo(joints[HAND_F * 2], joints[HAND_F * 2 + 1]);
  ctx.lineTo(joints[ELBOW_F * 2], joints[ELBOW_F * 2 + 1]);
  ctx.lineTo(joints[NECK * 2], joints[NECK * 2 + 1]);
  ctx.lineTo(joints[ELBOW_B * 2], joints[ELBOW_B * 2 + 1]);
  ctx.lineTo(joints[HAND_B * 2], joints[HAND_B * 2 + 1]);
  ctx.moveTo(joints[HEAD * 2], joints[HEAD * 2 + 1]);
  ctx.lineTo(joints[HIP * 2], joints[HIP * 2 + 1]);
  ctx.lineTo(joints[KNEE_F * 2], joints[KNEE_F * 2 + 1]);
  ctx.lineTo(joints[FOOT_F * 2], joints[FOOT_F * 2 + 1]);
  ctx.moveTo(joints[HIP * 2], joints[HIP * 2 + 1]);
  ctx.lineTo(joints[KNEE_B * 2], joints[KNEE_B * 2 + 1]);
  ctx.lineTo(joints[FOOT_B * 2], joints[FOOT_B * 2 + 1]);
}

/**
 * Draws a solved fighter in world coordinates.
 * @param line width of an edge, world units; @param flash draws the edges white.
 */
export function drawFigure(ctx: CanvasRenderingContext2D, body: Body, pose: Pose, joints: Joints, facing: number, hue: Hue, line: number, flash: boolean): void {
  const thick = body.height * 0.046 * body.build;
  const up = pose[J.lean] + pose[J.spin];
  const edge = flash ? "#ffffff" : hue.line;
  ctx.lineJoin = "round";
  ctx.lineCap = "round";
  bones(ctx, joints);
  ctx.strokeStyle = hue.glow;
  ctx.lineWidth = thick * 3.4;
  ctx.stroke();
  // Joins of thin edges cannot be seen; bevels are the cheap ones.
  ctx.lineJoin = "bevel";
  ctx.lineCap = "butt";

  ctx.lineWidth = line;
  ctx.fillStyle = flash ? edge : hue.fill;
  ctx.strokeStyle = flash ? edge : hue.back;
  ctx.beginPath();
  plate(ctx, joints, NECK, ELBOW_B, thick, thick * 0.55);
  plate(ctx, joints, ELBOW_B, HAND_B, thick * 0.9, thick * 0.8);
  plate(ctx, joints, HIP, KNEE_B, thick * 1.35, thick * 0.8);
  plate(ctx, joints, KNEE_B, FOOT_B, thick * 1.1, thick * 0.6);
  foot(ctx, joints, KNEE_B, FOOT_B, thick * 1.7, facing);
  if (body.tail) {
    const hx = joints[HIP * 2], hy = joints[HIP * 2 + 1];
    const sway = Math.sin(up) * body.height * 0.1;
    ctx.moveTo(hx, hy + thick);
    ctx.lineTo(hx - facing * body.height * 0.3, hy - body.height * 0.02 + sway);
    ctx.lineTo(hx - facing * body.height * 0.42, hy + body.height * 0.12 + sway);
    ctx.lineTo(hx - facing * body.height * 0.22, hy - body.height * 0.1 + sway);
    ctx.closePath();
  }
  if (body.cape) {
    const nx = joints[NECK * 2], ny = joints[NECK * 2 + 1], hx = joints[HIP * 2], hy = joints[HIP * 2 + 1];
    ctx.moveTo(nx, ny);
    ctx.lineTo(hx - facing * body.height * 0.26, hy - body.height * 0.12);
    ctx.lineTo(hx - facing * body.height * 0.1, hy - body.height * 0.2);
    ctx.closePath();
  }
  ctx.fill();
  ctx.stroke();

  ctx.strokeStyle = edge;
  if (body.blade > 0) {
    ctx.lineWidth = line * 1.8;
    ctx.beginPath();
    ctx.moveTo(joints[HAND_F * 2], joints[HAND_F * 2 + 1]);
    ctx.lineTo(joints[TIP * 2], joints[TIP * 2 + 1]);
    ctx.stroke();
    ctx.lineWidth = line;
  }

  // Torso: shoulders wider than the waist.
  const nx = joints[NECK * 2], ny = joints[NECK * 2 + 1], hx = joints[HIP * 2], hy = joints[HIP * 2 + 1];
  const tx = Math.cos(up) * facing, ty = -Math.sin(up);
  const shoulder = thick * (body.skirt ? 1.45 : 2), waist = thick * (body.skirt ? 0.95 : 1.2);
  ctx.beginPath();
  ctx.moveTo(nx + tx * shoulder, ny + ty * shoulder);
  ctx.lineTo(hx + tx * waist, hy + ty * waist);
  ctx.lineTo(hx - tx * waist, hy - ty * waist);
  ctx.lineTo(nx - tx * shoulder, ny - ty * shoulder);
  ctx.closePath();
  ctx.fill();
  ctx.stroke();

  head(ctx, body, joints, pose[J.lean] + pose[J.head] + pose[J.spin], facing, hue, line);
  ctx.strokeStyle = edge;

  ctx.beginPath();
  plate(ctx, joints, HIP, KNEE_F, thick * 1.45, thick * 0.85);
  plate(ctx, joints, KNEE_F, FOOT_F, thick * 1.15, thick * 0.65);
  foot(ctx, joints, KNEE_F, FOOT_F, thick * 1.8, facing);
  ctx.fill();
  ctx.stroke();
  if (body.skirt) {
    const kx = (joints[KNEE_F * 2] + joints[KNEE_B * 2]) / 2, ky = (joints[KNEE_F * 2 + 1] + joints[KNEE_B * 2 + 1]) / 2;
    ctx.beginPath();
    ctx.moveTo(hx + tx * waist, hy + ty * waist);
    ctx.lineTo(kx + tx * thick * 4.4, ky + ty * thick * 4.4);
    ctx.lineTo(kx - tx * thick * 4.4, ky - ty * thick * 4.4);
    ctx.lineTo(hx - tx * waist, hy - ty * waist);
    ctx.closePath();
    ctx.fill();
    ctx.stroke();
  }
  ctx.beginPath();
  plate(ctx, joints, NECK, ELBOW_F, thick * 1.05, thick * 0.65);
  plate(ctx, joints, ELBOW_F, HAND_F, thick, thick * 0.95);
  ctx.fill();
  ctx.stroke();
}
