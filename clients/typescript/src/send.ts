/** Transactions, sent and confirmed on any chain that speaks Solana's JSON-RPC. */
import {
  appendTransactionMessageInstructions,
  createTransactionMessage,
  type GetLatestBlockhashApi,
  type GetSignatureStatusesApi,
  getBase64EncodedWireTransaction,
  getSignatureFromTransaction,
  type Instruction,
  isSolanaError,
  pipe,
  type Rpc,
  type SendTransactionApi,
  SOLANA_ERROR__TRANSACTION_ERROR__BLOCKHASH_NOT_FOUND,
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

/** A blockhash, and since when it is known. */
interface Known { hash: Promise<Blockhash>; at: number }

/** A sender for the chain behind `rpc`. */
export function sender(rpc: SendingRpc): Sender {
  let known: Known | null = null;
  /** The newest blockhash, and what was sent under it. */
  let newest = '';
  let sent = new Set<Signature>();

  function took(hash: Blockhash): Blockhash {
    if (hash.blockhash !== newest) [newest, sent] = [hash.blockhash, new Set()];
    return hash;
  }

  function latest(): Known {
    if (known !== null && Date.now() - known.at <= HASH_MS) return known;
    const hash = rpc.getLatestBlockhash({ commitment: 'processed' }).send();
    const asked: Known = { hash: hash.then(({ value }) => took(value)), at: Date.now() };
    known = asked;
    // One that was not to be had is asked for again.
    asked.hash.catch(() => forget(asked));
    return asked;
  }

  function forget(used: Known): void {
    if (known === used) known = null;
  }

  async function signed(payer: TransactionSigner, instructions: readonly Instruction[], used: Known) {
    const hash = await used.hash;
    return signTransactionMessageWithSigners(
      pipe(
        createTransactionMessage({ version: 'legacy' }),
        (message) => setTransactionMessageFeePayerSigner(payer, message),
        (message) => setTransactionMessageLifetimeUsingBlockhash(hash, message),
        (message) => appendTransactionMessageInstructions(instructions, message),
      ),
    );
  }

  async function send(payer: TransactionSigner, instructions: readonly Instruction[], skipPreflight: boolean): Promise<Signature> {
    for (let restarted = false; ; ) {
      const used = latest();
      const transaction = await signed(payer, instructions, used);
      const signature = getSignatureFromTransaction(transaction);
      // The same again under the same hash is the same transaction, which runs once: wait for another.
      if (sent.has(signature)) {
        forget(used);
        await new Promise((done) => setTimeout(done, LOOK_MS));
        continue;
      }
      sent.add(signature);
      try {
        const options = { encoding: 'base64', preflightCommitment: 'processed', skipPreflight } as const;
        await rpc.sendTransaction(getBase64EncodedWireTransaction(transaction), options).send();
        return signature;
      } catch (error) {
        sent.delete(signature);
        // A chain that was started again may not know the hash any more: once more with a new one.
        if (restarted || !isForgotten(error)) throw error;
        restarted = true;
        forget(used);
      }
    }
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

function isForgotten(error: unknown): boolean {
  for (let one = error; one instanceof Error; one = one.cause) {
    if (isSolanaError(one, SOLANA_ERROR__TRANSACTION_ERROR__BLOCKHASH_NOT_FOUND)) return true;
  }
  return false;
}
