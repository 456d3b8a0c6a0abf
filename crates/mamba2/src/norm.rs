//! RMS normalisation, and the split of activations into two planes.

use crate::math::{NORMAL_BITS, round_shift, sat16, split};
use crate::tables::rsqrt;

/// Bits that the largest value is brought to before it is squared.
const NORM_BITS: i32 = 15;
/// Fraction bits of the mean square.
const MEAN_BITS: u32 = 12;

/// How the values of one vector are normalised.
#[derive(Debug, Clone, Copy)]
pub struct Norm {
    fit: Fit,
    mantissa: i32,
    shift: u32,
}

/// Brings values to 15 bits and a sign.
#[derive(Debug, Clone, Copy)]
pub struct Fit {
    up: u32,
    down: u32,
}

impl Fit {
    /// The square of a value that was brought to size.
    #[inline(always)]
    pub fn square(self, value: i32) -> i64 {
        let value = i64::from(self.of(value));
        value * value
    }

    #[inline(always)]
    fn of(self, value: i32) -> i32 {
        (value << self.up) >> self.down
    }
}

impl Norm {
    /// Of a vector of `len` values, at most 2,048: `most` has the bits of all their magnitudes, and `sum`
    /// adds up their squares. `None` if all of them are zero.
    #[inline(always)]
    pub fn new(most: u32, len: usize, table: &[i16], sum: impl FnOnce(Fit) -> i64) -> Option<Self> {
        if most == 0 {
            return None;
        }
        let shift = (32 - most.leading_zeros()) as i32 - NORM_BITS;
        let fit = Fit {
            up: (-shift).max(0) as u32,
            down: shift.max(0) as u32,
        };
        let mean = ((sum(fit) as u64) << MEAN_BITS) / len as u64;
        let (mantissa, exponent) = rsqrt(table, mean);
        // 2^10/sqrt(mean·2^-12) = mantissa·2^(10+6-15-exponent)
        debug_assert!(
            (3..=30).contains(&exponent),
            "mean square {mean} out of its range"
        );
        Some(Self {
            fit,
            mantissa: mantissa as i32,
            shift: exponent + 9 - NORMAL_BITS,
        })
    }

    /// A value in Q10, as the two planes have it.
    #[inline(always)]
    pub fn planes(self, value: i32) -> (i8, i8) {
        split(sat16(round_shift(
            self.fit.of(value) * self.mantissa,
            self.shift,
        )))
    }
}

/// Root-mean-square normalisation of `values` (any unit, at most 2,048 of them) to Q10,
/// split into the planes that the next matrix reads. All zeros stay zeros.
#[inline(always)]
pub fn normalize(values: &[i32], table: &[i16], high: &mut [i8], low: &mut [i8]) {
    let most = values
        .iter()
        .fold(0, |most, value| most | value.unsigned_abs());
    let sum = |fit: Fit| values.iter().map(|value| fit.square(*value)).sum();
    let Some(norm) = Norm::new(most, values.len(), table, sum) else {
        high.fill(0);
        low.fill(0);
        return;
    };
    for ((value, high), low) in values.iter().zip(high).zip(low) {
        (*high, *low) = norm.planes(*value);
    }
}

/// Splits activations into the planes that a matrix reads.
#[inline(always)]
pub fn split_planes(values: &[i16], high: &mut [i8], low: &mut [i8]) {
    for ((value, high), low) in values.iter().zip(high).zip(low) {
        (*high, *low) = split(*value);
    }
}
