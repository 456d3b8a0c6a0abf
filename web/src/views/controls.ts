/** The key map, shown and changeable; what gamepads and thumbs do. */
import { h, replace } from "../dom";
import { ACTIONS, DEFAULT_KEYS, keyName, loadKeys, rebind, saveKeys, type Action, type Keymap } from "../input/keymap";
import type { Leave } from "../router";

function editor(changed: () => void): { element: HTMLElement; close: Leave } {
  let keys: Keymap = loadKeys();
  let waiting: Action | null = null;
  const list = h("dl", { class: "keys" });
  const note = h("p", { class: "note", role: "status" }, "Choose a control, then press its new key.");

  function draw(): void {
    replace(list, ACTIONS.map(([action, label]) => h("div", null,
      h("dt", null, label),
      h("dd", null, h("button", {
        class: `key ${waiting === action ? "waiting" : ""}`, "data-action": action, "aria-label": `${label}: ${keyName(keys[action])}. Change`,
        onclick: () => { waiting = action; note.textContent = `Press the key for “${label}”. Escape keeps the old one.`; draw(); list.querySelector<HTMLElement>(`[data-action=${action}]`)?.focus(); },
      }, waiting === action ? "…" : keyName(keys[action]))))));
  }

  function key(event: KeyboardEvent): void {
    if (waiting === null) return;
    event.preventDefault();
    event.stopPropagation();
    const action = waiting;
    waiting = null;
    if (event.code !== "Escape") {
      keys = rebind(keys, action, event.code);
      saveKeys(keys);
      changed();
    }
    note.textContent = event.code === "Escape" ? "Kept." : `Saved: ${keyName(event.code)}.`;
    draw();
    list.querySelector<HTMLElement>(`[data-action=${action}]`)?.focus();
  }
  window.addEventListener("keydown", key, true);

  draw();
  const reset = h("button", { class: "plain", onclick: () => { keys = { ...DEFAULT_KEYS }; saveKeys(keys); changed(); note.textContent = "The first map is back."; draw(); } }, "Reset");
  return {
    element: h("div", { class: "editor" }, list, note, reset),
    close: () => window.removeEventListener("keydown", key, true),
  };
}

/** The map over a running match. */
export function controlsDialog(changed: () => void): void {
  const { element, close } = editor(changed);
  const dialog = h("dialog", { class: "controls", onclose: () => { close(); dialog.remove(); } },
    h("h2", null, "Controls"), element, h("form", { method: "dialog" }, h("button", null, "Done")));
  document.body.append(dialog);
  dialog.showModal();
}

export function controlsPage(main: HTMLElement): Leave {
  const { element, close } = editor(() => undefined);
  replace(main, h("section", { class: "page wide" },
    h("h1", null, "Controls"),
    h("p", { class: "lead" }, "A GameCube pad, on whatever you have. Saved in this browser."),
    element,
    h("h2", null, "Gamepads"),
    h("p", null, "Plug one in and press a button. GameCube adapters are recognised; on other pads the lower face button is A, left B, right X, upper Y, the shoulders Z, the triggers L and R, the right stick the C-stick."),
    h("h2", null, "Phones"),
    h("p", null, "Players get a stick and five buttons under their thumbs; watchers need nothing."),
    h("h2", null, "Replays"),
    h("p", null, h("kbd", null, "Space"), " plays and pauses, ", h("kbd", null, ","), " and ", h("kbd", null, "."), " step one frame, ", h("kbd", null, "←"), " and ", h("kbd", null, "→"), " skip five seconds.")));
  return close;
}
