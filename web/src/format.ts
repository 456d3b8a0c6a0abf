/** Numbers as people read them. */
import { FRAMES_PER_SECOND } from "./abi";

export function duration(frames: number): string {
  const seconds = Math.floor(frames / FRAMES_PER_SECOND);
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
}

/** 4123456 as "4.12 M". */
export function count(value: number): string {
  if (value >= 1e9) return `${(value / 1e9).toFixed(2)} G`;
  if (value >= 1e6) return `${(value / 1e6).toFixed(2)} M`;
  if (value >= 1e4) return `${(value / 1e3).toFixed(0)} k`;
  return value.toLocaleString("en");
}

export function bytes(value: number): string {
  return value >= 1e6 ? `${(value / 1e6).toFixed(1)} MB` : `${(value / 1e3).toFixed(0)} kB`;
}

const REASONS: Record<string, string> = {
  stocks: "last stock", time: "time ran out", quit: "a player quit", abandoned: "a player left", none: "unfinished",
};

export function reasonWords(reason: string): string {
  return REASONS[reason] ?? reason;
}

const SEAT_KINDS: Record<string, string> = { free: "open seat", human: "human", ghost: "ghost", random: "random pad", policy: "learned policy" };

export function seatWords(kind: string): string {
  return SEAT_KINDS[kind] ?? kind;
}
