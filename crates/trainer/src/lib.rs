//! From replays to a cartridge: dataset, training, quantization, fidelity.
//!
//! This room never knows chains or servers.

pub mod block;
pub mod calibrate;
pub mod dataset;
pub mod evaluate;
pub mod free_run;
pub mod gemm;
pub mod loss;
mod math;
pub mod network;
mod parallel;
pub mod params;
pub mod predict;
pub mod quantize;
pub mod random;
mod scan;
pub mod task;
pub mod train;
