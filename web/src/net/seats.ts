/** Seats this browser tab holds: token and session key, kept for reloads, gone with the tab. */
import { hex } from "../abi";
import { unhex, type SessionKey } from "./signing";

export interface HeldSeat { seat: number; token: string; secret: Uint8Array }

const name = (session: string): string => `worldline.seat.${session}`;

export function holdSeat(session: string, seat: number, token: string, key: SessionKey): void {
  sessionStorage.setItem(name(session), JSON.stringify({ seat, token, secret: hex(key.secret) }));
}

export function heldSeat(session: string): HeldSeat | null {
  const text = sessionStorage.getItem(name(session));
  if (text === null) return null;
  try {
    const held = JSON.parse(text) as { seat: number; token: string; secret: string };
    return { seat: held.seat, token: held.token, secret: unhex(held.secret) };
  } catch {
    sessionStorage.removeItem(name(session));
    return null;
  }
}

export function dropSeat(session: string): void {
  sessionStorage.removeItem(name(session));
}

/** A rematch keeps its seats: the same token and key, under the new id. */
export function carrySeat(from: string, to: string): void {
  const text = sessionStorage.getItem(name(from));
  if (text !== null) sessionStorage.setItem(name(to), text);
}
