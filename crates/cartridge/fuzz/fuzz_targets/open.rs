//! Patches a valid cartridge, computes its hashes anew as a forger would, opens it, and plays what opens.
//!
//! The input is a list of patches: 3 bytes of place, 1 byte of value. Without the new hashes almost every
//! input would end at the Merkle root.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::OnceLock;
use worldline_abi::{InputBuffer, ModelManifest, Page};
use worldline_cartridge::testing::{self, Size};
use worldline_cartridge::{Cartridge, SHARDS_AT, Scratch, file, merkle_root, step};
use worldline_mamba2::Scalar;

const HEADER: usize = 64;

fn valid() -> &'static [u8] {
    static FILE: OnceLock<Vec<u8>> = OnceLock::new();
    FILE.get_or_init(|| testing::bytes(Size::Interop, 1))
}

fuzz_target!(|data: &[u8]| {
    let _ = Cartridge::from_bytes(data);
    let mut patched = valid().to_vec();
    for patch in data.chunks_exact(4) {
        let place = u32::from_le_bytes([patch[0], patch[1], patch[2], 0]) as usize;
        let range = patched.len() - HEADER;
        patched[HEADER + place % range] = patch[3];
    }
    let (head, shard) = patched.split_at(SHARDS_AT);
    let mut manifest: ModelManifest = bytemuck::pod_read_unaligned(&head[HEADER..]);
    manifest.merkle_root = merkle_root(&Scalar, &[shard]);
    let Ok(cartridge) = Cartridge::from_bytes(&file(&manifest, &[shard])) else {
        return;
    };
    let model = cartridge.model();
    let Ok(mut state) = model.start(31, [2, 20]) else {
        return;
    };
    let mut pages = model.hidden().fresh();
    let mut hidden: Vec<&mut Page> = pages.iter_mut().collect();
    let mut scratch = Scratch::boxed();
    for frame in 1..8 {
        let inputs = InputBuffer { frame, ..InputBuffer::default() };
        if step(&model, &mut state, &mut hidden, &inputs, &mut scratch, &Scalar).is_err() {
            return;
        }
    }
});
