//! Disks that get another size. A resize is over when it is answered; its operation can be asked for as
//! long as this program runs.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use worldline_arena::{hex, random_bytes};

use super::request::{Body, Query, fingerprint, optional};
use super::{Answer, Api};
use crate::error::ApiError;
use crate::limits::MAX_RESIZES;

/// The last operations, the newest at the end.
#[derive(Default)]
pub(super) struct Resizes(Mutex<VecDeque<Value>>);

impl Resizes {
    fn keep(&self, operation: Value) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MAX_RESIZES {
            all.pop_front();
        }
        all.push_back(operation);
    }

    fn find(&self, world: &str, operation: &str) -> Option<Value> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is = |one: &&Value| one["id"] == operation && one["instance_id"] == world;
        all.iter().find(is).cloned()
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Asked {
    disk_size: u32,
}

/// `POST /instance/{id}/disk-resize`
pub(super) async fn begin(
    State(api): State<Api>,
    Path(id): Path<String>,
    headers: HeaderMap,
    query: Query,
    body: Body,
) -> Result<Response, ApiError> {
    let body = body?;
    let Asked { disk_size } = optional(&body)?;
    let request = fingerprint(&format!("resize of {id}"), &query, &body);
    let resizes = api.resizes.clone();
    let Json(operation) = api
        .once(&headers, request, move |worlds| {
            let before = worlds.instance(&id)?.sizes.disk_mib;
            worlds.resize_disk(&id, disk_size)?;
            let operation = done(&id, before, disk_size);
            resizes.keep(operation.clone());
            Ok(operation)
        })
        .await?;
    Ok((StatusCode::ACCEPTED, Json(operation)).into_response())
}

/// An operation that has succeeded.
fn done(id: &str, before: u32, after: u32) -> Value {
    let now = super::user::now();
    json!({
        "object": "instance_disk_resize",
        "id": format!("resize_{}", hex(&random_bytes::<8>())),
        "instance_id": id,
        "previous_disk_size": before,
        "requested_disk_size": after,
        "capacity_mode": "limit",
        "status": "succeeded",
        "phase": "complete",
        "capacity_generation": 0,
        "effective_capacity_bytes": u64::from(after) << 20,
        "created_at": now,
        "updated_at": now,
        "completed_at": now,
    })
}

/// `GET /instance/{id}/disk-resize/{operation}`
pub(super) async fn one(
    State(api): State<Api>,
    Path((id, operation)): Path<(String, String)>,
) -> Answer {
    let found = api.resizes.find(&id, &operation);
    found.map(Json).ok_or_else(|| {
        let detail = format!(
            "there is no resize {operation} of {id}: this server knows its last {MAX_RESIZES}"
        );
        ApiError::new(StatusCode::NOT_FOUND, "operation_not_found", detail)
    })
}
