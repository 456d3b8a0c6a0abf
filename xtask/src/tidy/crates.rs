//! Which crate may depend on which, and what each must never know.

use std::collections::BTreeSet;

use super::Source;
use crate::env::{self, Outcome};
use crate::lint::NO_STD;

/// A room of the house.
struct Room {
    name: &'static str,
    /// The rooms it may depend on. Arrows point down only.
    may_use: &'static [&'static str],
    /// External packages that must not be among its dependencies.
    never_uses: &'static [&'static str],
    /// Words that must not occur in its sources (comments aside).
    never_says: &'static [&'static str],
}

const WEB: &[&str] = &[
    "axum",
    "hyper",
    "tower",
    "tungstenite",
    "tokio-tungstenite",
    "reqwest",
];
const OUTSIDE: &[&str] = &["axum", "hyper", "tokio", "tower", "tungstenite", "reqwest"];

const ROOMS: &[Room] = &[
    Room {
        name: "abi",
        may_use: &[],
        never_uses: &["tokio", "axum", "serde_json"],
        never_says: &[
            "f32",
            "f64",
            "std::net",
            "std::fs",
            "std::io",
            "std::time",
            "unsafe",
        ],
    },
    Room {
        name: "mamba2",
        may_use: &[],
        never_uses: OUTSIDE,
        never_says: &["std::net", "std::thread", "SessionState", "stocks"],
    },
    Room {
        name: "cartridge",
        may_use: &["abi", "mamba2"],
        never_uses: OUTSIDE,
        never_says: &[
            "std::net",
            "std::time",
            "std::thread",
            "SystemTime",
            "Instant::now",
        ],
    },
    Room {
        name: "syscall",
        may_use: &["mamba2"],
        never_uses: OUTSIDE,
        never_says: &["SessionState", "ModelManifest", "std::net"],
    },
    Room {
        name: "program-tests",
        may_use: &["abi", "mamba2", "cartridge", "syscall"],
        never_uses: OUTSIDE,
        never_says: &[],
    },
    Room {
        name: "trainer",
        may_use: &["abi", "mamba2", "cartridge"],
        never_uses: WEB,
        never_says: &["std::net"],
    },
    Room {
        name: "arena",
        may_use: &["abi", "mamba2", "cartridge"],
        never_uses: WEB,
        never_says: &["std::net", "http"],
    },
    Room {
        name: "cabinet",
        may_use: &["syscall"],
        never_uses: &[],
        never_says: &["SessionState", "worldline_cartridge", "run_inference"],
    },
    Room {
        name: "sandbox",
        may_use: &[],
        never_uses: OUTSIDE,
        never_says: &["verse", "money"],
    },
    Room {
        name: "runtime",
        may_use: &["abi", "arena", "sandbox"],
        never_uses: WEB,
        never_says: &["axum", "worldline_cartridge"],
    },
    Room {
        name: "chain",
        may_use: &["abi", "cartridge", "arena"],
        never_uses: &["axum", "hyper", "tokio", "tower", "litesvm"],
        never_says: &["worldline_server", "worldline_mamba2", "cartridge::step"],
    },
    Room {
        name: "server",
        may_use: &["abi", "cartridge", "arena", "sandbox", "runtime", "chain"],
        never_uses: &[],
        never_says: &["worldline_mamba2", "worldline_trainer"],
    },
    Room {
        name: "cli",
        may_use: &[
            "abi",
            "mamba2",
            "cartridge",
            "trainer",
            "arena",
            "server",
            "cabinet",
            "sandbox",
            "runtime",
            "chain",
        ],
        never_uses: &[],
        never_says: &[],
    },
    Room {
        name: "xtask",
        may_use: &[],
        never_uses: &[],
        never_says: &[],
    },
];

const PREFIX: &str = "worldline-";

/// Workspaces of their own, of which `cargo tree` says nothing here, and the rooms that each may
/// depend on.
const APART: &[(&str, &[&str])] = &[
    (
        "programs/world-model/Cargo.toml",
        &["abi", "mamba2", "cartridge"],
    ),
    ("clients/python/Cargo.toml", &["abi", "mamba2", "cartridge"]),
];

/// Backends of code worlds, side by side: none knows another.
const BACKENDS: [&str; 3] = ["process", "firecracker", "qemu"];

pub(super) fn check(sources: &[Source]) -> Outcome<Vec<String>> {
    let mut problems = dependencies(&tree()?);
    for source in sources {
        let Some(text) = &source.text else { continue };
        problems.extend(top_comment(&source.path, text));
        problems.extend(words(&source.path, text));
        problems.extend(apart(&source.path, text));
        problems.extend(backends(&source.path, text));
    }
    Ok(problems)
}

/// The manifest of a workspace of its own, line by line.
fn apart(path: &str, manifest: &str) -> Vec<String> {
    let Some((_, may_use)) = APART.iter().find(|(known, _)| *known == path) else {
        return Vec::new();
    };
    let ours = manifest
        .lines()
        .filter_map(|line| line.strip_prefix(PREFIX)?.split(' ').next());
    ours.filter(|below| !may_use.contains(below))
        .map(|below| format!("{path}: must not depend on {below}"))
        .collect()
}

/// `cargo tree`: every workspace member and its direct dependencies, on all targets.
fn tree() -> Outcome<String> {
    let mut command = env::cargo(&[
        "tree",
        "--workspace",
        "--all-features",
        "--target",
        "all",
        "--edges",
        "normal,build",
        "--depth",
        "1",
        "--prefix",
        "depth",
        "--locked",
    ])?;
    let output = command
        .output()
        .map_err(|error| format!("`cargo tree`: {error}"))?;
    if !output.status.success() {
        return Err(format!(
            "`cargo tree` failed:\n{}",
            String::from_utf8_lossy(&output.stderr)
        ));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Reads `0worldline-cli v0.1.0 (…)` and, below it, `1serde v1.0.0`.
fn dependencies(tree: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let mut seen = BTreeSet::new();
    let mut room: Option<&Room> = None;
    for line in tree.lines() {
        let Some(package) = line.get(1..).and_then(|rest| rest.split(' ').next()) else {
            continue;
        };
        let ours = package.strip_prefix(PREFIX);
        if line.starts_with('0') {
            let name = ours.unwrap_or(package);
            room = ROOMS.iter().find(|room| room.name == name);
            if room.is_none() {
                problems.push(format!(
                    "{package}: not in the table of rooms; say what it may use"
                ));
            }
            seen.insert(name.to_owned());
            continue;
        }
        let Some(room) = room else { continue };
        match ours {
            Some(below) if !room.may_use.contains(&below) => {
                problems.push(format!("{} must not depend on {below}", room.name));
            }
            None if room.never_uses.contains(&package) => {
                problems.push(format!("{} must never know {package}", room.name));
            }
            _ => {}
        }
    }
    for room in ROOMS.iter().filter(|room| !seen.contains(room.name)) {
        problems.push(format!(
            "{}: in the table of rooms, and no such crate",
            room.name
        ));
    }
    problems
}

/// Every crate says at its top what it is; a `no_std` crate says that it is one.
fn top_comment(path: &str, text: &str) -> Vec<String> {
    let is_root = path.ends_with("/src/lib.rs") || path.ends_with("/src/main.rs");
    if !is_root {
        return Vec::new();
    }
    let mut problems = Vec::new();
    if !text.starts_with("//! ") {
        problems.push(format!(
            "{path}: does not begin with a `//!` comment on what the crate is"
        ));
    }
    let no_std = NO_STD
        .iter()
        .filter_map(|package| package.strip_prefix(PREFIX))
        .any(|name| path == format!("crates/{name}/src/lib.rs"));
    if no_std
        && !["#![no_std]", ", no_std)]"]
            .iter()
            .any(|mark| text.contains(mark))
    {
        problems.push(format!("{path}: must be `no_std` at its core"));
    }
    problems
}

fn words(path: &str, text: &str) -> Vec<String> {
    let Some(room) = ROOMS
        .iter()
        .find(|room| path.starts_with(&format!("crates/{}/src/", room.name)))
    else {
        return Vec::new();
    };
    let mut problems = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        for word in room.never_says {
            if super::text::has_word(code, word) {
                let number = number + 1;
                problems.push(format!(
                    "{path}:{number}: {} must never know `{word}`",
                    room.name
                ));
            }
        }
    }
    problems
}

fn backends(path: &str, text: &str) -> Vec<String> {
    let inside = path.strip_prefix("crates/sandbox/src/").unwrap_or_default();
    let Some((own, _)) = inside
        .split_once('/')
        .filter(|(own, _)| BACKENDS.contains(own))
    else {
        return Vec::new();
    };
    let others = BACKENDS.iter().filter(|other| **other != own);
    others
        .filter(|other| text.contains(&format!("crate::{other}::")))
        .map(|other| format!("{path}: {own} must never know {other}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(lines: &[&str]) -> Vec<String> {
        let mut problems = dependencies(&lines.join("\n"));
        problems.retain(|problem| !problem.ends_with("no such crate"));
        problems
    }

    #[test]
    fn an_arrow_that_points_up_is_found() {
        let problems = of(&[
            "0worldline-cartridge v0.1.0 (x)",
            "1worldline-arena v0.1.0 (y)",
        ]);
        assert_eq!(problems, ["cartridge must not depend on arena"]);
    }

    #[test]
    fn a_pure_room_that_learns_of_the_web_is_found() {
        let problems = of(&[
            "0worldline-arena v0.1.0 (x)",
            "1axum v0.8.1",
            "1serde v1.0.0",
        ]);
        assert_eq!(problems, ["arena must never know axum"]);
    }

    #[test]
    fn a_room_that_nobody_described_is_found() {
        assert_eq!(of(&["0worldline-attic v0.1.0 (x)"]).len(), 1);
    }

    #[test]
    fn a_program_that_learns_of_the_arena_is_found() {
        let manifest = "worldline-abi = { path = \"x\" }\nworldline-arena = { path = \"y\" }\n";
        assert_eq!(apart(APART[0].0, manifest).len(), 1);
        assert!(apart("crates/server/Cargo.toml", manifest).is_empty());
    }

    #[test]
    fn a_backend_that_learns_of_another_is_found() {
        let text = "use crate::process::link;\n";
        assert_eq!(backends("crates/sandbox/src/qemu/world.rs", text).len(), 1);
        assert!(backends("crates/sandbox/src/process/world.rs", text).is_empty());
        assert!(backends("crates/sandbox/src/lib.rs", text).is_empty());
    }

    #[test]
    fn words_in_comments_are_allowed() {
        let path = "crates/abi/src/lib.rs";
        assert!(words(path, "// no f32 here\n").is_empty());
        assert_eq!(words(path, "let x: f32 = 0.0;\n").len(), 1);
    }
}
