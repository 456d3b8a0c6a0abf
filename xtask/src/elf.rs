//! `cargo xtask elf`: builds the Solana program, without Solana's own toolchain.
//!
//! The compiler is Debian's (it comes with the matching source of the standard library), the linker a
//! crate. Both are unpacked into the cache folder; nothing is installed. The built ELF is committed
//! beside its source, so that playing and testing need none of this.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::env::{self, Outcome};
use crate::run;

const HELP: &str = "\
cargo xtask elf [--check]

Builds programs/world-model for the Solana virtual machine and puts the ELF and its SHA-256 beside
the source. The compiler is unpacked from Debian's packages into the cache folder (140 MB), the
linker is built from crates.io.

  --check  build it again and compare with the committed bytes; skipped, and said so, where the
           recorded compiler cannot be had";

/// Debian's packages: a compiler, its LLVM, and the source of the standard library.
const PACKAGES: [(&str, &str); 5] = [
    ("libllvm22", "1:22.1.8-1~deb12u1"),
    ("libstd-rust-web-1.96", RUST),
    ("libstd-rust-web-dev", RUST),
    ("rust-web-src", RUST),
    ("rustc-web", RUST),
];
/// The compiler's version, as Debian numbers it.
const RUST: &str = "1.96.0+dfsg1-1~deb12u2";
/// The linker's version on crates.io.
const LINKER: &str = "0.2.6";
/// What LLVM says of the four functions that the program brings itself; any other error is one.
const EXPECTED: &str = "A call to built-in function 'mem";

/// A compiler and a linker in the cache.
struct Toolchain {
    compiler: PathBuf,
    libraries: PathBuf,
    linker: PathBuf,
}

pub(crate) fn main(arguments: &[String]) -> Outcome {
    let check = match arguments {
        [] => false,
        [one] if one == "--check" => true,
        [one] if one == "-h" || one == "--help" => {
            println!("{HELP}");
            return Ok(());
        }
        [other, ..] => return Err(format!("`{other}` is not an option of elf\n\n{HELP}")),
    };
    if check {
        return self::check().map(|_| ());
    }
    let built = run::step("toolchain", toolchain)
        .and_then(|toolchain| run::step("elf", || build(&toolchain, "")))?;
    let bytes = fs::read(&built).map_err(|error| format!("{}: {error}", built.display()))?;
    let kept = folder().join("world_model.so");
    fs::write(&kept, &bytes).map_err(|error| format!("{}: {error}", kept.display()))?;
    let hash = env::printed("sha256sum", &[&kept.to_string_lossy()])
        .and_then(|line| Some(line.split(' ').next()?.to_owned()))
        .ok_or("`sha256sum` could not hash the ELF")?;
    let note = format!("{hash}  world_model.so\n");
    fs::write(folder().join("world_model.so.sha256"), note)
        .map_err(|error| format!("the ELF's hash could not be written: {error}"))?;
    println!("{} bytes, SHA-256 {hash}", bytes.len());
    Ok(())
}

/// Builds the program again and compares. False, and said so, where the compiler cannot be had.
pub(crate) fn check() -> Outcome<bool> {
    let toolchain = match run::step("toolchain", toolchain) {
        Ok(toolchain) => toolchain,
        Err(reason) => {
            println!("── elf: SKIPPED, the recorded compiler cannot be had here: {reason}");
            return Ok(false);
        }
    };
    let built = run::step("elf", || build(&toolchain, ""))?;
    let bytes = fs::read(&built).map_err(|error| format!("{}: {error}", built.display()))?;
    let committed = fs::read(folder().join("world_model.so")).unwrap_or_default();
    if bytes != committed {
        return Err(format!(
            "the committed ELF is not what its source builds ({} bytes, {} built): run `cargo xtask elf`",
            committed.len(),
            bytes.len()
        ));
    }
    println!(
        "the committed ELF is what its source builds: {} bytes",
        bytes.len()
    );
    Ok(true)
}

fn folder() -> PathBuf {
    env::root().join("programs").join("world-model")
}

/// Finds or makes the toolchain in the cache folder.
fn toolchain() -> Outcome<Toolchain> {
    let cache = env::cache()?.join(format!("elf-{RUST}-{LINKER}"));
    let unpacked = cache.join("debian");
    let toolchain = Toolchain {
        compiler: unpacked.join("usr/bin/rustc"),
        libraries: unpacked.join("usr/lib/x86_64-linux-gnu"),
        linker: cache.join("linker/bin/sbpf-linker"),
    };
    if !toolchain.compiler.is_file() {
        unpack(&cache, &unpacked)?;
    }
    if !toolchain.linker.is_file() {
        let root = cache.join("linker");
        let mut command = env::cargo(&["install", "sbpf-linker", "--version", LINKER, "--locked"])?;
        run::finish(command.arg("--root").arg(root))?;
    }
    Ok(toolchain)
}

/// Downloads the packages with apt and unpacks them beside each other.
fn unpack(cache: &Path, to: &Path) -> Outcome {
    for tool in ["apt-get", "dpkg-deb"] {
        if env::on_path(&[tool]).is_none() {
            return Err(format!(
                "`{tool}` was not found; the compiler is Debian bookworm's"
            ));
        }
    }
    let packages = cache.join("packages");
    fs::create_dir_all(&packages).map_err(|error| format!("{}: {error}", packages.display()))?;
    let mut download = Command::new("apt-get");
    download.arg("download").current_dir(&packages);
    download.args(PACKAGES.map(|(name, version)| format!("{name}={version}")));
    run::finish(&mut download).map_err(|problem| {
        format!("{problem}; Debian bookworm-security must be among the sources, and up to date")
    })?;
    let listed = fs::read_dir(&packages).map_err(|error| error.to_string())?;
    // Unpacked beside its name first: a folder by that name is whole.
    let half = cache.join("half");
    for entry in listed.flatten() {
        let mut unpack = Command::new("dpkg-deb");
        run::finish(unpack.arg("-x").arg(entry.path()).arg(&half))?;
    }
    fs::rename(&half, to).map_err(|error| format!("{}: {error}", to.display()))
}

/// The program with an instruction that measures itself; the path of its ELF.
pub(crate) fn measuring() -> Outcome<PathBuf> {
    let toolchain = run::step("toolchain", toolchain)?;
    run::step("elf", || build(&toolchain, "measure"))
}

/// Builds the program with these features; the path of the ELF.
fn build(toolchain: &Toolchain, features: &str) -> Outcome<PathBuf> {
    let target = env::target()?.join(format!("elf{features}"));
    let log = target.join("link.log");
    fs::create_dir_all(&target).map_err(|error| format!("{}: {error}", target.display()))?;
    let _ = fs::remove_file(&log);
    let root = env::root();
    let registry = cargo_home()?.join("registry").join("src");
    let flags = [
        "-Ctarget-cpu=v2".into(),
        "-Clink-arg=--arch=v3".into(),
        "-Clink-arg=--llvm-args=-bpf-stack-size=4096".into(),
        "-Clink-arg=--cpu-features=+allows-misaligned-mem-access".into(),
        // LLVM calls the program's own memcpy and its like, and reports each as an error.
        "-Clink-arg=--fatal-errors=false".into(),
        "-Clink-arg=--log-level=error".into(),
        format!("-Clink-arg=--log-file={}", log.display()),
        // No line numbers: a comment that moves a line changes no byte.
        "-Zlocation-detail=none".into(),
        // The same bytes wherever the clone and the cache are.
        format!("--remap-path-prefix={}=worldline", root.display()),
        format!("--remap-path-prefix={}=registry", registry.display()),
    ];
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .args([
            "build",
            "--release",
            "--locked",
            "--target",
            "bpfel-unknown-none",
            "--features",
            features,
        ])
        .current_dir(folder())
        .env("RUSTC", &toolchain.compiler)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("LD_LIBRARY_PATH", &toolchain.libraries)
        .env("CARGO_TARGET_DIR", &target)
        .env("CARGO_UNSTABLE_BUILD_STD", "core,alloc")
        .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", &toolchain.linker)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"))
        .env_remove("RUSTFLAGS")
        .env_remove("RUSTC_WRAPPER");
    // Cargo's own toolchain of this build must not choose the compiler.
    command.env_remove("RUSTUP_TOOLCHAIN");
    run::finish(&mut command)?;
    let said = fs::read_to_string(&log).unwrap_or_default();
    let problems: Vec<&str> = said
        .lines()
        .filter(|line| line.contains("ERROR") && !line.contains(EXPECTED))
        .collect();
    if !problems.is_empty() {
        return Err(format!("the linker's LLVM says:\n{}", problems.join("\n")));
    }
    Ok(target.join("bpfel-unknown-none/release/libworld_model.so"))
}

fn cargo_home() -> Outcome<PathBuf> {
    std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")))
        .ok_or_else(|| "no cargo folder: set CARGO_HOME or HOME".into())
}
