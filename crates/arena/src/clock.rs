//! The threads that run frames. Frame n of a match is due at t0 + n/60 s, an absolute time: a
//! late frame does not delay those after it. All matches tick at the same instants, and those of
//! one world are stepped together, over one pass of its weights.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;

use crate::arena::{Shared, Table};
use crate::limits::{JOURNAL_EVERY, MAX_BATCH};
use crate::matches::{Match, Now, Punctuality, Turn, run_together};
use crate::world::Scratch;

/// How well the clocks kept time since the arena's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Timing {
    /// Frames run.
    pub frames: u64,
    /// Frames begun when the next one was already due.
    pub missed_ticks: u64,
    /// Times a clock gave up catching up and moved its t0.
    pub slips: u64,
    /// The latest begin of a frame after it was due, microseconds.
    pub worst_late_us: u64,
    /// Matches whose clock runs now.
    pub live: u32,
}

impl Timing {
    /// What happened after `before`; the latest begin may lie before it.
    pub(crate) fn since(&self, before: &Self) -> Self {
        Self {
            frames: self.frames - before.frames,
            missed_ticks: self.missed_ticks - before.missed_ticks,
            slips: self.slips - before.slips,
            ..*self
        }
    }
}

/// The counters behind [`Timing`].
#[derive(Default)]
pub(crate) struct Counters {
    frames: AtomicU64,
    missed: AtomicU64,
    slips: AtomicU64,
    worst: AtomicU64,
    live: AtomicU32,
}

impl Counters {
    pub(crate) fn timing(&self) -> Timing {
        Timing {
            frames: self.frames.load(Ordering::Relaxed),
            missed_ticks: self.missed.load(Ordering::Relaxed),
            slips: self.slips.load(Ordering::Relaxed),
            worst_late_us: self.worst.load(Ordering::Relaxed),
            live: self.live.load(Ordering::Relaxed),
        }
    }

    fn add(&self, kept: Punctuality) {
        self.frames.fetch_add(kept.frames.into(), Ordering::Relaxed);
        self.missed.fetch_add(kept.missed.into(), Ordering::Relaxed);
        self.slips.fetch_add(kept.slips.into(), Ordering::Relaxed);
        self.worst
            .fetch_max(kept.worst.as_micros() as u64, Ordering::Relaxed);
    }
}

/// Where a clock thread is told of matches that need it.
#[derive(Default)]
pub(crate) struct Bell {
    inbox: Mutex<Inbox>,
    rung: Condvar,
}

#[derive(Default)]
struct Inbox {
    tables: Vec<Arc<Table>>,
    stop: bool,
}

impl Bell {
    /// Wakes the clock for `table`.
    pub(crate) fn ring(&self, table: Arc<Table>) {
        self.lock().tables.push(table);
        self.rung.notify_one();
    }

    /// Ends the clock thread.
    pub(crate) fn stop(&self) {
        self.lock().stop = true;
        self.rung.notify_one();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a ring, at most until `until`. `None` when the clock should end.
    fn wait(&self, patience: Option<Duration>) -> Option<Vec<Arc<Table>>> {
        let mut inbox = self.lock();
        if inbox.tables.is_empty() && !inbox.stop {
            inbox = match patience {
                Some(patience) => self
                    .rung
                    .wait_timeout(inbox, patience)
                    .map(|(inbox, _)| inbox)
                    .unwrap_or_else(|error| error.into_inner().0),
                None => self
                    .rung
                    .wait(inbox)
                    .unwrap_or_else(PoisonError::into_inner),
            };
        }
        (!inbox.stop).then(|| std::mem::take(&mut inbox.tables))
    }
}

/// A match that a clock knows, and when it is due. `None`: it needs the clock no longer.
type Known = (Option<Now>, Arc<Table>);

/// Runs the matches of one bell until it is stopped.
pub(crate) fn run(shared: &Shared, bell: &Bell) {
    let mut scratches = Vec::new();
    let mut live: Vec<Known> = Vec::new();
    loop {
        let next = live.iter().filter_map(|(due, _)| *due).min();
        let patience = next.map(|due| due.saturating_sub(shared.now()));
        let Some(rung) = bell.wait(patience) else {
            return;
        };
        for table in rung {
            match live
                .iter_mut()
                .find(|(_, known)| Arc::ptr_eq(known, &table))
            {
                Some((due, _)) => *due = Some(Now::ZERO),
                None => {
                    shared.counters.live.fetch_add(1, Ordering::Relaxed);
                    live.push((Some(Now::ZERO), table));
                }
            }
        }
        pass(shared, &mut live, &mut scratches);
        let before = live.len();
        live.retain(|(due, _)| due.is_some());
        let gone = (before - live.len()) as u32;
        shared.counters.live.fetch_sub(gone, Ordering::Relaxed);
    }
}

/// A match whose frame is due, locked.
struct Due<'a> {
    table: &'a Table,
    game: MutexGuard<'a, Match>,
}

/// Asks each match that is due what it wants, and runs one frame of those that want one.
fn pass(shared: &Shared, live: &mut [Known], scratches: &mut Vec<Scratch>) {
    let (now, mut kept) = (shared.now(), Punctuality::default());
    let mut due: Vec<Due<'_>> = Vec::new();
    for (when, table) in live {
        if when.is_none_or(|when| when > now) {
            continue;
        }
        let table: &Table = table;
        // With other matches locked, waiting for one more could wait for ever: it stays due.
        let game = if due.is_empty() {
            Some(table.lock())
        } else {
            table.try_lock()
        };
        let Some(mut game) = game else { continue };
        match game.turn(now, &mut kept) {
            Turn::Frame => due.push(Due { table, game }),
            Turn::Wait(until) => {
                *when = Some(until);
                shared.settle(table, &mut game);
            }
            Turn::Rest => {
                *when = None;
                shared.settle(table, &mut game);
            }
        }
    }
    shared.counters.add(kept);
    due.sort_by_key(|due| Arc::as_ptr(&due.game.world));
    for batch in due.chunk_by_mut(|a, b| Arc::ptr_eq(&a.game.world, &b.game.world)) {
        for batch in batch.chunks_mut(MAX_BATCH) {
            let mut games: Vec<&mut Match> = batch.iter_mut().map(|due| &mut *due.game).collect();
            run_together(&mut games, now, scratches);
            batch.iter_mut().for_each(|due| tell(shared, due));
        }
    }
}

/// Hands on what a frame has led to.
fn tell(shared: &Shared, Due { table, game }: &mut Due<'_>) {
    let frame = game.game().map_or(0, |game| game.state.frame);
    if frame.is_multiple_of(JOURNAL_EVERY) {
        let entries = game.take_pending();
        shared.journal(game, entries);
    }
    shared.settle(table, game);
}
