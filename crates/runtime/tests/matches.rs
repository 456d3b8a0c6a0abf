//! The registry over learned worlds, which any host has: every operation, its rows, its equations.

use std::path::Path;
use std::sync::Arc;

use worldline_arena::{Arena, Shelf, World};
use worldline_cartridge::testing::{Size, cartridge};
use worldline_runtime::{
    Blame, Branching, Config, Instance, Kind, Metadata, NewInstance, NewSnapshot, Note, Recovery,
    Runtime, Snapshot, Status, StoreError, TtlAction, Value, Verification, WorldError,
};
use worldline_sandbox::{Command, Stream};

fn open(folder: &Path) -> (Runtime, Recovery) {
    try_open(folder).unwrap()
}

fn try_open(folder: &Path) -> Result<(Runtime, Recovery), StoreError> {
    let shelf = Shelf::new(vec![World::new(
        "micro",
        cartridge(Size::Micro, 7),
        serde_json::Value::Null,
    )]);
    let config = worldline_arena::Config {
        data: folder.join("arena"),
        ..Default::default()
    };
    let (arena, _) = Arena::open(shelf, config).unwrap();
    let config = Config {
        data: folder.join("worlds"),
        code: Err("none in this test".into()),
        arena: Some(Arc::new(arena)),
    };
    Runtime::open(config)
}

fn image(worlds: &Runtime) -> Snapshot {
    worlds
        .create_snapshot(&NewSnapshot {
            image: Some("micro".into()),
            ..NewSnapshot::default()
        })
        .unwrap()
}

/// A registry, and a world in it that has not been stepped.
fn begun() -> (tempfile::TempDir, Runtime, Instance) {
    let folder = tempfile::tempdir().unwrap();
    let (worlds, _) = open(folder.path());
    let base = worlds
        .start(&image(&worlds).id, &NewInstance::default())
        .unwrap();
    (folder, worlds, base)
}

/// That many branches with labels of the registry's own choice.
fn branched(worlds: &Runtime, id: &str, count: usize) -> (Snapshot, Vec<Instance>) {
    let branching = Branching {
        count,
        ..Branching::default()
    };
    worlds.branch(id, &branching).unwrap()
}

fn run(worlds: &Runtime, id: &str, line: &str) -> (i32, String) {
    let mut said = Vec::new();
    let code = worlds
        .exec(id, &Command::line(line), &mut |_: Stream, bytes: &[u8]| {
            said.extend_from_slice(bytes)
        })
        .unwrap();
    (code, String::from_utf8(said).unwrap())
}

fn chain(worlds: &Runtime, id: &str) -> String {
    let state: serde_json::Value = serde_json::from_str(&run(worlds, id, "state").1).unwrap();
    state["chain"].as_str().unwrap().into()
}

fn words(pairs: &[(&str, &str)]) -> Metadata {
    pairs
        .iter()
        .map(|(key, value)| ((*key).into(), (*value).into()))
        .collect()
}

fn with(metadata: Metadata) -> NewInstance {
    NewInstance {
        metadata,
        ..NewInstance::default()
    }
}

fn cell(worlds: &Runtime, sql: &str) -> Value {
    worlds.sql(sql).unwrap().rows[0][0].clone()
}

fn sound(worlds: &Runtime) {
    for checked in worlds.check(None).unwrap() {
        assert_eq!(
            checked.broken,
            Vec::<String>::new(),
            "{}: {}",
            checked.name,
            checked.says
        );
    }
}

#[test]
fn branches_go_their_own_way_and_the_parent_does_not_notice() {
    let (_folder, worlds, base) = begun();
    assert_eq!(run(&worlds, &base.id, "step 30").0, 0);
    let before = chain(&worlds, &base.id);
    let (snapshot, verses) = branched(&worlds, &base.id, 3);
    assert_eq!(
        verses.iter().map(|verse| verse.trit).collect::<Vec<_>>(),
        [-1, 0, 1]
    );
    assert!(
        verses
            .iter()
            .all(|verse| verse.snapshot.as_deref() == Some(&snapshot.id)
                && verse.parent.as_deref() == Some(&base.id))
    );
    for (verse, frames) in verses.iter().zip([1, 2, 3]) {
        assert_eq!(chain(&worlds, &verse.id), before);
        run(&worlds, &verse.id, &format!("step {frames}"));
    }
    let ends: std::collections::BTreeSet<_> = verses
        .iter()
        .map(|verse| chain(&worlds, &verse.id))
        .collect();
    assert_eq!((ends.len(), chain(&worlds, &base.id)), (3, before.clone()));
    let again = worlds.start(&snapshot.id, &NewInstance::default()).unwrap();
    assert_eq!(
        chain(&worlds, &again.id),
        before,
        "a snapshot never changes"
    );
    sound(&worlds);
}

#[test]
fn every_operation_writes_its_entity_branch_and_metric_rows() {
    let (_folder, worlds, base) = begun();
    worlds.snapshot(&base.id, &Note::default()).unwrap();
    let (_, children) = branched(&worlds, &base.id, 5);
    worlds.stop(&children[0].id).unwrap();
    let count = |sql: &str| cell(&worlds, sql).int().unwrap();
    // An image, a base, two snapshots, five branches.
    assert_eq!(count("SELECT count(*) FROM world_runtime_entities"), 9);
    assert_eq!(
        count("SELECT count(*) FROM world_branches WHERE branch_type = 'fork'"),
        2
    );
    assert_eq!(
        count("SELECT count(*) FROM world_branches WHERE branch_type = 'snapshot'"),
        1
    );
    assert_eq!(count("SELECT count(*) FROM runtime_metrics"), 9);
    assert_eq!(
        count("SELECT count(*) FROM runtime_metrics WHERE branch_time_ms > 0"),
        5
    );
    assert_eq!(
        count(
            "SELECT count(*) FROM world_runtime_entities WHERE state = 'collapsed' AND resolved_at IS NOT NULL"
        ),
        1
    );
    assert_eq!(
        count("SELECT count(*) FROM world_branches WHERE gf3_sum <> 0"),
        0
    );
    sound(&worlds);
}

#[test]
fn starts_with_trits_are_one_branching_that_closes_when_it_balances() {
    let (_folder, worlds, base) = begun();
    let snapshot = worlds.snapshot(&base.id, &Note::default()).unwrap();
    let open = "SELECT count(*) FROM world_branches WHERE is_open";
    for (verse, trit, still_open) in [("nash", "-1", 1), ("optimal", "0", 1), ("chaos", "1", 0)] {
        worlds
            .start(
                &snapshot.id,
                &with(words(&[("verse", verse), ("trit", trit)])),
            )
            .unwrap();
        assert_eq!(cell(&worlds, open), Value::Int(still_open), "{verse}");
        sound(&worlds);
    }
    let children = "SELECT len(child_entity_ids)::INT FROM world_branches WHERE snapshot_id = '{}' AND branch_type = 'fork'";
    assert_eq!(
        cell(&worlds, &children.replace("{}", &snapshot.id)),
        Value::Int(3)
    );
}

#[test]
fn a_branching_that_does_not_balance_is_refused_and_leaves_nothing() {
    let (_folder, worlds, base) = begun();
    let before = cell(&worlds, "SELECT count(*) FROM world_runtime_entities");
    for trits in [vec![-1, 0, 0], vec![0, 0], vec![2, 0, 1]] {
        let asked = Branching {
            count: 3,
            trits: Some(trits),
            ..Branching::default()
        };
        assert!(matches!(
            worlds.branch(&base.id, &asked),
            Err(WorldError::Unbalanced(_))
        ));
    }
    for count in [0, 257] {
        assert!(matches!(
            worlds.branch(
                &base.id,
                &Branching {
                    count,
                    ..Branching::default()
                }
            ),
            Err(WorldError::Count(_))
        ));
    }
    assert!(matches!(
        worlds.start(&base.snapshot.unwrap(), &with(words(&[("trit", "2")]))),
        Err(WorldError::Trit(_))
    ));
    assert_eq!(
        cell(&worlds, "SELECT count(*) FROM world_runtime_entities"),
        before
    );
}

#[test]
fn the_same_digest_is_the_same_snapshot() {
    let (_folder, worlds, base) = begun();
    let note = Note {
        digest: Some("pre-event".into()),
        ..Note::default()
    };
    let first = worlds.snapshot(&base.id, &note).unwrap();
    run(&worlds, &base.id, "step 5");
    assert_eq!(worlds.snapshot(&base.id, &note).unwrap().id, first.id);
    assert_eq!(
        worlds.snapshots(&Metadata::new(), Some("pre-event")).len(),
        1
    );
    assert!(worlds.snapshots(&Metadata::new(), Some("other")).is_empty());
}

#[test]
fn a_time_to_live_stops_or_pauses_and_resuming_moves_it() {
    let folder = tempfile::tempdir().unwrap();
    let (worlds, _) = open(folder.path());
    let image = image(&worlds);
    let new = |action| NewInstance {
        ttl_seconds: Some(1),
        ttl_action: Some(action),
        ..NewInstance::default()
    };
    let stops = worlds.start(&image.id, &new(TtlAction::Stop)).unwrap();
    let pauses = worlds.start(&image.id, &new(TtlAction::Pause)).unwrap();
    let until = |over: &dyn Fn() -> bool| {
        let started = std::time::Instant::now();
        while !over() {
            assert!(started.elapsed().as_secs() < 30, "its time was never over");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    };
    until(&|| worlds.instance(&stops.id).is_err());
    until(&|| {
        worlds
            .instance(&pauses.id)
            .is_ok_and(|record| record.status == Status::Paused)
    });
    worlds.set_ttl(&pauses.id, Some(1000), None).unwrap();
    worlds.resume(&pauses.id).unwrap();
    let record = worlds.instance(&pauses.id).unwrap();
    assert!(
        record.status == Status::Ready && record.ttl.expires_at > pauses.ttl.expires_at,
        "{record:?}"
    );
    sound(&worlds);
}

#[test]
fn a_restart_ends_worlds_and_matches_snapshots_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let (worlds, recovery) = open(folder.path());
    assert_eq!(recovery, Recovery::default());
    let image = image(&worlds);
    let base = worlds.start(&image.id, &NewInstance::default()).unwrap();
    worlds.finish("never-begun", Some("x")).unwrap();
    assert_eq!(worlds.begin("k", "body").unwrap(), None);
    assert!(matches!(
        worlds.begin("k", "body"),
        Err(WorldError::KeyBusy)
    ));
    worlds.finish("k", Some("answer")).unwrap();
    drop(worlds);
    // The thread that watches times to live may hold the registry for one more turn.
    std::thread::sleep(2 * worldline_runtime::limits::TTL_WATCH);
    let (worlds, recovery) = open(folder.path());
    assert_eq!(
        (recovery.ended, recovery.lost),
        (vec![base.id.clone()], vec![image.id])
    );
    assert_eq!(worlds.entry_is_gone(&base.id), Blame::Missing);
    assert_eq!(
        worlds.begin("k", "body").unwrap().as_deref(),
        Some("answer")
    );
    assert!(matches!(
        worlds.begin("k", "other"),
        Err(WorldError::KeyReused)
    ));
    sound(&worlds);
}

trait Gone {
    fn entry_is_gone(&self, id: &str) -> Blame;
}

impl Gone for Runtime {
    fn entry_is_gone(&self, id: &str) -> Blame {
        self.instance(id).unwrap_err().blame()
    }
}

#[test]
fn distances_are_a_metric_and_the_way_leads_through_the_common_ancestor() {
    let folder = tempfile::tempdir().unwrap();
    let (worlds, _) = open(folder.path());
    let base = worlds
        .start(&image(&worlds).id, &with(words(&[("a", "1")])))
        .unwrap();
    let (snapshot, one) = branched(&worlds, &base.id, 3);
    let (_, two) = worlds
        .branch(
            &one[0].id,
            &Branching {
                count: 2,
                children: with(words(&[("a", "2")])),
                ..Branching::default()
            },
        )
        .unwrap();
    let other = image(&worlds);
    let way = worlds.distance(&one[0].id, &one[1].id).unwrap();
    assert_eq!(
        way.path,
        [one[0].id.clone(), snapshot.id.clone(), one[1].id.clone()]
    );
    assert_eq!(way.hops, 2);
    let ids = [
        &base.id,
        &snapshot.id,
        &one[0].id,
        &one[1].id,
        &one[2].id,
        &two[0].id,
        &two[1].id,
        &other.id,
    ];
    let all: Vec<Vec<f64>> = ids
        .iter()
        .map(|a| {
            ids.iter()
                .map(|b| worlds.distance(a, b).unwrap().distance)
                .collect()
        })
        .collect();
    for a in 0..ids.len() {
        assert_eq!(all[a][a], 0.0);
        for b in 0..ids.len() {
            assert!((all[a][b] - all[b][a]).abs() < 1e-9 && (a == b || all[a][b] > 0.0));
            for c in 0..ids.len() {
                assert!(all[a][c] <= all[a][b] + all[b][c] + 1e-9, "{a} {b} {c}");
            }
        }
    }
}

#[test]
fn traces_tell_two_worlds_apart_at_the_first_step_that_differs() {
    let (_folder, worlds, base) = begun();
    let (_, verses) = branched(&worlds, &base.id, 2);
    let [a, b]: [Instance; 2] = verses.try_into().unwrap();
    for id in [&a.id, &b.id] {
        run(&worlds, id, "step 3");
    }
    assert!(worlds.difference(&a.id, &b.id, 10).unwrap().equal);
    run(&worlds, &a.id, "step 1");
    run(&worlds, &b.id, "step 2");
    let difference = worlds.difference(&a.id, &b.id, 10).unwrap();
    assert_eq!((difference.equal, difference.first.unwrap().0), (false, 2));
    assert!(
        worlds.difference(&a.id, &b.id, 1).unwrap().equal,
        "one step deep they are the same"
    );
}

#[test]
fn what_a_match_cannot_do_it_refuses_by_name() {
    let (_folder, worlds, base) = begun();
    assert_eq!(base.kind, Kind::Match);
    assert!(matches!(
        worlds.read(&base.id, "/x"),
        Err(WorldError::Refused { .. })
    ));
    assert!(matches!(
        worlds.connect(&base.id, 80),
        Err(WorldError::Refused { .. })
    ));
    assert_eq!(run(&worlds, &base.id, "rm -rf /").0, 2);
    assert_eq!(run(&worlds, &base.id, "step 999999999").0, 2);
    let code = worlds.create_snapshot(&NewSnapshot::default()).unwrap_err();
    assert!(
        matches!(code, WorldError::NoBackend(_)) && code.to_string().contains("none in this test")
    );
}

#[test]
fn branches_do_not_depend_on_how_they_are_run() {
    let folder = tempfile::tempdir().unwrap();
    let (worlds, _) = open(folder.path());
    let base = worlds
        .start(&image(&worlds).id, &NewInstance::default())
        .unwrap();
    let asked = |branches, steps: &[&str]| Verification {
        branches,
        seed: 1069,
        steps: steps.iter().map(|step| (*step).into()).collect(),
        ..Verification::default()
    };
    let three = worlds
        .verify_spi(&base.id, &asked(3, &["step 5", "state"]))
        .unwrap();
    assert!(three.holds);
    assert_eq!((three.serial.count, three.serial), (3, three.parallel));
    let longer = worlds.verify_spi(&base.id, &asked(3, &["step 6", "state"]));
    assert_ne!(longer.unwrap().serial, three.serial);
    assert_eq!(
        worlds.instances(&Metadata::new()).unwrap().len(),
        1,
        "its branches ended with it"
    );
    assert_eq!(worlds.snapshots(&Metadata::new(), None).len(), 1);
    for wrong in [0, worldline_runtime::limits::MAX_VERIFIED + 1] {
        let refused = worlds.verify_spi(&base.id, &asked(wrong, &[])).unwrap_err();
        assert_eq!(refused.blame(), Blame::Request);
    }
    sound(&worlds);
}

#[test]
fn a_snapshot_registered_in_words_of_another_version_is_not_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()));
    let record = r#"{"record": {"id": "snapshot_x", "sort": "snapshot", "record": "{}"}}"#;
    let line = format!("{{\"line\": 1, \"rows\": [{record}]}}\n");
    std::fs::write(folder.path().join("worlds").join("worlds.journal"), line).unwrap();
    for _ in 0..2 {
        let why = try_open(folder.path()).err().unwrap().to_string();
        assert!(
            why.contains("snapshot_x") && why.contains("start the version"),
            "{why}"
        );
    }
}
