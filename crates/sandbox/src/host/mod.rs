//! What all backends ask of the host they run on: control groups, calls of the kernel, users of no one's.

pub(crate) mod cgroup;
mod sys;

use std::io;

pub(crate) use sys::*;

/// The first of the host's user numbers that worlds see as 0 and up.
pub(crate) const FIRST_USER: u32 = 0x7000_0000;

/// Who owns the files of images: the worlds' first user, or this program's own where it may give nothing away.
pub(crate) fn owner() -> (u32, u32) {
    if is_root() {
        (FIRST_USER, FIRST_USER)
    } else {
        identity()
    }
}

/// A name that nothing else has.
pub(crate) fn fresh(what: &str) -> io::Result<String> {
    let mut bytes = [0u8; 8];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(format!("{what}-{:016x}", u64::from_le_bytes(bytes)))
}
