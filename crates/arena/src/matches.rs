//! The life of a match, as a state machine without threads, sockets or a clock of its own: each
//! call is given the time, and leaves its consequences in a list of [`Effect`]s.
//!
//! `open` → `picking` → `ready` (countdown) → `active` → `ended`. Once active it only goes on to
//! ended, and an ended match never changes but for late signatures.

use std::sync::Arc;
use std::time::Duration;

use ed25519_dalek::VerifyingKey;
use worldline_abi::{InputSignature, Pad, end_reason, seat, status};

use crate::game::{FRAME_BYTES, Game};
use crate::id::{MatchId, Token};
use crate::journal::Entry;
use crate::limits::{ABANDON_GRACE, COUNTDOWN, ENDED_TTL, LOBBY_TTL};
use crate::opponent::{Opponent, Player};
use crate::recording::Recording;
use crate::seats::{Human, Occupant, Seat, SeatError};
use crate::sign;
use crate::view::{MatchView, ResultView, SeatView, seat_name, status_name};
use crate::world::World;

use ticks::Clock;
pub(crate) use ticks::{Punctuality, Turn, run_together};

mod ticks;

/// Time since the arena's start.
pub(crate) type Now = Duration;

/// What has to happen outside because of a call.
pub(crate) enum Effect {
    /// A frame ran: everybody gets these bytes.
    Frame(Box<[u8; FRAME_BYTES]>),
    /// The view changed.
    View,
    /// The match went live: a journal begins with these entries.
    Begin(Vec<Entry>),
    /// Entries for the journal.
    Journal(Vec<Entry>),
    /// The match is over: store this.
    Finish(Arc<Recording>),
}

enum Phase {
    Lobby,
    Countdown {
        start: Now,
    },
    /// The clock stands still (`None`) while no person is connected.
    Live {
        game: Box<Game>,
        clock: Option<Clock>,
    },
    /// Stored at `store_at`, or as soon as all who are there have signed the last frame.
    Ended {
        game: Box<Game>,
        at: Now,
        store_at: Option<Now>,
    },
    /// Left before it began.
    Closed {
        at: Now,
    },
}

/// One match.
pub(crate) struct Match {
    pub(crate) id: MatchId,
    pub(crate) world: Arc<World>,
    stage: u8,
    clock: u32,
    generator: u64,
    created: i64,
    seats: [Seat; 2],
    phase: Phase,
    spectators: u32,
    idle_since: Now,
    replay: Option<MatchId>,
    pub(crate) rematch: Option<MatchId>,
    effects: Vec<Effect>,
    pending: Vec<Entry>,
}

/// What a new match needs beside its first player.
pub(crate) struct Setup {
    pub(crate) id: MatchId,
    pub(crate) world: Arc<World>,
    pub(crate) stage: u8,
    /// Frames until time is up.
    pub(crate) clock: u32,
    pub(crate) generator: u64,
    /// Seconds of Unix time.
    pub(crate) created: i64,
}

impl Match {
    /// An open match with its first player seated.
    pub(crate) fn new(setup: Setup, key: VerifyingKey, token: Token, now: Now) -> Self {
        let seats = [Seat::human(key, token, now), Seat::free()];
        Self::with_seats(setup, seats, now)
    }

    fn with_seats(setup: Setup, seats: [Seat; 2], now: Now) -> Self {
        Self {
            id: setup.id,
            world: setup.world,
            stage: setup.stage,
            clock: setup.clock,
            generator: setup.generator,
            created: setup.created,
            seats,
            phase: Phase::Lobby,
            spectators: 0,
            idle_since: now,
            replay: None,
            rematch: None,
            effects: Vec::new(),
            pending: Vec::new(),
        }
    }

    /// A match read back from its journal, paused where the journal ends. Its players have
    /// `grace` to come back.
    pub(crate) fn recovered(
        world: Arc<World>,
        id: MatchId,
        game: Game,
        tokens: [Option<Token>; 2],
        now: Now,
        grace: Duration,
    ) -> Self {
        let session = game.recording.session;
        let seats = [0, 1].map(|at| {
            let occupant = match (
                sign::parse_key(&session.session_keys[at]),
                &tokens[at],
                &game.players[at],
            ) {
                (Some(key), Some(token), _) => Occupant::Human(Box::new(Human {
                    key,
                    token: token.clone(),
                    away: Some((now, grace)),
                })),
                (_, _, Some(player)) => Occupant::Cpu(player.opponent(), player.clone()),
                _ => Occupant::Free,
            };
            Seat {
                occupant,
                character: Some(session.characters[at]),
                ready: true,
            }
        });
        let setup = Setup {
            id,
            world,
            stage: session.stage,
            clock: session.clock,
            generator: session.generator,
            created: session.created,
        };
        let mut this = Self::with_seats(setup, seats, now);
        this.phase = Phase::Live {
            game: Box::new(game),
            clock: None,
        };
        this
    }

    /// Seats an opponent that needs no person, with its character picked.
    pub(crate) fn seat_cpu(&mut self, opponent: Opponent, player: Player, character: u8) {
        self.seats[1] = Seat {
            occupant: Occupant::Cpu(opponent, player),
            character: Some(character),
            ready: true,
        };
        self.effects.push(Effect::View);
    }

    /// The match's status, as `abi::status`.
    pub(crate) fn status(&self) -> u8 {
        match &self.phase {
            Phase::Lobby if self.seats[1].code() == seat::FREE => status::OPEN,
            Phase::Lobby => status::PICKING,
            Phase::Countdown { .. } => status::READY,
            Phase::Live { .. } => status::ACTIVE,
            Phase::Ended { .. } | Phase::Closed { .. } => status::ENDED,
        }
    }

    fn refuse(&self, what: &'static str) -> SeatError {
        SeatError::Phase {
            what,
            status: status_name(self.status()),
        }
    }

    /// Takes the second seat.
    pub(crate) fn join(
        &mut self,
        key: VerifyingKey,
        token: Token,
        now: Now,
    ) -> Result<u8, SeatError> {
        if matches!(self.phase, Phase::Closed { .. }) {
            return Err(self.refuse("join"));
        }
        if self.status() != status::OPEN {
            return Err(SeatError::SeatTaken(self.id));
        }
        self.seats[1] = Seat::human(key, token, now);
        self.idle_since = now;
        self.effects.push(Effect::View);
        Ok(1)
    }

    /// Connects the player that the token belongs to; a paused match goes on.
    pub(crate) fn connect(&mut self, token: &str, now: Now) -> Result<u8, SeatError> {
        let owner = |seat: &Seat| {
            seat.as_human()
                .is_some_and(|human| human.token.matches(token))
        };
        let at = self
            .seats
            .iter()
            .position(owner)
            .ok_or(SeatError::BadToken)?;
        let Occupant::Human(human) = &mut self.seats[at].occupant else {
            return Err(SeatError::BadToken);
        };
        if human.away.is_none() {
            return Err(SeatError::SeatBusy);
        }
        human.away = None;
        if let Phase::Live {
            game,
            clock: clock @ None,
        } = &mut self.phase
        {
            let base = game.state.frame;
            *clock = Some(Clock::new(now + COUNTDOWN, base));
        }
        self.count_down(now);
        self.effects.push(Effect::View);
        Ok(at as u8)
    }

    /// Notes that a player's connection is gone.
    pub(crate) fn disconnect(&mut self, seat: u8, now: Now) {
        if let Occupant::Human(human) = &mut self.seats[seat as usize].occupant {
            human.away = Some((now, ABANDON_GRACE));
        }
        match &mut self.phase {
            Phase::Countdown { .. } => self.back_to_lobby(),
            Phase::Live { game, clock } => {
                game.release(seat as usize);
                if !self
                    .seats
                    .iter()
                    .any(|seat| seat.as_human().is_some() && seat.present())
                {
                    *clock = None;
                }
            }
            _ => (),
        }
        self.idle_since = now;
        self.effects.push(Effect::View);
    }

    fn back_to_lobby(&mut self) {
        self.phase = Phase::Lobby;
        for seat in &mut self.seats {
            seat.ready = seat.as_human().is_none();
        }
    }

    /// Counts a watcher in or out.
    pub(crate) fn watch(&mut self, coming: bool, now: Now) {
        self.spectators = if coming {
            self.spectators + 1
        } else {
            self.spectators.saturating_sub(1)
        };
        self.idle_since = now;
        self.effects.push(Effect::View);
    }

    /// Picks a character; whoever was ready has to say so again.
    pub(crate) fn pick(&mut self, seat: u8, character: u8) -> Result<(), SeatError> {
        if !matches!(self.phase, Phase::Lobby) {
            return Err(self.refuse("pick a character"));
        }
        if !self.world.has_character(self.stage, character) {
            return Err(SeatError::UnknownCharacter(character));
        }
        let seat = &mut self.seats[seat as usize];
        (seat.character, seat.ready) = (Some(character), false);
        self.effects.push(Effect::View);
        Ok(())
    }

    /// The player waits for the start; with both ready the countdown begins.
    pub(crate) fn ready(&mut self, seat: u8, now: Now) -> Result<(), SeatError> {
        if !matches!(self.phase, Phase::Lobby) {
            return Err(self.refuse("press start"));
        }
        let seat = &mut self.seats[seat as usize];
        seat.character.ok_or(SeatError::NoCharacter)?;
        seat.ready = true;
        self.count_down(now);
        self.effects.push(Effect::View);
        Ok(())
    }

    fn count_down(&mut self, now: Now) {
        let ready = self.seats.iter().all(|seat| seat.ready && seat.present());
        if ready && matches!(self.phase, Phase::Lobby) {
            self.phase = Phase::Countdown {
                start: now + COUNTDOWN,
            };
        }
    }

    /// Takes a pad for the next frame. Pads outside a live match are checked and forgotten.
    pub(crate) fn press(&mut self, seat: u8, pad: Pad, sequence: u16) -> Result<(), SeatError> {
        if !pad.is_valid() {
            return Err(SeatError::BadPad);
        }
        if let Phase::Live { game, .. } = &mut self.phase {
            game.press(seat as usize, pad, sequence);
        }
        Ok(())
    }

    /// Leaves for good: the other seat wins a live match; one that has not begun is closed.
    pub(crate) fn quit(&mut self, seat: u8, now: Now) -> Result<(), SeatError> {
        match &mut self.phase {
            Phase::Live { game, .. } => {
                game.stop(1 - seat, end_reason::QUIT);
                self.finish(now);
            }
            Phase::Lobby | Phase::Countdown { .. } => {
                self.phase = Phase::Closed { at: now };
                self.effects.push(Effect::View);
            }
            Phase::Ended { .. } | Phase::Closed { .. } => return Err(self.refuse("quit")),
        }
        Ok(())
    }

    /// What the seat's key has to have signed for `frame`.
    pub(crate) fn sign_message(
        &self,
        seat: u8,
        frame: u32,
    ) -> Result<(VerifyingKey, [u8; 71]), SeatError> {
        let game = self.game().ok_or_else(|| self.refuse("sign"))?;
        let human = self.seats[seat as usize]
            .as_human()
            .ok_or(SeatError::BadToken)?;
        let hash = game
            .open_mark(seat as usize, frame)
            .ok_or(SeatError::NoMark(frame))?;
        Ok((human.key, sign::message(game.id(), seat, frame, &hash)))
    }

    /// Stores a signature that was checked against [`Match::sign_message`].
    pub(crate) fn signed(
        &mut self,
        seat: u8,
        frame: u32,
        signature: [u8; 64],
    ) -> Result<(), SeatError> {
        let signature = InputSignature {
            frame,
            seat,
            padding: [0; 3],
            signature,
        };
        let (Phase::Live { game, .. } | Phase::Ended { game, .. }) = &mut self.phase else {
            return Err(self.refuse("sign"));
        };
        if !game.sign(signature) {
            return Err(SeatError::NoMark(frame));
        }
        if !game.is_over() {
            self.pending.push(Entry::Signature(signature));
            return Ok(());
        }
        let stored = matches!(self.phase, Phase::Ended { store_at: None, .. });
        if stored || !self.awaits_signature() {
            self.store();
        }
        Ok(())
    }

    /// The game, once it has begun.
    pub(crate) fn game(&self) -> Option<&Game> {
        match &self.phase {
            Phase::Live { game, .. } | Phase::Ended { game, .. } => Some(game),
            _ => None,
        }
    }

    /// Of a match just recovered whose last frame was its end: ends it, and gives what to store.
    pub(crate) fn end_recovered(&mut self) -> Option<Arc<Recording>> {
        if !matches!(&self.phase, Phase::Live { game, .. } if game.is_over()) {
            return None;
        }
        self.finish(Now::ZERO);
        self.pending.clear();
        self.effects.clear();
        self.game().map(|game| game.recording.clone())
    }

    /// Takes the consequences of all calls since the last time.
    pub(crate) fn effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// Journal entries not handed over yet. What the journal does not take is given back by
    /// [`Match::keep_pending`].
    pub(crate) fn take_pending(&mut self) -> Vec<Entry> {
        std::mem::take(&mut self.pending)
    }

    /// Puts entries back in front.
    pub(crate) fn keep_pending(&mut self, mut entries: Vec<Entry>) {
        entries.append(&mut self.pending);
        self.pending = entries;
    }

    /// Notes that the replay is on disk.
    pub(crate) fn stored(&mut self) {
        self.replay = Some(self.id);
        self.effects.push(Effect::View);
    }

    /// True when nobody needs this match any more.
    pub(crate) fn forgettable(&self, now: Now) -> bool {
        let nobody = self.spectators == 0
            && !self
                .seats
                .iter()
                .any(|seat| seat.as_human().is_some() && seat.present());
        match &self.phase {
            Phase::Lobby => nobody && now > self.idle_since + LOBBY_TTL,
            Phase::Ended { at, .. } | Phase::Closed { at } => nobody && now > *at + ENDED_TTL,
            Phase::Countdown { .. } | Phase::Live { .. } => false,
        }
    }

    /// The next match of the same seats: same keys and tokens, characters picked.
    pub(crate) fn rematch(
        &self,
        id: MatchId,
        generator: u64,
        created: i64,
        now: Now,
    ) -> Result<Self, SeatError> {
        if !matches!(self.phase, Phase::Ended { .. }) {
            return Err(self.refuse("ask for a rematch"));
        }
        let seats = self.seats.clone().map(|mut seat| {
            if let Occupant::Human(human) = &mut seat.occupant {
                human.away = Some((now, ABANDON_GRACE));
                seat.ready = false;
            }
            seat
        });
        let setup = Setup {
            id,
            world: self.world.clone(),
            stage: self.stage,
            clock: self.clock,
            generator,
            created,
        };
        Ok(Self::with_seats(setup, seats, now))
    }

    /// The match in words.
    pub(crate) fn view(&self, now: Now) -> MatchView {
        let (result, frame) = match &self.phase {
            Phase::Ended { game, .. } => (
                Some(ResultView::new(&game.result(), self.replay)),
                game.state.frame,
            ),
            Phase::Live { game, .. } => (None, game.state.frame),
            _ => (None, 0),
        };
        let starts_in = match self.phase {
            Phase::Countdown { start } => Some(start.saturating_sub(now)),
            Phase::Live {
                clock: Some(clock), ..
            } => clock.start().checked_sub(now),
            _ => None,
        };
        MatchView {
            session: self.id,
            world: self.world.id().into(),
            status: status_name(self.status()),
            stage: self.stage,
            seats: self.seats.each_ref().map(|seat| SeatView {
                kind: seat_name(seat.code()),
                cpu: matches!(seat.occupant, Occupant::Cpu(..)),
                character: seat.character,
                ready: seat.ready,
                connected: seat.present(),
            }),
            spectators: self.spectators,
            frame,
            paused: matches!(self.phase, Phase::Live { clock: None, .. }),
            starts_in_ms: starts_in.map(|left| left.as_millis() as u64),
            result,
            rematch: self.rematch,
        }
    }
}

#[cfg(test)]
mod tests;
