//! Machines under a real Firecracker, with a guest that has no operating system. Where this host runs
//! none, all tests are ignored, and say why.

mod branches;
mod faults;
mod hardware;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::{Arguments, Failed, Trial};
use worldline_sandbox::firecracker::{Firecracker, Jail, Settings, programs};
use worldline_sandbox::{Backend, Command, ExecError, Sandbox, Spec};

/// A promise: its name, what it needs beside a machine, and itself.
type Promise = (&'static str, Needs, fn());

/// What a promise needs beside a machine.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Needs {
    Nothing,
    /// The administrator's rights.
    Root,
    /// Those, and the jailer.
    Jailer,
    /// Those, and tap devices.
    Network,
}

fn main() -> ExitCode {
    if faults::is_victim() {
        faults::be_killed();
    }
    let mut arguments = Arguments::from_args();
    // What is ignored is what this host cannot run.
    arguments.include_ignored = false;
    let lacks = if arguments.list { None } else { lacking() };
    if let Some(reason) = &lacks {
        eprintln!("IGNORED, all tests of machines: {reason}");
    }
    let promises = [branches::PROMISES, hardware::PROMISES, faults::PROMISES];
    let trials = promises.concat().into_iter().map(|(name, needs, promise)| {
        let missing = missing(needs).filter(|_| lacks.is_none());
        if let Some(missing) = missing.filter(|_| !arguments.list) {
            eprintln!("IGNORED {name}: {missing}");
        }
        let run = move || -> Result<(), Failed> {
            promise();
            Ok(())
        };
        Trial::test(name, run).with_ignored_flag(lacks.is_some() || missing.is_some())
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

/// Why this host runs no machine.
fn lacking() -> Option<String> {
    if programs().is_none() {
        return Some(
            "there is no Firecracker: WORLDLINE_FIRECRACKER names one (`cargo xtask test` fetches it)"
                .into(),
        );
    }
    let folder = folder();
    let backend = open(folder.path());
    let report = backend.report();
    let lost = report.capabilities.iter().filter(|one| !one.present);
    let lost: Vec<&str> = lost.map(|one| one.note.as_str()).collect();
    (!report.usable).then(|| lost.join("; "))
}

fn missing(needs: Needs) -> Option<&'static str> {
    let root = || {
        fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
    };
    let jailer = || programs().is_some_and(|(_, jailer)| jailer.is_some());
    let tap = || {
        fs::File::options()
            .read(true)
            .write(true)
            .open("/dev/net/tun")
            .is_ok()
    };
    match needs {
        Needs::Nothing => None,
        _ if !root() => Some("it needs the administrator's rights"),
        Needs::Jailer | Needs::Network if !jailer() => {
            Some("there is no jailer: WORLDLINE_JAILER names one")
        }
        Needs::Jailer | Needs::Network if !can_wall_in() => {
            Some("this host lets nobody make namespaces, mounts and devices")
        }
        Needs::Network if !tap() => Some("there is no /dev/net/tun"),
        Needs::Root | Needs::Jailer | Needs::Network => None,
    }
}

/// Whether this host lets the administrator do what a jailer does, asked without one.
fn can_wall_in() -> bool {
    const WALLS: &str = "mount -t tmpfs tmpfs /mnt && mknod /mnt/null c 1 3";
    let mut ask = std::process::Command::new("unshare");
    ask.args(["--mount", "--net", "sh", "-c", WALLS]);
    ask.output().is_ok_and(|told| told.status.success())
}

/// A folder that a jailed user can pass.
pub(crate) fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

/// The programs; promises run only where they are.
pub(crate) fn firecracker() -> PathBuf {
    programs().expect("Firecracker").0
}

pub(crate) fn jailer() -> Jail {
    Jail::new(programs().and_then(|found| found.1).expect("a jailer"))
}

pub(crate) fn open(data: &Path) -> Firecracker {
    Firecracker::open(Settings::new(data, firecracker())).expect("a backend")
}

/// A small machine.
pub(crate) fn small() -> Spec {
    Spec {
        memory_mib: 64,
        disk_mib: 16,
        ..Spec::default()
    }
}

pub(crate) fn machine(backend: &dyn Backend) -> Arc<dyn Sandbox> {
    backend.create(&small()).expect("a machine")
}

/// What people say to a machine.
pub(crate) trait Talk {
    /// A line that succeeds; what it prints.
    fn say(&self, line: &str) -> String;
    /// A line, and how it ends.
    fn hear(&self, line: &str) -> Result<(i32, String), ExecError>;
}

impl Talk for dyn Sandbox + '_ {
    fn say(&self, line: &str) -> String {
        let (code, said) = self.hear(line).expect(line);
        assert_eq!(code, 0, "{line}: {said}");
        said.trim_end().to_owned()
    }

    fn hear(&self, line: &str) -> Result<(i32, String), ExecError> {
        let mut said = Vec::new();
        let code = self.exec(&Command::line(line), &mut |_, bytes| {
            said.extend_from_slice(bytes);
        })?;
        Ok((code, String::from_utf8_lossy(&said).into_owned()))
    }
}

/// Waits for something that has to come.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    const PATIENCE: Duration = Duration::from_secs(60);
    let begun = std::time::Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "{what} does not come");
        std::thread::sleep(Duration::from_millis(5));
    }
}
