use worldline_abi::{Pad, PlayerState, SessionState, end_reason, status};

use super::{
    report::FP32,
    stepper::{Stepper, Subject, active},
};
use crate::predict::{Play, Predictor};

/// A checkpoint, in the arithmetic of training.
pub struct Fp32<'a>(pub &'a Predictor);

struct Fp32Stepper<'a> {
    predictor: &'a Predictor,
    play: Play<'a>,
    state: SessionState,
}

impl Subject for Fp32<'_> {
    fn name(&self) -> &str {
        FP32
    }

    fn stepper(&self) -> Box<dyn Stepper + '_> {
        Box::new(Fp32Stepper {
            predictor: self.0,
            play: self.0.play(0),
            state: SessionState::default(),
        })
    }
}

impl Stepper for Fp32Stepper<'_> {
    fn reset(&mut self, stage: u8, players: [PlayerState; 2]) {
        self.play = self.predictor.play(stage);
        self.state = active(stage, players, 0);
    }

    fn force(&mut self, players: [PlayerState; 2]) {
        self.state.players = players;
        self.state.status = status::ACTIVE;
    }

    fn step(&mut self, pads: [Pad; 2]) {
        if self.state.status != status::ACTIVE {
            return;
        }
        self.state.players = self.play.step(&self.state.players, &pads);
        self.state.frame += 1;
        if self.state.players.iter().any(|player| player.stocks == 0) {
            self.state.status = status::ENDED;
            self.state.end_reason = end_reason::STOCKS;
        }
    }

    fn state(&self) -> &SessionState {
        &self.state
    }
}
