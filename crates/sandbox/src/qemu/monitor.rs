//! One QEMU process: how it is started, and the conversation with it (QMP, one JSON object a line).
//!
//! It finds everything that it needs as open descriptors, runs as a user of no one's in a control group of
//! its own and without a network, starts no program, and ends with this one (`zygote`).

use std::fs::{self, File, Metadata};
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use super::memory::Memory;
use super::zygote::{Copy, Starter};
use crate::guest;
use crate::host::cgroup::{Group, Hierarchies, Limits};
use crate::host::{self, FIRST_USER};

/// The program.
pub(super) const PROGRAM: &str = "qemu-system-x86_64";
/// How long it may take for an answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// Memory that it may use beside its machine's.
const OWN_MEMORY: u64 = 512 << 20;
/// Its threads.
const THREADS: u64 = 64;
/// Translated code that it keeps, in MiB: what the start of Linux and of an interpreter takes, and what is
/// enough to go on with.
const TRANSLATED_MIB: [u32; 2] = [256, 64];
/// The processor that is translated: what programs of today ask for (x86-64-v2). Wider vectors would be
/// chosen by programs for their speed, and translated they are slower.
pub(super) const PROCESSOR: &str = "Nehalem,+rdrand";
/// What the machine's kernel is told. A machine that ends abnormally ends its monitor too. It neither tests its
/// ciphers nor reads keys for modules nor makes ready to be traced, which takes a second where instructions
/// are translated.
const KERNEL: &str = "console=ttyS0 quiet panic=-1 reboot=t mitigations=off nokaslr init_on_alloc=0 rdinit=/init \
     cryptomgr.notests initcall_blacklist=init_kprobe_trace,trace_eval_init,load_system_certificate_list";

/// How instructions are executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Accelerator {
    /// By the processor.
    Kvm,
    /// By translation.
    Tcg,
}

impl std::fmt::Display for Accelerator {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.write_str(match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        })
    }
}

/// How a machine begins.
pub(super) enum Begin<'a> {
    /// With a kernel and the first root.
    Boot { kernel: &'a File, root: &'a File },
    /// As another stood still: going on at once, or when it is told to.
    From { devices: File, waits: bool },
}

/// What a machine is made of.
pub(super) struct Parts<'a> {
    pub(super) accelerator: Accelerator,
    /// The processor, where it is translated.
    pub(super) translated: &'a str,
    pub(super) vcpus: u32,
    pub(super) mib: u32,
    pub(super) memory: &'a Memory,
    pub(super) disk: &'a File,
    pub(super) begin: Begin<'a>,
}

/// A running QEMU. It ends when this is dropped.
pub(super) struct Monitor {
    pub(super) pid: i32,
    process: Copy,
    qmp: Mutex<Qmp>,
    /// Where it writes the state of its devices: the same place in the same file that it has.
    state: File,
    said: Arc<Mutex<Vec<u8>>>,
    pub(super) group: Group,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Monitor {
    /// Starts one, in a control group of this name; gives the line to its machine's agent too.
    pub(super) fn start(
        starter: &Starter,
        hierarchies: &Hierarchies,
        name: &str,
        parts: &Parts,
    ) -> io::Result<(Self, UnixStream)> {
        let group = hierarchies.create(name, limits(parts.mib, parts.vcpus))?;
        let (process, ends) = match spawn(starter, parts) {
            Ok(spawned) => spawned,
            Err(error) => {
                let _ = group.remove();
                return Err(error);
            }
        };
        let pid = process.pid;
        let monitor = Self {
            pid,
            process,
            qmp: Mutex::new(Qmp::new(ends.qmp)),
            state: ends.state,
            said: guest::remember(ends.words),
            group,
        };
        monitor.group.admit(pid)?;
        Ok((monitor, ends.line))
    }

    /// Stops the machine, or lets it go on.
    pub(super) fn run(&self, go_on: bool) -> io::Result<()> {
        lock(&self.qmp)
            .ask(if go_on { "cont" } else { "stop" }, &json!({}))
            .map(drop)
    }

    /// Begins the conversation, which has to be done before anything can be asked.
    pub(super) fn meet(&self) -> io::Result<()> {
        lock(&self.qmp).ask("query-status", &json!({})).map(drop)
    }

    /// The state of all devices and processors of a stopped machine. Its memory is not among it.
    pub(super) fn devices(&self) -> io::Result<Vec<u8>> {
        let mut state = &self.state;
        state.set_len(0)?;
        io::Seek::rewind(&mut state)?;
        let place = json!({ "filename": "/dev/fdset/2", "live": false });
        lock(&self.qmp).ask("xen-save-devices-state", &place)?;
        fs::read(path_of(state))
    }

    /// The last that it or its machine's console said.
    pub(super) fn last_words(&self) -> String {
        String::from_utf8_lossy(&lock(&self.said))
            .trim()
            .replace(['\r', '\n'], " ")
    }

    /// Ends it, and its machine with it.
    pub(super) fn end(&self) -> io::Result<()> {
        self.process.end()?;
        self.group.remove()
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        // A second time it is gone already.
        let _ = self.end();
    }
}

/// Our ends of what a monitor is given.
struct Ends {
    qmp: UnixStream,
    line: UnixStream,
    state: File,
    words: io::PipeReader,
}

fn spawn(starter: &Starter, parts: &Parts) -> io::Result<(Copy, Ends)> {
    let (qmp, their_qmp) = UnixStream::pair()?;
    let (line, their_line) = UnixStream::pair()?;
    let (words, their_words) = io::pipe()?;
    qmp.set_read_timeout(Some(PATIENCE))?;
    // The monitor takes a descriptor for writing alone, and for nothing else.
    let state = anonymous("worldline-devices")?;
    let state = File::options().write(true).open(path_of(&state))?;
    let mut given = vec![
        their_qmp.as_fd(),
        their_line.as_fd(),
        parts.memory.file().as_fd(),
        parts.disk.as_fd(),
        state.as_fd(),
    ];
    match &parts.begin {
        Begin::Boot { kernel, root } => given.extend([kernel.as_fd(), root.as_fd()]),
        Begin::From { devices, .. } => given.push(devices.as_fd()),
    }
    given.push(their_words.as_fd());
    let process = starter.start(&arguments(parts), &given, parts.accelerator)?;
    let ends = Ends {
        qmp,
        line,
        state,
        words,
    };
    Ok((process, ends))
}

/// The device of KVM.
pub(super) const DEVICE: &str = "/dev/kvm";

/// Prepares a thread that starts monitors, if it may. Those that need no KVM find none.
pub(super) fn set_apart(accelerator: Accelerator) {
    if !host::is_root() {
        return;
    }
    // What has no network of this host's can give none to a machine that breaks out into it.
    if let Err(error) = host::leave_network() {
        tracing::warn!("monitors are in this host's network: {error}");
    }
    if accelerator == Accelerator::Kvm
        && fs::metadata(DEVICE)
            .is_ok_and(|device| !is_open_to_all(&device) && group(&device).is_none())
        && let Err(error) = host::own_device(Path::new(DEVICE), FIRST_USER, &std::env::temp_dir())
    {
        tracing::warn!("monitors cannot open {DEVICE}: {error}");
    }
}

fn is_open_to_all(device: &Metadata) -> bool {
    device.mode() & 0o006 == 0o006
}

/// The group that may use the device, if one that is not the administrator's may.
fn group(device: &Metadata) -> Option<u32> {
    (device.mode() & 0o060 == 0o060 && device.gid() != 0).then(|| device.gid())
}

/// The user and the group of no one's that a monitor has, if this program may choose. In the group it may use KVM
/// if it is to, and one may.
pub(super) fn nobody(accelerator: Accelerator) -> Option<(u32, u32)> {
    let device = fs::metadata(DEVICE).ok();
    let kvm = device.filter(|_| accelerator == Accelerator::Kvm);
    let group = kvm.and_then(|device| group(&device)).unwrap_or(FIRST_USER);
    host::is_root().then_some((FIRST_USER, group))
}

fn limits(mib: u32, vcpus: u32) -> Limits {
    Limits {
        memory_bytes: (u64::from(mib) << 20) + OWN_MEMORY,
        processes: THREADS + u64::from(vcpus),
        processors: vcpus + 1,
    }
}

/// The arguments, its own name first. Descriptors are numbered in the order in which they are given.
fn arguments(parts: &Parts) -> Vec<String> {
    let (mib, vcpus) = (parts.mib, parts.vcpus);
    let (accelerator, processor) = match parts.accelerator {
        Accelerator::Kvm => ("kvm".into(), "host"),
        Accelerator::Tcg => {
            let threads = if vcpus == 1 { "single" } else { "multi" };
            let [boot, on] = TRANSLATED_MIB;
            let size = if matches!(parts.begin, Begin::Boot { .. }) {
                boot
            } else {
                on
            };
            (
                format!("tcg,thread={threads},tb-size={size}"),
                parts.translated,
            )
        }
    };
    let mut all = vec![
        PROGRAM.to_owned(),
        "-machine".into(),
        "pc,usb=off,vmport=off,hpet=off,smbus=off,suppress-vmdesc=on,memory-backend=memory".into(),
        "-accel".into(),
        accelerator,
        "-cpu".into(),
        processor.into(),
        "-m".into(),
        mib.to_string(),
        "-smp".into(),
        vcpus.to_string(),
        "-object".into(),
        format!("memory-backend-file,id=memory,size={mib}M,mem-path=/proc/self/fd/5,share=off"),
        // What describes the form of a state is for other versions: ours is for this one alone.
        "-global".into(),
        "migration.send-configuration=off".into(),
        "-chardev".into(),
        "socket,id=qmp,fd=3".into(),
        "-mon".into(),
        "chardev=qmp,mode=control".into(),
        "-chardev".into(),
        "socket,id=line,fd=4".into(),
        "-device".into(),
        "virtio-serial-pci".into(),
        "-device".into(),
        "virtserialport,chardev=line,name=worldline".into(),
        "-add-fd".into(),
        "fd=6,set=1".into(),
        "-blockdev".into(),
        "driver=file,node-name=disk,filename=/dev/fdset/1,read-only=on,locking=off".into(),
        "-device".into(),
        "virtio-blk-pci,drive=disk".into(),
        "-add-fd".into(),
        "fd=7,set=2".into(),
        "-chardev".into(),
        "stdio,id=console,signal=off".into(),
        "-serial".into(),
        "chardev:console".into(),
        "-sandbox".into(),
        "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny".into(),
    ];
    for alone in ["-nodefaults", "-no-user-config", "-no-reboot"] {
        all.push(alone.into());
    }
    all.extend(["-display".into(), "none".into()]);
    let begin: &[&str] = match &parts.begin {
        Begin::Boot { .. } => &[
            "-kernel",
            "/proc/self/fd/8",
            "-initrd",
            "/proc/self/fd/9",
            "-append",
            KERNEL,
        ],
        Begin::From { waits: false, .. } => &["-incoming", "fd:8"],
        Begin::From { waits: true, .. } => &["-incoming", "fd:8", "-S"],
    };
    all.extend(begin.iter().map(|&one| one.to_owned()));
    all
}

/// An anonymous file.
pub(super) fn anonymous(name: &str) -> io::Result<File> {
    Ok(File::from(rustix::fs::memfd_create(
        name,
        rustix::fs::MemfdFlags::CLOEXEC,
    )?))
}

/// Another way to an open file, with rights of its own.
pub(super) fn path_of(file: &File) -> String {
    format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(file))
}

/// The conversation. It begins with the first question.
struct Qmp {
    socket: BufReader<UnixStream>,
    is_open: bool,
}

impl Qmp {
    fn new(socket: UnixStream) -> Self {
        Self {
            socket: BufReader::new(socket),
            is_open: false,
        }
    }

    fn ask(&mut self, what: &str, arguments: &Value) -> io::Result<Value> {
        if !self.is_open {
            self.socket.read_line(&mut String::new())?;
            self.is_open = true;
            self.ask("qmp_capabilities", &json!({}))?;
        }
        let mut line = json!({ "execute": what, "arguments": arguments }).to_string();
        line.push('\n');
        self.socket.get_mut().write_all(line.as_bytes())?;
        loop {
            let mut line = String::new();
            if self.socket.read_line(&mut line)? == 0 {
                return Err(io::Error::new(
                    io::ErrorKind::BrokenPipe,
                    "the machine's monitor has ended",
                ));
            }
            let mut answer: Value = serde_json::from_str(&line)?;
            if let Some(error) = answer.get("error") {
                let why = error["desc"].as_str().unwrap_or("it does not say why");
                return Err(io::Error::other(format!("{what}: {why}")));
            }
            // What it tells without being asked is told by the line to the agent as well.
            if let Some(value) = answer.get_mut("return") {
                return Ok(value.take());
            }
        }
    }
}
