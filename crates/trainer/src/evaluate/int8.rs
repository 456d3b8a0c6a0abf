use worldline_abi::{InputBuffer, Pad, PadSlot, Page, PlayerState, SessionState, status};
use worldline_cartridge::{Cartridge, Model, Scratch, step};
use worldline_mamba2::Native;

use super::{
    report::INT8,
    stepper::{Stepper, Subject, active},
};

/// A world cartridge, by the one step that a match uses.
pub struct Int8<'a>(pub &'a Cartridge);

struct Int8Stepper<'a> {
    model: Model<'a>,
    state: SessionState,
    pages: Vec<Page>,
    scratch: Box<Scratch>,
    kernels: Native,
}

impl Subject for Int8<'_> {
    fn name(&self) -> &str {
        INT8
    }

    fn stepper(&self) -> Box<dyn Stepper + '_> {
        let model = self.0.model();
        Box::new(Int8Stepper {
            model,
            state: SessionState::default(),
            pages: model.hidden().fresh(),
            scratch: Scratch::boxed(),
            kernels: Native::detect(),
        })
    }
}

impl Stepper for Int8Stepper<'_> {
    fn reset(&mut self, stage: u8, players: [PlayerState; 2]) {
        self.state = active(stage, players, self.model.plan().header.clock_frames);
        self.state.schema_id = self.model.manifest().schema_id;
        self.pages = self.model.hidden().fresh();
    }

    fn force(&mut self, players: [PlayerState; 2]) {
        self.state.players = players;
        self.state.status = status::ACTIVE;
    }

    fn step(&mut self, pads: [Pad; 2]) {
        if self.state.status != status::ACTIVE {
            return;
        }
        let inputs = InputBuffer {
            slots: pads.map(|pad| PadSlot {
                pad,
                ..PadSlot::default()
            }),
            frame: self.state.frame + 1,
        };
        let mut hidden: Vec<&mut Page> = self.pages.iter_mut().collect();
        step(
            &self.model,
            &mut self.state,
            &mut hidden,
            &inputs,
            &mut self.scratch,
            &self.kernels,
        )
        .expect("an active match of this world, with its own pages and the next frame's pads");
    }

    fn state(&self) -> &SessionState {
        &self.state
    }
}
