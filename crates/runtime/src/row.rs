//! The rows that operations write. One line of the journal holds the rows of one operation.

use serde::{Deserialize, Serialize};

use crate::duck::{Connection, SqlError, Value};

/// A row, or a change of one. Times are microseconds since 1970.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Row {
    /// A world or a snapshot.
    Entity {
        id: String,
        kind: String,
        parent: Option<String>,
        snapshot: Option<String>,
        trit: i8,
        state: String,
        memory_mib: u32,
        vcpus: u32,
        boot_ms: Option<f64>,
        at: i64,
    },
    /// An entity's new state.
    State {
        id: String,
        state: String,
        resolved_at: Option<i64>,
    },
    /// Children of one parent.
    Branching {
        id: String,
        parent: Option<String>,
        snapshot: String,
        children: Vec<String>,
        kind: String,
        snapshot_ms: Option<f64>,
        gf3_sum: i64,
        open: bool,
        at: i64,
    },
    /// One more child of a branching that was open.
    Joined {
        id: String,
        child: String,
        gf3_sum: i64,
    },
    /// What an operation took.
    Metric {
        id: String,
        entity: String,
        boot_ms: Option<f64>,
        snapshot_ms: Option<f64>,
        branch_ms: Option<f64>,
        memory_mb: Option<f64>,
        at: i64,
    },
    /// What the registry knows of a world or a snapshot.
    Record {
        id: String,
        sort: String,
        record: String,
    },
    /// The registry forgets it.
    Gone { id: String },
    /// One operation on a world.
    Receipt {
        id: String,
        entity: String,
        step: i64,
        operation: String,
        detail: String,
        from: String,
        to: String,
        at: i64,
    },
    /// A request with a key: what it was, and the names of what it made.
    Request {
        key: String,
        body: String,
        answer: String,
        at: i64,
    },
    /// Something that was run.
    Trace {
        entity: String,
        step: i64,
        action: String,
        input: String,
        code: Option<i64>,
        output: String,
        ms: f64,
        at: i64,
    },
}

impl Row {
    /// Writes it.
    pub(crate) fn apply(&self, duck: &mut Connection) -> Result<(), SqlError> {
        let text = |text: &String| Value::Text(text.clone());
        let optional = |text: &Option<String>| Value::from(text.clone());
        let (sql, values) = match self {
            Self::Entity {
                id,
                kind,
                parent,
                snapshot,
                trit,
                state,
                memory_mib,
                vcpus,
                boot_ms,
                at,
            } => (
                "INSERT INTO world_runtime_entities VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, make_timestamp($10), NULL)",
                vec![
                    text(id),
                    text(kind),
                    optional(parent),
                    optional(snapshot),
                    i64::from(*trit).into(),
                    text(state),
                    i64::from(*memory_mib).into(),
                    i64::from(*vcpus).into(),
                    (*boot_ms).into(),
                    (*at).into(),
                ],
            ),
            Self::State {
                id,
                state,
                resolved_at,
            } => (
                "UPDATE world_runtime_entities SET state = $2, resolved_at = make_timestamp($3) WHERE entity_id = $1",
                vec![text(id), text(state), (*resolved_at).into()],
            ),
            Self::Branching {
                id,
                parent,
                snapshot,
                children,
                kind,
                snapshot_ms,
                gf3_sum,
                open,
                at,
            } => (
                "INSERT INTO world_branches VALUES ($1, $2, string_split($3, ','), $4, $5, $6, make_timestamp($7), $8, $9)",
                vec![
                    text(id),
                    optional(parent),
                    children.join(",").into(),
                    text(kind),
                    (*snapshot_ms).into(),
                    (*gf3_sum).into(),
                    (*at).into(),
                    (*open).into(),
                    text(snapshot),
                ],
            ),
            Self::Joined { id, child, gf3_sum } => (
                "UPDATE world_branches SET child_entity_ids = list_append(child_entity_ids, $2), gf3_sum = $3, is_open = $3 <> 0 WHERE branch_id = $1",
                vec![text(id), text(child), (*gf3_sum).into()],
            ),
            Self::Metric {
                id,
                entity,
                boot_ms,
                snapshot_ms,
                branch_ms,
                memory_mb,
                at,
            } => (
                "INSERT INTO runtime_metrics VALUES ($1, $2, $3, $4, $5, $6, make_timestamp($7))",
                vec![
                    text(id),
                    text(entity),
                    (*boot_ms).into(),
                    (*snapshot_ms).into(),
                    (*branch_ms).into(),
                    (*memory_mb).into(),
                    (*at).into(),
                ],
            ),
            Self::Record { id, sort, record } => (
                "INSERT OR REPLACE INTO world_records VALUES ($1, $2, $3)",
                vec![text(id), text(sort), text(record)],
            ),
            Self::Gone { id } => ("DELETE FROM world_records WHERE id = $1", vec![text(id)]),
            Self::Receipt {
                id,
                entity,
                step,
                operation,
                detail,
                from,
                to,
                at,
            } => (
                "INSERT INTO world_receipts VALUES ($1, $2, $3, $4, $5, $6, $7, make_timestamp($8))",
                vec![
                    text(id),
                    text(entity),
                    (*step).into(),
                    text(operation),
                    text(detail),
                    text(from),
                    text(to),
                    (*at).into(),
                ],
            ),
            Self::Request {
                key,
                body,
                answer,
                at,
            } => (
                "INSERT OR REPLACE INTO world_requests VALUES ($1, $2, $3, make_timestamp($4))",
                vec![text(key), text(body), text(answer), (*at).into()],
            ),
            Self::Trace {
                entity,
                step,
                action,
                input,
                code,
                output,
                ms,
                at,
            } => (
                "INSERT INTO world_traces VALUES ($1, $2, $3, $4, $5, $6, $7, make_timestamp($8))",
                vec![
                    text(entity),
                    (*step).into(),
                    text(action),
                    text(input),
                    (*code).into(),
                    text(output),
                    (*ms).into(),
                    (*at).into(),
                ],
            ),
        };
        duck.query(sql, &values).map(drop)
    }
}
