//! Many matches of one world, frame by frame, over one pass of the weights.

use crate::hidden::PagedState;
use crate::model::Model;
use crate::step::{Scratch, StepError, begin, finish};
use worldline_abi::{InputBuffer, Page, SessionState};
use worldline_mamba2::{Kernels, Work, batch_layer_step};

/// One match of a batch.
pub struct Lane<'a, 'p> {
    /// Its state.
    pub state: &'a mut SessionState,
    /// Its hidden state.
    pub hidden: &'a mut [&'p mut Page],
    /// Its controllers.
    pub inputs: &'a InputBuffer,
    /// Its scratch.
    pub scratch: &'a mut Scratch,
}

/// [`step`](crate::step) for every lane, with the same bytes as one after the other.
///
/// On error, which names the first lane that cannot be stepped, nothing has changed in any lane.
pub fn step_batch<K: Kernels>(
    model: &Model<'_>,
    lanes: &mut [Lane<'_, '_>],
    kernels: &K,
) -> Result<(), (usize, StepError)> {
    for (index, lane) in lanes.iter_mut().enumerate() {
        begin(
            model,
            lane.state,
            lane.hidden.len(),
            lane.inputs,
            lane.scratch,
            kernels,
        )
        .map_err(|error| (index, error))?;
    }
    let mut memories = Vec::with_capacity(lanes.len());
    let mut works: Vec<&mut Work> = Vec::with_capacity(lanes.len());
    for lane in &mut *lanes {
        memories.push(PagedState::new(lane.hidden, model.hidden(), 0));
        works.push(&mut lane.scratch.work);
    }
    for index in 0..model.layers() {
        let layer = model.layer(index).map_err(|_| (0, StepError::Changed))?;
        batch_layer_step(kernels, &layer, &mut memories, &mut works);
        memories.iter_mut().for_each(PagedState::advance);
    }
    for lane in lanes {
        finish(model, lane.state, lane.inputs, lane.scratch, kernels);
    }
    Ok(())
}
