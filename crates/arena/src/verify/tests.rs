//! What verification finds, and where.

use super::*;
use crate::id::MatchId;
use ed25519_dalek::{Signer, SigningKey};
use worldline_abi::{PadSlot, STICK_UNIT, Session};
use worldline_cartridge::testing::{Size, cartridge};

const FRAMES: u32 = 200;

fn world() -> Arc<World> {
    static WORLD: std::sync::LazyLock<Arc<World>> = std::sync::LazyLock::new(|| {
        World::new(
            "micro",
            cartridge(Size::Interop, 7),
            serde_json::Value::Null,
        )
    });
    WORLD.clone()
}

fn keys() -> [SigningKey; 2] {
    [
        SigningKey::from_bytes(&[1; 32]),
        SigningKey::from_bytes(&[2; 32]),
    ]
}

/// Plays `pads` to the end of a short match; whoever holds the keys could have done it.
fn play(pads: impl Fn(u32) -> Pad, sign: bool) -> Recording {
    let (world, keys) = (world(), keys());
    let start = world.start(31, [2, 20], 9, FRAMES).unwrap();
    let session = Session {
        id: "ABCDEF".parse::<MatchId>().unwrap().padded(),
        world_root: world.root(),
        session_keys: keys.each_ref().map(|key| key.verifying_key().to_bytes()),
        generator: 9,
        clock: FRAMES,
        stage: 31,
        characters: [2, 20],
        seats: [seat::HUMAN; 2],
        ..Session::default()
    };
    let mut game = Game::new(world.running(), session, start, [None, None]);
    let mut scratch = Scratch::new();
    while !game.is_over() {
        let frame = game.state.frame + 1;
        let slots = [
            PadSlot {
                pad: pads(frame),
                sequence: frame as u16,
            },
            PadSlot::default(),
        ];
        game.replay(slots, &mut scratch).unwrap();
        for (at, key) in keys.iter().enumerate().filter(|_| sign) {
            let Some(hash) = game.open_mark(at, frame) else {
                continue;
            };
            let signature = key
                .sign(&sign::message(game.id(), at as u8, frame, &hash))
                .to_bytes();
            game.sign(InputSignature {
                frame,
                seat: at as u8,
                padding: [0; 3],
                signature,
            });
        }
    }
    game.finish();
    (*game.recording).clone()
}

fn wiggle(frame: u32) -> Pad {
    Pad {
        stick: [
            if frame % 40 < 20 {
                STICK_UNIT
            } else {
                -STICK_UNIT
            },
            0,
        ],
        ..Pad::default()
    }
}

#[test]
fn a_true_replay_is_valid() {
    let report = verify(&play(wiggle, true), &world());
    assert!(report.valid, "{report:?}");
    assert_eq!(
        (report.frames, report.signed_to),
        (FRAMES, [Some(FRAMES), Some(FRAMES)])
    );
    let unsigned = verify(&play(wiggle, false), &world());
    assert!(unsigned.valid && unsigned.detail.contains("seat 0 signed nothing"));
}

#[test]
fn a_changed_input_is_found_at_its_frame() {
    for frame in [1, 77, 120, FRAMES] {
        let mut recording = play(wiggle, true);
        recording.inputs[frame as usize - 1].slots[1].pad.buttons = 0x100;
        let report = verify(&recording, &world());
        assert_eq!(
            report.finding,
            Some(Finding::Frame {
                first_bad_frame: frame
            })
        );
    }
}

#[test]
fn a_forger_who_recomputes_every_frame_is_caught_by_the_signatures() {
    let signed = play(wiggle, true);
    let mut forged = play(
        |frame| {
            if frame == 77 {
                Pad::default()
            } else {
                wiggle(frame)
            }
        },
        false,
    );
    forged.signatures = signed.signatures;
    let report = verify(&forged, &world());
    let expected = Finding::Signature {
        seat: 0,
        first_bad_frame: 61,
        last_bad_frame: 120,
    };
    assert_eq!(report.finding, Some(expected));
    assert_eq!(report.signed_to[0], Some(60));
}

#[test]
fn other_lies_are_named() {
    let lie = |change: fn(&mut Recording)| {
        let mut recording = play(wiggle, true);
        change(&mut recording);
        verify(&recording, &world()).finding.unwrap()
    };
    assert_eq!(lie(|one| one.session.world_root[0] ^= 1), Finding::World);
    assert_eq!(lie(|one| one.start.players[0].percent = 1), Finding::Start);
    assert_eq!(lie(|one| one.session.clock = 0), Finding::Start);
    assert_eq!(
        lie(|one| one.inputs[9].slots[0].pad.stick[0] = i16::MIN),
        Finding::Input {
            first_bad_frame: 10,
            seat: 0
        }
    );
    assert_eq!(
        lie(|one| one.inputs[9].frame = 9),
        Finding::Input {
            first_bad_frame: 10,
            seat: 0
        }
    );
    assert_eq!(
        lie(|one| one.prefixes[49][0] ^= 1),
        Finding::Frame {
            first_bad_frame: 50
        }
    );
    assert_eq!(lie(|one| one.result.winner ^= 1), Finding::Result);
    assert_eq!(lie(|one| one.result.stocks[1] += 1), Finding::Result);
    assert_eq!(
        lie(|one| one.signatures[1].signature[0] ^= 1),
        Finding::Signature {
            seat: 1,
            first_bad_frame: 1,
            last_bad_frame: 60
        }
    );
}

#[test]
fn states_and_json_frames_tell_the_same_story() {
    let recording = play(wiggle, false);
    let states = states(&recording, &world());
    assert_eq!(states.len() as u32, FRAMES + 1);
    assert_eq!(
        states.last().unwrap().end_reason,
        recording.result.end_reason
    );
    let json = serde_json::to_value(json_frames(&recording, &world())).unwrap();
    assert_eq!(json["frames"].as_array().unwrap().len() as u32, FRAMES + 1);
    assert_eq!(json["frames"][1]["inputs"][0]["stick"][0], 1.0);
    assert!(json["frames"][0]["inputs"].is_null());
}
