//! A world on the chain: where it lies, what can be done to it, what it costs. No I/O.

use solana_address::Address;
use solana_instruction::Instruction as Call;
use solana_system_interface::instruction::create_account_with_seed;
use worldline_abi::instruction::{
    CheckWorld, CopyShard, CreateShard, CreateWorld, ForkWorld, ReopenWorld, RetireWorld,
    WRITE_BYTES, WriteShard,
};
use worldline_abi::{
    MAX_SHARDS, MERKLE_LEAF_BYTES, ModelManifest, WeightShard, WorldAccount, address,
};

use crate::limits::{L1_UNITS, LEAVES_PER_CHECK};
use crate::program::{Program, SYSTEM_PROGRAM, unit_limit};

/// Bytes of a shard's account before its weights.
pub const SHARD_HEADER: usize = size_of::<WeightShard>();

/// A world's addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorldAt {
    /// The program that keeps it.
    pub program: Program,
    /// Who owns it.
    pub owner: Address,
    /// The owner's own number for it.
    pub id: u64,
    /// Of its account.
    pub address: Address,
}

impl WorldAt {
    /// The world of this owner and number.
    pub fn new(program: Program, owner: Address, id: u64) -> Self {
        let address = program.derive(&address::world(owner.as_array(), &id.to_le_bytes()));
        Self {
            program,
            owner,
            id,
            address,
        }
    }

    /// The world of an account.
    pub fn of(program: Program, account: &WorldAccount) -> Self {
        Self::new(program, account.manifest.owner.into(), account.id)
    }

    /// Where a shard lies.
    pub fn shard(&self, index: usize) -> Address {
        self.program.shard(&self.owner, self.id, index as u8)
    }

    /// Where the shards of a manifest lie.
    pub fn shards(&self, manifest: &ModelManifest) -> Vec<Address> {
        shard_sizes(manifest)
            .map(|(index, _)| self.shard(index))
            .collect()
    }

    /// Announces the world. `fee`: lamports that each session pays to its owner.
    pub fn create(&self, manifest: &ModelManifest, fee: u64) -> Call {
        let body = CreateWorld {
            id: self.id,
            fee,
            manifest: *manifest,
        };
        let accounts = [self.owner, self.address, SYSTEM_PROGRAM];
        self.program.call(&body, &[], &accounts, &[])
    }

    /// Announces the world as a copy of `parent`; zeros keep the parent's name.
    pub fn fork(&self, parent: &Address, name: [u8; 32], fee: u64) -> Call {
        let body = ForkWorld {
            id: self.id,
            fee,
            name,
        };
        let accounts = [self.owner, self.address, *parent, SYSTEM_PROGRAM];
        self.program.call(&body, &[], &accounts, &[])
    }

    /// Makes a shard's account of `bytes` weights, with this deposit, and hands it to the program:
    /// two calls for one transaction.
    pub fn create_shard(&self, index: usize, bytes: usize, rent: u64) -> [Call; 2] {
        let seed = address::shard_seed(self.id, index as u8);
        let made = create_account_with_seed(
            &self.owner,
            &self.shard(index),
            &self.owner,
            str::from_utf8(&seed).expect("hexadecimal digits"),
            rent,
            (SHARD_HEADER + bytes) as u64,
            &self.program.id,
        );
        let index = index as u8;
        let accounts = [self.owner, self.address, self.shard(index.into())];
        [
            made,
            self.program
                .call(&CreateShard { index }, &[], &accounts, &[]),
        ]
    }

    /// Writes at most [`WRITE_BYTES`] weights at an offset of a shard.
    pub fn write(&self, index: usize, offset: usize, weights: &[u8]) -> Call {
        let body = WriteShard {
            offset: offset as u32,
        };
        let accounts = [self.owner, self.address, self.shard(index)];
        self.program.call(&body, weights, &accounts, &[])
    }

    /// Copies weights from the same place of the parent's shard.
    pub fn copy(&self, index: usize, offset: usize, bytes: usize, source: &Address) -> [Call; 2] {
        let body = CopyShard {
            offset: offset as u32,
            bytes: bytes as u32,
        };
        let accounts = [self.owner, self.address, self.shard(index), *source];
        [
            unit_limit(L1_UNITS),
            self.program.call(&body, &[], &accounts, &[]),
        ]
    }

    /// Hashes the next leaves, which are of this shard.
    pub fn check(&self, index: usize) -> [Call; 2] {
        let body = CheckWorld {
            leaves: LEAVES_PER_CHECK,
        };
        let accounts = [self.owner, self.address, self.shard(index)];
        [
            unit_limit(L1_UNITS),
            self.program.call(&body, &[], &accounts, &[]),
        ]
    }

    /// Opens a world whose check has begun for writes again.
    pub fn reopen(&self) -> Call {
        self.program
            .call(&ReopenWorld {}, &[], &[self.owner, self.address], &[])
    }

    /// Closes these shards, and with the last one the world.
    pub fn retire(&self, shards: &[Address]) -> Call {
        self.program
            .call(&RetireWorld {}, &[], &[self.owner, self.address], &[shards])
    }
}

/// A manifest as a file has it: without owner and shard addresses, which only a chain knows.
pub fn file_manifest(manifest: &ModelManifest) -> ModelManifest {
    ModelManifest {
        owner: [0; 32],
        shards: [[0; 32]; MAX_SHARDS],
        ..*manifest
    }
}

/// Index and bytes of each shard.
pub fn shard_sizes(manifest: &ModelManifest) -> impl Iterator<Item = (usize, usize)> {
    let count = usize::from(manifest.shard_count).min(MAX_SHARDS);
    let sizes = manifest.shard_bytes;
    (0..count).map(move |index| (index, sizes[index] as usize))
}

/// Bytes of every account of a world.
pub fn account_sizes(manifest: &ModelManifest) -> Vec<usize> {
    let shards = shard_sizes(manifest).map(|(_, bytes)| SHARD_HEADER + bytes);
    [size_of::<WorldAccount>()]
        .into_iter()
        .chain(shards)
        .collect()
}

/// Of which shard the next leaf is, after so many; `None` after the last.
pub fn shard_of_leaf(manifest: &ModelManifest, mut leaf: u32) -> Option<usize> {
    for (index, bytes) in shard_sizes(manifest) {
        let leaves = bytes.div_ceil(MERKLE_LEAF_BYTES) as u32;
        if leaf < leaves {
            return Some(index);
        }
        leaf -= leaves;
    }
    None
}

/// Transactions that check a world from its first leaf.
pub fn checks(manifest: &ModelManifest) -> usize {
    let leaves = shard_sizes(manifest).map(|(_, bytes)| bytes.div_ceil(MERKLE_LEAF_BYTES));
    leaves
        .map(|leaves| leaves.div_ceil(LEAVES_PER_CHECK as usize))
        .sum()
}

/// The parts of `expected`, [`WRITE_BYTES`] or fewer each, that `found` does not have: offset and
/// length. A fresh account is all zeros, so zeros need not be written.
pub fn missing(expected: &[u8], found: &[u8], part: usize) -> Vec<(usize, usize)> {
    let starts = (0..expected.len()).step_by(part);
    let parts = starts.map(|start| (start, part.min(expected.len() - start)));
    let differs = |(start, length): &(usize, usize)| {
        found.get(*start..start + length) != Some(&expected[*start..start + length])
    };
    parts.filter(differs).collect()
}

/// What goes into one write.
pub const WRITE: usize = WRITE_BYTES;

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(shards: &[u32]) -> ModelManifest {
        let mut manifest = ModelManifest {
            shard_count: shards.len() as u8,
            ..ModelManifest::default()
        };
        manifest.shard_bytes[..shards.len()].copy_from_slice(shards);
        manifest
    }

    #[test]
    fn only_what_differs_is_written_again() {
        let expected: Vec<u8> = (0..2_500u32).map(|at| at as u8 | 1).collect();
        let all = [(0, 960), (960, 960), (1_920, 580)];
        assert_eq!(missing(&expected, &[], WRITE), all);
        let mut found = expected.clone();
        assert_eq!(missing(&expected, &found, WRITE), []);
        found[1_000] ^= 1;
        found.truncate(2_499);
        assert_eq!(missing(&expected, &found, WRITE), all[1..]);
        assert_eq!(
            missing(&[0; 2_000], &[0; 2_000], WRITE),
            [],
            "zeros are there already"
        );
    }

    #[test]
    fn leaves_are_counted_through_the_shards() {
        let manifest = manifest(&[65_537, 1, 3_000_000]);
        let of = |leaf| shard_of_leaf(&manifest, leaf);
        assert_eq!(
            [of(0), of(1), of(2), of(3)],
            [Some(0), Some(0), Some(1), Some(2)]
        );
        assert_eq!((of(48), of(49)), (Some(2), None));
        assert_eq!(checks(&manifest), 1 + 1 + 2);
        assert_eq!(account_sizes(&manifest), [1_024, 65_601, 65, 3_000_064]);
    }

    #[test]
    fn every_transaction_of_an_upload_fits_a_packet() {
        use crate::send::sign;
        use solana_keypair::Keypair;
        use solana_signer::Signer;
        let key = Keypair::new();
        let at = WorldAt::new(Program::default(), key.pubkey(), u64::MAX);
        let shards = [Address::default(); MAX_SHARDS];
        let transactions = [
            vec![at.create(&ModelManifest::default(), 1)],
            vec![at.fork(&key.pubkey(), [1; 32], 1)],
            at.create_shard(7, 10 << 20, 1).to_vec(),
            vec![at.write(7, 0, &[1; WRITE])],
            at.copy(7, 0, 1, &key.pubkey()).to_vec(),
            at.check(7).to_vec(),
            vec![at.reopen()],
            vec![at.retire(&shards)],
        ];
        for calls in transactions {
            sign(&calls, &[&key], &Default::default()).unwrap();
        }
    }

    /// The page about storage says what these worlds lock and what bringing them costs.
    #[test]
    fn the_documented_deposits_are_those_of_the_accounts() {
        use crate::limits::{COPY_BYTES, FEE_LAMPORTS, LAMPORTS_PER_SOL};
        use worldline_cartridge::Cartridge;
        use worldline_cartridge::testing::{Size, cartridge};
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let page = std::fs::read_to_string(root.join("docs/storage.md")).unwrap();
        let shipped = |name: &str| Cartridge::open(root.join(name)).unwrap();
        let sol = |lamports: usize| lamports as f64 / LAMPORTS_PER_SOL as f64;
        for (name, file) in [
            ("`worlds/micro.cart`", shipped("worlds/micro.cart")),
            ("`worlds/melee.cart`", shipped("worlds/melee.cart")),
            (
                "random weights of the size *full*",
                cartridge(Size::Full, 1),
            ),
        ] {
            let manifest = file.manifest();
            let sizes = account_sizes(manifest);
            let deposit: usize = sizes.iter().map(|bytes| (128 + bytes) * 6_960).sum();
            let by = |step: usize| -> usize {
                let parts = shard_sizes(manifest).map(|(_, bytes)| bytes.div_ceil(step));
                sizes.len() + parts.sum::<usize>() + checks(manifest)
            };
            let fee = |transactions: usize| sol(transactions * FEE_LAMPORTS as usize);
            let row = format!(
                "| {name} | {} B | {:.4} SOL | {:.4} SOL | {:.5} SOL |",
                grouped(file.bytes().len()),
                sol(deposit),
                fee(by(WRITE)),
                fee(by(COPY_BYTES)),
            );
            assert!(page.contains(&row), "docs/storage.md should say: {row}");
        }
    }

    /// A number with commas between thousands.
    fn grouped(number: usize) -> String {
        let digits = number.to_string();
        let groups = digits.as_bytes().rchunks(3).rev();
        let groups: Vec<_> = groups.map(String::from_utf8_lossy).collect();
        groups.join(",")
    }
}
