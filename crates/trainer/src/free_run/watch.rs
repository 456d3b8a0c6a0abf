use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use worldline_abi::{PERCENT_ONE, Pad, PlayerState};

use super::stage::{Stage, units};
use crate::dataset::Match;

/// Frames within which a player who lost a stock is back (in real matches 60 at most).
const RETURN_FRAMES: u32 = 180;
/// How far and how long somebody may be beyond the blast zone with the stock still held.
const BEYOND_UNITS: f64 = 5.0;
const BEYOND_FRAMES: u32 = 10;
/// Nothing of a body moves for so long while the pad changes so often: it is frozen.
const FROZEN_FRAMES: u32 = 300;
const FROZEN_PAD_CHANGES: u32 = 30;
/// A body's origin dips below the ground in throws and falls, but not deeper than this,
const SINK_UNITS: f64 = -16.0;
/// when it came from above this,
const SURFACE_UNITS: f64 = -4.0;
/// farther than this from the stage's edges.
const EDGE_UNITS: f64 = 20.0;
/// No launch carries anybody so far.
const FARTHEST_UNITS: f64 = 400.0;
/// Most damage the game counts.
const MOST_PERCENT: u16 = 999;

/// Something that no real match does.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, thiserror::Error,
)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// Position or percent.
    #[error("a value left its range")]
    OutOfRange,
    /// More stocks than the frame before.
    #[error("a stock came back")]
    StockRose,
    /// Two or more in one frame.
    #[error("more than one stock was lost at once")]
    StocksFell,
    /// Past the left, right or lower edge for `BEYOND_FRAMES`.
    #[error("a player lived beyond the blast zone")]
    Beyond,
    /// Not on the stage with 0 % within `RETURN_FRAMES`.
    #[error("a player who lost a stock did not come back with 0 %")]
    NoReturn,
    /// From above the ground to below it.
    #[error("a player sank through the stage")]
    Sank,
    /// No movement and the same action while the controller varies.
    #[error("a player froze")]
    Froze,
    /// Neither stocks nor clock ended the match.
    #[error("a match did not end")]
    NoEnd,
}

/// Watches one match.
pub(super) struct Watch {
    stage: Option<Stage>,
    players: [Player; 2],
    pub(super) stocks_lost: u64,
    pub(super) damage: f64,
    pub(super) findings: BTreeMap<Finding, u64>,
}

/// What to remember of a player.
struct Player {
    before: PlayerState,
    pad: Pad,
    /// Frames since a stock was lost, until back.
    away: Option<u32>,
    beyond: u32,
    still: u32,
    pad_changes: u32,
    came_from_above: bool,
}

/// What [`Finding`]s a real match holds: none, or the watch is wrong.
pub fn watch_replay(one: &Match) -> BTreeMap<Finding, u64> {
    let mut watch = Watch::new(one.stage, one.frames[0].map(|seat| seat.state()));
    for frame in &one.frames[1..] {
        watch.frame(&frame.map(|seat| seat.state()), &frame.map(|seat| seat.pad));
    }
    watch.findings
}

impl Watch {
    pub(super) fn new(stage: u8, players: [PlayerState; 2]) -> Self {
        let player = |before| Player {
            before,
            pad: Pad::default(),
            away: None,
            beyond: 0,
            still: 0,
            pad_changes: 0,
            came_from_above: false,
        };
        Self {
            stage: Stage::of(stage),
            players: players.map(player),
            stocks_lost: 0,
            damage: 0.0,
            findings: BTreeMap::new(),
        }
    }

    pub(super) fn find(&mut self, finding: Finding) {
        *self.findings.entry(finding).or_default() += 1;
    }

    /// Both players after a frame, and the pads that made it.
    pub(super) fn frame(&mut self, states: &[PlayerState; 2], pads: &[Pad; 2]) {
        let stage = self.stage;
        let mut found = Vec::new();
        for ((player, state), pad) in self.players.iter_mut().zip(states).zip(pads) {
            let before = player.before;
            self.stocks_lost += u64::from(before.stocks.saturating_sub(state.stocks));
            self.damage +=
                f64::from(state.percent.saturating_sub(before.percent)) / f64::from(PERCENT_ONE);
            found.extend(player.frozen(state, pad));
            found.extend(player.ranges(state));
            found.extend(player.stocks(state));
            if let Some(stage) = stage {
                found.extend(player.returns(state, &stage));
                found.extend(player.strays(state, &stage));
                found.extend(player.sinks(state, &stage));
            }
            player.before = *state;
            player.pad = *pad;
        }
        found.into_iter().for_each(|finding| self.find(finding));
    }
}

impl Player {
    fn ranges(&self, state: &PlayerState) -> Option<Finding> {
        let far = |state: &PlayerState| {
            [state.x, state.y]
                .into_iter()
                .any(|raw| units(raw).abs() > FARTHEST_UNITS)
                || state.percent > MOST_PERCENT * PERCENT_ONE
        };
        (far(state) && !far(&self.before)).then_some(Finding::OutOfRange)
    }

    fn stocks(&mut self, state: &PlayerState) -> Option<Finding> {
        if state.stocks < self.before.stocks {
            self.away = (state.stocks > 0).then_some(0);
        }
        if state.stocks > self.before.stocks {
            Some(Finding::StockRose)
        } else if state.stocks + 1 < self.before.stocks {
            Some(Finding::StocksFell)
        } else {
            None
        }
    }

    fn returns(&mut self, state: &PlayerState, stage: &Stage) -> Option<Finding> {
        let frames = self.away?;
        if frames > 0 && state.percent == 0 && stage.beyond(state.x, state.y) == 0.0 {
            self.away = None;
        } else if frames == RETURN_FRAMES {
            self.away = None;
            return Some(Finding::NoReturn);
        } else {
            self.away = Some(frames + 1);
        }
        None
    }

    fn strays(&mut self, state: &PlayerState, stage: &Stage) -> Option<Finding> {
        let beyond = stage.beyond(state.x, state.y) > BEYOND_UNITS;
        let alive = self.away.is_none() && state.stocks > 0;
        self.beyond = if beyond && alive { self.beyond + 1 } else { 0 };
        (self.beyond == BEYOND_FRAMES).then_some(Finding::Beyond)
    }

    fn frozen(&mut self, state: &PlayerState, pad: &Pad) -> Option<Finding> {
        let pose = |state: &PlayerState| (state.x, state.y, state.action_state);
        if pose(state) != pose(&self.before) {
            (self.still, self.pad_changes) = (0, 0);
            return None;
        }
        self.still += 1;
        self.pad_changes += u32::from(*pad != self.pad);
        let frozen = self.still >= FROZEN_FRAMES && self.pad_changes >= FROZEN_PAD_CHANGES;
        if frozen {
            (self.still, self.pad_changes) = (0, 0);
        }
        frozen.then_some(Finding::Froze)
    }

    fn sinks(&mut self, state: &PlayerState, stage: &Stage) -> Option<Finding> {
        let y = units(state.y);
        if self.away.is_some() || !stage.over_ground(state.x, EDGE_UNITS) {
            self.came_from_above = false;
        } else if y >= SURFACE_UNITS {
            self.came_from_above = true;
        } else if y < SINK_UNITS && self.came_from_above {
            self.came_from_above = false;
            return Some(Finding::Sank);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use worldline_abi::UNIT_ONE;

    const FINAL_DESTINATION: u8 = 32;

    fn player() -> PlayerState {
        PlayerState {
            stocks: 4,
            action_state: 14,
            ..PlayerState::default()
        }
    }

    /// Plays `frames` frames that player 0 goes through, under a varying pad.
    fn watch(frames: usize, state: impl Fn(usize) -> PlayerState) -> BTreeMap<Finding, u64> {
        let mut other = player();
        let mut watch = Watch::new(FINAL_DESTINATION, [player(), other]);
        for i in 0..frames {
            other.x = i as i32;
            let pad = Pad {
                buttons: i as u16 & 1,
                ..Pad::default()
            };
            watch.frame(&[state(i), other], &[pad, Pad::default()]);
        }
        watch.findings
    }

    /// A player who moves a little each frame, else as told.
    fn moving(i: usize, change: impl Fn(&mut PlayerState)) -> PlayerState {
        let mut state = PlayerState {
            x: i as i32,
            ..player()
        };
        change(&mut state);
        state
    }

    #[test]
    fn each_impossible_thing_is_found_once() {
        let found = |finding| BTreeMap::from([(finding, 1)]);
        assert_eq!(watch(400, |i| moving(i, |_| ())), BTreeMap::new());
        assert_eq!(watch(400, |_| player()), found(Finding::Froze));
        assert_eq!(
            watch(10, |i| moving(i, |s| s.stocks = 4 + (i / 5) as u8)),
            found(Finding::StockRose)
        );
        assert_eq!(
            watch(10, |i| moving(i, |s| s.stocks = 4 - 2 * (i / 5) as u8)),
            found(Finding::StocksFell)
        );
        assert_eq!(
            watch(50, |i| moving(i, |s| s.x += 260 * UNIT_ONE)),
            found(Finding::Beyond)
        );
        assert_eq!(
            watch(50, |i| moving(i, |s| s.y = -(i as i32) * UNIT_ONE)),
            found(Finding::Sank)
        );
        assert_eq!(
            watch(10, |i| moving(i, |s| s.percent = 64_000)),
            found(Finding::OutOfRange)
        );
    }

    #[test]
    fn a_lost_stock_must_bring_the_player_back_unhurt() {
        let dies = |percent_after: u16| {
            watch(400, move |i| {
                moving(i, |s| match i {
                    0..10 => s.percent = 6400,
                    10..70 => (s.percent, s.stocks, s.y) = (6400, 3, -150 * UNIT_ONE),
                    _ => (s.percent, s.stocks) = (percent_after, 3),
                })
            })
        };
        assert_eq!(dies(0), BTreeMap::new());
        assert_eq!(dies(6400), BTreeMap::from([(Finding::NoReturn, 1)]));
    }
}
