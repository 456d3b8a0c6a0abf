//! Snapshots of machines. Each is a folder:
//!
//! ```text
//! snapshots/ID/memory         pages that are not zeros (see `memory.rs`)
//!              devices        the state of its devices and processors
//!              manifest.json  written last: a folder without one is not a snapshot
//! ```
//!
//! Each is whole: it needs no other.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::memory::Memory;
use super::monitor::Accelerator;
use crate::archive;
use crate::error::{CreateError, StoreError};
use crate::host;
use crate::model::{Snapshot, Unreadable};

const VERSION: u32 = 1;
const MANIFEST: &str = "manifest.json";
const MEMORY: &str = "memory";
const DEVICES: &str = "devices";
/// In an archive: what it is an archive of.
pub(super) const TITLE: &str = "worldline-qemu";
/// Memories that stay at hand after they are written.
const AT_HAND: usize = 3;
/// Bytes of the longest state of devices that is read.
const MAX_DEVICES: u64 = 64 << 20;

/// A snapshot and how to go on from it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Stored {
    version: u32,
    pub(super) snapshot: Snapshot,
    /// What its machine was made of.
    pub(super) machine: String,
    /// What ran it.
    pub(super) monitor: String,
    pub(super) accelerator: Accelerator,
    /// The processor, where the accelerator shows it to machines.
    pub(super) processor: String,
    /// Calls that its agent may still answer have lower numbers.
    pub(super) calls: u32,
    /// Folder and environment of the shell.
    pub(super) folder: String,
    pub(super) environment: Vec<String>,
    /// Digests of the two files.
    digests: [String; 2],
}

impl Stored {
    pub(super) fn new(
        snapshot: Snapshot,
        machine: String,
        monitor: String,
        accelerator: Accelerator,
        processor: String,
    ) -> Self {
        Self {
            version: VERSION,
            snapshot,
            machine,
            monitor,
            accelerator,
            processor,
            calls: 0,
            folder: String::new(),
            environment: Vec::new(),
            digests: Default::default(),
        }
    }
}

/// A picture of a machine.
#[derive(Clone)]
pub(super) struct Picture {
    pub(super) memory: Arc<Memory>,
    pub(super) devices: Arc<Vec<u8>>,
}

/// All snapshots of a folder.
pub(super) struct Store {
    folder: PathBuf,
    state: Mutex<State>,
    /// One is written or read at a time.
    files: Mutex<()>,
}

#[derive(Default)]
struct State {
    stored: BTreeMap<String, Stored>,
    /// Of those that are not written yet.
    unwritten: BTreeMap<String, Picture>,
    /// Of those that machines have, and of those that were used last.
    known: BTreeMap<String, (Weak<Memory>, Arc<Vec<u8>>)>,
    at_hand: VecDeque<Arc<Memory>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Store {
    /// Reads a folder, and removes what a killed run left half written. Says what it could not read.
    pub(super) fn open(folder: PathBuf) -> io::Result<(Self, Vec<Unreadable>)> {
        fs::create_dir_all(&folder)?;
        let (mut state, mut unreadable) = (State::default(), Vec::new());
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if !path.is_dir() {
                continue;
            }
            match fs::read(path.join(MANIFEST)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => fs::remove_dir_all(&path)?,
                Err(error) => unreadable.push(Unreadable::new(&path, error)),
                Ok(bytes) => match serde_json::from_slice::<Stored>(&bytes) {
                    Ok(stored) if stored.version == VERSION => {
                        drop(state.stored.insert(stored.snapshot.id.clone(), stored))
                    }
                    Ok(stored) => unreadable.push(Unreadable::new(
                        &path,
                        format!("version {} is not known here", stored.version),
                    )),
                    Err(error) => unreadable.push(Unreadable::new(&path, error)),
                },
            }
        }
        let store = Self {
            folder,
            state: Mutex::new(state),
            files: Mutex::default(),
        };
        Ok((store, unreadable))
    }

    pub(super) fn get(&self, id: &str) -> Option<Stored> {
        lock(&self.state).stored.get(id).cloned()
    }

    /// All, oldest first.
    pub(super) fn list(&self) -> Vec<Snapshot> {
        let mut all: Vec<_> = lock(&self.state)
            .stored
            .values()
            .map(|stored| stored.snapshot.clone())
            .collect();
        all.sort_by(|a, b| (a.created, &a.id).cmp(&(b.created, &b.id)));
        all
    }

    /// Takes in a snapshot; [`keep`](Self::keep) makes it last.
    pub(super) fn add(&self, stored: Stored, picture: Picture) {
        let id = stored.snapshot.id.clone();
        let mut state = lock(&self.state);
        state.known.insert(
            id.clone(),
            (
                Arc::downgrade(&picture.memory),
                Arc::clone(&picture.devices),
            ),
        );
        state.unwritten.insert(id.clone(), picture);
        state.stored.insert(id, stored);
    }

    /// The picture of a snapshot, read if nobody has it.
    pub(super) fn picture(&self, id: &str) -> Result<Picture, CreateError> {
        let _one = lock(&self.files);
        let stored = self
            .get(id)
            .ok_or_else(|| CreateError::NoSnapshot(id.into()))?;
        let known = lock(&self.state)
            .known
            .get(id)
            .and_then(|(memory, devices)| {
                let memory = memory.upgrade()?;
                Some(Picture {
                    memory,
                    devices: Arc::clone(devices),
                })
            });
        let picture = match known {
            Some(picture) => picture,
            None => self.read(&stored)?,
        };
        let mut state = lock(&self.state);
        state.keep_at_hand(&picture.memory);
        state.known.insert(
            id.to_owned(),
            (
                Arc::downgrade(&picture.memory),
                Arc::clone(&picture.devices),
            ),
        );
        Ok(picture)
    }

    fn read(&self, stored: &Stored) -> Result<Picture, CreateError> {
        let damaged = |why: String| CreateError::Damaged {
            id: stored.snapshot.id.clone(),
            why,
        };
        let folder = self.folder.join(&stored.snapshot.id);
        let read = || -> io::Result<(Memory, String, Vec<u8>)> {
            let file = BufReader::with_capacity(1 << 20, File::open(folder.join(MEMORY))?);
            let (memory, digest) = Memory::load(file, stored.snapshot.spec.memory_mib)?;
            Ok((memory, digest, fs::read(folder.join(DEVICES))?))
        };
        let (memory, digest, devices) = read().map_err(|error| damaged(error.to_string()))?;
        if [digest, digest_of(&devices)] != stored.digests {
            return Err(damaged("its parts are not those that were written".into()));
        }
        Ok(Picture {
            memory: Arc::new(memory),
            devices: Arc::new(devices),
        })
    }

    /// Writes a snapshot so that it survives the machine: its parts first, its manifest last.
    pub(super) fn keep(&self, id: &str) -> Result<Snapshot, StoreError> {
        let _one = lock(&self.files);
        let mut stored = self
            .get(id)
            .ok_or_else(|| StoreError::NoSnapshot(id.into()))?;
        let Some(picture) = lock(&self.state).unwritten.get(id).cloned() else {
            return Ok(stored.snapshot);
        };
        let folder = self.folder.join(id);
        if let Err(source) = write(&folder, &picture, &mut stored) {
            // As when the disk is full: it can be branched as long as this program runs, and tried again.
            let _ = fs::remove_dir_all(&folder);
            return Err(StoreError::Io {
                doing: "writing a snapshot",
                source,
            });
        }
        let mut state = lock(&self.state);
        state.unwritten.remove(id);
        state.keep_at_hand(&picture.memory);
        state.stored.insert(id.into(), stored.clone());
        Ok(stored.snapshot)
    }

    /// Removes a snapshot; machines that go on from it have what they need of it. Gives the bytes.
    pub(super) fn remove(&self, id: &str) -> Result<u64, StoreError> {
        let _one = lock(&self.files);
        let mut state = lock(&self.state);
        let stored = state
            .stored
            .remove(id)
            .ok_or_else(|| StoreError::NoSnapshot(id.into()))?;
        state.unwritten.remove(id);
        state.known.remove(id);
        let folder = self.folder.join(id);
        // Without its manifest it is no snapshot, whatever happens next.
        let _ = fs::remove_file(folder.join(MANIFEST));
        match fs::remove_dir_all(&folder) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(StoreError::Io {
                doing: "removing a snapshot",
                source,
            }),
            _ => Ok(stored.snapshot.memory_bytes),
        }
    }

    /// Notes that a snapshot is used.
    pub(super) fn touch(&self, id: &str) {
        let manifest = File::options()
            .append(true)
            .open(self.folder.join(id).join(MANIFEST));
        // At worst it is taken for an older one.
        let _ = manifest.and_then(|file| file.set_modified(SystemTime::now()));
    }

    /// How long ago it was used last.
    pub(super) fn idle(&self, id: &str) -> Duration {
        let about = fs::metadata(self.folder.join(id).join(MANIFEST));
        let used = about.and_then(|about| about.modified());
        used.map_or(Duration::ZERO, |used| used.elapsed().unwrap_or_default())
    }

    /// The folders that there are, of snapshots and of what cannot be read.
    pub(super) fn folders(&self) -> io::Result<Vec<String>> {
        let all = fs::read_dir(&self.folder)?.collect::<io::Result<Vec<_>>>()?;
        let folders = all.iter().filter(|entry| entry.path().is_dir());
        Ok(folders
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect())
    }

    /// Removes the folder of a snapshot that nobody goes on from. Gives the bytes.
    pub(super) fn discard(&self, id: &str) -> io::Result<u64> {
        let folder = self.folder.join(id);
        let memory = fs::metadata(folder.join(MEMORY)).map_or(0, |about| about.len());
        fs::remove_dir_all(folder)?;
        Ok(memory)
    }

    /// Writes a snapshot as a tar archive.
    pub(super) fn export(&self, id: &str, to: &mut dyn Write) -> Result<(), StoreError> {
        self.keep(id)?;
        let folder = self.folder.join(id);
        let write = || -> io::Result<()> {
            let mut archive = tar::Builder::new(to);
            let mut title = tar::Header::new_gnu();
            title.set_size(id.len() as u64);
            title.set_mode(0o644);
            archive.append_data(&mut title, TITLE, id.as_bytes())?;
            for part in [MANIFEST, DEVICES, MEMORY] {
                archive.append_path_with_name(folder.join(part), part)?;
            }
            archive.finish()
        };
        write().map_err(|source| StoreError::Io {
            doing: "writing an archive",
            source,
        })
    }

    /// Reads an archive.
    pub(super) fn import(&self, from: &mut dyn Read) -> Result<Snapshot, StoreError> {
        let _one = lock(&self.files);
        let staging = self.folder.join(".import");
        let imported = self.import_in(from, &staging);
        let _ = fs::remove_dir_all(&staging);
        imported
    }

    fn import_in(&self, from: &mut dyn Read, staging: &Path) -> Result<Snapshot, StoreError> {
        let bad = |what: String| StoreError::Archive(what);
        let io = |source| StoreError::Io {
            doing: "reading an archive",
            source,
        };
        archive::unpack(from, "", &[MANIFEST, DEVICES, MEMORY], staging)?;
        let stored: Stored = archive::manifest(&staging.join(MANIFEST))
            .map_err(|error| bad(format!("it holds no machine's snapshot: {error}")))?;
        let id = stored.snapshot.id.clone();
        let plain = |byte: u8| byte.is_ascii_hexdigit() || byte == b'-';
        let is_ours = id
            .strip_prefix("snapshot-")
            .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(plain));
        if !is_ours || stored.version != VERSION {
            return Err(bad(format!(
                "`{id}` of version {} is not known here",
                stored.version
            )));
        }
        if let Some(here) = self.get(&id) {
            return Ok(here.snapshot);
        }
        let digests = (|| -> io::Result<[String; 2]> {
            let file = BufReader::with_capacity(1 << 20, File::open(staging.join(MEMORY))?);
            let (_, digest) = Memory::load(file, stored.snapshot.spec.memory_mib)?;
            let mut devices = Vec::new();
            File::open(staging.join(DEVICES))?
                .take(MAX_DEVICES)
                .read_to_end(&mut devices)?;
            Ok([digest, digest_of(&devices)])
        })();
        if digests.map_err(|error| bad(error.to_string()))? != stored.digests {
            return Err(bad(format!(
                "{id} was changed: its parts are not those that its manifest tells of"
            )));
        }
        fs::rename(staging, self.folder.join(&id)).map_err(io)?;
        let snapshot = stored.snapshot.clone();
        lock(&self.state).stored.insert(id, stored);
        Ok(snapshot)
    }
}

impl State {
    fn keep_at_hand(&mut self, memory: &Arc<Memory>) {
        self.at_hand.retain(|one| !Arc::ptr_eq(one, memory));
        self.at_hand.push_front(Arc::clone(memory));
        self.at_hand.truncate(AT_HAND);
    }
}

fn digest_of(bytes: &[u8]) -> String {
    format!("sha256:{:x}", Sha256::digest(bytes))
}

fn write(folder: &Path, picture: &Picture, stored: &mut Stored) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let mut memory = BufWriter::with_capacity(1 << 20, host::private_file(&folder.join(MEMORY))?);
    let digest = picture.memory.save(&mut memory)?;
    memory.into_inner()?.sync_all()?;
    let mut devices = host::private_file(&folder.join(DEVICES))?;
    devices.write_all(&picture.devices)?;
    devices.sync_all()?;
    stored.digests = [digest, digest_of(&picture.devices)];
    stored.snapshot.digest = digest_of(stored.digests.concat().as_bytes());
    stored.snapshot.durable = true;
    let part = folder.join("manifest.part");
    let mut file = File::create(&part)?;
    file.write_all(&serde_json::to_vec_pretty(&stored)?)?;
    file.sync_all()?;
    fs::rename(&part, folder.join(MANIFEST))?;
    File::open(folder)?.sync_all()
}
