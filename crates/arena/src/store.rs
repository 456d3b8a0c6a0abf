//! The arena's folder: replays that stay, journals of matches that run.
//!
//! A replay appears under its name only when it is whole and on the disk: it is written beside,
//! forced, renamed, and the folder forced. Then its journal goes.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use crate::fault::{self, Fault};
use crate::id::MatchId;
use crate::limits::{MAX_LISTED_REPLAYS, MAX_REPLAY_BYTES};
use crate::recording::{Recording, ReplayError};
use crate::view::{ResultView, seat_name};

/// The folder of one arena. Only one process may have it open.
#[derive(Debug)]
pub struct Store {
    replays: PathBuf,
    journals: PathBuf,
    pub(crate) fault: Arc<Fault>,
    _lock: Option<File>,
}

/// The folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file or folder could not be made, read or written.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process plays from this folder.
    #[error("{} is in use by another worldline: stop it, or choose another folder with --data", .0.display())]
    Locked(PathBuf),
    /// No replay of this id.
    #[error("there is no replay {0}: `worldline replay list` shows which there are")]
    NoReplay(MatchId),
    /// The file is not a readable replay.
    #[error("replay {0}: {1}")]
    Replay(MatchId, ReplayError),
}

/// A stored replay in a list.
#[derive(Clone, Debug, Serialize)]
pub struct ReplayView {
    /// The match's id, also the replay's.
    pub id: MatchId,
    /// Merkle root of the world's cartridge, hexadecimal.
    pub world_root: String,
    /// The world's id, when it is on the shelf.
    pub world: Option<String>,
    /// When the match was made, seconds of Unix time.
    pub created: i64,
    /// Who sat where.
    pub seats: [&'static str; 2],
    /// How it ended.
    pub result: ResultView,
    /// Size of the file.
    pub bytes: u64,
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_path_buf();
    move |source| StoreError::Io { what, path, source }
}

impl Store {
    /// Opens, and if needed makes, the folder, and locks it.
    pub fn open(folder: &Path, fault: Arc<Fault>) -> Result<Self, StoreError> {
        let (replays, journals) = (folder.join("replays"), folder.join("journal"));
        for path in [&replays, &journals] {
            fs::create_dir_all(path).map_err(failed("make the folder", path))?;
        }
        let path = folder.join("lock");
        let lock = File::create(&path).map_err(failed("make", &path))?;
        lock.try_lock()
            .map_err(|_| StoreError::Locked(folder.into()))?;
        Ok(Self {
            replays,
            journals,
            fault,
            _lock: Some(lock),
        })
    }

    /// Opens the folder to look at its replays, also while an arena has it open.
    pub fn browse(folder: &Path) -> Self {
        let (replays, journals) = (folder.join("replays"), folder.join("journal"));
        Self {
            replays,
            journals,
            fault: Arc::default(),
            _lock: None,
        }
    }

    /// Where replay `id` stands, or would.
    pub fn replay_path(&self, id: MatchId) -> PathBuf {
        self.replays.join(format!("{id}.wlr"))
    }

    fn journal_path(&self, id: MatchId) -> PathBuf {
        self.journals.join(format!("{id}.wlj"))
    }

    /// Whether this id is used by a replay or a journal.
    pub(crate) fn knows(&self, id: MatchId) -> bool {
        self.replay_path(id).exists() || self.journal_path(id).exists()
    }

    /// The bytes of a replay.
    pub fn replay_bytes(&self, id: MatchId) -> Result<Vec<u8>, StoreError> {
        let path = self.replay_path(id);
        match fs::read(&path) {
            Ok(bytes) if bytes.len() <= MAX_REPLAY_BYTES => Ok(bytes),
            Ok(_) => Err(StoreError::Replay(
                id,
                ReplayError::Body("the file is too large"),
            )),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(StoreError::NoReplay(id)),
            Err(error) => Err(failed("read", &path)(error)),
        }
    }

    /// A replay.
    pub fn replay(&self, id: MatchId) -> Result<Recording, StoreError> {
        Recording::decode(&self.replay_bytes(id)?).map_err(|error| StoreError::Replay(id, error))
    }

    /// The newest replays; unreadable files are left out.
    pub fn list(&self) -> Result<Vec<ReplayView>, StoreError> {
        let mut views: Vec<_> = entries(&self.replays, "wlr")?
            .into_iter()
            .filter_map(|(id, path)| replay_view(id, &path))
            .collect();
        views.sort_by_key(|view| std::cmp::Reverse((view.created, view.id)));
        views.truncate(MAX_LISTED_REPLAYS);
        Ok(views)
    }

    /// Stores a replay, replacing an older one of the same match, and removes the journal.
    pub(crate) fn keep(&self, id: MatchId, recording: &Recording) -> Result<(), StoreError> {
        let (path, beside) = (
            self.replay_path(id),
            self.replays.join(format!("{id}.part")),
        );
        let mut file = File::create(&beside).map_err(failed("make", &beside))?;
        file.write_all(&recording.encode())
            .and_then(|()| file.sync_all())
            .map_err(failed("write", &beside))?;
        self.fault.point(fault::REPLAY_WRITTEN);
        fs::rename(&beside, &path)
            .and_then(|()| File::open(&self.replays)?.sync_all())
            .map_err(failed("put in place", &path))?;
        self.fault.point(fault::REPLAY_RENAMED);
        self.drop_journal(id)?;
        self.fault.point(fault::JOURNAL_REMOVED);
        Ok(())
    }

    /// A new, private journal file.
    pub(crate) fn create_journal(&self, id: MatchId) -> Result<File, StoreError> {
        let path = self.journal_path(id);
        let mut options = OpenOptions::new();
        options.append(true).create(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options.open(&path).map_err(failed("make", &path))
    }

    pub(crate) fn journal_failed(&self, id: MatchId, source: io::Error) -> StoreError {
        failed("append to", &self.journal_path(id))(source)
    }

    /// Journals left behind by a process that died, with their bytes.
    pub(crate) fn journals(&self) -> Result<Vec<(MatchId, Vec<u8>)>, StoreError> {
        let mut journals = Vec::new();
        for (id, path) in entries(&self.journals, "wlj")? {
            journals.push((id, fs::read(&path).map_err(failed("read", &path))?));
        }
        Ok(journals)
    }

    /// Replaces a journal by its good part, so that a torn tail is not appended to.
    pub(crate) fn rewrite_journal(&self, id: MatchId, bytes: &[u8]) -> Result<(), StoreError> {
        let (path, beside) = (
            self.journal_path(id),
            self.journals.join(format!("{id}.part")),
        );
        fs::write(&beside, bytes)
            .and_then(|()| fs::rename(&beside, &path))
            .map_err(failed("rewrite", &path))
    }

    pub(crate) fn drop_journal(&self, id: MatchId) -> Result<(), StoreError> {
        let path = self.journal_path(id);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed("remove", &path)(error))
            }
            _ => Ok(()),
        }
    }
}

fn entries(folder: &Path, extension: &str) -> Result<Vec<(MatchId, PathBuf)>, StoreError> {
    let listing = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        listing => listing.map_err(failed("list", folder))?,
    };
    let paths = listing.filter_map(|entry| Some(entry.ok()?.path()));
    Ok(paths
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .filter_map(|path| Some((path.file_stem()?.to_str()?.parse().ok()?, path)))
        .collect())
}

fn replay_view(id: MatchId, path: &Path) -> Option<ReplayView> {
    use io::Read;
    let mut head = vec![0; size_of::<worldline_abi::ReplayHeader>()];
    let mut file = File::open(path).ok()?;
    file.read_exact(&mut head).ok()?;
    let header = Recording::decode_header(&head).ok()?;
    Some(ReplayView {
        id,
        world_root: crate::id::hex(&header.session.world_root),
        world: None,
        created: header.session.created,
        seats: header.session.seats.map(seat_name),
        result: ResultView::new(&header.result, Some(id)),
        bytes: file.metadata().ok()?.len(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use worldline_abi::{Session, SessionState};

    fn store(folder: &Path) -> Store {
        Store::open(folder, Arc::default()).unwrap()
    }

    #[test]
    fn a_replay_is_kept_listed_and_replaces_its_journal() {
        let folder = tempfile::tempdir().unwrap();
        let (store, id) = (store(folder.path()), MatchId::random());
        store
            .create_journal(id)
            .unwrap()
            .write_all(b"bytes")
            .unwrap();
        assert_eq!(store.journals().unwrap(), [(id, b"bytes".to_vec())]);
        let recording = Recording::new(Session::default(), SessionState::default());
        store.keep(id, &recording).unwrap();
        assert!(store.journals().unwrap().is_empty() && store.knows(id));
        assert_eq!(store.replay(id).unwrap(), recording);
        assert_eq!(store.list().unwrap()[0].id, id);
    }

    #[test]
    fn strangers_in_the_folder_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path());
        for name in ["notes.txt", "x.wlr", "ABCDEF.wlr"] {
            fs::write(folder.path().join("replays").join(name), b"?").unwrap();
        }
        assert!(store.list().unwrap().is_empty());
        let id: MatchId = "ABCDEF".parse().unwrap();
        assert!(matches!(store.replay(id), Err(StoreError::Replay(..))));
        assert!(matches!(
            store.replay(MatchId::random()),
            Err(StoreError::NoReplay(_))
        ));
    }

    #[test]
    fn a_folder_is_used_by_one_arena_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let first = store(folder.path());
        let second = Store::open(folder.path(), Arc::default());
        assert!(matches!(second, Err(StoreError::Locked(_))));
        drop(first);
        store(folder.path());
    }
}
