//! Python cells.

use std::time::{Duration, Instant};

use worldline_sandbox::{Backend, Cell, ExecError, Spec, Stream};

use crate::{Play, Promise, quiet, world};

pub(crate) const PROMISES: &[Promise] = &[
    (
        "globals_persist_from_cell_to_cell",
        globals_persist_from_cell_to_cell,
    ),
    (
        "output_comes_as_it_is_written_and_the_last_value_is_told",
        output_comes_as_it_is_written_and_the_last_value_is_told,
    ),
    ("an_error_has_its_traceback", an_error_has_its_traceback),
    ("figures_come_as_png", figures_come_as_png),
    (
        "a_cell_that_takes_too_long_is_interrupted_and_loses_nothing",
        a_cell_that_takes_too_long_is_interrupted_and_loses_nothing,
    ),
    (
        "a_cell_that_catches_interrupts_is_ended",
        a_cell_that_catches_interrupts_is_ended,
    ),
    (
        "an_interpreter_that_dies_is_told_and_replaced",
        an_interpreter_that_dies_is_told_and_replaced,
    ),
    (
        "a_cell_that_needs_too_much_memory_is_ended_alone",
        a_cell_that_needs_too_much_memory_is_ended_alone,
    ),
    ("absurd_sizes_are_refused", absurd_sizes_are_refused),
];

fn globals_persist_from_cell_to_cell(backend: &dyn Backend) {
    let world = world(backend);
    world.value("import math\nx = [1]\ndef f(n):\n    return n + len(x)");
    assert_eq!(world.value("x.append(2); f(40)"), "42");
    assert_eq!(world.value("_ + math.floor(0.5)"), "42");
}

fn output_comes_as_it_is_written_and_the_last_value_is_told(backend: &dyn Backend) {
    let world = world(backend);
    let mut heard = Vec::new();
    let begun = Instant::now();
    let code = "import sys, time, os\nprint('a')\ntime.sleep(0.4)\nprint('b', file=sys.stderr)\nos.system('echo c')\n'ü'";
    let outcome = world
        .run(&Cell::new(code), &mut |stream, bytes| {
            heard.push((
                stream,
                String::from_utf8_lossy(bytes).into_owned(),
                begun.elapsed(),
            ))
        })
        .unwrap();
    assert_eq!(outcome.value.as_deref(), Some("'ü'"));
    let text = |wanted| {
        heard
            .iter()
            .filter(|one| one.0 == wanted)
            .map(|one| one.1.as_str())
            .collect::<String>()
    };
    assert_eq!(
        (text(Stream::Out), text(Stream::Error)),
        ("a\nc\n".to_owned(), "b\n".to_owned())
    );
    assert!(
        heard[0].2 < heard.last().unwrap().2 - Duration::from_millis(200),
        "{heard:?}"
    );
    assert_eq!(world.value("None"), "");
}

fn an_error_has_its_traceback(backend: &dyn Backend) {
    let world = world(backend);
    let (outcome, _) = world.cell("kept = 1\ndef f():\n    return 1 / 0\nf()");
    let error = outcome.error.unwrap();
    assert_eq!(
        (outcome.status.as_str(), error.name.as_str()),
        ("error", "ZeroDivisionError")
    );
    assert!(
        error.traceback.contains("return 1 / 0") && !error.traceback.contains("kernel"),
        "{}",
        error.traceback
    );
    assert_eq!(world.cell("1 +").0.error.unwrap().name, "SyntaxError");
    assert_eq!(world.value("kept"), "1");
}

fn figures_come_as_png(backend: &dyn Backend) {
    let world = world(backend);
    let (outcome, _) = world
        .cell("import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.figure(); plt.plot([3])");
    assert_eq!(outcome.images.len(), 2);
    const PNG: &str = "iVBORw0KGgo";
    assert!(outcome.images.iter().all(|image| image.starts_with(PNG)));
    assert!(world.cell("1").0.images.is_empty());
}

fn a_cell_that_takes_too_long_is_interrupted_and_loses_nothing(backend: &dyn Backend) {
    let world = world(backend);
    world.value("n = 0");
    let begun = Instant::now();
    // Long enough for the cell to have begun.
    let cell = Cell::new("while True: n += 1").within(Duration::from_secs(1));
    assert_eq!(world.run(&cell, &mut quiet).unwrap().status, "interrupted");
    assert!(begun.elapsed() < Duration::from_secs(60));
    assert_eq!(world.value("n > 0"), "True");
    let cell = Cell::new("import time; time.sleep(60)");
    let cancel = cell.cancel.clone();
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(200));
        cancel.cancel();
    });
    assert_eq!(world.run(&cell, &mut quiet).unwrap().status, "interrupted");
}

fn a_cell_that_catches_interrupts_is_ended(backend: &dyn Backend) {
    let world = world(backend);
    let code = "import time\nwhile True:\n    try:\n        while True: time.sleep(0.01)\n    except BaseException: pass";
    // Long enough for the cell to have begun.
    let ended = world.run(&Cell::new(code).within(Duration::from_secs(3)), &mut quiet);
    assert!(
        matches!(ended, Err(ExecError::InterpreterEnded { .. })),
        "{ended:?}"
    );
    assert_eq!(world.value("1 + 1"), "2");
}

fn an_interpreter_that_dies_is_told_and_replaced(backend: &dyn Backend) {
    let world = world(backend);
    world.value("x = 1");
    let error = world
        .run(&Cell::new("import os; os._exit(3)"), &mut quiet)
        .unwrap_err();
    assert!(error.to_string().contains("exit code 3"), "{error}");
    assert_eq!(world.value("'x' in globals()"), "False");
}

fn a_cell_that_needs_too_much_memory_is_ended_alone(backend: &dyn Backend) {
    let small = backend
        .create(&Spec {
            memory_mib: 256,
            ..Spec::default()
        })
        .unwrap();
    let other = world(backend);
    let error = small
        .run(
            &Cell::new("b = bytearray(1 << 30)\nfor i in range(0, 1 << 30, 4096): b[i] = 1"),
            &mut quiet,
        )
        .unwrap_err();
    assert!(error.to_string().contains("256 MiB"), "{error}");
    assert_eq!(small.value("2"), "2");
    assert_eq!(other.value("3"), "3");
}

fn absurd_sizes_are_refused(backend: &dyn Backend) {
    for spec in [
        Spec {
            memory_mib: 0,
            ..Spec::default()
        },
        Spec {
            memory_mib: u32::MAX,
            ..Spec::default()
        },
        Spec {
            vcpus: 0,
            ..Spec::default()
        },
        Spec {
            disk_mib: 1,
            ..Spec::default()
        },
    ] {
        assert!(backend.create(&spec).is_err(), "{spec:?}");
    }
    let world = world(backend);
    let long = "#".repeat(5 << 20);
    assert!(matches!(
        world.run(&Cell::new(long), &mut quiet),
        Err(ExecError::TooLong(_))
    ));
    assert_eq!(world.cell("\u{0}").0.status, "error");
    assert!(
        backend
            .branch("snapshot-none", 1_000_000, &Spec::default())
            .is_err()
    );
    assert!(backend.restore("../../etc", &Spec::default()).is_err());
}
