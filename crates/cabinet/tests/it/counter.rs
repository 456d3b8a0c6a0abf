//! The test program (`tests/counter`), from the client's side.

use std::path::{Path, PathBuf};

use solana_address::Address;
use solana_instruction::{AccountMeta, Instruction};
use worldline_cabinet::{
    DELEGATION_PROGRAM, MAGIC_CONTEXT, MAGIC_PROGRAM, metadata_address, record_address,
};

pub(crate) const PROGRAM: Address =
    Address::from_str_const("Counter111111111111111111111111111111111111");
const SYSTEM: Address = Address::from_str_const("11111111111111111111111111111111");
/// Never commits by the clock.
pub(crate) const NEVER: u32 = u32::MAX;

/// Where the built program is.
pub(crate) fn elf() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/counter/counter.so")
}

/// The counter of a payer.
#[derive(Clone, Copy)]
pub(crate) struct Counter {
    payer: Address,
    pub(crate) address: Address,
    bump: u8,
}

impl Counter {
    pub(crate) fn of(payer: Address) -> Self {
        let seeds = [b"counter".as_slice(), payer.as_ref()];
        let (address, bump) = Address::find_program_address(&seeds, &PROGRAM);
        Self {
            payer,
            address,
            bump,
        }
    }

    fn call(&self, data: Vec<u8>, accounts: Vec<AccountMeta>) -> Instruction {
        Instruction {
            program_id: PROGRAM,
            accounts,
            data,
        }
    }

    fn payer(&self) -> AccountMeta {
        AccountMeta::new(self.payer, true)
    }

    fn it(&self) -> AccountMeta {
        AccountMeta::new(self.address, false)
    }

    pub(crate) fn create(&self, size: u16) -> Instruction {
        let [low, high] = size.to_le_bytes();
        let system = AccountMeta::new_readonly(SYSTEM, false);
        self.call(
            vec![0, self.bump, low, high],
            vec![self.payer(), self.it(), system],
        )
    }

    pub(crate) fn lend(&self, commit_ms: u32, validator: Address) -> Instruction {
        let mut data = vec![1, self.bump];
        data.extend(commit_ms.to_le_bytes());
        data.extend(validator.as_ref());
        let buffer = Address::find_program_address(&[b"buffer", self.address.as_ref()], &PROGRAM).0;
        let accounts = vec![
            self.payer(),
            self.it(),
            AccountMeta::new_readonly(PROGRAM, false),
            AccountMeta::new(buffer, false),
            AccountMeta::new(record_address(&self.address), false),
            AccountMeta::new(metadata_address(&self.address), false),
            AccountMeta::new_readonly(SYSTEM, false),
            AccountMeta::new_readonly(DELEGATION_PROGRAM, false),
        ];
        self.call(data, accounts)
    }

    pub(crate) fn add(&self, by: u64) -> Instruction {
        let data = [&[2], &by.to_le_bytes()[..]].concat();
        self.call(data, vec![self.it()])
    }

    /// The magic program's accounts behind our own two.
    fn with_magic(&self, data: u8) -> Instruction {
        let context = AccountMeta::new(MAGIC_CONTEXT, false);
        let magic = AccountMeta::new_readonly(MAGIC_PROGRAM, false);
        self.call(vec![data], vec![self.payer(), self.it(), context, magic])
    }

    pub(crate) fn commit(&self) -> Instruction {
        self.with_magic(3)
    }

    pub(crate) fn give_back(&self) -> Instruction {
        self.with_magic(4)
    }

    pub(crate) fn fill(&self, byte: u8) -> Instruction {
        self.call(vec![5, byte], vec![self.it()])
    }

    pub(crate) fn schedule(&self, interval: i64, iterations: i64) -> Instruction {
        let data = [
            &[6],
            &interval.to_le_bytes()[..],
            &iterations.to_le_bytes()[..],
        ]
        .concat();
        let magic = AccountMeta::new_readonly(MAGIC_PROGRAM, false);
        self.call(data, vec![self.payer(), self.it(), magic])
    }

    pub(crate) fn take_a_lamport(&self) -> Instruction {
        self.call(vec![7], vec![self.payer(), self.it()])
    }
}

/// What a counter has counted.
pub(crate) fn count(data: &[u8]) -> u64 {
    u64::from_le_bytes(data[..8].try_into().unwrap())
}
