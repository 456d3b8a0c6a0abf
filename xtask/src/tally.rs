//! Reads how many tests passed, failed and were skipped from what the runners print.

use std::fmt;
use std::ops::AddAssign;

/// Tests by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
    /// Of those that passed: what this host could not do was left out.
    pub(crate) partly: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Tally) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
        self.partly += other.partly;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} passed, {} failed, {} skipped",
            self.passed, self.failed, self.skipped
        )
    }
}

impl Tally {
    /// One test that passed.
    pub(crate) const PASSED: Tally = Tally {
        passed: 1,
        failed: 0,
        skipped: 0,
        partly: 0,
    };
    /// One test that failed.
    pub(crate) const FAILED: Tally = Tally {
        passed: 0,
        failed: 1,
        skipped: 0,
        partly: 0,
    };
    /// One test, not run.
    pub(crate) const SKIPPED: Tally = Tally {
        passed: 0,
        failed: 0,
        skipped: 1,
        partly: 0,
    };

    /// A runner that ended badly without naming a failed test (a build error, a crash) counts as
    /// one failure.
    pub(crate) fn with_exit(mut self, success: bool) -> Tally {
        if !success && self.failed == 0 {
            self.failed = 1;
        }
        self
    }
}

/// `kept  …`, `broken  …` and `skipped  …`, a line for each promise.
pub(crate) fn promises(text: &str) -> Tally {
    let count = |verdict: &str| {
        let lines = text.lines().filter(|line| line.starts_with(verdict));
        lines.count() as u64
    };
    Tally {
        passed: count("kept "),
        failed: count("broken "),
        skipped: count("skipped "),
        partly: 0,
    }
}

/// What a test says that leaves out what its host cannot do. Those that a host can do nothing of have a name
/// here, and are counted by their runner.
const LEFT_OUT: [&str; 2] = ["IGNORED: ", "IGNORED in part: "];

/// `test result: ok. 3 passed; 0 failed; 1 ignored; …`, summed over all test programs. What a machine within a
/// test prints is indented, and not counted.
pub(crate) fn cargo(text: &str) -> Tally {
    let is_partial = |line: &&str| LEFT_OUT.iter().any(|words| line.starts_with(words));
    let partly = text.lines().filter(is_partial);
    let mut tally = Tally {
        partly: partly.count() as u64,
        ..Tally::default()
    };
    for line in text
        .lines()
        .filter_map(|line| line.strip_prefix("test result: "))
    {
        let counts = line.split_once(". ").map_or(line, |(_, counts)| counts);
        for part in counts.split(';') {
            add(&mut tally, part);
        }
    }
    tally
}

/// Vitest's `      Tests  1 failed | 12 passed | 2 skipped (15)`.
pub(crate) fn vitest(text: &str) -> Tally {
    let mut tally = Tally::default();
    for line in text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Tests  "))
    {
        let counts = line.split('(').next().unwrap_or_default();
        for part in counts.split('|') {
            add(&mut tally, part);
        }
    }
    tally
}

/// Node's own runner: `# pass 3`, `# fail 0`, `# skipped 1`, `# cancelled 0`.
pub(crate) fn node(text: &str) -> Tally {
    let mut tally = Tally::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let (Some("#"), Some(kind), Some(count), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            continue;
        };
        let Ok(count) = count.parse::<u64>() else {
            continue;
        };
        match kind {
            "pass" => tally.passed += count,
            "fail" | "cancelled" => tally.failed += count,
            "skipped" | "todo" => tally.skipped += count,
            _ => {}
        }
    }
    tally
}

/// Python's own: `Ran 12 tests in 3.1s`, then `OK (skipped=1)` or `FAILED (failures=2, errors=1)`.
pub(crate) fn unittest(text: &str) -> Tally {
    let mut tally = Tally::default();
    for line in text.lines() {
        if let Some(ran) = line.strip_prefix("Ran ") {
            tally.passed += ran
                .split(' ')
                .next()
                .and_then(|count| count.parse::<u64>().ok())
                .unwrap_or(0);
        }
        let Some((_, parts)) = line
            .split_once('(')
            .filter(|(word, _)| matches!(word.trim(), "OK" | "FAILED"))
        else {
            continue;
        };
        for part in parts.trim_end_matches(')').split(", ") {
            let Some((kind, count)) = part.split_once('=') else {
                continue;
            };
            let count = count.parse::<u64>().unwrap_or(0);
            match kind {
                "skipped" => tally.skipped += count,
                _ => tally.failed += count,
            }
        }
    }
    tally.passed = tally.passed.saturating_sub(tally.failed + tally.skipped);
    tally
}

/// pytest's last line: `1 failed, 12 passed, 2 skipped in 3.1s`.
pub(crate) fn pytest(text: &str) -> Tally {
    let mut tally = Tally::default();
    let counts = text.lines().rev().find_map(|line| line.rsplit_once(" in "));
    for part in counts.map_or("", |(counts, _)| counts).split(',') {
        add(&mut tally, part.trim_matches(['=', ' ']));
    }
    tally
}

/// Adds `3 passed`, `1 ignored`, ….
fn add(tally: &mut Tally, part: &str) {
    let mut words = part.split_whitespace();
    let Some(count) = words.next().and_then(|word| word.parse::<u64>().ok()) else {
        return;
    };
    match words.next() {
        Some("passed") => tally.passed += count,
        Some("failed" | "error" | "errors") => tally.failed += count,
        Some("ignored" | "skipped" | "todo") => tally.skipped += count,
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_programs_are_summed() {
        let text = "\
running 2 tests
IGNORED in part: there is no second disk
    | test result: ok. 9 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s
test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.00s
test result: FAILED. 4 passed; 5 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1s";
        assert_eq!(
            cargo(text),
            Tally {
                passed: 6,
                failed: 5,
                skipped: 1,
                partly: 1
            }
        );
    }

    #[test]
    fn promises_are_counted_by_verdict() {
        let text =
            "         PROMISE  LIMIT\nkept     a  at most 1\nbroken   b  at most 1\nskipped  c\n";
        assert_eq!(
            promises(text),
            Tally {
                passed: 1,
                failed: 1,
                skipped: 1,
                partly: 0
            }
        );
    }

    #[test]
    fn vitest_counts_tests_and_not_files() {
        let text = " Test Files  1 failed | 2 passed (3)\n      Tests  1 failed | 12 passed (13)\n";
        assert_eq!(
            vitest(text),
            Tally {
                passed: 12,
                failed: 1,
                skipped: 0,
                partly: 0
            }
        );
    }

    #[test]
    fn node_counts_what_was_cancelled_as_failed() {
        let text =
            "ok 1 - a\n# tests 5\n# pass 3\n# fail 0\n# cancelled 1\n# skipped 1\n# todo 0\n";
        assert_eq!(
            node(text),
            Tally {
                passed: 3,
                failed: 1,
                skipped: 1,
                partly: 0
            }
        );
    }

    #[test]
    fn unittest_counts_errors_as_failures() {
        let text =
            "test_a ... ok\nRan 9 tests in 3.1s\n\nFAILED (failures=1, errors=2, skipped=1)\n";
        let expected = Tally {
            passed: 5,
            failed: 3,
            skipped: 1,
            partly: 0,
        };
        assert_eq!(unittest(text), expected);
        assert_eq!(unittest("Ran 2 tests in 0.1s\n\nOK\n").passed, 2);
    }

    #[test]
    fn pytest_counts_errors_as_failures() {
        let text = "..F\n1 failed, 12 passed, 2 skipped, 1 error in 3.10s\n";
        let expected = Tally {
            passed: 12,
            failed: 2,
            skipped: 2,
            partly: 0,
        };
        assert_eq!(pytest(text), expected);
        assert_eq!(pytest("===== 31 passed in 1.91s =====").passed, 31);
        assert_eq!(pytest("nothing"), Tally::default());
    }

    #[test]
    fn a_runner_that_dies_without_a_word_is_a_failure() {
        assert_eq!(cargo("error: could not compile").with_exit(false).failed, 1);
        assert_eq!(Tally::default().with_exit(true), Tally::default());
    }
}
