//! What the functions cost in compute units, and why.
//!
//! A unit stands for the time of one instruction of a program. A function that gave more time for a
//! unit would let a transaction of 1.4 million units hold a validator for longer than its slot
//! allows; so each price is what the slowest kernel that an operator would run (AVX2, no
//! vector-neural instructions) takes, in instructions' times, rounded up to a power of two. Faster
//! machines are paid better, never worse. `docs/chain.md` has the measurements.

use worldline_mamba2::Dims;

/// Units of a call to `sol_matmul_i8` before any product: three translated slices.
pub const MATMUL_BASE: u64 = 100;
/// Products of two bytes that one unit pays for.
pub const MATMUL_PRODUCTS: u64 = 64;
/// Rows of a matrix, at most.
pub const MAX_ROWS: u64 = 1 << 16;
/// Columns of a matrix, at most: those of the widest cartridge.
pub const MAX_COLUMNS: u64 = worldline_mamba2::MAX_COLUMNS as u64;
/// Units of a call to `sol_ssm_scan` before any number: some thirty translated slices, and the
/// tables and parameters looked through.
pub const SCAN_BASE: u64 = 2_000;
/// Numbers of recurrent state that one unit pays for.
pub const SCAN_NUMBERS: u64 = 8;
/// Units of a channel: four taps, two look-ups, its time step, gate and norm.
pub const SCAN_CHANNEL: u64 = 4;

/// Units of one matrix-vector product.
pub const fn matmul_price(rows: u64, columns: u64) -> u64 {
    MATMUL_BASE.saturating_add(rows.saturating_mul(columns).div_ceil(MATMUL_PRODUCTS))
}

/// Units of a row's requantization: a 64-bit product, a shift, a clamp.
pub const LINEAR_ROW: u64 = 1;

/// Units of both planes through one matrix, requantized.
pub const fn linear_price(rows: u64, columns: u64) -> u64 {
    let products = rows.saturating_mul(columns).saturating_mul(2);
    let rows = rows.saturating_mul(LINEAR_ROW);
    MATMUL_BASE
        .saturating_add(products.div_ceil(MATMUL_PRODUCTS))
        .saturating_add(rows)
}

/// Units of one block between its matrices.
pub const fn scan_price(dims: Dims) -> u64 {
    let numbers = (dims.heads() * dims.head_state()) as u64;
    SCAN_BASE + numbers.div_ceil(SCAN_NUMBERS) + SCAN_CHANNEL * dims.conv_dim() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_grow_with_the_work_and_never_overflow() {
        assert_eq!(matmul_price(1, 1), 101);
        assert_eq!(matmul_price(512, 2_048), 100 + 512 * 2_048 / 64);
        assert_eq!(matmul_price(u64::MAX, u64::MAX), 100 + u64::MAX / 64 + 1);
        assert_eq!(linear_price(64, 32), 100 + 2 * 64 * 32 / 64 + 64);
        assert_eq!(linear_price(u64::MAX, 2), u64::MAX);
        let small = Dims {
            d_model: 256,
            d_state: 16,
        };
        assert_eq!(scan_price(small), 2_000 + 512 * 16 / 8 + 4 * 544);
    }
}
