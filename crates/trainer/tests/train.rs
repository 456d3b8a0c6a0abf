//! Training from real replays: a run learns, and a run that was stopped goes on as if it had not been.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use worldline_trainer::train::{Checkpoint, Config, read_config, run};

/// Steps of the run that is stopped: far more than a first checkpoint takes.
const STEPS: u64 = 24;

/// A small run of `steps` over the fixture replays that writes to `out`.
fn config(out: &Path, steps: u64) -> Config {
    let replays = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let text = format!(
        r#"
name = "tiny"
out = {out:?}
seed = 5
[data]
replays = [{replays:?}]
permissive = false
split = 1
rare = 1
[model]
d_model = 32
layers = 1
d_state = 16
[run]
steps = {steps}
lanes = 2
sequences = 32
window = 8
threads = 2
rate = 0.004
warmup = 4
decay = 0.0
weight_decay = 0.01
clip = 1.0
average = 0.5
leave = 0.2
noise = 0.5
validate = 1000
starts = 1
checkpoint = 1000
[self_forcing]
from = 2
chance = 0.5
shortest = 1
longest = 4
[[events]]
gate = "reset"
field = "action_state"
enters = [12]
"#
    );
    let file = out.join("config.toml");
    std::fs::create_dir_all(out).unwrap();
    std::fs::write(&file, text).unwrap();
    read_config(&file).unwrap()
}

fn weights(out: &Path) -> Vec<f32> {
    Checkpoint::load(&out.join("tiny.safetensors"))
        .unwrap()
        .weights
}

#[test]
fn a_stopped_run_goes_on_exactly_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, parts) = (folder.path().join("whole"), folder.path().join("parts"));
    run(&config(&whole, STEPS), &AtomicBool::new(false)).unwrap();

    let mut config = config(&parts, STEPS);
    config.run.checkpoint = 1;
    let (stop, state) = (AtomicBool::new(false), parts.join("tiny.state"));
    std::thread::scope(|scope| {
        let running = scope.spawn(|| run(&config, &stop));
        while !state.exists() {
            std::thread::yield_now();
        }
        stop.store(true, Ordering::Relaxed);
        running.join().unwrap().unwrap();
    });
    assert!(
        !parts.join("tiny.jsonl").exists(),
        "it was stopped before its end"
    );
    run(&config, &AtomicBool::new(false)).unwrap();
    assert_eq!(weights(&whole), weights(&parts));
}

#[test]
fn a_run_learns() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path(), 60);
    config.run.validate = 20;
    config.self_forcing.chance = 0.0;
    run(&config, &AtomicBool::new(false)).unwrap();
    let log = std::fs::read_to_string(folder.path().join("tiny.jsonl")).unwrap();
    let losses: Vec<f64> = log
        .lines()
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["loss"]
                .as_f64()
                .unwrap()
        })
        .collect();
    assert_eq!(losses.len(), 3);
    assert!(losses[2] < 0.6 * losses[0], "{losses:?}");
}

#[test]
fn a_damaged_checkpoint_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), 1);
    run(&config, &AtomicBool::new(false)).unwrap();
    let file = folder.path().join("tiny.safetensors");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes.truncate(bytes.len() / 2);
    std::fs::write(&file, bytes).unwrap();
    let error = Checkpoint::load(&file).unwrap_err().to_string();
    assert!(error.contains("not a whole checkpoint"), "{error}");
}
