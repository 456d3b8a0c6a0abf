//! Frames: whole in one instruction, or spread over several.

use crate::accounts::{Call, Done, edit, header, is_at, require, view};
use crate::kernels::Chip;
use crate::syscall;
use arrayvec::ArrayVec;
use bytemuck::bytes_of;
use pinocchio::account::{Ref, RefMut};
use pinocchio::{AccountView, Address};
use worldline_abi::instruction::{BeginFrame, FinishFrame, RunInference, RunLayers};
use worldline_abi::{
    Fault, FrameAccount, InputAccount, InputBuffer, MAX_PAGES, MAX_SHARDS, ModelManifest, Page,
    SessionAccount, SessionState, WeightShard, WorldAccount,
};
use worldline_cartridge::{Model, Scratch, StepError};

/// The shards of a world, borrowed.
pub(crate) struct Shelf<'a>(ArrayVec<Ref<'a, [u8]>, MAX_SHARDS>);

impl<'a> Shelf<'a> {
    /// The world's shards, which stand first among `rest`, and what follows them.
    #[inline(never)]
    pub(crate) fn open(
        manifest: &ModelManifest,
        rest: &'a mut [AccountView],
        program: &Address,
    ) -> Done<(Self, &'a mut [AccountView])> {
        let count = manifest.shard_count.into();
        let (shards, pages) = rest
            .split_at_mut_checked(count)
            .ok_or(Fault::TooFewAccounts)?;
        let mut shelf = ArrayVec::new();
        for (shard, address) in shards.iter().zip(&manifest.shards) {
            is_at(shard, address)?;
            header::<WeightShard>(shard, program)?;
            shelf.push(shard.try_borrow()?);
        }
        Ok((Self(shelf), pages))
    }

    /// The model in them.
    #[inline(never)]
    pub(crate) fn model<'m>(&'m self, manifest: &'m ModelManifest) -> Done<Model<'m>> {
        let weights = |shard: &'m Ref<'a, [u8]>| &shard[size_of::<WeightShard>()..];
        let shards: ArrayVec<&[u8], MAX_SHARDS> = self.0.iter().map(weights).collect();
        Ok(Model::view(manifest, &shards).map_err(|_| Fault::BadModel)?)
    }
}

/// A session's pages of hidden state, borrowed.
pub(crate) struct Pages<'a>(ArrayVec<RefMut<'a, Page>, MAX_PAGES>);

impl<'a> Pages<'a> {
    #[inline(never)]
    pub(crate) fn open(
        session: &Address,
        accounts: &'a mut [AccountView],
        program: &Address,
    ) -> Done<Self> {
        require(accounts.len() <= MAX_PAGES, Fault::OutOfRange)?;
        let mut pages = ArrayVec::new();
        for (index, account) in accounts.iter_mut().enumerate() {
            let page = edit::<Page>(account, program)?;
            let here = page.header.session == *session.as_array()
                && usize::from(page.header.index) == index;
            require(here, Fault::WrongAddress)?;
            pages.push(page);
        }
        Ok(Self(pages))
    }

    pub(crate) fn hidden(&mut self) -> ArrayVec<&mut Page, MAX_PAGES> {
        self.0.iter_mut().map(|page| &mut **page).collect()
    }
}

/// Why a step refuses, as the program says it.
fn refuse(error: StepError) -> Fault {
    match error {
        StepError::NotActive { .. } => Fault::SessionStatus,
        StepError::Frame { .. } => Fault::FrameOrder,
        StepError::Pages { .. } => Fault::PagesMissing,
        StepError::Kind { .. }
        | StepError::Version { .. }
        | StepError::Schema { .. }
        | StepError::Changed => Fault::BadModel,
    }
}

/// The session, whose operator (if it has one) must have signed.
fn operated<'a>(
    program: &Address,
    operator: &AccountView,
    session: &'a AccountView,
) -> Done<Ref<'a, SessionAccount>> {
    let book = view::<SessionAccount>(session, program)?;
    if book.operator != [0; 32] {
        require(operator.is_signer(), Fault::NotSigned)?;
        require(
            *operator.address().as_array() == book.operator,
            Fault::NotAllowed,
        )?;
    }
    Ok(book)
}

/// The heap, whose 32 KiB hold the one thing that is larger than a stack frame.
#[allow(unsafe_code)]
pub(crate) fn scratch() -> &'static mut Scratch {
    // SAFETY: zeros are a scratch, nothing else lies on the heap, and each handler asks once.
    unsafe { crate::allocate_unchecked::<Scratch>(0) }
}

/// The inputs that the next frame takes in.
fn inputs_for(frame: u32, inputs: &InputAccount) -> InputBuffer {
    InputBuffer {
        frame: frame.saturating_add(1),
        ..inputs.buffer
    }
}

/// Marks the inputs as taken in: their frame, and both running hashes.
fn take_in(inputs: &mut InputAccount, taken: &InputBuffer) {
    inputs.buffer.frame = taken.frame;
    for (hash, slot) in inputs.hashes.iter_mut().zip(&taken.slots) {
        *hash = syscall::sha256(&[&*hash, bytes_of(&taken.frame), bytes_of(slot)]);
    }
}

#[inline(never)]
pub(crate) fn run(call: Call<'_>, _: &RunInference, _: &[u8]) -> Done {
    let (program, [operator, session, state, inputs, world], rest) = call.split::<5>()?;
    let book = operated(program, operator, session)?;
    // A frame that is spread over instructions would be torn by a whole one.
    require(book.frame == [0; 32], Fault::FrameOrder)?;
    is_at(state, &book.state)?;
    is_at(inputs, &book.inputs)?;
    is_at(world, &book.session.world)?;
    let world = view::<WorldAccount>(world, program)?;
    let (shelf, pages) = Shelf::open(&world.manifest, rest, program)?;
    let model = shelf.model(&world.manifest)?;
    let mut pages = Pages::open(session.address(), pages, program)?;
    let mut state = edit::<SessionState>(state, program)?;
    let mut inputs = edit::<InputAccount>(inputs, program)?;
    let taken = inputs_for(state.frame, &inputs);
    let chip = Chip(book.kernels);
    worldline_cartridge::step(
        &model,
        &mut state,
        &mut pages.hidden(),
        &taken,
        scratch(),
        &chip,
    )
    .map_err(refuse)?;
    take_in(&mut inputs, &taken);
    Ok(())
}

#[inline(never)]
pub(crate) fn begin(call: Call<'_>, _: &BeginFrame, _: &[u8]) -> Done {
    let (program, accounts, rest) = call.split::<6>()?;
    let [operator, session, state, inputs, world, frame] = accounts;
    let book = operated(program, operator, session)?;
    is_at(state, &book.state)?;
    is_at(inputs, &book.inputs)?;
    is_at(world, &book.session.world)?;
    is_at(frame, &book.frame)?;
    let world = view::<WorldAccount>(world, program)?;
    let (shelf, _) = Shelf::open(&world.manifest, rest, program)?;
    let model = shelf.model(&world.manifest)?;
    let state = view::<SessionState>(state, program)?;
    let taken = inputs_for(state.frame, &*view::<InputAccount>(inputs, program)?);
    let mut frame = edit::<FrameAccount>(frame, program)?;
    require(frame.next == 0, Fault::FrameOrder)?;
    let (scratch, chip) = (scratch(), Chip(book.kernels));
    worldline_cartridge::begin(&model, &state, book.pages.into(), &taken, scratch, &chip)
        .map_err(refuse)?;
    frame.residual = scratch.work.residual;
    (frame.inputs, frame.next) = (taken, 1);
    Ok(())
}

#[inline(never)]
pub(crate) fn layers(call: Call<'_>, body: &RunLayers, _: &[u8]) -> Done {
    let (program, [operator, session, world, frame], rest) = call.split::<4>()?;
    let book = operated(program, operator, session)?;
    is_at(world, &book.session.world)?;
    is_at(frame, &book.frame)?;
    let world = view::<WorldAccount>(world, program)?;
    let (shelf, pages) = Shelf::open(&world.manifest, rest, program)?;
    let model = shelf.model(&world.manifest)?;
    let mut pages = Pages::open(session.address(), pages, program)?;
    require(
        pages.0.len() == usize::from(world.manifest.hidden_pages),
        Fault::PagesMissing,
    )?;
    let mut frame = edit::<FrameAccount>(frame, program)?;
    require(frame.next > 0, Fault::FrameOrder)?;
    let first = frame.next as usize - 1;
    let end = first + usize::from(body.count);
    require(end <= model.layers(), Fault::FrameOrder)?;
    let (scratch, chip) = (scratch(), Chip(book.kernels));
    scratch.work.residual = frame.residual;
    let mut hidden = pages.hidden();
    for index in first..end {
        worldline_cartridge::layer(&model, index, &mut hidden, scratch, &chip).map_err(refuse)?;
    }
    frame.residual = scratch.work.residual;
    frame.next += u32::from(body.count);
    Ok(())
}

#[inline(never)]
pub(crate) fn finish(call: Call<'_>, _: &FinishFrame, _: &[u8]) -> Done {
    let (program, accounts, rest) = call.split::<6>()?;
    let [operator, session, state, inputs, world, frame] = accounts;
    let book = operated(program, operator, session)?;
    is_at(state, &book.state)?;
    is_at(inputs, &book.inputs)?;
    is_at(world, &book.session.world)?;
    is_at(frame, &book.frame)?;
    let world = view::<WorldAccount>(world, program)?;
    let (shelf, _) = Shelf::open(&world.manifest, rest, program)?;
    let model = shelf.model(&world.manifest)?;
    let mut state = edit::<SessionState>(state, program)?;
    let mut inputs = edit::<InputAccount>(inputs, program)?;
    let mut frame = edit::<FrameAccount>(frame, program)?;
    require(frame.next as usize == model.layers() + 1, Fault::FrameOrder)?;
    let taken = frame.inputs;
    let (scratch, chip) = (scratch(), Chip(book.kernels));
    scratch.work.residual = frame.residual;
    require(
        state.status == worldline_abi::status::ACTIVE,
        Fault::SessionStatus,
    )?;
    worldline_cartridge::finish(&model, &mut state, &taken, scratch, &chip);
    take_in(&mut inputs, &taken);
    frame.next = 0;
    Ok(())
}
