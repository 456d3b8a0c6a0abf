//! Random sequences of right, wrong and forged transactions over the box's JSON-RPC: what is refused is
//! refused by name and changes nothing, nobody does what is another's, no lamport is made or lost, and
//! the box goes on answering. `programs/tests/tests/hostile.rs` does the same to the program alone.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::runtime::Runtime;
use worldline_abi::{
    InputAccount, InputSignature, Pad, SessionAccount, SessionState, WorldAccount, end_reason,
    kernels, seat,
};
use worldline_cabinet::limits::FAUCET_LAMPORTS;
use worldline_cabinet::{L1, L1Config};
use worldline_cartridge::testing::{Size, cartridge};
use worldline_chain::limits::{L1_UNITS, LAMPORTS_PER_SOL};
use worldline_chain::session::{NewSession, SessionAt, score_at};
use worldline_chain::table::{Chains, find, open};
use worldline_chain::upload::{Terms, upload};
use worldline_chain::{
    Account, Address, Call, Commitment, Keypair, Program, Rpc, Signer, sign, unit_limit,
};
use worldline_mamba2::sample::Random;

/// Sequences, and transactions of each.
const SEEDS: u64 = 6;
const STEPS: u32 = 150;
/// What a signature costs.
const FEE: u64 = 5_000;
/// The test world's first stage and a character of it.
const STAGE: u8 = 31;
const CHARACTER: u8 = 2;
const PATIENCE: Duration = Duration::from_secs(10);

/// A box on which everything exists, and everybody who may want something.
struct Scene {
    chains: Chains,
    at: SessionAt,
    world: Address,
    /// The world's owner and session's payer, two wallets, two session keys, a stranger.
    people: Vec<Keypair>,
    /// Accounts that no stranger may change.
    pool: Vec<Address>,
    /// What somebody would rightly send now or later.
    calls: Vec<Call>,
    sent: u32,
}

impl Scene {
    fn new(url: &str, seed: u64) -> Self {
        let rpc = Rpc::new(url, Commitment::Processed);
        let chains = Chains {
            l1: rpc.clone(),
            rollup: rpc,
        };
        let people: Vec<Keypair> = (0..6).map(|_| Keypair::new()).collect();
        for one in &people {
            let given = chains.l1.airdrop(&one.pubkey(), 100 * LAMPORTS_PER_SOL);
            chains.l1.confirm(&given.unwrap()).unwrap();
        }
        let (payer, program) = (&people[0], Program::default());
        let file = cartridge(Size::Interop, 1);
        let terms = Terms { id: seed, fee: 0 };
        let world = upload(&chains.l1, program, payer, terms, &file, &|_| ()).unwrap();
        let new = NewSession {
            stage: STAGE,
            clock: 0,
            generator: 1,
            kernels: kernels::PLAIN,
            operator: Some(payer.pubkey()),
            in_parts: seed % 2 == 1,
        };
        let (id, world) = ([seed as u8 + 1; 16], world.address);
        let at = open(&chains, program, payer, id, &world, &new, false).unwrap();
        let mut scene = Self {
            chains,
            at,
            world,
            people,
            pool: Vec::new(),
            calls: Vec::new(),
            sent: 0,
        };
        // Every other match has begun.
        if seed >= SEEDS / 2 {
            scene.seat_both();
        }
        scene.name_everything();
        scene
    }

    fn seat_both(&self) {
        let found = find(&self.chains, self.at.program, &self.at.address).unwrap();
        for at in [0, 1] {
            let (wallet, key) = (&self.people[1 + at], &self.people[3 + at]);
            let human = seat::HUMAN;
            let joined = self
                .chains
                .join(&found, wallet, at as u8, human, &key.pubkey());
            joined.unwrap();
        }
        for at in [0, 1] {
            let key = &self.people[3 + at];
            let payer = &self.people[0];
            let ready = self.chains.ready(&found, payer, key, at as u8, CHARACTER);
            ready.unwrap();
        }
    }

    fn name_everything(&mut self) {
        let (at, world) = (&self.at, &self.world);
        let account: WorldAccount =
            worldline_chain::read::read(&at.program, &self.chains.l1, world).unwrap();
        let manifest = account.manifest;
        let who: Vec<Address> = self.people.iter().map(Signer::pubkey).collect();
        let pages = at.pages(&manifest);
        let mut calls = vec![
            at.run(&who[0], world, &manifest),
            at.create_frame(),
            at.record(&who[0], world),
            at.create_replay(&who[0], 600),
            at.grow_replay(&who[0]),
            at.write_replay(&who[0], 0, &[7; 64]),
            at.finish_replay(&who[0]),
            at.close_replay(&who[0]),
            at.close(&who[0], world, &pages),
            at.close(&who[5], world, &pages),
        ];
        calls.extend(at.frame_parts(&who[0], world, &manifest));
        calls.extend(at.give_back(&who[0], &manifest, false));
        for part in at.parts(&manifest, true) {
            calls.extend(at.delegate(&part, &who[5]).into_iter().skip(1));
        }
        for number in 0..2u8 {
            let (wallet, key) = (&who[1 + usize::from(number)], &who[3 + usize::from(number)]);
            let signature = InputSignature {
                frame: 1,
                seat: number,
                padding: [0; 3],
                signature: [3; 64],
            };
            calls.extend([
                at.join(wallet, number, seat::HUMAN, key),
                at.pick(key, number, CHARACTER),
                at.ready(key, number, world, &manifest),
                at.sign_inputs(key, signature),
                at.end(key, number, end_reason::QUIT),
                at.score(&who[0], number, world, wallet),
            ]);
            let pads = (1..4).map(|sequence| at.submit(key, number, sequence, Pad::default()));
            calls.extend(pads);
        }
        let shards = manifest.shards[..manifest.shard_count.into()].iter();
        let score = score_at(&at.program, world, &who[1]);
        self.pool = vec![*world, at.address, at.state, at.inputs, at.frame];
        self.pool.extend([at.result, at.replay, score]);
        self.pool.extend(shards.map(|shard| Address::from(*shard)));
        self.pool.extend(pages);
        self.pool.extend(&who);
        self.calls = calls;
    }

    /// Something that somebody would send; half of them as it is, the others changed up to three times.
    fn hostile(&self, draws: &mut Random) -> Call {
        let mut pick = |count: usize| draws.between(0, count as i32 - 1) as usize;
        let mut call = self.calls[pick(self.calls.len())].clone();
        for _ in 0..pick(2) * (1 + pick(3)) {
            let (accounts, bytes) = (call.accounts.len(), call.data.len());
            if accounts == 0 || bytes == 0 {
                return call;
            }
            match pick(9) {
                0 => call.data[pick(bytes)] ^= 1 << pick(8),
                1 => call.data.truncate(pick(bytes + 1)),
                2 => call.data.push(pick(256) as u8),
                3 => call.data[0] = pick(34) as u8,
                4 => call.accounts[pick(accounts)].pubkey = self.pool[pick(self.pool.len())],
                5 => {
                    let meta = &mut call.accounts[pick(accounts)];
                    meta.pubkey = self.people[pick(self.people.len())].pubkey();
                    meta.is_signer = true;
                }
                6 => drop(call.accounts.remove(pick(accounts))),
                7 => call.accounts[pick(accounts)].is_signer = false,
                _ => call.accounts[pick(accounts)].is_writable = false,
            }
        }
        call
    }

    fn read(&self) -> Watch {
        let accounts = self.chains.l1.accounts(&self.pool).unwrap();
        Watch {
            world: layout(&accounts[0]),
            book: layout(&accounts[1]),
            state: layout(&accounts[2]),
            inputs: layout(&accounts[3]),
            accounts,
        }
    }

    /// Sends a call; who must sign it, if they all can, and what came of it. Nothing, when the box took it
    /// for no transaction.
    fn send(&mut self, call: &Call) -> Option<(Vec<Address>, Option<Value>)> {
        let needed: BTreeSet<Address> = call
            .accounts
            .iter()
            .filter(|meta| meta.is_signer)
            .map(|meta| meta.pubkey)
            .collect();
        let mut signers: Vec<&Keypair> = self
            .people
            .iter()
            .filter(|one| needed.contains(&one.pubkey()))
            .collect();
        if signers.is_empty() {
            signers.push(&self.people[5]);
        }
        self.sent += 1;
        // No two are the same: the box would take the second for the first.
        let calls = [unit_limit(L1_UNITS - self.sent), call.clone()];
        let l1 = &self.chains.l1;
        let signed = sign(&calls, &signers, &l1.blockhash().unwrap()).ok()?;
        l1.send(&signed.wire, false).ok()?;
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = l1.statuses(&[signed.signature]).unwrap().remove(0) {
                let signers = signers.iter().map(|one| one.pubkey()).collect();
                return Some((signers, status.error));
            }
            assert!(Instant::now() < end, "a transaction that was taken is lost");
        }
    }
}

fn layout<T: worldline_abi::Layout>(account: &Option<Account>) -> Option<T> {
    worldline_abi::copy(&account.as_ref()?.data).ok()
}

/// What is looked at before and after each transaction.
struct Watch {
    accounts: Vec<Option<Account>>,
    world: Option<WorldAccount>,
    book: Option<SessionAccount>,
    state: Option<SessionState>,
    inputs: Option<InputAccount>,
}

impl Watch {
    /// Compares with what was there before a transaction that these people signed.
    fn check(&self, before: &Self, scene: &Scene, signers: &[Address]) {
        let signed = |who: usize| signers.contains(&scene.people[who].pubkey());
        if let (Some(now), Some(then)) = (&self.inputs, &before.inputs) {
            for at in [0, 1] {
                let pressed = now.buffer.slots[at] != then.buffer.slots[at]
                    || now.signatures[at] != then.signatures[at];
                assert!(!pressed || signed(3 + at), "another's pad");
            }
        }
        if let (Some(now), Some(then)) = (&self.state, &before.state) {
            assert!(now.frame == then.frame || signed(0), "another's frame");
            assert!(now.status >= then.status, "a match goes one way");
        }
        if let (Some(now), Some(then)) = (&self.book, &before.book) {
            for at in [0, 1] {
                let taken = then.session.seats[at] != seat::FREE;
                let wallets = now.session.wallets[at] == then.session.wallets[at];
                let keys = now.session.session_keys[at] == then.session.session_keys[at];
                assert!(!taken || (wallets && keys), "a seat that was taken");
            }
        }
        let root = |watch: &Self| watch.world.map(|world| world.manifest.merkle_root);
        assert!(root(self) == root(before) || signed(0), "another's world");
    }

    /// Nothing changed but what the payer paid.
    fn same(&self, before: &Self, scene: &Scene, signers: &[Address]) {
        let paid = FEE * signers.len() as u64;
        let both = self.accounts.iter().zip(&before.accounts);
        for (address, (now, then)) in scene.pool.iter().zip(both) {
            if *address == signers[0] {
                let held = |one: &Option<Account>| one.as_ref().map_or(0, |one| one.lamports);
                assert_eq!(held(now) + paid, held(then), "more than the fee");
            } else {
                assert_eq!(
                    now, then,
                    "{address} changed, and the transaction was refused"
                );
            }
        }
    }
}

fn sequence(url: &str, seed: u64) -> [u32; 3] {
    let mut scene = Scene::new(url, seed);
    let mut draws = Random(seed + 1);
    let [mut done, mut refused, mut never] = [0; 3];
    for step in 0..STEPS {
        let call = scene.hostile(&mut draws);
        let before = scene.read();
        let outcome = scene.send(&call);
        let after = scene.read();
        match outcome {
            Some((signers, None)) => {
                after.check(&before, &scene, &signers);
                done += 1;
            }
            Some((signers, Some(error))) => {
                let text = error.to_string();
                let crashed = ["ProgramFailedToComplete", "AccessViolation", "Panic"];
                let crashed = crashed.iter().any(|word| text.contains(word));
                assert!(!crashed, "seed {seed}, step {step}: {text} by {call:?}");
                after.same(&before, &scene, &signers);
                refused += 1;
            }
            None => {
                assert!(after.accounts == before.accounts, "nothing was sent");
                never += 1;
            }
        }
    }
    [done, refused, never]
}

#[test]
fn no_sequence_of_transactions_over_rpc_breaks_the_box_or_the_program() {
    let folder = tempfile::tempdir().unwrap();
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut config = L1Config::new(folder.path());
    config.slot = Duration::from_millis(50);
    let elf = root.join("programs/world-model/world_model.so");
    config.programs = vec![(Program::default().id, elf)];
    let runtime = Runtime::new().unwrap();
    let l1 = runtime.block_on(L1::start(config)).unwrap();
    let counts: Vec<[u32; 3]> = (0..SEEDS)
        .map(|seed| sequence(&l1.rpc_url(), seed))
        .collect();
    println!("executed, refused, not sent: {counts:?}");
    let total = |which: usize| counts.iter().map(|one| one[which]).sum::<u32>();
    assert!(
        total(0) > 10 && total(1) > 100,
        "they do something: {counts:?}"
    );
    let lamports = runtime.block_on(l1.total_lamports()).unwrap();
    assert_eq!(lamports, u128::from(FAUCET_LAMPORTS));
    l1.stop();
}
