//! One replay's bytes to one match. `slpz` and `peppi` index without checks, so both run
//! under [`quietly`]: whatever a corrupt file does to them comes back as a [`ReplayError`].

use std::{
    cell::Cell,
    collections::BTreeMap,
    fmt,
    io::Cursor,
    panic::{self, AssertUnwindSafe},
    sync::Once,
};

use peppi::{
    frame::immutable::{Data, Frame},
    game::{ICE_CLIMBERS, PlayerType, Start, immutable::Game},
    io::slippi,
};
use serde::{Deserialize, Serialize};

use worldline_abi::{
    MELEE_STICK_STEP, PERCENT_ONE, Pad, SHIELD_ONE, SPEED_ONE, STICK_UNIT, UNIT_ONE, button,
};

use super::frame::{PlayerCore, PlayerFrame};

/// Frame id on which players may first move; the countdown before it is dropped.
pub const FIRST_FRAME: i32 = -39;
/// A match with fewer kept frames teaches nothing (five seconds).
pub const MIN_FRAMES: usize = 300;
/// Largest `.slp`, or unpacked `.slpz`, that is read (hours of play).
pub const MAX_REPLAY_BYTES: usize = 128 << 20;
/// Largest `.slpz` that is unpacked.
pub const MAX_ARCHIVE_BYTES: usize = 16 << 20;
/// How far from the centre a body may be, in game units.
const MAX_DISTANCE: f32 = 10_000.0;
/// Offset of the 32-bit length of a `.slp`'s event stream, which starts right after it.
const RAW_LENGTH_AT: usize = slippi::FILE_SIGNATURE.len();
const RAW_AT: usize = RAW_LENGTH_AT + 4;
/// A stick's positions from centre to rim.
const STICK_STEPS: f32 = (STICK_UNIT / MELEE_STICK_STEP) as f32;
/// External character ids.
const ZELDA: u8 = 18;
const SHEIK: u8 = 19;

/// Why a replay was left out.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    thiserror::Error,
)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The file could not be read from disk.
    #[error("cannot read the file")]
    Unreadable,
    /// Larger than the named limits.
    #[error("larger than a replay may be")]
    TooLarge,
    /// Not Slippi's header, or a recording that never ended.
    #[error("not a finished Slippi replay")]
    NotAReplay,
    /// The `.slpz` does not unpack.
    #[error("the archive is corrupt")]
    CorruptArchive,
    /// The events do not parse, or do not agree with each other.
    #[error("the replay is corrupt")]
    CorruptReplay,
    /// A frame id is missing between two others.
    #[error("frames are missing")]
    MissingFrames,
    /// A value is not a number or lies absurdly far out.
    #[error("a value is out of range")]
    OutOfRange,
    /// Recorded before Slippi 3.8, which brought hitlag.
    #[error("recorded before Slippi 3.8")]
    OldVersion,
    /// Teams, or not exactly two players.
    #[error("not one against one")]
    NotTwoPlayers,
    /// A CPU plays.
    #[error("a player is not human")]
    NotHuman,
    /// Ice Climbers: two bodies on one controller do not fit one player slot.
    #[error("a player has two bodies")]
    TwoBodies,
    /// Fewer than [`MIN_FRAMES`] frames of play.
    #[error("shorter than five seconds")]
    TooShort,
    /// The licence is not among those asked for.
    #[error("licence not among those asked for")]
    Licence,
}

/// Reading a replay failed: the reason it is counted under, and what exactly was found.
#[derive(Debug, thiserror::Error)]
pub struct ReplayError {
    /// The reason the file is counted under.
    pub reason: Reason,
    /// What was found, for a person.
    pub detail: String,
}

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.detail.as_str() {
            "" => write!(f, "{}", self.reason),
            detail => write!(f, "{}: {detail}", self.reason),
        }
    }
}

impl From<Reason> for ReplayError {
    fn from(reason: Reason) -> Self {
        Self {
            reason,
            detail: String::new(),
        }
    }
}

impl Reason {
    pub(super) fn because(self, detail: impl fmt::Display) -> ReplayError {
        ReplayError {
            reason: self,
            detail: detail.to_string(),
        }
    }
}

/// What a replay holds, before a name and a licence make it a [`Match`](super::Match).
#[derive(Clone, Debug, PartialEq)]
pub struct Replay {
    /// Slippi stage id.
    pub stage: u8,
    /// External character ids, lower port first.
    pub characters: [u8; 2],
    /// Frames from [`FIRST_FRAME`] on.
    pub frames: Vec<[PlayerFrame; 2]>,
}

/// Reads a `.slp` or `.slpz` from memory, telling them apart by their first bytes.
///
/// # Errors
/// Any [`Reason`] but `Unreadable` and `Licence`. Never panics, whatever the bytes.
pub fn read_replay(bytes: &[u8]) -> Result<Replay, ReplayError> {
    let slp = if bytes.starts_with(&slippi::FILE_SIGNATURE) {
        without_metadata(bytes)?
    } else {
        without_metadata(&unpack(bytes)?)?
    };
    let game = quietly(|| slippi::read(Cursor::new(&slp), None))
        .map_err(|panic| Reason::CorruptReplay.because(panic))?
        .map_err(|error| Reason::CorruptReplay.because(error))?;
    convert(&game)
}

/// `.slpz` to `.slp`, after checking the two sizes that the library would allocate blindly.
fn unpack(bytes: &[u8]) -> Result<Vec<u8>, ReplayError> {
    let header: &[u8; 24] = bytes.first_chunk().ok_or(Reason::NotAReplay)?;
    if header[..4] != slpz::VERSION.to_be_bytes() {
        return Err(Reason::NotAReplay.into());
    }
    let unpacked = u32::from_be_bytes([header[20], header[21], header[22], header[23]]) as usize;
    if bytes.len() > MAX_ARCHIVE_BYTES || unpacked > MAX_REPLAY_BYTES {
        return Err(Reason::TooLarge.into());
    }
    let mut unpacker = slpz::Decompressor::new()
        .ok_or_else(|| Reason::CorruptArchive.because("zstd could not start"))?;
    quietly(|| slpz::decompress(&mut unpacker, bytes))
        .map_err(|panic| Reason::CorruptArchive.because(panic))?
        .map_err(|error| Reason::CorruptArchive.because(error))
}

/// The events alone: the metadata after them holds nothing we use, is parsed recursively and
/// could overflow the stack.
fn without_metadata(slp: &[u8]) -> Result<Vec<u8>, ReplayError> {
    if slp.len() > MAX_REPLAY_BYTES {
        return Err(Reason::TooLarge.into());
    }
    let length = slp.get(RAW_LENGTH_AT..RAW_AT).ok_or(Reason::NotAReplay)?;
    let length = length
        .iter()
        .fold(0, |sum, &byte| sum << 8 | usize::from(byte));
    if length == 0 {
        return Err(Reason::NotAReplay.because("the recording never ended"));
    }
    let events = slp
        .get(..RAW_AT + length)
        .ok_or_else(|| Reason::CorruptReplay.because("shorter than its header says"))?;
    Ok([events, b"}"].concat())
}

fn convert(game: &Game) -> Result<Replay, ReplayError> {
    let (stage, characters) = check_start(&game.start)?;
    let rows = last_rows(&game.frames)?;
    let [first, second] = &game.frames.ports[..] else {
        return Err(Reason::CorruptReplay.because("not two columns of frames"));
    };
    let seats = [
        Columns::new(&first.leader, &game.frames)?,
        Columns::new(&second.leader, &game.frames)?,
    ];

    let mut since = [Since::default(); 2];
    let mut frames = Vec::with_capacity(rows.len());
    for (id, row) in rows {
        let mut pair = [PlayerFrame::default(); 2];
        for seat in 0..2 {
            let frame = &mut pair[seat];
            frame.core = seats[seat].core(row, characters[seat])?;
            frame.pad = seats[seat].pad(row)?;
            frame.since = since[seat].count(frame.core.action_state);
        }
        if id >= FIRST_FRAME {
            frames.push(pair);
        }
    }
    if frames.len() < MIN_FRAMES {
        return Err(Reason::TooShort.because(format_args!("{} frames", frames.len())));
    }
    Ok(Replay {
        stage,
        characters,
        frames,
    })
}

/// The rules of the game must be the ones learned: two humans, one body each, new enough.
fn check_start(start: &Start) -> Result<(u8, [u8; 2]), ReplayError> {
    let version = start.slippi.version;
    if version.lt(3, 8) {
        return Err(Reason::OldVersion.because(version));
    }
    let [first, second] = &start.players[..] else {
        return Err(Reason::NotTwoPlayers.because(format_args!("{} players", start.players.len())));
    };
    if start.is_teams {
        return Err(Reason::NotTwoPlayers.because("teams"));
    }
    let players = [first, second];
    if players
        .iter()
        .any(|player| player.r#type != PlayerType::Human)
    {
        return Err(Reason::NotHuman.into());
    }
    if players
        .iter()
        .any(|player| player.character == ICE_CLIMBERS)
    {
        return Err(Reason::TwoBodies.into());
    }
    let stage = u8::try_from(start.stage)
        .map_err(|_| Reason::OutOfRange.because(format_args!("stage {}", start.stage)))?;
    Ok((stage, players.map(|player| player.character)))
}

/// Rollbacks write a frame id again; the last row of each id is what happened. Ids in order
/// without a gap.
fn last_rows(frames: &Frame) -> Result<BTreeMap<i32, usize>, ReplayError> {
    let rows: BTreeMap<i32, usize> = frames
        .id
        .values()
        .iter()
        .enumerate()
        .map(|(row, &id)| (id, row))
        .collect();
    let (Some((&first, _)), Some((&last, _))) = (rows.first_key_value(), rows.last_key_value())
    else {
        return Err(Reason::TooShort.because("no frame at all"));
    };
    if first > FIRST_FRAME || i64::from(last) - i64::from(first) + 1 != rows.len() as i64 {
        let detail = format_args!("{} ids from {first} to {last}", rows.len());
        return Err(Reason::MissingFrames.because(detail));
    }
    Ok(rows)
}

/// Frames since the action state changed.
#[derive(Clone, Copy, Default)]
struct Since {
    action: Option<u16>,
    frames: u16,
}

impl Since {
    fn count(&mut self, action: u16) -> u16 {
        self.frames = if self.action == Some(action) {
            self.frames.saturating_add(1)
        } else {
            0
        };
        self.action = Some(action);
        self.frames
    }
}

/// One seat's columns, as plain slices of equal length.
struct Columns<'a> {
    character: &'a [u8],
    action: &'a [u16],
    x: &'a [f32],
    y: &'a [f32],
    direction: &'a [f32],
    percent: &'a [f32],
    shield: &'a [f32],
    stocks: &'a [u8],
    airborne: &'a [u8],
    jumps: &'a [u8],
    hitlag: &'a [f32],
    /// air x, y, attack x, attack y, ground x.
    speeds: [&'a [f32]; 5],
    /// stick x, y, c-stick x, y.
    sticks: [&'a [f32]; 4],
    triggers: [&'a [f32]; 2],
    buttons: &'a [u16],
}

impl<'a> Columns<'a> {
    fn new(data: &'a Data, frames: &Frame) -> Result<Self, ReplayError> {
        let (pre, post) = (&data.pre, &data.post);
        let missing = || Reason::CorruptReplay.because("a column is missing");
        let speeds = post.velocities.as_ref().ok_or_else(missing)?;
        let columns = Self {
            character: post.character.values(),
            action: post.state.values(),
            x: post.position.x.values(),
            y: post.position.y.values(),
            direction: post.direction.values(),
            percent: post.percent.values(),
            shield: post.shield.values(),
            stocks: post.stocks.values(),
            airborne: post.airborne.as_ref().ok_or_else(missing)?.values(),
            jumps: post.jumps.as_ref().ok_or_else(missing)?.values(),
            hitlag: post.hitlag.as_ref().ok_or_else(missing)?.values(),
            speeds: [
                speeds.self_x_air.values(),
                speeds.self_y.values(),
                speeds.knockback_x.values(),
                speeds.knockback_y.values(),
                speeds.self_x_ground.values(),
            ],
            sticks: [
                pre.joystick.x.values(),
                pre.joystick.y.values(),
                pre.cstick.x.values(),
                pre.cstick.y.values(),
            ],
            triggers: [
                pre.triggers_physical.l.values(),
                pre.triggers_physical.r.values(),
            ],
            buttons: pre.buttons_physical.values(),
        };
        let rows = frames.id.len();
        let all_present = data
            .validity
            .as_ref()
            .is_none_or(|valid| valid.unset_bits() == 0);
        if !all_present || columns.action.len() != rows || columns.buttons.len() != rows {
            return Err(Reason::CorruptReplay.because("a player is missing on some frames"));
        }
        Ok(columns)
    }

    fn core(&self, row: usize, character: u8) -> Result<PlayerCore, ReplayError> {
        let speed = |i: usize| -> Result<i16, ReplayError> {
            Ok(fixed(self.speeds[i][row], f32::from(SPEED_ONE))? as i16)
        };
        Ok(PlayerCore {
            x: position(self.x[row])?,
            y: position(self.y[row])?,
            percent: fixed(self.percent[row], f32::from(PERCENT_ONE))? as u16,
            speed_air_x: speed(0)?,
            speed_y: speed(1)?,
            speed_attack_x: speed(2)?,
            speed_attack_y: speed(3)?,
            speed_ground_x: speed(4)?,
            shield: fixed(self.shield[row], f32::from(SHIELD_ONE))? as u16,
            action_state: self.action[row],
            hitlag: fixed(self.hitlag[row], 1.0)? as u8,
            stocks: self.stocks[row],
            facing: u8::from(self.direction[row] > 0.0),
            on_ground: u8::from(self.airborne[row] == 0),
            jumps: self.jumps[row],
            character: transformed(character, self.character[row]),
            reserved: 0,
        })
    }

    fn pad(&self, row: usize) -> Result<Pad, ReplayError> {
        let axis = |i: usize| -> Result<i16, ReplayError> {
            let steps = fixed(self.sticks[i][row], STICK_STEPS)?;
            Ok(steps.clamp(-STICK_STEPS, STICK_STEPS) as i16 * MELEE_STICK_STEP)
        };
        let trigger = |i: usize| -> Result<u8, ReplayError> {
            Ok(fixed(self.triggers[i][row], 255.0)? as u8)
        };
        Ok(Pad {
            stick: [axis(0)?, axis(1)?],
            cstick: [axis(2)?, axis(3)?],
            triggers: [trigger(0)?, trigger(1)?],
            buttons: self.buttons[row] & button::ALL,
        })
    }
}

fn position(value: f32) -> Result<i32, ReplayError> {
    if value.abs() > MAX_DISTANCE {
        return Err(Reason::OutOfRange.because(format_args!("position {value}")));
    }
    Ok(fixed(value, UNIT_ONE as f32)? as i32)
}

/// The nearest multiple of `1 / scale`, as that multiple. Casting the answer to an integer
/// saturates.
fn fixed(value: f32, scale: f32) -> Result<f32, ReplayError> {
    if value.is_finite() {
        Ok((value * scale).round())
    } else {
        Err(Reason::OutOfRange.because("a field is not a number"))
    }
}

/// The external id of the body in play: only Zelda and Sheik change it during a match.
fn transformed(selected: u8, internal: u8) -> u8 {
    match internal {
        7 => SHEIK,
        19 => ZELDA,
        _ => selected,
    }
}

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Runs `parse`; a panic in it becomes its message and prints nothing.
fn quietly<T>(parse: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let loud = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                loud(info);
            }
        }));
    });
    QUIET.set(true);
    let result = panic::catch_unwind(AssertUnwindSafe(parse));
    QUIET.set(false);
    result.map_err(|payload| {
        let text = payload.downcast_ref::<String>().map(String::as_str);
        text.or(payload.downcast_ref::<&str>().copied())
            .unwrap_or("a panic")
            .to_owned()
    })
}
