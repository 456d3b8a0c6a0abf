//! Images and snapshots.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use worldline_runtime::NewSnapshot;

use super::request::{Body, Life, Making, Query, Words, done, fingerprint, optional};
use super::{Answer, Api, view};
use crate::error::ApiError;

/// `GET /image`
pub(super) async fn images(State(api): State<Api>) -> Answer {
    let images = api.blocking(|worlds| Ok(worlds.images())).await?;
    Ok(Json(
        json!({ "object": "list", "data": images.iter().map(view::image).collect::<Vec<_>>() }),
    ))
}

fn found(api: &Api, query: &Query) -> Vec<Value> {
    api.worlds
        .snapshots(&query.metadata(), query.get("digest"))
        .iter()
        .map(|one| view::snapshot(&api.worlds, one))
        .collect()
}

/// `GET /snapshot`
pub(super) async fn list(State(api): State<Api>, query: Query) -> Answer {
    Ok(Json(
        json!({ "object": "list", "data": found(&api, &query) }),
    ))
}

/// `GET /snapshot/list`
pub(super) async fn pages(State(api): State<Api>, query: Query) -> Answer {
    Ok(Json(view::page("snapshots", found(&api, &query), &query)?))
}

/// `POST /snapshot`
pub(super) async fn create(
    State(api): State<Api>,
    headers: HeaderMap,
    query: Query,
    body: Body,
) -> Answer {
    let body = body?;
    let asked: Making = optional(&body)?;
    if asked
        .network
        .as_ref()
        .is_some_and(|names| !names.is_empty())
    {
        let detail =
            "a snapshot reaches nothing: give `network` to the world that is started from it";
        return Err(ApiError::new(
            StatusCode::BAD_REQUEST,
            "bad_network",
            detail,
        ));
    }
    let new = NewSnapshot {
        image: asked.image_id.clone(),
        sizes: asked.sizes(),
        note: asked.note(&query),
    };
    let request = fingerprint("snapshot", &query, &body);
    api.once(&headers, request, move |worlds| {
        Ok(view::snapshot(worlds, &worlds.create_snapshot(&new)?))
    })
    .await
}

/// `GET /snapshot/{id}`
pub(super) async fn one(State(api): State<Api>, Path(id): Path<String>) -> Answer {
    Ok(Json(view::snapshot(
        &api.worlds,
        &api.worlds.snapshot_record(&id)?,
    )))
}

/// `DELETE /snapshot/{id}`
pub(super) async fn remove(State(api): State<Api>, Path(id): Path<String>) -> Answer {
    api.blocking(move |worlds| worlds.remove_snapshot(&id))
        .await?;
    Ok(done())
}

/// `POST /snapshot/{id}/metadata`
pub(super) async fn set_metadata(
    State(api): State<Api>,
    Path(id): Path<String>,
    body: Body,
) -> Answer {
    api.set(body, move |worlds, Words(metadata)| {
        worlds.set_snapshot_metadata(&id, metadata)
    })
    .await
}

/// `POST /snapshot/{id}/ttl`
pub(super) async fn set_ttl(State(api): State<Api>, Path(id): Path<String>, body: Body) -> Answer {
    api.set(body, move |worlds, life: Life| {
        worlds.set_snapshot_ttl(&id, life.ttl_seconds)
    })
    .await
}

/// `POST /snapshot/{id}/boot`
pub(super) async fn boot(
    State(api): State<Api>,
    Path(id): Path<String>,
    headers: HeaderMap,
    query: Query,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let body = body?;
    let new = optional::<Making>(&body)?.instance();
    let request = fingerprint(&format!("boot {id}"), &query, &body);
    api.once(&headers, request, move |worlds| {
        Ok(view::instance(&worlds.start(&id, &new)?))
    })
    .await
}
