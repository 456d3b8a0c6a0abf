/** A seat's pads as transactions: the newest one counts, so an older one is never worth a wait. */
import type { Address, Instruction, TransactionSigner } from '@solana/kit';
import { getSubmitInputInstruction, type PadArgs } from './generated';

/** Sequences wrap here. */
const SEQUENCES = 0x10000;

/** Sends pads in order, each at most once. */
export interface PadSender {
  /** Sends a pad; answers when it has been taken or has failed. */
  press(pad: PadArgs): Promise<void>;
  /** How many have been sent. */
  readonly sent: number;
}

/** A sender for one seat; `first` is the sequence of its first pad. */
export function padSender(seat: {
  session: Address;
  inputs: Address;
  sessionKey: TransactionSigner;
  seat: number;
  first?: number;
  send: (instructions: Instruction[]) => Promise<unknown>;
}): PadSender {
  const { session, inputs, sessionKey, first = 1, send } = seat;
  let sent = 0;
  return {
    get sent() {
      return sent;
    },
    async press(pad) {
      const sequence = (first + sent) % SEQUENCES;
      sent += 1;
      await send([
        getSubmitInputInstruction({
          key: sessionKey,
          session,
          inputs,
          seat: seat.seat,
          sequence,
          pad,
        }),
      ]);
    },
  };
}
