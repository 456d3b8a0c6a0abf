//! What a machine must be able to do. Every implementation gives the same bytes.

use crate::math::{SCAN_SHIFT, mulhrs, requantize};
use crate::{HEAD_DIM, Layer, LayerState, Linear, Work, layer, tables};

/// One matrix-vector product: `output[r] = Σ weights[r][c] · input[c]`, exact.
#[derive(Debug)]
pub struct MatVec<'a> {
    /// `output.len()` rows of `input.len()` weights.
    pub weights: &'a [i8],
    /// One plane of activations.
    pub input: &'a [i8],
    /// By row.
    pub output: &'a mut [i32],
}

/// One frame of one head's recurrence.
#[derive(Debug)]
pub struct Scan<'a> {
    /// `[b.len() / 2][HEAD_DIM][2]`.
    pub state: &'a mut [i16],
    /// What the state is multiplied by, Q15, not negative.
    pub decay: i16,
    /// The input times its time step, in the state's scale; never -32,768.
    pub dtx: &'a [i16; HEAD_DIM],
    /// B, Q11; never -32,768.
    pub b: &'a [i16],
    /// C, Q11; never -32,768.
    pub c: &'a [i16],
    /// Σ over the state of `state · c`, each pair shifted right by [`SCAN_SHIFT`].
    pub y: &'a mut [i32; HEAD_DIM],
}

/// The operations of a step. The methods' own bodies are the reference in plain Rust; an
/// implementation overrides what its machine does faster, never what it means.
pub trait Kernels {
    /// One plane through one matrix.
    fn matvec(&self, task: MatVec<'_>) {
        for (row, output) in task.weights.chunks_exact(task.input.len()).zip(task.output) {
            let product = |(weight, input): (&i8, &i8)| i32::from(*weight) * i32::from(*input);
            *output = row.iter().zip(task.input).map(product).sum();
        }
    }

    /// Both planes of `work` through one matrix, requantized into `work.projected`.
    fn linear(&self, linear: &Linear<'_>, work: &mut Work) {
        self.linear_unsummed(linear, work);
    }

    /// [`Kernels::linear`] without a look at `linear.row_sums`, which nobody may have checked. Leaves the
    /// low plane's products in `work.spare`.
    fn linear_unsummed(&self, linear: &Linear<'_>, work: &mut Work) {
        let weights = linear.weights;
        let high = &mut work.projected[..linear.rows()];
        let low = &mut work.spare[..linear.rows()];
        self.matvec(MatVec {
            weights,
            input: &work.high[..linear.columns],
            output: high,
        });
        self.matvec(MatVec {
            weights,
            input: &work.low[..linear.columns],
            output: low,
        });
        for ((high, low), multiplier) in high.iter_mut().zip(low).zip(linear.multipliers) {
            *high = requantize(*high, *low, *multiplier, linear.shift);
        }
    }

    /// [`Kernels::linear`] for many sessions over one pass of the weights.
    fn linear_batch(&self, linear: &Linear<'_>, works: &mut [&mut Work]) {
        for work in works {
            self.linear(linear, work);
        }
    }

    /// One frame of one head.
    fn scan(&self, task: Scan<'_>) {
        task.y.fill(0);
        let pairs = task.b.chunks_exact(2).zip(task.c.chunks_exact(2));
        for (state, (b, c)) in task.state.chunks_exact_mut(2 * HEAD_DIM).zip(pairs) {
            for ((state, dtx), y) in state.chunks_exact_mut(2).zip(task.dtx).zip(&mut *task.y) {
                let mut sum = 0;
                for n in 0..2 {
                    state[n] = mulhrs(state[n], task.decay).saturating_add(mulhrs(*dtx, b[n]));
                    sum += i32::from(state[n]) * i32::from(c[n]);
                }
                *y += sum >> SCAN_SHIFT;
            }
        }
    }

    /// SiLU by table, in place.
    fn silu(&self, table: &[i16], values: &mut [i16]) {
        for value in values {
            *value = tables::silu(table, *value);
        }
    }

    /// Normalises the residual into the planes that `in_proj` reads.
    fn prepare(&self, layer: &Layer<'_>, work: &mut Work) {
        layer::prepare(layer, work);
    }

    /// Everything between a block's two matrices.
    fn mix<S: LayerState>(&self, layer: &Layer<'_>, state: &mut S, work: &mut Work)
    where
        Self: Sized,
    {
        layer::mix(self, layer, state, work);
    }

    /// Adds what `out_proj` gave to the residual.
    fn accumulate(&self, width: usize, work: &mut Work) {
        layer::accumulate(width, work);
    }

    /// SHA-256 of the parts one after the other.
    fn sha256(&self, parts: &[&[u8]]) -> [u8; 32] {
        use sha2::{Digest, Sha256};
        let mut hash = Sha256::new();
        for part in parts {
            hash.update(part);
        }
        hash.finalize().into()
    }
}

/// The reference: plain Rust on any machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct Scalar;

impl Kernels for Scalar {}
