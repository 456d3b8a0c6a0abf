//! The three matrix products of a linear layer, in bf16 with f32 sums on the
//! matrix unit (AMX) where the processor has one, else in f32 by the `matrixmultiply` crate.
//!
//! All matrices are row-major. Rows and columns are multiples of [`BLOCK`]:
//! parameters are stored padded with zeros, so no edge needs code of its own.

/// Every dimension handed to a product is a multiple of this.
pub const BLOCK: usize = 32;

/// Rounds a dimension up to a multiple of [`BLOCK`].
pub const fn padded(n: usize) -> usize {
    n.div_ceil(BLOCK) * BLOCK
}

/// Which arithmetic the products use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arithmetic {
    /// bf16 factors, f32 sums, on the matrix unit.
    Bf16Amx,
    /// f32 throughout.
    F32,
}

/// Scratch space of one thread; keeps its capacity from call to call.
pub struct Gemm {
    arithmetic: Arithmetic,
    #[cfg(target_arch = "x86_64")]
    left: Vec<amx::Tile>,
    #[cfg(target_arch = "x86_64")]
    right: Vec<amx::Tile>,
}

impl Gemm {
    /// Prepares the calling thread; falls back to [`Arithmetic::F32`] where the
    /// matrix unit is absent.
    pub fn new(wanted: Arithmetic) -> Self {
        #[cfg(target_arch = "x86_64")]
        let arithmetic = match wanted {
            Arithmetic::Bf16Amx if amx::prepare_thread() => Arithmetic::Bf16Amx,
            _ => Arithmetic::F32,
        };
        #[cfg(not(target_arch = "x86_64"))]
        let arithmetic = {
            let _ = wanted;
            Arithmetic::F32
        };
        Self {
            arithmetic,
            #[cfg(target_arch = "x86_64")]
            left: Vec::new(),
            #[cfg(target_arch = "x86_64")]
            right: Vec::new(),
        }
    }

    /// Readies the calling thread, where it is not the one that called [`Gemm::new`].
    pub fn enter(&self) {
        #[cfg(target_arch = "x86_64")]
        if self.arithmetic == Arithmetic::Bf16Amx {
            assert!(
                amx::prepare_thread(),
                "the matrix unit was there when the trainer started"
            );
        }
    }

    /// The arithmetic in use.
    pub fn arithmetic(&self) -> Arithmetic {
        self.arithmetic
    }

    /// `y[m,n] = x[m,k] · w[n,k]ᵀ`: the forward product.
    pub fn forward(
        &mut self,
        x: &[f32],
        w: &[f32],
        y: &mut [f32],
        (m, n, k): (usize, usize, usize),
    ) {
        assert!(x.len() == m * k && w.len() == n * k && y.len() == m * n);
        #[cfg(target_arch = "x86_64")]
        if self.arithmetic == Arithmetic::Bf16Amx {
            amx::pack_rows(&mut self.left, x, m, k);
            amx::pack_pairs_transposed(&mut self.right, w, n, k);
            return amx::multiply(&self.left, &self.right, y, (m, n, k), false);
        }
        portable(y, false, (m, n, k), (x, 1, k), (w, k, 1));
    }

    /// `dx[m,k] = dy[m,n] · w[n,k]`: the gradient of the input.
    pub fn input_gradient(
        &mut self,
        dy: &[f32],
        w: &[f32],
        dx: &mut [f32],
        (m, n, k): (usize, usize, usize),
    ) {
        assert!(dy.len() == m * n && w.len() == n * k && dx.len() == m * k);
        #[cfg(target_arch = "x86_64")]
        if self.arithmetic == Arithmetic::Bf16Amx {
            amx::pack_rows(&mut self.left, dy, m, n);
            amx::pack_pairs(&mut self.right, w, n, k);
            return amx::multiply(&self.left, &self.right, dx, (m, k, n), false);
        }
        portable(dx, false, (m, k, n), (dy, 1, n), (w, 1, k));
    }

    /// `dw[n,k] += dy[m,n]ᵀ · x[m,k]`: the gradient of the weights, added up.
    pub fn weight_gradient(
        &mut self,
        dy: &[f32],
        x: &[f32],
        dw: &mut [f32],
        (m, n, k): (usize, usize, usize),
    ) {
        assert!(dy.len() == m * n && x.len() == m * k && dw.len() == n * k);
        #[cfg(target_arch = "x86_64")]
        if self.arithmetic == Arithmetic::Bf16Amx {
            amx::pack_rows_transposed(&mut self.left, dy, m, n);
            amx::pack_pairs(&mut self.right, x, m, k);
            return amx::multiply(&self.left, &self.right, dw, (n, k, m), true);
        }
        portable(dw, true, (n, k, m), (dy, n, 1), (x, 1, k));
    }
}

/// `c[m,n] (+)= a[m,k] · b[k,n]`, factors as (data, column stride, row stride).
#[allow(unsafe_code)]
fn portable(
    c: &mut [f32],
    add: bool,
    (m, n, k): (usize, usize, usize),
    (a, a_cs, a_rs): (&[f32], usize, usize),
    (b, b_cs, b_rs): (&[f32], usize, usize),
) {
    let stride = |s: usize| s as isize;
    // SAFETY: the callers assert that the slices hold m·k, k·n and m·n values,
    // and the strides given address exactly those.
    unsafe {
        matrixmultiply::sgemm(
            m,
            k,
            n,
            1.0,
            a.as_ptr(),
            stride(a_rs),
            stride(a_cs),
            b.as_ptr(),
            stride(b_rs),
            stride(b_cs),
            if add { 1.0 } else { 0.0 },
            c.as_mut_ptr(),
            stride(n),
            1,
        );
    }
}

/// Intel's matrix unit. A tile is 16 rows of 64 bytes; products take bf16 pairs
/// (Intel 64 and IA-32 manual, volume 2, `TDPBF16PS`).
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod amx {
    use std::arch::asm;
    use std::arch::x86_64::*;

    const LANES: usize = 16;
    const DEPTH: usize = 32;

    /// 16 × 16 pairs of bf16, one u32 a pair, in the order a tile register holds them.
    #[derive(Clone, Copy)]
    #[repr(C, align(64))]
    pub(super) struct Tile([[u32; LANES]; LANES]);

    const ZERO: Tile = Tile([[0; LANES]; LANES]);

    /// Asks the kernel for the tile registers and loads the tile shapes.
    /// False where the processor or the kernel has none.
    pub(super) fn prepare_thread() -> bool {
        const ARCH_REQ_XCOMP_PERM: u64 = 0x1023;
        const XFEATURE_XTILEDATA: u64 = 18;
        let leaf = __cpuid_count(7, 0);
        let has_tiles = leaf.edx & (1 << 22) != 0 && leaf.edx & (1 << 24) != 0;
        if !has_tiles
            || !std::is_x86_feature_detected!("avx512bf16")
            || !std::is_x86_feature_detected!("avx512bw")
        {
            return false;
        }
        let refused: i64;
        // SAFETY: arch_prctl with these constants only grants this process the
        // use of tile registers; it reads and writes no memory of ours.
        unsafe {
            asm!("syscall", inlateout("rax") 158i64 => refused, in("rdi") ARCH_REQ_XCOMP_PERM,
                 in("rsi") XFEATURE_XTILEDATA, out("rcx") _, out("r11") _);
        }
        if refused != 0 {
            return false;
        }
        let mut shapes = [0u8; 64];
        shapes[0] = 1; // palette
        for tile in 0..8 {
            shapes[16 + 2 * tile] = 64; // bytes a row
            shapes[48 + tile] = 16; // rows
        }
        // SAFETY: the configuration is 64 readable bytes, valid for palette 1.
        unsafe { asm!("ldtilecfg [{0}]", in(reg) shapes.as_ptr(), options(nostack)) };
        true
    }

    fn resize(tiles: &mut Vec<Tile>, n: usize) {
        tiles.resize(n, ZERO);
    }

    /// Left factor `a[m,k]`: tiles of 16 rows × 32 columns, by row block, then column block.
    pub(super) fn pack_rows(out: &mut Vec<Tile>, a: &[f32], m: usize, k: usize) {
        resize(out, m / LANES * (k / DEPTH));
        // SAFETY: prepare_thread saw avx512bf16 before any packing is reached.
        unsafe { fill_rows(out, a, k) }
    }

    /// Right factor `w[n,k]ᵀ`: tiles of 16 pairs along k × 16 columns n, by column block, then k block.
    pub(super) fn pack_pairs_transposed(out: &mut Vec<Tile>, w: &[f32], n: usize, k: usize) {
        pack_rows(out, w, n, k);
        // SAFETY: as above.
        unsafe { transpose_all(out) }
    }

    /// Right factor `b[k,n]`: pairs of rows interleaved; by column block, then k block.
    pub(super) fn pack_pairs(out: &mut Vec<Tile>, b: &[f32], k: usize, n: usize) {
        resize(out, k / DEPTH * (n / LANES));
        // SAFETY: as above.
        unsafe { fill_pairs(out, b, k, n) }
    }

    /// Left factor `a[k,m]ᵀ`: tiles of 16 rows m × 32 columns k.
    pub(super) fn pack_rows_transposed(out: &mut Vec<Tile>, a: &[f32], k: usize, m: usize) {
        pack_pairs(out, a, k, m);
        // SAFETY: as above.
        unsafe { transpose_all(out) }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn fill_rows(out: &mut [Tile], a: &[f32], k: usize) {
        let blocks = k / DEPTH;
        for (index, tile) in out.iter_mut().enumerate() {
            let (block, depth) = (index / blocks, index % blocks);
            for (r, row) in tile.0.iter_mut().enumerate() {
                let from = &a[(block * LANES + r) * k + depth * DEPTH..][..DEPTH];
                // SAFETY: `from` holds 32 floats, `row` 64 bytes.
                unsafe {
                    let (low, high) = (
                        _mm512_loadu_ps(from.as_ptr()),
                        _mm512_loadu_ps(from.as_ptr().add(16)),
                    );
                    let packed: __m512i = std::mem::transmute(_mm512_cvtne2ps_pbh(high, low));
                    _mm512_storeu_si512(row.as_mut_ptr().cast(), packed);
                }
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn fill_pairs(out: &mut [Tile], b: &[f32], k: usize, n: usize) {
        let depths = k / DEPTH;
        let order: [u16; 32] = std::array::from_fn(|i| (i / 2 + 16 * (i % 2)) as u16);
        for (index, tile) in out.iter_mut().enumerate() {
            let (block, depth) = (index / depths, index % depths);
            for (pair, row) in tile.0.iter_mut().enumerate() {
                let at = (depth * DEPTH + 2 * pair) * n + block * LANES;
                let (even, odd) = (&b[at..at + LANES], &b[at + n..at + n + LANES]);
                // SAFETY: both hold 16 floats, `order` and `row` 64 bytes.
                unsafe {
                    let both = _mm512_cvtne2ps_pbh(
                        _mm512_loadu_ps(odd.as_ptr()),
                        _mm512_loadu_ps(even.as_ptr()),
                    );
                    let interleave = _mm512_loadu_si512(order.as_ptr().cast());
                    let packed = _mm512_permutexvar_epi16(
                        interleave,
                        std::mem::transmute::<__m512bh, __m512i>(both),
                    );
                    _mm512_storeu_si512(row.as_mut_ptr().cast(), packed);
                }
            }
        }
    }

    /// Transposes the 16 × 16 pairs of each tile: eight butterfly stages, two a distance.
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn transpose_all(tiles: &mut [Tile]) {
        for tile in tiles {
            // SAFETY: a tile is 16 rows of 64 bytes.
            unsafe {
                let rows = tile.0.as_mut_ptr();
                let mut r: [__m512i; 16] =
                    std::array::from_fn(|i| _mm512_load_si512(rows.add(i).cast()));
                let mut t = r;
                for i in 0..8 {
                    t[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
                    t[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
                }
                for i in 0..4 {
                    r[4 * i] = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
                    r[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
                    r[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
                    r[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
                }
                for i in 0..4 {
                    t[i] = _mm512_shuffle_i32x4::<0x88>(r[i], r[4 + i]);
                    t[4 + i] = _mm512_shuffle_i32x4::<0xdd>(r[i], r[4 + i]);
                    t[8 + i] = _mm512_shuffle_i32x4::<0x88>(r[8 + i], r[12 + i]);
                    t[12 + i] = _mm512_shuffle_i32x4::<0xdd>(r[8 + i], r[12 + i]);
                }
                for i in 0..4 {
                    r[i] = _mm512_shuffle_i32x4::<0x88>(t[i], t[8 + i]);
                    r[8 + i] = _mm512_shuffle_i32x4::<0xdd>(t[i], t[8 + i]);
                    r[4 + i] = _mm512_shuffle_i32x4::<0x88>(t[4 + i], t[12 + i]);
                    r[12 + i] = _mm512_shuffle_i32x4::<0xdd>(t[4 + i], t[12 + i]);
                }
                for (i, row) in r.iter().enumerate() {
                    _mm512_store_si512(rows.add(i).cast(), *row);
                }
            }
        }
    }

    /// `c[m,n] (+)= left · right` over packed factors, 32 × 32 of `c` at a time.
    pub(super) fn multiply(
        left: &[Tile],
        right: &[Tile],
        c: &mut [f32],
        (m, n, k): (usize, usize, usize),
        add: bool,
    ) {
        let depths = k / DEPTH;
        assert!(m % 32 == 0 && n % 32 == 0 && k % DEPTH == 0 && depths > 0);
        assert!(
            left.len() == m / LANES * depths
                && right.len() == n / LANES * depths
                && c.len() == m * n
        );
        for column in (0..n / LANES).step_by(2) {
            for row in (0..m / LANES).step_by(2) {
                let (a0, a1) = (&left[row * depths..], &left[(row + 1) * depths..]);
                let (b0, b1) = (&right[column * depths..], &right[(column + 1) * depths..]);
                let c = &mut c[row * LANES * n + column * LANES..];
                // SAFETY: prepare_thread loaded the tile shapes; each factor slice
                // holds `depths` tiles; the four tiles of c lie at rows 0 and 16,
                // columns 0 and 16 of a block inside c (asserted above).
                unsafe {
                    asm!(
                        "test {add}, {add}",
                        "jz 3f",
                        "tileloadd tmm0, [{c} + {ld}]",
                        "tileloadd tmm1, [{c} + {ld} + 64]",
                        "tileloadd tmm2, [{d} + {ld}]",
                        "tileloadd tmm3, [{d} + {ld} + 64]",
                        "jmp 2f",
                        "3:",
                        "tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3",
                        "2:",
                        "tileloadd tmm4, [{a0} + {s}]",
                        "tileloadd tmm6, [{b0} + {s}]",
                        "tdpbf16ps tmm0, tmm4, tmm6",
                        "tileloadd tmm7, [{b1} + {s}]",
                        "tdpbf16ps tmm1, tmm4, tmm7",
                        "tileloadd tmm5, [{a1} + {s}]",
                        "tdpbf16ps tmm2, tmm5, tmm6",
                        "tdpbf16ps tmm3, tmm5, tmm7",
                        "add {a0}, 1024", "add {a1}, 1024", "add {b0}, 1024", "add {b1}, 1024",
                        "dec {k}",
                        "jnz 2b",
                        "tilestored [{c} + {ld}], tmm0",
                        "tilestored [{c} + {ld} + 64], tmm1",
                        "tilestored [{d} + {ld}], tmm2",
                        "tilestored [{d} + {ld} + 64], tmm3",
                        c = in(reg) c.as_mut_ptr(),
                        d = in(reg) c.as_mut_ptr().wrapping_add(LANES * n),
                        ld = in(reg) n * 4,
                        s = in(reg) 64usize,
                        add = in(reg) usize::from(add),
                        a0 = inout(reg) a0.as_ptr() => _,
                        a1 = inout(reg) a1.as_ptr() => _,
                        b0 = inout(reg) b0.as_ptr() => _,
                        b1 = inout(reg) b1.as_ptr() => _,
                        k = inout(reg) depths => _,
                        out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                        out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                        options(nostack),
                    );
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(n: usize, seed: u64) -> Vec<f32> {
        let mut s = seed;
        (0..n)
            .map(|_| {
                s = s
                    .wrapping_mul(6364136223846793005)
                    .wrapping_add(1442695040888963407);
                ((s >> 40) as f32 / (1u64 << 24) as f32) - 0.5
            })
            .collect()
    }

    fn product(
        m: usize,
        n: usize,
        k: usize,
        a: impl Fn(usize, usize) -> f32,
        b: impl Fn(usize, usize) -> f32,
    ) -> Vec<f32> {
        (0..m * n)
            .map(|i| (0..k).map(|j| a(i / n, j) * b(j, i % n)).sum())
            .collect()
    }

    fn close(a: &[f32], b: &[f32], tolerance: f32) {
        for (i, (x, y)) in a.iter().zip(b).enumerate() {
            assert!((x - y).abs() < tolerance, "element {i}: {x} against {y}");
        }
    }

    #[test]
    fn products_agree_with_plain_sums() {
        let (m, n, k) = (64, 96, 160);
        let (x, w, dy) = (noise(m * k, 1), noise(n * k, 2), noise(m * n, 3));
        for (wanted, tolerance) in [(Arithmetic::F32, 1e-4), (Arithmetic::Bf16Amx, 0.05)] {
            let mut g = Gemm::new(wanted);
            let mut y = vec![9.0; m * n];
            g.forward(&x, &w, &mut y, (m, n, k));
            close(
                &y,
                &product(m, n, k, |i, j| x[i * k + j], |j, i| w[i * k + j]),
                tolerance,
            );
            let mut dx = vec![9.0; m * k];
            g.input_gradient(&dy, &w, &mut dx, (m, n, k));
            close(
                &dx,
                &product(m, k, n, |i, j| dy[i * n + j], |j, i| w[j * k + i]),
                tolerance,
            );
            let mut dw = vec![1.0; n * k];
            g.weight_gradient(&dy, &x, &mut dw, (m, n, k));
            let expected: Vec<f32> = product(n, k, m, |i, j| dy[j * n + i], |j, i| x[j * k + i])
                .iter()
                .map(|v| v + 1.0)
                .collect();
            close(&dw, &expected, tolerance);
        }
    }

    /// Not a pass mark, a figure: `cargo test -r -p worldline-trainer -- --ignored --nocapture speed`.
    #[test]
    #[ignore = "prints a speed"]
    fn speed() {
        let (m, n, k) = (512, 1088, 256);
        let (x, w) = (noise(m * k, 1), noise(n * k, 2));
        for wanted in [Arithmetic::F32, Arithmetic::Bf16Amx] {
            let mut g = Gemm::new(wanted);
            let (mut y, mut dx, mut dw) = (vec![0.0; m * n], vec![0.0; m * k], vec![0.0; n * k]);
            for what in ["forward", "input", "weight"] {
                let start = std::time::Instant::now();
                for _ in 0..50 {
                    match what {
                        "forward" => g.forward(&x, &w, &mut y, (m, n, k)),
                        "input" => g.input_gradient(&y, &w, &mut dx, (m, n, k)),
                        _ => g.weight_gradient(&y, &x, &mut dw, (m, n, k)),
                    }
                }
                let flops = 50.0 * 2.0 * (m * n * k) as f64;
                println!(
                    "{:?} {what}: {:.0} GFLOP/s",
                    g.arithmetic(),
                    flops / start.elapsed().as_secs_f64() / 1e9
                );
            }
        }
    }
}
