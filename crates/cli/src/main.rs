//! The `worldline` command: plays, lists, verifies and measures; with the feature `train` it also
//! trains, with `worlds` it runs worlds of code, with `chain` it speaks to chains, with `cabinet` it
//! starts them. It only reads arguments and prints: what a library could do, a library does.

mod bench;
#[cfg(feature = "chain")]
mod chain;
mod lists;
#[cfg(feature = "train")]
mod replays;
mod serve;
mod table;
#[cfg(feature = "train")]
mod train;
#[cfg(feature = "worlds")]
mod worlds;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

/// Play learned worlds: fighting games whose physics a network learned from human matches.
#[derive(Parser)]
#[command(name = "worldline", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start the arcade and open it in a browser
    Play(serve::Options),
    /// Start the arcade and print its address
    Serve(serve::Options),
    /// List the worlds on the shelf
    Worlds(lists::WorldsOptions),
    /// List, show and export stored replays
    #[command(subcommand)]
    Replay(lists::ReplayCommand),
    /// Re-execute a replay, or a match on a chain, and check every input signature
    Verify(lists::VerifyOptions),
    /// Put a cartridge onto a chain; goes on where an earlier try stopped
    #[cfg(feature = "chain")]
    Upload(chain::worlds::UploadOptions),
    /// Get a world's cartridge from a chain, the bytes that were uploaded
    #[cfg(feature = "chain")]
    Download(chain::worlds::DownloadOptions),
    /// Copy a world on a chain, under your own name
    #[cfg(feature = "chain")]
    Fork(chain::worlds::ForkOptions),
    /// Close a world of yours and get its deposit back
    #[cfg(feature = "chain")]
    Retire(chain::worlds::RetireOptions),
    /// Open, play and settle matches on a chain
    #[cfg(feature = "chain")]
    #[command(subcommand)]
    Session(chain::sessions::SessionCommand),
    /// Who wins in a world
    #[cfg(feature = "chain")]
    Leaderboard(chain::worlds::LeaderboardOptions),
    /// Chains themselves, the worlds on them, wallets
    #[cfg(feature = "chain")]
    #[command(subcommand)]
    Chain(chain::ChainCommand),
    /// Measure this machine
    #[command(subcommand)]
    Bench(bench::BenchCommand),
    /// Train a world or a policy on replays
    #[cfg(feature = "train")]
    Train(train::TrainOptions),
    /// Move a checkpoint's gates so that rare events are foretold as often as they happen
    #[cfg(feature = "train")]
    Calibrate(train::CalibrateOptions),
    /// Turn a checkpoint into a cartridge
    #[cfg(feature = "train")]
    Quantize(train::QuantizeOptions),
    /// Measure a world against real matches
    #[cfg(feature = "train")]
    Evaluate(train::EvaluateOptions),
    /// Say what replays hold, and why some are left out
    #[cfg(feature = "train")]
    Dataset(replays::DatasetOptions),
    /// Take one player's controller out of a replay, to be played against
    #[cfg(feature = "train")]
    Ghost(replays::GhostOptions),
    /// Worlds that run code, snapshot and branch
    #[cfg(feature = "worlds")]
    World(worlds::WorldOptions),
    /// Images that code worlds begin from
    #[cfg(feature = "worlds")]
    #[command(subcommand)]
    Image(worlds::ImageCommand),
    /// Say what this host gives for code worlds, and lacks
    #[cfg(feature = "worlds")]
    Doctor(worlds::DoctorOptions),
    /// Take back what removed snapshots hold
    #[cfg(feature = "worlds")]
    Gc(worlds::Server),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// Where worlds and replays are.
#[derive(Args, Clone)]
struct Folders {
    /// Folder of cartridges (`*.cart`)
    #[arg(long, value_name = "DIR", default_value = "worlds")]
    worlds: PathBuf,
    /// Folder for replays and the journals of live matches
    #[arg(long, value_name = "DIR", default_value_os_t = default_data())]
    data: PathBuf,
}

/// The user's data folder, or one beside where the command was started.
fn default_data() -> PathBuf {
    let folder = |name| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let home = || folder("HOME").map(|home| home.join(".local/share"));
    let local = || folder("LOCALAPPDATA");
    folder("XDG_DATA_HOME")
        .or_else(home)
        .or_else(local)
        .map_or_else(|| "worldline-data".into(), |base| base.join("worldline"))
}

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "warn".into()),
        )
        .with_writer(std::io::stderr)
        .init();
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("worldline: {}", in_words(&error));
            ExitCode::FAILURE
        }
    }
}

/// An error and its causes, each told once: most errors tell their cause in words of their own.
fn in_words(error: &anyhow::Error) -> String {
    let mut told = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !told.contains(&cause) {
            told = format!("{told}: {cause}");
        }
    }
    told
}

fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Play(options) => serve::run(options, true),
        Command::Serve(options) => serve::run(options, false),
        Command::Worlds(options) => lists::worlds(&options),
        Command::Replay(command) => lists::replay(command),
        Command::Verify(options) => lists::verify(&options),
        #[cfg(feature = "chain")]
        Command::Upload(options) => chain::worlds::upload(&options),
        #[cfg(feature = "chain")]
        Command::Download(options) => chain::worlds::download(&options),
        #[cfg(feature = "chain")]
        Command::Fork(options) => chain::worlds::fork(&options),
        #[cfg(feature = "chain")]
        Command::Retire(options) => chain::worlds::retire(&options),
        #[cfg(feature = "chain")]
        Command::Session(command) => chain::sessions::run(command),
        #[cfg(feature = "chain")]
        Command::Leaderboard(options) => chain::worlds::leaderboard(&options),
        #[cfg(feature = "chain")]
        Command::Chain(command) => chain::run(command),
        Command::Bench(command) => bench::run(command),
        #[cfg(feature = "train")]
        Command::Train(options) => train::train(&options),
        #[cfg(feature = "train")]
        Command::Calibrate(options) => train::calibrate(&options),
        #[cfg(feature = "train")]
        Command::Quantize(options) => train::to_cartridge(&options),
        #[cfg(feature = "train")]
        Command::Evaluate(options) => train::evaluate(&options),
        #[cfg(feature = "train")]
        Command::Dataset(options) => replays::dataset(&options),
        #[cfg(feature = "train")]
        Command::Ghost(options) => replays::ghost(&options),
        #[cfg(feature = "worlds")]
        Command::World(options) => worlds::world(options),
        #[cfg(feature = "worlds")]
        Command::Image(command) => worlds::image(command),
        #[cfg(feature = "worlds")]
        Command::Doctor(options) => worlds::doctor(&options),
        #[cfg(feature = "worlds")]
        Command::Gc(server) => worlds::collect(&server),
        Command::Completions { shell } => {
            clap_complete::generate(
                shell,
                &mut Cli::command(),
                "worldline",
                &mut std::io::stdout(),
            );
            Ok(ExitCode::SUCCESS)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_cause_is_told_once() {
        let opened = worldline_arena::Shelf::open("nowhere".as_ref());
        let error = anyhow::Error::from(opened.unwrap_err()).context("starting");
        let cause = std::fs::read_dir("nowhere").unwrap_err();
        assert_eq!(
            in_words(&error),
            format!(
                "starting: cannot read the shelf nowhere: {cause}; name the folder of cartridges with --worlds"
            )
        );
        let bare = anyhow::Error::from(cause).context("reading nowhere");
        assert_eq!(in_words(&bare), format!("{bare:#}"));
    }
}
