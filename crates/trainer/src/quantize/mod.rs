//! From an FP32 checkpoint to an INT8 cartridge.
//!
//! Weights become i8 with a scale per row, and the norms' weights go into the columns that follow
//! them. What cannot be read off the weights (the reach of activations and recurrent state) is
//! measured by running the checkpoint in f32 over real frames.

mod forward;
mod integer;
mod weights;

use forward::Forward;
use integer::{Quantized, head_units};
use serde::Serialize;
use std::path::{Path, PathBuf};
use thiserror::Error;
use weights::Weights;
use worldline_abi::{InputBuffer, Page, SessionState};
use worldline_cartridge::schema::{HeadKind, Schema, SchemaError};
use worldline_cartridge::{
    BuildError, Builder, Cartridge, OpenError, Provenance, Scratch, Start, StepError, predict,
};
use worldline_mamba2::{LayerParams, Native, tables};

/// Frames that follow each other: the state before each, and the controllers that led to the next.
pub type Sequence = Vec<(SessionState, InputBuffer)>;

/// Why a checkpoint cannot be quantized.
#[derive(Debug, Error)]
pub enum QuantizeError {
    /// A file cannot be read or written.
    #[error("cannot read or write {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A checkpoint that does not hold what a network needs.
    #[error("the checkpoint cannot be used: {0}")]
    Checkpoint(String),
    /// Its schema cannot be used.
    #[error("the checkpoint's schema cannot be used: {0}")]
    Schema(#[from] SchemaError),
    /// Nothing to calibrate on.
    #[error("calibration needs at least one frame: name replays that can be read")]
    NoFrames,
    /// The network does not fit a cartridge.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The cartridge that was built is refused.
    #[error("the quantized numbers are refused, so the checkpoint is out of the ordinary: {0}")]
    Open(#[from] OpenError),
    /// A calibration frame cannot be stepped.
    #[error("a calibration frame cannot be stepped: {0}")]
    Step(#[from] StepError),
}

/// How well the integers follow the floats, on the calibration frames, one frame ahead.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Bytes of the cartridge.
    pub bytes: u64,
    /// Its Merkle root, hexadecimal.
    pub root: String,
    /// Trained parameters.
    pub parameters: u64,
    /// Multiplications with weights in one frame.
    pub macs: u64,
    /// Frames of calibration.
    pub frames: usize,
    /// Embedding numbers beyond ±7.97, clipped.
    pub clipped_embeddings: usize,
    /// By head, players together.
    pub heads: Vec<HeadReport>,
}

/// One head of a [`Report`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HeadReport {
    /// Its name.
    pub name: String,
    /// Root-mean-square difference over the root-mean-square of the f32 outputs about their mean.
    pub relative_error: f64,
    /// Share of frames on which both decide the same (classes and gates).
    pub agreement: Option<f64>,
}

/// Quantizes `checkpoint` into `out` (written beside it and renamed) and says how well the integers
/// follow. `provenance` names the world, `starts` are its start states.
pub fn quantize(
    checkpoint: &Path,
    calibration: &[Sequence],
    starts: &[Start],
    provenance: &Provenance,
    out: &Path,
) -> Result<Report, QuantizeError> {
    let weights = Weights::load(checkpoint)?;
    let (file, report) = convert(&weights, calibration, starts, provenance)?;
    let error = |source| QuantizeError::Io {
        path: out.into(),
        source,
    };
    let beside = out.with_extension("partial");
    std::fs::write(&beside, file)
        .and_then(|()| std::fs::rename(&beside, out))
        .map_err(error)?;
    Ok(report)
}

fn convert(
    weights: &Weights,
    calibration: &[Sequence],
    starts: &[Start],
    provenance: &Provenance,
) -> Result<(Vec<u8>, Report), QuantizeError> {
    if calibration.iter().all(Vec::is_empty) {
        return Err(QuantizeError::NoFrames);
    }
    let compiled = weights.schema.compile()?;
    let plan = compiled.plan();
    let mut float = Forward::new(weights);
    let mut expected = Vec::new();
    for sequence in calibration {
        float.restart();
        expected.extend(
            sequence
                .iter()
                .map(|(state, inputs)| float.frame(&plan, state, inputs)),
        );
    }
    let mut quantized = Quantized::new(weights, &float.reach);
    let units = head_units(weights);
    let build = |quantized: &Quantized| {
        let file = assemble(weights, quantized, starts, provenance)?;
        let cartridge = Cartridge::from_bytes(&file)?;
        let found = integer_outputs(&cartridge, calibration, &units)?;
        Ok::<_, QuantizeError>((file, cartridge, found))
    };
    let (_, _, found) = build(&quantized)?;
    quantized.center(&expected, &found, &units);
    let (file, cartridge, found) = build(&quantized)?;
    let manifest = cartridge.manifest();
    let report = Report {
        bytes: file.len() as u64,
        root: cartridge.root(),
        parameters: manifest.parameters,
        macs: manifest.macs,
        frames: expected.len(),
        clipped_embeddings: quantized.clipped,
        heads: compare(&weights.schema, &expected, &found),
    };
    Ok((file, report))
}

/// The file of a quantized network.
fn assemble(
    weights: &Weights,
    quantized: &Quantized,
    starts: &[Start],
    provenance: &Provenance,
) -> Result<Vec<u8>, BuildError> {
    let layers: Vec<LayerParams<'_>> = quantized.blocks.iter().map(|b| b.borrow()).collect();
    let tables = tables::Owned::generate();
    let builder = Builder {
        provenance,
        schema: &weights.schema,
        dims: weights.dims,
        tables: tables.borrow(),
        starts,
        embeddings: &quantized.embeddings,
        input: quantized.input.borrow(),
        layers: &layers,
        output: quantized.output(),
    };
    builder.build()
}

/// The cartridge's head outputs on the same frames, in training units.
fn integer_outputs(
    cartridge: &Cartridge,
    calibration: &[Sequence],
    units: &[f64],
) -> Result<Vec<Vec<f32>>, StepError> {
    let model = cartridge.model();
    let (mut scratch, kernels) = (Scratch::boxed(), Native::detect());
    let mut outputs = Vec::new();
    for sequence in calibration {
        let mut pages = model.hidden().fresh();
        let mut hidden: Vec<&mut Page> = pages.iter_mut().collect();
        for (state, inputs) in sequence {
            let heads = predict(&model, state, &mut hidden, inputs, &mut scratch, &kernels)?;
            let real = heads
                .iter()
                .zip(units)
                .map(|(v, unit)| (f64::from(*v) / unit) as f32);
            outputs.push(real.collect());
        }
    }
    Ok(outputs)
}

fn compare(schema: &Schema, expected: &[Vec<f32>], found: &[Vec<f32>]) -> Vec<HeadReport> {
    let report = |head: &worldline_cartridge::schema::Head| {
        let rows = schema.rows_of(head);
        let firsts: Vec<usize> = (0..schema.head_players())
            .filter_map(|player| schema.head_row(player, &head.name))
            .collect();
        let (mut error, mut power, mut same) = (0.0, 0.0, 0usize);
        for &first in &firsts {
            for row in first..first + rows {
                let mean =
                    expected.iter().map(|e| f64::from(e[row])).sum::<f64>() / expected.len() as f64;
                for (e, f) in expected.iter().zip(found) {
                    error += (f64::from(f[row]) - f64::from(e[row])).powi(2);
                    power += (f64::from(e[row]) - mean).powi(2);
                }
            }
            let decide = |outputs: &[f32]| match head.kind {
                HeadKind::Class { .. } => argmax(&outputs[first..first + rows]),
                _ => usize::from(outputs[first] > 0.0),
            };
            same += expected
                .iter()
                .zip(found)
                .filter(|(e, f)| decide(e) == decide(f))
                .count();
        }
        let decides = !matches!(head.kind, HeadKind::Value { .. });
        HeadReport {
            name: head.name.clone(),
            relative_error: (error / power.max(f64::MIN_POSITIVE)).sqrt(),
            agreement: decides.then(|| same as f64 / (firsts.len() * expected.len()) as f64),
        }
    };
    schema.heads.iter().map(report).collect()
}

fn argmax(values: &[f32]) -> usize {
    let larger = |best: usize, i: usize| if values[i] > values[best] { i } else { best };
    (0..values.len()).fold(0, larger)
}

#[cfg(test)]
mod tests;
