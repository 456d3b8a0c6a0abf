//! What every handler asks of its accounts, and how it says no.

use crate::cpi::{self, Fresh};
use pinocchio::account::{Ref, RefMut};
use pinocchio::cpi::Seed;
use pinocchio::error::ProgramError;
use pinocchio::sysvars::{Sysvar, clock::Clock, rent::Rent};
use pinocchio::{AccountView, Address};
use worldline_abi::instruction::{AccountSpec, Instruction};
use worldline_abi::{Fault, Layout, LayoutError, address};

/// Why a handler stopped.
pub(crate) enum Refusal {
    /// One of ours.
    Fault(Fault),
    /// The runtime's.
    Runtime(ProgramError),
}

pub(crate) type Done<T = ()> = Result<T, Refusal>;

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<ProgramError> for Refusal {
    fn from(error: ProgramError) -> Self {
        match error {
            // Nothing is borrowed twice but an account that was passed twice.
            ProgramError::AccountBorrowFailed => Self::Fault(Fault::SameAccount),
            other => Self::Runtime(other),
        }
    }
}

impl From<LayoutError> for Refusal {
    fn from(error: LayoutError) -> Self {
        Self::Fault(match error {
            LayoutError::Length { .. } => Fault::WrongSize,
            LayoutError::Misaligned { .. }
            | LayoutError::Kind { .. }
            | LayoutError::Version { .. } => Fault::WrongKind,
        })
    }
}

impl Refusal {
    /// Logs the fault's name and gives the runtime its error.
    #[inline(never)]
    pub(crate) fn tell(self) -> ProgramError {
        match self {
            Self::Fault(fault) => {
                crate::syscall::log(fault.name());
                ProgramError::Custom(fault.code())
            }
            Self::Runtime(error) => error,
        }
    }
}

/// An instruction on its way to its handler.
pub(crate) struct Call<'a> {
    pub(crate) program: &'a Address,
    pub(crate) accounts: &'a mut [AccountView],
    data: &'a [u8],
}

impl<'a> Call<'a> {
    pub(crate) fn new(
        program: &'a Address,
        accounts: &'a mut [AccountView],
        data: &'a [u8],
    ) -> Self {
        Self {
            program,
            accounts,
            data,
        }
    }

    /// The body and the bytes behind it, once the accounts at the start are as the interface asks.
    #[inline(always)]
    pub(crate) fn body<I: Instruction>(&self) -> Done<(&'a I, &'a [u8])> {
        signed_and_writable(self.accounts, I::ACCOUNTS)?;
        let data = self.data.get(1..).unwrap_or(&[]);
        Ok(worldline_abi::instruction::decode(data).ok_or(Fault::BadData)?)
    }

    /// The first `N` accounts and the rest.
    #[inline(always)]
    pub(crate) fn split<const N: usize>(
        self,
    ) -> Done<(&'a Address, &'a mut [AccountView; N], &'a mut [AccountView])> {
        let (fixed, rest) = self
            .accounts
            .split_first_chunk_mut()
            .ok_or(Fault::TooFewAccounts)?;
        Ok((self.program, fixed, rest))
    }
}

/// Calls the handler whose instruction has the tag.
macro_rules! dispatch {
    ($call:expr, $tag:expr, { $($instruction:ident => $handler:path,)* }) => {
        match $tag {
            $(Some(<is::$instruction as is::Instruction>::TAG) => {
                let (body, tail) = $call.body::<is::$instruction>()?;
                $handler($call, body, tail)
            })*
            _ => Err(worldline_abi::Fault::UnknownInstruction.into()),
        }
    };
}
pub(crate) use dispatch;

#[inline(never)]
fn signed_and_writable(accounts: &[AccountView], specs: &[AccountSpec]) -> Done {
    if accounts.len() < specs.len() {
        return Err(Fault::TooFewAccounts.into());
    }
    for (account, spec) in accounts.iter().zip(specs) {
        if spec.signer && !account.is_signer() {
            return Err(Fault::NotSigned.into());
        }
        if spec.writable && !account.is_writable() {
            return Err(Fault::NotWritable.into());
        }
    }
    Ok(())
}

/// Refuses when `holds` is false.
#[inline(always)]
pub(crate) fn require(holds: bool, fault: Fault) -> Done {
    if holds { Ok(()) } else { Err(fault.into()) }
}

/// The account stands at this address.
#[inline(always)]
pub(crate) fn is_at(account: &AccountView, address: &address::Address) -> Done {
    require(account.address().as_array() == address, Fault::WrongAddress)
}

/// The signer is the one with this address.
#[inline(always)]
pub(crate) fn allow(signer: &AccountView, address: &address::Address) -> Done {
    require(signer.address().as_array() == address, Fault::NotAllowed)
}

/// The account belongs to this program.
#[inline(always)]
pub(crate) fn is_ours(account: &AccountView, program: &Address) -> Done {
    require(account.owned_by(program), Fault::NotOurs)
}

/// The account as its layout: ours, of its size, with its discriminator.
#[inline(always)]
pub(crate) fn view<'a, T: Layout>(account: &'a AccountView, program: &Address) -> Done<Ref<'a, T>> {
    is_ours(account, program)?;
    Ref::try_map(account.try_borrow()?, worldline_abi::view).map_err(|(_, error)| error.into())
}

/// [`view`], to be written to.
#[inline(always)]
pub(crate) fn edit<'a, T: Layout>(
    account: &'a mut AccountView,
    program: &Address,
) -> Done<RefMut<'a, T>> {
    is_ours(account, program)?;
    require(account.is_writable(), Fault::NotWritable)?;
    RefMut::try_map(account.try_borrow_mut()?, worldline_abi::view_mut)
        .map_err(|(_, error)| error.into())
}

/// [`view`] of an account whose layout is a header that more bytes follow.
#[inline(always)]
pub(crate) fn header<'a, T: Layout>(
    account: &'a AccountView,
    program: &Address,
) -> Done<Ref<'a, T>> {
    is_ours(account, program)?;
    let data = account.try_borrow()?;
    Ref::try_map(data, |bytes| {
        worldline_abi::split(bytes).map(|(head, _)| head)
    })
    .map_err(|(_, error)| error.into())
}

/// Splits the bytes of an account into its header and what follows, both to be written to.
#[inline(always)]
pub(crate) fn split_mut<T: Layout>(bytes: &mut [u8]) -> Done<(&mut T, &mut [u8])> {
    let (head, rest) = bytes
        .split_at_mut_checked(size_of::<T>())
        .ok_or(Fault::WrongSize)?;
    Ok((worldline_abi::view_mut(head)?, rest))
}

/// The address of seeds, and the bump that takes it off the curve.
#[inline(never)]
pub(crate) fn derive(seeds: &[&[u8]], program: &Address) -> Done<(Address, u8)> {
    Ok(Address::try_find_program_address(seeds, program).ok_or(Fault::WrongAddress)?)
}

/// Makes an account of `space` zeros at the address of `seeds`, its rent paid by `payer`.
///
/// An address that somebody has sent lamports to before can still be taken.
#[inline(never)]
pub(crate) fn create<const N: usize>(
    account: &mut AccountView,
    payer: &AccountView,
    program: &Address,
    seeds: [&[u8]; N],
    space: usize,
) -> Done {
    let (found, bump) = derive(&seeds, program)?;
    require(*account.address() == found, Fault::WrongAddress)?;
    require(
        account.data_len() == 0 && account.owned_by(&cpi::SYSTEM),
        Fault::Exists,
    )?;
    let bump = [bump];
    let mut all: [Seed<'_>; 4] = core::array::from_fn(|_| Seed::from(&[] as &[u8]));
    for (place, seed) in all.iter_mut().zip(seeds) {
        *place = Seed::from(seed);
    }
    all[N] = Seed::from(&bump[..]);
    Fresh {
        payer,
        account,
        owner: program,
        space,
        seeds: &all[..=N],
    }
    .create()
}

/// Seconds of Unix time, as the chain knows it.
#[inline(never)]
pub(crate) fn now() -> Done<i64> {
    Ok(Clock::get()?.unix_timestamp)
}

/// Lamports that keep an account of so many bytes.
#[inline(never)]
pub(crate) fn rent(bytes: usize) -> Done<u64> {
    Ok(Rent::get()?.try_minimum_balance(bytes)?)
}
