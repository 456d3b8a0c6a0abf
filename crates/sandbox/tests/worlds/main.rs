//! The conformance suite: what every backend promises, and, for each attempt to get out, that it fails
//! here and succeeds without a sandbox. A test that this host cannot run is ignored, and says why.

mod branches;
mod cells;
mod escapes;
mod faults;
mod firecracker;
mod machines;
mod network;
mod outer;
mod shell;
mod snapshots;
mod walls;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Failed, Trial};
use worldline_sandbox::{
    Backend, Cell, Command, Outcome, Process, Sandbox, Settings, Spec, Stream,
};

/// Promises that a host keeps only with what the report calls so.
const NEEDS: &[(&str, &str)] = &[
    ("a_cell_that_needs_too_much_memory_is_ended_alone", "memory"),
    ("a_memory_bomb_stays_inside", "memory"),
    ("a_paused_world_stands_still", "pause"),
    ("no_orphan_after_kill_nine", "pause"),
    ("worlds_leave_nothing_behind", "pause"),
    ("a_branch_that_fails_leaves_nothing", "pids"),
    ("an_agent_killed_from_outside_ends_its_world_alone", "pids"),
    ("branches_do_not_wait_for_their_snapshot", "early branches"),
    ("nobody_gains_rights_by_running_a_program", "administrator"),
];

/// A promise, by name.
type Promise = (&'static str, fn(&dyn Backend));

fn main() -> ExitCode {
    if faults::is_victim() {
        faults::be_killed();
    }
    if machines::is_victim() {
        machines::be_killed();
    }
    let arguments = Arguments::from_args();
    if arguments.list {
        let trials = trials(None, "", &arguments);
        return run(arguments, trials);
    }
    if firecracker::is_inside() {
        let mut trials = firecracker::trials(&promises(), &arguments);
        trials.extend(machines::under_kvm(&promises(), &arguments));
        return run(arguments, trials);
    }
    let folder = tempfile::tempdir().expect("a folder");
    let (backend, reason) = match open(folder.path().into()) {
        Ok(process) => (Some(Arc::new(process)), String::new()),
        Err(reason) => (None, reason),
    };
    let trials = trials(backend.clone(), &reason, &arguments);
    let outcome = run(arguments, trials);
    drop(backend);
    outcome
}

/// Runs the tests. Where the slow ones are asked for too, what this host cannot run stays ignored.
fn run(mut arguments: Arguments, trials: Vec<Trial>) -> ExitCode {
    let slow = std::mem::take(&mut arguments.include_ignored);
    let ignored = |trial: &Trial| trial.kind() == NOT_HERE || !slow && trial.has_ignored_flag();
    let trials = trials.into_iter().map(|trial| {
        let ignored = ignored(&trial);
        trial.with_ignored_flag(ignored)
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

fn trials(backend: Option<Arc<Process>>, reason: &str, arguments: &Arguments) -> Vec<Trial> {
    if !reason.is_empty() {
        eprintln!("IGNORED, all tests of worlds: {reason}");
    }
    let promises = promises();
    let mut machines = machines::trials(&promises, backend.as_deref());
    machines.extend(machines::under_kvm(&promises, arguments));
    machines.extend(firecracker::trials(&promises, arguments));
    let mut trials: Vec<Trial> = promises
        .into_iter()
        .map(|(name, promise)| {
            let here = backend.clone();
            let lacks = backend
                .as_deref()
                .and_then(|backend| lacking(backend, name));
            if let Some(lacks) = &lacks {
                eprintln!("IGNORED {name}: {lacks}");
            }
            let when = When::here(backend.is_some() && lacks.is_none());
            trial(name, when, move || {
                if let Some(backend) = here {
                    promise(&*backend);
                }
            })
        })
        .collect();
    for attempt in escapes::ATTEMPTS {
        // The control: an attempt that fails without a sandbox shows nothing by failing in one.
        let control = backend.is_none() || attempt.succeeds_outside();
        if !control {
            eprintln!(
                "IGNORED {}: it does not even succeed without a sandbox on this host",
                attempt.name
            );
        }
        let here = backend.clone();
        let when = When::here(backend.is_some() && control);
        trials.push(trial(attempt.name, when, move || {
            if let Some(backend) = here {
                attempt.fails_inside(&*backend);
            }
        }));
    }
    trials.push(walls::control());
    trials.extend(machines);
    trials
}

/// What every backend promises, as far as it makes sense for it.
fn promises() -> Vec<Promise> {
    let all = [
        cells::PROMISES,
        shell::PROMISES,
        snapshots::PROMISES,
        branches::PROMISES,
        escapes::PROMISES,
        faults::PROMISES,
        network::PROMISES,
    ];
    all.concat()
}

/// What a host lacks for a promise, in words.
fn lacking(backend: &dyn Backend, name: &str) -> Option<String> {
    let (_, need) = NEEDS.iter().find(|(known, _)| *known == name)?;
    let all = backend.report().capabilities;
    all.into_iter()
        .find(|one| one.name == *need && !one.present)
        .map(|one| one.note)
}

/// When a test runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    Always,
    Slow,
    /// Not on this host.
    Never,
}

impl When {
    pub(crate) fn here(can: bool) -> Self {
        if can { Self::Always } else { Self::Never }
    }
}

/// Marks tests that this host cannot run.
const NOT_HERE: &str = "not here";

pub(crate) fn trial(name: &str, when: When, run: impl FnOnce() + Send + 'static) -> Trial {
    let run = || {
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).map_err(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            Failed::from(
                text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).into()))
                    .unwrap_or_default(),
            )
        })
    };
    let kind = if when == When::Never { NOT_HERE } else { "" };
    Trial::test(name, run)
        .with_kind(kind)
        .with_ignored_flag(when != When::Always)
}

/// The folder of images that tests share with the command.
pub(crate) fn images() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    cache
        .or_else(home)
        .unwrap_or_else(std::env::temp_dir)
        .join("worldline/images")
}

/// A backend, or why there is none.
pub(crate) fn open(data: PathBuf) -> Result<Process, String> {
    let settings = Settings {
        images: images(),
        ..Settings::new(data)
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
    process
        .images()
        .build(false, &mut |step| eprintln!("{step}"))
        .map_err(|error| error.to_string())?;
    process
        .create(&Spec::default())
        .map_err(|error| error.to_string())?;
    Ok(process)
}

/// What people do with worlds, in one word each.
pub(crate) trait Play {
    /// Runs a cell; its value.
    fn value(&self, code: &str) -> String;
    /// Runs a cell; all about it, and what it printed.
    fn cell(&self, code: &str) -> (Outcome, String);
    /// Runs a line; exit code and output, errors among it.
    fn line(&self, line: &str) -> (i32, String);
}

impl Play for dyn Sandbox + '_ {
    fn value(&self, code: &str) -> String {
        let (outcome, printed) = self.cell(code);
        assert_eq!(
            outcome.status, "ok",
            "{code}: {:?} {printed}",
            outcome.error
        );
        outcome.value.unwrap_or_default()
    }

    fn cell(&self, code: &str) -> (Outcome, String) {
        let mut printed = Vec::new();
        let outcome = self
            .run(&Cell::new(code), &mut |_, bytes| {
                printed.extend_from_slice(bytes)
            })
            .unwrap();
        (outcome, String::from_utf8_lossy(&printed).into_owned())
    }

    fn line(&self, line: &str) -> (i32, String) {
        let mut printed = Vec::new();
        let code = self
            .exec(&Command::line(line), &mut |_, bytes| {
                printed.extend_from_slice(bytes)
            })
            .unwrap();
        (code, String::from_utf8_lossy(&printed).into_owned())
    }
}

/// A new world.
pub(crate) fn world(backend: &dyn Backend) -> Arc<dyn Sandbox> {
    backend.create(&Spec::default()).unwrap()
}

/// Throws output away.
pub(crate) fn quiet(_: Stream, _: &[u8]) {}
