//! Code worlds on this host.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use worldline_arena::Arena;
use worldline_runtime::{Config, Recovery, Runtime};
use worldline_sandbox::firecracker::{self, Firecracker, Jail, programs};
use worldline_sandbox::{Backend, Images, Process, Qemu, Report, Settings, Several};

/// Empty worlds that a server keeps ready, of processes and under Firecracker.
pub(super) const READY: usize = 4;

/// What is worth keeping between data folders: `$XDG_CACHE_HOME/worldline`, or in `~/.cache`.
pub(super) fn cache() -> PathBuf {
    let named = |key: &str| {
        std::env::var_os(key)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let cache = named("XDG_CACHE_HOME").or_else(|| named("HOME").map(|home| home.join(".cache")));
    cache.unwrap_or_else(std::env::temp_dir).join("worldline")
}

fn images() -> PathBuf {
    cache().join("images")
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

/// All that runs code here: processes first, if this host can.
fn code(data: &Path) -> Result<(Arc<dyn Backend>, Images), String> {
    let settings = Settings {
        images: images(),
        pool: READY,
        ..Settings::new(data.join("code"))
    };
    let process = Process::open(settings).map_err(|error| error.to_string())?;
    let images = process.images().clone();
    let report = process.report();
    let unusable = lost(&report);
    let mut all: Vec<Arc<dyn Backend>> = Vec::new();
    let mut lacking = Vec::new();
    if unusable.is_some() {
        lacking.push(report);
    } else {
        all.push(Arc::new(process));
        if images.list().is_empty() {
            eprintln!(
                "worldline: there is no image to begin a code world from: `worldline image build` makes one"
            );
        }
    }
    match machines(&data.join("machines")) {
        Ok(machines) => all.push(machines),
        Err(report) => lacking.push(report),
    }
    match qemu(&data.join("qemu")) {
        Ok(machines) if machines.report().usable => all.push(Arc::new(machines)),
        // Nothing is wrong where nobody installed it.
        Ok(machines) => lacking.push(machines.report()),
        Err(why) => {
            eprintln!("worldline: no worlds under QEMU: {why}");
            lacking.push(Report::closed("qemu", why));
        }
    }
    if all.is_empty() {
        return Err(unusable.unwrap_or_default());
    }
    let first = all.remove(0);
    Ok((Arc::new(Several::new(first, all).lacking(lacking)), images))
}

/// What a host lacks for a backend, where that makes it useless.
fn lost(report: &Report) -> Option<String> {
    let lost = report.capabilities.iter().filter(|one| !one.present);
    let lost: Vec<&str> = lost.map(|one| one.note.as_str()).collect();
    (!report.usable).then(|| lost.join("; "))
}

/// Machines under Firecracker, or what they lack. Nothing is wrong where nobody named one.
fn machines(data: &Path) -> Result<Arc<dyn Backend>, Report> {
    let say = |why: &str| {
        if programs().is_some() {
            eprintln!("worldline: no worlds under Firecracker: {why}");
        }
    };
    let machines = firecracker(data, true, READY).map_err(|why| {
        say(&why);
        Report::closed("firecracker", why)
    })?;
    match machines.probe() {
        Ok(()) => Ok(Arc::new(machines)),
        Err(why) => {
            say(&why);
            Err(machines.report())
        }
    }
}

/// Firecracker over a folder; jailed where it is to be, and a jailer is there and may be used; with this many
/// monitors ready.
pub(super) fn firecracker(data: &Path, jailed: bool, pool: usize) -> Result<Firecracker, String> {
    let (program, jailer) = programs().ok_or(
        "there is no Firecracker: name it in WORLDLINE_FIRECRACKER, or have it on the path",
    )?;
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
    Firecracker::open(firecracker::Settings {
        images: Some(images()),
        jail: jailer.filter(|_| jailed && is_root).map(Jail::new),
        pool,
        ..firecracker::Settings::new(data, program)
    })
    .map_err(|error| error.to_string())
}

/// Machines under QEMU over a folder.
pub(super) fn qemu(data: &Path) -> Result<Qemu, String> {
    let settings = Settings {
        images: images(),
        ..Settings::new(data)
    };
    Qemu::open(&settings).map_err(|error| error.to_string())
}

fn report(recovery: &Recovery) {
    let count = |what: &[String], words: &str, then: &str| {
        if !what.is_empty() {
            println!("{words}: {} ({then})", what.len());
        }
    };
    count(
        &recovery.ended,
        "worlds that ended with the last run",
        "their snapshots are kept",
    );
    count(
        &recovery.lost,
        "snapshots that are gone with it",
        "of matches, or not written yet when it was killed",
    );
    count(
        &recovery.reaped,
        "snapshots that no operation had finished",
        "removed",
    );
    count(
        &recovery.away,
        "snapshots of a backend that does not run here now",
        "kept; `worldline doctor` says why",
    );
    for one in &recovery.unreadable {
        eprintln!(
            "worldline: a snapshot cannot be read, and stays as it is: {}",
            one.why
        );
    }
}

/// A backend that shares the images and leaves nothing, with this many empty worlds ready. Its folder is
/// made in `within`, or among this machine's temporary ones.
pub(super) fn scratch(within: Option<&Path>, pool: usize) -> Result<(Scratch, Process)> {
    let folder = folder(within);
    let settings = Settings {
        images: images(),
        pool,
        ..Settings::new(&folder.0)
    };
    let process = Process::open(settings).context("cannot look at this host's worlds")?;
    Ok((folder, process))
}

/// A folder of this run's own, in `within` or among this machine's temporary ones.
pub(super) fn folder(within: Option<&Path>) -> Scratch {
    let within = within.map_or_else(std::env::temp_dir, Path::to_path_buf);
    Scratch(within.join(format!("worldline-{}", std::process::id())))
}

/// A folder that is removed again.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    /// Where machines under QEMU are in it.
    pub(super) fn qemu(&self) -> PathBuf {
        self.0.join("qemu")
    }

    /// Where machines are in it.
    pub(super) fn machines(&self) -> PathBuf {
        self.0.join("machines")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
