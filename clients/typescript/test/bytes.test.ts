/** The same bytes as the program's own crate writes (`crates/abi/tests`). */
import { readFileSync } from 'node:fs';
import { address, createNoopSigner } from '@solana/kit';
import { expect, test } from 'vitest';
// @ts-expect-error the builder is plain JavaScript
import { idl } from '../scripts/idl.mjs';
import {
  getSubmitInputInstruction,
  giveBack,
  getWriteShardInstructionDataEncoder,
  identifyWorldModelInstruction,
  lendSession,
  openSession,
  sessionAddresses,
  sessionCost,
  sessionId,
  WorldModelInstruction,
} from '../src';

const KEY = address('DELeGGvXpWV2fqJUhqcF5ZSYMS4JTLjteaAMARRSaeSh');
const read = (path: string) => JSON.parse(readFileSync(new URL(path, import.meta.url), 'utf8'));

test('the IDL is the interface that the program describes', () => {
  const made = JSON.parse(JSON.stringify(idl(read('../interface.json'))));
  expect(read('../../../programs/world-model/idl.json')).toEqual(made);
});

test('an instruction is its tag, its body and its tail', () => {
  const write = { offset: 0x01020304, content: Uint8Array.of(9, 8) };
  expect([...getWriteShardInstructionDataEncoder().encode(write)]).toEqual([3, 4, 3, 2, 1, 9, 8]);
  const { data, accounts } = getSubmitInputInstruction({
    key: createNoopSigner(KEY),
    session: KEY,
    inputs: KEY,
    seat: 1,
    sequence: 0x0203,
    pad: { stick: [1, -1], cstick: [0, 0], triggers: Uint8Array.of(0, 0), buttons: 0x0100 },
  });
  expect([...data]).toEqual([14, 1, 3, 2, 1, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 1]);
  expect(accounts).toHaveLength(3);
  expect(identifyWorldModelInstruction(data)).toBe(WorldModelInstruction.SubmitInput);
});

test('a session has all its addresses, and an id that is too long is refused', async () => {
  const at = await sessionAddresses(KEY, 'GAME01', 3);
  const all = [at.session, at.state, at.inputs, at.frame, at.result, at.replay, ...at.pages];
  expect(new Set(all).size).toBe(9);
  expect(sessionId('GAME01')).toHaveLength(16);
  expect(() => sessionId('x'.repeat(17))).toThrow('at most 16 bytes');
});

test('a session is opened page by page, lent part by part, and given back last of all', async () => {
  const payer = createNoopSigner(KEY);
  const at = await sessionAddresses(KEY, 'GAME01', 18);
  const wish = { payer, at, world: KEY, worldOwner: KEY, id: 'GAME01', operator: KEY, generator: 1n, clock: 0, stage: 31, kernels: 2 };
  const made = openSession(wish).slice(1).map((batch) => batch[1].accounts!.length - 4);
  expect(made).toEqual([8, 8, 2]);
  const lent = (await lendSession({ payer, at, id: 'GAME01', validator: KEY })).map((batch) => batch[1]);
  expect(lent.map(({ accounts }) => accounts![1].address)).toEqual([...at.pages, at.inputs, at.state, at.session]);
  const back = giveBack(payer, at).map((batch) => batch[0].accounts!.slice(5).map((one) => one.address));
  expect(back.at(-1)).toEqual([at.inputs, at.state, at.session]);
  expect(back.flat()).toHaveLength(21);
  const cost = await sessionCost(18, async (bytes) => BigInt(bytes));
  expect(cost.deposit).toBe(BigInt(512 + 256 + 256 + 18 * 10_240 + 21 * (96 + 150)));
});
