//! A rollup over a box, with MagicBlock's delegation program between them.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use solana_address::Address;
use solana_keypair::Keypair;
use solana_signer::Signer;
use solana_system_interface::instruction::transfer;
use tempfile::TempDir;
use worldline_cabinet::limits::CRANK_BEHIND;

use crate::client::{Client, SOL, until};
use crate::counter::{Counter, NEVER, PROGRAM, count};
use crate::process::Process;

pub(crate) struct Both {
    folder: TempDir,
    pub(crate) l1: Option<Process>,
    pub(crate) rollup: Option<Process>,
    pub(crate) on_l1: Client,
    pub(crate) here: Client,
    pub(crate) identity: Address,
    l1_at: String,
}

impl Both {
    pub(crate) fn start(fault: Option<&str>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let l1 = Process::l1(&folder.path().join("l1"), "127.0.0.1:0", None);
        let paths = (folder.path().join("rollup"), folder.path().join("l1"));
        let rollup = Process::rollup(&paths.0, l1.url(), &paths.1, fault);
        let both = Self {
            on_l1: l1.client(),
            here: rollup.client(),
            identity: rollup.info["identity"].as_str().unwrap().parse().unwrap(),
            l1_at: l1.listen().into(),
            folder,
            l1: Some(l1),
            rollup: Some(rollup),
        };
        let vault = worldline_cabinet::validator_vault(&both.identity);
        until("the rollup's admission", || {
            both.on_l1.account(&vault).is_some()
        });
        both
    }

    pub(crate) fn start_l1(&mut self) {
        self.l1 = Some(Process::l1(
            &self.folder.path().join("l1"),
            &self.l1_at,
            None,
        ));
    }

    pub(crate) fn start_rollup(&mut self, fault: Option<&str>) {
        let (ledger, l1_ledger) = (
            self.folder.path().join("rollup"),
            self.folder.path().join("l1"),
        );
        let url = format!("http://{}", self.l1_at);
        let rollup = Process::rollup(&ledger, &url, &l1_ledger, fault);
        self.here = rollup.client();
        self.rollup = Some(rollup);
    }

    pub(crate) fn l1_ledger(&self) -> std::path::PathBuf {
        self.folder.path().join("l1")
    }

    /// A counter of `size` bytes that was created and not lent.
    pub(crate) fn counter(&self, size: u16) -> (Keypair, Counter) {
        let player = self.on_l1.rich(10 * SOL);
        let counter = Counter::of(player.pubkey());
        self.on_l1.confirm(&[counter.create(size)], &[&player]);
        (player, counter)
    }

    pub(crate) fn lent(&self, size: u16) -> (Keypair, Counter) {
        let (player, counter) = self.counter(size);
        self.on_l1
            .confirm(&[counter.lend(NEVER, self.identity)], &[&player]);
        (player, counter)
    }

    /// Waits until L1 has the counter back, and returns its data.
    pub(crate) fn settled(&self, counter: &Counter) -> Vec<u8> {
        let mut data = Vec::new();
        until("the settlement", || {
            match self.on_l1.account(&counter.address) {
                Some((owner, found)) => {
                    data = found;
                    owner == PROGRAM.to_string()
                }
                None => false,
            }
        });
        data
    }
}

fn refusal(result: Result<String, Value>) -> String {
    result.unwrap_err()["message"].as_str().unwrap().into()
}

#[test]
fn what_is_lent_is_played_on_and_comes_back() {
    let both = Both::start(None);
    let (player, counter) = both.lent(64);
    let (owner, _) = both.on_l1.account(&counter.address).unwrap();
    assert_eq!(owner, worldline_cabinet::DELEGATION_PROGRAM.to_string());
    let rent = both.on_l1.lamports(&counter.address);

    // A session key without a lamport may sign here.
    let stranger = Keypair::new();
    for by in 1..=5 {
        both.here.send(&[counter.add(by)], &[&stranger]).unwrap();
    }
    let (owner, data) = both.here.account(&counter.address).unwrap();
    assert_eq!((owner, count(&data)), (PROGRAM.to_string(), 15));
    assert_eq!(both.here.lamports(&stranger.pubkey()), 0);

    both.here.send(&[counter.commit()], &[&player]).unwrap();
    until("a commit", || {
        both.on_l1
            .account(&counter.address)
            .is_some_and(|(_, data)| count(&data) == 15)
    });
    both.here
        .send(&[counter.add(1), counter.give_back()], &[&player])
        .unwrap();
    assert!(
        refusal(both.here.send(&[counter.add(7)], &[&player])).contains("cannot be changed here")
    );
    assert_eq!(count(&both.settled(&counter)), 16);
    assert_eq!(both.on_l1.lamports(&counter.address), rent);
    until("the rollup to know", || {
        both.here.state()["commits"] == json!([])
    });

    // It can be lent again, and the rollup sees what L1 did meanwhile.
    both.on_l1.confirm(&[counter.add(100)], &[&player]);
    both.on_l1
        .confirm(&[counter.lend(NEVER, both.identity)], &[&player]);
    both.here.send(&[counter.add(1)], &[&player]).unwrap();
    assert_eq!(count(&both.here.account(&counter.address).unwrap().1), 117);
}

#[test]
fn only_what_is_lent_can_be_changed() {
    let both = Both::start(None);
    let (player, counter) = both.counter(64);
    // Read first, so that the rollup has a copy that is not lent.
    assert_eq!(count(&both.here.account(&counter.address).unwrap().1), 0);
    let refused = refusal(both.here.send(&[counter.add(1)], &[&player]));
    assert!(
        refused.contains(&format!("{} is not delegated", counter.address)),
        "{refused}"
    );
    assert_eq!(count(&both.here.account(&counter.address).unwrap().1), 0);

    // Lent to somebody else is not lent to us.
    let other = Keypair::new().pubkey();
    both.on_l1
        .confirm(&[counter.lend(NEVER, other)], &[&player]);
    let refused = refusal(both.here.send(&[counter.add(1)], &[&player]));
    assert!(refused.contains("is not delegated"), "{refused}");

    // Lamports stay where L1 has them, and nobody's account is made here.
    let (player, counter) = both.counter(64);
    let spare = transfer(&player.pubkey(), &counter.address, 5);
    both.on_l1
        .confirm(&[spare, counter.lend(NEVER, both.identity)], &[&player]);
    let refused = refusal(both.here.send(&[counter.take_a_lamport()], &[&player]));
    assert!(refused.contains("cannot be changed here"), "{refused}");
    let fresh = Counter::of(both.on_l1.rich(SOL).pubkey());
    assert_eq!(both.here.account(&fresh.address), None);

    // A change on L1 reaches the copy.
    let (player, counter) = both.counter(64);
    assert_eq!(count(&both.here.account(&counter.address).unwrap().1), 0);
    both.on_l1.confirm(&[counter.add(9)], &[&player]);
    until("the copy", || {
        count(&both.here.account(&counter.address).unwrap().1) == 9
    });
}

#[test]
fn a_large_account_is_committed_in_pieces() {
    let both = Both::start(None);
    let (player, counter) = both.lent(10_240);
    both.here
        .send(
            &[counter.add(3), counter.fill(0xa5), counter.give_back()],
            &[&player],
        )
        .unwrap();
    let data = both.settled(&counter);
    assert_eq!((data.len(), count(&data)), (10_240, 3));
    assert!(data[8..].iter().all(|byte| *byte == 0xa5));
}

#[test]
fn the_crank_misses_no_tick() {
    let both = Both::start(None);
    let (player, counter) = both.lent(64);
    let start = Instant::now();
    both.here
        .send(&[counter.schedule(16, 300)], &[&player])
        .unwrap();
    until("300 ticks", || {
        count(&both.here.account(&counter.address).unwrap().1) == 300
    });
    let took = start.elapsed();
    // Tick 299 is due 299/60 s after the first.
    assert!(
        took >= Duration::from_millis(4980),
        "{took:?} is faster than 60 Hz"
    );
    // A schedule that was moved, because ticks were missed, ends a second later.
    assert!(
        took < Duration::from_millis(4980) + CRANK_BEHIND,
        "{took:?} is slower than 60 Hz"
    );
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(count(&both.here.account(&counter.address).unwrap().1), 300);
    assert_eq!(both.here.state()["tasks"], json!([]));
}

#[test]
fn a_delegation_may_ask_to_be_committed_by_the_clock() {
    let both = Both::start(None);
    let (player, counter) = both.counter(64);
    both.on_l1
        .confirm(&[counter.lend(500, both.identity)], &[&player]);
    both.here.send(&[counter.add(4)], &[&player]).unwrap();
    until("a commit nobody asked for", || {
        both.on_l1
            .account(&counter.address)
            .is_some_and(|(_, data)| count(&data) == 4)
    });
}

#[test]
fn play_goes_on_without_l1_and_settles_when_it_is_back() {
    let mut both = Both::start(None);
    let (player, counter) = both.lent(64);
    both.here
        .send(&[counter.schedule(16, 1_000_000)], &[&player])
        .unwrap();
    until("a few ticks", || {
        count(&both.here.account(&counter.address).unwrap().1) > 10
    });
    both.l1.take().unwrap().kill();
    let before = count(&both.here.account(&counter.address).unwrap().1);
    both.here.send(&[counter.commit()], &[&player]).unwrap();
    until("a failed commit that is told", || {
        both.here.state()["commits"][0]["error"]
            .as_str()
            .is_some_and(|e| e.contains("cannot be reached"))
    });
    until("a second of play", || {
        count(&both.here.account(&counter.address).unwrap().1) > before + 60
    });
    let after = count(&both.here.account(&counter.address).unwrap().1);
    both.start_l1();
    both.here.send(&[counter.give_back()], &[&player]).unwrap();
    let settled = count(&both.settled(&counter));
    assert!(settled >= after, "{settled} after {after}");
}
