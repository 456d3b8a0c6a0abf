//! Files by SFTP, as `draft-ietf-secsh-filexfer-02` (version 3) and every client have it. It runs in a
//! process of its own that is confined as a command is, so that it needs no program of the image, and
//! that the kernel decides what a name may lead to.
//!
//! A packet is a length (`u32`), a kind (`u8`), the request's number (`u32`) and what belongs to it; numbers
//! are big endian, a string is its length and its bytes.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, FileTimes, Metadata, OpenOptions, Permissions};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{
    DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown, fchown, symlink,
};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use crate::sys;

/// Longest packet that is read.
const MAX_PACKET: usize = 1 << 20;
/// Longest piece of a file that one answer holds.
const MAX_READ: u32 = 256 << 10;
/// Open files and folders at one time.
const MAX_HANDLES: usize = 512;
/// Names that one answer lists.
const NAMES: usize = 100;

/// Kinds of packets.
mod packet {
    pub const INIT: u8 = 1;
    pub const VERSION: u8 = 2;
    pub const OPEN: u8 = 3;
    pub const CLOSE: u8 = 4;
    pub const READ: u8 = 5;
    pub const WRITE: u8 = 6;
    pub const LSTAT: u8 = 7;
    pub const FSTAT: u8 = 8;
    pub const SETSTAT: u8 = 9;
    pub const FSETSTAT: u8 = 10;
    pub const OPENDIR: u8 = 11;
    pub const READDIR: u8 = 12;
    pub const REMOVE: u8 = 13;
    pub const MKDIR: u8 = 14;
    pub const RMDIR: u8 = 15;
    pub const REALPATH: u8 = 16;
    pub const STAT: u8 = 17;
    pub const RENAME: u8 = 18;
    pub const READLINK: u8 = 19;
    pub const SYMLINK: u8 = 20;
    pub const STATUS: u8 = 101;
    pub const HANDLE: u8 = 102;
    pub const DATA: u8 = 103;
    pub const NAME: u8 = 104;
    pub const ATTRS: u8 = 105;
    pub const EXTENDED: u8 = 200;
}

/// Why a request is not done.
enum Refusal {
    End,
    Unknown,
    Bad,
    System(io::Error),
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

impl Refusal {
    /// Its number and words.
    fn say(self) -> (u32, String) {
        match self {
            Self::End => (1, "nothing follows".into()),
            Self::Unknown => (8, "there is no such request here".into()),
            Self::Bad => (5, "the request makes no sense".into()),
            Self::System(error) => {
                let code = match error.kind() {
                    io::ErrorKind::NotFound => 2,
                    io::ErrorKind::PermissionDenied => 3,
                    _ => 4,
                };
                (code, error.to_string())
            }
        }
    }
}

/// Answers requests from descriptor 0 on descriptor 1 until there are none.
pub fn serve() -> io::Result<()> {
    const OUTPUT: i32 = 1;
    let mut input = io::stdin().lock();
    let mut open = Open::default();
    loop {
        let mut length = [0; 4];
        match input.read_exact(&mut length) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            other => other?,
        }
        let length = u32::from_be_bytes(length) as usize;
        if length == 0 || length > MAX_PACKET {
            return Err(io::Error::other("a packet is too long, or empty"));
        }
        let mut body = vec![0; length];
        input.read_exact(&mut body)?;
        sys::write_all(OUTPUT, &open.answer(body[0], &body[1..]))?;
    }
}

enum Handle {
    File(File),
    /// Names that were not listed yet.
    Folder(PathBuf, Vec<PathBuf>),
}

#[derive(Default)]
struct Open {
    handles: BTreeMap<u32, Handle>,
    next: u32,
}

impl Open {
    /// The whole packet that answers one.
    fn answer(&mut self, kind: u8, body: &[u8]) -> Vec<u8> {
        if kind == packet::INIT {
            let version = Say::new(packet::VERSION).u32(3);
            return version
                .string("posix-rename@openssh.com")
                .string("1")
                .string("fsync@openssh.com")
                .string("1")
                .finish();
        }
        let mut hear = Hear(body);
        let number = hear.u32().unwrap_or_default();
        let done = self.act(kind, number, &mut hear);
        done.unwrap_or_else(|refusal| {
            let (code, words) = refusal.say();
            status(number, code, &words)
        })
    }

    fn act(&mut self, kind: u8, number: u32, hear: &mut Hear) -> Result<Vec<u8>, Refusal> {
        match kind {
            packet::OPEN => {
                let (path, flags, wish) = (hear.path()?, hear.u32()?, hear.attributes()?);
                let file = open(&path, flags, wish.mode.unwrap_or(0o666))?;
                return self.keep(number, Handle::File(file));
            }
            packet::OPENDIR => {
                let path = hear.path()?;
                let mut names = vec![PathBuf::from("."), PathBuf::from("..")];
                for entry in fs::read_dir(&path)? {
                    names.push(entry?.file_name().into());
                }
                return self.keep(number, Handle::Folder(path, names));
            }
            packet::READDIR => return self.list(number, hear.u32_string()?),
            packet::READ => {
                let (file, at, length) = (self.file(hear.u32_string()?)?, hear.u64()?, hear.u32()?);
                let mut bytes = vec![0; length.min(MAX_READ) as usize];
                let count = file.read_at(&mut bytes, at)?;
                if count == 0 && length > 0 {
                    return Err(Refusal::End);
                }
                return Ok(Say::new(packet::DATA)
                    .u32(number)
                    .string(&bytes[..count])
                    .finish());
            }
            packet::WRITE => {
                let (file, at) = (self.file(hear.u32_string()?)?, hear.u64()?);
                file.write_all_at(hear.string()?, at)?;
            }
            packet::CLOSE => {
                let closed = self.handles.remove(&hear.u32_string()?);
                closed.ok_or(Refusal::Bad)?;
            }
            packet::STAT => return Ok(attributes(number, &fs::metadata(hear.path()?)?)),
            packet::LSTAT => return Ok(attributes(number, &fs::symlink_metadata(hear.path()?)?)),
            packet::FSTAT => {
                let file = self.file(hear.u32_string()?)?;
                return Ok(attributes(number, &file.metadata()?));
            }
            packet::SETSTAT => {
                let path = hear.path()?;
                hear.attributes()?.apply(On::Path(&path))?;
            }
            packet::FSETSTAT => {
                let file = self.file(hear.u32_string()?)?;
                hear.attributes()?.apply(On::File(file))?;
            }
            packet::REMOVE => fs::remove_file(hear.path()?)?,
            packet::RMDIR => fs::remove_dir(hear.path()?)?,
            packet::MKDIR => {
                let (path, wish) = (hear.path()?, hear.attributes()?);
                let mode = wish.mode.unwrap_or(0o777);
                fs::DirBuilder::new().mode(mode).create(path)?;
            }
            packet::REALPATH => {
                let path = hear.path()?;
                let real = fs::canonicalize(&path).or_else(|_| std::path::absolute(&path))?;
                return Ok(named(number, &real));
            }
            packet::READLINK => return Ok(named(number, &fs::read_link(hear.path()?)?)),
            // As OpenSSH has it, and so everyone: what it leads to comes first.
            packet::SYMLINK => {
                let target = hear.path()?;
                symlink(target, hear.path()?)?;
            }
            packet::RENAME => {
                let (from, to) = (hear.path()?, hear.path()?);
                if fs::symlink_metadata(&to).is_ok() {
                    return Err(io::Error::from(io::ErrorKind::AlreadyExists).into());
                }
                fs::rename(from, to)?;
            }
            packet::EXTENDED => match hear.string()? {
                b"posix-rename@openssh.com" => {
                    let from = hear.path()?;
                    fs::rename(from, hear.path()?)?;
                }
                b"fsync@openssh.com" => self.file(hear.u32_string()?)?.sync_all()?,
                _ => return Err(Refusal::Unknown),
            },
            _ => return Err(Refusal::Unknown),
        }
        Ok(status(number, 0, "done"))
    }

    fn keep(&mut self, number: u32, handle: Handle) -> Result<Vec<u8>, Refusal> {
        if self.handles.len() >= MAX_HANDLES {
            return Err(io::Error::other("too many files are open: close some").into());
        }
        self.next += 1;
        self.handles.insert(self.next, handle);
        let name = self.next.to_be_bytes();
        Ok(Say::new(packet::HANDLE).u32(number).string(name).finish())
    }

    fn file(&self, handle: u32) -> Result<&File, Refusal> {
        match self.handles.get(&handle) {
            Some(Handle::File(file)) => Ok(file),
            _ => Err(Refusal::Bad),
        }
    }

    fn list(&mut self, number: u32, handle: u32) -> Result<Vec<u8>, Refusal> {
        let Some(Handle::Folder(folder, names)) = self.handles.get_mut(&handle) else {
            return Err(Refusal::Bad);
        };
        if names.is_empty() {
            return Err(Refusal::End);
        }
        let next: Vec<PathBuf> = names.drain(..names.len().min(NAMES)).collect();
        // One that went meanwhile is not there to be listed.
        let there = next
            .iter()
            .filter_map(|name| Some((name, fs::symlink_metadata(folder.join(name)).ok()?)));
        let there: Vec<_> = there.collect();
        let mut say = Say::new(packet::NAME).u32(number).u32(there.len() as u32);
        for (name, meta) in there {
            let bytes = name.as_os_str().as_bytes();
            say = say.string(bytes).string(long(bytes, &meta)).metadata(&meta);
        }
        Ok(say.finish())
    }
}

fn open(path: &Path, flags: u32, mode: u32) -> io::Result<File> {
    // What the protocol asks for and what the kernel calls it: append, create, truncate, alone.
    const FLAGS: [(u32, i32); 4] = [(4, 0o2000), (8, 0o100), (16, 0o1000), (32, 0o200)];
    let wanted = FLAGS.iter().filter(|(asked, _)| flags & asked != 0);
    OpenOptions::new()
        .read(flags & 1 != 0)
        .write(flags & 2 != 0)
        .custom_flags(wanted.fold(0, |all, (_, flag)| all | flag))
        .mode(mode & 0o7777)
        .open(path)
}

/// A line as `ls -l` has it, for people.
fn long(name: &[u8], meta: &Metadata) -> Vec<u8> {
    let kind = match meta.mode() & 0o170_000 {
        0o040_000 => 'd',
        0o120_000 => 'l',
        _ => '-',
    };
    let right = |(at, letter): (u32, char)| {
        if meta.mode() >> (8 - at) & 1 == 1 {
            letter
        } else {
            '-'
        }
    };
    let rights: String = (0..9).zip("rwxrwxrwx".chars()).map(right).collect();
    let (links, user, group) = (meta.nlink(), meta.uid(), meta.gid());
    let head = format!(
        "{kind}{rights} {links:4} {user:8} {group:8} {:10} {} ",
        meta.len(),
        meta.mtime()
    );
    [head.as_bytes(), name].concat()
}

fn status(number: u32, code: u32, words: &str) -> Vec<u8> {
    let say = Say::new(packet::STATUS).u32(number).u32(code);
    say.string(words).string("").finish()
}

fn attributes(number: u32, meta: &Metadata) -> Vec<u8> {
    Say::new(packet::ATTRS).u32(number).metadata(meta).finish()
}

/// One name, of which nothing else is told.
fn named(number: u32, path: &Path) -> Vec<u8> {
    let bytes = path.as_os_str().as_bytes();
    let say = Say::new(packet::NAME).u32(number).u32(1);
    say.string(bytes).string(bytes).u32(0).finish()
}

/// What a file is to be; what is not asked for stays.
struct Wish {
    size: Option<u64>,
    owner: Option<(u32, u32)>,
    mode: Option<u32>,
    times: Option<(u32, u32)>,
}

/// What a wish is about.
enum On<'a> {
    Path(&'a Path),
    File(&'a File),
}

impl Wish {
    fn apply(&self, on: On) -> io::Result<()> {
        if let Some(size) = self.size {
            match on {
                On::Path(path) => OpenOptions::new().write(true).open(path)?.set_len(size)?,
                On::File(file) => file.set_len(size)?,
            }
        }
        if let Some((user, group)) = self.owner {
            match on {
                On::Path(path) => chown(path, Some(user), Some(group))?,
                On::File(file) => fchown(file, Some(user), Some(group))?,
            }
        }
        if let Some(mode) = self.mode {
            let permissions = Permissions::from_mode(mode & 0o7777);
            match on {
                On::Path(path) => fs::set_permissions(path, permissions)?,
                On::File(file) => file.set_permissions(permissions)?,
            }
        }
        if let Some((accessed, modified)) = self.times {
            let at = |seconds: u32| UNIX_EPOCH + Duration::from_secs(seconds.into());
            let times = FileTimes::new()
                .set_accessed(at(accessed))
                .set_modified(at(modified));
            match on {
                On::Path(path) => File::open(path)?.set_times(times)?,
                On::File(file) => file.set_times(times)?,
            }
        }
        Ok(())
    }
}

/// Reads a packet; what is missing makes it bad.
struct Hear<'a>(&'a [u8]);

impl<'a> Hear<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Refusal> {
        let (head, tail) = self.0.split_at_checked(count).ok_or(Refusal::Bad)?;
        self.0 = tail;
        Ok(head)
    }

    fn u32(&mut self) -> Result<u32, Refusal> {
        let bytes = self.take(4)?.try_into().map_err(|_| Refusal::Bad)?;
        Ok(u32::from_be_bytes(bytes))
    }

    fn u64(&mut self) -> Result<u64, Refusal> {
        let bytes = self.take(8)?.try_into().map_err(|_| Refusal::Bad)?;
        Ok(u64::from_be_bytes(bytes))
    }

    fn string(&mut self) -> Result<&'a [u8], Refusal> {
        let length = self.u32()? as usize;
        self.take(length)
    }

    /// A handle, whose name is a number of ours.
    fn u32_string(&mut self) -> Result<u32, Refusal> {
        let bytes = self.string()?.try_into().map_err(|_| Refusal::Bad)?;
        Ok(u32::from_be_bytes(bytes))
    }

    /// A path; an empty one is this folder.
    fn path(&mut self) -> Result<PathBuf, Refusal> {
        let bytes = self.string()?;
        let bytes = if bytes.is_empty() { b"." } else { bytes };
        Ok(OsStr::from_bytes(bytes).into())
    }

    fn attributes(&mut self) -> Result<Wish, Refusal> {
        let flags = self.u32()?;
        let mut wish = Wish {
            size: None,
            owner: None,
            mode: None,
            times: None,
        };
        if flags & 1 != 0 {
            wish.size = Some(self.u64()?);
        }
        if flags & 2 != 0 {
            wish.owner = Some((self.u32()?, self.u32()?));
        }
        if flags & 4 != 0 {
            wish.mode = Some(self.u32()?);
        }
        if flags & 8 != 0 {
            wish.times = Some((self.u32()?, self.u32()?));
        }
        Ok(wish)
    }
}

/// Writes a packet.
struct Say(Vec<u8>);

impl Say {
    fn new(kind: u8) -> Self {
        Self(vec![0, 0, 0, 0, kind])
    }

    fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    fn string(self, value: impl AsRef<[u8]>) -> Self {
        let mut said = self.u32(value.as_ref().len() as u32);
        said.0.extend(value.as_ref());
        said
    }

    fn metadata(mut self, meta: &Metadata) -> Self {
        const ALL: u32 = 1 | 2 | 4 | 8;
        self = self.u32(ALL);
        self.0.extend(meta.len().to_be_bytes());
        self.u32(meta.uid())
            .u32(meta.gid())
            .u32(meta.mode())
            .u32(meta.atime() as u32)
            .u32(meta.mtime() as u32)
    }

    fn finish(mut self) -> Vec<u8> {
        let length = (self.0.len() - 4) as u32;
        self.0[..4].copy_from_slice(&length.to_be_bytes());
        self.0
    }
}
