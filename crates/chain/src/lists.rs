//! What a chain holds: worlds, scores, matches.

use solana_address::Address;
use worldline_abi::{ResultAccount, ScoreAccount, WorldAccount};

use crate::program::Program;
use crate::read::{ReadError, parse};
use crate::rpc::{Filter, Rpc};

/// Where a score's account names its world.
const SCORE_WORLD: usize = std::mem::offset_of!(ScoreAccount, world);
/// Where a result's account names its players' wallets.
const RESULT_WALLETS: usize = std::mem::offset_of!(worldline_abi::MatchResult, wallets);

/// Every world, the most played first.
pub fn worlds(rpc: &Rpc, program: &Program) -> Result<Vec<(Address, WorldAccount)>, ReadError> {
    let mut worlds = all::<WorldAccount>(rpc, program, Vec::new())?;
    worlds.sort_by_key(|(_, world)| (std::cmp::Reverse(world.matches), world.created));
    Ok(worlds)
}

/// The scores in a world, the most wins first, then the fewest losses.
pub fn leaderboard(
    rpc: &Rpc,
    program: &Program,
    world: &Address,
) -> Result<Vec<ScoreAccount>, ReadError> {
    let here = vec![Filter::At(SCORE_WORLD, world.to_bytes().to_vec())];
    let scores = all::<ScoreAccount>(rpc, program, here)?;
    let mut scores: Vec<ScoreAccount> = scores.into_iter().map(|(_, score)| score).collect();
    scores.sort_by_key(|score| (std::cmp::Reverse(score.wins), score.losses));
    Ok(scores)
}

/// The matches whose results are kept, the newest first; of one wallet, or everybody's.
pub fn history(
    rpc: &Rpc,
    program: &Program,
    wallet: Option<&Address>,
) -> Result<Vec<(Address, ResultAccount)>, ReadError> {
    let seats = match wallet {
        None => vec![Vec::new()],
        Some(wallet) => [RESULT_WALLETS, RESULT_WALLETS + 32]
            .map(|at| vec![Filter::At(at, wallet.to_bytes().to_vec())])
            .into(),
    };
    let mut found = Vec::new();
    for seat in seats {
        found.extend(all::<ResultAccount>(rpc, program, seat)?);
    }
    found.sort_by_key(|(address, kept)| (std::cmp::Reverse(kept.recorded), *address));
    // Who played both seats is found twice.
    found.dedup_by_key(|(address, _)| *address);
    Ok(found)
}

fn all<T: worldline_abi::Layout>(
    rpc: &Rpc,
    program: &Program,
    more: Vec<Filter>,
) -> Result<Vec<(Address, T)>, ReadError> {
    let filters: Vec<Filter> = Filter::layout::<T>().into_iter().chain(more).collect();
    let accounts = rpc.program_accounts(&program.id, &filters)?;
    let read = |(address, account): (Address, crate::rpc::Account)| {
        Ok((address, parse(&address, &account.data)?))
    };
    accounts.into_iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_look_where_the_layouts_have_their_fields() {
        // `ResultAccount` begins with its `MatchResult`.
        assert_eq!(std::mem::offset_of!(ResultAccount, result), 0);
        assert_eq!((SCORE_WORLD, RESULT_WALLETS), (8, 56));
    }
}
