//! The author's form of a schema: names instead of indices, JSON, and what training needs.
//!
//! A schema says which integers of a player slot a world knows, how state and controllers become
//! the network's input vector, what the network's head rows mean, and how they change the state.
//! [`Schema::compile`] turns it into the [`Plan`] bytes that the step reads.

use crate::plan::*;
use bytemuck::Zeroable;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use worldline_abi::{KIND_POLICY, KIND_WORLD, PLAYERS};

pub use crate::melee::{melee, melee_policy};

/// What a cartridge predicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The next state.
    World,
    /// Player 0's next pad.
    Policy,
}

/// A schema. See the module's comment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Schema {
    /// What it is called, e.g. `melee`.
    pub name: String,
    /// World or policy.
    pub kind: Kind,
    /// Length of a match in frames; 0 means no clock.
    pub clock_frames: u32,
    /// The integers of a player slot.
    pub fields: Vec<Field>,
    /// The values of categorical fields and of class heads.
    pub vocabularies: Vec<Vocabulary>,
    /// Embedding tables.
    pub tables: Vec<Table>,
    /// Features of each player, player 0 first.
    pub player_inputs: Vec<Input>,
    /// Features after both players'.
    pub global_inputs: Vec<Input>,
    /// Heads of each player, player 0 first (a policy has player 0's only).
    pub heads: Vec<Head>,
    /// How the heads change the state, in this order.
    pub updates: Vec<Update>,
    /// Frames since a field changed.
    pub counters: Vec<Counter>,
    /// When a match ends, other than by its clock.
    pub end: Option<End>,
    /// Everything in the physics that is not learned.
    pub rules: Vec<Rule>,
}

/// An integer of a player slot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Field {
    /// Its name, e.g. `percent`.
    pub name: String,
    /// Byte offset in the slot.
    pub offset: u16,
    /// Its integer type.
    pub kind: FieldKind,
    /// Fractional bits: the value is raw / 2^frac_bits.
    pub frac_bits: u8,
    /// Smallest raw value; a write below is clamped and counted in `rule_hits`.
    pub min: i32,
    /// Largest raw value.
    pub max: i32,
}

/// The values a categorical field may take.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Vocabulary {
    /// Its name, e.g. `action`.
    pub name: String,
    /// Ascending.
    pub values: Vec<u16>,
    /// What to show for each value, if there is anything to show.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
}

/// An embedding table: a row for each value and a last one for all others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// Its name; the checkpoint's tensor is `embed.NAME.weight`.
    pub name: String,
    /// Its vocabulary's name.
    pub vocabulary: String,
    /// Elements of a row.
    pub width: u16,
}

/// `clip(raw * mul >> shift)`, rounded, in Q12.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scale {
    /// Multiplier.
    pub mul: i32,
    /// Rounding right shift, at most 31.
    pub shift: u8,
    /// Largest magnitude, Q12.
    pub clip: i16,
}

impl Scale {
    /// The largest magnitude that a kernel's two i8 planes hold: 7.97.
    pub const MAX_CLIP: i16 = 32_639;

    /// `units_per_one` raw units become 1.0, clipped to ±`clip` (at most 7.97).
    pub fn new(units_per_one: f64, clip: f64) -> Self {
        let factor = f64::from(ONE) / units_per_one;
        let mut shift = 0u8;
        while shift < 31 && factor * f64::from(1u32 << (shift + 1)) < 32768.0 {
            shift += 1;
        }
        Self {
            mul: (factor * f64::from(1u32 << shift)).round() as i32,
            shift,
            clip: (clip * f64::from(ONE)).min(f64::from(Self::MAX_CLIP)) as i16,
        }
    }
}

/// A feature of the input vector; all are Q12.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "from", rename_all = "snake_case")]
pub enum Input {
    /// A scaled field.
    Field {
        /// The field.
        field: String,
        /// Its scale.
        scale: Scale,
    },
    /// Own value less the other player's.
    Difference {
        /// The field.
        field: String,
        /// Its scale.
        scale: Scale,
    },
    /// 1.0 if the field is not 0.
    Flag {
        /// The field.
        field: String,
    },
    /// A scaled counter.
    Counter {
        /// Counter, 0 to 7.
        index: u8,
        /// Its scale.
        scale: Scale,
    },
    /// A scaled axis of the player's controller.
    PadAxis {
        /// 0 to 3 sticks (x, y, cx, cy), 4 and 5 triggers.
        axis: u8,
        /// Its scale.
        scale: Scale,
    },
    /// 1.0 if any of these buttons is down.
    PadButton {
        /// Button bits.
        mask: u16,
    },
    /// The table's row for the field's value.
    Embed {
        /// The field.
        field: String,
        /// The table.
        table: String,
    },
    /// The table's row for the stage.
    StageEmbed {
        /// The table.
        table: String,
    },
    /// 1.0.
    Const,
}

/// One or more rows of the network's output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Head {
    /// Its name.
    pub name: String,
    /// What its rows mean.
    #[serde(flatten)]
    pub kind: HeadKind,
}

/// What a head's rows mean.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum HeadKind {
    /// A row of logits per value of the vocabulary.
    Class {
        /// The vocabulary.
        vocabulary: String,
    },
    /// One logit.
    Gate,
    /// One number. The checkpoint's row gives real units of the field times `value_scale`.
    Value {
        /// The field that it serves.
        field: String,
        /// Training units per real unit.
        value_scale: f32,
    },
}

/// A field added to another, when a flag has a value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Term {
    /// The field added; it has at most as many fractional bits as the field it is added to.
    pub field: String,
    /// Only when this field is not 0 (`true`) or is 0 (`false`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<(String, bool)>,
}

/// A step of the decoding; fields and heads by name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Update {
    /// The field takes the most likely value.
    Class {
        /// Written.
        field: String,
        /// A class head.
        head: String,
    },
    /// The field is the gate, 0 or 1.
    Flag {
        /// Written.
        field: String,
        /// A gate.
        gate: String,
    },
    /// The value is added.
    Delta {
        /// Written.
        field: String,
        /// A value head.
        value: String,
    },
    /// The field is the value.
    Set {
        /// Written.
        field: String,
        /// A value head.
        value: String,
    },
    /// The terms (with the values they have by now) and a learned correction are added.
    Integrate {
        /// Written.
        field: String,
        /// Derivatives.
        terms: Vec<Term>,
        /// A value head.
        correction: Option<String>,
    },
    /// If the gate is open, the value is added.
    GatedAdd {
        /// Written.
        field: String,
        /// A gate.
        gate: String,
        /// A value head.
        value: String,
    },
    /// If the gate is open, the step is added.
    GatedStep {
        /// Written.
        field: String,
        /// A gate.
        gate: String,
        /// Raw units.
        step: i32,
    },
    /// If the gate is open, the field is the value plus a constant.
    GatedSet {
        /// Written.
        field: String,
        /// A gate.
        gate: String,
        /// A value head.
        value: Option<String>,
        /// Raw units.
        constant: i32,
    },
    /// Policy: a stick takes a drawn position, packed by [`pack_stick`].
    PadStick {
        /// 0 main, 1 c.
        stick: u8,
        /// A class head.
        head: String,
    },
    /// Policy: a trigger takes a drawn value.
    PadTrigger {
        /// 0 left, 1 right.
        trigger: u8,
        /// A class head.
        head: String,
    },
    /// Policy: drawn button bits are pressed.
    PadButtons {
        /// A class head.
        head: String,
    },
    /// Policy: the buttons are pressed with the gate's probability.
    PadButton {
        /// A gate.
        gate: String,
        /// Button bits.
        mask: u16,
    },
}

/// A stick position as a class value: x and y in 1/80 steps, offset by 128.
pub const fn pack_stick(x: i8, y: i8) -> u16 {
    ((x as i16 + 128) as u16) << 8 | (y as i16 + 128) as u16
}

/// The counter `index` counts the frames since the field changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Counter {
    /// Counter, 0 to 7.
    pub index: u8,
    /// The field watched.
    pub field: String,
}

/// The end of a match.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct End {
    /// A player whose field is 0 has lost; when the clock ends, the higher one wins.
    pub field: String,
    /// If those are level then, the lower value of this one wins.
    pub tie: Option<String>,
}

/// A part of the physics that is not learned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Its name.
    pub name: String,
    /// Why it is there.
    pub why: String,
}

/// Why a schema cannot be compiled or read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SchemaError {
    /// A name is used that is not defined.
    #[error("the schema has no {what} named {name:?}: define it, or correct the name")]
    Unknown {
        /// Field, vocabulary, table or head.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// More of something than the format holds.
    #[error("the schema has too many {what}: at most {most}")]
    TooMany {
        /// What.
        what: &'static str,
        /// The limit.
        most: usize,
    },
    /// A term is finer than the field it is added to.
    #[error("{term:?} has more fractional bits than {field:?} that it is added to: give it fewer")]
    Finer {
        /// The derivative.
        term: String,
        /// The field.
        field: String,
    },
    /// The compiled plan breaks a rule of the format.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// Not a schema's JSON.
    #[error("the schema's JSON cannot be read: {0}")]
    Json(String),
}

/// Where a feature lies in the input vector.
#[derive(Debug, Clone, PartialEq)]
pub struct Feature<'a> {
    /// First element.
    pub position: usize,
    /// Elements.
    pub width: usize,
    /// Whose feature, or the match's.
    pub player: Option<usize>,
    /// For an embedding, the index of its table.
    pub table: Option<usize>,
    /// What it is.
    pub input: &'a Input,
}

impl Schema {
    /// The input vector, feature by feature.
    pub fn features(&self) -> Vec<Feature<'_>> {
        let mut position = 0;
        let mut features = Vec::new();
        let inputs = [
            &self.player_inputs,
            &self.player_inputs,
            &self.global_inputs,
        ];
        for (owner, inputs) in inputs.into_iter().enumerate() {
            for input in inputs {
                let table = match input {
                    Input::Embed { table, .. } | Input::StageEmbed { table } => {
                        self.tables.iter().position(|t| t.name == *table)
                    }
                    _ => None,
                };
                let width = table.map_or(1, |t| usize::from(self.tables[t].width));
                let player = (owner < PLAYERS).then_some(owner);
                features.push(Feature {
                    position,
                    width,
                    player,
                    table,
                    input,
                });
                position += width;
            }
        }
        features
    }

    /// Elements of the input vector (embeddings included).
    pub fn input_len(&self) -> usize {
        self.features().last().map_or(0, |f| f.position + f.width)
    }

    /// A vocabulary by name.
    pub fn vocabulary(&self, name: &str) -> Option<&Vocabulary> {
        self.vocabularies.iter().find(|v| v.name == name)
    }

    /// Rows of a table: one per value of its vocabulary, and the last for all other values.
    pub fn table_rows(&self, table: &Table) -> usize {
        self.vocabulary(&table.vocabulary)
            .map_or(0, |v| v.values.len() + 1)
    }

    /// Rows of a head.
    pub fn rows_of(&self, head: &Head) -> usize {
        match &head.kind {
            HeadKind::Class { vocabulary } => {
                self.vocabulary(vocabulary).map_or(0, |v| v.values.len())
            }
            HeadKind::Gate | HeadKind::Value { .. } => 1,
        }
    }

    /// Players that have heads.
    pub fn head_players(&self) -> usize {
        match self.kind {
            Kind::World => PLAYERS,
            Kind::Policy => 1,
        }
    }

    /// Head rows of one player.
    pub fn player_rows(&self) -> usize {
        self.heads.iter().map(|h| self.rows_of(h)).sum()
    }

    /// Head rows over all players.
    pub fn head_rows(&self) -> usize {
        self.player_rows() * self.head_players()
    }

    /// First row of a player's head.
    pub fn head_row(&self, player: usize, name: &str) -> Option<usize> {
        let at = self.heads.iter().position(|h| h.name == name)?;
        let before: usize = self.heads[..at].iter().map(|h| self.rows_of(h)).sum();
        (player < self.head_players()).then(|| player * self.player_rows() + before)
    }

    /// Least significant bits of the served field per training unit; 1 for logits.
    pub fn lsb_per_unit(&self, head: &Head) -> f64 {
        match &head.kind {
            HeadKind::Value { field, value_scale } => {
                let frac = self
                    .fields
                    .iter()
                    .find(|f| f.name == *field)
                    .map_or(0, |f| f.frac_bits);
                f64::from(1u32 << frac) / f64::from(*value_scale)
            }
            HeadKind::Class { .. } | HeadKind::Gate => 1.0,
        }
    }

    /// The schema's number, which a match's state carries: [`plan_id`] of the compiled bytes.
    pub fn id(&self) -> Result<u32, SchemaError> {
        Ok(self.compile()?.id())
    }

    /// Reads the JSON form.
    pub fn from_json(json: &[u8]) -> Result<Self, SchemaError> {
        serde_json::from_slice(json).map_err(|e| SchemaError::Json(e.to_string()))
    }

    /// Writes the JSON form.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a schema has string keys and finite numbers")
    }

    /// The bytes that the step reads.
    pub fn compile(&self) -> Result<CompiledSchema, SchemaError> {
        let mut records = Records::default();
        for v in &self.vocabularies {
            let first = small(records.values.len(), "vocabulary values", MAX_VALUES)?;
            let count = small(v.values.len(), "vocabulary values", MAX_VALUES)?;
            records.vocabularies.push(VocabularyRecord { first, count });
            records.values.extend(&v.values);
        }
        let mut embedding_len = 0u32;
        for t in &self.tables {
            let vocabulary = u16::from(self.vocabulary_index(&t.vocabulary)?);
            records.tables.push(TableRecord {
                vocabulary,
                width: t.width,
                first: embedding_len,
            });
            embedding_len += self.table_rows(t) as u32 * u32::from(t.width);
        }
        let player_inputs = self.compile_inputs(&self.player_inputs)?;
        let global_inputs = self.compile_inputs(&self.global_inputs)?;
        let mut first = 0;
        for head in &self.heads {
            let (kind, of) = match &head.kind {
                HeadKind::Class { vocabulary } => {
                    (head_kind::CLASS, self.vocabulary_index(vocabulary)?)
                }
                HeadKind::Gate => (head_kind::GATE, NONE),
                HeadKind::Value { field, .. } => (head_kind::VALUE, self.field_index(field)?),
            };
            let rows = small(self.rows_of(head), "head rows", MAX_HEAD_ROWS)?;
            records.heads.push(HeadRecord {
                kind,
                of,
                first,
                rows,
                room: 0,
            });
            first = small(
                usize::from(first) + usize::from(rows),
                "head rows",
                MAX_HEAD_ROWS,
            )?;
        }
        for update in &self.updates {
            let record = self.compile_update(update, &mut records.terms)?;
            records.updates.push(record);
        }
        for c in &self.counters {
            let field = self.field_index(&c.field)?;
            records.counters.push(CounterRecord {
                index: c.index,
                field,
                room: 0,
            });
        }
        let header = PlanHeader {
            version: PLAN_VERSION,
            kind: if self.kind == Kind::World {
                KIND_WORLD
            } else {
                KIND_POLICY
            },
            head_players: self.head_players() as u8,
            clock_frames: self.clock_frames,
            fields: small(self.fields.len(), "fields", MAX_FIELDS)?,
            vocabularies: small(records.vocabularies.len(), "vocabularies", MAX_RECORDS)?,
            values: small(records.values.len(), "vocabulary values", MAX_VALUES)?,
            tables: small(records.tables.len(), "embedding tables", MAX_RECORDS)?,
            player_inputs: small(player_inputs.len(), "player inputs", MAX_INPUTS)?,
            global_inputs: small(global_inputs.len(), "global inputs", MAX_INPUTS)?,
            heads: small(records.heads.len(), "heads", MAX_RECORDS)?,
            updates: small(records.updates.len(), "updates", MAX_RECORDS)?,
            terms: small(records.terms.len(), "terms", MAX_RECORDS)?,
            counters: small(records.counters.len(), "counters", MAX_RECORDS)?,
            input_len: small(self.input_len(), "input elements", MAX_INPUT_LEN)?,
            head_rows: small(self.head_rows(), "head rows", MAX_HEAD_ROWS)?,
            embedding_len,
            end_field: self
                .end
                .as_ref()
                .map_or(Ok(NONE), |e| self.field_index(&e.field))?,
            tie_field: match self.end.as_ref().and_then(|e| e.tie.as_ref()) {
                Some(field) => self.field_index(field)?,
                None => NONE,
            },
            room: [0; 26],
        };
        let mut bytes = Vec::new();
        append(&mut bytes, &[header]);
        append(
            &mut bytes,
            &self.fields.iter().map(field_record).collect::<Vec<_>>(),
        );
        append(&mut bytes, &records.vocabularies);
        append(&mut bytes, &records.tables);
        append(&mut bytes, &player_inputs);
        append(&mut bytes, &global_inputs);
        append(&mut bytes, &records.heads);
        append(&mut bytes, &records.updates);
        append(&mut bytes, &records.terms);
        append(&mut bytes, &records.counters);
        append(&mut bytes, &records.values);
        CompiledSchema::new(&bytes)
    }

    fn compile_inputs(&self, inputs: &[Input]) -> Result<Vec<InputRecord>, SchemaError> {
        let mut position = 0;
        let record = |input: &Input| {
            let mut r = InputRecord {
                width: 1,
                position,
                ..InputRecord::zeroed()
            };
            match input {
                Input::Field { field, scale } => {
                    r.set(input_op::FIELD, self.field_index(field)?, *scale)
                }
                Input::Difference { field, scale } => {
                    r.set(input_op::DIFFERENCE, self.field_index(field)?, *scale);
                }
                Input::Counter { index, scale } => r.set(input_op::COUNTER, *index, *scale),
                Input::PadAxis { axis, scale } => r.set(input_op::PAD_AXIS, *axis, *scale),
                Input::Flag { field } => {
                    (r.op, r.index) = (input_op::FLAG, self.field_index(field)?)
                }
                Input::PadButton { mask } => (r.op, r.mask) = (input_op::PAD_BUTTON, *mask),
                Input::Embed { field, table } => {
                    (r.op, r.index) = (input_op::EMBED, self.field_index(field)?);
                    (r.table, r.width) = self.table_index(table)?;
                }
                Input::StageEmbed { table } => {
                    r.op = input_op::STAGE;
                    (r.table, r.width) = self.table_index(table)?;
                }
                Input::Const => r.op = input_op::CONST,
            }
            position += r.width;
            Ok(r)
        };
        inputs.iter().map(record).collect()
    }

    fn compile_update(
        &self,
        update: &Update,
        terms: &mut Vec<TermRecord>,
    ) -> Result<UpdateRecord, SchemaError> {
        let mut r = UpdateRecord {
            gate: NONE,
            value: NONE,
            ..UpdateRecord::zeroed()
        };
        match update {
            Update::Class { field, head } => {
                (r.op, r.field, r.value) = (
                    update_op::CLASS,
                    self.field_index(field)?,
                    self.head_index(head)?,
                );
            }
            Update::Flag { field, gate } => {
                (r.op, r.field, r.gate) = (
                    update_op::FLAG,
                    self.field_index(field)?,
                    self.head_index(gate)?,
                );
            }
            Update::Delta { field, value } => {
                (r.op, r.field, r.value) = (
                    update_op::DELTA,
                    self.field_index(field)?,
                    self.head_index(value)?,
                );
            }
            Update::Set { field, value } => {
                (r.op, r.field, r.value) = (
                    update_op::SET,
                    self.field_index(field)?,
                    self.head_index(value)?,
                );
            }
            Update::Integrate {
                field,
                terms: list,
                correction,
            } => {
                (r.op, r.field) = (update_op::INTEGRATE, self.field_index(field)?);
                if let Some(head) = correction {
                    r.value = self.head_index(head)?;
                }
                r.first_term = small(terms.len(), "terms", MAX_RECORDS)?;
                r.terms = small(list.len(), "terms", MAX_RECORDS)?;
                for term in list {
                    terms.push(self.compile_term(term, r.field)?);
                }
            }
            Update::GatedAdd { field, gate, value } => {
                (r.op, r.field) = (update_op::GATED_ADD, self.field_index(field)?);
                (r.gate, r.value) = (self.head_index(gate)?, self.head_index(value)?);
            }
            Update::GatedStep { field, gate, step } => {
                (r.op, r.field) = (update_op::GATED_STEP, self.field_index(field)?);
                (r.gate, r.constant) = (self.head_index(gate)?, *step);
            }
            Update::GatedSet {
                field,
                gate,
                value,
                constant,
            } => {
                (r.op, r.field) = (update_op::GATED_SET, self.field_index(field)?);
                (r.gate, r.constant) = (self.head_index(gate)?, *constant);
                if let Some(head) = value {
                    r.value = self.head_index(head)?;
                }
            }
            Update::PadStick { stick, head } => {
                (r.op, r.field, r.value) = (update_op::PAD_STICK, *stick, self.head_index(head)?);
            }
            Update::PadTrigger { trigger, head } => {
                (r.op, r.field, r.value) =
                    (update_op::PAD_TRIGGER, *trigger, self.head_index(head)?);
            }
            Update::PadButtons { head } => {
                (r.op, r.value) = (update_op::PAD_BUTTONS, self.head_index(head)?)
            }
            Update::PadButton { gate, mask } => {
                (r.op, r.gate, r.constant) = (
                    update_op::PAD_BUTTON,
                    self.head_index(gate)?,
                    i32::from(*mask),
                );
            }
        }
        Ok(r)
    }

    fn compile_term(&self, term: &Term, onto: u8) -> Result<TermRecord, SchemaError> {
        let field = self.field_index(&term.field)?;
        let (selector, when) = match &term.when {
            Some((flag, value)) => (self.field_index(flag)?, u8::from(*value)),
            None => (NONE, 0),
        };
        let onto = &self.fields[usize::from(onto)];
        let bits = self.fields[usize::from(field)].frac_bits;
        let finer = || SchemaError::Finer {
            term: term.field.clone(),
            field: onto.name.clone(),
        };
        let shift = onto.frac_bits.checked_sub(bits).ok_or_else(finer)?;
        Ok(TermRecord {
            field,
            selector,
            when,
            shift,
        })
    }

    fn field_index(&self, name: &str) -> Result<u8, SchemaError> {
        index("field", name, self.fields.iter().map(|f| &f.name))
    }

    fn vocabulary_index(&self, name: &str) -> Result<u8, SchemaError> {
        index(
            "vocabulary",
            name,
            self.vocabularies.iter().map(|v| &v.name),
        )
    }

    fn head_index(&self, name: &str) -> Result<u8, SchemaError> {
        index("head", name, self.heads.iter().map(|h| &h.name))
    }

    fn table_index(&self, name: &str) -> Result<(u8, u16), SchemaError> {
        let at = index("embedding table", name, self.tables.iter().map(|t| &t.name))?;
        Ok((at, self.tables[usize::from(at)].width))
    }
}

/// A compiled schema that owns its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompiledSchema {
    /// Words, because a plan must be aligned.
    words: Vec<u32>,
}

impl CompiledSchema {
    fn new(bytes: &[u8]) -> Result<Self, SchemaError> {
        let mut words = vec![0; bytes.len() / 4];
        bytemuck::cast_slice_mut(&mut words).copy_from_slice(bytes);
        let compiled = Self { words };
        Plan::parse(compiled.bytes())?;
        Ok(compiled)
    }

    /// The plan; encoding and decoding take it.
    pub fn plan(&self) -> Plan<'_> {
        Plan::parse(self.bytes()).expect("checked when it was made")
    }

    /// The bytes, as a cartridge holds them.
    pub fn bytes(&self) -> &[u8] {
        bytemuck::cast_slice(&self.words)
    }

    /// The schema's number.
    pub fn id(&self) -> u32 {
        plan_id(self.bytes())
    }
}

/// The records whose number is known only when all are made.
#[derive(Default)]
struct Records {
    vocabularies: Vec<VocabularyRecord>,
    values: Vec<u16>,
    tables: Vec<TableRecord>,
    heads: Vec<HeadRecord>,
    updates: Vec<UpdateRecord>,
    terms: Vec<TermRecord>,
    counters: Vec<CounterRecord>,
}

impl InputRecord {
    fn set(&mut self, op: u8, index: u8, scale: Scale) {
        (self.op, self.index) = (op, index);
        (self.mul, self.shift, self.clip) = (scale.mul, scale.shift, scale.clip);
    }
}

fn field_record(f: &Field) -> FieldRecord {
    FieldRecord {
        offset: f.offset,
        kind: f.kind as u8,
        frac_bits: f.frac_bits,
        min: f.min,
        max: f.max,
        room: [0; 4],
    }
}

fn index<'a>(
    what: &'static str,
    name: &str,
    mut names: impl Iterator<Item = &'a String>,
) -> Result<u8, SchemaError> {
    let at = names
        .position(|n| n == name)
        .ok_or_else(|| SchemaError::Unknown {
            what,
            name: name.into(),
        })?;
    small(at, what, MAX_RECORDS).map(|at| at as u8)
}

fn small(n: usize, what: &'static str, most: usize) -> Result<u16, SchemaError> {
    if n > most {
        Err(SchemaError::TooMany { what, most })
    } else {
        Ok(n as u16)
    }
}

fn append<T: bytemuck::Pod>(bytes: &mut Vec<u8>, records: &[T]) {
    bytes.extend_from_slice(bytemuck::cast_slice(records));
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}
