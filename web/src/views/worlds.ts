/** Worlds of code: where each came from, what it says, and what two of them do differently. */
import { h, replace, setText } from "../dom";
import { words } from "../net/api";
import { type Execution, type WorldNode, worldsApi } from "../net/worlds";
import type { Leave } from "../router";
import { drawLineage } from "../ui/lineage";

const REFRESH_MS = 2000;
const BRANCHES = 3;
const EXAMPLE = "import os\nprint(os.getpid())";

function shown(done: Execution): HTMLElement {
  return h("div", { class: `cell ${done.status}` },
    h("p", { class: "facts" }, `[${done.execution_count}] ${done.status} in ${(done.execution_time * 1000).toFixed(1)} ms`),
    done.output !== "" && h("pre", null, done.output),
    done.images.map((image) => h("img", { src: `data:image/png;base64,${image}`, alt: "A figure that the cell drew" })));
}

export function worlds(main: HTMLElement): Leave {
  let nodes: WorldNode[] = [];
  let picked: string[] = [];
  let drawn = "";
  let gone = false;

  const map = h("div", { class: "map" });
  const desk = h("section", { class: "desk-of-one", "aria-live": "polite" });
  const problem = h("p", { class: "problem", role: "alert" });
  const code = h("textarea", { rows: 5, spellcheck: "false", "aria-label": "Python cell" }, EXAMPLE);
  const output = h("div", { class: "cells" });

  const one = (): WorldNode | undefined => nodes.find((node) => node.id === picked.at(-1));

  async function attempt(work: () => Promise<unknown>): Promise<void> {
    setText(problem, "");
    try {
      await work();
    } catch (error) {
      setText(problem, words(error));
    }
    await refresh();
  }

  function choose(id: string): void {
    // The two that were chosen last can be compared.
    picked = picked.at(-1) === id ? picked : [...picked.filter((other) => other !== id), id].slice(-2);
    draw(true);
  }

  async function compare(): Promise<void> {
    const [a, b] = picked;
    const { equal, depth, first } = await worldsApi.diff(a, b);
    replace(output, h("p", null, equal ? `No step tells them apart (${depth} compared).` : first === null ? "They differ." : `They part at step ${first[0]}.`),
      first !== null && h("div", { class: "sides" }, [first[1], first[2]].map((step, side) => h("div", null, h("h3", null, picked[side]), h("pre", null, step ?? "took no further step")))));
  }

  function drawDesk(): void {
    const node = one();
    if (node === undefined) {
      replace(desk, h("p", { class: "none" }, nodes.length === 0 ? "No world yet." : "Pick a world in the lineage."));
      return;
    }
    const { id, state, kind, metadata, trit } = node;
    const button = (label: string, work: () => Promise<unknown>): HTMLElement => h("button", { class: "plain", onclick: () => void attempt(work) }, label);
    const running = state === "running" && kind !== "match";
    const cells = h("div", null, code, h("button", { onclick: () => void attempt(async () => replace(output, shown(await worldsApi.run(id, code.value)))) }, "Run"));
    replace(desk,
      h("h2", null, h("em", null, metadata["name"] ?? id)),
      h("p", { class: "facts" }, `${kind}, ${state}, trit ${trit}`, Object.entries(metadata).map(([key, value]) => ` · ${key} ${value}`)),
      h("p", { class: "actions" },
        running && [button("Snapshot", () => worldsApi.snapshot(id)), button(`Branch ${BRANCHES} ways`, () => worldsApi.branch(id, BRANCHES)), button("Pause", () => worldsApi.pause(id))],
        state === "paused" && button("Resume", () => worldsApi.resume(id)),
        state === "snapshotted" && button("Start a world from it", () => worldsApi.boot(id)),
        (running || state === "paused") && button("Stop", () => worldsApi.stop(id)),
        picked.length === 2 && button("Compare with the one before", compare)),
      running && cells, output);
  }

  function draw(force = false): void {
    const now = JSON.stringify(nodes);
    if (now === drawn && !force) return;
    drawn = now;
    replace(map, nodes.length === 0 ? h("p", { class: "none" }, "Nothing has been created.") : drawLineage(nodes, picked, choose));
    // A cell that is being written stays.
    if (force || document.activeElement !== code) drawDesk();
  }

  async function refresh(): Promise<void> {
    try {
      nodes = await worldsApi.tree();
      if (!gone) draw();
    } catch (error) {
      if (!gone) setText(problem, words(error));
    }
  }

  main.classList.add("worlds");
  replace(main, h("article", { class: "page wide" },
    h("h1", null, "Worlds"),
    h("p", { class: "lead" }, "Isolated machines that run code. Each can be kept and branched; a branch goes its own way, and its parent never changes."),
    h("p", null, h("button", { onclick: () => void attempt(async () => { const { id } = await worldsApi.create(); await refresh(); choose(id); }) }, "New world")),
    problem, map, desk));
  void refresh();
  const timer = window.setInterval(() => void refresh(), REFRESH_MS);
  return () => { gone = true; window.clearInterval(timer); };
}
