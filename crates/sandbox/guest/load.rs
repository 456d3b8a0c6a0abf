//! Brings a process back from its image. The process that calls [`load`] becomes the saved one:
//! same addresses, registers, signal handlers, open files and process number.
//!
//! First, with the help of Rust's library, everything is prepared in an arena at a fixed address:
//! files opened, descriptors placed, the signal frame built. Then [`last_steps`] runs on a stack in
//! that arena and uses system calls only: it removes all other mappings, maps the image, and returns
//! from a signal that never came, which is how the kernel sets all registers at once. Nothing here
//! needs a privilege that the confined process lacks.

use std::ffi::CString;
use std::fs;
use std::io;
use std::mem::offset_of;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::child::LOAD_FROM;
use crate::root::c;
use crate::sys::{self, nr, sys};
use crate::wire::Take;

#[allow(dead_code)]
#[path = "../src/plan.rs"]
mod plan;

use plan::{ARENA, Extent, LOADER_END, LOADER_START, Region, descriptor, source};

const PAGE: u64 = 4096;
const STACK: usize = 256 << 10;
/// Descriptors from here on are the loader's own; the saved process has none as high.
const OURS: i32 = LOAD_FROM + 10;
/// Where the kernel's pages wait while all others are replaced: at the end of the loader's addresses.
const PARKING: u64 = PAGE * 64;
/// End of the addresses that a process has.
const TOP: u64 = 0x7fff_ffff_f000;

/// A parsed plan.
pub struct Plan {
    pid: u32,
    files: Vec<CString>,
    regions: Vec<Region>,
    extents: Vec<Extent>,
    /// `struct prctl_mm_map`, without its pointers.
    layout: Vec<u64>,
    auxv: Vec<u8>,
    signals: Vec<(u32, Vec<u8>)>,
    timer: Vec<u8>,
    umask: u32,
    folder: CString,
    name: CString,
    /// Robust list, thread address, signal mask.
    thread: Vec<u64>,
    alternate_stack: Vec<u8>,
    registers: Vec<u64>,
    extended: Vec<u8>,
    descriptors: Vec<Descriptor>,
}

struct Descriptor {
    number: i32,
    kind: u32,
    path: CString,
    numbers: Vec<u64>,
    bytes: Vec<u8>,
}

impl Plan {
    /// Reads a plan; `None` if it is not one.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let mut take = Take(bytes);
        let take = &mut take;
        Some(Self {
            pid: take.u32()?,
            files: take
                .list()?
                .into_iter()
                .map(|path| c(path).ok())
                .collect::<Option<_>>()?,
            regions: records(take.bytes()?)?,
            extents: records(take.bytes()?)?,
            layout: words(take.bytes()?),
            auxv: take.bytes()?.to_vec(),
            signals: (0..take.u32()?)
                .map(|_| Some((take.u32()?, take.bytes()?.to_vec())))
                .collect::<Option<_>>()?,
            timer: take.bytes()?.to_vec(),
            umask: take.u32()?,
            folder: c(take.bytes()?).ok()?,
            name: c(take.bytes()?).ok()?,
            thread: words(take.bytes()?),
            alternate_stack: take.bytes()?.to_vec(),
            registers: words(take.bytes()?),
            extended: take.bytes()?.to_vec(),
            descriptors: (0..take.u32()?)
                .map(|_| {
                    Some(Descriptor {
                        number: take.u32()? as i32,
                        kind: take.u32()?,
                        path: c(take.bytes()?).ok()?,
                        numbers: words(take.bytes()?),
                        bytes: take.bytes()?.to_vec(),
                    })
                })
                .collect::<Option<_>>()?,
        })
        .filter(|plan| {
            plan.layout.len() == 11 && plan.thread.len() == 4 && plan.registers.len() == 27
        })
        .filter(|plan| plan.extended.len() >= LEGACY && plan.alternate_stack.len() == 24)
    }

    /// The process number that it had.
    pub fn pid(&self) -> i32 {
        self.pid as i32
    }
}

fn words(bytes: &[u8]) -> Vec<u64> {
    bytes
        .as_chunks::<8>()
        .0
        .iter()
        .map(|word| u64::from_le_bytes(*word))
        .collect()
}

/// Plain records; any bytes are some record.
fn records<T: Copy>(bytes: &[u8]) -> Option<Vec<T>> {
    let size = size_of::<T>();
    (bytes.len() % size == 0).then(|| {
        bytes
            .chunks_exact(size)
            // SAFETY: `T` is `Region` or `Extent`: integers only, and the slice has its size.
            .map(|one| unsafe { std::ptr::read_unaligned(one.as_ptr().cast::<T>()) })
            .collect()
    })
}

/// What [`last_steps`] reads. All its pointers lead into the arena.
struct Work {
    regions: *const Region,
    region_count: usize,
    extents: *const Extent,
    extent_count: usize,
    /// First of the opened files; layers follow them.
    files: i32,
    layers: i32,
    /// Layers of which not all is there, and the descriptor over which the kernel asks for what is not.
    early: u32,
    faults: i32,
    kernel: [Kernel; KERNEL_REGIONS],
    map: [u64; 13],
    thread: [u64; 4],
    fs: u64,
    gs: u64,
    frame: u64,
}

/// A region of the kernel's in this process.
#[derive(Clone, Copy, Default)]
struct Kernel {
    start: u64,
    length: u64,
    parked: u64,
}

const KERNEL_NAMES: [&str; KERNEL_REGIONS] = ["[vvar]", "[vvar_vclock]", "[vdso]"];
const KERNEL_REGIONS: usize = 3;

/// Becomes the process of the plan. Descriptors at [`LOAD_FROM`] become its first four; `layers` are
/// its memory. Where some of those are `early`, two descriptors follow them: the device that makes a
/// descriptor for faults, and a socket to whoever answers them. Returns only if it cannot.
pub fn load(plan: &Plan, layers: &[i32], early: u32) -> io::Result<()> {
    let everything = u64::MAX;
    let (layers, faults) = match layers {
        [layers @ .., device, gate] if early != 0 => (layers, faults(*device, *gate)?),
        _ => (layers, -1),
    };
    let saved_area = fpu_frame()?;
    sys!(nr::RT_SIGPROCMASK, 2, &raw const everything, 0, 8)?;

    let files = open_all(plan, layers)?;
    let regions = plan.regions.len() * size_of::<Region>();
    let extents = plan.extents.len() * size_of::<Extent>();
    let size = STACK
        + size_of::<Work>()
        + regions
        + extents
        + plan.auxv.len()
        + plan.extended.len()
        + (64 << 10);
    let base = make_arena(size)?;

    descriptors(plan)?;
    process_state(plan)?;

    let mut arena = Arena(base + STACK as u64);
    let mut kernel = kernel_regions()?;
    for region in &mut kernel {
        region.parked = LOADER_END - PARKING + region.parked;
    }
    let auxv = arena.put(&plan.auxv);
    let mut map = [0u64; 13];
    map[..11].copy_from_slice(&plan.layout);
    map[11] = auxv;
    // The descriptor of the program's file (none), and the length of the auxiliary vector before it.
    map[12] = plan.auxv.len() as u64 | 0xffff_ffff << 32;
    let frame = signal_frame(plan, &mut arena, &saved_area);
    let work = Work {
        regions: arena.put(&plan.regions) as *const Region,
        region_count: plan.regions.len(),
        extents: arena.put(&plan.extents) as *const Extent,
        extent_count: plan.extents.len(),
        files,
        layers: files + plan.files.len() as i32,
        early,
        faults,
        kernel,
        map,
        thread: [
            plan.thread[0],
            plan.thread[1],
            plan.thread[2],
            plan.thread[3],
        ],
        fs: plan.registers[21],
        gs: plan.registers[22],
        frame,
    };
    let work = arena.put(&[work]);
    // SAFETY: the stack is the arena's, mapped above and used by nobody; `last_steps` never returns.
    unsafe {
        std::arch::asm!(
            "mov rsp, {stack}",
            "xor ebp, ebp",
            "call {steps}",
            "ud2",
            stack = in(reg) base as usize + STACK - 64,
            steps = sym last_steps,
            in("rdi") work as usize,
            options(noreturn)
        )
    }
}

/// Makes a descriptor for faults in this process's memory, and shows it to whoever answers them; goes on
/// when that is ready.
fn faults(device: i32, gate: i32) -> io::Result<i32> {
    const NEW: usize = 0xaa00;
    let made = sys!(nr::IOCTL, device, NEW, sys::O_CLOEXEC | sys::O_NONBLOCK)? as i32;
    sys::close(device);
    let made = sys::move_up(made, OURS)?;
    crate::send_descriptor(gate, made, &[0])?;
    if sys::read(gate, &mut [0])? == 0 {
        return Err(io::Error::other("nobody brings its memory"));
    }
    sys::close(gate);
    Ok(made)
}

/// Has the kernel ask for what is not there of a layer, between two addresses.
fn watch(work: &Work, layer: u32, start: u64, length: u64) {
    const REGISTER: usize = 0xc020_aa00;
    const MISSING: u64 = 1;
    if work.early >> layer & 1 == 0 {
        return;
    }
    let mut arguments = [start, length, MISSING, 0];
    if sys!(nr::IOCTL, work.faults, REGISTER, arguments.as_mut_ptr()).is_err() {
        give_up(b"a region cannot be watched\n");
    }
}

/// Maps the arena; the kernel may have put this process's heap, whose place is random, in one spot but
/// not in both.
fn make_arena(size: usize) -> io::Result<u64> {
    const READ_WRITE: usize = 3;
    const PRIVATE_ANONYMOUS_FIXED_NOREPLACE: usize = 0x2 | 0x20 | 0x10_0000;
    const SPOT: u64 = (LOADER_END - ARENA) / 2;
    if size as u64 > SPOT - PARKING {
        return Err(io::Error::other("the plan of the image is too long"));
    }
    let map = |at: u64| {
        sys!(
            nr::MMAP,
            at,
            size,
            READ_WRITE,
            PRIVATE_ANONYMOUS_FIXED_NOREPLACE,
            -1isize,
            0
        )
    };
    map(ARENA)
        .or_else(|_| map(ARENA + SPOT))
        .map(|at| at as u64)
}

/// Memory in the arena, handed out once.
struct Arena(u64);

impl Arena {
    fn reserve(&mut self, size: usize) -> u64 {
        let at = self.0.next_multiple_of(64);
        self.0 = at + size as u64;
        at
    }

    fn put<T>(&mut self, items: &[T]) -> u64 {
        let at = self.reserve(size_of_val(items));
        // SAFETY: the arena is mapped, large enough by its construction, and this part of it was
        // handed out just now.
        unsafe { std::ptr::copy_nonoverlapping(items.as_ptr(), at as *mut T, items.len()) };
        at
    }
}

/// Opens the mapped files, then places the layers right after them; gives the first number.
fn open_all(plan: &Plan, layers: &[i32]) -> io::Result<i32> {
    const FIRST: i32 = OURS + 100;
    let wanted = FIRST as usize + plan.files.len() + layers.len() + 8;
    const RLIMIT_NOFILE: usize = 7;
    let mut limit = [0u64; 2];
    sys!(97, RLIMIT_NOFILE, limit.as_mut_ptr())?;
    if wanted as u64 > limit[0] {
        return Err(io::Error::other(
            "the image maps more files than a process may open",
        ));
    }
    for (at, path) in plan.files.iter().enumerate() {
        let opened = sys::open(path, 0, 0).map_err(|error| {
            io::Error::other(format!(
                "{} is mapped and cannot be opened: {error}",
                path.to_string_lossy()
            ))
        })?;
        let fd = FIRST + at as i32;
        if opened != fd {
            sys!(nr::DUP2, opened, fd)?;
            sys::close(opened);
        }
    }
    for (at, layer) in layers.iter().enumerate() {
        sys!(nr::DUP2, *layer, FIRST + (plan.files.len() + at) as i32)?;
    }
    Ok(FIRST)
}

/// Where this process has the kernel's regions. `parked` counts up from the first.
fn kernel_regions() -> io::Result<[Kernel; KERNEL_REGIONS]> {
    let maps = fs::read_to_string("/proc/self/maps")?;
    let mut regions = [Kernel::default(); KERNEL_REGIONS];
    let mut parked = 0;
    for line in maps.lines() {
        let Some(at) = KERNEL_NAMES.iter().position(|name| line.ends_with(name)) else {
            continue;
        };
        let range = line
            .split(' ')
            .next()
            .and_then(|range| range.split_once('-'));
        let parse = |text: &str| u64::from_str_radix(text, 16).map_err(io::Error::other);
        let Some((start, end)) = range else { continue };
        let start = parse(start)?;
        let length = parse(end)? - start;
        regions[at] = Kernel {
            start,
            length,
            parked,
        };
        parked += length + PAGE;
    }
    Ok(regions)
}

/// Signal handlers, timers, umask, folder and name: all that outlives a change of memory.
fn process_state(plan: &Plan) -> io::Result<()> {
    for (number, action) in &plan.signals {
        sys!(nr::RT_SIGACTION, *number, action.as_ptr(), 0, 8)?;
    }
    if !plan.timer.is_empty() {
        sys!(nr::SETITIMER, 0, plan.timer.as_ptr(), 0)?;
    }
    sys!(nr::UMASK, plan.umask)?;
    sys!(nr::CHDIR, plan.folder.as_ptr()).map_err(|error| {
        io::Error::other(format!(
            "the folder {} is gone: {error}",
            plan.folder.to_string_lossy()
        ))
    })?;
    const PR_SET_NAME: usize = 15;
    sys!(nr::PRCTL, PR_SET_NAME, plan.name.as_ptr(), 0, 0, 0).map(drop)
}

/// Makes the open descriptors, each first out of the way and then at its own number.
fn descriptors(plan: &Plan) -> io::Result<()> {
    sys!(nr::CLOSE_RANGE, 0, LOAD_FROM - 1, 0)?;
    for fd in 0..4 {
        sys!(nr::DUP2, LOAD_FROM + fd, fd)?;
    }
    let mut made: Vec<(i32, i32)> = Vec::new();
    for one in &plan.descriptors {
        let number = |at: usize| one.numbers.get(at).copied().unwrap_or_default() as usize;
        let cannot = |error: io::Error| {
            io::Error::other(format!(
                "descriptor {} ({}) cannot be opened again: {error}",
                one.number,
                one.path.to_string_lossy()
            ))
        };
        match one.kind {
            descriptor::FILE => {
                const KEEP: usize = !(0o100 | 0o200 | 0o1000); // neither created, exclusive nor truncated
                let fd = sys::open(&one.path, number(0) & KEEP, 0).map_err(cannot)?;
                let _ = sys!(nr::LSEEK, fd, number(1), 0);
                made.push((fd, one.number));
            }
            descriptor::PIPE => {
                let ends = sys::pipe(number(1))?;
                sys::write_all(ends[1], &one.bytes)?;
                made.extend([(ends[0], one.number), (ends[1], number(0) as i32)]);
            }
            descriptor::LISTENER => {
                let fd = listener(&one.bytes, number(0)).map_err(cannot)?;
                if number(1) & sys::O_NONBLOCK != 0 {
                    sys::set_nonblocking(fd)?;
                }
                made.push((fd, one.number));
            }
            descriptor::PAIR => {
                let ends = sys::socketpair()?;
                if number(1) & sys::O_NONBLOCK != 0 {
                    sys::set_nonblocking(ends[0])?;
                    sys::set_nonblocking(ends[1])?;
                }
                made.extend([(ends[0], one.number), (ends[1], number(0) as i32)]);
            }
            descriptor::EVENT => {
                let fd = sys!(nr::EVENTFD2, number(1), number(0))? as i32;
                made.push((fd, one.number));
            }
            descriptor::EPOLL => {
                made.push((sys!(nr::EPOLL_CREATE1, number(0))? as i32, one.number))
            }
            descriptor::CLOSED => {
                let ends = sys::socketpair()?;
                sys::close(ends[1]);
                made.push((ends[0], one.number));
            }
            descriptor::SAME => continue,
            _ => return Err(io::Error::other("a descriptor of an unknown kind")),
        }
        for (fd, _) in &mut made {
            if *fd < OURS {
                *fd = sys::move_up(*fd, OURS)?;
            }
        }
    }
    for (fd, target) in &made {
        sys!(nr::DUP2, *fd, *target)?;
        sys::close(*fd);
    }
    for one in &plan.descriptors {
        if one.kind == descriptor::SAME {
            sys!(
                nr::DUP2,
                one.numbers.first().copied().unwrap_or_default(),
                one.number
            )?;
        }
        if one.numbers.last() == Some(&u64::MAX) {
            const SET_CLOSE_ON_EXEC: usize = 2;
            sys!(nr::FCNTL, one.number, SET_CLOSE_ON_EXEC, 1)?;
        }
    }
    watches(plan)
}

/// What each `epoll` watches, once everything that it can watch is there.
fn watches(plan: &Plan) -> io::Result<()> {
    for epoll in plan
        .descriptors
        .iter()
        .filter(|one| one.kind == descriptor::EPOLL)
    {
        for watch in words(&epoll.bytes).chunks_exact(3) {
            let mut event = [0u8; 12];
            event[..4].copy_from_slice(&(watch[1] as u32).to_le_bytes());
            event[4..].copy_from_slice(&watch[2].to_le_bytes());
            const ADD: usize = 1;
            sys!(nr::EPOLL_CTL, epoll.number, ADD, watch[0], event.as_ptr())?;
        }
    }
    Ok(())
}

fn listener(address: &[u8], backlog: usize) -> io::Result<i32> {
    let family = address.first().copied().unwrap_or_default();
    let socket = sys!(nr::SOCKET, family, 1 | sys::O_CLOEXEC, 0)? as i32;
    let on = 1i32;
    const SOL_SOCKET: usize = 1;
    const SO_REUSEADDR: usize = 2;
    sys!(
        nr::SETSOCKOPT,
        socket,
        SOL_SOCKET,
        SO_REUSEADDR,
        &raw const on,
        4
    )?;
    sys!(nr::BIND, socket, address.as_ptr(), address.len())?;
    sys!(nr::LISTEN, socket, backlog)?;
    Ok(socket)
}

/// Bytes of the oldest part of the floating-point state, and where in it the kernel keeps notes.
const LEGACY: usize = 512;
const NOTES: usize = 464;

/// The kernel's notes in the floating-point part of a signal frame: how long it is, what is in it.
type Notes = [u8; LEGACY - NOTES];

static NOTED: AtomicBool = AtomicBool::new(false);
static mut NOTES_SEEN: Notes = [0; LEGACY - NOTES];

unsafe extern "C" {
    fn signal(number: i32, handler: extern "C" fn(i32, usize, *const u8)) -> usize;
    fn raise(number: i32) -> i32;
}

extern "C" fn on_signal(_: i32, _: usize, context: *const u8) {
    // SAFETY: the kernel passes the address of a `ucontext`, whose pointer to the floating-point
    // state stands at this offset. Nobody else touches the static while the signal is handled.
    unsafe {
        let state = context
            .add(offset_of!(Context, floating))
            .cast::<*const u8>()
            .read_unaligned();
        if !state.is_null() {
            std::ptr::copy_nonoverlapping(
                state.add(NOTES),
                (&raw mut NOTES_SEEN).cast::<u8>(),
                size_of::<Notes>(),
            );
            NOTED.store(true, Ordering::Release);
        }
    }
}

/// Takes a signal to see how this kernel writes a frame.
fn fpu_frame() -> io::Result<Notes> {
    const SIGUSR2: i32 = 12;
    // SAFETY: the handler above, on this thread, and no other thread exists.
    let notes = unsafe {
        signal(SIGUSR2, on_signal);
        raise(SIGUSR2);
        NOTES_SEEN
    };
    if NOTED.load(Ordering::Acquire) {
        Ok(notes)
    } else {
        Err(io::Error::other("this processor saves no extended state"))
    }
}

/// `struct ucontext` of x86-64, with the registers in the kernel's order.
#[repr(C)]
struct Context {
    flags: u64,
    link: u64,
    alternate_stack: [u8; 24],
    registers: [u64; 18],
    /// `cs`, `gs`, `fs`, `ss`.
    segments: [u16; 4],
    /// Error, trap number, old mask, fault address.
    trap: [u64; 4],
    floating: u64,
    reserved: [u64; 8],
    mask: u64,
}

/// Places of `struct user_regs_struct` in the order of a signal frame:
/// r8 to r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip, flags.
const FRAME_ORDER: [usize; 18] = [9, 8, 7, 6, 3, 2, 1, 0, 14, 13, 4, 5, 12, 10, 11, 19, 16, 18];

/// Builds the frame that sets every register; gives its address.
fn signal_frame(plan: &Plan, arena: &mut Arena, notes: &Notes) -> u64 {
    const HAS_EXTENDED_STATE: u64 = 1;
    const HAS_STACK_SEGMENT: u64 = 2 | 4;
    const CODE: u16 = 0x33;
    const DATA: u16 = 0x2b;
    const END_MARK: u32 = 0x4650_5845;
    let size = u32::from_le_bytes([notes[16], notes[17], notes[18], notes[19]]) as usize;
    let mut floating = plan.extended.clone();
    floating.resize(size.max(LEGACY), 0);
    floating[NOTES..LEGACY].copy_from_slice(notes);
    floating.extend(END_MARK.to_le_bytes());
    let floating = arena.put(&floating);
    let mut alternate_stack = [0; 24];
    alternate_stack.copy_from_slice(&plan.alternate_stack);
    let context = Context {
        flags: HAS_EXTENDED_STATE | HAS_STACK_SEGMENT,
        link: 0,
        alternate_stack,
        registers: FRAME_ORDER.map(|at| plan.registers[at]),
        segments: [CODE, 0, 0, DATA],
        trap: [0; 4],
        floating,
        reserved: [0; 8],
        mask: plan.thread[3],
    };
    // The kernel looks for a return address just before it.
    arena.reserve(64);
    arena.put(&[context])
}

/// Fails with a word on the process's standard error.
fn give_up(what: &[u8]) -> ! {
    let _ = sys!(nr::WRITE, 2, what.as_ptr(), what.len());
    loop {
        let _ = sys!(nr::EXIT, 126);
    }
}

/// Changes this process's memory into the image's, and its registers last. No heap, no C library,
/// no thread-local storage: they are what is being taken away.
extern "C" fn last_steps(work: &Work) -> ! {
    const MAY_MOVE_FIXED: usize = 3;
    for region in work.kernel.iter().filter(|region| region.length > 0) {
        if sys!(
            nr::MREMAP,
            region.start,
            region.length,
            region.length,
            MAY_MOVE_FIXED,
            region.parked
        )
        .is_err()
        {
            give_up(b"the kernel's pages cannot be moved\n");
        }
    }
    if sys!(nr::MUNMAP, 0, LOADER_START).is_err()
        || sys!(nr::MUNMAP, LOADER_END, TOP - LOADER_END).is_err()
    {
        give_up(b"old mappings cannot be removed\n");
    }
    // SAFETY: pointer and count of arrays in the arena, which stays.
    let (regions, extents) = unsafe {
        (
            std::slice::from_raw_parts(work.regions, work.region_count),
            std::slice::from_raw_parts(work.extents, work.extent_count),
        )
    };
    for region in regions {
        map(work, region);
    }
    for extent in extents {
        fill(work, extent);
    }
    const PR_SET_MM: usize = 35;
    const PR_SET_MM_MAP: usize = 14;
    // Without it (a kernel built without checkpoints), only the names in /proc and growth of the
    // old heap differ; the C library then takes new memory elsewhere.
    let _ = sys!(
        nr::PRCTL,
        PR_SET_MM,
        PR_SET_MM_MAP,
        work.map.as_ptr(),
        size_of_val(&work.map),
        0
    );
    const ARCH_SET_GS: usize = 0x1001;
    const ARCH_SET_FS: usize = 0x1002;
    let _ = sys!(nr::SET_ROBUST_LIST, work.thread[0], work.thread[1]);
    let _ = sys!(nr::SET_TID_ADDRESS, work.thread[2]);
    let _ = sys!(nr::CLOSE_RANGE, LOAD_FROM, u32::MAX, 0);
    let _ = sys!(nr::ARCH_PRCTL, ARCH_SET_GS, work.gs);
    if sys!(nr::ARCH_PRCTL, ARCH_SET_FS, work.fs).is_err() {
        give_up(b"thread-local storage cannot be set\n");
    }
    // SAFETY: the frame was built for this; the kernel checks what it can and loads the registers.
    unsafe {
        std::arch::asm!(
            "mov rsp, {frame}",
            "mov eax, 15",
            "syscall",
            "ud2",
            frame = in(reg) work.frame,
            options(noreturn)
        )
    }
}

fn map(work: &Work, region: &Region) {
    const FIXED: usize = 0x10;
    const ANONYMOUS: usize = 0x20;
    const SHARED: usize = 1;
    const PRIVATE: usize = 2;
    const GROWSDOWN: usize = 0x100;
    const NORESERVE: usize = 0x4000;
    let length = region.end - region.start;
    if region.source == source::KERNEL {
        let Some(own) = work
            .kernel
            .get(region.index as usize)
            .filter(|own| own.length == length)
        else {
            give_up(b"the image is of another kernel\n");
        };
        const MAY_MOVE_FIXED: usize = 3;
        if sys!(
            nr::MREMAP,
            own.parked,
            length,
            length,
            MAY_MOVE_FIXED,
            region.start
        )
        .is_err()
        {
            give_up(b"the kernel's pages cannot be moved back\n");
        }
        return;
    }
    let mut flags = FIXED | NORESERVE;
    flags |= if region.flags & plan::SHARED != 0 {
        SHARED
    } else {
        PRIVATE
    };
    if region.flags & plan::GROWS_DOWN != 0 {
        flags |= GROWSDOWN;
    }
    let fd = match region.source {
        source::FILE => work.files + region.index as i32,
        source::LAYER => work.layers + region.index as i32,
        _ => {
            flags |= ANONYMOUS;
            -1
        }
    };
    if sys!(
        nr::MMAP,
        region.start,
        length,
        region.protection,
        flags,
        fd as isize,
        region.offset
    )
    .is_err()
    {
        give_up(b"a region cannot be mapped\n");
    }
    if region.source == source::LAYER {
        watch(work, region.index, region.start, length);
    }
}

fn fill(work: &Work, extent: &Extent) {
    const FIXED_PRIVATE_NORESERVE: usize = 0x10 | 0x2 | 0x4000;
    let fd = work.layers + (extent.layer & !plan::COPY) as i32;
    if extent.layer & plan::COPY == 0 {
        if sys!(
            nr::MMAP,
            extent.start,
            extent.length,
            extent.protection,
            FIXED_PRIVATE_NORESERVE,
            fd,
            extent.offset
        )
        .is_err()
        {
            give_up(b"a part of a region cannot be mapped\n");
        }
        return watch(work, extent.layer, extent.start, extent.length);
    }
    let mut done = 0;
    while done < extent.length {
        match sys!(
            nr::PREAD64,
            fd,
            extent.start + done,
            extent.length - done,
            extent.offset + done
        ) {
            Ok(count @ 1..) => done += count as u64,
            _ => give_up(b"a part of a region cannot be read\n"),
        }
    }
}
