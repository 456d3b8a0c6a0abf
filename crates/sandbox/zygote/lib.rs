//! The zygote: put before a program's own code (`LD_PRELOAD`), it holds the program where the loader is done
//! with it and nothing of its own has run yet, and makes copies of it on request. A copy goes on as the program
//! would have, with arguments, descriptors and a user of its own.
//!
//! What the loader wrote is the copies' in common: QEMU has four megabytes of it. It knows nothing of machines,
//! and has no dependency but the C library.
//!
//! A request comes over [`SOCKET`], from the one who started the zygote: [`HEADER`] numbers, and for a start the
//! arguments, each ended by a zero, with the descriptors. The answer is one number. When the socket closes it
//! ends, and so does each copy.
#![no_std]

use core::ffi::{CStr, c_char, c_int, c_long, c_void};
use core::mem::{size_of, size_of_val, transmute};
use core::ptr::{addr_of_mut, null, null_mut};

/// Where the socket is when the zygote begins, and the first number that a copy's descriptors get.
const FIRST: c_int = 3;
/// Where the socket is afterwards: out of the way.
const SOCKET: c_int = 200;
/// Numbers of a request: what is asked, and three of what follows below.
const HEADER: usize = 4;
/// A start: bytes of arguments, user, group. Answers the copy's number.
const START: u32 = 0;
/// The end of a copy: its number. Answers whether it is over; it is ended at once, and over soon.
const END: u32 = 1;
/// Stands for the user and the group that the zygote has.
const SAME: u32 = u32::MAX;
/// Bytes of arguments, and arguments.
const MOST_BYTES: usize = 16 << 10;
const MOST_ARGUMENTS: usize = 255;
/// Descriptors of a request. The last of them is what a copy says its errors to.
const MOST_DESCRIPTORS: usize = 16;
/// What ends with this had no right beginning.
const FAILED: c_int = 125;

const RTLD_NEXT: *mut c_void = -1isize as *mut c_void;
const SOL_SOCKET: c_int = 1;
const SCM_RIGHTS: c_int = 1;
const SIGKILL: c_int = 9;
const WNOHANG: c_int = 1;
const PR_SET_PDEATHSIG: c_int = 1;
const EINTR: c_int = 4;

type Strings = *const *const c_char;
type Main = unsafe extern "C" fn(c_int, Strings, Strings) -> c_int;
type Begin =
    unsafe extern "C" fn(Main, c_int, Strings, *mut c_void, *mut c_void, *mut c_void, *mut c_void) -> c_int;

#[repr(C)]
struct Part {
    base: *mut c_void,
    length: usize,
}

#[repr(C)]
struct Message {
    name: *mut c_void,
    name_length: u32,
    parts: *mut Part,
    part_count: usize,
    control: *mut c_void,
    control_length: usize,
    flags: c_int,
}

#[repr(C)]
struct Control {
    length: usize,
    level: c_int,
    kind: c_int,
    descriptors: [c_int; MOST_DESCRIPTORS],
}

#[link(name = "c")]
unsafe extern "C" {
    safe fn fork() -> c_int;
    safe fn getpid() -> c_int;
    safe fn getppid() -> c_int;
    safe fn dup2(from: c_int, to: c_int) -> c_int;
    safe fn close(descriptor: c_int) -> c_int;
    safe fn close_range(first: u32, last: u32, flags: c_int) -> c_int;
    safe fn kill(process: c_int, signal: c_int) -> c_int;
    safe fn setgid(group: u32) -> c_int;
    safe fn setuid(user: u32) -> c_int;
    safe fn prctl(what: c_int, value: c_long) -> c_int;
    safe fn abort() -> !;
    safe fn _exit(code: c_int) -> !;
    safe fn __errno_location() -> &'static c_int;
    fn setgroups(count: usize, groups: *const u32) -> c_int;
    fn waitpid(process: c_int, status: *mut c_int, options: c_int) -> c_int;
    fn dlsym(of: *mut c_void, name: *const c_char) -> *mut c_void;
    fn recvmsg(socket: c_int, message: *mut Message, flags: c_int) -> isize;
    fn read(from: c_int, to: *mut c_void, length: usize) -> isize;
    fn write(to: c_int, from: *const c_void, length: usize) -> isize;
}

/// A copy's arguments, and their table.
static mut TEXT: [u8; MOST_BYTES] = [0; MOST_BYTES];
static mut TABLE: [*const c_char; MOST_ARGUMENTS + 1] = [null(); MOST_ARGUMENTS + 1];

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    abort()
}

/// Stands before the C library's function of this name, which calls `main`. It comes back from [`serve`] in each
/// copy.
///
/// # Safety
/// The loader's alone to call, once.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __libc_start_main(
    main: Main,
    _: c_int,
    _: Strings,
    init: *mut c_void,
    fini: *mut c_void,
    loader_fini: *mut c_void,
    stack: *mut c_void,
) -> c_int {
    const NAME: &CStr = c"__libc_start_main";
    // SAFETY: the function that this one stands before, with the very arguments that are its; `main`'s are in
    // memory that stays.
    unsafe {
        let begin = dlsym(RTLD_NEXT, NAME.as_ptr());
        if begin.is_null() {
            _exit(FAILED);
        }
        let begin: Begin = transmute(begin);
        let count = serve();
        begin(main, count, addr_of_mut!(TABLE).cast(), init, fini, loader_fini, stack)
    }
}

/// Makes copies. Gives, in each, how many arguments it has; does not come back otherwise.
fn serve() -> c_int {
    dup2(FIRST, SOCKET);
    close_range(FIRST as u32, SOCKET as u32 - 1, 0);
    close_range(SOCKET as u32 + 1, u32::MAX, 0);
    let zygote = getpid();
    loop {
        let (header, given) = request();
        let answer = match header {
            [START, length, user, group] => {
                let count = arguments(length as usize);
                let copy = fork();
                if copy == 0 {
                    become_one(zygote, given, user, group);
                    return count;
                }
                copy
            }
            [END, copy, ..] => end(copy as c_int),
            _ => _exit(FAILED),
        };
        if given > 0 {
            close_range(FIRST as u32, (FIRST + given - 1) as u32, 0);
        }
        // SAFETY: the number lives.
        let told = unsafe { write(SOCKET, (&raw const answer).cast(), size_of_val(&answer)) };
        if told < 0 {
            _exit(0);
        }
    }
}

/// The next request, and how many descriptors came with it: they have the numbers from [`FIRST`] on, because
/// nothing else has.
fn request() -> ([u32; HEADER], c_int) {
    let mut header = [0; HEADER];
    let mut control = Control {
        length: 0,
        level: 0,
        kind: 0,
        descriptors: [-1; MOST_DESCRIPTORS],
    };
    let mut part = Part {
        base: (&raw mut header).cast(),
        length: size_of_val(&header),
    };
    let mut message = Message {
        name: null_mut(),
        name_length: 0,
        parts: &raw mut part,
        part_count: 1,
        control: (&raw mut control).cast(),
        control_length: size_of_val(&control),
        flags: 0,
    };
    loop {
        // SAFETY: all that the message names lives.
        let count = unsafe { recvmsg(SOCKET, &raw mut message, 0) };
        if count == size_of_val(&header) as isize {
            break;
        }
        if count >= 0 || *__errno_location() != EINTR {
            _exit(0);
        }
    }
    let before = size_of::<Control>() - size_of::<[c_int; MOST_DESCRIPTORS]>();
    let is_given = message.control_length > before && control.level == SOL_SOCKET && control.kind == SCM_RIGHTS;
    let bytes = if is_given { control.length - before } else { 0 };
    (header, (bytes / size_of::<c_int>()) as c_int)
}

/// Reads a copy's arguments into its table; gives how many there are.
fn arguments(length: usize) -> c_int {
    if length > MOST_BYTES {
        _exit(FAILED);
    }
    // SAFETY: there is one thread, and nobody else names these two. All that is written lies within them.
    unsafe {
        let text = addr_of_mut!(TEXT).cast::<u8>();
        let table = addr_of_mut!(TABLE).cast::<*const c_char>();
        let mut at = 0;
        while at < length {
            let count = read(SOCKET, text.add(at).cast(), length - at);
            if count <= 0 {
                _exit(0);
            }
            at += count as usize;
        }
        let (mut count, mut start) = (0, 0);
        for end in 0..length {
            if *text.add(end) == 0 && count < MOST_ARGUMENTS {
                table.add(count).write(text.add(start).cast());
                (count, start) = (count + 1, end + 1);
            }
        }
        table.add(count).write(null());
        count as c_int
    }
}

/// Makes a copy the one that was asked for: with its descriptors, its user, and an end when the zygote ends.
fn become_one(zygote: c_int, given: c_int, user: u32, group: u32) {
    close(SOCKET);
    if given > 0 {
        let words = FIRST + given - 1;
        dup2(words, 1);
        dup2(words, 2);
        close(words);
    }
    if user != SAME {
        // SAFETY: no group is read.
        let done = unsafe { setgroups(0, null()) } == 0 && setgid(group) == 0 && setuid(user) == 0;
        if !done {
            _exit(FAILED);
        }
    }
    // After the user, whose change takes it back.
    prctl(PR_SET_PDEATHSIG, SIGKILL as c_long);
    if getppid() != zygote {
        _exit(FAILED);
    }
}

/// Ends a copy; whether it is over. It keeps its number until then, and what is no copy any more is let alone.
fn end(copy: c_int) -> c_int {
    // SAFETY: a null status is allowed.
    let is_over = || unsafe { waitpid(copy, null_mut(), WNOHANG) } != 0;
    if is_over() {
        return 1;
    }
    kill(copy, SIGKILL);
    c_int::from(is_over())
}
