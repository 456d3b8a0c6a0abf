//! Every limit of the arena, named.

use std::time::Duration;

/// Frames a second. Frame n runs at t0 + n/60 s.
pub const FRAMES_PER_SECOND: u32 = 60;
/// Matches that may be known (open, live or just ended) at one time.
pub const MAX_MATCHES: usize = 1024;
/// Matches that may be live (their clock running) at one time.
pub const MAX_LIVE_MATCHES: usize = 256;
/// From the moment both seats are ready until frame 1.
pub const COUNTDOWN: Duration = Duration::from_secs(2);
/// A seat may be without a connection this long in a live match before it loses by abandonment.
pub const ABANDON_GRACE: Duration = Duration::from_secs(15);
/// After a restart of the arena, players have this long to come back to a recovered match.
pub const RECOVERY_GRACE: Duration = Duration::from_secs(60);
/// A match that has not started is forgotten when nobody was connected for this long.
pub const LOBBY_TTL: Duration = Duration::from_secs(600);
/// An ended match stays reachable (for rematch and late signatures) this long; its replay stays.
pub const ENDED_TTL: Duration = Duration::from_secs(600);
/// Matches of one world stepped together; the others follow in the same tick.
pub const MAX_BATCH: usize = 64;
/// A clock that is later than this gives up catching up: its t0 moves, and a slip is counted.
pub const MAX_LAG: Duration = Duration::from_millis(500);
/// Players have this long to sign the last frame before the replay is stored; later signatures are
/// added to it.
pub const SIGN_GRACE: Duration = Duration::from_millis(700);
/// Marks that a seat may leave unsigned before the oldest is no longer accepted (ten minutes).
pub const MAX_OPEN_MARKS: usize = 600;
/// A watcher's queue of events; one who falls further behind is told so and dropped.
pub const WATCH_QUEUE: usize = 256;
/// Messages waiting for the recorder; when full, a match keeps its bytes and tries again.
pub const RECORDER_QUEUE: usize = 4096;
/// A live match hands its inputs to the journal each time this many frames have passed.
pub const JOURNAL_EVERY: u32 = 6;
/// The journal is forced to the disk at least this often.
pub const JOURNAL_SYNC: Duration = Duration::from_secs(1);
/// The longest match, frames: 8 minutes and the time players took to come back.
pub const MAX_FRAMES: u32 = 10 * 60 * FRAMES_PER_SECOND;
/// The largest replay file that is read.
pub const MAX_REPLAY_BYTES: usize = 16 << 20;
/// Replays listed at once, newest first.
pub const MAX_LISTED_REPLAYS: usize = 500;
/// The largest ghost file that is read.
pub const MAX_GHOST_BYTES: usize = 1 << 20;
/// Frames for which the `random` opponent holds a pad, at least and at most.
pub const RANDOM_HOLD: (u32, u32) = (4, 24);
