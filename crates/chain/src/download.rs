//! A world off a chain: the bytes of the cartridge that was uploaded.

use solana_address::Address;
use worldline_abi::{WorldAccount, world_status};
use worldline_cartridge::{Cartridge, OpenError, file};

use crate::program::Program;
use crate::read::{ReadError, owned, read};
use crate::rpc::Rpc;
use crate::world::{SHARD_HEADER, file_manifest, shard_sizes};

/// A world could not be downloaded.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// Something on the chain could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It is not finished, or being retired.
    #[error(
        "{0} is no finished world: its upload has to be finished first, or its retirement has begun"
    )]
    Unfinished(Address),
    /// The chain's bytes are no cartridge.
    #[error("what {address} holds is no cartridge: {source}")]
    Cartridge {
        /// The world.
        address: Address,
        /// What is wrong.
        source: OpenError,
    },
}

/// The cartridge of a world, checked against its Merkle root; [`Cartridge::bytes`] are the uploaded
/// file's. A fork's name its parent.
pub fn download(
    rpc: &Rpc,
    program: &Program,
    address: &Address,
) -> Result<Cartridge, DownloadError> {
    let world: WorldAccount = read(program, rpc, address)?;
    if world.status != world_status::READY {
        return Err(DownloadError::Unfinished(*address));
    }
    let mut shards = Vec::new();
    for (index, _) in shard_sizes(&world.manifest) {
        // One by one: a shard can be as large as an answer may be.
        let at = world.manifest.shards[index].into();
        let account = rpc.account(&at).map_err(ReadError::from)?;
        shards.push(owned(program, rpc, "shard", &at, account)?.data);
    }
    let weights: Vec<&[u8]> = shards
        .iter()
        .map(|data| data.get(SHARD_HEADER..).unwrap_or_default())
        .collect();
    let bytes = file(&file_manifest(&world.manifest), &weights);
    Cartridge::from_bytes(&bytes).map_err(|source| DownloadError::Cartridge {
        address: *address,
        source,
    })
}
