//! What machines do, and keep, and do not share.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use worldline_sandbox::{
    Backend, Cell, CreateError, ExecError, Process, Report, Settings as ProcessSettings, Several,
    Spec,
};

use crate::{Needs, Promise, Talk, folder, machine, open, small};

pub(crate) const PROMISES: &[Promise] = &[
    ("a_machine_answers", Needs::Nothing, a_machine_answers),
    (
        "sixteen_branches_go_their_own_way",
        Needs::Nothing,
        sixteen_branches_go_their_own_way,
    ),
    (
        "each_branch_has_its_own_randomness",
        Needs::Nothing,
        each_branch_has_its_own_randomness,
    ),
    (
        "a_seeded_machine_branches_the_same_way_again",
        Needs::Nothing,
        a_seeded_machine_branches_the_same_way_again,
    ),
    (
        "the_clock_of_a_branch_is_right",
        Needs::Nothing,
        the_clock_of_a_branch_is_right,
    ),
    ("a_lineage_is_flat", Needs::Nothing, a_lineage_is_flat),
    (
        "snapshots_survive_a_restart_and_a_journey",
        Needs::Nothing,
        snapshots_survive_a_restart_and_a_journey,
    ),
    (
        "what_the_guest_lacks_is_refused_by_name",
        Needs::Nothing,
        what_the_guest_lacks_is_refused_by_name,
    ),
    (
        "several_backends_share_one_set_of_verbs",
        Needs::Nothing,
        several_backends_share_one_set_of_verbs,
    ),
    (
        "a_paused_machine_stands_still",
        Needs::Nothing,
        a_paused_machine_stands_still,
    ),
];

fn a_machine_answers() {
    let folder = folder();
    let backend = open(folder.path());
    let machine = machine(&backend);
    assert_eq!(machine.say("echo  one two "), "one two");
    assert_eq!(
        (machine.say("count"), machine.say("count")),
        ("1".into(), "2".into())
    );
    machine.say("poke 0x10 18446744073709551615");
    assert_eq!(machine.say("peek 16"), "18446744073709551615");
    assert_eq!(machine.hear("nonsense").unwrap().0, 127);
    assert_eq!(machine.hear("poke x").unwrap().0, 2);
    assert!(machine.say("help").contains("turn the machine off"));
    assert!(matches!(machine.hear(" "), Err(ExecError::NoCommand)));
    assert!(machine.hear(&"x".repeat(5000)).is_err());
    let stats = machine.stats();
    assert!(stats.private_bytes > 0, "{stats:?}");
    assert_eq!(machine.say("count"), "3");
}

fn sixteen_branches_go_their_own_way() {
    let folder = folder();
    let backend = open(folder.path());
    let base = machine(&backend);
    base.say("poke 7 100");
    base.say("touch 64");
    let snapshot = base.snapshot(Some("before")).unwrap();
    let branches = backend.branch(&snapshot.id, 16, &small()).unwrap();
    std::thread::scope(|scope| {
        for (at, branch) in branches.iter().enumerate() {
            scope.spawn(move || {
                assert_eq!(branch.say("peek 7"), "100");
                branch.say(&format!("poke 7 {at}"));
                for _ in 0..at {
                    branch.say("count");
                }
            });
        }
    });
    for (at, branch) in branches.iter().enumerate() {
        assert_eq!(branch.origin(), Some(snapshot.id.as_str()));
        assert_eq!(branch.say("peek 7"), at.to_string());
        assert_eq!(branch.say("count"), (at + 1).to_string());
    }
    assert_eq!(
        (base.say("peek 7"), base.say("count")),
        ("100".into(), "1".into())
    );
}

fn each_branch_has_its_own_randomness() {
    let folder = folder();
    let backend = open(folder.path());
    let base = machine(&backend);
    let snapshot = base.snapshot(None).unwrap();
    let branches = backend.branch(&snapshot.id, 3, &small()).unwrap();
    let mut drawn: BTreeSet<String> = branches.iter().map(|branch| branch.say("random")).collect();
    drawn.insert(base.say("random"));
    assert_eq!(drawn.len(), 4);
}

fn a_seeded_machine_branches_the_same_way_again() {
    let run = || {
        let folder = folder();
        let backend = open(folder.path());
        let seeded = Spec {
            seed: Some(1069),
            ..small()
        };
        let base = backend.create(&seeded).unwrap();
        let first = base.say("random");
        let snapshot = base.snapshot(None).unwrap();
        let branches: Vec<_> = (0..2)
            .map(|_| {
                backend
                    .restore(&snapshot.id, &small())
                    .unwrap()
                    .say("random")
            })
            .collect();
        (first, branches)
    };
    let (one, two) = (run(), run());
    assert_eq!(one, two);
    assert_ne!(one.1[0], one.1[1]);
}

fn the_clock_of_a_branch_is_right() {
    let folder = folder();
    let backend = open(folder.path());
    let base = machine(&backend);
    let taken: u64 = base.say("time").parse().unwrap();
    let snapshot = base.snapshot(None).unwrap();
    std::thread::sleep(Duration::from_millis(1200));
    let before = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_millis() as u64;
    let branch = backend.restore(&snapshot.id, &small()).unwrap();
    let inside: u64 = branch.say("time").parse().unwrap();
    assert!(
        inside >= before && inside > taken + 1000,
        "{inside}, {before}, {taken}"
    );
}

fn a_lineage_is_flat() {
    let folder = folder();
    let backend = open(folder.path());
    let mut world = machine(&backend);
    let mut last = None;
    for generation in 0..6 {
        world.say(&format!("poke {} {generation}", generation * 512));
        let snapshot = world.snapshot(None).unwrap();
        assert_eq!(snapshot.parent, last);
        // Nothing is built on an ancestor, so it can go while its descendants live.
        if let Some(last) = last {
            backend.remove_snapshot(&last).unwrap();
        }
        world = backend.restore(&snapshot.id, &small()).unwrap();
        last = Some(snapshot.id);
    }
    for generation in 0..6 {
        assert_eq!(
            world.say(&format!("peek {}", generation * 512)),
            generation.to_string()
        );
    }
    assert_eq!(backend.snapshots().len(), 1);
}

fn snapshots_survive_a_restart_and_a_journey() {
    let (folder, elsewhere) = (folder(), crate::folder());
    let mut archive = Vec::new();
    let id = {
        let backend = open(folder.path());
        let base = machine(&backend);
        base.say("poke 1 42");
        let snapshot = base.snapshot(Some("kept")).unwrap();
        assert!(snapshot.digest.starts_with("sha256:"));
        assert!(backend.persist(&snapshot.id).unwrap().durable);
        backend.export(&snapshot.id, &mut archive).unwrap();
        snapshot.id
    };
    let backend = open(folder.path());
    assert_eq!(backend.snapshots()[0].name.as_deref(), Some("kept"));
    assert_eq!(backend.restore(&id, &small()).unwrap().say("peek 1"), "42");
    let other = open(elsewhere.path());
    assert_eq!(other.import(&mut archive.as_slice()).unwrap().id, id);
    assert_eq!(other.restore(&id, &small()).unwrap().say("peek 1"), "42");
    // A changed archive is no snapshot.
    let at = archive
        .windows(5)
        .rposition(|bytes| bytes == b"count")
        .unwrap();
    archive[at] ^= 1;
    let third = crate::folder();
    assert!(open(third.path()).import(&mut archive.as_slice()).is_err());
}

fn what_the_guest_lacks_is_refused_by_name() {
    let folder = folder();
    let backend = open(folder.path());
    let machine = machine(&backend);
    let python = machine.run(&Cell::new("1"), &mut |_, _| ()).unwrap_err();
    assert!(python.to_string().contains("Python"), "{python}");
    assert!(
        machine
            .read("/etc/passwd")
            .unwrap_err()
            .to_string()
            .contains("files")
    );
    assert!(machine.sftp().is_err() && machine.connect(80).is_err());
    assert!(machine.resize_disk(32).is_err());
    let with = |spec: Spec| backend.create(&spec).map(drop).unwrap_err();
    let image = with(Spec {
        image: Some("debian".into()),
        ..small()
    });
    assert!(matches!(image, CreateError::Lacks(_)), "{image}");
    let network = with(Spec {
        network: Some(vec!["example.org".into()]),
        ..small()
    });
    assert!(matches!(network, CreateError::Lacks(_)), "{network}");
    let snapshot = machine.snapshot(None).unwrap();
    let reaching = Spec {
        network: Some(vec!["example.org".into()]),
        ..small()
    };
    assert!(matches!(
        backend.restore(&snapshot.id, &reaching),
        Err(CreateError::Lacks(_))
    ));
    for spec in [
        Spec {
            memory_mib: 1,
            ..small()
        },
        Spec {
            vcpus: 33,
            ..small()
        },
        Spec {
            disk_mib: 0,
            ..small()
        },
    ] {
        assert!(matches!(with(spec), CreateError::Size { .. }));
    }
    assert!(matches!(
        backend.restore("../x", &small()),
        Err(CreateError::NoSnapshot(_))
    ));
    assert_eq!(machine.say("count"), "1");
}

fn several_backends_share_one_set_of_verbs() {
    let (here, there) = (folder(), crate::folder());
    let process = Process::open(ProcessSettings {
        pool: 0,
        ..ProcessSettings::new(there.path())
    });
    let process = Arc::new(process.unwrap());
    let missing = Report::closed("qemu", "nobody installed it".into());
    let all = Several::new(process, vec![Arc::new(open(here.path()))]).lacking(vec![missing]);
    let told: Vec<_> = all.reports().iter().map(|one| one.backend).collect();
    assert_eq!(told, ["process", "firecracker", "qemu"]);
    for named in ["firecracker:metal", "firecracker:"] {
        assert_eq!(all.image(Some(named)).unwrap(), "firecracker:metal");
    }
    // There is no image for processes in this folder, and no other for machines.
    for named in [
        None,
        Some("metal"),
        Some("firecracker:debian"),
        Some("nobody:metal"),
    ] {
        assert!(all.image(named).is_err(), "{named:?}");
    }
    let spec = Spec {
        image: Some("firecracker:metal".into()),
        ..small()
    };
    let base = all.create(&spec).unwrap();
    base.say("poke 1 5");
    let snapshot = base.snapshot(None).unwrap();
    assert_eq!(
        all.branch(&snapshot.id, 2, &spec).unwrap()[1].say("peek 1"),
        "5"
    );
    let mut archive = Vec::new();
    all.export(&snapshot.id, &mut archive).unwrap();
    all.remove_snapshot(&snapshot.id).unwrap();
    assert!(all.restore(&snapshot.id, &spec).is_err() && all.snapshots().is_empty());
    all.import(&mut archive.as_slice()).unwrap();
    assert_eq!(all.restore(&snapshot.id, &spec).unwrap().say("peek 1"), "5");
}

fn a_paused_machine_stands_still() {
    let folder = folder();
    let backend = open(folder.path());
    let base = machine(&backend);
    base.say("count");
    base.pause().unwrap();
    assert!(matches!(base.hear("count"), Err(ExecError::Paused(_))));
    let snapshot = base.snapshot(None).unwrap();
    let branch = backend.restore(&snapshot.id, &small()).unwrap();
    assert_eq!(branch.say("count"), "2");
    assert!(matches!(base.hear("count"), Err(ExecError::Paused(_))));
    base.resume().unwrap();
    assert_eq!(base.say("count"), "2");
    let again = base.reboot(&small()).unwrap();
    assert_eq!(again.say("count"), "1");
    assert!(matches!(base.hear("count"), Err(ExecError::Gone(_))));
}
