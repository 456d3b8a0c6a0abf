//! A match whose frames run: state, hidden state, inputs, recording. No clock, no threads.

use std::sync::Arc;

use worldline_abi::{
    InputBuffer, InputSignature, MatchResult, Pad, PadSlot, SESSION_ID_BYTES, Session,
    SessionState, end_reason, status, winner,
};

use crate::branch::Branch;
use crate::limits::MAX_OPEN_MARKS;
use crate::opponent::Player;
use crate::recording::Recording;
use crate::sign::{RunningHash, is_mark};
use crate::world::{Running, Scratch, StepError};

/// A frame as it is sent to players and watchers: tag, state, inputs.
pub const FRAME_BYTES: usize = 4 + size_of::<SessionState>() + size_of::<InputBuffer>();
/// The first byte of a frame message.
pub const FRAME_TAG: u8 = 1;

/// A running match.
pub(crate) struct Game {
    pub(crate) running: Running,
    pub(crate) state: SessionState,
    /// The newest pad of each seat.
    pub(crate) slots: [PadSlot; 2],
    /// The inputs of the frame that is about to run.
    pub(crate) next: InputBuffer,
    /// Opponents that are no people.
    pub(crate) players: [Option<Player>; 2],
    pub(crate) hashes: [RunningHash; 2],
    pub(crate) recording: Arc<Recording>,
    /// The next pad of the seat counts whatever its sequence: its player has just come.
    fresh: [bool; 2],
    marks: [Vec<(u32, RunningHash)>; 2],
    last: InputBuffer,
}

impl Game {
    /// A game before its first frame; `running` holds fresh hidden state.
    pub(crate) fn new(
        running: Running,
        session: Session,
        start: SessionState,
        players: [Option<Player>; 2],
    ) -> Self {
        Self {
            running,
            state: start,
            slots: [PadSlot::default(); 2],
            next: InputBuffer::default(),
            players,
            hashes: [RunningHash::default(); 2],
            recording: Arc::new(Recording::new(session, start)),
            fresh: [true; 2],
            marks: [Vec::new(), Vec::new()],
            last: InputBuffer::default(),
        }
    }

    /// Sets [`Game::next`]: the newest pads, after opponents that are no people chose theirs.
    pub(crate) fn prepare(&mut self, scratch: &mut Scratch) {
        let frame = self.state.frame + 1;
        for seat in 0..2 {
            if let Some(player) = &mut self.players[seat] {
                let pad = player.pad(&self.state, &self.last, seat, scratch);
                self.slots[seat] = PadSlot {
                    pad,
                    sequence: frame as u16,
                };
            }
        }
        self.next = InputBuffer {
            slots: self.slots,
            frame,
        };
    }

    /// Runs one frame again, as it was recorded: opponents are asked, so that they remember, but
    /// what was recorded counts.
    pub(crate) fn replay(
        &mut self,
        slots: [PadSlot; 2],
        scratch: &mut Scratch,
    ) -> Result<(), StepError> {
        self.prepare(scratch);
        self.slots = slots;
        self.next.slots = slots;
        self.running.step(&mut self.state, &self.next, scratch)?;
        self.ran();
        Ok(())
    }

    /// Notes that the world was stepped by [`Game::next`].
    pub(crate) fn ran(&mut self) {
        let inputs = self.next;
        self.last = inputs;
        let over = self.is_over();
        for seat in 0..2 {
            self.hashes[seat].push(inputs.frame, &inputs.slots[seat]);
            if is_mark(inputs.frame) || over {
                self.mark(seat, inputs.frame);
            }
        }
        Arc::make_mut(&mut self.recording).push(inputs, &self.state);
    }

    fn mark(&mut self, seat: usize, frame: u32) {
        let marks = &mut self.marks[seat];
        if marks.len() == MAX_OPEN_MARKS {
            marks.remove(0);
        }
        if marks.last().is_none_or(|(last, _)| *last != frame) {
            marks.push((frame, self.hashes[seat]));
        }
    }

    /// True when no further frame may run.
    pub(crate) fn is_over(&self) -> bool {
        self.state.status == status::ENDED
    }

    /// Ends the match by a word of the arena, not of the world.
    pub(crate) fn stop(&mut self, winner: u8, reason: u8) {
        self.state.status = status::ENDED;
        self.state.winner = winner;
        self.state.end_reason = reason;
        for seat in 0..2 {
            self.mark(seat, self.state.frame);
        }
    }

    /// Takes a pad; one that is older than the newest is dropped.
    pub(crate) fn press(&mut self, seat: usize, pad: Pad, sequence: u16) {
        let newer = sequence.wrapping_sub(self.slots[seat].sequence) as i16 > 0;
        if newer || self.fresh[seat] {
            self.fresh[seat] = false;
            self.slots[seat] = PadSlot { pad, sequence };
        }
    }

    /// Lets go of everything, as an unplugged controller does; a new page may count from zero.
    pub(crate) fn release(&mut self, seat: usize) {
        self.slots[seat].pad = Pad::default();
        self.fresh[seat] = true;
    }

    /// The running hash that the seat has to sign for `frame`, if it has not yet.
    pub(crate) fn open_mark(&self, seat: usize, frame: u32) -> Option<RunningHash> {
        let open = self.marks[seat].iter().find(|(mark, _)| *mark == frame);
        open.map(|(_, hash)| *hash)
    }

    /// Whether the seat has yet to sign the last frame.
    pub(crate) fn owes_signature(&self, seat: usize) -> bool {
        self.open_mark(seat, self.state.frame).is_some()
    }

    /// Stores a signature that was found good. False when the mark is not open.
    pub(crate) fn sign(&mut self, signature: InputSignature) -> bool {
        let marks = &mut self.marks[signature.seat as usize];
        let before = marks.len();
        marks.retain(|(mark, _)| *mark != signature.frame);
        let open = marks.len() < before;
        if open {
            Arc::make_mut(&mut self.recording)
                .signatures
                .push(signature);
        }
        open
    }

    /// How it stands, or ended.
    pub(crate) fn result(&self) -> MatchResult {
        let (session, players) = (&self.recording.session, &self.state.players);
        MatchResult {
            id: session.id,
            world_root: session.world_root,
            wallets: session.wallets,
            chain: self.state.chain,
            input_hashes: self.hashes.map(|hash| hash.0),
            start_frame: self.recording.start.frame,
            end_frame: self.state.frame,
            rule_hits: self.state.rule_hits,
            percent: [players[0].percent, players[1].percent],
            stocks: [players[0].stocks, players[1].stocks],
            characters: session.characters,
            seats: session.seats,
            stage: session.stage,
            winner: self.state.winner,
            end_reason: self.state.end_reason,
            ..MatchResult::default()
        }
    }

    /// Writes the result into the recording; the match is over.
    pub(crate) fn finish(&mut self) -> Arc<Recording> {
        debug_assert!(self.is_over() && self.state.end_reason != end_reason::NONE);
        debug_assert_ne!(self.state.winner, winner::NONE);
        let result = self.result();
        Arc::make_mut(&mut self.recording).result = result;
        self.recording.clone()
    }

    /// A copy that goes its own way.
    pub(crate) fn branch(&self) -> Branch {
        Branch::new(self.running.clone(), self.state)
    }

    /// [`Game::branch`] into the memory of another branch.
    pub(crate) fn branch_into(&self, branch: &mut Branch) {
        branch.set(&self.running, &self.state);
    }

    /// The id, as signatures cover it.
    pub(crate) fn id(&self) -> &[u8; SESSION_ID_BYTES] {
        &self.recording.session.id
    }

    /// The last frame as a message.
    pub(crate) fn frame_message(&self) -> [u8; FRAME_BYTES] {
        frame_message(&self.state, &self.last)
    }
}

/// `[1, 0, 0, 0] ‖ SessionState ‖ InputBuffer`.
pub fn frame_message(state: &SessionState, inputs: &InputBuffer) -> [u8; FRAME_BYTES] {
    let mut bytes = [0; FRAME_BYTES];
    bytes[0] = FRAME_TAG;
    bytes[4..260].copy_from_slice(bytemuck::bytes_of(state));
    bytes[260..].copy_from_slice(bytemuck::bytes_of(inputs));
    bytes
}
