/**
 * Poses and clips of the wireframe fighters. A pose is a row of numbers; a clip is a few
 * key poses with times in frames. Sampling writes into a caller's array: no allocation.
 *
 * Angles are degrees in the tables and radians afterwards, seen with the fighter facing
 * right: 0 points down, positive swings forward (to the right). An elbow or knee is added to its limb.
 */
import type { Clip } from "../melee/actions";

/** Indices into a pose. */
export const J = {
  /** Height of the hip over its resting height, in shares of the body height. */
  lift: 0,
  /** 1: the lower foot stands on the ground line; 0: the hip keeps its height. */
  planted: 1,
  /** Turn of the whole body about the hip, forward positive. */
  spin: 2,
  lean: 3, head: 4,
  armF: 5, elbowF: 6, armB: 7, elbowB: 8,
  legF: 9, kneeF: 10, legB: 11, kneeB: 12,
} as const;
export const POSE_SIZE = 13;
const FIRST_ANGLE = J.spin;
export type Pose = Float32Array;

const RADIANS = Math.PI / 180;

type Angles = [lean: number, head: number, armF: number, elbowF: number, armB: number, elbowB: number, legF: number, kneeF: number, legB: number, kneeB: number];
interface Root { lift?: number; air?: boolean; spin?: number }

function p(angles: Angles, root: Root = {}): Pose {
  const pose = new Float32Array(POSE_SIZE);
  pose[J.lift] = root.lift ?? 0;
  pose[J.planted] = root.air === true ? 0 : 1;
  pose[J.spin] = (root.spin ?? 0) * RADIANS;
  angles.forEach((angle, i) => { pose[J.lean + i] = angle * RADIANS; });
  return pose;
}

/** How time runs in a clip: by frames, or by ground covered (so feet do not slide). */
type Clock = "once" | "loop" | "stride";
/** The limb that leaves a stroke of light, drawn while the clip is between the two times. */
export type Striker = "handF" | "footF" | "footB" | "handB" | "head";
interface ClipData { keys: { at: number; pose: Pose }[]; length: number; clock: Clock; striker: Striker | null; from: number; to: number }

const CLIPS = {} as Record<Clip, ClipData>;

function clip(name: Clip, clock: Clock, keys: [number, Pose][], strike?: [Striker, number, number]): void {
  const length = keys[keys.length - 1][0];
  CLIPS[name] = {
    keys: keys.map(([at, pose]) => ({ at, pose })), length: Math.max(1, length), clock,
    striker: strike?.[0] ?? null, from: strike?.[1] ?? 0, to: strike?.[2] ?? 0,
  };
}

const STAND = p([10, -6, 38, 82, 8, 100, 24, -26, -20, -14]);
const STAND2 = p([13, -7, 42, 84, 5, 104, 27, -34, -22, -20]);
const GUARD = p([8, 12, 62, 108, 48, 118, 34, -62, -18, -58]);
const CROUCH = p([36, -14, 44, 70, -10, 60, 66, -112, 6, -84]);
const DEEP = p([46, -20, -20, 40, -40, 30, 72, -120, 14, -100]);
const AIR = p([6, 0, 60, 50, -36, 60, 42, -66, -16, -44], { air: true });
const AIR_DOWN = p([-4, 6, 108, 30, -92, -10, 30, -52, -12, -30], { air: true });
const TUCK = p([34, 18, 60, 90, 30, 100, 92, -120, 74, -124], { air: true });
const FLAT = p([0, 0, -150, 10, -170, 10, 8, -4, -10, -8], { spin: -88, air: true, lift: -0.38 });
const SPREAD = p([0, -8, 112, 16, -118, -16, 34, -14, -34, 10], { air: true });
const LIMP = p([-26, -24, 70, 20, 40, 24, 52, -40, 26, -52], { air: true });

clip("wait", "loop", [[0, STAND], [22, STAND2], [44, STAND]]);
clip("walk", "stride", [
  [0, p([8, -4, -22, 60, 34, 60, 30, -8, -26, -12])], [4, p([9, -4, 6, 62, 8, 64, 4, -4, -2, -58])],
  [8, p([8, -4, 34, 60, -22, 60, -26, -12, 30, -8])], [12, p([9, -4, 8, 64, 6, 62, -2, -58, 4, -4])], [16, p([8, -4, -22, 60, 34, 60, 30, -8, -26, -12])],
]);
clip("turn", "once", [[0, p([4, 0, 20, 60, 20, 60, 6, -20, -6, -20])], [6, STAND]]);
clip("dash", "once", [[0, p([30, -16, -40, 50, 60, 70, 46, -50, -40, -10])], [5, p([42, -24, -62, 30, 70, 80, 58, -40, -56, -14])], [12, p([38, -22, 50, 80, -60, 40, -30, -40, 56, -70])]]);
clip("run", "stride", [
  [0, p([32, -18, -50, 60, 64, 84, 58, -36, -48, -30])], [4, p([34, -18, 4, 80, 10, 80, 10, -20, 4, -104], { lift: 0.02 })],
  [8, p([32, -18, 64, 84, -50, 60, -48, -30, 58, -36])], [12, p([34, -18, 10, 80, 4, 80, 4, -104, 10, -20], { lift: 0.02 })], [16, p([32, -18, -50, 60, 64, 84, 58, -36, -48, -30])],
]);
clip("brake", "once", [[0, p([-18, 8, 70, 30, 30, 50, 52, -14, 20, -50])], [14, p([-10, 4, 60, 50, 20, 70, 40, -20, 2, -44])]]);
clip("crouch", "once", [[0, p([24, -10, 40, 80, 0, 80, 44, -70, -6, -52])], [5, CROUCH]]);
clip("kneebend", "once", [[0, CROUCH], [3, DEEP]]);
clip("land", "once", [[0, DEEP], [5, CROUCH], [14, STAND2]]);
clip("jump", "once", [[0, p([-4, 10, 150, 20, 130, 20, 30, -40, -34, -6], { air: true })], [7, p([2, 4, 120, 40, 40, 50, 66, -86, -20, -24], { air: true })], [20, AIR]]);
clip("jumpBack", "once", [[0, p([-18, 14, 120, 30, 150, 20, 20, -20, -10, -30], { air: true })], [8, p([-20, 10, 90, 40, -60, 20, 60, -50, 26, -70], { air: true })], [20, AIR]]);
clip("flip", "once", [[0, AIR], [4, TUCK], [10, p([34, 18, 60, 90, 30, 100, 92, -120, 74, -124], { air: true, spin: 210 })], [18, p([6, 0, 60, 50, -36, 60, 42, -66, -16, -44], { air: true, spin: 360 })]]);
clip("fall", "once", [[0, AIR], [12, AIR_DOWN]]);
clip("helpless", "loop", [[0, p([14, 28, -20, 20, -40, 10, 14, -30, -6, -20], { air: true })], [12, p([16, 32, -30, 24, -28, 14, 8, -24, 0, -26], { air: true })], [24, p([14, 28, -20, 20, -40, 10, 14, -30, -6, -20], { air: true })]]);
clip("tumble", "loop", [[0, LIMP], [18, p([-26, -24, 30, 30, 90, 10, 26, -56, 54, -36], { air: true, spin: -180 })], [36, p([-26, -24, 70, 20, 40, 24, 52, -40, 26, -52], { air: true, spin: -360 })]]);

clip("jab", "once", [[0, p([6, -4, 30, 120, 0, 110, 28, -30, -24, -14])], [3, p([16, -8, 88, 4, -30, 110, 34, -30, -34, -8])], [8, p([14, -8, 84, 10, -26, 110, 32, -30, -32, -8])], [16, STAND]], ["handF", 1, 9]);
clip("jab2", "once", [[0, p([4, -2, 60, 90, -30, 110, 20, -24, -20, -10])], [4, p([22, -10, 30, 100, 94, 2, 38, -36, -40, -6])], [9, p([20, -10, 30, 100, 90, 6, 36, -34, -38, -6])], [18, STAND]], ["handB", 2, 11]);
clip("rapid", "loop", [[0, p([20, -8, 92, 4, 40, 110, 36, -40, -34, -10])], [3, p([20, -8, 50, 100, 88, 6, 36, -40, -34, -10])], [6, p([20, -8, 92, 4, 40, 110, 36, -40, -34, -10])]], ["handF", 0, 600]);
clip("dashAttack", "once", [[0, p([30, -10, 20, 90, -30, 60, 40, -50, -40, -10])], [5, p([-16, 10, -30, 60, -60, 20, 84, -8, -36, -40])], [18, p([-8, 4, -20, 60, -50, 30, 74, -20, -30, -40])], [32, STAND]], ["footF", 3, 20]);
clip("ftilt", "once", [[0, p([-8, 4, 30, 80, -20, 80, 40, -96, -16, -14])], [5, p([-30, 18, 20, 70, -60, 30, 92, -2, -12, -16])], [11, p([-26, 14, 20, 70, -50, 40, 86, -14, -12, -16])], [24, STAND]], ["footF", 3, 12]);
clip("utilt", "once", [[0, p([30, -10, 20, 60, -40, 40, -50, -20, 26, -40])], [5, p([58, -34, -20, 40, 40, 60, -154, -6, 16, -24])], [10, p([48, -30, -10, 40, 30, 60, -128, -20, 16, -24])], [22, STAND]], ["footF", 2, 12]);
clip("dtilt", "once", [[0, CROUCH], [5, p([4, 20, -40, 20, -60, 10, 80, -2, 40, -140])], [11, p([8, 16, -40, 30, -50, 20, 74, -14, 40, -140])], [24, CROUCH]], ["footF", 3, 12]);
clip("fsmash", "once", [[0, p([-20, 8, -70, 60, -30, 70, 20, -30, -40, -6])], [9, p([-28, 12, -96, 50, -20, 80, 30, -50, -46, -4])], [13, p([44, -20, 98, 4, -70, 20, 58, -54, -58, 0])], [22, p([40, -18, 84, 14, -60, 30, 56, -56, -54, -2])], [40, STAND]], ["handF", 9, 22]);
clip("usmash", "once", [[0, DEEP], [6, p([10, -20, 20, 60, -30, 60, 50, -60, -20, -20])], [10, p([-50, 30, -60, 20, -100, 10, 164, -6, 6, -10], { lift: 0.08 })], [17, p([-34, 20, -50, 20, -80, 10, 120, -40, 10, -24])], [36, STAND]], ["footF", 6, 18]);
clip("dsmash", "once", [[0, p([10, -10, 120, 40, 110, 50, 30, -70, -20, -80])], [6, p([12, -4, 70, 10, -80, -8, 88, -2, -86, 2])], [14, p([12, -4, 66, 20, -70, -4, 82, -10, -80, -6])], [34, STAND]], ["footF", 4, 15]);

clip("nair", "once", [[0, TUCK], [4, p([-16, 10, 40, 60, -80, 10, 94, -4, 30, -110], { air: true })], [24, p([-10, 6, 40, 60, -60, 20, 78, -16, 26, -100], { air: true })], [36, AIR]], ["footF", 2, 26]);
clip("fair", "once", [[0, p([-14, 6, 150, 40, -30, 60, 50, -70, 10, -60], { air: true })], [6, p([34, -10, 60, 4, -70, 20, 84, -20, -20, -40], { air: true })], [12, p([20, -6, 90, 10, -60, 30, 70, -60, 60, -8], { air: true })], [20, p([34, -10, 50, 8, -70, 20, 86, -8, 0, -40], { air: true })], [36, AIR]], ["handF", 3, 22]);
clip("bair", "once", [[0, TUCK], [5, p([62, -40, 50, 60, 20, 80, 40, -100, -98, 4], { air: true })], [16, p([52, -34, 50, 60, 20, 80, 40, -90, -88, -6], { air: true })], [32, AIR]], ["footB", 3, 18]);
clip("uair", "once", [[0, p([30, 0, 30, 60, -30, 60, 60, -90, 40, -100], { air: true })], [6, p([-64, 40, -60, 20, -110, 0, 150, -4, 60, -80], { air: true })], [14, p([-50, 30, -60, 20, -100, 10, 170, -4, 40, -90], { air: true })], [30, AIR]], ["footF", 3, 16]);
clip("dair", "loop", [[0, p([10, 20, 110, 30, -110, -20, 10, -6, -6, -60], { air: true })], [4, p([10, 20, 120, 20, -100, -20, -8, -60, 10, -4], { air: true })], [8, p([10, 20, 110, 30, -110, -20, 10, -6, -6, -60], { air: true })]], ["footF", 2, 40]);

clip("hurt", "once", [[0, p([-36, -20, 60, 20, -10, 30, 44, -24, 4, -30])], [10, p([-26, -12, 50, 40, 0, 50, 36, -30, -4, -26])], [24, STAND]]);
clip("hurtLow", "once", [[0, p([54, 30, 20, 50, -30, 30, 30, -50, -20, -30])], [10, p([44, 20, 30, 60, -10, 50, 34, -50, -16, -34])], [24, STAND]]);
clip("fly", "once", [[0, p([-30, -30, 96, 10, 60, 20, 60, -20, 30, -30], { air: true, spin: -40 })], [30, p([-24, -20, 110, 10, 80, 14, 50, -30, 30, -40], { air: true, spin: -70 })]]);
clip("shield", "once", [[0, GUARD], [8, p([12, 14, 66, 110, 50, 120, 38, -70, -20, -64])]]);
clip("shieldHit", "once", [[0, p([-10, 20, 80, 110, 66, 118, 40, -60, -34, -44])], [10, GUARD]]);
clip("bound", "once", [[0, p([-10, -10, -110, 20, -140, 20, 60, -30, 30, -30], { spin: -80, air: true, lift: -0.26 })], [10, FLAT]]);
clip("lie", "once", [[0, FLAT], [40, FLAT]]);
clip("getup", "once", [[0, FLAT], [10, p([40, 0, 10, 20, -30, 20, 96, -120, 30, -110])], [24, STAND]]);
clip("roll", "once", [[0, CROUCH], [5, TUCK], [16, p([34, 18, 60, 90, 30, 100, 92, -120, 74, -124], { air: true, spin: 300, lift: -0.2 })], [24, p([36, -14, 44, 70, -10, 60, 66, -112, 6, -84], { spin: 360 })], [31, p([10, -6, 38, 82, 8, 100, 24, -26, -20, -14], { spin: 360 })]]);
clip("rollBack", "once", [[0, CROUCH], [5, TUCK], [16, p([34, 18, 60, 90, 30, 100, 92, -120, 74, -124], { air: true, spin: -300, lift: -0.2 })], [24, p([36, -14, 44, 70, -10, 60, 66, -112, 6, -84], { spin: -360 })], [31, p([10, -6, 38, 82, 8, 100, 24, -26, -20, -14], { spin: -360 })]]);
clip("spot", "once", [[0, STAND], [4, p([-24, -10, 10, 40, -40, 20, 4, -20, -14, -16])], [16, p([-20, -8, 14, 50, -30, 30, 6, -20, -14, -16])], [24, STAND]]);
clip("airdodge", "once", [[0, AIR], [4, SPREAD], [28, p([4, -6, 100, 26, -106, -24, 26, -30, -28, -10], { air: true })], [44, AIR]]);

clip("grab", "once", [[0, p([10, -6, 20, 60, 10, 60, 30, -34, -28, -14])], [6, p([30, -12, 88, 6, 78, 10, 46, -46, -44, -4])], [14, p([26, -10, 80, 20, 70, 24, 42, -44, -40, -6])], [28, STAND]], ["handF", 4, 12]);
clip("hold", "loop", [[0, p([4, -2, 84, 10, 76, 14, 26, -32, -26, -12])], [20, p([6, -4, 86, 12, 74, 16, 28, -36, -26, -16])], [40, p([4, -2, 84, 10, 76, 14, 26, -32, -26, -12])]]);
clip("pummel", "once", [[0, p([-6, 0, 80, 14, 70, 20, 30, -60, -24, -10])], [6, p([20, 6, 76, 30, 70, 30, 84, -100, -20, -10])], [20, p([4, -2, 84, 10, 76, 14, 26, -32, -26, -12])]], ["footF", 4, 10]);
clip("throwF", "once", [[0, p([-20, 6, 20, 90, 10, 90, 20, -30, -30, -10])], [8, p([40, -16, 98, 0, 90, 4, 54, -50, -52, 0])], [24, STAND]], ["handF", 4, 14]);
clip("throwB", "once", [[0, p([20, 0, 80, 20, 70, 20, 20, -30, -30, -10])], [10, p([-48, -20, -120, -10, -110, -10, 40, -20, -40, -30])], [26, STAND]], ["handB", 5, 16]);
clip("throwUp", "once", [[0, p([40, 10, 50, 40, 40, 50, 50, -80, -10, -60])], [8, p([-10, -24, 172, 4, 164, 4, 16, -10, -16, -6], { lift: 0.04 })], [26, STAND]], ["handF", 4, 14]);
clip("throwDown", "once", [[0, p([-10, 0, 150, 20, 140, 20, 20, -20, -20, -10])], [9, p([74, 10, 40, 10, 30, 10, 60, -80, -30, -50])], [30, STAND]], ["handF", 5, 14]);
clip("held", "loop", [[0, p([-10, -20, 30, 30, -10, 30, 20, -30, 0, -36], { lift: 0.05 })], [14, p([-14, -14, 40, 30, -20, 30, 10, -30, 10, -40], { lift: 0.06 })], [28, p([-10, -20, 30, 30, -10, 30, 20, -30, 0, -36], { lift: 0.05 })]]);
clip("thrown", "loop", [[0, p([-30, -30, 96, 10, 60, 20, 60, -20, 30, -30], { air: true, spin: 0 })], [20, p([-30, -30, 60, 10, 96, 20, 30, -20, 60, -30], { air: true, spin: -360 })]]);
clip("hang", "loop", [[0, p([4, 18, 176, 0, 168, 4, 12, -20, -4, -26], { air: true })], [30, p([8, 20, 174, 2, 170, 2, 4, -24, 6, -20], { air: true })], [60, p([4, 18, 176, 0, 168, 4, 12, -20, -4, -26], { air: true })]]);
clip("climb", "once", [[0, p([4, 18, 176, 0, 168, 4, 12, -20, -4, -26], { air: true })], [14, p([60, 0, 40, 10, 30, 10, 96, -120, 0, -20])], [32, STAND]]);
clip("teeter", "loop", [[0, p([24, -10, 150, 10, -120, 0, 12, -20, -12, -10])], [8, p([30, -14, 60, 10, -40, 0, 20, -34, -16, -14])], [16, p([24, -10, 150, 10, -120, 0, 12, -20, -12, -10])]]);
clip("taunt", "once", [[0, STAND], [14, p([-8, -6, 168, 10, -30, 100, 12, -8, -14, -8])], [60, p([-8, -6, 160, 20, -30, 100, 12, -8, -14, -8])], [80, STAND]]);
clip("dizzy", "loop", [[0, p([20, 30, 10, 20, 0, 20, 14, -20, -10, -16])], [24, p([-10, -20, 20, 20, -20, 20, 10, -16, -14, -20])], [48, p([20, 30, 10, 20, 0, 20, 14, -20, -10, -16])]]);
clip("cast", "once", [[0, p([-8, 0, -30, 90, -30, 90, 24, -40, -26, -20])], [8, p([18, -8, 92, 6, 84, 10, 40, -44, -38, -6])], [34, p([16, -8, 88, 10, 80, 14, 38, -44, -36, -8])], [50, STAND]], ["handF", 4, 30]);
clip("castAir", "once", [[0, p([-8, 0, 30, 90, -30, 90, 60, -90, 20, -90], { air: true })], [8, p([20, -10, 150, 6, -50, 20, 20, -30, -40, -20], { air: true })], [40, p([16, -8, 140, 10, -40, 30, 20, -40, -36, -24], { air: true })]], ["handF", 2, 30]);
clip("shine", "once", [[0, p([0, 0, 70, 90, -40, -80, 40, -90, -30, -60])], [12, p([0, 4, 64, 80, -36, -70, 38, -84, -28, -56])]]);
clip("aim", "once", [[0, p([4, -4, 60, 60, 10, 90, 24, -26, -20, -14])], [6, p([4, -4, 90, 0, 10, 90, 26, -28, -22, -14])], [14, p([-4, 0, 98, 4, 10, 90, 24, -26, -22, -14])], [24, p([4, -4, 90, 0, 10, 90, 26, -28, -22, -14])]]);
clip("dead", "once", [[0, SPREAD], [1, SPREAD]]);

/** Game units of ground that one full stride (two steps) covers. */
const STRIDE = 18;

/**
 * Samples a clip into `out`.
 * @param time frames since the action began (a fraction is fine); @param travel forward distance covered, game units.
 */
export function sampleClip(name: Clip, time: number, travel: number, out: Pose): void {
  const data = CLIPS[name];
  const { keys, length, clock } = data;
  let t = time;
  if (clock === "stride") t = (((travel / STRIDE) % 1) + 1) % 1 * length;
  else if (clock === "loop") t = time % length;
  let next = 0;
  while (next < keys.length && keys[next].at <= t) next++;
  if (next === 0 || next === keys.length) {
    out.set(keys[next === 0 ? 0 : keys.length - 1].pose);
    return;
  }
  const a = keys[next - 1];
  const b = keys[next];
  let share = (t - a.at) / (b.at - a.at);
  share = share * share * (3 - 2 * share);
  for (let i = 0; i < POSE_SIZE; i++) out[i] = a.pose[i] + (b.pose[i] - a.pose[i]) * share;
}

/** The limb that strikes at this moment of a clip, or null. */
export function strikerOf(name: Clip, time: number): Striker | null {
  const data = CLIPS[name];
  const t = data.clock === "loop" ? time % data.length : time;
  return data.striker !== null && (t >= data.from && t <= data.to) ? data.striker : null;
}

/** Moves `pose` towards `target` by `share`; angles take the short way round. */
export function blendPose(pose: Pose, target: Pose, share: number): void {
  for (let i = 0; i < POSE_SIZE; i++) {
    let difference = target[i] - pose[i];
    if (i >= FIRST_ANGLE) difference -= Math.round(difference / (2 * Math.PI)) * 2 * Math.PI;
    pose[i] += difference * share;
  }
}
