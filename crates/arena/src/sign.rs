//! A player's signature over the running hash of its inputs.
//!
//! `r_0` is 32 zero bytes; `r_n = SHA-256(r_(n-1) ‖ frame u32 ‖ pad 12 B ‖ sequence u16)`, little
//! endian. At each mark (a frame divisible by [`INPUT_SIGNATURE_FRAMES`], and the last frame) the seat's key
//! signs `"worldline-input-v1" ‖ session id, zero-padded to 16 B ‖ seat u8 ‖ frame u32 ‖ r`. One
//! signature therefore covers every input from frame 1 to its mark.

use ed25519_dalek::{Signature, VerifyingKey};
use sha2::{Digest, Sha256};
use worldline_abi::{INPUT_SIGNATURE_DOMAIN, INPUT_SIGNATURE_FRAMES, PadSlot, SESSION_ID_BYTES};

/// The running hash of one seat's inputs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunningHash(pub [u8; 32]);

impl RunningHash {
    /// Takes in the input that was applied at `frame`.
    pub fn push(&mut self, frame: u32, slot: &PadSlot) {
        let hash = Sha256::new()
            .chain_update(self.0)
            .chain_update(frame.to_le_bytes())
            .chain_update(bytemuck::bytes_of(&slot.pad))
            .chain_update(slot.sequence.to_le_bytes());
        self.0 = hash.finalize().into();
    }
}

/// True when a seat signs at `frame` even if the match goes on.
pub fn is_mark(frame: u32) -> bool {
    frame != 0 && frame.is_multiple_of(INPUT_SIGNATURE_FRAMES)
}

/// The bytes that a seat's key signs.
pub fn message(id: &[u8; SESSION_ID_BYTES], seat: u8, frame: u32, hash: &RunningHash) -> [u8; 71] {
    let mut bytes = [0; 71];
    bytes[..18].copy_from_slice(INPUT_SIGNATURE_DOMAIN);
    bytes[18..34].copy_from_slice(id);
    bytes[34] = seat;
    bytes[35..39].copy_from_slice(&frame.to_le_bytes());
    bytes[39..].copy_from_slice(&hash.0);
    bytes
}

/// Reads an Ed25519 public key; weak (small-order) keys are refused.
pub fn parse_key(bytes: &[u8; 32]) -> Option<VerifyingKey> {
    VerifyingKey::from_bytes(bytes)
        .ok()
        .filter(|key| !key.is_weak())
}

/// True when `signature` is the key's own over `message`.
pub fn verify(key: &VerifyingKey, message: &[u8], signature: &[u8; 64]) -> bool {
    key.verify_strict(message, &Signature::from_bytes(signature))
        .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::{Signer, SigningKey};

    #[test]
    fn a_signature_covers_id_seat_frame_and_every_input() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let id = b"K7WQ2M\0\0\0\0\0\0\0\0\0\0";
        let mut hash = RunningHash::default();
        for frame in 1..=INPUT_SIGNATURE_FRAMES {
            hash.push(
                frame,
                &PadSlot {
                    sequence: frame as u16,
                    ..PadSlot::default()
                },
            );
        }
        let signature = key.sign(&message(id, 1, 60, &hash)).to_bytes();
        let public = key.verifying_key();
        assert!(verify(&public, &message(id, 1, 60, &hash), &signature));

        let other = b"K7WQ2N\0\0\0\0\0\0\0\0\0\0";
        let mut changed = hash;
        changed.push(61, &PadSlot::default());
        for wrong in [
            message(other, 1, 60, &hash),
            message(id, 0, 60, &hash),
            message(id, 1, 61, &hash),
            message(id, 1, 60, &changed),
        ] {
            assert!(!verify(&public, &wrong, &signature));
        }
    }

    #[test]
    fn weak_and_malformed_keys_are_refused() {
        let small = |first| std::array::from_fn(|at| if at == 0 { first } else { 0 });
        assert!(parse_key(&small(1)).is_none(), "the neutral element");
        assert!(parse_key(&small(0)).is_none(), "a point of order 4");
        assert!(parse_key(&small(2)).is_none(), "no point at all");
    }
}
