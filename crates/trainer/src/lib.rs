//! From replays to a cartridge: dataset, training, quantization, fidelity.
//!
//! This room never knows chains or servers.

pub mod dataset;
pub mod evaluate;
mod parallel;
pub mod quantize;
pub mod random;
