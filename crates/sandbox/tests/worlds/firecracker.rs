//! The same promises of virtual machines under Firecracker. Where the host's processor runs no Linux in a
//! machine, the slow tests run them in a machine under QEMU, which translates a processor that does.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use libtest_mimic::{Arguments, Trial};
use worldline_sandbox::firecracker::{Firecracker, JAILED, Jail, Settings, programs};
use worldline_sandbox::image::DEFAULT;
use worldline_sandbox::{Backend, CreateError, Spec};

use crate::outer::{Outer, PLACE};
use crate::{Play, Promise, When, images, machines, world};

/// Set where this program runs in a machine under QEMU.
pub(crate) const INSIDE: &str = "WORLDLINE_INSIDE";
/// How long Linux may take to begin there: its processor is translated twice.
const TWICE_TRANSLATED: Duration = Duration::from_secs(300);
/// How long the promises that are tested there may take.
pub(crate) const ALL: Duration = Duration::from_secs(1800);
/// Where machines are jailed there.
const JAILS: &str = "/srv/jails";

/// Promises that are tested where a processor is translated.
const LEAN: [&str; 24] = [
    "globals_persist_from_cell_to_cell",
    "an_error_has_its_traceback",
    "folder_and_environment_persist_from_line_to_line",
    "files_go_in_and_out",
    "a_server_inside_can_be_reached",
    "branches_go_their_own_way",
    "fork_gives_each_child_its_own_randomness",
    "the_wall_clock_of_a_branch_is_right",
    "a_snapshot_in_mid_cell_goes_on_in_its_branch",
    "a_kept_machine_travels_and_goes_on_beside_its_branches",
    "a_machine_that_is_kept_while_it_is_paused_goes_on",
    "absurd_sizes_are_refused",
    "a_command_has_arguments_an_input_and_an_exit_code",
    "a_snapshot_never_changes",
    "a_world_has_no_network_by_default",
    "a_listed_name_is_reached",
    "nothing_but_listed_names_is_reached",
    "a_branch_reaches_what_its_snapshot_did",
    "a_list_that_cannot_be_read_is_refused",
    "three_branches_work_side_by_side",
    "a_killed_monitor_ends_its_machine_alone",
    "a_guest_that_panics_says_why",
    "connections_into_a_machine_are_closed_in_its_branch_and_said",
    "linux_runs_in_a_jail",
];

/// What is tested of machines under either monitor.
const SHARED: [&str; 8] = [
    "three_branches_work_side_by_side",
    "a_killed_monitor_ends_its_machine_alone",
    "a_guest_that_panics_says_why",
    "connections_into_a_machine_are_closed_in_its_branch_and_said",
    "files_fill_a_machine_s_own_disk",
    "attempts_end_at_the_machine_s_wall",
    "marks_that_a_machine_leaves_are_its_own",
    "garbage_for_a_machine_s_devices_hurts_it_alone",
];

/// What is tested of these machines alone.
const PROMISES: [Promise; 3] = [
    (
        "a_kept_machine_travels_and_goes_on_beside_its_branches",
        a_kept_machine_travels_and_goes_on_beside_its_branches,
    ),
    (
        "a_machine_that_is_kept_while_it_is_paused_goes_on",
        a_machine_that_is_kept_while_it_is_paused_goes_on,
    ),
    ("linux_runs_in_a_jail", linux_runs_in_a_jail),
];

/// Whether this program runs in a machine under QEMU.
pub(crate) fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

fn open(data: PathBuf) -> Firecracker {
    let (program, _) = programs().expect("Firecracker");
    Firecracker::open(Settings {
        images: Some(images()),
        default_image: DEFAULT.into(),
        ..Settings::new(data, program)
    })
    .unwrap()
}

/// Why no Linux runs under Firecracker here.
fn lacking() -> Option<String> {
    if programs().is_none() {
        return Some("there is no Firecracker: WORLDLINE_FIRECRACKER names one".into());
    }
    let folder = tempfile::tempdir().unwrap();
    let backend = open(folder.path().into());
    if is_inside() {
        return backend.probe_linux(TWICE_TRANSLATED).err();
    }
    let all = backend.report().capabilities;
    all.into_iter()
        .find(|one| one.name == "linux" && !one.present)
        .map(|one| one.note)
}

/// A promise over a folder of its own: memories are large, and are to be gone when it is tested. Where a start
/// takes minutes, all begin from one.
fn alone(promise: fn(&dyn Backend)) {
    static SHARED: OnceLock<Firecracker> = OnceLock::new();
    if !is_inside() {
        let folder = tempfile::tempdir().unwrap();
        return promise(&open(folder.path().into()));
    }
    let backend = SHARED.get_or_init(|| open(format!("{PLACE}/data").into()));
    promise(backend);
    for snapshot in backend.snapshots() {
        backend.remove_snapshot(&snapshot.id).unwrap();
    }
}

/// The promises, as far as a run asks for them: finding out whether Linux runs here takes a while.
pub(crate) fn trials(all: &[Promise], arguments: &Arguments) -> Vec<Trial> {
    let shared = machines::PROMISES.iter();
    let shared = shared.filter(|(name, _)| SHARED.contains(name));
    let promises: Vec<&Promise> = all
        .iter()
        .filter(|(name, _)| !machines::OTHERS.iter().any(|(other, _)| other == name))
        .chain(shared)
        .chain(&PROMISES)
        .collect();
    let asked = |name: &str| {
        let filter = arguments.filter.as_deref().unwrap_or_default();
        format!("firecracker/{name}").contains(filter)
    };
    let wanted = !arguments.list && promises.iter().any(|(name, _)| asked(name));
    let lacks = if wanted {
        lacking()
    } else {
        Some(String::new())
    };
    if let Some(lacks) = lacks.as_ref().filter(|_| wanted) {
        eprintln!("IGNORED, all tests of Linux under Firecracker: {lacks}");
    }
    let inside = is_inside();
    let mut trials: Vec<Trial> = promises
        .into_iter()
        .map(|&(name, promise)| {
            let runs = lacks.is_none() && (!inside || LEAN.contains(&name));
            crate::trial(
                &format!("firecracker/{name}"),
                When::here(runs),
                move || {
                    if runs {
                        alone(promise);
                    }
                },
            )
        })
        .collect();
    if !inside {
        trials.push(crate::trial(
            "inside/linux_under_firecracker_keeps_the_promises",
            When::Slow,
            linux_under_firecracker_keeps_the_promises,
        ));
    }
    trials
}

fn a_kept_machine_travels_and_goes_on_beside_its_branches(backend: &dyn Backend) {
    let base = world(backend);
    base.value("import os; secret = 'abc' * 1000; _ = open('/srv/f', 'w').write('disk')");
    let snapshot = base.snapshot(Some("first")).unwrap();
    base.value("secret = 'base'");
    // It is laid over the first one: what was written since is all that is written for it.
    let second = base.snapshot(Some("second")).unwrap();
    assert!(second.memory_bytes < u64::from(second.spec.memory_mib) << 20);
    let mut archive = Vec::new();
    backend.export(&snapshot.id, &mut archive).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let elsewhere = open(folder.path().into());
    let mut changed = archive.clone();
    let at = changed.windows(6).position(|six| six == b"abcabc").unwrap();
    changed[at] ^= 1;
    assert!(elsewhere.import(&mut &changed[..]).is_err());
    assert_eq!(elsewhere.import(&mut &archive[..]).unwrap().id, snapshot.id);
    let there = elsewhere.restore(&snapshot.id, &Spec::default()).unwrap();
    assert_eq!(
        there.value("len(secret), open('/srv/f').read()"),
        "(3000, 'disk')"
    );
    let here = backend.restore(&second.id, &Spec::default()).unwrap();
    assert_eq!(here.value("secret"), "'base'");
    assert_ne!(here.value("os.urandom(8)"), there.value("os.urandom(8)"));
    let other = Spec {
        memory_mib: 4096,
        ..Spec::default()
    };
    let refused = backend.restore(&second.id, &other);
    assert!(matches!(refused, Err(CreateError::Lacks(_))));
}

fn a_machine_that_is_kept_while_it_is_paused_goes_on(backend: &dyn Backend) {
    let base = world(backend);
    base.value("x = 1");
    base.pause().unwrap();
    let snapshot = base.snapshot(None).unwrap();
    base.resume().unwrap();
    assert_eq!(base.value("x"), "1");
    let branch = backend.restore(&snapshot.id, &Spec::default()).unwrap();
    assert_eq!(branch.value("x"), "1");
}

fn linux_runs_in_a_jail(_: &dyn Backend) {
    let is_root = fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
    let (program, jailer) = programs().expect("Firecracker");
    let Some(jailer) = jailer.filter(|_| is_root) else {
        return eprintln!("IGNORED: there is no jailer, or nobody who may use it");
    };
    let folder = match is_inside() {
        true => tempfile::tempdir_in(JAILS).unwrap(),
        false => tempfile::tempdir().unwrap(),
    };
    let backend = Firecracker::open(Settings {
        images: Some(images()),
        default_image: DEFAULT.into(),
        jail: Some(Jail::new(jailer)),
        pool: 1,
        ..Settings::new(folder.path(), program)
    });
    let backend = backend.unwrap();
    let base = world(&backend);
    base.value("import pandas as pd; data = pd.DataFrame({'x': range(10)})");
    let snapshot = base.snapshot(Some("pre-event")).unwrap();
    let branches = backend.branch(&snapshot.id, 2, &Spec::default()).unwrap();
    for (at, branch) in branches.iter().enumerate() {
        let sum = branch.value(&format!("data['x'] += {at}; int(data['x'].sum())"));
        assert_eq!(sum, (45 + 10 * at).to_string());
        assert_eq!(user_of(branch.id()), Some(JAILED));
    }
    assert_eq!(base.value("int(data['x'].sum())"), "45");
    drop((base, branches, backend));
    let left = fs::read_dir(folder.path().join("jails/firecracker")).unwrap();
    assert_eq!(left.count(), 0);
}

/// The user that a world's monitor runs as.
fn user_of(id: &str) -> Option<u32> {
    let mut all = fs::read_dir("/proc").unwrap().flatten();
    let monitor = all.find(|process| {
        let said = fs::read_to_string(process.path().join("cmdline"));
        said.is_ok_and(|said| said.contains(id))
    });
    Some(monitor?.metadata().ok()?.uid())
}

/// Runs this program in a machine whose processor can run machines, because QEMU translates one that can.
fn linux_under_firecracker_keeps_the_promises() {
    let Some((program, jailer)) = programs() else {
        return eprintln!("IGNORED: there is no Firecracker");
    };
    let outer = match Outer::begin(images()) {
        Ok(outer) => outer,
        Err(why) => return eprintln!("IGNORED: {why}"),
    };
    outer.bring(&program, "firecracker");
    if let Some(jailer) = jailer {
        outer.bring(&jailer, "jailer");
    }
    // A jail has devices, which this machine's own disk lets nobody open.
    outer.line(&format!("mkdir {JAILS}"));
    outer.mount("tmpfs", JAILS, "mode=755");
    outer.bring(&std::env::current_exe().unwrap(), "tests");
    let said = outer.line(&format!(
        "{INSIDE}=1 WORLDLINE_FIRECRACKER=./firecracker \
         timeout {} ./tests firecracker/ --test-threads=1 --nocapture",
        ALL.as_secs()
    ));
    let passed = format!("{} passed", LEAN.len());
    assert!(said.contains(&passed), "not {passed}: {said}");
}
