//! Re-execution of replays: is it true, and what did every frame look like?

use serde::Serialize;
use worldline_abi::{
    HASH_CHECKPOINT_FRAMES, InputBuffer, InputSignature, Pad, PlayerState, SessionState,
    end_reason, seat,
};

use crate::game::Game;
use crate::id::hex;
use crate::recording::Recording;
use crate::sign;
use crate::view::ResultView;
use crate::world::{Scratch, World};
use std::sync::Arc;

/// What re-execution found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether everything that was claimed is true.
    pub valid: bool,
    /// Frames re-executed.
    pub frames: u32,
    /// The first thing that is not true.
    #[serde(flatten)]
    pub finding: Option<Finding>,
    /// The finding, or what was checked, in words.
    pub detail: String,
    /// By seat, the last frame up to which the player signed every input; `None` when nobody did.
    pub signed_to: [Option<u32>; 2],
    /// The last frame's chain hash, hexadecimal.
    pub chain: String,
}

/// The first thing that is not true of a replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "finding", rename_all = "snake_case")]
pub enum Finding {
    /// It was played in another world.
    World,
    /// The match cannot have started like this.
    Start,
    /// This frame does not follow from the one before and its inputs.
    Frame {
        /// The frame.
        first_bad_frame: u32,
    },
    /// This input is none that a match applies.
    Input {
        /// The frame it was applied at.
        first_bad_frame: u32,
        /// Whose.
        seat: u8,
    },
    /// The inputs of these frames are not what the seat's player signed.
    Signature {
        /// Whose.
        seat: u8,
        /// The first frame that may be false: one after the last good signature.
        first_bad_frame: u32,
        /// The frame of the bad signature.
        last_bad_frame: u32,
    },
    /// The frames are true, the result is not.
    Result,
}

impl Finding {
    fn words(&self) -> String {
        match self {
            Self::World => {
                "it was played in another world: give the cartridge whose Merkle root it names"
                    .into()
            }
            Self::Start => "the start state is not one of this world".into(),
            Self::Frame { first_bad_frame } => format!(
                "frame {first_bad_frame} does not follow from the frame before and its inputs"
            ),
            Self::Input {
                first_bad_frame,
                seat,
            } => format!(
                "the input of seat {seat} at frame {first_bad_frame} is out of range or out of order"
            ),
            Self::Signature {
                seat,
                first_bad_frame,
                last_bad_frame,
            } => {
                format!(
                    "the inputs of seat {seat} in frames {first_bad_frame} to {last_bad_frame} are not what its player signed"
                )
            }
            Self::Result => "every frame is true, but the result is not what they lead to".into(),
        }
    }
}

/// Re-executes a replay in its world and checks every claim: start, frames, signatures, result.
pub fn verify(recording: &Recording, world: &Arc<World>) -> Report {
    let mut game = Game::new(
        world.running(),
        recording.session,
        recording.start,
        [None, None],
    );
    let finding = check(recording, world, &mut game).err();
    let signed_to = [0, 1].map(|seat| match finding {
        Some(Finding::Signature {
            seat: bad,
            first_bad_frame,
            ..
        }) if bad == seat => first_bad_frame.checked_sub(1),
        _ => recording
            .signatures
            .iter()
            .filter(|one| one.seat == seat)
            .map(|one| one.frame)
            .max(),
    });
    let detail = finding.map_or_else(|| describe(recording, signed_to), |finding| finding.words());
    Report {
        valid: finding.is_none(),
        frames: game.recording.frames(),
        finding,
        detail,
        signed_to,
        chain: hex(&game.state.chain),
    }
}

fn describe(recording: &Recording, signed_to: [Option<u32>; 2]) -> String {
    let seats = [0, 1].map(|at| match (recording.session.seats[at], signed_to[at]) {
        (seat::HUMAN, Some(frame)) => format!("seat {at} signed its inputs up to frame {frame}"),
        (seat::HUMAN, None) => format!("seat {at} signed nothing"),
        _ => format!("seat {at} is no person"),
    });
    let word = match recording.result.end_reason {
        end_reason::QUIT | end_reason::ABANDONED => "; that a player left is the arena's word",
        _ => "",
    };
    format!(
        "all {} frames follow; {}; {}{word}",
        recording.frames(),
        seats[0],
        seats[1]
    )
}

fn check(recording: &Recording, world: &World, game: &mut Game) -> Result<(), Finding> {
    let session = &recording.session;
    if session.world_root != world.root() {
        return Err(Finding::World);
    }
    let start = world.start(
        session.stage,
        session.characters,
        session.generator,
        session.clock,
    );
    if start != Some(recording.start) {
        return Err(Finding::Start);
    }
    let mut scratch = Scratch::new();
    let mut checkpoints = recording.checkpoints.iter();
    for (inputs, prefix) in recording.inputs.iter().zip(&recording.prefixes) {
        let frame = game.state.frame + 1;
        for (at, slot) in inputs.slots.iter().enumerate() {
            if inputs.frame != frame || !slot.pad.is_valid() {
                return Err(Finding::Input {
                    first_bad_frame: frame,
                    seat: at as u8,
                });
            }
        }
        let bad = Finding::Frame {
            first_bad_frame: frame,
        };
        game.replay(inputs.slots, &mut scratch).map_err(|_| bad)?;
        let whole = frame
            .is_multiple_of(HASH_CHECKPOINT_FRAMES)
            .then(|| checkpoints.next());
        let chain = &game.state.chain;
        if chain[..prefix.len()] != *prefix || whole.is_some_and(|hash| hash != Some(chain)) {
            return Err(bad);
        }
    }
    if let (end_reason::QUIT | end_reason::ABANDONED, false) =
        (recording.result.end_reason, game.is_over())
    {
        game.stop(recording.result.winner, recording.result.end_reason);
    }
    signatures(recording, game)?;
    if game.result() == recording.result {
        Ok(())
    } else {
        Err(Finding::Result)
    }
}

fn signatures(recording: &Recording, game: &Game) -> Result<(), Finding> {
    let mut sorted: Vec<&InputSignature> = recording.signatures.iter().collect();
    sorted.sort_by_key(|one| (one.seat, one.frame));
    let mut good = [recording.start.frame; 2];
    for one in sorted {
        let at = usize::from(one.seat & 1);
        let key = sign::parse_key(&recording.session.session_keys[at]);
        let hash = game.open_mark(at, one.frame);
        let signed = key.zip(hash).is_some_and(|(key, hash)| {
            sign::verify(
                &key,
                &sign::message(game.id(), one.seat, one.frame, &hash),
                &one.signature,
            )
        });
        if !signed {
            return Err(Finding::Signature {
                seat: one.seat,
                first_bad_frame: good[at] + 1,
                last_bad_frame: one.frame,
            });
        }
        good[at] = one.frame;
    }
    Ok(())
}

/// Every state of a replay, re-executed; the first is the start, the last that of the last frame.
/// Ends early at a frame that cannot run.
pub fn states(recording: &Recording, world: &Arc<World>) -> Vec<SessionState> {
    let mut running = world.running();
    let (mut state, mut scratch) = (recording.start, Scratch::new());
    let mut states = vec![state];
    for inputs in &recording.inputs {
        if running.step(&mut state, inputs, &mut scratch).is_err() {
            break;
        }
        states.push(state);
    }
    if let Some(last) = states.last_mut() {
        last.status = worldline_abi::status::ENDED;
        (last.winner, last.end_reason) = (recording.result.winner, recording.result.end_reason);
    }
    states
}

/// A replay as JSON frames, for other viewers: `format` and `version` name the layout.
#[derive(Debug, Serialize)]
pub struct JsonReplay {
    /// Always `worldline-frames`.
    pub format: &'static str,
    /// 1.
    pub version: u32,
    /// The match's id.
    pub session: String,
    /// The world's id.
    pub world: String,
    /// Stage, the game's own number.
    pub stage: u8,
    /// Characters by seat.
    pub characters: [u8; 2],
    /// How it ended.
    pub result: ResultView,
    /// One entry a state; the first is the start.
    pub frames: Vec<JsonFrame>,
}

/// A state in game units.
#[derive(Debug, Serialize)]
pub struct JsonFrame {
    /// Frames executed.
    pub frame: u32,
    /// Frames left.
    pub clock: u32,
    /// By seat.
    pub players: [JsonPlayer; 2],
    /// What was pressed to get here; absent at the start.
    pub inputs: Option<[JsonPad; 2]>,
}

/// A player in game units.
#[derive(Debug, Serialize)]
#[expect(missing_docs, reason = "the fields of abi::PlayerState, in game units")]
pub struct JsonPlayer {
    pub x: f64,
    pub y: f64,
    pub percent: f64,
    pub shield: f64,
    pub speed_air_x: f64,
    pub speed_ground_x: f64,
    pub speed_y: f64,
    pub speed_attack_x: f64,
    pub speed_attack_y: f64,
    pub action_state: u16,
    pub action_frame: u16,
    pub hitlag: u8,
    pub stocks: u8,
    pub facing: i8,
    pub on_ground: bool,
    pub jumps: u8,
    pub character: u8,
}

/// A pad: sticks and triggers −1 to 1 and 0 to 1, the buttons' bits.
#[derive(Debug, Serialize)]
#[expect(missing_docs, reason = "the fields of abi::Pad")]
pub struct JsonPad {
    pub stick: [f64; 2],
    pub cstick: [f64; 2],
    pub triggers: [f64; 2],
    pub buttons: u16,
}

impl From<&PlayerState> for JsonPlayer {
    fn from(player: &PlayerState) -> Self {
        let speed = |raw: i16| f64::from(raw) / f64::from(worldline_abi::SPEED_ONE);
        let unit = |raw: i32| f64::from(raw) / f64::from(worldline_abi::UNIT_ONE);
        Self {
            x: unit(player.x),
            y: unit(player.y),
            percent: f64::from(player.percent) / f64::from(worldline_abi::PERCENT_ONE),
            shield: f64::from(player.shield) / f64::from(worldline_abi::SHIELD_ONE),
            speed_air_x: speed(player.speed_air_x),
            speed_ground_x: speed(player.speed_ground_x),
            speed_y: speed(player.speed_y),
            speed_attack_x: speed(player.speed_attack_x),
            speed_attack_y: speed(player.speed_attack_y),
            action_state: player.action_state,
            action_frame: player.counters[worldline_abi::COUNTER_ACTION],
            hitlag: player.hitlag,
            stocks: player.stocks,
            facing: if player.facing == 0 { -1 } else { 1 },
            on_ground: player.on_ground != 0,
            jumps: player.jumps,
            character: player.character,
        }
    }
}

impl From<&Pad> for JsonPad {
    fn from(pad: &Pad) -> Self {
        let axis = |raw: i16| f64::from(raw) / f64::from(worldline_abi::STICK_UNIT);
        Self {
            stick: pad.stick.map(axis),
            cstick: pad.cstick.map(axis),
            triggers: pad.triggers.map(|raw| f64::from(raw) / 255.0),
            buttons: pad.buttons,
        }
    }
}

/// Re-executes a replay into JSON frames.
pub fn json_frames(recording: &Recording, world: &Arc<World>) -> JsonReplay {
    let session = &recording.session;
    let pads = |inputs: &InputBuffer| inputs.slots.each_ref().map(|slot| JsonPad::from(&slot.pad));
    let inputs =
        std::iter::once(None).chain(recording.inputs.iter().map(|inputs| Some(pads(inputs))));
    let frame = |(state, inputs): (SessionState, Option<[JsonPad; 2]>)| JsonFrame {
        frame: state.frame,
        clock: state.clock,
        players: state.players.each_ref().map(JsonPlayer::from),
        inputs,
    };
    JsonReplay {
        format: "worldline-frames",
        version: 1,
        session: String::from_utf8_lossy(&session.id)
            .trim_end_matches('\0')
            .into(),
        world: world.id().into(),
        stage: session.stage,
        characters: session.characters,
        result: ResultView::new(&recording.result, None),
        frames: states(recording, world)
            .into_iter()
            .zip(inputs)
            .map(frame)
            .collect(),
    }
}

#[cfg(test)]
mod tests;
