//! `worldline bench`: this machine's figures, on random weights: speed does not depend on what the
//! weights say.

use std::fmt::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;
use worldline_arena::World;
use worldline_arena::bench::{FrameCost, SessionsReport, frame_cost, sessions};
use worldline_cartridge::testing::{self, cartridge};
use worldline_mamba2::Native;
use worldline_mamba2::bench::{BatchReport, Parts, Timing, batch, frame};
use worldline_mamba2::sample;

use crate::table;

#[cfg(feature = "cabinet")]
mod cabinet;
pub(crate) mod promise;

/// Runs whose median is given, unless told otherwise.
const RUNS: usize = 300;
/// Matches of a batch, and how often it is run.
const BATCH: usize = 64;
const BATCH_RUNS: usize = 20;

#[derive(Subcommand)]
pub(crate) enum BenchCommand {
    /// Time one frame by every kernel, beside a plain read of the same weights; and a batch of 64
    Physics(PhysicsOptions),
    /// Play many live matches at once, and copy them
    Sessions(SessionsOptions),
    /// Keep and branch code worlds, beside the start of a container of the same image
    #[cfg(feature = "worlds")]
    Branch(crate::worlds::bench::Options),
    /// Play matches on our own chains: what a frame costs there, and how soon a pad is answered
    #[cfg(feature = "cabinet")]
    Cabinet(cabinet::Options),
}

#[derive(Args)]
pub(crate) struct PhysicsOptions {
    /// Sizes to time; all when left out
    #[arg(long = "size", value_name = "SIZE")]
    sizes: Vec<Size>,
    /// Frames timed by each kernel
    #[arg(long, value_name = "N", default_value_t = RUNS, value_parser = parse_count)]
    runs: usize,
    #[command(flatten)]
    output: Output,
}

#[derive(Args)]
pub(crate) struct SessionsOptions {
    /// Live matches
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = parse_count)]
    matches: usize,
    /// Seconds to play
    #[arg(long, value_name = "N", default_value_t = 20)]
    seconds: u64,
    /// Threads that run frames
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = parse_count)]
    clocks: usize,
    /// Size of the world
    #[arg(long, value_enum, default_value_t = Size::Small)]
    size: Size,
    #[command(flatten)]
    output: Output,
}

#[derive(Args)]
struct Output {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Say which promises of SPECIFICATION.md the figures keep, and fail if one is broken
    #[arg(long, conflicts_with = "json")]
    check: bool,
}

fn parse_count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count @ 1..=100_000) => Ok(count),
        _ => Err("give a number from 1 to 100000".into()),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum Size {
    Micro,
    Tiny,
    Small,
    Full,
}

impl Size {
    fn network(self) -> sample::Size {
        match self {
            Self::Micro => sample::Size::MICRO,
            Self::Tiny => sample::Size::TINY,
            Self::Small => sample::Size::SMALL,
            Self::Full => sample::Size::FULL,
        }
    }

    fn world(self) -> Arc<World> {
        let size = match self {
            Self::Micro => testing::Size::Micro,
            Self::Tiny => testing::Size::Tiny,
            Self::Small => testing::Size::Small,
            Self::Full => testing::Size::Full,
        };
        World::new(
            format!("random-{self:?}").to_lowercase(),
            cartridge(size, 1),
            serde_json::Value::Null,
        )
    }
}

/// Microseconds.
#[derive(Clone, Copy, Serialize)]
struct Micros {
    least: f64,
    median: f64,
    p99: f64,
}

impl From<Timing> for Micros {
    fn from(timing: Timing) -> Self {
        let [least, median, p99] = [timing.least, timing.median, timing.p99].map(micros);
        Self { least, median, p99 }
    }
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

#[derive(Serialize)]
struct Physics {
    /// The kernel that matches run on here.
    kernel: &'static str,
    runs: usize,
    sizes: Vec<FrameRow>,
    batch: BatchRow,
    /// The whole step (encode, network, decode) at small.
    whole_step: FrameCost,
}

#[derive(Serialize)]
struct FrameRow {
    size: Size,
    weight_bytes: usize,
    read_us: Micros,
    read_gb_per_s: f64,
    kernels: Vec<KernelRow>,
}

#[derive(Serialize)]
struct KernelRow {
    kernel: &'static str,
    frame_us: Micros,
    /// Median frame over median read.
    times_read: f64,
}

#[derive(Serialize)]
struct BatchRow {
    size: Size,
    sessions: usize,
    single_us: PartsRow,
    batch_us: PartsRow,
    speedup: f64,
}

/// Microseconds a frame and session.
#[derive(Serialize)]
struct PartsRow {
    matrices: f64,
    scan: f64,
    total: f64,
}

impl From<Parts> for PartsRow {
    fn from(parts: Parts) -> Self {
        let [matrices, scan, total] = [parts.matrices, parts.scan, parts.total].map(micros);
        Self {
            matrices,
            scan,
            total,
        }
    }
}

pub(crate) fn run(command: BenchCommand) -> Result<ExitCode> {
    match command {
        BenchCommand::Physics(options) => physics(&options),
        BenchCommand::Sessions(options) => live(&options),
        #[cfg(feature = "worlds")]
        BenchCommand::Branch(options) => crate::worlds::bench::run(&options),
        #[cfg(feature = "cabinet")]
        BenchCommand::Cabinet(options) => cabinet::run(&options),
    }
}

fn physics(options: &PhysicsOptions) -> Result<ExitCode> {
    let sizes = if options.sizes.is_empty() {
        Size::value_variants()
    } else {
        options.sizes.as_slice()
    };
    let report = Physics {
        kernel: Native::detect().name(),
        runs: options.runs,
        sizes: sizes
            .iter()
            .map(|size| frame_row(*size, options.runs))
            .collect(),
        batch: batch_row(&batch(Size::Small.network(), BATCH, BATCH_RUNS)),
        whole_step: frame_cost(&Size::Small.world()),
    };
    if options.output.json {
        table::json(&report)?;
        return Ok(ExitCode::SUCCESS);
    }
    if options.output.check {
        return Ok(promise::check(&promise::physics(&report)));
    }
    let rows: Vec<_> = report
        .sizes
        .iter()
        .flat_map(|row| row.kernels.iter().map(move |kernel| (row, kernel)))
        .map(|(row, kernel)| {
            [
                format!("{:?}", row.size).to_lowercase(),
                kernel.kernel.to_string(),
                format!("{:.1}", kernel.frame_us.median),
                format!("{:.1}", kernel.frame_us.p99),
                format!("{:.1}", row.read_us.median),
                format!("{:.1} x", kernel.times_read),
            ]
        })
        .collect();
    table::print(
        [
            "SIZE",
            "KERNEL",
            "FRAME us",
            "P99 us",
            "READ us",
            "FRAME/READ",
        ],
        &rows,
    );
    let mut text = String::new();
    let BatchRow {
        sessions,
        single_us,
        batch_us,
        speedup,
        ..
    } = &report.batch;
    writeln!(
        text,
        "\n{sessions} matches at small: {speedup:.2} x the frames of single steps"
    )?;
    for (name, parts) in [("single", single_us), ("batch", batch_us)] {
        writeln!(
            text,
            "  {name:<6}  matrices {:.1} us, scan {:.1} us, together {:.1} us a frame",
            parts.matrices, parts.scan, parts.total
        )?;
    }
    let FrameCost { early_us, late_us } = report.whole_step;
    write!(
        text,
        "whole step at small: {:.1} us at the start of a match, {:.1} us after frame 10,000",
        early_us.median, late_us.median
    )?;
    println!("{text}");
    Ok(ExitCode::SUCCESS)
}

fn frame_row(size: Size, runs: usize) -> FrameRow {
    let report = frame(size.network(), runs);
    let read = report.read.median.as_secs_f64();
    let kernel = |&(kernel, timing): &(&'static str, Timing)| KernelRow {
        kernel,
        frame_us: timing.into(),
        times_read: timing.median.as_secs_f64() / read,
    };
    FrameRow {
        size,
        weight_bytes: report.weight_bytes,
        read_us: report.read.into(),
        read_gb_per_s: report.weight_bytes as f64 / read / 1e9,
        kernels: report.frames.iter().map(kernel).collect(),
    }
}

fn batch_row(report: &BatchReport) -> BatchRow {
    BatchRow {
        size: Size::Small,
        sessions: report.sessions,
        single_us: report.single.into(),
        batch_us: report.batch.into(),
        speedup: report.speedup(),
    }
}

fn live(options: &SessionsOptions) -> Result<ExitCode> {
    let folder = std::env::temp_dir().join(format!("worldline-bench-{}", std::process::id()));
    let report = sessions(
        &options.size.world(),
        &folder,
        options.matches,
        options.seconds,
        options.clocks,
    );
    // Nothing of a benchmark is worth keeping, whether it went well or not.
    let _ = std::fs::remove_dir_all(&folder);
    let report = report?;
    if options.output.json {
        table::json(&report)?;
        return Ok(ExitCode::SUCCESS);
    }
    if options.output.check {
        return Ok(promise::check(&promise::sessions(&report)));
    }
    let SessionsReport {
        world,
        matches,
        seconds,
        clocks,
        due,
        timing,
        copy_us,
        copy_bytes,
    } = report;
    println!("{matches} live matches of {world} for {seconds} s on {clocks} clock threads");
    println!("  frames        {} of {due} due", timing.frames);
    println!("  missed ticks  {}", timing.missed_ticks);
    println!("  slips         {}", timing.slips);
    println!(
        "  latest begin  {:.2} ms after it was due",
        timing.worst_late_us as f64 / 1000.0
    );
    println!(
        "  copy          {:.1} us median, {:.1} us p99, {copy_bytes} bytes",
        copy_us.median, copy_us.p99
    );
    Ok(ExitCode::SUCCESS)
}
