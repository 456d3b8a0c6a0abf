//! MagicBlock's delegation program on L1: addresses, records, and the two instructions by which a
//! rollup gives back what was lent to it.
//!
//! Layouts are those of the crate `magicblock-delegation-program-api` 4.0.1 (MIT): `pda.rs`,
//! `state/`, `args/commit_state.rs`, `diff/types.rs` and `instruction_builder/`. The crate itself is
//! not used, because it brings the whole of `solana-program` and libsodium.

use solana_address::Address;
use solana_instruction::{AccountMeta, Instruction};
use solana_sdk_ids::system_program;

/// Address of the delegation program.
pub const DELEGATION_PROGRAM: Address =
    Address::from_str_const("DELeGGvXpWV2fqJUhqcF5ZSYMS4JTLjteaAMARRSaeSh");

const RECORD_DISCRIMINATOR: u64 = 100;
const METADATA_DISCRIMINATOR: u64 = 102;
const UNDELEGATE: u64 = 3;
const INIT_PROTOCOL_FEES_VAULT: u64 = 5;
const INIT_VALIDATOR_FEES_VAULT: u64 = 6;
const COMMIT_FINALIZE: u64 = 21;

/// Where the program keeps something about one account or validator.
fn address(seeds: &[&[u8]]) -> (Address, u8) {
    Address::find_program_address(seeds, &DELEGATION_PROGRAM)
}

/// Says who may change a delegated account.
pub fn record_address(account: &Address) -> Address {
    address(&[b"delegation", account.as_ref()]).0
}

/// Says how to give a delegated account back.
pub fn metadata_address(account: &Address) -> Address {
    address(&[b"delegation-metadata", account.as_ref()]).0
}

/// Collects what a validator earns; every commit names it.
pub fn validator_vault(validator: &Address) -> Address {
    address(&[b"v-fees-vault", validator.as_ref()]).0
}

/// Collects what the protocol earns.
pub fn protocol_vault() -> Address {
    address(&[b"fees-vault"]).0
}

/// A delegated account's record: 8 bytes of discriminator, then these fields in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DelegationRecord {
    /// The validator that may change the account; all zeroes: any.
    pub authority: Address,
    /// The program that owns the account when it is not lent.
    pub owner: Address,
    /// The L1 block in which it was lent.
    pub slot: u64,
    /// Its lamports at that time, or at the last commit.
    pub lamports: u64,
    /// How often the validator should commit unasked, in milliseconds; `u32::MAX` or more: never.
    pub commit_frequency_ms: u64,
}

impl DelegationRecord {
    /// Reads 96 bytes.
    pub fn parse(data: &[u8]) -> Option<Self> {
        let mut fields = Fields(data);
        (fields.u64()? == RECORD_DISCRIMINATOR).then_some(())?;
        Some(Self {
            authority: fields.address()?,
            owner: fields.address()?,
            slot: fields.u64()?,
            lamports: fields.u64()?,
            commit_frequency_ms: fields.u64()?,
        })
    }
}

/// What a validator must know of a delegated account's metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DelegationMetadata {
    /// The last commit that L1 has taken; the next one carries the next number.
    pub last_commit: u64,
    /// Whether the account may be given back without another commit.
    pub may_undelegate: bool,
    /// Gets the rent of the records back.
    pub rent_payer: Address,
}

impl DelegationMetadata {
    /// Reads discriminator, `u64`, `u8`, borsh `Vec<Vec<u8>>` of seeds, payer.
    pub fn parse(data: &[u8]) -> Option<Self> {
        let mut fields = Fields(data);
        (fields.u64()? == METADATA_DISCRIMINATOR).then_some(())?;
        let last_commit = fields.u64()?;
        let may_undelegate = fields.take(1)?[0] != 0;
        for _ in 0..fields.u32()? {
            let length = fields.u32()?;
            fields.take(length as usize)?;
        }
        Some(Self {
            last_commit,
            may_undelegate,
            rent_payer: fields.address()?,
        })
    }
}

/// Little-endian fields, one after the other.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(head)
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    fn address(&mut self) -> Option<Address> {
        Some(Address::new_from_array(self.take(32)?.try_into().ok()?))
    }
}

/// Turns `old` into `new`, at most `limit` changed bytes at a time: the diffs to apply in order.
/// There is always at least one, which may change nothing.
///
/// A diff is: length of the account `u32`, number of runs `u32`, for each run its offset in the
/// bytes below and in the account (`u32` each), then the bytes of all runs.
pub(crate) fn diffs(old: &[u8], new: &[u8], limit: usize) -> Vec<Vec<u8>> {
    /// A run costs as much as eight bytes, so that closer changes are sent as one.
    const RUN: usize = 8;
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for at in (0..new.len()).filter(|&at| old.get(at) != Some(&new[at])) {
        match runs.last_mut() {
            Some((start, end)) if at - *end < RUN && at + 1 - *start <= limit => *end = at + 1,
            _ => runs.push((at, at + 1)),
        }
    }
    let mut diffs = Vec::new();
    let mut batch: Vec<(usize, usize)> = Vec::new();
    let mut size = 0;
    for run in runs {
        let cost = run.1 - run.0 + RUN;
        if !batch.is_empty() && size + cost > limit + RUN {
            diffs.push(diff(new, &batch));
            batch.clear();
            size = 0;
        }
        batch.push(run);
        size += cost;
    }
    if !batch.is_empty() || diffs.is_empty() {
        diffs.push(diff(new, &batch));
    }
    diffs
}

fn diff(new: &[u8], runs: &[(usize, usize)]) -> Vec<u8> {
    let mut diff = Vec::new();
    let mut word = |value: usize| diff.extend((value as u32).to_le_bytes());
    word(new.len());
    word(runs.len());
    let mut at = 0;
    for (start, end) in runs {
        word(at);
        word(*start);
        at += end - start;
    }
    for &(start, end) in runs {
        diff.extend_from_slice(&new[start..end]);
    }
    diff
}

/// Applies a diff to a delegated account on L1, and may make it ready to be given back.
pub(crate) struct Commit<'a> {
    pub validator: Address,
    pub account: Address,
    /// One more than [`DelegationMetadata::last_commit`].
    pub number: u64,
    /// What the account holds on the rollup: exactly what it holds on L1.
    pub lamports: u64,
    pub allow_undelegation: bool,
    pub diff: &'a [u8],
}

impl Commit<'_> {
    /// `CommitFinalize`: number `u64`, lamports `u64`, may undelegate `u8`, is a diff `u8`, three
    /// bumps, three bytes of padding, the diff.
    pub(crate) fn instruction(&self) -> Instruction {
        let record = address(&[b"delegation", self.account.as_ref()]);
        let metadata = address(&[b"delegation-metadata", self.account.as_ref()]);
        let vault = address(&[b"v-fees-vault", self.validator.as_ref()]);
        let mut data = COMMIT_FINALIZE.to_le_bytes().to_vec();
        data.extend(self.number.to_le_bytes());
        data.extend(self.lamports.to_le_bytes());
        data.extend([u8::from(self.allow_undelegation), 1]);
        data.extend([record.1, metadata.1, vault.1, 0, 0, 0]);
        data.extend(self.diff);
        Instruction {
            program_id: DELEGATION_PROGRAM,
            accounts: vec![
                AccountMeta::new(self.validator, true),
                AccountMeta::new(self.account, false),
                AccountMeta::new(record.0, false),
                AccountMeta::new(metadata.0, false),
                AccountMeta::new(vault.0, false),
                AccountMeta::new_readonly(system_program::ID, false),
            ],
            data,
        }
    }
}

/// Gives an account back to the program that owns it.
pub(crate) fn undelegate(
    validator: Address,
    account: Address,
    owner: Address,
    rent_payer: Address,
) -> Instruction {
    let of = |seed: &[u8]| address(&[seed, account.as_ref()]).0;
    Instruction {
        program_id: DELEGATION_PROGRAM,
        accounts: vec![
            AccountMeta::new(validator, true),
            AccountMeta::new(account, false),
            AccountMeta::new_readonly(owner, false),
            AccountMeta::new(of(b"undelegate-buffer"), false),
            AccountMeta::new_readonly(of(b"state-diff"), false),
            AccountMeta::new_readonly(of(b"commit-state-record"), false),
            AccountMeta::new(of(b"delegation"), false),
            AccountMeta::new(of(b"delegation-metadata"), false),
            AccountMeta::new(rent_payer, false),
            AccountMeta::new(protocol_vault(), false),
            AccountMeta::new(validator_vault(&validator), false),
            AccountMeta::new_readonly(system_program::ID, false),
        ],
        data: UNDELEGATE.to_le_bytes().to_vec(),
    }
}

/// Makes the protocol's vault; anyone may pay for it.
pub(crate) fn init_protocol_vault(payer: Address) -> Instruction {
    Instruction {
        program_id: DELEGATION_PROGRAM,
        accounts: vec![
            AccountMeta::new(payer, true),
            AccountMeta::new(protocol_vault(), false),
            AccountMeta::new_readonly(system_program::ID, false),
        ],
        data: INIT_PROTOCOL_FEES_VAULT.to_le_bytes().to_vec(),
    }
}

/// Admits a validator. Only the upgrade authority of the delegation program may do so.
pub(crate) fn init_validator_vault(
    payer: Address,
    admin: Address,
    validator: Address,
) -> Instruction {
    let program_data = Address::find_program_address(
        &[DELEGATION_PROGRAM.as_ref()],
        &solana_sdk_ids::bpf_loader_upgradeable::ID,
    );
    Instruction {
        program_id: DELEGATION_PROGRAM,
        accounts: vec![
            AccountMeta::new(payer, true),
            AccountMeta::new(admin, true),
            AccountMeta::new_readonly(program_data.0, false),
            AccountMeta::new(validator, false),
            AccountMeta::new(validator_vault(&validator), false),
            AccountMeta::new_readonly(system_program::ID, false),
        ],
        data: INIT_VALIDATOR_FEES_VAULT.to_le_bytes().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Applies a diff as the delegation program does.
    fn apply(old: &[u8], diff: &[u8]) -> Vec<u8> {
        let word = |at: usize| u32::from_le_bytes(diff[at..at + 4].try_into().unwrap()) as usize;
        let mut new = old.to_vec();
        new.resize(word(0), 0);
        let runs = word(4);
        let bytes = &diff[8 + 8 * runs..];
        for run in 0..runs {
            let (from, to) = (word(8 + 8 * run), word(12 + 8 * run));
            let end = if run + 1 < runs {
                word(16 + 8 * run)
            } else {
                bytes.len()
            };
            new[to..to + end - from].copy_from_slice(&bytes[from..end]);
        }
        new
    }

    #[test]
    fn diffs_in_small_pieces_give_the_new_bytes() {
        let old: Vec<u8> = (0..5000u32).map(|i| (i % 251) as u8).collect();
        for stride in [1, 2, 7, 9, 300, 4999, 6000] {
            let mut new = old.clone();
            new.iter_mut()
                .step_by(stride)
                .for_each(|byte| *byte ^= 0x55);
            for length in [5000, 4000] {
                let new = &new[..length];
                let mut state = old.clone();
                for diff in diffs(&old, new, 768) {
                    assert!(diff.len() <= 8 + 768 + 8, "{} bytes", diff.len());
                    state = apply(&state, &diff);
                }
                assert_eq!(state, new, "stride {stride}, length {length}");
            }
        }
        assert_eq!(diffs(&old, &old, 768), [[136, 19, 0, 0, 0, 0, 0, 0]]);
    }

    /// A record that MagicBlock's own validator package ships.
    #[test]
    fn a_record_is_read() {
        let mut data = 100u64.to_le_bytes().to_vec();
        data.extend([1; 32]);
        data.extend([2; 32]);
        for number in [3u64, 4, 5] {
            data.extend(number.to_le_bytes());
        }
        let record = DelegationRecord::parse(&data).unwrap();
        assert_eq!(record.owner, Address::new_from_array([2; 32]));
        assert_eq!(
            (record.slot, record.lamports, record.commit_frequency_ms),
            (3, 4, 5)
        );
        for cut in 0..data.len() {
            assert_eq!(DelegationRecord::parse(&data[..cut]), None);
        }
    }

    #[test]
    fn metadata_is_read_behind_its_seeds() {
        let mut data = 102u64.to_le_bytes().to_vec();
        data.extend(9u64.to_le_bytes());
        data.push(1);
        data.extend([2, 0, 0, 0, 1, 0, 0, 0, 7, 2, 0, 0, 0, 8, 8]);
        data.extend([6; 32]);
        let metadata = DelegationMetadata::parse(&data).unwrap();
        assert_eq!(metadata.last_commit, 9);
        assert!(metadata.may_undelegate);
        assert_eq!(metadata.rent_payer, Address::new_from_array([6; 32]));
        for cut in 0..data.len() {
            assert_eq!(DelegationMetadata::parse(&data[..cut]), None);
        }
    }
}
