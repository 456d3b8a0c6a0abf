//! Worlds as processes under the host's kernel. How each part works stands at the top of its file:
//! `shell` (an empty world), `world` (one that runs), `capture` (its picture), `store` (what is kept).

mod capture;
mod descriptors;
mod disk;
mod doctor;
mod filter;
mod keeper;
mod pager;
mod shell;
mod store;
mod sys;
mod userfault;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use sha2::{Digest, Sha256};

use crate::error::{CreateError, StoreError};
use crate::fault::{Fault, Faults};
use crate::folder::{Folder, make_passable};
use crate::host::{self, cgroup::Hierarchies};
use crate::image::{Image, ImageError, Images, Machine};
use crate::limits::{DISK_SLACK, DISK_WATCH, MEMORY_MIB, PROCESSORS};
use crate::link::AGENT;
use crate::model::{Command, Reaped, Report, Snapshot, Spec};
use crate::network::Names;
use crate::pool::Pool;
use crate::{Backend, Sandbox};

use keeper::Keeper;
use pager::Pager;
use shell::{Host, Shell, WORLDS};
use store::{SNAPSHOTS, Store, TEMPLATE};
use world::World;

/// Where things are, and how many worlds are kept ready.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Folder of worlds and snapshots. One program at a time uses it.
    pub data: PathBuf,
    /// Folder of images, which any number of programs share.
    pub images: PathBuf,
    /// Empty worlds kept ready.
    pub pool: usize,
    /// Where a test has this program killed.
    pub fault: Option<Fault>,
}

impl Settings {
    /// Everything under one folder; four worlds kept ready.
    pub fn new(data: impl Into<PathBuf>) -> Self {
        let data = data.into();
        Self {
            images: data.join("images"),
            data,
            pool: 4,
            fault: None,
        }
    }
}

/// Worlds as processes. Dropping it ends them all; snapshots stay.
pub struct Process {
    inner: Arc<Inner>,
    reaped: Reaped,
}

/// What worlds need of their backend.
struct Inner {
    host: Arc<Host>,
    store: Arc<Store>,
    keeper: Keeper,
    images: Images,
    pool: Arc<Pool<Shell, io::Error>>,
    /// None where this host does not offer what it needs: then first branches wait.
    pager: Option<Arc<Pager>>,
    worlds: Mutex<BTreeMap<String, Weak<World>>>,
    /// One template is made at a time.
    templates: Mutex<()>,
    _folder: Folder,
}

impl Process {
    /// Opens a folder, after removing what a killed program left there.
    pub fn open(settings: Settings) -> Result<Self, StoreError> {
        let io = |doing| move |source| StoreError::Io { doing, source };
        let folder = Folder::take(&settings.data, "process")?;
        let (data, prefix) = (folder.path.clone(), folder.prefix.clone());
        for inner in [&data.join(WORLDS), &data.join(SNAPSHOTS), &settings.images] {
            make_passable(inner).map_err(io("making the data folder"))?;
        }
        let images = settings
            .images
            .canonicalize()
            .map_err(io("opening the folder of images"))?;
        let hierarchies = Hierarchies::find();
        hierarchies.reap(|name| name.starts_with(&prefix));
        let mut reaped = Reaped::default();
        for entry in fs::read_dir(data.join(WORLDS))
            .map_err(io("reading the data folder"))?
            .flatten()
        {
            disk::remove_all(&entry.path()).map_err(io("removing a former world"))?;
            reaped.worlds += 1;
        }
        let (store, unreadable) = Store::open(data.join(SNAPSHOTS), Faults(settings.fault))
            .map_err(io("reading snapshots"))?;
        reaped.unreadable = unreadable;
        let agent = host::program(c"worldline-agent", AGENT).map_err(io("making the agent"))?;
        let filter = filter::compile()
            .map_err(|error| io("compiling the filter")(io::Error::other(error)))?;
        let host = Arc::new(Host {
            data,
            images: images.clone(),
            hierarchies,
            agent,
            filter,
            landlock: doctor::has_landlock(),
            prefix,
        });
        let store = Arc::new(store);
        let maker = Arc::clone(&host);
        let pool = Pool::new(settings.pool, move || maker.make());
        let inner = Arc::new(Inner {
            keeper: Keeper::start(Arc::clone(&store)).map_err(io("starting a thread"))?,
            images: Images::new(images, host::owner()),
            pool: pool.map_err(io("starting a thread"))?,
            pager: Pager::start().ok().map(Arc::new),
            host,
            store,
            worlds: Mutex::default(),
            templates: Mutex::default(),
            _folder: folder,
        });
        watch_disks(Arc::downgrade(&inner)).map_err(io("starting a thread"))?;
        Ok(Self { inner, reaped })
    }

    /// The images that worlds can be made of.
    pub fn images(&self) -> &Images {
        &self.inner.images
    }
}

/// Loads what an interpreter loads at its start, and leaves what Python makes of that for the next time. What
/// is there of an earlier time is not among what this world writes, so it is made again.
const WARM_UP: &str =
    "import os, shutil; shutil.rmtree(os.path.expanduser('~/.cache'), ignore_errors=True)
import ast, base64, io, json, linecache, random, signal, socket, struct, traceback, threading
import numpy, pandas, matplotlib.pyplot
try: from worldline import universe
except ImportError: pass";

impl Process {
    /// Builds what virtual machines of an image begin with, if it is not there. Python compiles in a world of
    /// ours first: in a machine that takes many times as long.
    pub fn build_machine(
        &self,
        image: &Image,
        progress: &mut dyn FnMut(&str),
    ) -> Result<Machine, ImageError> {
        if let Some(machine) = self.images().machine(image) {
            return Ok(machine);
        }
        let above = self.inner.host.data.join("above");
        progress("compiling the image's Python");
        let compiled = self.compile(image, &above);
        if let Err(why) = &compiled {
            progress(&format!("its machines begin more slowly: {why}"));
        }
        let layer = compiled.is_ok().then_some(above.as_path());
        let built = self.images().build_machine(image, layer, progress);
        let _ = disk::remove_all(&above);
        built
    }

    fn compile(&self, image: &Image, onto: &Path) -> Result<(), String> {
        let spec = Spec {
            image: Some(image.digest.clone()),
            ..Spec::default()
        };
        let template = self.inner.template(image).map_err(|why| why.to_string())?;
        let world = self
            .inner
            .begin(&spec, &template)
            .map_err(|why| why.to_string())?;
        let mut said = Vec::new();
        let warm_up = Command::argv(["/usr/bin/python3", "-c", WARM_UP]);
        let code = world.exec(&warm_up, &mut |_, bytes| said.extend_from_slice(bytes));
        if !matches!(code, Ok(0)) {
            return Err(String::from_utf8_lossy(&said).into_owned());
        }
        let copied = fs::create_dir_all(onto).and_then(|()| world.copy_files(onto));
        copied.map_err(|why| why.to_string())
    }
}

impl Inner {
    fn forget(&self, id: &str) {
        self.worlds
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(id);
    }

    fn find(&self, image: Option<&str>) -> Result<Image, CreateError> {
        Ok(self.images.find(image.unwrap_or(crate::image::DEFAULT))?)
    }

    fn living(&self) -> Vec<Arc<World>> {
        self.worlds
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .filter_map(Weak::upgrade)
            .collect()
    }

    fn admit(&self, world: World) -> Arc<World> {
        let world = Arc::new(world);
        let mut worlds = self.worlds.lock().unwrap_or_else(PoisonError::into_inner);
        worlds.insert(world.id().to_owned(), Arc::downgrade(&world));
        world
    }

    /// A snapshot of an interpreter of an image that has just started: worlds begin from it, which takes
    /// milliseconds where a start takes seconds.
    fn template(self: &Arc<Self>, image: &Image) -> Result<Arc<store::Stored>, CreateError> {
        let _one = self
            .templates
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut hash = Sha256::new();
        for part in [
            image.digest.as_str(),
            crate::talk::KERNEL,
            &host::kernel_release(),
            env!("CARGO_PKG_VERSION"),
        ] {
            hash.update(part);
            hash.update([0]);
        }
        hash.update(AGENT);
        let kind = format!("{TEMPLATE}-{:.16}", format!("{:x}", hash.finalize()));
        if let Some(stored) = self.store.template(&kind) {
            return Ok(stored);
        }
        let io = |doing| move |source| CreateError::Io { doing, source };
        // Two of the same kind differ in their addresses, and are never to be taken for each other.
        let id = host::fresh(&kind).map_err(io("naming the template"))?;
        let shell = self.pool.take().map_err(io("making a world"))?;
        let spec = Spec {
            disk_mib: 64,
            ..Spec::default()
        };
        let world = World::cold(
            self,
            shell,
            &spec,
            (image.digest.clone(), image.root.clone()),
        )?;
        world
            .picture(&id, None, true)
            .map_err(|error| CreateError::Interpreter(error.to_string()))?;
        self.keeper.keep(&id);
        let written = self.store.wait(&id);
        written.ok_or_else(|| CreateError::Interpreter("its memory could not be written".into()))
    }

    fn begin(
        self: &Arc<Self>,
        spec: &Spec,
        stored: &store::Stored,
    ) -> Result<Arc<World>, CreateError> {
        check(spec)?;
        let now = host::kernel_release();
        if stored.kernel != now {
            return Err(CreateError::OtherKernel {
                id: stored.snapshot.id.clone(),
                then: stored.kernel.clone(),
                now,
            });
        }
        let mut spec = spec.clone();
        if spec.network.is_none() && !stored.template {
            spec.network.clone_from(&stored.snapshot.spec.network);
        }
        let root = self.images.find(&stored.snapshot.image)?.root;
        let shell = self.pool.take().map_err(|source| CreateError::Io {
            doing: "making namespaces and a control group",
            source,
        })?;
        self.store.faults.at(Fault::RestoreShell);
        World::warm(self, shell, &spec, root, stored).map(|world| self.admit(world))
    }
}

fn check(spec: &Spec) -> Result<(), CreateError> {
    spec.check_sizes(MEMORY_MIB, PROCESSORS)?;
    Names::parse(spec.network.as_deref().unwrap_or_default())?;
    Ok(())
}

impl Backend for Process {
    fn name(&self) -> &'static str {
        "process"
    }

    fn report(&self) -> Report {
        doctor::report(&self.inner.host.hierarchies, self.inner.pager.is_some())
    }

    fn reaped(&self) -> &Reaped {
        &self.reaped
    }

    fn offers(&self) -> Vec<String> {
        let all = self.images().list().into_iter();
        all.map(|image| image.name).collect()
    }

    fn image(&self, name: Option<&str>) -> Result<String, CreateError> {
        Ok(self.inner.find(name)?.name)
    }

    fn create(&self, spec: &Spec) -> Result<Arc<dyn Sandbox>, CreateError> {
        check(spec)?;
        let image = self.inner.find(spec.image.as_deref())?;
        let template = self.inner.template(&image)?;
        Ok(self.inner.begin(spec, &template)?)
    }

    fn restore(&self, snapshot: &str, spec: &Spec) -> Result<Arc<dyn Sandbox>, CreateError> {
        let stored = self
            .inner
            .store
            .get(snapshot)
            .filter(|stored| !stored.forgotten && !stored.template);
        let stored = stored.ok_or_else(|| CreateError::NoSnapshot(snapshot.into()))?;
        // By default a branch differs from its siblings; where its snapshot's world was reproducible, it
        // is again, and differs from them in a way that can be repeated.
        let mut spec = spec.clone();
        if let (None, Some(seed)) = (spec.seed, stored.snapshot.spec.seed) {
            let source = self
                .inner
                .living()
                .into_iter()
                .find(|world| world.id() == stored.snapshot.world);
            let ordinal = source.map_or(0, |world| world.next_branch());
            spec.seed = Some(crate::child_seed(seed, ordinal));
        }
        Ok(self.inner.begin(&spec, &stored)?)
    }

    fn snapshots(&self) -> Vec<Snapshot> {
        self.inner.store.list()
    }

    fn snapshot(&self, id: &str) -> Option<Snapshot> {
        self.inner
            .store
            .get(id)
            .filter(|stored| !stored.forgotten)
            .map(|stored| stored.snapshot.clone())
    }

    fn persist(&self, id: &str) -> Result<Snapshot, StoreError> {
        self.inner.store.keep(id)
    }

    fn remove_snapshot(&self, id: &str) -> Result<(), StoreError> {
        self.inner.store.forget(id)
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

    fn collect(&self) -> Result<u64, StoreError> {
        let live: BTreeSet<String> = self
            .inner
            .living()
            .iter()
            .filter_map(|world| world.origin().map(str::to_owned))
            .collect();
        self.inner
            .store
            .collect(&live)
            .map_err(|source| StoreError::Io {
                doing: "collecting snapshots",
                source,
            })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        for world in self.inner.living() {
            world.destroy();
        }
        self.inner.keeper.finish();
        self.inner.pool.close().iter().for_each(Shell::end);
        if let Some(pager) = &self.inner.pager {
            pager.close();
        }
    }
}

/// Ends worlds that write more than their disk holds. No quota of the host's is needed for it; a single
/// file is held to the limit by the kernel, and one that is stopped there ends nobody.
fn watch_disks(inner: Weak<Inner>) -> io::Result<()> {
    let watch = move || loop {
        std::thread::sleep(DISK_WATCH);
        let Some(inner) = inner.upgrade() else { return };
        for world in inner.living() {
            if world.written() > world.disk_limit() + DISK_SLACK {
                tracing::warn!(
                    world = world.id(),
                    "ended: it wrote more than its disk holds"
                );
                world.destroy();
            }
        }
    };
    std::thread::Builder::new()
        .name("disks".into())
        .spawn(watch)
        .map(drop)
}
