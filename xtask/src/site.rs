//! Packages and builds of the folders that npm looks after.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::env::{self, Outcome};
use crate::run;

/// The site's folder.
pub(crate) fn folder() -> PathBuf {
    env::root().join("web")
}

/// What `npm run build` makes.
pub(crate) fn built() -> PathBuf {
    folder().join("dist")
}

/// An npm command in `folder`, quiet and without colours, so that its output can be read.
pub(crate) fn npm(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(if cfg!(windows) { "npm.cmd" } else { "npm" });
    command
        .args(arguments)
        .current_dir(folder)
        .env("NO_COLOR", "1")
        .env("CI", "true");
    command
}

/// Installs the locked packages of `folder`, unless exactly these are installed already.
pub(crate) fn install(folder: &Path) -> Outcome {
    let lock = folder.join("package-lock.json");
    let wanted = fs::read(&lock).map_err(|error| format!("{}: {error}", lock.display()))?;
    let stamp = folder.join("node_modules").join(".worldline-lock");
    if fs::read(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    run::finish(&mut npm(
        folder,
        &["ci", "--no-audit", "--no-fund", "--loglevel=error"],
    ))?;
    // A folder without dependencies has no node_modules to put the stamp in.
    fs::create_dir_all(folder.join("node_modules"))
        .and_then(|()| fs::write(&stamp, &wanted))
        .map_err(|error| format!("{}: {error}", stamp.display()))
}

/// Installs the site's packages and builds it.
pub(crate) fn build() -> Outcome {
    env::require_node()?;
    run::step("site packages", || install(&folder()))?;
    run::step("site build", || {
        run::finish(&mut npm(&folder(), &["run", "--silent", "build"]))
    })
}
