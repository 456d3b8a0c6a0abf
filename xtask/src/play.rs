//! `cargo xtask play`: from a fresh clone to the arcade in a browser.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use crate::env::{self, Outcome};
use crate::{run, site};

const HELP: &str = "\
cargo xtask play [--port N] [--no-open]

Installs the site's packages and MagicBlock's delegation program, builds the site and the `worldline`
command (without the trainer), and starts the arcade on loopback with a Solana of its own: L1 in a box
and a rollup. Ctrl-C stops it.

  --port N    listen on this port (default 7777)
  --no-open   do not open a browser, even where there is a display";

/// The port that `play` listens on.
pub(crate) const PORT: u16 = 7777;

pub(crate) fn main(arguments: &[String]) -> Outcome {
    let mut port = PORT;
    let mut open = true;
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--port" => {
                let value = rest.next().ok_or("--port needs a number")?;
                port = value
                    .parse()
                    .map_err(|_| format!("--port {value}: not a port number"))?;
            }
            "--no-open" => open = false,
            "-h" | "--help" => {
                println!("{HELP}");
                return Ok(());
            }
            other => return Err(format!("`{other}` is not an option of play\n\n{HELP}")),
        }
    }
    let start = Instant::now();
    site::build()?;
    run::step("delegation program", || site::install(&delegation()))?;
    let worldline = run::step("worldline command", || build(&[]))?;
    println!(
        "── ready to play after {:.1} s",
        start.elapsed().as_secs_f64()
    );

    become_server(arcade(&worldline, port, open && has_display()))
}

/// Builds the command in release with what playing needs, and more if features are asked for. Answers
/// its path.
pub(crate) fn build(features: &[&str]) -> Outcome<PathBuf> {
    let command = [
        "build",
        "--release",
        "--locked",
        "--package",
        "worldline-cli",
        "--features",
        "cabinet",
    ];
    run::finish(&mut env::cargo(&[&command, features].concat())?)?;
    let name = format!("worldline{}", std::env::consts::EXE_SUFFIX);
    Ok(env::target()?.join("release").join(name))
}

/// The package that brings MagicBlock's delegation program.
pub(crate) fn delegation() -> PathBuf {
    env::root().join("programs").join("delegation")
}

/// The folder of our commands, built with the flags of the Rust tests, which have built them already.
pub(crate) fn tested() -> Outcome<PathBuf> {
    let build = [
        "build",
        "--workspace",
        "--all-features",
        "--locked",
        "--bin",
        "worldline",
        "--bin",
        "worldline-cabinet",
    ];
    run::finish(&mut env::cargo(&build)?)?;
    Ok(env::target()?.join("debug"))
}

/// The arcade on loopback; it prints its address, and opens a browser if asked to.
pub(crate) fn arcade(worldline: &Path, port: u16, open: bool) -> Command {
    let mut command = Command::new(worldline);
    command
        .arg(if open { "play" } else { "serve" })
        .args(["--port", &port.to_string()]);
    command.arg("--worlds").arg(env::root().join("worlds"));
    command.arg("--site").arg(site::built());
    // The program and what lends its accounts are named relative to the repository.
    command.current_dir(env::root());
    command
}

/// Replaces this process by the server, so that Ctrl-C and every other signal reach it directly and
/// nothing is left behind.
#[cfg(unix)]
pub(crate) fn become_server(mut server: Command) -> Outcome {
    use std::os::unix::process::CommandExt;
    let problem = server.exec();
    Err(format!(
        "`{}` could not be started: {problem}",
        run::show(&server)
    ))
}

#[cfg(not(unix))]
pub(crate) fn become_server(mut server: Command) -> Outcome {
    run::finish(&mut server)
}

fn has_display() -> bool {
    cfg!(any(target_os = "macos", windows))
        || ["DISPLAY", "WAYLAND_DISPLAY"]
            .iter()
            .any(|key| std::env::var_os(key).is_some())
}
