//! Every limit of the server, named.

use std::time::Duration;

/// The largest request body, bytes.
pub const MAX_BODY: usize = 16 << 10;
/// The largest WebSocket message from a client, bytes.
pub const MAX_MESSAGE: usize = 4 << 10;
/// One that is longer is heard out if it is not longer than this, and refused in words then. A system that
/// hangs up on what it has not read takes back what it has said.
pub const MAX_HEARD: usize = 128 << 10;
/// Messages a client may send in one second; more are dropped, and it is told.
pub const MAX_MESSAGES_PER_SECOND: u32 = 300;
/// A client that sends this many in one second is flooding and disconnected.
pub const FLOOD: u32 = 3000;
/// Messages that make no sense before a client is disconnected.
pub const MAX_BAD_MESSAGES: u32 = 50;
/// A message that cannot be handed over in this time means that the client stalls.
pub const SEND_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a silent client is asked whether it is still there.
pub const PING_EVERY: Duration = Duration::from_secs(3);
/// A client that has said nothing for this long, not even a pong, is gone.
pub const SILENCE: Duration = Duration::from_secs(10);
/// WebSockets open at one time.
pub const MAX_SOCKETS: usize = 2048;
/// Replays re-executed at one time (verify, states, frames): frames of live matches come first.
pub const MAX_REEXECUTIONS: usize = 1;
/// A re-execution that has to wait longer than this is refused.
pub const REEXECUTION_WAIT: Duration = Duration::from_secs(20);
/// A TLS handshake that takes longer is dropped.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// TLS handshakes under way at one time.
pub const MAX_HANDSHAKES: usize = 64;
/// All files of the site together, bytes.
pub const MAX_SITE_BYTES: u64 = 64 << 20;
/// The largest body of a call on worlds, bytes: a command or a cell, as JSON.
pub const MAX_WORLD_BODY: usize = 16 << 20;
/// The largest file moved into a world by one call, bytes.
pub const MAX_FILE: usize = 256 << 20;
/// What one run may write when its output is not streamed, bytes.
pub const MAX_OUTPUT: usize = 16 << 20;
/// Pieces of streamed output that wait for a slow reader before the run waits too.
pub const OUTPUT_QUEUE: usize = 64;
/// Entries of a page unless another number is asked for.
pub const PAGE: usize = 50;
/// The most entries of a page.
pub const MAX_PAGE: usize = 500;
/// SSH connections at one time.
pub const MAX_SSH: usize = 256;
/// How long a refusal over SSH takes at least.
pub const SSH_REFUSAL: Duration = Duration::from_millis(500);
/// How often a silent SSH client is asked whether it is still there.
pub const SSH_KEEPALIVE: Duration = Duration::from_secs(30);
/// How often something that runs looks whether its SSH client is still there.
pub const SSH_HEARTBEAT: Duration = Duration::from_millis(200);
/// Variables that an SSH client may set.
pub const MAX_SSH_VARIABLES: usize = 64;
/// Worlds from L1 that are kept in memory for their viewers.
pub const FETCHED_WORLDS: usize = 16;
/// How long a chain may take to accept a WebSocket.
pub const CHAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// Keys and secrets of the user.
pub const MAX_USER_ENTRIES: usize = 512;
/// Characters of the name of a key or secret.
pub const MAX_USER_NAME: usize = 128;
/// Bytes of a secret, with what is said of it.
pub const MAX_SECRET: usize = 64 << 10;
/// Disk resizes that can be asked for.
pub const MAX_RESIZES: usize = 1024;
/// Bytes of a request's head that is looked at for a key.
pub const MAX_HEAD: usize = 16 << 10;
