//! Keys in files, as Solana's own tools write them: a JSON array of 64 numbers.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use solana_keypair::Keypair;

/// A key file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFile {
    /// The operating system said no.
    #[error("{path}: cannot be read or written: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// It holds something else.
    #[error("{0}: is no key pair: a JSON array of 64 numbers is expected")]
    NoKey(PathBuf),
}

/// Reads a key, or makes one that only this user may read.
pub(crate) fn open(path: &Path) -> Result<Keypair, KeyFile> {
    let io = |error| KeyFile::Io {
        path: path.into(),
        error,
    };
    if path.exists() {
        let text = fs::read(path).map_err(io)?;
        let bytes: Option<Vec<u8>> = serde_json::from_slice(&text).ok();
        let key = bytes.and_then(|bytes| Keypair::try_from(bytes.as_slice()).ok());
        return key.ok_or_else(|| KeyFile::NoKey(path.into()));
    }
    let key = Keypair::new();
    write(path, &key).map_err(io)?;
    Ok(key)
}

fn write(path: &Path, key: &Keypair) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let unfinished = path.with_extension("tmp");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file: File = options.open(&unfinished)?;
    file.write_all(serde_json::to_string(&key.to_bytes().to_vec())?.as_bytes())?;
    file.sync_all()?;
    fs::rename(unfinished, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use solana_signer::Signer;

    #[test]
    fn a_key_is_made_once_and_read_as_solanas_tools_write_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.json");
        let made = open(&path).unwrap();
        assert_eq!(open(&path).unwrap().pubkey(), made.pubkey());
        let read = solana_keypair::read_keypair_file(&path).unwrap();
        assert_eq!(read.pubkey(), made.pubkey());
        fs::write(&path, "[1,2]").unwrap();
        assert!(matches!(open(&path), Err(KeyFile::NoKey(_))));
    }
}
