/** The same bytes as the program's own crate writes (`crates/abi/tests`). */
import { readFileSync } from 'node:fs';
import { address, createNoopSigner } from '@solana/kit';
import { expect, test } from 'vitest';
// @ts-expect-error the builder is plain JavaScript
import { idl } from '../scripts/idl.mjs';
import {
  getSubmitInputInstruction,
  getWriteShardInstructionDataEncoder,
  identifyWorldModelInstruction,
  sessionAddresses,
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
