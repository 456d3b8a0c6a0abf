//! Crashes: nothing is lost that was kept, and nothing is left behind.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command as Outside, Stdio};
use std::time::{Duration, Instant};

use worldline_sandbox::{Backend, Fault, Process, Settings, Spec, Standing};

use crate::{Play, Promise, images, open, quiet, world};

pub(crate) const PROMISES: &[Promise] = &[
    ("worlds_leave_nothing_behind", worlds_leave_nothing_behind),
    ("no_orphan_after_kill_nine", no_orphan_after_kill_nine),
    (
        "a_kill_at_any_step_loses_nothing_and_leaves_nothing",
        a_kill_at_any_step_loses_nothing_and_leaves_nothing,
    ),
    (
        "a_half_written_snapshot_is_no_snapshot",
        a_half_written_snapshot_is_no_snapshot,
    ),
    (
        "a_damaged_manifest_is_named_and_the_others_are_kept",
        a_damaged_manifest_is_named_and_the_others_are_kept,
    ),
    (
        "an_agent_killed_from_outside_ends_its_world_alone",
        an_agent_killed_from_outside_ends_its_world_alone,
    ),
    (
        "a_branch_that_fails_leaves_nothing",
        a_branch_that_fails_leaves_nothing,
    ),
];

/// Names the data folder to a process that is to be killed.
const VICTIM: &str = "WORLDLINE_TEST_VICTIM";

pub(crate) fn is_victim() -> bool {
    std::env::var_os(VICTIM).is_some()
}

/// Makes worlds, keeps one, pauses one, says so, and waits for its end.
pub(crate) fn be_killed() -> ! {
    let folder = std::env::var_os(VICTIM).expect("a folder");
    if let Ok(point) = std::env::var(POINT) {
        walk_into(Fault::parse(&point).expect("a point"), folder.into());
    }
    let process = open(folder.into()).expect("a backend");
    let worlds: Vec<_> = (0..3).map(|_| world(&process)).collect();
    worlds[0].value("x = 7; open('/tmp/f', 'w').write('kept')");
    let snapshot = worlds[0].snapshot(Some("kept")).expect("a snapshot");
    process.persist(&snapshot.id).expect("a lasting snapshot");
    worlds[1].line("sleep 600 &");
    worlds[2].pause().expect("a pause");
    println!("ready {}", snapshot.id);
    loop {
        std::thread::sleep(Duration::from_secs(60));
        drop(worlds[0].exec(&worldline_sandbox::Command::line("true"), &mut quiet));
    }
}

/// All that worlds of a folder could leave: processes, mounts, control groups, files.
fn traces(folder: &Path) -> BTreeSet<String> {
    let mut traces = BTreeSet::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let at = |name: &str| fs::read_to_string(entry.path().join(name)).unwrap_or_default();
        let groups = at("cgroup");
        if let Some(group) = groups
            .lines()
            .find_map(|line| line.split_once("/worldline/"))
        {
            let dead = at("stat").contains(") Z ");
            if !dead {
                traces.insert(format!(
                    "process {} of {}",
                    entry.file_name().to_string_lossy(),
                    group.1
                ));
            }
        }
    }
    for line in fs::read_to_string("/proc/mounts").unwrap().lines() {
        if line.contains("overlay") || line.contains("/worlds/") {
            traces.insert(format!("mount {line}"));
        }
    }
    for root in ["unified", "memory", "pids", "cpu", "freezer", ""] {
        for entry in fs::read_dir(Path::new("/sys/fs/cgroup").join(root).join("worldline"))
            .into_iter()
            .flatten()
            .flatten()
        {
            if entry.path().is_dir() {
                traces.insert(format!("group {}", entry.path().display()));
            }
        }
    }
    for entry in fs::read_dir(folder.join("worlds"))
        .into_iter()
        .flatten()
        .flatten()
    {
        traces.insert(format!("folder {}", entry.path().display()));
    }
    traces
}

/// What has come since, leaving out what other tests do at the same time: names of worlds are random,
/// and groups begin with the mark of their folder.
fn left(folder: &Path, mark: &str) -> Vec<String> {
    traces(folder)
        .into_iter()
        .filter(|trace| trace.contains(mark) || trace.starts_with("folder "))
        .collect()
}

/// The mark of a folder's groups, learned from one that is there.
fn mark(id: &str) -> String {
    let group = traces(Path::new("/nowhere"))
        .into_iter()
        .find(|trace| trace.ends_with(id))
        .expect("a group of the world");
    let name = group.rsplit('/').next().unwrap_or_default();
    name.trim_end_matches(id).to_owned()
}

fn worlds_leave_nothing_behind(_: &dyn Backend) {
    let folder = tempfile::tempdir().unwrap();
    let process = open(folder.path().into()).unwrap();
    let base = world(&process);
    let mark = mark(base.id());
    let snapshot = base.snapshot(None).unwrap();
    let branches = process.branch(&snapshot.id, 8, &Spec::default()).unwrap();
    branches[0].line("sleep 600 & sleep 600 &");
    branches[1].pause().unwrap();
    assert!(!left(folder.path(), &mark).is_empty());
    drop((base, branches));
    drop(process);
    assert_eq!(left(folder.path(), &mark), Vec::<String>::new());
}

fn no_orphan_after_kill_nine(_: &dyn Backend) {
    let folder = tempfile::tempdir().unwrap();
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
    let before: Vec<String> = fs::read_dir(folder.path().join("worlds"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    let mark = mark(&before[0]);
    victim.kill().unwrap();
    victim.wait().unwrap();
    let process = open(folder.path().into()).unwrap();
    assert_eq!(process.reaped().worlds, before.len());
    let orphans: Vec<String> = left(folder.path(), &mark)
        .into_iter()
        .filter(|trace| before.iter().any(|id| trace.ends_with(id.as_str())))
        .collect();
    assert_eq!(orphans, Vec::<String>::new());
    let world = process.restore(&id, &Spec::default()).unwrap();
    assert_eq!(world.value("x, open('/tmp/f').read()"), "(7, 'kept')");
}

/// Names the point where a victim has itself killed.
const POINT: &str = "WORLDLINE_TEST_POINT";

/// Goes through every step with the fault armed, and is not expected to come to the end.
fn walk_into(point: Fault, folder: PathBuf) -> ! {
    let settings = Settings {
        images: images(),
        fault: Some(point),
        ..Settings::new(folder)
    };
    let process = Process::open(settings).expect("a backend");
    let all = process.snapshots();
    let kept = all
        .iter()
        .find(|one| one.name.as_deref() == Some("kept"))
        .expect("the kept one")
        .id
        .clone();
    let world = process.restore(&kept, &Spec::default()).expect("a branch");
    let next = world.snapshot(Some("next")).expect("a snapshot");
    process.persist(&next.id).expect("a lasting snapshot");
    process
        .remove_snapshot(&next.id)
        .expect("a forgotten snapshot");
    world.destroy();
    drop(world);
    process.collect().expect("a collection");
    println!("not hit");
    std::process::exit(0);
}

fn a_kill_at_any_step_loses_nothing_and_leaves_nothing(_: &dyn Backend) {
    let folder = tempfile::tempdir().unwrap();
    {
        let process = open(folder.path().into()).unwrap();
        let world = world(&process);
        world.value("x = 7; open('/tmp/f', 'w').write('kept')");
        let kept = world.snapshot(Some("kept")).unwrap();
        process.persist(&kept.id).unwrap();
    }
    for (name, _) in Fault::ALL {
        let killed = Outside::new(std::env::current_exe().unwrap())
            .env(VICTIM, folder.path())
            .env(POINT, name)
            .output()
            .unwrap();
        use std::os::unix::process::ExitStatusExt;
        assert_eq!(
            killed.status.signal(),
            Some(9),
            "{name}: {}",
            String::from_utf8_lossy(&killed.stderr)
        );
        let before: Vec<String> = fs::read_dir(folder.path().join("worlds"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        let process = open(folder.path().into()).unwrap();
        let orphans: Vec<String> = traces(folder.path())
            .into_iter()
            .filter(|trace| before.iter().any(|id| trace.ends_with(id.as_str())))
            .collect();
        assert_eq!(orphans, Vec::<String>::new(), "{name}");
        let names: Vec<Option<String>> = process
            .snapshots()
            .into_iter()
            .map(|one| one.name)
            .collect();
        assert!(names.contains(&Some("kept".into())), "{name}: {names:?}");
        for snapshot in process.snapshots() {
            assert!(snapshot.durable, "{name}");
            let world = process.restore(&snapshot.id, &Spec::default()).unwrap();
            assert_eq!(
                world.value("x, open('/tmp/f').read()"),
                "(7, 'kept')",
                "{name}"
            );
            if snapshot.name.as_deref() == Some("next") {
                process.remove_snapshot(&snapshot.id).unwrap();
            }
        }
        // What is left is the kept one and the template.
        process.collect().unwrap();
        assert_eq!(
            fs::read_dir(folder.path().join("snapshots"))
                .unwrap()
                .count(),
            2,
            "{name}"
        );
    }
}

fn a_half_written_snapshot_is_no_snapshot(_: &dyn Backend) {
    let folder = tempfile::tempdir().unwrap();
    let half = folder.path().join("snapshots/snapshot-half");
    fs::create_dir_all(half.join("disk")).unwrap();
    fs::write(half.join("pages"), "x").unwrap();
    fs::write(half.join("manifest.part"), "{").unwrap();
    let process = open(folder.path().into()).unwrap();
    assert!(process.snapshots().is_empty() && !half.exists());
    assert!(process.restore("snapshot-half", &Spec::default()).is_err());
}

fn a_damaged_manifest_is_named_and_the_others_are_kept(_: &dyn Backend) {
    let folder = tempfile::tempdir().unwrap();
    let (good, bad) = {
        let process = open(folder.path().into()).unwrap();
        let world = world(&process);
        (
            world.snapshot(None).unwrap().id,
            world.snapshot(None).unwrap().id,
        )
    };
    let manifest = folder
        .path()
        .join("snapshots")
        .join(&bad)
        .join("manifest.json");
    fs::write(&manifest, "{\"version\": 99").unwrap();
    let process = open(folder.path().into()).unwrap();
    let unreadable = &process.reaped().unreadable;
    assert_eq!(unreadable[0].id, bad, "{unreadable:?}");
    let why = Standing::Unreadable(&unreadable[0].why);
    assert_eq!(process.standing("process", &bad), why);
    assert_eq!(process.standing("process", "snapshot-x"), Standing::Gone);
    assert_eq!(
        process
            .snapshots()
            .iter()
            .map(|one| one.id.clone())
            .collect::<Vec<_>>(),
        [good]
    );
    assert!(manifest.exists());
}

fn an_agent_killed_from_outside_ends_its_world_alone(backend: &dyn Backend) {
    let (one, other) = (world(backend), world(backend));
    let group = traces(Path::new("/nowhere"));
    let pids: Vec<&str> = group
        .iter()
        .filter_map(|trace| trace.strip_prefix("process ")?.split_once(" of "))
        .filter(|(_, of)| of.ends_with(one.id()))
        .map(|(pid, _)| pid)
        .collect();
    // The one whose parent is outside; numbers begin anew when they are used up.
    let parent = |pid: &str| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("PPid:"));
        line.map(|text| text.trim().to_owned()).unwrap_or_default()
    };
    let first = pids
        .iter()
        .find(|pid| !pids.contains(&parent(pid).as_str()));
    let first = first.expect("the world's first process");
    assert!(
        Outside::new("kill")
            .args(["-9", first])
            .status()
            .unwrap()
            .success()
    );
    let begun = Instant::now();
    while one
        .exec(&worldline_sandbox::Command::line("true"), &mut quiet)
        .is_ok()
    {
        assert!(begun.elapsed() < Duration::from_secs(60));
    }
    assert_eq!(other.value("1"), "1");
}

fn a_branch_that_fails_leaves_nothing(_: &dyn Backend) {
    let folder = tempfile::tempdir().unwrap();
    let process = open(folder.path().into()).unwrap();
    let base = world(&process);
    let mark = mark(base.id());
    base.value("x = bytearray(b'y') * 3_000_000");
    let snapshot = process.persist(&base.snapshot(None).unwrap().id).unwrap();
    fs::remove_file(
        folder
            .path()
            .join("snapshots")
            .join(&snapshot.id)
            .join("pages"),
    )
    .unwrap();
    assert!(process.branch(&snapshot.id, 3, &Spec::default()).is_err());
    assert_eq!(base.value("len(x)"), "3000000");
    drop(base);
    drop(process);
    assert_eq!(left(folder.path(), &mark), Vec::<String>::new());
}
