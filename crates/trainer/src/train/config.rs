//! `worldline train CONFIG.toml`: what it says.

use crate::loss::Weights;
use crate::task::Event;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use worldline_cartridge::schema::Kind;

/// A training run.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The world's name; files are named after it.
    pub name: String,
    /// A world, or a policy: a player learned by imitation.
    #[serde(default = "world")]
    pub kind: Kind,
    /// Folder for checkpoints and the log.
    pub out: PathBuf,
    /// Seed of everything random.
    pub seed: u64,
    /// Where replays come from.
    pub data: Data,
    /// The network's size.
    pub model: Model,
    /// How it is trained.
    pub run: Run,
    /// Its own predictions as input.
    #[serde(default)]
    pub self_forcing: SelfForcing,
    /// Weight of each head's loss.
    #[serde(default)]
    pub weights: Weights,
    /// Events that no number of a replay states.
    #[serde(default)]
    pub events: Vec<Event>,
}

fn world() -> Kind {
    Kind::World
}

/// Replays and what is made of them.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// Files, folders, globs.
    pub replays: Vec<String>,
    /// Only matches under MIT, ISC or Apache-2.0.
    pub permissive: bool,
    /// Seed of the split by match.
    pub split: u64,
    /// Action states seen on fewer player-frames than this are left out of the vocabulary.
    pub rare: u64,
}

/// Width, depth and state.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// Width of the residual stream.
    pub d_model: usize,
    /// Blocks.
    pub layers: usize,
    /// State elements per channel.
    pub d_state: usize,
}

/// The optimizer's course.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// Optimizer steps in all.
    pub steps: u64,
    /// Micro-batches a step; threads share them.
    pub lanes: usize,
    /// Sequences a micro-batch; a multiple of 32.
    pub sequences: usize,
    /// Frames a sequence and step; state is carried from one window to the next.
    pub window: usize,
    /// Threads.
    pub threads: usize,
    /// Peak learning rate.
    pub rate: f32,
    /// Steps of linear warm-up.
    pub warmup: u64,
    /// The last part of the steps, over which the rate falls to 0 on a cosine.
    pub decay: f32,
    /// AdamW's weight decay, matrices only.
    pub weight_decay: f32,
    /// Largest norm of a step's gradient.
    pub clip: f32,
    /// Decay of the averaged weights, which are what a checkpoint holds.
    pub average: f32,
    /// Chance that a stream leaves its match at a window's end.
    pub leave: f32,
    /// Chance that a sequence's window gets noise, and its size in standard features' units.
    pub noise: f32,
    /// Steps between validations.
    pub validate: u64,
    /// Starts of a validation.
    pub starts: usize,
    /// Steps between checkpoints.
    pub checkpoint: u64,
}

/// Rolling the network on its own predictions inside a window.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SelfForcing {
    /// First step that does it.
    pub from: u64,
    /// Chance that a micro-batch does it.
    pub chance: f32,
    /// Frames rolled at first …
    pub shortest: usize,
    /// … and at the end of the run.
    pub longest: usize,
}
