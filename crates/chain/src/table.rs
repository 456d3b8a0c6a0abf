//! A session from its opening to its first frame: accounts, deposits, rollup, seats.

use solana_address::Address;
use solana_keypair::Keypair;
use solana_signer::Signer;
use worldline_abi::{
    ReplayHeader, SessionAccount, SessionState, WorldAccount, address, seat, status, world_status,
};

use crate::limits::{DELEGATION_FEE_LAMPORTS, FEE_LAMPORTS};
use crate::program::Program;
use crate::read::{ReadError, parse, read};
use crate::rpc::{Rpc, RpcError};
use crate::send::SendError;
use crate::session::{NewSession, Part, RESULT_BYTES, SessionAt, open_sizes};

/// A step of a session did not happen.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// Something on a chain could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A transaction did not go through.
    #[error(transparent)]
    Send(#[from] SendError),
    /// The world cannot be played.
    #[error(
        "{0} is no finished world: its upload has to be finished first, or its retirement has begun"
    )]
    WorldStatus(Address),
    /// The session is on neither chain.
    #[error(
        "there is no session at {0}, neither on L1 nor on the rollup: check the address; a closed session leaves only its result"
    )]
    Nowhere(Address),
    /// It is lent to a rollup that does not know it.
    #[error(
        "{session} is lent to a rollup, and {url} does not have it: name that rollup with --rollup"
    )]
    OtherRollup {
        /// The session.
        session: Address,
        /// The rollup that was asked.
        url: String,
    },
}

impl From<RpcError> for SessionError {
    fn from(error: RpcError) -> Self {
        Self::Read(error.into())
    }
}

/// The two chains that a session moves between.
#[derive(Debug, Clone)]
pub struct Chains {
    /// Where worlds, results and money are.
    pub l1: Rpc,
    /// Where matches are played.
    pub rollup: Rpc,
}

/// A session as it stands.
#[derive(Debug, Clone)]
pub struct Found {
    /// Its addresses.
    pub at: SessionAt,
    /// Its identities.
    pub account: SessionAccount,
    /// Its state.
    pub state: SessionState,
    /// Whether it is lent to the rollup.
    pub lent: bool,
}

impl Found {
    /// The world that it is played in.
    pub fn world(&self) -> Address {
        self.account.session.world.into()
    }
}

/// What a session takes, in lamports, and who gets it back when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionCost {
    /// The world's fee, which goes to its owner.
    pub fee: u64,
    /// Deposits for the session's accounts, back with the payer when it is closed.
    pub rent: u64,
    /// Deposits for the rollup's records, back with the payer when the rollup gives the session back.
    pub delegation: u64,
    /// Deposits for the result and an empty replay, which stay as long as they are kept.
    pub kept: u64,
    /// Fees of L1 and of the delegation program for opening and closing it, about.
    pub fees: u64,
}

/// What a session of a world takes, on a rollup or (`lent` false) on one chain alone; `in_parts` as in
/// [`NewSession`].
pub fn quote(
    chains: &Chains,
    program: &Program,
    world: &Address,
    lent: bool,
    in_parts: bool,
) -> Result<SessionCost, SessionError> {
    let account = playable(chains, program, world)?;
    let rent = |bytes: &usize| chains.l1.rent(*bytes);
    let sizes = open_sizes(&account.manifest, in_parts);
    let kept = [RESULT_BYTES, 128 + size_of::<ReplayHeader>()];
    let records = sizes.len() * usize::from(lent);
    // A record of 96 bytes, and metadata with up to three seeds.
    let record = chains.l1.rent(96)? + chains.l1.rent(150)?;
    Ok(SessionCost {
        fee: account.fee,
        rent: sizes.iter().map(rent).sum::<Result<u64, _>>()?,
        delegation: record * records as u64,
        kept: kept.iter().map(rent).sum::<Result<u64, _>>()?,
        fees: (sizes.len() + records + 10) as u64 * FEE_LAMPORTS
            + records as u64 * DELEGATION_FEE_LAMPORTS,
    })
}

fn playable(
    chains: &Chains,
    program: &Program,
    world: &Address,
) -> Result<WorldAccount, SessionError> {
    let account: WorldAccount = read(program, &chains.l1, world)?;
    if account.status == world_status::READY {
        Ok(account)
    } else {
        Err(SessionError::WorldStatus(*world))
    }
}

/// Opens a session, makes its pages, and (`lend`) hands it to the rollup. Run again after a failure,
/// with the same id, it goes on where it was.
pub fn open(
    chains: &Chains,
    program: Program,
    payer: &Keypair,
    id: [u8; 16],
    world: &Address,
    new: &NewSession,
    lend: bool,
) -> Result<SessionAt, SessionError> {
    let account = playable(chains, &program, world)?;
    let manifest = account.manifest;
    let at = SessionAt::new(program, payer.pubkey(), id);
    let l1 = &chains.l1;
    let transact = |calls: &[_]| l1.transact(&program.id, calls, &[payer]);
    let mut owner = l1.account(&at.address)?.map(|account| account.owner);
    if owner.is_none() {
        transact(&[at.create(world, &manifest.owner.into(), new)])?;
        owner = Some(program.id);
    }
    if owner == Some(program.id) {
        loop {
            let book: SessionAccount = read(&program, l1, &at.address)?;
            if book.pages < manifest.hidden_pages {
                transact(&at.create_pages(world, &manifest, book.pages as u8))?;
            } else if new.in_parts && book.frame == [0; 32] {
                transact(&[at.create_frame()])?;
            } else {
                break;
            }
        }
    }
    if lend {
        delegate(chains, &at, payer, at.parts(&manifest, new.in_parts))?;
    }
    Ok(at)
}

/// Hands every part of a session to the rollup that has not been yet.
fn delegate(
    chains: &Chains,
    at: &SessionAt,
    payer: &Keypair,
    mut parts: Vec<Part>,
) -> Result<(), SessionError> {
    let validator = chains.rollup.identity()?;
    let addresses: Vec<Address> = parts.iter().map(|part| part.address).collect();
    let accounts = chains.l1.accounts(&addresses)?;
    let mut here = accounts.iter().map(|account| {
        account
            .as_ref()
            .is_some_and(|one| one.owner == at.program.id)
    });
    parts.retain(|_| here.next().unwrap_or(false));
    let make = |index: usize| at.delegate(&parts[index], &validator).to_vec();
    chains
        .l1
        .transact_all(&at.program.id, parts.len(), payer, make, || ())?;
    Ok(())
}

/// Finds a session: on L1, or lent to the rollup.
pub fn find(chains: &Chains, program: Program, session: &Address) -> Result<Found, SessionError> {
    let delegation = Address::new_from_array(address::DELEGATION_PROGRAM);
    let owner = chains.l1.account(session)?.map(|account| account.owner);
    let lent = owner == Some(delegation);
    let rpc = if lent { &chains.rollup } else { &chains.l1 };
    let account: SessionAccount = match read(&program, rpc, session) {
        Err(ReadError::Missing { .. }) if owner.is_none() => {
            return Err(SessionError::Nowhere(*session));
        }
        Err(ReadError::Missing { .. } | ReadError::Owner { .. }) if lent => {
            return Err(SessionError::OtherRollup {
                session: *session,
                url: rpc.url().into(),
            });
        }
        other => other?,
    };
    let at = SessionAt::of(program, &account);
    let state = read(&program, rpc, &at.state)?;
    Ok(Found {
        at,
        account,
        state,
        lent,
    })
}

impl Chains {
    /// Where a session is played.
    pub fn of(&self, found: &Found) -> &Rpc {
        if found.lent { &self.rollup } else { &self.l1 }
    }

    /// Takes a seat: `wallet` sits down, and `key` will press. Seats of machines are the payer's to
    /// give.
    pub fn join(
        &self,
        found: &Found,
        wallet: &Keypair,
        seat: u8,
        kind: u8,
        key: &Address,
    ) -> Result<(), SessionError> {
        let call = found.at.join(&wallet.pubkey(), seat, kind, key);
        self.of(found)
            .transact(&found.at.program.id, &[call], &[wallet])?;
        Ok(())
    }

    /// Picks a character and says ready. The second seat to do so starts the match.
    pub fn ready(
        &self,
        found: &Found,
        payer: &Keypair,
        key: &Keypair,
        seat: u8,
        character: u8,
    ) -> Result<(), SessionError> {
        let world: WorldAccount = read(&found.at.program, &self.l1, &found.world())?;
        let calls = [
            found.at.pick(&key.pubkey(), seat, character),
            found
                .at
                .ready(&key.pubkey(), seat, &found.world(), &world.manifest),
        ];
        // A session key has no lamports on L1: there, somebody else pays.
        let signers: &[&Keypair] = if found.lent { &[key] } else { &[payer, key] };
        self.of(found)
            .transact(&found.at.program.id, &calls, signers)?;
        Ok(())
    }

    /// Ends a match before the rules do. `key` is the seat's wallet or session key.
    pub fn end(
        &self,
        found: &Found,
        payer: &Keypair,
        key: &Keypair,
        seat: u8,
        reason: u8,
    ) -> Result<(), SessionError> {
        let call = found.at.end(&key.pubkey(), seat, reason);
        let signers: &[&Keypair] = if found.lent || payer.pubkey() == key.pubkey() {
            &[key]
        } else {
            &[payer, key]
        };
        self.of(found)
            .transact(&found.at.program.id, &[call], signers)?;
        Ok(())
    }
}

/// Every session of a program that is open on a chain, lent ones on the rollup only.
pub fn list(rpc: &Rpc, program: Program) -> Result<Vec<(SessionAt, SessionAccount)>, SessionError> {
    let filters = crate::rpc::Filter::layout::<SessionAccount>();
    let mut found = Vec::new();
    for (address, account) in rpc.program_accounts(&program.id, &filters)? {
        let book: SessionAccount = parse(&address, &account.data)?;
        found.push((SessionAt::of(program, &book), book));
    }
    Ok(found)
}

/// What the chain calls a state's status.
pub fn status_word(code: u8) -> &'static str {
    match code {
        status::OPEN => "open",
        status::PICKING => "picking",
        status::READY => "ready",
        status::ACTIVE => "active",
        _ => "ended",
    }
}

/// What the chain calls a seat's kind.
pub fn seat_word(code: u8) -> &'static str {
    match code {
        seat::FREE => "free",
        seat::HUMAN => "human",
        seat::GHOST => "ghost",
        seat::RANDOM => "random",
        _ => "policy",
    }
}
