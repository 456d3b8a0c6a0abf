//! The threads that run frames. Frame n of a match is due at t0 + n/60 s, an absolute time: a
//! late frame does not delay those after it.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;

use crate::arena::{Shared, Table};
use crate::limits::JOURNAL_EVERY;
use crate::matches::{Now, Punctuality};
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

/// Runs the matches of one bell until it is stopped.
pub(crate) fn run(shared: &Shared, bell: &Bell) {
    let mut scratch = Scratch::new();
    let mut live: Vec<(Now, Arc<Table>)> = Vec::new();
    loop {
        let next = live.iter().map(|(due, _)| *due).min();
        let patience = next.map(|due| due.saturating_sub(shared.now()));
        let Some(rung) = bell.wait(patience) else {
            return;
        };
        for table in rung {
            match live
                .iter_mut()
                .find(|(_, known)| Arc::ptr_eq(known, &table))
            {
                Some((due, _)) => *due = Now::ZERO,
                None => {
                    shared.counters.live.fetch_add(1, Ordering::Relaxed);
                    live.push((Now::ZERO, table));
                }
            }
        }
        live.retain_mut(|(due, table)| {
            let now = shared.now();
            if *due > now {
                return true;
            }
            let next = tick(shared, table, now, &mut scratch);
            *due = next.unwrap_or(*due);
            if next.is_none() {
                shared.counters.live.fetch_sub(1, Ordering::Relaxed);
            }
            next.is_some()
        });
    }
}

fn tick(shared: &Shared, table: &Table, now: Now, scratch: &mut Scratch) -> Option<Now> {
    let mut kept = Punctuality::default();
    let mut game = table.lock();
    let next = game.advance(now, scratch, &mut kept);
    let frame = game.game().map_or(0, |game| game.state.frame);
    if kept.frames > 0 && frame.is_multiple_of(JOURNAL_EVERY) {
        let entries = game.take_pending();
        shared.journal(&mut game, entries);
    }
    shared.settle(table, &mut game);
    shared.counters.add(kept);
    next
}
