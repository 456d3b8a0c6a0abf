//! Two chains on one engine: *L1 in a box*, and the *rollup* on which matches are played.
//!
//! ```text
//!              Solana JSON-RPC and pubsub                     Solana JSON-RPC and pubsub
//!                          │                                              │
//!  400 ms blocks   ┌───────┴───────┐   delegate, fetch, watch   ┌─────────┴─────────┐  15 ms blocks
//!  fees, rent      │  L1 in a box  │ ─────────────────────────► │      rollup       │  no fees
//!  a faucet        │               │ ◄───────────────────────── │  tasks at 60 Hz   │  2 G compute units
//!                  └───────┬───────┘     commit, undelegate     └─────────┬─────────┘
//!                       ledger                                         ledger
//! ```
//!
//! The engine is [LiteSVM], Solana's own virtual machine in a library. Each chain has one thread that
//! owns its state; requests come in as jobs, and what happens goes out as events. Every frame of a
//! match is a transaction that this virtual machine executes: **this crate must never know** what a
//! cartridge, a match or a frame is. It knows accounts, and programs that change them.
//!
//! * The **box** is a Solana chain with Solana's limits: 1.4 million compute units, 1,232 bytes a
//!   transaction, rent, fees. What it calls confirmed is on its disk. Lamports are neither made nor
//!   lost: fees go back to the faucet.
//! * The **rollup** speaks MagicBlock's wire. It fetches what it reads from any L1, changes only what
//!   the real delegation program has lent to it, runs scheduled tasks, commits, and gives back. It
//!   does not need L1 to play on, and says so when it cannot reach it (`getRollupState`).
//!
//! ```no_run
//! # async fn start() -> Result<(), Box<dyn std::error::Error>> {
//! use worldline_cabinet::{L1, L1Config, Rollup, RollupConfig};
//!
//! let mut config = L1Config::new("data/l1");
//! config.delegation_program = Some("node_modules/@magicblock-labs/…/DELeGG….so".into());
//! let l1 = L1::start(config).await?;
//!
//! let mut config = RollupConfig::new("data/rollup", l1.rpc_url());
//! config.admin = Some(l1.authority());
//! let rollup = Rollup::start(config).await?;
//! println!("L1 at {}, rollup at {}", l1.rpc_url(), rollup.rpc_url());
//! # Ok(())
//! # }
//! ```
//!
//! Not here: durable nonces, the precompiled signature programs, stake, votes and leaders, and the
//! parts of MagicBlock's program that no game has asked for.
//!
//! [LiteSVM]: https://github.com/LiteSVM/litesvm

mod bank;
pub mod bench;
mod blockhash;
mod crank;
mod delegation;
mod engine;
pub mod fault;
mod handle;
mod history;
mod keys;
mod l1;
mod ledger;
mod lender;
mod lent;
pub mod limits;
mod magic;
mod remote;
mod rollup;
mod rpc;
mod svm;

pub use delegation::{
    DELEGATION_PROGRAM, DelegationMetadata, DelegationRecord, metadata_address, protocol_vault,
    record_address, validator_vault,
};
pub use engine::Stopped;
pub use keys::KeyFile;
pub use l1::{L1, L1Config, StartL1};
pub use ledger::OpenLedger;
pub use magic::{MAGIC_CONTEXT, MAGIC_PROGRAM, ScheduleTask};
pub use rollup::{Rollup, RollupConfig, StartRollup};
pub use rpc::Listen;
