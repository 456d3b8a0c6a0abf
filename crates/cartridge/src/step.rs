//! The one step: (state, hidden state, controllers) → the next state.

use crate::hidden::PagedState;
use crate::model::Model;
use crate::plan::MAX_INPUT_LEN;
use crate::{decode, encode};
use bytemuck::{Pod, Zeroable};
use thiserror::Error;
use worldline_abi::{InputBuffer, KIND_WORLD, Page, STATE_VERSION, SessionState, status};
use worldline_mamba2::{Kernels, Work, embed, head, layer_step};

/// What a step computes with: plain data, at most 32 KiB, lent by the caller, reusable for any match.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct Scratch {
    /// The network's memory.
    pub work: Work,
    /// The input vector.
    pub inputs: [i16; MAX_INPUT_LEN],
}

const _: () = assert!(size_of::<Scratch>() <= 32 * 1024);

#[cfg(feature = "std")]
impl Scratch {
    /// Zeroed, on the heap.
    pub fn boxed() -> Box<Self> {
        bytemuck::zeroed_box()
    }
}

/// Why a frame was not executed. The state and the hidden state are as they were.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum StepError {
    /// The cartridge predicts something else.
    #[error(
        "this cartridge's kind is {found}, the call needs {expected}: step a world, let a policy act"
    )]
    Kind {
        /// What the call needs.
        expected: u8,
        /// What the cartridge is.
        found: u8,
    },
    /// The state's layout has another version.
    #[error(
        "the state has version {found}, this build steps version {STATE_VERSION}: use the build that made it"
    )]
    Version {
        /// The state's version.
        found: u8,
    },
    /// The state belongs to another schema.
    #[error(
        "the state has schema {found:#010x}, the cartridge {expected:#010x}: step it with the cartridge that started it"
    )]
    Schema {
        /// The cartridge's schema.
        expected: u32,
        /// The state's schema.
        found: u32,
    },
    /// The match is not running.
    #[error(
        "the match's status is {status}, only an active match has frames: start it, or stop stepping it"
    )]
    NotActive {
        /// The state's status.
        status: u8,
    },
    /// The controllers are another frame's.
    #[error(
        "the controllers are for frame {found}, the next frame is {expected}: pass that frame's"
    )]
    Frame {
        /// The next frame.
        expected: u32,
        /// The controllers' frame.
        found: u32,
    },
    /// Too few or too many pages of hidden state.
    #[error(
        "the match has {found} pages of hidden state, this cartridge needs {expected}: pass all of its own"
    )]
    Pages {
        /// Pages that the model needs.
        expected: usize,
        /// Pages passed.
        found: usize,
    },
    /// The cartridge's bytes changed after they were checked.
    #[error("the cartridge's bytes changed since it was opened: open it again")]
    Changed,
}

/// Executes one frame: [`begin`], every [`layer`], [`finish`].
///
/// On success the state is the next frame's, its hash chain included; on error nothing has changed.
#[inline(always)] // Solana's machine passes five arguments, no more.
pub fn step<K: Kernels>(
    model: &Model<'_>,
    state: &mut SessionState,
    hidden: &mut [&mut Page],
    inputs: &InputBuffer,
    scratch: &mut Scratch,
    kernels: &K,
) -> Result<(), StepError> {
    begin(model, state, hidden.len(), inputs, scratch, kernels)?;
    layers(model, hidden, scratch, kernels)?;
    finish(model, state, inputs, scratch, kernels);
    Ok(())
}

/// First part of a frame: checks the state, encodes it, and puts it through the input matrix.
/// `pages` is how many pages of hidden state the layers will get.
#[inline(always)] // Solana's machine passes five arguments, no more.
pub fn begin<K: Kernels>(
    model: &Model<'_>,
    state: &SessionState,
    pages: usize,
    inputs: &InputBuffer,
    scratch: &mut Scratch,
    kernels: &K,
) -> Result<(), StepError> {
    check(model, KIND_WORLD, state, pages)?;
    if state.status != status::ACTIVE {
        return Err(StepError::NotActive {
            status: state.status,
        });
    }
    let expected = state.frame.saturating_add(1);
    if inputs.frame != expected {
        return Err(StepError::Frame {
            expected,
            found: inputs.frame,
        });
    }
    encode_and_embed(model, state, inputs, scratch, kernels);
    Ok(())
}

/// One layer of a frame. Between the layers only `scratch` and `hidden` carry anything.
// Its arguments are six words, and a call in a chain's virtual machine passes five.
#[inline(always)]
pub fn layer<K: Kernels>(
    model: &Model<'_>,
    index: usize,
    hidden: &mut [&mut Page],
    scratch: &mut Scratch,
    kernels: &K,
) -> Result<(), StepError> {
    let layer = model.layer(index).map_err(|_| StepError::Changed)?;
    let mut memory = PagedState::new(hidden, model.hidden(), index);
    layer_step(kernels, &layer, &mut memory, &mut scratch.work);
    Ok(())
}

/// Last part of a frame: the heads, the next state, and its chain hash.
pub fn finish<K: Kernels>(
    model: &Model<'_>,
    state: &mut SessionState,
    inputs: &InputBuffer,
    scratch: &mut Scratch,
    kernels: &K,
) {
    let heads = head(kernels, model.output(), model.tables(), &mut scratch.work);
    decode(model.plan(), heads, state);
    state.chain = kernels.sha256(&[&state.chain, bytemuck::bytes_of(inputs), state.chained()]);
}

/// The head rows of a frame, before anything decides what they mean: for measuring. The hidden state
/// moves on, the state does not; neither its status nor the controllers' frame matters.
pub fn predict<'s, K: Kernels>(
    model: &Model<'_>,
    state: &SessionState,
    hidden: &mut [&mut Page],
    inputs: &InputBuffer,
    scratch: &'s mut Scratch,
    kernels: &K,
) -> Result<&'s [i32], StepError> {
    check_pages(model, hidden.len())?;
    encode_and_embed(model, state, inputs, scratch, kernels);
    layers(model, hidden, scratch, kernels)?;
    Ok(head(
        kernels,
        model.output(),
        model.tables(),
        &mut scratch.work,
    ))
}

/// What every call needs to hold.
pub(crate) fn check(
    model: &Model<'_>,
    kind: u8,
    state: &SessionState,
    pages: usize,
) -> Result<(), StepError> {
    let found = model.plan().header.kind;
    if found != kind {
        return Err(StepError::Kind {
            expected: kind,
            found,
        });
    }
    if state.version != STATE_VERSION {
        return Err(StepError::Version {
            found: state.version,
        });
    }
    let expected = model.manifest().schema_id;
    if kind == KIND_WORLD && state.schema_id != expected {
        return Err(StepError::Schema {
            expected,
            found: state.schema_id,
        });
    }
    check_pages(model, pages)
}

fn check_pages(model: &Model<'_>, pages: usize) -> Result<(), StepError> {
    let expected = usize::from(model.manifest().hidden_pages);
    if pages != expected {
        return Err(StepError::Pages {
            expected,
            found: pages,
        });
    }
    Ok(())
}

fn encode_and_embed<K: Kernels>(
    model: &Model<'_>,
    state: &SessionState,
    inputs: &InputBuffer,
    scratch: &mut Scratch,
    kernels: &K,
) {
    let vector = &mut scratch.inputs[..model.plan().header.input_len.into()];
    encode(model.plan(), model.embeddings(), state, inputs, vector);
    embed(kernels, model.input(), vector, &mut scratch.work);
}

fn layers<K: Kernels>(
    model: &Model<'_>,
    hidden: &mut [&mut Page],
    scratch: &mut Scratch,
    kernels: &K,
) -> Result<(), StepError> {
    let mut memory = PagedState::new(hidden, model.hidden(), 0);
    for index in 0..model.layers() {
        let layer = model.layer(index).map_err(|_| StepError::Changed)?;
        layer_step(kernels, &layer, &mut memory, &mut scratch.work);
        memory.advance();
    }
    Ok(())
}
