//! A machine's wall. Who is inside rules a kernel of its own, so much that a world of processes refuses
//! succeeds there, and rightly: what has to hold is that this was done to the machine, that nothing of the
//! host is another than before, and that the other machines go on.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command as Outside, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use libtest_mimic::Trial;
use worldline_sandbox::{Backend, Cell, ExecError, Outcome, Sandbox, Spec};

use crate::escapes::{ATTEMPTS, Attempt, TOOLS, WORD, got_out};
use crate::{Play, When, images, world};

/// How far a clock may be corrected while an attempt runs.
const CORRECTION: u64 = 3600;
/// How long an attempt may take where a machine is hurt, but goes on.
const LONG: Duration = Duration::from_secs(60);
/// How much of an image's disk is compared: all that says where anything on it is.
const BEGINNING: u64 = 64 << 10;

/// What of this host an attempt could change.
#[derive(Debug)]
struct Host {
    facts: BTreeMap<String, String>,
    /// Seconds from its start to 1970, which are the same as long as nobody sets its clock.
    started: u64,
}

impl Host {
    fn look() -> Self {
        let mut facts = BTreeMap::new();
        let settings = [
            "kernel/hostname",
            "kernel/domainname",
            "kernel/core_pattern",
            "kernel/random/boot_id",
            "vm/swappiness",
        ];
        for name in settings {
            let value = fs::read_to_string(format!("/proc/sys/{name}"));
            facts.insert(name.to_owned(), value.unwrap_or_default());
        }
        for name in ["user", "pid", "mnt", "net", "ipc", "uts", "cgroup"] {
            let place = format!("/proc/1/ns/{name}");
            let namespace = fs::read_link(&place).unwrap_or_default();
            facts.insert(place, namespace.to_string_lossy().into_owned());
        }
        for disk in disks() {
            facts.insert(disk.to_string_lossy().into_owned(), beginning(&disk));
        }
        let uptime = fs::read_to_string("/proc/uptime").unwrap();
        let up: u64 = uptime.split('.').next().unwrap().parse().unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        Self {
            facts,
            started: now.as_secs() - up,
        }
    }

    /// What is another than it was, and where this mark is.
    fn changed(&self, mark: &str) -> Vec<String> {
        let now = Self::look();
        let mut changed = found(mark);
        if now.started.abs_diff(self.started) > CORRECTION {
            changed.push("the clock".into());
        }
        // An image that somebody removes is none that a machine wrote.
        let other =
            |(name, was): &(&String, &String)| now.facts.get(*name).is_some_and(|is| is != *was);
        changed.extend(
            self.facts
                .iter()
                .filter(other)
                .map(|(name, _)| name.clone()),
        );
        changed
    }
}

/// The disks of all images, as they lie on this host.
fn disks() -> Vec<PathBuf> {
    let inside = |folder: fs::DirEntry| fs::read_dir(folder.path()).into_iter().flatten().flatten();
    let all = fs::read_dir(images()).into_iter().flatten().flatten();
    all.flat_map(inside)
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "erofs"))
        .collect()
}

fn beginning(disk: &Path) -> String {
    let mut bytes = Vec::new();
    let Ok(file) = File::open(disk) else {
        return String::new();
    };
    let _ = file.take(BEGINNING).read_to_end(&mut bytes);
    let length = fs::metadata(disk).map_or(0, |about| about.len());
    format!("{length} {bytes:?}")
}

/// Where on this host a mark is.
fn found(mark: &str) -> Vec<String> {
    let mut found = Vec::new();
    for list in ["self/mountinfo", "1/mountinfo", "keys", "net/unix"] {
        let text = fs::read(format!("/proc/{list}")).unwrap_or_default();
        if String::from_utf8_lossy(&text).contains(mark) {
            found.push(format!("/proc/{list}"));
        }
    }
    for folder in ["/tmp", "/dev/shm", "/dev"] {
        let place = format!("{folder}/{mark}");
        if fs::symlink_metadata(&place).is_ok() {
            found.push(place);
        }
    }
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let marked = |path: &PathBuf| {
        fs::read(path).is_ok_and(|line| String::from_utf8_lossy(&line).starts_with(mark))
    };
    found.extend(
        processes
            .map(|entry| entry.path().join("cmdline"))
            .filter(marked)
            .map(|path| path.display().to_string()),
    );
    found.extend(group(mark));
    found
}

/// A control group of this name, in any hierarchy.
fn group(mark: &str) -> Option<String> {
    let root = PathBuf::from("/sys/fs/cgroup");
    let hierarchies = fs::read_dir(&root).into_iter().flatten().flatten();
    let all = hierarchies.map(|entry| entry.path()).chain([root]);
    let place = all.map(|folder| folder.join(mark)).find(|it| it.is_dir());
    place.map(|place| place.display().to_string())
}

/// A word that is nowhere on this host.
fn fresh() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("wlmark-{}-{number}-", std::process::id())
}

/// How an attempt is to end in a machine.
#[derive(Clone, Copy, PartialEq)]
enum Ends {
    /// In any way that is not this host's kernel.
    Within,
    /// As whoever rules a machine may expect: it succeeds.
    Marked,
    /// It may end its machine.
    Hurt,
}

/// Why an attempt in a machine is a failure of its wall; nothing if it is none.
fn broken(machine: &dyn Sandbox, attempt: &Attempt, mark: &str, ends: Ends) -> Option<String> {
    let cell = Cell::new(format!("MARK = '{mark}'\n{}", attempt.program())).within(LONG);
    let mut printed = Vec::new();
    let outcome = machine.run(&cell, &mut |_, bytes| printed.extend_from_slice(bytes));
    let printed = String::from_utf8_lossy(&printed);
    let whole = printed.contains(WORD) || printed.contains("kept in:");
    let right = match ends {
        // The boot that it prints is a machine's own wherever it was in a machine that it got further.
        _ if got_out(&printed) => false,
        Ends::Within => whole,
        Ends::Marked => printed.contains(WORD),
        Ends::Hurt => whole || hurt(&outcome, &printed),
    };
    eprintln!("{}: {}", attempt.name, printed.trim());
    if let Err(why) = &outcome {
        eprintln!("{}: its machine: {why}", attempt.name);
    }
    (!right).then(|| format!("{}: {outcome:?} {printed}", attempt.name))
}

/// Whether a machine ended, or is not what it was. An interpreter that ended shows nothing, unless it was on the
/// way: a port can exchange all memory under it.
fn hurt(outcome: &Result<Outcome, ExecError>, printed: &str) -> bool {
    match outcome {
        Ok(outcome) => outcome.status != "ok",
        Err(ExecError::InterpreterEnded { .. }) => printed.contains("ports are open"),
        Err(_) => true,
    }
}

/// Each of these in a branch of its own; what is wrong of what they did.
fn attempt(backend: &dyn Backend, all: &[Attempt], ends: Ends) {
    let (host, mark) = (Host::look(), fresh());
    let base = world(backend);
    // Once for all branches.
    base.cell(&format!(
        "{TOOLS}import fcntl, mmap, pty, random, resource, time\n{PORTS}"
    ));
    let snapshot = base.snapshot(None).unwrap();
    let mut wrong = Vec::new();
    for one in all {
        let machine = backend.restore(&snapshot.id, &Spec::default()).unwrap();
        wrong.extend(broken(&*machine, one, &mark, ends));
        // While it runs still: a mark may go with whoever left it.
        let changed = host.changed(&mark);
        if !changed.is_empty() {
            wrong.push(format!("{} changed this host: {changed:?}", one.name));
        }
        assert_eq!(base.value("1 + 1"), "2", "{}", one.name);
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let after = backend.restore(&snapshot.id, &Spec::default()).unwrap();
    assert_eq!(after.value("1 + 1"), "2");
}

pub(crate) fn attempts_end_at_the_machine_s_wall(backend: &dyn Backend) {
    attempt(backend, ATTEMPTS, Ends::Within);
}

pub(crate) fn marks_that_a_machine_leaves_are_its_own(backend: &dyn Backend) {
    attempt(backend, &marks(), Ends::Marked);
}

pub(crate) fn garbage_for_a_machine_s_devices_hurts_it_alone(backend: &dyn Backend) {
    attempt(backend, DEVICES, Ends::Hurt);
}

/// What would be seen from outside if it were done outside, and can be taken back there.
#[rustfmt::skip]
const VISIBLE: &[Attempt] = &[
    Attempt { name: "a mount", code: "os.makedirs('/tmp/' + MARK, exist_ok=True)\nassert libc.mount(MARK.encode(), ('/tmp/' + MARK).encode(), b'tmpfs', 0, None) == 0" },
    Attempt { name: "a file in memory", code: "open('/dev/shm/' + MARK, 'w').close()" },
    Attempt { name: "a process", code: "marked = subprocess.Popen([MARK, '600'], executable='/bin/sleep')" },
    Attempt { name: "a name for a socket", code: "marked_socket = socket.socket(socket.AF_UNIX)\nmarked_socket.bind('\\0' + MARK)" },
    Attempt { name: "a key", code: "call(248, b'user', MARK.encode(), b'x', 1, ctypes.c_long(-2))" },
    Attempt { name: "a control group", code: "found = [l.split()[1] for l in open('/proc/mounts') if l.split()[2].startswith('cgroup')]\nif not found:\n    os.makedirs('/tmp/groups'); found = ['/tmp/groups']\n    assert libc.mount(b'x', b'/tmp/groups', b'cgroup2', 0, None) == 0\nos.makedirs(found[0] + '/' + MARK)" },
];

/// What would change a host for everybody.
#[rustfmt::skip]
const LASTING: &[Attempt] = &[
    Attempt { name: "another name", code: "call(170, MARK.encode(), len(MARK))\nassert socket.gethostname() == MARK" },
    Attempt { name: "another setting", code: "old = int(open('/proc/sys/vm/swappiness').read())\nopen('/proc/sys/vm/swappiness', 'w').write(str(99 - old))\nassert int(open('/proc/sys/vm/swappiness').read()) == 99 - old" },
    Attempt { name: "a program for all crashes", code: "open('/proc/sys/kernel/core_pattern', 'w').write('|/tmp/' + MARK)\nassert MARK in open('/proc/sys/kernel/core_pattern').read()" },
    Attempt { name: "another year", code: "import time\ntime.clock_settime(time.CLOCK_REALTIME, time.time() + 400 * 86400)" },
    Attempt { name: "a device of its own", code: "os.mknod('/dev/' + MARK, 0o20600, os.makedev(1, 3))\nopen('/dev/' + MARK, 'wb').write(b'x')" },
];

fn marks() -> Vec<Attempt> {
    [VISIBLE, LASTING].concat()
}

/// What a machine has of its monitor, written with garbage. `out` is code of its own that writes to any port.
#[rustfmt::skip]
const DEVICES: &[Attempt] = &[
    Attempt { name: "its disk, made writable", code: "d = os.open('/dev/vda', os.O_RDONLY)\nfcntl.ioctl(d, 0x125d, struct.pack('i', 0))\nw = os.open('/dev/vda', os.O_RDWR)\nos.write(w, b'garbage!' * 512)\nos.fsync(w)" },
    Attempt { name: "its disk, thrown away", code: "d = os.open('/dev/vda', os.O_RDWR)\nfcntl.ioctl(d, 0x1277, struct.pack('QQ', 0, 1 << 20))" },
    Attempt { name: "garbage in place of the agent's words", code: "agent = call(434, 1, 0)\nlines = [n for n in os.listdir('/proc/1/fd') if 'vport' in os.readlink('/proc/1/fd/' + n) or 'socket' in os.readlink('/proc/1/fd/' + n)]\nassert lines\nfor n in lines: os.write(call(438, agent, int(n), 0), random.Random(1).randbytes(1 << 16))" },
    Attempt { name: "answers in the agent's name", code: "agent = call(434, 1, 0)\nlines = [n for n in os.listdir('/proc/1/fd') if 'vport' in os.readlink('/proc/1/fd/' + n) or 'socket' in os.readlink('/proc/1/fd/' + n)]\nassert lines\nfor n in lines:\n    line = call(438, agent, int(n), 0)\n    for kind in range(256):\n        for number in range(64): os.write(line, struct.pack('<IBI', 4, kind, number) + b'\\xff' * 4)" },
    Attempt { name: "a flood on its console", code: "w = os.open('/dev/ttyS0', os.O_WRONLY)\nfor _ in range(64): os.write(w, b'flood ' * 512)" },
    Attempt { name: "the firmware's configuration", code: "out = ports()\nfor p in (0x510, 0x511, 0x514, 0x518):\n    for v in random.Random(2).choices(range(1 << 32), k=256): out(v, p, 4); out(v, p, 2); out(v, p, 1)" },
    Attempt { name: "the ports of exits, of debuggers and of management", code: "out = ports()\nfor p in (0xf4, 0xe9, 0x402, 0x501, 0xb2, 0xb3, 0x5658, 0xaf00, 0xaf0c, 0xae00, 0xae08, 0xcd8):\n    for v in range(256): out(v * 0x01010101, p, 4); out(v, p, 1)" },
    Attempt { name: "any port", code: "out = ports()\nfor p in random.Random(3).sample(range(1 << 16), 1 << 16): out(random.getrandbits(32), p, random.choice((1, 2, 4)))" },
    Attempt { name: "ports of its devices alone", code: "out = ports()\nranges = [l.split(':')[0].strip().split('-') for l in open('/proc/ioports') if 'virtio' in l or '0000:00' in l]\nassert ranges\nfor _ in range(20):\n    for a, b in ranges:\n        for p in range(int(a, 16), int(b, 16) + 1): out(random.getrandbits(32), p, random.choice((1, 2, 4)))" },
    Attempt { name: "the port that turns it off", code: "ports()(0x2000, 0x604, 2)" },
    Attempt { name: "the ports that begin it anew", code: "out = ports()\nout(6, 0xcf9, 1); out(0xfe, 0x64, 1); out(1, 0x92, 1)" },
    Attempt { name: "the settings of its bus", code: "import glob\nfor f in sorted(glob.glob('/sys/bus/pci/devices/*/config')):\n    w = os.open(f, os.O_RDWR)\n    os.pwrite(w, random.Random(4).randbytes(240), 16)" },
    Attempt { name: "registers of its devices in memory", code: "import glob\nwrote = 0\nfor f in sorted(glob.glob('/sys/bus/pci/devices/*/resource[0-9]')):\n    w = os.open(f, os.O_RDWR | os.O_SYNC); size = os.fstat(w).st_size\n    try: m = mmap.mmap(w, size)\n    except (OSError, ValueError): continue\n    for at in range(0, min(size, 1 << 16) - 3, 4): m[at:at + 4] = random.randbytes(4)\n    wrote += 1\nassert wrote" },
    Attempt { name: "any memory of its hardware", code: "w = os.open('/dev/mem', os.O_RDWR | os.O_SYNC)\nwrote = 0\nfor place in (0xfec00000, 0xfee00000, 0xfed00000, 0xfeb00000, 0xc0000000, 0xa0000, 0xf0000, 0):\n    try: m = mmap.mmap(w, 4096, offset=place)\n    except (OSError, ValueError): continue\n    for at in range(0, 4093, 4): m[at:at + 4] = random.randbytes(4)\n    wrote += 1\nassert wrote" },
    Attempt { name: "registers of its processor", code: "w = os.open('/dev/cpu/0/msr', os.O_RDWR)\nfor at in range(1 << 12):\n    try: os.pwrite(w, random.randbytes(8), at)\n    except OSError: pass" },
    Attempt { name: "a crash of its kernel", code: "open('/proc/sysrq-trigger', 'w').write('c')" },
];

/// Machine code that writes a byte, a word, or two words to a port.
const PORTS: &str = r"
def ports():
    call(172, 3)
    code = mmap.mmap(-1, 4096, prot=7)
    place = ctypes.addressof(ctypes.c_char.from_buffer(code))
    ways = {}
    for size, write in ((1, b'\xee'), (2, b'\x66\xef'), (4, b'\xef')):
        at = 16 * size
        code[at:at + 4 + len(write) + 1] = b'\x89\xf2\x89\xf8' + write + b'\xc3'
        ways[size] = ctypes.CFUNCTYPE(None, ctypes.c_uint, ctypes.c_uint)(place + at)
    ways[1](0, 0x80)
    print('ports are open', flush=True)
    return lambda value, port, size, kept=code: ways[size](value, port)
";

/// The control, where marks can be left.
pub(crate) fn control() -> Trial {
    let name = "a_mark_on_this_host_is_found";
    let is_root = fs::metadata("/proc/self").is_ok_and(|about| about.uid() == 0);
    if !is_root {
        eprintln!("IGNORED {name}: only the administrator may leave them");
    }
    crate::trial(name, When::here(is_root), a_mark_on_this_host_is_found)
}

/// The same marks, left on this host, are found on it, each by itself.
fn a_mark_on_this_host_is_found() {
    let host = Host::look();
    for one in VISIBLE {
        let mark = fresh();
        assert_eq!(host.changed(&mark), Vec::<String>::new());
        let changed = left_here(one, &mark, || host.changed(&mark));
        remove(&mark);
        match changed {
            Some(changed) => assert!(!changed.is_empty(), "{} is not seen", one.name),
            None => eprintln!("IGNORED in part: {} cannot be left on this host", one.name),
        }
    }
}

/// Leaves a mark without a machine, and looks while it is there; nothing where it could not be left.
fn left_here<T>(attempt: &Attempt, mark: &str, look: impl FnOnce() -> T) -> Option<T> {
    let code = format!(
        "MARK = '{mark}'\n{}sys.stdout.flush()\nsys.stdin.read()\nif 'marked' in globals(): marked.kill()\n",
        attempt.program()
    );
    let mut child = Outside::new("python3")
        .args(["-c", &code])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .ok()?;
    let mut said = String::new();
    BufReader::new(child.stdout.as_mut()?)
        .read_line(&mut said)
        .ok()?;
    let seen = got_out(&said).then(look);
    // Its input ends, and so does it.
    drop(child.stdin.take());
    child.wait().ok()?;
    seen
}

/// Takes a mark back.
fn remove(mark: &str) {
    let mounted = format!("/tmp/{mark}");
    let _ = Outside::new("umount")
        .args(["-l", &mounted])
        .stderr(Stdio::null())
        .status();
    let _ = fs::remove_dir(&mounted);
    let _ = fs::remove_file(format!("/dev/shm/{mark}"));
    if let Some(group) = group(mark) {
        fs::remove_dir(group).unwrap();
    }
}
