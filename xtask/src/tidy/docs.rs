//! Links between documents, and the tests that the specification names.

use super::Source;

/// The document whose promises name their tests.
const SPECIFICATION: &str = "SPECIFICATION.md";
/// What stands in a row whose test is still to be written.
const PENDING: &str = "*pending*";

pub(super) fn check(sources: &[Source]) -> Vec<String> {
    let mut problems = Vec::new();
    for source in sources.iter().filter(|source| source.path.ends_with(".md")) {
        let Some(text) = &source.text else { continue };
        for target in links(text) {
            problems.extend(broken(sources, source, &target));
        }
        if source.path == SPECIFICATION {
            problems.extend(specification(sources, text));
        }
    }
    problems
}

/// Targets of `[text](target)` outside code blocks.
fn links(text: &str) -> Vec<String> {
    let mut targets = Vec::new();
    let mut in_code = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        for (at, _) in line.match_indices("](") {
            if let Some((target, _)) = line[at + 2..].split_once(')') {
                targets.push(target.trim().to_owned());
            }
        }
    }
    targets
}

fn broken(sources: &[Source], source: &Source, target: &str) -> Option<String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
    let path = if file.is_empty() {
        source.path.clone()
    } else {
        resolve(&source.path, file)
    };
    let folder = format!("{}/", path.trim_end_matches('/'));
    let found = sources.iter().find(|other| other.path == path);
    if found.is_none() && !sources.iter().any(|other| other.path.starts_with(&folder)) {
        return Some(format!(
            "{}: the link to {target} leads nowhere",
            source.path
        ));
    }
    let text = found.and_then(|other| other.text.as_deref())?;
    let missing = !anchor.is_empty()
        && path.ends_with(".md")
        && !text
            .lines()
            .filter_map(heading)
            .any(|heading| heading == anchor);
    missing.then(|| format!("{}: {path} has no heading #{anchor}", source.path))
}

/// `file` as seen from the folder of `from`.
fn resolve(from: &str, file: &str) -> String {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in file.split('/') {
        match part {
            "." | "" => {}
            ".." => {
                parts.pop();
            }
            name => parts.push(name),
        }
    }
    parts.join("/")
}

/// A heading's anchor, made as GitHub makes it.
fn heading(line: &str) -> Option<String> {
    let title = line
        .strip_prefix('#')?
        .trim_start_matches('#')
        .strip_prefix(' ')?;
    let kept = title.trim().to_lowercase();
    Some(
        kept.chars()
            .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
            .map(|c| if c == ' ' { '-' } else { c })
            .collect(),
    )
}

/// The last cell of each row of a table names its tests as `` `path::name` ``, or says *pending*.
fn specification(sources: &[Source], text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let Some(row) = line
            .strip_prefix('|')
            .and_then(|row| row.trim_end().strip_suffix('|'))
        else {
            continue;
        };
        let enforced = row.rsplit('|').next().unwrap_or_default().trim();
        let at = format!("{SPECIFICATION}:{}", number + 1);
        if enforced.starts_with("---") || enforced == "enforced by" || enforced == PENDING {
            continue;
        }
        let names: Vec<&str> = enforced.split('`').skip(1).step_by(2).collect();
        if names.is_empty() {
            problems.push(format!("{at}: names no test, and does not say {PENDING}"));
        }
        for name in names {
            let (path, test) = name.split_once("::").unwrap_or((name, ""));
            let Some(source) = sources.iter().find(|source| source.path == path) else {
                problems.push(format!("{at}: there is no file {path}"));
                continue;
            };
            if !source
                .text
                .as_deref()
                .is_some_and(|text| text.contains(test))
            {
                problems.push(format!("{at}: {path} has no test `{test}`"));
            }
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, text: &str) -> Source {
        Source {
            path: path.into(),
            bytes: text.len() as u64,
            text: Some(text.into()),
        }
    }

    #[test]
    fn links_are_followed_to_files_folders_and_headings() {
        let a = source(
            "a.md",
            "[b](docs/b.md#two-words) [docs](docs) [bad](c.md) [bad](docs/b.md#no)",
        );
        let b = source(
            "docs/b.md",
            "# Two words\n[a](../a.md)\n```\n[not](a-link)\n```\n",
        );
        let problems = check(&[a, b]);
        assert_eq!(problems.len(), 2, "{problems:?}");
    }

    #[test]
    fn a_promise_needs_a_test_that_exists() {
        let text = "\
| promise | number | enforced by |
|---|---|---|
| a | 1 | `t.rs::good` |
| b | 2 | *pending* |
| c | 3 | `t.rs::gone` |
| d | 4 | somebody |
";
        let sources = [
            source("SPECIFICATION.md", text),
            source("t.rs", "fn good() {}\n"),
        ];
        let problems = check(&sources);
        assert_eq!(problems.len(), 2, "{problems:?}");
    }
}
