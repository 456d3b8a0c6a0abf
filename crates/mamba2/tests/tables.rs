//! The tables against the functions they stand for.
#![cfg(feature = "std")]

use worldline_mamba2::tables::{Owned, exp, rsqrt, silu, softplus};

#[test]
fn silu_is_within_a_unit_everywhere() {
    let tables = Owned::generate();
    for x in i16::MIN..=i16::MAX {
        let exact = f64::from(x) / (1.0 + (-f64::from(x) / 2048.0).exp());
        let error = (f64::from(silu(&tables.silu, x)) - exact).abs();
        assert!(error < 1.2, "silu({x}) is off by {error}");
    }
}

#[test]
fn softplus_is_within_two_parts_in_ten_thousand() {
    let tables = Owned::generate();
    for x in (-16 << 16..32 << 16).step_by(97) {
        let exact = (f64::from(x) / 65_536.0).exp().ln_1p() * f64::from(1 << 24);
        let error = (f64::from(softplus(&tables.softplus, x)) - exact).abs();
        assert!(
            error < 2.0 + exact * 2e-4,
            "softplus({x}) is off by {error} from {exact}"
        );
    }
    assert_eq!(softplus(&tables.softplus, i32::MIN), tables.softplus[0]);
    assert_eq!(softplus(&tables.softplus, 32 << 16), 32 << 24);
}

#[test]
fn exp_is_within_two_units_and_ends_at_zero() {
    let tables = Owned::generate();
    for t in (0..16i64 << 24).step_by(997) {
        let exact = (-(t as f64) / f64::from(1 << 24)).exp() * 32_768.0;
        let error = (f64::from(exp(&tables.exp, t)) - exact).abs();
        assert!(error < 1.6, "exp(-{t}) is off by {error}");
    }
    assert_eq!(exp(&tables.exp, 16 << 24), 0);
    assert_eq!(exp(&tables.exp, i64::MAX), 0);
}

#[test]
fn rsqrt_is_within_a_part_in_sixteen_thousand() {
    let tables = Owned::generate();
    let mut value = 1u64;
    while value < 1 << 62 {
        for value in [value, value + value / 3, 2 * value - 1] {
            let (mantissa, exponent) = rsqrt(&tables.rsqrt, value);
            let found = f64::from(mantissa) / 32_768.0 / 2f64.powi(exponent as i32);
            let error = (found * (value as f64).sqrt() - 1.0).abs();
            assert!(error < 1.0 / 16_384.0, "rsqrt({value}) is off by {error}");
        }
        value += value / 4 + 1;
    }
}
