//! A player or a watcher at a match.

use std::sync::Arc;

use tokio::sync::broadcast;
use worldline_abi::{Pad, status};

use crate::arena::{Event, Shared, Table, unix_time};
use crate::game::FRAME_BYTES;
use crate::id::{MatchId, random_bytes};
use crate::matches::{Match, Now};
use crate::seats::SeatError;
use crate::sign;
use crate::view::MatchView;

/// A player or a watcher at a match. Dropping it is leaving.
pub struct Connection {
    pub(crate) shared: Arc<Shared>,
    pub(crate) table: Arc<Table>,
    pub(crate) seat: Option<u8>,
    pub(crate) id: MatchId,
    /// What happens at the match, from the moment of connecting.
    pub events: broadcast::Receiver<Event>,
    /// Of a match under way: the last frame, and the running hash of the seat's inputs up to it.
    pub resume: Option<(u32, [u8; 32])>,
    /// Of a match under way: the last frame, as a message.
    pub frame: Option<Box<[u8; FRAME_BYTES]>>,
}

impl Connection {
    /// The seat, or `None` for a watcher.
    pub fn seat(&self) -> Option<u8> {
        self.seat
    }

    /// The match.
    pub fn id(&self) -> MatchId {
        self.id
    }

    /// The match in words.
    pub fn view(&self) -> MatchView {
        self.table.lock().view(self.shared.now())
    }

    fn act<T>(
        &self,
        what: &'static str,
        act: impl FnOnce(&mut Match, u8, Now) -> Result<T, SeatError>,
    ) -> Result<T, SeatError> {
        let seat = self.seat.ok_or(SeatError::Watching(what))?;
        let mut game = self.table.lock();
        let before = game.status();
        let result = act(&mut game, seat, self.shared.now());
        let started = before != game.status() && game.status() == status::READY;
        self.shared.settle(&self.table, &mut game);
        drop(game);
        if started {
            self.shared.ring(&self.table);
        }
        result
    }

    /// Picks a character.
    pub fn pick(&self, character: u8) -> Result<(), SeatError> {
        self.act("pick a character", |game, seat, _| {
            game.pick(seat, character)
        })
    }

    /// Waits for the start.
    pub fn ready(&self) -> Result<(), SeatError> {
        self.act("press start", Match::ready)
    }

    /// Leaves for good.
    pub fn quit(&self) -> Result<(), SeatError> {
        self.act("quit", Match::quit)
    }

    /// Sends a pad for the next frame.
    pub fn press(&self, pad: Pad, sequence: u16) -> Result<(), SeatError> {
        self.act("play", |game, seat, _| game.press(seat, pad, sequence))
    }

    /// Sends the signature of the running hash at `frame`. It is checked outside the match's lock.
    pub fn sign(&self, frame: u32, signature: &[u8; 64]) -> Result<(), SeatError> {
        let (key, message) = self.act("sign", |game, seat, _| game.sign_message(seat, frame))?;
        if !sign::verify(&key, &message, signature) {
            return Err(SeatError::BadSignature(frame));
        }
        self.act("sign", |game, seat, _| game.signed(seat, frame, *signature))
    }

    /// Opens (or finds) the next match of the same seats, and is ready in it once connected.
    pub fn rematch(&self) -> Result<MatchId, SeatError> {
        let shared = &self.shared;
        let (id, seat) = self.act("ask for a rematch", |game, seat, now| {
            if let Some(next) = game.rematch {
                return Ok((next, seat));
            }
            let next = game.rematch(
                shared.fresh_id(),
                u64::from_le_bytes(random_bytes()),
                unix_time(),
                now,
            )?;
            let id = next.id;
            shared.seat_table(next);
            game.rematch = Some(id);
            self.table.tell(Event::Rematch(id));
            Ok((id, seat))
        })?;
        if let Some(table) = shared.table(id) {
            let mut next = table.lock();
            // A second click changes nothing.
            let _ = next.ready(seat, shared.now());
            shared.settle(&table, &mut next);
            drop(next);
            shared.ring(&table);
        }
        Ok(id)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut game = self.table.lock();
        match self.seat {
            Some(seat) => game.disconnect(seat, self.shared.now()),
            None => game.watch(false, self.shared.now()),
        }
        self.shared.settle(&self.table, &mut game);
    }
}
