//! Text of bounded length, and numbers in it.

use core::fmt;

use crate::frame::MAX_LINE;

/// What is said at once. What does not fit is left out.
pub(crate) struct Text {
    bytes: [u8; MAX_LINE],
    length: usize,
}

impl Text {
    pub(crate) fn new() -> Self {
        Self {
            bytes: [0; MAX_LINE],
            length: 0,
        }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    pub(crate) fn byte(&mut self, byte: u8) {
        if let Some(free) = self.bytes.get_mut(self.length) {
            *free = byte;
            self.length += 1;
        }
    }

    pub(crate) fn put(&mut self, text: &str) {
        for byte in text.bytes() {
            self.byte(byte);
        }
    }

    pub(crate) fn line(&mut self, text: &str) {
        self.put(text);
        self.byte(b'\n');
    }

    /// A line with a number.
    pub(crate) fn number(&mut self, value: u64) {
        let mut unit = 1;
        while value / unit >= 10 {
            unit *= 10;
        }
        while unit > 0 {
            self.byte(b'0' + (value / unit % 10) as u8);
            unit /= 10;
        }
        self.byte(b'\n');
    }

    /// A line with a number in hexadecimal.
    pub(crate) fn hexadecimal(&mut self, value: u64) {
        for at in (0..16).rev() {
            self.byte(b"0123456789abcdef"[(value >> (4 * at) & 15) as usize]);
        }
        self.byte(b'\n');
    }
}

impl fmt::Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.put(text);
        Ok(())
    }
}

/// Reads a decimal number, or a hexadecimal one after `0x`.
pub(crate) fn number(word: &str) -> Option<u64> {
    match word.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => word.parse().ok(),
    }
}
