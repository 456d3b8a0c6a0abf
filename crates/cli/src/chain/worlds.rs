//! `worldline upload`, `download`, `fork`, `retire`, `leaderboard` and `chain worlds`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use worldline_abi::{ModelManifest, WorldAccount, world_status};
use worldline_arena::hex;
use worldline_cartridge::Cartridge;
use worldline_chain::upload::{self, Cost, Progress, Terms};
use worldline_chain::world::WorldAt;
use worldline_chain::{Address, Signer, download, lists, read, retire};

use super::{Consent, L1Options, WalletOptions, sol};
use crate::table;

/// What an upload and a fork ask alike.
#[derive(Args)]
struct NewWorldOptions {
    /// Your own number for the world; by default it follows from what it is made of
    #[arg(long)]
    id: Option<u64>,
    /// Lamports that each session of it pays to you
    #[arg(long, value_name = "LAMPORTS", default_value_t = 0)]
    fee: u64,
    #[command(flatten)]
    consent: Consent,
    #[command(flatten)]
    wallet: WalletOptions,
    #[command(flatten)]
    l1: L1Options,
}

impl NewWorldOptions {
    fn terms(&self, manifest: &ModelManifest) -> Terms {
        Terms {
            id: self.id.unwrap_or_else(|| upload::default_id(manifest)),
            fee: self.fee,
        }
    }
}

#[derive(Args)]
pub(crate) struct UploadOptions {
    /// Cartridge file
    #[arg(value_name = "FILE.cart")]
    file: PathBuf,
    #[command(flatten)]
    new: NewWorldOptions,
}

/// A bar that appears with the first write.
pub(crate) fn bar() -> ProgressBar {
    let style = ProgressStyle::with_template(
        "{msg} {bar:30} {pos}/{len} transactions  {per_sec}  {eta} left",
    );
    let bar = ProgressBar::no_length();
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

pub(crate) fn show(bar: &ProgressBar, progress: Progress) {
    match progress {
        Progress::Writes { count } => {
            bar.reset();
            bar.set_length(count as u64);
        }
        Progress::Written => bar.inc(1),
        Progress::Checked { leaves } => bar.println(format!("{leaves} leaves hashed by the chain")),
    }
}

fn price(cost: &Cost) -> String {
    format!(
        "{} deposit, returned when the world is retired; {} fees for {} transactions",
        sol(cost.rent),
        sol(cost.fees),
        cost.transactions
    )
}

fn made(at: &WorldAt, cost: &Cost, json: bool) -> Result<ExitCode> {
    let address = at.address.to_string();
    if json {
        table::json(&json!({
            "world": address, "id": at.id, "owner": at.owner.to_string(),
            "rent": cost.rent, "fees": cost.fees, "transactions": cost.transactions,
        }))?;
    } else {
        println!("{address}");
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn upload(options: &UploadOptions) -> Result<ExitCode> {
    let cartridge = Cartridge::open(&options.file)
        .with_context(|| format!("cannot open {}", options.file.display()))?;
    let new = &options.new;
    let (owner, terms) = (new.wallet.read()?, new.terms(cartridge.manifest()));
    let (rpc, program) = (new.l1.rpc(), new.l1.program());
    let at = WorldAt::new(program, owner.pubkey(), terms.id);
    let cost = upload::quote(&rpc, &at, &cartridge)?;
    let name = cartridge.manifest().name();
    let bytes = cartridge.bytes().len();
    new.consent
        .ask(&format!("{name}, {bytes} bytes: {}", price(&cost)))?;
    let bar = bar();
    let watch = |progress| show(&bar, progress);
    let at = upload::upload(&rpc, program, &owner, terms, &cartridge, &watch)?;
    bar.finish_and_clear();
    made(&at, &cost, new.l1.json)
}

#[derive(Args)]
pub(crate) struct ForkOptions {
    /// The world to copy
    #[arg(value_name = "WORLD")]
    parent: Address,
    /// The copy's name; the parent's when left out
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    new: NewWorldOptions,
}

pub(crate) fn fork(options: &ForkOptions) -> Result<ExitCode> {
    let new = &options.new;
    let owner = new.wallet.read()?;
    let (rpc, program) = (new.l1.rpc(), new.l1.program());
    let parent: WorldAccount = read::read(&program, &rpc, &options.parent)?;
    let mut copy = ModelManifest {
        parent: options.parent.to_bytes(),
        ..parent.manifest
    };
    let name = match &options.name {
        Some(name) if name.len() > copy.name.len() => {
            bail!("a name has at most {} bytes", copy.name.len())
        }
        Some(name) => {
            copy.set_name(name);
            copy.name
        }
        None => [0; 32],
    };
    let terms = new.terms(&copy);
    let at = WorldAt::new(program, owner.pubkey(), terms.id);
    let cost = upload::quote_fork(&rpc, &at, &options.parent)?;
    let from = parent.manifest.name();
    new.consent
        .ask(&format!("a fork of {from}: {}", price(&cost)))?;
    let bar = bar();
    let watch = |progress| show(&bar, progress);
    let at = upload::fork(&rpc, program, &owner, terms, &options.parent, name, &watch)?;
    bar.finish_and_clear();
    made(&at, &cost, new.l1.json)
}

#[derive(Args)]
pub(crate) struct DownloadOptions {
    /// The world
    world: Address,
    /// File to write; the world's address with `.cart` when left out
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    l1: L1Options,
}

pub(crate) fn download(options: &DownloadOptions) -> Result<ExitCode> {
    let cartridge = download::download(&options.l1.rpc(), &options.l1.program(), &options.world)?;
    let name = format!("{}.cart", options.world);
    let path = options.output.as_deref().unwrap_or(Path::new(&name));
    std::fs::write(path, cartridge.bytes())
        .with_context(|| format!("cannot write {}", path.display()))?;
    if options.l1.json {
        table::json(&json!({
            "file": path, "bytes": cartridge.bytes().len(), "root": cartridge.root(),
        }))?;
    } else {
        println!(
            "{}  {}  root {}",
            path.display(),
            cartridge.manifest().name(),
            cartridge.root()
        );
    }
    Ok(ExitCode::SUCCESS)
}

#[derive(Args)]
pub(crate) struct RetireOptions {
    /// The world
    world: Address,
    #[command(flatten)]
    consent: Consent,
    #[command(flatten)]
    wallet: WalletOptions,
    #[command(flatten)]
    l1: L1Options,
}

pub(crate) fn retire(options: &RetireOptions) -> Result<ExitCode> {
    let owner = options.wallet.read()?;
    let (rpc, program) = (options.l1.rpc(), options.l1.program());
    let deposit = retire::deposit(&rpc, &program, &options.world)?;
    let words = format!(
        "closes {} for good; download it first if you want to keep it, or to verify its matches later. {} come back",
        options.world,
        sol(deposit)
    );
    options.consent.ask(&words)?;
    let back = retire::retire(&rpc, &program, &owner, &options.world)?;
    if options.l1.json {
        table::json(&json!({ "world": options.world.to_string(), "returned": back }))?;
    } else {
        println!("{} came back to {}", sol(back), owner.pubkey());
    }
    Ok(ExitCode::SUCCESS)
}

fn status(code: u8) -> &'static str {
    match code {
        world_status::DRAFT => "draft",
        world_status::CHECKING => "checking",
        world_status::READY => "ready",
        _ => "retired",
    }
}

pub(crate) fn list(options: &L1Options) -> Result<()> {
    let worlds = lists::worlds(&options.rpc(), &options.program())?;
    if options.json {
        let list: Vec<_> = worlds.iter().map(|(address, world)| {
            let manifest = &world.manifest;
            json!({
                "world": address.to_string(),
                "name": manifest.name(),
                "owner": Address::from(manifest.owner).to_string(),
                "parent": (manifest.parent != [0; 32]).then(|| Address::from(manifest.parent).to_string()),
                "id": world.id,
                "status": status(world.status),
                "matches": world.matches,
                "live_sessions": world.live_sessions,
                "fee": world.fee,
                "fees_earned": world.fees_earned,
                "parameters": manifest.parameters,
                "hidden_pages": manifest.hidden_pages,
                "root": hex(&manifest.merkle_root),
                "created": world.created,
            })
        }).collect();
        return table::json(&list);
    }
    let rows: Vec<_> = worlds
        .iter()
        .map(|(address, world)| {
            [
                address.to_string(),
                world.manifest.name().to_owned(),
                status(world.status).to_owned(),
                world.matches.to_string(),
                world.live_sessions.to_string(),
                sol(world.fee),
                hex(&world.manifest.merkle_root[..8]),
            ]
        })
        .collect();
    let header = ["WORLD", "NAME", "STATUS", "MATCHES", "OPEN", "FEE", "ROOT"];
    table::print(header, &rows);
    Ok(())
}

#[derive(Args)]
pub(crate) struct LeaderboardOptions {
    /// The world
    world: Address,
    #[command(flatten)]
    l1: L1Options,
}

pub(crate) fn leaderboard(options: &LeaderboardOptions) -> Result<ExitCode> {
    let scores = lists::leaderboard(&options.l1.rpc(), &options.l1.program(), &options.world)?;
    if options.l1.json {
        let list: Vec<_> = scores
            .iter()
            .map(|score| {
                json!({
                    "wallet": Address::from(score.wallet).to_string(),
                    "wins": score.wins, "losses": score.losses, "draws": score.draws,
                    "left": score.left, "frames": score.frames, "updated": score.updated,
                })
            })
            .collect();
        table::json(&list)?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<_> = scores
        .iter()
        .map(|score| {
            let numbers = [score.wins, score.losses, score.draws, score.left];
            let [wins, losses, draws, left] = numbers.map(|number| number.to_string());
            [
                Address::from(score.wallet).to_string(),
                wins,
                losses,
                draws,
                left,
            ]
        })
        .collect();
    table::print(["WALLET", "WINS", "LOSSES", "DRAWS", "LEFT"], &rows);
    Ok(ExitCode::SUCCESS)
}
