//! This machine's fastest kernels, chosen once at run time.

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;

use crate::{Kernels, Layer, LayerState, Linear, MatVec, Scalar, Scan, Work};

/// Kernels of this machine. All give the same bytes; [`Native::detect`] is the fastest.
#[derive(Debug, Clone, Copy)]
pub enum Native {
    /// Plain Rust.
    Scalar(Scalar),
    /// x86-64 with AVX2.
    #[cfg(target_arch = "x86_64")]
    Avx2(avx2::Avx2),
    /// x86-64 with AVX-512 F, BW, DQ, VL and VNNI.
    #[cfg(target_arch = "x86_64")]
    Avx512(avx512::Avx512),
    /// The same, with AMX tiles for batches.
    #[cfg(target_arch = "x86_64")]
    Amx(amx::Amx),
    /// AArch64 (checked by the compiler only: never run on such a machine).
    #[cfg(target_arch = "aarch64")]
    Neon(neon::Neon),
}

impl Native {
    /// The fastest kernels that this machine has.
    pub fn detect() -> Self {
        Self::available().pop().unwrap_or(Self::Scalar(Scalar))
    }

    /// All kernels that this machine has, slowest first.
    pub fn available() -> Vec<Self> {
        let kernels = [
            Some(Self::Scalar(Scalar)),
            #[cfg(target_arch = "x86_64")]
            avx2::Avx2::detect().map(Self::Avx2),
            #[cfg(target_arch = "x86_64")]
            avx512::Avx512::detect().map(Self::Avx512),
            #[cfg(target_arch = "x86_64")]
            amx::Amx::detect().map(Self::Amx),
            #[cfg(target_arch = "aarch64")]
            neon::Neon::detect().map(Self::Neon),
        ];
        kernels.into_iter().flatten().collect()
    }

    /// Sums `bytes` as 64-bit numbers, the fastest way there is here: what a benchmark
    /// compares a step with. Bytes behind the last whole 512 are left out.
    pub fn read(&self, bytes: &[i8]) -> u64 {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(kernels) => kernels.read(bytes),
            #[cfg(target_arch = "x86_64")]
            Self::Amx(kernels) => kernels.read(bytes),
            _ => {
                let words = bytes.as_chunks::<512>().0.as_flattened().as_chunks::<8>().0;
                let word = |bytes: &[i8; 8]| u64::from_ne_bytes(bytes.map(|byte| byte as u8));
                words.iter().map(word).fold(0, u64::wrapping_add)
            }
        }
    }

    /// How reports call them.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Scalar(_) => "scalar",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => "avx2",
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) => "avx512-vnni",
            #[cfg(target_arch = "x86_64")]
            Self::Amx(_) => "avx512-vnni+amx",
            #[cfg(target_arch = "aarch64")]
            Self::Neon(_) => "neon",
        }
    }
}

/// Calls the chosen kernels.
macro_rules! dispatch {
    ($native:expr, $kernels:ident => $call:expr) => {
        match $native {
            Native::Scalar($kernels) => $call,
            #[cfg(target_arch = "x86_64")]
            Native::Avx2($kernels) => $call,
            #[cfg(target_arch = "x86_64")]
            Native::Avx512($kernels) => $call,
            #[cfg(target_arch = "x86_64")]
            Native::Amx($kernels) => $call,
            #[cfg(target_arch = "aarch64")]
            Native::Neon($kernels) => $call,
        }
    };
}

impl Kernels for Native {
    fn matvec(&self, task: MatVec<'_>) {
        dispatch!(self, kernels => kernels.matvec(task))
    }

    fn linear(&self, linear: &Linear<'_>, work: &mut Work) {
        dispatch!(self, kernels => kernels.linear(linear, work))
    }

    fn linear_unsummed(&self, linear: &Linear<'_>, work: &mut Work) {
        dispatch!(self, kernels => kernels.linear_unsummed(linear, work))
    }

    fn linear_batch(&self, linear: &Linear<'_>, works: &mut [&mut Work]) {
        dispatch!(self, kernels => kernels.linear_batch(linear, works))
    }

    fn scan(&self, task: Scan<'_>) {
        dispatch!(self, kernels => kernels.scan(task))
    }

    fn silu(&self, table: &[i16], values: &mut [i16]) {
        dispatch!(self, kernels => kernels.silu(table, values))
    }

    fn prepare(&self, layer: &Layer<'_>, work: &mut Work) {
        dispatch!(self, kernels => kernels.prepare(layer, work))
    }

    fn mix<S: LayerState>(&self, layer: &Layer<'_>, state: &mut S, work: &mut Work) {
        dispatch!(self, kernels => kernels.mix(layer, state, work))
    }

    fn accumulate(&self, width: usize, work: &mut Work) {
        dispatch!(self, kernels => kernels.accumulate(width, work))
    }
}
