//! The measure itself is measured: truth scores perfectly, known errors come out as known.

use worldline_abi::{Pad, PlayerState, SessionState, UNIT_ONE};
use worldline_trainer::{
    dataset::{Dataset, Licences, Match, Sources},
    evaluate::{Column, HORIZONS, Options, Report, Stepper, Subject, evaluate},
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

/// Knows the matches by heart, and errs by `offset` (raw x, both players) at every own frame.
struct Oracle<'a> {
    matches: &'a [Match],
    offset: i32,
}

struct OracleStepper<'a> {
    oracle: &'a Oracle<'a>,
    state: SessionState,
    place: (usize, usize),
    own_frames: i32,
}

impl Subject for Oracle<'_> {
    fn name(&self) -> &str {
        "INT8"
    }

    fn stepper(&self) -> Box<dyn Stepper + '_> {
        let state = SessionState::default();
        Box::new(OracleStepper {
            oracle: self,
            state,
            place: (0, 0),
            own_frames: 0,
        })
    }
}

impl Stepper for OracleStepper<'_> {
    fn reset(&mut self, stage: u8, players: [PlayerState; 2]) {
        let same = |frame: &[_; 2]| states(frame) == players;
        let find = |one: &Match| one.frames.iter().position(same);
        let (index, frame) = self
            .oracle
            .matches
            .iter()
            .enumerate()
            .find_map(|(i, one)| Some((i, find(one)?)))
            .expect("a true state");
        assert_eq!(self.oracle.matches[index].stage, stage);
        self.place = (index, frame);
        self.force(players);
    }

    fn force(&mut self, players: [PlayerState; 2]) {
        self.state.players = players;
        self.own_frames = 0;
    }

    fn step(&mut self, pads: [Pad; 2]) {
        self.place.1 += 1;
        self.own_frames += 1;
        let frame = &self.oracle.matches[self.place.0].frames[self.place.1];
        assert_eq!(frame.map(|seat| seat.pad), pads);
        self.state.players = states(frame);
        self.state
            .players
            .iter_mut()
            .for_each(|p| p.x += self.oracle.offset * self.own_frames);
    }

    fn state(&self) -> &SessionState {
        &self.state
    }
}

fn states(frame: &[worldline_trainer::dataset::PlayerFrame; 2]) -> [PlayerState; 2] {
    frame.map(|seat| seat.state())
}

fn report(offset: i32, seed: u64) -> Report {
    let dataset = dataset();
    let matches: Vec<&Match> = dataset.matches.iter().collect();
    let oracle = Oracle {
        matches: &dataset.matches,
        offset,
    };
    evaluate(
        "oracle",
        &[&oracle],
        &matches,
        Options { starts: 100, seed },
    )
    .unwrap()
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-9
}

#[test]
fn the_truth_has_no_error() {
    let report = report(0, 1);
    let Column {
        teacher_forced,
        all,
        alive,
        ..
    } = &report.columns[0];
    assert_eq!((teacher_forced.position, teacher_forced.action), (0.0, 1.0));
    assert_eq!(teacher_forced.action_changed, Some(1.0));
    assert_eq!(teacher_forced.damage.precision(), Some(1.0));
    assert_eq!(teacher_forced.stock.recall(), Some(1.0));
    assert_eq!(
        (all.rc20, all.action[19], all.percent[19], all.speed[19]),
        (0.0, 1.0, 0.0, 0.0)
    );
    assert_eq!(all.windows, 100);
    assert!(alive.windows < 100);
}

#[test]
fn a_known_error_comes_out_as_known() {
    let report = report(UNIT_ONE, 1);
    let all = &report.columns[0].all;
    for h in 1..=HORIZONS {
        assert!(
            close(all.position[h - 1], h as f64 / 2.0),
            "h{h}: {}",
            all.position[h - 1]
        );
    }
    assert!(close(all.rc5, 1.5) && close(all.rc10, 2.75) && close(all.rc20, 5.25));
    assert!(close(report.columns[0].teacher_forced.position, 0.5));
}

#[test]
fn the_baselines_are_what_they_say() {
    let report = report(0, 1);
    let [velocity, still] =
        ["constant velocity", "nothing moves"].map(|name| report.column(name).unwrap());
    assert!(velocity.all.rc5 < still.all.rc5);
    assert_eq!(still.teacher_forced.damage.hits, 0);
    assert_eq!(still.teacher_forced.damage.precision(), None);
    assert_eq!(still.teacher_forced.action_changed, Some(0.0));
}

#[test]
fn a_report_is_the_same_for_the_same_seed_and_survives_json() {
    let first = report(7, 1);
    assert_eq!(first, report(7, 1));
    assert_ne!(first, report(7, 2));
    let json = serde_json::to_string(&first).unwrap();
    let read: Report = serde_json::from_str(&json).unwrap();
    assert_eq!(read.about, first.about);
    assert!(close(read.columns[0].all.rc20, first.columns[0].all.rc20));
}

#[test]
fn nothing_to_measure_is_an_error() {
    let oracle = Oracle {
        matches: &[],
        offset: 0,
    };
    assert!(evaluate("oracle", &[&oracle], &[], Options::default()).is_err());
}

#[test]
fn the_report_reads_as_text_markdown_and_svg() {
    let report = report(0, 1);
    let (text, markdown, svg) = (report.to_string(), report.markdown(), report.svg());
    assert!(text.contains("constant velocity") && text.contains("RC20"));
    let columns = |line: &str| line.matches('|').count();
    let rows: Vec<&str> = markdown
        .lines()
        .filter(|line| line.starts_with('|'))
        .collect();
    assert!(rows.len() > 20 && rows.iter().all(|row| columns(row) == columns(rows[0])));
    assert_eq!(svg.matches("<polyline").count(), 4 * report.columns.len());
    assert!(!svg.contains("NaN") && !svg.contains("inf"));
}
