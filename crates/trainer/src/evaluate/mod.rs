//! Fidelity: how far a world is from what really happened.
//!
//! [`evaluate`] plays validation matches with each [`Subject`] — one frame ahead from true
//! states, and on its own from [`Options::starts`] random places — beside two baselines, and
//! gives a [`Report`].

mod fp32;
mod int8;
mod metrics;
mod plot;
mod report;
mod stepper;
mod windows;

pub use fp32::Fp32;
pub use int8::Int8;
pub use metrics::{Events, Horizons, TeacherForced};
pub use report::{About, Column, FP32, INT8, Report};
pub use stepper::{ConstantVelocity, Stepper, Still, Subject};
pub use windows::{HORIZONS, WARM_UP};

use crate::{
    dataset::{Clip, Match, clips},
    parallel::{self, progress},
};
use metrics::{Errors, TeacherSums};
use windows::{WINDOW, holds_death, states};

/// How to measure.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Random places to start from.
    pub starts: usize,
    /// Chooses them; the same seed and matches give the same report.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            starts: 1000,
            seed: 1,
        }
    }
}

/// Measures each subject, then the baselines, on the same frames.
///
/// # Errors
/// When the matches hold no frame to start from.
pub fn evaluate(
    model: &str,
    subjects: &[&dyn Subject],
    matches: &[&Match],
    options: Options,
) -> Result<Report, NothingToMeasure> {
    let windows = clips(matches, WINDOW, options.starts, options.seed);
    if windows.is_empty() {
        return Err(NothingToMeasure);
    }
    let baselines: [&dyn Subject; 2] = [&ConstantVelocity, &Still];
    let columns = subjects
        .iter()
        .chain(&baselines)
        .map(|subject| measure(*subject, matches, &windows));
    Ok(Report {
        about: About {
            model: model.to_owned(),
            matches: matches.len() as u64,
            frames: matches.iter().map(|one| one.frames.len() as u64).sum(),
            starts: windows.len() as u64,
            seed: options.seed,
        },
        columns: columns.collect(),
    })
}

/// There are no validation matches, or no start was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nothing to measure: no validation match, or no start; give more replays or starts")]
pub struct NothingToMeasure;

fn measure(subject: &dyn Subject, matches: &[&Match], windows: &[Clip]) -> Column {
    let frames = matches.iter().map(|one| one.frames.len()).sum();
    let bar = progress(frames, &format!("{}, frame by frame", subject.name()));
    let sums = parallel::map(
        matches.len(),
        || subject.stepper(),
        |stepper, i| {
            let sums = one_frame_ahead(&mut **stepper, matches[i]);
            bar.inc(matches[i].frames.len() as u64);
            sums
        },
    );
    bar.finish_and_clear();

    let bar = progress(windows.len(), &format!("{}, on its own", subject.name()));
    let errors = parallel::map(
        windows.len(),
        || subject.stepper(),
        |stepper, i| {
            bar.inc(1);
            on_its_own(&mut **stepper, &windows[i])
        },
    );
    bar.finish_and_clear();

    let alive = errors
        .iter()
        .zip(windows)
        .filter(|(_, window)| !holds_death(window));
    Column {
        name: subject.name().to_owned(),
        teacher_forced: TeacherSums::mean(&sums),
        all: Horizons::mean(errors.iter()),
        alive: Horizons::mean(alive.map(|(errors, _)| errors)),
    }
}

/// A whole match, each frame from the true one before it.
fn one_frame_ahead(stepper: &mut dyn Stepper, one: &Match) -> TeacherSums {
    let mut sums = TeacherSums::default();
    let mut before = states(&one.frames[0]);
    stepper.reset(one.stage, before);
    for frame in &one.frames[1..] {
        let truth = states(frame);
        stepper.step(frame.map(|seat| seat.pad));
        sums.count(&before, &stepper.state().players, &truth);
        stepper.force(truth);
        before = truth;
    }
    sums
}

/// [`WARM_UP`] true frames, then [`HORIZONS`] of its own under the true controllers.
fn on_its_own(stepper: &mut dyn Stepper, window: &Clip) -> [Errors; HORIZONS] {
    let (given, foretold) = window.frames.split_at(WARM_UP);
    stepper.reset(window.stage, states(&given[0]));
    for frame in &given[1..] {
        stepper.step(frame.map(|seat| seat.pad));
        stepper.force(states(frame));
    }
    let mut errors = [Errors::default(); HORIZONS];
    for (frame, errors) in foretold.iter().zip(&mut errors) {
        stepper.step(frame.map(|seat| seat.pad));
        *errors = Errors::between(&stepper.state().players, &states(frame));
    }
    errors
}
