/** One world on L1: lineage, rent against fees, hashes, matches, who wins; fork it, retire it. */
import { h, replace, setText } from "../dom";
import { count } from "../format";
import { arcade } from "../net/arcade";
import { words, type ReplayEntry } from "../net/api";
import { LAMPORTS_PER_SOL, short, sol } from "../net/chain/chain";
import { fork, forkCost, retire, worldPage, type WorldPage } from "../net/chain/worlds";
import type { Chain } from "../net/chain/chain";
import { navigate, type Leave } from "../router";
import { readout, replayRow, rows } from "./matches";

const MOST_MATCHES = 24;

function lineage(page: WorldPage, at: string): HTMLElement {
  const line = [...page.ancestors].reverse();
  return h("ol", { class: "lineage" },
    line.map(({ address, name }) => h("li", null, name === null ? h("span", { class: "none" }, `${short(address)}, retired`) : h("a", { href: `#/w/${address}` }, name, " ", h("code", null, short(address))))),
    h("li", { "aria-current": "true" }, h("b", null, page.name), " ", h("code", null, short(at))));
}

function scores(page: WorldPage): HTMLElement {
  if (page.scores.length === 0) return h("p", { class: "none" }, "No match of it has been settled yet.");
  return h("table", { class: "scores" },
    h("thead", null, h("tr", null, ["Player", "Wins", "Losses", "Draws", "Left"].map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", null, page.scores.map((score) => h("tr", null,
      h("th", { scope: "row" }, h("code", { title: score.wallet }, short(score.wallet))), [score.wins, score.losses, score.draws, score.left].map((value) => h("td", null, String(value)))))));
}

/** What a fork costs, its name, and the button that pays. */
function forkForm(chain: Chain, at: string, page: WorldPage): HTMLElement {
  const name = h("input", { id: "fork-name", maxlength: 32, value: `${page.name}-2`.slice(0, 32), autocomplete: "off" });
  const fee = h("input", { id: "fork-fee", type: "number", min: 0, step: "any", value: 0 });
  const cost = h("p", { class: "facts" }, "Asking what it costs …");
  const state = h("p", { role: "status" });
  const go = h("button", { type: "submit" }, "Fork this world");
  forkCost(chain, at).then(
    ({ deposit, fees, transactions }) => setText(cost, `${sol(deposit)} deposit, returned when the fork is retired; ${sol(fees)} fees for ${transactions} transactions.`),
    (error: unknown) => setText(cost, words(error)));
  async function submit(): Promise<void> {
    go.disabled = true;
    try {
      const lamports = BigInt(Math.round(Number(fee.value) * Number(LAMPORTS_PER_SOL)));
      const made = await fork(chain, at, name.value.trim(), lamports, (done, of) => setText(state, `Transaction ${done} of ${of} …`));
      navigate(`/w/${made}`);
    } catch (error) {
      setText(state, words(error));
      go.disabled = false;
    }
  }
  return h("form", { class: "fork", onsubmit: (event: Event) => { event.preventDefault(); void submit(); } },
    h("label", { for: "fork-name" }, "Name"), name, h("label", { for: "fork-fee" }, "Fee a session, SOL"), fee, go, cost, state);
}

function retireButton(chain: Chain, at: string, page: WorldPage): HTMLElement {
  const state = h("span", { role: "status" });
  const go = h("button", { class: "plain", onclick: () => void ask() }, "Retire it");
  async function ask(): Promise<void> {
    const dialog = h("dialog", { class: "ask", onclose: () => { if (dialog.returnValue === "retire") void close(); dialog.remove(); } },
      h("form", { method: "dialog" }, h("p", null, `Close every account of ${page.name}? ${sol(page.rent)} come back to you. Nobody can play it any more; its matches can still be checked with the cartridge.`), h("button", { value: "keep", class: "plain" }, "Keep it"), h("button", { value: "retire" }, "Retire")));
    document.body.append(dialog);
    dialog.showModal();
  }
  async function close(): Promise<void> {
    go.disabled = true;
    setText(state, "Closing …");
    try {
      const back = await retire(chain, at);
      setText(state, `Retired. ${sol(back)} came back.`);
    } catch (error) {
      setText(state, words(error));
      go.disabled = false;
    }
  }
  return h("p", { class: "retire" }, go, " ", state);
}

function draw(main: HTMLElement, chain: Chain, at: string, page: WorldPage, matches: ReplayEntry[]): void {
  const { manifest, feesEarned, fee, liveSessions, created } = page.account;
  const mine = manifest.owner === chain.wallets.current().address;
  const share = page.rent > 0n ? Number((feesEarned * 10_000n) / page.rent) / 100 : 0;
  replace(main, h("article", { class: "page wide" },
    h("h1", null, page.name),
    h("p", { class: "lead" }, h("code", null, at), " · owned by ", mine ? "you" : h("code", { title: manifest.owner }, short(manifest.owner))),
    h("p", null, h("a", { class: "button", href: "#/" }, "Play it in the arcade")),
    h("dl", { class: "readouts" },
      readout("Matches settled", count(Number(page.account.matches)), `${liveSessions} open now`),
      readout("Rent locked", sol(page.rent), "the owner's again when it is retired"),
      readout("Fees earned", sol(feesEarned), `${share.toFixed(2)} % of the rent; ${sol(fee)} a session`),
      readout("Parameters", count(Number(manifest.parameters)), `${manifest.layers} layers × ${manifest.dModel}`),
      readout("On L1 since", new Date(Number(created) * 1000).toLocaleDateString("en", { dateStyle: "medium" }))),
    h("section", null, h("h2", null, "Lineage"), lineage(page, at), h("p", { class: "facts" }, "A fork names its parent. That is a hint: nothing keeps the parent there.")),
    h("section", null, h("h2", null, "Leaderboard"), scores(page)),
    h("section", null, h("h2", null, "Matches"), h("ul", { class: "rows" }, rows(matches.slice(0, MOST_MATCHES).map(replayRow), "None has been settled yet."))),
    h("section", null, h("h2", null, "Fork"), h("p", null, "A copy under your own name, with your own fee. It is copied on the chain, so nothing is uploaded."), forkForm(chain, at, page)),
    h("section", null, h("h2", null, "Accounts"),
      h("p", null, "Merkle root ", h("code", { class: "hash" }, page.root)),
      h("ul", { class: "accounts" }, page.accounts.map(({ address, lamports }, index) => h("li", null, index === 0 ? "world " : `shard ${index - 1} `, h("code", { class: "hash" }, address), ` ${sol(lamports)}`))),
      mine && retireButton(chain, at, page))));
}

export function world(main: HTMLElement, at: string): Leave {
  let gone = false;
  const { chain } = arcade;
  replace(main, h("p", { class: "notice" }, "Reading L1 …"));
  async function load(): Promise<void> {
    try {
      if (chain === null) throw new Error("This arcade runs on no chain, so its worlds have no page.");
      const [page, matches] = await Promise.all([worldPage(chain, at), arcade.replays()]);
      if (!gone) draw(main, chain, at, page, matches.filter((entry) => entry.world === at));
    } catch (error) {
      if (!gone) replace(main, h("section", { class: "page" }, h("h1", null, "No such world"), h("p", null, words(error)), h("p", null, h("a", { class: "button", href: "#/" }, "Back to the arcade"))));
    }
  }
  void load();
  return () => { gone = true; };
}
