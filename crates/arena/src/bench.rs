//! What this machine can do, measured: frames of the whole step, live matches, copies.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use worldline_abi::Pad;

use crate::arena::{Arena, Config, CreateError, EnterError, NewMatch};
use crate::branch::Branch;
use crate::clock::Timing;
use crate::id::random_bytes;
use crate::limits::{COUNTDOWN, FRAMES_PER_SECOND};
use crate::opponent::Opponent;
use crate::seats::SeatError;
use crate::store::StoreError;
use crate::world::{Scratch, Shelf, World};

/// Copies that are timed.
const COPIES: usize = 2000;
/// Frames of which a median is taken, early and late in a match.
const SAMPLE: u32 = 500;
/// The late sample begins here.
const LATE: u32 = 10_000;

/// Microseconds of repeated runs.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Micros {
    /// Half took at most this.
    pub median: f64,
    /// 99 of 100 took at most this.
    pub p99: f64,
}

impl Micros {
    /// Of the runs' durations; there must be one.
    pub fn of(mut runs: Vec<Duration>) -> Self {
        runs.sort_unstable();
        let at = |share: usize| runs[(runs.len() - 1) * share / 100].as_secs_f64() * 1e6;
        Self {
            median: at(50),
            p99: at(99),
        }
    }
}

/// Many live matches at once.
#[derive(Clone, Debug, Serialize)]
pub struct SessionsReport {
    /// The world played.
    pub world: String,
    /// Matches, each of one idle person and one random opponent.
    pub matches: usize,
    /// How long it was measured, seconds.
    pub seconds: u64,
    /// Threads that ran frames.
    pub clocks: usize,
    /// Frames that were due.
    pub due: u64,
    /// How the clocks kept time.
    pub timing: Timing,
    /// Copying one of the live matches into a branch that has its memory.
    pub copy_us: Micros,
    /// Bytes of such a copy.
    pub copy_bytes: usize,
}

/// What a frame costs early and late in a match.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct FrameCost {
    /// Frames 1 to 500, microseconds.
    pub early_us: Micros,
    /// Frames from 10,000 on, microseconds.
    pub late_us: Micros,
}

/// A benchmark could not be run.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each is another operation's error")]
pub enum BenchError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Create(#[from] CreateError),
    #[error(transparent)]
    Enter(#[from] EnterError),
    #[error(transparent)]
    Seat(#[from] SeatError),
}

/// Plays `matches` live matches of `world` for `seconds`, with everything a server does but the
/// sockets: clocks, opponents, journals, events. `data` should be an empty folder.
pub fn sessions(
    world: &Arc<World>,
    data: &Path,
    matches: usize,
    seconds: u64,
    clocks: usize,
) -> Result<SessionsReport, BenchError> {
    let config = Config {
        data: data.into(),
        clocks,
        ..Config::default()
    };
    let (arena, _) = Arena::open(Shelf::new(vec![world.clone()]), config)?;
    let stage = world.stages()[0];
    let key = ed25519_dalek::SigningKey::from_bytes(&random_bytes());
    let new = NewMatch {
        world: world.id().into(),
        stage,
        key: key.verifying_key().to_bytes(),
        opponent: Opponent::Random,
        seconds: None,
    };
    let mut players = Vec::with_capacity(matches);
    for _ in 0..matches {
        let seat = arena.create(&new)?;
        let player = arena.connect(seat.id, Some(seat.token.as_str()))?;
        player.pick(world.characters(stage)[0])?;
        player.ready()?;
        players.push(player);
    }
    std::thread::sleep(COUNTDOWN + Duration::from_millis(500));
    let before = arena.timing();
    std::thread::sleep(Duration::from_secs(seconds));
    let after = arena.timing();
    let mut copy = arena.branch(players[0].id())?;
    let copies = (0..COPIES).map(|at| {
        let id = players[at % players.len()].id();
        let start = Instant::now();
        arena.branch_into(id, &mut copy).map(|()| start.elapsed())
    });
    let copy_us = Micros::of(copies.collect::<Result<_, _>>()?);
    Ok(SessionsReport {
        world: world.id().into(),
        matches,
        seconds,
        clocks,
        due: matches as u64 * seconds * u64::from(FRAMES_PER_SECOND),
        timing: after.since(&before),
        copy_us,
        copy_bytes: copy.bytes(),
    })
}

/// Times single frames of the whole step, at the start of a match and after frame 10,000.
///
/// # Panics
/// If the world has no start.
pub fn frame_cost(world: &Arc<World>) -> FrameCost {
    let stage = world.stages()[0];
    let character = world.characters(stage)[0];
    let start =
        || Branch::start(world, stage, [character; 2], 1).expect("the world has this start");
    let (mut branch, mut scratch) = (start(), Scratch::new());
    let mut sample = |from: u32| {
        let mut times = Vec::new();
        while branch.state().frame < from + SAMPLE {
            let begin = Instant::now();
            let ran = branch.step([Pad::default(); 2], &mut scratch);
            if ran.is_ok() && branch.state().frame > from {
                times.push(begin.elapsed());
            }
            if ran.is_err() {
                // The match ended; its hidden state goes on in the next one.
                branch.revive(&start());
            }
        }
        Micros::of(times)
    };
    FrameCost {
        early_us: sample(0),
        late_us: sample(LATE),
    }
}
