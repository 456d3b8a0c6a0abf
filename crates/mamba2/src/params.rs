//! What a network is made of: borrowed slices, and the bounds they must keep.

use crate::math::DT_LIMIT;
use crate::tables;

/// Channels of a head.
pub const HEAD_DIM: usize = 64;
/// Taps of the causal convolution.
pub const CONV_TAPS: usize = 4;
/// Width of the residual stream, at most.
pub const MAX_D_MODEL: usize = 512;
/// State size of a channel, at most (and even).
pub const MAX_D_STATE: usize = 16;
/// Columns of a matrix, at most.
pub const MAX_COLUMNS: usize = 2 * MAX_D_MODEL;
/// Rows of a matrix, at most: those of the widest `in_proj`.
pub const MAX_ROWS: usize = 4 * MAX_D_MODEL + 2 * MAX_D_STATE + 2 * MAX_D_MODEL / HEAD_DIM;
/// A convolution tap, at most.
pub const MAX_TAP: i16 = 8_191;
/// A multiplier of a matrix row or a head, exclusive.
pub const MAX_MULTIPLIER: i32 = 1 << 24;
/// A 64-bit rounding shift, at most.
pub const MAX_SHIFT: u32 = 62;
/// A bias of the convolution, at most (Q11).
const MAX_CONV_BIAS: i32 = 1 << 24;
/// A 32-bit rounding shift, at most.
const MAX_CONV_SHIFT: u8 = 29;

/// The sizes of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dims {
    /// Width of the residual stream: a multiple of 32, at most [`MAX_D_MODEL`].
    pub d_model: usize,
    /// State size of a channel: even, at most [`MAX_D_STATE`].
    pub d_state: usize,
}

impl Dims {
    /// Width inside the block.
    #[inline(always)]
    pub const fn d_inner(&self) -> usize {
        2 * self.d_model
    }

    /// Heads of [`HEAD_DIM`] channels.
    #[inline(always)]
    pub const fn heads(&self) -> usize {
        self.d_inner() / HEAD_DIM
    }

    /// Channels of the convolution: x, B and C.
    #[inline(always)]
    pub const fn conv_dim(&self) -> usize {
        self.d_inner() + 2 * self.d_state
    }

    /// Rows of `in_proj`, in the order z, x, B, C, dt.
    #[inline(always)]
    pub const fn in_rows(&self) -> usize {
        self.d_inner() + self.conv_dim() + self.heads()
    }

    /// Numbers of a block's convolution state: the last three inputs, oldest first,
    /// each of [`Dims::conv_dim`] channels.
    #[inline(always)]
    pub const fn conv_state(&self) -> usize {
        (CONV_TAPS - 1) * self.conv_dim()
    }

    /// Numbers of one head's recurrent state, laid out `[d_state / 2][HEAD_DIM][2]`.
    #[inline(always)]
    pub const fn head_state(&self) -> usize {
        HEAD_DIM * self.d_state
    }

    fn check(&self) -> Result<(), BoundError> {
        let d_model =
            self.d_model > 0 && self.d_model <= MAX_D_MODEL && self.d_model.is_multiple_of(32);
        let d_state =
            self.d_state > 0 && self.d_state <= MAX_D_STATE && self.d_state.is_multiple_of(2);
        if d_model && d_state {
            Ok(())
        } else {
            Err(BoundError::Dims(*self))
        }
    }
}

/// Why parameters are not fit to be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BoundError {
    /// Sizes that this build does not run.
    #[error(
        "a block of {0:?} cannot be run: d_model is a multiple of 32 up to {MAX_D_MODEL}, d_state even up to {MAX_D_STATE}"
    )]
    Dims(Dims),
    /// A slice has the wrong length.
    #[error("{name} holds {found} numbers where the sizes ask for {expected}")]
    Length {
        /// The parameter.
        name: &'static str,
        /// Numbers it must hold.
        expected: usize,
        /// Numbers it holds.
        found: usize,
    },
    /// A number is outside the range for which no sum overflows.
    #[error("{name}[{index}] is out of its range: quantize the model again")]
    Range {
        /// The parameter.
        name: &'static str,
        /// Which of its numbers.
        index: usize,
    },
    /// A row's stored sum is not the sum of its weights.
    #[error("the stored sum of row {row} is not the sum of its weights: the cartridge is damaged")]
    RowSum {
        /// Which row.
        row: usize,
    },
}

/// An `i8` matrix whose product is brought into its rows' output units.
#[derive(Debug, Clone, Copy)]
pub struct Linear<'a> {
    /// Row by row, `multipliers.len()` × `columns`.
    pub weights: &'a [i8],
    /// The sum of each row, for kernels that add 128 to the inputs.
    pub row_sums: &'a [i32],
    /// By row, below [`MAX_MULTIPLIER`] in magnitude.
    pub multipliers: &'a [i32],
    /// Length of a row.
    pub columns: usize,
    /// Rounding shift after the multiplication, at most [`MAX_SHIFT`].
    pub shift: u32,
}

impl Linear<'_> {
    /// Number of outputs.
    #[inline(always)]
    pub const fn rows(&self) -> usize {
        self.multipliers.len()
    }

    /// Checks lengths, ranges and row sums: once, when a cartridge is opened.
    pub fn check(&self) -> Result<(), BoundError> {
        let rows = self.rows();
        if self.columns == 0 || self.columns > MAX_COLUMNS || rows > MAX_ROWS {
            return Err(BoundError::Range {
                name: "linear.columns",
                index: 0,
            });
        }
        length("linear.weights", self.weights.len(), rows * self.columns)?;
        length("linear.row_sums", self.row_sums.len(), rows)?;
        multipliers("linear.multipliers", self.multipliers)?;
        range("linear.shift", &[self.shift], |shift| *shift <= MAX_SHIFT)?;
        for (row, weights) in self.weights.chunks_exact(self.columns).enumerate() {
            if weights.iter().map(|weight| *weight as i32).sum::<i32>() != self.row_sums[row] {
                return Err(BoundError::RowSum { row });
            }
        }
        Ok(())
    }
}

/// The output heads: a matrix and a bias in each row's own unit.
#[derive(Debug, Clone, Copy)]
pub struct Output<'a> {
    /// From the normalised residual to the outputs.
    pub linear: Linear<'a>,
    /// By row, added with saturation.
    pub bias: &'a [i32],
}

impl Output<'_> {
    /// Checks lengths and ranges.
    pub fn check(&self) -> Result<(), BoundError> {
        self.linear.check()?;
        length("output.bias", self.bias.len(), self.linear.rows())
    }
}

/// The look-up tables that travel with the weights; [`tables`] says what each holds.
#[derive(Debug, Clone, Copy)]
pub struct Tables<'a> {
    /// [`tables::SILU_ENTRIES`] values, Q11.
    pub silu: &'a [i16],
    /// [`tables::SOFTPLUS_ENTRIES`] values, Q24.
    pub softplus: &'a [i32],
    /// [`tables::EXP_ENTRIES`] values, Q15.
    pub exp: &'a [i16],
    /// [`tables::RSQRT_ENTRIES`] values, Q15.
    pub rsqrt: &'a [i16],
}

impl Tables<'_> {
    /// Checks lengths and ranges.
    pub fn check(&self) -> Result<(), BoundError> {
        length("tables.silu", self.silu.len(), tables::SILU_ENTRIES)?;
        length(
            "tables.softplus",
            self.softplus.len(),
            tables::SOFTPLUS_ENTRIES,
        )?;
        length("tables.exp", self.exp.len(), tables::EXP_ENTRIES)?;
        length("tables.rsqrt", self.rsqrt.len(), tables::RSQRT_ENTRIES)?;
        range("tables.silu", self.silu, |value| *value > i16::MIN)?;
        range("tables.softplus", self.softplus, |value| {
            (0..=17 << 24).contains(value)
        })?;
        range("tables.exp", self.exp, |value| *value >= 0)?;
        range("tables.rsqrt", self.rsqrt, |value| *value >= 0)
    }
}

/// The parameters of one block. The norms' weights are folded into the columns of the
/// matrix that follows them, the channels' scales into the rows of `in_proj`.
#[derive(Debug, Clone, Copy)]
pub struct LayerParams<'a> {
    /// From the residual to z, x, B, C (see [`Layer`]) and the raw time steps (Q16).
    pub in_proj: Linear<'a>,
    /// `[CONV_TAPS][conv_dim]`, oldest tap first, at most [`MAX_TAP`] in magnitude.
    pub conv_taps: &'a [i16],
    /// By channel: what the taps' sum is shifted by to become Q11; at most 29.
    pub conv_shift: &'a [u8],
    /// By channel, Q11.
    pub conv_bias: &'a [i32],
    /// By head, Q16.
    pub dt_bias: &'a [i32],
    /// By head, Q16, positive: the state decays by `exp(-dt·a)`.
    pub a: &'a [i32],
    /// By head: multiplies the time step (Q24) and is shifted right by 24.
    pub state_mul: &'a [i32],
    /// By head: what `x · (dt·state_mul)` is shifted by.
    pub dtx_shift: &'a [u8],
    /// By head: multiplies the sum over the state.
    pub y_mul: &'a [i32],
    /// By head: multiplies x, beside the state.
    pub d_mul: &'a [i32],
    /// By head: what the sum of both is shifted by to become the head's output.
    pub y_shift: &'a [u8],
    /// From the gated, normalised block to the residual (Q16).
    pub out_proj: Linear<'a>,
}

/// One block: sizes, parameters, tables.
#[derive(Debug, Clone, Copy)]
pub struct Layer<'a> {
    /// Its sizes.
    pub dims: Dims,
    /// Its parameters.
    pub params: LayerParams<'a>,
    /// The cartridge's tables.
    pub tables: Tables<'a>,
}

impl Layer<'_> {
    /// Checks every length and range: what passes cannot overflow or panic in a step.
    pub fn check(&self) -> Result<(), BoundError> {
        let (dims, p) = (self.dims, &self.params);
        self.check_mix()?;
        p.in_proj.check()?;
        p.out_proj.check()?;
        length("in_proj.columns", p.in_proj.columns, dims.d_model)?;
        length("in_proj.rows", p.in_proj.rows(), dims.in_rows())?;
        length("out_proj.columns", p.out_proj.columns, dims.d_inner())?;
        length("out_proj.rows", p.out_proj.rows(), dims.d_model)
    }

    /// [`Layer::check`] of what lies between the two matrices: sizes, tables, and the parameters
    /// that [`Kernels::mix`](crate::Kernels::mix) reads.
    pub fn check_mix(&self) -> Result<(), BoundError> {
        let (dims, p) = (self.dims, &self.params);
        dims.check()?;
        self.tables.check()?;
        let (channels, heads) = (dims.conv_dim(), dims.heads());
        length("conv_taps", p.conv_taps.len(), CONV_TAPS * channels)?;
        length("conv_shift", p.conv_shift.len(), channels)?;
        length("conv_bias", p.conv_bias.len(), channels)?;
        for (name, found) in [
            ("dt_bias", p.dt_bias.len()),
            ("a", p.a.len()),
            ("state_mul", p.state_mul.len()),
            ("dtx_shift", p.dtx_shift.len()),
            ("y_mul", p.y_mul.len()),
            ("d_mul", p.d_mul.len()),
            ("y_shift", p.y_shift.len()),
        ] {
            length(name, found, heads)?;
        }
        range("conv_taps", p.conv_taps, |tap| {
            tap.unsigned_abs() <= MAX_TAP as u16
        })?;
        range("conv_shift", p.conv_shift, |shift| *shift <= MAX_CONV_SHIFT)?;
        range("conv_bias", p.conv_bias, |bias| {
            bias.unsigned_abs() <= MAX_CONV_BIAS as u32
        })?;
        range("dt_bias", p.dt_bias, |bias| {
            bias.unsigned_abs() <= (DT_LIMIT as u32) << 16
        })?;
        range("a", p.a, |a| *a >= 0)?;
        multipliers("state_mul", p.state_mul)?;
        range("dtx_shift", p.dtx_shift, |shift| {
            u32::from(*shift) <= MAX_SHIFT
        })?;
        multipliers("y_mul", p.y_mul)?;
        multipliers("d_mul", p.d_mul)?;
        range("y_shift", p.y_shift, |shift| u32::from(*shift) <= MAX_SHIFT)
    }
}

fn length(name: &'static str, found: usize, expected: usize) -> Result<(), BoundError> {
    if found == expected {
        Ok(())
    } else {
        Err(BoundError::Length {
            name,
            expected,
            found,
        })
    }
}

fn multipliers(name: &'static str, values: &[i32]) -> Result<(), BoundError> {
    range(name, values, |value| {
        value.unsigned_abs() < MAX_MULTIPLIER as u32
    })
}

fn range<T>(
    name: &'static str,
    values: &[T],
    holds: impl Fn(&T) -> bool,
) -> Result<(), BoundError> {
    // Without an early end, so that the compiler looks at many at once.
    if values.iter().fold(true, |all, value| all & holds(value)) {
        return Ok(());
    }
    let index = values.iter().position(|value| !holds(value));
    let index = index.unwrap_or_default();
    Err(BoundError::Range { name, index })
}
