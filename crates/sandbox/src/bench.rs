//! Measures branching: what `worldline bench branch` prints.

use std::fs;
use std::path::Path;
use std::process::{Command as Outside, Stdio};
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;

use crate::{Backend, Cell, Command, Sandbox, Spec};

/// What is measured.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Heaps, in MiB.
    pub heaps_mib: Vec<u32>,
    /// Branches made at once.
    pub branches: Vec<usize>,
    /// How often single operations are repeated.
    pub rounds: usize,
    /// Generations of branches of branches.
    pub generations: usize,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            heaps_mib: vec![64, 512, 2048],
            branches: vec![1, 10, 100],
            rounds: 10,
            generations: 50,
        }
    }
}

/// One row: an operation under some conditions.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// What was done.
    pub what: &'static str,
    /// The heap of the world, in MiB.
    pub heap_mib: u32,
    /// What it is made of: `arrays` (huge pages where the host has them) or `objects` (small ones).
    pub heap: &'static str,
    /// Branches made together.
    pub branches: usize,
    /// How often it was measured.
    pub count: usize,
    /// Half of them were no more than this.
    pub median: f64,
    /// All but one in twenty were no more than this.
    pub p95: f64,
    /// The most.
    pub max: f64,
    /// What the numbers are in.
    pub unit: &'static str,
}

/// All rows, and how busy the machine was.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// The backend.
    pub backend: &'static str,
    /// Processors of the host.
    pub processors: usize,
    /// The load average of the last minute, before and after.
    pub load: [f64; 2],
    /// The rows.
    pub rows: Vec<Row>,
    /// What could not be measured, and why.
    pub left_out: Vec<String>,
}

/// A world could not be measured.
pub type Failed = Box<dyn std::error::Error + Send + Sync>;

/// Measures. `root` is the root of an image, for the start of a container beside it.
pub fn measure(
    backend: &dyn Backend,
    plan: &Plan,
    root: Option<&Path>,
    progress: &mut dyn FnMut(&str),
) -> Result<Measured, Failed> {
    let mut bench = Bench::new(backend, plan);
    progress("making worlds");
    bench.create()?;
    for heap in &plan.heaps_mib {
        for kind in ["arrays", "objects"] {
            progress(&format!("a heap of {heap} MiB of {kind}"));
            bench.heap(*heap, kind)?;
        }
    }
    progress("generations");
    bench.generations()?;
    let mut left_out = Vec::new();
    match root.filter(|_| on_path("bwrap")) {
        Some(root) => bench.container(root)?,
        None => left_out
            .push("a bubblewrap start of the same image: there is no `bwrap` on this host".into()),
    }
    left_out.push(format!("CRIU alone: {}", criu()));
    Ok(bench.done(left_out))
}

/// Measures machines whose guest has no operating system: what the machine costs, and nothing else.
pub fn measure_machines(
    backend: &dyn Backend,
    plan: &Plan,
    progress: &mut dyn FnMut(&str),
) -> Result<Measured, Failed> {
    let mut bench = Bench::new(backend, plan);
    progress("booting machines");
    bench.boot()?;
    progress("snapshots and branches");
    bench.machines()?;
    Ok(bench.done(Vec::new()))
}

/// Boots a machine, where a backend's worlds go on from one that did.
pub type Boot<'a> = &'a dyn Fn(&Spec) -> Result<Arc<dyn Sandbox>, Failed>;

/// Measures machines with a whole Linux: begun once, then branched from where that stood.
pub fn measure_linux(
    backend: &dyn Backend,
    boot: Boot,
    plan: &Plan,
    progress: &mut dyn FnMut(&str),
) -> Result<Measured, Failed> {
    let mut bench = Bench::new(backend, plan);
    progress("booting a machine");
    let begun = Instant::now();
    let machine = boot(&linux())?;
    run(&*machine, "1")?;
    let took = milliseconds(begun);
    machine.destroy();
    bench.row("boot to first reply", BARE, 0, "ms", vec![took]);
    progress("snapshots and branches");
    bench.linux()?;
    Ok(bench.done(Vec::new()))
}

/// KiB of an interpreter that stand in huge pages. What a snapshot costs depends on it, and a host whose
/// memory is in pieces has few to give.
const HUGE: &str =
    "next(int(line.split()[1]) for line in open('/proc/self/smaps_rollup') if 'AnonHuge' in line)";

/// A machine without a heap.
const BARE: (u32, &str) = (0, "");

struct Bench<'a> {
    backend: &'a dyn Backend,
    plan: &'a Plan,
    rows: Vec<Row>,
    /// The machine's load before.
    load: f64,
}

impl<'a> Bench<'a> {
    fn new(backend: &'a dyn Backend, plan: &'a Plan) -> Self {
        Self {
            backend,
            plan,
            rows: Vec::new(),
            load: load(),
        }
    }

    fn done(self, left_out: Vec<String>) -> Measured {
        Measured {
            backend: self.backend.name(),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            load: [self.load, load()],
            rows: self.rows,
            left_out,
        }
    }
}

impl Bench<'_> {
    fn row(
        &mut self,
        what: &'static str,
        heap: (u32, &'static str),
        branches: usize,
        unit: &'static str,
        mut values: Vec<f64>,
    ) {
        values.sort_by(f64::total_cmp);
        let at = |share: f64| {
            values
                .get(((values.len() as f64 * share).ceil() as usize).saturating_sub(1))
                .copied()
                .unwrap_or(0.0)
        };
        let row = Row {
            what,
            heap_mib: heap.0,
            heap: heap.1,
            branches,
            count: values.len(),
            median: at(0.5),
            p95: at(0.95),
            max: at(1.0),
            unit,
        };
        self.rows.push(row);
    }

    fn create(&mut self) -> Result<(), Failed> {
        let (mut made, mut first) = (Vec::new(), Vec::new());
        // The first world of an image starts an interpreter, from which the others begin.
        self.backend.create(&Spec::default())?.destroy();
        for _ in 0..self.plan.rounds {
            let begun = Instant::now();
            let world = self.backend.create(&Spec::default())?;
            made.push(milliseconds(begun));
            run(&*world, "1")?;
            first.push(milliseconds(begun));
            world.destroy();
            // The pool has to be full again for the next one to be warm.
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        self.row("create", (0, "arrays"), 0, "ms", made);
        self.row("create to first reply", (0, "arrays"), 0, "ms", first);
        Ok(())
    }

    fn boot(&mut self) -> Result<(), Failed> {
        let mut times = Vec::new();
        for _ in 0..self.plan.rounds {
            let begun = Instant::now();
            let machine = self.backend.create(&machine())?;
            answer(&*machine)?;
            times.push(milliseconds(begun));
            machine.destroy();
        }
        self.row(
            "spawn to first reply of a new machine",
            BARE,
            0,
            "ms",
            times,
        );
        Ok(())
    }

    fn machines(&mut self) -> Result<(), Failed> {
        let world = self.backend.create(&machine())?;
        let (mut taken, mut pauses) = (Vec::new(), Vec::new());
        let mut last: Option<String> = None;
        for _ in 0..self.plan.rounds {
            // A few pages to write, as a guest has always.
            world.exec(&Command::line("touch 16"), &mut |_, _| ())?;
            let begun = Instant::now();
            let snapshot = world.snapshot(None)?;
            taken.push(milliseconds(begun));
            pauses.push(snapshot.pause_ms);
            if let Some(last) = last.replace(snapshot.id) {
                self.backend.remove_snapshot(&last)?;
            }
        }
        self.row("snapshot", BARE, 0, "ms", taken);
        self.row("pause of the source", BARE, 0, "ms", pauses);
        let last = last.ok_or("no snapshot was asked for")?;
        for count in self.plan.branches.clone() {
            self.branches(&last, BARE, &machine(), count, &answer)?;
        }
        Ok(())
    }

    fn linux(&mut self) -> Result<(), Failed> {
        let world = self.backend.create(&linux())?;
        run(&*world, "x = 41")?;
        let (mut taken, mut pauses) = (Vec::new(), Vec::new());
        let mut last: Option<String> = None;
        for _ in 0..self.plan.rounds.min(5) {
            let begun = Instant::now();
            let snapshot = world.snapshot(None)?;
            taken.push(milliseconds(begun));
            pauses.push(snapshot.pause_ms);
            self.backend.persist(&snapshot.id)?;
            if let Some(last) = last.replace(snapshot.id) {
                self.backend.remove_snapshot(&last)?;
            }
        }
        self.row("snapshot", BARE, 0, "ms", taken);
        self.row("pause of the source", BARE, 0, "ms", pauses);
        let last = last.ok_or("no snapshot was asked for")?;
        self.runs(&last)?;
        for count in self.plan.branches.clone() {
            self.branches(&last, BARE, &linux(), count, &|world| run(world, "x + 1"))?;
        }
        Ok(())
    }

    /// Branches one after the other, with time between them for another to be made ready.
    fn runs(&mut self, snapshot: &str) -> Result<(), Failed> {
        let (mut running, mut first, mut second) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..self.plan.rounds {
            let begun = Instant::now();
            let branch = self.backend.restore(snapshot, &linux())?;
            running.push(milliseconds(begun));
            run(&*branch, "x + 1")?;
            first.push(milliseconds(begun));
            let again = Instant::now();
            run(&*branch, "x + 1")?;
            second.push(milliseconds(again));
            branch.destroy();
            std::thread::sleep(std::time::Duration::from_secs(1));
        }
        self.row("branch, one ready, to running", BARE, 1, "ms", running);
        self.row("branch, one ready, to first reply", BARE, 1, "ms", first);
        self.row("its second reply", BARE, 1, "ms", second);
        Ok(())
    }

    fn heap(&mut self, heap: u32, kind: &'static str) -> Result<(), Failed> {
        let spec = Spec {
            memory_mib: heap * 3 + 512,
            ..Spec::default()
        };
        let world = self.backend.create(&spec)?;
        let code = match kind {
            "arrays" => format!("import numpy as np; heap = np.ones({heap} * 131072)"),
            // About 100 bytes for a list of one number and its place in the other list.
            _ => format!("heap = [[n] for n in range({heap} * 10000)]"),
        };
        run(&*world, &code)?;
        let huge = value(&*world, HUGE)? / f64::from(1 << 10);
        self.row("in huge pages", (heap, kind), 0, "MiB", vec![huge]);
        let (mut taken, mut pauses, mut ready) = (Vec::new(), Vec::new(), Vec::new());
        let mut last = String::new();
        for _ in 0..self.plan.rounds.min(5) {
            let begun = Instant::now();
            let snapshot = world.snapshot(None)?;
            taken.push(milliseconds(begun));
            pauses.push(snapshot.pause_ms);
            // The first branch of a snapshot comes while its memory is still being written.
            let branch = self.backend.restore(&snapshot.id, &spec)?;
            run(&*branch, "1")?;
            ready.push(milliseconds(begun));
            branch.destroy();
            if !last.is_empty() {
                self.backend.remove_snapshot(&last)?;
            }
            last = snapshot.id;
            self.backend.persist(&last)?;
            self.backend.collect()?;
        }
        let heap = (heap, kind);
        self.row("hot snapshot", heap, 0, "ms", taken);
        self.row("pause of the source", heap, 0, "ms", pauses);
        self.row(
            "snapshot to first reply of its first branch",
            heap,
            1,
            "ms",
            ready,
        );
        let stored = self
            .backend
            .snapshot(&last)
            .map_or(0, |snapshot| snapshot.memory_bytes + snapshot.disk_bytes);
        self.row(
            "durable size",
            heap,
            0,
            "MiB",
            vec![stored as f64 / f64::from(1 << 20)],
        );
        for count in self.plan.branches.clone() {
            self.branches(&last, heap, &spec, count, &|world| run(world, "1"))?;
        }
        world.destroy();
        self.backend.remove_snapshot(&last)?;
        self.backend.collect()?;
        Ok(())
    }

    /// Branches one after the other, all of them alive together.
    fn branches(
        &mut self,
        snapshot: &str,
        heap: (u32, &'static str),
        spec: &Spec,
        count: usize,
        ask: &dyn Fn(&dyn Sandbox) -> Result<(), Failed>,
    ) -> Result<(), Failed> {
        let rounds = if count < 10 { self.plan.rounds } else { 1 };
        let (mut each, mut all, mut private) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rounds {
            let mut alive: Vec<Arc<dyn Sandbox>> = Vec::new();
            let whole = Instant::now();
            for _ in 0..count {
                let begun = Instant::now();
                let branch = self.backend.restore(snapshot, spec)?;
                ask(&*branch)?;
                each.push(milliseconds(begun));
                alive.push(branch);
            }
            all.push(milliseconds(whole));
            private.extend(
                alive
                    .iter()
                    .map(|branch| branch.stats().private_bytes as f64 / f64::from(1 << 20)),
            );
            alive.iter().for_each(|branch| branch.destroy());
        }
        self.row("branch to first reply", heap, count, "ms", each);
        self.row("all branches", heap, count, "ms", all);
        self.row("private memory of a branch", heap, count, "MiB", private);
        Ok(())
    }

    fn generations(&mut self) -> Result<(), Failed> {
        let mut world = self.backend.create(&Spec::default())?;
        let heap = (8, "arrays");
        run(
            &*world,
            "import numpy as np; heap = np.ones(8 * 131072); n = 0",
        )?;
        let mut times = Vec::new();
        for _ in 0..self.plan.generations {
            let begun = Instant::now();
            let snapshot = world.snapshot(None)?;
            let next = self.backend.restore(&snapshot.id, &Spec::default())?;
            run(&*next, "n += 1")?;
            times.push(milliseconds(begun));
            world.destroy();
            world = next;
        }
        let tenth = (self.plan.generations / 5).max(1);
        self.row(
            "a generation: the first ones",
            heap,
            1,
            "ms",
            times[..tenth].to_vec(),
        );
        self.row(
            "a generation: the last ones",
            heap,
            1,
            "ms",
            times[times.len() - tenth..].to_vec(),
        );
        Ok(())
    }

    /// The same root, started by bubblewrap: an interpreter with the same modules, and nothing kept.
    fn container(&mut self, root: &Path) -> Result<(), Failed> {
        for (what, code) in [
            ("bubblewrap to first reply", "print(1)"),
            (
                "bubblewrap to first reply, modules loaded",
                "import numpy, pandas, matplotlib.pyplot; print(1)",
            ),
        ] {
            let mut times = Vec::new();
            for _ in 0..self.plan.rounds.min(5) {
                let begun = Instant::now();
                let status = Outside::new("bwrap")
                    .args(["--unshare-all", "--die-with-parent", "--ro-bind"])
                    .arg(root)
                    .args([
                        "/",
                        "--proc",
                        "/proc",
                        "--dev",
                        "/dev",
                        "--tmpfs",
                        "/tmp",
                        "/usr/bin/python3",
                        "-c",
                        code,
                    ])
                    .stdout(Stdio::null())
                    .status()?;
                if !status.success() {
                    return Err(format!("bwrap ended with {status}").into());
                }
                times.push(milliseconds(begun));
            }
            self.row(what, (0, "arrays"), 0, "ms", times);
        }
        Ok(())
    }
}

/// What machines without an operating system are measured with: all memory is their own.
fn machine() -> Spec {
    Spec {
        memory_mib: 128,
        disk_mib: 16,
        ..Spec::default()
    }
}

/// What machines with a whole Linux are measured with.
fn linux() -> Spec {
    Spec {
        memory_mib: 256,
        disk_mib: 64,
        ..Spec::default()
    }
}

/// A machine that answers.
fn answer(world: &dyn Sandbox) -> Result<(), Failed> {
    match world.exec(&Command::line("true"), &mut |_, _| ())? {
        0 => Ok(()),
        code => Err(format!("the guest answered {code}").into()),
    }
}

fn run(world: &dyn Sandbox, code: &str) -> Result<(), Failed> {
    evaluate(world, code).map(|_| ())
}

/// A cell's value, which is a number.
fn value(world: &dyn Sandbox, code: &str) -> Result<f64, Failed> {
    let value = evaluate(world, code)?.ok_or_else(|| format!("{code}: no value"))?;
    Ok(value.parse()?)
}

fn evaluate(world: &dyn Sandbox, code: &str) -> Result<Option<String>, Failed> {
    let outcome = world.run(&Cell::new(code), &mut |_, _| ())?;
    match outcome.error {
        None => Ok(outcome.value),
        Some(error) => Err(format!("{code}: {}: {}", error.name, error.message).into()),
    }
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

/// Why CRIU is not measured here. A kernel that it does not know it refuses, and says so.
fn criu() -> String {
    match Outside::new("criu").arg("check").output() {
        Err(_) => "there is no `criu` on this host".into(),
        Ok(said) if said.status.success() => {
            "no host whose kernel its `criu` knows was at hand to try this on".into()
        }
        Ok(said) => {
            let why = String::from_utf8_lossy(&said.stderr);
            let last = why.trim().lines().last().unwrap_or_default();
            format!("`criu check` fails: {last}")
        }
    }
}

fn load() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ')
        .next()
        .and_then(|first| first.parse().ok())
        .unwrap_or(0.0)
}

/// Whether a program can be started by its name.
pub(crate) fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}
