//! Cartridges of random weights, for tests and benches before and beside real ones.

use crate::act::LOGIT_BITS;
use crate::builder::{Builder, Provenance};
use crate::file::Cartridge;
use crate::format::Start;
use crate::melee::{STAGES, melee, melee_policy};
use crate::plan::ONE;
use crate::schema::{HeadKind, Schema, pack_stick};
use worldline_abi::{PlayerState, SHIELD_ONE, UNIT_ONE};
use worldline_mamba2::sample::{Matrix, Model, Random};
use worldline_mamba2::{Dims, LayerParams, Output, sample};

/// Action states that occur in matches, about as many as in the shipped world.
const ACTIONS: u16 = 220;
/// Fox, Falco and Marth, by the select screen's number.
pub const CHARACTERS: [u8; 3] = [2, 20, 9];
/// Where the players stand at the start, units from the centre.
const START_X: i32 = 40;

/// Shapes worth testing, as the design documents name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// 2 blocks of width 64: its hidden state fits one page.
    Interop,
    /// 4 blocks of width 64.
    Micro,
    /// 6 blocks of width 128.
    Tiny,
    /// 8 blocks of width 256.
    Small,
    /// 12 blocks of width 512.
    Full,
}

impl Size {
    const fn blocks(self) -> (usize, usize) {
        match self {
            Self::Interop => (64, 2),
            Self::Micro => (64, 4),
            Self::Tiny => (128, 6),
            Self::Small => (256, 8),
            Self::Full => (512, 12),
        }
    }
}

/// A world of random weights. The same seed gives the same bytes. Its players move, act and take
/// damage at random; no stock is ever lost, so a match ends with its clock.
pub fn cartridge(size: Size, seed: u64) -> Cartridge {
    Cartridge::from_bytes(&bytes(size, seed)).expect("what the builder writes can be opened")
}

/// The file of [`cartridge`].
pub fn bytes(size: Size, seed: u64) -> Vec<u8> {
    let actions: Vec<u16> = (0..ACTIONS).collect();
    build(&melee(&actions, &CHARACTERS), size, seed)
}

/// A policy of random weights.
pub fn policy(size: Size, seed: u64) -> Cartridge {
    let actions: Vec<u16> = (0..ACTIONS).collect();
    let sticks: Vec<u16> = [(0, 0), (80, 0), (-80, 0), (0, 80), (0, -80)]
        .map(|(x, y)| pack_stick(x, y))
        .into();
    let schema = melee_policy(&actions, &CHARACTERS, &sticks, &[0, 140]);
    Cartridge::from_bytes(&build(&schema, size, seed))
        .expect("what the builder writes can be opened")
}

fn build(schema: &Schema, size: Size, seed: u64) -> Vec<u8> {
    let (d_model, layers) = size.blocks();
    let dims = Dims {
        d_model,
        d_state: 16,
    };
    let (inputs, outputs) = (schema.input_len(), schema.head_rows());
    let model = Model::random(
        sample::Size {
            dims,
            layers,
            inputs,
            outputs,
        },
        seed,
    );
    let mut random = Random(seed ^ 0x00C0_FFEE);
    let rows: usize = schema
        .tables
        .iter()
        .map(|t| schema.table_rows(t) * usize::from(t.width))
        .sum();
    let embeddings: Vec<i16> = (0..rows)
        .map(|_| random.between(-i32::from(ONE), i32::from(ONE)) as i16)
        .collect();
    let (output, bias) = heads(schema, d_model, &mut random);
    let params: Vec<LayerParams<'_>> = model.layers().map(|layer| layer.params).collect();
    let provenance = Provenance {
        name: format!("random-{size:?}").to_lowercase(),
        ..Provenance::default()
    };
    let builder = Builder {
        provenance: &provenance,
        schema,
        dims,
        tables: model.tables(),
        starts: &starts(),
        embeddings: &embeddings,
        input: model.input(),
        layers: &params,
        output: Output {
            linear: output.borrow(),
            bias: &bias,
        },
    };
    builder.build().expect("every size here fits")
}

/// Random heads in sensible units: logits of about ±1, numbers of about 1/32 of their field's unit.
fn heads(schema: &Schema, d_model: usize, random: &mut Random) -> (Matrix, Vec<i32>) {
    let logit = f64::from(1u32 << LOGIT_BITS);
    let mut matrix = Matrix::random(schema.head_rows(), d_model, logit, random);
    let mut bias = vec![0; schema.head_rows()];
    for player in 0..schema.head_players() {
        for head in &schema.heads {
            let row = schema
                .head_row(player, &head.name)
                .expect("a head of this schema");
            match &head.kind {
                HeadKind::Value { field, .. } => {
                    let field = schema
                        .fields
                        .iter()
                        .find(|f| f.name == *field)
                        .expect("a field of this schema");
                    let unit = f64::from(1u32 << field.frac_bits) / 32.0;
                    matrix.multipliers[row] =
                        (f64::from(matrix.multipliers[row]) * unit / logit) as i32;
                }
                HeadKind::Gate if ["stock", "reset"].contains(&head.name.as_str()) => {
                    bias[row] = i32::MIN / 2;
                }
                HeadKind::Gate if head.name == "hit" => bias[row] = -3 << LOGIT_BITS,
                HeadKind::Gate | HeadKind::Class { .. } => {}
            }
        }
    }
    (matrix, bias)
}

/// Both players on the ground, facing each other, on every stage.
fn starts() -> Vec<Start> {
    let player = |side: i32| PlayerState {
        x: side * START_X * UNIT_ONE,
        shield: 60 * SHIELD_ONE,
        action_state: 14,
        stocks: 4,
        facing: u8::from(side < 0),
        on_ground: 1,
        jumps: 2,
        ..PlayerState::default()
    };
    let start = |stage| Start {
        stage,
        characters: [Start::ANY; 2],
        room: 0,
        players: [player(-1), player(1)],
    };
    STAGES
        .iter()
        .map(|(stage, _)| start(*stage as u8))
        .collect()
}
