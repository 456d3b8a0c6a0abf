//! The same promises of virtual machines under QEMU, and what only they can be tested for. By translation
//! they take some ten times as long, so most are left to the slow tests.

use std::sync::OnceLock;

use libtest_mimic::Trial;
use worldline_sandbox::{Backend, Qemu, Settings};

use crate::{Promise, images};

/// The promises that are tested each time.
const LEAN: [&str; 9] = [
    "globals_persist_from_cell_to_cell",
    "an_error_has_its_traceback",
    "folder_and_environment_persist_from_line_to_line",
    "files_go_in_and_out",
    "a_server_inside_can_be_reached",
    "branches_go_their_own_way",
    "fork_gives_each_child_its_own_randomness",
    "the_wall_clock_of_a_branch_is_right",
    "a_snapshot_in_mid_cell_goes_on_in_its_branch",
];

/// Promises of the other backend alone, and why.
const OTHERS: &[(&str, &str)] = &[];

/// What machines have beside the others.
const PROMISES: &[Promise] = &[];

static OPENED: OnceLock<(tempfile::TempDir, Qemu)> = OnceLock::new();

fn settings(data: std::path::PathBuf) -> Settings {
    Settings {
        images: images(),
        ..Settings::new(data)
    }
}

/// A backend of its own, over a folder.
pub(crate) fn open(data: std::path::PathBuf) -> Qemu {
    Qemu::open(&settings(data)).unwrap()
}

/// The one that all tests share. Its machines begin where the first one stood.
fn shared() -> &'static Qemu {
    let (_, qemu) = OPENED.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let process = crate::open(folder.path().join("process")).unwrap();
        let image = process
            .images()
            .find(worldline_sandbox::image::DEFAULT)
            .unwrap();
        process
            .build_machine(&image, &mut |step| eprintln!("{step}"))
            .unwrap();
        drop(process);
        let qemu = open(folder.path().join("qemu"));
        (folder, qemu)
    });
    qemu
}

pub(crate) fn trials(all: &[Promise]) -> Vec<Trial> {
    let folder = tempfile::tempdir().unwrap();
    let report = open(folder.path().into()).report();
    let lacks = report
        .capabilities
        .into_iter()
        .find(|one| one.name == "monitor" && !one.present)
        .map(|one| one.note);
    if let Some(lacks) = &lacks {
        eprintln!("IGNORED, all tests of machines under QEMU: {lacks}");
    }
    let here = |promise: &&Promise| !OTHERS.iter().any(|(name, _)| *name == promise.0);
    let promises = all
        .iter()
        .filter(here)
        .map(|promise| (promise, LEAN.contains(&promise.0)));
    let own = PROMISES.iter().map(|promise| (promise, true));
    promises
        .chain(own)
        .map(|(&(name, promise), lean)| {
            let runs = lacks.is_none();
            crate::trial(&format!("qemu/{name}"), !runs || !lean, move || {
                if runs {
                    promise(shared());
                }
            })
        })
        .collect()
}
