//! Project tasks: one command to play, one to test, one to keep the house in order.
//!
//! Standard library only, so that the first `cargo xtask` of a fresh clone builds in seconds. This
//! crate must never know what a match or a model is: it starts other programs (cargo, npm, the
//! `worldline` command, Chromium) and reads what they print.

mod bench;
mod elf;
mod env;
mod fuzz;
mod interop;
mod lint;
mod play;
mod python;
mod run;
mod site;
mod tally;
mod test;
mod tidy;
mod worlds;

use std::process::ExitCode;

const HELP: &str = "\
cargo xtask TASK

  play   set everything up, build, and start the arcade on loopback
  worlds the same with worlds that run code
  python build the Python package, and test it
  test   set everything up, and run every test: Rust, site, browser
  tidy   check the architecture's invariants
  lint   formatting, clippy, documentation, bare-metal builds, tidy
  ci     lint, then test
  fuzz   run the fuzz targets for a while
  bench  run the benchmarks and keep the raw runs under benches/runs/
  elf    build the Solana program, or check its committed ELF
  interop  play on MagicBlock's own validator over our box

`cargo xtask TASK --help` explains one task.";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let task = arguments.next().unwrap_or_default();
    let rest: Vec<String> = arguments.collect();
    let done = match task.as_str() {
        "play" => play::main(&rest),
        "worlds" => worlds::main(&rest),
        "python" => python::main(&rest),
        "test" => test::main(&rest),
        "tidy" => tidy::main(&rest),
        "lint" => lint::main(&rest),
        "ci" => lint::main(&rest).and_then(|()| test::main(&[])),
        "fuzz" => fuzz::main(&rest),
        "bench" => bench::main(&rest),
        "elf" => elf::main(&rest),
        "interop" => interop::main(&rest),
        "" | "help" | "-h" | "--help" => {
            println!("{HELP}");
            Ok(())
        }
        other => Err(format!("there is no task `{other}`\n\n{HELP}")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            if !problem.is_empty() {
                eprintln!("\nxtask: {problem}");
            }
            ExitCode::FAILURE
        }
    }
}
