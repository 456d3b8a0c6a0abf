//! The arena: all matches of this machine, their clocks, their players' connections, their replays.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::thread::JoinHandle;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::broadcast;
use worldline_abi::{Pad, status};

use crate::clock::{self, Bell, Counters, Timing};
use crate::fault::Fault;
use crate::game::{FRAME_BYTES, Game};
use crate::id::{MatchId, Token, random_bytes};
use crate::journal::{self, Begin, Entry, JournalError};
use crate::limits::{
    FRAMES_PER_SECOND, MAX_LIVE_MATCHES, MAX_MATCHES, RECOVERY_GRACE, WATCH_QUEUE,
};
use crate::matches::{Effect, Match, Now, SeatError, Setup};
use crate::opponent::{Opponent, Player, RandomPads};
use crate::recorder::Recorder;
use crate::recording::Recording;
use crate::sign;
use crate::store::{ReplayView, Store, StoreError};
use crate::view::{MatchView, ResultView};
use crate::world::{Scratch, Shelf, World};

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
}

/// What clock threads and connections share.
///
/// Lock order: a match may be locked before `tables`, never the other way round; two matches only
/// the older before its rematch.
pub(crate) struct Shared {
    store: Arc<Store>,
    shelf: Shelf,
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
                Effect::Frame(bytes) => drop(table.events.send(Event::Frame(bytes.into()))),
                Effect::View => changed = true,
                Effect::Begin(entries) | Effect::Journal(entries) => self.journal(game, entries),
                Effect::Finish(recording) => self.recorder.keep(game.id, recording),
            }
        }
        if changed {
            let view = Arc::new(game.view(self.now()));
            let _ = table.events.send(Event::View(view));
        }
    }

    fn table(&self, id: MatchId) -> Option<Arc<Table>> {
        let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        tables.get(&id).cloned()
    }

    fn all(&self) -> Vec<Arc<Table>> {
        let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        tables.values().cloned().collect()
    }

    fn seat_table(&self, game: Match) -> Arc<Table> {
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

    fn ring(&self, table: &Arc<Table>) {
        self.bells[table.clock].ring(table.clone());
    }

    fn fresh_id(&self) -> MatchId {
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
            let _ = table.events.send(Event::Result(Arc::new(result)));
        }
    }

    /// An opponent that needs no person, and its character.
    fn cpu(
        &self,
        opponent: Opponent,
        world: &World,
        stage: u8,
        generator: u64,
    ) -> Result<(Player, u8), CreateError> {
        let roster = world.characters(stage);
        let own = roster
            .get(generator as usize % roster.len().max(1))
            .copied()
            .unwrap_or_default();
        match opponent {
            Opponent::Random => Ok((Player::Random(RandomPads::new(generator)), own)),
            Opponent::Ghost => {
                let ghost = self
                    .shelf
                    .ghost(&roster, stage, generator)
                    .ok_or(CreateError::NoOpponent("ghost"))?;
                let character = ghost.character;
                Ok((Player::Ghost(ghost), character))
            }
            Opponent::Policy => {
                let policy = self
                    .shelf
                    .policy(world)
                    .ok_or(CreateError::NoOpponent("policy"))?;
                Ok((
                    Player::Policy(Box::new(policy.running().seeded(generator))),
                    own,
                ))
            }
            Opponent::Human => Err(CreateError::NoOpponent("person")),
        }
    }

    /// Reads one journal back. `Ok(None)` when nothing had happened in it.
    fn recover(
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
            let opponent = [Opponent::Ghost, Opponent::Random, Opponent::Policy]
                .into_iter()
                .find(|one| one.code() == session.seats[seat]);
            if let Some(opponent) = opponent {
                let (found, _) = self
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
            let (player, character) = shared.cpu(new.opponent, world, new.stage, generator)?;
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

fn recover(shared: &Arc<Shared>) -> Result<Recovery, StoreError> {
    let mut recovery = Recovery::default();
    let mut scratch = Scratch::new();
    for (id, bytes) in shared.store.journals()? {
        if shared.store.replay(id).is_ok() {
            shared.store.drop_journal(id)?;
            recovery.ended.push(id);
            continue;
        }
        match shared.recover(id, &bytes, &mut scratch) {
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

fn unix_time() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs() as i64)
}

/// A player or a watcher at a match. Dropping it is leaving.
pub struct Connection {
    shared: Arc<Shared>,
    table: Arc<Table>,
    seat: Option<u8>,
    id: MatchId,
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
            let _ = self.table.events.send(Event::Rematch(id));
            Ok((id, seat))
        })?;
        if let Some(table) = shared.table(id) {
            let mut next = table.lock();
            // A second click changes nothing.
            let _ = next.ready(seat, shared.now());
            shared.settle(&table, &mut next);
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
