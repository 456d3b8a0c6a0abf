//! A cartridge's manifest and shards as what the step reads. Zero copy.

use crate::format::{Blocks, DIRECTORY, DirectoryHeader, SHAPE, SectionRecord, Start, section};
use crate::hidden::HiddenLayout;
use crate::plan::{Plan, PlanError, plan_id};
use thiserror::Error;
use worldline_abi::{MAX_PAGES, MAX_SHARD_BYTES, MAX_SHARDS, ModelManifest, SessionState, status};
use worldline_mamba2::{BoundError, CONV_TAPS, Dims, HEAD_DIM, Layer, Linear, Output, Tables};

/// Layers of a model, at most.
pub const MAX_LAYERS: usize = 64;
/// Bits of a recurrent state's number that this build runs.
pub const STATE_BITS: u8 = 16;
/// `d_inner / d_model` that this build runs.
pub const EXPAND: u8 = 2;

/// Why a manifest and shards are not a model that this build can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ParseError {
    /// The manifest asks for what this build does not run.
    #[error(
        "the manifest's {field} is {found}, which this build does not run: use a build that does, or train with other sizes"
    )]
    Manifest {
        /// Which field.
        field: &'static str,
        /// Its value.
        found: u64,
    },
    /// Not the shards that the manifest lists.
    #[error(
        "shard {index} has {found} bytes, the manifest says {expected}: get the cartridge again"
    )]
    Shard {
        /// Which shard.
        index: usize,
        /// Bytes that the manifest says.
        expected: usize,
        /// Bytes that are there.
        found: usize,
    },
    /// The first shard does not begin with a directory of this version.
    #[error(
        "the first shard has no directory of this version: get the cartridge again, or use the build that wrote it"
    )]
    Directory,
    /// The directory and the manifest contradict each other.
    #[error("manifest and shards describe different models: get both from the same cartridge")]
    Shape,
    /// A section has not the length, place or alignment that the sizes ask for.
    #[error(
        "the section {name:?} is cut short, too long, misplaced or misaligned: get the cartridge again"
    )]
    Section {
        /// Its name.
        name: &'static str,
    },
    /// The schema cannot be used.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// Parameters that could overflow.
    #[error("{name} {index}: {source}")]
    Bound {
        /// A section's name.
        name: &'static str,
        /// Which layer, or 0.
        index: usize,
        /// What is wrong.
        source: BoundError,
    },
}

/// Why a match cannot start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum StartError {
    /// The cartridge has no start state for it.
    #[error(
        "this world has no start on stage {stage} for characters {characters:?}: choose a stage and characters that it lists"
    )]
    Unknown {
        /// The stage asked for.
        stage: u8,
        /// The characters asked for.
        characters: [u8; 2],
    },
}

/// A model in the memory of its manifest and shards. Small: pass it by reference.
#[derive(Debug, Clone, Copy)]
pub struct Model<'a> {
    manifest: &'a ModelManifest,
    plan: Plan<'a>,
    tables: Tables<'a>,
    starts: &'a [Start],
    embeddings: &'a [i16],
    input: Linear<'a>,
    output: Output<'a>,
    dims: Dims,
    hidden: HiddenLayout,
    sections: &'a [SectionRecord],
    shards: [&'a [u8]; MAX_SHARDS],
}

impl<'a> Model<'a> {
    /// Finds every part and checks every length and number, the weights' row sums included: once per
    /// cartridge. The Merkle root is the caller's to check.
    pub fn parse(manifest: &'a ModelManifest, shards: &[&'a [u8]]) -> Result<Self, ParseError> {
        let model = Self::view(manifest, shards)?;
        model.check()?;
        Ok(model)
    }

    /// Finds every part, and trusts their contents: for shards that [`Model::parse`] accepted before.
    /// Contents that it would have refused may make a step panic.
    pub fn view(manifest: &'a ModelManifest, shards: &[&'a [u8]]) -> Result<Self, ParseError> {
        check_manifest(manifest)?;
        let found = cut_shards(manifest, shards)?;
        let header_bytes = size_of::<DirectoryHeader>();
        let (header, rest) = found[0]
            .split_at_checked(header_bytes)
            .ok_or(ParseError::Directory)?;
        let header: &DirectoryHeader =
            bytemuck::try_from_bytes(header).map_err(|_| ParseError::Directory)?;
        let count = section::LAYERS + usize::from(manifest.layers);
        if header.discriminator != DIRECTORY || header.room != [0; 32] {
            return Err(ParseError::Directory);
        }
        if header.shape != bytemuck::bytes_of(manifest)[SHAPE] || header.sections as usize != count
        {
            return Err(ParseError::Shape);
        }
        let sections = Blocks::new(rest, "directory").take(count)?;
        let dims = Dims {
            d_model: manifest.d_model.into(),
            d_state: manifest.d_state.into(),
        };
        let hidden = HiddenLayout::new(dims, manifest.layers.into()).ok_or(ParseError::Shape)?;
        let find = |index, name| section_bytes(&found, sections, index, name);
        let plan = Plan::view(find(section::PLAN, "schema")?)?;
        let (inputs, outputs) = (usize::from(manifest.inputs), usize::from(manifest.outputs));
        let mut tables = Blocks::new(find(section::TABLES, "tables")?, "tables");
        let mut input = Blocks::new(find(section::INPUT, "input")?, "input");
        let mut output = Blocks::new(find(section::OUTPUT, "output")?, "output");
        let model = Self {
            manifest,
            tables: tables.tables()?,
            starts: cast(find(section::STARTS, "starts")?, "starts")?,
            embeddings: cast(find(section::EMBEDDINGS, "embeddings")?, "embeddings")?,
            input: input.linear(dims.d_model, inputs)?,
            output: output.output(outputs, dims.d_model)?,
            plan,
            dims,
            hidden,
            sections,
            shards: found,
        };
        let header = plan.header;
        let agree = usize::from(header.input_len) == inputs
            && usize::from(header.head_rows) == outputs
            && header.kind == manifest.kind
            && header.embedding_len as usize == model.embeddings.len()
            && hidden.pages() == usize::from(manifest.hidden_pages);
        tables.end()?;
        input.end()?;
        output.end()?;
        if agree {
            Ok(model)
        } else {
            Err(ParseError::Shape)
        }
    }

    fn check(&self) -> Result<(), ParseError> {
        let bound = |name, index| {
            move |source| ParseError::Bound {
                name,
                index,
                source,
            }
        };
        self.plan.check()?;
        if plan_id(self.section(section::PLAN, "schema")?) != self.manifest.schema_id {
            return Err(ParseError::Shape);
        }
        if self.hidden.pages() > MAX_PAGES {
            return Err(ParseError::Manifest {
                field: "hidden_pages",
                found: self.manifest.hidden_pages.into(),
            });
        }
        self.tables.check().map_err(bound("tables", 0))?;
        self.input.check().map_err(bound("input", 0))?;
        self.output.check().map_err(bound("output", 0))?;
        for index in 0..self.layers() {
            let mut blocks = self.layer_blocks(index)?;
            let params = blocks.layer(self.dims)?;
            blocks.end()?;
            let layer = Layer {
                dims: self.dims,
                params,
                tables: self.tables,
            };
            layer.check().map_err(bound("layer", index))?;
        }
        Ok(())
    }

    /// Sizes, name and provenance.
    pub fn manifest(&self) -> &'a ModelManifest {
        self.manifest
    }

    /// The compiled schema.
    pub fn plan(&self) -> &Plan<'a> {
        &self.plan
    }

    /// The look-up tables.
    pub fn tables(&self) -> &Tables<'a> {
        &self.tables
    }

    /// The embedding rows, table after table.
    pub fn embeddings(&self) -> &'a [i16] {
        self.embeddings
    }

    /// The start states.
    pub fn starts(&self) -> &'a [Start] {
        self.starts
    }

    /// The schema's JSON.
    pub fn schema_json(&self) -> Result<&'a [u8], ParseError> {
        self.section(section::SCHEMA, "schema JSON")
    }

    /// The input matrix.
    pub fn input(&self) -> &Linear<'a> {
        &self.input
    }

    /// The output heads.
    pub fn output(&self) -> &Output<'a> {
        &self.output
    }

    /// Number of blocks.
    pub fn layers(&self) -> usize {
        self.manifest.layers.into()
    }

    /// Sizes of a block.
    pub fn dims(&self) -> Dims {
        self.dims
    }

    /// One block.
    pub fn layer(&self, index: usize) -> Result<Layer<'a>, ParseError> {
        let params = self.layer_blocks(index)?.layer(self.dims)?;
        Ok(Layer {
            dims: self.dims,
            params,
            tables: self.tables,
        })
    }

    /// Where a match's hidden state lies.
    pub fn hidden(&self) -> HiddenLayout {
        self.hidden
    }

    /// The state before a match's first frame: active, at frame 0, hidden state all zeros.
    ///
    /// A start for exactly these characters is preferred; one for any character takes them over.
    pub fn start(&self, stage: u8, characters: [u8; 2]) -> Result<SessionState, StartError> {
        let here = || self.starts.iter().filter(|s| s.stage == stage);
        let any = [Start::ANY; 2];
        let exact = here().find(|s| s.characters == characters);
        let start = exact.or_else(|| here().find(|s| s.characters == any));
        let mut players = start
            .ok_or(StartError::Unknown { stage, characters })?
            .players;
        for (player, character) in players.iter_mut().zip(characters) {
            player.character = character;
        }
        Ok(SessionState {
            status: status::ACTIVE,
            stage,
            clock: self.plan.header.clock_frames,
            schema_id: self.manifest.schema_id,
            players,
            ..SessionState::default()
        })
    }

    fn layer_blocks(&self, index: usize) -> Result<Blocks<'a>, ParseError> {
        Ok(Blocks::new(
            self.section(section::LAYERS + index, "layer")?,
            "layer",
        ))
    }

    fn section(&self, index: usize, name: &'static str) -> Result<&'a [u8], ParseError> {
        section_bytes(&self.shards, self.sections, index, name)
    }
}

fn cast<'a, T: bytemuck::Pod>(bytes: &'a [u8], name: &'static str) -> Result<&'a [T], ParseError> {
    bytemuck::try_cast_slice(bytes).map_err(|_| ParseError::Section { name })
}

fn section_bytes<'a>(
    shards: &[&'a [u8]; MAX_SHARDS],
    sections: &[SectionRecord],
    index: usize,
    name: &'static str,
) -> Result<&'a [u8], ParseError> {
    let find = || {
        let record = sections.get(index)?;
        let shard = shards.get(record.shard as usize)?;
        let first = record.offset as usize;
        shard.get(first..first.checked_add(record.bytes as usize)?)
    };
    find().ok_or(ParseError::Section { name })
}

fn check_manifest(m: &ModelManifest) -> Result<(), ParseError> {
    let version = ModelManifest::default().discriminator;
    let runs = [
        (
            "discriminator",
            m.discriminator == version,
            u64::from_le_bytes(m.discriminator),
        ),
        (
            "head_dim",
            usize::from(m.head_dim) == HEAD_DIM,
            m.head_dim.into(),
        ),
        ("conv", usize::from(m.conv) == CONV_TAPS, m.conv.into()),
        ("expand", m.expand == EXPAND, m.expand.into()),
        (
            "state_bits",
            m.state_bits == STATE_BITS,
            m.state_bits.into(),
        ),
        (
            "layers",
            (1..=MAX_LAYERS).contains(&m.layers.into()),
            m.layers.into(),
        ),
        (
            "d_model",
            m.d_model > 0 && m.d_model.is_multiple_of(32),
            m.d_model.into(),
        ),
        (
            "d_state",
            m.d_state > 0 && m.d_state.is_multiple_of(2),
            m.d_state.into(),
        ),
        (
            "shard_count",
            (1..=MAX_SHARDS).contains(&m.shard_count.into()),
            m.shard_count.into(),
        ),
    ];
    match runs.into_iter().find(|(_, ok, _)| !ok) {
        Some((field, _, found)) => Err(ParseError::Manifest { field, found }),
        None => Ok(()),
    }
}

fn cut_shards<'a>(
    manifest: &ModelManifest,
    shards: &[&'a [u8]],
) -> Result<[&'a [u8]; MAX_SHARDS], ParseError> {
    let mut found: [&[u8]; MAX_SHARDS] = [&[]; MAX_SHARDS];
    let count = usize::from(manifest.shard_count);
    for (index, expected) in manifest.shard_bytes.iter().enumerate() {
        let expected = *expected as usize;
        let shard = shards.get(index).copied().unwrap_or(&[]);
        let used = index < count && (1..=MAX_SHARD_BYTES).contains(&expected);
        if shard.len() != expected || used != (index < count) || (expected > 0) != (index < count) {
            return Err(ParseError::Shard {
                index,
                expected,
                found: shard.len(),
            });
        }
        found[index] = shard;
    }
    Ok(found)
}
