//! Commands: their output at the end, or as it comes.

use std::io;
use std::time::Duration;

use axum::Json;
use axum::body::Body as ResponseBody;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use worldline_sandbox::{Cancel, Command, Stream};

use super::request::{Body, optional};
use super::{Answer, Api};
use crate::error::ApiError;
use crate::limits::{MAX_OUTPUT, OUTPUT_QUEUE};

#[derive(Default, Deserialize)]
#[serde(default)]
struct Exec {
    command: Words,
    /// Seconds; not the client's own, which is kept on its side.
    timeout: Option<f64>,
}

/// One line for the shell, or a program and its arguments.
#[derive(Deserialize)]
#[serde(untagged)]
enum Words {
    Line(String),
    Argv(Vec<String>),
}

impl Default for Words {
    fn default() -> Self {
        Self::Argv(Vec::new())
    }
}

/// Seconds as a limit of time; nothing for what is none.
pub(super) fn limit(seconds: Option<f64>) -> Result<Option<Duration>, ApiError> {
    let limit = seconds.map(Duration::try_from_secs_f64).transpose();
    limit.map_err(|_| {
        ApiError::new(
            StatusCode::BAD_REQUEST,
            "bad_timeout",
            "a timeout is a number of seconds above 0",
        )
    })
}

fn command(body: Body) -> Result<Command, ApiError> {
    let asked: Exec = optional(&body?)?;
    let argv = match asked.command {
        Words::Line(line) => vec![line],
        Words::Argv(argv) => argv,
    };
    Ok(Command {
        timeout: limit(asked.timeout)?,
        ..Command::argv(argv)
    })
}

/// Ends a run when whoever waited for it is gone.
pub(super) struct CancelOnDrop(pub(super) Cancel);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// What a run wrote, up to a limit.
#[derive(Default)]
pub(super) struct Collected {
    pub(super) out: Vec<u8>,
    pub(super) error: Vec<u8>,
    pub(super) too_much: bool,
}

impl Collected {
    /// Takes output in, and ends the run when it is too much.
    pub(super) fn push(&mut self, stream: Stream, bytes: &[u8], cancel: &Cancel) {
        if self.out.len() + self.error.len() + bytes.len() > MAX_OUTPUT {
            self.too_much = true;
            cancel.cancel();
            return;
        }
        match stream {
            Stream::Out => self.out.extend_from_slice(bytes),
            Stream::Error => self.error.extend_from_slice(bytes),
        }
    }

    pub(super) fn refuse(&self) -> Result<(), ApiError> {
        if !self.too_much {
            return Ok(());
        }
        let detail = format!(
            "more than {MAX_OUTPUT} bytes came out, and the run was ended: stream it, or write it to a file"
        );
        Err(ApiError::new(
            StatusCode::CONFLICT,
            "too_much_output",
            detail,
        ))
    }
}

/// `POST /instance/{id}/exec`
pub(super) async fn plain(State(api): State<Api>, Path(id): Path<String>, body: Body) -> Answer {
    let command = command(body)?;
    let _gone = CancelOnDrop(command.cancel.clone());
    let done = api.blocking(move |worlds| {
        let mut said = Collected::default();
        let code = worlds.exec(&id, &command, &mut |stream, bytes| {
            said.push(stream, bytes, &command.cancel)
        })?;
        Ok((code, said))
    });
    let (code, said) = done.await?;
    said.refuse()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Json(
        json!({ "exit_code": code, "stdout": text(&said.out), "stderr": text(&said.error) }),
    ))
}

/// What a streamed run says next.
enum Said {
    Event(Value),
    /// It came to an end, whose exit code has been said.
    Done,
    /// It could not be begun, or nobody knows how it ended.
    Lost(ApiError),
}

/// `POST /instance/{id}/exec/sse`. The client takes a stream that ends without an exit code for success, so
/// a run whose end is not known breaks the connection off.
pub(super) async fn streamed(
    State(api): State<Api>,
    Path(id): Path<String>,
    body: Body,
) -> Result<Response, ApiError> {
    let command = command(body)?;
    let gone = CancelOnDrop(command.cancel.clone());
    let (say, mut said) = mpsc::channel(OUTPUT_QUEUE);
    let worlds = api.worlds.clone();
    tokio::task::spawn_blocking(move || {
        let mut tails = [Vec::new(), Vec::new()];
        let done = worlds.exec(&id, &command, &mut |stream, bytes| {
            let (name, tail) = match stream {
                Stream::Out => ("stdout", &mut tails[0]),
                Stream::Error => ("stderr", &mut tails[1]),
            };
            tail.extend_from_slice(bytes);
            let content = whole(tail);
            let event = json!({ "type": name, "content": content });
            if !content.is_empty() && say.blocking_send(Said::Event(event)).is_err() {
                command.cancel.cancel();
            }
        });
        for (name, tail) in ["stdout", "stderr"]
            .iter()
            .zip(&tails)
            .filter(|(_, tail)| !tail.is_empty())
        {
            let event = json!({ "type": name, "content": String::from_utf8_lossy(tail) });
            let _ = say.blocking_send(Said::Event(event));
        }
        let last = match done {
            Ok(code) => {
                let _ =
                    say.blocking_send(Said::Event(json!({ "type": "exit_code", "content": code })));
                Said::Done
            }
            Err(error) => Said::Lost(error.into()),
        };
        let _ = say.blocking_send(last);
    });
    // Until something has been said, an error can still be told in the usual way.
    let first = match said.recv().await {
        Some(Said::Lost(error)) => return Err(error),
        first => first,
    };
    let lines = stream::unfold(
        (first, said, Some(gone)),
        |(first, mut said, mut gone)| async move {
            let next = match first {
                Some(first) => Some(first),
                None => said.recv().await,
            };
            let line = match next? {
                Said::Event(event) => Ok(format!("data: {event}\n\n")),
                Said::Done => Ok("data: [DONE]\n\n".to_owned()),
                Said::Lost(error) => {
                    gone = None;
                    Err(io::Error::other(error.detail))
                }
            };
            Some((line, (None, said, gone)))
        },
    );
    let headers = [
        (CONTENT_TYPE, "text/event-stream"),
        (CACHE_CONTROL, "no-cache"),
    ];
    Ok((headers, ResponseBody::from_stream(lines)).into_response())
}

/// Takes out what is whole UTF-8; a character whose end has not come yet stays.
fn whole(tail: &mut Vec<u8>) -> String {
    const LONGEST: usize = 4;
    let keep = match std::str::from_utf8(tail) {
        Err(error) if error.error_len().is_none() && tail.len() - error.valid_up_to() < LONGEST => {
            error.valid_up_to()
        }
        _ => tail.len(),
    };
    let rest = tail.split_off(keep);
    String::from_utf8_lossy(&std::mem::replace(tail, rest)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_cut_in_two_comes_out_whole() {
        let text = "aé€😀b".as_bytes();
        for cut in 0..=text.len() {
            let mut tail = text[..cut].to_vec();
            let mut said = whole(&mut tail);
            tail.extend_from_slice(&text[cut..]);
            said += &whole(&mut tail);
            assert_eq!((said.as_bytes(), tail.len()), (text, 0), "cut at {cut}");
        }
        let mut junk = vec![0xff, b'a', 0xfe];
        assert_eq!(whole(&mut junk), "\u{fffd}a\u{fffd}");
    }
}
