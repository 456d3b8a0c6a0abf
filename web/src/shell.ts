/** What stands around every view: header, main, footer. */
import { h } from "./dom";
import { arcade, hasWorlds } from "./net/arcade";
import { vectorSvg } from "./render/vector";

const LINKS: [href: string, label: string][] = [["#/", "Arcade"], ["#/file", "Open file"], ["#/controls", "Controls"], ["#/about", "About"]];

export function shell(root: HTMLElement): { main: HTMLElement; mark(path: string): void } {
  const wallet: [href: string, label: string][] = arcade.chain === null ? [] : [["#/wallet", "Wallet"]];
  const code: [href: string, label: string][] = hasWorlds ? [["#/worlds", "Worlds"], ["#/api", "API"]] : [];
  const links = [...LINKS, ...code, ...wallet].map(([href, label]) => h("a", { href }, label));
  const main = h("main", { id: "main", tabindex: -1 });
  root.replaceChildren(
    h("header", { class: "top" }, h("a", { class: "brand", href: "#/", "aria-label": "Worldline, to the arcade" }, vectorSvg("WORLDLINE", "wordmark")), h("nav", { "aria-label": "Site" }, links)),
    main,
    h("footer", { class: "foot" },
      h("p", null, "Not affiliated with Nintendo, Slippi, Morph Labs, AWS or MagicBlock. No game assets: every line on the tube is drawn here."),
      h("p", null, "Physics learned from replays of human matches. ", h("a", { href: "#/about" }, "What is learned, what is not, whom you trust"), ".")),
  );
  return {
    main,
    mark(path) {
      for (const link of links) {
        if (link.getAttribute("href") === `#${path === "" ? "/" : path}`) link.setAttribute("aria-current", "page");
        else link.removeAttribute("aria-current");
      }
    },
  };
}
