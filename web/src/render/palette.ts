/** The tube's colours. Chrome is bone on near-black; the two players own the only strong hues. */
export const INK = "#05090b";
export const BONE = "#e9efe6";
export const DIM = "#5d6f70";
export const GRID = "#0d191c";
export const GRID_STRONG = "#14272b";
export const SIGNAL = "#d4ff3a";
export const ALARM = "#ff4d5e";

export interface Hue { line: string; soft: string; fill: string; back: string; glow: string }

export const PLAYERS: readonly [Hue, Hue] = [
  { line: "#7cecff", soft: "#2f7e8f", fill: "#07171c", back: "#3f9fb3", glow: "rgba(124,236,255,0.13)" },
  { line: "#ff8a4c", soft: "#8f4a26", fill: "#1b0e07", back: "#b8622f", glow: "rgba(255,138,76,0.13)" },
];
