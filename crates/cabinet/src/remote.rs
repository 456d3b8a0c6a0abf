//! L1 by its URL: the few requests that a rollup makes there.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use solana_account::AccountSharedData;
use solana_address::Address;
use solana_hash::Hash;
use solana_instruction::Instruction;
use solana_keypair::Keypair;
use solana_message::{Message, VersionedMessage};
use solana_signature::Signature;
use solana_signer::Signer;
use solana_transaction::versioned::VersionedTransaction;

use crate::limits::{ACCOUNTS_PER_REQUEST, L1_ANSWER_BYTES, L1_TIMEOUT};

/// How long a transaction may take to be confirmed.
const CONFIRMATION: Duration = Duration::from_secs(30);
/// Time between two looks at a transaction.
const LOOK: Duration = Duration::from_millis(50);

/// A request to L1 failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RemoteError {
    #[error("L1 at {url} cannot be reached: {error}")]
    Unreachable { url: Arc<str>, error: String },
    #[error("L1 refused {method}: {message}")]
    Refused {
        method: &'static str,
        message: String,
    },
    #[error("L1 answered {method} with something else than expected")]
    Nonsense { method: &'static str },
    #[error("transaction {signature} failed on L1: {error}")]
    Failed { signature: Signature, error: String },
    #[error("transaction {signature} was not confirmed by L1 within {} s", CONFIRMATION.as_secs())]
    Unconfirmed { signature: Signature },
}

/// A client of one L1.
#[derive(Clone)]
pub(crate) struct Remote {
    url: Arc<str>,
    agent: ureq::Agent,
}

/// How far a transaction must be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Level {
    Processed,
    Confirmed,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Self::Processed => "processed",
            Self::Confirmed => "confirmed",
        }
    }
}

impl Remote {
    pub(crate) fn new(url: &str) -> Self {
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(L1_TIMEOUT))
            .http_status_as_error(false)
            .build()
            .into();
        Self {
            url: url.into(),
            agent,
        }
    }

    async fn call(&self, method: &'static str, params: Value) -> Result<Value, RemoteError> {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let (agent, url) = (self.agent.clone(), self.url.clone());
        let request = move || -> Result<String, ureq::Error> {
            agent
                .post(&*url)
                .content_type("application/json")
                .send(body.to_string())?
                .body_mut()
                .with_config()
                .limit(L1_ANSWER_BYTES)
                .read_to_string()
        };
        let unreachable = |error: String| RemoteError::Unreachable {
            url: self.url.clone(),
            error,
        };
        let text = tokio::task::spawn_blocking(request)
            .await
            .map_err(|error| unreachable(error.to_string()))?
            .map_err(|error| unreachable(error.to_string()))?;
        let mut answer: Value =
            serde_json::from_str(&text).map_err(|_| RemoteError::Nonsense { method })?;
        if let Some(error) = answer.get("error") {
            let logs = error
                .pointer("/data/logs")
                .map(|logs| format!("; logs: {logs}"));
            let text = error
                .get("message")
                .and_then(Value::as_str)
                .unwrap_or("no reason given");
            let message = format!("{text}{}", logs.unwrap_or_default());
            return Err(RemoteError::Refused { method, message });
        }
        answer
            .get_mut("result")
            .map(Value::take)
            .ok_or(RemoteError::Nonsense { method })
    }

    /// Accounts, in order; `None` for those that do not exist.
    pub(crate) async fn accounts(
        &self,
        addresses: &[Address],
        level: Level,
    ) -> Result<Vec<Option<AccountSharedData>>, RemoteError> {
        const METHOD: &str = "getMultipleAccounts";
        let mut accounts = Vec::with_capacity(addresses.len());
        for some in addresses.chunks(ACCOUNTS_PER_REQUEST) {
            let keys: Vec<String> = some.iter().map(ToString::to_string).collect();
            let options = json!({ "encoding": "base64", "commitment": level.name() });
            let answer = self.call(METHOD, json!([keys, options])).await?;
            let values = answer.get("value").and_then(Value::as_array);
            let values = values.filter(|values| values.len() == some.len());
            for value in values.ok_or(RemoteError::Nonsense { method: METHOD })? {
                let account = match value {
                    Value::Null => None,
                    value => Some(account(value).ok_or(RemoteError::Nonsense { method: METHOD })?),
                };
                accounts.push(account);
            }
        }
        Ok(accounts)
    }

    /// Asks the box's faucet.
    pub(crate) async fn airdrop(&self, to: &Address, lamports: u64) -> Result<(), RemoteError> {
        let params = json!([to.to_string(), lamports]);
        self.call("requestAirdrop", params).await.map(|_| ())
    }

    async fn blockhash(&self) -> Result<Hash, RemoteError> {
        const METHOD: &str = "getLatestBlockhash";
        let answer = self
            .call(METHOD, json!([{ "commitment": "confirmed" }]))
            .await?;
        let text = answer.pointer("/value/blockhash").and_then(Value::as_str);
        text.and_then(|text| text.parse().ok())
            .ok_or(RemoteError::Nonsense { method: METHOD })
    }

    /// Sends instructions as one transaction paid by the first signer, and waits.
    pub(crate) async fn send(
        &self,
        instructions: &[Instruction],
        signers: &[&Keypair],
        level: Level,
    ) -> Result<Signature, RemoteError> {
        const METHOD: &str = "sendTransaction";
        let hash = self.blockhash().await?;
        let payer = signers.first().map(|signer| signer.pubkey());
        let message = Message::new_with_blockhash(instructions, payer.as_ref(), &hash);
        let refused = |error: String| RemoteError::Refused {
            method: METHOD,
            message: error,
        };
        let transaction = VersionedTransaction::try_new(VersionedMessage::Legacy(message), signers)
            .map_err(|error| refused(error.to_string()))?;
        let bytes = bincode::serialize(&transaction).map_err(|error| refused(error.to_string()))?;
        let options = json!({ "encoding": "base64", "preflightCommitment": "processed" });
        self.call(METHOD, json!([STANDARD.encode(bytes), options]))
            .await?;
        let signature = transaction.signatures[0];
        self.wait(signature, level).await?;
        Ok(signature)
    }

    /// Waits until a transaction has got so far.
    pub(crate) async fn wait(&self, signature: Signature, level: Level) -> Result<(), RemoteError> {
        let end = tokio::time::Instant::now() + CONFIRMATION;
        while tokio::time::Instant::now() < end {
            let params = json!([[signature.to_string()]]);
            let answer = self.call("getSignatureStatuses", params).await?;
            let status = &answer["value"][0];
            let far = match level {
                Level::Processed => status.is_object(),
                Level::Confirmed => {
                    let far = status["confirmationStatus"].as_str();
                    matches!(far, Some("confirmed" | "finalized"))
                }
            };
            if !status["err"].is_null() {
                let error = status["err"].to_string();
                return Err(RemoteError::Failed { signature, error });
            }
            if far {
                return Ok(());
            }
            tokio::time::sleep(LOOK).await;
        }
        Err(RemoteError::Unconfirmed { signature })
    }
}

/// An account as the RPC shows it, in base64.
pub(crate) fn account(value: &Value) -> Option<AccountSharedData> {
    let data = STANDARD.decode(value["data"][0].as_str()?).ok()?;
    let owner = value["owner"].as_str()?.parse().ok()?;
    Some(AccountSharedData::create_from_existing_shared_data(
        value["lamports"].as_u64()?,
        Arc::new(data),
        owner,
        value["executable"].as_bool()?,
        u64::MAX,
    ))
}

/// Where a node's pubsub is: the port after its HTTP port if it names one, as everywhere on Solana.
pub(crate) fn websocket_url(http: &str) -> String {
    let url = match http.split_once("://") {
        Some(("https", rest)) => format!("wss://{rest}"),
        Some((_, rest)) => format!("ws://{rest}"),
        None => format!("ws://{http}"),
    };
    let (before, path) = match url[6..].find('/') {
        Some(slash) => url.split_at(6 + slash),
        None => (url.as_str(), ""),
    };
    match before
        .rsplit_once(':')
        .map(|(host, port)| (host, port.parse::<u16>()))
    {
        Some((host, Ok(port))) => format!("{host}:{}{path}", port.saturating_add(1)),
        _ => url,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pubsub_is_on_the_next_port() {
        for (http, ws) in [
            ("http://127.0.0.1:8899", "ws://127.0.0.1:8900"),
            ("http://127.0.0.1:8899/", "ws://127.0.0.1:8900/"),
            (
                "https://api.devnet.solana.com",
                "wss://api.devnet.solana.com",
            ),
            ("http://[::1]:8899", "ws://[::1]:8900"),
        ] {
            assert_eq!(websocket_url(http), ws);
        }
    }
}
