//! `worldline verify SESSION` and `replay fetch`: what L1 keeps of a match.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use worldline_arena::Report;
use worldline_cartridge::Cartridge;
use worldline_chain::verify::{Sources, replay, verify};
use worldline_chain::{Address, Program};

use super::{L1Options, local};

/// Where a match on a chain is checked against.
#[derive(Args)]
pub(crate) struct SessionSources {
    /// For a session's address: the L1 that keeps its result
    #[arg(long, value_name = "URL", default_value_t = local(super::L1_PORT))]
    l1: String,
    /// For a session's address: the program's address
    #[arg(long, value_name = "ADDRESS")]
    program: Option<Address>,
    /// For a session's address: the cartridge, once the world is retired
    #[arg(long, value_name = "FILE")]
    cartridge: Option<PathBuf>,
    /// For a session's address: a replay file instead of the one on L1
    #[arg(long, value_name = "FILE")]
    replay: Option<PathBuf>,
}

/// The session that a name means, if it is an address.
pub(crate) fn session(name: &str) -> Option<Address> {
    name.parse().ok()
}

impl SessionSources {
    pub(crate) fn check(&self, session: &Address) -> Result<Report> {
        let open = |path: &PathBuf| {
            Cartridge::open(path).with_context(|| format!("cannot open {}", path.display()))
        };
        let read = |path: &PathBuf| {
            std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
        };
        let sources = Sources {
            cartridge: self.cartridge.as_ref().map(open).transpose()?,
            replay: self.replay.as_ref().map(read).transpose()?,
        };
        let program = self
            .program
            .map_or_else(Program::default, |id| Program { id });
        let rpc = worldline_chain::Rpc::new(&self.l1, worldline_chain::Commitment::Confirmed);
        Ok(verify(&rpc, &program, session, sources)?)
    }
}

/// `replay fetch`.
#[derive(Args)]
pub(crate) struct FetchOptions {
    /// The session's address
    session: Address,
    /// File to write; the session's address with `.wlr` when left out
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    l1: L1Options,
}

pub(crate) fn fetch(options: &FetchOptions) -> Result<()> {
    let file = replay(&options.l1.rpc(), &options.l1.program(), &options.session)?;
    let name = format!("{}.wlr", options.session);
    let path = options.output.as_deref().unwrap_or(Path::new(&name));
    std::fs::write(path, &file).with_context(|| format!("cannot write {}", path.display()))?;
    println!("{}  {} bytes", path.display(), file.len());
    Ok(())
}
