//! `worldline play` and `worldline serve`.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use worldline_arena::{Arena, Config, Fault, Recovery, Shelf};
use worldline_server::{Server, Site};

use crate::Folders;
#[cfg(feature = "cabinet")]
use crate::chain::up::Running;
#[cfg(feature = "cabinet")]
use worldline_chain::table::Chains;
#[cfg(feature = "cabinet")]
use worldline_chain::{Address, Program};
#[cfg(feature = "cabinet")]
use worldline_server::{ChainAccess, Fetched};

/// Pages reach the chains through the arcade, which alone may be open to a network.
#[cfg(feature = "cabinet")]
const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// How long connections have to end after Ctrl-C.
const FAREWELL: Duration = Duration::from_secs(2);

#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    folders: Folders,
    /// Address to listen on; any but loopback means TLS and a token that the link carries
    #[arg(long, value_name = "ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    host: IpAddr,
    /// Port to listen on; 0 takes any that is free
    #[arg(long, default_value_t = 7777)]
    port: u16,
    /// Port for SSH into worlds; 0 takes any that is free [default: the one after --port]
    #[cfg(feature = "worlds")]
    #[arg(long, value_name = "PORT")]
    ssh_port: Option<u16>,
    /// Folder of the built site
    #[arg(long, value_name = "DIR", default_value = "web/dist")]
    site: PathBuf,
    /// Threads that run frames
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=64))]
    clocks: u8,
    /// Run matches in this machine's own engine, on no chain; all that a build without chains can
    #[arg(long)]
    #[cfg_attr(not(feature = "cabinet"), allow(dead_code))] // Nothing to choose there.
    native: bool,
    #[cfg(feature = "cabinet")]
    #[command(flatten)]
    own: crate::chain::up::OwnChains,
    /// A rollup that runs already, in place of our own; it is kept where it was started (`worldline
    /// chain up`)
    #[cfg(feature = "cabinet")]
    #[arg(long, value_name = "URL", requires = "l1", conflicts_with = "admin")]
    rollup: Option<String>,
}

pub(crate) fn run(options: Options, open: bool) -> Result<ExitCode> {
    let shelf = Shelf::open(&options.folders.worlds)?;
    for problem in shelf.problems() {
        eprintln!("worldline: {problem}");
    }
    let site = Site::load(&options.site)?;
    if !site.is_built() {
        eprintln!(
            "worldline: no site in {}: `cargo xtask play` builds it; the API works",
            options.site.display()
        );
    }
    let config = Config {
        data: options.folders.data.clone(),
        clocks: options.clocks.into(),
        fault: fault()?,
    };
    let (arena, recovery) = Arena::open(shelf, config)?;
    report(&recovery);
    let arena = Arc::new(arena);
    #[cfg(feature = "worlds")]
    let worlds = crate::worlds::open(&options.folders.data, arena.clone());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    #[cfg(feature = "worlds")]
    let ssh_port = options.ssh_port.unwrap_or(match options.port {
        0 | u16::MAX => 0,
        port => port + 1,
    });
    #[cfg(feature = "cabinet")]
    let (chains, access) = runtime.block_on(chains(&options, &arena))?;
    let served = runtime.block_on(async {
        let options = worldline_server::Options {
            host: options.host,
            port: options.port,
            site,
            #[cfg(feature = "chain")]
            chain: {
                #[cfg(feature = "cabinet")]
                let access = access;
                #[cfg(not(feature = "cabinet"))]
                let access = None;
                access
            },
            #[cfg(feature = "worlds")]
            worlds: worlds.clone().map(|runtime| worldline_server::Worlds {
                runtime,
                ssh_port,
                data: options.folders.data.clone(),
            }),
        };
        let (host, port) = (options.host, options.port);
        let server = Server::bind(arena, options).await.with_context(|| {
            format!("cannot listen on {host} port {port}, or on the one for SSH: choose others with --port and --ssh-port, or stop what uses them")
        })?;
        #[cfg(feature = "worlds")]
        if let Some(ssh) = server.ssh_address() {
            println!(
                "SSH into worlds is at {ssh} (MORPH_SSH_HOSTNAME={} MORPH_SSH_PORT={})",
                ssh.ip(),
                ssh.port()
            );
        }
        let link = server.link();
        println!("Worldline is at {link}");
        if open {
            browse(&link);
        }
        tokio::select! {
            served = server.run() => served.context("the server stopped"),
            stopped = stop() => stopped,
        }
    });
    #[cfg(feature = "cabinet")]
    if let Some(chains) = chains {
        chains.stop();
    }
    runtime.shutdown_timeout(FAREWELL);
    #[cfg(feature = "worlds")]
    if let Some(worlds) = worlds {
        worlds.settle();
    }
    served.map(|()| ExitCode::SUCCESS)
}

/// The chains that matches run on, unless they shall run natively, and what of them is ours.
#[cfg(feature = "cabinet")]
async fn chains(
    options: &Options,
    arena: &Arena,
) -> Result<(Option<Running>, Option<ChainAccess>)> {
    if options.native {
        return Ok((None, None));
    }
    if let (Some(l1), Some(rollup)) = (&options.own.l1, &options.rollup) {
        let chains = crate::chain::up::chains(l1, rollup);
        let keeper = chains.rollup.identity()?;
        return Ok((None, Some(access(chains, keeper))));
    }
    let data = options.folders.data.join("chain");
    let shelf = Arc::new(arena.shelf().clone());
    let running = options.own.start(&data, LOCALHOST, shelf).await?;
    running.keep(true);
    let access = access(running.chains().clone(), running.rollup().identity());
    Ok((Some(running), Some(access)))
}

#[cfg(feature = "cabinet")]
fn access(chains: Chains, keeper: Address) -> ChainAccess {
    ChainAccess {
        // An L1 that cannot be reached now gives nothing away either.
        play_money: chains.l1.is_box().unwrap_or(false),
        chains,
        program: Program::default(),
        keeper: Some(keeper),
        fetched: Fetched::default(),
    }
}

/// Ctrl-C, or what a service manager sends.
async fn stop() -> Result<()> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            pressed = tokio::signal::ctrl_c() => pressed?,
            _ = terminate.recv() => (),
        }
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await?;
    eprintln!("worldline: stopping; live matches go on at the next start");
    Ok(())
}

fn fault() -> Result<Fault> {
    match std::env::var("WORLDLINE_FAULT") {
        Ok(name) => Ok(Fault::parse(&name)?),
        Err(_) => Ok(Fault::default()),
    }
}

fn report(recovery: &Recovery) {
    for id in &recovery.resumed {
        println!(
            "Session {id} was live when the last run ended: it goes on when a player comes back"
        );
    }
    for id in &recovery.ended {
        println!("Session {id} was over when the last run ended: its replay is stored");
    }
    for id in &recovery.unstarted {
        println!("Session {id} had not run a frame when the last run ended: open a new one");
    }
    for (id, why) in &recovery.kept {
        eprintln!("worldline: session {id} cannot go on: {why}; its journal is kept");
    }
}

/// Opens a browser if this machine has one; the printed address is there otherwise.
fn browse(link: &str) {
    let opener = if cfg!(target_os = "macos") {
        "open"
    } else if cfg!(windows) {
        "explorer"
    } else {
        "xdg-open"
    };
    let _ = Command::new(opener)
        .arg(link)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
}
