//! Where accounts lie: the seeds of every program address, and the programs we talk to.
//!
//! Deriving an address takes SHA-256 and a curve, which are the caller's; the seeds are here.

/// A Solana address.
pub type Address = [u8; 32];

/// Where our own chains load the program. Nobody holds a key for it. Whoever deploys to another cluster does so under a key of their own and tells
/// clients that address: the program never assumes its own.
pub const PROGRAM_ID: Address = base58("Wor1d1ine1111111111111111111111111111111111");

/// MagicBlock's delegation program.
pub const DELEGATION_PROGRAM: Address = base58("DELeGGvXpWV2fqJUhqcF5ZSYMS4JTLjteaAMARRSaeSh");
/// The program that a rollup answers to.
pub const MAGIC_PROGRAM: Address = base58("Magic11111111111111111111111111111111111111");
/// Where a rollup keeps what it was asked to commit.
pub const MAGIC_CONTEXT: Address = base58("MagicContext1111111111111111111111111111111");

/// Seeds of a world.
pub fn world<'a>(owner: &'a Address, id: &'a [u8; 8]) -> [&'a [u8]; 3] {
    [b"world", owner, id]
}

/// Seeds of a session.
pub fn session<'a>(payer: &'a Address, id: &'a [u8; 16]) -> [&'a [u8]; 3] {
    [b"session", payer, id]
}

/// Seeds of a session's state.
pub fn state(session: &Address) -> [&[u8]; 2] {
    [b"state", session]
}

/// Seeds of a session's inputs.
pub fn inputs(session: &Address) -> [&[u8]; 2] {
    [b"inputs", session]
}

/// Seeds of a session's frame in progress.
pub fn frame(session: &Address) -> [&[u8]; 2] {
    [b"frame", session]
}

/// Seeds of a page of a session's hidden state; `index` is one byte.
pub fn page<'a>(session: &'a Address, index: &'a [u8; 1]) -> [&'a [u8]; 3] {
    [b"page", session, index]
}

/// Seeds of a match's result.
pub fn result(session: &Address) -> [&[u8]; 2] {
    [b"result", session]
}

/// Seeds of a match's replay.
pub fn replay(session: &Address) -> [&[u8]; 2] {
    [b"replay", session]
}

/// Seeds of a player's score in a world.
pub fn score<'a>(world: &'a Address, wallet: &'a Address) -> [&'a [u8]; 3] {
    [b"score", world, wallet]
}

/// The seed of a shard, which is no program address: programs cannot make accounts above 10,240
/// bytes, so its owner makes it with `CreateAccountWithSeed`. The address is
/// `SHA-256(owner ‖ this seed ‖ program)`: sixteen hexadecimal digits of the world's id, one of the
/// index.
pub fn shard_seed(id: u64, index: u8) -> [u8; 17] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut seed = [0; 17];
    for (place, digit) in seed[..16].iter_mut().enumerate() {
        *digit = DIGITS[(id >> (60 - 4 * place)) as usize & 15];
    }
    seed[16] = DIGITS[usize::from(index & 15)];
    seed
}

/// The address that Base58 text names; wrong text does not compile.
const fn base58(text: &str) -> Address {
    const ALPHABET: &[u8] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
    let mut address = [0; 32];
    let mut at = 0;
    while at < text.len() {
        let mut carry = 0;
        while ALPHABET[carry] != text.as_bytes()[at] {
            carry += 1;
        }
        let mut place = address.len();
        while place > 0 {
            place -= 1;
            carry += 58 * address[place] as usize;
            address[place] = carry as u8;
            carry >>= 8;
        }
        assert!(carry == 0, "longer than an address");
        at += 1;
    }
    address
}
