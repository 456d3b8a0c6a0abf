//! What a Solana runtime needs to run learned worlds at speed: `sol_matmul_i8`, a matrix times a
//! vector of bytes, `sol_linear_i8`, the same for both planes of an activation and requantized, and `sol_ssm_scan`, what a block of the network does between its two matrices.
//!
//! All are this machine's best kernels of `worldline_mamba2` behind the runtime's own checks: every
//! address is translated, every length and alignment checked, no output overlaps what is read, and
//! what is wrong ends the program with an error. The crate must never know games or accounts.
//!
//! The main call is [`register`], once per environment and before programs are loaded:
//!
//! ```
//! use solana_program_runtime::solana_sbpf::program::BuiltinProgram;
//!
//! let mut environment = BuiltinProgram::new_mock();
//! worldline_syscall::register(&mut environment)?;
//! # Ok::<(), solana_program_runtime::solana_sbpf::elf::ElfError>(())
//! ```
//!
//! Some runtimes take one function at a time; [`SYSCALLS`] lists them.

mod linear;
mod matmul;
mod memory;
mod price;
mod scan;

use solana_program_runtime::invoke_context::InvokeContext;
use solana_program_runtime::solana_sbpf::elf::ElfError;
use solana_program_runtime::solana_sbpf::program::{BuiltinFunctionDefinition, BuiltinProgram};
use std::sync::OnceLock;
use worldline_mamba2::Native;

pub use linear::LinearI8;
pub use matmul::MatmulI8;
pub use memory::Misuse;
pub use price::{
    LINEAR_ROW, MATMUL_BASE, MATMUL_PRODUCTS, MAX_COLUMNS, MAX_ROWS, SCAN_BASE, SCAN_CHANNEL,
    SCAN_NUMBERS, linear_price, matmul_price, scan_price,
};
pub use scan::SsmScan;

/// The environment that a runtime loads programs into.
pub type Environment = BuiltinProgram<InvokeContext<'static, 'static>>;
/// Registers one function under a name.
pub type Register = fn(&mut Environment, &str) -> Result<(), ElfError>;

/// Each function's name, and what registers it.
pub const SYSCALLS: [(&str, Register); 3] = [
    ("sol_matmul_i8", |environment, name| {
        environment.register_function(name, (MatmulI8::vm, MatmulI8::codegen))
    }),
    ("sol_linear_i8", |environment, name| {
        environment.register_function(name, (LinearI8::vm, LinearI8::codegen))
    }),
    ("sol_ssm_scan", |environment, name| {
        environment.register_function(name, (SsmScan::vm, SsmScan::codegen))
    }),
];

/// Registers every function of this crate. Programs that were loaded before do not see them.
pub fn register(environment: &mut Environment) -> Result<(), ElfError> {
    SYSCALLS
        .iter()
        .try_for_each(|(name, register)| register(environment, name))
}

/// This machine's fastest kernels, looked for once.
fn kernels() -> &'static Native {
    static KERNELS: OnceLock<Native> = OnceLock::new();
    KERNELS.get_or_init(Native::detect)
}
