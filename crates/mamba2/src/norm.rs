//! RMS normalisation, and the split of activations into two planes.

use crate::math::{NORMAL_BITS, round_shift, sat16, split};
use crate::tables::rsqrt;

/// Bits that the largest value is brought to before it is squared.
const NORM_BITS: i32 = 15;
/// Fraction bits of the mean square.
const MEAN_BITS: u32 = 12;

/// Root-mean-square normalisation of `values` (any unit, at most 2,048 of them) to Q10,
/// split into the planes that the next matrix reads. All zeros stay zeros.
#[inline(always)]
pub fn normalize(values: &[i32], table: &[i16], high: &mut [i8], low: &mut [i8]) {
    let most = values
        .iter()
        .fold(0, |most, value| most | value.unsigned_abs());
    if most == 0 {
        high.fill(0);
        low.fill(0);
        return;
    }
    // From here on every value has at most 15 bits and a sign.
    let shift = (32 - most.leading_zeros()) as i32 - NORM_BITS;
    let (up, down) = ((-shift).max(0) as u32, shift.max(0) as u32);
    let sum: i64 = values
        .iter()
        .map(|value| square((value << up) >> down))
        .sum();
    let mean = ((sum as u64) << MEAN_BITS) / values.len() as u64;
    let (mantissa, exponent) = rsqrt(table, mean);
    // 2^10/sqrt(mean·2^-12) = mantissa·2^(10+6-15-exponent)
    debug_assert!(
        (3..=30).contains(&exponent),
        "mean square {mean} out of its range"
    );
    let (mantissa, shift) = (mantissa as i32, exponent + 9 - NORMAL_BITS);
    for ((value, high), low) in values.iter().zip(high).zip(low) {
        let value = (value << up) >> down;
        (*high, *low) = split(sat16(round_shift(value * mantissa, shift)));
    }
}

#[inline(always)]
fn square(value: i32) -> i64 {
    i64::from(value) * i64::from(value)
}

/// Splits activations into the planes that a matrix reads.
#[inline(always)]
pub fn split_planes(values: &[i16], high: &mut [i8], low: &mut [i8]) {
    for ((value, high), low) in values.iter().zip(high).zip(low) {
        (*high, *low) = split(*value);
    }
}
