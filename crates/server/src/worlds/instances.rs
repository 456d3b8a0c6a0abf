//! Worlds that run: Morph's instances.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use serde::Deserialize;
use serde_json::{Value, json};
use worldline_runtime::{Branching, NewInstance, Note};

use super::request::{Body, Life, Making, Query, Words, done, fingerprint, optional};
use super::{Answer, Api, view};
use crate::error::ApiError;

async fn found(api: &Api, query: &Query) -> Result<Vec<Value>, ApiError> {
    let metadata = query.metadata();
    let found = api
        .blocking(move |worlds| worlds.instances(&metadata))
        .await?;
    Ok(found.iter().map(view::instance).collect())
}

/// `GET /instance`
pub(super) async fn list(State(api): State<Api>, query: Query) -> Answer {
    Ok(Json(
        json!({ "object": "list", "data": found(&api, &query).await? }),
    ))
}

/// `GET /instance/list`
pub(super) async fn pages(State(api): State<Api>, query: Query) -> Answer {
    Ok(Json(view::page(
        "instances",
        found(&api, &query).await?,
        &query,
    )?))
}

/// `POST /instance?snapshot_id=`
pub(super) async fn start(
    State(api): State<Api>,
    headers: HeaderMap,
    query: Query,
    body: Body,
) -> Answer {
    let body = body?;
    let asked: Making = optional(&body)?;
    let snapshot = match &asked.snapshot_id {
        Some(id) => id.clone(),
        None => query.required("snapshot_id")?,
    };
    let request = fingerprint("instance", &query, &body);
    api.once(&headers, request, move |worlds| {
        Ok(view::instance(&worlds.start(&snapshot, &asked.instance())?))
    })
    .await
}

/// `GET /instance/{id}`
pub(super) async fn one(State(api): State<Api>, Path(id): Path<String>) -> Answer {
    let record = api.blocking(move |worlds| worlds.instance(&id)).await?;
    Ok(Json(view::instance(&record)))
}

/// `DELETE /instance/{id}`
pub(super) async fn stop(State(api): State<Api>, Path(id): Path<String>) -> Answer {
    api.services.forget(&id);
    api.keys.forget(&id);
    api.blocking(move |worlds| worlds.stop(&id)).await?;
    Ok(done())
}

/// `POST /instance/{id}/pause`
pub(super) async fn pause(State(api): State<Api>, Path(id): Path<String>) -> Answer {
    api.blocking(move |worlds| worlds.pause(&id)).await?;
    Ok(done())
}

/// `POST /instance/{id}/resume`
pub(super) async fn resume(State(api): State<Api>, Path(id): Path<String>) -> Answer {
    api.blocking(move |worlds| worlds.resume(&id)).await?;
    Ok(done())
}

/// `POST /instance/{id}/reboot`: begins anew from its snapshot; what it held since is lost.
pub(super) async fn reboot(State(api): State<Api>, Path(id): Path<String>, body: Body) -> Answer {
    let new: NewInstance = optional::<Making>(&body?)?.instance();
    let record =
        api.blocking(move |worlds| worlds.reboot(&id, &new).and_then(|()| worlds.instance(&id)));
    Ok(Json(view::instance(&record.await?)))
}

/// `POST /instance/{id}/snapshot`
pub(super) async fn snapshot(
    State(api): State<Api>,
    Path(id): Path<String>,
    headers: HeaderMap,
    query: Query,
    body: Body,
) -> Answer {
    let body = body?;
    let note = optional::<Making>(&body)?.note(&query);
    let request = fingerprint(&format!("snapshot of {id}"), &query, &body);
    api.once(&headers, request, move |worlds| {
        let mut kept = view::snapshot(worlds, &worlds.snapshot(&id, &note)?);
        // As the short route calls it.
        kept["snapshot_id"] = kept["id"].clone();
        Ok(kept)
    })
    .await
}

/// `POST /instance/{id}/branch?count=`
pub(super) async fn branch(
    State(api): State<Api>,
    Path(id): Path<String>,
    headers: HeaderMap,
    query: Query,
    body: Body,
) -> Answer {
    let body = body?;
    let asked: Making = optional(&body)?;
    let branching = Branching {
        count: query.number("count", 1)?,
        trits: asked.trits.clone(),
        note: Note {
            digest: None,
            ..asked.note(&query)
        },
        children: asked.children(),
    };
    let request = fingerprint(&format!("branch of {id}"), &query, &body);
    let branched = api.once(&headers, request, move |worlds| {
        let (snapshot, children) = worlds.branch(&id, &branching)?;
        let children: Vec<Value> = children.iter().map(view::instance).collect();
        Ok(json!({ "snapshot": view::snapshot(worlds, &snapshot), "instances": children }))
    });
    branched.await
}

/// `POST /instance/{id}/metadata`
pub(super) async fn set_metadata(
    State(api): State<Api>,
    Path(id): Path<String>,
    body: Body,
) -> Answer {
    api.set(body, move |worlds, Words(metadata)| {
        worlds.set_metadata(&id, metadata)
    })
    .await
}

/// `POST /instance/{id}/ttl`
pub(super) async fn set_ttl(State(api): State<Api>, Path(id): Path<String>, body: Body) -> Answer {
    api.set(body, move |worlds, life: Life| {
        worlds.set_ttl(&id, life.ttl_seconds, life.ttl_action)
    })
    .await
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Wake {
    wake_on_ssh: Option<bool>,
    wake_on_http: Option<bool>,
}

/// `POST /instance/{id}/wake-on`
pub(super) async fn set_wake_on(
    State(api): State<Api>,
    Path(id): Path<String>,
    body: Body,
) -> Answer {
    api.set(body, move |worlds, wake: Wake| {
        worlds.set_wake_on(&id, wake.wake_on_ssh, wake.wake_on_http)
    })
    .await
}

/// `GET /instance/{id}/ssh/key`
pub(super) async fn ssh_key(State(api): State<Api>, Path(id): Path<String>) -> Answer {
    key_of(&api, id, false).await
}

/// `POST /instance/{id}/ssh/key`: the former one opens nothing any more.
pub(super) async fn new_ssh_key(State(api): State<Api>, Path(id): Path<String>) -> Answer {
    key_of(&api, id, true).await
}

async fn key_of(api: &Api, id: String, anew: bool) -> Answer {
    let keys = api.keys.clone();
    let known = api.blocking(move |worlds| worlds.instance(&id));
    let world = known.await?;
    let key = keys.get(&world.id, anew).map_err(ApiError::host)?;
    Ok(Json(json!(key)))
}
