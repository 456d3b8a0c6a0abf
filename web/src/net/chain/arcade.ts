/** The arcade on chains: worlds, results and money on L1, matches on a rollup. */
import { type Address, address, createKeyPairSignerFromPrivateKeyBytes, fetchEncodedAccounts, type TransactionSigner } from "@solana/kit";
import {
  fetchMaybeResult, fetchMaybeSession, fetchSession, fetchWorld, findResultPda, findResults, findSessionPda, findSessions, findWorlds, type Found, getJoinSessionInstruction,
  getStateDecoder, lendSession, openSession, parentOf, type Result, type Session, sessionAddresses, sessionCost, sessionId, type World as WorldAccount, worldName,
} from "@worldline/client";
import type { Arcade } from "../arcade";
import { api, ApiError, type ChainAbout, type MatchView, type ReplayEntry, type World } from "../api";
import { heldSeat, holdSeat } from "../seats";
import { openChain, sol } from "./chain";
import { connectChain, type MatchOffice } from "./live";
import { HUMAN, idText, resultView, SEAT_KINDS, sessionView, settledView } from "./view";

const NOW = { commitment: "processed" } as const;
const READY = 2;
/** Matrices and scan by syscall: what our own rollup has. */
const KERNELS = 2;
const SECRET_BYTES = 32;
const CODE_LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789";
const CODE_LENGTH = 6;
const MOST_ACCOUNTS = 100;

function random(bytes: number): Uint8Array {
  return crypto.getRandomValues(new Uint8Array(bytes));
}

/** A short name that can be read aloud. */
const newCode = (): string => Array.from(random(CODE_LENGTH), (byte) => CODE_LETTERS[byte % CODE_LETTERS.length]).join("");

/** The id of the match after this one between the same seats. */
function nextId(id: string): string {
  const [base, number] = id.split("-");
  return `${base}-${Number(number ?? 1) + 1}`;
}

/** What a session is opened with, by whoever opens it. */
interface Wish { id: string; world: Address; stage: number; opponent: string }

export async function chainArcade(about: ChainAbout): Promise<Arcade> {
  const chain = await openChain(about);
  const { l1, rollup } = chain;
  const cards = new Map<string, Promise<World>>();

  /** What a cartridge says of itself; it is read from L1 by the arcade's own engine, once. */
  function card(of: Address): Promise<World> {
    let found = cards.get(of);
    if (found === undefined) {
      found = api.worldCard(of);
      found.catch(() => cards.delete(of));
      cards.set(of, found);
    }
    return found;
  }

  async function shown({ address: of, data }: Found<WorldAccount>): Promise<World> {
    const { owner } = data.manifest;
    return {
      ...(await card(of)), id: of, name: worldName(data.manifest),
      onChain: { owner, parent: parentOf(data.manifest), fee: data.fee, feesEarned: data.feesEarned, matches: Number(data.matches), live: data.liveSessions, created: Number(data.created) },
    };
  }

  async function result(session: Address): Promise<Result | null> {
    const [at] = await findResultPda({ session });
    const kept = await fetchMaybeResult(l1.rpc, at, NOW);
    return kept.exists ? kept.data : null;
  }

  async function openSeats(books: Found<Session>[]): Promise<MatchView[]> {
    const views: MatchView[] = [];
    const decoder = getStateDecoder();
    for (let at = 0; at < books.length; at += MOST_ACCOUNTS) {
      const part = books.slice(at, at + MOST_ACCOUNTS);
      const states = await fetchEncodedAccounts(rollup.rpc, part.map(({ data }) => data.state), NOW);
      states.forEach((state, index) => {
        if (!state.exists) return;
        const { address: of, data } = part[index];
        views.push(sessionView(of, data, decoder.decode(state.data), [Infinity, Infinity], 0));
      });
    }
    return views;
  }

  /** Takes a seat with a key made for this session. */
  async function sit(session: Address, state: Address, seat: number, payer: TransactionSigner): Promise<void> {
    const secret = random(SECRET_BYTES);
    const key = await createKeyPairSignerFromPrivateKeyBytes(secret);
    await rollup.transact(payer, [getJoinSessionInstruction({ wallet: payer, session, state, seat, kind: HUMAN, sessionKey: key.address })]);
    holdSeat({ session, seat, token: "", invite: `${chain.home}#/s/${session}` }, secret);
  }

  async function open({ id, world, stage, opponent }: Wish, seat: number, told: (step: string) => void): Promise<Address> {
    const payer = chain.wallets.current().signer;
    told("Looking at the wallet …");
    await chain.fund(payer.address);
    const { data } = await fetchWorld(l1.rpc, world, NOW);
    const at = await sessionAddresses(payer.address, id, data.manifest.hiddenPages);
    const generator = new DataView(random(8).buffer).getBigUint64(0, true);
    const opened = openSession({ payer, at, world, worldOwner: data.manifest.owner, id, operator: chain.keeper, generator, clock: 0, stage, kernels: KERNELS });
    told("Opening the session on L1 …");
    await chain.inOrder(l1, payer, opened);
    told("Lending it to the rollup …");
    await chain.sideBySide(l1, payer, await lendSession({ payer, at, id, validator: chain.keeper }));
    told("Sitting down …");
    await sit(at.session, at.state, seat, payer);
    const kind = (SEAT_KINDS as readonly string[]).indexOf(opponent);
    if (kind > HUMAN) {
      await rollup.transact(payer, [getJoinSessionInstruction({ wallet: payer, session: at.session, state: at.state, seat: 1 - seat, kind, sessionKey: chain.keeper })]);
    }
    return at.session;
  }

  async function join(session: Address): Promise<void> {
    const { data } = await fetchSession(rollup.rpc, session, NOW);
    const seat = [0, 1].find((at) => data.session.seats[at] === 0);
    if (seat === undefined) throw new ApiError("seat_taken", "Both seats are taken. You can stay and watch.");
    await sit(session, data.state, seat, chain.wallets.current().signer);
  }

  /** Where the rematch of a match would be, by who opens it. */
  async function rematches(session: Address): Promise<{ wish: Wish; places: Address[]; wallets: readonly Address[] } | null> {
    const kept = await result(session);
    if (kept === null) return null;
    const of = kept.result;
    const id = nextId(idText(of.id));
    const wallets = [...new Set(of.wallets)];
    const places = await Promise.all(wallets.map(async (payer) => (await findSessionPda({ payer, id: sessionId(id) }))[0]));
    const machine = [...of.seats].find((kind) => kind > HUMAN);
    return { wish: { id, world: kept.world, stage: of.stage, opponent: SEAT_KINDS[machine ?? HUMAN] }, places, wallets };
  }

  const office: MatchOffice = {
    cancel: chain.cancel,
    async findRematch(session) {
      const next = await rematches(session);
      if (next === null) return null;
      const found = await fetchEncodedAccounts(rollup.rpc, next.places, NOW);
      return found.find((one) => one.exists && one.programAddress === about.program)?.address ?? null;
    },
    async rematch(session, seat) {
      const there = await this.findRematch(session);
      if (there !== null) {
        if (heldSeat(there) === null) await join(address(there));
        return there;
      }
      const next = await rematches(session);
      if (next === null) throw new Error("L1 does not have the result yet. Try again in a moment.");
      return open(next.wish, seat, () => undefined);
    },
  };

  return {
    chain,
    async worlds() {
      const found = await findWorlds(l1.rpc);
      return Promise.all(found.filter(({ data }) => data.status === READY).map(shown));
    },
    async sessions() {
      const open = await findSessions(rollup.rpc);
      return (await openSeats(open)).filter((view) => view.status !== "ended");
    },
    async session(session) {
      const at = address(session);
      let away: unknown = null;
      const kept = await result(at).catch((error: unknown) => { away = error; return null; });
      if (kept !== null) return settledView(kept);
      const book = await fetchMaybeSession(rollup.rpc, at, NOW);
      const [view] = book.exists ? await openSeats([{ address: at, data: book.data }]) : [];
      if (view === undefined) throw away ?? new ApiError("unknown_session", "There is no such session, neither on the rollup nor among the results on L1. A session that nobody played leaves nothing.");
      return view;
    },
    async price(world) {
      const { data } = await fetchWorld(l1.rpc, address(world.id), NOW);
      const { deposit, fees } = await sessionCost(data.manifest.hiddenPages, async (bytes) => l1.rpc.getMinimumBalanceForRentExemption(BigInt(bytes)).send());
      const fee = data.fee > 0n ? ` ${sol(data.fee)} to the world's owner,` : "";
      return `${chain.wallets.current().name}:${fee} ${sol(deposit)} deposit, back after the match; ${sol(fees)} fees`;
    },
    create: (world, stage, opponent, told) => open({ id: newCode(), world: address(world.id), stage, opponent }, 0, told),
    async join(session) {
      await join(address(session));
      return heldSeat(session);
    },
    connect: (session, held, events) => connectChain(chain, office, address(session), held, events),
    async replays() {
      const entry = ({ data }: Found<Result>): ReplayEntry => {
        const seats = [...data.result.seats].map((kind) => SEAT_KINDS[kind] ?? "free");
        return { id: data.session, code: idText(data.result.id), world: data.world, created: Number(data.recorded), seats: [seats[0], seats[1]], wallets: [data.result.wallets[0], data.result.wallets[1]], result: resultView(data) };
      };
      return (await findResults(l1.rpc)).map(entry);
    },
    replayStates: api.matchStates,
    verify: api.verifyMatch,
    framesUrl: api.matchFramesUrl,
    async find(code) {
      const found = (await findSessions(rollup.rpc, sessionId(code))).filter(({ data }) => data.recorded === 0);
      if (found.length > 1) throw new ApiError("ambiguous", `${found.length} sessions are called ${code}. Ask your friend for the link.`);
      if (found.length === 0) throw new ApiError("unknown_session", `There is no session called ${code} on this rollup.`);
      return found[0].address;
    },
    named: (text) => text,
  };
}
