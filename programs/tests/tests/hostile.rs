//! Random sequences of right, wrong and forged transactions: nothing panics, nothing half happens,
//! nobody does what is another's, and no lamport is made or lost.

use proptest::prelude::*;
use solana_instruction::Instruction as Call;
use solana_keypair::Keypair;
use solana_signer::Signer;
use std::sync::OnceLock;
use worldline_abi::instruction::{Commit, Delegate, INSTRUCTIONS, SignInputs, UpdateScore};
use worldline_abi::{
    InputAccount, InputSignature, Pad, SessionAccount, SessionState, WorldAccount, address,
    end_reason, kernels, world_status,
};
use worldline_program_tests::{Chain, Table, Upload, derive, instruction, key, micro};

/// What a signature costs, in lamports.
const FEE: u64 = 5_000;

/// A chain on which everything exists, and everybody who may want something.
struct Scene {
    chain: Chain,
    world: Upload,
    table: Table,
    people: Vec<Keypair>,
    /// Every address that a transaction may name.
    pool: Vec<address::Address>,
    /// What somebody would rightly send now or later, with who signs it.
    calls: Vec<Call>,
}

fn scene(playing: bool, in_parts: bool) -> Scene {
    static READY: OnceLock<(Chain, Keypair)> = OnceLock::new();
    let (chain, owner) = READY.get_or_init(|| {
        let mut chain = Chain::rollup();
        let world = Upload::new(&mut chain, micro()).finish(&mut chain);
        (chain, world.owner)
    });
    let mut chain = chain.clone();
    let world = Upload::by(owner.insecure_clone(), 7, micro());
    let table = match (playing, in_parts) {
        (true, true) => Table::ready_in_parts(&mut chain, &world, kernels::PLAIN),
        (true, false) => Table::ready(&mut chain, &world, kernels::SYSCALLS),
        (false, _) => {
            let table = Table::new(&mut chain, &world);
            table.open(&mut chain, kernels::PLAIN);
            table
        }
    };
    let people: Vec<Keypair> = [&table.payer, &table.operator, &world.owner]
        .into_iter()
        .chain(&table.wallets)
        .chain(&table.keys)
        .map(Keypair::insecure_clone)
        .chain([chain.person()])
        .collect();
    let wallet = table.wallets[0].pubkey().to_bytes();
    let score = derive(&address::score(&world.world, &wallet));
    let mut pool = vec![
        world.world,
        table.session,
        table.state,
        table.inputs,
        table.frame,
        table.result,
        score,
        [0; 32],
        address::PROGRAM_ID,
        address::DELEGATION_PROGRAM,
        address::MAGIC_PROGRAM,
        derive(&address::replay(&table.session)),
        derive(&[b"nothing"]),
    ];
    pool.extend(world.shards.iter().chain(&table.pages));
    pool.extend(people.iter().map(|person| person.pubkey().to_bytes()));
    let calls = calls(&world, &table, score);
    Scene {
        chain,
        world,
        table,
        people,
        pool,
        calls,
    }
}

/// One rightful call of every kind that this scene knows.
fn calls(world: &Upload, table: &Table, score: address::Address) -> Vec<Call> {
    let signature = InputSignature {
        frame: 1,
        seat: 0,
        padding: [0; 3],
        signature: [3; 64],
    };
    let sign = [table.key(0), table.session, table.inputs];
    let update = [table.operator(), table.result, score, [0; 32]];
    let commit = [
        table.payer(),
        address::MAGIC_CONTEXT,
        address::MAGIC_PROGRAM,
        table.session,
        table.state,
    ];
    let at = table.state;
    let lend = [
        table.payer(),
        at,
        address::PROGRAM_ID,
        derive(&[b"buffer", &at]),
        derive(&[b"x"]),
        derive(&[b"y"]),
        [0; 32],
        address::DELEGATION_PROGRAM,
    ];
    let delegate = Delegate {
        id: table.id,
        part: 1,
        ..Delegate::default()
    };
    let mut calls = vec![
        world.create(1),
        world.write(0, 64, &[1, 2, 3]),
        world.check(0, 3),
        world.retire(&world.shards),
        table.create(kernels::PLAIN),
        table.create_pages(0),
        table.create_frame(),
        table.run(),
        table.begin(),
        table.layers(1),
        table.layers(2),
        table.finish(),
        table.record(),
        table.close(&table.payer, &table.pages),
        table.close(&table.wallets[0], &table.pages),
        instruction(&SignInputs { signature }, &[], &sign, &[]),
        instruction(&UpdateScore { seat: 0 }, &[], &update, &[]),
        instruction(&Commit { undelegate: 1 }, &[], &commit, &[&[table.state]]),
        instruction(&delegate, &[], &lend, &[]),
    ];
    for seat in 0..2 {
        calls.extend([table.join(seat), table.pick(seat), table.say_ready(seat)]);
        calls.extend((1..4).map(|sequence| table.submit(seat, sequence, Pad::default())));
        calls.push(table.end(seat, end_reason::QUIT));
        calls.push(table.end(seat, end_reason::ABANDONED));
    }
    calls
}

/// One thing done to a rightful call. Numbers are taken modulo what there is.
#[derive(Debug, Clone)]
enum Mutation {
    Byte(usize, u8),
    Cut(usize),
    Append(u8),
    Account(usize, usize),
    Signer(usize, usize),
    Drop(usize),
    Repeat(usize),
    Unsigned(usize),
    ReadOnly(usize),
    Tag(u8),
}

impl Mutation {
    fn apply(&self, call: &mut Call, scene: &Scene) {
        let accounts = call.accounts.len();
        let pick = |at: usize| at % accounts.max(1);
        match *self {
            Self::Byte(at, xor) => {
                let at = at % call.data.len().max(1);
                call.data
                    .get_mut(at)
                    .into_iter()
                    .for_each(|byte| *byte ^= xor);
            }
            Self::Cut(to) => call.data.truncate(to % (call.data.len() + 1)),
            Self::Append(byte) => call.data.push(byte),
            Self::Tag(tag) => call
                .data
                .first_mut()
                .into_iter()
                .for_each(|first| *first = tag),
            _ if accounts == 0 => (),
            Self::Account(at, to) => {
                call.accounts[pick(at)].pubkey = key(scene.pool[to % scene.pool.len()]);
            }
            Self::Signer(at, who) => {
                let meta = &mut call.accounts[pick(at)];
                meta.pubkey = scene.people[who % scene.people.len()].pubkey();
                meta.is_signer = true;
            }
            Self::Drop(at) => {
                call.accounts.remove(pick(at));
            }
            Self::Repeat(at) => call.accounts.push(call.accounts[pick(at)].clone()),
            Self::Unsigned(at) => call.accounts[pick(at)].is_signer = false,
            Self::ReadOnly(at) => call.accounts[pick(at)].is_writable = false,
        }
    }
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let at = any::<usize>;
    prop_oneof![
        (at(), 1u8..).prop_map(|(at, xor)| Mutation::Byte(at, xor)),
        at().prop_map(Mutation::Cut),
        any::<u8>().prop_map(Mutation::Append),
        (at(), at()).prop_map(|(at, to)| Mutation::Account(at, to)),
        (at(), at()).prop_map(|(at, who)| Mutation::Signer(at, who)),
        at().prop_map(Mutation::Drop),
        at().prop_map(Mutation::Repeat),
        at().prop_map(Mutation::Unsigned),
        at().prop_map(Mutation::ReadOnly),
        (0..=INSTRUCTIONS.len() as u8).prop_map(Mutation::Tag),
    ]
}

/// What the program has to keep, whoever sends what.
struct Watch {
    accounts: Vec<Option<solana_account::Account>>,
    lamports: u64,
    inputs: Option<InputAccount>,
    state: Option<SessionState>,
    book: Option<SessionAccount>,
    world: Option<WorldAccount>,
    weights: Vec<u8>,
}

impl Watch {
    fn new(scene: &Scene) -> Self {
        let chain = &scene.chain;
        let accounts: Vec<_> = scene
            .pool
            .iter()
            .map(|at| chain.svm.get_account(&key(*at)))
            .collect();
        fn read<T: worldline_abi::Layout>(chain: &Chain, at: address::Address) -> Option<T> {
            worldline_abi::copy(&chain.data(at)).ok()
        }
        Self {
            lamports: accounts
                .iter()
                .flatten()
                .map(|account| account.lamports)
                .sum(),
            accounts,
            inputs: read(chain, scene.table.inputs),
            state: read(chain, scene.table.state),
            book: read(chain, scene.table.session),
            world: read(chain, scene.world.world),
            weights: chain.data(scene.world.shards[0]),
        }
    }

    /// Compares with what was there before a transaction that these people signed.
    fn check(&self, before: &Self, scene: &Scene, signers: &[&Keypair]) {
        let signed = |by: &Keypair| signers.iter().any(|one| one.pubkey() == by.pubkey());
        let table = &scene.table;
        if let (Some(now), Some(then)) = (&self.inputs, &before.inputs) {
            for seat in 0..2 {
                let pressed = now.buffer.slots[seat] != then.buffer.slots[seat];
                assert!(!pressed || signed(&table.keys[seat]), "another's pad");
                let left = now.signatures[seat] != then.signatures[seat];
                assert!(!left || signed(&table.keys[seat]), "another's signature");
            }
        }
        if let (Some(now), Some(then)) = (&self.state, &before.state) {
            assert!(
                now.frame == then.frame || signed(&table.operator),
                "another's frame"
            );
            assert!(now.status >= then.status, "a match goes one way");
        }
        if let (Some(now), Some(then)) = (&self.book, &before.book) {
            for seat in 0..2 {
                let taken = then.session.seats[seat] != 0;
                let same = now.session.wallets[seat] == then.session.wallets[seat]
                    && now.session.session_keys[seat] == then.session.session_keys[seat];
                assert!(!taken || same, "a seat that was taken");
            }
            assert_eq!(now.session.payer, then.session.payer);
        }
        if let Some(then) = &before.world {
            let kept = self
                .world
                .is_some_and(|now| now.manifest.merkle_root == then.manifest.merkle_root);
            let retired = signed(&scene.world.owner);
            assert!(kept || retired, "another's world");
            if then.status == world_status::READY && kept && !retired {
                assert!(
                    self.weights == before.weights,
                    "weights of a finished world"
                );
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn no_sequence_of_transactions_breaks_the_program(
        playing: bool,
        in_parts: bool,
        steps in prop::collection::vec((any::<usize>(), prop::collection::vec(mutation(), 0..3)), 1..40),
    ) {
        let mut scene = scene(playing, in_parts);
        for (which, mutations) in steps {
            let mut call = scene.calls[which % scene.calls.len()].clone();
            for mutation in &mutations {
                mutation.apply(&mut call, &scene);
            }
            let needed: Vec<_> =
                call.accounts.iter().filter(|meta| meta.is_signer).map(|meta| meta.pubkey).collect();
            let people: Vec<Keypair> = scene.people.iter().map(Keypair::insecure_clone).collect();
            let mut signers: Vec<&Keypair> =
                people.iter().filter(|person| needed.contains(&person.pubkey())).collect();
            if signers.len() < needed.iter().collect::<std::collections::BTreeSet<_>>().len() {
                continue; // Somebody would have to sign who cannot.
            }
            if signers.is_empty() {
                signers.push(people.last().expect("the stranger"));
            }
            let before = Watch::new(&scene);
            let outcome = scene.chain.send(&signers, std::slice::from_ref(&call));
            let after = Watch::new(&scene);
            let fee = FEE * signers.len() as u64;
            match outcome {
                Ok(()) => after.check(&before, &scene, &signers),
                Err(refused) => {
                    let crashed = ["ProgramFailedToComplete", "AccessViolation", "Panic"]
                        .iter()
                        .any(|word| refused.error.contains(word));
                    prop_assert!(!crashed, "{call:?} {refused:?}");
                    for ((at, was), is) in scene.pool.iter().zip(&before.accounts).zip(&after.accounts) {
                        let paid = *at == signers[0].pubkey().to_bytes();
                        prop_assert!(paid || was == is, "a refused transaction changed an account");
                    }
                }
            }
            // Lamports that left the pool stand in an account that the call names.
            let named: u64 = call
                .accounts
                .iter()
                .map(|meta| meta.pubkey.to_bytes())
                .collect::<std::collections::BTreeSet<_>>()
                .iter()
                .filter(|at| !scene.pool.contains(at))
                .map(|at| scene.chain.lamports(*at))
                .sum();
            prop_assert!(after.lamports + named + fee >= before.lamports, "lamports were lost");
            prop_assert!(after.lamports + fee <= before.lamports + named, "lamports were made");
        }
    }
}
