//! What only this runtime has: lineage, traces, equations, questions, files.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;
use worldline_runtime::{Metadata, Verification, WorldError};

use super::exec::CancelOnDrop;
use super::request::{Body, Query, done, optional};
use super::{Answer, Api};
use crate::error::ApiError;

/// What a file's mode is unless another is asked for.
const MODE: u32 = 0o644;
/// Steps that a comparison looks at unless another depth is asked for.
const DEPTH: usize = 100;
/// Branches that a verification runs unless another number is asked for.
const BRANCHES: usize = 3;

impl Api {
    async fn tell<T: Serialize + Send + 'static>(
        &self,
        work: impl FnOnce(&worldline_runtime::Runtime) -> Result<T, WorldError> + Send + 'static,
    ) -> Answer {
        let told = self.blocking(work).await?;
        let value = serde_json::to_value(told);
        value.map(Json).map_err(|error| {
            ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "host", error.to_string())
        })
    }
}

/// `GET /v1/worlds/tree`
pub(super) async fn tree(State(api): State<Api>) -> Answer {
    api.tell(|worlds| worlds.tree()).await
}

/// `GET /v1/worlds/metrics`
pub(super) async fn metrics(State(api): State<Api>) -> Answer {
    api.tell(|worlds| worlds.metrics()).await
}

/// `GET /v1/worlds/check?only=`
pub(super) async fn check(State(api): State<Api>, query: Query) -> Answer {
    let only = query.get("only").map(str::to_owned);
    api.tell(move |worlds| worlds.check(only.as_deref())).await
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Question {
    sql: String,
}

/// `POST /v1/worlds/sql`
pub(super) async fn sql(State(api): State<Api>, body: Body) -> Answer {
    let question: Question = optional(&body?)?;
    api.tell(move |worlds| worlds.sql(&question.sql)).await
}

/// `GET /v1/worlds/distance?a=&b=`
pub(super) async fn distance(State(api): State<Api>, query: Query) -> Answer {
    let (a, b) = (query.required("a")?, query.required("b")?);
    api.tell(move |worlds| worlds.distance(&a, &b)).await
}

/// `GET /v1/worlds/diff?a=&b=&depth=`
pub(super) async fn diff(State(api): State<Api>, query: Query) -> Answer {
    let (a, b, depth) = (
        query.required("a")?,
        query.required("b")?,
        query.number("depth", DEPTH)?,
    );
    api.tell(move |worlds| worlds.difference(&a, &b, depth))
        .await
}

/// `GET /v1/worlds/{id}/trace`
pub(super) async fn trace(State(api): State<Api>, Path(id): Path<String>) -> Answer {
    api.tell(move |worlds| worlds.trace(&id)).await
}

/// `GET /v1/worlds/{id}/stats`
pub(super) async fn stats(State(api): State<Api>, Path(id): Path<String>) -> Answer {
    api.tell(move |worlds| worlds.stats(&id)).await
}

#[derive(Deserialize)]
#[serde(default)]
struct Asked {
    branches: usize,
    seed: u64,
    steps: Vec<String>,
}

impl Default for Asked {
    fn default() -> Self {
        Self {
            branches: BRANCHES,
            seed: 0,
            steps: Vec::new(),
        }
    }
}

/// `POST /v1/worlds/{id}/verify`
pub(super) async fn verify(State(api): State<Api>, Path(id): Path<String>, body: Body) -> Answer {
    let asked: Asked = optional(&body?)?;
    let verification = Verification {
        branches: asked.branches,
        seed: asked.seed,
        steps: asked.steps,
        ..Verification::default()
    };
    let _gone = CancelOnDrop(verification.cancel.clone());
    api.tell(move |worlds| worlds.verify_spi(&id, &verification))
        .await
}

/// `POST /v1/worlds/gc`
pub(super) async fn collect(State(api): State<Api>) -> Answer {
    api.tell(|worlds| Ok(json!({ "bytes": worlds.collect()? })))
        .await
}

/// `GET /v1/worlds/doctor`
pub(super) async fn doctor(State(api): State<Api>) -> Answer {
    api.tell(|worlds| worlds.reports()).await
}

/// `GET /v1/worlds/{id}/files?path=`
pub(super) async fn read(
    State(api): State<Api>,
    Path(id): Path<String>,
    query: Query,
) -> Result<Response, ApiError> {
    let path = query.required("path")?;
    let bytes = api.blocking(move |worlds| worlds.read(&id, &path)).await?;
    Ok(([(CONTENT_TYPE, "application/octet-stream")], bytes).into_response())
}

/// `PUT /v1/worlds/{id}/files?path=&mode=`, the mode in octal.
pub(super) async fn write(
    State(api): State<Api>,
    Path(id): Path<String>,
    query: Query,
    body: Result<Bytes, BytesRejection>,
) -> Answer {
    let (path, body) = (query.required("path")?, body?);
    let mode = query
        .get("mode")
        .map_or(Ok(MODE), |mode| u32::from_str_radix(mode, 8));
    let mode = mode.map_err(|_| {
        ApiError::new(
            StatusCode::BAD_REQUEST,
            "bad_query",
            "a mode is an octal number, as 644",
        )
    })?;
    api.blocking(move |worlds| worlds.write(&id, &path, mode, &body))
        .await?;
    Ok(done())
}

/// `GET /metrics`: what Prometheus reads.
pub(super) async fn prometheus(State(api): State<Api>) -> Result<Response, ApiError> {
    let (worlds, rows) = api
        .blocking(|worlds| Ok((worlds.instances(&Metadata::new())?, worlds.metrics()?)))
        .await?;
    let mut text =
        String::from("# HELP worldline_worlds Worlds registered.\n# TYPE worldline_worlds gauge\n");
    for status in ["ready", "paused", "error"] {
        let count = worlds
            .iter()
            .filter(|world| json!(world.status) == status)
            .count();
        text += &format!("worldline_worlds{{status=\"{status}\"}} {count}\n");
    }
    let snapshots = api.worlds.snapshots(&Metadata::new(), None).len();
    text += "# HELP worldline_snapshots Snapshots kept.\n# TYPE worldline_snapshots gauge\n";
    text += &format!("worldline_snapshots {snapshots}\n");
    text += "# HELP worldline_operation_ms What operations took, in milliseconds.\n# TYPE worldline_operation_ms gauge\n";
    for row in &rows.rows {
        let [operation, count, figures @ ..] = &row[..] else {
            continue;
        };
        text += &format!("worldline_operations_total{{operation=\"{operation}\"}} {count}\n");
        for (quantile, figure) in ["0.5", "0.95", "1"].iter().zip(figures) {
            if let Some(figure) = figure.float() {
                text += &format!(
                    "worldline_operation_ms{{operation=\"{operation}\",quantile=\"{quantile}\"}} {figure}\n"
                );
            }
        }
    }
    Ok(([(CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response())
}
