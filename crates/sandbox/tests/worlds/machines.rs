//! The same promises of virtual machines under QEMU, and what only they can be tested for. By translation
//! they take some ten times as long, so most are left to the slow tests.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command as Outside, Stdio};
use std::time::{Duration, Instant, SystemTime};

use libtest_mimic::{Arguments, Trial};
use worldline_sandbox::image::DEFAULT;
use worldline_sandbox::{
    Backend, Cell, Command, CreateError, ExecError, FileError, ImageError, Process, Qemu, Sandbox,
    Settings, Spec, Standing, StoreError,
};

use crate::outer::Outer;
use crate::{Play, Promise, When, firecracker, images, quiet, walls, world};

/// The promises that are tested each time.
const LEAN: [&str; 13] = [
    "globals_persist_from_cell_to_cell",
    "an_error_has_its_traceback",
    "folder_and_environment_persist_from_line_to_line",
    "files_go_in_and_out",
    "a_server_inside_can_be_reached",
    "branches_go_their_own_way",
    "fork_gives_each_child_its_own_randomness",
    "the_wall_clock_of_a_branch_is_right",
    "a_snapshot_in_mid_cell_goes_on_in_its_branch",
    "three_branches_work_side_by_side",
    "a_killed_monitor_ends_its_machine_alone",
    "attempts_end_at_the_machine_s_wall",
    "marks_that_a_machine_leaves_are_its_own",
];

/// Those of them that are tested in a machine that has KVM, where each takes minutes.
const INSIDE: [&str; 3] = [
    "globals_persist_from_cell_to_cell",
    "files_go_in_and_out",
    "a_snapshot_in_mid_cell_goes_on_in_its_branch",
];

/// Promises of the other backend alone, and why.
pub(crate) const OTHERS: [(&str, &str); 21] = [
    (
        "a_reboot_keeps_the_disk_alone",
        "a machine's disk is in its memory: refused by name",
    ),
    (
        "what_cannot_be_kept_is_refused_by_name",
        "a machine is kept with all that it runs",
    ),
    (
        "connections_are_closed_in_the_branch_and_said",
        "those inside a machine go on; those into it are tested below",
    ),
    (
        "branches_do_not_wait_for_their_snapshot",
        "a machine's snapshot is whole when it is known",
    ),
    (
        "memory_of_a_branch_is_what_it_writes",
        "it gives the branch other memory, and is measured by the bench",
    ),
    (
        "the_fiftieth_generation_is_as_fast_as_the_first",
        "each of the fifty is a whole memory; four are tested below",
    ),
    (
        "registers_that_a_branch_would_lose_are_not_granted",
        "a machine loses none",
    ),
    (
        "a_disk_bomb_ends_its_world_alone",
        "its files fill a machine's own memory, tested below",
    ),
    (
        "one_world_sees_nothing_of_another",
        "a machine has a /sys of its own",
    ),
    (
        "the_agent_cannot_be_ended_or_looked_into",
        "the wall is the machine, not the agent",
    ),
    (
        "a_loaded_interpreter_is_as_confined_as_a_new_one",
        "the wall is the machine, not the agent",
    ),
    (
        "a_snapshot_survives_its_world_and_its_program",
        "it opens the other backend; tested below",
    ),
    (
        "a_snapshot_travels_as_an_archive",
        "it opens the other backend; tested below",
    ),
    (
        "forgotten_snapshots_are_taken_back_once_nothing_needs_them",
        "each is whole, and gone at once",
    ),
    (
        "worlds_leave_nothing_behind",
        "it opens the other backend; tested below",
    ),
    (
        "no_orphan_after_kill_nine",
        "it opens the other backend; tested below",
    ),
    (
        "a_kill_at_any_step_loses_nothing_and_leaves_nothing",
        "its steps are the other backend's",
    ),
    (
        "a_half_written_snapshot_is_no_snapshot",
        "it opens the other backend; tested below",
    ),
    (
        "a_damaged_manifest_is_named_and_the_others_are_kept",
        "it opens the other backend; tested below",
    ),
    (
        "an_agent_killed_from_outside_ends_its_world_alone",
        "an agent is not to be seen from outside; tested below",
    ),
    (
        "a_branch_that_fails_leaves_nothing",
        "it opens the other backend; tested below",
    ),
];

/// What machines have beside the others.
pub(crate) const PROMISES: [Promise; 21] = [
    (
        "three_branches_work_side_by_side",
        three_branches_work_side_by_side,
    ),
    (
        "a_killed_monitor_ends_its_machine_alone",
        a_killed_monitor_ends_its_machine_alone,
    ),
    (
        "machines_begin_again_after_the_process_they_are_copies_of_was_killed",
        machines_begin_again_after_the_process_they_are_copies_of_was_killed,
    ),
    (
        "a_machine_travels_and_a_changed_one_is_refused",
        a_machine_travels_and_a_changed_one_is_refused,
    ),
    ("a_guest_that_panics_says_why", a_guest_that_panics_says_why),
    (
        "connections_into_a_machine_are_closed_in_its_branch_and_said",
        connections_into_a_machine_are_closed_in_its_branch_and_said,
    ),
    (
        "files_fill_a_machine_s_own_disk",
        files_fill_a_machine_s_own_disk,
    ),
    ("a_machine_that_hangs_is_told", a_machine_that_hangs_is_told),
    (
        "a_full_disk_keeps_no_snapshot_and_the_machine",
        a_full_disk_keeps_no_snapshot_and_the_machine,
    ),
    (
        "a_killed_program_leaves_no_machine",
        a_killed_program_leaves_no_machine,
    ),
    (
        "a_snapshot_of_another_host_is_refused",
        a_snapshot_of_another_host_is_refused,
    ),
    (
        "a_snapshot_that_is_cut_off_hurts_no_branch",
        a_snapshot_that_is_cut_off_hurts_no_branch,
    ),
    (
        "branches_never_meet_and_have_no_network",
        branches_never_meet_and_have_no_network,
    ),
    ("a_machine_is_walled_in", a_machine_is_walled_in),
    (
        "what_no_machine_begins_from_is_taken_back",
        what_no_machine_begins_from_is_taken_back,
    ),
    (
        "attempts_end_at_the_machine_s_wall",
        walls::attempts_end_at_the_machine_s_wall,
    ),
    (
        "marks_that_a_machine_leaves_are_its_own",
        walls::marks_that_a_machine_leaves_are_its_own,
    ),
    (
        "garbage_for_a_machine_s_devices_hurts_it_alone",
        walls::garbage_for_a_machine_s_devices_hurts_it_alone,
    ),
    (
        "four_generations_hold_all_that_was_before",
        four_generations_hold_all_that_was_before,
    ),
    (
        "what_is_half_kept_is_gone_and_what_is_damaged_is_named",
        what_is_half_kept_is_gone_and_what_is_damaged_is_named,
    ),
    (
        "a_branch_that_cannot_be_made_leaves_no_machine",
        a_branch_that_cannot_be_made_leaves_no_machine,
    ),
];

pub(crate) fn settings(data: PathBuf) -> Settings {
    Settings {
        images: images(),
        ..Settings::new(data)
    }
}

/// A backend over a folder, whose machines are translated. They begin where the first one on this host stood.
fn open(data: PathBuf) -> Qemu {
    Qemu::open_as(&settings(data), Qemu::PROCESSOR).unwrap()
}

/// Makes what machines begin with; says what this host lacks for it. A package that its mirror has no more
/// is no failure of ours.
fn prepare(process: &Process) -> Result<(), String> {
    let image = process.images().find(DEFAULT).unwrap();
    match process.build_machine(&image, &mut |step| eprintln!("{step}")) {
        Ok(_) => Ok(()),
        Err(why @ (ImageError::NoProgram(_) | ImageError::NotLocked { .. })) => {
            Err(why.to_string())
        }
        Err(why @ ImageError::Failed { what, .. }) if what.starts_with("apt-get") => {
            Err(why.to_string())
        }
        Err(why) => panic!("{why}"),
    }
}

/// Why no machine runs here.
fn lacking(process: &Process) -> Option<String> {
    let folder = tempfile::tempdir().unwrap();
    let report = open(folder.path().into()).report();
    let monitor = report
        .capabilities
        .into_iter()
        .find(|one| one.name == "monitor");
    match monitor.filter(|one| !one.present) {
        Some(lacks) => Some(lacks.note),
        None => prepare(process).err(),
    }
}

/// A promise over a folder of its own: memories are large, and are to be gone when it is tested.
fn alone(promise: fn(&dyn Backend)) {
    let folder = tempfile::tempdir().unwrap();
    promise(&open(folder.path().into()));
}

/// What is tested of machines. Without worlds of processes there is nothing to make a machine's disk with.
pub(crate) fn trials(all: &[Promise], process: Option<&Process>) -> Vec<Trial> {
    let runs = process.is_some_and(|process| match lacking(process) {
        Some(lacks) => {
            eprintln!("IGNORED, all tests of machines under QEMU: {lacks}");
            false
        }
        None => true,
    });
    let here = |promise: &&Promise| !OTHERS.iter().any(|(name, _)| *name == promise.0);
    all.iter()
        .filter(here)
        .chain(&PROMISES)
        .map(|&(name, promise)| {
            let when = match LEAN.contains(&name) {
                false if runs => When::Slow,
                _ => When::here(runs),
            };
            crate::trial(&format!("qemu/{name}"), when, move || {
                if runs {
                    alone(promise);
                }
            })
        })
        .collect()
}

/// Why no machine runs under KVM here.
fn lacking_kvm() -> Option<String> {
    let folder = tempfile::tempdir().unwrap();
    let backend = Qemu::open(&settings(folder.path().into())).unwrap();
    if backend.images().find(DEFAULT).is_err() {
        return Some("there is no image".into());
    }
    let all = backend.report().capabilities;
    let needed = ["monitor", "kernel", "processor"];
    all.into_iter()
        .find(|one| needed.contains(&one.name) && !one.present)
        .map(|one| one.note)
}

/// The promises that are tested each time, under KVM, and the run of them in a machine that has it, as far as a run
/// asks for them.
pub(crate) fn under_kvm(all: &[Promise], arguments: &Arguments) -> Vec<Trial> {
    let filter = arguments.filter.as_deref().unwrap_or_default();
    let lean = || {
        let promises = all.iter().chain(&PROMISES);
        let tested = if firecracker::is_inside() {
            &INSIDE[..]
        } else {
            &LEAN
        };
        promises.filter(|(name, _)| tested.contains(name))
    };
    let asked = lean().any(|(name, _)| format!("kvm/{name}").contains(filter));
    let lacks = (!arguments.list && asked).then(lacking_kvm);
    if let Some(Some(lacks)) = &lacks {
        eprintln!("IGNORED, all tests of machines under QEMU with KVM: {lacks}");
    }
    let runs = matches!(lacks, Some(None));
    let mut trials: Vec<Trial> = lean()
        .map(|&(name, promise)| {
            crate::trial(&format!("kvm/{name}"), When::here(runs), move || {
                if runs {
                    let folder = tempfile::tempdir().unwrap();
                    promise(&Qemu::open(&settings(folder.path().into())).unwrap());
                }
            })
        })
        .collect();
    if !firecracker::is_inside() {
        trials.push(crate::trial(
            "inside/qemu_with_kvm_keeps_the_promises",
            When::Slow,
            qemu_with_kvm_keeps_the_promises,
        ));
    }
    trials
}

/// What QEMU reads beside its libraries.
const FIRMWARE: [&str; 4] = [
    "/usr/share/seabios/bios-256k.bin",
    "/usr/share/qemu/pvh.bin",
    "/usr/share/qemu/linuxboot_dma.bin",
    "/usr/share/qemu/kvmvapic.bin",
];

fn qemu_with_kvm_keeps_the_promises() {
    let find = ["-c", "command -v qemu-system-x86_64"];
    let Some(program) = said(Outside::new("sh").args(find))
        .lines()
        .next()
        .map(PathBuf::from)
    else {
        return eprintln!("IGNORED: there is no QEMU");
    };
    // As `NAME => PLACE (ADDRESS)`, or the loader's place alone.
    let libraries = said(Outside::new("ldd").arg(&program));
    let libraries = libraries.split_whitespace().map(Path::new);
    let firmware = FIRMWARE.iter().map(Path::new);
    let all = libraries.chain(firmware).chain([program.as_path()]);
    let all: Vec<&Path> = all.filter(|file| file.is_absolute()).collect();
    let outer = match Outer::begin(images()) {
        Ok(outer) => outer,
        Err(why) => return eprintln!("IGNORED: {why}"),
    };
    for file in all {
        let place = file.to_string_lossy();
        if outer.line(&format!("test -e {place} || echo lacks")) == "lacks\n" {
            outer.line(&format!("mkdir -p $(dirname {place})"));
            outer.bring(file, &place);
        }
    }
    // This monitor takes a file for a disk, and nothing else.
    outer.line(
        "for disk in cache/worldline/images/*/disk*; do cat $disk > copy && mv copy $disk; done",
    );
    outer.bring(&std::env::current_exe().unwrap(), "tests");
    let said = outer.line(&format!(
        "{}=1 timeout {} ./tests kvm/ --test-threads=1 --nocapture",
        firecracker::INSIDE,
        firecracker::ALL.as_secs()
    ));
    let passed = format!("{} passed", INSIDE.len());
    assert!(said.contains(&passed), "not {passed}: {said}");
}

/// What a program of this host says.
fn said(program: &mut Outside) -> String {
    let output = program.stdin(Stdio::null()).output();
    String::from_utf8_lossy(&output.map(|it| it.stdout).unwrap_or_default()).into_owned()
}

fn three_branches_work_side_by_side(backend: &dyn Backend) {
    let base = world(backend);
    base.value("import pandas as pd; data = pd.DataFrame({'a': range(1000)})");
    let snapshot = base.snapshot(Some("base")).unwrap();
    let branches = backend.branch(&snapshot.id, 3, &Spec::default()).unwrap();
    let sums: Vec<String> = std::thread::scope(|scope| {
        let working: Vec<_> = branches
            .iter()
            .enumerate()
            .map(|(at, branch)| {
                scope.spawn(move || {
                    branch.value(&format!("data['b'] = {at}; int(data.sum().sum())"))
                })
            })
            .collect();
        working.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert_eq!(sums, ["499500", "500500", "501500"]);
    assert_eq!(base.value("list(data.columns)"), "['a']");
}

/// The monitors of a world, by their numbers on this host.
fn monitors(id: &str) -> Vec<String> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter(|entry| {
            let read = |name: &str| fs::read_to_string(entry.path().join(name)).unwrap_or_default();
            read("cgroup").contains(id) && !read("stat").contains(") Z ")
        })
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

fn a_killed_monitor_ends_its_machine_alone(backend: &dyn Backend) {
    let (one, other) = (world(backend), world(backend));
    let [monitor] = &monitors(one.id())[..] else {
        // Without control groups nobody outside can tell whose a monitor is.
        return eprintln!("IGNORED: this host has no control groups to find the monitor by");
    };
    let killed = Outside::new("kill").args(["-9", monitor]).status().unwrap();
    assert!(killed.success());
    let failed = one.run(&Cell::new("1"), &mut quiet).unwrap_err();
    assert!(one.snapshot(None).is_err(), "{failed}");
    assert_eq!(other.value("1 + 1"), "2");
    one.destroy();
    assert!(monitors(one.id()).is_empty());
}

fn machines_begin_again_after_the_process_they_are_copies_of_was_killed(_: &dyn Backend) {
    let folder = tempfile::tempdir().unwrap();
    let backend = open(folder.path().into());
    let one = world(&backend);
    let [monitor] = &monitors(one.id())[..] else {
        return eprintln!("IGNORED: this host has no control groups to find the monitor by");
    };
    let status = fs::read_to_string(format!("/proc/{monitor}/status")).unwrap();
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
    let killed = Outside::new("kill")
        .args(["-9", parent.unwrap().trim()])
        .status();
    assert!(killed.unwrap().success());
    assert!(one.run(&Cell::new("1"), &mut quiet).is_err());
    assert_eq!(world(&backend).value("1 + 1"), "2");
    one.destroy();
    assert!(monitors(one.id()).is_empty());
    assert_eq!(groups(one.id()), Vec::<PathBuf>::new());
}

fn a_machine_travels_and_a_changed_one_is_refused(backend: &dyn Backend) {
    let base = world(backend);
    base.value("secret = 'abc' * 1000; open('/srv/f', 'w').write('disk')");
    let snapshot = base.snapshot(None).unwrap();
    let mut archive = Vec::new();
    backend.export(&snapshot.id, &mut archive).unwrap();
    let folder = tempfile::tempdir().unwrap();
    {
        let elsewhere = open(folder.path().into());
        let mut changed = archive.clone();
        let at = changed.windows(6).position(|six| six == b"abcabc").unwrap();
        changed[at] ^= 1;
        for bad in [&changed[..], b"junk"] {
            assert!(matches!(
                elsewhere.import(&mut &*bad),
                Err(StoreError::Archive(_))
            ));
        }
        assert_eq!(elsewhere.import(&mut &archive[..]).unwrap().id, snapshot.id);
    }
    let again = open(folder.path().into());
    let there = again.restore(&snapshot.id, &Spec::default()).unwrap();
    assert_eq!(
        there.value("len(secret), open('/srv/f').read()"),
        "(3000, 'disk')"
    );
    drop(there);
    drop(again);
    cut_off(folder.path(), &snapshot.id, 1 << 20);
    let damaged = open(folder.path().into()).restore(&snapshot.id, &Spec::default());
    assert!(matches!(damaged, Err(CreateError::Damaged { .. })));
}

fn a_guest_that_panics_says_why(backend: &dyn Backend) {
    let (one, other) = (world(backend), world(backend));
    let crash = Command::line("echo c > /proc/sysrq-trigger");
    let failed = one.exec(&crash, &mut quiet).unwrap_err().to_string();
    assert!(failed.contains("sysrq"), "{failed}");
    assert_eq!(other.value("1 + 1"), "2");
}

fn connections_into_a_machine_are_closed_in_its_branch_and_said(backend: &dyn Backend) {
    let base = world(backend);
    base.value("import socket; s = socket.create_server(('127.0.0.1', 9000))");
    let mut outside = base.connect(9000).unwrap();
    base.value("a, _ = s.accept()");
    outside.write_all(b"x").unwrap();
    assert_eq!(base.value("a.recv(1)"), "b'x'");
    let snapshot = base.snapshot(None).unwrap();
    assert_eq!(snapshot.closed, ["a connection to port 9000"]);
    let branch = backend.restore(&snapshot.id, &Spec::default()).unwrap();
    assert_eq!(branch.closed(), snapshot.closed);
    assert_eq!(branch.value("a.recv(1)"), "b''");
    outside.write_all(b"y").unwrap();
    assert_eq!(base.value("a.recv(1)"), "b'y'");
}

fn files_fill_a_machine_s_own_disk(backend: &dyn Backend) {
    let small = Spec {
        disk_mib: 32,
        ..Spec::default()
    };
    let one = backend.create(&small).unwrap();
    let (code, said) = one.line("head -c 64M /dev/zero > /tmp/f");
    assert!(code != 0 && said.contains("No space left"), "{said}");
    one.line("rm /tmp/f");
    one.resize_disk(128).unwrap();
    assert_eq!(one.line("head -c 64M /dev/zero > /tmp/f").0, 0);
    assert!(one.stats().disk_bytes >= 64 << 20);
    assert!(one.resize_disk(32).is_err());
    assert_eq!(one.value("1 + 1"), "2");
}

/// Sends a signal to the one monitor of a world; false, and a word why, where nobody can tell which it is.
fn signal(world: &dyn Sandbox, signal: &str) -> bool {
    let [monitor] = &monitors(world.id())[..] else {
        eprintln!("IGNORED in part: this host has no control groups to find the monitor by");
        return false;
    };
    let sent = Outside::new("kill").args([signal, monitor]).status();
    sent.unwrap().success()
}

fn a_machine_that_hangs_is_told(backend: &dyn Backend) {
    let (one, other) = (world(backend), world(backend));
    if !signal(&*one, "-STOP") {
        return;
    }
    std::thread::scope(|scope| {
        let cell = scope.spawn(|| one.run(&Cell::new("1"), &mut quiet));
        let line = scope.spawn(|| one.exec(&Command::line("true"), &mut quiet));
        let file = scope.spawn(|| one.read("/etc/passwd"));
        assert!(matches!(cell.join().unwrap(), Err(ExecError::Silent(_))));
        assert!(matches!(line.join().unwrap(), Err(ExecError::Silent(_))));
        assert!(matches!(file.join().unwrap(), Err(FileError::Io { .. })));
    });
    assert!(one.connect(9000).is_err());
    assert_eq!(other.value("1 + 1"), "2");
    one.destroy();
    assert!(monitors(one.id()).is_empty());
    assert_eq!(other.value("1 + 1"), "2");
}

/// A file system of a few MiB, where this process may mount one.
struct Small(tempfile::TempDir);

impl Small {
    fn new(mib: u32) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let options = format!("size={mib}m,mode=755");
        let mut mount = Outside::new("mount");
        mount.args(["-t", "tmpfs", "-o", &options, "tmpfs"]);
        let mounted = mount.arg(folder.path()).status();
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

fn a_full_disk_keeps_no_snapshot_and_the_machine(_: &dyn Backend) {
    let Some(disk) = Small::new(16) else {
        return eprintln!("IGNORED: a small file system cannot be mounted here");
    };
    let backend = open(disk.0.path().into());
    let base = world(&backend);
    base.value("x = 7");
    let snapshot = base.snapshot(None).unwrap();
    let refused = backend.persist(&snapshot.id).map(drop).unwrap_err();
    assert!(refused.to_string().contains("No space left"), "{refused}");
    assert!(!disk.0.path().join("snapshots").join(&snapshot.id).exists());
    // As long as this program runs, it can be branched all the same.
    let branch = backend.restore(&snapshot.id, &Spec::default()).unwrap();
    assert_eq!(branch.value("x += 1; x"), "8");
    assert_eq!(base.value("x"), "7");
    drop((base, branch, backend));
    assert!(open(disk.0.path().into()).snapshots().is_empty());
}

/// Names the data folder to a program that is to be killed.
const VICTIM: &str = "WORLDLINE_TEST_VICTIM_OF_QEMU";

pub(crate) fn is_victim() -> bool {
    std::env::var_os(VICTIM).is_some()
}

/// Makes machines, keeps one, says so, and waits for its end.
pub(crate) fn be_killed() -> ! {
    let backend = open(std::env::var_os(VICTIM).expect("a folder").into());
    let worlds = [world(&backend), world(&backend)];
    worlds[0].value("x = 7");
    let snapshot = worlds[0].snapshot(None).expect("a snapshot");
    backend.persist(&snapshot.id).expect("a lasting snapshot");
    println!(
        "ready {} {} {}",
        snapshot.id,
        worlds[0].id(),
        worlds[1].id()
    );
    loop {
        std::thread::sleep(Duration::from_secs(60));
    }
}

/// Cuts off the kept memory of a snapshot.
fn cut_off(folder: &Path, snapshot: &str, length: u64) {
    let memory = folder.join("snapshots").join(snapshot).join("memory");
    let file = fs::File::options().write(true).open(memory).unwrap();
    file.set_len(length).unwrap();
}

fn a_killed_program_leaves_no_machine(_: &dyn Backend) {
    let folder = tempfile::tempdir().unwrap();
    let mut victim = Outside::new(std::env::current_exe().unwrap())
        .env(VICTIM, folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(victim.stdout.take().unwrap()).lines();
    let said = lines.find_map(|line| Some(line.unwrap().strip_prefix("ready ")?.to_owned()));
    let said = said.expect("a victim that is ready");
    let [snapshot, ids @ ..] = &said.split(' ').collect::<Vec<_>>()[..] else {
        panic!("{said}");
    };
    victim.kill().unwrap();
    victim.wait().unwrap();
    let begun = Instant::now();
    while ids.iter().any(|id| !monitors(id).is_empty()) {
        assert!(begun.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(20));
    }
    let again = open(folder.path().into());
    for id in ids {
        assert_eq!(groups(id), Vec::<PathBuf>::new());
    }
    let world = again.restore(snapshot, &Spec::default()).unwrap();
    assert_eq!(world.value("x"), "7");
}

/// The control groups of a world, or of all of a folder.
fn groups(id: &str) -> Vec<PathBuf> {
    let roots = ["unified", "memory", "pids", "cpu", "freezer", ""];
    let parents = roots.map(|root| PathBuf::from("/sys/fs/cgroup").join(root).join("worldline"));
    let all = parents
        .iter()
        .filter_map(|parent| fs::read_dir(parent).ok());
    all.flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_dir() && path.to_string_lossy().contains(id))
        .collect()
}

fn a_snapshot_of_another_host_is_refused(_: &dyn Backend) {
    let folder = tempfile::tempdir().unwrap();
    let snapshot = {
        let backend = open(folder.path().into());
        let id = world(&backend).snapshot(None).unwrap().id;
        backend.persist(&id).unwrap().id
    };
    let manifest = folder
        .path()
        .join("snapshots")
        .join(&snapshot)
        .join("manifest.json");
    let written = fs::read_to_string(&manifest).unwrap();
    for (part, of_here, elsewhere) in [
        (
            "the acceleration",
            "\"accelerator\": \"tcg\"",
            "\"accelerator\": \"kvm\"",
        ),
        ("the monitor", "\"monitor\": \"QEMU", "\"monitor\": \"UMEQ"),
        (
            "the processor",
            "\"processor\": \"",
            "\"processor\": \"Z80 ",
        ),
        ("the machine", "\"machine\": \"", "\"machine\": \"0"),
    ] {
        assert!(written.contains(of_here), "{written}");
        fs::write(&manifest, written.replacen(of_here, elsewhere, 1)).unwrap();
        let refused = open(folder.path().into()).restore(&snapshot, &Spec::default());
        assert!(
            matches!(refused, Err(CreateError::OtherHost { what, .. }) if what == part),
            "{part}"
        );
    }
    fs::write(&manifest, written).unwrap();
    let backend = open(folder.path().into());
    let again = backend.restore(&snapshot, &Spec::default()).unwrap();
    assert_eq!(again.value("1 + 1"), "2");
}

fn a_snapshot_that_is_cut_off_hurts_no_branch(_: &dyn Backend) {
    let folder = tempfile::tempdir().unwrap();
    let backend = open(folder.path().into());
    let base = world(&backend);
    base.value("x = bytes(range(256)) * 10000; import pandas");
    let snapshot = base.snapshot(None).unwrap();
    backend.persist(&snapshot.id).unwrap();
    let before = backend.restore(&snapshot.id, &Spec::default()).unwrap();
    cut_off(folder.path(), &snapshot.id, 4096);
    // Machines have what they need of it in memory, and those that are made of that are whole too.
    let after = backend.restore(&snapshot.id, &Spec::default()).unwrap();
    for branch in [&before, &after, &base] {
        assert_eq!(branch.value("sum(x) + len(pandas.__name__)"), "326400006");
    }
}

fn four_generations_hold_all_that_was_before(backend: &dyn Backend) {
    let mut machine = world(backend);
    machine.value("n = 0");
    for generation in 1..=4 {
        let snapshot = machine.snapshot(None).unwrap();
        machine = backend.restore(&snapshot.id, &Spec::default()).unwrap();
        let step = "n += 1; _ = open('/tmp/g', 'a').write('x'); n, len(open('/tmp/g').read())";
        assert_eq!(machine.value(step), format!("({generation}, {generation})"));
    }
}

fn what_is_half_kept_is_gone_and_what_is_damaged_is_named(_: &dyn Backend) {
    let folder = tempfile::tempdir().unwrap();
    let kept = folder.path().join("snapshots");
    let [good, bad] = {
        let backend = open(folder.path().into());
        let base = world(&backend);
        [(); 2].map(|()| {
            let id = base.snapshot(None).unwrap().id;
            backend.persist(&id).unwrap().id
        })
    };
    let half = kept.join("snapshot-half");
    fs::create_dir(&half).unwrap();
    fs::write(half.join("memory"), "x").unwrap();
    let manifest = kept.join(&bad).join("manifest.json");
    fs::write(&manifest, "{\"version\": 99").unwrap();
    let backend = open(folder.path().into());
    let unreadable = &backend.reaped().unreadable;
    assert_eq!(unreadable[0].id, bad, "{unreadable:?}");
    let why = Standing::Unreadable(&unreadable[0].why);
    assert_eq!(backend.standing("qemu", &bad), why);
    assert_eq!(backend.standing("qemu", &good), Standing::Here);
    assert_eq!(backend.standing("qemu", "snapshot-half"), Standing::Gone);
    assert_eq!(
        backend.standing("firecracker", "snapshot-x"),
        Standing::Away
    );
    assert!(!half.exists() && manifest.exists());
    let known: Vec<String> = backend.snapshots().into_iter().map(|one| one.id).collect();
    assert_eq!(known, [good]);
    assert!(backend.restore("snapshot-half", &Spec::default()).is_err());
}

fn a_branch_that_cannot_be_made_leaves_no_machine(_: &dyn Backend) {
    let folder = tempfile::tempdir().unwrap();
    let (base, snapshot, backend) = {
        let first = open(folder.path().into());
        let snapshot = world(&first).snapshot(None).unwrap().id;
        first.persist(&snapshot).unwrap();
        drop(first);
        let backend = open(folder.path().into());
        (world(&backend), snapshot, backend)
    };
    let devices = folder
        .path()
        .join("snapshots")
        .join(&snapshot)
        .join("devices");
    fs::write(devices, "of no machine").unwrap();
    assert!(backend.branch(&snapshot, 3, &Spec::default()).is_err());
    assert_eq!(base.value("1 + 1"), "2");
    let Some(group) = groups(base.id()).pop() else {
        return eprintln!("IGNORED in part: this host has no control groups to find monitors by");
    };
    // The groups of all machines of a folder begin with the same word.
    let name = group.file_name().unwrap().to_string_lossy().into_owned();
    let folder = name.strip_suffix(base.id()).unwrap();
    drop((base, backend));
    assert_eq!(groups(folder), Vec::<PathBuf>::new());
    assert!(monitors(folder).is_empty());
}

fn branches_never_meet_and_have_no_network(backend: &dyn Backend) {
    let base = world(backend);
    let snapshot = base.snapshot(None).unwrap();
    let branches = backend.branch(&snapshot.id, 2, &Spec::default()).unwrap();
    let serve =
        "import socket, os; s = socket.create_server(('127.0.0.1', 7000)); socket.gethostname()";
    let names: Vec<String> = branches.iter().map(|one| one.value(serve)).collect();
    assert_ne!(names[0], names[1]);
    for branch in &branches {
        let cards = "sorted(name for _, name in socket.if_nameindex())";
        assert_eq!(branch.value(cards), "['lo']");
    }
    let reach = "import socket; socket.create_connection(('127.0.0.1', 7000), 5)";
    assert_eq!(
        base.cell(reach).0.error.unwrap().name,
        "ConnectionRefusedError"
    );
    let out = "socket.create_connection(('1.1.1.1', 53), 5)";
    assert_eq!(base.cell(out).0.error.unwrap().name, "OSError");
}

fn a_machine_is_walled_in(backend: &dyn Backend) {
    let (one, other) = (world(backend), world(backend));
    nothing_of_the_host_is_in_it(&*one);
    let [monitor] = &monitors(one.id())[..] else {
        return eprintln!(
            "IGNORED in part: this host has no control groups to find the monitor by"
        );
    };
    the_monitor_is_confined(monitor);
    // The most that it can end is itself.
    let _ = one.exec(&Command::line("echo o > /proc/sysrq-trigger"), &mut quiet);
    assert_eq!(other.value("1 + 1"), "2");
}

/// Whoever rules the whole machine finds nothing of the host's in it.
fn nothing_of_the_host_is_in_it(one: &dyn Sandbox) {
    let secret = tempfile::NamedTempFile::new().unwrap();
    fs::write(secret.path(), "of the host").unwrap();
    let path = secret.path().display();
    let outside = std::process::id();
    // The host's files, by name and by every device and file system; its processes; its disk.
    assert_ne!(one.line(&format!("cat {path}")).0, 0);
    for line in [
        "grep -vE '^(nodev|[[:space:]])' /proc/filesystems | grep -E '9p|virtiofs'",
        "ls /sys/bus/pci/devices/*/net /sys/class/net | grep -v -e lo -e '^$' -e class",
        "echo x > /dev/vda",
        "mount -o remount,rw /dev/vda /mnt",
        "ls /dev/sda /dev/vdb /dev/fd0 /dev/kvm",
    ] {
        let (code, said) = one.line(line);
        assert_ne!(code, 0, "{line}: {said}");
    }
    assert_eq!(one.line("ls /dev/vport* | wc -l").1.trim(), "1");
    let (_, said) = one.line(&format!(
        "ls -d /proc/{outside}/exe && readlink /proc/{outside}/exe"
    ));
    assert!(!said.contains("worlds"), "{said}");
    let (_, kernels) = one.line("uname -r");
    let ours = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert_ne!(kernels.trim(), ours.trim());
    // A signal finds nobody but itself.
    one.line(&format!("kill -9 {outside}"));
}

/// What a machine that breaks out into its monitor would find.
fn the_monitor_is_confined(monitor: &str) {
    let at = |name: &str| format!("/proc/{monitor}/{name}");
    let status = fs::read_to_string(at("status")).unwrap();
    let field = |name: &str| {
        let line = status
            .lines()
            .find(|line| line.starts_with(&format!("{name}:")));
        line.unwrap_or_default()[name.len() + 1..].trim().to_owned()
    };
    assert_eq!(field("Seccomp"), "2", "{status}");
    assert_eq!(field("CapEff"), "0000000000000000", "{status}");
    let is_root = fs::metadata("/proc/self").is_ok_and(|about| about.uid() == 0);
    if is_root {
        assert!(
            !field("Uid").split_whitespace().any(|id| id == "0"),
            "{status}"
        );
        assert!(
            !field("Gid").split_whitespace().any(|id| id == "0"),
            "{status}"
        );
        assert_eq!(field("Groups"), "", "{status}");
        let network = |of: &str| fs::read_link(format!("/proc/{of}/ns/net")).unwrap();
        assert_ne!(network(monitor), network("self"));
        let cards = fs::read_to_string(at("net/dev")).unwrap();
        assert_eq!(cards.lines().skip(2).count(), 1, "{cards}");
    }
    assert!(
        fs::read_to_string(at("cgroup"))
            .unwrap()
            .contains("worldline")
    );
    assert_eq!(
        fs::read_to_string(at("environ"))
            .unwrap()
            .split('\0')
            .filter(|one| !one.is_empty()
                && !one.starts_with("PATH=")
                && *one != "LD_PRELOAD=/proc/self/fd/4")
            .count(),
        0
    );
    for entry in fs::read_dir(at("fd")).unwrap().flatten() {
        let target = fs::read_link(entry.path()).unwrap_or_default();
        let target = target.to_string_lossy();
        let about = fs::read_to_string(at(&format!(
            "fdinfo/{}",
            entry.file_name().to_string_lossy()
        )));
        let is_read_only = about
            .unwrap_or_default()
            .lines()
            .any(|line| line.starts_with("flags:") && line.ends_with('0'));
        let known = !target.starts_with('/')
            || target.starts_with("/memfd:")
            || target == "/dev/null"
            || is_read_only && (target.ends_with(".erofs") || target.ends_with("vmlinux"));
        assert!(known, "{target}");
    }
}

/// The images of the tests, and what their machines begin from, under another folder. Each snapshot there has
/// a manifest of its own.
fn beside(shared: &Path, own: &Path) {
    let begun = own.join("machines");
    fs::create_dir_all(&begun).unwrap();
    let all = entries(shared).into_iter();
    for image in all.filter(|path| !path.ends_with("machines")) {
        std::os::unix::fs::symlink(&image, own.join(image.file_name().unwrap())).unwrap();
    }
    let all = entries(&shared.join("machines")).into_iter();
    for kept in all.filter(|path| path.is_dir()) {
        let place = begun.join(kept.file_name().unwrap());
        fs::create_dir(&place).unwrap();
        for part in ["memory", "devices"] {
            fs::hard_link(kept.join(part), place.join(part)).unwrap();
        }
        fs::copy(kept.join("manifest.json"), place.join("manifest.json")).unwrap();
    }
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let all = fs::read_dir(folder).unwrap();
    all.map(|entry| entry.unwrap().path()).collect()
}

fn what_no_machine_begins_from_is_taken_back(backend: &dyn Backend) {
    // So that there is something to begin from.
    drop(world(backend));
    let folder = tempfile::tempdir_in(images().parent().unwrap()).unwrap();
    let own = folder.path().join("images");
    beside(&images(), &own);
    let settings = Settings {
        images: own.clone(),
        ..Settings::new(folder.path().join("data"))
    };
    let backend = Qemu::open(&settings).unwrap();
    backend.collect().unwrap();
    let left = || -> Vec<PathBuf> {
        let all = entries(&own.join("machines")).into_iter();
        all.filter(|path| path.is_dir()).collect()
    };
    let [first, ..] = &left()[..] else {
        panic!("what is used is kept");
    };
    let manifest = fs::File::options()
        .append(true)
        .open(first.join("manifest.json"));
    let long_ago = SystemTime::now() - Duration::from_secs(8 * 24 * 3600);
    manifest.unwrap().set_modified(long_ago).unwrap();
    assert!(backend.collect().unwrap() > 0 && !first.exists());
    let name = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
    let all = entries(&own).into_iter();
    for image in all.filter(|path| name(path).starts_with("sha256-")) {
        fs::remove_file(image).unwrap();
    }
    backend.collect().unwrap();
    assert_eq!(left(), Vec::<PathBuf>::new());
}
