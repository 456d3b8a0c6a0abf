//! Sums of errors, and what they come to. Positions in game units, percent in percent, speeds in
//! units a frame.

use serde::{Deserialize, Serialize};
use worldline_abi::{PERCENT_ONE, PlayerState, SPEED_ONE, UNIT_ONE};

use super::windows::HORIZONS;

/// How far a pair of states is from the true one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Errors {
    position: f64,
    action: f64,
    percent: f64,
    speed: f64,
}

impl Errors {
    /// Means over both players.
    pub(super) fn between(own: &[PlayerState; 2], truth: &[PlayerState; 2]) -> Self {
        let mean = |of: &dyn Fn(&PlayerState, &PlayerState) -> f64| {
            own.iter()
                .zip(truth)
                .map(|(own, truth)| of(own, truth))
                .sum::<f64>()
                / 2.0
        };
        let apart = |a: i32, b: i32, one: i32| f64::from(a.abs_diff(b)) / f64::from(one);
        Self {
            position: mean(&|a, b| (apart(a.x, b.x, UNIT_ONE) + apart(a.y, b.y, UNIT_ONE)) / 2.0),
            action: mean(&|a, b| f64::from(a.action_state == b.action_state)),
            percent: mean(&|a, b| apart(a.percent.into(), b.percent.into(), PERCENT_ONE.into())),
            speed: mean(&|a, b| {
                let pairs = speeds(a).into_iter().zip(speeds(b));
                pairs
                    .map(|(a, b)| apart(a.into(), b.into(), SPEED_ONE.into()))
                    .sum::<f64>()
                    / 5.0
            }),
        }
    }

    fn add(&mut self, other: &Self) {
        self.position += other.position;
        self.action += other.action;
        self.percent += other.percent;
        self.speed += other.speed;
    }
}

fn speeds(player: &PlayerState) -> [i16; 5] {
    [
        player.speed_air_x,
        player.speed_y,
        player.speed_attack_x,
        player.speed_attack_y,
        player.speed_ground_x,
    ]
}

/// Errors at each horizon; index 0 is the first own frame.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Horizons {
    /// Windows averaged over.
    pub windows: u64,
    /// Position error.
    pub position: Vec<f64>,
    /// Share of right action states.
    pub action: Vec<f64>,
    /// Percent error.
    pub percent: Vec<f64>,
    /// Speed error.
    pub speed: Vec<f64>,
    /// Mean position error over horizons 1 to 5.
    pub rc5: f64,
    /// Over 1 to 10.
    pub rc10: f64,
    /// Over 1 to 20.
    pub rc20: f64,
}

impl Horizons {
    pub(super) fn mean<'a>(windows: impl Iterator<Item = &'a [Errors; HORIZONS]>) -> Self {
        let mut sums = [Errors::default(); HORIZONS];
        let mut count = 0u64;
        for window in windows {
            count += 1;
            sums.iter_mut()
                .zip(window)
                .for_each(|(sum, errors)| sum.add(errors));
        }
        let each = |of: fn(&Errors) -> f64| -> Vec<f64> {
            sums.iter()
                .map(|sum| of(sum) / count.max(1) as f64)
                .collect()
        };
        let position = each(|sum| sum.position);
        let rc = |k: usize| position[..k].iter().sum::<f64>() / k as f64;
        Self {
            windows: count,
            rc5: rc(5),
            rc10: rc(10),
            rc20: rc(20),
            position,
            action: each(|sum| sum.action),
            percent: each(|sum| sum.percent),
            speed: each(|sum| sum.speed),
        }
    }
}

/// How well a yes-or-no event is foretold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Events {
    /// Happened and foretold.
    pub hits: u64,
    /// Foretold, did not happen.
    pub false_alarms: u64,
    /// Happened, not foretold.
    pub misses: u64,
}

impl Events {
    fn count(&mut self, foretold: bool, happened: bool) {
        match (foretold, happened) {
            (true, true) => self.hits += 1,
            (true, false) => self.false_alarms += 1,
            (false, true) => self.misses += 1,
            (false, false) => {}
        }
    }

    fn add(&mut self, other: &Self) {
        self.hits += other.hits;
        self.false_alarms += other.false_alarms;
        self.misses += other.misses;
    }

    /// Share of the foretold that happened.
    pub fn precision(&self) -> Option<f64> {
        ratio(self.hits, self.hits + self.false_alarms)
    }

    /// Share of the happened that was foretold.
    pub fn recall(&self) -> Option<f64> {
        ratio(self.hits, self.hits + self.misses)
    }
}

/// One frame ahead from true states.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TeacherForced {
    /// Player-frames.
    pub frames: u64,
    /// Mean position error.
    pub position: f64,
    /// Share of right action states.
    pub action: f64,
    /// The same where the true action state changes.
    pub action_changed: Option<f64>,
    /// Frames on which percent rises.
    pub damage: Events,
    /// Frames on which a stock falls.
    pub stock: Events,
}

/// The sums behind [`TeacherForced`].
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TeacherSums {
    frames: u64,
    position: f64,
    action: f64,
    changed: u64,
    changed_right: u64,
    damage: Events,
    stock: Events,
}

impl TeacherSums {
    pub(super) fn count(
        &mut self,
        before: &[PlayerState; 2],
        own: &[PlayerState; 2],
        truth: &[PlayerState; 2],
    ) {
        let errors = Errors::between(own, truth);
        self.frames += 2;
        self.position += 2.0 * errors.position;
        self.action += 2.0 * errors.action;
        for ((before, own), truth) in before.iter().zip(own).zip(truth) {
            if truth.action_state != before.action_state {
                self.changed += 1;
                self.changed_right += u64::from(own.action_state == truth.action_state);
            }
            self.damage
                .count(own.percent > before.percent, truth.percent > before.percent);
            self.stock
                .count(own.stocks < before.stocks, truth.stocks < before.stocks);
        }
    }

    fn add(mut self, other: &Self) -> Self {
        self.frames += other.frames;
        self.position += other.position;
        self.action += other.action;
        self.changed += other.changed;
        self.changed_right += other.changed_right;
        self.damage.add(&other.damage);
        self.stock.add(&other.stock);
        self
    }

    pub(super) fn mean(all: &[Self]) -> TeacherForced {
        let sums = all.iter().fold(Self::default(), Self::add);
        let frames = sums.frames.max(1) as f64;
        TeacherForced {
            frames: sums.frames,
            position: sums.position / frames,
            action: sums.action / frames,
            action_changed: ratio(sums.changed_right, sums.changed),
            damage: sums.damage,
            stock: sums.stock,
        }
    }
}

fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}
