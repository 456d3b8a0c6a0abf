//! Layers of a world's disk: copied as they are, with the marks that an overlay leaves for what was
//! removed (a device 0/0) or replaced (an attribute).

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, lchown, symlink};
use std::path::Path;

use super::sys;
use crate::host;

const OPAQUE: &std::ffi::CStr = c"user.overlay.opaque";

/// Copies the contents of a layer over those of another, the way an overlay shows them: what the new
/// one removed or replaced is removed from the old one. Gives the bytes of files copied.
pub(super) fn lay_over(from: &Path, onto: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        bytes += place(
            &entry.path(),
            &onto.join(entry.file_name()),
            &entry.metadata()?,
        )?;
    }
    Ok(bytes)
}

/// Whether a layer changes nothing.
pub(super) fn is_empty(layer: &Path) -> io::Result<bool> {
    Ok(fs::read_dir(layer)?.next().is_none())
}

/// Whether a folder replaces the one below it, and does not merge with it.
pub(super) fn is_opaque(folder: &Path) -> bool {
    sys::attribute(folder, OPAQUE).is_some()
}

/// Makes a folder replace the one below it.
pub(super) fn mark_opaque(folder: &Path) -> io::Result<()> {
    sys::set_attribute(folder, OPAQUE, b"y")
}

/// Marks a file of the layers below as removed.
pub(super) fn mark_removed(at: &Path) -> io::Result<()> {
    host::make_node(at, libc::S_IFCHR, 0)?;
    let owner = fs::symlink_metadata(at.parent().unwrap_or(at))?;
    lchown(at, Some(owner.uid()), Some(owner.gid()))
}

/// Appends the folders under `at` that replace those below them, under the name `named`, each ended by a
/// zero.
pub(super) fn opaque(at: &Path, named: &Path, list: &mut Vec<u8>) -> io::Result<()> {
    for entry in fs::read_dir(at)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            let named = named.join(entry.file_name());
            if is_opaque(&entry.path()) {
                list.extend(named.as_os_str().as_encoded_bytes());
                list.push(0);
            }
            opaque(&entry.path(), &named, list)?;
        }
    }
    Ok(())
}

/// Removes a folder with all that is in it, even where its owner shut himself out.
pub(super) fn remove_all(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_all(folder)?;
            fs::remove_dir_all(folder)
        }
        other => other,
    }
}

fn open_all(folder: &Path) -> io::Result<()> {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            open_all(&entry.path())?;
        }
    }
    Ok(())
}

/// Bytes that a folder's files take, each once.
pub(super) fn size(folder: &Path) -> u64 {
    const BLOCK: u64 = 512;
    let Ok(entries) = fs::read_dir(folder) else {
        return 0;
    };
    entries
        .flatten()
        .filter_map(|entry| Some((entry.path(), entry.metadata().ok()?)))
        .map(|(path, meta)| meta.blocks() * BLOCK + if meta.is_dir() { size(&path) } else { 0 })
        .sum()
}

fn place(from: &Path, to: &Path, meta: &Metadata) -> io::Result<u64> {
    let there = fs::symlink_metadata(to).ok();
    let kind = meta.file_type();
    if kind.is_dir() {
        let opaque = sys::attribute(from, OPAQUE);
        let fresh = match there {
            Some(there) if there.is_dir() && opaque.is_none() => false,
            Some(there) => {
                remove(to, &there)?;
                true
            }
            None => true,
        };
        if fresh {
            fs::create_dir(to)?;
        }
        if let Some(mark) = &opaque {
            sys::set_attribute(to, OPAQUE, mark)?;
        }
        let bytes = lay_over(from, to)?;
        dress(to, meta)?;
        return Ok(bytes);
    }
    if let Some(there) = there {
        remove(to, &there)?;
    }
    let mut bytes = 0;
    if kind.is_symlink() {
        symlink(fs::read_link(from)?, to)?;
        lchown(to, Some(meta.uid()), Some(meta.gid()))?;
        return Ok(0);
    } else if kind.is_file() {
        bytes = copy(from, to)?;
    } else if kind.is_char_device() || kind.is_fifo() {
        host::make_node(to, meta.mode(), meta.rdev())?;
    } else {
        return Ok(0); // A socket is nothing without the process that listens on it.
    }
    dress(to, meta)?;
    Ok(bytes)
}

fn copy(from: &Path, to: &Path) -> io::Result<u64> {
    let (mut source, mut target) = (File::open(from)?, File::create_new(to)?);
    let length = source.metadata()?.len();
    if host::reflink(&source, &target).is_err() {
        io::copy(&mut source, &mut target)?;
    }
    Ok(length)
}

/// Owner, mode and times of the original.
fn dress(to: &Path, meta: &Metadata) -> io::Result<()> {
    lchown(to, Some(meta.uid()), Some(meta.gid()))?;
    fs::set_permissions(to, fs::Permissions::from_mode(meta.mode() & 0o7777))?;
    sys::set_times(
        to,
        [
            (meta.atime(), meta.atime_nsec()),
            (meta.mtime(), meta.mtime_nsec()),
        ],
    )
}

fn remove(at: &Path, meta: &Metadata) -> io::Result<()> {
    if meta.is_dir() {
        fs::remove_dir_all(at)
    } else {
        fs::remove_file(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_layer_wins() {
        let folder = tempfile::tempdir().unwrap();
        let (lower, upper) = (folder.path().join("lower"), folder.path().join("upper"));
        for (path, text) in [
            ("lower/a/kept", "1"),
            ("lower/a/changed", "1"),
            ("upper/a/changed", "22"),
            ("upper/b/new", "3"),
        ] {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        assert_eq!(lay_over(&upper, &lower).unwrap(), 3);
        assert_eq!(fs::read_to_string(lower.join("a/kept")).unwrap(), "1");
        assert_eq!(fs::read_to_string(lower.join("a/changed")).unwrap(), "22");
        assert_eq!(fs::read_to_string(lower.join("b/new")).unwrap(), "3");
        assert!(!is_empty(&lower).unwrap());
    }
}
