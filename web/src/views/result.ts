/** After the match: who won, by how much, and what next. */
import { h } from "../dom";
import { duration, reasonWords } from "../format";
import { bodyById } from "../melee/characters";
import { stageById } from "../melee/stages";
import type { ResultView } from "../net/api";
import { vectorSvg } from "../render/vector";
import { copyText } from "./lobby";

export interface ResultActions { rematch: (() => void) | null; leave(): void }

export function resultPanel(result: ResultView, actions: ResultActions): HTMLElement {
  const winner = result.winner;
  const rows = [0, 1].map((seat) => h("tr", { class: winner === seat ? `won p${seat + 1}` : `p${seat + 1}` },
    h("th", { scope: "row" }, h("b", null, `P${seat + 1}`), " ", bodyById(result.characters[seat]).name),
    h("td", null, h("span", { class: "pips", "aria-label": `${result.stocks[seat]} stocks` }, "◆".repeat(result.stocks[seat]) || "—")),
    h("td", null, `${result.percent[seat].toFixed(0)} %`)));
  const link = h("input", { class: "link", readonly: true, "aria-label": "Link to the replay", value: `${location.origin}${location.pathname}#/r/${result.replay ?? ""}`, onfocus: () => link.select() });
  const copy = h("button", { class: "plain", onclick: () => void copyText(link, copy) }, "Copy link");
  return h("section", { class: `result ${winner === null ? "" : `p${winner + 1}`}`, role: "dialog", "aria-label": "Result" },
    vectorSvg(winner === null ? "DRAW" : "GAME!", "game-set"),
    h("p", { class: "winner" }, winner === null ? "Nobody wins" : h("span", null, h("b", null, bodyById(result.characters[winner]).name), " wins")),
    h("table", null, h("thead", null, h("tr", null, h("th", null, "Seat"), h("th", null, "Stocks"), h("th", null, "Percent"))), h("tbody", null, rows)),
    h("p", { class: "facts" }, `${duration(result.frames)} · ${reasonWords(result.reason)} · ${stageById(result.stage).name} · unlearned rules fired ${result.rule_hits} times`),
    h("div", { class: "actions" },
      actions.rematch !== null && h("button", { class: "coin", onclick: actions.rematch }, h("span", null, "Rematch")),
      result.replay !== null && h("a", { class: "button", href: `#/r/${result.replay}` }, "Watch the replay"),
      h("button", { class: "plain", onclick: actions.leave }, "Arcade")),
    result.replay !== null
      ? h("div", { class: "share" }, link, copy)
      : h("p", { class: "facts" }, "The replay is being stored …"));
}
