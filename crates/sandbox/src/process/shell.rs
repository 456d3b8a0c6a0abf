//! An empty world: namespaces, a control group, an agent that waits. Making one costs most of what a
//! world costs, so some are kept ready.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, lchown};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::disk;
use super::store::{DISK, SNAPSHOTS};
use super::sys::{self, Child};
use crate::host::cgroup::{Group, Hierarchies, Limits};
use crate::host::{self, FIRST_USER, fresh, owner};
use crate::limits::{DISK_MIB, MAX_OPEN_FILES, MAX_PROCESSES};
use crate::link::Link;
use crate::model::Spec;
use crate::wire::{Put, kind};

/// How many they see.
pub(super) const USERS: u32 = 65_536;
/// What a world may do within its own namespaces, and nowhere else: owning, changing and moving among
/// its users and files, signalling its own, and serving low ports. In the order of the kernel's numbers:
/// CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, NET_BIND_SERVICE.
const CAPABILITIES: u64 = 1 | 1 << 1 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 10;

/// Folder of worlds, in the data folder.
pub(super) const WORLDS: &str = "worlds";
/// What a world writes, in its folder.
pub(super) const UPPER: &str = "upper";
/// How an agent reaches the data folder and the images: as the descriptors that it was born with.
const DATA: &str = "/proc/self/fd/4";
const IMAGES: &str = "/proc/self/fd/5";

/// What all worlds of a backend share.
pub(super) struct Host {
    /// Folder of worlds and snapshots.
    pub(super) data: PathBuf,
    /// Folder of images.
    pub(super) images: PathBuf,
    pub(super) hierarchies: Hierarchies,
    pub(super) agent: OwnedFd,
    pub(super) filter: Vec<u8>,
    pub(super) landlock: bool,
    /// Begins the name of each of this backend's control groups.
    pub(super) prefix: String,
}

/// An empty world.
pub(super) struct Shell {
    pub(super) id: String,
    pub(super) folder: PathBuf,
    pub(super) child: Child,
    pub(super) link: Arc<Link>,
    pub(super) group: Group,
}

impl Host {
    /// Makes an empty world.
    pub(super) fn make(&self) -> io::Result<Shell> {
        let step = |doing: &'static str| {
            move |error: io::Error| io::Error::new(error.kind(), format!("{doing}: {error}"))
        };
        let id = fresh("world")?;
        let folder = self.data.join(WORLDS).join(&id);
        let (user, group_id) = owner();
        for path in [
            folder.clone(),
            folder.join(UPPER),
            folder.join("work"),
            folder.join("root"),
        ] {
            fs::create_dir(&path).map_err(step("making a folder"))?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
            lchown(&path, Some(user), Some(group_id))
                .map_err(step("giving a folder to the world"))?;
        }
        let made = self.start(id, folder.clone());
        if made.is_err() {
            let _ = disk::remove_all(&folder);
        }
        made
    }

    fn start(&self, id: String, folder: PathBuf) -> io::Result<Shell> {
        let step = |doing: &'static str| {
            move |error: io::Error| io::Error::new(error.kind(), format!("{doing}: {error}"))
        };
        let group = self
            .hierarchies
            .create(&format!("{}-{id}", self.prefix), limits(&Spec::default()))
            .map_err(step("making a control group"))?;
        let begin = || -> io::Result<(Child, Arc<Link>)> {
            let (ours, theirs) = UnixStream::pair()?;
            let child = sys::start(
                self.agent.as_fd(),
                sys::NAMESPACES,
                group.descriptor(),
                theirs,
                [&self.data, &self.images],
            )
            .map_err(step("making namespaces"))?;
            let prepared = map_users(child.pid)
                .and_then(|()| group.add(child.pid))
                .and_then(|()| io::Write::write_all(&mut &ours, &[1]))
                .and_then(|()| Link::new(ours));
            match prepared {
                Ok(link) => Ok((child, link)),
                Err(error) => {
                    let _ = child.end();
                    Err(error)
                }
            }
        };
        match begin() {
            Ok((child, link)) => Ok(Shell {
                id,
                folder,
                child,
                link,
                group,
            }),
            Err(error) => {
                let _ = group.remove();
                Err(error)
            }
        }
    }
}

impl Shell {
    /// Gives it its limits and its root: under what it writes, the disks of snapshots, the top one first,
    /// and the image.
    pub(super) fn furnish(
        &self,
        host: &Host,
        spec: &Spec,
        disks: &[String],
        image: &Path,
    ) -> io::Result<()> {
        self.group.set(limits(spec))?;
        let image = image
            .strip_prefix(&host.images)
            .map_err(io::Error::other)?
            .display();
        let mut layers: Vec<String> = disks
            .iter()
            .map(|id| format!("{DATA}/{SNAPSHOTS}/{id}/{DISK}"))
            .collect();
        layers.push(format!("{IMAGES}/{image}"));
        let mut put = Put::default()
            .bytes(self.id.trim_start_matches("world-"))
            .bytes(format!("{DATA}/{WORLDS}/{}", self.id))
            .list(layers)
            .u64(CAPABILITIES)
            .u32(host.landlock.into())
            .bytes(&host.filter);
        let resources = [
            (libc::RLIMIT_CORE, [0; 2]),
            (libc::RLIMIT_NOFILE, [MAX_OPEN_FILES; 2]),
            (libc::RLIMIT_NPROC, [MAX_PROCESSES; 2]),
            (libc::RLIMIT_FSIZE, file_sizes(spec.disk_mib)),
            (libc::RLIMIT_MSGQUEUE, [0; 2]),
        ];
        put = put.u32(resources.len() as u32);
        for (resource, limit) in resources {
            put = put_limit(put, resource, limit);
        }
        self.link.ask(kind::SETUP, &put.0, &[]).map(drop)
    }

    /// Ends it, and removes all that it had.
    pub(super) fn end(&self) {
        self.link.close();
        let steps = [
            ("ending its first process", self.child.end()),
            ("removing its control group", self.group.remove()),
            ("removing its files", disk::remove_all(&self.folder)),
        ];
        for (doing, result) in steps {
            if let Err(error) = result {
                tracing::warn!(world = self.id, "{doing}: {error}");
            }
        }
    }
}

/// A limit as the agent reads it.
pub(super) fn put_limit(put: Put, resource: u32, [now, most]: [u64; 2]) -> Put {
    put.u32(resource).u64(now).u64(most)
}

/// How long a file may be: as much as the disk holds. It may become as much as any disk does, because the
/// disk may, and nobody can raise what a process may at most; how much there is in all is looked at from
/// outside.
pub(super) fn file_sizes(disk_mib: u32) -> [u64; 2] {
    [disk_mib, *DISK_MIB.end()].map(|mib| u64::from(mib) << 20)
}

fn limits(spec: &Spec) -> Limits {
    Limits {
        memory_bytes: u64::from(spec.memory_mib) << 20,
        processes: MAX_PROCESSES,
        processors: spec.vcpus,
    }
}

/// Maps users and groups: a range of no one's for the administrator, only oneself for others.
fn map_users(pid: i32) -> io::Result<()> {
    let (user, group) = host::identity();
    let map = |outside: u32| {
        if host::is_root() {
            format!("0 {FIRST_USER} {USERS}")
        } else {
            format!("0 {outside} 1")
        }
    };
    if !host::is_root() {
        fs::write(format!("/proc/{pid}/setgroups"), "deny")?;
    }
    fs::write(format!("/proc/{pid}/uid_map"), map(user))?;
    fs::write(format!("/proc/{pid}/gid_map"), map(group))
}
