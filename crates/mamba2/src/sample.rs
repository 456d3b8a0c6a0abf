//! Models of random numbers, for tests, benchmarks and examples.

use crate::math::{PLANE_LIMIT, RAW_DT_BITS, split_mix_64};
use crate::params::{CONV_TAPS, Dims, Layer, LayerParams, Linear, Output, Tables};
use crate::{Contiguous, contiguous_len, tables};

/// A network's shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Of every block.
    pub dims: Dims,
    /// Blocks.
    pub layers: usize,
    /// Columns of the input matrix.
    pub inputs: usize,
    /// Rows of the output heads.
    pub outputs: usize,
}

impl Size {
    /// 4 blocks of width 64.
    pub const MICRO: Self = Self::of(64, 4);
    /// 6 blocks of width 128.
    pub const TINY: Self = Self::of(128, 6);
    /// 8 blocks of width 256.
    pub const SMALL: Self = Self::of(256, 8);
    /// 12 blocks of width 512.
    pub const FULL: Self = Self::of(512, 12);

    const fn of(d_model: usize, layers: usize) -> Self {
        Self {
            dims: Dims {
                d_model,
                d_state: 16,
            },
            layers,
            inputs: 64,
            outputs: 64,
        }
    }
}

/// SplitMix64: enough for numbers that only have to look busy.
#[derive(Debug, Clone)]
pub struct Random(pub u64);

impl Random {
    /// The next 64 bits.
    pub fn draw(&mut self) -> u64 {
        split_mix_64(&mut self.0)
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: i32, high: i32) -> i32 {
        let span = (i64::from(high) - i64::from(low) + 1) as u64;
        (i64::from(low) + (self.draw() % span) as i64) as i32
    }

    fn many<T>(&mut self, count: usize, low: i32, high: i32) -> Vec<T>
    where
        T: TryFrom<i32, Error: core::fmt::Debug>,
    {
        (0..count)
            .map(|_| T::try_from(self.between(low, high)).expect("in range"))
            .collect()
    }
}

/// A matrix that owns its numbers.
#[derive(Debug, Clone)]
pub struct Matrix {
    /// See [`Linear`].
    pub weights: Vec<i8>,
    /// See [`Linear`].
    pub row_sums: Vec<i32>,
    /// See [`Linear`].
    pub multipliers: Vec<i32>,
    /// See [`Linear`].
    pub columns: usize,
    /// See [`Linear`].
    pub shift: u32,
}

impl Matrix {
    /// Random weights; outputs of typical inputs (1.0 in Q11) are of the order of `unit`.
    pub fn random(rows: usize, columns: usize, unit: f64, random: &mut Random) -> Self {
        let weights: Vec<i8> = random.many(rows * columns, -128, 127);
        let row_sums = weights
            .chunks(columns)
            .map(|row| row.iter().map(|w| i32::from(*w)).sum());
        let typical = 2048.0 * 74.0 * (columns as f64).sqrt();
        let shift = 26;
        let multiplier = (unit / typical * (1u64 << shift) as f64).min(8e6) as i32;
        Self {
            row_sums: row_sums.collect(),
            multipliers: random.many(rows, multiplier / 2, multiplier),
            weights,
            columns,
            shift,
        }
    }

    /// As a step takes it.
    pub fn borrow(&self) -> Linear<'_> {
        Linear {
            weights: &self.weights,
            row_sums: &self.row_sums,
            multipliers: &self.multipliers,
            columns: self.columns,
            shift: self.shift,
        }
    }
}

#[derive(Debug, Clone)]
struct Block {
    in_proj: Matrix,
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
    out_proj: Matrix,
}

impl Block {
    fn random(dims: Dims, random: &mut Random) -> Self {
        let (channels, heads) = (dims.conv_dim(), dims.heads());
        let mut in_proj = Matrix::random(dims.in_rows(), dims.d_model, 2048.0, random);
        for multiplier in &mut in_proj.multipliers[dims.d_inner() + channels..] {
            *multiplier = (*multiplier << 5).min(crate::MAX_MULTIPLIER - 1);
        }
        Self {
            in_proj,
            conv_taps: random.many(CONV_TAPS * channels, -8191, 8191),
            conv_shift: random.many(channels, 12, 14),
            conv_bias: random.many(channels, -2048, 2048),
            dt_bias: random.many(heads, -5 << RAW_DT_BITS, 1 << RAW_DT_BITS),
            a: random.many(heads, 1 << 10, 1 << 15),
            state_mul: random.many(heads, 1 << 20, 1 << 23),
            dtx_shift: random.many(heads, 16, 18),
            y_mul: random.many(heads, 1 << 8, 1 << 12),
            d_mul: random.many(heads, -(1 << 20), 1 << 20),
            y_shift: random.many(heads, 20, 22),
            out_proj: Matrix::random(dims.d_model, dims.d_inner(), 16_384.0, random),
        }
    }

    fn borrow(&self) -> LayerParams<'_> {
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

/// A whole network of random numbers.
#[derive(Debug, Clone)]
pub struct Model {
    size: Size,
    tables: tables::Owned,
    input: Matrix,
    blocks: Vec<Block>,
    output: Matrix,
    bias: Vec<i32>,
}

impl Model {
    /// The same numbers for the same seed.
    pub fn random(size: Size, seed: u64) -> Self {
        let random = &mut Random(seed);
        let width = size.dims.d_model;
        Self {
            size,
            tables: tables::Owned::generate(),
            input: Matrix::random(width, size.inputs, 65_536.0, random),
            blocks: (0..size.layers)
                .map(|_| Block::random(size.dims, random))
                .collect(),
            output: Matrix::random(size.outputs, width, 4_096.0, random),
            bias: random.many(size.outputs, -4096, 4096),
        }
    }

    /// The input matrix.
    pub fn input(&self) -> Linear<'_> {
        self.input.borrow()
    }

    /// The blocks.
    pub fn layers(&self) -> impl Iterator<Item = Layer<'_>> {
        let (dims, tables) = (self.size.dims, self.tables());
        self.blocks.iter().map(move |block| Layer {
            dims,
            params: block.borrow(),
            tables,
        })
    }

    /// The output heads.
    pub fn output(&self) -> Output<'_> {
        Output {
            linear: self.output.borrow(),
            bias: &self.bias,
        }
    }

    /// The tables.
    pub fn tables(&self) -> Tables<'_> {
        self.tables.borrow()
    }

    /// A fresh memory for each block.
    pub fn state(&self) -> Vec<Contiguous<Vec<i16>>> {
        let dims = self.size.dims;
        let fresh = || Contiguous::new(dims, vec![0; contiguous_len(dims)]);
        (0..self.size.layers).map(|_| fresh()).collect()
    }
}

/// Activations of a typical frame: about ±1 in Q11.
pub fn activations(count: usize, random: &mut Random) -> Vec<i16> {
    random
        .many(count, -4096, 4096)
        .into_iter()
        .map(|v: i32| v as i16)
        .collect()
}

/// Activations anywhere in the range that planes hold.
pub fn wild_activations(count: usize, random: &mut Random) -> Vec<i16> {
    let limit = i32::from(PLANE_LIMIT);
    random.many(count, -limit, limit)
}
