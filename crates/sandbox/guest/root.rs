//! The world's root: an overlay of the image and the world's own changes, with a private `/proc` and
//! the few devices that programs expect. The host's root is gone when this returns.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;

use crate::sys::{self, nr, sys};

const BIND: usize = 4096;
const REC: usize = 16384;
const PRIVATE: usize = 1 << 18;
const NOSUID: usize = 2;
const NODEV: usize = 4;
const NOEXEC: usize = 8;
const DETACH: usize = 2;

const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// What leads where in `/dev`.
pub const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// Makes the root. `world` is the world's folder (with `upper`, `work` and `root` in it), `layers`
/// the folders beneath, the top one first.
pub fn enter(world: &str, layers: &[String]) -> io::Result<()> {
    let step =
        |what: &'static str| move |error: io::Error| io::Error::other(format!("{what}: {error}"));
    sys::mount(c"", c"/", c"", REC | PRIVATE, c"").map_err(step("making mounts private"))?;
    let world = c(world.as_bytes())?;
    sys!(nr::CHDIR, world.as_ptr()).map_err(step("entering the world's folder"))?;
    let options = format!(
        "lowerdir={},upperdir=upper,workdir=work,userxattr",
        layers.join(":")
    );
    sys::mount(
        c"overlay",
        c"root",
        c"overlay",
        NODEV,
        &CString::new(options)?,
    )
    .map_err(step("mounting the root file system"))?;
    sys!(nr::CHDIR, c"root".as_ptr())?;
    for folder in ["proc", "dev", "sys", "tmp", "run", "root"] {
        let _ = fs::create_dir(folder);
    }
    sys::mount(c"proc", c"proc", c"proc", NOSUID | NODEV | NOEXEC, c"")
        .map_err(step("mounting /proc"))?;
    devices().map_err(step("making /dev"))?;
    sys!(nr::PIVOT_ROOT, c".".as_ptr(), c".".as_ptr()).map_err(step("changing the root"))?;
    sys!(nr::UMOUNT2, c".".as_ptr(), DETACH)?;
    sys!(nr::CHDIR, c"/".as_ptr()).map(drop)
}

fn devices() -> io::Result<()> {
    // What lies in /dev/shm belongs to the world's state, so it is a folder of the root.
    fs::create_dir_all("var/lib/shm")?;
    sys::mount(
        c"tmpfs",
        c"dev",
        c"tmpfs",
        NOSUID | NOEXEC,
        c"mode=755,size=64k",
    )?;
    for name in DEVICES {
        fs::write(format!("dev/{name}"), "")?;
        let (from, to) = (
            CString::new(format!("/dev/{name}"))?,
            CString::new(format!("dev/{name}"))?,
        );
        sys::mount(&from, &to, c"", BIND, c"")?;
    }
    for (link, target) in LINKS {
        symlink(target, format!("dev/{link}"))?;
    }
    for (source, folder, kind, flags, data) in [
        (
            c"devpts",
            c"dev/pts",
            c"devpts",
            NOSUID | NOEXEC,
            c"newinstance,ptmxmode=0666,mode=620",
        ),
        (c"var/lib/shm", c"dev/shm", c"", BIND, c""),
    ] {
        fs::create_dir(folder.to_string_lossy().as_ref())?;
        sys::mount(source, folder, kind, flags, data)?;
    }
    Ok(())
}

/// Names the machine and brings its loopback up.
pub fn network(hostname: &str) -> io::Result<()> {
    sys!(nr::SETHOSTNAME, hostname.as_ptr(), hostname.len())?;
    const SIOCGIFFLAGS: usize = 0x8913;
    const SIOCSIFFLAGS: usize = 0x8914;
    let socket = sys!(nr::SOCKET, 2, 2 | sys::O_CLOEXEC, 0)?;
    let mut request = [0u8; 40];
    request[..2].copy_from_slice(b"lo");
    sys!(nr::IOCTL, socket, SIOCGIFFLAGS, request.as_mut_ptr())?;
    request[16] |= 1;
    sys!(nr::IOCTL, socket, SIOCSIFFLAGS, request.as_ptr())?;
    sys::close(socket as i32);
    Ok(())
}

/// A text for the kernel.
pub fn c(text: &[u8]) -> io::Result<CString> {
    CString::new(text).map_err(|_| io::Error::other("a zero byte inside a text"))
}
