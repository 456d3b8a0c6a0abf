//! Whoever runs a rollup keeps its matches: seats the machines, starts the frames, records them, and
//! settles when a match is over. It serves the sessions that name the rollup's identity as their
//! operator; their players need to stay no longer than they play.
//!
//! Everything that it knows is on the chains or in a journal a match, so it may die at any time: the
//! next keeper goes on.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use solana_address::Address;
use solana_keypair::Keypair;
use solana_signer::Signer;
use worldline_abi::{InputAccount, SessionAccount, seat, status};
use worldline_arena::{Bot, CreateError, Opponent, Recording, Shelf};

use crate::journal::Journal;
use crate::limits::{COUNTDOWN, KEEPER_EVERY, KEEPER_RETRY, KEPT_MATCHES};
use crate::play::{Frames, PlayError, Presser, run};
use crate::program::Program;
use crate::read::{ReadError, parse, read};
use crate::record::{Frame, Recorder};
use crate::session::SessionAt;
use crate::settle::{SettleError, settle};
use crate::table::{Chains, Found, SessionError, find, list};

/// A match could not be kept; it is tried again.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// It could not be found, or a machine could not sit down.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// It could not be run or recorded.
    #[error(transparent)]
    Play(#[from] PlayError),
    /// It could not be settled.
    #[error(transparent)]
    Settle(#[from] SettleError),
    /// The journal of its frames cannot be used.
    #[error("{path}: {source}; the match goes on, its replay may be lost")]
    Journal {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A machine has no one to play it.
    #[error("a machine's seat cannot be filled: {0}")]
    Machine(#[from] CreateError),
    /// A machine would have to play a world that is not here.
    #[error("no machine knows this world: its cartridge (root {0}) is not on this machine's shelf")]
    UnknownWorld(String),
}

impl From<ReadError> for KeepError {
    fn from(error: ReadError) -> Self {
        Self::Session(error.into())
    }
}

/// What became of a match. One that is done stays here, as the rollup lists it on and on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Work {
    Running,
    Done,
}

type Matches = Arc<Mutex<HashMap<Address, Work>>>;

/// Keeps the matches of one rollup.
pub struct Keeper {
    /// Where.
    pub chains: Chains,
    /// Whose sessions.
    pub program: Program,
    /// The rollup's identity. It pays for results and replays on L1.
    pub key: Keypair,
    /// Worlds that machines can play.
    pub shelf: Arc<Shelf>,
    /// Folder of the journals; made when it does not exist.
    pub folder: PathBuf,
}

impl Keeper {
    /// Works until `stop` says so. Blocks; a thread is made for each match that runs.
    pub fn work(self: Arc<Self>, stop: &AtomicBool) -> std::io::Result<()> {
        std::fs::create_dir_all(&self.folder)?;
        let matches = Matches::default();
        let mut said = HashMap::new();
        while !stop.load(Ordering::Relaxed) {
            let wait = match self.round(&matches, &mut said) {
                Ok(()) => KEEPER_EVERY,
                Err(error) => {
                    tracing::warn!(%error, "the sessions of the rollup cannot be looked at");
                    KEEPER_RETRY
                }
            };
            std::thread::sleep(wait);
        }
        Ok(())
    }

    /// Looks at every session once.
    fn round(
        self: &Arc<Self>,
        matches: &Matches,
        said: &mut HashMap<Address, String>,
    ) -> Result<(), SessionError> {
        let mut sessions = list(&self.chains.rollup, self.program)?;
        let mine = self.key.pubkey().to_bytes();
        sessions
            .retain(|(at, book)| book.operator == mine && !lock(matches).contains_key(&at.address));
        let states: Vec<Address> = sessions.iter().map(|(at, _)| at.state).collect();
        let states = self.chains.rollup.accounts(&states)?;
        for ((at, book), state) in sessions.into_iter().zip(states) {
            let Some(state) = state.and_then(|account| parse(&at.state, &account.data).ok()) else {
                continue;
            };
            let found = Found {
                at,
                account: book,
                state,
                lent: true,
            };
            if found.state.status >= status::ACTIVE {
                self.begin(at, matches);
            } else if let Err(error) = self.seat_machines(&found) {
                // Once, not five times a second.
                let words = error.to_string();
                if said.insert(at.address, words.clone()).as_ref() != Some(&words) {
                    tracing::warn!(session = %at.address, error = words);
                }
            }
        }
        Ok(())
    }

    /// Runs and settles a match in a thread of its own.
    fn begin(self: &Arc<Self>, at: SessionAt, matches: &Matches) {
        {
            let mut matches = lock(matches);
            let running = matches.values().filter(|work| **work == Work::Running);
            if running.count() == KEPT_MATCHES {
                return;
            }
            matches.insert(at.address, Work::Running);
        }
        let (keeper, matches) = (Arc::clone(self), Arc::clone(matches));
        std::thread::spawn(move || match keeper.keep(&at.address) {
            Ok(()) => drop(lock(&matches).insert(at.address, Work::Done)),
            Err(error) => {
                tracing::warn!(session = %at.address, %error, "tried again soon");
                std::thread::sleep(KEEPER_RETRY);
                lock(&matches).remove(&at.address);
            }
        });
    }

    /// From the first frame to the closed session.
    fn keep(&self, session: &Address) -> Result<(), KeepError> {
        let found = match find(&self.chains, self.program, session) {
            // The rollup still has its copy of a session that was settled.
            Err(SessionError::Nowhere(_)) => return Ok(()),
            other => other?,
        };
        let path = self.folder.join(session.to_string());
        let failed = |source| KeepError::Journal {
            path: path.clone(),
            source,
        };
        let (mut journal, recorder) =
            Journal::open(&path, found.account.session, &found.state).map_err(failed)?;
        let recording = match recorder {
            Ok(mut recorder) if recorder.is_whole() => {
                // What the players signed is not in the journal.
                let rpc = self.chains.of(&found);
                recorder
                    .inputs(&read::<InputAccount>(&self.program, rpc, &found.at.inputs)?)
                    .map_err(PlayError::from)?;
                Some(recorder.finish())
            }
            Ok(recorder) => Some(self.record(&found, recorder, &mut journal)?),
            Err(error) => {
                tracing::warn!(%session, %error, "this match is settled without a replay");
                None
            }
        };
        settle(&self.chains, &found, &self.key, recording.as_ref())?;
        journal.remove().map_err(failed)
    }

    /// Runs a match to its end, its machines pressing.
    fn record(
        &self,
        found: &Found,
        recorder: Recorder,
        journal: &mut Journal,
    ) -> Result<Recording, KeepError> {
        if found.state.frame == 0 {
            std::thread::sleep(COUNTDOWN);
        }
        let mut machines = self.machines(found)?;
        let mut lost = None;
        let mut told = |frame: &Frame| {
            lost = journal.push(frame).err().or(lost.take());
            let (inputs, state) = frame;
            for (bot, presser) in &mut machines {
                let pad = bot.pad(state, inputs);
                if let Err(error) = presser.press(&self.chains, state.frame, pad) {
                    tracing::debug!(%error, "a machine's pad was lost");
                }
            }
        };
        let patience = KEEPER_RETRY;
        let recording = run(
            &self.chains,
            found,
            &self.key,
            Frames::Scheduled,
            patience,
            Some(recorder),
            &mut told,
        )?;
        if let Some(error) = lost {
            tracing::warn!(session = %found.at.address, %error, "the journal has a hole; the replay has none");
        }
        Ok(recording)
    }

    /// The machines of a match that are this keeper's.
    fn own_seats<'a>(&self, account: &'a SessionAccount) -> impl Iterator<Item = usize> + 'a {
        let mine = self.key.pubkey().to_bytes();
        (0..2).filter(move |at| {
            let of = &account.session;
            !matches!(of.seats[*at], seat::FREE | seat::HUMAN) && of.session_keys[*at] == mine
        })
    }

    fn bot(&self, found: &Found, at: usize) -> Result<Bot, KeepError> {
        let of = &found.account.session;
        let world = self.shelf.by_root(&of.world_root);
        let world =
            world.ok_or_else(|| KeepError::UnknownWorld(worldline_arena::hex(&of.world_root)))?;
        let opponent = Opponent::from_code(of.seats[at]).unwrap_or(Opponent::Random);
        let generator = of.generator.wrapping_add(at as u64);
        Ok(Bot::new(
            &self.shelf,
            opponent,
            world,
            of.stage,
            at,
            generator,
        )?)
    }

    fn machines<'a>(&'a self, found: &'a Found) -> Result<Vec<(Bot, Presser<'a>)>, KeepError> {
        let seats = self.own_seats(&found.account);
        seats
            .map(|at| {
                let presser = Presser::new(&self.chains, found, &self.key, at as u8)?;
                Ok((self.bot(found, at)?, presser))
            })
            .collect()
    }

    /// Machines pick and are ready as soon as both seats are taken.
    fn seat_machines(&self, found: &Found) -> Result<(), KeepError> {
        if found.state.status != status::PICKING {
            return Ok(());
        }
        let waiting = self
            .own_seats(&found.account)
            .filter(|at| found.account.ready[*at] == 0);
        for at in waiting {
            let character = self.bot(found, at)?.character;
            self.chains
                .ready(found, &self.key, &self.key, at as u8, character)?;
        }
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
