//! Commands, files, and servers inside.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use worldline_sandbox::{Backend, Command, ExecError, Said};

use crate::{Play, Promise, quiet, world};

pub(crate) const PROMISES: &[Promise] = &[
    (
        "folder_and_environment_persist_from_line_to_line",
        folder_and_environment_persist_from_line_to_line,
    ),
    (
        "a_command_has_arguments_an_input_and_an_exit_code",
        a_command_has_arguments_an_input_and_an_exit_code,
    ),
    (
        "a_command_ends_with_its_time_or_its_caller",
        a_command_ends_with_its_time_or_its_caller,
    ),
    ("much_output_arrives_whole", much_output_arrives_whole),
    (
        "a_terminal_is_typed_at_resized_and_hung_up",
        a_terminal_is_typed_at_resized_and_hung_up,
    ),
    ("files_go_in_and_out", files_go_in_and_out),
    (
        "a_server_inside_can_be_reached",
        a_server_inside_can_be_reached,
    ),
    ("a_paused_world_stands_still", a_paused_world_stands_still),
    ("an_ended_world_says_so", an_ended_world_says_so),
];

fn folder_and_environment_persist_from_line_to_line(backend: &dyn Backend) {
    let world = world(backend);
    assert_eq!(world.line("cd /tmp; export A='b c'; exit 3").0, 3);
    assert_eq!(world.line("pwd; echo \"$A\""), (0, "/tmp\nb c\n".into()));
    assert_eq!(world.line("cd /nowhere").0, 1);
    assert_eq!(world.line("pwd").1, "/tmp\n");
}

fn a_command_has_arguments_an_input_and_an_exit_code(backend: &dyn Backend) {
    let world = world(backend);
    let run = |command: &Command| {
        let mut printed = Vec::new();
        let code = world
            .exec(command, &mut |_, bytes| printed.extend_from_slice(bytes))
            .unwrap();
        (code, String::from_utf8_lossy(&printed).into_owned())
    };
    assert_eq!(
        run(&Command::argv(["printf", "%s|", "a b", "$HOME", ""])),
        (0, "a b|$HOME||".into())
    );
    assert_eq!(
        run(&Command {
            input: b"xyz".to_vec(),
            ..Command::argv(["cat", "-"])
        }),
        (0, "xyz".into())
    );
    let with = Command {
        environment: vec![("K".into(), "v".into())],
        ..Command::line("echo $K")
    };
    assert_eq!(run(&with), (0, "v\n".into()));
    assert_eq!(run(&Command::argv(["no-such-program", "x"])).0, 127);
    assert_eq!(run(&Command::argv(["/etc/passwd", "x"])).0, 126);
    assert_eq!(run(&Command::line("kill -TERM $$")).0, 143);
    assert!(matches!(
        world.exec(&Command::argv(["a\0b", "c"]), &mut quiet),
        Err(ExecError::NoCommand)
    ));
    assert!(matches!(
        world.exec(&Command::argv([""]), &mut quiet),
        Err(ExecError::NoCommand)
    ));
    assert_ne!(run(&Command::argv(["printf", "\u{1}\u{7f}ü%d", "x"])).1, "");
}

fn a_command_ends_with_its_time_or_its_caller(backend: &dyn Backend) {
    let world = world(backend);
    let begun = Instant::now();
    let late = Command {
        timeout: Some(Duration::from_millis(200)),
        ..Command::line("sleep 60 & sleep 60")
    };
    assert_eq!(world.exec(&late, &mut quiet).unwrap(), 124);
    let cancelled = Command::line("sleep 60");
    let cancel = cancelled.cancel.clone();
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(200));
        cancel.cancel();
    });
    assert_eq!(world.exec(&cancelled, &mut quiet).unwrap(), 137);
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_eq!(world.line("pgrep -c sleep").1, "0\n");
}

fn much_output_arrives_whole(backend: &dyn Backend) {
    let world = world(backend);
    let (code, printed) = world.line("seq 1 300000");
    assert_eq!((code, printed.lines().count()), (0, 300_000));
    assert!(printed.ends_with("\n300000\n"));
}

fn a_terminal_is_typed_at_resized_and_hung_up(backend: &dyn Backend) {
    let world = world(backend);
    let terminal = world
        .terminal(&Command::argv(["bash", "--norc", "-i"]), 24, 80)
        .unwrap();
    let until = |wanted: &str| {
        let (begun, mut heard) = (Instant::now(), String::new());
        while !heard.contains(wanted) {
            assert!(
                begun.elapsed() < Duration::from_secs(20),
                "{wanted}: {heard}"
            );
            if let Some(Said::Bytes(bytes)) = terminal.next(Duration::from_millis(100)).unwrap() {
                heard.push_str(&String::from_utf8_lossy(&bytes));
            }
        }
    };
    terminal.write(b"tty; stty size\n").unwrap();
    until("24 80");
    terminal.resize(50, 132).unwrap();
    terminal.write(b"stty size; sleep 600\n").unwrap();
    until("50 132");
    // Ctrl-C: it may come before what it is to end, and it empties what was typed before it.
    let begun = Instant::now();
    let mut heard = String::new();
    while !heard.contains("42") {
        assert!(begun.elapsed() < Duration::from_secs(20), "{heard}");
        terminal.write(&[3]).unwrap();
        std::thread::sleep(Duration::from_millis(300));
        terminal.write(b"echo $((6 * 7))\n").unwrap();
        while let Some(Said::Bytes(bytes)) = terminal.next(Duration::from_millis(300)).unwrap() {
            heard.push_str(&String::from_utf8_lossy(&bytes));
        }
    }
    drop(terminal);
    let begun = Instant::now();
    while world.line("pgrep -c bash").1.trim() != "1" {
        assert!(begun.elapsed() < Duration::from_secs(10));
    }
    let short = world.terminal(&Command::line("exit 7"), 1, 1).unwrap();
    let ended = std::iter::repeat_with(|| short.next(Duration::from_secs(5)).unwrap());
    assert_eq!(
        ended.flatten().find(|said| matches!(said, Said::Ended(_))),
        Some(Said::Ended(7))
    );
}

fn files_go_in_and_out(backend: &dyn Backend) {
    let world = world(backend);
    let bytes: Vec<u8> = (0..3_000_000u32).map(|at| (at % 251) as u8).collect();
    for path in ["/srv/a", "/tmp/ein Ordner ü", "/tmp/\u{1f30d}"] {
        world.write(path, 0o640, &bytes).unwrap();
        assert_eq!(world.read(path).unwrap(), bytes);
    }
    assert_eq!(world.line("stat -c %a /srv/a").1, "640\n");
    world.write("/srv/a", 0o600, b"").unwrap();
    assert!(world.read("/srv/a").unwrap().is_empty());
    for path in ["/nowhere/a", "", "a\0b"] {
        assert!(world.write(path, 0o600, b"x").is_err(), "{path:?}");
    }
    assert!(world.read("/root").is_err());
    world.line("mkfifo /tmp/pipe");
    assert!(world.read("/tmp/pipe").unwrap().is_empty());
}

fn a_server_inside_can_be_reached(backend: &dyn Backend) {
    let (one, other) = (world(backend), world(backend));
    one.line("cd /tmp; echo hello > f; (python3 -m http.server 8000 >/dev/null 2>&1 &)");
    let begun = Instant::now();
    let mut stream = loop {
        match one.connect(8000) {
            Ok(stream) => break stream,
            Err(error) => assert!(begun.elapsed() < Duration::from_secs(20), "{error}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    stream.write_all(b"GET /f HTTP/1.0\r\n\r\n").unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    assert!(
        reply.starts_with("HTTP/1.0 200") && reply.ends_with("hello\n"),
        "{reply}"
    );
    assert!(other.connect(8000).is_err());
}

fn a_paused_world_stands_still(backend: &dyn Backend) {
    let world = world(backend);
    world.line("(while :; do echo x >> /tmp/ticks; sleep 0.01; done) &");
    std::thread::sleep(Duration::from_millis(200));
    world.pause().unwrap();
    assert!(matches!(
        world.exec(&Command::line("true"), &mut quiet),
        Err(ExecError::Paused(_))
    ));
    let used = world.stats().cpu_seconds;
    std::thread::sleep(Duration::from_millis(300));
    assert!(world.stats().cpu_seconds - used < 0.02);
    world.resume().unwrap();
    let count = |world: &dyn worldline_sandbox::Sandbox| {
        world
            .line("wc -l < /tmp/ticks")
            .1
            .trim()
            .parse::<u32>()
            .unwrap()
    };
    let before = count(&*world);
    std::thread::sleep(Duration::from_millis(300));
    assert!(count(&*world) > before);
}

fn an_ended_world_says_so(backend: &dyn Backend) {
    let world = world(backend);
    world.destroy();
    world.destroy();
    assert!(matches!(
        world.exec(&Command::line("true"), &mut quiet),
        Err(ExecError::Gone(_))
    ));
    assert!(world.read("/etc/passwd").is_err());
    assert!(world.snapshot(None).is_err());
    assert!(world.pause().is_err());
}
