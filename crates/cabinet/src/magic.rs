//! MagicBlock's program, as far as a game needs it: commit accounts to L1, give them back, and run
//! instructions on a clock.
//!
//! Layouts are those of the crate `magicblock-magic-program-api` 1.1.1 (MIT), `instruction.rs` and
//! `args.rs`: bincode 1 with fixed-width integers, a `u32` for the variant. The crate itself is not
//! used, because it brings the whole of `solana-program`.
//!
//! | variant | instruction | accounts |
//! |---|---|---|
//! | 1 | `ScheduleCommit` | payer (signer), context, accounts to commit |
//! | 2 | `ScheduleCommitAndUndelegate` | the same |
//! | 6 | `ScheduleTask { task_id: i64, interval_millis: i64, iterations: i64, instructions }` | payer (signer) |
//! | 7 | `CancelTask { task_id: i64 }` | payer (signer) |
//! | 10 | `Noop(u64)` | none |
//!
//! The program runs inside the SVM, where it checks signers and owners and may fail; what was asked
//! for waits in this thread until the engine, which calls the SVM on this very thread, takes it
//! after the transaction has succeeded.

use std::cell::RefCell;

use serde::{Deserialize, Serialize};
use solana_address::Address;
use solana_instruction::Instruction;
use solana_instruction::error::InstructionError;
use solana_program_runtime::invoke_context::InvokeContext;
use solana_program_runtime::{declare_process_instruction, stable_log};

/// Address of the program.
pub const MAGIC_PROGRAM: Address =
    Address::from_str_const("Magic11111111111111111111111111111111111111");
/// The account that programs pass along with a commit.
pub const MAGIC_CONTEXT: Address =
    Address::from_str_const("MagicContext1111111111111111111111111111111");
/// Compute units of one call.
const UNITS: u64 = 150;

/// Instructions, at their places. Those without fields here are not served.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Wire {
    ModifyAccounts,
    ScheduleCommit,
    ScheduleCommitAndUndelegate,
    AcceptScheduleCommits,
    ScheduledCommitSent,
    ScheduleBaseIntent,
    ScheduleTask(ScheduleTask),
    CancelTask { task_id: i64 },
    DisableExecutableCheck,
    EnableExecutableCheck,
    Noop(u64),
}

/// A task as its authority describes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScheduleTask {
    /// Names the task among those of its authority.
    pub task_id: i64,
    /// Time from one run to the next. 16 and 17 both mean 1/60 s.
    pub interval_millis: i64,
    /// How many times it runs.
    pub iterations: i64,
    /// What it runs, as one transaction signed by the rollup.
    pub instructions: Vec<Instruction>,
}

/// What a transaction asked the rollup for.
#[derive(Debug, PartialEq)]
pub(crate) enum Request {
    Commit {
        accounts: Vec<Address>,
        undelegate: bool,
    },
    Schedule {
        authority: Address,
        task: ScheduleTask,
    },
    Cancel {
        authority: Address,
        task_id: i64,
    },
}

thread_local! {
    static REQUESTS: RefCell<Vec<Request>> = const { RefCell::new(Vec::new()) };
}

/// What the transaction that just ran on this thread asked for.
pub(crate) fn take_requests() -> Vec<Request> {
    REQUESTS.take()
}

/// The data of a `Noop`: it makes one frame's transaction differ from the next.
pub(crate) fn noop(number: u64) -> Vec<u8> {
    let mut data = 10u32.to_le_bytes().to_vec();
    data.extend(number.to_le_bytes());
    data
}

declare_process_instruction!(MagicProgram, UNITS, |context| { process(context) });

fn process(context: &mut InvokeContext) -> Result<(), InstructionError> {
    let data = context
        .transaction_context
        .get_current_instruction_context()?
        .get_instruction_data()
        .to_vec();
    let log = |text: &str| stable_log::program_log(&context.get_log_collector(), text);
    let Ok(wire) = bincode::deserialize::<Wire>(&data) else {
        log("no instruction of the magic program, or a truncated one");
        return Err(InstructionError::InvalidInstructionData);
    };
    let request = match wire {
        Wire::Noop(_) => return Ok(()),
        Wire::ScheduleCommit => commit(context, false)?,
        Wire::ScheduleCommitAndUndelegate => commit(context, true)?,
        Wire::ScheduleTask(task) => Request::Schedule {
            authority: signer(context)?,
            task,
        },
        Wire::CancelTask { task_id } => Request::Cancel {
            authority: signer(context)?,
            task_id,
        },
        _ => {
            log(
                "served are ScheduleCommit, ScheduleCommitAndUndelegate, ScheduleTask, CancelTask, Noop",
            );
            return Err(InstructionError::InvalidInstructionData);
        }
    };
    REQUESTS.with_borrow_mut(|requests| requests.push(request));
    Ok(())
}

/// Account 0, which must sign.
fn signer(context: &InvokeContext) -> Result<Address, InstructionError> {
    let instruction = context
        .transaction_context
        .get_current_instruction_context()?;
    if !instruction.is_instruction_account_signer(0)? {
        return Err(InstructionError::MissingRequiredSignature);
    }
    Ok(*instruction.get_key_of_instruction_account(0)?)
}

/// Accounts 2 and up, each owned by the calling program or a signer itself.
fn commit(context: &InvokeContext, undelegate: bool) -> Result<Request, InstructionError> {
    signer(context)?;
    let transaction = &*context.transaction_context;
    let instruction = transaction.get_current_instruction_context()?;
    if *instruction.get_key_of_instruction_account(1)? != MAGIC_CONTEXT {
        return Err(InstructionError::InvalidArgument);
    }
    let caller = transaction
        .get_instruction_context_at_index_in_trace(instruction.get_index_of_caller())
        .and_then(|caller| caller.get_program_key().copied())
        .ok();
    let count = instruction.get_number_of_instruction_accounts();
    let mut accounts = Vec::new();
    for index in 2..count {
        let account = instruction.try_borrow_instruction_account(index)?;
        if Some(*account.get_owner()) != caller && !account.is_signer() {
            return Err(InstructionError::InvalidAccountOwner);
        }
        accounts.push(*account.get_key());
    }
    if accounts.is_empty() {
        return Err(InstructionError::MissingAccount);
    }
    Ok(Request::Commit {
        accounts,
        undelegate,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use solana_instruction::AccountMeta;

    #[test]
    fn instructions_have_magicblocks_bytes() {
        let program = Address::new_from_array([9; 32]);
        let account = Address::new_from_array([8; 32]);
        let task = Wire::ScheduleTask(ScheduleTask {
            task_id: 7,
            interval_millis: 16,
            iterations: 300,
            instructions: vec![Instruction {
                program_id: program,
                accounts: vec![AccountMeta::new(account, false)],
                data: vec![1, 2],
            }],
        });
        let mut expected = vec![6, 0, 0, 0];
        for number in [7u64, 16, 300, 1] {
            expected.extend(number.to_le_bytes());
        }
        expected.extend([9; 32]);
        expected.extend(1u64.to_le_bytes());
        expected.extend([8; 32]);
        expected.extend([0, 1]);
        expected.extend(2u64.to_le_bytes());
        expected.extend([1, 2]);
        assert_eq!(bincode::serialize(&task).unwrap(), expected);
        assert_eq!(bincode::deserialize::<Wire>(&expected).unwrap(), task);

        let bytes = |wire| bincode::serialize(&wire).unwrap();
        assert_eq!(bytes(Wire::ScheduleCommit), [1, 0, 0, 0]);
        assert_eq!(bytes(Wire::ScheduleCommitAndUndelegate), [2, 0, 0, 0]);
        assert_eq!(bytes(Wire::CancelTask { task_id: 1 })[..4], [7, 0, 0, 0]);
        assert_eq!(bytes(Wire::Noop(5)), noop(5));
    }
}
