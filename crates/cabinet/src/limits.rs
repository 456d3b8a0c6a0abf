//! Every limit of the cabinet, in one place.

use std::time::Duration;

/// Length of one block of the box, as on Solana.
pub const L1_SLOT: Duration = Duration::from_millis(400);
/// Length of one block of the rollup, as on MagicBlock's.
pub const ROLLUP_SLOT: Duration = Duration::from_millis(15);
/// How long a blockhash may be used, and a signature is remembered for duplicates.
pub const BLOCKHASH_LIFE: Duration = Duration::from_secs(60);

/// Largest transaction on the wire, in bytes (Solana's packet).
pub const TRANSACTION_BYTES: usize = 1232;
/// Fee of the box per signature, in lamports (Solana's).
pub const L1_FEE: u64 = 5000;
/// Compute units that one transaction may use on a rollup. The box keeps Solana's 1.4 million.
pub const ROLLUP_UNITS: u64 = 2_000_000_000;
/// Lamports of the box's faucet when its ledger is made: 500 million SOL.
pub const FAUCET_LAMPORTS: u64 = 500_000_000_000_000_000;
/// Most that one airdrop gives, in lamports: 100,000 SOL, enough for the largest world.
pub const AIRDROP_LAMPORTS: u64 = 100_000_000_000_000;

/// Transactions that the box can still show; older ones are forgotten.
pub const L1_HISTORY: usize = 20_000;
/// Transactions that a rollup can still show: half a minute of ten sessions and their inputs.
pub const ROLLUP_HISTORY: usize = 50_000;

/// A rollup's ledger is written this often; after a crash play resumes at most so much earlier.
pub const CHECKPOINT: Duration = Duration::from_secs(1);
/// A journal is folded into a snapshot when it is larger than this and than the snapshot.
pub const JOURNAL_BYTES: u64 = 64 * 1024 * 1024;
/// Largest single journal record that is believed when a ledger is read.
pub const RECORD_BYTES: usize = 1024 * 1024 * 1024;

/// Tasks that one rollup runs.
pub const TASKS: usize = 256;
/// Instructions in one task.
pub const TASK_INSTRUCTIONS: usize = 16;
/// Shortest interval of a task, in milliseconds, as MagicBlock's default.
pub const TASK_INTERVAL_MIN_MS: i64 = 10;
/// A task that failed so often in a row is cancelled: one second of frames.
pub const TASK_FAILURES: u32 = 60;
/// A crank that is later than this moves its schedule instead of catching up.
pub const CRANK_BEHIND: Duration = Duration::from_secs(1);

/// Requests that are answered between two runs of tasks, however late those are.
pub const JOBS_PER_TURN: u32 = 16;

/// Bytes of account data that one commit transaction carries; more goes in several.
pub const COMMIT_CHUNK: usize = 768;
/// Accounts committed to L1 at the same time.
pub const COMMITS_IN_FLIGHT: usize = 8;
/// Wait after a failed commit before it is tried again.
pub const COMMIT_RETRY: Duration = Duration::from_secs(1);

/// Longest wait for one answer of L1.
pub const L1_TIMEOUT: Duration = Duration::from_secs(10);
/// Accounts asked for in one `getMultipleAccounts`, as public endpoints allow.
pub const ACCOUNTS_PER_REQUEST: usize = 100;
/// Largest answer taken from L1: a 10 MiB account in base64, and its envelope.
pub const L1_ANSWER_BYTES: u64 = 64 * 1024 * 1024;

/// Largest HTTP body and WebSocket message taken from a client.
pub const REQUEST_BYTES: usize = 256 * 1024;
/// Requests in one JSON-RPC batch.
pub const BATCH: usize = 100;
/// Addresses or signatures in one request (`getSignatureStatuses` allows 256 on Solana).
pub const KEYS_PER_REQUEST: usize = 256;
/// Filters in one `getProgramAccounts`, as on Solana.
pub const FILTERS: usize = 4;
/// Subscriptions of one connection.
pub const SUBSCRIPTIONS: usize = 1024;
/// Events that a slow connection may lag behind before it is closed.
pub const EVENTS: usize = 16 * 1024;
/// Most signatures listed by one `getSignaturesForAddress`, as on Solana.
pub const SIGNATURES_LISTED: usize = 1000;
/// A rollup that starts again waits this long before its tasks go on: keepers and players have to
/// subscribe again to miss nothing.
pub const RESUME_AFTER: Duration = Duration::from_millis(1_500);
/// The nice value that a rollup's thread asks for, where the system lets it: below that of others.
#[cfg(unix)]
pub const ENGINE_NICE: i32 = -10;
