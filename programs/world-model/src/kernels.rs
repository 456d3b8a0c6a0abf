//! What multiplies: the runtime's syscalls, or this program itself.

use worldline_abi::kernels;
use worldline_mamba2::math::{round_shift_wide, sat32};
use worldline_mamba2::{Fit, Kernels, Layer, LayerState, Linear, MatVec, Norm, Scalar, Work};

use crate::syscall;

/// Kernels as a session names them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chip(pub(crate) u8);

impl Kernels for Chip {
    #[inline(never)]
    fn linear(&self, linear: &Linear<'_>, work: &mut Work) {
        match self.0 {
            kernels::PLAIN => plain(linear, work),
            kernels::SYSCALLS => syscall::linear(linear, work),
            _ => Multiplier.linear(linear, work),
        }
    }

    #[inline(never)]
    fn mix<S: LayerState>(&self, layer: &Layer<'_>, state: &mut S, work: &mut Work) {
        match self.0 {
            kernels::SYSCALLS => syscall::scan(layer, state, work),
            _ => Scalar.mix(layer, state, work),
        }
    }

    #[inline(never)]
    fn prepare(&self, layer: &Layer<'_>, work: &mut Work) {
        normalize(layer.dims.d_model, layer.tables.rsqrt, work);
    }

    #[inline(never)]
    fn accumulate(&self, width: usize, work: &mut Work) {
        accumulate(width, work);
    }

    fn sha256(&self, parts: &[&[u8]]) -> [u8; 32] {
        syscall::sha256(parts)
    }
}

/// Matrices by syscall.
struct Multiplier;

impl Kernels for Multiplier {
    fn matvec(&self, task: MatVec<'_>) {
        syscall::matmul(task);
    }
}

/// Weights of a word.
const WORD: usize = 8;
/// Words of columns whose sums fit 32 bits: 256 columns.
const WORDS: usize = 32;
/// Adds 128 to each weight of a word.
const SIGNS: u64 = 0x8080_8080_8080_8080;
/// The weights 0 and 4 of a word.
const PAIR: u64 = 0x0000_00ff_0000_00ff;
/// What is added to an input to make it positive.
const INPUT_OFFSET: i32 = 1 << 15;

/// A matrix without syscalls: the two planes as one number, and two weights a multiplication where
/// rows begin at whole words.
///
/// With `u = weight + 128` and `v = input + 2^15`, none negative, the 64-bit product
/// `(u₀ + u₄·2^32)·(v₄ + v₀·2^32)` has `u₀v₀ + u₄v₄` above its 32nd bit. A word's eight weights make
/// four such pairs by shifts and masks. Sums of 256 columns stay below 2^32 above and below: 128
/// products of at most `2·255·65,407` above, `255·65,407` below. What the offsets added is taken
/// off: `Σwx = Σuv − 128·Σx − 2^15·Σw − 2^22·columns`.
pub(crate) fn plain(linear: &Linear<'_>, work: &mut Work) {
    let columns = linear.columns;
    let planes = work.high[..columns].iter().zip(&work.low[..columns]);
    let inputs = planes.map(|(high, low)| i32::from(*high) * 256 + i32::from(*low));
    let spare: &mut [u64] = bytemuck::cast_slice_mut(&mut work.spare);
    let spare = &mut spare[..columns];
    let mut sum = 0;
    for (place, input) in spare.iter_mut().zip(inputs) {
        sum += i64::from(input);
        *place = (input + INPUT_OFFSET) as u64;
    }
    let offset = 128 * sum + ((columns as i64) << 22);
    let mut finish = |row: usize, product: u64| {
        let sum = product as i64 - offset - (i64::from(linear.row_sums[row]) << 15);
        let scaled = sum * i64::from(linear.multipliers[row]);
        work.projected[row] = sat32(round_shift_wide(scaled, linear.shift));
    };
    match bytemuck::try_cast_slice::<i8, u64>(linear.weights) {
        Ok(words) if columns.is_multiple_of(WORD) => {
            let pairs = pair(spare);
            for (row, words) in words.chunks_exact(columns / WORD).enumerate() {
                finish(row, dot_words(words, pairs));
            }
        }
        _ => {
            for (row, weights) in linear.weights.chunks_exact(columns).enumerate() {
                finish(row, dot_bytes(weights, spare));
            }
        }
    }
}

/// Turns each eight inputs into the four factors of a word, in place of the first four.
fn pair(inputs: &mut [u64]) -> &[[u64; WORD]] {
    let (words, _) = inputs.as_chunks_mut::<WORD>();
    for word in &mut *words {
        for k in 0..WORD / 2 {
            word[k] = word[k + 4] | word[k] << 32;
        }
    }
    words
}

#[inline(always)]
fn dot_words(words: &[u64], pairs: &[[u64; WORD]]) -> u64 {
    let mut total = 0;
    for (words, pairs) in words.chunks(WORDS).zip(pairs.chunks(WORDS)) {
        let mut sum = 0u64;
        for (word, pairs) in words.iter().zip(pairs) {
            let word = word ^ SIGNS;
            sum = sum.wrapping_add((word & PAIR).wrapping_mul(pairs[0]));
            sum = sum.wrapping_add((word >> 8 & PAIR).wrapping_mul(pairs[1]));
            sum = sum.wrapping_add((word >> 16 & PAIR).wrapping_mul(pairs[2]));
            sum = sum.wrapping_add((word >> 24 & PAIR).wrapping_mul(pairs[3]));
        }
        total += sum >> 32;
    }
    total
}

#[inline(always)]
fn dot_bytes(weights: &[i8], inputs: &[u64]) -> u64 {
    let product = |(weight, input): (&i8, &u64)| u64::from(*weight as u8 ^ 0x80) * input;
    weights.iter().zip(inputs).map(product).sum()
}

/// Both halves of a word, the lower one first.
#[inline(always)]
fn halves(word: u64) -> [i32; 2] {
    [word as i32, (word >> 32) as i32]
}

/// [`Scalar`]'s normalisation of the residual with two values a load and eight a store: every load and
/// store of a program is looked up by the runtime, which takes as long as ten additions. Widths are
/// multiples of 32.
pub(crate) fn normalize(width: usize, table: &[i16], work: &mut Work) {
    let words: &[u64] = bytemuck::cast_slice(&work.residual[..width]);
    let high: &mut [u64] = bytemuck::cast_slice_mut(&mut work.high[..width]);
    let low: &mut [u64] = bytemuck::cast_slice_mut(&mut work.low[..width]);
    let most = words.iter().fold(0, |most, word| {
        let [a, b] = halves(*word);
        most | a.unsigned_abs() | b.unsigned_abs()
    });
    let squares = |fit: Fit| {
        let both = |word: &u64| {
            let [a, b] = halves(*word);
            fit.square(a) + fit.square(b)
        };
        words.iter().map(both).sum()
    };
    let Some(norm) = Norm::new(most, width, table, squares) else {
        high.fill(0);
        low.fill(0);
        return;
    };
    let places = high.iter_mut().zip(low);
    for ((high, low), words) in places.zip(words.as_chunks::<{ WORD / 2 }>().0) {
        let (mut highs, mut lows) = (0, 0);
        for word in words.iter().rev() {
            let [a, b] = halves(*word).map(|value| norm.planes(value));
            highs = highs << 16 | u64::from(b.0 as u8) << 8 | u64::from(a.0 as u8);
            lows = lows << 16 | u64::from(b.1 as u8) << 8 | u64::from(a.1 as u8);
        }
        (*high, *low) = (highs, lows);
    }
}

/// [`Scalar`]'s addition to the residual, two values a load.
pub(crate) fn accumulate(width: usize, work: &mut Work) {
    let sums: &mut [u64] = bytemuck::cast_slice_mut(&mut work.residual[..width]);
    let values: &[u64] = bytemuck::cast_slice(&work.projected[..width]);
    for (sum, value) in sums.iter_mut().zip(values) {
        let ([a, b], [c, d]) = (halves(*sum), halves(*value));
        let [a, b] = [a.saturating_add(c), b.saturating_add(d)];
        *sum = u64::from(b as u32) << 32 | u64::from(a as u32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use worldline_mamba2::{
        MAX_COLUMNS, MAX_D_MODEL, MAX_ROWS, math, normalize as reference, tables,
    };

    fn random_words(seed: u64) -> impl FnMut() -> u32 {
        let mut random = seed;
        move || {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (random >> 33) as u32
        }
    }

    /// Zeroed, at whole words, as the program has it.
    fn work() -> Vec<u64> {
        vec![0; size_of::<Work>().div_ceil(8)]
    }

    fn as_work(words: &mut [u64]) -> &mut Work {
        bytemuck::from_bytes_mut(&mut bytemuck::cast_slice_mut(words)[..size_of::<Work>()])
    }

    /// Zeros, small values, the ends of the range, at every width.
    #[test]
    fn normalisation_and_addition_give_the_scalar_kernels_bytes() {
        let mut next = random_words(3);
        let table: Vec<i16> = (0..tables::RSQRT_ENTRIES)
            .map(|_| 16_384 + (next() % 16_383) as i16)
            .collect();
        for width in (32..=MAX_D_MODEL).step_by(32) {
            for bits in [0, 1, 7, 15, 16, 24, 31] {
                let mut words = work();
                let work = as_work(&mut words);
                let ends = [i32::MIN, i32::MAX, 0];
                for at in 0..width {
                    let small = (next() & ((1 << bits) - 1)) as i32;
                    let wild = bits == 31 && next().is_multiple_of(4);
                    work.residual[at] = if wild {
                        ends[next() as usize % 3]
                    } else {
                        small.wrapping_sub((1i64 << bits >> 1) as i32)
                    };
                    work.projected[at] = (next() as i32).wrapping_shl(next() % 3);
                }
                let (mut high, mut low) = (vec![0; width], vec![0; width]);
                reference(&work.residual[..width], &table, &mut high, &mut low);
                let sums: Vec<i32> = (0..width)
                    .map(|at| work.residual[at].saturating_add(work.projected[at]))
                    .collect();
                normalize(width, &table, work);
                assert_eq!(
                    (&work.high[..width], &work.low[..width]),
                    (&high[..], &low[..]),
                    "{width} of {bits} bits"
                );
                accumulate(width, work);
                assert_eq!(work.residual[..width], sums);
            }
        }
    }

    /// The scalar kernel's bytes, for every number of columns, at the ends of every range.
    #[test]
    fn a_plain_matrix_gives_the_scalar_kernels_bytes() {
        let mut next = random_words(7);
        for columns in (1..=40).chain([64, 167, 255, 256, 257, 512, 513, MAX_COLUMNS]) {
            let rows = 3;
            let mut bytes = vec![0u64; (rows * columns).div_ceil(8)];
            let weights: &mut [i8] = &mut bytemuck::cast_slice_mut(&mut bytes)[..rows * columns];
            for weight in &mut *weights {
                *weight = [i8::MIN, i8::MAX, next() as i8][next() as usize % 3];
            }
            let row_sums: Vec<i32> = weights
                .chunks(columns)
                .map(|row| row.iter().map(|weight| i32::from(*weight)).sum())
                .collect();
            let multipliers = [(1 << 24) - 1, -5, 77];
            let linear = Linear {
                weights,
                row_sums: &row_sums,
                multipliers: &multipliers,
                columns,
                shift: 9,
            };
            let mut words = work();
            let work = as_work(&mut words);
            for place in 0..columns {
                let input = [i16::MIN, i16::MAX, next() as i16][next() as usize % 3];
                (work.high[place], work.low[place]) = math::split(input);
            }
            Scalar.linear(&linear, work);
            let expected: Vec<i32> = work.projected[..rows].into();
            work.projected = [0; MAX_ROWS];
            plain(&linear, work);
            assert_eq!(work.projected[..rows], expected, "{columns} columns");
        }
    }
}
