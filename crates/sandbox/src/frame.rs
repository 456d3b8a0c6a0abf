//! What frames are made of, without a standard library: every side of every link compiles this file.

/// Longest payload that either side accepts.
pub const MAX_PAYLOAD: usize = 8 << 20;
/// Bytes before a payload.
pub const HEADER: usize = 9;

/// What a guest without an operating system says first. All that comes before it is somebody else's.
pub const GREETING: [u8; 8] = *b"\0worlds\n";
/// Longest payload that such a guest takes.
pub const MAX_LINE: usize = 4096;
/// Bytes of what it is woken with.
pub const WAKE_LEN: usize = 16;
/// The call of what nobody asked for.
pub const NOBODY: u32 = 0;

/// What a frame asks for or tells.
pub mod kind {
    /// To the agent: make the root file system and the devices, close what came from outside.
    pub const SETUP: u8 = 1;
    /// To the agent: start the interpreter from its beginning.
    pub const KERNEL: u8 = 2;
    /// To the agent: start the interpreter from a memory image.
    pub const LOAD: u8 = 3;
    /// To the agent: run a cell.
    pub const CELL: u8 = 4;
    /// To the agent: run a command.
    pub const SPAWN: u8 = 5;
    /// To the agent: send a signal to a call's processes.
    pub const SIGNAL: u8 = 6;
    /// To the agent: read a file.
    pub const READ: u8 = 7;
    /// To the agent: write a piece of a file.
    pub const WRITE: u8 = 8;
    /// To the agent: connect to a port inside the world, and pass the socket out.
    pub const CONNECT: u8 = 9;
    /// To the agent: bytes for a command's standard input; none at all close it.
    pub const STDIN: u8 = 10;
    /// To the agent: a terminal's new size.
    pub const RESIZE: u8 = 11;
    /// To the agent: give and take files, over a call's input and output, by SFTP.
    pub const SFTP: u8 = 12;
    /// To the agent: hold what is started from now on to another limit (resource, limit, its limit).
    pub const LIMIT: u8 = 13;
    /// To the agent: listen on a port of the world's loopback, and pass the socket out.
    pub const LISTEN: u8 = 14;
    /// To the agent: this many bytes of a call's output have been heard.
    pub const HEARD: u8 = 15;
    /// To the agent of a machine: take on an identity, and make ready to serve.
    pub const MACHINE: u8 = 16;
    /// To the agent of a machine: say nothing more until [`WAKE`], so that nothing is on its way.
    pub const QUIESCE: u8 = 17;
    /// To the agent of a machine: connect to a port inside, over a call's input and output.
    pub const TUNNEL: u8 = 18;
    /// To the agent of a machine: hold what is written to this many bytes.
    pub const DISK: u8 = 19;
    /// To the agent of a machine: how many bytes are written?
    pub const USED: u8 = 20;
    /// To the agent of a machine: take the next connection to a port of its loopback, over a call's input and
    /// output.
    pub const ACCEPT: u8 = 21;
    /// To the agent of a machine: what time it is, and randomness of its own; go on with that.
    pub const WAKE: u8 = 32;
    /// From the agent: a call succeeded.
    pub const DONE: u8 = 64;
    /// From the agent: a call failed; the payload says why.
    pub const FAILED: u8 = 65;
    /// From the agent: output (a stream number, then bytes).
    pub const OUTPUT: u8 = 66;
    /// From the agent: a command ended (exit code, folder, environment).
    pub const EXIT: u8 = 67;
    /// From the agent: a cell ended; the payload is the interpreter's JSON.
    pub const RESULT: u8 = 68;
    /// From the agent: the interpreter is gone.
    pub const KERNEL_ENDED: u8 = 69;
    /// From the agent: a command has taken this many bytes of its input.
    pub const TAKEN: u8 = 70;
}

/// A frame's header.
pub fn header(kind: u8, call: u32, payload: usize) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..4].copy_from_slice(&(payload as u32).to_le_bytes());
    header[4] = kind;
    header[5..].copy_from_slice(&call.to_le_bytes());
    header
}

/// A header's payload length, kind and call.
pub fn parse_header(header: &[u8; HEADER]) -> (usize, u8, u32) {
    let word = |at: usize| {
        u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
    };
    (word(0) as usize, header[4], word(5))
}

/// What a guest without an operating system is woken with: nanoseconds since 1970, and a seed.
pub fn wake(now: u64, seed: u64) -> [u8; WAKE_LEN] {
    let mut payload = [0; WAKE_LEN];
    payload[..8].copy_from_slice(&now.to_le_bytes());
    payload[8..].copy_from_slice(&seed.to_le_bytes());
    payload
}

/// The other way around.
pub fn parse_wake(payload: &[u8; WAKE_LEN]) -> (u64, u64) {
    let word = |at: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&payload[at..at + 8]);
        u64::from_le_bytes(bytes)
    };
    (word(0), word(8))
}
