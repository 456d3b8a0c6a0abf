//! Any instruction data, with any accounts of a session in any order, through the program's own entry point
//! as this machine runs it: calls to other programs do nothing, everything else is what the ELF does.
//! Nothing panics, nothing overflows; what is refused is refused by an error, and a seat's pad is changed
//! by its key alone.
//!
//! The first byte is the stage of the match, the second how many of the next triples change the accounts
//! that the instruction lists (which, to what, its marks); the rest is the instruction's data.
#![no_main]

use std::sync::OnceLock;

use bytemuck::{Zeroable, bytes_of};
use libfuzzer_sys::fuzz_target;
use worldline_abi::instruction::INSTRUCTIONS;
use worldline_abi::*;
use worldline_cartridge::testing::{Size, cartridge};

/// Where the virtual machine has the program's heap, and its bytes.
const HEAP: usize = 0x3_0000_0000;
const HEAP_BYTES: usize = 32 << 10;
/// Bytes by which an account may grow, behind its data.
const ROOM: usize = 10_240;
/// The match's stage and characters, which the world has a start for.
const STAGE: u8 = 31;
const CHARACTERS: [u8; 2] = [2, 20];

/// Who and what a call can name; an account's address is its number, 32 times.
const PAYER: u8 = 1;
const WALLETS: [u8; 2] = [2, 3];
const KEYS: [u8; 2] = [4, 5];
const WORLD: u8 = 6;
const SHARD: u8 = 7;
const SESSION: u8 = 8;
const STATE: u8 = 9;
const INPUTS: u8 = 10;
const FRAME: u8 = 11;
const PAGE: u8 = 12;
const RESULT: u8 = 13;
const REPLAY: u8 = 14;
const SCORE: u8 = 15;
const COUNT: u8 = 18;

const fn at(number: u8) -> [u8; 32] {
    [number; 32]
}

fn account<T: Layout>(mut value: T) -> Vec<u8> {
    let bytes = bytemuck::bytes_of_mut(&mut value);
    if let Some(name) = T::DISCRIMINATOR {
        bytes[..8].copy_from_slice(&name);
    }
    bytes.to_vec()
}

/// The bytes of every account, the match not begun.
fn accounts() -> &'static [Vec<u8>] {
    static ACCOUNTS: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    ACCOUNTS.get_or_init(|| {
        let file = cartridge(Size::Interop, 1);
        let mut manifest = *file.manifest();
        manifest.owner = at(PAYER);
        manifest.shards[0] = at(SHARD);
        let mut all = vec![Vec::new(); COUNT.into()];
        let mut put = |number: u8, bytes: Vec<u8>| all[usize::from(number)] = bytes;
        let mut world = WorldAccount::zeroed();
        (world.manifest, world.status) = (manifest, world_status::READY);
        world.live_sessions = 1;
        put(WORLD, account(world));
        let shard = WeightShard {
            world: at(WORLD),
            bytes: manifest.shard_bytes[0],
            ..WeightShard::zeroed()
        };
        put(SHARD, [account(shard), file.shards()[0].to_vec()].concat());
        let mut book = SessionAccount::zeroed();
        book.session = Session {
            world: at(WORLD),
            world_root: manifest.merkle_root,
            payer: at(PAYER),
            stage: STAGE,
            wallets: WALLETS.map(at),
            session_keys: KEYS.map(at),
            seats: [seat::HUMAN; 2],
            characters: CHARACTERS,
            ..Session::zeroed()
        };
        (book.state, book.inputs, book.pages) = (at(STATE), at(INPUTS), manifest.hidden_pages);
        put(SESSION, account(book));
        put(STATE, account(SessionState::default()));
        put(INPUTS, account(InputAccount::zeroed()));
        let frame = FrameAccount {
            session: at(SESSION),
            ..FrameAccount::zeroed()
        };
        put(FRAME, account(frame));
        let mut page = file.model().hidden().fresh()[0];
        page.header.session = at(SESSION);
        put(PAGE, account(page));
        let mut result = ResultAccount::zeroed();
        (result.session, result.world) = (at(SESSION), at(WORLD));
        (result.payer, result.writer) = (at(PAYER), at(PAYER));
        result.result.wallets = WALLETS.map(at);
        result.result.seats = [seat::HUMAN; 2];
        put(RESULT, account(result));
        let replay = ReplayAccount {
            session: at(SESSION),
            writer: at(PAYER),
            bytes: 600,
            ..ReplayAccount::zeroed()
        };
        put(REPLAY, [account(replay), vec![0; 600]].concat());
        let score = ScoreAccount {
            world: at(WORLD),
            wallet: at(WALLETS[0]),
            ..ScoreAccount::zeroed()
        };
        put(SCORE, account(score));
        all
    })
}

/// The state at a stage; a running match is at its first frame.
fn state(stage: u8) -> SessionState {
    static START: OnceLock<SessionState> = OnceLock::new();
    let start = START.get_or_init(|| {
        let file = cartridge(Size::Interop, 1);
        file.model().start(STAGE, CHARACTERS).expect("a start")
    });
    SessionState {
        status: stage % (status::ENDED + 1),
        ..*start
    }
}

/// An account of a call: who, and its marks.
#[derive(Clone, Copy)]
struct Meta {
    number: u8,
    signer: bool,
    writable: bool,
}

/// Who stands at a name of the interface.
fn named(name: &str, seat: u8) -> u8 {
    let seat = usize::from(seat % 2);
    match name {
        "wallet" => WALLETS[seat],
        "key" => KEYS[seat],
        "world" | "parent" => WORLD,
        "shard" | "shards" | "source" => SHARD,
        "session" => SESSION,
        "state" | "account" | "accounts" => STATE,
        "inputs" => INPUTS,
        "frame" => FRAME,
        "pages" => PAGE,
        "result" => RESULT,
        "replay" => REPLAY,
        "score" => SCORE,
        "system_program" => 0,
        "buffer" | "record" | "metadata" | "context" => COUNT - 2,
        _ => PAYER,
    }
}

/// The accounts that an instruction lists, as they should be.
fn rightful(data: &[u8]) -> Vec<Meta> {
    let tag = data.first().copied().unwrap_or(0);
    let seat = data.get(1).copied().unwrap_or(0);
    let spec = &INSTRUCTIONS[usize::from(tag) % INSTRUCTIONS.len()];
    let all = spec.accounts.iter().chain(spec.rest);
    let meta = |one: &worldline_abi::instruction::AccountSpec| Meta {
        number: named(one.name, seat),
        signer: one.signer,
        writable: one.writable,
    };
    all.map(meta).collect()
}

/// A call as the loader hands it over.
struct Input {
    words: Vec<u64>,
    /// Where each account's data is.
    data: Vec<(u8, usize, usize)>,
}

fn serialize(metas: &[Meta], stage: u8, data: &[u8]) -> Input {
    let mut bytes = (metas.len() as u64).to_le_bytes().to_vec();
    let mut places = Vec::new();
    for (index, meta) in metas.iter().enumerate() {
        let first = metas[..index]
            .iter()
            .position(|one| one.number == meta.number);
        if let Some(first) = first {
            bytes.extend([first as u8, 0, 0, 0, 0, 0, 0, 0]);
            continue;
        }
        let content = match meta.number {
            STATE => account(state(stage)),
            number => accounts()[usize::from(number)].clone(),
        };
        let owner = if content.is_empty() {
            [0; 32]
        } else {
            address::PROGRAM_ID
        };
        bytes.extend([
            0xff,
            meta.signer.into(),
            meta.writable.into(),
            0,
            0,
            0,
            0,
            0,
        ]);
        bytes.extend(at(meta.number));
        bytes.extend(owner);
        bytes.extend(1_000_000_000u64.to_le_bytes());
        bytes.extend((content.len() as u64).to_le_bytes());
        places.push((meta.number, bytes.len(), content.len()));
        bytes.extend(&content);
        let end = (bytes.len() + ROOM).next_multiple_of(8);
        bytes.resize(end, 0);
        bytes.extend(u64::MAX.to_le_bytes());
    }
    bytes.extend((data.len() as u64).to_le_bytes());
    bytes.extend(data);
    bytes.extend(address::PROGRAM_ID);
    let mut words = vec![0u64; bytes.len().div_ceil(8)];
    bytemuck::cast_slice_mut(&mut words)[..bytes.len()].copy_from_slice(&bytes);
    Input {
        words,
        data: places,
    }
}

/// The program's heap, zeroed, where the virtual machine has it.
fn heap() {
    static MAPPED: OnceLock<()> = OnceLock::new();
    MAPPED.get_or_init(|| {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
        let rights = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping that takes nobody's place.
        let found = unsafe { libc::mmap(HEAP as *mut _, HEAP_BYTES, rights, flags, -1, 0) };
        assert_eq!(found as usize, HEAP, "the heap's place is taken");
    });
    // SAFETY: mapped above for good, and nobody refers to it between two calls.
    unsafe { std::ptr::write_bytes(HEAP as *mut u8, 0, HEAP_BYTES) };
}

fuzz_target!(|bytes: &[u8]| {
    let [stage, changes, rest @ ..] = bytes else {
        return;
    };
    let count = usize::from(changes % 4).min(rest.len() / 3);
    let (triples, data) = rest.split_at(3 * count);
    let mut metas = rightful(data);
    for triple in triples.as_chunks::<3>().0 {
        let [which, number, marks] = *triple;
        let meta = Meta {
            number: number % COUNT,
            signer: marks & 1 == 1,
            writable: marks & 2 == 2,
        };
        let which = usize::from(which) % (metas.len() + 1);
        match metas.get_mut(which) {
            Some(place) if marks & 4 == 0 => *place = meta,
            _ => metas.insert(which, meta),
        }
    }
    heap();
    let mut input = serialize(&metas, *stage, data);
    // SAFETY: laid out as the loader does, and alive for the call.
    let code = unsafe { world_model::entrypoint(input.words.as_mut_ptr().cast()) };
    let after: &[u8] = bytemuck::cast_slice(&input.words);
    for (number, from, length) in input.data {
        if code == 0 && number == INPUTS {
            let Ok(inputs) = copy::<InputAccount>(&after[from..from + length]) else {
                continue;
            };
            for (seat, key) in KEYS.into_iter().enumerate() {
                let signed = metas.iter().any(|one| one.number == key && one.signer);
                let pressed = bytes_of(&inputs.buffer.slots[seat])
                    .iter()
                    .any(|byte| *byte != 0);
                assert!(!pressed || signed, "another's pad");
            }
        }
    }
});
