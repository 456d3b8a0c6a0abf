//! One HTTP call after another to `worldline serve`.

use std::io::{BufRead, BufReader, Write};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;
use ureq::http::Response;
use ureq::{Agent, Body};

/// Where `worldline serve` is unless told otherwise.
const ADDRESS: &str = "http://127.0.0.1:7777";
/// The largest answer that is read, bytes.
const MAX_ANSWER: u64 = 512 << 20;

pub(super) struct Client {
    agent: Agent,
    base: String,
    token: Option<String>,
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

impl Client {
    /// A client of the server of this address, or of WORLDLINE_URL, or of this machine's own.
    pub(super) fn new(server: Option<&str>) -> Self {
        let base = server
            .map(str::to_owned)
            .or_else(|| variable("WORLDLINE_URL"))
            .unwrap_or_else(|| ADDRESS.into());
        // Errors come with a body that says what went wrong.
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .build()
            .into();
        Self {
            agent,
            base: base.trim_end_matches('/').into(),
            token: variable("WORLDLINE_TOKEN"),
        }
    }

    fn headers<B>(&self, request: ureq::RequestBuilder<B>) -> ureq::RequestBuilder<B> {
        match &self.token {
            Some(token) => request.header("authorization", format!("Bearer {token}")),
            None => request,
        }
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    fn checked(&self, answer: Result<Response<Body>, ureq::Error>) -> Result<Response<Body>> {
        let mut answer = answer.with_context(|| {
            format!(
                "no answer from {}: start `worldline serve`, or name another address with --server",
                self.base
            )
        })?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let status = answer.status();
        let told: Value = answer.body_mut().read_json().unwrap_or_default();
        Err(match told["detail"].as_str() {
            Some(detail) => anyhow!("{detail}"),
            None => anyhow!("{} answers {status}", self.base),
        })
    }

    fn json(&self, answer: Result<Response<Body>, ureq::Error>) -> Result<Value> {
        let mut answer = self.checked(answer)?;
        answer
            .body_mut()
            .with_config()
            .limit(MAX_ANSWER)
            .read_json()
            .context("the answer is not JSON")
    }

    pub(super) fn get(&self, path: &str) -> Result<Value> {
        self.json(self.headers(self.agent.get(self.url(path))).call())
    }

    pub(super) fn delete(&self, path: &str) -> Result<Value> {
        self.json(self.headers(self.agent.delete(self.url(path))).call())
    }

    pub(super) fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.json(
            self.headers(self.agent.post(self.url(path)))
                .send_json(body),
        )
    }

    pub(super) fn put(&self, path: &str, bytes: &[u8]) -> Result<Value> {
        self.json(self.headers(self.agent.put(self.url(path))).send(bytes))
    }

    pub(super) fn bytes(&self, path: &str) -> Result<Vec<u8>> {
        let mut answer = self.checked(self.headers(self.agent.get(self.url(path))).call())?;
        Ok(answer
            .body_mut()
            .with_config()
            .limit(MAX_ANSWER)
            .read_to_vec()?)
    }

    /// Runs a command, passing its output on as it comes; gives its exit code.
    pub(super) fn stream(&self, path: &str, body: &Value) -> Result<i64> {
        let answer = self.checked(
            self.headers(self.agent.post(self.url(path)))
                .send_json(body),
        )?;
        let mut code = None;
        for line in BufReader::new(answer.into_body().into_reader()).lines() {
            let line = line.context("the stream broke off: nobody knows how the command ended")?;
            let Some(event) = line
                .strip_prefix("data: ")
                .and_then(|text| serde_json::from_str::<Value>(text).ok())
            else {
                continue;
            };
            let content = event["content"].as_str().unwrap_or_default();
            match event["type"].as_str() {
                Some("stdout") => {
                    std::io::stdout().write_all(content.as_bytes())?;
                    std::io::stdout().flush()?;
                }
                Some("stderr") => std::io::stderr().write_all(content.as_bytes())?,
                Some("exit_code") => code = event["content"].as_i64(),
                _ => {}
            }
        }
        let Some(code) = code else {
            bail!("the stream ended without an exit code: nobody knows how the command ended")
        };
        Ok(code)
    }
}

/// Text as it stands in a query.
pub(super) fn escape(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    text.bytes()
        .map(|byte| {
            if plain(byte) {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn queries_carry_any_path() {
        assert_eq!(super::escape("/tmp/a b&c=ü"), "/tmp/a%20b%26c%3D%C3%BC");
    }
}
