/** Keyboard, gamepad and touch, merged into one pad. */
import { Button, neutralPad, type Pad } from "../abi";
import { readGamepads } from "./gamepad";
import { loadKeys, type Action, type Keymap } from "./keymap";

const HALF_STICK = 0.6;
/** The arcade takes at most this many inputs a second; faster changes wait for the next tick. */
const SEND_INTERVAL_MS = 1000 / 60 - 1;

export interface Controller {
  /** Reads every device and hands a changed pad to `send`. Call once per display tick. */
  poll(): void;
  /** Sends the present pad even if it did not change (after a reconnect). */
  refresh(): void;
  /** Off, keys do what they do on any page and nothing is sent. */
  enable(on: boolean): void;
  /** The pad of the touch controls, to be written by them. */
  touch: Pad;
  reloadKeys(): void;
  close(): void;
}

function fromKeys(keys: Keymap, held: ReadonlySet<string>, pad: Pad): void {
  const on = (action: Action): number => (held.has(keys[action]) ? 1 : 0);
  const x = on("right") - on("left");
  const y = on("up") - on("down");
  // Diagonals stay on the unit circle, as the octagonal gate of the real stick does.
  const scale = (x !== 0 && y !== 0 ? Math.SQRT1_2 : 1) * (on("tilt") === 1 ? HALF_STICK : 1);
  pad.stickX = x * scale;
  pad.stickY = y * scale;
  pad.cX = on("cRight") - on("cLeft");
  pad.cY = on("cUp") - on("cDown");
  pad.triggerR = on("shield");
  pad.triggerL = 0;
  pad.buttons =
    on("attack") * Button.A | on("special") * Button.B | on("jump") * Button.X | on("jump2") * Button.Y |
    on("shield") * Button.R | on("grab") * Button.Z | on("taunt") * Button.DUp | on("start") * Button.Start;
}

/** Adds `other` to `pad`: the stick pushed further wins, buttons join. */
export function mergePad(pad: Pad, other: Pad): void {
  if (Math.hypot(other.stickX, other.stickY) > Math.hypot(pad.stickX, pad.stickY)) { pad.stickX = other.stickX; pad.stickY = other.stickY; }
  if (Math.hypot(other.cX, other.cY) > Math.hypot(pad.cX, pad.cY)) { pad.cX = other.cX; pad.cY = other.cY; }
  pad.triggerL = Math.max(pad.triggerL, other.triggerL);
  pad.triggerR = Math.max(pad.triggerR, other.triggerR);
  pad.buttons |= other.buttons;
}

export function copyPad(from: Pad, to: Pad): boolean {
  const same =
    from.stickX === to.stickX && from.stickY === to.stickY && from.cX === to.cX && from.cY === to.cY &&
    from.triggerL === to.triggerL && from.triggerR === to.triggerR && from.buttons === to.buttons;
  if (same) return false;
  Object.assign(to, from);
  return true;
}

const isTyping = (target: EventTarget | null): boolean =>
  target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName) || target.closest("dialog[open]") !== null);

export function newController(send: (pad: Pad) => void): Controller {
  let keys = loadKeys();
  const held = new Set<string>();
  const pad = neutralPad();
  const device = neutralPad();
  const touch = neutralPad();
  const last = neutralPad();
  let lastSent = 0;
  let enabled = false;

  function poll(): void {
    if (!enabled) return;
    const now = performance.now();
    if (now - lastSent < SEND_INTERVAL_MS) return;
    fromKeys(keys, held, pad);
    if (readGamepads(device)) mergePad(pad, device);
    mergePad(pad, touch);
    if (copyPad(pad, last)) { lastSent = now; send(last); }
  }

  function key(event: KeyboardEvent): void {
    if (!enabled || event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target)) return;
    if (!Object.values(keys).includes(event.code)) return;
    // A focused button or link keeps its Enter and Space.
    const pressable = event.target instanceof HTMLButtonElement || event.target instanceof HTMLAnchorElement;
    if (pressable && !held.has(event.code) && (event.code === "Enter" || event.code === "Space")) return;
    event.preventDefault();
    if (event.repeat) return;
    if (event.type === "keydown") held.add(event.code);
    else held.delete(event.code);
    poll();
  }

  function release(): void {
    held.clear();
    poll();
  }

  window.addEventListener("keydown", key);
  window.addEventListener("keyup", key);
  window.addEventListener("blur", release);
  return {
    poll,
    refresh() {
      if (!enabled) return;
      lastSent = performance.now();
      send(last);
    },
    enable(on) {
      if (on === enabled) return;
      enabled = on;
      held.clear();
    },
    touch,
    reloadKeys() { keys = loadKeys(); held.clear(); },
    close() {
      window.removeEventListener("keydown", key);
      window.removeEventListener("keyup", key);
      window.removeEventListener("blur", release);
    },
  };
}
