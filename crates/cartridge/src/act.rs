//! A policy's turn: (state, hidden state, last controllers) → a pad.

use crate::model::Model;
use crate::plan::{NONE, UpdateRecord, update_op};
use crate::step::{Scratch, StepError, check, predict};
use worldline_abi::{InputBuffer, KIND_POLICY, MELEE_STICK_STEP, Pad, Page, SessionState};
use worldline_mamba2::{Kernels, math::split_mix_64, tables};

/// Fraction bits of a logit.
pub const LOGIT_BITS: u32 = 12;
/// 1/80 steps of a stick from its rest, at most.
const STICK_STEPS: i32 = 80;

/// A seat that a policy plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Actor {
    /// Which player of the state it is.
    pub seat: usize,
    /// State of its generator.
    pub generator: u64,
}

impl Actor {
    /// Uniform in `0..total`.
    fn below(&mut self, total: u32) -> u32 {
        (((split_mix_64(&mut self.generator) >> 32) * u64::from(total)) >> 32) as u32
    }

    /// An index drawn with probability softmax(logits).
    fn draw(&mut self, exp: &[i16], logits: &[i32]) -> usize {
        let most = logits.iter().copied().max().unwrap_or(0);
        let weight = |logit: &i32| {
            let below = i64::from(most) - i64::from(*logit);
            u32::from(tables::exp(exp, below << (24 - LOGIT_BITS)).unsigned_abs())
        };
        let mut left = self.below(logits.iter().map(weight).sum());
        let mut chosen = 0;
        for (index, logit) in logits.iter().enumerate() {
            let weight = weight(logit);
            if left < weight {
                chosen = index;
                break;
            }
            left -= weight;
        }
        chosen
    }
}

/// Plays one frame of a policy for the actor's seat and returns its pad.
///
/// `inputs` are the controllers that led to `state`. The policy sees itself as player 0. Its hidden
/// state is its own, in as many pages as its manifest says.
pub fn act<K: Kernels>(
    model: &Model<'_>,
    actor: &mut Actor,
    state: &SessionState,
    hidden: &mut [&mut Page],
    inputs: &InputBuffer,
    scratch: &mut Scratch,
    kernels: &K,
) -> Result<Pad, StepError> {
    check(model, KIND_POLICY, state, hidden.len())?;
    let (mut state, mut inputs) = (*state, *inputs);
    if actor.seat == 1 {
        state.players.swap(0, 1);
        inputs.slots.swap(0, 1);
    }
    let heads = predict(model, &state, hidden, &inputs, scratch, kernels)?;
    let mut pad = Pad::default();
    for update in model.plan().updates {
        choose(model, update, heads, actor, &mut pad);
    }
    Ok(pad)
}

fn choose(
    model: &Model<'_>,
    update: &UpdateRecord,
    heads: &[i32],
    actor: &mut Actor,
    pad: &mut Pad,
) {
    let plan = model.plan();
    let exp = model.tables().exp;
    if update.value == NONE {
        let row = usize::from(plan.heads[usize::from(update.gate)].first);
        if actor.draw(exp, &[0, heads[row]]) == 1 {
            pad.buttons |= update.constant as u16;
        }
        return;
    }
    let class = &plan.heads[usize::from(update.value)];
    let first = usize::from(class.first);
    let chosen = actor.draw(exp, &heads[first..first + usize::from(class.rows)]);
    let value = plan.vocabulary(usize::from(class.of))[chosen];
    match update.op {
        update_op::PAD_STICK => {
            let step = |byte: u16| (i32::from(byte) - 128).clamp(-STICK_STEPS, STICK_STEPS) as i16;
            let position = [step(value >> 8), step(value & 0xFF)].map(|s| s * MELEE_STICK_STEP);
            if update.field == 0 {
                pad.stick = position
            } else {
                pad.cstick = position
            }
        }
        update_op::PAD_TRIGGER => pad.triggers[usize::from(update.field)] = value.min(255) as u8,
        _ => pad.buttons |= value,
    }
}
