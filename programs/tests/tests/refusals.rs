//! Every check of the program, one wrong thing at a time: each line fails without its check.

use solana_instruction::Instruction as Call;
use solana_keypair::Keypair;
use solana_signer::Signer;
use worldline_abi::instruction::{
    BeginFrame, Commit, CopyShard, CreatePages, EndSession, ForkWorld, Instruction, JoinSession,
    PickCharacter, SignInputs, SubmitInput, UpdateScore,
};
use worldline_abi::{
    ABANDONED_FRAMES, Fault, InputSignature, Pad, SessionState, address, end_reason, kernels, seat,
    status,
};
use worldline_program_tests::{Chain, Table, Upload, derive, instruction, key, micro};

struct Scene {
    chain: Chain,
    world: Upload,
    table: Table,
    stranger: Keypair,
}

impl Scene {
    /// A session with two players, about to run its first frame.
    fn playing() -> Self {
        Self::with(|chain, world| Table::ready(chain, world, kernels::PLAIN))
    }

    /// A session that nobody has joined.
    fn open() -> Self {
        Self::with(|chain, world| {
            let table = Table::new(chain, world);
            table.open(chain, kernels::PLAIN);
            table
        })
    }

    fn with(table: impl FnOnce(&mut Chain, &Upload) -> Table) -> Self {
        let mut chain = Chain::rollup();
        let world = Upload::new(&mut chain, micro()).finish(&mut chain);
        let table = table(&mut chain, &world);
        let stranger = chain.person();
        Self {
            chain,
            world,
            table,
            stranger,
        }
    }

    /// Sends a call and expects this fault, and that nothing has changed.
    #[track_caller]
    fn refuses(&mut self, signer: &Keypair, call: Call, fault: Fault) {
        let watched: Vec<_> = call.accounts.iter().map(|meta| meta.pubkey).collect();
        let look = |chain: &Chain| -> Vec<_> {
            let others = watched.iter().filter(|at| **at != signer.pubkey());
            others.map(|at| chain.svm.get_account(at)).collect()
        };
        let before = look(&self.chain);
        match self.chain.send(&[signer], &[call]) {
            Ok(()) => panic!("accepted where {fault:?} is due"),
            Err(refused) => assert_eq!(refused.fault, Some(fault), "{refused:?}"),
        }
        assert!(
            before == look(&self.chain),
            "a refused instruction changed an account"
        );
    }

    #[track_caller]
    fn accepts(&mut self, signer: &Keypair, call: Call) {
        self.chain.send(&[signer], &[call]).unwrap();
    }

    fn operator(&self) -> Keypair {
        self.table.operator.insecure_clone()
    }

    fn player(&self, seat: usize) -> Keypair {
        self.table.keys[seat].insecure_clone()
    }

    fn payer(&self) -> Keypair {
        self.table.payer.insecure_clone()
    }

    fn stranger(&self) -> Keypair {
        self.stranger.insecure_clone()
    }

    fn owner(&self) -> Keypair {
        self.world.owner.insecure_clone()
    }
}

/// The call with another account at a place.
fn swap(mut call: Call, place: usize, with: address::Address) -> Call {
    call.accounts[place].pubkey = key(with);
    call
}

/// The call signed by another.
fn by(call: Call, signer: &Keypair) -> Call {
    swap(call, 0, signer.pubkey().to_bytes())
}

#[test]
fn data_that_is_no_instruction() {
    let mut scene = Scene::playing();
    let operator = scene.operator();
    let run = scene.table.run();
    for data in [vec![], vec![31], vec![200], vec![196, 28]] {
        let call = Call {
            data,
            ..run.clone()
        };
        scene.refuses(&operator, call, Fault::UnknownInstruction);
    }
    for data in [vec![16, 0], vec![16, 1, 2]] {
        scene.refuses(
            &operator,
            Call {
                data,
                ..run.clone()
            },
            Fault::BadData,
        );
    }
    let mut few = run;
    few.accounts.truncate(4);
    scene.refuses(&operator, few, Fault::TooFewAccounts);
}

#[test]
fn accounts_that_do_not_sign_or_cannot_be_written() {
    let mut scene = Scene::playing();
    let (operator, stranger) = (scene.operator(), scene.stranger());
    let mut unsigned = scene.table.run();
    unsigned.accounts[0].is_signer = false;
    scene.refuses(&stranger, unsigned, Fault::NotSigned);
    for place in [2, 3, 6] {
        let mut call = scene.table.run();
        call.accounts[place].is_writable = false;
        scene.refuses(&operator, call, Fault::NotWritable);
    }
    let mut press = scene.table.submit(0, 1, Pad::default());
    press.accounts[0].is_signer = false;
    scene.refuses(&stranger, press, Fault::NotSigned);
}

#[test]
fn a_frame_with_one_wrong_account() {
    let mut scene = Scene::playing();
    let operator = scene.operator();
    let table = &scene.table;
    // Operator, session, state, inputs, world, shard, page.
    let (state, session, world) = (table.state, table.session, table.world);
    let (shard, page, inputs) = (table.shards[0], table.pages[0], table.inputs);
    let run = table.run();
    let wrong = [
        (1, state, Fault::WrongSize),
        (1, world, Fault::WrongSize),
        (1, page, Fault::WrongSize),
        (2, inputs, Fault::WrongAddress),
        (2, session, Fault::WrongAddress),
        (3, state, Fault::WrongAddress),
        (4, session, Fault::WrongAddress),
        (5, page, Fault::WrongAddress),
        (6, shard, Fault::SameAccount),
        (6, state, Fault::WrongSize),
    ];
    for (place, with, fault) in wrong {
        scene.refuses(&operator, swap(run.clone(), place, with), fault);
    }
    let mut missing = run.clone();
    missing.accounts.pop();
    scene.refuses(&operator, missing, Fault::PagesMissing);
    let mut twice = run;
    let page = twice.accounts[6].clone();
    twice.accounts.push(page);
    scene.refuses(&operator, twice, Fault::SameAccount);
}

#[test]
fn a_frame_with_a_forged_account() {
    // An account of the right bytes that another program owns, at every place that is read.
    for place in 1..7 {
        let mut scene = Scene::playing();
        let operator = scene.operator();
        let run = scene.table.run();
        let at = run.accounts[place].pubkey.to_bytes();
        scene
            .chain
            .forge(at, |account| account.owner = key([9; 32]));
        scene.refuses(&operator, run, Fault::NotOurs);
    }
    // The right owner, a truncated account.
    for (place, fault) in [
        (1, Fault::WrongSize),
        (2, Fault::WrongSize),
        (3, Fault::WrongSize),
        (4, Fault::WrongSize),
        (5, Fault::BadModel),
        (6, Fault::WrongSize),
    ] {
        let mut scene = Scene::playing();
        let operator = scene.operator();
        let run = scene.table.run();
        let at = run.accounts[place].pubkey.to_bytes();
        scene
            .chain
            .forge(at, |account| account.data.truncate(account.data.len() - 1));
        scene.refuses(&operator, run, fault);
    }
    // Another kind, or a version of tomorrow.
    for place in [1, 4, 5, 6] {
        for byte in [0, 7] {
            let mut scene = Scene::playing();
            let operator = scene.operator();
            let run = scene.table.run();
            let at = run.accounts[place].pubkey.to_bytes();
            scene.chain.forge(at, |account| account.data[byte] ^= 0x40);
            scene.refuses(&operator, run, Fault::WrongKind);
        }
    }
    // A page of the same session at another index; a page of another session.
    for byte in [40, 8] {
        let mut scene = Scene::playing();
        let operator = scene.operator();
        let run = scene.table.run();
        scene
            .chain
            .forge(scene.table.pages[0], |account| account.data[byte] ^= 1);
        scene.refuses(&operator, run, Fault::WrongAddress);
    }
}

#[test]
fn frames_are_for_the_operator_while_the_match_runs() {
    let mut scene = Scene::playing();
    let (operator, stranger) = (scene.operator(), scene.stranger());
    let run = scene.table.run();
    scene.refuses(&stranger, by(run.clone(), &stranger), Fault::NotAllowed);
    scene.chain.forge(scene.table.session, |account| {
        account.data[416..448].fill(0)
    });
    scene.accepts(&stranger, by(run.clone(), &stranger));
    assert_eq!(
        scene.table.state(&scene.chain).frame,
        1,
        "no operator: anyone"
    );

    let quit = scene.table.end(0, end_reason::QUIT);
    let player = scene.player(0);
    scene.accepts(&player, quit);
    scene.refuses(&operator, run, Fault::SessionStatus);

    let mut scene = Scene::open();
    let operator = scene.operator();
    let run = scene.table.run();
    scene.refuses(&operator, run, Fault::SessionStatus);
}

#[test]
fn pads_are_their_owners_alone() {
    let mut scene = Scene::playing();
    let (one, other, stranger) = (scene.player(0), scene.player(1), scene.stranger());
    let wallet = scene.table.wallets[0].insecure_clone();
    let press = |scene: &Scene, seat, sequence, pad| scene.table.submit(seat, sequence, pad);
    let call = press(&scene, 0, 1, Pad::default());
    scene.refuses(&stranger, by(call.clone(), &stranger), Fault::NotYourSeat);
    scene.refuses(&other, by(call.clone(), &other), Fault::NotYourSeat);
    scene.refuses(&wallet, by(call.clone(), &wallet), Fault::NotYourSeat);
    scene.accepts(&one, call.clone());
    scene.refuses(&one, call, Fault::StaleInput);
    let old = press(&scene, 0, 0, Pad::default());
    scene.refuses(&one, old, Fault::StaleInput);
    let far = press(&scene, 0, 1 + 0x8000, Pad::default());
    scene.refuses(&one, far, Fault::StaleInput);
    let bad = Pad {
        stick: [i16::MIN, 0],
        ..Pad::default()
    };
    let call = press(&scene, 0, 2, bad);
    scene.refuses(&one, call, Fault::BadPad);
    let bad = Pad {
        buttons: 0x80,
        ..Pad::default()
    };
    let call = press(&scene, 0, 2, bad);
    scene.refuses(&one, call, Fault::BadPad);
    let body = SubmitInput {
        seat: 2,
        sequence: 2,
        pad: Pad::default(),
    };
    let accounts = [scene.table.key(0), scene.table.session, scene.table.inputs];
    scene.refuses(
        &one,
        instruction(&body, &[], &accounts, &[]),
        Fault::NoSuchSeat,
    );
    let call = press(&scene, 0, 2, Pad::default());
    let state = scene.table.state;
    scene.refuses(&one, swap(call.clone(), 2, state), Fault::WrongAddress);
    scene.refuses(&one, swap(call, 1, state), Fault::WrongSize);
}

#[test]
fn a_seat_nobody_took_has_no_key() {
    let mut scene = Scene::open();
    // The key of an empty seat is zeros, which is the system program's address: it never signs, but a
    // rollup's operator may name it. The session key is checked together with the seat.
    let (player, stranger) = (scene.player(0), scene.stranger());
    let call = scene.table.submit(0, 1, Pad::default());
    scene.refuses(&player, call.clone(), Fault::NotYourSeat);
    scene.refuses(&stranger, by(call, &stranger), Fault::NotYourSeat);
    let call = scene.table.pick(0);
    scene.refuses(&player, call, Fault::NotYourSeat);
}

#[test]
fn signatures_are_for_frames_that_were_played() {
    let mut scene = Scene::playing();
    let one = scene.player(0);
    let sign = |scene: &Scene, seat: u8, frame: u32, padding: u8| {
        let padding = [padding, 0, 0];
        let signature = InputSignature {
            frame,
            seat,
            padding,
            signature: [7; 64],
        };
        let accounts = [scene.table.key(0), scene.table.session, scene.table.inputs];
        instruction(&SignInputs { signature }, &[], &accounts, &[])
    };
    let early = sign(&scene, 0, 1, 0);
    scene.refuses(&one, early, Fault::BadSignature);
    let mut chain_frames = 0;
    while chain_frames < 2 {
        scene.table.frame(&mut scene.chain).unwrap();
        chain_frames += 1;
    }
    let other = sign(&scene, 1, 1, 0);
    scene.refuses(&one, other, Fault::NotYourSeat);
    let none = sign(&scene, 2, 1, 0);
    scene.refuses(&one, none, Fault::NoSuchSeat);
    let padded = sign(&scene, 0, 1, 1);
    scene.refuses(&one, padded, Fault::BadSignature);
    let good = sign(&scene, 0, 2, 0);
    scene.accepts(&one, good.clone());
    scene.refuses(&one, good, Fault::BadSignature);
    let zero = sign(&scene, 0, 0, 0);
    scene.refuses(&one, zero, Fault::BadSignature);
}

#[test]
fn sitting_down_picking_and_being_ready() {
    let mut scene = Scene::open();
    let (wallets, stranger) = (
        scene.table.wallets.each_ref().map(Keypair::insecure_clone),
        scene.stranger(),
    );
    let join = |scene: &Scene, seat: u8, kind: u8, session_key| {
        let body = JoinSession {
            seat,
            kind,
            session_key,
        };
        let accounts = [
            scene.stranger.pubkey().to_bytes(),
            scene.table.session,
            scene.table.state,
        ];
        instruction(&body, &[], &accounts, &[])
    };
    for (seat, kind, key, fault) in [
        (2, seat::HUMAN, [1; 32], Fault::NoSuchSeat),
        (0, seat::FREE, [1; 32], Fault::BadSeat),
        (0, seat::POLICY + 1, [1; 32], Fault::BadSeat),
        (0, seat::HUMAN, [0; 32], Fault::BadSeat),
        (0, seat::GHOST, [1; 32], Fault::NotAllowed),
    ] {
        let call = join(&scene, seat, kind, key);
        scene.refuses(&stranger, call, fault);
    }
    let wrong = swap(scene.table.join(0), 2, scene.table.inputs);
    scene.refuses(&wallets[0], wrong, Fault::WrongAddress);
    let call = scene.table.join(0);
    scene.accepts(&wallets[0], call.clone());
    scene.refuses(&wallets[0], call, Fault::SeatTaken);
    let early = scene.table.say_ready(0);
    let players = [scene.player(0), scene.player(1)];
    scene.refuses(&players[0], early, Fault::SessionStatus);
    let call = scene.table.join(1);
    scene.accepts(&wallets[1], call);
    let late = join(&scene, 0, seat::HUMAN, [1; 32]);
    scene.refuses(&stranger, late, Fault::SessionStatus);

    let pick = scene.table.pick(0);
    scene.refuses(&stranger, by(pick.clone(), &stranger), Fault::NotYourSeat);
    scene.refuses(
        &players[1],
        by(pick.clone(), &players[1]),
        Fault::NotYourSeat,
    );
    let body = PickCharacter {
        seat: 2,
        character: 0,
    };
    let accounts = [scene.table.key(0), scene.table.session, scene.table.state];
    scene.refuses(
        &players[0],
        instruction(&body, &[], &accounts, &[]),
        Fault::NoSuchSeat,
    );
    let body = PickCharacter {
        seat: 0,
        character: 250,
    };
    scene.accepts(&players[0], instruction(&body, &[], &accounts, &[]));
    let ready = scene.table.say_ready(0);
    scene.refuses(&stranger, by(ready.clone(), &stranger), Fault::NotYourSeat);
    scene.accepts(&players[0], ready.clone());
    scene.refuses(&players[0], ready, Fault::AlreadyReady);
    scene.refuses(&players[0], pick, Fault::AlreadyReady);
    let last = scene.table.say_ready(1);
    let elsewhere = scene.table.inputs;
    scene.refuses(
        &players[1],
        swap(last.clone(), 3, elsewhere),
        Fault::WrongAddress,
    );
    scene
        .chain
        .forge(scene.table.session, |account| account.data[268] = 99);
    scene.refuses(&players[1], last, Fault::NoSuchStart);
}

#[test]
fn a_match_cannot_start_without_its_pages_or_past_its_clock() {
    let mut scene = Scene::with(|chain, world| {
        let table = Table::new(chain, world);
        chain
            .send(&[&table.payer], &[table.create(kernels::PLAIN)])
            .unwrap();
        table
    });
    for at in 0..2 {
        let (wallet, call) = (
            scene.table.wallets[at].insecure_clone(),
            scene.table.join(at as u8),
        );
        scene.accepts(&wallet, call);
        let (player, call) = (scene.player(at), scene.table.pick(at as u8));
        scene.accepts(&player, call);
    }
    let (one, two) = (scene.player(0), scene.player(1));
    let call = scene.table.say_ready(0);
    scene.accepts(&one, call);
    let last = scene.table.say_ready(1);
    scene.refuses(&two, last.clone(), Fault::PagesMissing);
    let (payer, call) = (scene.payer(), scene.table.create_pages(0));
    scene.accepts(&payer, call);
    scene.chain.forge(scene.table.session, |account| {
        account.data[264..268].fill(0xff)
    });
    scene.refuses(&two, last, Fault::NoSuchStart);
}

#[test]
fn leaving_a_match() {
    let mut scene = Scene::playing();
    let (one, stranger) = (scene.player(0), scene.stranger());
    let quit = scene.table.end(0, end_reason::QUIT);
    scene.refuses(&stranger, by(quit.clone(), &stranger), Fault::NotYourSeat);
    let other = scene.player(1);
    scene.refuses(&other, by(quit, &other), Fault::NotYourSeat);
    for reason in [end_reason::NONE, end_reason::STOCKS, end_reason::TIME, 9] {
        let call = scene.table.end(0, reason);
        scene.refuses(&one, call, Fault::BadReason);
    }
    let gone = scene.table.end(0, end_reason::ABANDONED);
    scene.refuses(&one, gone.clone(), Fault::NotAbandoned);
    let body = EndSession {
        seat: 2,
        reason: end_reason::QUIT,
    };
    let table = &scene.table;
    let accounts = [table.key(0), table.session, table.state, table.inputs];
    scene.refuses(
        &one,
        instruction(&body, &[], &accounts, &[]),
        Fault::NoSuchSeat,
    );
    // Fifteen seconds of silence later.
    let frame = ABANDONED_FRAMES + 1;
    scene.chain.forge(scene.table.state, |account| {
        account.data[4..8].copy_from_slice(&frame.to_le_bytes());
    });
    scene.accepts(&one, gone.clone());
    let state: SessionState = scene.table.state(&scene.chain);
    assert_eq!((state.status, state.winner), (status::ENDED, 0));
    scene.refuses(&one, gone, Fault::SessionStatus);
}

#[test]
fn a_session_is_closed_by_whom_it_belongs_to_when_it_is_over() {
    let mut scene = Scene::playing();
    let (payer, stranger) = (scene.payer(), scene.stranger());
    let pages = scene.table.pages.clone();
    let close = scene.table.close(&payer, &pages);
    scene.refuses(&payer, close.clone(), Fault::NotOver);
    let (operator, record) = (scene.operator(), scene.table.record());
    scene.refuses(&operator, record.clone(), Fault::SessionStatus);
    let (one, quit) = (scene.player(0), scene.table.end(0, end_reason::QUIT));
    scene.accepts(&one, quit);
    scene.refuses(&payer, close, Fault::NotOver);
    scene.accepts(&operator, record);
    let mine = scene.table.close(&stranger, &pages);
    let thief = stranger.pubkey().to_bytes();
    scene.refuses(&stranger, swap(mine.clone(), 1, thief), Fault::WrongAddress);
    for place in [3, 4] {
        scene.refuses(
            &stranger,
            swap(mine.clone(), place, thief),
            Fault::WrongAddress,
        );
    }
    let world = scene.table.state;
    scene.refuses(&stranger, swap(mine.clone(), 6, world), Fault::WrongAddress);
    scene.refuses(&stranger, swap(mine.clone(), 7, world), Fault::WrongSize);
    scene.accepts(&stranger, mine);

    // Nobody but its payer closes a session that was never played.
    let mut scene = Scene::open();
    let (payer, stranger) = (scene.payer(), scene.stranger());
    let pages = scene.table.pages.clone();
    let close = scene.table.close(&stranger, &pages);
    scene.refuses(&stranger, close, Fault::NotOver);
    let close = scene.table.close(&payer, &pages);
    scene.accepts(&payer, close);

    // A day later its payer and the world's owner may close a match that never ended.
    let mut scene = Scene::playing();
    let (owner, stranger) = (scene.owner(), scene.stranger());
    let pages = scene.table.pages.clone();
    scene.chain.forge(scene.table.session, |account| {
        account.data[256..264].copy_from_slice(&(-100_000i64).to_le_bytes());
    });
    let close = scene.table.close(&stranger, &pages);
    scene.refuses(&stranger, close, Fault::NotOver);
    let close = scene.table.close(&owner, &pages);
    scene.accepts(&owner, close);
}

#[test]
fn pages_and_frames_are_made_once_by_the_payer() {
    let mut scene = Scene::with(|chain, world| {
        let table = Table::new(chain, world);
        chain
            .send(&[&table.payer], &[table.create(kernels::PLAIN)])
            .unwrap();
        table
    });
    let (payer, stranger) = (scene.payer(), scene.stranger());
    let (pages, frame) = (scene.table.create_pages(0), scene.table.create_frame());
    scene.refuses(&stranger, by(pages.clone(), &stranger), Fault::NotAllowed);
    scene.refuses(&stranger, by(frame.clone(), &stranger), Fault::NotAllowed);
    let state = scene.table.state;
    scene.refuses(&payer, swap(pages.clone(), 2, state), Fault::WrongAddress);
    scene.refuses(
        &payer,
        swap(pages.clone(), 4, derive(&[b"elsewhere"])),
        Fault::WrongAddress,
    );
    let accounts = [
        scene.table.payer(),
        scene.table.session,
        scene.table.world,
        [0; 32],
    ];
    let later = instruction(
        &CreatePages { first: 1 },
        &[],
        &accounts,
        &[&scene.table.pages],
    );
    scene.refuses(&payer, later, Fault::OutOfRange);
    scene.accepts(&payer, pages.clone());
    scene.refuses(&payer, pages, Fault::OutOfRange);
    let more = derive(&address::page(&scene.table.session, &[1]));
    let more = instruction(&CreatePages { first: 1 }, &[], &accounts, &[&[more]]);
    scene.refuses(&payer, more, Fault::OutOfRange);
    scene.accepts(&payer, frame.clone());
    scene.refuses(&payer, frame, Fault::Exists);
    let again = scene.table.create(kernels::PLAIN);
    scene.refuses(&payer, again, Fault::Exists);
}

#[test]
fn a_session_needs_a_ready_world_its_owner_and_known_kernels() {
    let mut scene = Scene::open();
    let mut other = Table::new(&mut scene.chain, &scene.world);
    let payer = other.payer.insecure_clone();
    let stranger = scene.stranger.pubkey().to_bytes();
    scene.refuses(
        &payer,
        swap(other.create(0), 5, stranger),
        Fault::WrongAddress,
    );
    scene.refuses(&payer, other.create(3), Fault::BadKernels);
    for place in [1, 2, 3] {
        let elsewhere = derive(&[b"elsewhere"]);
        scene.refuses(
            &payer,
            swap(other.create(0), place, elsewhere),
            Fault::WrongAddress,
        );
    }
    scene
        .chain
        .forge(scene.world.world, |account| account.data[556] = 1);
    scene.refuses(&payer, other.create(0), Fault::WorldStatus);
    scene.chain.forge(scene.world.world, |account| {
        (account.data[556], account.data[63]) = (2, 1)
    });
    scene.refuses(&payer, other.create(0), Fault::BadModel);
    scene
        .chain
        .forge(scene.world.world, |account| account.data[63] = 0);
    other.id[0] = b'X';
    scene.refuses(&payer, other.create(0), Fault::WrongAddress);
}

#[test]
fn worlds_are_their_owners_alone() {
    let mut chain = Chain::rollup();
    let world = Upload::new(&mut chain, micro());
    let owner = world.owner.insecure_clone();
    let stranger = chain.person();
    let table = Table::new(&mut chain, &world);
    let mut scene = Scene {
        chain,
        world,
        table,
        stranger,
    };
    let stranger = scene.stranger();

    // What cannot be a world.
    let spoil = |scene: &Scene, at: usize, bytes: &[u8]| {
        let mut call = scene.world.create(0);
        call.data[17 + at..][..bytes.len()].copy_from_slice(bytes);
        call
    };
    for (at, bytes) in [
        (0, &[0][..]),
        (62, &[0]),
        (62, &[9]),
        (160, &[0; 4]),
        (160, &[0xff; 4]),
        (164, &[1]),
        (54, &[0; 2]),
        (54, &[65, 0]),
    ] {
        let call = spoil(&scene, at, bytes);
        scene.refuses(&owner, call, Fault::BadManifest);
    }
    let create = scene.world.create(0);
    scene.refuses(
        &stranger,
        by(create.clone(), &stranger),
        Fault::WrongAddress,
    );
    scene.accepts(&owner, create.clone());
    scene.refuses(&owner, create, Fault::Exists);

    // Shards: at their address, of their size, once.
    let [made, taken] = scene.world.create_shard(&scene.chain, 0);
    scene.refuses(&owner, taken.clone(), Fault::NotOurs);
    let nine = instruction(
        &worldline_abi::instruction::CreateShard { index: 9 },
        &[],
        &[
            scene.world.owner(),
            scene.world.world,
            scene.world.shards[0],
        ],
        &[],
    );
    scene.refuses(&owner, nine, Fault::OutOfRange);
    scene.accepts(&owner, made);
    scene.refuses(&stranger, by(taken.clone(), &stranger), Fault::NotAllowed);
    let elsewhere = derive(&[b"elsewhere"]);
    scene.refuses(
        &owner,
        swap(taken.clone(), 2, elsewhere),
        Fault::WrongAddress,
    );
    let early = scene.world.check(0, 1);
    scene.refuses(&owner, early, Fault::WorldStatus);
    let unmade = scene.world.write(0, 0, &[1]);
    scene.refuses(&owner, unmade, Fault::WrongKind);
    scene.accepts(&owner, taken.clone());
    scene.refuses(&owner, taken, Fault::Exists);

    // Writes.
    let write = scene.world.write(0, 0, &[1]);
    scene.refuses(&stranger, by(write.clone(), &stranger), Fault::NotAllowed);
    let bytes = scene.world.cartridge.shards()[0].len();
    for offset in [bytes, bytes - 1, u32::MAX as usize] {
        let call = scene.world.write(0, offset, &[1, 2]);
        scene.refuses(&owner, call, Fault::OutOfRange);
    }
    let world = scene.world.world;
    scene.refuses(&owner, swap(write, 2, world), Fault::WrongKind);

    // Checks, and what a finished world refuses.
    scene.world.fill(&mut scene.chain, 0);
    let check = scene.world.check(0, 40);
    scene.refuses(&stranger, by(check.clone(), &stranger), Fault::NotAllowed);
    scene.refuses(&owner, swap(check.clone(), 2, world), Fault::WrongAddress);
    scene.accepts(&owner, check.clone());
    scene.refuses(&owner, check, Fault::WorldStatus);
    let late = scene.world.write(0, 0, &[1]);
    scene.refuses(&owner, late, Fault::WorldStatus);
    let reopen = instruction(
        &worldline_abi::instruction::ReopenWorld {},
        &[],
        &[scene.world.owner(), world],
        &[],
    );
    scene.refuses(&owner, reopen, Fault::WorldStatus);
    let shards = scene.world.shards.clone();
    let retire = scene.world.retire(&shards);
    scene.refuses(&stranger, by(retire.clone(), &stranger), Fault::NotAllowed);
    scene.refuses(&owner, swap(retire, 2, world), Fault::SameAccount);
}

#[test]
fn a_fork_copies_its_parents_shards_and_no_others() {
    let mut scene = Scene::open();
    let fork = Upload::by(scene.chain.person(), 9, micro());
    let owner = fork.owner.insecure_clone();
    let body = ForkWorld {
        id: 9,
        ..ForkWorld::default()
    };
    let accounts = [fork.owner(), fork.world, scene.world.world, [0; 32]];
    let call = instruction(&body, &[], &accounts, &[]);
    scene
        .chain
        .forge(scene.world.world, |account| account.data[556] = 1);
    scene.refuses(&owner, call.clone(), Fault::WorldStatus);
    scene
        .chain
        .forge(scene.world.world, |account| account.data[556] = 2);
    scene.accepts(&owner, call);
    let made = fork.create_shard(&scene.chain, 0);
    scene.chain.send(&[&owner], &made).unwrap();
    let copy = |offset, bytes, source| {
        let accounts = [fork.owner(), fork.world, fork.shards[0], source];
        instruction(&CopyShard { offset, bytes }, &[], &accounts, &[])
    };
    let source = scene.world.shards[0];
    let bytes = fork.cartridge.shards()[0].len() as u32;
    for (offset, bytes) in [(1, bytes), (u32::MAX, u32::MAX), (bytes, 1)] {
        scene.refuses(&owner, copy(offset, bytes, source), Fault::OutOfRange);
    }
    let stranger = scene.stranger();
    scene.refuses(
        &stranger,
        by(copy(0, 1, source), &stranger),
        Fault::NotAllowed,
    );
    scene.refuses(&owner, copy(0, 1, scene.world.world), Fault::WrongKind);
    scene.chain.forge(source, |account| account.data[8] ^= 1);
    scene.refuses(&owner, copy(0, 1, source), Fault::WrongAddress);
}

#[test]
fn commits_are_asked_for_by_those_involved() {
    let mut scene = Scene::playing();
    let (stranger, one) = (scene.stranger(), scene.player(0));
    let commit = |scene: &Scene, undelegate| {
        let table = &scene.table;
        let accounts = [
            table.key(0),
            address::MAGIC_CONTEXT,
            address::MAGIC_PROGRAM,
            table.session,
            table.state,
        ];
        instruction(&Commit { undelegate }, &[], &accounts, &[&[table.state]])
    };
    let call = commit(&scene, 0);
    scene.refuses(&stranger, by(call.clone(), &stranger), Fault::NotAllowed);
    let giving = commit(&scene, 1);
    scene.refuses(&one, giving, Fault::NotOver);
    let elsewhere = derive(&[b"elsewhere"]);
    for (place, fault) in [
        (1, Fault::WrongAddress),
        (2, Fault::WrongAddress),
        (4, Fault::WrongAddress),
    ] {
        scene.refuses(&one, swap(call.clone(), place, elsewhere), fault);
    }
}

#[test]
fn results_are_scored_once_for_people() {
    let mut scene = Scene::playing();
    let (one, operator) = (scene.player(0), scene.operator());
    let quit = scene.table.end(0, end_reason::QUIT);
    scene.accepts(&one, quit);
    let record = scene.table.record();
    for place in [2, 3, 4] {
        let elsewhere = derive(&[b"elsewhere"]);
        scene.refuses(
            &operator,
            swap(record.clone(), place, elsewhere),
            Fault::WrongAddress,
        );
    }
    let elsewhere = derive(&[b"elsewhere"]);
    scene.refuses(
        &operator,
        swap(record.clone(), 5, elsewhere),
        Fault::WrongAddress,
    );
    scene.accepts(&operator, record);
    let wallet = scene.table.wallets[0].pubkey().to_bytes();
    let score = derive(&address::score(&scene.table.world, &wallet));
    let update = |scene: &Scene, seat, score| {
        let accounts = [scene.table.operator(), scene.table.result, score, [0; 32]];
        instruction(&UpdateScore { seat }, &[], &accounts, &[])
    };
    let call = update(&scene, 2, score);
    scene.refuses(&operator, call, Fault::NoSuchSeat);
    let call = update(&scene, 1, score);
    scene.refuses(&operator, call, Fault::WrongAddress);
    scene.chain.forge(scene.table.result, |account| {
        account.data[236] = seat::GHOST
    });
    let call = update(&scene, 0, score);
    scene.refuses(&operator, call, Fault::BadSeat);
}

#[test]
fn a_frame_in_parts_keeps_its_order() {
    let mut scene = Scene::with(|chain, world| Table::ready_in_parts(chain, world, kernels::PLAIN));
    let (operator, stranger) = (scene.operator(), scene.stranger());
    let (begin, layers, finish) = (
        scene.table.begin(),
        scene.table.layers(1),
        scene.table.finish(),
    );
    scene.refuses(&operator, layers.clone(), Fault::FrameOrder);
    scene.refuses(&operator, finish.clone(), Fault::FrameOrder);
    scene.refuses(&stranger, by(begin.clone(), &stranger), Fault::NotAllowed);
    assert_eq!(BeginFrame::ACCOUNTS[5].name, "frame");
    let state = scene.table.state;
    scene.refuses(
        &operator,
        swap(begin.clone(), 5, state),
        Fault::WrongAddress,
    );
    scene.accepts(&operator, begin.clone());
    scene.refuses(&operator, begin, Fault::FrameOrder);
    let many = scene.table.layers(3);
    scene.refuses(&operator, many, Fault::FrameOrder);
    let mut without = layers.clone();
    without.accounts.pop();
    scene.refuses(&operator, without, Fault::PagesMissing);
    scene.accepts(&operator, layers.clone());
    scene.refuses(&operator, finish.clone(), Fault::FrameOrder);
    scene.accepts(&operator, layers.clone());
    scene.refuses(&operator, layers, Fault::FrameOrder);
    // The match ends while the frame is on its way: it is not finished.
    let (one, quit) = (scene.player(0), scene.table.end(0, end_reason::QUIT));
    scene.accepts(&one, quit);
    scene.refuses(&operator, finish, Fault::SessionStatus);
}
