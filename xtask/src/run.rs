//! Steps: a named command, its time, and what it printed.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Instant;

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

/// Runs a command, showing its standard output line by line and keeping it. Answers the text and
/// whether the command succeeded.
pub(crate) fn follow(command: &mut Command) -> Outcome<(String, bool)> {
    let shown = show(command);
    let failed = |error| format!("`{shown}` could not be run: {error}");
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let mut text = String::new();
    if let Some(output) = child.stdout.take() {
        for line in BufReader::new(output).split(b'\n') {
            let line = String::from_utf8_lossy(&line.map_err(failed)?).into_owned();
            println!("{line}");
            text.push_str(&line);
            text.push('\n');
        }
    }
    std::io::stdout().flush().map_err(failed)?;
    let status = child.wait().map_err(failed)?;
    Ok((text, status.success()))
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
