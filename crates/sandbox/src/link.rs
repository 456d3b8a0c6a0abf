//! The line to the agent of one world: calls go out, and what it says of each comes back.

use std::collections::HashMap;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::host;
use crate::limits::{ANSWER, MAX_FILE, MAX_UNHEARD};
use crate::wire::{self, Take, kind};

/// The agent's program.
pub(crate) static AGENT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/agent"));

/// Stack of the thread that listens to an agent.
const LISTENER_STACK: usize = 128 << 10;

/// What an agent says about a call.
#[derive(Debug)]
pub(crate) enum Event {
    Output(u8, Vec<u8>),
    Done(Vec<u8>, Option<OwnedFd>),
    Failed(String),
    Exit {
        code: i32,
        folder: String,
        environment: Vec<String>,
    },
    Result(Vec<u8>),
    KernelEnded(i32),
    /// A command has taken this much of its input.
    Taken(u32),
    /// The world is gone.
    Gone,
}

/// An event, and the bytes that it took on its way.
struct Heard {
    event: Event,
    size: usize,
}

/// A connection to an agent.
pub(crate) struct Link {
    /// None between two, where a machine's line is closed and made again.
    socket: Mutex<Option<Arc<UnixStream>>>,
    /// Held while a frame is written; whether the agent sleeps, and nothing may be said to it.
    writing: Mutex<bool>,
    woken: Condvar,
    calls: Mutex<HashMap<u32, Caller>>,
    next: AtomicU32,
}

/// Who made a call, as the listener knows it.
#[derive(Clone)]
struct Caller {
    events: Sender<Heard>,
    /// Bytes that wait to be heard, and the most that may.
    waiting: Arc<AtomicUsize>,
    most: usize,
}

/// A call in progress.
pub(crate) struct Call {
    pub(crate) link: Arc<Link>,
    /// Its number.
    pub(crate) number: u32,
    /// What waits to be heard is bounded by the agent, call by call: see `WINDOW`. So a caller who does not
    /// listen keeps nobody else waiting. An agent that does not keep to it is hung up on: see `MAX_UNHEARD`.
    events: Mutex<Receiver<Heard>>,
    waiting: Arc<AtomicUsize>,
    /// Bytes of output that were heard, and that the agent does not know of yet.
    heard: AtomicUsize,
    /// Whether more may come.
    is_open: AtomicBool,
}

impl Link {
    /// Starts to listen on a socket.
    pub(crate) fn new(socket: UnixStream) -> io::Result<Arc<Self>> {
        let socket = Arc::new(socket);
        let link = Arc::new(Self {
            socket: Mutex::new(Some(Arc::clone(&socket))),
            writing: Mutex::default(),
            woken: Condvar::new(),
            calls: Mutex::default(),
            next: AtomicU32::new(1),
        });
        link.hear(socket)?;
        Ok(link)
    }

    fn hear(self: &Arc<Self>, socket: Arc<UnixStream>) -> io::Result<()> {
        let listener = Arc::clone(self);
        let thread = thread::Builder::new().name("world".into());
        thread
            .stack_size(LISTENER_STACK)
            .spawn(move || listener.listen(&socket))
            .map(drop)
    }

    fn socket(&self) -> MutexGuard<'_, Option<Arc<UnixStream>>> {
        self.socket.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hangs up, for an agent that sleeps to call again: nothing is on its way, so nothing is lost.
    pub(crate) fn hang_up(&self) {
        if let Some(former) = self.socket().take() {
            let _ = former.shutdown(std::net::Shutdown::Both);
        }
    }

    /// Goes on over another socket, after [`hang_up`](Self::hang_up).
    pub(crate) fn go_on(self: &Arc<Self>, socket: UnixStream) -> io::Result<()> {
        let socket = Arc::new(socket);
        *self.socket() = Some(Arc::clone(&socket));
        self.hear(socket)
    }

    /// Ends the conversation; the agent ends with it.
    pub(crate) fn close(&self) {
        self.allow();
        self.hang_up();
        self.calls().clear();
    }

    /// Begins a call.
    pub(crate) fn call(
        self: &Arc<Self>,
        kind: u8,
        payload: &[u8],
        descriptors: &[BorrowedFd],
    ) -> io::Result<Call> {
        // A file is told in one go.
        let most = match kind {
            kind::READ => MAX_FILE + wire::MAX_PAYLOAD,
            _ => MAX_UNHEARD,
        };
        let call = self.register(most);
        self.tell(kind, call.number, payload, descriptors)?;
        Ok(call)
    }

    fn register(self: &Arc<Self>, most: usize) -> Call {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, events) = channel();
        let caller = Caller {
            events: sender,
            waiting: Arc::default(),
            most,
        };
        let waiting = Arc::clone(&caller.waiting);
        self.calls().insert(number, caller);
        Call {
            link: Arc::clone(self),
            number,
            events: Mutex::new(events),
            waiting,
            heard: AtomicUsize::new(0),
            is_open: AtomicBool::new(true),
        }
    }

    /// Says something more about a call.
    pub(crate) fn tell(
        &self,
        kind: u8,
        call: u32,
        payload: &[u8],
        descriptors: &[BorrowedFd],
    ) -> io::Result<()> {
        if payload.len() > wire::MAX_PAYLOAD {
            return Err(io::Error::other(format!(
                "{} bytes in one call; {} are the most",
                payload.len(),
                wire::MAX_PAYLOAD
            )));
        }
        let mut writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        while *writing {
            let woken = self.woken.wait(writing);
            writing = woken.unwrap_or_else(PoisonError::into_inner);
        }
        self.put(kind, call, payload, descriptors)
    }

    fn put(
        &self,
        kind: u8,
        call: u32,
        payload: &[u8],
        descriptors: &[BorrowedFd],
    ) -> io::Result<()> {
        let mut frame = wire::header(kind, call, payload.len()).to_vec();
        frame.extend(payload);
        let socket = self.socket().clone().ok_or_else(gone)?;
        host::send(&socket, &frame, descriptors)
    }

    /// Has the agent of a machine fall asleep: when this returns, nothing is on its way in either
    /// direction, and nothing will be until [`wake`](Self::wake).
    pub(crate) fn hush(self: &Arc<Self>, patience: Duration) -> io::Result<()> {
        let call = self.register(MAX_UNHEARD);
        let mut writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        self.put(kind::QUIESCE, call.number, &[], &[])?;
        *writing = true;
        drop(writing);
        let asleep = call.done(patience);
        if asleep.is_err() {
            self.allow();
        }
        asleep
    }

    /// The number of the next call.
    pub(crate) fn calls_so_far(&self) -> u32 {
        self.next.load(Ordering::Relaxed)
    }

    /// Says nothing to an agent until [`wake`](Self::wake): this one was asleep when its picture was taken,
    /// and may still answer calls of lower numbers than this.
    pub(crate) fn is_asleep(&self, next: u32) {
        self.next.store(next, Ordering::Relaxed);
        *self.writing.lock().unwrap_or_else(PoisonError::into_inner) = true;
    }

    /// Wakes the agent, with who and when it is.
    pub(crate) fn wake(self: &Arc<Self>, identity: &[u8], patience: Duration) -> io::Result<()> {
        let call = self.register(MAX_UNHEARD);
        let woken = self.put(kind::WAKE, call.number, identity, &[]);
        self.allow();
        woken.and_then(|()| call.done(patience))
    }

    fn allow(&self) {
        *self.writing.lock().unwrap_or_else(PoisonError::into_inner) = false;
        self.woken.notify_all();
    }

    /// A call whose answer comes at once: its payload, and a descriptor if one came along.
    pub(crate) fn ask(
        self: &Arc<Self>,
        kind: u8,
        payload: &[u8],
        descriptors: &[BorrowedFd],
    ) -> io::Result<(Vec<u8>, Option<OwnedFd>)> {
        let call = self.call(kind, payload, descriptors)?;
        let until = Instant::now() + ANSWER;
        let mut said = Vec::new();
        loop {
            match call.next(Some(until))? {
                Event::Done(payload, descriptor) if said.is_empty() => {
                    return Ok((payload, descriptor));
                }
                Event::Done(_, descriptor) => return Ok((said, descriptor)),
                Event::Output(_, bytes) if said.len() + bytes.len() <= MAX_FILE => {
                    said.extend(bytes);
                }
                Event::Failed(why) => return Err(io::Error::other(why)),
                Event::Gone => return Err(gone()),
                other => {
                    return Err(io::Error::other(format!(
                        "the agent answered out of turn: {other:?}"
                    )));
                }
            }
        }
    }

    fn calls(&self) -> std::sync::MutexGuard<'_, HashMap<u32, Caller>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listen(&self, socket: &Arc<UnixStream>) {
        let mut pending = Vec::new();
        let mut buffer = vec![0; 64 << 10];
        let mut carried = None;
        while let Ok((count @ 1.., descriptor)) = host::receive(socket, &mut buffer) {
            pending.extend(&buffer[..count]);
            carried = descriptor.or(carried);
            let mut at = 0;
            while let Some(header) = pending[at..].first_chunk::<{ wire::HEADER }>() {
                let (length, kind, call) = wire::parse_header(header);
                let end = at + wire::HEADER + length;
                if length > wire::MAX_PAYLOAD {
                    self.close();
                    break;
                }
                if pending.len() < end {
                    break;
                }
                self.dispatch(kind, call, &pending[at + wire::HEADER..end], &mut carried);
                at = end;
            }
            pending.drain(..at);
        }
        if self
            .socket()
            .as_ref()
            .is_none_or(|now| !Arc::ptr_eq(now, socket))
        {
            return;
        }
        // Who hears nothing more finds the channel closed, which says the same.
        self.calls().clear();
        self.allow();
    }

    /// Gives an event to the caller; one that nobody waits for any more is dropped.
    fn dispatch(&self, kind: u8, call: u32, payload: &[u8], carried: &mut Option<OwnedFd>) {
        let mut take = Take(payload);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let event = match kind {
            kind::OUTPUT => payload
                .split_first()
                .map(|(stream, bytes)| Event::Output(*stream, bytes.to_vec())),
            kind::DONE => Some(Event::Done(payload.to_vec(), carried.take())),
            kind::FAILED => Some(Event::Failed(text(payload))),
            kind::RESULT => Some(Event::Result(payload.to_vec())),
            kind::KERNEL_ENDED => take.u32().map(|code| Event::KernelEnded(code as i32)),
            kind::TAKEN => take.u32().map(Event::Taken),
            kind::EXIT => (|| {
                let code = take.u32()? as i32;
                let folder = take.text()?;
                let environment = take.list()?.into_iter().map(text).collect();
                Some(Event::Exit {
                    code,
                    folder,
                    environment,
                })
            })(),
            _ => None,
        };
        let caller = self.calls().get(&call).cloned();
        if let (Some(caller), Some(event)) = (caller, event) {
            // Something of no length takes room too.
            let size = payload.len().max(1);
            if caller.waiting.fetch_add(size, Ordering::AcqRel) > caller.most {
                return self.close();
            }
            let _ = caller.events.send(Heard { event, size });
        }
    }
}

impl Call {
    /// The next event; an error of the kind `TimedOut` when it does not come in time.
    pub(crate) fn next(&self, until: Option<Instant>) -> io::Result<Event> {
        let event = self.wait(until)?;
        match &event {
            Event::Output(_, bytes) => self.hear(bytes.len()),
            Event::Taken(_) => {}
            _ => self.is_open.store(false, Ordering::Release),
        }
        Ok(event)
    }

    /// Tells the agent now and then how much was heard.
    fn hear(&self, count: usize) {
        const SOME: usize = wire::WINDOW / 4;
        let heard = self.heard.fetch_add(count, Ordering::AcqRel) + count;
        if heard >= SOME {
            self.heard.fetch_sub(heard, Ordering::AcqRel);
            let count = (heard as u32).to_le_bytes();
            // An agent that does not hear it is gone, which the next event says.
            let _ = self.link.tell(kind::HEARD, self.number, &count, &[]);
        }
    }

    /// Waits for the answer that it is done.
    pub(crate) fn done(&self, patience: Duration) -> io::Result<()> {
        match self.next(Some(Instant::now() + patience))? {
            Event::Done(..) => Ok(()),
            Event::Failed(why) => Err(io::Error::other(why)),
            Event::Gone => Err(gone()),
            other => Err(io::Error::other(format!(
                "the agent answered out of turn: {other:?}"
            ))),
        }
    }

    fn wait(&self, until: Option<Instant>) -> io::Result<Event> {
        let events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        let heard = match until {
            None => events.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(until) => events.recv_timeout(until.saturating_duration_since(Instant::now())),
        };
        match heard {
            Ok(Heard { event, size }) => {
                self.waiting.fetch_sub(size, Ordering::AcqRel);
                Ok(event)
            }
            Err(RecvTimeoutError::Disconnected) => Ok(Event::Gone),
            Err(RecvTimeoutError::Timeout) => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "no answer came in time",
            )),
        }
    }

    /// Sends a signal to what the call runs.
    pub(crate) fn signal(&self, signal: i32) -> io::Result<()> {
        self.link.tell(
            kind::SIGNAL,
            self.number,
            &(signal as u32).to_le_bytes(),
            &[],
        )
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.link.calls().remove(&self.number);
        if self.is_open.load(Ordering::Acquire) {
            let uncounted = wire::UNCOUNTED.to_le_bytes();
            let _ = self.link.tell(kind::HEARD, self.number, &uncounted, &[]);
        }
    }
}

/// The world ended under a call.
pub(crate) fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the world ended")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn an_agent_that_says_more_than_anybody_hears_is_hung_up_on() {
        const FRAME: usize = 1 << 20;
        let (ours, mut agent) = UnixStream::pair().unwrap();
        let link = Link::new(ours).unwrap();
        let call = link.call(kind::SPAWN, &[], &[]).unwrap();
        let mut frame = wire::header(kind::OUTPUT, call.number, FRAME).to_vec();
        frame.resize(frame.len() + FRAME, 1);
        let took = (0..4 * MAX_UNHEARD / FRAME).take_while(|_| agent.write_all(&frame).is_ok());
        assert!(took.count() <= MAX_UNHEARD / FRAME + 4);
        let mut heard = 0;
        while let Event::Output(_, bytes) = call.next(None).unwrap() {
            heard += bytes.len();
        }
        assert!(heard <= MAX_UNHEARD + FRAME);
    }
}
