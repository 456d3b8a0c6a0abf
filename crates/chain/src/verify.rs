//! Is a match on L1 true? Its result, its replay and its world are fetched, and every frame is
//! executed again on this machine.

use sha2::{Digest, Sha256};
use solana_address::Address;
use worldline_abi::{ReplayAccount, ResultAccount, address, replay_status};
use worldline_arena::{Finding, Recording, ReplayError, Report, World};
use worldline_cartridge::Cartridge;

use crate::download::{DownloadError, download};
use crate::program::Program;
use crate::read::{ReadError, owned, read};
use crate::rpc::Rpc;

/// A match could not be checked: neither true nor false.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// Something on the chain could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Nobody wrote a replay, or not all of it.
    #[error(
        "the replay of {0} is not on the chain, or not finished: give the file with --replay, if you have it"
    )]
    NoReplay(Address),
    /// The replay is not one.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// The world is not to be had.
    #[error("the world of this match cannot be fetched ({0}): give its cartridge with --cartridge")]
    World(DownloadError),
}

/// The result that L1 keeps of a session.
pub fn result(rpc: &Rpc, program: &Program, session: &Address) -> Result<ResultAccount, ReadError> {
    let at = program.derive(&address::result(session.as_array()));
    read(program, rpc, &at)
}

/// The replay file that L1 keeps of a session.
pub fn replay(rpc: &Rpc, program: &Program, session: &Address) -> Result<Vec<u8>, VerifyError> {
    let kept = result(rpc, program, session)?;
    if kept.replay != replay_status::FINISHED {
        return Err(VerifyError::NoReplay(*session));
    }
    let at = program.derive(&address::replay(session.as_array()));
    let account = rpc.account(&at).map_err(ReadError::from)?;
    let data = owned(program, rpc, "replay", &at, account)?.data;
    Ok(data
        .get(size_of::<ReplayAccount>()..)
        .unwrap_or_default()
        .to_vec())
}

/// What to check a match against.
#[derive(Debug, Default)]
pub struct Sources {
    /// The cartridge; fetched from the match's world when left out.
    pub cartridge: Option<Cartridge>,
    /// The replay's file; fetched from L1 when left out.
    pub replay: Option<Vec<u8>>,
}

/// Checks a match: that the replay is of the result that L1 keeps, that every frame follows, that the
/// players signed their inputs, that the result is theirs. The world's cartridge is believed for its
/// Merkle root alone, which the session named when it was opened.
pub fn verify(
    rpc: &Rpc,
    program: &Program,
    session: &Address,
    sources: Sources,
) -> Result<Report, VerifyError> {
    let kept = result(rpc, program, session)?;
    let file = match sources.replay {
        Some(file) => file,
        None => replay(rpc, program, session)?,
    };
    let recording = Recording::decode(&file)?;
    let cartridge = match sources.cartridge {
        Some(cartridge) => cartridge,
        None => download(rpc, program, &kept.world.into()).map_err(VerifyError::World)?,
    };
    let name = cartridge.manifest().name().to_owned();
    let world = World::new(name, cartridge, serde_json::Value::Null);
    let report = worldline_arena::verify(&recording, &world);
    Ok(check(&kept, &recording, report))
}

/// Compares what L1 keeps of a match with a recording whose execution gave `report`.
pub fn check(kept: &ResultAccount, recording: &Recording, mut report: Report) -> Report {
    let identities = Sha256::digest(bytemuck::bytes_of(&recording.session));
    let same = kept.result == recording.result && kept.session_hash[..] == identities[..];
    if report.valid && !same {
        report.valid = false;
        report.finding = Some(Finding::Result);
        report.detail = "every frame of the replay is true, but it is not the match whose result the chain keeps".into();
    }
    report
}
