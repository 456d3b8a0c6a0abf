//! Replays in, frames out; whatever is wrong with a file, an error and not a panic.

use std::{fs, path::Path};

use proptest::{prelude::*, sample::Index};
use worldline_trainer::dataset::{
    Dataset, Licences, MIN_FRAMES, Reason, Replay, Sources, read_replay, start_states,
};

const FALCON_SHEIK: &[u8] = include_bytes!("data/641703d424811bf0.slpz");
const FALCO_FOX: &[u8] = include_bytes!("data/af4089b8171523d4.slpz");
const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data");

fn slp(archive: &[u8]) -> Vec<u8> {
    slpz::decompress(&mut slpz::Decompressor::new().unwrap(), archive).unwrap()
}

fn reason(bytes: &[u8]) -> Reason {
    read_replay(bytes)
        .map(|replay| replay.frames.len())
        .unwrap_err()
        .reason
}

fn sources(path: impl AsRef<Path>, cache: Option<&Path>) -> Sources {
    Sources {
        paths: vec![path.as_ref().display().to_string()],
        licences: Licences::permissive(),
        cache: cache.map(Path::to_owned),
    }
}

/// What every match must hold, whatever bytes it was read from.
fn assert_sane(replay: &Replay) {
    assert!(replay.frames.len() >= MIN_FRAMES);
    for seat in replay.frames.iter().flatten() {
        assert!(seat.pad.is_valid());
        assert!(seat.core.facing <= 1 && seat.core.on_ground <= 1);
        assert_eq!((seat.spare, seat.core.reserved), (0, 0));
    }
}

#[test]
fn a_match_is_read_to_the_frame() {
    let replay = read_replay(FALCO_FOX).unwrap();
    assert_sane(&replay);
    assert_eq!((replay.stage, replay.characters), (32, [20, 2]));
    assert_eq!(replay.frames.len(), 4089);

    let first = replay.frames[0].map(|seat| seat.core);
    assert_eq!(
        first.map(|core| (core.x, core.y)),
        [(-60 * 4096, 0), (60 * 4096, 0)]
    );
    assert_eq!(
        first.map(|core| (core.stocks, core.percent, core.facing)),
        [(4, 0, 1), (4, 0, 0)]
    );
    let last = replay.frames.last().unwrap().map(|seat| seat.core.stocks);
    assert_eq!(last.iter().filter(|&&stocks| stocks == 0).count(), 1);
}

#[test]
fn stocks_only_fall_and_the_counter_counts() {
    let replay = read_replay(FALCO_FOX).unwrap();
    for pair in replay.frames.windows(2) {
        for seat in [0, 1] {
            let (old, new) = (pair[0][seat], pair[1][seat]);
            assert!(new.core.stocks <= old.core.stocks);
            let changed = new.core.action_state != old.core.action_state;
            assert_eq!(new.since, if changed { 0 } else { old.since + 1 });
        }
    }
}

/// A pad read one frame early or late would not explain what the body does.
#[test]
fn a_pad_produces_its_own_frame() {
    const JUMP_SQUAT: u16 = 24;
    const JUMP_BUTTONS: u16 = 0x0c00;
    let mut presses = [0; 3];
    for replay in [FALCO_FOX, FALCON_SHEIK].map(|bytes| read_replay(bytes).unwrap()) {
        for rows in replay.frames.windows(4) {
            for seat in [0, 1] {
                let [action_before, action] =
                    [1, 2].map(|i: usize| rows[i][seat].core.action_state);
                if action == JUMP_SQUAT && action_before != JUMP_SQUAT {
                    for (i, count) in presses.iter_mut().enumerate() {
                        let held = |i: usize| rows[i][seat].pad.buttons & JUMP_BUTTONS;
                        *count += u32::from(held(i + 1) & !held(i) != 0);
                    }
                }
            }
        }
    }
    assert!(presses[1] > 5 * (presses[0] + presses[2]), "{presses:?}");
}

#[test]
fn an_archive_and_its_replay_agree() {
    assert_eq!(
        read_replay(FALCO_FOX).unwrap(),
        read_replay(&slp(FALCO_FOX)).unwrap()
    );
}

#[test]
fn what_is_no_replay_is_said_to_be_none() {
    assert_eq!(reason(b""), Reason::NotAReplay);
    assert_eq!(
        reason(b"RIFF then sixty bytes of something else than a replay"),
        Reason::NotAReplay
    );
    assert_eq!(reason(&slp(FALCO_FOX)[..12]), Reason::NotAReplay);
}

#[test]
fn a_truncated_replay_is_corrupt() {
    let slp = slp(FALCO_FOX);
    for length in [20, 700, 5_000, slp.len() / 2] {
        assert_eq!(reason(&slp[..length]), Reason::CorruptReplay, "{length}");
    }
    for length in [24, 100, 1_000, FALCO_FOX.len() / 2, FALCO_FOX.len() - 1] {
        assert_eq!(
            reason(&FALCO_FOX[..length]),
            Reason::CorruptArchive,
            "{length}"
        );
    }
}

/// Neither format has a checksum: a flip inside a value cannot be told from another match.
#[test]
fn a_flipped_bit_is_an_error_or_another_sane_match() {
    let mut errors = 0;
    for at in (0..FALCO_FOX.len()).step_by(FALCO_FOX.len() / 64) {
        let mut bytes = FALCO_FOX.to_vec();
        bytes[at] ^= 0x10;
        match read_replay(&bytes) {
            Ok(replay) => assert_sane(&replay),
            Err(_) => errors += 1,
        }
    }
    assert!(errors > 10, "{errors} of 64 flips noticed");
}

#[test]
fn an_archive_that_claims_four_gigabytes_is_not_unpacked() {
    let mut bytes = FALCO_FOX.to_vec();
    bytes[20..24].fill(0xff);
    assert_eq!(reason(&bytes), Reason::TooLarge);
}

#[test]
fn metadata_nested_a_million_deep_is_not_followed() {
    let mut bytes = slp(FALCO_FOX);
    let events = 15 + u32::from_be_bytes(bytes[11..15].try_into().unwrap()) as usize;
    bytes.truncate(events);
    bytes.extend(
        b"U\x08metadata{"
            .iter()
            .chain(b"U\x01a{".repeat(1 << 20).iter()),
    );
    assert_eq!(
        read_replay(&bytes).unwrap(),
        read_replay(FALCO_FOX).unwrap()
    );
}

#[test]
fn a_replay_of_old_slippi_is_refused_by_name() {
    let mut bytes = slp(FALCO_FOX);
    let version = 15 + 1 + usize::from(bytes[16]) + 1;
    assert_eq!(bytes[version..version + 2], [3, 13]);
    bytes[version + 1] = 7;
    assert_eq!(reason(&bytes), Reason::OldVersion);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..Default::default() })]

    #[test]
    fn no_mutation_of_a_replay_panics(
        archive: bool,
        edits in prop::collection::vec((any::<Index>(), any::<u8>()), 1..12),
        cut in prop::option::of(any::<Index>()),
    ) {
        let mut bytes = if archive { FALCON_SHEIK.to_vec() } else { slp(FALCON_SHEIK) };
        for (at, value) in edits {
            *at.get_mut::<u8>(&mut bytes) = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(replay) = read_replay(&bytes) {
            assert_sane(&replay);
        }
    }

    /// Where sizes, counts and versions lie, and an unlucky byte does most harm.
    #[test]
    fn no_mutation_of_a_header_panics(
        archive: bool,
        edits in prop::collection::vec((0usize..900, any::<u8>()), 1..4),
    ) {
        let mut bytes = if archive { FALCON_SHEIK.to_vec() } else { slp(FALCON_SHEIK) };
        for (at, value) in edits {
            bytes[at] = value;
        }
        if let Ok(replay) = read_replay(&bytes) {
            assert_sane(&replay);
        }
    }
}

#[test]
fn a_folder_is_read_with_its_licences_and_bad_files_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("inner");
    fs::create_dir(&inner).unwrap();
    fs::write(inner.join("good.slpz"), FALCO_FOX).unwrap();
    fs::write(inner.join("good.slp"), slp(FALCON_SHEIK)).unwrap();
    fs::write(inner.join("bad.slp"), b"not a replay").unwrap();
    fs::write(inner.join("unlicensed.slpz"), FALCO_FOX).unwrap();
    fs::write(inner.join("ignored.txt"), b"").unwrap();
    let manifest = "file,stage,licence\ngood.slpz,FD,MIT\ngood.slp,PS,ISC\nbad.slp,,MIT\n";
    fs::write(inner.join("MANIFEST.csv"), manifest).unwrap();

    let dataset = sources(folder.path(), None).load().unwrap();
    let found: Vec<_> = dataset
        .matches
        .iter()
        .map(|m| (&*m.id, &*m.licence))
        .collect();
    assert_eq!(found, [("good.slp", "ISC"), ("good.slpz", "MIT")]);
    assert_eq!(
        dataset.skipped,
        [(Reason::NotAReplay, 1), (Reason::Licence, 1)].into()
    );
    assert_eq!(dataset.licences(), [("ISC", 1), ("MIT", 1)].into());
    assert_eq!(dataset.frames(), 4089 + 3279);
}

#[test]
fn a_glob_finds_files_and_a_wrong_path_says_so() {
    let dataset = sources(format!("{DATA}/af*.slpz"), None).load().unwrap();
    assert_eq!(dataset.matches.len(), 1);
    let error = sources(format!("{DATA}/nothing*.slpz"), None)
        .load()
        .unwrap_err();
    assert!(error.to_string().contains("nothing*.slpz"));
}

fn only_file(folder: &Path) -> std::path::PathBuf {
    let files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files[0].clone()
}

#[test]
fn the_cache_gives_the_same_dataset_and_a_corrupt_one_is_rebuilt() {
    let folder = tempfile::tempdir().unwrap();
    let sources = sources(DATA, Some(folder.path()));
    let read = sources.load().unwrap();
    let path = only_file(folder.path());
    let good = fs::read(&path).unwrap();
    assert_eq!(sources.load().unwrap(), read);

    let flipped = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        bytes
    };
    let corrupt = [
        Vec::new(),
        good[..good.len() - 1].to_vec(),
        flipped(0),
        flipped(9),
        flipped(14),
        flipped(30),
        flipped(good.len() - 5),
    ];
    for bytes in corrupt {
        fs::write(&path, bytes).unwrap();
        assert_eq!(sources.load().unwrap(), read);
        assert_eq!(fs::read(only_file(folder.path())).unwrap(), good);
    }
}

#[test]
fn the_cache_notices_a_changed_file() {
    let replays = tempfile::tempdir().unwrap();
    let cache = tempfile::tempdir().unwrap();
    let path = replays.path().join("a.slpz");
    let sources = Sources {
        licences: Licences::Any,
        ..sources(replays.path(), Some(cache.path()))
    };
    fs::write(&path, FALCO_FOX).unwrap();
    let before = sources.load().unwrap();
    fs::write(&path, FALCON_SHEIK).unwrap();
    assert_ne!(sources.load().unwrap(), before);
}

fn fixtures() -> Dataset {
    sources(DATA, None).load().unwrap()
}

#[test]
fn the_split_is_by_match_and_stays_when_matches_are_added() {
    let one = &fixtures().matches[0];
    let many = |count: u32| Dataset {
        matches: (0..count)
            .map(|i| {
                let mut copy = one.clone();
                copy.id = format!("{i}.slp");
                copy.frames.clear();
                copy
            })
            .collect(),
        ..Dataset::default()
    };
    let names = |dataset: &Dataset| -> Vec<String> {
        dataset
            .split(7)
            .validation
            .iter()
            .map(|one| one.id.clone())
            .collect()
    };
    let (few, more) = (names(&many(500)), names(&many(2000)));
    assert!(more.starts_with(&few));
    assert!(
        (120..200).contains(&more.len()),
        "{} of 2000 held back",
        more.len()
    );
    assert_ne!(more.len(), many(2000).split(8).validation.len());
}

#[test]
fn a_start_is_two_players_at_rest_facing_each_other() {
    let dataset = fixtures();
    let starts = start_states(&dataset.matches.iter().collect::<Vec<_>>());
    let stage = starts.iter().find(|start| start.stage == 32).unwrap();
    assert_eq!(
        stage.players.map(|player| player.x),
        [-60 * 4096, 60 * 4096]
    );
    assert_eq!(stage.players.map(|player| player.facing), [1, 0]);
    assert_eq!(
        stage.players.map(|player| (player.stocks, player.percent)),
        [(4, 0); 2]
    );
}
