//! Measures branching on this host, and prints the rows as JSON: `cargo run --release --example branch
//! FOLDER [small]`. FOLDER holds worlds and snapshots while it runs.

use worldline_sandbox::bench::{Plan, measure};
use worldline_sandbox::{Backend, Process, Settings};

fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments
        .next()
        .ok_or("name a folder for worlds and snapshots")?;
    let mut settings = Settings::new(&folder);
    if let Some(images) = std::env::var_os("WORLDLINE_IMAGES") {
        settings.images = images.into();
    }
    let process = Process::open(settings)?;
    let image = process
        .images()
        .build(false, &mut |step| eprintln!("{step}"))?;
    let mut plan = Plan::default();
    if arguments.next().is_some() {
        plan = Plan {
            heaps_mib: vec![64],
            branches: vec![1, 10],
            rounds: 5,
            generations: 20,
        };
    }
    let measured = measure(&process, &plan, Some(&image.root), &mut |step| {
        eprintln!("{} {step}", process.name())
    })?;
    println!("{}", serde_json::to_string_pretty(&measured)?);
    Ok(())
}
