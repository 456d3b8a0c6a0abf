//! The calls of the kernel that the standard library has no words for. All that is not checked by the
//! compiler in this backend is here.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use libc::{c_int, c_ulong, c_void};

fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// The next part of a file that is not a hole, from `at` on.
pub(super) fn next_data(of: &File, at: u64) -> io::Result<Option<(u64, u64)>> {
    let seek = |at: u64, whence: c_int| -> io::Result<Option<u64>> {
        // SAFETY: an open file and plain numbers.
        let found = unsafe { libc::lseek(of.as_raw_fd(), at as libc::off_t, whence) };
        if found >= 0 {
            return Ok(Some(found as u64));
        }
        match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::ENXIO) => Ok(None),
            error => Err(error),
        }
    };
    let Some(start) = seek(at, libc::SEEK_DATA)? else {
        return Ok(None);
    };
    Ok(seek(start, libc::SEEK_HOLE)?.map(|end| (start, end)))
}

/// Makes a copy-on-write copy of a file's contents, where the file system can.
pub(super) fn reflink(from: &File, to: &File) -> io::Result<()> {
    // SAFETY: two open files.
    check(unsafe { libc::ioctl(to.as_raw_fd(), libc::FICLONE, from.as_raw_fd()) }).map(drop)
}

/// Binds one file onto another.
pub(super) fn bind(from: &Path, onto: &Path) -> io::Result<()> {
    let (from, onto) = (text(from)?, text(onto)?);
    let nothing = std::ptr::null::<c_void>();
    // SAFETY: two valid strings; the kernel ignores the others.
    check(unsafe {
        libc::mount(
            from.as_ptr(),
            onto.as_ptr(),
            std::ptr::null(),
            libc::MS_BIND,
            nothing,
        )
    })
    .map(drop)
}

/// Takes a mount away, as soon as nobody uses it.
pub(super) fn unbind(at: &Path) -> io::Result<()> {
    let at = text(at)?;
    // SAFETY: a valid string.
    check(unsafe { libc::umount2(at.as_ptr(), libc::MNT_DETACH) }).map(drop)
}

/// Makes a tap device that stays, in this thread's network, for a user to open.
pub(super) fn make_tap(name: &str, owner: u32) -> io::Result<()> {
    const SET_INTERFACE: c_ulong = 0x4004_54ca;
    const SET_PERSISTENT: c_ulong = 0x4004_54cb;
    const SET_OWNER: c_ulong = 0x4004_54cc;
    const FLAGS: u16 = (libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as u16;
    /// The kernel's `struct ifreq`, as far as it is read here.
    #[repr(C)]
    struct Request {
        name: [u8; libc::IFNAMSIZ],
        flags: u16,
        _rest: [u8; 22],
    }
    let mut request = Request {
        name: [0; libc::IFNAMSIZ],
        flags: FLAGS,
        _rest: [0; 22],
    };
    let bytes = name.as_bytes();
    if bytes.len() >= request.name.len() {
        return Err(io::Error::other("a name longer than the kernel takes"));
    }
    request.name[..bytes.len()].copy_from_slice(bytes);
    let device = File::options()
        .read(true)
        .write(true)
        .open("/dev/net/tun")?;
    let fd = device.as_raw_fd();
    // SAFETY: an open device, and a structure of the kernel's own size that lives through the call.
    check(unsafe { libc::ioctl(fd, SET_INTERFACE, &raw mut request) })?;
    // SAFETY: an open device and plain numbers.
    check(unsafe { libc::ioctl(fd, SET_OWNER, c_ulong::from(owner)) })?;
    // SAFETY: as above.
    check(unsafe { libc::ioctl(fd, SET_PERSISTENT, 1 as c_ulong) }).map(drop)
}

fn text(path: &Path) -> io::Result<std::ffi::CString> {
    Ok(std::ffi::CString::new(path.as_os_str().as_encoded_bytes())?)
}
