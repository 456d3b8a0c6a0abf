/**
 * Who pays. A burner wallet is made for whoever has none: its key lies in this browser's storage, for
 * play money. Real wallets announce themselves by the Wallet Standard.
 */
import { type Address, address, createKeyPairSignerFromPrivateKeyBytes, getTransactionDecoder, getTransactionEncoder, type SignatureDictionary, type Transaction, type TransactionPartialSigner } from "@solana/kit";
import { getWallets } from "@wallet-standard/app";
import { hex } from "../../abi";
import { unhex } from "../signing";

const SECRET_STORE = "worldline.burner";
const CHOICE_STORE = "worldline.wallet";
const SECRET_BYTES = 32;
const CONNECT = "standard:connect";
const SIGN = "solana:signTransaction";
/** What a wallet is told that it signs for: transactions go to the arcade's own chains. */
const CHAIN = "solana:localnet";

export interface Wallet {
  name: string;
  /** Its key lies in this browser. */
  burner: boolean;
  icon: string | null;
  address: Address;
  signer: TransactionPartialSigner;
}

export interface Wallets {
  current(): Wallet;
  /** Real wallets that are installed. */
  others(): string[];
  /** Uses another wallet: a real one's name, or `null` for the burner. The wallet may ask its owner. */
  use(name: string | null): Promise<void>;
  /** Calls `heard` when the wallet changes or one appears. Answers how to stop it. */
  onChange(heard: () => void): () => void;
}

interface Account { address: string; publicKey: Uint8Array }
interface Signing { signTransaction(...inputs: { account: Account; transaction: Uint8Array; chain: string }[]): Promise<readonly { signedTransaction: Uint8Array }[]> }
interface Connecting { connect(input?: { silent?: boolean }): Promise<{ accounts: readonly Account[] }> }
type Standard = ReturnType<ReturnType<typeof getWallets>["get"]>[number];

async function burner(): Promise<Wallet> {
  let text = localStorage.getItem(SECRET_STORE);
  if (text === null || text.length !== 2 * SECRET_BYTES) {
    text = hex(crypto.getRandomValues(new Uint8Array(SECRET_BYTES)));
    localStorage.setItem(SECRET_STORE, text);
  }
  const signer = await createKeyPairSignerFromPrivateKeyBytes(unhex(text));
  return { name: "Burner wallet", burner: true, icon: null, address: signer.address, signer };
}

/** A wallet of the standard as a signer; it may not change what it signs. */
function signerOf(account: Account, feature: Signing): TransactionPartialSigner {
  const own = address(account.address);
  const [encoder, decoder] = [getTransactionEncoder(), getTransactionDecoder()];
  return {
    address: own,
    async signTransactions(transactions: readonly Transaction[]): Promise<readonly SignatureDictionary[]> {
      const inputs = transactions.map((one) => ({ account, transaction: Uint8Array.from(encoder.encode(one)), chain: CHAIN }));
      const outputs = await feature.signTransaction(...inputs);
      return outputs.map(({ signedTransaction }, index) => {
        const signed = decoder.decode(signedTransaction);
        const same = hex(Uint8Array.from(signed.messageBytes)) === hex(Uint8Array.from(transactions[index].messageBytes));
        const signature = signed.signatures[own];
        if (!same || signature === null || signature === undefined) throw new Error("The wallet changed the transaction instead of signing it.");
        return { [own]: signature };
      });
    },
  };
}

async function open(wallet: Standard, silent: boolean): Promise<Wallet> {
  const features = wallet.features as Record<string, unknown>;
  const { accounts } = await (features[CONNECT] as Connecting).connect({ silent });
  if (accounts.length === 0) throw new Error(`${wallet.name} shares no account.`);
  return { name: wallet.name, burner: false, icon: wallet.icon, address: address(accounts[0].address), signer: signerOf(accounts[0], features[SIGN] as Signing) };
}

export async function openWallets(): Promise<Wallets> {
  const standard = getWallets();
  const own = await burner();
  let current = own;
  const hearers = new Set<() => void>();
  const tell = (): void => { for (const heard of hearers) heard(); };
  const usable = (): Standard[] => standard.get().filter((wallet) => CONNECT in wallet.features && SIGN in wallet.features);

  async function use(name: string | null, silent = false): Promise<void> {
    const wallet = usable().find((one) => one.name === name);
    if (name !== null && wallet === undefined) throw new Error(`There is no wallet “${name}” in this browser.`);
    current = wallet === undefined ? own : await open(wallet, silent);
    if (name === null) localStorage.removeItem(CHOICE_STORE);
    else localStorage.setItem(CHOICE_STORE, name);
    tell();
  }

  /** The wallet of the last visit, when it is there and still willing. */
  function recall(): void {
    const name = localStorage.getItem(CHOICE_STORE);
    if (name !== null && current === own) use(name, true).catch(() => undefined);
  }
  standard.on("register", () => { tell(); recall(); });
  recall();
  return {
    current: () => current,
    others: () => usable().map((wallet) => wallet.name),
    use: (name) => use(name),
    onChange(heard) {
      hearers.add(heard);
      return () => hearers.delete(heard);
    },
  };
}
