//! The end of a world: its accounts closed, their deposits back with its owner.

use solana_address::Address;
use solana_keypair::Keypair;
use solana_signer::Signer;
use worldline_abi::{Fault, WorldAccount};

use crate::program::Program;
use crate::read::{ReadError, read};
use crate::rpc::{Rpc, RpcError};
use crate::send::SendError;
use crate::world::WorldAt;

/// A world was not retired.
#[derive(Debug, thiserror::Error)]
pub enum RetireError {
    /// Something on the chain could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The transaction did not go through.
    #[error(transparent)]
    Send(#[from] SendError),
    /// Another's world.
    #[error(
        "{world} belongs to {owner}: only its owner can retire it; give that keypair with --keypair"
    )]
    Owner {
        /// The world.
        world: Address,
        /// Whose it is.
        owner: Address,
    },
    /// It is being played.
    #[error(
        "{world} has {sessions} open sessions: they have to be closed first (`worldline session list --world {world}`)"
    )]
    Sessions {
        /// The world.
        world: Address,
        /// How many are open.
        sessions: u32,
    },
}

impl From<RpcError> for RetireError {
    fn from(error: RpcError) -> Self {
        Self::Read(error.into())
    }
}

/// The lamports that retiring a world gives back.
pub fn deposit(rpc: &Rpc, program: &Program, address: &Address) -> Result<u64, RetireError> {
    let world: WorldAccount = read(program, rpc, address)?;
    let mut addresses = vec![*address];
    addresses.extend(shards(&world));
    let accounts = rpc.accounts(&addresses)?;
    Ok(accounts
        .iter()
        .flatten()
        .map(|account| account.lamports)
        .sum())
}

/// Closes a world and its shards; their lamports, which are returned, go to its owner.
pub fn retire(
    rpc: &Rpc,
    program: &Program,
    owner: &Keypair,
    address: &Address,
) -> Result<u64, RetireError> {
    let world: WorldAccount = read(program, rpc, address)?;
    if world.manifest.owner != owner.pubkey().to_bytes() {
        return Err(RetireError::Owner {
            world: *address,
            owner: world.manifest.owner.into(),
        });
    }
    let back = deposit(rpc, program, address)?;
    let call = WorldAt::of(*program, &world).retire(&shards(&world));
    match rpc.transact(&program.id, &[call], &[owner]) {
        Err(error) if error.fault() == Some(Fault::SessionsLive) => Err(RetireError::Sessions {
            world: *address,
            sessions: world.live_sessions,
        }),
        Err(error) => Err(error.into()),
        Ok(_) => Ok(back),
    }
}

/// The shards that are made and not closed.
fn shards(world: &WorldAccount) -> Vec<Address> {
    let made = world
        .manifest
        .shards
        .iter()
        .filter(|shard| **shard != [0; 32]);
    made.map(|shard| Address::from(*shard)).collect()
}
