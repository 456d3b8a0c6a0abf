//! The watch over whole matches: real ones are clean, and a world of noise is played to its end.

use worldline_cartridge::testing::{self, Size};
use worldline_trainer::{
    dataset::{Dataset, Licences, Sources},
    evaluate::{Int8, Options as EvaluateOptions, evaluate},
    free_run::{Options, free_run, scenes, watch_replay},
};

fn dataset() -> Dataset {
    let data = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data").to_owned();
    Sources {
        paths: vec![data],
        licences: Licences::Any,
        cache: None,
    }
    .load()
    .unwrap()
}

#[test]
fn real_matches_do_nothing_impossible() {
    for one in &dataset().matches {
        assert_eq!(watch_replay(one), [].into(), "{}", one.id);
    }
}

#[test]
fn a_world_plays_whole_matches_under_every_pilot() {
    let cartridge = testing::cartridge(Size::Interop, 7);
    let dataset = dataset();
    let matches: Vec<_> = dataset.matches.iter().collect();
    let scenes = scenes(cartridge.model().starts(), &matches);
    let options = Options {
        matches: 1,
        minutes: 1,
        seed: 3,
    };

    let report = free_run(&Int8(&cartridge), &scenes, options);
    let pilots: Vec<_> = report
        .rows
        .iter()
        .map(|row| (&*row.pilot, row.matches))
        .collect();
    assert_eq!(pilots, [("random", 1), ("scripted", 1), ("ghost", 1)]);
    assert!(report.rows.iter().all(|row| row.frames > 0));
    assert_eq!(report, free_run(&Int8(&cartridge), &scenes, options));
    assert!(report.to_string().contains("damage a minute"));
}

#[test]
fn a_cartridge_is_evaluated_beside_the_baselines() {
    let cartridge = testing::cartridge(Size::Interop, 7);
    let dataset = dataset();
    let matches: Vec<_> = dataset.matches.iter().take(1).collect();
    let options = EvaluateOptions {
        starts: 20,
        seed: 1,
    };
    let report = evaluate("noise", &[&Int8(&cartridge)], &matches, options).unwrap();
    let rc5 = |name: &str| report.column(name).unwrap().all.rc5;
    assert!(
        rc5("INT8") > rc5("constant velocity"),
        "noise foretells nothing"
    );
}
