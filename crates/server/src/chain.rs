//! Chains for pages: their JSON-RPC passed on under the arcade's own address, so that one origin, one
//! certificate and one token are enough; and matches that L1 keeps, executed again for viewers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket};
use axum::extract::{Path, State, WebSocketUpgrade};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message as Theirs;
use worldline_abi::WorldAccount;
use worldline_arena::{
    JsonReplay, Recording, ReplayError, Report, World, WorldCard, json_frames, states,
    verify as execute,
};
use worldline_chain::download::{DownloadError, download};
use worldline_chain::read::{ReadError, read};
use worldline_chain::table::Chains;
use worldline_chain::verify::{VerifyError, check, replay, result};
use worldline_chain::watch::websocket_url;
use worldline_chain::{Address, Program, Rpc, RpcError};

use crate::App;
use crate::api::{blocking, turn};
use crate::error::ApiError;
use crate::limits::{CHAIN_TIMEOUT, FETCHED_WORLDS, MAX_MESSAGE, SEND_TIMEOUT};

/// Which chains pages reach.
#[derive(Clone)]
pub struct ChainAccess {
    /// L1 and the rollup.
    pub chains: Chains,
    /// The world-model program.
    pub program: Program,
    /// Who runs, records and settles the matches of this rollup; without one players do it.
    pub keeper: Option<Address>,
    /// Whether L1 is a box whose faucet gives play money.
    pub play_money: bool,
    /// Worlds that were fetched from L1, by their roots.
    pub fetched: Fetched,
}

/// Worlds that were fetched from L1, by their roots; shared and bounded.
#[derive(Clone, Default)]
pub struct Fetched(Arc<Mutex<HashMap<[u8; 32], Arc<World>>>>);

impl Fetched {
    fn get(&self, root: &[u8; 32]) -> Option<Arc<World>> {
        self.lock().get(root).cloned()
    }

    fn keep(&self, world: &Arc<World>) {
        let mut worlds = self.lock();
        if worlds.len() >= FETCHED_WORLDS {
            worlds.clear();
        }
        worlds.insert(world.root(), Arc::clone(world));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<[u8; 32], Arc<World>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) fn routes(router: Router<App>) -> Router<App> {
    router
        .route("/api/chain/worlds/{world}", get(card))
        .route("/api/chain/rpc/{which}", post(forward).get(pubsub))
        .route("/api/chain/matches/{session}/states", get(match_states))
        .route("/api/chain/matches/{session}/frames", get(match_frames))
        .route("/api/chain/matches/{session}/verify", post(verify))
}

impl App {
    fn chain(&self) -> Result<&ChainAccess, ApiError> {
        self.chain.as_ref().ok_or_else(|| {
            let detail = "this arcade runs its matches itself, on no chain";
            ApiError::new(StatusCode::NOT_FOUND, "no_chain", detail)
        })
    }

    fn rpc(&self, which: &str) -> Result<&Rpc, ApiError> {
        let chains = &self.chain()?.chains;
        match which {
            "l1" => Ok(&chains.l1),
            "rollup" => Ok(&chains.rollup),
            _ => Err(ApiError::not_found()),
        }
    }
}

/// What pages have to know of the chains; `null` where matches run on none.
pub(crate) fn about(app: &App) -> Value {
    let Some(access) = &app.chain else {
        return Value::Null;
    };
    json!({
        "program": access.program.id.to_string(),
        "keeper": access.keeper.map(|keeper| keeper.to_string()),
        "play_money": access.play_money,
        "home": app.home(),
    })
}

/// `GET /api/chain/worlds/{world}`: what a world's cartridge on L1 says of itself.
async fn card(
    State(app): State<App>,
    Path(world): Path<String>,
) -> Result<Json<WorldCard>, ApiError> {
    blocking(move || {
        let access = app.chain()?;
        let at = address(&world)?;
        let account: WorldAccount = read(&access.program, &access.chains.l1, &at)?;
        Ok(Json(
            world_at(&app, &at, &account.manifest.merkle_root)?.card(),
        ))
    })
    .await
}

/// A world by its root: from this machine's shelf, else fetched from L1.
fn world_at(app: &App, at: &Address, root: &[u8; 32]) -> Result<Arc<World>, ApiError> {
    if let Some(world) = app.arena.shelf().by_root(root) {
        return Ok(Arc::clone(world));
    }
    let access = app.chain()?;
    if let Some(world) = access.fetched.get(root) {
        return Ok(world);
    }
    let cartridge = download(&access.chains.l1, &access.program, at)?;
    let name = cartridge.manifest().name().to_owned();
    let world = World::new(name, cartridge, Value::Null);
    access.fetched.keep(&world);
    Ok(world)
}

/// `POST /api/chain/rpc/{l1|rollup}`: JSON-RPC.
async fn forward(
    State(app): State<App>,
    Path(which): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    let rpc = app.rpc(&which)?.clone();
    let body = String::from_utf8(body?.into()).map_err(|_| {
        let detail = "a JSON-RPC request is text";
        ApiError::new(StatusCode::BAD_REQUEST, "bad_body", detail)
    })?;
    let answer = blocking(move || Ok(rpc.forward(&body)?)).await?;
    Ok(([(CONTENT_TYPE, "application/json")], answer).into_response())
}

/// `GET /api/chain/rpc/{l1|rollup}` with an upgrade: subscriptions.
async fn pubsub(
    State(app): State<App>,
    Path(which): Path<String>,
    upgrade: WebSocketUpgrade,
) -> Result<Response, ApiError> {
    let url = websocket_url(app.rpc(&which)?.url());
    let Ok(permit) = app.sockets.clone().try_acquire_owned() else {
        let detail = "too many people are connected: try again later";
        let code = "too_many_sockets";
        return Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, code, detail));
    };
    let upgrade = upgrade
        .max_message_size(MAX_MESSAGE)
        .max_frame_size(MAX_MESSAGE);
    Ok(upgrade.on_upgrade(async move |mut page| {
        let _permit = permit;
        if !bridge(&mut page, &url).await {
            let reason = "the chain cannot be reached".into();
            let close = Message::Close(Some(CloseFrame { code: 1013, reason }));
            let _ = timeout(SEND_TIMEOUT, page.send(close)).await;
        }
    }))
}

/// Passes text both ways until one side ends; false when the chain did, or was never there.
async fn bridge(page: &mut WebSocket, url: &str) -> bool {
    let Ok(Ok((mut chain, _))) = timeout(CHAIN_TIMEOUT, connect_async(url)).await else {
        return false;
    };
    loop {
        tokio::select! {
            said = page.recv() => match said {
                Some(Ok(Message::Text(text))) => {
                    if chain.send(Theirs::text(text.as_str())).await.is_err() {
                        return false;
                    }
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                _ => {
                    let _ = timeout(SEND_TIMEOUT, chain.close(None)).await;
                    return true;
                }
            },
            told = chain.next() => match told {
                Some(Ok(Theirs::Text(text))) => {
                    let sent = page.send(Message::Text(text.as_str().into()));
                    if !matches!(timeout(SEND_TIMEOUT, sent).await, Ok(Ok(()))) {
                        return true;
                    }
                }
                Some(Ok(Theirs::Ping(_) | Theirs::Pong(_))) => {}
                _ => return false,
            },
        }
    }
}

/// A match that L1 keeps, and the world to execute it in.
fn kept(app: &App, session: &str) -> Result<(Recording, Arc<World>), ApiError> {
    let access = app.chain()?;
    let (l1, program) = (&access.chains.l1, &access.program);
    let session = address(session)?;
    let recording = Recording::decode(&replay(l1, program, &session)?)?;
    let of = &recording.session;
    let world = world_at(app, &of.world.into(), &of.world_root)?;
    Ok((recording, world))
}

fn address(text: &str) -> Result<Address, ApiError> {
    text.parse().map_err(|_| {
        let detail = format!("`{text}` is no address");
        ApiError::new(StatusCode::BAD_REQUEST, "bad_address", detail)
    })
}

/// `GET /api/chain/matches/{session}/states`: every `SessionState`, the start first.
async fn match_states(
    State(app): State<App>,
    Path(session): Path<String>,
) -> Result<Response, ApiError> {
    let _turn = turn(&app).await?;
    let bytes = blocking(move || {
        let (recording, world) = kept(&app, &session)?;
        Ok(bytemuck::cast_slice(&states(&recording, &world)).to_vec())
    });
    Ok(([(CONTENT_TYPE, "application/octet-stream")], bytes.await?).into_response())
}

/// `GET /api/chain/matches/{session}/frames`: JSON frames.
async fn match_frames(
    State(app): State<App>,
    Path(session): Path<String>,
) -> Result<Json<JsonReplay>, ApiError> {
    let _turn = turn(&app).await?;
    blocking(move || {
        let (recording, world) = kept(&app, &session)?;
        Ok(Json(json_frames(&recording, &world)))
    })
    .await
}

/// `POST /api/chain/matches/{session}/verify`
async fn verify(
    State(app): State<App>,
    Path(session): Path<String>,
) -> Result<Json<Report>, ApiError> {
    let _turn = turn(&app).await?;
    blocking(move || {
        let (recording, world) = kept(&app, &session)?;
        let access = app.chain()?;
        let result = result(&access.chains.l1, &access.program, &address(&session)?)?;
        Ok(Json(check(
            &result,
            &recording,
            execute(&recording, &world),
        )))
    })
    .await
}

impl From<RpcError> for ApiError {
    fn from(error: RpcError) -> Self {
        Self::new(StatusCode::BAD_GATEWAY, "chain", error.to_string())
    }
}

impl From<ReadError> for ApiError {
    fn from(error: ReadError) -> Self {
        let (status, code) = match &error {
            ReadError::Missing { .. } => (StatusCode::NOT_FOUND, "unknown_match"),
            ReadError::Rpc(_) => (StatusCode::BAD_GATEWAY, "chain"),
            _ => (StatusCode::UNPROCESSABLE_ENTITY, "bad_account"),
        };
        Self::new(status, code, error.to_string())
    }
}

impl From<DownloadError> for ApiError {
    fn from(error: DownloadError) -> Self {
        match error {
            DownloadError::Read(error) => error.into(),
            _ => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "unknown_world",
                error.to_string(),
            ),
        }
    }
}

impl From<ReplayError> for ApiError {
    fn from(error: ReplayError) -> Self {
        Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "bad_replay",
            error.to_string(),
        )
    }
}

impl From<VerifyError> for ApiError {
    fn from(error: VerifyError) -> Self {
        match error {
            VerifyError::Read(error) => error.into(),
            VerifyError::Replay(error) => error.into(),
            VerifyError::World(error) => error.into(),
            VerifyError::NoReplay(_) => {
                Self::new(StatusCode::NOT_FOUND, "no_replay", error.to_string())
            }
        }
    }
}
