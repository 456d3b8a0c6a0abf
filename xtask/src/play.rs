//! `cargo xtask play`: from a fresh clone to the arcade in a browser.

use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::env::{self, Outcome};
use crate::{run, site};

const HELP: &str = "\
cargo xtask play [--port N] [--no-open]

Installs the site's packages, builds the site and the `worldline` command (without the
trainer), and starts the arcade on loopback. Ctrl-C stops it.

  --port N    listen on this port (default 7777)
  --no-open   do not open a browser, even where there is a display";

/// The port that `play` listens on.
const PORT: u16 = 7777;
/// How long the browser waits for the server.
const PATIENCE: Duration = Duration::from_secs(30);
/// The hidden task that opens a browser once the server answers.
pub(crate) const OPEN_WHEN_READY: &str = "open-when-ready";

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
    let worldline = run::step("worldline command", build)?;
    println!(
        "── ready to play after {:.1} s",
        start.elapsed().as_secs_f64()
    );

    let address = format!("http://127.0.0.1:{port}");
    println!("\n   Worldline is at  {address}\n   Ctrl-C stops it.\n");
    if open && has_display() {
        let this = std::env::current_exe().map_err(|error| format!("own path: {error}"))?;
        Command::new(this)
            .args([OPEN_WHEN_READY, &port.to_string()])
            .stdin(Stdio::null())
            .spawn()
            .map_err(|error| format!("the browser's helper: {error}"))?;
    }
    become_server(serve(&worldline, port))
}

/// Builds the command for playing: release, without the trainer. Answers its path.
pub(crate) fn build() -> Outcome<PathBuf> {
    run::finish(&mut env::cargo(&[
        "build",
        "--release",
        "--locked",
        "--package",
        "worldline-cli",
    ])?)?;
    let name = format!("worldline{}", std::env::consts::EXE_SUFFIX);
    Ok(env::target()?.join("release").join(name))
}

/// The arcade on loopback.
fn serve(worldline: &std::path::Path, port: u16) -> Command {
    let mut command = Command::new(worldline);
    command.arg("serve").args(["--port", &port.to_string()]);
    command.arg("--worlds").arg(env::root().join("worlds"));
    command.arg("--site").arg(site::built());
    command
}

/// Replaces this process by the server, so that Ctrl-C and every other signal reach it directly and
/// nothing is left behind.
#[cfg(unix)]
fn become_server(mut server: Command) -> Outcome {
    use std::os::unix::process::CommandExt;
    let problem = server.exec();
    Err(format!(
        "`{}` could not be started: {problem}",
        run::show(&server)
    ))
}

#[cfg(not(unix))]
fn become_server(mut server: Command) -> Outcome {
    run::finish(&mut server)
}

fn has_display() -> bool {
    cfg!(any(target_os = "macos", windows))
        || ["DISPLAY", "WAYLAND_DISPLAY"]
            .iter()
            .any(|key| std::env::var_os(key).is_some())
}

/// Waits until the port answers, then opens the browser. Opening is a courtesy: if it cannot be
/// done, the address is on the screen.
pub(crate) fn open_when_ready(arguments: &[String]) -> Outcome {
    let port = arguments
        .first()
        .and_then(|port| port.parse().ok())
        .unwrap_or(PORT);
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let start = Instant::now();
    while TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_err() {
        if start.elapsed() > PATIENCE {
            return Err(format!(
                "nothing answers at {address}; no browser was opened"
            ));
        }
        sleep(Duration::from_millis(100));
    }
    let program = if cfg!(target_os = "macos") {
        "open"
    } else if cfg!(windows) {
        "explorer"
    } else {
        "xdg-open"
    };
    Command::new(program)
        .arg(format!("http://{address}"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .map(|_| ())
        .map_err(|error| format!("`{program}` could not be started: {error}"))
}
