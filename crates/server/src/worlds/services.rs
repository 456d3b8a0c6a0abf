//! Ports of worlds, reached from this machine: each service has a port on loopback that is carried to the
//! world's own. What goes through is not looked at, so that WebSockets and the like work too.

use std::collections::HashMap;
use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio::time::timeout;
use worldline_runtime::{Runtime, Service, WorldError};

use super::request::{Body, done, optional};
use super::{Answer, Api, ssh, view};
use crate::access::Access;
use crate::error::ApiError;
use crate::limits::{HANDSHAKE_TIMEOUT, MAX_HEAD};

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
    let guarded = match asked.auth_mode.as_deref() {
        None | Some("none") => false,
        Some("api_key") => true,
        Some(_) => {
            let detail = "`auth_mode` is `api_key`, or `none`, or left out";
            return Err(ApiError::new(
                StatusCode::BAD_REQUEST,
                "bad_auth_mode",
                detail,
            ));
        }
    };
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
    let guard = guarded.then(|| api.access.clone());
    let task = tokio::spawn(carry(listener, api.worlds.clone(), id.clone(), port, guard));
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

/// Carries connections to a world until it has ended; where there is a guard, those that show it a key.
async fn carry(
    listener: TcpListener,
    worlds: Runtime,
    id: String,
    port: u16,
    guard: Option<Arc<Access>>,
) {
    while let Ok((outside, _)) = listener.accept().await {
        if let Err(WorldError::NoInstance(_)) = worlds.instance(&id) {
            return;
        }
        let (worlds, id, guard) = (worlds.clone(), id.clone(), guard.clone());
        tokio::spawn(async move {
            // Nothing listens there yet, or the world is paused: whoever called sees a closed connection.
            if let Err(error) = carry_one(outside, worlds, id, port, guard).await {
                tracing::debug!(%error, "a connection to a world was not carried");
            }
        });
    }
}

async fn carry_one(
    mut outside: TcpStream,
    worlds: Runtime,
    id: String,
    port: u16,
    guard: Option<Arc<Access>>,
) -> io::Result<()> {
    let mut said = Vec::new();
    if let Some(guard) = guard {
        let head = timeout(HANDSHAKE_TIMEOUT, head(&mut outside, &mut said));
        head.await.map_err(io::Error::other)??;
        if !key(&said).is_some_and(|key| !key.is_empty() && guard.admits(key)) {
            return outside.write_all(REFUSAL).await;
        }
    }
    let inside = ssh::connect(worlds, id, port).await;
    let mut inside = inside.map_err(io::Error::other)?;
    inside.write_all(&said).await?;
    copy_bidirectional(&mut outside, &mut inside)
        .await
        .map(drop)
}

/// What a connection hears that shows no key.
const REFUSAL: &[u8] = b"HTTP/1.1 401 Unauthorized\r\nContent-Type: application/json\r\n\
    WWW-Authenticate: Bearer\r\nConnection: close\r\nContent-Length: 93\r\n\r\n\
    {\"error_code\":\"no_access\",\"detail\":\"this service asks for a key: Authorization: Bearer KEY\"}\n";

/// Reads up to the end of a request's head, and perhaps beyond.
async fn head(from: &mut TcpStream, said: &mut Vec<u8>) -> io::Result<()> {
    while !said.windows(4).any(|bytes| bytes == b"\r\n\r\n") {
        if said.len() > MAX_HEAD || from.read_buf(said).await? == 0 {
            return Err(io::Error::other("there is no whole request"));
        }
    }
    Ok(())
}

/// The bearer key of a request. It is looked for in the first one of a connection: who shows it there has
/// the connection.
fn key(head: &[u8]) -> Option<&str> {
    let head = head
        .split(|byte| *byte == b'\n')
        .take_while(|line| line.len() > 1);
    let mut lines = head.filter_map(|line| std::str::from_utf8(line).ok());
    lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let (scheme, key) = value.trim().split_once(' ')?;
        let bearer =
            name.eq_ignore_ascii_case("authorization") && scheme.eq_ignore_ascii_case("bearer");
        bearer.then_some(key.trim())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_in_a_head_and_nowhere_else() {
        let told = b"GET / HTTP/1.1\r\nHost: x\r\naUTHORIZATION:  bearer  k e\r\n\r\n";
        assert_eq!(key(told), Some("k e"));
        for wrong in [
            &b"GET / HTTP/1.1\r\nHost: x\r\n\r\nAuthorization: Bearer k"[..],
            b"GET /?Authorization:Bearer HTTP/1.1\r\nAuthorization: Basic k\r\n\r\n",
            b"",
        ] {
            assert_eq!(key(wrong), None);
        }
        let refusal = std::str::from_utf8(REFUSAL).unwrap();
        let (head, body) = refusal.split_once("\r\n\r\n").unwrap();
        assert!(
            head.contains(&format!("Content-Length: {}\r\n", body.len()))
                || head.ends_with(&format!("Content-Length: {}", body.len()))
        );
    }
}
