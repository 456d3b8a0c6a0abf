//! `worldline worlds`, `replay` and `verify`.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use worldline_arena::{
    MatchId, Recording, ReplayView, Report, ResultView, Shelf, Store, World, hex, json_frames,
};

use crate::{Folders, table};

/// Frames a second.
const FPS: u32 = worldline_arena::limits::FRAMES_PER_SECOND;

#[derive(Args)]
pub(crate) struct WorldsOptions {
    /// Folder of cartridges (`*.cart`)
    #[arg(long, value_name = "DIR", default_value = "worlds")]
    worlds: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn worlds(options: &WorldsOptions) -> Result<ExitCode> {
    let shelf = Shelf::open(&options.worlds)?;
    for problem in shelf.problems() {
        eprintln!("worldline: {problem}");
    }
    let cards: Vec<_> = shelf.worlds().iter().map(|world| world.card()).collect();
    if options.json {
        table::json(&cards)?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<_> = cards
        .iter()
        .map(|card| {
            [
                card.id.clone(),
                card.kind.to_string(),
                format!("{:.2} M", card.parameters as f64 / 1e6),
                format!("{} x {}", card.layers, card.d_model),
                card.training.matches.to_string(),
                format!("{:.1} MB", card.bytes as f64 / 1e6),
                card.root[..16].to_string(),
            ]
        })
        .collect();
    table::print(
        [
            "WORLD",
            "KIND",
            "PARAMETERS",
            "LAYERS",
            "MATCHES",
            "SIZE",
            "ROOT",
        ],
        &rows,
    );
    Ok(ExitCode::SUCCESS)
}

#[derive(Subcommand)]
pub(crate) enum ReplayCommand {
    /// List stored replays, newest first
    List {
        #[command(flatten)]
        folders: Folders,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show what a replay says about itself
    Show {
        #[command(flatten)]
        replay: ReplayFile,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Get the replay of a settled match from a chain
    #[cfg(feature = "chain")]
    Fetch(crate::chain::verify::FetchOptions),
    /// Re-execute a replay into JSON frames
    Export {
        #[command(flatten)]
        replay: ReplayFile,
        /// File to write; standard output when left out
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

#[derive(Args)]
pub(crate) struct ReplayFile {
    /// A replay's id, a `.wlr` file, or (to verify) the address of a session on a chain
    #[arg(value_name = "REPLAY")]
    name: String,
    #[command(flatten)]
    folders: Folders,
}

#[derive(Args)]
pub(crate) struct VerifyOptions {
    #[command(flatten)]
    replay: ReplayFile,
    #[cfg(feature = "chain")]
    #[command(flatten)]
    chain: crate::chain::verify::SessionSources,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl ReplayFile {
    fn read(&self) -> Result<Recording> {
        let path = Path::new(&self.name);
        if path.extension().is_some() {
            let bytes =
                fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
            return Recording::decode(&bytes)
                .with_context(|| format!("cannot read {}", path.display()));
        }
        let id: MatchId = self.name.parse()?;
        Ok(Store::browse(&self.folders.data).replay(id)?)
    }

    fn world(&self, recording: &Recording) -> Result<Arc<World>> {
        let root = &recording.session.world_root;
        let shelf = Shelf::open(&self.folders.worlds)?;
        let Some(world) = shelf.by_root(root) else {
            bail!(
                "no cartridge in {} has the Merkle root {} that this replay was played on: put it there, or name its folder with --worlds",
                self.folders.worlds.display(),
                hex(root)
            );
        };
        Ok(world.clone())
    }
}

pub(crate) fn replay(command: ReplayCommand) -> Result<ExitCode> {
    match command {
        ReplayCommand::List { folders, json } => {
            let replays = Store::browse(&folders.data).list()?;
            if json {
                table::json(&replays)?
            } else {
                print_list(&replays)
            }
        }
        ReplayCommand::Show { replay, json } => show(&replay.read()?, json)?,
        #[cfg(feature = "chain")]
        ReplayCommand::Fetch(options) => crate::chain::verify::fetch(&options)?,
        ReplayCommand::Export { replay, output } => {
            let recording = replay.read()?;
            let frames = serde_json::to_vec(&json_frames(&recording, &replay.world(&recording)?))?;
            match output {
                Some(path) => fs::write(&path, frames)
                    .with_context(|| format!("cannot write {}", path.display()))?,
                None => std::io::stdout().write_all(&frames)?,
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn length(frames: u32) -> String {
    format!("{}:{:02}", frames / FPS / 60, frames / FPS % 60)
}

fn outcome(result: &ResultView) -> String {
    match result.winner {
        Some(seat) => format!("seat {seat} by {}", result.reason),
        None => format!("draw by {}", result.reason),
    }
}

fn print_list(replays: &[ReplayView]) {
    let rows: Vec<_> = replays
        .iter()
        .map(|replay| {
            [
                replay.id.to_string(),
                length(replay.result.frames),
                replay.seats.join(" - "),
                outcome(&replay.result),
                format!("{} - {}", replay.result.stocks[0], replay.result.stocks[1]),
                format!("{} kB", replay.bytes.div_ceil(1000)),
            ]
        })
        .collect();
    table::print(
        ["REPLAY", "LENGTH", "SEATS", "RESULT", "STOCKS", "SIZE"],
        &rows,
    );
}

fn show(recording: &Recording, json: bool) -> Result<()> {
    let session = &recording.session;
    let result = ResultView::new(&recording.result, None);
    let id = String::from_utf8_lossy(&session.id);
    let id = id.trim_end_matches('\0');
    let signed = |seat: u8| {
        recording
            .signatures
            .iter()
            .filter(|one| one.seat == seat)
            .count()
    };
    if json {
        return table::json(&serde_json::json!({
            "session": id,
            "world_root": hex(&session.world_root),
            "created": session.created,
            "stage": session.stage,
            "characters": session.characters,
            "session_keys": session.session_keys.map(|key| hex(&key)),
            "signatures": [signed(0), signed(1)],
            "result": result,
        }));
    }
    let row = |name: &str, value: String| [name.to_string(), value];
    table::print(
        ["SESSION", id],
        &[
            row("world", hex(&session.world_root)),
            row("stage", session.stage.to_string()),
            row(
                "characters",
                format!("{} - {}", session.characters[0], session.characters[1]),
            ),
            row(
                "length",
                format!("{} ({} frames)", length(result.frames), result.frames),
            ),
            row("result", outcome(&result)),
            row(
                "stocks",
                format!("{} - {}", result.stocks[0], result.stocks[1]),
            ),
            row(
                "percent",
                format!("{:.1} - {:.1}", result.percent[0], result.percent[1]),
            ),
            row("signatures", format!("{} - {}", signed(0), signed(1))),
            row("rule hits", result.rule_hits.to_string()),
        ],
    );
    Ok(())
}

impl VerifyOptions {
    fn report(&self) -> Result<Report> {
        #[cfg(feature = "chain")]
        if let Some(session) = crate::chain::verify::session(&self.replay.name) {
            return self.chain.check(&session);
        }
        let recording = self.replay.read()?;
        let world = self.replay.world(&recording)?;
        Ok(worldline_arena::verify(&recording, &world))
    }
}

pub(crate) fn verify(options: &VerifyOptions) -> Result<ExitCode> {
    let report = options.report()?;
    if options.json {
        table::json(&report)?;
    } else {
        println!(
            "{}: {}",
            if report.valid { "valid" } else { "NOT VALID" },
            report.detail
        );
    }
    Ok(if report.valid {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
