//! The state of a match: 256 bytes, everything a frame needs beside the hidden state.

use crate::layout::layout;
use bytemuck::{Pod, Zeroable};

/// The value of [`SessionState::version`] that this build reads and writes.
pub const STATE_VERSION: u8 = 1;
/// Players of a match.
pub const PLAYERS: usize = 2;
/// Counters of a player slot.
pub const COUNTERS: usize = 8;
/// The counter of frames since `action_state` changed.
pub const COUNTER_ACTION: usize = 0;
/// One game unit in [`PlayerState::x`] and `y`.
pub const UNIT_ONE: i32 = 1 << 12;
/// One percent in [`PlayerState::percent`].
pub const PERCENT_ONE: u16 = 1 << 6;
/// One game unit a frame in the speeds.
pub const SPEED_ONE: i16 = 1 << 10;
/// One point of shield in [`PlayerState::shield`].
pub const SHIELD_ONE: u16 = 1 << 8;
/// How many leading bytes of a state enter its chain hash (all but the hash).
pub const CHAINED_BYTES: usize = 224;

/// The values of [`SessionState::status`].
pub mod status {
    /// A seat is free.
    pub const OPEN: u8 = 0;
    /// Both seats are taken, characters are being picked.
    pub const PICKING: u8 = 1;
    /// Characters are picked, the match may begin.
    pub const READY: u8 = 2;
    /// Frames are running.
    pub const ACTIVE: u8 = 3;
    /// The match is over; nothing changes any more.
    pub const ENDED: u8 = 4;
}

/// The values of [`SessionState::winner`] that are not a seat.
pub mod winner {
    /// Nobody won: equal stocks and percent at the end.
    pub const DRAW: u8 = 2;
    /// Not decided.
    pub const NONE: u8 = 0xff;
}

/// The values of [`SessionState::end_reason`].
pub mod end_reason {
    /// The match has not ended.
    pub const NONE: u8 = 0;
    /// A player lost the last stock.
    pub const STOCKS: u8 = 1;
    /// The clock ran out.
    pub const TIME: u8 = 2;
    /// A player quit.
    pub const QUIT: u8 = 3;
    /// A player was gone for longer than the grace.
    pub const ABANDONED: u8 = 4;
}

/// One player in one frame. The schema says what a learned world reads and writes here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct PlayerState {
    /// Position, right, 1/4096 unit.
    pub x: i32,
    /// Position, up, 1/4096 unit.
    pub y: i32,
    /// Damage, 1/64 percent.
    pub percent: u16,
    /// Own horizontal speed in the air, 1/1024 unit a frame.
    pub speed_air_x: i16,
    /// Own vertical speed, 1/1024 unit a frame.
    pub speed_y: i16,
    /// Horizontal knockback speed, 1/1024 unit a frame.
    pub speed_attack_x: i16,
    /// Vertical knockback speed, 1/1024 unit a frame.
    pub speed_attack_y: i16,
    /// Own horizontal speed on the ground, 1/1024 unit a frame.
    pub speed_ground_x: i16,
    /// Shield strength, 1/256 point.
    pub shield: u16,
    /// Animation and behaviour, the game's own number.
    pub action_state: u16,
    /// Frames of freeze left after a hit.
    pub hitlag: u8,
    /// Lives left.
    pub stocks: u8,
    /// 0 left, 1 right.
    pub facing: u8,
    /// 0 in the air, 1 on the ground.
    pub on_ground: u8,
    /// Jumps left.
    pub jumps: u8,
    /// Character, the select screen's number.
    pub character: u8,
    /// Zero.
    pub reserved: u16,
    /// Exact counters; see [`COUNTER_ACTION`]. Saturating.
    pub counters: [u16; COUNTERS],
    /// Fields of other schemas; zero when unused.
    pub room: [u8; 48],
}
layout!(PlayerState, 96, None, {
    x @ 0, y @ 4, percent @ 8, speed_air_x @ 10, speed_y @ 12, speed_attack_x @ 14,
    speed_attack_y @ 16, speed_ground_x @ 18, shield @ 20, action_state @ 22, hitlag @ 24,
    stocks @ 25, facing @ 26, on_ground @ 27, jumps @ 28, character @ 29, reserved @ 30,
    counters @ 32, room @ 48,
});

impl Default for PlayerState {
    /// All zeros.
    fn default() -> Self {
        Self::zeroed()
    }
}

/// A match in one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct SessionState {
    /// [`STATE_VERSION`].
    pub version: u8,
    /// One of [`status`].
    pub status: u8,
    /// Stage, the game's own number.
    pub stage: u8,
    /// A seat, or one of [`winner`].
    pub winner: u8,
    /// Frames executed.
    pub frame: u32,
    /// Frames left until time is up.
    pub clock: u32,
    /// One of [`end_reason`].
    pub end_reason: u8,
    /// Zero.
    pub padding: [u8; 3],
    /// State of the integer generator that decoding may draw from.
    pub generator: u64,
    /// The schema that gives the player slots their meaning.
    pub schema_id: u32,
    /// How many times a rule that is not learned changed a value.
    pub rule_hits: u32,
    /// By seat.
    pub players: [PlayerState; PLAYERS],
    /// SHA-256 over the last chain hash, the inputs, and this state's first
    /// [`CHAINED_BYTES`] bytes.
    pub chain: [u8; 32],
}
layout!(SessionState, 256, None, {
    version @ 0, status @ 1, stage @ 2, winner @ 3, frame @ 4, clock @ 8, end_reason @ 12,
    padding @ 13, generator @ 16, schema_id @ 24, rule_hits @ 28, players @ 32, chain @ 224,
});

impl Default for SessionState {
    /// An open match: nobody seated, nothing decided.
    fn default() -> Self {
        Self {
            version: STATE_VERSION,
            winner: winner::NONE,
            ..Self::zeroed()
        }
    }
}

impl SessionState {
    /// The bytes that the chain hash covers.
    pub fn chained(&self) -> &[u8] {
        &bytemuck::bytes_of(self)[..CHAINED_BYTES]
    }
}
