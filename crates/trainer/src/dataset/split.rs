use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{Dataset, Match};

/// Matches out of a thousand that are held back for validation.
pub const VALIDATION_PER_MILLE: u64 = 80;

/// A dataset parted by match, never by frame.
#[derive(Clone, Debug)]
pub struct Split<'a> {
    /// Matches to learn from.
    pub training: Vec<&'a Match>,
    /// Matches never learned from.
    pub validation: Vec<&'a Match>,
}

impl Dataset {
    /// Parts the matches by a hash of their name, so that a match stays on its side whatever
    /// else the dataset holds.
    pub fn split(&self, seed: u64) -> Split<'_> {
        let (validation, training) = self.matches.iter().partition(|one| one.is_validation(seed));
        Split {
            training,
            validation,
        }
    }
}

impl Match {
    /// Whether [`Dataset::split`] holds this match back.
    pub fn is_validation(&self, seed: u64) -> bool {
        xxh3_64_with_seed(self.id.as_bytes(), seed) % 1000 < VALIDATION_PER_MILLE
    }
}
