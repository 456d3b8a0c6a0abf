//! The schema of Super Smash Bros. Melee: which numbers of a replay a world knows.

use crate::plan::FieldKind;
use crate::schema::*;
use worldline_abi::{
    COUNTER_ACTION, PERCENT_ONE, PlayerState, SHIELD_ONE, SPEED_ONE, STICK_UNIT, UNIT_ONE, button,
};

/// Frames of a match: eight minutes at 60 a second.
pub const MATCH_FRAMES: u32 = 8 * 60 * 60;
/// Stocks of a player at the start, and the most a state may hold.
pub const MAX_STOCKS: i32 = 4;
/// The six stages of tournament play, by Slippi's number.
pub const STAGES: [(u16, &str); 6] = [
    (2, "Fountain of Dreams"),
    (3, "Pokémon Stadium"),
    (8, "Yoshi's Story"),
    (28, "Dream Land"),
    (31, "Battlefield"),
    (32, "Final Destination"),
];
/// Characters by the select screen's number.
pub const CHARACTERS: [&str; 26] = [
    "Captain Falcon",
    "Donkey Kong",
    "Fox",
    "Mr. Game & Watch",
    "Kirby",
    "Bowser",
    "Link",
    "Luigi",
    "Mario",
    "Marth",
    "Mewtwo",
    "Ness",
    "Peach",
    "Pikachu",
    "Ice Climbers",
    "Jigglypuff",
    "Samus",
    "Yoshi",
    "Zelda",
    "Sheik",
    "Falco",
    "Young Link",
    "Dr. Mario",
    "Roy",
    "Pichu",
    "Ganondorf",
];

/// Widths of the embeddings of actions, characters, jumps and stages.
const WIDTHS: [(&str, u16); 4] = [
    ("action", 32),
    ("character", 12),
    ("jumps", 4),
    ("stage", 8),
];
/// The speeds, each with its head's training units per unit a frame.
const SPEEDS: [(&str, usize, f32); 5] = [
    (
        "speed_air_x",
        core::mem::offset_of!(PlayerState, speed_air_x),
        2.0,
    ),
    ("speed_y", core::mem::offset_of!(PlayerState, speed_y), 2.0),
    (
        "speed_attack_x",
        core::mem::offset_of!(PlayerState, speed_attack_x),
        2.0,
    ),
    (
        "speed_attack_y",
        core::mem::offset_of!(PlayerState, speed_attack_y),
        2.0,
    ),
    (
        "speed_ground_x",
        core::mem::offset_of!(PlayerState, speed_ground_x),
        2.0,
    ),
];
/// Positions are clamped to ± this many units; the largest blast zone ends at 270.
const POSITION_LIMIT: i32 = 512;

/// The world's schema over these action states and characters (any order; repeated ones count once).
pub fn melee(actions: &[u16], characters: &[u8]) -> Schema {
    let mut schema = base(Kind::World, "melee", actions, characters);
    let class = |vocabulary: &str| HeadKind::Class {
        vocabulary: vocabulary.into(),
    };
    let value = |field: &str, value_scale| HeadKind::Value {
        field: field.into(),
        value_scale,
    };
    let mut heads = vec![
        ("action".to_string(), class("action")),
        ("jumps".into(), class("jumps")),
        ("facing".into(), HeadKind::Gate),
        ("on_ground".into(), HeadKind::Gate),
        ("hit".into(), HeadKind::Gate),
        ("reset".into(), HeadKind::Gate),
        ("stock".into(), HeadKind::Gate),
    ];
    heads.extend(SPEEDS.map(|(name, _, scale)| (format!("d_{name}"), value(name, scale))));
    heads.extend(
        [
            ("dx", "x", 1.0),
            ("dy", "y", 1.0),
            ("damage", "percent", 0.1),
            ("d_shield", "shield", 0.1),
            ("hitlag", "hitlag", 0.1),
            ("reset_x", "x", 0.02),
            ("reset_y", "y", 0.02),
        ]
        .map(|(name, field, scale)| (name.to_string(), value(field, scale))),
    );
    schema.heads = heads
        .into_iter()
        .map(|(name, kind)| Head { name, kind })
        .collect();
    schema.updates = updates();
    schema.end = Some(End {
        field: "stocks".into(),
        tie: Some("percent".into()),
    });
    schema.clock_frames = MATCH_FRAMES;
    schema.rules = [
        ("clock", "A match lasts 8 minutes: the clock counts down one frame at a time."),
        ("end", "A match ends when a player has no stock, or with the clock: more stocks, then less damage, win."),
        ("integration", "A position moves by the predicted speeds, own and knockback, unless the player is in hitlag, plus a learned correction."),
        ("counters", "Frames since the action state changed are counted, not predicted."),
        ("stocks", "When the stock gate opens exactly one stock is lost; nothing gives one back."),
        ("reset", "When the reset gate opens damage returns to 0 and the position is the predicted absolute one."),
        ("range", "Every field stays in its range; each clamp adds 1 to rule_hits."),
    ]
    .map(|(name, why)| Rule { name: name.into(), why: why.into() })
    .into();
    schema
}

/// The schema of a learned player over the same features; `sticks` are the positions of both sticks
/// that it can choose ([`pack_stick`]), `triggers` the trigger values.
pub fn melee_policy(actions: &[u16], characters: &[u8], sticks: &[u16], triggers: &[u8]) -> Schema {
    let mut schema = base(Kind::Policy, "melee-policy", actions, characters);
    schema
        .vocabularies
        .push(vocabulary("stick", sticks.to_vec()));
    schema.vocabularies.push(vocabulary(
        "trigger",
        triggers.iter().map(|&t| t.into()).collect(),
    ));
    let class = |name: &str, vocabulary: &str| Head {
        name: name.into(),
        kind: HeadKind::Class {
            vocabulary: vocabulary.into(),
        },
    };
    schema.heads = vec![
        class("stick", "stick"),
        class("cstick", "stick"),
        class("trigger", "trigger"),
    ];
    schema.updates = vec![
        Update::PadStick {
            stick: 0,
            head: "stick".into(),
        },
        Update::PadStick {
            stick: 1,
            head: "cstick".into(),
        },
        Update::PadTrigger {
            trigger: 0,
            head: "trigger".into(),
        },
    ];
    for (name, mask) in BUTTONS {
        schema.heads.push(Head {
            name: name.into(),
            kind: HeadKind::Gate,
        });
        schema.updates.push(Update::PadButton {
            gate: name.into(),
            mask,
        });
    }
    schema
}

/// Buttons that are features of a player, by head name.
pub const BUTTONS: [(&str, u16); 8] = [
    ("a", button::A),
    ("b", button::B),
    ("x", button::X),
    ("y", button::Y),
    ("z", button::Z),
    ("l", button::L),
    ("r", button::R),
    ("dpad_up", button::DPAD_UP),
];

/// Fields and features, which world and policy share.
fn base(kind: Kind, name: &str, actions: &[u16], characters: &[u8]) -> Schema {
    let mut character = vocabulary("character", characters.iter().map(|&c| c.into()).collect());
    let label = |&c: &u16| {
        CHARACTERS
            .get(usize::from(c))
            .map_or_else(|| format!("#{c}"), ToString::to_string)
    };
    character.labels = character.values.iter().map(label).collect();
    let mut stage = vocabulary("stage", STAGES.iter().map(|s| s.0).collect());
    stage.labels = STAGES.iter().map(|s| s.1.to_string()).collect();
    Schema {
        name: name.into(),
        kind,
        clock_frames: 0,
        fields: fields(),
        vocabularies: vec![
            vocabulary("action", actions.to_vec()),
            character,
            vocabulary("jumps", (0..8).collect()),
            stage,
        ],
        tables: WIDTHS
            .map(|(name, width)| Table {
                name: name.into(),
                vocabulary: name.into(),
                width,
            })
            .into(),
        player_inputs: player_inputs(),
        global_inputs: vec![
            Input::StageEmbed {
                table: "stage".into(),
            },
            Input::Const,
        ],
        heads: Vec::new(),
        updates: Vec::new(),
        counters: vec![Counter {
            index: COUNTER_ACTION as u8,
            field: "action_state".into(),
        }],
        end: None,
        rules: Vec::new(),
    }
}

fn vocabulary(name: &str, mut values: Vec<u16>) -> Vocabulary {
    values.sort_unstable();
    values.dedup();
    Vocabulary {
        name: name.into(),
        values,
        labels: Vec::new(),
    }
}

fn fields() -> Vec<Field> {
    use FieldKind::{I16, I32, U8, U16};
    let field = |name: &str, offset: usize, kind, frac_bits, (min, max)| Field {
        name: name.into(),
        offset: offset as u16,
        kind,
        frac_bits,
        min,
        max,
    };
    let at = POSITION_LIMIT * UNIT_ONE;
    let speed_max = i32::from(i16::MAX);
    let mut fields = vec![
        field(
            "x",
            core::mem::offset_of!(PlayerState, x),
            I32,
            12,
            (-at, at),
        ),
        field(
            "y",
            core::mem::offset_of!(PlayerState, y),
            I32,
            12,
            (-at, at),
        ),
        field(
            "percent",
            core::mem::offset_of!(PlayerState, percent),
            U16,
            6,
            (0, 999 * i32::from(PERCENT_ONE)),
        ),
    ];
    fields.extend(
        SPEEDS.map(|(name, offset, _)| field(name, offset, I16, 10, (-speed_max, speed_max))),
    );
    fields.extend([
        field(
            "shield",
            core::mem::offset_of!(PlayerState, shield),
            U16,
            8,
            (0, 60 * i32::from(SHIELD_ONE)),
        ),
        field(
            "action_state",
            core::mem::offset_of!(PlayerState, action_state),
            U16,
            0,
            (0, 0xFFFF),
        ),
        field(
            "hitlag",
            core::mem::offset_of!(PlayerState, hitlag),
            U8,
            0,
            (0, 255),
        ),
        field(
            "stocks",
            core::mem::offset_of!(PlayerState, stocks),
            U8,
            0,
            (0, MAX_STOCKS),
        ),
        field(
            "facing",
            core::mem::offset_of!(PlayerState, facing),
            U8,
            0,
            (0, 1),
        ),
        field(
            "on_ground",
            core::mem::offset_of!(PlayerState, on_ground),
            U8,
            0,
            (0, 1),
        ),
        field(
            "jumps",
            core::mem::offset_of!(PlayerState, jumps),
            U8,
            0,
            (0, 7),
        ),
        field(
            "character",
            core::mem::offset_of!(PlayerState, character),
            U8,
            0,
            (0, 255),
        ),
    ]);
    fields
}

fn player_inputs() -> Vec<Input> {
    /// No closer clip than what a feature can hold.
    const WIDE: f64 = 8.0;
    let unit = f64::from(UNIT_ONE);
    let scaled = |name: &str, units_per_one| Input::Field {
        field: name.into(),
        scale: Scale::new(units_per_one, WIDE),
    };
    let mut inputs = vec![
        scaled("x", 50.0 * unit),
        scaled("y", 50.0 * unit),
        scaled("percent", 100.0 * f64::from(PERCENT_ONE)),
    ];
    inputs.extend(SPEEDS.map(|(name, ..)| scaled(name, 2.0 * f64::from(SPEED_ONE))));
    inputs.extend([
        scaled("shield", 60.0 * f64::from(SHIELD_ONE)),
        scaled("hitlag", 10.0),
        scaled("stocks", f64::from(MAX_STOCKS)),
    ]);
    // Height once more, finely: where a stage ends under the feet decides between ground and air.
    inputs.push(Input::Field {
        field: "y".into(),
        scale: Scale::new(10.0 * unit, 4.0),
    });
    inputs.extend(["x", "y"].map(|name| Input::Difference {
        field: name.into(),
        scale: Scale::new(10.0 * unit, 4.0),
    }));
    inputs.extend([(60.0, 4.0), (8.0, 2.0)].map(|(one, clip)| Input::Counter {
        index: COUNTER_ACTION as u8,
        scale: Scale::new(one, clip),
    }));
    inputs.extend(["facing", "on_ground"].map(|name| Input::Flag { field: name.into() }));
    inputs.extend((0..4).map(|axis| Input::PadAxis {
        axis,
        scale: Scale::new(f64::from(STICK_UNIT), 1.0),
    }));
    inputs.extend((4..6).map(|axis| Input::PadAxis {
        axis,
        scale: Scale::new(255.0, 1.0),
    }));
    inputs.extend(BUTTONS.map(|(_, mask)| Input::PadButton { mask }));
    inputs.extend(
        [
            ("action_state", "action"),
            ("character", "character"),
            ("jumps", "jumps"),
        ]
        .map(|(field, table)| Input::Embed {
            field: field.into(),
            table: table.into(),
        }),
    );
    inputs
}

/// Classes and flags, speeds, then what is gated and integrated, and last what a reset overrides.
fn updates() -> Vec<Update> {
    let name = |s: &str| s.to_string();
    let mut updates = vec![
        Update::Class {
            field: name("action_state"),
            head: name("action"),
        },
        Update::Class {
            field: name("jumps"),
            head: name("jumps"),
        },
        Update::Flag {
            field: name("facing"),
            gate: name("facing"),
        },
        Update::Flag {
            field: name("on_ground"),
            gate: name("on_ground"),
        },
    ];
    updates.extend(SPEEDS.map(|(speed, ..)| Update::Delta {
        field: name(speed),
        value: format!("d_{speed}"),
    }));
    // Replays say: the air speed moves a player on the ground too (94 % of frames within 0.01 unit), and
    // nothing moves in hitlag.
    let moving = |field: &str| Term {
        field: name(field),
        when: Some((name("hitlag"), false)),
    };
    let integrate = |field: &str, speeds: [&str; 2], correction: &str| Update::Integrate {
        field: name(field),
        terms: speeds.map(moving).into(),
        correction: Some(name(correction)),
    };
    updates.extend([
        Update::Delta {
            field: name("shield"),
            value: name("d_shield"),
        },
        Update::Set {
            field: name("hitlag"),
            value: name("hitlag"),
        },
        Update::GatedAdd {
            field: name("percent"),
            gate: name("hit"),
            value: name("damage"),
        },
        Update::GatedStep {
            field: name("stocks"),
            gate: name("stock"),
            step: -1,
        },
        integrate("x", ["speed_air_x", "speed_attack_x"], "dx"),
        integrate("y", ["speed_y", "speed_attack_y"], "dy"),
    ]);
    let reset = |field: &str, value: Option<&str>| Update::GatedSet {
        field: name(field),
        gate: name("reset"),
        value: value.map(name),
        constant: 0,
    };
    updates.extend([
        reset("x", Some("reset_x")),
        reset("y", Some("reset_y")),
        reset("percent", None),
    ]);
    updates
}
