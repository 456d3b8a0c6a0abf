//! System calls, made directly. The loader runs where no C library can: its own stack, heap and
//! thread-local storage are already gone.

use std::ffi::CStr;
use std::io;

/// Makes a system call. A negative answer is `-errno`.
///
/// Unsafe as any system call is: the kernel writes where it is told to.
#[inline(always)]
pub fn call(number: usize, a: [usize; 6]) -> isize {
    let answer: isize;
    // SAFETY: the kernel's calling convention for x86-64. What the call does to this process's
    // memory is what its caller asked for by its arguments.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") number as isize => answer,
            in("rdi") a[0], in("rsi") a[1], in("rdx") a[2], in("r10") a[3], in("r8") a[4], in("r9") a[5],
            lateout("rcx") _, lateout("r11") _,
            options(nostack)
        );
    }
    answer
}

/// `call` with fewer arguments, and an error where there is one.
macro_rules! sys {
    ($number:expr $(, $argument:expr)*) => {{
        let given = [$($argument as usize),*];
        let mut all = [0usize; 6];
        all[..given.len()].copy_from_slice(&given);
        $crate::sys::check($crate::sys::call($number, all))
    }};
}
pub(crate) use sys;

/// An answer as a result.
pub fn check(answer: isize) -> io::Result<usize> {
    if answer < 0 {
        Err(io::Error::from_raw_os_error(-answer as i32))
    } else {
        Ok(answer as usize)
    }
}

pub mod nr {
    pub const READ: usize = 0;
    pub const WRITE: usize = 1;
    pub const OPEN: usize = 2;
    pub const CLOSE: usize = 3;
    pub const POLL: usize = 7;
    pub const LSEEK: usize = 8;
    pub const MMAP: usize = 9;
    pub const MUNMAP: usize = 11;
    pub const RT_SIGACTION: usize = 13;
    pub const RT_SIGPROCMASK: usize = 14;
    pub const IOCTL: usize = 16;
    pub const PREAD64: usize = 17;
    pub const MREMAP: usize = 25;
    pub const DUP2: usize = 33;
    pub const SETITIMER: usize = 38;
    pub const SOCKET: usize = 41;
    pub const CONNECT: usize = 42;
    pub const SENDMSG: usize = 46;
    pub const RECVMSG: usize = 47;
    pub const SHUTDOWN: usize = 48;
    pub const BIND: usize = 49;
    pub const LISTEN: usize = 50;
    pub const SOCKETPAIR: usize = 53;
    pub const SETSOCKOPT: usize = 54;
    pub const EXECVE: usize = 59;
    pub const EXIT: usize = 60;
    pub const WAIT4: usize = 61;
    pub const KILL: usize = 62;
    pub const FCNTL: usize = 72;
    pub const CHDIR: usize = 80;
    pub const UMASK: usize = 95;
    pub const SETSID: usize = 112;
    pub const CAPSET: usize = 126;
    pub const FSTATFS: usize = 138;
    pub const PIVOT_ROOT: usize = 155;
    pub const PRCTL: usize = 157;
    pub const ARCH_PRCTL: usize = 158;
    pub const SETRLIMIT: usize = 160;
    pub const CHROOT: usize = 161;
    pub const MOUNT: usize = 165;
    pub const UMOUNT2: usize = 166;
    pub const SETHOSTNAME: usize = 170;
    pub const SET_TID_ADDRESS: usize = 218;
    pub const CLOCK_SETTIME: usize = 227;
    pub const EPOLL_CTL: usize = 233;
    pub const SET_ROBUST_LIST: usize = 273;
    pub const ACCEPT4: usize = 288;
    pub const SIGNALFD4: usize = 289;
    pub const EVENTFD2: usize = 290;
    pub const EPOLL_CREATE1: usize = 291;
    pub const PIPE2: usize = 293;
    pub const FINIT_MODULE: usize = 313;
    pub const SECCOMP: usize = 317;
    pub const CLONE3: usize = 435;
    pub const CLOSE_RANGE: usize = 436;
    pub const LANDLOCK_CREATE_RULESET: usize = 444;
    pub const LANDLOCK_ADD_RULE: usize = 445;
    pub const LANDLOCK_RESTRICT_SELF: usize = 446;
}

pub const O_RDWR: usize = 2;
pub const O_NONBLOCK: usize = 0o4000;
pub const O_CLOEXEC: usize = 0o2000000;
pub const O_PATH: usize = 0o10000000;

/// Mounts; an empty text stands for "none".
pub fn mount(
    source: &CStr,
    target: &CStr,
    kind: &CStr,
    flags: usize,
    data: &CStr,
) -> io::Result<()> {
    sys!(
        nr::MOUNT,
        source.as_ptr(),
        target.as_ptr(),
        kind.as_ptr(),
        flags,
        data.as_ptr()
    )
    .map(drop)
}

/// Opens a file.
pub fn open(path: &CStr, flags: usize, mode: usize) -> io::Result<i32> {
    sys!(nr::OPEN, path.as_ptr(), flags, mode).map(|fd| fd as i32)
}

/// Closes a descriptor.
pub fn close(fd: i32) {
    let _ = sys!(nr::CLOSE, fd);
}

/// A pipe's reading and writing end, both closed on exec.
pub fn pipe(flags: usize) -> io::Result<[i32; 2]> {
    let mut ends = [0i32; 2];
    sys!(nr::PIPE2, ends.as_mut_ptr(), flags | O_CLOEXEC)?;
    Ok(ends)
}

/// A pair of connected stream sockets, both closed on exec.
pub fn socketpair() -> io::Result<[i32; 2]> {
    let mut ends = [0i32; 2];
    sys!(nr::SOCKETPAIR, 1, 1 | O_CLOEXEC, 0, ends.as_mut_ptr())?;
    Ok(ends)
}

/// Reads what is there.
pub fn read(fd: i32, buffer: &mut [u8]) -> io::Result<usize> {
    sys!(nr::READ, fd, buffer.as_mut_ptr(), buffer.len())
}

/// Writes everything.
pub fn write_all(fd: i32, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match sys!(nr::WRITE, fd, bytes.as_ptr(), bytes.len()) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Makes a descriptor blocking or not.
pub fn set_nonblocking(fd: i32) -> io::Result<()> {
    let flags = sys!(nr::FCNTL, fd, 3, 0)?;
    sys!(nr::FCNTL, fd, 4, flags | O_NONBLOCK).map(drop)
}

/// The descriptor, moved to the lowest free number from `least` on, closed on exec.
pub fn move_up(fd: i32, least: i32) -> io::Result<i32> {
    let moved = sys!(nr::FCNTL, fd, 1030, least)? as i32;
    close(fd);
    Ok(moved)
}

/// Like `fork`; with a chosen process number if `pid` is not 0.
///
/// The child is a copy of a process with one thread, so all of Rust may be used in it.
pub fn fork(pid: i32) -> io::Result<i32> {
    const SIGCHLD: u64 = 17;
    let set = [pid];
    let mut arguments = [0u64; 11];
    arguments[4] = SIGCHLD;
    if pid != 0 {
        arguments[8] = set.as_ptr() as u64;
        arguments[9] = 1;
    }
    sys!(nr::CLONE3, arguments.as_ptr(), size_of_val(&arguments)).map(|pid| pid as i32)
}
