//! The golden trace: ten thousand frames of recorded players' inputs in two worlds, the shipped `micro`
//! and one of random weights in the shape of the shipped `melee`, which is trained anew more often than
//! arithmetic changes. The hash of state and hidden state at every frame. Every kernel of this machine, and the program in its
//! virtual machine, give the committed hashes.
//!
//! `BLESS=1` writes them anew with the scalar kernels; whoever does changes the arithmetic of every
//! cartridge, or has shipped another world.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use worldline_abi::{InputBuffer, Pad, Page, SessionState, kernels, status};
use worldline_cartridge::{Cartridge, Scratch, step, testing};
use worldline_mamba2::{Kernels, Native, Scalar};
use worldline_program_tests::{CHARACTERS, Chain, STAGE, Table, Upload, micro};

/// Frames of a trace.
const FRAMES: usize = 10_000;
/// Frames of it in plain instructions.
const PLAIN_FRAMES: usize = 300;
/// Bytes kept of each frame: four of the state's hash, four of the hidden state's.
const MARK: usize = 8;
/// Bytes before a ghost's compressed pads.
const GHOST_HEADER: usize = 16;

type Mark = [u8; MARK];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn world(name: &str) -> Cartridge {
    match name {
        "small" => testing::cartridge(testing::Size::Small, 5),
        _ => micro(),
    }
}

/// Two people's recorded pads, again from their start when they are over.
fn inputs() -> impl Iterator<Item = [Pad; 2]> {
    let folder = std::fs::read_dir(root().join("worlds/ghost")).unwrap();
    let mut files: Vec<PathBuf> = folder.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let pads = |file: &PathBuf| -> Vec<Pad> {
        let bytes = std::fs::read(file).unwrap();
        let mut raw = Vec::new();
        let mut body = flate2::read::ZlibDecoder::new(&bytes[GHOST_HEADER..]);
        body.read_to_end(&mut raw).unwrap();
        bytemuck::allocation::pod_collect_to_vec(&raw)
    };
    let (one, two) = (pads(&files[0]), pads(&files[1]));
    (0..).map(move |at: usize| [one[at % one.len()], two[at % two.len()]])
}

fn mark<'p>(state: &SessionState, pages: impl Iterator<Item = &'p [u8]>) -> Mark {
    let state = Scalar.sha256(&[bytemuck::bytes_of(state)]);
    let pages: Vec<&[u8]> = pages.collect();
    let hidden = Scalar.sha256(&pages);
    core::array::from_fn(|at| if at < 4 { state[at] } else { hidden[at - 4] })
}

/// The trace without a chain. A match that ends begins anew, its hidden state as it is.
fn native(cartridge: &Cartridge, kernels: &Native, frames: usize) -> Vec<Mark> {
    let model = cartridge.model();
    let start = model.start(STAGE, CHARACTERS).unwrap();
    let (mut state, mut pages) = (start, model.hidden().fresh());
    let mut scratch = Scratch::boxed();
    let mut sequence = 0u16;
    let mut next = |pads: [Pad; 2]| {
        if state.status == status::ENDED {
            state = start;
        }
        sequence = sequence.wrapping_add(1);
        let mut inputs = InputBuffer {
            frame: state.frame + 1,
            ..InputBuffer::default()
        };
        for (slot, pad) in inputs.slots.iter_mut().zip(pads) {
            (slot.pad, slot.sequence) = (pad, sequence);
        }
        let mut hidden: Vec<&mut Page> = pages.iter_mut().collect();
        step(
            &model,
            &mut state,
            &mut hidden,
            &inputs,
            &mut scratch,
            kernels,
        )
        .unwrap();
        mark(&state, pages.iter().map(|page| &page.data[..]))
    };
    inputs().take(frames).map(&mut next).collect()
}

/// The trace on the chain.
fn on_chain(cartridge: Cartridge, kernels: u8, frames: usize) -> Vec<Mark> {
    let mut chain = Chain::rollup();
    let world = Upload::new(&mut chain, cartridge).finish(&mut chain);
    let table = Table::ready(&mut chain, &world, kernels);
    let start = table.state(&chain);
    let mut sequence = 0u16;
    let mut next = |pads: [Pad; 2]| {
        if table.state(&chain).status == status::ENDED {
            chain.forge(table.state, |account| {
                account.data.copy_from_slice(bytemuck::bytes_of(&start));
            });
        }
        sequence = sequence.wrapping_add(1);
        for (seat, pad) in pads.into_iter().enumerate() {
            let call = table.submit(seat as u8, sequence, pad);
            chain.send(&[&table.keys[seat]], &[call]).unwrap();
        }
        chain.send(&[&table.operator], &[table.run()]).unwrap();
        let pages: Vec<Vec<u8>> = table.pages.iter().map(|page| chain.data(*page)).collect();
        let data = pages.iter().map(|page| &page[worldline_abi::PAGE_HEADER..]);
        mark(&table.state(&chain), data)
    };
    inputs().take(frames).map(&mut next).collect()
}

fn golden(name: &str) -> Vec<Mark> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _alone = ONE_AT_A_TIME.lock();
    let path = root().join(format!("programs/tests/golden/{name}.trace"));
    if std::env::var_os("BLESS").is_some() {
        let marks = native(&world(name), &Native::Scalar(Scalar), FRAMES);
        std::fs::write(&path, marks.as_flattened()).unwrap();
    }
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(bytes.len(), FRAMES * MARK);
    bytes.as_chunks().0.to_vec()
}

#[track_caller]
fn same(found: &[Mark], golden: &[Mark], who: &str) {
    let wrong = found
        .iter()
        .zip(golden)
        .position(|(found, golden)| found != golden);
    assert_eq!(
        wrong, None,
        "{who}: the first frame that differs, counted from 0"
    );
}

fn every_kernel(name: &str) {
    let golden = golden(name);
    for kernels in Native::available() {
        same(
            &native(&world(name), &kernels, FRAMES),
            &golden,
            kernels.name(),
        );
    }
}

#[test]
fn every_kernel_of_this_machine_gives_the_golden_trace_of_micro() {
    every_kernel("micro");
}

#[test]
fn the_chain_gives_the_golden_trace_of_micro() {
    let golden = golden("micro");
    same(
        &on_chain(world("micro"), kernels::SYSCALLS, FRAMES),
        &golden,
        "syscalls",
    );
    same(
        &on_chain(world("micro"), kernels::MATMUL, PLAIN_FRAMES),
        &golden,
        "matrices by syscall",
    );
    same(
        &on_chain(world("micro"), kernels::PLAIN, PLAIN_FRAMES),
        &golden,
        "plain instructions",
    );
}

#[test]
fn every_kernel_of_this_machine_gives_the_golden_trace_of_small() {
    every_kernel("small");
}

#[test]
fn the_chain_gives_the_golden_trace_of_small() {
    let golden = golden("small");
    same(
        &on_chain(world("small"), kernels::SYSCALLS, FRAMES),
        &golden,
        "syscalls",
    );
}

/// The shipped `melee` has no committed hashes, so that it can be trained anew; whatever its weights are, it
/// is the same world everywhere.
#[test]
fn the_shipped_melee_is_the_same_everywhere() {
    let melee = || Cartridge::open(root().join("worlds/melee.cart")).unwrap();
    let scalar = native(&melee(), &Native::Scalar(Scalar), PLAIN_FRAMES);
    for kernels in Native::available() {
        let found = native(&melee(), &kernels, PLAIN_FRAMES);
        same(&found, &scalar, kernels.name());
    }
    let found = on_chain(melee(), kernels::SYSCALLS, PLAIN_FRAMES);
    same(&found, &scalar, "syscalls");
}

/// The larger world without any system call: its first frames, as each takes a hundred million instructions.
#[test]
fn the_first_frames_of_small_are_golden_in_plain_instructions() {
    same(
        &on_chain(world("small"), kernels::PLAIN, 20),
        &golden("small"),
        "plain instructions",
    );
}
