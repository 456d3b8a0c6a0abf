//! Lets branches begin while the snapshot that they come from is still being written.
//!
//! Its memory is an anonymous file then, empty at first. Branches map it as they would map the
//! snapshot's own file. A page that is touched before it is there is brought from the interpreter's
//! stopped copy, and the kernel lets the toucher wait for that; the others come as they are written.
//! When all are there, it is a file like any other, and nothing here has a part in it any more.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::thread::{self, JoinHandle};

use super::capture::{self, Picture};
use super::userfault::{self, Event, PAGE, Window};
use crate::host;

/// How much is brought for one page that is touched.
const AROUND: u64 = 64 << 10;
/// How much is written at a time.
const CHUNK: u64 = 1 << 20;

/// A snapshot whose memory is being written.
pub(super) struct Draft {
    pub(super) picture: Arc<Picture>,
    phase: Mutex<Phase>,
}

enum Phase {
    /// Nobody has needed it yet.
    Unasked,
    /// There are branches.
    Asked(Arc<Memory>),
    /// It is in its file.
    Written,
}

impl Draft {
    pub(super) fn new(picture: Picture) -> Self {
        Self {
            picture: Arc::new(picture),
            phase: Mutex::new(Phase::Unasked),
        }
    }

    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its memory to map; none when its file is there.
    pub(super) fn memory(&self, pager: &Pager) -> io::Result<Option<Arc<Memory>>> {
        let mut phase = self.phase();
        if matches!(*phase, Phase::Unasked) {
            *phase = Phase::Asked(Arc::new(Memory::new(&pager.device, &self.picture)?));
        }
        Ok(match &*phase {
            Phase::Asked(memory) => Some(Arc::clone(memory)),
            _ => None,
        })
    }

    /// Writes it to its file, and to those who have asked meanwhile.
    pub(super) fn write(&self, pages: &Path) -> io::Result<()> {
        let mut out = host::private_file(pages)?;
        let mut buffer = vec![0; CHUNK as usize];
        let mut at = 0;
        while at < self.picture.written {
            let part = &mut buffer[..(self.picture.written - at).min(CHUNK) as usize];
            self.picture.read(at, part)?;
            out.write_all(part)?;
            if let Phase::Asked(memory) = &*self.phase() {
                memory.put(at, part)?;
            }
            at += part.len() as u64;
        }
        Ok(())
    }

    /// From now on its file is to be used. Gives the memory of those who have come early.
    pub(super) fn close(&self) -> Option<Arc<Memory>> {
        match std::mem::replace(&mut *self.phase(), Phase::Written) {
            Phase::Asked(memory) => Some(memory),
            _ => None,
        }
    }
}

/// The memory of a snapshot that branches map before its file is written.
pub(super) struct Memory {
    file: File,
    picture: Arc<Picture>,
    /// Through which it is filled, until it is full.
    window: RwLock<Option<Window>>,
    /// One page in this many bytes is known to be there, and so are its neighbours.
    brought: Mutex<Vec<bool>>,
    complete: AtomicBool,
}

impl Memory {
    fn new(device: &File, picture: &Arc<Picture>) -> io::Result<Self> {
        let length = picture.written.max(PAGE);
        let file = userfault::memory(length)?;
        let window = Window::new(device, &file, length)?;
        let memory = Self {
            file,
            picture: Arc::clone(picture),
            window: RwLock::new(Some(window)),
            brought: Mutex::new(vec![false; length.div_ceil(AROUND) as usize]),
            complete: AtomicBool::new(picture.written == 0),
        };
        // The loader reads these instead of mapping them, and a read does not wait.
        for (offset, length) in picture.copied() {
            memory.fill(offset, length)?;
        }
        Ok(memory)
    }

    /// Device and inode.
    pub(super) fn identity(&self) -> io::Result<(u64, u64)> {
        let meta = self.file.metadata()?;
        Ok((meta.dev(), meta.ino()))
    }

    /// A descriptor of it that nobody can write through.
    pub(super) fn readable(&self) -> io::Result<File> {
        use std::os::fd::AsRawFd;
        File::open(format!("/proc/self/fd/{}", self.file.as_raw_fd()))
    }

    fn put(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let window = self.window.read().unwrap_or_else(PoisonError::into_inner);
        match &*window {
            Some(window) => window.put(offset, bytes),
            None => Ok(()),
        }
    }

    fn brought(&self) -> MutexGuard<'_, Vec<bool>> {
        self.brought.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fill(&self, offset: u64, length: u64) -> io::Result<()> {
        let end = (offset + length).min(self.picture.written);
        let mut at = offset - offset % AROUND;
        while at < end {
            self.bring(at)?;
            at += AROUND;
        }
        Ok(())
    }

    /// Brings the page at `offset`, and those around it.
    fn bring(&self, offset: u64) -> io::Result<()> {
        let chunk = (offset / AROUND) as usize;
        let start = chunk as u64 * AROUND;
        if self.brought().get(chunk).copied() != Some(false) {
            return Ok(());
        }
        let mut buffer = vec![0; (self.picture.written - start).min(AROUND) as usize];
        match self.picture.read(start, &mut buffer) {
            Ok(()) => self.put(start, &buffer)?,
            // All came meanwhile, and the stopped copy has ended.
            Err(_) if self.is_complete() => {}
            Err(error) => return Err(error),
        }
        self.brought()[chunk] = true;
        Ok(())
    }

    /// Brings all that is not there.
    pub(super) fn complete(&self) -> io::Result<()> {
        self.fill(0, self.picture.written)?;
        self.complete.store(true, Ordering::Release);
        *self.window.write().unwrap_or_else(PoisonError::into_inner) = None;
        Ok(())
    }

    fn is_complete(&self) -> bool {
        self.complete.load(Ordering::Acquire)
    }
}

/// Addresses that map a memory from some offset on.
#[derive(Clone)]
pub(super) struct Span {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) offset: u64,
    pub(super) memory: Arc<Memory>,
}

/// Where the process of a plan maps memories that are not complete. They stand at the places of their
/// layers.
pub(super) fn spans(plan: &[u8], early: &[Option<Arc<Memory>>]) -> io::Result<Vec<Span>> {
    let mapped = capture::mapped(plan).ok_or(io::ErrorKind::InvalidData)?;
    let span = |one: capture::Mapped| {
        let memory = early.get(one.layer as usize)?.clone()?;
        Some(Span {
            start: one.start,
            end: one.end,
            offset: one.offset,
            memory,
        })
    };
    Ok(mapped.into_iter().filter_map(span).collect())
}

/// What a world holds as long as it lives, and its pager only looks at.
pub(super) type Held = Arc<Vec<Arc<Memory>>>;

/// A process that waits for pages.
struct Client {
    faults: OwnedFd,
    spans: Spans<Arc<Memory>>,
    world: Weak<Vec<Arc<Memory>>>,
}

/// Addresses, and what they map, by their first. Later ones take the place of earlier ones.
#[derive(Clone)]
struct Spans<M>(BTreeMap<u64, Part<M>>);

/// Addresses up to `end` that map `what` from `offset` on.
#[derive(Clone)]
struct Part<M> {
    end: u64,
    offset: u64,
    what: M,
}

impl<M: Clone> Spans<M> {
    fn place(&mut self, start: u64, end: u64, offset: u64, what: M) {
        self.cut(start, end);
        self.0.insert(start, Part { end, offset, what });
    }

    /// Takes out what maps these addresses.
    fn cut(&mut self, start: u64, end: u64) -> Vec<(u64, Part<M>)> {
        self.split(start);
        self.split(end);
        let inside: Vec<u64> = self.0.range(start..end).map(|(first, _)| *first).collect();
        let take = |first| self.0.remove_entry(&first);
        inside.into_iter().filter_map(take).collect()
    }

    /// Makes two of what maps both sides of an address.
    fn split(&mut self, at: u64) {
        let Some((first, part)) = self.0.range_mut(..at).next_back() else {
            return;
        };
        if part.end > at {
            let after = Part {
                offset: part.offset + (at - first),
                ..part.clone()
            };
            part.end = at;
            self.0.insert(at, after);
        }
    }

    fn shift(&mut self, from: u64, to: u64, length: u64) {
        for (start, part) in self.cut(from, from + length) {
            let moved = |address| address - from + to;
            self.place(moved(start), moved(part.end), part.offset, part.what);
        }
    }

    /// What an address maps, and where in it. A mapping may have grown in place, and goes on in its file.
    fn find(&self, address: u64) -> Option<(&M, u64)> {
        let (start, part) = self.0.range(..=address).next_back()?;
        Some((&part.what, part.offset + (address - start)))
    }
}

impl Client {
    fn is_needed(&self) -> bool {
        let open = |part: &Part<Arc<Memory>>| !part.what.is_complete();
        self.world.strong_count() > 0 && self.spans.0.values().any(open)
    }

    /// Answers all that its process waits for; gives the children that it has made.
    fn serve(&mut self) -> io::Result<Vec<Self>> {
        let mut children = Vec::new();
        while let Some(event) = userfault::next(self.faults.as_fd())? {
            match event {
                Event::Fault(address) => self.bring(address - address % PAGE)?,
                Event::Fork(faults) => children.push(Self {
                    faults: userfault::take(faults),
                    spans: self.spans.clone(),
                    world: self.world.clone(),
                }),
                Event::Move { from, to, length } => self.spans.shift(from, to, length),
            }
        }
        Ok(children)
    }

    fn bring(&self, page: u64) -> io::Result<()> {
        let brought = match self.spans.find(page) {
            Some((memory, offset)) => memory.bring(offset),
            None => Err(io::Error::other("nothing is known of a page")),
        };
        match brought {
            Ok(()) => userfault::wake(self.faults.as_fd(), page),
            Err(error) => {
                // Zeros in its place would be a lie; whoever touches it ends.
                tracing::error!("a page of a branch cannot be brought: {error}");
                userfault::poison(self.faults.as_fd(), page)
            }
        }
    }
}

/// The thread that brings pages.
pub(super) struct Pager {
    device: File,
    clients: Mutex<Option<(Sender<Client>, JoinHandle<()>)>>,
    bell: UnixStream,
}

impl Pager {
    /// An error where this host does not offer it to this program.
    pub(super) fn start() -> io::Result<Self> {
        let device = userfault::device()?;
        userfault::agree(userfault::for_this_program(&device)?.as_fd())?;
        let (bell, hears) = UnixStream::pair()?;
        bell.set_nonblocking(true)?;
        hears.set_nonblocking(true)?;
        let (sender, incoming) = channel();
        let thread = thread::Builder::new()
            .name("pager".into())
            .spawn(move || run(&hears, &incoming))?;
        Ok(Self {
            device,
            clients: Mutex::new(Some((sender, thread))),
            bell,
        })
    }

    pub(super) fn device(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }

    /// Brings pages to the process of `faults` from now on.
    pub(super) fn add(&self, faults: OwnedFd, spans: Vec<Span>, world: &Held) -> io::Result<()> {
        userfault::agree(faults.as_fd())?;
        let mut placed = Spans(BTreeMap::new());
        for span in spans {
            placed.place(span.start, span.end, span.offset, span.memory);
        }
        let client = Client {
            faults,
            spans: placed,
            world: Arc::downgrade(world),
        };
        let clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let gone = || io::Error::other("no pages are brought any more");
        let (sender, _) = clients.as_ref().ok_or_else(gone)?;
        sender.send(client).map_err(|_| gone())?;
        drop(clients);
        self.look();
        Ok(())
    }

    /// Has the thread look for what has changed.
    pub(super) fn look(&self) {
        // A bell that has not been heard yet is as good as another.
        let _ = (&self.bell).write(&[1]);
    }

    /// Ends the thread.
    pub(super) fn close(&self) {
        let taken = self
            .clients
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some((sender, thread)) = taken {
            drop(sender);
            self.look();
            let _ = thread.join();
        }
    }
}

fn run(bell: &UnixStream, incoming: &Receiver<Client>) {
    let mut clients: Vec<Client> = Vec::new();
    loop {
        let mut descriptors = vec![bell.as_fd()];
        descriptors.extend(clients.iter().map(|client| client.faults.as_fd()));
        let ready = match userfault::wait(&descriptors) {
            Ok(ready) => ready,
            Err(error) => return tracing::error!("no pages are brought any more: {error}"),
        };
        let mut children = Vec::new();
        for (client, _) in clients
            .iter_mut()
            .zip(&ready[1..])
            .filter(|(_, ready)| **ready)
        {
            match client.serve() {
                Ok(made) => children.extend(made),
                // Its process has just ended.
                Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
                Err(error) => tracing::error!("a branch waits for a page: {error}"),
            }
        }
        clients.extend(children);
        if ready[0] {
            let _ = (&mut &*bell).read(&mut [0; 64]);
            loop {
                match incoming.try_recv() {
                    Ok(client) => clients.push(client),
                    Err(std::sync::mpsc::TryRecvError::Empty) => break,
                    Err(std::sync::mpsc::TryRecvError::Disconnected) => return,
                }
            }
            clients.retain(Client::is_needed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_came_while_it_was_asked_for_is_no_error() {
        let memory = Memory {
            file: userfault::memory(PAGE).unwrap(),
            picture: Arc::new(Picture::of_nobody().unwrap()),
            window: RwLock::new(None),
            brought: Mutex::new(vec![false]),
            complete: AtomicBool::new(false),
        };
        assert!(memory.bring(0).is_err());
        memory.complete.store(true, Ordering::Release);
        memory.bring(0).unwrap();
    }

    #[test]
    fn later_spans_take_the_place_of_earlier_ones_and_moves_carry_their_offsets() {
        let mut spans = Spans(BTreeMap::new());
        spans.place(0, 100, 1000, 'a');
        spans.place(40, 60, 0, 'b');
        let find = |spans: &Spans<char>, at| spans.find(at).map(|(what, offset)| (*what, offset));
        assert_eq!(find(&spans, 39), Some(('a', 1039)));
        assert_eq!(find(&spans, 40), Some(('b', 0)));
        assert_eq!(find(&spans, 60), Some(('a', 1060)));
        spans.shift(50, 500, 20);
        assert_eq!(find(&spans, 505), Some(('b', 15)));
        assert_eq!(find(&spans, 512), Some(('a', 1062)));
        assert_eq!(find(&spans, 49), Some(('b', 9)));
        assert_eq!(find(&spans, 75), Some(('a', 1075)));
    }
}
