/** A seat's session key and the signatures over the running hash of its inputs. */
import { getPublicKey, hashes, sign, utils } from "@noble/ed25519";
import { sha256, sha512 } from "@noble/hashes/sha2.js";
import { hex, PAD_BYTES, SLOT_BYTES } from "../abi";

// The browser's own SHA-512 exists on secure origins only; a friend's machine on the LAN is none.
hashes.sha512 = sha512;

export const SIGN_EVERY_FRAMES = 60;
const DOMAIN = new TextEncoder().encode("worldline-input-v1");
const SESSION_ID_BYTES = 16;
const HASH_BYTES = 32;
/** Sent pads that are remembered, to check the echo against. */
const REMEMBERED = 1024;

export interface SessionKey { secret: Uint8Array; publicHex: string }

export function keyFromSecret(secret: Uint8Array): SessionKey {
  return { secret, publicHex: hex(getPublicKey(secret)) };
}

export const newKey = (): SessionKey => keyFromSecret(utils.randomSecretKey());

export function unhex(text: string): Uint8Array {
  if (text.length % 2 !== 0 || /[^0-9a-f]/i.test(text)) throw new Error("not hexadecimal");
  return Uint8Array.from({ length: text.length / 2 }, (_, i) => parseInt(text.slice(2 * i, 2 * i + 2), 16));
}

/** The bytes a seat signs at a mark. */
export function signedMessage(session: string, seat: number, frame: number, hash: Uint8Array): Uint8Array {
  const message = new Uint8Array(DOMAIN.length + SESSION_ID_BYTES + 1 + 4 + HASH_BYTES);
  message.set(DOMAIN);
  message.set(new TextEncoder().encode(session).subarray(0, SESSION_ID_BYTES), DOMAIN.length);
  const view = new DataView(message.buffer);
  view.setUint8(DOMAIN.length + SESSION_ID_BYTES, seat);
  view.setUint32(DOMAIN.length + SESSION_ID_BYTES + 1, frame, true);
  message.set(hash, DOMAIN.length + SESSION_ID_BYTES + 5);
  return message;
}

export interface Signer {
  /** Remembers a pad that was sent under `sequence`. */
  sent(sequence: number, pad: Uint8Array): void;
  /**
   * Takes in the slot the arcade applied at `frame`. Answers a signature in hex at each mark,
   * else null. Throws when the arcade shows a pad that was never sent.
   */
  applied(frame: number, slot: Uint8Array): string | null;
  /** The match is over: signs up to its last frame, unless that is done. */
  finish(): { frame: number; signature: string } | null;
  /** The frame that is taken in next; a later one means that frames never arrived. */
  next(): number;
  /** The running hash up to the last frame that was taken in. */
  hash(): Uint8Array;
  /** Goes on from a hash the arcade remembers (after a lost connection). */
  resume(frame: number, hash: Uint8Array): void;
}

export function newSigner(session: string, seat: number, secret: Uint8Array): Signer {
  let hash = new Uint8Array(HASH_BYTES);
  let next = 1;
  let signed = 0;
  // r ‖ frame ‖ pad ‖ sequence, hashed in place.
  const block = new Uint8Array(HASH_BYTES + 4 + SLOT_BYTES);
  const view = new DataView(block.buffer);
  const pads = new Uint8Array(REMEMBERED * PAD_BYTES);
  const sequences = new Int32Array(REMEMBERED).fill(-1);

  function check(slot: Uint8Array): void {
    const sequence = slot[PAD_BYTES] | (slot[PAD_BYTES + 1] << 8);
    const at = sequence % REMEMBERED;
    if (sequences[at] !== sequence) return;
    for (let i = 0; i < PAD_BYTES; i++) {
      if (slot[i] !== pads[at * PAD_BYTES + i]) throw new Error(`The arcade applied an input that you did not send (number ${sequence}). Nothing more is signed.`);
    }
  }

  function signature(): string {
    signed = next - 1;
    return hex(sign(signedMessage(session, seat, signed, hash), secret));
  }

  return {
    sent(sequence, pad) {
      const at = sequence % REMEMBERED;
      sequences[at] = sequence;
      pads.set(pad, at * PAD_BYTES);
    },
    applied(frame, slot) {
      if (frame < next) return null;
      if (frame > next) throw new Error(`Frames ${next} to ${frame - 1} never arrived, so later inputs are not signed.`);
      check(slot);
      block.set(hash);
      view.setUint32(HASH_BYTES, frame, true);
      block.set(slot, HASH_BYTES + 4);
      hash = sha256(block);
      next = frame + 1;
      return frame % SIGN_EVERY_FRAMES === 0 ? signature() : null;
    },
    finish() {
      const frame = next - 1;
      return frame > signed ? { frame, signature: signature() } : null;
    },
    next: () => next,
    hash: () => hash,
    resume(frame, from) {
      hash = Uint8Array.from(from);
      next = frame + 1;
      // While away the arcade let go of the pad under the old numbers.
      sequences.fill(-1);
    },
  };
}
