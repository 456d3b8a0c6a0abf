//! Commands, files, and servers inside.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use worldline_sandbox::{Backend, Command, ExecError, ResizeError, Running, Said, Spec, Stream};

use crate::{Play, Promise, quiet, world};

pub(crate) const PROMISES: &[Promise] = &[
    (
        "a_slow_listener_keeps_nobody_waiting",
        a_slow_listener_keeps_nobody_waiting,
    ),
    (
        "a_file_without_an_end_is_refused",
        a_file_without_an_end_is_refused,
    ),
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
    (
        "a_command_reads_what_it_is_given_while_it_runs",
        a_command_reads_what_it_is_given_while_it_runs,
    ),
    ("files_go_in_and_out", files_go_in_and_out),
    ("files_go_by_sftp", files_go_by_sftp),
    (
        "a_server_inside_can_be_reached",
        a_server_inside_can_be_reached,
    ),
    ("a_paused_world_stands_still", a_paused_world_stands_still),
    (
        "a_disk_is_resized_while_it_is_used",
        a_disk_is_resized_while_it_is_used,
    ),
    (
        "a_reboot_keeps_the_disk_alone",
        a_reboot_keeps_the_disk_alone,
    ),
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
    // A reader that goes away ends its writer, as everywhere.
    assert_eq!(
        run(&Command::line("yes | head -1; echo ${PIPESTATUS[0]}")).1,
        "y\n141\n"
    );
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
    assert!(begun.elapsed() < Duration::from_secs(60));
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
        .begin(&Command::argv(["bash", "--norc", "-i"]), Some((24, 80)))
        .unwrap();
    let until = |wanted: &str| {
        let (begun, mut heard) = (Instant::now(), String::new());
        while !heard.contains(wanted) {
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "{wanted}: {heard}"
            );
            if let Some(Said::Bytes(_, bytes)) = terminal.next(Duration::from_millis(100)).unwrap()
            {
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
        assert!(begun.elapsed() < Duration::from_secs(60), "{heard}");
        terminal.write(&[3]).unwrap();
        std::thread::sleep(Duration::from_millis(300));
        terminal.write(b"echo $((6 * 7))\n").unwrap();
        // A busy machine takes its time to answer, and another Ctrl-C would take the question back.
        while let Some(Said::Bytes(_, bytes)) = terminal.next(Duration::from_secs(2)).unwrap() {
            heard.push_str(&String::from_utf8_lossy(&bytes));
        }
    }
    drop(terminal);
    let begun = Instant::now();
    while world.line("pgrep -c bash").1.trim() != "1" {
        assert!(begun.elapsed() < Duration::from_secs(60));
    }
    let short = world.begin(&Command::line("exit 7"), Some((1, 1))).unwrap();
    let ended = std::iter::repeat_with(|| short.next(Duration::from_secs(5)).unwrap());
    assert_eq!(
        ended.flatten().find(|said| matches!(said, Said::Ended(_))),
        Some(Said::Ended(7))
    );
}

/// All that it says until it ends, out and error apart, and its exit code.
fn hear_out(running: &dyn Running) -> (Vec<u8>, Vec<u8>, i32) {
    let (mut out, mut error) = (Vec::new(), Vec::new());
    loop {
        match running.next(Duration::from_secs(20)).unwrap() {
            Some(Said::Bytes(Stream::Out, bytes)) => out.extend(bytes),
            Some(Said::Bytes(Stream::Error, bytes)) => error.extend(bytes),
            Some(Said::Ended(code)) => return (out, error, code),
            None => {}
        }
    }
}

fn a_command_reads_what_it_is_given_while_it_runs(backend: &dyn Backend) {
    let world = world(backend);
    let command = Command::argv(["sh", "-c", "sleep 0.5; tee /tmp/got; echo done >&2; exit 3"]);
    let running = world.begin(&command, None).unwrap();
    // More than any pipe or queue holds, so that its writer has to wait for it.
    let bytes: Vec<u8> = (0..8_000_000u32).map(|at| (at % 249) as u8).collect();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            running.write(&bytes).unwrap();
            running.write(&[]).unwrap();
        });
        let (out, error, code) = hear_out(&*running);
        assert!(out == bytes, "{} of {} bytes", out.len(), bytes.len());
        assert_eq!((&error[..], code), (&b"done\n"[..], 3));
    });
    assert!(world.read("/tmp/got").unwrap() == bytes);
    // One that is signalled, and one that is hung up.
    let sleeper = world.begin(&Command::argv(["sleep", "600"]), None).unwrap();
    sleeper.signal(15).unwrap();
    assert_eq!(hear_out(&*sleeper).2, 143);
    drop(world.begin(&Command::argv(["sleep", "600"]), None).unwrap());
    world.snapshot(None).unwrap();
}

fn files_go_by_sftp(backend: &dyn Backend) {
    let world = world(backend);
    let sftp = world.sftp().unwrap();
    let string = |text: &[u8]| [&(text.len() as u32).to_be_bytes(), text].concat();
    let ask = |kind: u8, parts: &[&[u8]]| {
        let body = parts.concat();
        let length = (body.len() as u32 + 1).to_be_bytes();
        sftp.write(&[&length[..], &[kind], &body].concat()).unwrap();
        let mut heard = Vec::new();
        loop {
            if let Some(length) = heard.first_chunk::<4>() {
                let end = 4 + u32::from_be_bytes(*length) as usize;
                if heard.len() >= end {
                    return heard[4..].to_vec();
                }
            }
            match sftp.next(Duration::from_secs(20)).unwrap() {
                Some(Said::Bytes(_, bytes)) => heard.extend(bytes),
                Some(Said::Ended(code)) => panic!("it ended with {code}"),
                None => {}
            }
        }
    };
    let number = 7u32.to_be_bytes();
    let is = |answer: &[u8], code: u8| {
        assert_eq!((answer[0], answer[8]), (101, code), "{answer:?}");
    };
    assert_eq!(ask(1, &[&3u32.to_be_bytes()])[..5], [2, 0, 0, 0, 3]);
    // Make a file, write it, read it back, look at it.
    let (name, mode) = ("/tmp/ein ü", [0, 0, 0, 4, 0, 0, 0o1, 0o200u8]);
    let path = string(name.as_bytes());
    let opened = ask(3, &[&number, &path, &0x1bu32.to_be_bytes(), &mode]);
    assert_eq!(opened[0], 102);
    let handle = &opened[5..];
    is(&ask(6, &[&number, handle, &[0; 8], &string(b"hello")]), 0);
    let read = ask(
        5,
        &[
            &number,
            handle,
            &[0, 0, 0, 0, 0, 0, 0, 1],
            &9u32.to_be_bytes(),
        ],
    );
    assert_eq!(read[5..], string(b"ello"));
    is(
        &ask(
            5,
            &[
                &number,
                handle,
                &[0, 0, 0, 0, 0, 0, 0, 5],
                &9u32.to_be_bytes(),
            ],
        ),
        1,
    );
    is(&ask(4, &[&number, handle]), 0);
    assert_eq!(world.line("stat -c '%a %s' '/tmp/ein ü'").1, "600 5\n");
    assert_eq!(ask(17, &[&number, &path])[9..17], 5u64.to_be_bytes());
    // What is not there, what is nothing, and what makes no sense.
    is(&ask(17, &[&number, &string(b"/nowhere")]), 2);
    is(&ask(4, &[&number, handle]), 5);
    is(&ask(99, &[&number]), 8);
    is(&ask(3, &[&number, &[0xff; 4]]), 5);
    // The rest of a folder's life.
    is(&ask(14, &[&number, &string(b"/tmp/d"), &[0; 4]]), 0);
    is(&ask(18, &[&number, &path, &string(b"/tmp/d/f")]), 0);
    is(&ask(20, &[&number, &string(b"f"), &string(b"/tmp/d/l")]), 0);
    assert_eq!(world.line("cat /tmp/d/l").1, "hello");
    let folder = ask(11, &[&number, &string(b"/tmp/d")]);
    let listed = ask(12, &[&number, &folder[5..]]);
    assert_eq!((listed[0], &listed[5..9]), (104, &4u32.to_be_bytes()[..]));
    is(&ask(12, &[&number, &folder[5..]]), 1);
    is(&ask(13, &[&number, &string(b"/tmp/d/f")]), 0);
    is(&ask(15, &[&number, &string(b"/tmp/d")]), 4);
    // Confined as every command is. Whoever is in a machine may write what is the machine's.
    if backend.name() == "process" {
        let foreign = string(b"/proc/sys/kernel/hostname");
        is(
            &ask(3, &[&number, &foreign, &2u32.to_be_bytes(), &[0; 4]]),
            3,
        );
    }
    drop(sftp);
    world.snapshot(None).unwrap();
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
            Err(error) => assert!(begun.elapsed() < Duration::from_secs(120), "{error}"),
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
    let (before, resumed) = (count(&*world), Instant::now());
    while count(&*world) == before {
        assert!(resumed.elapsed() < Duration::from_secs(60), "it goes on");
    }
}

fn a_disk_is_resized_while_it_is_used(backend: &dyn Backend) {
    let small = Spec {
        disk_mib: 32,
        ..Spec::default()
    };
    let world = backend.create(&small).unwrap();
    let write = "head -c 40M /dev/zero > /srv/file";
    assert_ne!(world.line(write).0, 0);
    world.line("rm /srv/file");
    world.resize_disk(96).unwrap();
    assert_eq!(world.line(write).0, 0);
    assert_eq!(
        world.value("open('/srv/more', 'wb').write(bytes(40 << 20))"),
        (40 << 20).to_string()
    );
    // The limit is looked at every second; a world that is within it goes on.
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(world.value("1"), "1");
    assert!(matches!(
        world.resize_disk(64),
        Err(ResizeError::Full {
            written: 80..,
            asked: 64
        })
    ));
    assert!(matches!(
        world.resize_disk(1),
        Err(ResizeError::Size { asked: 1 })
    ));
    assert_eq!(world.snapshot(None).unwrap().spec.disk_mib, 96);
}

fn a_reboot_keeps_the_disk_alone(backend: &dyn Backend) {
    let first = world(backend);
    first.line("echo kept > /srv/file; rm /etc/hosts; mkdir /srv/d; export WORD=here; cd /srv");
    first.value("x = 1");
    let origin = first.snapshot(None).unwrap();
    let second = backend.restore(&origin.id, &Spec::default()).unwrap();
    second.line("echo more >> /srv/file; rmdir /srv/d; nohup sleep 600 > /dev/null 2>&1 &");
    let spec = Spec {
        memory_mib: 777,
        ..Spec::default()
    };
    let third = second.reboot(&spec).unwrap();
    assert!(matches!(
        second.exec(&Command::line("true"), &mut quiet),
        Err(ExecError::Gone(_))
    ));
    assert_eq!(
        third.line(
            "cat /srv/file; ls /srv; ls /etc/hosts 2>&1 | wc -l; pgrep sleep; pwd; echo .$WORD"
        ),
        (0, "kept\nmore\nfile\n1\n/root\n.\n".into())
    );
    assert_eq!(third.value("'x' in globals()"), "False");
    assert_eq!(third.origin(), Some(origin.id.as_str()));
    // What cannot begin leaves what there is.
    let wrong = Spec {
        memory_mib: 1,
        ..Spec::default()
    };
    assert!(third.reboot(&wrong).is_err());
    assert_eq!(third.line("cat /srv/file").1, "kept\nmore\n");
    let kept = third.snapshot(None).unwrap();
    let fourth = backend.restore(&kept.id, &Spec::default()).unwrap();
    assert_eq!(fourth.line("cat /srv/file").1, "kept\nmore\n");
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

fn a_slow_listener_keeps_nobody_waiting(backend: &dyn Backend) {
    let world = world(backend);
    let talks = Command::line("while head -c 1048576 /dev/zero; do echo >> /tmp/told; done");
    let talker = world.begin(&talks, None).unwrap();
    let told = || -> usize {
        world
            .line("wc -l < /tmp/told")
            .1
            .trim()
            .parse()
            .unwrap_or(0)
    };
    // It stops talking when nobody listens, and all others go on.
    let (mut before, mut now) = (usize::MAX, told());
    let begun = std::time::Instant::now();
    while now != before || now == 0 {
        assert!(
            begun.elapsed().as_secs() < 60,
            "it told {now} MiB to nobody"
        );
        std::thread::sleep(std::time::Duration::from_millis(300));
        (before, now) = (now, told());
    }
    assert!(now < 32, "it told {now} MiB to nobody");
    assert_eq!(world.value("6 * 7"), "42");
    // And goes on when someone does.
    while told() <= now + 4 {
        assert!(
            talker
                .next(std::time::Duration::from_secs(20))
                .unwrap()
                .is_some()
        );
    }
}

fn a_file_without_an_end_is_refused(backend: &dyn Backend) {
    let world = world(backend);
    assert!(world.read("/dev/zero").is_err());
    assert_eq!(world.value("6 * 7"), "42");
}
