//! What a virtual machine is begun from: a kernel with the modules it needs, of a Debian package, and the
//! root of an image as a disk.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

use super::{Apt, Image, ImageError, Images, erofs, hash, io_error, output, unpack};

/// The kernel for clouds: it has all that a machine of ours has, and little else.
const PACKAGE: &str = "linux-image-6.1.0-50-cloud-amd64";
const VERSION: &str = "6.1.176-1";
const PACKAGE_SHA256: &str = "efe19f605b6f54a8352e68d85a629abb2d30b72a085faef603a9152590baa791";
/// Changes when what is done with the kernel changes.
const RECIPE: &str = "2";
/// What the agent needs before it has a root, by the bus that its machine has, and what a machine needs that
/// runs machines itself; what these need comes first.
const MODULES: [(&str, &[&str]); 3] = [
    (
        "pci",
        &[
            "virtio_pci",
            "virtio_blk",
            "virtio_console",
            "erofs",
            "overlay",
        ],
    ),
    (
        "mmio",
        &[
            "virtio_mmio",
            "virtio_blk",
            "vmw_vsock_virtio_transport",
            "erofs",
            "overlay",
        ],
    ),
    ("kvm", &["kvm_amd", "kvm_intel"]),
];
/// The name of an image's disk, beside its root. It changes when what is done with the image changes.
const DISK: &str = "disk-2.erofs";

/// What machines are made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// The kernel, as an ELF program.
    pub kernel: PathBuf,
    /// Its modules in a machine with a PCI bus, in the order in which they are loaded.
    pub pci: Vec<PathBuf>,
    /// The same in a machine whose devices are mapped into its memory.
    pub mmio: Vec<PathBuf>,
    /// What a machine loads besides to run machines itself.
    pub kvm: Vec<PathBuf>,
    /// The image's root as a disk that is only read.
    pub disk: PathBuf,
    /// Names all of it: another digest is another machine.
    pub digest: String,
}

impl Images {
    /// The kernel and the disk of an image, if they have been built.
    pub fn machine(&self, image: &Image) -> Option<Machine> {
        let kernel = self.folder.join(kernel_name());
        let disk = image.root.with_file_name(DISK);
        let [pci, mmio, kvm] = MODULES.map(|(bus, _)| modules(&kernel.join(bus)));
        let hash = Sha256::new()
            .chain_update(kernel_name())
            .chain_update(&image.digest)
            .chain_update(DISK);
        Some(Machine {
            kernel: kernel.join("vmlinux"),
            pci: pci.ok()?,
            mmio: mmio.ok()?,
            kvm: kvm.ok()?,
            disk: disk.exists().then_some(disk)?,
            digest: format!("{:.32x}", hash.finalize()),
        })
    }

    /// The names of images whose kernel and disk have been built: those of the newest of each name, which is
    /// what the name means.
    pub(crate) fn of_machines(&self) -> Vec<String> {
        let mut all = self.list();
        all.dedup_by(|one, newer| one.name == newer.name);
        all.into_iter()
            .filter(|image| self.machine(image).is_some())
            .map(|image| image.name)
            .collect()
    }

    /// Builds what machines of an image need, as far as it is not there. `above` lies over the image's root:
    /// what a start of the interpreter would otherwise make each time.
    pub fn build_machine(
        &self,
        image: &Image,
        above: Option<&Path>,
        progress: &mut dyn FnMut(&str),
    ) -> Result<Machine, ImageError> {
        if let Some(machine) = self.machine(image) {
            return Ok(machine);
        }
        let kernel = self.folder.join(kernel_name());
        if !kernel.exists() {
            let work = self.folder.join(format!(".kernel-{}", std::process::id()));
            let built = build_kernel(&work, &kernel, progress);
            let _ = fs::remove_dir_all(&work);
            built?;
        }
        let disk = image.root.with_file_name(DISK);
        if !disk.exists() {
            progress("writing the image's disk");
            let writing = io_error("writing the image's disk");
            let part = disk.with_extension(format!("part-{}", std::process::id()));
            let layers: Vec<PathBuf> = above
                .map(Path::to_owned)
                .into_iter()
                .chain([image.root.clone()])
                .collect();
            let written = erofs::write(&layers, &part).and_then(|()| fs::rename(&part, &disk));
            let _ = fs::remove_file(&part);
            written.map_err(writing)?;
            remove_former(&disk);
        }
        self.machine(image)
            .ok_or_else(|| ImageError::Unknown(image.name.clone()))
    }
}

/// Removes disks of former recipes beside this one. Machines that have one keep it.
fn remove_former(disk: &Path) {
    let beside = disk.parent().map(fs::read_dir);
    for entry in beside.into_iter().flatten().flatten().flatten() {
        let path = entry.path();
        if path.extension() == disk.extension() && path != disk {
            let _ = fs::remove_file(path);
        }
    }
}

/// The modules in a folder, in the order of their names.
fn modules(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder)?;
    let mut all: Vec<PathBuf> = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<io::Result<_>>()?;
    all.sort();
    Ok(all)
}

fn kernel_name() -> String {
    let hash = Sha256::digest(format!("{RECIPE} {PACKAGE_SHA256}"));
    format!("kernel-{:.16}", format!("{hash:x}"))
}

/// Downloads the package, and puts the kernel and its modules in their place.
fn build_kernel(
    work: &Path,
    place: &Path,
    progress: &mut dyn FnMut(&str),
) -> Result<(), ImageError> {
    for program in ["apt-get", "dpkg-deb", "tar"] {
        if !crate::bench::on_path(program) {
            return Err(ImageError::NoProgram(program));
        }
    }
    let apt = Apt::new(work).map_err(io_error("preparing apt"))?;
    progress("downloading the kernel");
    apt.run("apt-get update", &["update", "-q"])?;
    let wanted = format!("{PACKAGE}={VERSION}");
    let mut download = Command::new("apt-get");
    download
        .args(["download", "-q", &wanted])
        .env("APT_CONFIG", &apt.configuration)
        .env("LC_ALL", "C")
        .current_dir(work);
    output("apt-get download", &mut download)?;
    let package = work.join(format!("{PACKAGE}_{VERSION}_amd64.deb"));
    if hash(&package).map_err(io_error("reading the kernel's package"))? != PACKAGE_SHA256 {
        return Err(ImageError::NotLocked { package: wanted });
    }
    progress("unpacking the kernel");
    let (root, made) = (work.join("root"), work.join("made"));
    for folder in [&root, &made] {
        fs::create_dir_all(folder).map_err(io_error("making a folder"))?;
    }
    unpack(&package, &root)?;
    let release = PACKAGE.trim_start_matches("linux-image-");
    let packed = fs::read(root.join("boot").join(format!("vmlinuz-{release}")));
    let program = extract(&packed.map_err(io_error("reading the kernel"))?)
        .ok_or_else(|| ImageError::Kernel("it is not compressed as Debian's are (LZ4)".into()))?;
    fs::write(made.join("vmlinux"), program).map_err(io_error("writing the kernel"))?;
    for (bus, names) in MODULES {
        let mut order = Vec::new();
        for name in names {
            require(&root.join("lib/modules").join(release), name, &mut order)?;
        }
        let folder = made.join(bus);
        fs::create_dir(&folder).map_err(io_error("making a folder"))?;
        for (at, module) in order.iter().enumerate() {
            let name = module.file_name().unwrap_or_default().to_string_lossy();
            let copied = fs::copy(module, folder.join(format!("{at:02}-{name}")));
            copied.map_err(io_error("copying a module"))?;
        }
    }
    match fs::rename(&made, place) {
        // Another program was faster.
        Err(_) if place.exists() => Ok(()),
        other => other.map_err(io_error("moving the kernel")),
    }
}

/// The ELF program inside a `bzImage` (the kernel's `Documentation/arch/x86/boot.rst`): LZ4 blocks of at
/// most 8 MiB, each after its length, and at the end the length of it all.
fn extract(image: &[u8]) -> Option<Vec<u8>> {
    const SETUP_SECTORS: usize = 0x1f1;
    const PAYLOAD: usize = 0x248;
    const SECTOR: usize = 512;
    const LZ4: [u8; 4] = [0x02, 0x21, 0x4c, 0x18];
    const BLOCK: usize = 8 << 20;
    let word = |bytes: &[u8], at: usize| {
        Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?) as usize)
    };
    let start = (usize::from(*image.get(SETUP_SECTORS)?) + 1) * SECTOR + word(image, PAYLOAD)?;
    let payload = image.get(start..)?.get(..word(image, PAYLOAD + 4)?)?;
    let mut rest = payload.strip_prefix(&LZ4)?;
    let mut program = Vec::new();
    while rest.len() > size_of::<u32>() {
        let (block, after) = rest
            .get(size_of::<u32>()..)?
            .split_at_checked(word(rest, 0)?)?;
        program.extend(lz4_flex::block::decompress(block, BLOCK).ok()?);
        rest = after;
    }
    (program.starts_with(b"\x7fELF") && word(rest, 0)? == program.len()).then_some(program)
}

/// Adds a module after those that it needs, as it says itself.
fn require(folder: &Path, name: &str, order: &mut Vec<PathBuf>) -> Result<(), ImageError> {
    let lacks = || ImageError::Kernel(format!("it has no module {name}"));
    let file = find(folder, &format!("{}.ko", name.replace('-', "_")));
    let file = file
        .map_err(io_error("looking for a module"))?
        .ok_or_else(lacks)?;
    if order.contains(&file) {
        return Ok(());
    }
    let bytes = fs::read(&file).map_err(io_error("reading a module"))?;
    const KEY: &[u8] = b"\0depends=";
    let at = bytes
        .windows(KEY.len())
        .position(|window| window == KEY)
        .ok_or_else(lacks)?;
    let needs = bytes[at + KEY.len()..]
        .split(|byte| *byte == 0)
        .next()
        .unwrap_or_default();
    for need in String::from_utf8_lossy(needs)
        .split(',')
        .filter(|need| !need.is_empty())
    {
        require(folder, need, order)?;
    }
    order.push(file);
    Ok(())
}

fn find(folder: &Path, name: &str) -> io::Result<Option<PathBuf>> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            if let Some(found) = find(&entry.path(), name)? {
                return Ok(Some(found));
            }
        } else if entry.file_name().to_string_lossy().replace('-', "_") == name {
            return Ok(Some(entry.path()));
        }
    }
    Ok(None)
}

/// The first root of a machine, as the kernel unpacks it: the agent and the modules (`cpio`, the form that
/// begins with 070701).
pub(crate) fn first_root(agent: &[u8], modules: &[PathBuf]) -> io::Result<Vec<u8>> {
    const FOLDER: u32 = 0o40_755;
    const PROGRAM: u32 = 0o100_755;
    const FILE: u32 = 0o100_644;
    let mut archive = Vec::new();
    pack(&mut archive, "modules", FOLDER, &[]);
    pack(&mut archive, "init", PROGRAM, agent);
    for module in modules {
        let name = module.file_name().unwrap_or_default().to_string_lossy();
        pack(
            &mut archive,
            &format!("modules/{name}"),
            FILE,
            &fs::read(module)?,
        );
    }
    pack(&mut archive, "TRAILER!!!", 0, &[]);
    Ok(archive)
}

fn pack(archive: &mut Vec<u8>, name: &str, mode: u32, bytes: &[u8]) {
    let (size, named) = (bytes.len() as u32, name.len() as u32 + 1);
    archive.extend(b"070701");
    for field in [0, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, named, 0] {
        archive.extend(format!("{field:08X}").as_bytes());
    }
    archive.extend(name.as_bytes());
    archive.push(0);
    archive.resize(archive.len().next_multiple_of(4), 0);
    archive.extend(bytes);
    archive.resize(archive.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_offered_to_machines_where_its_newest_image_has_a_disk() {
        let folder = tempfile::tempdir().unwrap();
        let images = Images::new(folder.path().to_owned(), (0, 0));
        for (bus, _) in MODULES {
            fs::create_dir_all(folder.path().join(kernel_name()).join(bus)).unwrap();
        }
        let image = |digest: &str, created| {
            let place = folder.path().join(digest);
            fs::create_dir(&place).unwrap();
            let image = Image {
                name: "default".into(),
                digest: digest.into(),
                bytes: 0,
                created,
                root: PathBuf::new(),
            };
            let text = serde_json::to_vec(&image).unwrap();
            fs::write(place.join("image.json"), text).unwrap();
            place.join(DISK)
        };
        fs::write(image("older", 1), "").unwrap();
        assert_eq!(images.of_machines(), ["default"]);
        let disk = image("newer", 2);
        assert!(images.of_machines().is_empty());
        fs::write(disk, "").unwrap();
        assert_eq!(images.of_machines(), ["default"]);
    }
}
