//! Snapshots of machines: a folder each, with the state of devices and registers, all memory, the disk,
//! and a manifest written last.
//!
//! A snapshot is whole: what was written since the one before is laid over a copy of that one's memory,
//! so that a lineage never gets deep, and any snapshot can go without another. Machines map a snapshot's
//! memory and copy what they write, so the file must not change while they live: nobody may write it,
//! and every branch checks that it is the one whose digest was taken.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::machine::{DISK, MEMORY, STATE, identity};
use super::sparse;
use crate::archive;
use crate::error::{CreateError, StoreError};
use crate::model::{Snapshot, Unreadable};

/// Folder of snapshots.
pub(super) const SNAPSHOTS: &str = "snapshots";
const MANIFEST: &str = "manifest.json";
/// What manifests of this form say.
pub(super) const VERSION: u32 = 2;
/// Parts of a snapshot, in the order of its digest; a machine with Linux has no disk of its own.
const PARTS: [&str; 3] = [STATE, MEMORY, DISK];
/// What nobody may write.
const FINAL: u32 = 0o444;
/// The folder that its archives hold.
pub(super) const ARCHIVE: &str = "worldline-machine";

/// What is told of a guest with Linux beside its memory.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Linux {
    /// What its machine was made of.
    pub(super) machine: String,
    /// Calls that its agent may still answer have lower numbers.
    pub(super) calls: u32,
    /// Folder and environment of the shell.
    pub(super) folder: String,
    pub(super) environment: Vec<String>,
}

/// A snapshot, and where it can go on.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Manifest {
    version: u32,
    snapshot: Snapshot,
    /// The monitor's version, whose form its state has.
    monitor: String,
    /// The processor that its registers are of.
    processor: String,
    /// Its guest, if that is Linux.
    #[serde(default)]
    linux: Option<Linux>,
}

/// A snapshot that can be branched.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) snapshot: Snapshot,
    pub(super) linux: Option<Linux>,
    pub(super) folder: PathBuf,
    processor: String,
    monitor: String,
    /// The memory, which stays readable when the snapshot is removed.
    pub(super) memory: File,
    /// The files whose digest was right.
    checked: Mutex<Option<Vec<[i64; 4]>>>,
}

impl Stored {
    /// Whether its files are what they were.
    pub(super) fn check(&self, processor: &str, monitor: &str) -> Result<(), CreateError> {
        let id = &self.snapshot.id;
        for (what, then, now) in [
            ("processor", self.processor.as_str(), processor),
            ("Firecracker", &self.monitor, monitor),
        ] {
            if then != now {
                return Err(CreateError::OtherHost {
                    id: id.clone(),
                    what,
                    then: then.into(),
                    now: now.into(),
                });
            }
        }
        let damaged = |source: io::Error| CreateError::Damaged {
            id: id.clone(),
            why: source.to_string(),
        };
        let now = self.identities().map_err(damaged)?;
        let mut checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        if checked.as_ref() == Some(&now) {
            return Ok(());
        }
        if digest(&self.folder).map_err(damaged)? != self.snapshot.digest {
            return Err(CreateError::Damaged {
                id: id.clone(),
                why: "its files were changed or cut off: their digest is another".into(),
            });
        }
        *checked = Some(now);
        Ok(())
    }

    /// Whether its memory can be built on still, though it may have been removed.
    pub(super) fn is_sound(&self) -> bool {
        const AT: usize = 1;
        let checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.memory.metadata().map(|now| identity(&now)).ok();
        checked.as_ref().map(|all| all[AT]) == now
    }

    fn identities(&self) -> io::Result<Vec<[i64; 4]>> {
        let of = |part| Ok(identity(&fs::metadata(self.folder.join(part))?));
        parts(&self.folder).map(of).collect()
    }
}

/// All snapshots of a folder.
pub(super) struct Store {
    folder: PathBuf,
    stored: Mutex<BTreeMap<String, Arc<Stored>>>,
    /// One archive is read at a time.
    importing: Mutex<()>,
}

impl Store {
    /// Reads a folder, and removes what a killed program left half written. Says what it could not read.
    pub(super) fn open(folder: PathBuf) -> io::Result<(Self, Vec<Unreadable>)> {
        fs::create_dir_all(&folder)?;
        let (mut stored, mut unreadable) = (BTreeMap::new(), Vec::new());
        for entry in fs::read_dir(&folder)?.flatten() {
            let at = entry.path();
            if !at.join(MANIFEST).try_exists()? {
                fs::remove_dir_all(&at)?;
                continue;
            }
            match read(&at) {
                Ok(one) => {
                    stored.insert(one.snapshot.id.clone(), Arc::new(one));
                }
                Err(error) => unreadable.push(Unreadable::new(&at, error)),
            }
        }
        let store = Self {
            folder,
            stored: Mutex::new(stored),
            importing: Mutex::default(),
        };
        Ok((store, unreadable))
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Stored>>> {
        self.stored.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn path(&self, id: &str) -> PathBuf {
        self.folder.join(id)
    }

    pub(super) fn get(&self, id: &str) -> Option<Arc<Stored>> {
        self.all().get(id).cloned()
    }

    pub(super) fn list(&self) -> Vec<Snapshot> {
        let mut all: Vec<Snapshot> = self
            .all()
            .values()
            .map(|stored| stored.snapshot.clone())
            .collect();
        all.sort_by(|one, other| (one.created, &one.id).cmp(&(other.created, &other.id)));
        all
    }

    /// Takes in a snapshot whose parts are in its folder: nobody may write them from now on.
    pub(super) fn add(
        &self,
        mut snapshot: Snapshot,
        linux: Option<Linux>,
        processor: &str,
        monitor: &str,
    ) -> io::Result<Arc<Stored>> {
        let folder = self.path(&snapshot.id);
        for part in parts(&folder) {
            fs::set_permissions(folder.join(part), fs::Permissions::from_mode(FINAL))?;
        }
        snapshot.digest = digest(&folder)?;
        write(
            &folder,
            &Manifest {
                version: VERSION,
                snapshot,
                monitor: monitor.into(),
                processor: processor.into(),
                linux,
            },
        )?;
        let stored = read(&folder)?;
        *stored
            .checked
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = stored.identities().ok();
        let stored = Arc::new(stored);
        self.all()
            .insert(stored.snapshot.id.clone(), Arc::clone(&stored));
        Ok(stored)
    }

    /// Waits until a snapshot would survive the machine.
    pub(super) fn keep(&self, id: &str) -> Result<Snapshot, StoreError> {
        let stored = self
            .get(id)
            .ok_or_else(|| StoreError::NoSnapshot(id.into()))?;
        if stored.snapshot.durable {
            return Ok(stored.snapshot.clone());
        }
        let work = || -> io::Result<Snapshot> {
            for part in parts(&stored.folder) {
                File::open(stored.folder.join(part))?.sync_all()?;
            }
            let mut manifest = read_manifest(&stored.folder)?;
            manifest.snapshot.durable = true;
            write(&stored.folder, &manifest)?;
            File::open(&stored.folder)?.sync_all()?;
            let kept = read(&stored.folder)?;
            let snapshot = kept.snapshot.clone();
            // It may have been removed meanwhile.
            if let Some(now) = self.all().get_mut(id) {
                *now = Arc::new(kept);
            }
            Ok(snapshot)
        };
        work().map_err(|source| StoreError::Io {
            doing: "writing a snapshot",
            source,
        })
    }

    /// Removes a snapshot. Machines that map its memory go on: the file is gone when they are.
    pub(super) fn remove(&self, id: &str) -> Result<(), StoreError> {
        let stored = self.all().remove(id);
        let stored = stored.ok_or_else(|| StoreError::NoSnapshot(id.into()))?;
        // Without its manifest it is no snapshot, whatever happens next.
        fs::remove_file(stored.folder.join(MANIFEST))
            .and_then(|()| fs::remove_dir_all(&stored.folder))
            .map_err(|source| StoreError::Io {
                doing: "removing a snapshot",
                source,
            })
    }

    /// Writes a snapshot as an archive.
    pub(super) fn export(&self, id: &str, to: &mut dyn Write) -> Result<(), StoreError> {
        self.keep(id)?;
        let stored = self
            .get(id)
            .ok_or_else(|| StoreError::NoSnapshot(id.into()))?;
        let work = || -> io::Result<()> {
            let mut archive = tar::Builder::new(to);
            archive.append_dir_all(ARCHIVE, &stored.folder)?;
            archive.finish()
        };
        work().map_err(|source| StoreError::Io {
            doing: "writing an archive",
            source,
        })
    }

    /// Reads an archive.
    pub(super) fn import(&self, from: &mut dyn io::Read) -> Result<Snapshot, StoreError> {
        let _one = self.importing.lock();
        let staging = self.folder.join(".import");
        let taken = self.unpack(from, &staging);
        let _ = fs::remove_dir_all(&staging);
        taken
    }

    fn unpack(&self, from: &mut dyn io::Read, staging: &Path) -> Result<Snapshot, StoreError> {
        let bad = |why: String| StoreError::Archive(why);
        let io = |source| StoreError::Io {
            doing: "reading an archive",
            source,
        };
        let names: Vec<&str> = PARTS.into_iter().chain([MANIFEST]).collect();
        archive::unpack(from, ARCHIVE, &names, staging)?;
        let manifest = read_manifest(staging).map_err(|error| bad(error.to_string()))?;
        let snapshot = manifest.snapshot;
        if !is_name(&snapshot.id) {
            return Err(bad("its name is none".into()));
        }
        if digest(staging).map_err(|error| bad(error.to_string()))? != snapshot.digest {
            return Err(bad("its parts are not those whose digest it gives".into()));
        }
        if let Some(known) = self.get(&snapshot.id) {
            return Ok(known.snapshot.clone());
        }
        fs::remove_file(staging.join(MANIFEST)).map_err(io)?;
        let folder = self.path(&snapshot.id);
        let _ = fs::remove_dir_all(&folder);
        fs::rename(staging, &folder).map_err(io)?;
        let id = snapshot.id.clone();
        self.add(
            snapshot,
            manifest.linux,
            &manifest.processor,
            &manifest.monitor,
        )
        .map_err(io)?;
        self.keep(&id)
    }
}

/// The parts that are in a folder. Its digest knows them by name, so none can be lost in silence.
fn parts(folder: &Path) -> impl Iterator<Item = &'static str> {
    PARTS.into_iter().filter(|part| folder.join(part).exists())
}

/// Whether a name from outside can be a folder's.
fn is_name(id: &str) -> bool {
    !id.is_empty()
        && id.len() <= crate::limits::MAX_NAME
        && id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
}

/// SHA-256 of all parts, by name and content.
fn digest(folder: &Path) -> io::Result<String> {
    let mut hash = Sha256::new();
    for part in parts(folder) {
        hash.update(part);
        sparse::digest(&File::open(folder.join(part))?, &mut hash)?;
    }
    Ok(format!("sha256:{:x}", hash.finalize()))
}

fn read_manifest(folder: &Path) -> io::Result<Manifest> {
    let manifest: Manifest = archive::manifest(&folder.join(MANIFEST))?;
    if manifest.version != VERSION {
        return Err(io::Error::other(format!(
            "its manifest has version {}, and this program reads {VERSION}",
            manifest.version
        )));
    }
    Ok(manifest)
}

fn read(folder: &Path) -> io::Result<Stored> {
    let manifest = read_manifest(folder)?;
    Ok(Stored {
        snapshot: manifest.snapshot,
        linux: manifest.linux,
        folder: folder.into(),
        processor: manifest.processor,
        monitor: manifest.monitor,
        memory: File::open(folder.join(MEMORY))?,
        checked: Mutex::default(),
    })
}

/// Writes a manifest in one step.
fn write(folder: &Path, manifest: &Manifest) -> io::Result<()> {
    let part = folder.join("manifest.part");
    let mut file = File::create(&part)?;
    file.write_all(&serde_json::to_vec_pretty(manifest)?)?;
    file.sync_all()?;
    fs::rename(&part, folder.join(MANIFEST))
}
