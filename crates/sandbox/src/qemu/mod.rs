//! Worlds as virtual machines of QEMU: a whole Linux each, on hosts that have no usable KVM too. How each
//! part works stands at the top of its file: `monitor` (a QEMU process), `zygote` (what those are copies of),
//! `memory` (what machines share), `store` (what is kept), `world` (a machine that runs).
//!
//! A machine's kernel and the root of its image are the same for all. What it writes stays in its memory,
//! so its memory, its devices and its processors are all there is of it. Nobody writes into a picture: each
//! machine maps one privately, and what is told apart is what it wrote.

mod memory;
mod monitor;
mod pool;
mod probe;
mod store;
mod world;
mod zygote;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use crate::error::{CreateError, StoreError};
use crate::folder::{Folder, make_passable};
use crate::host::{self, cgroup::Hierarchies};
use crate::image::{DEFAULT, Image, Images, machine};
use crate::link::AGENT;
use crate::model::{Capability, Reaped, Report, Snapshot, Spec};
use crate::network::Names;
use crate::{Backend, Sandbox, Settings, guest, talk};

use memory::Memory;
use monitor::{Accelerator, Begin, Monitor, PROGRAM, Parts};
use pool::{Mould, Pool, Ready};
use store::{Store, Stored};
use world::World;
use zygote::Starter;

/// Memory of a machine, in MiB: below it Linux and the interpreter have no room.
const MEMORY_MIB: std::ops::RangeInclusive<u32> = 192..=1 << 18;
/// Processors of a machine.
const PROCESSORS: std::ops::RangeInclusive<u32> = 1..=32;
/// How long what machines begin from is kept unused.
const UNUSED: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long Linux may take to begin when somebody only asks whether it does.
const PROBE: Duration = Duration::from_secs(120);
/// Folder of machines that have just begun, in the folder of images.
const TEMPLATES: &str = "machines";

/// Worlds as machines. Dropping it ends them all; snapshots stay.
pub struct Qemu {
    inner: Arc<Inner>,
    keeper: Option<JoinHandle<()>>,
    reaped: Reaped,
}

/// What machines need of their backend.
pub(crate) struct Inner {
    hierarchies: Hierarchies,
    prefix: String,
    /// The processor of machines that are translated wherever they run.
    translated: Option<&'static str>,
    starter: Starter,
    /// The monitor's version; none where there is no monitor.
    version: Option<String>,
    images: Images,
    folder: PathBuf,
    store: Arc<Store>,
    pool: Pool,
    keep: Mutex<Option<Sender<String>>>,
    machines: Mutex<BTreeMap<String, Arc<Made>>>,
    worlds: Mutex<BTreeMap<String, Weak<World>>>,
    templates: Mutex<BTreeMap<String, Arc<(Stored, store::Picture)>>>,
    _folder: Folder,
}

/// The files of an image's machines, open.
struct Made {
    kernel: File,
    first_root: File,
    disk: File,
    digest: String,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Qemu {
    /// The processor of machines that are translated, as QEMU calls it.
    pub const PROCESSOR: &str = monitor::PROCESSOR;

    /// Opens a folder, after removing what a killed program left there. Machines run under KVM where that
    /// runs one.
    pub fn open(settings: &Settings) -> Result<Self, StoreError> {
        Self::with(settings, None)
    }

    /// The same for machines that are translated, with this processor, under any host: `max` runs machines itself.
    pub fn open_as(settings: &Settings, processor: &'static str) -> Result<Self, StoreError> {
        Self::with(settings, Some(processor))
    }

    fn with(settings: &Settings, translated: Option<&'static str>) -> Result<Self, StoreError> {
        let io = |doing| move |source| StoreError::Io { doing, source };
        let folder = Folder::take(&settings.data, "qemu")?;
        let (data, prefix) = (folder.path.clone(), folder.prefix.clone());
        make_passable(&settings.images).map_err(io("making the folder of images"))?;
        let images = settings
            .images
            .canonicalize()
            .map_err(io("opening the folder of images"))?;
        let hierarchies = Hierarchies::find();
        let worlds = hierarchies.reap(|name| name.starts_with(&prefix));
        let (store, unreadable) =
            Store::open(data.join("snapshots")).map_err(io("reading snapshots"))?;
        let store = Arc::new(store);
        let (keep, wanted) = channel::<String>();
        let keeper = {
            let store = Arc::clone(&store);
            let work = move || {
                host::be_modest();
                for id in wanted {
                    if let Err(error) = store.keep(&id) {
                        tracing::error!(
                            snapshot = id,
                            "it is not written, and lasts as long as this program: {error}"
                        );
                    }
                }
            };
            thread::Builder::new()
                .name("keeper".into())
                .spawn(work)
                .map_err(io("starting a thread"))?
        };
        let (pool, orders) = Pool::new(settings.pool);
        let inner = Inner {
            hierarchies,
            prefix,
            translated,
            starter: Starter::default(),
            version: version(),
            images: Images::new(images.clone(), host::owner()),
            folder: images,
            store,
            pool,
            keep: Mutex::new(Some(keep)),
            machines: Mutex::default(),
            worlds: Mutex::default(),
            templates: Mutex::default(),
            _folder: folder,
        };
        let inner = Arc::new(inner);
        pool::fill(Arc::downgrade(&inner), orders).map_err(io("starting a thread"))?;
        Ok(Self {
            inner,
            keeper: Some(keeper),
            reaped: Reaped { worlds, unreadable },
        })
    }

    /// A machine that boots, as the first of its sizes does; [`Backend::create`] goes on from where such a one
    /// stood.
    pub fn boot(&self, spec: &Spec) -> Result<Arc<dyn Sandbox>, CreateError> {
        check(spec)?;
        let image = self
            .inner
            .images
            .find(spec.image.as_deref().unwrap_or(DEFAULT))?;
        let world = World::boot(&self.inner, spec, &image.digest)?;
        Ok(self.inner.admit(world))
    }

    /// Boots to see what runs here: a machine that only counts, by translation and under KVM, and then Linux.
    /// It takes some seconds.
    pub fn probe(&self) -> Vec<Capability> {
        let say = |name, took: Result<Duration, String>, what: &str| Capability {
            name,
            present: took.is_ok(),
            note: took.map_or_else(
                |why| format!("{what} does not run: {why}"),
                |took| format!("{what} ran within {:.1} s", took.as_secs_f64()),
            ),
        };
        let bare = "a machine without an operating system";
        vec![
            say("engine tcg", probe::translation(), bare),
            say("engine kvm", probe::kvm(), bare),
            say("linux", self.linux(), "Linux"),
        ]
    }

    /// How long Linux takes until its agent answers.
    fn linux(&self) -> Result<Duration, String> {
        let begun = Instant::now();
        let image = self
            .inner
            .images
            .find(DEFAULT)
            .map_err(|why| why.to_string())?;
        let spec = Spec {
            memory_mib: *MEMORY_MIB.start(),
            ..Spec::default()
        };
        let world = World::bare(&self.inner, &spec, &image.digest, PROBE);
        world
            .map(|_| begun.elapsed())
            .map_err(|why| why.to_string())
    }

    /// The images that worlds can be made of.
    pub fn images(&self) -> &Images {
        &self.inner.images
    }
}

/// The version of the monitor on this host, as it says it.
fn version() -> Option<String> {
    let said = Command::new(PROGRAM)
        .arg("--version")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    let line = text.lines().next()?.trim().to_owned();
    said.status.success().then_some(line)
}

impl Inner {
    /// How instructions of machines are executed.
    fn accelerator(&self) -> Accelerator {
        self.translated
            .map_or_else(|| probe::chosen().0, |_| Accelerator::Tcg)
    }

    fn forget(&self, id: &str) {
        lock(&self.worlds).remove(id);
    }

    /// Has a snapshot written behind everyone's back.
    fn keep(&self, id: &str) {
        if let Some(keep) = &*lock(&self.keep) {
            let _ = keep.send(id.to_owned());
        }
    }

    /// Begins a machine, of some memory in MiB and some processors.
    fn begin(
        &self,
        machine: &Made,
        (mib, vcpus): (u32, u32),
        memory: &Memory,
        begin: Begin,
    ) -> io::Result<Ready> {
        let id = host::fresh("world")?;
        let name = format!("{}-{id}", self.prefix);
        let parts = Parts {
            accelerator: self.accelerator(),
            translated: self.translated.unwrap_or(monitor::PROCESSOR),
            vcpus,
            mib,
            memory,
            disk: &machine.disk,
            begin,
        };
        let (monitor, line) = Monitor::start(&self.starter, &self.hierarchies, &name, &parts)?;
        Ok(Ready { id, monitor, line })
    }

    /// Begins a machine from a picture. One that waits does not go on yet.
    fn start(&self, mould: &Mould, waits: bool) -> io::Result<Ready> {
        let machine = self.machine(&mould.image).map_err(io::Error::other)?;
        let devices = monitor::anonymous("worldline-devices")?;
        io::Write::write_all(&mut &devices, &mould.picture.devices)?;
        io::Seek::rewind(&mut &devices)?;
        let begin = Begin::From { devices, waits };
        let sizes = (mould.mib, mould.vcpus);
        let begun = self.begin(&machine, sizes, &mould.picture.memory, begin)?;
        if waits {
            begun.monitor.meet()?;
        }
        Ok(begun)
    }

    fn stored(&self, snapshot: Snapshot, machine: &str) -> Stored {
        let version = self.version.clone().unwrap_or_default();
        Stored::new(
            snapshot,
            machine.to_owned(),
            version,
            self.accelerator(),
            self.processor(),
        )
    }

    /// The processor that machines see.
    fn processor(&self) -> String {
        match self.accelerator() {
            Accelerator::Tcg => self.translated.unwrap_or(monitor::PROCESSOR).to_owned(),
            Accelerator::Kvm => {
                let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
                let name = text
                    .lines()
                    .find_map(|line| line.strip_prefix("model name"));
                name.unwrap_or_default()
                    .trim_start_matches([' ', '\t', ':'])
                    .to_owned()
            }
        }
    }

    /// The files of an image's machines.
    fn machine(&self, image: &str) -> Result<Arc<Made>, CreateError> {
        let image = self.images.find(image)?;
        let mut machines = lock(&self.machines);
        if let Some(made) = machines.get(&image.digest) {
            return Ok(Arc::clone(made));
        }
        let parts = self.images.machine(&image).ok_or_else(|| CreateError::Monitor {
            program: PROGRAM.into(),
            why: "there is no kernel and no disk to begin with: `worldline image build --vm` makes them".into(),
        })?;
        let open = || -> io::Result<Made> {
            let first_root = monitor::anonymous("worldline-first-root")?;
            io::Write::write_all(&mut &first_root, &machine::first_root(AGENT, &parts.pci)?)?;
            Ok(Made {
                kernel: File::open(&parts.kernel)?,
                first_root,
                disk: File::open(&parts.disk)?,
                digest: self.digest(&parts.digest),
            })
        };
        let made = open().map(Arc::new).map_err(|source| CreateError::Io {
            doing: "opening the machine's kernel and disk",
            source,
        })?;
        machines.insert(image.digest, Arc::clone(&made));
        Ok(made)
    }

    /// Names all that a machine is made of.
    fn digest(&self, parts: &str) -> String {
        let hash = Sha256::new()
            .chain_update(parts)
            .chain_update(talk::KERNEL)
            .chain_update(AGENT);
        format!("{:.32x}", hash.finalize())
    }

    /// What machines of all programs of this host begin from. It is locked until the file is dropped.
    fn begun(&self) -> io::Result<(File, Store)> {
        let folder = self.folder.join(TEMPLATES);
        fs::create_dir_all(&folder)?;
        let one = File::create(folder.join("lock"))?;
        one.lock()?;
        let (store, _) = Store::open(folder)?;
        Ok((one, store))
    }

    /// A machine of an image that has just begun: worlds go on from it, which takes a fraction of a second
    /// where a start takes many. It is kept beside the images, for all programs of this host.
    fn template(
        self: &Arc<Self>,
        image: &Image,
        spec: &Spec,
    ) -> Result<Arc<(Stored, store::Picture)>, CreateError> {
        let made = self.machine(&image.digest)?;
        let mut hash = Sha256::new();
        let (mib, vcpus) = (spec.memory_mib.to_string(), spec.vcpus.to_string());
        for part in [
            &made.digest,
            self.version.as_deref().unwrap_or_default(),
            &self.processor(),
            &mib,
            &vcpus,
            env!("CARGO_PKG_VERSION"),
        ] {
            hash.update(part);
            hash.update([0]);
        }
        let name = format!("snapshot-{:.16}", format!("{:x}", hash.finalize()));
        let mut templates = lock(&self.templates);
        if let Some(found) = templates.get(&name) {
            return Ok(Arc::clone(found));
        }
        // One program makes it, and the others wait for that.
        let (_one, store) = self.begun().map_err(|source| CreateError::Io {
            doing: "reading machines",
            source,
        })?;
        let found = store
            .get(&name)
            .map(|stored| Ok::<_, CreateError>((stored, store.picture(&name)?)));
        let found = match found.and_then(Result::ok) {
            Some(found) => {
                store.touch(&name);
                found
            }
            None => {
                let small = Spec {
                    seed: None,
                    network: None,
                    ..spec.clone()
                };
                let world = World::boot(self, &small, &image.digest)?;
                let taken = world
                    .picture(&name, None)
                    .map_err(|error| CreateError::Interpreter(error.to_string()))?;
                let _ = store.remove(&name);
                store.add(taken.0.clone(), taken.1.clone());
                if let Err(error) = store.keep(&name) {
                    tracing::warn!("the next program has to begin this machine again: {error}");
                }
                taken
            }
        };
        let found = Arc::new(found);
        templates.insert(name, Arc::clone(&found));
        Ok(found)
    }

    fn admit(&self, world: World) -> Arc<World> {
        let world = Arc::new(world);
        lock(&self.worlds).insert(world.id().to_owned(), Arc::downgrade(&world));
        world
    }

    fn living(&self) -> Vec<Arc<World>> {
        lock(&self.worlds)
            .values()
            .filter_map(Weak::upgrade)
            .collect()
    }

    fn same_host(&self, stored: &Stored) -> Result<(), CreateError> {
        let now = self.stored(stored.snapshot.clone(), &stored.machine);
        let made = self.machine(&stored.snapshot.image)?;
        let pairs = [
            (
                "the acceleration",
                &stored.accelerator.to_string(),
                &now.accelerator.to_string(),
            ),
            ("the monitor", &stored.monitor, &now.monitor),
            ("the processor", &stored.processor, &now.processor),
            ("the machine", &stored.machine, &made.digest),
        ];
        for (what, then, now) in pairs {
            if then != now {
                return Err(CreateError::OtherHost {
                    id: stored.snapshot.id.clone(),
                    what,
                    then: then.clone(),
                    now: now.clone(),
                });
            }
        }
        Ok(())
    }
}

fn check(spec: &Spec) -> Result<(), CreateError> {
    spec.check_sizes(MEMORY_MIB, PROCESSORS)?;
    Names::parse(spec.network.as_deref().unwrap_or_default())?;
    Ok(())
}

impl Backend for Qemu {
    fn name(&self) -> &'static str {
        "qemu"
    }

    fn reaped(&self) -> &Reaped {
        &self.reaped
    }

    fn report(&self) -> Report {
        let inner = &self.inner;
        let mut all = Vec::new();
        let mut say = |name, present, yes: String, no: &str| {
            all.push(Capability {
                name,
                present,
                note: if present { yes } else { no.into() },
            });
        };
        let version = inner.version.clone();
        say(
            "monitor",
            version.is_some(),
            version.unwrap_or_default(),
            "no machine can be made: there is no `qemu-system-x86_64` (Debian: qemu-system-x86)",
        );
        let image = inner.images.find(DEFAULT).ok();
        let built = image.and_then(|image| inner.images.machine(&image));
        say(
            "kernel",
            built.is_some(),
            "a kernel, and the default image as a disk".into(),
            "no machine can be made yet: `worldline image build --vm` makes what it begins with",
        );
        say(
            "processor",
            inner.accelerator() == Accelerator::Kvm,
            "machines run on the processor itself (KVM)".into(),
            &format!(
                "machines run by translation (TCG), about twelve times slower: {}",
                inner
                    .translated
                    .map_or(probe::chosen().1.as_str(), |_| "as was asked for")
            ),
        );
        say(
            "administrator",
            host::is_root(),
            "monitors run as a user of no one's".into(),
            "monitors run as you",
        );
        for name in ["memory", "pids", "cpu"] {
            let found = inner.hierarchies.version_of(name);
            say(
                name,
                found.is_some(),
                format!(
                    "monitors are limited by control groups, version {}",
                    found.unwrap_or_default()
                ),
                "monitors are not limited: a machine has its own bounds",
            );
        }
        say("pause", true, "machines can be paused".into(), "");
        say(
            "snapshots",
            true,
            "of whole machines, whatever runs in them".into(),
            "",
        );
        say(
            "network",
            true,
            "machines have a loopback, and reach the names that they are given, by way of a proxy"
                .into(),
            "",
        );
        Report {
            backend: "qemu",
            usable: inner.version.is_some(),
            capabilities: all,
        }
    }

    fn offers(&self) -> Vec<String> {
        self.inner.images.of_machines()
    }

    fn image(&self, name: Option<&str>) -> Result<String, CreateError> {
        let image = self.inner.images.find(name.unwrap_or(DEFAULT))?;
        Ok(image.name)
    }

    fn archive(&self) -> &'static str {
        store::TITLE
    }

    fn create(&self, spec: &Spec) -> Result<Arc<dyn Sandbox>, CreateError> {
        check(spec)?;
        let image = self
            .inner
            .images
            .find(spec.image.as_deref().unwrap_or(DEFAULT))?;
        let template = self.inner.template(&image, spec)?;
        let world = World::restore(&self.inner, spec, &template.0, &template.1, None)?;
        Ok(self.inner.admit(world))
    }

    fn restore(&self, snapshot: &str, spec: &Spec) -> Result<Arc<dyn Sandbox>, CreateError> {
        let stored = self
            .inner
            .store
            .get(snapshot)
            .ok_or_else(|| CreateError::NoSnapshot(snapshot.into()))?;
        let mut spec = guest::inherit(spec, &stored.snapshot.spec)?;
        check(&spec)?;
        self.inner.same_host(&stored)?;
        // By default a branch differs from its siblings; where its snapshot's world was reproducible, it is
        // again, and differs from them in a way that can be repeated.
        if let (None, Some(seed)) = (spec.seed, stored.snapshot.spec.seed) {
            let source = self
                .inner
                .living()
                .into_iter()
                .find(|world| world.id() == stored.snapshot.world);
            let ordinal = source.map_or(0, |world| world.next_branch());
            spec.seed = Some(crate::child_seed(seed, ordinal));
        }
        let picture = self.inner.store.picture(snapshot)?;
        let world = World::restore(
            &self.inner,
            &spec,
            &stored,
            &picture,
            Some(snapshot.to_owned()),
        )?;
        Ok(self.inner.admit(world))
    }

    fn snapshots(&self) -> Vec<Snapshot> {
        self.inner.store.list()
    }

    fn snapshot(&self, id: &str) -> Option<Snapshot> {
        self.inner.store.get(id).map(|stored| stored.snapshot)
    }

    fn persist(&self, id: &str) -> Result<Snapshot, StoreError> {
        self.inner.store.keep(id)
    }

    fn remove_snapshot(&self, id: &str) -> Result<(), StoreError> {
        self.inner.store.remove(id).map(drop)
    }

    fn export(&self, id: &str, to: &mut dyn io::Write) -> Result<(), StoreError> {
        self.inner.store.export(id, to)
    }

    fn import(&self, from: &mut dyn io::Read) -> Result<Snapshot, StoreError> {
        self.inner.store.import(from)
    }

    fn collect(&self) -> Result<u64, StoreError> {
        // Each snapshot is whole: what is removed is gone at once. What machines begin from is left.
        let io = |source| StoreError::Io {
            doing: "removing what machines began from",
            source,
        };
        let (_one, store) = self.inner.begun().map_err(io)?;
        let mut bytes = 0;
        for id in store.folders().map_err(io)? {
            // One that cannot be read is of another version.
            let known = store.get(&id).and_then(|stored| {
                let image = self.inner.images.find(&stored.snapshot.image).ok()?;
                self.inner.images.machine(&image).map(|_| stored)
            });
            if known.is_none() || store.idle(&id) > UNUSED {
                bytes += store.discard(&id).map_err(io)?;
            }
        }
        Ok(bytes)
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        for world in self.inner.living() {
            world.destroy();
        }
        self.inner.pool.close();
        lock(&self.inner.keep).take();
        if let Some(keeper) = self.keeper.take() {
            let _ = keeper.join();
        }
    }
}
