/** The shelf: worlds, what they are worth, and the slot for a quarter. */
import { emptyState } from "../abi";
import { h, prefersReducedMotion, replace, setText } from "../dom";
import { bytes, count, duration, seatWords } from "../format";
import { bodyById } from "../melee/characters";
import { stageById } from "../melee/stages";
import { readFidelity, type Fidelity } from "../fidelity";
import { arcade } from "../net/arcade";
import { words, type MatchView, type Opponent, type World } from "../net/api";
import { createGame } from "../render/game";
import { navigate, type Leave } from "../router";
import { stateSource, type Source } from "../source";
import { choice } from "../ui/choice";
import { loop, onResize } from "../ui/loop";
import { stageIcon } from "../ui/stageicon";
import { readout, replayRow, rows } from "./matches";

const REFRESH_MS = 4000;
/** How often L1 is asked for worlds. */
const LOOK_MS = 2000;
const STORE = "worldline.quarter";
/** Shorter matches do not make a preview, frames. */
const WORTH_SHOWING = 900;

const OPPONENTS: { value: Opponent; label: string; hint: string }[] = [
  { value: "human", label: "A friend", hint: "by link" },
  { value: "policy", label: "Policy", hint: "learned" },
  { value: "ghost", label: "Ghost", hint: "recorded" },
  { value: "random", label: "Random", hint: "button mash" },
];

interface Wish { opponent: Opponent; stage: number }

function remembered(): Wish {
  try {
    return { opponent: "human", stage: 31, ...(JSON.parse(localStorage.getItem(STORE) ?? "{}") as Partial<Wish>) };
  } catch {
    return { opponent: "human", stage: 31 };
  }
}

/** Plays recorded frames round and round behind the title. */
function attract(canvas: HTMLCanvasElement, caption: HTMLElement): { play(source: Source, title: string): void; close: Leave } {
  const game = createGame(canvas, { hud: false, reserve: 0.3 });
  const state = emptyState();
  let source: Source | null = null;
  let index = 0;
  let last = 0;
  const stop = loop((now) => {
    if (source === null || now - last < 15) return;
    last = now;
    if (prefersReducedMotion() && index > 0) return;
    source.read(index, state);
    game.show(state);
    index = (index + 1) % source.length;
  });
  const unfit = onResize(canvas, () => game.resize());
  return {
    play(next, title) {
      source = next;
      index = 0;
      replace(caption, title);
    },
    close() { stop(); unfit(); },
  };
}

/**
 * The clip that ships with the site, shown until the arcade has a match of its own: fifteen
 * seconds of a human match (replay 119563636af6b0b2, MIT), states only, gzip.
 */
async function shippedClip(): Promise<Source> {
  const response = await fetch("./attract.bin");
  if (response.body === null || !response.ok) throw new Error("no clip");
  return stateSource(await new Response(response.body.pipeThrough(new DecompressionStream("gzip"))).arrayBuffer());
}

function matchTitle(stage: number, characters: readonly (number | null)[]): string {
  const names = characters.map((id) => (id === null ? "?" : bodyById(id).name));
  return `${names[0]} v ${names[1]} · ${stageById(stage).name}`;
}

/** Position error over 20 frames beside the two baselines: shorter is better. */
function fidelityBars(fidelity: Fidelity): HTMLElement | null {
  if (fidelity.baselines.length === 0) return null;
  const rows = [{ name: "this world", rc20: fidelity.rc20 }, ...fidelity.baselines];
  const most = Math.max(...rows.map((row) => row.rc20));
  return h("figure", { class: "bars" },
    h("figcaption", null, `Mean position error over 20 frames played forward${fidelity.starts === null ? "" : ` from ${count(fidelity.starts)} places in matches it never saw`}, in game units. Shorter is better.`),
    rows.map(({ name, rc20 }, i) => h("div", { class: i === 0 ? "bar own" : "bar" }, h("span", null, name), h("i", { style: `width:${((rc20 / most) * 100).toFixed(1)}%` }), h("b", null, rc20.toFixed(2)))));
}

function plate(world: World): HTMLElement {
  const fidelity = readFidelity(world.fidelity);
  const { training } = world;
  const licences = Array.isArray(training.licences) ? training.licences.join(", ") : typeof training.licences === "string" ? training.licences : "listed beside the cartridge";
  return h("section", { class: "plate", "aria-labelledby": "plate-title" },
    h("h2", { id: "plate-title" }, "The cartridge ", h("em", null, world.name)),
    world.description !== null && h("p", { class: "lead" }, world.description),
    world.onChain !== undefined && h("p", null, h("a", { href: `#/w/${world.id}` }, "Its page on L1"), ": lineage, rent, leaderboard, and how to fork it."),
    h("dl", { class: "readouts" },
      readout("Parameters", count(world.parameters), `${bytes(world.bytes)} of integers`),
      readout("Layers", `${world.layers} × ${world.d_model}`, `state ${world.d_state}`),
      readout("Work per frame", count(world.macs), "multiplications"),
      readout("Learned from", `${count(training.matches)} matches`, `${count(training.frames)} frames, ${licences}`),
      fidelity !== null && [readout("RC5", fidelity.rc5.toFixed(2), "units off, 5 frames"), readout("RC20", fidelity.rc20.toFixed(2), "units off, 20 frames")],
      fidelity !== null && fidelity.actionAt10 !== null && readout("Action right", `${(fidelity.actionAt10 * 100).toFixed(0)} %`, "after 10 frames"),
      fidelity === null && readout("Fidelity", "not measured", "a world for tests")),
    h("div", { class: "plate-cols" },
      fidelity !== null && fidelityBars(fidelity),
      h("div", { class: "rules" },
        h("h3", null, `${world.rules.length} ${world.rules.length === 1 ? "rule is" : "rules are"} not learned`),
        h("ul", null, world.rules.map((rule) => h("li", null, h("b", null, rule.name), " ", rule.why))),
        h("p", { class: "root" }, "Merkle root ", h("code", { title: world.root }, `${world.root.slice(0, 16)}…`)))));
}

function liveRow(view: MatchView): HTMLElement {
  const open = view.seats.some((seat) => seat.kind === "free");
  return h("li", null, h("a", { href: `#/s/${view.session}` },
    h("code", null, view.code ?? view.session),
    h("span", null, stageById(view.stage).name),
    h("span", null, view.seats.map((seat) => (seat.character === null ? seatWords(seat.kind) : bodyById(seat.character).name)).join(" v ")),
    h("span", { class: "go" }, open ? "Take the open seat" : view.status === "active" ? `Watch · ${duration(view.frame)}` : "Watch")));
}

export function shelf(main: HTMLElement): Leave {
  const wish = remembered();
  let world: World | null = null;
  let closed = false;

  const canvas = h("canvas", { class: "attract", "aria-label": "A match of a learned world, playing by itself" });
  const caption = h("p", { class: "caption" }, "warming up");
  const problem = h("p", { class: "problem", role: "alert" });
  const picks = h("div", { class: "picks" });
  const plates = h("div", null);
  const live = h("ul", { class: "rows" });
  const replays = h("ul", { class: "rows" });
  const price = h("p", { class: "price" });
  const coinNote = h("small", { role: "status" }, "");
  const insert = h("button", { class: "coin", disabled: true, onclick: insertQuarter }, h("span", null, "Insert quarter"), coinNote);
  const code = h("input", { id: "code", class: "code", maxlength: 6, placeholder: "K7WQ2M", autocomplete: "off", autocapitalize: "characters", spellcheck: "false", "aria-describedby": "code-help" });
  const join = h("form", { class: "join", onsubmit: (event: Event) => { event.preventDefault(); openCode(); } },
    h("label", { for: "code" }, "Session id"), code, h("button", null, "Join"), h("small", { id: "code-help" }, "six letters and digits from a friend"));

  function openCode(): void {
    const text = code.value.trim().toUpperCase();
    if (/^[A-Z2-9]{6}$/.test(text)) arcade.find(text).then((session) => navigate(`/s/${session}`), (error: unknown) => replace(problem, words(error)));
    else replace(problem, `“${code.value}” is not a session id. It has six letters and digits, for example K7WQ2M.`);
  }

  async function insertQuarter(): Promise<void> {
    if (world === null) return;
    insert.disabled = true;
    replace(problem);
    try {
      localStorage.setItem(STORE, JSON.stringify(wish));
      const session = await arcade.create(world, wish.stage, wish.opponent, (step) => setText(coinNote, step));
      navigate(`/s/${session}`);
    } catch (error) {
      setText(coinNote, "");
      replace(problem, words(error));
      insert.disabled = false;
    }
  }

  function choose(next: World, all: World[]): void {
    world = next;
    if (!next.stages.some((stage) => stage.id === wish.stage)) wish.stage = next.stages[0]?.id ?? 31;
    replace(picks,
      choice("World", all.map((one) => ({ value: one, label: one.name, hint: one.onChain === undefined ? `${count(one.parameters)} parameters` : `${count(one.onChain.matches)} matches` })), next, "worlds", (one) => choose(one, all)),
      choice("Against", OPPONENTS, wish.opponent, "opponents", (value) => { wish.opponent = value; }),
      choice("Stage", next.stages.map((stage) => ({ value: stage.id, label: stageIcon(stage.id), hint: stageById(stage.id).name })), wish.stage, "stages", (value) => { wish.stage = value; }));
    arcade.price(next).then((text) => { if (world === next) setText(price, text); }, (error: unknown) => setText(price, words(error)));
    replace(plates, plate(next));
    insert.disabled = false;
  }

  async function refresh(): Promise<void> {
    try {
      const [sessions, stored] = await Promise.all([arcade.sessions(), arcade.replays()]);
      if (closed) return;
      const running = sessions.filter((view) => view.status !== "ended");
      replace(live, rows(running.map(liveRow), "Nobody plays right now. Insert a quarter and be the first."));
      replace(replays, rows(stored.slice(0, 12).map(replayRow), "No match has been played here yet."));
    } catch (error) {
      if (!closed) replace(live, h("li", { class: "none" }, words(error)));
    }
  }

  main.classList.add("shelf");
  replace(main,
    h("div", { class: "hero" },
      h("div", { class: "tube" }, canvas, caption,
        h("div", { class: "title" }, h("h1", null, "No engine. A network", h("br"), "learned this game."), h("p", null, "Its physics come from replays of human matches. Play it at sixty frames a second."))),
      h("div", { class: "slot" }, picks, problem, insert, price, join)),
    plates,
    h("div", { class: "lists" },
      h("section", { "aria-labelledby": "live-title" }, h("h2", { id: "live-title" }, "On now"), live),
      h("section", { "aria-labelledby": "replays-title" }, h("h2", { id: "replays-title" }, "Replays"), replays)));

  const show = attract(canvas, caption);

  async function preview(): Promise<void> {
    try {
      const latest = (await arcade.replays()).find((entry) => entry.world !== null && entry.result.frames > WORTH_SHOWING && entry.result.replay !== null);
      if (latest !== undefined) {
        const source = stateSource(await arcade.replayStates(latest.id));
        if (!closed) show.play(source, `Replay ${latest.code ?? latest.id} · ${matchTitle(latest.result.stage, latest.result.characters)}`);
        return;
      }
    } catch {
      // No replay to show: the shipped clip stands in.
    }
    try {
      show.play(await shippedClip(), "Attract mode · a human match, recorded");
    } catch {
      replace(caption, "no signal");
    }
  }

  let shelved: World[] = [];

  /** Shows the worlds when they are not those that are shown: on a chain they come and go. */
  async function load(): Promise<void> {
    try {
      const worlds = (await arcade.worlds()).filter((one) => one.kind === "world");
      if (closed) return;
      if (worlds.length === 0) replace(problem, arcade.chain === null ? "This arcade has no world on its shelf. Start it with a cartridge, for example worlds/melee.cart." : "The arcade is putting its worlds onto L1 …");
      else if (worlds.length !== shelved.length || worlds.some((one) => shelved.every((other) => other.id !== one.id))) {
        if (shelved.length === 0) replace(problem);
        choose(worlds.find((one) => one.id === world?.id) ?? worlds[0], worlds);
      }
      shelved = worlds;
    } catch (error) {
      if (!closed) replace(problem, words(error), " ", h("button", { class: "plain", onclick: () => void load() }, "Try again"));
    }
  }

  void load();
  void refresh();
  void preview();
  const looking = arcade.chain === null ? 0 : window.setInterval(() => void load(), LOOK_MS);
  const timer = window.setInterval(() => void refresh(), REFRESH_MS);
  return () => {
    closed = true;
    window.clearInterval(timer);
    window.clearInterval(looking);
    show.close();
  };
}
