//! Worlds for people: tables, and the tree.

use std::collections::BTreeMap;

use serde_json::Value;
use worldline_sandbox::{Image, Report};

use crate::table;

/// A value as a person writes it.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Number(number) => match number.as_f64().filter(|_| number.is_f64()) {
            Some(float) => format!("{float:.3}"),
            None => number.to_string(),
        },
        other => other.to_string(),
    }
}

fn words(metadata: &Value) -> String {
    let pairs = metadata.as_object().into_iter().flatten();
    pairs
        .map(|(key, value)| format!("{key}={}", text(value)))
        .collect::<Vec<_>>()
        .join(" ")
}

fn all(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

pub(super) fn instances(list: &Value) {
    let rows: Vec<_> = all(list)
        .map(|one| {
            let snapshot = text(&one["refs"]["snapshot_id"]);
            [
                text(&one["id"]),
                text(&one["kind"]),
                text(&one["backend"]),
                text(&one["status"]),
                text(&one["trit"]),
                snapshot,
                words(&one["metadata"]),
            ]
        })
        .collect();
    table::print(
        [
            "WORLD", "KIND", "BACKEND", "STATUS", "TRIT", "SNAPSHOT", "METADATA",
        ],
        &rows,
    );
}

pub(super) fn snapshots(list: &Value) {
    let rows: Vec<_> = all(list)
        .map(|one| {
            let size = format!("{:.1} MB", one["bytes"].as_f64().unwrap_or(0.0) / 1e6);
            [
                text(&one["id"]),
                text(&one["world"]),
                text(&one["refs"]["image_id"]),
                size,
                text(&one["digest"]),
                words(&one["metadata"]),
            ]
        })
        .collect();
    table::print(
        ["SNAPSHOT", "WORLD", "IMAGE", "SIZE", "DIGEST", "METADATA"],
        &rows,
    );
}

/// One thing: its id alone where it has one, so that a script can take it; all of it otherwise.
pub(super) fn one(value: &Value) {
    if let Some(id) = value["id"].as_str() {
        println!("{id}");
        return;
    }
    let rows: Vec<_> = value
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| {
            let list = value
                .as_array()
                .map(|list| list.iter().map(text).collect::<Vec<_>>().join("  "));
            [key.clone(), list.unwrap_or_else(|| text(value))]
        })
        .collect();
    table::print(["", ""], &rows);
}

/// Three fingerprints of one set of branches.
pub(super) fn fingerprints(told: &Value) {
    let rows = ["serial", "parallel", "shuffled"].map(|name| {
        let one = &told[name];
        [
            name.into(),
            text(&one["count"]),
            text(&one["sum"]),
            text(&one["xor"]),
        ]
    });
    table::print(["ORDER", "BRANCHES", "SUM", "XOR"], &rows);
    println!(
        "{}",
        if told["holds"] == true {
            "the same"
        } else {
            "NOT the same"
        }
    );
}

/// The answer to a question, of any number of columns.
pub(super) fn rows(told: &Value) {
    let columns: Vec<String> = all(&told["columns"])
        .map(|name| text(name).to_uppercase())
        .collect();
    let rows: Vec<Vec<String>> = all(&told["rows"])
        .map(|row| all(row).map(text).collect())
        .collect();
    let width = |at: usize| {
        let cells = rows.iter().chain([&columns]).filter_map(|row| row.get(at));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    for row in [&columns].into_iter().chain(&rows) {
        let line: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        println!("{}", line.join("  ").trim_end());
    }
}

pub(super) fn checks(checks: &[&Value]) {
    for check in checks {
        let broken: Vec<&Value> = all(&check["broken"]).collect();
        let mark = if broken.is_empty() {
            "holds "
        } else {
            "BROKEN"
        };
        println!(
            "{mark}  {:<13}  {}",
            text(&check["name"]),
            text(&check["says"])
        );
        for row in broken {
            println!("        {}", text(row));
        }
    }
}

pub(super) fn images(images: &[Image]) {
    let rows: Vec<_> = images
        .iter()
        .map(|image| {
            [
                image.name.clone(),
                format!("{:.0} MB", image.bytes as f64 / 1e6),
                image.digest.clone(),
            ]
        })
        .collect();
    table::print(["IMAGE", "SIZE", "DIGEST"], &rows);
}

pub(super) fn report(report: &Report) {
    println!(
        "{}: {}",
        report.backend,
        if report.usable {
            "usable"
        } else {
            "NOT usable"
        }
    );
    let rows: Vec<_> = report
        .capabilities
        .iter()
        .map(|one| {
            [
                if one.present { "yes" } else { "no" }.into(),
                one.name.into(),
                one.note.clone(),
            ]
        })
        .collect();
    table::print(["", "WHAT", "NOTE"], &rows);
}

/// The lineage, one line each; `ended` shows those that have collapsed too. A line that has ended stays
/// where something living hangs from it.
pub(super) fn tree(nodes: &Value, ended: bool) -> String {
    let nodes: Vec<&Value> = all(nodes).collect();
    let mut children: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
    for node in &nodes {
        let known = |id: &&str| nodes.iter().any(|other| other["id"] == **id);
        let origin = node["origin"].as_str().filter(known).unwrap_or_default();
        children.entry(origin.into()).or_default().push(node);
    }
    let mut drawn = String::new();
    draw(&children, "", "", ended, &mut drawn);
    drawn
}

fn lives(children: &BTreeMap<String, Vec<&Value>>, node: &Value) -> bool {
    let below = children.get(&text(&node["id"]));
    node["state"] != "collapsed"
        || below
            .into_iter()
            .flatten()
            .any(|child| lives(children, child))
}

fn draw(
    children: &BTreeMap<String, Vec<&Value>>,
    of: &str,
    before: &str,
    ended: bool,
    drawn: &mut String,
) {
    let shown: Vec<&Value> = children
        .get(of)
        .into_iter()
        .flatten()
        .copied()
        .filter(|node| ended || lives(children, node))
        .collect();
    for (at, node) in shown.iter().enumerate() {
        let last = at + 1 == shown.len();
        let (own, below) = match (of.is_empty(), last) {
            (true, _) => ("", ""),
            (false, true) => ("└─ ", "   "),
            (false, false) => ("├─ ", "│  "),
        };
        let id = text(&node["id"]);
        let trit = node["trit"]
            .as_i64()
            .filter(|trit| *trit != 0)
            .map(|trit| format!(" {trit:+}"))
            .unwrap_or_default();
        let words = words(&node["metadata"]);
        let line = format!("{before}{own}{id} {}{trit} {words}", text(&node["state"]));
        drawn.push_str(line.trim_end());
        drawn.push('\n');
        draw(children, &id, &format!("{before}{below}"), ended, drawn);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_tree_is_drawn_with_its_labels_and_without_what_has_ended() {
        let node = |id: &str, origin: Option<&str>, state: &str, trit: i64| json!({ "id": id, "origin": origin, "state": state, "trit": trit, "metadata": {} });
        let nodes = json!([
            node("image", None, "snapshotted", 0),
            node("base", Some("image"), "collapsed", 0),
            node("point", Some("base"), "snapshotted", 0),
            node("nash", Some("point"), "running", -1),
            node("lost", Some("point"), "collapsed", 0),
            node("chaos", Some("point"), "running", 1),
        ]);
        let expected = "\
image snapshotted
└─ base collapsed
   └─ point snapshotted
      ├─ nash running -1
      └─ chaos running +1
";
        assert_eq!(tree(&nodes, false), expected);
        assert!(tree(&nodes, true).contains("├─ lost collapsed"));
    }
}
