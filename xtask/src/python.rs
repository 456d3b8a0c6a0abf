//! The Python package: built by maturin in an environment of its own, tested there by pytest.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::env::{self, Outcome};
use crate::run;
use crate::tally::{self, Tally};

const HELP: &str = "\
cargo xtask python

Builds the Python package `worldline` with maturin, in a Python environment of its own, installs
it there and tests it. The wheel stays in cargo's target folder, under wheels.";

/// The package's folder.
const PACKAGE: &str = "clients/python";
/// Where the package looks for cartridges by name.
const SHELF: &str = "worldline/worlds";
/// The package's crate, a workspace of its own.
pub(crate) const MANIFEST: &str = "clients/python/Cargo.toml";

pub(crate) fn main(arguments: &[String]) -> Outcome {
    match arguments.first().map(String::as_str) {
        None => {
            let tally = tests()?;
            println!("{tally}");
            if tally.failed > 0 {
                return Err(String::new());
            }
        }
        Some("-h" | "--help") => println!("{HELP}"),
        Some(other) => return Err(format!("`{other}` is not an option of python\n\n{HELP}")),
    }
    Ok(())
}

/// A Python with the packages of a list, in the cache under a name.
pub(crate) fn environment(name: &str, list: &Path) -> Outcome<PathBuf> {
    let wanted = fs::read(list).map_err(|error| format!("{}: {error}", list.display()))?;
    let folder = env::cache()?.join(name);
    let (python, stamp) = (folder.join("bin/python"), folder.join(".worldline-list"));
    if fs::read(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    if env::printed("python3", &["-c", "import venv, ensurepip"]).is_none() {
        return Err("Python 3 with `venv` was not found (Debian: python3-venv)".into());
    }
    run::finish(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
    pip(&python, ["--requirement".as_ref(), list.as_os_str()])?;
    fs::write(&stamp, &wanted).map_err(|error| format!("{}: {error}", stamp.display()))?;
    Ok(python)
}

fn pip<'a>(python: &Path, arguments: impl IntoIterator<Item = &'a OsStr>) -> Outcome {
    let mut command = Command::new(python);
    command.args(["-m", "pip", "install", "--quiet"]);
    run::finish(command.args(arguments))
}

/// Unpacks the one wheel of a list, which names its digest, into a folder: what is in it, not what it
/// needs to run, and whatever Python it is for.
pub(crate) fn unpack(list: &Path, folder: &Path) -> Outcome {
    let python = builder()?;
    let at = |error: std::io::Error| format!("{}: {error}", folder.display());
    fs::create_dir_all(folder).map_err(at)?;
    let mut download = Command::new(&python);
    download
        .args(["-m", "pip", "download", "--quiet", "--require-hashes"])
        .args(["--no-deps", "--only-binary=:all:", "--python-version=3.12"])
        .arg("--requirement")
        .arg(list)
        .arg("--dest")
        .arg(folder);
    run::finish(&mut download)?;
    let wheels = fs::read_dir(folder).map_err(at)?.flatten();
    let wheel = wheels
        .map(|entry| entry.path())
        .find(|path| path.extension() == Some(OsStr::new("whl")))
        .ok_or_else(|| format!("pip left no wheel in {}", folder.display()))?;
    let mut unpack = Command::new(&python);
    run::finish(unpack.args(["-m", "zipfile", "-e"]).arg(&wheel).arg(folder))
}

/// The Python that builds and tests the package.
fn builder() -> Outcome<PathBuf> {
    environment(
        "python-package",
        &env::root().join(PACKAGE).join("requirements.txt"),
    )
}

/// Builds the package. Answers the one wheel.
fn wheel(python: &Path) -> Outcome<PathBuf> {
    let folder = env::target()?.join("wheels");
    let at = |error: std::io::Error| format!("{}: {error}", folder.display());
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(at)?;
    }
    let mut command = Command::new(python.with_file_name("maturin"));
    command
        .args(["build", "--release", "--locked", "--quiet", "--interpreter"])
        .arg(python)
        .arg("--out")
        .arg(&folder)
        .current_dir(env::root().join(PACKAGE))
        .env("CARGO_TARGET_DIR", env::target()?);
    run::finish(&mut command)?;
    let built = fs::read_dir(&folder).map_err(at)?.flatten().next();
    built
        .map(|entry| entry.path())
        .ok_or_else(|| format!("maturin left no wheel in {}", folder.display()))
}

/// The package as a folder for the images of worlds, with the shipped cartridges in it.
pub(crate) fn packages() -> Outcome<PathBuf> {
    let python = builder()?;
    let wheel = wheel(&python)?;
    let folder = env::target()?.join("image-packages");
    let at = |error: std::io::Error| format!("{}: {error}", folder.display());
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(at)?;
    }
    let mut unpack = Command::new(&python);
    unpack
        .args(["-m", "zipfile", "-e"])
        .arg(&wheel)
        .arg(&folder);
    run::finish(&mut unpack)?;
    let shelf = folder.join(SHELF);
    fs::create_dir(&shelf).map_err(at)?;
    for entry in fs::read_dir(env::root().join("worlds"))
        .map_err(at)?
        .flatten()
    {
        if entry.path().extension() == Some(OsStr::new("cart")) {
            fs::copy(entry.path(), shelf.join(entry.file_name())).map_err(at)?;
        }
    }
    Ok(folder)
}

/// Builds the package and installs it where it was built.
fn install(python: &Path) -> Outcome {
    let wheel = wheel(python)?;
    let again = ["--force-reinstall", "--no-deps"].map(OsStr::new);
    pip(python, again.into_iter().chain([wheel.as_os_str()]))
}

/// What the package costs to build and to use.
pub(crate) fn bench() -> Outcome<Command> {
    let python = builder()?;
    install(&python)?;
    let root = env::root();
    let mut command = Command::new(python);
    command
        .arg(root.join("benches/python/measure.py"))
        .arg(root);
    Ok(command)
}

/// Builds the package and tests it. Skipped, with the reason, where there is no Python.
pub(crate) fn tests() -> Outcome<Tally> {
    let python = match builder() {
        Ok(python) => python,
        Err(reason) => {
            println!("SKIPPED the Python package's tests: {reason}");
            return Ok(Tally::SKIPPED);
        }
    };
    install(&python)?;
    // Not `python -m pytest`, which would find the sources before the package.
    let mut command = Command::new(python.with_file_name("pytest"));
    command
        .args(["-q", "-p", "no:cacheprovider"])
        .current_dir(env::root().join(PACKAGE));
    let (text, success) = run::follow(&mut command)?;
    Ok(tally::pytest(&text).with_exit(success))
}
