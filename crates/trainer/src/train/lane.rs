//! A lane: some sequences, their streams and recurrent state, and what a step
//! does with them.

use super::config::{Run, SelfForcing};
use super::stream::{Stream, Window};
use crate::block::Shape;
use crate::dataset::Match;
use crate::loss::{Example, Losses, Objective};
use crate::network::{Carries, Inputs, Network, fresh};
use crate::random::Random;
use crate::task::{Pair, Task};
use worldline_cartridge::plan::Plan;

/// A prediction further than this from the truth (1/4096 unit, both axes added) is
/// given up and the roll goes on from the truth, unless an event explains the distance.
const LOST: i32 = 60 * 4096;

/// What a checkpoint keeps of a lane.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Lane {
    /// Its source of chance.
    pub(crate) random: Random,
    /// One a sequence.
    pub(crate) streams: Vec<Stream>,
    /// Recurrent state of all sequences.
    pub(crate) carries: Carries,
}

/// What every lane shares during a step.
pub(crate) struct Shared<'a> {
    pub(crate) task: &'a Task,
    pub(crate) plan: Plan<'a>,
    pub(crate) objective: Objective<'a>,
    pub(crate) matches: &'a [&'a Match],
    pub(crate) run: Run,
    pub(crate) forcing: SelfForcing,
}

impl Lane {
    pub(crate) fn new(shared: &Shared<'_>, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let streams = (0..shared.run.sequences)
            .map(|_| Stream::random(shared.matches, shared.run.window, &mut random))
            .collect();
        Self {
            random,
            streams,
            carries: fresh(&shared.task.sizes, shared.run.sequences),
        }
    }

    /// Adds this lane's gradients for one step to `grads` (zeroed here).
    pub(crate) fn step(
        &mut self,
        shared: &Shared<'_>,
        progress: f32,
        weights: &[f32],
        network: &mut Network<'_>,
        grads: &mut Vec<f32>,
    ) -> Losses {
        let shape = Shape {
            sequences: shared.run.sequences,
            steps: shared.run.window,
        };
        let windows = self.windows(shared);
        let mut seen: Vec<Vec<Pair>> = windows
            .iter()
            .map(|w| w.states[..shape.steps].to_vec())
            .collect();
        self.disturb(shared, &mut seen);
        let forced = progress >= 0.0 && self.random.uniform(0.0, 1.0) < shared.forcing.chance;
        if forced {
            let (short, long) = (
                shared.forcing.shortest as f32,
                shared.forcing.longest as f32,
            );
            let horizon = (short + progress * (long - short)).round().max(1.0) as usize;
            self.roll(shared, horizon, weights, network, &windows, &mut seen);
        }
        let mut inputs = Inputs::default();
        for (window, seen) in windows.iter().zip(&seen) {
            for (pair, pads) in seen.iter().zip(&window.pads[shared.task.lead()..]) {
                shared
                    .task
                    .encode(&shared.plan, window.stage, pair, pads, &mut inputs);
            }
        }
        let stride = network.output_stride();
        let outputs = network.forward(weights, shape, &inputs, &mut self.carries);
        let mut gradient = vec![0.0; outputs.len()];
        let mut losses = Losses::default();
        let tokens = (shape.tokens() * shared.run.lanes) as f32;
        for (token, (outputs, gradient)) in outputs
            .chunks_exact(stride)
            .zip(gradient.chunks_exact_mut(stride))
            .enumerate()
        {
            let (s, t) = (token / shape.steps, token % shape.steps);
            let example = Example {
                seen: &seen[s][t],
                before: &windows[s].states[t],
                after: &windows[s].states[t + 1],
                pads: &windows[s].pads[t + 1],
            };
            shared
                .objective
                .token(outputs, example, gradient, &mut losses, tokens);
        }
        grads.clear();
        grads.resize(weights.len(), 0.0);
        network.backward(weights, shape, &inputs, &gradient, grads);
        losses
    }

    /// The next window of every stream; a stream that leaves its match starts with
    /// fresh state elsewhere.
    fn windows(&mut self, shared: &Shared<'_>) -> Vec<Window> {
        let (window, n) = (shared.run.window, self.streams.len());
        let mut windows = Vec::with_capacity(n);
        for (i, stream) in self.streams.iter_mut().enumerate() {
            let leaves = self.random.uniform(0.0, 1.0) < shared.run.leave;
            if leaves || !stream.fits(shared.matches, window) {
                *stream = Stream::random(shared.matches, window, &mut self.random);
                self.carries.iter_mut().for_each(|c| c.reset(i, n));
            }
            windows.push(stream.next(shared.matches, window));
        }
        windows
    }

    /// Noise on positions and speeds of some sequences, so that small errors of
    /// the network's own are nothing new to it.
    fn disturb(&mut self, shared: &Shared<'_>, seen: &mut [Vec<Pair>]) {
        for sequence in seen {
            if self.random.uniform(0.0, 1.0) >= shared.run.noise {
                continue;
            }
            let size = self.random.uniform(0.0, 1.0);
            for player in sequence.iter_mut().flatten() {
                let mut by = |sigma: f32| (self.random.normal() * sigma * size) as i32;
                player.x += by(0.25 * 4096.0);
                player.y += by(0.25 * 4096.0);
                for speed in [
                    &mut player.speed_air_x,
                    &mut player.speed_y,
                    &mut player.speed_attack_x,
                    &mut player.speed_attack_y,
                    &mut player.speed_ground_x,
                ] {
                    if *speed != 0 {
                        *speed = speed.saturating_add(by(0.03 * 1024.0) as i16);
                    }
                }
            }
        }
    }

    /// Replaces states by the network's own predictions, `horizon` frames in a row
    /// between true ones.
    fn roll(
        &mut self,
        shared: &Shared<'_>,
        horizon: usize,
        weights: &[f32],
        network: &mut Network<'_>,
        windows: &[Window],
        seen: &mut [Vec<Pair>],
    ) {
        let shape = Shape {
            sequences: windows.len(),
            steps: 1,
        };
        let mut carries = self.carries.clone();
        let phases: Vec<usize> = windows
            .iter()
            .map(|_| self.random.below(horizon + 1))
            .collect();
        let stride = network.output_stride();
        for t in 0..shared.run.window - 1 {
            let mut inputs = Inputs::default();
            for (window, seen) in windows.iter().zip(seen.iter()) {
                shared.task.encode(
                    &shared.plan,
                    window.stage,
                    &seen[t],
                    &window.pads[t + 1],
                    &mut inputs,
                );
            }
            let outputs = network.predict(weights, shape, &inputs, &mut carries);
            for (s, outputs) in outputs.chunks_exact(stride).enumerate() {
                let truth = &windows[s].states[t + 1];
                if (t + 1 + phases[s]).is_multiple_of(horizon + 1) {
                    continue;
                }
                let predicted = shared.task.decode(
                    &shared.plan,
                    &outputs[..shared.task.sizes.outputs],
                    &seen[s][t],
                );
                let follows = |p: usize| {
                    let (found, real) = (&predicted[p], &truth[p]);
                    let off = (found.x - real.x).abs() + (found.y - real.y).abs();
                    off < LOST || shared.objective.during_event(real)
                };
                if follows(0) && follows(1) {
                    seen[s][t + 1] = predicted;
                }
            }
        }
    }
}
