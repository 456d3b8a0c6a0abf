//! `cargo xtask interop`: MagicBlock's own validator over our box.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::env::{self, Outcome};
use crate::tally::{self, Tally};
use crate::{play, run, site};

const HELP: &str = "\
cargo xtask interop [--surfpool]

Starts the validator of the npm package @magicblock-labs/ephemeral-validator-linux-x64 over our L1 in
a box, and plays there: a test program is lent, changed and given back; a match of the shipped micro
world is lent, played in plain instructions, settled and verified. The package is for Linux on x86-64
and a newer C library than some systems have; Debian's is unpacked beside it then, into the cache
folder. Skipped, and said so, where neither can be had.

  --surfpool  plays on surfpool's L1 instead, which takes a quarter of an hour to build";

/// Debian's packages that the validator links with, from the release that has them new enough.
const LIBRARIES: [&str; 6] = [
    "libc6",
    "libstdc++6",
    "libgcc-s1",
    "libssl3t64",
    "libzstd1",
    "zlib1g",
];
const RELEASE: &str = "trixie";
/// Who signed that release.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Longest that one of its tests may take, in milliseconds; each wait in them is bounded by itself too.
const TEST_MILLIS: u32 = 240_000;

pub(crate) fn main(arguments: &[String]) -> Outcome {
    let tally = match arguments.first().map(String::as_str) {
        None => check()?,
        Some("--surfpool") => surfpool()?,
        Some("-h" | "--help") => {
            println!("{HELP}");
            return Ok(());
        }
        Some(other) => return Err(format!("`{other}` is not an option of interop\n\n{HELP}")),
    };
    println!("{tally}");
    match tally.failed {
        0 => Ok(()),
        _ => Err("what failed is named above".into()),
    }
}

/// Runs the tests. Skipped, and said so, where the validator cannot be had.
pub(crate) fn check() -> Outcome<Tally> {
    let variables = match stock()? {
        Ok(variables) => variables,
        Err(reason) => {
            println!("── interop: SKIPPED, MagicBlock's validator cannot be had here: {reason}");
            return Ok(Tally::SKIPPED);
        }
    };
    let counter = env::root().join("crates/cabinet/tests/counter/counter.so");
    let mut test = node(&["interop.test.mjs", "world.test.mjs"]);
    test.envs(variables).env("WORLDLINE_COUNTER", counter);
    let (text, success) = run::step("interop", || run::follow(&mut test))?;
    Ok(tally::node(&text).with_exit(success))
}

/// Plays on an L1 that others wrote.
pub(crate) fn surfpool() -> Outcome<Tally> {
    env::require_node()?;
    let manifest = folder().join("surfpool").join("Cargo.toml");
    run::step("surfpool's L1", || {
        let mut build = env::cargo(&["build", "--locked", "--manifest-path"])?;
        run::finish(build.arg(&manifest))
    })?;
    let built = env::target()?.join("debug/worldline-interop-surfpool");
    run::step("packages", || {
        site::install(&env::root().join("tests").join("chain"))
    })?;
    let mut test = node(&["surfpool.test.mjs"]);
    test.envs(commands()?).env("WORLDLINE_SURFPOOL", built);
    let (text, success) = run::step("surfpool", || run::follow(&mut test))?;
    Ok(tally::node(&text).with_exit(success))
}

/// What `tests/interop/stock.mjs` is told to start our box and MagicBlock's validator; the inner error
/// says why the validator cannot be had.
pub(crate) fn stock() -> Outcome<Outcome<Vec<(&'static str, PathBuf)>>> {
    env::require_node()?;
    let validator = match run::step("MagicBlock's validator", validator) {
        Ok(validator) => validator,
        Err(reason) => return Ok(Err(reason)),
    };
    let dumps = delegation()?.join("bin/local-dumps");
    let mut variables = commands()?;
    variables.push(("WORLDLINE_VALIDATOR", validator));
    variables.push(("WORLDLINE_DUMPS", dumps));
    Ok(Ok(variables))
}

/// MagicBlock's package with the delegation program.
fn delegation() -> Outcome<PathBuf> {
    let folder = play::delegation();
    run::step("delegation program", || site::install(&folder))?;
    Ok(folder.join("node_modules/@magicblock-labs/ephemeral-validator"))
}

/// Our commands and the program.
fn commands() -> Outcome<Vec<(&'static str, PathBuf)>> {
    let built = run::step("commands", play::tested)?;
    Ok(vec![
        ("WORLDLINE", built.join("worldline")),
        ("WORLDLINE_CABINET", built.join("worldline-cabinet")),
        (
            "WORLDLINE_PROGRAM",
            env::root().join("programs/world-model/world_model.so"),
        ),
    ])
}

/// Node's test runner on files of the folder, one after the other: they count frames in time.
fn node(files: &[&str]) -> Command {
    let mut test = Command::new("node");
    test.args([
        "--test",
        "--test-force-exit",
        "--test-concurrency=1",
        "--test-reporter=tap",
    ]);
    test.arg(format!("--test-timeout={TEST_MILLIS}"));
    test.args(files).current_dir(folder());
    test
}

fn folder() -> PathBuf {
    env::root().join("tests").join("interop")
}

/// A command that starts the validator on this machine.
fn validator() -> Outcome<PathBuf> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return Err("it is built for Linux on x86-64".into());
    }
    site::install(&folder())?;
    let package = "node_modules/@magicblock-labs/ephemeral-validator-linux-x64";
    let program = folder().join(package).join("bin/ephemeral-validator");
    let cache = env::cache()?.join(format!("interop-{RELEASE}"));
    let libraries = cache.join("debian/usr/lib/x86_64-linux-gnu");
    if !libraries.is_dir() {
        unpack(&cache)?;
    }
    let shim = cache.join("nofile.so");
    let mut compile = Command::new("cc");
    compile
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(&shim)
        .arg(folder().join("nofile.c"));
    run::finish(compile.arg("-ldl"))?;
    let [libraries, shim, program] =
        [libraries, shim, program].map(|path| path.display().to_string());
    let script = cache.join("validator.sh");
    let text = format!(
        "#!/bin/sh\nexec '{libraries}/ld-linux-x86-64.so.2' --library-path '{libraries}' --preload '{shim}' '{program}' \"$@\"\n"
    );
    write(&script, &text)?;
    run::finish(Command::new("chmod").arg("+x").arg(&script))?;
    match env::printed(&script.to_string_lossy(), &["--version"]) {
        Some(_) => Ok(script),
        None => Err("it does not start with Debian's libraries either".into()),
    }
}

/// Downloads the libraries with apt, of a release that need not be this system's, and unpacks them.
fn unpack(cache: &Path) -> Outcome {
    for tool in ["apt-get", "dpkg-deb"] {
        if env::on_path(&[tool]).is_none() {
            return Err(format!(
                "`{tool}` was not found; the libraries are Debian's"
            ));
        }
    }
    if !Path::new(KEYRING).is_file() {
        return Err(format!(
            "{KEYRING} was not found; install debian-archive-keyring"
        ));
    }
    let apt = cache.join("apt");
    for folder in [
        "lists/partial",
        "cache/archives/partial",
        "packages",
        "empty",
    ] {
        let folder = apt.join(folder);
        fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    let mirror = mirror().ok_or("apt knows no mirror of Debian")?;
    let source = format!("deb [signed-by={KEYRING}] {mirror} {RELEASE} main\n");
    write(&apt.join("sources.list"), &source)?;
    write(&apt.join("status"), "")?;
    let apt_get = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        for (key, value) in [
            ("Dir::Etc::sourcelist", "sources.list"),
            ("Dir::Etc::sourceparts", "empty"),
            ("Dir::Etc::preferencesparts", "empty"),
            ("Dir::State::lists", "lists"),
            ("Dir::State::status", "status"),
            ("Dir::Cache", "cache"),
        ] {
            command
                .arg("-o")
                .arg(format!("{key}={}", apt.join(value).display()));
        }
        command
            .args(["-o", "APT::Sandbox::User=", "-q"])
            .args(arguments);
        command.current_dir(apt.join("packages"));
        run::finish(&mut command)
    };
    apt_get(&["update"])?;
    apt_get(&[&["download"], &LIBRARIES[..]].concat())?;
    let half = cache.join("half");
    let listed = fs::read_dir(apt.join("packages")).map_err(|error| error.to_string())?;
    for entry in listed.flatten() {
        let mut unpack = Command::new("dpkg-deb");
        run::finish(unpack.arg("-x").arg(entry.path()).arg(&half))?;
    }
    let to = cache.join("debian");
    fs::rename(&half, &to).map_err(|error| format!("{}: {error}", to.display()))
}

/// Where this system gets Debian's packages from.
fn mirror() -> Option<String> {
    let format = "$(LABEL) $(SITE)";
    let known = env::printed(
        "apt-get",
        &["indextargets", "--format", format, "Created-By: Packages"],
    )?;
    let mut sites = known
        .lines()
        .filter_map(|line| line.strip_prefix("Debian "));
    sites.next().map(str::to_owned)
}

fn write(path: &Path, text: &str) -> Outcome {
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}
