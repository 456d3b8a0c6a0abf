//! Human matches as plain arrays of frames, read from Slippi replays and cached in one file.
//!
//! [`Sources`] says which replays; [`Sources::load`] reads them (or the cache) into a
//! [`Dataset`]; [`Dataset::split`] parts it by match into training and validation. A replay
//! that cannot be used is counted by [`Reason`] in [`Dataset::skipped`] and never stops the
//! rest.

mod cache;
mod clips;
mod files;
mod frame;
mod manifest;
mod replay;
mod split;
mod starts;

pub use cache::{CacheError, FORMAT_VERSION, cache_folder};
pub use clips::{Clip, clips};
pub use files::{SourceError, Sources};
pub use frame::{Match, PlayerCore, PlayerFrame};
pub use manifest::{Licences, MANIFEST_NAME, PERMISSIVE};
pub use replay::{
    FIRST_FRAME, MAX_ARCHIVE_BYTES, MAX_REPLAY_BYTES, MIN_FRAMES, Reason, Replay, ReplayError,
    read_replay,
};
pub use split::{Split, VALIDATION_PER_MILLE};
pub use starts::start_states;

use std::collections::BTreeMap;

/// All usable matches of some sources, ordered by [`Match::id`], and what was left out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dataset {
    /// The matches, ordered by id.
    pub matches: Vec<Match>,
    /// How many files were left out, by reason.
    pub skipped: BTreeMap<Reason, u64>,
}

impl Dataset {
    /// Frames of all matches together (a frame holds both players).
    pub fn frames(&self) -> u64 {
        self.matches.iter().map(|m| m.frames.len() as u64).sum()
    }

    /// How many matches each licence brings.
    pub fn licences(&self) -> BTreeMap<&str, u64> {
        let mut counts = BTreeMap::new();
        for one in &self.matches {
            *counts.entry(one.licence.as_str()).or_default() += 1;
        }
        counts
    }
}
