//! Matches on this machine: seats, the 60 Hz clock, opponents, results, replays, verification.
//!
//! The arena is the authority on a match. It runs frame n at t0 + n/60 s on a thread of its own,
//! on the newest pad of each seat; journals every input, so that a killed process goes on where it
//! died; and keeps a replay that anyone can re-execute. It must never know how players reach it,
//! chains or money.
//!
//! The main calls are [`Arena::create`] and [`Arena::connect`]:
//!
//! ```
//! use worldline_arena::{Arena, Config, NewMatch, Opponent, Shelf, World};
//! use worldline_cartridge::testing::{Size, cartridge};
//!
//! let folder = tempfile::tempdir()?;
//! let world = World::new("micro", cartridge(Size::Micro, 7), serde_json::Value::Null);
//! let config = Config { data: folder.path().into(), ..Config::default() };
//! let (arena, _) = Arena::open(Shelf::new(vec![world]), config)?;
//!
//! let key = ed25519_dalek::SigningKey::from_bytes(&[7; 32]).verifying_key().to_bytes();
//! let new = NewMatch { world: "micro".into(), stage: 31, key, opponent: Opponent::Random, seconds: None };
//! let seat = arena.create(&new)?;
//! let player = arena.connect(seat.id, Some(seat.token.as_str()))?;
//! player.pick(2)?;
//! player.ready()?;
//! assert_eq!(player.view().status, "ready");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod arena;
pub mod bench;
mod branch;
mod card;
mod clock;
mod connection;
pub mod fault;
mod game;
mod ghost;
mod id;
mod journal;
pub mod limits;
mod matches;
mod opponent;
mod recorder;
mod recording;
mod recovery;
mod seats;
pub mod sign;
mod store;
mod verify;
mod view;
mod world;

pub use arena::{Arena, Config, CreateError, EnterError, Event, NewMatch, Seated};
pub use branch::{Branch, RolloutError, rollout};
pub use card::{Named, RuleView, Training, WorldCard};
pub use clock::Timing;
pub use connection::Connection;
pub use fault::{Fault, UnknownFault};
pub use game::{FRAME_BYTES, FRAME_TAG, frame_message};
pub use ghost::{Ghost, GhostError};
pub use id::{BadId, MatchId, Token, hex, random_bytes, unhex};
pub use journal::JournalError;
pub use opponent::{Bot, Opponent};
pub use recording::{Recording, ReplayError};
pub use recovery::Recovery;
pub use seats::SeatError;
pub use store::{ReplayView, Store, StoreError};
pub use verify::{
    Finding, JsonFrame, JsonPad, JsonPlayer, JsonReplay, Report, json_frames, states, verify,
};
pub use view::{MatchView, ResultView, SeatView};
pub use world::{Shelf, ShelfError, World};
