//! Machines on the command line: a server that has them, and the same commands that drive other worlds.

mod common;

use std::process::ExitCode;

use common::Arcade;
use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // What is ignored is what this host cannot run.
    arguments.include_ignored = false;
    let lacks = if arguments.list { None } else { lacking() };
    if let Some(reason) = &lacks {
        eprintln!("IGNORED, machines on the command line: {reason}");
    }
    let name = "a_machine_is_made_kept_and_branched_on_the_command_line";
    let trial = Trial::test(name, || {
        a_machine_is_made_kept_and_branched_on_the_command_line();
        Ok(())
    });
    let trials = vec![trial.with_ignored_flag(lacks.is_some())];
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Why this host has none.
fn lacking() -> Option<String> {
    let told = common::run(&["doctor", "--json"]);
    let reports: Vec<serde_json::Value> = serde_json::from_slice(&told.stdout).ok()?;
    let machines = reports.iter().find(|one| one["backend"] == "firecracker");
    match machines {
        Some(report) if report["usable"] == true => None,
        Some(report) => Some(report["capabilities"].to_string()),
        None => Some("there is no Firecracker: WORLDLINE_FIRECRACKER names one".into()),
    }
}

fn a_machine_is_made_kept_and_branched_on_the_command_line() {
    let arcade = Arcade::start();
    let url = format!("http://{}", arcade.address);
    let told = |arguments: &[&str]| {
        let mut all = vec!["world", "--server", &url];
        all.extend(arguments);
        let output = common::run(&all);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {errors}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    let json = |arguments: &[&str]| -> serde_json::Value {
        let mut all = vec!["--json"];
        all.extend(arguments);
        serde_json::from_str(&told(&all)).unwrap()
    };
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
