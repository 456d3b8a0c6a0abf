//! The byte layouts of a learned world: what a frame reads and writes, what a
//! match leaves behind, what a cartridge says about itself, and how the Solana program
//! is told what to do ([`instruction`]).
//!
//! Every type is plain old data, little endian, with explicit padding; sizes and
//! offsets are asserted at compile time and golden bytes in the tests. The crate is
//! `no_std` and must never know floats, I/O or any runtime.
//!
//! The main call is [`view`], which reads a layout in place, without a copy:
//!
//! ```
//! use worldline_abi::{InputBuffer, button, view};
//!
//! let mut bytes = [0u32; 8]; // 32 aligned bytes
//! bytes[7] = 600;
//! let inputs: &InputBuffer = view(bytemuck::cast_slice(&bytes))?;
//! assert_eq!(inputs.frame, 600);
//! assert_eq!(inputs.slots[0].pad.buttons & button::A, 0);
//! # Ok::<(), worldline_abi::LayoutError>(())
//! ```
#![no_std]

#[cfg(target_endian = "big")]
compile_error!("worldline layouts are little endian and are read in place");

mod account;
pub mod address;
mod fault;
pub mod instruction;
mod layout;
mod model;
mod pad;
mod session;
mod state;

pub use account::{
    ABANDONED_FRAMES, FrameAccount, InputAccount, MERKLE_WORDS, RESIDUAL, ReplayAccount,
    ResultAccount, SESSION_SECONDS, ScoreAccount, SessionAccount, WorldAccount, kernels,
    replay_status, world_status,
};
pub use fault::Fault;
pub use layout::{Layout, LayoutError, LayoutField, copy, split, view, view_mut};
pub use model::{
    HiddenHeader, KIND_POLICY, KIND_WORLD, MAX_PAGES, MAX_SHARD_BYTES, MAX_SHARDS,
    MERKLE_LEAF_BYTES, ModelManifest, PAGE_BYTES, PAGE_DATA, PAGE_HEADER, Page, WeightShard,
};
pub use pad::{InputBuffer, MELEE_STICK_STEP, Pad, PadSlot, STICK_UNIT, button};
pub use session::{
    HASH_CHECKPOINT_FRAMES, HASH_PREFIX_BYTES, INPUT_SIGNATURE_DOMAIN, INPUT_SIGNATURE_FRAMES,
    InputSignature, MatchResult, ReplayHeader, SESSION_ID_BYTES, Session, seat,
};
pub use state::{
    CHAINED_BYTES, COUNTER_ACTION, COUNTERS, PERCENT_ONE, PLAYERS, PlayerState, SHIELD_ONE,
    SPEED_ONE, STATE_VERSION, SessionState, UNIT_ONE, end_reason, status, winner,
};
