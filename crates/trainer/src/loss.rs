//! What a wrong output costs: cross-entropy for classes and gates, a robust
//! (Huber) loss for numbers, in the schema's training units.

use crate::math::exp;
use crate::task::{Named, Only, Pair, Target, Task};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use worldline_abi::{PLAYERS, Pad, PlayerState};
use worldline_cartridge::plan::Plan;

/// Where a Huber loss turns from a square to a straight line, training units.
const KNEE: f32 = 0.05;

/// Weight of each head's loss by the head's name; others weigh 1.
pub type Weights = BTreeMap<String, f32>;

/// One token's truth: the states that the network saw, and what really followed.
#[derive(Clone, Copy)]
pub(crate) struct Example<'a> {
    /// The state given to the network; its own prediction or noisy, perhaps.
    pub(crate) seen: &'a Pair,
    /// The real state of the same frame.
    pub(crate) before: &'a Pair,
    /// The real state of the next frame.
    pub(crate) after: &'a Pair,
    /// The pads that led to it.
    pub(crate) pads: &'a [Pad; PLAYERS],
}

/// Sums of losses by head name, with the number of tokens that had one.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Losses {
    /// (sum, count) by head.
    pub heads: BTreeMap<String, (f64, f64)>,
    /// Weighted sum over everything.
    pub total: f64,
    /// Tokens seen.
    pub tokens: f64,
}

impl Losses {
    fn add(&mut self, name: &str, loss: f32, weight: f32) {
        self.total += f64::from(loss * weight);
        if let Some(entry) = self.heads.get_mut(name) {
            entry.0 += f64::from(loss);
            entry.1 += 1.0;
        } else {
            self.heads.insert(name.into(), (f64::from(loss), 1.0));
        }
    }

    /// Mean loss by head.
    pub fn means(&self) -> BTreeMap<String, f64> {
        self.heads
            .iter()
            .map(|(name, (sum, n))| (name.clone(), sum / n.max(1.0)))
            .collect()
    }

    /// Adds another's sums.
    pub fn merge(&mut self, other: &Self) {
        self.total += other.total;
        self.tokens += other.tokens;
        for (name, (sum, count)) in &other.heads {
            let entry = self.heads.entry(name.clone()).or_default();
            entry.0 += sum;
            entry.1 += count;
        }
    }
}

/// The loss of one task under given weights.
pub(crate) struct Objective<'a> {
    task: &'a Task,
    plan: Plan<'a>,
    weights: Vec<f32>,
}

impl<'a> Objective<'a> {
    pub(crate) fn new(task: &'a Task, weights: &Weights) -> Self {
        let weights = task
            .targets
            .iter()
            .map(|t| weights.get(&t.name).copied().unwrap_or(1.0))
            .collect();
        Self {
            task,
            plan: task.plan(),
            weights,
        }
    }

    /// Adds one token's losses and sets its gradient, each divided by `tokens`.
    pub(crate) fn token(
        &self,
        outputs: &[f32],
        example: Example<'_>,
        gradient: &mut [f32],
        losses: &mut Losses,
        tokens: f32,
    ) {
        gradient.fill(0.0);
        losses.tokens += 1.0;
        for (named, weight) in self.task.targets.iter().zip(&self.weights) {
            if let Some(loss) = self.target(named, outputs, example, gradient, weight / tokens) {
                losses.add(&named.name, loss, *weight);
            }
        }
    }

    fn raw(&self, state: &PlayerState, field: usize) -> i32 {
        self.plan.fields[field].read(bytemuck::cast_ref(state))
    }

    fn real(&self, state: &PlayerState, field: usize) -> f32 {
        self.raw(state, field) as f32 / (1u32 << self.plan.fields[field].frac_bits) as f32
    }

    /// Whether this state is one that an event leads into.
    fn within(&self, event: usize, state: &PlayerState) -> bool {
        let (field, values) = &self.task.events[event];
        values.contains(&(self.raw(state, *field) as u16))
    }

    /// Whether any event leads into this state.
    pub(crate) fn during_event(&self, state: &PlayerState) -> bool {
        (0..self.task.events.len()).any(|event| self.within(event, state))
    }

    /// An event that a roll-out has missed is still due: it is asked of the state seen.
    fn due(&self, event: usize, seen: &PlayerState, after: &PlayerState) -> bool {
        self.within(event, after) && !self.within(event, seen)
    }

    /// The rare events of one token: each gate's name and row, and whether its event happened.
    pub(crate) fn rare<'b>(
        &'b self,
        before: &'b Pair,
        after: &'b Pair,
    ) -> impl Iterator<Item = (&'b str, usize, bool)> {
        self.task.targets.iter().filter_map(|named| {
            let (before, after) = (&before[named.player], &after[named.player]);
            let (row, happened) = match &named.target {
                Target::Moves { row, field, sign } => {
                    let step = self.raw(after, *field) - self.raw(before, *field);
                    (*row, step.signum() == *sign)
                }
                Target::Event { row, event } => (*row, self.due(*event, before, after)),
                _ => return None,
            };
            Some((named.name.as_str(), row, happened))
        })
    }

    /// The loss of one target, or none on a frame where there is nothing to learn.
    fn target(
        &self,
        named: &Named,
        outputs: &[f32],
        example: Example<'_>,
        gradient: &mut [f32],
        weight: f32,
    ) -> Option<f32> {
        let p = named.player;
        let (seen, before, after) = (&example.seen[p], &example.before[p], &example.after[p]);
        match &named.target {
            Target::Class {
                rows,
                field,
                values,
            } => {
                let class = values
                    .binary_search(&(self.raw(after, *field) as u16))
                    .ok()?;
                Some(cross_entropy(
                    &outputs[rows.clone()],
                    class,
                    &mut gradient[rows.clone()],
                    weight,
                ))
            }
            Target::Flag { row, field } => {
                let label = self.raw(after, *field) != 0;
                Some(binary(outputs[*row], label, &mut gradient[*row], weight))
            }
            Target::Moves { row, field, sign } => {
                // A fall (a stock) that a roll-out has missed is still due; a rise (a hit) is over.
                let from = if *sign < 0 { seen } else { before };
                let label = (self.raw(after, *field) - self.raw(from, *field)).signum() == *sign;
                Some(binary(outputs[*row], label, &mut gradient[*row], weight))
            }
            Target::Event { row, event } => Some(binary(
                outputs[*row],
                self.due(*event, seen, after),
                &mut gradient[*row],
                weight,
            )),
            Target::Value {
                row,
                field,
                relative,
                scale,
                only,
            } => {
                let (from, learned) = match only {
                    Only::Always => (seen, true),
                    Only::Rises => (before, self.raw(after, *field) > self.raw(before, *field)),
                    Only::Event(event) => (before, self.due(*event, seen, after)),
                };
                let base = if *relative {
                    self.real(from, *field)
                } else {
                    0.0
                };
                let wanted = (self.real(after, *field) - base) * scale;
                learned.then(|| huber(outputs[*row] - wanted, weight, &mut gradient[*row]))
            }
            Target::Stick {
                rows,
                stick,
                positions,
            } => {
                let pad = &example.pads[p];
                let [x, y] = if *stick == 0 { pad.stick } else { pad.cstick }.map(f32::from);
                let class = nearest(positions, |at| (at[0] - x).powi(2) + (at[1] - y).powi(2));
                Some(cross_entropy(
                    &outputs[rows.clone()],
                    class,
                    &mut gradient[rows.clone()],
                    weight,
                ))
            }
            Target::Trigger {
                rows,
                trigger,
                values,
            } => {
                let value = f32::from(example.pads[p].triggers[*trigger]);
                let class = nearest(values, |at| (f32::from(*at) - value).abs());
                Some(cross_entropy(
                    &outputs[rows.clone()],
                    class,
                    &mut gradient[rows.clone()],
                    weight,
                ))
            }
            Target::Button { row, mask } => {
                let down = example.pads[p].buttons & mask != 0;
                Some(binary(outputs[*row], down, &mut gradient[*row], weight))
            }
            Target::Integrated {
                field,
                terms,
                correction,
                scale,
                unless,
            } => {
                if unless.is_some_and(|event| self.due(event, seen, after)) {
                    return None;
                }
                let holds = |when: Option<(usize, bool)>| {
                    when.is_none_or(|(flag, is)| (self.raw(after, flag) != 0) == is)
                };
                let mut moved = outputs[*correction] / scale;
                for term in terms.iter().filter(|t| holds(t.when)) {
                    moved += self.real(seen, term.field) + outputs[term.row] / term.scale;
                }
                let wanted = self.real(after, *field) - self.real(seen, *field);
                let mut slope = 0.0;
                let loss = huber((moved - wanted) * scale, weight, &mut slope);
                gradient[*correction] += slope;
                for term in terms.iter().filter(|t| holds(t.when)) {
                    gradient[term.row] += slope * scale / term.scale;
                }
                Some(loss)
            }
        }
    }
}

/// The place of the closest element.
fn nearest<T>(all: &[T], distance: impl Fn(&T) -> f32) -> usize {
    let closer = |a: &usize, b: &usize| distance(&all[*a]).total_cmp(&distance(&all[*b]));
    (0..all.len()).min_by(closer).unwrap_or(0)
}

/// −log softmax of the true class; adds its gradient times `weight`.
#[multiversion::multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512dq+avx512vl+fma",
    "x86_64+avx2+fma"
))]
fn cross_entropy(logits: &[f32], class: usize, gradient: &mut [f32], weight: f32) -> f32 {
    let most = logits.iter().fold(f32::MIN, |a, b| a.max(*b));
    let mut sum = 0.0;
    for (g, logit) in gradient.iter_mut().zip(logits) {
        *g = exp(logit - most);
        sum += *g;
    }
    for g in gradient.iter_mut() {
        *g *= weight / sum;
    }
    gradient[class] -= weight;
    most + sum.ln() - logits[class]
}

/// −log of the probability of `label`; adds its gradient times `weight`.
fn binary(logit: f32, label: bool, gradient: &mut f32, weight: f32) -> f32 {
    let signed = if label { logit } else { -logit };
    let wrong = 1.0 / (1.0 + signed.exp());
    *gradient += weight * if label { -wrong } else { wrong };
    if signed > 15.0 {
        wrong
    } else {
        (-signed).exp().ln_1p()
    }
}

/// Huber's loss with its knee at [`KNEE`], scaled so that far out it is |error|.
fn huber(error: f32, weight: f32, gradient: &mut f32) -> f32 {
    *gradient += (error / KNEE).clamp(-1.0, 1.0) * weight;
    let size = error.abs();
    if size < KNEE {
        size * size / (2.0 * KNEE)
    } else {
        size - KNEE / 2.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gradients_are_slopes() {
        let step = 1e-3;
        for at in [-2.0f32, -0.03, 0.01, 0.7] {
            for label in [false, true] {
                let (mut g, mut unused) = (0.0, 0.0);
                binary(at, label, &mut g, 1.0);
                let slope = (binary(at + step, label, &mut unused, 1.0)
                    - binary(at - step, label, &mut unused, 1.0))
                    / (2.0 * step);
                assert!((g - slope).abs() < 1e-2, "{g} {slope}");
            }
            let (mut g, mut unused) = (0.0, 0.0);
            huber(at, 1.0, &mut g);
            let slope = (huber(at + step, 1.0, &mut unused) - huber(at - step, 1.0, &mut unused))
                / (2.0 * step);
            assert!((g - slope).abs() < 5e-2, "{g} {slope}");
        }
        let logits = [0.3f32, -1.0, 2.0];
        let mut g = [0.0; 3];
        cross_entropy(&logits, 1, &mut g, 1.0);
        for i in 0..3 {
            let mut up = logits;
            up[i] += step;
            let mut down = logits;
            down[i] -= step;
            let mut unused = [0.0; 3];
            let slope = (cross_entropy(&up, 1, &mut unused, 1.0)
                - cross_entropy(&down, 1, &mut unused, 1.0))
                / (2.0 * step);
            assert!((g[i] - slope).abs() < 1e-2);
        }
    }
}
