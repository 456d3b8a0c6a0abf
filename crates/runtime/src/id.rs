//! Names, times and digests.

use std::time::{SystemTime, UNIX_EPOCH};

use sha2::{Digest, Sha256};
use worldline_arena::{hex, random_bytes};

/// A fresh name: the prefix and 64 random bits.
pub(crate) fn fresh(prefix: &str) -> String {
    format!("{prefix}_{}", hex(&random_bytes::<8>()))
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// Microseconds since 1970, as the tables keep them.
pub(crate) fn now_micros() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_micros() as i64)
}

/// SHA-256 of parts, each ended by a zero byte, in hexadecimal.
pub(crate) fn digest(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
        hash.update([0]);
    }
    hex(&hash.finalize())
}
