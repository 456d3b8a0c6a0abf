//! One machine monitor: started in a folder of its own, jailed or not, talked to, and removed without a
//! trace.
//!
//! All that a monitor opens lies in its folder, under names that are the same for every machine. So a
//! snapshot, which holds names of files, finds those of whichever machine goes on from it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::api::Api;
use super::network::Namespace;
use super::{Host, Jail};
use crate::error::CreateError;
use crate::host::cgroup::{Group, Limits};
use crate::host::{self, fresh};

/// Folders of machines, with a jail and without.
pub(super) const MACHINES: &str = "machines";
pub(super) const JAILS: &str = "jails";
/// Names in a machine's folder.
pub(super) const KERNEL: &str = "kernel";
pub(super) const MEMORY: &str = "memory";
pub(super) const STATE: &str = "state";
pub(super) const DISK: &str = "disk";
pub(super) const FIRST_ROOT: &str = "first-root";
pub(super) const IMAGE: &str = "image";
pub(super) const VSOCK: &str = "vsock.sock";
const SOCKET: &str = "api.sock";
const LOG: &str = "log";
/// Beside its folder: what it said before it could log, and its number.
const ERRORS: &str = "errors";
const PROCESS: &str = "process";

/// How long a monitor may take to listen.
const START: Duration = Duration::from_secs(60);
const START_POLL: Duration = Duration::from_micros(500);
/// What a monitor needs beside its guest's memory, and its threads beside its guest's processors.
const OVERHEAD: u64 = 64 << 20;
const THREADS: u64 = 32;
/// Bytes of its last words that are told.
const LAST_WORDS: usize = 600;

/// What a monitor without a machine may use.
const EMPTY: Size = Size {
    memory_mib: 0,
    vcpus: 1,
};

/// The controllers that a jail is limited by: the files of version 1 and 2.
const CONTROLLERS: [(&str, [&str; 2]); 3] = [
    ("memory", ["memory.limit_in_bytes", "memory.max"]),
    ("pids", ["pids.max", "pids.max"]),
    ("cpu", ["cpu.cfs_quota_us", "cpu.max"]),
];
/// The period over which processor time is shared out, in microseconds.
const PERIOD: u64 = 100_000;

/// A running monitor.
pub(super) struct Machine {
    /// Where it finds its files.
    pub(super) root: PathBuf,
    api: Mutex<Api>,
    remains: Remains,
}

/// Both ends of a machine's serial port.
pub(super) type Pipes = (ChildStdin, ChildStdout);

/// A monitor without a machine, the name of the world that it is to be, and the two ends of its serial port.
pub(super) struct Ready {
    pub(super) id: String,
    pub(super) machine: Machine,
    pub(super) pipes: Pipes,
}

/// What is to be removed, whether or not there is a machine yet.
struct Remains {
    child: Mutex<Option<Child>>,
    /// The folder around `root`.
    top: PathBuf,
    group: Option<Group>,
    namespace: Option<Namespace>,
    ended: AtomicBool,
}

/// What a machine may use.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    pub(super) memory_mib: u32,
    pub(super) vcpus: u32,
}

impl Size {
    fn limits(self) -> Limits {
        Limits {
            memory_bytes: (u64::from(self.memory_mib) << 20) + OVERHEAD,
            processes: u64::from(self.vcpus) + THREADS,
            processors: self.vcpus,
        }
    }
}

impl Machine {
    /// Starts a monitor without a machine, and waits until it listens.
    fn start(host: &Host, id: &str) -> Result<(Self, Pipes), CreateError> {
        let io = |doing| move |source| CreateError::Io { doing, source };
        let name = format!("{}-{id}", host.prefix);
        let top = match &host.jail {
            Some(_) => host.data.join(JAILS).join(host.program_name()).join(&name),
            None => host.data.join(MACHINES).join(&name),
        };
        let root = top.join("root");
        let mut remains = Remains {
            child: Mutex::default(),
            top,
            group: None,
            namespace: None,
            ended: AtomicBool::new(false),
        };
        fs::create_dir_all(&root).map_err(io("making its folder"))?;
        File::create(root.join(LOG)).map_err(io("making its folder"))?;
        for path in [&root, &root.join(LOG)] {
            host.give(path).map_err(io("giving it its folder"))?;
        }
        if host.hierarchies.is_usable() {
            let group = host.hierarchies.create(&name, EMPTY.limits());
            remains.group = Some(group.map_err(io("making a control group"))?);
        }
        if host.hardware.network.is_some() {
            let owner = host.jail.as_ref().map_or(0, |jail| jail.user);
            let namespace = Namespace::new(&host.data, &name, owner);
            remains.namespace = Some(namespace.map_err(io("making a network namespace"))?);
        }
        let mut command = host.command(&name, remains.namespace.as_ref());
        command.current_dir(&root).stdin(Stdio::piped());
        let errors = File::create(remains.top.join(ERRORS)).map_err(io("making its folder"))?;
        let child = command.stdout(Stdio::piped()).stderr(errors).spawn();
        let mut child = child.map_err(io("starting its program"))?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let pid = child.id();
        *remains.child() = Some(child);
        remains.note(pid).map_err(io("noting its number"))?;
        let pipes =
            pipes.ok_or_else(|| io("starting its program")(io::Error::other("no pipes")))?;
        let api = remains.connect(host, &root)?;
        let machine = Self {
            root,
            api: Mutex::new(api),
            remains,
        };
        Ok((machine, pipes))
    }

    /// Lets it use what a machine needs.
    pub(super) fn allow(&self, size: Size) -> io::Result<()> {
        self.group()
            .map_or(Ok(()), |group| group.set(size.limits()))
    }

    pub(super) fn api(&self) -> MutexGuard<'_, Api> {
        self.api.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn group(&self) -> Option<&Group> {
        self.remains.group.as_ref()
    }

    /// Its number on this host.
    pub(super) fn process(&self) -> u32 {
        self.remains.child().as_ref().map_or(0, Child::id)
    }

    pub(super) fn is_over(&self) -> bool {
        self.remains.ended.load(Ordering::Acquire) || self.remains.status().is_some()
    }

    /// Ends it and removes all that it had.
    pub(super) fn end(&self) {
        self.remains.remove();
    }

    /// What it logged last, for an error.
    pub(super) fn last_words(&self) -> String {
        self.remains.last_words(&self.root)
    }
}

impl Remains {
    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How its program ended, if it has.
    fn status(&self) -> Option<ExitStatus> {
        self.child().as_mut()?.try_wait().ok().flatten()
    }

    /// Notes which process it is, for a start after a crash, and puts it into its group.
    fn note(&self, pid: u32) -> io::Result<()> {
        let begun = begun(pid).unwrap_or_default();
        fs::write(self.top.join(PROCESS), format!("{pid} {begun}"))?;
        match &self.group {
            Some(group) => group.admit(pid as i32),
            None => Ok(()),
        }
    }

    fn connect(&self, host: &Host, root: &Path) -> Result<Api, CreateError> {
        let until = Instant::now() + START;
        loop {
            let failed = match Api::connect(root, SOCKET) {
                Ok(api) => return Ok(api),
                Err(error) => error,
            };
            let over = self.status();
            if over.is_some() || Instant::now() > until {
                let how = over.map_or_else(|| failed.to_string(), |status| status.to_string());
                return Err(CreateError::Monitor {
                    program: host.starter().display().to_string(),
                    why: format!("{how}: {}", self.last_words(root)),
                });
            }
            thread::sleep(START_POLL);
        }
    }

    fn last_words(&self, root: &Path) -> String {
        let read = |path: PathBuf| fs::read_to_string(path).unwrap_or_default();
        let said = read(self.top.join(ERRORS)) + &read(root.join(LOG));
        let start = said.len().saturating_sub(LAST_WORDS);
        let start = (start..said.len()).find(|at| said.is_char_boundary(*at));
        said[start.unwrap_or(0)..].trim().to_owned()
    }

    fn remove(&self) {
        if self.ended.swap(true, Ordering::AcqRel) {
            return;
        }
        if let Some(child) = &mut *self.child() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if let Some(group) = &self.group {
            let _ = group.end();
            if let Err(error) = group.remove() {
                tracing::warn!("a machine's control group stays: {error}");
            }
        }
        if let Some(namespace) = &self.namespace {
            namespace.remove();
        }
        if let Err(error) = fs::remove_dir_all(&self.top) {
            tracing::warn!(folder = %self.top.display(), "a machine's folder stays: {error}");
        }
    }
}

impl Drop for Remains {
    fn drop(&mut self) {
        self.remove();
    }
}

impl Host {
    /// Starts a monitor for a world to come.
    pub(super) fn ready(&self) -> Result<Ready, CreateError> {
        let id = fresh("machine").map_err(|source| CreateError::Io {
            doing: "naming it",
            source,
        })?;
        let (machine, pipes) = Machine::start(self, &id)?;
        Ok(Ready { id, machine, pipes })
    }

    /// The name of the monitor's program, under which its jails are.
    pub(super) fn program_name(&self) -> String {
        let name = self.program.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    fn starter(&self) -> &Path {
        self.jail
            .as_ref()
            .map_or(&self.program, |jail| &jail.program)
    }

    /// Makes something the jailed user's.
    pub(super) fn give(&self, path: &Path) -> io::Result<()> {
        match &self.jail {
            Some(jail) => chown(path, Some(jail.user), Some(jail.group)),
            None => Ok(()),
        }
    }

    fn command(&self, name: &str, namespace: Option<&Namespace>) -> Command {
        let mut command = Command::new(self.starter());
        match &self.jail {
            Some(jail) => {
                self.jailed(&mut command, jail, namespace);
                command.args(["--id", name, "--"]);
            }
            None => {
                command.args(["--id", name]);
            }
        }
        command.args(["--api-sock", SOCKET, "--log-path", LOG, "--level", "Warn"]);
        command.env_clear();
        command
    }

    fn jailed(&self, command: &mut Command, jail: &Jail, namespace: Option<&Namespace>) {
        command.arg("--exec-file").arg(&self.program);
        command.arg("--uid").arg(jail.user.to_string());
        command.arg("--gid").arg(jail.group.to_string());
        command.arg("--chroot-base-dir").arg(self.data.join(JAILS));
        if let Some(namespace) = namespace {
            command.arg("--netns").arg(&namespace.path);
        }
        let limits = EMPTY.limits();
        let quota = u64::from(limits.processors) * PERIOD;
        let version = self.hierarchies.version_of("memory").unwrap_or(1);
        let mut limited = false;
        for (controller, files) in CONTROLLERS {
            if self.hierarchies.version_of(controller) != Some(version) {
                continue;
            }
            let value = match (controller, version) {
                ("memory", _) => limits.memory_bytes.to_string(),
                ("pids", _) => limits.processes.to_string(),
                (_, 2) => format!("{quota} {PERIOD}"),
                _ => quota.to_string(),
            };
            let file = files[usize::from(version) - 1];
            command.arg("--cgroup").arg(format!("{file}={value}"));
            limited = true;
        }
        if limited {
            command.args(["--parent-cgroup", host::cgroup::PARENT]);
            command.args(["--cgroup-version", &version.to_string()]);
        }
    }
}

/// When a process began, in the kernel's own count: with its number, that is its identity.
fn begun(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.split(' ').nth(19).map(str::to_owned)
}

/// Ends machines that a killed program left in a folder, and removes what they had. Gives how many.
pub(super) fn reap(host: &Host) -> io::Result<usize> {
    let jails = host.data.join(JAILS).join(host.program_name());
    let mut count = 0;
    for folder in [host.data.join(MACHINES), jails] {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            end_former(&entry.path());
            fs::remove_dir_all(entry.path())?;
            count += 1;
        }
    }
    host.hierarchies.reap(|name| name.starts_with(&host.prefix));
    super::network::reap(&host.data);
    Ok(count)
}

fn end_former(top: &Path) {
    let noted = fs::read_to_string(top.join(PROCESS)).unwrap_or_default();
    let Some((pid, then)) = noted.split_once(' ') else {
        return;
    };
    let Ok(pid) = pid.parse::<u32>() else { return };
    let is_it = || begun(pid).as_deref() == Some(then);
    if is_it() {
        host::kill(pid as i32);
        let until = Instant::now() + START;
        while is_it() && Instant::now() < until {
            thread::sleep(START_POLL);
        }
    }
}

/// Puts a file where a monitor finds it: the very file, not a copy.
pub(super) fn link(from: &Path, root: &Path, name: &str) -> io::Result<()> {
    fs::hard_link(from, root.join(name))
}

/// What a file is, as far as can be told without reading it.
pub(super) fn identity(of: &fs::Metadata) -> [i64; 4] {
    [
        of.ino() as i64,
        of.len() as i64,
        of.mtime(),
        of.mtime_nsec(),
    ]
}
