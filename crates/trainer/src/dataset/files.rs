use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use xxhash_rust::xxh3::Xxh3;

use super::{
    Dataset, Licences, Match, Reason, ReplayError, cache, manifest,
    replay::{MAX_REPLAY_BYTES, read_replay},
};
use crate::parallel::{self, progress};

/// Which replays, and which of them may be used.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// Files, folders (searched to any depth for `.slp` and `.slpz`) and globs.
    pub paths: Vec<String>,
    /// Which licences may be used.
    pub licences: Licences,
    /// Where to cache what was read; `None` reads anew and keeps nothing.
    pub cache: Option<PathBuf>,
}

/// The sources as a whole are unusable. (One bad replay is not: see [`Reason`].)
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A pattern is malformed.
    #[error("the pattern '{pattern}' cannot be understood: {source}")]
    Pattern {
        /// The pattern as given.
        pattern: String,
        /// What is wrong with it.
        source: glob::PatternError,
    },
    /// Nothing lies there.
    #[error("no .slp or .slpz replay at '{0}'; give a file, a folder or a glob that has some")]
    Nothing(String),
    /// A folder cannot be listed.
    #[error("listing '{path}' failed: {source}")]
    List {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A manifest is there but does not parse.
    #[error(
        "the manifest in '{folder}' cannot be read (it needs the columns file and licence): {source}"
    )]
    Manifest {
        /// The folder it lies in.
        folder: PathBuf,
        /// Why.
        source: csv::Error,
    },
}

/// A replay that exists, with its licence (empty: none stated).
struct File {
    path: PathBuf,
    licence: String,
}

impl Sources {
    /// These paths, any licence, cached in the user's cache folder.
    pub fn new(paths: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            paths: paths.into_iter().map(Into::into).collect(),
            licences: Licences::Any,
            cache: cache::cache_folder(),
        }
    }

    /// Reads every replay, or the cache of an earlier reading if no file has changed since.
    /// Shows a progress bar on a terminal.
    ///
    /// # Errors
    /// When a path leads nowhere or a manifest is broken. Bad replays are counted instead.
    pub fn load(&self) -> Result<Dataset, SourceError> {
        let (files, unlicensed) = self.files()?;
        let cached = self
            .cache
            .as_ref()
            .map(|folder| cache::path(folder, &key(&files)));
        if let Some(dataset) = cached.as_ref().and_then(|path| cache::read(path).ok()) {
            return Ok(with_unlicensed(dataset, unlicensed));
        }
        let dataset = read_all(&files);
        if let Some(path) = cached
            && let Err(error) = cache::write(&path, &dataset)
        {
            eprintln!("{error}; the replays will be read again next time");
        }
        Ok(with_unlicensed(dataset, unlicensed))
    }

    /// The replays to read, ordered by path, and how many the licences leave out.
    fn files(&self) -> Result<(Vec<File>, u64), SourceError> {
        let mut paths = Vec::new();
        for pattern in &self.paths {
            let found = find(pattern)?;
            if found.is_empty() {
                return Err(SourceError::Nothing(pattern.clone()));
            }
            paths.extend(found);
        }
        paths.sort();
        paths.dedup();

        let mut manifests: HashMap<PathBuf, HashMap<String, String>> = HashMap::new();
        let mut files = Vec::new();
        let mut unlicensed = 0;
        for path in paths {
            let folder = path.parent().unwrap_or(Path::new("")).to_owned();
            if !manifests.contains_key(&folder) {
                let rows = manifest::read(&folder).map_err(|source| SourceError::Manifest {
                    folder: folder.clone(),
                    source,
                })?;
                manifests.insert(folder.clone(), rows);
            }
            let licence = manifests[&folder]
                .get(&name(&path))
                .cloned()
                .unwrap_or_default();
            if self.licences.allow(&licence) {
                files.push(File { path, licence });
            } else {
                unlicensed += 1;
            }
        }
        Ok((files, unlicensed))
    }
}

fn with_unlicensed(mut dataset: Dataset, count: u64) -> Dataset {
    if count > 0 {
        dataset.skipped.insert(Reason::Licence, count);
    }
    dataset
}

fn name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

fn find(pattern: &str) -> Result<Vec<PathBuf>, SourceError> {
    let path = Path::new(pattern);
    if path.exists() {
        return walk(path);
    }
    let matches = glob::glob(pattern).map_err(|source| SourceError::Pattern {
        pattern: pattern.to_owned(),
        source,
    })?;
    let mut found = Vec::new();
    for path in matches.flatten() {
        found.extend(walk(&path)?);
    }
    Ok(found)
}

/// A file itself, or the replays below a folder (symbolic links to folders are not followed).
fn walk(path: &Path) -> Result<Vec<PathBuf>, SourceError> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let failed = |source| SourceError::List {
        path: path.to_owned(),
        source,
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let path = entry.path();
        if entry.file_type().map_err(failed)?.is_dir() {
            found.extend(walk(&path)?);
        } else if path
            .extension()
            .is_some_and(|kind| kind == "slp" || kind == "slpz")
        {
            found.push(path);
        }
    }
    Ok(found)
}

/// Changes when a file, its size, its time or its licence does.
fn key(files: &[File]) -> String {
    let mut hasher = Xxh3::new();
    hasher.update(&cache::FORMAT_VERSION.to_le_bytes());
    for file in files {
        let (size, modified) = fs::metadata(&file.path)
            .map(|data| (data.len(), data.modified().ok()))
            .unwrap_or_default();
        let time = modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        hasher.update(file.path.as_os_str().as_encoded_bytes());
        hasher.update(&[0]);
        hasher.update(&size.to_le_bytes());
        hasher.update(&time.unwrap_or_default().as_nanos().to_le_bytes());
        hasher.update(file.licence.as_bytes());
        hasher.update(&[0]);
    }
    format!("{:032x}", hasher.digest128())
}

fn read_all(files: &[File]) -> Dataset {
    let bar = progress(files.len(), "reading replays");
    let results = parallel::map(
        files.len(),
        || (),
        |(), i| {
            let result = read_file(&files[i]);
            bar.inc(1);
            result
        },
    );
    bar.finish_and_clear();

    let mut dataset = Dataset::default();
    for result in results {
        match result {
            Ok(one) => dataset.matches.push(one),
            Err(error) => *dataset.skipped.entry(error.reason).or_default() += 1,
        }
    }
    dataset.matches.sort_by(|a, b| a.id.cmp(&b.id));
    dataset
}

fn read_file(file: &File) -> Result<Match, ReplayError> {
    let unreadable = |error: io::Error| Reason::Unreadable.because(error);
    if fs::metadata(&file.path).map_err(unreadable)?.len() > MAX_REPLAY_BYTES as u64 {
        return Err(Reason::TooLarge.into());
    }
    let replay = read_replay(&fs::read(&file.path).map_err(unreadable)?)?;
    Ok(Match {
        id: name(&file.path),
        licence: file.licence.clone(),
        stage: replay.stage,
        characters: replay.characters,
        frames: replay.frames,
    })
}
