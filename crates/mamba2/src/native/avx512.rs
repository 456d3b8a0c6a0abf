//! AVX-512 with VNNI.
//!
//! `vpdpbusd` multiplies unsigned by signed bytes, so 128 is added to the inputs and
//! 128 · (the row's sum) taken off the result. Sixteen rows are summed at a time: their
//! accumulators fold into one register without leaving the vector unit.
#![allow(unsafe_code)] // Vector intrinsics: each function says why its pointers hold.

use crate::{
    HEAD_DIM, Kernels, Layer, LayerState, Linear, MAX_COLUMNS, MatVec, Scan, Work, layer,
    math::SCAN_SHIFT, tables,
};
use core::arch::x86_64::*;

/// Bytes of a register.
const LANES: usize = 64;
/// Rows that are summed together.
const BLOCK: usize = 16;
/// Bytes ahead of the weights in use that are asked for: the processor's own prefetch ends at each
/// page.
const AHEAD: usize = 4096;
/// Columns up to which both planes' sum, 256·high + low, fits 32 bits:
/// 512 · 128 · 32,639 < 2^31.
const NARROW: usize = 512;

/// Proof that this machine has AVX-512 F, BW, DQ, VL and VNNI.
#[derive(Debug, Clone, Copy)]
pub struct Avx512(());

impl Avx512 {
    /// `None` where a feature is missing.
    pub(super) fn detect() -> Option<Self> {
        let found = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512vnni");
        found.then_some(Self(()))
    }
}

impl Avx512 {
    /// See [`super::Native::read`].
    pub(super) fn read(&self, bytes: &[i8]) -> u64 {
        // SAFETY: as below.
        unsafe { read(bytes) }
    }
}

// SAFETY of every block below: a value of `Avx512` exists only where the features do.
impl Kernels for Avx512 {
    fn matvec(&self, task: MatVec<'_>) {
        unsafe { matvec(task) }
    }

    fn linear(&self, linear: &Linear<'_>, work: &mut Work) {
        unsafe { linear_step(linear, work) }
    }

    fn linear_unsummed(&self, linear: &Linear<'_>, work: &mut Work) {
        unsafe { linear_unsummed(linear, work) }
    }

    fn linear_batch(&self, linear: &Linear<'_>, works: &mut [&mut Work]) {
        unsafe { linear_batch(linear, works) }
    }

    fn scan(&self, task: Scan<'_>) {
        unsafe { scan(task) }
    }

    fn silu(&self, table: &[i16], values: &mut [i16]) {
        unsafe { silu(table, values) }
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

/// A plane of inputs with 128 added; what lies behind the last column is never used.
type Plane = [i8; MAX_COLUMNS];

/// The rows of one block.
struct Rows<'a> {
    /// `count` rows of `columns`.
    weights: &'a [i8],
    columns: usize,
    first: usize,
    /// 1..=[`BLOCK`].
    count: usize,
}

impl Rows<'_> {
    /// The addresses of four rows; behind the block's last row, that one again.
    #[inline(always)]
    fn quad(&self, quad: usize) -> [*const i8; 4] {
        let last = self.count - 1;
        core::array::from_fn(|row| {
            let offset = (4 * quad + row).min(last) * self.columns;
            self.weights.as_ptr().wrapping_add(offset)
        })
    }

    /// A bit for each row.
    #[inline(always)]
    fn mask(&self) -> __mmask16 {
        ((1u32 << self.count) - 1) as __mmask16
    }
}

/// Every block of [`BLOCK`] rows.
#[inline(always)]
fn blocks(weights: &[i8], columns: usize) -> impl Iterator<Item = Rows<'_>> {
    assert!(
        columns > 0 && weights.len().is_multiple_of(columns),
        "whole rows"
    );
    let blocks = weights.chunks(BLOCK * columns).enumerate();
    blocks.map(move |(index, weights)| {
        let count = weights.len() / columns;
        Rows {
            weights,
            columns,
            first: BLOCK * index,
            count,
        }
    })
}

/// Adds 128 to each byte, as unsigned bytes.
#[inline(always)]
fn add_offset(plane: &mut [i8]) {
    for byte in plane {
        *byte ^= i8::MIN;
    }
}

/// A bit for each of the first `count` ≤ 64 bytes.
#[inline(always)]
fn tail_mask(count: usize) -> __mmask64 {
    u64::MAX >> (LANES - count)
}

/// Sixteen rows times each input. With `NARROW_SUMS` both planes' sums become one in the
/// first register, 256·high + low, modulo 2^32.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn dot_block<const PLANES: usize, const NARROW_SUMS: bool>(
    rows: &Rows<'_>,
    planes: [&Plane; PLANES],
) -> [__m512i; PLANES] {
    let zero = _mm512_setzero_si512();
    let (whole, tail) = (rows.columns / LANES, rows.columns % LANES);
    assert!(rows.columns <= MAX_COLUMNS);
    let mut folded = [[zero; 4]; PLANES];
    for quad in 0..4 {
        let pointers = rows.quad(quad);
        let mut sums = [[zero; 4]; PLANES];
        let mut step = |chunk: usize, mask: Option<__mmask64>| {
            for (row, pointer) in pointers.into_iter().enumerate() {
                let pointer = pointer.wrapping_add(chunk * LANES);
                _mm_prefetch::<_MM_HINT_T0>(pointer.wrapping_add(AHEAD));
                // SAFETY: a whole chunk lies in its row, the mask covers the row's rest.
                let weights = unsafe {
                    match mask {
                        None => _mm512_loadu_si512(pointer.cast()),
                        Some(mask) => _mm512_maskz_loadu_epi8(mask, pointer),
                    }
                };
                for (sums, plane) in sums.iter_mut().zip(planes) {
                    let plane = plane[chunk * LANES..][..LANES].as_ptr();
                    // SAFETY: a register's bytes.
                    let inputs = unsafe { _mm512_loadu_si512(plane.cast()) };
                    sums[row] = _mm512_dpbusd_epi32(sums[row], inputs, weights);
                }
            }
        };
        for chunk in 0..whole {
            step(chunk, None);
        }
        if tail > 0 {
            step(whole, Some(tail_mask(tail)));
        }
        if NARROW_SUMS {
            let [high, low] = [sums[0], sums[PLANES - 1]];
            let both = |row| _mm512_add_epi32(_mm512_slli_epi32::<8>(high[row]), low[row]);
            folded[0][quad] = fold_quad([both(0), both(1), both(2), both(3)]);
        } else {
            for (folded, sums) in folded.iter_mut().zip(sums) {
                folded[quad] = fold_quad(sums);
            }
        }
    }
    let mut outputs = [zero; PLANES];
    for (output, folded) in outputs.iter_mut().zip(folded) {
        *output = fold_block(folded);
    }
    outputs
}

/// Four accumulators to one: each 128 bits hold four rows' partial sums.
#[inline]
#[target_feature(enable = "avx512f")]
fn fold_quad(rows: [__m512i; 4]) -> __m512i {
    let pair = |a, b| _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    let (a, b) = (pair(rows[0], rows[1]), pair(rows[2], rows[3]));
    _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b))
}

/// Four quads to the sixteen rows' sums, in order.
#[inline]
#[target_feature(enable = "avx512f")]
fn fold_block(quads: [__m512i; 4]) -> __m512i {
    let pair = |a, b| {
        let even = _mm512_shuffle_i32x4::<0b10_00_10_00>(a, b);
        _mm512_add_epi32(even, _mm512_shuffle_i32x4::<0b11_01_11_01>(a, b))
    };
    pair(pair(quads[0], quads[1]), pair(quads[2], quads[3]))
}

/// Sixteen rows times each input, with 128 added to the weights instead of the inputs, so that no row
/// sums are needed.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn dot_unsummed<const PLANES: usize>(
    rows: &Rows<'_>,
    planes: [&[i8]; PLANES],
    added: [i32; PLANES],
) -> [__m512i; PLANES] {
    let zero = _mm512_setzero_si512();
    let signs = _mm512_set1_epi8(i8::MIN);
    let (whole, tail) = (rows.columns / LANES, rows.columns % LANES);
    assert!(planes.iter().all(|plane| plane.len() == rows.columns));
    let mut folded = [[zero; 4]; PLANES];
    for quad in 0..4 {
        let pointers = rows.quad(quad);
        let mut sums = [[zero; 4]; PLANES];
        let mut step = |chunk: usize, mask: __mmask64| {
            // SAFETY: the mask ends with the inputs.
            let inputs = planes.map(|plane| unsafe {
                _mm512_maskz_loadu_epi8(mask, plane.as_ptr().add(chunk * LANES))
            });
            for (row, pointer) in pointers.into_iter().enumerate() {
                let pointer = pointer.wrapping_add(chunk * LANES);
                _mm_prefetch::<_MM_HINT_T0>(pointer.wrapping_add(AHEAD));
                // SAFETY: the mask ends with the row.
                let weights = unsafe { _mm512_maskz_loadu_epi8(mask, pointer) };
                let weights = _mm512_xor_si512(weights, signs);
                for (sums, inputs) in sums.iter_mut().zip(inputs) {
                    sums[row] = _mm512_dpbusd_epi32(sums[row], weights, inputs);
                }
            }
        };
        for chunk in 0..whole {
            step(chunk, u64::MAX);
        }
        if tail > 0 {
            step(whole, tail_mask(tail));
        }
        for (folded, sums) in folded.iter_mut().zip(sums) {
            folded[quad] = fold_quad(sums);
        }
    }
    let mut outputs = [zero; PLANES];
    for ((output, folded), added) in outputs.iter_mut().zip(folded).zip(added) {
        *output = _mm512_sub_epi32(fold_block(folded), _mm512_set1_epi32(added));
    }
    outputs
}

/// What the 128 added to each weight adds to a row's sum.
fn added(plane: &[i8]) -> i32 {
    plane.iter().map(|value| 128 * i32::from(*value)).sum()
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn matvec(task: MatVec<'_>) {
    let added = added(task.input);
    for rows in blocks(task.weights, task.input.len()) {
        let [sums] = dot_unsummed(&rows, [task.input], [added]);
        let output = &mut task.output[rows.first..][..rows.count];
        // SAFETY: the mask covers the block's outputs.
        unsafe { _mm512_mask_storeu_epi32(output.as_mut_ptr(), rows.mask(), sums) };
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn linear_unsummed(linear: &Linear<'_>, work: &mut Work) {
    let planes = [&work.high[..linear.columns], &work.low[..linear.columns]];
    let added = planes.map(added);
    for rows in blocks(linear.weights, linear.columns) {
        let [high, low] = dot_unsummed(&rows, planes, added);
        let multipliers = load_rows(&rows, linear.multipliers);
        let [scaled_high, scaled_low] = [high, low].map(|sums| multiply(sums, multipliers));
        let products = [0, 1].map(|half| {
            _mm512_add_epi64(_mm512_slli_epi64::<8>(scaled_high[half]), scaled_low[half])
        });
        let values = requantize(products, linear.shift);
        let place = rows.first..rows.first + rows.count;
        let (output, spare) = (&mut work.projected[place.clone()], &mut work.spare[place]);
        // SAFETY: the mask covers the block's outputs.
        unsafe {
            _mm512_mask_storeu_epi32(output.as_mut_ptr(), rows.mask(), values);
            _mm512_mask_storeu_epi32(spare.as_mut_ptr(), rows.mask(), low);
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn linear_step(linear: &Linear<'_>, work: &mut Work) {
    add_offset(&mut work.high[..linear.columns]);
    add_offset(&mut work.low[..linear.columns]);
    for rows in blocks(linear.weights, linear.columns) {
        linear_block(linear, &rows, work);
    }
}

/// Block by block, so that a block's weights come from the first-level cache for all
/// sessions but the first.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn linear_batch(linear: &Linear<'_>, works: &mut [&mut Work]) {
    rows_batch(linear, 0, works);
}

/// The rows from `first` on (a multiple of [`BLOCK`]), for every session.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) fn rows_batch(linear: &Linear<'_>, first: usize, works: &mut [&mut Work]) {
    for work in &mut *works {
        add_offset(&mut work.high[..linear.columns]);
        add_offset(&mut work.low[..linear.columns]);
    }
    for rows in blocks(linear.weights, linear.columns).skip(first / BLOCK) {
        for work in &mut *works {
            linear_block(linear, &rows, work);
        }
    }
}

/// Sixteen rows of both planes, requantized.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn linear_block(linear: &Linear<'_>, rows: &Rows<'_>, work: &mut Work) {
    let planes = [&work.high, &work.low];
    let row_sums = load_rows(rows, linear.row_sums);
    let multipliers = load_rows(rows, linear.multipliers);
    let products = if linear.columns <= NARROW {
        // Exact although the parts wrap: the difference fits 32 bits.
        let [sums, _] = dot_block::<2, true>(rows, planes);
        let offsets = _mm512_mullo_epi32(row_sums, _mm512_set1_epi32(128 * 257));
        multiply(_mm512_sub_epi32(sums, offsets), multipliers)
    } else {
        let [high, low] = dot_block::<2, false>(rows, planes);
        let offsets = _mm512_slli_epi32::<7>(row_sums);
        let high = multiply(_mm512_sub_epi32(high, offsets), multipliers);
        let low = multiply(_mm512_sub_epi32(low, offsets), multipliers);
        [0, 1].map(|half| _mm512_add_epi64(_mm512_slli_epi64::<8>(high[half]), low[half]))
    };
    let values = requantize(products, linear.shift);
    let output = &mut work.projected[rows.first..][..rows.count];
    // SAFETY: the mask covers the block's outputs.
    unsafe { _mm512_mask_storeu_epi32(output.as_mut_ptr(), rows.mask(), values) };
}

/// Rounds, shifts and narrows sixteen products.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn requantize(products: [__m512i; 2], shift: u32) -> __m512i {
    let rounding = _mm512_set1_epi64((1i64 << shift) >> 1);
    let shift = _mm_cvtsi32_si128(shift as i32);
    let [first, second] = products.map(|half| {
        _mm512_cvtsepi64_epi32(_mm512_sra_epi64(_mm512_add_epi64(half, rounding), shift))
    });
    _mm512_inserti64x4::<1>(_mm512_castsi256_si512(first), second)
}

/// The block's share of a value by row.
#[inline]
#[target_feature(enable = "avx512f")]
fn load_rows(rows: &Rows<'_>, values: &[i32]) -> __m512i {
    let values = &values[rows.first..][..rows.count];
    // SAFETY: the mask covers `values`.
    unsafe { _mm512_maskz_loadu_epi32(rows.mask(), values.as_ptr()) }
}

/// Sixteen 32-bit products in 64 bits, in order.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn multiply(a: __m512i, b: __m512i) -> [__m512i; 2] {
    let low = |v| _mm512_cvtepi32_epi64(_mm512_castsi512_si256(v));
    let high = |v| _mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64::<1>(v));
    [
        _mm512_mul_epi32(low(a), low(b)),
        _mm512_mul_epi32(high(a), high(b)),
    ]
}

#[target_feature(enable = "avx512f,avx512bw")]
fn scan(task: Scan<'_>) {
    const QUARTERS: usize = HEAD_DIM / BLOCK;
    let zero = _mm512_setzero_si512();
    let decay = _mm512_set1_epi16(task.decay);
    let mut dtx = [zero; QUARTERS];
    for (register, values) in dtx.iter_mut().zip(task.dtx.as_chunks::<BLOCK>().0) {
        // SAFETY: sixteen numbers of 16 bits.
        let values = unsafe { _mm256_loadu_si256(values.as_ptr().cast()) };
        let wide = _mm512_cvtepu16_epi32(values);
        *register = _mm512_or_si512(wide, _mm512_slli_epi32::<16>(wide));
    }
    let mut sums = [zero; QUARTERS];
    let (b, c) = (task.b.as_chunks::<2>().0, task.c.as_chunks::<2>().0);
    for (state, (b, c)) in task
        .state
        .as_chunks_mut::<{ 2 * HEAD_DIM }>()
        .0
        .iter_mut()
        .zip(b.iter().zip(c))
    {
        let (b, c) = (broadcast_pair(*b), broadcast_pair(*c));
        for quarter in 0..QUARTERS {
            let state: *mut i16 = state[quarter * 2 * BLOCK..][..2 * BLOCK].as_mut_ptr();
            // The next head's state usually follows; a prefetch of anything else is harmless.
            _mm_prefetch::<_MM_HINT_T0>(state.wrapping_add(2 * HEAD_DIM * 8).cast());
            // SAFETY: 32 numbers of 16 bits.
            let old = unsafe { _mm512_loadu_si512(state.cast()) };
            let kept = _mm512_mulhrs_epi16(old, decay);
            let new = _mm512_adds_epi16(kept, _mm512_mulhrs_epi16(dtx[quarter], b));
            // SAFETY: as above.
            unsafe { _mm512_storeu_si512(state.cast(), new) };
            let pairs = _mm512_srai_epi32::<SCAN_SHIFT>(_mm512_madd_epi16(new, c));
            sums[quarter] = _mm512_add_epi32(sums[quarter], pairs);
        }
    }
    for (output, sum) in task.y.as_chunks_mut::<BLOCK>().0.iter_mut().zip(sums) {
        // SAFETY: sixteen numbers of 32 bits.
        unsafe { _mm512_storeu_si512(output.as_mut_ptr().cast(), sum) };
    }
}

/// Two numbers in each 32 bits.
#[inline]
#[target_feature(enable = "avx512f")]
fn broadcast_pair(pair: [i16; 2]) -> __m512i {
    _mm512_set1_epi32(i32::from(pair[0]) & 0xffff | i32::from(pair[1]) << 16)
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn silu(table: &[i16], values: &mut [i16]) {
    assert_eq!(table.len(), tables::SILU_ENTRIES);
    let one = 1 << tables::SILU_STEP;
    let (chunks, rest) = values.as_chunks_mut::<BLOCK>();
    for chunk in chunks {
        // SAFETY: sixteen numbers of 16 bits.
        let x = unsafe { _mm256_loadu_si256(chunk.as_ptr().cast()) };
        let offset = _mm512_add_epi32(_mm512_cvtepi16_epi32(x), _mm512_set1_epi32(0x8000));
        let index = _mm512_srli_epi32::<{ tables::SILU_STEP }>(offset);
        let part = _mm512_and_si512(offset, _mm512_set1_epi32(one - 1));
        // SAFETY: an index is at most 1,023, and it reads entries `index` and `index + 1`.
        let entries = unsafe { _mm512_i32gather_epi32::<2>(index, table.as_ptr().cast()) };
        let rest = _mm512_sub_epi32(_mm512_set1_epi32(one), part);
        let shares = _mm512_or_si512(rest, _mm512_slli_epi32::<16>(part));
        let sum = _mm512_add_epi32(
            _mm512_madd_epi16(entries, shares),
            _mm512_set1_epi32(one / 2),
        );
        let y = _mm512_cvtepi32_epi16(_mm512_srai_epi32::<{ tables::SILU_STEP }>(sum));
        // SAFETY: as the load.
        unsafe { _mm256_storeu_si256(chunk.as_mut_ptr().cast(), y) };
    }
    for value in rest {
        *value = tables::silu(table, *value);
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn prepare(layer: &Layer<'_>, work: &mut Work) {
    layer::prepare(layer, work);
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn mix<S: LayerState>(kernels: &Avx512, layer: &Layer<'_>, state: &mut S, work: &mut Work) {
    layer::mix(kernels, layer, state, work);
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn accumulate(width: usize, work: &mut Work) {
    layer::accumulate(width, work);
}

/// Eight registers of sums, so that only the loads take time.
#[target_feature(enable = "avx512f")]
fn read(bytes: &[i8]) -> u64 {
    let mut sums = [_mm512_setzero_si512(); 8];
    for chunk in bytes.as_chunks::<{ 8 * LANES }>().0 {
        for (sum, part) in sums.iter_mut().zip(chunk.as_chunks::<LANES>().0) {
            // SAFETY: a register's bytes.
            let part = unsafe { _mm512_loadu_si512(part.as_ptr().cast()) };
            *sum = _mm512_add_epi64(*sum, part);
        }
    }
    sums.iter().fold(0, |all, sum| {
        all.wrapping_add(_mm512_reduce_add_epi64(*sum) as u64)
    })
}
