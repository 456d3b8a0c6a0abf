/** Hash routes. A view fills the main element and answers how to leave it. */
import { h, replace } from "./dom";
import { shell } from "./shell";
import { about } from "./views/about";
import { controlsPage } from "./views/controls";
import { fileView } from "./views/file";
import { match } from "./views/match";
import { replay } from "./views/replay";
import { shelf } from "./views/shelf";
import { apiPage } from "./views/apipage";
import { worlds } from "./views/worlds";
import { wallet } from "./views/wallet";
import { world } from "./views/world";

/** Undoes what the view set up: listeners, loops, sockets. */
export type Leave = () => void;

const ROUTES: [RegExp, (main: HTMLElement, argument: string) => Leave, title: string][] = [
  [/^\/?$/, shelf, "Arcade"],
  [/^\/s\/([A-Za-z0-9]+)$/, match, "Match"],
  [/^\/r\/([A-Za-z0-9]+)$/, replay, "Replay"],
  [/^\/w\/([A-Za-z0-9]+)$/, world, "World"],
  [/^\/worlds$/, worlds, "Worlds"],
  [/^\/api$/, apiPage, "API"],
  [/^\/wallet$/, wallet, "Wallet"],
  [/^\/file$/, fileView, "Open a file"],
  [/^\/controls$/, controlsPage, "Controls"],
  [/^\/about$/, about, "About"],
];

function lost(main: HTMLElement): Leave {
  replace(main, h("section", { class: "page" }, h("h1", null, "Nothing here"), h("p", null, "This address leads to no page. ", h("a", { href: "#/" }, "Back to the arcade"), ".")));
  return () => undefined;
}

export function start(root: HTMLElement): void {
  const { main, mark } = shell(root);
  let leave: Leave = () => undefined;
  let first = true;

  function go(): void {
    const path = location.hash.replace(/^#/, "");
    leave();
    main.replaceChildren();
    main.className = "";
    const route = ROUTES.find(([pattern]) => pattern.test(path));
    document.title = route === undefined ? "Worldline" : `${route[2]} · Worldline`;
    leave = route === undefined ? lost(main) : route[1](main, route[0].exec(path)?.[1] ?? "");
    mark(path);
    window.scrollTo(0, 0);
    if (!first) main.focus({ preventScroll: true });
    first = false;
  }

  // The hash is the route, so the skip link moves the focus itself.
  document.querySelector(".skip")?.addEventListener("click", (event) => {
    event.preventDefault();
    main.focus();
  });
  window.addEventListener("hashchange", go);
  go();
}

/** Opens a route; when it is already open, opens it anew. */
export function navigate(path: string): void {
  if (location.hash === `#${path}`) window.dispatchEvent(new HashChangeEvent("hashchange"));
  else location.hash = path;
}
