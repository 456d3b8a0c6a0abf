//! `cargo xtask lint`: everything that can be said about the code without running it.

use crate::env::{self, Outcome};
use crate::{python, run, tidy};

const HELP: &str = "\
cargo xtask lint

Formatting, clippy with warnings denied, the documentation's build with warnings denied, the
`no_std` crates on a target without a standard library, the kernels on aarch64, and `tidy`.";

/// Crates whose core runs where there is no standard library.
pub(crate) const NO_STD: [&str; 3] = ["worldline-abi", "worldline-mamba2", "worldline-cartridge"];
/// The Solana program, a workspace of its own.
pub(crate) const PROGRAM: &str = "programs/world-model/Cargo.toml";
/// A target that has `core` and nothing else.
const BARE: &str = "x86_64-unknown-none";
/// Where the NEON kernel is compiled.
const ARM: &str = "aarch64-unknown-linux-gnu";

pub(crate) fn main(arguments: &[String]) -> Outcome {
    match arguments.first().map(String::as_str) {
        None => {}
        Some("-h" | "--help") => {
            println!("{HELP}");
            return Ok(());
        }
        Some(other) => return Err(format!("`{other}` is not an option of lint\n\n{HELP}")),
    }
    let cargo = |name: &str, arguments: &[&str]| {
        run::step(name, || {
            let mut command = env::cargo(arguments)?;
            command.env("RUSTDOCFLAGS", "-D warnings");
            run::finish(&mut command)
        })
    };
    cargo("format", &["fmt", "--all", "--check"])?;
    run::step("tidy", || tidy::main(&[]))?;
    let workspace = ["--workspace", "--all-features", "--locked"];
    let mut clippy = vec!["clippy", "--all-targets"];
    clippy.extend(workspace);
    clippy.extend(["--", "-D", "warnings"]);
    cargo("clippy", &clippy)?;
    let mut apart = vec![("program", PROGRAM)];
    // What binds to Python asks a Python about itself.
    if env::on_path(&["python3"]).is_some() {
        apart.push(("python", python::MANIFEST));
    } else {
        println!("── python: SKIPPED, there is no `python3` here");
    }
    for (name, manifest) in apart {
        let at = ["--manifest-path", manifest];
        cargo(
            &format!("{name}: format"),
            &[&["fmt", "--check"], &at[..]].concat(),
        )?;
        let clippy = ["clippy", "--all-targets", "--locked"];
        let deny = ["--", "-D", "warnings"];
        cargo(
            &format!("{name}: clippy"),
            &[&clippy[..], &at, &deny].concat(),
        )?;
    }
    let mut doc = vec!["doc", "--no-deps"];
    doc.extend(workspace);
    cargo("documentation", &doc)?;

    for (name, target, features) in [
        ("bare metal", BARE, &["--no-default-features"][..]),
        ("aarch64", ARM, &[]),
    ] {
        if env::printed("rustup", &["target", "add", target]).is_none() {
            println!("── {name}: SKIPPED, rustup could not add the target {target}");
            continue;
        }
        let mut check = vec!["check", "--locked", "--target", target];
        check.extend(features);
        for package in NO_STD {
            check.extend(["--package", package]);
        }
        cargo(name, &check)?;
    }
    Ok(())
}
