//! The engine of learned worlds as Python's module `worldline._native`.
//!
//! It holds a cartridge and matches of it, and moves them by `cartridge::step`: the same bytes as
//! everywhere else. States, inputs and hidden states cross the border as bytes; `worldline/world.py`
//! gives them their names as NumPy arrays, from the layouts that [`layout`] tells. This crate must never
//! know a game, a server or a clock.

use std::path::PathBuf;
use std::sync::Arc;

use bytemuck::{Pod, Zeroable};
use pyo3::create_exception;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use worldline_abi::{
    InputBuffer, KIND_POLICY, KIND_WORLD, Layout, LayoutField, PAGE_DATA, PERCENT_ONE, PLAYERS,
    Pad, PadSlot, Page, PlayerState, STICK_UNIT, SessionState, UNIT_ONE, button, status,
};
use worldline_cartridge::{
    Actor, Cartridge as File, Lane, OpenError, Scratch, StepError, act, format::Start, step,
    step_batch,
};
use worldline_mamba2::Native;

/// Branches of one roll-out, at most.
const MAX_BRANCHES: usize = 1024;
/// The buttons of a pad by name.
const BUTTONS: [(&str, u16); 12] = [
    ("DPAD_LEFT", button::DPAD_LEFT),
    ("DPAD_RIGHT", button::DPAD_RIGHT),
    ("DPAD_DOWN", button::DPAD_DOWN),
    ("DPAD_UP", button::DPAD_UP),
    ("Z", button::Z),
    ("R", button::R),
    ("L", button::L),
    ("A", button::A),
    ("B", button::B),
    ("X", button::X),
    ("Y", button::Y),
    ("START", button::START),
];
/// The vocabulary of characters in a schema.
const CHARACTERS: &str = "character";

create_exception!(
    worldline._native,
    CartridgeError,
    PyValueError,
    "A file is no cartridge, or a damaged one."
);
create_exception!(
    worldline._native,
    StartError,
    PyValueError,
    "A world cannot start like this."
);
create_exception!(
    worldline._native,
    InputsError,
    PyValueError,
    "Inputs of the wrong size or value."
);
create_exception!(
    worldline._native,
    FrameError,
    PyRuntimeError,
    "A frame cannot be executed: the match is over, or the inputs are another frame's."
);

fn unreadable(error: OpenError) -> PyErr {
    match error {
        // Python's own words for files that are missing or forbidden.
        OpenError::Io { source, path } => {
            let kind = source.raw_os_error();
            match kind {
                Some(code) => {
                    pyo3::exceptions::PyOSError::new_err((code, source.to_string(), path))
                }
                None => source.into(),
            }
        }
        error => CartridgeError::new_err(error.to_string()),
    }
}

fn refused(error: StepError) -> PyErr {
    FrameError::new_err(error.to_string())
}

/// An opened and checked cartridge.
#[pyclass(frozen, module = "worldline._native")]
struct Cartridge {
    file: Arc<File>,
}

#[pymethods]
impl Cartridge {
    /// Opens a file and checks all of it.
    #[staticmethod]
    fn open(path: PathBuf) -> PyResult<Self> {
        let file = Arc::new(File::open(path).map_err(unreadable)?);
        Ok(Self { file })
    }

    /// The name in its manifest.
    #[getter]
    fn name(&self) -> &str {
        self.file.manifest().name()
    }

    /// Its Merkle root: its identity.
    #[getter]
    fn root(&self) -> String {
        self.file.root()
    }

    /// Its schema, as JSON.
    #[getter]
    fn schema(&self) -> PyResult<String> {
        let model = self.file.model();
        let json = model
            .schema_json()
            .map_err(|error| CartridgeError::new_err(error.to_string()))?;
        Ok(String::from_utf8_lossy(json).into_owned())
    }

    /// The stages that a match can start on, and the characters of each.
    #[getter]
    fn starts(&self) -> Vec<(u8, Vec<u8>)> {
        let model = self.file.model();
        let mut stages: Vec<u8> = model.starts().iter().map(|start| start.stage).collect();
        stages.sort_unstable();
        stages.dedup();
        let of = |stage| (stage, self.characters(stage));
        stages.into_iter().map(of).collect()
    }

    /// A match before its first frame.
    fn start(&self, stage: u8, characters: [u8; 2], generator: u64) -> PyResult<Match> {
        let model = self.file.model();
        if model.plan().header.kind != KIND_WORLD {
            let why = format!("{} is a player, not a world: load a world", self.name());
            return Err(StartError::new_err(why));
        }
        let start = model
            .start(stage, characters)
            .map_err(|error| StartError::new_err(error.to_string()))?;
        let state = SessionState { generator, ..start };
        Ok(Match::new(&self.file, state, model.hidden().fresh()))
    }

    /// A learned player for a seat.
    fn player(&self, seat: usize, generator: u64) -> PyResult<Player> {
        let model = self.file.model();
        if model.plan().header.kind != KIND_POLICY || seat >= PLAYERS {
            let why = format!(
                "{} is no player for seat {seat}: load a policy, for seat 0 or 1",
                self.name()
            );
            return Err(StartError::new_err(why));
        }
        Ok(Player {
            file: Arc::clone(&self.file),
            kernels: Native::detect(),
            actor: Actor { seat, generator },
            pages: model.hidden().fresh(),
            scratch: Scratch::boxed(),
        })
    }
}

impl Cartridge {
    fn characters(&self, stage: u8) -> Vec<u8> {
        let model = self.file.model();
        let here = model.starts().iter().filter(|start| start.stage == stage);
        let mut characters: Vec<u8> = here.flat_map(|start| start.characters).collect();
        if characters.contains(&Start::ANY) {
            let known = self.file.schema().vocabulary(CHARACTERS);
            let values = known.into_iter().flat_map(|found| &found.values);
            characters = values
                .filter_map(|value| u8::try_from(*value).ok())
                .collect();
        }
        characters.sort_unstable();
        characters.dedup();
        characters
    }
}

/// A running match: state and hidden state.
#[pyclass(module = "worldline._native")]
struct Match {
    file: Arc<File>,
    kernels: Native,
    state: SessionState,
    pages: Vec<Page>,
    /// The inputs that led here: what a player has seen last.
    last: InputBuffer,
    scratch: Box<Scratch>,
}

impl Match {
    fn new(file: &Arc<File>, state: SessionState, pages: Vec<Page>) -> Self {
        Self {
            file: Arc::clone(file),
            kernels: Native::detect(),
            state,
            pages,
            last: InputBuffer::default(),
            scratch: Scratch::boxed(),
        }
    }

    fn one(&mut self, inputs: &InputBuffer) -> Result<(), StepError> {
        let mut hidden: Vec<&mut Page> = self.pages.iter_mut().collect();
        let (model, state, scratch) = (self.file.model(), &mut self.state, &mut self.scratch);
        step(&model, state, &mut hidden, inputs, scratch, &self.kernels)?;
        self.last = *inputs;
        Ok(())
    }
}

#[pymethods]
impl Match {
    /// The state, as its 256 bytes.
    #[getter]
    fn state<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, bytemuck::bytes_of(&self.state))
    }

    /// The hidden state: the pages' data, one after the other.
    #[getter]
    fn hidden<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        let data: Vec<u8> = self.pages.iter().flat_map(|page| page.data).collect();
        PyBytes::new(py, &data)
    }

    /// Runs a frame for each input buffer, until the match ends; gives the states.
    fn step<'py>(&mut self, py: Python<'py>, inputs: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
        let inputs: Vec<InputBuffer> = items(inputs)?;
        for one in &inputs {
            valid(one.slots.map(|slot| slot.pad))?;
        }
        let run = |this: &mut Self| -> Result<Vec<SessionState>, StepError> {
            let mut states = Vec::with_capacity(inputs.len());
            for (at, one) in inputs.iter().enumerate() {
                // A first frame that cannot be run is an error; a match that ends among them is none.
                if at > 0 && this.state.status != status::ACTIVE {
                    break;
                }
                this.one(one)?;
                states.push(this.state);
            }
            Ok(states)
        };
        let states = py.detach(|| run(self)).map_err(refused)?;
        Ok(PyBytes::new(py, bytemuck::cast_slice(&states)))
    }

    /// Runs `branches` branches of this match, each on pads of its own, until these or the match end; gives
    /// their last states. The match itself does not change.
    fn rollout<'py>(
        &self,
        py: Python<'py>,
        pads: &[u8],
        branches: usize,
    ) -> PyResult<Bound<'py, PyBytes>> {
        if branches > MAX_BRANCHES {
            let why = format!("{branches} branches at once, and {MAX_BRANCHES} is the most");
            return Err(InputsError::new_err(why));
        }
        let pads: Vec<[Pad; 2]> = items(pads)?;
        pads.iter().try_for_each(|pair| valid(*pair))?;
        if branches == 0 || !pads.len().is_multiple_of(branches) {
            let why = format!(
                "{} pairs of pads do not go into {branches} branches",
                pads.len()
            );
            return Err(InputsError::new_err(why));
        }
        let plans: Vec<&[[Pad; 2]]> = pads.chunks_exact((pads.len() / branches).max(1)).collect();
        let states = py.detach(|| rollout(self, &plans)).map_err(refused)?;
        Ok(PyBytes::new(py, bytemuck::cast_slice(&states)))
    }

    /// A copy that goes its own way.
    fn branch(&self) -> Self {
        Self {
            last: self.last,
            ..Self::new(&self.file, self.state, self.pages.clone())
        }
    }
}

/// A learned player at a seat: it sees states and inputs, and answers with pads.
#[pyclass(module = "worldline._native")]
struct Player {
    file: Arc<File>,
    kernels: Native,
    actor: Actor,
    pages: Vec<Page>,
    scratch: Box<Scratch>,
}

#[pymethods]
impl Player {
    /// The pad for the match's next frame. It is asked once a frame: it remembers what it saw.
    fn pad<'py>(&mut self, py: Python<'py>, of: &Match) -> PyResult<Bound<'py, PyBytes>> {
        let mut hidden: Vec<&mut Page> = self.pages.iter_mut().collect();
        let model = self.file.model();
        let (actor, scratch) = (&mut self.actor, &mut self.scratch);
        let pad = act(
            &model,
            actor,
            &of.state,
            &mut hidden,
            &of.last,
            scratch,
            &self.kernels,
        );
        Ok(PyBytes::new(py, bytemuck::bytes_of(&pad.map_err(refused)?)))
    }

    /// A copy that goes its own way.
    fn branch(&self) -> Self {
        Self {
            file: Arc::clone(&self.file),
            kernels: self.kernels,
            actor: self.actor,
            pages: self.pages.clone(),
            scratch: Scratch::boxed(),
        }
    }
}

/// Plays every plan in a branch of its own, all of them over one pass of the weights.
fn rollout(of: &Match, plans: &[&[[Pad; 2]]]) -> Result<Vec<SessionState>, StepError> {
    let model = of.file.model();
    let mut states = vec![of.state; plans.len()];
    let mut pages = vec![of.pages.clone(); plans.len()];
    let mut scratches: Vec<Box<Scratch>> = plans.iter().map(|_| Scratch::boxed()).collect();
    for frame in 0..plans.first().map_or(0, |plan| plan.len()) {
        let inputs: Vec<InputBuffer> = states
            .iter()
            .zip(plans)
            .map(|(state, plan)| next(state, plan[frame]))
            .collect();
        let mut hidden: Vec<Vec<&mut Page>> = pages
            .iter_mut()
            .map(|own| own.iter_mut().collect())
            .collect();
        let parts = states
            .iter_mut()
            .zip(&mut hidden)
            .zip(&inputs)
            .zip(&mut scratches);
        let mut lanes: Vec<Lane<'_, '_>> = parts
            .filter(|(((state, _), _), _)| state.status == status::ACTIVE)
            .map(|(((state, hidden), inputs), scratch)| Lane {
                state,
                hidden,
                inputs,
                scratch,
            })
            .collect();
        if lanes.is_empty() {
            break;
        }
        step_batch(&model, &mut lanes, &of.kernels).map_err(|(_, error)| error)?;
    }
    Ok(states)
}

/// Pads as the next frame's inputs.
fn next(state: &SessionState, pads: [Pad; 2]) -> InputBuffer {
    InputBuffer {
        slots: pads.map(|pad| PadSlot { pad, sequence: 0 }),
        frame: state.frame.saturating_add(1),
    }
}

/// Bytes as whole items, at any alignment.
fn items<T: Pod + Zeroable>(bytes: &[u8]) -> PyResult<Vec<T>> {
    if bytes.is_empty() || !bytes.len().is_multiple_of(size_of::<T>()) {
        let why = format!(
            "{} bytes of inputs: a frame's are {}, and one frame is the least",
            bytes.len(),
            size_of::<T>()
        );
        return Err(InputsError::new_err(why));
    }
    Ok(bytemuck::pod_collect_to_vec(bytes))
}

fn valid(pads: [Pad; 2]) -> PyResult<()> {
    match pads.iter().position(|pad| !pad.is_valid()) {
        Some(seat) => Err(InputsError::new_err(format!(
            "seat {seat}'s pad is not valid: sticks go from -{STICK_UNIT} to {STICK_UNIT}, and only the buttons of `Button` may be set"
        ))),
        None => Ok(()),
    }
}

/// Name, first byte and Rust type of a field.
type Field = (&'static str, usize, &'static str);

/// A layout's size, and name, first byte and Rust type of each of its fields.
#[pyfunction]
fn layout(name: &str) -> PyResult<(usize, Vec<Field>)> {
    match name {
        "Pad" => Ok(described::<Pad>()),
        "PadSlot" => Ok(described::<PadSlot>()),
        "InputBuffer" => Ok(described::<InputBuffer>()),
        "PlayerState" => Ok(described::<PlayerState>()),
        "SessionState" => Ok(described::<SessionState>()),
        other => Err(PyValueError::new_err(format!("there is no layout {other}"))),
    }
}

fn described<T: Layout>() -> (usize, Vec<Field>) {
    let mut fields = Vec::new();
    T::describe(&mut |LayoutField { name, offset, kind }| fields.push((name, offset, kind)));
    (size_of::<T>(), fields)
}

#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    module.add("ENDED", status::ENDED)?;
    module.add("PAGE_DATA", PAGE_DATA)?;
    module.add("PERCENT_ONE", PERCENT_ONE)?;
    module.add("UNIT_ONE", UNIT_ONE)?;
    module.add("STICK_UNIT", STICK_UNIT)?;
    module.add("BUTTONS", BUTTONS.to_vec())?;
    module.add("MAX_BRANCHES", MAX_BRANCHES)?;
    module.add("CartridgeError", py.get_type::<CartridgeError>())?;
    module.add("StartError", py.get_type::<StartError>())?;
    module.add("InputsError", py.get_type::<InputsError>())?;
    module.add("FrameError", py.get_type::<FrameError>())?;
    module.add_class::<Cartridge>()?;
    module.add_class::<Match>()?;
    module.add_class::<Player>()?;
    module.add_function(wrap_pyfunction!(layout, module)?)
}
