//! The process that all monitors of this program are copies of: QEMU, loaded, and not begun (what it does stands
//! in `zygote/lib.rs`, which is put before QEMU's own code). It has no network, and ends when this program does.

use std::io::{self, Read, Write};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::monitor::{Accelerator, PROGRAM, nobody, set_apart};
use crate::host;

/// What is put before QEMU's own code.
static ZYGOTE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/zygote"));

/// Its requests, as `zygote/lib.rs` knows them.
const START: u32 = 0;
const END: u32 = 1;
const SAME: u32 = u32::MAX;

/// How long an answer may take, and the end of a copy.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(1);

/// Makes copies of a process that is started when the first is wanted, and anew when it was killed.
#[derive(Default)]
pub(super) struct Starter(Mutex<Option<Arc<Zygote>>>);

/// A copy that runs. It has its number until it has been ended.
pub(super) struct Copy {
    pub(super) pid: i32,
    of: Arc<Zygote>,
}

struct Zygote {
    child: Mutex<Child>,
    line: Mutex<UnixStream>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Starter {
    /// A copy with arguments and descriptors from number 3 on, of which the last is what it says its errors to
    /// instead, as a user of no one's. A starter's copies all run on the same acceleration.
    pub(super) fn start(
        &self,
        arguments: &[String],
        given: &[BorrowedFd],
        accelerator: Accelerator,
    ) -> io::Result<Copy> {
        let mut place = lock(&self.0);
        let zygote = match &*place {
            Some(zygote) if !zygote.is_over() => Arc::clone(zygote),
            _ => Arc::new(Zygote::begin(accelerator)?),
        };
        *place = Some(Arc::clone(&zygote));
        drop(place);
        Ok(Copy {
            pid: zygote.start(arguments, given, nobody(accelerator))?,
            of: zygote,
        })
    }
}

impl Copy {
    /// Ends it. A second time it does nothing.
    pub(super) fn end(&self) -> io::Result<()> {
        let until = Instant::now() + PATIENCE;
        while !self.of.end(self.pid) {
            if Instant::now() > until {
                return Err(io::Error::other("a machine's monitor does not end"));
            }
            thread::sleep(POLL);
        }
        Ok(())
    }
}

impl Zygote {
    fn begin(accelerator: Accelerator) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_read_timeout(Some(PATIENCE))?;
        let code = host::program(c"worldline-zygote", ZYGOTE)?;
        let mut command = Command::new(PROGRAM);
        command
            // So it stands in lists of processes, as all copies do. What is not held back by that code says its
            // version and ends.
            .args(["-name", "worldline", "-version"])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("LD_PRELOAD", "/proc/self/fd/4")
            .current_dir("/")
            // An interrupt from a terminal is for this program alone, which ends machines as it should.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        host::give(&mut command, vec![OwnedFd::from(theirs), code]);
        host::without_huge_pages(&mut command);
        Ok(Self {
            child: Mutex::new(apart(command, accelerator)?),
            line: Mutex::new(ours),
        })
    }

    fn is_over(&self) -> bool {
        !matches!(lock(&self.child).try_wait(), Ok(None))
    }

    fn start(
        &self,
        arguments: &[String],
        given: &[BorrowedFd],
        user: Option<(u32, u32)>,
    ) -> io::Result<i32> {
        let (user, group) = user.unwrap_or((SAME, SAME));
        let mut text = Vec::new();
        for argument in arguments {
            text.extend_from_slice(argument.as_bytes());
            text.push(0);
        }
        let request = [START, text.len() as u32, user, group];
        match self.ask(request, given, &text)? {
            pid if pid > 0 => Ok(pid),
            _ => Err(io::Error::other("no process can be started")),
        }
    }

    /// Ends a copy; whether it is over, as every copy is when its zygote is.
    fn end(&self, pid: i32) -> bool {
        !matches!(self.ask([END, pid as u32, 0, 0], &[], &[]), Ok(0))
    }

    fn ask(&self, request: [u32; 4], given: &[BorrowedFd], text: &[u8]) -> io::Result<i32> {
        let line = lock(&self.line);
        let header: Vec<u8> = request.into_iter().flat_map(u32::to_ne_bytes).collect();
        let mut answer = [0; 4];
        let mut ask = || {
            host::send(&line, &header, given)?;
            (&*line).write_all(text)?;
            (&*line).read_exact(&mut answer)
        };
        match ask() {
            Ok(()) => Ok(i32::from_ne_bytes(answer)),
            Err(error) => {
                // Whose answers are late is not asked again: they would be taken for others.
                let _ = lock(&self.child).kill();
                let why =
                    format!("the process that {PROGRAM} is copied from does not answer: {error}");
                Err(io::Error::new(error.kind(), why))
            }
        }
    }
}

impl Drop for Zygote {
    fn drop(&mut self) {
        let mut child = lock(&self.child);
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// Starts a program on a thread that is set apart.
fn apart(mut command: Command, accelerator: Accelerator) -> io::Result<Child> {
    let start = move || {
        set_apart(accelerator);
        command.spawn()
    };
    let started = thread::spawn(start).join();
    started.unwrap_or_else(|_| Err(io::Error::other("a thread ended")))
}
