//! Branches: copies of a running match that go their own way, and many of them rolled out together.

use std::sync::Arc;

use worldline_abi::{InputBuffer, Pad, PadSlot, SessionState, status};

use crate::world::{Running, Scratch, StepError, World, step_together};

/// A match without seats or a clock: a state, its hidden state, and the world that moves them.
#[derive(Clone)]
pub struct Branch {
    running: Running,
    state: SessionState,
}

/// A roll-out cannot be run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RolloutError {
    /// Branches of different worlds share no weights.
    #[error("branch {0} is of another world than branch 0: roll each world out by itself")]
    OtherWorld(usize),
    /// A branch cannot be stepped.
    #[error("branch {0} cannot be stepped: {1}")]
    Step(usize, StepError),
}

impl Branch {
    /// A branch before its first frame; `None` when no match of the world can start like this.
    pub fn start(
        world: &Arc<World>,
        stage: u8,
        characters: [u8; 2],
        generator: u64,
    ) -> Option<Self> {
        let state = world.start(stage, characters, generator, world.clock())?;
        Some(Self::new(world.running(), state))
    }

    pub(crate) fn new(running: Running, state: SessionState) -> Self {
        Self { running, state }
    }

    /// Where it stands.
    pub fn state(&self) -> &SessionState {
        &self.state
    }

    /// Plays on from the start state of `fresh`, keeping its own hidden state and frame number.
    pub(crate) fn revive(&mut self, fresh: &Self) {
        self.state = SessionState {
            frame: self.state.frame,
            ..fresh.state
        };
    }

    /// Runs one frame.
    pub(crate) fn step(&mut self, pads: [Pad; 2], scratch: &mut Scratch) -> Result<(), StepError> {
        let inputs = inputs(&self.state, pads);
        self.running.step(&mut self.state, &inputs, scratch)
    }

    /// Bytes that a copy copies.
    pub fn bytes(&self) -> usize {
        self.running.bytes() + size_of::<SessionState>()
    }

    /// Becomes a copy of `other` in the memory it has.
    pub fn copy_from(&mut self, other: &Self) {
        self.set(&other.running, &other.state);
    }

    pub(crate) fn set(&mut self, running: &Running, state: &SessionState) {
        self.state = *state;
        self.running.copy_from(running);
    }
}

/// The next frame's inputs.
fn inputs(state: &SessionState, pads: [Pad; 2]) -> InputBuffer {
    InputBuffer {
        slots: pads.map(|pad| PadSlot { pad, sequence: 0 }),
        frame: state.frame + 1,
    }
}

/// Steps all branches together over one pass of the weights, until `frames` have run or no match
/// goes on. `pads` is asked for each branch and frame. Gives the frames run, all branches together.
///
/// ```
/// use worldline_abi::Pad;
/// use worldline_arena::{Branch, World, rollout};
/// use worldline_cartridge::testing::{Size, cartridge};
///
/// let world = World::new("micro", cartridge(Size::Micro, 7), serde_json::Value::Null);
/// let trunk = Branch::start(&world, 31, [2, 20], 1).unwrap();
/// let mut branches = vec![trunk; 16];
/// let frames = rollout(&mut branches, 10, |_, _| [Pad::default(); 2])?;
/// assert_eq!(frames, 160);
/// # Ok::<(), worldline_arena::RolloutError>(())
/// ```
pub fn rollout(
    branches: &mut [Branch],
    frames: u32,
    mut pads: impl FnMut(usize, &SessionState) -> [Pad; 2],
) -> Result<u64, RolloutError> {
    let Some(first) = branches.first() else {
        return Ok(0);
    };
    if let Some(other) = branches
        .iter()
        .position(|one| !one.running.same_world(&first.running))
    {
        return Err(RolloutError::OtherWorld(other));
    }
    let mut scratches: Vec<Scratch> = branches.iter().map(|_| Scratch::new()).collect();
    let mut run = 0;
    for _ in 0..frames {
        let mut lanes = Vec::with_capacity(branches.len());
        let mut places = Vec::with_capacity(branches.len());
        for (at, branch) in branches.iter_mut().enumerate() {
            if branch.state.status == status::ACTIVE {
                let inputs = inputs(&branch.state, pads(at, &branch.state));
                lanes.push((&mut branch.running, &mut branch.state, inputs));
                places.push(at);
            }
        }
        if lanes.is_empty() {
            break;
        }
        run += lanes.len() as u64;
        step_together(&mut lanes, &mut scratches)
            .map_err(|(lane, error)| RolloutError::Step(places[lane], error))?;
    }
    Ok(run)
}

#[cfg(test)]
mod tests {
    use super::*;
    use worldline_abi::STICK_UNIT;
    use worldline_cartridge::testing::{Size, cartridge};

    fn world(seed: u64) -> Arc<World> {
        World::new(
            "micro",
            cartridge(Size::Interop, seed),
            serde_json::Value::Null,
        )
    }

    fn pads(branch: usize, state: &SessionState) -> [Pad; 2] {
        let stick = (state.frame as i16 * 700 + branch as i16 * 900) % STICK_UNIT;
        [
            Pad {
                stick: [stick, 0],
                ..Pad::default()
            },
            Pad::default(),
        ]
    }

    #[test]
    fn a_rollout_is_what_single_branches_do() {
        let trunk = Branch::start(&world(7), 31, [2, 20], 1).unwrap();
        let mut together = vec![trunk.clone(); 5];
        assert_eq!(rollout(&mut together, 40, pads), Ok(200));
        for (at, branch) in together.iter().enumerate() {
            let mut alone = [trunk.clone()];
            rollout(&mut alone, 40, |_, state| pads(at, state)).unwrap();
            assert_eq!(alone[0].state(), branch.state());
        }
        assert_ne!(together[0].state().chain, together[1].state().chain);
    }

    #[test]
    fn a_branch_does_not_change_its_trunk() {
        let trunk = Branch::start(&world(7), 31, [2, 20], 1).unwrap();
        let mut other = trunk.clone();
        rollout(std::slice::from_mut(&mut other), 10, pads).unwrap();
        assert_eq!(trunk.state().frame, 0);
        let mut again = other.clone();
        again.copy_from(&trunk);
        rollout(std::slice::from_mut(&mut again), 10, pads).unwrap();
        assert_eq!(again.state(), other.state());
    }

    #[test]
    fn worlds_do_not_mix() {
        let branches = [7, 8].map(|seed| Branch::start(&world(seed), 31, [2, 20], 1).unwrap());
        assert_eq!(
            rollout(&mut branches.to_vec(), 1, pads),
            Err(RolloutError::OtherWorld(1))
        );
    }
}
