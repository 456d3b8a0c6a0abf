//! Every limit of the client, named.

use std::time::Duration;

/// Bytes of a transaction, at most (Solana's packet).
pub const TRANSACTION_BYTES: usize = 1_232;
/// Compute units that an L1 transaction may ask for, at most.
pub const L1_UNITS: u32 = 1_400_000;
/// Lamports that L1 takes for a signature.
pub const FEE_LAMPORTS: u64 = 5_000;
/// Lamports that MagicBlock's delegation program keeps of each account that it gives back.
pub const DELEGATION_FEE_LAMPORTS: u64 = 300_000;
/// Lamports of one SOL.
pub const LAMPORTS_PER_SOL: u64 = 1_000_000_000;

/// How often a request that did not get through is sent again.
pub const REQUEST_TRIES: u32 = 4;
/// Wait before the second try; doubled before each further one.
pub const REQUEST_WAIT: Duration = Duration::from_millis(200);
/// Longest wait for an answer.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest answer that is read: a 10 MiB account in Base64, and its envelope.
pub const ANSWER_BYTES: u64 = 64 << 20;
/// Accounts asked for at once, as public endpoints allow.
pub const ACCOUNTS_PER_REQUEST: usize = 100;
/// Signatures asked for at once.
pub const SIGNATURES_PER_REQUEST: usize = 256;

/// How often a transaction is signed again with a newer blockhash.
pub const SIGN_TRIES: u32 = 4;
/// Time between two looks at a transaction's status.
pub const STATUS_EVERY: Duration = Duration::from_millis(50);
/// A blockhash is used for new transactions this long; chains take it for about a minute.
pub const BLOCKHASH_AGE: Duration = Duration::from_secs(15);
/// Longest wait for a transaction that was sent: the life of a blockhash, and some.
pub const CONFIRM_TIMEOUT: Duration = Duration::from_secs(90);

/// Transactions of an upload that are sent at the same time.
pub const PARALLEL: usize = 8;
/// Rounds of an upload in which nothing new arrived before it is given up.
pub const STALLED_ROUNDS: u32 = 3;
/// Merkle leaves that one L1 transaction hashes: about 33,000 units each.
pub const LEAVES_PER_CHECK: u32 = 40;
/// Bytes that one transaction copies from a parent's shard.
pub const COPY_BYTES: usize = 1 << 20;
/// Pages of hidden state that one transaction makes.
pub const PAGES_PER_CREATE: usize = 8;
/// Accounts that one transaction commits or closes.
pub const ACCOUNTS_PER_COMMIT: usize = 12;

/// Longest wait for L1 to have a session back that a rollup gives back.
pub const GIVE_BACK_TIMEOUT: Duration = Duration::from_secs(120);
/// Time between two looks at accounts that are on their way.
pub const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Players have this long to sign the last frame before the match is settled.
pub const SIGN_GRACE: Duration = Duration::from_secs(3);
/// Milliseconds between two frames, as a task says it: rollups read 16 as the sixtieth of a second.
pub const FRAME_MILLIS: i64 = 16;
/// A rollup commits a session's state to L1 this often: every 1,800 frames, for one fee; ten at once cost a rollup frames.
pub const STATE_COMMIT_MILLIS: u32 = 30_000;
/// Time between two frames that a client sends.
pub const FRAME_TIME: Duration = Duration::from_nanos(1_000_000_000 / 60);
/// Unit limits that tell apart transactions which would else be the same.
pub const DISTINCT_UNITS: u32 = 4_096;
/// A player sends its pad again after this many frames without a change, so that it counts as there.
pub const KEEP_ALIVE_FRAMES: u32 = 120;
/// Subscribed accounts that say nothing for this long are asked for again.
pub const WATCH_TIMEOUT: Duration = Duration::from_secs(5);
/// Silences of that length after which a match that should run stands still.
pub const SILENCES: u32 = 3;

/// Time between two looks of a keeper at the sessions of its rollup.
pub const KEEPER_EVERY: Duration = Duration::from_millis(200);
/// Both players have this long between their ready and the first frame.
pub const COUNTDOWN: Duration = Duration::from_secs(3);
/// A keeper tries again after this long when a chain cannot be reached.
pub const KEEPER_RETRY: Duration = Duration::from_secs(2);
/// Matches that one keeper runs at a time.
pub const KEPT_MATCHES: usize = 64;
