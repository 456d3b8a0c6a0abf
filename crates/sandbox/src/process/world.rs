//! One world of this backend.

use std::fs::{self, File};
use std::io::{self, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::capture::{self, Failure};
use super::pager::{self, Draft, Memory, Pager};
use super::shell::{Shell, UPPER, file_sizes, put_limit};
use super::store::{DISK, PAGES, PLAN, Pages, Store, Stored};
use super::{Inner, disk, sys};
use crate::error::{CreateError, ExecError, FileError, ResizeError, SnapshotError};
use crate::fault::Fault;
use crate::host::{self, fresh};
use crate::limits::{DISK_MIB, ENDING, ENDING_POLL, MAX_DISK_LAYERS, MAX_NAME, START};
use crate::model::{Cell, Command, Outcome, Snapshot, Spec, Stats};
use crate::network::Names;
use crate::proxy::{self, Proxy};
use crate::talk::{Kept, Talk};
use crate::wire::{self, Put, kind};
use crate::{Output, Running, Sandbox};

pub(super) struct World {
    inner: Arc<Inner>,
    shell: Shell,
    talk: Talk,
    spec: Spec,
    /// What its disk holds, in MiB: what it was made with, or another size since.
    disk_mib: AtomicU32,
    image: String,
    origin: Option<String>,
    closed: Vec<String>,
    /// Snapshots whose files lie under this world's, the top one first.
    disk: Vec<String>,
    interpreter: Mutex<Interpreter>,
    /// Its way out, if it has one.
    proxy: Mutex<Option<Proxy>>,
    /// Copies of the interpreter whose memory is being written.
    copies: Arc<Copies>,
    /// Memory of snapshots that it maps since before that was written.
    early: pager::Held,
    branches: AtomicU64,
}

/// Copies that stand still in a world, by their numbers on this host.
#[derive(Default)]
struct Copies {
    all: Mutex<Vec<i32>>,
    gone: Condvar,
}

impl Copies {
    fn wait_until_gone(&self) {
        let mut all = lock(&self.all);
        while !all.is_empty() {
            all = self.gone.wait(all).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// What a snapshot needs of its world.
struct Job {
    store: Arc<Store>,
    interpreter: Interpreter,
    upper: PathBuf,
    beneath: Vec<String>,
    copies: Arc<Copies>,
    pager: Option<Arc<Pager>>,
}

impl Job {
    fn run(&self, id: &str, mut stored: Stored, taken: &Sender<Result<Snapshot, SnapshotError>>) {
        let folder = self.store.path(id);
        let begun = Instant::now();
        let layer_of = |device, inode| self.store.layer_of(device, inode);
        let merges = self.beneath.len() >= MAX_DISK_LAYERS;
        let copy_disk = || {
            let onto = folder.join(DISK);
            let mut bytes = 0;
            for layer in self.beneath.iter().rev().filter(|_| merges) {
                bytes += disk::lay_over(&self.store.path(layer).join(DISK), &onto)?;
            }
            bytes += disk::lay_over(&self.upper, &onto)?;
            Ok((bytes, disk::is_empty(&onto)?))
        };
        let captured = capture::capture(
            self.interpreter.pid,
            self.interpreter.loaded,
            &layer_of,
            copy_disk,
        );
        let (negative, (bytes, empty)) = match captured {
            Ok(captured) => captured,
            Err(failure) => return drop(taken.send(Err(failure.into()))),
        };
        stored.snapshot.pause_ms = begun.elapsed().as_secs_f64() * 1e3;
        stored.snapshot.disk_bytes = bytes;
        stored.snapshot.closed.clone_from(&negative.closed);
        stored.disk = if merges {
            Vec::new()
        } else {
            self.beneath.clone()
        };
        if !empty {
            stored.disk.insert(0, id.to_owned());
        }
        let faults = self.store.faults;
        faults.at(Fault::SnapshotCopied);
        let pid = negative.pid();
        lock(&self.copies.all).push(pid);
        let snapshot = stored.snapshot.clone();
        self.store.announce(stored);
        faults.at(Fault::SnapshotAnnounced);
        let _ = taken.send(Ok(snapshot));
        let frozen = match negative.lay_out() {
            Ok(layout) => {
                self.develop(id, Arc::new(Draft::new(layout.picture)));
                Some(layout.frozen)
            }
            Err(error) => {
                tracing::error!(snapshot = id, "its memory cannot be read: {error}");
                self.store.finish(id, None);
                None
            }
        };
        drop(frozen);
        lock(&self.copies.all).retain(|copy| *copy != pid);
        self.copies.gone.notify_all();
    }

    /// Writes the memory of a snapshot. Who branches it meanwhile does not wait for that.
    fn develop(&self, id: &str, draft: Arc<Draft>) {
        let folder = self.store.path(id);
        self.store.draft(id, &draft);
        // Nobody waits for the rest.
        host::be_modest();
        let picture = &draft.picture;
        let written = draft.write(&folder.join(PAGES)).and_then(|()| {
            self.store.faults.at(Fault::SnapshotPages);
            host::private_file(&folder.join(PLAN))?.write_all(&picture.plan)
        });
        if let Err(error) = &written {
            tracing::error!(snapshot = id, "its memory cannot be written: {error}");
        }
        self.store.faults.at(Fault::SnapshotWritten);
        let early = draft.close();
        let layers = written.ok().map(|()| {
            let own = named(&picture.layers, id);
            (own, picture.written)
        });
        self.store.finish(id, layers);
        if let (Some(memory), Some(pager)) = (early, self.pager.as_deref()) {
            if let Err(error) = memory.complete() {
                tracing::error!(
                    snapshot = id,
                    "early branches lack some of its memory: {error}"
                );
            }
            pager.look();
        }
    }
}

/// Layers by name; the empty one is the snapshot's own.
fn named(layers: &[String], own: &str) -> Vec<String> {
    let name = |layer: &String| if layer.is_empty() { own } else { layer }.to_owned();
    layers.iter().map(name).collect()
}

impl From<Failure> for SnapshotError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Threads(threads) => Self::Threads(threads),
            Failure::Refused(what) => Self::Refused(what),
            Failure::Io(doing, source) => Self::Io { doing, source },
        }
    }
}

#[derive(Clone, Copy)]
struct Interpreter {
    /// Its number on this host.
    pid: i32,
    /// Whether it came from an image.
    loaded: bool,
}

impl World {
    /// A world whose interpreter starts from its beginning.
    pub(super) fn cold(
        inner: &Arc<Inner>,
        shell: Shell,
        spec: &Spec,
        image: (String, PathBuf),
    ) -> Result<Self, CreateError> {
        let world = Self::new(inner, shell, spec, image.0, None, Vec::new());
        world.boot(&image.1)
    }

    /// Gives it its root, and starts its interpreter.
    fn boot(self, root: &Path) -> Result<Self, CreateError> {
        let io = |doing| move |source| CreateError::Io { doing, source };
        self.shell
            .furnish(&self.inner.host, &self.spec, &self.disk, root)
            .map_err(io("making its root"))?;
        self.open_network().map_err(io("opening its way out"))?;
        self.start_interpreter()
            .map_err(io("starting the interpreter"))?;
        self.first_answer(&self.spec)?;
        Ok(self)
    }

    /// Another world with a copy of its disk, while it stands still.
    fn rebooted(&self, spec: &Spec) -> Result<Self, CreateError> {
        let io = |doing| move |source| CreateError::Io { doing, source };
        let shell = self
            .inner
            .pool
            .take()
            .map_err(io("making namespaces and a control group"))?;
        let (image, origin) = (self.image.clone(), self.origin.clone());
        let next = Self::new(&self.inner, shell, spec, image, origin, self.disk.clone());
        disk::lay_over(
            &self.shell.folder.join(UPPER),
            &next.shell.folder.join(UPPER),
        )
        .map_err(io("copying its disk"))?;
        let root = self.inner.images.find(&self.image)?.root;
        next.boot(&root)
    }

    /// A world that goes on from a snapshot.
    pub(super) fn warm(
        inner: &Arc<Inner>,
        shell: Shell,
        spec: &Spec,
        root: PathBuf,
        from: &Stored,
    ) -> Result<Self, CreateError> {
        let io = |doing| move |source| CreateError::Io { doing, source };
        let origin = (!from.template).then(|| from.snapshot.id.clone());
        let mut world = Self::new(
            inner,
            shell,
            spec,
            from.snapshot.image.clone(),
            origin,
            from.disk.clone(),
        );
        world.closed.clone_from(&from.snapshot.closed);
        if !from.template {
            *lock(&world.talk.kept) = Kept {
                folder: from.folder.clone(),
                environment: from.environment.clone(),
            };
        }
        world
            .shell
            .furnish(&inner.host, spec, &from.disk, &root)
            .map_err(io("making its root"))?;
        inner.store.faults.at(Fault::RestoreFurnished);
        let answer = world.load(&from.snapshot.id)?;
        inner.store.faults.at(Fault::RestoreLoaded);
        world
            .meet(&answer, true)
            .map_err(io("finding the interpreter"))?;
        world.open_network().map_err(io("opening its way out"))?;
        world.first_answer(spec)?;
        Ok(world)
    }

    /// Gives it its way out, if it may reach anything; its programs find that in their environment.
    fn open_network(&self) -> io::Result<()> {
        let listed = self.spec.network.as_deref().unwrap_or_default();
        let names = Names::parse(listed).map_err(io::Error::other)?;
        self.talk.tell_network(!listed.is_empty());
        if listed.is_empty() {
            return Ok(());
        }
        let port = Put::default().u32(proxy::PORT.into());
        let (_, listener) = self.shell.link.ask(kind::LISTEN, &port.0, &[])?;
        let listener = listener.ok_or_else(|| io::Error::other("no socket came"))?;
        *lock(&self.proxy) = Some(Proxy::start(listener, names)?);
        Ok(())
    }

    /// Has the agent become the interpreter of a snapshot, whose memory may still be being written.
    fn load(&mut self, id: &str) -> Result<Vec<u8>, CreateError> {
        let io = |doing| move |source| CreateError::Io { doing, source };
        let (inner, pager) = (Arc::clone(&self.inner), self.inner.pager.as_deref());
        let pages = |id: &str| {
            let found = inner.store.pages(id, pager);
            let found = found.map_err(io("opening the snapshot's memory"))?;
            found.ok_or_else(|| CreateError::NoSnapshot(id.to_owned()))
        };
        let (plan, layers) = match pages(id)? {
            Pages::Early(draft, _) => {
                let layers = named(&draft.picture.layers, id);
                (draft.picture.plan.clone(), layers)
            }
            Pages::Written(stored) => {
                let plan = fs::read(inner.store.path(id).join(PLAN));
                (
                    plan.map_err(io("reading the snapshot"))?,
                    stored.memory.clone(),
                )
            }
        };
        let (mut files, mut early) = (Vec::new(), Vec::new());
        for layer in &layers {
            let (file, memory) = match pages(layer)? {
                Pages::Early(_, memory) => (memory.readable(), Some(memory)),
                Pages::Written(_) => (File::open(inner.store.path(layer).join(PAGES)), None),
            };
            files.push(file.map_err(io("opening the snapshot's memory"))?);
            early.push(memory);
        }
        self.become_it(&plan, &files, early)
            .map_err(io("loading the interpreter"))
    }

    fn become_it(
        &mut self,
        plan: &[u8],
        files: &[File],
        early: Vec<Option<Arc<Memory>>>,
    ) -> io::Result<Vec<u8>> {
        let mask = early
            .iter()
            .enumerate()
            .filter(|(_, memory)| memory.is_some())
            .fold(0u32, |mask, (at, _)| mask | 1 << at);
        let mut call = Put::default().u32(mask).0;
        call.extend(plan);
        let mut descriptors: Vec<_> = files.iter().map(AsFd::as_fd).collect();
        let link = &self.shell.link;
        let Some(pager) = self.inner.pager.as_deref().filter(|_| mask != 0) else {
            return Ok(link.ask(kind::LOAD, &call, &descriptors)?.0);
        };
        let (gate, theirs) = UnixStream::pair()?;
        descriptors.extend([pager.device(), theirs.as_fd()]);
        let answer = link.ask(kind::LOAD, &call, &descriptors)?.0;
        drop(theirs);
        gate.set_read_timeout(Some(START))?;
        let spans = pager::spans(plan, &early)?;
        self.early = Arc::new(early.into_iter().flatten().collect());
        // Without the descriptor the loader has failed, and says why itself.
        if let (_, Some(faults)) = host::receive(&gate, &mut [0])? {
            pager.add(faults, spans, &self.early)?;
            (&gate).write_all(&[1])?;
        }
        Ok(answer)
    }

    fn new(
        inner: &Arc<Inner>,
        shell: Shell,
        spec: &Spec,
        image: String,
        origin: Option<String>,
        disk: Vec<String>,
    ) -> Self {
        Self {
            inner: Arc::clone(inner),
            talk: Talk::new(shell.id.clone(), Arc::clone(&shell.link)),
            shell,
            spec: spec.clone(),
            disk_mib: AtomicU32::new(spec.disk_mib),
            image,
            origin,
            closed: Vec::new(),
            disk,
            interpreter: Mutex::new(Interpreter {
                pid: 0,
                loaded: false,
            }),
            proxy: Mutex::default(),
            copies: Arc::default(),
            early: Arc::default(),
            branches: AtomicU64::new(0),
        }
    }

    fn start_interpreter(&self) -> io::Result<()> {
        let answer = self.talk.start_interpreter()?;
        self.meet(&answer, false)
    }

    fn first_answer(&self, spec: &Spec) -> Result<(), CreateError> {
        let networked = lock(&self.proxy).is_some();
        self.talk.first_answer(spec, networked, START)
    }

    /// Finds the interpreter among this host's processes: the agent knows it by its number inside.
    fn meet(&self, answer: &[u8], loaded: bool) -> io::Result<()> {
        let inside = wire::Take(answer).u32().unwrap_or_default();
        for pid in children(self.shell.child.pid)? {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix("NSpid:"))
                .unwrap_or_default();
            if line
                .split_whitespace()
                .last()
                .and_then(|text| text.parse().ok())
                == Some(inside)
            {
                *lock(&self.interpreter) = Interpreter { pid, loaded };
                return Ok(());
            }
        }
        Err(io::Error::other("it ended at once"))
    }

    /// Why the interpreter ended, and a new one in its place.
    fn replace_interpreter(&self, code: i32) -> ExecError {
        const KILLED: i32 = 128 + libc::SIGKILL;
        let why = match code {
            KILLED if self.shell.group.killed_for_memory() > 0 => {
                format!(
                    "it needed more than its {} MiB of memory",
                    self.spec.memory_mib
                )
            }
            KILLED => "it was killed".to_owned(),
            129.. => format!("signal {}", code - 128),
            _ => format!("exit code {code}"),
        };
        match self
            .start_interpreter()
            .and_then(|()| self.first_answer(&self.spec).map_err(io::Error::other))
        {
            Ok(()) => ExecError::InterpreterEnded { why },
            Err(error) => ExecError::InterpreterEnded {
                why: format!("{why}; a new one does not start: {error}"),
            },
        }
    }

    /// Everything but the agent and the interpreter that runs here, by name.
    fn others(&self) -> Vec<String> {
        let interpreter = lock(&self.interpreter).pid;
        let Ok(processes) = descendants(self.shell.child.pid) else {
            return Vec::new();
        };
        let copies = lock(&self.copies.all).clone();
        let others = processes
            .into_iter()
            .filter(|pid| *pid != interpreter && !copies.contains(pid));
        others
            .filter_map(|pid| {
                Some(
                    fs::read_to_string(format!("/proc/{pid}/comm"))
                        .ok()?
                        .trim_end()
                        .to_owned(),
                )
            })
            .collect()
    }

    /// The same, without those that are just ending: a caller who has hung up does not wait for that.
    fn others_that_stay(&self) -> Vec<String> {
        let until = Instant::now() + ENDING;
        loop {
            let others = self.others();
            if others.is_empty() || Instant::now() >= until {
                return others;
            }
            thread::sleep(ENDING_POLL);
        }
    }

    /// Takes a snapshot under a new id. It is known at once; its memory is written behind everyone's back,
    /// and whoever needs it waits for that.
    pub(super) fn picture(
        &self,
        id: &str,
        name: Option<&str>,
        template: bool,
    ) -> Result<Snapshot, SnapshotError> {
        let io = |doing| move |source| SnapshotError::Io { doing, source };
        if self.talk.has_ended() {
            return Err(SnapshotError::Gone(self.shell.id.clone()));
        }
        // While its folder is copied, nobody writes into the world from outside.
        let _files = lock(&self.talk.files);
        let others = self.others_that_stay();
        if !others.is_empty() {
            return Err(SnapshotError::Processes(others));
        }
        let store = &self.inner.store;
        let folder = store.path(id);
        make_folder(&folder, &self.shell.folder.join(UPPER)).map_err(io("making a folder"))?;
        let kept = lock(&self.talk.kept).clone();
        let snapshot = Snapshot {
            id: id.to_owned(),
            name: name.map(str::to_owned),
            world: self.shell.id.clone(),
            parent: self.origin.clone(),
            image: self.image.clone(),
            created: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_secs()),
            digest: String::new(),
            durable: false,
            memory_bytes: 0,
            disk_bytes: 0,
            pause_ms: 0.0,
            closed: Vec::new(),
            spec: Spec {
                disk_mib: self.disk_mib.load(Ordering::Acquire),
                ..self.spec.clone()
            },
        };
        let mut stored = Stored::new(snapshot, Vec::new(), Vec::new());
        stored.folder = kept.folder;
        stored.environment = kept.environment;
        stored.template = template;
        let taken = self.take(stored);
        if taken.is_err() {
            let _ = fs::remove_dir_all(&folder);
        }
        taken
    }

    /// Takes the negative on a thread of its own, which goes on to develop it.
    fn take(&self, stored: Stored) -> Result<Snapshot, SnapshotError> {
        let id = stored.snapshot.id.clone();
        let job = Job {
            store: Arc::clone(&self.inner.store),
            interpreter: *lock(&self.interpreter),
            upper: self.shell.folder.join(UPPER),
            beneath: self.disk.clone(),
            copies: Arc::clone(&self.copies),
            pager: self.inner.pager.clone(),
        };
        let (taken, hear) = std::sync::mpsc::channel();
        let begun = thread::Builder::new().name("snapshot".into()).spawn({
            let id = id.clone();
            move || job.run(&id, stored, &taken)
        });
        begun.map_err(|source| SnapshotError::Io {
            doing: "starting a thread",
            source,
        })?;
        hear.recv().unwrap_or_else(|_| {
            Err(SnapshotError::Refused(
                "the picture could not be taken".into(),
            ))
        })
    }

    /// Bytes that the world has written to its disk.
    pub(super) fn written(&self) -> u64 {
        disk::size(&self.shell.folder.join(UPPER))
    }

    /// Copies what the world has written.
    pub(super) fn copy_files(&self, onto: &Path) -> io::Result<()> {
        disk::lay_over(&self.shell.folder.join(UPPER), onto).map(drop)
    }

    pub(super) fn disk_limit(&self) -> u64 {
        u64::from(self.disk_mib.load(Ordering::Acquire)) << 20
    }

    /// How many branches its snapshots have had, before this one.
    pub(super) fn next_branch(&self) -> u64 {
        self.branches.fetch_add(1, Ordering::Relaxed)
    }
}

impl Sandbox for World {
    fn id(&self) -> &str {
        &self.shell.id
    }

    fn origin(&self) -> Option<&str> {
        self.origin.as_deref()
    }

    fn closed(&self) -> &[String] {
        &self.closed
    }

    fn run(&self, cell: &Cell, output: Output) -> Result<Outcome, ExecError> {
        self.talk
            .run(cell, output, |code| self.replace_interpreter(code))
    }

    fn exec(&self, command: &Command, output: Output) -> Result<i32, ExecError> {
        self.talk.exec(command, output)
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
        self.talk.check()?;
        let (_, socket) =
            self.shell
                .link
                .ask(kind::CONNECT, &Put::default().u32(port.into()).0, &[])?;
        socket
            .map(TcpStream::from)
            .ok_or_else(|| io::Error::other("no connection came").into())
    }

    fn pause(&self) -> Result<(), ExecError> {
        if self.talk.has_ended() {
            return Err(ExecError::Gone(self.shell.id.clone()));
        }
        if !self.shell.group.freeze(true)? {
            return Err(
                io::Error::other("this host has no control group that could stop a world").into(),
            );
        }
        self.talk.paused.store(true, Ordering::Release);
        Ok(())
    }

    fn resume(&self) -> Result<(), ExecError> {
        if self.talk.has_ended() {
            return Err(ExecError::Gone(self.shell.id.clone()));
        }
        self.shell.group.freeze(false)?;
        self.talk.paused.store(false, Ordering::Release);
        Ok(())
    }

    fn snapshot(&self, name: Option<&str>) -> Result<Snapshot, SnapshotError> {
        let io = |doing| move |source| SnapshotError::Io { doing, source };
        if name.is_some_and(|name| name.is_empty() || name.chars().count() > MAX_NAME) {
            return Err(SnapshotError::Name);
        }
        let paused = self.talk.paused.load(Ordering::Acquire);
        if paused {
            // A frozen process does not answer its tracer.
            self.shell
                .group
                .freeze(false)
                .map_err(io("waking the world"))?;
        }
        let id = fresh("snapshot").map_err(io("naming the snapshot"))?;
        let snapshot = self.picture(&id, name, false);
        if paused {
            // A process of a frozen group cannot end.
            self.copies.wait_until_gone();
            self.shell
                .group
                .freeze(true)
                .map_err(io("pausing the world again"))?;
        }
        self.inner.keeper.keep(&id);
        snapshot
    }

    fn resize_disk(&self, mib: u32) -> Result<(), ResizeError> {
        if self.talk.has_ended() {
            return Err(ResizeError::Gone(self.shell.id.clone()));
        }
        if !DISK_MIB.contains(&mib) {
            return Err(ResizeError::Size { asked: mib });
        }
        let (written, bytes) = (self.written(), u64::from(mib) << 20);
        if written > bytes {
            return Err(ResizeError::Full {
                written: written >> 20,
                asked: mib,
            });
        }
        let limit = file_sizes(mib);
        let put = put_limit(Put::default(), libc::RLIMIT_FSIZE, limit);
        self.shell.link.ask(kind::LIMIT, &put.0, &[])?;
        sys::set_limit(lock(&self.interpreter).pid, libc::RLIMIT_FSIZE, limit)?;
        self.disk_mib.store(mib, Ordering::Release);
        Ok(())
    }

    fn reboot(&self, spec: &Spec) -> Result<Arc<dyn Sandbox>, CreateError> {
        super::check(spec)?;
        let mut spec = spec.clone();
        if spec.network.is_none() {
            spec.network.clone_from(&self.spec.network);
        }
        let io = |doing| move |source| CreateError::Io { doing, source };
        let _files = lock(&self.talk.files);
        self.shell
            .group
            .freeze(true)
            .map_err(io("stopping the world"))?;
        let next = self.rebooted(&spec);
        if !self.talk.paused.load(Ordering::Acquire) || next.is_ok() {
            self.shell
                .group
                .freeze(false)
                .map_err(io("waking the world"))?;
        }
        let next = self.inner.admit(next?);
        self.destroy();
        Ok(next)
    }

    fn stats(&self) -> Stats {
        let usage = self.shell.group.usage();
        let pid = lock(&self.interpreter).pid;
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
        // Pages of layers belong to the layers, even where nobody else has read them yet.
        let private = rollup
            .lines()
            .find_map(|line| line.strip_prefix("Anonymous:"));
        let private = private.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        Stats {
            memory_bytes: usage.memory_bytes,
            private_bytes: private.unwrap_or_default() << 10,
            cpu_seconds: usage.cpu_nanoseconds as f64 / 1e9,
            processes: usage.processes,
            disk_bytes: self.written(),
        }
    }

    fn destroy(&self) {
        if !self.talk.ended.swap(true, Ordering::AcqRel) {
            // What was kept of it is kept whole.
            self.copies.wait_until_gone();
            lock(&self.proxy).take();
            self.shell.end();
            self.inner.forget(&self.shell.id);
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.destroy();
    }
}

/// The folder of a snapshot, which nobody may list, and in it a disk that belongs to whom `like` does.
fn make_folder(folder: &Path, like: &Path) -> io::Result<()> {
    const PASS: u32 = 0o711;
    fs::create_dir_all(folder.join(DISK))?;
    fs::set_permissions(folder, fs::Permissions::from_mode(PASS))?;
    let meta = fs::metadata(like)?;
    fs::set_permissions(folder.join(DISK), meta.permissions())?;
    lchown(folder.join(DISK), Some(meta.uid()), Some(meta.gid()))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn children(pid: i32) -> io::Result<Vec<i32>> {
    let mut all = Vec::new();
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = fs::read_to_string(task?.path().join("children")).unwrap_or_default();
        all.extend(
            text.split_whitespace()
                .filter_map(|pid| pid.parse::<i32>().ok()),
        );
    }
    Ok(all)
}

fn descendants(pid: i32) -> io::Result<Vec<i32>> {
    let mut all = children(pid)?;
    let mut at = 0;
    while at < all.len() {
        all.extend(children(all[at]).unwrap_or_default());
        at += 1;
    }
    // One that has ended and waits to be noticed holds nothing.
    all.retain(|pid| {
        !fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "))
    });
    Ok(all)
}
