use worldline_abi::{InputBuffer, PadSlot, SessionState};

use super::{Match, PlayerFrame};
use crate::{quantize::Sequence, random::Random};

/// Frames of one match that follow each other.
#[derive(Clone, Copy, Debug)]
pub struct Clip<'a> {
    /// Slippi stage id.
    pub stage: u8,
    /// The frames.
    pub frames: &'a [[PlayerFrame; 2]],
}

/// `count` clips of `length` frames, every place in every match as likely as any other. None if no
/// match is long enough.
pub fn clips<'a>(matches: &[&'a Match], length: usize, count: usize, seed: u64) -> Vec<Clip<'a>> {
    let places = |one: &Match| (one.frames.len() + 1).saturating_sub(length);
    let total: usize = matches.iter().map(|one| places(one)).sum();
    let mut random = Random::new(seed);
    let clip = |mut at: usize| {
        for one in matches {
            match at.checked_sub(places(one)) {
                Some(rest) => at = rest,
                None => {
                    return Clip {
                        stage: one.stage,
                        frames: &one.frames[at..at + length],
                    };
                }
            }
        }
        unreachable!("a place below the total lies in a match")
    };
    let count = if total == 0 { 0 } else { count };
    (0..count).map(|_| clip(random.below(total))).collect()
}

impl Clip<'_> {
    /// For calibration: the state before each frame but the first, and the pads that led to it.
    pub fn sequence(&self) -> Sequence {
        let pairs = self.frames.windows(2);
        pairs
            .map(|pair| {
                let players = pair[0].map(|seat| seat.state());
                let slots = pair[1].map(|seat| PadSlot {
                    pad: seat.pad,
                    sequence: 0,
                });
                let state = SessionState {
                    stage: self.stage,
                    players,
                    ..SessionState::default()
                };
                (
                    state,
                    InputBuffer {
                        slots,
                        ..InputBuffer::default()
                    },
                )
            })
            .collect()
    }
}
