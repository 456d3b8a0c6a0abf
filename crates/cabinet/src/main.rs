//! `worldline-cabinet`: one chain, in the foreground.
//!
//! ```text
//! worldline-cabinet l1 --ledger DIR [--listen ADDRESS:PORT] [--delegation-program FILE] [--program ADDRESS=FILE]… [--account FILE]… [--journal-bytes N]
//! worldline-cabinet rollup --ledger DIR --l1 URL [--l1-ws URL] [--listen ADDRESS:PORT] [--admin FILE]
//! ```
//!
//! A chain prints one line of JSON with its URLs when it answers, and ends when its standard input does,
//! or is told to. `worldline chain up` starts both chains at once, with everything that play needs.

use std::io::Read;

use serde_json::json;
use solana_keypair::read_keypair_file;
use worldline_cabinet::fault::Fault;
use worldline_cabinet::{L1, L1Config, Rollup, RollupConfig};

const USAGE: &str = "\
worldline-cabinet l1 --ledger DIR [--listen ADDRESS:PORT] [--delegation-program FILE] [--program ADDRESS=FILE]… [--account FILE]… [--journal-bytes N]
worldline-cabinet rollup --ledger DIR --l1 URL [--l1-ws URL] [--listen ADDRESS:PORT] [--admin FILE]";

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let result = match arguments.next().as_deref() {
        Some("l1") => l1(arguments).await,
        Some("rollup") => rollup(arguments).await,
        _ => Err(USAGE.into()),
    };
    if let Err(error) = result {
        eprintln!("{error}");
        std::process::exit(1);
    }
}

async fn l1(arguments: impl Iterator<Item = String>) -> Outcome {
    let mut config = L1Config::new("");
    each(arguments, |option, value| {
        match option {
            "--ledger" => config.ledger = value.into(),
            "--listen" => config.listen = value.parse()?,
            "--delegation-program" => config.delegation_program = Some(value.into()),
            "--program" => {
                let (address, file) = value.split_once('=').ok_or(USAGE)?;
                config.programs.push((address.parse()?, file.into()));
            }
            "--journal-bytes" => config.journal_bytes = value.parse()?,
            "--account" => config.accounts.push(value.into()),
            _ => return Err(USAGE.into()),
        }
        Ok(())
    })?;
    config.fault = fault()?;
    let l1 = L1::start(config).await?;
    println!("{}", json!({ "rpc": l1.rpc_url(), "ws": l1.ws_url() }));
    wait().await;
    l1.stop();
    Ok(())
}

async fn rollup(arguments: impl Iterator<Item = String>) -> Outcome {
    let mut config = RollupConfig::new("", "");
    each(arguments, |option, value| {
        match option {
            "--ledger" => config.ledger = value.into(),
            "--listen" => config.listen = value.parse()?,
            "--l1" => config.l1 = value.into(),
            "--l1-ws" => config.l1_ws = Some(value.into()),
            "--admin" => config.admin = Some(read_keypair_file(value)?),
            _ => return Err(USAGE.into()),
        }
        Ok(())
    })?;
    config.fault = fault()?;
    let rollup = Rollup::start(config).await?;
    let identity = rollup.identity().to_string();
    println!(
        "{}",
        json!({ "rpc": rollup.rpc_url(), "ws": rollup.ws_url(), "identity": identity })
    );
    wait().await;
    rollup.stop();
    Ok(())
}

/// Reads pairs of options and values.
fn each(
    mut arguments: impl Iterator<Item = String>,
    mut take: impl FnMut(&str, &str) -> Outcome,
) -> Outcome {
    while let Some(option) = arguments.next() {
        let value = arguments.next().ok_or(USAGE)?;
        take(&option, &value)?;
    }
    Ok(())
}

fn fault() -> Outcome<Fault> {
    match std::env::var("WORLDLINE_FAULT") {
        Ok(name) => Ok(Fault::parse(&name)?),
        Err(_) => Ok(Fault::default()),
    }
}

/// Until standard input ends, or an interrupt comes.
async fn wait() {
    let input = tokio::task::spawn_blocking(|| {
        let mut nothing = [0; 64];
        while std::io::stdin()
            .read(&mut nothing)
            .is_ok_and(|bytes| bytes > 0)
        {}
    });
    tokio::select! {
        _ = input => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}
