//! The two libraries that everybody uses, as they come from npm, and our client on one of them.

use std::process::Command;

use crate::process::root;

/// Runs `program`, which must succeed, in a folder whose packages are there.
fn run(folder: &str, program: &str, arguments: &[&str]) {
    let path = root().join(folder);
    let installed = path.join("node_modules").exists();
    assert!(
        installed,
        "run `npm ci` in {folder} first (cargo xtask test does)"
    );
    let output = Command::new(program)
        .args(arguments)
        .current_dir(&path)
        .env("WORLDLINE_CABINET", env!("CARGO_BIN_EXE_worldline-cabinet"))
        .output()
        .expect("node is needed");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Runs one of `tests/chain`.
fn node(test: &str) {
    // web3.js tries to reconnect for ever; the tests are over all the same.
    run(
        "tests/chain",
        "node",
        &["--test", "--test-force-exit", test],
    );
}

#[test]
fn web3_js_works_unmodified() {
    node("web3.test.mjs");
}

#[test]
fn kit_works_unmodified() {
    node("kit.test.mjs");
}

#[test]
fn both_work_unmodified_on_a_rollup() {
    node("rollup.test.mjs");
}

#[test]
fn our_client_uploads_a_world_and_seats_two_people() {
    run("clients/typescript", "npm", &["test", "--silent"]);
}
