//! `worldline chain`, `upload`, `download`, `fork`, `retire`, `session`, `leaderboard`, and the parts
//! of `verify` and `replay` that ask a chain.

pub(crate) mod sessions;
#[cfg(feature = "cabinet")]
pub(crate) mod up;
pub(crate) mod verify;
pub(crate) mod worlds;

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use serde_json::json;
use worldline_chain::limits::LAMPORTS_PER_SOL;
use worldline_chain::table::Chains;
use worldline_chain::{Address, Commitment, Keypair, Program, Rpc, Signer, wallet};

use crate::table;

/// Where our own L1 in a box answers, unless told otherwise: Solana's port.
pub(crate) const L1_PORT: u16 = 8899;
/// Where our own rollup answers, unless told otherwise: MagicBlock's port.
pub(crate) const ROLLUP_PORT: u16 = 7799;

/// Which chain, which program.
#[derive(Args, Clone)]
pub(crate) struct L1Options {
    /// L1: our own box, a test validator, devnet, …
    #[arg(long, value_name = "URL", default_value_t = local(L1_PORT))]
    pub(crate) l1: String,
    /// The program's address, where it is not the one that our own chains load
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) program: Option<Address>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

fn local(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

impl L1Options {
    pub(crate) fn rpc(&self) -> Rpc {
        Rpc::new(&self.l1, Commitment::Confirmed)
    }

    pub(crate) fn program(&self) -> Program {
        self.program
            .map_or_else(Program::default, |id| Program { id })
    }
}

/// Both chains.
#[derive(Args, Clone)]
pub(crate) struct ChainsOptions {
    #[command(flatten)]
    pub(crate) l1: L1Options,
    /// The rollup that sessions are lent to
    #[arg(long, value_name = "URL", default_value_t = local(ROLLUP_PORT))]
    pub(crate) rollup: String,
}

impl ChainsOptions {
    pub(crate) fn chains(&self) -> Chains {
        Chains {
            l1: self.l1.rpc(),
            rollup: Rpc::new(&self.rollup, Commitment::Processed),
        }
    }
}

/// Who signs and pays.
#[derive(Args, Clone)]
pub(crate) struct WalletOptions {
    /// Keypair file, as Solana's own command writes it
    #[arg(long, value_name = "FILE", default_value_os_t = default_keypair())]
    keypair: PathBuf,
}

/// Where Solana's own command keeps its keypair.
fn default_keypair() -> PathBuf {
    let home = std::env::var_os("HOME").map_or_else(PathBuf::new, PathBuf::from);
    home.join(".config/solana/id.json")
}

impl WalletOptions {
    pub(crate) fn read(&self) -> Result<Keypair> {
        Ok(wallet::read(&self.keypair)?)
    }
}

/// Before something is paid.
#[derive(Args, Clone, Copy)]
pub(crate) struct Consent {
    /// Pay what it costs without asking
    #[arg(long, short)]
    yes: bool,
}

impl Consent {
    /// Shows what is about to be paid and asks, unless the answer was given before.
    pub(crate) fn ask(self, what: &str) -> Result<()> {
        eprintln!("{what}");
        if self.yes {
            return Ok(());
        }
        if !std::io::stdin().is_terminal() {
            bail!("nobody is there to agree: say --yes");
        }
        eprint!("Continue? [y/N] ");
        std::io::stderr().flush()?;
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer)?;
        match answer.trim() {
            "y" | "Y" | "yes" => Ok(()),
            _ => bail!("nothing was paid"),
        }
    }
}

/// Lamports as people read them.
pub(crate) fn sol(lamports: u64) -> String {
    let whole = lamports / LAMPORTS_PER_SOL;
    let rest = format!("{:09}", lamports % LAMPORTS_PER_SOL);
    let rest = rest.trim_end_matches('0');
    match rest {
        "" => format!("{whole} SOL"),
        _ => format!("{whole}.{rest} SOL"),
    }
}

#[derive(Subcommand)]
pub(crate) enum ChainCommand {
    /// Start L1 in a box and a rollup on this machine
    #[cfg(feature = "cabinet")]
    Up(up::Options),
    /// List the worlds on a chain, the most played first
    Worlds(L1Options),
    /// Make, show and fill wallets
    #[command(subcommand)]
    Wallet(WalletCommand),
}

#[derive(Subcommand)]
pub(crate) enum WalletCommand {
    /// Make a keypair in a new file
    New {
        #[command(flatten)]
        wallet: WalletOptions,
    },
    /// Show a wallet's address and what it holds
    Show {
        #[command(flatten)]
        wallet: WalletOptions,
        #[command(flatten)]
        l1: L1Options,
    },
    /// Ask a test chain's faucet for SOL
    Airdrop {
        /// How many
        sol: u32,
        #[command(flatten)]
        wallet: WalletOptions,
        #[command(flatten)]
        l1: L1Options,
    },
}

pub(crate) fn run(command: ChainCommand) -> Result<ExitCode> {
    match command {
        #[cfg(feature = "cabinet")]
        ChainCommand::Up(options) => up::run(&options)?,
        ChainCommand::Worlds(options) => worlds::list(&options)?,
        ChainCommand::Wallet(command) => wallet(&command)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn wallet(command: &WalletCommand) -> Result<()> {
    match command {
        WalletCommand::New { wallet } => {
            let key = wallet::create(&wallet.keypair)?;
            println!("{}", key.pubkey());
            eprintln!("kept in {}", wallet.keypair.display());
        }
        WalletCommand::Show { wallet, l1 } => show_wallet(&wallet.read()?.pubkey(), l1)?,
        WalletCommand::Airdrop {
            sol: amount,
            wallet,
            l1,
        } => {
            let (address, rpc) = (wallet.read()?.pubkey(), l1.rpc());
            let signature = rpc.airdrop(&address, u64::from(*amount) * LAMPORTS_PER_SOL)?;
            rpc.confirm(&signature)?;
            show_wallet(&address, l1)?;
        }
    }
    Ok(())
}

fn show_wallet(address: &Address, l1: &L1Options) -> Result<()> {
    let lamports = l1.rpc().balance(address)?;
    if l1.json {
        return table::json(&json!({ "address": address.to_string(), "lamports": lamports }));
    }
    println!("{address}  {}", sol(lamports));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lamports_are_shown_without_rounding() {
        assert_eq!(sol(0), "0 SOL");
        assert_eq!(sol(5_000), "0.000005 SOL");
        assert_eq!(sol(28_000_000_001), "28.000000001 SOL");
        assert_eq!(sol(3_500_000_000), "3.5 SOL");
    }
}
