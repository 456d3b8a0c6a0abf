/**
 * Fighters as wireframe bodies: proportions and a silhouette per character id
 * (the ids of the character select screen). Shapes are our own, no game asset.
 */

export type Head = "human" | "hair" | "ears" | "beak" | "cap" | "helm" | "snout" | "ball" | "horns";

export interface Body {
  id: number;
  name: string;
  short: string;
  /** Height in game units. */
  height: number;
  /** Limb thickness, 1 is average. */
  build: number;
  /** Share of the height that is legs. */
  legs: number;
  /** Head size, 1 is average. */
  head: number;
  shape: Head;
  /** Length of a blade in the front hand, in game units. */
  blade: number;
  tail: boolean;
  skirt: boolean;
  cape: boolean;
}

type Extra = Partial<Pick<Body, "blade" | "tail" | "skirt" | "cape">>;

function body(id: number, name: string, short: string, height: number, build: number, legs: number, head: number, shape: Head, extra: Extra = {}): Body {
  return { id, name, short, height, build, legs, head, shape, blade: 0, tail: false, skirt: false, cape: false, ...extra };
}

const BODIES: Body[] = [
  body(0, "Captain Falcon", "FALCON", 17, 1.2, 0.5, 0.85, "helm"),
  body(1, "Donkey Kong", "D KONG", 17.5, 1.7, 0.38, 1, "snout"),
  body(2, "Fox", "FOX", 14, 0.95, 0.46, 1.15, "ears", { tail: true }),
  body(3, "Game & Watch", "G AND W", 13, 0.8, 0.42, 1.2, "ball"),
  body(4, "Kirby", "KIRBY", 9.5, 1.4, 0.22, 2.5, "ball"),
  body(5, "Bowser", "BOWSER", 18, 1.9, 0.36, 1.25, "horns", { tail: true }),
  body(6, "Link", "LINK", 15.5, 1, 0.47, 1, "cap", { blade: 9 }),
  body(7, "Luigi", "LUIGI", 15, 1.05, 0.42, 1.1, "cap"),
  body(8, "Mario", "MARIO", 13.5, 1.25, 0.38, 1.2, "cap"),
  body(9, "Marth", "MARTH", 16.5, 0.85, 0.5, 0.9, "hair", { blade: 11, cape: true }),
  body(10, "Mewtwo", "MEWTWO", 17, 0.9, 0.46, 1.1, "ears", { tail: true }),
  body(11, "Ness", "NESS", 11.5, 1.15, 0.34, 1.5, "cap"),
  body(12, "Peach", "PEACH", 16, 0.8, 0.5, 1, "hair", { skirt: true }),
  body(13, "Pikachu", "PIKACHU", 10.5, 1.25, 0.28, 1.7, "ears", { tail: true }),
  body(14, "Ice Climbers", "ICIES", 11.5, 1.25, 0.32, 1.5, "helm", { blade: 5 }),
  body(15, "Jigglypuff", "PUFF", 10, 1.3, 0.2, 2.6, "ears"),
  body(16, "Samus", "SAMUS", 17, 1.3, 0.48, 0.95, "helm"),
  body(17, "Yoshi", "YOSHI", 14, 1.2, 0.38, 1.3, "snout", { tail: true }),
  body(18, "Zelda", "ZELDA", 16.5, 0.8, 0.5, 0.95, "hair", { skirt: true }),
  body(19, "Sheik", "SHEIK", 16.5, 0.85, 0.51, 0.9, "hair"),
  body(20, "Falco", "FALCO", 15, 0.95, 0.48, 1.1, "beak", { tail: true }),
  body(21, "Young Link", "Y LINK", 12.5, 1, 0.42, 1.25, "cap", { blade: 7 }),
  body(22, "Dr. Mario", "DR MARIO", 13.5, 1.25, 0.38, 1.2, "human", { cape: true }),
  body(23, "Roy", "ROY", 15.5, 0.95, 0.49, 0.95, "hair", { blade: 10, cape: true }),
  body(24, "Pichu", "PICHU", 9, 1.2, 0.26, 1.8, "ears", { tail: true }),
  body(25, "Ganondorf", "GANON", 18.5, 1.4, 0.49, 0.8, "hair", { cape: true }),
];

const NOBODY = body(-1, "Fighter", "FIGHTER", 15, 1, 0.47, 1, "human");

export function bodyById(id: number): Body {
  return BODIES[id] ?? NOBODY;
}

/** Every fighter that can be drawn, in the order of ids. */
export function allBodies(): readonly Body[] {
  return BODIES;
}
