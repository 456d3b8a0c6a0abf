//! Blocks: where they begin and end, and what of them is on the disk.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use solana_account::{AccountSharedData, ReadableAccount};
use solana_address::Address;
use solana_clock::Clock;
use solana_sdk_ids::sysvar;
use solana_slot_hashes::SlotHashes;

use super::{Bank, Event, Finality, unix_millis};
use crate::history::Landed;
use crate::ledger::{Record, StoredAccount};
use crate::lent::Lent;
use crate::limits::CHECKPOINT;

/// Blocks whose hashes `SlotHashes` holds.
const SLOT_HASHES: usize = 512;

/// A closed block that is not durable yet.
pub(super) struct Closing {
    slot: u64,
    pub(super) before: HashMap<Address, Option<AccountSharedData>>,
    landed: Vec<Arc<Landed>>,
}

impl Bank {
    /// Takes up the chain where its records end.
    pub(super) fn restore(&mut self, records: Vec<Record>) {
        let mut accounts = HashMap::new();
        let mut role = Vec::new();
        let mut written = unix_millis();
        for record in records {
            (self.slot, written) = (record.slot, record.unix_millis);
            for (hash, slot) in record.hashes {
                self.hashes.push(hash, slot);
            }
            for landed in record.landed {
                let hash = *landed.transaction.message.recent_blockhash();
                self.hashes.note(&hash, landed.signature());
                self.remember(Arc::new(landed));
            }
            for account in record.accounts {
                accounts.insert(account.address, account);
            }
            role = record.role;
        }
        // Blocks went by while nothing was written; no reader may see their number fall.
        let since = u128::from(unix_millis().saturating_sub(written));
        self.slot += (since / self.rules.block.as_millis().max(1)) as u64;
        self.durable = self.slot;
        self.set_clock();
        let accounts = accounts.into_values().map(|stored| {
            let account = AccountSharedData::create_from_existing_shared_data(
                stored.lamports,
                stored.data,
                stored.owner,
                stored.executable,
                u64::MAX,
            );
            (stored.address, account)
        });
        self.apply(accounts.collect());
        if let Some(lent) = &mut self.lent {
            lent.restore(&self.svm, &role);
        }
    }

    /// Ends the open block and begins the next. `durable` is called when the block is on the disk,
    /// if it is written at all.
    pub(crate) fn next_block(&mut self, durable: impl FnOnce(u64) + Send + 'static) {
        let slot = self.slot;
        if self.lent.is_some() {
            self.durable = slot;
            self.commit_by_clock();
            self.checkpoint(slot, durable);
        } else if self.dirty.is_empty() && self.landed.is_empty() {
            if self.closing.is_empty() {
                self.durable = slot;
            }
        } else {
            let landed = std::mem::take(&mut self.landed);
            let record = self.record(
                landed
                    .iter()
                    .map(|landed| landed.as_ref().clone())
                    .collect(),
            );
            self.closing.push_back(Closing {
                slot,
                before: std::mem::take(&mut self.before),
                landed,
            });
            self.ledger.append(record, move || durable(slot));
            self.fold();
        }
        self.open_block();
        self.tell(Event::Slot(self.slot));
    }

    /// Writes a rollup's accounts if it is time to.
    fn checkpoint(&mut self, slot: u64, durable: impl FnOnce(u64) + Send + 'static) {
        let due = self.recorded.elapsed().is_ok_and(|age| age >= CHECKPOINT);
        if self.record_now || (due && !self.dirty.is_empty()) {
            let record = self.record(Vec::new());
            self.ledger.append(record, move || durable(slot));
            self.fold();
        }
    }

    /// Everything that changed since the last record.
    fn record(&mut self, landed: Vec<Landed>) -> Record {
        let addresses = std::mem::take(&mut self.dirty);
        self.recorded = SystemTime::now();
        self.record_now = false;
        Record {
            slot: self.slot,
            unix_millis: unix_millis(),
            hashes: std::mem::take(&mut self.new_hashes),
            accounts: self.stored(addresses.iter()),
            landed,
            role: self.lent.as_ref().map(Lent::store).unwrap_or_default(),
        }
    }

    fn stored<'a>(&self, addresses: impl Iterator<Item = &'a Address>) -> Vec<StoredAccount> {
        let accounts = self.svm.accounts_db();
        addresses
            .map(|address| StoredAccount::of(*address, accounts.get_account_ref(address)))
            .collect()
    }

    /// Replaces a long journal by a snapshot. What the engine brings is not part of it, unless a
    /// transaction has changed it.
    fn fold(&mut self) {
        if !self.ledger.wants_snapshot() {
            return;
        }
        let is_sysvar = |address: &&Address| {
            let account = self.svm.accounts_db().get_account_ref(address);
            account.is_some_and(|account| *account.owner() == sysvar::ID)
        };
        let addresses = self
            .svm
            .accounts_db()
            .inner
            .keys()
            .filter(|key| !is_sysvar(key));
        let landed = self.history.read().map(|history| {
            history
                .iter()
                .map(|landed| landed.as_ref().clone())
                .collect()
        });
        let base = self.lent.is_none();
        self.ledger.snapshot(Record {
            slot: self.slot,
            unix_millis: unix_millis(),
            hashes: self.hashes.iter().copied().collect(),
            accounts: self.stored(addresses),
            landed: landed.ok().filter(|_| base).unwrap_or_default(),
            role: self.lent.as_ref().map(Lent::store).unwrap_or_default(),
        });
    }

    /// A block and all before it are on the disk.
    pub(crate) fn now_durable(&mut self, slot: u64) {
        self.durable = self.durable.max(slot);
        if let Some(lent) = &mut self.lent {
            lent.recorded(slot);
        }
        while self.closing.front().is_some_and(|block| block.slot <= slot) {
            let Some(block) = self.closing.pop_front() else {
                return;
            };
            // Later blocks may have changed an account again: what they found is what this one left.
            let left = |address: &Address| (*address, self.durable_account(address));
            let accounts = block.before.keys().map(left).collect();
            self.tell(Event::Accounts {
                slot: block.slot,
                finality: Finality::Durable,
                accounts: Arc::new(accounts),
            });
            for landed in block.landed {
                self.tell(Event::Landed {
                    finality: Finality::Durable,
                    landed,
                });
            }
        }
    }

    pub(super) fn open_block(&mut self) {
        self.slot += 1;
        if let Some(lent) = &mut self.lent {
            lent.block = self.slot;
        }
        let nanos = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |now| now.as_nanos());
        let hash = self.hashes.next(self.slot, nanos);
        self.hashes.push(hash, self.slot);
        if self.lent.is_none() {
            self.new_hashes.push((hash, self.slot));
            self.slot_hashes.push_front((self.slot - 1, hash));
            self.slot_hashes.truncate(SLOT_HASHES);
            let hashes: Vec<_> = self.slot_hashes.iter().copied().collect();
            self.svm.set_sysvar(&SlotHashes::new(&hashes));
        }
        self.set_clock();
    }

    pub(super) fn set_clock(&mut self) {
        self.unix_time = (unix_millis() / 1000) as i64;
        self.svm.set_sysvar(&Clock {
            slot: self.slot,
            unix_timestamp: self.unix_time,
            ..Clock::default()
        });
    }
}
