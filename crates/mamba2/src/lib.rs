//! One step of a Mamba2 network in integers, the same bytes on every machine.
//!
//! Weights are `i8`, activations and recurrent state `i16`, accumulators `i32`/`i64`;
//! every non-linear function is a table that travels with the weights. No float, no
//! allocation, no stack array over 1 KiB: what runs here runs in a Solana program.
//! `docs/numerics.md` gives each format and why nothing overflows.
//!
//! The crate must never know games, accounts or threads.
//!
//! The main call is [`layer_step`]: one block, one frame. Who computes is a [`Kernels`];
//! [`Scalar`] is the reference, and with the feature `std` [`Native`] picks the fastest
//! of this machine, which gives the same bytes.
//!
//! ```
//! use worldline_mamba2::{Scalar, Work, embed, head, layer_step, sample};
//!
//! let model = sample::Model::random(sample::Size::MICRO, 7);
//! let mut state = model.state();
//! let mut work = Work::boxed();
//! embed(&Scalar, &model.input(), &[4096; 64], &mut work);
//! for (layer, state) in model.layers().zip(&mut state) {
//!     layer_step(&Scalar, &layer, state, &mut work);
//! }
//! let outputs = head(&Scalar, &model.output(), &model.tables(), &mut work);
//! assert_eq!(outputs.len(), 64);
//! ```
#![cfg_attr(not(feature = "std"), no_std)]

#[cfg(feature = "std")]
pub mod bench;
mod block;
mod kernels;
mod layer;
pub mod math;
#[cfg(feature = "std")]
mod native;
mod norm;
mod params;
#[cfg(feature = "std")]
pub mod reference;
#[cfg(feature = "std")]
pub mod sample;
pub mod tables;
mod work;

pub use block::{Block, MAX_HEADS, Product};
pub use kernels::{Kernels, MatVec, Scalar, Scan};
pub use layer::{
    Contiguous, LayerState, batch_layer_step, contiguous_len, embed, head, layer_step,
};
#[cfg(feature = "std")]
pub use native::Native;
pub use norm::{Fit, Norm, normalize, split_planes};
pub use params::{
    BoundError, CONV_TAPS, Dims, HEAD_DIM, Layer, LayerParams, Linear, MAX_COLUMNS, MAX_D_MODEL,
    MAX_D_STATE, MAX_MULTIPLIER, MAX_ROWS, MAX_SHIFT, MAX_TAP, Output, Tables,
};
pub use work::Work;
