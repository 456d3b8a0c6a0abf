//! Handing a session to a rollup and taking it back: MagicBlock's wire.
//!
//! The account's bytes wait in a buffer of ours while it changes owner; the delegation program
//! copies them back and writes its record. What gives an account back makes it anew at the same
//! seeds, with the bytes that the rollup committed.

use crate::accounts::{Call, Done, create, derive, is_at, is_ours, require, view};
use crate::cpi::{self, Fresh, Invocation, MAX_CALL};
use arrayvec::ArrayVec;
use pinocchio::cpi::{Seed, Signer};
use pinocchio::instruction::InstructionAccount;
use pinocchio::{AccountView, Address};
use worldline_abi::instruction::{Commit, Delegate, part};
use worldline_abi::{Fault, SessionAccount, SessionState, address, status};

/// The delegation program's `Delegate`.
const DELEGATE: [u8; 8] = [0; 8];
/// The magic program's `ScheduleCommit`.
const SCHEDULE_COMMIT: u32 = 1;
/// The magic program's `ScheduleCommitAndUndelegate`.
const SCHEDULE_COMMIT_AND_UNDELEGATE: u32 = 2;
/// Seeds of an account, its bump not counted, at most.
const SEEDS: usize = 3;
/// Bytes of a seed, at most.
const SEED_BYTES: usize = 32;
/// Bytes of a call to the delegation program, at most.
const DELEGATE_BYTES: usize = 8 + 4 + 4 + SEEDS * (4 + SEED_BYTES) + 1 + 32;

/// Seeds with their bump, as the runtime takes them.
fn signed<'a>(seeds: &[&'a [u8]], bump: &'a [u8; 1]) -> ArrayVec<Seed<'a>, { SEEDS + 1 }> {
    seeds
        .iter()
        .copied()
        .chain([&bump[..]])
        .map(Seed::from)
        .collect()
}

#[inline(never)]
pub(crate) fn delegate(call: Call<'_>, body: &Delegate, _: &[u8]) -> Done {
    let (program, accounts, _) = call.split::<8>()?;
    let payer = *accounts[0].address().as_array();
    let id = body.id;
    let (session, _) = derive(&address::session(&payer, &id), program)?;
    let index = [body.index];
    let seeds: ArrayVec<&[u8], SEEDS> = match body.part {
        part::SESSION => address::session(&payer, &id).into(),
        part::STATE => address::state(session.as_array()).into_iter().collect(),
        part::INPUTS => address::inputs(session.as_array()).into_iter().collect(),
        part::FRAME => address::frame(session.as_array()).into_iter().collect(),
        part::PAGE => address::page(session.as_array(), &index).into(),
        _ => return Err(Fault::OutOfRange.into()),
    };
    hand_over(program, accounts, &seeds, body)
}

#[inline(never)]
fn hand_over(
    program: &Address,
    accounts: &mut [AccountView; 8],
    seeds: &[&[u8]],
    body: &Delegate,
) -> Done {
    let [
        payer,
        account,
        owner_program,
        buffer,
        record,
        metadata,
        system,
        delegation,
    ] = accounts;
    let (expected, bump) = derive(seeds, program)?;
    is_at(account, expected.as_array())?;
    is_ours(account, program)?;
    is_at(owner_program, program.as_array())?;
    is_at(delegation, &address::DELEGATION_PROGRAM)?;

    // The bytes wait in a buffer that lives for this instruction only.
    let at = *account.address().as_array();
    create(buffer, payer, program, [b"buffer", &at], account.data_len())?;
    buffer
        .try_borrow_mut()?
        .copy_from_slice(&account.try_borrow()?);
    account.try_borrow_mut()?.fill(0);
    account.assign(&cpi::SYSTEM);
    let bump = [bump];
    let seed_list = signed(seeds, &bump);
    let owner = Address::new_from_array(address::DELEGATION_PROGRAM);
    cpi::assign(account, &owner, &seed_list)?;

    let data = delegate_data(seeds, body);
    let metas = [
        InstructionAccount::writable_signer(payer.address()),
        InstructionAccount::writable_signer(account.address()),
        InstructionAccount::readonly(owner_program.address()),
        InstructionAccount::writable(buffer.address()),
        InstructionAccount::writable(record.address()),
        InstructionAccount::writable(metadata.address()),
        InstructionAccount::readonly(system.address()),
    ];
    let views = [
        &*payer,
        &*account,
        &*owner_program,
        &*buffer,
        &*record,
        &*metadata,
        &*system,
    ];
    Invocation {
        program: delegation.address(),
        metas: &metas,
        accounts: &views,
        data: &data,
        signers: &[Signer::from(&seed_list[..])],
    }
    .run()?;
    cpi::close(buffer, payer)
}

/// `DelegateArgs` in Borsh: how often to commit, seeds, validator.
fn delegate_data(seeds: &[&[u8]], body: &Delegate) -> ArrayVec<u8, DELEGATE_BYTES> {
    let mut data = ArrayVec::new();
    let mut put = |bytes: &[u8]| data.extend(bytes.iter().copied());
    put(&DELEGATE);
    put(&{ body.commit_ms }.to_le_bytes());
    put(&(seeds.len() as u32).to_le_bytes());
    for seed in seeds {
        put(&(seed.len() as u32).to_le_bytes());
        put(seed);
    }
    if body.validator == [0; 32] {
        put(&[0]);
    } else {
        put(&[1]);
        put(&body.validator);
    }
    data
}

/// The delegation program's callback: makes the account anew from what was committed.
#[inline(never)]
pub(crate) fn give_back(program: &Address, accounts: &mut [AccountView], seeds: &[u8]) -> Done {
    let [account, buffer, payer, ..] = accounts else {
        return Err(Fault::TooFewAccounts.into());
    };
    let delegation = Address::new_from_array(address::DELEGATION_PROGRAM);
    let theirs = buffer.is_signer() && buffer.owned_by(&delegation);
    require(theirs, Fault::NotDelegation)?;
    let buffer_seeds = [b"undelegate-buffer", account.address().as_array() as &[u8]];
    let (expected, _) = derive(&buffer_seeds, &delegation)?;
    require(*buffer.address() == expected, Fault::NotDelegation)?;

    let seeds = read_seeds(seeds).ok_or(Fault::BadData)?;
    let (expected, bump) = derive(&seeds, program)?;
    is_at(account, expected.as_array())?;
    let bump = [bump];
    let seed_list = signed(&seeds, &bump);
    Fresh {
        payer,
        account,
        owner: program,
        space: buffer.data_len(),
        seeds: &seed_list,
    }
    .create()?;
    account
        .try_borrow_mut()?
        .copy_from_slice(&buffer.try_borrow()?);
    Ok(())
}

/// A Borsh `Vec<Vec<u8>>` of two or three seeds and nothing behind it.
fn read_seeds(bytes: &[u8]) -> Option<ArrayVec<&[u8], SEEDS>> {
    let word = |bytes: &mut &[u8]| {
        let (word, rest) = bytes.split_first_chunk()?;
        *bytes = rest;
        Some(u32::from_le_bytes(*word) as usize)
    };
    let mut rest = bytes;
    let mut seeds = ArrayVec::new();
    for _ in 0..word(&mut rest)? {
        let length = word(&mut rest).filter(|length| *length <= SEED_BYTES)?;
        let (seed, after) = rest.split_at_checked(length)?;
        rest = after;
        seeds.try_push(seed).ok()?;
    }
    rest.is_empty().then_some(seeds)
}

#[inline(never)]
pub(crate) fn commit(call: Call<'_>, body: &Commit, _: &[u8]) -> Done {
    let (program, [payer, context, magic, session, state], committed) = call.split::<5>()?;
    is_at(magic, &address::MAGIC_PROGRAM)?;
    is_at(context, &address::MAGIC_CONTEXT)?;
    {
        let book = view::<SessionAccount>(session, program)?;
        is_at(state, &book.state)?;
        let status = view::<SessionState>(state, program)?.status;
        let signer = payer.address().as_array();
        let of = &book.session;
        let own = *signer == of.payer;
        let involved = own
            || *signer == book.operator
            || of.wallets.contains(signer)
            || of.session_keys.contains(signer);
        require(involved, Fault::NotAllowed)?;
        let over = status == status::ENDED || (own && status < status::ACTIVE);
        require(body.undelegate == 0 || over, Fault::NotOver)?;
    }
    let kind = match body.undelegate {
        0 => SCHEDULE_COMMIT,
        _ => SCHEDULE_COMMIT_AND_UNDELEGATE,
    };
    schedule(payer, context, magic, committed, kind)
}

#[inline(always)] // A sixth argument would not fit the registers.
fn schedule(
    payer: &AccountView,
    context: &AccountView,
    magic: &AccountView,
    committed: &[AccountView],
    kind: u32,
) -> Done {
    require(committed.len() <= MAX_CALL - 2, Fault::OutOfRange)?;
    let mut metas: ArrayVec<InstructionAccount<'_>, MAX_CALL> = ArrayVec::new();
    metas.push(InstructionAccount::writable_signer(payer.address()));
    metas.push(InstructionAccount::writable(context.address()));
    let mut views: ArrayVec<&AccountView, MAX_CALL> = [payer, context].into_iter().collect();
    for account in committed {
        metas.push(InstructionAccount::new(
            account.address(),
            account.is_writable(),
            false,
        ));
        views.push(account);
    }
    let data = kind.to_le_bytes();
    Invocation {
        program: magic.address(),
        metas: &metas,
        accounts: &views,
        data: &data,
        signers: &[],
    }
    .run()
}
