/** Who pays, what it holds, what it has played. */
import { h, replace, setText } from "../dom";
import { arcade } from "../net/arcade";
import { words, type ReplayEntry } from "../net/api";
import { sol } from "../net/chain/chain";
import type { Leave } from "../router";
import { replayRow, rows } from "./matches";

export function wallet(main: HTMLElement): Leave {
  const { chain } = arcade;
  if (chain === null) {
    replace(main, h("section", { class: "page" }, h("h1", null, "No wallet"), h("p", null, "This arcade runs on no chain: nobody pays for anything.")));
    return () => undefined;
  }
  const { wallets } = chain;
  const status = h("p", { role: "status", class: "problem" });
  const holds = h("b", null, "…");
  const owner = h("div", null);
  const picks = h("div", { class: "wallets" });
  const matches = h("ul", { class: "rows" });
  const open = h("ul", { class: "rows" });
  let all: ReplayEntry[] = [];

  async function balance(): Promise<void> {
    try {
      setText(holds, sol(await chain!.balance(wallets.current().address)));
    } catch (error) {
      setText(holds, words(error));
    }
  }

  async function attempt(work: () => Promise<void>): Promise<void> {
    setText(status, "");
    try {
      await work();
    } catch (error) {
      setText(status, words(error));
    }
    draw();
  }

  /** Sessions that hold this wallet's deposits and have not begun. */
  async function drawOpen(): Promise<void> {
    const sessions = (await arcade.sessions()).filter((view) => view.payer === wallets.current().address && (view.status === "open" || view.status === "picking"));
    replace(open, rows(sessions.map((view) => h("li", null, h("a", { href: `#/s/${view.session}` }, h("code", null, view.code ?? ""), "waits for players"), h("button", { class: "plain", onclick: (event: Event) => { (event.target as HTMLButtonElement).disabled = true; void attempt(() => chain!.cancel(view.session)); } }, "Close it"))), "None."));
  }

  function draw(): void {
    void drawOpen().catch((error: unknown) => setText(status, words(error)));
    const current = wallets.current();
    replace(owner,
      h("p", { class: "lead" }, h("b", null, current.name), " ", h("code", null, current.address)),
      h("p", null, "It holds ", holds, chain!.playMoney ? " of play money." : "."),
      current.burner && h("p", { class: "facts" }, "Burner: its key lies in this browser's storage and nowhere else. Clear the storage and it is gone; send it nothing of worth."));
    replace(picks,
      [null, ...wallets.others()].map((name) => {
        const chosen = name === null ? current.burner : current.name === name;
        return h("button", { class: "plain", disabled: chosen, onclick: () => void attempt(() => wallets.use(name)) }, chosen ? "✓ " : "", name ?? "Burner wallet");
      }),
      wallets.others().length === 0 && h("p", { class: "facts" }, "No wallet that speaks the Wallet Standard is installed in this browser (Phantom, Backpack and Solflare do). The burner is enough to play."));
    const mine = all.filter((entry) => entry.wallets?.includes(current.address));
    replace(matches, rows(mine.map(replayRow), "It has played no match that was settled."));
    void balance();
  }

  replace(main, h("article", { class: "page wide" },
    h("h1", null, "Wallet"), owner, status,
    h("h2", null, "Which one"), picks,
    h("h2", null, "What it signs"),
    h("p", null, "Opening, taking a seat, forking, retiring. While you play, a key made for that one session signs your inputs; it can do nothing else."),
    h("h2", null, "Its open sessions"), h("p", { class: "facts" }, "They hold deposits that come back when they are played, or closed."), open,
    h("h2", null, "Its matches"), matches));
  draw();
  arcade.replays().then((found) => { all = found; draw(); }, (error: unknown) => setText(status, words(error)));
  const stop = wallets.onChange(draw);
  const timer = window.setInterval(() => void balance(), 5000);
  return () => { stop(); window.clearInterval(timer); };
}
