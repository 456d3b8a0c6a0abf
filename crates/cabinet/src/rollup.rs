//! A rollup: the place where a match is played, between two commits to L1.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use sha2::{Digest, Sha256};
use solana_address::Address;
use solana_hash::Hash;
use solana_keypair::Keypair;
use solana_signer::Signer;
use tokio::sync::mpsc;

use crate::bank::{Parts, Rules};
use crate::engine::{Engine, Stopped};
use crate::fault::Fault;
use crate::handle::Handle;
use crate::keys::{self, KeyFile};
use crate::ledger::{Ledger, OpenLedger};
use crate::lender::Lender;
use crate::lent::Lent;
use crate::limits::{JOURNAL_BYTES, ROLLUP_HISTORY, ROLLUP_SLOT};
use crate::remote::{Remote, websocket_url};
use crate::rpc::{Context, Listen, Listeners};
use crate::svm;

/// How to start a rollup.
pub struct RollupConfig {
    /// Folder of the rollup on disk; made when it does not exist. Its identity is in there.
    pub ledger: PathBuf,
    /// Where to serve HTTP; WebSockets are served there and on the next port. Port 0: any free pair.
    pub listen: SocketAddr,
    /// Time from one block to the next.
    pub slot: Duration,
    /// L1's HTTP URL.
    pub l1: String,
    /// L1's WebSocket URL; by default the port after the HTTP port.
    pub l1_ws: Option<String>,
    /// The upgrade authority of L1's delegation program, on a box of our own: with it the rollup
    /// admits itself, and asks the faucet for its fees.
    pub admin: Option<Keypair>,
    /// Where to die, in tests.
    pub fault: Fault,
}

impl RollupConfig {
    /// A rollup on loopback, on any free ports, over the L1 at `l1`.
    pub fn new(ledger: impl Into<PathBuf>, l1: impl Into<String>) -> Self {
        Self {
            ledger: ledger.into(),
            listen: ([127, 0, 0, 1], 0).into(),
            slot: ROLLUP_SLOT,
            l1: l1.into(),
            l1_ws: None,
            admin: None,
            fault: Fault::default(),
        }
    }
}

/// A rollup could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartRollup {
    /// The ledger cannot be used.
    #[error("the rollup's ledger: {0}")]
    Ledger(#[from] OpenLedger),
    /// The identity cannot be used.
    #[error("the rollup's identity: {0}")]
    Key(#[from] KeyFile),
    /// No ports.
    #[error("the rollup's server: {0}")]
    Listen(#[from] Listen),
    /// No thread.
    #[error("the rollup's engine: {0}")]
    Engine(#[from] std::io::Error),
}

/// A running rollup. It ends when [`Rollup::stop`] is called or the process ends.
#[derive(Clone)]
pub struct Rollup {
    pub(crate) handle: Handle,
    identity: Address,
}

impl Rollup {
    /// Starts a rollup, and returns when it answers, whether L1 can be reached or not. Call it inside
    /// a tokio runtime.
    pub async fn start(config: RollupConfig) -> Result<Self, StartRollup> {
        let fault = Arc::new(config.fault);
        let (ledger, records) = Ledger::open(&config.ledger, fault.clone(), JOURNAL_BYTES)?;
        let identity = keys::open(&config.ledger.join("identity.json"))?;
        let address = identity.pubkey();
        let listeners = Listeners::bind(config.listen).await?;
        let lent = Lent::new(identity.insecure_clone());
        let work = lent.work.clone();
        let rules = Rules {
            block: config.slot,
            history: ROLLUP_HISTORY,
        };
        let engine = Engine::start("rollup", |events| Parts {
            svm: svm::rollup(),
            rules,
            ledger,
            records,
            faucet: address,
            lent: Some(lent),
            events,
        })?;
        let (watched, added) = mpsc::unbounded_channel();
        let lender = Lender {
            engine: engine.clone(),
            l1: Remote::new(&config.l1),
            identity: Arc::new(identity),
            fault,
            watched,
        };
        let pubsub = config.l1_ws.unwrap_or_else(|| websocket_url(&config.l1));
        tokio::spawn(lender.clone().work(work));
        tokio::spawn(lender.clone().watch(pubsub, added));
        tokio::spawn(lender.clone().admit(config.admin));
        let handle = Handle::new(engine.clone(), &listeners);
        listeners.serve(Context {
            engine,
            lender: Some(lender),
            faucet: None,
            genesis: Hash::new_from_array(Sha256::digest(address).into()),
            identity: address,
        });
        Ok(Self {
            handle,
            identity: address,
        })
    }

    /// `http://…`, for JSON-RPC.
    pub fn rpc_url(&self) -> String {
        self.handle.rpc_url()
    }

    /// `ws://…`, for subscriptions.
    pub fn ws_url(&self) -> String {
        self.handle.ws_url()
    }

    /// The validator to delegate to.
    pub fn identity(&self) -> Address {
        self.identity
    }

    /// How the rollup stands: L1, delegations, commits that wait, tasks. What `getRollupState` says.
    pub async fn state(&self) -> Result<Value, Stopped> {
        let describe = |bank: &mut crate::bank::Bank| bank.lent.as_ref().map(Lent::describe);
        Ok(self.handle.engine.ask(describe).await?.unwrap_or_default())
    }

    /// Ends the rollup, and waits until it is on the disk.
    pub fn stop(&self) {
        self.handle.engine.stop();
    }
}
