/**
 * What the pages need of an arcade, whoever runs its matches: this machine's own engine, or a rollup.
 */
import { api, type MatchView, type Opponent, type ReplayEntry, type Verdict, type World } from "./api";
import type { Live, LiveEvents } from "./live";
import { connect } from "./live";
import { type HeldSeat, heldSeat, holdSeat } from "./seats";
import { newKey } from "./signing";
import type { Chain } from "./chain/chain";

export interface Arcade {
  /** What only a chain has; `null` where matches run natively. */
  readonly chain: Chain | null;
  worlds(): Promise<World[]>;
  sessions(): Promise<MatchView[]>;
  session(session: string): Promise<MatchView>;
  /** What a session of a world takes, and from whom, in words. */
  price(world: World): Promise<string>;
  /** Opens a session and sits down; `told` hears how far it is. */
  create(world: World, stage: number, opponent: Opponent, told: (step: string) => void): Promise<string>;
  /** Takes the open seat. */
  join(session: string): Promise<HeldSeat | null>;
  connect(session: string, held: HeldSeat | null, events: LiveEvents): Live;
  replays(): Promise<ReplayEntry[]>;
  replayStates(replay: string): Promise<ArrayBuffer>;
  verify(replay: string): Promise<Verdict>;
  framesUrl(replay: string): string;
  /** The session that people call by a short code. */
  find(code: string): Promise<string>;
  /** A session's or replay's name as it stands in addresses. */
  named(text: string): string;
}

function native(): Arcade {
  return {
    ...api,
    chain: null,
    async create(world, stage, opponent) {
      const key = newKey();
      const grant = await api.create(world.id, stage, key.publicHex, opponent);
      holdSeat(grant, key.secret);
      return grant.session;
    },
    async join(session) {
      const key = newKey();
      holdSeat(await api.join(session, key.publicHex), key.secret);
      return heldSeat(session);
    },
    connect,
    price: () => Promise.resolve("free play"),
    find: (code) => Promise.resolve(code),
    named: (text) => text.toUpperCase(),
  };
}

/** The arcade that this site belongs to; set before the first page. */
export let arcade: Arcade;
/** Whether worlds of code run here too. */
export let hasWorlds = false;

/** Asks the server who runs its matches. */
export async function openArcade(): Promise<void> {
  const about = await api.about();
  hasWorlds = about.worlds;
  arcade = about.chain === null ? native() : await (await import("./chain/arcade")).chainArcade(about.chain);
}
