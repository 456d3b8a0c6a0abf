//! The agent in a world: its process 1. It makes the world's root, starts the Python interpreter (or
//! loads it from a memory image), runs commands, moves files, and reports to its supervisor over
//! descriptor 3. When that closes, it ends, and the kernel ends everything in the world with it.
//!
//! The same program is the first process of a virtual machine (see `machine`), where descriptor 3 is a
//! device and not a socket: nothing but bytes passes there.
//!
//! It is one static program with a fixed address and no dependency, because it is also the loader of
//! memory images: it has to stand where no image has anything.

mod child;
mod confine;
mod load;
mod machine;
mod root;
mod sftp;
mod sys;
mod tunnel;
#[allow(dead_code)]
#[path = "../src/wire.rs"]
mod wire;

use std::io;

use child::{Children, Spawn};
use confine::Confinement;
use machine::{Identity, Line};
use sys::{nr, sys};
use wire::{Put, Take, kind};

/// The socket to the supervisor.
const CONTROL: i32 = 3;
/// Folders of the host's, from which the root is made; closed once it is.
const FOLDERS: [i32; 2] = [4, 5];

fn main() {
    if let Err(error) = run() {
        if machine::is_one() {
            machine::complain(&error);
        }
        let _ = send(kind::FAILED, 0, format!("the agent: {error}").as_bytes());
        std::process::exit(1);
    }
}

fn run() -> io::Result<()> {
    let line = match machine::is_one() {
        true => Some(machine::begin(CONTROL)?),
        false => None,
    };
    let children = Children::new()?;
    let mut agent = Agent {
        children,
        line,
        confinement: None,
        arrived: Vec::new(),
        pending: Vec::new(),
    };
    loop {
        let readable = agent.children.poll(CONTROL)?;
        if readable && !agent.receive()? {
            return Ok(());
        }
    }
}

/// Sends a frame to the supervisor.
fn send(kind: u8, call: u32, payload: &[u8]) -> io::Result<()> {
    sys::write_all(CONTROL, &wire::header(kind, call, payload.len()))?;
    sys::write_all(CONTROL, payload)
}

struct Agent {
    children: Children,
    /// In a machine: how the supervisor is reached.
    line: Option<Line>,
    confinement: Option<Confinement>,
    /// Descriptors that came, in order, and were not used yet.
    arrived: Vec<i32>,
    /// Bytes that came and are no whole frame yet.
    pending: Vec<u8>,
}

impl Agent {
    /// Reads what came and acts on each whole frame; false when the supervisor is gone.
    fn receive(&mut self) -> io::Result<bool> {
        let mut buffer = vec![0; wire::CHUNK];
        let count = match self.line {
            Some(_) => sys::read(CONTROL, &mut buffer)?,
            None => receive(&mut buffer, &mut self.arrived)?,
        };
        if count == 0 {
            return Ok(false);
        }
        self.pending.extend(&buffer[..count]);
        while let Some(header) = self.pending.first_chunk::<{ wire::HEADER }>() {
            let (length, kind, call) = wire::parse_header(header);
            if length > wire::MAX_PAYLOAD {
                return Err(io::Error::other("a frame is too long"));
            }
            let end = wire::HEADER + length;
            if self.pending.len() < end {
                break;
            }
            let frame: Vec<u8> = self.pending.drain(..end).skip(wire::HEADER).collect();
            if let Err(error) = self.act(kind, call, &frame) {
                send(kind::FAILED, call, error.to_string().as_bytes())?;
            }
        }
        Ok(true)
    }

    fn act(&mut self, kind: u8, call: u32, payload: &[u8]) -> io::Result<()> {
        let short = || io::Error::other("a call is shorter than it says");
        let mut take = Take(payload);
        match kind {
            kind::SETUP => {
                self.setup(&mut take)?;
                send(kind::DONE, call, &[])
            }
            kind::KERNEL => {
                let spawn = Spawn::parse(&mut take).ok_or_else(short)?;
                let pid = self
                    .children
                    .start_kernel(&spawn, confinement(&self.confinement)?)?;
                send(kind::DONE, call, &Put::default().u32(pid as u32).0)
            }
            kind::LOAD => {
                let layers = std::mem::take(&mut self.arrived);
                let early = take.u32().ok_or_else(short)?;
                let pid = self.children.load_kernel(
                    take.0,
                    &layers,
                    early,
                    confinement(&self.confinement)?,
                )?;
                layers.into_iter().for_each(sys::close);
                send(kind::DONE, call, &Put::default().u32(pid as u32).0)
            }
            kind::CELL => self.children.cell(call, payload),
            kind::SPAWN => {
                let spawn = Spawn::parse(&mut take).ok_or_else(short)?;
                self.children
                    .spawn(call, &spawn, confinement(&self.confinement)?)
            }
            kind::SFTP => self.children.sftp(
                call,
                take.bytes().ok_or_else(short)?,
                confinement(&self.confinement)?,
            ),
            kind::SIGNAL => {
                let signal = take.u32().ok_or_else(short)?;
                self.children.signal(call, signal as i32);
                Ok(())
            }
            kind::STDIN => self.children.stdin(call, payload),
            kind::RESIZE => {
                let size = take.u32().zip(take.u32()).ok_or_else(short)?;
                self.children.resize(call, size)
            }
            kind::LIMIT => {
                let limit = limit(&mut take).ok_or_else(short)?;
                let confinement = self.confinement.as_mut().ok_or_else(no_root)?;
                confinement.limits.retain(|(other, _)| *other != limit.0);
                confinement.limits.push(limit);
                send(kind::DONE, call, &[])
            }
            kind::READ => read_file(call, &root::c(take.bytes().ok_or_else(short)?)?),
            kind::WRITE => {
                let path = root::c(take.bytes().ok_or_else(short)?)?;
                let (mode, first) = take.u32().zip(take.u32()).ok_or_else(short)?;
                write_file(&path, mode, first == 1, take.bytes().ok_or_else(short)?)?;
                send(kind::DONE, call, &[])
            }
            kind::LISTEN => listen(call, take.u32().ok_or_else(short)? as u16),
            kind::HEARD => {
                self.children.heard(call, take.u32().ok_or_else(short)?);
                Ok(())
            }
            kind::CONNECT => connect(call, take.u32().ok_or_else(short)? as u16),
            _ if self.line.is_some() => self.act_as_machine(kind, call, &mut take),
            _ => Err(io::Error::other(format!("there is no call {kind}"))),
        }
    }

    /// What only a machine does.
    fn act_as_machine(&mut self, kind: u8, call: u32, take: &mut Take) -> io::Result<()> {
        let short = || io::Error::other("a call is shorter than it says");
        match kind {
            kind::MACHINE => {
                let identity = Identity::parse(take).ok_or_else(short)?;
                identity.assume()?;
                self.confinement = Some(identity.settle()?);
                send(kind::DONE, call, &[])
            }
            kind::QUIESCE => {
                send(kind::DONE, call, &[])?;
                self.sleep()
            }
            kind::TUNNEL => {
                let port = take.u32().ok_or_else(short)? as u16;
                let confinement = confinement(&self.confinement)?;
                self.children.tunnel(call, port, confinement)
            }
            kind::ACCEPT => {
                let port = take.u32().ok_or_else(short)? as u16;
                let confinement = confinement(&self.confinement)?;
                self.children.accept(call, port, confinement)
            }
            kind::DISK => {
                machine::limit_disk(take.u64().ok_or_else(short)?)?;
                send(kind::DONE, call, &[])
            }
            kind::USED => send(kind::DONE, call, &Put::default().u64(machine::used()?).0),
            _ => Err(io::Error::other(format!("there is no call {kind}"))),
        }
    }

    /// Waits to be woken, silently: a picture may be taken of the machine meanwhile.
    fn sleep(&mut self) -> io::Result<()> {
        let mut header = [0; wire::HEADER];
        while let Err(closed) = read_exact(&mut header) {
            let line = self.line.as_ref().ok_or_else(no_root)?;
            line.open_again(CONTROL, closed)?;
        }
        let (length, kind, call) = wire::parse_header(&header);
        if length > wire::CHUNK || kind != kind::WAKE {
            return Err(io::Error::other("a sleeping machine can only be woken"));
        }
        let mut payload = vec![0; length];
        read_exact(&mut payload)?;
        let identity = Identity::parse(&mut Take(&payload));
        let identity = identity.ok_or_else(|| io::Error::other("a short call to wake"))?;
        identity.assume()?;
        if identity.is_branch {
            machine::limit_disk(identity.disk)?;
            self.children.forget_callers();
        }
        send(kind::DONE, call, &[])
    }

    fn setup(&mut self, take: &mut Take) -> io::Result<()> {
        let mut parse = || {
            let (hostname, world) = (take.text()?, take.text()?);
            let layers: Vec<String> = take
                .list()?
                .into_iter()
                .map(|one| String::from_utf8_lossy(one).into_owned())
                .collect();
            let keep = take.u64()?;
            let landlock = take.u32()? == 1;
            let filter = take.bytes()?.to_vec();
            let count = take.u32()?;
            let limits = (0..count)
                .map(|_| limit(take))
                .collect::<Option<_>>()?;
            Some((
                hostname,
                world,
                layers,
                Confinement {
                    keep,
                    filter,
                    limits,
                    landlock,
                },
            ))
        };
        let (hostname, world, layers, confinement) =
            parse().ok_or_else(|| io::Error::other("a short set-up"))?;
        root::enter(&world, &layers)?;
        root::network(&hostname)?;
        FOLDERS.into_iter().for_each(sys::close);
        self.confinement = Some(confinement);
        Ok(())
    }
}

fn confinement(given: &Option<Confinement>) -> io::Result<&Confinement> {
    given.as_ref().ok_or_else(no_root)
}

/// A limit: its resource, and two values.
fn limit(take: &mut Take) -> Option<(u32, [u64; 2])> {
    Some((take.u32()?, [take.u64()?, take.u64()?]))
}

fn no_root() -> io::Error {
    io::Error::other("the world has no root yet")
}

/// `recvmsg`: bytes into `buffer`, descriptors into `arrived`.
fn receive(buffer: &mut [u8], arrived: &mut Vec<i32>) -> io::Result<usize> {
    const MOST: usize = 64;
    let mut control = [0u64; 3 + MOST / 2];
    let parts = [buffer.as_mut_ptr() as usize, buffer.len()];
    let mut message = [
        0usize,
        0,
        parts.as_ptr() as usize,
        1,
        control.as_mut_ptr() as usize,
        size_of_val(&control),
        0,
    ];
    const MSG_CMSG_CLOEXEC: usize = 0x4000_0000;
    let count = sys!(nr::RECVMSG, CONTROL, message.as_mut_ptr(), MSG_CMSG_CLOEXEC)?;
    // One control message: its length, its kind, then descriptors.
    if message[5] > 16 {
        let descriptors = (control[0] as usize - 16) / 4;
        for at in 0..descriptors.min(MOST) {
            let word = control[2 + at / 2];
            let fd = (word >> (32 * (at % 2))) as u32 as i32;
            // Low numbers belong to the interpreter.
            arrived.push(sys::move_up(fd, 100)?);
        }
    }
    Ok(count)
}

fn read_file(call: u32, path: &std::ffi::CStr) -> io::Result<()> {
    let fd = sys::open(path, sys::O_NONBLOCK | sys::O_CLOEXEC, 0)?;
    let mut buffer = vec![0; wire::CHUNK + 1];
    let mut told = 0;
    let answer = loop {
        buffer[0] = 1;
        if told > wire::MAX_FILE {
            break Ok(()); // Whoever asked has given up; a device may have no end.
        }
        match sys::read(fd, &mut buffer[1..]) {
            Ok(0) => break send(kind::DONE, call, &[]),
            Ok(count) => {
                told += count;
                send(kind::OUTPUT, call, &buffer[..=count])?;
            }
            Err(error) => break Err(error),
        }
    };
    sys::close(fd);
    answer
}

fn write_file(path: &std::ffi::CStr, mode: u32, first: bool, bytes: &[u8]) -> io::Result<()> {
    const CREATE_TRUNCATE: usize = 1 | 0o100 | 0o1000;
    const APPEND: usize = 1 | 0o2000;
    let flags = if first { CREATE_TRUNCATE } else { APPEND };
    let fd = sys::open(
        path,
        flags | sys::O_NONBLOCK | sys::O_CLOEXEC,
        mode as usize,
    )?;
    let written = sys::write_all(fd, bytes);
    sys::close(fd);
    written
}

/// A port on this world's loopback, as the kernel writes it.
fn loopback(port: u16) -> [u8; 16] {
    let mut address = [0u8; 16];
    address[0] = 2;
    address[2..4].copy_from_slice(&port.to_be_bytes());
    address[4..8].copy_from_slice(&[127, 0, 0, 1]);
    address
}

/// A socket that listens on a port of this world's loopback. The port is free again as soon as nobody listens.
fn listening(port: u16) -> io::Result<i32> {
    const WAITING: usize = 64;
    const SOL_SOCKET: usize = 1;
    const SO_REUSEADDR: usize = 2;
    let socket = sys!(nr::SOCKET, 2, 1 | sys::O_CLOEXEC, 0)? as i32;
    let (address, on) = (loopback(port), 1i32);
    let listens = sys!(nr::SETSOCKOPT, socket, SOL_SOCKET, SO_REUSEADDR, &raw const on, 4)
        .and_then(|_| sys!(nr::BIND, socket, address.as_ptr(), address.len()))
        .and_then(|_| sys!(nr::LISTEN, socket, WAITING));
    if listens.is_err() {
        sys::close(socket);
    }
    listens.map(|_| socket)
}

/// Listens on a port; the socket travels with the answer.
fn listen(call: u32, port: u16) -> io::Result<()> {
    let socket = listening(port)?;
    let answer = send_descriptor(CONTROL, socket, &wire::header(kind::DONE, call, 0));
    sys::close(socket);
    answer
}

/// A connection to a port on this world's loopback.
fn connected(port: u16) -> io::Result<i32> {
    let socket = sys!(nr::SOCKET, 2, 1 | sys::O_CLOEXEC, 0)? as i32;
    let address = loopback(port);
    let connected = sys!(nr::CONNECT, socket, address.as_ptr(), address.len());
    if connected.is_err() {
        sys::close(socket);
    }
    connected.map(|_| socket)
}

/// Connects to a port on this world's loopback; the socket travels with the answer.
fn connect(call: u32, port: u16) -> io::Result<()> {
    let socket = connected(port)?;
    let answer = send_descriptor(CONTROL, socket, &wire::header(kind::DONE, call, 0));
    sys::close(socket);
    answer
}

/// Reads as many bytes as there is room for.
fn read_exact(mut buffer: &mut [u8]) -> io::Result<()> {
    while !buffer.is_empty() {
        match sys::read(CONTROL, buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => buffer = &mut buffer[count..],
        }
    }
    Ok(())
}

fn send_descriptor(over: i32, fd: i32, bytes: &[u8]) -> io::Result<()> {
    let control = [20u64, 1 | 1 << 32, fd as u32 as u64];
    let parts = [bytes.as_ptr() as usize, bytes.len()];
    let message = [
        0usize,
        0,
        parts.as_ptr() as usize,
        1,
        control.as_ptr() as usize,
        24,
        0,
    ];
    sys!(nr::SENDMSG, over, message.as_ptr(), 0).map(drop)
}
