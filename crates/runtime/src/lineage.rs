//! Who came from whom. A snapshot's origin is its world, and a world's the snapshot that it goes on from,
//! so two branches of one snapshot are two steps apart.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::duck::Value;
use crate::error::WorldError;
use crate::model::Metadata;
use crate::registry::Runtime;

/// Bytes of a page.
const PAGE: f64 = 4096.0;
/// What a whole difference of metadata weighs in a distance.
const METADATA_WEIGHT: f64 = 10.0;

/// A world or snapshot in the tree.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Node {
    /// Its id.
    pub id: String,
    /// What it came from.
    pub origin: Option<String>,
    /// `sandbox` or `match`.
    pub kind: String,
    /// `running`, `paused`, `snapshotted` or `collapsed`.
    pub state: String,
    /// Its label.
    pub trit: i64,
    /// Words of the caller's; gone with it.
    pub metadata: Metadata,
    /// Pages by which it differs from its origin, where that was measured.
    pub pages: f64,
}

/// How far two worlds are from each other: the root of the sum of the squares of its parts, each of which
/// is a metric on the tree, so the whole is one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Distance {
    /// The whole.
    pub distance: f64,
    /// Steps through the lowest common ancestor.
    pub hops: usize,
    /// Pages changed on the way.
    pub pages: f64,
    /// Jaccard distance of the metadata, 0 to 1.
    pub metadata: f64,
    /// The way, from the one to the other.
    pub path: Vec<String>,
}

/// What two worlds did, compared step by step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// Whether no step tells them apart.
    pub equal: bool,
    /// Steps compared.
    pub depth: usize,
    /// The first step that does, from 1, as each of them took it.
    pub first: Option<(usize, Option<String>, Option<String>)>,
}

impl Runtime {
    /// Every world and snapshot there has been, parents before children.
    pub fn tree(&self) -> Result<Vec<Node>, WorldError> {
        let sql = "SELECT e.entity_id, e.parent_id, e.snapshot_id, e.entity_type, e.state, e.trit, r.record
                   FROM world_runtime_entities e LEFT JOIN world_records r ON r.id = e.entity_id ORDER BY e.created_at, e.entity_id";
        let rows = self.0.store.query(sql, &[])?.rows;
        let nodes = rows.iter().map(|row| {
            let text = |at: usize| row.get(at).and_then(Value::text).map(str::to_owned);
            let id = text(0).unwrap_or_default();
            let record: serde_json::Value = text(6)
                .and_then(|text| serde_json::from_str(&text).ok())
                .unwrap_or_default();
            let metadata = serde_json::from_value(record["metadata"].clone()).unwrap_or_default();
            // A snapshot is its own `snapshot_id`.
            let origin = if text(2).as_deref() == Some(id.as_str()) {
                text(1)
            } else {
                text(2)
            };
            let pages = record["bytes"].as_f64().unwrap_or(0.0) / PAGE;
            let trit = row.get(5).and_then(Value::int).unwrap_or(0);
            Node {
                id,
                origin,
                kind: text(3).unwrap_or_default(),
                state: text(4).unwrap_or_default(),
                trit,
                metadata,
                pages,
            }
        });
        Ok(nodes.collect())
    }

    /// How far two worlds or snapshots are from each other, and the way between them.
    pub fn distance(&self, a: &str, b: &str) -> Result<Distance, WorldError> {
        let nodes: BTreeMap<String, Node> = self
            .tree()?
            .into_iter()
            .map(|node| (node.id.clone(), node))
            .collect();
        let node = |id: &str| {
            nodes
                .get(id)
                .ok_or_else(|| WorldError::NoInstance(id.into()))
        };
        let (one, other) = (ancestors(&nodes, node(a)?), ancestors(&nodes, node(b)?));
        let common = one.iter().position(|id| other.contains(id));
        // Where nothing is common, both lead to where nothing was: one step above each root.
        let (up, down) = match common {
            Some(at) => (at, other.iter().position(|id| *id == one[at]).unwrap_or(0)),
            None => (one.len(), other.len()),
        };
        let path: Vec<String> = one[..up]
            .iter()
            .chain(common.map(|at| &one[at]))
            .chain(other[..down].iter().rev())
            .map(|id| (*id).to_owned())
            .collect();
        let pages = one[..up]
            .iter()
            .chain(&other[..down])
            .filter_map(|id| nodes.get(*id))
            .map(|node| node.pages)
            .sum::<f64>();
        let metadata = jaccard(&node(a)?.metadata, &node(b)?.metadata);
        let hops = up + down;
        let parts = [
            hops as f64,
            (1.0 + pages).log2(),
            METADATA_WEIGHT * metadata,
        ];
        let distance = parts.iter().map(|part| part * part).sum::<f64>().sqrt();
        Ok(Distance {
            distance,
            hops,
            pages,
            metadata,
            path,
        })
    }

    /// What was run in a world, in order.
    pub fn trace(&self, id: &str) -> Result<crate::Rows, WorldError> {
        let sql = "SELECT step, action, input, code, output_digest, took_ms FROM world_traces WHERE entity_id = $1 ORDER BY step";
        Ok(self.0.store.query(sql, &[id.into()])?)
    }

    /// Compares the first `depth` steps of two worlds: what was run, and what came of it.
    pub fn difference(&self, a: &str, b: &str, depth: usize) -> Result<Difference, WorldError> {
        let steps = |id: &str| -> Result<Vec<String>, WorldError> {
            let line = |row: &Vec<Value>| {
                row[1..5]
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join(" ")
            };
            Ok(self.trace(id)?.rows.iter().map(line).take(depth).collect())
        };
        let (one, other) = (steps(a)?, steps(b)?);
        let longer = one.len().max(other.len());
        let first = (0..longer).find(|at| one.get(*at) != other.get(*at));
        Ok(Difference {
            equal: first.is_none(),
            depth: longer,
            first: first.map(|at| (at + 1, one.get(at).cloned(), other.get(at).cloned())),
        })
    }

    /// Medians and worst cases of what operations took, in milliseconds.
    pub fn metrics(&self) -> Result<crate::Rows, WorldError> {
        let part = |name: &str, column: &str| {
            format!(
                "SELECT '{name}' AS operation, count({column}) AS count, median({column})::DOUBLE AS median_ms,
                 quantile_cont({column}, 0.95)::DOUBLE AS p95_ms, max({column})::DOUBLE AS worst_ms FROM runtime_metrics"
            )
        };
        let parts = [
            ("create", "boot_time_ms"),
            ("snapshot", "snapshot_time_ms"),
            ("branch", "branch_time_ms"),
        ];
        let sql: Vec<String> = parts
            .iter()
            .map(|(name, column)| part(name, column))
            .collect();
        Ok(self.0.store.query(&sql.join(" UNION ALL "), &[])?)
    }
}

/// The node and all above it, from itself up.
fn ancestors<'a>(nodes: &'a BTreeMap<String, Node>, node: &'a Node) -> Vec<&'a str> {
    let mut line = vec![node.id.as_str()];
    let mut seen: BTreeSet<&str> = line.iter().copied().collect();
    let mut at = node;
    while let Some(next) = at.origin.as_ref().and_then(|origin| nodes.get(origin)) {
        if !seen.insert(&next.id) {
            break;
        }
        line.push(&next.id);
        at = next;
    }
    line
}

/// 1 minus the share of entries that both have (Jaccard, 1901).
fn jaccard(a: &Metadata, b: &Metadata) -> f64 {
    let both = a
        .iter()
        .filter(|(key, value)| b.get(*key) == Some(value))
        .count();
    let any = a.len() + b.len() - both;
    if any == 0 {
        0.0
    } else {
        1.0 - both as f64 / any as f64
    }
}
