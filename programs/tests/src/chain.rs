//! An in-process chain with the program on it.

use litesvm::LiteSVM;
use solana_account::Account;
use solana_address::Address;
use solana_compute_budget::compute_budget::ComputeBudget;
use solana_instruction::{AccountMeta, Instruction as Call};
use solana_keypair::Keypair;
use solana_message::Message;
use solana_signer::Signer;
use solana_transaction::Transaction;
use worldline_abi::instruction::{Instruction, encode};
use worldline_abi::{Fault, Layout, address};

/// Compute units of an L1 transaction, at most.
pub const L1_UNITS: u64 = 1_400_000;
/// Compute units of a rollup's transaction here: enough for a plain frame of any size.
const ROLLUP_UNITS: u64 = 4_000_000_000;
/// Bytes of a transaction, at most.
const TRANSACTION_BYTES: usize = 1_232;
/// What a new keypair is given.
const LAMPORTS: u64 = 1_000_000_000_000;

/// The program's committed ELF.
pub fn elf() -> Vec<u8> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../world-model/world_model.so");
    let path = std::env::var("WORLD_MODEL_ELF").unwrap_or_else(|_| path.into());
    std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// An address as the virtual machine's crates have it.
pub fn key(address: address::Address) -> Address {
    Address::new_from_array(address)
}

/// The program address of seeds.
pub fn derive(seeds: &[&[u8]]) -> address::Address {
    Address::find_program_address(seeds, &key(address::PROGRAM_ID))
        .0
        .to_bytes()
}

/// An instruction of the program. `rest` holds one list of accounts for each kind of its interface.
pub fn instruction<I: Instruction>(
    body: &I,
    tail: &[u8],
    accounts: &[address::Address],
    rest: &[&[address::Address]],
) -> Call {
    assert_eq!(
        accounts.len(),
        I::ACCOUNTS.len(),
        "accounts of {}",
        I::SPEC.name
    );
    assert!(
        rest.len() <= I::REST.len(),
        "kinds of accounts of {}",
        I::SPEC.name
    );
    let fixed = accounts.iter().zip(I::ACCOUNTS);
    let more = rest
        .iter()
        .zip(I::REST)
        .flat_map(|(list, kind)| list.iter().map(move |at| (at, kind)));
    let metas = fixed.chain(more).map(|(at, spec)| AccountMeta {
        pubkey: key(*at),
        is_signer: spec.signer,
        is_writable: spec.writable,
    });
    let mut data = Vec::new();
    encode(body, tail, &mut data);
    Call {
        program_id: key(address::PROGRAM_ID),
        accounts: metas.collect(),
        data,
    }
}

/// Why a transaction failed.
#[derive(Debug)]
pub struct Refused {
    /// The program's own reason, if it gave one.
    pub fault: Option<Fault>,
    /// What the runtime says.
    pub error: String,
    /// The transaction's log.
    pub logs: Vec<String>,
}

/// A chain of one machine.
#[derive(Clone)]
pub struct Chain {
    /// The virtual machine.
    pub svm: LiteSVM,
    /// Units that the last transaction took.
    pub units: u64,
    /// Whether a transaction may be larger than a chain takes. Those of the largest worlds need an
    /// address table, which this machine does not: their accounts are the same.
    pub any_size: bool,
    nonce: u32,
}

impl Chain {
    /// With an L1's limit on compute and without our syscalls.
    pub fn l1() -> Self {
        Self::new(L1_UNITS, false)
    }

    /// With a high limit and our syscalls.
    pub fn rollup() -> Self {
        Self::new(ROLLUP_UNITS, true)
    }

    fn new(units: u64, syscalls: bool) -> Self {
        let mut budget = ComputeBudget::new_with_defaults(true);
        budget.compute_unit_limit = units;
        let mut svm = LiteSVM::default()
            .with_feature_set(agave_feature_set::FeatureSet::all_enabled())
            .with_compute_budget(budget)
            .with_builtins();
        if syscalls {
            for (name, register) in worldline_syscall::SYSCALLS {
                svm = svm.with_custom_syscall(name, register);
            }
        }
        let mut svm = svm
            .with_lamports(1 << 60)
            .with_sysvars()
            .with_default_programs()
            .with_sigverify(false)
            .with_blockhash_check(false)
            .with_transaction_history(0);
        svm.add_program(key(address::PROGRAM_ID), &elf())
            .expect("the ELF loads");
        Self {
            svm,
            units: 0,
            any_size: false,
            nonce: 0,
        }
    }

    /// A keypair with lamports.
    pub fn person(&mut self) -> Keypair {
        let keypair = Keypair::new();
        self.svm
            .airdrop(&keypair.pubkey(), LAMPORTS)
            .expect("an airdrop");
        keypair
    }

    /// Runs a transaction, paid by the first signer.
    pub fn send(&mut self, signers: &[&Keypair], calls: &[Call]) -> Result<(), Refused> {
        self.logs(signers, calls).map(|_| ())
    }

    /// [`Chain::send`], and what the transaction logged.
    pub fn logs(&mut self, signers: &[&Keypair], calls: &[Call]) -> Result<Vec<String>, Refused> {
        self.nonce += 1;
        // No two transactions are the same: history would refuse the second.
        let blockhash = solana_message::Hash::new_from_array(core::array::from_fn(|at| {
            self.nonce.to_le_bytes().get(at).copied().unwrap_or(0)
        }));
        let message = Message::new(calls, Some(&signers[0].pubkey()));
        let transaction = Transaction::new(signers, message, blockhash);
        let bytes = 1 + 64 * transaction.signatures.len() + transaction.message_data().len();
        assert!(
            self.any_size || bytes <= TRANSACTION_BYTES,
            "{bytes} bytes do not fit a transaction"
        );
        match self.svm.send_transaction(transaction) {
            Ok(done) => {
                self.units = done.compute_units_consumed;
                Ok(done.logs)
            }
            Err(failed) => {
                self.units = failed.meta.compute_units_consumed;
                let error = format!("{:?}", failed.err);
                let code = error
                    .split("Custom(")
                    .nth(1)
                    .and_then(|rest| rest.split(')').next());
                let fault = code.and_then(|code| Fault::from_code(code.parse().ok()?));
                Err(Refused {
                    fault,
                    error,
                    logs: failed.meta.logs,
                })
            }
        }
    }

    /// An account's bytes; empty when there is none.
    pub fn data(&self, at: address::Address) -> Vec<u8> {
        self.svm
            .get_account(&key(at))
            .map(|account| account.data)
            .unwrap_or_default()
    }

    /// An account as its layout.
    pub fn read<T: Layout>(&self, at: address::Address) -> T {
        worldline_abi::copy(&self.data(at)).expect("an account of this layout")
    }

    /// Lamports of an account.
    pub fn lamports(&self, at: address::Address) -> u64 {
        self.svm.get_balance(&key(at)).unwrap_or(0)
    }

    /// Whether the account exists.
    pub fn exists(&self, at: address::Address) -> bool {
        self.lamports(at) > 0
    }

    /// Changes an account as no transaction could: for tests of what the program refuses.
    pub fn forge(&mut self, at: address::Address, change: impl FnOnce(&mut Account)) {
        let mut account = self.svm.get_account(&key(at)).unwrap_or_default();
        change(&mut account);
        self.svm
            .set_account(key(at), account)
            .expect("an account can be set");
    }
}
