//! Archives of machines' snapshots: what is read of one, whoever wrote it.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use serde::de::DeserializeOwned;

use crate::error::StoreError;

/// Longest manifest, bytes.
const MAX_MANIFEST: u64 = 1 << 20;
/// What only the supervisor may read.
const PRIVATE: u32 = 0o600;

/// Reads a manifest, which nobody wrote longer than this.
pub(crate) fn manifest<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(MAX_MANIFEST + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_MANIFEST {
        return Err(io::Error::other("its manifest is too long"));
    }
    Ok(serde_json::from_slice(&bytes)?)
}

/// Unpacks the files of these names, which lie in a folder of the archive or in none, into an empty folder.
/// Whatever else there is, is not looked at.
pub(crate) fn unpack(
    from: &mut dyn Read,
    folder: &str,
    names: &[&str],
    onto: &Path,
) -> Result<(), StoreError> {
    let bad = |error: io::Error| StoreError::Archive(error.to_string());
    let io = |source| StoreError::Io {
        doing: "reading an archive",
        source,
    };
    let _ = fs::remove_dir_all(onto);
    fs::create_dir_all(onto).map_err(io)?;
    let mut archive = tar::Archive::new(from);
    for entry in archive.entries().map_err(bad)? {
        let mut entry = entry.map_err(bad)?;
        let path = entry.path().map_err(bad)?.into_owned();
        let name = path.strip_prefix(folder).ok();
        let Some(name) = names.iter().find(|known| name == Some(Path::new(known))) else {
            continue;
        };
        let mut options = File::options();
        options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(PRIVATE);
        let mut file = options.open(onto.join(name)).map_err(io)?;
        copy(&mut entry, &mut file)?;
        file.sync_all().map_err(io)?;
    }
    Ok(())
}

/// Writes what comes, leaving holes where it is zero.
fn copy(from: &mut impl Read, to: &mut File) -> Result<(), StoreError> {
    let io = |source| StoreError::Io {
        doing: "reading an archive",
        source,
    };
    let mut buffer = vec![0; 64 << 10];
    let mut at = 0u64;
    loop {
        let read = from.read(&mut buffer);
        let count = read.map_err(|error| StoreError::Archive(error.to_string()))?;
        if count == 0 {
            return to.set_len(at).map_err(io);
        }
        if buffer[..count].iter().any(|&byte| byte != 0) {
            to.write_all_at(&buffer[..count], at).map_err(io)?;
        }
        at += count as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(entries: &[(&str, &[u8])]) -> Vec<u8> {
        let mut archive = tar::Builder::new(Vec::new());
        for (name, bytes) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o777);
            archive.append_data(&mut header, name, *bytes).unwrap();
        }
        archive.into_inner().unwrap()
    }

    #[test]
    fn only_files_of_known_names_are_unpacked() {
        let folder = tempfile::tempdir().unwrap();
        let onto = folder.path().join("onto");
        let bytes = packed(&[
            ("in/a", b"one"),
            ("a", b"two"),
            ("in/deep/a", b"three"),
            ("in/b", b"four"),
        ]);
        unpack(&mut &bytes[..], "in", &["a"], &onto).unwrap();
        assert_eq!(fs::read(onto.join("a")).unwrap(), b"one");
        assert_eq!(fs::read_dir(&onto).unwrap().count(), 1);
        unpack(&mut &bytes[..], "", &["a"], &onto).unwrap();
        assert_eq!(fs::read(onto.join("a")).unwrap(), b"two");
        assert!(unpack(&mut &b"junk"[..], "", &["a"], &onto).is_err());
    }

    #[test]
    fn a_manifest_without_an_end_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("manifest");
        fs::write(&path, "[1, 2]").unwrap();
        assert_eq!(manifest::<Vec<u32>>(&path).unwrap(), [1, 2]);
        File::create(&path).unwrap().set_len(1 << 40).unwrap();
        assert!(manifest::<Vec<u32>>(&path).is_err());
    }
}
