//! What a world is to its monitor, whatever guest it has: a machine, and what its next snapshot differs from.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::api::{
    ApiError, MemoryBackend, NetworkInterface, SnapshotCreate, SnapshotKind, SnapshotLoad, Vsock,
};
use super::machine::{DISK, MEMORY, Machine, Pipes, Ready, STATE, Size, VSOCK, link};
use super::network::TAP;
use super::store::{Linux, Store, Stored};
use super::{Inner, sparse};
use crate::error::{CreateError, SnapshotError};
use crate::host::fresh;
use crate::limits::MAX_NAME;
use crate::model::{Snapshot, Spec, Stats};

/// The guest's address for sockets to the host.
const CID: u32 = 3;
/// A snapshot's memory, before it is laid over what it differs from.
const DIFFERENCE: &str = "difference";

pub(super) struct Body {
    pub(super) inner: Arc<Inner>,
    pub(super) id: String,
    pub(super) spec: Spec,
    pub(super) machine: Machine,
    pub(super) origin: Option<String>,
    /// One snapshot at a time: what the next one differs from.
    base: Mutex<Base>,
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

/// What is told of a machine whose registers, memory and disk are written.
pub(super) struct Taken {
    pub(super) pause_ms: f64,
    pub(super) image: String,
    pub(super) closed: Vec<String>,
    pub(super) spec: Spec,
    pub(super) linux: Option<Linux>,
}

fn io_error(doing: &'static str) -> impl Fn(io::Error) -> SnapshotError {
    move |source| SnapshotError::Io { doing, source }
}

impl Body {
    /// A monitor without a machine, and the two ends of its machine's serial port.
    pub(super) fn begin(inner: &Arc<Inner>, spec: &Spec) -> Result<(Self, Pipes), CreateError> {
        Self::start(inner, spec, None, Base::Nothing)
    }

    /// A machine that goes on from a snapshot, after what else it needs was prepared. Its sizes are the
    /// snapshot's.
    pub(super) fn load(
        inner: &Arc<Inner>,
        spec: &Spec,
        from: &Arc<Stored>,
        origin: Option<String>,
        prepare: impl FnOnce(&Self) -> Result<(), CreateError>,
    ) -> Result<(Self, Pipes), CreateError> {
        from.check(&inner.processor, &inner.monitor)?;
        let io = |doing| move |source| CreateError::Io { doing, source };
        let kept = &from.snapshot.spec;
        let spec = Spec {
            memory_mib: kept.memory_mib,
            vcpus: kept.vcpus,
            disk_mib: kept.disk_mib,
            ..spec.clone()
        };
        let (body, pipes) = Self::start(inner, &spec, origin, Base::Of(Arc::clone(from)))?;
        for part in [STATE, MEMORY] {
            link(&from.folder.join(part), &body.machine.root, part)
                .map_err(io("giving it its memory"))?;
        }
        prepare(&body)?;
        let loaded = body.machine.api().load_snapshot(&SnapshotLoad {
            snapshot_path: STATE.into(),
            mem_backend: MemoryBackend::file(MEMORY),
            enable_diff_snapshots: true,
            resume_vm: true,
        });
        loaded.map_err(|error| body.refused(error))?;
        Ok((body, pipes))
    }

    fn start(
        inner: &Arc<Inner>,
        spec: &Spec,
        origin: Option<String>,
        base: Base,
    ) -> Result<(Self, Pipes), CreateError> {
        let Ready { id, machine, pipes } = inner.ready()?;
        let allowed = machine.allow(Size {
            memory_mib: spec.memory_mib,
            vcpus: spec.vcpus,
        });
        allowed.map_err(|source| CreateError::Io {
            doing: "setting its limits",
            source,
        })?;
        let body = Self {
            machine,
            inner: Arc::clone(inner),
            id,
            spec: spec.clone(),
            origin,
            base: Mutex::new(base),
            branches: AtomicU64::new(0),
        };
        Ok((body, pipes))
    }

    /// Gives a machine that has not begun what else this backend's machines have.
    pub(super) fn equip(&self, needs_socket: bool) -> Result<(), ApiError> {
        let hardware = &self.inner.host.hardware;
        let mut api = self.machine.api();
        if let Some(network) = &hardware.network {
            api.network_interface(&NetworkInterface {
                iface_id: "eth0".into(),
                host_dev_name: TAP.into(),
                guest_mac: network.address.clone(),
                rx_rate_limiter: network.receive_limits,
                tx_rate_limiter: network.send_limits,
            })?;
        }
        if hardware.vsock || needs_socket {
            api.vsock(&Vsock {
                guest_cid: CID,
                uds_path: VSOCK.into(),
            })?;
        }
        if let Some(balloon) = &hardware.balloon {
            api.balloon(balloon)?;
        }
        Ok(())
    }

    pub(super) fn refused(&self, error: ApiError) -> CreateError {
        if let ApiError::Lost { .. } = error {
            return CreateError::Monitor {
                program: self.inner.host.program.display().to_string(),
                why: format!("{error}: {}", self.machine.last_words()),
            };
        }
        CreateError::Machine(error)
    }

    pub(super) fn next_branch(&self) -> u64 {
        self.branches.fetch_add(1, Ordering::Relaxed)
    }

    /// Writes registers, devices, what memory was written, and the disk if there is one, while the machine
    /// stands still; then lets it go on, unless it stood before. Gives how long that was.
    pub(super) fn picture(
        &self,
        folder: &Path,
        kind: SnapshotKind,
        stands: impl FnOnce() -> bool,
    ) -> Result<f64, SnapshotError> {
        let root = &self.machine.root;
        let names = ["next-state", "next-memory"];
        for name in names {
            let _ = fs::remove_file(root.join(name));
        }
        let mut api = self.machine.api();
        let stood = stands();
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
            .and_then(|()| self.copy_disk(folder).map_err(io_error("copying its disk")));
        // Whatever came of it, the machine goes on.
        let resumed = if stood { Ok(()) } else { api.resume() };
        let pause = begun.elapsed().as_secs_f64() * 1e3;
        drop(api);
        let moved = written.and_then(|()| {
            fs::rename(root.join(names[0]), folder.join(STATE))
                .and_then(|()| fs::rename(root.join(names[1]), folder.join(DIFFERENCE)))
                .map_err(io_error("moving its memory"))
        });
        for name in names {
            let _ = fs::remove_file(root.join(name));
        }
        resumed.map_err(SnapshotError::Machine)?;
        moved.map(|()| pause)
    }

    fn copy_disk(&self, folder: &Path) -> io::Result<()> {
        match File::open(self.machine.root.join(DISK)) {
            Ok(disk) => sparse::copy(&disk, &File::create_new(folder.join(DISK))?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Lays what was written over what it differs from. Gives how much was written.
    fn flatten(folder: &Path, base: &Base) -> io::Result<u64> {
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

    /// Keeps this moment: `take` writes it into a folder, and the machine goes on before that is put together.
    pub(super) fn keep(
        &self,
        name: Option<&str>,
        take: impl FnOnce(&Path, SnapshotKind) -> Result<Taken, SnapshotError>,
    ) -> Result<Snapshot, SnapshotError> {
        if name.is_some_and(|name| name.is_empty() || name.chars().count() > MAX_NAME) {
            return Err(SnapshotError::Name);
        }
        if self.machine.is_over() {
            return Err(SnapshotError::Gone(self.id.clone()));
        }
        let id = fresh("snapshot").map_err(io_error("naming it"))?;
        let kept = self.keep_in(&self.inner.store, (&id, name), take);
        kept.map(|stored| stored.snapshot.clone())
    }

    /// The same in some store, under an id and a name.
    pub(super) fn keep_in(
        &self,
        store: &Store,
        (id, name): (&str, Option<&str>),
        take: impl FnOnce(&Path, SnapshotKind) -> Result<Taken, SnapshotError>,
    ) -> Result<Arc<Stored>, SnapshotError> {
        let mut base = self.base.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = self.write(store, (id, name), &mut base, take);
        if kept.is_err() {
            let _ = fs::remove_dir_all(store.path(id));
        }
        kept
    }

    fn write(
        &self,
        store: &Store,
        (id, name): (&str, Option<&str>),
        base: &mut Base,
        take: impl FnOnce(&Path, SnapshotKind) -> Result<Taken, SnapshotError>,
    ) -> Result<Arc<Stored>, SnapshotError> {
        let folder = store.path(id);
        fs::create_dir_all(&folder).map_err(io_error("making its folder"))?;
        let was = match std::mem::replace(base, Base::Lost) {
            Base::Of(stored) if !stored.is_sound() => Base::Lost,
            was => was,
        };
        let kind = match was {
            Base::Lost => SnapshotKind::Full,
            Base::Nothing | Base::Of(_) => SnapshotKind::Diff,
        };
        let taken = take(&folder, kind)?;
        let memory_bytes = Self::flatten(&folder, &was).map_err(io_error("writing its memory"))?;
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let snapshot = Snapshot {
            id: id.to_owned(),
            name: name.map(str::to_owned),
            world: self.id.clone(),
            parent: self.origin.clone(),
            image: taken.image,
            created: now.as_secs(),
            digest: String::new(),
            durable: false,
            memory_bytes,
            disk_bytes: 0,
            pause_ms: taken.pause_ms,
            closed: taken.closed,
            spec: taken.spec,
        };
        let inner = &self.inner;
        let stored = store.add(snapshot, taken.linux, &inner.processor, &inner.monitor);
        let stored = stored.map_err(io_error("writing its manifest"))?;
        *base = Base::Of(Arc::clone(&stored));
        Ok(stored)
    }

    /// What it uses, but for what its guest knows.
    pub(super) fn stats(&self) -> Stats {
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

    pub(super) fn destroy(&self) {
        self.machine.end();
        self.inner.forget(&self.id);
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
