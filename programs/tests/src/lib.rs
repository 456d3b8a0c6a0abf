//! The program's tests: its real ELF in an in-process virtual machine, without a network.
//!
//! This crate is what they share: [`Chain`] runs transactions, [`Upload`] brings a cartridge on it,
//! [`Table`] is a session with its two players. It must never know a shortcut: whatever happens to
//! an account here happens because a transaction asked for it, unless a test forges the account by
//! name ([`Chain::forge`]).
//!
//! ```no_run
//! use worldline_abi::kernels;
//! use worldline_program_tests::{Chain, Table, Upload, micro};
//!
//! let mut chain = Chain::rollup();
//! let world = Upload::new(&mut chain, micro()).finish(&mut chain);
//! let mut table = Table::ready(&mut chain, &world, kernels::SYSCALLS);
//! table.frame(&mut chain).unwrap();
//! assert_eq!(table.state(&chain).frame, 1);
//! ```

mod chain;
mod table;
mod upload;

pub use chain::{Chain, L1_UNITS, Refused, derive, elf, instruction, key};
pub use table::{CHARACTERS, STAGE, Table, reference_inputs};
pub use upload::Upload;

use worldline_cartridge::Cartridge;

/// The shipped world whose frames fit a stock chain's transaction.
pub fn micro() -> Cartridge {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../worlds/micro.cart");
    Cartridge::open(path).expect("the shipped micro world")
}
