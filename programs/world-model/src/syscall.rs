//! The runtime's functions, each behind a safe one.
//!
//! `sol_matmul_i8` and `sol_ssm_scan` are not on every chain. They are called by address, the hash
//! of their name, so that an ELF that holds them loads anywhere and only the instruction that
//! reaches one fails where it is missing.
#![allow(unsafe_code)] // Syscalls take addresses; each call says why its own are good.

use worldline_mamba2::{MatVec, Scan};

#[cfg(any(target_arch = "bpf", target_os = "solana"))]
mod vm {
    use super::*;
    use worldline_mamba2::HEAD_DIM;

    /// murmur3_32("sol_matmul_i8")
    const MATMUL: usize = 0x38a5_5158;
    /// murmur3_32("sol_ssm_scan")
    const SCAN: usize = 0xecb5_a1bb;

    type Matmul = extern "C" fn(*const i8, *const i8, *mut i32, u64, u64) -> u64;
    type SsmScan = extern "C" fn(*mut i16, *const i16, *const i16, *mut i32, u64) -> u64;

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
    pub(crate) fn scan(task: Scan<'_>) {
        // SAFETY: the address is the syscall's, whose arguments these are.
        let call: SsmScan = unsafe { core::mem::transmute(SCAN) };
        let n = task.b.len();
        let mut both = [0; 2 * worldline_mamba2::MAX_D_STATE];
        let bc = if task.c.as_ptr() == task.b.as_ptr().wrapping_add(n) {
            task.b.as_ptr()
        } else {
            both[..n].copy_from_slice(task.b);
            both[n..2 * n].copy_from_slice(task.c);
            both.as_ptr()
        };
        const _: () = assert!(HEAD_DIM == 64);
        let shape = n as u64 | (task.decay as u16 as u64) << 16;
        call(
            task.state.as_mut_ptr(),
            task.dtx.as_ptr(),
            bc,
            task.y.as_mut_ptr(),
            shape,
        );
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

    pub(crate) fn scan(task: Scan<'_>) {
        Scalar.scan(task);
    }

    pub(crate) fn sha256(parts: &[&[u8]]) -> [u8; 32] {
        Scalar.sha256(parts)
    }

    pub(crate) fn log(_: &str) {}
}

pub(crate) use vm::{log, matmul, scan, sha256};
