//! A session's scratch memory.

use crate::params::{MAX_COLUMNS, MAX_D_MODEL, MAX_ROWS};
use bytemuck::{Pod, Zeroable};

/// What a step computes with: 25 KB, no pointers, reusable from frame to frame. Nothing
/// in it outlives a frame; only the residual outlives a block.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct Work {
    /// The residual stream, Q16.
    pub residual: [i32; MAX_D_MODEL],
    /// High bytes of the next matrix's input.
    pub high: [i8; MAX_COLUMNS],
    /// Low bytes of the next matrix's input.
    pub low: [i8; MAX_COLUMNS],
    /// The last matrix's output.
    pub projected: [i32; MAX_ROWS],
    /// Low plane's sums, then the gated values.
    pub spare: [i32; MAX_ROWS],
    /// z, x, B and C.
    pub mixed: [i16; MAX_ROWS],
}

const _: () = assert!(size_of::<Work>() <= 26 * 1024);

#[cfg(feature = "std")]
impl Work {
    /// Zeroed, on the heap.
    pub fn boxed() -> Box<Self> {
        bytemuck::zeroed_box()
    }
}
