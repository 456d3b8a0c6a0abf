//! Solana's JSON-RPC over HTTP: questions and answers, nothing of ours in them.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use solana_address::Address;
use solana_hash::Hash;
use solana_signature::Signature;
use worldline_abi::Layout;

use crate::limits::{
    ACCOUNTS_PER_REQUEST, ANSWER_BYTES, ANSWER_TIMEOUT, REQUEST_TRIES, REQUEST_WAIT,
    SIGNATURES_PER_REQUEST,
};

/// The code with which a chain says that a transaction failed when it was tried out.
const PREFLIGHT: i64 = -32002;

/// A question got no answer that helps.
#[derive(Debug, thiserror::Error)]
pub enum RpcError {
    /// Nobody answered.
    #[error(
        "{method} at {url}: {error}. Is a chain running there? `worldline chain up` starts one"
    )]
    Unreachable {
        /// Where.
        url: String,
        /// What was asked.
        method: &'static str,
        /// What the network said.
        error: String,
    },
    /// The chain refused.
    #[error("{method} at {url} was refused: {message} (code {code})")]
    Refused {
        /// Where.
        url: String,
        /// What was asked.
        method: &'static str,
        /// JSON-RPC's or Solana's code.
        code: i64,
        /// The chain's words.
        message: String,
        /// What the chain says beside them.
        data: Box<Value>,
    },
    /// The answer is not one.
    #[error("{method} at {url} was answered with something else than Solana answers: {what}")]
    Answer {
        /// Where.
        url: String,
        /// What was asked.
        method: &'static str,
        /// What is wrong with it.
        what: String,
    },
}

/// An account as a chain shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// What it holds, in lamports.
    pub lamports: u64,
    /// The program that may change it.
    pub owner: Address,
    /// Its bytes.
    pub data: Vec<u8>,
}

/// How a transaction stands that a chain knows.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    /// Why it failed, as Solana writes it.
    pub error: Option<Value>,
    /// Whether it is as final as this client asks for.
    pub confirmed: bool,
}

/// How final an answer must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Commitment {
    /// Executed: what a rollup's players go by.
    Processed,
    /// Not to be taken back: what L1 is asked for.
    Confirmed,
}

impl Commitment {
    /// As Solana writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Processed => "processed",
            Self::Confirmed => "confirmed",
        }
    }
}

/// A condition on the accounts of a program.
#[derive(Debug, Clone)]
pub enum Filter {
    /// Exactly so many bytes.
    Bytes(usize),
    /// These bytes at this offset.
    At(usize, Vec<u8>),
}

impl Filter {
    /// The accounts of a layout that stands alone in its account.
    pub fn layout<T: Layout>() -> Vec<Self> {
        let kind = T::DISCRIMINATOR.map(|bytes| Self::At(0, bytes.to_vec()));
        [Self::Bytes(size_of::<T>())]
            .into_iter()
            .chain(kind)
            .collect()
    }

    fn json(&self) -> Value {
        match self {
            Self::Bytes(bytes) => json!({ "dataSize": bytes }),
            Self::At(offset, bytes) => json!({ "memcmp": {
                "offset": offset, "bytes": STANDARD.encode(bytes), "encoding": "base64",
            } }),
        }
    }
}

/// A chain at a URL. Cheap to clone; connections are shared.
#[derive(Debug, Clone)]
pub struct Rpc {
    url: String,
    commitment: Commitment,
    agent: ureq::Agent,
}

impl Rpc {
    /// The chain at `url`; nothing is asked yet.
    pub fn new(url: impl Into<String>, commitment: Commitment) -> Self {
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(ANSWER_TIMEOUT))
            .http_status_as_error(false)
            .max_idle_connections_per_host(crate::limits::PARALLEL)
            .build();
        Self {
            url: url.into(),
            commitment,
            agent: agent.into(),
        }
    }

    /// Where it is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// How final its answers are.
    pub fn commitment(&self) -> Commitment {
        self.commitment
    }

    /// Asks; what does not get through is asked again a few times. Every question of this client can
    /// be asked twice: a transaction is executed once, whatever happens.
    pub fn call(&self, method: &'static str, params: Value) -> Result<Value, RpcError> {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let body = body.to_string();
        let mut wait = REQUEST_WAIT;
        let mut tries = 1;
        loop {
            match self.post(&body) {
                Ok(text) => return self.read(method, &text),
                Err(error) if tries == REQUEST_TRIES => {
                    return Err(RpcError::Unreachable {
                        url: self.url.clone(),
                        method,
                        error,
                    });
                }
                Err(_) => std::thread::sleep(wait),
            }
            wait *= 2;
            tries += 1;
        }
    }

    /// Passes a request on as it is, once, and answers with the chain's own text.
    pub fn forward(&self, body: &str) -> Result<String, RpcError> {
        self.post(body).map_err(|error| RpcError::Unreachable {
            url: self.url.clone(),
            method: "a request",
            error,
        })
    }

    /// An answer's text; what is worth another try is an error.
    fn post(&self, body: &str) -> Result<String, String> {
        let request = self.agent.post(&self.url);
        let request = request.header("content-type", "application/json");
        let mut answer = request.send(body).map_err(|error| error.to_string())?;
        let status = answer.status();
        if status.as_u16() == 429 || status.is_server_error() {
            return Err(format!("the server says {status}"));
        }
        let body = answer.body_mut().with_config().limit(ANSWER_BYTES);
        body.read_to_string().map_err(|error| error.to_string())
    }

    fn read(&self, method: &'static str, text: &str) -> Result<Value, RpcError> {
        let mut answer: Value = serde_json::from_str(text)
            .map_err(|_| self.odd(method, text.chars().take(80).collect::<String>()))?;
        let error = answer["error"].take();
        if error.is_null() {
            return Ok(answer["result"].take());
        }
        Err(RpcError::Refused {
            url: self.url.clone(),
            method,
            code: error["code"].as_i64().unwrap_or(0),
            message: error["message"].as_str().unwrap_or("no reason").into(),
            data: Box::new(error["data"].clone()),
        })
    }

    fn odd(&self, method: &'static str, what: impl Into<String>) -> RpcError {
        RpcError::Answer {
            url: self.url.clone(),
            method,
            what: what.into(),
        }
    }

    fn number(&self, method: &'static str, value: &Value) -> Result<u64, RpcError> {
        value.as_u64().ok_or_else(|| self.odd(method, "no number"))
    }

    fn options(&self) -> Value {
        json!({ "encoding": "base64", "commitment": self.commitment.as_str() })
    }

    /// The newest blockhash.
    pub fn blockhash(&self) -> Result<Hash, RpcError> {
        const METHOD: &str = "getLatestBlockhash";
        let answer = self.call(METHOD, json!([self.options()]))?;
        let text = answer["value"]["blockhash"].as_str().unwrap_or_default();
        text.parse().map_err(|_| self.odd(METHOD, "no blockhash"))
    }

    /// Whether transactions with this blockhash can still land.
    pub fn is_blockhash_valid(&self, hash: &Hash) -> Result<bool, RpcError> {
        const METHOD: &str = "isBlockhashValid";
        let answer = self.call(METHOD, json!([hash.to_string(), self.options()]))?;
        let valid = answer["value"].as_bool();
        valid.ok_or_else(|| self.odd(METHOD, "no yes or no"))
    }

    /// An account; `None` when there is none.
    pub fn account(&self, address: &Address) -> Result<Option<Account>, RpcError> {
        const METHOD: &str = "getAccountInfo";
        let answer = self.call(METHOD, json!([address.to_string(), self.options()]))?;
        self.one(METHOD, &answer["value"])
    }

    /// Accounts, in the order asked for.
    pub fn accounts(&self, addresses: &[Address]) -> Result<Vec<Option<Account>>, RpcError> {
        const METHOD: &str = "getMultipleAccounts";
        let mut found = Vec::with_capacity(addresses.len());
        for part in addresses.chunks(ACCOUNTS_PER_REQUEST) {
            let names: Vec<String> = part.iter().map(Address::to_string).collect();
            let answer = self.call(METHOD, json!([names, self.options()]))?;
            let list = answer["value"]
                .as_array()
                .filter(|list| list.len() == part.len());
            let list = list.ok_or_else(|| self.odd(METHOD, "not one value for each address"))?;
            for value in list {
                found.push(self.one(METHOD, value)?);
            }
        }
        Ok(found)
    }

    /// The accounts of a program that pass every filter.
    pub fn program_accounts(
        &self,
        program: &Address,
        filters: &[Filter],
    ) -> Result<Vec<(Address, Account)>, RpcError> {
        const METHOD: &str = "getProgramAccounts";
        let mut options = self.options();
        options["filters"] = filters.iter().map(Filter::json).collect();
        let answer = self.call(METHOD, json!([program.to_string(), options]))?;
        let list = answer
            .as_array()
            .ok_or_else(|| self.odd(METHOD, "no list"))?;
        let mut found = Vec::with_capacity(list.len());
        for entry in list {
            let address = entry["pubkey"].as_str().and_then(|text| text.parse().ok());
            let address = address.ok_or_else(|| self.odd(METHOD, "no address"))?;
            if let Some(account) = self.one(METHOD, &entry["account"])? {
                found.push((address, account));
            }
        }
        Ok(found)
    }

    fn one(&self, method: &'static str, value: &Value) -> Result<Option<Account>, RpcError> {
        if value.is_null() {
            return Ok(None);
        }
        let account = parse_account(value);
        account
            .map(Some)
            .ok_or_else(|| self.odd(method, "no account"))
    }

    /// What an account holds, in lamports.
    pub fn balance(&self, address: &Address) -> Result<u64, RpcError> {
        const METHOD: &str = "getBalance";
        let answer = self.call(METHOD, json!([address.to_string(), self.options()]))?;
        self.number(METHOD, &answer["value"])
    }

    /// The deposit for an account of so many bytes, in lamports.
    pub fn rent(&self, bytes: usize) -> Result<u64, RpcError> {
        const METHOD: &str = "getMinimumBalanceForRentExemption";
        let answer = self.call(METHOD, json!([bytes]))?;
        self.number(METHOD, &answer)
    }

    /// The account that makes the blocks; of a rollup, the validator to delegate to.
    pub fn identity(&self) -> Result<Address, RpcError> {
        const METHOD: &str = "getIdentity";
        let answer = self.call(METHOD, json!([]))?;
        let text = answer["identity"].as_str().unwrap_or_default();
        text.parse().map_err(|_| self.odd(METHOD, "no identity"))
    }

    /// Whether this is a box of ours: its lamports are play money, and its faucet gives them to anyone.
    pub fn is_box(&self) -> Result<bool, RpcError> {
        let version = self.call("getVersion", json!([]))?;
        Ok(version["worldline-cabinet"].is_string())
    }

    /// Asks a test chain's faucet for lamports.
    pub fn airdrop(&self, to: &Address, lamports: u64) -> Result<Signature, RpcError> {
        const METHOD: &str = "requestAirdrop";
        let answer = self.call(METHOD, json!([to.to_string(), lamports]))?;
        let text = answer.as_str().unwrap_or_default();
        text.parse().map_err(|_| self.odd(METHOD, "no signature"))
    }

    /// Sends a signed transaction. With `preflight` the chain tries it out first and says why it
    /// fails, which costs nobody a fee.
    pub fn send(&self, wire: &[u8], preflight: bool) -> Result<(), RpcError> {
        let options = json!({
            "encoding": "base64",
            "skipPreflight": !preflight,
            "preflightCommitment": self.commitment.as_str(),
        });
        self.call("sendTransaction", json!([STANDARD.encode(wire), options]))?;
        Ok(())
    }

    /// How transactions stand; `None` for one that the chain does not know.
    pub fn statuses(&self, signatures: &[Signature]) -> Result<Vec<Option<Status>>, RpcError> {
        const METHOD: &str = "getSignatureStatuses";
        let mut found = Vec::with_capacity(signatures.len());
        for part in signatures.chunks(SIGNATURES_PER_REQUEST) {
            let names: Vec<String> = part.iter().map(Signature::to_string).collect();
            let answer = self.call(METHOD, json!([names]))?;
            let list = answer["value"]
                .as_array()
                .filter(|list| list.len() == part.len());
            let list = list.ok_or_else(|| self.odd(METHOD, "not one value for each signature"))?;
            found.extend(list.iter().map(|value| self.status(value)));
        }
        Ok(found)
    }

    fn status(&self, value: &Value) -> Option<Status> {
        let level = value["confirmationStatus"].as_str()?;
        let error = &value["err"];
        Some(Status {
            error: (!error.is_null()).then(|| error.clone()),
            confirmed: self.commitment == Commitment::Processed || level != "processed",
        })
    }
}

/// An account as JSON-RPC and pubsub show it, in Base64.
pub(crate) fn parse_account(value: &Value) -> Option<Account> {
    let data = value["data"][0].as_str()?;
    Some(Account {
        lamports: value["lamports"].as_u64()?,
        owner: value["owner"].as_str()?.parse().ok()?,
        data: STANDARD.decode(data).ok()?,
    })
}

impl RpcError {
    /// What a chain said of a transaction that it tried out: the error as Solana writes it, the log.
    pub(crate) fn preflight(&self) -> Option<(Value, Vec<String>)> {
        match self {
            Self::Refused {
                code: PREFLIGHT,
                data,
                ..
            } => Some((data["err"].clone(), lines(&data["logs"]))),
            _ => None,
        }
    }
}

fn lines(logs: &Value) -> Vec<String> {
    let lines = logs.as_array().into_iter().flatten();
    lines.filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Sleeps a little longer each time, up to `most`.
#[derive(Debug)]
pub(crate) struct Patience {
    wait: Duration,
    most: Duration,
}

impl Patience {
    pub(crate) fn new(first: Duration, most: Duration) -> Self {
        Self { wait: first, most }
    }

    pub(crate) fn wait(&mut self) {
        std::thread::sleep(self.wait);
        self.wait = (self.wait * 3 / 2).min(self.most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use worldline_abi::WorldAccount;

    #[test]
    fn an_account_is_read_from_base64() {
        let value = json!({
            "data": ["AQID", "base64"], "executable": false, "lamports": 7,
            "owner": "11111111111111111111111111111111", "rentEpoch": 0, "space": 3,
        });
        let account = parse_account(&value).unwrap();
        assert_eq!((account.lamports, account.data), (7, vec![1, 2, 3]));
        assert_eq!(account.owner, Address::default());
        for wrong in [
            json!({}),
            json!({ "data": "AQID", "lamports": 7 }),
            json!(3),
        ] {
            assert_eq!(parse_account(&wrong), None);
        }
    }

    #[test]
    fn a_layout_is_found_by_its_size_and_discriminator() {
        let filters: Vec<Value> = Filter::layout::<WorldAccount>()
            .iter()
            .map(Filter::json)
            .collect();
        let kind = STANDARD.encode(b"WLMODEL\x01");
        let compare = json!({ "memcmp": { "offset": 0, "bytes": kind, "encoding": "base64" } });
        assert_eq!(filters, [json!({ "dataSize": 1024 }), compare]);
    }

    #[test]
    fn nobody_at_home_is_said_with_what_to_do() {
        let rpc = Rpc::new("http://127.0.0.1:1", Commitment::Confirmed);
        let error = rpc.blockhash().unwrap_err().to_string();
        assert!(
            error.contains("127.0.0.1:1") && error.contains("chain up"),
            "{error}"
        );
    }

    #[test]
    fn answers_and_refusals_are_told_apart() {
        let rpc = Rpc::new("http://x", Commitment::Confirmed);
        assert_eq!(rpc.read("getSlot", r#"{"result":5}"#).unwrap(), json!(5));
        let refused = r#"{"error":{"code":-32002,"message":"no","data":{"err":"E","logs":["l"]}}}"#;
        let refused = rpc.read("sendTransaction", refused).unwrap_err();
        assert_eq!(refused.preflight(), Some((json!("E"), vec!["l".into()])));
        let odd = rpc.read("getSlot", "<html>").unwrap_err();
        assert!(matches!(odd, RpcError::Answer { .. }));
    }
}
