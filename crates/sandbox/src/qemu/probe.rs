//! What runs machines here, shown by booting one: a few instructions in the place of a firmware, which say that
//! they begin, count for a while and end their machine. Some hosts have a KVM that runs each instruction of a
//! machine by hand; a machine that only counts takes a fraction of a second anywhere else.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use super::monitor::{Accelerator, DEVICE, PROGRAM, anonymous, nobody, set_apart};
use crate::host;

/// How long a monitor may take to begin.
const BEGIN: Duration = Duration::from_secs(20);
/// How long KVM may take to count. A processor that runs machines takes a fiftieth; by hand it takes twenty
/// times as long.
const KVM: Duration = Duration::from_millis(1500);
/// How long translation may take.
const TCG: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(5);
/// What the machine ends with, and what its monitor makes of that: twice as much, and one.
const WORD: u8 = 42;
const ENDED: i32 = 2 * WORD as i32 + 1;

/// A firmware of 64 KiB, as the processor finds it when it starts.
fn firmware() -> Vec<u8> {
    const SIZE: usize = 64 << 10;
    const CODE: usize = 0xff00;
    const START: usize = 0xfff0;
    #[rustfmt::skip]
    let code = [
        0xb0, WORD, 0xe6, 0xe9,             // a sign, to `isa-debugcon`
        0x66, 0xb9, 0x00, 0x2d, 0x31, 0x01, // mov ecx, 20_000_000
        0x66, 0x49, 0x75, 0xfc,             // dec ecx; jnz to that
        0xba, 0xf4, 0x00, 0xb0, WORD, 0xee, // the word, to `isa-debug-exit`
        0xf4,                               // hlt
    ];
    let mut image = vec![0; SIZE];
    image[CODE..CODE + code.len()].copy_from_slice(&code);
    let back = (CODE as i32 - (START as i32 + 3)) as i16;
    image[START] = 0xe9; // jmp
    image[START + 1..START + 3].copy_from_slice(&back.to_le_bytes());
    image
}

/// How instructions are executed on this host: by KVM where a machine runs under it, else by translation,
/// and why. It is found out once.
pub(super) fn chosen() -> &'static (Accelerator, String) {
    static CHOSEN: OnceLock<(Accelerator, String)> = OnceLock::new();
    CHOSEN.get_or_init(|| match kvm() {
        Ok(_) => (Accelerator::Kvm, String::new()),
        Err(why) => (Accelerator::Tcg, why),
    })
}

/// How long the machine took under KVM, or why it does not run.
pub(super) fn kvm() -> Result<Duration, String> {
    let opened = File::options().read(true).write(true).open(DEVICE);
    opened.map_err(|error| format!("{DEVICE}: {error}"))?;
    boot(Accelerator::Kvm, KVM)
}

/// How long the machine took by translation, or why it does not run.
pub(super) fn translation() -> Result<Duration, String> {
    boot(Accelerator::Tcg, TCG)
}

/// Boots it as monitors are, on a thread that is set apart.
fn boot(accelerator: Accelerator, limit: Duration) -> Result<Duration, String> {
    let apart = move || {
        set_apart(accelerator);
        count(accelerator, limit)
    };
    let ended = thread::Builder::new().name("probe".into()).spawn(apart);
    let ended = ended.map_err(|error| format!("starting a thread: {error}"))?;
    ended
        .join()
        .unwrap_or_else(|_| Err("its thread ended".into()))
}

fn count(accelerator: Accelerator, limit: Duration) -> Result<Duration, String> {
    let begun = Instant::now();
    let mut child = start(accelerator).map_err(|error| format!("{PROGRAM}: {error}"))?;
    await_sign(&mut child);
    let ended = wait(&mut child, Instant::now() + limit);
    // It has ended, or is late.
    let _ = child.kill();
    let _ = child.wait();
    let mut said = Vec::new();
    if let Some(mut output) = child.stderr.take() {
        let _ = output.read_to_end(&mut said);
    }
    match ended.map_err(|error| error.to_string())? {
        Some(ENDED) => Ok(begun.elapsed()),
        Some(code) => Err(format!(
            "a machine ended with {code}: {}",
            String::from_utf8_lossy(&said).trim()
        )),
        None => Err(format!(
            "a machine that has only to count had not done so after {:.1} s",
            limit.as_secs_f64()
        )),
    }
}

fn start(accelerator: Accelerator) -> io::Result<Child> {
    let image = anonymous("worldline-firmware")?;
    (&image).write_all(&firmware())?;
    let engine = accelerator.to_string();
    let mut command = Command::new(PROGRAM);
    command
        .args([
            "-machine",
            "pc",
            "-accel",
            &engine,
            "-m",
            "16",
            "-bios",
            "/proc/self/fd/3",
        ])
        .args(["-nodefaults", "-no-user-config", "-display", "none"])
        .args(["-chardev", "stdio,id=sign,signal=off"])
        .args(["-device", "isa-debugcon,iobase=0xe9,chardev=sign"])
        .args(["-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"])
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if let Some((user, group)) = nobody(accelerator) {
        command.uid(user).gid(group);
    }
    host::give(&mut command, vec![image.into()]);
    host::end_with_this_thread(&mut command);
    command.spawn()
}

/// Waits until the machine says that it begins, or its monitor has ended, or is late.
fn await_sign(child: &mut Child) {
    let (says, sign) = channel();
    if let Some(mut output) = child.stdout.take() {
        thread::spawn(move || {
            let _ = output.read(&mut [0]);
            // Nobody may wait for it any more.
            let _ = says.send(());
        });
    }
    let _ = sign.recv_timeout(BEGIN);
}

/// The exit code; nothing of what has not ended until then.
fn wait(child: &mut Child, until: Instant) -> io::Result<Option<i32>> {
    loop {
        match child.try_wait()? {
            Some(status) => return Ok(Some(status.code().unwrap_or(-1))),
            None if Instant::now() >= until => return Ok(None),
            None => thread::sleep(POLL),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_counts_where_there_is_a_monitor() {
        if !crate::bench::on_path(PROGRAM) {
            return eprintln!("IGNORED: there is no {PROGRAM}");
        }
        translation().unwrap();
        let late = boot(Accelerator::Tcg, Duration::ZERO).unwrap_err();
        assert!(late.contains("0.0 s"), "{late}");
    }
}
