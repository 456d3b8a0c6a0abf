//! A network of its own for each machine, with one tap device in it. A snapshot names its devices, and
//! its guest keeps its addresses; so every branch has a network in which those are nobody else's.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;

use crate::host::{self, leave_network};

/// The folder of names of networks.
const NETWORKS: &str = "networks";
/// The host's end of every machine's card.
pub(super) const TAP: &str = "tap0";

/// A network that lives as long as its name.
pub(super) struct Namespace {
    pub(super) path: PathBuf,
}

impl Namespace {
    /// Makes one, with a tap device for a user to open.
    pub(super) fn new(data: &Path, name: &str, owner: u32) -> io::Result<Self> {
        let folder = data.join(NETWORKS);
        fs::create_dir_all(&folder)?;
        let namespace = Self {
            path: folder.join(name),
        };
        File::create_new(&namespace.path)?;
        let onto = namespace.path.clone();
        // A thread's network can be another than its program's, so a thread makes it.
        let made = thread::spawn(move || {
            leave_network()?;
            host::bind(Path::new("/proc/thread-self/ns/net"), &onto)?;
            host::make_tap(TAP, owner)
        });
        let made = made
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        if made.is_err() {
            namespace.remove();
        }
        made.map(|()| namespace)
    }

    pub(super) fn remove(&self) {
        remove(&self.path);
    }
}

fn remove(path: &Path) {
    let _ = host::unbind(path);
    if let Err(error) = fs::remove_file(path) {
        tracing::warn!(network = %path.display(), "a machine's network stays: {error}");
    }
}

/// Removes networks that a killed program left.
pub(super) fn reap(data: &Path) {
    for entry in fs::read_dir(data.join(NETWORKS))
        .into_iter()
        .flatten()
        .flatten()
    {
        remove(&entry.path());
    }
}
