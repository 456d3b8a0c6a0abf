//! One notion of a world over code worlds and matches: state, a step, a moment that can be kept.

use std::net::TcpStream;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::json;
use worldline_abi::{PERCENT_ONE, Pad, SessionState};
use worldline_arena::{Arena, Branch, MatchId, hex, rollout};
use worldline_sandbox::{Cell, Command, Outcome, Output, Running, Sandbox, Spec, Stats, Stream};

use crate::error::WorldError;
use crate::limits::MAX_STEPS;
use crate::model::Source;

/// What a world keeps of a moment.
pub(crate) struct Moment {
    pub(crate) source: Source,
    /// The state itself, where it is a match's.
    pub(crate) branch: Option<Branch>,
    pub(crate) bytes: u64,
    pub(crate) pause_ms: f64,
}

/// State and a step. What a world cannot do it refuses by name.
pub(crate) trait World: Send + Sync {
    /// Keeps this moment; the world goes on.
    fn moment(&self) -> Result<Moment, WorldError>;

    /// Steps it: a command of the shell, or `step N` and `state` of a match. Gives the exit code.
    fn exec(&self, command: &Command, output: Output) -> Result<i32, WorldError>;

    /// Runs Python in it.
    fn run(&self, _cell: &Cell, _output: Output) -> Result<Outcome, WorldError> {
        Err(self.refuse("run Python"))
    }

    fn begin(
        &self,
        _command: &Command,
        _terminal: Option<(u32, u32)>,
    ) -> Result<Box<dyn Running>, WorldError> {
        Err(self.refuse("be talked to"))
    }

    fn sftp(&self) -> Result<Box<dyn Running>, WorldError> {
        Err(self.refuse("give files"))
    }

    fn read(&self, _path: &str) -> Result<Vec<u8>, WorldError> {
        Err(self.refuse("give files"))
    }

    fn write(&self, _path: &str, _mode: u32, _bytes: &[u8]) -> Result<(), WorldError> {
        Err(self.refuse("take files"))
    }

    fn connect(&self, _port: u16) -> Result<TcpStream, WorldError> {
        Err(self.refuse("be connected to"))
    }

    fn resize_disk(&self, _mib: u32) -> Result<(), WorldError> {
        Err(WorldError::Sizes)
    }

    /// The same disk, begun anew with other sizes; none where what it holds is no disk.
    fn reboot(&self, _spec: &Spec) -> Result<Option<Arc<dyn World>>, WorldError> {
        Ok(None)
    }

    fn pause(&self) -> Result<(), WorldError>;

    fn resume(&self) -> Result<(), WorldError>;

    fn stats(&self) -> Stats;

    fn destroy(&self);

    fn refuse(&self, what: &'static str) -> WorldError {
        WorldError::Refused {
            world: "a match".into(),
            what,
            why: "it runs no code; branch it, and `step` the branch".into(),
        }
    }
}

/// A code world.
pub(crate) struct CodeWorld(pub(crate) Arc<dyn Sandbox>);

impl World for CodeWorld {
    fn moment(&self) -> Result<Moment, WorldError> {
        let kept = self.0.snapshot(None)?;
        Ok(Moment {
            source: Source::Sandbox(kept.id),
            branch: None,
            bytes: kept.memory_bytes + kept.disk_bytes,
            pause_ms: kept.pause_ms,
        })
    }

    fn exec(&self, command: &Command, output: Output) -> Result<i32, WorldError> {
        Ok(self.0.exec(command, output)?)
    }

    fn run(&self, cell: &Cell, output: Output) -> Result<Outcome, WorldError> {
        Ok(self.0.run(cell, output)?)
    }

    fn begin(
        &self,
        command: &Command,
        terminal: Option<(u32, u32)>,
    ) -> Result<Box<dyn Running>, WorldError> {
        Ok(self.0.begin(command, terminal)?)
    }

    fn sftp(&self) -> Result<Box<dyn Running>, WorldError> {
        Ok(self.0.sftp()?)
    }

    fn read(&self, path: &str) -> Result<Vec<u8>, WorldError> {
        Ok(self.0.read(path)?)
    }

    fn write(&self, path: &str, mode: u32, bytes: &[u8]) -> Result<(), WorldError> {
        Ok(self.0.write(path, mode, bytes)?)
    }

    fn connect(&self, port: u16) -> Result<TcpStream, WorldError> {
        Ok(self.0.connect(port)?)
    }

    fn resize_disk(&self, mib: u32) -> Result<(), WorldError> {
        Ok(self.0.resize_disk(mib)?)
    }

    fn reboot(&self, spec: &Spec) -> Result<Option<Arc<dyn World>>, WorldError> {
        // It keeps its disk. The name of an image is one among several backends, of which this world has one.
        let spec = Spec {
            image: None,
            ..spec.clone()
        };
        Ok(Some(Arc::new(Self(self.0.reboot(&spec)?))))
    }

    fn pause(&self) -> Result<(), WorldError> {
        Ok(self.0.pause()?)
    }

    fn resume(&self) -> Result<(), WorldError> {
        Ok(self.0.resume()?)
    }

    fn stats(&self) -> Stats {
        self.0.stats()
    }

    fn destroy(&self) {
        self.0.destroy();
    }
}

/// A match that people play. It keeps its own clock, and nothing done here changes it.
pub(crate) struct LiveMatch {
    pub(crate) arena: Arc<Arena>,
    pub(crate) id: MatchId,
}

impl LiveMatch {
    fn branch(&self) -> Result<Branch, WorldError> {
        let why = |error: worldline_arena::EnterError| error.to_string();
        self.arena
            .branch(self.id)
            .map_err(|error| WorldError::Refused {
                world: format!("match {}", self.id),
                what: "be branched",
                why: why(error),
            })
    }

    fn own_clock(&self, what: &'static str) -> WorldError {
        let why = "its players are at it; branch it, and do that to the branch".into();
        WorldError::Refused {
            world: format!("match {}", self.id),
            what,
            why,
        }
    }
}

impl World for LiveMatch {
    fn moment(&self) -> Result<Moment, WorldError> {
        Ok(kept(self.branch()?))
    }

    fn exec(&self, command: &Command, output: Output) -> Result<i32, WorldError> {
        match words(command)[..] {
            ["state"] => {
                say(output, Stream::Out, &describe(self.branch()?.state()));
                Ok(0)
            }
            _ => Err(self.own_clock("be stepped")),
        }
    }

    fn pause(&self) -> Result<(), WorldError> {
        Err(self.own_clock("be paused"))
    }

    fn resume(&self) -> Result<(), WorldError> {
        Err(self.own_clock("be resumed"))
    }

    fn stats(&self) -> Stats {
        Stats::default()
    }

    fn destroy(&self) {}
}

/// A match without players or a clock.
pub(crate) struct MatchBranch(pub(crate) Mutex<Branch>);

impl MatchBranch {
    pub(crate) fn new(branch: Branch) -> Self {
        Self(Mutex::new(branch))
    }

    fn with<T>(&self, work: impl FnOnce(&mut Branch) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl World for MatchBranch {
    fn moment(&self) -> Result<Moment, WorldError> {
        Ok(kept(self.with(|branch| branch.clone())))
    }

    fn exec(&self, command: &Command, output: Output) -> Result<i32, WorldError> {
        const USAGE: &str =
            "a branch of a match understands `state` and `step FRAMES`, of at most 36000 frames\n";
        let frames = match words(command)[..] {
            ["state"] => Some(0),
            ["step"] => Some(1),
            ["step", frames] => frames.parse().ok().filter(|frames| *frames <= MAX_STEPS),
            _ => None,
        };
        let Some(frames) = frames else {
            output(Stream::Error, USAGE.as_bytes());
            return Ok(2);
        };
        let stepped = self.with(|branch| {
            let rolled = rollout(std::slice::from_mut(branch), frames, |_, _| {
                [Pad::default(); 2]
            });
            rolled.map(|_| describe(branch.state()))
        });
        match stepped {
            Ok(state) => say(output, Stream::Out, &state),
            Err(error) => {
                output(Stream::Error, format!("{error}\n").as_bytes());
                return Ok(1);
            }
        }
        Ok(0)
    }

    fn pause(&self) -> Result<(), WorldError> {
        Ok(())
    }

    fn resume(&self) -> Result<(), WorldError> {
        Ok(())
    }

    fn stats(&self) -> Stats {
        let bytes = self.with(|branch| branch.bytes()) as u64;
        Stats {
            memory_bytes: bytes,
            private_bytes: bytes,
            ..Stats::default()
        }
    }

    fn destroy(&self) {}
}

fn kept(branch: Branch) -> Moment {
    Moment {
        source: Source::Match,
        bytes: branch.bytes() as u64,
        pause_ms: 0.0,
        branch: Some(branch),
    }
}

fn words(command: &Command) -> Vec<&str> {
    command
        .argv
        .iter()
        .flat_map(|word| word.split_whitespace())
        .collect()
}

fn say(output: Output, stream: Stream, value: &serde_json::Value) {
    output(stream, format!("{value}\n").as_bytes());
}

/// A match's state in words that serialise: units and percent as the game counts them.
fn describe(state: &SessionState) -> serde_json::Value {
    const UNIT: f64 = 4096.0;
    json!({
        "frame": state.frame,
        "clock": state.clock,
        "ended": state.end_reason != 0,
        "chain": hex(&state.chain),
        "players": state.players.iter().map(|player| json!({
            "x": f64::from(player.x) / UNIT,
            "y": f64::from(player.y) / UNIT,
            "percent": f64::from(player.percent) / f64::from(PERCENT_ONE),
            "stocks": player.stocks,
            "action_state": player.action_state,
        })).collect::<Vec<_>>(),
    })
}
