//! A rollup's dealings with L1: fetching what is read here, and giving back what was lent.
//!
//! An account is fetched when it is first named, and again whenever L1 says that it changed, until
//! it is lent to this rollup: from then on it is ours until we give it back. Commits are tried until
//! L1 takes them; play goes on meanwhile.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use solana_account::{AccountSharedData, ReadableAccount};
use solana_address::Address;
use solana_keypair::Keypair;
use solana_sdk_ids::bpf_loader_upgradeable;
use solana_signer::Signer;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio_tungstenite::tungstenite::Message;

use crate::bank::program_data_address;
use crate::delegation::{
    self, Commit, DELEGATION_PROGRAM, DelegationMetadata, DelegationRecord, diffs,
};
use crate::engine::Engine;
use crate::fault::{self, Fault};
use crate::lent::{CommitJob, Fetched};
use crate::limits::{COMMIT_CHUNK, COMMIT_RETRY, COMMITS_IN_FLIGHT};
use crate::remote::{Level, Remote, RemoteError};
use crate::rpc::Failure;

/// How often commits that wait for their next try are looked at.
const TICK: Duration = Duration::from_millis(200);
/// A rollup that pays its own way on the box has at least this much there, and asks for ten times
/// as much when it has not.
const FLOAT_LAMPORTS: u64 = 1_000_000_000;

/// The part of a rollup that talks to L1.
#[derive(Clone)]
pub(crate) struct Lender {
    pub(crate) engine: Engine,
    pub(crate) l1: Remote,
    pub(crate) identity: Arc<Keypair>,
    pub(crate) fault: Arc<Fault>,
    /// Copies to be watched on L1.
    pub(crate) watched: mpsc::UnboundedSender<Vec<Address>>,
}

impl Lender {
    /// Fetches those of `addresses` that were never asked for.
    pub(crate) async fn fetch_unknown(&self, addresses: &[Address]) -> Result<(), Failure> {
        let addresses = addresses.to_vec();
        let unknown = self
            .engine
            .ask(move |bank| bank.unknown(&addresses))
            .await?;
        self.fetch(unknown).await.map_err(unreachable)
    }

    /// Fetches again those of `addresses` that are not lent to this rollup.
    pub(crate) async fn look_again(&self, addresses: &[Address]) -> Result<(), Failure> {
        let addresses = addresses.to_vec();
        let stale = self.engine.ask(move |bank| bank.stale(&addresses)).await?;
        self.fetch(stale).await.map_err(unreachable)
    }

    /// Fetches what a transaction names and is not here, and what it writes to and is not lent: one
    /// question to the engine when there is nothing to fetch, as for every pad of a match.
    pub(crate) async fn fetch_for(
        &self,
        payer: &Address,
        named: &[Address],
        written: &[Address],
    ) -> Result<(), Failure> {
        let (payer, named, written) = (*payer, named.to_vec(), written.to_vec());
        let wanted = move |bank: &mut crate::bank::Bank| {
            let mut wanted = bank.unknown(&named);
            wanted.extend(bank.stale(&written));
            wanted.sort_unstable();
            wanted.dedup();
            (bank.unknown_payer(payer), wanted)
        };
        let (payer, wanted) = self.engine.ask(wanted).await?;
        // A failure shows in the rollup's state, which is where it matters.
        let _ = self.fetch(payer).await;
        self.fetch(wanted).await.map_err(unreachable)
    }

    async fn fetch(&self, addresses: Vec<Address>) -> Result<(), RemoteError> {
        if addresses.is_empty() {
            return Ok(());
        }
        let fetched = self.read(&addresses).await;
        let failure = fetched.as_ref().err().map(ToString::to_string);
        let (fetched, result) = match fetched {
            Ok(fetched) => (fetched, Ok(())),
            Err(error) => (Vec::new(), Err(error)),
        };
        // A closed channel means that the rollup is ending.
        let _ = self
            .watched
            .send(fetched.iter().map(|one| one.address).collect());
        let installed = self.engine.ask(move |bank| {
            bank.install(fetched);
            if let Some(lent) = &mut bank.lent {
                lent.l1_failure = failure;
            }
        });
        // An engine that has ended needs nothing any more.
        let _ = installed.await;
        result
    }

    /// Accounts with what belongs to them: delegation records, and the code of programs.
    async fn read(&self, addresses: &[Address]) -> Result<Vec<Fetched>, RemoteError> {
        let accounts = self.l1.accounts(addresses, Level::Confirmed).await?;
        let mut fetched: Vec<Fetched> = Vec::with_capacity(accounts.len());
        let mut also: Vec<(usize, Address)> = Vec::new();
        for (address, account) in addresses.iter().zip(accounts) {
            let index = fetched.len();
            match account
                .as_ref()
                .map(|account| (account.owner(), account.executable()))
            {
                Some((owner, _)) if *owner == DELEGATION_PROGRAM => {
                    also.push((index, delegation::record_address(address)));
                }
                Some((owner, true)) if *owner == bpf_loader_upgradeable::ID => {
                    also.push((index, program_data_address(address)));
                }
                _ => {}
            }
            fetched.push(Fetched {
                address: *address,
                account,
                delegation: None,
            });
        }
        let keys: Vec<Address> = also.iter().map(|(_, key)| *key).collect();
        let found = self.l1.accounts(&keys, Level::Confirmed).await?;
        for ((index, key), found) in also.into_iter().zip(found) {
            let is_code = fetched[index]
                .account
                .as_ref()
                .is_some_and(ReadableAccount::executable);
            if is_code {
                fetched.push(Fetched {
                    address: key,
                    account: found,
                    delegation: None,
                });
            } else {
                let record = found.filter(|found| *found.owner() == DELEGATION_PROGRAM);
                let record = record.and_then(|found| DelegationRecord::parse(found.data()));
                fetched[index].delegation = record;
            }
        }
        Ok(fetched)
    }

    /// Fetches what tasks wait for, and sends commits, as long as the rollup runs.
    pub(crate) async fn work(self, work: Arc<Notify>) {
        let slots = Arc::new(Semaphore::new(COMMITS_IN_FLIGHT));
        loop {
            tokio::select! {
                () = work.notified() => {}
                () = tokio::time::sleep(TICK) => {}
            }
            let free = slots.available_permits();
            let look = move |bank: &mut crate::bank::Bank| {
                let wanted = bank.wanted();
                let svm = &bank.svm;
                let jobs = bank.lent.as_mut().map(|lent| lent.take_commits(svm, free));
                (wanted, jobs.unwrap_or_default())
            };
            let Ok((wanted, jobs)) = self.engine.ask(look).await else {
                return;
            };
            if self.fetch(wanted).await.is_err() {
                tokio::time::sleep(COMMIT_RETRY).await;
            }
            for job in jobs {
                let (lender, slots) = (self.clone(), slots.clone());
                tokio::spawn(async move {
                    let permit = slots.acquire().await;
                    let result = lender.commit(&job).await.map_err(|error| error.to_string());
                    drop(permit);
                    lender
                        .engine
                        .tell(move |bank| bank.commit_ended(&job, result));
                });
            }
        }
    }

    /// Brings L1 to the state of a commit, whatever an earlier try has already done, and gives the
    /// account back if asked to.
    async fn commit(&self, job: &CommitJob) -> Result<(), RemoteError> {
        let Some(state) = self.lent_state(job).await? else {
            return Ok(());
        };
        let (on_l1, record, metadata) = state;
        let validator = self.identity.pubkey();
        let signers = [self.identity.as_ref()];
        let mut last = None;
        let done = on_l1.data() == job.target.data();
        if !metadata.may_undelegate && (!done || job.undelegate) {
            let diffs = diffs(on_l1.data(), job.target.data(), COMMIT_CHUNK);
            let count = diffs.len();
            for (index, diff) in diffs.iter().enumerate() {
                let commit = Commit {
                    validator,
                    account: job.account,
                    number: metadata.last_commit + 1 + index as u64,
                    lamports: record.lamports,
                    allow_undelegation: job.undelegate && index + 1 == count,
                    diff,
                };
                let level = Level::Processed;
                last = Some(
                    self.l1
                        .send(&[commit.instruction()], &signers, level)
                        .await?,
                );
            }
            self.fault.point(fault::COMMIT_LANDED);
        }
        if job.undelegate {
            let owner = record.owner;
            let give_back =
                delegation::undelegate(validator, job.account, owner, metadata.rent_payer);
            last = Some(
                self.l1
                    .send(&[give_back], &signers, Level::Processed)
                    .await?,
            );
            self.fault.point(fault::UNDELEGATE_LANDED);
        }
        match last {
            Some(signature) => self.l1.wait(signature, Level::Confirmed).await,
            None => Ok(()),
        }
    }

    /// How L1 has a lent account; `None` when it has it back already.
    async fn lent_state(
        &self,
        job: &CommitJob,
    ) -> Result<Option<(AccountSharedData, DelegationRecord, DelegationMetadata)>, RemoteError>
    {
        let keys = [
            job.account,
            delegation::record_address(&job.account),
            delegation::metadata_address(&job.account),
        ];
        let mut accounts = self.l1.accounts(&keys, Level::Processed).await?.into_iter();
        let mut next = || accounts.next().flatten();
        let (account, record, metadata) = (next(), next(), next());
        let is_back = |account: &AccountSharedData| *account.owner() != DELEGATION_PROGRAM;
        if account.as_ref().is_none_or(is_back) {
            return Ok(None);
        }
        let record = record.and_then(|record| DelegationRecord::parse(record.data()));
        let metadata = metadata.and_then(|found| DelegationMetadata::parse(found.data()));
        let state = account.zip(record.zip(metadata));
        let method = "getMultipleAccounts";
        let state = state.ok_or(RemoteError::Nonsense { method })?;
        Ok(Some((state.0, state.1.0, state.1.1)))
    }

    /// Sees to it that L1 admits this rollup: it has lamports for fees, and a vault. `admin` is the
    /// upgrade authority of the delegation program, without which only a vault that stands will do.
    pub(crate) async fn admit(self, admin: Option<Keypair>) {
        while let Err(error) = self.try_admit(admin.as_ref()).await {
            tracing::warn!(%error, "L1 does not admit this rollup yet");
            let failure = error.to_string();
            let note = move |bank: &mut crate::bank::Bank| {
                if let Some(lent) = &mut bank.lent {
                    lent.admission_failure = Some(failure);
                }
            };
            if self.engine.ask(note).await.is_err() {
                return;
            }
            tokio::time::sleep(COMMIT_RETRY).await;
        }
    }

    async fn try_admit(&self, admin: Option<&Keypair>) -> Result<(), RemoteError> {
        let me = self.identity.pubkey();
        let keys = [me, delegation::validator_vault(&me)];
        let found = self.l1.accounts(&keys, Level::Processed).await?;
        let lamports = found[0].as_ref().map_or(0, ReadableAccount::lamports);
        if admin.is_some() && lamports < FLOAT_LAMPORTS {
            self.l1.airdrop(&me, 10 * FLOAT_LAMPORTS).await?;
        }
        if let (None, Some(admin)) = (&found[1], admin) {
            let instruction = delegation::init_validator_vault(me, admin.pubkey(), me);
            let signers = [self.identity.as_ref(), admin];
            self.l1
                .send(&[instruction], &signers, Level::Confirmed)
                .await?;
        }
        self.engine.tell(|bank| {
            if let Some(lent) = &mut bank.lent {
                lent.admission_failure = None;
            }
        });
        Ok(())
    }

    /// Listens to L1 for changes of the copies, and looks at all of them again whenever the
    /// connection had to be made anew.
    pub(crate) async fn watch(self, url: String, mut added: mpsc::UnboundedReceiver<Vec<Address>>) {
        let mut first = true;
        loop {
            let copies = |bank: &mut crate::bank::Bank| {
                bank.lent
                    .as_ref()
                    .map(|lent| lent.copies())
                    .unwrap_or_default()
            };
            let Ok(copies) = self.engine.ask(copies).await else {
                return;
            };
            let connected = tokio_tungstenite::connect_async(url.as_str()).await;
            let failure = connected.as_ref().err();
            let failure = failure.map(|error| format!("L1 at {url} cannot be reached: {error}"));
            self.engine.tell(move |bank| {
                if let Some(lent) = &mut bank.lent {
                    lent.l1_failure = failure;
                }
            });
            if let Ok((socket, _)) = connected {
                if !first {
                    // What failed shows in the state, and the next change is another chance.
                    let _ = self.look_again(&copies).await;
                }
                first = false;
                if self.listen(socket, copies, &mut added).await.is_none() {
                    return;
                }
            }
            tokio::time::sleep(COMMIT_RETRY).await;
        }
    }

    /// Ends with `None` when nobody adds copies any more, because the rollup ended.
    async fn listen<S>(
        &self,
        socket: tokio_tungstenite::WebSocketStream<S>,
        copies: Vec<Address>,
        added: &mut mpsc::UnboundedReceiver<Vec<Address>>,
    ) -> Option<()>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    {
        let (mut sink, mut stream) = socket.split();
        // Requests carry the number of the address; subscriptions are answered with theirs.
        let mut asked: Vec<Address> = Vec::new();
        let mut subscribed: HashMap<u64, Address> = HashMap::new();
        let mut next = copies;
        loop {
            for address in next.drain(..) {
                if asked.contains(&address) {
                    continue;
                }
                let options = json!({ "encoding": "base64", "commitment": "confirmed", "dataSlice": { "offset": 0, "length": 0 } });
                let request = json!({
                    "jsonrpc": "2.0",
                    "id": asked.len(),
                    "method": "accountSubscribe",
                    "params": [address.to_string(), options],
                });
                asked.push(address);
                if sink.send(Message::text(request.to_string())).await.is_err() {
                    return Some(());
                }
            }
            tokio::select! {
                more = added.recv() => next = more?,
                message = stream.next() => match message {
                    Some(Ok(Message::Text(text))) => {
                        let message: Value = serde_json::from_str(text.as_str()).unwrap_or_default();
                        if let (Some(id), Some(number)) = (message["id"].as_u64(), message["result"].as_u64()) {
                            let address = asked.get(id as usize);
                            subscribed.extend(address.map(|address| (number, *address)));
                        }
                        let number = message["params"]["subscription"].as_u64();
                        if let Some(address) = number.and_then(|number| subscribed.get(&number)) {
                            let _ = self.look_again(&[*address]).await;
                        }
                    }
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return Some(()),
                },
            }
        }
    }
}

fn unreachable(error: RemoteError) -> Failure {
    Failure::params(error.to_string())
}
