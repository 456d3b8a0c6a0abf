/** The program's real ELF on the real box: a world is uploaded, a session opened, two people sit down. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { type Address, address, createAddressWithSeed, type Instruction, type KeyPairSigner, type TransactionSigner } from '@solana/kit';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  fetchInputs,
  fetchState,
  fetchWorld,
  findWorldPda,
  getCheckWorldInstruction,
  getCreatePagesInstruction,
  getCreateSessionInstruction,
  getCreateShardInstruction,
  getCreateWorldInstruction,
  getModelManifestDecoder,
  getReadyInstruction,
  getWriteShardInstruction,
  createWithSeed,
  padSender,
  sender,
  sessionAddresses,
  sessionId,
  sitDown,
  states,
  WORLD_MODEL_PROGRAM_ADDRESS,
} from '../src';
import { type Box, cabinet, startBox } from './box';

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));
const ELF = here('../../../programs/world-model/world_model.so');
const SYSTEM = address('11111111111111111111111111111111');
/** A cartridge file: header, manifest, shards. */
const [MANIFEST_AT, SHARDS_AT] = [64, 576];
/** A shard's account begins with this many bytes of its own. */
const SHARD_HEAD = 64;
/** As executed, before it is on the disk. */
const NOW = { commitment: 'processed' } as const;
const WRITE_BYTES = 960;
const READY = 2;
const ACTIVE = 3;
const ID = 7n;
const STAGE = 31;

describe.skipIf(!cabinet)('on the box', () => {
  let box: Box;
  let owner: KeyPairSigner;
  let send: (payer: TransactionSigner, instructions: Instruction[]) => Promise<unknown>;

  beforeAll(async () => {
    box = await startBox('--program', `${WORLD_MODEL_PROGRAM_ADDRESS}=${ELF}`);
    send = sender(box.rpc).transact;
    owner = await box.rich();
  });
  afterAll(() => box.stop());

  async function shardAccount(seed: string, space: number): Promise<[Address, Instruction]> {
    const programAddress = WORLD_MODEL_PROGRAM_ADDRESS;
    const shard = await createAddressWithSeed({ baseAddress: owner.address, programAddress, seed });
    const rent = await box.rpc.getMinimumBalanceForRentExemption(BigInt(space)).send();
    return [shard, createWithSeed(owner, shard, seed, rent, space)];
  }

  /** Puts `worlds/micro.cart` on the chain. */
  async function upload(): Promise<{ world: Address; shards: Address[]; pages: number }> {
    const file = readFileSync(here('../../../worlds/micro.cart'));
    const manifest = getModelManifestDecoder().decode(file.subarray(MANIFEST_AT, SHARDS_AT));
    const [world] = await findWorldPda({ owner: owner.address, id: ID });
    await send(owner, [getCreateWorldInstruction({ owner, world, id: ID, fee: 0n, manifest })]);
    const shards: Address[] = [];
    let at = SHARDS_AT;
    for (let index = 0; index < manifest.shardCount; index++) {
      const weights = file.subarray(at, at + manifest.shardBytes[index]);
      at += weights.length;
      const seed = ID.toString(16).padStart(16, '0') + index.toString(16);
      const [shard, made] = await shardAccount(seed, SHARD_HEAD + weights.length);
      await send(owner, [made, getCreateShardInstruction({ owner, world, shard, index })]);
      const writes: Promise<unknown>[] = [];
      for (let offset = 0; offset < weights.length; offset += WRITE_BYTES) {
        const content = weights.subarray(offset, offset + WRITE_BYTES);
        writes.push(send(owner, [getWriteShardInstruction({ owner, world, shard, offset, content })]));
        if (writes.length === 32) await Promise.all(writes.splice(0));
      }
      await Promise.all(writes);
      shards.push(shard);
    }
    const status = async () => (await fetchWorld(box.rpc, world, NOW)).data.status;
    for (const shard of shards) {
      for (let tries = 0; tries < 64 && (await status()) !== READY; tries++) {
        await send(owner, [getCheckWorldInstruction({ owner, world, shard, leaves: 1 })]);
      }
    }
    expect(await status()).toBe(READY);
    return { world, shards, pages: manifest.hiddenPages };
  }

  test('two people sit down at an uploaded world, and a pad arrives', async () => {
    const { world, shards, pages } = await upload();
    const at = await sessionAddresses(owner.address, 'GAME01', pages);
    const { session, state, inputs } = at;
    await send(owner, [
      getCreateSessionInstruction({
        payer: owner,
        session,
        state,
        inputs,
        world,
        worldOwner: owner.address,
        id: sessionId('GAME01'),
        operator: SYSTEM,
        generator: 1n,
        clock: 0,
        stage: STAGE,
        kernels: 0,
      }),
      getCreatePagesInstruction({ payer: owner, session, world, first: 0, pages: at.pages }),
    ]);
    const ending = new AbortController();
    const heard = (async () => {
      const seen = states(box.subscriptions, state, { abortSignal: ending.signal });
      for await (const one of seen) if (one.status === ACTIVE) return one;
      throw new Error('the subscription ended');
    })();
    const keys = [await box.rich(), await box.rich()];
    for (const [seat, character] of [2, 20].entries()) {
      const sitting = { session, state, wallet: owner, sessionKey: keys[seat] };
      await send(keys[seat], sitDown({ ...sitting, seat, character }));
    }
    for (const [seat, key] of keys.entries()) {
      await send(key, [getReadyInstruction({ key, session, state, world, shards, seat })]);
    }
    const active = await heard;
    ending.abort();
    expect(active.players[0].stocks).toBe(4);
    expect((await fetchState(box.rpc, state, NOW)).data.stage).toBe(STAGE);

    const pads = padSender({
      session,
      inputs,
      sessionKey: keys[1],
      seat: 1,
      send: (instructions) => send(keys[1], instructions),
    });
    const pad = { stick: [32_000, 0], cstick: [0, 0], triggers: Uint8Array.of(0, 0), buttons: 0 };
    await pads.press(pad);
    const { slots } = (await fetchInputs(box.rpc, inputs, NOW)).data.buffer;
    expect([slots[1].sequence, slots[1].pad.stick[0], slots[0].sequence]).toEqual([1, 32_000, 0]);
    // Somebody else's seat is refused, by name.
    const theirs = padSender({ ...at, sessionKey: keys[1], seat: 0, send: (i) => send(keys[1], i) });
    await expect(theirs.press(pad)).rejects.toThrow();
    expect((await fetchInputs(box.rpc, inputs, NOW)).data.buffer.slots[0].sequence).toBe(0);
  });
});
