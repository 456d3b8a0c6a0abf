//! One WebSocket at a match: a player's or a watcher's.

use std::time::Instant;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket};
use axum::extract::{Path, Query, State, WebSocketUpgrade};
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{MissedTickBehavior, interval, timeout};
use worldline_abi::Pad;
use worldline_arena::{Connection, Event, MatchId, MatchView, ResultView, hex, unhex};

use crate::App;
use crate::error::ApiError;
use crate::limits::{
    FLOOD, MAX_BAD_MESSAGES, MAX_HEARD, MAX_MESSAGE, MAX_MESSAGES_PER_SECOND, PING_EVERY,
    SEND_TIMEOUT, SILENCE,
};

/// `[1, 0, sequence u16, pad 12 B]`
const PAD_MESSAGE: usize = 4 + size_of::<Pad>();
const PAD_TAG: u8 = 1;

#[derive(Deserialize)]
pub(crate) struct Ticket {
    token: Option<String>,
}

/// What a client says in text.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
enum Said {
    Pick { character: u8 },
    Ready,
    Quit,
    Rematch,
    Sign { frame: u32, signature: String },
    Ping { t: f64 },
}

/// What the server says in text.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Say<'a> {
    Hello { seat: Option<u8> },
    Session(&'a MatchView),
    Result(&'a ResultView),
    Rematch { session: MatchId },
    Resume { frame: u32, input_hash: String },
    Pong { t: f64 },
    Error(&'a ApiError),
}

impl Say<'_> {
    fn message(&self) -> Message {
        Message::Text(serde_json::to_string(self).expect("views serialise").into())
    }
}

/// `GET /api/sessions/{id}/ws?token=…`
pub(crate) async fn open(
    State(app): State<App>,
    Path(id): Path<String>,
    Query(ticket): Query<Ticket>,
    upgrade: WebSocketUpgrade,
) -> Result<Response, ApiError> {
    let id = id.parse::<MatchId>()?;
    app.arena.view(id)?;
    let Ok(permit) = app.sockets.clone().try_acquire_owned() else {
        let detail = "too many people are connected: try again later";
        return Err(ApiError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "too_many_sockets",
            detail,
        ));
    };
    let upgrade = upgrade
        .max_message_size(MAX_HEARD)
        .max_frame_size(MAX_HEARD);
    Ok(upgrade.on_upgrade(async move |mut socket| {
        let _permit = permit;
        // Refusals are told over the socket: a browser's script cannot read a refused upgrade.
        let gone = match app.arena.connect(id, ticket.token.as_deref()) {
            Ok(connection) => Line::new(&mut socket, connection).run().await,
            Err(error) => Gone::Told(error.into()),
        };
        if let Gone::Told(error) = gone {
            let _ = timeout(SEND_TIMEOUT, farewell(&mut socket, &error)).await;
        }
    }))
}

async fn farewell(socket: &mut WebSocket, error: &ApiError) -> Result<(), axum::Error> {
    socket.send(Say::Error(error).message()).await?;
    let reason = Utf8Bytes::from_static(error.error_code);
    socket
        .send(Message::Close(Some(CloseFrame { code: 4000, reason })))
        .await
}

/// Why a socket ends.
enum Gone {
    /// The other side left, or does not take what is sent.
    Silently,
    /// It is told why.
    Told(ApiError),
}

struct Line<'a> {
    socket: &'a mut WebSocket,
    connection: Connection,
    heard: Instant,
    window: Instant,
    messages: u32,
    bad: u32,
}

impl<'a> Line<'a> {
    fn new(socket: &'a mut WebSocket, connection: Connection) -> Self {
        let now = Instant::now();
        Self {
            socket,
            connection,
            heard: now,
            window: now,
            messages: 0,
            bad: 0,
        }
    }

    async fn run(mut self) -> Gone {
        match self.talk().await {
            Err(gone) => gone,
            Ok(()) => Gone::Silently,
        }
    }

    async fn talk(&mut self) -> Result<(), Gone> {
        self.greet().await?;
        let mut pings = interval(PING_EVERY);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                event = self.connection.events.recv() => self.tell(event).await?,
                message = self.socket.recv() => match message {
                    Some(Ok(Message::Close(_))) | None => return Ok(()),
                    Some(Ok(message)) => self.hear(message).await?,
                    Some(Err(error)) => return Err(unreadable(&error.to_string())),
                },
                _ = pings.tick() => {
                    if self.heard.elapsed() > SILENCE {
                        return Err(Gone::Silently);
                    }
                    self.send(Message::Ping(Default::default())).await?;
                }
            }
        }
    }

    async fn greet(&mut self) -> Result<(), Gone> {
        self.say(&Say::Hello {
            seat: self.connection.seat(),
        })
        .await?;
        let view = self.connection.view();
        self.say(&Say::Session(&view)).await?;
        if let Some((frame, hash)) = self.connection.resume {
            self.say(&Say::Resume {
                frame,
                input_hash: hex(&hash),
            })
            .await?;
        }
        if let Some(frame) = self.connection.frame.take() {
            self.send(Message::Binary(frame.to_vec().into())).await?;
        }
        match &view.result {
            Some(result) if result.replay.is_some() => self.say(&Say::Result(result)).await,
            _ => Ok(()),
        }
    }

    async fn tell(&mut self, event: Result<Event, RecvError>) -> Result<(), Gone> {
        match event {
            Ok(Event::Frame(bytes)) => self.send(Message::Binary(bytes.to_vec().into())).await,
            Ok(Event::View(view)) => self.say(&Say::Session(&view)).await,
            Ok(Event::Result(result)) => self.say(&Say::Result(&result)).await,
            Ok(Event::Rematch(session)) => self.say(&Say::Rematch { session }).await,
            Err(RecvError::Lagged(missed)) => {
                let detail =
                    format!("your connection is too slow: {missed} messages behind; connect again");
                Err(Gone::Told(ApiError::new(
                    StatusCode::REQUEST_TIMEOUT,
                    "too_slow",
                    detail,
                )))
            }
            Err(RecvError::Closed) => Err(Gone::Silently),
        }
    }

    /// Takes a message; one second's flood is dropped here, before it is looked at.
    async fn hear(&mut self, message: Message) -> Result<(), Gone> {
        self.heard = Instant::now();
        if length(&message) > MAX_MESSAGE {
            return Err(unreadable("it is too long"));
        }
        if self.window.elapsed().as_secs() >= 1 {
            (self.window, self.messages) = (self.heard, 0);
        }
        self.messages += 1;
        if self.messages > MAX_MESSAGES_PER_SECOND {
            let detail = format!(
                "at most {MAX_MESSAGES_PER_SECOND} messages a second: the others of this second are dropped"
            );
            let error = ApiError::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", detail);
            return match self.messages {
                FLOOD.. => Err(Gone::Told(ApiError {
                    error_code: "flooding",
                    ..error
                })),
                count if count == MAX_MESSAGES_PER_SECOND + 1 => {
                    self.say(&Say::Error(&error)).await
                }
                _ => Ok(()),
            };
        }
        let done = match message {
            Message::Binary(bytes) => self.press(&bytes),
            Message::Text(text) => match serde_json::from_str(&text) {
                Ok(said) => self.act(said).await?,
                Err(error) => Err(ApiError::bad_json(&error)),
            },
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) => Ok(()),
        };
        let Err(error) = done else {
            return Ok(());
        };
        self.bad += 1;
        if self.bad > MAX_BAD_MESSAGES {
            let detail = format!(
                "more than {MAX_BAD_MESSAGES} messages made no sense; the last: {}",
                error.detail
            );
            return Err(Gone::Told(ApiError::new(
                StatusCode::BAD_REQUEST,
                "too_many_errors",
                detail,
            )));
        }
        self.say(&Say::Error(&error)).await
    }

    fn press(&self, bytes: &[u8]) -> Result<(), ApiError> {
        if bytes.len() != PAD_MESSAGE || bytes[..2] != [PAD_TAG, 0] {
            let detail = format!(
                "a binary message is {PAD_MESSAGE} bytes: 1, 0, sequence u16, pad; this has {}",
                bytes.len()
            );
            return Err(ApiError::new(StatusCode::BAD_REQUEST, "bad_frame", detail));
        }
        let pad = worldline_abi::copy::<Pad>(&bytes[4..]).expect("its length was checked");
        let sequence = u16::from_le_bytes([bytes[2], bytes[3]]);
        Ok(self.connection.press(pad, sequence)?)
    }

    async fn act(&mut self, said: Said) -> Result<Result<(), ApiError>, Gone> {
        let done = match said {
            Said::Pick { character } => self.connection.pick(character),
            Said::Ready => self.connection.ready(),
            Said::Quit => self.connection.quit(),
            Said::Ping { t } => {
                self.say(&Say::Pong { t }).await?;
                Ok(())
            }
            Said::Rematch => match self.connection.rematch() {
                Ok(session) => {
                    self.say(&Say::Rematch { session }).await?;
                    Ok(())
                }
                Err(error) => Err(error),
            },
            Said::Sign { frame, signature } => match unhex(&signature) {
                Some(signature) => self.connection.sign(frame, &signature),
                None => {
                    let detail = "a signature is 64 bytes as 128 hexadecimal digits";
                    return Ok(Err(ApiError::new(
                        StatusCode::BAD_REQUEST,
                        "bad_signature",
                        detail,
                    )));
                }
            },
        };
        Ok(done.map_err(ApiError::from))
    }

    async fn say(&mut self, say: &Say<'_>) -> Result<(), Gone> {
        self.send(say.message()).await
    }

    async fn send(&mut self, message: Message) -> Result<(), Gone> {
        match timeout(SEND_TIMEOUT, self.socket.send(message)).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(Gone::Silently),
        }
    }
}

fn length(message: &Message) -> usize {
    match message {
        Message::Text(text) => text.len(),
        Message::Binary(bytes) | Message::Ping(bytes) | Message::Pong(bytes) => bytes.len(),
        Message::Close(_) => 0,
    }
}

fn unreadable(why: &str) -> Gone {
    let detail =
        format!("the message could not be read: {why}; messages have at most {MAX_MESSAGE} bytes");
    Gone::Told(ApiError::new(
        StatusCode::BAD_REQUEST,
        "bad_message",
        detail,
    ))
}
