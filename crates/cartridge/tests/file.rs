//! Files: what is written can be opened, and nothing else.

use proptest::prelude::*;
use std::sync::OnceLock;
use worldline_abi::{MAX_SHARD_BYTES, ModelManifest};
use worldline_cartridge::testing::{self, Size};
use worldline_cartridge::{
    Cartridge, FileHeader, MAX_FILE_BYTES, Model, OpenError, ParseError, SHARDS_AT, file,
    merkle_root,
};
use worldline_mamba2::{Kernels, Scalar};

/// A small valid file.
fn valid() -> &'static [u8] {
    static FILE: OnceLock<Vec<u8>> = OnceLock::new();
    FILE.get_or_init(|| testing::bytes(Size::Interop, 11))
}

fn error(bytes: &[u8]) -> OpenError {
    Cartridge::from_bytes(bytes).expect_err("damaged")
}

/// The valid file with a changed manifest, hashed again.
fn with_manifest(change: impl Fn(&mut ModelManifest)) -> Vec<u8> {
    let mut manifest: ModelManifest = bytemuck::pod_read_unaligned(&valid()[64..SHARDS_AT]);
    change(&mut manifest);
    file(&manifest, &[&valid()[SHARDS_AT..]])
}

/// The valid file with a changed byte of its shard, hashed again: what only a forger would write.
fn forged(at: usize, byte: u8) -> Vec<u8> {
    let mut shard = valid()[SHARDS_AT..].to_vec();
    let at = at % shard.len();
    shard[at] = byte;
    let mut manifest: ModelManifest = bytemuck::pod_read_unaligned(&valid()[64..SHARDS_AT]);
    manifest.merkle_root = merkle_root(&Scalar, &[&shard]);
    file(&manifest, &[&shard])
}

#[test]
fn a_file_on_disk_is_mapped_and_says_what_it_is() {
    let path = std::env::temp_dir().join(format!("worldline-{}.cart", std::process::id()));
    std::fs::write(&path, valid()).unwrap();
    let cartridge = Cartridge::open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let manifest = cartridge.manifest();
    assert_eq!(
        (manifest.name(), manifest.layers, manifest.hidden_pages),
        ("random-interop", 2, 1)
    );
    assert_eq!(cartridge.bytes(), valid());
    assert_eq!(cartridge.root().len(), 64);
    assert_eq!(cartridge.schema().name, "melee");
    assert_eq!(
        cartridge.schema().compile().unwrap().id(),
        manifest.schema_id
    );
    let missing = Cartridge::open(&path).unwrap_err();
    assert!(missing.to_string().starts_with("cannot read "));
}

#[test]
fn every_size_opens_again() {
    for size in [Size::Micro, Size::Tiny, Size::Full] {
        let cartridge = testing::cartridge(size, 1);
        let manifest = cartridge.manifest();
        println!(
            "{size:?}: {} bytes, {} parameters, {} MACs, {} shards, {} pages",
            cartridge.bytes().len(),
            manifest.parameters,
            manifest.macs,
            manifest.shard_count,
            manifest.hidden_pages
        );
        assert!(
            manifest
                .shard_bytes
                .iter()
                .all(|bytes| *bytes as usize <= MAX_SHARD_BYTES)
        );
    }
    assert!(testing::cartridge(Size::Full, 1).manifest().shard_count > 1);
    assert_eq!(
        testing::policy(Size::Micro, 1).manifest().kind,
        worldline_abi::KIND_POLICY
    );
}

#[test]
fn each_kind_of_damage_has_its_own_words() {
    let whole = valid();
    assert!(matches!(
        error(&whole[..whole.len() - 1]),
        OpenError::Size { .. }
    ));
    assert!(matches!(
        error(&[whole, &[0]].concat()),
        OpenError::Size { .. }
    ));
    assert!(matches!(error(&[]), OpenError::Size { .. }));
    assert!(matches!(error(&whole[..100]), OpenError::Size { .. }));
    let flipped = |at: usize| {
        let mut bytes = whole.to_vec();
        bytes[at] ^= 1;
        error(&bytes)
    };
    assert!(matches!(flipped(0), OpenError::NotACartridge));
    assert!(matches!(flipped(8), OpenError::Version { found: 0 }));
    assert!(matches!(flipped(72), OpenError::Header), "the name");
    assert!(matches!(flipped(SHARDS_AT + 5_000), OpenError::Root { .. }));
    assert!(matches!(flipped(whole.len() - 1), OpenError::Root { .. }));
}

#[test]
fn a_manifest_that_promises_something_else_is_refused() {
    let parse = |change: &dyn Fn(&mut ModelManifest)| match error(&with_manifest(change)) {
        OpenError::Parse(error) => error,
        other => panic!("{other}"),
    };
    let unrun = |field| move |e: ParseError| matches!(e, ParseError::Manifest { field: f, .. } if f == field);
    assert!(unrun("state_bits")(parse(&|m| m.state_bits = 8)));
    assert!(unrun("head_dim")(parse(&|m| m.head_dim = 16)));
    assert!(unrun("discriminator")(parse(&|m| m.discriminator[7] = 9)));
    assert_eq!(parse(&|m| m.kind = 1), ParseError::Shape);
    assert_eq!(parse(&|m| m.layers = 1), ParseError::Shape);
    assert_eq!(parse(&|m| m.d_model = 128), ParseError::Shape);
    assert_eq!(parse(&|m| m.schema_id += 1), ParseError::Shape);
    assert!(matches!(
        error(&with_manifest(|m| m.merkle_root[3] ^= 1)),
        OpenError::Root { .. }
    ));
    assert!(matches!(
        error(&with_manifest(|m| m.shard_bytes[0] -= 64)),
        OpenError::Size { .. }
    ));
    assert!(matches!(
        error(&with_manifest(|m| m.shard_bytes[7] = u32::MAX)),
        OpenError::Size { .. }
    ));
    assert!(matches!(
        error(&with_manifest(|m| m.shard_count = 200)),
        OpenError::Header
    ));
}

#[test]
fn an_oversized_file_is_refused_before_it_is_read() {
    let path = std::env::temp_dir().join(format!("worldline-large-{}.cart", std::process::id()));
    let large = std::fs::File::create(&path).unwrap();
    large.set_len(MAX_FILE_BYTES + 1).unwrap();
    let refused = Cartridge::open(&path);
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(refused, Err(OpenError::Size { found, .. }) if found == MAX_FILE_BYTES + 1));
}

#[test]
fn the_manifest_hash_covers_all_of_the_manifest() {
    let header: FileHeader = bytemuck::pod_read_unaligned(&valid()[..64]);
    assert_eq!(
        header.manifest_hash,
        Scalar.sha256(&[&valid()[64..SHARDS_AT]])
    );
}

#[test]
fn missing_and_short_shards_are_named() {
    let cartridge = testing::cartridge(Size::Full, 2);
    let manifest = *cartridge.manifest();
    let bytes = cartridge.bytes();
    let first = &bytes[SHARDS_AT..][..manifest.shard_bytes[0] as usize];
    let refused = Model::parse(&manifest, &[first]).unwrap_err();
    assert!(
        matches!(
            refused,
            ParseError::Shard {
                index: 1,
                found: 0,
                ..
            }
        ),
        "{refused}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happens to a file: no panic, and only the original is accepted.
    #[test]
    fn no_change_of_a_file_is_accepted(
        at in any::<prop::sample::Index>(),
        early in 0usize..4096,
        byte in any::<u8>(),
    ) {
        for at in [at.index(valid().len()), early] {
            let mut bytes = valid().to_vec();
            bytes[at] = byte;
            prop_assert_eq!(Cartridge::from_bytes(&bytes).is_ok(), bytes == valid());
        }
    }

    /// Cut or extended anywhere: refused.
    #[test]
    fn no_other_length_is_accepted(len in any::<prop::sample::Index>(), extra in 1usize..200) {
        let cut = len.index(valid().len());
        prop_assert!(Cartridge::from_bytes(&valid()[..cut]).is_err());
        prop_assert!(Cartridge::from_bytes(&[valid(), &vec![0; extra]].concat()).is_err());
    }

    /// A forger who computes every hash anew: no panic, and what opens can be played.
    #[test]
    fn a_forged_file_that_opens_can_be_played(at in 0usize..40_000, byte in any::<u8>()) {
        if let Ok(cartridge) = Cartridge::from_bytes(&forged(at, byte)) {
            play_a_little(&cartridge);
        }
    }
}

fn play_a_little(cartridge: &Cartridge) {
    use worldline_abi::{InputBuffer, Page};
    use worldline_cartridge::{Scratch, step};
    let model = cartridge.model();
    let Ok(mut state) = model.start(31, [2, 20]) else {
        return;
    };
    let mut pages = model.hidden().fresh();
    let mut hidden: Vec<&mut Page> = pages.iter_mut().collect();
    let mut scratch = Scratch::boxed();
    for frame in 1..4 {
        let inputs = InputBuffer {
            frame,
            ..InputBuffer::default()
        };
        if step(
            &model,
            &mut state,
            &mut hidden,
            &inputs,
            &mut scratch,
            &Scalar,
        )
        .is_err()
        {
            return;
        }
    }
}
