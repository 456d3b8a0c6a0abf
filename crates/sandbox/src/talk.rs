//! The conversation with the agent of a world: cells, commands, files. It is the same whatever the world
//! runs on.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{CreateError, ExecError, FileError};
use crate::limits::{ANSWER, APPETITE, GRACE, HEARTBEAT, MAX_CODE, MAX_FILE, MAX_UNTAKEN, PULSE};
use crate::link::{Call, Event, Link, gone};
use crate::model::{Cell, Command, Outcome, Spec, Stream};
use crate::proxy;
use crate::wire::{self, Put, kind};
use crate::{Output, Running, Said};

/// The interpreter's program: what every cell goes through.
pub(crate) const KERNEL: &str = include_str!("../kernel/kernel.py");
/// Where it stands in a world.
const KERNEL_PATH: &str = "/usr/lib/worldline-kernel.py";
/// Modules that are loaded before the first cell.
const PRELOAD: &str = "numpy pandas matplotlib.pyplot";
/// What a command's exit code is when its time was over.
const TIMED_OUT: i32 = 124;
/// What it is when its caller went away.
const CANCELLED: i32 = 137;

const ENVIRONMENT: [&str; 7] = [
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME=/root",
    "USER=root",
    "LANG=C.UTF-8",
    "TERM=xterm-256color",
    "OPENBLAS_NUM_THREADS=1",
    "OMP_NUM_THREADS=1",
];
/// For the interpreter alone. It must be one thread without registered restartable sequences: that is
/// what its image can hold.
const KERNEL_ENVIRONMENT: [&str; 4] = [
    "MPLBACKEND=Agg",
    "PYTHONUNBUFFERED=1",
    "PYTHONDONTWRITEBYTECODE=1",
    "GLIBC_TUNABLES=glibc.pthread.rseq=0",
];
/// Runs a line, and writes the folder and the exported variables to descriptor 9 when it ends.
const LINE: &str =
    r#"trap '{ pwd -P | tr -d "\n"; printf "\0"; env -0; } >&9 2>/dev/null' EXIT; eval "$1" 9>&-"#;

/// What the shell keeps from line to line.
#[derive(Clone)]
pub(crate) struct Kept {
    pub(crate) folder: String,
    pub(crate) environment: Vec<String>,
}

impl Default for Kept {
    fn default() -> Self {
        Self {
            folder: "/root".into(),
            environment: ENVIRONMENT.map(str::to_owned).to_vec(),
        }
    }
}

/// A world, as far as one talks to it.
pub(crate) struct Talk {
    pub(crate) id: String,
    pub(crate) link: Arc<Link>,
    pub(crate) kept: Mutex<Kept>,
    pub(crate) paused: AtomicBool,
    pub(crate) ended: AtomicBool,
    /// One cell after the other.
    cells: Mutex<()>,
    /// Held while files are written from outside, and while the disk is copied.
    pub(crate) files: Mutex<()>,
}

impl Talk {
    pub(crate) fn new(id: String, link: Arc<Link>) -> Self {
        Self {
            id,
            link,
            kept: Mutex::default(),
            paused: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            cells: Mutex::default(),
            files: Mutex::default(),
        }
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Starts an interpreter from its beginning; gives what the agent says to that.
    pub(crate) fn start_interpreter(&self) -> io::Result<Vec<u8>> {
        let preload = format!("WORLDLINE_PRELOAD={PRELOAD}");
        let environment = ENVIRONMENT
            .iter()
            .chain(&KERNEL_ENVIRONMENT)
            .copied()
            .chain([preload.as_str()]);
        let program = Put::default()
            .bytes(KERNEL_PATH)
            .u32(0o644)
            .u32(1)
            .bytes(KERNEL);
        self.link.ask(kind::WRITE, &program.0, &[])?;
        let call = spawn(
            ["/usr/bin/python3", KERNEL_PATH],
            environment,
            "/root",
            None,
        );
        let (answer, _) = self.link.ask(kind::KERNEL, &call, &[])?;
        Ok(answer)
    }

    /// Tells programs of the way out, where there is one.
    pub(crate) fn tell_network(&self, networked: bool) {
        let mut kept = lock(&self.kept);
        let told = proxy::VARIABLES.map(|(name, value)| format!("{name}={value}"));
        kept.environment.retain(|one| !told.contains(one));
        if networked {
            kept.environment.extend(told);
        }
    }

    /// Gives the interpreter its own randomness, before whatever it is asked next.
    pub(crate) fn reseed(&self, spec: &Spec, networked: bool) -> io::Result<Call> {
        let seed = match spec.seed {
            Some(seed) => seed,
            None => random()?,
        };
        let told: BTreeMap<&str, &str> = proxy::VARIABLES.into_iter().collect();
        let message = serde_json::json!({
            "op": "reseed", "seed": seed, "networked": networked, "variables": told,
        });
        self.link
            .call(kind::CELL, message.to_string().as_bytes(), &[])
    }

    /// The same; with the answer the interpreter has shown that it runs.
    pub(crate) fn first_answer(
        &self,
        spec: &Spec,
        networked: bool,
        patience: Duration,
    ) -> Result<(), CreateError> {
        let io = |source| CreateError::Io {
            doing: "talking to the interpreter",
            source,
        };
        let call = self.reseed(spec, networked).map_err(io)?;
        let until = Instant::now() + patience;
        let mut said = String::new();
        loop {
            match call.next(Some(until)).map_err(io)? {
                Event::Result(_) => return Ok(()),
                Event::Output(_, bytes) => said.push_str(&String::from_utf8_lossy(&bytes)),
                Event::KernelEnded(code) => {
                    return Err(CreateError::Interpreter(format!(
                        "it ended with code {code}: {}",
                        said.trim_end()
                    )));
                }
                Event::Failed(why) => {
                    return Err(CreateError::Interpreter(format!(
                        "{why}: {}",
                        said.trim_end()
                    )));
                }
                Event::Gone => return Err(io(gone())),
                Event::Done(..) | Event::Exit { .. } | Event::Taken(_) => {}
            }
        }
    }

    pub(crate) fn check(&self) -> Result<(), ExecError> {
        if self.ended.load(Ordering::Acquire) {
            return Err(ExecError::Gone(self.id.clone()));
        }
        if self.paused.load(Ordering::Acquire) {
            return Err(ExecError::Paused(self.id.clone()));
        }
        Ok(())
    }

    /// Asks an agent that has been silent for long whether it is there: a machine that hangs says nothing, as
    /// a long computation does. What it answers does not matter.
    fn feel(&self, last: &mut Instant) -> Result<(), ExecError> {
        if last.elapsed() < PULSE || self.paused.load(Ordering::Acquire) {
            return Ok(());
        }
        let asked = self.link.ask(kind::USED, &[], &[]);
        *last = Instant::now();
        match asked {
            Err(error)
                if error.kind() == io::ErrorKind::TimedOut
                    && !self.paused.load(Ordering::Acquire) =>
            {
                Err(ExecError::Silent(self.id.clone()))
            }
            _ => Ok(()),
        }
    }

    fn check_files(&self) -> Result<(), FileError> {
        self.check().map_err(|error| match error {
            ExecError::Paused(id) => FileError::Paused(id),
            _ => FileError::Gone(self.id.clone()),
        })
    }

    /// Checks a command; gives the call that starts it, and whether it is a line for the shell.
    fn prepare(
        &self,
        command: &Command,
        terminal: Option<(u32, u32)>,
    ) -> Result<(Vec<u8>, bool), ExecError> {
        let words = command.argv.iter().chain(
            command
                .environment
                .iter()
                .flat_map(|(name, value)| [name, value]),
        );
        let size: usize = words.clone().map(String::len).sum();
        if size > MAX_CODE {
            return Err(ExecError::TooLong(size));
        }
        if command.argv.first().is_none_or(String::is_empty)
            || words.clone().any(|word| word.contains('\0'))
        {
            return Err(ExecError::NoCommand);
        }
        self.check()?;
        let line = command.argv.len() == 1;
        let kept = lock(&self.kept).clone();
        let variables = command
            .environment
            .iter()
            .map(|(name, value)| format!("{name}={value}"));
        let environment: Vec<String> = kept.environment.iter().cloned().chain(variables).collect();
        let payload = if line {
            spawn(
                ["/bin/bash", "-c", LINE, "bash", &command.argv[0]],
                &environment,
                &kept.folder,
                terminal,
            )
        } else {
            spawn(&command.argv, &environment, &kept.folder, terminal)
        };
        Ok((payload, line))
    }

    /// Begins something that is talked to while it runs.
    pub(crate) fn running(&self, kind: u8, payload: &[u8]) -> io::Result<InWorld> {
        InWorld::begin(self.id.clone(), &self.link, kind, payload)
    }

    /// Runs a cell. Where the interpreter ends under it, `replace` says why, and begins another.
    pub(crate) fn run(
        &self,
        cell: &Cell,
        output: Output,
        replace: impl Fn(i32) -> ExecError,
    ) -> Result<Outcome, ExecError> {
        if cell.code.len() > MAX_CODE {
            return Err(ExecError::TooLong(cell.code.len()));
        }
        let _one = lock(&self.cells);
        self.check()?;
        let message = serde_json::json!({ "op": "cell", "code": cell.code }).to_string();
        let call = self.link.call(kind::CELL, message.as_bytes(), &[])?;
        let until = cell.timeout.map(|timeout| Instant::now() + timeout);
        let mut interrupted: Option<Instant> = None;
        let mut felt = Instant::now();
        loop {
            match call.next(Some(Instant::now() + HEARTBEAT)) {
                Ok(Event::Output(stream, bytes)) => output(which(stream), &bytes),
                Ok(Event::Result(json)) => {
                    let parsed = serde_json::from_slice(&json);
                    return parsed.map_err(|error| {
                        io::Error::other(format!("the interpreter's answer: {error}")).into()
                    });
                }
                Ok(Event::KernelEnded(code)) => return Err(replace(code)),
                Ok(Event::Failed(why)) => return Err(io::Error::other(why).into()),
                Ok(Event::Gone) => return Err(ExecError::Gone(self.id.clone())),
                Ok(Event::Done(..) | Event::Exit { .. } | Event::Taken(_)) => {}
                Err(error) if error.kind() == io::ErrorKind::TimedOut => self.feel(&mut felt)?,
                Err(error) => return Err(error.into()),
            }
            let over =
                until.is_some_and(|until| Instant::now() >= until) || cell.cancel.is_cancelled();
            match interrupted {
                None if over => {
                    call.signal(libc::SIGINT)?;
                    interrupted = Some(Instant::now());
                }
                // Code that catches interrupts cannot be stopped in any gentler way.
                Some(since) if since.elapsed() > GRACE => call.signal(libc::SIGKILL)?,
                _ => {}
            }
        }
    }

    pub(crate) fn exec(&self, command: &Command, output: Output) -> Result<i32, ExecError> {
        let (payload, line) = self.prepare(command, None)?;
        let call = self.link.call(kind::SPAWN, &payload, &[])?;
        for part in command.input.chunks(wire::CHUNK) {
            self.link.tell(kind::STDIN, call.number, part, &[])?;
        }
        self.link.tell(kind::STDIN, call.number, &[], &[])?;
        let until = command.timeout.map(|timeout| Instant::now() + timeout);
        let mut verdict = None;
        let mut felt = Instant::now();
        loop {
            match call.next(Some(Instant::now() + HEARTBEAT)) {
                Ok(Event::Output(stream, bytes)) => output(which(stream), &bytes),
                Ok(Event::Exit {
                    code,
                    folder,
                    environment,
                }) => {
                    if line && !folder.is_empty() && command.environment.is_empty() {
                        let ours =
                            |one: &String| !one.starts_with("_=") && !one.starts_with("SHLVL=");
                        *lock(&self.kept) = Kept {
                            folder,
                            environment: environment.into_iter().filter(ours).collect(),
                        };
                    }
                    return Ok(verdict.unwrap_or(code));
                }
                Ok(Event::Failed(why)) => return Err(io::Error::other(why).into()),
                Ok(Event::Gone) => return Err(ExecError::Gone(self.id.clone())),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::TimedOut => self.feel(&mut felt)?,
                Err(error) => return Err(error.into()),
            }
            if verdict.is_none() {
                let over = until.is_some_and(|until| Instant::now() >= until);
                verdict = over
                    .then_some(TIMED_OUT)
                    .or_else(|| command.cancel.is_cancelled().then_some(CANCELLED));
                if verdict.is_some() {
                    call.signal(libc::SIGKILL)?;
                }
            }
        }
    }

    pub(crate) fn begin(
        &self,
        command: &Command,
        terminal: Option<(u32, u32)>,
    ) -> Result<Box<dyn Running>, ExecError> {
        let (payload, _) = self.prepare(command, terminal)?;
        let running = self.running(kind::SPAWN, &payload)?;
        if !command.input.is_empty() {
            running.write(&command.input)?;
        }
        Ok(Box::new(running))
    }

    pub(crate) fn sftp(&self) -> Result<Box<dyn Running>, ExecError> {
        self.check()?;
        let folder = lock(&self.kept).folder.clone();
        let running = self.running(kind::SFTP, &Put::default().bytes(folder).0)?;
        Ok(Box::new(running))
    }

    pub(crate) fn read(&self, path: &str) -> Result<Vec<u8>, FileError> {
        let io = |source| FileError::Io {
            path: path.into(),
            source,
        };
        self.check_files()?;
        let call = self
            .link
            .call(kind::READ, &Put::default().bytes(path).0, &[])
            .map_err(io)?;
        let mut all = Vec::new();
        loop {
            match call.next(Some(Instant::now() + ANSWER)).map_err(io)? {
                Event::Output(_, bytes) => all.extend(bytes),
                Event::Done(..) => return Ok(all),
                Event::Failed(why) => return Err(io(io::Error::other(why))),
                _ => return Err(FileError::Gone(self.id.clone())),
            }
            if all.len() > MAX_FILE {
                return Err(FileError::TooLong { path: path.into() });
            }
        }
    }

    pub(crate) fn write(&self, path: &str, mode: u32, bytes: &[u8]) -> Result<(), FileError> {
        let io = |source| FileError::Io {
            path: path.into(),
            source,
        };
        self.check_files()?;
        if bytes.len() > MAX_FILE {
            return Err(FileError::TooLong { path: path.into() });
        }
        let _files = lock(&self.files);
        let mut parts = bytes.chunks(wire::CHUNK);
        let first = parts.next().unwrap_or_default();
        for (at, part) in std::iter::once(first).chain(parts).enumerate() {
            let payload = Put::default()
                .bytes(path)
                .u32(mode & 0o7777)
                .u32((at == 0).into())
                .bytes(part);
            self.link.ask(kind::WRITE, &payload.0, &[]).map_err(io)?;
        }
        Ok(())
    }
}

/// Something that runs in a world of this backend.
pub(crate) struct InWorld {
    world: String,
    call: Call,
    /// Bytes of its input that it has not taken; none once it has ended.
    untaken: Mutex<Option<usize>>,
    taken: Condvar,
}

impl InWorld {
    /// Begins it in a world.
    pub(crate) fn begin(
        world: String,
        link: &Arc<Link>,
        kind: u8,
        payload: &[u8],
    ) -> io::Result<Self> {
        Ok(Self {
            world,
            call: link.call(kind, payload, &[])?,
            untaken: Mutex::new(Some(0)),
            taken: Condvar::new(),
        })
    }

    fn take(&self, count: usize) {
        if let Some(untaken) = &mut *lock(&self.untaken) {
            *untaken = untaken.saturating_sub(count);
        }
        self.taken.notify_all();
    }

    /// Nobody waits for one that has ended.
    fn end(&self) {
        *lock(&self.untaken) = None;
        self.taken.notify_all();
    }

    /// Waits until it has taken nearly all that it was given. Gives false for one that takes nothing more.
    fn is_hungry(&self) -> Result<bool, ExecError> {
        let mut untaken = lock(&self.untaken);
        while let Some(before) = *untaken {
            if before < MAX_UNTAKEN {
                return Ok(true);
            }
            let (after, waited) = self
                .taken
                .wait_timeout(untaken, APPETITE)
                .unwrap_or_else(PoisonError::into_inner);
            untaken = after;
            if waited.timed_out() && *untaken == Some(before) {
                return Err(io::Error::other("the command does not read its input").into());
            }
        }
        Ok(false)
    }
}

impl Running for InWorld {
    fn write(&self, bytes: &[u8]) -> Result<(), ExecError> {
        let tell = |part: &[u8]| {
            self.call
                .link
                .tell(kind::STDIN, self.call.number, part, &[])
        };
        if bytes.is_empty() {
            return Ok(tell(&[])?);
        }
        for part in bytes.chunks(wire::CHUNK) {
            if !self.is_hungry()? {
                return Ok(());
            }
            if let Some(untaken) = &mut *lock(&self.untaken) {
                *untaken += part.len();
            }
            tell(part)?;
        }
        Ok(())
    }

    fn resize(&self, rows: u32, columns: u32) -> Result<(), ExecError> {
        let size = Put::default().u32(rows).u32(columns);
        Ok(self
            .call
            .link
            .tell(kind::RESIZE, self.call.number, &size.0, &[])?)
    }

    fn signal(&self, signal: i32) -> Result<(), ExecError> {
        Ok(self.call.signal(signal)?)
    }

    fn next(&self, within: Duration) -> Result<Option<Said>, ExecError> {
        let until = Instant::now() + within;
        loop {
            match self.call.next(Some(until)) {
                Ok(Event::Output(stream, bytes)) => {
                    return Ok(Some(Said::Bytes(which(stream), bytes)));
                }
                Ok(Event::Exit { code, .. }) => {
                    self.end();
                    return Ok(Some(Said::Ended(code)));
                }
                Ok(Event::Failed(why)) => {
                    self.end();
                    return Err(io::Error::other(why).into());
                }
                Ok(Event::Gone) => {
                    self.end();
                    return Err(ExecError::Gone(self.world.clone()));
                }
                Ok(Event::Taken(count)) => self.take(count as usize),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::TimedOut => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Drop for InWorld {
    fn drop(&mut self) {
        // As a line that hangs up would; what ignores that is ended.
        for signal in [libc::SIGHUP, libc::SIGKILL] {
            let _ = self.call.signal(signal);
        }
    }
}

/// A call that starts a command, at a terminal of some rows and columns or without one.
fn spawn<A: AsRef<str>, E: AsRef<str>>(
    argv: impl IntoIterator<Item = A>,
    environment: impl IntoIterator<Item = E>,
    folder: &str,
    terminal: Option<(u32, u32)>,
) -> Vec<u8> {
    let own = |one: &str| one.to_owned();
    let argv: Vec<String> = argv.into_iter().map(|one| own(one.as_ref())).collect();
    let environment: Vec<String> = environment
        .into_iter()
        .map(|one| own(one.as_ref()))
        .collect();
    let (rows, columns) = terminal.unwrap_or_default();
    Put::default()
        .list(argv)
        .list(environment)
        .bytes(folder)
        .u32(terminal.is_some().into())
        .u32(rows)
        .u32(columns)
        .0
}

fn which(stream: u8) -> Stream {
    if stream == 2 {
        Stream::Error
    } else {
        Stream::Out
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn random() -> io::Result<u64> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(u64::from_le_bytes(bytes))
}
