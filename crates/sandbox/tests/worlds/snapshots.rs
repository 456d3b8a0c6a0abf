//! Kept moments.

use std::time::{Duration, Instant};

use worldline_sandbox::{Backend, Cell, Sandbox, SnapshotError, Spec, StoreError};

use crate::{Play, Promise, open, quiet, world};

pub(crate) const PROMISES: &[Promise] = &[
    (
        "a_snapshot_holds_memory_disk_environment_and_open_files",
        a_snapshot_holds_memory_disk_environment_and_open_files,
    ),
    ("a_snapshot_never_changes", a_snapshot_never_changes),
    (
        "a_snapshot_survives_its_world_and_its_program",
        a_snapshot_survives_its_world_and_its_program,
    ),
    (
        "a_snapshot_travels_as_an_archive",
        a_snapshot_travels_as_an_archive,
    ),
    (
        "what_cannot_be_kept_is_refused_by_name",
        what_cannot_be_kept_is_refused_by_name,
    ),
    (
        "a_snapshot_in_mid_cell_goes_on_in_its_branch",
        a_snapshot_in_mid_cell_goes_on_in_its_branch,
    ),
    (
        "registers_survive_in_the_middle_of_a_computation",
        registers_survive_in_the_middle_of_a_computation,
    ),
    (
        "forgotten_snapshots_are_taken_back_once_nothing_needs_them",
        forgotten_snapshots_are_taken_back_once_nothing_needs_them,
    ),
];

fn a_snapshot_holds_memory_disk_environment_and_open_files(backend: &dyn Backend) {
    let world = world(backend);
    world.line("cd /tmp; export A=1; echo one > /tmp/f; rm /etc/hosts; mkdir -p /opt/d; ln -s /tmp/f /opt/d/l");
    world.value(
        "import os, signal, mmap, numpy as np\n\
         big = np.arange(4_000_000); text = open('/tmp/f'); text.read(2)\n\
         os.environ['B'] = '2'; os.chdir('/opt'); os.umask(0o27)\n\
         hits = []; signal.signal(signal.SIGUSR1, lambda *_: hits.append(1))\n\
         shared = mmap.mmap(-1, 4096); shared[:2] = b'hi'; r, w = os.pipe()\n\
         def deep(n): return n if n == 0 else deep(n - 1)\nsquares = (n * n for n in range(9)); next(squares)",
    );
    let snapshot = world.snapshot(Some("ü point")).unwrap();
    assert_eq!(
        (snapshot.name.as_deref(), snapshot.world.as_str()),
        (Some("ü point"), world.id())
    );
    world.value("big[:] = 0; text.close()");
    world.destroy();
    let branch = backend.restore(&snapshot.id, &Spec::default()).unwrap();
    assert_eq!(branch.origin(), Some(snapshot.id.as_str()));
    assert_eq!(
        branch.value("int(big.sum()), text.read(), os.environ['B'], os.getcwd()"),
        "(7999998000000, 'e\\n', '2', '/opt')"
    );
    assert_eq!(
        branch
            .value("os.kill(os.getpid(), signal.SIGUSR1); hits, bytes(shared[:2]), next(squares)"),
        "([1], b'hi', 1)"
    );
    assert_eq!(
        branch.value("os.write(w, b'x'), os.read(r, 9), deep(500), oct(os.umask(0))"),
        "(1, b'x', 0, '0o27')"
    );
    assert_eq!(
        branch.line("pwd; echo $A; cat /opt/d/l; test -e /etc/hosts || echo gone"),
        (0, "/tmp\n1\none\ngone\n".into())
    );
}

fn a_snapshot_never_changes(backend: &dyn Backend) {
    let world = world(backend);
    world.value("x = [0] * 100_000; open('/tmp/f', 'w').write('a')");
    let snapshot = world.snapshot(None).unwrap();
    let durable = backend.persist(&snapshot.id).unwrap();
    assert!(durable.durable && durable.digest.starts_with("sha256:"));
    for round in 0..3 {
        let branch = backend.restore(&snapshot.id, &Spec::default()).unwrap();
        assert_eq!(
            branch.value("sum(x), open('/tmp/f').read()"),
            "(0, 'a')",
            "round {round}"
        );
        branch.value("x[:] = [1] * 100_000; open('/tmp/f', 'a').write('b')");
    }
    assert_eq!(world.value("sum(x), open('/tmp/f').read()"), "(0, 'a')");
    let mut archive = Vec::new();
    backend.export(&snapshot.id, &mut archive).unwrap();
    assert_eq!(
        backend.snapshot(&snapshot.id).unwrap().digest,
        durable.digest
    );
}

fn a_snapshot_survives_its_world_and_its_program(_: &dyn Backend) {
    let folder = tempfile::tempdir().unwrap();
    let id = {
        let process = open(folder.path().into()).unwrap();
        let one = world(&process);
        one.value("import pandas as pd; data = pd.DataFrame({'a': range(1000)})");
        one.write("/srv/f", 0o600, b"kept").unwrap();
        let first = one.snapshot(Some("base")).unwrap();
        let two = process.restore(&first.id, &Spec::default()).unwrap();
        two.value("data['b'] = 2");
        assert!(matches!(open(folder.path().into()), Err(text) if text.contains("in use")));
        two.snapshot(Some("second")).unwrap().id
    };
    let process = open(folder.path().into()).unwrap();
    assert_eq!(process.reaped().worlds, 0);
    let mut names: Vec<_> = process
        .snapshots()
        .into_iter()
        .map(|one| (one.name.unwrap(), one.durable))
        .collect();
    names.sort();
    assert_eq!(
        names,
        [("base".to_owned(), true), ("second".to_owned(), true)]
    );
    let world = process.restore(&id, &Spec::default()).unwrap();
    assert_eq!(
        world.value("int(data.sum().sum()), open('/srv/f').read()"),
        "(501500, 'kept')"
    );
}

fn a_snapshot_travels_as_an_archive(backend: &dyn Backend) {
    let world = world(backend);
    world.value("secret = 'abc' * 1000; open('/srv/f', 'w').write('disk')");
    let first = world.snapshot(None).unwrap();
    let branch = backend.restore(&first.id, &Spec::default()).unwrap();
    branch.value("more = 1");
    branch.line("rm /etc/hosts; rm -r /etc/fonts; mkdir /etc/fonts; echo x > /etc/fonts/mine");
    let second = branch.snapshot(None).unwrap();
    let mut archive = Vec::new();
    backend.export(&second.id, &mut archive).unwrap();

    let folder = tempfile::tempdir().unwrap();
    let elsewhere = open(folder.path().into()).unwrap();
    let mut changed = archive.clone();
    let at = changed.windows(6).position(|six| six == b"abcabc").unwrap();
    changed[at] ^= 1;
    assert!(matches!(
        elsewhere.import(&mut &changed[..]),
        Err(StoreError::Archive(_))
    ));
    assert!(elsewhere.import(&mut &b"junk"[..]).is_err());
    // The templates of both are the same, since the image is.
    let imported = elsewhere.import(&mut &archive[..]).unwrap();
    assert_eq!(imported.id, second.id);
    let there = elsewhere.restore(&second.id, &Spec::default()).unwrap();
    assert_eq!(
        there.value("len(secret), more, open('/srv/f').read()"),
        "(3000, 1, 'disk')"
    );
    assert_eq!(there.line("ls /etc/hosts").0, 2);
    assert_eq!(there.line("ls /etc/fonts").1, "mine\n");
}

fn what_cannot_be_kept_is_refused_by_name(backend: &dyn Backend) {
    let world = world(backend);
    let refused = |what: &str| match world.snapshot(None) {
        Err(SnapshotError::Refused(why)) => assert!(why.contains(what), "{why}"),
        other => panic!("{what}: {other:?}"),
    };
    world.value("import threading, time, os; go = threading.Event(); t = threading.Thread(target=go.wait); t.start()");
    assert!(matches!(
        world.snapshot(None),
        Err(SnapshotError::Threads(2))
    ));
    world.value("go.set(); t.join()");
    world.line("sleep 60 &");
    assert!(matches!(
        world.snapshot(None),
        Err(SnapshotError::Processes(names)) if names == ["sleep"]
    ));
    world.line("pkill sleep; while pgrep -x sleep; do :; done");
    world.value("r, w = os.pipe(); os.write(w, b'x')");
    refused("bytes that nobody has read");
    world.value("os.read(r, 1); f = open('/tmp/gone', 'w'); os.unlink('/tmp/gone')");
    refused("/tmp/gone");
    world.value("f.close()");
    assert!(matches!(world.snapshot(Some("")), Err(SnapshotError::Name)));
    assert!(matches!(
        world.snapshot(Some(&"x".repeat(1000))),
        Err(SnapshotError::Name)
    ));
    world.snapshot(None).unwrap();
    assert_eq!(world.value("1"), "1");
}

/// Waits until a cell has come to where it says so; a busy machine takes its time.
fn until_begun(world: &dyn Sandbox) {
    let asked = Instant::now();
    while world.read("/tmp/begun").is_err() {
        assert!(asked.elapsed() < Duration::from_secs(60), "the cell begins");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn a_snapshot_in_mid_cell_goes_on_in_its_branch(backend: &dyn Backend) {
    let world = world(backend);
    let runner = world.clone();
    let code = "import time\nn = 0\nopen('/tmp/begun', 'w').close()\nbegun = time.time()\n\
                while time.time() - begun < 1.5: n += 1\nopen('/tmp/done', 'w').write('yes'); n > 0";
    let cell = std::thread::spawn(move || runner.value(code));
    until_begun(&*world);
    let snapshot = world.snapshot(None).unwrap();
    let branch = backend.restore(&snapshot.id, &Spec::default()).unwrap();
    assert_eq!(cell.join().unwrap(), "True");
    // The branch finishes the cell before it takes the next.
    assert_eq!(
        branch.value("n > 0, open('/tmp/done').read()"),
        "(True, 'yes')"
    );
}

fn registers_survive_in_the_middle_of_a_computation(backend: &dyn Backend) {
    let world = world(backend);
    let code = "import numpy as np\na = np.arange(1, 2_000_001, dtype=np.float64)\nexpected = float(np.sqrt(a).sum())\n\
                same = True\nimport time\nopen('/tmp/begun', 'w').close()\nbegun = time.time()\nwhile time.time() - begun < 2: same &= float(np.sqrt(a).sum()) == expected\n";
    let runner = world.clone();
    let cell = std::thread::spawn(move || runner.value(code));
    until_begun(&*world);
    let mut branches = Vec::new();
    for _ in 0..4 {
        let snapshot = world.snapshot(None).unwrap();
        branches.push(backend.restore(&snapshot.id, &Spec::default()).unwrap());
    }
    cell.join().unwrap();
    assert_eq!(world.value("same"), "True");
    for branch in branches {
        assert_eq!(branch.value("same"), "True");
    }
}

fn forgotten_snapshots_are_taken_back_once_nothing_needs_them(_: &dyn Backend) {
    let folder = tempfile::tempdir().unwrap();
    let process = open(folder.path().into()).unwrap();
    let base = world(&process);
    base.value("x = bytearray(b'x') * 5_000_000");
    let first = process.persist(&base.snapshot(None).unwrap().id).unwrap();
    let branch = process.restore(&first.id, &Spec::default()).unwrap();
    let second = branch.snapshot(None).unwrap();
    process.remove_snapshot(&first.id).unwrap();
    assert!(process.restore(&first.id, &Spec::default()).is_err());
    assert!(matches!(
        process.remove_snapshot(&first.id),
        Err(StoreError::NoSnapshot(_))
    ));
    assert_eq!(process.collect().unwrap(), 0);
    let heir = process.restore(&second.id, &Spec::default()).unwrap();
    assert_eq!(heir.value("len(x)"), "5000000");
    process.remove_snapshot(&second.id).unwrap();
    for world in [&branch, &heir, &base] {
        world.run(&Cell::new("0"), &mut quiet).unwrap();
        world.destroy();
    }
    drop((branch, heir, base));
    assert!(process.collect().unwrap() > 5_000_000);
    assert!(process.snapshots().is_empty());
}
