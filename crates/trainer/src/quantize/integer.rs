//! Floats to integers: scales, multipliers, shifts.

use super::forward::Reach;
use super::weights::{Block, Matrix, Weights};
use worldline_cartridge::LOGIT_BITS;
use worldline_cartridge::plan::ONE;
use worldline_cartridge::schema::{HeadKind, Scale};
use worldline_mamba2::math::{
    ACTIVATION_BITS, DT_LIMIT, NORMAL_BITS, RAW_DT_BITS, RESIDUAL_BITS, SCAN_SHIFT,
};
use worldline_mamba2::{
    CONV_TAPS, Dims, LayerParams, Linear, MAX_MULTIPLIER, MAX_SHIFT, MAX_TAP, Output,
};

/// How much further than in calibration numbers may reach before they saturate.
const HEADROOM: f64 = 1.5;
/// The largest i16 that saturating arithmetic leaves.
const I16_MAX: f64 = 32_767.0;
/// The smallest reach that a scale is made for: what never moved gets this scale.
const LEAST_REACH: f64 = 1e-3;
/// The largest shift of a tap's sum.
const MAX_TAP_SHIFT: u32 = 29;

/// An i8 matrix with its scales.
#[derive(Debug, Clone)]
pub(super) struct QuantizedMatrix {
    weights: Vec<i8>,
    row_sums: Vec<i32>,
    multipliers: Vec<i32>,
    columns: usize,
    shift: u32,
}

impl QuantizedMatrix {
    /// Symmetric per row. `fold` multiplies the columns, `input_one` is 1.0 of an input, and `units` is
    /// 1.0 of each row's output.
    fn new(matrix: &Matrix, fold: Option<&[f32]>, input_one: f64, units: &[f64]) -> Self {
        let mut weights = Vec::with_capacity(matrix.values.len());
        let mut factors = Vec::with_capacity(units.len());
        for (row, unit) in matrix.rows().zip(units) {
            let folded: Vec<f32> = match fold {
                Some(fold) => row.iter().zip(fold).map(|(w, f)| w * f).collect(),
                None => row.to_vec(),
            };
            let most = folded.iter().fold(0.0f32, |most, w| most.max(w.abs()));
            let scale = if most > 0.0 { most / 127.0 } else { 1.0 };
            weights.extend(folded.iter().map(|w| (w / scale).round() as i8));
            factors.push(f64::from(scale) * unit / input_one);
        }
        let row_sums = weights.chunks_exact(matrix.columns);
        let row_sums = row_sums
            .map(|row| row.iter().map(|w| i32::from(*w)).sum())
            .collect();
        let (multipliers, shift) = fixed_point(&factors);
        Self {
            weights,
            row_sums,
            multipliers,
            columns: matrix.columns,
            shift,
        }
    }

    pub(super) fn borrow(&self) -> Linear<'_> {
        Linear {
            weights: &self.weights,
            row_sums: &self.row_sums,
            multipliers: &self.multipliers,
            columns: self.columns,
            shift: self.shift,
        }
    }
}

/// Multipliers below [`MAX_MULTIPLIER`] and one shift: `factor = multiplier / 2^shift`, as fine as the
/// largest factor allows.
fn fixed_point(factors: &[f64]) -> (Vec<i32>, u32) {
    let most = factors
        .iter()
        .fold(f64::MIN_POSITIVE, |most, f| most.max(f.abs()));
    let limit = f64::from(MAX_MULTIPLIER - 1);
    let fits = |shift: &u32| most * (*shift as f64).exp2() <= limit;
    let shift = (0..=MAX_SHIFT).rev().find(fits).unwrap_or(0);
    let fixed = |f: &f64| (f * f64::from(shift).exp2()).round().clamp(-limit, limit) as i32;
    (factors.iter().map(fixed).collect(), shift)
}

/// A block in integers.
#[derive(Debug, Clone)]
pub(super) struct QuantizedBlock {
    in_proj: QuantizedMatrix,
    conv_taps: Vec<i16>,
    conv_shift: Vec<u8>,
    conv_bias: Vec<i32>,
    dt_bias: Vec<i32>,
    a: Vec<i32>,
    state_mul: Vec<i32>,
    dtx_shift: Vec<u8>,
    y_mul: Vec<i32>,
    d_mul: Vec<i32>,
    y_shift: Vec<u8>,
    out_proj: QuantizedMatrix,
}

impl QuantizedBlock {
    pub(super) fn new(block: &Block, dims: Dims, reach: &Reach) -> Self {
        let one = f64::from(1u32 << ACTIVATION_BITS);
        let normal = f64::from(1u32 << NORMAL_BITS);
        // 1.0 of x, B and C before the convolution.
        let channel_units: Vec<f64> = reach.channels.iter().map(|most| unit_for(*most)).collect();
        let mut units = vec![one; dims.d_inner()];
        units.extend(&channel_units);
        units.resize(dims.in_rows(), f64::from(1u32 << RAW_DT_BITS));
        let residual = vec![f64::from(1u32 << RESIDUAL_BITS); dims.d_model];
        let (conv_taps, conv_shift) = taps(&block.taps, &channel_units);
        let heads = Heads::new(block, reach);
        let fixed = |values: &[f32], one: f64, most: f64| {
            values
                .iter()
                .map(|v| (f64::from(*v) * one).round().clamp(-most, most) as i32)
                .collect()
        };
        let dt_one = f64::from(1u32 << RAW_DT_BITS);
        let a: Vec<f32> = block.a_log.iter().map(|a| a.exp()).collect();
        Self {
            in_proj: QuantizedMatrix::new(&block.in_proj, Some(&block.norm), normal, &units),
            conv_taps,
            conv_shift,
            conv_bias: fixed(&block.conv_bias, one, f64::from(1 << 24)),
            dt_bias: fixed(&block.dt_bias, dt_one, f64::from(DT_LIMIT) * dt_one),
            a: fixed(&a, dt_one, f64::from(i32::MAX)),
            state_mul: heads.state_mul,
            dtx_shift: heads.dtx_shift,
            y_mul: heads.y_mul,
            d_mul: heads.d_mul,
            y_shift: heads.y_shift,
            out_proj: QuantizedMatrix::new(
                &block.out_proj,
                Some(&block.gated_norm),
                normal,
                &residual,
            ),
        }
    }

    pub(super) fn borrow(&self) -> LayerParams<'_> {
        LayerParams {
            in_proj: self.in_proj.borrow(),
            conv_taps: &self.conv_taps,
            conv_shift: &self.conv_shift,
            conv_bias: &self.conv_bias,
            dt_bias: &self.dt_bias,
            a: &self.a,
            state_mul: &self.state_mul,
            dtx_shift: &self.dtx_shift,
            y_mul: &self.y_mul,
            d_mul: &self.d_mul,
            y_shift: &self.y_shift,
            out_proj: self.out_proj.borrow(),
        }
    }
}

/// 1.0 in an i16 that holds so much and [`HEADROOM`].
fn unit_for(most: f32) -> f64 {
    I16_MAX / (HEADROOM * f64::from(most).max(LEAST_REACH))
}

/// `[tap][channel]` and the shift of each channel's sum to Q11, from `[channel][tap]`.
fn taps(taps: &[f32], units: &[f64]) -> (Vec<i16>, Vec<u8>) {
    let channels = units.len();
    let mut fixed = vec![0; taps.len()];
    let mut shifts = Vec::with_capacity(channels);
    for (channel, (taps, unit)) in taps.chunks_exact(CONV_TAPS).zip(units).enumerate() {
        let factors = taps
            .iter()
            .map(|t| f64::from(*t) * f64::from(1u32 << ACTIVATION_BITS) / unit);
        let most = factors
            .clone()
            .fold(f64::MIN_POSITIVE, |most, f| most.max(f.abs()));
        let limit = f64::from(MAX_TAP);
        let shift = (0..=MAX_TAP_SHIFT)
            .rev()
            .find(|s| most * f64::from(*s).exp2() <= limit)
            .unwrap_or(0);
        for (tap, factor) in factors.enumerate() {
            let value = (factor * f64::from(shift).exp2())
                .round()
                .clamp(-limit, limit);
            fixed[tap * channels + channel] = value as i16;
        }
        shifts.push(shift as u8);
    }
    (fixed, shifts)
}

/// The scales around the recurrence, by head.
struct Heads {
    state_mul: Vec<i32>,
    dtx_shift: Vec<u8>,
    y_mul: Vec<i32>,
    d_mul: Vec<i32>,
    y_shift: Vec<u8>,
}

impl Heads {
    fn new(block: &Block, reach: &Reach) -> Self {
        /// What a state's unit is in dt·x: the scan takes dtx·B (Q11) >> 15.
        const DTX_UNITS: f64 = (1 << (15 - ACTIVATION_BITS)) as f64;
        let one = f64::from(1u32 << ACTIVATION_BITS);
        // One unit for all heads, because the norm that follows weighs them together.
        let output_unit = unit_for(reach.output);
        let count = block.skip.len();
        let mut heads = Self {
            state_mul: Vec::with_capacity(count),
            dtx_shift: Vec::with_capacity(count),
            y_mul: Vec::with_capacity(count),
            d_mul: Vec::with_capacity(count),
            y_shift: Vec::with_capacity(count),
        };
        for (head, skip) in block.skip.iter().enumerate() {
            let state_unit = unit_for(reach.state[head]).min(unit_for(reach.dtx[head]) / DTX_UNITS);
            let (state_mul, dtx_shift) = fixed_point(&[DTX_UNITS * state_unit / one]);
            heads.state_mul.push(state_mul[0]);
            heads.dtx_shift.push(dtx_shift as u8);
            let y_factor = output_unit * f64::from(1u32 << SCAN_SHIFT) / (state_unit * one);
            let d_factor = f64::from(*skip) * output_unit / one;
            let (muls, shift) = fixed_point(&[y_factor, d_factor]);
            heads.y_mul.push(muls[0]);
            heads.d_mul.push(muls[1]);
            heads.y_shift.push(shift as u8);
        }
        heads
    }
}

/// A network in integers.
pub(super) struct Quantized {
    pub(super) embeddings: Vec<i16>,
    pub(super) input: QuantizedMatrix,
    pub(super) blocks: Vec<QuantizedBlock>,
    output: QuantizedMatrix,
    bias: Vec<i32>,
    /// Embedding numbers that did not fit.
    pub(super) clipped: usize,
}

impl Quantized {
    pub(super) fn new(weights: &Weights, reach: &[Reach]) -> Self {
        let one = f64::from(ONE);
        let most = f64::from(Scale::MAX_CLIP);
        let wide = weights
            .embeddings
            .iter()
            .map(|v| (f64::from(*v) * one).round());
        let clipped = wide.clone().filter(|v| v.abs() > most).count();
        let units = head_units(weights);
        let bias = weights.head_bias.iter().zip(&units);
        let normal = f64::from(1u32 << NORMAL_BITS);
        let residual = vec![f64::from(1u32 << RESIDUAL_BITS); weights.dims.d_model];
        let blocks = weights.blocks.iter().zip(reach);
        Self {
            embeddings: wide.map(|v| v.clamp(-most, most) as i16).collect(),
            input: QuantizedMatrix::new(&weights.input, None, one, &residual),
            blocks: blocks
                .map(|(block, reach)| QuantizedBlock::new(block, weights.dims, reach))
                .collect(),
            output: QuantizedMatrix::new(&weights.head, Some(&weights.norm), normal, &units),
            bias: bias
                .map(|(b, unit)| (f64::from(*b) * unit).round() as i32)
                .collect(),
            clipped,
        }
    }

    /// Moves the heads' biases by the mean difference of the floats and the integers: what rounding a
    /// weight does to a channel that hardly varies.
    pub(super) fn center(&mut self, expected: &[Vec<f32>], found: &[Vec<f32>], units: &[f64]) {
        for (row, (bias, unit)) in self.bias.iter_mut().zip(units).enumerate() {
            let differences = expected
                .iter()
                .zip(found)
                .map(|(e, f)| f64::from(e[row] - f[row]));
            let mean = differences.sum::<f64>() / expected.len() as f64;
            *bias = bias.saturating_add((mean * unit).round() as i32);
        }
    }

    pub(super) fn output(&self) -> Output<'_> {
        Output {
            linear: self.output.borrow(),
            bias: &self.bias,
        }
    }
}

/// 1.0 of each head row's training unit: logits in Q12, numbers in their field's least significant bit.
pub(super) fn head_units(weights: &Weights) -> Vec<f64> {
    let schema = &weights.schema;
    let player = schema.heads.iter().flat_map(|head| {
        let unit = match head.kind {
            HeadKind::Value { .. } => schema.lsb_per_unit(head),
            HeadKind::Class { .. } | HeadKind::Gate => f64::from(1u32 << LOGIT_BITS),
        };
        std::iter::repeat_n(unit, schema.rows_of(head))
    });
    let player: Vec<f64> = player.collect();
    player.repeat(schema.head_players())
}
