/**
 * Byte layouts shared with the `worldline-abi` crate: little endian, fixed offsets.
 * Decoders write into objects the caller owns, so a frame costs no allocation.
 */

export const STATE_BYTES = 256;
export const INPUT_BYTES = 32;
export const PAD_BYTES = 12;
export const SLOT_BYTES = 14;
/** Bytes of one frame message from the arcade: [1, 0, 0, 0], SessionState, InputBuffer. */
export const FRAME_MESSAGE_BYTES = 4 + STATE_BYTES + INPUT_BYTES;
/** Bytes of one input message to the arcade: [1, 0], sequence u16, Pad. */
export const INPUT_MESSAGE_BYTES = 4 + PAD_BYTES;
export const ABI_VERSION = 1;

/** A stick at full deflection; Melee's own steps of 1/80 are 400. */
export const STICK_UNIT = 32000;
export const STICK_STEPS = 80;

export const POSITION_UNIT = 4096;
export const PERCENT_UNIT = 64;
export const SPEED_UNIT = 1024;
export const SHIELD_UNIT = 256;
/** A full shield, in game units. */
export const SHIELD_FULL = 60;
export const FRAMES_PER_SECOND = 60;

export const Button = {
  DLeft: 0x1, DRight: 0x2, DDown: 0x4, DUp: 0x8,
  Z: 0x10, R: 0x20, L: 0x40,
  A: 0x100, B: 0x200, X: 0x400, Y: 0x800, Start: 0x1000,
} as const;

export const Status = { Open: 0, Picking: 1, Ready: 2, Active: 3, Ended: 4 } as const;
export const NO_WINNER = 0xff;
export const DRAW = 2;

/** One player's slot, in game units (percent in %, speeds in units a frame). */
export interface Player {
  x: number;
  y: number;
  percent: number;
  airX: number;
  speedY: number;
  attackX: number;
  attackY: number;
  groundX: number;
  shield: number;
  action: number;
  hitlag: number;
  stocks: number;
  /** -1 looks left, 1 looks right. */
  facing: number;
  onGround: boolean;
  jumps: number;
  character: number;
  /** Frames since the action state changed. */
  since: number;
}

export interface State {
  version: number;
  status: number;
  stage: number;
  winner: number;
  frame: number;
  /** Frames left on the match clock. */
  clock: number;
  endReason: number;
  /** How often a rule that is not learned (a range clamp, say) changed a value. */
  ruleHits: number;
  players: [Player, Player];
}

/** A controller: sticks -1..1, triggers 0..1, GameCube button bits. */
export interface Pad {
  stickX: number;
  stickY: number;
  cX: number;
  cY: number;
  triggerL: number;
  triggerR: number;
  buttons: number;
}

export function emptyPlayer(): Player {
  return {
    x: 0, y: 0, percent: 0, airX: 0, speedY: 0, attackX: 0, attackY: 0, groundX: 0, shield: 0,
    action: 14, hitlag: 0, stocks: 0, facing: 1, onGround: true, jumps: 0, character: 0, since: 0,
  };
}

export function emptyState(): State {
  return {
    version: ABI_VERSION, status: 0, stage: 0, winner: NO_WINNER, frame: 0, clock: 0, endReason: 0, ruleHits: 0,
    players: [emptyPlayer(), emptyPlayer()],
  };
}

export function neutralPad(): Pad {
  return { stickX: 0, stickY: 0, cX: 0, cY: 0, triggerL: 0, triggerR: 0, buttons: 0 };
}

function readPlayer(view: DataView, at: number, out: Player): void {
  out.x = view.getInt32(at, true) / POSITION_UNIT;
  out.y = view.getInt32(at + 4, true) / POSITION_UNIT;
  out.percent = view.getUint16(at + 8, true) / PERCENT_UNIT;
  out.airX = view.getInt16(at + 10, true) / SPEED_UNIT;
  out.speedY = view.getInt16(at + 12, true) / SPEED_UNIT;
  out.attackX = view.getInt16(at + 14, true) / SPEED_UNIT;
  out.attackY = view.getInt16(at + 16, true) / SPEED_UNIT;
  out.groundX = view.getInt16(at + 18, true) / SPEED_UNIT;
  out.shield = view.getUint16(at + 20, true) / SHIELD_UNIT;
  out.action = view.getUint16(at + 22, true);
  out.hitlag = view.getUint8(at + 24);
  out.stocks = view.getUint8(at + 25);
  out.facing = view.getUint8(at + 26) === 0 ? -1 : 1;
  out.onGround = view.getUint8(at + 27) !== 0;
  out.jumps = view.getUint8(at + 28);
  out.character = view.getUint8(at + 29);
  out.since = view.getUint16(at + 32, true);
}

/** Decodes the SessionState at byte `at` into `out`. Throws a RangeError when bytes are missing. */
export function readState(view: DataView, at: number, out: State): void {
  if (view.byteLength - at < STATE_BYTES) {
    throw new RangeError(`a session state is ${STATE_BYTES} bytes, ${view.byteLength - at} were given`);
  }
  out.version = view.getUint8(at);
  out.status = view.getUint8(at + 1);
  out.stage = view.getUint8(at + 2);
  out.winner = view.getUint8(at + 3);
  out.frame = view.getUint32(at + 4, true);
  out.clock = view.getUint32(at + 8, true);
  out.endReason = view.getUint8(at + 12);
  out.ruleHits = view.getUint32(at + 28, true);
  readPlayer(view, at + 32, out.players[0]);
  readPlayer(view, at + 128, out.players[1]);
}

function stickToRaw(value: number): number {
  const clamped = value < -1 ? -1 : value > 1 ? 1 : value;
  return Math.round(clamped * STICK_STEPS) * (STICK_UNIT / STICK_STEPS);
}

function triggerToRaw(value: number): number {
  return Math.round((value < 0 ? 0 : value > 1 ? 1 : value) * 255);
}

/** Writes the 12 bytes of a pad, its sticks on Melee's 1/80 grid. */
export function writePad(view: DataView, at: number, pad: Pad): void {
  view.setInt16(at, stickToRaw(pad.stickX), true);
  view.setInt16(at + 2, stickToRaw(pad.stickY), true);
  view.setInt16(at + 4, stickToRaw(pad.cX), true);
  view.setInt16(at + 6, stickToRaw(pad.cY), true);
  view.setUint8(at + 8, triggerToRaw(pad.triggerL));
  view.setUint8(at + 9, triggerToRaw(pad.triggerR));
  view.setUint16(at + 10, pad.buttons, true);
}

export function readPad(view: DataView, at: number, out: Pad): void {
  out.stickX = view.getInt16(at, true) / STICK_UNIT;
  out.stickY = view.getInt16(at + 2, true) / STICK_UNIT;
  out.cX = view.getInt16(at + 4, true) / STICK_UNIT;
  out.cY = view.getInt16(at + 6, true) / STICK_UNIT;
  out.triggerL = view.getUint8(at + 8) / 255;
  out.triggerR = view.getUint8(at + 9) / 255;
  out.buttons = view.getUint16(at + 10, true);
}

export function hex(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) text += byte.toString(16).padStart(2, "0");
  return text;
}
