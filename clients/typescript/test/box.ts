/** The real box, for tests. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { airdropFactory, createSolanaRpc, createSolanaRpcSubscriptions, generateKeyPairSigner, type KeyPairSigner, lamports } from '@solana/kit';

/** Our chains' binary; without it the tests that need it are skipped. */
export const cabinet = process.env.WORLDLINE_CABINET;

export interface Box {
  rpc: ReturnType<typeof createSolanaRpc>;
  subscriptions: ReturnType<typeof createSolanaRpcSubscriptions>;
  url: string;
  /** Somebody new who has SOL. */
  rich(): Promise<KeyPairSigner>;
  give(to: KeyPairSigner): Promise<void>;
  stop(): Promise<void>;
}

/** A box with an empty ledger. */
export async function startBox(...options: string[]): Promise<Box> {
  const ledger = mkdtempSync(join(tmpdir(), 'worldline-client-'));
  const child = spawn(cabinet!, ['l1', '--ledger', ledger, ...options], { stdio: ['pipe', 'pipe', 'inherit'] });
  const [line] = await once(createInterface(child.stdout), 'line');
  const urls = JSON.parse(line);
  const rpc = createSolanaRpc(urls.rpc);
  const subscriptions = createSolanaRpcSubscriptions(urls.ws);
  const give = async (to: KeyPairSigner): Promise<void> => {
    await airdropFactory({ rpc, rpcSubscriptions: subscriptions } as never)({
      commitment: 'confirmed',
      recipientAddress: to.address,
      lamports: lamports(10_000_000_000n),
    });
  };
  return {
    rpc,
    subscriptions,
    url: urls.rpc,
    give,
    async rich() {
      const person = await generateKeyPairSigner();
      await give(person);
      return person;
    },
    async stop() {
      const ended = once(child, 'exit');
      child.stdin.end();
      await ended;
      rmSync(ledger, { recursive: true });
    },
  };
}
