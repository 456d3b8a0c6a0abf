/** Worlds of code: lineage, cells, snapshots, branches, by the server's own calls. */
import { json, post, request } from "./api";

/** A world or a snapshot; whatever there has been stays in the tree. */
export interface WorldNode {
  id: string;
  origin: string | null;
  kind: string;
  state: "running" | "paused" | "snapshotted" | "collapsed";
  trit: number;
  metadata: Record<string, string>;
  pages: number;
}

/** What a cell did. */
export interface Execution { status: string; execution_count: number; output: string; value: string | null; images: string[]; execution_time: number }
/** The first step that two worlds do not share, from 1, as each of them took it. */
export interface Difference { equal: boolean; depth: number; first: [number, string | null, string | null] | null }

const id = encodeURIComponent;
const CELL_MS = 60_000;

async function act<T>(path: string, init: RequestInit): Promise<T> {
  return (await (await request(path, init, CELL_MS)).json()) as T;
}

export const worldsApi = {
  tree: () => json<WorldNode[]>("/v1/worlds/tree"),
  create: () => act<{ id: string }>("/v1/sandboxes", post({})),
  run: (world: string, code: string) => act<Execution>(`/v1/sandboxes/${id(world)}/execute`, post({ code })),
  snapshot: (world: string) => act<{ id: string }>(`/v1/sandboxes/${id(world)}/snapshots`, post({})),
  branch: (world: string, count: number) => act<unknown>(`/instance/${id(world)}/branch?count=${count}`, post({})),
  boot: (snapshot: string) => act<{ id: string }>(`/snapshot/${id(snapshot)}/boot`, post({})),
  pause: (world: string) => request(`/instance/${id(world)}/pause`, { method: "POST" }),
  resume: (world: string) => request(`/instance/${id(world)}/resume`, { method: "POST" }),
  stop: (world: string) => request(`/instance/${id(world)}`, { method: "DELETE" }),
  diff: (a: string, b: string) => json<Difference>(`/v1/worlds/diff?a=${id(a)}&b=${id(b)}`),
};
