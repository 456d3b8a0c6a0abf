//! The Solana program of learned worlds: uploads, sessions, frames, results.
//!
//! One ELF serves L1 and rollup. Every instruction is `worldline_abi`'s, every frame is
//! `worldline_cartridge`'s one step; what multiplies is chosen by the session ([`kernels`]). The
//! program keeps accounts in order and knows nothing of any game.
//!
//! Every handler follows one shape: which accounts sign and are written to is checked against the
//! interface's own table before it runs, then it checks owners, addresses and stages, then it writes.
#![cfg_attr(any(target_arch = "bpf", target_os = "solana"), no_std)]

mod accounts;
mod cpi;
mod delegation;
mod frame;
mod kernels;
#[cfg(feature = "measure")]
mod measure;
#[cfg(target_arch = "bpf")]
mod memory;
mod record;
mod replay;
mod seats;
mod session;
mod syscall;
mod world;

use accounts::{Call, Done, Refusal, dispatch};
use pinocchio::{AccountView, Address, ProgramResult};
use worldline_abi::instruction::{self as is, UNDELEGATE_CALLBACK};

/// Accounts of an instruction, at most; more are not looked at. A frame of the largest world has five
/// of its own, two shards and sixty pages.
const MAX_ACCOUNTS: usize = 80;

pinocchio::program_entrypoint!(process, MAX_ACCOUNTS);
pinocchio::no_allocator!();
pinocchio::nostd_panic_handler!();

/// Runs one instruction.
fn process(program: &Address, accounts: &mut [AccountView], data: &[u8]) -> ProgramResult {
    run(program, accounts, data).map_err(Refusal::tell)
}

fn run(program: &Address, accounts: &mut [AccountView], data: &[u8]) -> Done {
    if let Some(seeds) = data.strip_prefix(&UNDELEGATE_CALLBACK) {
        return delegation::give_back(program, accounts, seeds);
    }
    let call = Call::new(program, accounts, data);
    #[cfg(feature = "measure")]
    if let Some(part) = data.strip_prefix(&[measure::TAG]) {
        return measure::run(call, part);
    }
    dispatch!(call, data.first().copied(), {
        CreateWorld => world::create,
        ForkWorld => world::fork,
        CreateShard => world::create_shard,
        WriteShard => world::write_shard,
        CopyShard => world::copy_shard,
        CheckWorld => world::check,
        ReopenWorld => world::reopen,
        RetireWorld => world::retire,
        CreateSession => session::create,
        CreatePages => session::create_pages,
        CreateFrame => session::create_frame,
        JoinSession => seats::join,
        PickCharacter => seats::pick,
        Ready => seats::ready,
        SubmitInput => seats::submit,
        SignInputs => seats::sign,
        RunInference => frame::run,
        BeginFrame => frame::begin,
        RunLayers => frame::layers,
        FinishFrame => frame::finish,
        EndSession => seats::end,
        Delegate => delegation::delegate,
        Commit => delegation::commit,
        RecordResult => record::result,
        UpdateScore => record::score,
        CreateReplay => replay::create,
        GrowReplay => replay::grow,
        WriteReplay => replay::write,
        FinishReplay => replay::finish,
        CloseReplay => replay::close,
        CloseSession => session::close,
    })
}
