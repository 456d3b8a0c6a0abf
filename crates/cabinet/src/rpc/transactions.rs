//! Methods that send, simulate and look up transactions.

use std::sync::Arc;

use serde_json::{Value, json};
use solana_address::Address;
use solana_message::{Message, VersionedMessage};
use solana_signature::Signature;
use solana_signer::Signer;
use solana_system_interface::instruction::transfer;
use solana_transaction::versioned::VersionedTransaction;
use solana_transaction_error::TransactionError;

use super::params::{Config, Params, address, message, parse, transaction};
use super::{Answer, Context, Failure, json as show};
use crate::bank::{Bank, Trial};
use crate::history::Landed;
use crate::limits::{ACCOUNTS_PER_REQUEST, AIRDROP_LAMPORTS, KEYS_PER_REQUEST, SIGNATURES_LISTED};

/// Checks what needs no bank, here and not on its thread: shape and signatures.
fn check(transaction: &VersionedTransaction) -> Result<(), Failure> {
    transaction
        .sanitize()
        .map_err(|error| Failure::params(format!("invalid transaction: {error}")))?;
    if transaction.verify_with_results().iter().all(|valid| *valid) {
        Ok(())
    } else {
        let message = "Transaction signature verification failure";
        Err(Failure::new(Failure::SIGNATURE, message))
    }
}

/// On a rollup, fetches what the transaction names and is not there, and looks again at accounts
/// that it writes to and that were not lent when last seen.
async fn prepare(context: &Context, transaction: &VersionedTransaction) -> Result<(), Failure> {
    let Some(lender) = &context.lender else {
        return Ok(());
    };
    let message = &transaction.message;
    if message
        .address_table_lookups()
        .is_some_and(|lookups| !lookups.is_empty())
    {
        // Their entries become valid by the block numbers of L1, which are not ours.
        let message = "a rollup takes no address lookup tables: name the accounts themselves";
        return Err(Failure::params(message));
    }
    let Some((payer, keys)) = message.static_account_keys().split_first() else {
        return Ok(());
    };
    let written = (1..)
        .zip(keys)
        .filter(|(index, _)| show::is_writable(message, *index));
    let written: Vec<Address> = written.map(|(_, key)| *key).collect();
    lender.fetch_for(payer, keys, &written).await
}

fn simulation(landed: &Landed) -> Value {
    json!({
        "err": show::error(landed.error.as_ref()),
        "logs": landed.logs,
        "unitsConsumed": landed.units,
        "returnData": show::returned(landed),
    })
}

fn refused(landed: &Landed) -> Failure {
    let mut text = landed
        .error
        .as_ref()
        .map_or("it failed".to_owned(), ToString::to_string);
    if let Some(reason) = landed
        .logs
        .last()
        .filter(|line| line.starts_with("Rollup: "))
    {
        text = format!("{text} ({reason})");
    }
    let message = format!("Transaction simulation failed: {text}");
    let mut failure = Failure::new(Failure::PREFLIGHT, message);
    failure.data = simulation(landed);
    failure.data["accounts"] = Value::Null;
    failure
}

pub(super) async fn send(context: &Context, params: &mut Params) -> Answer {
    let text = params.string("transaction")?;
    let config = params.config()?;
    let transaction = transaction(&text, &config)?;
    check(&transaction)?;
    prepare(context, &transaction).await?;
    let preflight = !config.flag("skipPreflight");
    execute(context, transaction, preflight).await
}

/// Executes at once: there is no queue in which a transaction could wait for a leader.
async fn execute(context: &Context, transaction: VersionedTransaction, preflight: bool) -> Answer {
    let signature = transaction.signatures.first().copied().unwrap_or_default();
    let run = move |bank: &mut Bank| bank.execute(&transaction, preflight);
    match context.engine.ask(run).await? {
        Ok(_) => {}
        // A client that sends again what has landed is told its signature, as everywhere.
        Err(trial) if trial.landed.error == Some(TransactionError::AlreadyProcessed) => {}
        Err(trial) => return Err(refused(&trial.landed)),
    }
    Ok(json!(signature.to_string()))
}

pub(super) async fn simulate(context: &Context, params: &mut Params) -> Answer {
    let text = params.string("transaction")?;
    let config = params.config()?;
    let transaction = transaction(&text, &config)?;
    let replace = config.flag("replaceRecentBlockhash");
    if config.flag("sigVerify") {
        if replace {
            return Err(Failure::params(
                "sigVerify may not be used with replaceRecentBlockhash",
            ));
        }
        check(&transaction)?;
    }
    transaction
        .sanitize()
        .map_err(|error| Failure::params(format!("invalid transaction: {error}")))?;
    prepare(context, &transaction).await?;
    let (slot, trial, replacement) = context
        .engine
        .ask(move |bank| {
            let recent = bank
                .hashes
                .is_recent(transaction.message.recent_blockhash());
            let trial = match recent || replace {
                true => bank.try_out(&transaction),
                false => bank.untried(&transaction, TransactionError::BlockhashNotFound),
            };
            let replacement = (bank.hashes.latest(), bank.hashes.last_valid_height());
            (bank.slot, trial, replace.then_some(replacement))
        })
        .await?;
    let mut shown = simulation(&trial.landed);
    shown["accounts"] = simulated_accounts(&trial, &config)?;
    shown["fee"] = json!(trial.landed.fee);
    shown["loadedAccountsDataSize"] = Value::Null;
    if let Some((hash, height)) = replacement {
        shown["replacementBlockhash"] =
            json!({ "blockhash": hash.to_string(), "lastValidBlockHeight": height });
    }
    Ok(show::at(slot, shown))
}

/// The accounts that the client wants to see as the transaction would leave them.
fn simulated_accounts(trial: &Trial, config: &Config) -> Result<Value, Failure> {
    let Some(wanted) = config
        .get("accounts")
        .and_then(|accounts| accounts.get("addresses"))
    else {
        return Ok(Value::Null);
    };
    let wanted = wanted
        .as_array()
        .filter(|wanted| wanted.len() <= ACCOUNTS_PER_REQUEST);
    let wanted = wanted.ok_or_else(|| {
        Failure::params(format!(
            "accounts.addresses is an array of at most {ACCOUNTS_PER_REQUEST}"
        ))
    })?;
    let view = super::params::View {
        encoding: super::params::Encoding::Base64,
        slice: None,
    };
    let show = |wanted: &Value| {
        let wanted = address(wanted, "address")?;
        let found = trial.after.iter().find(|(address, _)| *address == wanted);
        show::account(found.map(|(_, account)| account), view)
    };
    Ok(Value::Array(
        wanted.iter().map(show).collect::<Result<_, _>>()?,
    ))
}

pub(super) async fn fee(context: &Context, params: &mut Params) -> Answer {
    let transaction = message(&params.string("message")?)?;
    let config = params.config()?;
    let durable = config.durable()?;
    let (slot, fee) = context
        .engine
        .ask(move |bank| {
            let recent = bank
                .hashes
                .is_recent(transaction.message.recent_blockhash());
            (
                bank.slot_at(durable),
                recent.then(|| bank.fee(&transaction)),
            )
        })
        .await?;
    config.check_slot(slot)?;
    Ok(show::at(slot, json!(fee)))
}

/// Whether a transaction is durable, as of now.
async fn durable_slot(context: &Context) -> Result<u64, Failure> {
    Ok(context.engine.ask(|bank| bank.durable_now()).await?)
}

fn find(context: &Context, signature: &Signature) -> Option<Arc<Landed>> {
    context.engine.history().read().ok()?.get(signature)
}

fn confirmation(landed: &Landed, durable: u64) -> &'static str {
    if landed.slot <= durable {
        "finalized"
    } else {
        "processed"
    }
}

pub(super) async fn statuses(context: &Context, params: &mut Params) -> Answer {
    let signatures = params.strings("signatures", KEYS_PER_REQUEST)?;
    let durable = durable_slot(context).await?;
    let status = |text: &String| {
        let signature = parse(text, "signature")?;
        Ok(find(context, &signature).map_or(Value::Null, |landed| {
            json!({
                "slot": landed.slot,
                "confirmations": if landed.slot <= durable { Value::Null } else { json!(0) },
                "err": show::error(landed.error.as_ref()),
                "status": show::status(&landed),
                "confirmationStatus": confirmation(&landed, durable),
            })
        }))
    };
    let shown: Result<Vec<Value>, Failure> = signatures.iter().map(status).collect();
    Ok(show::at(durable, Value::Array(shown?)))
}

pub(super) async fn get(context: &Context, params: &mut Params) -> Answer {
    let signature = params.base58("signature")?;
    let config = params.config()?;
    let durable = durable_slot(context).await?;
    let landed = find(context, &signature).filter(|landed| landed.slot <= durable);
    let Some(landed) = landed else {
        return Ok(Value::Null);
    };
    let version = show::version(&landed);
    if version != json!("legacy") && config.number("maxSupportedTransactionVersion").is_none() {
        return Err(Failure::new(
            -32015,
            "Transaction version (0) is not supported by the requesting client. Please try the request again with the following configuration parameter: \"maxSupportedTransactionVersion\": 0",
        ));
    }
    let encoding = config.text("encoding").unwrap_or("json");
    let mut shown = json!({
        "slot": landed.slot,
        "blockTime": landed.unix_time,
        "meta": show::meta(&landed),
        "transaction": show::transaction(&landed, encoding)?,
    });
    if config.get("maxSupportedTransactionVersion").is_some() {
        shown["version"] = version;
    }
    Ok(shown)
}

pub(super) async fn of_address(context: &Context, params: &mut Params) -> Answer {
    let address: Address = params.base58("address")?;
    let config = params.config()?;
    let signature = |name: &str| config.text(name).map(|text| parse(text, name)).transpose();
    let (before, until) = (signature("before")?, signature("until")?);
    let limit = config.number("limit").unwrap_or(SIGNATURES_LISTED as u64) as usize;
    if !(1..=SIGNATURES_LISTED).contains(&limit) {
        return Err(Failure::params(format!(
            "Invalid limit; max {SIGNATURES_LISTED}"
        )));
    }
    let durable = durable_slot(context).await?;
    let found = context
        .engine
        .history()
        .read()
        .map(|history| history.of(&address, before, until, limit));
    let found = found.unwrap_or_default();
    let shown = found
        .iter()
        .filter(|landed| landed.slot <= durable)
        .map(|landed| {
            json!({
                "signature": landed.signature().to_string(),
                "slot": landed.slot,
                "err": show::error(landed.error.as_ref()),
                "memo": null,
                "blockTime": landed.unix_time,
                "confirmationStatus": confirmation(landed, durable),
            })
        });
    Ok(shown.collect())
}

/// A transfer from the faucet, like any other.
pub(super) async fn airdrop(context: &Context, params: &mut Params) -> Answer {
    let Some(faucet) = context.faucet.clone() else {
        return Err(Failure::new(
            Failure::METHOD,
            "Method not found: only the box gives airdrops; ask L1",
        ));
    };
    let to: Address = params.base58("address")?;
    let lamports = params.u64("lamports")?;
    if !(1..=AIRDROP_LAMPORTS).contains(&lamports) {
        return Err(Failure::params(format!(
            "an airdrop gives 1 to {AIRDROP_LAMPORTS} lamports, not {lamports}"
        )));
    }
    let build = move |bank: &mut Bank| {
        // Two equal airdrops in one block must be two transactions: a memo tells them apart.
        let from = faucet.pubkey();
        let memo = solana_instruction::Instruction {
            program_id: MEMO,
            accounts: Vec::new(),
            data: format!("airdrop {}", bank.transactions).into_bytes(),
        };
        let instructions = [transfer(&from, &to, lamports), memo];
        let hash = bank.hashes.latest();
        let message = Message::new_with_blockhash(&instructions, Some(&from), &hash);
        VersionedTransaction::try_new(VersionedMessage::Legacy(message), &[faucet.as_ref()])
    };
    let transaction = context.engine.ask(build).await?;
    let transaction =
        transaction.map_err(|error| Failure::new(Failure::INTERNAL, error.to_string()))?;
    execute(context, transaction, true).await
}

/// Solana's memo program, which writes text into a transaction.
const MEMO: Address = Address::from_str_const("MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr");
