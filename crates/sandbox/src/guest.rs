//! A whole Linux in a machine, whatever monitor runs it: who it is told that it is, its interpreter and disk,
//! and connections into it.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::error::{CreateError, ExecError, ResizeError};
use crate::limits::DISK_MIB;
use crate::model::{Spec, Stream};
use crate::network::Names;
use crate::proxy;
use crate::talk::{InWorld, Talk};
use crate::wire::{Put, Take, kind};
use crate::{Running, Said};

/// How long a machine and its interpreter may take to begin.
pub(crate) const START: Duration = Duration::from_secs(600);
/// How long the first byte of a connection may take.
const CONNECTING: Duration = Duration::from_secs(20);
const STACK: usize = 128 << 10;
/// What comes first over a connection that stands.
const CONNECTED: [u8; 1] = [1];
/// What is kept of what a monitor and its machine's console say.
const LAST_WORDS: usize = 4 << 10;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Who and when a machine is to be.
pub(crate) fn identity(id: &str, spec: &Spec, is_branch: bool) -> Vec<u8> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let mut entropy = [0; 32];
    // Without it the machine goes on with what it has, mixed with the time.
    let _ = getrandom::fill(&mut entropy);
    Put::default()
        .bytes(id.rsplit('-').next().unwrap_or(id))
        .u64(now.as_secs())
        .u64(now.subsec_nanos().into())
        .bytes(entropy)
        .u64(disk_bytes(spec.disk_mib, spec.memory_mib))
        .u32(is_branch.into())
        .0
}

/// What a branch is given: what its snapshot was, for a machine cannot be given more or less.
pub(crate) fn inherit(spec: &Spec, was: &Spec) -> Result<Spec, CreateError> {
    let usual = Spec::default();
    let same = |asked: u32, was: u32, usual: u32| asked == was || asked == usual;
    if !same(spec.memory_mib, was.memory_mib, usual.memory_mib)
        || !same(spec.vcpus, was.vcpus, usual.vcpus)
    {
        return Err(CreateError::Lacks(
            "other memory or processors than its snapshot: a machine keeps those that it began with",
        ));
    }
    Ok(Spec {
        memory_mib: was.memory_mib,
        vcpus: was.vcpus,
        network: spec.network.clone().or_else(|| was.network.clone()),
        ..spec.clone()
    })
}

/// Another interpreter in the place of one that ended with a code.
pub(crate) fn replace_interpreter(talk: &Talk, spec: &Spec, code: i32) -> ExecError {
    const KILLED: i32 = 128 + libc::SIGKILL;
    let why = match code {
        KILLED => format!(
            "it was killed, as when it needs more than its machine's {} MiB of memory",
            spec.memory_mib
        ),
        129.. => format!("signal {}", code - 128),
        _ => format!("exit code {code}"),
    };
    let begun = talk.start_interpreter();
    let networked = spec.network.as_ref().is_some_and(|names| !names.is_empty());
    let begun = begun.and_then(|_| {
        talk.first_answer(spec, networked, START)
            .map_err(io::Error::other)
    });
    match begun {
        Ok(()) => ExecError::InterpreterEnded { why },
        Err(error) => ExecError::InterpreterEnded {
            why: format!("{why}; a new one does not start: {error}"),
        },
    }
}

/// How much of a machine's memory its files may take: what was asked for, and at most half.
fn disk_bytes(disk_mib: u32, memory_mib: u32) -> u64 {
    u64::from(disk_mib.min(memory_mib / 2)) << 20
}

/// Holds what a machine of so much memory writes to another size.
pub(crate) fn resize_disk(talk: &Talk, memory_mib: u32, mib: u32) -> Result<(), ResizeError> {
    if talk.has_ended() {
        return Err(ResizeError::Gone(talk.id.clone()));
    }
    if !DISK_MIB.contains(&mib) {
        return Err(ResizeError::Size { asked: mib });
    }
    let (bytes, written) = (disk_bytes(mib, memory_mib), disk_used(talk));
    if written > bytes {
        return Err(ResizeError::Full {
            written: written >> 20,
            asked: mib,
        });
    }
    let bytes = Put::default().u64(bytes);
    talk.link.ask(kind::DISK, &bytes.0, &[])?;
    Ok(())
}

/// How many bytes a machine has written, as far as it can be asked.
pub(crate) fn disk_used(talk: &Talk) -> u64 {
    let asked = talk
        .check()
        .is_ok()
        .then(|| talk.link.ask(kind::USED, &[], &[]));
    let used = asked
        .and_then(Result::ok)
        .and_then(|(bytes, _)| Take(&bytes).u64());
    used.unwrap_or_default()
}

/// Connections into a machine, in words.
#[derive(Default)]
pub(crate) struct Connections(Arc<Mutex<Vec<String>>>);

impl Connections {
    /// Those that are open.
    pub(crate) fn names(&self) -> Vec<String> {
        lock(&self.0).clone()
    }

    /// Connects to a server inside.
    pub(crate) fn open(&self, talk: &Talk, port: u16) -> Result<TcpStream, ExecError> {
        talk.check()?;
        let payload = Put::default().u32(port.into());
        let inside: Arc<dyn Running> = Arc::new(talk.running(kind::TUNNEL, &payload.0)?);
        let first = match inside.next(CONNECTING)? {
            Some(Said::Bytes(Stream::Out, bytes)) if bytes.starts_with(&CONNECTED) => bytes,
            _ => {
                let why = format!("nothing listens at port {port}");
                return Err(io::Error::new(io::ErrorKind::ConnectionRefused, why).into());
            }
        };
        let named = format!("a connection to port {port}");
        Ok(self.carry(inside, &first, named)?)
    }

    /// Gives a machine its way out, if it may reach anything: its programs are told, and find the proxy on the
    /// machine's loopback once this returns.
    pub(crate) fn let_out(&self, talk: &Talk, spec: &Spec) -> io::Result<bool> {
        let listed = spec.network.as_deref().unwrap_or_default();
        let names = Arc::new(Names::parse(listed).map_err(io::Error::other)?);
        talk.tell_network(!listed.is_empty());
        if listed.is_empty() {
            return Ok(false);
        }
        let (all, link, id) = (
            Self(Arc::clone(&self.0)),
            Arc::clone(&talk.link),
            talk.id.clone(),
        );
        let accept = move || {
            let port = Put::default().u32(proxy::PORT.into());
            InWorld::begin(id.clone(), &link, kind::ACCEPT, &port.0).map(Arc::new)
        };
        let mut waiting = accept()?;
        in_thread(move || {
            let open = Arc::new(AtomicUsize::new(0));
            while let Some(first) = first(&waiting) {
                let Ok(next) = accept() else { return };
                let inside = std::mem::replace(&mut waiting, next);
                if open.load(Ordering::Acquire) < proxy::MOST {
                    // One that cannot be served is closed; the others go on.
                    let _ = all.answer(inside, &first, &names, &open);
                }
            }
        })?;
        Ok(true)
    }

    /// Has the proxy answer one connection.
    fn answer(
        &self,
        inside: Arc<InWorld>,
        first: &[u8],
        names: &Arc<Names>,
        open: &Arc<AtomicUsize>,
    ) -> io::Result<()> {
        let guest = self.carry(inside, first, "a connection out".into())?;
        let (names, counted) = (Arc::clone(names), Arc::clone(open));
        open.fetch_add(1, Ordering::AcqRel);
        let served = in_thread(move || {
            let _ = proxy::serve(guest, &names);
            counted.fetch_sub(1, Ordering::AcqRel);
        });
        if served.is_err() {
            open.fetch_sub(1, Ordering::AcqRel);
        }
        served
    }

    /// Our end of a connection that stands, of which this has been said.
    fn carry(
        &self,
        inside: Arc<dyn Running>,
        first: &[u8],
        named: String,
    ) -> io::Result<TcpStream> {
        let (ours, mut theirs) = pair()?;
        theirs.write_all(&first[CONNECTED.len()..])?;
        lock(&self.0).push(named.clone());
        let connections = Arc::clone(&self.0);
        carry(theirs, inside, move || {
            let mut open = lock(&connections);
            if let Some(at) = open.iter().position(|one| *one == named) {
                open.remove(at);
            }
        })?;
        Ok(ours)
    }
}

/// Waits until a connection stands, for as long as its machine lives; gives what is said over it first.
fn first(inside: &InWorld) -> Option<Vec<u8>> {
    const BEAT: Duration = Duration::from_secs(60);
    loop {
        match inside.next(BEAT) {
            Ok(None) => {}
            Ok(Some(Said::Bytes(Stream::Out, bytes))) if bytes.starts_with(&CONNECTED) => {
                return Some(bytes);
            }
            _ => return None,
        }
    }
}

/// Two ends of a connection on this host.
fn pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let ours = TcpStream::connect(listener.local_addr()?)?;
    let address = ours.local_addr()?;
    loop {
        let (theirs, from) = listener.accept()?;
        if from == address {
            return Ok((ours, theirs));
        }
    }
}

/// Carries both ways between a connection and something in a world, until both have said all.
fn carry(
    outside: TcpStream,
    inside: Arc<dyn Running>,
    ended: impl FnOnce() + Send + 'static,
) -> io::Result<()> {
    const BEAT: Duration = Duration::from_secs(1);
    let (mut from, to) = (outside.try_clone()?, Arc::clone(&inside));
    in_thread(move || {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            if to.write(&buffer[..count]).is_err() {
                return;
            }
        }
        let _ = to.write(&[]);
    })?;
    in_thread(move || {
        let mut outside = outside;
        loop {
            match inside.next(BEAT) {
                Ok(None) => {}
                Ok(Some(Said::Bytes(_, bytes))) if outside.write_all(&bytes).is_ok() => {}
                _ => break,
            }
        }
        let _ = outside.shutdown(Shutdown::Both);
        ended();
    })
}

fn in_thread(work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new()
        .name("connection".into())
        .stack_size(STACK)
        .spawn(work)
        .map(drop)
}

/// Keeps the last of what is said.
pub(crate) fn remember(mut from: impl Read + Send + 'static) -> Arc<Mutex<Vec<u8>>> {
    let said = Arc::new(Mutex::new(Vec::new()));
    let hear = Arc::clone(&said);
    let listen = move || {
        let mut buffer = [0; 1024];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            let mut said = lock(&hear);
            said.extend_from_slice(&buffer[..count]);
            let excess = said.len().saturating_sub(LAST_WORDS);
            said.drain(..excess);
        }
    };
    let thread = thread::Builder::new().name("console".into());
    if let Err(error) = thread.stack_size(STACK).spawn(listen) {
        tracing::warn!("nobody hears a machine's console: {error}");
    }
    said
}
