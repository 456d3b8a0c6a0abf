/** Accounts as the pages show them. No I/O. */
import type { Result, Session, State } from "@worldline/client";
import { FRAMES_PER_SECOND, NO_WINNER, PERCENT_UNIT, Status } from "../../abi";
import type { MatchView, ResultView, SeatView } from "../api";

export const SEAT_KINDS = ["free", "human", "ghost", "random", "policy"] as const;
const STATUS = ["open", "picking", "ready", "active", "ended"] as const;
const REASONS = ["none", "stocks", "time", "quit", "abandoned"] as const;
export const HUMAN = 1;
/** What an account says before a seat has picked; a fighter of that number shows once it is ready. */
const NOT_PICKED = 0;
/** A player sends at least every two seconds; one who has not for this long is away. */
export const AWAY_FRAMES = 5 * FRAMES_PER_SECOND;
/** The keeper starts the frames this long after both are ready. */
export const COUNTDOWN_MS = 3000;
const REPLAY_FINISHED = 2;

export const idText = (id: { readonly length: number } & Iterable<number>): string =>
  new TextDecoder().decode(Uint8Array.from(id)).replace(/\0+$/, "");

function seat(book: Session, at: number, frame: number, heard: number[]): SeatView {
  const { seats, characters } = book.session;
  const kind = SEAT_KINDS[seats[at]] ?? "free";
  const cpu = kind !== "free" && kind !== "human";
  const picked = book.ready[at] === 1 || characters[at] !== NOT_PICKED;
  return { kind, cpu, character: kind !== "free" && picked ? characters[at] : null, ready: book.ready[at] === 1, connected: cpu || frame - heard[at] < AWAY_FRAMES };
}

/** A session; `since`: milliseconds since both seats were ready. */
export function sessionView(address: string, book: Session, state: State, heard: number[], since: number): MatchView {
  const { session } = book;
  const counting = state.status === Status.Active && state.frame === 0;
  return {
    session: address,
    code: idText(session.id),
    world: session.world,
    payer: session.payer,
    status: counting ? "ready" : STATUS[state.status] ?? "ended",
    stage: session.stage,
    seats: [seat(book, 0, state.frame, heard), seat(book, 1, state.frame, heard)],
    spectators: 0,
    frame: state.frame,
    paused: false,
    starts_in_ms: counting ? Math.max(0, COUNTDOWN_MS - since) : null,
    result: state.status === Status.Ended ? stateResult(book, state) : null,
    rematch: null,
  };
}

/** The result as the last state says it, before L1 has it. */
function stateResult(book: Session, state: State): ResultView {
  const of = [state.players[0], state.players[1]];
  return {
    winner: state.winner < 2 ? state.winner : null,
    reason: REASONS[state.endReason] ?? "none",
    frames: state.frame,
    stocks: [of[0].stocks, of[1].stocks],
    percent: [of[0].percent / PERCENT_UNIT, of[1].percent / PERCENT_UNIT],
    characters: [book.session.characters[0], book.session.characters[1]],
    stage: book.session.stage,
    rule_hits: state.ruleHits,
    replay: null,
  };
}

/** A result that L1 keeps; its replay goes by the session's address. */
export function resultView(kept: Result): ResultView {
  const { result } = kept;
  const winner = result.winner;
  return {
    winner: winner < 2 && winner !== NO_WINNER ? winner : null,
    reason: REASONS[result.endReason] ?? "none",
    frames: result.endFrame - result.startFrame,
    stocks: [result.stocks[0], result.stocks[1]],
    percent: [result.percent[0] / PERCENT_UNIT, result.percent[1] / PERCENT_UNIT],
    characters: [result.characters[0], result.characters[1]],
    stage: result.stage,
    rule_hits: result.ruleHits,
    replay: kept.replay === REPLAY_FINISHED ? kept.session : null,
  };
}

/** A match that is settled, for who opens its link now. */
export function settledView(kept: Result): MatchView {
  const { result } = kept;
  const seats = [0, 1].map((at): SeatView => {
    const kind = SEAT_KINDS[result.seats[at]] ?? "free";
    return { kind, cpu: kind !== "human", character: result.characters[at], ready: true, connected: true };
  });
  return {
    session: kept.session, code: idText(result.id), world: kept.world, status: "ended", stage: result.stage, seats: [seats[0], seats[1]],
    spectators: 0, frame: result.endFrame, paused: false, starts_in_ms: null, result: resultView(kept), rematch: null,
  };
}
