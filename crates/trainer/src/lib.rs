//! From replays to a cartridge: dataset, training, quantization, fidelity.
//!
//! This room never knows chains or servers.

pub mod dataset;
pub mod evaluate;
pub mod free_run;
mod parallel;
pub mod quantize;
pub mod random;
