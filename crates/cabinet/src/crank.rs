//! Tasks that run on a clock: run *n* of a task is due at *t*₀ + *n* × interval, whatever happened
//! to the runs before, so that a late frame is not a lost one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use solana_address::Address;
use solana_instruction::Instruction;

use crate::limits::{
    CRANK_BEHIND, RESUME_AFTER, TASK_FAILURES, TASK_INSTRUCTIONS, TASK_INTERVAL_MIN_MS, TASKS,
};
use crate::magic::ScheduleTask;

/// Who may cancel a task, and its number.
pub(crate) type TaskKey = (Address, i64);

/// All scheduled tasks.
#[derive(Default)]
pub(crate) struct Crank {
    tasks: BTreeMap<TaskKey, Task>,
    /// After a restart: when tasks go on.
    resumes: Option<Instant>,
    timing: Timing,
}

/// How the tasks of a rollup kept their time.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Timing {
    /// Runs that were started.
    pub runs: u64,
    /// Runs that were due for so long that the task's next one was due as well.
    pub missed: u64,
    /// Runs that failed.
    pub failed: u64,
    /// The largest delay of a start, in µs.
    pub latest_us: u64,
}

/// A task and how far it is.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) interval_millis: i64,
    pub(crate) iterations: i64,
    pub(crate) instructions: Arc<Vec<Instruction>>,
    /// The next run, from 0.
    pub(crate) next: i64,
    /// Runs that failed, and those of them since the last success.
    pub(crate) failures: (u64, u32),
    /// The largest delay of a run so far.
    pub(crate) latest: Duration,
    /// How often the schedule was moved because it was too far behind.
    pub(crate) moved: u64,
    /// Whether its accounts are still to be fetched.
    pub(crate) waits: bool,
    start: Instant,
}

/// A task as a ledger keeps it.
#[derive(Serialize, Deserialize)]
pub(crate) struct StoredTask {
    authority: Address,
    task: ScheduleTask,
    next: i64,
}

/// A run that is due.
pub(crate) struct Due {
    pub(crate) key: TaskKey,
    pub(crate) number: i64,
    pub(crate) instructions: Arc<Vec<Instruction>>,
}

/// Why a task is not taken.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TaskRefused {
    #[error("a task runs every {TASK_INTERVAL_MIN_MS} ms at most, not every {0} ms")]
    Interval(i64),
    #[error("a task runs at least once, not {0} times")]
    Iterations(i64),
    #[error("a task has 1 to {TASK_INSTRUCTIONS} instructions, not {0}")]
    Instructions(usize),
    #[error("nobody can sign for {0} when the task runs")]
    Signer(Address),
    #[error("this rollup runs its {TASKS} tasks already; cancel one")]
    Full,
}

impl Task {
    /// When run `number` is due. Sixteen and seventeen milliseconds are how whole milliseconds
    /// spell the sixtieth of a second that a game means.
    fn due(&self, number: i64) -> Instant {
        let number = number.max(0) as u128;
        let nanos = match self.interval_millis {
            16 | 17 => number * 1_000_000_000 / 60,
            millis => number * millis.max(1) as u128 * 1_000_000,
        };
        self.start + Duration::from_nanos(nanos as u64)
    }

    /// Every account that a run names.
    fn accounts(&self) -> impl Iterator<Item = &Address> {
        self.instructions.iter().flat_map(|one| {
            let named = one.accounts.iter().map(|meta| &meta.pubkey);
            named.chain([&one.program_id])
        })
    }

    /// Moves the schedule so that the next run is due at `now`.
    fn restart(&mut self, now: Instant) {
        self.start = now;
        let offset = self.due(self.next) - now;
        self.start = now.checked_sub(offset).unwrap_or(now);
    }
}

impl Crank {
    /// Whether a task can be taken.
    pub(crate) fn check(&self, authority: Address, task: &ScheduleTask) -> Result<(), TaskRefused> {
        let key = (authority, task.task_id);
        if task.interval_millis < TASK_INTERVAL_MIN_MS {
            return Err(TaskRefused::Interval(task.interval_millis));
        }
        if task.iterations < 1 {
            return Err(TaskRefused::Iterations(task.iterations));
        }
        let count = task.instructions.len();
        if !(1..=TASK_INSTRUCTIONS).contains(&count) {
            return Err(TaskRefused::Instructions(count));
        }
        let mut metas = task.instructions.iter().flat_map(|one| &one.accounts);
        if let Some(meta) = metas.find(|meta| meta.is_signer) {
            return Err(TaskRefused::Signer(meta.pubkey));
        }
        if self.tasks.len() >= TASKS && !self.tasks.contains_key(&key) {
            return Err(TaskRefused::Full);
        }
        Ok(())
    }

    /// Takes a task that was checked; one of the same authority and number is replaced. It runs
    /// once [`Crank::release`] finds its accounts.
    pub(crate) fn schedule(&mut self, authority: Address, task: ScheduleTask, now: Instant) {
        self.insert((authority, task.task_id), task, 0, now);
    }

    /// Starts the waiting tasks all of whose accounts are known.
    pub(crate) fn release(&mut self, is_known: impl Fn(&Address) -> bool, now: Instant) {
        for task in self.tasks.values_mut().filter(|task| task.waits) {
            if task.accounts().all(&is_known) {
                task.waits = false;
                task.restart(self.resumes.map_or(now, |resumes| now.max(resumes)));
            }
        }
    }

    /// Accounts that tasks wait for.
    pub(crate) fn wanted(&self) -> impl Iterator<Item = &Address> {
        let waiting = self.tasks.values().filter(|task| task.waits);
        waiting.flat_map(Task::accounts)
    }

    fn insert(&mut self, key: TaskKey, task: ScheduleTask, next: i64, now: Instant) {
        let mut task = Task {
            interval_millis: task.interval_millis,
            iterations: task.iterations,
            instructions: Arc::new(task.instructions),
            next,
            failures: (0, 0),
            latest: Duration::ZERO,
            moved: 0,
            waits: true,
            start: now,
        };
        task.restart(now);
        self.tasks.insert(key, task);
    }

    pub(crate) fn cancel(&mut self, key: &TaskKey) -> bool {
        self.tasks.remove(key).is_some()
    }

    /// How tasks kept their time since this was asked last.
    pub(crate) fn take_timing(&mut self) -> Timing {
        std::mem::take(&mut self.timing)
    }

    /// Cancels every task that writes to `account`.
    pub(crate) fn cancel_writers(&mut self, account: &Address) {
        self.tasks.retain(|_, task| {
            let mut metas = task.instructions.iter().flat_map(|one| &one.accounts);
            !metas.any(|meta| meta.is_writable && meta.pubkey == *account)
        });
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&TaskKey, &Task)> {
        self.tasks.iter()
    }

    /// When the next run of any task is due.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        let running = self.tasks.values().filter(|task| !task.waits);
        running.map(|task| task.due(task.next)).min()
    }

    /// The run that has been due the longest, counted as started.
    pub(crate) fn take_due(&mut self, now: Instant) -> Option<Due> {
        let (key, task) = self
            .tasks
            .iter_mut()
            .filter(|(_, task)| !task.waits)
            .min_by_key(|(_, task)| task.due(task.next))?;
        let due = task.due(task.next);
        let behind = now.checked_duration_since(due)?;
        self.timing.missed += u64::from(task.due(task.next + 1) <= now);
        if behind > CRANK_BEHIND {
            task.moved += 1;
            task.restart(now);
        } else {
            task.latest = task.latest.max(behind);
        }
        let number = task.next;
        task.next += 1;
        self.timing.runs += 1;
        self.timing.latest_us = self.timing.latest_us.max(behind.as_micros() as u64);
        Some(Due {
            key: *key,
            number,
            instructions: task.instructions.clone(),
        })
    }

    /// Notes how a run went; a task that is through, or only fails, goes.
    pub(crate) fn ran(&mut self, key: &TaskKey, success: bool) {
        let Some(task) = self.tasks.get_mut(key) else {
            return;
        };
        if success {
            task.failures.1 = 0;
        } else {
            self.timing.failed += 1;
            task.failures.0 += 1;
            task.failures.1 += 1;
        }
        let given_up = task.failures.1 >= TASK_FAILURES;
        if given_up {
            tracing::warn!(authority = %key.0, task = key.1, "cancelled: every run of a second failed");
        }
        if given_up || task.next >= task.iterations {
            self.tasks.remove(key);
        }
    }

    pub(crate) fn store(&self) -> Vec<StoredTask> {
        let stored = |((authority, id), task): (&TaskKey, &Task)| StoredTask {
            authority: *authority,
            task: ScheduleTask {
                task_id: *id,
                interval_millis: task.interval_millis,
                iterations: task.iterations,
                instructions: task.instructions.to_vec(),
            },
            next: task.next,
        };
        self.tasks.iter().map(stored).collect()
    }

    /// Goes on with stored tasks, their next runs due when they are released, but not before those
    /// who watched what the tasks do can have come back.
    pub(crate) fn restore(stored: Vec<StoredTask>, now: Instant) -> Self {
        let mut crank = Self {
            resumes: Some(now + RESUME_AFTER),
            ..Self::default()
        };
        for StoredTask {
            authority,
            task,
            next,
        } in stored
        {
            crank.insert((authority, task.task_id), task, next, now);
        }
        crank
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use solana_instruction::AccountMeta;

    fn task(interval_millis: i64, iterations: i64) -> ScheduleTask {
        ScheduleTask {
            task_id: 1,
            interval_millis,
            iterations,
            instructions: vec![Instruction {
                program_id: Address::default(),
                accounts: Vec::new(),
                data: Vec::new(),
            }],
        }
    }

    fn schedule(crank: &mut Crank, task: ScheduleTask, now: Instant) {
        crank.check(ME, &task).unwrap();
        crank.schedule(ME, task, now);
        crank.release(|_| true, now);
    }

    const ME: Address = Address::new_from_array([1; 32]);

    #[test]
    fn sixteen_milliseconds_are_a_sixtieth_of_a_second() {
        let now = Instant::now();
        for (interval, at_600) in [(16, 10_000), (17, 10_000), (20, 12_000)] {
            let mut crank = Crank::default();
            schedule(&mut crank, task(interval, 1000), now);
            for _ in 0..600 {
                let due = crank.next_due().unwrap();
                crank.take_due(due).unwrap();
            }
            let due = crank.next_due().unwrap() - now;
            assert_eq!(due.as_millis(), at_600, "interval {interval}");
        }
    }

    #[test]
    fn late_runs_are_caught_up_and_very_late_ones_move_the_schedule() {
        let now = Instant::now();
        let mut crank = Crank::default();
        schedule(&mut crank, task(20, 1000), now);
        let late = now + Duration::from_millis(100);
        let numbers: Vec<i64> = std::iter::from_fn(|| crank.take_due(late))
            .map(|due| due.number)
            .collect();
        assert_eq!(numbers, [0, 1, 2, 3, 4, 5]);
        let much_later = late + Duration::from_secs(5);
        assert_eq!(crank.take_due(much_later).unwrap().number, 6);
        assert!(crank.take_due(much_later).is_none());
    }

    #[test]
    fn a_task_ends_after_its_last_run_or_when_it_only_fails() {
        let now = Instant::now();
        let mut crank = Crank::default();
        schedule(&mut crank, task(10, 2), now);
        for left in [1, 0] {
            let due = crank.take_due(now + Duration::from_secs(1)).unwrap();
            crank.ran(&due.key, true);
            assert_eq!(crank.iter().count(), left);
        }
        schedule(&mut crank, task(10, 1000), now);
        for _ in 0..TASK_FAILURES {
            let due = crank.take_due(crank.next_due().unwrap()).unwrap();
            crank.ran(&due.key, false);
        }
        assert_eq!(crank.iter().count(), 0);
    }

    #[test]
    fn a_stored_task_goes_on_where_it_was() {
        let now = Instant::now();
        let mut crank = Crank::default();
        schedule(&mut crank, task(16, 1000), now);
        for _ in 0..100 {
            crank.take_due(crank.next_due().unwrap());
        }
        let later = now + Duration::from_secs(100);
        let mut restored = Crank::restore(crank.store(), later);
        assert_eq!(restored.next_due(), None, "it waits for its accounts");
        restored.release(|_| true, later);
        let resumed = later + RESUME_AFTER;
        assert_eq!(restored.next_due(), Some(resumed));
        assert_eq!(restored.take_due(resumed).unwrap().number, 100);
        let step = restored.next_due().unwrap() - resumed;
        assert_eq!(step.as_micros() / 10, 1666);
    }

    #[test]
    fn impossible_tasks_are_refused_in_words() {
        let crank = Crank::default();
        let refused = |task| crank.check(ME, &task).unwrap_err();
        assert_eq!(refused(task(1, 1)), TaskRefused::Interval(1));
        assert_eq!(refused(task(16, 0)), TaskRefused::Iterations(0));
        let mut empty = task(16, 1);
        empty.instructions.clear();
        assert_eq!(refused(empty), TaskRefused::Instructions(0));
        let mut signed = task(16, 1);
        signed.instructions[0].accounts = vec![AccountMeta::new(ME, true)];
        assert_eq!(refused(signed), TaskRefused::Signer(ME));
    }
}
