//! A match as who plays it meets it: opened, seated, and how long a chain takes to answer a transaction
//! that does nothing, a frame, and a pad. Any chains will do, ours or others.

use std::time::{Duration, Instant};

use solana_keypair::Keypair;
use solana_signer::Signer;
use worldline_abi::{Pad, WorldAccount, seat};

use crate::limits::{CONFIRM_TIMEOUT, L1_UNITS, WATCH_TIMEOUT};
use crate::play::{Feed, News, PlayError};
use crate::program::{Program, unit_limit};
use crate::rpc::Rpc;
use crate::send::{Recent, SendError};
use crate::session::NewSession;
use crate::table::{Chains, Found, SessionError, find, open};

/// From one pad to the next; no multiple of a frame, so that pads fall everywhere between frames.
const BETWEEN: Duration = Duration::from_millis(41);

/// A session whose two seats are ready, and whose first frame has not run.
pub struct Seated {
    /// The session.
    pub found: Found,
    /// The session key of each seat.
    pub keys: [Keypair; 2],
}

/// Opens a session of `world`, lends it to the rollup, and seats the payer twice.
pub fn seat(
    chains: &Chains,
    program: Program,
    payer: &Keypair,
    world: &solana_address::Address,
    new: &NewSession,
    characters: [u8; 2],
) -> Result<Seated, SessionError> {
    let keys = [Keypair::new(), Keypair::new()];
    let mut id = [0; 16];
    id.copy_from_slice(&keys[0].pubkey().to_bytes()[..16]);
    let at = open(chains, program, payer, id, world, new, true)?;
    let found = find(chains, program, &at.address)?;
    for (at, key) in (0..).zip(&keys) {
        chains.join(&found, payer, at, seat::HUMAN, &key.pubkey())?;
    }
    for ((at, key), character) in (0..).zip(&keys).zip(characters) {
        chains.ready(&found, payer, key, at, character)?;
    }
    Ok(Seated { found, keys })
}

/// Presses for one seat while the match runs, up to frame `last`, and gives for each pad the time from
/// the start of its request to the arrival of the first state in which it is played.
pub fn responses(
    chains: &Chains,
    seated: &Seated,
    seat: u8,
    last: u32,
) -> Result<Vec<Duration>, PlayError> {
    let (rpc, found) = (chains.of(&seated.found), &seated.found);
    let key = &seated.keys[usize::from(seat)];
    let mut feed = Feed::open(chains, found)?;
    let recent = Recent::default();
    let mut times = Vec::new();
    let mut frame = 0;
    for sequence in 1.. {
        let pad = Pad {
            triggers: [sequence as u8, 0],
            ..Pad::default()
        };
        let call = found.at.submit(&key.pubkey(), seat, sequence, pad);
        let signed = crate::send::sign(&[call], &[key], &rpc.recent(&recent)?)?;
        let sent = Instant::now();
        // With a preflight, so that a pad that is refused is told and not waited for.
        rpc.send(&signed.wire, true)?;
        let arrived;
        (frame, arrived) = arrival(&mut feed, seat, sequence, frame)?;
        if frame >= last {
            break;
        }
        times.push(arrived.duration_since(sent));
        let next = sent + BETWEEN;
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    Ok(times)
}

/// Sends transactions that do nothing, one after the other: from the start of each request until the
/// chain, asked without a pause, says that it landed.
pub fn empty(rpc: &Rpc, payer: &Keypair, count: u32) -> Result<Vec<Duration>, SendError> {
    let recent = Recent::default();
    let mut times = Vec::new();
    for number in 0..count {
        let call = unit_limit(L1_UNITS - number);
        let signed = crate::send::sign(&[call], &[payer], &rpc.recent(&recent)?)?;
        let sent = Instant::now();
        rpc.send(&signed.wire, false)?;
        while rpc
            .statuses(&[signed.signature])?
            .iter()
            .all(Option::is_none)
        {
            if sent.elapsed() > CONFIRM_TIMEOUT {
                return Err(SendError::Lost);
            }
        }
        times.push(sent.elapsed());
    }
    Ok(times)
}

/// Sends the first `count` frames of a match, each once the one before has come: from the start of each
/// request to the arrival of its state.
pub fn frames(
    chains: &Chains,
    seated: &Seated,
    payer: &Keypair,
    count: u32,
) -> Result<Vec<Duration>, PlayError> {
    let (rpc, found) = (chains.of(&seated.found), &seated.found);
    let world: WorldAccount = crate::read::read(&found.at.program, &chains.l1, &found.world())?;
    let frame = found
        .at
        .run(&payer.pubkey(), &found.world(), &world.manifest);
    let mut feed = Feed::open(chains, found)?;
    let recent = Recent::default();
    let mut times = Vec::new();
    for number in 1..=count {
        let calls = [unit_limit(L1_UNITS - number), frame.clone()];
        let signed = crate::send::sign(&calls, &[payer], &rpc.recent(&recent)?)?;
        let sent = Instant::now();
        // The first is tried out, so that a chain that cannot run frames says why.
        rpc.send(&signed.wire, number == 1)?;
        loop {
            match feed.next(WATCH_TIMEOUT)? {
                Some(News::State(state)) if state.frame >= number => break,
                Some(_) => {}
                None => return Err(PlayError::Still(number - 1)),
            }
        }
        times.push(sent.elapsed());
    }
    Ok(times)
}

/// The first frame in which this pad is played, after `frame`, and when its state arrived.
fn arrival(
    feed: &mut Feed,
    seat: u8,
    sequence: u16,
    frame: u32,
) -> Result<(u32, Instant), PlayError> {
    let mut plays_at = None;
    loop {
        let news = feed.next(WATCH_TIMEOUT)?;
        let now = Instant::now();
        match news {
            // The pad lies there: the next frame takes it in.
            Some(News::Inputs(inputs)) => {
                if inputs.buffer.slots[usize::from(seat)].sequence == sequence {
                    plays_at.get_or_insert(inputs.buffer.frame + 1);
                }
            }
            Some(News::State(state)) if plays_at.is_some_and(|at| state.frame >= at) => {
                return Ok((state.frame, now));
            }
            Some(News::State(_)) => {}
            None => return Err(PlayError::Still(frame)),
        }
    }
}
