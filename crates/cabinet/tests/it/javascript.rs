//! The two libraries that everybody uses, as they come from npm.

use std::process::Command;

use crate::process::root;

fn run(test: &str) {
    let folder = root().join("tests/chain");
    let installed = folder.join("node_modules").exists();
    assert!(
        installed,
        "run `npm ci` in tests/chain first (cargo xtask test does)"
    );
    let output = Command::new("node")
        // web3.js tries to reconnect for ever; the tests are over all the same.
        .args(["--test", "--test-force-exit", test])
        .current_dir(&folder)
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

#[test]
fn web3_js_works_unmodified() {
    run("web3.test.mjs");
}

#[test]
fn kit_works_unmodified() {
    run("kit.test.mjs");
}
