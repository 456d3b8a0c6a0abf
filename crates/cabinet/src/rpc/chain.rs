//! Methods about the chain as a whole.

use serde_json::{Value, json};
use solana_hash::Hash;

use super::params::Params;
use super::{Answer, Context, Failure, json as show};

/// The release of Solana's runtime inside, which decides what programs may do.
pub(super) const API_VERSION: &str = "4.2.2";
/// Blocks in an epoch, as on Solana.
const SLOTS_PER_EPOCH: u64 = 432_000;

pub(super) async fn health(context: &Context) -> Answer {
    match context.engine.ask(|bank| bank.ledger.failure()).await? {
        None => Ok(json!("ok")),
        Some(failure) => {
            let message = format!("the ledger cannot be written: {failure}");
            Err(Failure::new(Failure::UNHEALTHY, message))
        }
    }
}

pub(super) fn version() -> Value {
    let ours = env!("CARGO_PKG_VERSION");
    json!({ "solana-core": API_VERSION, "feature-set": 0, "worldline-cabinet": ours })
}

pub(super) async fn slot(context: &Context, params: &mut Params) -> Answer {
    let config = params.config()?;
    let durable = config.durable()?;
    let slot = context
        .engine
        .ask(move |bank| bank.slot_at(durable))
        .await?;
    config.check_slot(slot)?;
    Ok(json!(slot))
}

pub(super) async fn epoch_info(context: &Context, params: &mut Params) -> Answer {
    let config = params.config()?;
    let durable = config.durable()?;
    let (slot, count) = context
        .engine
        .ask(move |bank| (bank.slot_at(durable), bank.transactions))
        .await?;
    config.check_slot(slot)?;
    Ok(json!({
        "absoluteSlot": slot,
        "blockHeight": slot,
        "epoch": slot / SLOTS_PER_EPOCH,
        "slotIndex": slot % SLOTS_PER_EPOCH,
        "slotsInEpoch": SLOTS_PER_EPOCH,
        "transactionCount": count,
    }))
}

pub(super) async fn transaction_count(context: &Context) -> Answer {
    Ok(json!(context.engine.ask(|bank| bank.transactions).await?))
}

pub(super) async fn latest_blockhash(context: &Context, params: &mut Params) -> Answer {
    let config = params.config()?;
    let durable = config.durable()?;
    let (slot, hash, height) = context
        .engine
        .ask(move |bank| {
            let hashes = &bank.hashes;
            (
                bank.slot_at(durable),
                hashes.latest(),
                hashes.last_valid_height(),
            )
        })
        .await?;
    config.check_slot(slot)?;
    let value = json!({ "blockhash": hash.to_string(), "lastValidBlockHeight": height });
    Ok(show::at(slot, value))
}

pub(super) async fn is_blockhash_valid(context: &Context, params: &mut Params) -> Answer {
    let hash: Hash = params.base58("blockhash")?;
    let config = params.config()?;
    let durable = config.durable()?;
    let (slot, valid) = context
        .engine
        .ask(move |bank| (bank.slot_at(durable), bank.hashes.is_recent(&hash)))
        .await?;
    config.check_slot(slot)?;
    Ok(show::at(slot, json!(valid)))
}

pub(super) async fn rent(context: &Context, params: &mut Params) -> Answer {
    let size = params.u64("the data's length")? as usize;
    let rent = context
        .engine
        .ask(move |bank| bank.svm.minimum_balance_for_rent_exemption(size))
        .await?;
    Ok(json!(rent))
}

/// Ours: how a rollup stands with L1, its delegations, its commits and its tasks.
pub(super) async fn rollup_state(context: &Context) -> Answer {
    let state = context
        .engine
        .ask(|bank| bank.lent.as_ref().map(crate::lent::Lent::describe))
        .await?;
    state.ok_or_else(|| Failure::new(Failure::METHOD, "Method not found: this is no rollup"))
}
