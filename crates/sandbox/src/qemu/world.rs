//! One machine.

use std::io;
use std::net::TcpStream;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::Inner;
use super::memory::{Memory, Negative};
use super::monitor::{Begin, Monitor};
use super::pool::{Mould, Ready};
use super::store::{Picture, Stored};
use crate::error::{CreateError, ExecError, FileError, ResizeError, SnapshotError};
use crate::guest::{self, Connections};
use crate::host::fresh;
use crate::limits::MAX_NAME;
use crate::link::Link;
use crate::model::{Cell, Command, Outcome, Snapshot, Spec, Stats};
use crate::talk::{Kept, Talk};
use crate::wire::kind;
use crate::{Output, Running, Sandbox};

/// How long a machine may take to go on, and its agent to fall asleep or wake.
const PATIENCE: Duration = Duration::from_secs(120);

pub(super) struct World {
    inner: Arc<Inner>,
    talk: Talk,
    monitor: Monitor,
    /// What its memory was when it began.
    base: Arc<Memory>,
    pub(super) spec: Spec,
    disk_mib: AtomicU32,
    image: String,
    machine: String,
    origin: Option<String>,
    closed: Vec<String>,
    /// Connections into it.
    connections: Connections,
    /// One change of its life after the other.
    turn: Mutex<()>,
    branches: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn io_error(doing: &'static str) -> impl Fn(io::Error) -> CreateError {
    move |source| CreateError::Io { doing, source }
}

impl World {
    /// A machine that begins with its kernel, and whose interpreter starts from its beginning.
    pub(super) fn boot(inner: &Arc<Inner>, spec: &Spec, image: &str) -> Result<Self, CreateError> {
        let world = Self::bare(inner, spec, image, guest::START)?;
        world
            .talk
            .start_interpreter()
            .map_err(|error| world.why(error))?;
        world.talk.first_answer(spec, false, guest::START)?;
        Ok(world)
    }

    /// A machine whose agent answers within some time, and that has no interpreter yet.
    pub(super) fn bare(
        inner: &Arc<Inner>,
        spec: &Spec,
        image: &str,
        patience: Duration,
    ) -> Result<Self, CreateError> {
        let machine = inner.machine(image)?;
        let blank = Memory::blank(spec.memory_mib).map_err(io_error("making its memory"))?;
        let base = Arc::new(blank);
        let begin = Begin::Boot {
            kernel: &machine.kernel,
            root: &machine.first_root,
        };
        let begun = inner.begin(&machine, (spec.memory_mib, spec.vcpus), &base, begin);
        let world = Self::of(
            inner,
            begun.map_err(io_error("starting QEMU"))?,
            spec,
            (image, &machine.digest),
            base,
        )?;
        world
            .ready(&guest::identity(world.id(), spec, false), patience)
            .map_err(|error| world.why(error))?;
        Ok(world)
    }

    /// A machine that goes on from a picture.
    pub(super) fn restore(
        inner: &Arc<Inner>,
        spec: &Spec,
        stored: &Stored,
        picture: &Picture,
        origin: Option<String>,
    ) -> Result<Self, CreateError> {
        let mould = Mould {
            image: stored.snapshot.image.clone(),
            picture: picture.clone(),
            mib: spec.memory_mib,
            vcpus: spec.vcpus,
        };
        let ready = inner.pool.take(&mould);
        let ready = match ready.filter(|one| one.monitor.run(true).is_ok()) {
            Some(ready) => ready,
            None => inner
                .start(&mould, false)
                .map_err(io_error("starting QEMU"))?,
        };
        let made = (mould.image.as_str(), stored.machine.as_str());
        let mut world = Self::of(inner, ready, spec, made, Arc::clone(&picture.memory))?;
        if origin.is_some() {
            *lock(&world.talk.kept) = Kept {
                folder: stored.folder.clone(),
                environment: stored.environment.clone(),
            };
        }
        world.closed.clone_from(&stored.snapshot.closed);
        world.origin = origin;
        world.talk.link.is_asleep(stored.calls);
        let identity = guest::identity(world.id(), spec, true);
        world
            .talk
            .link
            .wake(&identity, PATIENCE)
            .map_err(|error| world.why(error))?;
        let networked = world
            .connections
            .let_out(&world.talk, spec)
            .map_err(io_error("opening its way out"))?;
        // Its answer comes before that of whatever is asked first.
        drop(
            world
                .talk
                .reseed(spec, networked)
                .map_err(|error| world.why(error))?,
        );
        Ok(world)
    }

    fn of(
        inner: &Arc<Inner>,
        begun: Ready,
        spec: &Spec,
        (image, machine): (&str, &str),
        base: Arc<Memory>,
    ) -> Result<Self, CreateError> {
        let link = Link::new(begun.line).map_err(io_error("starting a thread"))?;
        Ok(Self {
            inner: Arc::clone(inner),
            talk: Talk::new(begun.id, link),
            monitor: begun.monitor,
            base,
            spec: spec.clone(),
            disk_mib: AtomicU32::new(spec.disk_mib),
            image: image.to_owned(),
            machine: machine.to_owned(),
            origin: None,
            closed: Vec::new(),
            connections: Connections::default(),
            turn: Mutex::default(),
            branches: AtomicU64::new(0),
        })
    }

    fn ready(&self, identity: &[u8], patience: Duration) -> io::Result<()> {
        let call = self.talk.link.call(kind::MACHINE, identity, &[])?;
        call.done(patience)
    }

    /// An error of a machine that did not begin, with its last words.
    fn why(&self, error: io::Error) -> CreateError {
        CreateError::Monitor {
            program: super::monitor::PROGRAM.into(),
            why: self.obituary(&error),
        }
    }

    fn obituary(&self, error: &io::Error) -> String {
        match self.monitor.last_words() {
            words if words.is_empty() => error.to_string(),
            words => format!("{error}; the last that it said: {words}"),
        }
    }

    pub(super) fn id(&self) -> &str {
        &self.talk.id
    }

    /// How many branches its snapshots have had, before this one.
    pub(super) fn next_branch(&self) -> u64 {
        self.branches.fetch_add(1, Ordering::Relaxed)
    }

    /// Has the machine stand still with nothing on its way.
    fn halt(&self) -> io::Result<()> {
        let hushed = self.talk.link.hush(PATIENCE);
        let halted = hushed.and_then(|()| self.monitor.run(false));
        if halted.is_err() {
            let _ = self.go_on();
        }
        halted
    }

    fn go_on(&self) -> io::Result<()> {
        self.monitor.run(true)?;
        let identity = guest::identity(self.id(), &self.spec, false);
        self.talk.link.wake(&identity, PATIENCE)
    }

    /// Takes a picture under a new id.
    pub(super) fn picture(
        &self,
        id: &str,
        name: Option<&str>,
    ) -> Result<(Stored, Picture), SnapshotError> {
        let io = |doing| move |source| SnapshotError::Io { doing, source };
        let _turn = lock(&self.turn);
        if self.talk.has_ended() {
            return Err(SnapshotError::Gone(self.talk.id.clone()));
        }
        // While a file is written from outside, in several parts, it is no picture of anything.
        let _files = lock(&self.talk.files);
        let paused = self.talk.paused.load(Ordering::Acquire);
        let begun = Instant::now();
        if !paused {
            self.halt().map_err(io("stopping the machine"))?;
        }
        let taken = self
            .monitor
            .devices()
            .and_then(|devices| Ok((devices, Negative::take(self.monitor.pid, &self.base)?)));
        if !paused {
            self.go_on().map_err(io("waking the machine"))?;
        }
        let pause_ms = begun.elapsed().as_secs_f64() * 1e3;
        let (devices, negative) = taken.map_err(io("copying its memory"))?;
        let memory = negative
            .develop(&self.base)
            .map_err(io("copying its memory"))?;
        let kept = lock(&self.talk.kept).clone();
        let snapshot = Snapshot {
            id: id.to_owned(),
            name: name.map(str::to_owned),
            world: self.talk.id.clone(),
            parent: self.origin.clone(),
            image: self.image.clone(),
            created: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_secs()),
            digest: String::new(),
            durable: false,
            memory_bytes: memory.bytes(),
            disk_bytes: 0,
            pause_ms,
            closed: self.connections.names(),
            spec: Spec {
                disk_mib: self.disk_mib.load(Ordering::Acquire),
                ..self.spec.clone()
            },
        };
        let mut stored = self.inner.stored(snapshot, &self.machine);
        stored.calls = self.talk.link.calls_so_far();
        stored.folder = kept.folder;
        stored.environment = kept.environment;
        let picture = Picture {
            memory: Arc::new(memory),
            devices: Arc::new(devices),
        };
        Ok((stored, picture))
    }

    fn check_life(&self) -> Result<(), ExecError> {
        match self.talk.has_ended() {
            true => Err(ExecError::Gone(self.talk.id.clone())),
            false => Ok(()),
        }
    }

    /// Says why a machine that ended by itself did.
    fn mourn<T>(&self, answer: Result<T, ExecError>) -> Result<T, ExecError> {
        match answer {
            Err(ExecError::Gone(id)) if !self.talk.has_ended() => {
                let why = format!("world {id} has ended");
                let error = io::Error::new(io::ErrorKind::BrokenPipe, why);
                Err(io::Error::new(error.kind(), self.obituary(&error)).into())
            }
            other => other,
        }
    }
}

impl Sandbox for World {
    fn id(&self) -> &str {
        &self.talk.id
    }

    fn origin(&self) -> Option<&str> {
        self.origin.as_deref()
    }

    fn closed(&self) -> &[String] {
        &self.closed
    }

    fn run(&self, cell: &Cell, output: Output) -> Result<Outcome, ExecError> {
        let outcome = self.talk.run(cell, output, |code| {
            guest::replace_interpreter(&self.talk, &self.spec, code)
        });
        self.mourn(outcome)
    }

    fn exec(&self, command: &Command, output: Output) -> Result<i32, ExecError> {
        let code = self.talk.exec(command, output);
        self.mourn(code)
    }

    fn begin(
        &self,
        command: &Command,
        terminal: Option<(u32, u32)>,
    ) -> Result<Box<dyn Running>, ExecError> {
        self.talk.begin(command, terminal)
    }

    fn sftp(&self) -> Result<Box<dyn Running>, ExecError> {
        self.talk.sftp()
    }

    fn read(&self, path: &str) -> Result<Vec<u8>, FileError> {
        self.talk.read(path)
    }

    fn write(&self, path: &str, mode: u32, bytes: &[u8]) -> Result<(), FileError> {
        self.talk.write(path, mode, bytes)
    }

    fn connect(&self, port: u16) -> Result<TcpStream, ExecError> {
        self.connections.open(&self.talk, port)
    }

    fn pause(&self) -> Result<(), ExecError> {
        let _turn = lock(&self.turn);
        self.check_life()?;
        if !self.talk.paused.load(Ordering::Acquire) {
            self.halt()?;
            self.talk.paused.store(true, Ordering::Release);
        }
        Ok(())
    }

    fn resume(&self) -> Result<(), ExecError> {
        let _turn = lock(&self.turn);
        self.check_life()?;
        if self.talk.paused.load(Ordering::Acquire) {
            self.go_on()?;
            self.talk.paused.store(false, Ordering::Release);
        }
        Ok(())
    }

    fn snapshot(&self, name: Option<&str>) -> Result<Snapshot, SnapshotError> {
        if name.is_some_and(|name| name.is_empty() || name.chars().count() > MAX_NAME) {
            return Err(SnapshotError::Name);
        }
        let id = fresh("snapshot").map_err(|source| SnapshotError::Io {
            doing: "naming the snapshot",
            source,
        })?;
        let (stored, picture) = self.picture(&id, name)?;
        let snapshot = stored.snapshot.clone();
        self.inner.store.add(stored, picture);
        self.inner.keep(&id);
        Ok(snapshot)
    }

    fn resize_disk(&self, mib: u32) -> Result<(), ResizeError> {
        guest::resize_disk(&self.talk, self.spec.memory_mib, mib)?;
        self.disk_mib.store(mib, Ordering::Release);
        Ok(())
    }

    fn reboot(&self, _spec: &Spec) -> Result<Arc<dyn Sandbox>, CreateError> {
        Err(CreateError::Lacks(
            "disk beside its memory, so none with which it could begin anew",
        ))
    }

    fn stats(&self) -> Stats {
        let usage = self.monitor.group.usage();
        let rollup = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", self.monitor.pid))
            .unwrap_or_default();
        // What it has in common with other monitors is shared out among them.
        let private = rollup
            .lines()
            .find_map(|line| line.strip_prefix("Pss_Anon:"));
        let private = private.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        Stats {
            memory_bytes: usage.memory_bytes,
            private_bytes: private.unwrap_or_default() << 10,
            cpu_seconds: usage.cpu_nanoseconds as f64 / 1e9,
            processes: usage.processes,
            disk_bytes: guest::disk_used(&self.talk),
        }
    }

    fn destroy(&self) {
        if self.talk.ended.swap(true, Ordering::AcqRel) {
            return;
        }
        self.talk.link.close();
        if let Err(error) = self.monitor.end() {
            tracing::warn!(world = self.talk.id, "ending its monitor: {error}");
        }
        self.inner.forget(&self.talk.id);
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.destroy();
    }
}
