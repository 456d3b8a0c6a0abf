//! The end of a session: given back to L1, its result and replay kept, its deposits returned.
//!
//! Every step first looks whether it was done, so that a settlement that was cut off goes on where it
//! was: run the same again.

use std::time::Instant;

use solana_address::Address;
use solana_keypair::Keypair;
use solana_signer::Signer;
use worldline_abi::{
    Fault, ReplayAccount, ResultAccount, SessionAccount, SessionState, WorldAccount, replay_status,
    seat, status,
};
use worldline_arena::Recording;

use crate::limits::{ACCOUNTS_PER_COMMIT, GIVE_BACK_TIMEOUT, LOOK_EVERY, STALLED_ROUNDS};
use crate::program::Program;
use crate::read::{ReadError, find, read};
use crate::rpc::RpcError;
use crate::send::SendError;
use crate::session::{SessionAt, WRITE};
use crate::table::{Chains, Found};
use crate::world::missing;

/// A session was not settled.
#[derive(Debug, thiserror::Error)]
pub enum SettleError {
    /// Something on a chain could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A transaction did not go through.
    #[error(transparent)]
    Send(#[from] SendError),
    /// The match goes on.
    #[error(
        "{0} is still being played: a player can give up, or claim that the other is gone (`worldline session end`)"
    )]
    NotOver(Address),
    /// L1 does not have it back.
    #[error(
        "L1 has not got {0} back within {GIVE_BACK_TIMEOUT:?}: the rollup retries by itself when L1 can be reached; run the same again later"
    )]
    NotBack(Address),
    /// The replay does not arrive.
    #[error(
        "{missing} parts of the replay do not arrive at {replay} although they are sent: run the same again later"
    )]
    Stalled {
        /// The replay's account.
        replay: Address,
        /// Parts that are missing.
        missing: usize,
    },
    /// The recording is another match's.
    #[error("the recording is not of this match: give the replay that was written while it ran")]
    OtherMatch,
}

impl From<RpcError> for SettleError {
    fn from(error: RpcError) -> Self {
        Self::Read(error.into())
    }
}

/// Has the rollup commit a session and give it back, and waits until L1 has it.
pub fn give_back(chains: &Chains, found: &Found, signer: &Keypair) -> Result<(), SettleError> {
    let at = &found.at;
    let world: WorldAccount = read(&at.program, &chains.l1, &found.world())?;
    let in_parts = found.account.frame != [0; 32];
    let parts: Vec<Address> = at
        .parts(&world.manifest, in_parts)
        .iter()
        .map(|part| part.address)
        .collect();
    let is_back = || -> Result<bool, RpcError> {
        let accounts = chains.l1.accounts(&parts)?;
        Ok(accounts
            .iter()
            .flatten()
            .filter(|one| one.owner == at.program.id)
            .count()
            == parts.len())
    };
    if is_back()? {
        return Ok(());
    }
    let state: SessionState = read(&at.program, &chains.rollup, &at.state)?;
    let unplayed = state.status < status::ACTIVE && signer.pubkey() == at.payer;
    if state.status != status::ENDED && !unplayed {
        return Err(SettleError::NotOver(at.address));
    }
    // A rollup refuses what an earlier try has given back already; the program's refusals are final.
    let mut refused = None;
    for call in at.give_back(&signer.pubkey(), &world.manifest, in_parts) {
        match chains.rollup.transact(&at.program.id, &[call], &[signer]) {
            Err(error @ SendError::Refused(_)) if error.fault().is_none() => refused = Some(error),
            other => drop(other?),
        }
    }
    let end = Instant::now() + GIVE_BACK_TIMEOUT;
    while !is_back()? {
        if Instant::now() > end {
            return Err(refused.map_or(SettleError::NotBack(at.address), SettleError::Send));
        }
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(())
}

/// Keeps the result of an ended match that L1 has, and counts it for its players.
pub fn record(
    chains: &Chains,
    at: &SessionAt,
    payer: &Keypair,
) -> Result<ResultAccount, SettleError> {
    let l1 = &chains.l1;
    let result = || read::<ResultAccount>(&at.program, l1, &at.result);
    let kept = match find::<ResultAccount>(&at.program, l1, &at.result)? {
        Some(kept) => kept,
        None => {
            let book: SessionAccount = read(&at.program, l1, &at.address)?;
            let call = at.record(&payer.pubkey(), &book.session.world.into());
            match l1.transact(&at.program.id, &[call], &[payer]) {
                Err(error) if error.fault() == Some(Fault::SessionStatus) => {
                    return Err(SettleError::NotOver(at.address));
                }
                other => other?,
            };
            result()?
        }
    };
    for (number, (kind, scored)) in kept.result.seats.iter().zip(kept.scored).enumerate() {
        if *kind == seat::HUMAN && scored == 0 {
            let wallet = kept.result.wallets[number].into();
            let call = at.score(&payer.pubkey(), number as u8, &kept.world.into(), &wallet);
            l1.transact(&at.program.id, &[call], &[payer])?;
        }
    }
    Ok(kept)
}

/// Brings a match's replay onto L1. `writer` is the session's operator, or its payer where it has
/// none.
pub fn keep_replay(
    chains: &Chains,
    at: &SessionAt,
    writer: &Keypair,
    recording: &Recording,
) -> Result<(), SettleError> {
    let (l1, program) = (&chains.l1, &at.program);
    let me = writer.pubkey();
    let mut kept: ResultAccount = read(program, l1, &at.result)?;
    if kept.result != recording.result {
        return Err(SettleError::OtherMatch);
    }
    let file = recording.encode();
    if kept.replay == replay_status::OPEN {
        let head = replay_head(program, l1, &at.replay)?;
        if head.bytes as usize != file.len() {
            l1.transact(&program.id, &[at.close_replay(&me)], &[writer])?;
            kept.replay = replay_status::NONE;
        }
    }
    if kept.replay == replay_status::FINISHED {
        return Ok(());
    }
    if kept.replay == replay_status::NONE {
        l1.transact(&program.id, &[at.create_replay(&me, file.len())], &[writer])?;
    }
    let mut grown = replay_bytes(chains, at)?.len();
    while grown < file.len() {
        l1.transact(&program.id, &[at.grow_replay(&me)], &[writer])?;
        grown = replay_bytes(chains, at)?.len();
    }
    let mut left = usize::MAX;
    let mut stalled = 0;
    loop {
        let parts = missing(&file, &replay_bytes(chains, at)?, WRITE);
        if parts.is_empty() {
            break;
        }
        stalled = if parts.len() < left { 0 } else { stalled + 1 };
        if stalled == STALLED_ROUNDS {
            return Err(SettleError::Stalled {
                replay: at.replay,
                missing: parts.len(),
            });
        }
        left = parts.len();
        let make = |number: usize| {
            let (offset, length) = parts[number];
            vec![at.write_replay(&me, offset, &file[offset..offset + length])]
        };
        l1.transact_all(&program.id, left, writer, make, || ())?;
    }
    l1.transact(&program.id, &[at.finish_replay(&me)], &[writer])?;
    Ok(())
}

/// The file in a replay's account, as far as it is there.
fn replay_bytes(chains: &Chains, at: &SessionAt) -> Result<Vec<u8>, SettleError> {
    let account = chains.l1.account(&at.replay)?;
    let account = crate::read::owned(&at.program, &chains.l1, "replay", &at.replay, account)?;
    Ok(account
        .data
        .get(size_of::<ReplayAccount>()..)
        .unwrap_or_default()
        .to_vec())
}

fn replay_head(
    program: &Program,
    l1: &crate::rpc::Rpc,
    replay: &Address,
) -> Result<ReplayAccount, SettleError> {
    let account = crate::read::owned(program, l1, "replay", replay, l1.account(replay)?)?;
    let head = account
        .data
        .get(..size_of::<ReplayAccount>())
        .unwrap_or_default();
    Ok(crate::read::parse(replay, head)?)
}

/// Closes a session; the deposits, which are returned, go to its payer.
pub fn close(chains: &Chains, at: &SessionAt, closer: &Keypair) -> Result<u64, SettleError> {
    let (l1, program) = (&chains.l1, &at.program);
    let Some(book) = find::<SessionAccount>(program, l1, &at.address)? else {
        return Ok(0);
    };
    let pages: Vec<Address> = (0..book.pages)
        .rev()
        .map(|index| at.page(index as u8))
        .collect();
    let mut addresses = vec![at.address, at.state, at.inputs, at.frame];
    addresses.extend(&pages);
    let accounts = l1.accounts(&addresses)?;
    let back = accounts
        .iter()
        .flatten()
        .map(|account| account.lamports)
        .sum();
    let world = book.session.world.into();
    let mut parts: Vec<&[Address]> = pages.chunks(ACCOUNTS_PER_COMMIT).collect();
    if parts.is_empty() {
        parts.push(&[]);
    }
    for part in parts {
        let call = at.close(&closer.pubkey(), &world, part);
        match l1.transact(&program.id, &[call], &[closer]) {
            Err(error) if error.fault() == Some(Fault::NotOver) => {
                return Err(SettleError::NotOver(at.address));
            }
            other => other?,
        };
    }
    Ok(back)
}

/// What a settlement left.
#[derive(Debug, Clone, Copy)]
pub struct Settled {
    /// The result that L1 keeps.
    pub result: ResultAccount,
    /// Deposits that came back to the payer, lamports.
    pub back: u64,
}

/// Everything: gives the session back, keeps result and replay, closes it. `payer` is the session's,
/// or its operator.
pub fn settle(
    chains: &Chains,
    found: &Found,
    payer: &Keypair,
    recording: Option<&Recording>,
) -> Result<Settled, SettleError> {
    if found.lent {
        give_back(chains, found, payer)?;
    }
    let result = record(chains, &found.at, payer)?;
    if let Some(recording) = recording {
        keep_replay(chains, &found.at, payer, recording)?;
    }
    let back = close(chains, &found.at, payer)?;
    Ok(Settled { result, back })
}
