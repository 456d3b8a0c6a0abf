//! `cargo xtask fuzz`: runs every fuzz target with the toolchain that builds everything else.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::env::{self, Outcome};
use crate::run;
use crate::tally::Tally;

const HELP: &str = "\
cargo xtask fuzz [SECONDS]

Runs each fuzz target of the crates and programs (crates/*/fuzz, programs/*/fuzz) under libFuzzer for 60 seconds, or for as long
as told. Found inputs stay in the cache folder, under fuzz/TARGET, and a run begins with those of
the run before. Needs a C++ compiler, and no nightly toolchain.";

/// Seconds that a target runs unless told otherwise.
const SECONDS: u32 = 60;
/// What libFuzzer wants of a target: counters at every edge, and comparisons. `cargo fuzz` passes
/// the same, and a sanitizer that needs nightly; ours find panics and overflows.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
                     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
                     -Cllvm-args=-sanitizer-coverage-pc-table \
                     -Cllvm-args=-sanitizer-coverage-trace-compares \
                     -Cdebug-assertions -Coverflow-checks -Ccodegen-units=1";

pub(crate) fn main(arguments: &[String]) -> Outcome {
    let seconds = match arguments {
        [] => SECONDS,
        [help] if help == "-h" || help == "--help" => {
            println!("{HELP}");
            return Ok(());
        }
        [seconds] => seconds
            .parse()
            .map_err(|_| format!("`{seconds}` is not a number of seconds\n\n{HELP}"))?,
        _ => return Err(format!("one number at most\n\n{HELP}")),
    };
    let tally = all(seconds)?;
    println!("{tally}");
    if tally.failed == 0 {
        Ok(())
    } else {
        Err("a fuzz target failed; the input is named above".into())
    }
}

/// Runs each target for a while; a target is a test.
pub(crate) fn all(seconds: u32) -> Outcome<Tally> {
    let mut tally = Tally::default();
    for folder in folders()? {
        let built = target()?;
        let mut build = Command::new("cargo");
        build
            .args(["build", "--release", "--bins", "--locked"])
            .args(["--target", &host()?])
            .current_dir(&folder)
            .env("CARGO_TARGET_DIR", &built)
            .env("RUSTFLAGS", FLAGS);
        run::finish(&mut build)?;
        for name in targets(&folder)? {
            let program = built.join(host()?).join("release").join(&name);
            let passed = run::step(&format!("fuzz {name}"), || fuzz(&name, &program, seconds));
            tally += match passed {
                Ok(()) => Tally::PASSED,
                Err(problem) => {
                    eprintln!("{problem}");
                    Tally::FAILED
                }
            };
        }
    }
    Ok(tally)
}

fn fuzz(name: &str, program: &Path, seconds: u32) -> Outcome {
    let corpus = env::cache()?.join("fuzz").join(name);
    fs::create_dir_all(&corpus).map_err(|error| format!("{}: {error}", corpus.display()))?;
    let mut command = Command::new(program);
    command
        .arg(format!("-max_total_time={seconds}"))
        .args(["-rss_limit_mb=4096", "-verbosity=0", "-print_final_stats=1"])
        .arg(format!("-artifact_prefix={}/crash-", corpus.display()))
        .arg(&corpus);
    run::finish(&mut command)
}

/// Instrumented code must not mix with any other.
fn target() -> Outcome<PathBuf> {
    Ok(env::target()?.join("fuzz"))
}

/// Flags for a named target leave build scripts and macros alone.
fn host() -> Outcome<String> {
    let about = env::printed("rustc", &["-vV"]).unwrap_or_default();
    let host = about.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned)
        .ok_or_else(|| "`rustc -vV` names no host".into())
}

/// Folders of crates and programs with fuzz targets.
fn folders() -> Outcome<Vec<PathBuf>> {
    let mut all = entries(&env::root().join("crates"))?;
    all.extend(entries(&env::root().join("programs"))?);
    let folders = all.into_iter().map(|path| path.join("fuzz"));
    Ok(folders.filter(|path| path.is_dir()).collect())
}

/// Names of a folder's targets.
fn targets(folder: &Path) -> Outcome<Vec<String>> {
    let files = entries(&folder.join("fuzz_targets"))?;
    let names = files.iter().filter_map(|path| path.file_stem());
    Ok(names
        .map(|name| name.to_string_lossy().into_owned())
        .collect())
}

fn entries(folder: &Path) -> Outcome<Vec<PathBuf>> {
    let failed = |error| format!("{}: {error}", folder.display());
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        paths.push(entry.map_err(failed)?.path());
    }
    paths.sort();
    Ok(paths)
}
