//! Ports of worlds, reached from this machine: each service has a port on loopback that is carried to the
//! world's own. What goes through is not looked at, so that WebSockets and the like work too.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::{Mutex, PoisonError};

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Deserialize;
use tokio::io::copy_bidirectional;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use worldline_runtime::{Runtime, Service, WorldError};

use super::request::{Body, done, optional};
use super::{Answer, Api, ssh, view};
use crate::error::ApiError;

/// The listeners, by world and name.
#[derive(Default)]
pub(super) struct Services(Mutex<HashMap<(String, String), AbortHandle>>);

impl Services {
    fn set(&self, world: &str, name: &str, task: Option<AbortHandle>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (world.to_owned(), name.to_owned());
        let former = match task {
            Some(task) => all.insert(key, task),
            None => all.remove(&key),
        };
        if let Some(former) = former {
            former.abort();
        }
    }

    /// Closes all that lead to a world.
    pub(super) fn forget(&self, world: &str) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|(of, _), task| {
            let stays = of != world;
            if !stays {
                task.abort();
            }
            stays
        });
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Asked {
    name: String,
    port: u16,
    auth_mode: Option<String>,
}

/// `POST /instance/{id}/http`
pub(super) async fn add(State(api): State<Api>, Path(id): Path<String>, body: Body) -> Answer {
    let asked: Asked = optional(&body?)?;
    if asked.auth_mode.is_some() {
        let detail = "services answer on loopback only and ask for no key: leave `auth_mode` out";
        return Err(ApiError::new(
            StatusCode::BAD_REQUEST,
            "no_auth_mode",
            detail,
        ));
    }
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .map_err(ApiError::host)?;
    let url = format!("http://{}", listener.local_addr().map_err(ApiError::host)?);
    let (name, port) = (asked.name, asked.port);
    let service = Service {
        name: name.clone(),
        port,
        url,
    };
    let record = api.blocking({
        let id = id.clone();
        move |worlds| worlds.add_service(&id, service)
    });
    let record = record.await?;
    let task = tokio::spawn(carry(listener, api.worlds.clone(), id.clone(), port));
    api.services.set(&id, &name, Some(task.abort_handle()));
    Ok(Json(view::instance(&record)))
}

/// `DELETE /instance/{id}/http/{name}`
pub(super) async fn remove(
    State(api): State<Api>,
    Path((id, name)): Path<(String, String)>,
) -> Answer {
    api.services.set(&id, &name, None);
    api.blocking(move |worlds| worlds.remove_service(&id, &name))
        .await?;
    Ok(done())
}

/// Carries connections to a world until it has ended.
async fn carry(listener: TcpListener, worlds: Runtime, id: String, port: u16) {
    while let Ok((mut outside, _)) = listener.accept().await {
        match ssh::connect(worlds.clone(), id.clone(), port).await {
            Ok(mut inside) => {
                tokio::spawn(async move { copy_bidirectional(&mut outside, &mut inside).await });
            }
            Err(WorldError::NoInstance(_)) => return,
            // Nothing listens there yet, or the world is paused: whoever called sees a closed connection.
            Err(error) => tracing::debug!(%error, "a connection to a world was not carried"),
        }
    }
}
