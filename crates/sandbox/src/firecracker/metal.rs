//! A world whose guest has no operating system: lines over a serial port.

use std::fs::File;
use std::io;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::api::{Action, ApiError, BootSource, Drive, MachineConfig};
use super::body::{Body, Taken};
use super::machine::{DISK, KERNEL, Pipes, link};
use super::serial::{self, Serial};
use super::store::Stored;
use super::{GUEST, Inner, Life, sparse};
use crate::error::{CreateError, ExecError, FileError, ResizeError, SnapshotError};
use crate::model::{Cancel, Cell, Command, Outcome, Snapshot, Spec, Stats, Stream};
use crate::wire::{self, kind};
use crate::{Output, Running, Sandbox};

/// How long a guest may take to begin, and to hear that it goes on.
const BEGIN: Duration = Duration::from_secs(60);
/// How long a guest may take for a line where the caller sets no limit.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) struct World {
    body: Body,
    serial: Mutex<Serial>,
    paused: AtomicBool,
    /// Whether its guest is being asked something. It waits for the next call by looking, all the time, so
    /// between calls its processors stand still and others have the host's. Changed under the API's lock.
    awake: AtomicBool,
}

impl World {
    /// A machine that begins at power-on, with a disk of its own.
    pub(super) fn cold(
        inner: &Arc<Inner>,
        spec: &Spec,
        disk: Option<&File>,
    ) -> Result<Self, CreateError> {
        let world = Self::of(Body::begin(inner, spec)?)?;
        let io = |doing| move |source| CreateError::Io { doing, source };
        link(&inner.guest, &world.body.machine.root, KERNEL).map_err(io("giving it its kernel"))?;
        make_disk(&world.body, disk).map_err(io("making its disk"))?;
        world
            .configure()
            .map_err(|error| world.body.refused(error))?;
        let greeted = world.serial().greet(BEGIN);
        greeted.map_err(|error| world.silent(&error))?;
        world.wake()?;
        world.rest();
        Ok(world)
    }

    /// A machine that goes on from a snapshot.
    pub(super) fn warm(
        inner: &Arc<Inner>,
        spec: &Spec,
        from: &Arc<Stored>,
    ) -> Result<Self, CreateError> {
        let io = |doing| move |source| CreateError::Io { doing, source };
        let origin = Some(from.snapshot.id.clone());
        let begun = Body::load(inner, spec, from, origin, |body| {
            let disk = File::open(from.folder.join(DISK));
            let disk = disk.map_err(io("opening the snapshot's disk"))?;
            make_disk(body, Some(&disk)).map_err(io("copying its disk"))
        })?;
        let world = Self::of(begun)?;
        world.wake()?;
        world.rest();
        Ok(world)
    }

    fn of((body, (to, from)): (Body, Pipes)) -> Result<Self, CreateError> {
        let serial = Serial::new(to, from).map_err(|source| CreateError::Io {
            doing: "starting a thread",
            source,
        })?;
        Ok(Self {
            body,
            serial: Mutex::new(serial),
            paused: AtomicBool::new(false),
            awake: AtomicBool::new(true),
        })
    }

    fn serial(&self) -> MutexGuard<'_, Serial> {
        self.serial.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts the machine together, and turns it on.
    fn configure(&self) -> Result<(), ApiError> {
        let hardware = &self.body.inner.host.hardware;
        let mut api = self.body.machine.api();
        api.machine_config(&MachineConfig {
            vcpu_count: self.body.spec.vcpus,
            mem_size_mib: self.body.spec.memory_mib,
            cpu_template: hardware.cpu_template.clone(),
            track_dirty_pages: true,
        })?;
        api.boot_source(&BootSource {
            kernel_image_path: KERNEL.into(),
            boot_args: None,
            initrd_path: None,
        })?;
        api.drive(&Drive {
            drive_id: DISK.into(),
            path_on_host: DISK.into(),
            is_root_device: false,
            is_read_only: false,
            rate_limiter: hardware.disk_limits,
        })?;
        drop(api);
        self.body.equip(false)?;
        self.body.machine.api().action(Action::InstanceStart)
    }

    /// Tells the guest what time it is, and gives it randomness that no other has.
    fn wake(&self) -> Result<(), CreateError> {
        let seed = match self.body.spec.seed {
            Some(seed) => seed,
            None => {
                let mut bytes = [0; 8];
                getrandom::fill(&mut bytes).map_err(|error| CreateError::Io {
                    doing: "drawing its seed",
                    source: io::Error::other(error.to_string()),
                })?;
                u64::from_le_bytes(bytes)
            }
        };
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let payload = wire::wake(now.as_nanos() as u64, seed);
        let until = Some(Instant::now() + BEGIN);
        let answer =
            self.serial()
                .call(kind::WAKE, &payload, until, &Cancel::default(), &mut |_| {});
        match answer {
            Ok((kind::DONE, _)) => Ok(()),
            Ok((_, why)) => Err(CreateError::Interpreter(
                String::from_utf8_lossy(&why).into_owned(),
            )),
            Err(error) => Err(self.silent(&error)),
        }
    }

    /// Lets the processors run for a call.
    fn rouse(&self) -> Result<(), ApiError> {
        let mut api = self.body.machine.api();
        api.resume()?;
        self.awake.store(true, Ordering::Release);
        Ok(())
    }

    /// Has them stand still until the next one. A machine that cannot be told so is over, which the next
    /// call says.
    fn rest(&self) {
        let mut api = self.body.machine.api();
        let _ = api.pause();
        self.awake.store(false, Ordering::Release);
    }

    fn stands(&self) -> bool {
        self.paused.load(Ordering::Acquire) || !self.awake.load(Ordering::Acquire)
    }

    fn silent(&self, error: &io::Error) -> CreateError {
        CreateError::Interpreter(format!("{error}; {}", self.body.machine.last_words()))
    }

    fn is_over(&self) -> bool {
        self.body.machine.is_over()
    }

    fn check(&self) -> Result<(), ExecError> {
        if self.is_over() {
            return Err(ExecError::Gone(self.body.id.clone()));
        }
        if self.paused.load(Ordering::Acquire) {
            return Err(ExecError::Paused(self.body.id.clone()));
        }
        Ok(())
    }
}

/// Its disk: one of its own, or a copy of another.
fn make_disk(body: &Body, of: Option<&File>) -> io::Result<()> {
    let path = body.machine.root.join(DISK);
    let file = File::create_new(&path)?;
    if let Some(of) = of {
        sparse::copy(of, &file)?;
    }
    file.set_len(u64::from(body.spec.disk_mib) << 20)?;
    body.inner.host.give(&path)
}

impl Life for World {
    fn body(&self) -> &Body {
        &self.body
    }
}

/// What a machine without an operating system does not have.
const NO_PYTHON: &str =
    "a Python interpreter: its guest has no operating system; commands are those of `help`";
const NO_FILES: &str = "files: its guest has no operating system";

impl Sandbox for World {
    fn id(&self) -> &str {
        &self.body.id
    }

    fn origin(&self) -> Option<&str> {
        self.body.origin.as_deref()
    }

    fn closed(&self) -> &[String] {
        &[]
    }

    fn run(&self, _: &Cell, _: Output) -> Result<Outcome, ExecError> {
        self.check()?;
        Err(ExecError::Lacks(NO_PYTHON))
    }

    fn exec(&self, command: &Command, output: Output) -> Result<i32, ExecError> {
        self.check()?;
        let line = command.argv.join(" ");
        if line.trim().is_empty() {
            return Err(ExecError::NoCommand);
        }
        if !command.environment.is_empty() || !command.input.is_empty() {
            return Err(ExecError::Lacks(
                "an environment or an input for commands: its guest has no operating system",
            ));
        }
        let until = Instant::now() + command.timeout.unwrap_or(PATIENCE);
        let mut serial = self.serial();
        self.rouse().map_err(ExecError::Machine)?;
        let answer = serial.call(
            kind::SPAWN,
            line.as_bytes(),
            Some(until),
            &command.cancel,
            &mut |bytes| output(Stream::Out, bytes),
        );
        if answer.as_ref().is_err_and(serial::is_end) {
            // Its guest turned itself off: a monitor on its way out may answer nothing, and never end.
            self.body.machine.end();
        } else {
            self.rest();
        }
        let (kind, payload) = answer?;
        match (kind, payload.first_chunk::<4>()) {
            (kind::EXIT, Some(code)) => Ok(i32::from_le_bytes(*code)),
            _ => Err(io::Error::other(String::from_utf8_lossy(&payload).into_owned()).into()),
        }
    }

    fn begin(&self, _: &Command, _: Option<(u32, u32)>) -> Result<Box<dyn Running>, ExecError> {
        self.check()?;
        Err(ExecError::Lacks(
            "commands that are talked to: its guest has no operating system",
        ))
    }

    fn sftp(&self) -> Result<Box<dyn Running>, ExecError> {
        self.check()?;
        Err(ExecError::Lacks(NO_FILES))
    }

    fn read(&self, path: &str) -> Result<Vec<u8>, FileError> {
        Err(no_files(path))
    }

    fn write(&self, path: &str, _: u32, _: &[u8]) -> Result<(), FileError> {
        Err(no_files(path))
    }

    fn connect(&self, _: u16) -> Result<TcpStream, ExecError> {
        self.check()?;
        Err(ExecError::Lacks(
            "servers: its guest has no operating system",
        ))
    }

    fn pause(&self) -> Result<(), ExecError> {
        if self.is_over() {
            return Err(ExecError::Gone(self.body.id.clone()));
        }
        let mut api = self.body.machine.api();
        if !self.stands() {
            api.pause().map_err(ExecError::Machine)?;
        }
        self.paused.store(true, Ordering::Release);
        Ok(())
    }

    fn resume(&self) -> Result<(), ExecError> {
        if self.is_over() {
            return Err(ExecError::Gone(self.body.id.clone()));
        }
        let mut api = self.body.machine.api();
        self.paused.store(false, Ordering::Release);
        if !self.stands() {
            api.resume().map_err(ExecError::Machine)?;
        }
        Ok(())
    }

    fn snapshot(&self, name: Option<&str>) -> Result<Snapshot, SnapshotError> {
        self.body.keep(name, |folder, kind| {
            Ok(Taken {
                pause_ms: self.body.picture(folder, kind, || self.stands())?,
                image: GUEST.into(),
                closed: Vec::new(),
                spec: self.body.spec.clone(),
                linux: None,
            })
        })
    }

    fn resize_disk(&self, _: u32) -> Result<(), ResizeError> {
        Err(ResizeError::Lacks)
    }

    fn reboot(&self, spec: &Spec) -> Result<Arc<dyn Sandbox>, CreateError> {
        self.body.inner.check(spec)?;
        let disk =
            File::open(self.body.machine.root.join(DISK)).map_err(|source| CreateError::Io {
                doing: "opening its disk",
                source,
            })?;
        let next = World::cold(&self.body.inner, spec, Some(&disk))?;
        self.destroy();
        Ok(self.body.inner.admit(next))
    }

    fn stats(&self) -> Stats {
        self.body.stats()
    }

    fn destroy(&self) {
        self.body.destroy();
    }
}

fn no_files(path: &str) -> FileError {
    FileError::Io {
        path: path.into(),
        source: io::Error::new(
            io::ErrorKind::Unsupported,
            format!("this world has no {NO_FILES}"),
        ),
    }
}
