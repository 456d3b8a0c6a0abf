//! What breaks, and that nothing is left of it.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command as Outside, Stdio};
use std::time::Duration;

use sha2::{Digest, Sha256};
use worldline_sandbox::firecracker::{Firecracker, Jail, Settings};
use worldline_sandbox::{Backend, Command, CreateError, ExecError, SnapshotError};

use crate::{Needs, Promise, Talk, firecracker, folder, jailer, machine, open, small, until};

pub(crate) const PROMISES: &[Promise] = &[
    (
        "a_killed_monitor_ends_its_machine_alone",
        Needs::Nothing,
        a_killed_monitor_ends_its_machine_alone,
    ),
    (
        "a_guest_that_panics_says_why",
        Needs::Nothing,
        a_guest_that_panics_says_why,
    ),
    (
        "a_guest_that_hangs_is_given_up",
        Needs::Nothing,
        a_guest_that_hangs_is_given_up,
    ),
    (
        "a_machine_outlives_the_name_of_its_socket",
        Needs::Nothing,
        a_machine_outlives_the_name_of_its_socket,
    ),
    (
        "a_full_disk_keeps_no_snapshot_and_the_machine",
        Needs::Root,
        a_full_disk_keeps_no_snapshot_and_the_machine,
    ),
    (
        "a_damaged_snapshot_is_refused",
        Needs::Nothing,
        a_damaged_snapshot_is_refused,
    ),
    (
        "a_snapshot_that_is_cut_off_under_a_branch_ends_that_branch_alone",
        Needs::Nothing,
        a_snapshot_that_is_cut_off_under_a_branch_ends_that_branch_alone,
    ),
    (
        "a_snapshot_of_another_processor_is_refused",
        Needs::Nothing,
        a_snapshot_of_another_processor_is_refused,
    ),
    (
        "a_jailer_that_refuses_is_told_and_leaves_nothing",
        Needs::Jailer,
        a_jailer_that_refuses_is_told_and_leaves_nothing,
    ),
    ("monitors_stand_ready", Needs::Nothing, monitors_stand_ready),
    (
        "machines_leave_nothing_behind",
        Needs::Nothing,
        machines_leave_nothing_behind,
    ),
    (
        "jailed_machines_leave_nothing_behind",
        Needs::Jailer,
        jailed_machines_leave_nothing_behind,
    ),
    (
        "machines_of_a_killed_program_are_ended_by_the_next",
        Needs::Nothing,
        machines_of_a_killed_program_are_ended_by_the_next,
    ),
];

/// The monitors of a data folder that run, by their numbers: their names begin with its mark.
pub(crate) fn monitors(data: &Path) -> Vec<u32> {
    let data = data.canonicalize().unwrap();
    let named = [b"firecracker", data.as_os_str().as_encoded_bytes()].concat();
    let mark = format!("{:.8}-machine-", format!("{:x}", Sha256::digest(named)));
    let is_one = |pid: &u32| {
        let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}"));
        let named = read("cmdline").unwrap_or_default().contains(&mark);
        named && !read("stat").unwrap_or_default().contains(") Z ")
    };
    let all = fs::read_dir("/proc").unwrap().flatten();
    all.filter_map(|entry| entry.file_name().to_string_lossy().parse().ok())
        .filter(is_one)
        .collect()
}

/// All that machines of a folder could leave: processes, mounts, control groups, folders.
pub(crate) fn traces(data: &Path) -> BTreeSet<String> {
    let data = data.canonicalize().unwrap();
    let mut traces: BTreeSet<String> = monitors(&data)
        .into_iter()
        .map(|pid| format!("process {pid}"))
        .collect();
    for line in fs::read_to_string("/proc/mounts").unwrap().lines() {
        if line.contains(&*data.to_string_lossy()) {
            traces.insert(format!("mount {line}"));
        }
    }
    for folder in ["machines", "jails/firecracker", "networks"] {
        for entry in fs::read_dir(data.join(folder))
            .into_iter()
            .flatten()
            .flatten()
        {
            let name = entry.file_name().to_string_lossy().into_owned();
            traces.insert(format!("{folder} {name}"));
            for root in ["unified", "memory", "pids", "cpu", "freezer", ""] {
                let group = Path::new("/sys/fs/cgroup")
                    .join(root)
                    .join("worldline")
                    .join(&name);
                if group.exists() {
                    traces.insert(format!("group {}", group.display()));
                }
            }
        }
    }
    traces
}

/// Of these, what is still there.
fn left(data: &Path, before: &BTreeSet<String>) -> Vec<String> {
    let mut left: Vec<String> = traces(data).into_iter().collect();
    let groups = before
        .iter()
        .filter_map(|trace| trace.strip_prefix("group "));
    left.extend(
        groups
            .filter(|group| Path::new(group).exists())
            .map(str::to_owned),
    );
    left
}

fn kill(pid: u32) {
    let killed = Outside::new("kill").args(["-9", &pid.to_string()]).status();
    assert!(killed.unwrap().success());
}

fn a_killed_monitor_ends_its_machine_alone() {
    let folder = folder();
    let backend = open(folder.path());
    let one = machine(&backend);
    let snapshot = one.snapshot(None).unwrap();
    let pid = monitors(folder.path())[0];
    let other = backend.restore(&snapshot.id, &small()).unwrap();
    kill(pid);
    until("its end", || {
        matches!(one.hear("true"), Err(ExecError::Gone(_)))
    });
    assert!(matches!(one.snapshot(None), Err(SnapshotError::Gone(_))));
    assert!(matches!(one.pause(), Err(ExecError::Gone(_))));
    assert_eq!(other.say("count"), "1");
    one.destroy();
    other.destroy();
    assert_eq!(left(folder.path(), &BTreeSet::new()), Vec::<String>::new());
}

fn a_guest_that_panics_says_why() {
    let folder = folder();
    let backend = open(folder.path());
    let one = machine(&backend);
    let snapshot = one.snapshot(None).unwrap();
    let error = one.hear("panic").unwrap_err();
    assert!(error.to_string().contains("panicked: as asked"), "{error}");
    until("its end", || {
        matches!(one.hear("true"), Err(ExecError::Gone(_)))
    });
    let other = backend.restore(&snapshot.id, &small()).unwrap();
    assert_eq!(other.say("count"), "1");
    assert!(other.hear("off").unwrap_err().to_string().contains("ended"));
}

fn a_guest_that_hangs_is_given_up() {
    let folder = folder();
    let backend = open(folder.path());
    let one = machine(&backend);
    let snapshot = one.snapshot(None).unwrap();
    let hang = Command {
        timeout: Some(Duration::from_millis(200)),
        ..Command::line("hang")
    };
    let error = one.exec(&hang, &mut |_, _| ()).unwrap_err();
    assert!(error.to_string().contains("does not answer"), "{error}");
    let error = one.hear("true").unwrap_err();
    assert!(error.to_string().contains("earlier call"), "{error}");
    // Who waits for ever can still be called off.
    let waiting = Command::line("true");
    waiting.cancel.cancel();
    assert!(one.exec(&waiting, &mut |_, _| ()).is_err());
    one.destroy();
    assert_eq!(
        backend
            .restore(&snapshot.id, &small())
            .unwrap()
            .say("count"),
        "1"
    );
}

fn a_machine_outlives_the_name_of_its_socket() {
    let folder = folder();
    let backend = open(folder.path());
    let one = machine(&backend);
    let machines = fs::read_dir(folder.path().join("machines")).unwrap();
    for entry in machines.flatten() {
        fs::remove_file(entry.path().join("root/api.sock")).unwrap();
    }
    let snapshot = one.snapshot(None).unwrap();
    assert_eq!(one.say("count"), "1");
    assert_eq!(
        backend
            .restore(&snapshot.id, &small())
            .unwrap()
            .say("count"),
        "1"
    );
}

/// A file system of a few MiB.
struct Small(tempfile::TempDir);

impl Small {
    fn new(mib: u32) -> Option<Self> {
        let folder = folder();
        let mounted = Outside::new("mount")
            .args([
                "-t",
                "tmpfs",
                "-o",
                &format!("size={mib}m,mode=755"),
                "tmpfs",
            ])
            .arg(folder.path())
            .status();
        mounted
            .is_ok_and(|status| status.success())
            .then_some(Self(folder))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Outside::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

fn a_full_disk_keeps_no_snapshot_and_the_machine() {
    let Some(disk) = Small::new(160) else {
        eprintln!("IGNORED in part: a small file system cannot be mounted here");
        return;
    };
    let data = disk.0.path();
    let backend = open(data);
    let one = machine(&backend);
    one.say("poke 1 11");
    let kept = one.snapshot(None).unwrap();
    let filler = data.join("filler");
    let fill = || {
        let mut block = vec![1; 1 << 20];
        while !block.is_empty() {
            let mut all = fs::File::options()
                .append(true)
                .create(true)
                .open(&filler)
                .unwrap();
            if std::io::Write::write_all(&mut all, &block).is_err() {
                block.truncate(block.len() / 2);
            }
        }
    };
    one.say("touch 200");
    one.say("poke 1 22");
    fill();
    let error = one.snapshot(None).map(drop).unwrap_err();
    assert!(!error.to_string().is_empty());
    assert_eq!(backend.snapshots().len(), 1, "{error}");
    assert_eq!(one.say("peek 1"), "22");
    fs::remove_file(&filler).unwrap();
    // What the failed one had taken is in the next one all the same.
    let whole = one.snapshot(None).unwrap();
    one.say("poke 1 33");
    let next = one.snapshot(None).unwrap();
    for (id, value) in [(&whole.id, "22"), (&next.id, "33")] {
        let branch = backend.restore(id, &small()).unwrap();
        assert_eq!(branch.say("peek 1"), value);
        backend.remove_snapshot(id).unwrap();
    }
    assert_eq!(
        backend.restore(&kept.id, &small()).unwrap().say("peek 1"),
        "11"
    );
    drop((one, backend));
    let names: Vec<_> = fs::read_dir(data.join("snapshots")).unwrap().collect();
    assert_eq!(names.len(), 1);
}

fn a_damaged_snapshot_is_refused() {
    let folder = folder();
    let backend = open(folder.path());
    let one = machine(&backend);
    let damage: [fn(&Path); 4] = [
        |memory| {
            fs::File::options()
                .write(true)
                .open(memory)
                .unwrap()
                .set_len(4096)
                .unwrap()
        },
        |memory| {
            use std::os::unix::fs::FileExt;
            let file = fs::File::options().write(true).open(memory).unwrap();
            file.write_all_at(b"changed", 0x20_8000).unwrap();
        },
        |memory| fs::remove_file(memory).unwrap(),
        |memory| fs::write(memory.with_file_name("state"), "nonsense").unwrap(),
    ];
    for harm in damage {
        let snapshot = one.snapshot(None).unwrap();
        let live = backend.restore(&snapshot.id, &small()).unwrap();
        let parts = folder.path().join("snapshots").join(&snapshot.id);
        for part in ["memory", "state"] {
            let mode = fs::metadata(parts.join(part)).unwrap().permissions().mode();
            assert_eq!(mode & 0o222, 0, "nobody may write {part}");
            fs::set_permissions(parts.join(part), fs::Permissions::from_mode(0o644)).unwrap();
        }
        live.destroy();
        harm(&parts.join("memory"));
        let refused = backend
            .restore(&snapshot.id, &small())
            .map(drop)
            .unwrap_err();
        assert!(matches!(refused, CreateError::Damaged { .. }), "{refused}");
        assert_eq!(one.say("true"), "");
        backend.remove_snapshot(&snapshot.id).unwrap();
    }
}

fn a_snapshot_that_is_cut_off_under_a_branch_ends_that_branch_alone() {
    let folder = folder();
    let backend = open(folder.path());
    let base = machine(&backend);
    base.say("poke 1 11");
    let [lost, kept] = [(); 2].map(|()| base.snapshot(None).unwrap());
    let [its, other] = [&lost, &kept].map(|of| backend.restore(&of.id, &small()).unwrap());
    let memory = folder
        .path()
        .join("snapshots")
        .join(&lost.id)
        .join("memory");
    fs::set_permissions(&memory, fs::Permissions::from_mode(0o644)).unwrap();
    let file = fs::File::options().write(true).open(memory).unwrap();
    file.set_len(4096).unwrap();
    let error = its.hear("touch 16").unwrap_err();
    assert!(!error.to_string().is_empty());
    until("its end", || {
        matches!(its.hear("true"), Err(ExecError::Gone(_)))
    });
    for world in [&base, &other] {
        assert_eq!(world.say("peek 1"), "11", "{error}");
    }
    let refused = backend.restore(&lost.id, &small()).map(drop);
    assert!(matches!(refused, Err(CreateError::Damaged { .. })));
    drop((base, its, other, backend));
    assert_eq!(left(folder.path(), &BTreeSet::new()), Vec::<String>::new());
}

fn a_snapshot_of_another_processor_is_refused() {
    let folder = folder();
    let id = {
        let backend = open(folder.path());
        machine(&backend).snapshot(None).unwrap().id
    };
    let manifest = folder
        .path()
        .join("snapshots")
        .join(&id)
        .join("manifest.json");
    let mut told: serde_json::Value =
        serde_json::from_slice(&fs::read(&manifest).unwrap()).unwrap();
    told["processor"] = "Z80".into();
    fs::write(&manifest, told.to_string()).unwrap();
    let backend = open(folder.path());
    let refused = backend.restore(&id, &small()).map(drop).unwrap_err();
    assert!(refused.to_string().contains("Z80"), "{refused}");
}

fn a_jailer_that_refuses_is_told_and_leaves_nothing() {
    // The jailer starts only programs that are called so.
    let (folder, named) = (folder(), crate::folder());
    let program = named.path().join("monitor");
    fs::copy(firecracker(), &program).unwrap();
    for (jail, program) in [
        (jailer(), program),
        (Jail::new("/bin/false"), firecracker()),
        (Jail::new("/nowhere/jailer"), firecracker()),
    ] {
        let settings = Settings {
            jail: Some(jail),
            ..Settings::new(folder.path(), program)
        };
        let backend = Firecracker::open(settings).unwrap();
        let refused = backend.create(&small()).map(drop).unwrap_err();
        assert!(!refused.to_string().is_empty());
        assert_eq!(
            left(folder.path(), &BTreeSet::new()),
            Vec::<String>::new(),
            "{refused}"
        );
    }
}

/// Machines of which two monitors stand ready.
fn ready(data: &Path) -> Settings {
    Settings {
        pool: 2,
        ..Settings::new(data, firecracker())
    }
}

fn monitors_stand_ready() {
    let folder = folder();
    let data = folder.path();
    let backend = Firecracker::open(ready(data)).unwrap();
    until("a monitor that stands ready", || monitors(data).len() == 2);
    let first = monitors(data);
    let one = machine(&backend);
    assert_eq!(one.say("count"), "1");
    until("another in its place", || monitors(data).len() == 3);
    one.destroy();
    let left = monitors(data);
    assert_eq!(left.len(), 2);
    let of_first = left.iter().filter(|pid| first.contains(pid));
    assert_eq!(of_first.count(), 1, "one of the first was taken");
    // Those that were killed are nobody's machine.
    left.into_iter().for_each(kill);
    until("their end", || monitors(data).is_empty());
    for _ in 0..3 {
        assert_eq!(machine(&backend).say("count"), "1");
    }
    drop(backend);
    assert_eq!(self::left(data, &BTreeSet::new()), Vec::<String>::new());
}

fn machines_leave_nothing_behind() {
    let folder = folder();
    let backend = Firecracker::open(ready(folder.path()));
    leave(folder.path(), backend.unwrap());
}

fn jailed_machines_leave_nothing_behind() {
    let folder = folder();
    let settings = Settings {
        jail: Some(jailer()),
        ..ready(folder.path())
    };
    leave(folder.path(), Firecracker::open(settings).unwrap());
}

fn leave(data: &Path, backend: Firecracker) {
    let base = machine(&backend);
    let snapshot = base.snapshot(None).unwrap();
    let branches = backend.branch(&snapshot.id, 4, &small()).unwrap();
    branches[1].pause().unwrap();
    assert!(branches[2].hear("panic").is_err());
    let during = traces(data);
    assert!(
        during
            .iter()
            .filter(|trace| trace.starts_with("process "))
            .count()
            >= 4,
        "{during:?}"
    );
    drop((base, branches));
    drop(backend);
    assert_eq!(left(data, &during), Vec::<String>::new());
}

/// Names the data folder to a process that is to be killed.
const VICTIM: &str = "WORLDLINE_TEST_MACHINES";

pub(crate) fn is_victim() -> bool {
    std::env::var_os(VICTIM).is_some()
}

/// How many machines of a folder have noted which process they are.
fn noted(data: &Path) -> usize {
    let all = fs::read_dir(data.join("machines")).unwrap().flatten();
    let noted =
        all.filter(|one| fs::metadata(one.path().join("process")).is_ok_and(|it| it.len() > 0));
    noted.count()
}

/// Makes machines, keeps one, says so, and waits for its end. Two more stand ready.
pub(crate) fn be_killed() -> ! {
    let folder = PathBuf::from(std::env::var_os(VICTIM).expect("a folder"));
    let backend = Firecracker::open(ready(&folder)).expect("a backend");
    let machines: Vec<_> = (0..2).map(|_| machine(&backend)).collect();
    machines[0].say("poke 1 7");
    until("those that stand ready", || noted(&folder) == 4);
    println!(
        "ready {}",
        machines[0].snapshot(None).expect("a snapshot").id
    );
    loop {
        std::thread::sleep(Duration::from_secs(60));
    }
}

fn machines_of_a_killed_program_are_ended_by_the_next() {
    let folder = folder();
    let mut victim = Outside::new(std::env::current_exe().unwrap())
        .env(VICTIM, folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(victim.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let id = line
        .trim()
        .strip_prefix("ready ")
        .expect("a victim that is ready")
        .to_owned();
    let during = traces(folder.path());
    victim.kill().unwrap();
    victim.wait().unwrap();
    let backend = open(folder.path());
    assert_eq!(backend.reaped().worlds, 4);
    assert_eq!(left(folder.path(), &during), Vec::<String>::new());
    assert_eq!(backend.restore(&id, &small()).unwrap().say("peek 1"), "7");
}
