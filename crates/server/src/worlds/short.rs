//! Three short routes for the same things: make a world, keep a moment, run Python.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use serde::Deserialize;
use serde_json::{Value, json};
use worldline_runtime::{NewSnapshot, Note, Runtime, WorldError};
use worldline_sandbox::{Cell, Outcome, Stream};

use super::exec::{CancelOnDrop, Collected, limit};
use super::request::{Body, Making, Query, fingerprint, optional};
use super::{Answer, Api, view};

/// The digest of the snapshot that worlds begin from when none is named.
const DEFAULT: &str = "worldline:default";

fn default_snapshot(worlds: &Runtime) -> Result<String, WorldError> {
    let note = Note {
        digest: Some(DEFAULT.into()),
        ..Note::default()
    };
    Ok(worlds
        .create_snapshot(&NewSnapshot {
            note,
            ..NewSnapshot::default()
        })?
        .id)
}

/// `POST /v1/sandboxes`
pub(super) async fn create(
    State(api): State<Api>,
    headers: HeaderMap,
    query: Query,
    body: Body,
) -> Answer {
    let body = body?;
    let asked: Making = optional(&body)?;
    let request = fingerprint("sandbox", &query, &body);
    let created = api.once(&headers, request, move |worlds| {
        let snapshot = match (&asked.snapshot_id, &asked.image_id) {
            (Some(id), _) => id.clone(),
            (None, Some(image)) => {
                let new = NewSnapshot {
                    image: Some(image.clone()),
                    ..NewSnapshot::default()
                };
                worlds.create_snapshot(&new)?.id
            }
            (None, None) => default_snapshot(worlds)?,
        };
        Ok(view::instance(&worlds.start(&snapshot, &asked.instance())?))
    });
    created.await
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Execute {
    code: String,
    timeout: Option<f64>,
}

/// `POST /v1/sandboxes/{id}/execute`
pub(super) async fn execute(State(api): State<Api>, Path(id): Path<String>, body: Body) -> Answer {
    let asked: Execute = optional(&body?)?;
    let cell = Cell {
        timeout: limit(asked.timeout)?,
        ..Cell::new(asked.code)
    };
    let _gone = CancelOnDrop(cell.cancel.clone());
    let done = api.blocking(move |worlds| {
        let mut said = Collected::default();
        let mut output = String::new();
        let outcome = worlds.run(&id, &cell, &mut |stream: Stream, bytes: &[u8]| {
            said.push(stream, bytes, &cell.cancel);
            if !said.too_much {
                output.push_str(&String::from_utf8_lossy(bytes));
            }
        })?;
        Ok((outcome, said, output))
    });
    let (outcome, said, output) = done.await?;
    said.refuse()?;
    Ok(Json(executed(&outcome, &said, output)))
}

/// `output` is all that a person would have seen: what was written, the value, the traceback.
fn executed(outcome: &Outcome, said: &Collected, mut output: String) -> Value {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let value = outcome.value.as_deref();
    for line in value.into_iter().chain(
        outcome
            .error
            .as_ref()
            .map(|error| error.traceback.trim_end()),
    ) {
        if !output.is_empty() && !output.ends_with('\n') {
            output.push('\n');
        }
        output.push_str(line);
    }
    json!({
        "status": outcome.status,
        "exit_code": i32::from(outcome.status != "ok"),
        "execution_count": outcome.execution_count,
        "output": output,
        "stdout": text(&said.out),
        "stderr": text(&said.error),
        "value": outcome.value,
        "error": outcome.error,
        "images": outcome.images,
        "execution_time": outcome.seconds,
    })
}
