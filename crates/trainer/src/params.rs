//! Where each tensor lies in the flat parameter vector. Matrices are padded to
//! multiples of the product's block with rows and columns that stay zero.

use crate::gemm::padded;

/// Sizes of a network; `inputs` counts features and embedded values together.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Sizes {
    /// Width of the residual stream.
    pub d_model: usize,
    /// Mamba2 blocks.
    pub layers: usize,
    /// State elements per channel.
    pub d_state: usize,
    /// Length of the input vector.
    pub inputs: usize,
    /// Rows of the head matrix.
    pub outputs: usize,
    /// (name, rows, width) of each embedding table.
    pub embeddings: Vec<(String, usize, usize)>,
}

/// Channels a head.
pub const HEAD_DIM: usize = 64;
/// Taps of the causal convolution.
pub const TAPS: usize = 4;

impl Sizes {
    /// Width of the block's inner stream.
    pub fn inner(&self) -> usize {
        2 * self.d_model
    }
    /// Heads a block.
    pub fn heads(&self) -> usize {
        self.inner() / HEAD_DIM
    }
    /// Channels of the convolution: x, B and C.
    pub fn conv(&self) -> usize {
        self.inner() + 2 * self.d_state
    }
    /// Rows of `in_proj`: z, x, B, C, dt.
    pub fn projected(&self) -> usize {
        self.inner() + self.conv() + self.heads()
    }
}

/// A named tensor inside the flat vector.
#[derive(Clone, Debug)]
pub struct Tensor {
    /// Name in the checkpoint (Hugging Face's `Mamba2` names for the blocks).
    pub name: String,
    /// Shape in the checkpoint.
    pub shape: Vec<usize>,
    /// First element in the flat vector.
    pub offset: usize,
    /// Rows and columns that hold values.
    pub rows: usize,
    /// See `rows`.
    pub cols: usize,
    /// Elements from one row to the next.
    pub stride: usize,
    /// Elements taken, padding included.
    pub len: usize,
    /// Whether weight decay applies.
    pub decay: bool,
}

impl Tensor {
    /// The tensor's part of the flat vector.
    pub fn of<'a>(&self, flat: &'a [f32]) -> &'a [f32] {
        &flat[self.offset..self.offset + self.len]
    }
    /// The same, to write.
    pub fn of_mut<'a>(&self, flat: &'a mut [f32]) -> &'a mut [f32] {
        &mut flat[self.offset..self.offset + self.len]
    }
    /// The values without padding, row by row.
    pub fn gather(&self, flat: &[f32]) -> Vec<f32> {
        self.of(flat)
            .chunks(self.stride)
            .take(self.rows)
            .flat_map(|row| &row[..self.cols])
            .copied()
            .collect()
    }
    /// Writes values without padding.
    pub fn scatter(&self, flat: &mut [f32], values: &[f32]) {
        let stride = self.stride;
        for (row, from) in self
            .of_mut(flat)
            .chunks_mut(stride)
            .zip(values.chunks(self.cols))
        {
            row[..from.len()].copy_from_slice(from);
        }
    }
}

/// The tensors of one block.
#[derive(Clone, Debug)]
pub struct BlockTensors {
    pub(crate) norm: Tensor,
    pub(crate) in_proj: Tensor,
    pub(crate) conv_weight: Tensor,
    pub(crate) conv_bias: Tensor,
    pub(crate) dt_bias: Tensor,
    pub(crate) a_log: Tensor,
    pub(crate) d: Tensor,
    pub(crate) gated_norm: Tensor,
    pub(crate) out_proj: Tensor,
}

/// All tensors of a network.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The sizes it was made for.
    pub sizes: Sizes,
    pub(crate) embeddings: Vec<Tensor>,
    pub(crate) input: Tensor,
    pub(crate) blocks: Vec<BlockTensors>,
    pub(crate) norm: Tensor,
    pub(crate) head: Tensor,
    pub(crate) head_bias: Tensor,
    /// Length of the flat vector.
    pub len: usize,
}

impl Layout {
    /// Lays the tensors out one after the other.
    pub fn new(sizes: &Sizes) -> Self {
        let mut len = 0;
        let mut place = |name: String,
                         shape: Vec<usize>,
                         (rows, cols): (usize, usize),
                         stride: usize,
                         padded_rows: usize,
                         decay: bool| {
            let tensor = Tensor {
                name,
                shape,
                offset: len,
                rows,
                cols,
                stride,
                len: stride * padded_rows,
                decay,
            };
            len += tensor.len.next_multiple_of(16);
            tensor
        };
        let d = sizes.d_model;
        let embeddings = sizes
            .embeddings
            .iter()
            .map(|(name, rows, width)| {
                place(
                    format!("embed.{name}.weight"),
                    vec![*rows, *width],
                    (*rows, *width),
                    *width,
                    *rows,
                    false,
                )
            })
            .collect();
        let input = place(
            "input.weight".into(),
            vec![d, sizes.inputs],
            (d, sizes.inputs),
            padded(sizes.inputs),
            padded(d),
            true,
        );
        let (inner, conv, heads, rows) = (
            sizes.inner(),
            sizes.conv(),
            sizes.heads(),
            sizes.projected(),
        );
        let blocks = (0..sizes.layers)
            .map(|i| {
                let mut vector = |name: &str, n: usize, shape: Vec<usize>| {
                    place(
                        format!("backbone.layers.{i}.{name}"),
                        shape,
                        (1, n),
                        n,
                        1,
                        false,
                    )
                };
                let norm = vector("norm.weight", d, vec![d]);
                let conv_weight = vector("mixer.conv1d.weight", conv * TAPS, vec![conv, 1, TAPS]);
                let conv_bias = vector("mixer.conv1d.bias", conv, vec![conv]);
                let dt_bias = vector("mixer.dt_bias", heads, vec![heads]);
                let a_log = vector("mixer.A_log", heads, vec![heads]);
                let skip = vector("mixer.D", heads, vec![heads]);
                let gated_norm = vector("mixer.norm.weight", inner, vec![inner]);
                let mut matrix = |name: &str, rows: usize, cols: usize| {
                    place(
                        format!("backbone.layers.{i}.{name}"),
                        vec![rows, cols],
                        (rows, cols),
                        padded(cols),
                        padded(rows),
                        true,
                    )
                };
                let in_proj = matrix("mixer.in_proj.weight", rows, d);
                let out_proj = matrix("mixer.out_proj.weight", d, inner);
                BlockTensors {
                    norm,
                    in_proj,
                    conv_weight,
                    conv_bias,
                    dt_bias,
                    a_log,
                    d: skip,
                    gated_norm,
                    out_proj,
                }
            })
            .collect();
        let norm = place(
            "backbone.norm_f.weight".into(),
            vec![d],
            (1, d),
            d,
            1,
            false,
        );
        let n = sizes.outputs;
        let head = place(
            "head.weight".into(),
            vec![n, d],
            (n, d),
            padded(d),
            padded(n),
            true,
        );
        let head_bias = place("head.bias".into(), vec![n], (1, n), padded(n), 1, false);
        Self {
            sizes: sizes.clone(),
            embeddings,
            input,
            blocks,
            norm,
            head,
            head_bias,
            len,
        }
    }

    /// Every tensor, in order of offset.
    pub fn tensors(&self) -> Vec<&Tensor> {
        let mut all: Vec<&Tensor> = self.embeddings.iter().collect();
        all.push(&self.input);
        for b in &self.blocks {
            all.extend([
                &b.norm,
                &b.in_proj,
                &b.conv_weight,
                &b.conv_bias,
                &b.dt_bias,
                &b.a_log,
                &b.d,
                &b.gated_norm,
                &b.out_proj,
            ]);
        }
        all.extend([&self.norm, &self.head, &self.head_bias]);
        all.sort_by_key(|t| t.offset);
        all
    }

    /// Values that are trained, padding not counted.
    pub fn parameters(&self) -> usize {
        self.tensors().iter().map(|t| t.rows * t.cols).sum()
    }

    /// Fresh parameters: Mamba2's own initialization (Dao and Gu, 2024, reference code):
    /// uniform fan-in matrices, dt in [0.001, 0.1], A in [1, 16], out_proj scaled by depth.
    pub fn initialize(&self, seed: u64) -> Vec<f32> {
        let mut random = crate::random::Random::new(seed);
        let mut flat = vec![0.0; self.len];
        let uniform =
            |flat: &mut [f32], t: &Tensor, bound: f32, random: &mut crate::random::Random| {
                for row in t.of_mut(flat).chunks_mut(t.stride).take(t.rows) {
                    row[..t.cols].fill_with(|| random.uniform(-bound, bound));
                }
            };
        for t in &self.embeddings {
            uniform(&mut flat, t, 1.0, &mut random);
        }
        let fan_in = |t: &Tensor| (t.cols as f32).sqrt().recip();
        uniform(&mut flat, &self.input, fan_in(&self.input), &mut random);
        for b in &self.blocks {
            b.norm.of_mut(&mut flat).fill(1.0);
            b.gated_norm.of_mut(&mut flat).fill(1.0);
            b.d.of_mut(&mut flat).fill(1.0);
            uniform(&mut flat, &b.in_proj, fan_in(&b.in_proj), &mut random);
            let depth = (2.0 * self.sizes.layers as f32).sqrt();
            uniform(
                &mut flat,
                &b.out_proj,
                fan_in(&b.out_proj) / depth,
                &mut random,
            );
            uniform(&mut flat, &b.conv_weight, 0.5, &mut random);
            for v in b.a_log.of_mut(&mut flat) {
                *v = random.uniform(1.0, 16.0).ln();
            }
            for v in b.dt_bias.of_mut(&mut flat) {
                let dt = random.uniform(0.001f32.ln(), 0.1f32.ln()).exp();
                *v = dt.exp_m1().ln();
            }
        }
        self.norm.of_mut(&mut flat).fill(1.0);
        uniform(&mut flat, &self.head, 0.5 * fan_in(&self.head), &mut random);
        flat
    }
}
