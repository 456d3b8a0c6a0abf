/** Transactions, sent and confirmed on any chain that speaks Solana's JSON-RPC. */
import {
  appendTransactionMessageInstructions,
  createTransactionMessage,
  type GetLatestBlockhashApi,
  type GetSignatureStatusesApi,
  getBase64EncodedWireTransaction,
  getSignatureFromTransaction,
  type Instruction,
  pipe,
  type Rpc,
  type SendTransactionApi,
  setTransactionMessageFeePayerSigner,
  setTransactionMessageLifetimeUsingBlockhash,
  type Signature,
  signTransactionMessageWithSigners,
  type TransactionSigner,
} from '@solana/kit';

/** What a chain has to answer. */
export type SendingRpc = Rpc<GetLatestBlockhashApi & GetSignatureStatusesApi & SendTransactionApi>;

/** Between two looks at a transaction's status, milliseconds. */
const LOOK_MS = 60;
/** A blockhash lives about this long. */
const LIFE_MS = 60_000;
/** A blockhash is used for new transactions this long. */
const HASH_MS = 15_000;

type Blockhash = Parameters<typeof setTransactionMessageLifetimeUsingBlockhash>[0];

/** Sends transactions to one chain; asks for a blockhash no more often than it must. */
export interface Sender {
  /** Sends, and answers when the chain has executed it; with `firm`, when it will not forget it. */
  transact(payer: TransactionSigner, instructions: readonly Instruction[], firm?: boolean): Promise<Signature>;
  /** Sends and does not wait for what comes of it. */
  post(payer: TransactionSigner, instructions: readonly Instruction[]): Promise<Signature>;
}

/** A sender for the chain behind `rpc`. */
export function sender(rpc: SendingRpc): Sender {
  let known: { hash: Promise<Blockhash>; at: number } | null = null;

  function blockhash(): Promise<Blockhash> {
    if (known === null || Date.now() - known.at > HASH_MS) {
      const hash = rpc.getLatestBlockhash({ commitment: 'processed' }).send();
      const asked = { hash: hash.then(({ value }) => value), at: Date.now() };
      known = asked;
      // One that was not to be had is asked for again.
      asked.hash.catch(() => { if (known === asked) known = null; });
    }
    return known.hash;
  }

  async function send(payer: TransactionSigner, instructions: readonly Instruction[], skipPreflight: boolean) {
    const latest = await blockhash();
    const transaction = await signTransactionMessageWithSigners(
      pipe(
        createTransactionMessage({ version: 'legacy' }),
        (message) => setTransactionMessageFeePayerSigner(payer, message),
        (message) => setTransactionMessageLifetimeUsingBlockhash(latest, message),
        (message) => appendTransactionMessageInstructions(instructions, message),
      ),
    );
    const wire = getBase64EncodedWireTransaction(transaction);
    const options = { encoding: 'base64', preflightCommitment: 'processed', skipPreflight } as const;
    await rpc.sendTransaction(wire, options).send();
    return getSignatureFromTransaction(transaction);
  }

  return {
    post: (payer, instructions) => send(payer, instructions, true),
    async transact(payer, instructions, firm = false) {
      const signature = await send(payer, instructions, false);
      for (const start = Date.now(); Date.now() - start < LIFE_MS; ) {
        const { value } = await rpc.getSignatureStatuses([signature]).send();
        const status = value[0];
        if (status?.err) throw new Error(`The transaction failed: ${JSON.stringify(status.err, (_, one) => (typeof one === 'bigint' ? Number(one) : one))}`);
        if (status && (!firm || status.confirmationStatus !== 'processed')) return signature;
        await new Promise((done) => setTimeout(done, LOOK_MS));
      }
      throw new Error('The chain never executed the transaction. Try again.');
    },
  };
}
