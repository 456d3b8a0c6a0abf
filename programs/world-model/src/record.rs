//! What is kept of an ended match: its result, and the players' scores.

use crate::accounts::{Call, Done, create, edit, is_at, now, require, view};
use crate::syscall::sha256;
use crate::world::blank;
use bytemuck::bytes_of;
use worldline_abi::instruction::{RecordResult, UpdateScore};
use worldline_abi::{
    Fault, InputAccount, MatchResult, ResultAccount, ScoreAccount, SessionAccount, SessionState,
    WorldAccount, address, end_reason, seat, status, winner,
};

#[inline(never)]
pub(crate) fn result(call: Call<'_>, _: &RecordResult, _: &[u8]) -> Done {
    let (program, accounts, _) = call.split::<7>()?;
    let [payer, session, state, inputs, world, result, _] = accounts;
    let address = *session.address().as_array();
    let mut book = edit::<SessionAccount>(session, program)?;
    is_at(state, &book.state)?;
    is_at(inputs, &book.inputs)?;
    is_at(world, &book.session.world)?;
    let state = view::<SessionState>(state, program)?;
    require(state.status == status::ENDED, Fault::SessionStatus)?;
    require(book.recorded == 0, Fault::AlreadyRecorded)?;
    book.recorded = 1;
    let hashes = view::<InputAccount>(inputs, program)?.hashes;
    let mut world = edit::<WorldAccount>(world, program)?;
    world.matches = world.matches.saturating_add(1);

    create(
        result,
        payer,
        program,
        address::result(&address),
        size_of::<ResultAccount>(),
    )?;
    let mut data = result.try_borrow_mut()?;
    let (kept, _) = blank::<ResultAccount>(&mut data)?;
    let (of, players) = (&book.session, &state.players);
    kept.result = MatchResult {
        id: of.id,
        world_root: of.world_root,
        wallets: of.wallets,
        chain: state.chain,
        input_hashes: hashes,
        start_frame: 0,
        end_frame: state.frame,
        rule_hits: state.rule_hits,
        percent: [players[0].percent, players[1].percent],
        stocks: [players[0].stocks, players[1].stocks],
        characters: of.characters,
        seats: of.seats,
        stage: of.stage,
        winner: state.winner,
        end_reason: state.end_reason,
        ..MatchResult::default()
    };
    kept.session = address;
    kept.world = of.world;
    kept.payer = *payer.address().as_array();
    kept.writer = if book.operator == [0; 32] {
        of.payer
    } else {
        book.operator
    };
    kept.session_hash = sha256(&[bytes_of(of)]);
    kept.recorded = now()?;
    Ok(())
}

#[inline(never)]
pub(crate) fn score(call: Call<'_>, body: &UpdateScore, _: &[u8]) -> Done {
    let (program, [payer, result, score, _], _) = call.split::<4>()?;
    let mut kept = edit::<ResultAccount>(result, program)?;
    require(body.seat < 2, Fault::NoSuchSeat)?;
    let at = usize::from(body.seat);
    require(kept.result.seats[at] == seat::HUMAN, Fault::BadSeat)?;
    require(kept.scored[at] == 0, Fault::AlreadyRecorded)?;
    kept.scored[at] = 1;
    let (world, wallet) = (kept.world, kept.result.wallets[at]);
    if score.data_len() == 0 {
        let seeds = address::score(&world, &wallet);
        create(score, payer, program, seeds, size_of::<ScoreAccount>())?;
        let mut data = score.try_borrow_mut()?;
        let (fresh, _) = blank::<ScoreAccount>(&mut data)?;
        (fresh.world, fresh.wallet) = (world, wallet);
    }
    let mut score = edit::<ScoreAccount>(score, program)?;
    require(
        score.world == world && score.wallet == wallet,
        Fault::WrongAddress,
    )?;
    let count = match kept.result.winner {
        seat if seat == body.seat => &mut score.wins,
        winner::DRAW => &mut score.draws,
        _ => &mut score.losses,
    };
    *count = count.saturating_add(1);
    let lost = kept.result.winner == 1 - body.seat;
    let early = [end_reason::QUIT, end_reason::ABANDONED].contains(&kept.result.end_reason);
    if lost && early {
        score.left = score.left.saturating_add(1);
    }
    score.frames = score.frames.saturating_add(kept.result.end_frame.into());
    score.updated = kept.recorded;
    Ok(())
}
