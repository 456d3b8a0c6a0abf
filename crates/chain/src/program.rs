//! The program on a chain: its addresses, and calls to it.

use solana_address::Address;
use solana_instruction::{AccountMeta, Instruction as Call};
use worldline_abi::address;
use worldline_abi::instruction::{Instruction, encode};

/// The system program's address.
pub const SYSTEM_PROGRAM: Address = Address::new_from_array([0; 32]);

/// The world-model program, wherever it is deployed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Program {
    /// Its address.
    pub id: Address,
}

impl Default for Program {
    /// Where our own chains load it.
    fn default() -> Self {
        Self {
            id: address::PROGRAM_ID.into(),
        }
    }
}

impl Program {
    /// The program address of seeds from [`worldline_abi::address`].
    pub fn derive(&self, seeds: &[&[u8]]) -> Address {
        Address::find_program_address(seeds, &self.id).0
    }

    /// Where a shard lies: an address with a seed, since programs cannot make accounts so large.
    pub fn shard(&self, owner: &Address, id: u64, index: u8) -> Address {
        let seed = address::shard_seed(id, index);
        let text = str::from_utf8(&seed).expect("hexadecimal digits");
        Address::create_with_seed(owner, text, &self.id).expect("17 bytes are a short seed")
    }

    /// A call. `accounts` are those at the start of the instruction's list, `rest` holds one list for
    /// each kind that follows.
    ///
    /// # Panics
    /// If the lists are not as long as the interface says: a mistake of this crate.
    pub fn call<I: Instruction>(
        &self,
        body: &I,
        tail: &[u8],
        accounts: &[Address],
        rest: &[&[Address]],
    ) -> Call {
        assert_eq!(accounts.len(), I::ACCOUNTS.len(), "{}", I::SPEC.name);
        assert!(rest.len() <= I::REST.len(), "{}", I::SPEC.name);
        let fixed = accounts.iter().zip(I::ACCOUNTS);
        let kinds = rest.iter().zip(I::REST);
        let more = kinds.flat_map(|(list, kind)| list.iter().map(move |at| (at, kind)));
        let metas = fixed.chain(more).map(|(at, spec)| AccountMeta {
            pubkey: *at,
            is_signer: spec.signer,
            is_writable: spec.writable,
        });
        let mut data = Vec::new();
        encode(body, tail, &mut data);
        Call {
            program_id: self.id,
            accounts: metas.collect(),
            data,
        }
    }
}

/// Asks for more compute units than the 200,000 that each instruction gets unasked.
pub fn unit_limit(units: u32) -> Call {
    const COMPUTE_BUDGET: Address =
        Address::from_str_const("ComputeBudget111111111111111111111111111111");
    const SET_COMPUTE_UNIT_LIMIT: u8 = 2;
    let mut data = vec![SET_COMPUTE_UNIT_LIMIT];
    data.extend(units.to_le_bytes());
    Call {
        program_id: COMPUTE_BUDGET,
        accounts: Vec::new(),
        data,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use worldline_abi::instruction::{JoinSession, Ready};

    const OWNER: Address = Address::new_from_array([7; 32]);

    #[test]
    fn the_default_program_is_the_one_our_chains_load() {
        let text = Program::default().id.to_string();
        assert_eq!(text, "Wor1d1ine1111111111111111111111111111111111");
    }

    #[test]
    fn a_shard_lies_at_the_hash_of_owner_seed_and_program() {
        use sha2::{Digest, Sha256};
        let program = Program::default();
        let hash = Sha256::new()
            .chain_update(OWNER)
            .chain_update(b"00000000000000ff3")
            .chain_update(program.id);
        let expected: [u8; 32] = hash.finalize().into();
        assert_eq!(program.shard(&OWNER, 255, 3), Address::from(expected));
    }

    #[test]
    fn accounts_are_marked_as_the_interface_says() {
        let program = Program::default();
        let (session, state, world) = (OWNER, SYSTEM_PROGRAM, program.id);
        let call = program.call(
            &Ready { seat: 1 },
            &[],
            &[OWNER, session, state, world],
            &[&[OWNER, world]],
        );
        let marks = call
            .accounts
            .iter()
            .map(|one| (one.is_signer, one.is_writable));
        let written = (false, true);
        let read = (false, false);
        let expected = [(true, false), written, written, read, read, read];
        assert_eq!(marks.collect::<Vec<_>>(), expected);
        assert_eq!(call.data, [Ready::TAG, 1]);
    }

    #[test]
    #[should_panic(expected = "JoinSession")]
    fn a_missing_account_is_a_mistake_of_this_crate() {
        let _ = Program::default().call(&JoinSession::default(), &[], &[OWNER], &[]);
    }

    #[test]
    fn the_unit_limit_has_solanas_bytes() {
        assert_eq!(unit_limit(1_400_000).data, [2, 0xc0, 0x5c, 0x15, 0]);
    }
}
