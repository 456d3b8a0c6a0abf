//! A cartridge's way onto the chain.

use crate::{Chain, derive, instruction, key};
use solana_address::Address;
use solana_instruction::{AccountMeta, Instruction as Call};
use solana_keypair::Keypair;
use solana_signer::Signer;
use worldline_abi::instruction::{
    CheckWorld, CreateShard, CreateWorld, RetireWorld, WRITE_BYTES, WriteShard,
};
use worldline_abi::{WeightShard, WorldAccount, address};
use worldline_cartridge::Cartridge;

/// Leaves that an L1 transaction hashes: 33,000 units each.
const LEAVES: u32 = 40;

/// A world on its way, or there.
pub struct Upload {
    /// Its owner.
    pub owner: Keypair,
    /// Its number.
    pub id: u64,
    /// Its address.
    pub world: address::Address,
    /// Its shards' addresses.
    pub shards: Vec<address::Address>,
    /// What is uploaded.
    pub cartridge: Cartridge,
}

impl Upload {
    /// Nothing but an owner yet.
    pub fn new(chain: &mut Chain, cartridge: Cartridge) -> Self {
        Self::by(chain.person(), 7, cartridge)
    }

    /// The same for this owner and number.
    pub fn by(owner: Keypair, id: u64, cartridge: Cartridge) -> Self {
        let at = owner.pubkey().to_bytes();
        let world = derive(&address::world(&at, &id.to_le_bytes()));
        let count = cartridge.manifest().shard_count;
        let shards = (0..count)
            .map(|index| shard_at(&owner, id, index))
            .collect();
        Self {
            owner,
            id,
            world,
            shards,
            cartridge,
        }
    }

    /// The owner's address.
    pub fn owner(&self) -> address::Address {
        self.owner.pubkey().to_bytes()
    }

    /// `CreateWorld`.
    pub fn create(&self, fee: u64) -> Call {
        let manifest = *self.cartridge.manifest();
        let body = CreateWorld {
            id: self.id,
            fee,
            manifest,
        };
        instruction(&body, &[], &[self.owner(), self.world, [0; 32]], &[])
    }

    /// Makes a shard's account with the system program, and `CreateShard`.
    pub fn create_shard(&self, chain: &Chain, index: u8) -> [Call; 2] {
        let bytes = self.cartridge.manifest().shard_bytes[usize::from(index)] as usize;
        let space = size_of::<WeightShard>() + bytes;
        let rent = chain.svm.minimum_balance_for_rent_exemption(space);
        let (owner, shard) = (self.owner(), self.shards[usize::from(index)]);
        let made = create_with_seed(
            owner,
            shard,
            &address::shard_seed(self.id, index),
            rent,
            space,
        );
        let taken = instruction(
            &CreateShard { index },
            &[],
            &[owner, self.world, shard],
            &[],
        );
        [made, taken]
    }

    /// `WriteShard`.
    pub fn write(&self, index: usize, offset: usize, bytes: &[u8]) -> Call {
        let body = WriteShard {
            offset: offset as u32,
        };
        instruction(
            &body,
            bytes,
            &[self.owner(), self.world, self.shards[index]],
            &[],
        )
    }

    /// `CheckWorld`.
    pub fn check(&self, index: usize, leaves: u32) -> Call {
        let accounts = [self.owner(), self.world, self.shards[index]];
        instruction(&CheckWorld { leaves }, &[], &accounts, &[])
    }

    /// `RetireWorld` with these shards.
    pub fn retire(&self, shards: &[address::Address]) -> Call {
        instruction(&RetireWorld {}, &[], &[self.owner(), self.world], &[shards])
    }

    /// Creates, writes and checks everything.
    pub fn finish(self, chain: &mut Chain) -> Self {
        let owner = self.owner.insecure_clone();
        chain.send(&[&owner], &[self.create(0)]).expect("create");
        for index in 0..self.shards.len() {
            let made = self.create_shard(chain, index as u8);
            chain.send(&[&owner], &made).expect("create a shard");
            self.fill(chain, index);
        }
        self.check_all(chain);
        self
    }

    /// Writes a whole shard.
    pub fn fill(&self, chain: &mut Chain, index: usize) {
        let owner = self.owner.insecure_clone();
        let weights = self.cartridge.shards()[index];
        for (chunk, bytes) in weights.chunks(WRITE_BYTES).enumerate() {
            let write = self.write(index, chunk * WRITE_BYTES, bytes);
            chain.send(&[&owner], &[write]).expect("write");
        }
    }

    /// Hashes every leaf.
    pub fn check_all(&self, chain: &mut Chain) {
        let owner = self.owner.insecure_clone();
        for (index, weights) in self.cartridge.shards().iter().enumerate() {
            let leaves = weights.len().div_ceil(worldline_abi::MERKLE_LEAF_BYTES) as u32;
            for _ in 0..leaves.div_ceil(LEAVES) {
                chain
                    .send(&[&owner], &[self.check(index, LEAVES)])
                    .expect("check");
            }
        }
    }

    /// The world's account.
    pub fn account(&self, chain: &Chain) -> WorldAccount {
        chain.read(self.world)
    }
}

/// Where a shard of this owner and world lies.
fn shard_at(owner: &Keypair, id: u64, index: u8) -> address::Address {
    let seed = address::shard_seed(id, index);
    let seed = core::str::from_utf8(&seed).expect("hexadecimal digits");
    let made = Address::create_with_seed(&owner.pubkey(), seed, &key(address::PROGRAM_ID));
    made.expect("a short seed").to_bytes()
}

/// The system program's `CreateAccountWithSeed`, for the program.
fn create_with_seed(
    owner: address::Address,
    account: address::Address,
    seed: &[u8],
    lamports: u64,
    space: usize,
) -> Call {
    let mut data = 3u32.to_le_bytes().to_vec();
    data.extend(owner);
    data.extend((seed.len() as u64).to_le_bytes());
    data.extend(seed);
    data.extend(lamports.to_le_bytes());
    data.extend((space as u64).to_le_bytes());
    data.extend(address::PROGRAM_ID);
    let accounts = vec![
        AccountMeta::new(key(owner), true),
        AccountMeta::new(key(account), false),
    ];
    Call {
        program_id: key([0; 32]),
        accounts,
        data,
    }
}
