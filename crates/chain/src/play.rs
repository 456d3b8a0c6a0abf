//! A match while it runs: who runs its frames and records them, and who presses.

use std::time::{Duration, Instant};

use ed25519_dalek::Signer as _;
use solana_instruction::Instruction as Call;
use solana_keypair::Keypair;
use solana_signer::Signer;
use worldline_abi::{
    FrameAccount, InputAccount, InputSignature, ModelManifest, Pad, PadSlot, SessionAccount,
    SessionState, WorldAccount, seat, status,
};
use worldline_arena::Recording;
use worldline_arena::sign::{RunningHash, is_mark, message};

use crate::limits::{
    DISTINCT_UNITS, FRAME_TIME, KEEP_ALIVE_FRAMES, L1_UNITS, SIGN_GRACE, SILENCES, WATCH_TIMEOUT,
};
use crate::program::unit_limit;
use crate::read::{ReadError, parse, read};
use crate::record::{Frame, RecordError, Recorder};
use crate::rpc::RpcError;
use crate::send::{Recent, SendError};
use crate::table::{Chains, Found};
use crate::watch::{Watch, WatchError, websocket_url};

/// A match could not be run, recorded or played.
#[derive(Debug, thiserror::Error)]
pub enum PlayError {
    /// Something on the chain could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A transaction did not go through.
    #[error(transparent)]
    Send(#[from] SendError),
    /// The chain stopped telling.
    #[error(transparent)]
    Watch(#[from] WatchError),
    /// What it told has a hole.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The match did not begin.
    #[error("the match did not begin within {0:?}: both seats have to join, pick and be ready")]
    NotBegun(Duration),
    /// No frame runs.
    #[error(
        "the match stands still at frame {0}: the rollup's task ended or every run of it fails; does the rollup have the syscalls that the session's kernels need?"
    )]
    Still(u32),
    /// The rollup says that it applied what the player did not press.
    #[error(
        "at frame {frame} the rollup applied a pad to seat {seat} that was never pressed: the player signs nothing more"
    )]
    Forged {
        /// The frame.
        frame: u32,
        /// Whose.
        seat: u8,
    },
}

impl From<RpcError> for PlayError {
    fn from(error: RpcError) -> Self {
        Self::Read(error.into())
    }
}

/// State and inputs of a session, as the chain tells of them.
pub(crate) struct Feed(Watch);

/// One of them.
pub(crate) enum News {
    State(SessionState),
    Inputs(InputAccount),
}

impl Feed {
    pub(crate) fn open(chains: &Chains, found: &Found) -> Result<Self, PlayError> {
        let rpc = chains.of(found);
        let url = websocket_url(rpc.url());
        let addresses = [found.at.state, found.at.inputs];
        let watch = Watch::open(&url, &addresses, crate::rpc::Commitment::Processed)?;
        Ok(Self(watch))
    }

    pub(crate) fn next(&mut self, patience: Duration) -> Result<Option<News>, PlayError> {
        let Some((index, account)) = self.0.next(patience)? else {
            return Ok(None);
        };
        let address = self.0.addresses()[index];
        Ok(Some(match index {
            0 => News::State(parse(&address, &account.data)?),
            _ => News::Inputs(parse(&address, &account.data)?),
        }))
    }
}

/// Is told of each frame once it is recorded, in order.
pub type Told<'a> = &'a mut dyn FnMut(&Frame);

/// Who executes the frames of a match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frames {
    /// The rollup, by a task of its own.
    Scheduled,
    /// Whoever runs the match, by transactions of their own, one frame after the other: on chains that
    /// have no tasks, or give them fewer units than a frame takes.
    Sent,
}

/// Has a match run, at most sixty frames a second, and records it to its end. Waits up to `patience`
/// for both seats to be ready. `authority` signs for the frames: the session's payer, or its
/// operator. `recorder` goes on with what an earlier call recorded.
pub fn run(
    chains: &Chains,
    found: &Found,
    authority: &Keypair,
    frames: Frames,
    patience: Duration,
    recorder: Option<Recorder>,
    told: Told<'_>,
) -> Result<Recording, PlayError> {
    let (program, rpc) = (found.at.program, chains.of(found));
    // Before the first frame, so that none is missed.
    let mut feed = Feed::open(chains, found)?;
    let start = wait_for_start(chains, found, &mut feed, patience)?;
    let account: SessionAccount = read(&program, rpc, &found.at.address)?;
    let mut recorder = match recorder {
        Some(recorder) => recorder,
        None => Recorder::new(account.session, start)?,
    };
    let world: WorldAccount = read(&program, &chains.l1, &found.world())?;
    let mut sender = match frames {
        Frames::Scheduled => {
            schedule(chains, found, authority, &account, &world.manifest)?;
            None
        }
        Frames::Sent => Some(Sender::new(
            chains,
            found,
            authority,
            world.manifest,
            recorder.frames(),
        )),
    };
    let (mut stands, mut told_to) = (0, recorder.frames());
    while !recorder.is_whole() {
        if let Some(sender) = &mut sender
            && recorder.newest().status == status::ACTIVE
        {
            sender.follow(recorder.frames())?;
        }
        match feed.next(WATCH_TIMEOUT)? {
            Some(News::State(state)) => {
                recorder.state(&state)?;
                stands = 0;
            }
            Some(News::Inputs(inputs)) => recorder.inputs(&inputs)?,
            // The rollup may be silent because nothing runs: look.
            None => {
                let state: SessionState = read(&program, rpc, &found.at.state)?;
                recorder.state(&state)?;
                if stands > 0 {
                    recorder.inputs(&read(&program, rpc, &found.at.inputs)?)?;
                }
                stands = if recorder.frames() > told_to {
                    0
                } else {
                    stands + 1
                };
                told_to = recorder.frames();
                if stands == SILENCES {
                    return Err(match state.frame > told_to {
                        true => RecordError::Hole(told_to + 1).into(),
                        false => PlayError::Still(state.frame),
                    });
                }
                if let Some(sender) = &mut sender {
                    sender.again();
                }
            }
        }
        recorder.fresh().iter().for_each(&mut *told);
    }
    let end = Instant::now() + SIGN_GRACE;
    let people = [0u8, 1]
        .into_iter()
        .filter(|at| account.session.seats[usize::from(*at)] == seat::HUMAN);
    while !people.clone().all(|at| recorder.has_signed_all(at)) && Instant::now() < end {
        if let Some(News::Inputs(inputs)) = feed.next(Duration::from_millis(100))? {
            recorder.inputs(&inputs)?;
        }
    }
    Ok(recorder.finish())
}

/// Has the rollup execute a match's frames.
fn schedule(
    chains: &Chains,
    found: &Found,
    authority: &Keypair,
    account: &SessionAccount,
    manifest: &ModelManifest,
) -> Result<(), PlayError> {
    let (at, rpc) = (&found.at, chains.of(found));
    let frame = at.run(&rpc.identity()?, &found.world(), manifest);
    let task = at.address.to_bytes()[..8].try_into().expect("eight bytes");
    let task = i64::from_le_bytes(task);
    let call = at.schedule(&authority.pubkey(), task, account.session.clock, frame);
    rpc.transact(&at.program.id, &[call], &[authority])?;
    Ok(())
}

/// Sends a match's frames, each once the one before has come.
struct Sender<'a> {
    chains: &'a Chains,
    found: &'a Found,
    authority: &'a Keypair,
    manifest: ModelManifest,
    blockhash: Recent,
    /// Frames that are sent.
    sent: u32,
    /// When the next one may be.
    due: Instant,
    /// Transactions that are sent: no two may be the same, or a chain takes the second for the first.
    number: u32,
}

impl<'a> Sender<'a> {
    fn new(
        chains: &'a Chains,
        found: &'a Found,
        authority: &'a Keypair,
        manifest: ModelManifest,
        sent: u32,
    ) -> Self {
        Self {
            chains,
            found,
            authority,
            manifest,
            blockhash: Recent::default(),
            sent,
            due: Instant::now(),
            number: 0,
        }
    }

    /// Sends the next frame if `frames` are all that were sent.
    fn follow(&mut self, frames: u32) -> Result<(), PlayError> {
        if frames < self.sent {
            return Ok(());
        }
        std::thread::sleep(self.due.saturating_duration_since(Instant::now()));
        self.due = Instant::now() + FRAME_TIME;
        self.sent = frames + 1;
        let rpc = self.chains.of(self.found);
        for call in self.calls()? {
            let calls = [unit_limit(self.units()), call];
            let hash = rpc.recent(&self.blockhash)?;
            let signed = crate::send::sign(&calls, &[self.authority], &hash)?;
            // The first is tried out: what keeps it from running keeps all of them.
            rpc.send(&signed.wire, self.number == 1)?;
        }
        Ok(())
    }

    /// What the next frame is made of; of one that was begun, what is left.
    fn calls(&self) -> Result<Vec<Call>, PlayError> {
        let (found, rpc) = (self.found, self.chains.of(self.found));
        let (me, world) = (self.authority.pubkey(), found.world());
        if found.account.frame == [0; 32] {
            return Ok(vec![found.at.run(&me, &world, &self.manifest)]);
        }
        let frame: FrameAccount = read(&found.at.program, rpc, &found.at.frame)?;
        let parts = found.at.frame_parts(&me, &world, &self.manifest);
        Ok(parts.into_iter().skip(frame.next as usize).collect())
    }

    /// More than any frame that fits takes, and another number for each transaction.
    fn units(&mut self) -> u32 {
        self.number += 1;
        L1_UNITS - self.number % DISTINCT_UNITS
    }

    /// The last frame was lost on the way.
    fn again(&mut self) {
        self.sent = self.sent.saturating_sub(1);
    }
}

/// The state before the first frame.
fn wait_for_start(
    chains: &Chains,
    found: &Found,
    feed: &mut Feed,
    patience: Duration,
) -> Result<SessionState, PlayError> {
    let end = Instant::now() + patience;
    loop {
        let state: SessionState = read(&found.at.program, chains.of(found), &found.at.state)?;
        if state.status >= status::ACTIVE {
            return Ok(state);
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(PlayError::NotBegun(patience));
        }
        feed.next(left.min(WATCH_TIMEOUT))?;
    }
}

/// A seat that is played by a list of pads, one a frame, the last one held; signs its inputs once a
/// second, as a person's browser does.
pub fn press(
    chains: &Chains,
    found: &Found,
    key: &Keypair,
    seat: u8,
    pads: &[Pad],
    patience: Duration,
    quit_at: Option<u32>,
) -> Result<u32, PlayError> {
    let rpc = chains.of(found);
    let mut feed = Feed::open(chains, found)?;
    wait_for_start(chains, found, &mut feed, patience)?;
    let mut player = Player::new(found, key, seat);
    let inputs: InputAccount = read(&found.at.program, rpc, &found.at.inputs)?;
    player.resume(&inputs);
    player.send(chains, pads.first().copied().unwrap_or_default())?;
    let mut stands = 0;
    loop {
        match feed.next(WATCH_TIMEOUT)? {
            Some(News::Inputs(inputs)) => {
                let frame = inputs.buffer.frame;
                if frame <= player.frame {
                    continue;
                }
                if let Some(signature) = player.took(&inputs)? {
                    player.sign(chains, signature)?;
                }
                if quit_at.is_some_and(|quit| frame >= quit) {
                    let reason = worldline_abi::end_reason::QUIT;
                    let call = found.at.end(&key.pubkey(), seat, reason);
                    match rpc.transact(&found.at.program.id, &[call], &[key]) {
                        Err(error)
                            if error.fault() == Some(worldline_abi::Fault::SessionStatus) => {}
                        other => drop(other?),
                    }
                    continue;
                }
                let pad = pads
                    .get(frame as usize)
                    .or(pads.last())
                    .copied()
                    .unwrap_or_default();
                player.change(chains, pad)?;
            }
            Some(News::State(state)) if state.status == status::ENDED => {
                // The frame's inputs may be told after its state.
                while player.frame < state.frame {
                    match feed.next(WATCH_TIMEOUT)? {
                        Some(News::Inputs(inputs)) if inputs.buffer.frame > player.frame => {
                            if let Some(signature) = player.took(&inputs)? {
                                player.sign(chains, signature)?;
                            }
                        }
                        Some(_) => {}
                        None => break,
                    }
                }
                if player.frame > 0 && !is_mark(player.frame) {
                    let last = player.signature();
                    player.sign(chains, last)?;
                }
                return Ok(player.frame);
            }
            Some(News::State(_)) => {}
            None => {
                let state: SessionState = read(&found.at.program, rpc, &found.at.state)?;
                if state.status == status::ENDED {
                    return Ok(player.frame);
                }
                stands = if state.frame > player.frame {
                    0
                } else {
                    stands + 1
                };
                if stands == SILENCES {
                    return Err(PlayError::Still(state.frame));
                }
            }
        }
    }
}

/// Presses a machine's seat: nobody asks it to sign, so it only sends what changes.
pub struct Presser<'a> {
    player: Player<'a>,
}

impl<'a> Presser<'a> {
    /// A presser of a seat whose session key is `key`; goes on after the pads that the chain has.
    pub fn new(
        chains: &Chains,
        found: &'a Found,
        key: &'a Keypair,
        seat: u8,
    ) -> Result<Self, PlayError> {
        let inputs: InputAccount = read(&found.at.program, chains.of(found), &found.at.inputs)?;
        let mut player = Player::new(found, key, seat);
        player.resume(&inputs);
        Ok(Self { player })
    }

    /// Presses `pad` for the frame after `frame`.
    pub fn press(&mut self, chains: &Chains, frame: u32, pad: Pad) -> Result<(), PlayError> {
        self.player.frame = frame;
        self.player.change(chains, pad)?;
        let last = self.player.pressed.len().saturating_sub(1);
        self.player.pressed.drain(..last);
        Ok(())
    }
}

/// A seat, what it pressed, and the running hash of what was applied.
struct Player<'a> {
    found: &'a Found,
    key: &'a Keypair,
    seat: u8,
    frame: u32,
    sequence: u16,
    hash: RunningHash,
    /// Pads that may still be applied.
    pressed: Vec<(u16, Pad)>,
    /// The frame at which the last pad was sent.
    sent_at: u32,
    blockhash: Recent,
}

impl<'a> Player<'a> {
    fn new(found: &'a Found, key: &'a Keypair, seat: u8) -> Self {
        Self {
            found,
            key,
            seat,
            frame: 0,
            sequence: 0,
            hash: RunningHash::default(),
            pressed: Vec::new(),
            sent_at: 0,
            blockhash: Recent::default(),
        }
    }

    /// Goes on where the chain is: a match may have been left, and come back to.
    fn resume(&mut self, inputs: &InputAccount) {
        let slot = inputs.buffer.slots[usize::from(self.seat)];
        self.sequence = slot.sequence;
        self.pressed.push((slot.sequence, slot.pad));
        self.frame = inputs.buffer.frame;
        self.hash = RunningHash(inputs.hashes[usize::from(self.seat)]);
    }

    /// Sends a pad that differs from the last one, or any when it is time to show life.
    fn change(&mut self, chains: &Chains, pad: Pad) -> Result<(), PlayError> {
        let same = self.pressed.last().is_some_and(|(_, last)| *last == pad);
        if same && self.frame < self.sent_at + KEEP_ALIVE_FRAMES {
            return Ok(());
        }
        self.send(chains, pad)
    }

    fn send(&mut self, chains: &Chains, pad: Pad) -> Result<(), PlayError> {
        self.sequence = self.sequence.wrapping_add(1);
        self.sent_at = self.frame;
        self.pressed.push((self.sequence, pad));
        let call = self
            .found
            .at
            .submit(&self.key.pubkey(), self.seat, self.sequence, pad);
        self.quick(chains, call)
    }

    /// Sends without waiting: what comes of it is seen in the inputs' account.
    fn quick(&self, chains: &Chains, call: Call) -> Result<(), PlayError> {
        let rpc = chains.of(self.found);
        let hash = rpc.recent(&self.blockhash)?;
        let signed = crate::send::sign(&[call], &[self.key], &hash)?;
        match rpc.send(&signed.wire, false) {
            // A match that just ended takes no signature and no pad any more.
            Err(error) if error.preflight().is_some() => Ok(()),
            other => Ok(other?),
        }
    }

    /// Takes in a frame's inputs; a signature when this frame is a mark.
    fn took(&mut self, inputs: &InputAccount) -> Result<Option<InputSignature>, PlayError> {
        let frame = inputs.buffer.frame;
        let seat = usize::from(self.seat);
        let after = |slot: &PadSlot| {
            let mut hash = self.hash;
            hash.push(frame, slot);
            (hash.0 == inputs.hashes[seat]).then_some(hash)
        };
        // The account may be told after the next pad: its own hash says which pad it was.
        let mut pressed = self.pressed.iter().enumerate();
        let known = pressed.find_map(|(at, &(sequence, pad))| {
            after(&PadSlot { pad, sequence }).map(|hash| (at, hash))
        });
        let Some((at, hash)) = known else {
            if after(&inputs.buffer.slots[seat]).is_some() {
                return Err(PlayError::Forged {
                    frame,
                    seat: self.seat,
                });
            }
            // Frames that were not told: what is told from here on is attested again.
            if frame > self.frame + 1 {
                (self.frame, self.hash) = (frame, RunningHash(inputs.hashes[seat]));
            }
            return Ok(None);
        };
        self.pressed.drain(..at);
        (self.frame, self.hash) = (frame, hash);
        Ok(is_mark(frame).then(|| self.signature()))
    }

    fn signature(&self) -> InputSignature {
        let secret = ed25519_dalek::SigningKey::from_bytes(self.key.secret_bytes());
        let message = message(&self.found.at.id, self.seat, self.frame, &self.hash);
        InputSignature {
            frame: self.frame,
            seat: self.seat,
            padding: [0; 3],
            signature: secret.sign(&message).to_bytes(),
        }
    }

    fn sign(&self, chains: &Chains, signature: InputSignature) -> Result<(), PlayError> {
        self.quick(
            chains,
            self.found.at.sign_inputs(&self.key.pubkey(), signature),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::Program;
    use crate::session::SessionAt;
    use bytemuck::Zeroable;
    use worldline_abi::{PadSlot, SessionAccount};

    /// Inputs as the program leaves them: each frame's slot is hashed into what was there before.
    fn applied(inputs: &mut InputAccount, frame: u32, sequence: u16) {
        let slot = PadSlot {
            pad: Pad::default(),
            sequence,
        };
        let mut hash = RunningHash(inputs.hashes[0]);
        hash.push(frame, &slot);
        inputs.buffer.frame = frame;
        inputs.buffer.slots[0] = slot;
        inputs.hashes[0] = hash.0;
    }

    fn player<'a>(found: &'a Found, key: &'a Keypair) -> Player<'a> {
        Player::new(found, key, 0)
    }

    fn found() -> Found {
        Found {
            at: SessionAt::new(Program::default(), [1; 32].into(), [2; 16]),
            account: SessionAccount::zeroed(),
            state: SessionState::zeroed(),
            lent: true,
        }
    }

    #[test]
    fn who_comes_back_signs_on() {
        let (found, key) = (found(), Keypair::new());
        let mut inputs = InputAccount::zeroed();
        for frame in 1..=90 {
            applied(&mut inputs, frame, 7);
        }
        let mut player = player(&found, &key);
        player.resume(&inputs);
        for frame in 91..=119 {
            applied(&mut inputs, frame, 7);
            assert_eq!(player.took(&inputs).unwrap(), None);
        }
        applied(&mut inputs, 120, 7);
        assert!(is_mark(120));
        let signed = player.took(&inputs).unwrap().unwrap();
        assert_eq!((signed.frame, signed.seat), (120, 0));
    }

    #[test]
    fn frames_that_were_not_told_end_no_signing() {
        let (found, key) = (found(), Keypair::new());
        let mut inputs = InputAccount::zeroed();
        let mut player = player(&found, &key);
        player.resume(&inputs);
        for frame in 1..=60 {
            applied(&mut inputs, frame, 0);
            let told = frame != 30;
            let signed = told.then(|| player.took(&inputs).unwrap()).flatten();
            assert_eq!(signed.is_some(), frame == 60);
        }
    }

    #[test]
    fn a_pad_that_was_never_pressed_ends_it() {
        let (found, key) = (found(), Keypair::new());
        let mut inputs = InputAccount::zeroed();
        let mut player = player(&found, &key);
        player.resume(&inputs);
        applied(&mut inputs, 1, 9);
        let forged = player.took(&inputs);
        assert!(matches!(
            forged,
            Err(PlayError::Forged { frame: 1, seat: 0 })
        ));
    }
}
