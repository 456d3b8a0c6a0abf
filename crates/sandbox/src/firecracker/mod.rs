//! Worlds as virtual machines under Firecracker: hardware between them and the host.
//!
//! A world is a real `firecracker`, jailed by its own `jailer` where this program may, in a folder of its
//! own (`machine`), spoken to through its API (`api`). A snapshot is taken while the machine stands still
//! for what it wrote since the last one; the rest is done when it runs again (`store`). A branch maps the
//! snapshot's memory and copies what it writes.
//!
//! The guest here has no operating system (`metal`): a few lines over a serial port, by which machines
//! are probed and tested where no Linux boots. What it cannot do is refused by name. Firecracker gives
//! each machine a new generation number (VMGenID) when it goes on from a snapshot; a guest needs Linux
//! 5.18 or newer to hear it, so the supervisor tells this one itself.

pub mod api;
mod doctor;
mod machine;
mod network;
mod serial;
mod sparse;
mod store;
mod sys;
mod world;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use sha2::{Digest, Sha256};

use api::{Balloon, RateLimiter};
use store::{SNAPSHOTS, Store, Stored};
use world::World;

use crate::error::{CreateError, StoreError};
use crate::folder::Folder;
use crate::limits::MEMORY_MIB;
use crate::model::{Report, Snapshot, Spec};
use crate::process::cgroup::Hierarchies;
use crate::{Backend, Sandbox};

/// The guest, as people choose it.
pub const GUEST: &str = "metal";
/// Its program.
static METAL: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/metal"));
/// Its name in the data folder.
const METAL_FILE: &str = "metal";

/// Processors that Firecracker gives a machine.
pub const VCPUS: RangeInclusive<u32> = 1..=32;
/// The user and group of jailed monitors: one of no one's.
pub const JAILED: u32 = 1_879_040_000;

/// Where things are, and what machines are made of.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Folder of machines and snapshots. One program at a time uses it.
    pub data: PathBuf,
    /// The program `firecracker`.
    pub program: PathBuf,
    /// How monitors are jailed, if they are.
    pub jail: Option<Jail>,
    /// What machines have beside memory, processors and a disk.
    pub hardware: Hardware,
}

impl Settings {
    /// Machines without a jail and without more hardware than they need.
    pub fn new(data: impl Into<PathBuf>, program: impl Into<PathBuf>) -> Self {
        Self {
            data: data.into(),
            program: program.into(),
            jail: None,
            hardware: Hardware::default(),
        }
    }
}

/// A jail: an empty root, a user of no one's, control groups, and a network namespace where there is a
/// network.
#[derive(Clone, Debug)]
pub struct Jail {
    /// The program `jailer`.
    pub program: PathBuf,
    /// The user that monitors become.
    pub user: u32,
    /// Their group.
    pub group: u32,
}

impl Jail {
    /// A jail with a user of no one's.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            user: JAILED,
            group: JAILED,
        }
    }
}

/// What machines have beside memory, processors and a disk.
#[derive(Clone, Debug, Default)]
pub struct Hardware {
    /// What they see of the host's processor, so that a snapshot can go on under another of its kind.
    pub cpu_template: Option<String>,
    /// What their disks may move.
    pub disk_limits: Option<RateLimiter>,
    /// A network card, in a network of the machine's own. It needs a jail.
    pub network: Option<Network>,
    /// A socket to the host.
    pub vsock: bool,
    /// A balloon.
    pub balloon: Option<Balloon>,
}

/// A network card.
#[derive(Clone, Debug, Default)]
pub struct Network {
    /// Its address.
    pub address: Option<String>,
    /// What it may receive.
    pub receive_limits: Option<RateLimiter>,
    /// What it may send.
    pub send_limits: Option<RateLimiter>,
}

/// What machines need of this host.
struct Host {
    data: PathBuf,
    program: PathBuf,
    jail: Option<Jail>,
    hardware: Hardware,
    hierarchies: Hierarchies,
    /// What the names of this folder's machines begin with.
    prefix: String,
}

/// What worlds need of their backend.
struct Inner {
    host: Host,
    store: Store,
    /// The guest's program.
    guest: PathBuf,
    /// The monitor's version.
    monitor: String,
    /// What this host's processor is.
    processor: String,
    worlds: Mutex<BTreeMap<String, Weak<World>>>,
    _folder: Folder,
}

/// What a start found of a former run.
#[derive(Clone, Debug, Default)]
pub struct Reaped {
    /// Machines that a killed program had left.
    pub machines: usize,
    /// Snapshots that cannot be read, in words.
    pub problems: Vec<String>,
}

/// Worlds as machines under Firecracker. Dropping it ends them all; snapshots stay.
pub struct Firecracker {
    inner: Arc<Inner>,
    reaped: Reaped,
}

impl Firecracker {
    /// Opens a folder, after removing what a killed program left there.
    pub fn open(settings: Settings) -> Result<Self, StoreError> {
        let io = |doing| move |source| StoreError::Io { doing, source };
        let folder = Folder::take(&settings.data, "firecracker")?;
        let monitor = version(&settings.program).map_err(io("asking firecracker its version"))?;
        let program = settings.program.canonicalize();
        let host = Host {
            prefix: folder.prefix.clone(),
            program: program.map_err(io("finding firecracker"))?,
            jail: settings.jail,
            hardware: settings.hardware,
            hierarchies: Hierarchies::find(),
            data: folder.path.clone(),
        };
        let machines = machine::reap(&host).map_err(io("removing former machines"))?;
        let (store, problems) =
            Store::open(host.data.join(SNAPSHOTS)).map_err(io("reading snapshots"))?;
        let guest = host.data.join(METAL_FILE);
        write_guest(&guest).map_err(io("writing the guest"))?;
        let inner = Inner {
            store,
            guest,
            monitor,
            processor: processor(),
            worlds: Mutex::default(),
            _folder: folder,
            host,
        };
        Ok(Self {
            inner: Arc::new(inner),
            reaped: Reaped { machines, problems },
        })
    }

    /// What this start removed of a former run.
    pub fn reaped(&self) -> &Reaped {
        &self.reaped
    }
}

/// The guest as a file that every machine's folder can name: readable for a jailed user, and new where
/// this program is.
fn write_guest(at: &Path) -> io::Result<()> {
    if fs::read(at).is_ok_and(|there| there == METAL) {
        return Ok(());
    }
    let part = at.with_extension("part");
    fs::write(&part, METAL)?;
    fs::rename(part, at)
}

/// What a program says of its version.
fn version(program: &Path) -> io::Result<String> {
    let told = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .output()?;
    let text = String::from_utf8_lossy(&told.stdout);
    let line = text.lines().find(|line| line.contains(" v"));
    let line = line.filter(|_| told.status.success());
    line.map(|line| line.trim().to_owned())
        .ok_or_else(|| io::Error::other(format!("{} says no version", program.display())))
}

/// What a snapshot's registers are of: the processor's maker, model and abilities.
fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let first = text.split("\n\n").next().unwrap_or_default();
    let of = |key: &str| {
        let mut lines = first.lines().filter_map(|line| line.split_once(':'));
        let found = lines.find(|(name, _)| name.trim() == key);
        found.map_or("", |(_, value)| value.trim())
    };
    let flags = Sha256::digest(of("flags"));
    format!(
        "{} {}/{}/{} {:.8}",
        of("vendor_id"),
        of("cpu family"),
        of("model"),
        of("stepping"),
        format!("{flags:x}")
    )
}

/// The one image that there is.
fn guest(named: Option<&str>) -> Result<&'static str, CreateError> {
    if named.is_some_and(|image| image != GUEST) {
        return Err(CreateError::Lacks(
            "images: its guest has no operating system, so leave the image out, or name `metal`",
        ));
    }
    Ok(GUEST)
}

impl Inner {
    fn all(&self) -> MutexGuard<'_, BTreeMap<String, Weak<World>>> {
        self.worlds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget(&self, id: &str) {
        self.all().remove(id);
    }

    fn living(&self) -> Vec<Arc<World>> {
        self.all().values().filter_map(Weak::upgrade).collect()
    }

    fn admit(&self, world: World) -> Arc<World> {
        let world = Arc::new(world);
        let id = Sandbox::id(&*world).to_owned();
        self.all().insert(id, Arc::downgrade(&world));
        world
    }

    fn check(&self, spec: &Spec) -> Result<(), CreateError> {
        spec.check_sizes(MEMORY_MIB, VCPUS)?;
        if spec.network.as_ref().is_some_and(|names| !names.is_empty()) {
            return Err(CreateError::Lacks(
                "a way out: its guest has no operating system, so leave the names to reach out",
            ));
        }
        guest(spec.image.as_deref())?;
        if self.host.hardware.network.is_some() && self.host.jail.is_none() {
            return Err(CreateError::Lacks(
                "a network card without a jail: name the jailer too",
            ));
        }
        Ok(())
    }

    fn find(&self, snapshot: &str) -> Result<Arc<Stored>, CreateError> {
        let found = self.store.get(snapshot);
        found.ok_or_else(|| CreateError::NoSnapshot(snapshot.into()))
    }
}

impl Backend for Firecracker {
    fn name(&self) -> &'static str {
        "firecracker"
    }

    fn report(&self) -> Report {
        doctor::report(self)
    }

    fn image(&self, name: Option<&str>) -> Result<String, CreateError> {
        guest(name).map(str::to_owned)
    }

    fn create(&self, spec: &Spec) -> Result<Arc<dyn Sandbox>, CreateError> {
        self.inner.check(spec)?;
        let world = World::cold(&self.inner, spec, None)?;
        Ok(self.inner.admit(world))
    }

    fn restore(&self, snapshot: &str, spec: &Spec) -> Result<Arc<dyn Sandbox>, CreateError> {
        let stored = self.inner.find(snapshot)?;
        let mut spec = spec.clone();
        if let (None, Some(seed)) = (spec.seed, stored.snapshot.spec.seed) {
            let source = self.inner.living();
            let source = source
                .iter()
                .find(|world| Sandbox::id(&***world) == stored.snapshot.world);
            let ordinal = source.map_or(0, |world| world.next_branch());
            spec.seed = Some(crate::child_seed(seed, ordinal));
        }
        let world = World::warm(&self.inner, &spec, &stored)?;
        Ok(self.inner.admit(world))
    }

    fn snapshots(&self) -> Vec<Snapshot> {
        self.inner.store.list()
    }

    fn persist(&self, id: &str) -> Result<Snapshot, StoreError> {
        self.inner.store.keep(id)
    }

    fn remove_snapshot(&self, id: &str) -> Result<(), StoreError> {
        self.inner.store.remove(id)
    }

    fn export(&self, id: &str, to: &mut dyn io::Write) -> Result<(), StoreError> {
        self.inner.store.export(id, to)
    }

    fn archive(&self) -> &'static str {
        store::ARCHIVE
    }

    fn import(&self, from: &mut dyn io::Read) -> Result<Snapshot, StoreError> {
        self.inner.store.import(from)
    }

    /// A snapshot is whole and goes when it is removed, so nothing is ever left to take back.
    fn collect(&self) -> Result<u64, StoreError> {
        Ok(0)
    }
}

impl Drop for Firecracker {
    fn drop(&mut self) {
        for world in self.inner.living() {
            world.destroy();
        }
    }
}

/// The programs that this host names: `$WORLDLINE_FIRECRACKER` or `firecracker` on the path, and
/// `$WORLDLINE_JAILER` or the `jailer` beside it.
pub fn programs() -> Option<(PathBuf, Option<PathBuf>)> {
    let named = |key: &str| {
        std::env::var_os(key)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let on_path = || {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path)
            .map(|folder| folder.join("firecracker"))
            .find(|program| program.is_file())
    };
    let program = named("WORLDLINE_FIRECRACKER").or_else(on_path)?;
    let beside = program.with_file_name("jailer");
    let jailer = named("WORLDLINE_JAILER").or_else(|| beside.is_file().then_some(beside));
    Some((program, jailer))
}
