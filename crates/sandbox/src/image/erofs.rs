//! A folder as an EROFS file system (the kernel's `fs/erofs`), uncompressed: a disk that a machine mounts
//! and cannot write. Nothing but the folder decides what is in it, so the same image is the same disk.
//!
//! One block of superblock, then the inodes, 64 bytes each, then the contents: every file, folder and
//! link begins at a block of its own.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const BLOCK: usize = 4096;
const INODE: usize = 64;
/// An inode's number counts half inodes: the other sort has 32 bytes.
const SLOTS: u64 = 2;
const MAGIC: u32 = 0xE0F5_E1E2;
const SUPERBLOCK_AT: usize = 1024;
/// Inodes begin here.
const META: u64 = 1;
/// An inode of the extended sort, whose contents are plain blocks.
const FORMAT: u16 = 1;
/// Bytes of an entry of a folder, before its name.
const ENTRY: usize = 12;

/// A file, folder or link.
struct Node {
    path: PathBuf,
    meta: fs::Metadata,
    contents: Contents,
    links: u32,
    /// Its first block.
    block: u64,
}

enum Contents {
    File,
    Bytes(Vec<u8>),
    /// Names and places in the list of nodes, in order; the one above.
    Folder(Vec<(Vec<u8>, usize)>, usize),
}

/// Writes what is in some folders that lie over each other, the top one first; all belongs to user 0.
pub(crate) fn write(layers: &[PathBuf], to: &Path) -> io::Result<()> {
    let mut nodes = Vec::new();
    collect(layers, 0, &mut nodes)?;
    let mut next = META + (nodes.len() * INODE + INODE).div_ceil(BLOCK) as u64;
    let bodies: Vec<Option<Vec<u8>>> = (0..nodes.len()).map(|at| body(&nodes, at)).collect();
    for (node, body) in nodes.iter_mut().zip(&bodies) {
        node.block = next;
        next += node.length(body).div_ceil(BLOCK as u64);
    }
    let mut file = BufWriter::with_capacity(1 << 20, File::create(to)?);
    file.write_all(&superblock(nodes.len() as u64, next))?;
    // Number 0 is nobody's: programs take it for a removed entry.
    let mut inodes = vec![0; INODE];
    for (at, (node, body)) in nodes.iter().zip(&bodies).enumerate() {
        inodes.extend(node.inode(at, node.length(body)));
    }
    write_blocks(&mut file, &inodes)?;
    for (node, body) in nodes.iter().zip(&bodies) {
        match body {
            Some(bytes) => write_blocks(&mut file, bytes)?,
            None => copy_blocks(&mut file, &node.path, node.meta.len())?,
        }
    }
    file.into_inner()?.sync_all()
}

/// A node, by where it is in each layer that has it, and all below it; gives its place.
fn collect(layers: &[PathBuf], above: usize, nodes: &mut Vec<Node>) -> io::Result<usize> {
    let path = layers.first().ok_or(io::ErrorKind::NotFound)?;
    let (at, meta) = (nodes.len(), fs::symlink_metadata(path)?);
    let contents = if meta.is_symlink() {
        Contents::Bytes(fs::read_link(path)?.as_os_str().as_bytes().to_vec())
    } else if meta.is_file() {
        Contents::File
    } else {
        Contents::Bytes(Vec::new())
    };
    let is_folder = meta.is_dir();
    nodes.push(Node {
        path: path.clone(),
        meta,
        contents,
        links: 1,
        block: 0,
    });
    if !is_folder {
        return Ok(at);
    }
    let mut names: BTreeMap<OsString, Vec<PathBuf>> = BTreeMap::new();
    for layer in layers.iter().filter(|layer| is_plain_folder(layer)) {
        for entry in fs::read_dir(layer)? {
            let entry = entry?;
            names
                .entry(entry.file_name())
                .or_default()
                .push(entry.path());
        }
    }
    let (mut entries, mut folders) = (Vec::new(), 0);
    for (name, layers) in names {
        let below = collect(&layers, at, nodes)?;
        folders += u32::from(nodes[below].meta.is_dir());
        entries.push((name.as_bytes().to_vec(), below));
    }
    nodes[at].links = 2 + folders;
    nodes[at].contents = Contents::Folder(entries, above);
    Ok(at)
}

fn is_plain_folder(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir())
}

/// What stands in a node's blocks, if it is not a file's contents.
fn body(nodes: &[Node], at: usize) -> Option<Vec<u8>> {
    match &nodes[at].contents {
        Contents::File => None,
        Contents::Bytes(bytes) => Some(bytes.clone()),
        Contents::Folder(entries, above) => {
            let mut all: Vec<(&[u8], usize)> = entries
                .iter()
                .map(|(name, at)| (name.as_slice(), *at))
                .collect();
            all.extend([(&b"."[..], at), (&b".."[..], *above)]);
            all.sort_unstable();
            Some(folder(nodes, &all))
        }
    }
}

/// Blocks of entries, each with its names behind them.
fn folder(nodes: &[Node], mut entries: &[(&[u8], usize)]) -> Vec<u8> {
    let mut blocks = Vec::new();
    while !entries.is_empty() {
        blocks.resize(blocks.len().next_multiple_of(BLOCK), 0);
        let (mut fit, mut used) = (0, 0);
        while fit < entries.len() && used + ENTRY + entries[fit].0.len() <= BLOCK {
            used += ENTRY + entries[fit].0.len();
            fit += 1;
        }
        let (here, rest) = entries.split_at(fit);
        let mut name_at = here.len() * ENTRY;
        for (name, node) in here {
            blocks.extend(number(*node).to_le_bytes());
            blocks.extend((name_at as u16).to_le_bytes());
            blocks.extend([kind(&nodes[*node].meta), 0]);
            name_at += name.len();
        }
        for (name, _) in here {
            blocks.extend(*name);
        }
        entries = rest;
    }
    blocks
}

/// The number of a node.
fn number(at: usize) -> u64 {
    (at as u64 + 1) * SLOTS
}

fn kind(meta: &fs::Metadata) -> u8 {
    match (meta.is_file(), meta.is_dir(), meta.is_symlink()) {
        (true, ..) => 1,
        (_, true, _) => 2,
        (.., true) => 7,
        _ => 0,
    }
}

impl Node {
    fn length(&self, body: &Option<Vec<u8>>) -> u64 {
        body.as_ref()
            .map_or(self.meta.len(), |bytes| bytes.len() as u64)
    }

    fn inode(&self, at: usize, length: u64) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(INODE);
        bytes.extend(FORMAT.to_le_bytes());
        bytes.extend([0; 2]);
        bytes.extend((self.meta.mode() as u16).to_le_bytes());
        bytes.extend([0; 2]);
        bytes.extend(length.to_le_bytes());
        bytes.extend((self.block as u32).to_le_bytes());
        bytes.extend((number(at) as u32).to_le_bytes());
        bytes.extend([0; 8]); // Its user and group.
        bytes.extend((self.meta.mtime() as u64).to_le_bytes());
        bytes.extend([0; 4]);
        bytes.extend(self.links.to_le_bytes());
        bytes.resize(INODE, 0);
        bytes
    }
}

fn superblock(nodes: u64, blocks: u64) -> Vec<u8> {
    let mut bytes = vec![0; SUPERBLOCK_AT];
    bytes.extend(MAGIC.to_le_bytes());
    bytes.extend([0; 8]); // No checksum, no features.
    bytes.extend([BLOCK.trailing_zeros() as u8, 0]);
    bytes.extend((number(0) as u16).to_le_bytes());
    bytes.extend(nodes.to_le_bytes());
    bytes.extend([0; 12]); // Each inode has its own time.
    bytes.extend((blocks as u32).to_le_bytes());
    bytes.extend((META as u32).to_le_bytes());
    bytes.resize(BLOCK, 0);
    bytes
}

fn write_blocks(to: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes)?;
    pad(to, bytes.len() as u64)
}

fn copy_blocks(to: &mut impl Write, from: &Path, length: u64) -> io::Result<()> {
    let copied = io::copy(&mut File::open(from)?.take(length), to)?;
    if copied != length {
        return Err(io::Error::other(format!(
            "{} changed while it was read",
            from.display()
        )));
    }
    pad(to, length)
}

fn pad(to: &mut impl Write, length: u64) -> io::Result<()> {
    let short = length.next_multiple_of(BLOCK as u64) - length;
    to.write_all(&[0; BLOCK][..short as usize])
}
