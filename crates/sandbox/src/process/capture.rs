//! Takes the picture of a stopped process: its memory, registers, signal handlers and open files, from
//! outside, without its help. What the loader could not bring back is refused by name.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use super::descriptors;
use super::sys::{self, PageRange, Stopped, register};
use crate::plan::{COPY, Extent, GROWS_DOWN, LOADER_END, LOADER_START, Region, SHARED, source};
use crate::wire::Put;

const PAGE: u64 = 4096;
/// How much is copied at a time.
const CHUNK: usize = 1 << 20;
/// Layers that one image refers to at most; beyond it, the one that holds least is written anew.
const MAX_LAYERS: usize = 12;
/// Pieces of adjacent memory are written anew as one where they are smaller than this on average…
const PIECE: u64 = 64 << 10;
/// … and more than this many.
const MANY: usize = 16;

/// A picture.
#[derive(Debug)]
pub(super) struct Picture {
    /// For the loader. The layers' places in it are those of `layers`.
    pub(super) plan: Vec<u8>,
    /// Layers that it refers to, by name; the empty name is the one just written.
    pub(super) layers: Vec<String>,
    /// Bytes of memory just written.
    pub(super) written: u64,
    /// Connections that a branch will find closed.
    pub(super) closed: Vec<String>,
}

/// Why there is no picture.
#[derive(Debug)]
pub(super) enum Failure {
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
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keep {
    /// What the process has written to it.
    Changes,
    /// All that is there: nothing else keeps it.
    Present,
    /// Every page, wherever it comes from.
    Everything,
    Nothing,
}

/// Takes the picture of process `pid`, and writes its new pages to `pages`. `layer_of` names the layer
/// that is the file of a device and inode; `loaded` says that the process came from an image itself.
/// `meanwhile` runs while the process still stands: the disk is copied then.
pub(super) fn capture<T>(
    pid: i32,
    loaded: bool,
    pages: &Path,
    layer_of: &dyn Fn(u64, u64) -> Option<String>,
    meanwhile: impl FnOnce() -> io::Result<T>,
) -> Result<(Picture, T), Failure> {
    let stopped = Stopped::stop(pid).map_err(io("stopping the interpreter"))?;
    let threads = fs::read_dir(format!("/proc/{pid}/task"))
        .map_err(io("counting threads"))?
        .count();
    if threads > 1 {
        return Err(Failure::Refused(format!(
            "the interpreter runs {threads} threads; let the others end first"
        )));
    }
    let mut pieces = pieces(pid, loaded, layer_of)?;
    consolidate(&mut pieces);
    shed_a_layer(&mut pieces);
    let (fds, closed) = descriptors::describe(pid)?;
    let state = State::read(pid, &stopped, &pieces).map_err(io("reading registers"))?;
    let mut image = Image::default();
    image
        .write(pid, pieces, pages)
        .map_err(io("writing memory"))?;
    let plan = state
        .plan(pid, &image, fds)
        .map_err(io("describing the process"))?;
    let beside = meanwhile().map_err(io("copying the disk"))?;
    Ok((
        Picture {
            plan,
            layers: image.layers,
            written: image.written,
            closed,
        },
        beside,
    ))
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
        _ if name.starts_with("/memfd:") => {
            return Err(Failure::Refused(format!(
                "it maps an anonymous file ({name})"
            )));
        }
        "/dev/zero (deleted)" if shared => piece.write = Keep::Present,
        _ if name.starts_with('[') || name.starts_with("anon_inode") => {
            return Err(Failure::Refused(format!("it maps {name}")));
        }
        _ => file(
            &mut piece,
            name,
            hex(device.split_once(':').ok_or_else(unreadable)?.0)?,
            device,
            inode,
            layer_of,
        )?,
    }
    if piece.region.source == source::ZERO {
        piece.region.offset = 0;
    }
    Ok(Some(piece))
}

/// A region with a file behind it.
fn file(
    piece: &mut Piece,
    name: &str,
    major: u64,
    device: &str,
    inode: &str,
    layer_of: &dyn Fn(u64, u64) -> Option<String>,
) -> Result<(), Failure> {
    let minor = device
        .split_once(':')
        .and_then(|(_, minor)| u32::from_str_radix(minor, 16).ok())
        .unwrap_or_default();
    let device = libc::makedev(major as u32, minor);
    if let Some(layer) = layer_of(device, inode.parse().unwrap_or_default()) {
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
}

impl Image {
    fn write(&mut self, pid: i32, pieces: Vec<Piece>, pages: &Path) -> io::Result<()> {
        let pagemap = File::open(format!("/proc/{pid}/pagemap"))?;
        let mut out = BufWriter::with_capacity(CHUNK, sys::private_file(pages)?);
        let mut buffer = vec![0; CHUNK];
        let mut ranges = Vec::new();
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
                Keep::Changes => {
                    sys::written_pages(&pagemap, region.start, region.end, false, &mut ranges)?
                }
                Keep::Present => {
                    sys::written_pages(&pagemap, region.start, region.end, true, &mut ranges)?
                }
            }
            self.regions.push(region);
            for range in joined_ranges(&ranges) {
                self.copy(pid, &region, range, &mut out, &mut buffer)?;
            }
        }
        out.flush()
    }

    fn copy(
        &mut self,
        pid: i32,
        region: &Region,
        range: PageRange,
        out: &mut impl Write,
        buffer: &mut [u8],
    ) -> io::Result<()> {
        let offset = self.written;
        let mut at = range.start;
        while at < range.end {
            let want = (range.end - at).min(buffer.len() as u64) as usize;
            // A page that cannot be read (past the end of its file) cannot be read by its owner either.
            let read = sys::read_memory(pid, at, &mut buffer[..want]).unwrap_or(0);
            buffer[read..want].fill(0);
            out.write_all(&buffer[..want])?;
            at += want as u64;
        }
        self.written += range.end - range.start;
        let mapped = region.flags & (GROWS_DOWN | SHARED) == 0;
        let layer = place(&mut self.layers, String::new());
        self.extents.push(Extent {
            start: range.start,
            length: range.end - range.start,
            offset,
            protection: region.protection,
            layer: if mapped { layer } else { layer | COPY },
        });
        Ok(())
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
}

impl State {
    fn read(pid: i32, stopped: &Stopped, pieces: &[Piece]) -> io::Result<Self> {
        let registers = stopped.registers()?;
        let instruction = call_instruction(pid, pieces)?;
        // Below what a leaf function may use of the stack.
        let scratch = (registers[register::RSP] - 1024) & !63;
        let read = |length: usize| {
            let mut bytes = vec![0; length];
            sys::read_memory(pid, scratch, &mut bytes).map(|_| bytes)
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
        })
    }

    /// Writes it all down, in the order in which the loader reads it.
    fn plan(&self, pid: i32, image: &Image, descriptors: Put) -> io::Result<Vec<u8>> {
        let own = |name: &str| format!("/proc/{pid}/{name}");
        let inner = fs::read_to_string(own("status"))?;
        let number = |line: &str| {
            inner
                .lines()
                .find_map(|one| one.strip_prefix(line))
                .unwrap_or_default()
                .trim()
                .to_owned()
        };
        let pid_inside = number("NSpid:")
            .split_whitespace()
            .last()
            .and_then(|text| text.parse().ok())
            .unwrap_or(0);
        let umask = u32::from_str_radix(&number("Umask:"), 8).unwrap_or(0o022);
        let mut put = Put::default()
            .u32(pid_inside)
            .list(&image.files)
            .bytes(regions(&image.regions))
            .bytes(extents(&image.extents))
            .bytes(bytes(&self.layout))
            .bytes(fs::read(own("auxv"))?)
            .u32(self.signals.len() as u32);
        for (number, action) in &self.signals {
            put = put.u32(*number).bytes(action);
        }
        put = put
            .bytes(&self.timer)
            .u32(umask)
            .bytes(fs::read_link(own("cwd"))?.to_string_lossy().as_bytes())
            .bytes(fs::read_to_string(own("comm"))?.trim_end())
            .bytes(bytes(&self.thread))
            .bytes(&self.alternate_stack)
            .bytes(bytes(&self.registers))
            .bytes(&self.extended);
        put.0.extend(descriptors.0);
        Ok(put.0)
    }
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
    let count = sys::read_memory(pid, start, &mut code)?;
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
