//! What the registry refuses, and why.

use thiserror::Error;
use worldline_sandbox::{
    CreateError, ExecError, FileError, ImageError, ResizeError, SnapshotError,
};

use crate::duck::SqlError;
use crate::limits::{
    MAX_BRANCHES, MAX_METADATA, MAX_SNAPSHOTS, MAX_TEXT, MAX_TTL, MAX_VERIFIED, MAX_VERIFIED_STEPS,
    MAX_WORLDS,
};
use crate::store::StoreError;

/// An operation on worlds failed. Nothing of it remains.
#[derive(Debug, Error)]
pub enum WorldError {
    /// No world of this id.
    #[error("there is no world {0}: it may have ended, or the id is mistyped")]
    NoInstance(String),
    /// No snapshot of this id.
    #[error("there is no snapshot {0}: it may have been removed, or the id is mistyped")]
    NoSnapshot(String),
    /// A match was to reach the network.
    #[error("a learned world reaches no network: leave `network` out")]
    Unreachable,
    /// No learned world of this name.
    #[error("there is no image {0}: see the list of images")]
    NoImage(String),
    /// The world has no such service.
    #[error("world {0} has no service `{1}`")]
    NoService(String, String),
    /// Too many worlds.
    #[error("{MAX_WORLDS} worlds are registered, which is the most: end some first")]
    Full,
    /// Too many snapshots.
    #[error("{MAX_SNAPSHOTS} snapshots are kept, which is the most: remove some first")]
    FullOfSnapshots,
    /// A number of branches that no call makes.
    #[error("one call makes 1 to {MAX_BRANCHES} branches, not {0}")]
    Count(usize),
    /// A verification that is too much.
    #[error(
        "a verification is of 1 to {MAX_VERIFIED} branches with at most {MAX_VERIFIED_STEPS} steps each"
    )]
    Verification,
    /// Labels that do not balance.
    #[error(
        "the trits {0:?} do not balance: give one of -1, 0, 1 for each branch, with a sum of 0 mod 3, or none"
    )]
    Unbalanced(Vec<i8>),
    /// A label that is none.
    #[error("`{0}` is no trit: it is -1, 0 or 1")]
    Trit(String),
    /// Words that are too many or too long.
    #[error(
        "{0} is too long: at most {MAX_METADATA} entries of metadata, and {MAX_TEXT} bytes a text"
    )]
    TooLong(&'static str),
    /// A time to live that is none.
    #[error("a time to live is at most {MAX_TTL} seconds, not {0}")]
    Ttl(u64),
    /// A size other than that of the world.
    #[error("a match has no memory, processors or disk of its own: leave sizes out")]
    Sizes,
    /// The name or port of a service.
    #[error("a service has a name of 1 to 63 letters, digits and hyphens, and a port other than 0")]
    Service,
    /// The same key came with another request.
    #[error("the idempotency key was used for another request: use a fresh one")]
    KeyReused,
    /// The first request with the key has no answer yet.
    #[error("the first request with this idempotency key is still being done: ask again")]
    KeyBusy,
    /// The world cannot do this.
    #[error("{world} cannot {what}: {why}")]
    Refused {
        /// Which world.
        world: String,
        /// What was asked of it.
        what: &'static str,
        /// Why not.
        why: String,
    },
    /// No code worlds here.
    #[error("this host runs no code worlds: {0}")]
    NoBackend(String),
    /// A snapshot of a backend that does not run here now.
    #[error(
        "snapshot {snapshot} was taken under {backend}, which does not run here now: `worldline doctor` says why"
    )]
    Away {
        /// The snapshot.
        snapshot: String,
        /// Its backend.
        backend: String,
    },
    /// The backend makes no world.
    #[error(transparent)]
    Create(#[from] CreateError),
    /// The backend runs nothing.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// The backend moves no file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The backend resizes no disk.
    #[error(transparent)]
    Resize(#[from] ResizeError),
    /// The backend keeps no moment.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The backend's store refuses.
    #[error(transparent)]
    Kept(#[from] worldline_sandbox::StoreError),
    /// The image cannot be made.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The tables refuse.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A question that the tables cannot answer.
    #[error("the tables cannot answer: {0}")]
    Sql(#[from] SqlError),
}

/// Whose fault an error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// What was asked for is not there.
    Missing,
    /// What was asked for makes no sense.
    Request,
    /// It makes sense, and not in the state that the world is in.
    State,
    /// There is no room for it.
    Room,
    /// This host, or a defect.
    Host,
}

impl WorldError {
    /// A short name that programs can rely on.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoInstance(_)
            | Self::Exec(ExecError::Gone(_))
            | Self::File(FileError::Gone(_)) => "instance_not_found",
            Self::Snapshot(SnapshotError::Gone(_)) | Self::Resize(ResizeError::Gone(_)) => {
                "instance_not_found"
            }
            Self::Resize(ResizeError::Full { .. }) => "disk_full",
            Self::NoSnapshot(_) | Self::Create(CreateError::NoSnapshot(_)) => "snapshot_not_found",
            Self::NoImage(_) | Self::Create(CreateError::Image(_)) => "image_not_found",
            Self::NoService(..) => "service_not_found",
            Self::Full | Self::FullOfSnapshots => "full",
            Self::Count(_) | Self::Verification => "bad_count",
            Self::Unbalanced(_) => "unbalanced",
            Self::Trit(_) => "bad_trit",
            Self::TooLong(_)
            | Self::Exec(ExecError::TooLong(_))
            | Self::File(FileError::TooLong { .. }) => "too_long",
            Self::Ttl(_) => "bad_ttl",
            Self::Sizes
            | Self::Create(CreateError::Size { .. })
            | Self::Resize(ResizeError::Size { .. }) => "bad_size",
            Self::Unreachable | Self::Create(CreateError::Network(_)) => "bad_network",
            Self::Service => "bad_service",
            Self::KeyReused => "key_reused",
            Self::KeyBusy => "key_busy",
            Self::Refused { .. }
            | Self::Create(CreateError::Lacks(_))
            | Self::Exec(ExecError::Lacks(_))
            | Self::Resize(ResizeError::Lacks)
            | Self::Snapshot(SnapshotError::Refused(_)) => "refused",
            Self::Snapshot(SnapshotError::Threads(_)) => "has_threads",
            Self::Snapshot(SnapshotError::Processes(_)) => "has_processes",
            Self::Snapshot(SnapshotError::Name) => "bad_name",
            Self::NoBackend(_) => "no_code_worlds",
            Self::Away { .. } => "backend_away",
            Self::Exec(ExecError::Paused(_)) | Self::File(FileError::Paused(_)) => "paused",
            Self::Exec(ExecError::NoCommand) => "no_command",
            Self::Exec(ExecError::InterpreterEnded { .. }) => "interpreter_ended",
            Self::File(_) => "file",
            Self::Sql(_) => "bad_sql",
            Self::Image(_) => "image",
            Self::Create(_)
            | Self::Exec(_)
            | Self::Snapshot(_)
            | Self::Resize(_)
            | Self::Kept(_)
            | Self::Store(_) => "host",
        }
    }

    /// Whose fault it is.
    pub fn blame(&self) -> Blame {
        match self.code() {
            "instance_not_found" | "snapshot_not_found" | "image_not_found"
            | "service_not_found" => Blame::Missing,
            "paused" | "key_reused" | "key_busy" | "refused" | "interpreter_ended"
            | "has_threads" | "has_processes" | "disk_full" => Blame::State,
            "full" | "no_code_worlds" | "backend_away" => Blame::Room,
            "host" | "image" => Blame::Host,
            _ => Blame::Request,
        }
    }
}
