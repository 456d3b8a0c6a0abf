/** What the program says when it refuses. */
import { isSolanaError, SOLANA_ERROR__INSTRUCTION_ERROR__CUSTOM } from '@solana/kit';
import { faults } from '../interface.json';

/** A refusal: its code, its name and what it means. */
export interface Fault { code: number; name: string; words: string }

/** The program's refusal in an error of a transaction; `null` when it is another error. */
export function faultOf(error: unknown): Fault | null {
  for (let one = error; one instanceof Error; one = one.cause) {
    if (isSolanaError(one, SOLANA_ERROR__INSTRUCTION_ERROR__CUSTOM)) {
      const code = Number(one.context.code);
      return faults.find((fault) => fault.code === code) ?? null;
    }
  }
  return null;
}
