//! Points at which a test has this program killed, to see what the next start finds.

use thiserror::Error;

use crate::host;

/// A step of keeping a world or going on from a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The interpreter stands still and has been copied; nobody knows of the snapshot yet.
    SnapshotCopied,
    /// The snapshot is known; its memory is not written.
    SnapshotAnnounced,
    /// Its memory is written; its plan is not.
    SnapshotPages,
    /// All its parts are there; none has to be on the disk.
    SnapshotWritten,
    /// Its parts are on the disk, and its manifest is not.
    KeepSynced,
    /// Its manifest is there under another name.
    KeepPart,
    /// Its manifest has its name.
    KeepRenamed,
    /// A branch has an empty world.
    RestoreShell,
    /// A branch has its root.
    RestoreFurnished,
    /// A branch's interpreter has been told to load.
    RestoreLoaded,
    /// A snapshot is forgotten; its parts are still there.
    Forgotten,
    /// Its manifest is gone; its parts are still there.
    CollectHalf,
}

/// There is no such point.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("there is no fault point `{0}`")]
pub struct UnknownFault(String);

impl Fault {
    /// All of them, by name.
    pub const ALL: [(&'static str, Self); 12] = [
        ("snapshot-copied", Self::SnapshotCopied),
        ("snapshot-announced", Self::SnapshotAnnounced),
        ("snapshot-pages", Self::SnapshotPages),
        ("snapshot-written", Self::SnapshotWritten),
        ("keep-synced", Self::KeepSynced),
        ("keep-part", Self::KeepPart),
        ("keep-renamed", Self::KeepRenamed),
        ("restore-shell", Self::RestoreShell),
        ("restore-furnished", Self::RestoreFurnished),
        ("restore-loaded", Self::RestoreLoaded),
        ("forgotten", Self::Forgotten),
        ("collect-half", Self::CollectHalf),
    ];

    /// The point of a name.
    pub fn parse(name: &str) -> Result<Self, UnknownFault> {
        let found = Self::ALL.iter().find(|(known, _)| *known == name);
        found
            .map(|(_, fault)| *fault)
            .ok_or_else(|| UnknownFault(name.into()))
    }
}

/// Where this program is to be killed, if anywhere.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults(pub(crate) Option<Fault>);

impl Faults {
    /// Ends this program here, as `kill -9` would, if this is the point.
    pub(crate) fn at(self, point: Fault) {
        if self.0 == Some(point) {
            host::end_at_once();
        }
    }
}
