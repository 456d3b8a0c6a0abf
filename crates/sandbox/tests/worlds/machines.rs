//! The same promises of virtual machines under QEMU, and what only they can be tested for. By translation
//! they take some ten times as long, so most are left to the slow tests.

use std::path::PathBuf;
use std::sync::Once;

use libtest_mimic::Trial;
use worldline_sandbox::image::DEFAULT;
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
const OTHERS: [(&str, &str); 26] = [
    (
        "files_go_by_sftp",
        "a machine's user 0 may write where a process may not; files are tested by other means",
    ),
    (
        "a_reboot_keeps_the_disk_alone",
        "a machine's disk is in its memory: refused by name",
    ),
    (
        "what_cannot_be_kept_is_refused_by_name",
        "a machine is kept with all that it runs",
    ),
    (
        "connections_are_closed_in_the_branch_and_said",
        "those inside a machine go on; those into it are tested below",
    ),
    (
        "branches_do_not_wait_for_their_snapshot",
        "a machine's snapshot is whole when it is known",
    ),
    (
        "memory_of_a_branch_is_what_it_writes",
        "it gives the branch other memory, and is measured by the bench",
    ),
    (
        "the_fiftieth_generation_is_as_fast_as_the_first",
        "each of the fifty is a whole memory on the disk; eight are tested below",
    ),
    (
        "registers_that_a_branch_would_lose_are_not_granted",
        "a machine loses none",
    ),
    (
        "a_disk_bomb_ends_its_world_alone",
        "its files fill a machine's own memory, tested below",
    ),
    (
        "one_world_sees_nothing_of_another",
        "a machine has a /sys of its own",
    ),
    (
        "the_agent_cannot_be_ended_or_looked_into",
        "the wall is the machine, not the agent",
    ),
    (
        "a_loaded_interpreter_is_as_confined_as_a_new_one",
        "the wall is the machine, not the agent",
    ),
    (
        "a_snapshot_survives_its_world_and_its_program",
        "it opens the other backend; tested below",
    ),
    (
        "a_snapshot_travels_as_an_archive",
        "it opens the other backend; tested below",
    ),
    (
        "forgotten_snapshots_are_taken_back_once_nothing_needs_them",
        "each is whole, and gone at once",
    ),
    (
        "worlds_leave_nothing_behind",
        "it opens the other backend; tested below",
    ),
    (
        "no_orphan_after_kill_nine",
        "it opens the other backend; tested below",
    ),
    (
        "a_kill_at_any_step_loses_nothing_and_leaves_nothing",
        "its steps are the other backend's",
    ),
    (
        "a_half_written_snapshot_is_no_snapshot",
        "it opens the other backend",
    ),
    (
        "a_damaged_manifest_is_named_and_the_others_are_kept",
        "it opens the other backend",
    ),
    (
        "an_agent_killed_from_outside_ends_its_world_alone",
        "an agent is not to be seen from outside; tested below",
    ),
    (
        "a_branch_that_fails_leaves_nothing",
        "it opens the other backend",
    ),
    (
        "a_listed_name_is_reached",
        "a machine has no way out: refused by name",
    ),
    (
        "nothing_but_listed_names_is_reached",
        "a machine has no way out: refused by name",
    ),
    (
        "a_branch_reaches_what_its_snapshot_did",
        "a machine has no way out: refused by name",
    ),
    (
        "a_list_that_cannot_be_read_is_refused",
        "a machine has no way out: refused by name",
    ),
];

/// What machines have beside the others.
const PROMISES: &[Promise] = &[];

fn settings(data: PathBuf) -> Settings {
    Settings {
        images: images(),
        ..Settings::new(data)
    }
}

/// A backend over a folder. Its machines begin where the first one on this host stood.
fn open(data: PathBuf) -> Qemu {
    static BUILT: Once = Once::new();
    BUILT.call_once(|| {
        let folder = tempfile::tempdir().unwrap();
        let process = crate::open(folder.path().into()).unwrap();
        let image = process.images().find(DEFAULT).unwrap();
        process
            .build_machine(&image, &mut |step| eprintln!("{step}"))
            .unwrap();
    });
    Qemu::open(&settings(data)).unwrap()
}

/// A promise over a folder of its own: memories are large, and are to be gone when it is tested.
fn alone(promise: fn(&dyn Backend)) {
    let folder = tempfile::tempdir().unwrap();
    promise(&open(folder.path().into()));
}

pub(crate) fn trials(all: &[Promise]) -> Vec<Trial> {
    let folder = tempfile::tempdir().unwrap();
    let report = Qemu::open(&settings(folder.path().into()))
        .unwrap()
        .report();
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
                    alone(promise);
                }
            })
        })
        .collect()
}
