//! The one thread that writes to the disk, so that no frame ever waits for it.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use crate::fault;
use crate::id::MatchId;
use crate::journal::Entry;
use crate::limits::{JOURNAL_SYNC, RECORDER_QUEUE};
use crate::recording::Recording;
use crate::store::{Store, StoreError};

/// Work for the recorder, done in order.
pub(crate) enum Job {
    /// Append to the journal of a match; the journal is made if there is none.
    Append(MatchId, Vec<Entry>),
    /// Store the replay, remove the journal, say so.
    Keep(MatchId, Arc<Recording>),
    /// Force everything to the disk and end.
    Stop,
}

/// Told when a replay is on the disk, or why not.
pub(crate) type Kept = Box<dyn Fn(MatchId, Result<(), StoreError>) + Send>;

/// A handle to the recorder.
pub(crate) struct Recorder {
    jobs: SyncSender<Job>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Recorder {
    pub(crate) fn start(store: Arc<Store>, kept: Kept) -> Self {
        let (jobs, queue) = sync_channel(RECORDER_QUEUE);
        let work = move || {
            Work {
                store,
                kept,
                open: HashMap::new(),
                synced: Instant::now(),
            }
            .run(&queue)
        };
        let thread = std::thread::Builder::new()
            .name("recorder".into())
            .spawn(work);
        Self {
            jobs,
            thread: Mutex::new(Some(thread.expect("a thread can be started"))),
        }
    }

    /// Journals entries; gives them back when the queue is full.
    pub(crate) fn append(&self, id: MatchId, entries: Vec<Entry>) -> Result<(), Vec<Entry>> {
        match self.jobs.try_send(Job::Append(id, entries)) {
            Err(TrySendError::Full(Job::Append(_, entries))) => Err(entries),
            _ => Ok(()),
        }
    }

    /// Stores a replay, later if the queue is full.
    pub(crate) fn keep(&self, id: MatchId, recording: Arc<Recording>) {
        if let Err(TrySendError::Full(job)) = self.jobs.try_send(Job::Keep(id, recording)) {
            let jobs = self.jobs.clone();
            std::thread::spawn(move || jobs.send(job));
        }
    }

    /// Ends the thread when all its work is done.
    pub(crate) fn stop(&self) {
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread {
            let _ = self.jobs.send(Job::Stop);
            let _ = thread.join();
        }
    }
}

struct Journal {
    file: File,
    dirty: bool,
}

struct Work {
    store: Arc<Store>,
    kept: Kept,
    open: HashMap<MatchId, Journal>,
    synced: Instant,
}

impl Work {
    fn run(mut self, queue: &Receiver<Job>) {
        loop {
            match queue.recv_timeout(JOURNAL_SYNC.saturating_sub(self.synced.elapsed())) {
                Ok(Job::Append(id, entries)) => {
                    if let Err(error) = self.append(id, &entries) {
                        tracing::error!(session = %id, %error, "the journal could not be written; a crash now would lose inputs");
                    }
                }
                Ok(Job::Keep(id, recording)) => {
                    let result = self.store.keep(id, &recording);
                    if result.is_ok() {
                        self.open.remove(&id);
                    }
                    (self.kept)(id, result);
                }
                Err(RecvTimeoutError::Timeout) => (),
                Ok(Job::Stop) | Err(RecvTimeoutError::Disconnected) => return self.sync(),
            }
            if self.synced.elapsed() >= JOURNAL_SYNC {
                self.sync();
            }
        }
    }

    fn append(&mut self, id: MatchId, entries: &[Entry]) -> Result<(), StoreError> {
        if !self.open.contains_key(&id) {
            let file = self.store.create_journal(id)?;
            self.open.insert(id, Journal { file, dirty: false });
        }
        let journal = self.open.get_mut(&id).expect("it was just put there");
        let mut bytes = Vec::with_capacity(entries.len() * 48);
        entries.iter().for_each(|entry| entry.write(&mut bytes));
        if self.store.fault.due(fault::JOURNAL_TORN) {
            let _ = journal.file.write_all(&bytes[..bytes.len() / 2]);
            fault::die(fault::JOURNAL_TORN);
        }
        journal.dirty = true;
        journal
            .file
            .write_all(&bytes)
            .map_err(|source| self.store.journal_failed(id, source))?;
        self.store.fault.point(fault::JOURNAL_APPENDED);
        Ok(())
    }

    fn sync(&mut self) {
        for (id, journal) in &mut self.open {
            if journal.dirty {
                journal.dirty = false;
                if let Err(error) = journal.file.sync_data() {
                    tracing::error!(session = %id, %error, "the journal could not be forced to the disk");
                }
                self.store.fault.point(fault::JOURNAL_SYNCED);
            }
        }
        self.synced = Instant::now();
    }
}
