//! What replays hold: their list, and controllers to be played against. The feature `train`.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::Serialize;
use worldline_arena::Ghost;
use worldline_trainer::dataset::{Dataset, Licences, Match, Sources, read_replay};

use crate::table;

/// Which replays, and which of them are held back.
#[derive(Args)]
pub(crate) struct Replays {
    /// Replays (.slp, .slpz): a file, a folder or a glob; may be given again
    #[arg(long, value_name = "PATH", required = true)]
    replays: Vec<String>,
    /// Use replays of any licence, not only MIT, ISC and Apache-2.0
    #[arg(long)]
    any_licence: bool,
    /// Seed of the split into training and validation matches, as in training
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    pub(crate) split: u64,
}

#[derive(Args)]
pub(crate) struct DatasetOptions {
    #[command(flatten)]
    replays: Replays,
    /// Print JSON, a line for each match included
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(crate) struct GhostOptions {
    /// A replay (.slp, .slpz)
    replay: PathBuf,
    /// Whose controller: 0 is the lower port
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=1))]
    seat: u8,
    /// The ghost to write; `worlds/ghost/NAME.bin` puts it on the shelf
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

impl Replays {
    pub(crate) fn load(&self) -> Result<Dataset> {
        let dataset = self.read()?;
        for (reason, count) in &dataset.skipped {
            eprintln!("{count} replays left out: {reason}");
        }
        Ok(dataset)
    }

    fn read(&self) -> Result<Dataset> {
        let mut sources = Sources::new(self.replays.iter().map(String::as_str));
        if !self.any_licence {
            sources.licences = Licences::permissive();
        }
        Ok(sources.load()?)
    }
}

/// What `dataset --json` prints.
#[derive(Serialize)]
struct Description<'a> {
    frames: u64,
    licences: BTreeMap<&'a str, u64>,
    left_out: BTreeMap<String, u64>,
    matches: Vec<Origin<'a>>,
}

/// A match, and what it is used for.
#[derive(Serialize)]
struct Origin<'a> {
    id: &'a str,
    licence: &'a str,
    stage: u8,
    characters: [u8; 2],
    frames: usize,
    validation: bool,
}

impl<'a> Origin<'a> {
    fn of(one: &'a Match, split: u64) -> Self {
        Self {
            id: &one.id,
            licence: &one.licence,
            stage: one.stage,
            characters: one.characters,
            frames: one.frames.len(),
            validation: one.is_validation(split),
        }
    }
}

/// Says what replays hold, and why some are left out.
pub(crate) fn dataset(options: &DatasetOptions) -> Result<ExitCode> {
    let dataset = options.replays.read()?;
    let split = options.replays.split;
    let counts = dataset.skipped.iter();
    let description = Description {
        frames: dataset.frames(),
        licences: dataset.licences(),
        left_out: counts
            .map(|(reason, count)| (reason.to_string(), *count))
            .collect(),
        matches: dataset
            .matches
            .iter()
            .map(|one| Origin::of(one, split))
            .collect(),
    };
    if options.json {
        table::json(&description)?;
        return Ok(ExitCode::SUCCESS);
    }
    let kept = description.matches.len();
    let held_back = description
        .matches
        .iter()
        .filter(|one| one.validation)
        .count();
    println!(
        "{kept} matches of {} frames: {} to train on, {held_back} held back for validation\n",
        description.frames,
        kept - held_back
    );
    let counts = |name: &str, count: &u64| [name.to_owned(), count.to_string()];
    let licences = description.licences.iter();
    let licences: Vec<_> = licences
        .map(|(name, count)| counts(if name.is_empty() { "not stated" } else { name }, count))
        .collect();
    table::print(["LICENCE", "MATCHES"], &licences);
    let left_out = description.left_out.iter();
    let left_out: Vec<_> = left_out.map(|(why, count)| counts(why, count)).collect();
    if !left_out.is_empty() {
        println!();
        table::print(["LEFT OUT", "REPLAYS"], &left_out);
    }
    Ok(ExitCode::SUCCESS)
}

/// Takes one player's controller out of a replay, to be played against.
pub(crate) fn ghost(options: &GhostOptions) -> Result<ExitCode> {
    let path = options.replay.display();
    let bytes = fs::read(&options.replay).with_context(|| format!("cannot read {path}"))?;
    let replay = match read_replay(&bytes) {
        Ok(replay) => replay,
        Err(error) => bail!("{path} is no match to take a ghost from: {error}"),
    };
    let seat = usize::from(options.seat);
    let ghost = Ghost {
        stage: replay.stage,
        character: replay.characters[seat],
        pads: replay.frames.iter().map(|frame| frame[seat].pad).collect(),
    };
    fs::write(&options.output, ghost.encode())
        .with_context(|| format!("cannot write {}", options.output.display()))?;
    println!("{}: {} frames", options.output.display(), ghost.pads.len());
    Ok(ExitCode::SUCCESS)
}
