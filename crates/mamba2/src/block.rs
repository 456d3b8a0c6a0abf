//! A block's step and a matrix by address: what a program hands to a runtime that computes them for
//! the program.

use crate::layer::LayerState;
use crate::params::{HEAD_DIM, Layer, Linear, MAX_D_MODEL};
use crate::work::Work;
use bytemuck::{Pod, Zeroable};

/// Heads of a block, at most.
pub const MAX_HEADS: usize = 2 * MAX_D_MODEL / HEAD_DIM;

/// Where everything is that [`Kernels::mix`](crate::Kernels::mix) reads and writes. Addresses are
/// those of the machine that fills it in; lengths follow from the sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Block {
    /// Width of the residual stream.
    pub d_model: u64,
    /// State size of a channel.
    pub d_state: u64,
    /// A [`Work`].
    pub work: u64,
    /// The convolution's state, i16.
    pub conv: u64,
    /// Each head's state, i16.
    pub heads: [u64; MAX_HEADS],
    /// The parameters between the matrices, in the order of
    /// [`LayerParams`](crate::LayerParams): `conv_taps`, `conv_shift`, `conv_bias`, `dt_bias`, `a`,
    /// `state_mul`, `dtx_shift`, `y_mul`, `d_mul`, `y_shift`.
    pub params: [u64; 10],
    /// The tables: SiLU, softplus, exponential, reciprocal square root.
    pub tables: [u64; 4],
}

impl Block {
    /// The addresses of a layer, its state and the work that it mixes.
    pub fn of<S: LayerState>(layer: &Layer<'_>, state: &mut S, work: &mut Work) -> Self {
        let (p, t) = (&layer.params, &layer.tables);
        let mut heads = [0; MAX_HEADS];
        for (index, head) in heads.iter_mut().enumerate().take(layer.dims.heads()) {
            *head = address(state.head(index));
        }
        Self {
            d_model: layer.dims.d_model as u64,
            d_state: layer.dims.d_state as u64,
            work: core::ptr::from_mut(work) as usize as u64,
            conv: address(state.conv()),
            heads,
            params: [
                address(p.conv_taps),
                address(p.conv_shift),
                address(p.conv_bias),
                address(p.dt_bias),
                address(p.a),
                address(p.state_mul),
                address(p.dtx_shift),
                address(p.y_mul),
                address(p.d_mul),
                address(p.y_shift),
            ],
            tables: [
                address(t.silu),
                address(t.softplus),
                address(t.exp),
                address(t.rsqrt),
            ],
        }
    }
}

/// Where a matrix is that [`Kernels::linear`](crate::Kernels::linear) multiplies. Row sums are not
/// among it: who computes for a program believes no sum of the program's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Product {
    /// `rows × columns` bytes.
    pub weights: u64,
    /// By row, i32.
    pub multipliers: u64,
    /// Rows.
    pub rows: u64,
    /// Columns.
    pub columns: u64,
    /// Rounding shift after the multiplication.
    pub shift: u64,
}

impl Product {
    /// The addresses of a matrix.
    pub fn of(linear: &Linear<'_>) -> Self {
        Self {
            weights: address(linear.weights),
            multipliers: address(linear.multipliers),
            rows: linear.rows() as u64,
            columns: linear.columns as u64,
            shift: linear.shift.into(),
        }
    }
}

fn address<T>(slice: &[T]) -> u64 {
    slice.as_ptr() as usize as u64
}
