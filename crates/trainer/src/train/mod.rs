//! FP32 training: [`run`] is `worldline train CONFIG.toml`.
//!
//! A step is `lanes` micro-batches that threads take one by one; their gradients
//! are added in lane order, so the result does not depend on the threads, and a
//! run that was stopped goes on exactly where it was.

mod adamw;
mod checkpoint;
mod config;
mod lane;
mod stream;
mod validate;

pub use checkpoint::{Checkpoint, CheckpointError};
pub use config::{Config, Data, Model, Run, SelfForcing};
pub use validate::{HORIZON, Validation, WARM_UP};

use crate::dataset::{Dataset, Licences, Match, Sources};
use crate::gemm::Arithmetic;
use crate::loss::{Losses, Objective};
use crate::network::Network;
use crate::params::Layout;
use crate::task::Task;
use adamw::{Optimizer, Step};
use indicatif::{ProgressBar, ProgressStyle};
use lane::{Lane, Shared};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;
use thiserror::Error;
use worldline_cartridge::schema::{self, Kind};

/// Why a training run cannot start or go on.
#[derive(Debug, Error)]
pub enum TrainError {
    /// The configuration file cannot be read.
    #[error("reading the configuration {path}: {source}; give a TOML file")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The configuration does not say what it should.
    #[error("the configuration {path} cannot be used: {why}")]
    Config {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// No usable replays.
    #[error("{0}")]
    Data(String),
    /// A checkpoint cannot be written or read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The log cannot be written.
    #[error("writing the log {path}: {source}")]
    Log {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The losses are no numbers any more.
    #[error(
        "the loss is not a number at step {0}: lower the rate and resume from the last checkpoint"
    )]
    Diverged(u64),
}

/// Reads a configuration.
pub fn read_config(path: &Path) -> Result<Config, TrainError> {
    let text = std::fs::read_to_string(path).map_err(|source| TrainError::Read {
        path: path.into(),
        source,
    })?;
    let config: Config = toml::from_str(&text).map_err(|e| TrainError::Config {
        path: path.into(),
        why: e.to_string(),
    })?;
    let wrong = |why: &str| {
        Err(TrainError::Config {
            path: path.into(),
            why: why.into(),
        })
    };
    let (run, model) = (&config.run, &config.model);
    match () {
        () if model.d_model % 32 != 0 || model.d_model == 0 => {
            wrong("model.d_model is not a multiple of 32")
        }
        () if model.d_state != crate::scan::N => wrong("model.d_state is not 16"),
        () if run.sequences % 32 != 0 || run.sequences == 0 => {
            wrong("run.sequences is not a multiple of 32")
        }
        () if run.lanes == 0 || run.threads == 0 || run.window < 2 => {
            wrong("run.lanes, run.threads or run.window is too small")
        }
        () if run.validate == 0 || run.checkpoint == 0 => {
            wrong("run.validate and run.checkpoint are steps, not 0")
        }
        () => Ok(config),
    }
}

/// One line of the log.
#[derive(Serialize)]
struct LogLine {
    step: u64,
    frames: u64,
    seconds: f64,
    frames_per_second: f64,
    rate: f32,
    gradient_norm: f32,
    loss: f64,
    heads: BTreeMap<String, f64>,
    validation: Found,
}

/// What a validation found.
#[derive(Serialize)]
#[serde(untagged)]
enum Found {
    World(Validation),
    /// Mean loss by head.
    Policy(BTreeMap<String, f64>),
}

impl Found {
    fn summary(&self) -> String {
        match self {
            Self::World(v) => {
                let action = [0, 9, 19].map(|h| v.action[h]);
                format!(
                    "RC5 {:.3}, RC20 {:.3}, action at 1, 10, 20: {action:.3?}",
                    v.rc(5),
                    v.rc(20)
                )
            }
            Self::Policy(heads) => format!("validation {heads:.3?}"),
        }
    }
}

/// Trains until the configured steps are done or `stop` is set, whichever comes
/// first; goes on from the checkpoint in the output folder if there is one.
pub fn run(config: &Config, stop: &AtomicBool) -> Result<(), TrainError> {
    let dataset = load(config)?;
    let split = dataset.split(config.data.split);
    let task = task(config, &split.training)?;
    let layout = Layout::new(&task.sizes);
    std::fs::create_dir_all(&config.out).map_err(|source| TrainError::Log {
        path: config.out.clone(),
        source,
    })?;
    let shared = Shared {
        plan: task.plan(),
        objective: Objective::new(&task, &config.weights),
        task: &task,
        matches: &split.training,
        run: config.run,
        forcing: config.self_forcing,
    };
    let mut lanes: Vec<Lane> = (0..config.run.lanes)
        .map(|i| Lane::new(&shared, config.seed ^ (i as u64 + 1) << 32))
        .collect();
    let mut optimizer = Optimizer::new(layout.initialize(config.seed));
    let files = Files::of(config);
    if files.state.exists() {
        checkpoint::load_state(&files.state, task.schema_id(), &mut optimizer, &mut lanes)?;
    }
    let frames = split.training.iter().map(|m| m.frames.len() as u64).sum();
    let trained_on = (split.training.len() as u32, frames);
    let mut trainer = Trainer {
        config,
        shared,
        layout: &layout,
        optimizer,
        lanes,
        files,
        trained_on,
        validation: &split.validation,
    };
    trainer.go(stop)
}

fn load(config: &Config) -> Result<Dataset, TrainError> {
    let mut sources = Sources::new(config.data.replays.clone());
    if config.data.permissive {
        sources.licences = Licences::permissive();
    }
    let dataset = sources
        .load()
        .map_err(|e| TrainError::Data(e.to_string()))?;
    if dataset.matches.len() < 2 {
        return Err(TrainError::Data(format!(
            "{} usable matches: give at least two replays",
            dataset.matches.len()
        )));
    }
    Ok(dataset)
}

/// The schema that the training matches call for.
fn task(config: &Config, matches: &[&Match]) -> Result<Task, TrainError> {
    let (mut actions, mut characters) = (BTreeMap::<u16, u64>::new(), Vec::new());
    for m in matches {
        characters.extend(m.characters);
        for player in m.frames.iter().flatten() {
            *actions.entry(player.core.action_state).or_default() += 1;
            characters.push(player.core.character);
        }
        characters.sort_unstable();
        characters.dedup();
    }
    let actions: Vec<u16> = actions
        .into_iter()
        .filter(|(_, n)| *n >= config.data.rare)
        .map(|(a, _)| a)
        .collect();
    let schema = match config.kind {
        Kind::World => schema::melee(&actions, &characters),
        Kind::Policy => schema::melee_policy(&actions, &characters, &sticks(), &TRIGGERS),
    };
    let model = config.model;
    Task::new(
        schema,
        &config.events,
        (model.d_model, model.layers, model.d_state),
    )
    .map_err(|e| TrainError::Data(e.to_string()))
}

/// A line above the bar, or on its own where there is no terminal to draw a bar on.
fn say(bar: &ProgressBar, line: &str) {
    if bar.is_hidden() {
        eprintln!("{line}")
    } else {
        bar.println(line)
    }
}

/// Trigger values that a policy chooses from.
const TRIGGERS: [u8; 3] = [0, 80, 255];

/// Stick positions that a policy chooses from, 1/80 steps: rest, sixteen directions at
/// the rim and eight half way.
fn sticks() -> Vec<u16> {
    let ring = |n: u32, radius: f64| {
        (0..n).map(move |i| {
            let angle = f64::from(i) * std::f64::consts::TAU / f64::from(n);
            schema::pack_stick(
                (angle.cos() * radius).round() as i8,
                (angle.sin() * radius).round() as i8,
            )
        })
    };
    std::iter::once(schema::pack_stick(0, 0))
        .chain(ring(16, 80.0))
        .chain(ring(8, 40.0))
        .collect()
}

/// Where a run writes.
struct Files {
    state: PathBuf,
    weights: PathBuf,
    log: PathBuf,
}

impl Files {
    fn of(config: &Config) -> Self {
        let file = |ending: &str| config.out.join(format!("{}.{ending}", config.name));
        Self {
            state: file("state"),
            weights: file("safetensors"),
            log: file("jsonl"),
        }
    }
}

struct Trainer<'a> {
    config: &'a Config,
    shared: Shared<'a>,
    layout: &'a Layout,
    optimizer: Optimizer,
    lanes: Vec<Lane>,
    files: Files,
    trained_on: (u32, u64),
    validation: &'a [&'a Match],
}

impl Trainer<'_> {
    fn go(&mut self, stop: &AtomicBool) -> Result<(), TrainError> {
        let run = self.config.run;
        let mut networks: Vec<Network<'_>> = (0..run.threads)
            .map(|_| Network::new(self.layout, &self.shared.task.places, Arithmetic::Bf16Amx))
            .collect();
        let mut grads = vec![Vec::new(); run.lanes];
        let bar = ProgressBar::new(run.steps).with_style(
            ProgressStyle::with_template("{bar:30} {pos}/{len} steps, {eta} left, {msg}")
                .expect("a fixed template"),
        );
        bar.set_position(self.optimizer.step);
        say(
            &bar,
            &format!(
                "{} parameters, {:?}, {} matches",
                self.layout.parameters(),
                networks[0].arithmetic(),
                self.trained_on.0
            ),
        );
        let (start, first) = (Instant::now(), self.optimizer.step);
        let mut losses = Losses::default();
        while self.optimizer.step < run.steps && !stop.load(Ordering::Relaxed) {
            losses.merge(&self.lanes_step(&mut networks, &mut grads));
            let rate = self.rate();
            let step = Step {
                rate,
                weight_decay: run.weight_decay,
                clip: run.clip,
                average: run.average,
            };
            let norm = self.optimizer.take(self.layout, &mut grads, step);
            if !norm.is_finite() {
                return Err(TrainError::Diverged(self.optimizer.step));
            }
            let done = self.optimizer.step;
            let frames = (run.lanes * run.sequences * run.window) as u64;
            let seconds = start.elapsed().as_secs_f64();
            let speed = ((done - first) * frames) as f64 / seconds;
            bar.set_position(done);
            bar.set_message(format!(
                "{speed:.0} frames/s, loss {:.3}",
                losses.total / losses.tokens
            ));
            if done.is_multiple_of(run.validate) || done == run.steps {
                let validation = self.validate(&mut networks[0]);
                let loss = losses.total / losses.tokens;
                say(
                    &bar,
                    &format!(
                        "step {done}: {speed:.0} frames/s, loss {loss:.3}, {}",
                        validation.summary()
                    ),
                );
                self.log(&LogLine {
                    step: done,
                    frames: done * frames,
                    seconds,
                    frames_per_second: speed,
                    rate,
                    gradient_norm: norm,
                    loss,
                    heads: losses.means(),
                    validation,
                })?;
                losses = Losses::default();
            }
            if done.is_multiple_of(run.checkpoint) {
                self.save()?;
            }
        }
        bar.abandon();
        self.save()
    }

    /// How the averaged weights do on validation matches.
    fn validate(&self, network: &mut Network<'_>) -> Found {
        network.enter();
        let (starts, weights) = ((self.config.run.starts, 1), &self.optimizer.average);
        match self.config.kind {
            Kind::World => Found::World(validate::validate(
                self.shared.task,
                self.validation,
                starts,
                weights,
                network,
            )),
            Kind::Policy => {
                let losses =
                    validate::imitation(&self.shared, self.validation, starts, weights, network);
                Found::Policy(losses.means())
            }
        }
    }

    /// Every lane's gradients, taken by the threads as they get free.
    fn lanes_step(&mut self, networks: &mut [Network<'_>], grads: &mut [Vec<f32>]) -> Losses {
        let (weights, shared) = (&self.optimizer.weights, &self.shared);
        let progress = self.forcing_progress();
        let next = AtomicUsize::new(0);
        let jobs: Vec<_> = self
            .lanes
            .iter_mut()
            .zip(grads)
            .map(|(lane, grads)| Mutex::new((lane, grads, Losses::default())))
            .collect();
        std::thread::scope(|scope| {
            for network in networks.iter_mut() {
                let (next, jobs) = (&next, &jobs);
                scope.spawn(move || {
                    network.enter();
                    while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let mut job = job.lock().expect("each job is taken once");
                        let (lane, grads, losses) = &mut *job;
                        *losses = lane.step(shared, progress, weights, network, grads);
                    }
                });
            }
        });
        let mut all = Losses::default();
        for job in jobs {
            all.merge(&job.into_inner().expect("no thread panicked").2);
        }
        all
    }

    /// How far self-forcing has come, 0 to 1; negative before it begins.
    fn forcing_progress(&self) -> f32 {
        let (from, steps) = (self.config.self_forcing.from, self.config.run.steps);
        if self.config.self_forcing.longest == 0 || self.optimizer.step < from {
            return -1.0;
        }
        (self.optimizer.step - from) as f32 / steps.saturating_sub(from).max(1) as f32
    }

    /// Linear warm-up, a plateau, and a cosine down to nothing.
    fn rate(&self) -> f32 {
        let (run, step) = (&self.config.run, self.optimizer.step as f32 + 1.0);
        let warm = (step / run.warmup.max(1) as f32).min(1.0);
        let left = (run.steps as f32 - step) / (run.steps as f32 * run.decay).max(1.0);
        let fall = 0.5 - 0.5 * (std::f32::consts::PI * left.clamp(0.0, 1.0)).cos();
        run.rate * warm * fall
    }

    fn save(&self) -> Result<(), TrainError> {
        checkpoint::save_state(
            &self.files.state,
            self.shared.task.schema_id(),
            &self.optimizer,
            &self.lanes.iter().collect::<Vec<_>>(),
        )?;
        let task = self.shared.task;
        let world = Checkpoint {
            name: self.config.name.clone(),
            schema: task.schema.clone(),
            sizes: task.sizes.clone(),
            weights: self.optimizer.average.clone(),
            trained_on: self.trained_on,
        };
        Ok(world.save(&self.files.weights)?)
    }

    fn log(&self, line: &LogLine) -> Result<(), TrainError> {
        let failed = |source| TrainError::Log {
            path: self.files.log.clone(),
            source,
        };
        let mut file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.files.log)
            .map_err(failed)?;
        let text = serde_json::to_string(line).expect("numbers and names");
        writeln!(file, "{text}").map_err(failed)
    }
}
