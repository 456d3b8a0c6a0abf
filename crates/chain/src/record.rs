//! A match's recording, put together from what a chain tells of its accounts. No I/O.

use std::collections::BTreeMap;

use worldline_abi::{
    InputAccount, InputBuffer, MatchResult, PadSlot, Session, SessionState, status,
};
use worldline_arena::{Recording, sign::RunningHash};

/// The recording has a hole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// What was told of a frame's inputs is not what entered its hash.
    #[error(
        "the inputs of frame {0} were not told: the recording began too late, or the connection lost messages; the match itself is not harmed"
    )]
    Hole(u32),
    /// The match had begun before the recording.
    #[error("the match is at frame {0} already: its recording has to begin before its first frame")]
    Late(u32),
}

/// Takes in states and inputs in any order, and keeps a frame once it has both.
#[derive(Debug)]
pub struct Recorder {
    recording: Recording,
    states: BTreeMap<u32, SessionState>,
    inputs: BTreeMap<u32, InputBuffer>,
    hashes: [RunningHash; 2],
    last: Option<InputAccount>,
    /// Slots of each seat that may have entered the next frame, as they were told.
    slots: [Vec<PadSlot>; 2],
    newest: SessionState,
    fresh: Vec<Frame>,
}

/// A frame as it was recorded: what entered it, and what it led to.
pub type Frame = (InputBuffer, SessionState);

impl Recorder {
    /// A recorder of a match that is about to run its first frame.
    pub fn new(session: Session, start: SessionState) -> Result<Self, RecordError> {
        if start.frame > 0 {
            return Err(RecordError::Late(start.frame));
        }
        Ok(Self {
            recording: Recording::new(session, start),
            states: BTreeMap::new(),
            inputs: BTreeMap::new(),
            hashes: [RunningHash::default(); 2],
            last: None,
            slots: [(); 2].map(|()| vec![PadSlot::default()]),
            newest: start,
            fresh: Vec::new(),
        })
    }

    /// A recorder that goes on after `frames`, which an earlier one kept; the match stands at `now`.
    pub fn resume(
        session: Session,
        start: SessionState,
        frames: &[Frame],
        now: &SessionState,
    ) -> Result<Self, RecordError> {
        let mut recorder = Self::new(session, start)?;
        for (inputs, state) in frames.iter().take(now.frame as usize) {
            recorder.hash(inputs);
            recorder.slots = inputs.slots.map(|slot| vec![slot]);
            recorder.recording.push(*inputs, state);
            recorder.newest = *state;
        }
        if recorder.newest.chain == now.chain && recorder.frames() == now.frame {
            recorder.newest = *now;
            Ok(recorder)
        } else {
            Err(RecordError::Hole(recorder.frames() + 1))
        }
    }

    fn hash(&mut self, inputs: &InputBuffer) {
        for (hash, slot) in self.hashes.iter_mut().zip(&inputs.slots) {
            hash.push(inputs.frame, slot);
        }
    }

    /// The frames that were recorded since the last call, oldest first.
    pub fn fresh(&mut self) -> Vec<Frame> {
        std::mem::take(&mut self.fresh)
    }

    /// Takes in a state.
    pub fn state(&mut self, state: &SessionState) -> Result<(), RecordError> {
        if state.frame >= self.newest.frame {
            self.newest = *state;
        }
        if state.frame > self.recording.last_frame() {
            self.states.entry(state.frame).or_insert(*state);
        }
        self.keep()
    }

    /// Takes in the inputs' account. The first that is told of a frame holds the pads that entered it,
    /// later ones those of the next. Chains that tell only of the newest, or in another order, leave it
    /// to the account's hashes which of the pads that were told it was.
    pub fn inputs(&mut self, inputs: &InputAccount) -> Result<(), RecordError> {
        let frame = inputs.buffer.frame;
        for signature in &inputs.signatures {
            let known = self.recording.signatures.iter();
            let is_new = signature.frame > 0
                && !known
                    .clone()
                    .any(|one| (one.seat, one.frame) == (signature.seat, signature.frame));
            if is_new {
                self.recording.signatures.push(*signature);
            }
        }
        if self.last.is_none_or(|last| frame >= last.buffer.frame) {
            self.last = Some(*inputs);
        }
        let next = self.next_hashed();
        if frame > next {
            return Err(RecordError::Hole(next));
        }
        if frame + 1 >= next {
            for (slots, slot) in self.slots.iter_mut().zip(inputs.buffer.slots) {
                slots.push(slot);
            }
        }
        if frame == next
            && let Some(entered) = self.entered(inputs)
        {
            self.hash(&entered);
            self.slots = inputs.buffer.slots.map(|slot| vec![slot]);
            self.inputs.insert(frame, entered);
        }
        self.keep()
    }

    /// The inputs that entered the next frame, if its hashes are of slots that were told.
    fn entered(&self, inputs: &InputAccount) -> Option<InputBuffer> {
        let mut entered = inputs.buffer;
        for (seat, slot) in entered.slots.iter_mut().enumerate() {
            let is_it = |told: &&PadSlot| {
                let mut hash = self.hashes[seat];
                hash.push(inputs.buffer.frame, told);
                hash.0 == inputs.hashes[seat]
            };
            *slot = *self.slots[seat].iter().rev().find(is_it)?;
        }
        Some(entered)
    }

    /// The frame whose inputs come next.
    fn next_hashed(&self) -> u32 {
        let newest = self.inputs.last_key_value().map(|(frame, _)| *frame);
        newest.unwrap_or(self.recording.last_frame()) + 1
    }

    fn keep(&mut self) -> Result<(), RecordError> {
        loop {
            let next = self.recording.last_frame() + 1;
            if !self.inputs.contains_key(&next) {
                return Ok(());
            }
            let Some(state) = self.states.remove(&next) else {
                // States come in order: a later one means that this one was lost.
                let lost = self.states.keys().next().is_some_and(|frame| *frame > next);
                return if lost {
                    Err(RecordError::Hole(next))
                } else {
                    Ok(())
                };
            };
            if let Some(inputs) = self.inputs.remove(&next) {
                self.recording.push(inputs, &state);
                self.fresh.push((inputs, state));
            }
        }
    }

    /// Frames that are kept.
    pub fn frames(&self) -> u32 {
        self.recording.frames()
    }

    /// The newest state that was told.
    pub fn newest(&self) -> &SessionState {
        &self.newest
    }

    /// Whether the match is over and every frame of it kept.
    pub fn is_whole(&self) -> bool {
        self.newest.status == status::ENDED && self.recording.last_frame() == self.newest.frame
    }

    /// Whether this seat has signed up to the last frame.
    pub fn has_signed_all(&self, seat: u8) -> bool {
        let last = self.newest.frame;
        let mut signatures = self.recording.signatures.iter();
        last == 0 || signatures.any(|one| (one.seat, one.frame) == (seat, last))
    }

    /// The recording of a match that is over, with its result.
    pub fn finish(mut self) -> Recording {
        let hashes = self.hashes.map(|hash| hash.0);
        self.recording.result = result(&self.recording.session, &self.newest, hashes);
        self.recording
    }
}

/// The result of a match, as the program records it.
pub fn result(session: &Session, state: &SessionState, input_hashes: [[u8; 32]; 2]) -> MatchResult {
    let players = &state.players;
    MatchResult {
        id: session.id,
        world_root: session.world_root,
        wallets: session.wallets,
        chain: state.chain,
        input_hashes,
        start_frame: 0,
        end_frame: state.frame,
        rule_hits: state.rule_hits,
        percent: players.each_ref().map(|player| player.percent),
        stocks: players.each_ref().map(|player| player.stocks),
        characters: session.characters,
        seats: session.seats,
        stage: session.stage,
        winner: state.winner,
        end_reason: state.end_reason,
        ..MatchResult::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytemuck::Zeroable;
    use worldline_abi::{InputSignature, Pad, end_reason};

    /// A chain that runs frames, and tells of them.
    struct Told {
        state: SessionState,
        inputs: InputAccount,
    }

    impl Told {
        fn new() -> Self {
            Self {
                state: SessionState {
                    status: status::ACTIVE,
                    ..SessionState::default()
                },
                inputs: InputAccount::zeroed(),
            }
        }

        fn press(&mut self, buttons: u16) {
            let slot = &mut self.inputs.buffer.slots[0];
            slot.sequence += 1;
            slot.pad = Pad {
                buttons,
                ..Pad::default()
            };
        }

        fn frame(&mut self) {
            self.state.frame += 1;
            self.state.chain = [self.state.frame as u8; 32];
            self.inputs.buffer.frame = self.state.frame;
            let slots = self.inputs.buffer.slots;
            for (hash, slot) in self.inputs.hashes.iter_mut().zip(&slots) {
                let mut running = RunningHash(*hash);
                running.push(self.state.frame, slot);
                *hash = running.0;
            }
        }
    }

    #[test]
    fn frames_are_kept_whatever_is_told_first() {
        let mut told = Told::new();
        let mut recorder = Recorder::new(Session::default(), told.state).unwrap();
        for frame in 1..=700u16 {
            told.press(frame & 0x1f);
            recorder.inputs(&told.inputs).unwrap();
            told.frame();
            if frame % 2 == 0 {
                recorder.state(&told.state).unwrap();
                recorder.inputs(&told.inputs).unwrap();
            } else {
                recorder.inputs(&told.inputs).unwrap();
                recorder.state(&told.state).unwrap();
            }
        }
        assert!(!recorder.is_whole());
        told.state.status = status::ENDED;
        told.state.end_reason = end_reason::QUIT;
        told.inputs.signatures[0] = InputSignature {
            frame: 700,
            ..InputSignature::zeroed()
        };
        recorder.state(&told.state).unwrap();
        recorder.inputs(&told.inputs).unwrap();
        assert!(recorder.is_whole() && recorder.has_signed_all(0) && !recorder.has_signed_all(1));
        let recording = recorder.finish();
        assert_eq!((recording.frames(), recording.checkpoints.len()), (700, 1));
        assert_eq!(recording.inputs[4].slots[0].pad.buttons, 5);
        assert_eq!(recording.result.input_hashes, told.inputs.hashes);
        assert_eq!(recording.signatures.len(), 1);
    }

    #[test]
    fn a_frame_that_was_not_told_is_a_hole() {
        let mut told = Told::new();
        let mut recorder = Recorder::new(Session::default(), told.state).unwrap();
        told.press(1); // Nobody hears of this pad.
        told.frame();
        told.press(2);
        recorder.inputs(&told.inputs).unwrap();
        told.frame();
        assert_eq!(recorder.inputs(&told.inputs), Err(RecordError::Hole(1)));

        let mut told = Told::new();
        let mut recorder = Recorder::new(Session::default(), told.state).unwrap();
        told.frame();
        told.frame();
        assert_eq!(recorder.inputs(&told.inputs), Err(RecordError::Hole(1)));
        assert!(matches!(
            Recorder::new(Session::default(), told.state),
            Err(RecordError::Late(2))
        ));
    }

    #[test]
    fn a_pad_that_came_before_its_frame_was_told_hides_none() {
        let mut told = Told::new();
        let mut recorder = Recorder::new(Session::default(), told.state).unwrap();
        for frame in 1..=4 {
            told.press(frame);
            recorder.inputs(&told.inputs).unwrap();
            told.frame();
            recorder.state(&told.state).unwrap();
            told.press(frame | 0x10); // Told together with the frame that it comes after.
            recorder.inputs(&told.inputs).unwrap();
        }
        let buttons = |inputs: &InputBuffer| inputs.slots[0].pad.buttons;
        let recorded: Vec<u16> = recorder.recording.inputs.iter().map(buttons).collect();
        assert_eq!(recorded, [1, 2, 3, 4]);
    }

    #[test]
    fn a_lost_state_is_a_hole() {
        let mut told = Told::new();
        let mut recorder = Recorder::new(Session::default(), told.state).unwrap();
        told.frame();
        recorder.inputs(&told.inputs).unwrap();
        told.frame();
        recorder.inputs(&told.inputs).unwrap();
        assert_eq!(recorder.state(&told.state), Err(RecordError::Hole(1)));
    }

    #[test]
    fn the_running_hash_is_the_programs() {
        // The program hashes `r ‖ frame ‖ slot`; a slot is its pad, then its sequence.
        let slot = PadSlot {
            sequence: 0x0102,
            ..PadSlot::default()
        };
        assert_eq!(bytemuck::bytes_of(&slot)[12..], [2, 1]);
    }
}
