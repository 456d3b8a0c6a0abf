/** The arcade's HTTP interface: types as the server sends them, and errors in words. */

export interface World {
  id: string;
  name: string;
  kind: string;
  parameters: number;
  macs: number;
  layers: number;
  d_model: number;
  d_state: number;
  bytes: number;
  root: string;
  description: string | null;
  training: { matches: number; frames: number; licences: unknown };
  /** The evaluation's report, see `fidelity.ts`. */
  fidelity: unknown;
  rules: { name: string; why: string }[];
  characters: { id: number; name: string }[];
  stages: { id: number; name: string }[];
  /** What L1 knows of it, where there is one. */
  onChain?: OnChain;
}

/** A world's account; money in lamports. */
export interface OnChain {
  owner: string;
  parent: string | null;
  fee: bigint;
  feesEarned: bigint;
  matches: number;
  live: number;
  /** Seconds of Unix time. */
  created: number;
}

/** What the server has beside its matches; `chain` is `null` where they run on none. */
export interface About { chain: ChainAbout | null; worlds: boolean }

/** What the server says of the chains behind it. */
export interface ChainAbout {
  program: string;
  /** Who runs, records and settles the matches of the rollup. */
  keeper: string | null;
  /** Whether L1's faucet gives play money. */
  play_money: boolean;
  /** Where links to this arcade begin. */
  home: string;
}

export type Opponent = "human" | "ghost" | "random" | "policy";

export interface SeatView { kind: string; cpu: boolean; character: number | null; ready: boolean; connected: boolean }

export interface ResultView {
  winner: number | null;
  reason: string;
  frames: number;
  stocks: [number, number];
  percent: [number, number];
  characters: [number, number];
  stage: number;
  rule_hits: number;
  replay: string | null;
}

export interface MatchView {
  session: string;
  /** What people call it: short, fit to be read aloud. */
  code?: string;
  world: string;
  status: "open" | "picking" | "ready" | "active" | "ended";
  stage: number;
  seats: [SeatView, SeatView];
  /** Whose deposits it holds, on a chain. */
  payer?: string;
  spectators: number;
  frame: number;
  paused: boolean;
  starts_in_ms: number | null;
  result: ResultView | null;
  rematch: string | null;
}

/** `invite` is an address on this arcade, with its access token where it needs one. */
export interface SeatGrant { session: string; seat: number; token: string; invite: string }

export interface ReplayEntry {
  id: string;
  /** What people call it, where that is not its id. */
  code?: string;
  wallets?: [string, string];
  world: string | null;
  /** Seconds of Unix time. */
  created: number;
  seats: [string, string];
  result: ResultView;
}

export interface Verdict { valid: boolean; frames: number; first_bad_frame?: number; detail: string; signed_to: [number | null, number | null] }

/** A refusal by the arcade, or the lack of an answer. The message is fit to be read by a player. */
export class ApiError extends Error {
  constructor(readonly code: string, message: string) {
    super(message);
  }
}

const TIMEOUT_MS = 15_000;

export async function request(path: string, init: RequestInit = {}, timeout = TIMEOUT_MS): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(path, { ...init, signal: AbortSignal.timeout(timeout) });
  } catch (error) {
    const slow = error instanceof DOMException && error.name === "TimeoutError";
    throw new ApiError(
      slow ? "timeout" : "unreachable",
      slow ? `The arcade did not answer within ${timeout / 1000} s. Try again.` : "The arcade cannot be reached. Is it still running on the other machine?",
    );
  }
  if (response.ok) return response;
  let code = `http_${response.status}`;
  let detail = `The arcade answered ${response.status} to ${path}.`;
  try {
    const body = (await response.json()) as { error_code?: string; detail?: string };
    if (body.error_code !== undefined) code = body.error_code;
    if (body.detail !== undefined) detail = body.detail;
  } catch {
    // Not JSON: the status says all there is.
  }
  throw new ApiError(code, detail);
}

export async function json<T>(path: string, init?: RequestInit): Promise<T> {
  return (await (await request(path, init)).json()) as T;
}

export function post(body: unknown): RequestInit {
  return { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
}

const id = encodeURIComponent;
/** Re-executing a whole match takes the server a while. */
const REEXECUTE_MS = 120_000;

export const api = {
  about: () => json<About>("/api/about"),
  worldCard: (world: string) => json<World>(`/api/chain/worlds/${id(world)}`),
  matchStates: async (session: string) => (await request(`/api/chain/matches/${id(session)}/states`, {}, REEXECUTE_MS)).arrayBuffer(),
  verifyMatch: async (session: string) =>
    (await (await request(`/api/chain/matches/${id(session)}/verify`, { method: "POST" }, REEXECUTE_MS)).json()) as Verdict,
  matchFramesUrl: (session: string) => `/api/chain/matches/${id(session)}/frames`,
  worlds: () => json<World[]>("/api/worlds"),
  sessions: () => json<MatchView[]>("/api/sessions"),
  session: (session: string) => json<MatchView>(`/api/sessions/${id(session)}`),
  create: (world: string, stage: number, key: string, opponent: Opponent) =>
    json<SeatGrant>("/api/sessions", post({ world, stage, key, opponent })),
  join: (session: string, key: string) => json<SeatGrant>(`/api/sessions/${id(session)}/join`, post({ key })),
  replays: () => json<ReplayEntry[]>("/api/replays"),
  replayStates: async (replay: string) => (await request(`/api/replays/${id(replay)}/states`, {}, REEXECUTE_MS)).arrayBuffer(),
  verify: async (replay: string) =>
    (await (await request(`/api/replays/${id(replay)}/verify`, { method: "POST" }, REEXECUTE_MS)).json()) as Verdict,
  framesUrl: (replay: string) => `/api/replays/${id(replay)}/frames`,
  fileUrl: (replay: string) => `/api/replays/${id(replay)}`,
};

/** An error as a sentence for the player. */
export function words(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
