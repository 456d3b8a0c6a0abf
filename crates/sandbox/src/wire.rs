//! Frames between a supervisor and the agent inside a world. Both sides compile this file, so that
//! they cannot disagree.
//!
//! A frame is a length (`u32`), a kind (`u8`), the number of the call it belongs to (`u32`), and a
//! payload. Numbers are little endian; a byte string is its length (`u32`) and its bytes.

#[path = "frame.rs"]
mod frame;

pub use frame::{
    GREETING, HEADER, MAX_LINE, MAX_PAYLOAD, NOBODY, header, kind, parse_header, wake,
};

/// Longest piece of output or of a file in one frame.
pub const CHUNK: usize = 256 << 10;

/// Bytes of a call's output that wait to be heard before what writes them waits too. Nobody else waits.
pub const WINDOW: usize = 2 << 20;
/// Says that nobody counts any more what a call says.
pub const UNCOUNTED: u32 = u32::MAX;
/// Where the supervisor of a machine answers, on the machine's socket to the host.
pub const PORT: u32 = 1024;
/// Bytes of the longest file that is read in one call.
pub const MAX_FILE: usize = 256 << 20;

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
