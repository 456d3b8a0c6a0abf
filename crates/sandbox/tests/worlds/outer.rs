//! A machine in which machines run: QEMU translates a processor for it that has what they need. So Linux can be
//! tested under Firecracker where the host's own processor runs none in a machine.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use worldline_sandbox::image::DEFAULT;
use worldline_sandbox::{Backend, Command, Machine, Qemu, Sandbox, Settings, Spec};

/// Where its files are there.
pub(crate) const PLACE: &str = "/srv/inside";

pub(crate) struct Outer {
    machine: Arc<dyn Sandbox>,
    _qemu: Qemu,
    _folder: tempfile::TempDir,
}

impl Outer {
    /// Begins one that has the kernel and the disk of the default image, in a cache of its own; or says why not.
    pub(crate) fn begin(images: PathBuf) -> Result<Self, String> {
        const SIZES: Spec = Spec {
            image: None,
            memory_mib: 4096,
            vcpus: 1,
            disk_mib: 2048,
            seed: None,
            network: None,
        };
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings {
            images,
            ..Settings::new(folder.path())
        };
        let qemu = Qemu::open_as(&settings, "max").map_err(|error| error.to_string())?;
        let report = qemu.report();
        if report.capabilities.iter().any(is_processor) {
            return Err("this host's own processor runs machines, and tests these".into());
        }
        let image = qemu.images().find(DEFAULT);
        let image = image.map_err(|error| error.to_string())?;
        let made = qemu.images().machine(&image);
        let made = made.ok_or("there is no disk of the default image")?;
        let machine = qemu.boot(&SIZES).map_err(|error| error.to_string())?;
        let outer = Self {
            machine,
            _qemu: qemu,
            _folder: folder,
        };
        outer.furnish(&made);
        Ok(outer)
    }

    /// Brings a file in, among the others or to where it is to be.
    pub(crate) fn bring(&self, from: &Path, to: &str) {
        let bytes = std::fs::read(from).unwrap();
        let mode = std::fs::metadata(from).unwrap().permissions().mode();
        let to = Path::new(PLACE).join(to);
        let written = self.machine.write(&to.to_string_lossy(), mode, &bytes);
        written.unwrap();
    }

    /// Runs a line that succeeds; what it prints, which is told as it comes, indented.
    pub(crate) fn line(&self, line: &str) -> String {
        let mut said = String::new();
        let code = self.machine.exec(&Command::line(line), &mut |_, bytes| {
            let text = String::from_utf8_lossy(bytes);
            eprint!("{}", text.replace('\n', "\n    | "));
            said.push_str(&text);
        });
        assert_eq!(code.unwrap(), 0, "{line}: {said}");
        said
    }

    /// Mounts a file system; there is no program for it in the image.
    pub(crate) fn mount(&self, kind: &str, onto: &str, options: &str) {
        self.python(&format!(
            "assert libc.mount(b'none', b'{onto}', b'{kind}', 0, b'{options}') == 0"
        ));
    }

    fn python(&self, code: &str) {
        let begin = "import ctypes, glob, os; libc = ctypes.CDLL(None)";
        self.line(&format!("python3 -c \"{begin}\n{code}\""));
    }

    /// Brings in what machines are made of, and has it run machines. The image is its own disk.
    fn furnish(&self, made: &Machine) {
        let kernel = format!("cache/worldline/images/{}", name(folder(&made.kernel)));
        let disk = format!("cache/worldline/images/{}", name(folder(&made.disk)));
        self.line(&format!(
            "mkdir -p {PLACE} && cd {PLACE} && \
             mkdir -p kvm {kernel}/pci {kernel}/mmio {kernel}/kvm {disk}/root && \
             ln -s /dev/vda {disk}/{} && export XDG_CACHE_HOME={PLACE}/cache",
            name(&made.disk),
        ));
        self.mount("cgroup2", "/sys/fs/cgroup", "");
        let about = made.disk.with_file_name("image.json");
        self.bring(&about, &format!("{disk}/image.json"));
        self.bring(&made.kernel, &format!("{kernel}/vmlinux"));
        for (modules, bus) in [(&made.mmio, "mmio"), (&made.pci, "pci")] {
            for module in modules {
                self.bring(module, &format!("{kernel}/{bus}/{}", name(module)));
            }
        }
        for module in &made.kvm {
            self.bring(module, &format!("kvm/{}", name(module)));
        }
        self.python(
            "for name in sorted(glob.glob('kvm/*')): \
                 libc.syscall(313, os.open(name, os.O_RDONLY), b'', 0)\n\
             assert os.path.exists('/dev/kvm')",
        );
    }
}

fn is_processor(one: &worldline_sandbox::Capability) -> bool {
    one.name == "processor" && one.present
}

fn folder(of: &Path) -> &Path {
    of.parent().expect("a folder")
}

fn name(of: &Path) -> String {
    let name = of.file_name().expect("a name");
    name.to_string_lossy().into_owned()
}
