//! What a run leaves on disk. `NAME.safetensors` holds the averaged weights under
//! Hugging Face's names, with the schema in its metadata: a world to evaluate or
//! quantize. `NAME.state` holds all that an exact resume needs. Both are written
//! beside their place and renamed into it.

use super::adamw::Optimizer;
use super::lane::Lane;
use super::stream::Stream;
use crate::params::{Layout, Sizes};
use crate::random::Random;
use safetensors::tensor::{Dtype, SafeTensorError, TensorView};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use thiserror::Error;
use worldline_cartridge::schema::Schema;

/// Why a checkpoint cannot be written or read.
#[derive(Debug, Error)]
pub enum CheckpointError {
    /// The file system said no.
    #[error("{doing} {path}: {source}; check the folder, its rights and its free space")]
    Io {
        /// Reading or writing.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not a safetensors file, or a damaged one.
    #[error(
        "{path} is not a whole checkpoint ({source}); delete it to start anew, or restore a copy"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Why.
        source: SafeTensorError,
    },
    /// A tensor or an entry is missing, or does not fit.
    #[error(
        "{path} does not fit this network: {what}; train with the configuration it was made with"
    )]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// Which.
        what: String,
    },
}

/// Writes a file whole or not at all.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), CheckpointError> {
    let failed = |source| CheckpointError::Io {
        doing: "writing",
        path: path.into(),
        source,
    };
    let beside = path.with_extension("partial");
    let mut file = std::fs::File::create(&beside).map_err(failed)?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .map_err(failed)?;
    std::fs::rename(&beside, path).map_err(failed)
}

fn read(path: &Path) -> Result<Vec<u8>, CheckpointError> {
    std::fs::read(path).map_err(|source| CheckpointError::Io {
        doing: "reading",
        path: path.into(),
        source,
    })
}

/// Little-endian bytes, aligned or not, as floats.
fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        .collect()
}

fn serialize(
    path: &Path,
    tensors: &[(String, Vec<usize>, &[f32])],
    metadata: HashMap<String, String>,
) -> Result<(), CheckpointError> {
    let damaged = |source| CheckpointError::Damaged {
        path: path.into(),
        source,
    };
    let mut views = Vec::new();
    for (name, shape, values) in tensors {
        views.push((
            name,
            TensorView::new(Dtype::F32, shape.clone(), bytemuck::cast_slice(values))
                .map_err(damaged)?,
        ));
    }
    write_whole(
        path,
        &safetensors::serialize(views, Some(metadata)).map_err(damaged)?,
    )
}

/// A trained network: what evaluation and quantization start from.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// The world's name.
    pub name: String,
    /// Its schema.
    pub schema: Schema,
    /// Its sizes.
    pub sizes: Sizes,
    /// Its parameters, laid out by [`Layout`].
    pub weights: Vec<f32>,
    /// Matches and frames it was trained on.
    pub trained_on: (u32, u64),
}

impl Checkpoint {
    /// Writes it.
    pub fn save(&self, path: &Path) -> Result<(), CheckpointError> {
        let layout = Layout::new(&self.sizes);
        let values: Vec<_> = layout
            .tensors()
            .iter()
            .map(|t| (t.name.clone(), t.shape.clone(), t.gather(&self.weights)))
            .collect();
        let tensors: Vec<_> = values
            .iter()
            .map(|(n, s, v)| (n.clone(), s.clone(), v.as_slice()))
            .collect();
        let metadata = HashMap::from([
            ("name".into(), self.name.clone()),
            ("schema".into(), self.schema.to_json()),
            (
                "sizes".into(),
                serde_json::to_string(&self.sizes).expect("plain numbers"),
            ),
            ("matches".into(), self.trained_on.0.to_string()),
            ("frames".into(), self.trained_on.1.to_string()),
        ]);
        serialize(path, &tensors, metadata)
    }

    /// Reads one.
    pub fn load(path: &Path) -> Result<Self, CheckpointError> {
        let bytes = read(path)?;
        let damaged = |source| CheckpointError::Damaged {
            path: path.into(),
            source,
        };
        let mismatch = |what: String| CheckpointError::Mismatch {
            path: path.into(),
            what,
        };
        let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).map_err(damaged)?;
        let entry = |key: &str| {
            let found = header.metadata().as_ref().and_then(|m| m.get(key)).cloned();
            found.ok_or_else(|| mismatch(format!("its metadata has no {key:?}")))
        };
        let schema =
            Schema::from_json(entry("schema")?.as_bytes()).map_err(|e| mismatch(e.to_string()))?;
        let sizes: Sizes =
            serde_json::from_str(&entry("sizes")?).map_err(|e| mismatch(e.to_string()))?;
        let number = |key: &str| {
            entry(key)?
                .parse::<u64>()
                .map_err(|e| mismatch(format!("{key}: {e}")))
        };
        let trained_on = (number("matches")? as u32, number("frames")?);
        let tensors = safetensors::SafeTensors::deserialize(&bytes).map_err(damaged)?;
        let layout = Layout::new(&sizes);
        let mut weights = vec![0.0; layout.len];
        for t in layout.tensors() {
            let view = tensors.tensor(&t.name).map_err(damaged)?;
            if view.shape() != t.shape || view.dtype() != Dtype::F32 {
                return Err(mismatch(format!(
                    "{} is {:?} of {:?}, not f32 of {:?}",
                    t.name,
                    view.shape(),
                    view.dtype(),
                    t.shape
                )));
            }
            t.scatter(&mut weights, &floats(view.data()));
        }
        Ok(Self {
            name: entry("name")?,
            schema,
            sizes,
            weights,
            trained_on,
        })
    }
}

/// The part of a lane that is not numbers by the thousand.
#[derive(Serialize, Deserialize)]
struct LaneRecord {
    random: Random,
    streams: Vec<Stream>,
}

/// Writes all that an exact resume needs.
pub(crate) fn save_state(
    path: &Path,
    schema: u32,
    optimizer: &Optimizer,
    lanes: &[&Lane],
) -> Result<(), CheckpointError> {
    let n = optimizer.weights.len();
    let mut tensors: Vec<(String, Vec<usize>, &[f32])> = [
        ("weights", &optimizer.weights),
        ("average", &optimizer.average),
        ("m", &optimizer.m),
        ("v", &optimizer.v),
    ]
    .map(|(name, values)| (name.to_string(), vec![n], values.as_slice()))
    .into();
    for (i, lane) in lanes.iter().enumerate() {
        for (j, carry) in lane.carries.iter().enumerate() {
            tensors.push((
                format!("lane.{i}.{j}.conv"),
                vec![carry.conv.len()],
                &carry.conv,
            ));
            tensors.push((
                format!("lane.{i}.{j}.state"),
                vec![carry.state.len()],
                &carry.state,
            ));
        }
    }
    let records: Vec<_> = lanes
        .iter()
        .map(|l| LaneRecord {
            random: l.random,
            streams: l.streams.clone(),
        })
        .collect();
    let metadata = HashMap::from([
        ("schema".into(), schema.to_string()),
        ("step".into(), optimizer.step.to_string()),
        (
            "lanes".into(),
            serde_json::to_string(&records).expect("plain numbers"),
        ),
    ]);
    serialize(path, &tensors, metadata)
}

/// Reads what [`save_state`] wrote into an optimizer and lanes of the right sizes. Weights of
/// another schema are refused even where their number agrees: each would read another input.
pub(crate) fn load_state(
    path: &Path,
    schema: u32,
    optimizer: &mut Optimizer,
    lanes: &mut [Lane],
) -> Result<(), CheckpointError> {
    let bytes = read(path)?;
    let damaged = |source| CheckpointError::Damaged {
        path: path.into(),
        source,
    };
    let mismatch = |what: String| CheckpointError::Mismatch {
        path: path.into(),
        what,
    };
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).map_err(damaged)?;
    let tensors = safetensors::SafeTensors::deserialize(&bytes).map_err(damaged)?;
    let fill = |name: &str, into: &mut Vec<f32>| {
        let values: Vec<f32> = floats(tensors.tensor(name).map_err(damaged)?.data());
        if values.len() != into.len() {
            return Err(mismatch(format!(
                "{name} has {} elements, not {}",
                values.len(),
                into.len()
            )));
        }
        *into = values;
        Ok(())
    };
    let entry = |key: &str| {
        header
            .metadata()
            .as_ref()
            .and_then(|m| m.get(key))
            .cloned()
            .unwrap_or_default()
    };
    if entry("schema") != schema.to_string() {
        return Err(mismatch(format!(
            "it belongs to schema {:?}, not {schema}: train this one in another folder",
            entry("schema")
        )));
    }
    fill("weights", &mut optimizer.weights)?;
    fill("average", &mut optimizer.average)?;
    fill("m", &mut optimizer.m)?;
    fill("v", &mut optimizer.v)?;
    optimizer.step = entry("step")
        .parse()
        .map_err(|e| mismatch(format!("step: {e}")))?;
    let records: Vec<LaneRecord> =
        serde_json::from_str(&entry("lanes")).map_err(|e| mismatch(format!("lanes: {e}")))?;
    if records.len() != lanes.len() {
        return Err(mismatch(format!(
            "{} lanes, not {}",
            records.len(),
            lanes.len()
        )));
    }
    for (i, (lane, record)) in lanes.iter_mut().zip(records).enumerate() {
        (lane.random, lane.streams) = (record.random, record.streams);
        for (j, carry) in lane.carries.iter_mut().enumerate() {
            fill(&format!("lane.{i}.{j}.conv"), &mut carry.conv)?;
            fill(&format!("lane.{i}.{j}.state"), &mut carry.state)?;
        }
    }
    Ok(())
}
