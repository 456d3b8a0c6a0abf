//! Prints the timings of [`worldline_mamba2::bench`]: `cargo run --release --example speed`.

use worldline_mamba2::{bench, sample::Size};

fn main() {
    for (name, size) in [
        ("micro", Size::MICRO),
        ("small", Size::SMALL),
        ("full", Size::FULL),
    ] {
        let report = bench::frame(size, 300);
        let read = report.read.median;
        println!(
            "{name}: {} weight bytes, read {read:?}",
            report.weight_bytes
        );
        for (kernel, time) in &report.frames {
            let ratio = time.median.as_secs_f64() / read.as_secs_f64();
            println!(
                "  {kernel:12} {:?}, least {:?}, p99 {:?}, {ratio:.2} reads",
                time.median, time.least, time.p99
            );
        }
        let report = bench::batch(size, 64, 20);
        println!(
            "  single {:?}\n  batch  {:?}, {:.2} times",
            report.single,
            report.batch,
            report.speedup()
        );
    }
}
