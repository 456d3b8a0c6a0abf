//! The worlds that are shipped: what their reports say, and whole matches in them.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use worldline_cartridge::Cartridge;
use worldline_trainer::dataset::{Licences, Sources};
use worldline_trainer::evaluate::{FP32, INT8, Int8, Report};
use worldline_trainer::free_run::{Finding, Options, Row, free_run, scenes};

#[derive(Deserialize)]
struct Sidecar {
    /// The cartridge that was measured.
    root: String,
    fidelity: Report,
}

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../worlds")
        .join(name)
}

#[test]
fn the_report_of_melee_is_of_the_shipped_cartridge_and_keeps_its_promises() {
    let cartridge = Cartridge::open(shipped("melee.cart")).unwrap();
    let sidecar = std::fs::read(shipped("melee.json")).unwrap();
    let sidecar: Sidecar = serde_json::from_slice(&sidecar).unwrap();
    assert_eq!(sidecar.root, cartridge.root());
    let report = sidecar.fidelity;
    assert!(report.about.starts >= 1000, "{}", report.about);
    let int8 = &report.column(INT8).unwrap().all;
    assert!(int8.rc5 <= 0.45, "RC5 {}", int8.rc5);
    assert!(int8.rc20 <= 2.6, "RC20 {}", int8.rc20);
}

#[test]
fn the_integers_of_melee_stay_close_to_its_floats() {
    let sidecar = std::fs::read(shipped("melee.json")).unwrap();
    let sidecar: Sidecar = serde_json::from_slice(&sidecar).unwrap();
    let [int8, fp32] = [INT8, FP32].map(|name| sidecar.fidelity.column(name).unwrap());
    for (part, int8, fp32) in [
        ("all", &int8.all, &fp32.all),
        ("nobody dead", &int8.alive, &fp32.alive),
    ] {
        let close = |what: &str, worse: f64| {
            assert!(worse <= 1.03, "{part}, {what}: {worse:.3} times as bad");
        };
        close("RC5", int8.rc5 / fp32.rc5);
        close("RC20", int8.rc20 / fp32.rc20);
        for h in [9, 19] {
            close("position", int8.position[h] / fp32.position[h]);
            close("action", fp32.action[h] / int8.action[h]);
        }
    }
}

#[test]
fn whole_matches_of_melee_have_damage_and_lost_stocks_and_an_end() {
    let cartridge = Cartridge::open(shipped("melee.cart")).unwrap();
    let dataset = Sources {
        paths: vec![concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data").to_owned()],
        licences: Licences::Any,
        cache: None,
    }
    .load()
    .unwrap();
    let matches: Vec<_> = dataset.matches.iter().collect();
    let scenes = scenes(cartridge.model().starts(), &matches);
    let options = Options {
        matches: 2,
        ..Options::default()
    };
    let report = free_run(&Int8(&cartridge), &scenes, options);
    let broken = |row: &Row, finding| row.findings.get(&finding).copied().unwrap_or_default();
    for row in &report.rows {
        assert_eq!(row.ended_by_stocks + row.ended_by_time, row.matches);
        assert!(row.damage > 0.0, "{row:?}");
        assert_eq!(broken(row, Finding::StockRose), 0, "{row:?}");
        // A script's two fighters may hit each other until the time is up, as on these two stages.
        if row.pilot != "scripted" {
            assert!(row.stocks_lost > 0, "{row:?}");
        }
    }
}
