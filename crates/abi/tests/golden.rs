//! Golden bytes: what was written by an earlier build must read the same in this one.

use bytemuck::{Zeroable, bytes_of};
use worldline_abi::*;

/// Bytes at `offset`.
fn at<const N: usize>(bytes: &[u8], offset: usize) -> [u8; N] {
    bytes[offset..offset + N].try_into().unwrap()
}

#[test]
fn a_pad_is_twelve_bytes() {
    let pad = Pad {
        stick: [STICK_UNIT, -STICK_UNIT],
        cstick: [MELEE_STICK_STEP, 1],
        triggers: [255, 7],
        buttons: button::A | button::START,
    };
    assert_eq!(
        bytes_of(&pad),
        [
            0x00, 0x7d, 0x00, 0x83, 0x90, 0x01, 0x01, 0x00, 255, 7, 0x00, 0x11
        ]
    );
    assert!(pad.is_valid());
    assert!(
        !Pad {
            stick: [i16::MIN, 0],
            ..pad
        }
        .is_valid()
    );
    assert!(
        !Pad {
            cstick: [0, STICK_UNIT + 1],
            ..pad
        }
        .is_valid()
    );
    assert!(
        !Pad {
            buttons: 0x80,
            ..pad
        }
        .is_valid()
    );
}

#[test]
fn inputs_are_thirty_two_bytes() {
    let slot = |sequence| PadSlot {
        pad: Pad {
            buttons: button::Z,
            ..Pad::default()
        },
        sequence,
    };
    let bytes = InputBuffer {
        slots: [slot(0x0102), slot(0x0304)],
        frame: 0x0506_0708,
    };
    let bytes = bytes_of(&bytes);
    assert_eq!(at(bytes, 10), [0x10, 0, 0x02, 0x01]);
    assert_eq!(at(bytes, 24), [0x10, 0, 0x04, 0x03, 0x08, 0x07, 0x06, 0x05]);
}

#[test]
fn a_state_keeps_its_bytes() {
    let mut state = SessionState {
        status: status::ACTIVE,
        stage: 31,
        frame: 0x0102_0304,
        clock: 28_800,
        generator: 0x1122_3344_5566_7788,
        schema_id: 9,
        rule_hits: 2,
        chain: [0xcc; 32],
        ..SessionState::default()
    };
    state.players[1] = PlayerState {
        x: -UNIT_ONE,
        percent: 2 * PERCENT_ONE,
        speed_ground_x: SPEED_ONE,
        shield: 60 * SHIELD_ONE,
        action_state: 14,
        stocks: 4,
        character: 20,
        ..PlayerState::default()
    };
    state.players[1].counters[COUNTER_ACTION] = 600;
    let bytes = bytes_of(&state);
    assert_eq!(
        at(bytes, 0),
        [1, 3, 31, 0xff, 4, 3, 2, 1, 0x80, 0x70, 0, 0, 0, 0, 0, 0]
    );
    assert_eq!(
        at(bytes, 16),
        [
            0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 9, 0, 0, 0, 2, 0, 0, 0
        ]
    );
    assert_eq!(at(bytes, 32), [0; 96]);
    assert_eq!(at(bytes, 128), [0x00, 0xf0, 0xff, 0xff, 0, 0, 0, 0, 128, 0]);
    assert_eq!(
        at(bytes, 146),
        [
            0x00, 0x04, 0x00, 60, 14, 0, 0, 4, 0, 0, 0, 20, 0, 0, 0x58, 0x02
        ]
    );
    assert_eq!(at(bytes, 224), [0xcc; 32]);
    assert_eq!(state.chained(), &bytes[..224]);
}

#[test]
fn a_manifest_keeps_its_bytes() {
    let mut manifest = ModelManifest {
        d_model: 256,
        layers: 8,
        d_state: 16,
        kind: KIND_POLICY,
        parameters: 3_300_000,
        ..ModelManifest::default()
    };
    manifest.set_name("melee");
    manifest.shard_bytes[7] = 1;
    manifest.shards[0] = [7; 32];
    let bytes = bytes_of(&manifest);
    assert_eq!(&at::<13>(bytes, 0), b"WLMODEL\x01melee");
    assert_eq!(at(bytes, 48), [0, 1]);
    assert_eq!(at(bytes, 56), [8, 16, 0, 0, 0, 0, 0, 1]);
    assert_eq!(at(bytes, 64), 3_300_000u64.to_le_bytes());
    assert_eq!(at(bytes, 188), [1, 0, 0, 0, 7]);
    assert_eq!(manifest.name(), "melee");
    manifest.set_name("a name longer than fits: ééééééé");
    assert_eq!(manifest.name(), "a name longer than fits: ééé");
}

#[test]
fn every_standalone_layout_begins_with_its_own_discriminator() {
    let all = [
        ModelManifest::DISCRIMINATOR,
        WeightShard::DISCRIMINATOR,
        HiddenHeader::DISCRIMINATOR,
        Session::DISCRIMINATOR,
        MatchResult::DISCRIMINATOR,
        ReplayHeader::DISCRIMINATOR,
    ];
    for (index, one) in all.iter().enumerate() {
        assert!(one.is_some() && !all[..index].contains(one));
    }
    assert!(view::<ReplayHeader>(bytes_of(&ReplayHeader::default())).is_ok());
    assert!(view::<Session>(bytes_of(&Session::default())).is_ok());
    assert!(view::<MatchResult>(bytes_of(&MatchResult::default())).is_ok());
    let page = Page::new(3, 9);
    assert_eq!(view::<Page>(bytes_of(&page)).unwrap().header.index, 3);
    assert_eq!(at(bytes_of(&page), 40), [3, 0, 9, 0]);
}

#[test]
fn wrong_bytes_are_refused_by_name() {
    let manifest = ModelManifest::default();
    let mut bytes = [0u64; 64];
    bytemuck::bytes_of_mut(&mut bytes).copy_from_slice(bytes_of(&manifest));
    let bytes = bytemuck::bytes_of_mut(&mut bytes);
    assert_eq!(view::<ModelManifest>(bytes), Ok(&manifest));
    let short = view::<ModelManifest>(&bytes[..511]).unwrap_err();
    assert_eq!(
        short.to_string(),
        "a ModelManifest is 512 bytes, these are 511: pass exactly its bytes"
    );
    bytes[7] = 9;
    let version = view_mut::<ModelManifest>(bytes).unwrap_err();
    assert_eq!(
        version,
        LayoutError::Version {
            name: "ModelManifest",
            expected: 1,
            found: 9
        }
    );
    bytes[0] = 0;
    assert_eq!(
        copy::<ModelManifest>(bytes),
        Err(LayoutError::Kind {
            name: "ModelManifest"
        })
    );

    let mut state = [0u64; 40];
    let state = bytemuck::bytes_of_mut(&mut state);
    let misaligned = view::<SessionState>(&state[1..257]).unwrap_err();
    assert_eq!(
        misaligned,
        LayoutError::Misaligned {
            name: "SessionState",
            align: 8
        }
    );
    assert_eq!(
        copy::<SessionState>(&state[1..257]),
        Ok(SessionState::zeroed())
    );
    let (inputs, rest) = split::<InputBuffer>(state).unwrap();
    assert_eq!((inputs.frame, rest.len()), (0, 288));
    assert!(split::<SessionState>(rest).is_ok());
    assert!(split::<SessionState>(&rest[40..]).is_err());
}
