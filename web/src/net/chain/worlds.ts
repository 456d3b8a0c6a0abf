/** One world on L1: what it is, what it holds, and what its owner or anybody can do with it. */
import { type Address, address, fetchEncodedAccounts } from "@solana/kit";
import { fetchMaybeWorld, fetchWorld, findScores, forkWorld, parentOf, retireWorld, type Score, type World, worldName, worldShards, worldSizes } from "@worldline/client";
import { hex } from "../../abi";
import { ApiError } from "../api";
import type { Chain } from "./chain";

const NOW = { commitment: "processed" } as const;
/** Lamports that L1 takes for a signature. */
const FEE = 5000n;
/** Parents that are followed at most: the chain of forks is a hint that nothing enforces. */
const MOST_ANCESTORS = 16;

/** Everything that stands on a world's page. */
export interface WorldPage {
  account: World;
  name: string;
  root: string;
  /** The world's account, then its shards. */
  accounts: { address: Address; lamports: bigint }[];
  rent: bigint;
  /** The parent, its parent, and so on, as far as they are still there. */
  ancestors: { address: string; name: string | null }[];
  scores: Score[];
}

export async function worldPage(chain: Chain, at: string): Promise<WorldPage> {
  const { rpc } = chain.l1;
  const world = await fetchMaybeWorld(rpc, address(at), NOW);
  if (!world.exists) throw new ApiError("unknown_world", "There is no world at this address on L1. It may have been retired.");
  const { manifest } = world.data;
  const accounts = [world.address, ...worldShards(manifest)];
  const [held, scores, ancestors] = await Promise.all([fetchEncodedAccounts(rpc, accounts, NOW), findScores(rpc, world.address), ancestry(chain, world.data)]);
  const listed = held.map((one) => ({ address: one.address, lamports: one.exists ? BigInt(one.lamports) : 0n }));
  return {
    account: world.data, name: worldName(manifest), root: hex(Uint8Array.from(manifest.merkleRoot)), accounts: listed,
    rent: listed.reduce((sum, { lamports }) => sum + lamports, 0n), ancestors, scores: scores.map(({ data }) => data),
  };
}

async function ancestry(chain: Chain, world: World): Promise<WorldPage["ancestors"]> {
  const found: WorldPage["ancestors"] = [];
  let parent = parentOf(world.manifest);
  while (parent !== null && found.length < MOST_ANCESTORS) {
    const of = await fetchMaybeWorld(chain.l1.rpc, parent, NOW);
    found.push({ address: parent, name: of.exists ? worldName(of.data.manifest) : null });
    parent = of.exists ? parentOf(of.data.manifest) : null;
  }
  return found;
}

export interface Cost { deposit: bigint; fees: bigint; transactions: number }

const rentOf = (chain: Chain) => async (bytes: number): Promise<bigint> => chain.l1.rpc.getMinimumBalanceForRentExemption(BigInt(bytes)).send();

async function planFork(chain: Chain, parent: string, name: string, fee: bigint) {
  const world = (await fetchWorld(chain.l1.rpc, address(parent), NOW)).data;
  const owner = chain.wallets.current().signer;
  const id = new DataView(crypto.getRandomValues(new Uint8Array(8)).buffer).getBigUint64(0, true);
  const plan = await forkWorld({ owner, parent: address(parent), world, id, fee, name, rent: rentOf(chain) });
  return { ...plan, owner, world, made: plan.world };
}

/** What a fork will take from the wallet. */
export async function forkCost(chain: Chain, parent: string): Promise<Cost> {
  const { world, batches } = await planFork(chain, parent, "", 0n);
  const rents = await Promise.all(worldSizes(world.manifest).map(rentOf(chain)));
  return { deposit: rents.reduce((sum, rent) => sum + rent, 0n), fees: FEE * BigInt(batches.length), transactions: batches.length };
}

/** Makes the fork; answers its address. */
export async function fork(chain: Chain, parent: string, name: string, fee: bigint, told: (done: number, of: number) => void): Promise<string> {
  const { made, batches, owner } = await planFork(chain, parent, name, fee);
  await chain.fund(owner.address);
  await chain.inOrder(chain.l1, owner, batches, (done) => told(done, batches.length));
  return made;
}

/** Closes a world of the wallet's; answers what came back. */
export async function retire(chain: Chain, at: string): Promise<bigint> {
  const owner = chain.wallets.current().signer;
  const world = (await fetchWorld(chain.l1.rpc, address(at), NOW)).data;
  const before = await chain.balance(owner.address);
  await chain.inOrder(chain.l1, owner, retireWorld(owner, address(at), world.manifest));
  return (await chain.balance(owner.address)) - before;
}
