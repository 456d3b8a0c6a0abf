//! Ghost files: one human's pads of one match, to be played against.
//!
//! | bytes | what |
//! |---|---|
//! | 0..8 | `WLGHOST` and the format version, 1 |
//! | 8..12 | pads that follow, u32 |
//! | 12 | stage they were recorded on |
//! | 13 | character they were recorded with |
//! | 14..16 | zero |
//! | 16.. | zlib: 12 bytes a pad, as `abi::Pad` |

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use worldline_abi::Pad;

use crate::limits::MAX_GHOST_BYTES;

const MAGIC: [u8; 8] = *b"WLGHOST\x01";
const HEADER: usize = 16;

/// One human's recorded pads, frame by frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ghost {
    /// The stage they were recorded on.
    pub stage: u8,
    /// The character they were recorded with.
    pub character: u8,
    /// One pad a frame; never empty.
    pub pads: Vec<Pad>,
}

/// A ghost file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum GhostError {
    /// The file could not be opened or read.
    #[error("cannot read ghost {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The bytes are not a ghost of this version.
    #[error("cannot read ghost {}: {problem}; make it again or remove the file", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
}

impl Ghost {
    /// Reads a ghost file.
    pub fn open(path: &Path) -> Result<Self, GhostError> {
        let bytes = std::fs::read(path).map_err(|source| GhostError::Io {
            path: path.into(),
            source,
        })?;
        Self::decode(&bytes).map_err(|problem| GhostError::Format {
            path: path.into(),
            problem,
        })
    }

    /// Reads the bytes of a ghost file; the error says what is wrong with them.
    pub fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        let (header, body) = bytes
            .split_at_checked(HEADER)
            .ok_or("it is shorter than its header")?;
        if header[..7] != MAGIC[..7] {
            return Err("it is not a ghost file");
        }
        if header[7] != MAGIC[7] {
            return Err("its format version is not 1");
        }
        let count = u32::from_le_bytes([header[8], header[9], header[10], header[11]]) as usize;
        let size = count * size_of::<Pad>();
        if count == 0 || size > MAX_GHOST_BYTES {
            return Err("it holds no pads, or too many");
        }
        let mut raw = Vec::new();
        ZlibDecoder::new(body)
            .take(size as u64 + 1)
            .read_to_end(&mut raw)
            .map_err(|_| "its compressed pads are corrupt")?;
        if raw.len() != size {
            return Err("it holds fewer or more pads than it says");
        }
        let pads: Vec<Pad> = bytemuck::allocation::pod_collect_to_vec(&raw);
        if !pads.iter().all(Pad::is_valid) {
            return Err("a pad is out of range");
        }
        Ok(Self {
            stage: header[12],
            character: header[13],
            pads,
        })
    }

    /// The bytes of a ghost file.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend((self.pads.len() as u32).to_le_bytes());
        bytes.extend([self.stage, self.character, 0, 0]);
        let mut encoder = ZlibEncoder::new(bytes, Compression::best());
        encoder
            .write_all(bytemuck::cast_slice(&self.pads))
            .and_then(|()| encoder.finish())
            .expect("writing to memory does not fail")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ghost() -> Ghost {
        let pads = (0..600)
            .map(|n| Pad {
                stick: [n * 50, -n],
                buttons: 0x100,
                ..Pad::default()
            })
            .collect();
        Ghost {
            stage: 31,
            character: 2,
            pads,
        }
    }

    #[test]
    fn there_and_back() {
        assert_eq!(Ghost::decode(&ghost().encode()).unwrap(), ghost());
    }

    #[test]
    fn damage_is_an_error_never_a_panic() {
        let good = ghost().encode();
        for end in 0..good.len() {
            assert!(Ghost::decode(&good[..end]).is_err());
        }
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x55;
            let _ = Ghost::decode(&bad);
        }
        let mut version = good.clone();
        version[7] = 9;
        assert_eq!(
            Ghost::decode(&version).unwrap_err(),
            "its format version is not 1"
        );
        let mut wild = ghost();
        wild.pads[3].stick[0] = i16::MIN;
        assert_eq!(
            Ghost::decode(&wild.encode()).unwrap_err(),
            "a pad is out of range"
        );
    }
}
