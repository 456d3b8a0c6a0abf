//! `cargo xtask test`: every test of the house, one summary line.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::env::{self, Outcome};
use crate::tally::{self, Tally};
use crate::{bench, elf, fuzz, interop, lint, play, python, run, site, worlds};

const HELP: &str = "\
cargo xtask test [--slow] [--images]

Sets up what the tests need (site packages; Chromium from Debian when run as root), then runs
the Rust tests of all crates and features, the documentation's examples, whether the committed ELF is
what its source builds, a match on MagicBlock's own validator, the tests of the Python package and of the Morph client, the site's type check and tests,
and the browser test against the real server. Ends with one line:

  N passed, N failed, N skipped

and, above it, how many of those that passed left out what this host cannot do.

  --slow    also run the long checks (whole matches of shipped worlds, long traces, fuzzing) and hold this
            machine's speed to the specification, and keep what came of all parts in benches/runs;
            nothing else should run beside them
  --images  keep the browser test's screenshots as docs/images/";

/// Seconds that each fuzz target runs among the slow tests.
const FUZZ_SECONDS: u32 = 60;
/// Names under which distributions install Chromium.
const CHROMIUM: [&str; 4] = [
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
];
/// What Debian calls them.
const DEBIAN_PACKAGES: [&str; 3] = ["chromium", "chromium-driver", "fonts-dejavu-core"];

pub(crate) fn main(arguments: &[String]) -> Outcome {
    let mut slow = false;
    let mut screenshots = env::target()?.join("screenshots");
    for argument in arguments {
        match argument.as_str() {
            "--slow" => slow = true,
            "--images" => screenshots = env::root().join("docs").join("images"),
            "-h" | "--help" => {
                println!("{HELP}");
                return Ok(());
            }
            other => return Err(format!("`{other}` is not an option of test\n\n{HELP}")),
        }
    }
    env::require_node()?;
    let load = bench::load();
    let mut parts = Vec::new();
    let mut notes = Vec::new();
    let mut count = |name: &str, work: &mut dyn FnMut() -> Outcome<Tally>| {
        let tally = run::step(name, work).unwrap_or_else(|problem| {
            notes.push(format!("FAILED {name}: {problem}"));
            Tally::FAILED
        });
        println!("── {name}: {tally}");
        parts.push((name.to_owned(), tally));
    };
    count("rust", &mut || {
        chain_packages()
            .and_then(|()| worlds::duckdb())
            .and_then(|()| worlds::qemu())
            .and_then(|()| rust(slow))
    });
    count("elf", &mut || elf::check().map(passed_or_skipped));
    if slow {
        count("surfpool", &mut interop::surfpool);
    }
    count("interop", &mut interop::check);
    count("python", &mut python::tests);
    count("morph client", &mut worlds::client);
    count("site types", &mut || {
        site::build().and_then(|()| site_types())
    });
    count("site", &mut site_tests);
    if slow {
        count("speed", &mut speed);
        count("fuzz", &mut || fuzz::all(FUZZ_SECONDS));
    }
    match run::step("chromium", chromium) {
        Ok(chromium) => count("browser", &mut || browser(&chromium, &screenshots)),
        Err(reason) => {
            parts.push(("browser".to_owned(), Tally::SKIPPED));
            notes.push(format!("SKIPPED the browser test: {reason}"));
        }
    }
    println!();
    for note in &notes {
        println!("{note}");
    }
    if slow {
        let report = report(&parts, &notes);
        bench::keep("slow", "cargo xtask test --slow", &load, &report)?;
    }
    let mut total = Tally::default();
    parts.iter().for_each(|(_, tally)| total += *tally);
    if total.partly > 0 {
        println!(
            "of those that passed, {} left out what this host cannot do: see `IGNORED` above",
            total.partly
        );
    }
    println!("{total}");
    // The line above is the last word, whatever it says: the failures are named above it.
    if total.failed == 0 {
        Ok(())
    } else {
        Err(String::new())
    }
}

/// All parts of a run with what came of them, as JSON.
fn report(parts: &[(String, Tally)], notes: &[String]) -> String {
    let part = |(name, tally): &(String, Tally)| {
        format!(
            "{{\"part\": {}, \"passed\": {}, \"failed\": {}, \"skipped\": {}, \"partly\": {}}}",
            bench::quote(name),
            tally.passed,
            tally.failed,
            tally.skipped,
            tally.partly
        )
    };
    let parts: Vec<String> = parts.iter().map(part).collect();
    let notes: Vec<String> = notes.iter().map(|note| bench::quote(note)).collect();
    format!(
        "{{\n\"parts\": [\n{}\n],\n\"notes\": [{}]\n}}",
        parts.join(",\n"),
        notes.join(", ")
    )
}

fn passed_or_skipped(checked: bool) -> Tally {
    if checked {
        Tally::PASSED
    } else {
        Tally::SKIPPED
    }
}

/// What the cabinet's tests drive, and the program that lends accounts.
fn chain_packages() -> Outcome {
    for folder in ["tests/chain", "programs/delegation", "clients/typescript"] {
        run::step(folder, || site::install(&env::root().join(folder)))?;
    }
    Ok(())
}

/// Unit, integration and documentation tests of every crate with every feature.
fn rust(slow: bool) -> Outcome<Tally> {
    let workspace = ["test", "--workspace", "--all-features", "--locked"];
    // Built first, since compilers may be silent for long and tests may not.
    run::step("rust: build", || {
        run::finish(env::cargo(&workspace)?.arg("--no-run"))
    })?;
    let mut command = env::cargo(&workspace)?;
    command.arg("--no-fail-fast");
    match run::step("firecracker", worlds::firecracker) {
        Ok(program) => {
            command.env("WORLDLINE_FIRECRACKER", program);
        }
        // The tests that need it count themselves.
        Err(reason) => println!("SKIPPED the tests of machines: {reason}"),
    }
    if slow {
        // Examples marked `ignore` in documentation are not tests, so libraries and binaries only.
        command.args(["--all-targets", "--", "--include-ignored"]);
    }
    let (text, success) = run::follow(&mut command)?;
    let mut tally = tally::cargo(&text).with_exit(success);
    let program = ["test", "--manifest-path", lint::PROGRAM, "--locked"];
    let (text, success) = run::follow(&mut env::cargo(&program)?)?;
    tally += tally::cargo(&text).with_exit(success);
    if slow {
        let (text, success) = run::follow(&mut env::cargo(&[
            "test",
            "--workspace",
            "--all-features",
            "--doc",
            "--locked",
        ])?)?;
        tally += tally::cargo(&text).with_exit(success);
    }
    Ok(tally)
}

/// The type check counts as one test, and that of the client as another.
fn site_types() -> Outcome<Tally> {
    let client = env::root().join("clients").join("typescript");
    site::install(&client)?;
    let mut tally = Tally::default();
    for folder in [site::folder(), client] {
        let (_, success) = run::follow(&mut site::npm(&folder, &["run", "--silent", "check"]))?;
        tally += Tally {
            passed: u64::from(success),
            ..Tally::default()
        }
        .with_exit(success);
    }
    Ok(tally)
}

fn site_tests() -> Outcome<Tally> {
    let (text, success) = run::follow(&mut site::npm(
        &site::folder(),
        &["run", "--silent", "test"],
    ))?;
    Ok(tally::vitest(&text).with_exit(success))
}

/// What the specification promises of speed, on a release build.
fn speed() -> Outcome<Tally> {
    let worldline = worldline()?;
    let firecracker = worlds::firecracker().ok();
    let mut tally = Tally::default();
    let mut check = |arguments: &[&str]| {
        let mut command = Command::new(&worldline);
        command.arg("bench").args(arguments).arg("--check");
        if let Some(program) = &firecracker {
            command.env("WORLDLINE_FIRECRACKER", program);
        }
        let (text, success) = run::follow(command.current_dir(env::root()))?;
        tally += tally::promises(&text).with_exit(success);
        Ok::<(), String>(())
    };
    for bench in ["physics", "sessions", "cabinet"] {
        check(&[bench])?;
    }
    if cfg!(target_os = "linux") {
        for backend in ["process", "firecracker", "qemu"] {
            check(&["branch", "--backend", backend])?;
        }
    }
    Ok(tally)
}

/// The command with everything that tests of it need: built once, for all of them.
fn worldline() -> Outcome<PathBuf> {
    if cfg!(target_os = "linux") {
        return worlds::build();
    }
    play::build(&[])
}

/// Where the browser test lives.
pub(crate) fn browser_folder() -> PathBuf {
    env::root().join("tests").join("browser")
}

/// A full match between two browsers through the real server.
fn browser(chromium: &Path, screenshots: &Path) -> Outcome<Tally> {
    let worldline = worldline()?;
    run::step("delegation program", || site::install(&play::delegation()))?;
    let folder = browser_folder();
    site::install(&folder)?;
    let mut command = Command::new("node");
    command
        // One after the other: both count painted frames or press keys in time.
        .args([
            "--test",
            "--test-reporter=tap",
            "--test-timeout=420000",
            "--test-concurrency=1",
        ])
        .args([
            "match.test.mjs",
            "chain.test.mjs",
            "outage.test.mjs",
            "worlds.test.mjs",
        ])
        .current_dir(&folder)
        .env("CHROMIUM", chromium)
        .env("WORLDLINE", worldline)
        .env("SCREENSHOTS", screenshots);
    let (text, success) = run::follow(&mut command)?;
    Ok(tally::node(&text).with_exit(success))
}

/// Chromium's path; installs it first where this process may.
pub(crate) fn chromium() -> Outcome<PathBuf> {
    if let Some(named) = std::env::var_os("CHROMIUM").filter(|value| !value.is_empty()) {
        return Ok(PathBuf::from(named));
    }
    if let Some(found) = env::on_path(&CHROMIUM) {
        return Ok(found);
    }
    let packages = DEBIAN_PACKAGES.join(" ");
    if !env::is_administrator() || env::on_path(&["apt-get"]).is_none() {
        return Err(format!(
            "Chromium was not found. Install it (on Debian: `sudo apt-get install {packages}`), or \
             name it in the variable CHROMIUM."
        ));
    }
    run::install(&DEBIAN_PACKAGES)?;
    env::on_path(&CHROMIUM)
        .ok_or_else(|| format!("`{packages}` installed, yet no Chromium on the path"))
}
