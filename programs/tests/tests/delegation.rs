//! Handing accounts to a rollup and taking them back, with MagicBlock's own delegation program.
//!
//! That program is not ours to ship: it comes in an npm package. Where it is missing, these tests say
//! so and pass; `DELEGATION_ELF` names it elsewhere.

use solana_address::Address;
use solana_instruction::{AccountMeta, Instruction as Call};
use solana_keypair::Keypair;
use solana_signer::Signer;
use worldline_abi::instruction::{Delegate, UNDELEGATE_CALLBACK, part};
use worldline_abi::{Fault, SessionState, address, kernels};
use worldline_program_tests::{Chain, Table, Upload, derive, instruction, key, micro};

const PACKAGED: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../delegation/node_modules/@magicblock-labs/ephemeral-validator/bin/local-dumps/",
    "DELeGGvXpWV2fqJUhqcF5ZSYMS4JTLjteaAMARRSaeSh.so"
);
const COMMIT_FINALIZE: u64 = 21;
const UNDELEGATE: u64 = 3;
const INIT_PROTOCOL_VAULT: u64 = 5;

/// A chain with the delegation program; `None` where it cannot be had.
fn chain() -> Option<Chain> {
    let path = std::env::var("DELEGATION_ELF").unwrap_or_else(|_| PACKAGED.into());
    let Ok(elf) = std::fs::read(&path) else {
        println!("SKIPPED: no delegation program at {path}");
        return None;
    };
    let mut chain = Chain::rollup();
    let program = key(address::DELEGATION_PROGRAM);
    chain.svm.add_program(program, &elf).expect("it loads");
    Some(chain)
}

/// An address of the delegation program.
fn theirs(seed: &[u8], of: &[u8]) -> (Address, u8) {
    let seeds: &[&[u8]] = if of.is_empty() { &[seed] } else { &[seed, of] };
    Address::find_program_address(seeds, &key(address::DELEGATION_PROGRAM))
}

/// `Delegate` of an account.
fn delegate(table: &Table, at: address::Address, part: u8, index: u8, to: &Keypair) -> Call {
    let body = Delegate {
        id: table.id,
        part,
        index,
        commit_ms: u32::MAX,
        validator: to.pubkey().to_bytes(),
    };
    let accounts = [
        table.payer(),
        at,
        address::PROGRAM_ID,
        derive(&[b"buffer", &at]),
        theirs(b"delegation", &at).0.to_bytes(),
        theirs(b"delegation-metadata", &at).0.to_bytes(),
        [0; 32],
        address::DELEGATION_PROGRAM,
    ];
    instruction(&body, &[], &accounts, &[])
}

/// The rollup's commit of one changed byte, with leave to give the account back.
fn commit(
    by: &Keypair,
    at: address::Address,
    lamports: u64,
    bytes: usize,
    change: (u32, u8),
) -> Call {
    let (record, metadata) = (
        theirs(b"delegation", &at),
        theirs(b"delegation-metadata", &at),
    );
    let vault = theirs(b"v-fees-vault", by.pubkey().as_ref());
    let mut data = COMMIT_FINALIZE.to_le_bytes().to_vec();
    data.extend(1u64.to_le_bytes());
    data.extend(lamports.to_le_bytes());
    data.extend([1, 1, record.1, metadata.1, vault.1, 0, 0, 0]);
    // A diff: length, one run at byte 0 of what follows and at its place, then the byte.
    for word in [bytes as u32, 1, 0, change.0] {
        data.extend(word.to_le_bytes());
    }
    data.push(change.1);
    let accounts = vec![
        AccountMeta::new(by.pubkey(), true),
        AccountMeta::new(key(at), false),
        AccountMeta::new(record.0, false),
        AccountMeta::new(metadata.0, false),
        AccountMeta::new(vault.0, false),
        AccountMeta::new_readonly(key([0; 32]), false),
    ];
    Call {
        program_id: key(address::DELEGATION_PROGRAM),
        accounts,
        data,
    }
}

/// The rollup gives an account back.
fn undelegate(by: &Keypair, at: address::Address, payer: address::Address) -> Call {
    let of = |seed: &[u8]| theirs(seed, &at).0;
    let accounts = vec![
        AccountMeta::new(by.pubkey(), true),
        AccountMeta::new(key(at), false),
        AccountMeta::new_readonly(key(address::PROGRAM_ID), false),
        AccountMeta::new(of(b"undelegate-buffer"), false),
        AccountMeta::new_readonly(of(b"state-diff"), false),
        AccountMeta::new_readonly(of(b"commit-state-record"), false),
        AccountMeta::new(of(b"delegation"), false),
        AccountMeta::new(of(b"delegation-metadata"), false),
        AccountMeta::new(key(payer), false),
        AccountMeta::new(theirs(b"fees-vault", &[]).0, false),
        AccountMeta::new(theirs(b"v-fees-vault", by.pubkey().as_ref()).0, false),
        AccountMeta::new_readonly(key([0; 32]), false),
    ];
    let data = UNDELEGATE.to_le_bytes().to_vec();
    Call {
        program_id: key(address::DELEGATION_PROGRAM),
        accounts,
        data,
    }
}

/// The vaults that the delegation program pays fees into.
fn make_vaults(chain: &mut Chain, validator: &Keypair) {
    let accounts = vec![
        AccountMeta::new(validator.pubkey(), true),
        AccountMeta::new(theirs(b"fees-vault", &[]).0, false),
        AccountMeta::new_readonly(key([0; 32]), false),
    ];
    let data = INIT_PROTOCOL_VAULT.to_le_bytes().to_vec();
    let call = Call {
        program_id: key(address::DELEGATION_PROGRAM),
        accounts,
        data,
    };
    chain
        .send(&[validator], &[call])
        .expect("the protocol's vault");
    // The validator's own is for MagicBlock to open.
    let vault = theirs(b"v-fees-vault", validator.pubkey().as_ref())
        .0
        .to_bytes();
    chain.forge(vault, |account| {
        account.lamports = 10_000_000;
        account.owner = key(address::DELEGATION_PROGRAM);
    });
}

#[test]
fn every_part_of_a_session_is_lent_and_given_back_with_what_was_committed() {
    let Some(mut chain) = chain() else { return };
    let world = Upload::new(&mut chain, micro()).finish(&mut chain);
    let table = Table::new(&mut chain, &world);
    let payer = table.payer.insecure_clone();
    table.open(&mut chain, kernels::PLAIN);
    chain.send(&[&payer], &[table.create_frame()]).unwrap();
    let validator = chain.person();
    make_vaults(&mut chain, &validator);
    let parts = [
        (table.session, part::SESSION, 500),
        (table.state, part::STATE, 4),
        (table.inputs, part::INPUTS, 250),
        (table.frame, part::FRAME, 100),
        (table.pages[0], part::PAGE, 9_000),
    ];
    let owner = |chain: &Chain, at| chain.svm.get_account(&key(at)).unwrap().owner;
    for (at, part, change) in parts {
        let before = chain.data(at);
        let lamports = chain.lamports(at);
        chain
            .send(&[&payer], &[delegate(&table, at, part, 0, &validator)])
            .unwrap();
        assert_eq!(
            owner(&chain, at),
            key(address::DELEGATION_PROGRAM),
            "part {part} is lent"
        );
        assert_eq!(chain.data(at), before, "its bytes stay readable");
        assert!(
            !chain.exists(derive(&[b"buffer", &at])),
            "the buffer is closed"
        );

        let call = commit(&validator, at, lamports, before.len(), (change, 0xA5));
        chain.send(&[&validator], &[call]).unwrap();
        chain
            .send(&[&validator], &[undelegate(&validator, at, table.payer())])
            .unwrap();
        assert_eq!(
            owner(&chain, at),
            key(address::PROGRAM_ID),
            "part {part} is back"
        );
        let mut expected = before;
        expected[change as usize] = 0xA5;
        assert_eq!(chain.data(at), expected);
    }
}

#[test]
fn a_stranger_cannot_lend_what_is_not_his() {
    let Some(mut chain) = chain() else { return };
    let world = Upload::new(&mut chain, micro()).finish(&mut chain);
    let table = Table::new(&mut chain, &world);
    table.open(&mut chain, kernels::PLAIN);
    let stranger = chain.person();
    let mut call = delegate(&table, table.state, part::STATE, 0, &stranger);
    call.accounts[0].pubkey = stranger.pubkey();
    let refused = chain.send(&[&stranger], &[call]).unwrap_err();
    assert_eq!(refused.fault, Some(Fault::WrongAddress));
}

/// Without the delegation program on the chain at all: its callback is what anyone may send.
#[test]
fn a_forged_callback_makes_no_account() {
    let mut chain = Chain::l1();
    let world = Upload::new(&mut chain, micro()).finish(&mut chain);
    let table = Table::new(&mut chain, &world);
    let forger = chain.person();
    let buffer = chain.person();
    chain.forge(buffer.pubkey().to_bytes(), |account| {
        account.data = vec![7; size_of::<SessionState>()];
        account.lamports = 10_000_000;
    });
    let mut data = UNDELEGATE_CALLBACK.to_vec();
    let seeds: [&[u8]; 2] = [b"state", &table.session];
    data.extend(2u32.to_le_bytes());
    for seed in seeds {
        data.extend((seed.len() as u32).to_le_bytes());
        data.extend(seed);
    }
    let call = Call {
        program_id: key(address::PROGRAM_ID),
        accounts: vec![
            AccountMeta::new(key(table.state), false),
            AccountMeta::new_readonly(buffer.pubkey(), true),
            AccountMeta::new(forger.pubkey(), true),
            AccountMeta::new_readonly(key([0; 32]), false),
        ],
        data,
    };
    let owned = chain
        .send(&[&forger, &buffer], std::slice::from_ref(&call))
        .unwrap_err();
    assert_eq!(
        owned.fault,
        Some(Fault::NotDelegation),
        "a buffer of nobody's"
    );
    // An account that the delegation program owns and whose key somebody holds is still not the
    // buffer that it makes for this account.
    chain.forge(buffer.pubkey().to_bytes(), |account| {
        account.owner = key(address::DELEGATION_PROGRAM);
    });
    let signed = chain.send(&[&forger, &buffer], &[call]).unwrap_err();
    assert_eq!(
        signed.fault,
        Some(Fault::NotDelegation),
        "not the account's own buffer"
    );
    assert!(!chain.exists(table.state));
}
