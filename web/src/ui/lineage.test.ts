import { describe, expect, it } from "vitest";
import type { WorldNode } from "../net/worlds";
import { place } from "./lineage";

const node = (id: string, origin: string | null): WorldNode => ({ id, origin, kind: "sandbox", state: "running", trit: 0, metadata: {}, pages: 0 });

describe("the lineage", () => {
  it("gives each world a place of its own, behind its parent", () => {
    const placed = place([node("a", null), node("s", "a"), node("b", "s"), node("c", "s"), node("d", "s"), node("z", null)]);
    expect(new Set(placed.map(({ x, y }) => `${x},${y}`)).size).toBe(6);
    for (const one of placed) expect(one.x).toBe(one.parent === null ? 0 : one.parent.x + 1);
    expect(placed.find(({ node }) => node.id === "b")?.y).toBe(0);
  });
  it("shows a world whose parent is gone as a root", () => expect(place([node("b", "gone")])[0].x).toBe(0));
  it("does not mind depth", () => {
    const deep = Array.from({ length: 20_000 }, (_, index) => node(`n${index}`, index === 0 ? null : `n${index - 1}`));
    expect(place(deep).at(-1)?.x).toBe(19_999);
  });
});
