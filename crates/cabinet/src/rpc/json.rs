//! Accounts and transactions as Solana's RPC shows them.

use std::collections::HashSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use solana_account::{AccountSharedData, ReadableAccount};
use solana_address::Address;
use solana_message::VersionedMessage;
use solana_message::compiled_instruction::CompiledInstruction;
use solana_transaction_error::TransactionError;

use super::Failure;
use super::params::{Encoding, View};
use crate::history::Landed;

/// Longest data that is shown in base58, which takes quadratic time.
const BASE58_BYTES: usize = 128;

/// An answer as of a block.
pub(super) fn at(slot: u64, value: Value) -> Value {
    json!({ "context": { "apiVersion": super::chain::API_VERSION, "slot": slot }, "value": value })
}

/// An account, or null for one that does not exist.
pub(super) fn account(account: Option<&AccountSharedData>, view: View) -> Result<Value, Failure> {
    let Some(account) = account.filter(|account| account.lamports() > 0) else {
        return Ok(Value::Null);
    };
    let mut data = account.data();
    if let Some((offset, length)) = view.slice {
        let start = offset.min(data.len());
        let end = offset.saturating_add(length).min(data.len());
        data = &data[start..end];
    }
    if matches!(view.encoding, Encoding::Legacy | Encoding::Base58) && data.len() > BASE58_BYTES {
        return Err(Failure::new(
            Failure::REQUEST,
            format!(
                "Encoded binary (base 58) data should be less than {BASE58_BYTES} bytes, please use Base64 encoding."
            ),
        ));
    }
    let data = match view.encoding {
        Encoding::Legacy => json!(bs58::encode(data).into_string()),
        Encoding::Base58 => json!([bs58::encode(data).into_string(), "base58"]),
        Encoding::Base64 => json!([STANDARD.encode(data), "base64"]),
        Encoding::Base64Zstd => {
            let packed = zstd::encode_all(data, 0)
                .map_err(|error| Failure::new(Failure::INTERNAL, error.to_string()))?;
            json!([STANDARD.encode(packed), "base64+zstd"])
        }
    };
    Ok(json!({
        "data": data,
        "executable": account.executable(),
        "lamports": account.lamports(),
        "owner": account.owner().to_string(),
        "rentEpoch": account.rent_epoch(),
        "space": account.data().len(),
    }))
}

/// `null`, or what Solana's clients read as a transaction error.
pub(super) fn error(error: Option<&TransactionError>) -> Value {
    error.map_or(Value::Null, |error| json!(error))
}

/// What came of a transaction: `{"Ok": null}` or `{"Err": …}`.
pub(super) fn status(landed: &Landed) -> Value {
    match &landed.error {
        None => json!({ "Ok": null }),
        Some(error) => json!({ "Err": error }),
    }
}

/// Everything about a transaction that is not in it.
pub(super) fn meta(landed: &Landed) -> Value {
    let keys = &landed.keys;
    let (writable, readonly) = landed.loaded;
    let first_readonly = keys.len() - readonly;
    let text = |keys: &[Address]| keys.iter().map(ToString::to_string).collect::<Vec<_>>();
    let balances =
        |which: fn(&(u64, u64)) -> u64| landed.balances.iter().map(which).collect::<Vec<_>>();
    let inner = landed
        .inner
        .iter()
        .enumerate()
        .filter(|(_, calls)| !calls.is_empty());
    let inner = inner.map(|(index, calls)| {
        let calls = calls
            .iter()
            .map(|call| instruction(&call.instruction, json!(call.stack_height)));
        json!({ "index": index, "instructions": calls.collect::<Vec<_>>() })
    });
    let mut meta = json!({
        "err": error(landed.error.as_ref()),
        "status": status(landed),
        "fee": landed.fee,
        "preBalances": balances(|balance| balance.0),
        "postBalances": balances(|balance| balance.1),
        "preTokenBalances": [],
        "postTokenBalances": [],
        "rewards": [],
        "logMessages": landed.logs,
        "innerInstructions": inner.collect::<Vec<_>>(),
        "loadedAddresses": {
            "writable": text(&keys[first_readonly - writable..first_readonly]),
            "readonly": text(&keys[first_readonly..]),
        },
        "computeUnitsConsumed": landed.units,
        "costUnits": landed.units,
    });
    if landed.returned.is_some() {
        meta["returnData"] = returned(landed);
    }
    meta
}

/// What a program returned, or null.
pub(super) fn returned(landed: &Landed) -> Value {
    landed.returned.as_ref().map_or(Value::Null, |(program, data)| {
        json!({ "programId": program.to_string(), "data": [STANDARD.encode(data), "base64"] })
    })
}

fn instruction(instruction: &CompiledInstruction, height: Value) -> Value {
    json!({
        "programIdIndex": instruction.program_id_index,
        "accounts": instruction.accounts,
        "data": bs58::encode(&instruction.data).into_string(),
        "stackHeight": height,
    })
}

/// `"legacy"`, or the version's number.
pub(super) fn version(landed: &Landed) -> Value {
    match landed.transaction.message {
        VersionedMessage::Legacy(_) => json!("legacy"),
        VersionedMessage::V0(_) => json!(0),
        VersionedMessage::V1(_) => json!(1),
    }
}

/// A transaction in the encoding asked for.
pub(super) fn transaction(landed: &Landed, encoding: &str) -> Result<Value, Failure> {
    let bytes = || {
        bincode::serialize(&landed.transaction)
            .map_err(|error| Failure::new(Failure::INTERNAL, error.to_string()))
    };
    match encoding {
        "base64" => Ok(json!([STANDARD.encode(bytes()?), "base64"])),
        "base58" => Ok(json!([bs58::encode(bytes()?).into_string(), "base58"])),
        "json" => Ok(raw(landed)),
        "jsonParsed" => Ok(partly_decoded(landed)),
        other => Err(Failure::params(format!(
            "Invalid params: unknown encoding `{other}`"
        ))),
    }
}

fn raw(landed: &Landed) -> Value {
    let message = &landed.transaction.message;
    let header = message.header();
    let keys = message
        .static_account_keys()
        .iter()
        .map(ToString::to_string);
    let instructions = message
        .instructions()
        .iter()
        .map(|one| instruction(one, json!(1)));
    let mut shown = json!({
        "accountKeys": keys.collect::<Vec<_>>(),
        "header": {
            "numRequiredSignatures": header.num_required_signatures,
            "numReadonlySignedAccounts": header.num_readonly_signed_accounts,
            "numReadonlyUnsignedAccounts": header.num_readonly_unsigned_accounts,
        },
        "instructions": instructions.collect::<Vec<_>>(),
        "recentBlockhash": message.recent_blockhash().to_string(),
    });
    if let Some(lookups) = message.address_table_lookups() {
        let lookups = lookups.iter().map(|lookup| {
            json!({
                "accountKey": lookup.account_key.to_string(),
                "writableIndexes": lookup.writable_indexes,
                "readonlyIndexes": lookup.readonly_indexes,
            })
        });
        shown["addressTableLookups"] = lookups.collect();
    }
    json!({ "message": shown, "signatures": signatures(landed) })
}

/// The form that clients get for instructions that nobody can parse.
fn partly_decoded(landed: &Landed) -> Value {
    let message = &landed.transaction.message;
    let keys = &landed.keys;
    let own = message.static_account_keys().len();
    let shown_keys = keys.iter().enumerate().map(|(index, key)| {
        let writable = if index < own {
            is_writable(message, index)
        } else {
            index < own + landed.loaded.0
        };
        json!({
            "pubkey": key.to_string(),
            "signer": message.is_signer(index),
            "writable": writable,
            "source": if index < own { "transaction" } else { "lookupTable" },
        })
    });
    let name = |index: u8| keys.get(usize::from(index)).map(ToString::to_string);
    let instructions = message.instructions().iter().map(|one| {
        json!({
            "programId": name(one.program_id_index),
            "accounts": one.accounts.iter().map(|index| name(*index)).collect::<Vec<_>>(),
            "data": bs58::encode(&one.data).into_string(),
            "stackHeight": 1,
        })
    });
    json!({
        "message": {
            "accountKeys": shown_keys.collect::<Vec<_>>(),
            "instructions": instructions.collect::<Vec<_>>(),
            "recentBlockhash": message.recent_blockhash().to_string(),
        },
        "signatures": signatures(landed),
    })
}

/// Whether a message says that it writes to an account.
pub(super) fn is_writable(message: &VersionedMessage, index: usize) -> bool {
    message.is_maybe_writable_with_reserved_addresses(index, None::<&HashSet<Address>>)
}

fn signatures(landed: &Landed) -> Vec<String> {
    landed
        .transaction
        .signatures
        .iter()
        .map(ToString::to_string)
        .collect()
}
