//! Every limit of this crate.

use std::time::Duration;

/// Worlds that are registered at one time.
pub const MAX_WORLDS: usize = 4096;
/// Snapshots that are kept at one time.
pub const MAX_SNAPSHOTS: usize = 65_536;
/// Branches of one call.
pub const MAX_BRANCHES: usize = worldline_sandbox::limits::MAX_BRANCHES;
/// Entries of one world's or snapshot's metadata.
pub const MAX_METADATA: usize = 64;
/// Bytes of one key or value of metadata, of a digest, and of an idempotency key.
pub const MAX_TEXT: usize = 4096;
/// The longest time to live, in seconds: ten years.
pub const MAX_TTL: u64 = 315_360_000;
/// Frames that one command steps a match.
pub const MAX_STEPS: u32 = 36_000;
/// Rows that one question of the caller's own may give.
pub const MAX_ROWS: usize = 10_000;
/// How long a question of the caller's own may take.
pub const MAX_QUERY: Duration = Duration::from_secs(20);
/// Bytes of a command that its trace keeps.
pub const MAX_TRACED: usize = 4096;
/// Answers that are kept for callers who repeat a request.
pub const MAX_REPLIES: usize = 4096;
/// Bytes of the journal after which it begins anew, once its rows are in the tables.
pub const MAX_JOURNAL: u64 = 8 << 20;
/// Wait before tables that could not be written, as on a full disk, are tried again.
pub const TABLES_RETRY: Duration = Duration::from_secs(1);
/// How often times to live are looked at.
pub const TTL_WATCH: Duration = Duration::from_millis(250);
/// Branches of one verification.
pub const MAX_VERIFIED: usize = 64;
/// Steps of each of them.
pub const MAX_VERIFIED_STEPS: usize = 64;
/// How long one of those steps may take.
pub const MAX_STEP_TIME: Duration = Duration::from_secs(60);
/// Peers of one graph.
pub const MAX_PEERS: usize = 256;
