//! Keypair files as Solana's own command writes them: a JSON array of 64 numbers.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use solana_keypair::Keypair;

/// Bytes of a keypair: secret, then public key.
const KEYPAIR_BYTES: usize = 64;

/// A keypair file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WalletError {
    /// It cannot be read.
    #[error("the keypair {} cannot be read: {source}. `worldline chain wallet new` makes one", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It holds something else.
    #[error("{} is no keypair: a JSON array of {KEYPAIR_BYTES} bytes whose second half is the first's public key", path.display())]
    Format {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be written, or exists already: a key is never written over.
    #[error("the keypair {} cannot be written: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Reads a keypair.
pub fn read(path: &Path) -> Result<Keypair, WalletError> {
    let text = fs::read_to_string(path).map_err(|source| WalletError::Read {
        path: path.into(),
        source,
    })?;
    let bytes: Option<Vec<u8>> = serde_json::from_str(&text).ok();
    let key = bytes.and_then(|bytes| Keypair::try_from(&bytes[..]).ok());
    key.ok_or_else(|| WalletError::Format { path: path.into() })
}

/// Makes a keypair in a new file that only its owner can read.
pub fn create(path: &Path) -> Result<Keypair, WalletError> {
    let failed = |source| WalletError::Write {
        path: path.into(),
        source,
    };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let key = Keypair::new();
    let text = serde_json::to_string(&key.to_bytes().to_vec()).expect("numbers are JSON");
    let mut file = options.open(path).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    Ok(key)
}

/// Reads a keypair, and makes one where there is none.
pub fn open(path: &Path) -> Result<Keypair, WalletError> {
    if path.exists() {
        read(path)
    } else {
        create(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use solana_signer::Signer;

    #[test]
    fn a_key_is_what_solanas_command_writes_and_is_never_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/id.json");
        let made = create(&path).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let bytes: Vec<u8> = serde_json::from_str(&text).unwrap();
        assert_eq!((bytes.len(), &bytes[32..]), (64, made.pubkey().as_ref()));
        assert_eq!(read(&path).unwrap().pubkey(), made.pubkey());
        assert_eq!(open(&path).unwrap().pubkey(), made.pubkey());
        assert!(matches!(create(&path), Err(WalletError::Write { .. })));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[test]
    fn what_is_no_key_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("id.json");
        assert!(matches!(read(&path), Err(WalletError::Read { .. })));
        let short = format!("{:?}", [1; 63]);
        let unpaired = format!("{:?}", [1; 64]);
        for text in ["", "{}", &short, &unpaired] {
            fs::write(&path, text).unwrap();
            assert!(
                matches!(read(&path), Err(WalletError::Format { .. })),
                "{text}"
            );
        }
    }
}
