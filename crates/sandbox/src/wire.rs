//! Frames between a supervisor and the agent inside a world. Both sides compile this file, so that
//! they cannot disagree.
//!
//! A frame is a length (`u32`), a kind (`u8`), the number of the call it belongs to (`u32`), and a
//! payload. Numbers are little endian; a byte string is its length (`u32`) and its bytes.

/// Longest payload that either side accepts.
pub const MAX_PAYLOAD: usize = 8 << 20;
/// Bytes before a payload.
pub const HEADER: usize = 9;
/// Longest piece of output or of a file in one frame.
pub const CHUNK: usize = 256 << 10;

/// Bytes of a call's output that wait to be heard before what writes them waits too. Nobody else waits.
pub const WINDOW: usize = 2 << 20;
/// Says that nobody counts any more what a call says.
pub const UNCOUNTED: u32 = u32::MAX;
/// Bytes of the longest file that is read in one call.
pub const MAX_FILE: usize = 256 << 20;

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

/// Writes a payload.
#[derive(Default)]
pub struct Put(pub Vec<u8>);

impl Put {
    /// Adds a number.
    pub fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    /// Adds a number.
    pub fn u64(mut self, value: u64) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    /// Adds a byte string.
    pub fn bytes(mut self, value: impl AsRef<[u8]>) -> Self {
        self = self.u32(value.as_ref().len() as u32);
        self.0.extend(value.as_ref());
        self
    }

    /// Adds a list of byte strings.
    pub fn list<T: AsRef<[u8]>>(mut self, values: impl IntoIterator<Item = T>) -> Self {
        let at = self.0.len();
        self = self.u32(0);
        let mut count = 0u32;
        for value in values {
            self = self.bytes(value);
            count += 1;
        }
        self.0[at..at + 4].copy_from_slice(&count.to_le_bytes());
        self
    }
}

/// Reads a payload; `None` where it ends too soon.
pub struct Take<'a>(pub &'a [u8]);

impl<'a> Take<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(count)?;
        self.0 = tail;
        Some(head)
    }

    /// Reads a number.
    pub fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    /// Reads a number.
    pub fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    /// Reads a byte string.
    pub fn bytes(&mut self) -> Option<&'a [u8]> {
        let count = self.u32()? as usize;
        self.take(count)
    }

    /// Reads a byte string as text; what is not UTF-8 is replaced.
    pub fn text(&mut self) -> Option<String> {
        Some(String::from_utf8_lossy(self.bytes()?).into_owned())
    }

    /// Reads a list of byte strings.
    pub fn list(&mut self) -> Option<Vec<&'a [u8]>> {
        let count = self.u32()?;
        (0..count).map(|_| self.bytes()).collect()
    }
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
