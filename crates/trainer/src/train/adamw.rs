//! AdamW (Loshchilov and Hutter, 2019) over the flat vector, with an average of
//! the weights beside it.

use crate::params::Layout;
use serde::{Deserialize, Serialize};

const BETA1: f32 = 0.9;
const BETA2: f32 = 0.97;
const TINY: f32 = 1e-8;

/// Everything an optimizer step changes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Optimizer {
    /// The parameters.
    pub(crate) weights: Vec<f32>,
    /// Their average.
    pub(crate) average: Vec<f32>,
    /// First moments.
    pub(crate) m: Vec<f32>,
    /// Second moments.
    pub(crate) v: Vec<f32>,
    /// Steps taken.
    pub(crate) step: u64,
}

/// The numbers of one step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    pub(crate) rate: f32,
    pub(crate) weight_decay: f32,
    pub(crate) clip: f32,
    pub(crate) average: f32,
}

impl Optimizer {
    pub(crate) fn new(weights: Vec<f32>) -> Self {
        let n = weights.len();
        Self {
            average: weights.clone(),
            weights,
            m: vec![0.0; n],
            v: vec![0.0; n],
            step: 0,
        }
    }

    /// Takes a step with the sum of the lanes' gradients and returns its norm before clipping.
    pub(crate) fn take(&mut self, layout: &Layout, lanes: &mut [Vec<f32>], step: Step) -> f32 {
        let (sum, others) = lanes.split_first_mut().expect("one lane at least");
        for other in others {
            for (a, b) in sum.iter_mut().zip(other) {
                *a += *b;
            }
        }
        let norm = sum
            .iter()
            .map(|g| f64::from(*g) * f64::from(*g))
            .sum::<f64>()
            .sqrt() as f32;
        let scale = if norm > step.clip {
            step.clip / norm
        } else {
            1.0
        };
        self.step += 1;
        let steps = self.step.min(100_000) as i32;
        let (c1, c2) = (1.0 - BETA1.powi(steps), 1.0 - BETA2.powi(steps));
        // Early on the average follows closely: it must not hold the random start.
        let keep = step
            .average
            .min((1.0 + self.step as f32) / (10.0 + self.step as f32));
        for tensor in layout.tensors() {
            let decay = if tensor.decay {
                step.rate * step.weight_decay
            } else {
                0.0
            };
            let range = tensor.offset..tensor.offset + tensor.len;
            let (weights, average) = (
                &mut self.weights[range.clone()],
                &mut self.average[range.clone()],
            );
            let (m, v, g) = (
                &mut self.m[range.clone()],
                &mut self.v[range.clone()],
                &sum[range],
            );
            for i in 0..g.len() {
                let g = g[i] * scale;
                m[i] += (1.0 - BETA1) * (g - m[i]);
                v[i] += (1.0 - BETA2) * (g * g - v[i]);
                weights[i] -=
                    step.rate * (m[i] / c1) / ((v[i] / c2).sqrt() + TINY) + decay * weights[i];
                average[i] = weights[i] + keep * (average[i] - weights[i]);
            }
        }
        norm
    }
}
