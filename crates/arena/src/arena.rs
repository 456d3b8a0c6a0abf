//! The arena: all matches of this machine, their clocks, their players' connections, their replays.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, TryLockError, Weak};
use std::thread::JoinHandle;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::broadcast;

use crate::branch::Branch;
use crate::clock::{self, Bell, Counters, Timing};
use crate::connection::Connection;
use crate::fault::Fault;
use crate::game::{FRAME_BYTES, Game};
use crate::id::{MatchId, Token, random_bytes};
use crate::journal::Entry;
use crate::limits::{FRAMES_PER_SECOND, MAX_LIVE_MATCHES, MAX_MATCHES, WATCH_QUEUE};
use crate::matches::{Effect, Match, Now, Setup};
use crate::opponent::Opponent;
use crate::recorder::Recorder;
use crate::recording::Recording;
use crate::recovery::{Recovery, recover};
use crate::seats::SeatError;
use crate::sign;
use crate::store::{ReplayView, Store, StoreError};
use crate::view::{MatchView, ResultView};
use crate::world::{Shelf, World};

/// How an arena is opened.
#[derive(Debug, Default)]
pub struct Config {
    /// The folder for replays and journals; made when missing.
    pub data: PathBuf,
    /// Threads that run frames; 0 means 1.
    pub clocks: usize,
    /// A fault to die at, in tests.
    pub fault: Fault,
}

/// What everybody at a match is told.
#[derive(Clone, Debug)]
pub enum Event {
    /// A frame ran: tag, state, inputs.
    Frame(Arc<[u8; FRAME_BYTES]>),
    /// Something about the match changed.
    View(Arc<MatchView>),
    /// The match is over and its replay stored (or not: then it names none).
    Result(Arc<ResultView>),
    /// The same seats go on in another match.
    Rematch(MatchId),
}

/// A new match could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// No such world.
    #[error("there is no world `{0}`: see the list of worlds")]
    UnknownWorld(String),
    /// The world cannot be played.
    #[error("`{0}` is a policy, not a world: it can be an opponent, not a place to play")]
    NotAWorld(String),
    /// The world has no such stage.
    #[error("this world has no stage {0}: pick one from its list")]
    UnknownStage(u8),
    /// The match would be too short or too long.
    #[error("a match in this world lasts 1 to {0} seconds")]
    BadClock(u32),
    /// Nothing to play that opponent with.
    #[error("there is no {0} for this world here: choose another opponent")]
    NoOpponent(&'static str),
    /// The key is not an Ed25519 public key.
    #[error("the key is not an Ed25519 public key: send 32 bytes as 64 hexadecimal digits")]
    BadKey,
    /// Too many matches.
    #[error("this arcade already has {MAX_MATCHES} sessions: try again when some have ended")]
    Full,
}

impl CreateError {
    /// A short name that programs can rely on.
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnknownWorld(_) => "unknown_world",
            Self::NotAWorld(_) => "not_a_world",
            Self::UnknownStage(_) => "unknown_stage",
            Self::BadClock(_) => "bad_clock",
            Self::NoOpponent(_) => "no_opponent",
            Self::BadKey => "bad_key",
            Self::Full => "full",
        }
    }
}

/// A match could not be reached or entered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnterError {
    /// No match of this id.
    #[error("there is no session {0}: it may have ended long ago, or the id is mistyped")]
    Unknown(MatchId),
    /// The key is not an Ed25519 public key.
    #[error("the key is not an Ed25519 public key: send 32 bytes as 64 hexadecimal digits")]
    BadKey,
    /// It has no state yet.
    #[error("session {0} has not begun: there is nothing to branch from before its first frame")]
    NotBegun(MatchId),
    /// The match refuses.
    #[error(transparent)]
    Seat(#[from] SeatError),
}

impl EnterError {
    /// A short name that programs can rely on.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unknown(_) => "unknown_session",
            Self::BadKey => "bad_key",
            Self::NotBegun(_) => "not_begun",
            Self::Seat(error) => error.code(),
        }
    }
}

/// What the first player of a match chooses.
#[derive(Clone, Debug)]
pub struct NewMatch {
    /// The world's id.
    pub world: String,
    /// Stage, the game's own number.
    pub stage: u8,
    /// The player's Ed25519 session key.
    pub key: [u8; 32],
    /// Who plays the second seat.
    pub opponent: Opponent,
    /// Seconds until time is up; the world's own when left out, and at most that.
    pub seconds: Option<u32>,
}

/// A seat taken: keep the token, it opens the seat again.
#[derive(Clone, Debug)]
pub struct Seated {
    /// The match.
    pub id: MatchId,
    /// Which seat, 0 or 1.
    pub seat: u8,
    /// The seat's secret.
    pub token: Token,
}

/// A match and those who listen to it.
pub(crate) struct Table {
    game: Mutex<Match>,
    events: broadcast::Sender<Event>,
    clock: usize,
}

impl Table {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Match> {
        self.game.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// [`Table::lock`], unless somebody else has it now.
    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, Match>> {
        match self.game.try_lock() {
            Ok(game) => Some(game),
            Err(TryLockError::Poisoned(error)) => Some(error.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Tells everybody at the match; nobody may be there.
    pub(crate) fn tell(&self, event: Event) {
        let _ = self.events.send(event);
    }
}

/// What clock threads and connections share.
///
/// Lock order: a match may be locked before `tables`, never the other way round; two matches only
/// the older before its rematch.
pub(crate) struct Shared {
    pub(crate) store: Arc<Store>,
    pub(crate) shelf: Shelf,
    tables: RwLock<HashMap<MatchId, Arc<Table>>>,
    recorder: Recorder,
    bells: Vec<Bell>,
    pub(crate) counters: Counters,
    epoch: Instant,
}

impl Shared {
    pub(crate) fn now(&self) -> Now {
        self.epoch.elapsed()
    }

    /// Hands entries to the journal; what it does not take now the match keeps.
    pub(crate) fn journal(&self, game: &mut Match, entries: Vec<Entry>) {
        if entries.is_empty() {
            return;
        }
        if let Err(entries) = self.recorder.append(game.id, entries) {
            game.keep_pending(entries);
        }
    }

    /// Carries out what calls on the match have led to.
    pub(crate) fn settle(&self, table: &Table, game: &mut Match) {
        let mut changed = false;
        for effect in game.effects() {
            match effect {
                Effect::Frame(bytes) => table.tell(Event::Frame(bytes.into())),
                Effect::View => changed = true,
                Effect::Begin(entries) | Effect::Journal(entries) => self.journal(game, entries),
                Effect::Finish(recording) => self.recorder.keep(game.id, recording),
            }
        }
        if changed {
            let view = Arc::new(game.view(self.now()));
            table.tell(Event::View(view));
        }
    }

    pub(crate) fn table(&self, id: MatchId) -> Option<Arc<Table>> {
        let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        tables.get(&id).cloned()
    }

    fn all(&self) -> Vec<Arc<Table>> {
        let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        tables.values().cloned().collect()
    }

    pub(crate) fn seat_table(&self, game: Match) -> Arc<Table> {
        let id = game.id;
        let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        let table = Arc::new(Table {
            clock: tables.len() % self.bells.len(),
            events: broadcast::Sender::new(WATCH_QUEUE),
            game: Mutex::new(game),
        });
        tables.insert(id, table.clone());
        table
    }

    pub(crate) fn ring(&self, table: &Arc<Table>) {
        self.bells[table.clock].ring(table.clone());
    }

    pub(crate) fn fresh_id(&self) -> MatchId {
        std::iter::repeat_with(MatchId::random)
            .find(|id| self.table(*id).is_none() && !self.store.knows(*id))
            .expect("there are more ids than matches")
    }

    /// Forgets matches that nobody needs.
    fn sweep(&self) {
        let now = self.now();
        let stale: Vec<_> = self
            .all()
            .iter()
            .map(|table| table.lock())
            .filter(|game| game.forgettable(now))
            .map(|game| game.id)
            .collect();
        let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        tables.retain(|id, _| !stale.contains(id));
    }

    fn kept(&self, id: MatchId, result: Result<(), StoreError>) {
        let Some(table) = self.table(id) else {
            return;
        };
        let mut game = table.lock();
        match result {
            Ok(()) => game.stored(),
            Err(error) => {
                tracing::error!(session = %id, %error, "the replay could not be stored; its journal stays")
            }
        }
        let view = game.view(self.now());
        self.settle(&table, &mut game);
        if let Some(result) = view.result {
            table.tell(Event::Result(Arc::new(result)));
        }
    }
}

/// All matches of this machine.
pub struct Arena {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Arena {
    /// Opens an arena over the worlds of `shelf`, and goes on with the matches that ran when the
    /// last process died.
    pub fn open(shelf: Shelf, config: Config) -> Result<(Self, Recovery), StoreError> {
        let store = Arc::new(Store::open(&config.data, Arc::new(config.fault))?);
        let shared = Arc::new_cyclic(|weak: &Weak<Shared>| {
            let told = weak.clone();
            let kept = Box::new(move |id, result| {
                if let Some(shared) = told.upgrade() {
                    shared.kept(id, result);
                }
            });
            Shared {
                recorder: Recorder::start(store.clone(), kept),
                store,
                shelf,
                tables: RwLock::default(),
                bells: std::iter::repeat_with(Bell::default)
                    .take(config.clocks.max(1))
                    .collect(),
                counters: Counters::default(),
                epoch: Instant::now(),
            }
        });
        let recovery = recover(&shared)?;
        let threads = (0..shared.bells.len())
            .map(|at| {
                let shared = shared.clone();
                let run = move || clock::run(&shared, &shared.bells[at]);
                std::thread::Builder::new()
                    .name(format!("clock {at}"))
                    .spawn(run)
                    .expect("a thread can be started")
            })
            .collect();
        Ok((Self { shared, threads }, recovery))
    }

    /// The worlds and policies on the shelf.
    pub fn shelf(&self) -> &Shelf {
        &self.shared.shelf
    }

    /// The stored replays.
    pub fn store(&self) -> &Store {
        &self.shared.store
    }

    /// How well the clocks keep time.
    pub fn timing(&self) -> Timing {
        self.shared.counters.timing()
    }

    /// Makes a match and seats its first player.
    pub fn create(&self, new: &NewMatch) -> Result<Seated, CreateError> {
        let shared = &self.shared;
        let world = shared
            .shelf
            .get(&new.world)
            .ok_or_else(|| CreateError::UnknownWorld(new.world.clone()))?;
        if world.is_policy() {
            return Err(CreateError::NotAWorld(new.world.clone()));
        }
        if !world.stages().contains(&new.stage) {
            return Err(CreateError::UnknownStage(new.stage));
        }
        let longest = world.clock() / FRAMES_PER_SECOND;
        let clock = match new.seconds {
            Some(seconds) if (1..=longest).contains(&seconds) => seconds * FRAMES_PER_SECOND,
            Some(_) => return Err(CreateError::BadClock(longest)),
            None => world.clock(),
        };
        let key = sign::parse_key(&new.key).ok_or(CreateError::BadKey)?;
        shared.sweep();
        if shared
            .tables
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
            >= MAX_MATCHES
            || self.timing().live as usize >= MAX_LIVE_MATCHES
        {
            return Err(CreateError::Full);
        }
        let (id, token) = (shared.fresh_id(), Token::random());
        let setup = Setup {
            id,
            world: world.clone(),
            stage: new.stage,
            clock,
            generator: u64::from_le_bytes(random_bytes()),
            created: unix_time(),
        };
        let generator = setup.generator;
        let mut game = Match::new(setup, key, token.clone(), shared.now());
        if new.opponent != Opponent::Human {
            let (player, character) =
                shared
                    .shelf
                    .cpu(new.opponent, world, new.stage, generator)?;
            game.seat_cpu(new.opponent, player, character);
        }
        shared.seat_table(game);
        Ok(Seated { id, seat: 0, token })
    }

    /// Takes the second seat of a match.
    pub fn join(&self, id: MatchId, key: &[u8; 32]) -> Result<Seated, EnterError> {
        let table = self.shared.table(id).ok_or(EnterError::Unknown(id))?;
        let key = sign::parse_key(key).ok_or(EnterError::BadKey)?;
        let token = Token::random();
        let mut game = table.lock();
        let seat = game.join(key, token.clone(), self.shared.now())?;
        self.shared.settle(&table, &mut game);
        Ok(Seated { id, seat, token })
    }

    /// A match in words.
    pub fn view(&self, id: MatchId) -> Result<MatchView, EnterError> {
        let table = self.shared.table(id).ok_or(EnterError::Unknown(id))?;
        let game = table.lock();
        Ok(game.view(self.shared.now()))
    }

    /// All matches that have not ended.
    pub fn list(&self) -> Vec<MatchView> {
        let now = self.shared.now();
        let views = self
            .shared
            .all()
            .into_iter()
            .map(|table| table.lock().view(now));
        let mut views: Vec<_> = views.filter(|view| view.status != "ended").collect();
        views.sort_by_key(|view| view.session);
        views
    }

    /// Connects a player (with the seat's token) or a watcher (without).
    pub fn connect(&self, id: MatchId, token: Option<&str>) -> Result<Connection, EnterError> {
        let table = self.shared.table(id).ok_or(EnterError::Unknown(id))?;
        let events = table.events.subscribe();
        let mut game = table.lock();
        let now = self.shared.now();
        let seat = match token {
            Some(token) => Some(game.connect(token, now)?),
            None => {
                game.watch(true, now);
                None
            }
        };
        let resume = game
            .game()
            .and_then(|game| Some((game.state.frame, game.hashes[usize::from(seat?)].0)));
        let frame = game.game().map(|game| Box::new(game.frame_message()));
        self.shared.settle(&table, &mut game);
        drop(game);
        self.shared.ring(&table);
        Ok(Connection {
            shared: self.shared.clone(),
            table,
            seat,
            id,
            events,
            resume,
            frame,
        })
    }

    /// A copy of a match that has begun, to go its own way; the match does not notice.
    pub fn branch(&self, id: MatchId) -> Result<Branch, EnterError> {
        let table = self.shared.table(id).ok_or(EnterError::Unknown(id))?;
        let game = table.lock();
        game.game()
            .map(Game::branch)
            .ok_or(EnterError::NotBegun(id))
    }

    /// [`Arena::branch`] into the memory of another branch.
    pub fn branch_into(&self, id: MatchId, branch: &mut Branch) -> Result<(), EnterError> {
        let table = self.shared.table(id).ok_or(EnterError::Unknown(id))?;
        let game = table.lock();
        let begun = game.game().ok_or(EnterError::NotBegun(id))?;
        begun.branch_into(branch);
        Ok(())
    }

    /// The stored replays, newest first, with the names of their worlds.
    pub fn replays(&self) -> Result<Vec<ReplayView>, StoreError> {
        let mut replays = self.shared.store.list()?;
        for replay in &mut replays {
            let known = self
                .shared
                .shelf
                .worlds()
                .iter()
                .find(|world| crate::id::hex(&world.root()) == replay.world_root);
            replay.world = known.map(|world| world.id().to_owned());
        }
        Ok(replays)
    }

    /// A stored replay and the world it was played in.
    pub fn replay(&self, id: MatchId) -> Result<(Recording, Option<Arc<World>>), StoreError> {
        let recording = self.shared.store.replay(id)?;
        let world = self
            .shared
            .shelf
            .by_root(&recording.session.world_root)
            .cloned();
        Ok((recording, world))
    }
}

impl Drop for Arena {
    /// Stops the clocks and forces the journals to the disk: live matches are resumed at the next
    /// start.
    fn drop(&mut self) {
        for bell in &self.shared.bells {
            bell.stop();
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        for table in self.shared.all() {
            let mut game = table.lock();
            let entries = game.take_pending();
            self.shared.journal(&mut game, entries);
        }
        self.shared.recorder.stop();
    }
}

/// Seconds of Unix time.
pub(crate) fn unix_time() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs() as i64)
}
