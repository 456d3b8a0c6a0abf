//! The kernel's way of asking a program for pages that another one touches (`userfaultfd`). With
//! `sys`, the only place of this crate's `unsafe` code, each part behind a safe function.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use libc::{c_int, c_void};

/// Bytes of the smallest piece that is asked for.
pub(super) const PAGE: u64 = 4096;
const DEVICE: &str = "/dev/userfaultfd";

/// What a process did that its pager has to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// It waits for the page of this address.
    Fault(u64),
    /// It forked: the child's events come from this descriptor.
    Fork(RawFd),
    /// It moved memory.
    Move { from: u64, to: u64, length: u64 },
}

fn check(answer: c_int) -> io::Result<c_int> {
    if answer < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(answer)
    }
}

/// The device; whoever has it open may make a descriptor for its own memory.
pub(super) fn device() -> io::Result<File> {
    File::options().read(true).write(true).open(DEVICE)
}

/// A descriptor for this program's own memory.
pub(super) fn for_this_program(device: &File) -> io::Result<OwnedFd> {
    const NEW: u64 = 0xaa00;
    let flags = libc::O_CLOEXEC | libc::O_NONBLOCK;
    // SAFETY: an open device and plain numbers; the descriptor is new and ours.
    unsafe {
        let fd = check(libc::ioctl(device.as_raw_fd(), NEW as _, flags))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// Agrees on what a descriptor tells: faults in shared memory, forks and moves.
pub(super) fn agree(faults: BorrowedFd) -> io::Result<()> {
    const FORKS_AND_MOVES: u64 = 1 << 1 | 1 << 2;
    agree_on(faults, FORKS_AND_MOVES | SHARED)
}

/// Faults in shared memory.
const SHARED: u64 = 1 << 5;

fn agree_on(faults: BorrowedFd, features: u64) -> io::Result<()> {
    const API: u64 = 0xc018_aa3f;
    ioctl(faults, API, &mut [0xaa, features, 0])
}

fn ioctl(faults: BorrowedFd, request: u64, arguments: &mut [u64]) -> io::Result<()> {
    // SAFETY: each caller passes the structure that its request asks for, as numbers of 64 bits.
    check(unsafe { libc::ioctl(faults.as_raw_fd(), request as _, arguments.as_mut_ptr()) })
        .map(drop)
}

/// Lets whoever waits for a page look again.
pub(super) fn wake(faults: BorrowedFd, page: u64) -> io::Result<()> {
    const WAKE: u64 = 0x8010_aa02;
    ioctl(faults, WAKE, &mut [page, PAGE])
}

/// Has whoever touches a page get a bus error.
pub(super) fn poison(faults: BorrowedFd, page: u64) -> io::Result<()> {
    const POISON: u64 = 0xc020_aa08;
    ioctl(faults, POISON, &mut [page, PAGE, 0, 0])
}

/// The next event, if there is one.
pub(super) fn next(faults: BorrowedFd) -> io::Result<Option<Event>> {
    const FAULT: u64 = 0x12;
    const FORK: u64 = 0x13;
    const MOVE: u64 = 0x14;
    let mut message = [0u64; 4];
    // SAFETY: a buffer of the length of one message.
    let count = unsafe {
        libc::read(
            faults.as_raw_fd(),
            message.as_mut_ptr().cast(),
            size_of_val(&message),
        )
    };
    if count < 0 {
        let error = io::Error::last_os_error();
        return match error.kind() {
            io::ErrorKind::WouldBlock => Ok(None),
            _ => Err(error),
        };
    }
    Ok(match message[0] & 0xff {
        FAULT => Some(Event::Fault(message[2])),
        FORK => Some(Event::Fork(message[1] as u32 as RawFd)),
        MOVE => Some(Event::Move {
            from: message[1],
            to: message[2],
            length: message[3],
        }),
        _ => None,
    })
}

/// Takes a descriptor that came with an event.
pub(super) fn take(fd: RawFd) -> OwnedFd {
    // SAFETY: the kernel made it for this program just now, and told nobody else its number.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Waits until one of these has something to read; says which.
pub(super) fn wait(descriptors: &[BorrowedFd]) -> io::Result<Vec<bool>> {
    let mut polled: Vec<libc::pollfd> = descriptors
        .iter()
        .map(|fd| libc::pollfd {
            fd: fd.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        })
        .collect();
    // SAFETY: an array and its length.
    let answer = unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, -1) };
    match check(answer) {
        Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
        _ => Ok(polled.iter().map(|one| one.revents != 0).collect()),
    }
}

/// An anonymous file of `length` zeros that does not fill memory until it is written.
pub(super) fn memory(length: u64) -> io::Result<File> {
    // SAFETY: a valid name; the descriptor is new and ours.
    let file = unsafe {
        File::from_raw_fd(check(libc::memfd_create(
            c"worldline-pages".as_ptr(),
            libc::MFD_CLOEXEC,
        ))?)
    };
    file.set_len(length)?;
    Ok(file)
}

/// A window on an anonymous file through which whole pages are put into it, each in one step: nobody
/// sees half of one, nor zeros before it.
pub(super) struct Window {
    start: u64,
    length: u64,
    faults: OwnedFd,
}

impl Window {
    pub(super) fn new(device: &File, memory: &File, length: u64) -> io::Result<Self> {
        const REGISTER: u64 = 0xc020_aa00;
        const MISSING: u64 = 1;
        let faults = for_this_program(device)?;
        // SAFETY: a new mapping where the kernel likes; nobody reads it, only the kernel writes there.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length as usize,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_NORESERVE,
                memory.as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let window = Self {
            start: start as u64,
            length,
            faults,
        };
        // What this program starts has nothing to do with it.
        // SAFETY: advice on our own mapping.
        check(unsafe { libc::madvise(start, length as usize, libc::MADV_DONTFORK) })?;
        let faults = window.faults.as_fd();
        agree_on(faults, SHARED)?;
        ioctl(
            faults,
            REGISTER,
            &mut [window.start, window.length, MISSING, 0],
        )?;
        Ok(window)
    }

    /// Puts whole pages at `offset`; those that are there already stay.
    pub(super) fn put(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        const COPY: u64 = 0xc028_aa03;
        let whole = bytes.len() as u64 & !(PAGE - 1);
        if !offset.is_multiple_of(PAGE) || offset + whole > self.length {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        let mut at = 0;
        while at < whole {
            let mut arguments = [
                self.start + offset + at,
                bytes.as_ptr() as u64 + at,
                whole - at,
                0,
                0,
            ];
            match ioctl(std::os::fd::AsFd::as_fd(&self.faults), COPY, &mut arguments) {
                Ok(()) => return Ok(()),
                Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {
                    at += (arguments[4] as i64).max(0) as u64 + PAGE;
                }
                Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => {
                    at += (arguments[4] as i64).max(0) as u64;
                    if arguments[4] as i64 == -i64::from(libc::EEXIST) {
                        at += PAGE;
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        // SAFETY: our own mapping, which nothing refers to.
        unsafe { libc::munmap(self.start as *mut c_void, self.length as usize) };
    }
}
