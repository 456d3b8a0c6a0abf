use worldline_abi::UNIT_ONE;

/// Where a stage ends, in game units.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stage {
    /// Left, right and lower blast zone; who is beyond one loses a stock. (The upper one takes only
    /// those who are launched.)
    left: f64,
    right: f64,
    bottom: f64,
    /// Half the width of the solid ground, whose top lies at 0.
    ground: f64,
}

impl Stage {
    /// The six stages of tournament play by Slippi's id.
    pub(super) fn of(id: u8) -> Option<Self> {
        let (left, right, bottom, ground) = match id {
            2 => (-198.75, 198.75, -146.25, 63.35),
            3 => (-230.0, 230.0, -111.0, 87.75),
            8 => (-175.7, 173.6, -91.0, 56.0),
            28 => (-255.0, 255.0, -123.0, 77.27),
            31 => (-224.0, 224.0, -108.8, 68.4),
            32 => (-246.0, 246.0, -140.0, 85.57),
            _ => return None,
        };
        Some(Self {
            left,
            right,
            bottom,
            ground,
        })
    }

    /// How far beyond the blast zone, 0 inside.
    pub(super) fn beyond(&self, x: i32, y: i32) -> f64 {
        let [x, y] = [x, y].map(units);
        (self.left - x)
            .max(x - self.right)
            .max(self.bottom - y)
            .max(0.0)
    }

    /// Whether the place is above or inside the ground, `margin` units from its edges.
    pub(super) fn over_ground(&self, x: i32, margin: f64) -> bool {
        units(x).abs() < self.ground - margin
    }
}

pub(super) fn units(raw: i32) -> f64 {
    f64::from(raw) / f64::from(UNIT_ONE)
}
