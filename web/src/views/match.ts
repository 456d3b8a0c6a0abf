/** A live match from lobby to result, for players and watchers. */
import { emptyState, FRAMES_PER_SECOND, readState, Status } from "../abi";
import { h, replace, setText } from "../dom";
import { newController, type Controller } from "../input/controller";
import { touchPad, wantsTouch } from "../input/touch";
import { meter } from "../meter";
import { arcade } from "../net/arcade";
import { words, type MatchView, type ResultView } from "../net/api";
import { chainTag, type Live } from "../net/live";
import { newFrameQueue } from "../net/queue";
import { carrySeat, dropSeat, heldSeat } from "../net/seats";
import { createGame } from "../render/game";
import { vectorSvg } from "../render/vector";
import { navigate, type Leave } from "../router";
import { Cue, play } from "../sound";
import { loop, onResize } from "../ui/loop";
import { soundSwitch } from "../ui/soundswitch";
import { controlsDialog } from "./controls";
import { lobby, type Lobby } from "./lobby";
import { resultPanel } from "./result";

const DELAYS: [frames: number, label: string][] = [[0, "newest"], [1, "even (+1 frame)"], [3, "steady (+3 frames)"]];
const DELAY_STORE = "worldline.delay";
const METERS_MS = 250;
/** What the countdown shows until the first frame says how the match really starts. */
const START_X = 40;
const START_STOCKS = 4;
const START_CLOCK = 8 * 60 * FRAMES_PER_SECOND;

function storedDelay(): number {
  const value = Number(localStorage.getItem(DELAY_STORE) ?? "1");
  return DELAYS.some(([frames]) => frames === value) ? value : 1;
}

/** Whether fighters are chosen: the arena is shown, not the lobby. */
function isPlayed({ status }: MatchView): boolean {
  return status === "active" || status === "ended" || status === "ready";
}

export function match(main: HTMLElement, id: string): Leave {
  const session = arcade.named(id);
  let live: Live | null = null;
  let controller: Controller | null = null;
  let view: MatchView | null = null;
  let held = heldSeat(session);
  let result: ResultView | null = null;
  let gone = false;
  let asked = false;
  let trouble = "";
  let startsAt = 0;

  const state = emptyState();
  const queue = newFrameQueue(storedDelay());
  meter.reset();

  const canvas = h("canvas", { class: "game", "aria-label": "The match" });
  const notice = h("p", { class: "notice", role: "status" });
  const countdown = h("div", { class: "countdown", "aria-live": "assertive" });
  const overlay = h("div", { class: "overlay" });
  const tube = h("div", { class: "tube" }, canvas, countdown, overlay);
  const fps = h("b", null, "–");
  const latency = h("b", null, "–");
  const chain = h("b", null, "–");
  const rules = h("b", null, "0");
  const watchers = h("b", null, "0");
  const delay = h("select", { "aria-label": "Display delay", onchange: () => { localStorage.setItem(DELAY_STORE, delay.value); queue.setDelay(Number(delay.value)); delay.blur(); } },
    DELAYS.map(([frames, label]) => h("option", { value: frames, selected: frames === storedDelay() }, label)));
  const code = h("code", null, "");
  const role = h("span", { class: "role" }, "");
  const quit = h("button", { class: "plain", onclick: () => askQuit() }, "Quit");
  const strip = h("div", { class: "strip" },
    h("span", null, code), role,
    h("span", null, "fps ", fps), h("span", null, "ping ", latency), h("span", { title: "Fingerprint of the chain over every state so far" }, "chain ", chain),
    h("span", { title: "How often a rule that is not learned changed a value" }, "rules ", rules), h("span", null, "watching ", watchers),
    h("span", { class: "grow" }), h("label", null, "display ", delay), soundSwitch(), h("button", { class: "plain", onclick: () => controlsDialog(() => controller?.reloadKeys()) }, "Controls"), quit);
  // A mouse click does not leave the focus on a button: Space and Enter belong to the game.
  strip.addEventListener("click", (event) => { if (event.detail > 0 && event.target instanceof HTMLButtonElement) event.target.blur(); });
  const arena = h("div", { class: "arena", hidden: true }, tube, strip);
  const room: Lobby = lobby(session, held?.invite ?? null, {
    pick: (character) => live?.send({ type: "pick", character }),
    ready: () => live?.send({ type: "ready" }),
    join: () => void join(),
    leave: () => leaveMatch(),
  });
  room.element.hidden = true;
  main.classList.add("match");
  replace(main, notice, room.element, arena);

  const game = createGame(canvas, { hud: true, hear: play });
  const unfit = onResize(canvas, () => game.resize());

  function say(text: string, kind: "" | "bad" = ""): void {
    setText(notice, text);
    notice.className = `notice ${kind}`;
  }

  function sayTrouble(): void {
    say(trouble, trouble === "" ? "" : "bad");
  }

  function leaveMatch(): void {
    if (held !== null && view !== null && view.status !== "ended") live?.send({ type: "quit" });
    navigate("/");
  }

  function askQuit(): void {
    if (held === null || view?.status === "ended") { navigate("/"); return; }
    const dialog = h("dialog", { class: "ask", onclose: () => { if (dialog.returnValue === "quit") live?.send({ type: "quit" }); dialog.remove(); } },
      h("form", { method: "dialog" }, h("p", null, "Quit the match? The other player wins it."), h("button", { value: "stay", class: "plain" }, "Play on"), h("button", { value: "quit" }, "Quit")));
    document.body.append(dialog);
    dialog.showModal();
  }

  async function join(): Promise<void> {
    try {
      held = await arcade.join(session);
      reconnect();
    } catch (error) {
      say(words(error), "bad");
    }
  }

  /** Someone wants a rematch: whoever asked goes there, the others are asked. */
  function rematchAt(next: string): void {
    if (asked) {
      carrySeat(session, next);
      navigate(`/s/${next}`);
    } else if (held !== null) say("The other player wants a rematch.");
    else replace(notice, "There is a rematch: ", h("a", { href: `#/s/${next}` }, "watch it"), ".");
  }

  function askRematch(): void {
    asked = true;
    live?.send({ type: "rematch" });
  }

  function showResult(value: ResultView): void {
    // The first word of a result may come before its replay is stored; the next one has it.
    if (result !== null && (result.replay !== null || value.replay === null)) return;
    result = value;
    document.querySelector(".touchpad")?.remove();
    const panel = resultPanel(value, { rematch: held === null ? null : askRematch, leave: () => navigate("/") });
    replace(overlay, panel);
    panel.querySelector<HTMLElement>("button, a")?.focus();
  }

  /** The stage and its fighters while the countdown runs: no frame has come yet. */
  function showStart(next: MatchView): void {
    state.stage = next.stage;
    state.clock = START_CLOCK;
    state.players.forEach((player, seat) => {
      Object.assign(player, { x: seat === 0 ? -START_X : START_X, facing: seat === 0 ? 1 : -1, stocks: START_STOCKS, character: next.seats[seat].character ?? 0 });
    });
    game.show(state);
  }

  function update(next: MatchView): void {
    view = next;
    if (next.status === "ended" && next.result === null && next.frame === 0) {
      replace(main, h("section", { class: "page" }, h("h1", null, "Closed"), h("p", null, "This session was closed before the match began."), h("p", null, h("a", { class: "button", href: "#/" }, "Back to the arcade"))));
      return;
    }
    const playing = isPlayed(next);
    room.element.hidden = playing;
    if (arena.hidden === playing) {
      arena.hidden = !playing;
      document.body.classList.toggle("playing", playing);
      game.resize();
    }
    if (!playing) room.update(next, held?.seat ?? null);
    controller?.enable(next.status === "active" || next.status === "ready");
    setText(code, next.code ?? next.session);
    setText(watchers, String(next.spectators));
    setText(role, held === null ? "watching" : `P${held.seat + 1}`);
    role.className = `role ${held === null ? "" : `p${held.seat + 1}`}`;
    setText(quit, held === null || next.status === "ended" ? "Arcade" : "Quit");
    startsAt = next.starts_in_ms === null ? 0 : performance.now() + next.starts_in_ms;
    if (next.status === "ready" && state.frame === 0) showStart(next);
    if (next.paused) say("Paused: no player is connected.");
    else if (next.status === "active") {
      const away = next.seats.findIndex((seat) => !seat.cpu && !seat.connected);
      if (away >= 0) say(`P${away + 1} lost the connection. The match waits for nobody; the seat is kept for a while.`);
      else sayTrouble();
    }
    if (next.result !== null) showResult(next.result);
    if (next.rematch !== null) rematchAt(next.rematch);
  }

  function reconnect(): void {
    live?.close();
    controller?.close();
    document.querySelector(".touchpad")?.remove();
    controller = held === null ? null : newController((pad) => live?.pad(pad));
    controller?.enable(view?.status === "active" || view?.status === "ready");
    if (controller !== null && wantsTouch()) tube.after(touchPad(controller.touch, controller.poll));
    live = arcade.connect(session, held, {
      view: update,
      frame: queue.push,
      result: showResult,
      rematch: rematchAt,
      error(code, detail) {
        if (code === "bad_token") { dropSeat(session); held = null; }
        say(detail, "bad");
      },
      trouble(detail) {
        if (detail === trouble) return;
        trouble = detail;
        sayTrouble();
      },
      link(link, detail) {
        say(detail, link === "lost" || link === "closed" ? "bad" : "");
        arena.classList.toggle("offline", link !== "open");
        if (link === "open") { queue.clear(); controller?.refresh(); }
      },
    });
  }

  function showCountdown(now: number): void {
    const left = startsAt === 0 || state.frame > 0 ? 0 : Math.ceil((startsAt - now) / 1000);
    const text = left > 0 ? String(left) : startsAt !== 0 && state.frame > 0 && state.frame < FRAMES_PER_SECOND ? "GO!" : "";
    if (countdown.dataset["text"] === text) return;
    countdown.dataset["text"] = text;
    replace(countdown, text === "" ? null : vectorSvg(text, "count"));
    if (text === "GO!") play(Cue.Go);
  }

  const stopLoop = loop((now) => {
    controller?.poll();
    const message = queue.take(now);
    if (message !== null) {
      readState(message, 4, state);
      game.show(state);
      meter.painted(state.frame, now);
      if (state.status === Status.Ended) setText(chain, chainTag(message));
      else if (state.frame % 30 === 0) { setText(chain, chainTag(message)); setText(rules, String(state.ruleHits)); }
    }
    showCountdown(now);
  });

  const meters = window.setInterval(() => {
    const round = live?.latency() ?? NaN;
    setText(fps, meter.fps > 0 ? meter.fps.toFixed(0) : "–");
    setText(latency, Number.isNaN(round) ? "–" : `${round.toFixed(0)} ms`);
  }, METERS_MS);

  async function load(): Promise<void> {
    try {
      const first = await arcade.session(session);
      if (gone) return;
      update(first);
      if (!isPlayed(first)) {
        const world = (await arcade.worlds()).find((one) => one.id === first.world);
        if (gone) return;
        room.setFighters(world?.characters ?? []);
      }
      reconnect();
    } catch (error) {
      if (!gone) replace(main, h("section", { class: "page" }, h("h1", null, "No such match"), h("p", null, words(error)), h("p", null, h("a", { class: "button", href: "#/" }, "Back to the arcade"))));
    }
  }

  void load();
  return () => {
    gone = true;
    stopLoop();
    unfit();
    window.clearInterval(meters);
    live?.close();
    controller?.close();
    room.close();
    document.body.classList.remove("playing");
  };
}
