//! The conversation with a guest over its serial port, which is the monitor's own input and output.

use std::io::{self, Read, Write};
use std::process::{ChildStdin, ChildStdout};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::limits::HEARTBEAT;
use crate::model::Cancel;
use crate::wire::{self, GREETING, HEADER, MAX_LINE, NOBODY, kind};

/// Pieces of output that wait to be heard before the guest waits too.
const WAITING: usize = 64;
/// Stack of the thread that listens to a guest.
const LISTENER_STACK: usize = 64 << 10;
/// Bytes that may come before a guest's greeting.
const MAX_NOISE: usize = 1 << 20;

/// A frame: its kind, its call, what it carries.
type Frame = (u8, u32, Vec<u8>);

/// One guest's serial port.
pub(super) struct Serial {
    to: ChildStdin,
    from: Receiver<io::Result<Vec<u8>>>,
    pending: Vec<u8>,
    next: u32,
    /// A call that was never answered: its guest may read nothing any more.
    owed: Option<u32>,
}

impl Serial {
    pub(super) fn new(to: ChildStdin, mut from: ChildStdout) -> io::Result<Self> {
        let (sender, receiver) = sync_channel(WAITING);
        thread::Builder::new()
            .name("serial".into())
            .stack_size(LISTENER_STACK)
            .spawn(move || listen(&mut from, &sender))?;
        Ok(Self {
            to,
            from: receiver,
            pending: Vec::new(),
            next: NOBODY + 1,
            owed: None,
        })
    }

    /// Waits until the guest has begun.
    pub(super) fn greet(&mut self, within: Duration) -> io::Result<()> {
        let until = Instant::now() + within;
        loop {
            let found = self
                .pending
                .windows(GREETING.len())
                .position(|some| some == GREETING);
            if let Some(at) = found {
                self.pending.drain(..at + GREETING.len());
                return Ok(());
            }
            if self.pending.len() > MAX_NOISE {
                return Err(io::Error::other("it said much, and never greeted"));
            }
            self.hear(until)?;
        }
    }

    /// A call: what it says is given to `output` as it comes. Answers the last frame's kind and payload.
    pub(super) fn call(
        &mut self,
        kind: u8,
        payload: &[u8],
        until: Option<Instant>,
        cancel: &Cancel,
        output: &mut dyn FnMut(&[u8]),
    ) -> io::Result<(u8, Vec<u8>)> {
        self.settle()?;
        if payload.len() > MAX_LINE {
            return Err(io::Error::other(format!(
                "{} bytes in one call; this guest takes {MAX_LINE}",
                payload.len()
            )));
        }
        let call = self.next;
        self.next = self.next.wrapping_add(1).max(NOBODY + 1);
        let mut frame = wire::header(kind, call, payload.len()).to_vec();
        frame.extend(payload);
        self.to.write_all(&frame)?;
        self.owed = Some(call);
        loop {
            let frame = self.frame(until, cancel)?;
            match frame {
                (kind::FAILED, NOBODY, why) => return Err(panicked(&why)),
                (kind::OUTPUT, of, bytes) if of == call => {
                    output(bytes.get(1..).unwrap_or_default());
                }
                (kind, of, bytes) if of == call => {
                    self.owed = None;
                    return Ok((kind, bytes));
                }
                _ => {}
            }
        }
    }

    /// Hears what an earlier call's caller did not wait for; refuses where it still is not answered.
    fn settle(&mut self) -> io::Result<()> {
        while let Some(owed) = self.owed {
            match self.frame(Some(Instant::now()), &Cancel::default()) {
                Ok((kind::FAILED, NOBODY, why)) => return Err(panicked(&why)),
                Ok((kind, of, _)) if of == owed && kind != kind::OUTPUT => self.owed = None,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    return Err(io::Error::new(
                        io::ErrorKind::TimedOut,
                        "the guest has not answered an earlier call: end it, and branch from a snapshot",
                    ));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn frame(&mut self, until: Option<Instant>, cancel: &Cancel) -> io::Result<Frame> {
        loop {
            if let Some(header) = self.pending.first_chunk::<HEADER>() {
                let (length, kind, call) = wire::parse_header(header);
                if length > wire::MAX_PAYLOAD {
                    return Err(io::Error::other("the guest does not speak in frames"));
                }
                if self.pending.len() >= HEADER + length {
                    let payload = self.pending[HEADER..HEADER + length].to_vec();
                    self.pending.drain(..HEADER + length);
                    return Ok((kind, call, payload));
                }
            }
            let beat = Instant::now() + HEARTBEAT;
            match self.hear(until.map_or(beat, |until| until.min(beat))) {
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    if cancel.is_cancelled() || until.is_some_and(|until| until <= Instant::now()) {
                        return Err(error);
                    }
                }
                heard => heard?,
            }
        }
    }

    fn hear(&mut self, until: Instant) -> io::Result<()> {
        let left = until.saturating_duration_since(Instant::now());
        match self.from.recv_timeout(left) {
            Ok(bytes) => {
                self.pending.extend(bytes?);
                Ok(())
            }
            Err(RecvTimeoutError::Timeout) => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the guest does not answer: end it, and branch from a snapshot",
            )),
            Err(RecvTimeoutError::Disconnected) => Err(gone()),
        }
    }
}

fn listen(from: &mut ChildStdout, to: &SyncSender<io::Result<Vec<u8>>>) {
    let mut buffer = [0; 4096];
    loop {
        let heard = match from.read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => Ok(buffer[..count].to_vec()),
            Err(error) => Err(error),
        };
        if to.send(heard).is_err() {
            return;
        }
    }
}

fn panicked(why: &[u8]) -> io::Error {
    let why = String::from_utf8_lossy(why);
    let said = format!("the guest panicked: {why}");
    io::Error::new(io::ErrorKind::ConnectionAborted, said)
}

/// Whether the guest answers nothing any more.
pub(super) fn is_end(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted};
    matches!(error.kind(), BrokenPipe | ConnectionAborted)
}

/// The machine ended under a call.
fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the machine ended")
}
