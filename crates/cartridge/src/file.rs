//! A cartridge as a file: opened, checked once, then read in place.

use crate::format::BLOCK_ALIGN;
use crate::merkle::merkle_root;
use crate::model::{Model, ParseError};
use crate::schema::{Schema, SchemaError};
use bytemuck::{Pod, Zeroable};
use memmap2::Mmap;
use std::fs::File;
use std::path::{Path, PathBuf};
use thiserror::Error;
use worldline_abi::{MAX_SHARD_BYTES, MAX_SHARDS, ModelManifest};
use worldline_mamba2::{Kernels, Scalar};

/// First eight bytes of a file.
pub const MAGIC: [u8; 8] = *b"WLCART\0\0";
/// Version of the file format that this build reads and writes.
pub const FILE_VERSION: u32 = 1;
/// Where the first shard begins.
pub const SHARDS_AT: usize = size_of::<FileHeader>() + size_of::<ModelManifest>();
/// Bytes of a file, at most.
pub const MAX_FILE_BYTES: u64 = (SHARDS_AT + MAX_SHARDS * MAX_SHARD_BYTES) as u64;

/// First 64 bytes of a file; the manifest and the shards follow.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
pub struct FileHeader {
    /// [`MAGIC`].
    pub magic: [u8; 8],
    /// [`FILE_VERSION`].
    pub version: u32,
    /// [`SHARDS_AT`].
    pub shards_at: u32,
    /// Bytes of the whole file.
    pub file_bytes: u64,
    /// SHA-256 of the manifest.
    pub manifest_hash: [u8; 32],
    /// Zero.
    pub room: [u8; 8],
}

const _: () = assert!(size_of::<FileHeader>() == 64 && SHARDS_AT.is_multiple_of(BLOCK_ALIGN));

/// Why a file cannot be opened as a cartridge.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Something else than a cartridge.
    #[error("this is not a cartridge: it does not begin with WLCART")]
    NotACartridge,
    /// Another version of the format.
    #[error(
        "the file has format version {found}, this build reads {FILE_VERSION}: use the build that wrote it"
    )]
    Version {
        /// The file's version.
        found: u32,
    },
    /// Shorter or longer than its header says, or than a cartridge may be.
    #[error(
        "the file has {found} bytes where {expected} are due (at most {MAX_FILE_BYTES}): get it again"
    )]
    Size {
        /// What the header says.
        expected: u64,
        /// What is there.
        found: u64,
    },
    /// A reserved byte is not zero, or the manifest is not the one that was written.
    #[error("the file's header or manifest is damaged: get it again")]
    Header,
    /// The shards are not the ones that the manifest promises.
    #[error(
        "the weights are damaged: their Merkle root is {found}, the manifest says {expected}: get the file again"
    )]
    Root {
        /// The manifest's root, hexadecimal.
        expected: String,
        /// The shards' root, hexadecimal.
        found: String,
    },
    /// The parts do not make a model that this build runs.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// The JSON form of the schema is not readable, or not the compiled one's.
    #[error("the cartridge's schema cannot be used: {0}")]
    Schema(#[from] SchemaError),
    /// The JSON form says something else than the compiled form.
    #[error("the cartridge's two forms of its schema differ: build it again")]
    SchemaForms,
}

/// 64 bytes that begin at a multiple of 64.
#[repr(C, align(64))]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Aligned([u8; BLOCK_ALIGN]);

enum Bytes {
    Mapped(Mmap),
    Owned { blocks: Vec<Aligned>, len: usize },
}

impl Bytes {
    fn get(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Owned { blocks, len } => &bytemuck::cast_slice(blocks)[..*len],
        }
    }
}

/// An opened cartridge. Cheap to share in an `Arc`; [`Cartridge::model`] is what a step takes.
pub struct Cartridge {
    bytes: Bytes,
    schema: Schema,
}

impl Cartridge {
    /// Maps a file into memory and checks everything: sizes, hashes, schema, every number's range.
    ///
    /// The file must not be changed while it is open; replace it by renaming another over it.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        let path = path.as_ref();
        let error = |source| OpenError::Io {
            path: path.into(),
            source,
        };
        let file = File::open(path).map_err(error)?;
        let found = file.metadata().map_err(error)?.len();
        if !(SHARDS_AT as u64..=MAX_FILE_BYTES).contains(&found) {
            return Err(OpenError::Size {
                expected: found.clamp(SHARDS_AT as u64, MAX_FILE_BYTES),
                found,
            });
        }
        #[allow(
            unsafe_code,
            reason = "a map is sound while nobody changes the file, which `open` asks for"
        )]
        let map = unsafe { Mmap::map(&file) }.map_err(error)?;
        Self::check(Bytes::Mapped(map))
    }

    /// Takes a copy of a file's bytes.
    pub fn from_bytes(file: &[u8]) -> Result<Self, OpenError> {
        let mut blocks = vec![Aligned::zeroed(); file.len().div_ceil(BLOCK_ALIGN)];
        bytemuck::cast_slice_mut(&mut blocks)[..file.len()].copy_from_slice(file);
        Self::check(Bytes::Owned {
            blocks,
            len: file.len(),
        })
    }

    fn check(bytes: Bytes) -> Result<Self, OpenError> {
        let file = bytes.get();
        let found = file.len() as u64;
        let too_short = OpenError::Size {
            expected: SHARDS_AT as u64,
            found,
        };
        let header = file.get(..size_of::<FileHeader>()).ok_or(too_short)?;
        let header: &FileHeader = bytemuck::from_bytes(header);
        if header.magic != MAGIC {
            return Err(OpenError::NotACartridge);
        }
        if header.version != FILE_VERSION {
            return Err(OpenError::Version {
                found: header.version,
            });
        }
        let expected = header.file_bytes;
        if expected != found || !(SHARDS_AT as u64..=MAX_FILE_BYTES).contains(&found) {
            return Err(OpenError::Size { expected, found });
        }
        let (manifest, shards) = parts(file)?;
        let manifest_hash = Scalar.sha256(&[bytemuck::bytes_of(manifest)]);
        if header.manifest_hash != manifest_hash
            || header.shards_at as usize != SHARDS_AT
            || header.room != [0; 8]
        {
            return Err(OpenError::Header);
        }
        let shards = &shards[..manifest.shard_count.into()];
        let root = merkle_root(&Scalar, shards);
        if root != manifest.merkle_root {
            return Err(OpenError::Root {
                expected: hex(&manifest.merkle_root),
                found: hex(&root),
            });
        }
        let model = Model::parse(manifest, shards)?;
        let schema = Schema::from_json(model.schema_json()?)?;
        if schema.compile()?.id() != manifest.schema_id {
            return Err(OpenError::SchemaForms);
        }
        Ok(Self { bytes, schema })
    }

    /// What a step takes. Cheap, but not free: get it once for many frames.
    ///
    /// # Panics
    /// If the file was changed after it was opened.
    pub fn model(&self) -> Model<'_> {
        let view = || {
            let (manifest, shards) = parts(self.bytes.get()).ok()?;
            Model::view(manifest, &shards[..manifest.shard_count.into()]).ok()
        };
        view().expect("the cartridge's file was changed while it was open")
    }

    /// Sizes, name and provenance.
    pub fn manifest(&self) -> &ModelManifest {
        bytemuck::from_bytes(&self.bytes.get()[size_of::<FileHeader>()..SHARDS_AT])
    }

    /// The shards, in the manifest's order.
    ///
    /// # Panics
    /// If the file was changed after it was opened.
    pub fn shards(&self) -> Vec<&[u8]> {
        let (manifest, shards) = parts(self.bytes.get()).expect("the file as it was opened");
        shards[..manifest.shard_count.into()].to_vec()
    }

    /// The schema with its names and rules.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// The whole file.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get()
    }

    /// The Merkle root in hexadecimal: the world's identity.
    pub fn root(&self) -> String {
        hex(&self.manifest().merkle_root)
    }
}

impl std::fmt::Debug for Cartridge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Cartridge({:?}, {})",
            self.manifest().name(),
            self.root()
        )
    }
}

/// Manifest and shards of a file; unused shards are empty.
fn parts(file: &[u8]) -> Result<(&ModelManifest, [&[u8]; MAX_SHARDS]), OpenError> {
    let found = file.len() as u64;
    let head = file.get(size_of::<FileHeader>()..SHARDS_AT);
    let head = head.ok_or(OpenError::Size {
        expected: SHARDS_AT as u64,
        found,
    })?;
    let manifest: &ModelManifest = bytemuck::from_bytes(head);
    let count = usize::from(manifest.shard_count);
    let mut shards: [&[u8]; MAX_SHARDS] = [&[]; MAX_SHARDS];
    let mut rest = &file[SHARDS_AT..];
    let lengths = manifest.shard_bytes.iter().map(|&b| b as usize);
    let due = || {
        SHARDS_AT as u64
            + lengths
                .clone()
                .map(|b| b.next_multiple_of(BLOCK_ALIGN) as u64)
                .sum::<u64>()
    };
    if count > MAX_SHARDS {
        return Err(OpenError::Header);
    }
    for (shard, bytes) in shards.iter_mut().zip(lengths.clone()) {
        let cut = rest
            .split_at_checked(bytes)
            .ok_or_else(|| OpenError::Size {
                expected: due(),
                found,
            })?;
        (*shard, rest) = cut;
    }
    match rest {
        [] => Ok((manifest, shards)),
        _ => Err(OpenError::Size {
            expected: due(),
            found,
        }),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
