//! Worlds over SSH: commands, shells, terminals, SFTP, and connections to a world's servers.
//!
//! The user's name says which world and with what right. `WORLD:KEY` is what Morph Cloud's client sends:
//! the key is the one that the HTTP calls ask for, and whatever public key comes along is a throwaway.
//! `WORLD` alone is for other clients, which show the world's own key or password, or a key of the user's.

mod keys;
mod session;

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use russh::keys::PublicKey;
use russh::server::{Auth, ChannelOpenHandle, Config, Handler, Msg, Session, VerifiedPublicKey};
use russh::{Channel, ChannelOpenFailure, MethodKind, MethodSet};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use worldline_runtime::{Runtime, WorldError};

use super::Account;
use crate::access::Access;
use crate::limits::{MAX_SSH, SSH_KEEPALIVE, SSH_REFUSAL};

pub(crate) use keys::{InstanceKeys, host_key};

/// What the gateway speaks for.
#[derive(Clone)]
pub(crate) struct Gateway {
    pub(crate) worlds: Runtime,
    pub(crate) access: Arc<Access>,
    pub(crate) account: Arc<Account>,
    pub(crate) keys: Arc<InstanceKeys>,
}

impl Gateway {
    /// Answers connections until the future is dropped.
    pub(crate) async fn run(self, listener: TcpListener, key: &Path) -> io::Result<()> {
        let config = Arc::new(Config {
            keys: vec![host_key(key)?],
            methods: MethodSet::from(&[MethodKind::PublicKey, MethodKind::Password][..]),
            auth_rejection_time: SSH_REFUSAL,
            inactivity_timeout: None,
            keepalive_interval: Some(SSH_KEEPALIVE),
            nodelay: true,
            ..Config::default()
        });
        let room = Arc::new(Semaphore::new(MAX_SSH));
        loop {
            let (stream, from) = listener.accept().await?;
            // One too many is closed: its client tries again.
            if let Ok(place) = room.clone().try_acquire_owned() {
                let (config, gateway) = (config.clone(), self.clone());
                tokio::spawn(async move {
                    gateway.serve(config, stream, from).await;
                    drop(place);
                });
            }
        }
    }

    async fn serve(self, config: Arc<Config>, stream: TcpStream, from: SocketAddr) {
        let _ = stream.set_nodelay(true);
        let guest = Guest {
            gateway: self,
            world: None,
        };
        let ended = match russh::server::run_stream(config, stream, guest).await {
            Ok(session) => session.await,
            Err(error) => Err(error),
        };
        if let Err(error) = ended {
            tracing::debug!(%from, %error, "an SSH connection ended");
        }
    }
}

/// One connection.
struct Guest {
    gateway: Gateway,
    /// The world that it may enter, once it has shown that it may.
    world: Option<String>,
}

/// What a connection shows beside its user's name.
enum Shown<'a> {
    Key(&'a PublicKey),
    Password(&'a str),
}

impl Guest {
    fn admit(&mut self, user: &str, shown: &Shown) -> Auth {
        let (world, key) = match user.split_once(':') {
            Some((world, key)) => (world, Some(key)),
            None => (user, None),
        };
        let may = match (key, shown) {
            (Some(key), _) => self.gateway.access.admits(key),
            (None, Shown::Key(key)) => {
                self.gateway.keys.opens(world, key) || self.gateway.account.knows(key)
            }
            (None, Shown::Password(password)) => self.gateway.keys.is_password(world, password),
        };
        if may && self.gateway.worlds.instance(world).is_ok() {
            self.world = Some(world.into());
            return Auth::Accept;
        }
        Auth::reject()
    }
}

impl Handler for Guest {
    type Error = russh::Error;

    async fn auth_password(&mut self, user: &str, password: &str) -> Result<Auth, russh::Error> {
        Ok(self.admit(user, &Shown::Password(password)))
    }

    async fn auth_publickey(
        &mut self,
        user: &str,
        key: VerifiedPublicKey<'_>,
    ) -> Result<Auth, russh::Error> {
        Ok(self.admit(user, &Shown::Key(key.public_key)))
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        if let Some(world) = self.world.clone() {
            reply.accept().await;
            let worlds = self.gateway.worlds.clone();
            tokio::spawn(session::serve(worlds, world, channel, session.handle()));
        }
        Ok(())
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host: &str,
        port: u32,
        _from: &str,
        _from_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), russh::Error> {
        let (Some(world), Ok(port)) = (self.world.clone(), u16::try_from(port)) else {
            return Ok(());
        };
        // A world has its loopback, and nothing beyond it.
        if !matches!(host, "localhost" | "127.0.0.1" | "::1") {
            reply
                .reject(ChannelOpenFailure::AdministrativelyProhibited)
                .await;
            return Ok(());
        }
        let worlds = self.gateway.worlds.clone();
        tokio::spawn(async move {
            match connect(worlds, world, port).await {
                Ok(mut inside) => {
                    reply.accept().await;
                    let mut outside = channel.into_stream();
                    let _ = tokio::io::copy_bidirectional(&mut outside, &mut inside).await;
                }
                Err(_) => reply.reject(ChannelOpenFailure::ConnectFailed).await,
            }
        });
        Ok(())
    }
}

/// A connection to a port of a world.
pub(super) async fn connect(
    worlds: Runtime,
    id: String,
    port: u16,
) -> Result<TcpStream, WorldError> {
    let io = |error: io::Error| WorldError::Exec(error.into());
    let inside = tokio::task::spawn_blocking(move || {
        let stream = worlds.connect(&id, port)?;
        stream.set_nonblocking(true).map(|()| stream).map_err(io)
    });
    let stream = inside
        .await
        .map_err(|error| io(io::Error::other(error)))??;
    TcpStream::from_std(stream).map_err(io)
}
