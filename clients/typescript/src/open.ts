/** A session from its opening to the rollup, and back when nobody played it. */
import {
  AccountRole,
  type Address,
  address,
  getAddressEncoder,
  getProgramDerivedAddress,
  type Instruction,
  type TransactionSigner,
} from '@solana/kit';
import {
  getCloseSessionInstruction,
  getCommitInstruction,
  getCreatePagesInstruction,
  getCreateSessionInstruction,
  getDelegateInstruction,
  WORLD_MODEL_PROGRAM_ADDRESS,
} from './generated';
import { type SessionAddresses, sessionId } from './session';

const COMPUTE_BUDGET = address('ComputeBudget111111111111111111111111111111');
const DELEGATION_PROGRAM = address('DELeGGvXpWV2fqJUhqcF5ZSYMS4JTLjteaAMARRSaeSh');
/** What L1 lets a transaction use, compute units. */
export const L1_UNITS = 1_400_000;
/** Pages of hidden state that one transaction makes. */
const PAGES_PER_CREATE = 8;
/** Accounts that one transaction commits or closes. */
const ACCOUNTS_PER_COMMIT = 12;
/** The rollup commits an account when it is asked to, and never by the clock. */
const NEVER = 0xffffffff;
/** The score is committed every 1,800 frames, for one fee; hidden state is a hundred times as large. */
const STATE_COMMIT_MS = 30_000;
/** Bytes of a session's accounts, and of the delegation program's records of each. */
const [SESSION_BYTES, STATE_BYTES, INPUTS_BYTES, PAGE_BYTES] = [512, 256, 256, 10_240];
const RECORD_BYTES = [96, 150];
/** Lamports a signature, and what the delegation program keeps of an account that it gives back. */
const FEE = 5_000n;
const DELEGATION_FEE = 300_000n;
/** `abi::instruction::part`. */
const PART = { session: 0, state: 1, inputs: 2, page: 4 } as const;

/** Instructions that go into one transaction. */
export type Batch = readonly Instruction[];

/** Lets a transaction use so many compute units. */
export function unitLimit(units: number): Instruction {
  const data = new Uint8Array(5);
  data[0] = 2;
  new DataView(data.buffer).setUint32(1, units, true);
  return { programAddress: COMPUTE_BUDGET, accounts: [], data };
}

/** What a session is opened with. */
export interface NewSession {
  payer: TransactionSigner;
  at: SessionAddresses;
  world: Address;
  worldOwner: Address;
  /** Its id as text, the one `at` was made from. */
  id: string;
  /** Who alone may execute frames: the rollup's identity. */
  operator: Address;
  /** The match's random numbers begin here. */
  generator: bigint;
  /** Frames until time is up; 0 takes the world's own. */
  clock: number;
  stage: number;
  /** `abi::kernels`: 0 plain, 1 matrices by syscall, 2 matrices and scan by syscall. */
  kernels: number;
}

/** The transactions that open a session on L1, to be sent one after the other. */
export function openSession(session: NewSession): Batch[] {
  const { at, id, payer, world } = session;
  const batches: Batch[] = [[getCreateSessionInstruction({ ...session, ...at, id: sessionId(id) })]];
  for (let first = 0; first < at.pages.length; first += PAGES_PER_CREATE) {
    const pages = at.pages.slice(first, first + PAGES_PER_CREATE);
    const made = getCreatePagesInstruction({ payer, session: at.session, world, first, pages });
    batches.push([unitLimit(L1_UNITS), made]);
  }
  return batches;
}

/** What a session takes from its payer, lamports. */
export interface SessionCost {
  /** Deposits: of its accounts, back when it is closed, and of the rollup's records, back when it is given back. */
  deposit: bigint;
  /** L1's fees and what the delegation program keeps of each account. */
  fees: bigint;
}

/** What a session of a world with `pages` pages takes. */
export async function sessionCost(pages: number, rent: (bytes: number) => Promise<bigint>): Promise<SessionCost> {
  const sizes = [SESSION_BYTES, STATE_BYTES, INPUTS_BYTES];
  const [own, page, record] = await Promise.all([
    Promise.all(sizes.map(rent)),
    rent(PAGE_BYTES),
    Promise.all(RECORD_BYTES.map(rent)),
  ]);
  const parts = BigInt(sizes.length + pages);
  const sum = (list: bigint[]): bigint => list.reduce((all, one) => all + one, 0n);
  const made = BigInt(1 + Math.ceil(pages / PAGES_PER_CREATE));
  return { deposit: sum(own) + page * BigInt(pages) + sum(record) * parts, fees: (made + parts) * FEE + parts * DELEGATION_FEE };
}

/** The transactions that lend a session to the rollup `validator`, in any order. */
export function lendSession(session: { payer: TransactionSigner; at: SessionAddresses; id: string; validator: Address }): Promise<Batch[]> {
  const { at } = session;
  const parts: [part: number, index: number, account: Address][] = [
    ...at.pages.map((page, index): [number, number, Address] => [PART.page, index, page]),
    [PART.inputs, 0, at.inputs],
    [PART.state, 0, at.state],
    [PART.session, 0, at.session],
  ];
  return Promise.all(parts.map((part) => lend(session, ...part)));
}

async function lend(
  { payer, id, validator }: { payer: TransactionSigner; id: string; validator: Address },
  part: number,
  index: number,
  account: Address,
): Promise<Batch> {
  const program = WORLD_MODEL_PROGRAM_ADDRESS;
  const derive = async (programAddress: Address, seed: string): Promise<Address> =>
    (await getProgramDerivedAddress({ programAddress, seeds: [seed, getAddressEncoder().encode(account)] }))[0];
  const [buffer, record, metadata] = await Promise.all([
    derive(program, 'buffer'),
    derive(DELEGATION_PROGRAM, 'delegation'),
    derive(DELEGATION_PROGRAM, 'delegation-metadata'),
  ]);
  const commitMs = part === PART.state ? STATE_COMMIT_MS : NEVER;
  const lent = getDelegateInstruction({ payer, account, program, buffer, record, metadata, id: sessionId(id), part, index, commitMs, validator });
  return [unitLimit(L1_UNITS), lent];
}

/** The transactions by which a rollup gives a session back to L1, to be sent to the rollup in order. */
export function giveBack(payer: TransactionSigner, at: SessionAddresses): Batch[] {
  const commit = (accounts: Address[]): Batch => [getCommitInstruction({ payer, ...at, undelegate: 1, accounts })];
  return [...chunks(at.pages, ACCOUNTS_PER_COMMIT).map(commit), commit([at.inputs, at.state, at.session])];
}

/** The transactions that close a session that L1 has; its deposits go to `payer`. */
export function closeSession(closer: TransactionSigner, payer: Address, world: Address, at: SessionAddresses): Batch[] {
  const parts = at.pages.length === 0 ? [[]] : chunks([...at.pages].reverse(), ACCOUNTS_PER_COMMIT);
  return parts.map((pages) => [getCloseSessionInstruction({ ...at, closer, payer, world, pages })]);
}

export function chunks<T>(list: T[], size: number): T[][] {
  const parts: T[][] = [];
  for (let at = 0; at < list.length; at += size) parts.push(list.slice(at, at + size));
  return parts;
}

/** An account that an instruction writes to, or that signs. */
export const writable = (one: Address) => ({ address: one, role: AccountRole.WRITABLE });
