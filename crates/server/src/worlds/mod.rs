//! Worlds over HTTP: Morph Cloud's calls, as its client makes them, three short routes for the same, and
//! what only this runtime has (lineage, equations, questions, files).
//!
//! Bodies are JSON whatever their content type says, and may be left out; unknown fields are ignored, as
//! clients differ. A call that makes something takes an `Idempotency-Key`.

mod exec;
mod instances;
mod openapi;
mod own;
mod request;
mod resize;
mod services;
mod short;
mod snapshots;
mod ssh;
mod user;
mod view;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::routing::{delete, get, post};
use serde_json::Value;
use worldline_runtime::{Blame, Runtime, WorldError};

use crate::access::Access;
use crate::error::ApiError;
use crate::limits::{MAX_FILE, MAX_WORLD_BODY};
use resize::Resizes;
use services::Services;
use ssh::{Gateway, InstanceKeys};
pub(crate) use user::Account;

/// What the handlers here share.
#[derive(Clone)]
pub(crate) struct Api {
    worlds: Runtime,
    services: Arc<Services>,
    keys: Arc<InstanceKeys>,
    account: Arc<Account>,
    access: Arc<Access>,
    resizes: Arc<Resizes>,
}

/// The calls. They expect to be behind the guard.
pub(crate) fn router(api: Api) -> Router {
    let files = Router::new()
        .route("/v1/worlds/{id}/files", get(own::read).put(own::write))
        .layer(DefaultBodyLimit::max(MAX_FILE));
    Router::new()
        .route("/image", get(snapshots::images))
        .route("/snapshot", get(snapshots::list).post(snapshots::create))
        .route("/snapshot/list", get(snapshots::pages))
        .route(
            "/snapshot/{id}",
            get(snapshots::one).delete(snapshots::remove),
        )
        .route("/snapshot/{id}/metadata", post(snapshots::set_metadata))
        .route("/snapshot/{id}/ttl", post(snapshots::set_ttl))
        .route("/snapshot/{id}/boot", post(snapshots::boot))
        .route("/instance", get(instances::list).post(instances::start))
        .route("/instance/list", get(instances::pages))
        .route(
            "/instance/{id}",
            get(instances::one).delete(instances::stop),
        )
        .route("/instance/{id}/pause", post(instances::pause))
        .route("/instance/{id}/resume", post(instances::resume))
        .route("/instance/{id}/reboot", post(instances::reboot))
        .route("/instance/{id}/snapshot", post(instances::snapshot))
        .route("/instance/{id}/branch", post(instances::branch))
        .route("/instance/{id}/metadata", post(instances::set_metadata))
        .route("/instance/{id}/ttl", post(instances::set_ttl))
        .route("/instance/{id}/wake-on", post(instances::set_wake_on))
        .route("/instance/{id}/exec", post(exec::plain))
        .route("/instance/{id}/exec/sse", post(exec::streamed))
        .route(
            "/instance/{id}/ssh/key",
            get(instances::ssh_key).post(instances::new_ssh_key),
        )
        .route("/instance/{id}/disk-resize", post(resize::begin))
        .route("/instance/{id}/disk-resize/{operation}", get(resize::one))
        .route("/instance/{id}/http", post(services::add))
        .route("/instance/{id}/http/{name}", delete(services::remove))
        .route(
            "/user/api-key",
            get(user::call_keys).post(user::new_call_key),
        )
        .route("/user/api-key/{id}", delete(user::remove_call_key))
        .route(
            "/user/ssh-keys",
            get(user::ssh_keys).post(user::new_ssh_key),
        )
        .route(
            "/user/ssh-keys/{id}",
            get(user::ssh_key)
                .patch(user::change_ssh_key)
                .delete(user::remove_ssh_key),
        )
        .route(
            "/user/ssh-key",
            get(user::legacy_ssh_key).put(user::set_legacy_ssh_key),
        )
        .route("/user/secret", get(user::secrets).post(user::new_secret))
        .route("/user/secret/{name}", delete(user::remove_secret))
        .route("/user/usage", get(user::usage))
        .route("/v1/sandboxes", post(short::create))
        .route("/v1/sandboxes/{id}/snapshots", post(instances::snapshot))
        .route("/v1/sandboxes/{id}/execute", post(short::execute))
        .route("/v1/worlds/tree", get(own::tree))
        .route("/v1/worlds/metrics", get(own::metrics))
        .route("/v1/worlds/check", get(own::check))
        .route("/v1/worlds/sql", post(own::sql))
        .route("/v1/worlds/distance", get(own::distance))
        .route("/v1/worlds/diff", get(own::diff))
        .route("/v1/worlds/gc", post(own::collect))
        .route("/v1/worlds/doctor", get(own::doctor))
        .route("/v1/worlds/{id}/trace", get(own::trace))
        .route("/v1/worlds/{id}/stats", get(own::stats))
        .route("/v1/worlds/{id}/verify", post(own::verify))
        .route("/metrics", get(own::prometheus))
        .route("/openapi.json", get(openapi::document))
        .layer(DefaultBodyLimit::max(MAX_WORLD_BODY))
        .merge(files)
        .with_state(api)
}

type Answer = Result<axum::Json<Value>, ApiError>;

impl Api {
    pub(crate) fn new(worlds: Runtime, account: Arc<Account>, access: Arc<Access>) -> Self {
        Self {
            worlds,
            account,
            access,
            services: Arc::default(),
            keys: Arc::default(),
            resizes: Arc::default(),
        }
    }

    /// The same worlds over SSH.
    pub(crate) fn gateway(&self) -> Gateway {
        Gateway {
            worlds: self.worlds.clone(),
            access: Arc::clone(&self.access),
            account: Arc::clone(&self.account),
            keys: Arc::clone(&self.keys),
        }
    }

    /// Does something that waits, off the async threads.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Runtime) -> Result<T, WorldError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let worlds = self.worlds.clone();
        crate::api::blocking(move || Ok(work(&worlds)?)).await
    }
}

impl From<WorldError> for ApiError {
    fn from(error: WorldError) -> Self {
        let status = match error.blame() {
            Blame::Missing => StatusCode::NOT_FOUND,
            Blame::Request => StatusCode::BAD_REQUEST,
            Blame::State => StatusCode::CONFLICT,
            Blame::Room => StatusCode::TOO_MANY_REQUESTS,
            Blame::Host => StatusCode::INTERNAL_SERVER_ERROR,
        };
        if error.blame() == Blame::Host {
            tracing::error!(%error, "a call on worlds failed");
        }
        Self::new(status, error.code(), error.to_string())
    }
}
