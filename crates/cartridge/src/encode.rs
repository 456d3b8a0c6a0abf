//! (state, controllers) → the network's input vector.

use crate::plan::{InputRecord, ONE, Plan, TableRecord, input_op};
use worldline_abi::{InputBuffer, Pad, PlayerState, SessionState};

/// Writes the input vector (Q12): `input_len` elements, embeddings looked up in the cartridge's rows.
///
/// # Panics
/// If `out` is shorter than the plan's input vector or `embeddings` than its tables.
pub fn encode(
    plan: &Plan<'_>,
    embeddings: &[i16],
    state: &SessionState,
    inputs: &InputBuffer,
    out: &mut [i16],
) {
    walk(plan, state, inputs, out, |table, row, out| {
        let first = table.first as usize + row * out.len();
        out.copy_from_slice(&embeddings[first..first + out.len()]);
    });
}

/// The input vector as training sees it: everything but the embeddings, whose elements are left
/// alone, and the table row of each embedding feature in order.
///
/// Returns the number of rows written.
///
/// # Panics
/// If `out` is shorter than the plan's input vector or `rows` than its embedding features.
pub fn encode_raw(
    plan: &Plan<'_>,
    state: &SessionState,
    inputs: &InputBuffer,
    out: &mut [i16],
    rows: &mut [u16],
) -> usize {
    let mut next = 0;
    walk(plan, state, inputs, out, |_, row, _| {
        rows[next] = row as u16;
        next += 1;
    });
    next
}

fn walk(
    plan: &Plan<'_>,
    state: &SessionState,
    inputs: &InputBuffer,
    out: &mut [i16],
    mut embed: impl FnMut(&TableRecord, usize, &mut [i16]),
) {
    let mut next = 0;
    for player in 0..state.players.len() {
        let source = Source {
            plan,
            own: &state.players[player],
            other: &state.players[1 - player],
            pad: &inputs.slots[player].pad,
            stage: state.stage,
        };
        let features = plan.player_inputs.iter();
        next = features.fold(next, |at, feature| {
            source.write(feature, out, at, &mut embed)
        });
    }
    let source = Source {
        plan,
        own: &state.players[0],
        other: &state.players[1],
        pad: &inputs.slots[0].pad,
        stage: state.stage,
    };
    plan.global_inputs.iter().fold(next, |at, feature| {
        source.write(feature, out, at, &mut embed)
    });
}

/// What the features of one player are computed from.
struct Source<'a> {
    plan: &'a Plan<'a>,
    own: &'a PlayerState,
    other: &'a PlayerState,
    pad: &'a Pad,
    stage: u8,
}

impl Source<'_> {
    /// Writes a feature at `at` and returns where the next one begins.
    fn write(
        &self,
        feature: &InputRecord,
        out: &mut [i16],
        at: usize,
        embed: &mut impl FnMut(&TableRecord, usize, &mut [i16]),
    ) -> usize {
        let end = at + usize::from(feature.width);
        let own =
            || self.plan.fields[usize::from(feature.index)].read(bytemuck::cast_ref(self.own));
        let other =
            || self.plan.fields[usize::from(feature.index)].read(bytemuck::cast_ref(self.other));
        let mut lookup = |raw| {
            let table = &self.plan.tables[usize::from(feature.table)];
            embed(
                table,
                self.plan.embedding_row(table, raw),
                &mut out[at..end],
            );
        };
        out[at] = match feature.op {
            input_op::EMBED => {
                return {
                    lookup(own());
                    end
                };
            }
            input_op::STAGE => {
                return {
                    lookup(i32::from(self.stage));
                    end
                };
            }
            input_op::FIELD => scaled(feature, own().into()),
            input_op::DIFFERENCE => scaled(feature, i64::from(own()) - i64::from(other())),
            input_op::FLAG => flag(own() != 0),
            input_op::COUNTER => scaled(
                feature,
                self.own.counters[usize::from(feature.index)].into(),
            ),
            input_op::PAD_AXIS => scaled(feature, self.axis(feature.index).into()),
            input_op::PAD_BUTTON => flag(self.pad.buttons & feature.mask != 0),
            _ => ONE,
        };
        end
    }

    fn axis(&self, axis: u8) -> i32 {
        match axis {
            0 | 1 => self.pad.stick[usize::from(axis)].into(),
            2 | 3 => self.pad.cstick[usize::from(axis) - 2].into(),
            _ => self.pad.triggers[usize::from(axis) - 4].into(),
        }
    }
}

fn flag(set: bool) -> i16 {
    if set { ONE } else { 0 }
}

/// Round half up, then clip. |raw| < 2^33 and |mul| < 2^31 keep the product in i64 except at the very
/// corner, where it saturates.
fn scaled(feature: &InputRecord, raw: i64) -> i16 {
    let product = raw.saturating_mul(feature.mul.into());
    let half = (1i64 << feature.shift) >> 1;
    let value = product.saturating_add(half) >> feature.shift;
    let clip = i64::from(feature.clip);
    value.clamp(-clip, clip) as i16
}
