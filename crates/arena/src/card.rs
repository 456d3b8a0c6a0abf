//! What the shelf says about a world: from its cartridge, and from the sidecar `NAME.json`.

use serde::Serialize;
use serde_json::Value;

/// A world or policy as the shelf shows it.
#[derive(Clone, Debug, Serialize)]
pub struct WorldCard {
    /// The cartridge's file name without its ending.
    pub id: String,
    /// The name in the manifest.
    pub name: String,
    /// `world` or `policy`.
    pub kind: &'static str,
    /// What its author says.
    pub description: Option<String>,
    /// Trained parameters.
    pub parameters: u64,
    /// Multiplications a frame.
    pub macs: u64,
    /// Mamba2 blocks.
    pub layers: u8,
    /// Width of the residual stream.
    pub d_model: u16,
    /// State size of a head's channel.
    pub d_state: u8,
    /// Bytes of the file.
    pub bytes: u64,
    /// Merkle root, hexadecimal.
    pub root: String,
    /// What it learned from.
    pub training: Training,
    /// Its measured fidelity, as the evaluation wrote it.
    pub fidelity: Option<Value>,
    /// Rules that are not learned.
    pub rules: Vec<RuleView>,
    /// Characters that can be picked.
    pub characters: Vec<Named>,
    /// Stages that can be picked.
    pub stages: Vec<Named>,
}

/// What a world learned from.
#[derive(Clone, Debug, Serialize)]
pub struct Training {
    /// Matches.
    pub matches: u32,
    /// Frames, mirrored copies not counted.
    pub frames: u64,
    /// Licences of the matches.
    pub licences: Value,
}

/// A rule that is not learned.
#[derive(Clone, Debug, Serialize)]
pub struct RuleView {
    /// Its name.
    pub name: String,
    /// Why it is a rule.
    pub why: String,
}

/// A character or stage.
#[derive(Clone, Debug, Serialize)]
pub struct Named {
    /// The game's own number.
    pub id: u8,
    /// Its name, or its number when nobody named it.
    pub name: String,
}

/// The parts of a sidecar that the shelf uses. Its author may write more.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sidecar(pub(crate) Value);

impl Sidecar {
    pub(crate) fn description(&self) -> Option<String> {
        Some(self.0.get("description")?.as_str()?.to_owned())
    }

    pub(crate) fn licences(&self) -> Value {
        let direct = self
            .0
            .get("licences")
            .or_else(|| self.0.pointer("/training/licences"));
        direct.cloned().unwrap_or_default()
    }

    pub(crate) fn fidelity(&self) -> Option<Value> {
        self.0.get("fidelity").cloned()
    }

    /// The name of `id` in `what` (`characters` or `stages`).
    pub(crate) fn name(&self, what: &str, id: u8) -> Option<String> {
        Some(self.0.get(what)?.get(id.to_string())?.as_str()?.to_owned())
    }
}
