//! The engine inside: LiteSVM, set up for either role.

use agave_feature_set::FeatureSet;
use litesvm::LiteSVM;
use solana_account::Account;
use solana_clock::Clock;
use solana_compute_budget::compute_budget::ComputeBudget;
use solana_fee_structure::FeeStructure;
use solana_program_runtime::solana_sbpf::program::BuiltinFunctionDefinition;
use worldline_syscall::SYSCALLS;

use crate::limits::{L1_FEE, ROLLUP_UNITS};
use crate::magic::{MAGIC_CONTEXT, MAGIC_PROGRAM, MagicProgram};

/// Solana's rules as they stand on its main net: 1.4 million compute units, fees, rent.
///
/// Signatures and blockhashes are checked elsewhere: the first on the threads of the server, the
/// second by the bank, which knows more than the latest.
pub(crate) fn l1() -> LiteSVM {
    let svm = LiteSVM::default()
        .with_feature_set(LiteSVM::mainnet_feature_set())
        .with_builtins();
    finish(svm, L1_FEE)
}

/// A rollup's rules: no fee, far more compute units, the system calls of `worldline-syscall`, the
/// magic program. All features are on, so that programs read accounts where they are and no weight
/// is copied.
pub(crate) fn rollup() -> LiteSVM {
    let mut budget = ComputeBudget::new_with_defaults(true);
    budget.compute_unit_limit = ROLLUP_UNITS;
    let mut svm = LiteSVM::default()
        .with_feature_set(FeatureSet::all_enabled())
        .with_compute_budget(budget)
        .with_builtins();
    for (name, register) in SYSCALLS {
        svm = svm.with_custom_syscall(name, register);
    }
    let mut svm = finish(svm, 0);
    svm.add_builtin(MAGIC_PROGRAM, MagicProgram::register);
    let context = Account {
        lamports: 1,
        owner: MAGIC_PROGRAM,
        ..Account::default()
    };
    // An account that is no program and no system variable is always taken.
    let _ = svm.set_account(MAGIC_CONTEXT, context);
    svm
}

fn finish(svm: LiteSVM, lamports_per_signature: u64) -> LiteSVM {
    let mut svm = svm
        .with_sigverify(false)
        .with_blockhash_check(false)
        .with_transaction_history(0)
        .with_sysvars();
    svm.set_fee_structure(FeeStructure {
        lamports_per_signature,
        ..FeeStructure::default()
    });
    // Before programs are loaded: they may not run in blocks before the one they are loaded in.
    svm.set_sysvar(&Clock::default());
    svm.with_default_programs()
}
