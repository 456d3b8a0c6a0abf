//! `worldline bench cabinet`: matches on our own chains, through the client that plays them, beside
//! the same frames without a chain.

use std::io::{BufRead, BufReader};
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::Serialize;
use tokio::runtime::Runtime;
use worldline_abi::{Pad, button, kernels};
use worldline_arena::bench::{Micros, frame_cost};
use worldline_arena::limits::FRAMES_PER_SECOND;
use worldline_arena::{Recording, Shelf, World};
use worldline_cabinet::bench::{self as engine, Load, Spread, Timing};
use worldline_cartridge::testing::{self, cartridge};
use worldline_chain::bench::{self as client, Seated, seat};
use worldline_chain::limits::LAMPORTS_PER_SOL;
use worldline_chain::play::{Frames, press, run as play};
use worldline_chain::session::NewSession;
use worldline_chain::table::Chains;
use worldline_chain::upload::{Terms, default_id, upload};
use worldline_chain::{Address, Keypair, Program, Signer};

use super::{Output, Size, parse_count, promise};
use crate::chain::up::{OwnChains, Running};
use crate::table;

/// Frames timed with every syscall, and with the matrix alone, which takes ten times as long.
const FRAMES: usize = 600;
const FRAMES_MATMUL: usize = 60;
/// Plain frames sent, and seconds that pads are answered between them.
const PLAIN_FRAMES: u32 = 300;
const PLAIN_SECONDS: u32 = 6;
/// Enough for the world's deposit and those of every session.
const SOL: u64 = 10_000;
/// Frames that a player's pad stays as it is.
const HOLD: usize = 6;
/// Longest wait for a match to begin.
const PATIENCE: Duration = Duration::from_secs(30);
/// What is measured of a match begins so long after its first frame and ends so many frames before its
/// last: how matches begin and end beside each other is no part of it.
const SETTLE: Duration = Duration::from_secs(2);
const REST: u32 = 60;

#[derive(Args)]
pub(crate) struct Options {
    /// Matches that are played at once
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = parse_count)]
    sessions: usize,
    /// Seconds that each match is played
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(5..=600))]
    seconds: u32,
    /// A shell's command that starts another rollup, which is measured beside ours and runs no longer than
    /// that: it prints the URLs of its L1, which has the program, and of itself on one line, and ends with
    /// its standard input
    #[arg(long, value_name = "COMMAND")]
    beside: Option<String>,
    #[command(flatten)]
    own: OwnChains,
    #[command(flatten)]
    output: Output,
}

#[derive(Serialize)]
pub(super) struct Report {
    /// The engine before any program does anything.
    engine: engine::Report,
    /// A frame at small on this machine, without a chain.
    pub(super) native_frame_us: Micros,
    /// The same frame as a transaction.
    pub(super) frame_us: FrameRow,
    /// What a chain without our functions can do too: a world of the smallest size in plain
    /// instructions, its frames sent one by one, over HTTP and WebSockets.
    plain: PlainRow,
    /// One match, nothing beside it.
    pub(super) one: Live,
    /// Many matches at once.
    pub(super) many: Live,
    /// A match of those, executed again.
    pub(super) verify: Verified,
}

/// By what the session multiplies with.
#[derive(Serialize)]
pub(super) struct FrameRow {
    pub(super) syscalls: Spread,
    matmul: Spread,
}

#[derive(Serialize)]
struct PlainRow {
    ours: Plain,
    /// Another rollup, where one was named.
    beside: Option<Plain>,
}

#[derive(Serialize)]
struct Plain {
    /// A transaction that does nothing, from its request to the chain's word that it landed.
    empty_ms: Spread,
    /// A frame, from its request to its state.
    frame_ms: Spread,
    /// From sending a pad to the state that has it.
    response_ms: Spread,
    responses: usize,
}

#[derive(Serialize)]
pub(super) struct Live {
    pub(super) sessions: usize,
    seconds: u32,
    /// How the rollup kept time.
    pub(super) timing: Timing,
    /// From sending a pad over HTTP to the state that has it, on a WebSocket.
    pub(super) response_ms: Spread,
    responses: usize,
}

#[derive(Serialize)]
pub(super) struct Verified {
    frames: u32,
    millis: f64,
    /// How many times faster than it was played.
    pub(super) speed: f64,
}

pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let folder = std::env::temp_dir().join(format!("worldline-bench-{}", std::process::id()));
    let report = measure(options, &folder);
    // Nothing of a benchmark is worth keeping, whether it went well or not.
    let _ = std::fs::remove_dir_all(&folder);
    let report = report?;
    if options.output.json {
        table::json(&report)?;
        return Ok(ExitCode::SUCCESS);
    }
    if options.output.check {
        return Ok(promise::check(&promise::cabinet(&report)));
    }
    print(&report);
    Ok(ExitCode::SUCCESS)
}

fn measure(options: &Options, folder: &Path) -> Result<Report> {
    let runtime = Runtime::new().context("cannot start threads")?;
    eprintln!("the engine, alone");
    let engine = runtime.block_on(engine::run(&folder.join("engine"), Load::default()))?;
    let world = Size::Small.world();
    let native_frame_us = frame_cost(&world).early_us;
    let shelf = Arc::new(Shelf::new(Vec::new()));
    let own = options.own.anywhere();
    // No keeper: this runs its matches itself.
    let running = runtime.block_on(own.start(folder, Ipv4Addr::LOCALHOST.into(), shelf))?;
    eprintln!("uploading a world");
    let bench = Bench::open(runtime, running)?;
    eprintln!("single frames");
    let frame_us = FrameRow {
        syscalls: bench.frame(kernels::SYSCALLS, FRAMES)?,
        matmul: bench.frame(kernels::MATMUL, FRAMES_MATMUL)?,
    };
    eprintln!(
        "plain frames, here{}",
        options.beside.as_ref().map_or("", |_| " and beside")
    );
    let plain = PlainRow {
        ours: plain(&bench.chains, &bench.payer)?,
        beside: options.beside.as_deref().map(other).transpose()?,
    };
    eprintln!("matches: 1, then {}", options.sessions);
    let (one, _) = bench.live(1, options.seconds)?;
    let (many, recordings) = bench.live(options.sessions, options.seconds)?;
    let verify = verify(&recordings, &world)?;
    bench.running.stop();
    Ok(Report {
        engine,
        native_frame_us,
        frame_us,
        plain,
        one,
        many,
        verify,
    })
}

/// The same on chains that are not ours to look into.
fn other(command: &str) -> Result<Plain> {
    let mut shell = Command::new("sh");
    shell.args(["-c", command]);
    let spawned = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut child = spawned.with_context(|| format!("cannot start `{command}`"))?;
    let mut line = String::new();
    if let Some(output) = child.stdout.take() {
        BufReader::new(output).read_line(&mut line)?;
    }
    let Some((l1, rollup)) = line.trim().split_once(' ') else {
        bail!("`{command}` did not say where its chains are: two URLs on a line");
    };
    let chains = crate::chain::up::chains(l1, rollup);
    let measured = rich(&chains).and_then(|payer| plain(&chains, &payer));
    // It ends with its standard input, and would take time from what is measured next.
    drop(child.stdin.take());
    child.wait()?;
    measured
}

/// A new wallet with enough for everything, from L1's faucet.
fn rich(chains: &Chains) -> Result<Keypair> {
    let payer = Keypair::new();
    let given = chains.l1.airdrop(&payer.pubkey(), SOL * LAMPORTS_PER_SOL)?;
    chains.l1.confirm(&given)?;
    Ok(payer)
}

/// Puts a world of random weights onto L1.
fn put(chains: &Chains, payer: &Keypair, size: testing::Size) -> Result<(Address, WorldChoice)> {
    let file = cartridge(size, 1);
    let terms = Terms {
        id: default_id(file.manifest()),
        fee: 0,
    };
    let at = upload(&chains.l1, Program::default(), payer, terms, &file, &|_| ())?;
    let world = World::new("bench", file, serde_json::Value::Null);
    let stage = world.stages()[0];
    let characters = [world.characters(stage)[0]; 2];
    Ok((at.address, WorldChoice { stage, characters }))
}

/// Where and as whom everybody plays.
#[derive(Clone, Copy)]
struct WorldChoice {
    stage: u8,
    characters: [u8; 2],
}

fn seat_two(
    chains: &Chains,
    payer: &Keypair,
    (world, choice): (&Address, WorldChoice),
    kernels: u8,
    clock: u32,
) -> Result<Seated> {
    let new = NewSession {
        stage: choice.stage,
        clock,
        generator: 1,
        kernels,
        operator: None,
        in_parts: false,
    };
    let program = Program::default();
    Ok(seat(
        chains,
        program,
        payer,
        world,
        &new,
        choice.characters,
    )?)
}

/// Plain frames and what is pressed between them, by the client alone.
fn plain(chains: &Chains, payer: &Keypair) -> Result<Plain> {
    let (world, choice) = put(chains, payer, testing::Size::Interop)?;
    let seated = |clock| seat_two(chains, payer, (&world, choice), kernels::PLAIN, clock);
    let millis = |times: Vec<Duration>| {
        engine::spread(times.iter().map(|time| time.as_secs_f64() * 1e3).collect())
    };
    let empty_ms = millis(client::empty(&chains.rollup, payer, PLAIN_FRAMES)?);
    let frame_ms = millis(client::frames(chains, &seated(0)?, payer, PLAIN_FRAMES)?);
    let clock = PLAIN_SECONDS * FRAMES_PER_SECOND;
    let seated = seated(clock)?;
    let times = std::thread::scope(|scope| {
        let (found, sent) = (&seated.found, Frames::Sent);
        let run = move || {
            Ok(play(
                chains,
                found,
                payer,
                sent,
                PATIENCE,
                None,
                &mut |_| (),
            )?)
        };
        let run = scope.spawn(run);
        let times = client::responses(chains, &seated, 0, clock - REST)?;
        joined(run)?;
        anyhow::Ok(times)
    })?;
    Ok(Plain {
        empty_ms,
        frame_ms,
        responses: times.len(),
        response_ms: millis(times),
    })
}

/// Both chains, and the world of random weights on them.
struct Bench {
    runtime: Runtime,
    running: Running,
    chains: Chains,
    payer: Keypair,
    world: Address,
    choice: WorldChoice,
}

impl Bench {
    fn open(runtime: Runtime, running: Running) -> Result<Self> {
        let chains = running.chains().clone();
        let payer = rich(&chains)?;
        let (world, choice) = put(&chains, &payer, testing::Size::Small)?;
        Ok(Self {
            runtime,
            running,
            chains,
            payer,
            world,
            choice,
        })
    }

    fn seat(&self, kernels: u8, clock: u32) -> Result<Seated> {
        let what = (&self.world, self.choice);
        seat_two(&self.chains, &self.payer, what, kernels, clock)
    }

    /// One session's frames, one after the other.
    fn frame(&self, kernels: u8, count: usize) -> Result<Spread> {
        let found = self.seat(kernels, 0)?.found;
        let rpc = &self.chains.rollup;
        let program = found.at.program;
        let world = worldline_chain::read::read(&program, &self.chains.l1, &self.world)?;
        let worldline_abi::WorldAccount { manifest, .. } = world;
        let call = |runner| found.at.run(&runner, &self.world, &manifest);
        // The rollup fetches what a transaction names when it is sent to it.
        let first = call(self.payer.pubkey());
        rpc.transact(&program.id, &[first], &[&self.payer])?;
        let frame = vec![call(self.running.rollup().identity())];
        Ok(self
            .runtime
            .block_on(engine::execute(self.running.rollup(), frame, count))?)
    }

    /// Matches in real time, every seat pressing; the answers to one of them are timed.
    fn live(&self, sessions: usize, seconds: u32) -> Result<(Live, Vec<Recording>)> {
        let clock = seconds * FRAMES_PER_SECOND;
        let seated = (0..sessions).map(|_| self.seat(kernels::SYSCALLS, clock));
        let seated = seated.collect::<Result<Vec<_>>>()?;
        let (times, timing, recordings) = std::thread::scope(|scope| {
            let runs: Vec<_> = seated
                .iter()
                .map(|one| scope.spawn(|| self.record(one)))
                .collect();
            let mut presses = Vec::new();
            for (at, one) in seated.iter().enumerate() {
                // The first seat of the first match is the one whose answers are timed.
                for seat in u8::from(at == 0)..2 {
                    presses.push(scope.spawn(move || self.press(one, seat)));
                }
            }
            std::thread::sleep(SETTLE);
            self.runtime
                .block_on(engine::timing(self.running.rollup()))?;
            let times = client::responses(&self.chains, &seated[0], 0, clock - REST)?;
            let timing = self
                .runtime
                .block_on(engine::timing(self.running.rollup()))?;
            for one in presses {
                joined(one)?;
            }
            let recordings = runs.into_iter().map(joined).collect::<Result<Vec<_>>>()?;
            anyhow::Ok((times, timing, recordings))
        })?;
        let millis = times.iter().map(|time| time.as_secs_f64() * 1e3);
        let live = Live {
            sessions,
            seconds,
            timing,
            response_ms: engine::spread(millis.collect()),
            responses: times.len(),
        };
        Ok((live, recordings))
    }

    fn record(&self, seated: &Seated) -> Result<Recording> {
        let (chains, found) = (&self.chains, &seated.found);
        Ok(play(
            chains,
            found,
            &self.payer,
            Frames::Scheduled,
            PATIENCE,
            None,
            &mut |_| (),
        )?)
    }

    fn press(&self, seated: &Seated, seat: u8) -> Result<u32> {
        let pads = [0, button::A, 0, button::B].map(|buttons| Pad {
            buttons,
            ..Pad::default()
        });
        let pads: Vec<Pad> = pads
            .iter()
            .cycle()
            .flat_map(|pad| [*pad; HOLD])
            .take(65_536)
            .collect();
        let key = &seated.keys[usize::from(seat)];
        Ok(press(
            &self.chains,
            &seated.found,
            key,
            seat,
            &pads,
            PATIENCE,
            None,
        )?)
    }
}

fn joined<T>(thread: ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    match thread.join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Executes the last match again; in the first, the seat whose answers were timed signs nothing.
fn verify(recordings: &[Recording], world: &Arc<World>) -> Result<Verified> {
    let recording = recordings.last().context("no match was played")?;
    let start = Instant::now();
    let report = worldline_arena::verify(recording, world);
    let time = start.elapsed();
    if !report.valid {
        bail!(
            "a match that was just played is not valid: {}",
            report.detail
        );
    }
    let played = f64::from(recording.frames()) / f64::from(FRAMES_PER_SECOND);
    Ok(Verified {
        frames: recording.frames(),
        millis: time.as_secs_f64() * 1e3,
        speed: played / time.as_secs_f64(),
    })
}

fn print(report: &Report) {
    let Report {
        engine,
        native_frame_us,
        frame_us,
        plain,
        one,
        many,
        verify,
    } = report;
    let cost = |name: &str, micros: f64, tail: f64| {
        [name.into(), format!("{micros:.0}"), format!("{tail:.0}")]
    };
    let spread = |name: &str, spread: &Spread| cost(name, spread.p50, spread.p95);
    table::print(
        ["µs", "HALF", "95 %"],
        &[
            spread("an empty transaction", &engine.empty_transaction_us),
            cost(
                "a frame at small, native",
                native_frame_us.median,
                native_frame_us.p99,
            ),
            spread("as a transaction", &frame_us.syscalls),
            spread("with sol_matmul_i8 alone", &frame_us.matmul),
        ],
    );
    println!();
    print_plain(plain);
    println!();
    let live = |live: &Live| {
        let Timing { runs, missed, .. } = live.timing;
        let Spread { p50, p95, .. } = live.response_ms;
        [
            live.sessions.to_string(),
            runs.to_string(),
            missed.to_string(),
            format!("{:.1}", live.timing.latest_us as f64 / 1e3),
            format!("{p50:.1}"),
            format!("{p95:.1}"),
        ]
    };
    table::print(
        [
            "MATCHES",
            "FRAMES",
            "MISSED",
            "LATEST ms",
            "ANSWER ms",
            "95 %",
        ],
        &[live(one), live(many)],
    );
    println!(
        "\na match of {} frames is verified {:.0} times faster than it was played",
        verify.frames, verify.speed
    );
}

/// One row for each rollup.
fn print_plain(plain: &PlainRow) {
    let row = |name: &str, plain: &Plain| {
        let pair = |spread: &Spread| format!("{:.1} ({:.1})", spread.p50, spread.p95);
        [
            name.into(),
            pair(&plain.empty_ms),
            pair(&plain.frame_ms),
            pair(&plain.response_ms),
        ]
    };
    let mut rows = vec![row("ours", &plain.ours)];
    rows.extend(plain.beside.as_ref().map(|beside| row("beside", beside)));
    table::print(["PLAIN, ms (95 %)", "EMPTY", "A FRAME", "ANSWER"], &rows);
    if plain.beside.is_none() {
        println!("no other rollup: name one with --beside");
    }
}
