//! A cartridge: a learned world (or a learned player) as one file, and the one step that plays it.
//!
//! The core is `no_std`: no float, no allocation, no clock, 28 KiB of borrowed scratch, so that a
//! Solana program runs the same [`step`] as a server. With the feature `std` come files, memory
//! maps, the author's [`schema`] and the [`Builder`].
//!
//! The crate must never know chains, networks or clocks.
//!
//! ```
//! use worldline_abi::{InputBuffer, Page};
//! use worldline_cartridge::{Scratch, step, testing};
//! use worldline_mamba2::Scalar;
//!
//! let cartridge = testing::cartridge(testing::Size::Micro, 7);
//! let model = cartridge.model();
//! let mut state = model.start(31, [2, 20])?;
//! let mut pages = model.hidden().fresh();
//! let mut hidden: Vec<&mut Page> = pages.iter_mut().collect();
//! let inputs = InputBuffer { frame: 1, ..InputBuffer::default() };
//! step(&model, &mut state, &mut hidden, &inputs, &mut Scratch::boxed(), &Scalar)?;
//! assert_eq!(state.frame, 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![cfg_attr(not(feature = "std"), no_std)]

mod act;
#[cfg(feature = "std")]
mod batch;
#[cfg(feature = "std")]
mod builder;
mod decode;
mod encode;
#[cfg(feature = "std")]
mod file;
pub mod format;
mod hidden;
#[cfg(feature = "std")]
pub mod melee;
mod merkle;
mod model;
pub mod plan;
#[cfg(feature = "std")]
pub mod schema;
mod step;
#[cfg(feature = "testing")]
pub mod testing;

pub use act::{Actor, LOGIT_BITS, act};
#[cfg(feature = "std")]
pub use batch::{Lane, step_batch};
#[cfg(feature = "std")]
pub use builder::{BuildError, Builder, Provenance, file};
pub use decode::decode;
pub use encode::{encode, encode_raw};
#[cfg(feature = "std")]
pub use file::{Cartridge, FILE_VERSION, FileHeader, MAGIC, MAX_FILE_BYTES, OpenError, SHARDS_AT};
pub use format::Start;
pub use hidden::{HiddenLayout, PagedState};
pub use merkle::{MAX_LEAVES, Merkle, merkle_root};
pub use model::{EXPAND, MAX_LAYERS, Model, ParseError, STATE_BITS, StartError};
pub use step::{Scratch, StepError, begin, finish, layer, predict, step};
