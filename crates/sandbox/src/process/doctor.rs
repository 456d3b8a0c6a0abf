//! What this host gives and lacks, in words.

use std::fs;
use std::path::Path;

use super::sys;
use crate::host::{self, cgroup::Hierarchies};
use crate::model::{Capability, Report};

/// Whether the kernel restricts files by path.
pub(super) fn has_landlock() -> bool {
    sys::landlock_version() > 0
}

pub(super) fn report(hierarchies: &Hierarchies, pager: bool) -> Report {
    let read = |path: &str| {
        fs::read_to_string(path)
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    let mut all = Vec::new();
    let mut say = |name, present, yes: String, no: &str| {
        all.push(Capability {
            name,
            present,
            note: if present { yes } else { no.into() },
        });
    };
    let namespaces = ["user", "pid", "mnt", "net", "ipc", "uts", "cgroup"];
    let missing: Vec<_> = namespaces
        .iter()
        .filter(|name| !Path::new(&format!("/proc/self/ns/{name}")).exists())
        .collect();
    let allowed = read("/proc/sys/user/max_user_namespaces") != "0";
    let isolated = missing.is_empty() && allowed;
    say(
        "namespaces",
        isolated,
        "each world has seven of its own".into(),
        "no world can be made: the kernel lacks namespaces or forbids them",
    );
    let overlay = read("/proc/filesystems")
        .lines()
        .any(|line| line.ends_with("overlay"));
    say(
        "overlay",
        overlay,
        "a world's disk is a layer over its image".into(),
        "no world can be made: the kernel has no overlay file system",
    );
    say(
        "administrator",
        host::is_root(),
        "worlds run as users of no one's".into(),
        "worlds run as you: their processes have your rights where a namespace does not hold, and no control group may limit them",
    );
    say(
        "early branches",
        pager,
        "a branch begins before its snapshot is written".into(),
        "a snapshot's first branch waits until its memory is written: /dev/userfaultfd is not there, or not for you",
    );
    for (name, without) in [
        (
            "memory",
            "memory is not limited: a world can take all of the host's",
        ),
        (
            "pids",
            "processes are not limited: only a number per user holds",
        ),
        ("cpu", "processor time is not shared out"),
    ] {
        let version = hierarchies.version_of(name);
        say(
            name,
            version.is_some(),
            format!(
                "limited by control groups, version {}",
                version.unwrap_or_default()
            ),
            without,
        );
    }
    let freezer = hierarchies.has_unified() || hierarchies.version_of("freezer").is_some();
    say(
        "pause",
        freezer,
        "worlds can be paused".into(),
        "worlds cannot be paused",
    );
    say(
        "seccomp",
        Path::new("/proc/sys/kernel/seccomp").exists(),
        "an allow-list of system calls".into(),
        "no world can be made: the kernel does not filter system calls",
    );
    let landlock = sys::landlock_version();
    say(
        "landlock",
        landlock > 0,
        format!("version {landlock}"),
        "files are held by the world's root alone",
    );
    say(
        "snapshots",
        Path::new("/proc/self/pagemap").exists(),
        "taken from outside, written in the background, and kept over restarts; not with threads, other processes, or bytes in pipes".into(),
        "worlds cannot be kept",
    );
    say(
        "network",
        false,
        String::new(),
        "worlds have a loopback of their own, and reach nothing else",
    );
    let usable = isolated && overlay;
    Report {
        backend: "process",
        usable,
        capabilities: all,
    }
}
