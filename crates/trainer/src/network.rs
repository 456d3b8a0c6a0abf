//! The whole network over a micro-batch: input matrix, blocks, final norm, heads;
//! forward, and backward from the gradient of the head outputs.

use crate::block::{Block, Carry, Saved, Scratch, Shape, normalize, normalize_backward, weigh};
use crate::gemm::{Arithmetic, Gemm, padded};
use crate::params::{Layout, Sizes};

/// Recurrent state of all blocks for the sequences of a micro-batch.
pub type Carries = Vec<Carry>;

/// State of `sequences` fresh matches.
pub fn fresh(sizes: &Sizes, sequences: usize) -> Carries {
    (0..sizes.layers)
        .map(|_| Carry::zero(sizes, sequences))
        .collect()
}

/// What the network reads of one micro-batch.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// `[token][inputs]`: features; the embedded places are filled by the network.
    pub features: Vec<f32>,
    /// `[token][places]`: the row of each embedded place.
    pub rows: Vec<u16>,
}

/// Where an embedding's row goes in the input vector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Which table.
    pub table: usize,
    /// First column in the input vector.
    pub column: usize,
}

/// One thread's network: layout, buffers, no parameters of its own.
pub struct Network<'a> {
    layout: &'a Layout,
    places: &'a [Place],
    gemm: Gemm,
    scratch: Scratch,
    saved: Vec<Saved>,
    split: Vec<f32>,
    weights: Vec<f32>,
    x: Vec<f32>,
    normed: Vec<f32>,
    scale: Vec<f32>,
    top: Vec<f32>,
    outputs: Vec<f32>,
}

impl<'a> Network<'a> {
    /// A network for the calling thread.
    pub fn new(layout: &'a Layout, places: &'a [Place], arithmetic: Arithmetic) -> Self {
        Self {
            layout,
            places,
            gemm: Gemm::new(arithmetic),
            scratch: Scratch::default(),
            saved: (0..layout.sizes.layers).map(|_| Saved::default()).collect(),
            split: Vec::new(),
            weights: Vec::new(),
            x: Vec::new(),
            normed: Vec::new(),
            scale: Vec::new(),
            top: Vec::new(),
            outputs: Vec::new(),
        }
    }

    /// The arithmetic of the matrix products.
    pub fn arithmetic(&self) -> Arithmetic {
        self.gemm.arithmetic()
    }

    /// Readies the calling thread.
    pub fn enter(&self) {
        self.gemm.enter();
    }

    /// Elements from one token's outputs to the next's.
    pub fn output_stride(&self) -> usize {
        padded(self.layout.sizes.outputs)
    }

    /// Head outputs `[token][output_stride]`; `carry` moves on. [`Network::backward`] may follow.
    pub fn forward(
        &mut self,
        flat: &[f32],
        shape: Shape,
        inputs: &Inputs,
        carry: &mut Carries,
    ) -> &[f32] {
        self.run(flat, shape, inputs, carry, true)
    }

    /// The same without what a backward pass would need: for rolling a match on.
    pub fn predict(
        &mut self,
        flat: &[f32],
        shape: Shape,
        inputs: &Inputs,
        carry: &mut Carries,
    ) -> &[f32] {
        self.run(flat, shape, inputs, carry, false)
    }

    fn run(
        &mut self,
        flat: &[f32],
        shape: Shape,
        inputs: &Inputs,
        carry: &mut Carries,
        keep: bool,
    ) -> &[f32] {
        let sizes = &self.layout.sizes;
        let (m, d) = (shape.tokens(), sizes.d_model);
        self.embed(flat, m, inputs);
        let k = self.split.len() / m;
        self.x.resize(m * d, 0.0);
        self.gemm
            .forward(&self.split, &self.weights, &mut self.x, (m, d, k));
        for (i, tensors) in self.layout.blocks.iter().enumerate() {
            let block = Block {
                sizes,
                tensors,
                flat,
                keep,
            };
            block.forward(
                shape,
                &mut self.x,
                &mut carry[i],
                &mut self.saved[i],
                (&mut self.scratch, &mut self.gemm),
            );
        }
        self.normed.resize(m * d, 0.0);
        self.scale.resize(m, 0.0);
        self.top.resize(m * d, 0.0);
        normalize(&self.x, d, &mut self.normed, &mut self.scale);
        weigh(&self.normed, self.layout.norm.of(flat), &mut self.top);
        let n = self.output_stride();
        self.outputs.resize(m * n, 0.0);
        self.gemm.forward(
            &self.top,
            self.layout.head.of(flat),
            &mut self.outputs,
            (m, n, d),
        );
        let bias = self.layout.head_bias.of(flat);
        for row in self.outputs.chunks_exact_mut(n) {
            for (v, b) in row.iter_mut().zip(bias) {
                *v += b;
            }
        }
        &self.outputs
    }

    /// Adds the parameters' gradients of the last [`Network::forward`] to `grads`.
    pub fn backward(
        &mut self,
        flat: &[f32],
        shape: Shape,
        inputs: &Inputs,
        doutputs: &[f32],
        grads: &mut [f32],
    ) {
        let (sizes, layout) = (&self.layout.sizes, self.layout);
        let (m, d, n) = (shape.tokens(), sizes.d_model, self.output_stride());
        for row in doutputs.chunks_exact(n) {
            for (g, v) in layout.head_bias.of_mut(grads).iter_mut().zip(row) {
                *g += v;
            }
        }
        self.gemm
            .weight_gradient(doutputs, &self.top, layout.head.of_mut(grads), (m, n, d));
        self.gemm
            .input_gradient(doutputs, layout.head.of(flat), &mut self.top, (m, n, d));
        let mut dx = std::mem::take(&mut self.x);
        dx.fill(0.0);
        normalize_backward(
            (&self.normed, &self.scale),
            layout.norm.of(flat),
            &mut self.top,
            layout.norm.of_mut(grads),
            &mut dx,
        );
        for (i, tensors) in layout.blocks.iter().enumerate().rev() {
            let block = Block {
                sizes,
                tensors,
                flat,
                keep: true,
            };
            block.backward(
                shape,
                &mut dx,
                &mut self.saved[i],
                grads,
                (&mut self.scratch, &mut self.gemm),
            );
        }
        self.input_backward(flat, m, inputs, &dx, grads);
        self.x = dx;
    }

    /// `split` `[token][2k]` = the input vector rounded to bf16, and what the rounding
    /// took away; `weights` `[d][2k]` holds the input matrix twice. So positions keep
    /// sixteen bits on a unit that multiplies eight.
    fn embed(&mut self, flat: &[f32], tokens: usize, inputs: &Inputs) {
        let sizes = &self.layout.sizes;
        let (n, k) = (sizes.inputs, padded(sizes.inputs));
        self.split.clear();
        self.split.resize(tokens * 2 * k, 0.0);
        for (token, row) in self.split.chunks_exact_mut(2 * k).enumerate() {
            let (high, low) = row.split_at_mut(k);
            high[..n].copy_from_slice(&inputs.features[token * n..(token + 1) * n]);
            for (place, index) in self
                .places
                .iter()
                .zip(&inputs.rows[token * self.places.len()..])
            {
                let (_, _, width) = sizes.embeddings[place.table];
                let table = self.layout.embeddings[place.table].of(flat);
                high[place.column..place.column + width]
                    .copy_from_slice(&table[*index as usize * width..][..width]);
            }
            for (high, low) in high.iter_mut().zip(low) {
                let rounded = f32::from_bits(high.to_bits() & 0xFFFF_0000);
                *low = *high - rounded;
                *high = rounded;
            }
        }
        self.weights.clear();
        for row in self.layout.input.of(flat).chunks_exact(k) {
            self.weights.extend_from_slice(row);
            self.weights.extend_from_slice(row);
        }
    }

    fn input_backward(
        &mut self,
        flat: &[f32],
        m: usize,
        inputs: &Inputs,
        dx: &[f32],
        grads: &mut [f32],
    ) {
        let (sizes, layout) = (&self.layout.sizes, self.layout);
        let (d, k) = (sizes.d_model, padded(sizes.inputs));
        let mut joined: Vec<f32> = Vec::with_capacity(m * k);
        for row in self.split.chunks_exact(2 * k) {
            let (high, low) = row.split_at(k);
            joined.extend(high.iter().zip(low).map(|(h, l)| h + l));
        }
        self.gemm
            .weight_gradient(dx, &joined, layout.input.of_mut(grads), (m, d, k));
        self.gemm
            .input_gradient(dx, layout.input.of(flat), &mut joined, (m, d, k));
        for (token, row) in joined.chunks_exact(k).enumerate() {
            for (place, index) in self
                .places
                .iter()
                .zip(&inputs.rows[token * self.places.len()..])
            {
                let (_, _, width) = sizes.embeddings[place.table];
                let table = layout.embeddings[place.table].of_mut(grads);
                for (g, v) in table[*index as usize * width..][..width]
                    .iter_mut()
                    .zip(&row[place.column..])
                {
                    *g += v;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn tiny() -> (Layout, Vec<Place>) {
        let sizes = Sizes {
            d_model: 64,
            layers: 2,
            d_state: 16,
            inputs: 40,
            outputs: 24,
            embeddings: vec![("a".into(), 5, 8)],
        };
        (
            Layout::new(&sizes),
            vec![
                Place {
                    table: 0,
                    column: 10,
                },
                Place {
                    table: 0,
                    column: 30,
                },
            ],
        )
    }

    fn batch(layout: &Layout, shape: Shape, random: &mut Random) -> (Inputs, Vec<f32>) {
        let features = (0..shape.tokens() * layout.sizes.inputs)
            .map(|_| random.normal())
            .collect();
        let rows = (0..shape.tokens() * 2)
            .map(|_| random.below(5) as u16)
            .collect();
        let weights = (0..shape.tokens() * padded(layout.sizes.outputs))
            .map(|_| random.normal())
            .collect();
        (Inputs { features, rows }, weights)
    }

    /// Every tensor's gradient against central differences of a random linear loss.
    #[test]
    fn gradients_agree_with_differences() {
        let (layout, places) = tiny();
        let shape = Shape {
            sequences: 2,
            steps: 16,
        };
        let mut random = Random::new(7);
        let mut flat = layout.initialize(3);
        for v in &mut flat {
            if *v != 0.0 {
                *v += 0.1 * random.normal();
            }
        }
        let (inputs, weights) = batch(&layout, shape, &mut random);
        let mut start = fresh(&layout.sizes, 2);
        for v in start
            .iter_mut()
            .flat_map(|c| c.state.iter_mut().chain(&mut c.conv))
        {
            *v = 0.3 * random.normal();
        }
        let mut net = Network::new(&layout, &places, Arithmetic::F32);
        let mut loss = |flat: &[f32]| -> f64 {
            let out = net.forward(flat, shape, &inputs, &mut start.clone());
            out.iter()
                .zip(&weights)
                .map(|(o, w)| f64::from(*o) * f64::from(*w))
                .sum()
        };
        let mut grads = vec![0.0; layout.len];
        let mut other = Network::new(&layout, &places, Arithmetic::F32);
        other.forward(&flat, shape, &inputs, &mut start.clone());
        other.backward(&flat, shape, &inputs, &weights, &mut grads);
        for tensor in layout.tensors() {
            let (mut worst, mut size) = (0.0f64, 1e-3f64);
            for _ in 0..12 {
                let at = tensor.offset
                    + random.below(tensor.rows) * tensor.stride
                    + random.below(tensor.cols);
                let (value, step) = (flat[at], 1e-2);
                flat[at] = value + step;
                let up = loss(&flat);
                flat[at] = value - step;
                let down = loss(&flat);
                flat[at] = value;
                let expected = (up - down) / f64::from(2.0 * step);
                worst = worst.max((expected - f64::from(grads[at])).abs());
                size = size.max(expected.abs());
            }
            assert!(
                worst < 0.03 * size,
                "{}: off by {worst} where gradients reach {size}",
                tensor.name
            );
        }
    }

    /// Cutting a sequence in two and carrying the state changes nothing.
    #[test]
    fn carried_state_continues_a_sequence() {
        let (layout, places) = tiny();
        let (whole, half) = (
            Shape {
                sequences: 1,
                steps: 64,
            },
            Shape {
                sequences: 1,
                steps: 32,
            },
        );
        let mut random = Random::new(5);
        let flat = layout.initialize(4);
        let (inputs, _) = batch(&layout, whole, &mut random);
        let mut net = Network::new(&layout, &places, Arithmetic::F32);
        let expected = net
            .forward(&flat, whole, &inputs, &mut fresh(&layout.sizes, 1))
            .to_vec();
        let mut carry = fresh(&layout.sizes, 1);
        let n = layout.sizes.inputs;
        for part in 0..2 {
            let inputs = Inputs {
                features: inputs.features[part * 32 * n..(part + 1) * 32 * n].to_vec(),
                rows: inputs.rows[part * 64..(part + 1) * 64].to_vec(),
            };
            let out = net.forward(&flat, half, &inputs, &mut carry);
            for (a, b) in out.iter().zip(&expected[part * out.len()..]) {
                assert!((a - b).abs() < 1e-4);
            }
        }
    }

    /// Not a pass mark, a figure.
    #[test]
    #[ignore = "prints a speed"]
    fn speed() {
        let sizes = Sizes {
            d_model: 256,
            layers: 8,
            d_state: 16,
            inputs: 170,
            outputs: 450,
            embeddings: vec![("a".into(), 5, 8)],
        };
        let (layout, places) = (
            Layout::new(&sizes),
            vec![
                Place {
                    table: 0,
                    column: 10,
                },
                Place {
                    table: 0,
                    column: 30,
                },
            ],
        );
        println!("{} parameters", layout.parameters());
        for (sequences, steps) in [(1, 64), (2, 64), (4, 64), (8, 64), (16, 64)] {
            let shape = Shape { sequences, steps };
            let flat = layout.initialize(3);
            let (inputs, weights) = batch(&layout, shape, &mut Random::new(1));
            let mut net = Network::new(&layout, &places, Arithmetic::Bf16Amx);
            let mut grads = vec![0.0; layout.len];
            let mut carry = fresh(&layout.sizes, sequences);
            net.forward(&flat, shape, &inputs, &mut carry);
            let start = std::time::Instant::now();
            for _ in 0..5 {
                net.forward(&flat, shape, &inputs, &mut carry);
            }
            let forward = start.elapsed().as_secs_f64() / 5.0;
            let start = std::time::Instant::now();
            for _ in 0..5 {
                net.forward(&flat, shape, &inputs, &mut carry);
                net.backward(&flat, shape, &inputs, &weights, &mut grads);
            }
            let both = start.elapsed().as_secs_f64() / 5.0;
            println!(
                "{shape:?}: forward {:.0}, forward and backward {:.0} tokens/s",
                shape.tokens() as f64 / forward,
                shape.tokens() as f64 / both
            );
        }
    }
}
