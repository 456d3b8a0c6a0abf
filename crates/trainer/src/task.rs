//! What a network is asked: inputs from states and pads, targets from the frames
//! that followed, and states back from its outputs. Encoding and decoding are the
//! cartridge's own, so training sees the very numbers that a match will.

use crate::dataset::PlayerFrame;
use crate::network::{Inputs, Place};
use crate::params::Sizes;
use std::ops::Range;
use worldline_abi::{
    InputBuffer, MELEE_STICK_STEP, PLAYERS, Pad, PlayerState, SessionState, status,
};
use worldline_cartridge::plan::{ONE, Plan};
use worldline_cartridge::schema::{
    CompiledSchema, HeadKind, Kind, Schema, SchemaError, Term, Update,
};
use worldline_cartridge::{decode, encode_raw};

/// Logits become integers with this many steps a unit before decoding.
const LOGIT_ONE: f32 = 65536.0;

/// An event that no number in the replay states, named by what starts it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Event {
    /// The gate that predicts it.
    pub gate: String,
    /// It happens on the frame on which this field …
    pub field: String,
    /// … takes one of these values.
    pub enters: Vec<u16>,
}

/// One thing to learn about one player.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Target {
    /// Cross-entropy over these rows; the class of a raw value is its place in `values`.
    Class {
        rows: Range<usize>,
        field: usize,
        values: Vec<u16>,
    },
    /// Whether the field is not 0 on the next frame.
    Flag { row: usize, field: usize },
    /// Whether the field rises (+1) or falls (-1).
    Moves { row: usize, field: usize, sign: i32 },
    /// Whether a named event happens.
    Event { row: usize, event: usize },
    /// The field's change; `relative` false: its value.
    Value {
        row: usize,
        field: usize,
        relative: bool,
        scale: f32,
        only: Only,
    },
    /// Policy: the nearest of these stick positions (units of the pad).
    Stick {
        rows: Range<usize>,
        stick: u8,
        positions: Vec<[f32; 2]>,
    },
    /// Policy: the nearest of these trigger values.
    Trigger {
        rows: Range<usize>,
        trigger: usize,
        values: Vec<u16>,
    },
    /// Policy: whether one of these buttons is down.
    Button { row: usize, mask: u16 },
    /// The field's next value by integration: rows of the speeds, and of the correction.
    Integrated {
        field: usize,
        terms: Vec<IntegratedTerm>,
        correction: usize,
        scale: f32,
        unless: Option<usize>,
    },
}

/// On which frames a value is learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Only {
    Always,
    /// When the field itself rose.
    Rises,
    /// When this event happens.
    Event(usize),
}

/// A speed inside an integration.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct IntegratedTerm {
    pub(crate) field: usize,
    /// The row that predicts the speed's change, and its training units per real unit.
    pub(crate) row: usize,
    pub(crate) scale: f32,
    pub(crate) when: Option<(usize, bool)>,
}

/// A target with its head's name: weights are given by name.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) player: usize,
    pub(crate) target: Target,
}

/// A world's schema, ready for training.
pub struct Task {
    /// The schema.
    pub schema: Schema,
    /// Where embeddings go.
    pub places: Vec<Place>,
    /// Network sizes that fit the schema.
    pub sizes: Sizes,
    pub(crate) targets: Vec<Named>,
    pub(crate) events: Vec<(usize, Vec<u16>)>,
    compiled: CompiledSchema,
    /// Per head row: integer steps a training unit.
    steps: Vec<f32>,
}

/// A frame's state of both players.
pub type Pair = [PlayerState; PLAYERS];

impl Task {
    /// Prepares a schema for a network of this width and depth.
    pub fn new(
        schema: Schema,
        events: &[Event],
        (d_model, layers, d_state): (usize, usize, usize),
    ) -> Result<Self, SchemaError> {
        let compiled = schema.compile()?;
        let embeddings = schema
            .tables
            .iter()
            .map(|t| (t.name.clone(), schema.table_rows(t), usize::from(t.width)))
            .collect();
        let places = schema
            .features()
            .iter()
            .filter_map(|f| {
                Some(Place {
                    table: f.table?,
                    column: f.position,
                })
            })
            .collect();
        let sizes = Sizes {
            d_model,
            layers,
            d_state,
            inputs: schema.input_len(),
            outputs: schema.head_rows(),
            embeddings,
        };
        let mut steps = Vec::new();
        for _ in 0..schema.head_players() {
            for head in &schema.heads {
                let step = match head.kind {
                    HeadKind::Value { .. } => schema.lsb_per_unit(head) as f32,
                    HeadKind::Class { .. } | HeadKind::Gate => LOGIT_ONE,
                };
                steps.extend(std::iter::repeat_n(step, schema.rows_of(head)));
            }
        }
        let known = |name: &str| field_index(&schema, name);
        let indexed: Vec<_> = events
            .iter()
            .map(|e| known(&e.field).map(|f| (f, e.enters.clone())))
            .collect::<Result<_, _>>()?;
        let targets = Targets {
            schema: &schema,
            events,
        }
        .list()?;
        Ok(Self {
            schema,
            places,
            sizes,
            targets,
            events: indexed,
            compiled,
            steps,
        })
    }

    /// The compiled schema's number.
    pub(crate) fn schema_id(&self) -> u32 {
        self.compiled.id()
    }

    /// The compiled schema.
    pub fn plan(&self) -> Plan<'_> {
        self.compiled.plan()
    }

    /// Which pads a token carries: a world reads those of the frame it predicts (1), a
    /// policy those of the frame it has just seen (0).
    pub(crate) fn lead(&self) -> usize {
        usize::from(self.schema.kind == Kind::World)
    }

    /// Appends one token: the state so far and the pads of the frame to predict.
    pub fn encode(
        &self,
        plan: &Plan<'_>,
        stage: u8,
        states: &Pair,
        pads: &[Pad; PLAYERS],
        inputs: &mut Inputs,
    ) {
        let mut session = SessionState {
            stage,
            players: *states,
            ..Default::default()
        };
        session.status = status::ACTIVE;
        let mut buffer = InputBuffer::default();
        for (slot, pad) in buffer.slots.iter_mut().zip(pads) {
            slot.pad = *pad;
        }
        let mut raw = [0i16; MAX_INPUTS];
        let mut rows = [0u16; MAX_PLACES];
        let n = self.sizes.inputs;
        let count = encode_raw(plan, &session, &buffer, &mut raw[..n], &mut rows);
        inputs
            .features
            .extend(raw[..n].iter().map(|v| f32::from(*v) / f32::from(ONE)));
        inputs.rows.extend_from_slice(&rows[..count]);
    }

    /// The state after a frame, from the outputs of its token.
    pub fn decode(&self, plan: &Plan<'_>, outputs: &[f32], states: &Pair) -> Pair {
        let heads: Vec<i32> = outputs
            .iter()
            .zip(&self.steps)
            .map(|(v, s)| (v * s).round() as i32)
            .collect();
        let mut session = SessionState {
            players: *states,
            clock: u32::MAX,
            ..Default::default()
        };
        decode(plan, &heads, &mut session);
        session.players
    }
}

/// Longest input vector and most embedded places that a task encodes.
const MAX_INPUTS: usize = 1024;
const MAX_PLACES: usize = 64;

/// The pair of states of a dataset frame.
pub fn states(frame: &[PlayerFrame; 2]) -> Pair {
    [frame[0].state(), frame[1].state()]
}

/// A packed stick position in the pad's units.
fn unpack(packed: u16) -> [f32; 2] {
    [packed >> 8, packed & 0xFF].map(|byte| (f32::from(byte) - 128.0) * f32::from(MELEE_STICK_STEP))
}

fn field_index(schema: &Schema, name: &str) -> Result<usize, SchemaError> {
    let unknown = || SchemaError::Unknown {
        what: "field",
        name: name.into(),
    };
    schema
        .fields
        .iter()
        .position(|f| f.name == name)
        .ok_or_else(unknown)
}

/// Derives targets from a schema's updates.
struct Targets<'a> {
    schema: &'a Schema,
    events: &'a [Event],
}

impl Targets<'_> {
    fn list(&self) -> Result<Vec<Named>, SchemaError> {
        let mut all = Vec::new();
        for player in 0..self.schema.head_players() {
            for update in &self.schema.updates {
                self.update(player, update, &mut all)?;
            }
        }
        let mut known = std::collections::BTreeSet::new();
        all.retain(|named: &Named| known.insert((named.player, named.name.clone())));
        Ok(all)
    }

    fn row(&self, player: usize, head: &str) -> Result<usize, SchemaError> {
        let unknown = || SchemaError::Unknown {
            what: "head",
            name: head.into(),
        };
        self.schema.head_row(player, head).ok_or_else(unknown)
    }

    /// A class head's rows and the values they stand for.
    fn class(&self, player: usize, head: &str) -> Result<(Range<usize>, Vec<u16>), SchemaError> {
        let row = self.row(player, head)?;
        let vocabulary = self.schema.heads.iter().find_map(|h| match &h.kind {
            HeadKind::Class { vocabulary } if h.name == *head => self.schema.vocabulary(vocabulary),
            _ => None,
        });
        let values = vocabulary.map_or_else(Vec::new, |v| v.values.clone());
        Ok((row..row + values.len(), values))
    }

    fn scale(&self, head: &str) -> f32 {
        let head = self.schema.heads.iter().find(|h| h.name == head);
        match head.map(|h| &h.kind) {
            Some(HeadKind::Value { value_scale, .. }) => *value_scale,
            _ => 1.0,
        }
    }

    fn update(
        &self,
        player: usize,
        update: &Update,
        all: &mut Vec<Named>,
    ) -> Result<(), SchemaError> {
        let mut push = |name: &str, target| {
            all.push(Named {
                name: name.into(),
                player,
                target,
            })
        };
        let field = |name: &str| field_index(self.schema, name);
        let event = |gate: &str| self.events.iter().position(|e| e.gate == gate);
        match update {
            Update::Class { field: f, head } => {
                let (rows, values) = self.class(player, head)?;
                push(
                    head,
                    Target::Class {
                        rows,
                        field: field(f)?,
                        values,
                    },
                );
            }
            Update::Flag { field: f, gate } => push(
                gate,
                Target::Flag {
                    row: self.row(player, gate)?,
                    field: field(f)?,
                },
            ),
            Update::Delta { field: f, value } | Update::Set { field: f, value } => {
                let relative = matches!(update, Update::Delta { .. });
                let (row, scale) = (self.row(player, value)?, self.scale(value));
                push(
                    value,
                    Target::Value {
                        row,
                        field: field(f)?,
                        relative,
                        scale,
                        only: Only::Always,
                    },
                );
            }
            Update::Integrate {
                field: f,
                terms,
                correction,
            } => {
                let Some(correction) = correction else {
                    return Ok(());
                };
                let terms = terms
                    .iter()
                    .map(|t| self.term(player, t))
                    .collect::<Result<_, _>>()?;
                let unless = self.schema.updates.iter().find_map(|u| match u {
                    Update::GatedSet { field, gate, .. } if field == f => event(gate),
                    _ => None,
                });
                let (row, scale) = (self.row(player, correction)?, self.scale(correction));
                push(
                    correction,
                    Target::Integrated {
                        field: field(f)?,
                        terms,
                        correction: row,
                        scale,
                        unless,
                    },
                );
            }
            Update::GatedAdd {
                field: f,
                gate,
                value,
            } => {
                push(
                    gate,
                    Target::Moves {
                        row: self.row(player, gate)?,
                        field: field(f)?,
                        sign: 1,
                    },
                );
                let (row, scale) = (self.row(player, value)?, self.scale(value));
                push(
                    value,
                    Target::Value {
                        row,
                        field: field(f)?,
                        relative: true,
                        scale,
                        only: Only::Rises,
                    },
                );
            }
            Update::GatedStep {
                field: f,
                gate,
                step,
            } => {
                push(
                    gate,
                    Target::Moves {
                        row: self.row(player, gate)?,
                        field: field(f)?,
                        sign: step.signum(),
                    },
                );
            }
            Update::GatedSet {
                field: f,
                gate,
                value,
                ..
            } => {
                let Some(event) = event(gate) else {
                    return Ok(());
                };
                push(
                    gate,
                    Target::Event {
                        row: self.row(player, gate)?,
                        event,
                    },
                );
                if let Some(value) = value {
                    let (row, scale) = (self.row(player, value)?, self.scale(value));
                    push(
                        value,
                        Target::Value {
                            row,
                            field: field(f)?,
                            relative: false,
                            scale,
                            only: Only::Event(event),
                        },
                    );
                }
            }
            Update::PadStick { stick, head } => {
                let (rows, values) = self.class(player, head)?;
                let (stick, positions) = (*stick, values.iter().map(|v| unpack(*v)).collect());
                push(
                    head,
                    Target::Stick {
                        rows,
                        stick,
                        positions,
                    },
                );
            }
            Update::PadTrigger { trigger, head } => {
                let (rows, values) = self.class(player, head)?;
                let trigger = usize::from(*trigger);
                push(
                    head,
                    Target::Trigger {
                        rows,
                        trigger,
                        values,
                    },
                );
            }
            Update::PadButton { gate, mask } => {
                let row = self.row(player, gate)?;
                push(gate, Target::Button { row, mask: *mask });
            }
            Update::PadButtons { .. } => {}
        }
        Ok(())
    }

    fn term(&self, player: usize, term: &Term) -> Result<IntegratedTerm, SchemaError> {
        let head = self.schema.updates.iter().find_map(|u| match u {
            Update::Delta { field, value } if *field == term.field => Some(value),
            _ => None,
        });
        let head = head.ok_or_else(|| SchemaError::Unknown {
            what: "predicted speed",
            name: term.field.clone(),
        })?;
        let when = match &term.when {
            Some((name, is)) => Some((field_index(self.schema, name)?, *is)),
            None => None,
        };
        Ok(IntegratedTerm {
            field: field_index(self.schema, &term.field)?,
            row: self.row(player, head)?,
            scale: self.scale(head),
            when,
        })
    }
}
