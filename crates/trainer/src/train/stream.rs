//! Where the frames of a micro-batch come from: each sequence reads its match
//! window by window, mirrored or with the seats swapped, and its recurrent state
//! goes with it.

use crate::dataset::{Match, PlayerFrame};
use crate::random::Random;
use serde::{Deserialize, Serialize};
use worldline_abi::{PLAYERS, Pad};

use crate::task::{Pair, states};

/// A sequence's place in the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stream {
    /// Index of its match.
    pub(crate) source: usize,
    /// First frame of its next window.
    pub(crate) frame: usize,
    /// Seats swapped.
    pub(crate) swapped: bool,
    /// Left and right swapped.
    pub(crate) mirrored: bool,
}

/// The frames of one window: states 0…steps and the pads that led to each.
#[derive(Clone, Debug, Default)]
pub(crate) struct Window {
    pub(crate) stage: u8,
    pub(crate) states: Vec<Pair>,
    pub(crate) pads: Vec<[Pad; PLAYERS]>,
}

/// One match in this many starts at its first frame.
const FROM_THE_START: usize = 12;

impl Stream {
    /// A random place, long matches more often.
    pub(crate) fn random(matches: &[&Match], window: usize, random: &mut Random) -> Self {
        let room = |m: &Match| m.frames.len().saturating_sub(window + 1);
        let total: usize = matches.iter().map(|m| room(m)).sum();
        let mut at = random.below(total.max(1));
        let mut source = 0;
        while source + 1 < matches.len() && at >= room(matches[source]) {
            at -= room(matches[source]);
            source += 1;
        }
        let frame = if random.below(FROM_THE_START) == 0 {
            0
        } else {
            at
        };
        Self {
            source,
            frame,
            swapped: random.below(2) == 1,
            mirrored: random.below(2) == 1,
        }
    }

    /// Whether another window fits.
    pub(crate) fn fits(&self, matches: &[&Match], window: usize) -> bool {
        self.frame + window < matches[self.source].frames.len()
    }

    /// The next window; the stream moves past it.
    pub(crate) fn next(&mut self, matches: &[&Match], window: usize) -> Window {
        let source = matches[self.source];
        let frames = &source.frames[self.frame..=self.frame + window];
        self.frame += window;
        let mut out = Window {
            stage: source.stage,
            ..Window::default()
        };
        for frame in frames {
            let mut frame = *frame;
            if self.swapped {
                frame.swap(0, 1);
            }
            if self.mirrored {
                frame.iter_mut().for_each(mirror);
            }
            out.states.push(states(&frame));
            out.pads.push([frame[0].pad, frame[1].pad]);
        }
        out
    }
}

/// Left becomes right.
fn mirror(frame: &mut PlayerFrame) {
    let core = &mut frame.core;
    core.x = -core.x;
    core.speed_air_x = core.speed_air_x.saturating_neg();
    core.speed_attack_x = core.speed_attack_x.saturating_neg();
    core.speed_ground_x = core.speed_ground_x.saturating_neg();
    core.facing = 1 - core.facing.min(1);
    frame.pad.stick[0] = frame.pad.stick[0].saturating_neg();
    frame.pad.cstick[0] = frame.pad.cstick[0].saturating_neg();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirroring_twice_changes_nothing() {
        let mut frame = PlayerFrame::default();
        frame.core.x = 77;
        frame.core.speed_air_x = -5;
        frame.pad.stick = [400, -800];
        let before = frame;
        mirror(&mut frame);
        assert_ne!(frame, before);
        mirror(&mut frame);
        assert_eq!(frame, before);
    }
}
