/** What the renderer remembers of one fighter between frames: pose, trail, strokes of light. */
import { FRAMES_PER_SECOND, SHIELD_FULL, type Player } from "../abi";
import { bodyById } from "../melee/characters";
import { clipOf, isAirdodge, isDead, isHurt, isIntangible, isLanding, isLaunched, isRebirth, isShielding, REBIRTH } from "../melee/actions";
import { blastOff, burst, dust, ring, Tint, type Effects } from "./effects";
import { drawFigure, hipX, hipY, newJoints, solve, strikeX, strikeY, type Joints } from "./figure";
import type { Stage } from "../melee/stages";
import { Cue } from "../sound";
import type { Hue } from "./palette";
import { blendPose, J, POSE_SIZE, sampleClip, strikerOf, type Pose } from "./poses";

const TRAIL = 72;
const STROKE = 9;
/** A move of more units in one frame is no flight: the trail ends there. */
const TELEPORT = 24;
const BLEND = 0.48;
/** Frames the percent readout shakes after a hit. */
const HUD_SHAKE = 14;
const FLASH_PERCENT = 4;
/** Least frames between two knock-outs of one fighter: a learned world may flicker. */
const OUT_PAUSE = 60;
/** Units below the floor that an airborne fighter's own point may be while it lands. */
const LANDING_DIP = 9;
/** A hit of more percent sounds heavy. */
const SMASH_PERCENT = 9;

export interface Fighter {
  seat: number;
  pose: Pose;
  target: Pose;
  joints: Joints;
  /** Forward distance covered on the ground: drives the stride. */
  travel: number;
  action: number;
  percent: number;
  stocks: number;
  onGround: boolean;
  x: number;
  y: number;
  trail: Float32Array;
  /** Brightness per trail point: 0 calm, 1 launched. */
  heat: Uint8Array;
  trailHead: number;
  trailLength: number;
  stroke: Float32Array;
  strokeLength: number;
  flash: number;
  hudShake: number;
  /** Frames since the last knock-out was shown. */
  sinceOut: number;
}

export function newFighter(seat: number): Fighter {
  return {
    seat, pose: new Float32Array(POSE_SIZE), target: new Float32Array(POSE_SIZE), joints: newJoints(), travel: 0,
    action: -1, percent: 0, stocks: 0, onGround: true, x: 0, y: 0,
    trail: new Float32Array(TRAIL * 2), heat: new Uint8Array(TRAIL), trailHead: 0, trailLength: 0,
    stroke: new Float32Array(STROKE * 2), strokeLength: 0, flash: 0, hudShake: 0, sinceOut: OUT_PAUSE,
  };
}

/** Forgets the past: after a seek the next frame starts from scratch. */
export function resetFighter(fighter: Fighter): void {
  fighter.action = -1;
  fighter.trailLength = 0;
  fighter.strokeLength = 0;
  fighter.flash = 0;
  fighter.hudShake = 0;
  fighter.sinceOut = OUT_PAUSE;
}

function pushStroke(fighter: Fighter, x: number, y: number): void {
  fighter.stroke.copyWithin(2, 0, (STROKE - 1) * 2);
  fighter.stroke[0] = x;
  fighter.stroke[1] = y;
  if (fighter.strokeLength < STROKE) fighter.strokeLength++;
}

function events(fighter: Fighter, player: Player, stage: Stage, effects: Effects): void {
  const tint = fighter.seat;
  const middle = player.y + 7;
  const gained = player.percent - fighter.percent;
  if (gained > 0.05 && player.percent > 0) {
    const power = Math.min(1, gained / 18);
    const flying = Math.atan2(player.attackY || 0.6, player.attackX || player.facing * -0.4);
    burst(effects, 1 - tint, player.x, middle, 8 + Math.floor(power * 26), flying, 0.9, 1.6 + power * 3.4, 14 + power * 16);
    ring(effects, Tint.White, player.x, middle, 1.5, 0.9 + power * 1.6, 10 + power * 8);
    effects.shake = Math.max(effects.shake, gained > FLASH_PERCENT ? 0.15 + power * 0.4 : 0.05);
    fighter.flash = 2 + Math.floor(power * 3);
    fighter.hudShake = HUD_SHAKE;
    effects.cues |= gained > SMASH_PERCENT ? Cue.Smash : Cue.Hit;
  }
  if (isDead(player.action) && !isDead(fighter.action) && fighter.sinceOut > OUT_PAUSE) {
    fighter.sinceOut = 0;
    const { blast } = stage;
    const x = Math.max(blast.left, Math.min(blast.right, fighter.x));
    const y = Math.max(blast.bottom, Math.min(blast.top, fighter.y));
    blastOff(effects, tint, x, y, Math.atan2(20 - y, -x));
    effects.cues |= Cue.Out;
  }
  if (isLanding(player.action) && !isLanding(fighter.action)) {
    dust(effects, player.x, player.y, 0, 8);
    effects.cues |= Cue.Land;
  }
  if (player.action === 20 && fighter.action !== 20) dust(effects, player.x, player.y, -player.facing, 7);
  if (player.action === 23 && fighter.action !== 23) dust(effects, player.x, player.y, player.facing, 5);
  if ((player.action === 25 || player.action === 26) && fighter.onGround) {
    dust(effects, player.x, player.y, 0, 6);
    effects.cues |= Cue.Jump;
  }
  if ((player.action === 27 || player.action === 28) && player.action !== fighter.action) {
    ring(effects, tint, player.x, player.y, 1.5, 0.5, 14);
    effects.cues |= Cue.Jump;
  }
  if (player.action === 181 && fighter.action !== 181) effects.cues |= Cue.Shield;
  if (isAirdodge(player.action) && !isAirdodge(fighter.action)) ring(effects, Tint.White, player.x, middle, 3, 0.6, 12);
  if (player.action === REBIRTH && fighter.action !== REBIRTH) {
    ring(effects, tint, player.x, player.y, 2, 1.2, 24);
    effects.cues |= Cue.Return;
  }
  if (isLaunched(player.action) && Math.abs(player.attackX) + Math.abs(player.attackY) > 2.2) {
    burst(effects, Tint.Dust, player.x, middle, 1, Math.atan2(-player.attackY, -player.attackX), 0.5, 0.8, 16);
  }
}

/** A fighter in the air may dip a little below the floor before it lands; its feet are not drawn there. */
function drawnY(player: Player, stage: Stage): number {
  const dips = !player.onGround && player.y < 0 && player.y > -LANDING_DIP && Math.abs(player.x) < stage.edge;
  return dips ? 0 : player.y;
}

/** One frame on: events, pose, trail. */
export function stepFighter(fighter: Fighter, player: Player, stage: Stage, effects: Effects): void {
  const fresh = fighter.action < 0;
  const body = bodyById(player.character);
  if (!fresh) {
    events(fighter, player, stage, effects);
    if (player.onGround) fighter.travel += (player.x - fighter.x) * player.facing;
  }
  const frozen = player.hitlag > 0;
  const clip = clipOf(player.action, player.character, player.onGround);
  sampleClip(clip, player.since, fighter.travel, fighter.target);
  if (isLaunched(player.action)) {
    // A launched body flies feet first: turn it along its way.
    fighter.target[J.spin] += Math.atan2(player.attackY + player.speedY, Math.abs(player.attackX) + 0.4) * 0.6;
  }
  if (fresh) fighter.pose.set(fighter.target);
  else if (!frozen) blendPose(fighter.pose, fighter.target, BLEND);
  solve(body, fighter.pose, player.x, drawnY(player, stage), player.facing, fighter.joints);
  if (frozen && isHurt(player.action)) {
    // Hit-stop: the one who is hit trembles.
    const tremble = (player.hitlag % 2 === 0 ? 0.5 : -0.5) * 0.9;
    for (let i = 0; i < fighter.joints.length; i += 2) fighter.joints[i] += tremble;
  }

  const striker = strikerOf(clip, player.since);
  if (striker !== null) pushStroke(fighter, strikeX(fighter.joints, striker, body), strikeY(fighter.joints, striker, body));
  else if (fighter.strokeLength > 0) fighter.strokeLength--;

  const jumped = Math.abs(player.x - fighter.x) + Math.abs(player.y - fighter.y) > TELEPORT;
  if (isDead(player.action)) fighter.trailLength = Math.max(0, fighter.trailLength - 3);
  else if (isRebirth(player.action) || jumped) fighter.trailLength = 0;
  else {
    fighter.trailHead = (fighter.trailHead + 1) % TRAIL;
    fighter.trail[fighter.trailHead * 2] = hipX(fighter.joints);
    fighter.trail[fighter.trailHead * 2 + 1] = hipY(fighter.joints);
    fighter.heat[fighter.trailHead] = isLaunched(player.action) || isHurt(player.action) ? 1 : 0;
    if (fighter.trailLength < TRAIL) fighter.trailLength++;
  }

  if (fighter.flash > 0) fighter.flash--;
  if (fighter.hudShake > 0) fighter.hudShake--;
  fighter.sinceOut++;
  fighter.action = player.action;
  fighter.percent = player.percent;
  fighter.stocks = player.stocks;
  fighter.onGround = player.onGround;
  fighter.x = player.x;
  fighter.y = player.y;
}

const SEGMENTS = 5;

/** The fighter's worldline: where it has been, fading with age. */
export function drawTrail(ctx: CanvasRenderingContext2D, fighter: Fighter, hue: Hue, line: number): void {
  const { trail, heat, trailHead, trailLength } = fighter;
  if (trailLength < 2) return;
  ctx.strokeStyle = hue.line;
  ctx.lineCap = "butt";
  ctx.lineJoin = "round";
  const step = Math.ceil(trailLength / SEGMENTS);
  for (let from = 0; from < trailLength - 1; from += step) {
    let hot = 0;
    ctx.beginPath();
    for (let k = from; k <= Math.min(from + step, trailLength - 1); k++) {
      const i = (trailHead - k + TRAIL) % TRAIL;
      hot |= heat[i];
      if (k === from) ctx.moveTo(trail[i * 2], trail[i * 2 + 1]);
      else ctx.lineTo(trail[i * 2], trail[i * 2 + 1]);
    }
    const age = 1 - from / trailLength;
    ctx.globalAlpha = age * age * (hot ? 0.85 : 0.34);
    ctx.lineWidth = line * (hot ? 3.2 * age + 0.6 : 1.4);
    ctx.stroke();
  }
  ctx.globalAlpha = 1;
}

function drawStroke(ctx: CanvasRenderingContext2D, fighter: Fighter, hue: Hue, line: number): void {
  const { stroke, strokeLength } = fighter;
  if (strokeLength < 2) return;
  ctx.lineCap = "round";
  ctx.strokeStyle = hue.line;
  for (let pass = 0; pass < 2; pass++) {
    ctx.beginPath();
    ctx.moveTo(stroke[0], stroke[1]);
    const last = pass === 0 ? strokeLength : Math.ceil(strokeLength / 2);
    for (let i = 1; i < last; i++) ctx.lineTo(stroke[i * 2], stroke[i * 2 + 1]);
    ctx.globalAlpha = pass === 0 ? 0.28 : 0.9;
    ctx.lineWidth = line * (pass === 0 ? 6 : 2.4);
    ctx.stroke();
  }
  ctx.globalAlpha = 1;
}

function polygon(ctx: CanvasRenderingContext2D, x: number, y: number, radius: number, sides: number, turn: number): void {
  ctx.beginPath();
  for (let i = 0; i < sides; i++) {
    const a = turn + (i * Math.PI * 2) / sides;
    if (i === 0) ctx.moveTo(x + Math.cos(a) * radius, y + Math.sin(a) * radius);
    else ctx.lineTo(x + Math.cos(a) * radius, y + Math.sin(a) * radius);
  }
  ctx.closePath();
}

/** Draws the fighter and what surrounds it (shield, platform of rebirth, marker). World coordinates. */
export function drawFighter(ctx: CanvasRenderingContext2D, fighter: Fighter, player: Player, frame: number, hue: Hue, line: number): void {
  if (isDead(player.action)) return;
  const body = bodyById(player.character);
  const x = hipX(fighter.joints), y = hipY(fighter.joints);
  drawStroke(ctx, fighter, hue, line);

  if (isRebirth(player.action)) {
    ctx.strokeStyle = hue.line;
    ctx.lineWidth = line * 1.5;
    ctx.beginPath();
    ctx.moveTo(player.x - 8, player.y); ctx.lineTo(player.x + 8, player.y); ctx.lineTo(player.x + 5, player.y - 2.4); ctx.lineTo(player.x - 5, player.y - 2.4);
    ctx.closePath();
    ctx.stroke();
  }

  // Intangible: the figure flickers at 15 Hz.
  ctx.globalAlpha = isIntangible(player.action) || isAirdodge(player.action) ? (frame % 4 < 2 ? 0.5 : 0.9) : 1;
  drawFigure(ctx, body, fighter.pose, fighter.joints, player.facing, hue, line * 1.5, fighter.flash > 0);
  ctx.globalAlpha = 1;

  const clip = clipOf(player.action, player.character, player.onGround);
  if (isShielding(player.action)) {
    const radius = body.height * (0.24 + 0.46 * Math.min(1, player.shield / SHIELD_FULL));
    polygon(ctx, x, y + 1, radius, 16, 0);
    ctx.fillStyle = hue.glow;
    ctx.fill();
    ctx.strokeStyle = player.action === 181 ? "#ffffff" : hue.line;
    ctx.lineWidth = line * (player.action === 181 ? 3 : 1.6);
    ctx.stroke();
  } else if (clip === "shine") {
    for (let i = 0; i < 2; i++) {
      polygon(ctx, x, y, body.height * (0.5 + i * 0.16), 6, (frame * 0.12) * (i === 0 ? 1 : -1));
      ctx.strokeStyle = i === 0 ? "#ffffff" : hue.line;
      ctx.lineWidth = line * (2.4 - i);
      ctx.stroke();
    }
  }

  const top = y + body.height * 0.78 + Math.sin((frame / FRAMES_PER_SECOND) * 3) * 0.3;
  ctx.fillStyle = hue.line;
  ctx.beginPath();
  ctx.moveTo(x - 1.6, top + 2.4); ctx.lineTo(x + 1.6, top + 2.4); ctx.lineTo(x, top);
  ctx.closePath();
  ctx.fill();
}
