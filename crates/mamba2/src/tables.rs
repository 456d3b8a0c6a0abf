//! The look-up tables: how each is read, and (with `std`) how it is made.
//!
//! All are read by linear interpolation between two neighbours, so each holds one entry
//! more than it has segments.

/// Entries of the SiLU table: 1,024 segments over [-16, 16) in Q11, which is `i16`'s range.
pub const SILU_ENTRIES: usize = 1_025;
/// Entries of the softplus table: 1,024 segments over [-16, 16) in Q16.
pub const SOFTPLUS_ENTRIES: usize = 1_025;
/// Entries of the exponential table: 4,096 segments over [0, 16) in Q24.
pub const EXP_ENTRIES: usize = 4_097;
/// Entries of the reciprocal square root: 256 segments over [1, 2), 256 over [2, 4).
pub const RSQRT_ENTRIES: usize = 513;

/// Input bits of one SiLU segment.
pub(crate) const SILU_STEP: u32 = 6;
const SOFTPLUS_STEP: u32 = 11;
const SOFTPLUS_LIMIT: i32 = 16 << 16;
const EXP_STEP: u32 = 16;
const EXP_LIMIT: i64 = 16 << 24;

/// `x / (1 + exp(-x))`, Q11 to Q11.
#[inline(always)]
pub fn silu(table: &[i16], x: i16) -> i16 {
    let offset = (x as i32 + 0x8000) as usize;
    let (index, part) = (
        offset >> SILU_STEP,
        (offset & ((1 << SILU_STEP) - 1)) as i32,
    );
    let (from, to) = (table[index] as i32, table[index + 1] as i32);
    ((from * ((1 << SILU_STEP) - part) + to * part + (1 << (SILU_STEP - 1))) >> SILU_STEP) as i16
}

/// `ln(1 + exp(x))`, Q16 within ±32 to Q24: the identity from 16 up, the table's first
/// entry below -16.
pub fn softplus(table: &[i32], x: i32) -> i32 {
    if x >= SOFTPLUS_LIMIT {
        return x << 8;
    }
    let offset = (x.max(-SOFTPLUS_LIMIT) + SOFTPLUS_LIMIT) as usize;
    let (index, part) = (
        offset >> SOFTPLUS_STEP,
        (offset & ((1 << SOFTPLUS_STEP) - 1)) as i64,
    );
    let (from, to) = (table[index] as i64, table[index + 1] as i64);
    (from + (((to - from) * part + (1 << (SOFTPLUS_STEP - 1))) >> SOFTPLUS_STEP)) as i32
}

/// `exp(-t)`, non-negative Q24 to Q15; 0 from 16 up.
pub fn exp(table: &[i16], t: i64) -> i16 {
    if t >= EXP_LIMIT {
        return 0;
    }
    let (index, part) = ((t >> EXP_STEP) as usize, t & ((1 << EXP_STEP) - 1));
    let (from, to) = (table[index] as i64, table[index + 1] as i64);
    (from + (((to - from) * part + (1 << (EXP_STEP - 1))) >> EXP_STEP)) as i16
}

/// `1/sqrt(value)` for `value` > 0 as `(mantissa, exponent)`: `mantissa · 2^(-15-exponent)`.
pub fn rsqrt(table: &[i16], value: u64) -> (i16, u32) {
    let bits = 63 - value.leading_zeros();
    let fraction = (value << (63 - bits)) << 1; // what follows the leading one, as 0.64
    let index = (((bits & 1) << 8) | (fraction >> 56) as u32) as usize;
    let part = ((fraction >> 40) & 0xffff) as i32;
    let (from, to) = (table[index] as i32, table[index + 1] as i32);
    let mantissa = from + (((to - from) * part + 0x8000) >> 16);
    (mantissa as i16, bits >> 1)
}

#[cfg(feature = "std")]
pub use generate::Owned;

#[cfg(feature = "std")]
mod generate {
    use super::*;
    use crate::Tables;

    /// The tables as they are made, once, when a model is quantized.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Owned {
        /// See [`Tables`].
        pub silu: Vec<i16>,
        /// See [`Tables`].
        pub softplus: Vec<i32>,
        /// See [`Tables`].
        pub exp: Vec<i16>,
        /// See [`Tables`].
        pub rsqrt: Vec<i16>,
    }

    impl Owned {
        /// Computes all four in `f64`.
        pub fn generate() -> Self {
            let entry = |count: usize, value: &dyn Fn(f64) -> f64, most: f64| {
                (0..count)
                    .map(|i| value(i as f64).round().clamp(-most, most))
                    .collect::<Vec<f64>>()
            };
            let silu = |i: f64| {
                let x = i / 32.0 - 16.0;
                x / (1.0 + (-x).exp()) * 2048.0
            };
            let softplus = |i: f64| (i / 32.0 - 16.0).exp().ln_1p() * f64::from(1 << 24);
            let exp = |i: f64| (-i / 256.0).exp() * 32_768.0;
            let rsqrt = |i: f64| {
                let x = if i < 256.0 {
                    1.0 + i / 256.0
                } else {
                    i / 128.0
                };
                32_768.0 / x.sqrt()
            };
            let short = |values: Vec<f64>| values.iter().map(|value| *value as i16).collect();
            Self {
                silu: short(entry(SILU_ENTRIES, &silu, 32_767.0)),
                softplus: entry(SOFTPLUS_ENTRIES, &softplus, f64::from(i32::MAX))
                    .iter()
                    .map(|value| *value as i32)
                    .collect(),
                exp: short(entry(EXP_ENTRIES, &exp, 32_767.0)),
                rsqrt: short(entry(RSQRT_ENTRIES, &rsqrt, 32_767.0)),
            }
        }

        /// Borrowed, as a [`Layer`](crate::Layer) takes them.
        pub fn borrow(&self) -> Tables<'_> {
            Tables {
                silu: &self.silu,
                softplus: &self.softplus,
                exp: &self.exp,
                rsqrt: &self.rsqrt,
            }
        }
    }
}
