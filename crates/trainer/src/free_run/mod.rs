//! A world left to itself: whole matches under made-up controllers, watched for what no real
//! match does.
//!
//! [`free_run`] plays [`Options::matches`] matches for each [`Pilot`] and counts [`Finding`]s.
//! The same watch over real replays finds nothing, so what it finds is the world's doing.

mod pilot;
mod stage;
mod watch;

pub use pilot::Pilot;
pub use watch::{Finding, watch_replay};

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};
use worldline_abi::{Pad, PlayerState, end_reason, status};
use worldline_cartridge::Start;

use crate::{
    dataset::Match,
    evaluate::{Stepper, Subject},
    parallel::{self, progress},
    random::Random,
};
use watch::Watch;

/// Frames in a minute.
const MINUTE: u32 = 60 * 60;

/// How much to play.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Matches for each pilot.
    pub matches: usize,
    /// Longest match; a world's own clock may end it earlier.
    pub minutes: u32,
    /// Chooses starts and what the pilots do.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            matches: 6,
            minutes: 8,
            seed: 1,
        }
    }
}

/// A match to play: who fights where, as people did.
#[derive(Clone, Debug)]
pub struct Scene {
    /// Slippi stage id.
    pub stage: u8,
    /// Both players in the first frame.
    pub players: [PlayerState; 2],
    /// What people did with the controllers.
    recorded: Vec<[Pad; 2]>,
}

/// The stages, characters and pads of `matches`, from a world's own start states.
pub fn scenes(starts: &[Start], matches: &[&Match]) -> Vec<Scene> {
    let scene = |one: &&Match| {
        let start = starts.iter().find(|start| start.stage == one.stage)?;
        let mut players = start.players;
        for (player, character) in players.iter_mut().zip(one.characters) {
            player.character = character;
        }
        let pads = one.frames[1..]
            .iter()
            .map(|frame| frame.map(|seat| seat.pad));
        Some(Scene {
            stage: one.stage,
            players,
            recorded: pads.collect(),
        })
    };
    matches.iter().filter_map(scene).collect()
}

/// What happened, by pilot.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FreeRun {
    /// One row a pilot.
    pub rows: Vec<Row>,
}

/// Matches under one pilot.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The pilot.
    pub pilot: String,
    /// Matches played.
    pub matches: u64,
    /// Ended because a player had no stock left.
    pub ended_by_stocks: u64,
    /// Ended by the clock.
    pub ended_by_time: u64,
    /// Frames of all matches.
    pub frames: u64,
    /// Stocks lost by both players.
    pub stocks_lost: u64,
    /// Percent gained by both players.
    pub damage: f64,
    /// Values that a rule, not the network, changed.
    pub rule_hits: u64,
    /// What no real match does, and how often.
    pub findings: BTreeMap<Finding, u64>,
}

impl Row {
    fn add(&mut self, other: Self) {
        self.matches += other.matches;
        self.ended_by_stocks += other.ended_by_stocks;
        self.ended_by_time += other.ended_by_time;
        self.frames += other.frames;
        self.stocks_lost += other.stocks_lost;
        self.damage += other.damage;
        self.rule_hits += other.rule_hits;
        for (finding, count) in other.findings {
            *self.findings.entry(finding).or_default() += count;
        }
    }
}

/// Plays whole matches of `scenes`.
///
/// # Panics
/// If there is no scene.
pub fn free_run(subject: &dyn Subject, scenes: &[Scene], options: Options) -> FreeRun {
    assert!(!scenes.is_empty(), "a match needs a scene");
    let jobs: Vec<(Pilot, u64)> = Pilot::ALL
        .into_iter()
        .flat_map(|pilot| (0..options.matches as u64).map(move |i| (pilot, i)))
        .collect();
    let bar = progress(jobs.len(), "whole matches");
    let rows = parallel::map(
        jobs.len(),
        || subject.stepper(),
        |stepper, job| {
            let (pilot, i) = jobs[job];
            let mut random = Random::new(options.seed.wrapping_mul(1_000_003).wrapping_add(i));
            let scene = &scenes[random.below(scenes.len())];
            let row = play(
                &mut **stepper,
                pilot,
                scene,
                random,
                options.minutes * MINUTE,
            );
            bar.inc(1);
            row
        },
    );
    bar.finish_and_clear();

    let mut report = FreeRun::default();
    for row in rows {
        match report.rows.iter_mut().find(|sum| sum.pilot == row.pilot) {
            Some(sum) => sum.add(row),
            None => report.rows.push(row),
        }
    }
    report
}

fn play(
    stepper: &mut dyn Stepper,
    pilot: Pilot,
    scene: &Scene,
    random: Random,
    frames: u32,
) -> Row {
    stepper.reset(scene.stage, scene.players);
    let mut pilots = pilot.start(&scene.recorded, random);
    let mut watch = Watch::new(scene.stage, scene.players);
    let mut played = 0;
    while played < frames && stepper.state().status == status::ACTIVE {
        let pads = pilots.pads(stepper.state());
        stepper.step(pads);
        watch.frame(&stepper.state().players, &pads);
        played += 1;
    }
    let state = stepper.state();
    let ended = |reason| u64::from(state.status == status::ENDED && state.end_reason == reason);
    if state.status == status::ACTIVE {
        watch.find(Finding::NoEnd);
    }
    Row {
        pilot: pilot.to_string(),
        matches: 1,
        ended_by_stocks: ended(end_reason::STOCKS),
        ended_by_time: ended(end_reason::TIME),
        frames: played.into(),
        stocks_lost: watch.stocks_lost,
        damage: watch.damage,
        rule_hits: state.rule_hits.into(),
        findings: watch.findings,
    }
}

/// The table as plain text.
impl fmt::Display for FreeRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for row in &self.rows {
            let minutes = row.frames as f64 / f64::from(MINUTE);
            writeln!(
                f,
                "{:<9} {} matches, {minutes:.1} minutes: {} ended by stocks, {} by time; {} stocks lost, \
                 {:.0} % damage a minute, {:.2} rule hits a second",
                row.pilot,
                row.matches,
                row.ended_by_stocks,
                row.ended_by_time,
                row.stocks_lost,
                row.damage / minutes,
                row.rule_hits as f64 / (60.0 * minutes),
            )?;
            for (finding, count) in &row.findings {
                writeln!(f, "          {count} × {finding}")?;
            }
        }
        Ok(())
    }
}
