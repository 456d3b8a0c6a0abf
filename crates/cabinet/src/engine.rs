//! The one thread that owns a [`Bank`]: jobs come in, events go out.
//!
//! Between jobs it ends blocks and runs the tasks that are due. Both follow an absolute schedule:
//! block and frame *n* are due at *t*₀ + *n* × interval. When more is due than there is time for, runs
//! and jobs take turns: a match that is late still hears its players.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{broadcast, oneshot};

use crate::bank::{Bank, Event, Parts};
use crate::history::History;
#[cfg(unix)]
use crate::limits::ENGINE_NICE;
use crate::limits::{CRANK_BEHIND, EVENTS, JOBS_PER_TURN};

type Job = Box<dyn FnOnce(&mut Bank) + Send>;

/// The engine has ended, and answers nothing any more.
#[derive(Debug, thiserror::Error)]
#[error("the chain has stopped; start it again")]
pub struct Stopped;

/// What everybody else holds of a running bank.
#[derive(Clone)]
pub(crate) struct Engine {
    jobs: mpsc::Sender<Job>,
    events: broadcast::Sender<Event>,
    history: Arc<RwLock<History>>,
    ending: Arc<AtomicBool>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl Engine {
    /// Starts the thread. `parts` leaves the events to the engine.
    pub(crate) fn start(
        name: &str,
        parts: impl FnOnce(broadcast::Sender<Event>) -> Parts,
    ) -> std::io::Result<Self> {
        let (jobs, inbox) = mpsc::channel();
        let events = broadcast::Sender::new(EVENTS);
        let bank = Bank::new(parts(events.clone()));
        let history = bank.history.clone();
        let ending = Arc::new(AtomicBool::new(false));
        let (own_jobs, own_ending) = (jobs.clone(), ending.clone());
        let thread = std::thread::Builder::new()
            .name(name.into())
            .spawn(move || {
                if bank.lent.is_some() {
                    come_first();
                }
                run(bank, &inbox, &own_jobs, &own_ending);
            })?;
        Ok(Self {
            jobs,
            events,
            history,
            ending,
            thread: Arc::new(Mutex::new(Some(thread))),
        })
    }

    /// Has the thread do something, and waits for the answer.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Bank) -> T + Send + 'static,
    ) -> Result<T, Stopped> {
        let (answer, answered) = oneshot::channel();
        self.tell(move |bank| {
            // Who asked may have gone.
            let _ = answer.send(job(bank));
        });
        answered.await.map_err(|_| Stopped)
    }

    /// Has the thread do something.
    pub(crate) fn tell(&self, job: impl FnOnce(&mut Bank) + Send + 'static) {
        // An ended thread takes no jobs; those who wait for answers see that.
        let _ = self.jobs.send(Box::new(job));
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    pub(crate) fn history(&self) -> &RwLock<History> {
        &self.history
    }

    /// Ends the thread, and waits until its ledger is on the disk.
    pub(crate) fn stop(&self) {
        self.ending.store(true, Ordering::Relaxed);
        self.tell(|_| ());
        let thread = self.thread.lock().ok().and_then(|mut thread| thread.take());
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

/// Frames are due at a moment, and little else on a machine is: asks the system to run this thread
/// before others that wait. A system that grants that to nobody, or not to this user, runs it as any.
fn come_first() {
    #[cfg(unix)]
    if let Err(error) = rustix::process::setpriority_process(None, ENGINE_NICE) {
        tracing::debug!(%error, "frames run at the usual priority");
    }
}

fn run(mut bank: Bank, inbox: &mpsc::Receiver<Job>, jobs: &mpsc::Sender<Job>, ending: &AtomicBool) {
    let block = bank.rules.block;
    let mut next_block = Instant::now() + block;
    let end_block = |bank: &mut Bank| {
        let jobs = jobs.clone();
        bank.next_block(move |slot| {
            let _ = jobs.send(Box::new(move |bank| bank.now_durable(slot)));
        });
    };
    while !ending.load(Ordering::Relaxed) {
        let now = Instant::now();
        while next_block <= now {
            end_block(&mut bank);
            next_block += block;
            if now.saturating_duration_since(next_block) > CRANK_BEHIND {
                next_block = now + block;
            }
        }
        let next_task = bank.run_task();
        let wake = next_task.map_or(next_block, |task| task.min(next_block));
        match inbox.recv_timeout(wake.saturating_duration_since(Instant::now())) {
            Ok(job) => {
                job(&mut bank);
                // More jobs: a turn of them, or as many as come while nothing is due.
                let mut turn = 1;
                while turn < JOBS_PER_TURN || Instant::now() + Duration::from_micros(200) < wake {
                    let Ok(job) = inbox.try_recv() else { break };
                    job(&mut bank);
                    turn += 1;
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    bank.record_now = true;
    end_block(&mut bank);
}
