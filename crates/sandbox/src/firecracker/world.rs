//! One world of this backend: a machine, and the guest in it.

use std::fs::{self, File};
use std::io;
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::api::{
    Action, ApiError, BootSource, Drive, MachineConfig, MemoryBackend, NetworkInterface,
    SnapshotCreate, SnapshotKind, SnapshotLoad, Vsock,
};
use super::machine::{DISK, KERNEL, MEMORY, Machine, STATE, Size, VSOCK, link};
use super::network::TAP;
use super::store::Stored;
use super::{GUEST, Inner, serial, sparse};
use crate::error::{CreateError, ExecError, FileError, ResizeError, SnapshotError};
use crate::limits::MAX_NAME;
use crate::model::{Cancel, Cell, Command, Outcome, Snapshot, Spec, Stats, Stream};
use crate::process::fresh;
use crate::wire::{self, kind};
use crate::{Output, Running, Sandbox};

/// How long a guest may take to begin, and to hear that it goes on.
const BEGIN: Duration = Duration::from_secs(60);
/// How long a guest may take for a line where the caller sets no limit.
const PATIENCE: Duration = Duration::from_secs(60);
/// The guest's address for sockets to the host.
const CID: u32 = 3;
/// A snapshot's memory, before it is laid over what it differs from.
const DIFFERENCE: &str = "difference";

pub(super) struct World {
    inner: Arc<Inner>,
    id: String,
    spec: Spec,
    machine: Machine,
    origin: Option<String>,
    /// One snapshot at a time: what the next one differs from.
    base: Mutex<Base>,
    paused: AtomicBool,
    /// Whether its guest is being asked something. It waits for the next call by looking, all the time, so
    /// between calls its processors stand still and others have the host's. Changed under the API's lock.
    awake: AtomicBool,
    branches: AtomicU64,
}

/// What the next snapshot's difference is to.
enum Base {
    /// Power-on: memory was empty.
    Nothing,
    /// A snapshot.
    Of(Arc<Stored>),
    /// Nobody knows: a snapshot failed half way, or its files were changed. The next one holds all.
    Lost,
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    /// A machine that begins at power-on, with a disk of its own.
    pub(super) fn cold(
        inner: &Arc<Inner>,
        spec: &Spec,
        disk: Option<&File>,
    ) -> Result<Self, CreateError> {
        let world = Self::start(inner, spec, None, Base::Nothing)?;
        let io = |doing| move |source| CreateError::Io { doing, source };
        link(&inner.guest, &world.machine.root, KERNEL).map_err(io("giving it its kernel"))?;
        world.make_disk(disk).map_err(io("making its disk"))?;
        world.configure().map_err(|error| world.refused(error))?;
        let mut serial = world.machine.serial();
        let greeted = serial.greet(BEGIN);
        drop(serial);
        greeted.map_err(|error| world.silent(&error))?;
        world.wake()?;
        world.rest();
        Ok(world)
    }

    /// A machine that goes on from a snapshot.
    pub(super) fn warm(
        inner: &Arc<Inner>,
        spec: &Spec,
        from: &Arc<Stored>,
    ) -> Result<Self, CreateError> {
        from.check(&inner.processor, &inner.monitor)?;
        let io = |doing| move |source| CreateError::Io { doing, source };
        let mut spec = spec.clone();
        // A machine's sizes are in its state.
        let kept = &from.snapshot.spec;
        (spec.memory_mib, spec.vcpus, spec.disk_mib) = (kept.memory_mib, kept.vcpus, kept.disk_mib);
        let origin = Some(from.snapshot.id.clone());
        let world = Self::start(inner, &spec, origin, Base::Of(Arc::clone(from)))?;
        for part in [STATE, MEMORY] {
            link(&from.folder.join(part), &world.machine.root, part)
                .map_err(io("giving it its memory"))?;
        }
        let disk = File::open(from.folder.join(DISK)).map_err(io("opening the snapshot's disk"))?;
        world
            .make_disk(Some(&disk))
            .map_err(io("copying its disk"))?;
        let loaded = world.machine.api().load_snapshot(&SnapshotLoad {
            snapshot_path: STATE.into(),
            mem_backend: MemoryBackend::file(MEMORY),
            enable_diff_snapshots: true,
            resume_vm: true,
        });
        loaded.map_err(|error| world.refused(error))?;
        world.wake()?;
        world.rest();
        Ok(world)
    }

    fn start(
        inner: &Arc<Inner>,
        spec: &Spec,
        origin: Option<String>,
        base: Base,
    ) -> Result<Self, CreateError> {
        let id = fresh("machine").map_err(|source| CreateError::Io {
            doing: "naming it",
            source,
        })?;
        let size = Size {
            memory_mib: spec.memory_mib,
            vcpus: spec.vcpus,
        };
        Ok(Self {
            machine: Machine::start(&inner.host, &id, size)?,
            inner: Arc::clone(inner),
            id,
            spec: spec.clone(),
            origin,
            base: Mutex::new(base),
            paused: AtomicBool::new(false),
            awake: AtomicBool::new(true),
            branches: AtomicU64::new(0),
        })
    }

    fn make_disk(&self, of: Option<&File>) -> io::Result<()> {
        let path = self.machine.root.join(DISK);
        let file = File::create_new(&path)?;
        if let Some(of) = of {
            sparse::copy(of, &file)?;
        }
        file.set_len(u64::from(self.spec.disk_mib) << 20)?;
        self.inner.host.give(&path)
    }

    /// Puts the machine together, and turns it on.
    fn configure(&self) -> Result<(), ApiError> {
        let hardware = &self.inner.host.hardware;
        let mut api = self.machine.api();
        api.machine_config(&MachineConfig {
            vcpu_count: self.spec.vcpus,
            mem_size_mib: self.spec.memory_mib,
            cpu_template: hardware.cpu_template.clone(),
            track_dirty_pages: true,
        })?;
        api.boot_source(&BootSource {
            kernel_image_path: KERNEL.into(),
            boot_args: None,
            initrd_path: None,
        })?;
        api.drive(&Drive {
            drive_id: DISK.into(),
            path_on_host: DISK.into(),
            is_root_device: false,
            is_read_only: false,
            rate_limiter: hardware.disk_limits,
        })?;
        if let Some(network) = &hardware.network {
            api.network_interface(&NetworkInterface {
                iface_id: "eth0".into(),
                host_dev_name: TAP.into(),
                guest_mac: network.address.clone(),
                rx_rate_limiter: network.receive_limits,
                tx_rate_limiter: network.send_limits,
            })?;
        }
        if hardware.vsock {
            api.vsock(&Vsock {
                guest_cid: CID,
                uds_path: VSOCK.into(),
            })?;
        }
        if let Some(balloon) = &hardware.balloon {
            api.balloon(balloon)?;
        }
        api.action(Action::InstanceStart)
    }

    /// Tells the guest what time it is, and gives it randomness that no other has.
    fn wake(&self) -> Result<(), CreateError> {
        let seed = match self.spec.seed {
            Some(seed) => seed,
            None => {
                let mut bytes = [0; 8];
                getrandom::fill(&mut bytes).map_err(|error| CreateError::Io {
                    doing: "drawing its seed",
                    source: io::Error::other(error.to_string()),
                })?;
                u64::from_le_bytes(bytes)
            }
        };
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let payload = wire::wake(now.as_nanos() as u64, seed);
        let until = Some(Instant::now() + BEGIN);
        let answer = self.machine.serial().call(
            kind::WAKE,
            &payload,
            until,
            &Cancel::default(),
            &mut |_| {},
        );
        match answer {
            Ok((kind::DONE, _)) => Ok(()),
            Ok((_, why)) => Err(CreateError::Interpreter(
                String::from_utf8_lossy(&why).into_owned(),
            )),
            Err(error) => Err(self.silent(&error)),
        }
    }

    /// Lets the processors run for a call.
    fn rouse(&self) -> Result<(), ApiError> {
        let mut api = self.machine.api();
        api.resume()?;
        self.awake.store(true, Ordering::Release);
        Ok(())
    }

    /// Has them stand still until the next one. A machine that cannot be told so is over, which the next
    /// call says.
    fn rest(&self) {
        let mut api = self.machine.api();
        let _ = api.pause();
        self.awake.store(false, Ordering::Release);
    }

    fn stands(&self) -> bool {
        self.paused.load(Ordering::Acquire) || !self.awake.load(Ordering::Acquire)
    }

    fn refused(&self, error: ApiError) -> CreateError {
        if let ApiError::Lost { .. } = error {
            return CreateError::Monitor {
                program: self.inner.host.program.display().to_string(),
                why: format!("{error}: {}", self.machine.last_words()),
            };
        }
        CreateError::Machine(error)
    }

    fn silent(&self, error: &io::Error) -> CreateError {
        CreateError::Interpreter(format!("{error}; {}", self.machine.last_words()))
    }

    pub(super) fn next_branch(&self) -> u64 {
        self.branches.fetch_add(1, Ordering::Relaxed)
    }

    fn is_over(&self) -> bool {
        self.machine.is_over()
    }

    fn check(&self) -> Result<(), ExecError> {
        if self.is_over() {
            return Err(ExecError::Gone(self.id.clone()));
        }
        if self.paused.load(Ordering::Acquire) {
            return Err(ExecError::Paused(self.id.clone()));
        }
        Ok(())
    }

    /// Writes the parts of a snapshot while the machine stands still. Gives how long that was.
    fn picture(&self, folder: &Path, kind: SnapshotKind) -> Result<f64, SnapshotError> {
        let io = |doing| move |source| SnapshotError::Io { doing, source };
        let root = &self.machine.root;
        let names = ["next-state", "next-memory"];
        for name in names {
            let _ = fs::remove_file(root.join(name));
        }
        let mut api = self.machine.api();
        let stood = self.stands();
        let begun = Instant::now();
        if !stood {
            api.pause().map_err(SnapshotError::Machine)?;
        }
        let written = api
            .create_snapshot(&SnapshotCreate {
                snapshot_type: kind,
                snapshot_path: names[0].into(),
                mem_file_path: names[1].into(),
            })
            .map_err(SnapshotError::Machine)
            .and_then(|()| {
                let copy = || {
                    let disk = File::open(root.join(DISK))?;
                    sparse::copy(&disk, &File::create_new(folder.join(DISK))?)
                };
                copy().map_err(io("copying its disk"))
            });
        // Whatever came of it, the machine goes on.
        let resumed = if stood { Ok(()) } else { api.resume() };
        let pause = begun.elapsed().as_secs_f64() * 1e3;
        drop(api);
        let moved = written.and_then(|()| {
            fs::rename(root.join(names[0]), folder.join(STATE))
                .and_then(|()| fs::rename(root.join(names[1]), folder.join(DIFFERENCE)))
                .map_err(io("moving its memory"))
        });
        for name in names {
            let _ = fs::remove_file(root.join(name));
        }
        resumed.map_err(SnapshotError::Machine)?;
        moved.map(|()| pause)
    }

    /// Lays what was written over what it differs from. Gives how much was written.
    fn flatten(&self, folder: &Path, base: &Base) -> io::Result<u64> {
        let difference = folder.join(DIFFERENCE);
        let Base::Of(base) = base else {
            use std::os::unix::fs::MetadataExt;
            let bytes = fs::metadata(&difference)?.blocks() * 512;
            fs::rename(difference, folder.join(MEMORY))?;
            return Ok(bytes);
        };
        let memory = File::create_new(folder.join(MEMORY))?;
        sparse::copy(&base.memory, &memory)?;
        let bytes = sparse::lay_over(&File::open(&difference)?, &memory)?;
        fs::remove_file(difference)?;
        Ok(bytes)
    }

    fn keep(
        &self,
        id: &str,
        name: Option<&str>,
        base: &mut Base,
    ) -> Result<Arc<Stored>, SnapshotError> {
        let io = |doing| move |source| SnapshotError::Io { doing, source };
        let folder = self.inner.store.path(id);
        fs::create_dir_all(&folder).map_err(io("making its folder"))?;
        let was = match std::mem::replace(base, Base::Lost) {
            Base::Of(stored) if !stored.is_sound() => Base::Lost,
            was => was,
        };
        let kind = match was {
            Base::Lost => SnapshotKind::Full,
            Base::Nothing | Base::Of(_) => SnapshotKind::Diff,
        };
        let pause_ms = self.picture(&folder, kind)?;
        let memory_bytes = self
            .flatten(&folder, &was)
            .map_err(io("writing its memory"))?;
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let snapshot = Snapshot {
            id: id.to_owned(),
            name: name.map(str::to_owned),
            world: self.id.clone(),
            parent: self.origin.clone(),
            image: GUEST.into(),
            created: now.as_secs(),
            digest: String::new(),
            durable: false,
            memory_bytes,
            disk_bytes: 0,
            pause_ms,
            closed: Vec::new(),
            spec: self.spec.clone(),
        };
        let inner = &self.inner;
        let stored = inner.store.add(snapshot, &inner.processor, &inner.monitor);
        let stored = stored.map_err(io("writing its manifest"))?;
        *base = Base::Of(Arc::clone(&stored));
        Ok(stored)
    }
}

/// What a machine without an operating system does not have.
const NO_PYTHON: &str =
    "a Python interpreter: its guest has no operating system; commands are those of `help`";
const NO_FILES: &str = "files: its guest has no operating system";

impl Sandbox for World {
    fn id(&self) -> &str {
        &self.id
    }

    fn origin(&self) -> Option<&str> {
        self.origin.as_deref()
    }

    fn closed(&self) -> &[String] {
        &[]
    }

    fn run(&self, _: &Cell, _: Output) -> Result<Outcome, ExecError> {
        self.check()?;
        Err(ExecError::Lacks(NO_PYTHON))
    }

    fn exec(&self, command: &Command, output: Output) -> Result<i32, ExecError> {
        self.check()?;
        let line = command.argv.join(" ");
        if line.trim().is_empty() {
            return Err(ExecError::NoCommand);
        }
        if !command.environment.is_empty() || !command.input.is_empty() {
            return Err(ExecError::Lacks(
                "an environment or an input for commands: its guest has no operating system",
            ));
        }
        let until = Instant::now() + command.timeout.unwrap_or(PATIENCE);
        let mut serial = self.machine.serial();
        self.rouse().map_err(ExecError::Machine)?;
        let answer = serial.call(
            kind::SPAWN,
            line.as_bytes(),
            Some(until),
            &command.cancel,
            &mut |bytes| output(Stream::Out, bytes),
        );
        if answer.as_ref().is_err_and(serial::is_end) {
            // Its guest turned itself off: a monitor on its way out may answer nothing, and never end.
            self.machine.end();
        } else {
            self.rest();
        }
        let (kind, payload) = answer?;
        match (kind, payload.first_chunk::<4>()) {
            (kind::EXIT, Some(code)) => Ok(i32::from_le_bytes(*code)),
            _ => Err(io::Error::other(String::from_utf8_lossy(&payload).into_owned()).into()),
        }
    }

    fn begin(&self, _: &Command, _: Option<(u32, u32)>) -> Result<Box<dyn Running>, ExecError> {
        self.check()?;
        Err(ExecError::Lacks(
            "commands that are talked to: its guest has no operating system",
        ))
    }

    fn sftp(&self) -> Result<Box<dyn Running>, ExecError> {
        self.check()?;
        Err(ExecError::Lacks(NO_FILES))
    }

    fn read(&self, path: &str) -> Result<Vec<u8>, FileError> {
        Err(no_files(path))
    }

    fn write(&self, path: &str, _: u32, _: &[u8]) -> Result<(), FileError> {
        Err(no_files(path))
    }

    fn connect(&self, _: u16) -> Result<TcpStream, ExecError> {
        self.check()?;
        Err(ExecError::Lacks(
            "servers: its guest has no operating system",
        ))
    }

    fn pause(&self) -> Result<(), ExecError> {
        if self.is_over() {
            return Err(ExecError::Gone(self.id.clone()));
        }
        let mut api = self.machine.api();
        if !self.stands() {
            api.pause().map_err(ExecError::Machine)?;
        }
        self.paused.store(true, Ordering::Release);
        Ok(())
    }

    fn resume(&self) -> Result<(), ExecError> {
        if self.is_over() {
            return Err(ExecError::Gone(self.id.clone()));
        }
        let mut api = self.machine.api();
        self.paused.store(false, Ordering::Release);
        if !self.stands() {
            api.resume().map_err(ExecError::Machine)?;
        }
        Ok(())
    }

    fn snapshot(&self, name: Option<&str>) -> Result<Snapshot, SnapshotError> {
        if name.is_some_and(|name| name.is_empty() || name.chars().count() > MAX_NAME) {
            return Err(SnapshotError::Name);
        }
        if self.is_over() {
            return Err(SnapshotError::Gone(self.id.clone()));
        }
        let id = fresh("snapshot").map_err(|source| SnapshotError::Io {
            doing: "naming it",
            source,
        })?;
        let mut base = lock(&self.base);
        let kept = self.keep(&id, name, &mut base);
        if kept.is_err() {
            let _ = fs::remove_dir_all(self.inner.store.path(&id));
        }
        kept.map(|stored| stored.snapshot.clone())
    }

    fn resize_disk(&self, _: u32) -> Result<(), ResizeError> {
        Err(ResizeError::Lacks)
    }

    fn reboot(&self, spec: &Spec) -> Result<Arc<dyn Sandbox>, CreateError> {
        self.inner.check(spec)?;
        let disk = File::open(self.machine.root.join(DISK)).map_err(|source| CreateError::Io {
            doing: "opening its disk",
            source,
        })?;
        let next = World::cold(&self.inner, spec, Some(&disk))?;
        self.destroy();
        Ok(self.inner.admit(next))
    }

    fn stats(&self) -> Stats {
        let usage = self.machine.group().map(|group| group.usage());
        let usage = usage.unwrap_or_default();
        Stats {
            memory_bytes: usage.memory_bytes,
            private_bytes: private_bytes(self.machine.process()),
            cpu_seconds: usage.cpu_nanoseconds as f64 / 1e9,
            processes: usage.processes,
            disk_bytes: 0,
        }
    }

    fn destroy(&self) {
        self.machine.end();
        self.inner.forget(&self.id);
    }
}

fn no_files(path: &str) -> FileError {
    FileError::Io {
        path: path.into(),
        source: io::Error::new(
            io::ErrorKind::Unsupported,
            format!("this world has no {NO_FILES}"),
        ),
    }
}

/// Memory that a process shares with nobody.
fn private_bytes(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let kib = |line: &str| line.split_whitespace().nth(1)?.parse::<u64>().ok();
    text.lines()
        .filter(|line| line.starts_with("Private_"))
        .filter_map(kib)
        .sum::<u64>()
        << 10
}
