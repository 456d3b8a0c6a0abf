//! Our own chains: L1 in a box and a rollup over it in this process, and the rollup's keeper. For
//! `worldline chain up`, and for the arcade.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::json;
use worldline_arena::Shelf;
use worldline_cabinet::{L1, L1Config, Rollup, RollupConfig};
use worldline_chain::keeper::Keeper;
use worldline_chain::limits::LAMPORTS_PER_SOL;
use worldline_chain::table::Chains;
use worldline_chain::upload::{Terms, default_id, upload};
use worldline_chain::{Commitment, Keypair, Program, Rpc, Signer, wallet};

use super::worlds::{bar, show};
use super::{L1_PORT, ROLLUP_PORT};
use crate::{default_data, table};

/// The keeper asks the box's faucet for this much, in SOL, when it holds less than half of it.
const KEEPER_SOL: u64 = 1_000;

/// Where our own chains answer and what they load.
#[derive(Args, Clone)]
pub(crate) struct OwnChains {
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
}

#[derive(Args)]
pub(crate) struct Options {
    /// Folder of both chains; made when it does not exist
    #[arg(long, value_name = "DIR", default_value_os_t = default_data().join("chain"))]
    data: PathBuf,
    /// Folder of cartridges that machines can play
    #[arg(long, value_name = "DIR", default_value = "worlds")]
    worlds: PathBuf,
    /// Address to answer on
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    host: IpAddr,
    #[command(flatten)]
    own: OwnChains,
    /// Print where they answer as one line of JSON
    #[arg(long)]
    json: bool,
}

/// Where `npm ci` puts it.
fn delegation_program() -> PathBuf {
    let package = "programs/delegation/node_modules/@magicblock-labs/ephemeral-validator";
    PathBuf::from(package).join(L1Config::DELEGATION_ELF)
}

/// Both chains and the keeper, until dropped.
pub(crate) struct Running {
    l1: L1,
    rollup: Rollup,
    keeper: Arc<Keeper>,
    stop: Arc<AtomicBool>,
}

impl OwnChains {
    /// The same on any free ports.
    pub(crate) fn anywhere(&self) -> Self {
        Self {
            l1_port: 0,
            rollup_port: 0,
            ..self.clone()
        }
    }

    /// Starts them; what they keep is in `data`. Machines play the worlds of `shelf`.
    pub(crate) async fn start(
        &self,
        data: &Path,
        host: IpAddr,
        shelf: Arc<Shelf>,
    ) -> Result<Running> {
        for (file, hint) in [
            (
                &self.program,
                "start this in the repository, or name the file with --program",
            ),
            (
                &self.delegation_program,
                "run `npm ci` in programs/delegation, or name the file with --delegation-program",
            ),
        ] {
            if !file.exists() {
                bail!("{} is missing: {hint}", file.display());
            }
        }
        let mut config = L1Config::new(data.join("l1"));
        config.listen = (host, self.l1_port).into();
        config.delegation_program = Some(self.delegation_program.clone());
        config.programs = vec![(Program::default().id, self.program.clone())];
        let l1 = L1::start(config).await?;
        let mut config = RollupConfig::new(data.join("rollup"), l1.rpc_url());
        config.listen = (host, self.rollup_port).into();
        config.l1_ws = Some(l1.ws_url());
        config.admin = Some(l1.authority());
        let rollup = Rollup::start(config).await?;
        let keeper = Keeper {
            chains: Chains {
                l1: Rpc::new(l1.rpc_url(), Commitment::Confirmed),
                rollup: Rpc::new(rollup.rpc_url(), Commitment::Processed),
            },
            program: Program::default(),
            key: wallet::read(&data.join("rollup").join("identity.json"))?,
            shelf,
            folder: data.join("keeper"),
        };
        Ok(Running {
            l1,
            rollup,
            keeper: Arc::new(keeper),
            stop: Arc::default(),
        })
    }
}

impl Running {
    /// Both chains, for clients.
    pub(crate) fn chains(&self) -> &Chains {
        &self.keeper.chains
    }

    /// The rollup itself.
    pub(crate) fn rollup(&self) -> &Rollup {
        &self.rollup
    }

    /// The rollup's identity, with which its keeper signs.
    pub(crate) fn identity(&self) -> &Keypair {
        &self.keeper.key
    }

    /// Has the keeper work, in a thread of its own.
    pub(crate) fn keep(&self) {
        let (keeper, stop) = (Arc::clone(&self.keeper), Arc::clone(&self.stop));
        std::thread::spawn(move || {
            if let Err(error) = fund(&keeper.chains.l1, &keeper.key) {
                tracing::warn!(%error, "the keeper has no play money");
            }
            if let Err(error) = keeper.work(&stop) {
                tracing::error!(%error, "the keeper cannot keep its journals, so no match runs");
            }
        });
    }

    /// Puts the worlds of the keeper's shelf onto L1, in a thread of its own; those that are there
    /// already cost a look.
    pub(crate) fn upload_shelf(&self) {
        let keeper = Arc::clone(&self.keeper);
        std::thread::spawn(move || {
            for world in keeper
                .shelf
                .worlds()
                .iter()
                .filter(|world| !world.is_policy())
            {
                let cartridge = world.cartridge();
                let terms = Terms {
                    id: default_id(cartridge.manifest()),
                    fee: 0,
                };
                let bar = bar();
                bar.set_message(world.id().to_owned());
                let watch = |progress| show(&bar, progress);
                let put = fund(&keeper.chains.l1, &keeper.key).and_then(|()| {
                    let (l1, program) = (&keeper.chains.l1, keeper.program);
                    Ok(upload(l1, program, &keeper.key, terms, cartridge, &watch)?)
                });
                bar.finish_and_clear();
                if let Err(error) = put {
                    eprintln!("worldline: {} is not on L1: {error:#}", world.id());
                }
            }
        });
    }

    /// Ends both; what they keep stays.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        self.rollup.stop();
        self.l1.stop();
    }
}

/// Play money for the keeper, which pays for worlds, results and replays.
fn fund(l1: &Rpc, key: &Keypair) -> Result<()> {
    let lamports = KEEPER_SOL * LAMPORTS_PER_SOL;
    if l1.balance(&key.pubkey())? < lamports / 2 {
        let signature = l1.airdrop(&key.pubkey(), lamports)?;
        l1.confirm(&signature)?;
    }
    Ok(())
}

/// Starts both chains and stays until it is interrupted.
pub(crate) fn run(options: &Options) -> Result<()> {
    let runtime = tokio::runtime::Runtime::new().context("cannot start threads")?;
    runtime.block_on(both(options))
}

async fn both(options: &Options) -> Result<()> {
    let shelf = if options.worlds.is_dir() {
        Shelf::open(&options.worlds)?
    } else {
        Shelf::new(Vec::new())
    };
    let own = &options.own;
    let running = own
        .start(&options.data, options.host, Arc::new(shelf))
        .await?;
    running.keep();
    let (l1, rollup) = (&running.l1, &running.rollup);
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
    running.stop();
    Ok(())
}
