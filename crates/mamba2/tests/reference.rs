//! The floating-point step against Hugging Face's library: its README in
//! `data/hf-mamba2` says what each vector is.
#![cfg(feature = "std")]

use safetensors::SafeTensors;
use std::path::Path;
use worldline_mamba2::reference::{LoadError, Model, Real, floats};

const CONFIG: &str = include_str!("data/hf-mamba2/config.json");
const WEIGHTS: &[u8] = include_bytes!("data/hf-mamba2/model.safetensors");
const VECTORS: &[u8] = include_bytes!("data/hf-mamba2/reference_io.safetensors");
const WIDTH: usize = 64;

fn vector(name: &str) -> Vec<f64> {
    floats(
        &SafeTensors::deserialize(VECTORS)
            .unwrap()
            .tensor(name)
            .unwrap(),
    )
    .unwrap()
}

/// The greatest difference relative to the greatest expected value.
fn difference(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let scale = expected
        .iter()
        .fold(0.0, |most: f64, value| most.max(value.abs()));
    let pairs = found.iter().zip(expected);
    pairs.fold(0.0, |most: f64, (a, b)| most.max((a - b).abs())) / scale
}

/// Every step's values after each block and after the final norm, and the final states.
fn run<T: Real + Into<f64>>(inputs: &[f64]) -> ([Vec<f64>; 3], Vec<Vec<f64>>) {
    let model = Model::<T>::parse(CONFIG, WEIGHTS).unwrap();
    let (mut states, mut again) = (model.state(), model.state());
    let mut outputs: [Vec<f64>; 3] = Default::default();
    for inputs in inputs.chunks(WIDTH) {
        let mut hidden: Vec<T> = inputs.iter().map(|value| T::of(*value)).collect();
        let mut whole = hidden.clone();
        for (index, state) in states.iter_mut().enumerate() {
            model.block(index, state, &mut hidden);
            outputs[index].extend(hidden.iter().map(|value| (*value).into()));
        }
        model.step(&mut again, &mut whole);
        outputs[2].extend(whole.into_iter().map(Into::into));
    }
    let heads = |state: worldline_mamba2::reference::BlockState<T>| {
        state.heads.into_iter().map(Into::into).collect()
    };
    (outputs, states.into_iter().map(heads).collect())
}

#[test]
fn in_f64_it_is_the_exact_recurrence() {
    let ([_, _, last], states) = run::<f64>(&vector("inputs_embeds_f64"));
    assert!(difference(&last, &vector("np_last_hidden_f64")) < 1e-9);
    for (layer, state) in states.iter().enumerate() {
        assert!(difference(state, &vector(&format!("np_state_final_l{layer}_f64"))) < 1e-9);
    }
}

#[test]
fn it_agrees_with_the_library_in_both_precisions() {
    for (outputs, precision) in [
        (run::<f64>(&vector("inputs_embeds_f64")).0, "f64"),
        (run::<f32>(&vector("inputs_embeds_f32")).0, "f32"),
    ] {
        let [first, second, last] = outputs;
        for (found, name) in [
            (&first, "hidden_0"),
            (&second, "hidden_1"),
            (&last, "hidden_2"),
            (&last, "last_hidden"),
            (&last, "step_last_hidden"),
        ] {
            let name = format!("{name}_{precision}");
            let difference = difference(found, &vector(&name));
            assert!(difference < 1e-5, "{name} differs by {difference}");
        }
    }
}

#[test]
fn broken_checkpoints_are_errors_that_say_what_is_wrong() {
    let error = |config: &str, weights: &[u8]| Model::<f32>::parse(config, weights).unwrap_err();
    let wider = CONFIG.replace("\"state_size\": 16", "\"state_size\": 32");
    let text = error(&wider, WEIGHTS).to_string();
    assert_eq!(
        text,
        "tensor layers.0.mixer.in_proj.weight holds 18944 numbers where the configuration asks for 20992"
    );
    let relu = CONFIG.replace("\"silu\"", "\"relu\"");
    assert_eq!(
        error(&relu, WEIGHTS).to_string(),
        "config.json: hidden_act is \"relu\", this step needs silu"
    );
    assert!(matches!(error("{", WEIGHTS), LoadError::Json(_)));
    assert!(matches!(
        error(CONFIG, &WEIGHTS[..1000]),
        LoadError::Tensors(_)
    ));
    let missing = Model::<f32>::load(Path::new("no such folder")).unwrap_err();
    assert!(
        missing
            .to_string()
            .starts_with("cannot read no such folder")
    );
}

#[test]
fn a_folder_is_loaded_unmodified() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/hf-mamba2");
    let model = Model::<f32>::load(&folder).unwrap();
    assert_eq!(
        (model.config().hidden_size, model.config().num_hidden_layers),
        (64, 2)
    );
}
