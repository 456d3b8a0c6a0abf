//! Named places where a test makes the process die as if by `kill -9`.
//!
//! A fault is armed by `NAME` or `NAME:COUNT` (die at the COUNT-th passage, default 1), which the
//! command reads from `WORLDLINE_FAULT`; nothing is armed otherwise.

use std::sync::atomic::{AtomicU32, Ordering};

/// Halfway through a journal record: the tail is torn.
pub const LEDGER_TORN: &str = "ledger.torn";
/// A record was written, and not yet forced to the disk.
pub const LEDGER_APPENDED: &str = "ledger.appended";
/// A record is on the disk, and nobody was told.
pub const LEDGER_SYNCED: &str = "ledger.synced";
/// A snapshot's temporary file is written, not yet renamed.
pub const SNAPSHOT_WRITTEN: &str = "snapshot.written";
/// The snapshot stands under its name, the older files still exist.
pub const SNAPSHOT_RENAMED: &str = "snapshot.renamed";
/// L1 has taken a commit, and the rollup does not know yet.
pub const COMMIT_LANDED: &str = "commit.landed";
/// L1 has given an account back, and the rollup does not know yet.
pub const UNDELEGATE_LANDED: &str = "undelegate.landed";

/// All fault points, so that a test can go through them and fail when one was not hit.
pub const ALL: [&str; 7] = [
    LEDGER_TORN,
    LEDGER_APPENDED,
    LEDGER_SYNCED,
    SNAPSHOT_WRITTEN,
    SNAPSHOT_RENAMED,
    COMMIT_LANDED,
    UNDELEGATE_LANDED,
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
