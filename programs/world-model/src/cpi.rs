//! Calls to other programs: the system program, and whoever else a handler names.
//!
//! `pinocchio`'s own helpers put a compiler fence before a call, for which the LLVM that our
//! registry toolchain brings has no instruction; so the call is made here, with its types.

use crate::accounts::{Done, rent, require};
use core::mem::MaybeUninit;
use pinocchio::cpi::{CpiAccount, Seed, Signer};
use pinocchio::error::ProgramError;
use pinocchio::instruction::InstructionAccount;
use pinocchio::{AccountView, Address};
use worldline_abi::Fault;

/// The system program.
pub(crate) const SYSTEM: Address = Address::new_from_array([0; 32]);
/// Accounts of a call, at most.
pub(crate) const MAX_CALL: usize = 40;

/// A call to another program. One argument, because Solana's machine passes five registers.
pub(crate) struct Invocation<'a> {
    pub(crate) program: &'a Address,
    /// Who is written to and signs.
    pub(crate) metas: &'a [InstructionAccount<'a>],
    /// The same accounts, in the same order.
    pub(crate) accounts: &'a [&'a AccountView],
    pub(crate) data: &'a [u8],
    /// Seeds of ours that sign.
    pub(crate) signers: &'a [Signer<'a, 'a>],
}

impl Invocation<'_> {
    /// Makes the call, unless something that it could change is borrowed.
    #[inline(never)]
    pub(crate) fn run(&self) -> Done {
        let count = self.metas.len();
        require(
            count == self.accounts.len() && count <= MAX_CALL,
            Fault::OutOfRange,
        )?;
        let mut views = [const { MaybeUninit::<CpiAccount<'_>>::uninit() }; MAX_CALL];
        for ((view, account), meta) in views.iter_mut().zip(self.accounts).zip(self.metas) {
            if meta.is_writable {
                account.check_borrow_mut()?;
            } else {
                account.check_borrow()?;
            }
            CpiAccount::init_from_account_view(account, view);
        }
        invoke(self, &views[..count]);
        Ok(())
    }
}

/// The runtime ends the transaction if the called program fails; there is no result to look at.
#[cfg(any(target_arch = "bpf", target_os = "solana"))]
#[allow(unsafe_code)]
#[inline(always)]
fn invoke(call: &Invocation<'_>, accounts: &[MaybeUninit<CpiAccount<'_>>]) {
    /// An instruction as `sol_invoke_signed_c` reads it.
    #[repr(C)]
    struct Instruction<'a> {
        program: *const Address,
        metas: *const InstructionAccount<'a>,
        meta_count: u64,
        data: *const u8,
        bytes: u64,
    }
    let instruction = Instruction {
        program: call.program,
        metas: call.metas.as_ptr(),
        meta_count: call.metas.len() as u64,
        data: call.data.as_ptr(),
        bytes: call.data.len() as u64,
    };
    // SAFETY: the pointers are those of slices that outlive the call, the lengths theirs; `run` has
    // filled the accounts and found none borrowed that the callee may write.
    unsafe {
        pinocchio::syscalls::sol_invoke_signed_c(
            (&raw const instruction).cast(),
            accounts.as_ptr().cast(),
            accounts.len() as u64,
            call.signers.as_ptr().cast(),
            call.signers.len() as u64,
        )
    };
}

#[cfg(not(any(target_arch = "bpf", target_os = "solana")))]
fn invoke(call: &Invocation<'_>, accounts: &[MaybeUninit<CpiAccount<'_>>]) {
    core::hint::black_box((call.program, call.data, call.signers, accounts));
}

/// Bytes of the longest call to the system program.
const SYSTEM_BYTES: usize = 52;

/// `CreateAccount`, as the system program numbers it.
const CREATE: u32 = 0;
/// `Assign`.
const ASSIGN: u32 = 1;
/// `Transfer`.
const TRANSFER: u32 = 2;
/// `Allocate`.
const ALLOCATE: u32 = 8;

/// Puts parts one after the other; the number of bytes.
fn join(parts: &[&[u8]], data: &mut [u8; SYSTEM_BYTES]) -> usize {
    let mut end = 0;
    for part in parts {
        data[end..end + part.len()].copy_from_slice(part);
        end += part.len();
    }
    end
}

/// A call to the system program.
fn system(
    metas: &[InstructionAccount<'_>],
    accounts: &[&AccountView],
    parts: &[&[u8]],
    signers: &[Signer<'_, '_>],
) -> Done {
    let mut data = [0; SYSTEM_BYTES];
    let bytes = join(parts, &mut data);
    Invocation {
        program: &SYSTEM,
        metas,
        accounts,
        data: &data[..bytes],
        signers,
    }
    .run()
}

/// Sends lamports; the sender has signed.
#[inline(never)]
pub(crate) fn transfer(from: &AccountView, to: &AccountView, lamports: u64) -> Done {
    let metas = [
        InstructionAccount::writable_signer(from.address()),
        InstructionAccount::writable(to.address()),
    ];
    system(
        &metas,
        &[from, to],
        &[&TRANSFER.to_le_bytes(), &lamports.to_le_bytes()],
        &[],
    )
}

/// Gives an account of the system program to `owner`; its seeds sign.
#[inline(never)]
pub(crate) fn assign(account: &AccountView, owner: &Address, seeds: &[Seed<'_>]) -> Done {
    let metas = [InstructionAccount::writable_signer(account.address())];
    let parts: [&[u8]; 2] = [&ASSIGN.to_le_bytes(), owner.as_array()];
    system(&metas, &[account], &parts, &[seeds.into()])
}

/// An account to be made.
pub(crate) struct Fresh<'a> {
    pub(crate) payer: &'a AccountView,
    pub(crate) account: &'a AccountView,
    pub(crate) owner: &'a Address,
    pub(crate) space: usize,
    pub(crate) seeds: &'a [Seed<'a>],
}

impl Fresh<'_> {
    /// Makes the account, all zeros; its seeds sign, its payer has signed.
    ///
    /// An address that somebody has sent lamports to before is filled up instead: nobody can keep
    /// an account from being made by paying for it.
    #[inline(never)]
    pub(crate) fn create(&self) -> Done {
        let (payer, account) = (self.payer, self.account);
        let due = rent(self.space)?;
        let space = (self.space as u64).to_le_bytes();
        if account.lamports() == 0 {
            let parts: [&[u8]; 4] = [
                &CREATE.to_le_bytes(),
                &due.to_le_bytes(),
                &space,
                self.owner.as_array(),
            ];
            let metas = [
                InstructionAccount::writable_signer(payer.address()),
                InstructionAccount::writable_signer(account.address()),
            ];
            return system(&metas, &[payer, account], &parts, &[self.seeds.into()]);
        }
        let missing = due.saturating_sub(account.lamports());
        if missing > 0 {
            transfer(payer, account, missing)?;
        }
        let metas = [InstructionAccount::writable_signer(account.address())];
        let parts: [&[u8]; 2] = [&ALLOCATE.to_le_bytes(), &space];
        system(&metas, &[account], &parts, &[self.seeds.into()])?;
        assign(account, self.owner, self.seeds)
    }
}

/// Closes an account of ours; its lamports go to `to`.
#[inline(never)]
pub(crate) fn close(account: &mut AccountView, to: &mut AccountView) -> Done {
    require(account.address() != to.address(), Fault::WrongAddress)?;
    require(account.is_writable(), Fault::NotWritable)?;
    let lamports = to
        .lamports()
        .checked_add(account.lamports())
        .ok_or(ProgramError::ArithmeticOverflow)?;
    to.set_lamports(lamports);
    account.set_lamports(0);
    Ok(account.close()?)
}
