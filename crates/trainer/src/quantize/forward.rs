//! One frame of a checkpoint in f32: the plain recurrence, and what its numbers reach.

use super::weights::{Block, Matrix, Weights};
use worldline_abi::{InputBuffer, SessionState};
use worldline_cartridge::encode_raw;
use worldline_cartridge::plan::{MAX_INPUTS, ONE, Plan};
use worldline_mamba2::{CONV_TAPS, Dims, HEAD_DIM};

const EPSILON: f32 = 1e-5;
/// What the sums of a product are spread over, so that they are computed side by side.
const LANES: usize = 16;

/// The largest magnitudes that a block's numbers have reached.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Reach {
    /// x, B and C before the convolution, by channel.
    pub(super) channels: Vec<f32>,
    /// The recurrent state, by head.
    pub(super) state: Vec<f32>,
    /// dt·x, by head.
    pub(super) dtx: Vec<f32>,
    /// The heads' output, D·x included.
    pub(super) output: f32,
}

impl Reach {
    fn new(dims: Dims) -> Self {
        let zeros = |len| vec![0.0; len];
        let heads = dims.heads();
        Self {
            channels: zeros(dims.conv_dim()),
            state: zeros(heads),
            dtx: zeros(heads),
            output: 0.0,
        }
    }
}

fn raise(most: &mut f32, value: f32) {
    *most = most.max(value.abs());
}

/// A network in a match.
pub(super) struct Forward<'a> {
    weights: &'a Weights,
    /// `[layer]`: the last three inputs, oldest first, then S as `[channel of x][n]`.
    memory: Vec<(Vec<f32>, Vec<f32>)>,
    /// By layer, over all frames so far.
    pub(super) reach: Vec<Reach>,
}

impl<'a> Forward<'a> {
    pub(super) fn new(weights: &'a Weights) -> Self {
        let reach = weights
            .blocks
            .iter()
            .map(|_| Reach::new(weights.dims))
            .collect();
        let mut forward = Self {
            weights,
            memory: Vec::new(),
            reach,
        };
        forward.restart();
        forward
    }

    /// Forgets the match, but not what was reached.
    pub(super) fn restart(&mut self) {
        let dims = self.weights.dims;
        let fresh = || {
            (
                vec![0.0; dims.conv_state()],
                vec![0.0; dims.d_inner() * dims.d_state],
            )
        };
        self.memory = self.weights.blocks.iter().map(|_| fresh()).collect();
    }

    /// The head outputs of a frame, in training units.
    pub(super) fn frame(
        &mut self,
        plan: &Plan<'_>,
        state: &SessionState,
        inputs: &InputBuffer,
    ) -> Vec<f32> {
        let weights = self.weights;
        let mut h = product(&weights.input, &input_vector(weights, plan, state, inputs));
        for ((block, memory), reach) in weights
            .blocks
            .iter()
            .zip(&mut self.memory)
            .zip(&mut self.reach)
        {
            let update = block_step(
                block,
                weights.dims,
                &normalize(&h, &block.norm),
                memory,
                reach,
            );
            h.iter_mut().zip(update).for_each(|(h, u)| *h += u);
        }
        let mut outputs = product(&weights.head, &normalize(&h, &weights.norm));
        outputs
            .iter_mut()
            .zip(&weights.head_bias)
            .for_each(|(v, b)| *v += b);
        outputs
    }
}

fn input_vector(
    weights: &Weights,
    plan: &Plan<'_>,
    state: &SessionState,
    inputs: &InputBuffer,
) -> Vec<f32> {
    let features = weights.schema.features();
    let mut raw = vec![0; weights.input.columns];
    let mut rows = [0; 3 * MAX_INPUTS];
    let count = encode_raw(plan, state, inputs, &mut raw, &mut rows);
    let mut vector: Vec<f32> = raw.iter().map(|v| f32::from(*v) / f32::from(ONE)).collect();
    let embedded = features.iter().filter_map(|f| Some((f.position, f.table?)));
    for ((position, table), row) in embedded.zip(&rows[..count]) {
        let table = &plan.tables[table];
        let width = usize::from(table.width);
        let first = table.first as usize + usize::from(*row) * width;
        vector[position..position + width]
            .copy_from_slice(&weights.embeddings[first..first + width]);
    }
    vector
}

fn block_step(
    block: &Block,
    dims: Dims,
    n: &[f32],
    (conv, memory): &mut (Vec<f32>, Vec<f32>),
    reach: &mut Reach,
) -> Vec<f32> {
    let (inner, channels) = (dims.d_inner(), dims.conv_dim());
    let projected = product(&block.in_proj, n);
    let (z, rest) = projected.split_at(inner);
    let (raw, raw_dt) = rest.split_at(channels);
    let mut u = vec![0.0; channels];
    for (c, u) in u.iter_mut().enumerate() {
        raise(&mut reach.channels[c], raw[c]);
        let window = [conv[c], conv[channels + c], conv[2 * channels + c], raw[c]];
        let taps = &block.taps[c * CONV_TAPS..][..CONV_TAPS];
        let sum: f32 = taps.iter().zip(window).map(|(t, v)| t * v).sum();
        *u = silu(sum + block.conv_bias[c]);
        (conv[c], conv[channels + c], conv[2 * channels + c]) = (window[1], window[2], window[3]);
    }
    let (x, bc) = u.split_at(inner);
    let (b, c) = bc.split_at(dims.d_state);
    let mut gated = vec![0.0; inner];
    for (i, gated) in gated.iter_mut().enumerate() {
        let head = i / HEAD_DIM;
        let dt = softplus(raw_dt[head] + block.dt_bias[head]);
        let decay = (-dt * block.a_log[head].exp()).exp();
        raise(&mut reach.dtx[head], dt * x[i]);
        let mut y = block.skip[head] * x[i];
        let state = &mut memory[i * dims.d_state..][..dims.d_state];
        for ((s, b), c) in state.iter_mut().zip(b).zip(c) {
            *s = *s * decay + dt * x[i] * b;
            raise(&mut reach.state[head], *s);
            y += *s * c;
        }
        raise(&mut reach.output, y);
        *gated = y * silu(z[i]);
    }
    product(&block.out_proj, &normalize(&gated, &block.gated_norm))
}

fn normalize(values: &[f32], weight: &[f32]) -> Vec<f32> {
    let mean = dot(values, values) / values.len() as f32;
    let scale = 1.0 / (mean + EPSILON).sqrt();
    values
        .iter()
        .zip(weight)
        .map(|(v, w)| v * scale * w)
        .collect()
}

fn product(matrix: &Matrix, vector: &[f32]) -> Vec<f32> {
    matrix.rows().map(|row| dot(row, vector)).collect()
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0; LANES];
    let (a, a_rest) = a.as_chunks::<LANES>();
    let (b, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a.iter().zip(b) {
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += a * b;
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

fn silu(x: f32) -> f32 {
    x / (1.0 + (-x).exp())
}

fn softplus(x: f32) -> f32 {
    if x > 20.0 { x } else { x.exp().ln_1p() }
}
