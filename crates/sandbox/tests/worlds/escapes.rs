//! Attempts to get out, or to take more than was given. Each of [`ATTEMPTS`] is a Python program that
//! prints a word when it succeeds. It is run without a sandbox first, where it has to succeed.

use std::io::Write;
use std::process::{Command as Outside, Stdio};
use std::time::{Duration, Instant};

use worldline_sandbox::{Backend, Cell, Command, Spec};

use crate::{Play, Promise, quiet, world};

pub(crate) const PROMISES: &[Promise] = &[
    ("a_fork_bomb_stays_inside", a_fork_bomb_stays_inside),
    ("a_memory_bomb_stays_inside", a_memory_bomb_stays_inside),
    (
        "a_disk_bomb_ends_its_world_alone",
        a_disk_bomb_ends_its_world_alone,
    ),
    (
        "open_files_run_out_for_the_world_alone",
        open_files_run_out_for_the_world_alone,
    ),
    (
        "links_lead_to_the_world_s_own_files",
        links_lead_to_the_world_s_own_files,
    ),
    (
        "one_world_sees_nothing_of_another",
        one_world_sees_nothing_of_another,
    ),
    (
        "nobody_gains_rights_by_running_a_program",
        nobody_gains_rights_by_running_a_program,
    ),
    (
        "the_agent_cannot_be_ended_or_looked_into",
        the_agent_cannot_be_ended_or_looked_into,
    ),
    (
        "nothing_of_the_host_is_open_inside",
        nothing_of_the_host_is_open_inside,
    ),
    (
        "a_loaded_interpreter_is_as_confined_as_a_new_one",
        a_loaded_interpreter_is_as_confined_as_a_new_one,
    ),
];

pub(crate) const WORD: &str = "GOT OUT";

/// Begins each attempt. Beside the word it prints which kernel it succeeded in, by the name of its boot.
pub(crate) const TOOLS: &str = "import ctypes, os, socket, struct, subprocess, sys\n\
    kernel = open('/proc/sys/kernel/random/boot_id').read().strip()\n\
    libc = ctypes.CDLL(None, use_errno=True)\n\
    def call(*a):\n    r = libc.syscall(*[ctypes.c_long(x) if isinstance(x, int) else x for x in a])\n    if r < 0: raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))\n    return r\n";

/// A program that tries to get out. (`Popen.kill` believes that a child which a tracer has stopped has
/// ended, and leaves it: whoever waits for its output then waits for ever.)
#[derive(Clone)]
pub(crate) struct Attempt {
    pub(crate) name: &'static str,
    pub(crate) code: &'static str,
}

#[rustfmt::skip]
pub(crate) const ATTEMPTS: &[Attempt] = &[
    Attempt { name: "mounting_a_file_system_is_refused", code: "os.makedirs('/tmp/wl-m', exist_ok=True)\nif libc.mount(b'x', b'/tmp/wl-m', b'tmpfs', 0, None): raise OSError\nlibc.umount(b'/tmp/wl-m')" },
    Attempt { name: "new_mount_calls_are_refused", code: "os.close(call(430, b'tmpfs', 0))" },
    Attempt { name: "unmounting_is_refused", code: "os.makedirs('/tmp/wl-u', exist_ok=True)\nlibc.mount(b'x', b'/tmp/wl-u', b'tmpfs', 0, None)\nif libc.umount2(b'/tmp/wl-u', 2): raise OSError" },
    Attempt { name: "tracing_a_process_is_refused", code: "child = subprocess.Popen(['sleep', '5'])\ntry: call(101, 16, child.pid, 0, 0)\nfinally: os.kill(child.pid, 9)" },
    Attempt { name: "reading_another_process_s_memory_is_refused", code: "child = subprocess.Popen(['sleep', '5'])\nb = ctypes.create_string_buffer(8)\nmaps = open(f'/proc/{child.pid}/maps').readline()\nstart = int(maps.split('-')[0], 16)\niov = struct.pack('QQ', ctypes.addressof(b), 8); riov = struct.pack('QQ', start, 8)\ntry: call(310, child.pid, iov, 1, riov, 1, 0)\nfinally: child.kill()" },
    Attempt { name: "the_host_s_processes_are_not_there", code: "assert len([p for p in os.listdir('/proc') if p.isdigit()]) > 8" },
    Attempt { name: "the_host_s_first_process_cannot_be_entered", code: "fd = os.open('/proc/1/ns/uts', os.O_RDONLY)\ncall(308, fd, 0)" },
    Attempt { name: "new_namespaces_are_refused", code: "call(272, 0x10000000 | 0x20000)" },
    Attempt { name: "a_child_in_a_new_namespace_is_refused", code: "p = call(56, 0x10000000 | 17, 0, 0, 0, 0)\nif p == 0: os._exit(0)\nos.waitpid(p, 0)" },
    Attempt { name: "kernel_keys_are_refused", code: "call(248, b'user', b'wl-test', b'x', 1, ctypes.c_long(-2))" },
    Attempt { name: "io_uring_is_refused", code: "os.close(call(425, 4, ctypes.create_string_buffer(256)))" },
    Attempt { name: "bpf_is_refused", code: "a = ctypes.create_string_buffer(struct.pack('IIIII', 2, 4, 4, 1, 0).ljust(128, b'\\0'))\nos.close(call(321, 0, a, 128))" },
    Attempt { name: "userfaultfd_is_refused", code: "os.close(call(323, 0))" },
    Attempt { name: "performance_events_are_refused", code: "a = ctypes.create_string_buffer(struct.pack('IIQ', 1, 120, 0).ljust(120, b'\\0'))\nos.close(call(298, a, 0, -1, -1, 0))" },
    Attempt { name: "handles_of_files_are_refused", code: "h = ctypes.create_string_buffer(struct.pack('Ii', 128, 0).ljust(136, b'\\0')); m = ctypes.c_int()\ncall(303, -100, b'/etc', h, ctypes.byref(m), 0)\nd = os.open('/', 0)\nos.close(call(304, d, h, 0))" },
    Attempt { name: "device_nodes_are_refused", code: "if os.path.exists('/tmp/wl-d'): os.unlink('/tmp/wl-d')\nos.mknod('/tmp/wl-d', 0o60600, os.makedev(1, 0)); os.unlink('/tmp/wl-d')" },
    Attempt { name: "control_groups_are_out_of_reach", code: "found = [l.split()[1] for l in open('/proc/mounts') if l.split()[2].startswith('cgroup')]\nos.makedirs(found[0] + '/wl-test'); os.rmdir(found[0] + '/wl-test')" },
    Attempt { name: "kernel_settings_are_out_of_reach", code: "v = open('/proc/sys/vm/swappiness').read()\nopen('/proc/sys/vm/swappiness', 'w').write(v)" },
    Attempt { name: "raw_packets_are_refused", code: "socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0).close()" },
    Attempt { name: "raw_internet_sockets_are_refused", code: "socket.socket(socket.AF_INET, socket.SOCK_RAW, 1).close()" },
    Attempt { name: "virtual_machine_sockets_are_refused", code: "socket.socket(40, socket.SOCK_STREAM).close()" },
    Attempt { name: "the_host_s_name_cannot_be_changed", code: "n = socket.gethostname().encode()\ncall(170, n, len(n))" },
    Attempt { name: "the_clock_cannot_be_set", code: "import time\ntime.clock_settime(time.CLOCK_REALTIME, time.time())" },
    Attempt { name: "changing_the_root_is_refused", code: "p = os.fork()\nif p == 0:\n    try: os.chroot('/tmp'); os._exit(0)\n    except OSError: os._exit(1)\nassert os.waitpid(p, 0)[1] == 0" },
    Attempt { name: "the_kernel_s_log_is_out_of_reach", code: "assert call(103, 10, 0, 0) > 0" },
    Attempt { name: "writing_into_a_terminal_s_input_is_refused", code: "import fcntl, pty\np, fd = pty.fork()\nif p == 0:\n    try: fcntl.ioctl(0, 0x5412, b'x'); os._exit(0)\n    except OSError: os._exit(1)\nassert os.waitpid(p, 0)[1] == 0" },
    Attempt { name: "raising_limits_is_refused", code: "import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (1 << 14, 1 << 14))" },
    Attempt { name: "more_priority_is_refused", code: "os.nice(-5)" },
    Attempt { name: "modules_cannot_be_loaded", code: "try: call(175, b'x', 1, b'')\nexcept OSError as e:\n    assert e.errno != 1" },
    Attempt { name: "restarting_the_machine_is_refused", code: "try: call(169, 0, 0, 0, 0)\nexcept OSError as e:\n    assert e.errno == 22" },
];

/// Whether an attempt succeeded in this host's kernel.
pub(crate) fn got_out(printed: &str) -> bool {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    printed.contains(&format!("{WORD} {}", boot.trim()))
}

impl Attempt {
    pub(crate) fn program(&self) -> String {
        let indented: String = self
            .code
            .lines()
            .map(|line| format!("    {line}\n"))
            .collect();
        format!(
            "{TOOLS}try:\n{indented}    print('{WORD}', kernel)\nexcept BaseException as error:\n    print('kept in:', repr(error))\n"
        )
    }

    /// Runs it without a sandbox, in a process of its own.
    pub(crate) fn succeeds_outside(&self) -> bool {
        let started = Outside::new("python3")
            .arg("-")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let Ok(mut child) = started else { return false };
        if let Some(mut input) = child.stdin.take() {
            let _ = input.write_all(self.program().as_bytes());
        }
        child
            .wait_with_output()
            .is_ok_and(|output| got_out(&String::from_utf8_lossy(&output.stdout)))
    }

    /// Runs it in a world: in a cell, and in a program of its own.
    pub(crate) fn fails_inside(&self, backend: &dyn Backend) {
        let world = world(backend);
        world
            .write("/tmp/attempt.py", 0o600, self.program().as_bytes())
            .unwrap();
        let (_, printed) = world.line("python3 /tmp/attempt.py");
        assert!(
            printed.contains("kept in:") && !printed.contains(WORD),
            "{printed}"
        );
        let (_, printed) = world.cell(&self.program());
        assert!(
            printed.contains("kept in:") && !printed.contains(WORD),
            "{printed}"
        );
    }
}

fn a_fork_bomb_stays_inside(backend: &dyn Backend) {
    let (bomb, other) = (world(backend), world(backend));
    let command = Command {
        timeout: Some(Duration::from_secs(3)),
        ..Command::line("b() { b | b & b; }; b 2>/dev/null")
    };
    let _ = bomb.exec(&command, &mut quiet);
    assert!(bomb.stats().processes <= 512, "{:?}", bomb.stats());
    let begun = Instant::now();
    assert_eq!(other.value("6 * 7"), "42");
    assert!(begun.elapsed() < Duration::from_secs(20));
    bomb.destroy();
}

fn a_memory_bomb_stays_inside(backend: &dyn Backend) {
    let bomb = backend
        .create(&Spec {
            memory_mib: 256,
            ..Spec::default()
        })
        .unwrap();
    // Shared memory, files in memory, and plain memory: all of it is the world's.
    for line in [
        "python3 -c 'x = bytearray(b\"x\") * (1 << 30)'",
        "python3 -c 'import os; f = os.memfd_create(\"x\"); os.write(f, b\"x\" * (1 << 30))'",
    ] {
        assert_ne!(bomb.line(line).0, 0, "{line}");
    }
    // A machine's monitor needs some for itself.
    let monitor = if backend.name() == "process" {
        0
    } else {
        512 << 20
    };
    assert!(bomb.stats().memory_bytes <= monitor + (256 << 20));
}

fn a_disk_bomb_ends_its_world_alone(backend: &dyn Backend) {
    let bomb = backend
        .create(&Spec {
            disk_mib: 32,
            ..Spec::default()
        })
        .unwrap();
    let other = world(backend);
    assert_ne!(bomb.line("head -c 100M /dev/zero > /tmp/one").0, 0);
    let line = "for i in $(seq 1 20); do head -c 16M /dev/zero > /tmp/f$i; sleep 0.3; done";
    let ended = bomb.exec(&Command::line(line), &mut quiet);
    assert!(ended.is_err(), "{ended:?}");
    assert_eq!(other.value("1"), "1");
}

fn open_files_run_out_for_the_world_alone(backend: &dyn Backend) {
    let (greedy, other) = (world(backend), world(backend));
    let code = "files = []\ntry:\n    while True: files.append(open('/dev/null'))\nexcept OSError as error: n = error.errno\nn, len(files) < 5000";
    assert_eq!(greedy.value(code), "(24, True)");
    assert_eq!(greedy.value("del files; 1"), "1");
    assert_eq!(other.value("1"), "1");
}

fn links_lead_to_the_world_s_own_files(backend: &dyn Backend) {
    let world = world(backend);
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "host").unwrap();
    let path = secret.path().display();
    world.line(&format!("mkdir -p $(dirname {path})"));
    world.line(&format!("ln -s {path} /tmp/l; ln -s / /tmp/root; ln -s /proc/1/root /tmp/agent; ln -s ../../../../../../.. /tmp/up"));
    let names = [
        "/tmp/l".to_owned(),
        format!("/tmp/root{path}"),
        format!("/tmp/agent{path}"),
        format!("/tmp/up{path}"),
    ];
    assert!(names.iter().all(|name| world.read(name).is_err()));
    for name in names {
        let _ = world.write(&name, 0o600, b"world");
    }
    assert_eq!(std::fs::read_to_string(secret.path()).unwrap(), "host");
    // A link that is exchanged while a snapshot copies it is still only a link.
    world.line("(while :; do ln -sfn /etc /tmp/race; rm -f /tmp/race; mkdir -p /tmp/race; rmdir /tmp/race; done) & sleep 1; kill $!; wait");
    let snapshot = world.snapshot(None).unwrap();
    assert_eq!(
        backend
            .restore(&snapshot.id, &Spec::default())
            .unwrap()
            .read("/tmp/l")
            .unwrap(),
        b"world"
    );
}

fn one_world_sees_nothing_of_another(backend: &dyn Backend) {
    let (one, other) = (world(backend), world(backend));
    one.value("import socket; s = socket.create_server(('127.0.0.1', 7000)); u = socket.socket(socket.AF_UNIX); u.bind('\\0wl-test'); u.listen()");
    one.line("echo x > /tmp/mine; echo x > /dev/shm/mine");
    assert_eq!(
        other
            .cell("import socket; socket.create_connection(('127.0.0.1', 7000))")
            .0
            .error
            .unwrap()
            .name,
        "ConnectionRefusedError"
    );
    assert_eq!(
        other
            .cell("u = socket.socket(socket.AF_UNIX); u.connect('\\0wl-test')")
            .0
            .error
            .unwrap()
            .name,
        "ConnectionRefusedError"
    );
    assert_ne!(other.line("cat /tmp/mine /dev/shm/mine").0, 0);
    assert_eq!(
        other
            .cell("socket.create_connection(('1.1.1.1', 53), 2)")
            .0
            .error
            .unwrap()
            .name,
        "OSError"
    );
    assert_eq!(
        other
            .line("ls /sys; cut -d: -f1 /proc/net/dev | tail -n +3")
            .1
            .trim(),
        "lo"
    );
}

fn nobody_gains_rights_by_running_a_program(backend: &dyn Backend) {
    let world = world(backend);
    world.line("cp /bin/cat /tmp/cat; chown 0 /tmp/cat; chmod u+s /tmp/cat");
    let line = "setpriv --reuid 1000 --clear-groups sh -c 'grep -E \"^(Uid|CapEff|NoNewPrivs)\" /proc/self/status; /tmp/cat /proc/self/status | grep -E \"^(Uid|CapEff)\"'";
    let (_, printed) = world.line(line);
    assert!(printed.contains("NoNewPrivs:\t1"), "{printed}");
    let users: Vec<&str> = printed
        .lines()
        .filter(|line| line.starts_with("Uid"))
        .collect();
    assert!(
        users
            .iter()
            .all(|line| line.split_whitespace().skip(1).all(|id| id == "1000")),
        "{printed}"
    );
}

fn the_agent_cannot_be_ended_or_looked_into(backend: &dyn Backend) {
    let world = world(backend);
    world.line("kill -9 1; kill -TERM 1; kill -STOP 1");
    assert_eq!(world.line("echo alive").1, "alive\n");
    for name in ["mem", "environ", "fd/3", "maps", "root/etc/passwd"] {
        assert_ne!(
            world.line(&format!("head -c 1 /proc/1/{name}")).0,
            0,
            "{name}"
        );
    }
}

fn nothing_of_the_host_is_open_inside(backend: &dyn Backend) {
    let world = world(backend);
    assert_eq!(
        world.line("ls /proc/self/fd | sort -n | tr '\\n' ' '").1,
        "0 1 2 3 "
    );
    let open = world.value("import os; sorted(os.listdir('/proc/self/fd'), key=int)");
    assert_eq!(open, "['0', '1', '2', '3', '4']");
    let inside = world
        .line("cat /proc/mounts /proc/self/mountinfo /proc/self/cgroup")
        .1;
    let host = std::env::temp_dir().display().to_string();
    assert!(!inside.contains(&format!("{host}/.")), "{inside}");
    assert_eq!(
        world
            .line("find / -xdev -newer /proc/1 -user nobody 2>/dev/null | grep -v '^/proc' | head")
            .1,
        ""
    );
}

fn a_loaded_interpreter_is_as_confined_as_a_new_one(backend: &dyn Backend) {
    let first = world(backend);
    let branch = backend
        .restore(&first.snapshot(None).unwrap().id, &Spec::default())
        .unwrap();
    let code = "''.join(l for l in open('/proc/self/status') if l.startswith(('Cap', 'NoNewPrivs', 'Seccomp:', 'Uid', 'Groups')))";
    let status = branch.value(code);
    assert_eq!(status, first.value(code));
    assert!(
        status.contains("NoNewPrivs:\\t1")
            && status.contains("Seccomp:\\t2")
            && status.contains("CapEff:\\t00000000000004fb"),
        "{status}"
    );
    let refused = branch
        .run(
            &Cell::new("import os; os.mknod('/dev/x', 0o20600, os.makedev(1, 3))"),
            &mut quiet,
        )
        .unwrap();
    assert_eq!(refused.status, "error");
    assert_eq!(
        branch
            .cell("open('/proc/self/oom_score_adj', 'w').write('0')")
            .0
            .error
            .unwrap()
            .name,
        "PermissionError"
    );
    let scope = std::fs::read_link("/proc/self/ns/user").unwrap();
    for name in ["user", "pid", "mnt", "net", "ipc", "uts", "cgroup"] {
        let outside = std::fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
        assert_ne!(
            branch
                .line(&format!("readlink /proc/self/ns/{name}"))
                .1
                .trim(),
            outside.to_string_lossy(),
            "{scope:?}"
        );
    }
}
