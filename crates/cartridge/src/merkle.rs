//! The Merkle tree over a cartridge's shards.
//!
//! A leaf is SHA-256(0x00 ‖ up to 64 KiB of one shard), an inner node SHA-256(0x01 ‖ left ‖ right).
//! The tree has RFC 6962's shape: its left part is the largest power of two of leaves.

use bytemuck::{Pod, Zeroable};
use worldline_abi::{MAX_SHARD_BYTES, MAX_SHARDS, MERKLE_LEAF_BYTES};
use worldline_mamba2::Kernels;

/// Most leaves of a cartridge.
pub const MAX_LEAVES: u32 = (MAX_SHARDS * MAX_SHARD_BYTES.div_ceil(MERKLE_LEAF_BYTES)) as u32;
/// Complete subtrees that may wait for a neighbour.
const DEPTH: usize = 12;
const _: () = assert!(MAX_LEAVES < 1 << DEPTH);

/// A tree under construction. Plain data, so that a program can carry it from one transaction to the
/// next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Merkle {
    /// Roots of complete subtrees, the largest first.
    stack: [[u8; 32]; DEPTH],
    /// Leaves so far.
    leaves: u32,
}

impl Default for Merkle {
    /// No leaf yet.
    fn default() -> Self {
        Self::zeroed()
    }
}

impl Merkle {
    /// Leaves so far.
    pub const fn leaves(&self) -> u32 {
        self.leaves
    }

    /// Adds a leaf: [`MERKLE_LEAF_BYTES`] of a shard, or what is left of it.
    ///
    /// # Panics
    /// After [`MAX_LEAVES`] leaves.
    pub fn push<K: Kernels>(&mut self, kernels: &K, leaf: &[u8]) {
        assert!(
            self.leaves < MAX_LEAVES,
            "a cartridge has at most {MAX_LEAVES} leaves"
        );
        let mut hash = kernels.sha256(&[&[0], leaf]);
        let mut top = self.leaves.count_ones() as usize;
        for _ in 0..self.leaves.trailing_ones() {
            top -= 1;
            hash = kernels.sha256(&[&[1], &self.stack[top], &hash]);
        }
        self.stack[top] = hash;
        self.leaves += 1;
    }

    /// The root of the leaves so far; zeros for none.
    pub fn root<K: Kernels>(&self, kernels: &K) -> [u8; 32] {
        let subtrees = &self.stack[..self.leaves.count_ones() as usize];
        let join = |right: [u8; 32], left: &[u8; 32]| kernels.sha256(&[&[1], left, &right]);
        match subtrees.split_last() {
            Some((last, rest)) => rest.iter().rev().fold(*last, join),
            None => [0; 32],
        }
    }
}

/// The root over whole shards, each cut into leaves from its own start.
pub fn merkle_root<K: Kernels>(kernels: &K, shards: &[&[u8]]) -> [u8; 32] {
    let mut tree = Merkle::default();
    for leaf in shards
        .iter()
        .flat_map(|shard| shard.chunks(MERKLE_LEAF_BYTES))
    {
        tree.push(kernels, leaf);
    }
    tree.root(kernels)
}

#[cfg(test)]
mod tests {
    use super::*;
    use worldline_mamba2::Scalar;

    fn reference(leaves: &[[u8; 32]]) -> [u8; 32] {
        match leaves {
            [] => [0; 32],
            [one] => *one,
            _ => {
                let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
                Scalar.sha256(&[&[1], &reference(left), &reference(right)])
            }
        }
    }

    #[test]
    fn every_number_of_leaves_gives_the_recursive_root() {
        let mut tree = Merkle::default();
        let mut leaves = Vec::new();
        for n in 0u8..70 {
            assert_eq!(tree.root(&Scalar), reference(&leaves), "{n} leaves");
            tree.push(&Scalar, &[n]);
            leaves.push(Scalar.sha256(&[&[0, n]]));
        }
    }
}
