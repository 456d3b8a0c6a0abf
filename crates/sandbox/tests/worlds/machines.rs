//! The same promises of virtual machines under QEMU, and what only they can be tested for. By translation
//! they take some ten times as long, so most are left to the slow tests.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command as Outside;
use std::sync::Once;

use libtest_mimic::Trial;
use worldline_sandbox::image::DEFAULT;
use worldline_sandbox::{Backend, Cell, Command, CreateError, Qemu, Settings, Spec, StoreError};

use crate::{Play, Promise, images, quiet, world};

/// The promises that are tested each time.
const LEAN: [&str; 11] = [
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
];

/// Promises of the other backend alone, and why.
const OTHERS: [(&str, &str); 26] = [
    (
        "files_go_by_sftp",
        "a machine's user 0 may write where a process may not; files are tested by other means",
    ),
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
        "each of the fifty is a whole memory on the disk; eight are tested below",
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
        "it opens the other backend",
    ),
    (
        "a_damaged_manifest_is_named_and_the_others_are_kept",
        "it opens the other backend",
    ),
    (
        "an_agent_killed_from_outside_ends_its_world_alone",
        "an agent is not to be seen from outside; tested below",
    ),
    (
        "a_branch_that_fails_leaves_nothing",
        "it opens the other backend",
    ),
    (
        "a_listed_name_is_reached",
        "a machine has no way out: refused by name",
    ),
    (
        "nothing_but_listed_names_is_reached",
        "a machine has no way out: refused by name",
    ),
    (
        "a_branch_reaches_what_its_snapshot_did",
        "a machine has no way out: refused by name",
    ),
    (
        "a_list_that_cannot_be_read_is_refused",
        "a machine has no way out: refused by name",
    ),
];

/// What machines have beside the others.
const PROMISES: [Promise; 6] = [
    (
        "three_branches_work_side_by_side",
        three_branches_work_side_by_side,
    ),
    (
        "a_killed_monitor_ends_its_machine_alone",
        a_killed_monitor_ends_its_machine_alone,
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
];

fn settings(data: PathBuf) -> Settings {
    Settings {
        images: images(),
        ..Settings::new(data)
    }
}

/// A backend over a folder. Its machines begin where the first one on this host stood.
fn open(data: PathBuf) -> Qemu {
    static BUILT: Once = Once::new();
    BUILT.call_once(|| {
        let folder = tempfile::tempdir().unwrap();
        let process = crate::open(folder.path().into()).unwrap();
        let image = process.images().find(DEFAULT).unwrap();
        process
            .build_machine(&image, &mut |step| eprintln!("{step}"))
            .unwrap();
    });
    Qemu::open(&settings(data)).unwrap()
}

/// A promise over a folder of its own: memories are large, and are to be gone when it is tested.
fn alone(promise: fn(&dyn Backend)) {
    let folder = tempfile::tempdir().unwrap();
    promise(&open(folder.path().into()));
}

pub(crate) fn trials(all: &[Promise]) -> Vec<Trial> {
    let folder = tempfile::tempdir().unwrap();
    let report = Qemu::open(&settings(folder.path().into()))
        .unwrap()
        .report();
    let lacks = report
        .capabilities
        .into_iter()
        .find(|one| one.name == "monitor" && !one.present)
        .map(|one| one.note);
    if let Some(lacks) = &lacks {
        eprintln!("IGNORED, all tests of machines under QEMU: {lacks}");
    }
    let here = |promise: &&Promise| !OTHERS.iter().any(|(name, _)| *name == promise.0);
    all.iter()
        .filter(here)
        .chain(&PROMISES)
        .map(|&(name, promise)| {
            let (runs, lean) = (lacks.is_none(), LEAN.contains(&name));
            crate::trial(&format!("qemu/{name}"), !runs || !lean, move || {
                if runs {
                    alone(promise);
                }
            })
        })
        .collect()
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
    let memory = folder
        .path()
        .join("snapshots")
        .join(&snapshot.id)
        .join("memory");
    fs::File::options()
        .write(true)
        .open(memory)
        .and_then(|file| file.set_len(1 << 20))
        .unwrap();
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
