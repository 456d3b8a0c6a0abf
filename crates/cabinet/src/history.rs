//! What ran: the last so many transactions, with everything that the RPC tells of them.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use solana_address::Address;
use solana_message::inner_instruction::InnerInstructionsList;
use solana_signature::Signature;
use solana_transaction::versioned::VersionedTransaction;
use solana_transaction_error::TransactionError;

/// A transaction that is part of a block, whether it succeeded or paid its fee for an error.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Landed {
    /// The block it is in.
    pub(crate) slot: u64,
    /// When that block was open, in seconds of Unix time.
    pub(crate) unix_time: i64,
    /// The transaction as it came.
    pub(crate) transaction: VersionedTransaction,
    /// Why it failed, if it did. Its writes are then undone, its fee is not.
    pub(crate) error: Option<TransactionError>,
    /// What the payer paid, in lamports.
    pub(crate) fee: u64,
    /// Compute units used.
    pub(crate) units: u64,
    /// What the programs said.
    pub(crate) logs: Vec<String>,
    /// All accounts: those named in the message, then those loaded from tables.
    pub(crate) keys: Vec<Address>,
    /// How many of `keys` at the end are loaded and writable, and loaded and read-only.
    pub(crate) loaded: (usize, usize),
    /// Lamports of `keys` before and after.
    pub(crate) balances: Vec<(u64, u64)>,
    /// Calls between programs.
    pub(crate) inner: InnerInstructionsList,
    /// What the last program to do so returned, and that program.
    pub(crate) returned: Option<(Address, Vec<u8>)>,
}

impl Landed {
    /// The first signature, which names the transaction.
    pub(crate) fn signature(&self) -> Signature {
        self.transaction
            .signatures
            .first()
            .copied()
            .unwrap_or_default()
    }
}

/// The newest transactions, by signature and in order.
pub(crate) struct History {
    capacity: usize,
    order: VecDeque<Arc<Landed>>,
    by_signature: HashMap<Signature, Arc<Landed>>,
}

impl History {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            order: VecDeque::new(),
            by_signature: HashMap::new(),
        }
    }

    pub(crate) fn push(&mut self, landed: Arc<Landed>) {
        self.by_signature.insert(landed.signature(), landed.clone());
        self.order.push_back(landed);
        while self.order.len() > self.capacity {
            if let Some(old) = self.order.pop_front() {
                self.by_signature.remove(&old.signature());
            }
        }
    }

    pub(crate) fn get(&self, signature: &Signature) -> Option<Arc<Landed>> {
        self.by_signature.get(signature).cloned()
    }

    /// Oldest first.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &Arc<Landed>> {
        self.order.iter()
    }

    /// Those that name `address`, newest first, older than `before` and newer than `until`.
    pub(crate) fn of(
        &self,
        address: &Address,
        before: Option<Signature>,
        until: Option<Signature>,
        limit: usize,
    ) -> Vec<Arc<Landed>> {
        let mut newest_first = self.order.iter().rev();
        if let Some(before) = before {
            newest_first.find(|landed| landed.signature() == before);
        }
        newest_first
            .take_while(|landed| until.is_none_or(|until| landed.signature() != until))
            .filter(|landed| landed.keys.contains(address))
            .take(limit)
            .cloned()
            .collect()
    }
}
