use worldline_abi::{Pad, PlayerState, SessionState, status};

/// Something that plays a match frame by frame.
pub trait Stepper {
    /// A new match from these states, with nothing remembered.
    fn reset(&mut self, stage: u8, players: [PlayerState; 2]);
    /// Puts the true states in place of its own, and keeps what it remembers.
    fn force(&mut self, players: [PlayerState; 2]);
    /// The next frame. A match that has ended stays as it is.
    fn step(&mut self, pads: [Pad; 2]);
    /// The match after the last frame.
    fn state(&self) -> &SessionState;
}

/// What is measured: it makes a stepper for each thread.
pub trait Subject: Sync {
    /// Heads its column in the report.
    fn name(&self) -> &str;
    /// A stepper of its own.
    fn stepper(&self) -> Box<dyn Stepper + '_>;
}

/// A match under way, `clock` frames before its end.
pub(super) fn active(stage: u8, players: [PlayerState; 2], clock: u32) -> SessionState {
    SessionState {
        status: status::ACTIVE,
        stage,
        players,
        clock,
        ..SessionState::default()
    }
}

/// Baseline: nothing moves.
pub struct Still;

/// Baseline: both bodies go on by their last true displacement; all else stays.
pub struct ConstantVelocity;

/// Both baselines: [`Still`] never learns a displacement.
#[derive(Default)]
struct Drift {
    state: SessionState,
    velocity: Option<[[i32; 2]; 2]>,
    /// The last true states.
    last: [PlayerState; 2],
}

impl Subject for Still {
    fn name(&self) -> &str {
        "nothing moves"
    }

    fn stepper(&self) -> Box<dyn Stepper> {
        Box::new(Drift {
            velocity: None,
            ..Drift::default()
        })
    }
}

impl Subject for ConstantVelocity {
    fn name(&self) -> &str {
        "constant velocity"
    }

    fn stepper(&self) -> Box<dyn Stepper> {
        Box::new(Drift {
            velocity: Some([[0; 2]; 2]),
            ..Drift::default()
        })
    }
}

impl Stepper for Drift {
    fn reset(&mut self, stage: u8, players: [PlayerState; 2]) {
        self.state = active(stage, players, 0);
        self.velocity = self.velocity.map(|_| [[0; 2]; 2]);
        self.last = players;
    }

    fn force(&mut self, players: [PlayerState; 2]) {
        for (i, velocity) in self.velocity.iter_mut().flatten().enumerate() {
            let (old, new) = (&self.last[i], &players[i]);
            *velocity = [new.x - old.x, new.y - old.y];
        }
        self.state.players = players;
        self.last = players;
    }

    fn step(&mut self, _: [Pad; 2]) {
        let velocities = self.velocity.unwrap_or_default();
        for (player, [x, y]) in self.state.players.iter_mut().zip(velocities) {
            player.x += x;
            player.y += y;
        }
    }

    fn state(&self) -> &SessionState {
        &self.state
    }
}
