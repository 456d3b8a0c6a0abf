//! The calls of the kernel that the standard library has no words for, each behind a safe function. Those by
//! which worlds are processes are `process`'s own.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use libc::{c_int, c_long, c_ulong, c_void};

/// What a call of the kernel answers, or its error.
pub(crate) fn check(answer: c_long) -> io::Result<c_long> {
    if answer < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(answer)
    }
}

/// A path as the kernel takes it.
pub(crate) fn path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::Error::other("a zero byte in a path"))
}

/// An anonymous file with these bytes, which can be executed.
pub(crate) fn program(name: &CStr, bytes: &[u8]) -> io::Result<OwnedFd> {
    // SAFETY: a valid name; the descriptor is new and ours.
    let fd = unsafe {
        OwnedFd::from_raw_fd(
            check(libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC).into())? as RawFd,
        )
    };
    let mut file = File::from(fd);
    io::Write::write_all(&mut file, bytes)?;
    Ok(file.into())
}

/// Has a program that is to be started find these descriptors from number 3 on.
pub(crate) fn give(command: &mut Command, descriptors: Vec<OwnedFd>) {
    const FIRST: RawFd = 3;
    const ABOVE: RawFd = 64;
    const MOST: usize = 16;
    let give = move || {
        // Out of the way first: a number may be both a source and a target.
        let mut high = [-1; MOST];
        for (place, fd) in high.iter_mut().zip(&descriptors) {
            // SAFETY: an open descriptor and plain numbers, as in the call below; this runs in a copy of one
            // thread of possibly many, and makes system calls only.
            *place =
                check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, ABOVE) }.into())?
                    as RawFd;
        }
        for (at, fd) in high.into_iter().take_while(|fd| *fd >= 0).enumerate() {
            // SAFETY: see above.
            check(unsafe { libc::dup2(fd, FIRST + at as RawFd) }.into())?;
        }
        Ok(())
    };
    // SAFETY: what runs before the program is the closure above.
    unsafe { command.pre_exec(give) };
}

/// Moves this thread, and what it starts, to a network with nothing in it. It lives as long as they do, or
/// something names it.
pub(crate) fn leave_network() -> io::Result<()> {
    // SAFETY: a system call with a plain number; of this thread alone.
    check(unsafe { libc::unshare(libc::CLONE_NEWNET) }.into()).map(drop)
}

/// Has a program that is to be started end when the thread that starts it does.
pub(crate) fn end_with_this_thread(command: &mut Command) {
    let ask = || {
        // SAFETY: a system call with plain numbers, in a copy of one thread.
        check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) }.into()).map(drop)
    };
    // SAFETY: what runs before the program is the closure above.
    unsafe { command.pre_exec(ask) };
}

/// Gives this thread, and what it starts, a device that belongs to a user, in the place of one that the
/// administrator alone may open: who else may open that one stays as it is. A file system of its own lies at
/// `place` while it is made, and nobody else sees either.
pub(crate) fn own_device(device: &Path, owner: u32, place: &Path) -> io::Result<()> {
    let number = std::os::unix::fs::MetadataExt::rdev(&std::fs::metadata(device)?);
    // SAFETY: a system call with a plain number; of this thread alone.
    check(unsafe { libc::unshare(libc::CLONE_NEWNS) }.into())?;
    mount(
        Path::new("/"),
        Path::new("/"),
        None,
        libc::MS_SLAVE | libc::MS_REC,
    )?;
    let flags = libc::MS_NOSUID | libc::MS_NOEXEC;
    mount(Path::new("own"), place, Some(c"tmpfs"), flags)?;
    let own = place.join("device");
    make_node(&own, libc::S_IFCHR | 0o600, number)?;
    std::os::unix::fs::chown(&own, Some(owner), Some(owner))?;
    bind(&own, device)?;
    unbind(place)
}

/// Mounts something, with nothing more to say about it.
fn mount(what: &Path, at: &Path, kind: Option<&CStr>, flags: libc::c_ulong) -> io::Result<()> {
    let (what, at) = (path(what)?, path(at)?);
    let kind = kind.map_or(std::ptr::null(), CStr::as_ptr);
    // SAFETY: a system call with strings that outlive it.
    check(unsafe { libc::mount(what.as_ptr(), at.as_ptr(), kind, flags, std::ptr::null()) }.into())
        .map(drop)
}

/// Binds one file onto another.
pub(crate) fn bind(from: &Path, onto: &Path) -> io::Result<()> {
    mount(from, onto, None, libc::MS_BIND)
}

/// Takes a mount away, as soon as nobody uses it.
pub(crate) fn unbind(at: &Path) -> io::Result<()> {
    let at = path(at)?;
    // SAFETY: a system call with a string that outlives it.
    check(unsafe { libc::umount2(at.as_ptr(), libc::MNT_DETACH) }.into()).map(drop)
}

/// Makes a tap device that stays, in this thread's network, for a user to open.
pub(crate) fn make_tap(name: &str, owner: u32) -> io::Result<()> {
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
    check(unsafe { libc::ioctl(fd, SET_INTERFACE, &raw mut request) }.into())?;
    // SAFETY: an open device and plain numbers.
    check(unsafe { libc::ioctl(fd, SET_OWNER, c_ulong::from(owner)) }.into())?;
    // SAFETY: as above.
    check(unsafe { libc::ioctl(fd, SET_PERSISTENT, 1 as c_ulong) }.into()).map(drop)
}

/// Has a program that is to be started use no huge pages: of each it might need a small part alone.
pub(crate) fn without_huge_pages(command: &mut Command) {
    let refuse = || {
        // SAFETY: a system call with plain numbers, in a copy of one thread.
        check(unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) }.into()).map(drop)
    };
    // SAFETY: what runs before the program is the closure above.
    unsafe { command.pre_exec(refuse) };
}

/// Sends all bytes, and the descriptors with the first of them.
pub(crate) fn send(
    socket: &UnixStream,
    bytes: &[u8],
    descriptors: &[BorrowedFd],
) -> io::Result<()> {
    let fds: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let length = size_of_val(&fds[..]) as u32;
    // SAFETY: a computation.
    let mut control = vec![0u64; unsafe { libc::CMSG_SPACE(length) as usize }.div_ceil(8)];
    let mut part = libc::iovec {
        iov_base: bytes.as_ptr() as *mut c_void,
        iov_len: bytes.len(),
    };
    // SAFETY: zeros are a valid message; all its pointers outlive the call; the control buffer has
    // the space that its macros ask for.
    let sent = unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        if !fds.is_empty() {
            message.msg_control = control.as_mut_ptr().cast();
            message.msg_controllen = libc::CMSG_SPACE(length) as usize;
            let first = libc::CMSG_FIRSTHDR(&raw const message);
            (*first).cmsg_level = libc::SOL_SOCKET;
            (*first).cmsg_type = libc::SCM_RIGHTS;
            (*first).cmsg_len = libc::CMSG_LEN(length) as usize;
            std::ptr::copy_nonoverlapping(fds.as_ptr(), libc::CMSG_DATA(first).cast(), fds.len());
        }
        check(libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) as c_long)?
    };
    io::Write::write_all(&mut &*socket, &bytes[sent as usize..])
}

/// Reads what is there, and at most one descriptor that came with it.
pub(crate) fn receive(
    socket: &UnixStream,
    buffer: &mut [u8],
) -> io::Result<(usize, Option<OwnedFd>)> {
    let mut control = [0u64; 4];
    let mut part = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    // SAFETY: as in `send`; a descriptor that arrives is new and ours.
    unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control);
        let count = check(libc::recvmsg(
            socket.as_raw_fd(),
            &raw mut message,
            libc::MSG_CMSG_CLOEXEC,
        ) as c_long)?;
        let first = libc::CMSG_FIRSTHDR(&raw const message);
        let carried = !first.is_null() && (*first).cmsg_type == libc::SCM_RIGHTS;
        let fd = carried
            .then(|| OwnedFd::from_raw_fd(libc::CMSG_DATA(first).cast::<RawFd>().read_unaligned()));
        Ok((count as usize, fd))
    }
}

/// Makes a copy-on-write copy of a file's contents, where the file system can.
pub(crate) fn reflink(from: &File, to: &File) -> io::Result<()> {
    // SAFETY: two open files.
    check(unsafe { libc::ioctl(to.as_raw_fd(), libc::FICLONE, from.as_raw_fd()) }.into()).map(drop)
}

/// The next part of a file that is not a hole, from `at` on.
pub(crate) fn next_data(of: &File, at: u64) -> io::Result<Option<(u64, u64)>> {
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

/// Makes a special file.
pub(crate) fn make_node(at: &Path, mode: u32, device: u64) -> io::Result<()> {
    let at = path(at)?;
    // SAFETY: a valid path.
    check(unsafe { libc::mknod(at.as_ptr(), mode, device) }.into()).map(drop)
}

/// Reads another process's memory; gives how much could be read.
pub(crate) fn read_memory(pid: i32, address: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let local = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    let remote = libc::iovec {
        iov_base: address as *mut c_void,
        iov_len: buffer.len(),
    };
    // SAFETY: the local part is a buffer of ours; the remote one is checked by the kernel.
    check(
        unsafe { libc::process_vm_readv(pid, &raw const local, 1, &raw const remote, 1, 0) }
            as c_long,
    )
    .map(|count| count as usize)
}

/// Has whoever waits for connections hear that none will come.
pub(crate) fn stop_listening(listener: &std::net::TcpListener) {
    // SAFETY: an open socket; a refusal changes nothing.
    unsafe { libc::shutdown(listener.as_raw_fd(), libc::SHUT_RDWR) };
}

/// Lets every other thread go before this one.
pub(crate) fn be_modest() {
    const NICE: c_int = 10;
    // SAFETY: plain numbers; the thread that asks is meant. Without it, all is only slower.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
}

/// Whether this process is the machine's administrator.
pub(crate) fn is_root() -> bool {
    // SAFETY: it cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// This process's user and group.
pub(crate) fn identity() -> (u32, u32) {
    // SAFETY: they cannot fail.
    unsafe { (libc::geteuid(), libc::getegid()) }
}

/// The kernel's release.
pub(crate) fn kernel_release() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease")
        .unwrap_or_default()
        .trim()
        .to_owned()
}

/// Ends a process at once.
pub(crate) fn kill(pid: i32) {
    // SAFETY: plain numbers.
    unsafe { libc::kill(pid, libc::SIGKILL) };
}

/// A new file that only its owner may read: it will hold a world's memory.
pub(crate) fn private_file(at: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(at)
}

/// Ends this program as `kill -9` would.
pub(crate) fn end_at_once() {
    kill(std::process::id() as i32);
    loop {
        std::thread::park();
    }
}
