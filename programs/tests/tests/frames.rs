//! Frames on the chain are `cartridge`'s frames: the same bytes, whoever multiplies.

use worldline_abi::{Fault, Page, SessionState, kernels, status};
use worldline_cartridge::{Cartridge, Scratch, step};
use worldline_mamba2::{Kernels, Scalar};
use worldline_program_tests::{CHARACTERS, Chain, STAGE, Table, Upload, micro, reference_inputs};

/// A match without a chain.
struct Native<'c> {
    cartridge: &'c Cartridge,
    state: SessionState,
    pages: Vec<Page>,
    scratch: Box<Scratch>,
    inputs: Box<dyn Iterator<Item = worldline_abi::InputBuffer>>,
}

impl<'c> Native<'c> {
    fn new(cartridge: &'c Cartridge) -> Self {
        let model = cartridge.model();
        Self {
            cartridge,
            state: model.start(STAGE, CHARACTERS).unwrap(),
            pages: model.hidden().fresh(),
            scratch: Scratch::boxed(),
            inputs: Box::new(reference_inputs()),
        }
    }

    fn frame(&mut self) {
        let mut hidden: Vec<&mut Page> = self.pages.iter_mut().collect();
        let inputs = self.inputs.next().unwrap();
        let model = self.cartridge.model();
        step(
            &model,
            &mut self.state,
            &mut hidden,
            &inputs,
            &mut self.scratch,
            &Scalar,
        )
        .unwrap();
    }

    fn hidden(&self) -> [u8; 32] {
        let parts: Vec<&[u8]> = self.pages.iter().map(|page| &page.data[..]).collect();
        Scalar.sha256(&parts)
    }
}

fn same(table: &Table, chain: &Chain, native: &Native<'_>) {
    let frame = native.state.frame;
    assert_eq!(table.state(chain), native.state, "state of frame {frame}");
    let hidden = Scalar.sha256(&[&table.hidden(chain)]);
    assert_eq!(hidden, native.hidden(), "hidden state of frame {frame}");
}

fn trace(kernels: u8, frames: u32) {
    let mut chain = Chain::rollup();
    let world = Upload::new(&mut chain, micro()).finish(&mut chain);
    let mut table = Table::ready(&mut chain, &world, kernels);
    let mut native = Native::new(&world.cartridge);
    assert_eq!(table.state(&chain), native.state, "the start");
    for _ in 0..frames {
        table.frame(&mut chain).unwrap();
        native.frame();
        same(&table, &chain, &native);
    }
    assert_eq!(native.state.frame, frames);
}

#[test]
fn with_both_syscalls_a_frame_gives_the_native_bytes() {
    trace(kernels::SYSCALLS, 1_000);
}

#[test]
fn with_the_matrix_syscall_alone_it_does_too() {
    trace(kernels::MATMUL, 100);
}

#[test]
fn in_plain_instructions_it_does_too() {
    trace(kernels::PLAIN, 300);
}

/// The shipped micro world needs no syscall and no more units than a stock chain gives.
#[test]
fn a_plain_frame_fits_a_transaction_of_any_chain() {
    let mut chain = Chain::l1();
    let world = Upload::new(&mut chain, micro()).finish(&mut chain);
    let mut table = Table::ready(&mut chain, &world, kernels::PLAIN);
    let mut native = Native::new(&world.cartridge);
    for _ in 0..3 {
        table.frame(&mut chain).unwrap();
        native.frame();
        same(&table, &chain, &native);
    }
    println!("{} units a frame", chain.units);
}

#[test]
fn a_missing_syscall_fails_only_the_frame_that_needs_it() {
    let mut chain = Chain::l1();
    let world = Upload::new(&mut chain, micro()).finish(&mut chain);
    let mut table = Table::ready(&mut chain, &world, kernels::SYSCALLS);
    let before = table.state(&chain);
    let refused = table.frame(&mut chain).unwrap_err();
    assert_eq!(refused.fault, None, "{:?}", refused.logs);
    assert_eq!(table.state(&chain), before);
}

#[test]
fn a_frame_in_parts_gives_the_bytes_of_a_whole_one() {
    let mut chain = Chain::rollup();
    let world = Upload::new(&mut chain, micro()).finish(&mut chain);
    let mut table = Table::ready_in_parts(&mut chain, &world, kernels::PLAIN);
    let mut native = Native::new(&world.cartridge);
    for _ in 0..20 {
        table.press(&mut chain).unwrap();
        let parts = [
            table.begin(),
            table.layers(1),
            table.layers(1),
            table.finish(),
        ];
        for part in parts {
            chain.send(&[&table.operator], &[part]).unwrap();
        }
        native.frame();
        same(&table, &chain, &native);
    }
    let whole = chain.send(&[&table.operator], &[table.run()]).unwrap_err();
    assert_eq!(
        whole.fault,
        Some(Fault::FrameOrder),
        "a whole frame would tear a begun one"
    );
}

#[test]
fn the_clock_ends_a_match() {
    let mut chain = Chain::rollup();
    let world = Upload::new(&mut chain, micro()).finish(&mut chain);
    let mut table = Table::ready(&mut chain, &world, kernels::SYSCALLS);
    chain.forge(table.state, |account| {
        account.data[8..12].copy_from_slice(&2u32.to_le_bytes())
    });
    for _ in 0..2 {
        table.frame(&mut chain).unwrap();
    }
    assert_eq!(table.state(&chain).status, status::ENDED);
    let refused = chain.send(&[&table.operator], &[table.run()]).unwrap_err();
    assert_eq!(refused.fault, Some(Fault::SessionStatus));
}
