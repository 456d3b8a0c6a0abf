//! What a world's author does, by the binary: from replays to a world that can be played.
#![cfg(feature = "train")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use worldline_arena::Ghost;

fn replays() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../trainer/tests/data")
}

fn worldline(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_worldline"))
        .args(arguments)
        .current_dir(folder)
        .env("XDG_CACHE_HOME", folder)
        .output()
        .unwrap()
}

/// What it printed; it must have succeeded.
fn printed(output: Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8(output.stdout).unwrap()
}

fn json(output: Output) -> Value {
    serde_json::from_str(&printed(output)).unwrap()
}

const CONFIG: &str = r#"
name = "tiny"
out = "run"
seed = 5
[data]
replays = ["REPLAYS"]
permissive = true
split = 1
rare = 1
[model]
d_model = 32
layers = 1
d_state = 16
[run]
steps = 2
lanes = 2
sequences = 32
window = 8
threads = 2
rate = 0.004
warmup = 1
decay = 0.0
weight_decay = 0.01
clip = 1.0
average = 0.5
leave = 0.2
noise = 0.5
validate = 1000
starts = 1
checkpoint = 1000
[[events]]
gate = "reset"
field = "action_state"
enters = [12]
"#;

#[test]
fn replays_become_a_world_that_is_measured_and_listed() {
    let folder = tempfile::tempdir().unwrap();
    let (folder, replays) = (folder.path(), replays());
    let replays = replays.to_str().unwrap();

    let dataset = json(worldline(
        folder,
        &["dataset", "--replays", replays, "--json"],
    ));
    let matches = dataset["matches"].as_array().unwrap();
    assert_eq!(matches.len(), 2);
    assert_eq!(dataset["licences"]["MIT"], 2);
    let frames = matches.iter().map(|one| one["frames"].as_u64().unwrap());
    assert_eq!(dataset["frames"], frames.sum::<u64>());

    std::fs::write(folder.join("tiny.toml"), CONFIG.replace("REPLAYS", replays)).unwrap();
    printed(worldline(folder, &["train", "tiny.toml"]));
    std::fs::create_dir(folder.join("worlds")).unwrap();
    let checkpoint = "run/tiny.safetensors";
    let quantized = json(worldline(
        folder,
        &[
            "quantize",
            checkpoint,
            "-o",
            "worlds/tiny.cart",
            "--replays",
            replays,
        ],
    ));
    let worlds = json(worldline(folder, &["worlds", "--json"]));
    assert_eq!(worlds[0]["root"], quantized["root"]);

    let measured = json(worldline(
        folder,
        &[
            "evaluate",
            "worlds/tiny.cart",
            checkpoint,
            "--replays",
            replays,
            "--all",
            "--starts",
            "2",
            "--json",
        ],
    ));
    let columns = measured["fidelity"]["columns"].as_array().unwrap();
    let names: Vec<_> = columns.iter().map(|column| &column["name"]).collect();
    assert_eq!(
        names,
        ["INT8", "FP32", "constant velocity", "nothing moves"]
    );
}

#[test]
fn a_ghost_is_one_players_controller() {
    let folder = tempfile::tempdir().unwrap();
    let replay = replays().join("641703d424811bf0.slpz");
    let replay = replay.to_str().unwrap();
    let ghosts = ["0", "1"].map(|seat| {
        let made = worldline(
            folder.path(),
            &["ghost", replay, "--seat", seat, "-o", "ghost.bin"],
        );
        printed(made);
        Ghost::open(&folder.path().join("ghost.bin")).unwrap()
    });
    assert_eq!(ghosts[0].pads.len(), ghosts[1].pads.len());
    assert_ne!(ghosts[0].pads, ghosts[1].pads);
}

#[test]
fn what_is_no_replay_is_told_so() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("bad.slp"), b"not a replay").unwrap();
    let ghost = worldline(folder.path(), &["ghost", "bad.slp", "-o", "ghost.bin"]);
    assert!(!ghost.status.success());
    let errors = String::from_utf8_lossy(&ghost.stderr);
    assert!(errors.contains("bad.slp is no match"), "{errors}");
    assert!(!folder.path().join("ghost.bin").exists());

    let dataset = json(worldline(
        folder.path(),
        &["dataset", "--replays", "bad.slp", "--any-licence", "--json"],
    ));
    assert_eq!(dataset["matches"].as_array().unwrap().len(), 0);
    assert_eq!(dataset["left_out"].as_object().unwrap().len(), 1);
}
