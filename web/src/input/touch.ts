/** A pad for thumbs: a stick on the left, five buttons on the right. */
import { Button, type Pad } from "../abi";
import { h } from "../dom";

const BUTTONS: [label: string, name: string, bit: number, className: string][] = [
  ["A", "A, attack", Button.A, "tp-a"], ["B", "B, special", Button.B, "tp-b"], ["X", "X, jump", Button.X, "tp-x"],
  ["R", "R, shield", Button.R, "tp-r"], ["Z", "Z, grab", Button.Z, "tp-z"],
];

/** Builds the controls; they write into `pad` and call `changed`. */
export function touchPad(pad: Pad, changed: () => void): HTMLElement {
  const knob = h("div", { class: "tp-knob" });
  const base = h("div", { class: "tp-stick", role: "application", "aria-label": "Stick" }, knob);
  let owner = -1;

  function move(event: PointerEvent): void {
    if (event.pointerId !== owner) return;
    const box = base.getBoundingClientRect();
    const radius = box.width / 2;
    let x = (event.clientX - box.left - radius) / (radius * 0.8);
    let y = -(event.clientY - box.top - radius) / (radius * 0.8);
    const length = Math.hypot(x, y);
    if (length > 1) { x /= length; y /= length; }
    pad.stickX = length < 0.2 ? 0 : x;
    pad.stickY = length < 0.2 ? 0 : y;
    knob.style.transform = `translate(${x * radius * 0.55}px, ${-y * radius * 0.55}px)`;
    changed();
  }
  function end(event: PointerEvent): void {
    if (event.pointerId !== owner) return;
    owner = -1;
    pad.stickX = 0;
    pad.stickY = 0;
    knob.style.transform = "";
    changed();
  }
  base.addEventListener("pointerdown", (event) => { owner = event.pointerId; base.setPointerCapture(owner); move(event); });
  base.addEventListener("pointermove", move);
  base.addEventListener("pointerup", end);
  base.addEventListener("pointercancel", end);

  const buttons = BUTTONS.map(([label, name, bit, className]) => {
    const button = h("button", { class: `tp-button ${className}`, "aria-label": name, tabindex: -1 }, label);
    const set = (down: boolean): void => {
      pad.buttons = down ? pad.buttons | bit : pad.buttons & ~bit;
      if (bit === Button.R) pad.triggerR = down ? 1 : 0;
      button.classList.toggle("down", down);
      changed();
    };
    button.addEventListener("pointerdown", (event) => { event.preventDefault(); button.setPointerCapture(event.pointerId); set(true); });
    button.addEventListener("pointerup", () => set(false));
    button.addEventListener("pointercancel", () => set(false));
    return button;
  });
  return h("div", { class: "touchpad", "aria-label": "Touch controls" }, base, h("div", { class: "tp-buttons" }, buttons));
}

export const wantsTouch = (): boolean => window.matchMedia("(pointer: coarse)").matches;
