//! Sizes of files, and where the lock files get their packages from.

use super::Source;

/// No file is larger, except where [`ROOMY`] says so.
const FILE_MAX: u64 = 256 << 10;

/// Folders whose files may be larger, and how large (bytes).
const ROOMY: &[(&str, u64)] = &[
    ("worlds/", 24 << 20),
    ("docs/images/", 1 << 20),
    ("crates/mamba2/tests/data/", 1 << 20),
    ("crates/trainer/tests/data/", 1 << 20),
    ("tests/interop/surfpool/Cargo.lock", 1 << 20),
];

/// Every package is something that a newcomer may download and build. The Solana runtime is 250 of
/// them, for the chain in a box and for the program's tests.
const CARGO_PACKAGES_MAX: usize = 730;
/// The same for the site.
const NPM_PACKAGES_MAX: usize = 320;

pub(super) fn check(sources: &[Source]) -> Vec<String> {
    let mut problems = Vec::new();
    for source in sources {
        let path = &source.path;
        let limit = ROOMY
            .iter()
            .find(|(folder, _)| path.starts_with(folder))
            .map_or(FILE_MAX, |&(_, limit)| limit);
        if source.bytes > limit {
            problems.push(format!(
                "{path}: {} bytes, and the limit here is {limit}",
                source.bytes
            ));
        }
        let Some(text) = &source.text else { continue };
        if path == "Cargo.lock" {
            problems.extend(cargo_lock(text));
        } else if path.ends_with("package-lock.json") {
            problems.extend(npm_lock(path, text));
        }
    }
    problems
}

fn cargo_lock(text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    for line in text
        .lines()
        .filter_map(|line| line.strip_prefix("source = "))
    {
        if line != "\"registry+https://github.com/rust-lang/crates.io-index\"" {
            problems.push(format!(
                "Cargo.lock: a package comes from {line}, not from crates.io"
            ));
        }
    }
    let count = text.lines().filter(|line| *line == "[[package]]").count();
    if count > CARGO_PACKAGES_MAX {
        problems.push(format!(
            "Cargo.lock: {count} packages, and the cap is {CARGO_PACKAGES_MAX}"
        ));
    }
    problems
}

fn npm_lock(path: &str, text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    for line in text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("\"resolved\": "))
    {
        // Registries, and other folders of this repository.
        if !line.starts_with("\"https://registry.npmjs.org/") && !line.starts_with("\"../") {
            problems.push(format!(
                "{path}: a package comes from {line}, not from npmjs.org"
            ));
        }
    }
    let count = text
        .lines()
        .filter(|line| line.starts_with("    \"node_modules/"))
        .count();
    if count > NPM_PACKAGES_MAX {
        problems.push(format!(
            "{path}: {count} packages, and the cap is {NPM_PACKAGES_MAX}"
        ));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_file_is_found_outside_worlds_only() {
        let of = |path: &str| Source {
            path: path.into(),
            bytes: FILE_MAX + 1,
            text: None,
        };
        assert_eq!(check(&[of("worlds/a.cart"), of("crates/a.bin")]).len(), 1);
    }

    #[test]
    fn a_package_from_elsewhere_is_found() {
        assert_eq!(
            cargo_lock("source = \"git+https://example.org/x\"\n").len(),
            1
        );
        assert_eq!(
            npm_lock("l", "      \"resolved\": \"https://example.org/x.tgz\",\n").len(),
            1
        );
    }
}
