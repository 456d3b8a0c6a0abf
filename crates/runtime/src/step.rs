//! What is run in worlds. Each run leaves a line in its world's trace, and changes nothing else.

use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use worldline_arena::hex;
use worldline_sandbox::{
    Cell, Command, ExecError, FileError, Outcome, Output, Running, Said, Stats, Stream,
};

use crate::error::WorldError;
use crate::id::now_micros;
use crate::limits::MAX_TRACED;
use crate::model::{Instance, Service, Status, WakeOn};
use crate::registry::{Entry, Runtime, lock};
use crate::row::Row;

/// What is kept of a run.
struct Traced {
    started: Instant,
    hash: Sha256,
}

impl Traced {
    fn begin() -> Self {
        Self {
            started: Instant::now(),
            hash: Sha256::new(),
        }
    }

    fn hear(&mut self, stream: Stream, bytes: &[u8]) {
        self.hash.update([u8::from(stream == Stream::Error)]);
        self.hash.update(bytes);
    }

    /// `output`, seen on its way.
    fn watch<'a>(&'a mut self, output: Output<'a>) -> impl FnMut(Stream, &[u8]) + 'a {
        move |stream, bytes| {
            self.hear(stream, bytes);
            output(stream, bytes);
        }
    }

    fn end(self, entry: &Entry, action: &str, input: &str, code: Option<i64>) -> Row {
        let mut history = lock(&entry.history);
        history.traced += 1;
        let cut = (0..=MAX_TRACED.min(input.len()))
            .rev()
            .find(|at| input.is_char_boundary(*at))
            .unwrap_or(0);
        Row::Trace {
            entity: entry.record().id,
            step: history.traced,
            action: action.into(),
            input: input[..cut].into(),
            code,
            output: hex(&self.hash.finalize()),
            ms: self.started.elapsed().as_secs_f64() * 1e3,
            at: now_micros(),
        }
    }
}

/// Something that runs in a world, and is traced.
struct Watched {
    runtime: Runtime,
    entry: Arc<Entry>,
    action: &'static str,
    input: String,
    running: Box<dyn Running>,
    /// Until its line is written.
    traced: Mutex<Option<Traced>>,
}

impl Watched {
    fn end(&self, code: Option<i64>) {
        let Some(traced) = lock(&self.traced).take() else {
            return;
        };
        let row = traced.end(&self.entry, self.action, &self.input, code);
        if let Err(error) = self.runtime.commit(vec![row]) {
            tracing::warn!(%error, "a run was not traced");
        }
    }
}

impl Running for Watched {
    fn write(&self, bytes: &[u8]) -> Result<(), ExecError> {
        self.running.write(bytes)
    }

    fn resize(&self, rows: u32, columns: u32) -> Result<(), ExecError> {
        self.running.resize(rows, columns)
    }

    fn signal(&self, signal: i32) -> Result<(), ExecError> {
        self.running.signal(signal)
    }

    fn next(&self, within: Duration) -> Result<Option<Said>, ExecError> {
        let said = self.running.next(within);
        match &said {
            Ok(Some(Said::Bytes(stream, bytes))) => {
                if let Some(traced) = &mut *lock(&self.traced) {
                    traced.hear(*stream, bytes);
                }
            }
            Ok(Some(Said::Ended(code))) => self.end(Some(i64::from(*code))),
            Ok(None) | Err(_) => {}
        }
        said
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.end(None);
    }
}

impl Runtime {
    /// Runs a command in a world; gives its exit code.
    pub fn exec(&self, id: &str, command: &Command, output: Output) -> Result<i32, WorldError> {
        let entry = self.entry(id)?;
        let mut traced = Traced::begin();
        let done = entry.world().exec(command, &mut traced.watch(output));
        self.note_end(&entry, &done);
        let code = done.as_ref().ok().copied().map(i64::from);
        self.commit(vec![traced.end(
            &entry,
            "exec",
            &command.argv.join(" "),
            code,
        )])?;
        done
    }

    /// Runs Python in a world's interpreter.
    pub fn run(&self, id: &str, cell: &Cell, output: Output) -> Result<Outcome, WorldError> {
        let entry = self.entry(id)?;
        let mut traced = Traced::begin();
        let done = entry.world().run(cell, &mut traced.watch(output));
        self.note_end(&entry, &done);
        if let Ok(outcome) = &done {
            traced
                .hash
                .update(outcome.value.as_deref().unwrap_or_default());
        }
        let code = done
            .as_ref()
            .ok()
            .map(|outcome| i64::from(outcome.status != "ok"));
        self.commit(vec![traced.end(&entry, "cell", &cell.code, code)])?;
        done
    }

    /// Begins a command in a world, at a terminal of some rows and columns or without one. A paused world
    /// that wakes on SSH resumes for it. Its trace has a line once it ends or is hung up.
    pub fn launch(
        &self,
        id: &str,
        command: &Command,
        terminal: Option<(u32, u32)>,
    ) -> Result<Box<dyn Running>, WorldError> {
        let entry = self.awake(id, |wake| wake.ssh)?;
        let running = entry.world().begin(command, terminal);
        self.note_end(&entry, &running);
        Ok(self.watched(entry, "ssh", command.argv.join(" "), running?))
    }

    /// Begins to give and take a world's files by SFTP, as [`launch`](Self::launch) does a command.
    pub fn sftp(&self, id: &str) -> Result<Box<dyn Running>, WorldError> {
        let entry = self.awake(id, |wake| wake.ssh)?;
        let running = entry.world().sftp();
        self.note_end(&entry, &running);
        Ok(self.watched(entry, "sftp", String::new(), running?))
    }

    fn watched(
        &self,
        entry: Arc<Entry>,
        action: &'static str,
        input: String,
        running: Box<dyn Running>,
    ) -> Box<dyn Running> {
        Box::new(Watched {
            runtime: self.clone(),
            entry,
            action,
            input,
            running,
            traced: Mutex::new(Some(Traced::begin())),
        })
    }

    /// A world, resumed first if it is paused and is to wake for this.
    fn awake(&self, id: &str, wakes: impl Fn(WakeOn) -> bool) -> Result<Arc<Entry>, WorldError> {
        let entry = self.entry(id)?;
        let record = entry.record();
        if record.status == Status::Paused && wakes(record.wake_on) {
            self.resume(id)?;
        }
        Ok(entry)
    }

    /// Reads a file of a world.
    pub fn read(&self, id: &str, path: &str) -> Result<Vec<u8>, WorldError> {
        let entry = self.entry(id)?;
        let mut traced = Traced::begin();
        let bytes = entry.world().read(path)?;
        traced.hash.update(&bytes);
        self.commit(vec![traced.end(&entry, "read", path, None)])?;
        Ok(bytes)
    }

    /// Writes a file of a world.
    pub fn write(&self, id: &str, path: &str, mode: u32, bytes: &[u8]) -> Result<(), WorldError> {
        let entry = self.entry(id)?;
        let mut traced = Traced::begin();
        traced.hash.update(bytes);
        entry.world().write(path, mode, bytes)?;
        self.commit(vec![traced.end(&entry, "write", path, None)])
    }

    /// Connects to a port of a world, which resumes for it if it is paused and wakes on HTTP.
    pub fn connect(&self, id: &str, port: u16) -> Result<TcpStream, WorldError> {
        self.awake(id, |wake| wake.http)?.world().connect(port)
    }

    /// What a world uses.
    pub fn stats(&self, id: &str) -> Result<Stats, WorldError> {
        Ok(self.entry(id)?.world().stats())
    }

    /// Lists a service beside its world; one of the same name makes room for it.
    pub fn add_service(&self, id: &str, service: Service) -> Result<Instance, WorldError> {
        let letters = |c: u8| c.is_ascii_alphanumeric() || c == b'-';
        if !(1..=63).contains(&service.name.len())
            || !service.name.bytes().all(letters)
            || service.port == 0
        {
            return Err(WorldError::Service);
        }
        self.alter(id, |record| {
            record.services.retain(|other| other.name != service.name);
            record.services.push(service);
        })
    }

    /// No longer lists a service.
    pub fn remove_service(&self, id: &str, name: &str) -> Result<(), WorldError> {
        let entry = self.entry(id)?;
        if !entry
            .record()
            .services
            .iter()
            .any(|service| service.name == name)
        {
            return Err(WorldError::NoService(id.into(), name.into()));
        }
        let gone = |record: &mut Instance| record.services.retain(|service| service.name != name);
        self.alter(id, gone).map(drop)
    }

    /// A world that turns out to have ended by itself says so from then on.
    fn note_end<T>(&self, entry: &Entry, done: &Result<T, WorldError>) {
        if matches!(
            done,
            Err(WorldError::Exec(ExecError::Gone(_)) | WorldError::File(FileError::Gone(_)))
        ) {
            let (record, row) = entry.change(|record| record.status = Status::Error);
            if let Err(error) = self.commit(vec![row, crate::registry::collapsed(&record.id)]) {
                tracing::warn!(%error, "the end of a world was not noted");
            }
        }
    }
}
