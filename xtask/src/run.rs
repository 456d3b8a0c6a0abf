//! Steps: a named command, its time, and what it printed.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use crate::env::Outcome;

/// Announces a step, does it, prints how long it took.
pub(crate) fn step<T>(name: &str, work: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
    println!("── {name}");
    let start = Instant::now();
    let done = work();
    let mark = if done.is_ok() { "done" } else { "failed" };
    println!(
        "── {name}: {mark} in {:.1} s",
        start.elapsed().as_secs_f64()
    );
    done
}

/// Runs a command to its end; an error names it and says how it ended.
pub(crate) fn finish(command: &mut Command) -> Outcome {
    let shown = show(command);
    let status = command
        .stdin(Stdio::null())
        .status()
        .map_err(|error| format!("`{shown}` could not be started: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("`{shown}` ended with {status}"))
    }
}

/// Installs packages of Debian's, as its administrator.
pub(crate) fn install(packages: &[&str]) -> Outcome {
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive");
        finish(&mut command)
    };
    apt(&["update", "-qq"])?;
    let mut install = vec!["install", "-y", "-qq", "--no-install-recommends"];
    install.extend(packages);
    apt(&install)
}

/// How long a followed command may say nothing before what it runs counts as hanging. The slowest single
/// test needs about half of it on two busy cores.
const SILENCE: Duration = Duration::from_secs(8 * 60);

/// Runs a command, showing its standard output line by line and keeping it. Answers the text and
/// whether the command succeeded. What hangs is ended and named, so that one test cannot take the
/// time of all others.
pub(crate) fn follow(command: &mut Command) -> Outcome<(String, bool)> {
    let shown = show(command);
    let failed = |error| format!("`{shown}` could not be run: {error}");
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let lines = child.stdout.take().map(lines_of);
    let mut text = String::new();
    while let Some(lines) = &lines {
        match lines.recv_timeout(SILENCE) {
            Ok(line) => {
                println!("{line}");
                text.push_str(&line);
                text.push('\n');
            }
            Err(RecvTimeoutError::Timeout) => end_hanging(&mut child, &shown),
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    std::io::stdout().flush().map_err(failed)?;
    let status = child.wait().map_err(failed)?;
    Ok((text, status.success()))
}

/// The lines of a pipe, as they come.
fn lines_of(output: ChildStdout) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).into_owned();
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Ends what a command has started, or the command itself where it has started nothing: a test runner
/// then reports the one that hung and goes on with the next.
fn end_hanging(child: &mut Child, shown: &str) {
    let minutes = SILENCE.as_secs() / 60;
    let pid = child.id();
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let children = children.unwrap_or_default();
    println!("── `{shown}` has said nothing for {minutes} minutes: ended, see the last test named");
    if children.trim().is_empty() {
        // It has ended by itself if this fails.
        let _ = child.kill();
        return;
    }
    let ended = Command::new("sh")
        .args(["-c", &format!("kill -KILL {children}")])
        .status();
    if ended.is_err() {
        let _ = child.kill();
    }
}

/// The command as a person would type it.
pub(crate) fn show(command: &Command) -> String {
    let program = std::path::Path::new(command.get_program());
    let mut words = vec![
        program
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
    ];
    words.extend(
        command
            .get_args()
            .map(|word| word.to_string_lossy().into_owned()),
    );
    words.join(" ")
}
