//! The quick look during training: from random starts of validation matches, 30
//! true frames, then twenty on the network's own predictions.

use super::lane::Shared;
use super::stream::Stream;
use crate::block::Shape;
use crate::dataset::Match;
use crate::gemm::BLOCK;
use crate::loss::{Example, Losses};
use crate::network::{Inputs, Network, fresh};
use crate::random::Random;
use crate::task::{Pair, Task, states};
use serde::{Deserialize, Serialize};

/// True frames before the network is on its own.
pub const WARM_UP: usize = 30;
/// Frames on its own.
pub const HORIZON: usize = 20;
/// Sequences rolled side by side.
const SIDE_BY_SIDE: usize = 256;

/// Mean errors by horizon 1…20.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Validation {
    /// Mean absolute error of the four coordinates, game units.
    pub position: Vec<f64>,
    /// Share of action states that are right.
    pub action: Vec<f64>,
    /// Mean absolute error of both damages, percent.
    pub percent: Vec<f64>,
}

impl Validation {
    /// Mean position error over horizons 1…k.
    pub fn rc(&self, k: usize) -> f64 {
        self.position[..k].iter().sum::<f64>() / k as f64
    }
}

/// Rolls `starts` (a multiple of 256 is used whole) out from places drawn with `seed`.
pub(crate) fn validate(
    task: &Task,
    matches: &[&Match],
    (starts, seed): (usize, u64),
    weights: &[f32],
    network: &mut Network<'_>,
) -> Validation {
    let mut random = Random::new(seed);
    let long: Vec<_> = matches
        .iter()
        .filter(|m| m.frames.len() > WARM_UP + HORIZON + 1)
        .collect();
    let mut sum = Validation {
        position: vec![0.0; HORIZON],
        action: vec![0.0; HORIZON],
        percent: vec![0.0; HORIZON],
    };
    let groups = starts.div_ceil(SIDE_BY_SIDE);
    for _ in 0..groups {
        let places: Vec<_> = (0..SIDE_BY_SIDE)
            .map(|_| {
                let source = long[random.below(long.len())];
                (
                    source,
                    random.below(source.frames.len() - WARM_UP - HORIZON),
                )
            })
            .collect();
        group(task, &places, weights, network, &mut sum);
    }
    let n = (groups * SIDE_BY_SIDE) as f64;
    for values in [&mut sum.position, &mut sum.action, &mut sum.percent] {
        values.iter_mut().for_each(|v| *v /= n);
    }
    sum
}

/// Frames of a window of [`imitation`].
const IMITATION_WINDOW: usize = 128;

/// What the losses are on validation matches, frame by frame from true states: how
/// well a policy foresees its player.
pub(crate) fn imitation(
    shared: &Shared<'_>,
    matches: &[&Match],
    (starts, seed): (usize, u64),
    weights: &[f32],
    network: &mut Network<'_>,
) -> Losses {
    let (task, mut random) = (shared.task, Random::new(seed));
    let shape = Shape {
        sequences: starts.next_multiple_of(BLOCK),
        steps: IMITATION_WINDOW,
    };
    let mut inputs = Inputs::default();
    let windows: Vec<_> = (0..shape.sequences)
        .map(|_| Stream::random(matches, shape.steps, &mut random).next(matches, shape.steps))
        .collect();
    for window in &windows {
        for (pair, pads) in window
            .states
            .iter()
            .zip(&window.pads[task.lead()..])
            .take(shape.steps)
        {
            task.encode(&shared.plan, window.stage, pair, pads, &mut inputs);
        }
    }
    let stride = network.output_stride();
    let outputs = network.predict(
        weights,
        shape,
        &inputs,
        &mut fresh(&task.sizes, shape.sequences),
    );
    let (mut losses, mut unused) = (Losses::default(), vec![0.0; stride]);
    for (token, outputs) in outputs.chunks_exact(stride).enumerate() {
        let (window, t) = (&windows[token / shape.steps], token % shape.steps);
        let example = Example {
            seen: &window.states[t],
            before: &window.states[t],
            after: &window.states[t + 1],
            pads: &window.pads[t + 1],
        };
        shared
            .objective
            .token(outputs, example, &mut unused, &mut losses, 1.0);
    }
    losses
}

fn group(
    task: &Task,
    places: &[(&&Match, usize)],
    weights: &[f32],
    network: &mut Network<'_>,
    sum: &mut Validation,
) {
    let (plan, shape) = (
        task.plan(),
        Shape {
            sequences: places.len(),
            steps: 1,
        },
    );
    let mut carries = fresh(&task.sizes, places.len());
    let mut now: Vec<Pair> = places
        .iter()
        .map(|(m, at)| states(&m.frames[*at]))
        .collect();
    let stride = network.output_stride();
    for t in 0..WARM_UP + HORIZON - 1 {
        let mut inputs = Inputs::default();
        for (pair, (m, at)) in now.iter().zip(places) {
            let next = &m.frames[at + t + 1];
            task.encode(
                &plan,
                m.stage,
                pair,
                &[next[0].pad, next[1].pad],
                &mut inputs,
            );
        }
        let outputs = network.predict(weights, shape, &inputs, &mut carries);
        for (s, outputs) in outputs.chunks_exact(stride).enumerate() {
            let (m, at) = places[s];
            let truth = states(&m.frames[at + t + 1]);
            if t + 1 < WARM_UP {
                now[s] = truth;
                continue;
            }
            now[s] = task.decode(&plan, &outputs[..task.sizes.outputs], &now[s]);
            let h = t + 1 - WARM_UP;
            for (p, q) in now[s].iter().zip(&truth) {
                sum.position[h] +=
                    (f64::from((p.x - q.x).abs()) + f64::from((p.y - q.y).abs())) / 4096.0 / 4.0;
                sum.action[h] += f64::from(u8::from(p.action_state == q.action_state)) / 2.0;
                sum.percent[h] +=
                    f64::from((i32::from(p.percent) - i32::from(q.percent)).abs()) / 64.0 / 2.0;
            }
        }
    }
}
