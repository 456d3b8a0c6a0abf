//! The state of one chain, and the only code that changes it: blocks, transactions, accounts.
//!
//! A bank belongs to one thread (see [`crate::engine`]). What it calls *durable* is on the disk:
//! readers who ask for confirmed or finalized state get that of the last durable block, so that no
//! crash takes back what was confirmed. A rollup confirms at once; its finality is the commit to L1.

mod blocks;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use litesvm::LiteSVM;
use solana_account::{AccountSharedData, ReadableAccount, WritableAccount};
use solana_address::Address;
use solana_message::AddressLoader;
use solana_message::v0::LoadedAddresses;
use solana_sdk_ids::{bpf_loader_upgradeable, sysvar};
use solana_transaction::versioned::VersionedTransaction;
use solana_transaction_error::TransactionError;
use tokio::sync::broadcast;

use crate::blockhash::Blockhashes;
use crate::history::{History, Landed};
use crate::ledger::{Ledger, Record};
use crate::lent::Lent;
use crate::limits::BLOCKHASH_LIFE;
use crate::magic;

/// What a chain is like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// Time from one block to the next.
    pub(crate) block: Duration,
    /// How many transactions are remembered.
    pub(crate) history: usize,
}

/// How far something is from being undone by a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finality {
    /// It happened.
    Processed,
    /// It is on the disk, and was told as processed before.
    Durable,
    /// Both at once.
    Both,
}

/// What subscribers are told.
#[derive(Clone)]
pub(crate) enum Event {
    Slot(u64),
    Accounts {
        slot: u64,
        finality: Finality,
        accounts: Arc<Vec<(Address, Option<AccountSharedData>)>>,
    },
    Landed {
        finality: Finality,
        landed: Arc<Landed>,
    },
}

/// A transaction that was executed, and not yet made part of a block.
pub(crate) struct Trial {
    pub(crate) landed: Landed,
    /// Writable accounts as they would be.
    pub(crate) after: Vec<(Address, AccountSharedData)>,
    /// Whether a block may hold it, failed or not. Else it changes nothing and costs nothing.
    pub(crate) included: bool,
    requests: Vec<magic::Request>,
}

pub(crate) struct Bank {
    pub(crate) svm: LiteSVM,
    pub(crate) rules: Rules,
    pub(crate) slot: u64,
    /// The newest block that is on the disk, with all before it.
    pub(crate) durable: u64,
    pub(crate) hashes: Blockhashes,
    pub(crate) transactions: u64,
    pub(crate) ledger: Ledger,
    pub(crate) history: Arc<RwLock<History>>,
    /// What a rollup adds; nothing on the box.
    pub(crate) lent: Option<Lent>,
    /// Pays airdrops and collects fees, on the box.
    faucet: Address,
    events: broadcast::Sender<Event>,
    /// Accounts that the engine brings itself: built-in programs and system variables.
    brought: HashSet<Address>,
    brought_lamports: u128,
    slot_hashes: VecDeque<(u64, solana_hash::Hash)>,
    unix_time: i64,
    // Since the last record:
    dirty: HashSet<Address>,
    new_hashes: Vec<(solana_hash::Hash, u64)>,
    recorded: SystemTime,
    pub(crate) record_now: bool,
    // The open block, and the closed ones that are not durable:
    before: HashMap<Address, Option<AccountSharedData>>,
    landed: Vec<Arc<Landed>>,
    closing: VecDeque<blocks::Closing>,
}

/// What a bank starts from.
pub(crate) struct Parts {
    pub(crate) svm: LiteSVM,
    pub(crate) rules: Rules,
    pub(crate) ledger: Ledger,
    pub(crate) records: Vec<Record>,
    pub(crate) faucet: Address,
    pub(crate) lent: Option<Lent>,
    pub(crate) events: broadcast::Sender<Event>,
}

impl Bank {
    /// Takes up the chain where its records end, or at block 1.
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts {
            svm,
            rules,
            ledger,
            records,
            faucet,
            lent,
            events,
        } = parts;
        let life = (BLOCKHASH_LIFE.as_nanos() / rules.block.as_nanos()) as usize;
        let all = || svm.accounts_db().inner.iter();
        let mut bank = Self {
            brought: all().map(|(address, _)| *address).collect(),
            brought_lamports: all()
                .map(|(_, account)| u128::from(account.lamports()))
                .sum(),
            svm,
            rules,
            slot: 0,
            durable: 0,
            hashes: Blockhashes::new(life),
            transactions: 0,
            ledger,
            history: Arc::new(RwLock::new(History::new(rules.history))),
            lent,
            faucet,
            events,
            slot_hashes: VecDeque::new(),
            unix_time: 0,
            dirty: HashSet::new(),
            new_hashes: Vec::new(),
            recorded: SystemTime::now(),
            record_now: false,
            before: HashMap::new(),
            landed: Vec::new(),
            closing: VecDeque::new(),
        };
        bank.restore(records);
        bank.open_block();
        bank.dirty.clear();
        bank.before.clear();
        bank
    }

    // Reading.

    /// An account as it is now.
    pub(crate) fn account(&self, address: &Address) -> Option<AccountSharedData> {
        self.svm.accounts_db().get_account(address)
    }

    /// An account as of the last durable block.
    pub(crate) fn durable_account(&self, address: &Address) -> Option<AccountSharedData> {
        let undone = self.closing.iter().map(|block| &block.before);
        undone
            .chain([&self.before])
            .find_map(|before| before.get(address).cloned())
            .unwrap_or_else(|| self.account(address))
    }

    /// All accounts of a program, now or as of the last durable block.
    pub(crate) fn program_accounts(
        &self,
        program: &Address,
        durable: bool,
    ) -> Vec<(Address, AccountSharedData)> {
        let all = self.svm.accounts_db().inner.iter();
        if !durable {
            return all
                .filter(|(_, account)| account.owner() == program)
                .map(|(address, account)| (*address, account.clone()))
                .collect();
        }
        let mut addresses: HashSet<Address> = all.map(|(address, _)| *address).collect();
        addresses.extend(self.before.keys());
        addresses.extend(self.closing.iter().flat_map(|block| block.before.keys()));
        addresses
            .into_iter()
            .filter_map(|address| Some((address, self.durable_account(&address)?)))
            .filter(|(_, account)| account.owner() == program)
            .collect()
    }

    /// Whether the engine brought this account itself.
    pub(crate) fn is_brought(&self, address: &Address) -> bool {
        self.brought.contains(address)
    }

    /// Lamports of all accounts, less those that the engine brought: on the box always what the
    /// faucet began with.
    pub(crate) fn total_lamports(&self) -> u128 {
        let accounts = self.svm.accounts_db().inner.values();
        let sum: u128 = accounts.map(|account| u128::from(account.lamports())).sum();
        sum - self.brought_lamports
    }

    /// The block as of which readers are answered.
    pub(crate) fn slot_at(&self, durable: bool) -> u64 {
        if durable { self.durable } else { self.slot }
    }

    /// The newest block whose transactions no crash takes back. A rollup promises that of none, and
    /// calls all of them final: what is final there is what L1 has taken.
    pub(crate) fn durable_now(&self) -> u64 {
        self.slot_at(self.lent.is_none())
    }

    /// What a message costs its payer, in lamports.
    pub(crate) fn fee(&self, transaction: &VersionedTransaction) -> u64 {
        // The engine computes the fee before it runs anything.
        match self.svm.simulate_transaction(transaction.clone()) {
            Ok(done) => done.meta.fee,
            Err(failed) => failed.meta.fee,
        }
    }

    // Changing.

    /// Sets an account outside any transaction.
    pub(crate) fn put(&mut self, address: Address, account: AccountSharedData) {
        self.apply(vec![(address, account)]);
    }

    /// Sets accounts, program data before the programs that need it.
    pub(crate) fn apply(&mut self, mut accounts: Vec<(Address, AccountSharedData)>) {
        accounts.sort_by_key(|(_, account)| account.executable());
        for (address, account) in accounts {
            if !account.executable() && self.same(&address, &account) {
                continue;
            }
            if self.lent.is_none() {
                let before = self.svm.accounts_db().get_account(&address);
                self.before.entry(address).or_insert(before);
            }
            self.dirty.insert(address);
            let plain =
                account.lamports() > 0 && !account.executable() && *account.owner() != sysvar::ID;
            if plain {
                self.svm.set_account_no_checks(address, account);
            } else if let Err(error) = self.svm.set_account(address, account.into()) {
                tracing::error!(%address, %error, "the engine does not take an account");
            }
        }
    }

    /// Makes an account from the faucet's lamports.
    pub(crate) fn fund(&mut self, address: Address, account: AccountSharedData) {
        let old = self.account(&address).map_or(0, |old| old.lamports());
        if let Some(mut faucet) = self.account(&self.faucet) {
            let left = u128::from(faucet.lamports()) + u128::from(old);
            faucet.set_lamports(left.saturating_sub(u128::from(account.lamports())) as u64);
            let faucet_address = self.faucet;
            self.apply(vec![(faucet_address, faucet), (address, account)]);
        }
    }

    fn same(&self, address: &Address, new: &AccountSharedData) -> bool {
        let old = self.svm.accounts_db().get_account_ref(address);
        old.map_or(new.lamports() == 0, |old| !changed(old, new))
    }

    /// Executes a transaction without making it part of a block.
    pub(crate) fn try_out(&mut self, transaction: &VersionedTransaction) -> Trial {
        let message = &transaction.message;
        let loaded = match message.address_table_lookups() {
            None | Some([]) => Ok(LoadedAddresses::default()),
            Some(lookups) => self.svm.accounts_db().load_addresses(lookups),
        };
        let loaded = loaded.unwrap_or_default();
        let mut keys = message.static_account_keys().to_vec();
        keys.extend(&loaded.writable);
        keys.extend(&loaded.readonly);
        let before: Vec<u64> = keys.iter().map(|key| self.lamports(key)).collect();

        let payer = keys.first().copied().unwrap_or_default();
        let lends = self.lent.is_some() && self.lamports(&payer) == 0;
        if lends {
            // A rollup takes no fee, so that a payer need not exist: the engine wants to see one.
            let stand_in = AccountSharedData::new(1, 0, &Address::default());
            self.svm.set_account_no_checks(payer, stand_in);
        }
        magic::take_requests();
        let result = self.svm.simulate_transaction(transaction.clone());
        let requests = magic::take_requests();
        let (mut error, meta, mut after) = match result {
            Ok(done) => (None, done.meta, done.post_accounts),
            Err(failed) => (Some(failed.err), failed.meta, Vec::new()),
        };
        let included = error.is_none() || meta.signature != solana_signature::Signature::default();
        let mut logs = meta.logs;
        let mut fee = if included { meta.fee } else { 0 };
        if let Some(lent) = &self.lent {
            give_back_fee(&mut after, &payer, fee);
            fee = 0;
            if error.is_none() {
                let objection = lent.objection(&self.svm, &after, &requests);
                if let Some(objection) = objection {
                    logs.push(format!("Rollup: {objection}"));
                    error = Some(TransactionError::InvalidWritableAccount);
                    after.clear();
                }
            }
        }
        if lends {
            after.retain(|(address, _)| *address != payer);
            let gone = AccountSharedData::default();
            // Removing an account cannot fail: there is nothing in it to check.
            let _ = self.svm.set_account(payer, gone.into());
        }
        let balances = keys.iter().zip(before).map(|(key, before)| {
            let found = after.iter().find(|(address, _)| address == key);
            (
                before,
                found.map_or(before, |(_, account)| account.lamports()),
            )
        });
        let returned = meta.return_data;
        let landed = Landed {
            slot: self.slot,
            unix_time: self.unix_time,
            transaction: transaction.clone(),
            fee,
            units: meta.compute_units_consumed,
            balances: balances.collect(),
            loaded: (loaded.writable.len(), loaded.readonly.len()),
            keys,
            logs,
            inner: meta.inner_instructions,
            returned: (!returned.data.is_empty()).then_some((returned.program_id, returned.data)),
            error,
        };
        Trial {
            landed,
            after,
            included,
            requests,
        }
    }

    /// What becomes of a transaction that need not be executed to be refused.
    pub(crate) fn untried(
        &self,
        transaction: &VersionedTransaction,
        error: TransactionError,
    ) -> Trial {
        let landed = Landed {
            slot: self.slot,
            unix_time: self.unix_time,
            transaction: transaction.clone(),
            error: Some(error),
            fee: 0,
            units: 0,
            logs: Vec::new(),
            keys: Vec::new(),
            loaded: (0, 0),
            balances: Vec::new(),
            inner: Vec::new(),
            returned: None,
        };
        Trial {
            landed,
            after: Vec::new(),
            included: false,
            requests: Vec::new(),
        }
    }

    fn lamports(&self, address: &Address) -> u64 {
        self.svm.get_balance(address).unwrap_or(0)
    }

    /// Executes a transaction whose signatures were checked, and makes it part of the open block. With
    /// `spare`, one that fails does not become part of it, and costs its payer nothing: what a
    /// preflight is for.
    pub(crate) fn execute(
        &mut self,
        transaction: &VersionedTransaction,
        spare: bool,
    ) -> Result<Arc<Landed>, Box<Trial>> {
        let hash = *transaction.message.recent_blockhash();
        let signature = transaction.signatures.first().copied().unwrap_or_default();
        if let Err(error) = self.hashes.check(&hash, &signature) {
            return Err(Box::new(self.untried(transaction, error)));
        }
        let trial = self.try_out(transaction);
        if !trial.included || (spare && trial.landed.error.is_some()) {
            return Err(Box::new(trial));
        }
        self.hashes.note(&hash, signature);
        let Trial {
            mut landed,
            after,
            requests,
            ..
        } = trial;
        if landed.error.is_some() {
            self.charge(&mut landed);
        } else {
            self.apply(after.clone());
        }
        if landed.fee > 0
            && let Some(mut faucet) = self.account(&self.faucet)
        {
            faucet.set_lamports(faucet.lamports() + landed.fee);
            let address = self.faucet;
            self.apply(vec![(address, faucet)]);
        }
        if landed.error.is_none()
            && let Some(lent) = &mut self.lent
        {
            let urgent = lent.note(&self.svm, &after, requests);
            self.record_now |= urgent;
        }
        let landed = Arc::new(landed);
        self.publish(&landed, &after);
        Ok(landed)
    }

    /// A failed transaction changes nothing but its payer's lamports.
    fn charge(&mut self, landed: &mut Landed) {
        let payer = landed.keys.first().copied().unwrap_or_default();
        if landed.fee > 0
            && let Some(mut account) = self.account(&payer)
        {
            account.set_lamports(account.lamports().saturating_sub(landed.fee));
            landed.balances[0].1 = account.lamports();
            self.apply(vec![(payer, account)]);
        }
    }

    fn remember(&mut self, landed: Arc<Landed>) {
        self.transactions += 1;
        if let Ok(mut history) = self.history.write() {
            history.push(landed);
        }
    }

    fn publish(&mut self, landed: &Arc<Landed>, after: &[(Address, AccountSharedData)]) {
        self.remember(landed.clone());
        let finality = if self.lent.is_some() {
            Finality::Both
        } else {
            Finality::Processed
        };
        if self.lent.is_none() {
            self.landed.push(landed.clone());
        }
        if landed.error.is_none() {
            let now = |(address, _): &(Address, _)| (*address, self.account(address));
            self.tell(Event::Accounts {
                slot: self.slot,
                finality,
                accounts: Arc::new(after.iter().map(now).collect()),
            });
        }
        self.tell(Event::Landed {
            finality,
            landed: landed.clone(),
        });
    }

    /// Tells subscribers about accounts that changed outside any transaction.
    pub(crate) fn announce(&self, addresses: &[Address]) {
        let accounts = addresses
            .iter()
            .map(|address| (*address, self.account(address)));
        self.tell(Event::Accounts {
            slot: self.slot,
            finality: Finality::Both,
            accounts: Arc::new(accounts.collect()),
        });
    }

    fn tell(&self, event: Event) {
        // Nobody may be listening.
        let _ = self.events.send(event);
    }
}

/// Whether anything that matters differs.
pub(crate) fn changed(old: &AccountSharedData, new: &AccountSharedData) -> bool {
    old.lamports() != new.lamports()
        || old.owner() != new.owner()
        || old.executable() != new.executable()
        || (!Arc::ptr_eq(&old.data_clone(), &new.data_clone()) && old.data() != new.data())
}

/// A rollup takes no fee, not even the one that a payer offers.
fn give_back_fee(after: &mut [(Address, AccountSharedData)], payer: &Address, fee: u64) {
    if let Some((_, account)) = after.iter_mut().find(|(address, _)| address == payer) {
        account.set_lamports(account.lamports().saturating_add(fee));
    }
}

/// Where the code of an upgradeable program is.
pub(crate) fn program_data_address(program: &Address) -> Address {
    Address::find_program_address(&[program.as_ref()], &bpf_loader_upgradeable::ID).0
}

pub(crate) fn unix_millis() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |now| now.as_millis() as u64)
}
