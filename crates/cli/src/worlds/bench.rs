//! `worldline bench branch`: what keeping and branching code worlds costs on this host.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, anyhow};
use clap::Args;
use worldline_sandbox::bench::{Failed, Measured, Plan, measure, measure_linux, measure_machines};

use super::host;
use crate::bench::promise;
use crate::table;

#[derive(Args)]
pub(crate) struct Options {
    /// What is measured: processes with Python, or machines under Firecracker with a guest that has no operating system, or machines of 256 MiB with Linux under QEMU
    #[arg(long, value_parser = ["process", "firecracker", "qemu"], default_value = "process")]
    backend: String,
    /// Heaps of the worlds, in MiB
    #[arg(long = "heap", value_name = "MIB", value_delimiter = ',', default_values_t = Plan::default().heaps_mib)]
    heaps: Vec<u32>,
    /// Branches that are alive together
    #[arg(long, value_name = "N", value_delimiter = ',', default_values_t = Plan::default().branches)]
    branches: Vec<usize>,
    /// How often single operations are repeated
    #[arg(long, value_name = "N", default_value_t = Plan::default().rounds)]
    rounds: usize,
    /// Generations of branches of branches
    #[arg(long, value_name = "N", default_value_t = Plan::default().generations)]
    generations: usize,
    /// Folder in which worlds and snapshots are while it runs [default: for temporary files]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Hold the figures to the specification; the exit code says whether all are kept
    #[arg(long, conflicts_with = "json")]
    check: bool,
}

pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let plan = Plan {
        heaps_mib: options.heaps.clone(),
        branches: options.branches.clone(),
        rounds: options.rounds.max(1),
        generations: options.generations.max(1),
    };
    let measured = match options.backend.as_str() {
        "firecracker" => machines(options, &plan),
        "qemu" => linux(options, &plan),
        _ => processes(options, &plan),
    };
    let measured = match measured {
        // A host without the backend breaks no promise about it.
        Err(why) if options.check => {
            println!("skipped  the promises about {}: {why}", options.backend);
            return Ok(ExitCode::SUCCESS);
        }
        measured => measured?.map_err(|error| anyhow!(error))?,
    };
    for left_out in &measured.left_out {
        eprintln!("worldline: SKIPPED {left_out}");
    }
    if options.check {
        return Ok(promise::check(&promise::worlds(&measured)));
    }
    if options.json {
        table::json(&measured)?;
    } else {
        print(&measured);
    }
    Ok(ExitCode::SUCCESS)
}

fn processes(options: &Options, plan: &Plan) -> Result<Result<Measured, Failed>> {
    let (_folder, process) = host::scratch(options.data.as_deref(), host::READY)?;
    let image = process
        .images()
        .build(false, &mut |step| eprintln!("{step}"))?;
    Ok(measure(&process, plan, Some(&image.root), &mut |step| {
        eprintln!("{step}")
    }))
}

/// Without a jail, as the other figures are of what a branch costs, not of making its walls.
fn machines(options: &Options, plan: &Plan) -> Result<Result<Measured, Failed>> {
    let folder = host::folder(options.data.as_deref());
    let machines =
        host::firecracker(&folder.machines(), false, host::READY).map_err(|why| anyhow!(why))?;
    Ok(measure_machines(&machines, plan, &mut |step| {
        eprintln!("{step}")
    }))
}

fn linux(options: &Options, plan: &Plan) -> Result<Result<Measured, Failed>> {
    let folder = host::folder(options.data.as_deref());
    let qemu = host::qemu(&folder.qemu()).map_err(|why| anyhow!(why))?;
    let boot = |spec: &_| qemu.boot(spec).map_err(Into::into);
    Ok(measure_linux(&qemu, &boot, plan, &mut |step| {
        eprintln!("{step}")
    }))
}

fn print(measured: &Measured) {
    let [before, after] = measured.load;
    println!(
        "{}, {} processors, load {before} before and {after} after",
        measured.backend, measured.processors
    );
    for row in &measured.rows {
        let of = match (row.heap_mib, row.branches) {
            (0, _) => String::new(),
            (heap, 0) => format!(", {heap} MiB of {}", row.heap),
            (heap, branches) => format!(", {heap} MiB of {}, {branches} branches", row.heap),
        };
        println!(
            "{:9.1} {:3} (95 %: {:.1}, most: {:.1}, {} times)  {}{of}",
            row.median, row.unit, row.p95, row.max, row.count, row.what
        );
    }
}
