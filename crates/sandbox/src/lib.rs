//! Code worlds: isolated places that run code, keep all of their state, and branch.
//!
//! A [`Backend`] makes [`Sandbox`]es. Each has a Python interpreter that keeps its globals from cell
//! to cell, a shell that keeps its folder and environment, a disk of its own, and nothing else of the
//! machine it runs on. A [`Snapshot`] is the whole of that at one moment, and never changes; any
//! number of sandboxes can go on from it.
//!
//! The first backend is [`Process`]: worlds are processes in namespaces of their own, under the host's
//! kernel. A snapshot is files: the pages that the interpreter wrote, the files that the world wrote,
//! and a plan by which a small loader puts the interpreter back, at its addresses, with its registers,
//! handlers, open files and process number. A branch maps those pages and copies what it writes, so it
//! costs what it touches, however large the world is. There is no frozen process anywhere: snapshots
//! survive the program that took them, and a branch of a branch of a branch is no deeper than a world.
//!
//! [`Firecracker`] is another one: worlds are virtual machines, with the processor's own walls between
//! them. Their guest is Linux, or none where no Linux runs.
//!
//! [`Qemu`] makes machines too, each a whole Linux, on hosts where no processor will run one.
//!
//! This crate must never know verses, money, or HTTP.
//!
//! ```no_run
//! use worldline_sandbox::{Backend, Cell, Process, Settings, Spec};
//!
//! let process = Process::open(Settings::new("/var/lib/worldline"))?;
//! let world = process.create(&Spec::default())?;
//! world.run(&Cell::new("x = 41"), &mut |_, _| ())?;
//! let point = world.snapshot(Some("before"))?;
//! for branch in process.branch(&point.id, 3, &Spec::default())? {
//!     let answer = branch.run(&Cell::new("x += 1; x"), &mut |_, _| ())?;
//!     assert_eq!(answer.value.as_deref(), Some("42"));
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod archive;
pub mod bench;
mod error;
mod fault;
pub mod firecracker;
mod folder;
mod guest;
mod host;
pub mod image;
pub mod limits;
mod link;
mod model;
mod network;
// The agent compiles these two as well, and each side uses its half.
#[allow(dead_code, unreachable_pub)]
mod plan;
mod pool;
mod process;
mod proxy;
mod qemu;
mod several;
mod talk;
#[allow(dead_code, unreachable_pub)]
mod wire;

pub use error::{CreateError, ExecError, FileError, ResizeError, SnapshotError, StoreError};
pub use fault::{Fault, UnknownFault};
pub use firecracker::Firecracker;
pub use image::{Image, ImageError, Images, Machine};
pub use model::{
    Cancel, Capability, Cell, Command, Failure, Outcome, Reaped, Report, Snapshot, Spec, Standing,
    Stats, Stream, Unreadable, child_seed,
};
pub use network::{MAX_NAMES, NetworkError};
pub use process::{Process, Settings};
pub use qemu::Qemu;
pub use several::Several;

use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

/// Receives output as it comes.
pub type Output<'a> = &'a mut dyn FnMut(Stream, &[u8]);

/// Makes worlds, and keeps their snapshots.
pub trait Backend: Send + Sync {
    /// Its name, as people choose it.
    fn name(&self) -> &'static str;

    /// Whether it is the backend of this name, or one of those that it is made of.
    fn runs(&self, name: &str) -> bool {
        name == self.name()
    }

    /// What this host gives and lacks.
    fn report(&self) -> Report;

    /// The same of each backend that this one is made of.
    fn reports(&self) -> Vec<Report> {
        vec![self.report()]
    }

    /// What its start found of a former run.
    fn reaped(&self) -> &Reaped;

    /// The name of the backend that an image's worlds live on.
    fn home(&self, _image: &str) -> &'static str {
        self.name()
    }

    /// The full names of all images that worlds can be made of.
    fn offers(&self) -> Vec<String>;

    /// The full name of an image that worlds can be made of; of the default one if none is named.
    fn image(&self, name: Option<&str>) -> Result<String, CreateError>;

    /// A new world.
    fn create(&self, spec: &Spec) -> Result<Arc<dyn Sandbox>, CreateError>;

    /// A world that goes on from a snapshot.
    fn restore(&self, snapshot: &str, spec: &Spec) -> Result<Arc<dyn Sandbox>, CreateError>;

    /// Worlds that go on from a snapshot, each its own way. All of them, or none.
    fn branch(
        &self,
        snapshot: &str,
        count: usize,
        spec: &Spec,
    ) -> Result<Vec<Arc<dyn Sandbox>>, CreateError> {
        if count > limits::MAX_BRANCHES {
            return Err(CreateError::TooMany {
                asked: count,
                most: limits::MAX_BRANCHES,
            });
        }
        (0..count)
            .map(|ordinal| self.restore(snapshot, &spec.child(ordinal as u64)))
            .collect()
    }

    /// All snapshots, oldest first.
    fn snapshots(&self) -> Vec<Snapshot>;

    /// One snapshot.
    fn snapshot(&self, id: &str) -> Option<Snapshot>;

    /// Where a snapshot is that was taken under the backend called `home`.
    fn standing(&self, home: &str, id: &str) -> Standing<'_> {
        let unreadable = &self.reaped().unreadable;
        if self.snapshot(id).is_some() {
            Standing::Here
        } else if let Some(one) = unreadable.iter().find(|one| one.id == id) {
            Standing::Unreadable(&one.why)
        } else if self.runs(home) {
            Standing::Gone
        } else {
            Standing::Away
        }
    }

    /// Waits until a snapshot would survive the machine.
    fn persist(&self, id: &str) -> Result<Snapshot, StoreError>;

    /// Forgets a snapshot. What others are built on stays until they are gone too.
    fn remove_snapshot(&self, id: &str) -> Result<(), StoreError>;

    /// Writes a snapshot and all that it is built on as one archive (tar).
    fn export(&self, id: &str, to: &mut dyn std::io::Write) -> Result<(), StoreError>;

    /// What the first file of its archives is called, or its folder.
    fn archive(&self) -> &'static str;

    /// Reads an archive; gives the snapshot.
    fn import(&self, from: &mut dyn std::io::Read) -> Result<Snapshot, StoreError>;

    /// Takes back what nothing refers to any more; gives the bytes.
    fn collect(&self) -> Result<u64, StoreError>;
}

/// A world that runs code.
pub trait Sandbox: Send + Sync {
    /// Its name, unique on this machine.
    fn id(&self) -> &str;

    /// The snapshot that it came from.
    fn origin(&self) -> Option<&str>;

    /// Connections that were open in the snapshot and are closed here, in words.
    fn closed(&self) -> &[String];

    /// Runs Python in the interpreter; one cell after the other.
    fn run(&self, cell: &Cell, output: Output) -> Result<Outcome, ExecError>;

    /// Runs a command; gives its exit code.
    fn exec(&self, command: &Command, output: Output) -> Result<i32, ExecError>;

    /// Begins a command that is talked to while it runs: at a terminal of some rows and columns, or with its
    /// output and errors apart. The command's own input comes first; its time limit is the caller's to keep.
    fn begin(
        &self,
        command: &Command,
        terminal: Option<(u32, u32)>,
    ) -> Result<Box<dyn Running>, ExecError>;

    /// Begins to give and take files by SFTP (version 3), over what is written and said.
    fn sftp(&self) -> Result<Box<dyn Running>, ExecError>;

    /// Reads a file.
    fn read(&self, path: &str) -> Result<Vec<u8>, FileError>;

    /// Writes a file.
    fn write(&self, path: &str, mode: u32, bytes: &[u8]) -> Result<(), FileError>;

    /// Connects to a server inside.
    fn connect(&self, port: u16) -> Result<TcpStream, ExecError>;

    /// Stops every process until [`resume`](Self::resume).
    fn pause(&self) -> Result<(), ExecError>;

    /// Lets every process go on.
    fn resume(&self) -> Result<(), ExecError>;

    /// Keeps this moment. The world goes on, whatever comes of it.
    fn snapshot(&self, name: Option<&str>) -> Result<Snapshot, SnapshotError>;

    /// Gives its disk another size, in MiB. Commands that run already may write no longer files than
    /// before.
    fn resize_disk(&self, mib: u32) -> Result<(), ResizeError>;

    /// The same disk, begun anew with other sizes: no process and no memory of this one. This one has ended
    /// then; if the other cannot begin, it goes on.
    fn reboot(&self, spec: &Spec) -> Result<Arc<dyn Sandbox>, CreateError>;

    /// What it uses.
    fn stats(&self) -> Stats;

    /// Ends it and all that it has; a second call does nothing.
    fn destroy(&self);
}

/// Something that runs and is talked to. Dropping it hangs up: it and its children are ended.
pub trait Running: Send + Sync {
    /// Gives it input, and waits while it is behind with what it was given; none at all say that nothing
    /// more will come.
    fn write(&self, bytes: &[u8]) -> Result<(), ExecError>;

    /// Gives its terminal another size.
    fn resize(&self, rows: u32, columns: u32) -> Result<(), ExecError>;

    /// Sends it and its children a signal, by its number.
    fn signal(&self, signal: i32) -> Result<(), ExecError>;

    /// What comes next; `None` where nothing comes within this time.
    fn next(&self, within: Duration) -> Result<Option<Said>, ExecError>;
}

/// What something that runs says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// What it writes. A terminal has no errors apart.
    Bytes(Stream, Vec<u8>),
    /// It ended, with this exit code. Nothing follows.
    Ended(i32),
}
