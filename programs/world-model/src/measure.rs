//! What the parts of a frame cost, in compute units: an instruction of builds for measuring.

use crate::accounts::{Call, Done, require, view};
use crate::frame::{Pages, Shelf, scratch};
use crate::kernels::{Chip, plain};
use crate::syscall;
use pinocchio::{AccountView, Address};
use worldline_abi::{Fault, WorldAccount, kernels};
use worldline_cartridge::{Model, PagedState, layer};
use worldline_mamba2::{Kernels, Linear, Scalar, Work, tables};

/// The tag of the instruction.
pub(crate) const TAG: u8 = 255;
/// Values that are looked up.
const LOOK_UPS: usize = 256;

/// Runs one part of the session's world and logs its units. Accounts as `RunInference`.
#[inline(never)]
pub(crate) fn run(call: Call<'_>, part: &[u8]) -> Done {
    let (program, [_, session, _, _, world], rest) = call.split::<5>()?;
    let world = view::<WorldAccount>(world, program)?;
    let (shelf, pages) = Shelf::open(&world.manifest, rest, program)?;
    let model = shelf.model(&world.manifest)?;
    let first = model.layer(0).map_err(|_| Fault::BadModel)?;
    let matrix = &first.params.in_proj;
    let scratch = scratch();
    for (at, number) in scratch.work.residual.iter_mut().enumerate() {
        *number = (at as i32 * 7_919) % 100_000 - 50_000;
    }
    let before = syscall::remaining();
    match part {
        [0] => naive(matrix, &mut scratch.work),
        [1] => plain(matrix, &mut scratch.work),
        [2] => Chip(kernels::MATMUL).linear(matrix, &mut scratch.work),
        [5] => Chip(kernels::SYSCALLS).linear(matrix, &mut scratch.work),
        [3] => look_up(model.tables().silu, &mut scratch.work),
        [4, chip] => one_scan(&model, pages, &(session.address(), program, Chip(*chip)))?,
        [6, chip] => one_layer(&model, pages, &(session.address(), program, Chip(*chip)))?,
        _ => return require(false, Fault::BadData),
    }
    syscall::log_units(before - syscall::remaining());
    Ok(())
}

/// The first layer, its pages and all. Its own function, because the pages fill a stack frame.
#[inline(never)]
fn one_layer(
    model: &Model<'_>,
    pages: &mut [AccountView],
    (session, program, chip): &(&Address, &Address, Chip),
) -> Done {
    let mut pages = Pages::open(session, pages, program)?;
    let mut hidden = pages.hidden();
    Ok(layer(model, 0, &mut hidden, scratch(), chip).map_err(|_| Fault::BadModel)?)
}

/// The matrix as one would first write it: the trait's own body, which the scalar kernels use.
#[inline(never)]
fn naive(matrix: &Linear<'_>, work: &mut Work) {
    Scalar.linear(matrix, work);
}

#[inline(never)]
fn look_up(table: &[i16], work: &mut Work) {
    for value in &mut work.mixed[..LOOK_UPS] {
        *value = tables::silu(table, *value);
    }
}

/// What lies between the first block's matrices, its pages and all.
#[inline(never)]
fn one_scan(
    model: &Model<'_>,
    pages: &mut [AccountView],
    (session, program, chip): &(&Address, &Address, Chip),
) -> Done {
    let mut pages = Pages::open(session, pages, program)?;
    let mut hidden = pages.hidden();
    let first = model.layer(0).map_err(|_| Fault::BadModel)?;
    let mut memory = PagedState::new(&mut hidden, model.hidden(), 0);
    chip.mix(&first, &mut memory, &mut scratch().work);
    Ok(())
}
