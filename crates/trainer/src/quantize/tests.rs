use super::weights::{Block, Matrix, Weights};
use super::*;
use std::collections::HashMap;
use worldline_abi::{STICK_UNIT, button};
use worldline_cartridge::schema::melee;
use worldline_cartridge::step;
use worldline_mamba2::sample::Random;
use worldline_mamba2::{CONV_TAPS, Dims, Scalar};

/// Roughly normal with this deviation.
fn normal(random: &mut Random, deviation: f32) -> f32 {
    let sum: i32 = (0..12).map(|_| random.between(0, 1 << 20)).sum();
    (sum as f32 / (1 << 20) as f32 - 6.0) * deviation
}

fn normals(random: &mut Random, count: usize, deviation: f32) -> Vec<f32> {
    (0..count).map(|_| normal(random, deviation)).collect()
}

/// A checkpoint as training starts from it, but for norms and biases, which are not left at 1 and 0.
fn random_weights(d_model: usize, layers: usize, seed: u64) -> Weights {
    let random = &mut Random(seed);
    let dims = Dims {
        d_model,
        d_state: 16,
    };
    let schema = melee(&(0..40).collect::<Vec<_>>(), &[2, 20]);
    let mut matrix = |rows: usize, columns: usize| Matrix {
        columns,
        values: normals(random, rows * columns, (columns as f32).powf(-0.5)),
    };
    let input = matrix(d_model, schema.input_len());
    let head = matrix(schema.head_rows(), d_model);
    let projections: Vec<_> = (0..layers)
        .map(|_| {
            (
                matrix(dims.in_rows(), d_model),
                matrix(d_model, dims.d_inner()),
            )
        })
        .collect();
    let heads = dims.heads();
    let block = |(in_proj, out_proj): (Matrix, Matrix)| Block {
        norm: normals(random, d_model, 0.2)
            .iter()
            .map(|v| 1.0 + v)
            .collect(),
        in_proj,
        taps: normals(random, dims.conv_dim() * CONV_TAPS, 0.5),
        conv_bias: normals(random, dims.conv_dim(), 0.1),
        // Time steps from 0.001 to 0.1, decays from 1 to 16, as Mamba2 begins.
        dt_bias: (0..heads)
            .map(|i| -7.0 + 5.0 * i as f32 / heads as f32)
            .collect(),
        a_log: (0..heads)
            .map(|i| (1.0 + 15.0 * i as f32 / heads as f32).ln())
            .collect(),
        skip: normals(random, heads, 0.3)
            .iter()
            .map(|v| 1.0 + v)
            .collect(),
        gated_norm: normals(random, dims.d_inner(), 0.2)
            .iter()
            .map(|v| 1.0 + v)
            .collect(),
        out_proj,
    };
    let blocks = projections.into_iter().map(block).collect();
    let table_len: usize = schema
        .tables
        .iter()
        .map(|t| schema.table_rows(t) * usize::from(t.width))
        .sum();
    Weights {
        dims,
        embeddings: normals(random, table_len, 0.5),
        input,
        blocks,
        norm: vec![1.0; d_model],
        head_bias: normals(random, schema.head_rows(), 0.1),
        head,
        schema,
    }
}

/// The checkpoint file of these weights.
fn checkpoint(weights: &Weights) -> Vec<u8> {
    let mut tensors: Vec<(String, Vec<f32>)> = Vec::new();
    let mut at = 0;
    for table in &weights.schema.tables {
        let len = weights.schema.table_rows(table) * usize::from(table.width);
        tensors.push((
            format!("embed.{}.weight", table.name),
            weights.embeddings[at..at + len].to_vec(),
        ));
        at += len;
    }
    for (i, b) in weights.blocks.iter().enumerate() {
        for (name, values) in [
            ("norm.weight", &b.norm),
            ("mixer.in_proj.weight", &b.in_proj.values),
            ("mixer.conv1d.weight", &b.taps),
            ("mixer.conv1d.bias", &b.conv_bias),
            ("mixer.dt_bias", &b.dt_bias),
            ("mixer.A_log", &b.a_log),
            ("mixer.D", &b.skip),
            ("mixer.norm.weight", &b.gated_norm),
            ("mixer.out_proj.weight", &b.out_proj.values),
        ] {
            tensors.push((format!("backbone.layers.{i}.{name}"), values.clone()));
        }
    }
    tensors.push(("input.weight".into(), weights.input.values.clone()));
    tensors.push(("backbone.norm_f.weight".into(), weights.norm.clone()));
    tensors.push(("head.weight".into(), weights.head.values.clone()));
    tensors.push(("head.bias".into(), weights.head_bias.clone()));
    let views = tensors.iter().map(|(name, values)| {
        let view = safetensors::tensor::TensorView::new(
            safetensors::Dtype::F32,
            vec![values.len()],
            bytemuck::cast_slice(values),
        );
        (name.clone(), view.unwrap())
    });
    let metadata = HashMap::from([("schema".to_string(), weights.schema.to_json())]);
    safetensors::serialize(views, Some(metadata)).unwrap()
}

/// Two players who wander about, with controllers in motion.
fn wander(frames: usize, seed: u64) -> Sequence {
    let random = &mut Random(seed);
    let mut state = SessionState {
        stage: 31,
        ..SessionState::default()
    };
    let mut sequence = Vec::new();
    for frame in 0..frames {
        let mut inputs = InputBuffer {
            frame: frame as u32 + 1,
            ..InputBuffer::default()
        };
        for (player, slot) in state.players.iter_mut().zip(&mut inputs.slots) {
            let mut near = |value: i32, step: i32, most: i32| {
                (value + random.between(-step, step)).clamp(-most, most)
            };
            player.x = near(player.x, 1 << 13, 80 << 12);
            player.y = near(player.y, 1 << 13, 40 << 12);
            player.speed_air_x = near(player.speed_air_x.into(), 200, 3000) as i16;
            player.speed_y = near(player.speed_y.into(), 200, 3000) as i16;
            player.percent = (player.percent + 1).min(6400);
            player.action_state = if frame % 20 == 0 {
                random.between(0, 39) as u16
            } else {
                player.action_state
            };
            (player.stocks, player.jumps, player.character, player.shield) = (4, 1, 20, 15_000);
            player.facing = u8::from(frame % 90 < 45);
            let unit = i32::from(STICK_UNIT);
            slot.pad.stick = [
                random.between(-unit, unit) as i16,
                random.between(-unit, unit) as i16,
            ];
            slot.pad.buttons = random.between(0, 0x1FFF) as u16 & button::ALL;
        }
        sequence.push((state, inputs));
    }
    sequence
}

fn provenance() -> Provenance {
    Provenance {
        name: "random".into(),
        training_matches: 3,
        training_frames: 99,
        ..Provenance::default()
    }
}

fn start() -> Start {
    let players = wander(1, 0)[0].0.players;
    Start {
        stage: 31,
        characters: [Start::ANY; 2],
        room: 0,
        players,
    }
}

#[test]
fn the_integers_follow_the_floats_over_200_frames() {
    for (d_model, layers) in [(64, 4), (128, 3)] {
        let weights = random_weights(d_model, layers, 1);
        let calibration: Vec<Sequence> = (2..6).map(|seed| wander(200, seed)).collect();
        let (_, report) = convert(&weights, &calibration, &[start()], &provenance()).unwrap();
        assert_eq!((report.frames, report.clipped_embeddings), (800, 0));
        for head in &report.heads {
            // Hitlag counts whole frames, so rounding alone takes some of it.
            let most = if head.name == "hitlag" { 0.1 } else { 0.05 };
            assert!(
                head.relative_error < most,
                "{}: {}",
                head.name,
                head.relative_error
            );
            assert!(
                head.agreement.is_none_or(|share| share > 0.9),
                "{}: {:?}",
                head.name,
                head.agreement
            );
        }
    }
}

#[test]
fn a_checkpoint_file_becomes_a_cartridge_that_plays_10_000_frames() {
    let folder = tempfile::tempdir().unwrap();
    let (from, out) = (
        folder.path().join("random.safetensors"),
        folder.path().join("random.cart"),
    );
    let weights = random_weights(64, 2, 7);
    let bytes = checkpoint(&weights);
    assert_eq!(Weights::parse(&bytes).unwrap(), weights);
    std::fs::write(&from, bytes).unwrap();
    let report = quantize(&from, &[wander(300, 8)], &[start()], &provenance(), &out).unwrap();
    let cartridge = Cartridge::open(&out).unwrap();
    assert_eq!(
        (cartridge.root(), cartridge.manifest().training_matches),
        (report.root, 3)
    );

    let model = cartridge.model();
    let mut pages = model.hidden().fresh();
    let mut hidden: Vec<&mut Page> = pages.iter_mut().collect();
    let mut scratch = Scratch::boxed();
    let mut state = model.start(31, [2, 20]).unwrap();
    for (_, inputs) in wander(10_000, 9) {
        let inputs = InputBuffer {
            frame: state.frame + 1,
            ..inputs
        };
        if step(
            &model,
            &mut state,
            &mut hidden,
            &inputs,
            &mut scratch,
            &Scalar,
        )
        .is_err()
        {
            // Random weights lose stocks: the match ended, so play on.
            state.status = worldline_abi::status::ACTIVE;
            state
                .players
                .iter_mut()
                .for_each(|player| player.stocks = 4);
            continue;
        }
    }
    assert!(state.frame > 5_000);
}

#[test]
fn what_is_not_a_checkpoint_is_said_in_words() {
    let message = |bytes: &[u8]| Weights::parse(bytes).unwrap_err().to_string();
    assert!(message(b"nothing").contains("the checkpoint cannot be used"));
    let mut weights = random_weights(64, 1, 1);
    weights.head_bias[0] = f32::NAN;
    assert!(message(&checkpoint(&weights)).contains("head.bias: a number is not finite"));
    weights.head_bias.pop();
    assert!(message(&checkpoint(&weights)).contains("head.bias: "));
    let none = convert(&random_weights(64, 1, 1), &[], &[], &provenance());
    assert!(matches!(none, Err(QuantizeError::NoFrames)));
}
