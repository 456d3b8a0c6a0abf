/** Rows of matches, for every page that lists some. */
import { h } from "../dom";
import { duration, reasonWords } from "../format";
import { bodyById } from "../melee/characters";
import { stageById } from "../melee/stages";
import type { ReplayEntry } from "../net/api";

export function replayRow(entry: ReplayEntry): HTMLElement {
  const { stage, characters, winner, frames, reason, replay } = entry.result;
  return h("li", null, h("a", { href: replay === null ? `#/s/${entry.id}` : `#/r/${entry.id}` },
    h("code", null, entry.code ?? entry.id),
    h("span", null, stageById(stage).name),
    h("span", null, characters.map((id, seat) => [seat === 1 && " v ", h("span", { class: winner === seat ? `won p${seat + 1}` : "" }, bodyById(id).name)])),
    h("span", { class: "go" }, `${duration(frames)} · ${reasonWords(reason)}`)));
}

export function rows(list: HTMLElement[], none: string): HTMLElement[] {
  return list.length > 0 ? list : [h("li", { class: "none" }, none)];
}

export function readout(label: string, value: string, note?: string): HTMLElement {
  return h("div", { class: "readout" }, h("dt", null, label), h("dd", null, value, note !== undefined && h("small", null, note)));
}
