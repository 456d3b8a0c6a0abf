import { sha256 } from "@noble/hashes/sha2.js";
import { verify } from "@noble/ed25519";
import { describe, expect, it } from "vitest";
import { hex } from "../abi";
import { keyFromSecret, newSigner, signedMessage, unhex } from "./signing";

const secret = new Uint8Array(32).fill(7);
const slot = (sequence: number, button = 0): Uint8Array => {
  const bytes = new Uint8Array(14);
  bytes[11] = button;
  bytes[12] = sequence & 0xff;
  bytes[13] = sequence >> 8;
  return bytes;
};

describe("signed inputs", () => {
  it("sign the running hash at each sixtieth frame and once at the last one", () => {
    const signer = newSigner("K7WQ2M", 1, secret);
    let hash = new Uint8Array(32);
    for (let frame = 1; frame <= 61; frame++) {
      const block = new Uint8Array(32 + 4 + 14);
      block.set(hash);
      new DataView(block.buffer).setUint32(32, frame, true);
      block.set(slot(frame), 36);
      hash = Uint8Array.from(sha256(block));
      let signature = signer.applied(frame, slot(frame));
      if (frame === 60) expect(signer.finish()).toBeNull();
      if (frame === 61) {
        expect(signature).toBeNull();
        signature = signer.finish()?.signature ?? null;
        expect(signer.finish()).toBeNull();
      }
      if (frame < 60) expect(signature).toBeNull();
      else {
        const message = signedMessage("K7WQ2M", 1, frame, hash);
        expect(message.length).toBe(71);
        expect(verify(unhex(signature ?? ""), message, unhex(keyFromSecret(secret).publicHex))).toBe(true);
      }
    }
  });

  it("refuse a pad that was never sent, and a gap", () => {
    const signer = newSigner("K7WQ2M", 0, secret);
    signer.sent(1, slot(1).subarray(0, 12));
    expect(signer.applied(1, slot(1))).toBeNull();
    signer.sent(2, slot(2).subarray(0, 12));
    expect(() => signer.applied(2, slot(2, 1))).toThrow(/did not send/);
    expect(() => newSigner("K7WQ2M", 0, secret).applied(5, slot(0))).toThrow(/Frames 1 to 4/);
  });

  it("go on after a lost connection", () => {
    const signer = newSigner("K7WQ2M", 0, secret);
    signer.sent(7, slot(0, 1).subarray(0, 12));
    signer.resume(119, new Uint8Array(32));
    expect(signer.applied(119, slot(7))).toBeNull();
    expect(signer.applied(120, slot(7))).toHaveLength(128);
  });

  it("lays the message out as the arcade does", () => {
    const message = signedMessage("K7WQ2M", 1, 0x01020304, new Uint8Array(32).fill(9));
    expect(new TextDecoder().decode(message.subarray(0, 24))).toBe("worldline-input-v1K7WQ2M");
    expect(hex(message.subarray(34, 40))).toBe("010403020109");
  });
});
