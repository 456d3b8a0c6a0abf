//! Worlds as virtual machines under Firecracker: hardware between them and the host.
//!
//! A world is a real `firecracker`, jailed by its own `jailer` where this program may, in a folder of its
//! own (`machine`), spoken to through its API (`api`). A snapshot is taken while the machine stands still
//! for what it wrote since the last one; the rest is done when it runs again (`store`). A branch maps the
//! snapshot's memory and copies what it writes.
//!
//! There are two guests. One is Linux with the agent that all worlds have (`linux`), of the same kernel and
//! image as machines under QEMU. The other has no operating system (`metal`): a few lines over a serial
//! port, by which machines are probed and tested where no Linux boots; what it cannot do is refused by name.
//! Firecracker gives each machine a new generation number (VMGenID) when it goes on from a snapshot. Neither
//! guest hears it (Debian's kernel for clouds has no driver for it), so the supervisor tells both itself.

pub mod api;
mod body;
mod doctor;
mod linux;
mod machine;
mod metal;
mod network;
mod serial;
mod sparse;
mod store;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use sha2::{Digest, Sha256};

use api::{Balloon, RateLimiter};
use body::Body;
use machine::{FIRST_ROOT, IMAGE, KERNEL, Ready};
use store::{Linux, SNAPSHOTS, Store, Stored};

use crate::error::{CreateError, StoreError};
use crate::folder::Folder;
use crate::host::cgroup::Hierarchies;
use crate::host::owner;
use crate::image::machine::first_root;
use crate::image::{Image, Images};
use crate::limits::MEMORY_MIB;
use crate::link::AGENT;
use crate::model::{Reaped, Report, Snapshot, Spec};
use crate::network::Names;
use crate::pool::Pool;
use crate::{Backend, Sandbox, guest, talk};

/// The guest without an operating system, as people choose it. Every other image is Linux.
pub const GUEST: &str = "metal";
/// Its program.
static METAL: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/metal"));
/// Its name in the data folder.
const METAL_FILE: &str = "metal";

/// The folder of what machines with Linux are made of, and of such machines that have just begun.
const GUESTS: &str = "guests";
const TEMPLATES: &str = "templates";
/// Memory of a machine with Linux, in MiB: below it the interpreter has no room.
const LINUX_MIB: RangeInclusive<u32> = 192..=1 << 18;

/// Processors that Firecracker gives a machine.
pub const VCPUS: RangeInclusive<u32> = 1..=32;
/// The user and group of jailed monitors: one of no one's.
pub const JAILED: u32 = 1_879_040_000;

/// Where things are, and what machines are made of.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Folder of machines and snapshots. One program at a time uses it.
    pub data: PathBuf,
    /// The folder of images; without one, the guest without an operating system is all there is.
    pub images: Option<PathBuf>,
    /// The image of worlds that name none.
    pub default_image: String,
    /// The program `firecracker`.
    pub program: PathBuf,
    /// How monitors are jailed, if they are.
    pub jail: Option<Jail>,
    /// What machines have beside memory, processors and a disk.
    pub hardware: Hardware,
    /// How many monitors stand ready: started, jailed, and without a machine yet.
    pub pool: usize,
}

impl Settings {
    /// Machines without a jail, without more hardware than they need, and none that stands ready.
    pub fn new(data: impl Into<PathBuf>, program: impl Into<PathBuf>) -> Self {
        Self {
            data: data.into(),
            images: None,
            default_image: GUEST.into(),
            program: program.into(),
            jail: None,
            hardware: Hardware::default(),
            pool: 0,
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
    host: Arc<Host>,
    pool: Arc<Pool<Ready, CreateError>>,
    store: Store,
    /// Machines that have just begun: worlds with Linux go on from there. One is made at a time.
    templates: Store,
    making: Mutex<()>,
    /// The guest's program.
    guest: PathBuf,
    /// The monitor's version.
    monitor: String,
    /// What this host's processor is.
    processor: String,
    images: Option<Images>,
    default_image: String,
    guests: Mutex<BTreeMap<String, Arc<Parts>>>,
    worlds: Mutex<BTreeMap<String, Weak<dyn Life>>>,
    report: OnceLock<Report>,
    _folder: Folder,
}

/// What machines with Linux are made of, in a folder.
struct Parts {
    /// The image's digest.
    image: String,
    folder: PathBuf,
    /// Names all of it, and the programs that are put into it.
    digest: String,
}

/// A world of either guest.
trait Life: Sandbox {
    /// What it is to its monitor.
    fn body(&self) -> &Body;
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
        // Each is started in its machine's folder.
        let absolute = |jail: Jail| {
            let program = std::path::absolute(&jail.program)?;
            Ok(Jail { program, ..jail })
        };
        let jail = settings.jail.map(absolute).transpose();
        let host = Host {
            prefix: folder.prefix.clone(),
            program: program.map_err(io("finding firecracker"))?,
            jail: jail.map_err(io("finding the jailer"))?,
            hardware: settings.hardware,
            hierarchies: Hierarchies::find(),
            data: folder.path.clone(),
        };
        let worlds = machine::reap(&host).map_err(io("removing former machines"))?;
        let (store, unreadable) =
            Store::open(host.data.join(SNAPSHOTS)).map_err(io("reading snapshots"))?;
        let (templates, _) =
            Store::open(host.data.join(TEMPLATES)).map_err(io("reading machines"))?;
        let guest = host.data.join(METAL_FILE);
        write_guest(&guest).map_err(io("writing the guest"))?;
        // What is still wanted is made again, of the images as they are now.
        let _ = fs::remove_dir_all(host.data.join(GUESTS));
        let images = settings.images.map(|folder| Images::new(folder, owner()));
        let host = Arc::new(host);
        let maker = Arc::clone(&host);
        let pool = Pool::new(settings.pool, move || maker.ready());
        let inner = Inner {
            pool: pool.map_err(io("starting a thread"))?,
            store,
            templates,
            making: Mutex::default(),
            guest,
            monitor,
            processor: processor(),
            images,
            default_image: settings.default_image,
            guests: Mutex::default(),
            worlds: Mutex::default(),
            report: OnceLock::new(),
            _folder: folder,
            host,
        };
        Ok(Self {
            inner: Arc::new(inner),
            reaped: Reaped { worlds, unreadable },
        })
    }

    /// Whether a machine begins, is kept, and goes on in a branch: one without an operating system, which takes
    /// an instant.
    pub fn probe(&self) -> Result<(), String> {
        doctor::probe(self)
    }

    /// Whether a machine with Linux begins within some time; why it does not.
    pub fn probe_linux(&self, within: Duration) -> Result<(), String> {
        doctor::probe_linux(self, within)
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

/// Gives a file another place: the very file where that can be, else a copy.
fn place(from: &Path, to: &Path) -> io::Result<()> {
    let _ = fs::remove_file(to);
    if fs::hard_link(from, to).is_ok() {
        return Ok(());
    }
    io::copy(&mut File::open(from)?, &mut File::create_new(to)?).map(drop)
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

impl Inner {
    fn all(&self) -> MutexGuard<'_, BTreeMap<String, Weak<dyn Life>>> {
        self.worlds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget(&self, id: &str) {
        self.all().remove(id);
    }

    fn living(&self) -> Vec<Arc<dyn Life>> {
        self.all().values().filter_map(Weak::upgrade).collect()
    }

    /// A monitor for a new world.
    fn ready(&self) -> Result<Ready, CreateError> {
        let ready = self.pool.take()?;
        // One that stood ready may have been killed meanwhile, and be no dead process yet.
        let answer = ready.machine.api().config();
        answer.map_or_else(|_| self.host.ready(), |_| Ok(ready))
    }

    fn admit(&self, world: impl Life + 'static) -> Arc<dyn Sandbox> {
        let world = Arc::new(world);
        let life: Arc<dyn Life> = Arc::clone(&world) as _;
        self.all()
            .insert(world.id().to_owned(), Arc::downgrade(&life));
        world
    }

    /// The image of a guest with Linux, by its name; none for the guest without.
    fn image(&self, named: Option<&str>) -> Result<Option<Image>, CreateError> {
        let named = named.unwrap_or(&self.default_image);
        if named == GUEST {
            return Ok(None);
        }
        let images = self.images.as_ref().ok_or(CreateError::Lacks(
            "images: it was opened without a folder of them, so leave the image out, or name `metal`",
        ))?;
        Ok(Some(images.find(named)?))
    }

    /// What machines of an image are made of.
    fn parts(&self, image: &Image) -> Result<Arc<Parts>, CreateError> {
        let mut guests = self.guests.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(parts) = guests.get(&image.digest) {
            return Ok(Arc::clone(parts));
        }
        let machine = self.images.as_ref().and_then(|all| all.machine(image));
        let machine = machine.ok_or_else(|| CreateError::Monitor {
            program: self.host.program.display().to_string(),
            why: "there is no kernel and no disk to begin with: `worldline image build --vm` makes them".into(),
        })?;
        let hash = Sha256::new()
            .chain_update(&machine.digest)
            .chain_update(talk::KERNEL)
            .chain_update(AGENT);
        let digest = format!("{:.32x}", hash.finalize());
        let folder = self.host.data.join(GUESTS).join(&digest);
        let fill = || -> io::Result<()> {
            fs::create_dir_all(&folder)?;
            place(&machine.kernel, &folder.join(KERNEL))?;
            place(&machine.disk, &folder.join(IMAGE))?;
            let first = first_root(AGENT, &machine.mmio)?;
            fs::write(folder.join(FIRST_ROOT), first)
        };
        fill().map_err(|source| CreateError::Io {
            doing: "preparing what it begins with",
            source,
        })?;
        let parts = Arc::new(Parts {
            image: image.digest.clone(),
            folder,
            digest,
        });
        guests.insert(image.digest.clone(), Arc::clone(&parts));
        Ok(parts)
    }

    /// A machine of some sizes that has just begun. Worlds go on from it, in a fraction of the time that a start
    /// takes.
    fn template(
        self: &Arc<Self>,
        spec: &Spec,
        parts: &Arc<Parts>,
    ) -> Result<Arc<Stored>, CreateError> {
        let mut hash = Sha256::new();
        let sizes = [spec.memory_mib, spec.vcpus, spec.disk_mib].map(|size| size.to_string());
        let hardware = format!("{:?}", self.host.hardware);
        hash.update(store::VERSION.to_le_bytes());
        for part in [&parts.digest, &self.monitor, &self.processor, &hardware] {
            hash.update(part);
            hash.update([0]);
        }
        hash.update(sizes.join(" "));
        let id = format!("template-{:.16}", format!("{:x}", hash.finalize()));
        let _one = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = self.templates.get(&id) {
            if found.check(&self.processor, &self.monitor).is_ok() {
                return Ok(found);
            }
            let _ = self.templates.remove(&id);
        }
        let plain = Spec {
            seed: None,
            network: None,
            ..spec.clone()
        };
        let world = linux::World::cold(self, &plain, parts)?;
        let kept = world.keep_as_template(&self.templates, &id);
        kept.map_err(|error| CreateError::Interpreter(error.to_string()))
    }

    /// Begins or goes on with a machine with Linux.
    fn go_on(
        self: &Arc<Self>,
        spec: &Spec,
        from: &Arc<Stored>,
        origin: Option<String>,
    ) -> Result<Arc<dyn Sandbox>, CreateError> {
        let linux = from.linux.as_ref();
        let linux = linux.ok_or(CreateError::Lacks("Linux in its snapshot"))?;
        let parts = self.parts_of(from, linux)?;
        let world = linux::World::warm(self, spec, from, linux, (&parts, origin))?;
        Ok(self.admit(world))
    }

    /// What a snapshot's machine is made of, if that is what it was made of.
    fn parts_of(&self, stored: &Stored, linux: &Linux) -> Result<Arc<Parts>, CreateError> {
        let image = self.image(Some(&stored.snapshot.image))?;
        let image = image.ok_or(CreateError::Lacks("image"))?;
        let parts = self.parts(&image)?;
        if parts.digest == linux.machine {
            return Ok(parts);
        }
        Err(CreateError::OtherHost {
            id: stored.snapshot.id.clone(),
            what: "the machine",
            then: linux.machine.clone(),
            now: parts.digest.clone(),
        })
    }

    fn check(&self, spec: &Spec) -> Result<(), CreateError> {
        let linux = self.image(spec.image.as_deref())?.is_some();
        let memory = if linux { LINUX_MIB } else { MEMORY_MIB };
        spec.check_sizes(memory, VCPUS)?;
        check_names(spec, linux)?;
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

/// Whether a guest can reach the names that it is given.
fn check_names(spec: &Spec, linux: bool) -> Result<(), CreateError> {
    let names = spec.network.as_deref().unwrap_or_default();
    if linux || names.is_empty() {
        return Ok(Names::parse(names).map(drop)?);
    }
    Err(CreateError::Lacks(
        "a way out: its guest has no operating system, so leave the names to reach out, or name another image",
    ))
}

impl Backend for Firecracker {
    fn name(&self) -> &'static str {
        "firecracker"
    }

    fn reaped(&self) -> &Reaped {
        &self.reaped
    }

    fn report(&self) -> Report {
        self.inner
            .report
            .get_or_init(|| doctor::report(self))
            .clone()
    }

    fn offers(&self) -> Vec<String> {
        let linux = self.inner.images.as_ref().map(Images::of_machines);
        let all = linux.unwrap_or_default().into_iter();
        std::iter::once(GUEST.to_owned()).chain(all).collect()
    }

    fn image(&self, name: Option<&str>) -> Result<String, CreateError> {
        let image = self.inner.image(name)?;
        Ok(image.map_or_else(|| GUEST.to_owned(), |image| image.name))
    }

    fn create(&self, spec: &Spec) -> Result<Arc<dyn Sandbox>, CreateError> {
        self.inner.check(spec)?;
        match self.inner.image(spec.image.as_deref())? {
            Some(image) => {
                let parts = self.inner.parts(&image)?;
                let template = self.inner.template(spec, &parts)?;
                self.inner.go_on(spec, &template, None)
            }
            None => {
                let world = metal::World::cold(&self.inner, spec, None)?;
                Ok(self.inner.admit(world))
            }
        }
    }

    fn restore(&self, snapshot: &str, spec: &Spec) -> Result<Arc<dyn Sandbox>, CreateError> {
        let stored = self.inner.find(snapshot)?;
        check_names(spec, stored.linux.is_some())?;
        let mut spec = spec.clone();
        if let (None, Some(seed)) = (spec.seed, stored.snapshot.spec.seed) {
            let source = self.inner.living();
            let source = source
                .iter()
                .find(|world| world.id() == stored.snapshot.world);
            let ordinal = source.map_or(0, |world| world.body().next_branch());
            spec.seed = Some(crate::child_seed(seed, ordinal));
        }
        if stored.linux.is_some() {
            let spec = guest::inherit(&spec, &stored.snapshot.spec)?;
            return self.inner.go_on(&spec, &stored, Some(snapshot.to_owned()));
        }
        let world = metal::World::warm(&self.inner, &spec, &stored)?;
        Ok(self.inner.admit(world))
    }

    fn snapshots(&self) -> Vec<Snapshot> {
        self.inner.store.list()
    }

    fn snapshot(&self, id: &str) -> Option<Snapshot> {
        Some(self.inner.store.get(id)?.snapshot.clone())
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
        drop(self.inner.pool.close());
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
