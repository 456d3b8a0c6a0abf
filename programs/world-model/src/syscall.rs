//! The runtime's functions, each behind a safe one.
//!
//! `sol_matmul_i8`, `sol_linear_i8` and `sol_ssm_scan` are not on every chain. They are called by address, the hash
//! of their name, so that an ELF that holds them loads anywhere and only the instruction that
//! reaches one fails where it is missing.
#![allow(unsafe_code)] // Syscalls take addresses; each call says why its own are good.

use worldline_mamba2::{Layer, LayerState, Linear, MatVec, Work};

#[cfg(any(target_arch = "bpf", target_os = "solana"))]
mod vm {
    use super::*;
    use worldline_mamba2::{Block, Product};

    /// murmur3_32("sol_matmul_i8")
    const MATMUL: usize = 0x38a5_5158;
    /// murmur3_32("sol_linear_i8")
    const LINEAR: usize = 0x329d_5d71;
    /// murmur3_32("sol_ssm_scan")
    const SCAN: usize = 0xecb5_a1bb;

    type Matmul = extern "C" fn(*const i8, *const i8, *mut i32, u64, u64) -> u64;
    type LinearI8 = extern "C" fn(*const Product, *mut Work) -> u64;
    type SsmScan = extern "C" fn(*const Block) -> u64;

    #[inline(always)]
    pub(crate) fn matmul(task: MatVec<'_>) {
        // SAFETY: the address is the syscall's, whose arguments these are.
        let call: Matmul = unsafe { core::mem::transmute(MATMUL) };
        let (rows, columns) = (task.output.len() as u64, task.input.len() as u64);
        // The runtime ends the program if it refuses; there is nothing to look at.
        call(
            task.weights.as_ptr(),
            task.input.as_ptr(),
            task.output.as_mut_ptr(),
            rows,
            columns,
        );
    }

    #[inline(always)]
    pub(crate) fn linear(linear: &Linear<'_>, work: &mut Work) {
        // SAFETY: the address is the syscall's, whose arguments these are.
        let call: LinearI8 = unsafe { core::mem::transmute(LINEAR) };
        let product = Product::of(linear);
        call(&raw const product, work);
    }

    #[inline(always)]
    pub(crate) fn scan<S: LayerState>(layer: &Layer<'_>, state: &mut S, work: &mut Work) {
        // SAFETY: the address is the syscall's, whose argument this is.
        let call: SsmScan = unsafe { core::mem::transmute(SCAN) };
        let block = Block::of(layer, state, work);
        call(&raw const block);
    }

    pub(crate) fn sha256(parts: &[&[u8]]) -> [u8; 32] {
        let mut hash = [0; 32];
        // SAFETY: a slice of slices is what the syscall reads, 32 bytes are what it writes.
        unsafe {
            pinocchio::syscalls::sol_sha256(
                parts.as_ptr().cast(),
                parts.len() as u64,
                hash.as_mut_ptr(),
            )
        };
        hash
    }

    #[cfg(feature = "measure")]
    pub(crate) fn remaining() -> u64 {
        // SAFETY: it takes nothing.
        unsafe { pinocchio::syscalls::sol_remaining_compute_units() }
    }

    #[cfg(feature = "measure")]
    pub(crate) fn log_units(units: u64) {
        // SAFETY: numbers only.
        unsafe { pinocchio::syscalls::sol_log_64_(units, 0, 0, 0, 0) };
    }

    pub(crate) fn log(text: &str) {
        // SAFETY: the text's own bytes.
        unsafe { pinocchio::syscalls::sol_log_(text.as_ptr(), text.len() as u64) };
    }
}

/// On any other machine: for checks of this crate, never shipped.
#[cfg(not(any(target_arch = "bpf", target_os = "solana")))]
mod vm {
    use super::*;
    use worldline_mamba2::{Kernels, Scalar};

    pub(crate) fn matmul(task: MatVec<'_>) {
        Scalar.matvec(task);
    }

    pub(crate) fn linear(linear: &Linear<'_>, work: &mut Work) {
        Scalar.linear(linear, work);
    }

    pub(crate) fn scan<S: LayerState>(layer: &Layer<'_>, state: &mut S, work: &mut Work) {
        Scalar.mix(layer, state, work);
    }

    pub(crate) fn sha256(parts: &[&[u8]]) -> [u8; 32] {
        Scalar.sha256(parts)
    }

    pub(crate) fn log(_: &str) {}

    #[cfg(feature = "measure")]
    pub(crate) fn remaining() -> u64 {
        0
    }

    #[cfg(feature = "measure")]
    pub(crate) fn log_units(_: u64) {}
}

pub(crate) use vm::{linear, log, matmul, scan, sha256};
#[cfg(feature = "measure")]
pub(crate) use vm::{log_units, remaining};
