//! A world whose guest is Linux, with the agent that all worlds have. They talk over a socket between the
//! machine and its monitor, which is a Unix socket on this side: the agent calls, and this side answers.
//!
//! Firecracker closes a machine's sockets when it is kept, in the machine itself and in all that goes on
//! from there. So the agent falls silent first; when its line is closed it calls again, wherever it is then.
//! Nothing is on its way meanwhile, so nothing is lost.

use std::fs::File;
use std::io;
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::ChildStdin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::api::{Action, ApiError, BootSource, Drive, MachineConfig, SnapshotKind};
use super::body::{Body, Taken};
use super::machine::{FIRST_ROOT, IMAGE, KERNEL, Machine, Pipes, VSOCK, link};
use super::store::{Linux, Store, Stored};
use super::{Inner, Life, Parts};
use crate::error::{CreateError, ExecError, FileError, ResizeError, SnapshotError};
use crate::guest::{self, Connections};
use crate::link::Link;
use crate::model::{Cell, Command, Outcome, Snapshot, Spec, Stats};
use crate::talk::{Kept, Talk};
use crate::wire::{self, kind};
use crate::{Output, Running, Sandbox};

/// How long a machine may take until its agent calls.
pub(super) const BOOT: Duration = Duration::from_secs(120);
/// How long a machine may take to go on, and its agent to fall asleep or wake.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long an agent may take to find out that its line was closed. After that it is closed from here.
const NOTICE: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(1);
/// What the kernel is told. A machine that ends abnormally ends its monitor too.
const ARGUMENTS: &str = "console=ttyS0 quiet panic=-1 reboot=t pci=off rdinit=/init \
                         i8042.noaux i8042.nomux i8042.nopnp i8042.dumbkbd";

pub(super) struct World {
    body: Body,
    talk: Talk,
    line: Line,
    /// What its console said last, and its other end.
    console: Arc<Mutex<Vec<u8>>>,
    _keyboard: ChildStdin,
    parts: Arc<Parts>,
    disk_mib: AtomicU32,
    closed: Vec<String>,
    connections: Connections,
    /// One change of its life after the other.
    turn: Mutex<()>,
    /// Whether it was kept while it was paused: its line is closed when it goes on.
    cut: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn io_error(doing: &'static str) -> impl Fn(io::Error) -> CreateError {
    move |source| CreateError::Io { doing, source }
}

/// Where agents call.
struct Line(UnixListener);

impl Line {
    /// Listens in a machine's folder, for its monitor. The path may be longer than a socket's address: it is
    /// reached through its folder.
    fn new(body: &Body) -> io::Result<Self> {
        let name = format!("{VSOCK}_{}", wire::PORT);
        let folder = File::open(&body.machine.root)?;
        let listener = UnixListener::bind(format!("/proc/self/fd/{}/{name}", folder.as_raw_fd()))?;
        listener.set_nonblocking(true)?;
        body.inner.host.give(&body.machine.root.join(name))?;
        Ok(Self(listener))
    }

    /// Waits for a call.
    fn answer(&self, machine: &Machine, within: Duration) -> io::Result<UnixStream> {
        let until = Instant::now() + within;
        loop {
            match self.0.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(false)?;
                    return Ok(stream);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            if machine.is_over() {
                let ended = "the machine ended before its agent called";
                return Err(io::Error::new(io::ErrorKind::BrokenPipe, ended));
            }
            if Instant::now() > until {
                let silent = format!("no agent called within {} s", within.as_secs());
                return Err(io::Error::new(io::ErrorKind::TimedOut, silent));
            }
            thread::sleep(POLL);
        }
    }
}

impl World {
    /// A machine that begins with its kernel, and whose interpreter starts from its beginning.
    pub(super) fn cold(
        inner: &Arc<Inner>,
        spec: &Spec,
        parts: &Arc<Parts>,
    ) -> Result<Self, CreateError> {
        let world = Self::boot(inner, spec, parts, BOOT)?;
        let begun = world.talk.start_interpreter();
        begun.map_err(|error| world.why(&error))?;
        world.talk.first_answer(spec, false, guest::START)?;
        Ok(world)
    }

    /// A machine whose agent has called within some time.
    pub(super) fn boot(
        inner: &Arc<Inner>,
        spec: &Spec,
        parts: &Arc<Parts>,
        within: Duration,
    ) -> Result<Self, CreateError> {
        let (body, pipes) = Body::begin(inner, spec)?;
        give(parts, &body).map_err(io_error("giving it its kernel"))?;
        let line = Line::new(&body).map_err(io_error("making its line"))?;
        configure(&body).map_err(|error| body.refused(error))?;
        let world = Self::of(body, pipes, line, parts, within)?;
        let identity = guest::identity(&world.body.id, spec, false);
        let link = &world.talk.link;
        let begun = link.call(kind::MACHINE, &identity, &[]);
        begun
            .and_then(|call| call.done(PATIENCE))
            .map_err(|error| world.why(&error))?;
        Ok(world)
    }

    /// Keeps it as what others begin from.
    pub(super) fn keep_as_template(
        &self,
        store: &Store,
        id: &str,
    ) -> Result<Arc<Stored>, SnapshotError> {
        let take = |folder: &Path, kind| self.take(folder, kind);
        self.body.keep_in(store, (id, None), take)
    }

    /// A machine that goes on from a snapshot.
    pub(super) fn warm(
        inner: &Arc<Inner>,
        spec: &Spec,
        from: &Arc<Stored>,
        linux: &Linux,
        (parts, origin): (&Arc<Parts>, Option<String>),
    ) -> Result<Self, CreateError> {
        let mut line = None;
        let (body, pipes) = Body::load(inner, spec, from, origin, |body| {
            give(parts, body).map_err(io_error("giving it its image"))?;
            line = Some(Line::new(body).map_err(io_error("making its line"))?);
            Ok(())
        })?;
        let line = line.ok_or(CreateError::Lacks("line to its agent"))?;
        let mut world = Self::of(body, pipes, line, parts, PATIENCE)?;
        world.closed.clone_from(&from.snapshot.closed);
        *lock(&world.talk.kept) = Kept {
            folder: linux.folder.clone(),
            environment: linux.environment.clone(),
        };
        world.talk.link.is_asleep(linux.calls);
        let identity = guest::identity(&world.body.id, &world.body.spec, true);
        let woken = world.talk.link.wake(&identity, PATIENCE);
        let let_out = woken.and_then(|()| world.connections.let_out(&world.talk, spec));
        // Its answer comes before that of whatever is asked first.
        let reseeded = let_out.and_then(|networked| world.talk.reseed(spec, networked));
        reseeded.map_err(|error| world.why(&error))?;
        Ok(world)
    }

    fn of(
        body: Body,
        (keyboard, screen): Pipes,
        line: Line,
        parts: &Arc<Parts>,
        within: Duration,
    ) -> Result<Self, CreateError> {
        let console = guest::remember(screen);
        let called = line.answer(&body.machine, within);
        let link = called.and_then(Link::new);
        let link = link.map_err(|error| CreateError::Monitor {
            program: body.inner.host.program.display().to_string(),
            why: obituary(&error, &console, &body.machine),
        })?;
        Ok(Self {
            talk: Talk::new(body.id.clone(), link),
            disk_mib: AtomicU32::new(body.spec.disk_mib),
            body,
            line,
            console,
            _keyboard: keyboard,
            parts: Arc::clone(parts),
            closed: Vec::new(),
            connections: Connections::default(),
            turn: Mutex::default(),
            cut: AtomicBool::new(false),
        })
    }

    /// An error of a machine that did not begin, with its last words.
    fn why(&self, error: &io::Error) -> CreateError {
        CreateError::Monitor {
            program: self.body.inner.host.program.display().to_string(),
            why: obituary(error, &self.console, &self.body.machine),
        }
    }

    fn wake(&self) -> io::Result<()> {
        let identity = guest::identity(&self.body.id, &self.body.spec, false);
        self.talk.link.wake(&identity, PATIENCE)
    }

    /// Answers an agent whose line was closed.
    fn regain(&self) -> io::Result<()> {
        let machine = &self.body.machine;
        let noticed = self.line.answer(machine, NOTICE);
        self.talk.link.hang_up();
        let socket = match noticed {
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                self.line.answer(machine, PATIENCE)
            }
            other => other,
        };
        self.talk.link.go_on(socket?)
    }

    /// Writes a picture while the machine stands still with nothing on its way.
    fn take(&self, folder: &Path, kind: SnapshotKind) -> Result<Taken, SnapshotError> {
        let io = |doing| move |source| SnapshotError::Io { doing, source };
        let _turn = lock(&self.turn);
        // While a file is written from outside, in several parts, it is no picture of anything.
        let _files = lock(&self.talk.files);
        let paused = self.talk.paused.load(Ordering::Acquire);
        let begun = Instant::now();
        if !paused {
            let hushed = self.talk.link.hush(PATIENCE);
            hushed.map_err(io("stopping the machine"))?;
        }
        let pictured = self.body.picture(folder, kind, || paused);
        if paused {
            self.cut.store(true, Ordering::Release);
        } else {
            let woken = self.regain().and_then(|()| self.wake());
            woken.map_err(io("waking the machine"))?;
        }
        pictured?;
        let kept = lock(&self.talk.kept).clone();
        Ok(Taken {
            pause_ms: begun.elapsed().as_secs_f64() * 1e3,
            image: self.parts.image.clone(),
            closed: self.connections.names(),
            spec: Spec {
                disk_mib: self.disk_mib.load(Ordering::Acquire),
                ..self.body.spec.clone()
            },
            linux: Some(Linux {
                machine: self.parts.digest.clone(),
                calls: self.talk.link.calls_so_far(),
                folder: kept.folder,
                environment: kept.environment,
            }),
        })
    }

    fn check_life(&self) -> Result<(), ExecError> {
        match self.talk.has_ended() || self.body.machine.is_over() {
            true => Err(ExecError::Gone(self.body.id.clone())),
            false => Ok(()),
        }
    }

    /// Says why a machine that ended by itself did.
    fn mourn<T>(&self, answer: Result<T, ExecError>) -> Result<T, ExecError> {
        match answer {
            Err(ExecError::Gone(id)) if !self.talk.has_ended() => {
                let why = format!("world {id} has ended");
                let error = io::Error::new(io::ErrorKind::BrokenPipe, why);
                let why = obituary(&error, &self.console, &self.body.machine);
                Err(io::Error::new(error.kind(), why).into())
            }
            other => other,
        }
    }
}

/// An error, and the last that a machine and its monitor said.
fn obituary(error: &io::Error, console: &Mutex<Vec<u8>>, machine: &Machine) -> String {
    let said = String::from_utf8_lossy(&lock(console)).into_owned();
    let said = format!("{} {}", said.trim(), machine.last_words());
    match said.trim().replace(['\r', '\n'], " ") {
        words if words.is_empty() => error.to_string(),
        words => format!("{error}; the last that it said: {words}"),
    }
}

/// Puts what a machine is made of into its folder.
fn give(parts: &Parts, body: &Body) -> io::Result<()> {
    for part in [KERNEL, FIRST_ROOT, IMAGE] {
        link(&parts.folder.join(part), &body.machine.root, part)?;
    }
    Ok(())
}

/// Puts the machine together, and turns it on.
fn configure(body: &Body) -> Result<(), ApiError> {
    let hardware = &body.inner.host.hardware;
    let mut api = body.machine.api();
    api.machine_config(&MachineConfig {
        vcpu_count: body.spec.vcpus,
        mem_size_mib: body.spec.memory_mib,
        cpu_template: hardware.cpu_template.clone(),
        track_dirty_pages: true,
    })?;
    api.boot_source(&BootSource {
        kernel_image_path: KERNEL.into(),
        boot_args: Some(ARGUMENTS.into()),
        initrd_path: Some(FIRST_ROOT.into()),
    })?;
    api.drive(&Drive {
        drive_id: IMAGE.into(),
        path_on_host: IMAGE.into(),
        is_root_device: false,
        is_read_only: true,
        rate_limiter: hardware.disk_limits,
    })?;
    drop(api);
    body.equip(true)?;
    body.machine.api().action(Action::InstanceStart)
}

impl Life for World {
    fn body(&self) -> &Body {
        &self.body
    }
}

impl Sandbox for World {
    fn id(&self) -> &str {
        &self.body.id
    }

    fn origin(&self) -> Option<&str> {
        self.body.origin.as_deref()
    }

    fn closed(&self) -> &[String] {
        &self.closed
    }

    fn run(&self, cell: &Cell, output: Output) -> Result<Outcome, ExecError> {
        let replace = |code| guest::replace_interpreter(&self.talk, &self.body.spec, code);
        self.mourn(self.talk.run(cell, output, replace))
    }

    fn exec(&self, command: &Command, output: Output) -> Result<i32, ExecError> {
        self.mourn(self.talk.exec(command, output))
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
            self.talk.link.hush(PATIENCE)?;
            let stopped = self.body.machine.api().pause();
            if let Err(error) = stopped {
                self.wake()?;
                return Err(ExecError::Machine(error));
            }
            self.talk.paused.store(true, Ordering::Release);
        }
        Ok(())
    }

    fn resume(&self) -> Result<(), ExecError> {
        let _turn = lock(&self.turn);
        self.check_life()?;
        if self.talk.paused.load(Ordering::Acquire) {
            let resumed = self.body.machine.api().resume();
            resumed.map_err(ExecError::Machine)?;
            if self.cut.swap(false, Ordering::AcqRel) {
                self.regain()?;
            }
            self.wake()?;
            self.talk.paused.store(false, Ordering::Release);
        }
        Ok(())
    }

    fn snapshot(&self, name: Option<&str>) -> Result<Snapshot, SnapshotError> {
        self.body.keep(name, |folder, kind| self.take(folder, kind))
    }

    fn resize_disk(&self, mib: u32) -> Result<(), ResizeError> {
        guest::resize_disk(&self.talk, self.body.spec.memory_mib, mib)?;
        self.disk_mib.store(mib, Ordering::Release);
        Ok(())
    }

    fn reboot(&self, _: &Spec) -> Result<Arc<dyn Sandbox>, CreateError> {
        Err(CreateError::Lacks(
            "disk beside its memory, so none with which it could begin anew",
        ))
    }

    fn stats(&self) -> Stats {
        Stats {
            disk_bytes: guest::disk_used(&self.talk),
            ..self.body.stats()
        }
    }

    fn destroy(&self) {
        if !self.talk.ended.swap(true, Ordering::AcqRel) {
            self.talk.link.close();
            self.body.destroy();
        }
    }
}
