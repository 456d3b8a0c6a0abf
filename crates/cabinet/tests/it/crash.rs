//! `kill -9` at the worst moments: nothing that was confirmed is lost, nothing runs twice, no
//! lamport is made or lost, and whatever was lent can be played on or given back.

use std::path::Path;

use serde_json::json;
use solana_keypair::Keypair;
use solana_signer::Signer;
use solana_system_interface::instruction::transfer;
use solana_transaction::versioned::VersionedTransaction;
use worldline_cabinet::{L1, L1Config, fault, limits::FAUCET_LAMPORTS};

use crate::client::{Client, SOL, until};
use crate::counter::count;
use crate::process::Process;
use crate::rollup::Both;

/// Lamports of all accounts in a ledger.
fn total(ledger: &Path) -> u128 {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let l1 = L1::start(L1Config::new(ledger)).await.unwrap();
        let total = l1.total_lamports().await.unwrap();
        l1.stop();
        total
    })
}

/// Sends one SOL to new accounts until the box is gone. Returns what was sent, and how many of the
/// first of them were seen confirmed.
fn pay_until_dead(
    client: &Client,
    payer: &Keypair,
    l1: &mut Process,
) -> (Vec<VersionedTransaction>, usize) {
    let (mut sent, mut confirmed) = (Vec::new(), 0);
    while !l1.has_ended() {
        let to = Keypair::new().pubkey();
        let Ok(transaction) = client.sign(&[transfer(&payer.pubkey(), &to, SOL)], &[payer]) else {
            continue;
        };
        sent.push(transaction.clone());
        if client.send_signed(&transaction).is_err() {
            continue;
        }
        let last = sent[confirmed].signatures[0].to_string();
        if client.is_final(&last) == Ok(true) {
            confirmed += 1;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    (sent, confirmed)
}

#[test]
fn the_box_survives_every_fault_of_its_ledger() {
    for fault in [
        // The fourth record is amid the payments; the first journal is folded there, too.
        (fault::LEDGER_TORN, 4),
        (fault::LEDGER_APPENDED, 4),
        (fault::LEDGER_SYNCED, 4),
        (fault::SNAPSHOT_WRITTEN, 1),
        (fault::SNAPSHOT_RENAMED, 1),
    ] {
        let (name, passage) = fault;
        let folder = tempfile::tempdir().unwrap();
        let mut l1 = Process::l1(
            folder.path(),
            "127.0.0.1:0",
            Some(&format!("{name}:{passage}")),
        );
        let client = l1.client();
        let payer = client.rich(10_000 * SOL);
        let (sent, confirmed) = pay_until_dead(&client, &payer, &mut l1);
        assert!(
            l1.last_words()
                .contains(&format!("{} {name}", fault::NOTICE))
        );
        assert!(!sent.is_empty());

        let l1 = Process::l1(folder.path(), "127.0.0.1:0", None);
        let client = l1.client();
        let landed = |transaction: &VersionedTransaction| {
            let to = transaction.message.static_account_keys()[1];
            client.lamports(&to) == SOL
        };
        assert!(
            sent[..confirmed].iter().all(landed),
            "{name}: confirmed payments are gone"
        );
        // Whoever sends again pays once.
        for transaction in &sent {
            let before = landed(transaction);
            let again = client.send_signed(transaction);
            assert!(
                landed(transaction) || (!before && again.is_err()),
                "{name}: {again:?}"
            );
            let to = transaction.message.static_account_keys()[1];
            assert!(client.lamports(&to) <= SOL, "{name}: paid twice");
        }
        drop(l1);
        assert_eq!(total(folder.path()), u128::from(FAUCET_LAMPORTS), "{name}");
    }
}

#[test]
fn a_killed_box_is_whole_and_its_clock_does_not_go_back() {
    let folder = tempfile::tempdir().unwrap();
    let l1 = Process::l1(folder.path(), "127.0.0.1:0", None);
    let client = l1.client();
    let payer = client.rich(5 * SOL);
    let slot = |client: &Client| {
        client
            .call("getSlot", json!([{ "commitment": "processed" }]))
            .unwrap()
            .as_u64()
            .unwrap()
    };
    let (before, genesis) = (slot(&client), client.call("getGenesisHash", json!([])));
    l1.kill();
    let l1 = Process::l1(folder.path(), "127.0.0.1:0", None);
    let client = l1.client();
    assert!(slot(&client) >= before);
    assert_eq!(client.call("getGenesisHash", json!([])), genesis);
    assert_eq!(client.lamports(&payer.pubkey()), 5 * SOL);
}

#[test]
fn a_match_goes_on_after_the_rollup_is_killed() {
    let mut both = Both::start(None);
    let (player, counter) = both.lent(64);
    both.here
        .send(&[counter.schedule(16, 1_000_000)], &[&player])
        .unwrap();
    let now = |both: &Both| count(&both.here.account(&counter.address).unwrap().1);
    until("two seconds of play", || now(&both) > 120);
    let before = now(&both);
    both.rollup.take().unwrap().kill();
    both.start_rollup(None);
    let after = now(&both);
    assert!(
        after + 90 >= before,
        "{before} then {after}: more than 1.5 s were lost"
    );
    until("play to go on", || now(&both) > before + 60);
    both.here.send(&[counter.give_back()], &[&player]).unwrap();
    assert!(count(&both.settled(&counter)) > before);
}

#[test]
fn a_rollup_that_starts_without_l1_plays_on() {
    let mut both = Both::start(None);
    let (player, counter) = both.lent(64);
    both.here
        .send(&[counter.schedule(16, 1_000_000)], &[&player])
        .unwrap();
    let now = |both: &Both| count(&both.here.account(&counter.address).unwrap().1);
    until("two seconds of play", || now(&both) > 120);
    both.rollup.take().unwrap().kill();
    both.l1.take().unwrap().kill();
    both.start_rollup(None);
    let before = now(&both);
    until("play to go on", || now(&both) > before + 60);
    assert_eq!(both.here.state()["l1"]["reachable"], false);
    both.start_l1();
    both.here.send(&[counter.give_back()], &[&player]).unwrap();
    assert!(count(&both.settled(&counter)) > before);
}

#[test]
fn a_commit_is_finished_whenever_the_rollup_dies() {
    for name in [fault::COMMIT_LANDED, fault::UNDELEGATE_LANDED] {
        let mut both = Both::start(Some(name));
        let (player, counter) = both.lent(4_000);
        let give_back = [counter.add(5), counter.fill(7), counter.give_back()];
        // It may die before it has answered.
        let _ = both.here.send(&give_back, &[&player]);
        let words = both.rollup.take().unwrap().last_words();
        assert!(
            words.contains(&format!("{} {name}", fault::NOTICE)),
            "{words}"
        );
        both.start_rollup(None);
        let data = both.settled(&counter);
        assert_eq!((count(&data), data[3_999]), (5, 7), "{name}");
        until("the rollup to know", || {
            both.here.state()["commits"] == json!([])
        });
        both.rollup.take();
        both.l1.take();
        assert_eq!(
            total(&both.l1_ledger()),
            u128::from(FAUCET_LAMPORTS),
            "{name}"
        );
    }
}
