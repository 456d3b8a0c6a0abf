//! Thresholds of rare events: a network that is seldom sure of a hit or a lost stock would never
//! say so, and nobody would be hurt. [`gates`] moves each gate's bias so that, one frame ahead, it
//! opens as often as its event happens.

use std::collections::BTreeMap;

use serde::Serialize;
use worldline_cartridge::schema::SchemaError;

use crate::block::Shape;
use crate::dataset::{Clip, Match, clips};
use crate::gemm::Arithmetic;
use crate::loss::{Objective, Weights};
use crate::network::{Inputs, Network, fresh};
use crate::parallel::{self, progress};
use crate::params::Layout;
use crate::task::{Event, Task, states};
use crate::train::Checkpoint;

/// Clips looked at, frames of each, and clips side by side.
const CLIPS: usize = 512;
const CLIP_FRAMES: usize = 480;
const SIDE_BY_SIDE: usize = 128;
/// First frames of a clip, on which the network does not know enough yet.
const WARM_UP: usize = 30;
/// Which clips.
const SEED: u64 = 0xCA11;

/// What became of a gate.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Gate {
    /// Its head's name.
    pub name: String,
    /// Player-frames looked at.
    pub frames: usize,
    /// On how many its event happened.
    pub happened: usize,
    /// On how many the gate opened before.
    pub opened: usize,
    /// Its logit is compared with this from now on.
    pub threshold: f32,
}

/// Moves the biases of `checkpoint`'s gates to fit `matches`; `events` as in training.
///
/// # Errors
/// When the checkpoint's schema cannot be used.
pub fn gates(
    checkpoint: &mut Checkpoint,
    events: &[Event],
    matches: &[&Match],
) -> Result<Vec<Gate>, SchemaError> {
    let sizes = &checkpoint.sizes;
    let shape = (sizes.d_model, sizes.layers, sizes.d_state);
    let task = Task::new(checkpoint.schema.clone(), events, shape)?;
    let layout = Layout::new(&task.sizes);
    let clips = clips(matches, CLIP_FRAMES, CLIPS, SEED);
    let groups: Vec<_> = clips.chunks(SIDE_BY_SIDE).collect();
    let bar = progress(groups.len(), "calibrating gates");
    let found = parallel::map(
        groups.len(),
        || Network::new(&layout, &task.places, Arithmetic::Bf16Amx),
        |network, i| {
            let logits = logits(&task, network, &checkpoint.weights, groups[i]);
            bar.inc(1);
            logits
        },
    );
    bar.finish_and_clear();

    let mut all = Logits::new();
    for (name, gate) in found.into_iter().flatten() {
        let (rows, logits) = all.entry(name).or_default();
        *rows = gate.0;
        logits.extend(gate.1);
    }
    let bias = layout.head_bias.of_mut(&mut checkpoint.weights);
    let move_bias = |(name, (rows, mut logits)): (String, Calls)| {
        let happened = logits.iter().filter(|(_, happened)| *happened).count();
        let opened = logits.iter().filter(|(logit, _)| *logit > 0.0).count();
        let threshold = threshold(&mut logits, happened);
        rows.iter().for_each(|row| bias[*row] -= threshold);
        Gate {
            name,
            frames: logits.len(),
            happened,
            opened,
            threshold,
        }
    };
    Ok(all.into_iter().map(move_bias).collect())
}

/// A gate's rows (one a player), and each player-frame's logit and whether its event happened.
type Calls = (Vec<usize>, Vec<(f32, bool)>);
/// By gate.
type Logits = BTreeMap<String, Calls>;

fn logits(task: &Task, network: &mut Network<'_>, weights: &[f32], clips: &[Clip<'_>]) -> Logits {
    let objective = Objective::new(task, &Weights::default());
    let plan = task.plan();
    let shape = Shape {
        sequences: clips.len(),
        steps: 1,
    };
    let mut carries = fresh(&task.sizes, clips.len());
    let stride = network.output_stride();
    let mut all = Logits::new();
    for t in 1..CLIP_FRAMES {
        let mut inputs = Inputs::default();
        for clip in clips {
            let pads = clip.frames[t].map(|seat| seat.pad);
            task.encode(
                &plan,
                clip.stage,
                &states(&clip.frames[t - 1]),
                &pads,
                &mut inputs,
            );
        }
        let outputs = network.predict(weights, shape, &inputs, &mut carries);
        if t < WARM_UP {
            continue;
        }
        for (clip, outputs) in clips.iter().zip(outputs.chunks_exact(stride)) {
            let (before, after) = (states(&clip.frames[t - 1]), states(&clip.frames[t]));
            for (name, row, happened) in objective.rare(&before, &after) {
                let (rows, logits) = all.entry(name.to_owned()).or_default();
                if !rows.contains(&row) {
                    rows.push(row);
                }
                logits.push((outputs[row], happened));
            }
        }
    }
    all
}

/// The logit that `count` of them exceed; 0 if there is nothing to go by.
fn threshold(logits: &mut [(f32, bool)], count: usize) -> f32 {
    logits.sort_by(|a, b| b.0.total_cmp(&a.0));
    match (
        count.checked_sub(1).map(|last| logits[last].0),
        logits.get(count),
    ) {
        (Some(last), Some((next, _))) => (last + next) / 2.0,
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::threshold;

    #[test]
    fn as_many_logits_exceed_the_threshold_as_events_happened() {
        let mut logits: Vec<(f32, bool)> = (0..100).map(|i| (-(i as f32), false)).collect();
        for count in [1, 7, 99] {
            let threshold = threshold(&mut logits, count);
            assert_eq!(
                logits
                    .iter()
                    .filter(|(logit, _)| *logit > threshold)
                    .count(),
                count
            );
        }
        assert_eq!(threshold(&mut logits, 0), 0.0);
        assert_eq!(threshold(&mut [], 0), 0.0);
    }
}
