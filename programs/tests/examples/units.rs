//! Compute units of a frame and of its parts, on the real virtual machine: one JSON document.
//!
//! `cargo xtask bench cu` builds the program with its measuring instruction and starts this with
//! `WORLD_MODEL_ELF` naming that ELF.

use solana_instruction::Instruction as Call;
use std::time::Instant;
use worldline_abi::kernels;
use worldline_cartridge::testing::{Size, cartridge};
use worldline_cartridge::{Cartridge, Scratch, step};
use worldline_mamba2::Native;
use worldline_program_tests::{
    CHARACTERS, Chain, STAGE, Table, Upload, instruction, reference_inputs,
};

/// Sizes, as the documents name them.
const SIZES: [(&str, Size); 4] = [
    ("micro", Size::Micro),
    ("tiny", Size::Tiny),
    ("small", Size::Small),
    ("full", Size::Full),
];
const CHIPS: [(&str, u8); 3] = [
    ("plain", kernels::PLAIN),
    ("matmul", kernels::MATMUL),
    ("syscalls", kernels::SYSCALLS),
];
/// The parts that the measuring instruction knows, besides a layer.
const PARTS: [(&str, u8); 5] = [
    ("matvec_naive", 0),
    ("matvec_packed", 1),
    ("matvec_syscall", 2),
    ("linear_syscall", 5),
    ("look_up_256", 3),
];
/// Frames that are timed; the first ones are not.
const FRAMES: usize = 40;

fn main() {
    let mut rows = Vec::new();
    for (name, size) in SIZES {
        let mut chain = Chain::rollup();
        chain.any_size = true;
        let world = Upload::new(&mut chain, cartridge(size, 5)).finish(&mut chain);
        let mut table = Table::ready(&mut chain, &world, kernels::SYSCALLS);
        let manifest = world.cartridge.manifest();
        let mut row = vec![
            format!("\"size\": \"{name}\", \"macs\": {}", manifest.macs),
            format!("\"in_proj\": {}", in_proj(&world.cartridge)),
        ];
        for (part, tag) in PARTS {
            row.push(format!(
                "\"{part}\": {}",
                measure(&mut chain, &table, &[tag])
            ));
        }
        for (chip, number) in CHIPS {
            let scan = measure(&mut chain, &table, &[4, number]);
            let layer = measure(&mut chain, &table, &[6, number]);
            row.push(format!(
                "\"scan_{chip}\": {scan}, \"layer_{chip}\": {layer}"
            ));
        }
        for (chip, number) in CHIPS {
            chain.forge(table.session, |account| account.data[450] = number);
            let mut times = Vec::new();
            for _ in 0..FRAMES {
                table.press(&mut chain).expect("inputs");
                let begun = Instant::now();
                chain
                    .send(&[&table.operator], &[table.run()])
                    .expect("a frame");
                times.push(begun.elapsed().as_secs_f64() * 1e6);
            }
            row.push(format!("\"frame_{chip}\": {}", chain.units));
            row.push(format!("\"frame_{chip}_us\": {:.0}", median(&mut times)));
        }
        row.push(format!("\"native_us\": {:.0}", native(&world.cartridge)));
        rows.push(format!("{{{}}}", row.join(", ")));
    }
    println!(
        "{{\"empty_us\": {:.0}, \"sizes\": [\n{}\n]}}",
        empty(),
        rows.join(",\n")
    );
}

/// Rows times columns of the first layer's first matrix.
fn in_proj(cartridge: &Cartridge) -> usize {
    let dims = cartridge.model().dims();
    dims.in_rows() * dims.d_model
}

/// Units that the measuring instruction logs.
fn measure(chain: &mut Chain, table: &Table, part: &[u8]) -> u64 {
    let mut call: Call = table.run();
    call.data = [&[255], part].concat();
    let logs = chain.logs(&[&table.operator], &[call]).expect("a part");
    let line = logs
        .iter()
        .find_map(|line| line.strip_prefix("Program log: 0x"));
    let line = line.unwrap_or_else(|| panic!("not a measuring ELF: {logs:?}"));
    let first = line.split(',').next().unwrap_or_default();
    u64::from_str_radix(first.trim(), 16).expect("a hexadecimal number")
}

/// Microseconds of a native frame on this machine's best kernels.
fn native(cartridge: &Cartridge) -> f64 {
    let model = cartridge.model();
    let mut state = model.start(STAGE, CHARACTERS).expect("a start");
    let mut pages = model.hidden().fresh();
    let mut hidden: Vec<_> = pages.iter_mut().collect();
    let mut scratch = Scratch::boxed();
    let kernels = Native::detect();
    let mut times = Vec::new();
    for inputs in reference_inputs().take(FRAMES) {
        let begun = Instant::now();
        step(
            &model,
            &mut state,
            &mut hidden,
            &inputs,
            &mut scratch,
            &kernels,
        )
        .expect("a frame");
        times.push(begun.elapsed().as_secs_f64() * 1e6);
    }
    median(&mut times)
}

/// Microseconds of a transaction that does nothing.
fn empty() -> f64 {
    let mut chain = Chain::rollup();
    let person = chain.person();
    let mut call = instruction(
        &worldline_abi::instruction::RunInference {},
        &[],
        &[[0; 32]; 5],
        &[],
    );
    call.program_id =
        solana_address::Address::from_str_const("ComputeBudget111111111111111111111111111111");
    call.accounts.clear();
    call.data = vec![2, 0, 0, 1, 0];
    let mut times = Vec::new();
    for _ in 0..FRAMES {
        let begun = Instant::now();
        chain
            .send(&[&person], &[call.clone()])
            .expect("an empty transaction");
        times.push(begun.elapsed().as_secs_f64() * 1e6);
    }
    median(&mut times)
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
