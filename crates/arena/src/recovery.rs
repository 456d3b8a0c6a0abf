//! What a start does with the journals that a dead process left.

use std::sync::Arc;

use crate::arena::Shared;
use crate::game::Game;
use crate::id::MatchId;
use crate::journal::{self, Begin, Entry, JournalError};
use crate::limits::RECOVERY_GRACE;
use crate::matches::Match;
use crate::opponent::Opponent;
use crate::store::StoreError;
use crate::world::Scratch;

/// What was found of matches that ran when the last process died.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Paused until a player comes back.
    pub resumed: Vec<MatchId>,
    /// They were over; their replays are stored.
    pub ended: Vec<MatchId>,
    /// They had not run a frame: gone, their players have to open a new session.
    pub unstarted: Vec<MatchId>,
    /// Their journals are kept, but cannot be used, and why.
    pub kept: Vec<(MatchId, String)>,
}

/// Goes on with what can go on, and stores what is over.
pub(crate) fn recover(shared: &Arc<Shared>) -> Result<Recovery, StoreError> {
    let mut recovery = Recovery::default();
    let mut scratch = Scratch::new();
    for (id, bytes) in shared.store.journals()? {
        if shared.store.replay(id).is_ok() {
            shared.store.drop_journal(id)?;
            recovery.ended.push(id);
            continue;
        }
        match shared.read_back(id, &bytes, &mut scratch) {
            Ok(Some(mut game)) => match game.end_recovered() {
                Some(recording) => {
                    shared.store.keep(id, &recording)?;
                    game.stored();
                    shared.seat_table(game);
                    recovery.ended.push(id);
                }
                None => {
                    let table = shared.seat_table(game);
                    shared.ring(&table);
                    recovery.resumed.push(id);
                }
            },
            Ok(None) => {
                shared.store.drop_journal(id)?;
                recovery.unstarted.push(id);
            }
            Err(why) => recovery.kept.push((id, why)),
        }
    }
    Ok(recovery)
}

impl Shared {
    /// Reads one journal back. `Ok(None)` when nothing had happened in it.
    fn read_back(
        &self,
        id: MatchId,
        bytes: &[u8],
        scratch: &mut Scratch,
    ) -> Result<Option<Match>, String> {
        let (begin, entries) = match journal::read(bytes) {
            Err(JournalError::Empty) => return Ok(None),
            other => other.map_err(|error| error.to_string())?,
        };
        let Begin {
            session,
            start,
            secrets,
        } = begin;
        let world = self.shelf.by_root(&session.world_root).ok_or_else(|| {
            format!(
                "its world `{}` is not on the shelf: put that cartridge back and start again",
                secrets.world
            )
        })?;
        let mut players = [None, None];
        for (seat, player) in players.iter_mut().enumerate() {
            let opponent = Opponent::from_code(session.seats[seat]);
            if let Some(opponent) = opponent.filter(|one| *one != Opponent::Human) {
                let (found, _) = self
                    .shelf
                    .cpu(opponent, world, session.stage, session.generator)
                    .map_err(|error| error.to_string())?;
                *player = Some(found);
            }
        }
        let mut game = Game::new(world.running(), session, start, players);
        for entry in &entries {
            match entry {
                Entry::Frame { slots, prefix } => {
                    game.replay(*slots, scratch)
                        .map_err(|error| error.to_string())?;
                    if game.state.chain[..prefix.len()] != *prefix {
                        return Err(format!(
                            "frame {} came out differently than it was recorded",
                            game.state.frame
                        ));
                    }
                }
                Entry::Signature(signature) => drop(game.sign(*signature)),
                Entry::End { winner, reason } if !game.is_over() => game.stop(*winner, *reason),
                Entry::End { .. } | Entry::Begin(_) => (),
            }
        }
        let mut good = Vec::new();
        Entry::begin(session, start, &secrets.world, secrets.tokens.clone()).write(&mut good);
        entries.iter().for_each(|entry| entry.write(&mut good));
        self.store
            .rewrite_journal(id, &good)
            .map_err(|error| error.to_string())?;
        Ok(Some(Match::recovered(
            world.clone(),
            id,
            game,
            secrets.tokens,
            self.now(),
            RECOVERY_GRACE,
        )))
    }
}
