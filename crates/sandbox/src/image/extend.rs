//! An image with Python packages of one's own beside Debian's: the same files, as hard links, and theirs.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::{Image, ImageError, Images, hash, io_error};

/// Where Debian's Python looks for packages.
const PACKAGES: &str = "usr/lib/python3/dist-packages";
/// Modes of what is taken in, whatever they were.
const FILE: u32 = 0o644;
const FOLDER: u32 = 0o755;

impl Images {
    /// The image with the Python packages of a folder, under the same name, which means this one from
    /// then on. Made once for the same image and files.
    pub fn extend(&self, image: &Image, packages: &Path) -> Result<Image, ImageError> {
        let mut files = Vec::new();
        collect(packages, Path::new(""), &mut files)?;
        files.sort();
        let digest = digest_of(image, packages, &files)?;
        let newer = image.created + 1;
        if let Ok(found) = self.find(&digest) {
            return self.date(found, newer);
        }
        let work = self.folder.join(format!(".extend-{}", std::process::id()));
        let extended = self.extend_in(&work, image, packages, &files, &digest);
        let _ = fs::remove_dir_all(&work);
        self.date(extended?, newer)
    }

    fn extend_in(
        &self,
        work: &Path,
        image: &Image,
        packages: &Path,
        files: &[PathBuf],
        digest: &str,
    ) -> Result<Image, ImageError> {
        let root = work.join("root");
        fs::create_dir_all(work).map_err(io_error("making a folder"))?;
        link(&image.root, &root).map_err(io_error("linking the image's files"))?;
        let place = root.join(PACKAGES);
        for file in files {
            put(&packages.join(file), &place, file).map_err(io_error("copying a package"))?;
        }
        self.take_in(&image.name, digest, &root)
    }
}

/// The files of a folder, by their paths in it.
fn collect(folder: &Path, below: &Path, files: &mut Vec<PathBuf>) -> Result<(), ImageError> {
    let reading = io_error("reading the folder of packages");
    for entry in fs::read_dir(folder.join(below)).map_err(&reading)? {
        let entry = entry.map_err(&reading)?;
        let path = below.join(entry.file_name());
        match entry.file_type().map_err(&reading)? {
            kind if kind.is_dir() => collect(folder, &path, files)?,
            kind if kind.is_file() => files.push(path),
            _ => return Err(ImageError::Package(path.display().to_string())),
        }
    }
    Ok(())
}

fn digest_of(image: &Image, packages: &Path, files: &[PathBuf]) -> Result<String, ImageError> {
    let mut all = Sha256::new();
    all.update(&image.digest);
    for file in files {
        let hash = hash(&packages.join(file)).map_err(io_error("reading a package"))?;
        all.update(format!("\n{hash} {}", file.display()));
    }
    Ok(format!("sha256:{:x}", all.finalize()))
}

/// The same tree, its files as hard links: images are never written to, so they can be shared.
fn link(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            link(&from, &to)?;
        } else {
            fs::hard_link(from, to)?;
        }
    }
    fs::set_permissions(to, fs::metadata(from)?.permissions())
}

/// Copies a file to its place among the packages; what was there stays as it is in the image below.
fn put(file: &Path, place: &Path, path: &Path) -> io::Result<()> {
    let to = place.join(path);
    let mut folder = place.to_path_buf();
    for part in path.parent().into_iter().flat_map(Path::components) {
        folder.push(part);
        if !folder.exists() {
            fs::create_dir(&folder)?;
            fs::set_permissions(&folder, fs::Permissions::from_mode(FOLDER))?;
        }
    }
    match fs::remove_file(&to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::copy(file, &to)?;
    fs::set_permissions(&to, fs::Permissions::from_mode(FILE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    fn images(folder: &Path) -> Images {
        let me = fs::metadata(folder).unwrap();
        Images::new(folder.join("images"), (me.uid(), me.gid()))
    }

    #[test]
    fn an_extended_image_has_both_and_leaves_the_one_below_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let images = images(folder.path());
        let root = folder.path().join("root");
        fs::create_dir_all(root.join(PACKAGES)).unwrap();
        fs::write(root.join(PACKAGES).join("a.py"), "old").unwrap();
        fs::write(root.join("file"), "below").unwrap();
        let below = images.take_in("default", "sha256:1", &root).unwrap();
        let packages = folder.path().join("packages");
        fs::create_dir_all(packages.join("b/c")).unwrap();
        fs::write(packages.join("a.py"), "new").unwrap();
        fs::write(packages.join("b/c/d.py"), "more").unwrap();

        let image = images.extend(&below, &packages).unwrap();
        let read = |image: &Image, path: &str| fs::read_to_string(image.root.join(path)).unwrap();
        let module = |name: &str| format!("{PACKAGES}/{name}");
        assert_eq!(read(&image, "file"), "below");
        assert_eq!(read(&image, &module("a.py")), "new");
        assert_eq!(read(&image, &module("b/c/d.py")), "more");
        assert_eq!(read(&below, &module("a.py")), "old");
        assert_eq!(images.find("default").unwrap().digest, image.digest);
        assert_eq!(images.extend(&below, &packages).unwrap(), image);
        fs::write(packages.join("a.py"), "newer").unwrap();
        assert_ne!(
            images.extend(&below, &packages).unwrap().digest,
            image.digest
        );
    }

    #[test]
    fn a_package_that_points_elsewhere_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let images = images(folder.path());
        let root = folder.path().join("root");
        fs::create_dir_all(&root).unwrap();
        let below = images.take_in("default", "sha256:1", &root).unwrap();
        let packages = folder.path().join("packages");
        fs::create_dir_all(&packages).unwrap();
        std::os::unix::fs::symlink("/etc", packages.join("etc")).unwrap();
        let refused = images.extend(&below, &packages);
        assert!(matches!(refused, Err(ImageError::Package(path)) if path == "etc"));
    }
}
