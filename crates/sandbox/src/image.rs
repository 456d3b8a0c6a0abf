//! Images: the root file systems that worlds begin with. An image is a folder that is never written to
//! again, named by the digest of what it was made of.
//!
//! The default one is made of Debian packages, through the ordinary clients `apt-get` and `dpkg-deb`:
//! `image/default.lock` names each file with its SHA-256, and a package that differs is refused. No
//! script of a package is run. Python packages of one's own can be added to an image, and any image in the OCI
//! layout can be imported beside it.

pub(crate) mod erofs;
mod extend;
pub(crate) mod machine;

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use flate2::read::GzDecoder;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

pub use machine::Machine;

/// The name of the image that worlds have unless another is asked for.
pub const DEFAULT: &str = "default";

/// What the default image offers; the rest is what these need.
const PACKAGES: &[&str] = &[
    "base-files",
    "base-passwd",
    "bash",
    "ca-certificates",
    "coreutils",
    "curl",
    "dash",
    "diffutils",
    "findutils",
    "grep",
    "gzip",
    "hostname",
    "iproute2",
    "less",
    "libc-bin",
    "libopenblas0-serial",
    "mawk",
    "ncurses-base",
    "netbase",
    "openssh-sftp-server",
    "procps",
    "python3",
    "python3-matplotlib",
    "python3-numpy",
    "python3-pandas",
    "sed",
    "tar",
    "util-linux",
];
/// Packages that those name and that nothing in a world uses: compilers, windows, and what only they
/// need. By the beginnings of their names.
const LEFT_OUT: &[&str] = &[
    "adduser",
    "binutils",
    "blt",
    "cpp",
    "debconf",
    "fonts-lyx",
    "g++",
    "gcc-12_",
    "gcc_",
    "init-system-helpers",
    "libasan",
    "libatomic",
    "libbinutils",
    "libboost",
    "libcbor",
    "libfido2",
    "libpam-modules",
    "libsemanage",
    "libsepol",
    "openssh-client",
    "passwd_",
    "libc-dev-bin",
    "libc6-dev",
    "libcc1",
    "libcrypt-dev",
    "libctf",
    "libexpat1-dev",
    "libgcc-12-dev",
    "libgprofng",
    "libisl",
    "libitm",
    "libjs-",
    "liblsan",
    "libmpc3",
    "libmpfr6",
    "libnsl-dev",
    "libopenblas-dev",
    "libopenblas-pthread",
    "libopenblas0-pthread",
    "libopenblas0_",
    "libpython3-all-dev",
    "libpython3-dev",
    "libpython3.11-dev",
    "libpython3.11_",
    "libstdc++-12-dev",
    "libtcl8",
    "libtirpc-dev",
    "libtk8",
    "libtsan",
    "libubsan",
    "libx11-",
    "libxft2",
    "libxss1",
    "libxsimd",
    "linux-libc-dev",
    "lsb-base",
    "perl-modules",
    "perl_",
    "libperl5",
    "python3-all",
    "python3-beniget",
    "python3-dev",
    "python3-gast",
    "python3-mpmath",
    "python3-pil.imagetk",
    "python3-ply",
    "python3-pythran",
    "python3-scipy",
    "python3-sympy",
    "python3-tk",
    "rpcsvc-proto",
    "sysvinit-utils",
    "tk8",
    "unicode-data",
    "usrmerge",
    "x11-common",
    "zlib1g-dev",
];
const SUITE: &str = "bookworm";
const MIRROR: &str = "http://deb.debian.org/debian";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// Changes when what is done with the packages changes.
const RECIPE: &str = "3";
/// The packages as they were when this was written.
const LOCK: &str = include_str!("../image/default.lock");

/// An image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Its name for people.
    pub name: String,
    /// What it was made of.
    pub digest: String,
    /// Bytes of its files.
    pub bytes: u64,
    /// When it was made: seconds since 1970.
    pub created: u64,
    /// Its root on this host.
    #[serde(skip)]
    pub root: PathBuf,
}

/// An image cannot be found or made.
#[derive(Debug, Error)]
pub enum ImageError {
    /// There is no such image.
    #[error(
        "there is no image {0}: `worldline image build` makes the default one, `worldline image import FILE` takes in another"
    )]
    Unknown(String),
    /// Building needs a program that is not there.
    #[error(
        "building the default image needs {0}: on Debian and Ubuntu it is there; elsewhere, import an OCI archive"
    )]
    NoProgram(&'static str),
    /// The mirror has moved on.
    #[error(
        "{package} differs from the locked one: `worldline image build --latest` takes what the mirror has now, under a digest of its own"
    )]
    NotLocked {
        /// The package file.
        package: String,
    },
    /// A program failed.
    #[error("{what} failed: {output}")]
    Failed {
        /// Which step.
        what: &'static str,
        /// The end of what it printed.
        output: String,
    },
    /// A folder of packages has more than files.
    #[error("{0} is neither a file nor a folder: packages for an image are files in folders")]
    Package(String),
    /// The archive is not an OCI image of one Linux root.
    #[error("the archive is not an image in the OCI layout: {0}")]
    Archive(String),
    /// The kernel's package is not what it was.
    #[error("the kernel cannot be used: {0}")]
    Kernel(String),
    /// The system refused.
    #[error("cannot make the image: {doing}: {source}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

fn io_error(doing: &'static str) -> impl Fn(io::Error) -> ImageError {
    move |source| ImageError::Io { doing, source }
}

/// A folder of images.
#[derive(Clone, Debug)]
pub struct Images {
    folder: PathBuf,
    /// Whose files the images' are, on the host.
    owner: (u32, u32),
}

impl Images {
    pub(crate) fn new(folder: PathBuf, owner: (u32, u32)) -> Self {
        Self { folder, owner }
    }

    /// All images, by name.
    pub fn list(&self) -> Vec<Image> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut all: Vec<Image> = entries.filter_map(|entry| read(&entry.path())).collect();
        all.sort_by(|a, b| (&a.name, b.created).cmp(&(&b.name, a.created)));
        all
    }

    /// The image of a name (the newest of that name) or digest.
    pub fn find(&self, name: &str) -> Result<Image, ImageError> {
        let mut all = self.list();
        let at = all
            .iter()
            .position(|image| image.name == name || image.digest == name);
        at.map(|at| all.swap_remove(at))
            .ok_or_else(|| ImageError::Unknown(name.into()))
    }

    /// Builds the default image, unless it is there. `latest` takes the packages that the mirror has now.
    pub fn build(&self, latest: bool, progress: &mut dyn FnMut(&str)) -> Result<Image, ImageError> {
        for program in ["apt-get", "dpkg-deb", "tar"] {
            if !crate::bench::on_path(program) {
                return Err(ImageError::NoProgram(program));
            }
        }
        if !Path::new(KEYRING).exists() {
            return Err(ImageError::NoProgram("the package debian-archive-keyring"));
        }
        let locked = digest_of(LOCK);
        if let (false, Ok(image)) = (latest, self.find(&locked)) {
            return Ok(image);
        }
        let work = self.folder.join(format!(".build-{}", std::process::id()));
        let built = self.build_in(&work, latest, progress);
        let _ = fs::remove_dir_all(&work);
        built
    }

    fn build_in(
        &self,
        work: &Path,
        latest: bool,
        progress: &mut dyn FnMut(&str),
    ) -> Result<Image, ImageError> {
        let apt = Apt::new(work).map_err(io_error("preparing apt"))?;
        progress("asking the Debian mirror for its packages");
        apt.run("apt-get update", &["update", "-q"])?;
        let packages = package_files(&apt.run("apt-get --print-uris", &install("--print-uris"))?);
        let locked = |file: &str| {
            LOCK.lines()
                .find_map(|line| line.strip_prefix(file)?.strip_prefix(' '))
        };
        if let (false, Some(file)) = (latest, packages.iter().find(|file| locked(file).is_none())) {
            return Err(ImageError::NotLocked {
                package: file.clone(),
            });
        }
        progress("downloading packages");
        apt.run("apt-get --download-only", &install("--download-only"))?;
        let root = work.join("root");
        fs::create_dir_all(&root).map_err(io_error("making a folder"))?;
        progress("unpacking packages");
        let mut list = String::new();
        for file in packages {
            let package = work.join("cache/archives").join(&file);
            let hash = hash(&package).map_err(io_error("reading a package"))?;
            if !latest && locked(&file) != Some(&hash) {
                return Err(ImageError::NotLocked { package: file });
            }
            unpack(&package, &root)?;
            list.push_str(&format!("{file} {hash}\n"));
        }
        progress("finishing the root");
        finish(&root)?;
        let image = self.take_in(DEFAULT, &digest_of(&list), &root)?;
        // In the form of `image/default.lock`, so that it can become the next one.
        fs::write(image.root.with_file_name("packages.lock"), list)
            .map_err(io_error("writing the list of packages"))?;
        Ok(image)
    }

    /// Takes in an image in the OCI layout, as a tar archive (`skopeo copy … oci-archive:FILE`).
    pub fn import(&self, name: &str, archive: &Path) -> Result<Image, ImageError> {
        let work = self.folder.join(format!(".import-{}", std::process::id()));
        let imported = self.import_in(name, archive, &work);
        let _ = fs::remove_dir_all(&work);
        imported
    }

    fn import_in(&self, name: &str, archive: &Path, work: &Path) -> Result<Image, ImageError> {
        let bad = |what: String| ImageError::Archive(what);
        let (layout, root) = (work.join("layout"), work.join("root"));
        fs::create_dir_all(&root).map_err(io_error("making a folder"))?;
        let file = File::open(archive).map_err(io_error("opening the archive"))?;
        tar::Archive::new(file)
            .unpack(&layout)
            .map_err(|error| bad(error.to_string()))?;
        let blob = |digest: &str| -> Result<Vec<u8>, ImageError> {
            let (kind, hash) = digest
                .split_once(':')
                .ok_or_else(|| bad(format!("{digest} is no digest")))?;
            if kind != "sha256" || !hash.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Err(bad(format!("{digest} is not a SHA-256")));
            }
            let bytes = fs::read(layout.join("blobs/sha256").join(hash))
                .map_err(|_| bad(format!("{digest} is missing")))?;
            if format!("{:x}", Sha256::digest(&bytes)) != hash {
                return Err(bad(format!("{digest} was changed")));
            }
            Ok(bytes)
        };
        let index =
            fs::read(layout.join("index.json")).map_err(|_| bad("it has no index.json".into()))?;
        let first = |json: &serde_json::Value| {
            json["manifests"][0]["digest"]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        let parse = |bytes: &[u8]| {
            serde_json::from_slice::<serde_json::Value>(bytes)
                .map_err(|error| bad(error.to_string()))
        };
        let digest = first(&parse(&index)?);
        let mut manifest = parse(&blob(&digest)?)?;
        if manifest["manifests"].is_array() {
            manifest = parse(&blob(&first(&manifest))?)?;
        }
        for layer in manifest["layers"]
            .as_array()
            .ok_or_else(|| bad("its manifest has no layers".into()))?
        {
            let bytes = blob(layer["digest"].as_str().unwrap_or_default())?;
            match layer["mediaType"].as_str().unwrap_or_default() {
                kind if kind.ends_with("gzip") => apply(GzDecoder::new(&bytes[..]), &root)?,
                kind if kind.ends_with("tar") => apply(&bytes[..], &root)?,
                kind => return Err(bad(format!("layers of the kind {kind} are not read"))),
            }
        }
        self.take_in(name, &digest, &root)
    }

    /// Moves a finished root to its place, owned by the worlds' users.
    fn take_in(&self, name: &str, digest: &str, root: &Path) -> Result<Image, ImageError> {
        own(root, self.owner).map_err(io_error("giving files to the worlds' users"))?;
        let place = self.folder.join(digest.replace(':', "-"));
        let created = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let image = Image {
            name: name.into(),
            digest: digest.into(),
            bytes: size(root),
            created,
            root: place.join("root"),
        };
        if place.exists() {
            fs::remove_dir_all(&place).map_err(io_error("removing an unfinished image"))?;
        }
        fs::create_dir_all(&place).map_err(io_error("making a folder"))?;
        fs::rename(root, place.join("root")).map_err(io_error("moving the root"))?;
        // Written last: a folder without it is no image.
        describe(&image)?;
        Ok(image)
    }

    /// Makes an image at least as new as that: of several of one name, the newest is meant.
    fn date(&self, mut image: Image, least: u64) -> Result<Image, ImageError> {
        let newest = self.list().into_iter().find(|one| one.name == image.name);
        let newest = newest.filter(|newest| newest.digest != image.digest);
        let least = newest.map_or(least, |newest| least.max(newest.created + 1));
        if image.created < least {
            image.created = least;
            describe(&image)?;
        }
        Ok(image)
    }
}

/// Writes down what an image is, beside its root.
fn describe(image: &Image) -> Result<(), ImageError> {
    let writing = io_error("describing the image");
    let about = serde_json::to_vec_pretty(image).map_err(|error| writing(error.into()))?;
    fs::write(image.root.with_file_name("image.json"), about).map_err(writing)
}

fn read(place: &Path) -> Option<Image> {
    let mut image: Image =
        serde_json::from_slice(&fs::read(place.join("image.json")).ok()?).ok()?;
    image.root = place.join("root");
    Some(image)
}

fn digest_of(list: &str) -> String {
    format!("sha256:{:x}", Sha256::digest(format!("{RECIPE}\n{list}")))
}

fn install(mode: &'static str) -> Vec<&'static str> {
    let mut words = vec!["install", "-qq", "-y", "--no-install-recommends", mode];
    words.extend(PACKAGES);
    words
}

/// The files in apt's lines `'URL' FILE SIZE HASH`, in order of names.
fn package_files(uris: &str) -> Vec<String> {
    let named = uris.lines().filter_map(|line| {
        line.strip_prefix('\'')?
            .split_once("' ")?
            .1
            .split(' ')
            .next()
    });
    let wanted = named.filter(|file| !LEFT_OUT.iter().any(|name| file.starts_with(name)));
    let mut files: Vec<String> = wanted.map(str::to_owned).collect();
    files.sort();
    files
}

/// An apt of its own: it neither reads nor writes the host's package database.
struct Apt {
    configuration: PathBuf,
}

impl Apt {
    fn new(work: &Path) -> io::Result<Self> {
        for folder in ["state/lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(work.join(folder))?;
        }
        let work = work.canonicalize()?;
        fs::write(work.join("status"), "")?;
        fs::write(
            work.join("sources.list"),
            format!("deb [signed-by={KEYRING}] {MIRROR} {SUITE} main\n"),
        )?;
        let at = |name: &str| work.join(name).display().to_string();
        let lines = [
            format!("Dir::State \"{}\";", at("state")),
            format!("Dir::State::status \"{}\";", at("status")),
            format!("Dir::Cache \"{}\";", at("cache")),
            format!("Dir::Etc::sourcelist \"{}\";", at("sources.list")),
            "Dir::Etc::sourceparts \"/dev/null\";".into(),
            "Dir::Etc::preferencesparts \"/dev/null\";".into(),
            "APT::Architecture \"amd64\";".into(),
            "APT::Architectures \"amd64\";".into(),
            "APT::Sandbox::User \"root\";".into(),
            "Acquire::Languages \"none\";".into(),
            "Debug::NoLocking \"true\";".into(),
        ];
        let configuration = work.join("apt.conf");
        fs::write(&configuration, lines.join("\n"))?;
        Ok(Self { configuration })
    }

    fn run(&self, what: &'static str, arguments: &[&str]) -> Result<String, ImageError> {
        let mut command = Command::new("apt-get");
        command
            .args(arguments)
            .env("APT_CONFIG", &self.configuration)
            .env("LC_ALL", "C")
            .stdin(Stdio::null());
        output(what, &mut command)
    }
}

fn output(what: &'static str, command: &mut Command) -> Result<String, ImageError> {
    let output = command.output().map_err(io_error(what))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let end: Vec<&str> = text.lines().rev().take(3).collect();
    Err(ImageError::Failed {
        what,
        output: end.into_iter().rev().collect::<Vec<_>>().join("; "),
    })
}

fn hash(file: &Path) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut file = File::open(file)?;
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(format!("{:x}", hash.finalize())),
            count => hash.update(&buffer[..count]),
        }
    }
}

fn unpack(package: &Path, root: &Path) -> Result<(), ImageError> {
    let mut packed = Command::new("dpkg-deb");
    let mut packed = packed
        .arg("--fsys-tarfile")
        .arg(package)
        .stdout(Stdio::piped())
        .spawn()
        .map_err(io_error("running dpkg-deb"))?;
    let stream = packed.stdout.take().map_or_else(Stdio::null, Stdio::from);
    let mut tar = Command::new("tar");
    // A package may hold a folder where another made a link to one.
    tar.args([
        "-x",
        "--keep-directory-symlink",
        "--no-same-owner",
        "-p",
        "-C",
    ])
    .arg(root)
    .stdin(stream);
    let unpacked = output("tar", &mut tar);
    let status = packed.wait().map_err(io_error("running dpkg-deb"))?;
    unpacked?;
    if status.success() {
        Ok(())
    } else {
        Err(ImageError::Failed {
            what: "dpkg-deb",
            output: status.to_string(),
        })
    }
}

/// What the packages' scripts would have done, as far as a world needs it.
fn finish(root: &Path) -> Result<(), ImageError> {
    let io = io_error("finishing the root");
    for (from, to) in [
        ("usr/share/base-passwd/passwd.master", "etc/passwd"),
        ("usr/share/base-passwd/group.master", "etc/group"),
    ] {
        fs::copy(root.join(from), root.join(to)).map_err(&io)?;
    }
    fs::write(
        root.join("etc/hosts"),
        "127.0.0.1 localhost\n::1 localhost\n",
    )
    .map_err(&io)?;
    // One thread of linear algebra: an interpreter with more could not be kept.
    let libraries = root.join("usr/lib/x86_64-linux-gnu");
    for entry in fs::read_dir(libraries.join("openblas-serial"))
        .map_err(&io)?
        .flatten()
    {
        let target = Path::new("openblas-serial").join(entry.file_name());
        symlink(target, libraries.join(entry.file_name())).map_err(&io)?;
    }
    for (link, target) in [
        ("usr/bin/awk", "mawk"),
        ("usr/bin/python", "python3"),
        ("usr/bin/pager", "less"),
    ] {
        let _ = symlink(target, root.join(link));
    }
    for folder in [
        "media",
        "mnt",
        "opt",
        "srv",
        "usr/local/bin",
        "usr/local/lib",
        "usr/local/sbin",
        "usr/local/share",
    ] {
        fs::create_dir_all(root.join(folder)).map_err(&io)?;
    }
    for folder in [
        "usr/share/doc",
        "usr/share/man",
        "usr/share/locale",
        "usr/share/lintian",
        "var/cache/apt",
    ] {
        let _ = fs::remove_dir_all(root.join(folder));
    }
    Ok(())
}

/// Unpacks a layer of an OCI image over those below it.
fn apply(from: impl Read, root: &Path) -> Result<(), ImageError> {
    let bad = |error: io::Error| ImageError::Archive(error.to_string());
    let mut archive = tar::Archive::new(from);
    archive.set_preserve_permissions(true);
    archive.set_unpack_xattrs(true);
    for entry in archive.entries().map_err(bad)? {
        let mut entry = entry.map_err(bad)?;
        let path = entry.path().map_err(bad)?.into_owned();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let Some(hidden) = name.strip_prefix(".wh.") else {
            // `unpack_in` refuses paths and links that lead out of the root.
            if !entry.header().entry_type().is_character_special()
                && !entry.header().entry_type().is_block_special()
            {
                entry.unpack_in(root).map_err(bad)?;
            }
            continue;
        };
        let folder = root.join(path.parent().unwrap_or(Path::new("")));
        // Nothing outside may be removed by way of a link.
        if !folder.canonicalize().is_ok_and(|folder| {
            root.canonicalize()
                .is_ok_and(|root| folder.starts_with(root))
        }) {
            continue;
        }
        let doomed: Vec<PathBuf> = match hidden {
            ".wh..opq" => fs::read_dir(&folder)
                .map_err(bad)?
                .flatten()
                .map(|entry| entry.path())
                .collect(),
            _ => vec![folder.join(hidden)],
        };
        for path in doomed {
            let removed = match fs::symlink_metadata(&path) {
                Ok(meta) if meta.is_dir() => fs::remove_dir_all(&path),
                Ok(_) => fs::remove_file(&path),
                Err(_) => Ok(()),
            };
            removed.map_err(bad)?;
        }
    }
    Ok(())
}

/// Gives every file to the worlds' users: a file's owner 0 becomes the first of them, and so on. Nothing
/// keeps a set-user-id bit.
fn own(at: &Path, (user, group): (u32, u32)) -> io::Result<()> {
    const SPECIAL: u32 = 0o6000;
    let meta = fs::symlink_metadata(at)?;
    if user != meta.uid() || group != meta.gid() {
        // Ownership by others than 0 has no use in a world that begins with one user.
        lchown(at, Some(user), Some(group))?;
    }
    if meta.is_symlink() {
        return Ok(());
    }
    if meta.mode() & SPECIAL != 0 && !meta.is_dir() {
        fs::set_permissions(
            at,
            fs::Permissions::from_mode(meta.mode() & 0o7777 & !SPECIAL),
        )?;
    }
    if meta.is_dir() {
        for entry in fs::read_dir(at)? {
            own(&entry?.path(), (user, group))?;
        }
    }
    Ok(())
}

fn size(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| Some((entry.path(), entry.metadata().ok()?)))
        .map(|(path, meta)| {
            if meta.is_dir() {
                size(&path)
            } else {
                meta.len()
            }
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn what_apt_prints_becomes_a_list() {
        let printed = "'http://deb.debian.org/a/zip.deb' zip_1_amd64.deb 12 SHA256:ab\nnoise\n\
                       'http://deb.debian.org/a/bash.deb' bash_5_amd64.deb 34 SHA256:cd\n\
                       'http://deb.debian.org/a/cpp.deb' cpp_4_amd64.deb 34 SHA256:ef\n";
        assert_eq!(
            package_files(printed),
            ["bash_5_amd64.deb", "zip_1_amd64.deb"]
        );
    }

    /// What a path is: a file of contents and a mode, or a link to what it leads to.
    type Packed<'a> = Result<(&'a str, u32), &'a str>;

    fn packed(entries: &[(&str, Packed)]) -> Vec<u8> {
        let mut archive = tar::Builder::new(Vec::new());
        for (path, what) in entries {
            let mut header = tar::Header::new_gnu();
            match what {
                Ok((contents, mode)) => {
                    header.set_size(contents.len() as u64);
                    header.set_mode(*mode);
                    archive
                        .append_data(&mut header, path, contents.as_bytes())
                        .unwrap();
                }
                Err(target) => {
                    header.set_entry_type(tar::EntryType::Symlink);
                    header.set_size(0);
                    archive.append_link(&mut header, path, target).unwrap();
                }
            }
        }
        archive.into_inner().unwrap()
    }

    /// An image in the OCI layout of these layers, the second one compressed.
    fn layout(layers: [Vec<u8>; 2]) -> Vec<u8> {
        let [plain, second] = layers;
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&second).unwrap();
        let blobs = [plain, gzip.finish().unwrap()];
        let digest = |bytes: &[u8]| format!("{:x}", Sha256::digest(bytes));
        let kinds = [
            "application/vnd.oci.image.layer.v1.tar",
            "application/vnd.oci.image.layer.v1.tar+gzip",
        ];
        let described: Vec<_> = blobs
            .iter()
            .zip(kinds)
            .map(|(blob, kind)| serde_json::json!({ "mediaType": kind, "digest": format!("sha256:{}", digest(blob)) }))
            .collect();
        let manifest = serde_json::json!({ "schemaVersion": 2, "layers": described }).to_string();
        let index = serde_json::json!({ "schemaVersion": 2, "manifests": [{ "digest": format!("sha256:{}", digest(manifest.as_bytes())) }] });
        let mut archive = tar::Builder::new(Vec::new());
        let mut put = |path: String, bytes: &[u8]| {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            archive.append_data(&mut header, path, bytes).unwrap();
        };
        for blob in blobs.iter().map(Vec::as_slice).chain([manifest.as_bytes()]) {
            put(format!("blobs/sha256/{}", digest(blob)), blob);
        }
        put("index.json".into(), index.to_string().as_bytes());
        put("oci-layout".into(), b"{\"imageLayoutVersion\":\"1.0.0\"}");
        archive.into_inner().unwrap()
    }

    #[test]
    fn an_oci_archive_becomes_an_image_and_a_changed_one_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let owner = fs::metadata(folder.path()).map(|meta| (meta.uid(), meta.gid()));
        let images = Images::new(folder.path().join("images"), owner.unwrap());
        let below = packed(&[
            ("etc/kept", Ok(("kept", 0o640))),
            ("etc/removed", Ok(("x", 0o644))),
            ("opt/old", Ok(("x", 0o644))),
            ("bin/root", Ok(("x", 0o4755))),
            ("out", Err("/")),
        ]);
        let above = packed(&[
            ("etc/.wh.removed", Ok(("", 0o644))),
            ("opt/.wh..wh..opq", Ok(("", 0o644))),
            ("opt/new", Ok(("new", 0o644))),
        ]);
        let archive = folder.path().join("image.tar");
        fs::write(&archive, layout([below.clone(), above.clone()])).unwrap();
        let image = images.import("mine", &archive).unwrap();
        assert_eq!((image.name.as_str(), image.bytes > 0), ("mine", true));
        let read = |path: &str| fs::read_to_string(image.root.join(path)).ok();
        assert_eq!(read("etc/kept").as_deref(), Some("kept"));
        assert_eq!((read("etc/removed"), read("opt/old")), (None, None));
        assert_eq!(read("opt/new").as_deref(), Some("new"));
        let mode = |path: &str| fs::metadata(image.root.join(path)).unwrap().mode() & 0o7777;
        assert_eq!((mode("etc/kept"), mode("bin/root")), (0o640, 0o755));
        assert_eq!(images.find("mine").unwrap().digest, image.digest);
        assert_eq!(images.find(&image.digest).unwrap().name, "mine");
        // One byte of a layer.
        let mut changed = layout([below, above]);
        let at = changed
            .windows(4)
            .position(|bytes| bytes == b"kept")
            .unwrap();
        changed[at] ^= 1;
        fs::write(&archive, changed).unwrap();
        assert!(matches!(
            images.import("mine", &archive),
            Err(ImageError::Archive(why)) if why.contains("was changed") || why.contains("missing")
        ));
        fs::write(&archive, b"no archive").unwrap();
        assert!(images.import("mine", &archive).is_err());
        assert_eq!(images.list().len(), 1);
    }

    #[test]
    fn the_lock_names_every_package_once() {
        let names: Vec<&str> = LOCK
            .lines()
            .filter_map(|line| line.split('_').next())
            .collect();
        let mut unique = names.clone();
        unique.dedup();
        assert_eq!(names, unique);
        assert!(PACKAGES.iter().all(|package| names.contains(package)));
    }
}
