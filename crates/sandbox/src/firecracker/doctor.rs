//! Whether this host runs machines: shown by running one.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use super::{Firecracker, linux};
use crate::error::CreateError;
use crate::image::DEFAULT;
use crate::model::{Capability, Command, Report, Spec};
use crate::{Backend, Sandbox};

/// How long Linux may take to begin, for a host that can run it: where the processor itself runs it, that takes
/// a second or two.
const LINUX: Duration = Duration::from_secs(10);
/// What the probe's guest says.
const WORD: &str = "here";

pub(super) fn report(backend: &Firecracker) -> Report {
    let mut all = Vec::new();
    let mut say = |name, present: Result<String, String>| {
        all.push(Capability {
            name,
            present: present.is_ok(),
            note: present.unwrap_or_else(|why| why),
        });
    };
    let inner = &backend.inner;
    say("firecracker", Ok(inner.monitor.clone()));
    say(
        "kvm",
        open("/dev/kvm").map_or_else(
            |error| Err(format!("no machine can be made: /dev/kvm: {error}")),
            |_| Ok("the processor's own walls between machines".into()),
        ),
    );
    let probed = probe(backend);
    let usable = probed.is_ok();
    say(
        "guest",
        probed.map(|()| {
            "a machine without an operating system began, was kept, and went on in a branch".into()
        }),
    );
    say(
        "linux",
        if usable {
            probe_linux(backend, LINUX).map(|()| "a machine with Linux began".into())
        } else {
            Err("no machine runs, so none with Linux".into())
        },
    );
    say(
        "jail",
        match &inner.host.jail {
            Some(jail) => Ok(format!(
                "monitors have an empty root, and user {}",
                jail.user
            )),
            None => Err(
                "monitors run as you: name the jailer, as the administrator, to wall them in"
                    .into(),
            ),
        },
    );
    say(
        "network",
        open("/dev/net/tun").map_or_else(
            |error| {
                Err(format!(
                    "machines have no network card: /dev/net/tun: {error}"
                ))
            },
            |_| Ok("each machine can have a card in a network of its own, with a jail".into()),
        ),
    );
    Report {
        backend: backend.name(),
        usable,
        capabilities: all,
    }
}

fn open(device: &str) -> std::io::Result<File> {
    File::options()
        .read(true)
        .write(true)
        .open(Path::new(device))
}

/// Begins a machine with Linux.
pub(super) fn probe_linux(backend: &Firecracker, within: Duration) -> Result<(), String> {
    let inner = &backend.inner;
    let words = |error: CreateError| format!("no machine with Linux runs: {error}");
    let image = inner.image(Some(DEFAULT)).map_err(words)?;
    let image = image.ok_or("no machine with Linux runs: there is no image")?;
    let parts = inner.parts(&image).map_err(words)?;
    let spec = Spec {
        memory_mib: *super::LINUX_MIB.start(),
        ..Spec::default()
    };
    linux::World::boot(inner, &spec, &parts, within)
        .map(drop)
        .map_err(words)
}

/// Begins a machine, keeps it, and goes on from there.
pub(super) fn probe(backend: &Firecracker) -> Result<(), String> {
    let spec = Spec {
        memory_mib: *crate::limits::MEMORY_MIB.start(),
        disk_mib: *crate::limits::DISK_MIB.start(),
        image: Some(super::GUEST.into()),
        ..Spec::default()
    };
    let words = |error: &dyn std::error::Error| format!("no machine runs: {error}");
    let world = backend.create(&spec).map_err(|error| words(&error))?;
    answers(&*world)?;
    let snapshot = world.snapshot(None).map_err(|error| words(&error))?;
    let branch = backend.restore(&snapshot.id, &spec);
    let answered = match &branch {
        Ok(branch) => answers(&**branch),
        Err(error) => Err(words(error)),
    };
    backend
        .remove_snapshot(&snapshot.id)
        .map_err(|error| words(&error))?;
    answered
}

fn answers(world: &dyn Sandbox) -> Result<(), String> {
    let mut said = Vec::new();
    let line = Command::line(format!("echo {WORD}"));
    let code = world.exec(&line, &mut |_, bytes| said.extend_from_slice(bytes));
    match code {
        Ok(0) if said.trim_ascii() == WORD.as_bytes() => Ok(()),
        Ok(code) => Err(format!("the guest answered nonsense, and {code}")),
        Err(error) => Err(format!("the guest does not answer: {error}")),
    }
}
