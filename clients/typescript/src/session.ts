/** Where a session's accounts lie, and how a player takes a seat. */
import type { Address, Instruction, TransactionSigner } from '@solana/kit';
import {
  findFramePda,
  findInputsPda,
  findPagePda,
  findReplayPda,
  findResultPda,
  findSessionPda,
  findStatePda,
  getJoinSessionInstruction,
  getPickCharacterInstruction,
} from './generated';

/** Bytes of a session's id. */
const ID_BYTES = 16;
/** `abi::seat::HUMAN`: a person, whose session key signs the inputs. */
const HUMAN = 1;

/** A session's id, from the text of its link. */
export function sessionId(text: string): Uint8Array {
  const bytes = new TextEncoder().encode(text);
  if (bytes.length > ID_BYTES) {
    throw new Error(`a session's id has at most ${ID_BYTES} bytes, "${text}" has ${bytes.length}`);
  }
  const id = new Uint8Array(ID_BYTES);
  id.set(bytes);
  return id;
}

/** All accounts of a session; its `pages` are made when it is opened. */
export interface SessionAddresses {
  session: Address;
  state: Address;
  inputs: Address;
  frame: Address;
  result: Address;
  replay: Address;
  pages: Address[];
}

/** The accounts of the session that `payer` opened under `id`, of a world with `pages` pages. */
export async function sessionAddresses(
  payer: Address,
  id: string,
  pages = 0,
  config: { programAddress?: Address } = {},
): Promise<SessionAddresses> {
  const [session] = await findSessionPda({ payer, id: sessionId(id) }, config);
  const parts = [findStatePda, findInputsPda, findFramePda, findResultPda, findReplayPda];
  const found = await Promise.all(parts.map((find) => find({ session }, config)));
  const [state, inputs, frame, result, replay] = found.map(([address]) => address);
  const indices = Array.from({ length: pages }, (_, index) => index);
  const made = await Promise.all(indices.map((index) => findPagePda({ session, index }, config)));
  return { session, state, inputs, frame, result, replay, pages: made.map(([page]) => page) };
}

/** A person takes a seat and picks a character: one transaction, signed by both keys. */
export function sitDown(seat: {
  session: Address;
  state: Address;
  wallet: TransactionSigner;
  sessionKey: TransactionSigner;
  seat: number;
  character: number;
}): Instruction[] {
  const { session, state, wallet, sessionKey } = seat;
  return [
    getJoinSessionInstruction({
      wallet,
      session,
      state,
      seat: seat.seat,
      kind: HUMAN,
      sessionKey: sessionKey.address,
    }),
    getPickCharacterInstruction({
      key: sessionKey,
      session,
      state,
      seat: seat.seat,
      character: seat.character,
    }),
  ];
}
