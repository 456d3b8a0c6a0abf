//! What time does to a match: it begins, its frames fall due, it ends.

use std::sync::Arc;

use worldline_abi::{InputBuffer, Session, SessionState, end_reason, winner};

use super::{Effect, Match, Now, Phase};
use crate::game::Game;
use crate::journal::Entry;
use crate::limits::{FRAMES_PER_SECOND, MAX_FRAMES, MAX_LAG, SIGN_GRACE};
use crate::opponent::Player;
use crate::recording::Recording;
use crate::seats::{Occupant, Seat};
use crate::world::{Running, Scratch, StepError, step_together};

const NANOS: u128 = 1_000_000_000;

/// Frame `base + n` is due at tick `first + n` of the arena. All matches tick at the same
/// instants, so that those of one world can be stepped together.
#[derive(Clone, Copy)]
pub(super) struct Clock {
    first: u64,
    base: u32,
}

impl Clock {
    /// Frame `base` is where the match stands at `start`, or at the first tick after it.
    pub(super) fn new(start: Now, base: u32) -> Self {
        Self {
            first: ticks(start, NANOS - 1),
            base,
        }
    }

    /// When frame `base` stands.
    pub(super) fn start(&self) -> Now {
        tick(self.first)
    }

    fn due(&self, frame: u32) -> Now {
        tick(self.first + u64::from(frame - self.base))
    }

    /// Gives up `late`, in whole ticks.
    fn slip(&mut self, late: Now) {
        self.first += ticks(late, 0);
    }
}

/// The instant of tick `n`, n/60 s after the arena's start.
fn tick(n: u64) -> Now {
    Now::from_nanos(n * NANOS as u64 / u64::from(FRAMES_PER_SECOND))
}

/// Ticks in `time`, after `extra` (of a billion) is added to round up.
fn ticks(time: Now, extra: u128) -> u64 {
    ((time.as_nanos() * u128::from(FRAMES_PER_SECOND) + extra) / NANOS) as u64
}

/// What a match wants of its clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// A frame is due: [`run_together`].
    Frame,
    /// Nothing before this time.
    Wait(Now),
    /// Nothing until a player connects.
    Rest,
}

/// How a clock kept its time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Punctuality {
    /// Frames run.
    pub(crate) frames: u32,
    /// Frames begun later than the next one was due: missed ticks.
    pub(crate) missed: u32,
    /// Times the clock gave up and moved its first tick.
    pub(crate) slips: u32,
    /// The latest begin of a frame.
    pub(crate) worst: Now,
}

impl Match {
    /// Does what is due at `now` but for frames: starts, ends the abandoned, stores the ended.
    pub(crate) fn turn(&mut self, now: Now, kept: &mut Punctuality) -> Turn {
        if let Phase::Countdown { start } = self.phase {
            if now < start {
                return Turn::Wait(start);
            }
            self.begin(start);
        }
        self.abandon(now);
        match &mut self.phase {
            Phase::Live {
                game,
                clock: Some(clock),
            } => {
                let due = clock.due(game.state.frame + 1);
                let Some(late) = now.checked_sub(due) else {
                    return Turn::Wait(due);
                };
                if late > MAX_LAG {
                    clock.slip(late);
                    kept.slips += 1;
                }
                kept.missed += u32::from(ticks(late, 0) > 0);
                kept.frames += 1;
                kept.worst = kept.worst.max(late);
                Turn::Frame
            }
            Phase::Live { clock: None, .. } => self.abandoned_at().map_or(Turn::Rest, Turn::Wait),
            Phase::Ended {
                store_at: Some(at), ..
            } if *at <= now => {
                self.store();
                Turn::Rest
            }
            Phase::Ended {
                store_at: Some(at), ..
            } => Turn::Wait(*at),
            _ => Turn::Rest,
        }
    }

    fn begin(&mut self, start: Now) {
        let characters = self
            .seats
            .each_ref()
            .map(|seat| seat.character.unwrap_or_default());
        let Some(state) = self
            .world
            .start(self.stage, characters, self.generator, self.clock)
        else {
            self.back_to_lobby();
            self.effects.push(Effect::View);
            return;
        };
        let session = self.session(characters, state);
        let players = self.seats.each_ref().map(player);
        let tokens = self
            .seats
            .each_ref()
            .map(|seat| seat.as_human().map(|human| human.token.clone()));
        let head = Entry::begin(session, state, self.world.id(), tokens);
        let game = Box::new(Game::new(self.world.running(), session, state, players));
        let clock = Some(Clock::new(start, state.frame));
        self.phase = Phase::Live { game, clock };
        self.effects
            .extend([Effect::Begin(vec![head]), Effect::View]);
    }

    fn session(&self, characters: [u8; 2], state: SessionState) -> Session {
        Session {
            id: self.id.padded(),
            world_root: self.world.root(),
            session_keys: self.seats.each_ref().map(|seat| {
                seat.as_human()
                    .map_or([0; 32], |human| human.key.to_bytes())
            }),
            generator: self.generator,
            created: self.created,
            clock: state.clock,
            stage: self.stage,
            characters,
            seats: self.seats.each_ref().map(Seat::code),
            ..Session::default()
        }
    }

    /// The game and the inputs of its next frame, to be run together with others.
    fn lane(&mut self) -> (&mut Running, &mut SessionState, InputBuffer) {
        let Phase::Live { game, .. } = &mut self.phase else {
            unreachable!("only a live match has a frame due");
        };
        let game = &mut **game;
        (&mut game.running, &mut game.state, game.next)
    }

    /// The opponents that are no people choose their pads.
    fn prepare(&mut self, scratch: &mut Scratch) {
        if let Phase::Live { game, .. } = &mut self.phase {
            game.prepare(scratch);
        }
    }

    /// The frame that [`Match::lane`] was for has run, or could not.
    fn ran(&mut self, result: Result<(), StepError>, now: Now) {
        let Phase::Live { game, .. } = &mut self.phase else {
            return;
        };
        match result {
            Ok(()) => {
                game.ran();
                self.pending
                    .push(Entry::frame(&game.slots, &game.state.chain));
            }
            Err(error) => {
                tracing::error!(session = %self.id, %error, "a frame could not run; the match ends in a draw");
                game.stop(winner::DRAW, end_reason::ABANDONED);
            }
        }
        if game.state.frame - game.recording.start.frame >= MAX_FRAMES && !game.is_over() {
            game.stop(winner::DRAW, end_reason::TIME);
        }
        self.effects
            .push(Effect::Frame(Box::new(game.frame_message())));
        if game.is_over() {
            self.finish(now);
        }
    }

    /// When the match ends unless somebody comes back.
    fn abandoned_at(&self) -> Option<Now> {
        let deadlines = self
            .seats
            .iter()
            .filter_map(Seat::as_human)
            .filter_map(|human| human.away);
        deadlines.map(|(since, grace)| since + grace).min()
    }

    fn abandon(&mut self, now: Now) {
        let Some(_) = self.abandoned_at().filter(|at| *at <= now) else {
            return;
        };
        let present = self.seats.each_ref().map(Seat::present);
        let humans = self.seats.each_ref().map(|seat| seat.as_human().is_some());
        if let Phase::Live { game, .. } = &mut self.phase {
            let victor = match (present, humans) {
                ([true, false], _) => 0,
                ([false, true], _) => 1,
                _ => winner::DRAW,
            };
            game.stop(victor, end_reason::ABANDONED);
            self.finish(now);
        }
    }

    /// Whether a player who is there has yet to sign the last frame.
    pub(super) fn awaits_signature(&self) -> bool {
        let there = |at: &usize| self.seats[*at].as_human().is_some() && self.seats[*at].present();
        let owes = |at| self.game().is_some_and(|game| game.owes_signature(at));
        (0..2).filter(there).any(owes)
    }

    /// Stores the replay of an ended match, again if it was stored before.
    pub(super) fn store(&mut self) {
        if let Phase::Ended { game, store_at, .. } = &mut self.phase {
            *store_at = None;
            self.effects.push(Effect::Finish(game.recording.clone()));
        }
    }

    pub(super) fn finish(&mut self, now: Now) {
        let Phase::Live { mut game, .. } =
            std::mem::replace(&mut self.phase, Phase::Closed { at: now })
        else {
            unreachable!("only a live match ends");
        };
        let recording: Arc<Recording> = game.finish();
        self.pending.push(Entry::end(&game.state));
        let last = std::mem::take(&mut self.pending);
        self.effects.extend([Effect::Journal(last), Effect::View]);
        self.phase = Phase::Ended {
            game,
            at: now,
            store_at: Some(now + SIGN_GRACE),
        };
        // Players learn of a frame's end from the frame itself, and sign it; not of the arena's word.
        let told = [end_reason::STOCKS, end_reason::TIME].contains(&recording.result.end_reason);
        if !told || !self.awaits_signature() {
            self.store();
        }
    }
}

fn player(seat: &Seat) -> Option<Player> {
    match &seat.occupant {
        Occupant::Cpu(_, player) => Some(player.clone()),
        _ => None,
    }
}

/// Runs the frame that is due of each match, over one pass of the weights of the world that all of
/// them play. One that cannot be stepped ends in a draw; the others go on.
pub(crate) fn run_together(games: &mut [&mut Match], now: Now, scratches: &mut Vec<Scratch>) {
    while scratches.len() < games.len() {
        scratches.push(Scratch::new());
    }
    for (game, scratch) in games.iter_mut().zip(&mut *scratches) {
        game.prepare(scratch);
    }
    let mut left: Vec<&mut Match> = games.iter_mut().map(|game| &mut **game).collect();
    while !left.is_empty() {
        let mut lanes: Vec<_> = left.iter_mut().map(|game| game.lane()).collect();
        match step_together(&mut lanes, scratches) {
            Ok(()) => {
                drop(lanes);
                return left.iter_mut().for_each(|game| game.ran(Ok(()), now));
            }
            Err((at, error)) => {
                drop(lanes);
                left.remove(at).ran(Err(error), now);
            }
        }
    }
}
