//! Snapshots on disk. Each is a folder:
//!
//! ```text
//! snapshots/ID/pages          memory that this snapshot wrote
//!              plan           for the loader (see `plan.rs`)
//!              disk/          files that the world wrote, as an overlay layer
//!              manifest.json  written last: a folder without one is not a snapshot
//! ```
//!
//! A snapshot names the layers of others that it is built on. They stay as long as it does.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::disk;
use super::pager::{Draft, Memory, Pager};
use super::shell::USERS;
use crate::error::StoreError;
use crate::fault::{Fault, Faults};
use crate::host::{self, FIRST_USER};
use crate::model::{Snapshot, Unreadable};

const VERSION: u32 = 1;
const MANIFEST: &str = "manifest.json";
/// In an archive: the folders that replace those below them, each ended by a zero.
const REPLACED: &str = "worldline-replaced";
/// What its archives begin with: the snapshot's name.
pub(super) const ARCHIVE: &str = "worldline-snapshot";
/// Folder of snapshots, in the data folder.
pub(super) const SNAPSHOTS: &str = "snapshots";
/// What the names of templates begin with.
pub(super) const TEMPLATE: &str = "template";
pub(super) const PAGES: &str = "pages";
pub(super) const PLAN: &str = "plan";
pub(super) const DISK: &str = "disk";

/// A snapshot and how to go on from it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Stored {
    version: u32,
    pub(super) snapshot: Snapshot,
    /// Snapshots whose pages its memory is made of, in the plan's order.
    pub(super) memory: Vec<String>,
    /// Snapshots whose files its disk is made of, the top one first.
    pub(super) disk: Vec<String>,
    /// Folder and environment of the shell.
    pub(super) folder: String,
    pub(super) environment: Vec<String>,
    /// The kernel whose pages are mapped in its memory.
    pub(super) kernel: String,
    /// Forgotten by its owner, and kept for those that are built on it.
    #[serde(default)]
    pub(super) forgotten: bool,
    /// Not made by anyone's wish: an interpreter just started, to begin from.
    #[serde(default)]
    pub(super) template: bool,
}

impl Stored {
    pub(super) fn new(snapshot: Snapshot, memory: Vec<String>, disk: Vec<String>) -> Self {
        Self {
            version: VERSION,
            snapshot,
            memory,
            disk,
            folder: String::new(),
            environment: Vec::new(),
            kernel: host::kernel_release(),
            forgotten: false,
            template: false,
        }
    }
}

/// The memory of a snapshot to map.
pub(super) enum Pages {
    Written(Arc<Stored>),
    Early(Arc<Draft>, Arc<Memory>),
}

/// All snapshots of a folder.
pub(super) struct Store {
    pub(super) faults: Faults,
    folder: PathBuf,
    state: Mutex<State>,
    /// One snapshot is written at a time.
    writing: Mutex<()>,
    /// Told when the memory of one is written.
    developed: Condvar,
}

#[derive(Default)]
struct State {
    stored: BTreeMap<String, Arc<Stored>>,
    /// Which snapshot's pages the file of a device and inode is.
    files: BTreeMap<(u64, u64), String>,
    /// The same of those that branches map until their file is written. They outlive that as long as a
    /// branch does.
    early: BTreeMap<(u64, u64), (String, Weak<Memory>)>,
    /// Snapshots whose memory is still being written, and from when on it can be branched all the same.
    developing: BTreeMap<String, Option<Arc<Draft>>>,
}

impl Store {
    /// Reads a folder, and removes what a killed run left half written. Says what it could not read.
    pub(super) fn open(folder: PathBuf, faults: Faults) -> io::Result<(Self, Vec<Unreadable>)> {
        fs::create_dir_all(&folder)?;
        let mut state = State::default();
        let mut unreadable = Vec::new();
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            match fs::read(path.join(MANIFEST)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => disk::remove_all(&path)?,
                Err(error) => unreadable.push(Unreadable::new(&path, error)),
                Ok(bytes) => match serde_json::from_slice::<Stored>(&bytes) {
                    Ok(stored) if stored.version == VERSION => {
                        if let Ok(meta) = fs::metadata(path.join(PAGES)) {
                            state
                                .files
                                .insert((meta.dev(), meta.ino()), stored.snapshot.id.clone());
                        }
                        state
                            .stored
                            .insert(stored.snapshot.id.clone(), Arc::new(stored));
                    }
                    Ok(stored) => unreadable.push(Unreadable::new(
                        &path,
                        format!("version {} is not known here", stored.version),
                    )),
                    Err(error) => unreadable.push(Unreadable::new(&path, error)),
                },
            }
        }
        // Templates are made again.
        unreadable.retain(|one| !one.id.starts_with(TEMPLATE));
        Ok((
            Self {
                faults,
                folder,
                state: Mutex::new(state),
                writing: Mutex::default(),
                developed: Condvar::new(),
            },
            unreadable,
        ))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The folder of a snapshot.
    pub(super) fn path(&self, id: &str) -> PathBuf {
        self.folder.join(id)
    }

    pub(super) fn get(&self, id: &str) -> Option<Arc<Stored>> {
        self.state().stored.get(id).cloned()
    }

    /// A template whose name begins so.
    pub(super) fn template(&self, kind: &str) -> Option<Arc<Stored>> {
        self.state()
            .stored
            .values()
            .find(|stored| stored.template && stored.snapshot.id.starts_with(kind))
            .cloned()
    }

    /// Those that people made, oldest first.
    pub(super) fn list(&self) -> Vec<Snapshot> {
        let state = self.state();
        let shown = state
            .stored
            .values()
            .filter(|stored| !stored.forgotten && !stored.template);
        let mut all: Vec<_> = shown.map(|stored| stored.snapshot.clone()).collect();
        all.sort_by(|a, b| (a.created, &a.id).cmp(&(b.created, &b.id)));
        all
    }

    /// The layer that is the file of a device and inode.
    pub(super) fn layer_of(&self, device: u64, inode: u64) -> Option<String> {
        let state = self.state();
        let early = || {
            let (id, memory) = state.early.get(&(device, inode))?;
            (memory.strong_count() > 0).then(|| id.clone())
        };
        let written = state.files.get(&(device, inode)).cloned();
        written.or_else(early)
    }

    /// Takes in a snapshot whose parts are in its folder. [`keep`](Self::keep) makes it last.
    pub(super) fn add(&self, stored: Stored) -> io::Result<Arc<Stored>> {
        let id = stored.snapshot.id.clone();
        let meta = fs::metadata(self.path(&id).join(PAGES))?;
        let stored = Arc::new(stored);
        let mut state = self.state();
        state.files.insert((meta.dev(), meta.ino()), id.clone());
        state.stored.insert(id, Arc::clone(&stored));
        Ok(stored)
    }

    /// Takes in a snapshot whose memory is still to come; [`finish`](Self::finish) has to follow.
    pub(super) fn announce(&self, stored: Stored) {
        let id = stored.snapshot.id.clone();
        let mut state = self.state();
        state.developing.insert(id.clone(), None);
        state.stored.insert(id, Arc::new(stored));
    }

    /// All is known of an announced snapshot but the bytes of its memory.
    pub(super) fn draft(&self, id: &str, draft: &Arc<Draft>) {
        if let Some(place) = self.state().developing.get_mut(id) {
            *place = Some(Arc::clone(draft));
        }
        self.developed.notify_all();
    }

    /// The memory of an announced snapshot is there: what it is made of, and its bytes. Without it there
    /// is no such snapshot any more.
    pub(super) fn finish(&self, id: &str, memory: Option<(Vec<String>, u64)>) {
        let meta = fs::metadata(self.path(id).join(PAGES)).ok();
        let mut state = self.state();
        match (memory, meta, state.stored.get(id).cloned()) {
            (Some((memory, written)), Some(meta), Some(stored)) => {
                let mut stored = Stored {
                    memory,
                    ..Stored::clone(&stored)
                };
                stored.snapshot.memory_bytes = written;
                state.files.insert((meta.dev(), meta.ino()), id.to_owned());
                state.stored.insert(id.to_owned(), Arc::new(stored));
            }
            _ => {
                state.stored.remove(id);
                let _ = fs::remove_dir_all(self.path(id));
            }
        }
        state.developing.remove(id);
        drop(state);
        self.developed.notify_all();
    }

    /// The snapshot, once its memory is written.
    pub(super) fn wait(&self, id: &str) -> Option<Arc<Stored>> {
        let mut state = self.state();
        while state.developing.contains_key(id) {
            state = self
                .developed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.stored.get(id).cloned()
    }

    /// The memory of a snapshot to map: its file, or, where there is a pager, what will be in it. None if
    /// there is no such snapshot.
    pub(super) fn pages(&self, id: &str, pager: Option<&Pager>) -> io::Result<Option<Pages>> {
        let mut state = self.state();
        loop {
            let draft = match state.developing.get(id) {
                None => break,
                Some(draft) => draft.clone().zip(pager),
            };
            if let Some((draft, pager)) = draft {
                drop(state);
                if let Some(memory) = draft.memory(pager)? {
                    self.know(id, &memory)?;
                    return Ok(Some(Pages::Early(draft, memory)));
                }
                state = self.state();
                if !state.developing.contains_key(id) {
                    break;
                }
            }
            state = self
                .developed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        Ok(state.stored.get(id).cloned().map(Pages::Written))
    }

    /// From now on, who maps `memory` is built on this snapshot.
    fn know(&self, id: &str, memory: &Arc<Memory>) -> io::Result<()> {
        let identity = memory.identity()?;
        let mut state = self.state();
        state
            .early
            .retain(|_, (_, memory)| memory.strong_count() > 0);
        let known = (id.to_owned(), Arc::downgrade(memory));
        state.early.insert(identity, known);
        Ok(())
    }

    /// Writes a snapshot so that it survives the machine: its parts first, its manifest last.
    pub(super) fn keep(&self, id: &str) -> Result<Snapshot, StoreError> {
        let _one = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        self.write(id)
    }

    fn write(&self, id: &str) -> Result<Snapshot, StoreError> {
        let io = |doing| move |source| StoreError::Io { doing, source };
        let stored = self
            .wait(id)
            .ok_or_else(|| StoreError::NoSnapshot(id.into()))?;
        if stored.snapshot.durable {
            return Ok(stored.snapshot.clone());
        }
        let folder = self.path(id);
        let digest = sync_and_digest(&folder).map_err(io("writing a snapshot"))?;
        self.faults.at(Fault::KeepSynced);
        let mut stored = Stored::clone(&stored);
        // What it is built on has to last too; those were taken before it.
        for layer in stored
            .memory
            .iter()
            .chain(&stored.disk)
            .filter(|layer| *layer != id)
        {
            if self.get(layer).is_some_and(|layer| !layer.snapshot.durable) {
                self.write(layer)?;
            }
        }
        stored.snapshot.digest = digest;
        stored.snapshot.durable = true;
        self.write_manifest(&stored)
            .map_err(io("writing a snapshot's manifest"))?;
        let snapshot = stored.snapshot.clone();
        let mut state = self.state();
        // It may have been forgotten meanwhile.
        if let Some(now) = state.stored.get(id) {
            stored.forgotten = now.forgotten;
            state.stored.insert(id.into(), Arc::new(stored));
        }
        Ok(snapshot)
    }

    fn write_manifest(&self, stored: &Stored) -> io::Result<()> {
        let folder = self.path(&stored.snapshot.id);
        let part = folder.join("manifest.part");
        let mut file = File::create(&part)?;
        file.write_all(&serde_json::to_vec_pretty(stored)?)?;
        file.sync_all()?;
        self.faults.at(Fault::KeepPart);
        fs::rename(&part, folder.join(MANIFEST))?;
        self.faults.at(Fault::KeepRenamed);
        File::open(&folder)?.sync_all()
    }

    /// Forgets a snapshot.
    pub(super) fn forget(&self, id: &str) -> Result<(), StoreError> {
        let _one = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let stored = self
            .get(id)
            .filter(|stored| !stored.forgotten)
            .ok_or_else(|| StoreError::NoSnapshot(id.into()))?;
        let forgotten = Stored {
            forgotten: true,
            ..Stored::clone(&stored)
        };
        if forgotten.snapshot.durable {
            self.write_manifest(&forgotten)
                .map_err(|source| StoreError::Io {
                    doing: "forgetting a snapshot",
                    source,
                })?;
        }
        self.state().stored.insert(id.into(), Arc::new(forgotten));
        self.faults.at(Fault::Forgotten);
        Ok(())
    }

    /// Removes forgotten snapshots that nothing is built on, neither a snapshot nor one of the `live`
    /// worlds' origins. Gives the bytes taken back.
    pub(super) fn collect(&self, live: &BTreeSet<String>) -> io::Result<u64> {
        let _one = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = self.state();
        let mut needed: BTreeSet<String> = BTreeSet::new();
        let roots = state
            .stored
            .values()
            .filter(|stored| !stored.forgotten || live.contains(&stored.snapshot.id));
        for stored in roots {
            needed.insert(stored.snapshot.id.clone());
            needed.extend(stored.memory.iter().chain(&stored.disk).cloned());
        }
        let unneeded: Vec<String> = state
            .stored
            .keys()
            .filter(|id| !needed.contains(*id) && !state.developing.contains_key(*id))
            .cloned()
            .collect();
        let mut bytes = 0;
        for id in unneeded {
            let folder = self.path(&id);
            bytes += disk::size(&folder);
            // Without its manifest it is no snapshot, whatever happens next.
            let _ = fs::remove_file(folder.join(MANIFEST));
            self.faults.at(Fault::CollectHalf);
            disk::remove_all(&folder)?;
            state.stored.remove(&id);
            state.files.retain(|_, owner| *owner != id);
        }
        Ok(bytes)
    }

    /// Writes a snapshot and all that it is built on as a tar archive.
    pub(super) fn export(&self, id: &str, to: &mut dyn Write) -> Result<(), StoreError> {
        self.keep(id)?;
        let stored = self
            .get(id)
            .ok_or_else(|| StoreError::NoSnapshot(id.into()))?;
        let mut all: BTreeSet<&String> = stored.memory.iter().chain(&stored.disk).collect();
        all.insert(&stored.snapshot.id);
        let write = || -> io::Result<()> {
            let mut archive = tar::Builder::new(to);
            archive.follow_symlinks(false);
            archive.append_data(&mut header(id.len()), ARCHIVE, id.as_bytes())?;
            let mut replaced = Vec::new();
            for layer in all {
                let name = format!("{SNAPSHOTS}/{layer}");
                archive.append_dir_all(&name, self.path(layer))?;
                disk::opaque(
                    &self.path(layer).join(DISK),
                    &Path::new(&name).join(DISK),
                    &mut replaced,
                )?;
            }
            // Archives carry no attributes: folders that replace those below are listed.
            archive.append_data(&mut header(replaced.len()), REPLACED, &replaced[..])?;
            archive.finish()
        };
        write().map_err(|source| StoreError::Io {
            doing: "writing an archive",
            source,
        })
    }

    /// Reads an archive.
    pub(super) fn import(&self, from: &mut dyn Read) -> Result<Snapshot, StoreError> {
        let bad = |what: String| StoreError::Archive(what);
        let io = |source| StoreError::Io {
            doing: "reading an archive",
            source,
        };
        let mut archive = tar::Archive::new(from);
        archive.set_preserve_permissions(true);
        archive.set_preserve_ownerships(host::is_root());
        let (mut id, mut replaced, mut removed) = (String::new(), Vec::new(), Vec::new());
        let staging = self.folder.join(".import");
        let _ = disk::remove_all(&staging);
        fs::create_dir_all(&staging).map_err(io)?;
        let staging = staging.canonicalize().map_err(io)?;
        for entry in archive.entries().map_err(|error| bad(error.to_string()))? {
            let mut entry = entry.map_err(|error| bad(error.to_string()))?;
            let path = entry
                .path()
                .map_err(|error| bad(error.to_string()))?
                .into_owned();
            let header = entry.header();
            if path == Path::new(ARCHIVE) {
                (&mut entry).take(256).read_to_string(&mut id).map_err(io)?;
            } else if path == Path::new(REPLACED) {
                (&mut entry)
                    .take(1 << 20)
                    .read_to_end(&mut replaced)
                    .map_err(io)?;
            } else if header.entry_type().is_character_special() {
                let device = (
                    header.device_major().ok().flatten(),
                    header.device_minor().ok().flatten(),
                );
                if device != (Some(0), Some(0)) {
                    return Err(bad(format!("{} is a device", path.display())));
                }
                removed.push(path);
            } else if path.starts_with(SNAPSHOTS) && !header.entry_type().is_block_special() {
                // `unpack_in` refuses paths that lead elsewhere.
                entry
                    .unpack_in(&staging)
                    .map_err(|error| bad(error.to_string()))?;
            }
        }
        let inside = |path: &Path| -> Result<PathBuf, StoreError> {
            let parent = path.parent().unwrap_or(Path::new(""));
            let folder = staging.join(parent).canonicalize().map_err(io)?;
            let name = path.file_name().filter(|_| folder.starts_with(&staging));
            name.map(|name| folder.join(name))
                .ok_or_else(|| bad(format!("{} leads elsewhere", path.display())))
        };
        for path in removed {
            disk::mark_removed(&inside(&path)?).map_err(io)?;
        }
        for path in replaced
            .split(|byte| *byte == 0)
            .filter(|path| !path.is_empty())
        {
            disk::mark_opaque(&inside(Path::new(OsStr::from_bytes(path)))?).map_err(io)?;
        }
        let placed = self.place(&staging.join(SNAPSHOTS));
        let _ = fs::remove_dir_all(&staging);
        placed?;
        self.get(&id)
            .map(|stored| stored.snapshot.clone())
            .ok_or_else(|| bad("it holds no snapshot".into()))
    }

    /// Takes in the snapshots of a folder, each after a look at its digest.
    fn place(&self, staging: &Path) -> Result<(), StoreError> {
        let bad = |what: String| StoreError::Archive(what);
        let io = |source| StoreError::Io {
            doing: "reading an archive",
            source,
        };
        for entry in fs::read_dir(staging).map_err(|_| bad("it is empty".into()))? {
            let entry = entry.map_err(io)?;
            let id = entry.file_name().to_string_lossy().into_owned();
            if self.get(&id).is_some() {
                continue;
            }
            let bytes = fs::read(entry.path().join(MANIFEST))
                .map_err(|_| bad(format!("{id} has no manifest")))?;
            let stored: Stored =
                serde_json::from_slice(&bytes).map_err(|error| bad(format!("{id}: {error}")))?;
            let named = [&stored.snapshot.id]
                .into_iter()
                .chain(&stored.memory)
                .chain(&stored.disk);
            if let Some(odd) = named.into_iter().find(|id| !is_id(id)) {
                return Err(bad(format!("`{odd}` is no name of a snapshot")));
            }
            claim(&entry.path())?;
            if stored.version != VERSION || stored.snapshot.id != id {
                return Err(bad(format!(
                    "{id} is of version {} or of another name",
                    stored.version
                )));
            }
            let digest = sync_and_digest(&entry.path()).map_err(io)?;
            if digest != stored.snapshot.digest {
                return Err(bad(format!(
                    "{id} was changed: its digest is {digest}, and its manifest says {}",
                    stored.snapshot.digest
                )));
            }
            fs::rename(entry.path(), self.path(&id)).map_err(io)?;
            self.add(stored).map_err(io)?;
        }
        Ok(())
    }
}

/// Whether a name can only be that of a folder of ours.
fn is_id(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    name.bytes().all(plain)
        && ["snapshot-", "template-"]
            .iter()
            .any(|kind| name.starts_with(kind))
}

/// Makes an unpacked snapshot ours: its parts are nobody else's to read, and its disk belongs to the
/// worlds' users, never to one of the host's.
fn claim(folder: &Path) -> Result<(), StoreError> {
    let io = |source| StoreError::Io {
        doing: "taking in a snapshot",
        source,
    };
    fs::set_permissions(folder, fs::Permissions::from_mode(0o711)).map_err(io)?;
    let (user, group) = host::identity();
    lchown(folder, Some(user), Some(group)).map_err(io)?;
    for part in [PAGES, PLAN, MANIFEST] {
        let part = folder.join(part);
        if !fs::symlink_metadata(&part).map_err(io)?.is_file() {
            return Err(StoreError::Archive(format!(
                "{} is not a file",
                part.display()
            )));
        }
        fs::set_permissions(&part, fs::Permissions::from_mode(0o600)).map_err(io)?;
        lchown(&part, Some(user), Some(group)).map_err(io)?;
    }
    if host::is_root() {
        owned_by_worlds(&folder.join(DISK))
    } else {
        Ok(())
    }
}

fn owned_by_worlds(at: &Path) -> Result<(), StoreError> {
    let io = |source| StoreError::Io {
        doing: "taking in a snapshot",
        source,
    };
    let meta = fs::symlink_metadata(at).map_err(io)?;
    let worlds = FIRST_USER..FIRST_USER + USERS;
    if !worlds.contains(&meta.uid()) || !worlds.contains(&meta.gid()) {
        let (user, group) = (meta.uid(), meta.gid());
        return Err(StoreError::Archive(format!(
            "{} belongs to user {user} and group {group} of the host",
            at.display()
        )));
    }
    if meta.is_dir() {
        for entry in fs::read_dir(at).map_err(io)? {
            owned_by_worlds(&entry.map_err(io)?.path())?;
        }
    }
    Ok(())
}

fn header(length: usize) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(length as u64);
    header.set_mode(0o644);
    header
}

/// Writes everything under a folder to the disk; gives the digest of it all: of each path, kind and
/// content, in order of names, the manifest aside.
fn sync_and_digest(folder: &Path) -> io::Result<String> {
    let mut hash = Sha256::new();
    walk(folder, Path::new(""), &mut hash)?;
    Ok(format!("sha256:{:x}", hash.finalize()))
}

fn walk(root: &Path, inside: &Path, hash: &mut Sha256) -> io::Result<()> {
    let mut names: Vec<_> = fs::read_dir(root.join(inside))?
        .map(|entry| Ok(entry?.file_name()))
        .collect::<io::Result<_>>()?;
    names.sort();
    for name in names {
        let path = inside.join(&name);
        if inside.as_os_str().is_empty() && name.to_string_lossy().starts_with("manifest.") {
            continue;
        }
        let full = root.join(&path);
        let meta = fs::symlink_metadata(&full)?;
        hash.update(path.as_os_str().as_encoded_bytes());
        hash.update([0]);
        hash.update(meta.mode().to_le_bytes());
        if meta.is_dir() {
            hash.update([u8::from(disk::is_opaque(&full))]);
            walk(root, &path, hash)?;
        } else if meta.is_symlink() {
            hash.update(fs::read_link(&full)?.as_os_str().as_encoded_bytes());
        } else if meta.is_file() {
            let mut file = File::open(&full)?;
            let mut buffer = vec![0; 1 << 20];
            loop {
                let count = file.read(&mut buffer)?;
                if count == 0 {
                    break;
                }
                hash.update(&buffer[..count]);
            }
            file.sync_all()?;
        }
        hash.update([0]);
    }
    File::open(root.join(inside))?.sync_all()
}
