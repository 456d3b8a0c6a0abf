//! The compiled schema: fixed-size records that the step reads in place.
//!
//! [`Plan::parse`] checks every index and range once, so that encoding and decoding can trust
//! them. The author's form, with names, is `schema::Schema` (feature `std`), whose `compile`
//! writes these bytes. `docs/formats.md` gives them to the byte.

use bytemuck::{Pod, Zeroable};
use thiserror::Error;
use worldline_abi::{COUNTERS, KIND_POLICY, KIND_WORLD, PLAYERS, PlayerState};

/// Version of the binary schema that this crate reads and writes.
pub const PLAN_VERSION: u16 = 1;
/// Most fields in a player slot.
pub const MAX_FIELDS: usize = 32;
/// Most features of one player, and most global features (a bound for corrupt files).
pub const MAX_INPUTS: usize = 128;
/// Longest input vector, in i16 elements.
pub const MAX_INPUT_LEN: usize = 512;
/// Most rows over all heads of all players.
pub const MAX_HEAD_ROWS: usize = 1024;
/// Most heads, updates, terms, counters, vocabularies and tables, each.
pub const MAX_RECORDS: usize = 128;
/// Most values over all vocabularies.
pub const MAX_VALUES: usize = 8192;
/// Widest embedding, in i16 elements.
pub const MAX_WIDTH: usize = 128;
/// "No field", "no head" in a one-byte index.
pub const NONE: u8 = 0xFF;
/// Bytes of a player slot that a field may lie in.
pub const SLOT_BYTES: usize = size_of::<PlayerState>();
/// 1.0 of an input feature (Q12).
pub const ONE: i16 = 4096;

/// First 64 bytes of a plan; the arrays follow in the order of the counts, each padded to 4 bytes.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
pub struct PlanHeader {
    /// [`PLAN_VERSION`].
    pub version: u16,
    /// [`KIND_WORLD`] or [`KIND_POLICY`].
    pub kind: u8,
    /// How many players have heads: 2 in a world, 1 in a policy.
    pub head_players: u8,
    /// Length of a match in frames; 0 means no clock.
    pub clock_frames: u32,
    /// Number of [`FieldRecord`]s.
    pub fields: u16,
    /// Number of [`VocabularyRecord`]s.
    pub vocabularies: u16,
    /// Number of u16 values over all vocabularies.
    pub values: u16,
    /// Number of [`TableRecord`]s.
    pub tables: u16,
    /// Number of [`InputRecord`]s applied to each player.
    pub player_inputs: u16,
    /// Number of [`InputRecord`]s after those.
    pub global_inputs: u16,
    /// Number of [`HeadRecord`]s of each player.
    pub heads: u16,
    /// Number of [`UpdateRecord`]s of each player.
    pub updates: u16,
    /// Number of [`TermRecord`]s over all updates.
    pub terms: u16,
    /// Number of [`CounterRecord`]s.
    pub counters: u16,
    /// Elements of the input vector.
    pub input_len: u16,
    /// Head rows over all players.
    pub head_rows: u16,
    /// i16 elements over all embedding tables.
    pub embedding_len: u32,
    /// A player whose field reaches 0 has lost; [`NONE`] without such a rule.
    pub end_field: u8,
    /// The lower value of this field wins when the clock ends a level match; [`NONE`]: a draw.
    pub tie_field: u8,
    /// Zero.
    pub room: [u8; 26],
}

/// One integer in a player slot.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
pub struct FieldRecord {
    /// Byte offset in the slot.
    pub offset: u16,
    /// A [`FieldKind`] as u8.
    pub kind: u8,
    /// Fractional bits of the raw value.
    pub frac_bits: u8,
    /// Smallest raw value; writes below are clamped and counted.
    pub min: i32,
    /// Largest raw value.
    pub max: i32,
    /// Zero.
    pub room: [u8; 4],
}

/// Integer type of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(
    feature = "std",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
#[repr(u8)]
pub enum FieldKind {
    /// One byte, unsigned.
    U8 = 0,
    /// Two bytes, unsigned.
    U16 = 1,
    /// Two bytes, signed.
    I16 = 2,
    /// Four bytes, signed.
    I32 = 3,
}

impl FieldKind {
    /// The kind of this number.
    pub const fn from_u8(kind: u8) -> Option<Self> {
        Some(match kind {
            0 => Self::U8,
            1 => Self::U16,
            2 => Self::I16,
            3 => Self::I32,
            _ => return None,
        })
    }

    /// Bytes in the slot.
    pub const fn size(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::U16 | Self::I16 => 2,
            Self::I32 => 4,
        }
    }

    /// Smallest and largest raw value.
    pub const fn range(self) -> (i32, i32) {
        match self {
            Self::U8 => (0, u8::MAX as i32),
            Self::U16 => (0, u16::MAX as i32),
            Self::I16 => (i16::MIN as i32, i16::MAX as i32),
            Self::I32 => (i32::MIN, i32::MAX),
        }
    }
}

impl FieldRecord {
    /// The field's raw value in a player slot.
    pub fn read(&self, slot: &[u8; SLOT_BYTES]) -> i32 {
        let at = &slot[self.offset as usize..];
        match self.kind {
            0 => i32::from(at[0]),
            1 => i32::from(u16::from_le_bytes([at[0], at[1]])),
            2 => i32::from(i16::from_le_bytes([at[0], at[1]])),
            _ => i32::from_le_bytes([at[0], at[1], at[2], at[3]]),
        }
    }

    /// Writes a raw value that lies in the kind's range.
    pub fn write(&self, slot: &mut [u8; SLOT_BYTES], value: i32) {
        let size = match self.kind {
            0 => 1,
            1 | 2 => 2,
            _ => 4,
        };
        let at = self.offset as usize;
        slot[at..at + size].copy_from_slice(&value.to_le_bytes()[..size]);
    }

    /// The value inside the field's range, and whether it had to move.
    pub fn clamp(&self, value: i32) -> (i32, bool) {
        let inside = value.clamp(self.min, self.max);
        (inside, inside != value)
    }
}

/// The values a categorical field may take, ascending: `values[first..first + count]`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
pub struct VocabularyRecord {
    /// First value.
    pub first: u16,
    /// Number of values.
    pub count: u16,
}

/// An embedding table of `count + 1` rows, the last for a value outside the vocabulary.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
pub struct TableRecord {
    /// Index of its vocabulary.
    pub vocabulary: u16,
    /// Elements of a row.
    pub width: u16,
    /// First element in the embeddings section.
    pub first: u32,
}

/// Feature operations. All features are i16 Q12: 1.0 = [`ONE`].
pub mod input_op {
    /// `clip(raw(field) * mul >> shift)`.
    pub const FIELD: u8 = 0;
    /// `clip((own raw - other raw) * mul >> shift)`.
    pub const DIFFERENCE: u8 = 1;
    /// 1.0 if the field is not 0.
    pub const FLAG: u8 = 2;
    /// `clip(counter * mul >> shift)`.
    pub const COUNTER: u8 = 3;
    /// `clip(axis * mul >> shift)`; axes 0 to 3 sticks (x, y, cx, cy), 4 and 5 triggers.
    pub const PAD_AXIS: u8 = 4;
    /// 1.0 if any button of the mask is down.
    pub const PAD_BUTTON: u8 = 5;
    /// The table's row for the field's value.
    pub const EMBED: u8 = 6;
    /// The table's row for the stage.
    pub const STAGE: u8 = 7;
    /// 1.0.
    pub const CONST: u8 = 8;
}

/// One feature of the input vector.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
pub struct InputRecord {
    /// One of [`input_op`].
    pub op: u8,
    /// Field, counter or axis.
    pub index: u8,
    /// Embedding table.
    pub table: u8,
    /// Rounding right shift, at most 31.
    pub shift: u8,
    /// Multiplier.
    pub mul: i32,
    /// Largest magnitude of the feature, Q12.
    pub clip: i16,
    /// Button mask.
    pub mask: u16,
    /// First element, counted from the player's (or the globals') first.
    pub position: u16,
    /// Elements: 1, or the table's width.
    pub width: u16,
}

/// What a head's rows mean.
pub mod head_kind {
    /// One row per value of a vocabulary; the largest wins.
    pub const CLASS: u8 = 0;
    /// One row; true if above 0.
    pub const GATE: u8 = 1;
    /// One row, in the least significant bit of a field.
    pub const VALUE: u8 = 2;
}

/// One head of each player.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
pub struct HeadRecord {
    /// One of [`head_kind`].
    pub kind: u8,
    /// Vocabulary of a class head, field of a value head, else [`NONE`].
    pub of: u8,
    /// First row, counted from the player's first.
    pub first: u16,
    /// Rows.
    pub rows: u16,
    /// Zero.
    pub room: u16,
}

/// What an update does; they run in order, on the values that the ones before left.
pub mod update_op {
    /// field = the winning value of the class head `value`.
    pub const CLASS: u8 = 0;
    /// field = gate.
    pub const FLAG: u8 = 1;
    /// field += value.
    pub const DELTA: u8 = 2;
    /// field = value.
    pub const SET: u8 = 3;
    /// field += its terms + value (if any).
    pub const INTEGRATE: u8 = 4;
    /// if gate: field += value.
    pub const GATED_ADD: u8 = 5;
    /// if gate: field += constant.
    pub const GATED_STEP: u8 = 6;
    /// if gate: field = value (if any) + constant.
    pub const GATED_SET: u8 = 7;
    /// Pad: stick `field` (0 main, 1 c) takes the class value, two offset bytes of 1/80 steps.
    pub const PAD_STICK: u8 = 16;
    /// Pad: trigger `field` takes the class value.
    pub const PAD_TRIGGER: u8 = 17;
    /// Pad: the class value is or-ed into the buttons.
    pub const PAD_BUTTONS: u8 = 18;
    /// Pad: if gate, the constant is or-ed into the buttons.
    pub const PAD_BUTTON: u8 = 19;
}

/// One step of the decoding of each player.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
pub struct UpdateRecord {
    /// One of [`update_op`].
    pub op: u8,
    /// The field written.
    pub field: u8,
    /// Gate head, or [`NONE`].
    pub gate: u8,
    /// Class or value head, or [`NONE`].
    pub value: u8,
    /// First term.
    pub first_term: u16,
    /// Number of terms.
    pub terms: u16,
    /// Step, absolute value or button mask.
    pub constant: i32,
}

/// A derivative: a field added to another, shifted from its own unit to the other's.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
pub struct TermRecord {
    /// The field added.
    pub field: u8,
    /// Only when this field ...
    pub selector: u8,
    /// ... is 0 (0) or is not 0 (1); a selector of [`NONE`] means always.
    pub when: u8,
    /// Left shift, 0 to 16.
    pub shift: u8,
}

/// The counter `index` counts the frames since the field changed, saturating.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
pub struct CounterRecord {
    /// Counter, 0 to 7.
    pub index: u8,
    /// The field watched.
    pub field: u8,
    /// Zero.
    pub room: u16,
}

const _: () = {
    assert!(size_of::<PlanHeader>() == 64);
    assert!(size_of::<FieldRecord>() == 16);
    assert!(size_of::<VocabularyRecord>() == 4);
    assert!(size_of::<TableRecord>() == 8);
    assert!(size_of::<InputRecord>() == 16);
    assert!(size_of::<HeadRecord>() == 8);
    assert!(size_of::<UpdateRecord>() == 12);
    assert!(size_of::<TermRecord>() == 4);
    assert!(size_of::<CounterRecord>() == 4);
};

/// Why bytes are not a plan that this build can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PlanError {
    /// The version is another one.
    #[error(
        "the schema has version {0}, this build reads {PLAN_VERSION}: rebuild the cartridge, or use the release that wrote it"
    )]
    Version(u16),
    /// The length does not follow from the counts, or the bytes are not aligned to 4.
    #[error("the schema is cut short or misaligned: get the cartridge again")]
    Size,
    /// A record points outside, or a number leaves its range.
    #[error(
        "the schema's {0} are not valid: get the cartridge again, or fix the schema it was built from"
    )]
    Invalid(&'static str),
}

/// A checked view of a compiled schema.
#[derive(Debug, Clone, Copy)]
pub struct Plan<'a> {
    /// Counts and rules.
    pub header: &'a PlanHeader,
    /// Fields of a player slot.
    pub fields: &'a [FieldRecord],
    /// Vocabularies.
    pub vocabularies: &'a [VocabularyRecord],
    /// Embedding tables.
    pub tables: &'a [TableRecord],
    /// Features of each player.
    pub player_inputs: &'a [InputRecord],
    /// Features of the match.
    pub global_inputs: &'a [InputRecord],
    /// Heads of each player.
    pub heads: &'a [HeadRecord],
    /// Decoding of each player.
    pub updates: &'a [UpdateRecord],
    /// Derivatives.
    pub terms: &'a [TermRecord],
    /// Counters.
    pub counters: &'a [CounterRecord],
    /// Values of the vocabularies.
    pub values: &'a [u16],
}

/// The number of a schema: 32-bit FNV-1a over its compiled bytes.
pub fn plan_id(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, &byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

/// Cuts typed arrays off a byte slice; each starts at a multiple of 4.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take<T: Pod>(&mut self, count: u16) -> Result<&'a [T], PlanError> {
        let bytes = usize::from(count) * size_of::<T>();
        let padded = bytes.next_multiple_of(4);
        if self.0.len() < padded {
            return Err(PlanError::Size);
        }
        let (head, rest) = self.0.split_at(padded);
        if head[bytes..].iter().any(|&b| b != 0) {
            return Err(PlanError::Size);
        }
        self.0 = rest;
        bytemuck::try_cast_slice(&head[..bytes]).map_err(|_| PlanError::Size)
    }
}

impl<'a> Plan<'a> {
    /// Reads and checks a plan.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, PlanError> {
        let plan = Self::view(bytes)?;
        plan.check()?;
        Ok(plan)
    }

    /// Finds the arrays and trusts their contents: for bytes that [`Plan::parse`] accepted before.
    pub fn view(bytes: &'a [u8]) -> Result<Self, PlanError> {
        let mut reader = Reader(bytes);
        let header = &reader.take::<PlanHeader>(1)?[0];
        if header.version != PLAN_VERSION {
            return Err(PlanError::Version(header.version));
        }
        let plan = Self {
            header,
            fields: reader.take(header.fields)?,
            vocabularies: reader.take(header.vocabularies)?,
            tables: reader.take(header.tables)?,
            player_inputs: reader.take(header.player_inputs)?,
            global_inputs: reader.take(header.global_inputs)?,
            heads: reader.take(header.heads)?,
            updates: reader.take(header.updates)?,
            terms: reader.take(header.terms)?,
            counters: reader.take(header.counters)?,
            values: reader.take(header.values)?,
        };
        if !reader.0.is_empty() {
            return Err(PlanError::Size);
        }
        Ok(plan)
    }

    /// Checks every index and range.
    pub(crate) fn check(&self) -> Result<(), PlanError> {
        let h = self.header;
        let players_ok = match h.kind {
            KIND_WORLD => usize::from(h.head_players) == PLAYERS,
            KIND_POLICY => h.head_players == 1,
            _ => false,
        };
        require(players_ok && h.room == [0; 26], "kind and players")?;
        let ends = [h.end_field, h.tie_field];
        require(
            ends.iter().all(|&f| f == NONE || self.is_field(f)),
            "end conditions",
        )?;
        require(
            self.fields.len() <= MAX_FIELDS && self.fields.iter().all(field_ok),
            "fields",
        )?;
        require(
            h.values as usize <= MAX_VALUES && self.vocabularies_ok(),
            "vocabularies",
        )?;
        require(self.tables_ok(), "embedding tables")?;
        let player = self.inputs_len(self.player_inputs, true);
        let global = self.inputs_len(self.global_inputs, false);
        let total = player.zip(global).map(|(p, g)| PLAYERS * p + g);
        require(
            total == Some(usize::from(h.input_len)) && total <= Some(MAX_INPUT_LEN),
            "inputs",
        )?;
        require(self.heads_ok(), "heads")?;
        require(
            self.terms.len() <= MAX_RECORDS && self.terms.iter().all(|t| self.term_ok(t)),
            "terms",
        )?;
        require(
            self.updates.len() <= MAX_RECORDS && self.updates.iter().all(|u| self.update_ok(u)),
            "updates",
        )?;
        let counter_ok = |c: &CounterRecord| {
            usize::from(c.index) < COUNTERS && self.is_field(c.field) && c.room == 0
        };
        require(
            self.counters.len() <= MAX_RECORDS && self.counters.iter().all(counter_ok),
            "counters",
        )
    }

    fn is_field(&self, index: u8) -> bool {
        usize::from(index) < self.fields.len()
    }

    fn vocabularies_ok(&self) -> bool {
        let mut next = 0usize;
        let ordered = self.vocabularies.iter().all(|v| {
            let first = next;
            next += usize::from(v.count);
            usize::from(v.first) == first
                && v.count > 0
                && self
                    .values
                    .get(first..next)
                    .is_some_and(|v| v.is_sorted_by(|a, b| a < b))
        });
        self.vocabularies.len() <= MAX_RECORDS && ordered && next == self.values.len()
    }

    fn tables_ok(&self) -> bool {
        let mut next = 0u32;
        let ordered = self.tables.iter().all(|t| {
            let first = next;
            let Some(v) = self.vocabularies.get(usize::from(t.vocabulary)) else {
                return false;
            };
            next += (u32::from(v.count) + 1) * u32::from(t.width);
            t.first == first && (1..=MAX_WIDTH).contains(&usize::from(t.width))
        });
        self.tables.len() <= MAX_RECORDS && ordered && next == self.header.embedding_len
    }

    /// Elements of these features if all are valid.
    fn inputs_len(&self, inputs: &[InputRecord], of_player: bool) -> Option<usize> {
        let mut next = 0usize;
        let ok = inputs.iter().all(|i| {
            let first = next;
            next += usize::from(i.width);
            let table = self.tables.get(usize::from(i.table));
            let shape = match i.op {
                input_op::EMBED | input_op::STAGE => table.is_some_and(|t| t.width == i.width),
                _ => i.width == 1,
            };
            let source = match i.op {
                input_op::FIELD | input_op::DIFFERENCE | input_op::FLAG | input_op::EMBED => {
                    of_player && self.is_field(i.index)
                }
                input_op::COUNTER => of_player && usize::from(i.index) < COUNTERS,
                input_op::PAD_AXIS => of_player && i.index < 6,
                input_op::PAD_BUTTON => of_player,
                input_op::STAGE | input_op::CONST => true,
                _ => false,
            };
            shape && source && usize::from(i.position) == first && i.shift <= 31 && i.clip >= 0
        });
        (ok && inputs.len() <= MAX_INPUTS).then_some(next)
    }

    fn heads_ok(&self) -> bool {
        let mut next = 0usize;
        let ordered = self.heads.iter().all(|head| {
            let first = next;
            next += usize::from(head.rows);
            let rows = match head.kind {
                head_kind::CLASS => self.vocabularies.get(usize::from(head.of)).map(|v| v.count),
                head_kind::GATE => (head.of == NONE).then_some(1),
                head_kind::VALUE => self.is_field(head.of).then_some(1),
                _ => None,
            };
            rows == Some(head.rows) && usize::from(head.first) == first && head.room == 0
        });
        let total = next * usize::from(self.header.head_players);
        self.heads.len() <= MAX_RECORDS
            && ordered
            && total == usize::from(self.header.head_rows)
            && total <= MAX_HEAD_ROWS
    }

    fn term_ok(&self, term: &TermRecord) -> bool {
        let selector = term.selector == NONE || self.is_field(term.selector);
        self.is_field(term.field) && selector && term.when <= 1 && term.shift <= 16
    }

    fn update_ok(&self, u: &UpdateRecord) -> bool {
        let is = |index: u8, kind: u8| {
            self.heads
                .get(usize::from(index))
                .is_some_and(|h| h.kind == kind)
        };
        let gate = is(u.gate, head_kind::GATE);
        let class = is(u.value, head_kind::CLASS);
        let value = is(u.value, head_kind::VALUE);
        let no_gate = u.gate == NONE;
        let no_value = u.value == NONE;
        let terms = usize::from(u.first_term) + usize::from(u.terms) <= self.terms.len();
        let mask = (0..=i32::from(u16::MAX)).contains(&u.constant);
        let world = self.header.kind == KIND_WORLD && self.is_field(u.field);
        let policy = self.header.kind == KIND_POLICY;
        terms
            && match u.op {
                update_op::CLASS => world && class && no_gate,
                update_op::FLAG => world && gate && no_value,
                update_op::DELTA | update_op::SET => world && value && no_gate,
                update_op::INTEGRATE => world && (value || no_value) && no_gate,
                update_op::GATED_ADD => world && gate && value,
                update_op::GATED_STEP => world && gate && no_value,
                update_op::GATED_SET => world && gate && (value || no_value),
                update_op::PAD_STICK | update_op::PAD_TRIGGER => {
                    policy && class && no_gate && u.field < 2
                }
                update_op::PAD_BUTTONS => policy && class && no_gate,
                update_op::PAD_BUTTON => policy && gate && no_value && mask,
                _ => false,
            }
    }

    /// The values of a vocabulary, ascending.
    pub fn vocabulary(&self, index: usize) -> &'a [u16] {
        let v = self.vocabularies[index];
        &self.values[usize::from(v.first)..usize::from(v.first) + usize::from(v.count)]
    }

    /// The table's row for a raw value; the last row stands for every value outside the vocabulary.
    pub fn embedding_row(&self, table: &TableRecord, raw: i32) -> usize {
        let values = self.vocabulary(usize::from(table.vocabulary));
        u16::try_from(raw)
            .ok()
            .and_then(|raw| values.binary_search(&raw).ok())
            .unwrap_or(values.len())
    }

    /// Head rows of one player.
    pub fn player_rows(&self) -> usize {
        usize::from(self.header.head_rows) / usize::from(self.header.head_players)
    }
}

fn require(condition: bool, what: &'static str) -> Result<(), PlanError> {
    if condition {
        Ok(())
    } else {
        Err(PlanError::Invalid(what))
    }
}

fn field_ok(field: &FieldRecord) -> bool {
    FieldKind::from_u8(field.kind).is_some_and(|kind| {
        let (low, high) = kind.range();
        usize::from(field.offset) + kind.size() <= SLOT_BYTES
            && field.frac_bits <= 24
            && low <= field.min
            && field.min <= field.max
            && field.max <= high
            && field.room == [0; 4]
    })
}
