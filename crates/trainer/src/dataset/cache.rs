//! The dataset in one file: header, JSON, then the frames of all matches as they lie in memory.
//!
//! | offset | bytes | |
//! |---|---|---|
//! | 0 | 8 | `WLFRAMES` |
//! | 8 | 4 | format version |
//! | 12 | 4 | length of the JSON |
//! | 16 | 8 | XXH3 of everything after the header |
//! | 24 | | JSON ([`Index`]), then 96 bytes a frame |
//!
//! Written little-endian and used only on the machine that wrote it.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, BufReader, BufWriter, Read, Seek, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use super::{Dataset, Match, PlayerFrame, Reason};

/// Raised whenever what is read from a replay changes; caches of other versions are ignored.
pub const FORMAT_VERSION: u32 = 1;
const MAGIC: [u8; 8] = *b"WLFRAMES";
const HEADER_BYTES: u64 = 24;

/// Keeping or reading back the cache failed; the replays themselves are still good.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// The disk said no.
    #[error("the dataset cache '{path}' failed: {source}")]
    Io {
        /// The cache file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not a whole cache of this version.
    #[error("the dataset cache '{0}' is corrupt or of another version")]
    Corrupt(PathBuf),
}

/// The folder for caches of this program, if the system names one.
pub fn cache_folder() -> Option<PathBuf> {
    dirs::cache_dir().map(|folder| folder.join("worldline"))
}

pub(super) fn path(folder: &Path, key: &str) -> PathBuf {
    folder.join(format!("dataset-{key}.bin"))
}

/// Everything but the frames.
#[derive(Serialize, Deserialize)]
struct Index {
    matches: Vec<Entry>,
    skipped: BTreeMap<Reason, u64>,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    id: String,
    licence: String,
    stage: u8,
    characters: [u8; 2],
    frames: usize,
}

/// Writes beside the place and renames, so that readers see a whole file or none.
pub(super) fn write(path: &Path, dataset: &Dataset) -> Result<(), CacheError> {
    let failed = |source| CacheError::Io {
        path: path.to_owned(),
        source,
    };
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    let result = write_to(&temporary, dataset).and_then(|()| fs::rename(&temporary, path));
    if result.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    result.map_err(failed)
}

fn write_to(path: &Path, dataset: &Dataset) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let entries = dataset.matches.iter().map(|one| Entry {
        id: one.id.clone(),
        licence: one.licence.clone(),
        stage: one.stage,
        characters: one.characters,
        frames: one.frames.len(),
    });
    let index = Index {
        matches: entries.collect(),
        skipped: dataset.skipped.clone(),
    };
    let index = serde_json::to_vec(&index)?;

    let mut hasher = Xxh3::new();
    let mut file = BufWriter::new(File::create(path)?);
    file.seek(io::SeekFrom::Start(HEADER_BYTES))?;
    let frames = dataset
        .matches
        .iter()
        .map(|one| bytemuck::cast_slice(&one.frames));
    for part in std::iter::once(index.as_slice()).chain(frames) {
        hasher.update(part);
        file.write_all(part)?;
    }
    file.rewind()?;
    file.write_all(&MAGIC)?;
    file.write_all(&FORMAT_VERSION.to_le_bytes())?;
    file.write_all(&(index.len() as u32).to_le_bytes())?;
    file.write_all(&hasher.digest().to_le_bytes())?;
    file.into_inner()?.sync_all()
}

pub(super) fn read(path: &Path) -> Result<Dataset, CacheError> {
    let failed = |source| CacheError::Io {
        path: path.to_owned(),
        source,
    };
    let corrupt = || CacheError::Corrupt(path.to_owned());

    let file = File::open(path).map_err(failed)?;
    let size = file.metadata().map_err(failed)?.len();
    let mut file = BufReader::new(file);
    let mut header = [0; HEADER_BYTES as usize];
    file.read_exact(&mut header).map_err(failed)?;
    let word = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes"));
    let index_bytes = u64::from(word(12));
    if header[..8] != MAGIC || word(8) != FORMAT_VERSION || index_bytes > size - HEADER_BYTES {
        return Err(corrupt());
    }

    let mut index = vec![0; index_bytes as usize];
    file.read_exact(&mut index).map_err(failed)?;
    let mut hasher = Xxh3::new();
    hasher.update(&index);
    let index: Index = serde_json::from_slice(&index).map_err(|_| corrupt())?;

    let frames = index
        .matches
        .iter()
        .try_fold(0u64, |sum, one| sum.checked_add(one.frames as u64));
    let frame_bytes =
        frames.and_then(|count| count.checked_mul(size_of::<[PlayerFrame; 2]>() as u64));
    if frame_bytes != Some(size - HEADER_BYTES - index_bytes) {
        return Err(corrupt());
    }
    let mut dataset = Dataset {
        matches: Vec::new(),
        skipped: index.skipped,
    };
    for entry in index.matches {
        let mut frames = vec![[PlayerFrame::default(); 2]; entry.frames];
        let bytes = bytemuck::cast_slice_mut(&mut frames);
        file.read_exact(bytes).map_err(failed)?;
        hasher.update(bytes);
        dataset.matches.push(Match {
            id: entry.id,
            licence: entry.licence,
            stage: entry.stage,
            characters: entry.characters,
            frames,
        });
    }
    if hasher.digest().to_le_bytes() != header[16..24] {
        return Err(corrupt());
    }
    Ok(dataset)
}
