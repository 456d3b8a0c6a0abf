//! The schema: its compiled form, the input vector, and what heads do to a state.

use proptest::prelude::*;
use worldline_abi::{InputBuffer, PERCENT_ONE, SessionState, UNIT_ONE, end_reason, status, winner};
use worldline_cartridge::plan::{ONE, Plan};
use worldline_cartridge::schema::{Input, Schema, SchemaError, melee, melee_policy, pack_stick};
use worldline_cartridge::{decode, encode, encode_raw};

fn world() -> Schema {
    melee(&[14, 20, 0, 186], &[2, 20, 9])
}

fn active() -> SessionState {
    let mut state = SessionState {
        status: status::ACTIVE,
        clock: 100,
        stage: 31,
        ..Default::default()
    };
    for player in &mut state.players {
        (
            player.stocks,
            player.character,
            player.action_state,
            player.jumps,
        ) = (4, 2, 14, 2);
        player.shield = 60 * 256;
    }
    state
}

/// Heads that change nothing: the classes win that `active` has, flags are 0, numbers are 0.
fn still(schema: &Schema) -> Vec<i32> {
    let mut heads = vec![0; schema.head_rows()];
    for player in 0..2 {
        heads[schema.head_row(player, "action").unwrap() + 1] = 5;
        heads[schema.head_row(player, "jumps").unwrap() + 2] = 5;
    }
    heads
}

#[test]
fn the_melee_schema_has_the_agreed_shape() {
    let schema = world();
    assert_eq!(schema.input_len(), 2 * 80 + 9);
    assert_eq!(schema.player_rows(), 4 + 8 + 5 + 12);
    assert_eq!(schema.head_row(1, "jumps"), Some(schema.player_rows() + 4));
    assert_eq!(schema.head_row(2, "jumps"), None);
    let compiled = schema.compile().unwrap();
    let plan = compiled.plan();
    assert_eq!(usize::from(plan.header.input_len), schema.input_len());
    assert_eq!(usize::from(plan.header.head_rows), schema.head_rows());
    assert_eq!(plan.vocabulary(0), [0, 14, 20, 186]);
}

#[test]
fn json_brings_back_the_same_schema() {
    for schema in [
        world(),
        melee_policy(
            &[1],
            &[2],
            &[pack_stick(0, 0), pack_stick(80, 0)],
            &[0, 255],
        ),
    ] {
        assert_eq!(
            Schema::from_json(schema.to_json().as_bytes()).unwrap(),
            schema
        );
        schema.compile().unwrap();
    }
}

#[test]
fn an_undefined_name_is_named() {
    let mut schema = world();
    schema.player_inputs.push(Input::Flag {
        field: "courage".into(),
    });
    let expected = SchemaError::Unknown {
        what: "field",
        name: "courage".into(),
    };
    assert_eq!(schema.compile().unwrap_err(), expected);
}

#[test]
fn features_are_scaled_and_embeddings_looked_up() {
    let schema = world();
    let compiled = schema.compile().unwrap();
    let plan = compiled.plan();
    let mut state = active();
    state.players[0].x = 25 * UNIT_ONE;
    state.players[1].x = -UNIT_ONE;
    state.players[1].percent = 50 * PERCENT_ONE;
    state.players[1].action_state = 77;
    let mut inputs = InputBuffer::default();
    inputs.slots[0].pad.stick = [-32_000, 16_000];
    let embeddings: Vec<i16> = (0..plan.header.embedding_len as i16).collect();
    let mut out = vec![-1; schema.input_len()];
    encode(&plan, &embeddings, &state, &inputs, &mut out);
    assert_eq!((out[0], out[2], out[80 + 2]), (ONE / 2, 0, ONE / 2));
    assert!(
        (out[12] - 10_650).abs() <= 1,
        "own x less the other's, a tenth"
    );
    assert_eq!((out[18], out[19]), (-ONE, ONE / 2));
    assert_eq!(out[32], 32, "action 14 is the vocabulary's second value");
    assert_eq!(
        out[80 + 32],
        4 * 32,
        "an action outside the vocabulary takes the last row"
    );
    assert_eq!(out.last(), Some(&ONE));

    let mut raw = vec![0; schema.input_len()];
    let mut rows = [0; 7];
    assert_eq!(encode_raw(&plan, &state, &inputs, &mut raw, &mut rows), 7);
    assert_eq!(rows, [1, 0, 2, 4, 0, 2, 4]);
    let slots: Vec<_> = schema
        .features()
        .into_iter()
        .filter(|f| f.table.is_some())
        .collect();
    assert_eq!(slots.len(), 7);
    for slot in slots {
        raw[slot.position..slot.position + slot.width]
            .copy_from_slice(&out[slot.position..][..slot.width]);
    }
    assert_eq!(raw, out, "apart from embeddings both say the same");
}

#[test]
fn quiet_heads_leave_a_still_state_alone() {
    let schema = world();
    let compiled = schema.compile().unwrap();
    let mut state = active();
    let before = state;
    decode(&compiled.plan(), &still(&schema), &mut state);
    let expected = SessionState {
        frame: 1,
        clock: 99,
        ..before
    };
    for player in &mut state.players {
        assert_eq!(std::mem::take(&mut player.counters[0]), 1);
    }
    assert_eq!(state, expected);
}

#[test]
fn positions_integrate_the_next_speeds_and_a_reset_overrides_them() {
    let schema = world();
    let compiled = schema.compile().unwrap();
    let mut heads = still(&schema);
    let row = |name: &str| schema.head_row(0, name).unwrap();
    heads[row("d_speed_air_x")] = 1024;
    heads[row("d_speed_attack_x")] = -256;
    heads[row("dx")] = 7;
    let mut state = active();
    decode(&compiled.plan(), &heads, &mut state);
    assert_eq!(state.players[0].x, 3 * UNIT_ONE / 4 + 7);
    heads[row("hitlag")] = 3;
    decode(&compiled.plan(), &heads, &mut state);
    assert_eq!(
        state.players[0].x,
        3 * UNIT_ONE / 4 + 2 * 7,
        "nothing moves in hitlag but the correction"
    );
    heads[row("reset")] = 1;
    heads[row("reset_x")] = 3 * UNIT_ONE;
    state.players[0].percent = 99;
    decode(&compiled.plan(), &heads, &mut state);
    assert_eq!(
        (state.players[0].x, state.players[0].percent),
        (3 * UNIT_ONE, 0)
    );
    assert_eq!(state.players[1].x, 0);
}

#[test]
fn clamps_are_counted() {
    let schema = world();
    let compiled = schema.compile().unwrap();
    let mut heads = still(&schema);
    heads[schema.head_row(1, "d_shield").unwrap()] = 9;
    heads[schema.head_row(1, "dy").unwrap()] = i32::MAX;
    let mut state = active();
    decode(&compiled.plan(), &heads, &mut state);
    assert_eq!((state.rule_hits, state.players[1].y), (2, 512 * UNIT_ONE));
}

#[test]
fn the_last_stock_and_the_clock_end_a_match() {
    let schema = world();
    let compiled = schema.compile().unwrap();
    let mut heads = still(&schema);
    heads[schema.head_row(1, "stock").unwrap()] = 1;
    let mut state = active();
    state.players[1].stocks = 1;
    decode(&compiled.plan(), &heads, &mut state);
    assert_eq!(
        (state.status, state.winner, state.end_reason),
        (status::ENDED, 0, end_reason::STOCKS)
    );

    let end_with = |percent: [u16; 2]| {
        let mut state = SessionState {
            clock: 1,
            ..active()
        };
        for (player, percent) in state.players.iter_mut().zip(percent) {
            player.percent = percent;
        }
        decode(&compiled.plan(), &still(&schema), &mut state);
        assert_eq!(
            (state.status, state.end_reason),
            (status::ENDED, end_reason::TIME)
        );
        state.winner
    };
    assert_eq!(
        [end_with([9, 5]), end_with([5, 9]), end_with([5, 5])],
        [1, 0, winner::DRAW]
    );
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever plan is accepted can be run on any state, controllers and heads.
    #[test]
    fn an_accepted_plan_never_panics(
        flips in proptest::collection::vec((0usize..4096, any::<u8>()), 1..4),
        head in any::<i32>(),
        bytes in any::<[u8; 32]>(),
    ) {
        let compiled = world().compile().unwrap();
        let mut words = vec![0u32; compiled.bytes().len() / 4];
        let mutated: &mut [u8] = bytemuck::cast_slice_mut(&mut words);
        mutated.copy_from_slice(compiled.bytes());
        for (at, byte) in flips {
            let len = mutated.len();
            mutated[at % len] = byte;
        }
        if let Ok(plan) = Plan::parse(mutated) {
            let mut state = SessionState { generator: 1, ..active() };
            state.players[0] = bytemuck::cast([bytes; 3]);
            let inputs: InputBuffer = bytemuck::cast(bytes);
            let mut out = vec![0; plan.header.input_len.into()];
            let embeddings = vec![0; plan.header.embedding_len as usize];
            encode(&plan, &embeddings, &state, &inputs, &mut out);
            decode(&plan, &vec![head; plan.header.head_rows.into()], &mut state);
        }
    }
}
