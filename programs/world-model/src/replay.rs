//! A match's replay file, written in parts by whoever ran the match.

use crate::accounts::{
    Call, Done, allow, create as create_account, edit, header, is_at, is_ours, rent, require,
    split_mut,
};
use crate::cpi;
use crate::syscall::sha256;
use crate::world::{blank, put};
use bytemuck::bytes_of;
use pinocchio::Resize;
use worldline_abi::instruction::{
    CloseReplay, CreateReplay, FinishReplay, GROW_BYTES, GrowReplay, WriteReplay,
};
use worldline_abi::{Fault, ReplayAccount, ReplayHeader, ResultAccount, address, replay_status};

/// Bytes before the file.
const HEADER: usize = size_of::<ReplayAccount>();
/// Bytes of a file, at most.
const MAX_FILE: usize = 4 << 20;

#[inline(never)]
pub(crate) fn create(call: Call<'_>, body: &CreateReplay, _: &[u8]) -> Done {
    let (program, [writer, result, replay, _], _) = call.split::<4>()?;
    let mut kept = edit::<ResultAccount>(result, program)?;
    allow(writer, &kept.writer)?;
    require(kept.replay == replay_status::NONE, Fault::ReplayStatus)?;
    let bytes = body.bytes as usize;
    require(
        (size_of::<ReplayHeader>()..=MAX_FILE).contains(&bytes),
        Fault::OutOfRange,
    )?;
    kept.replay = replay_status::OPEN;
    let session = kept.session;
    let space = (HEADER + bytes).min(GROW_BYTES);
    create_account(replay, writer, program, address::replay(&session), space)?;
    let mut data = replay.try_borrow_mut()?;
    let (head, _) = blank::<ReplayAccount>(&mut data)?;
    (head.session, head.writer, head.bytes) = (session, kept.writer, body.bytes);
    Ok(())
}

#[inline(never)]
pub(crate) fn grow(call: Call<'_>, _: &GrowReplay, _: &[u8]) -> Done {
    let (program, [writer, replay, _], _) = call.split::<3>()?;
    let goal = {
        let head = header::<ReplayAccount>(replay, program)?;
        allow(writer, &head.writer)?;
        require(head.finished == 0, Fault::ReplayStatus)?;
        HEADER + head.bytes as usize
    };
    let size = goal.min(replay.data_len() + GROW_BYTES);
    let lamports = rent(size)?.saturating_sub(replay.lamports());
    if lamports > 0 {
        cpi::transfer(writer, replay, lamports)?;
    }
    replay.resize(size)?;
    Ok(())
}

#[inline(never)]
pub(crate) fn write(call: Call<'_>, body: &WriteReplay, tail: &[u8]) -> Done {
    let (program, [writer, replay], _) = call.split::<2>()?;
    is_ours(replay, program)?;
    let mut data = replay.try_borrow_mut()?;
    let (head, file) = split_mut::<ReplayAccount>(&mut data)?;
    allow(writer, &head.writer)?;
    require(head.finished == 0, Fault::ReplayStatus)?;
    put(file, body.offset, tail)
}

#[inline(never)]
pub(crate) fn finish(call: Call<'_>, _: &FinishReplay, _: &[u8]) -> Done {
    let (program, [writer, result, replay], _) = call.split::<3>()?;
    let mut kept = edit::<ResultAccount>(result, program)?;
    is_ours(replay, program)?;
    let mut data = replay.try_borrow_mut()?;
    let (head, file) = split_mut::<ReplayAccount>(&mut data)?;
    allow(writer, &head.writer)?;
    require(head.session == kept.session, Fault::WrongAddress)?;
    require(
        head.finished == 0 && file.len() == head.bytes as usize,
        Fault::ReplayStatus,
    )?;
    let (claim, body) = worldline_abi::split::<ReplayHeader>(file)?;
    let same = claim.result == kept.result
        && sha256(&[bytes_of(&claim.session)]) == kept.session_hash
        && claim.body_bytes as usize == body.len();
    require(same, Fault::ReplayMismatch)?;
    head.finished = 1;
    kept.replay = replay_status::FINISHED;
    Ok(())
}

#[inline(never)]
pub(crate) fn close(call: Call<'_>, _: &CloseReplay, _: &[u8]) -> Done {
    let (program, [writer, result, replay], _) = call.split::<3>()?;
    let mut kept = edit::<ResultAccount>(result, program)?;
    {
        let head = header::<ReplayAccount>(replay, program)?;
        allow(writer, &head.writer)?;
        require(head.session == kept.session, Fault::WrongAddress)?;
    }
    is_at(writer, &kept.writer)?;
    kept.replay = replay_status::NONE;
    cpi::close(replay, writer)
}
