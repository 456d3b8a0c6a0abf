//! What every process of a world gives up before it runs a line of anyone's code: capabilities, new
//! privileges, most system calls, and writing where nothing of the world is.

use std::ffi::CString;
use std::fs;
use std::io;

use crate::sys::{self, nr, sys};

/// Limits and filters, as the supervisor wants them.
pub struct Confinement {
    /// Capabilities that stay, over this world's own things only.
    pub keep: u64,
    /// The compiled filter of system calls; empty where the host has none.
    pub filter: Vec<u8>,
    /// Limits: resource number, the limit, and what it may be raised to.
    pub limits: Vec<(u32, [u64; 2])>,
    /// Whether the host has landlock.
    pub landlock: bool,
}

impl Confinement {
    /// Confines this process. The order matters: each step is still allowed by the ones before it.
    pub fn apply(&self) -> io::Result<()> {
        for (resource, limit) in &self.limits {
            sys!(nr::SETRLIMIT, *resource, limit.as_ptr())?;
        }
        self.drop_capabilities()?;
        const PR_SET_NO_NEW_PRIVS: usize = 38;
        sys!(nr::PRCTL, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)?;
        if self.landlock {
            landlock()?;
        }
        if !self.filter.is_empty() {
            let program = Program {
                length: (self.filter.len() / 8) as u16,
                filter: self.filter.as_ptr(),
            };
            sys!(nr::SECCOMP, 1, 0, &raw const program)?;
        }
        Ok(())
    }

    fn drop_capabilities(&self) -> io::Result<()> {
        const PR_CAPBSET_DROP: usize = 24;
        const LAST: u64 = 40;
        for capability in (0..=LAST).filter(|capability| self.keep >> capability & 1 == 0) {
            // A capability that this kernel does not have is refused, and is not there to drop.
            let _ = sys!(nr::PRCTL, PR_CAPBSET_DROP, capability, 0, 0, 0);
        }
        let header = [0x2008_0522u32, 0];
        let (low, high) = (self.keep as u32, (self.keep >> 32) as u32);
        let data = [low, low, 0, high, high, 0];
        sys!(nr::CAPSET, header.as_ptr(), data.as_ptr()).map(drop)
    }
}

/// `struct sock_fprog`.
#[repr(C)]
struct Program {
    length: u16,
    filter: *const u8,
}

/// Reading and running everywhere; writing everywhere but in the kernel's own file systems.
fn landlock() -> io::Result<()> {
    const READ: u64 = 1 | 1 << 2 | 1 << 3; // execute, read files, read folders
    const WRITE: u64 = 1 << 1 | 0x3ff0; // write, and all that makes, removes and moves
    const TRUNCATE: u64 = 1 << 14;
    const DEVICE_IOCTL: u64 = 1 << 15;
    const SCOPE_SIGNALS_AND_SOCKETS: u64 = 3;
    let version = sys!(nr::LANDLOCK_CREATE_RULESET, 0, 0, 1)?;
    let mut handled = READ | WRITE;
    if version >= 3 {
        handled |= TRUNCATE;
    }
    if version >= 5 {
        handled |= DEVICE_IOCTL;
    }
    let scoped = if version >= 6 {
        SCOPE_SIGNALS_AND_SOCKETS
    } else {
        0
    };
    let attributes = [handled, 0, scoped];
    let size = match version {
        ..4 => 8,
        4 | 5 => 16,
        _ => 24,
    };
    let rules = sys!(nr::LANDLOCK_CREATE_RULESET, attributes.as_ptr(), size, 0)? as i32;
    // Nothing may be made in the root itself: what is made there would be outside every rule.
    allow(rules, "/", READ)?;
    for entry in fs::read_dir("/")?.flatten() {
        let kernel = ["proc", "sys", "dev"]
            .iter()
            .any(|name| entry.file_name() == *name);
        if !kernel && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            allow(rules, &entry.path().to_string_lossy(), handled)?;
        }
    }
    let devices = 1 << 1 | handled & (TRUNCATE | DEVICE_IOCTL);
    allow(rules, "/dev", devices)?;
    allow(rules, "/dev/shm", handled)?;
    // A process may name its own threads; all else in there belongs to the kernel.
    sys!(nr::LANDLOCK_RESTRICT_SELF, rules, 0)?;
    sys::close(rules);
    Ok(())
}

fn allow(rules: i32, path: &str, access: u64) -> io::Result<()> {
    let name = CString::new(path)?;
    let fd = sys::open(&name, sys::O_PATH | sys::O_CLOEXEC, 0)?;
    // `struct landlock_path_beneath_attr` is packed: eight bytes of access, four of descriptor.
    let mut attributes = [0u8; 12];
    attributes[..8].copy_from_slice(&access.to_le_bytes());
    attributes[8..].copy_from_slice(&fd.to_le_bytes());
    let added = sys!(nr::LANDLOCK_ADD_RULE, rules, 1, attributes.as_ptr(), 0);
    sys::close(fd);
    added.map(drop)
}
