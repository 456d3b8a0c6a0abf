//! Opponents that need no person: recorded, random, learned.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use worldline_abi::{InputBuffer, Pad, STICK_UNIT, SessionState, button, seat};
use worldline_mamba2::math::split_mix_64;

use crate::arena::CreateError;
use crate::ghost::Ghost;
use crate::limits::RANDOM_HOLD;
use crate::world::{Running, Scratch, Shelf, World};

/// Who plays the second seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Opponent {
    /// Another person, by the invite link.
    Human,
    /// A human's recorded inputs.
    Ghost,
    /// Random pads, each held for some frames.
    Random,
    /// A learned policy cartridge.
    Policy,
}

impl Opponent {
    /// What a value in `abi::Session::seats` says; `None` for a free seat and for unknown ones.
    pub fn from_code(code: u8) -> Option<Self> {
        let all = [Self::Human, Self::Ghost, Self::Random, Self::Policy];
        all.into_iter().find(|one| one.code() == code)
    }

    /// Its value in `abi::Session::seats`.
    pub fn code(self) -> u8 {
        match self {
            Self::Human => seat::HUMAN,
            Self::Ghost => seat::GHOST,
            Self::Random => seat::RANDOM,
            Self::Policy => seat::POLICY,
        }
    }
}

/// An opponent at work. It sees what a player sees, and is asked once for each frame, in order.
#[derive(Clone)]
pub(crate) enum Player {
    Ghost(Arc<Ghost>),
    Random(RandomPads),
    Policy(Box<Running>),
}

impl Player {
    /// What kind of opponent it is.
    pub(crate) fn opponent(&self) -> Opponent {
        match self {
            Self::Ghost(_) => Opponent::Ghost,
            Self::Random(_) => Opponent::Random,
            Self::Policy(_) => Opponent::Policy,
        }
    }

    /// The pad for the frame after `state`, sitting in `seat`.
    pub(crate) fn pad(
        &mut self,
        state: &SessionState,
        last: &InputBuffer,
        seat: usize,
        scratch: &mut Scratch,
    ) -> Pad {
        match self {
            Self::Ghost(ghost) => ghost.pads[state.frame as usize % ghost.pads.len()],
            Self::Random(random) => random.pad(state, seat),
            Self::Policy(running) => running.act(state, last, seat, scratch),
        }
    }
}

impl Shelf {
    /// An opponent that needs no person, and its character.
    pub(crate) fn cpu(
        &self,
        opponent: Opponent,
        world: &World,
        stage: u8,
        generator: u64,
    ) -> Result<(Player, u8), CreateError> {
        let roster = world.characters(stage);
        let own = roster
            .get(generator as usize % roster.len().max(1))
            .copied()
            .unwrap_or_default();
        match opponent {
            Opponent::Random => Ok((Player::Random(RandomPads::new(generator)), own)),
            Opponent::Ghost => {
                let ghost = self
                    .ghost(&roster, stage, generator)
                    .ok_or(CreateError::NoOpponent("ghost"))?;
                let character = ghost.character;
                Ok((Player::Ghost(ghost), character))
            }
            Opponent::Policy => {
                let policy = self
                    .policy(world)
                    .ok_or(CreateError::NoOpponent("policy"))?;
                let running = policy.running().seeded(generator);
                Ok((Player::Policy(Box::new(running)), own))
            }
            Opponent::Human => Err(CreateError::NoOpponent("person")),
        }
    }
}

/// An opponent that needs no person, for a match that runs elsewhere.
pub struct Bot {
    player: Player,
    seat: usize,
    /// Whom it plays.
    pub character: u8,
    scratch: Scratch,
}

impl Bot {
    /// An opponent for a seat of a match in `world`; the same from the same `generator`.
    pub fn new(
        shelf: &Shelf,
        opponent: Opponent,
        world: &World,
        stage: u8,
        seat: usize,
        generator: u64,
    ) -> Result<Self, CreateError> {
        let (player, character) = shelf.cpu(opponent, world, stage, generator)?;
        Ok(Self {
            player,
            seat,
            character,
            scratch: Scratch::new(),
        })
    }

    /// Its pad for the frame after `state`, which `last` led to. Asked once for each frame, in order.
    pub fn pad(&mut self, state: &SessionState, last: &InputBuffer) -> Pad {
        self.player.pad(state, last, self.seat, &mut self.scratch)
    }
}

/// Random pads, held as long as a human holds them, that rather walk to the middle than off it.
#[derive(Clone)]
pub(crate) struct RandomPads {
    generator: u64,
    hold: u32,
    pad: Pad,
}

impl RandomPads {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            generator: seed,
            hold: 0,
            pad: Pad::default(),
        }
    }

    fn pad(&mut self, state: &SessionState, seat: usize) -> Pad {
        if self.hold == 0 {
            let (least, most) = RANDOM_HOLD;
            self.hold = least + self.below(most - least + 1);
            self.pad = self.draw(state.players[seat].x);
        }
        self.hold -= 1;
        self.pad
    }

    fn draw(&mut self, x: i32) -> Pad {
        let inward = if x > 0 { -STICK_UNIT } else { STICK_UNIT };
        let across = match self.below(8) {
            0..4 => inward,
            4..6 => -inward,
            _ => 0,
        };
        let up = match self.below(8) {
            0 => STICK_UNIT,
            1 => -STICK_UNIT,
            _ => 0,
        };
        let buttons = match self.below(16) {
            0..3 => button::A,
            3..6 => button::B,
            6..9 => button::X,
            9 => button::Z,
            10 => button::L,
            _ => 0,
        };
        let pressed = u8::from(buttons == button::L) * u8::MAX;
        Pad {
            stick: [across, up],
            triggers: [pressed, 0],
            buttons,
            ..Pad::default()
        }
    }

    /// A number below `end`.
    fn below(&mut self, end: u32) -> u32 {
        let drawn = split_mix_64(&mut self.generator);
        (((drawn >> 32) * u64::from(end)) >> 32) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_pads_are_valid_held_and_the_same_from_the_same_seed() {
        let play = |seed| {
            let (mut random, state) = (RandomPads::new(seed), SessionState::default());
            (0..2000).map(|_| random.pad(&state, 0)).collect::<Vec<_>>()
        };
        let pads = play(1);
        assert!(pads.iter().all(Pad::is_valid));
        assert_eq!(pads, play(1));
        assert_ne!(pads, play(2));
        let changes = pads.windows(2).filter(|two| two[0] != two[1]).count();
        assert!((50..400).contains(&changes), "{changes}");
    }
}
