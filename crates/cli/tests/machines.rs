//! Machines on the command line: a server that has them, and the same commands that drive other worlds.

mod common;

use std::process::{ExitCode, Output};

use common::Arcade;
use libtest_mimic::{Arguments, Trial};
use serde_json::Value;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // What is ignored is what this host cannot run.
    arguments.include_ignored = false;
    let lacks = if arguments.list { None } else { lacking() };
    if let Some(reason) = &lacks {
        eprintln!("IGNORED, machines on the command line: {reason}");
    }
    let tests: [(&str, fn()); 2] = [
        (
            "a_machine_is_made_kept_and_branched_on_the_command_line",
            a_machine_is_made_kept_and_branched_on_the_command_line,
        ),
        (
            "a_snapshot_outlives_a_run_without_its_backend",
            a_snapshot_outlives_a_run_without_its_backend,
        ),
    ];
    let trial = |(name, test): (&str, fn())| {
        let trial = Trial::test(name, move || {
            test();
            Ok(())
        });
        trial.with_ignored_flag(lacks.is_some())
    };
    libtest_mimic::run(&arguments, tests.map(trial).into()).exit_code()
}

/// Runs a command about worlds of this server, which has to succeed; gives what it prints.
fn told(arcade: &Arcade, arguments: &[&str]) -> String {
    let output = tried(arcade, arguments);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {errors}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn tried(arcade: &Arcade, arguments: &[&str]) -> Output {
    let url = format!("http://{}", arcade.address);
    let mut all = vec!["world", "--server", &url];
    all.extend(arguments);
    common::run(&all)
}

fn json(arcade: &Arcade, arguments: &[&str]) -> Value {
    let mut all = vec!["--json"];
    all.extend(arguments);
    serde_json::from_str(&told(arcade, &all)).unwrap()
}

/// Why this host has none.
fn lacking() -> Option<String> {
    let told = common::run(&["doctor", "--json"]);
    let reports: Vec<Value> = serde_json::from_slice(&told.stdout).ok()?;
    let machines = reports.iter().find(|one| one["backend"] == "firecracker");
    match machines {
        Some(report) if report["usable"] == true => None,
        Some(report) => Some(report["capabilities"].to_string()),
        None => Some("there is no Firecracker: WORLDLINE_FIRECRACKER names one".into()),
    }
}

fn a_machine_is_made_kept_and_branched_on_the_command_line() {
    let arcade = Arcade::start();
    let told = |arguments: &[&str]| told(&arcade, arguments);
    let json = |arguments: &[&str]| json(&arcade, arguments);
    let made = json(&["create", "--backend", "firecracker"]);
    let id = made["id"].as_str().unwrap();
    told(&["exec", id, "poke 5 1069"]);
    assert_eq!(told(&["exec", id, "count"]), "1");
    let branched = json(&["branch", id, "-n", "3"]);
    let children = branched["instances"].as_array().unwrap();
    assert_eq!(children.len(), 3);
    for (at, child) in children.iter().enumerate() {
        let child = child["id"].as_str().unwrap();
        assert_eq!(told(&["exec", child, "peek 5"]), "1069");
        for _ in 0..at {
            told(&["exec", child, "count"]);
        }
        assert_eq!(told(&["exec", child, "count"]), (at + 2).to_string());
    }
    told(&["snapshot", id, "--name", "kept"]);
    told(&["pause", id]);
    told(&["resume", id]);
    assert_eq!(told(&["exec", id, "count"]), "2");
    // The server is killed, not asked to end: its machines would wait for its next start.
    let children = children.iter().filter_map(|child| child["id"].as_str());
    for one in children.chain([id]) {
        told(&["rm", one]);
    }
}

/// Firecracker may be missing for a while: not named, not installed, a processor that runs no machines.
fn a_snapshot_outlives_a_run_without_its_backend() {
    let arcade = Arcade::start();
    let made = json(&arcade, &["create", "--backend", "firecracker"]);
    told(
        &arcade,
        &["exec", made["id"].as_str().unwrap(), "poke 5 1069"],
    );
    let kept = json(&arcade, &["snapshot", made["id"].as_str().unwrap()]);
    let kept = kept["id"].as_str().unwrap();
    let listed = |arcade: &Arcade| {
        let all = json(arcade, &["list", "--snapshots"]);
        let all = all.as_array().unwrap();
        all.iter().any(|one| one["id"] == kept)
    };

    let without = ("WORLDLINE_FIRECRACKER", "no-such-program");
    let arcade = Arcade::over_with(arcade.stop(), &[without]);
    let away = "snapshots of a backend that does not run here now: 1 (kept;";
    let said = arcade.said.join("\n");
    assert!(said.contains(away), "{said}");
    assert!(listed(&arcade));
    let refused = tried(&arcade, &["restore", kept]);
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && words.contains("was taken under firecracker"),
        "{words}"
    );

    let arcade = Arcade::over_with(arcade.stop(), &[]);
    assert!(listed(&arcade));
    let again = json(&arcade, &["restore", kept]);
    let again = again["id"].as_str().unwrap();
    assert_eq!(told(&arcade, &["exec", again, "peek 5"]), "1069");
}
