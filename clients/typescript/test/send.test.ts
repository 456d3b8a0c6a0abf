/** What a sender does when the chain behind it is not the one that it knew. */
import { AccountRole, address, type Instruction, type KeyPairSigner } from '@solana/kit';
import { describe, expect, test } from 'vitest';
import { sender } from '../src';
import { cabinet, startBox } from './box';

const SYSTEM = address('11111111111111111111111111111111');

/** The system program's Transfer, to oneself. */
function transfer(of: KeyPairSigner, lamports: bigint): Instruction {
  const data = new Uint8Array(12);
  const view = new DataView(data.buffer);
  view.setUint32(0, 2, true);
  view.setBigUint64(4, lamports, true);
  const accounts = [
    { address: of.address, role: AccountRole.WRITABLE_SIGNER, signer: of },
    { address: of.address, role: AccountRole.WRITABLE },
  ];
  return { programAddress: SYSTEM, accounts, data } as Instruction;
}

describe.skipIf(!cabinet)('a sender', () => {
  test('goes on when its chain was started again and has forgotten the blockhash', async () => {
    const before = await startBox();
    const { transact, post } = sender(before.rpc);
    const payer = await before.rich();
    await transact(payer, [transfer(payer, 1n)]);
    await before.stop();
    // Nothing of the ledger is left, so that no hash of it is known.
    const after = await startBox('--listen', new URL(before.url).host);
    await after.give(payer);
    await expect(transact(payer, [transfer(payer, 2n)])).resolves.toBeDefined();
    await expect(post(payer, [transfer(payer, 3n)])).resolves.toBeDefined();
    await after.stop();
  });

  test('executes the same instructions as often as it is told to', async () => {
    const box = await startBox();
    const { transact } = sender(box.rpc);
    const payer = await box.rich();
    const [one, two] = await Promise.all([transact(payer, [transfer(payer, 1n)]), transact(payer, [transfer(payer, 1n)])]);
    expect(one).not.toBe(two);
    await box.stop();
  });
});
