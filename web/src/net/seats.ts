/** Seats this browser tab holds: token and session key, kept for reloads, gone with the tab. */
import { hex } from "../abi";
import type { SeatGrant } from "./api";
import { unhex } from "./signing";

export interface HeldSeat { seat: number; token: string; invite: string; secret: Uint8Array }

const name = (session: string): string => `worldline.seat.${session}`;

export function holdSeat(grant: SeatGrant, secret: Uint8Array): void {
  const { seat, token, invite } = grant;
  sessionStorage.setItem(name(grant.session), JSON.stringify({ seat, token, invite, secret: hex(secret) }));
}

export function heldSeat(session: string): HeldSeat | null {
  const text = sessionStorage.getItem(name(session));
  if (text === null) return null;
  try {
    const held = JSON.parse(text) as { seat: number; token: string; invite: string; secret: string };
    return { ...held, secret: unhex(held.secret) };
  } catch {
    sessionStorage.removeItem(name(session));
    return null;
  }
}

export function dropSeat(session: string): void {
  sessionStorage.removeItem(name(session));
}

/** A rematch keeps its seats: the same token and key, under the new id, unless one is held there. */
export function carrySeat(from: string, to: string): void {
  const text = sessionStorage.getItem(name(from));
  if (text !== null && sessionStorage.getItem(name(to)) === null) sessionStorage.setItem(name(to), text.replaceAll(from, to));
}
