//! `worldline chain up`: L1 in a box and a rollup over it, in this process.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::json;
use worldline_cabinet::{L1, L1Config, Rollup, RollupConfig};
use worldline_chain::Program;

use super::{L1_PORT, ROLLUP_PORT};
use crate::{default_data, table};

#[derive(Args)]
pub(crate) struct Options {
    /// Folder of both chains; made when it does not exist
    #[arg(long, value_name = "DIR", default_value_os_t = default_data().join("chain"))]
    data: PathBuf,
    /// Address to answer on
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    host: IpAddr,
    /// L1's port; WebSockets are on the next. 0: any
    #[arg(long, default_value_t = L1_PORT)]
    l1_port: u16,
    /// The rollup's port; WebSockets are on the next. 0: any
    #[arg(long, default_value_t = ROLLUP_PORT)]
    rollup_port: u16,
    /// The world-model program
    #[arg(
        long,
        value_name = "FILE",
        default_value = "programs/world-model/world_model.so"
    )]
    program: PathBuf,
    /// MagicBlock's delegation program, from its npm package (`npm ci` in programs/delegation)
    #[arg(long, value_name = "FILE", default_value_os_t = delegation_program())]
    delegation_program: PathBuf,
    /// Print where they answer as one line of JSON
    #[arg(long)]
    json: bool,
}

/// Where `npm ci` puts it.
fn delegation_program() -> PathBuf {
    let package = "programs/delegation/node_modules/@magicblock-labs/ephemeral-validator";
    PathBuf::from(package).join(L1Config::DELEGATION_ELF)
}

/// Starts both chains and stays until it is interrupted.
pub(crate) fn run(options: &Options) -> Result<()> {
    for (file, hint) in [
        (
            &options.program,
            "start this in the repository, or name the file with --program",
        ),
        (
            &options.delegation_program,
            "run `npm ci` in programs/delegation, or name the file with --delegation-program",
        ),
    ] {
        if !file.exists() {
            bail!("{} is missing: {hint}", file.display());
        }
    }
    let runtime = tokio::runtime::Runtime::new().context("cannot start threads")?;
    runtime.block_on(both(options))
}

async fn both(options: &Options) -> Result<()> {
    let mut config = L1Config::new(options.data.join("l1"));
    config.listen = (options.host, options.l1_port).into();
    config.delegation_program = Some(options.delegation_program.clone());
    config.programs = vec![(Program::default().id, options.program.clone())];
    let l1 = L1::start(config).await?;
    let mut config = RollupConfig::new(options.data.join("rollup"), l1.rpc_url());
    config.listen = (options.host, options.rollup_port).into();
    config.l1_ws = Some(l1.ws_url());
    config.admin = Some(l1.authority());
    let rollup = Rollup::start(config).await?;
    let program = Program::default().id.to_string();
    if options.json {
        println!(
            "{}",
            json!({
                "l1": l1.rpc_url(), "l1_ws": l1.ws_url(),
                "rollup": rollup.rpc_url(), "rollup_ws": rollup.ws_url(),
                "identity": rollup.identity().to_string(), "program": program,
            })
        );
    } else {
        let row = |name: &str, http: String, ws: String| [name.to_string(), http, ws];
        table::print(
            ["CHAIN", "HTTP", "WEBSOCKET"],
            &[
                row("L1 in a box", l1.rpc_url(), l1.ws_url()),
                row("rollup", rollup.rpc_url(), rollup.ws_url()),
            ],
        );
        println!(
            "program {program}; interrupt to stop, what is in {} stays",
            options.data.display()
        );
    }
    tokio::signal::ctrl_c()
        .await
        .context("cannot wait for an interrupt")?;
    rollup.stop();
    l1.stop();
    Ok(())
}
