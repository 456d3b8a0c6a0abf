//! Methods that read accounts.

use serde_json::{Value, json};
use solana_account::{AccountSharedData, ReadableAccount};
use solana_address::Address;

use super::params::{Params, parse};
use super::{Answer, Context, Failure, json as show};
use crate::limits::ACCOUNTS_PER_REQUEST;

/// Accounts, fetched from L1 first where that is needed, and the block as of which they are.
pub(super) async fn read(
    context: &Context,
    addresses: Vec<Address>,
    durable: bool,
) -> Result<(u64, Vec<Option<AccountSharedData>>), Failure> {
    if let Some(lender) = &context.lender {
        lender.fetch_unknown(&addresses).await?;
    }
    let read = move |bank: &mut crate::bank::Bank| {
        let read = |address: &Address| match durable {
            true => bank.durable_account(address),
            false => bank.account(address),
        };
        (bank.slot_at(durable), addresses.iter().map(read).collect())
    };
    Ok(context.engine.ask(read).await?)
}

pub(super) async fn one(context: &Context, params: &mut Params) -> Answer {
    let address = params.base58("address")?;
    let config = params.config()?;
    let view = config.view()?;
    let (slot, accounts) = read(context, vec![address], config.durable()?).await?;
    config.check_slot(slot)?;
    Ok(show::at(slot, show::account(accounts[0].as_ref(), view)?))
}

pub(super) async fn several(context: &Context, params: &mut Params) -> Answer {
    let addresses = params.strings("addresses", ACCOUNTS_PER_REQUEST)?;
    let addresses: Result<Vec<Address>, _> = addresses
        .iter()
        .map(|text| parse(text, "address"))
        .collect();
    let config = params.config()?;
    let mut view = config.view()?;
    if config.text("encoding").is_none() {
        // Unlike for one account, the default of this method is base64.
        view.encoding = super::params::Encoding::Base64;
    }
    let (slot, accounts) = read(context, addresses?, config.durable()?).await?;
    config.check_slot(slot)?;
    let shown = accounts
        .iter()
        .map(|account| show::account(account.as_ref(), view));
    Ok(show::at(
        slot,
        Value::Array(shown.collect::<Result<_, _>>()?),
    ))
}

pub(super) async fn balance(context: &Context, params: &mut Params) -> Answer {
    let address = params.base58("address")?;
    let config = params.config()?;
    let (slot, accounts) = read(context, vec![address], config.durable()?).await?;
    config.check_slot(slot)?;
    let lamports = accounts[0].as_ref().map_or(0, ReadableAccount::lamports);
    Ok(show::at(slot, json!(lamports)))
}

pub(super) async fn of_program(context: &Context, params: &mut Params) -> Answer {
    let program: Address = params.base58("program")?;
    let config = params.config()?;
    let view = config.view()?;
    let filters = config.filters()?;
    let durable = config.durable()?;
    let (slot, mut accounts) = context
        .engine
        .ask(move |bank| {
            (
                bank.slot_at(durable),
                bank.program_accounts(&program, durable),
            )
        })
        .await?;
    config.check_slot(slot)?;
    accounts.retain(|(_, account)| filters.iter().all(|filter| filter.admits(account)));
    accounts.sort_by_key(|(address, _)| *address);
    let shown = accounts.iter().map(|(address, account)| {
        let account = show::account(Some(account), view)?;
        Ok(json!({ "pubkey": address.to_string(), "account": account }))
    });
    let shown = Value::Array(shown.collect::<Result<_, Failure>>()?);
    Ok(if config.flag("withContext") {
        show::at(slot, shown)
    } else {
        shown
    })
}
