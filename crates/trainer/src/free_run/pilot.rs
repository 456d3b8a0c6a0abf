//! Who holds the controllers when nobody does.

use std::fmt;

use worldline_abi::{Pad, STICK_UNIT, SessionState, button};

use super::stage::units;
use crate::random::Random;

/// A way to hold both controllers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pilot {
    /// Any stick position and button, held for a while.
    Random,
    /// Runs to the other player and attacks; comes back when off the stage.
    Scripted,
    /// Two humans' recorded pads, whatever happens.
    Ghost,
}

impl fmt::Display for Pilot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Random => "random",
            Self::Scripted => "scripted",
            Self::Ghost => "ghost",
        })
    }
}

impl Pilot {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Random, Self::Scripted, Self::Ghost];

    /// Both controllers of a match; `recorded` are a ghost's.
    pub(super) fn start(self, recorded: &[[Pad; 2]], random: Random) -> Pilots<'_> {
        Pilots {
            pilot: self,
            recorded,
            random,
            held: [Held::default(); 2],
        }
    }
}

/// Both seats of a match.
pub(super) struct Pilots<'a> {
    pilot: Pilot,
    recorded: &'a [[Pad; 2]],
    random: Random,
    held: [Held; 2],
}

/// A pad, and for how many more frames.
#[derive(Clone, Copy, Default)]
struct Held {
    pad: Pad,
    frames: usize,
}

impl Pilots<'_> {
    /// The pads of the next frame.
    pub(super) fn pads(&mut self, state: &SessionState) -> [Pad; 2] {
        if self.pilot == Pilot::Ghost {
            return self.recorded[state.frame as usize % self.recorded.len()];
        }
        [0, 1].map(|seat: usize| {
            let mut held = self.held[seat];
            if held.frames == 0 {
                held = match self.pilot {
                    Pilot::Scripted => self.scripted(state, seat),
                    Pilot::Random | Pilot::Ghost => self.random(),
                };
            }
            held.frames -= 1;
            self.held[seat] = held;
            held.pad
        })
    }

    fn random(&mut self) -> Held {
        const BUTTONS: [u16; 7] = [
            button::A,
            button::B,
            button::X,
            button::Y,
            button::Z,
            button::L,
            button::R,
        ];
        let random = &mut self.random;
        let mut axis = || [-STICK_UNIT, 0, STICK_UNIT][random.below(3)];
        let stick = [axis(), axis()];
        let pressed = random.below(2 * BUTTONS.len());
        let buttons = BUTTONS.get(pressed).copied().unwrap_or(0);
        Held {
            pad: pad(stick, buttons),
            frames: 1 + random.below(20),
        }
    }

    /// Which of a few habits the place calls for.
    fn scripted(&mut self, state: &SessionState, seat: usize) -> Held {
        const EDGE: f64 = 65.0;
        const REACH: f64 = 14.0;
        let (own, other) = (&state.players[seat], &state.players[1 - seat]);
        let [x, y] = [own.x, own.y].map(units);
        let (dx, dy) = (units(other.x) - x, units(other.y) - y);
        let towards = |dx: f64| if dx < 0.0 { -STICK_UNIT } else { STICK_UNIT };
        let hold = |stick, buttons, frames| Held {
            pad: pad(stick, buttons),
            frames,
        };
        let chance = self.random.below(8);
        if x.abs() > EDGE || y < -5.0 {
            match chance {
                0..3 => hold([towards(-x), 0], button::X, 4),
                3..6 => hold([towards(-x), STICK_UNIT], button::B, 8),
                _ => hold([towards(-x), 0], 0, 6),
            }
        } else if dx.abs() > REACH {
            hold([towards(dx), 0], 0, 6 + chance)
        } else if dy > REACH {
            hold([towards(dx), 0], button::X, 5)
        } else {
            match chance {
                0..2 => hold([towards(dx), 0], button::A, 3),
                2 => hold([0, STICK_UNIT], button::A, 3),
                3 => hold([0, -STICK_UNIT], button::A, 3),
                4 => hold([0, 0], button::L, 8),
                5 => hold([0, 0], button::Z, 3),
                6 => hold([towards(dx), 0], button::B, 3),
                _ => hold([0, 0], 0, 6),
            }
        }
    }
}

fn pad(stick: [i16; 2], buttons: u16) -> Pad {
    let pressed = |bit| if buttons & bit == 0 { 0 } else { u8::MAX };
    Pad {
        stick,
        triggers: [pressed(button::L), pressed(button::R)],
        buttons,
        ..Pad::default()
    }
}
