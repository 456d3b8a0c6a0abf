//! All worlds of one machine behind one set of verbs: register, list, snapshot, branch, start again,
//! pause, resume, run, end. A world is state plus a step: a code world steps by running code, a match by
//! a frame of a learned world.
//!
//! [`Runtime`] is the registry. Every operation is written down before it is answered, whole or not at
//! all, and its rows (entity, branching, measurement, receipt) stand in DuckDB tables that anyone can
//! read: the file opens in the stock program. DuckDB itself is loaded when a registry is opened
//! ([`duck`]), so that building this crate needs nothing but a compiler.
//!
//! This crate must never know HTTP, nor how a world keeps its state.
//!
//! ```no_run
//! use std::sync::Arc;
//! use worldline_runtime::{Branching, Config, NewInstance, NewSnapshot, Note, Runtime};
//! use worldline_sandbox::{Cell, Process, Settings};
//!
//! let process = Process::open(Settings::new("/var/lib/worldline"))?;
//! let images = process.images().clone();
//! let (worlds, _) = Runtime::open(Config { data: "/var/lib/worldline".into(), code: Ok((Arc::new(process), images)), arena: None })?;
//! let image = worlds.create_snapshot(&NewSnapshot::default())?;
//! let base = worlds.start(&image.id, &NewInstance::default())?;
//! worlds.run(&base.id, &Cell::new("x = 41"), &mut |_, _| ())?;
//! let (_, verses) = worlds.branch(&base.id, &Branching { count: 3, ..Branching::default() })?;
//! assert_eq!(verses.iter().map(|verse| verse.trit).sum::<i8>(), 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod check;
pub mod duck;
mod error;
pub mod graph;
mod id;
pub mod limits;
mod lineage;
mod list;
mod model;
mod operate;
mod registry;
mod row;
mod spi;
mod step;
mod store;
mod trit;
mod world;

pub use check::Checked;
pub use duck::{Rows, SqlError, Value};
pub use error::{Blame, WorldError};
pub use lineage::{Difference, Distance, Node};
pub use list::ImageView;
pub use model::{
    Branching, Instance, Kind, Metadata, NewInstance, NewSnapshot, Note, Service, Sizes,
    SizesAsked, Snapshot, Source, Status, Ttl, TtlAction, WakeOn,
};
pub use registry::{Config, Recovery, Runtime};
pub use spi::{Fingerprint, Verification, Verified};
pub use store::StoreError;
