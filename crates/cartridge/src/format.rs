//! The blocks of a cartridge's shards, read in place. `docs/formats.md` gives them to the byte.

use crate::model::ParseError;
use bytemuck::{Pod, Zeroable};
use worldline_abi::PlayerState;
use worldline_mamba2::{CONV_TAPS, Dims, LayerParams, Linear, Output, Tables, tables};

/// Alignment of every section and of every array in it, in bytes.
pub const BLOCK_ALIGN: usize = 64;
/// First eight bytes of the first shard.
pub const DIRECTORY: [u8; 8] = *b"WLDIREC\x01";
/// The manifest bytes that the directory repeats: schema id to kind.
pub(crate) const SHAPE: core::ops::Range<usize> = 44..64;

/// The sections, in the directory's order; the layers follow.
pub mod section {
    /// The compiled schema.
    pub const PLAN: usize = 0;
    /// The schema's JSON.
    pub const SCHEMA: usize = 1;
    /// Look-up tables.
    pub const TABLES: usize = 2;
    /// Start states.
    pub const STARTS: usize = 3;
    /// Embedding rows, i16 Q12.
    pub const EMBEDDINGS: usize = 4;
    /// The input matrix.
    pub const INPUT: usize = 5;
    /// The output heads.
    pub const OUTPUT: usize = 6;
    /// The first layer.
    pub const LAYERS: usize = 7;
}

/// First 64 bytes of the first shard; the [`SectionRecord`]s follow.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
pub struct DirectoryHeader {
    /// [`DIRECTORY`].
    pub discriminator: [u8; 8],
    /// Number of sections.
    pub sections: u32,
    /// Bytes 44 to 63 of the manifest, so that the Merkle root covers them.
    pub shape: [u8; 20],
    /// Zero.
    pub room: [u8; 32],
}

/// Where a section lies.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
pub struct SectionRecord {
    /// Which shard.
    pub shard: u32,
    /// First byte in the shard, a multiple of [`BLOCK_ALIGN`].
    pub offset: u32,
    /// Length in bytes.
    pub bytes: u32,
    /// Zero.
    pub room: u32,
}

/// Where a match may begin.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
pub struct Start {
    /// Stage.
    pub stage: u8,
    /// Characters by seat, or [`Start::ANY`].
    pub characters: [u8; 2],
    /// Zero.
    pub room: u8,
    /// Both players in the first frame.
    pub players: [PlayerState; 2],
}

impl Start {
    /// Every character.
    pub const ANY: u8 = 0xFF;
}

const _: () = {
    assert!(size_of::<DirectoryHeader>() == 64);
    assert!(size_of::<SectionRecord>() == 16);
    assert!(size_of::<Start>() == 196);
};

/// Cuts arrays off a section, each padded to [`BLOCK_ALIGN`].
pub(crate) struct Blocks<'a> {
    rest: &'a [u8],
    name: &'static str,
}

impl<'a> Blocks<'a> {
    pub(crate) fn new(rest: &'a [u8], name: &'static str) -> Self {
        Self { rest, name }
    }

    pub(crate) fn take<T: Pod>(&mut self, count: usize) -> Result<&'a [T], ParseError> {
        let error = ParseError::Section { name: self.name };
        let bytes = count * size_of::<T>();
        let padded = bytes.next_multiple_of(BLOCK_ALIGN);
        let (block, rest) = self.rest.split_at_checked(padded).ok_or(error)?;
        self.rest = rest;
        bytemuck::try_cast_slice(&block[..bytes]).map_err(|_| error)
    }

    /// All bytes must have been taken.
    pub(crate) fn end(self) -> Result<(), ParseError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(ParseError::Section { name: self.name })
        }
    }

    pub(crate) fn linear(&mut self, rows: usize, columns: usize) -> Result<Linear<'a>, ParseError> {
        let shift = self.take::<u32>(1)?[0];
        let row_sums = self.take(rows)?;
        let multipliers = self.take(rows)?;
        let weights = self.take(rows * columns)?;
        Ok(Linear {
            weights,
            row_sums,
            multipliers,
            columns,
            shift,
        })
    }

    pub(crate) fn output(&mut self, rows: usize, columns: usize) -> Result<Output<'a>, ParseError> {
        let bias = self.take(rows)?;
        Ok(Output {
            linear: self.linear(rows, columns)?,
            bias,
        })
    }

    pub(crate) fn tables(&mut self) -> Result<Tables<'a>, ParseError> {
        Ok(Tables {
            silu: self.take(tables::SILU_ENTRIES)?,
            softplus: self.take(tables::SOFTPLUS_ENTRIES)?,
            exp: self.take(tables::EXP_ENTRIES)?,
            rsqrt: self.take(tables::RSQRT_ENTRIES)?,
        })
    }

    pub(crate) fn layer(&mut self, dims: Dims) -> Result<LayerParams<'a>, ParseError> {
        let (channels, heads) = (dims.conv_dim(), dims.heads());
        Ok(LayerParams {
            in_proj: self.linear(dims.in_rows(), dims.d_model)?,
            conv_taps: self.take(CONV_TAPS * channels)?,
            conv_shift: self.take(channels)?,
            conv_bias: self.take(channels)?,
            dt_bias: self.take(heads)?,
            a: self.take(heads)?,
            state_mul: self.take(heads)?,
            dtx_shift: self.take(heads)?,
            y_mul: self.take(heads)?,
            d_mul: self.take(heads)?,
            y_shift: self.take(heads)?,
            out_proj: self.linear(dims.d_model, dims.d_inner())?,
        })
    }
}

/// Writes arrays in the order in which [`Blocks`] takes them.
#[cfg(feature = "std")]
#[derive(Default)]
pub(crate) struct BlockWriter(pub(crate) Vec<u8>);

#[cfg(feature = "std")]
impl BlockWriter {
    pub(crate) fn put<T: Pod>(mut self, values: &[T]) -> Self {
        self.0.extend_from_slice(bytemuck::cast_slice(values));
        self.0.resize(self.0.len().next_multiple_of(BLOCK_ALIGN), 0);
        self
    }

    pub(crate) fn linear(self, linear: &Linear<'_>) -> Self {
        let sums = self.put(&[linear.shift]).put(linear.row_sums);
        sums.put(linear.multipliers).put(linear.weights)
    }

    pub(crate) fn output(self, output: &Output<'_>) -> Self {
        self.put(output.bias).linear(&output.linear)
    }

    pub(crate) fn tables(self, t: &Tables<'_>) -> Self {
        self.put(t.silu).put(t.softplus).put(t.exp).put(t.rsqrt)
    }

    pub(crate) fn layer(self, p: &LayerParams<'_>) -> Self {
        let conv = self
            .linear(&p.in_proj)
            .put(p.conv_taps)
            .put(p.conv_shift)
            .put(p.conv_bias);
        let heads = conv
            .put(p.dt_bias)
            .put(p.a)
            .put(p.state_mul)
            .put(p.dtx_shift);
        heads
            .put(p.y_mul)
            .put(p.d_mul)
            .put(p.y_shift)
            .linear(&p.out_proj)
    }
}
