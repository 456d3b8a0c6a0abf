/** Frames as JSON: what the arcade exports and `#/file` opens. */
import { emptyState, type Player, type State } from "./abi";
import type { Source } from "./source";

/** More frames than any match has; a file beyond it is refused. */
const MOST_FRAMES = 100_000;

type Loose = Record<string, unknown>;

function number(from: Loose, names: string[], fallback: number, where: string): number {
  for (const name of names) {
    const value = from[name];
    if (value === undefined || value === null) continue;
    if (typeof value === "boolean") return value ? 1 : 0;
    if (typeof value !== "number" || !Number.isFinite(value)) throw new Error(`${where}: “${name}” is not a number.`);
    return value;
  }
  return fallback;
}

function player(raw: unknown, where: string, before: Player | null, character: number): Player {
  if (typeof raw !== "object" || raw === null) throw new Error(`${where}: a player is missing.`);
  const from = raw as Loose;
  const action = number(from, ["action_state"], 14, where);
  const counted = before !== null && before.action === action ? before.since + 1 : 0;
  return {
    x: number(from, ["x"], 0, where), y: number(from, ["y"], 0, where), percent: number(from, ["percent"], 0, where),
    airX: number(from, ["speed_air_x"], 0, where), speedY: number(from, ["speed_y"], 0, where),
    attackX: number(from, ["speed_attack_x"], 0, where), attackY: number(from, ["speed_attack_y"], 0, where), groundX: number(from, ["speed_ground_x"], 0, where),
    shield: number(from, ["shield"], 60, where), action, hitlag: number(from, ["hitlag"], 0, where),
    stocks: number(from, ["stocks"], 4, where), facing: number(from, ["facing"], 1, where) > 0 ? 1 : -1,
    onGround: number(from, ["on_ground"], 1, where) !== 0, jumps: number(from, ["jumps"], 0, where),
    character: number(from, ["character"], character, where), since: number(from, ["action_frame"], counted, where),
  };
}

/** Reads frames from parsed JSON: `{stage, characters, frames: [{players: [..2]}]}`. Errors say which frame is wrong. */
export function framesSource(json: unknown): Source {
  const file = json as Loose | null;
  const list = Array.isArray(json) ? (json as unknown[]) : file !== null && typeof file === "object" ? file["frames"] : undefined;
  if (!Array.isArray(list) || list.length === 0) throw new Error("This JSON holds no “frames”: a list of frames with two players each is needed.");
  if (list.length > MOST_FRAMES) throw new Error(`This file has ${list.length} frames; at most ${MOST_FRAMES} are opened.`);
  const head = Array.isArray(json) ? {} : (file as Loose);
  const stage = number(head, ["stage"], 31, "The file");
  const characters = Array.isArray(head["characters"]) ? (head["characters"] as unknown[]).map(Number) : [];
  let before: State | null = null;
  const states = list.map((raw: unknown, index): State => {
    const where = `Frame ${index}`;
    const frame = raw as Loose | null;
    const players = frame === null || typeof frame !== "object" ? undefined : frame["players"];
    if (!Array.isArray(players) || players.length < 2) throw new Error(`${where}: it needs “players”, a list of two.`);
    const state: State = {
      ...emptyState(), status: 3, stage: number(frame as Loose, ["stage"], stage, where),
      frame: number(frame as Loose, ["frame"], index, where), clock: number(frame as Loose, ["clock"], Math.max(0, 28_800 - index), where),
      players: [player(players[0], where, before?.players[0] ?? null, characters[0] ?? 2), player(players[1], where, before?.players[1] ?? null, characters[1] ?? 2)],
    };
    before = state;
    return state;
  });
  return {
    length: states.length,
    read(index, out) {
      const state = states[index];
      const players = out.players;
      Object.assign(players[0], state.players[0]);
      Object.assign(players[1], state.players[1]);
      Object.assign(out, state, { players });
    },
  };
}
