//! Writing a cartridge.

use crate::file::{FILE_VERSION, FileHeader, MAGIC, SHARDS_AT};
use crate::format::{
    BLOCK_ALIGN, BlockWriter, DIRECTORY, DirectoryHeader, SHAPE, SectionRecord, Start, section,
};
use crate::hidden::HiddenLayout;
use crate::merkle::merkle_root;
use crate::model::{EXPAND, STATE_BITS};
use crate::schema::{Kind, Schema, SchemaError};
use bytemuck::Zeroable;
use thiserror::Error;
use worldline_abi::{KIND_POLICY, KIND_WORLD, MAX_SHARD_BYTES, MAX_SHARDS, ModelManifest};
use worldline_mamba2::{
    CONV_TAPS, Dims, HEAD_DIM, Kernels, LayerParams, Linear, Output, Scalar, Tables,
};

/// Why a cartridge cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BuildError {
    /// The schema does not compile.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// A section is larger than a shard, or there are too many shards.
    #[error(
        "the model is too large for {MAX_SHARDS} shards of {MAX_SHARD_BYTES} bytes: train a smaller one"
    )]
    TooLarge,
    /// The sizes make no page layout.
    #[error("the hidden state of this model does not fit its pages: train a smaller one")]
    Hidden,
}

/// What a cartridge says about its making.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Provenance {
    /// Its name, at most 32 bytes.
    pub name: String,
    /// The author's version of this world.
    pub world_version: u32,
    /// Matches it was trained on.
    pub training_matches: u32,
    /// Frames it was trained on, mirrored copies not counted.
    pub training_frames: u64,
    /// The cartridge that it was forked from, or zeros.
    pub parent: [u8; 32],
}

/// The parts of a cartridge; [`Builder::build`] puts them into a file.
pub struct Builder<'a> {
    /// What it says about its making.
    pub provenance: &'a Provenance,
    /// What it predicts from what.
    pub schema: &'a Schema,
    /// Sizes of a block.
    pub dims: Dims,
    /// Look-up tables.
    pub tables: Tables<'a>,
    /// Where matches begin.
    pub starts: &'a [Start],
    /// Embedding rows, table after table.
    pub embeddings: &'a [i16],
    /// The input matrix.
    pub input: Linear<'a>,
    /// The blocks.
    pub layers: &'a [LayerParams<'a>],
    /// The output heads.
    pub output: Output<'a>,
}

impl Builder<'_> {
    /// The file's bytes. The numbers are not checked here: open what was written.
    pub fn build(&self) -> Result<Vec<u8>, BuildError> {
        let plan = self.schema.compile()?;
        let layout = HiddenLayout::new(self.dims, self.layers.len()).ok_or(BuildError::Hidden)?;
        let mut manifest = ModelManifest {
            world_version: self.provenance.world_version,
            schema_id: plan.id(),
            d_model: self.dims.d_model as u16,
            inputs: self.input.columns as u16,
            outputs: self.output.linear.rows() as u16,
            hidden_pages: layout.pages() as u16,
            layers: self.layers.len() as u8,
            d_state: self.dims.d_state as u8,
            head_dim: HEAD_DIM as u8,
            conv: CONV_TAPS as u8,
            expand: EXPAND,
            state_bits: STATE_BITS,
            kind: if self.schema.kind == Kind::World {
                KIND_WORLD
            } else {
                KIND_POLICY
            },
            parameters: self.parameters(),
            macs: self.macs(),
            training_frames: self.provenance.training_frames,
            training_matches: self.provenance.training_matches,
            parent: self.provenance.parent,
            ..ModelManifest::default()
        };
        manifest.set_name(&self.provenance.name);
        let sections = self.sections(plan.bytes());
        let (mut shards, records) = place(&sections)?;
        manifest.shard_count = shards.len() as u8;
        let header = DirectoryHeader {
            discriminator: DIRECTORY,
            sections: records.len() as u32,
            shape: bytemuck::bytes_of(&manifest)[SHAPE]
                .try_into()
                .expect("20 bytes"),
            room: [0; 32],
        };
        let directory = BlockWriter::default().put(&[header]).put(&records).0;
        shards[0][..directory.len()].copy_from_slice(&directory);
        for (bytes, shard) in manifest.shard_bytes.iter_mut().zip(&shards) {
            *bytes = shard.len() as u32;
        }
        let slices: Vec<&[u8]> = shards.iter().map(Vec::as_slice).collect();
        manifest.merkle_root = merkle_root(&Scalar, &slices);
        Ok(file(&manifest, &slices))
    }

    fn sections(&self, plan: &[u8]) -> Vec<Vec<u8>> {
        let mut sections = vec![Vec::new(); section::LAYERS];
        sections[section::PLAN] = plan.to_vec();
        sections[section::SCHEMA] = self.schema.to_json().into_bytes();
        sections[section::STARTS] = bytemuck::cast_slice(self.starts).to_vec();
        sections[section::EMBEDDINGS] = bytemuck::cast_slice(self.embeddings).to_vec();
        sections[section::TABLES] = BlockWriter::default().tables(&self.tables).0;
        sections[section::INPUT] = BlockWriter::default().linear(&self.input).0;
        sections[section::OUTPUT] = BlockWriter::default().output(&self.output).0;
        sections.extend(
            self.layers
                .iter()
                .map(|layer| BlockWriter::default().layer(layer).0),
        );
        sections
    }

    /// Multiplications with weights in one frame.
    fn macs(&self) -> u64 {
        let of = |linear: &Linear<'_>| linear.weights.len() as u64;
        let layers = self
            .layers
            .iter()
            .map(|l| of(&l.in_proj) + of(&l.out_proj) + l.conv_taps.len() as u64);
        of(&self.input) + layers.sum::<u64>() + of(&self.output.linear)
    }

    /// Numbers that training finds: matrices, embeddings, biases, taps, a few per head, norms.
    fn parameters(&self) -> u64 {
        let norms = |l: &LayerParams<'_>| l.in_proj.columns + l.out_proj.columns;
        let vectors = |l: &LayerParams<'_>| (l.conv_bias.len() + 3 * l.a.len() + norms(l)) as u64;
        let rest = self.embeddings.len() + self.output.bias.len() + self.dims.d_model;
        self.macs() + self.layers.iter().map(vectors).sum::<u64>() + rest as u64
    }
}

/// Puts sections into shards, room for the directory first; no section straddles two.
fn place(sections: &[Vec<u8>]) -> Result<(Vec<Vec<u8>>, Vec<SectionRecord>), BuildError> {
    let directory = size_of::<SectionRecord>() * sections.len();
    let first = size_of::<DirectoryHeader>() + directory.next_multiple_of(BLOCK_ALIGN);
    let mut shards = vec![vec![0; first]];
    let mut records = Vec::new();
    for bytes in sections {
        let padded = bytes.len().next_multiple_of(BLOCK_ALIGN);
        if shards
            .last()
            .is_some_and(|shard| shard.len() + padded > MAX_SHARD_BYTES)
        {
            shards.push(Vec::new());
        }
        let index = shards.len() - 1;
        let shard = &mut shards[index];
        if shard.len() + padded > MAX_SHARD_BYTES || index >= MAX_SHARDS {
            return Err(BuildError::TooLarge);
        }
        records.push(SectionRecord {
            shard: index as u32,
            offset: shard.len() as u32,
            bytes: bytes.len() as u32,
            ..SectionRecord::zeroed()
        });
        shard.extend_from_slice(bytes);
        shard.resize(shard.len().next_multiple_of(BLOCK_ALIGN), 0);
    }
    Ok((shards, records))
}

/// A file of this manifest and these shards, for whoever has them from elsewhere (a chain).
pub fn file(manifest: &ModelManifest, shards: &[&[u8]]) -> Vec<u8> {
    let bytes = SHARDS_AT + shards.iter().map(|shard| shard.len()).sum::<usize>();
    let header = FileHeader {
        magic: MAGIC,
        version: FILE_VERSION,
        shards_at: SHARDS_AT as u32,
        file_bytes: bytes as u64,
        manifest_hash: Scalar.sha256(&[bytemuck::bytes_of(manifest)]),
        room: [0; 8],
    };
    let mut file = Vec::with_capacity(bytes);
    file.extend_from_slice(bytemuck::bytes_of(&header));
    file.extend_from_slice(bytemuck::bytes_of(manifest));
    shards
        .iter()
        .for_each(|shard| file.extend_from_slice(shard));
    file
}
