//! Training, quantizing and measuring: the feature `train`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::Serialize;
use worldline_cartridge::{Cartridge, Provenance};
use worldline_trainer::calibrate;
use worldline_trainer::dataset::{Match, clips, start_states};
use worldline_trainer::evaluate::{self, Fp32, Int8, Report, Subject};
use worldline_trainer::free_run::{self, FreeRun};
use worldline_trainer::predict::Predictor;
use worldline_trainer::quantize::quantize;
use worldline_trainer::train::{self, Checkpoint};

use crate::replays::Replays;
use crate::table;

/// Clips that quantization looks at, and their frames.
const CALIBRATION_CLIPS: usize = 24;
const CALIBRATION_FRAMES: usize = 240;

#[derive(Args)]
pub(crate) struct TrainOptions {
    /// What to train, on what, and how long (TOML)
    config: PathBuf,
}

#[derive(Args)]
pub(crate) struct QuantizeOptions {
    /// A checkpoint (.safetensors)
    checkpoint: PathBuf,
    /// The cartridge to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    replays: Replays,
    /// The world's name, if not the checkpoint's
    #[arg(long)]
    name: Option<String>,
    /// The author's version of this world
    #[arg(long, default_value_t = 1)]
    world_version: u32,
}

#[derive(Args)]
pub(crate) struct CalibrateOptions {
    /// A checkpoint (.safetensors)
    checkpoint: PathBuf,
    /// The checkpoint to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// The configuration it was trained with
    #[arg(long, value_name = "CONFIG")]
    config: PathBuf,
    #[command(flatten)]
    replays: Replays,
}

#[derive(Args)]
pub(crate) struct EvaluateOptions {
    /// A cartridge (.cart), a checkpoint (.safetensors), or both side by side
    #[arg(value_name = "WORLD", num_args = 1..=2, required = true)]
    worlds: Vec<PathBuf>,
    #[command(flatten)]
    replays: Replays,
    /// Random places to play on from
    #[arg(long, default_value_t = 1000)]
    starts: usize,
    /// Chooses the places, and what pilots do
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Measure on every match, not only on those held back from training
    #[arg(long)]
    all: bool,
    /// Also play whole matches and watch for what no real match does
    #[arg(long)]
    free_run: bool,
    /// Whole matches for each way to hold the controllers
    #[arg(long, value_name = "N", default_value_t = 6)]
    matches: usize,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Write the table as Markdown
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Write a plot by horizon
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

/// Trains until done or Ctrl-C; a second Ctrl-C ends the process at once.
pub(crate) fn train(options: &TrainOptions) -> Result<ExitCode> {
    let config = train::read_config(&options.config)?;
    let stop = Arc::new(AtomicBool::new(false));
    let runtime = tokio::runtime::Runtime::new()?;
    let asked = stop.clone();
    runtime.spawn(async move {
        while tokio::signal::ctrl_c().await.is_ok() {
            if asked.swap(true, Ordering::Relaxed) {
                std::process::exit(130);
            }
            eprintln!("stopping after this step; the same command goes on from here");
        }
    });
    train::run(&config, &stop)?;
    Ok(ExitCode::SUCCESS)
}

/// Moves a checkpoint's gates so that rare events are foretold as often as they happen.
pub(crate) fn calibrate(options: &CalibrateOptions) -> Result<ExitCode> {
    let mut checkpoint = Checkpoint::load(&options.checkpoint)?;
    let config = train::read_config(&options.config)?;
    let dataset = options.replays.load()?;
    let matches = dataset.split(options.replays.split).training;
    let gates = calibrate::gates(&mut checkpoint, &config.events, &matches)?;
    checkpoint.save(&options.output)?;
    table::json(&gates)?;
    Ok(ExitCode::SUCCESS)
}

/// Turns a checkpoint into a cartridge.
pub(crate) fn to_cartridge(options: &QuantizeOptions) -> Result<ExitCode> {
    let checkpoint = Checkpoint::load(&options.checkpoint)?;
    let dataset = options.replays.load()?;
    let matches = dataset.split(options.replays.split).training;
    let calibration: Vec<_> = clips(&matches, CALIBRATION_FRAMES, CALIBRATION_CLIPS, 1)
        .iter()
        .map(|clip| clip.sequence())
        .collect();
    let (training_matches, training_frames) = checkpoint.trained_on;
    let provenance = Provenance {
        name: options.name.clone().unwrap_or(checkpoint.name),
        world_version: options.world_version,
        training_matches,
        training_frames,
        ..Provenance::default()
    };
    let starts = start_states(&matches);
    let report = quantize(
        &options.checkpoint,
        &calibration,
        &starts,
        &provenance,
        &options.output,
    )?;
    table::json(&report)?;
    Ok(ExitCode::SUCCESS)
}

/// What `evaluate --json` prints.
#[derive(Serialize)]
struct Evaluation {
    fidelity: Report,
    #[serde(skip_serializing_if = "Option::is_none")]
    free_run: Option<FreeRun>,
}

/// Measures a world against what really happened.
pub(crate) fn evaluate(options: &EvaluateOptions) -> Result<ExitCode> {
    let (mut cartridge, mut checkpoint) = (None, None);
    for path in &options.worlds {
        if path.extension().is_some_and(|kind| kind == "cart") {
            cartridge = Some(Cartridge::open(path)?);
        } else {
            checkpoint = Some(Predictor::new(&Checkpoint::load(path)?)?);
        }
    }
    let int8 = cartridge.as_ref().map(Int8);
    let fp32 = checkpoint.as_ref().map(Fp32);
    let int8 = int8.as_ref().map(|one| one as &dyn Subject);
    let fp32 = fp32.as_ref().map(|one| one as &dyn Subject);
    let subjects: Vec<&dyn Subject> = int8.into_iter().chain(fp32).collect();
    if subjects.len() != options.worlds.len() {
        bail!("two worlds of the same kind: give one cartridge, one checkpoint, or one of each");
    }

    let dataset = options.replays.load()?;
    let matches: Vec<&Match> = if options.all {
        dataset.matches.iter().collect()
    } else {
        dataset.split(options.replays.split).validation
    };
    let settings = evaluate::Options {
        starts: options.starts,
        seed: options.seed,
    };
    let name = options.worlds[0].file_stem().unwrap_or_default();
    let name = name.to_string_lossy();
    let fidelity = evaluate::evaluate(&name, &subjects, &matches, settings)?;
    write(options.markdown.as_deref(), || fidelity.markdown())?;
    write(options.svg.as_deref(), || fidelity.svg())?;

    let free_run = options.free_run.then(|| {
        let starts = match &cartridge {
            Some(cartridge) => cartridge.model().starts().to_vec(),
            None => start_states(&matches),
        };
        let settings = free_run::Options {
            matches: options.matches,
            seed: options.seed,
            ..free_run::Options::default()
        };
        free_run::free_run(subjects[0], &free_run::scenes(&starts, &matches), settings)
    });
    let evaluation = Evaluation { fidelity, free_run };
    if options.json {
        table::json(&evaluation)?;
    } else {
        print!("{}", evaluation.fidelity);
        if let Some(free_run) = &evaluation.free_run {
            print!("\n{free_run}");
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn write(path: Option<&Path>, text: impl FnOnce() -> String) -> Result<()> {
    match path {
        None => Ok(()),
        Some(path) => {
            fs::write(path, text()).with_context(|| format!("cannot write {}", path.display()))
        }
    }
}
