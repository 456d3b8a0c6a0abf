use worldline_abi::PlayerState;

use crate::{
    dataset::{Match, PlayerFrame},
    random::Random,
};

/// True frames before the first own one.
pub const WARM_UP: usize = 30;
/// Own frames after them.
pub const HORIZONS: usize = 20;

/// Action states below this one are deaths and the way back: no physics decides them.
const ALIVE: u16 = 14;

/// A place to start from: 30 true frames, then 20 to foretell.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window<'a> {
    pub(super) stage: u8,
    pub(super) frames: &'a [[PlayerFrame; 2]],
}

impl<'a> Window<'a> {
    /// `count` windows, each frame of each match as likely as any other.
    pub(super) fn draw(matches: &[&'a Match], count: usize, seed: u64) -> Vec<Self> {
        const LENGTH: usize = WARM_UP + HORIZONS;
        let places = |one: &Match| (one.frames.len() + 1).saturating_sub(LENGTH);
        let total: usize = matches.iter().map(|one| places(one)).sum();
        let mut random = Random::new(seed);
        let mut draw = || {
            let mut at = random.below(total);
            let one = matches
                .iter()
                .find(|one| match at.checked_sub(places(one)) {
                    None => true,
                    Some(rest) => {
                        at = rest;
                        false
                    }
                })?;
            Some(Self {
                stage: one.stage,
                frames: &one.frames[at..at + LENGTH],
            })
        };
        (0..if total == 0 { 0 } else { count })
            .map_while(|_| draw())
            .collect()
    }

    /// Whether somebody is dead or on the way back in the frames to foretell.
    pub(super) fn holds_death(&self) -> bool {
        let foretold = self.frames[WARM_UP - 1..].iter().flatten();
        foretold
            .map(|seat| seat.core.action_state)
            .any(|action| action < ALIVE)
    }
}

/// Both players' states after a frame.
pub(super) fn states(frame: &[PlayerFrame; 2]) -> [PlayerState; 2] {
    frame.each_ref().map(PlayerFrame::state)
}
