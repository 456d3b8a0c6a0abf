//! Transactions: signed, sent, and waited for.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use solana_address::Address;
use solana_hash::Hash;
use solana_instruction::Instruction as Call;
use solana_keypair::Keypair;
use solana_message::Message;
use solana_signature::Signature;
use solana_signer::Signer;
use worldline_abi::Fault;

use crate::limits::{
    BLOCKHASH_AGE, CONFIRM_TIMEOUT, PARALLEL, SIGN_TRIES, STATUS_EVERY, TRANSACTION_BYTES,
};
use crate::rpc::{Patience, Rpc, RpcError, Status};

/// A transaction did not do what it was sent for.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The chain gave no answer that helps.
    #[error(transparent)]
    Rpc(#[from] RpcError),
    /// It does not fit a packet.
    #[error(
        "the transaction is {bytes} bytes, {TRANSACTION_BYTES} fit: send its instructions one by one"
    )]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// A key that must sign it is missing.
    #[error("the transaction needs the signature of {0}: give that keypair")]
    NotSigned(Address),
    /// The chain refused it; nothing changed.
    #[error("the transaction was refused: {0}")]
    Refused(Refusal),
    /// It never landed, with several blockhashes.
    #[error(
        "the transaction did not land within the life of {SIGN_TRIES} blockhashes: the chain is overloaded, try again later"
    )]
    Lost,
}

/// Why a chain refused a transaction.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// The program's own reason, if it was the program that refused.
    pub fault: Option<Fault>,
    /// The error as Solana writes it.
    pub error: Value,
    /// What the programs logged, where the chain showed it.
    pub logs: Vec<String>,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(fault) = self.fault {
            return write!(f, "{fault} ({})", fault.name());
        }
        write!(f, "{}", self.error)?;
        match self.logs.last() {
            Some(line) => write!(f, "; its log ends with `{line}`"),
            None => Ok(()),
        }
    }
}

impl SendError {
    /// The program's own reason, if it was the program that refused.
    pub fn fault(&self) -> Option<Fault> {
        match self {
            Self::Refused(refusal) => refusal.fault,
            _ => None,
        }
    }
}

/// A signed transaction in its wire form.
#[derive(Debug, Clone)]
pub struct Signed {
    /// The first signature: its name.
    pub signature: Signature,
    /// The bytes.
    pub wire: Vec<u8>,
}

/// Signs calls as one transaction, paid by the first of `signers`.
pub fn sign(calls: &[Call], signers: &[&Keypair], blockhash: &Hash) -> Result<Signed, SendError> {
    let payer = signers.first().map(|one| one.pubkey());
    let message = Message::new_with_blockhash(calls, payer.as_ref(), blockhash);
    let bytes = bincode::serialize(&message).expect("a message in memory can be written");
    let count = message.header.num_required_signatures;
    let mut wire = vec![count]; // Below 128, a compact length is its byte.
    let mut first = None;
    for key in &message.account_keys[..count.into()] {
        let signer = signers.iter().find(|one| one.pubkey() == *key);
        let signature = signer
            .ok_or(SendError::NotSigned(*key))?
            .sign_message(&bytes);
        first.get_or_insert(signature);
        wire.extend(signature.as_ref());
    }
    wire.extend(bytes);
    match (first, wire.len()) {
        (_, bytes) if bytes > TRANSACTION_BYTES => Err(SendError::TooLarge { bytes }),
        (Some(signature), _) => Ok(Signed { signature, wire }),
        (None, _) => Err(SendError::NotSigned(Address::default())),
    }
}

/// Reads a refusal: `{"InstructionError":[i,{"Custom":n}]}` of a call to the program is one of its
/// faults, unless a program that it called had failed first.
fn refusal(error: Value, logs: Vec<String>, calls: &[Call], program: &Address) -> Refusal {
    let failed = &error["InstructionError"];
    let index = failed[0].as_u64().unwrap_or(u64::MAX) as usize;
    let ours = calls
        .get(index)
        .is_some_and(|call| call.program_id == *program);
    let name = program.to_string();
    let said = logs.iter().find_map(|line| {
        let (who, _) = line.strip_prefix("Program ")?.split_once(" failed")?;
        Some(who == name)
    });
    let code = failed[1]["Custom"]
        .as_u64()
        .and_then(|code| u32::try_from(code).ok());
    let fault = code
        .filter(|_| ours && said.unwrap_or(true))
        .and_then(Fault::from_code);
    Refusal { fault, error, logs }
}

impl Rpc {
    /// Runs calls as one transaction and waits until it is as final as this client asks for.
    /// `program` is the one whose errors are put into words.
    pub fn transact(
        &self,
        program: &Address,
        calls: &[Call],
        signers: &[&Keypair],
    ) -> Result<Signature, SendError> {
        let refused = |error, logs| SendError::Refused(refusal(error, logs, calls, program));
        for _ in 0..SIGN_TRIES {
            let blockhash = self.blockhash()?;
            let signed = sign(calls, signers, &blockhash)?;
            match self.send(&signed.wire, true) {
                Ok(()) => {}
                Err(error) => match error.preflight() {
                    Some((error, _)) if error == "BlockhashNotFound" => continue,
                    Some((error, logs)) => return Err(refused(error, logs)),
                    None => return Err(error.into()),
                },
            }
            match self.wait_for(&signed.signature, &blockhash)? {
                Some(None) => return Ok(signed.signature),
                Some(Some(error)) => return Err(refused(error, Vec::new())),
                None => {}
            }
        }
        Err(SendError::Lost)
    }

    /// What came of a transaction; `None` when it can no longer land.
    fn wait_for(
        &self,
        signature: &Signature,
        hash: &Hash,
    ) -> Result<Option<Option<Value>>, RpcError> {
        let mut patience = Patience::new(STATUS_EVERY, Duration::from_secs(1));
        let start = Instant::now();
        let mut dead = false;
        loop {
            match self.statuses(&[*signature])?.pop().flatten() {
                Some(status) if status.error.is_some() => return Ok(Some(status.error)),
                Some(status) if status.confirmed => return Ok(Some(None)),
                // Looked at once more after its blockhash had died.
                None if dead => return Ok(None),
                _ => {}
            }
            dead = start.elapsed() > BLOCKHASH_AGE && !self.is_blockhash_valid(hash)?;
            if start.elapsed() > CONFIRM_TIMEOUT {
                return Ok(None);
            }
            patience.wait();
        }
    }

    /// Waits for a transaction that somebody else sent for us, an airdrop.
    pub fn confirm(&self, signature: &Signature) -> Result<(), SendError> {
        let end = Instant::now() + CONFIRM_TIMEOUT;
        let mut patience = Patience::new(STATUS_EVERY, Duration::from_secs(1));
        while Instant::now() < end {
            let status = self.statuses(&[*signature])?.pop().flatten();
            if status.is_some_and(|status| status.confirmed) {
                return Ok(());
            }
            patience.wait();
        }
        Err(SendError::Lost)
    }

    /// Sends many transactions of one signer at once, each made by `make(index)`, and returns when
    /// all have landed or can no longer. What they did is for the caller to look up; an error is one
    /// that no further try would mend.
    pub fn transact_all(
        &self,
        program: &Address,
        count: usize,
        signer: &Keypair,
        make: impl Fn(usize) -> Vec<Call> + Sync,
        landed: impl Fn() + Sync,
    ) -> Result<(), SendError> {
        let recent = Recent::default();
        let next = AtomicUsize::new(0);
        let failure = Mutex::new(None);
        let work = || {
            let mut pending = Vec::new();
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let stop = at >= count || lock(&failure).is_some();
                if stop || pending.len() == PENDING {
                    self.settle(program, &mut pending, &make, &landed)?;
                }
                if stop {
                    return Ok(());
                }
                let hash = self.recent(&recent)?;
                let signed = sign(&make(at), &[signer], &hash)?;
                self.send(&signed.wire, false)?;
                pending.push((at, signed.signature, hash));
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..PARALLEL.min(count) {
                scope.spawn(|| {
                    if let Err(error) = work() {
                        lock(&failure).get_or_insert(error);
                    }
                });
            }
        });
        match lock(&failure).take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Waits for transactions that were sent; a refusal is an error, a lost one is not.
    fn settle(
        &self,
        program: &Address,
        pending: &mut Vec<(usize, Signature, Hash)>,
        make: &(impl Fn(usize) -> Vec<Call> + Sync),
        landed: &(impl Fn() + Sync),
    ) -> Result<(), SendError> {
        let mut patience = Patience::new(STATUS_EVERY, Duration::from_secs(1));
        let start = Instant::now();
        while let Some((_, _, oldest)) = pending.first() {
            let dead = start.elapsed() > BLOCKHASH_AGE && !self.is_blockhash_valid(oldest)?;
            let signatures: Vec<Signature> = pending.iter().map(|one| one.1).collect();
            let statuses = self.statuses(&signatures)?;
            let mut refused = None;
            let mut statuses = statuses.into_iter();
            pending.retain(|(at, ..)| match statuses.next().flatten() {
                Some(Status {
                    error: Some(error), ..
                }) => {
                    refused = Some(refusal(error, Vec::new(), &make(*at), program));
                    false
                }
                Some(Status {
                    confirmed: true, ..
                }) => {
                    landed();
                    false
                }
                _ => true,
            });
            if let Some(refusal) = refused {
                return Err(SendError::Refused(refusal));
            }
            if dead || start.elapsed() > CONFIRM_TIMEOUT {
                pending.clear();
            } else if !pending.is_empty() {
                patience.wait();
            }
        }
        Ok(())
    }

    /// A blockhash that is not old, shared by those who send at the same time.
    pub(crate) fn recent(&self, recent: &Recent) -> Result<Hash, RpcError> {
        let mut recent = lock(recent);
        match *recent {
            Some((hash, since)) if since.elapsed() < BLOCKHASH_AGE => Ok(hash),
            _ => {
                let hash = self.blockhash()?;
                *recent = Some((hash, Instant::now()));
                Ok(hash)
            }
        }
    }
}

/// The newest blockhash and when it was asked for.
pub(crate) type Recent = Mutex<Option<(Hash, Instant)>>;

/// Transactions that one sender has on their way before it looks what became of them.
const PENDING: usize = 64;

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::Program;
    use serde_json::json;
    use solana_instruction::AccountMeta;

    fn call(program: Address, signer: &Keypair, data: usize) -> Call {
        Call {
            program_id: program,
            accounts: vec![AccountMeta::new(signer.pubkey(), true)],
            data: vec![5; data],
        }
    }

    #[test]
    fn the_wire_is_signatures_then_message() {
        let (payer, other) = (Keypair::new(), Keypair::new());
        let calls = [call(Program::default().id, &other, 3)];
        let signed = sign(&calls, &[&payer, &other], &Hash::default()).unwrap();
        let (count, rest) = signed.wire.split_first().unwrap();
        let (signatures, message) = rest.split_at(2 * 64);
        assert_eq!(*count, 2);
        assert_eq!(signatures[..64], *signed.signature.as_ref());
        let valid = |key: &Keypair, at: usize| {
            let signature = Signature::try_from(&signatures[at..at + 64]).unwrap();
            key.sign_message(message) == signature
        };
        assert!(valid(&payer, 0) && valid(&other, 64));
        // Header: two signers, none of them read-only, one read-only program.
        assert_eq!(message[..3], [2, 0, 1]);
        assert_eq!(message[3], 3, "accounts");
    }

    #[test]
    fn what_cannot_be_sent_is_said_before_it_is() {
        let (payer, other) = (Keypair::new(), Keypair::new());
        let hash = Hash::default();
        let missing = sign(&[call(payer.pubkey(), &other, 0)], &[&payer], &hash).unwrap_err();
        assert!(matches!(missing, SendError::NotSigned(key) if key == other.pubkey()));
        let large = sign(&[call(payer.pubkey(), &payer, 1_200)], &[&payer], &hash).unwrap_err();
        assert!(matches!(large, SendError::TooLarge { bytes } if bytes > 1_232));
    }

    #[test]
    fn only_the_programs_own_codes_are_its_faults() {
        let program = Program::default().id;
        let key = Keypair::new();
        let calls = [call(Address::default(), &key, 0), call(program, &key, 0)];
        let custom = |index: usize| json!({ "InstructionError": [index, { "Custom": 14 }] });
        let ours = refusal(custom(1), Vec::new(), &calls, &program);
        assert_eq!(ours.fault, Some(Fault::SessionsLive));
        assert!(ours.to_string().contains("SessionsLive"), "{ours}");
        let theirs = refusal(custom(0), Vec::new(), &calls, &program);
        assert_eq!(theirs.fault, None);
        let below = format!(
            "Program {} failed: custom program error: 0xe",
            Address::default()
        );
        let called = refusal(custom(1), vec![below.clone()], &calls, &program);
        assert_eq!(called.fault, None);
        assert!(called.to_string().contains(&below));
        let other = refusal(json!("AccountNotFound"), Vec::new(), &calls, &program);
        assert_eq!(
            (other.fault, other.to_string()),
            (None, "\"AccountNotFound\"".into())
        );
    }
}
