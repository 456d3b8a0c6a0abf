//! The calls of the kernel by which worlds are processes: namespaces, a process that is looked into, its pages,
//! its descriptors. Each is behind a safe function.
#![allow(unsafe_code)]

use std::cell::RefCell;
use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use libc::{c_int, c_long};

use crate::host::{check, kill, path};

/// Every namespace that a world has for itself.
pub(super) const NAMESPACES: u64 = (libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP) as u64;

/// A process that this one started, held so that its number cannot be taken by another.
#[derive(Debug)]
pub(super) struct Child {
    /// Its number.
    pub(super) pid: i32,
    handle: OwnedFd,
}

impl Child {
    /// Ends it, and everything in its process namespace if it is the first there; waits for that.
    pub(super) fn end(&self) -> io::Result<()> {
        self.signal(libc::SIGKILL)?;
        // SAFETY: plain numbers; a null status is allowed.
        check(unsafe { libc::waitpid(self.pid, std::ptr::null_mut(), libc::__WALL) }.into())
            .map(drop)
    }

    /// Sends it a signal.
    pub(super) fn signal(&self, signal: c_int) -> io::Result<()> {
        // SAFETY: an open handle, plain numbers, no further information.
        check(unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.handle.as_raw_fd(),
                signal,
                0,
                0,
            )
        })
        .map(drop)
    }
}

/// Starts `program` in new namespaces (of `flags`) and, where given, in a cgroup of version 2. `control`
/// becomes its descriptor 3, `folders` 4 and 5; it has no other, and no argument. It waits there for one byte,
/// then becomes the first user of its namespace.
pub(super) fn start(
    program: BorrowedFd,
    flags: u64,
    cgroup: Option<BorrowedFd>,
    control: UnixStream,
    folders: [&Path; 2],
) -> io::Result<Child> {
    let folders = [path(folders[0])?, path(folders[1])?];
    let mut handle: c_int = -1;
    // SAFETY: all zeros are valid arguments.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = flags | libc::CLONE_PIDFD as u64;
    arguments.pidfd = &raw mut handle as u64;
    arguments.exit_signal = libc::SIGCHLD as u64;
    if let Some(cgroup) = cgroup {
        const INTO_CGROUP: u64 = 1 << 33;
        arguments.flags |= INTO_CGROUP;
        arguments.cgroup = cgroup.as_raw_fd() as u64;
    }
    let arguments_of_it = [c"".as_ptr(), std::ptr::null()];
    // An area that the C library registers with the kernel would not be there any more when the agent
    // has become another process.
    let environment_of_it = [
        c"GLIBC_TUNABLES=glibc.pthread.rseq=0".as_ptr(),
        std::ptr::null(),
    ];
    let null = c"/dev/null".as_ptr();
    let (program, control) = (program.as_raw_fd(), control.as_raw_fd());
    // SAFETY: without CLONE_VM this is a fork. The child, a copy of one thread of possibly many, makes
    // system calls only: no allocation, no lock, no return.
    let pid = unsafe {
        let pid = libc::syscall(
            libc::SYS_clone3,
            &raw mut arguments,
            size_of::<libc::clone_args>(),
        );
        if pid == 0 {
            // Above the numbers that are given away below.
            let program = libc::syscall(libc::SYS_fcntl, program, libc::F_DUPFD_CLOEXEC, 10);
            let control = libc::syscall(libc::SYS_fcntl, control, libc::F_DUPFD_CLOEXEC, 10);
            libc::syscall(libc::SYS_dup2, control, 3);
            let zero = libc::syscall(libc::SYS_open, null, libc::O_RDWR | libc::O_CLOEXEC);
            for fd in 0..3 {
                libc::syscall(libc::SYS_dup2, zero, fd);
            }
            libc::syscall(libc::SYS_setsid);
            // Opened here and now: in the mount namespace where they are needed, by one who may.
            for (fd, folder) in [(4, folders[0].as_ptr()), (5, folders[1].as_ptr())] {
                let opened = libc::syscall(
                    libc::SYS_open,
                    folder,
                    libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC,
                );
                libc::syscall(libc::SYS_dup2, opened, fd);
            }
            // The parent maps users meanwhile; only the first of those has rights in the namespaces.
            let mut go = 0u8;
            libc::syscall(libc::SYS_read, 3, &raw mut go, 1);
            libc::syscall(libc::SYS_setgroups, 0, 0);
            libc::syscall(libc::SYS_setresgid, 0, 0, 0);
            libc::syscall(libc::SYS_setresuid, 0, 0, 0);
            libc::syscall(
                libc::SYS_execveat,
                program,
                c"".as_ptr(),
                arguments_of_it.as_ptr(),
                environment_of_it.as_ptr(),
                libc::AT_EMPTY_PATH,
            );
            libc::syscall(libc::SYS_exit_group, 127);
        }
        pid
    };
    let pid = check(pid)?;
    // SAFETY: the kernel made this descriptor for us.
    Ok(Child {
        pid: pid as i32,
        handle: unsafe { OwnedFd::from_raw_fd(handle) },
    })
}

/// An extended attribute of a file or link itself; `None` if it has none.
pub(super) fn attribute(of: &Path, name: &CStr) -> Option<Vec<u8>> {
    let of = path(of).ok()?;
    let mut value = vec![0u8; 4096];
    // SAFETY: valid names, and a buffer of the given length.
    let length = unsafe {
        libc::lgetxattr(
            of.as_ptr(),
            name.as_ptr(),
            value.as_mut_ptr().cast(),
            value.len(),
        )
    };
    value.truncate(usize::try_from(length).ok()?);
    Some(value)
}

/// Sets an extended attribute.
pub(super) fn set_attribute(of: &Path, name: &CStr, value: &[u8]) -> io::Result<()> {
    let of = path(of)?;
    // SAFETY: valid names, and a value of the given length.
    check(
        unsafe {
            libc::lsetxattr(
                of.as_ptr(),
                name.as_ptr(),
                value.as_ptr().cast(),
                value.len(),
                0,
            )
        }
        .into(),
    )
    .map(drop)
}

/// Sets a file's times of access and change: seconds and nanoseconds each.
pub(super) fn set_times(of: &Path, times: [(i64, i64); 2]) -> io::Result<()> {
    let of = path(of)?;
    let times = times.map(|(tv_sec, tv_nsec)| libc::timespec { tv_sec, tv_nsec });
    // SAFETY: a valid path and two times.
    check(
        unsafe {
            libc::utimensat(
                libc::AT_FDCWD,
                of.as_ptr(),
                times.as_ptr(),
                libc::AT_SYMLINK_NOFOLLOW,
            )
        }
        .into(),
    )
    .map(drop)
}

/// Whether two descriptors of a process are one open file.
pub(super) fn same_file(pid: i32, one: i32, other: i32) -> bool {
    const KCMP_FILE: c_int = 0;
    // SAFETY: plain numbers.
    unsafe { libc::syscall(libc::SYS_kcmp, pid, pid, KCMP_FILE, one, other) == 0 }
}

/// A copy of another process's descriptor.
pub(super) fn descriptor_of(pid: i32, number: i32) -> io::Result<OwnedFd> {
    // SAFETY: plain numbers; both descriptors are new and ours.
    unsafe {
        let handle =
            OwnedFd::from_raw_fd(check(libc::syscall(libc::SYS_pidfd_open, pid, 0))? as RawFd);
        let fd = check(libc::syscall(
            libc::SYS_pidfd_getfd,
            handle.as_raw_fd(),
            number,
            0,
        ))?;
        Ok(OwnedFd::from_raw_fd(fd as RawFd))
    }
}

/// A number that a socket option holds.
pub(super) fn socket_option(socket: &OwnedFd, option: c_int) -> io::Result<c_int> {
    let (mut value, mut length): (c_int, u32) = (0, 4);
    // SAFETY: a place for an integer, and its length.
    check(
        unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                option,
                (&raw mut value).cast(),
                &raw mut length,
            )
        }
        .into(),
    )?;
    Ok(value)
}

/// The address that a socket is bound to, as the kernel writes it.
pub(super) fn socket_address(socket: &OwnedFd) -> io::Result<Vec<u8>> {
    let mut address = vec![0u8; 128];
    let mut length = address.len() as u32;
    // SAFETY: a buffer and its length.
    check(
        unsafe {
            libc::getsockname(
                socket.as_raw_fd(),
                address.as_mut_ptr().cast(),
                &raw mut length,
            )
        }
        .into(),
    )?;
    address.truncate(length as usize);
    Ok(address)
}

/// Bytes that wait in a pipe or socket.
pub(super) fn waiting(fd: &OwnedFd) -> io::Result<usize> {
    let mut count: c_int = 0;
    // SAFETY: a place for an integer.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::FIONREAD, &raw mut count) }.into())?;
    Ok(count as usize)
}

/// A range of pages that `pagemap` reports.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct PageRange {
    /// First address.
    pub(super) start: u64,
    /// First address after it.
    pub(super) end: u64,
    categories: u64,
}

impl PageRange {
    /// A range that nothing reported.
    pub(super) fn new(start: u64, end: u64) -> Self {
        Self {
            start,
            end,
            categories: 0,
        }
    }
}

/// Room for what one look at a process's pages finds; it is used again and again.
pub(super) fn page_ranges() -> Vec<PageRange> {
    vec![PageRange::default(); 4096]
}

/// Pages between two addresses that hold something of the process's own: written, not merely mapped
/// from a file. Without a file behind them all are its own; the kernel is then not asked whose they are,
/// for which it would look at each page's entry, far apart in memory.
pub(super) fn written_pages(
    pagemap: &File,
    [start, end]: [u64; 2],
    has_file: bool,
    batch: &mut [PageRange],
    ranges: &mut Vec<PageRange>,
) -> io::Result<()> {
    const FILE: u64 = 4;
    const PRESENT: u64 = 8;
    const SWAPPED: u64 = 16;
    const PFNZERO: u64 = 32;
    let mut at = start;
    while at < end {
        let must = if has_file { FILE | PFNZERO } else { PFNZERO };
        let mut arguments = [
            96,
            0,
            at,
            end,
            0,
            batch.as_mut_ptr() as u64,
            batch.len() as u64,
            0,
            must,
            must,
            PRESENT | SWAPPED,
            PRESENT,
        ];
        const PAGEMAP_SCAN: u64 = 0xc060_6610;
        // SAFETY: `struct pm_scan_arg`, with a vector of the given length.
        let count = check(
            unsafe {
                libc::ioctl(
                    pagemap.as_raw_fd(),
                    PAGEMAP_SCAN as _,
                    arguments.as_mut_ptr(),
                )
            }
            .into(),
        )?;
        ranges.extend(&batch[..count as usize]);
        at = arguments[4];
    }
    Ok(())
}

/// A process that this thread has stopped and may look into. It goes on when this is dropped.
pub(super) struct Stopped {
    pid: i32,
    /// Signals that came meanwhile; they are sent again when it goes on.
    held: RefCell<Vec<c_int>>,
}

/// `struct user_regs_struct`, as 27 numbers: r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx,
/// rdx, rsi, rdi, orig_rax, rip, cs, flags, rsp, ss, and the bases and selectors of segments.
pub(super) type Registers = [u64; 27];

/// Places in [`Registers`].
pub(super) mod register {
    pub(in super::super) const RAX: usize = 10;
    pub(in super::super) const ORIG_RAX: usize = 15;
    pub(in super::super) const RIP: usize = 16;
    pub(in super::super) const RSP: usize = 19;
}

impl Stopped {
    /// Stops a process, wherever it is.
    pub(super) fn stop(pid: i32) -> io::Result<Self> {
        ptrace(
            libc::PTRACE_SEIZE,
            pid,
            0,
            (libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_TRACEFORK) as usize,
        )?;
        let stopped = Self {
            pid,
            held: RefCell::default(),
        };
        ptrace(libc::PTRACE_INTERRUPT, pid, 0, 0)?;
        stopped.wait()?;
        stopped.restart_interrupted_call()?;
        Ok(stopped)
    }

    /// Waits until it stops for us, and says for which event; a signal on its way is held back.
    fn wait(&self) -> io::Result<c_int> {
        loop {
            let mut status = 0;
            // SAFETY: a place for the status.
            check(unsafe { libc::waitpid(self.pid, &raw mut status, libc::__WALL) }.into())?;
            if !libc::WIFSTOPPED(status) {
                return Err(io::Error::other("the process ended"));
            }
            let signal = libc::WSTOPSIG(status);
            let ours = signal & 0x7f == libc::SIGTRAP || status >> 16 == libc::PTRACE_EVENT_STOP;
            if ours {
                return Ok(status >> 16);
            }
            self.held.borrow_mut().push(signal);
            ptrace(libc::PTRACE_SYSCALL, self.pid, 0, 0)?;
        }
    }

    /// A call that was interrupted by the stop is made again from its beginning, or reports that it was
    /// interrupted where its rest cannot be known; the kernel would do so itself, had we not looked.
    fn restart_interrupted_call(&self) -> io::Result<()> {
        const AGAIN: [i64; 3] = [-512, -513, -514];
        const REST: i64 = -516;
        const SYSCALL_LENGTH: u64 = 2;
        let mut registers = self.registers()?;
        if registers[register::ORIG_RAX] as i64 >= 0 {
            let answer = registers[register::RAX] as i64;
            if AGAIN.contains(&answer) {
                registers[register::RAX] = registers[register::ORIG_RAX];
                registers[register::RIP] -= SYSCALL_LENGTH;
            } else if answer == REST {
                registers[register::RAX] = -i64::from(libc::EINTR) as u64;
            }
            registers[register::ORIG_RAX] = u64::MAX;
            self.set_registers(&registers)?;
        }
        Ok(())
    }

    pub(super) fn registers(&self) -> io::Result<Registers> {
        let mut registers = [0; 27];
        ptrace(
            libc::PTRACE_GETREGS,
            self.pid,
            0,
            registers.as_mut_ptr() as usize,
        )?;
        Ok(registers)
    }

    fn set_registers(&self, registers: &Registers) -> io::Result<()> {
        ptrace(
            libc::PTRACE_SETREGS,
            self.pid,
            0,
            registers.as_ptr() as usize,
        )
    }

    /// Floating-point and vector registers, as the processor saves them.
    pub(super) fn extended(&self) -> io::Result<Vec<u8>> {
        const NT_X86_XSTATE: usize = 0x202;
        let mut state = vec![0u8; 16 << 10];
        let mut part = libc::iovec {
            iov_base: state.as_mut_ptr().cast(),
            iov_len: state.len(),
        };
        ptrace(
            libc::PTRACE_GETREGSET,
            self.pid,
            NT_X86_XSTATE,
            &raw mut part as usize,
        )?;
        state.truncate(part.iov_len);
        Ok(state)
    }

    pub(super) fn signal_mask(&self) -> io::Result<u64> {
        const PTRACE_GETSIGMASK: u32 = 0x420a;
        let mut mask = 0u64;
        ptrace(PTRACE_GETSIGMASK, self.pid, 8, &raw mut mask as usize)?;
        Ok(mask)
    }

    /// Address and length of the list of robust locks.
    pub(super) fn robust_list(&self) -> io::Result<[u64; 2]> {
        let (mut head, mut length) = (0u64, 0u64);
        // SAFETY: places for two numbers.
        check(unsafe {
            libc::syscall(
                libc::SYS_get_robust_list,
                self.pid,
                &raw mut head,
                &raw mut length,
            )
        })?;
        Ok([head, length])
    }

    /// Makes the stopped process make a system call, by way of the instruction at `instruction`.
    pub(super) fn call(
        &self,
        instruction: u64,
        number: c_long,
        arguments: [u64; 4],
    ) -> io::Result<i64> {
        let saved = self.registers()?;
        let mut registers = saved;
        registers[register::RAX] = number as u64;
        registers[register::ORIG_RAX] = u64::MAX;
        registers[register::RIP] = instruction;
        // rdi, rsi, rdx, r10
        for (place, argument) in [14, 13, 12, 7].into_iter().zip(arguments) {
            registers[place] = argument;
        }
        self.set_registers(&registers)?;
        let answer = self.step().and_then(|()| self.registers());
        self.set_registers(&saved)?;
        Ok(answer?[register::RAX] as i64)
    }

    /// Into a system call and out of it.
    fn step(&self) -> io::Result<()> {
        for _ in 0..2 {
            ptrace(libc::PTRACE_SYSCALL, self.pid, 0, 0)?;
            self.wait()?;
        }
        Ok(())
    }

    /// Makes the stopped process fork. The copy, its sibling, never runs; this thread holds it.
    pub(super) fn fork(&self, instruction: u64) -> io::Result<Frozen> {
        let saved = self.registers()?;
        let mut registers = saved;
        registers[register::RAX] = libc::SYS_clone as u64;
        registers[register::ORIG_RAX] = u64::MAX;
        registers[register::RIP] = instruction;
        // rdi, rsi, rdx, r10, r8: a child of the same parent, with a stack, memory and descriptors of its own.
        registers[14] = (libc::CLONE_PARENT | libc::SIGCHLD) as u64;
        for place in [13, 12, 7, 9] {
            registers[place] = 0;
        }
        self.set_registers(&registers)?;
        let forked = (|| {
            ptrace(libc::PTRACE_SYSCALL, self.pid, 0, 0)?;
            self.wait()?;
            ptrace(libc::PTRACE_SYSCALL, self.pid, 0, 0)?;
            let event = self.wait()?;
            if event != libc::PTRACE_EVENT_FORK {
                // It came out of the call without a fork: limits of processes or memory.
                let answer = self.registers()?[register::RAX] as i64;
                return Err(io::Error::from_raw_os_error((-answer) as i32));
            }
            let mut pid: libc::c_ulong = 0;
            ptrace(libc::PTRACE_GETEVENTMSG, self.pid, 0, &raw mut pid as usize)?;
            let copy = Frozen(Self {
                pid: pid as i32,
                held: RefCell::default(),
            });
            ptrace(libc::PTRACE_SYSCALL, self.pid, 0, 0)?;
            self.wait()?;
            copy.0.wait()?;
            // Should this program die, the copy must not begin to run.
            ptrace(
                libc::PTRACE_SETOPTIONS,
                copy.0.pid,
                0,
                libc::PTRACE_O_EXITKILL as usize,
            )?;
            Ok(copy)
        })();
        self.set_registers(&saved)?;
        forked
    }
}

/// A copy of a process that never runs, and ends when this is dropped.
pub(super) struct Frozen(Stopped);

impl Frozen {
    pub(super) fn pid(&self) -> i32 {
        self.0.pid
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        kill(self.0.pid);
        // It is noticed by its tracer first, then by its parent, which is the agent.
        let _ = self.0.wait();
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = ptrace(libc::PTRACE_DETACH, self.pid, 0, 0);
        for signal in self.held.borrow_mut().drain(..) {
            // SAFETY: plain numbers.
            unsafe { libc::kill(self.pid, signal) };
        }
    }
}

fn ptrace(request: u32, pid: i32, address: usize, data: usize) -> io::Result<()> {
    // SAFETY: each caller passes what its request asks for, with buffers that outlive the call.
    check(unsafe { libc::syscall(libc::SYS_ptrace, c_long::from(request), pid, address, data) })
        .map(drop)
}

/// Sets a limit of another process, and what it may raise it to.
pub(super) fn set_limit(pid: i32, resource: u32, [now, most]: [u64; 2]) -> io::Result<()> {
    let limit = libc::rlimit64 {
        rlim_cur: now,
        rlim_max: most,
    };
    // SAFETY: the limit is read, and nothing is written.
    check(unsafe { libc::prlimit64(pid, resource, &limit, std::ptr::null_mut()) }.into()).map(drop)
}

/// The version of the kernel's landlock; 0 where it has none.
pub(super) fn landlock_version() -> i32 {
    const VERSION: c_int = 1;
    // SAFETY: asks for a number, and passes nothing.
    unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, 0, 0, VERSION).max(0) as i32 }
}
