//! What the functions cost in compute units, and why.
//!
//! A unit stands for the time of one instruction of a program. A function that gave more time for a
//! unit would let a transaction of 1.4 million units hold a validator for longer than its slot
//! allows; so each price is what the slowest kernel that an operator would run (AVX2, no
//! vector-neural instructions) takes, in instructions' times, rounded up to a power of two. Faster
//! machines are paid better, never worse. `docs/chain.md` has the measurements.

/// Units of a call to `sol_matmul_i8` before any product: three translated slices.
pub const MATMUL_BASE: u64 = 100;
/// Products of two bytes that one unit pays for.
pub const MATMUL_PRODUCTS: u64 = 64;
/// Rows of a matrix, at most.
pub const MAX_ROWS: u64 = 1 << 16;
/// Columns of a matrix, at most: those of the widest cartridge.
pub const MAX_COLUMNS: u64 = worldline_mamba2::MAX_COLUMNS as u64;
/// Units of a call to `sol_ssm_scan` before any number: four translated slices.
pub const SCAN_BASE: u64 = 100;
/// Numbers of recurrent state that one unit pays for.
pub const SCAN_NUMBERS: u64 = 8;

/// Units of one matrix-vector product.
pub const fn matmul_price(rows: u64, columns: u64) -> u64 {
    MATMUL_BASE.saturating_add(rows.saturating_mul(columns).div_ceil(MATMUL_PRODUCTS))
}

/// Units of one head's scan, whose channels have `d_state` numbers each.
pub const fn scan_price(d_state: u64) -> u64 {
    let numbers = (worldline_mamba2::HEAD_DIM as u64).saturating_mul(d_state);
    SCAN_BASE.saturating_add(numbers.div_ceil(SCAN_NUMBERS))
}
