//! The shelf of worlds, and worlds in motion. The only file that knows how a frame is computed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use worldline_abi::{InputBuffer, KIND_POLICY, Pad, Page, SessionState};
use worldline_cartridge::{
    Actor, Cartridge, Lane, OpenError, Start, act, schema::Schema, step, step_batch,
};
use worldline_mamba2::Native;

use crate::card::{Named, RuleView, Sidecar, Training, WorldCard};
use crate::ghost::Ghost;

pub(crate) use worldline_cartridge::StepError;

/// The vocabularies of a schema that name what players pick.
const CHARACTERS: &str = "character";
const STAGES: &str = "stage";

/// A cartridge on the shelf.
pub struct World {
    id: String,
    cartridge: Cartridge,
    sidecar: Sidecar,
    kernels: Native,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("World").field(&self.id).finish()
    }
}

impl World {
    /// A world by the name `id`, of a cartridge and what stands beside it.
    pub fn new(id: impl Into<String>, cartridge: Cartridge, sidecar: Value) -> Arc<Self> {
        Arc::new(Self {
            id: id.into(),
            cartridge,
            sidecar: Sidecar(sidecar),
            kernels: Native::detect(),
        })
    }

    /// The id by which players choose it.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The cartridge itself.
    pub fn cartridge(&self) -> &Cartridge {
        &self.cartridge
    }

    /// The cartridge's Merkle root: its identity.
    pub fn root(&self) -> [u8; 32] {
        self.cartridge.manifest().merkle_root
    }

    /// Whether it plays a pad instead of a world.
    pub fn is_policy(&self) -> bool {
        self.cartridge.manifest().kind == KIND_POLICY
    }

    /// Frames of a match until time is up.
    pub fn clock(&self) -> u32 {
        self.cartridge.model().plan().header.clock_frames
    }

    /// The stages a match can start on.
    pub fn stages(&self) -> Vec<u8> {
        let mut stages: Vec<u8> = self
            .cartridge
            .model()
            .starts()
            .iter()
            .map(|start| start.stage)
            .collect();
        stages.sort_unstable();
        stages.dedup();
        stages
    }

    /// The characters that can be picked on a stage.
    pub fn characters(&self, stage: u8) -> Vec<u8> {
        let model = self.cartridge.model();
        let here = || model.starts().iter().filter(|start| start.stage == stage);
        let mut characters: Vec<u8> = if here().any(|start| start.characters.contains(&Start::ANY))
        {
            values(self.cartridge.schema(), CHARACTERS)
                .map(|(id, _)| id)
                .collect()
        } else {
            here().flat_map(|start| start.characters).collect()
        };
        characters.sort_unstable();
        characters.dedup();
        characters
    }

    pub(crate) fn has_character(&self, stage: u8, character: u8) -> bool {
        self.characters(stage).contains(&character)
    }

    /// The state before a match's first frame; `None` when no match can start like this. `clock` is
    /// at most the world's own.
    pub(crate) fn start(
        &self,
        stage: u8,
        characters: [u8; 2],
        generator: u64,
        clock: u32,
    ) -> Option<SessionState> {
        let start = self.cartridge.model().start(stage, characters).ok()?;
        let valid = (1..=start.clock).contains(&clock);
        valid.then_some(SessionState {
            generator,
            clock,
            ..start
        })
    }

    /// The world in motion, at the start of a match.
    pub(crate) fn running(self: &Arc<Self>) -> Running {
        Running {
            pages: self.cartridge.model().hidden().fresh(),
            world: self.clone(),
            generator: 0,
        }
    }

    /// What the shelf shows.
    pub fn card(&self) -> WorldCard {
        let manifest = self.cartridge.manifest();
        let schema = self.cartridge.schema();
        let stages = self.stages();
        let mut characters: Vec<u8> = stages
            .iter()
            .flat_map(|stage| self.characters(*stage))
            .collect();
        characters.sort_unstable();
        characters.dedup();
        let name = |what: &str, vocabulary, id: u8| {
            let label = || {
                values(schema, vocabulary)
                    .find(|(value, _)| *value == id)?
                    .1
                    .cloned()
            };
            self.sidecar
                .name(what, id)
                .or_else(label)
                .unwrap_or_else(|| format!("#{id}"))
        };
        WorldCard {
            id: self.id.clone(),
            name: manifest.name().into(),
            kind: if self.is_policy() { "policy" } else { "world" },
            description: self.sidecar.description(),
            parameters: manifest.parameters,
            macs: manifest.macs,
            layers: manifest.layers,
            d_model: manifest.d_model,
            d_state: manifest.d_state,
            bytes: self.cartridge.bytes().len() as u64,
            root: self.cartridge.root(),
            training: Training {
                matches: manifest.training_matches,
                frames: manifest.training_frames,
                licences: self.sidecar.licences(),
            },
            fidelity: self.sidecar.fidelity(),
            rules: schema
                .rules
                .iter()
                .map(|rule| RuleView {
                    name: rule.name.clone(),
                    why: rule.why.clone(),
                })
                .collect(),
            characters: characters
                .iter()
                .map(|&id| Named {
                    id,
                    name: name("characters", CHARACTERS, id),
                })
                .collect(),
            stages: stages
                .iter()
                .map(|&id| Named {
                    id,
                    name: name("stages", STAGES, id),
                })
                .collect(),
        }
    }
}

/// The values of a vocabulary that are ids, with their labels.
fn values<'a>(schema: &'a Schema, name: &str) -> impl Iterator<Item = (u8, Option<&'a String>)> {
    let found = schema.vocabulary(name).into_iter();
    found.flat_map(|found| {
        let ids = found.values.iter().enumerate();
        ids.filter_map(|(at, &value)| Some((u8::try_from(value).ok()?, found.labels.get(at))))
    })
}

/// What a thread computes frames with; any match's.
pub(crate) struct Scratch(Box<worldline_cartridge::Scratch>);

impl Scratch {
    pub(crate) fn new() -> Self {
        Self(worldline_cartridge::Scratch::boxed())
    }
}

/// A world in motion: its memory of one match. A copy goes its own way.
#[derive(Clone)]
pub(crate) struct Running {
    world: Arc<World>,
    pages: Vec<Page>,
    generator: u64,
}

impl Running {
    /// Runs one frame.
    pub(crate) fn step(
        &mut self,
        state: &mut SessionState,
        inputs: &InputBuffer,
        scratch: &mut Scratch,
    ) -> Result<(), StepError> {
        let mut hidden: Vec<&mut Page> = self.pages.iter_mut().collect();
        step(
            &self.world.cartridge.model(),
            state,
            &mut hidden,
            inputs,
            &mut scratch.0,
            &self.world.kernels,
        )
    }

    /// Bytes of its memory.
    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&*self.pages)
    }

    /// Whether `other` moves the same world.
    pub(crate) fn same_world(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.world, &other.world)
    }

    /// Becomes a copy of `other` in the memory it has.
    pub(crate) fn copy_from(&mut self, other: &Self) {
        self.world.clone_from(&other.world);
        self.pages.clone_from(&other.pages);
        self.generator = other.generator;
    }

    /// Lets a policy play one frame; a frame that it cannot play is played with idle hands.
    pub(crate) fn act(
        &mut self,
        state: &SessionState,
        last: &InputBuffer,
        seat: usize,
        scratch: &mut Scratch,
    ) -> Pad {
        let mut hidden: Vec<&mut Page> = self.pages.iter_mut().collect();
        let mut actor = Actor {
            seat,
            generator: self.generator,
        };
        let model = self.world.cartridge.model();
        let pad = act(
            &model,
            &mut actor,
            state,
            &mut hidden,
            last,
            &mut scratch.0,
            &self.world.kernels,
        );
        self.generator = actor.generator;
        pad.unwrap_or_default()
    }

    /// Seeds the policy's choices.
    pub(crate) fn seeded(mut self, generator: u64) -> Self {
        self.generator = generator;
        self
    }
}

/// Steps matches of one world together; all have to be active. The error names the first lane that
/// cannot be stepped; nothing has changed then.
pub(crate) fn step_together(
    lanes: &mut [(&mut Running, &mut SessionState, InputBuffer)],
    scratches: &mut [Scratch],
) -> Result<(), (usize, StepError)> {
    if let [(running, state, inputs)] = lanes {
        return running
            .step(state, inputs, &mut scratches[0])
            .map_err(|error| (0, error));
    }
    let Some(world) = lanes.first().map(|lane| lane.0.world.clone()) else {
        return Ok(());
    };
    let mut hidden = Vec::with_capacity(lanes.len());
    let mut rest = Vec::with_capacity(lanes.len());
    for (running, state, inputs) in lanes {
        hidden.push(running.pages.iter_mut().collect::<Vec<&mut Page>>());
        rest.push((&mut **state, &*inputs));
    }
    let mut lanes: Vec<Lane<'_, '_>> = rest
        .into_iter()
        .zip(&mut hidden)
        .zip(scratches)
        .map(|(((state, inputs), hidden), scratch)| Lane {
            state,
            hidden,
            inputs,
            scratch: &mut scratch.0,
        })
        .collect();
    step_batch(&world.cartridge.model(), &mut lanes, &world.kernels)
}

/// The worlds, policies and ghosts of a folder.
#[derive(Clone, Debug, Default)]
pub struct Shelf {
    worlds: Vec<Arc<World>>,
    ghosts: Vec<Arc<Ghost>>,
    problems: Vec<String>,
}

/// A folder cannot be used as a shelf.
#[derive(Debug, thiserror::Error)]
pub enum ShelfError {
    /// The folder cannot be read.
    #[error("cannot read the shelf {}: {source}; name the folder of cartridges with --worlds", path.display())]
    Io {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No cartridge in it can be played.
    #[error("there is no playable cartridge in {}{}", path.display(), problems.iter().map(|one| format!("; {one}")).collect::<String>())]
    Empty {
        /// The folder.
        path: PathBuf,
        /// What is wrong with those that are there.
        problems: Vec<String>,
    },
}

impl Shelf {
    /// A shelf of these worlds.
    pub fn new(worlds: Vec<Arc<World>>) -> Self {
        Self {
            worlds,
            ..Self::default()
        }
    }

    /// Opens every `*.cart` of a folder, by name, and every ghost of its subfolder `ghost`. A file
    /// that cannot be used is a [problem](Self::problems), not an error, as long as a world is left.
    pub fn open(folder: &Path) -> Result<Self, ShelfError> {
        let mut shelf = Self::default();
        for path in files(folder, "cart").map_err(|source| ShelfError::Io {
            path: folder.into(),
            source,
        })? {
            match open(&path) {
                Ok(world) => shelf.worlds.push(world),
                Err(error) => shelf.problems.push(format!("{}: {error}", path.display())),
            }
        }
        for path in files(&folder.join("ghost"), "bin").unwrap_or_default() {
            match Ghost::open(&path) {
                Ok(ghost) => shelf.ghosts.push(Arc::new(ghost)),
                Err(error) => shelf.problems.push(error.to_string()),
            }
        }
        if shelf.worlds.iter().all(|world| world.is_policy()) {
            return Err(ShelfError::Empty {
                path: folder.into(),
                problems: shelf.problems,
            });
        }
        Ok(shelf)
    }

    /// Worlds and policies, by name.
    pub fn worlds(&self) -> &[Arc<World>] {
        &self.worlds
    }

    /// Files that could not be used, in words.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    /// Adds a ghost.
    pub fn add_ghost(&mut self, ghost: Ghost) {
        self.ghosts.push(Arc::new(ghost));
    }

    /// The world of an id.
    pub fn get(&self, id: &str) -> Option<&Arc<World>> {
        self.worlds.iter().find(|world| world.id == id)
    }

    /// The world of a Merkle root.
    pub fn by_root(&self, root: &[u8; 32]) -> Option<&Arc<World>> {
        self.worlds.iter().find(|world| world.root() == *root)
    }

    /// A ghost whose character is on the roster, from the stage if there is one.
    pub(crate) fn ghost(&self, roster: &[u8], stage: u8, choice: u64) -> Option<Arc<Ghost>> {
        let fit = self
            .ghosts
            .iter()
            .filter(|ghost| roster.contains(&ghost.character));
        let (here, elsewhere): (Vec<_>, Vec<_>) = fit.partition(|ghost| ghost.stage == stage);
        let ghosts = if here.is_empty() { elsewhere } else { here };
        let at = choice as usize % ghosts.len().max(1);
        ghosts.get(at).map(|ghost| Arc::clone(ghost))
    }

    /// A policy for this world: one that reads the same player fields.
    pub(crate) fn policy(&self, world: &World) -> Option<&Arc<World>> {
        let fields = &world.cartridge.schema().fields;
        self.worlds
            .iter()
            .find(|policy| policy.is_policy() && policy.cartridge.schema().fields == *fields)
    }
}

/// Files of a folder with an extension, by name.
fn files(folder: &Path, extension: &str) -> io::Result<Vec<PathBuf>> {
    let paths: io::Result<Vec<_>> = fs::read_dir(folder)?
        .map(|entry| Ok(entry?.path()))
        .collect();
    let mut paths = paths?;
    paths.retain(|path| path.extension().is_some_and(|found| found == extension));
    paths.sort();
    Ok(paths)
}

fn open(path: &Path) -> Result<Arc<World>, OpenError> {
    let cartridge = Cartridge::open(path)?;
    let beside = fs::read(path.with_extension("json")).unwrap_or_default();
    let id = path
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    Ok(World::new(
        id,
        cartridge,
        serde_json::from_slice(&beside).unwrap_or_default(),
    ))
}
