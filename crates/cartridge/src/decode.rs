//! The network's head rows → the next state.

use crate::plan::{MAX_FIELDS, NONE, Plan, SLOT_BYTES, TermRecord, UpdateRecord, update_op};
use worldline_abi::{PlayerState, SessionState, end_reason, status, winner};

/// Applies the head rows of a world to the state: updates, counters, frame, clock, end conditions.
/// The chain hash is the caller's.
///
/// # Panics
/// If `heads` is shorter than the plan's head rows.
pub fn decode(plan: &Plan<'_>, heads: &[i32], state: &mut SessionState) {
    let rows = plan.player_rows();
    for (player, heads) in state
        .players
        .iter_mut()
        .zip(heads.chunks_exact(rows.max(1)))
    {
        let hits = Decoder::new(plan, heads, player).run(player);
        state.rule_hits = state.rule_hits.saturating_add(hits);
    }
    state.frame = state.frame.saturating_add(1);
    if plan.header.clock_frames > 0 {
        state.clock = state.clock.saturating_sub(1);
    }
    end_match(plan, state);
}

/// The largest row's index; the first one of equals.
pub(crate) fn argmax(logits: &[i32]) -> usize {
    let mut best = 0;
    for (i, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = i;
        }
    }
    best
}

/// One player's fields on their way to the next frame.
struct Decoder<'a> {
    plan: &'a Plan<'a>,
    heads: &'a [i32],
    values: [i32; MAX_FIELDS],
    hits: u32,
}

impl<'a> Decoder<'a> {
    fn new(plan: &'a Plan<'a>, heads: &'a [i32], player: &PlayerState) -> Self {
        let slot: &[u8; SLOT_BYTES] = bytemuck::cast_ref(player);
        let mut values = [0; MAX_FIELDS];
        for (value, field) in values.iter_mut().zip(plan.fields) {
            *value = field.read(slot);
        }
        Self {
            plan,
            heads,
            values,
            hits: 0,
        }
    }

    /// Runs the updates, writes the fields and counters, and returns how often a clamp fired.
    fn run(mut self, player: &mut PlayerState) -> u32 {
        let before = self.values;
        for update in self.plan.updates {
            self.update(update);
        }
        let slot: &mut [u8; SLOT_BYTES] = bytemuck::cast_mut(player);
        for (field, value) in self.plan.fields.iter().zip(self.values) {
            field.write(slot, value);
        }
        for counter in self.plan.counters {
            let field = usize::from(counter.field);
            let count = &mut player.counters[usize::from(counter.index)];
            let changed = self.values[field] != before[field];
            *count = if changed { 0 } else { count.saturating_add(1) };
        }
        self.hits
    }

    fn update(&mut self, update: &UpdateRecord) {
        let field = usize::from(update.field);
        let old = self.values[field];
        let value = self.head(update.value);
        let gate = self.head(update.gate) > 0;
        let next = match update.op {
            update_op::CLASS => self.class(update.value),
            update_op::FLAG => i32::from(gate),
            update_op::DELTA => old.saturating_add(value),
            update_op::SET => value,
            update_op::INTEGRATE => self.integrate(update, old, value),
            update_op::GATED_ADD if gate => old.saturating_add(value),
            update_op::GATED_STEP if gate => old.saturating_add(update.constant),
            update_op::GATED_SET if gate => value.saturating_add(update.constant),
            _ => return,
        };
        let (next, clamped) = self.plan.fields[field].clamp(next);
        self.values[field] = next;
        self.hits += u32::from(clamped);
    }

    /// The first row of a head, 0 for [`NONE`].
    fn head(&self, head: u8) -> i32 {
        match head {
            NONE => 0,
            _ => self.heads[usize::from(self.plan.heads[usize::from(head)].first)],
        }
    }

    fn class(&self, head: u8) -> i32 {
        let head = &self.plan.heads[usize::from(head)];
        let first = usize::from(head.first);
        let winner = argmax(&self.heads[first..first + usize::from(head.rows)]);
        i32::from(self.plan.vocabulary(usize::from(head.of))[winner])
    }

    /// At most 128 terms of 2^47 and two i32 stay far inside i64.
    fn integrate(&self, update: &UpdateRecord, old: i32, correction: i32) -> i32 {
        let first = usize::from(update.first_term);
        let terms = &self.plan.terms[first..first + usize::from(update.terms)];
        let value = |field: u8| self.values[usize::from(field)];
        let holds =
            |t: &&TermRecord| t.selector == NONE || (value(t.selector) != 0) == (t.when == 1);
        let sum: i64 = terms
            .iter()
            .filter(holds)
            .map(|t| i64::from(value(t.field)) << t.shift)
            .sum();
        let next = sum + i64::from(old) + i64::from(correction);
        next.clamp(i32::MIN.into(), i32::MAX.into()) as i32
    }
}

/// Ends the match if a player has lost or the clock has run out.
fn end_match(plan: &Plan<'_>, state: &mut SessionState) {
    let read = |field: u8| {
        let field = &plan.fields[usize::from(field)];
        [0, 1].map(|p: usize| field.read(bytemuck::cast_ref(&state.players[p])))
    };
    let left = if plan.header.end_field == NONE {
        [1, 1]
    } else {
        read(plan.header.end_field)
    };
    let time = plan.header.clock_frames > 0 && state.clock == 0;
    if left.contains(&0) {
        state.end_reason = end_reason::STOCKS;
    } else if time {
        state.end_reason = end_reason::TIME;
    } else {
        return;
    }
    let tie = if time && plan.header.tie_field != NONE {
        read(plan.header.tie_field)
    } else {
        [0, 0]
    };
    state.status = status::ENDED;
    state.winner = match (left[0].cmp(&left[1])).then(tie[1].cmp(&tie[0])) {
        core::cmp::Ordering::Greater => 0,
        core::cmp::Ordering::Less => 1,
        core::cmp::Ordering::Equal => winner::DRAW,
    };
}
