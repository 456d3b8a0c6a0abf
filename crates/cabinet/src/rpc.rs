//! Solana's JSON-RPC and pubsub, as `@solana/kit` and `@solana/web3.js` speak them.
//!
//! One router answers `POST /` (JSON-RPC 2.0, single requests and batches) and WebSockets on any
//! path. It is served twice, because `@solana/web3.js` takes the port after the HTTP port for its
//! WebSockets unless told otherwise. Errors are JSON-RPC errors; nothing a client sends ends more
//! than its own request.

mod accounts;
mod chain;
mod json;
mod params;
mod pubsub;
mod transactions;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State, WebSocketUpgrade};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::serve::ListenerExt;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::engine::{Engine, Stopped};
use crate::lender::Lender;
use crate::limits::{BATCH, REQUEST_BYTES};
use params::Params;

/// What a handler needs.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) engine: Engine,
    /// On a rollup: fetches from L1 what is asked for and not yet there.
    pub(crate) lender: Option<Lender>,
    /// On the box: signs airdrops.
    pub(crate) faucet: Option<Arc<solana_keypair::Keypair>>,
    /// Names the chain, as a genesis hash does.
    pub(crate) genesis: solana_hash::Hash,
    /// The account that makes the blocks.
    pub(crate) identity: solana_address::Address,
}

/// A JSON-RPC error: Solana's codes where it has one.
#[derive(Debug)]
pub(crate) struct Failure {
    code: i64,
    message: String,
    data: Value,
}

impl Failure {
    const PARSE: i64 = -32700;
    const REQUEST: i64 = -32600;
    const METHOD: i64 = -32601;
    const PARAMS: i64 = -32602;
    const INTERNAL: i64 = -32603;
    const PREFLIGHT: i64 = -32002;
    const SIGNATURE: i64 = -32003;
    const UNHEALTHY: i64 = -32005;
    const CONTEXT_SLOT: i64 = -32016;

    fn new(code: i64, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            data: Value::Null,
        }
    }

    pub(crate) fn params(message: impl Into<String>) -> Self {
        Self::new(Self::PARAMS, message)
    }

    fn answer(self, id: Value) -> Value {
        let mut error = json!({ "code": self.code, "message": self.message });
        if !self.data.is_null() {
            error["data"] = self.data;
        }
        json!({ "jsonrpc": "2.0", "error": error, "id": id })
    }
}

impl From<Stopped> for Failure {
    fn from(stopped: Stopped) -> Self {
        Self::new(Self::INTERNAL, stopped.to_string())
    }
}

type Answer = Result<Value, Failure>;

/// A request was understood as JSON-RPC.
struct Call {
    id: Value,
    method: String,
    params: Params,
}

impl Call {
    fn parse(value: Value) -> Result<Self, Value> {
        let bad = |id: Value, message: &str| Failure::new(Failure::REQUEST, message).answer(id);
        let Value::Object(mut fields) = value else {
            return Err(bad(Value::Null, "a request is an object"));
        };
        let id = fields.remove("id").unwrap_or(Value::Null);
        if !(id.is_null() || id.is_string() || id.is_number()) {
            return Err(bad(Value::Null, "`id` is a string or a number"));
        }
        if fields.get("jsonrpc") != Some(&json!("2.0")) {
            return Err(bad(id, "`jsonrpc` must be \"2.0\""));
        }
        let Some(Value::String(method)) = fields.remove("method") else {
            return Err(bad(id, "`method` must be a string"));
        };
        let params = match fields.remove("params") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(params)) => params,
            Some(_) => return Err(bad(id, "`params` must be an array")),
        };
        Ok(Self {
            id,
            method,
            params: Params::new(params),
        })
    }
}

/// Finds the handler of a method.
async fn dispatch(context: &Context, method: &str, params: &mut Params) -> Answer {
    match method {
        "getHealth" => chain::health(context).await,
        "getVersion" => Ok(chain::version()),
        "getSlot" | "getBlockHeight" => chain::slot(context, params).await,
        "getEpochInfo" => chain::epoch_info(context, params).await,
        "getGenesisHash" => Ok(json!(context.genesis.to_string())),
        "getIdentity" => Ok(json!({ "identity": context.identity.to_string() })),
        "getTransactionCount" => chain::transaction_count(context).await,
        "getLatestBlockhash" => chain::latest_blockhash(context, params).await,
        "isBlockhashValid" => chain::is_blockhash_valid(context, params).await,
        "getMinimumBalanceForRentExemption" => chain::rent(context, params).await,
        "getRecentPrioritizationFees" => Ok(json!([])),
        "getFeeForMessage" => transactions::fee(context, params).await,
        "getRollupState" => chain::rollup_state(context).await,
        "getAccountInfo" => accounts::one(context, params).await,
        "getMultipleAccounts" => accounts::several(context, params).await,
        "getProgramAccounts" => accounts::of_program(context, params).await,
        "getBalance" => accounts::balance(context, params).await,
        "getSignatureStatuses" => transactions::statuses(context, params).await,
        "getTransaction" => transactions::get(context, params).await,
        "getSignaturesForAddress" => transactions::of_address(context, params).await,
        "sendTransaction" => transactions::send(context, params).await,
        "simulateTransaction" => transactions::simulate(context, params).await,
        "requestAirdrop" => transactions::airdrop(context, params).await,
        _ => Err(Failure::new(
            Failure::METHOD,
            format!("Method not found: {method}"),
        )),
    }
}

async fn answer_one(context: &Context, value: Value) -> Value {
    match Call::parse(value) {
        Err(error) => error,
        Ok(mut call) => match dispatch(context, &call.method, &mut call.params).await {
            Ok(result) => json!({ "jsonrpc": "2.0", "result": result, "id": call.id }),
            Err(failure) => failure.answer(call.id),
        },
    }
}

/// Answers a body: one request, or a batch of them.
async fn answer(context: &Context, body: &[u8]) -> Value {
    match serde_json::from_slice::<Value>(body) {
        Err(error) => {
            Failure::new(Failure::PARSE, format!("Parse error: {error}")).answer(Value::Null)
        }
        Ok(Value::Array(batch)) if batch.is_empty() || batch.len() > BATCH => {
            let message = format!("a batch has 1 to {BATCH} requests, not {}", batch.len());
            Failure::new(Failure::REQUEST, message).answer(Value::Null)
        }
        Ok(Value::Array(batch)) => {
            let mut answers = Vec::with_capacity(batch.len());
            for one in batch {
                answers.push(answer_one(context, one).await);
            }
            Value::Array(answers)
        }
        Ok(one) => answer_one(context, one).await,
    }
}

fn router(context: Context) -> Router {
    let options = |headers: HeaderMap| async move { cors(&headers, StatusCode::NO_CONTENT, "") };
    let get = |State(context): State<Context>, upgrade: WebSocketUpgrade| async move {
        upgrade
            .max_message_size(REQUEST_BYTES)
            .on_upgrade(move |socket| pubsub::serve(context, socket))
    };
    let post = |State(context): State<Context>, headers: HeaderMap, body: Bytes| async move {
        let answer = answer(&context, &body).await;
        cors(&headers, StatusCode::OK, answer.to_string())
    };
    Router::new()
        .route("/", axum::routing::get(get).post(post).options(options))
        .layer(DefaultBodyLimit::max(REQUEST_BYTES))
        .with_state(context)
}

/// Any page may read a chain: there is nothing secret in it, and nothing is done in anybody's name.
fn cors(request: &HeaderMap, status: StatusCode, body: impl IntoResponse) -> Response {
    let mut response = (status, body).into_response();
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_ORIGIN,
        HeaderValue::from_static("*"),
    );
    if let Some(asked) = request.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
        headers.insert(
            header::ACCESS_CONTROL_ALLOW_METHODS,
            HeaderValue::from_static("POST"),
        );
    }
    response
}

/// Two listeners on neighbouring ports: HTTP, and the port after it.
pub(crate) struct Listeners {
    http: TcpListener,
    next: TcpListener,
}

/// No pair of ports could be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on port {port} and the one after it of {host}: {error}")]
pub struct Listen {
    host: std::net::IpAddr,
    port: u16,
    error: std::io::Error,
}

impl Listeners {
    /// Listens on `address` and the port after it; port 0 finds a free pair.
    pub(crate) async fn bind(address: SocketAddr) -> Result<Self, Listen> {
        const TRIES: u32 = 32;
        let mut tries = 0;
        loop {
            tries += 1;
            match Self::pair(address).await {
                Ok(pair) => return Ok(pair),
                Err(_) if address.port() == 0 && tries < TRIES => {}
                Err(error) => {
                    let (host, port) = (address.ip(), address.port());
                    return Err(Listen { host, port, error });
                }
            }
        }
    }

    async fn pair(address: SocketAddr) -> std::io::Result<Self> {
        let http = TcpListener::bind(address).await?;
        let port = http.local_addr()?.port();
        let next = port
            .checked_add(1)
            .ok_or_else(|| std::io::Error::other("no port after it"))?;
        let next = TcpListener::bind((address.ip(), next)).await?;
        Ok(Self { http, next })
    }

    /// The HTTP address.
    pub(crate) fn address(&self) -> SocketAddr {
        let unknown = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        self.http.local_addr().unwrap_or(unknown)
    }

    /// Serves until the runtime ends.
    pub(crate) fn serve(self, context: Context) {
        for listener in [self.http, self.next] {
            let service = router(context.clone()).into_make_service();
            // A notification must not wait until the one before it is acknowledged.
            let listener = listener.tap_io(|stream| {
                // A connection that does not take the option is slower, and nothing else.
                let _ = stream.set_nodelay(true);
            });
            tokio::spawn(async move {
                if let Err(error) = axum::serve(listener, service).await {
                    tracing::error!(%error, "the RPC server has ended");
                }
            });
        }
    }
}
