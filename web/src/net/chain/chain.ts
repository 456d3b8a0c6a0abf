/** Both chains behind the arcade's own address, and who pays on them. */
import { type Address, address, createSolanaRpc, createSolanaRpcSubscriptions, fetchEncodedAccounts, type Instruction, lamports, type RequestAirdropApi, type Rpc as AnyRpc, type TransactionSigner } from "@solana/kit";
import { type Batch, closeSession, faultOf, fetchSession, giveBack, sender, type Sender, sessionAddresses } from "@worldline/client";
import { type ChainAbout, json, post } from "../api";
import { idText } from "./view";
import { openWallets, type Wallets } from "./wallet";

export const LAMPORTS_PER_SOL = 1_000_000_000n;
/** A wallet with less than this asks the box's faucet, where there is one. */
const POOR = 5n * LAMPORTS_PER_SOL;
const AIRDROP = 50n * LAMPORTS_PER_SOL;
const AIRDROP_MS = 10_000;
/** The rollup gives a session back within this. */
const GIVEN_BACK_MS = 60_000;
const NOW = { commitment: "processed" } as const;
/** Transactions on their way at the same time. */
const PARALLEL = 8;

type Rpc = ReturnType<typeof createSolanaRpc>;
type Subscriptions = ReturnType<typeof createSolanaRpcSubscriptions>;

/** One chain: questions, subscriptions, transactions. */
export interface Side extends Sender { rpc: Rpc; subscriptions: Subscriptions }

export interface Chain {
  l1: Side;
  rollup: Side;
  /** The rollup's identity, which runs, records and settles matches. */
  keeper: Address;
  wallets: Wallets;
  playMoney: boolean;
  /** Where links to this arcade begin. */
  home: string;
  /** Sends batches one after the other; the last one for good. */
  inOrder(side: Side, payer: TransactionSigner, batches: readonly Batch[], told?: (done: number) => void): Promise<void>;
  /** Sends batches side by side, each for good. */
  sideBySide(side: Side, payer: TransactionSigner, batches: readonly Batch[]): Promise<void>;
  /** Gives a session back that nobody has played, and its deposits to its payer. */
  cancel(session: string): Promise<void>;
  /** Why the rollup cannot reach L1; `null` while it can. Only our own rollup says. */
  l1Trouble(): Promise<string | null>;
  balance(of: Address): Promise<bigint>;
  /** Play money for a wallet that has little. */
  fund(wallet: Address): Promise<void>;
}

/** Refusals of the program in its own words. */
function inWords(error: unknown): never {
  const fault = faultOf(error);
  throw fault === null ? error : new Error(`The chain refused: ${fault.words}.`, { cause: error });
}

function side(which: string): Side {
  const http = new URL(`/api/chain/rpc/${which}`, location.href).href;
  const rpc = createSolanaRpc(http);
  const { transact, post } = sender(rpc);
  return {
    rpc,
    subscriptions: createSolanaRpcSubscriptions(http.replace(/^http/, "ws")),
    transact: (payer: TransactionSigner, instructions: readonly Instruction[], firm?: boolean) => transact(payer, instructions, firm).catch(inWords),
    post,
  };
}

export async function openChain(about: ChainAbout): Promise<Chain> {
  if (about.keeper === null) throw new Error("Nobody runs the matches of this arcade's rollup: start it with its own chains.");
  const l1 = side("l1");
  const balance = async (of: Address): Promise<bigint> => (await l1.rpc.getBalance(of, { commitment: "processed" }).send()).value;
  const rollup = side("rollup");
  const wallets = await openWallets();

  async function inOrder(at: Side, payer: TransactionSigner, batches: readonly Batch[], told?: (done: number) => void): Promise<void> {
    for (const [index, batch] of batches.entries()) {
      await at.transact(payer, batch, index === batches.length - 1);
      told?.(index + 1);
    }
  }

  return {
    l1,
    rollup,
    keeper: address(about.keeper),
    wallets,
    playMoney: about.play_money,
    home: about.home,
    balance,
    inOrder,
    async l1Trouble() {
      const question = post({ jsonrpc: "2.0", id: 1, method: "getRollupState" });
      const { result } = await json<{ result?: { l1: { error: string | null } } }>("/api/chain/rpc/rollup", question);
      return result?.l1.error ?? null;
    },
    async cancel(session) {
      const { data } = await fetchSession(rollup.rpc, address(session), NOW);
      const payer = wallets.current().signer;
      if (data.session.payer !== payer.address) return;
      const at = await sessionAddresses(payer.address, idText(data.session.id), data.pages);
      await inOrder(rollup, payer, giveBack(payer, at));
      const parts = [...at.pages, at.inputs, at.state, at.session];
      const isBack = async (): Promise<boolean> => (await fetchEncodedAccounts(l1.rpc, parts, NOW)).every((one) => one.exists && one.programAddress === about.program);
      for (const start = Date.now(); !(await isBack()); ) {
        if (Date.now() - start > GIVEN_BACK_MS) throw new Error("L1 has not got the session back yet; its deposits stay there until it has.");
        await new Promise((done) => setTimeout(done, 500));
      }
      await inOrder(l1, payer, closeSession(payer, payer.address, data.session.world, at));
    },
    async sideBySide(at, payer, batches) {
      const left = [...batches];
      const work = async (): Promise<void> => {
        for (let batch = left.shift(); batch !== undefined; batch = left.shift()) await at.transact(payer, batch, true);
      };
      await Promise.all(Array.from({ length: PARALLEL }, work));
    },
    async fund(wallet) {
      if (!about.play_money || (await balance(wallet)) >= POOR) return;
      await (l1.rpc as unknown as AnyRpc<RequestAirdropApi>).requestAirdrop(wallet, lamports(AIRDROP)).send();
      for (const start = Date.now(); (await balance(wallet)) < POOR; ) {
        if (Date.now() - start > AIRDROP_MS) throw new Error("The faucet gave no play money. Try again.");
        await new Promise((done) => setTimeout(done, 200));
      }
    },
  };
}

/** Lamports as people read them. */
export function sol(lamports: bigint): string {
  const whole = Number(lamports) / Number(LAMPORTS_PER_SOL);
  return `${whole.toLocaleString("en", { maximumFractionDigits: 4 })} SOL`;
}

/** An address, shortened for people. */
export function short(of: string): string {
  return `${of.slice(0, 4)}…${of.slice(-4)}`;
}
