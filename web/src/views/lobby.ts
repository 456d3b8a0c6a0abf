/** Before the match: link, seats, fighters, ready. Elements are built once and then updated. */
import { Button, neutralPad } from "../abi";
import { h, replace, setText } from "../dom";
import { seatWords } from "../format";
import { readGamepads } from "../input/gamepad";
import { keyName, loadKeys, type Action } from "../input/keymap";
import { bodyById } from "../melee/characters";
import { stageById } from "../melee/stages";
import type { MatchView } from "../net/api";
import { vectorSvg } from "../render/vector";
import type { Leave } from "../router";
import { loop } from "../ui/loop";
import { mannequin } from "../ui/mannequin";
import { qrCode } from "../ui/qr";
import { stageIcon } from "../ui/stageicon";

export interface LobbyActions {
  pick(character: number): void;
  ready(): void;
  join(): void;
  leave(): void;
}

export interface Lobby {
  element: HTMLElement;
  update(view: MatchView, seat: number | null): void;
  setFighters(fighters: { id: number; name: string }[]): void;
  close: Leave;
}

/** Where a friend finds the session: as the arcade says, which knows whether a link needs its token. */
function inviteUrl(session: string, invite: string | null): string {
  return new URL(invite ?? `#/s/${session}`, location.href).href;
}

/** Copies text; on insecure origins it selects it for the player to copy. */
export async function copyText(field: HTMLInputElement, button: HTMLButtonElement): Promise<void> {
  const label = button.textContent ?? "";
  try {
    await navigator.clipboard.writeText(field.value);
    setText(button, "Copied");
  } catch {
    field.focus();
    field.select();
    setText(button, "Press Ctrl+C");
  }
  window.setTimeout(() => setText(button, label), 1600);
}

const HINTS: [Action[], string][] = [
  [["left", "right", "up", "down"], "move"], [["jump"], "jump"], [["attack"], "attack"], [["special"], "special"], [["shield"], "shield"], [["grab"], "grab"],
  [["cLeft", "cRight", "cUp", "cDown"], "smash"], [["tilt"], "walk"],
];

/** The keys at a glance, for whoever plays for the first time. */
function keyHints(): HTMLElement {
  const keys = loadKeys();
  return h("p", { class: "hints" }, HINTS.map(([actions, label]) => h("span", null, actions.map((action) => h("kbd", null, keyName(keys[action]))), " ", label)), h("a", { href: "#/controls" }, "change"));
}

interface Panel { element: HTMLElement; update(view: MatchView, own: boolean): void; close: Leave }

function panel(seat: 0 | 1): Panel {
  const canvas = h("canvas", { class: "mannequin", "aria-hidden": "true" });
  const name = h("strong", null, "");
  const who = h("span", { class: "who" }, "");
  const light = h("span", { class: "light" }, "");
  const doll = mannequin(canvas, seat);
  let wasReady = false;
  return {
    element: h("section", { class: `seat p${seat + 1}`, "aria-label": `Seat ${seat + 1}` },
      h("header", null, h("b", null, `P${seat + 1}`), who, light), canvas, name),
    update(view, own) {
      const { kind, character, ready, connected, cpu } = view.seats[seat];
      doll.setCharacter(kind === "free" ? null : character);
      setText(name, kind === "free" ? "waiting for a player" : character === null ? "choosing" : bodyById(character).name);
      setText(who, own ? "you" : seatWords(kind));
      setText(light, kind === "free" ? "" : ready ? "ready" : cpu || connected ? "" : "away");
      light.classList.toggle("on", ready);
      if (ready && !wasReady) doll.cheer();
      wasReady = ready;
    },
    close: doll.close,
  };
}

export function lobby(session: string, invite: string | null, actions: LobbyActions): Lobby {
  const panels = [panel(0), panel(1)] as const;
  const url = inviteUrl(session, invite);
  const field = h("input", { class: "link", readonly: true, value: url, "aria-label": "Invitation link", onfocus: () => field.select() });
  const copy = h("button", { class: "plain", onclick: () => void copyText(field, copy) }, "Copy link");
  const start = h("button", { class: "coin start", onclick: actions.ready }, h("span", null, "Press start"));
  const join = h("button", { class: "coin", onclick: actions.join }, h("span", null, "Take the seat"), h("small", null, "or stay and watch"));
  const note = h("p", { class: "note", role: "status" });
  const stage = h("p", { class: "stage-name" });
  const code = h("div", { class: "session-name" });
  const roster = h("fieldset", { class: "roster" }, h("legend", null, "Your fighter"));
  const invitation = h("div", { class: "invite" }, qrCode(url), h("div", null, h("p", null, "Your friend opens this link or scans the code."), field, copy));
  let fighters: { id: number; name: string }[] = [];
  let picked: number | null = null;
  let stageShown = -1;
  let startable = false;

  function drawRoster(): void {
    replace(roster, h("legend", null, "Your fighter"), fighters.map(({ id, name }) => {
      const input = h("input", { type: "radio", name: "fighter", value: id, checked: id === picked, onchange: () => actions.pick(id) });
      return h("label", null, input, h("span", null, name));
    }));
  }

  const pad = neutralPad();
  let wasStart = true;
  const stopPoll = loop(() => {
    const pressed = readGamepads(pad) && (pad.buttons & Button.Start) !== 0;
    if (pressed && !wasStart && startable) actions.ready();
    wasStart = pressed;
  });
  function key(event: KeyboardEvent): void {
    if (event.code !== "Enter" || !startable || (event.target instanceof HTMLElement && /^(BUTTON|A)$/.test(event.target.tagName))) return;
    event.preventDefault();
    actions.ready();
  }
  window.addEventListener("keydown", key);

  const element = h("div", { class: "lobby" },
    panels[0].element,
    h("div", { class: "desk" },
      h("p", { class: "label" }, "Session"), code, stage, invitation, note, start, join,
      h("button", { class: "plain", onclick: actions.leave }, "Leave")),
    panels[1].element,
    roster,
    keyHints());

  return {
    element,
    setFighters(list) { fighters = list; drawRoster(); },
    update(view, seat) {
      panels[0].update(view, seat === 0);
      panels[1].update(view, seat === 1);
      if (view.stage !== stageShown) {
        stageShown = view.stage;
        replace(stage, stageIcon(view.stage), stageById(view.stage).name);
      }
      if (code.dataset["code"] !== (view.code ?? session)) {
        code.dataset["code"] = view.code ?? session;
        replace(code, vectorSvg(view.code ?? session, "session-code"));
      }
      const free = view.seats.some((one) => one.kind === "free");
      const mine = seat === null ? null : view.seats[seat];
      if (mine !== null && mine.character !== picked) {
        picked = mine.character;
        for (const input of roster.querySelectorAll("input")) input.checked = Number(input.value) === picked;
      }
      roster.hidden = mine === null;
      roster.disabled = mine?.ready ?? false;
      invitation.hidden = !free || mine === null;
      join.hidden = mine !== null || !free;
      start.hidden = mine === null;
      startable = mine !== null && !mine.ready && mine.character !== null && !free;
      start.disabled = !startable;
      setText(note,
        mine === null ? (free ? "A seat is open." : "Both seats are taken. You watch; the match starts when both are ready.")
          : free ? "Waiting for the second player."
            : mine.ready ? "Waiting for the other player to press start."
              : mine.character === null ? "Choose a fighter." : "");
    },
    close() {
      stopPoll();
      window.removeEventListener("keydown", key);
      for (const one of panels) one.close();
    },
  };
}
