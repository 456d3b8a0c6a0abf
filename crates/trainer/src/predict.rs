//! A trained network playing one match in f32: the yardstick for the integers.

use crate::block::Shape;
use crate::gemm::Arithmetic;
use crate::network::{Carries, Inputs, Network, fresh};
use crate::params::Layout;
use crate::task::{Pair, Task};
use crate::train::Checkpoint;
use worldline_abi::{PLAYERS, Pad};
use worldline_cartridge::schema::SchemaError;

/// A checkpoint, ready to play any number of matches.
pub struct Predictor {
    task: Task,
    layout: Layout,
    weights: Vec<f32>,
}

/// One match.
pub struct Play<'a> {
    predictor: &'a Predictor,
    network: Network<'a>,
    carries: Carries,
    stage: u8,
}

impl Predictor {
    /// Prepares a checkpoint.
    pub fn new(checkpoint: &Checkpoint) -> Result<Self, SchemaError> {
        let sizes = &checkpoint.sizes;
        let task = Task::new(
            checkpoint.schema.clone(),
            &[],
            (sizes.d_model, sizes.layers, sizes.d_state),
        )?;
        Ok(Self {
            layout: Layout::new(&task.sizes),
            task,
            weights: checkpoint.weights.clone(),
        })
    }

    /// A match with no past.
    pub fn play(&self, stage: u8) -> Play<'_> {
        Play {
            predictor: self,
            network: Network::new(&self.layout, &self.task.places, Arithmetic::F32),
            carries: fresh(&self.task.sizes, 1),
            stage,
        }
    }
}

impl Play<'_> {
    /// The states that follow these under these pads.
    pub fn step(&mut self, states: &Pair, pads: &[Pad; PLAYERS]) -> Pair {
        let task = &self.predictor.task;
        let (plan, mut inputs) = (task.plan(), Inputs::default());
        task.encode(&plan, self.stage, states, pads, &mut inputs);
        let shape = Shape {
            sequences: 1,
            steps: 1,
        };
        let outputs =
            self.network
                .predict(&self.predictor.weights, shape, &inputs, &mut self.carries);
        task.decode(&plan, &outputs[..task.sizes.outputs], states)
    }
}
