//! Our own chains: L1 in a box and a rollup over it in this process, and the rollup's keeper; or our
//! rollup over somebody else's L1. For `worldline chain up`, and for the arcade.

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
use worldline_chain::watch::websocket_url;
use worldline_chain::{Commitment, Keypair, Program, Rpc, Signer, wallet};

use super::worlds::{bar, show};
use super::{L1_PORT, ROLLUP_PORT};
use crate::{default_data, table};

/// The keeper asks the box's faucet for this much, in SOL, when it holds less than half of it.
const KEEPER_SOL: u64 = 1_000;

/// Where our own chains answer and what they load.
#[derive(Args, Clone)]
pub(crate) struct OwnChains {
    /// An L1 that runs already, in place of our own box: another box, a test validator, devnet, …
    #[arg(long, value_name = "URL")]
    pub(crate) l1: Option<String>,
    /// Keypair of the upgrade authority of that L1's delegation program (a box keeps it as
    /// `authority.json`), so that our rollup is admitted; not needed where it was admitted before
    #[arg(long, value_name = "FILE", requires = "l1")]
    admin: Option<PathBuf>,
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

/// A rollup with its keeper, and its L1 where that is ours, until dropped.
pub(crate) struct Running {
    l1: Option<L1>,
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
        let mut config = RollupConfig::new(data.join("rollup"), "");
        config.listen = (host, self.rollup_port).into();
        let l1 = match &self.l1 {
            Some(url) => {
                config.l1.clone_from(url);
                let admin = self.admin.as_deref().map(wallet::read);
                config.admin = admin.transpose()?;
                None
            }
            None => {
                let l1 = self.start_box(data, host).await?;
                config.l1 = l1.rpc_url();
                config.l1_ws = Some(l1.ws_url());
                config.admin = Some(l1.authority());
                Some(l1)
            }
        };
        let l1_url = config.l1.clone();
        let rollup = Rollup::start(config).await?;
        let keeper = Keeper {
            chains: chains(&l1_url, &rollup.rpc_url()),
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

    async fn start_box(&self, data: &Path, host: IpAddr) -> Result<L1> {
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
        Ok(L1::start(config).await?)
    }
}

/// Both chains, as everything that plays on them asks them.
pub(crate) fn chains(l1: &str, rollup: &str) -> Chains {
    Chains {
        l1: Rpc::new(l1, Commitment::Confirmed),
        rollup: Rpc::new(rollup, Commitment::Processed),
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

    /// Has the keeper work, in a thread of its own; first it gets play money where L1 has any. With
    /// `worlds` those of its shelf are put onto a box of our own: anywhere else that costs money.
    pub(crate) fn keep(&self, worlds: bool) {
        let (keeper, stop) = (Arc::clone(&self.keeper), Arc::clone(&self.stop));
        let worlds = worlds && self.l1.is_some();
        std::thread::spawn(move || {
            if let Err(error) = fund(&keeper.chains.l1, &keeper.key) {
                let wallet = keeper.key.pubkey();
                tracing::warn!(%wallet, %error, "the keeper has no lamports on L1 for results and replays: send it some");
            }
            if worlds {
                let keeper = Arc::clone(&keeper);
                std::thread::spawn(move || upload_shelf(&keeper));
            }
            if let Err(error) = keeper.work(&stop) {
                tracing::error!(%error, "the keeper cannot keep its journals, so no match runs");
            }
        });
    }

    /// Ends what is ours; what it keeps stays.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        self.rollup.stop();
        if let Some(l1) = &self.l1 {
            l1.stop();
        }
    }
}

/// Puts the worlds of the keeper's shelf onto L1; those that are there already cost a look.
fn upload_shelf(keeper: &Keeper) {
    let worlds = keeper.shelf.worlds().iter();
    for world in worlds.filter(|world| !world.is_policy()) {
        let cartridge = world.cartridge();
        let terms = Terms {
            id: default_id(cartridge.manifest()),
            fee: 0,
        };
        let bar = bar();
        bar.set_message(world.id().to_owned());
        let watch = |progress| show(&bar, progress);
        let (l1, program) = (&keeper.chains.l1, keeper.program);
        let put = upload(l1, program, &keeper.key, terms, cartridge, &watch);
        bar.finish_and_clear();
        if let Err(error) = put {
            eprintln!("worldline: {} is not on L1: {error:#}", world.id());
        }
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
    running.keep(false);
    let (l1, rollup) = (running.chains().l1.url(), &running.rollup);
    let l1_ws = websocket_url(l1);
    let program = Program::default().id.to_string();
    if options.json {
        println!(
            "{}",
            json!({
                "l1": l1, "l1_ws": l1_ws,
                "rollup": rollup.rpc_url(), "rollup_ws": rollup.ws_url(),
                "identity": rollup.identity().to_string(), "program": program,
            })
        );
    } else {
        let name = if running.l1.is_some() {
            "L1 in a box"
        } else {
            "L1"
        };
        let row = |name: &str, http: String, ws: String| [name.to_string(), http, ws];
        table::print(
            ["CHAIN", "HTTP", "WEBSOCKET"],
            &[
                row(name, l1.to_owned(), l1_ws),
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
