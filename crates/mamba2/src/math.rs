//! The few integer operations that everything is made of.

/// The largest activation that two signed planes can hold: 127·256 + 127.
pub const PLANE_LIMIT: i16 = 32_639;
/// Fraction bits of a normalised activation: up to sqrt(1,024) = 32 of them in one channel.
pub const NORMAL_BITS: u32 = 10;
/// Fraction bits of z, x, B, C and of SiLU's in- and output.
pub const ACTIVATION_BITS: u32 = 11;
/// Fraction bits of the residual stream.
pub const RESIDUAL_BITS: u32 = 16;
/// Fraction bits of a raw time step, and of `A`.
pub const RAW_DT_BITS: u32 = 16;
/// Fraction bits of a time step after softplus.
pub const DT_BITS: u32 = 24;
/// Time steps, raw or not, stay within ± this many units.
pub const DT_LIMIT: i32 = 32;
/// What a pair of state·C products is shifted by before it is summed.
pub const SCAN_SHIFT: u32 = 3;

/// The next 64 bits of SplitMix64 (Steele, Lea and Flood, 2014), whose whole state is `state`. The
/// house's one source of chance that has to be the same everywhere.
#[inline]
pub const fn split_mix_64(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Clamps to ±32,767.
#[inline(always)]
pub const fn sat16(value: i32) -> i16 {
    if value > 32_767 {
        32_767
    } else if value < -32_767 {
        -32_767
    } else {
        value as i16
    }
}

/// [`sat16`] of 64 bits.
#[inline(always)]
pub const fn sat16_wide(value: i64) -> i16 {
    if value > 32_767 {
        32_767
    } else if value < -32_767 {
        -32_767
    } else {
        value as i16
    }
}

/// Clamps to the range of `i32`.
#[inline(always)]
pub const fn sat32(value: i64) -> i32 {
    if value > i32::MAX as i64 {
        i32::MAX
    } else if value < i32::MIN as i64 {
        i32::MIN
    } else {
        value as i32
    }
}

/// `value / 2^shift`, rounded half up; `shift` ≤ 30.
#[inline(always)]
pub const fn round_shift(value: i32, shift: u32) -> i32 {
    value.wrapping_add((1 << shift) >> 1) >> shift
}

/// [`round_shift`] of 64 bits; `shift` ≤ 62.
#[inline(always)]
pub const fn round_shift_wide(value: i64, shift: u32) -> i64 {
    value.wrapping_add((1 << shift) >> 1) >> shift
}

/// The Q15 product of two `i16`, rounded half up, as `vpmulhrsw` computes it.
#[inline(always)]
pub const fn mulhrs(a: i16, b: i16) -> i16 {
    ((a as i32 * b as i32 + 0x4000) >> 15) as i16
}

/// A matrix row's sum over both planes, brought into the row's output unit.
#[inline(always)]
pub const fn requantize(high: i32, low: i32, multiplier: i32, shift: u32) -> i32 {
    let sum = high as i64 * 256 + low as i64;
    sat32(round_shift_wide(sum * multiplier as i64, shift))
}

/// An activation as two signed bytes: `high·256 + low`, clamped to ±[`PLANE_LIMIT`] first.
#[inline(always)]
pub const fn split(value: i16) -> (i8, i8) {
    let value = if value > PLANE_LIMIT {
        PLANE_LIMIT
    } else if value < -PLANE_LIMIT {
        -PLANE_LIMIT
    } else {
        value
    };
    let low = value as i8;
    (((value - low as i16) >> 8) as i8, low)
}

#[cfg(test)]
mod tests {
    use super::split_mix_64;

    #[test]
    fn chance_is_the_published_one() {
        // From the algorithm's authors' reference in C, seed 1234567.
        let mut state = 1_234_567;
        let drawn = [(); 3].map(|()| split_mix_64(&mut state));
        assert_eq!(
            drawn,
            [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423
            ]
        );
    }
}
