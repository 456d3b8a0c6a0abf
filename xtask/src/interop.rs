//! `cargo xtask interop`: MagicBlock's own validator over our box.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::env::{self, Outcome};
use crate::{run, site};

const HELP: &str = "\
cargo xtask interop

Starts the validator of the npm package @magicblock-labs/ephemeral-validator-linux-x64 over our L1 in
a box, and runs a program there: lent, changed, given back. The package is for Linux on x86-64 and a
newer C library than some systems have; Debian's is unpacked beside it then, into the cache folder.
Skipped, and said so, where neither can be had.";

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

pub(crate) fn main(arguments: &[String]) -> Outcome {
    match arguments.first().map(String::as_str) {
        None => {}
        Some("-h" | "--help") => {
            println!("{HELP}");
            return Ok(());
        }
        Some(other) => return Err(format!("`{other}` is not an option of interop\n\n{HELP}")),
    }
    check().map(|_| ())
}

/// Runs the test. False, and said so, where the validator cannot be had.
pub(crate) fn check() -> Outcome<bool> {
    env::require_node()?;
    let prepared = run::step("MagicBlock's validator", validator);
    let validator = match prepared {
        Ok(validator) => validator,
        Err(reason) => {
            println!("── interop: SKIPPED, MagicBlock's validator cannot be had here: {reason}");
            return Ok(false);
        }
    };
    let delegation = env::root().join("programs").join("delegation");
    run::step("delegation program", || site::install(&delegation))?;
    run::step("cabinet", || {
        run::finish(&mut env::cargo(&[
            "build",
            "--package",
            "worldline-cabinet",
            "--locked",
        ])?)
    })?;
    let dumps =
        delegation.join("node_modules/@magicblock-labs/ephemeral-validator/bin/local-dumps");
    let mut test = Command::new("node");
    test.args(["--test", "--test-force-exit", "interop.test.mjs"])
        .current_dir(folder())
        .env(
            "WORLDLINE_CABINET",
            env::target()?.join("debug/worldline-cabinet"),
        )
        .env("WORLDLINE_VALIDATOR", validator)
        .env("WORLDLINE_DUMPS", dumps)
        .env(
            "WORLDLINE_COUNTER",
            env::root().join("crates/cabinet/tests/counter/counter.so"),
        );
    run::step("interop", || run::finish(&mut test))?;
    Ok(true)
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
    let source = format!("deb [signed-by={KEYRING}] http://deb.debian.org/debian {RELEASE} main\n");
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

fn write(path: &Path, text: &str) -> Outcome {
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}
