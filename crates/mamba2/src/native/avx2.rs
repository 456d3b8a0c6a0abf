//! AVX2: weights widened to 16 bits, `vpmaddwd` on whole activations.
#![allow(unsafe_code)] // Vector intrinsics: each function says why its pointers hold.

use crate::math::SCAN_SHIFT;
use crate::{
    HEAD_DIM, Kernels, Layer, LayerState, Linear, MAX_COLUMNS, MatVec, Scan, Work, layer, math,
};
use core::arch::x86_64::*;

/// 16-bit numbers of a register.
const LANES: usize = 16;
/// Columns whose sum fits 32 bits: 512 · 128 · 32,639 < 2^31.
const NARROW: usize = 512;

/// Proof that this machine has AVX2.
#[derive(Debug, Clone, Copy)]
pub struct Avx2(());

impl Avx2 {
    /// `None` where it is missing.
    pub(super) fn detect() -> Option<Self> {
        is_x86_feature_detected!("avx2").then_some(Self(()))
    }
}

// SAFETY of every block below: a value of `Avx2` exists only where the feature does.
impl Kernels for Avx2 {
    fn matvec(&self, task: MatVec<'_>) {
        unsafe { matvec(task) }
    }

    fn linear(&self, linear: &Linear<'_>, work: &mut Work) {
        unsafe { linear_step(linear, work) }
    }

    fn scan(&self, task: Scan<'_>) {
        unsafe { scan(task) }
    }

    fn prepare(&self, layer: &Layer<'_>, work: &mut Work) {
        unsafe { prepare(layer, work) }
    }

    fn mix<S: LayerState>(&self, layer: &Layer<'_>, state: &mut S, work: &mut Work) {
        unsafe { mix(self, layer, state, work) }
    }

    fn accumulate(&self, width: usize, work: &mut Work) {
        unsafe { accumulate(width, work) }
    }
}

/// Four rows times one slice of at most [`NARROW`] inputs.
#[inline]
#[target_feature(enable = "avx2")]
fn dot_rows(rows: [&[i8]; 4], input: &[i16]) -> [i32; 4] {
    let mut sums = [_mm256_setzero_si256(); 4];
    let (chunks, rest) = input.as_chunks::<LANES>();
    for (chunk, values) in chunks.iter().enumerate() {
        // SAFETY: sixteen numbers of 16 bits.
        let values = unsafe { _mm256_loadu_si256(values.as_ptr().cast()) };
        for (sum, row) in sums.iter_mut().zip(rows) {
            let weights = &row[chunk * LANES..][..LANES];
            // SAFETY: sixteen bytes.
            let weights = unsafe { _mm_loadu_si128(weights.as_ptr().cast()) };
            let products = _mm256_madd_epi16(_mm256_cvtepi8_epi16(weights), values);
            *sum = _mm256_add_epi32(*sum, products);
        }
    }
    let [a, b, c, d] = sums;
    let pairs = _mm256_hadd_epi32(_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d));
    let folded = _mm_add_epi32(
        _mm256_castsi256_si128(pairs),
        _mm256_extracti128_si256::<1>(pairs),
    );
    let mut outputs = [0; 4];
    // SAFETY: four numbers of 32 bits.
    unsafe { _mm_storeu_si128(outputs.as_mut_ptr().cast(), folded) };
    for (output, row) in outputs.iter_mut().zip(rows) {
        for (weight, value) in row[input.len() - rest.len()..].iter().zip(rest) {
            *output += i32::from(*weight) * i32::from(*value);
        }
    }
    outputs
}

/// Every row times the input, `store(row, sum)` in order.
#[inline]
#[target_feature(enable = "avx2")]
fn dot(weights: &[i8], input: &[i16], mut store: impl FnMut(usize, i64)) {
    let columns = input.len();
    let rows = weights.len() / columns;
    for first in (0..rows).step_by(4) {
        let quad: [&[i8]; 4] = core::array::from_fn(|index| {
            &weights[(first + index).min(rows - 1) * columns..][..columns]
        });
        let mut sums = [0i64; 4];
        for (part, input) in input.chunks(NARROW).enumerate() {
            let quad = quad.map(|row| &row[part * NARROW..][..input.len()]);
            for (sum, part) in sums.iter_mut().zip(dot_rows(quad, input)) {
                *sum += i64::from(part);
            }
        }
        for (row, sum) in (first..rows).zip(sums) {
            store(row, sum);
        }
    }
}

#[target_feature(enable = "avx2")]
fn matvec(task: MatVec<'_>) {
    let mut input = [0i16; MAX_COLUMNS];
    for (wide, value) in input.iter_mut().zip(task.input) {
        *wide = i16::from(*value);
    }
    dot(task.weights, &input[..task.input.len()], |row, sum| {
        task.output[row] = sum as i32
    });
}

#[target_feature(enable = "avx2")]
fn linear_step(linear: &Linear<'_>, work: &mut Work) {
    let mut input = [0i16; MAX_COLUMNS];
    for ((value, high), low) in input.iter_mut().zip(&work.high).zip(&work.low) {
        *value = i16::from(*high) * 256 + i16::from(*low);
    }
    dot(linear.weights, &input[..linear.columns], |row, sum| {
        let product = sum * i64::from(linear.multipliers[row]);
        work.projected[row] = math::sat32(math::round_shift_wide(product, linear.shift));
    });
}

#[target_feature(enable = "avx2")]
fn scan(task: Scan<'_>) {
    const PARTS: usize = HEAD_DIM / 8;
    let zero = _mm256_setzero_si256();
    let decay = _mm256_set1_epi16(task.decay);
    let mut dtx = [zero; PARTS];
    for (register, values) in dtx.iter_mut().zip(task.dtx.as_chunks::<8>().0) {
        // SAFETY: eight numbers of 16 bits.
        let wide = _mm256_cvtepu16_epi32(unsafe { _mm_loadu_si128(values.as_ptr().cast()) });
        *register = _mm256_or_si256(wide, _mm256_slli_epi32::<16>(wide));
    }
    let mut sums = [zero; PARTS];
    let pairs = task
        .b
        .as_chunks::<2>()
        .0
        .iter()
        .zip(task.c.as_chunks::<2>().0);
    let states = task.state.as_chunks_mut::<{ 2 * HEAD_DIM }>().0;
    for (state, (b, c)) in states.iter_mut().zip(pairs) {
        let (b, c) = (broadcast_pair(*b), broadcast_pair(*c));
        for (part, state) in state.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
            // SAFETY: sixteen numbers of 16 bits.
            let old = unsafe { _mm256_loadu_si256(state.as_ptr().cast()) };
            let kept = _mm256_mulhrs_epi16(old, decay);
            let new = _mm256_adds_epi16(kept, _mm256_mulhrs_epi16(dtx[part], b));
            // SAFETY: as above.
            unsafe { _mm256_storeu_si256(state.as_mut_ptr().cast(), new) };
            let products = _mm256_srai_epi32::<{ SCAN_SHIFT as i32 }>(_mm256_madd_epi16(new, c));
            sums[part] = _mm256_add_epi32(sums[part], products);
        }
    }
    for (output, sum) in task.y.as_chunks_mut::<8>().0.iter_mut().zip(sums) {
        // SAFETY: eight numbers of 32 bits.
        unsafe { _mm256_storeu_si256(output.as_mut_ptr().cast(), sum) };
    }
}

/// Two numbers in each 32 bits.
#[inline]
#[target_feature(enable = "avx2")]
fn broadcast_pair(pair: [i16; 2]) -> __m256i {
    _mm256_set1_epi32(i32::from(pair[0]) & 0xffff | i32::from(pair[1]) << 16)
}

#[target_feature(enable = "avx2")]
fn prepare(layer: &Layer<'_>, work: &mut Work) {
    layer::prepare(layer, work);
}

#[target_feature(enable = "avx2")]
fn mix<S: LayerState>(kernels: &Avx2, layer: &Layer<'_>, state: &mut S, work: &mut Work) {
    layer::mix(kernels, layer, state, work);
}

#[target_feature(enable = "avx2")]
fn accumulate(width: usize, work: &mut Work) {
    layer::accumulate(width, work);
}
