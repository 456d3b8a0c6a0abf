//! The agent as the first process of a virtual machine: it brings up what a kernel without an
//! installation lacks, and then serves as it does anywhere. What it writes stays in the machine's
//! memory, so a picture of that memory is a picture of the disk too.

use std::ffi::CStr;
use std::fs;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use crate::confine::Confinement;
use crate::root;
use crate::sys::{self, nr, sys};
use crate::wire::{self, Take};

/// How this program is called when the kernel starts it.
const NAME: &str = "/init";
/// Kernel modules, in the order of their names; gone once they are loaded.
const MODULES: &str = "/modules";
/// The disk of the image, which nobody writes.
const DISK: &CStr = c"/dev/vda";
/// Is there where sockets to the host are.
const SOCKETS: &str = "/dev/vsock";
/// The file system that holds what is written. Under the root it has no name any more.
const MEMORY: i32 = 40;
/// How long devices may take to appear.
const DEVICES: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(2);

const NOSUID: usize = 2;
const NODEV: usize = 4;
const NOEXEC: usize = 8;
const RDONLY: usize = 1;
const MOVE: usize = 8192;

/// Whether this is the first process of a machine.
pub fn is_one() -> bool {
    std::env::args().next().as_deref() == Some(NAME)
}

/// Says on the console why this machine ends: there may be no other line yet.
pub fn complain(error: &io::Error) {
    let _ = fs::write("/dev/kmsg", format!("<0>the agent: {error}\n"));
}

/// The line to the supervisor.
#[derive(Clone)]
pub enum Line {
    /// A device of this name. It is there again wherever the machine goes on.
    Port(String),
    /// A socket to the host. It is closed wherever the machine goes on from a picture, and here too.
    Socket,
}

/// Makes the machine's root, and puts the line to the supervisor at `control`.
pub fn begin(control: i32) -> io::Result<Line> {
    let step = |what: &'static str| move |error: io::Error| io::Error::other(format!("{what}: {error}"));
    for folder in ["/dev", "/proc", "/image", "/memory", "/world"] {
        fs::create_dir_all(folder)?;
    }
    sys::mount(c"dev", c"/dev", c"devtmpfs", NOSUID | NOEXEC, c"mode=755").map_err(step("mounting /dev"))?;
    sys::mount(c"proc", c"/proc", c"proc", NOSUID | NODEV | NOEXEC, c"").map_err(step("mounting /proc"))?;
    // A program that asks for more than there is gets it, and is ended when it takes it: as in any world.
    fs::write("/proc/sys/vm/overcommit_memory", "1")?;
    load_modules().map_err(step("loading modules"))?;
    wait_for(|| fs::exists("/dev/vda").unwrap_or(false).then_some(()), "the image's disk")?;
    sys::mount(DISK, c"/image", c"erofs", RDONLY, c"").map_err(step("mounting the image"))?;
    let line = wait_for(line, "the line to the supervisor")?;
    change_root().map_err(step("making the root"))?;
    line.open(control)?;
    Ok(line)
}

impl Line {
    fn open(&self, control: i32) -> io::Result<()> {
        let line = match self {
            Self::Port(name) => sys::open(&root::c(format!("/dev/{name}").as_bytes())?, sys::O_RDWR, 0)?,
            Self::Socket => wait_for(|| dial().ok(), "the supervisor")?,
        };
        if line != control {
            sys!(nr::DUP2, line, control)?;
            sys::close(line);
        }
        // It is handed to nobody.
        const F_SETFD: usize = 2;
        sys!(nr::FCNTL, control, F_SETFD, 1).map(drop)
    }

    /// Opens it again, if it is one that closes where a machine goes on.
    pub fn open_again(&self, control: i32, closed: io::Error) -> io::Result<()> {
        match self {
            Self::Port(_) => Err(closed),
            Self::Socket => self.open(control),
        }
    }
}

/// Connects to the supervisor.
fn dial() -> io::Result<i32> {
    const FAMILY: u16 = 40;
    const STREAM: usize = 1;
    const HOST: u32 = 2;
    let socket = sys!(nr::SOCKET, FAMILY as usize, STREAM | sys::O_CLOEXEC, 0)? as i32;
    let mut address = [0u8; 16];
    address[..2].copy_from_slice(&FAMILY.to_le_bytes());
    address[4..8].copy_from_slice(&wire::PORT.to_le_bytes());
    address[8..12].copy_from_slice(&HOST.to_le_bytes());
    let connected = sys!(nr::CONNECT, socket, address.as_ptr(), address.len());
    if connected.is_err() {
        sys::close(socket);
    }
    connected.map(|_| socket)
}

fn load_modules() -> io::Result<()> {
    let mut files: Vec<_> = fs::read_dir(MODULES)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    files.sort();
    for file in files {
        let fd = sys::open(&root::c(file.as_os_str().as_encoded_bytes())?, sys::O_CLOEXEC, 0)?;
        let loaded = sys!(nr::FINIT_MODULE, fd, c"".as_ptr(), 0);
        sys::close(fd);
        loaded.map_err(|error| io::Error::other(format!("{}: {error}", file.display())))?;
    }
    fs::remove_dir_all(MODULES)
}

fn wait_for<T>(look: impl Fn() -> Option<T>, what: &str) -> io::Result<T> {
    let until = Instant::now() + DEVICES;
    loop {
        match look() {
            Some(found) => return Ok(found),
            None if Instant::now() > until => return Err(io::Error::other(format!("{what} did not appear"))),
            None => thread::sleep(POLL),
        }
    }
}

/// The line to the supervisor: sockets, if there are any, or the only port that there is.
fn line() -> Option<Line> {
    if fs::exists(SOCKETS).unwrap_or(false) {
        return Some(Line::Socket);
    }
    let mut names = fs::read_dir("/dev").ok()?.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.find(|name| name.starts_with("vport")).map(Line::Port)
}

/// The image below, what is written above it, in memory.
fn change_root() -> io::Result<()> {
    sys::mount(c"memory", c"/memory", c"tmpfs", NODEV, c"mode=755,size=100%")?;
    const O_DIRECTORY: usize = 0o200000;
    let memory = sys::open(c"/memory", O_DIRECTORY | sys::O_CLOEXEC, 0)?;
    sys::move_up(memory, MEMORY)?;
    for folder in ["/memory/upper", "/memory/work"] {
        fs::create_dir(folder)?;
    }
    let layers = c"lowerdir=/image,upperdir=/memory/upper,workdir=/memory/work";
    sys::mount(c"overlay", c"/world", c"overlay", NODEV, layers)?;
    for folder in ["proc", "dev", "sys", "tmp", "run", "root"] {
        let _ = fs::create_dir(format!("/world/{folder}"));
    }
    sys::mount(c"/dev", c"/world/dev", c"", MOVE, c"")?;
    sys::mount(c"/proc", c"/world/proc", c"", MOVE, c"")?;
    sys::mount(c"sys", c"/world/sys", c"sysfs", NOSUID | NODEV | NOEXEC, c"")?;
    for (folder, kind, data) in [
        (c"/world/dev/pts", c"devpts", c"newinstance,ptmxmode=0666,mode=620"),
        (c"/world/dev/shm", c"tmpfs", c"mode=1777"),
    ] {
        fs::create_dir(folder.to_string_lossy().as_ref())?;
        sys::mount(c"none", folder, kind, NOSUID, data)?;
    }
    let _ = fs::remove_file("/world/dev/ptmx");
    for (link, target) in root::LINKS {
        std::os::unix::fs::symlink(target, format!("/world/dev/{link}"))?;
    }
    // The kernel's own first root cannot be left behind in any other way.
    sys!(nr::CHDIR, c"/world".as_ptr())?;
    sys::mount(c".", c"/", c"", MOVE, c"")?;
    sys!(nr::CHROOT, c".".as_ptr())?;
    sys!(nr::CHDIR, c"/".as_ptr()).map(drop)
}

/// Who and when this machine is: at its beginning, and again wherever it goes on from a picture.
pub struct Identity {
    hostname: String,
    /// Seconds and nanoseconds since 1970.
    now: [u64; 2],
    entropy: Vec<u8>,
    /// Limits its disk, in bytes.
    pub disk: u64,
    /// Whether it goes on beside the one that it was: what that one was asked is not asked here.
    pub is_branch: bool,
}

impl Identity {
    /// Reads one from a call.
    pub fn parse(take: &mut Take) -> Option<Self> {
        Some(Self {
            hostname: take.text()?,
            now: [take.u64()?, take.u64()?],
            entropy: take.bytes()?.to_vec(),
            disk: take.u64()?,
            is_branch: take.u32()? == 1,
        })
    }

    /// Takes it on.
    pub fn assume(&self) -> io::Result<()> {
        const CLOCK_REALTIME: usize = 0;
        sys!(nr::CLOCK_SETTIME, CLOCK_REALTIME, self.now.as_ptr())?;
        sys!(nr::SETHOSTNAME, self.hostname.as_ptr(), self.hostname.len())?;
        if !self.entropy.is_empty() {
            reseed(&self.entropy)?;
        }
        Ok(())
    }

    /// What is done once: the loopback, and how much of the memory files may take.
    pub fn settle(&self) -> io::Result<Confinement> {
        root::network(&self.hostname)?;
        limit_disk(self.disk)?;
        Ok(Confinement {
            keep: u64::MAX,
            filter: Vec::new(),
            limits: Vec::new(),
            landlock: false,
        })
    }
}

/// Holds all that is written to this many bytes. What is on it already must fit.
pub fn limit_disk(bytes: u64) -> io::Result<()> {
    const REMOUNT: usize = 32;
    let place = root::c(format!("/proc/self/fd/{MEMORY}").as_bytes())?;
    sys::mount(c"memory", &place, c"tmpfs", REMOUNT | NODEV, &root::c(format!("size={bytes}").as_bytes())?)
}

/// How many bytes are written.
pub fn used() -> io::Result<u64> {
    const SIZE: usize = 1;
    const BLOCKS: usize = 2;
    const FREE: usize = 3;
    let mut about = [0u64; 15];
    sys!(nr::FSTATFS, MEMORY, about.as_mut_ptr())?;
    Ok((about[BLOCKS] - about[FREE]) * about[SIZE])
}

/// Gives the kernel randomness that no other machine has, and has it use that at once.
fn reseed(entropy: &[u8]) -> io::Result<()> {
    const ADD: usize = 0x4008_5203;
    const RESEED: usize = 0x5207;
    let device = sys::open(c"/dev/urandom", sys::O_RDWR | sys::O_CLOEXEC, 0)?;
    let mut pool = (entropy.len() as u32 * 8).to_le_bytes().to_vec();
    pool.extend((entropy.len() as u32).to_le_bytes());
    pool.extend(entropy);
    let done = sys!(nr::IOCTL, device, ADD, pool.as_ptr()).and_then(|_| sys!(nr::IOCTL, device, RESEED, 0));
    sys::close(device);
    done.map(drop)
}
