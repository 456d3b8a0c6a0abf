//! A world's way onto a chain: announced, filled with weights or with a parent's copy, checked.
//!
//! Every step first asks the chain what is there, so that an upload that was cut off goes on where it
//! was: run the same again.

use sha2::{Digest, Sha256};
use solana_address::Address;
use solana_keypair::Keypair;
use solana_signer::Signer;
use worldline_abi::{Fault, ModelManifest, WorldAccount, world_status};
use worldline_cartridge::{Cartridge, Merkle};

use crate::limits::{COPY_BYTES, FEE_LAMPORTS, STALLED_ROUNDS};
use crate::program::Program;
use crate::read::{ReadError, find, owned, read};
use crate::rpc::{Rpc, RpcError};
use crate::send::SendError;
use crate::world::{
    SHARD_HEADER, WRITE, WorldAt, account_sizes, checks, file_manifest, missing, shard_of_leaf,
    shard_sizes,
};

/// A world did not get onto the chain.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// Something on the chain could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A transaction did not go through.
    #[error(transparent)]
    Send(#[from] SendError),
    /// Another world stands there.
    #[error("{0} is another world of the same owner and number: choose another number with --id")]
    Taken(Address),
    /// The owner is retiring it.
    #[error("{0} is being retired: finish that with `worldline retire`, then upload again")]
    Retired(Address),
    /// The parent is not finished.
    #[error("{0} cannot be forked: its own upload is not finished")]
    UnfinishedParent(Address),
    /// Weights do not arrive.
    #[error(
        "{missing} writes do not arrive at {world} although they are sent: the chain is overloaded; what is there stays, so run the same again later"
    )]
    Stalled {
        /// The world.
        world: Address,
        /// Writes that are missing.
        missing: usize,
    },
}

impl From<RpcError> for UploadError {
    fn from(error: RpcError) -> Self {
        Self::Read(error.into())
    }
}

/// What a world will take, as of now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cost {
    /// Deposits, returned when the world is retired, lamports.
    pub rent: u64,
    /// Fees, which are gone, lamports.
    pub fees: u64,
    /// Transactions.
    pub transactions: usize,
}

/// What is going on, for a progress bar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// So many writes or copies are needed.
    Writes {
        /// Transactions that are to be sent.
        count: usize,
    },
    /// One of them landed.
    Written,
    /// A part of the weights was hashed by the chain.
    Checked {
        /// Leaves that are hashed.
        leaves: u32,
    },
}

/// Is told of progress, from several threads.
pub type Watch<'a> = &'a (dyn Fn(Progress) + Sync);

/// What an owner decides about a world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// The owner's own number for it; [`default_id`] unless there is a reason.
    pub id: u64,
    /// Lamports that each session pays to the owner.
    pub fee: u64,
}

/// Where the weights come from.
enum Source<'a> {
    File(&'a Cartridge),
    Parent(&'a ModelManifest),
}

impl Source<'_> {
    /// Bytes that one transaction brings.
    fn part(&self) -> usize {
        match self {
            Self::File(_) => WRITE,
            Self::Parent(_) => COPY_BYTES,
        }
    }
}

/// The number that an owner's upload of a cartridge gets unless another is chosen: the same for the
/// same file, so that a second try finds the first.
pub fn default_id(manifest: &ModelManifest) -> u64 {
    let hash = Sha256::digest(bytemuck::bytes_of(&file_manifest(manifest)));
    u64::from_le_bytes(hash[..8].try_into().expect("eight bytes"))
}

/// What an upload of a cartridge will take; less where some of it is there already.
pub fn quote(rpc: &Rpc, at: &WorldAt, cartridge: &Cartridge) -> Result<Cost, UploadError> {
    quote_from(rpc, at, &Source::File(cartridge), cartridge.manifest())
}

/// What a fork of `parent` will take.
pub fn quote_fork(rpc: &Rpc, at: &WorldAt, parent: &Address) -> Result<Cost, UploadError> {
    let account: WorldAccount = read(&at.program, rpc, parent)?;
    let manifest = account.manifest;
    quote_from(rpc, at, &Source::Parent(&manifest), &manifest)
}

fn quote_from(
    rpc: &Rpc,
    at: &WorldAt,
    source: &Source<'_>,
    manifest: &ModelManifest,
) -> Result<Cost, UploadError> {
    let found = find::<WorldAccount>(&at.program, rpc, &at.address)?;
    if found.is_some_and(|world| world.status == world_status::READY) {
        return Ok(Cost::default());
    }
    let mut addresses = vec![at.address];
    addresses.extend(at.shards(manifest));
    let mut cost = Cost {
        transactions: checks(manifest),
        ..Cost::default()
    };
    for (account, bytes) in rpc
        .accounts(&addresses)?
        .iter()
        .zip(account_sizes(manifest))
    {
        if account.is_none() {
            cost.rent += rpc.rent(bytes)?;
            cost.transactions += 1;
        }
    }
    cost.transactions += writes(rpc, at, source, manifest)?.len();
    cost.fees = cost.transactions as u64 * FEE_LAMPORTS;
    Ok(cost)
}

/// Uploads a cartridge as a world of the owner's.
pub fn upload(
    rpc: &Rpc,
    program: Program,
    owner: &Keypair,
    terms: Terms,
    cartridge: &Cartridge,
    watch: Watch<'_>,
) -> Result<WorldAt, UploadError> {
    let at = WorldAt::new(program, owner.pubkey(), terms.id);
    let manifest = *cartridge.manifest();
    match find::<WorldAccount>(&program, rpc, &at.address)? {
        None => {
            rpc.transact(&program.id, &[at.create(&manifest, terms.fee)], &[owner])?;
        }
        Some(found) if file_manifest(&found.manifest) != file_manifest(&manifest) => {
            return Err(UploadError::Taken(at.address));
        }
        Some(_) => {}
    }
    bring(rpc, &at, owner, &Source::File(cartridge), watch)?;
    Ok(at)
}

/// Forks `parent` as a world of the owner's; zeros keep its name.
pub fn fork(
    rpc: &Rpc,
    program: Program,
    owner: &Keypair,
    terms: Terms,
    parent: &Address,
    name: [u8; 32],
    watch: Watch<'_>,
) -> Result<WorldAt, UploadError> {
    let at = WorldAt::new(program, owner.pubkey(), terms.id);
    let of: WorldAccount = read(&program, rpc, parent)?;
    if of.status != world_status::READY {
        return Err(UploadError::UnfinishedParent(*parent));
    }
    match find::<WorldAccount>(&program, rpc, &at.address)? {
        None => {
            rpc.transact(&program.id, &[at.fork(parent, name, terms.fee)], &[owner])?;
        }
        Some(found) if found.manifest.parent != parent.to_bytes() => {
            return Err(UploadError::Taken(at.address));
        }
        Some(_) => {}
    }
    bring(rpc, &at, owner, &Source::Parent(&of.manifest), watch)?;
    Ok(at)
}

/// From whatever is there to a world that can be played.
fn bring(
    rpc: &Rpc,
    at: &WorldAt,
    owner: &Keypair,
    source: &Source<'_>,
    watch: Watch<'_>,
) -> Result<(), UploadError> {
    let world = || read::<WorldAccount>(&at.program, rpc, &at.address);
    let mut reopened = false;
    loop {
        let account = world()?;
        match account.status {
            world_status::READY => return Ok(()),
            world_status::DRAFT => {
                make_shards(rpc, at, owner, &account.manifest)?;
                fill(rpc, at, owner, source, &account.manifest, watch)?;
            }
            world_status::CHECKING => {}
            _ => return Err(UploadError::Retired(at.address)),
        }
        match check(rpc, at, owner, watch) {
            // An earlier try closed the draft with something wrong in it.
            Err(UploadError::Send(error))
                if error.fault() == Some(Fault::WrongRoot) && !reopened =>
            {
                reopened = true;
                rpc.transact(&at.program.id, &[at.reopen()], &[owner])?;
            }
            other => return other,
        }
    }
}

fn make_shards(
    rpc: &Rpc,
    at: &WorldAt,
    owner: &Keypair,
    manifest: &ModelManifest,
) -> Result<(), UploadError> {
    for (index, bytes) in shard_sizes(manifest) {
        if manifest.shards[index] == [0; 32] {
            let rent = rpc.rent(SHARD_HEADER + bytes)?;
            rpc.transact(
                &at.program.id,
                &at.create_shard(index, bytes, rent),
                &[owner],
            )?;
        }
    }
    Ok(())
}

/// A write that is missing: shard, offset, length.
type Write = (usize, usize, usize);

/// The writes that the chain lacks, by comparing bytes.
fn writes(
    rpc: &Rpc,
    at: &WorldAt,
    source: &Source<'_>,
    manifest: &ModelManifest,
) -> Result<Vec<Write>, UploadError> {
    let mut lacking = Vec::new();
    for (index, bytes) in shard_sizes(manifest) {
        let account = rpc.account(&at.shard(index))?;
        let found = account.map_or_else(|| vec![0; SHARD_HEADER + bytes], |account| account.data);
        let found = found.get(SHARD_HEADER..).unwrap_or_default();
        let copied;
        let expected = match source {
            Source::File(cartridge) => cartridge.shards()[index],
            Source::Parent(parent) => {
                let address = parent.shards[index].into();
                let account = rpc.account(&address)?;
                copied = owned(&at.program, rpc, "shard", &address, account)?.data;
                copied.get(SHARD_HEADER..).unwrap_or_default()
            }
        };
        let parts = missing(expected, found, source.part());
        lacking.extend(
            parts
                .into_iter()
                .map(|(offset, length)| (index, offset, length)),
        );
    }
    Ok(lacking)
}

/// Writes until nothing is missing.
fn fill(
    rpc: &Rpc,
    at: &WorldAt,
    owner: &Keypair,
    source: &Source<'_>,
    manifest: &ModelManifest,
    watch: Watch<'_>,
) -> Result<(), UploadError> {
    let mut left = usize::MAX;
    let mut stalled = 0;
    loop {
        let lacking = writes(rpc, at, source, manifest)?;
        if lacking.is_empty() {
            return Ok(());
        }
        stalled = if lacking.len() < left { 0 } else { stalled + 1 };
        if stalled == STALLED_ROUNDS {
            let missing = lacking.len();
            return Err(UploadError::Stalled {
                world: at.address,
                missing,
            });
        }
        left = lacking.len();
        watch(Progress::Writes { count: left });
        let make = |number: usize| {
            let (index, offset, length) = lacking[number];
            match source {
                Source::File(cartridge) => {
                    let weights = &cartridge.shards()[index][offset..offset + length];
                    vec![at.write(index, offset, weights)]
                }
                Source::Parent(parent) => at
                    .copy(index, offset, length, &parent.shards[index].into())
                    .to_vec(),
            }
        };
        rpc.transact_all(&at.program.id, left, owner, make, || {
            watch(Progress::Written)
        })?;
    }
}

/// Has the chain hash every leaf.
fn check(rpc: &Rpc, at: &WorldAt, owner: &Keypair, watch: Watch<'_>) -> Result<(), UploadError> {
    loop {
        let account: WorldAccount = read(&at.program, rpc, &at.address)?;
        let tree: &Merkle = bytemuck::cast_ref(&account.merkle);
        let leaves = match account.status {
            world_status::READY => return Ok(()),
            world_status::CHECKING => tree.leaves(),
            _ => 0,
        };
        watch(Progress::Checked { leaves });
        let last = usize::from(account.manifest.shard_count).saturating_sub(1);
        let index = shard_of_leaf(&account.manifest, leaves).unwrap_or(last);
        rpc.transact(&at.program.id, &at.check(index), &[owner])?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_number_is_the_files_and_not_the_chains() {
        let manifest = ModelManifest::default();
        let on_chain = ModelManifest {
            owner: [1; 32],
            ..manifest
        };
        let renamed = ModelManifest {
            name: [1; 32],
            ..manifest
        };
        assert_eq!(default_id(&manifest), default_id(&on_chain));
        assert_ne!(default_id(&manifest), default_id(&renamed));
    }
}
