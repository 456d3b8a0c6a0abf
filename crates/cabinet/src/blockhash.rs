//! Recent blockhashes and, under each, the signatures that used it.
//!
//! A transaction names a recent blockhash; it runs once, and only while that hash is recent. To
//! remember a signature exactly as long as its blockhash is therefore enough to refuse every
//! duplicate.

use std::collections::{HashMap, HashSet, VecDeque};

use sha2::{Digest, Sha256};
use solana_hash::Hash;
use solana_signature::Signature;
use solana_transaction_error::TransactionError;

/// The hashes of the last `life` blocks.
pub(crate) struct Blockhashes {
    life: usize,
    order: VecDeque<(Hash, u64)>,
    used: HashMap<Hash, HashSet<Signature>>,
}

impl Blockhashes {
    /// Hashes live for `life` blocks.
    pub(crate) fn new(life: usize) -> Self {
        Self {
            life,
            order: VecDeque::new(),
            used: HashMap::new(),
        }
    }

    /// The hash of the block that follows `slot`: of the one before it, the slot and the time, so
    /// that two runs of one ledger do not give the same.
    pub(crate) fn next(&self, slot: u64, unix_nanos: u128) -> Hash {
        let mut hash = Sha256::new();
        hash.update(self.latest().to_bytes());
        hash.update(slot.to_le_bytes());
        hash.update(unix_nanos.to_le_bytes());
        Hash::new_from_array(hash.finalize().into())
    }

    /// Makes `hash` the latest, and forgets the oldest when there are too many.
    pub(crate) fn push(&mut self, hash: Hash, slot: u64) {
        self.order.push_back((hash, slot));
        self.used.insert(hash, HashSet::new());
        while self.order.len() > self.life {
            if let Some((old, _)) = self.order.pop_front() {
                self.used.remove(&old);
            }
        }
    }

    /// The hash that a new transaction should name.
    pub(crate) fn latest(&self) -> Hash {
        self.order.back().map(|(hash, _)| *hash).unwrap_or_default()
    }

    /// Whether a transaction may still name this hash.
    pub(crate) fn is_recent(&self, hash: &Hash) -> bool {
        self.used.contains_key(hash)
    }

    /// The last block height at which a transaction with the latest hash is taken.
    pub(crate) fn last_valid_height(&self) -> u64 {
        let newest = self.order.back().map_or(0, |(_, slot)| *slot);
        newest + self.life as u64
    }

    /// The recent hashes with their slots, oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &(Hash, u64)> {
        self.order.iter()
    }

    /// Whether a transaction with this signature and blockhash may run.
    pub(crate) fn check(&self, hash: &Hash, signature: &Signature) -> Result<(), TransactionError> {
        match self.used.get(hash) {
            None => Err(TransactionError::BlockhashNotFound),
            Some(used) if used.contains(signature) => Err(TransactionError::AlreadyProcessed),
            Some(_) => Ok(()),
        }
    }

    /// Remembers that a transaction has run.
    pub(crate) fn note(&mut self, hash: &Hash, signature: Signature) {
        if let Some(used) = self.used.get_mut(hash) {
            used.insert(signature);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_remembered_as_long_as_its_blockhash() {
        let mut hashes = Blockhashes::new(3);
        let first = hashes.next(1, 1);
        hashes.push(first, 1);
        let signature = Signature::from([7; 64]);
        assert_eq!(hashes.check(&first, &signature), Ok(()));
        hashes.note(&first, signature);
        assert_eq!(
            hashes.check(&first, &signature),
            Err(TransactionError::AlreadyProcessed)
        );
        for slot in 2..=4 {
            let next = hashes.next(slot, 1);
            assert_ne!(next, hashes.latest());
            hashes.push(next, slot);
        }
        assert_eq!(
            hashes.check(&first, &signature),
            Err(TransactionError::BlockhashNotFound)
        );
        assert!(!hashes.is_recent(&first));
        assert_eq!(hashes.last_valid_height(), 7);
    }
}
