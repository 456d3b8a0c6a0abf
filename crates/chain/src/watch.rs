//! Accounts as they change: Solana's `accountSubscribe` over a WebSocket.

use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};
use solana_address::Address;
use tungstenite::stream::MaybeTlsStream;
use tungstenite::{Error as WsError, Message, WebSocket};

use crate::rpc::{Account, Commitment, parse_account};

/// Accounts cannot be watched, or no longer.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// No connection, or it broke.
    #[error("{url}: {source}. Is a chain running there?")]
    Socket {
        /// Where.
        url: String,
        /// What the network said.
        source: Box<WsError>,
    },
    /// The chain refused the subscription.
    #[error("{url} does not let {address} be watched: {message}")]
    Refused {
        /// Where.
        url: String,
        /// The account.
        address: Address,
        /// The chain's words.
        message: String,
    },
    /// The chain closed the connection.
    #[error("{url} closed the connection: {reason}")]
    Closed {
        /// Where.
        url: String,
        /// The chain's words.
        reason: String,
    },
}

/// A connection that tells of accounts.
#[derive(Debug)]
pub struct Watch {
    url: String,
    socket: WebSocket<MaybeTlsStream<TcpStream>>,
    /// Subscription numbers, by account.
    numbers: Vec<u64>,
    addresses: Vec<Address>,
    /// What came in while something else was waited for.
    early: Vec<Value>,
}

/// The WebSocket URL that belongs to an HTTP URL: the same for a URL without a port, the port after
/// it for one with, as Solana's own commands have it.
pub fn websocket_url(http: &str) -> String {
    let url = http.replacen("http", "ws", 1);
    let host = url.find("://").map_or(0, |at| at + 3);
    let end = url[host..].find('/').map_or(url.len(), |at| host + at);
    let (head, path) = url.split_at(end);
    let port = head.rsplit_once(':').and_then(|(host, port)| {
        let port: u16 = port.parse().ok()?;
        Some(format!("{host}:{}", port.checked_add(1)?))
    });
    port.unwrap_or_else(|| head.into()) + path
}

impl Watch {
    /// Subscribes to accounts of the chain whose WebSocket is at `url`.
    pub fn open(
        url: &str,
        addresses: &[Address],
        commitment: Commitment,
    ) -> Result<Self, WatchError> {
        let socket = |source| WatchError::Socket {
            url: url.into(),
            source: Box::new(source),
        };
        let (connection, _) = tungstenite::connect(url).map_err(socket)?;
        let mut watch = Self {
            url: url.into(),
            socket: connection,
            numbers: Vec::new(),
            addresses: addresses.to_vec(),
            early: Vec::new(),
        };
        for (id, address) in addresses.iter().enumerate() {
            let options = json!({ "encoding": "base64", "commitment": commitment.as_str() });
            let request = json!({
                "jsonrpc": "2.0", "id": id, "method": "accountSubscribe",
                "params": [address.to_string(), options],
            });
            let sent = watch.socket.send(Message::text(request.to_string()));
            sent.map_err(|source| watch.failed(source))?;
            let number = watch.answer(id as u64, address)?;
            watch.numbers.push(number);
        }
        Ok(watch)
    }

    fn failed(&self, source: WsError) -> WatchError {
        WatchError::Socket {
            url: self.url.clone(),
            source: Box::new(source),
        }
    }

    /// The number of the subscription that was asked for.
    fn answer(&mut self, id: u64, address: &Address) -> Result<u64, WatchError> {
        loop {
            let Some(message) = self.receive()? else {
                continue;
            };
            if message["id"] != id {
                self.early.push(message);
                continue;
            }
            return message["result"]
                .as_u64()
                .ok_or_else(|| WatchError::Refused {
                    url: self.url.clone(),
                    address: *address,
                    message: message["error"]["message"]
                        .as_str()
                        .unwrap_or("no reason")
                        .into(),
                });
        }
    }

    /// The next message; `None` when it was none of JSON, or the time was up.
    fn receive(&mut self) -> Result<Option<Value>, WatchError> {
        match self.socket.read() {
            Ok(Message::Text(text)) => Ok(serde_json::from_str(&text).ok()),
            Ok(Message::Close(frame)) => Err(WatchError::Closed {
                url: self.url.clone(),
                reason: frame.map_or_else(String::new, |frame| frame.reason.to_string()),
            }),
            Ok(_) => Ok(None),
            Err(WsError::Io(error)) if is_timeout(&error) => Ok(None),
            Err(source) => Err(self.failed(source)),
        }
    }

    /// The next change: which of the accounts, and what it is now. `None` when nothing changed for
    /// `patience`, or something else was said.
    pub fn next(&mut self, patience: Duration) -> Result<Option<(usize, Account)>, WatchError> {
        let message = match self.early.is_empty() {
            false => Some(self.early.remove(0)),
            true => {
                let socket = match self.socket.get_ref() {
                    MaybeTlsStream::Plain(socket) => Some(socket),
                    MaybeTlsStream::Rustls(stream) => Some(&stream.sock),
                    _ => None,
                };
                // Without it the wait is longer, not wrong.
                let _ = socket.map(|socket| socket.set_read_timeout(Some(patience)));
                self.receive()?
            }
        };
        Ok(message.and_then(|message| self.change(&message)))
    }

    fn change(&self, message: &Value) -> Option<(usize, Account)> {
        let params = &message["params"];
        let number = params["subscription"].as_u64()?;
        let index = self.numbers.iter().position(|one| *one == number)?;
        Some((index, parse_account(&params["result"]["value"])?))
    }

    /// The accounts that it tells of.
    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }
}

fn is_timeout(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{TimedOut, WouldBlock};
    matches!(error.kind(), TimedOut | WouldBlock)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn websockets_are_at_the_port_after() {
        for (http, ws) in [
            ("http://127.0.0.1:8899", "ws://127.0.0.1:8900"),
            ("http://127.0.0.1:8899/", "ws://127.0.0.1:8900/"),
            (
                "https://api.devnet.solana.com",
                "wss://api.devnet.solana.com",
            ),
            ("https://a.b:7000/key?x=1", "wss://a.b:7001/key?x=1"),
            ("http://h:65535", "ws://h:65535"),
        ] {
            assert_eq!(websocket_url(http), ws);
        }
    }
}
