//! One block, one frame.

use crate::kernels::{Kernels, Scan};
use crate::math::{DT_LIMIT, RAW_DT_BITS, round_shift, round_shift_wide, sat16, sat16_wide};
use crate::params::{CONV_TAPS, Dims, HEAD_DIM, Layer, LayerParams, Linear, Output, Tables};
use crate::tables::{exp, softplus};
use crate::{Work, norm};

/// A block's memory. Its parts are borrowed one at a time, so that they may lie in
/// different accounts. All zeros at the start of a match; any bytes are safe.
pub trait LayerState {
    /// [`Dims::conv_state`] numbers.
    fn conv(&mut self) -> &mut [i16];
    /// [`Dims::head_state`] numbers of head `index`.
    fn head(&mut self, index: usize) -> &mut [i16];
}

/// A block's memory in one slice: the convolution's, then each head's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contiguous<T> {
    dims: Dims,
    /// [`Contiguous::len`] numbers.
    numbers: T,
}

impl<T: AsRef<[i16]>> Contiguous<T> {
    /// Holds exactly [`contiguous_len`] numbers; panics if they are not as many.
    pub fn new(dims: Dims, numbers: T) -> Self {
        assert_eq!(
            numbers.as_ref().len(),
            contiguous_len(dims),
            "numbers of a block's memory"
        );
        Self { dims, numbers }
    }

    /// All numbers.
    pub fn numbers(&self) -> &[i16] {
        self.numbers.as_ref()
    }
}

/// Numbers of a block's memory.
pub const fn contiguous_len(dims: Dims) -> usize {
    dims.conv_state() + dims.heads() * dims.head_state()
}

impl<T: AsMut<[i16]>> LayerState for Contiguous<T> {
    fn conv(&mut self) -> &mut [i16] {
        &mut self.numbers.as_mut()[..self.dims.conv_state()]
    }

    fn head(&mut self, index: usize) -> &mut [i16] {
        let size = self.dims.head_state();
        &mut self.numbers.as_mut()[self.dims.conv_state() + index * size..][..size]
    }
}

/// Puts a frame's encoded inputs through the input matrix: begins a frame.
/// `inputs.len()` is the matrix's column count.
pub fn embed<K: Kernels>(kernels: &K, linear: &Linear<'_>, inputs: &[i16], work: &mut Work) {
    norm::split_planes(inputs, &mut work.high, &mut work.low);
    kernels.linear(linear, work);
    let rows = linear.rows();
    work.residual[..rows].copy_from_slice(&work.projected[..rows]);
}

/// One block: reads and adds to `work.residual`, advances `state` by one frame. `layer`
/// must have passed [`Layer::check`].
pub fn layer_step<K: Kernels, S: LayerState>(
    kernels: &K,
    layer: &Layer<'_>,
    state: &mut S,
    work: &mut Work,
) {
    kernels.prepare(layer, work);
    kernels.linear(&layer.params.in_proj, work);
    kernels.mix(layer, state, work);
    kernels.linear(&layer.params.out_proj, work);
    kernels.accumulate(layer.dims.d_model, work);
}

/// [`layer_step`] for many sessions over one pass of the weights; `states[i]` belongs to
/// `works[i]`. The same bytes as one after the other.
pub fn batch_layer_step<K: Kernels, S: LayerState>(
    kernels: &K,
    layer: &Layer<'_>,
    states: &mut [S],
    works: &mut [&mut Work],
) {
    for work in &mut *works {
        kernels.prepare(layer, work);
    }
    kernels.linear_batch(&layer.params.in_proj, works);
    for (state, work) in states.iter_mut().zip(&mut *works) {
        kernels.mix(layer, state, work);
    }
    kernels.linear_batch(&layer.params.out_proj, works);
    for work in works {
        kernels.accumulate(layer.dims.d_model, work);
    }
}

/// The output heads of the residual after the last block: ends a frame.
pub fn head<'w, K: Kernels>(
    kernels: &K,
    output: &Output<'_>,
    tables: &Tables<'_>,
    work: &'w mut Work,
) -> &'w [i32] {
    let width = output.linear.columns;
    let (high, low) = (&mut work.high[..width], &mut work.low[..width]);
    norm::normalize(&work.residual[..width], tables.rsqrt, high, low);
    kernels.linear(&output.linear, work);
    let outputs = &mut work.projected[..output.linear.rows()];
    for (value, bias) in outputs.iter_mut().zip(output.bias) {
        *value = value.saturating_add(*bias);
    }
    outputs
}

/// Normalises the residual into the planes that `in_proj` reads.
#[inline(always)]
pub(crate) fn prepare(layer: &Layer<'_>, work: &mut Work) {
    let width = layer.dims.d_model;
    let (high, low) = (&mut work.high[..width], &mut work.low[..width]);
    norm::normalize(&work.residual[..width], layer.tables.rsqrt, high, low);
}

/// Adds what `out_proj` gave to the residual.
#[inline(always)]
pub(crate) fn accumulate(width: usize, work: &mut Work) {
    for (residual, value) in work.residual[..width].iter_mut().zip(&work.projected) {
        *residual = residual.saturating_add(*value);
    }
}

/// Everything between a block's two matrices: `work.projected` to `work.high`, `work.low`.
#[inline(always)]
pub(crate) fn mix<K: Kernels, S: LayerState>(
    kernels: &K,
    layer: &Layer<'_>,
    state: &mut S,
    work: &mut Work,
) {
    let (dims, tables) = (layer.dims, &layer.tables);
    let (inner, channels) = (dims.d_inner(), dims.conv_dim());
    let (z_rows, rest) = work.projected.split_at(inner);
    let (conv_rows, dt_rows) = rest.split_at(channels);
    let (z, rest) = work.mixed.split_at_mut(inner);
    let xbc = &mut rest[..channels];
    for (z, row) in z.iter_mut().zip(z_rows) {
        *z = sat16(*row);
    }
    convolve(&layer.params, conv_rows, state.conv(), xbc);
    kernels.silu(tables.silu, &mut work.mixed[..inner + channels]);

    let (z, xbc) = work.mixed[..inner + channels].split_at(inner);
    let (x, bc) = xbc.split_at(inner);
    let (b, c) = bc.split_at(dims.d_state);
    let gated = &mut work.spare[..inner];
    let (x, z) = (x.as_chunks::<HEAD_DIM>().0, z.as_chunks::<HEAD_DIM>().0);
    let heads = x
        .iter()
        .zip(z)
        .zip(gated.as_chunks_mut::<HEAD_DIM>().0)
        .zip(dt_rows);
    for (index, (((x, z), gated), raw_dt)) in heads.enumerate() {
        let step = HeadStep::new(&layer.params, tables, index, *raw_dt);
        let mut dtx = [0; HEAD_DIM];
        step.scale_input(x, &mut dtx);
        // `gated` holds y first.
        let (state, decay) = (state.head(index), step.decay);
        kernels.scan(Scan {
            state,
            decay,
            dtx: &dtx,
            b,
            c,
            y: gated,
        });
        step.gate(x, z, gated);
    }
    let (high, low) = (&mut work.high[..inner], &mut work.low[..inner]);
    norm::normalize(gated, tables.rsqrt, high, low);
}

/// The causal convolution over the last four inputs; shifts `state` by one.
#[inline(always)]
fn convolve(params: &LayerParams<'_>, rows: &[i32], state: &mut [i16], output: &mut [i16]) {
    let channels = output.len();
    let (oldest, rest) = state.split_at_mut(channels);
    let (middle, latest) = rest.split_at_mut(channels);
    let latest = &mut latest[..channels];
    let rows = &rows[..channels];
    let taps: [&[i16]; CONV_TAPS] =
        core::array::from_fn(|tap| &params.conv_taps[tap * channels..][..channels]);
    let (shift, bias) = (
        &params.conv_shift[..channels],
        &params.conv_bias[..channels],
    );
    for i in 0..channels {
        let input = sat16(rows[i]);
        let sum = i32::from(taps[0][i]) * i32::from(oldest[i])
            + i32::from(taps[1][i]) * i32::from(middle[i])
            + i32::from(taps[2][i]) * i32::from(latest[i])
            + i32::from(taps[3][i]) * i32::from(input);
        output[i] = sat16(round_shift(sum, u32::from(shift[i])) + bias[i]);
        (oldest[i], middle[i], latest[i]) = (middle[i], latest[i], input);
    }
}

/// One head's numbers for one frame.
struct HeadStep {
    decay: i16,
    dt: i64,
    dtx_shift: u32,
    y_mul: i64,
    d_mul: i64,
    y_shift: u32,
}

impl HeadStep {
    #[inline(always)]
    fn new(params: &LayerParams<'_>, tables: &Tables<'_>, head: usize, raw_dt: i32) -> Self {
        const LIMIT: i32 = DT_LIMIT << RAW_DT_BITS;
        let raw_dt = raw_dt.clamp(-LIMIT, LIMIT) + params.dt_bias[head];
        let dt = i64::from(softplus(tables.softplus, raw_dt.clamp(-LIMIT, LIMIT)));
        Self {
            decay: exp(tables.exp, (dt * i64::from(params.a[head])) >> 16),
            dt: (dt * i64::from(params.state_mul[head])) >> 24,
            dtx_shift: u32::from(params.dtx_shift[head]),
            y_mul: i64::from(params.y_mul[head]),
            d_mul: i64::from(params.d_mul[head]),
            y_shift: u32::from(params.y_shift[head]),
        }
    }

    /// x times the time step, in the state's scale.
    #[inline(always)]
    fn scale_input(&self, x: &[i16; HEAD_DIM], dtx: &mut [i16; HEAD_DIM]) {
        for (dtx, x) in dtx.iter_mut().zip(x) {
            *dtx = sat16_wide(round_shift_wide(i64::from(*x) * self.dt, self.dtx_shift));
        }
    }

    /// The head's output, gated: `y` becomes `(y·y_mul + x·d_mul) · silu(z)`.
    #[inline(always)]
    fn gate(&self, x: &[i16; HEAD_DIM], z: &[i16; HEAD_DIM], y: &mut [i32; HEAD_DIM]) {
        for ((y, x), z) in y.iter_mut().zip(x).zip(z) {
            let sum = i64::from(*y) * self.y_mul + i64::from(*x) * self.d_mul;
            let output = sat16_wide(round_shift_wide(sum, self.y_shift));
            *y = i32::from(output) * i32::from(*z);
        }
    }
}
