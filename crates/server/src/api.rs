//! The HTTP calls of the arcade.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;
use worldline_arena::{
    CreateError, EnterError, JsonReplay, MatchId, MatchView, NewMatch, Opponent, Recording,
    ReplayView, Report, Timing, World, WorldCard, json_frames, states, unhex, verify,
};

use crate::App;
use crate::error::ApiError;
use crate::guard::QUERY_NAME;
use crate::limits::REEXECUTION_WAIT;

type Answer<T> = Result<Json<T>, ApiError>;
type Body = Result<Bytes, BytesRejection>;

fn parse<T: DeserializeOwned>(body: Body) -> Result<T, ApiError> {
    serde_json::from_slice(&body?).map_err(|error| ApiError::bad_json(&error))
}

/// `GET /api/about`: what this arcade has beside its matches.
pub(crate) async fn about(State(app): State<App>) -> Json<Value> {
    #[cfg(not(any(feature = "chain", feature = "worlds")))]
    let _ = app;
    #[cfg(feature = "chain")]
    let chain = crate::chain::about(&app);
    #[cfg(not(feature = "chain"))]
    let chain = Value::Null;
    #[cfg(feature = "worlds")]
    let worlds = app.worlds.is_some();
    #[cfg(not(feature = "worlds"))]
    let worlds = false;
    Json(json!({ "chain": chain, "worlds": worlds }))
}

/// `GET /api/worlds`
pub(crate) async fn worlds(State(app): State<App>) -> Json<Vec<WorldCard>> {
    Json(
        app.arena
            .shelf()
            .worlds()
            .iter()
            .map(|world| world.card())
            .collect(),
    )
}

/// `GET /api/timing`
pub(crate) async fn timing(State(app): State<App>) -> Json<Timing> {
    Json(app.arena.timing())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Create {
    world: String,
    stage: u8,
    key: String,
    opponent: Opponent,
    seconds: Option<u32>,
}

/// A seat, for the one who took it.
#[derive(Serialize)]
pub(crate) struct SeatView {
    session: MatchId,
    seat: u8,
    token: String,
    invite: String,
}

impl App {
    /// Where links to this arcade begin, with the token where one is needed.
    pub(crate) fn home(&self) -> String {
        match self.access.token() {
            Some(access) => format!("/?{QUERY_NAME}={}", access.as_str()),
            None => "/".into(),
        }
    }

    fn invite(&self, id: MatchId) -> String {
        format!("{}#/s/{id}", self.home())
    }
}

/// `POST /api/sessions`
pub(crate) async fn create(State(app): State<App>, body: Body) -> Answer<SeatView> {
    let asked: Create = parse(body)?;
    let new = NewMatch {
        world: asked.world,
        stage: asked.stage,
        key: unhex(&asked.key).ok_or(CreateError::BadKey)?,
        opponent: asked.opponent,
        seconds: asked.seconds,
    };
    let seated = app.arena.create(&new)?;
    Ok(Json(SeatView {
        session: seated.id,
        seat: seated.seat,
        token: seated.token.as_str().into(),
        invite: app.invite(seated.id),
    }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Join {
    key: String,
}

/// `POST /api/sessions/{id}/join`
pub(crate) async fn join(
    State(app): State<App>,
    Path(id): Path<String>,
    body: Body,
) -> Answer<SeatView> {
    let id = id.parse::<MatchId>()?;
    let asked: Join = parse(body)?;
    let key = unhex(&asked.key).ok_or(EnterError::BadKey)?;
    let seated = app.arena.join(id, &key)?;
    Ok(Json(SeatView {
        session: id,
        seat: seated.seat,
        token: seated.token.as_str().into(),
        invite: app.invite(id),
    }))
}

/// `GET /api/sessions`
pub(crate) async fn sessions(State(app): State<App>) -> Json<Vec<MatchView>> {
    Json(app.arena.list())
}

/// `GET /api/sessions/{id}`
pub(crate) async fn session(State(app): State<App>, Path(id): Path<String>) -> Answer<MatchView> {
    Ok(Json(app.arena.view(id.parse::<MatchId>()?)?))
}

/// `GET /api/replays`
pub(crate) async fn replays(State(app): State<App>) -> Answer<Vec<ReplayView>> {
    let app = app.clone();
    blocking(move || Ok(Json(app.arena.replays()?))).await
}

/// `GET /api/replays/{id}`: the `.wlr` file.
pub(crate) async fn replay(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let id = id.parse::<MatchId>()?;
    let bytes = blocking(move || Ok(app.arena.store().replay_bytes(id)?)).await?;
    let name = format!("attachment; filename=\"{id}.wlr\"");
    Ok((
        [
            (CONTENT_TYPE, "application/octet-stream".to_owned()),
            (CONTENT_DISPOSITION, name),
        ],
        bytes,
    )
        .into_response())
}

/// `GET /api/replays/{id}/frames`: JSON frames.
pub(crate) async fn frames(State(app): State<App>, Path(id): Path<String>) -> Answer<JsonReplay> {
    let frames = reexecute(app, &id, |recording, world| json_frames(&recording, &world)).await?;
    Ok(Json(frames))
}

/// `GET /api/replays/{id}/states`: every `SessionState`, 256 bytes each, the start first.
pub(crate) async fn replay_states(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let bytes = reexecute(app, &id, |recording, world| {
        let states = states(&recording, &world);
        bytemuck::cast_slice(&states).to_vec()
    });
    Ok(([(CONTENT_TYPE, "application/octet-stream")], bytes.await?).into_response())
}

/// `POST /api/replays/{id}/verify`
pub(crate) async fn check(State(app): State<App>, Path(id): Path<String>) -> Answer<Report> {
    let report = reexecute(app, &id, |recording, world| verify(&recording, &world)).await?;
    Ok(Json(report))
}

/// Anything else under `/api`.
pub(crate) async fn nothing() -> ApiError {
    ApiError::not_found()
}

/// Waits until no other replay is re-executed: frames of live matches come first.
pub(crate) async fn turn(app: &App) -> Result<OwnedSemaphorePermit, ApiError> {
    match timeout(REEXECUTION_WAIT, app.reexecutions.clone().acquire_owned()).await {
        Ok(Ok(turn)) => Ok(turn),
        _ => Err(ApiError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "busy",
            "other replays are being re-executed: try again in a minute",
        )),
    }
}

/// Runs `work` on a stored replay, off the async threads and not beside others of its kind.
async fn reexecute<T: Send + 'static>(
    app: App,
    id: &str,
    work: impl FnOnce(Recording, Arc<World>) -> T + Send + 'static,
) -> Result<T, ApiError> {
    let id = id.parse::<MatchId>()?;
    let turn = turn(&app).await?;
    blocking(move || {
        let _turn = turn;
        let (recording, world) = app.arena.replay(id)?;
        let world = world.ok_or_else(|| {
            let detail = "this replay was played in a world that is not on the shelf: put its cartridge there";
            ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "unknown_world", detail)
        })?;
        Ok(work(recording, world))
    })
    .await
}

pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| {
        Err(ApiError::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "the request failed inside the server: see its log",
        ))
    })
}
