//! What players do: sit down, pick, press, sign, leave.

use crate::accounts::{Call, Done, allow, edit, is_at, require, view};
use crate::frame::Shelf;
use pinocchio::AccountView;
use worldline_abi::instruction::{
    EndSession, JoinSession, PickCharacter, Ready, SignInputs, SubmitInput,
};
use worldline_abi::{
    ABANDONED_FRAMES, Fault, InputAccount, PadSlot, Session, SessionAccount, SessionState,
    WorldAccount, end_reason, seat, status,
};

/// A seat's number, if it is one.
fn seat_of(seat: u8) -> Done<usize> {
    require(seat < 2, Fault::NoSuchSeat)?;
    Ok(seat.into())
}

/// The signer holds the seat: by its wallet, or by its session key.
fn holds(key: &AccountView, session: &Session, seat: usize) -> Done {
    let key = key.address().as_array();
    let held = session.seats[seat] != seat::FREE
        && (*key == session.session_keys[seat] || *key == session.wallets[seat]);
    require(held, Fault::NotYourSeat)
}

#[inline(never)]
pub(crate) fn join(call: Call<'_>, body: &JoinSession, _: &[u8]) -> Done {
    let (program, [wallet, session, state], _) = call.split::<3>()?;
    let mut book = edit::<SessionAccount>(session, program)?;
    is_at(state, &book.state)?;
    let mut state = edit::<SessionState>(state, program)?;
    require(state.status == status::OPEN, Fault::SessionStatus)?;
    let seat = seat_of(body.seat)?;
    require(book.session.seats[seat] == seat::FREE, Fault::SeatTaken)?;
    let known = (seat::HUMAN..=seat::POLICY).contains(&body.kind);
    require(known && body.session_key != [0; 32], Fault::BadSeat)?;
    if body.kind == seat::HUMAN {
        book.session.wallets[seat] = *wallet.address().as_array();
    } else {
        allow(wallet, &book.session.payer)?;
    }
    book.session.seats[seat] = body.kind;
    book.session.session_keys[seat] = body.session_key;
    if !book.session.seats.contains(&seat::FREE) {
        state.status = status::PICKING;
    }
    Ok(())
}

#[inline(never)]
pub(crate) fn pick(call: Call<'_>, body: &PickCharacter, _: &[u8]) -> Done {
    let (program, [key, session, state], _) = call.split::<3>()?;
    let mut book = edit::<SessionAccount>(session, program)?;
    is_at(state, &book.state)?;
    let status = view::<SessionState>(state, program)?.status;
    require(status <= status::PICKING, Fault::SessionStatus)?;
    let seat = seat_of(body.seat)?;
    holds(key, &book.session, seat)?;
    require(book.ready[seat] == 0, Fault::AlreadyReady)?;
    book.session.characters[seat] = body.character;
    Ok(())
}

#[inline(never)]
pub(crate) fn ready(call: Call<'_>, body: &Ready, _: &[u8]) -> Done {
    let (program, [key, session, state, world], shards) = call.split::<4>()?;
    let mut book = edit::<SessionAccount>(session, program)?;
    is_at(state, &book.state)?;
    is_at(world, &book.session.world)?;
    let mut state = edit::<SessionState>(state, program)?;
    require(state.status == status::PICKING, Fault::SessionStatus)?;
    let seat = seat_of(body.seat)?;
    holds(key, &book.session, seat)?;
    require(book.ready[seat] == 0, Fault::AlreadyReady)?;
    book.ready[seat] = 1;
    if book.ready != [1; 2] {
        return Ok(());
    }
    let world = view::<WorldAccount>(world, program)?;
    require(
        book.pages == world.manifest.hidden_pages,
        Fault::PagesMissing,
    )?;
    let (shelf, _) = Shelf::open(&world.manifest, shards, program)?;
    let model = shelf.model(&world.manifest)?;
    let start = model
        .start(book.session.stage, book.session.characters)
        .map_err(|_| Fault::NoSuchStart)?;
    if book.session.clock == 0 {
        book.session.clock = start.clock;
    }
    let clock = book.session.clock;
    require((1..=start.clock).contains(&clock), Fault::NoSuchStart)?;
    *state = SessionState {
        generator: book.session.generator,
        clock,
        ..start
    };
    Ok(())
}

#[inline(never)]
pub(crate) fn submit(call: Call<'_>, body: &SubmitInput, _: &[u8]) -> Done {
    let (program, [key, session, inputs], _) = call.split::<3>()?;
    let (seat, pad, sequence) = (seat_of(body.seat)?, body.pad, body.sequence);
    let mut inputs = sign_for(program, key, session, inputs, seat)?;
    require(pad.is_valid(), Fault::BadPad)?;
    let newer = sequence.wrapping_sub(inputs.buffer.slots[seat].sequence) as i16 > 0;
    require(newer, Fault::StaleInput)?;
    inputs.buffer.slots[seat] = PadSlot { pad, sequence };
    inputs.heard[seat] = inputs.buffer.frame;
    Ok(())
}

#[inline(never)]
pub(crate) fn sign(call: Call<'_>, body: &SignInputs, _: &[u8]) -> Done {
    let (program, [key, session, inputs], _) = call.split::<3>()?;
    let signature = body.signature;
    let seat = seat_of(signature.seat)?;
    let mut inputs = sign_for(program, key, session, inputs, seat)?;
    let last = inputs.signatures[seat].frame;
    let later = (last + 1..=inputs.buffer.frame).contains(&signature.frame);
    require(later && signature.padding == [0; 3], Fault::BadSignature)?;
    inputs.signatures[seat] = signature;
    Ok(())
}

/// A session's inputs, for the key that presses for this seat.
#[inline(always)] // A sixth argument would not fit the registers.
fn sign_for<'a>(
    program: &pinocchio::Address,
    key: &AccountView,
    session: &AccountView,
    inputs: &'a mut AccountView,
    seat: usize,
) -> Done<pinocchio::account::RefMut<'a, InputAccount>> {
    let book = view::<SessionAccount>(session, program)?;
    is_at(inputs, &book.inputs)?;
    let taken = book.session.seats[seat] != seat::FREE;
    let own = *key.address().as_array() == book.session.session_keys[seat];
    require(taken && own, Fault::NotYourSeat)?;
    edit::<InputAccount>(inputs, program)
}

#[inline(never)]
pub(crate) fn end(call: Call<'_>, body: &EndSession, _: &[u8]) -> Done {
    let (program, [key, session, state, inputs], _) = call.split::<4>()?;
    let book = view::<SessionAccount>(session, program)?;
    is_at(state, &book.state)?;
    is_at(inputs, &book.inputs)?;
    let mut state = edit::<SessionState>(state, program)?;
    require(state.status == status::ACTIVE, Fault::SessionStatus)?;
    let seat = seat_of(body.seat)?;
    holds(key, &book.session, seat)?;
    let other = 1 - seat;
    state.winner = match body.reason {
        end_reason::QUIT => other as u8,
        end_reason::ABANDONED => {
            let heard = view::<InputAccount>(inputs, program)?.heard[other];
            let silent = state.frame.saturating_sub(heard);
            require(silent > ABANDONED_FRAMES, Fault::NotAbandoned)?;
            seat as u8
        }
        _ => return Err(Fault::BadReason.into()),
    };
    (state.status, state.end_reason) = (status::ENDED, body.reason);
    Ok(())
}
