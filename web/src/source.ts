/** Recorded frames behind one interface: bytes of re-executed states, or a file of JSON frames. */
import { emptyState, readState, STATE_BYTES, type State } from "./abi";

export interface Source {
  length: number;
  /** Decodes frame `index` (0-based) into `out`. */
  read(index: number, out: State): void;
}

/** Concatenated 256-byte states. */
export function stateSource(buffer: ArrayBuffer): Source {
  if (buffer.byteLength === 0 || buffer.byteLength % STATE_BYTES !== 0) {
    throw new Error(`These are ${buffer.byteLength} bytes, which is not a whole number of ${STATE_BYTES}-byte states.`);
  }
  const view = new DataView(buffer);
  return { length: buffer.byteLength / STATE_BYTES, read: (index, out) => readState(view, index * STATE_BYTES, out) };
}

/** Frames (0-based) at which a seat lost a stock. */
export function stockLosses(source: Source): { index: number; seat: number }[] {
  const losses: { index: number; seat: number }[] = [];
  const state = emptyState();
  const stocks = [0, 0];
  for (let index = 0; index < source.length; index++) {
    source.read(index, state);
    for (let seat = 0; seat < 2; seat++) {
      const now = state.players[seat].stocks;
      if (index > 0 && now < stocks[seat]) losses.push({ index, seat });
      stocks[seat] = now;
    }
  }
  return losses;
}

/** Percent of both seats at `points` evenly spaced frames, seat after seat. */
export function percentCurve(source: Source, points: number): Float32Array {
  const curve = new Float32Array(points * 2);
  const state = emptyState();
  for (let i = 0; i < points; i++) {
    source.read(Math.round((i / (points - 1)) * (source.length - 1)), state);
    curve[i] = state.players[0].percent;
    curve[points + i] = state.players[1].percent;
  }
  return curve;
}
