//! What the specification promises of this machine's figures, and whether they keep it.

use std::process::ExitCode;

use worldline_arena::bench::SessionsReport;

use super::{Physics, Size};
use crate::table;

/// The kernel that the promises about single frames are made for.
const KERNEL: &str = "avx512-vnni";

/// A bound on a figure.
enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

/// One promise and what was measured. `None`: this machine cannot be held to it.
pub(super) struct Promise {
    what: &'static str,
    bound: Bound,
    figure: Option<f64>,
}

impl Promise {
    fn at_most(what: &'static str, most: f64, figure: Option<f64>) -> Self {
        Self {
            what,
            bound: Bound::AtMost(most),
            figure,
        }
    }

    fn verdict(&self) -> &'static str {
        match (&self.bound, self.figure) {
            (_, None) => "skipped",
            (Bound::AtMost(most), Some(figure)) if figure <= *most => "kept",
            (Bound::AtLeast(least), Some(figure)) if figure >= *least => "kept",
            _ => "broken",
        }
    }
}

/// Promises about single frames and batches.
pub(super) fn physics(report: &Physics) -> Vec<Promise> {
    let times_read = |size: Size| {
        let row = report.sizes.iter().find(|row| row.size == size)?;
        let kernels = row.kernels.iter();
        let mut here = kernels.filter(|kernel| kernel.kernel == KERNEL);
        here.next().map(|kernel| kernel.times_read)
    };
    let cost = report.whole_step;
    vec![
        Promise::at_most(
            "a frame at small, in reads of its weights",
            3.0,
            times_read(Size::Small),
        ),
        Promise::at_most(
            "a frame at full, in reads of its weights",
            2.2,
            times_read(Size::Full),
        ),
        Promise {
            what: "a batch of 64 at small, in frames of single steps",
            bound: Bound::AtLeast(1.5),
            figure: Some(report.batch.speedup),
        },
        Promise::at_most(
            "frame 10,000, in frames 1",
            1.25,
            Some(cost.late_us.median / cost.early_us.median),
        ),
    ]
}

/// Promises about live matches.
pub(super) fn sessions(report: &SessionsReport) -> Vec<Promise> {
    vec![
        Promise::at_most(
            "ticks missed by live matches",
            0.0,
            Some(report.timing.missed_ticks as f64),
        ),
        Promise::at_most(
            "copying a live match, microseconds",
            20.0,
            Some(report.copy_us.median),
        ),
    ]
}

/// Promises about matches on our own chains.
#[cfg(feature = "cabinet")]
pub(super) fn cabinet(report: &super::cabinet::Report) -> Vec<Promise> {
    let missed =
        |live: &super::cabinet::Live| Some((live.timing.missed + live.timing.failed) as f64);
    vec![
        Promise::at_most(
            "microseconds that the chain adds to a frame at small",
            1000.0,
            Some(report.frame_us.syscalls.p50 - report.native_frame_us.median),
        ),
        Promise::at_most("ticks missed by a match on chain", 0.0, missed(&report.one)),
        Promise::at_most(
            "input sent to state received, milliseconds, half",
            20.0,
            Some(report.one.response_ms.p50),
        ),
        Promise::at_most(
            "input sent to state received, milliseconds, 95 of 100",
            35.0,
            Some(report.one.response_ms.p95),
        ),
        Promise {
            what: "verification, in speeds of play",
            bound: Bound::AtLeast(20.0),
            figure: Some(report.verify.speed),
        },
    ]
}

/// Prints the promises; the exit code says whether all are kept.
pub(super) fn check(promises: &[Promise]) -> ExitCode {
    let rows: Vec<_> = promises
        .iter()
        .map(|promise| {
            let limit = match promise.bound {
                Bound::AtMost(most) => format!("at most {most}"),
                Bound::AtLeast(least) => format!("at least {least}"),
            };
            let figure = promise.figure.map_or_else(
                || "no such kernel here".into(),
                |figure| format!("{figure:.2}"),
            );
            [promise.verdict().into(), promise.what.into(), limit, figure]
        })
        .collect();
    table::print(["", "PROMISE", "LIMIT", "FOUND"], &rows);
    if promises.iter().any(|one| one.verdict() == "broken") {
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_kept_broken_or_skipped() {
        let most = |figure| Promise::at_most("x", 2.0, figure).verdict();
        assert_eq!(
            [Some(2.0), Some(2.1), None].map(most),
            ["kept", "broken", "skipped"]
        );
        let least = Promise {
            what: "x",
            bound: Bound::AtLeast(2.0),
            figure: Some(1.9),
        };
        assert_eq!(least.verdict(), "broken");
    }
}
