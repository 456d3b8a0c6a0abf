/** Melee's action-state ids: what a fighter is doing, and the clip that shows it. */

export type Clip =
  | "wait" | "walk" | "turn" | "dash" | "run" | "brake" | "crouch" | "land" | "kneebend"
  | "jump" | "jumpBack" | "flip" | "fall" | "helpless" | "tumble"
  | "jab" | "jab2" | "rapid" | "dashAttack" | "ftilt" | "utilt" | "dtilt" | "fsmash" | "usmash" | "dsmash"
  | "nair" | "fair" | "bair" | "uair" | "dair"
  | "hurt" | "hurtLow" | "fly" | "shield" | "shieldHit" | "lie" | "bound" | "getup" | "roll" | "rollBack" | "spot" | "airdodge"
  | "grab" | "hold" | "pummel" | "throwF" | "throwB" | "throwUp" | "throwDown" | "held" | "thrown"
  | "hang" | "climb" | "teeter" | "taunt" | "dizzy" | "cast" | "castAir" | "shine" | "aim" | "dead";

/** Ids 0 to 10: the player is gone; 11 sleeps (no fighter on screen). */
export const DEAD_LAST = 11;
export const REBIRTH = 12;
export const REBIRTH_WAIT = 13;
export const SPECIAL_FIRST = 341;

export const isDead = (action: number): boolean => action <= DEAD_LAST;
export const isRebirth = (action: number): boolean => action === REBIRTH || action === REBIRTH_WAIT;
export const isShielding = (action: number): boolean => action >= 178 && action <= 182;
export const isHurt = (action: number): boolean => action >= 75 && action <= 91;
/** Launched: the long part of a hit, flying or tumbling. */
export const isLaunched = (action: number): boolean => (action >= 87 && action <= 91) || action === 38;
export const isAirdodge = (action: number): boolean => action === 236;
export const isIntangible = (action: number): boolean => isRebirth(action) || action === 235 || action === 233 || action === 234;
export const isAttack = (action: number): boolean => action >= 44 && action <= 69;
export const isLanding = (action: number): boolean => action === 42 || action === 43 || (action >= 70 && action <= 74);

const FOX = 2;
const FALCO = 20;

interface Range { from: number; to: number; clip: Clip; name: string }

const r = (from: number, to: number, clip: Clip, name: string): Range => ({ from, to, clip, name });

const RANGES: Range[] = [
  r(0, 11, "dead", "out"), r(12, 13, "wait", "rebirth"), r(14, 14, "wait", "wait"),
  r(15, 17, "walk", "walk"), r(18, 19, "turn", "turn"), r(20, 20, "dash", "dash"), r(21, 22, "run", "run"), r(23, 23, "brake", "brake"),
  r(24, 24, "kneebend", "jumpsquat"), r(25, 25, "jump", "jump"), r(26, 26, "jumpBack", "jump"), r(27, 28, "flip", "air jump"),
  r(29, 34, "fall", "fall"), r(35, 37, "helpless", "helpless"), r(38, 38, "tumble", "tumble"),
  r(39, 41, "crouch", "crouch"), r(42, 43, "land", "landing"),
  r(44, 44, "jab", "jab"), r(45, 46, "jab2", "jab"), r(47, 49, "rapid", "rapid jab"), r(50, 50, "dashAttack", "dash attack"),
  r(51, 55, "ftilt", "forward tilt"), r(56, 56, "utilt", "up tilt"), r(57, 57, "dtilt", "down tilt"),
  r(58, 62, "fsmash", "forward smash"), r(63, 63, "usmash", "up smash"), r(64, 64, "dsmash", "down smash"),
  r(65, 65, "nair", "neutral air"), r(66, 66, "fair", "forward air"), r(67, 67, "bair", "back air"), r(68, 68, "uair", "up air"), r(69, 69, "dair", "down air"),
  r(70, 74, "land", "landing"),
  r(75, 80, "hurt", "hit"), r(81, 83, "hurtLow", "hit"), r(84, 86, "hurt", "hit"), r(87, 91, "fly", "launched"),
  r(92, 177, "cast", "item"),
  r(178, 180, "shield", "shield"), r(181, 182, "shieldHit", "shield hit"),
  r(183, 183, "bound", "knocked down"), r(184, 185, "lie", "down"), r(186, 186, "getup", "get up"), r(187, 187, "dsmash", "get-up attack"),
  r(188, 188, "roll", "roll"), r(189, 190, "rollBack", "roll"),
  r(191, 191, "bound", "knocked down"), r(192, 193, "lie", "down"), r(194, 194, "getup", "get up"), r(195, 195, "dsmash", "get-up attack"),
  r(196, 196, "roll", "roll"), r(197, 198, "rollBack", "roll"),
  r(199, 199, "getup", "tech"), r(200, 200, "roll", "tech roll"), r(201, 201, "rollBack", "tech roll"), r(202, 204, "flip", "wall tech"),
  r(205, 206, "fly", "shield break"), r(207, 208, "lie", "shield break"), r(209, 210, "getup", "get up"), r(211, 211, "dizzy", "dizzy"),
  r(212, 215, "grab", "grab"), r(216, 216, "hold", "holding"), r(217, 217, "pummel", "pummel"), r(218, 218, "turn", "grab release"),
  r(219, 219, "throwF", "forward throw"), r(220, 220, "throwB", "back throw"), r(221, 221, "throwUp", "up throw"), r(222, 222, "throwDown", "down throw"),
  r(223, 228, "held", "held"), r(229, 232, "hurt", "grab release"),
  r(233, 233, "roll", "roll"), r(234, 234, "rollBack", "roll"), r(235, 235, "spot", "spot dodge"), r(236, 236, "airdodge", "air dodge"),
  r(237, 238, "hurt", "rebound"), r(239, 243, "thrown", "thrown"), r(244, 244, "fall", "drop through"), r(245, 246, "teeter", "teeter"),
  r(247, 250, "fly", "bounce"), r(251, 251, "tumble", "slip off"),
  r(252, 253, "hang", "ledge"), r(254, 255, "climb", "ledge climb"), r(256, 257, "dsmash", "ledge attack"), r(258, 259, "roll", "ledge roll"), r(260, 263, "jump", "ledge jump"),
  r(264, 265, "taunt", "taunt"), r(266, 321, "held", "caught"), r(322, 324, "wait", "entry"), r(325, 340, "held", "caught"),
];

const LAST = SPECIAL_FIRST;
const CLIPS: Clip[] = new Array<Clip>(LAST).fill("wait");
const NAMES: string[] = new Array<string>(LAST).fill("wait");
for (const range of RANGES) {
  CLIPS.fill(range.clip, range.from, range.to + 1);
  NAMES.fill(range.name, range.from, range.to + 1);
}

/** Specials differ per fighter; the two most played get their own, the rest share a gesture. */
function specialClip(action: number, character: number, onGround: boolean): Clip {
  if (character === FOX || character === FALCO) {
    if (action <= 346) return "aim";
    if (action >= 360 && action <= 369) return "shine";
  }
  return onGround ? "cast" : "castAir";
}

export function clipOf(action: number, character: number, onGround: boolean): Clip {
  return action >= SPECIAL_FIRST ? specialClip(action, character, onGround) : CLIPS[action];
}

export function actionName(action: number): string {
  return action >= SPECIAL_FIRST ? "special" : (NAMES[action] ?? "unknown");
}
