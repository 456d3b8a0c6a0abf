//! A backend's data folder, which one program at a time uses.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use crate::StoreError;

/// How long a folder may be locked still: a program that this one just starts, or one that was killed had just
/// started, holds all of its open files until it is another.
const PATIENCE: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(5);

/// A data folder, for as long as this lives.
#[derive(Debug)]
pub(crate) struct Folder {
    /// Where.
    pub(crate) path: PathBuf,
    /// What the names of control groups of its worlds begin with: other folders' have another.
    pub(crate) prefix: String,
    _lock: File,
}

impl Folder {
    /// Takes a folder for the backend of this name; makes it when it does not exist.
    pub(crate) fn take(path: &Path, backend: &str) -> Result<Self, StoreError> {
        let io = |doing| move |source| StoreError::Io { doing, source };
        make_passable(path).map_err(io("making the data folder"))?;
        let path = path.canonicalize().map_err(io("opening the data folder"))?;
        let lock = File::create(path.join("lock")).map_err(io("opening the data folder"))?;
        let until = Instant::now() + PATIENCE;
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if Instant::now() < until => thread::sleep(POLL),
                Err(TryLockError::WouldBlock) => {
                    return Err(StoreError::Locked(path.display().to_string()));
                }
                Err(TryLockError::Error(source)) => {
                    return Err(io("locking the data folder")(source));
                }
            }
        }
        let named = [backend.as_bytes(), path.as_os_str().as_encoded_bytes()].concat();
        let prefix = format!("{:.8}", format!("{:x}", Sha256::digest(named)));
        Ok(Self {
            path,
            prefix,
            _lock: lock,
        })
    }
}

/// A folder that worlds can pass through, as far as this program owns it, and that others cannot list.
pub(crate) fn make_passable(folder: &Path) -> io::Result<()> {
    const PASS: u32 = 0o711;
    if !folder.exists() {
        fs::create_dir_all(folder)?;
        fs::set_permissions(folder, fs::Permissions::from_mode(PASS))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_whose_lock_is_held_for_a_moment_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let first = Folder::take(folder.path(), "one").unwrap();
        let held = thread::spawn(move || {
            thread::sleep(PATIENCE / 10);
            drop(first);
        });
        let second = Folder::take(folder.path(), "two").unwrap();
        held.join().unwrap();
        let third = Folder::take(folder.path(), "two");
        assert!(matches!(third, Err(StoreError::Locked(_))));
        drop(second);
        assert!(Folder::take(folder.path(), "two").is_ok());
    }
}
