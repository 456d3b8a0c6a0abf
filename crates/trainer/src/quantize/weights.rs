//! A checkpoint's numbers, by name.

use super::QuantizeError;
use safetensors::{Dtype, SafeTensors};
use std::path::Path;
use worldline_cartridge::schema::Schema;
use worldline_mamba2::{CONV_TAPS, Dims, HEAD_DIM};

/// A row-major matrix.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Matrix {
    pub(super) columns: usize,
    pub(super) values: Vec<f32>,
}

impl Matrix {
    pub(super) fn rows(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.values.chunks_exact(self.columns)
    }
}

/// One block.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Block {
    pub(super) norm: Vec<f32>,
    pub(super) in_proj: Matrix,
    /// `[channel][tap]`, oldest tap first.
    pub(super) taps: Vec<f32>,
    pub(super) conv_bias: Vec<f32>,
    pub(super) dt_bias: Vec<f32>,
    pub(super) a_log: Vec<f32>,
    pub(super) skip: Vec<f32>,
    pub(super) gated_norm: Vec<f32>,
    pub(super) out_proj: Matrix,
}

/// A whole network.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Weights {
    pub(super) schema: Schema,
    pub(super) dims: Dims,
    /// Rows of every table, table after table.
    pub(super) embeddings: Vec<f32>,
    pub(super) input: Matrix,
    pub(super) blocks: Vec<Block>,
    pub(super) norm: Vec<f32>,
    pub(super) head: Matrix,
    pub(super) head_bias: Vec<f32>,
}

impl Weights {
    /// Reads a checkpoint: SafeTensors of f32 under Hugging Face's `Mamba2` names, with the schema's
    /// JSON in the metadata.
    pub(super) fn load(path: &Path) -> Result<Self, QuantizeError> {
        let bytes = std::fs::read(path).map_err(|source| QuantizeError::Io {
            path: path.into(),
            source,
        })?;
        Self::parse(&bytes)
    }

    pub(super) fn parse(bytes: &[u8]) -> Result<Self, QuantizeError> {
        let damaged =
            |error: safetensors::SafeTensorError| QuantizeError::Checkpoint(error.to_string());
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(damaged)?;
        let schema = header
            .metadata()
            .as_ref()
            .and_then(|entries| entries.get("schema"));
        let schema = schema
            .ok_or_else(|| QuantizeError::Checkpoint("its metadata has no \"schema\"".into()))?;
        let schema = Schema::from_json(schema.as_bytes())?;
        let tensors = Tensors(SafeTensors::deserialize(bytes).map_err(damaged)?);

        let norm = tensors.vector("backbone.norm_f.weight", None)?;
        let d_model = norm.len();
        let channels = tensors
            .vector("backbone.layers.0.mixer.conv1d.bias", None)?
            .len();
        let dims = Dims {
            d_model,
            d_state: channels.saturating_sub(2 * d_model) / 2,
        };
        let embeddings = schema.tables.iter().map(|table| {
            let len = schema.table_rows(table) * usize::from(table.width);
            tensors.vector(&format!("embed.{}.weight", table.name), Some(len))
        });
        let embeddings = embeddings.collect::<Result<Vec<_>, _>>()?.concat();
        let mut blocks = Vec::new();
        while tensors
            .0
            .tensor(&format!("backbone.layers.{}.norm.weight", blocks.len()))
            .is_ok()
        {
            blocks.push(tensors.block(blocks.len(), dims)?);
        }
        let rows = schema.head_rows();
        Ok(Self {
            dims,
            embeddings,
            input: tensors.matrix("input.weight", d_model, schema.input_len())?,
            blocks,
            norm,
            head: tensors.matrix("head.weight", rows, d_model)?,
            head_bias: tensors.vector("head.bias", Some(rows))?,
            schema,
        })
    }
}

struct Tensors<'a>(SafeTensors<'a>);

impl Tensors<'_> {
    fn vector(&self, name: &str, len: Option<usize>) -> Result<Vec<f32>, QuantizeError> {
        let wrong = |what: String| QuantizeError::Checkpoint(format!("{name}: {what}"));
        let view = self
            .0
            .tensor(name)
            .map_err(|error| wrong(error.to_string()))?;
        if view.dtype() != Dtype::F32 {
            return Err(wrong(format!(
                "numbers of type {:?} where F32 is due",
                view.dtype()
            )));
        }
        let number = |bytes: &[u8]| f32::from_le_bytes(bytes.try_into().expect("four bytes"));
        let values: Vec<f32> = view.data().chunks_exact(4).map(number).collect();
        let due = len.unwrap_or(values.len());
        if values.len() != due {
            return Err(wrong(format!(
                "{} numbers where {due} are due",
                values.len()
            )));
        }
        if values.iter().any(|value| !value.is_finite()) {
            return Err(wrong("a number is not finite: training diverged".into()));
        }
        Ok(values)
    }

    fn matrix(&self, name: &str, rows: usize, columns: usize) -> Result<Matrix, QuantizeError> {
        Ok(Matrix {
            columns,
            values: self.vector(name, Some(rows * columns))?,
        })
    }

    fn block(&self, index: usize, dims: Dims) -> Result<Block, QuantizeError> {
        let name = |tensor: &str| format!("backbone.layers.{index}.{tensor}");
        let vector = |tensor: &str, len: usize| self.vector(&name(tensor), Some(len));
        let (heads, channels) = (2 * dims.d_model / HEAD_DIM, dims.conv_dim());
        Ok(Block {
            norm: vector("norm.weight", dims.d_model)?,
            in_proj: self.matrix(&name("mixer.in_proj.weight"), dims.in_rows(), dims.d_model)?,
            taps: vector("mixer.conv1d.weight", channels * CONV_TAPS)?,
            conv_bias: vector("mixer.conv1d.bias", channels)?,
            dt_bias: vector("mixer.dt_bias", heads)?,
            a_log: vector("mixer.A_log", heads)?,
            skip: vector("mixer.D", heads)?,
            gated_norm: vector("mixer.norm.weight", dims.d_inner())?,
            out_proj: self.matrix(&name("mixer.out_proj.weight"), dims.d_model, dims.d_inner())?,
        })
    }
}
