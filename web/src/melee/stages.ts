/**
 * Stage geometry in game units, from public measurements of the tournament stages.
 * It is only drawn: where the ground is, the network learned by itself.
 */

export interface Platform { left: number; right: number; y: number }

export interface Stage {
  id: number;
  name: string;
  /** Half width of the main floor, its edges at (±edge, edgeY). */
  edge: number;
  edgeY: number;
  /** Underside of the main block as x, y pairs from the right edge to the left one. */
  under: number[];
  platforms: Platform[];
  /** Side platforms that rise and sink: their height is read from who stands on them. */
  moving: boolean;
  blast: { left: number; right: number; top: number; bottom: number };
}

const UNDER_ISLAND = [1, -6, 0.93, -12, 0.72, -26, 0.5, -34, 0.28, -46, 0.12, -62];

/** Scales the outline of a floating island (shares of the half width, units down) to a stage. */
function island(edge: number, edgeY: number, depth: number): number[] {
  const points: number[] = [];
  for (let i = 0; i < UNDER_ISLAND.length; i += 2) points.push(UNDER_ISLAND[i] * edge, edgeY + UNDER_ISLAND[i + 1] * depth);
  for (let i = UNDER_ISLAND.length - 2; i >= 0; i -= 2) points.push(-UNDER_ISLAND[i] * edge, edgeY + UNDER_ISLAND[i + 1] * depth);
  return points;
}

const sides = (left: number, right: number, y: number): Platform[] => [{ left, right, y }, { left: -right, right: -left, y }];

const ALL: Stage[] = [
  {
    id: 2, name: "Fountain of Dreams", edge: 63.35, edgeY: 0.62, under: island(63.35, 0.62, 0.75), moving: true,
    platforms: [...sides(-49.5, -21, 20), { left: -14.25, right: 14.25, y: 42.75 }],
    blast: { left: -198.75, right: 198.75, top: 202.5, bottom: -146.25 },
  },
  {
    id: 3, name: "Pokémon Stadium", edge: 87.75, edgeY: 0, under: [86, -6, 66, -8, 62, -26, 18, -26, 14, -60, -14, -60, -18, -26, -62, -26, -66, -8, -86, -6], moving: false,
    platforms: sides(-55, -25, 25),
    blast: { left: -230, right: 230, top: 180, bottom: -111 },
  },
  {
    id: 8, name: "Yoshi's Story", edge: 56, edgeY: -3.5, under: [56, -9, 50, -14, 46, -70, -46, -70, -50, -14, -56, -9], moving: false,
    platforms: [...sides(-59.5, -28, 23.45), { left: -15.75, right: 15.75, y: 42 }],
    blast: { left: -175.7, right: 173.6, top: 168, bottom: -91 },
  },
  {
    id: 28, name: "Dream Land", edge: 77.27, edgeY: 0, under: [76, -9, 62, -11, 52, -22, 42, -20, 34, -60, -34, -60, -42, -20, -52, -22, -62, -11, -76, -9], moving: false,
    platforms: [...sides(-61.39, -31.73, 30.14), { left: -19.02, right: 19.02, y: 51.43 }],
    blast: { left: -255, right: 255, top: 250, bottom: -123 },
  },
  {
    id: 31, name: "Battlefield", edge: 68.4, edgeY: 0, under: island(68.4, 0, 0.8), moving: false,
    platforms: [...sides(-57.6, -20, 27.2), { left: -18.8, right: 18.8, y: 54.4 }],
    blast: { left: -224, right: 224, top: 200, bottom: -108.8 },
  },
  {
    id: 32, name: "Final Destination", edge: 85.57, edgeY: 0, under: [84, -7, 66, -12, 60, -20, 34, -28, 22, -46, 8, -62, -8, -62, -22, -46, -34, -28, -60, -20, -66, -12, -84, -7], moving: false,
    platforms: [],
    blast: { left: -246, right: 246, top: 188, bottom: -140 },
  },
];

/** A plain floor for stages that have no drawing: a world may know more stages than we do. */
const UNKNOWN: Stage = { ...ALL[5], id: 0, name: "unknown stage" };

export function stageById(id: number): Stage {
  return ALL.find((stage) => stage.id === id) ?? UNKNOWN;
}
