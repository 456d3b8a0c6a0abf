//! Where things are, and whether the tools at hand will do.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A problem, in words for the person at the terminal.
pub(crate) type Outcome<T = ()> = Result<T, String>;

/// Oldest Node that the site's build tool and the browser test run on.
pub(crate) const NODE_MINIMUM: (u32, u32) = (20, 19);
/// Oldest npm that reads the site's lock file as written.
pub(crate) const NPM_MINIMUM: (u32, u32) = (9, 0);

/// The repository's root.
pub(crate) fn root() -> PathBuf {
    let here = std::env::var_os("CARGO_MANIFEST_DIR")
        .map(PathBuf::from)
        .unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")));
    here.parent().map(Path::to_path_buf).unwrap_or(here)
}

/// The folder for everything that is worth keeping between clones: `$XDG_CACHE_HOME/worldline`,
/// or `~/.cache/worldline`.
pub(crate) fn cache() -> Outcome<PathBuf> {
    let named = |key| {
        std::env::var_os(key)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let base = named("XDG_CACHE_HOME")
        .filter(|path| path.is_absolute())
        .or_else(|| named("HOME").map(|home| home.join(".cache")))
        .or_else(|| named("LOCALAPPDATA"))
        .ok_or("no cache folder: set XDG_CACHE_HOME or HOME")?;
    Ok(base.join("worldline"))
}

/// Cargo's target folder: `$CARGO_TARGET_DIR` if set, else one in the cache, so that a second clone
/// starts warm.
pub(crate) fn target() -> Outcome<PathBuf> {
    match std::env::var_os("CARGO_TARGET_DIR").filter(|value| !value.is_empty()) {
        Some(path) => Ok(root().join(path)),
        None => Ok(cache()?.join("target")),
    }
}

/// A cargo command that builds in [`target`].
pub(crate) fn cargo(arguments: &[&str]) -> Outcome<Command> {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command
        .args(arguments)
        .current_dir(root())
        .env("CARGO_TARGET_DIR", target()?);
    // What Cargo told this program of itself is no affair of what it builds; the build script of `ring` is run
    // again where it differs, and all that stands on it is built again.
    for (name, _) in std::env::vars_os() {
        let told = ["CARGO_PKG_", "CARGO_MANIFEST_"];
        let is_told = |name: &str| told.iter().any(|prefix| name.starts_with(prefix));
        if name.to_str().is_some_and(is_told) {
            command.env_remove(name);
        }
    }
    Ok(command)
}

/// Fails, in words, unless Node and npm are present and new enough.
pub(crate) fn require_node() -> Outcome {
    require("node", "Node.js", NODE_MINIMUM, "https://nodejs.org")?;
    require(
        "npm",
        "npm",
        NPM_MINIMUM,
        "https://nodejs.org (npm comes with Node)",
    )
}

fn require(program: &str, name: &str, minimum: (u32, u32), from: &str) -> Outcome {
    let wanted = format!("{name} {}.{} or newer is needed", minimum.0, minimum.1);
    let said = printed(program, &["--version"])
        .ok_or_else(|| format!("{wanted}, and `{program}` was not found. Get it from {from}."))?;
    match version(&said) {
        Some(found) if found >= minimum => Ok(()),
        Some(_) => Err(format!(
            "{wanted}, and this is {}. Get it from {from}.",
            said.trim()
        )),
        None => Err(format!(
            "{wanted}, and `{program} --version` says {said:?}."
        )),
    }
}

/// What a command prints, if it can be started and succeeds.
pub(crate) fn printed(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Major and minor of `v20.19.1`, `11.4`, ….
fn version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.trim().trim_start_matches('v').split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// The first of `names` that is an executable on the path.
pub(crate) fn on_path(names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    names
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)))
        .find(|candidate| candidate.is_file())
}

/// Whether this process may install system packages.
pub(crate) fn is_administrator() -> bool {
    printed("id", &["-u"]).is_some_and(|id| id.trim() == "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_with_and_without_their_v() {
        assert_eq!(version("v20.19.1\n"), Some((20, 19)));
        assert_eq!(version("11.4"), Some((11, 4)));
        assert_eq!(version("nonsense"), None);
    }
}
