/** What has to be said out loud. */
import { h, replace } from "../dom";
import { arcade } from "../net/arcade";
import type { World } from "../net/api";
import type { Leave } from "../router";

function rules(world: World): HTMLElement {
  return h("div", null, h("h3", null, world.name), h("ul", null, world.rules.map((rule) => h("li", null, h("b", null, rule.name), ": ", rule.why))));
}

export function about(main: HTMLElement): Leave {
  const unlearned = h("div", null);
  replace(main, h("article", { class: "page" },
    h("h1", null, "What this is"),
    h("p", { class: "lead" }, "A world is a state and a step. Here the step is a neural network: it read what players pressed and what happened next, in replays of human matches, and learned the physics from that. No game engine runs on this machine."),
    h("h2", null, "Whose it is not"),
    h("p", null, "There is no affiliation with Nintendo, Slippi, Morph Labs, AWS or MagicBlock. Super Smash Bros. Melee is Nintendo's. No asset of any game is used: the fighters, stages and lettering are line drawings made for this site."),
    h("h2", null, "Where the replays come from"),
    h("p", null, "The shipped worlds were trained on publicly shared Slippi replays under permissive licences (MIT, ISC, Apache); player names were removed. Every match and its licence is listed beside the cartridge in ", h("code", null, "worlds/"), "."),
    h("h2", null, "What is not learned"),
    h("p", null, "A few rules are written, not learned. Each is an entry in the cartridge's schema, is counted while you play (the “rules” readout), and is listed here. The drawn stage is only a drawing: where the ground is, the network knows by itself."),
    unlearned,
    h("h2", null, "What it gets wrong"),
    h("p", null, "It is a learned approximation. Errors grow the longer a situation is unlike the replays: a fighter may slide, a move may end early, a hit may count differently than in the game. The measured errors stand on the shelf beside each world."),
    h("h2", null, "Whom you trust"),
    h("p", null, "Whoever runs this arcade is trusted to include your inputs and to time them fairly. Forged inputs and false frames are caught: your browser signs the running hash of your inputs once a second with a key that never leaves it, and anyone can run a replay again and compare every byte."),
    arcade.chain !== null && [
      h("h2", null, "What lies on chains"),
      h("p", null, "Worlds, results and replays are accounts on L1, here a box on the arcade's own machine. Rent is a deposit; “permanent” means that nobody can delete it for you. A match runs on a rollup: every frame is a transaction, and its state is what you see. The system calls that make a frame fit are shown on this rollup; no public chain has them."),
    ],
    h("p", null, "Licensed Apache-2.0 or MIT, as you like.")));
  let gone = false;
  arcade.worlds().then((worlds) => { if (!gone) replace(unlearned, worlds.filter((world) => world.kind === "world").map(rules)); }, () => undefined);
  return () => { gone = true; };
}
