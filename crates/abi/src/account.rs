//! What stands in the program's accounts.
//!
//! A layout that has a life off chain (a manifest, a session, a result) stands first, with its own
//! discriminator; what only the chain needs follows it.

use crate::address::Address;
use crate::layout::layout;
use crate::{InputBuffer, InputSignature, MatchResult, ModelManifest, Session};
use bytemuck::{Pod, Zeroable};

/// Words of a Merkle tree under construction, as `cartridge` lays it out.
pub const MERKLE_WORDS: usize = 97;
/// Numbers of the residual stream that a frame carries between transactions.
pub const RESIDUAL: usize = 512;

/// Frames after which a player who has sent nothing counts as gone: fifteen seconds.
pub const ABANDONED_FRAMES: u32 = 900;
/// Seconds after which a session that did not end can be closed by its payer or the world's owner.
pub const SESSION_SECONDS: i64 = 24 * 60 * 60;

/// The values of [`WorldAccount::status`].
pub mod world_status {
    /// Its shards are being written.
    pub const DRAFT: u8 = 0;
    /// Its shards are being hashed, and can no longer be written.
    pub const CHECKING: u8 = 1;
    /// Its root is the manifest's; sessions of it can be opened.
    pub const READY: u8 = 2;
    /// Its shards are being closed.
    pub const RETIRED: u8 = 3;
}

/// The values of [`SessionAccount::kernels`]: who multiplies.
pub mod kernels {
    /// The program itself: runs on any chain.
    pub const PLAIN: u8 = 0;
    /// The syscall `sol_matmul_i8`; everything else is the program's.
    pub const MATMUL: u8 = 1;
    /// The syscalls `sol_linear_i8` and `sol_ssm_scan`.
    pub const SYSCALLS: u8 = 2;
}

/// The values of [`ResultAccount::replay`].
pub mod replay_status {
    /// There is none.
    pub const NONE: u8 = 0;
    /// It is being written.
    pub const OPEN: u8 = 1;
    /// It is whole, and its header is the result's.
    pub const FINISHED: u8 = 2;
}

/// A world: the manifest, and what the chain knows beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct WorldAccount {
    /// The manifest, with the owner and the shards' addresses.
    pub manifest: ModelManifest,
    /// The owner's own number for it.
    pub id: u64,
    /// Lamports that each session pays to the owner.
    pub fee: u64,
    /// Lamports that sessions have paid.
    pub fees_earned: u64,
    /// Matches whose result was recorded.
    pub matches: u64,
    /// When it was created, seconds of Unix time.
    pub created: i64,
    /// Sessions that are not closed.
    pub live_sessions: u32,
    /// One of [`world_status`].
    pub status: u8,
    /// Zero.
    pub padding: [u8; 3],
    /// The Merkle tree of the leaves that have been hashed.
    pub merkle: [u32; MERKLE_WORDS],
    /// Zero.
    pub room: [u8; 76],
}
layout!(WorldAccount, 1024, Some(*b"WLMODEL\x01"), {
    manifest @ 0, id @ 512, fee @ 520, fees_earned @ 528, matches @ 536, created @ 544,
    live_sessions @ 552, status @ 556, padding @ 557, merkle @ 560, room @ 948,
});

/// A session: who plays, and where its other accounts are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct SessionAccount {
    /// The identities, as replays keep them.
    pub session: Session,
    /// Address of the [`SessionState`](crate::SessionState).
    pub state: Address,
    /// Address of the [`InputAccount`].
    pub inputs: Address,
    /// Address of the [`FrameAccount`]; zeros where frames fit a transaction.
    pub frame: Address,
    /// Who may execute frames and write the replay; zeros let anyone execute, the payer write.
    pub operator: Address,
    /// Pages of hidden state that are made and not closed.
    pub pages: u16,
    /// One of [`kernels`].
    pub kernels: u8,
    /// Which seats are ready.
    pub ready: [u8; 2],
    /// 1 once its result is recorded.
    pub recorded: u8,
    /// Zero.
    pub room: [u8; 58],
}
layout!(SessionAccount, 512, Some(*b"WLSESSN\x01"), {
    session @ 0, state @ 320, inputs @ 352, frame @ 384, operator @ 416, pages @ 448,
    kernels @ 450, ready @ 451, recorded @ 453, room @ 454,
});

/// A session's inputs: the newest pads, and what proves whose they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct InputAccount {
    /// The newest pads; `frame` is the last frame that took them in.
    pub buffer: InputBuffer,
    /// The running hash of each seat's inputs up to that frame, `r_n = SHA-256(r_(n-1) ‖ frame u32 ‖
    /// pad ‖ sequence u16)` from 32 zeros.
    pub hashes: [[u8; 32]; 2],
    /// The last signature over that hash by seat.
    pub signatures: [InputSignature; 2],
    /// The last frame before each seat's newest pad.
    pub heard: [u32; 2],
    /// Zero.
    pub room: [u8; 8],
}
layout!(InputAccount, 256, None, {
    buffer @ 0, hashes @ 32, signatures @ 96, heard @ 240, room @ 248,
});

/// A frame on its way through several transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct FrameAccount {
    /// [`Layout::DISCRIMINATOR`](crate::Layout::DISCRIMINATOR).
    pub discriminator: [u8; 8],
    /// Address of the session.
    pub session: Address,
    /// The inputs that it began with.
    pub inputs: InputBuffer,
    /// 0 between frames; else one more than the layers that have run.
    pub next: u32,
    /// Zero.
    pub room: [u8; 52],
    /// The residual stream after those layers.
    pub residual: [i32; RESIDUAL],
}
layout!(FrameAccount, 2176, Some(*b"WLFRAME\x01"), {
    discriminator @ 0, session @ 8, inputs @ 40, next @ 72, room @ 76, residual @ 128,
});

/// The result of a match, for as long as its payer leaves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct ResultAccount {
    /// How it ended.
    pub result: MatchResult,
    /// Address of the session, which may be closed.
    pub session: Address,
    /// Address of the world.
    pub world: Address,
    /// Who paid for this account.
    pub payer: Address,
    /// Who may write the replay.
    pub writer: Address,
    /// SHA-256 of the session's 320 bytes.
    pub session_hash: [u8; 32],
    /// When it was recorded, seconds of Unix time.
    pub recorded: i64,
    /// Which seats' players have been counted on the leaderboard.
    pub scored: [u8; 2],
    /// One of [`replay_status`].
    pub replay: u8,
    /// Zero.
    pub room: [u8; 85],
}
layout!(ResultAccount, 512, Some(*b"WLRESLT\x01"), {
    result @ 0, session @ 256, world @ 288, payer @ 320, writer @ 352, session_hash @ 384,
    recorded @ 416, scored @ 424, replay @ 426, room @ 427,
});

/// The header of a replay's account; the bytes of the replay's file follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct ReplayAccount {
    /// [`Layout::DISCRIMINATOR`](crate::Layout::DISCRIMINATOR).
    pub discriminator: [u8; 8],
    /// Address of the session.
    pub session: Address,
    /// Who writes it, and gets its rent back.
    pub writer: Address,
    /// Bytes of the file.
    pub bytes: u32,
    /// 1 once it is whole.
    pub finished: u8,
    /// Zero.
    pub room: [u8; 51],
}
layout!(ReplayAccount, 128, Some(*b"WLRPACC\x01"), {
    discriminator @ 0, session @ 8, writer @ 40, bytes @ 72, finished @ 76, room @ 77,
});

/// What a player has reached in a world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct ScoreAccount {
    /// [`Layout::DISCRIMINATOR`](crate::Layout::DISCRIMINATOR).
    pub discriminator: [u8; 8],
    /// Address of the world.
    pub world: Address,
    /// The player's wallet.
    pub wallet: Address,
    /// Matches won.
    pub wins: u32,
    /// Matches lost.
    pub losses: u32,
    /// Matches that nobody won.
    pub draws: u32,
    /// Matches that the player left.
    pub left: u32,
    /// Frames played.
    pub frames: u64,
    /// When the last result was counted, seconds of Unix time.
    pub updated: i64,
    /// Zero.
    pub room: [u8; 24],
}
layout!(ScoreAccount, 128, Some(*b"WLSCORE\x01"), {
    discriminator @ 0, world @ 8, wallet @ 40, wins @ 72, losses @ 76, draws @ 80, left @ 84,
    frames @ 88, updated @ 96, room @ 104,
});
