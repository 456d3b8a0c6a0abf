//! What a cartridge says about itself, and the pages that hold a match's hidden state.

use crate::layout::layout;
use bytemuck::{Pod, Zeroable};

/// Shards of a cartridge, at most.
pub const MAX_SHARDS: usize = 8;
/// Bytes of a shard, at most: the largest account of a Solana chain, less its [`WeightShard`].
pub const MAX_SHARD_BYTES: usize = 10 * 1024 * 1024 - size_of::<WeightShard>();
/// Bytes of a leaf of the Merkle tree over the shards.
pub const MERKLE_LEAF_BYTES: usize = 64 * 1024;
/// Bytes of a hidden-state page, header and data (the largest account a program can make).
pub const PAGE_BYTES: usize = 10_240;
/// Bytes of a page's [`HiddenHeader`].
pub const PAGE_HEADER: usize = 64;
/// Bytes of a page's data.
pub const PAGE_DATA: usize = PAGE_BYTES - PAGE_HEADER;
/// Pages of a match, at most.
pub const MAX_PAGES: usize = 64;

/// [`ModelManifest::kind`]: predicts the next state.
pub const KIND_WORLD: u8 = 0;
/// [`ModelManifest::kind`]: predicts a player's pad.
pub const KIND_POLICY: u8 = 1;

/// A cartridge's description: sizes, provenance, and the root that its shards hash to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct ModelManifest {
    /// [`Layout::DISCRIMINATOR`](crate::Layout::DISCRIMINATOR).
    pub discriminator: [u8; 8],
    /// UTF-8, padded with zeros.
    pub name: [u8; 32],
    /// The author's version of this world.
    pub world_version: u32,
    /// The schema that its shards carry.
    pub schema_id: u32,
    /// Width of the residual stream.
    pub d_model: u16,
    /// Encoded inputs of a frame.
    pub inputs: u16,
    /// Head rows of a frame.
    pub outputs: u16,
    /// Pages that a match's hidden state takes.
    pub hidden_pages: u16,
    /// Mamba2 blocks.
    pub layers: u8,
    /// State size N of a head's channel.
    pub d_state: u8,
    /// Channels of a head.
    pub head_dim: u8,
    /// Taps of the causal convolution.
    pub conv: u8,
    /// `d_inner / d_model`.
    pub expand: u8,
    /// Bits of a recurrent state's number.
    pub state_bits: u8,
    /// Shards in use.
    pub shard_count: u8,
    /// [`KIND_WORLD`] or [`KIND_POLICY`].
    pub kind: u8,
    /// Trained parameters, embeddings and vectors included.
    pub parameters: u64,
    /// Multiplications with weights in one frame.
    pub macs: u64,
    /// Frames it was trained on, mirrored copies not counted.
    pub training_frames: u64,
    /// Matches it was trained on.
    pub training_matches: u32,
    /// Zero.
    pub padding: u32,
    /// SHA-256 Merkle root over leaves of [`MERKLE_LEAF_BYTES`].
    pub merkle_root: [u8; 32],
    /// The cartridge this one was forked from (a hint), or zeros.
    pub parent: [u8; 32],
    /// Bytes of each shard.
    pub shard_bytes: [u32; MAX_SHARDS],
    /// Addresses of the shard accounts; zero in a file.
    pub shards: [[u8; 32]; MAX_SHARDS],
    /// Owner of the account; zero in a file.
    pub owner: [u8; 32],
    /// Zero.
    pub room: [u8; 32],
}
layout!(ModelManifest, 512, Some(*b"WLMODEL\x01"), {
    discriminator @ 0, name @ 8, world_version @ 40, schema_id @ 44, d_model @ 48, inputs @ 50,
    outputs @ 52, hidden_pages @ 54, layers @ 56, d_state @ 57, head_dim @ 58, conv @ 59,
    expand @ 60, state_bits @ 61, shard_count @ 62, kind @ 63, parameters @ 64, macs @ 72,
    training_frames @ 80, training_matches @ 88, padding @ 92, merkle_root @ 96, parent @ 128,
    shard_bytes @ 160, shards @ 192, owner @ 448, room @ 480,
});

impl Default for ModelManifest {
    /// Nothing but the discriminator.
    fn default() -> Self {
        Self {
            discriminator: *b"WLMODEL\x01",
            ..Self::zeroed()
        }
    }
}

impl ModelManifest {
    /// The name up to its first zero byte; what is not UTF-8 is cut off.
    pub fn name(&self) -> &str {
        let end = self
            .name
            .iter()
            .position(|byte| *byte == 0)
            .unwrap_or(self.name.len());
        match core::str::from_utf8(&self.name[..end]) {
            Ok(name) => name,
            Err(error) => core::str::from_utf8(&self.name[..error.valid_up_to()]).unwrap_or(""),
        }
    }

    /// Sets the name; it is cut at the last whole character that fits 32 bytes.
    pub fn set_name(&mut self, name: &str) {
        let cut = name.floor_char_boundary(self.name.len());
        self.name = [0; 32];
        self.name[..cut].copy_from_slice(&name.as_bytes()[..cut]);
    }
}

/// The header of a shard account, before the shard's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct WeightShard {
    /// [`Layout::DISCRIMINATOR`](crate::Layout::DISCRIMINATOR).
    pub discriminator: [u8; 8],
    /// Address of the manifest.
    pub world: [u8; 32],
    /// Which shard of the manifest.
    pub index: u16,
    /// Zero.
    pub padding: u16,
    /// Bytes that follow the header.
    pub bytes: u32,
    /// Leading leaves whose hash has been checked; all of them when finalized.
    pub verified_leaves: u32,
    /// Zero.
    pub room: [u8; 12],
}
layout!(WeightShard, 64, Some(*b"WLSHARD\x01"), {
    discriminator @ 0, world @ 8, index @ 40, padding @ 42, bytes @ 44, verified_leaves @ 48,
    room @ 52,
});

/// The header of a hidden-state page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct HiddenHeader {
    /// [`Layout::DISCRIMINATOR`](crate::Layout::DISCRIMINATOR).
    pub discriminator: [u8; 8],
    /// Address of the session; zero off chain.
    pub session: [u8; 32],
    /// Which page of the match.
    pub index: u16,
    /// Pages of the match.
    pub count: u16,
    /// Leading data bytes in use.
    pub used: u32,
    /// Zero.
    pub room: [u8; 16],
}
layout!(HiddenHeader, 64, Some(*b"WLHIDDN\x01"), {
    discriminator @ 0, session @ 8, index @ 40, count @ 42, used @ 44, room @ 48,
});

/// One page of a match's hidden state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Page {
    /// What this page is.
    pub header: HiddenHeader,
    /// Recurrent and convolution states; the cartridge fixes their order.
    pub data: [u8; PAGE_DATA],
}
layout!(Page, PAGE_BYTES, Some(*b"WLHIDDN\x01"), { header @ 0, data @ PAGE_HEADER });

impl Page {
    /// Page `index` of `count`, at the start of a match: all zeros.
    pub fn new(index: u16, count: u16) -> Self {
        let mut page = Self::zeroed();
        page.header.discriminator = *b"WLHIDDN\x01";
        (page.header.index, page.header.count) = (index, count);
        page
    }
}
