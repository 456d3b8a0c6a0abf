//! What callers say and hear.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::CreateError;
use crate::limits::DISK_MIB;

/// Where output was written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Error,
}

/// Ends a call from elsewhere: its processes are ended, as if its time were over.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Ends the call.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Release);
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// How a world is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Spec {
    /// The image's name or digest; the default image if there is none. Where several backends are open,
    /// the backend's name and a colon may stand before it. Ignored where a snapshot is restored, which
    /// has its image.
    pub image: Option<String>,
    /// Memory, in MiB.
    pub memory_mib: u32,
    /// Processors.
    pub vcpus: u32,
    /// Disk for what the world writes, in MiB.
    pub disk_mib: u32,
    /// Randomness of its own by default; the same again for the same number.
    pub seed: Option<u64>,
    /// Names that it may reach: `NAME`, `NAME:PORT` or `NAME:PORT=ADDRESS`. A new world has none; what
    /// comes from a snapshot has what that had.
    pub network: Option<Vec<String>>,
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            image: None,
            memory_mib: 2048,
            vcpus: 1,
            disk_mib: 2048,
            seed: None,
            network: None,
        }
    }
}

impl Spec {
    /// The same, for the branch of a number: a given seed becomes a seed of its own.
    pub fn child(&self, ordinal: u64) -> Self {
        Self {
            seed: self.seed.map(|seed| child_seed(seed, ordinal)),
            ..self.clone()
        }
    }

    /// Whether a backend that gives so much memory (MiB) and so many processors makes a world of these sizes.
    pub(crate) fn check_sizes(
        &self,
        memory: RangeInclusive<u32>,
        processors: RangeInclusive<u32>,
    ) -> Result<(), CreateError> {
        let sizes = [
            ("memory in MiB", self.memory_mib, memory),
            ("a number of processors", self.vcpus, processors),
            ("disk in MiB", self.disk_mib, DISK_MIB),
        ];
        for (what, asked, allowed) in sizes {
            if !allowed.contains(&asked) {
                return Err(CreateError::Size {
                    what,
                    asked,
                    least: *allowed.start(),
                    most: *allowed.end(),
                });
            }
        }
        Ok(())
    }
}

/// The seed of a branch: SplitMix64 of its parent's (Steele, Lea and Flood, 2014).
pub fn child_seed(parent: u64, ordinal: u64) -> u64 {
    const GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;
    let mut z = parent.wrapping_add(GAMMA.wrapping_mul(ordinal.wrapping_add(1)));
    z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ z >> 31
}

/// Python to run.
#[derive(Clone, Debug, Default)]
pub struct Cell {
    /// The code.
    pub code: String,
    /// When it is interrupted.
    pub timeout: Option<Duration>,
    /// Interrupts it earlier.
    pub cancel: Cancel,
}

impl Cell {
    /// A cell without a limit of time.
    pub fn new(code: impl Into<String>) -> Self {
        Self {
            code: code.into(),
            ..Self::default()
        }
    }

    /// The same with a limit of time.
    pub fn within(self, timeout: Duration) -> Self {
        Self {
            timeout: Some(timeout),
            ..self
        }
    }
}

/// How a cell ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// `ok`, `error`, or `interrupted`.
    pub status: String,
    /// Which cell of its interpreter it was, from 1.
    #[serde(default)]
    pub execution_count: u64,
    /// The last expression's value, as Python writes it.
    pub value: Option<String>,
    /// The exception that ended it.
    pub error: Option<Failure>,
    /// Figures, as PNG in base64.
    #[serde(default)]
    pub images: Vec<String>,
    /// Seconds inside the interpreter.
    #[serde(default)]
    pub seconds: f64,
}

/// An exception.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Its class.
    pub name: String,
    /// Its message.
    pub message: String,
    /// Where it was raised, as Python prints it.
    pub traceback: String,
}

/// A command to run.
#[derive(Clone, Debug, Default)]
pub struct Command {
    /// Program and arguments; one element alone is a line for the shell, whose folder and exported
    /// variables are kept for the next line.
    pub argv: Vec<String>,
    /// Variables beside those that are kept.
    pub environment: Vec<(String, String)>,
    /// What it reads; its input ends there.
    pub input: Vec<u8>,
    /// When it is ended, with exit code 124.
    pub timeout: Option<Duration>,
    /// Ends it earlier.
    pub cancel: Cancel,
}

impl Command {
    /// A line for the shell.
    pub fn line(line: impl Into<String>) -> Self {
        Self {
            argv: vec![line.into()],
            ..Self::default()
        }
    }

    /// A program with its arguments.
    pub fn argv<S: Into<String>>(argv: impl IntoIterator<Item = S>) -> Self {
        Self {
            argv: argv.into_iter().map(Into::into).collect(),
            ..Self::default()
        }
    }
}

/// A kept moment of a world.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Its name for machines.
    pub id: String,
    /// Its name for people.
    pub name: Option<String>,
    /// The world that it was taken of.
    pub world: String,
    /// The snapshot that that world came from.
    pub parent: Option<String>,
    /// Digest of the image beneath.
    pub image: String,
    /// When it was taken: seconds since 1970.
    pub created: u64,
    /// SHA-256 of all its parts; empty until they are written.
    pub digest: String,
    /// Whether it would survive the machine.
    pub durable: bool,
    /// Bytes of memory written for it.
    pub memory_bytes: u64,
    /// Bytes of files written for it.
    pub disk_bytes: u64,
    /// How long its world stood still, in milliseconds.
    pub pause_ms: f64,
    /// Connections that a branch finds closed.
    pub closed: Vec<String>,
    /// What the world had been given.
    pub spec: Spec,
}

/// A snapshot whose files are there, and that nobody can read here: they are damaged, or another version wrote
/// them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// The snapshot.
    pub id: String,
    /// Where its files are, and what is wrong with them.
    pub why: String,
}

impl Unreadable {
    /// What stands in the folder of a snapshot.
    pub(crate) fn new(folder: &Path, why: impl Display) -> Self {
        let id = folder.file_name().unwrap_or_default();
        Self {
            id: id.to_string_lossy().into_owned(),
            why: format!("{}: {why}", folder.display()),
        }
    }
}

/// Where a snapshot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing<'a> {
    /// Worlds can go on from it.
    Here,
    /// Its files are there; why they cannot be read.
    Unreadable(&'a str),
    /// Its backend does not run here now.
    Away,
    /// Its backend has nothing of it.
    Gone,
}

/// What the start of a backend found of a former run.
#[derive(Clone, Debug, Default)]
pub struct Reaped {
    /// Worlds that a killed program had left, and that were ended.
    pub worlds: usize,
    /// Snapshots that stay, and cannot be used.
    pub unreadable: Vec<Unreadable>,
}

/// What a world uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// Memory charged to it.
    pub memory_bytes: u64,
    /// Memory of its interpreter that it shares with nobody.
    pub private_bytes: u64,
    /// Processor time.
    pub cpu_seconds: f64,
    /// Processes and threads.
    pub processes: u64,
    /// Disk that it wrote.
    pub disk_bytes: u64,
}

/// What a host gives, in words.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The backend.
    pub backend: &'static str,
    /// Whether worlds can be made at all.
    pub usable: bool,
    /// One by one.
    pub capabilities: Vec<Capability>,
}

impl Report {
    /// Of a backend that cannot even be opened.
    pub fn closed(backend: &'static str, why: String) -> Self {
        Self {
            backend,
            usable: false,
            capabilities: vec![Capability {
                name: "open",
                present: false,
                note: why,
            }],
        }
    }
}

/// One thing that a host gives or lacks.
#[derive(Clone, Debug, Serialize)]
pub struct Capability {
    /// What.
    pub name: &'static str,
    /// Whether it is there.
    pub present: bool,
    /// What it is, or what is lost without it.
    pub note: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_of_branches_are_splitmix64() {
        let expected = [
            0x9762_9500_787d_9c76,
            0xb30f_b97b_4961_612f,
            0x4005_98bc_4830_56fd,
            0x9713_8cc5_d52b_b683,
            0x600a_e37f_833b_80f3,
        ];
        assert_eq!(
            [0, 1, 2, 3, 4].map(|ordinal| child_seed(1069, ordinal)),
            expected
        );
    }
}
