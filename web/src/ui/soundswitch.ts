/** A button that turns the sound on and off, and remembers. */
import { h, setText } from "../dom";
import { setSound, soundOn } from "../sound";

export function soundSwitch(): HTMLElement {
  const button = h("button", { class: "plain", onclick: () => { setSound(!soundOn()); show(); } });
  function show(): void {
    setText(button, soundOn() ? "Sound on" : "Sound off");
    button.setAttribute("aria-pressed", String(soundOn()));
  }
  show();
  return button;
}
