//! L1 in a box: a whole Solana chain in one process.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use solana_account::{AccountSharedData, ReadableAccount, WritableAccount};
use solana_address::Address;
use solana_hash::Hash;
use solana_keypair::Keypair;
use solana_message::{Message, VersionedMessage};
use solana_sdk_ids::bpf_loader_upgradeable;
use solana_signer::Signer;
use solana_transaction::versioned::VersionedTransaction;

use crate::bank::{Bank, Parts, Rules, program_data_address};
use crate::delegation::{self, DELEGATION_PROGRAM};
use crate::engine::Engine;
use crate::fault::Fault;
use crate::handle::Handle;
use crate::keys::{self, KeyFile};
use crate::ledger::{Ledger, OpenLedger};
use crate::limits::{FAUCET_LAMPORTS, JOURNAL_BYTES, L1_HISTORY, L1_SLOT};
use crate::rpc::{Context, Listen, Listeners};
use crate::svm;

/// How to start a box.
#[derive(Debug)]
pub struct L1Config {
    /// Folder of the chain on disk; made when it does not exist.
    pub ledger: PathBuf,
    /// Where to serve HTTP; WebSockets are served there and on the next port. Port 0: any free pair.
    pub listen: SocketAddr,
    /// Time from one block to the next.
    pub slot: Duration,
    /// MagicBlock's delegation program (see [`L1Config::DELEGATION_ELF`]). Without it nothing can be
    /// lent to a rollup.
    pub delegation_program: Option<PathBuf>,
    /// Programs to deploy, or to replace where their code differs.
    pub programs: Vec<(Address, PathBuf)>,
    /// Accounts to put in place when the ledger is made, as JSON files that `solana account --output
    /// json` writes. The faucet pays for them.
    pub accounts: Vec<PathBuf>,
    /// A journal larger than this and than the snapshot is folded into a new snapshot.
    pub journal_bytes: u64,
    /// Where to die, in tests.
    pub fault: Fault,
}

impl L1Config {
    /// Where the npm package `@magicblock-labs/ephemeral-validator` 0.8.3 has the delegation program.
    pub const DELEGATION_ELF: &str =
        "bin/local-dumps/DELeGGvXpWV2fqJUhqcF5ZSYMS4JTLjteaAMARRSaeSh.so";

    /// A box on loopback, on any free ports, without programs.
    pub fn new(ledger: impl Into<PathBuf>) -> Self {
        Self {
            ledger: ledger.into(),
            listen: ([127, 0, 0, 1], 0).into(),
            slot: L1_SLOT,
            delegation_program: None,
            programs: Vec::new(),
            accounts: Vec::new(),
            journal_bytes: JOURNAL_BYTES,
            fault: Fault::default(),
        }
    }
}

/// A box could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartL1 {
    /// The ledger cannot be used.
    #[error("the box's ledger: {0}")]
    Ledger(#[from] OpenLedger),
    /// A key file cannot be used.
    #[error("the box's keys: {0}")]
    Key(#[from] KeyFile),
    /// A program cannot be read.
    #[error(
        "program {address}: {path} cannot be read: {error}. The delegation program comes in the npm package @magicblock-labs/ephemeral-validator 0.8.3"
    )]
    Program {
        /// The program.
        address: Address,
        /// Where it should be.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// An account file cannot be used.
    #[error(
        "{0}: cannot be read as an account: JSON with `pubkey` and `account` is expected, its data in base64"
    )]
    Account(PathBuf),
    /// No ports.
    #[error("the box's server: {0}")]
    Listen(#[from] Listen),
    /// No thread, or a chain that stopped while it was set up.
    #[error("the box's engine: {0}")]
    Engine(#[from] std::io::Error),
}

/// A running box. It ends when [`L1::stop`] is called or the process ends.
#[derive(Clone)]
pub struct L1 {
    handle: Handle,
    authority: Arc<Keypair>,
}

impl L1 {
    /// Starts a box, and returns when it answers. Call it inside a tokio runtime.
    pub async fn start(config: L1Config) -> Result<Self, StartL1> {
        let programs = read_programs(&config)?;
        let accounts: Vec<_> = config
            .accounts
            .iter()
            .map(read_account)
            .collect::<Result<_, _>>()?;
        let (ledger, records) =
            Ledger::open(&config.ledger, Arc::new(config.fault), config.journal_bytes)?;
        let faucet = keys::open(&config.ledger.join("faucet.json"))?;
        let authority = Arc::new(keys::open(&config.ledger.join("authority.json"))?);
        let listeners = Listeners::bind(config.listen).await?;
        let is_new = records.is_empty();
        let rules = Rules {
            block: config.slot,
            history: L1_HISTORY,
        };
        let address = faucet.pubkey();
        let engine = Engine::start("l1", |events| Parts {
            svm: svm::l1(),
            rules,
            ledger,
            records,
            faucet: address,
            lent: None,
            events,
        })?;
        let faucet = Arc::new(faucet);
        let (payer, upgrader) = (faucet.clone(), authority.pubkey());
        let set_up = move |bank: &mut Bank| {
            if is_new {
                let account = AccountSharedData::new(FAUCET_LAMPORTS, 0, &Address::default());
                bank.put(payer.pubkey(), account);
                for (address, account) in accounts {
                    bank.fund(address, account);
                }
            }
            for (program, elf) in programs {
                deploy(bank, program, &elf, upgrader);
            }
            make_protocol_vault(bank, &payer);
        };
        engine.ask(set_up).await.map_err(std::io::Error::other)?;
        let handle = Handle::new(engine.clone(), &listeners);
        listeners.serve(Context {
            engine,
            lender: None,
            faucet: Some(faucet),
            genesis: Hash::new_from_array(Sha256::digest(address).into()),
            identity: address,
        });
        Ok(Self { handle, authority })
    }

    /// `http://…`, for JSON-RPC.
    pub fn rpc_url(&self) -> String {
        self.handle.rpc_url()
    }

    /// `ws://…`, for subscriptions.
    pub fn ws_url(&self) -> String {
        self.handle.ws_url()
    }

    /// The upgrade authority of the programs that the box deployed. It is what lets a rollup in.
    pub fn authority(&self) -> Keypair {
        self.authority.insecure_clone()
    }

    /// Lamports of all accounts: always the same, whatever happens.
    pub async fn total_lamports(&self) -> Result<u128, crate::Stopped> {
        self.handle.engine.ask(|bank| bank.total_lamports()).await
    }

    /// Ends the chain, and waits until it is on the disk.
    pub fn stop(&self) {
        self.handle.engine.stop();
    }
}

fn read_programs(config: &L1Config) -> Result<Vec<(Address, Vec<u8>)>, StartL1> {
    let delegation = config
        .delegation_program
        .iter()
        .map(|path| (DELEGATION_PROGRAM, path));
    let others = config
        .programs
        .iter()
        .map(|(address, path)| (*address, path));
    let read = |(address, path): (Address, &PathBuf)| match std::fs::read(path) {
        Ok(elf) => Ok((address, elf)),
        Err(error) => Err(StartL1::Program {
            address,
            path: path.clone(),
            error,
        }),
    };
    delegation.chain(others).map(read).collect()
}

fn read_account(path: &PathBuf) -> Result<(Address, AccountSharedData), StartL1> {
    let read = || {
        let file: serde_json::Value = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
        let address = file["pubkey"].as_str()?.parse().ok()?;
        Some((address, crate::remote::account(&file["account"])?))
    };
    read().ok_or_else(|| StartL1::Account(path.clone()))
}

/// Puts an upgradeable program in place, paid by the faucet, unless it stands there already.
///
/// Layouts are those of `solana-loader-v3-interface`, bincode: a program is `2u32` and the address
/// of its code; code is `3u32`, the block of its deployment, an optional authority, the ELF.
fn deploy(bank: &mut Bank, program: Address, elf: &[u8], authority: Address) {
    const HEAD: usize = 45;
    let code_address = program_data_address(&program);
    let standing = bank.account(&code_address);
    if standing.is_some_and(|code| code.data().get(HEAD..) == Some(elf)) {
        return;
    }
    let mut code = 3u32.to_le_bytes().to_vec();
    code.extend(bank.slot.to_le_bytes());
    code.push(1);
    code.extend(authority.as_ref());
    code.extend(elf);
    let mut entry = 2u32.to_le_bytes().to_vec();
    entry.extend(code_address.as_ref());
    for (address, data, executable) in [(code_address, code, false), (program, entry, true)] {
        let rent = bank.svm.minimum_balance_for_rent_exemption(data.len());
        let mut account = AccountSharedData::new(rent, 0, &bpf_loader_upgradeable::ID);
        account.set_data_from_slice(&data);
        account.set_executable(executable);
        account.set_rent_epoch(u64::MAX);
        bank.fund(address, account);
    }
}

/// The delegation program pays fees into a vault, which must exist before the first account is
/// given back.
fn make_protocol_vault(bank: &mut Bank, payer: &Keypair) {
    let there = |address: &Address| bank.account(address).is_some();
    if !there(&DELEGATION_PROGRAM) || there(&delegation::protocol_vault()) {
        return;
    }
    let instruction = delegation::init_protocol_vault(payer.pubkey());
    let hash = bank.hashes.latest();
    let message = Message::new_with_blockhash(&[instruction], Some(&payer.pubkey()), &hash);
    let signed = VersionedTransaction::try_new(VersionedMessage::Legacy(message), &[payer]);
    let landed = signed
        .ok()
        .and_then(|transaction| bank.execute(&transaction, false).ok());
    if landed.is_none_or(|landed| landed.error.is_some()) {
        tracing::error!(
            "the delegation program does not make its vault; nothing can be given back"
        );
    }
}
