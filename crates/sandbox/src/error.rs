//! One error for each operation: what was tried, what went wrong, what to do.

use std::io;

use thiserror::Error;

/// A world cannot be made.
#[derive(Debug, Error)]
pub enum CreateError {
    /// More branches than one call may make.
    #[error(
        "{asked} branches were asked for, and one call makes at most {most}: make them in several calls"
    )]
    TooMany {
        /// How many were asked for.
        asked: usize,
        /// How many are allowed.
        most: usize,
    },
    /// A size that no world can have.
    #[error("{what} of {asked} is not between {least} and {most}")]
    Size {
        /// Which size.
        what: &'static str,
        /// What was asked for.
        asked: u32,
        /// The least.
        least: u32,
        /// The most.
        most: u32,
    },
    /// There is no such snapshot.
    #[error("there is no snapshot {0}")]
    NoSnapshot(String),
    /// The snapshot was taken under another kernel, whose pages cannot be put back under this one.
    #[error(
        "snapshot {id} was taken under Linux {then} and this host runs {now}: start from its files, or boot the former kernel"
    )]
    OtherKernel {
        /// The snapshot.
        id: String,
        /// Its kernel.
        then: String,
        /// This one.
        now: String,
    },
    /// The list of what it may reach cannot be read.
    #[error(transparent)]
    Network(#[from] crate::NetworkError),
    /// The image cannot be used.
    #[error(transparent)]
    Image(#[from] crate::ImageError),
    /// Another processor or another monitor than the snapshot was taken with.
    #[error(
        "snapshot {id} was taken with {what} {then}, and this host has {now}: branch it where it was taken"
    )]
    OtherHost {
        /// The snapshot.
        id: String,
        /// What is another.
        what: &'static str,
        /// What it was.
        then: String,
        /// What it is here.
        now: String,
    },
    /// The snapshot's files are not what they were.
    #[error("snapshot {id} is damaged: {why}; take it from an export, or remove it")]
    Damaged {
        /// The snapshot.
        id: String,
        /// What is wrong.
        why: String,
    },
    /// The backend makes no world with this.
    #[error("a world of this backend has no {0}")]
    Lacks(&'static str),
    /// The machine monitor refused.
    #[error(transparent)]
    Machine(crate::firecracker::api::ApiError),
    /// The machine monitor did not begin, or ended.
    #[error("`{program}` makes no machine: {why}; `worldline doctor` says what this host gives")]
    Monitor {
        /// Its program.
        program: String,
        /// Its own words.
        why: String,
    },
    /// The interpreter could not be started or put back.
    #[error("the interpreter could not be started: {0}")]
    Interpreter(String),
    /// The system refused.
    #[error("cannot make a world: {doing}: {source}; `worldline doctor` says what this host gives")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// Something cannot be run in a world.
#[derive(Debug, Error)]
pub enum ExecError {
    /// The world has ended.
    #[error("world {0} has ended")]
    Gone(String),
    /// Its agent does not answer.
    #[error(
        "world {0} has not answered for {wait} s: destroy it, and go on from its last snapshot", wait = crate::limits::ANSWER.as_secs()
    )]
    Silent(String),
    /// The world is paused.
    #[error("world {0} is paused: resume it first")]
    Paused(String),
    /// It is longer than a call may be.
    #[error("{0} bytes of code, and {most} are the most: write it to a file and run that", most = crate::limits::MAX_CODE)]
    TooLong(usize),
    /// Neither a program nor a line.
    #[error("a command needs at least one word, without zero bytes")]
    NoCommand,
    /// The world has nothing of the kind.
    #[error("this world has no {0}")]
    Lacks(&'static str),
    /// The machine monitor refused.
    #[error(transparent)]
    Machine(crate::firecracker::api::ApiError),
    /// The interpreter ended in the middle of the cell. It begins anew, without its former state.
    #[error("the interpreter ended ({why}); it begins anew, and what it held is lost")]
    InterpreterEnded {
        /// What ended it.
        why: String,
    },
    /// The system refused.
    #[error("cannot run it: {0}")]
    Io(#[from] io::Error),
}

/// A world's disk cannot be given another size. It keeps the one that it had.
#[derive(Debug, Error)]
pub enum ResizeError {
    /// The world has ended.
    #[error("world {0} has ended")]
    Gone(String),
    /// A size that no world can have.
    #[error("a disk of {asked} MiB is not between {} and {}", crate::limits::DISK_MIB.start(), crate::limits::DISK_MIB.end())]
    Size {
        /// What was asked for, in MiB.
        asked: u32,
    },
    /// The backend resizes no disks.
    #[error("the disk of a world of this backend keeps its size: make one with another")]
    Lacks,
    /// There is more on it already.
    #[error("the world has written {written} MiB, which does not fit {asked}: remove files first")]
    Full {
        /// What it has written, in MiB.
        written: u64,
        /// What was asked for, in MiB.
        asked: u32,
    },
    /// The system refused.
    #[error("cannot resize the disk: {0}")]
    Io(#[from] io::Error),
}

/// A file cannot be moved in or out.
#[derive(Debug, Error)]
pub enum FileError {
    /// The world has ended.
    #[error("world {0} has ended")]
    Gone(String),
    /// The world is paused.
    #[error("world {0} is paused: resume it first")]
    Paused(String),
    /// It is longer than one call moves.
    #[error("{path} is longer than {} MiB: move it in parts", crate::limits::MAX_FILE >> 20)]
    TooLong {
        /// The path inside.
        path: String,
    },
    /// The system refused.
    #[error("{path}: {source}")]
    Io {
        /// The path inside.
        path: String,
        /// What the system said.
        source: io::Error,
    },
}

/// A moment cannot be kept. The world goes on.
#[derive(Debug, Error)]
pub enum SnapshotError {
    /// The world has ended.
    #[error("world {0} has ended")]
    Gone(String),
    /// A name that is too long or empty.
    #[error("a snapshot's name has 1 to {} characters", crate::limits::MAX_NAME)]
    Name,
    /// The interpreter runs other threads.
    #[error(
        "the world cannot be kept at this moment: its interpreter runs {0} threads, and a snapshot holds one; let the others end first"
    )]
    Threads(usize),
    /// Other processes run in the world: background commands, children of the interpreter.
    #[error(
        "the world cannot be kept at this moment: other processes run in it ({}), and a snapshot holds the interpreter alone; let them end first", .0.join(", ")
    )]
    Processes(Vec<String>),
    /// The machine monitor refused.
    #[error("the world cannot be kept: {0}")]
    Machine(#[source] crate::firecracker::api::ApiError),
    /// The world has something else that cannot be brought back.
    #[error("the world cannot be kept at this moment: {0}")]
    Refused(String),
    /// The system refused.
    #[error("cannot keep the world: {doing}: {source}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// A stored snapshot cannot be read, written or removed.
#[derive(Debug, Error)]
pub enum StoreError {
    /// There is no such snapshot.
    #[error("there is no snapshot {0}")]
    NoSnapshot(String),
    /// Another program uses the folder.
    #[error("{0} is in use by another worldline: stop that one, or name another folder")]
    Locked(String),
    /// The archive is not one of ours.
    #[error("the archive cannot be read: {0}")]
    Archive(String),
    /// The system refused.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
}
