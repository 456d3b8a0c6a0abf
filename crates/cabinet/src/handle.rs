//! What both roles offer to whom started them.

use std::net::SocketAddr;

use crate::engine::Engine;
use crate::rpc::Listeners;

/// A running engine and where it is served.
#[derive(Clone)]
pub(crate) struct Handle {
    pub(crate) engine: Engine,
    address: SocketAddr,
}

impl Handle {
    pub(crate) fn new(engine: Engine, listeners: &Listeners) -> Self {
        Self {
            engine,
            address: listeners.address(),
        }
    }

    pub(crate) fn rpc_url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn ws_url(&self) -> String {
        let next = SocketAddr::new(self.address.ip(), self.address.port() + 1);
        format!("ws://{next}")
    }
}
