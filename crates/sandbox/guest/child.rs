//! Children: the interpreter, and the commands that callers run.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::CString;
use std::io;

use crate::confine::Confinement;
use crate::sys::{self, nr, sys};
use crate::wire::{self, Put, Take, kind};
use crate::{listening, load, root, send, sftp, tunnel};

/// Where the interpreter finds its socket; its standard streams are 0, 1 and 2.
const KERNEL_SOCKET: i32 = 3;
/// Where a shell writes its folder and environment before it ends.
const STATE: i32 = 9;
/// First of the descriptors that [`load`] puts in place.
pub const LOAD_FROM: i32 = 900;

const STDOUT: u8 = 1;
const STDERR: u8 = 2;

/// A command to run.
pub struct Spawn {
    argv: Vec<CString>,
    environment: Vec<CString>,
    folder: CString,
    terminal: Option<(u32, u32)>,
}

impl Spawn {
    /// Reads one from a call.
    pub fn parse(take: &mut Take) -> Option<Self> {
        let strings = |list: Vec<&[u8]>| {
            list.into_iter()
                .map(|one| CString::new(one).ok())
                .collect::<Option<Vec<_>>>()
        };
        let argv = strings(take.list()?)?;
        let environment = strings(take.list()?)?;
        let folder = CString::new(take.bytes()?).ok()?;
        let terminal = (take.u32()? == 1).then_some(());
        let size = take.u32().zip(take.u32())?;
        Some(Self {
            argv,
            environment,
            folder,
            terminal: terminal.map(|()| size),
        })
    }

    /// Becomes the command. Returns only if that fails.
    fn exec(&self) -> io::Error {
        let pointers = |list: &[CString]| {
            list.iter()
                .map(|one| one.as_ptr())
                .chain([std::ptr::null()])
                .collect::<Vec<_>>()
        };
        let (argv, environment) = (pointers(&self.argv), pointers(&self.environment));
        let name = self.argv[0].to_bytes();
        let mut failure = io::Error::from_raw_os_error(2);
        for candidate in self.candidates(name) {
            if let Err(error) = sys!(
                nr::EXECVE,
                candidate.as_ptr(),
                argv.as_ptr(),
                environment.as_ptr()
            ) {
                failure = error;
            }
        }
        failure
    }

    /// Where the command may be: as named, or along the path.
    fn candidates(&self, name: &[u8]) -> Vec<CString> {
        if name.contains(&b'/') {
            return vec![self.argv[0].clone()];
        }
        let path = self
            .environment
            .iter()
            .find_map(|one| one.to_bytes().strip_prefix(b"PATH="));
        path.unwrap_or(b"/usr/bin:/bin")
            .split(|byte| *byte == b':')
            .filter_map(|folder| root::c(&[folder, b"/", name].concat()).ok())
            .collect()
    }
}

/// A running command.
struct Command {
    pid: i32,
    /// Standard output and error; a terminal has one of them.
    outputs: [Option<i32>; 2],
    input: Option<i32>,
    /// What it has not taken of its input.
    untaken: VecDeque<u8>,
    /// Whether nothing follows that.
    input_ends: bool,
    state: Option<i32>,
    terminal: bool,
    unheard: Unheard,
}

/// Output that was passed on and nobody has heard yet, in bytes; nothing where nobody counts.
struct Unheard(Option<usize>);

impl Unheard {
    fn add(&mut self, count: usize) {
        self.0 = self.0.map(|before| before.saturating_add(count));
    }

    fn heard(&mut self, count: u32) {
        self.0 = match count {
            wire::UNCOUNTED => None,
            _ => self.0.map(|before| before.saturating_sub(count as usize)),
        };
    }

    /// Whether whoever writes has to wait.
    fn is_full(&self) -> bool {
        self.0.is_some_and(|count| count >= wire::WINDOW)
    }
}

impl Command {
    /// Gives it what it takes of its input now; gives the number of bytes that are dealt with.
    fn feed(&mut self) -> usize {
        let Some(input) = self.input else {
            return std::mem::take(&mut self.untaken).len();
        };
        let (next, _) = self.untaken.as_slices();
        let taken = match sys!(nr::WRITE, input, next.as_ptr(), next.len()) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            // A command that does not read is no error of the one who writes.
            Err(_) => self.untaken.len(),
        };
        self.untaken.drain(..taken);
        if self.untaken.is_empty() && self.input_ends && !self.terminal {
            sys::close(input);
            self.input = None;
        }
        taken
    }
}

/// The interpreter.
struct Kernel {
    pid: i32,
    outputs: [i32; 2],
    socket: i32,
    /// The call of the cell that runs.
    call: u32,
    /// Bytes of an answer that is not whole yet.
    pending: Vec<u8>,
    unheard: Unheard,
}

impl Kernel {
    /// What there is to listen to.
    fn heard_from(&self) -> Vec<i32> {
        match self.unheard.is_full() {
            true => vec![self.socket],
            false => vec![self.outputs[0], self.outputs[1], self.socket],
        }
    }
}

/// Everything that this agent started and has to listen to.
pub struct Children {
    commands: BTreeMap<u32, Command>,
    kernel: Option<Kernel>,
    /// Calls that are connections from outside, or out.
    tunnels: Vec<u32>,
    /// Listens for connections out, where there is a way.
    way_out: Option<i32>,
    /// Tells that a child ended.
    ended: i32,
}

impl Children {
    /// No children.
    pub fn new() -> io::Result<Self> {
        let mask = 1u64 << 16; // SIGCHLD
        sys!(nr::RT_SIGPROCMASK, 0, &raw const mask, 0, 8)?;
        let ended = sys!(
            nr::SIGNALFD4,
            -1isize,
            &raw const mask,
            8,
            sys::O_NONBLOCK | sys::O_CLOEXEC
        )? as i32;
        Ok(Self {
            commands: BTreeMap::new(),
            kernel: None,
            tunnels: Vec::new(),
            way_out: None,
            ended: sys::move_up(ended, 50)?,
        })
    }

    /// Waits until something happens, and passes output on. True when `control` can be read.
    pub fn poll(&mut self, control: i32) -> io::Result<bool> {
        const IN: u64 = 1;
        const OUT: u64 = 4;
        let mut fds = vec![control, self.ended];
        fds.extend(
            self.kernel
                .iter()
                .flat_map(Kernel::heard_from),
        );
        fds.extend(
            self.commands
                .values()
                .filter(|command| !command.unheard.is_full())
                .flat_map(|command| command.outputs)
                .flatten(),
        );
        let mut polled: Vec<u64> = fds.iter().map(|fd| *fd as u32 as u64 | IN << 32).collect();
        let hungry = self
            .commands
            .values()
            .filter(|command| !command.untaken.is_empty());
        polled.extend(
            hungry
                .filter_map(|command| command.input)
                .map(|fd| fd as u32 as u64 | OUT << 32),
        );
        match sys!(nr::POLL, polled.as_mut_ptr(), polled.len(), -1isize) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(false),
            other => other?,
        };
        let ready: Vec<i32> = fds
            .iter()
            .zip(&polled)
            .filter(|(_, event)| **event >> 48 != 0)
            .map(|(fd, _)| *fd)
            .collect();
        for fd in &ready[..] {
            if *fd != control && *fd != self.ended {
                self.pass_on(*fd)?;
            }
        }
        self.feed()?;
        if ready.contains(&self.ended) {
            self.reap()?;
        }
        Ok(ready.contains(&control))
    }

    /// Gives commands what they take of their input now.
    fn feed(&mut self) -> io::Result<()> {
        for (call, command) in &mut self.commands {
            if command.untaken.is_empty() {
                continue;
            }
            let taken = command.feed();
            if taken > 0 {
                send(kind::TAKEN, *call, &Put::default().u32(taken as u32).0)?;
            }
        }
        Ok(())
    }

    /// Passes on what a descriptor has.
    fn pass_on(&mut self, fd: i32) -> io::Result<()> {
        if let Some(kernel) = &mut self.kernel {
            if let Some(at) = kernel.outputs.iter().position(|output| *output == fd) {
                let (_, count) = forward(kernel.call, at as u8 + 1, fd)?;
                kernel.unheard.add(count);
                return Ok(());
            }
            if kernel.socket == fd {
                return self.kernel_answers();
            }
        }
        let found = self.commands.iter_mut().find_map(|(call, command)| {
            let at = command
                .outputs
                .iter()
                .position(|output| *output == Some(fd))?;
            Some((*call, command, at))
        });
        let Some((call, command, at)) = found else {
            return Ok(());
        };
        let (open, count) = forward(call, at as u8 + 1, fd)?;
        command.unheard.add(count);
        if !open {
            command.outputs[at] = None;
            if command.input != Some(fd) {
                sys::close(fd);
            }
        }
        Ok(())
    }

    /// Reports every child that ended, after all that it had written.
    fn reap(&mut self) -> io::Result<()> {
        let mut drop_it = [0; 128];
        while sys::read(self.ended, &mut drop_it).is_ok() {}
        loop {
            let mut status = 0i32;
            const WNOHANG: usize = 1;
            match sys!(nr::WAIT4, -1isize, &raw mut status, WNOHANG, 0) {
                Ok(0) | Err(_) => return Ok(()),
                Ok(pid) => self.ended(pid as i32, status)?,
            }
        }
    }

    fn ended(&mut self, pid: i32, status: i32) -> io::Result<()> {
        let code = if status & 0x7f == 0 {
            status >> 8 & 0xff
        } else {
            128 + (status & 0x7f)
        };
        if self.kernel.as_ref().is_some_and(|kernel| kernel.pid == pid) {
            for output in self
                .kernel
                .as_ref()
                .map(|kernel| kernel.outputs)
                .unwrap_or_default()
            {
                self.pass_on(output)?;
            }
            if let Some(kernel) = self.kernel.take() {
                [kernel.outputs[0], kernel.outputs[1], kernel.socket]
                    .into_iter()
                    .for_each(sys::close);
                return send(
                    kind::KERNEL_ENDED,
                    kernel.call,
                    &Put::default().u32(code as u32).0,
                );
            }
        }
        let Some(call) = self
            .commands
            .iter()
            .find_map(|(call, one)| (one.pid == pid).then_some(*call))
        else {
            return Ok(());
        };
        self.tunnels.retain(|tunnel| *tunnel != call);
        let Some(command) = self.commands.remove(&call) else {
            return Ok(());
        };
        for (at, output) in command.outputs.into_iter().enumerate() {
            let Some(output) = output else { continue };
            forward(call, at as u8 + 1, output)?;
            sys::close(output);
        }
        if let Some(input) = command
            .input
            .filter(|input| !command.outputs.contains(&Some(*input)))
        {
            sys::close(input);
        }
        let state = command.state.map(drain).unwrap_or_default();
        let mut parts = state.splitn(2, |byte| *byte == 0);
        let folder = parts.next().unwrap_or_default();
        let environment = parts
            .next()
            .unwrap_or_default()
            .split(|byte| *byte == 0)
            .filter(|one| !one.is_empty());
        send(
            kind::EXIT,
            call,
            &Put::default()
                .u32(code as u32)
                .bytes(folder)
                .list(environment)
                .0,
        )
    }

    /// Starts the interpreter from its beginning.
    pub fn start_kernel(&mut self, spawn: &Spawn, confinement: &Confinement) -> io::Result<i32> {
        self.start(0, confinement, |_| {
            place(LOAD_FROM, 4)?;
            sys!(nr::CHDIR, spawn.folder.as_ptr())?;
            Err(spawn.exec())
        })
    }

    /// Starts the interpreter from an image. Some of its layers may be `early`: not all of them is there.
    pub fn load_kernel(
        &mut self,
        plan: &[u8],
        layers: &[i32],
        early: u32,
        confinement: &Confinement,
    ) -> io::Result<i32> {
        let plan = load::Plan::parse(plan)
            .ok_or_else(|| io::Error::other("the image's plan cannot be read"))?;
        self.start(plan.pid(), confinement, |_| load::load(&plan, layers, early))
    }

    /// Forks the interpreter with its streams and socket at [`LOAD_FROM`]. Its answer to that, an
    /// empty frame, comes later, as any answer does.
    fn start(
        &mut self,
        pid: i32,
        confinement: &Confinement,
        become_it: impl FnOnce(()) -> io::Result<()>,
    ) -> io::Result<i32> {
        if self.kernel.is_some() {
            return Err(io::Error::other("there is an interpreter already"));
        }
        let (out, error, socket) = (sys::pipe(0)?, sys::pipe(0)?, sys::socketpair()?);
        let child = sys::fork(pid)?;
        if child == 0 {
            let done = in_child(confinement, || {
                for (at, fd) in [sys::open(c"/dev/null", 0, 0)?, out[1], error[1], socket[1]]
                    .into_iter()
                    .enumerate()
                {
                    sys!(nr::DUP2, fd, LOAD_FROM + at as i32)?;
                }
                become_it(())
            });
            let why = done
                .err()
                .map_or("it came back".into(), |error| error.to_string());
            let _ = sys::write_all(
                2,
                format!("the interpreter did not start: {why}\n").as_bytes(),
            );
            let _ = sys!(nr::EXIT, 127);
        }
        [out[1], error[1], socket[1]]
            .into_iter()
            .for_each(sys::close);
        for fd in [out[0], error[0], socket[0]] {
            sys::set_nonblocking(fd)?;
        }
        let up = |fd| sys::move_up(fd, 60);
        let outputs = [up(out[0])?, up(error[0])?];
        self.kernel = Some(Kernel {
            pid: child,
            outputs,
            socket: up(socket[0])?,
            call: 0,
            pending: Vec::new(),
            unheard: Unheard(Some(0)),
        });
        Ok(child)
    }

    /// Gives the interpreter a cell.
    pub fn cell(&mut self, call: u32, payload: &[u8]) -> io::Result<()> {
        let kernel = self
            .kernel
            .as_mut()
            .ok_or_else(|| io::Error::other("the interpreter is gone"))?;
        kernel.call = call;
        kernel.unheard = Unheard(Some(0));
        let mut frame = (payload.len() as u32).to_le_bytes().to_vec();
        frame.extend(call.to_le_bytes());
        frame.extend(payload);
        match write_slowly(kernel.socket, &frame) {
            // It is ending; that is told in its turn, with what it said last.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => other,
        }
    }

    /// Passes the interpreter's answers on, each after the output that came before it.
    fn kernel_answers(&mut self) -> io::Result<()> {
        let Some(kernel) = &mut self.kernel else {
            return Ok(());
        };
        let mut buffer = vec![0; wire::CHUNK];
        while let Ok(count) = sys::read(kernel.socket, &mut buffer) {
            if count == 0 {
                return Ok(()); // It is ending; the signal of that follows.
            }
            kernel.pending.extend(&buffer[..count]);
        }
        while let Some(header) = kernel.pending.first_chunk::<8>() {
            let length = u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize;
            let call = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
            if length > wire::MAX_PAYLOAD {
                return send(
                    kind::FAILED,
                    kernel.call,
                    b"the interpreter's answer is too long",
                );
            }
            if kernel.pending.len() < 8 + length {
                break;
            }
            let answer: Vec<u8> = kernel.pending.drain(..8 + length).skip(8).collect();
            for (at, output) in kernel.outputs.into_iter().enumerate() {
                forward(kernel.call, at as u8 + 1, output)?;
            }
            send(kind::RESULT, call, &answer)?;
        }
        Ok(())
    }

    /// Runs a command; its output, then its exit, follow under the number of its call.
    pub fn spawn(&mut self, call: u32, spawn: &Spawn, confinement: &Confinement) -> io::Result<()> {
        if spawn.argv.is_empty() {
            return Err(io::Error::other("a command needs a name"));
        }
        self.run(call, spawn.terminal, confinement, || {
            sys!(nr::CHDIR, spawn.folder.as_ptr())?;
            let failure = spawn.exec();
            let name = spawn.argv[0].to_string_lossy();
            let _ = sys::write_all(2, format!("{name}: {failure}\n").as_bytes());
            Ok(if failure.kind() == io::ErrorKind::NotFound {
                127
            } else {
                126
            })
        })
    }

    /// Gives and takes files by SFTP. The process that does is confined as every command is: what it may
    /// not touch, no file's name leads it to.
    pub fn sftp(&mut self, call: u32, folder: &[u8], confinement: &Confinement) -> io::Result<()> {
        let folder = root::c(folder)?;
        self.run(call, None, confinement, || {
            sys!(nr::CHDIR, folder.as_ptr())?;
            sftp::serve().map(|()| 0)
        })
    }

    /// Carries a connection to a port over the call's input and output. A branch has none of it.
    pub fn tunnel(&mut self, call: u32, port: u16, confinement: &Confinement) -> io::Result<()> {
        self.run(call, None, confinement, || {
            tunnel::serve(port).map(|()| 0)
        })?;
        self.tunnels.push(call);
        Ok(())
    }

    /// Carries the next connection to a port over the call's input and output. A branch has none of it.
    pub fn accept(&mut self, call: u32, port: u16, confinement: &Confinement) -> io::Result<()> {
        const ABOVE: i32 = 60;
        let listener = match self.way_out {
            Some(listener) => listener,
            None => sys::move_up(listening(port)?, ABOVE)?,
        };
        self.way_out = Some(listener);
        self.run_keeping(call, None, confinement, listener, || {
            tunnel::accept(listener).map(|()| 0)
        })?;
        self.tunnels.push(call);
        Ok(())
    }

    /// Nobody listens any more to what was called for: it goes on, and connections are ended.
    pub fn forget_callers(&mut self) {
        if let Some(listener) = self.way_out.take() {
            // Whoever waits at it, and is not gone yet, keeps the port no longer.
            const BOTH: usize = 2;
            let _ = sys!(nr::SHUTDOWN, listener, BOTH);
            sys::close(listener);
        }
        for call in std::mem::take(&mut self.tunnels) {
            self.signal(call, 9);
        }
        for command in self.commands.values_mut() {
            command.unheard.heard(wire::UNCOUNTED);
        }
        if let Some(kernel) = &mut self.kernel {
            kernel.unheard.heard(wire::UNCOUNTED);
        }
    }

    /// Forks a confined child with streams of its own, or a terminal; it ends with the code that `work`
    /// gives.
    fn run(
        &mut self,
        call: u32,
        size: Option<(u32, u32)>,
        confinement: &Confinement,
        work: impl FnOnce() -> io::Result<i32>,
    ) -> io::Result<()> {
        self.run_keeping(call, size, confinement, STATE, work)
    }

    /// The same; of this agent's descriptors it keeps one.
    fn run_keeping(
        &mut self,
        call: u32,
        size: Option<(u32, u32)>,
        confinement: &Confinement,
        kept: i32,
        work: impl FnOnce() -> io::Result<i32>,
    ) -> io::Result<()> {
        let state = sys::pipe(sys::O_NONBLOCK)?;
        let (ours, theirs) = match size {
            Some(size) => {
                let (ours, theirs) = terminal(size)?;
                ([ours, ours, -1], [theirs; 3])
            }
            None => {
                let (input, out, error) = (sys::pipe(0)?, sys::pipe(0)?, sys::pipe(0)?);
                ([input[1], out[0], error[0]], [input[0], out[1], error[1]])
            }
        };
        let pid = sys::fork(0)?;
        if pid == 0 {
            let mut code = 126;
            let failure = in_child(confinement, || {
                sys!(nr::SETSID)?;
                // Out of the way first: a number may be both a source and a target.
                let sources = [theirs[0], theirs[1], theirs[2], state[1]];
                for (at, fd) in sources.into_iter().enumerate() {
                    sys!(nr::DUP2, fd, LOAD_FROM + at as i32)?;
                }
                place(LOAD_FROM, 3)?;
                sys!(nr::DUP2, LOAD_FROM + 3, STATE)?;
                if size.is_some() {
                    const TIOCSCTTY: usize = 0x540e;
                    sys!(nr::IOCTL, 0, TIOCSCTTY, 0)?;
                }
                close_others(&[0, 1, 2, STATE, kept]);
                code = work()?;
                Ok(())
            });
            if let Err(failure) = failure {
                let _ = sys::write_all(2, format!("{failure}\n").as_bytes());
            }
            let _ = sys!(nr::EXIT, code);
        }
        sys::close(state[1]);
        theirs
            .iter()
            .take(if size.is_some() { 1 } else { 3 })
            .for_each(|fd| sys::close(*fd));
        for fd in ours.into_iter().filter(|fd| *fd >= 0) {
            sys::set_nonblocking(fd)?;
        }
        let command = Command {
            pid,
            outputs: [Some(ours[1]), (ours[2] >= 0).then_some(ours[2])],
            input: Some(ours[0]),
            untaken: VecDeque::new(),
            input_ends: false,
            state: Some(state[0]),
            terminal: size.is_some(),
            unheard: Unheard(Some(0)),
        };
        self.commands.insert(call, command);
        Ok(())
    }

    /// Output of a call has been heard.
    pub fn heard(&mut self, call: u32, count: u32) {
        let kernel = self.kernel.as_mut().filter(|kernel| kernel.call == call);
        let kernel = kernel.map(|kernel| &mut kernel.unheard);
        let command = self.commands.get_mut(&call);
        if let Some(unheard) = kernel.or(command.map(|command| &mut command.unheard)) {
            unheard.heard(count);
        }
    }

    /// Signals the interpreter (call 0, or its cell's call) or all processes of a command.
    pub fn signal(&self, call: u32, signal: i32) {
        let kernel = self
            .kernel
            .as_ref()
            .filter(|kernel| call == 0 || kernel.call == call);
        match (self.commands.get(&call), kernel) {
            (Some(command), _) => {
                // One that has just been forked leads no group yet.
                let group = sys!(nr::KILL, -command.pid as isize, signal);
                let _ = group.or_else(|_| sys!(nr::KILL, command.pid, signal));
            }
            (None, Some(kernel)) => drop(sys!(nr::KILL, kernel.pid, signal)),
            (None, None) => {}
        }
    }

    /// Adds to a command's input, or says that nothing more will come.
    pub fn stdin(&mut self, call: u32, bytes: &[u8]) -> io::Result<()> {
        const END_OF_TRANSMISSION: u8 = 4;
        let Some(command) = self.commands.get_mut(&call) else {
            return Ok(());
        };
        match bytes {
            [] if command.terminal => command.untaken.push_back(END_OF_TRANSMISSION),
            [] => {
                command.input_ends = true;
                command.feed();
            }
            _ => command.untaken.extend(bytes),
        }
        self.feed()
    }

    /// Sets a terminal's size.
    pub fn resize(&self, call: u32, size: (u32, u32)) -> io::Result<()> {
        match self
            .commands
            .get(&call)
            .and_then(|command| command.input.filter(|_| command.terminal))
        {
            Some(terminal) => set_size(terminal, size),
            None => Ok(()),
        }
    }
}

/// Runs `work` confined.
fn in_child(confinement: &Confinement, work: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    const LAST_SIGNAL: usize = 64;
    let (nothing, as_usual) = (0u64, [0u64; 4]);
    sys!(nr::RT_SIGPROCMASK, 2, &raw const nothing, 0, 8)?;
    // What is ignored stays ignored in programs that are started: SIGPIPE by this one, as by any
    // written in Rust, and SIGINT where a shell has started the daemon in the background.
    for signal in 1..=LAST_SIGNAL {
        // Two of them nobody can change.
        let _ = sys!(nr::RT_SIGACTION, signal, as_usual.as_ptr(), 0, 8);
    }
    confinement.apply()?;
    work()
}

/// Moves descriptors from `first` on to 0 and up, and closes all others.
fn place(first: i32, count: i32) -> io::Result<()> {
    for fd in 0..count {
        sys!(nr::DUP2, first + fd, fd)?;
    }
    if count > KERNEL_SOCKET {
        sys!(nr::CLOSE_RANGE, count, u32::MAX, 0)?;
    }
    Ok(())
}

fn close_others(keep: &[i32]) {
    let last = keep.iter().max().copied().unwrap_or(2);
    (3..last)
        .filter(|fd| !keep.contains(fd))
        .for_each(sys::close);
    let _ = sys!(nr::CLOSE_RANGE, last + 1, u32::MAX, 0);
}

/// Sends all that a descriptor has now; false at its end.
fn forward(call: u32, stream: u8, fd: i32) -> io::Result<(bool, usize)> {
    debug_assert!(stream == STDOUT || stream == STDERR);
    let mut buffer = vec![0; wire::CHUNK + 1];
    let mut told = 0;
    // A writer that never stops must not keep the others waiting.
    for _ in 0..16 {
        buffer[0] = stream;
        match sys::read(fd, &mut buffer[1..]) {
            Ok(0) => return Ok((false, told)),
            Ok(count) => {
                told += count;
                send(kind::OUTPUT, call, &buffer[..=count])?;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok((true, told)),
            Err(_) => return Ok((false, told)), // A terminal whose other end closed.
        }
    }
    Ok((true, told))
}

/// All that a pipe has.
fn drain(fd: i32) -> Vec<u8> {
    let (mut all, mut buffer) = (Vec::new(), vec![0; 4096]);
    while let Ok(count @ 1..) = sys::read(fd, &mut buffer) {
        all.extend(&buffer[..count]);
    }
    sys::close(fd);
    all
}

/// Writes to a descriptor that does not block, waiting a moment where it is full.
fn write_slowly(fd: i32, mut bytes: &[u8]) -> io::Result<()> {
    const OUT: u64 = 4;
    const PATIENCE_MS: usize = 2_000;
    while !bytes.is_empty() {
        match sys!(nr::WRITE, fd, bytes.as_ptr(), bytes.len()) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let mut polled = [fd as u32 as u64 | OUT << 32];
                if sys!(nr::POLL, polled.as_mut_ptr(), 1, PATIENCE_MS)? == 0 {
                    return Err(io::Error::other("nobody reads what is written"));
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// A new terminal: our end and theirs.
fn terminal(size: (u32, u32)) -> io::Result<(i32, i32)> {
    const TIOCSPTLCK: usize = 0x4004_5431;
    const TIOCGPTN: usize = 0x8004_5430;
    const O_NOCTTY: usize = 0o400;
    let ours = sys::open(c"/dev/ptmx", sys::O_RDWR | O_NOCTTY | sys::O_CLOEXEC, 0)?;
    let (unlock, mut number) = (0i32, 0i32);
    sys!(nr::IOCTL, ours, TIOCSPTLCK, &raw const unlock)?;
    sys!(nr::IOCTL, ours, TIOCGPTN, &raw mut number)?;
    let name = root::c(format!("/dev/pts/{number}").as_bytes())?;
    let theirs = sys::open(&name, sys::O_RDWR | O_NOCTTY | sys::O_CLOEXEC, 0)?;
    set_size(ours, size)?;
    Ok((ours, theirs))
}

fn set_size(terminal: i32, (rows, columns): (u32, u32)) -> io::Result<()> {
    const TIOCSWINSZ: usize = 0x5414;
    let size = [rows as u16, columns as u16, 0, 0];
    sys!(nr::IOCTL, terminal, TIOCSWINSZ, size.as_ptr()).map(drop)
}
