use worldline_abi::PlayerState;

use crate::dataset::{Clip, PlayerFrame};

/// True frames before the first own one.
pub const WARM_UP: usize = 30;
/// Own frames after them.
pub const HORIZONS: usize = 20;
/// Frames of a start: those given, then those to foretell.
pub(super) const WINDOW: usize = WARM_UP + HORIZONS;

/// Action states below this one are deaths and the way back: no physics decides them.
const ALIVE: u16 = 14;

/// Whether somebody is dead or on the way back in the frames to foretell.
pub(super) fn holds_death(window: &Clip) -> bool {
    let foretold = window.frames[WARM_UP - 1..].iter().flatten();
    foretold
        .map(|seat| seat.core.action_state)
        .any(|action| action < ALIVE)
}

/// Both players' states after a frame.
pub(super) fn states(frame: &[PlayerFrame; 2]) -> [PlayerState; 2] {
    frame.each_ref().map(PlayerFrame::state)
}
