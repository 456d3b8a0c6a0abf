//! Sessions: opened, furnished with pages, closed.

use crate::accounts::{
    Call, Done, allow, create as create_account, edit, is_at, is_ours, now, require, view,
};
use crate::cpi;
use crate::world::blank;
use worldline_abi::instruction::{CloseSession, CreateFrame, CreatePages, CreateSession};
use worldline_abi::{
    Fault, FrameAccount, HiddenHeader, InputAccount, KIND_WORLD, PAGE_BYTES, Page, SESSION_SECONDS,
    Session, SessionAccount, SessionState, WorldAccount, address, kernels, status, world_status,
};
use worldline_cartridge::HiddenLayout;
use worldline_mamba2::Dims;

/// The address of an account that a session does not have.
const NONE: address::Address = [0; 32];

#[inline(never)]
pub(crate) fn create(call: Call<'_>, body: &CreateSession, _: &[u8]) -> Done {
    let (program, accounts, _) = call.split::<7>()?;
    let [payer, session, state, inputs, world, owner, _] = accounts;
    let world_address = *world.address().as_array();
    let mut world = edit::<WorldAccount>(world, program)?;
    require(world.status == world_status::READY, Fault::WorldStatus)?;
    require(world.manifest.kind == KIND_WORLD, Fault::BadModel)?;
    require(body.kernels <= kernels::SYSCALLS, Fault::BadKernels)?;
    is_at(owner, &world.manifest.owner)?;

    let (id, payer_address) = (body.id, *payer.address().as_array());
    let seeds = address::session(&payer_address, &id);
    create_account(session, payer, program, seeds, size_of::<SessionAccount>())?;
    let address = *session.address().as_array();
    create_account(
        state,
        payer,
        program,
        address::state(&address),
        size_of::<SessionState>(),
    )?;
    create_account(
        inputs,
        payer,
        program,
        address::inputs(&address),
        size_of::<InputAccount>(),
    )?;
    if world.fee > 0 {
        let lamports = world.fee;
        cpi::transfer(payer, owner, lamports)?;
        world.fees_earned = world.fees_earned.saturating_add(lamports);
    }
    world.live_sessions = world
        .live_sessions
        .checked_add(1)
        .ok_or(Fault::SessionsLive)?;

    let mut data = session.try_borrow_mut()?;
    let (book, _) = blank::<SessionAccount>(&mut data)?;
    book.session = Session {
        id,
        world: world_address,
        world_root: world.manifest.merkle_root,
        payer: payer_address,
        generator: body.generator,
        created: now()?,
        clock: body.clock,
        stage: body.stage,
        ..Session::default()
    };
    (book.state, book.inputs) = (*state.address().as_array(), *inputs.address().as_array());
    (book.operator, book.kernels) = (body.operator, body.kernels);
    *edit::<SessionState>(state, program)? = SessionState {
        stage: body.stage,
        schema_id: world.manifest.schema_id,
        ..SessionState::default()
    };
    Ok(())
}

#[inline(never)]
pub(crate) fn create_pages(call: Call<'_>, body: &CreatePages, _: &[u8]) -> Done {
    let (program, [payer, session, world, _], pages) = call.split::<4>()?;
    let address = *session.address().as_array();
    let mut book = edit::<SessionAccount>(session, program)?;
    allow(payer, &book.session.payer)?;
    is_at(world, &book.session.world)?;
    let manifest = view::<WorldAccount>(world, program)?.manifest;
    let dims = Dims {
        d_model: manifest.d_model.into(),
        d_state: manifest.d_state.into(),
    };
    let layout = HiddenLayout::new(dims, manifest.layers.into()).ok_or(Fault::BadModel)?;
    require(u16::from(body.first) == book.pages, Fault::OutOfRange)?;
    for page in pages {
        let index = book.pages;
        require(index < manifest.hidden_pages, Fault::OutOfRange)?;
        let seed = [index as u8];
        create_account(
            page,
            payer,
            program,
            address::page(&address, &seed),
            PAGE_BYTES,
        )?;
        let mut data = page.try_borrow_mut()?;
        let (page, _) = blank::<HiddenHeader>(&mut data)?;
        (page.session, page.index, page.count) = (address, index, manifest.hidden_pages);
        page.used = layout.used(index.into()) as u32;
        book.pages += 1;
    }
    Ok(())
}

#[inline(never)]
pub(crate) fn create_frame(call: Call<'_>, _: &CreateFrame, _: &[u8]) -> Done {
    let (program, [payer, session, frame, _], _) = call.split::<4>()?;
    let address = *session.address().as_array();
    let mut book = edit::<SessionAccount>(session, program)?;
    allow(payer, &book.session.payer)?;
    create_account(
        frame,
        payer,
        program,
        address::frame(&address),
        size_of::<FrameAccount>(),
    )?;
    book.frame = *frame.address().as_array();
    let mut data = frame.try_borrow_mut()?;
    blank::<FrameAccount>(&mut data)?.0.session = address;
    Ok(())
}

#[inline(never)]
pub(crate) fn close(call: Call<'_>, _: &CloseSession, _: &[u8]) -> Done {
    let (program, accounts, pages) = call.split::<7>()?;
    let [closer, payer, session, state, inputs, frame, world] = accounts;
    let address = *session.address().as_array();
    let mut book = edit::<SessionAccount>(session, program)?;
    is_at(payer, &book.session.payer)?;
    is_at(state, &book.state)?;
    is_at(inputs, &book.inputs)?;
    is_at(world, &book.session.world)?;
    is_ours(inputs, program)?;
    let mut world = edit::<WorldAccount>(world, program)?;
    let closer = closer.address().as_array();
    let by_payer = *closer == book.session.payer;
    let unplayed = view::<SessionState>(state, program)?.status < status::ACTIVE;
    let old = now()?.saturating_sub(book.session.created) > SESSION_SECONDS;
    let stale = old && (by_payer || *closer == world.manifest.owner);
    require(
        book.recorded == 1 || (unplayed && by_payer) || stale,
        Fault::NotOver,
    )?;

    for page in pages {
        require(
            view::<Page>(page, program)?.header.session == address,
            Fault::WrongAddress,
        )?;
        cpi::close(page, payer)?;
        book.pages -= 1;
    }
    if book.pages > 0 {
        return Ok(());
    }
    world.live_sessions = world.live_sessions.saturating_sub(1);
    let has_frame = book.frame != NONE;
    if has_frame {
        is_at(frame, &book.frame)?;
        is_ours(frame, program)?;
    }
    drop(book);
    if has_frame {
        cpi::close(frame, payer)?;
    }
    cpi::close(state, payer)?;
    cpi::close(inputs, payer)?;
    cpi::close(session, payer)
}
