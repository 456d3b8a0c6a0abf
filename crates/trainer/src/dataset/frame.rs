use bytemuck::{Pod, Zeroable};
use worldline_abi::{COUNTER_ACTION, Pad, PlayerState};

/// The learned fields of one player after a frame: the first 32 bytes of the ABI's
/// `PlayerState`, field for field.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct PlayerCore {
    /// Position, 1/4096 game unit, right is positive.
    pub x: i32,
    /// Position, 1/4096 game unit, up is positive.
    pub y: i32,
    /// Damage, 1/64 percent.
    pub percent: u16,
    /// Own horizontal speed in the air, 1/1024 unit a frame (as all speeds).
    pub speed_air_x: i16,
    /// Own vertical speed.
    pub speed_y: i16,
    /// Horizontal knockback speed.
    pub speed_attack_x: i16,
    /// Vertical knockback speed.
    pub speed_attack_y: i16,
    /// Own horizontal speed on the ground.
    pub speed_ground_x: i16,
    /// Shield health, 1/256 (60 when whole).
    pub shield: u16,
    /// Melee's action state id.
    pub action_state: u16,
    /// Hitlag frames left.
    pub hitlag: u8,
    /// Stocks left.
    pub stocks: u8,
    /// 1 facing right, 0 left.
    pub facing: u8,
    /// 1 on the ground, 0 in the air.
    pub on_ground: u8,
    /// Jumps left.
    pub jumps: u8,
    /// External (character select) id.
    pub character: u8,
    /// Zero.
    pub reserved: u16,
}

/// One player's frame: the state it ended in and the pad that produced it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct PlayerFrame {
    /// The state after this frame.
    pub core: PlayerCore,
    /// Frames since `core.action_state` changed (0 on the frame of the change), saturating.
    pub since: u16,
    /// The controller this frame was computed with.
    pub pad: Pad,
    /// Zero.
    pub spare: u16,
}

impl PlayerFrame {
    /// The state as a running match holds it.
    pub fn state(&self) -> PlayerState {
        let mut state = PlayerState::default();
        let core = bytemuck::bytes_of(&self.core);
        bytemuck::bytes_of_mut(&mut state)[..core.len()].copy_from_slice(core);
        state.counters[COUNTER_ACTION] = self.since;
        state
    }
}

const _: () = {
    assert!(size_of::<PlayerCore>() == 32);
    assert!(size_of::<PlayerFrame>() == 48);
};

/// One match, from the frame on which players may move to its end.
#[derive(Clone, Debug, PartialEq)]
pub struct Match {
    /// The replay's file name.
    pub id: String,
    /// Licence of the replay's source, empty if nothing says.
    pub licence: String,
    /// Slippi stage id.
    pub stage: u8,
    /// External character ids, by seat (lower port first).
    pub characters: [u8; 2],
    /// Frames in order without a gap, both seats.
    pub frames: Vec<[PlayerFrame; 2]>,
}
