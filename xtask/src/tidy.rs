//! `cargo xtask tidy`: the architecture's invariants, kept by a program.

mod crates;
mod docs;
mod files;
mod text;

use std::fs;

use crate::env::{self, Outcome};

const HELP: &str = "\
cargo xtask tidy

Checks which crate depends on which, what each must never know, that no file names a machine
path, sizes, top comments, `unsafe`, unfinished work, links and tests named in the documents.";

/// A file of the project, with a path relative to the root and `/` between its parts.
pub(crate) struct Source {
    pub(crate) path: String,
    pub(crate) bytes: u64,
    /// The content, if it is text of a size that is worth reading.
    pub(crate) text: Option<String>,
}

/// Larger files are not read as text.
const READ_MAX: u64 = 2 << 20;

pub(crate) fn main(arguments: &[String]) -> Outcome {
    match arguments.first().map(String::as_str) {
        None => {}
        Some("-h" | "--help") => {
            println!("{HELP}");
            return Ok(());
        }
        Some(other) => return Err(format!("`{other}` is not an option of tidy\n\n{HELP}")),
    }
    let sources = sources()?;
    let mut problems = Vec::new();
    problems.extend(crates::check(&sources)?);
    problems.extend(files::check(&sources));
    problems.extend(text::check(&sources));
    problems.extend(docs::check(&sources));
    for problem in &problems {
        eprintln!("tidy: {problem}");
    }
    if problems.is_empty() {
        println!("tidy: {} files, no problems", sources.len());
        return Ok(());
    }
    Err(format!("tidy found {} problems", problems.len()))
}

/// Everything that git tracks or would track.
fn sources() -> Outcome<Vec<Source>> {
    let root = env::root();
    let folder = root.to_string_lossy().into_owned();
    let listed = env::printed(
        "git",
        &[
            "-C",
            &folder,
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ],
    )
    .ok_or("`git ls-files` failed: tidy reads the list of files from git, so it needs a clone")?;
    let mut sources = Vec::new();
    for path in listed.split('\0').filter(|path| !path.is_empty()) {
        let at = root.join(path);
        // A file that is deleted and not yet committed is still listed.
        let Ok(known) = fs::metadata(&at) else {
            continue;
        };
        let text = if known.len() <= READ_MAX {
            fs::read_to_string(&at).ok()
        } else {
            None
        };
        sources.push(Source {
            path: path.to_owned(),
            bytes: known.len(),
            text,
        });
    }
    Ok(sources)
}
