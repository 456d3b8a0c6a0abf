//! NEON, on AArch64. The compiler has checked it; no such machine has run it yet.
#![allow(unsafe_code)] // Vector intrinsics: each function says why its pointers hold.

use crate::math::{SCAN_SHIFT, requantize};
use crate::{HEAD_DIM, Kernels, Layer, LayerState, Linear, MatVec, Scan, Work, layer};
use core::arch::aarch64::*;

/// Bytes of a register.
const LANES: usize = 16;

/// Proof that this machine has NEON.
#[derive(Debug, Clone, Copy)]
pub struct Neon(());

impl Neon {
    /// `None` where it is missing.
    pub(super) fn detect() -> Option<Self> {
        std::arch::is_aarch64_feature_detected!("neon").then_some(Self(()))
    }
}

// SAFETY of every block below: a value of `Neon` exists only where the feature does.
impl Kernels for Neon {
    fn matvec(&self, task: MatVec<'_>) {
        let rows = task.weights.chunks_exact(task.input.len());
        for (row, output) in rows.zip(task.output) {
            [*output] = unsafe { dot(row, [task.input]) };
        }
    }

    fn linear(&self, linear: &Linear<'_>, work: &mut Work) {
        let planes = [&work.high[..linear.columns], &work.low[..linear.columns]];
        let rows = linear
            .weights
            .chunks_exact(linear.columns)
            .zip(linear.multipliers);
        for ((row, multiplier), output) in rows.zip(&mut work.projected) {
            let [high, low] = unsafe { dot(row, planes) };
            *output = requantize(high, low, *multiplier, linear.shift);
        }
    }

    fn scan(&self, task: Scan<'_>) {
        unsafe { scan(task) }
    }

    fn mix<S: LayerState>(&self, layer: &Layer<'_>, state: &mut S, work: &mut Work) {
        layer::mix(self, layer, state, work);
    }
}

/// One row times each plane. A product of two bytes fits 16 bits, a pair's sum does not:
/// `vpadalq_s16` widens while it adds.
#[target_feature(enable = "neon")]
fn dot<const PLANES: usize>(row: &[i8], planes: [&[i8]; PLANES]) -> [i32; PLANES] {
    let mut sums = [vdupq_n_s32(0); PLANES];
    let (chunks, rest) = row.as_chunks::<LANES>();
    for (index, chunk) in chunks.iter().enumerate() {
        // SAFETY: sixteen bytes.
        let weights = unsafe { vld1q_s8(chunk.as_ptr()) };
        for (sum, plane) in sums.iter_mut().zip(planes) {
            let values = &plane[index * LANES..][..LANES];
            // SAFETY: sixteen bytes.
            let values = unsafe { vld1q_s8(values.as_ptr()) };
            *sum = vpadalq_s16(*sum, vmull_s8(vget_low_s8(weights), vget_low_s8(values)));
            *sum = vpadalq_s16(*sum, vmull_high_s8(weights, values));
        }
    }
    let mut outputs = sums.map(|sum| vaddvq_s32(sum));
    for (output, plane) in outputs.iter_mut().zip(planes) {
        for (weight, value) in rest.iter().zip(&plane[row.len() - rest.len()..]) {
            *output += i32::from(*weight) * i32::from(*value);
        }
    }
    outputs
}

#[target_feature(enable = "neon")]
fn scan(task: Scan<'_>) {
    const PARTS: usize = HEAD_DIM / 4;
    let decay = vdupq_n_s16(task.decay);
    let mut sums = [vdupq_n_s32(0); PARTS];
    let pairs = task
        .b
        .as_chunks::<2>()
        .0
        .iter()
        .zip(task.c.as_chunks::<2>().0);
    let states = task.state.as_chunks_mut::<{ 2 * HEAD_DIM }>().0;
    for (state, (b, c)) in states.iter_mut().zip(pairs) {
        let (b, c) = (broadcast_pair(*b), broadcast_pair(*c));
        let parts = state
            .as_chunks_mut::<8>()
            .0
            .iter_mut()
            .zip(task.dtx.as_chunks::<4>().0);
        for ((state, dtx), sum) in parts.zip(&mut sums) {
            // SAFETY: eight and four numbers of 16 bits.
            let (old, dtx) = unsafe { (vld1q_s16(state.as_ptr()), vld1_s16(dtx.as_ptr())) };
            let dtx = vcombine_s16(vzip1_s16(dtx, dtx), vzip2_s16(dtx, dtx));
            let new = vqaddq_s16(vqrdmulhq_s16(old, decay), vqrdmulhq_s16(dtx, b));
            // SAFETY: eight numbers of 16 bits.
            unsafe { vst1q_s16(state.as_mut_ptr(), new) };
            let low = vmull_s16(vget_low_s16(new), vget_low_s16(c));
            let products = vpaddq_s32(low, vmull_high_s16(new, c));
            *sum = vaddq_s32(*sum, vshrq_n_s32::<{ SCAN_SHIFT as i32 }>(products));
        }
    }
    for (output, sum) in task.y.as_chunks_mut::<4>().0.iter_mut().zip(sums) {
        // SAFETY: four numbers of 32 bits.
        unsafe { vst1q_s32(output.as_mut_ptr(), sum) };
    }
}

/// Two numbers, four times.
#[target_feature(enable = "neon")]
fn broadcast_pair(pair: [i16; 2]) -> int16x8_t {
    vreinterpretq_s16_s32(vdupq_n_s32(
        i32::from(pair[0]) & 0xffff | i32::from(pair[1]) << 16,
    ))
}
