//! Takes the picture of a stopped process: its memory, registers, signal handlers and open files, from
//! outside, without its help. What the loader could not bring back is refused by name.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;

use super::descriptors;
use super::sys::{self, Frozen, PageRange, Stopped, register};
use crate::host;
use crate::plan::{COPY, Extent, GROWS_DOWN, LOADER_END, LOADER_START, Region, SHARED, source};
use crate::wire::{Put, Take};

const PAGE: u64 = 4096;
/// Bytes of shared memory that can be kept: they are read while the process stands still.
const MAX_SHARED: u64 = 256 << 20;
/// Layers that one image refers to at most; beyond it, the one that holds least is written anew.
const MAX_LAYERS: usize = 12;
/// Pieces of adjacent memory are written anew as one where they are smaller than this on average…
const PIECE: u64 = 64 << 10;
/// … and more than this many.
const MANY: usize = 16;

/// A process that was copied in an instant, and whose copy stands still until its memory is written.
pub(super) struct Negative {
    frozen: Frozen,
    pieces: Vec<Piece>,
    state: State,
    descriptors: Put,
    /// Connections that a branch will find closed.
    pub(super) closed: Vec<String>,
}

/// A negative that is laid out: all is known of its picture, and every byte of that can be read.
pub(super) struct Layout {
    /// The process that stands still; it ends when this is dropped, on the thread that took the negative.
    pub(super) frozen: Frozen,
    pub(super) picture: Picture,
}

/// A picture.
pub(super) struct Picture {
    /// The process that stands still.
    pid: i32,
    /// Its memory. Read as a file, its pages stay shared with the process that goes on; `process_vm_readv`
    /// would have the kernel copy each of them first.
    memory: File,
    /// For the loader. The layers' places in it are those of `layers`.
    pub(super) plan: Vec<u8>,
    /// Layers that it refers to, by name; the empty name is its own.
    pub(super) layers: Vec<String>,
    /// Bytes of memory of its own.
    pub(super) written: u64,
    /// What its memory is made of, in order.
    parts: Vec<Part>,
}

/// Some of a picture's memory.
struct Part {
    offset: u64,
    length: u64,
    /// Whether the loader copies it and does not map it.
    copied: bool,
    from: Source,
}

enum Source {
    /// An address of the process, whose pages are there.
    Process(u64),
    /// An address of the process, whose pages may have to be brought first, and may be past the end of a file.
    Distant(u64),
    Held(Vec<u8>),
}

impl Picture {
    /// Offsets and lengths of what the loader copies.
    pub(super) fn copied(&self) -> impl Iterator<Item = (u64, u64)> {
        self.parts
            .iter()
            .filter(|part| part.copied)
            .map(|part| (part.offset, part.length))
    }

    /// Reads its memory from `offset` on, as long as the process stands.
    pub(super) fn read(&self, offset: u64, mut buffer: &mut [u8]) -> io::Result<()> {
        let mut at = self
            .parts
            .partition_point(|part| part.offset + part.length <= offset);
        let mut inside = offset;
        while !buffer.is_empty() {
            let part = self.parts.get(at).ok_or(io::ErrorKind::UnexpectedEof)?;
            let skip = inside - part.offset;
            let count = ((part.length - skip) as usize).min(buffer.len());
            let (now, later) = buffer.split_at_mut(count);
            match &part.from {
                Source::Held(bytes) => now.copy_from_slice(&bytes[skip as usize..][..count]),
                Source::Process(address) => self.memory.read_exact_at(now, address + skip)?,
                Source::Distant(address) => read_distant(self.pid, address + skip, now)?,
            }
            buffer = later;
            inside += count as u64;
            at += 1;
        }
        Ok(())
    }
}

/// Reads memory that the process would wait for: as a file it could not be read.
fn read_distant(pid: i32, address: u64, buffer: &mut [u8]) -> io::Result<()> {
    let mut at = 0;
    while at < buffer.len() {
        let rest = &mut buffer[at..];
        at += match host::read_memory(pid, address + at as u64, rest) {
            Ok(count) if count > 0 => count,
            // A page past the end of its file cannot be read by its owner either.
            Err(error) if error.raw_os_error() == Some(libc::EFAULT) => {
                let page = rest.len().min(PAGE as usize);
                rest[..page].fill(0);
                page
            }
            Err(error) => return Err(error),
            Ok(_) => return Err(io::ErrorKind::UnexpectedEof.into()),
        };
    }
    Ok(())
}

/// Why there is no picture.
#[derive(Debug)]
pub(super) enum Failure {
    /// It has this many threads.
    Threads(usize),
    /// It has something that cannot be brought back.
    Refused(String),
    /// Something went wrong.
    Io(&'static str, io::Error),
}

fn io(doing: &'static str) -> impl Fn(io::Error) -> Failure {
    move |error| Failure::Io(doing, error)
}

/// A line of `/proc/PID/maps`, and what is to be written of it.
#[derive(Clone, Debug)]
struct Piece {
    region: Region,
    layer: Option<String>,
    path: Option<String>,
    write: Keep,
    /// Its bytes, where the process shares them with its copy.
    held: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keep {
    /// What the process has written to it.
    Changes,
    /// What was read when the process stood still: nothing else keeps it.
    Held,
    /// Every page, wherever it comes from.
    Everything,
    Nothing,
}

/// Takes the negative of process `pid`: stops it, has it fork, and lets it go on. `layer_of` names the
/// layer that is the file of a device and inode; `loaded` says that the process came from an image
/// itself. `meanwhile` runs while the process stands: the disk is copied then.
pub(super) fn capture<T>(
    pid: i32,
    loaded: bool,
    layer_of: &dyn Fn(u64, u64) -> Option<String>,
    meanwhile: impl FnOnce() -> io::Result<T>,
) -> Result<(Negative, T), Failure> {
    let stopped = Stopped::stop(pid).map_err(io("stopping the interpreter"))?;
    let threads = fs::read_dir(format!("/proc/{pid}/task"))
        .map_err(io("counting threads"))?
        .count();
    if threads > 1 {
        return Err(Failure::Threads(threads));
    }
    let mut pieces = pieces(pid, loaded, layer_of)?;
    hold_shared(pid, &mut pieces)?;
    let (descriptors, closed) = descriptors::describe(pid)?;
    let state = State::read(pid, &stopped, &pieces).map_err(io("reading registers"))?;
    let instruction = call_instruction(pid, &pieces).map_err(io("finding a system call"))?;
    let frozen = stopped
        .fork(instruction)
        .map_err(io("copying the interpreter"))?;
    let beside = meanwhile().map_err(io("copying the disk"))?;
    Ok((
        Negative {
            frozen,
            pieces,
            state,
            descriptors,
            closed,
        },
        beside,
    ))
}

impl Negative {
    /// The number of the process that stands still.
    pub(super) fn pid(&self) -> i32 {
        self.frozen.pid()
    }

    /// Finds what is to be written.
    pub(super) fn lay_out(mut self) -> io::Result<Layout> {
        consolidate(&mut self.pieces);
        shed_a_layer(&mut self.pieces);
        let pid = self.frozen.pid();
        let memory = File::open(format!("/proc/{pid}/mem"))?;
        let mut image = Image::default();
        image.lay_out(pid, self.pieces)?;
        let plan = self.state.plan(&image, self.descriptors);
        Ok(Layout {
            frozen: self.frozen,
            picture: Picture {
                pid,
                memory,
                plan,
                layers: image.layers,
                written: image.written,
                parts: image.parts,
            },
        })
    }
}

fn pieces(
    pid: i32,
    loaded: bool,
    layer_of: &dyn Fn(u64, u64) -> Option<String>,
) -> Result<Vec<Piece>, Failure> {
    let maps =
        fs::read_to_string(format!("/proc/{pid}/maps")).map_err(io("reading the memory map"))?;
    let mut pieces = Vec::new();
    for line in maps.lines() {
        if loaded && in_loader(line) {
            continue; // Left by the loader that brought the process here.
        }
        let Some(piece) = parse(line, layer_of)? else {
            continue;
        };
        if in_loader(line) {
            return Err(Failure::Refused(
                "it uses addresses that the loader of images needs".into(),
            ));
        }
        pieces.push(piece);
    }
    Ok(pieces)
}

/// Whether a line's addresses are the loader's.
fn in_loader(line: &str) -> bool {
    let hex = |text: &str| u64::from_str_radix(text, 16).unwrap_or(0);
    let range = line
        .split(' ')
        .next()
        .and_then(|range| range.split_once('-'));
    range.is_some_and(|(start, end)| hex(start) < LOADER_END && hex(end) > LOADER_START)
}

/// One line; `None` for what every process has anyway.
fn parse(
    line: &str,
    layer_of: &dyn Fn(u64, u64) -> Option<String>,
) -> Result<Option<Piece>, Failure> {
    let unreadable = || {
        Failure::Io(
            "reading the memory map",
            io::Error::other(format!("cannot read `{line}`")),
        )
    };
    let mut words = line.splitn(6, ' ');
    let mut word = || words.next().ok_or_else(unreadable);
    let (range, access, offset, device, inode) = (word()?, word()?, word()?, word()?, word()?);
    let name = words.next().unwrap_or_default().trim_start();
    let hex = |text: &str| u64::from_str_radix(text, 16).map_err(|_| unreadable());
    let (start, end) = range.split_once('-').ok_or_else(unreadable)?;
    let access = access.as_bytes();
    let protection = [(0, b'r', 1), (1, b'w', 2), (2, b'x', 4)];
    let mut piece = Piece {
        region: Region {
            start: hex(start)?,
            end: hex(end)?,
            offset: hex(offset)?,
            protection: protection
                .iter()
                .filter(|(at, letter, _)| access.get(*at) == Some(letter))
                .map(|one| one.2)
                .sum(),
            ..Region::default()
        },
        layer: None,
        path: None,
        write: Keep::Changes,
        held: Vec::new(),
    };
    let shared = access.get(3) == Some(&b's');
    if shared {
        piece.region.flags |= SHARED;
    }
    match name {
        "[vsyscall]" => return Ok(None),
        "[vvar]" | "[vvar_vclock]" | "[vdso]" => {
            piece.region.source = source::KERNEL;
            piece.region.index = ["[vvar]", "[vvar_vclock]", "[vdso]"]
                .iter()
                .position(|one| *one == name)
                .unwrap_or(0) as u32;
            piece.write = Keep::Nothing;
        }
        "[stack]" => piece.region.flags |= GROWS_DOWN,
        "" | "[heap]" => {}
        _ if name.starts_with("[anon") => {}
        _ if name.starts_with("/SYSV") => {
            return Err(Failure::Refused(
                "it has a System V shared memory segment".into(),
            ));
        }
        _ if name.starts_with("/memfd:") && layer(device, inode, layer_of)?.is_none() => {
            return Err(Failure::Refused(format!(
                "it maps an anonymous file ({name})"
            )));
        }
        "/dev/zero (deleted)" if shared => piece.write = Keep::Held,
        _ if name.starts_with('[') || name.starts_with("anon_inode") => {
            return Err(Failure::Refused(format!("it maps {name}")));
        }
        _ => file(&mut piece, name, layer(device, inode, layer_of)?)?,
    }
    if piece.region.source == source::ZERO {
        piece.region.offset = 0;
    }
    Ok(Some(piece))
}

/// The layer that is the file of a device and inode, as a memory map writes them.
fn layer(
    device: &str,
    inode: &str,
    layer_of: &dyn Fn(u64, u64) -> Option<String>,
) -> Result<Option<String>, Failure> {
    let hex = |text: &str| u32::from_str_radix(text, 16).ok();
    let numbers = device
        .split_once(':')
        .and_then(|(major, minor)| hex(major).zip(hex(minor)));
    let (major, minor) = numbers.ok_or_else(|| {
        let what = io::Error::other(format!("cannot read the device `{device}`"));
        Failure::Io("reading the memory map", what)
    })?;
    let inode = inode.parse().unwrap_or_default();
    Ok(layer_of(libc::makedev(major, minor), inode))
}

/// A region with a file behind it.
fn file(piece: &mut Piece, name: &str, layer: Option<String>) -> Result<(), Failure> {
    if let Some(layer) = layer {
        piece.region.source = source::LAYER;
        piece.layer = Some(layer);
        return Ok(());
    }
    let shared = piece.region.flags & SHARED != 0;
    if name.ends_with(" (deleted)") {
        if shared {
            return Err(Failure::Refused(format!(
                "it shares the memory of a removed file ({name})"
            )));
        }
        // Nothing but this process has the file's contents any more.
        piece.write = Keep::Everything;
        return Ok(());
    }
    piece.region.source = source::FILE;
    piece.path = Some(name.to_owned());
    if shared {
        piece.write = Keep::Nothing; // What was written to it is in the file.
    }
    Ok(())
}

/// Reads the memory that a copy of the process would go on sharing with it.
fn hold_shared(pid: i32, pieces: &mut [Piece]) -> Result<(), Failure> {
    let shared = || pieces.iter().filter(|piece| piece.write == Keep::Held);
    let bytes: u64 = shared()
        .map(|piece| piece.region.end - piece.region.start)
        .sum();
    if bytes > MAX_SHARED {
        return Err(Failure::Refused(format!(
            "it has {} MiB of shared memory; {} are the most that can be kept",
            bytes >> 20,
            MAX_SHARED >> 20
        )));
    }
    for piece in pieces.iter_mut().filter(|piece| piece.write == Keep::Held) {
        piece.held = vec![0; (piece.region.end - piece.region.start) as usize];
        host::read_memory(pid, piece.region.start, &mut piece.held)
            .map_err(io("reading shared memory"))?;
    }
    Ok(())
}

/// Whether two pieces are one stretch of ordinary memory.
fn joined(one: &Piece, next: &Piece) -> bool {
    let ordinary = |piece: &Piece| {
        matches!(piece.region.source, source::ZERO | source::LAYER)
            && piece.region.flags == 0
            && matches!(piece.write, Keep::Changes | Keep::Everything)
    };
    ordinary(one)
        && ordinary(next)
        && one.region.end == next.region.start
        && one.region.protection == next.region.protection
}

/// Stretches that many images have cut into small pieces are written anew, so that bringing a process
/// back costs no more after many generations.
fn consolidate(pieces: &mut Vec<Piece>) {
    let mut whole: Vec<Piece> = Vec::with_capacity(pieces.len());
    let mut at = 0;
    while at < pieces.len() {
        let count = 1 + pieces[at..]
            .windows(2)
            .take_while(|pair| joined(&pair[0], &pair[1]))
            .count();
        let stretch = &pieces[at..at + count];
        let (first, last) = (&stretch[0], &stretch[count - 1]);
        if count > MANY && (last.region.end - first.region.start) < PIECE * count as u64 {
            let mut one = first.clone();
            one.region = Region {
                end: last.region.end,
                offset: 0,
                source: source::ZERO,
                ..first.region
            };
            one.layer = None;
            one.write = Keep::Everything;
            whole.push(one);
        } else {
            whole.extend_from_slice(stretch);
        }
        at += count;
    }
    *pieces = whole;
}

/// Keeps the number of layers bounded.
fn shed_a_layer(pieces: &mut [Piece]) {
    let mut sizes: BTreeMap<&str, u64> = BTreeMap::new();
    for piece in pieces.iter() {
        if let Some(layer) = &piece.layer {
            *sizes.entry(layer).or_default() += piece.region.end - piece.region.start;
        }
    }
    if sizes.len() < MAX_LAYERS {
        return;
    }
    let Some(least) = sizes
        .into_iter()
        .min_by_key(|(_, size)| *size)
        .map(|(layer, _)| layer.to_owned())
    else {
        return;
    };
    for piece in pieces
        .iter_mut()
        .filter(|piece| piece.layer.as_ref() == Some(&least))
    {
        piece.region = Region {
            source: source::ZERO,
            offset: 0,
            ..piece.region
        };
        piece.layer = None;
        piece.write = Keep::Everything;
    }
}

/// Memory as the loader will map it.
#[derive(Default)]
struct Image {
    regions: Vec<Region>,
    extents: Vec<Extent>,
    files: Vec<String>,
    layers: Vec<String>,
    written: u64,
    parts: Vec<Part>,
}

impl Image {
    fn lay_out(&mut self, pid: i32, pieces: Vec<Piece>) -> io::Result<()> {
        let pagemap = File::open(format!("/proc/{pid}/pagemap"))?;
        let (mut ranges, mut batch) = (Vec::new(), sys::page_ranges());
        for piece in pieces {
            let mut region = piece.region;
            if let Some(path) = piece.path {
                region.index = place(&mut self.files, path);
            }
            if let Some(layer) = piece.layer {
                region.index = place(&mut self.layers, layer);
            }
            ranges.clear();
            match piece.write {
                Keep::Nothing => {}
                Keep::Everything => ranges.push(PageRange::new(region.start, region.end)),
                Keep::Changes => sys::written_pages(
                    &pagemap,
                    [region.start, region.end],
                    region.source != source::ZERO,
                    &mut batch,
                    &mut ranges,
                )?,
                Keep::Held => {
                    let whole = PageRange::new(region.start, region.end);
                    self.extend(&region, whole, Source::Held(piece.held));
                }
            }
            self.regions.push(region);
            let from = match piece.write {
                Keep::Everything => Source::Distant,
                _ => Source::Process,
            };
            for range in joined_ranges(&ranges) {
                self.extend(&region, range, from(range.start));
            }
        }
        Ok(())
    }

    /// Notes that a range of a region is to be written.
    fn extend(&mut self, region: &Region, range: PageRange, from: Source) {
        let offset = self.written;
        self.written += range.end - range.start;
        let mapped = region.flags & (GROWS_DOWN | SHARED) == 0;
        self.parts.push(Part {
            offset,
            length: range.end - range.start,
            copied: !mapped,
            from,
        });
        let layer = place(&mut self.layers, String::new());
        self.extents.push(Extent {
            start: range.start,
            length: range.end - range.start,
            offset,
            protection: region.protection,
            layer: if mapped { layer } else { layer | COPY },
        });
    }
}

/// Ranges that follow each other as one.
fn joined_ranges(ranges: &[PageRange]) -> Vec<PageRange> {
    let mut joined: Vec<PageRange> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match joined.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => joined.push(*range),
        }
    }
    joined
}

/// The place of a name in a list, where it is put if it is not there.
fn place(list: &mut Vec<String>, name: String) -> u32 {
    let at = list
        .iter()
        .position(|known| *known == name)
        .unwrap_or_else(|| {
            list.push(name);
            list.len() - 1
        });
    at as u32
}

/// What a process is beside its memory.
struct State {
    registers: sys::Registers,
    extended: Vec<u8>,
    thread: [u64; 4],
    layout: [u64; 11],
    signals: Vec<(u32, Vec<u8>)>,
    alternate_stack: Vec<u8>,
    timer: Vec<u8>,
    number: u32,
    umask: u32,
    folder: String,
    name: String,
    auxv: Vec<u8>,
}

impl State {
    fn read(pid: i32, stopped: &Stopped, pieces: &[Piece]) -> io::Result<Self> {
        let registers = stopped.registers()?;
        let instruction = call_instruction(pid, pieces)?;
        // Below what a leaf function may use of the stack.
        let scratch = (registers[register::RSP] - 1024) & !63;
        let read = |length: usize| {
            let mut bytes = vec![0; length];
            host::read_memory(pid, scratch, &mut bytes).map(|_| bytes)
        };
        let mut signals = Vec::new();
        let caught = status(pid, "SigCgt:")? | status(pid, "SigIgn:")?;
        const KILL_AND_STOP: u64 = 1 << 8 | 1 << 18;
        for number in (1..=64).filter(|number| (caught & !KILL_AND_STOP) >> (number - 1) & 1 == 1) {
            if stopped.call(instruction, libc::SYS_rt_sigaction, [number, 0, scratch, 8])? == 0 {
                signals.push((number as u32, read(32)?));
            }
        }
        stopped.call(instruction, libc::SYS_sigaltstack, [0, scratch, 0, 0])?;
        let alternate_stack = read(24)?;
        const PR_GET_TID_ADDRESS: u64 = 40;
        let named = stopped.call(
            instruction,
            libc::SYS_prctl,
            [PR_GET_TID_ADDRESS, scratch, 0, 0],
        )? == 0;
        let thread_address = if named { word(&read(8)?) } else { 0 };
        stopped.call(instruction, libc::SYS_getitimer, [0, scratch, 0, 0])?;
        let timer = read(32)?;
        let end_of_heap = stopped.call(instruction, libc::SYS_brk, [0; 4])? as u64;
        let [head, length] = stopped.robust_list()?;
        let own = |name: &str| format!("/proc/{pid}/{name}");
        let inner = fs::read_to_string(own("status"))?;
        let line = |name: &str| {
            inner
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .unwrap_or_default()
                .trim()
        };
        Ok(Self {
            registers,
            extended: stopped.extended()?,
            thread: [head, length, thread_address, stopped.signal_mask()?],
            layout: layout(pid, end_of_heap)?,
            signals,
            alternate_stack,
            timer: if timer.iter().all(|byte| *byte == 0) {
                Vec::new()
            } else {
                timer
            },
            number: line("NSpid:")
                .split_whitespace()
                .last()
                .and_then(|text| text.parse().ok())
                .unwrap_or(0),
            umask: u32::from_str_radix(line("Umask:"), 8).unwrap_or(0o022),
            folder: fs::read_link(own("cwd"))?.to_string_lossy().into_owned(),
            name: fs::read_to_string(own("comm"))?.trim_end().to_owned(),
            auxv: fs::read(own("auxv"))?,
        })
    }

    /// Writes it all down, in the order in which the loader reads it.
    fn plan(&self, image: &Image, descriptors: Put) -> Vec<u8> {
        let mut put = Put::default()
            .u32(self.number)
            .list(&image.files)
            .bytes(regions(&image.regions))
            .bytes(extents(&image.extents))
            .bytes(bytes(&self.layout))
            .bytes(&self.auxv)
            .u32(self.signals.len() as u32);
        for (number, action) in &self.signals {
            put = put.u32(*number).bytes(action);
        }
        put = put
            .bytes(&self.timer)
            .u32(self.umask)
            .bytes(&self.folder)
            .bytes(&self.name)
            .bytes(bytes(&self.thread))
            .bytes(&self.alternate_stack)
            .bytes(bytes(&self.registers))
            .bytes(&self.extended);
        put.0.extend(descriptors.0);
        put.0
    }
}

/// Addresses of a plan that map a layer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mapped {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) offset: u64,
    pub(super) layer: u32,
}

/// Which addresses of a plan map layers, in the order in which the loader maps them; `None` if it is not one.
pub(super) fn mapped(plan: &[u8]) -> Option<Vec<Mapped>> {
    let mut take = Take(plan);
    take.u32()?;
    take.list()?;
    let (regions, extents) = (words(take.bytes()?), words(take.bytes()?));
    let (low, high) = (|word: u64| word as u32, |word: u64| (word >> 32) as u32);
    let regions = regions
        .chunks_exact(5)
        .filter(|one| low(one[4]) == source::LAYER)
        .map(|one| Mapped {
            start: one[0],
            end: one[1],
            offset: one[2],
            layer: high(one[4]),
        });
    let extents = extents
        .chunks_exact(4)
        .filter(|one| high(one[3]) & COPY == 0)
        .map(|one| Mapped {
            start: one[0],
            end: one[0] + one[1],
            offset: one[2],
            layer: high(one[3]),
        });
    Some(regions.chain(extents).collect())
}

fn words(bytes: &[u8]) -> Vec<u64> {
    let words = bytes.as_chunks::<8>().0;
    words.iter().map(|word| u64::from_le_bytes(*word)).collect()
}

fn bytes(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn regions(regions: &[Region]) -> Vec<u8> {
    let halves = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    let words = regions.iter().flat_map(|one| {
        [
            one.start,
            one.end,
            one.offset,
            halves(one.protection, one.flags),
            halves(one.source, one.index),
        ]
    });
    bytes(&words.collect::<Vec<_>>())
}

fn extents(extents: &[Extent]) -> Vec<u8> {
    let words = extents.iter().flat_map(|one| {
        [
            one.start,
            one.length,
            one.offset,
            u64::from(one.protection) | u64::from(one.layer) << 32,
        ]
    });
    bytes(&words.collect::<Vec<_>>())
}

fn word(bytes: &[u8]) -> u64 {
    bytes
        .first_chunk()
        .map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// A mask in `/proc/PID/status`.
fn status(pid: i32, line: &str) -> io::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let mask = text
        .lines()
        .find_map(|one| one.strip_prefix(line))
        .unwrap_or("0")
        .trim();
    u64::from_str_radix(mask, 16).map_err(io::Error::other)
}

/// The address of an instruction that makes a system call: the kernel's own page has one.
fn call_instruction(pid: i32, pieces: &[Piece]) -> io::Result<u64> {
    const VDSO: u32 = 2;
    let page = pieces
        .iter()
        .find(|piece| piece.region.source == source::KERNEL && piece.region.index == VDSO);
    let Some(Region { start, end, .. }) = page.map(|piece| piece.region) else {
        return Err(io::Error::other("the process has no [vdso]"));
    };
    let mut code = vec![0; (end - start).min(16 * PAGE) as usize];
    let count = host::read_memory(pid, start, &mut code)?;
    let at = code[..count]
        .windows(2)
        .position(|pair| pair == [0x0f, 0x05]);
    at.map(|at| start + at as u64)
        .ok_or_else(|| io::Error::other("the [vdso] makes no system call"))
}

/// The fields of `struct prctl_mm_map` before its pointers, from `/proc/PID/stat`.
fn layout(pid: i32, end_of_heap: u64) -> io::Result<[u64; 11]> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, in parentheses, may contain anything.
    let after = stat
        .rsplit_once(") ")
        .map(|(_, after)| after)
        .unwrap_or_default();
    let fields: Vec<u64> = after
        .split(' ')
        .map(|field| field.trim().parse().unwrap_or(0))
        .collect();
    // The manual counts from one, and the first here is its third.
    let field = |number: usize| fields.get(number - 3).copied().unwrap_or(0);
    Ok([
        field(26),
        field(27),
        field(45),
        field(46),
        field(47),
        end_of_heap,
        field(28),
        field(48),
        field(49),
        field(50),
        field(51),
    ])
}

#[cfg(test)]
impl Picture {
    /// One page of a process that has ended.
    pub(super) fn of_nobody() -> io::Result<Self> {
        Ok(Self {
            pid: 0,
            memory: File::open("/dev/null")?,
            plan: Vec::new(),
            layers: Vec::new(),
            written: PAGE,
            parts: vec![Part {
                offset: 0,
                length: PAGE,
                copied: false,
                from: Source::Process(0),
            }],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(start: u64, end: u64, layer: Option<&str>) -> Piece {
        let source = if layer.is_some() {
            source::LAYER
        } else {
            source::ZERO
        };
        Piece {
            region: Region {
                start,
                end,
                protection: 3,
                source,
                ..Region::default()
            },
            layer: layer.map(str::to_owned),
            path: None,
            write: Keep::Changes,
            held: Vec::new(),
        }
    }

    #[test]
    fn lines_of_a_memory_map_are_read() {
        let none = |_, _| None;
        let line = "7f0000000000-7f0000002000 r-xp 00001000 fe:00 1234                       /usr/lib/libc.so.6";
        let found = parse(line, &none).unwrap().unwrap();
        assert_eq!(
            (
                found.region.protection,
                found.region.source,
                found.region.offset
            ),
            (5, source::FILE, 0x1000)
        );
        assert_eq!(found.path.as_deref(), Some("/usr/lib/libc.so.6"));
        let layer = |device, inode| {
            (device == libc::makedev(0xfe, 0) && inode == 1234).then(|| "s1".to_owned())
        };
        assert_eq!(
            parse(line, &layer).unwrap().unwrap().layer.as_deref(),
            Some("s1")
        );
        assert!(
            parse(
                "ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0 [vsyscall]",
                &none
            )
            .unwrap()
            .is_none()
        );
        assert!(matches!(
            parse("7f00-7f01 rw-s 0 00:01 5 /memfd:x (deleted)", &none),
            Err(Failure::Refused(_))
        ));
        assert!(parse("nonsense", &none).is_err());
    }

    #[test]
    fn small_pieces_become_one() {
        let mut pieces: Vec<Piece> = (0..20)
            .map(|at| piece(at * PAGE, (at + 1) * PAGE, (at % 2 == 0).then_some("s1")))
            .collect();
        pieces.push(piece(100 * PAGE, 101 * PAGE, Some("s2")));
        consolidate(&mut pieces);
        assert_eq!(pieces.len(), 2);
        assert_eq!(
            (pieces[0].region.end, pieces[0].write),
            (20 * PAGE, Keep::Everything)
        );
        assert_eq!(pieces[1].layer.as_deref(), Some("s2"));
    }

    #[test]
    fn the_number_of_layers_stays_bounded() {
        let mut pieces: Vec<Piece> = (0..MAX_LAYERS as u64)
            .map(|at| {
                piece(
                    at << 20,
                    (at << 20) + (at + 1) * PAGE,
                    Some(&format!("s{at}")),
                )
            })
            .collect();
        shed_a_layer(&mut pieces);
        assert_eq!(
            pieces.iter().filter(|piece| piece.layer.is_some()).count(),
            MAX_LAYERS - 1
        );
        assert_eq!(pieces[0].write, Keep::Everything);
    }
}
