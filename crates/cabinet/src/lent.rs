//! What a rollup adds to a bank: the accounts lent to it, the tasks that run on them, and the
//! commits that give them back.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use litesvm::LiteSVM;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use solana_account::{AccountSharedData, ReadableAccount, WritableAccount};
use solana_address::Address;
use solana_instruction::Instruction;
use solana_keypair::Keypair;
use solana_message::{Message, VersionedMessage};
use solana_signer::Signer;
use solana_transaction::versioned::VersionedTransaction;
use tokio::sync::Notify;

use crate::bank::{Bank, changed, unix_millis};
use crate::crank::{Crank, StoredTask};
use crate::delegation::{DELEGATION_PROGRAM, DelegationRecord};
use crate::limits::COMMIT_RETRY;
use crate::magic::{self, Request, ScheduleTask};

/// A rollup's own state.
pub(crate) struct Lent {
    pub(crate) identity: Keypair,
    delegations: HashMap<Address, Delegation>,
    /// Accounts read from L1, whether they exist there or not.
    clones: HashSet<Address>,
    pub(crate) crank: Crank,
    commits: BTreeMap<Address, Pending>,
    /// Wakes the task that talks to L1: there is something to fetch or to commit.
    pub(crate) work: Arc<Notify>,
    /// The open block, and the newest whose end is on the disk.
    pub(crate) block: u64,
    recorded: u64,
    /// Why L1 cannot be reached, if it cannot.
    pub(crate) l1_failure: Option<String>,
    /// Why L1 does not admit this rollup yet, if it does not.
    pub(crate) admission_failure: Option<String>,
}

/// An account that this rollup may change.
struct Delegation {
    owner: Address,
    /// How often it is committed unasked.
    every: Option<Duration>,
    committed: Instant,
    changed: bool,
    /// It is being given back, and nothing may change it any more.
    leaving: bool,
}

/// A commit that L1 has not taken yet.
struct Pending {
    /// The account as it was when the commit was asked for; `None` after a restart: as it is.
    target: Option<AccountSharedData>,
    undelegate: bool,
    /// Counts what was asked for, to see whether more was while a commit was under way.
    asked: u64,
    /// The block in which it was asked for. L1 hears of nothing that a crash could make us forget.
    block: u64,
    under_way: bool,
    not_before: Instant,
    attempts: u32,
    since_millis: u64,
    error: Option<String>,
}

/// A commit to be sent to L1.
#[derive(Clone)]
pub(crate) struct CommitJob {
    pub(crate) account: Address,
    pub(crate) target: AccountSharedData,
    pub(crate) undelegate: bool,
    asked: u64,
}

/// An account as L1 has it.
pub(crate) struct Fetched {
    pub(crate) address: Address,
    pub(crate) account: Option<AccountSharedData>,
    pub(crate) delegation: Option<DelegationRecord>,
}

/// A rollup's state in a ledger.
#[derive(Serialize, Deserialize)]
struct Stored {
    /// Account, owner, commit interval in milliseconds, whether it is being given back.
    delegations: Vec<(Address, Address, Option<u64>, bool)>,
    clones: Vec<Address>,
    tasks: Vec<StoredTask>,
    /// Account, whether it is given back.
    commits: Vec<(Address, bool)>,
}

impl Lent {
    pub(crate) fn new(identity: Keypair) -> Self {
        Self {
            identity,
            delegations: HashMap::new(),
            clones: HashSet::new(),
            crank: Crank::default(),
            commits: BTreeMap::new(),
            work: Arc::default(),
            block: 0,
            recorded: 0,
            l1_failure: None,
            admission_failure: None,
        }
    }

    pub(crate) fn store(&self) -> Vec<u8> {
        let stored = Stored {
            delegations: self
                .delegations
                .iter()
                .map(|(account, lent)| {
                    let every = lent.every.map(|every| every.as_millis() as u64);
                    (*account, lent.owner, every, lent.leaving)
                })
                .collect(),
            clones: self.clones.iter().copied().collect(),
            tasks: self.crank.store(),
            commits: self
                .commits
                .iter()
                .map(|(account, pending)| (*account, pending.undelegate))
                .collect(),
        };
        bincode::serialize(&stored).unwrap_or_default()
    }

    /// Goes on where a ledger ends. The record was whole, so that its parts can be read.
    pub(crate) fn restore(&mut self, svm: &LiteSVM, bytes: &[u8]) {
        let Ok(stored) = bincode::deserialize::<Stored>(bytes) else {
            return;
        };
        let now = Instant::now();
        for (account, owner, every, leaving) in stored.delegations {
            let lent = Delegation {
                owner,
                every: every.map(Duration::from_millis),
                committed: now,
                changed: true,
                leaving,
            };
            self.delegations.insert(account, lent);
        }
        self.clones = stored.clones.into_iter().collect();
        self.crank = Crank::restore(stored.tasks, now);
        for (account, undelegate) in stored.commits {
            self.commits
                .insert(account, Pending::new(None, undelegate, now));
        }
        self.release(svm);
    }

    /// Whether L1 was asked about this account.
    fn knows(&self, address: &Address) -> bool {
        self.clones.contains(address) || self.delegations.contains_key(address)
    }

    pub(crate) fn is_lent(&self, address: &Address) -> bool {
        self.delegations
            .get(address)
            .is_some_and(|lent| !lent.leaving)
    }

    /// Accounts that are copies of L1's, to be watched there.
    pub(crate) fn copies(&self) -> Vec<Address> {
        let lent = |address: &&Address| !self.delegations.contains_key(address);
        self.clones.iter().filter(lent).copied().collect()
    }

    /// Why a transaction may not change what it would change, if so.
    pub(crate) fn objection(
        &self,
        svm: &LiteSVM,
        after: &[(Address, AccountSharedData)],
        requests: &[Request],
    ) -> Option<String> {
        let accounts = svm.accounts_db();
        for (address, new) in after {
            let old = accounts.get_account(address).unwrap_or_default();
            if !changed(&old, new) {
                continue;
            }
            if !self.is_lent(address) {
                return Some(self.not_lent(address));
            }
            if old.lamports() != new.lamports() || old.owner() != new.owner() {
                return Some(format!(
                    "{address}: only the data of a delegated account may change here; move lamports and owners on L1"
                ));
            }
        }
        requests.iter().find_map(|request| match request {
            Request::Commit { accounts, .. } => accounts
                .iter()
                .find(|address| !self.is_lent(address))
                .map(|address| self.not_lent(address)),
            Request::Schedule { authority, task } => {
                let refused = self.crank.check(*authority, task).err()?;
                Some(refused.to_string())
            }
            Request::Cancel { .. } => None,
        })
    }

    fn not_lent(&self, address: &Address) -> String {
        match self.delegations.contains_key(address) {
            true => format!("{address} is being given back to L1: it cannot be changed here"),
            false => {
                format!("{address} is not delegated to this rollup: it cannot be changed here")
            }
        }
    }

    /// Takes note of a transaction that succeeded. True if that must not be forgotten in a crash.
    pub(crate) fn note(
        &mut self,
        svm: &LiteSVM,
        after: &[(Address, AccountSharedData)],
        requests: Vec<Request>,
    ) -> bool {
        for (address, _) in after {
            if let Some(lent) = self.delegations.get_mut(address) {
                lent.changed = true;
            }
        }
        let urgent = !requests.is_empty();
        for request in requests {
            match request {
                Request::Commit {
                    accounts,
                    undelegate,
                } => {
                    for address in accounts {
                        self.commit(svm, address, undelegate);
                    }
                }
                Request::Schedule { authority, task } => {
                    self.crank.schedule(authority, task, Instant::now());
                    self.release(svm);
                }
                Request::Cancel { authority, task_id } => {
                    self.crank.cancel(&(authority, task_id));
                }
            }
        }
        if urgent {
            // What tasks need can be fetched at once; commits wait for the disk.
            self.work.notify_one();
        }
        urgent
    }

    fn release(&mut self, svm: &LiteSVM) {
        let Self {
            crank,
            clones,
            delegations,
            ..
        } = self;
        let brought = |address: &Address| svm.accounts_db().get_account_ref(address).is_some();
        let known = |address: &Address| {
            clones.contains(address) || delegations.contains_key(address) || brought(address)
        };
        crank.release(known, Instant::now());
    }

    fn commit(&mut self, svm: &LiteSVM, address: Address, undelegate: bool) {
        let now = Instant::now();
        let Some(lent) = self.delegations.get_mut(&address) else {
            return;
        };
        lent.committed = now;
        lent.changed = false;
        lent.leaving |= undelegate;
        if undelegate {
            self.crank.cancel_writers(&address);
        }
        let target = svm.accounts_db().get_account(&address);
        let fresh = || Pending::new(None, undelegate, now);
        let pending = self.commits.entry(address).or_insert_with(fresh);
        pending.target = target;
        pending.undelegate |= undelegate;
        pending.asked += 1;
        pending.block = self.block;
    }

    /// Asks for the commits that delegations ask for by the clock.
    fn commit_by_clock(&mut self, svm: &LiteSVM) -> bool {
        let now = Instant::now();
        let due = |(address, lent): (&Address, &Delegation)| {
            let every = lent.every.filter(|_| lent.changed && !lent.leaving)?;
            (now.duration_since(lent.committed) >= every).then_some(*address)
        };
        let due: Vec<Address> = self.delegations.iter().filter_map(due).collect();
        for address in &due {
            self.commit(svm, *address, false);
        }
        !due.is_empty()
    }

    /// All blocks up to this one are on the disk.
    pub(crate) fn recorded(&mut self, block: u64) {
        self.recorded = block;
        self.work.notify_one();
    }

    /// Commits that may be sent now, marked as under way.
    pub(crate) fn take_commits(&mut self, svm: &LiteSVM, most: usize) -> Vec<CommitJob> {
        let now = Instant::now();
        let free = self.commits.iter_mut().filter(|(_, pending)| {
            !pending.under_way && pending.not_before <= now && pending.block <= self.recorded
        });
        let mut jobs = Vec::new();
        for (address, pending) in free.take(most) {
            let current = svm.accounts_db().get_account(address);
            let Some(target) = pending.target.clone().or(current) else {
                continue;
            };
            pending.under_way = true;
            pending.attempts += 1;
            jobs.push(CommitJob {
                account: *address,
                target,
                undelegate: pending.undelegate,
                asked: pending.asked,
            });
        }
        jobs
    }

    /// How a rollup stands, for the RPC.
    pub(crate) fn describe(&self) -> Value {
        let now_millis = unix_millis();
        let commits = self.commits.iter().map(|(address, pending)| {
            json!({
                "account": address.to_string(),
                "undelegate": pending.undelegate,
                "attempts": pending.attempts,
                "waitingMs": now_millis.saturating_sub(pending.since_millis),
                "error": pending.error,
            })
        });
        let tasks = self.crank.iter().map(|((authority, id), task)| {
            json!({
                "authority": authority.to_string(),
                "taskId": id,
                "intervalMillis": task.interval_millis,
                "iterations": task.iterations,
                "ran": task.next,
                "failed": task.failures.0,
                "latestMicros": task.latest.as_micros() as u64,
                "scheduleMoved": task.moved,
                "waitsForAccounts": task.waits,
            })
        });
        let delegations = self.delegations.iter().map(|(address, lent)| {
            json!({
                "account": address.to_string(),
                "owner": lent.owner.to_string(),
                "commitEveryMs": lent.every.map(|every| every.as_millis() as u64),
                "leaving": lent.leaving,
            })
        });
        json!({
            "identity": self.identity.pubkey().to_string(),
            "l1": { "reachable": self.l1_failure.is_none(), "error": self.l1_failure },
            "admission": self.admission_failure,
            "delegations": delegations.collect::<Vec<_>>(),
            "copies": self.clones.len(),
            "commits": commits.collect::<Vec<_>>(),
            "tasks": tasks.collect::<Vec<_>>(),
        })
    }
}

impl Pending {
    fn new(target: Option<AccountSharedData>, undelegate: bool, now: Instant) -> Self {
        Self {
            target,
            undelegate,
            asked: 0,
            block: 0,
            under_way: false,
            not_before: now,
            attempts: 0,
            since_millis: unix_millis(),
            error: None,
        }
    }
}

impl Bank {
    /// Of these, the accounts that L1 was not asked about yet.
    pub(crate) fn unknown(&self, addresses: &[Address]) -> Vec<Address> {
        let Some(lent) = &self.lent else {
            return Vec::new();
        };
        let unknown = |address: &&Address| !self.is_brought(address) && !lent.knows(address);
        addresses.iter().filter(unknown).copied().collect()
    }

    /// A payer that L1 was not asked about yet. It pays nothing here and need not exist: while L1 is
    /// away nobody is asked, so that anybody can play.
    pub(crate) fn unknown_payer(&self, payer: Address) -> Vec<Address> {
        let away = self
            .lent
            .as_ref()
            .is_some_and(|lent| lent.l1_failure.is_some());
        if away {
            Vec::new()
        } else {
            self.unknown(&[payer])
        }
    }

    /// Of these, the accounts that are copies of L1's or nothing: not lent to this rollup.
    pub(crate) fn stale(&self, addresses: &[Address]) -> Vec<Address> {
        let lent = |address: &Address| self.lent.as_ref().is_some_and(|lent| lent.is_lent(address));
        let stale = addresses
            .iter()
            .filter(|key| !lent(key) && !self.is_brought(key));
        stale.copied().collect()
    }

    /// Accounts that tasks wait for and that L1 was not asked about yet.
    pub(crate) fn wanted(&self) -> Vec<Address> {
        let lent = self.lent.as_ref();
        let wanted: Vec<Address> = lent
            .map(|lent| lent.crank.wanted().copied().collect())
            .unwrap_or_default();
        self.unknown(&wanted)
    }

    /// Takes over accounts as L1 has them. What is lent to this rollup is its own, and stays.
    pub(crate) fn install(&mut self, fetched: Vec<Fetched>) {
        let Some(mut lent) = self.lent.take() else {
            return;
        };
        let identity = lent.identity.pubkey();
        let mut accounts = Vec::new();
        for Fetched {
            address,
            account,
            delegation,
        } in fetched
        {
            if self.is_brought(&address) || lent.delegations.contains_key(&address) {
                continue;
            }
            lent.clones.insert(address);
            let mut account = account.unwrap_or_default();
            account.set_rent_epoch(u64::MAX);
            if let Some(record) = delegation.filter(|_| *account.owner() == DELEGATION_PROGRAM) {
                account.set_owner(record.owner);
                if [identity, Address::default()].contains(&record.authority) {
                    self.record_now = true;
                    lent.delegations.insert(address, Delegation::of(&record));
                }
            }
            accounts.push((address, account));
        }
        let addresses: Vec<Address> = accounts.iter().map(|(address, _)| *address).collect();
        // Back before anything is applied: it is what makes this bank a rollup's, which confirms at once.
        self.lent = Some(lent);
        self.apply(accounts);
        if let Some(lent) = &mut self.lent {
            lent.release(&self.svm);
        }
        self.announce(&addresses);
    }

    /// Notes how a commit went. An account that was given back is L1's again.
    pub(crate) fn commit_ended(&mut self, job: &CommitJob, result: Result<(), String>) {
        let Some(lent) = &mut self.lent else { return };
        let Some(pending) = lent.commits.get_mut(&job.account) else {
            return;
        };
        pending.under_way = false;
        match result {
            Err(error) => {
                tracing::warn!(account = %job.account, %error, "a commit failed and is tried again");
                pending.error = Some(error);
                pending.not_before = Instant::now() + COMMIT_RETRY;
                return;
            }
            Ok(()) if job.undelegate => {
                lent.commits.remove(&job.account);
                lent.delegations.remove(&job.account);
                lent.clones.remove(&job.account);
                self.put(job.account, AccountSharedData::default());
            }
            Ok(()) if pending.asked == job.asked => {
                lent.commits.remove(&job.account);
            }
            Ok(()) => {}
        }
        self.record_now = true;
    }

    /// Runs the task that has been due the longest, if one is, and returns when the next one is.
    pub(crate) fn run_task(&mut self) -> Option<Instant> {
        let lent = self.lent.as_mut()?;
        if let Some(due) = lent.crank.take_due(Instant::now()) {
            let number = unix_millis() ^ ((due.number as u64) << 44);
            let transaction = self.task_transaction(&due.instructions, number);
            let success = transaction.is_some_and(|transaction| {
                self.execute(&transaction, false)
                    .is_ok_and(|landed| landed.error.is_none())
            });
            self.lent.as_mut()?.crank.ran(&due.key, success);
        }
        self.lent.as_ref()?.crank.next_due()
    }

    /// Instructions as a transaction of the rollup's own; `number` tells it from others like it. None on
    /// the box.
    pub(crate) fn task_transaction(
        &self,
        instructions: &[Instruction],
        number: u64,
    ) -> Option<VersionedTransaction> {
        let identity = &self.lent.as_ref()?.identity;
        let noop = Instruction {
            program_id: magic::MAGIC_PROGRAM,
            accounts: Vec::new(),
            data: magic::noop(number),
        };
        let instructions = [instructions, &[noop]].concat();
        let (payer, hash) = (identity.pubkey(), self.hashes.latest());
        let message = Message::new_with_blockhash(&instructions, Some(&payer), &hash);
        VersionedTransaction::try_new(VersionedMessage::Legacy(message), &[identity]).ok()
    }

    /// Schedules a task of the rollup itself.
    pub(crate) fn schedule(&mut self, task: ScheduleTask) {
        if let Some(lent) = &mut self.lent {
            let me = lent.identity.pubkey();
            lent.crank.schedule(me, task, Instant::now());
            lent.release(&self.svm);
        }
    }

    /// Asks for the commits that are due by the clock.
    pub(crate) fn commit_by_clock(&mut self) {
        if let Some(lent) = &mut self.lent {
            self.record_now |= lent.commit_by_clock(&self.svm);
        }
    }
}

impl Delegation {
    fn of(record: &DelegationRecord) -> Self {
        let never =
            record.commit_frequency_ms == 0 || record.commit_frequency_ms >= u64::from(u32::MAX);
        Self {
            owner: record.owner,
            every: (!never).then(|| Duration::from_millis(record.commit_frequency_ms)),
            committed: Instant::now(),
            changed: false,
            leaving: false,
        }
    }
}
