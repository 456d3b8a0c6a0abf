//! `worldline session …`: a match on a chain, one step a command.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use worldline_abi::{Pad, ResultAccount, end_reason, kernels, seat};
use worldline_arena::limits::FRAMES_PER_SECOND;
use worldline_arena::{Ghost, MatchId, Recording, ResultView, random_bytes};
use worldline_chain::play::Frames;
use worldline_chain::record::Frame;
use worldline_chain::session::{NewSession, id_text, parse_id, to_json};
use worldline_chain::settle::{close, give_back, settle};
use worldline_chain::table::{Chains, Found, find, list, open, quote, seat_word, status_word};
use worldline_chain::{Address, Keypair, Signer, lists, play, wallet};

use super::{ChainsOptions, Consent, L1Options, WalletOptions, sol};
use crate::{default_data, table};

/// Who multiplies in the program.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Kernels {
    /// The program itself: any chain, micro worlds
    Plain,
    /// The syscall `sol_matmul_i8`
    Matmul,
    /// The syscalls `sol_matmul_i8` and `sol_ssm_scan`: our own rollup
    Syscalls,
}

impl Kernels {
    fn code(self) -> u8 {
        match self {
            Self::Plain => kernels::PLAIN,
            Self::Matmul => kernels::MATMUL,
            Self::Syscalls => kernels::SYSCALLS,
        }
    }
}

/// Who plays a seat that no person takes.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Machine {
    /// A person's recorded inputs
    Ghost,
    /// Random inputs
    Random,
    /// A policy cartridge
    Policy,
}

impl Machine {
    fn code(self) -> u8 {
        match self {
            Self::Ghost => seat::GHOST,
            Self::Random => seat::RANDOM,
            Self::Policy => seat::POLICY,
        }
    }
}

#[derive(Args)]
pub(crate) struct SeatOptions {
    /// The session's address
    session: Address,
    /// The seat, 0 or 1
    #[arg(long, value_parser = clap::value_parser!(u8).range(0..2))]
    seat: u8,
    /// The key that signs the seat's inputs; made when it does not exist
    #[arg(long, value_name = "FILE")]
    session_key: Option<PathBuf>,
    #[command(flatten)]
    wallet: WalletOptions,
    #[command(flatten)]
    chains: ChainsOptions,
}

impl SeatOptions {
    fn found(&self) -> Result<Found> {
        self.chains.find(&self.session)
    }

    /// The seat's key, one file for each seat of each session.
    fn key(&self) -> Result<Keypair> {
        let name = format!("keys/{}-{}.json", self.session, self.seat);
        let path = self
            .session_key
            .clone()
            .unwrap_or_else(|| default_data().join(name));
        Ok(wallet::open(&path)?)
    }
}

impl ChainsOptions {
    fn find(&self, session: &Address) -> Result<Found> {
        Ok(find(&self.chains(), self.l1.program(), session)?)
    }
}

#[derive(Args)]
pub(crate) struct CreateOptions {
    /// The world to play
    world: Address,
    /// Stage, the game's own number
    #[arg(long)]
    stage: u8,
    /// Short id, part of the session's address; random when left out
    #[arg(long, value_parser = |text: &str| parse_id(text).ok_or("one to sixteen letters, digits or dashes"))]
    id: Option<[u8; 16]>,
    /// The match's length; the world's own when left out
    #[arg(long)]
    seconds: Option<u32>,
    /// Who multiplies
    #[arg(long, value_enum, default_value = "syscalls")]
    kernels: Kernels,
    /// Frames are spread over transactions: for a world whose frames do not fit one of this chain's
    #[arg(long, conflicts_with = "kept")]
    in_parts: bool,
    /// Stay on L1: nothing is lent to the rollup
    #[arg(long)]
    no_rollup: bool,
    /// The rollup's keeper runs the match, records and settles it; else that is the payer's to do
    #[arg(long, conflicts_with = "no_rollup")]
    kept: bool,
    #[command(flatten)]
    consent: Consent,
    #[command(flatten)]
    wallet: WalletOptions,
    #[command(flatten)]
    chains: ChainsOptions,
}

#[derive(Subcommand)]
pub(crate) enum SessionCommand {
    /// Open a session of a world and lend it to the rollup
    Create(CreateOptions),
    /// Show a session
    Show {
        /// The session's address
        session: Address,
        #[command(flatten)]
        chains: ChainsOptions,
    },
    /// List the sessions that are open
    List {
        /// Only of this world
        #[arg(long)]
        world: Option<Address>,
        #[command(flatten)]
        chains: ChainsOptions,
    },
    /// Take a seat
    Join {
        #[command(flatten)]
        seat: SeatOptions,
        /// Give the seat to a machine (the payer's to do)
        #[arg(long, value_enum)]
        cpu: Option<Machine>,
    },
    /// Pick a character and be ready; the second seat to be ready starts the match
    Ready {
        #[command(flatten)]
        seat: SeatOptions,
        /// Character, the game's own number
        #[arg(long)]
        character: u8,
    },
    /// Run the match, and record it to its end
    Run {
        /// The session's address
        session: Address,
        /// Replay file to write; the session's address with `.wlr` when left out
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// Send each frame as transactions of the wallet's own instead of scheduling all of them: on a
        /// rollup whose tasks have too few units. Sessions on L1 or in parts always run so
        #[arg(long)]
        send_frames: bool,
        /// How long to wait for both seats to be ready, seconds
        #[arg(long, default_value_t = 600)]
        wait: u64,
        /// Settle the match when it is over
        #[arg(long)]
        settle: bool,
        #[command(flatten)]
        wallet: WalletOptions,
        #[command(flatten)]
        chains: ChainsOptions,
    },
    /// Play a seat by recorded inputs, and sign them
    Play {
        #[command(flatten)]
        seat: SeatOptions,
        /// A replay (`.wlr`: this seat's inputs) or a ghost (`.bin`); idle hands when left out
        #[arg(long, value_name = "FILE")]
        inputs: Option<PathBuf>,
        /// Give up at this frame
        #[arg(long, value_name = "FRAME")]
        quit_at: Option<u32>,
        /// How long to wait for both seats to be ready, seconds
        #[arg(long, default_value_t = 600)]
        wait: u64,
    },
    /// Give up a match, or claim that the other player is gone
    End {
        #[command(flatten)]
        seat: SeatOptions,
        /// The other player has sent nothing for fifteen seconds
        #[arg(long)]
        abandoned: bool,
    },
    /// Give an ended match back to L1, keep its result and replay, close the session
    Settle {
        /// The session's address
        session: Address,
        /// The replay that was written while it ran
        #[arg(long, value_name = "FILE")]
        replay: Option<PathBuf>,
        #[command(flatten)]
        wallet: WalletOptions,
        #[command(flatten)]
        chains: ChainsOptions,
    },
    /// Close a session that was settled, or never played; its deposits go to its payer
    Close {
        /// The session's address
        session: Address,
        #[command(flatten)]
        wallet: WalletOptions,
        #[command(flatten)]
        chains: ChainsOptions,
    },
    /// List the matches whose results a chain keeps, the newest first
    History {
        /// Only of this player
        #[arg(long)]
        wallet: Option<Address>,
        #[command(flatten)]
        l1: L1Options,
    },
}

pub(crate) fn run(command: SessionCommand) -> Result<ExitCode> {
    use SessionCommand as Command;
    match command {
        Command::Create(options) => create(&options)?,
        Command::Show { session, chains } => show(&chains, &session)?,
        Command::List { world, chains } => list_open(&chains, world.as_ref())?,
        Command::Join { seat, cpu } => {
            let kind = cpu.map_or(seat::HUMAN, Machine::code);
            let (found, key) = (seat.found()?, seat.key()?.pubkey());
            seat.chains
                .chains()
                .join(&found, &seat.wallet.read()?, seat.seat, kind, &key)?;
            println!("seat {} is taken, its key is {key}", seat.seat);
        }
        Command::Ready { seat, character } => {
            let (found, key) = (seat.found()?, seat.key()?);
            seat.chains
                .chains()
                .ready(&found, &seat.wallet.read()?, &key, seat.seat, character)?;
            println!("seat {} is ready", seat.seat);
        }
        Command::Run {
            session,
            output,
            send_frames,
            wait,
            settle,
            wallet,
            chains,
        } => {
            let (found, key) = (chains.find(&session)?, wallet.read()?);
            let frames = frames_of(&found, send_frames);
            let patience = Duration::from_secs(wait);
            let recording = run_match(&chains.chains(), &found, &key, frames, patience)?;
            let path = output.unwrap_or_else(|| format!("{session}.wlr").into());
            write_replay(&path, &recording)?;
            if settle {
                settle_match(&chains, &session, &key, Some(&recording))?;
            }
        }
        Command::Play {
            seat,
            inputs,
            quit_at,
            wait,
        } => {
            let (found, key) = (seat.found()?, seat.key()?);
            let pads = inputs.map_or(Ok(Vec::new()), |path| read_pads(&path, seat.seat))?;
            let patience = Duration::from_secs(wait);
            let chains = seat.chains.chains();
            let last = play::press(&chains, &found, &key, seat.seat, &pads, patience, quit_at)?;
            println!("seat {} played to frame {last}", seat.seat);
        }
        Command::End { seat, abandoned } => {
            let reason = if abandoned {
                end_reason::ABANDONED
            } else {
                end_reason::QUIT
            };
            let (found, wallet) = (seat.found()?, seat.wallet.read()?);
            seat.chains
                .chains()
                .end(&found, &wallet, &seat.key()?, seat.seat, reason)?;
            println!("the match is over");
        }
        Command::Settle {
            session,
            replay,
            wallet,
            chains,
        } => {
            let recording = replay.map(|path| read_replay(&path)).transpose()?;
            settle_match(&chains, &session, &wallet.read()?, recording.as_ref())?;
        }
        Command::Close {
            session,
            wallet,
            chains,
        } => {
            let (found, key) = (chains.find(&session)?, wallet.read()?);
            let both = chains.chains();
            if found.lent {
                give_back(&both, &found, &key)?;
            }
            let back = close(&both, &found.at, &key)?;
            println!("{} came back to {}", sol(back), found.at.payer);
        }
        Command::History { wallet, l1 } => history(&l1, wallet.as_ref())?,
    }
    Ok(ExitCode::SUCCESS)
}

fn create(options: &CreateOptions) -> Result<()> {
    let (chains, program) = (options.chains.chains(), options.chains.l1.program());
    let payer = options.wallet.read()?;
    let cost = quote(
        &chains,
        &program,
        &options.world,
        !options.no_rollup,
        options.in_parts,
    )?;
    options.consent.ask(&format!(
        "{} pays: {} to the world's owner; {} deposit, back when the session is closed; {} for the rollup's records, back when it gives the session back; {} for result and replay, kept; about {} fees",
        payer.pubkey(), sol(cost.fee), sol(cost.rent), sol(cost.delegation), sol(cost.kept), sol(cost.fees),
    ))?;
    let new = NewSession {
        stage: options.stage,
        clock: options
            .seconds
            .unwrap_or(0)
            .saturating_mul(FRAMES_PER_SECOND),
        generator: u64::from_le_bytes(random_bytes()),
        kernels: options.kernels.code(),
        operator: options.kept.then(|| chains.rollup.identity()).transpose()?,
        in_parts: options.in_parts,
    };
    let id = options.id.unwrap_or_else(|| MatchId::random().padded());
    let at = open(
        &chains,
        program,
        &payer,
        id,
        &options.world,
        &new,
        !options.no_rollup,
    )?;
    if options.chains.l1.json {
        return table::json(&to_json(&at));
    }
    println!("{}", at.address);
    Ok(())
}

fn seats(found: &Found) -> [Value; 2] {
    let session = &found.account.session;
    [0, 1].map(|at| {
        json!({
            "kind": seat_word(session.seats[at]),
            "wallet": (session.wallets[at] != [0; 32]).then(|| Address::from(session.wallets[at]).to_string()),
            "character": session.characters[at],
            "ready": found.account.ready[at] == 1,
        })
    })
}

fn show(options: &ChainsOptions, session: &Address) -> Result<()> {
    let found = options.find(session)?;
    let state = &found.state;
    let mut value = to_json(&found.at);
    value["world"] = json!(found.world().to_string());
    value["on"] = json!(if found.lent { "rollup" } else { "L1" });
    value["status"] = json!(status_word(state.status));
    value["frame"] = json!(state.frame);
    value["clock"] = json!(state.clock);
    value["seats"] = json!(seats(&found));
    if options.l1.json {
        return table::json(&value);
    }
    let row = |name: &str, value: String| [name.to_string(), value];
    let seats = seats(&found).map(|seat| {
        let ready = if seat["ready"] == true { ", ready" } else { "" };
        format!("{}{ready}", seat["kind"].as_str().unwrap_or_default())
    });
    table::print(
        ["SESSION", &id_text(&found.at.id)],
        &[
            row("address", session.to_string()),
            row("world", found.world().to_string()),
            row("payer", found.at.payer.to_string()),
            row("is on", value["on"].as_str().unwrap_or_default().into()),
            row("status", status_word(state.status).into()),
            row("frame", state.frame.to_string()),
            row("seats", seats.join(" - ")),
        ],
    );
    Ok(())
}

fn list_open(options: &ChainsOptions, world: Option<&Address>) -> Result<()> {
    let chains = options.chains();
    let mut found = Vec::new();
    for (place, rpc) in [("L1", &chains.l1), ("rollup", &chains.rollup)] {
        let sessions = list(rpc, options.l1.program())?.into_iter();
        found.extend(sessions.map(|(at, book)| (at, book, place)));
    }
    // The rollup keeps its copy of what it gave back.
    found.sort_by_key(|(at, _, _)| at.address);
    found.dedup_by_key(|(at, _, _)| at.address);
    let of = |wanted: &Address, at: &[u8; 32]| wanted.as_array() == at;
    found.retain(|(_, book, _)| world.is_none_or(|wanted| of(wanted, &book.session.world)));
    if options.l1.json {
        let list: Vec<_> = found
            .iter()
            .map(|(at, book, place)| {
                let mut value = to_json(at);
                value["world"] = json!(Address::from(book.session.world).to_string());
                value["on"] = json!(place);
                value
            })
            .collect();
        return table::json(&list);
    }
    let rows: Vec<_> = found
        .iter()
        .map(|(at, book, place)| {
            let seats = book.session.seats.map(seat_word).join(" - ");
            let world = Address::from(book.session.world).to_string();
            [
                at.address.to_string(),
                id_text(&at.id),
                (*place).into(),
                seats,
                world,
            ]
        })
        .collect();
    table::print(["SESSION", "ID", "IS ON", "SEATS", "WORLD"], &rows);
    Ok(())
}

/// No L1 schedules anything, and no task holds the transactions of a frame in parts.
fn frames_of(found: &Found, send: bool) -> Frames {
    if send || !found.lent || found.account.frame != [0; 32] {
        Frames::Sent
    } else {
        Frames::Scheduled
    }
}

fn run_match(
    chains: &Chains,
    found: &Found,
    key: &Keypair,
    frames: Frames,
    patience: Duration,
) -> Result<Recording> {
    let bar = ProgressBar::new_spinner();
    bar.set_style(
        ProgressStyle::with_template("{spinner} {msg}")
            .unwrap_or_else(|_| ProgressStyle::default_spinner()),
    );
    bar.set_message("waiting for both seats");
    let mut told = |(_, state): &Frame| {
        bar.set_message(format!(
            "frame {} recorded, {} left",
            state.frame, state.clock
        ));
    };
    let recording = play::run(chains, found, key, frames, patience, None, &mut told)?;
    bar.finish_and_clear();
    Ok(recording)
}

fn write_replay(path: &Path, recording: &Recording) -> Result<()> {
    std::fs::write(path, recording.encode())
        .with_context(|| format!("cannot write {}", path.display()))?;
    println!(
        "{} frames recorded in {}",
        recording.frames(),
        path.display()
    );
    Ok(())
}

fn settle_match(
    options: &ChainsOptions,
    session: &Address,
    payer: &Keypair,
    recording: Option<&Recording>,
) -> Result<()> {
    let found = options.find(session)?;
    if found.at.payer != payer.pubkey() {
        bail!(
            "{} opened this session and settles it: give that keypair with --keypair",
            found.at.payer
        );
    }
    let settled = settle(&options.chains(), &found, payer, recording)?;
    let kept = &settled.result;
    if options.l1.json {
        return table::json(&json!({
            "session": session.to_string(),
            "result": ResultView::new(&kept.result, None),
            "returned": settled.back,
        }));
    }
    println!(
        "{}; {} came back to {}",
        outcome(kept),
        sol(settled.back),
        payer.pubkey()
    );
    Ok(())
}

fn outcome(kept: &ResultAccount) -> String {
    let view = ResultView::new(&kept.result, None);
    let who = view
        .winner
        .map_or("a draw".into(), |seat| format!("seat {seat} won"));
    format!("{who} by {} after {} frames", view.reason, view.frames)
}

fn history(options: &L1Options, wallet: Option<&Address>) -> Result<()> {
    let found = lists::history(&options.rpc(), &options.program(), wallet)?;
    if options.json {
        let list: Vec<_> = found
            .iter()
            .map(|(_, kept)| {
                json!({
                    "session": Address::from(kept.session).to_string(),
                    "world": Address::from(kept.world).to_string(),
                    "wallets": kept.result.wallets.map(|wallet| Address::from(wallet).to_string()),
                    "result": ResultView::new(&kept.result, None),
                    "recorded": kept.recorded,
                    "replay": kept.replay == worldline_abi::replay_status::FINISHED,
                })
            })
            .collect();
        return table::json(&list);
    }
    let rows: Vec<_> = found
        .iter()
        .map(|(_, kept)| {
            let replay = kept.replay == worldline_abi::replay_status::FINISHED;
            [
                Address::from(kept.session).to_string(),
                outcome(kept),
                if replay { "replay" } else { "no replay" }.into(),
            ]
        })
        .collect();
    table::print(["SESSION", "RESULT", "KEPT"], &rows);
    Ok(())
}

fn read_replay(path: &Path) -> Result<Recording> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Recording::decode(&bytes).with_context(|| format!("cannot read {}", path.display()))
}

/// One pad a frame: a seat's of a replay, or a ghost's.
fn read_pads(path: &Path, seat: u8) -> Result<Vec<Pad>> {
    if path.extension().is_some_and(|kind| kind == "wlr") {
        let recording = read_replay(path)?;
        let of = |inputs: &worldline_abi::InputBuffer| inputs.slots[usize::from(seat)].pad;
        return Ok(recording.inputs.iter().map(of).collect());
    }
    Ok(Ghost::open(path)?.pads)
}
