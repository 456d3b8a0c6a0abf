/** The program's real ELF on the real box: a world is uploaded, a session opened, two people sit down. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import {
  AccountRole,
  type Address,
  address,
  airdropFactory,
  appendTransactionMessageInstructions,
  assertIsTransactionWithBlockhashLifetime,
  createAddressWithSeed,
  createSolanaRpc,
  createSolanaRpcSubscriptions,
  createTransactionMessage,
  generateKeyPairSigner,
  getAddressEncoder,
  type Instruction,
  type KeyPairSigner,
  lamports,
  pipe,
  sendAndConfirmTransactionFactory,
  setTransactionMessageFeePayerSigner,
  setTransactionMessageLifetimeUsingBlockhash,
  signTransactionMessageWithSigners,
  type TransactionSigner,
} from '@solana/kit';
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
  padSender,
  sessionAddresses,
  sessionId,
  sitDown,
  states,
  WORLD_MODEL_PROGRAM_ADDRESS,
} from '../src';

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));
const cabinet = process.env.WORLDLINE_CABINET;
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
  let child: ChildProcess;
  let ledger: string;
  let rpc: ReturnType<typeof createSolanaRpc>;
  let subscriptions: ReturnType<typeof createSolanaRpcSubscriptions>;
  let owner: KeyPairSigner;

  beforeAll(async () => {
    ledger = mkdtempSync(join(tmpdir(), 'worldline-client-'));
    const program = `${WORLD_MODEL_PROGRAM_ADDRESS}=${ELF}`;
    child = spawn(cabinet!, ['l1', '--ledger', ledger, '--program', program], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    const [line] = await once(createInterface(child.stdout!), 'line');
    const urls = JSON.parse(line);
    rpc = createSolanaRpc(urls.rpc);
    subscriptions = createSolanaRpcSubscriptions(urls.ws);
    owner = await rich();
  });
  afterAll(async () => {
    const ended = once(child, 'exit');
    child.stdin!.end();
    await ended;
    rmSync(ledger, { recursive: true });
  });

  async function rich(): Promise<KeyPairSigner> {
    const person = await generateKeyPairSigner();
    await airdropFactory({ rpc, rpcSubscriptions: subscriptions } as never)({
      commitment: 'confirmed',
      recipientAddress: person.address,
      lamports: lamports(10_000_000_000n),
    });
    return person;
  }

  async function send(payer: TransactionSigner, instructions: Instruction[]): Promise<void> {
    const { value: latest } = await rpc.getLatestBlockhash().send();
    const transaction = await signTransactionMessageWithSigners(
      pipe(
        createTransactionMessage({ version: 'legacy' }),
        (message) => setTransactionMessageFeePayerSigner(payer, message),
        (message) => setTransactionMessageLifetimeUsingBlockhash(latest, message),
        (message) => appendTransactionMessageInstructions(instructions, message),
      ),
    );
    assertIsTransactionWithBlockhashLifetime(transaction);
    const confirm = sendAndConfirmTransactionFactory({ rpc, rpcSubscriptions: subscriptions } as never);
    await confirm(transaction as never, { commitment: 'processed' });
  }

  /** The system program's CreateAccountWithSeed. */
  async function shardAccount(seed: string, space: number): Promise<[Address, Instruction]> {
    const programAddress = WORLD_MODEL_PROGRAM_ADDRESS;
    const shard = await createAddressWithSeed({ baseAddress: owner.address, programAddress, seed });
    const rent = await rpc.getMinimumBalanceForRentExemption(BigInt(space)).send();
    const key = getAddressEncoder();
    const data = new Uint8Array(4 + 32 + 8 + seed.length + 8 + 8 + 32);
    const view = new DataView(data.buffer);
    view.setUint32(0, 3, true);
    data.set(key.encode(owner.address), 4);
    view.setBigUint64(36, BigInt(seed.length), true);
    data.set(new TextEncoder().encode(seed), 44);
    view.setBigUint64(44 + seed.length, rent, true);
    view.setBigUint64(52 + seed.length, BigInt(space), true);
    data.set(key.encode(programAddress), 60 + seed.length);
    const accounts = [
      { address: owner.address, role: AccountRole.WRITABLE_SIGNER, signer: owner },
      { address: shard, role: AccountRole.WRITABLE },
    ];
    return [shard, { programAddress: SYSTEM, accounts, data } as Instruction];
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
      const writes: Promise<void>[] = [];
      for (let offset = 0; offset < weights.length; offset += WRITE_BYTES) {
        const content = weights.subarray(offset, offset + WRITE_BYTES);
        writes.push(send(owner, [getWriteShardInstruction({ owner, world, shard, offset, content })]));
        if (writes.length === 32) await Promise.all(writes.splice(0));
      }
      await Promise.all(writes);
      shards.push(shard);
    }
    const status = async () => (await fetchWorld(rpc, world, NOW)).data.status;
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
      const seen = states(subscriptions, state, { abortSignal: ending.signal });
      for await (const one of seen) if (one.status === ACTIVE) return one;
      throw new Error('the subscription ended');
    })();
    const keys = [await rich(), await rich()];
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
    expect((await fetchState(rpc, state, NOW)).data.stage).toBe(STAGE);

    const pads = padSender({
      session,
      inputs,
      sessionKey: keys[1],
      seat: 1,
      send: (instructions) => send(keys[1], instructions),
    });
    const pad = { stick: [32_000, 0], cstick: [0, 0], triggers: Uint8Array.of(0, 0), buttons: 0 };
    await pads.press(pad);
    const { slots } = (await fetchInputs(rpc, inputs, NOW)).data.buffer;
    expect([slots[1].sequence, slots[1].pad.stick[0], slots[0].sequence]).toEqual([1, 32_000, 0]);
    // Somebody else's seat is refused, by name.
    const theirs = padSender({ ...at, sessionKey: keys[1], seat: 0, send: (i) => send(keys[1], i) });
    await expect(theirs.press(pad)).rejects.toThrow();
    expect((await fetchInputs(rpc, inputs, NOW)).data.buffer.slots[0].sequence).toBe(0);
  });
});
