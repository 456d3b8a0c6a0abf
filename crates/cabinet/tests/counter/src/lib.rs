//! An account that counts. It can be lent to a rollup, committed and given back: what the cabinet's
//! tests run instead of a game.
//!
//! | data | does | accounts |
//! |---|---|---|
//! | `0, bump, size u16` | creates the counter of the payer | payer, counter, system |
//! | `1, bump, commit ms u32, validator` | lends it | payer, counter, this program, buffer, record, metadata, system, delegation |
//! | `2, u64` | adds to its first eight bytes | counter |
//! | `3` / `4` | commits / commits and gives back | payer, counter, context, magic |
//! | `5, u8` | fills all behind the first eight bytes | counter |
//! | `6, interval i64, iterations i64` | has the rollup add 1 again and again | payer, counter, magic |
//! | `7` | takes a lamport from the counter | payer, counter |
//! | the delegation program's callback | takes it back | counter, buffer, payer, system |
#![no_std]

use core::mem::MaybeUninit;
use pinocchio::cpi::{CpiAccount, Seed, Signer};
use pinocchio::error::ProgramError;
use pinocchio::instruction::InstructionAccount as Meta;
use pinocchio::{AccountView, Address, ProgramResult};

pinocchio::program_entrypoint!(process, 16);
pinocchio::no_allocator!();
pinocchio::nostd_panic_handler!();

const SEED: &[u8] = b"counter";
const SYSTEM: Address = Address::new_from_array([0; 32]);
const CALLBACK: [u8; 8] = [196, 28, 41, 206, 48, 37, 51, 167];

/// Lamports that make `size` bytes rent-exempt.
fn rent(size: usize) -> u64 {
    (128 + size as u64) * 6960
}

fn process(program: &Address, accounts: &mut [AccountView], data: &[u8]) -> ProgramResult {
    if let Some(seeds) = data.strip_prefix(&CALLBACK) {
        return take_back(program, accounts, &seeds);
    }
    let bad = Err(ProgramError::InvalidInstructionData);
    match (data, accounts) {
        ([0, bump, low, high], [payer, counter, ..]) => {
            let size = usize::from(u16::from_le_bytes([*low, *high]));
            create(&New {
                payer,
                account: counter,
                owner: program,
                size,
                id: payer.address().as_array(),
                bump: *bump,
            })
        }
        (
            [1, bump, rest @ ..],
            [
                payer,
                counter,
                this,
                buffer,
                record,
                metadata,
                system,
                delegation,
            ],
        ) => lend(
            program,
            &mut [
                payer, counter, this, buffer, record, metadata, system, delegation,
            ],
            *bump,
            &rest,
        ),
        ([2, by @ ..], [counter, ..]) if by.len() == 8 => add(program, counter, by),
        ([what @ (3 | 4)], [payer, counter, context, magic]) => {
            let metas = [
                Meta::writable_signer(payer.address()),
                Meta::writable(context.address()),
                Meta::writable(counter.address()),
            ];
            call(&Call {
                program: magic.address(),
                metas: &metas,
                accounts: &[payer, context, counter],
                data: &[what - 2, 0, 0, 0],
                signers: &[],
            })
        }
        ([5, byte], [counter, ..]) => {
            own(program, counter)?;
            counter.try_borrow_mut()?[8..].fill(*byte);
            Ok(())
        }
        ([6, numbers @ ..], [payer, counter, magic]) if numbers.len() == 16 => {
            schedule(program, &[payer, counter, magic], numbers)
        }
        ([7], [payer, counter]) => {
            own(program, counter)?;
            counter.set_lamports(counter.lamports() - 1);
            payer.set_lamports(payer.lamports() + 1);
            Ok(())
        }
        _ => bad,
    }
}

fn own(program: &Address, counter: &AccountView) -> ProgramResult {
    if counter.owned_by(program) {
        Ok(())
    } else {
        Err(ProgramError::InvalidAccountOwner)
    }
}

#[inline(never)]
fn add(program: &Address, counter: &mut AccountView, by: &[u8]) -> ProgramResult {
    own(program, counter)?;
    let mut data = counter.try_borrow_mut()?;
    let word = |bytes: &[u8]| {
        u64::from_le_bytes([
            bytes[0], bytes[1], bytes[2], bytes[3], bytes[4], bytes[5], bytes[6], bytes[7],
        ])
    };
    let sum = word(&data).wrapping_add(word(by));
    data[..8].copy_from_slice(&sum.to_le_bytes());
    Ok(())
}

/// A counter to be created. Functions take few arguments: the machine has five registers for them.
struct New<'a> {
    payer: &'a AccountView,
    account: &'a AccountView,
    owner: &'a Address,
    size: usize,
    id: &'a [u8; 32],
    bump: u8,
}

/// The system program's `CreateAccount`, signed by the counter's seeds.
#[inline(never)]
fn create(new: &New) -> ProgramResult {
    let New {
        payer,
        account,
        owner,
        size,
        id,
        bump,
    } = *new;
    let mut data = [0; 52];
    data[4..12].copy_from_slice(&rent(size).to_le_bytes());
    data[12..20].copy_from_slice(&(size as u64).to_le_bytes());
    data[20..].copy_from_slice(owner.as_array());
    let metas = [
        Meta::writable_signer(payer.address()),
        Meta::writable_signer(account.address()),
    ];
    let bump = [bump];
    let seeds = [Seed::from(SEED), Seed::from(&id[..]), Seed::from(&bump)];
    call(&Call {
        program: &SYSTEM,
        metas: &metas,
        accounts: &[payer, account],
        data: &data,
        signers: &[Signer::from(&seeds)],
    })
}

/// Hands the counter to the delegation program; its bytes wait in a buffer meanwhile.
#[inline(never)]
fn lend(
    program: &Address,
    accounts: &mut [&mut AccountView; 8],
    bump: u8,
    rest: &&[u8],
) -> ProgramResult {
    let [
        payer,
        counter,
        this,
        buffer,
        record,
        metadata,
        system,
        delegation,
    ] = accounts;
    own(program, counter)?;
    let id = *payer.address().as_array();
    let bump = [bump];
    let seeds = [Seed::from(SEED), Seed::from(&id[..]), Seed::from(&bump)];

    let at = *counter.address().as_array();
    let (_, buffer_bump) = Address::find_program_address(&[b"buffer", &at], program);
    let buffer_bump = [buffer_bump];
    let buffer_seeds = [
        Seed::from(b"buffer"),
        Seed::from(&at[..]),
        Seed::from(&buffer_bump),
    ];
    let mut data = [0; 52];
    data[4..12].copy_from_slice(&rent(counter.data_len()).to_le_bytes());
    data[12..20].copy_from_slice(&(counter.data_len() as u64).to_le_bytes());
    data[20..].copy_from_slice(program.as_array());
    let metas = [
        Meta::writable_signer(payer.address()),
        Meta::writable_signer(buffer.address()),
    ];
    call(&Call {
        program: &SYSTEM,
        metas: &metas,
        accounts: &[&*payer, &*buffer],
        data: &data,
        signers: &[Signer::from(&buffer_seeds)],
    })?;
    buffer
        .try_borrow_mut()?
        .copy_from_slice(&counter.try_borrow()?);
    counter.try_borrow_mut()?.fill(0);

    counter.assign(&SYSTEM);
    let mut assign = [0; 36];
    assign[0] = 1;
    assign[4..].copy_from_slice(delegation.address().as_array());
    call(&Call {
        program: &SYSTEM,
        metas: &[Meta::writable_signer(counter.address())],
        accounts: &[&*counter],
        data: &assign,
        signers: &[Signer::from(&seeds)],
    })?;

    // Discriminator 0, commit interval, two seeds, validator.
    let mut data = [0; 8 + 4 + 4 + 4 + 7 + 4 + 32 + 1 + 32];
    data[8..12].copy_from_slice(&rest[..4]);
    data[12] = 2;
    data[16] = SEED.len() as u8;
    data[20..27].copy_from_slice(SEED);
    data[27] = 32;
    data[31..63].copy_from_slice(&id);
    data[63] = 1;
    data[64..].copy_from_slice(&rest[4..]);
    let metas = [
        Meta::writable_signer(payer.address()),
        Meta::writable_signer(counter.address()),
        Meta::readonly(this.address()),
        Meta::writable(buffer.address()),
        Meta::writable(record.address()),
        Meta::writable(metadata.address()),
        Meta::readonly(system.address()),
    ];
    let views: [&AccountView; 7] = [payer, counter, this, buffer, record, metadata, system];
    call(&Call {
        program: delegation.address(),
        metas: &metas,
        accounts: &views,
        data: &data,
        signers: &[Signer::from(&seeds)],
    })?;
    payer.set_lamports(payer.lamports() + buffer.lamports());
    buffer.set_lamports(0);
    buffer.close()
}

/// Asks the magic program to run `[2, 1u64]` again and again.
#[inline(never)]
fn schedule(program: &Address, accounts: &[&mut AccountView; 3], numbers: &[u8]) -> ProgramResult {
    let [payer, counter, magic] = accounts;
    let mut data = [0; 4 + 8 + 16 + 8 + 32 + 8 + 34 + 8 + 9];
    data[0] = 6;
    data[4] = 1;
    data[12..28].copy_from_slice(numbers);
    data[28] = 1;
    data[36..68].copy_from_slice(program.as_array());
    data[68] = 1;
    data[76..108].copy_from_slice(counter.address().as_array());
    data[109] = 1;
    data[110] = 9;
    data[118] = 2;
    data[119] = 1;
    call(&Call {
        program: magic.address(),
        metas: &[Meta::writable_signer(payer.address())],
        accounts: &[payer],
        data: &data,
        signers: &[],
    })
}

/// Makes the counter anew from what the rollup committed.
#[inline(never)]
fn take_back(program: &Address, accounts: &mut [AccountView], seeds: &&[u8]) -> ProgramResult {
    let [counter, buffer, payer, ..] = accounts else {
        return Err(ProgramError::NotEnoughAccountKeys);
    };
    if !buffer.is_signer() || seeds.len() != 4 + 4 + 7 + 4 + 32 {
        return Err(ProgramError::MissingRequiredSignature);
    }
    let mut id = [0; 32];
    id.copy_from_slice(&seeds[19..]);
    let (_, bump) = Address::find_program_address(&[SEED, &id], program);
    create(&New {
        payer,
        account: counter,
        owner: program,
        size: buffer.data_len(),
        id: &id,
        bump,
    })?;
    counter
        .try_borrow_mut()?
        .copy_from_slice(&buffer.try_borrow()?);
    Ok(())
}

/// A call to another program.
#[derive(Clone, Copy)]
struct Call<'a> {
    program: &'a Address,
    metas: &'a [Meta<'a>],
    accounts: &'a [&'a AccountView],
    data: &'a [u8],
    signers: &'a [Signer<'a, 'a>],
}

/// Calls another program. `pinocchio`'s own helper puts a compiler fence before a call, which not
/// every LLVM has an instruction for.
#[inline(never)]
fn call(call: &Call) -> ProgramResult {
    let Call {
        program,
        metas,
        accounts,
        data,
        signers,
    } = *call;
    #[repr(C)]
    struct Instruction<'a> {
        program: *const Address,
        metas: *const Meta<'a>,
        meta_count: u64,
        data: *const u8,
        bytes: u64,
    }
    let mut views = [const { MaybeUninit::<CpiAccount>::uninit() }; 8];
    for (view, account) in views.iter_mut().zip(accounts) {
        CpiAccount::init_from_account_view(account, view);
    }
    let instruction = Instruction {
        program,
        metas: metas.as_ptr(),
        meta_count: metas.len() as u64,
        data: data.as_ptr(),
        bytes: data.len() as u64,
    };
    // SAFETY: the pointers are those of slices that outlive the call, the lengths theirs.
    #[cfg(target_arch = "bpf")]
    unsafe {
        pinocchio::syscalls::sol_invoke_signed_c(
            (&raw const instruction).cast(),
            views.as_ptr().cast(),
            accounts.len() as u64,
            signers.as_ptr().cast(),
            signers.len() as u64,
        );
    }
    #[cfg(not(target_arch = "bpf"))]
    let _ = (
        instruction.program,
        instruction.metas,
        instruction.meta_count,
        instruction.data,
        instruction.bytes,
        signers,
    );
    Ok(())
}

/// What compilers assume to be there.
#[cfg(target_arch = "bpf")]
mod memory {
    use pinocchio::syscalls::{sol_memcmp_, sol_memcpy_, sol_memmove_, sol_memset_};

    #[unsafe(no_mangle)]
    unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, n: usize) -> *mut u8 {
        unsafe { sol_memcpy_(to, from, n as u64) };
        to
    }
    #[unsafe(no_mangle)]
    unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, n: usize) -> *mut u8 {
        unsafe { sol_memmove_(to, from, n as u64) };
        to
    }
    #[unsafe(no_mangle)]
    unsafe extern "C" fn memset(to: *mut u8, byte: i32, n: usize) -> *mut u8 {
        unsafe { sol_memset_(to, byte as u8, n as u64) };
        to
    }
    #[unsafe(no_mangle)]
    unsafe extern "C" fn memcmp(one: *const u8, other: *const u8, n: usize) -> i32 {
        let mut order = 0;
        unsafe { sol_memcmp_(one, other, n as u64, &mut order) };
        order
    }
    #[unsafe(no_mangle)]
    unsafe extern "C" fn bcmp(one: *const u8, other: *const u8, n: usize) -> i32 {
        unsafe { memcmp(one, other, n) }
    }
}
