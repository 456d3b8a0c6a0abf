//! Builds the two programs that run inside worlds, the agent, one static program at a fixed address, and
//! the guest of machines without an operating system; and the zygote of machine monitors. None has
//! dependencies, so a single call of the compiler that builds this crate is all that each takes.

use std::env;
use std::path::PathBuf;
use std::process::Command;

/// Static and not relocatable: the agent must not need, nor be placed near, what a world contains.
const AGENT: [&str; 4] = [
    "-Copt-level=3",
    "-Ctarget-feature=+crt-static",
    "-Crelocation-model=static",
    "-Clink-arg=-Wl,--image-base=0x60000000",
];
/// Nothing of the system's, at an address that a machine has memory at. Some hosts run each instruction of
/// a machine by hand and know few vector instructions, so the compiler is to make none of its own accord.
const METAL: [&str; 10] = [
    "-Copt-level=s",
    "-Coverflow-checks=no",
    "-Cno-vectorize-loops",
    "-Cno-vectorize-slp",
    "-Ctarget-feature=+crt-static",
    "-Crelocation-model=static",
    "-Clink-arg=-nostartfiles",
    "-Clink-arg=-static",
    "-Clink-arg=-Wl,--image-base=0x200000",
    "-Clink-arg=-Wl,--build-id=none",
];
/// What is loaded before another program.
const ZYGOTE: [&str; 2] = ["--crate-type=cdylib", "-Copt-level=s"];

fn main() {
    for path in [
        "guest",
        "metal",
        "zygote",
        "src/wire.rs",
        "src/frame.rs",
        "src/plan.rs",
    ] {
        println!("cargo::rerun-if-changed={path}");
    }
    let target = |key: &str| env::var(format!("CARGO_CFG_TARGET_{key}")).unwrap_or_default();
    if target("OS") != "linux" || target("ARCH") != "x86_64" {
        return;
    }
    build("agent", "guest/main.rs", &AGENT);
    build("metal", "metal/main.rs", &METAL);
    build("zygote", "zygote/lib.rs", &ZYGOTE);
}

fn build(name: &str, source: &str, options: &[&str]) {
    let output = PathBuf::from(env::var_os("OUT_DIR").expect("cargo names it")).join(name);
    let status = Command::new(env::var_os("RUSTC").expect("cargo names it"))
        .args(["--edition", "2024"])
        .args(["--crate-name", &format!("worldline_{name}")])
        .args(["-Cpanic=abort", "-Cstrip=symbols", "-Cdebug-assertions=no"])
        .args(options)
        .arg("-o")
        .arg(&output)
        .arg(source)
        .status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => panic!(
            "the {name} did not build ({status}); its static link needs the C library's static form (Debian: libc6-dev)"
        ),
        Err(error) => panic!("the compiler cannot be started: {error}"),
    }
}
