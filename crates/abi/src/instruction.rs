//! What the program can be told to do: one byte that names the instruction, then a body of plain
//! bytes, then (for writes) the bytes to write.
//!
//! [`INSTRUCTIONS`] is the whole interface as data: names, bodies, and which accounts each call
//! takes in which order. Clients, the interface description and the tests are made from it.
//!
//! ```
//! use worldline_abi::instruction::{Instruction, SubmitInput, encode};
//!
//! let mut data = Vec::new();
//! encode(&SubmitInput { seat: 1, sequence: 7, ..SubmitInput::default() }, &[], &mut data);
//! assert_eq!(data[0], SubmitInput::TAG);
//! assert_eq!(SubmitInput::ACCOUNTS[0].name, "key");
//! ```

use crate::{InputSignature, ModelManifest, Pad};
use bytemuck::{Pod, Zeroable};

/// An account that an instruction takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccountSpec {
    /// How clients and errors call it.
    pub name: &'static str,
    /// It must sign.
    pub signer: bool,
    /// It is written to.
    pub writable: bool,
}

/// A field of an instruction's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FieldSpec {
    /// Its name.
    pub name: &'static str,
    /// Its Rust type, as written.
    pub kind: &'static str,
    /// What it is.
    pub docs: &'static str,
}

/// An instruction, described.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InstructionSpec {
    /// Its name, in CamelCase.
    pub name: &'static str,
    /// What it does.
    pub docs: &'static str,
    /// The first byte of its data.
    pub tag: u8,
    /// The accounts at its start.
    pub accounts: &'static [AccountSpec],
    /// Kinds of accounts that follow, each zero or more times.
    pub rest: &'static [AccountSpec],
    /// Its body.
    pub fields: &'static [FieldSpec],
    /// Bytes of its body.
    pub body_bytes: usize,
    /// Whether bytes to be written follow the body.
    pub tail: bool,
}

/// An instruction's body: packed bytes without padding, so that it can be read anywhere.
pub trait Instruction: Pod {
    /// The first byte of its data.
    const TAG: u8;
    /// The accounts at its start.
    const ACCOUNTS: &'static [AccountSpec];
    /// Kinds of accounts that follow, each zero or more times.
    const REST: &'static [AccountSpec];
    /// Its description.
    const SPEC: InstructionSpec;
}

/// Appends an instruction's data to `out`: tag, body, and the bytes to be written, if any.
pub fn encode<I: Instruction>(body: &I, tail: &[u8], out: &mut impl Extend<u8>) {
    let bytes = bytemuck::bytes_of(body).iter().chain(tail).copied();
    out.extend(core::iter::once(I::TAG).chain(bytes));
}

/// The body of an instruction and the bytes after it, from its data without the tag; `None` when
/// there are fewer bytes than the body needs, or bytes after one that takes none.
pub fn decode<I: Instruction>(data: &[u8]) -> Option<(&I, &[u8])> {
    let (body, tail) = data.split_at_checked(size_of::<I>())?;
    let body = bytemuck::try_from_bytes(body).ok()?;
    (I::SPEC.tail || tail.is_empty()).then_some((body, tail))
}

/// Bytes that one write carries at most: what a legacy transaction of 1,232 bytes leaves.
pub const WRITE_BYTES: usize = 960;
/// Bytes that an account grows in one instruction, at most.
pub const GROW_BYTES: usize = 10_240;

/// Which account of a session [`Delegate`] hands over.
pub mod part {
    /// The session's identities.
    pub const SESSION: u8 = 0;
    /// The state.
    pub const STATE: u8 = 1;
    /// The inputs.
    pub const INPUTS: u8 = 2;
    /// A frame in progress.
    pub const FRAME: u8 = 3;
    /// A page of hidden state.
    pub const PAGE: u8 = 4;
}

/// Reads `name: flags` of an account list.
macro_rules! accounts {
    ($($name:ident: $flags:ident),*) => {
        &[$(AccountSpec {
            name: stringify!($name),
            signer: accounts!(@signer $flags),
            writable: accounts!(@writable $flags),
        }),*]
    };
    (@signer s) => { true };
    (@signer ws) => { true };
    (@signer $other:ident) => { false };
    (@writable w) => { true };
    (@writable ws) => { true };
    (@writable $other:ident) => { false };
}

/// Declares the instructions, in the order of their tags. Accounts are `r` read, `s` signed, `w`
/// written, `ws` written and signed; `rest` are kinds that follow, each zero or more times.
macro_rules! instructions {
    ($(
        $(#[doc = $docs:literal])*
        $tag:literal $name:ident ($($account:ident: $flags:ident),*)
        $(rest ($($more:ident: $more_flags:ident),*))? $(tail $tail:literal)? {
            $($(#[doc = $field_docs:literal])* $field:ident: $kind:ty,)*
        }
    )*) => {
        $(
            $(#[doc = $docs])*
            #[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
            #[repr(C, packed)]
            pub struct $name { $($(#[doc = $field_docs])* pub $field: $kind,)* }

            impl Default for $name {
                /// All zeros.
                fn default() -> Self {
                    Self::zeroed()
                }
            }

            impl Instruction for $name {
                const TAG: u8 = $tag;
                const ACCOUNTS: &'static [AccountSpec] = accounts!($($account: $flags),*);
                const REST: &'static [AccountSpec] = accounts!($($($more: $more_flags),*)?);
                const SPEC: InstructionSpec = InstructionSpec {
                    name: stringify!($name),
                    docs: concat!($($docs),*),
                    tag: $tag,
                    accounts: Self::ACCOUNTS,
                    rest: Self::REST,
                    fields: &[$(FieldSpec {
                        name: stringify!($field),
                        kind: stringify!($kind),
                        docs: concat!($($field_docs),*),
                    }),*],
                    body_bytes: size_of::<$name>(),
                    tail: false $(|| $tail)?,
                };
            }
        )*

        /// Every instruction, by tag.
        pub const INSTRUCTIONS: &[InstructionSpec] = &[$($name::SPEC),*];
    };
}

instructions! {
    /// Announces a world: its manifest, what a session costs, and who owns it. The weights follow.
    0 CreateWorld (owner: ws, world: w, system_program: r) {
        /// The owner's own number for it; part of the address.
        id: u64,
        /// Lamports that each session pays to the owner.
        fee: u64,
        /// The manifest; owner and shard addresses are filled in.
        manifest: ModelManifest,
    }

    /// Announces a copy of a finished world under another owner. The parent's address is kept as a
    /// hint that nothing enforces; the weights are copied by `CopyShard`.
    1 ForkWorld (owner: ws, world: w, parent: r, system_program: r) {
        /// The owner's own number for it; part of the address.
        id: u64,
        /// Lamports that each session pays to the owner.
        fee: u64,
        /// UTF-8, padded with zeros; all zeros keep the parent's name.
        name: [u8; 32],
    }

    /// Takes a new account, made at the address that `shard_seed` gives, as a shard of a draft.
    2 CreateShard (owner: s, world: w, shard: w) {
        /// Which shard of the manifest.
        index: u8,
    }

    /// Writes weights into a shard of a draft.
    3 WriteShard (owner: s, world: r, shard: w) tail true {
        /// The first byte, counted after the shard's header.
        offset: u32,
    }

    /// Copies weights from the same shard of the parent into a shard of a draft.
    4 CopyShard (owner: s, world: r, shard: w, source: r) {
        /// The first byte, counted after the shard's header.
        offset: u32,
        /// How many.
        bytes: u32,
    }

    /// Hashes the next leaves of the Merkle tree, all of one shard. The first call closes the draft
    /// to writes; with the last leaf the root is compared, and the world can be played.
    5 CheckWorld (owner: s, world: w, shard: w) {
        /// Leaves to hash; fewer are hashed if the shard ends before.
        leaves: u32,
    }

    /// Opens a world whose check has begun for writes again; the check starts over.
    6 ReopenWorld (owner: s, world: w) rest (shards: w) {
    }

    /// Closes shards, and with the last one the world; the rent goes to its owner. Refused while a
    /// session of it lives.
    7 RetireWorld (owner: ws, world: w) rest (shards: w) {
    }

    /// Opens a session of a world: identities, state, inputs. Pays the world's fee.
    8 CreateSession (payer: ws, session: w, state: w, inputs: w, world: w, world_owner: w, system_program: r) {
        /// Short id, ASCII, padded with zeros; part of the address.
        id: [u8; 16],
        /// Who may execute frames; zeros let anyone.
        operator: [u8; 32],
        /// The generator's state at the start.
        generator: u64,
        /// Frames until time is up; 0 takes the world's own.
        clock: u32,
        /// Stage, the game's own number.
        stage: u8,
        /// One of `kernels`.
        kernels: u8,
    }

    /// Makes pages of hidden state.
    9 CreatePages (payer: ws, session: w, world: r, system_program: r) rest (pages: w) {
        /// The first page's index.
        first: u8,
    }

    /// Makes the account that carries a frame between transactions, for sessions whose frames do
    /// not fit one.
    10 CreateFrame (payer: ws, session: w, frame: w, system_program: r) {
    }

    /// Takes a seat. Seats that are no person's are the payer's to give.
    11 JoinSession (wallet: s, session: w, state: w) {
        /// Which seat.
        seat: u8,
        /// One of `seat`: a person or who plays instead.
        kind: u8,
        /// The key that will sign this seat's inputs.
        session_key: [u8; 32],
    }

    /// Picks a seat's character.
    12 PickCharacter (key: s, session: w, state: r) {
        /// Which seat.
        seat: u8,
        /// The game's own number.
        character: u8,
    }

    /// Says that a seat is ready. The second one starts the match.
    13 Ready (key: s, session: w, state: w, world: r) rest (shards: r) {
        /// Which seat.
        seat: u8,
    }

    /// Sets a seat's pad. Only the seat's session key may, and only with a later sequence.
    14 SubmitInput (key: s, session: r, inputs: w) {
        /// Which seat.
        seat: u8,
        /// The owner's running count of pads, wrapping at 65,536.
        sequence: u16,
        /// The controller.
        pad: Pad,
    }

    /// Leaves a seat's signature over its inputs up to a frame where recorders find it.
    15 SignInputs (key: s, session: r, inputs: w) {
        /// The signature; its seat is the signer's.
        signature: InputSignature,
    }

    /// Executes one frame. Shards in the manifest's order, then pages in theirs.
    16 RunInference (operator: s, session: r, state: w, inputs: w, world: r) rest (shards: r, pages: w) {
    }

    /// Begins a frame that is spread over transactions: freezes the inputs and encodes them.
    17 BeginFrame (operator: s, session: r, state: r, inputs: w, world: r, frame: w) rest (shards: r) {
    }

    /// Runs the next layers of a frame that has begun.
    18 RunLayers (operator: s, session: r, world: r, frame: w) rest (shards: r, pages: w) {
        /// How many.
        count: u8,
    }

    /// Ends a frame whose layers have all run: the next state and its hash.
    19 FinishFrame (operator: s, session: r, state: w, inputs: w, world: r, frame: w) rest (shards: r) {
    }

    /// Ends a match before the rules do: a player gives up, or has been gone for too long.
    20 EndSession (key: s, session: r, state: w, inputs: r) {
        /// The seat that asks.
        seat: u8,
        /// `QUIT`: the seat gives up; `ABANDONED`: the other seat has sent nothing for the grace.
        reason: u8,
    }

    /// Hands an account of a session to a rollup through the delegation program.
    21 Delegate (payer: ws, account: w, program: r, buffer: w, record: w, metadata: w, system_program: r, delegation_program: r) {
        /// The session's id.
        id: [u8; 16],
        /// One of `part`.
        part: u8,
        /// Which page; 0 for the other parts.
        index: u8,
        /// How often the rollup commits by itself, milliseconds.
        commit_ms: u32,
        /// The rollup's identity; zeros let any take it.
        validator: [u8; 32],
    }

    /// On a rollup: has accounts of a session committed to L1, and given back when it is over.
    22 Commit (payer: ws, context: w, magic_program: r, session: r, state: r) rest (accounts: w) {
        /// 1 gives them back too: only once the match has ended, or by the payer before it began.
        undelegate: u8,
    }

    /// On L1: keeps the result of an ended match, and counts the match for its world.
    23 RecordResult (payer: ws, session: w, state: r, inputs: r, world: w, result: w, system_program: r) {
    }

    /// Counts a result for one player of it on the world's leaderboard, once.
    24 UpdateScore (payer: ws, result: w, score: w, system_program: r) {
        /// Which seat's player.
        seat: u8,
    }

    /// Makes the account for a match's replay file; `GrowReplay` brings it to its size.
    25 CreateReplay (writer: ws, result: w, replay: w, system_program: r) {
        /// Bytes of the file.
        bytes: u32,
    }

    /// Grows a replay's account towards its size, by at most `GROW_BYTES`.
    26 GrowReplay (writer: ws, replay: w, system_program: r) {
    }

    /// Writes a part of a replay's file.
    27 WriteReplay (writer: s, replay: w) tail true {
        /// The first byte, counted after the account's header.
        offset: u32,
    }

    /// Compares the replay's header with the result, and closes the replay to writes.
    28 FinishReplay (writer: s, result: w, replay: w) {
    }

    /// Closes a replay; the rent goes to its writer.
    29 CloseReplay (writer: ws, result: w, replay: w) {
    }

    /// Closes a session's pages, and with the last one the session; the rent goes to its payer.
    30 CloseSession (closer: s, payer: w, session: w, state: w, inputs: w, frame: w, world: w) rest (pages: w) {
    }
}

/// How the delegation program calls back to give an account back: the first eight bytes of the
/// data, a Borsh `Vec<Vec<u8>>` of the account's seeds after them. Accounts: the account (written),
/// the buffer that holds its data (signed, owned by the delegation program), the payer of the rent
/// (written, signed), the system program.
pub const UNDELEGATE_CALLBACK: [u8; 8] = [196, 28, 41, 206, 48, 37, 51, 167];

const _: () = {
    let mut tag = 0;
    while tag < INSTRUCTIONS.len() {
        assert!(INSTRUCTIONS[tag].tag as usize == tag);
        tag += 1;
    }
    assert!(tag <= UNDELEGATE_CALLBACK[0] as usize);
};
