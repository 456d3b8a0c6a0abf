//! A world's life: uploaded, checked, forked, played, retired.

use solana_signer::Signer;
use worldline_abi::instruction::{CopyShard, ForkWorld, ReopenWorld};
use worldline_abi::{
    Fault, MERKLE_LEAF_BYTES, ScoreAccount, WeightShard, address, end_reason, kernels, status,
    world_status,
};
use worldline_cartridge::testing::{Size, cartridge};
use worldline_program_tests::{Chain, Table, Upload, derive, instruction, micro};

/// What these accounts hold together, in lamports.
fn sum(chain: &Chain, accounts: &[address::Address]) -> u64 {
    accounts.iter().map(|at| chain.lamports(*at)).sum()
}

#[test]
fn what_is_uploaded_comes_down_again_byte_for_byte() {
    let mut chain = Chain::l1();
    let world = Upload::new(&mut chain, micro()).finish(&mut chain);
    let account = world.account(&chain);
    assert_eq!(account.status, world_status::READY);
    assert_eq!(account.manifest.owner, world.owner());
    let shard = chain.data(world.shards[0]);
    assert_eq!(
        &shard[size_of::<WeightShard>()..],
        world.cartridge.shards()[0]
    );
    let (header, _) = worldline_abi::split::<WeightShard>(&shard).unwrap();
    assert_eq!((header.world, header.index), (world.world, 0));
    assert_eq!(
        header.verified_leaves as usize,
        144_448usize.div_ceil(MERKLE_LEAF_BYTES)
    );
}

#[test]
fn a_wrong_byte_is_found_by_the_root_and_can_be_mended() {
    let mut chain = Chain::l1();
    let world = Upload::new(&mut chain, micro());
    let owner = world.owner.insecure_clone();
    chain.send(&[&owner], &[world.create(0)]).unwrap();
    let made = world.create_shard(&chain, 0);
    chain.send(&[&owner], &made).unwrap();
    world.fill(&mut chain, 0);
    chain
        .send(&[&owner], &[world.write(0, 100_000, &[1, 2, 3])])
        .unwrap();

    chain.send(&[&owner], &[world.check(0, 1)]).unwrap();
    let closed = chain
        .send(&[&owner], &[world.write(0, 0, &[1])])
        .unwrap_err();
    assert_eq!(
        closed.fault,
        Some(Fault::WorldStatus),
        "no writes while it is hashed"
    );
    let wrong = chain.send(&[&owner], &[world.check(0, 2)]).unwrap_err();
    assert_eq!(wrong.fault, Some(Fault::WrongRoot));

    let reopen = instruction(&ReopenWorld {}, &[], &[world.owner(), world.world], &[]);
    chain.send(&[&owner], &[reopen]).unwrap();
    let right = &world.cartridge.shards()[0][100_000..100_003];
    chain
        .send(&[&owner], &[world.write(0, 100_000, right)])
        .unwrap();
    for _ in 0..3 {
        chain.send(&[&owner], &[world.check(0, 1)]).unwrap();
    }
    assert_eq!(world.account(&chain).status, world_status::READY);
}

#[test]
fn a_large_world_is_hashed_over_several_transactions() {
    let mut chain = Chain::l1();
    let world = Upload::new(&mut chain, cartridge(Size::Small, 5)).finish(&mut chain);
    assert_eq!(world.account(&chain).status, world_status::READY);
}

#[test]
fn a_fork_is_copied_on_the_chain_and_played() {
    let mut chain = Chain::rollup();
    let parent = Upload::new(&mut chain, micro()).finish(&mut chain);
    let fork = Upload::by(chain.person(), 9, micro());
    let mut name = [0; 32];
    name[..4].copy_from_slice(b"mine");
    let body = ForkWorld {
        id: 9,
        fee: 5_000,
        name,
    };
    let accounts = [fork.owner(), fork.world, parent.world, [0; 32]];
    chain
        .send(&[&fork.owner], &[instruction(&body, &[], &accounts, &[])])
        .unwrap();
    let made = fork.create_shard(&chain, 0);
    chain.send(&[&fork.owner], &made).unwrap();
    let bytes = fork.cartridge.shards()[0].len() as u32;
    let accounts = [fork.owner(), fork.world, fork.shards[0], parent.shards[0]];
    let copy = instruction(&CopyShard { offset: 0, bytes }, &[], &accounts, &[]);
    chain.send(&[&fork.owner], &[copy]).unwrap();
    fork.check_all(&mut chain);

    let account = fork.account(&chain);
    assert_eq!(
        (account.status, account.manifest.name()),
        (world_status::READY, "mine")
    );
    assert_eq!(account.manifest.parent, parent.world);
    assert_eq!(
        account.manifest.merkle_root,
        parent.cartridge.manifest().merkle_root
    );

    // The parent may go; the fork stays, and its owner is paid for a session.
    chain
        .send(&[&parent.owner], &[parent.retire(&parent.shards)])
        .unwrap();
    assert!(!chain.exists(parent.world) && !chain.exists(parent.shards[0]));
    let before = chain.lamports(fork.owner());
    let mut table = Table::ready(&mut chain, &fork, kernels::SYSCALLS);
    assert_eq!(chain.lamports(fork.owner()), before + 5_000);
    assert_eq!(fork.account(&chain).fees_earned, 5_000);
    table.frame(&mut chain).unwrap();
}

#[test]
fn retiring_gives_the_rent_back_once_no_session_lives() {
    let mut chain = Chain::l1();
    let world = Upload::new(&mut chain, micro());
    let owner = world.owner.insecure_clone();
    let before = chain.lamports(world.owner());
    let world = world.finish(&mut chain);
    let table = Table::new(&mut chain, &world);
    table.open(&mut chain, kernels::PLAIN);
    let live = chain
        .send(&[&owner], &[world.retire(&world.shards)])
        .unwrap_err();
    assert_eq!(live.fault, Some(Fault::SessionsLive));
    chain
        .send(&[&table.payer], &[table.close(&table.payer, &table.pages)])
        .unwrap();
    chain.send(&[&owner], &[world.retire(&[])]).unwrap();
    assert_eq!(world.account(&chain).status, world_status::RETIRED);
    let closed = chain
        .send(&[&table.payer], &[table.create(kernels::PLAIN)])
        .unwrap_err();
    assert_eq!(
        closed.fault,
        Some(Fault::WorldStatus),
        "no session of a retired world"
    );
    chain
        .send(&[&owner], &[world.retire(&world.shards)])
        .unwrap();
    assert!(!chain.exists(world.world) && !chain.exists(world.shards[0]));
    let fees = before - chain.lamports(world.owner());
    assert!(
        fees < 1_000_000,
        "only signatures were paid: {fees} lamports"
    );
}

#[test]
fn a_whole_life_ends_with_a_result_and_every_lamport_accounted_for() {
    let mut chain = Chain::rollup();
    let world = Upload::new(&mut chain, micro()).finish(&mut chain);
    let mut table = Table::new(&mut chain, &world);
    let score = derive(&address::score(
        &world.world,
        &table.wallets[0].pubkey().to_bytes(),
    ));
    let mut accounts = vec![
        table.session,
        table.state,
        table.inputs,
        table.result,
        score,
    ];
    accounts.extend(&table.pages);
    accounts.push(world.world);
    let [first, second] = &table.wallets;
    let people = [
        &table.payer,
        &table.operator,
        first,
        second,
        &table.keys[0],
        &table.keys[1],
    ];
    accounts.extend(people.map(|person| person.pubkey().to_bytes()));
    let before = sum(&chain, &accounts);
    let mut fees = 0;
    // Five thousand lamports a signature, one signature a transaction.
    let mut pay = |count: u64| fees += 5_000 * count;

    let at_start = chain.lamports(table.payer());
    table.open(&mut chain, kernels::SYSCALLS);
    pay(2);
    table.seat_both(&mut chain);
    pay(4);
    for _ in 0..30 {
        table.frame(&mut chain).unwrap();
        pay(3);
    }
    chain
        .send(&[&table.keys[1]], &[table.end(1, end_reason::QUIT)])
        .unwrap();
    pay(1);
    let state = table.state(&chain);
    assert_eq!((state.status, state.winner), (status::ENDED, 0));

    chain.send(&[&table.operator], &[table.record()]).unwrap();
    pay(1);
    let again = chain
        .send(&[&table.operator], &[table.record()])
        .unwrap_err();
    assert_eq!(again.fault, Some(Fault::AlreadyRecorded));
    pay(1);
    let kept: worldline_abi::ResultAccount = chain.read(table.result);
    assert_eq!((kept.result.end_frame, kept.result.winner), (30, 0));
    assert_eq!(kept.result.chain, state.chain);
    assert_eq!(kept.result.input_hashes, table.inputs(&chain).hashes);
    assert_eq!(world.account(&chain).matches, 1);

    let body = worldline_abi::instruction::UpdateScore { seat: 0 };
    let update = instruction(
        &body,
        &[],
        &[table.operator(), table.result, score, [0; 32]],
        &[],
    );
    chain
        .send(&[&table.operator], std::slice::from_ref(&update))
        .unwrap();
    let twice = chain.send(&[&table.operator], &[update]).unwrap_err();
    assert_eq!(twice.fault, Some(Fault::AlreadyRecorded));
    pay(2);
    let score: ScoreAccount = chain.read(score);
    assert_eq!((score.wins, score.losses, score.frames), (1, 0, 30));

    // Anyone may close what is recorded; the rent goes to who paid it.
    chain
        .send(
            &[&table.wallets[0]],
            &[table.close(&table.wallets[0], &table.pages)],
        )
        .unwrap();
    pay(1);
    assert!(!chain.exists(table.session) && !chain.exists(table.state));
    assert!(!chain.exists(table.pages[0]) && !chain.exists(table.inputs));
    assert_eq!(
        at_start - chain.lamports(table.payer()),
        10_000,
        "two signatures, no rent"
    );
    assert_eq!(world.account(&chain).live_sessions, 0);
    assert_eq!(
        sum(&chain, &accounts) + fees,
        before,
        "no lamport made or lost"
    );
}
