//! Files with holes: memory that nobody wrote is not written either.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use sha2::{Digest, Sha256};

use crate::host;

/// Bytes that are moved at a time.
const PIECE: usize = 1 << 20;

/// Calls `each` with every piece that is not a hole, and where it is.
fn pieces(of: &File, mut each: impl FnMut(u64, &[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut buffer = Vec::new();
    let mut at = 0;
    while let Some((start, end)) = host::next_data(of, at)? {
        at = start;
        while at < end {
            let count = PIECE.min((end - at) as usize);
            buffer.resize(count, 0);
            of.read_exact_at(&mut buffer, at)?;
            each(at, &buffer)?;
            at += count as u64;
        }
    }
    Ok(())
}

/// Makes `to` a copy of `from`: sharing its blocks where the file system can, else without its holes.
pub(super) fn copy(from: &File, to: &File) -> io::Result<()> {
    if host::reflink(from, to).is_ok() {
        return Ok(());
    }
    to.set_len(from.metadata()?.len())?;
    lay_over(from, to).map(drop)
}

/// Writes all that is not a hole in `from` over `to`. Gives how much it was.
pub(super) fn lay_over(from: &File, to: &File) -> io::Result<u64> {
    let mut bytes = 0;
    pieces(from, |at, piece| {
        bytes += piece.len() as u64;
        to.write_all_at(piece, at)
    })?;
    Ok(bytes)
}

/// Adds a file's length and all of it that is not zero to a digest: where its holes are makes no
/// difference.
pub(super) fn digest(of: &File, into: &mut Sha256) -> io::Result<()> {
    const PAGE: usize = 4096;
    into.update(of.metadata()?.len().to_le_bytes());
    pieces(of, |at, piece| {
        for (number, page) in piece.chunks(PAGE).enumerate() {
            if page.iter().any(|&byte| byte != 0) {
                into.update((at + (number * PAGE) as u64).to_le_bytes());
                into.update(page);
            }
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_over_its_base_is_the_whole() {
        let file = || tempfile::tempfile().unwrap();
        let (base, difference, whole) = (file(), file(), file());
        for one in [&base, &difference] {
            one.set_len(8 << 20).unwrap();
        }
        base.write_all_at(&[1; 8192], 0).unwrap();
        base.write_all_at(&[2; 4096], 5 << 20).unwrap();
        difference.write_all_at(&[3; 4096], 4096).unwrap();
        copy(&base, &whole).unwrap();
        assert_eq!(lay_over(&difference, &whole).unwrap(), 4096);
        let mut bytes = vec![0; 8 << 20];
        whole.read_exact_at(&mut bytes, 0).unwrap();
        assert!(bytes[..4096].iter().all(|&byte| byte == 1));
        assert!(bytes[4096..8192].iter().all(|&byte| byte == 3));
        assert_eq!((bytes[5 << 20], bytes[6 << 20]), (2, 0));
    }

    #[test]
    fn a_digest_does_not_know_holes_from_zeros() {
        let of = |written: bool| {
            let file = tempfile::tempfile().unwrap();
            file.set_len(1 << 20).unwrap();
            if written {
                file.write_all_at(&[0; 65536], 0).unwrap();
            }
            file.write_all_at(b"x", 70_000).unwrap();
            let mut hash = Sha256::new();
            digest(&file, &mut hash).unwrap();
            hash.finalize()
        };
        assert_eq!(of(true), of(false));
    }
}
