//! Code worlds on this host.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use worldline_arena::Arena;
use worldline_runtime::{Config, Recovery, Runtime};
use worldline_sandbox::{Backend, Images, Process, Settings};

/// Images are worth keeping between data folders: `$XDG_CACHE_HOME/worldline/images`, or in `~/.cache`.
fn images() -> PathBuf {
    let named = |key: &str| {
        std::env::var_os(key)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let cache = named("XDG_CACHE_HOME").or_else(|| named("HOME").map(|home| home.join(".cache")));
    cache
        .unwrap_or_else(std::env::temp_dir)
        .join("worldline/images")
}

/// The registry over a data folder, its matches, and what runs code on this host. What is missing is said,
/// and the rest works.
pub(crate) fn open(data: &Path, arena: Arc<Arena>) -> Option<Runtime> {
    let code = code(data);
    if let Err(why) = &code {
        eprintln!("worldline: no code worlds: {why}");
    }
    match Runtime::open(Config {
        data: data.into(),
        code,
        arena: Some(arena),
    }) {
        Ok((worlds, recovery)) => {
            report(&recovery);
            Some(worlds)
        }
        Err(error) => {
            eprintln!("worldline: no worlds but the arcade's: {error}");
            None
        }
    }
}

fn code(data: &Path) -> Result<(Arc<dyn Backend>, Images), String> {
    let settings = Settings {
        images: images(),
        ..Settings::new(data.join("code"))
    };
    let process = Process::open(settings).map_err(|error| error.to_string())?;
    let report = process.report();
    if !report.usable {
        let lost = report
            .capabilities
            .into_iter()
            .filter(|one| !one.present)
            .map(|one| one.note);
        return Err(lost.collect::<Vec<_>>().join("; "));
    }
    let images = process.images().clone();
    if images.list().is_empty() {
        eprintln!(
            "worldline: there is no image to begin a code world from: `worldline image build` makes one"
        );
    }
    Ok((Arc::new(process), images))
}

fn report(recovery: &Recovery) {
    let count = |what: &[String], words: &str| {
        if !what.is_empty() {
            println!("{} {words}", what.len());
        }
    };
    count(
        &recovery.ended,
        "worlds ended with the last run; their snapshots are kept",
    );
    count(
        &recovery.lost,
        "snapshots were gone with it: of matches, or not written yet when it was killed",
    );
    count(
        &recovery.reaped,
        "snapshots that no operation had finished were removed",
    );
}

/// A backend that shares the images and leaves nothing, with this many empty worlds ready. Its folder is
/// made in `within`, or among this machine's temporary ones.
pub(super) fn scratch(within: Option<&Path>, pool: usize) -> Result<(Scratch, Process)> {
    let within = within.map_or_else(std::env::temp_dir, Path::to_path_buf);
    let folder = Scratch(within.join(format!("worldline-{}", std::process::id())));
    let settings = Settings {
        images: images(),
        pool,
        ..Settings::new(&folder.0)
    };
    let process = Process::open(settings).context("cannot look at this host's worlds")?;
    Ok((folder, process))
}

/// A folder that is removed again.
pub(super) struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
