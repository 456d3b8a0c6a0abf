//! The memory of a machine: an anonymous file that nobody can write any more. Machines map it privately, so
//! what they write is theirs, and their pictures are what they wrote over what was there.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;

use rustix::fs::{MemfdFlags, SealFlags};
use sha2::{Digest, Sha256};

use crate::host;

pub(super) const PAGE: usize = 4096;
/// Pages that are copied at once.
const RUN: usize = 256;
/// How the kernel names it in the map of a process that has it.
const NAME: &str = "worldline-machine";

/// Which pages of a memory.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pages(Vec<u64>);

impl Pages {
    fn none(count: usize) -> Self {
        Self(vec![0; count.div_ceil(64)])
    }

    fn has(&self, page: usize) -> bool {
        self.0[page / 64] >> (page % 64) & 1 == 1
    }

    fn add(&mut self, page: usize) {
        self.0[page / 64] |= 1 << (page % 64);
    }

    /// Those of `0..count` that are wanted, as runs that are not too long: the first page and how many.
    fn runs(count: usize, wanted: impl Fn(usize) -> bool) -> Vec<(usize, usize)> {
        let mut runs: Vec<(usize, usize)> = Vec::new();
        for page in (0..count).filter(|page| wanted(*page)) {
            match runs.last_mut() {
                Some((first, length)) if *first + *length == page && *length < RUN => *length += 1,
                _ => runs.push((page, 1)),
            }
        }
        runs
    }
}

/// A memory.
#[derive(Debug)]
pub(super) struct Memory {
    file: File,
    count: usize,
    /// Pages that are not all zeros.
    full: Pages,
}

impl Memory {
    /// One of zeros.
    pub(super) fn blank(mib: u32) -> io::Result<Self> {
        let memory = Self::new((mib as usize) << 8)?;
        memory.seal()?;
        Ok(memory)
    }

    fn new(count: usize) -> io::Result<Self> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = File::from(rustix::fs::memfd_create(NAME, flags)?);
        file.set_len((count * PAGE) as u64)?;
        Ok(Self {
            file,
            count,
            full: Pages::none(count),
        })
    }

    /// From now on it can neither be written nor cut short, by us or by who maps it.
    fn seal(&self) -> io::Result<()> {
        let seals = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        Ok(rustix::fs::fcntl_add_seals(&self.file, seals)?)
    }

    /// The file, for a machine to map.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Bytes of pages that are not zeros.
    pub(super) fn bytes(&self) -> u64 {
        self.full
            .0
            .iter()
            .map(|word| u64::from(word.count_ones()))
            .sum::<u64>()
            * PAGE as u64
    }

    fn put(&mut self, page: usize, bytes: &[u8]) -> io::Result<()> {
        const ZEROS: [u8; PAGE] = [0; PAGE];
        let full: Vec<bool> = bytes.chunks(PAGE).map(|page| page != &ZEROS[..]).collect();
        for (first, length) in Pages::runs(full.len(), |at| full[at]) {
            let part = &bytes[first * PAGE..(first + length) * PAGE];
            self.file
                .write_all_at(part, ((page + first) * PAGE) as u64)?;
            (first..first + length).for_each(|at| self.full.add(page + at));
        }
        Ok(())
    }

    /// Writes it: how many runs, the first page and the length of each, and their bytes. Gives the digest of
    /// what was written.
    pub(super) fn save(&self, to: impl Write) -> io::Result<String> {
        let mut to = Hashed(to, Sha256::new());
        let runs = Pages::runs(self.count, |page| self.full.has(page));
        for number in [self.count, runs.len()]
            .into_iter()
            .chain(runs.iter().flat_map(|(first, length)| [*first, *length]))
        {
            to.write_all(&(number as u64).to_le_bytes())?;
        }
        let mut buffer = vec![0; RUN * PAGE];
        for (first, length) in runs {
            let part = &mut buffer[..length * PAGE];
            self.file.read_exact_at(part, (first * PAGE) as u64)?;
            to.write_all(part)?;
        }
        to.flush()?;
        Ok(format!("sha256:{:x}", to.1.finalize()))
    }

    /// Reads what was saved; gives its digest too.
    pub(super) fn load(from: impl Read, mib: u32) -> io::Result<(Self, String)> {
        let odd = || io::Error::new(io::ErrorKind::InvalidData, "this is no memory of that size");
        let mut from = Hashing(from, Sha256::new());
        let mut memory = Self::new((mib as usize) << 8)?;
        let mut number = || {
            let mut bytes = [0; 8];
            from.read_exact(&mut bytes)
                .map(|()| u64::from_le_bytes(bytes) as usize)
        };
        if number()? != memory.count {
            return Err(odd());
        }
        let runs = number()?;
        if runs > memory.count {
            return Err(odd());
        }
        let runs: Vec<(usize, usize)> = (0..runs)
            .map(|_| Ok((number()?, number()?)))
            .collect::<io::Result<_>>()?;
        let mut buffer = vec![0; RUN * PAGE];
        for (first, length) in runs {
            if length > RUN || first.saturating_add(length) > memory.count {
                return Err(odd());
            }
            from.read_exact(&mut buffer[..length * PAGE])?;
            memory.put(first, &buffer[..length * PAGE])?;
        }
        memory.seal()?;
        Ok((memory, format!("sha256:{:x}", from.1.finalize())))
    }
}

struct Hashed<W>(W, Sha256);

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.0.write(bytes)?;
        self.1.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

struct Hashing<R>(R, Sha256);

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let count = self.0.read(bytes)?;
        self.1.update(&bytes[..count]);
        Ok(count)
    }
}

/// What a machine wrote over the memory that it began with. The machine stands still while it is taken.
pub(super) struct Negative {
    memory: Memory,
    own: Pages,
}

impl Negative {
    /// Copies what process `pid` wrote of its `base`.
    pub(super) fn take(pid: i32, base: &Memory) -> io::Result<Self> {
        let start = find(pid, base.count)?;
        let mut own = Pages::none(base.count);
        let mut map = vec![0; base.count * 8];
        File::open(format!("/proc/{pid}/pagemap"))?
            .read_exact_at(&mut map, start / PAGE as u64 * 8)?;
        for (page, entry) in map.chunks_exact(8).enumerate() {
            if is_own(entry) {
                own.add(page);
            }
        }
        let mut memory = Memory::new(base.count)?;
        let mut buffer = vec![0; RUN * PAGE];
        for (first, length) in Pages::runs(base.count, |page| own.has(page)) {
            let part = &mut buffer[..length * PAGE];
            read_exact(pid, start + (first * PAGE) as u64, part)?;
            memory.put(first, part)?;
        }
        Ok(Self { memory, own })
    }

    /// Adds what was not written.
    pub(super) fn develop(mut self, base: &Memory) -> io::Result<Memory> {
        let mut buffer = vec![0; RUN * PAGE];
        let rest = Pages::runs(base.count, |page| {
            base.full.has(page) && !self.own.has(page)
        });
        for (first, length) in rest {
            let part = &mut buffer[..length * PAGE];
            base.file.read_exact_at(part, (first * PAGE) as u64)?;
            self.memory.file.write_all_at(part, (first * PAGE) as u64)?;
            (first..first + length).for_each(|page| self.memory.full.add(page));
        }
        self.memory.seal()?;
        Ok(self.memory)
    }
}

/// Whether a page of a private map was written by its process (the kernel's
/// `Documentation/admin-guide/mm/pagemap.rst`): it is there or swapped out, and of no file.
fn is_own(entry: &[u8]) -> bool {
    const FILE: u8 = 1 << 5;
    const SWAPPED: u8 = 1 << 6;
    const PRESENT: u8 = 1 << 7;
    entry[7] & (PRESENT | SWAPPED) != 0 && entry[7] & FILE == 0
}

/// Where a process has its memory of this many pages.
fn find(pid: i32, count: usize) -> io::Result<u64> {
    let map = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let mut starts = map
        .lines()
        .filter(|line| line.contains(NAME))
        .filter_map(|line| {
            let (start, end) = line.split(' ').next()?.split_once('-')?;
            let (start, end) = (
                u64::from_str_radix(start, 16).ok()?,
                u64::from_str_radix(end, 16).ok()?,
            );
            (end - start == (count * PAGE) as u64).then_some(start)
        });
    starts
        .next_back()
        .ok_or_else(|| io::Error::other("the monitor does not map its machine's memory"))
}

fn read_exact(pid: i32, mut from: u64, mut buffer: &mut [u8]) -> io::Result<()> {
    while !buffer.is_empty() {
        let count = host::read_memory(pid, from, buffer)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        from += count as u64;
        buffer = &mut buffer[count..];
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_memory_that_is_saved_is_loaded_and_a_changed_one_has_another_digest() {
        let mut memory = Memory::new(1 << 8).unwrap();
        memory.put(3, &[7; 2 * PAGE]).unwrap();
        memory.put(200, &[0; PAGE]).unwrap();
        memory.seal().unwrap();
        assert_eq!(memory.bytes(), 2 * PAGE as u64);
        assert!(memory.file.write_all_at(&[1], 0).is_err());
        assert!(memory.file.set_len(0).is_err());
        let mut saved = Vec::new();
        let digest = memory.save(&mut saved).unwrap();
        let (again, same) = Memory::load(&saved[..], 1).unwrap();
        assert_eq!((&again.full, &same), (&memory.full, &digest));
        *saved.last_mut().unwrap() ^= 1;
        assert_ne!(Memory::load(&saved[..], 1).unwrap().1, digest);
        assert!(Memory::load(&saved[..], 2).is_err());
        assert!(Memory::load(&saved[..saved.len() - 1], 1).is_err());
    }

    #[test]
    fn runs_are_bounded() {
        assert_eq!(Pages::runs(10, |page| page != 4), [(0, 4), (5, 5)]);
        assert_eq!(Pages::runs(2 * RUN, |_| true), [(0, RUN), (RUN, RUN)]);
    }
}
