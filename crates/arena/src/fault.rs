//! Named places where a test makes the process die as if by `kill -9`.
//!
//! A fault is armed by `NAME` or `NAME:COUNT` (die at the COUNT-th passage, default 1). The
//! command line reads it from `WORLDLINE_FAULT`; nothing is armed otherwise.

use std::sync::atomic::{AtomicU32, Ordering};

/// After journal bytes were written, before they are forced to the disk.
pub const JOURNAL_APPENDED: &str = "journal.appended";
/// Halfway through a journal record: the tail is torn.
pub const JOURNAL_TORN: &str = "journal.torn";
/// After the journal was forced to the disk.
pub const JOURNAL_SYNCED: &str = "journal.synced";
/// The replay's temporary file is written, not yet renamed.
pub const REPLAY_WRITTEN: &str = "replay.written";
/// The replay stands under its name, the journal still exists.
pub const REPLAY_RENAMED: &str = "replay.renamed";
/// The journal is removed, players have not been told.
pub const JOURNAL_REMOVED: &str = "journal.removed";

/// All fault points, so that a test can go through them and fail when one was not hit.
pub const ALL: [&str; 6] = [
    JOURNAL_APPENDED,
    JOURNAL_TORN,
    JOURNAL_SYNCED,
    REPLAY_WRITTEN,
    REPLAY_RENAMED,
    JOURNAL_REMOVED,
];

/// Printed to standard error when a fault kills the process: `worldline: fault NAME`.
pub const NOTICE: &str = "worldline: fault";

/// An armed fault, or none.
#[derive(Debug, Default)]
pub struct Fault {
    name: &'static str,
    left: AtomicU32,
}

/// The fault asked for does not exist.
#[derive(Debug, thiserror::Error)]
#[error("no fault point `{0}`; there are: {list}", list = ALL.join(", "))]
pub struct UnknownFault(String);

impl Fault {
    /// Reads `NAME` or `NAME:COUNT`.
    pub fn parse(text: &str) -> Result<Self, UnknownFault> {
        let (name, count) = text.split_once(':').unwrap_or((text, "1"));
        let known = ALL.into_iter().find(|known| *known == name);
        match (known, count.parse()) {
            (Some(name), Ok(count)) => Ok(Self {
                name,
                left: AtomicU32::new(count),
            }),
            _ => Err(UnknownFault(text.into())),
        }
    }

    /// True when the process should die at this passage of `name`.
    pub(crate) fn due(&self, name: &str) -> bool {
        self.name == name && self.left.fetch_sub(1, Ordering::Relaxed) == 1
    }

    /// Dies here if this fault is armed and due: no destructor runs, nothing is flushed.
    pub(crate) fn point(&self, name: &str) {
        if self.due(name) {
            die(name);
        }
    }
}

/// Ends the process as `kill -9` would.
pub(crate) fn die(name: &str) -> ! {
    eprintln!("{NOTICE} {name}");
    std::process::abort()
}
