//! Control groups: what a world may use, and what it has used. Version 2, version 1, or both at once,
//! as many hosts have them.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::kill;

/// How often a group is tried to be removed while the exit of its last process is on its way through the
/// kernel, and the wait between: four seconds, as a large world's memory takes time to go.
const REMOVE_TRIES: u32 = 2_000;
const REMOVE_WAIT: Duration = Duration::from_millis(2);
/// A group of another program's that has no process after this time has lost its program.
const OLD: Duration = Duration::from_secs(3600);

/// The folder of this program's groups in each hierarchy.
pub(crate) const PARENT: &str = "worldline";
/// The period over which processor time is shared out, in microseconds.
const PERIOD: u64 = 100_000;

/// Where this host has which controller.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hierarchies {
    /// The mounted version 2 hierarchy.
    unified: Option<PathBuf>,
    /// Controllers that version 2 can hand down.
    controllers: Vec<String>,
    /// Version 1 hierarchies by controller.
    legacy: Vec<(String, PathBuf)>,
}

/// What a world may use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) memory_bytes: u64,
    pub(crate) processes: u64,
    pub(crate) processors: u32,
}

/// What a world has used.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    pub(crate) memory_bytes: u64,
    pub(crate) cpu_nanoseconds: u64,
    pub(crate) processes: u64,
}

const WANTED: [&str; 5] = ["memory", "pids", "cpu", "cpuacct", "freezer"];

impl Hierarchies {
    /// Looks at what is mounted and may be written.
    pub(crate) fn find() -> Self {
        let mut found = Self::default();
        for line in fs::read_to_string("/proc/self/mounts")
            .unwrap_or_default()
            .lines()
        {
            let mut words = line.split(' ');
            let (Some(_), Some(at), Some(kind), Some(options)) =
                (words.next(), words.next(), words.next(), words.next())
            else {
                continue;
            };
            let at = PathBuf::from(at);
            if kind == "cgroup2" && writable(&at) {
                let controllers =
                    fs::read_to_string(at.join("cgroup.controllers")).unwrap_or_default();
                found.controllers = controllers.split_whitespace().map(str::to_owned).collect();
                found.unified = Some(at);
            } else if kind == "cgroup" {
                for name in WANTED
                    .iter()
                    .filter(|name| options.split(',').any(|option| option == **name))
                {
                    if writable(&at) && !found.legacy.iter().any(|(known, _)| known == name) {
                        found.legacy.push(((*name).to_owned(), at.clone()));
                    }
                }
            }
        }
        found
    }

    /// Whether a controller can be used, and by which version.
    pub(crate) fn version_of(&self, controller: &str) -> Option<u8> {
        if self.controllers.iter().any(|name| name == controller) {
            return Some(2);
        }
        self.legacy
            .iter()
            .any(|(name, _)| name == controller)
            .then_some(1)
    }

    /// Whether processes can be started right in a group, stopped and ended as one.
    pub(crate) fn has_unified(&self) -> bool {
        self.unified.is_some()
    }

    /// Whether groups can be made at all.
    pub(crate) fn is_usable(&self) -> bool {
        !self.folders().is_empty()
    }

    fn folders(&self) -> Vec<PathBuf> {
        let mut folders: Vec<PathBuf> = self.unified.iter().cloned().collect();
        folders.extend(self.legacy.iter().map(|(_, folder)| folder.clone()));
        folders.sort();
        folders.dedup();
        folders
    }

    /// Makes a group.
    pub(crate) fn create(&self, name: &str, limits: Limits) -> io::Result<Group> {
        let group = Group {
            of: self.clone(),
            name: name.to_owned(),
            unified: None,
        };
        for root in self.folders() {
            let parent = root.join(PARENT);
            fs::create_dir_all(&parent)?;
            if Some(&root) == self.unified.as_ref() {
                for controller in WANTED
                    .iter()
                    .filter(|name| self.controllers.iter().any(|known| known == **name))
                {
                    for above in [&root, &parent] {
                        let _ = fs::write(
                            above.join("cgroup.subtree_control"),
                            format!("+{controller}"),
                        );
                    }
                }
            }
            fs::create_dir(parent.join(name))?;
        }
        let mut group = group;
        group.set(limits)?;
        group.unified = group.unified_folder().map(File::open).transpose()?;
        Ok(group)
    }

    /// Removes the groups that a former run left, and of others' those that are long empty: programs that were
    /// killed have left them, over folders that nobody opens again.
    pub(crate) fn reap(&self, is_ours: impl Fn(&str) -> bool) -> usize {
        let mut left = BTreeSet::new();
        for root in self.folders() {
            for entry in fs::read_dir(root.join(PARENT))
                .into_iter()
                .flatten()
                .flatten()
            {
                let name = entry.file_name().to_string_lossy().into_owned();
                if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    continue;
                }
                if is_ours(&name) {
                    left.insert(name);
                } else if is_old(&entry) {
                    // The kernel removes none that has a process.
                    let _ = fs::remove_dir(entry.path());
                }
            }
        }
        let groups = left.iter().map(|name| Group {
            of: self.clone(),
            name: name.clone(),
            unified: None,
        });
        groups
            .filter(|group| {
                // One that was only half made has no processes, and is not everywhere.
                let _ = group.end();
                group.remove().is_ok()
            })
            .count()
    }
}

/// Whether a group was made so long ago that its processes cannot be still to come.
fn is_old(group: &fs::DirEntry) -> bool {
    let made = group.metadata().and_then(|about| about.modified());
    made.is_ok_and(|made| made.elapsed().is_ok_and(|age| age > OLD))
}

fn writable(folder: &Path) -> bool {
    let probe = folder.join(format!("worldline-probe-{}", std::process::id()));
    fs::create_dir(&probe)
        .and_then(|()| fs::remove_dir(&probe))
        .is_ok()
}

/// One world's group, in every hierarchy.
#[derive(Debug)]
pub(crate) struct Group {
    of: Hierarchies,
    name: String,
    unified: Option<File>,
}

impl Group {
    fn folder(&self, controller: &str) -> Option<(u8, PathBuf)> {
        let version = self.of.version_of(controller)?;
        let root = match version {
            2 => self.of.unified.clone()?,
            _ => self
                .of
                .legacy
                .iter()
                .find(|(name, _)| name == controller)?
                .1
                .clone(),
        };
        Some((version, root.join(PARENT).join(&self.name)))
    }

    fn unified_folder(&self) -> Option<PathBuf> {
        Some(self.of.unified.as_ref()?.join(PARENT).join(&self.name))
    }

    /// The folder that a process can be started in.
    pub(crate) fn descriptor(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        self.unified.as_ref().map(AsFd::as_fd)
    }

    /// Sets the limits. What this host cannot limit, `doctor` says.
    pub(crate) fn set(&self, limits: Limits) -> io::Result<()> {
        let write =
            |controller: &str, names: [&str; 2], value: &dyn Fn(u8) -> String| -> io::Result<()> {
                let Some((version, folder)) = self.folder(controller) else {
                    return Ok(());
                };
                let file = folder.join(names[usize::from(version) - 1]);
                fs::write(&file, value(version)).map_err(|error| {
                    io::Error::new(error.kind(), format!("{}: {error}", file.display()))
                })
            };
        write("memory", ["memory.limit_in_bytes", "memory.max"], &|_| {
            limits.memory_bytes.to_string()
        })?;
        write("pids", ["pids.max", "pids.max"], &|_| {
            limits.processes.to_string()
        })?;
        let quota = u64::from(limits.processors) * PERIOD;
        write(
            "cpu",
            ["cpu.cfs_quota_us", "cpu.max"],
            &|version| match version {
                2 => format!("{quota} {PERIOD}"),
                _ => quota.to_string(),
            },
        )?;
        // Without swap, the limit is on all of it; a kernel without that file has no swap accounting.
        if let Some((version, folder)) = self.folder("memory") {
            let (file, value) = if version == 2 {
                ("memory.swap.max", 0)
            } else {
                ("memory.swappiness", 0)
            };
            let _ = fs::write(folder.join(file), value.to_string());
        }
        Ok(())
    }

    /// Adds a process to the version 1 hierarchies.
    pub(crate) fn add(&self, pid: i32) -> io::Result<()> {
        for root in self
            .of
            .folders()
            .iter()
            .filter(|root| Some(*root) != self.of.unified.as_ref())
        {
            fs::write(
                root.join(PARENT).join(&self.name).join("cgroup.procs"),
                pid.to_string(),
            )?;
        }
        Ok(())
    }

    /// Adds a process in every hierarchy.
    pub(crate) fn admit(&self, pid: i32) -> io::Result<()> {
        if let Some(folder) = self.unified_folder() {
            fs::write(folder.join("cgroup.procs"), pid.to_string())?;
        }
        self.add(pid)
    }

    /// The processes in it, by their numbers on this host.
    pub(crate) fn processes(&self) -> io::Result<Vec<i32>> {
        let folder = self
            .unified_folder()
            .or_else(|| self.folder("pids").map(|(_, folder)| folder));
        let Some(folder) = folder else {
            return Ok(Vec::new());
        };
        Ok(fs::read_to_string(folder.join("cgroup.procs"))?
            .lines()
            .filter_map(|line| line.parse().ok())
            .collect())
    }

    /// Stops every process, or lets all go on. False where this host cannot.
    pub(crate) fn freeze(&self, stop: bool) -> io::Result<bool> {
        if let Some(folder) = self
            .unified_folder()
            .filter(|folder| folder.join("cgroup.freeze").exists())
        {
            fs::write(folder.join("cgroup.freeze"), if stop { "1" } else { "0" })?;
            return Ok(true);
        }
        let Some((_, folder)) = self.folder("freezer") else {
            return Ok(false);
        };
        fs::write(
            folder.join("freezer.state"),
            if stop { "FROZEN" } else { "THAWED" },
        )?;
        Ok(true)
    }

    /// What its processes use and have used.
    pub(crate) fn usage(&self) -> Usage {
        let number = |controller: &str, names: [&str; 2]| -> Option<u64> {
            let (version, folder) = self.folder(controller)?;
            fs::read_to_string(folder.join(names[usize::from(version) - 1]))
                .ok()?
                .trim()
                .parse()
                .ok()
        };
        let cpu = self.unified_folder().and_then(|folder| {
            let stat = fs::read_to_string(folder.join("cpu.stat")).ok()?;
            let micros: u64 = stat
                .lines()
                .find_map(|line| line.strip_prefix("usage_usec "))?
                .parse()
                .ok()?;
            Some(micros * 1_000)
        });
        Usage {
            memory_bytes: number("memory", ["memory.usage_in_bytes", "memory.current"])
                .unwrap_or_default(),
            cpu_nanoseconds: cpu
                .or_else(|| number("cpuacct", ["cpuacct.usage", "cpuacct.usage"]))
                .unwrap_or_default(),
            processes: self.processes().map_or(0, |all| all.len() as u64),
        }
    }

    /// How often the memory limit ended a process.
    pub(crate) fn killed_for_memory(&self) -> u64 {
        let Some((version, folder)) = self.folder("memory") else {
            return 0;
        };
        let file = if version == 2 {
            "memory.events"
        } else {
            "memory.oom_control"
        };
        let text = fs::read_to_string(folder.join(file)).unwrap_or_default();
        text.lines()
            .find_map(|line| line.strip_prefix("oom_kill "))
            .and_then(|count| count.trim().parse().ok())
            .unwrap_or(0)
    }

    /// Ends every process in it, stopped ones too.
    pub(crate) fn end(&self) -> io::Result<()> {
        if let Some(file) = self
            .unified_folder()
            .map(|folder| folder.join("cgroup.kill"))
            .filter(|file| file.exists())
        {
            fs::write(file, "1")?;
        }
        for pid in self.processes()? {
            kill(pid);
        }
        self.freeze(false).map(drop)
    }

    /// Removes the group; its processes have to be gone.
    pub(crate) fn remove(&self) -> io::Result<()> {
        let mut first = Ok(());
        for root in self.of.folders() {
            let folder = root.join(PARENT).join(&self.name);
            let mut removed = fs::remove_dir(&folder);
            // The last process's exit may still be on its way through the kernel.
            for _ in 0..REMOVE_TRIES {
                match &removed {
                    Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                        std::thread::sleep(REMOVE_WAIT);
                        removed = fs::remove_dir(&folder);
                    }
                    _ => break,
                }
            }
            if !matches!(&removed, Err(error) if error.kind() == io::ErrorKind::NotFound) {
                first = first.and(removed);
            }
        }
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    #[test]
    fn groups_that_nobody_has_any_more_are_removed() {
        let all = Hierarchies::find();
        if !all.is_usable() {
            return eprintln!("IGNORED: this host lets us make no control groups");
        }
        let limits = Limits {
            memory_bytes: 1 << 30,
            processes: 64,
            processors: 1,
        };
        let name = |what: &str| format!("test-{}-{what}", std::process::id());
        let [old, new] = ["old", "new"].map(|what| all.create(&name(what), limits).unwrap());
        let places = |group: &Group| -> Vec<PathBuf> {
            let all = all.folders().into_iter();
            all.map(|root| root.join(PARENT).join(&group.name))
                .filter(|place| place.exists())
                .collect()
        };
        let long_ago = SystemTime::now() - 2 * OLD;
        for place in places(&old) {
            File::open(place).unwrap().set_modified(long_ago).unwrap();
        }
        assert_eq!(all.reap(|_| false), 0);
        assert_eq!(places(&old), Vec::<PathBuf>::new());
        assert!(!places(&new).is_empty());
        new.remove().unwrap();
    }
}
