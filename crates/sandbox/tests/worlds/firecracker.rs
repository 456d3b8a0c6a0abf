//! The same promises of virtual machines under Firecracker. Where the host's processor runs no Linux in a
//! machine, the slow tests run them in a machine under QEMU, which translates a processor that does.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use libtest_mimic::{Arguments, Trial};
use worldline_sandbox::firecracker::{Firecracker, Settings, programs};
use worldline_sandbox::image::DEFAULT;
use worldline_sandbox::{Backend, Command, CreateError, Qemu, Sandbox, Spec};

use crate::{Play, Promise, images, machines, world};

/// Set where this program runs in a machine under QEMU.
const INSIDE: &str = "WORLDLINE_INSIDE";
/// How long Linux may take to begin there: its processor is translated twice.
const TWICE_TRANSLATED: Duration = Duration::from_secs(300);
/// How long the promises that are tested there may take.
const ALL: Duration = Duration::from_secs(1800);
/// Where its files are there.
const PLACE: &str = "/srv/inside";

/// Promises that are tested where a processor is translated.
const LEAN: [&str; 10] = [
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
];

/// What is tested of machines under either monitor.
const SHARED: [&str; 5] = [
    "three_branches_work_side_by_side",
    "a_killed_monitor_ends_its_machine_alone",
    "a_guest_that_panics_says_why",
    "connections_into_a_machine_are_closed_in_its_branch_and_said",
    "files_fill_a_machine_s_own_disk",
];

/// What is tested of these machines alone.
const PROMISES: [Promise; 2] = [
    (
        "a_kept_machine_travels_and_goes_on_beside_its_branches",
        a_kept_machine_travels_and_goes_on_beside_its_branches,
    ),
    (
        "a_machine_that_is_kept_while_it_is_paused_goes_on",
        a_machine_that_is_kept_while_it_is_paused_goes_on,
    ),
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
        .filter(|(name, _)| !machines::WAY_OUT.contains(name))
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
            crate::trial(&format!("firecracker/{name}"), !runs, move || {
                if runs {
                    alone(promise);
                }
            })
        })
        .collect();
    if !inside {
        trials.push(crate::trial(
            "inside/linux_under_firecracker_keeps_the_promises",
            true,
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

/// Runs this program in a machine whose processor can run machines, because QEMU translates one that can.
fn linux_under_firecracker_keeps_the_promises() {
    const SIZES: Spec = Spec {
        image: None,
        memory_mib: 4096,
        vcpus: 1,
        disk_mib: 2048,
        seed: None,
        network: None,
    };
    let Some((program, _)) = programs() else {
        return eprintln!("IGNORED: there is no Firecracker");
    };
    let folder = tempfile::tempdir().unwrap();
    let settings = machines::settings(folder.path().into());
    let qemu = Qemu::open_as(&settings, "max").unwrap();
    let report = qemu.report().capabilities;
    if report
        .iter()
        .any(|one| one.name == "processor" && one.present)
    {
        return eprintln!("IGNORED: this host's own processor runs machines, and tests these");
    }
    let outer = qemu.boot(&SIZES).unwrap();
    furnish(&*outer, &qemu, program);
    let tests = Command {
        argv: [
            "/srv/inside/tests",
            "firecracker/",
            "--test-threads=1",
            "--nocapture",
        ]
        .map(str::to_owned)
        .to_vec(),
        environment: [
            (INSIDE, "1"),
            ("WORLDLINE_FIRECRACKER", "/srv/inside/firecracker"),
            ("XDG_CACHE_HOME", "/srv/inside/cache"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec(),
        timeout: Some(ALL),
        ..Command::default()
    };
    let mut said = String::new();
    let code = outer.exec(&tests, &mut |_, bytes| {
        let text = String::from_utf8_lossy(bytes);
        eprint!("{text}");
        said.push_str(&text);
    });
    assert_eq!(code.unwrap(), 0, "{said}");
    let passed = format!("{} passed", LEAN.len());
    assert!(said.contains(&passed), "not {passed}: {said}");
}

/// Brings what the tests need into a machine, and has it run machines. The image is its own disk.
fn furnish(outer: &dyn Sandbox, qemu: &Qemu, program: PathBuf) {
    let image = qemu.images().find(DEFAULT).unwrap();
    let made = qemu.images().machine(&image).unwrap();
    let bring = |from: PathBuf, to: &str| {
        let bytes = std::fs::read(&from).unwrap();
        let mode = std::fs::metadata(&from).unwrap().permissions().mode();
        outer.write(&format!("{PLACE}/{to}"), mode, &bytes).unwrap();
    };
    let folder = |of: &std::path::Path| {
        let name = of.file_name().unwrap().to_string_lossy().into_owned();
        format!("cache/worldline/images/{name}")
    };
    let kernel = folder(made.kernel.parent().unwrap());
    let disk = made.disk.parent().unwrap();
    let there = folder(disk);
    outer.line(&format!(
        "mkdir -p {PLACE}/kvm {PLACE}/{kernel}/pci {PLACE}/{kernel}/mmio {PLACE}/{kernel}/kvm {PLACE}/{there}/root && \
         ln -s /dev/vda {PLACE}/{there}/{}",
        made.disk.file_name().unwrap().to_string_lossy()
    ));
    bring(disk.join("image.json"), &format!("{there}/image.json"));
    bring(made.kernel.clone(), &format!("{kernel}/vmlinux"));
    for module in made.mmio {
        let name = module.file_name().unwrap().to_string_lossy().into_owned();
        bring(module, &format!("{kernel}/mmio/{name}"));
    }
    for module in made.kvm {
        let name = module.file_name().unwrap().to_string_lossy().into_owned();
        bring(module, &format!("kvm/{name}"));
    }
    bring(program, "firecracker");
    bring(std::env::current_exe().unwrap(), "tests");
    outer.value(
        "import ctypes, glob, os\n\
         for name in sorted(glob.glob('/srv/inside/kvm/*')):\n    \
             ctypes.CDLL(None).syscall(313, os.open(name, os.O_RDONLY), b'', 0)",
    );
    assert_eq!(
        outer.line("ls /dev/kvm").1,
        "/dev/kvm\n",
        "{:?}",
        outer.line("dmesg | tail")
    );
}
