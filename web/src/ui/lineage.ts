/** A forest of worlds, drawn from left to right. Pure layout, then SVG. */
import type { WorldNode } from "../net/worlds";

export interface Placed { node: WorldNode; x: number; y: number; parent: Placed | null }

/** A place for each node: its depth, and a row that no other has; children stay with their parents. */
export function place(nodes: readonly WorldNode[]): Placed[] {
  const known = new Set(nodes.map((node) => node.id));
  const children = new Map<string | null, WorldNode[]>();
  for (const node of nodes) {
    const origin = node.origin !== null && known.has(node.origin) ? node.origin : null;
    children.set(origin, [...(children.get(origin) ?? []), node]);
  }
  const placed: Placed[] = [];
  let row = 0;
  // An own stack: lineages may be deeper than the call stack.
  const open: { node: WorldNode; x: number; parent: Placed | null; first: boolean }[] = (children.get(null) ?? []).map((node) => ({ node, x: 0, parent: null, first: false })).reverse();
  while (open.length > 0) {
    const { node, x, parent, first } = open.pop()!;
    // The first child goes on in its parent's row.
    if (!first) row += placed.length === 0 ? 0 : 1;
    const at: Placed = { node, x, y: row, parent };
    placed.push(at);
    const below = (children.get(node.id) ?? []).map((child, index) => ({ node: child, x: x + 1, parent: at, first: index === 0 }));
    open.push(...below.reverse());
  }
  return placed;
}

const [STEP_X, STEP_Y, PAD] = [96, 40, 22];
const SPACE = "http://www.w3.org/2000/svg";

function svg<K extends keyof SVGElementTagNameMap>(name: K, attributes: Record<string, string | number>): SVGElementTagNameMap[K] {
  const element = document.createElementNS(SPACE, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, String(value));
  return element;
}

/** The drawing; `chosen` hears which node was picked, by mouse or keyboard. */
export function drawLineage(nodes: readonly WorldNode[], picked: readonly string[], chosen: (id: string) => void): SVGSVGElement {
  const placed = place(nodes);
  const wide = Math.max(1, ...placed.map(({ x }) => x + 1));
  const high = Math.max(1, ...placed.map(({ y }) => y + 1));
  const at = (one: Placed): [number, number] => [PAD + one.x * STEP_X, PAD + one.y * STEP_Y];
  const [width, height] = [wide * STEP_X + 2 * PAD, high * STEP_Y + PAD];
  const drawing = svg("svg", { class: "lineage-map", viewBox: `0 0 ${width} ${height}`, width, height, role: "group", "aria-label": "Lineage" });
  for (const one of placed) {
    if (one.parent === null) continue;
    const [[x, y], [px, py]] = [at(one), at(one.parent)];
    drawing.append(svg("path", { d: `M${px} ${py}C${px + STEP_X / 2} ${py} ${x - STEP_X / 2} ${y} ${x} ${y}` }));
  }
  for (const one of placed) {
    const [x, y] = at(one);
    const { node } = one;
    const mark = svg("g", { class: `${node.state} ${node.kind} ${picked.includes(node.id) ? "picked" : ""}`, tabindex: 0, role: "button", "aria-label": `${node.kind} ${node.id}, ${node.state}`, "aria-pressed": String(picked.includes(node.id)) });
    mark.append(node.state === "snapshotted" ? svg("rect", { x: x - 6, y: y - 6, width: 12, height: 12 }) : svg("circle", { cx: x, cy: y, r: 7 }));
    const label = svg("text", { x: x + 12, y: y + 4 });
    label.textContent = node.metadata["name"] ?? node.id.slice(-6);
    mark.append(label);
    mark.addEventListener("click", () => chosen(node.id));
    mark.addEventListener("keydown", (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); chosen(node.id); } });
    drawing.append(mark);
  }
  return drawing;
}
