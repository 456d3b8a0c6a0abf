//! Who plays, how it ended, and what is kept to prove it.

use crate::{SessionState, layout::layout};
use bytemuck::{Pod, Zeroable};

/// Bytes of a session's short id, padded with zeros.
pub const SESSION_ID_BYTES: usize = 16;
/// What an input signature's message begins with.
pub const INPUT_SIGNATURE_DOMAIN: &[u8] = b"worldline-input-v1";
/// Frames between two signatures of a seat's inputs: one second.
pub const INPUT_SIGNATURE_FRAMES: u32 = 60;
/// Bytes kept of each frame's chain hash in a replay.
pub const HASH_PREFIX_BYTES: usize = 4;
/// Every how many frames a replay keeps the whole chain hash.
pub const HASH_CHECKPOINT_FRAMES: u32 = 600;

/// Who holds a seat: the values of [`Session::seats`].
pub mod seat {
    /// Nobody yet.
    pub const FREE: u8 = 0;
    /// A person, whose session key signs the inputs.
    pub const HUMAN: u8 = 1;
    /// A person's recorded inputs.
    pub const GHOST: u8 = 2;
    /// Random inputs.
    pub const RANDOM: u8 = 3;
    /// A policy cartridge.
    pub const POLICY: u8 = 4;
}

/// The identities of a match and what it started from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Session {
    /// [`Layout::DISCRIMINATOR`](crate::Layout::DISCRIMINATOR).
    pub discriminator: [u8; 8],
    /// Short id, ASCII, padded with zeros.
    pub id: [u8; SESSION_ID_BYTES],
    /// Address of the world's manifest; zero off chain.
    pub world: [u8; 32],
    /// The world's Merkle root.
    pub world_root: [u8; 32],
    /// Wallets by seat; zero when there is none.
    pub wallets: [[u8; 32]; 2],
    /// Ed25519 keys by seat that sign the inputs; zero for a seat nobody signs for.
    pub session_keys: [[u8; 32]; 2],
    /// Who paid for the accounts; zero off chain.
    pub payer: [u8; 32],
    /// The generator's state at the start.
    pub generator: u64,
    /// When it was created, seconds of Unix time, as its creator said.
    pub created: i64,
    /// Frames until time is up, at the start.
    pub clock: u32,
    /// Stage, the game's own number.
    pub stage: u8,
    /// Zero.
    pub padding: u8,
    /// Characters by seat.
    pub characters: [u8; 2],
    /// One of [`seat`] each.
    pub seats: [u8; 2],
    /// Zero.
    pub room: [u8; 46],
}
layout!(Session, 320, Some(*b"WLSESSN\x01"), {
    discriminator @ 0, id @ 8, world @ 24, world_root @ 56, wallets @ 88, session_keys @ 152,
    payer @ 216, generator @ 248, created @ 256, clock @ 264, stage @ 268, padding @ 269,
    characters @ 270, seats @ 272, room @ 274,
});

impl Default for Session {
    /// Nothing but the discriminator.
    fn default() -> Self {
        Self {
            discriminator: *b"WLSESSN\x01",
            ..Self::zeroed()
        }
    }
}

/// How a match ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct MatchResult {
    /// [`Layout::DISCRIMINATOR`](crate::Layout::DISCRIMINATOR).
    pub discriminator: [u8; 8],
    /// The session's id.
    pub id: [u8; SESSION_ID_BYTES],
    /// The world's Merkle root.
    pub world_root: [u8; 32],
    /// Wallets by seat.
    pub wallets: [[u8; 32]; 2],
    /// The last state's chain hash.
    pub chain: [u8; 32],
    /// The running hash of each seat's inputs.
    pub input_hashes: [[u8; 32]; 2],
    /// The frame it started at.
    pub start_frame: u32,
    /// The frame it ended at.
    pub end_frame: u32,
    /// How many times a rule that is not learned changed a value.
    pub rule_hits: u32,
    /// Damage by seat, 1/64 percent.
    pub percent: [u16; 2],
    /// Lives left by seat.
    pub stocks: [u8; 2],
    /// Characters by seat.
    pub characters: [u8; 2],
    /// One of [`seat`] each.
    pub seats: [u8; 2],
    /// Stage, the game's own number.
    pub stage: u8,
    /// A seat, or one of [`winner`](crate::winner).
    pub winner: u8,
    /// One of [`end_reason`](crate::end_reason).
    pub end_reason: u8,
    /// Zero.
    pub room: [u8; 15],
}
layout!(MatchResult, 256, Some(*b"WLRESLT\x01"), {
    discriminator @ 0, id @ 8, world_root @ 24, wallets @ 56, chain @ 120, input_hashes @ 152,
    start_frame @ 216, end_frame @ 220, rule_hits @ 224, percent @ 228, stocks @ 232,
    characters @ 234, seats @ 236, stage @ 238, winner @ 239, end_reason @ 240, room @ 241,
});

impl Default for MatchResult {
    /// Nothing but the discriminator.
    fn default() -> Self {
        Self {
            discriminator: *b"WLRESLT\x01",
            ..Self::zeroed()
        }
    }
}

/// A seat's signature over the running hash of its inputs up to a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct InputSignature {
    /// The last frame it covers.
    pub frame: u32,
    /// Which seat signed.
    pub seat: u8,
    /// Zero.
    pub padding: [u8; 3],
    /// Ed25519.
    pub signature: [u8; 64],
}
layout!(InputSignature, 72, None, { frame @ 0, seat @ 4, padding @ 5, signature @ 8 });

/// The header of a replay: enough to re-execute what follows it. The body is, in this
/// order, an [`InputBuffer`](crate::InputBuffer) a frame, the [`InputSignature`]s, the
/// first [`HASH_PREFIX_BYTES`] of each frame's chain hash, and the whole hash of every
/// [`HASH_CHECKPOINT_FRAMES`]th frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct ReplayHeader {
    /// [`Layout::DISCRIMINATOR`](crate::Layout::DISCRIMINATOR).
    pub discriminator: [u8; 8],
    /// Frames that follow.
    pub frames: u32,
    /// Signatures that follow.
    pub signatures: u32,
    /// Who played what.
    pub session: Session,
    /// The state before the first frame.
    pub start: SessionState,
    /// How it ended.
    pub result: MatchResult,
    /// Bytes that follow the header, as stored.
    pub body_bytes: u32,
    /// 0 stored, 1 zlib.
    pub compression: u32,
    /// Zero.
    pub room: [u8; 40],
}
layout!(ReplayHeader, 896, Some(*b"WLREPLY\x01"), {
    discriminator @ 0, frames @ 8, signatures @ 12, session @ 16, start @ 336, result @ 592,
    body_bytes @ 848, compression @ 852, room @ 856,
});

impl Default for ReplayHeader {
    /// No frames of an empty session.
    fn default() -> Self {
        Self {
            discriminator: *b"WLREPLY\x01",
            session: Session::default(),
            start: SessionState::default(),
            result: MatchResult::default(),
            ..Self::zeroed()
        }
    }
}
