/** A world's way onto a chain as a copy of another, and off it. */
import { AccountRole, type Address, address, createAddressWithSeed, getAddressDecoder, getAddressEncoder, type Instruction, type TransactionSigner } from '@solana/kit';
import {
  findWorldPda,
  getCheckWorldInstruction,
  getCopyShardInstruction,
  getCreateShardInstruction,
  getForkWorldInstruction,
  getRetireWorldInstruction,
  type ModelManifest,
  type World,
  WORLD_MODEL_PROGRAM_ADDRESS,
} from './generated';
import { type Batch, L1_UNITS, unitLimit, writable } from './open';

const SYSTEM_PROGRAM = address('11111111111111111111111111111111');
/** Bytes of a shard's account before its weights. */
const SHARD_HEAD = 64;
/** Bytes that one transaction copies. */
const COPY_BYTES = 1 << 20;
/** Bytes of a leaf of the Merkle tree, and leaves that one transaction hashes. */
const LEAF_BYTES = 1 << 16;
const LEAVES_PER_CHECK = 40;
/** Bytes of a world's account, and of a name in it. */
const WORLD_BYTES = 1024;
const NAME_BYTES = 32;

/** Bytes of every account of a world, to be asked the rent for. */
export function worldSizes(manifest: ModelManifest): number[] {
  return [WORLD_BYTES, ...shardBytes(manifest).map((bytes) => SHARD_HEAD + bytes)];
}

/** A world's name. */
export function worldName(manifest: ModelManifest): string {
  return new TextDecoder().decode(manifest.name.filter((byte) => byte !== 0) as Uint8Array);
}

/** Where the shards of a world lie, those that it has. */
export function worldShards(manifest: ModelManifest): Address[] {
  return manifest.shards.slice(0, manifest.shardCount);
}

function shardBytes(manifest: ModelManifest): number[] {
  return manifest.shardBytes.slice(0, manifest.shardCount);
}

/** The parent of a fork; `null` of a world that was uploaded. */
export function parentOf(manifest: ModelManifest): Address | null {
  return manifest.parent.every((byte) => byte === 0) ? null : getAddressDecoder().decode(manifest.parent);
}

/** A fork: the transactions that make it, in order, and where it will stand. */
export async function forkWorld(fork: {
  owner: TransactionSigner;
  parent: Address;
  world: World;
  /** The owner's own number for it. */
  id: bigint;
  /** Lamports that each session pays to its owner. */
  fee: bigint;
  /** Empty keeps the parent's. */
  name: string;
  rent(bytes: number): Promise<bigint>;
}): Promise<{ world: Address; batches: Batch[] }> {
  const { owner, parent, id, fee } = fork;
  const manifest = fork.world.manifest;
  const bytes = new TextEncoder().encode(fork.name);
  if (bytes.length > NAME_BYTES) throw new Error(`A world's name has at most ${NAME_BYTES} bytes, “${fork.name}” has ${bytes.length}.`);
  const name = new Uint8Array(NAME_BYTES);
  name.set(bytes);
  const [world] = await findWorldPda({ owner: owner.address, id });
  const batches: Batch[] = [[getForkWorldInstruction({ owner, world, parent, id, fee, name })]];
  const checks: Batch[] = [];
  for (const [index, size] of shardBytes(manifest).entries()) {
    const seed = id.toString(16).padStart(16, '0') + index.toString(16);
    const shard = await createAddressWithSeed({ baseAddress: owner.address, programAddress: WORLD_MODEL_PROGRAM_ADDRESS, seed });
    const rent = await fork.rent(SHARD_HEAD + size);
    batches.push([createWithSeed(owner, shard, seed, rent, SHARD_HEAD + size), getCreateShardInstruction({ owner, world, shard, index })]);
    for (let offset = 0; offset < size; offset += COPY_BYTES) {
      const part = Math.min(COPY_BYTES, size - offset);
      const copied = getCopyShardInstruction({ owner, world, shard, source: manifest.shards[index], offset, bytes: part });
      batches.push([unitLimit(L1_UNITS), copied]);
    }
    const leaves = Math.ceil(size / LEAF_BYTES);
    for (let done = 0; done < leaves; done += LEAVES_PER_CHECK) {
      const checked = getCheckWorldInstruction({ owner, world, shard, leaves: Math.min(LEAVES_PER_CHECK, leaves - done) });
      checks.push([unitLimit(L1_UNITS), checked]);
    }
  }
  return { world, batches: [...batches, ...checks] };
}

/** The system program's CreateAccountWithSeed, for an account of the program's. */
export function createWithSeed(owner: TransactionSigner, made: Address, seed: string, rent: bigint, space: number): Instruction {
  const key = getAddressEncoder();
  const data = new Uint8Array(92 + seed.length);
  const view = new DataView(data.buffer);
  view.setUint32(0, 3, true);
  data.set(key.encode(owner.address), 4);
  view.setBigUint64(36, BigInt(seed.length), true);
  data.set(new TextEncoder().encode(seed), 44);
  view.setBigUint64(44 + seed.length, rent, true);
  view.setBigUint64(52 + seed.length, BigInt(space), true);
  data.set(key.encode(WORLD_MODEL_PROGRAM_ADDRESS), 60 + seed.length);
  const payer = { address: owner.address, role: AccountRole.WRITABLE_SIGNER, signer: owner };
  return { programAddress: SYSTEM_PROGRAM, accounts: [payer, writable(made)], data } as Instruction;
}

/** The transactions that close a world and give its deposit back, in order. */
export function retireWorld(owner: TransactionSigner, world: Address, manifest: ModelManifest): Batch[] {
  return [[getRetireWorldInstruction({ owner, world, shards: worldShards(manifest) })]];
}
