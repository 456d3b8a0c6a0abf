//! Accounts read as what they are.

use solana_address::Address;
use worldline_abi::{Layout, LayoutError};

use crate::program::Program;
use crate::rpc::{Account, Rpc, RpcError};

/// An account could not be read as what it should be.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The chain gave no answer that helps.
    #[error(transparent)]
    Rpc(#[from] RpcError),
    /// There is none.
    #[error(
        "there is no {what} at {address} on {url}: check the address and the chain; closed accounts are gone"
    )]
    Missing {
        /// What was looked for.
        what: &'static str,
        /// Where.
        address: Address,
        /// On which chain.
        url: String,
    },
    /// Another program's.
    #[error(
        "{address} belongs to {owner}, not to the program {program}: it is lent to a rollup, or no {what}; name another program with --program"
    )]
    Owner {
        /// What was looked for.
        what: &'static str,
        /// Where.
        address: Address,
        /// Whose it is.
        owner: Address,
        /// Whose it should be.
        program: Address,
    },
    /// Something else.
    #[error("{address}: {source}")]
    Layout {
        /// Where.
        address: Address,
        /// What is wrong.
        source: LayoutError,
    },
}

/// The bytes of an account of the program.
pub(crate) fn owned(
    program: &Program,
    rpc: &Rpc,
    what: &'static str,
    address: &Address,
    account: Option<Account>,
) -> Result<Account, ReadError> {
    let missing = || ReadError::Missing {
        what,
        address: *address,
        url: rpc.url().into(),
    };
    let account = account.ok_or_else(missing)?;
    if account.owner == program.id {
        return Ok(account);
    }
    Err(ReadError::Owner {
        what,
        address: *address,
        owner: account.owner,
        program: program.id,
    })
}

/// The account at `address` as a `T`.
pub fn read<T: Layout>(program: &Program, rpc: &Rpc, address: &Address) -> Result<T, ReadError> {
    let account = owned(program, rpc, T::NAME, address, rpc.account(address)?)?;
    parse(address, &account.data)
}

/// The account at `address` as a `T`; `None` when there is none.
pub fn find<T: Layout>(
    program: &Program,
    rpc: &Rpc,
    address: &Address,
) -> Result<Option<T>, ReadError> {
    match read(program, rpc, address) {
        Ok(found) => Ok(Some(found)),
        Err(ReadError::Missing { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// An account's bytes as a `T`.
pub fn parse<T: Layout>(address: &Address, data: &[u8]) -> Result<T, ReadError> {
    worldline_abi::copy(data).map_err(|source| ReadError::Layout {
        address: *address,
        source,
    })
}
