//! The integer step as a whole: it is alive, bounded, and its parameters are checked.

use worldline_mamba2::sample::{Model, Random, Size, activations, wild_activations};
use worldline_mamba2::{
    BoundError, Dims, Kernels, LayerState, Scalar, Work, batch_layer_step, embed, head, layer_step,
};

/// The last outputs after the frames' inputs.
fn run(model: &Model, frames: &[Vec<i16>]) -> Vec<i32> {
    let (mut state, mut work) = (model.state(), Work::boxed());
    let mut outputs = Vec::new();
    for inputs in frames {
        embed(&Scalar, &model.input(), inputs, &mut work);
        for (layer, state) in model.layers().zip(&mut state) {
            layer_step(&Scalar, &layer, state, &mut work);
        }
        outputs = head(&Scalar, &model.output(), &model.tables(), &mut work).to_vec();
    }
    outputs
}

#[test]
fn outputs_depend_on_every_past_frame() {
    let model = Model::random(Size::MICRO, 1);
    let random = &mut Random(2);
    let mut frames: Vec<_> = (0..8).map(|_| activations(64, random)).collect();
    let before = run(&model, &frames);
    frames[1][5] ^= 0x100;
    let after = run(&model, &frames);
    assert!(before.iter().any(|value| *value != 0));
    assert_ne!(before, after);
    assert!(
        before.iter().all(|value| value.abs() < 1 << 20),
        "{before:?}"
    );
}

#[test]
fn wild_inputs_and_states_never_overflow() {
    let model = Model::random(Size::MICRO, 3);
    let random = &mut Random(4);
    let (mut states, mut work) = (model.state(), Work::boxed());
    for state in &mut states {
        state.conv().fill(i16::MIN);
        (0..2).for_each(|index| state.head(index).fill(i16::MIN));
    }
    for _ in 0..50 {
        embed(
            &Scalar,
            &model.input(),
            &wild_activations(64, random),
            &mut work,
        );
        work.residual[0] = i32::MIN;
        work.residual[1] = i32::MAX;
        for (layer, state) in model.layers().zip(&mut states) {
            layer_step(&Scalar, &layer, state, &mut work);
        }
    }
}

#[test]
fn a_batch_gives_the_bytes_of_single_steps() {
    let model = Model::random(Size::MICRO, 5);
    let random = &mut Random(6);
    let layer = model.layers().next().unwrap();
    let mut single: Vec<_> = (0..5)
        .map(|_| (model.state().remove(0), Work::boxed()))
        .collect();
    let (mut states, mut works): (Vec<_>, Vec<_>) = single.clone().into_iter().unzip();
    for frame in 0..3 {
        for ((state, work), batched) in single.iter_mut().zip(&mut works) {
            let inputs = activations(64, random);
            embed(&Scalar, &model.input(), &inputs, work);
            embed(&Scalar, &model.input(), &inputs, batched);
            layer_step(&Scalar, &layer, state, work);
        }
        let mut works: Vec<_> = works.iter_mut().map(|work| &mut **work).collect();
        batch_layer_step(&Scalar, &layer, &mut states, &mut works);
        for ((state, work), (other, batched)) in single.iter().zip(states.iter().zip(&works)) {
            assert_eq!(state, other, "state in frame {frame}");
            assert_eq!(work.residual, batched.residual, "residual in frame {frame}");
        }
    }
}

#[test]
fn parameters_out_of_bounds_are_refused_by_name() {
    let model = Model::random(Size::MICRO, 7);
    for layer in model.layers() {
        assert_eq!(layer.check(), Ok(()));
    }
    assert_eq!(
        (model.input().check(), model.output().check()),
        (Ok(()), Ok(()))
    );
    let mut layer = model.layers().next().unwrap();
    layer.params.dt_bias = &[0];
    let length = BoundError::Length {
        name: "dt_bias",
        expected: 2,
        found: 1,
    };
    assert_eq!(layer.check(), Err(length));
    layer.params.dt_bias = &[0, i32::MIN];
    assert_eq!(
        layer.check(),
        Err(BoundError::Range {
            name: "dt_bias",
            index: 1
        })
    );
    let mut input = model.input();
    input.row_sums = &[1 << 20; 64];
    assert_eq!(input.check(), Err(BoundError::RowSum { row: 0 }));
    layer.dims = Dims {
        d_model: 1024,
        d_state: 16,
    };
    assert!(matches!(layer.check(), Err(BoundError::Dims(_))));
}

/// The hash of ten seconds' outputs and memory: if it changes, every cartridge plays
/// differently, and replays of before no longer verify.
#[test]
fn the_golden_trace_has_not_changed() {
    let model = Model::random(Size::MICRO, 2026);
    let (mut states, mut work) = (model.state(), Work::boxed());
    let (mut random, mut hash) = (Random(1), [0; 32]);
    for _ in 0..600 {
        let inputs = activations(64, &mut random);
        embed(&Scalar, &model.input(), &inputs, &mut work);
        for (layer, state) in model.layers().zip(&mut states) {
            layer_step(&Scalar, &layer, state, &mut work);
            let numbers = state
                .numbers()
                .iter()
                .flat_map(|number| number.to_le_bytes());
            hash = Scalar.sha256(&[&hash, &numbers.collect::<Vec<_>>()]);
        }
        let outputs = head(&Scalar, &model.output(), &model.tables(), &mut work);
        let bytes: Vec<u8> = outputs
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        hash = Scalar.sha256(&[&hash, &bytes]);
    }
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        hex,
        "8f66094b2d3a2d813d645bf373c581a9e611cbbb924a3f83fb677712775bba3b"
    );
}

#[test]
fn sha256_is_sha256() {
    let hash = Scalar.sha256(&[b"a", b"bc"]);
    assert_eq!(hash[..4], [0xba, 0x78, 0x16, 0xbf]);
}
