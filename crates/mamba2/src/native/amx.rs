//! AMX tiles for batches, on machines that also have AVX-512 with VNNI.
//!
//! One instruction multiplies 16 rows of 64 weights with 64 inputs of 16 sessions. Weights
//! are tiles as they lie in the cartridge; inputs are transposed once per matrix, so that
//! a tile's row holds four columns of each session.
#![allow(unsafe_code)] // Vector intrinsics and tiles: each function says why its pointers hold.

use super::avx512::{Avx512, multiply, requantize, rows_batch};
use crate::{Kernels, Layer, LayerState, Linear, MatVec, Scan, Work};
use core::arch::{asm, x86_64::*};

/// Rows of a tile, and sessions of a group.
const TILE: usize = 16;
/// Bytes of a tile's row.
const ROW: usize = 64;
/// Rows of weights that are multiplied together: two tiles.
const BLOCK: usize = 2 * TILE;
/// Sessions below which the vector kernels are not slower.
const FEW: usize = 4;

/// Proof that this machine has AMX with 8-bit numbers, and that this process may use it.
#[derive(Debug, Clone, Copy)]
pub struct Amx(Avx512);

impl Amx {
    /// `None` where a feature or the system's permission is missing.
    pub(super) fn detect() -> Option<Self> {
        let vectors = Avx512::detect()?;
        let bits = __cpuid_count(7, 0).edx; // 24: tiles, 25: 8-bit products
        (bits >> 24 & 3 == 3 && request_tiles()).then_some(Self(vectors))
    }

    /// See [`super::Native::read`].
    pub(super) fn read(&self, bytes: &[i8]) -> u64 {
        self.0.read(bytes)
    }
}

impl Kernels for Amx {
    fn linear_batch(&self, linear: &Linear<'_>, works: &mut [&mut Work]) {
        if works.len() < FEW || !linear.columns.is_multiple_of(ROW) {
            return self.0.linear_batch(linear, works);
        }
        // SAFETY: a value of `Amx` exists only where the features do.
        unsafe { linear_batch(linear, works) }
    }

    fn matvec(&self, task: MatVec<'_>) {
        self.0.matvec(task)
    }

    fn linear(&self, linear: &Linear<'_>, work: &mut Work) {
        self.0.linear(linear, work)
    }

    fn linear_unsummed(&self, linear: &Linear<'_>, work: &mut Work) {
        self.0.linear_unsummed(linear, work)
    }

    fn scan(&self, task: Scan<'_>) {
        self.0.scan(task)
    }

    fn silu(&self, table: &[i16], values: &mut [i16]) {
        self.0.silu(table, values)
    }

    fn prepare(&self, layer: &Layer<'_>, work: &mut Work) {
        self.0.prepare(layer, work)
    }

    fn mix<S: LayerState>(&self, layer: &Layer<'_>, state: &mut S, work: &mut Work) {
        self.0.mix(layer, state, work)
    }

    fn accumulate(&self, width: usize, work: &mut Work) {
        self.0.accumulate(width, work)
    }
}

/// Asks the system for the tile registers; it grants them to the whole process.
fn request_tiles() -> bool {
    const ARCH_PRCTL: i64 = 158;
    const ARCH_REQ_XCOMP_PERM: i64 = 0x1023;
    const XFEATURE_XTILEDATA: i64 = 18;
    let mut result = ARCH_PRCTL;
    if cfg!(target_os = "linux") {
        // SAFETY: this call of Linux changes nothing but the permission.
        unsafe {
            asm!("syscall", inout("rax") result, in("rdi") ARCH_REQ_XCOMP_PERM,
                in("rsi") XFEATURE_XTILEDATA, lateout("rcx") _, lateout("r11") _, options(nostack));
        }
    }
    result == 0
}

/// The shape of all eight tiles: 16 rows of 64 bytes.
#[repr(C, align(64))]
struct TileConfig {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

static TILES: TileConfig = TileConfig {
    palette: 1,
    start_row: 0,
    reserved: [0; 14],
    row_bytes: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
    rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
};

/// One tile of inputs: by four columns, by session.
type InputTile = [[u32; TILE]; TILE];
/// One tile of sums: by row, by session.
type SumTile = [[i32; TILE]; TILE];

/// Up to sixteen sessions' inputs, transposed: by chunk of 64 columns, high and low.
struct Group {
    high: Vec<InputTile>,
    low: Vec<InputTile>,
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn linear_batch(linear: &Linear<'_>, works: &mut [&mut Work]) {
    let columns = linear.columns;
    let groups: Vec<Group> = works
        .chunks(TILE)
        .map(|works| Group {
            high: transpose_inputs(works, |work| &work.high[..columns]),
            low: transpose_inputs(works, |work| &work.low[..columns]),
        })
        .collect();
    let (blocks, _) = linear
        .weights
        .split_at(linear.rows() / BLOCK * BLOCK * columns);
    // SAFETY: the configuration is valid, and released below.
    unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const TILES, options(nostack, readonly)) };
    for (block, weights) in blocks.chunks_exact(BLOCK * columns).enumerate() {
        for (group, works) in groups.iter().zip(works.chunks_mut(TILE)) {
            let sums = multiply_tiles(weights, columns, group);
            for (half, [high, low]) in sums.iter().enumerate() {
                store(linear, block * BLOCK + half * TILE, high, low, works);
            }
        }
    }
    // SAFETY: gives the tiles back; nothing else uses them.
    unsafe { asm!("tilerelease", options(nomem, nostack)) };
    if !linear.rows().is_multiple_of(BLOCK) {
        rows_batch(linear, linear.rows() / BLOCK * BLOCK, works);
    }
}

/// One plane of up to sixteen sessions as tiles; sessions that are missing are zero.
#[inline]
#[target_feature(enable = "avx512f")]
fn transpose_inputs(works: &[&mut Work], plane: impl Fn(&Work) -> &[i8]) -> Vec<InputTile> {
    let chunks = plane(works[0]).len() / ROW;
    (0..chunks)
        .map(|chunk| {
            let mut rows = [_mm512_setzero_si512(); TILE];
            for (row, work) in rows.iter_mut().zip(works) {
                let bytes = plane(work)[chunk * ROW..][..ROW].as_ptr();
                // SAFETY: a register's bytes.
                *row = unsafe { _mm512_loadu_si512(bytes.cast()) };
            }
            to_tile(transpose(rows))
        })
        .collect()
}

/// 32 rows of weights times a group: sums by half, high and low.
#[inline(always)]
fn multiply_tiles(weights: &[i8], columns: usize, group: &Group) -> [[SumTile; 2]; 2] {
    let mut sums = [[[[0; TILE]; TILE]; 2]; 2];
    assert!(weights.len() == BLOCK * columns && columns > 0 && columns.is_multiple_of(ROW));
    assert!(group.high.len() * ROW == columns && group.low.len() * ROW == columns);
    // SAFETY: tiles are configured. Each pass reads 64 columns of 32 rows and one tile of
    // each plane, and there are as many of both; four tiles are written to `sums`.
    unsafe {
        asm!(
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "2:",
            "tileloadd tmm6, [{high} + {row}]",
            "tileloadd tmm4, [{first} + {columns}]",
            "tdpbssd tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{low} + {row}]",
            "tdpbssd tmm1, tmm4, tmm7",
            "tileloadd tmm5, [{second} + {columns}]",
            "tdpbssd tmm2, tmm5, tmm6",
            "tdpbssd tmm3, tmm5, tmm7",
            "add {first}, {row}",
            "add {second}, {row}",
            "add {high}, {tile}",
            "add {low}, {tile}",
            "dec {chunks}",
            "jnz 2b",
            "tilestored [{sums} + {row}], tmm0",
            "tilestored [{sums} + {row} + {tile}], tmm1",
            "tilestored [{sums} + {row} + 2 * {tile}], tmm2",
            "tilestored [{sums} + {row} + 3 * {tile}], tmm3",
            first = inout(reg) weights.as_ptr() => _,
            second = inout(reg) weights[TILE * columns..].as_ptr() => _,
            high = inout(reg) group.high.as_ptr() => _,
            low = inout(reg) group.low.as_ptr() => _,
            chunks = inout(reg) columns / ROW => _,
            columns = in(reg) columns,
            row = in(reg) ROW,
            tile = const size_of::<SumTile>(),
            sums = in(reg) sums.as_mut_ptr(),
            options(nostack),
        );
    }
    sums
}

/// Requantizes a tile of sums and gives each session its sixteen outputs.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
fn store(
    linear: &Linear<'_>,
    first: usize,
    high: &SumTile,
    low: &SumTile,
    works: &mut [&mut Work],
) {
    let mut rows = [_mm512_setzero_si512(); TILE];
    let multipliers = &linear.multipliers[first..][..TILE];
    for (index, (row, multiplier)) in rows.iter_mut().zip(multipliers).enumerate() {
        let multiplier = _mm512_set1_epi32(*multiplier);
        let high = multiply(from_array(high[index]), multiplier);
        let low = multiply(from_array(low[index]), multiplier);
        let sum = |half: usize| _mm512_add_epi64(_mm512_slli_epi64::<8>(high[half]), low[half]);
        *row = requantize([sum(0), sum(1)], linear.shift);
    }
    for (work, outputs) in works.iter_mut().zip(to_tile(transpose(rows))) {
        work.projected[first..][..TILE].copy_from_slice(&outputs.map(u32::cast_signed));
    }
}

/// Sixteen rows of sixteen 32-bit numbers to their columns.
#[inline]
#[target_feature(enable = "avx512f")]
fn transpose(rows: [__m512i; TILE]) -> [__m512i; TILE] {
    let mut pairs = rows;
    for i in (0..TILE).step_by(2) {
        pairs[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
        pairs[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
    }
    let mut quads = pairs;
    for i in (0..TILE).step_by(4) {
        for j in 0..2 {
            let (low, high) = (pairs[i + j], pairs[i + j + 2]);
            quads[i + 2 * j] = _mm512_unpacklo_epi64(low, high);
            quads[i + 2 * j + 1] = _mm512_unpackhi_epi64(low, high);
        }
    }
    // `quads[4·i + j]` holds, in its 128-bit lane k, column 4·k + j of rows 4·i to 4·i + 3.
    let mut columns = quads;
    for j in 0..4 {
        let [a, b, c, d] = [quads[j], quads[j + 4], quads[j + 8], quads[j + 12]];
        let even = [
            _mm512_shuffle_i32x4::<0x88>(a, b),
            _mm512_shuffle_i32x4::<0x88>(c, d),
        ];
        let odd = [
            _mm512_shuffle_i32x4::<0xdd>(a, b),
            _mm512_shuffle_i32x4::<0xdd>(c, d),
        ];
        columns[j] = _mm512_shuffle_i32x4::<0x88>(even[0], even[1]);
        columns[j + 4] = _mm512_shuffle_i32x4::<0x88>(odd[0], odd[1]);
        columns[j + 8] = _mm512_shuffle_i32x4::<0xdd>(even[0], even[1]);
        columns[j + 12] = _mm512_shuffle_i32x4::<0xdd>(odd[0], odd[1]);
    }
    columns
}

#[inline(always)]
fn to_tile(rows: [__m512i; TILE]) -> InputTile {
    // SAFETY: both are 1,024 plain bytes.
    unsafe { core::mem::transmute(rows) }
}

#[inline(always)]
fn from_array(numbers: [i32; TILE]) -> __m512i {
    // SAFETY: both are 64 plain bytes.
    unsafe { core::mem::transmute(numbers) }
}
