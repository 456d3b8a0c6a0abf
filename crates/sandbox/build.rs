//! Builds the agent that runs inside worlds: one static program at a fixed address, without
//! dependencies, so a single call of the compiler that builds this crate is all it takes.

use std::env;
use std::path::PathBuf;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=guest");
    println!("cargo::rerun-if-changed=src/wire.rs");
    println!("cargo::rerun-if-changed=src/plan.rs");
    let target = |key: &str| env::var(format!("CARGO_CFG_TARGET_{key}")).unwrap_or_default();
    if target("OS") != "linux" || target("ARCH") != "x86_64" {
        return;
    }
    let output = PathBuf::from(env::var_os("OUT_DIR").expect("cargo names it")).join("agent");
    let status = Command::new(env::var_os("RUSTC").expect("cargo names it"))
        .args([
            "--edition",
            "2024",
            "--crate-type",
            "bin",
            "--crate-name",
            "worldline_agent",
        ])
        .args([
            "-O",
            "-Cpanic=abort",
            "-Cstrip=symbols",
            "-Cdebug-assertions=no",
        ])
        // Static and not relocatable: it must not need, nor be placed near, what a world contains.
        .args(["-Ctarget-feature=+crt-static", "-Crelocation-model=static"])
        .arg("-Clink-arg=-Wl,--image-base=0x60000000")
        .arg("-o")
        .arg(&output)
        .arg("guest/main.rs")
        .status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => panic!(
            "the agent did not build ({status}); its static link needs the C library's static form (Debian: libc6-dev)"
        ),
        Err(error) => panic!("the compiler cannot be started: {error}"),
    }
}
