//! Subscriptions over a WebSocket.
//!
//! Each connection filters the engine's events for itself. One that does not keep up is closed, and
//! nobody else notices. A message without an `id` is a notification, as the pings of Solana's
//! clients are, and is not answered.

use std::collections::HashMap;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, close_code};
use futures_util::SinkExt;
use serde_json::{Value, json};
use solana_account::{AccountSharedData, ReadableAccount};
use solana_address::Address;
use solana_signature::Signature;
use tokio::sync::broadcast::error::RecvError;

use super::params::{Encoding, Filter, View, address};
use super::{Answer, Call, Context, Failure, json as show};
use crate::bank::{Event, Finality};
use crate::history::Landed;
use crate::limits::SUBSCRIPTIONS;

/// What a client wants to hear of.
struct Subscription {
    topic: Topic,
    /// Whether it wants to hear of nothing that a crash could take back.
    durable: bool,
}

enum Topic {
    Account {
        address: Address,
        view: View,
    },
    Program {
        program: Address,
        view: View,
        filters: Vec<Filter>,
    },
    Signature(Signature),
    Logs(Option<Address>),
    Slot,
}

/// Serves one connection until it ends.
pub(super) async fn serve(context: Context, mut socket: WebSocket) {
    let mut events = context.engine.subscribe();
    let mut connection = Connection {
        context,
        subscriptions: HashMap::new(),
        next: 1,
    };
    loop {
        let messages = tokio::select! {
            incoming = socket.recv() => match incoming {
                Some(Ok(Message::Text(text))) => connection.answer(text.as_bytes()).await,
                Some(Ok(Message::Binary(bytes))) => connection.answer(&bytes).await,
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => Vec::new(),
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
            },
            event = events.recv() => match event {
                Ok(event) => connection.hear(&event),
                Err(RecvError::Lagged(_)) => return close(socket, "too slow: events were lost").await,
                Err(RecvError::Closed) => return close(socket, "the chain has stopped").await,
            },
        };
        if send(&mut socket, messages).await.is_err() {
            return;
        }
    }
}

/// Sends messages, all at once.
async fn send(socket: &mut WebSocket, messages: Vec<Value>) -> Result<(), axum::Error> {
    if messages.is_empty() {
        return Ok(());
    }
    for message in messages {
        let text = Utf8Bytes::from(message.to_string());
        socket.feed(Message::Text(text)).await?;
    }
    socket.flush().await
}

async fn close(mut socket: WebSocket, reason: &'static str) {
    let frame = CloseFrame {
        code: close_code::POLICY,
        reason: reason.into(),
    };
    // The other side may be gone already.
    let _ = socket.send(Message::Close(Some(frame))).await;
}

struct Connection {
    context: Context,
    subscriptions: HashMap<u64, Subscription>,
    next: u64,
}

impl Connection {
    /// What to send in answer to a message.
    async fn answer(&mut self, body: &[u8]) -> Vec<Value> {
        let value: Value = match serde_json::from_slice(body) {
            Ok(value) => value,
            Err(error) => {
                let failure = Failure::new(Failure::PARSE, format!("Parse error: {error}"));
                return vec![failure.answer(Value::Null)];
            }
        };
        if value.is_object() && value.get("id").is_none() {
            return Vec::new();
        }
        match Call::parse(value) {
            Err(error) => vec![error],
            Ok(mut call) => {
                let mut messages = Vec::new();
                messages.push(match self.call(&mut call).await {
                    Ok(result) => json!({ "jsonrpc": "2.0", "result": result, "id": call.id }),
                    Err(failure) => failure.answer(call.id),
                });
                messages.extend(self.known_signatures().await);
                messages
            }
        }
    }

    async fn call(&mut self, call: &mut Call) -> Answer {
        let params = &mut call.params;
        let topic = match call.method.as_str() {
            "slotSubscribe" => Topic::Slot,
            "accountSubscribe" => Topic::Account {
                address: params.base58("address")?,
                view: BASE64,
            },
            "programSubscribe" => Topic::Program {
                program: params.base58("program")?,
                view: BASE64,
                filters: Vec::new(),
            },
            "signatureSubscribe" => Topic::Signature(params.base58("signature")?),
            "logsSubscribe" => Topic::Logs(mentioned(&params.next())?),
            "accountUnsubscribe"
            | "programUnsubscribe"
            | "signatureUnsubscribe"
            | "logsUnsubscribe"
            | "slotUnsubscribe" => {
                let id = params.u64("the subscription")?;
                return match self.subscriptions.remove(&id) {
                    Some(_) => Ok(json!(true)),
                    None => Err(Failure::params("Invalid subscription id.")),
                };
            }
            other => {
                return Err(Failure::new(
                    Failure::METHOD,
                    format!("Method not found: {other}"),
                ));
            }
        };
        let config = params.config()?;
        let mut subscription = Subscription {
            topic,
            durable: config.durable()?,
        };
        match &mut subscription.topic {
            Topic::Account { view, .. } => *view = config.view()?,
            Topic::Program { view, filters, .. } => {
                *view = config.view()?;
                *filters = config.filters()?;
            }
            _ => {}
        }
        if self.subscriptions.len() >= SUBSCRIPTIONS {
            let message = format!("a connection has at most {SUBSCRIPTIONS} subscriptions");
            return Err(Failure::params(message));
        }
        if let Topic::Account { address, .. } = &subscription.topic
            && let Some(lender) = &self.context.lender
        {
            lender.fetch_unknown(&[*address]).await?;
        }
        let id = self.next;
        self.next += 1;
        self.subscriptions.insert(id, subscription);
        Ok(json!(id))
    }

    /// Tells of signatures that landed before they were subscribed to.
    async fn known_signatures(&mut self) -> Vec<Value> {
        let waiting = self.subscriptions.values();
        if !waiting
            .into_iter()
            .any(|one| matches!(one.topic, Topic::Signature(_)))
        {
            return Vec::new();
        }
        let durable = self
            .context
            .engine
            .ask(|bank| bank.durable_now())
            .await
            .unwrap_or(0);
        let mut known = Vec::new();
        for (id, subscription) in &self.subscriptions {
            let Topic::Signature(signature) = &subscription.topic else {
                continue;
            };
            let history = self.context.engine.history().read();
            let landed = history.ok().and_then(|history| history.get(signature));
            let landed = landed.filter(|landed| !subscription.durable || landed.slot <= durable);
            known.extend(landed.map(|landed| (*id, landed)));
        }
        known
            .into_iter()
            .map(|(id, landed)| self.signature(id, &landed))
            .collect()
    }

    /// A signature's one notification, which ends its subscription.
    fn signature(&mut self, id: u64, landed: &Landed) -> Value {
        self.subscriptions.remove(&id);
        let value = json!({ "err": show::error(landed.error.as_ref()) });
        notification("signatureNotification", id, show::at(landed.slot, value))
    }

    /// What to send because of an event.
    fn hear(&mut self, event: &Event) -> Vec<Value> {
        match event {
            Event::Slot(slot) => {
                let value = json!({ "parent": slot - 1, "root": slot - 1, "slot": slot });
                let slots = self
                    .subscriptions
                    .iter()
                    .filter(|(_, one)| matches!(one.topic, Topic::Slot));
                slots
                    .map(|(id, _)| notification("slotNotification", *id, value.clone()))
                    .collect()
            }
            Event::Accounts {
                slot,
                finality,
                accounts,
            } => {
                let mut messages = Vec::new();
                for (id, subscription) in &self.subscriptions {
                    if subscription.wants(*finality) {
                        for (address, account) in accounts.iter() {
                            messages.extend(subscription.account(
                                *id,
                                *slot,
                                address,
                                account.as_ref(),
                            ));
                        }
                    }
                }
                messages
            }
            Event::Landed { finality, landed } => {
                let mut messages = Vec::new();
                let mut ended = Vec::new();
                for (id, subscription) in &self.subscriptions {
                    match &subscription.topic {
                        _ if !subscription.wants(*finality) => {}
                        Topic::Signature(signature) if *signature == landed.signature() => {
                            ended.push(*id);
                        }
                        Topic::Logs(mentioned)
                            if mentioned.is_none_or(|address| landed.keys.contains(&address)) =>
                        {
                            let value = json!({
                                "signature": landed.signature().to_string(),
                                "err": show::error(landed.error.as_ref()),
                                "logs": landed.logs,
                            });
                            let result = show::at(landed.slot, value);
                            messages.push(notification("logsNotification", *id, result));
                        }
                        _ => {}
                    }
                }
                messages.extend(ended.into_iter().map(|id| self.signature(id, landed)));
                messages
            }
        }
    }
}

const BASE64: View = View {
    encoding: Encoding::Base64,
    slice: None,
};

/// Whose logs: everybody's, or those of transactions that name one address.
fn mentioned(value: &Value) -> Result<Option<Address>, Failure> {
    if matches!(value.as_str(), Some("all" | "allWithVotes")) {
        return Ok(None);
    }
    match value
        .get("mentions")
        .and_then(Value::as_array)
        .map(Vec::as_slice)
    {
        Some([one]) => Ok(Some(address(one, "mentions")?)),
        _ => Err(Failure::params(
            "Invalid params: \"all\", or {\"mentions\": [one address]}",
        )),
    }
}

impl Subscription {
    fn wants(&self, finality: Finality) -> bool {
        match finality {
            Finality::Both => true,
            Finality::Processed => !self.durable,
            Finality::Durable => self.durable,
        }
    }

    fn account(
        &self,
        id: u64,
        slot: u64,
        address: &Address,
        account: Option<&AccountSharedData>,
    ) -> Option<Value> {
        match &self.topic {
            Topic::Account {
                address: wanted,
                view,
            } if wanted == address => {
                let value = shown(account, *view)?;
                Some(notification(
                    "accountNotification",
                    id,
                    show::at(slot, value),
                ))
            }
            Topic::Program {
                program,
                view,
                filters,
            } => {
                let account = account.filter(|account| account.owner() == program)?;
                if !filters.iter().all(|filter| filter.admits(account)) {
                    return None;
                }
                let account = shown(Some(account), *view)?;
                let value = json!({ "pubkey": address.to_string(), "account": account });
                Some(notification(
                    "programNotification",
                    id,
                    show::at(slot, value),
                ))
            }
            _ => None,
        }
    }
}

/// An account; one that is gone is shown empty, as Solana does.
fn shown(account: Option<&AccountSharedData>, view: View) -> Option<Value> {
    match show::account(account, view) {
        Ok(Value::Null) => Some(json!({
            "data": ["", "base64"],
            "executable": false,
            "lamports": 0,
            "owner": Address::default().to_string(),
            "rentEpoch": 0,
            "space": 0,
        })),
        Ok(value) => Some(value),
        // Data too long for the encoding asked for.
        Err(_) => None,
    }
}

fn notification(method: &str, subscription: u64, result: Value) -> Value {
    json!({
        "jsonrpc": "2.0",
        "method": method,
        "params": { "result": result, "subscription": subscription },
    })
}
