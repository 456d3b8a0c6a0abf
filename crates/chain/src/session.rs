//! A session on the chain: where it lies, and what can be done to it. No I/O.

use serde_json::Value;
use solana_address::Address;
use solana_instruction::Instruction as Call;
use worldline_abi::instruction::{
    BeginFrame, CloseReplay, CloseSession, Commit, CreateFrame, CreatePages, CreateReplay,
    CreateSession, Delegate, EndSession, FinishFrame, FinishReplay, GROW_BYTES, GrowReplay,
    JoinSession, PickCharacter, Ready, RecordResult, RunInference, RunLayers, SignInputs,
    SubmitInput, UpdateScore, WRITE_BYTES, WriteReplay, part,
};
use worldline_abi::{
    FrameAccount, InputAccount, InputSignature, ModelManifest, PAGE_BYTES, Pad, ReplayAccount,
    ResultAccount, SessionAccount, SessionState, address,
};

use crate::limits::{
    ACCOUNTS_PER_COMMIT, FRAME_MILLIS, L1_UNITS, PAGES_PER_CREATE, STATE_COMMIT_MILLIS,
};
use crate::program::{Program, SYSTEM_PROGRAM, unit_limit};
use crate::world::shard_sizes;

const DELEGATION_PROGRAM: Address = Address::new_from_array(address::DELEGATION_PROGRAM);
const MAGIC_PROGRAM: Address = Address::new_from_array(address::MAGIC_PROGRAM);
const MAGIC_CONTEXT: Address = Address::new_from_array(address::MAGIC_CONTEXT);
/// The magic program's `ScheduleTask`.
const SCHEDULE_TASK: u32 = 6;
/// What a delegation says of an account that is committed when that is asked for, and never by the clock.
const NEVER: u32 = u32::MAX;

/// A session's addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionAt {
    /// The program that keeps it.
    pub program: Program,
    /// Who opened it, and gets its deposits back.
    pub payer: Address,
    /// Its id.
    pub id: [u8; 16],
    /// Of its identities.
    pub address: Address,
    /// Of its state.
    pub state: Address,
    /// Of its inputs.
    pub inputs: Address,
    /// Of a frame in progress.
    pub frame: Address,
    /// Of its result.
    pub result: Address,
    /// Of its replay.
    pub replay: Address,
}

/// What a session is opened with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewSession {
    /// Stage, the game's own number.
    pub stage: u8,
    /// Frames until time is up; 0 takes the world's own.
    pub clock: u32,
    /// The generator's state at the start.
    pub generator: u64,
    /// One of [`worldline_abi::kernels`].
    pub kernels: u8,
    /// Who alone may execute frames and writes the replay: a rollup's identity. Without one the payer
    /// writes the replay, and any signer may execute frames.
    pub operator: Option<Address>,
    /// Whether each frame is spread over transactions, for a world whose frames fit none.
    pub in_parts: bool,
}

/// A part of a session that can be lent, and where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// One of [`part`].
    pub part: u8,
    /// Which page.
    pub index: u8,
    /// Where.
    pub address: Address,
}

impl SessionAt {
    /// The session of this payer and id.
    pub fn new(program: Program, payer: Address, id: [u8; 16]) -> Self {
        let session = program.derive(&address::session(payer.as_array(), &id));
        let of = |seeds: [&[u8]; 2]| program.derive(&seeds);
        let at = session.as_array();
        Self {
            program,
            payer,
            id,
            address: session,
            state: of(address::state(at)),
            inputs: of(address::inputs(at)),
            frame: of(address::frame(at)),
            result: of(address::result(at)),
            replay: of(address::replay(at)),
        }
    }

    /// The session of an account.
    pub fn of(program: Program, account: &SessionAccount) -> Self {
        Self::new(program, account.session.payer.into(), account.session.id)
    }

    /// Where a page of hidden state lies.
    pub fn page(&self, index: u8) -> Address {
        self.program
            .derive(&address::page(self.address.as_array(), &[index]))
    }

    /// Where all pages lie.
    pub fn pages(&self, manifest: &ModelManifest) -> Vec<Address> {
        (0..manifest.hidden_pages as u8)
            .map(|index| self.page(index))
            .collect()
    }

    /// Everything that a rollup is lent, pages first; `in_parts` as the session was opened.
    pub fn parts(&self, manifest: &ModelManifest, in_parts: bool) -> Vec<Part> {
        let page = |index| Part {
            part: part::PAGE,
            index,
            address: self.page(index),
        };
        let one = |part, address| Part {
            part,
            index: 0,
            address,
        };
        let pages = (0..manifest.hidden_pages as u8).map(page);
        pages
            .chain(in_parts.then(|| one(part::FRAME, self.frame)))
            .chain([
                one(part::INPUTS, self.inputs),
                one(part::STATE, self.state),
                one(part::SESSION, self.address),
            ])
            .collect()
    }

    /// Opens the session.
    pub fn create(&self, world: &Address, owner: &Address, new: &NewSession) -> Call {
        let body = CreateSession {
            id: self.id,
            operator: new.operator.map_or([0; 32], |operator| operator.to_bytes()),
            generator: new.generator,
            clock: new.clock,
            stage: new.stage,
            kernels: new.kernels,
        };
        let accounts = [
            self.payer,
            self.address,
            self.state,
            self.inputs,
            *world,
            *owner,
            SYSTEM_PROGRAM,
        ];
        self.program.call(&body, &[], &accounts, &[])
    }

    /// Makes the pages from `first` on, as many as fit a transaction.
    pub fn create_pages(&self, world: &Address, manifest: &ModelManifest, first: u8) -> Vec<Call> {
        let pages = self.pages(manifest);
        let pages = &pages[usize::from(first)..];
        let pages = &pages[..pages.len().min(PAGES_PER_CREATE)];
        let accounts = [self.payer, self.address, *world, SYSTEM_PROGRAM];
        let call = self
            .program
            .call(&CreatePages { first }, &[], &accounts, &[pages]);
        vec![unit_limit(L1_UNITS), call]
    }

    /// Makes the account that carries a frame between transactions.
    pub fn create_frame(&self) -> Call {
        let accounts = [self.payer, self.address, self.frame, SYSTEM_PROGRAM];
        self.program.call(&CreateFrame {}, &[], &accounts, &[])
    }

    /// Hands a part over to a rollup.
    pub fn delegate(&self, part: &Part, validator: &Address) -> [Call; 2] {
        let body = Delegate {
            id: self.id,
            part: part.part,
            index: part.index,
            // The score; hidden state is a hundred times as large, and needed at the end only.
            commit_ms: match part.part {
                part::STATE => STATE_COMMIT_MILLIS,
                _ => NEVER,
            },
            validator: validator.to_bytes(),
        };
        let of = |seed: &[u8]| {
            let seeds = [seed, part.address.as_ref()];
            Address::find_program_address(&seeds, &DELEGATION_PROGRAM).0
        };
        let accounts = [
            self.payer,
            part.address,
            self.program.id,
            self.program.derive(&[b"buffer", part.address.as_ref()]),
            of(b"delegation"),
            of(b"delegation-metadata"),
            SYSTEM_PROGRAM,
            DELEGATION_PROGRAM,
        ];
        [
            unit_limit(L1_UNITS),
            self.program.call(&body, &[], &accounts, &[]),
        ]
    }

    /// Takes a seat for `wallet`; `key` will sign its inputs.
    pub fn join(&self, wallet: &Address, seat: u8, kind: u8, key: &Address) -> Call {
        let body = JoinSession {
            seat,
            kind,
            session_key: key.to_bytes(),
        };
        self.program
            .call(&body, &[], &[*wallet, self.address, self.state], &[])
    }

    /// Picks a seat's character.
    pub fn pick(&self, key: &Address, seat: u8, character: u8) -> Call {
        let body = PickCharacter { seat, character };
        self.program
            .call(&body, &[], &[*key, self.address, self.state], &[])
    }

    /// Says that a seat is ready.
    pub fn ready(
        &self,
        key: &Address,
        seat: u8,
        world: &Address,
        manifest: &ModelManifest,
    ) -> Call {
        let accounts = [*key, self.address, self.state, *world];
        self.program
            .call(&Ready { seat }, &[], &accounts, &[&shards(manifest)])
    }

    /// Sets a seat's pad.
    pub fn submit(&self, key: &Address, seat: u8, sequence: u16, pad: Pad) -> Call {
        let body = SubmitInput {
            seat,
            sequence,
            pad,
        };
        self.program
            .call(&body, &[], &[*key, self.address, self.inputs], &[])
    }

    /// Leaves a signature over a seat's inputs where recorders find it.
    pub fn sign_inputs(&self, key: &Address, signature: InputSignature) -> Call {
        let accounts = [*key, self.address, self.inputs];
        self.program
            .call(&SignInputs { signature }, &[], &accounts, &[])
    }

    /// Executes one frame. `runner` signs: the session's operator, or whoever, where it names none.
    pub fn run(&self, runner: &Address, world: &Address, manifest: &ModelManifest) -> Call {
        let accounts = [*runner, self.address, self.state, self.inputs, *world];
        let rest: [&[Address]; 2] = [&shards(manifest), &self.pages(manifest)];
        signed(self.program.call(&RunInference {}, &[], &accounts, &rest))
    }

    /// One frame spread over transactions: its beginning, each layer, its end.
    pub fn frame_parts(
        &self,
        runner: &Address,
        world: &Address,
        manifest: &ModelManifest,
    ) -> Vec<Call> {
        let (shards, pages) = (shards(manifest), self.pages(manifest));
        let at = [
            *runner,
            self.address,
            self.state,
            self.inputs,
            *world,
            self.frame,
        ];
        let begin = self.program.call(&BeginFrame {}, &[], &at, &[&shards]);
        let finish = self.program.call(&FinishFrame {}, &[], &at, &[&shards]);
        let at = [*runner, self.address, *world, self.frame];
        let layer = RunLayers { count: 1 };
        let layer = self.program.call(&layer, &[], &at, &[&shards, &pages]);
        let layers = std::iter::repeat_n(layer, manifest.layers.into());
        let calls = [begin].into_iter().chain(layers).chain([finish]);
        calls.map(signed).collect()
    }

    /// On a rollup: has it run `frames` frames, sixty a second. The layout is MagicBlock's. A task's frame is
    /// signed by nobody: the rollup signs for it as its payer, so that the runner is the rollup's identity.
    pub fn schedule(&self, authority: &Address, task: i64, frames: u32, mut run: Call) -> Call {
        run.accounts[0].is_signer = false;
        let frames = i64::from(frames);
        let body = (SCHEDULE_TASK, task, FRAME_MILLIS, frames, vec![run]);
        Call {
            program_id: MAGIC_PROGRAM,
            accounts: vec![solana_instruction::AccountMeta::new(*authority, true)],
            data: bincode::serialize(&body).expect("numbers and bytes can be written"),
        }
    }

    /// Ends a match before the rules do; `reason` is `QUIT` or `ABANDONED`.
    pub fn end(&self, key: &Address, seat: u8, reason: u8) -> Call {
        let accounts = [*key, self.address, self.state, self.inputs];
        self.program
            .call(&EndSession { seat, reason }, &[], &accounts, &[])
    }

    /// On a rollup: commits every part to L1 and gives it back. One call for each transaction; the
    /// session's own accounts come last, because every call reads them.
    pub fn give_back(
        &self,
        signer: &Address,
        manifest: &ModelManifest,
        in_parts: bool,
    ) -> Vec<Call> {
        let parts: Vec<Address> = self
            .parts(manifest, in_parts)
            .iter()
            .map(|part| part.address)
            .collect();
        let (pages, own) = parts.split_at(parts.len() - 3);
        let accounts = [
            *signer,
            MAGIC_CONTEXT,
            MAGIC_PROGRAM,
            self.address,
            self.state,
        ];
        let call = |list: &[Address]| {
            self.program
                .call(&Commit { undelegate: 1 }, &[], &accounts, &[list])
        };
        let calls = pages.chunks(ACCOUNTS_PER_COMMIT).map(call);
        calls.chain([call(own)]).collect()
    }

    /// Keeps the result of an ended match.
    pub fn record(&self, payer: &Address, world: &Address) -> Call {
        let accounts = [
            *payer,
            self.address,
            self.state,
            self.inputs,
            *world,
            self.result,
            SYSTEM_PROGRAM,
        ];
        self.program.call(&RecordResult {}, &[], &accounts, &[])
    }

    /// Counts a result on a player's score.
    pub fn score(&self, payer: &Address, seat: u8, world: &Address, wallet: &Address) -> Call {
        let score = score_at(&self.program, world, wallet);
        let accounts = [*payer, self.result, score, SYSTEM_PROGRAM];
        self.program
            .call(&UpdateScore { seat }, &[], &accounts, &[])
    }

    /// Makes the replay's account; [`SessionAt::grow_replay`] has to follow as often as
    /// [`replay_grows`] says.
    pub fn create_replay(&self, writer: &Address, bytes: usize) -> Call {
        let body = CreateReplay {
            bytes: bytes as u32,
        };
        let accounts = [*writer, self.result, self.replay, SYSTEM_PROGRAM];
        self.program.call(&body, &[], &accounts, &[])
    }

    /// Grows the replay's account.
    pub fn grow_replay(&self, writer: &Address) -> Call {
        let accounts = [*writer, self.replay, SYSTEM_PROGRAM];
        self.program.call(&GrowReplay {}, &[], &accounts, &[])
    }

    /// Writes at most [`WRITE_BYTES`] of the replay's file.
    pub fn write_replay(&self, writer: &Address, offset: usize, bytes: &[u8]) -> Call {
        let body = WriteReplay {
            offset: offset as u32,
        };
        self.program
            .call(&body, bytes, &[*writer, self.replay], &[])
    }

    /// Compares the replay with the result and closes it to writes.
    pub fn finish_replay(&self, writer: &Address) -> Call {
        let accounts = [*writer, self.result, self.replay];
        self.program.call(&FinishReplay {}, &[], &accounts, &[])
    }

    /// Closes the replay; its deposit goes to its writer.
    pub fn close_replay(&self, writer: &Address) -> Call {
        let accounts = [*writer, self.result, self.replay];
        self.program.call(&CloseReplay {}, &[], &accounts, &[])
    }

    /// Closes these pages, and with the last one the session.
    pub fn close(&self, closer: &Address, world: &Address, pages: &[Address]) -> Call {
        let accounts = [
            *closer,
            self.payer,
            self.address,
            self.state,
            self.inputs,
            self.frame,
            *world,
        ];
        self.program
            .call(&CloseSession {}, &[], &accounts, &[pages])
    }
}

/// Where a player's score in a world lies.
pub fn score_at(program: &Program, world: &Address, wallet: &Address) -> Address {
    program.derive(&address::score(world.as_array(), wallet.as_array()))
}

/// How often a replay of so many bytes has to grow after it was made.
pub fn replay_grows(bytes: usize) -> usize {
    (size_of::<ReplayAccount>() + bytes).div_ceil(GROW_BYTES) - 1
}

/// The shards of a world, as calls name them.
fn shards(manifest: &ModelManifest) -> Vec<Address> {
    shard_sizes(manifest)
        .map(|(index, _)| manifest.shards[index].into())
        .collect()
}

/// Bytes of each account that a session holds while it is open.
pub fn open_sizes(manifest: &ModelManifest, in_parts: bool) -> Vec<usize> {
    let own = [
        size_of::<SessionAccount>(),
        size_of::<SessionState>(),
        size_of::<InputAccount>(),
    ];
    let pages = std::iter::repeat_n(PAGE_BYTES, manifest.hidden_pages.into());
    let frame = in_parts.then_some(FRAME_BYTES);
    own.into_iter().chain(frame).chain(pages).collect()
}

/// What goes into one write of a replay.
pub const WRITE: usize = WRITE_BYTES;
/// Bytes of a result's account, which stays when the session is closed.
pub const RESULT_BYTES: usize = size_of::<ResultAccount>();
/// Bytes of an account that carries a frame between transactions.
pub const FRAME_BYTES: usize = size_of::<FrameAccount>();

/// A session's id from text: one to sixteen letters, digits or dashes.
pub fn parse_id(text: &str) -> Option<[u8; 16]> {
    let good = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'-';
    let bytes = text.as_bytes();
    let mut id = [0; 16];
    let place = id.get_mut(..bytes.len())?;
    place.copy_from_slice(bytes);
    (!bytes.is_empty() && bytes.iter().all(good)).then_some(id)
}

/// A session's id as text.
pub fn id_text(id: &[u8; 16]) -> String {
    String::from_utf8_lossy(id).trim_end_matches('\0').into()
}

/// Where a session is, as JSON.
pub fn to_json(at: &SessionAt) -> Value {
    serde_json::json!({
        "session": at.address.to_string(),
        "id": id_text(&at.id),
        "payer": at.payer.to_string(),
        "state": at.state.to_string(),
        "inputs": at.inputs.to_string(),
        "result": at.result.to_string(),
        "replay": at.replay.to_string(),
    })
}

/// Its first account signs: the program asks for that only where a session names an operator.
fn signed(mut call: Call) -> Call {
    call.accounts[0].is_signer = true;
    call
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::send::sign;
    use solana_keypair::Keypair;
    use solana_signer::Signer;

    /// The largest world that a rollup's task can carry, and more pages than any shipped one.
    fn manifest(pages: u16) -> ModelManifest {
        ModelManifest {
            hidden_pages: pages,
            shard_count: 1,
            shards: [[3; 32]; 8],
            ..ModelManifest::default()
        }
    }

    #[test]
    fn every_transaction_of_a_session_fits_a_packet() {
        let key = Keypair::new();
        let me = key.pubkey();
        let at = SessionAt::new(Program::default(), me, *b"K7WQ2M\0\0\0\0\0\0\0\0\0\0");
        let manifest = manifest(18);
        let world = Address::new_from_array([4; 32]);
        let pages = at.pages(&manifest);
        let run = at.run(&me, &world, &manifest);
        let mut transactions = vec![
            at.create_pages(&world, &manifest, 0),
            at.create_pages(&world, &manifest, 16),
            at.delegate(&at.parts(&manifest, false)[0], &world).to_vec(),
            vec![at.schedule(&me, 1, 28_800, run)],
            vec![at.close(&me, &world, &pages[..ACCOUNTS_PER_COMMIT])],
            vec![at.write_replay(&me, 0, &[1; WRITE])],
        ];
        transactions.extend(
            at.give_back(&me, &manifest, true)
                .into_iter()
                .map(|call| vec![call]),
        );
        for calls in transactions {
            sign(&calls, &[&key], &Default::default()).unwrap();
        }
    }

    #[test]
    fn a_session_gives_itself_back_last() {
        let me = Address::new_from_array([9; 32]);
        let at = SessionAt::new(Program::default(), me, [b'A'; 16]);
        let calls = at.give_back(&me, &manifest(18), false);
        assert_eq!(calls.len(), 3);
        let last: Vec<Address> = calls[2].accounts[5..]
            .iter()
            .map(|one| one.pubkey)
            .collect();
        assert_eq!(last, [at.inputs, at.state, at.address]);
        assert!(calls[2].accounts[5..].iter().all(|one| one.is_writable));
    }

    #[test]
    fn a_task_has_magicblocks_bytes() {
        let me = Address::new_from_array([9; 32]);
        let at = SessionAt::new(Program::default(), me, [b'A'; 16]);
        let run = at.run(&me, &me, &manifest(1));
        let named = run.accounts.len();
        let data = at.schedule(&me, 7, 300, run).data;
        let mut expected = vec![6, 0, 0, 0];
        for number in [7u64, 16, 300, 1] {
            expected.extend(number.to_le_bytes());
        }
        expected.extend(at.program.id.to_bytes());
        expected.extend(named.to_le_bytes());
        expected.extend(me.to_bytes());
        expected.extend([0, 0]); // not signed, not written
        assert_eq!(data[..expected.len()], expected);
        assert_eq!(data[data.len() - 9..], [1, 0, 0, 0, 0, 0, 0, 0, 16]);
    }

    #[test]
    fn ids_are_short_and_plain() {
        assert_eq!(parse_id("K7-x").map(|id| id_text(&id)), Some("K7-x".into()));
        for wrong in ["", "12345678901234567", "a b", "ä"] {
            assert_eq!(parse_id(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn replays_grow_in_steps() {
        assert_eq!([1, 10_112, 10_113, 30_000].map(replay_grows), [0, 0, 1, 2]);
    }
}
