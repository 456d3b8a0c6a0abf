//! A cartridge: a learned world as one file, and the one step that plays it.
#![cfg_attr(not(feature = "std"), no_std)]

mod decode;
mod encode;
#[cfg(feature = "std")]
pub mod melee;
pub mod plan;
#[cfg(feature = "std")]
pub mod schema;

pub use decode::decode;
pub use encode::{encode, encode_raw};
