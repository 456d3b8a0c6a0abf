/** Gamepads: the standard layout, and GameCube adapters that report their own. */
import { Button, type Pad } from "../abi";

const DEADZONE = 0.12;
/** A trigger past this counts as pressed to the click. */
const CLICK = 0.85;

interface Layout {
  stick: [number, number];
  c: [number, number];
  /** Analogue triggers: an axis (-1 at rest) or a button's value. */
  triggers: { axis: [number, number] } | { button: [number, number] };
  buttons: [index: number, bit: number][];
}

/** Face buttons by place: A below, B left, X right, Y above, as a GameCube pad has them. */
const STANDARD: Layout = {
  stick: [0, 1], c: [2, 3], triggers: { button: [6, 7] },
  buttons: [
    [0, Button.A], [2, Button.B], [1, Button.X], [3, Button.Y], [4, Button.Z], [5, Button.Z], [9, Button.Start],
    [12, Button.DUp], [13, Button.DDown], [14, Button.DLeft], [15, Button.DRight],
  ],
};

/** The Nintendo and Mayflash adapters, as browsers show them. */
const GAMECUBE: Layout = {
  stick: [0, 1], c: [5, 2], triggers: { axis: [3, 4] },
  buttons: [
    [1, Button.A], [2, Button.B], [0, Button.X], [3, Button.Y], [7, Button.Z], [4, Button.L], [5, Button.R], [9, Button.Start],
    [12, Button.DUp], [14, Button.DDown], [15, Button.DLeft], [13, Button.DRight],
  ],
};

export function layoutOf(id: string): "gamecube" | "standard" {
  return /gamecube|mayflash|wup-028|0079.*(1843|1844)|057e.*0337/i.test(id) ? "gamecube" : "standard";
}

function stick(x: number, y: number, set: (x: number, y: number) => void): void {
  const length = Math.hypot(x, y);
  if (length < DEADZONE) set(0, 0);
  else {
    const scale = Math.min(1, (length - DEADZONE) / (0.95 - DEADZONE)) / length;
    set(x * scale, -y * scale);
  }
}

/** Reads one gamepad into `out`; axes of a browser point down, ours point up. */
export function readGamepad(gamepad: Pick<Gamepad, "id" | "axes" | "buttons">, out: Pad): void {
  const layout = layoutOf(gamepad.id) === "gamecube" ? GAMECUBE : STANDARD;
  const axis = (index: number): number => gamepad.axes[index] ?? 0;
  stick(axis(layout.stick[0]), axis(layout.stick[1]), (x, y) => { out.stickX = x; out.stickY = y; });
  stick(axis(layout.c[0]), axis(layout.c[1]), (x, y) => { out.cX = x; out.cY = y; });
  out.buttons = 0;
  for (const [index, bit] of layout.buttons) if (gamepad.buttons[index]?.pressed) out.buttons |= bit;
  if ("axis" in layout.triggers) {
    const [left, right] = layout.triggers.axis;
    out.triggerL = Math.max(0, (axis(left) + 1) / 2 - 0.15) / 0.85;
    out.triggerR = Math.max(0, (axis(right) + 1) / 2 - 0.15) / 0.85;
  } else {
    const [left, right] = layout.triggers.button;
    out.triggerL = gamepad.buttons[left]?.value ?? 0;
    out.triggerR = gamepad.buttons[right]?.value ?? 0;
    if (out.triggerL > CLICK) out.buttons |= Button.L;
    if (out.triggerR > CLICK) out.buttons |= Button.R;
  }
}

/** Reads the first connected gamepad; false when there is none. */
export function readGamepads(out: Pad): boolean {
  for (const gamepad of navigator.getGamepads?.() ?? []) {
    if (gamepad === null || !gamepad.connected) continue;
    readGamepad(gamepad, out);
    return true;
  }
  return false;
}
