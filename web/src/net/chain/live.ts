/** One live match on a rollup: accounts that change, inputs as transactions. */
import { type Address, createKeyPairSignerFromPrivateKeyBytes, type KeyPairSigner } from "@solana/kit";
import {
  changes, fetchInputs, fetchMaybeResult, fetchSession, fetchState, fetchWorld, findResultPda, getEndSessionInstruction, getInputsDecoder,
  getPickCharacterInstruction, getReadyInstruction, getSessionDecoder, getSignInputsInstruction, getStateDecoder, getSubmitInputInstruction,
  type Inputs, type Session, sessionAddresses, type SessionAddresses, type State, worldShards,
} from "@worldline/client";
import { FRAME_MESSAGE_BYTES, INPUT_BYTES, PAD_BYTES, SLOT_BYTES, STATE_BYTES, Status, writePad, type Pad } from "../../abi";
import { words } from "../api";
import type { Live, LiveEvents } from "../live";
import type { HeldSeat } from "../seats";
import { newSigner, unhex, type Signer } from "../signing";
import { AWAY_FRAMES, HUMAN, idText, resultView, sessionView } from "./view";
import type { Chain } from "./chain";

const NOW = { commitment: "processed" } as const;
/** A result is shown as kept once nothing can take it back: whoever follows its link finds it. */
const KEPT = { commitment: "confirmed" } as const;
const RETRY_FIRST_MS = 400;
const RETRY_MOST_MS = 5000;
/** A pad that does not change is sent again after so many frames, to show life. */
const KEEP_ALIVE_FRAMES = 100;
/** A player may claim the match when the other has been silent for this long. */
const ABANDONED_FRAMES = 3 * AWAY_FRAMES + 60;
/** How often the view is told again, and L1 asked for the settled result. */
const LOOK_MS = 1000;
/** How often the rollup is asked whether it reaches L1. */
const L1_LOOK_MS = 5000;
const STATE_AT = 4;
const INPUTS_AT = STATE_AT + STATE_BYTES;
const QUIT = 3;
const ABANDONED = 4;

/** What a page can ask of a match beyond playing it. */
export interface MatchOffice {
  /** Gives a session back that nobody has played; its deposits return. */
  cancel(session: Address): Promise<void>;
  /** The session that the same seats go on to, with a seat in it. */
  rematch(session: Address, seat: number): Promise<string>;
  /** The rematch that somebody has opened already. */
  findRematch(session: Address): Promise<string | null>;
}

const same = (a: ArrayLike<number>, b: ArrayLike<number>): boolean => a.length === b.length && Array.prototype.every.call(a, (byte, at) => byte === b[at]);

/** A match in the middle of being watched. */
interface Scene { at: SessionAddresses; book: Session; state: State; inputs: Inputs; shards: Address[] }

export function connectChain(chain: Chain, office: MatchOffice, session: Address, held: HeldSeat | null, events: LiveEvents): Live {
  const ending = new AbortController();
  const frameMessage = new ArrayBuffer(FRAME_MESSAGE_BYTES);
  const frameBytes = new Uint8Array(frameMessage);
  frameBytes[0] = 1;
  const padBytes = new Uint8Array(PAD_BYTES);
  const lastPad = new Uint8Array(PAD_BYTES);
  /** The pad whose arrival is timed. */
  let timed: { sequence: number; at: number } | null = null;
  let scene: Scene | null = null;
  let key: KeyPairSigner | null = null;
  let signer: Signer | null = null;
  let signing = true;
  let sequence = 0;
  let sentFrame = 0;
  let round = NaN;
  let readySince = 0;
  let over = false;
  let claimed = false;
  let picked: number | null = null;
  let arrive: (scene: Scene) => void = () => undefined;
  /** What is said before the rollup has answered waits for it. */
  const arrived = new Promise<Scene>((done) => { arrive = done; });

  /** All of it from the rollup, which has copies: L1 may be away. */
  async function fetchScene(): Promise<Scene> {
    const book = (await fetchSession(chain.rollup.rpc, session, NOW)).data;
    const id = idText(book.session.id);
    const at = await sessionAddresses(book.session.payer, id, book.pages);
    const [state, inputs, world] = await Promise.all([
      fetchState(chain.rollup.rpc, at.state, NOW), fetchInputs(chain.rollup.rpc, at.inputs, NOW), fetchWorld(chain.rollup.rpc, book.session.world, NOW),
    ]);
    return { at, book, state: state.data, inputs: inputs.data, shards: worldShards(world.data.manifest) };
  }

  function tellView(): void {
    if (scene === null) return;
    const view = sessionView(session, scene.book, scene.state, scene.inputs.heard, performance.now() - readySince);
    // What the player has just picked, though the account does not have it yet.
    if (held !== null && picked !== null && !view.seats[held.seat].ready) view.seats[held.seat].character = picked;
    events.view(view);
  }

  function tookState(bytes: Uint8Array, decoded: State): void {
    if (scene === null) return;
    const before = scene.state;
    scene.state = decoded;
    if (decoded.status !== before.status) {
      if (decoded.status === Status.Active) readySince = performance.now();
      tellView();
    } else if (before.frame === 0 && decoded.frame > 0) tellView();
    if (decoded.frame > 0) {
      frameBytes.set(bytes, STATE_AT);
      events.frame(frameMessage);
    }
    if (decoded.status === Status.Ended) void end();
  }

  /** The slot of this seat as the account has it: pad, then sequence. */
  const slotBytes = (bytes: Uint8Array, seat: number): Uint8Array => bytes.subarray(seat * SLOT_BYTES, (seat + 1) * SLOT_BYTES);

  function tookInputs(bytes: Uint8Array, decoded: Inputs): void {
    if (scene === null) return;
    scene.inputs = decoded;
    frameBytes.set(bytes.subarray(0, INPUT_BYTES), INPUTS_AT);
    if (held === null) return;
    const slot = decoded.buffer.slots[held.seat];
    if (timed !== null && ((slot.sequence - timed.sequence) & 0xffff) < 0x8000) {
      const sample = performance.now() - timed.at;
      round = Number.isNaN(round) ? sample : round * 0.8 + sample * 0.2;
      timed = null;
    }
    attest(decoded, slotBytes(bytes, held.seat));
    const frame = decoded.buffer.frame;
    if (frame > sentFrame + KEEP_ALIVE_FRAMES && scene.state.status === Status.Active) submit();
    const other = 1 - held.seat;
    const gone = scene.book.session.seats[other] === HUMAN && frame - decoded.heard[other] > ABANDONED_FRAMES;
    if (gone && !claimed) { claimed = true; endMatch(ABANDONED); }
  }

  /** Signs what was applied, as long as it is what was pressed. */
  function attest(inputs: Inputs, slot: Uint8Array): void {
    if (signer === null || held === null || !signing) return;
    const frame = inputs.buffer.frame;
    const chainHash = inputs.hashes[held.seat];
    if (frame === 0) return;
    // A gap is no forgery: the account's own hash closes it, and later inputs are attested again.
    if (frame > signer.next()) { signer.resume(frame, Uint8Array.from(chainHash)); return; }
    try {
      const signature = signer.applied(frame, slot);
      if (!same(signer.hash(), chainHash)) signer.resume(frame, Uint8Array.from(chainHash));
      else if (signature !== null) leaveSignature(frame, signature);
    } catch (error) {
      signing = false;
      events.error("signing_stopped", words(error));
    }
  }

  function leaveSignature(frame: number, signature: string): void {
    if (scene === null || held === null || key === null) return;
    const call = getSignInputsInstruction({ key, session, inputs: scene.at.inputs, signature: { frame, seat: held.seat, padding: new Uint8Array(3), signature: unhex(signature) } });
    chain.rollup.post(key, [call]).catch(() => undefined);
  }

  function submit(): void {
    if (scene === null || held === null || key === null) return;
    sequence = (sequence + 1) & 0xffff;
    sentFrame = scene.inputs.buffer.frame;
    signer?.sent(sequence, lastPad);
    timed ??= { sequence, at: performance.now() };
    const view = new DataView(lastPad.buffer);
    const pad = {
      stick: [view.getInt16(0, true), view.getInt16(2, true)], cstick: [view.getInt16(4, true), view.getInt16(6, true)],
      triggers: lastPad.slice(8, 10), buttons: view.getUint16(10, true),
    };
    const call = getSubmitInputInstruction({ key, session, inputs: scene.at.inputs, seat: held.seat, sequence, pad });
    chain.rollup.post(key, [call]).catch(() => undefined);
  }

  function endMatch(reason: number): void {
    if (scene === null || held === null || key === null) return;
    const call = getEndSessionInstruction({ key, session, state: scene.at.state, inputs: scene.at.inputs, seat: held.seat, reason });
    chain.rollup.transact(key, [call]).catch((error: unknown) => {
      if (scene?.state.status !== Status.Ended) events.error("not_ended", words(error));
    });
  }

  /** The last signature, the result, and then what L1 makes of it. */
  async function end(): Promise<void> {
    if (over || scene === null) return;
    over = true;
    const view = sessionView(session, scene.book, scene.state, scene.inputs.heard, 0);
    if (view.result !== null) events.result(view.result);
    // The last frame's inputs may be told after its state.
    await new Promise((done) => setTimeout(done, 100));
    const last = signing ? signer?.finish() : null;
    if (last !== null && last !== undefined) leaveSignature(last.frame, last.signature);
    await settle();
  }

  /** Tells what L1 keeps once it keeps it, and of a rematch. */
  async function settle(): Promise<void> {
    const [kept] = await findResultPda({ session });
    let announced = false;
    while (!ending.signal.aborted) {
      await new Promise((done) => setTimeout(done, LOOK_MS));
      try {
        if (!announced) {
          const result = await fetchMaybeResult(chain.l1.rpc, kept, KEPT);
          const shown = result.exists ? resultView(result.data) : null;
          if (shown?.replay !== null && shown !== null) { announced = true; events.result(shown); }
        }
        const next = await office.findRematch(session);
        if (next !== null) { events.rematch(next); return; }
      } catch {
        // L1 is asked again.
      }
    }
  }

  async function watch(signal: AbortSignal): Promise<void> {
    const now = await fetchScene();
    const waiting = {
      state: changes(chain.rollup.subscriptions, now.at.state, { abortSignal: signal }),
      inputs: changes(chain.rollup.subscriptions, now.at.inputs, { abortSignal: signal }),
      book: changes(chain.rollup.subscriptions, session, { abortSignal: signal }),
    };
    const [states, inputs, books] = [getStateDecoder(), getInputsDecoder(), getSessionDecoder()];
    const followed = Promise.all([
      (async () => { for await (const bytes of waiting.state) tookState(bytes as Uint8Array, states.decode(bytes)); })(),
      (async () => { for await (const bytes of waiting.inputs) tookInputs(bytes as Uint8Array, inputs.decode(bytes)); })(),
      (async () => { for await (const bytes of waiting.book) { if (scene !== null) scene.book = books.decode(bytes); tellView(); } })(),
    ]);
    followed.catch(() => undefined);
    scene = now;
    if (now.state.status === Status.Active) readySince = performance.now();
    if (held !== null) {
      key ??= await createKeyPairSignerFromPrivateKeyBytes(held.secret);
      signer ??= newSigner(idText(now.book.session.id), held.seat, held.secret);
      if (now.inputs.buffer.frame > 0) signer.resume(now.inputs.buffer.frame, Uint8Array.from(now.inputs.hashes[held.seat]));
      sequence = Math.max(sequence, now.inputs.buffer.slots[held.seat].sequence);
    }
    arrive(now);
    events.link("open", "");
    tellView();
    if (now.state.status === Status.Ended) void end();
    await followed;
    throw new Error("the subscription ended");
  }

  async function run(): Promise<void> {
    let retry = RETRY_FIRST_MS;
    const [kept] = await findResultPda({ session });
    const known = await fetchMaybeResult(chain.l1.rpc, kept, KEPT).catch(() => null);
    if (known !== null && known.exists) {
      over = true;
      events.link("open", "");
      await settle();
      return;
    }
    while (!ending.signal.aborted) {
      const attempt = new AbortController();
      const stop = (): void => attempt.abort();
      ending.signal.addEventListener("abort", stop);
      try {
        events.link("connecting", "Connecting to the rollup …");
        const started = performance.now();
        await watch(attempt.signal).finally(() => { if (performance.now() - started > RETRY_MOST_MS) retry = RETRY_FIRST_MS; });
      } catch {
        if (ending.signal.aborted || over) return;
        round = NaN;
        events.link("lost", `Connection to the rollup lost. Trying again in ${(retry / 1000).toFixed(1)} s; your seat is yours.`);
      } finally {
        attempt.abort();
        ending.signal.removeEventListener("abort", stop);
      }
      await new Promise((done) => setTimeout(done, retry));
      retry = Math.min(RETRY_MOST_MS, retry * 1.8);
    }
  }

  async function said(message: Record<string, unknown>): Promise<void> {
    if (message["type"] === "rematch" && held !== null) {
      events.rematch(await office.rematch(session, held.seat));
      return;
    }
    if (message["type"] === "pick") picked = Number(message["character"]);
    const { at, shards, book } = await arrived;
    if (scene === null || held === null || key === null) throw new Error("Only players can do that.");
    const seat = held.seat;
    switch (message["type"]) {
      case "pick":
        await chain.rollup.transact(key, [getPickCharacterInstruction({ key, session, state: at.state, seat, character: Number(message["character"]) })]);
        break;
      case "ready":
        await chain.rollup.transact(key, [getReadyInstruction({ key, session, state: at.state, world: book.session.world, seat, shards })]);
        break;
      case "quit":
        if (scene.state.status === Status.Active) endMatch(QUIT);
        else if (scene.state.status < Status.Active) await office.cancel(session);
        break;
    }
    tellView();
  }

  /** Play goes on without L1; the players are told that settling waits for it. */
  async function lookAtL1(): Promise<void> {
    const trouble = await chain.l1Trouble().catch(() => null);
    events.trouble(trouble === null ? "" : "L1 cannot be reached. The match goes on; it is settled when L1 is back.");
  }

  void run();
  const looking = window.setInterval(tellView, LOOK_MS);
  const l1Looking = window.setInterval(() => void lookAtL1(), L1_LOOK_MS);
  return {
    send: (message) => void said(message).catch((error: unknown) => events.error("refused", words(error))),
    pad(pad: Pad) {
      writePad(new DataView(padBytes.buffer), 0, pad);
      if (same(padBytes, lastPad)) return;
      lastPad.set(padBytes);
      if (scene?.state.status === Status.Active) submit();
    },
    latency: () => round,
    close() {
      ending.abort();
      window.clearInterval(looking);
      window.clearInterval(l1Looking);
    },
  };
}
