//! What no source may say: paths of one machine, unfinished work, `unsafe` outside its places.

use std::env;

use super::Source;

/// Files in which `unsafe` is argued for.
const UNSAFE_ALLOWED: &[&str] = &[
    "crates/mamba2/src/native/",
    "crates/cartridge/src/file.rs",
    "crates/syscall/src/",
    "programs/world-model/src/",
    "programs/world-model/fuzz/",
    "crates/trainer/src/gemm.rs",
    "crates/cabinet/tests/counter/src/lib.rs",
    "crates/sandbox/src/host/sys.rs",
    "crates/sandbox/src/process/sys.rs",
    "crates/sandbox/src/process/userfault.rs",
    "crates/sandbox/guest/",
    "crates/sandbox/metal/",
    "crates/sandbox/zygote/",
    "crates/runtime/src/duck.rs",
];

/// Where people and build machines keep their homes. Split, so that this file passes its own test.
const MACHINE_PATHS: &[&str] = &[
    concat!("/ho", "me/"),
    concat!("/ro", "ot/"),
    concat!("/Us", "ers/"),
    concat!("/wo", "rk/"),
    concat!("C:", "\\"),
];

/// Marks of work that is not finished.
const UNFINISHED: &[&str] = &[
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
    concat!("to", "do!"),
    concat!("unimpl", "emented!"),
    concat!("dbg", "!"),
];

/// Endings of the sources that a person writes.
const CODE: &[&str] = &[
    ".rs", ".ts", ".mjs", ".js", ".css", ".html", ".py", ".sh", ".toml",
];

pub(super) fn check(sources: &[Source]) -> Vec<String> {
    let mut problems = Vec::new();
    let own = own_paths();
    for source in sources {
        let Some(text) = &source.text else { continue };
        let path = &source.path;
        let code = CODE.iter().any(|ending| path.ends_with(ending));
        let locked = path.ends_with(".lock") || path.ends_with("package-lock.json");
        for (number, line) in text.lines().enumerate() {
            let at = format!("{path}:{}", number + 1);
            if !locked && let Some(found) = machine_path(line, &own) {
                problems.push(format!("{at}: names a path of one machine ({found})"));
            }
            if code && let Some(found) = UNFINISHED.iter().find(|word| has_word(line, word)) {
                problems.push(format!("{at}: unfinished work ({found})"));
            }
            let unsafe_here = path.ends_with(".rs") && is_unsafe(line);
            if unsafe_here
                && !UNSAFE_ALLOWED
                    .iter()
                    .any(|allowed| path.starts_with(allowed))
            {
                problems.push(format!(
                    "{at}: `unsafe` outside the files that argue for it"
                ));
            }
        }
        if !locked && !text.is_empty() && !text.ends_with('\n') && code {
            problems.push(format!("{path}: does not end with a line break"));
        }
    }
    problems
}

/// This clone's and this person's own folders.
fn own_paths() -> Vec<String> {
    let root = crate::env::root().to_string_lossy().into_owned();
    let home = env::var("HOME")
        .ok()
        .filter(|home| home.len() > 1)
        .map(|home| home + "/");
    [Some(root), home].into_iter().flatten().collect()
}

fn machine_path<'a>(line: &str, own: &'a [String]) -> Option<&'a str> {
    let starts_a_path = |at: usize| {
        !line[..at].ends_with(|before: char| before.is_alphanumeric() || "._-/}~".contains(before))
    };
    let named = MACHINE_PATHS
        .iter()
        .find(|path| line.match_indices(**path).any(|(at, _)| starts_a_path(at)))
        .copied();
    named.or_else(|| {
        own.iter()
            .map(String::as_str)
            .find(|path| line.contains(path))
    })
}

fn is_unsafe(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    has_word(code, concat!("un", "safe")) && !code.contains('"')
}

/// Whether `word` stands in `line` on its own.
pub(super) fn has_word(line: &str, word: &str) -> bool {
    let inside = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let goes_on = word.ends_with(inside) && line[at + word.len()..].starts_with(inside);
        !goes_on && !line[..at].ends_with(inside)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stand_alone() {
        assert!(has_word("let x: f32;", "f32"));
        assert!(!has_word("let af32 = f32x4;", "f32"));
    }

    #[test]
    fn machine_paths_are_told_from_parts_of_others() {
        let path = concat!("see /ho", "me/anna/x");
        assert!(machine_path(path, &[]).is_some());
        assert!(machine_path(concat!("docs/ho", "me/x"), &[]).is_none());
        assert!(machine_path("at /srv/clone/x", &["/srv/clone".into()]).is_some());
    }

    #[test]
    fn the_lint_that_denies_it_is_not_itself_unsafe() {
        assert!(is_unsafe(concat!("un", "safe { x() }")));
        assert!(!is_unsafe("#![deny(unsafe_code)]"));
        assert!(!is_unsafe(concat!("// un", "safe: never")));
    }
}
