//! Controllers: 12 bytes a player and frame.

use crate::layout::layout;
use bytemuck::{Pod, Zeroable};

/// A stick at its full deflection, in the units of [`Pad::stick`].
pub const STICK_UNIT: i16 = 32_000;
/// One step of Melee's stick grid, 1/80 of the full deflection.
pub const MELEE_STICK_STEP: i16 = STICK_UNIT / 80;

/// The bits of [`Pad::buttons`] (those of a GameCube controller).
pub mod button {
    /// D-pad left.
    pub const DPAD_LEFT: u16 = 0x0001;
    /// D-pad right.
    pub const DPAD_RIGHT: u16 = 0x0002;
    /// D-pad down.
    pub const DPAD_DOWN: u16 = 0x0004;
    /// D-pad up.
    pub const DPAD_UP: u16 = 0x0008;
    /// Z.
    pub const Z: u16 = 0x0010;
    /// R pressed to its click.
    pub const R: u16 = 0x0020;
    /// L pressed to its click.
    pub const L: u16 = 0x0040;
    /// A.
    pub const A: u16 = 0x0100;
    /// B.
    pub const B: u16 = 0x0200;
    /// X.
    pub const X: u16 = 0x0400;
    /// Y.
    pub const Y: u16 = 0x0800;
    /// Start.
    pub const START: u16 = 0x1000;
    /// Every bit that has a meaning; the others are zero in a valid pad.
    pub const ALL: u16 = 0x1f7f;
}

/// One controller in one frame.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Pad {
    /// Main stick, x right and y up, ±[`STICK_UNIT`].
    pub stick: [i16; 2],
    /// C-stick, likewise.
    pub cstick: [i16; 2],
    /// Analog triggers left and right, 0..=255.
    pub triggers: [u8; 2],
    /// Bits of [`button`].
    pub buttons: u16,
}
layout!(Pad, 12, None, { stick @ 0, cstick @ 4, triggers @ 8, buttons @ 10 });

impl Pad {
    /// Whether every axis is within ±[`STICK_UNIT`] and no unknown button is set.
    pub fn is_valid(&self) -> bool {
        let within = |axis: &i16| axis.unsigned_abs() <= STICK_UNIT as u16;
        self.stick.iter().chain(&self.cstick).all(within) && self.buttons & !button::ALL == 0
    }
}

/// A seat's latest pad and how many its owner has sent (wrapping).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct PadSlot {
    /// The controller.
    pub pad: Pad,
    /// The owner's running count of pads, wrapping at 65,536.
    pub sequence: u16,
}
layout!(PadSlot, 14, None, { pad @ 0, sequence @ 12 });

/// Both seats' pads for one frame.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct InputBuffer {
    /// By seat.
    pub slots: [PadSlot; 2],
    /// The frame these inputs produce.
    pub frame: u32,
}
layout!(InputBuffer, 32, None, { slots @ 0, frame @ 28 });
