//! What callers say and hear.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Words that callers keep beside a world or a snapshot.
pub type Metadata = BTreeMap<String, String>;

/// What sort of world something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A code world.
    Sandbox,
    /// A learned world that is played, or a branch of one.
    Match,
}

impl Kind {
    /// As the tables say it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sandbox => "sandbox",
            Self::Match => "match",
        }
    }
}

/// What a world is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sizes {
    /// Processors.
    pub vcpus: u32,
    /// Memory, in MiB.
    pub memory_mib: u32,
    /// Disk for what it writes, in MiB.
    pub disk_mib: u32,
}

impl Default for Sizes {
    fn default() -> Self {
        let spec = worldline_sandbox::Spec::default();
        Self {
            vcpus: spec.vcpus,
            memory_mib: spec.memory_mib,
            disk_mib: spec.disk_mib,
        }
    }
}

/// Sizes of which some are asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SizesAsked {
    /// Processors.
    pub vcpus: Option<u32>,
    /// Memory, in MiB.
    pub memory_mib: Option<u32>,
    /// Disk, in MiB.
    pub disk_mib: Option<u32>,
}

impl From<Sizes> for SizesAsked {
    fn from(sizes: Sizes) -> Self {
        Self {
            vcpus: Some(sizes.vcpus),
            memory_mib: Some(sizes.memory_mib),
            disk_mib: Some(sizes.disk_mib),
        }
    }
}

impl SizesAsked {
    /// These where they are asked for, and those of `other` elsewhere.
    pub fn or(self, other: Sizes) -> Sizes {
        Sizes {
            vcpus: self.vcpus.unwrap_or(other.vcpus),
            memory_mib: self.memory_mib.unwrap_or(other.memory_mib),
            disk_mib: self.disk_mib.unwrap_or(other.disk_mib),
        }
    }
}

/// What happens to a world when its time is over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TtlAction {
    /// It ends.
    #[default]
    Stop,
    /// It pauses.
    Pause,
}

/// How long something lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ttl {
    /// Seconds from when it was set, or from when the world resumed.
    pub seconds: Option<u64>,
    /// The moment that this comes to: seconds since 1970.
    pub expires_at: Option<u64>,
    /// What happens then; for worlds only.
    pub action: Option<TtlAction>,
}

impl Ttl {
    /// From now on.
    pub fn from_now(seconds: Option<u64>, action: Option<TtlAction>) -> Self {
        Self {
            seconds,
            expires_at: seconds.map(|seconds| crate::id::now() + seconds),
            action,
        }
    }

    pub(crate) fn is_over(&self, now: u64) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }
}

/// Where a snapshot's state is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Nothing has run yet: the image itself.
    Image,
    /// A snapshot of the sandbox's, by its id there.
    Sandbox(String),
    /// A match's state, in memory: it lasts as long as this program.
    Match,
}

/// A snapshot: a world at one moment. Only its metadata and time to live ever change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Its name for machines.
    pub id: String,
    /// Of which sort of world.
    pub kind: Kind,
    /// When it was taken: seconds since 1970.
    pub created: u64,
    /// The image beneath, or a match's learned world.
    pub image: String,
    /// What it lives on: a backend of code worlds, or the arena.
    #[serde(default)]
    pub backend: String,
    /// What its world had been given.
    pub sizes: Sizes,
    /// The caller's own digest: no two snapshots have the same.
    pub digest: Option<String>,
    /// Words of the caller's.
    pub metadata: Metadata,
    /// How long it is kept.
    pub ttl: Ttl,
    /// The world that it was taken of; none for an image.
    pub world: Option<String>,
    /// Where its state is.
    pub source: Source,
    /// Bytes of memory and disk that it keeps beyond what it is built on.
    pub bytes: u64,
    /// How long its world stood still, in milliseconds.
    pub pause_ms: f64,
}

/// How a world fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It runs.
    Ready,
    /// It stands still.
    Paused,
    /// It ended by itself.
    Error,
}

/// A port of a world that can be reached from this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// The port inside.
    pub port: u16,
    /// Where it answers.
    pub url: String,
}

/// When a paused world resumes by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WakeOn {
    /// On a connection of the SSH gateway.
    pub ssh: bool,
    /// On a connection to one of its services.
    pub http: bool,
}

/// A world that is registered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Instance {
    /// Its name for machines.
    pub id: String,
    /// Its sort.
    pub kind: Kind,
    /// When it began: seconds since 1970.
    pub created: u64,
    /// How it fares.
    pub status: Status,
    /// The image beneath, or a match's learned world.
    pub image: String,
    /// What it lives on: a backend of code worlds, or the arena.
    #[serde(default)]
    pub backend: String,
    /// The snapshot that it goes on from; none for a match with players.
    pub snapshot: Option<String>,
    /// The world that that snapshot was taken of.
    pub parent: Option<String>,
    /// What it is given.
    pub sizes: Sizes,
    /// Words of the caller's.
    pub metadata: Metadata,
    /// How long it lives.
    pub ttl: Ttl,
    /// When it resumes by itself.
    pub wake_on: WakeOn,
    /// Its label in GF(3): -1, 0 or 1.
    pub trit: i8,
    /// The seed that it was given, if it was.
    pub seed: Option<u64>,
    /// Ports that can be reached.
    pub services: Vec<Service>,
}

/// What a new snapshot of an image is to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewSnapshot {
    /// The image; the default one if there is none.
    pub image: Option<String>,
    /// Sizes that its worlds have.
    pub sizes: SizesAsked,
    /// What is said of it.
    pub note: Note,
}

/// What is said of a new snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Note {
    /// The caller's digest: the snapshot that has it already is given instead of a new one.
    pub digest: Option<String>,
    /// Words of the caller's.
    pub metadata: Metadata,
    /// How long it is kept, in seconds.
    pub ttl_seconds: Option<u64>,
}

/// What a new world is to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewInstance {
    /// Sizes other than its snapshot's.
    pub sizes: SizesAsked,
    /// Words of the caller's; `trit` among them is its label.
    pub metadata: Metadata,
    /// How long it lives, in seconds.
    pub ttl_seconds: Option<u64>,
    /// What happens then.
    pub ttl_action: Option<TtlAction>,
    /// Makes it reproducible.
    pub seed: Option<u64>,
    /// Names that it may reach; those of its snapshot if none are given.
    pub network: Option<Vec<String>>,
}

/// How a running world is branched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Branching {
    /// How many.
    pub count: usize,
    /// The children's labels; they must sum to 0 mod 3. Chosen here if none are given.
    pub trits: Option<Vec<i8>>,
    /// What is said of the snapshot between.
    pub note: Note,
    /// What the children are to be.
    pub children: NewInstance,
}
