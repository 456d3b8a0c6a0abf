//! What the specification promises of this machine's figures, and whether they keep it.

use std::process::ExitCode;

use worldline_arena::bench::SessionsReport;
#[cfg(feature = "worlds")]
use worldline_sandbox::bench::{Measured, Row};

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
pub(crate) struct Promise {
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

/// Megabytes of a mebibyte.
#[cfg(feature = "worlds")]
const MB_OF_MIB: f64 = 1.048_576;

/// Promises about code worlds: processes, and machines under each monitor.
#[cfg(feature = "worlds")]
pub(crate) fn worlds(measured: &Measured) -> Vec<Promise> {
    let slowest = |what| slowest(measured, what, |_| true);
    match measured.backend {
        "firecracker" => vec![
            Promise::at_most(
                "a new machine under Firecracker, milliseconds to its first reply",
                40.0,
                slowest("spawn to first reply of a new machine"),
            ),
            Promise::at_most(
                "a snapshot under Firecracker, milliseconds",
                10.0,
                slowest("snapshot"),
            ),
            Promise::at_most(
                "a hundred branches under Firecracker, milliseconds",
                3000.0,
                slowest("all branches"),
            ),
            Promise::at_most(
                "a branch's own memory under Firecracker, MiB",
                1.0,
                slowest("private memory of a branch"),
            ),
        ],
        "qemu" => vec![
            Promise::at_most(
                "a machine under QEMU booted, milliseconds",
                15_000.0,
                slowest("boot to first reply"),
            ),
            Promise::at_most(
                "a branch under QEMU runs, milliseconds",
                150.0,
                slowest("branch, one ready, to running"),
            ),
            Promise::at_most(
                "a branch under QEMU answers in Python, milliseconds",
                250.0,
                slowest("branch, one ready, to first reply"),
            ),
            Promise::at_most(
                "a branch's own memory under QEMU, MB",
                25.0,
                slowest("private memory of a branch").map(|mib| mib * MB_OF_MIB),
            ),
        ],
        _ => processes(measured),
    }
}

/// Those about heaps are for heaps in huge pages, and skipped where the host had none to give.
#[cfg(feature = "worlds")]
fn processes(measured: &Measured) -> Vec<Promise> {
    const MOST_OF_IT: f64 = 0.95;
    let rows = measured.rows.iter();
    let huge = rows.filter(|row| row.what == "in huge pages");
    let huge: Vec<u32> = huge
        .filter(|row| row.median >= f64::from(row.heap_mib) * MOST_OF_IT)
        .map(|row| row.heap_mib)
        .collect();
    let all = |what| slowest(measured, what, |_| true);
    let in_huge = |row: &Row| row.heap == "arrays" && huge.contains(&row.heap_mib);
    let arrays = |what| slowest(measured, what, in_huge);
    let one = |heap| {
        slowest(measured, "branch to first reply", |row| {
            in_huge(row) && row.heap_mib == heap && row.branches == 1
        })
    };
    let generations = all("a generation: the last ones").zip(all("a generation: the first ones"));
    vec![
        Promise::at_most("a new world, milliseconds", 15.0, all("create")),
        Promise::at_most("a hot snapshot, milliseconds", 10.0, arrays("hot snapshot")),
        Promise::at_most(
            "the source of a snapshot stands still, milliseconds",
            10.0,
            arrays("pause of the source"),
        ),
        Promise::at_most(
            "a branch of 64 MiB to its first reply, milliseconds",
            20.0,
            one(64),
        ),
        Promise::at_most(
            "a branch of 2 GiB to its first reply, milliseconds",
            30.0,
            one(2048),
        ),
        Promise::at_most(
            "the first branch after a snapshot, milliseconds",
            250.0,
            arrays("snapshot to first reply of its first branch"),
        ),
        Promise::at_most(
            "a hundred branches, milliseconds",
            1500.0,
            arrays("all branches"),
        ),
        Promise::at_most(
            "a branch's own memory, MiB",
            5.0,
            arrays("private memory of a branch"),
        ),
        Promise::at_most(
            "the fiftieth generation, in first ones",
            1.2,
            generations.map(|(last, first)| last / first),
        ),
    ]
}

/// The largest median of a row's kind.
#[cfg(feature = "worlds")]
fn slowest(measured: &Measured, what: &str, of: impl Fn(&Row) -> bool) -> Option<f64> {
    let rows = measured.rows.iter().filter(|row| row.what == what);
    rows.filter(|row| of(row))
        .map(|row| row.median)
        .max_by(f64::total_cmp)
}

/// Prints the promises; the exit code says whether all are kept.
pub(crate) fn check(promises: &[Promise]) -> ExitCode {
    let rows: Vec<_> = promises
        .iter()
        .map(|promise| {
            let limit = match promise.bound {
                Bound::AtMost(most) => format!("at most {most}"),
                Bound::AtLeast(least) => format!("at least {least}"),
            };
            let figure = promise.figure.map_or_else(
                || "this host has not what it takes".into(),
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
