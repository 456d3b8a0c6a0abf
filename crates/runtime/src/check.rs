//! The equations of the tables: questions that must give no row.

use serde::Serialize;

use crate::duck::{Rows, Value};
use crate::error::WorldError;
use crate::id::digest;
use crate::registry::Runtime;

/// An equation, and what breaks it.
#[derive(Clone, Debug, Serialize)]
pub struct Checked {
    /// Its name.
    pub name: &'static str,
    /// What it says.
    pub says: &'static str,
    /// Rows that break it, as text; none if it holds.
    pub broken: Vec<String>,
}

/// Name, meaning, and the question that must give no row.
const EQUATIONS: &[(&str, &str, &str)] = &[
    (
        "parent",
        "a world's parent is an entity",
        "SELECT e.entity_id FROM world_runtime_entities e LEFT JOIN world_runtime_entities p ON p.entity_id = e.parent_id
         WHERE e.parent_id IS NOT NULL AND p.entity_id IS NULL",
    ),
    (
        "origin",
        "the snapshot that a world came from is an entity, and was taken of the world's parent",
        "SELECT e.entity_id FROM world_runtime_entities e LEFT JOIN world_runtime_entities s ON s.entity_id = e.snapshot_id
         WHERE e.snapshot_id IS NOT NULL AND e.snapshot_id <> e.entity_id
           AND (s.entity_id IS NULL OR s.parent_id IS DISTINCT FROM e.parent_id)",
    ),
    (
        "gf3",
        "the trits of every branching sum to 0 mod 3; gf3_sum says so; only one that is still open may not",
        "SELECT b.branch_id, b.gf3_sum, sum(e.trit) FROM world_branches b, unnest(b.child_entity_ids) AS c(child)
         JOIN world_runtime_entities e ON e.entity_id = c.child GROUP BY b.branch_id, b.gf3_sum, b.is_open
         HAVING ((sum(e.trit) % 3) + 3) % 3 <> b.gf3_sum OR (b.gf3_sum <> 0) <> b.is_open",
    ),
    (
        "children",
        "every child of a branching is an entity, of the branching's parent",
        "SELECT b.branch_id, c.child FROM world_branches b, unnest(b.child_entity_ids) AS c(child)
         LEFT JOIN world_runtime_entities e ON e.entity_id = c.child
         WHERE e.entity_id IS NULL OR e.parent_id IS DISTINCT FROM b.parent_entity_id",
    ),
    (
        "one_branching",
        "a world is the child of one branching, if it came from a snapshot",
        "SELECT c.child, count(*) FROM world_branches b, unnest(b.child_entity_ids) AS c(child) GROUP BY c.child HAVING count(*) > 1",
    ),
    (
        "state",
        "an entity runs, is paused, is a snapshot or has collapsed; it is resolved when it has collapsed, and then only",
        "SELECT entity_id, state FROM world_runtime_entities WHERE state NOT IN ('running', 'paused', 'snapshotted', 'collapsed')
         OR (state = 'collapsed') <> (resolved_at IS NOT NULL)",
    ),
    (
        "registered",
        "what the registry has is an entity that has not collapsed, or one that ended by itself",
        "SELECT r.id FROM world_records r LEFT JOIN world_runtime_entities e ON e.entity_id = r.id
         WHERE e.entity_id IS NULL OR (e.state = 'collapsed' AND (r.record->>'status') IS DISTINCT FROM 'error')",
    ),
    (
        "metrics",
        "no measured time is negative",
        "SELECT metric_id FROM runtime_metrics WHERE least(boot_time_ms, snapshot_time_ms, branch_time_ms, memory_overhead_mb) < 0",
    ),
    (
        "revisit",
        "no two receipts of one world end in the same state",
        "SELECT entity_id, to_hash FROM world_receipts GROUP BY entity_id, to_hash HAVING count(*) > 1",
    ),
];

impl Runtime {
    /// Asks every equation, or the named one; and whether the tables refused anything.
    pub fn check(&self, only: Option<&str>) -> Result<Vec<Checked>, WorldError> {
        let asked = EQUATIONS
            .iter()
            .filter(|(name, ..)| only.is_none_or(|only| only == *name));
        let mut checked = Vec::new();
        for (name, says, sql) in asked {
            let rows = self.0.store.query(&format!("SELECT * FROM ({sql})"), &[])?;
            checked.push(Checked {
                name,
                says,
                broken: lines(&rows),
            });
        }
        if only.is_none_or(|only| only == "receipts") {
            let says = "each receipt begins where the one before it ended, and its hash is that of what it says";
            checked.push(Checked {
                name: "receipts",
                says,
                broken: self.verify_receipts()?,
            });
        }
        if only.is_none_or(|only| only == "refused") {
            let says = "the tables took every operation";
            checked.push(Checked {
                name: "refused",
                says,
                broken: self.0.store.refused(),
            });
        }
        Ok(checked)
    }

    /// A question of the caller's own, which changes nothing.
    pub fn sql(&self, question: &str) -> Result<Rows, WorldError> {
        Ok(self.0.store.ask(question)?)
    }

    fn verify_receipts(&self) -> Result<Vec<String>, WorldError> {
        let sql = "SELECT entity_id, from_hash, to_hash, operation, detail FROM world_receipts ORDER BY entity_id, step";
        let rows = self.0.store.query(sql, &[])?.rows;
        let mut broken = Vec::new();
        let (mut entity, mut before) = (String::new(), String::new());
        for row in &rows {
            let text = |at: usize| row.get(at).and_then(Value::text).unwrap_or_default();
            if text(0) != entity {
                (entity, before) = (text(0).into(), String::new());
            }
            if text(1) != before || text(2) != digest(&[text(1), text(3), text(4)]) {
                broken.push(format!("{entity}: {} {}", text(3), text(4)));
            }
            before = text(2).into();
        }
        Ok(broken)
    }
}

fn lines(rows: &Rows) -> Vec<String> {
    let line = |row: &Vec<Value>| {
        row.iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(" ")
    };
    rows.rows.iter().map(line).collect()
}
