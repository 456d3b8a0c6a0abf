//! The two seats of a match, who sits there, and what a seat is refused.

use std::time::Duration;

use ed25519_dalek::VerifyingKey;
use worldline_abi::seat;

use crate::id::{MatchId, Token};
use crate::limits::ABANDON_GRACE;
use crate::matches::Now;
use crate::opponent::{Opponent, Player};

/// A request that cannot be done now; the match is as it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SeatError {
    /// Both seats are taken.
    #[error("both seats of {0} are taken: you can watch it, or open a new session")]
    SeatTaken(MatchId),
    /// The seat's player is already connected.
    #[error("this seat is already being played from another window: close that one first")]
    SeatBusy,
    /// The token opens no seat here.
    #[error("the seat token is not one of this session: join again, or watch without a token")]
    BadToken,
    /// Watchers have no say.
    #[error("you are watching: only the two players can {0}")]
    Watching(&'static str),
    /// The match is in another phase.
    #[error("cannot {what} while the match is {status}")]
    Phase {
        /// What was tried.
        what: &'static str,
        /// The match's status.
        status: &'static str,
    },
    /// The world has no such character here.
    #[error("this world has no character {0} on this stage: pick one from its list")]
    UnknownCharacter(u8),
    /// Ready needs a character.
    #[error("pick a character before you press start")]
    NoCharacter,
    /// A pad's axis or button is out of range.
    #[error("the pad is out of range: sticks within ±32000, only known buttons")]
    BadPad,
    /// No signature is expected for this frame.
    #[error("no signature is expected for frame {0}: sign each 60th frame once, after it ran")]
    NoMark(u32),
    /// The signature is wrong.
    #[error("the signature for frame {0} does not match the inputs that were applied")]
    BadSignature(u32),
}

impl SeatError {
    /// A short name that programs can rely on.
    pub fn code(&self) -> &'static str {
        match self {
            Self::SeatTaken(_) => "seat_taken",
            Self::SeatBusy => "seat_busy",
            Self::BadToken => "bad_token",
            Self::Watching(_) => "watching",
            Self::Phase { .. } => "wrong_phase",
            Self::UnknownCharacter(_) => "unknown_character",
            Self::NoCharacter => "no_character",
            Self::BadPad => "bad_pad",
            Self::NoMark(_) => "no_mark",
            Self::BadSignature(_) => "bad_signature",
        }
    }
}

/// A person in a seat.
#[derive(Clone)]
pub(crate) struct Human {
    pub(crate) key: VerifyingKey,
    pub(crate) token: Token,
    /// `None` while connected, otherwise since when not, and for how long that is allowed.
    pub(crate) away: Option<(Now, Duration)>,
}

/// Who sits in a seat.
#[derive(Clone)]
pub(crate) enum Occupant {
    Free,
    Human(Box<Human>),
    Cpu(Opponent, Player),
}

/// A seat of a match, taken or not.
#[derive(Clone)]
pub(crate) struct Seat {
    pub(crate) occupant: Occupant,
    pub(crate) character: Option<u8>,
    pub(crate) ready: bool,
}

impl Seat {
    /// A seat that nobody has taken.
    pub(crate) fn free() -> Self {
        Self {
            occupant: Occupant::Free,
            character: None,
            ready: false,
        }
    }

    /// A seat that a person has just taken, not yet connected.
    pub(crate) fn human(key: VerifyingKey, token: Token, now: Now) -> Self {
        let away = Some((now, ABANDON_GRACE));
        Self {
            occupant: Occupant::Human(Box::new(Human { key, token, away })),
            character: None,
            ready: false,
        }
    }

    /// The person in it, if it is one.
    pub(crate) fn as_human(&self) -> Option<&Human> {
        match &self.occupant {
            Occupant::Human(human) => Some(human),
            _ => None,
        }
    }

    /// Its value in `abi::Session::seats`.
    pub(crate) fn code(&self) -> u8 {
        match &self.occupant {
            Occupant::Free => seat::FREE,
            Occupant::Human(_) => seat::HUMAN,
            Occupant::Cpu(opponent, _) => opponent.code(),
        }
    }

    /// Whether somebody, or something, plays here now.
    pub(crate) fn present(&self) -> bool {
        match &self.occupant {
            Occupant::Free => false,
            Occupant::Human(human) => human.away.is_none(),
            Occupant::Cpu(..) => true,
        }
    }
}
