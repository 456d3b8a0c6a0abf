/** Which key does what: shown, changeable, remembered on this machine. */

export const ACTIONS = [
  ["left", "Stick left"], ["right", "Stick right"], ["up", "Stick up"], ["down", "Stick down"], ["tilt", "Tilt (hold: half stick)"],
  ["attack", "A · attack"], ["special", "B · special"], ["jump", "X · jump"], ["jump2", "Y · jump"],
  ["shield", "R · shield"], ["grab", "Z · grab"],
  ["cLeft", "C-stick left"], ["cRight", "C-stick right"], ["cUp", "C-stick up"], ["cDown", "C-stick down"],
  ["taunt", "D-pad up · taunt"], ["start", "Start"],
] as const;

export type Action = (typeof ACTIONS)[number][0];
export type Keymap = Record<Action, string>;

const STORE = "worldline.keys";

export const DEFAULT_KEYS: Readonly<Keymap> = {
  left: "KeyA", right: "KeyD", up: "KeyW", down: "KeyS", tilt: "ShiftLeft",
  attack: "KeyJ", special: "KeyK", jump: "Space", jump2: "KeyI", shield: "KeyL", grab: "KeyU",
  cLeft: "ArrowLeft", cRight: "ArrowRight", cUp: "ArrowUp", cDown: "ArrowDown",
  taunt: "KeyT", start: "Enter",
};

export function loadKeys(): Keymap {
  const keys: Keymap = { ...DEFAULT_KEYS };
  try {
    const saved = JSON.parse(localStorage.getItem(STORE) ?? "{}") as Partial<Record<string, unknown>>;
    for (const [action] of ACTIONS) {
      const code = saved[action];
      if (typeof code === "string") keys[action] = code;
    }
  } catch {
    // A broken map is no reason not to play: the default stands.
  }
  return keys;
}

export function saveKeys(keys: Keymap): void {
  localStorage.setItem(STORE, JSON.stringify(keys));
}

/** Gives `code` to `action`; the action that had it takes the old key, so that none is lost. */
export function rebind(keys: Keymap, action: Action, code: string): Keymap {
  const next = { ...keys };
  for (const [other] of ACTIONS) if (next[other] === code) next[other] = keys[action];
  next[action] = code;
  return next;
}

const NAMES: Record<string, string> = {
  ArrowLeft: "←", ArrowRight: "→", ArrowUp: "↑", ArrowDown: "↓", Space: "Space", ShiftLeft: "L Shift", ShiftRight: "R Shift",
  Semicolon: ";", Quote: "'", Comma: ",", Period: ".", Slash: "/", BracketLeft: "[", BracketRight: "]", Backslash: "\\", Minus: "-", Equal: "=", Backquote: "`",
};

/** A key code as it is printed on a key. */
export function keyName(code: string): string {
  return NAMES[code] ?? code.replace(/^Key|^Digit/, "").replace(/^Numpad/, "Num ");
}
