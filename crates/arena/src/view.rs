//! What the arena says about a match, in words that serialise.

use serde::Serialize;
use worldline_abi::{MatchResult, PERCENT_ONE, end_reason, seat, status};

use crate::id::MatchId;

/// A match as its players and watchers see it.
#[derive(Clone, Debug, Serialize, PartialEq)]
pub struct MatchView {
    /// Short id.
    pub session: MatchId,
    /// The world's id.
    pub world: String,
    /// One of `open`, `picking`, `ready`, `active`, `ended`.
    pub status: &'static str,
    /// Stage, the game's own number.
    pub stage: u8,
    /// Both seats.
    pub seats: [SeatView; 2],
    /// Connections that only watch.
    pub spectators: u32,
    /// Frames executed.
    pub frame: u32,
    /// Live, but the clock stands still because no person is connected.
    pub paused: bool,
    /// Milliseconds until frame 1, while `ready`.
    pub starts_in_ms: Option<u64>,
    /// How it ended.
    pub result: Option<ResultView>,
    /// The match that the same seats went on to.
    pub rematch: Option<MatchId>,
}

/// A seat.
#[derive(Clone, Debug, Serialize, PartialEq)]
pub struct SeatView {
    /// `free`, `human`, `ghost`, `random` or `policy`.
    pub kind: &'static str,
    /// Whether no person plays it.
    pub cpu: bool,
    /// The character picked, the game's own number.
    pub character: Option<u8>,
    /// Whether it waits for the start.
    pub ready: bool,
    /// Whether its player is connected; always true for `cpu`.
    pub connected: bool,
}

/// How a match ended.
#[derive(Clone, Debug, Serialize, PartialEq)]
pub struct ResultView {
    /// 0 or 1; `None` for a draw.
    pub winner: Option<u8>,
    /// `stocks`, `time`, `quit` or `abandoned`.
    pub reason: &'static str,
    /// Frames executed.
    pub frames: u32,
    /// Stocks left.
    pub stocks: [u8; 2],
    /// Percent at the end.
    pub percent: [f64; 2],
    /// Characters.
    pub characters: [u8; 2],
    /// Stage.
    pub stage: u8,
    /// How often a rule that is not learned changed a value.
    pub rule_hits: u32,
    /// The id of the stored replay; `None` when it could not be stored.
    pub replay: Option<MatchId>,
}

impl ResultView {
    /// The result in words; `replay` when it is stored.
    pub fn new(result: &MatchResult, replay: Option<MatchId>) -> Self {
        Self {
            winner: (result.winner < 2).then_some(result.winner),
            reason: reason_name(result.end_reason),
            frames: result.end_frame - result.start_frame.min(result.end_frame),
            stocks: result.stocks,
            percent: result
                .percent
                .map(|percent| f64::from(percent) / f64::from(PERCENT_ONE)),
            characters: result.characters,
            stage: result.stage,
            rule_hits: result.rule_hits,
            replay,
        }
    }
}

/// The name of a status byte.
pub(crate) fn status_name(code: u8) -> &'static str {
    match code {
        status::OPEN => "open",
        status::PICKING => "picking",
        status::READY => "ready",
        status::ACTIVE => "active",
        _ => "ended",
    }
}

/// The name of an end reason.
pub(crate) fn reason_name(code: u8) -> &'static str {
    match code {
        end_reason::STOCKS => "stocks",
        end_reason::TIME => "time",
        end_reason::QUIT => "quit",
        end_reason::ABANDONED => "abandoned",
        _ => "none",
    }
}

/// The name of a seat's kind.
pub(crate) fn seat_name(code: u8) -> &'static str {
    match code {
        seat::HUMAN => "human",
        seat::GHOST => "ghost",
        seat::RANDOM => "random",
        seat::POLICY => "policy",
        _ => "free",
    }
}
