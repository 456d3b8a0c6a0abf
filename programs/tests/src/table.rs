//! A session, its two players, and who runs its frames.

use crate::{Chain, Refused, Upload, derive, instruction};
use solana_instruction::Instruction as Call;
use solana_keypair::Keypair;
use solana_signer::Signer;
use worldline_abi::instruction::{
    BeginFrame, CloseSession, CreateFrame, CreatePages, CreateSession, EndSession, FinishFrame,
    Instruction, JoinSession, PickCharacter, Ready, RecordResult, RunInference, RunLayers,
    SubmitInput,
};
use worldline_abi::{
    InputAccount, InputBuffer, Pad, Page, STICK_UNIT, SessionAccount, SessionState, address,
    button, seat,
};
use worldline_mamba2::sample::Random;

/// The stage of every test match.
pub const STAGE: u8 = 31;
/// The characters of every test match.
pub const CHARACTERS: [u8; 2] = [2, 20];
/// Pages that one transaction makes.
const PAGES: usize = 8;

/// A session and everybody around it.
pub struct Table {
    /// Opened the session, and gets its rent back.
    pub payer: Keypair,
    /// Executes frames.
    pub operator: Keypair,
    /// Wallets by seat.
    pub wallets: [Keypair; 2],
    /// Session keys by seat.
    pub keys: [Keypair; 2],
    /// The session's id.
    pub id: [u8; 16],
    /// Its addresses.
    pub session: address::Address,
    /// Of the state.
    pub state: address::Address,
    /// Of the inputs.
    pub inputs: address::Address,
    /// Of the frame in progress.
    pub frame: address::Address,
    /// Of the pages.
    pub pages: Vec<address::Address>,
    /// Of the result.
    pub result: address::Address,
    /// The world, its shards, its owner.
    pub world: address::Address,
    /// In the manifest's order.
    pub shards: Vec<address::Address>,
    /// The world's owner.
    pub owner: address::Address,
    sequence: u16,
    draws: Random,
}

impl Table {
    /// People and addresses; nothing is on the chain yet.
    pub fn new(chain: &mut Chain, world: &Upload) -> Self {
        let payer = chain.person();
        let id = *b"TEST01\0\0\0\0\0\0\0\0\0\0";
        let session = derive(&address::session(&payer.pubkey().to_bytes(), &id));
        let pages = (0..world.cartridge.manifest().hidden_pages as u8)
            .map(|index| derive(&address::page(&session, &[index])))
            .collect();
        Self {
            payer,
            operator: chain.person(),
            wallets: [chain.person(), chain.person()],
            keys: [chain.person(), chain.person()],
            id,
            session,
            state: derive(&address::state(&session)),
            inputs: derive(&address::inputs(&session)),
            frame: derive(&address::frame(&session)),
            pages,
            result: derive(&address::result(&session)),
            world: world.world,
            shards: world.shards.clone(),
            owner: world.owner(),
            sequence: 0,
            draws: Random(2),
        }
    }

    /// A match that is about to run its first frame.
    pub fn ready(chain: &mut Chain, world: &Upload, kernels: u8) -> Self {
        let table = Self::new(chain, world);
        table.open(chain, kernels);
        table.seat_both(chain);
        table
    }

    /// The same, whose frames are spread over transactions.
    pub fn ready_in_parts(chain: &mut Chain, world: &Upload, kernels: u8) -> Self {
        let table = Self::new(chain, world);
        table.open(chain, kernels);
        chain
            .send(&[&table.payer], &[table.create_frame()])
            .expect("create the frame");
        table.seat_both(chain);
        table
    }

    /// Makes the session and its pages.
    pub fn open(&self, chain: &mut Chain, kernels: u8) {
        chain
            .send(&[&self.payer], &[self.create(kernels)])
            .expect("create a session");
        for first in (0..self.pages.len()).step_by(PAGES) {
            let call = self.create_pages(first as u8);
            chain.send(&[&self.payer], &[call]).expect("create pages");
        }
    }

    /// Both sit down, pick and are ready.
    pub fn seat_both(&self, chain: &mut Chain) {
        for at in 0..2u8 {
            let wallet = &self.wallets[usize::from(at)];
            chain.send(&[wallet], &[self.join(at)]).expect("join");
        }
        for at in 0..2u8 {
            let key = &self.keys[usize::from(at)];
            chain
                .send(&[key], &[self.pick(at), self.say_ready(at)])
                .expect("pick, ready");
        }
    }

    /// `CreateSession`.
    pub fn create(&self, kernels: u8) -> Call {
        let body = CreateSession {
            id: self.id,
            operator: self.operator.pubkey().to_bytes(),
            stage: STAGE,
            kernels,
            ..CreateSession::default()
        };
        let accounts = [
            self.payer(),
            self.session,
            self.state,
            self.inputs,
            self.world,
            self.owner,
            [0; 32],
        ];
        instruction(&body, &[], &accounts, &[])
    }

    /// `CreatePages` from this one on.
    pub fn create_pages(&self, first: u8) -> Call {
        let pages: Vec<_> = self.pages[first.into()..]
            .iter()
            .take(PAGES)
            .copied()
            .collect();
        let accounts = [self.payer(), self.session, self.world, [0; 32]];
        instruction(&CreatePages { first }, &[], &accounts, &[&pages])
    }

    /// `CreateFrame`.
    pub fn create_frame(&self) -> Call {
        let accounts = [self.payer(), self.session, self.frame, [0; 32]];
        instruction(&CreateFrame {}, &[], &accounts, &[])
    }

    /// `JoinSession` of a person.
    pub fn join(&self, seat: u8) -> Call {
        let at = usize::from(seat);
        let session_key = self.keys[at].pubkey().to_bytes();
        let body = JoinSession {
            seat,
            kind: seat::HUMAN,
            session_key,
        };
        let wallet = self.wallets[at].pubkey().to_bytes();
        instruction(&body, &[], &[wallet, self.session, self.state], &[])
    }

    /// `PickCharacter`.
    pub fn pick(&self, seat: u8) -> Call {
        let body = PickCharacter {
            seat,
            character: CHARACTERS[usize::from(seat)],
        };
        instruction(&body, &[], &[self.key(seat), self.session, self.state], &[])
    }

    /// `Ready`.
    pub fn say_ready(&self, seat: u8) -> Call {
        let accounts = [self.key(seat), self.session, self.state, self.world];
        instruction(&Ready { seat }, &[], &accounts, &[&self.shards])
    }

    /// `SubmitInput`.
    pub fn submit(&self, seat: u8, sequence: u16, pad: Pad) -> Call {
        let body = SubmitInput {
            seat,
            sequence,
            pad,
        };
        instruction(
            &body,
            &[],
            &[self.key(seat), self.session, self.inputs],
            &[],
        )
    }

    /// `RunInference`.
    pub fn run(&self) -> Call {
        let accounts = [
            self.operator(),
            self.session,
            self.state,
            self.inputs,
            self.world,
        ];
        signed(instruction(
            &RunInference {},
            &[],
            &accounts,
            &[&self.shards, &self.pages],
        ))
    }

    /// `BeginFrame`.
    pub fn begin(&self) -> Call {
        let at = [
            self.operator(),
            self.session,
            self.state,
            self.inputs,
            self.world,
            self.frame,
        ];
        signed(instruction(&BeginFrame {}, &[], &at, &[&self.shards]))
    }

    /// `RunLayers`.
    pub fn layers(&self, count: u8) -> Call {
        let at = [self.operator(), self.session, self.world, self.frame];
        signed(instruction(
            &RunLayers { count },
            &[],
            &at,
            &[&self.shards, &self.pages],
        ))
    }

    /// `FinishFrame`.
    pub fn finish(&self) -> Call {
        let at = [
            self.operator(),
            self.session,
            self.state,
            self.inputs,
            self.world,
            self.frame,
        ];
        signed(instruction(&FinishFrame {}, &[], &at, &[&self.shards]))
    }

    /// `EndSession`.
    pub fn end(&self, seat: u8, reason: u8) -> Call {
        let accounts = [self.key(seat), self.session, self.state, self.inputs];
        instruction(&EndSession { seat, reason }, &[], &accounts, &[])
    }

    /// `RecordResult`.
    pub fn record(&self) -> Call {
        let accounts = [
            self.operator(),
            self.session,
            self.state,
            self.inputs,
            self.world,
            self.result,
            [0; 32],
        ];
        instruction(&RecordResult {}, &[], &accounts, &[])
    }

    /// `CloseSession` by `closer`, with these pages.
    pub fn close(&self, closer: &Keypair, pages: &[address::Address]) -> Call {
        let accounts = [
            closer.pubkey().to_bytes(),
            self.payer(),
            self.session,
            self.state,
            self.inputs,
            self.frame,
            self.world,
        ];
        instruction(&CloseSession {}, &[], &accounts, &[pages])
    }

    /// Presses something for both seats and runs a frame, as a cabinet does.
    pub fn frame(&mut self, chain: &mut Chain) -> Result<(), Refused> {
        self.press(chain)?;
        chain.send(&[&self.operator], &[self.run()])
    }

    /// Presses something for both seats.
    pub fn press(&mut self, chain: &mut Chain) -> Result<(), Refused> {
        self.sequence = self.sequence.wrapping_add(1);
        let pads = pads(&mut self.draws);
        for (at, pad) in pads.into_iter().enumerate() {
            let call = self.submit(at as u8, self.sequence, pad);
            chain.send(&[&self.keys[at]], &[call])?;
        }
        Ok(())
    }

    /// The payer's address.
    pub fn payer(&self) -> address::Address {
        self.payer.pubkey().to_bytes()
    }

    /// The operator's address.
    pub fn operator(&self) -> address::Address {
        self.operator.pubkey().to_bytes()
    }

    /// A seat's session key.
    pub fn key(&self, seat: u8) -> address::Address {
        self.keys[usize::from(seat)].pubkey().to_bytes()
    }

    /// The session.
    pub fn book(&self, chain: &Chain) -> SessionAccount {
        chain.read(self.session)
    }

    /// The state.
    pub fn state(&self, chain: &Chain) -> SessionState {
        chain.read(self.state)
    }

    /// The inputs.
    pub fn inputs(&self, chain: &Chain) -> InputAccount {
        chain.read(self.inputs)
    }

    /// The hidden state's bytes, page after page.
    pub fn hidden(&self, chain: &Chain) -> Vec<u8> {
        self.pages
            .iter()
            .flat_map(|page| chain.read::<Page>(*page).data)
            .collect()
    }
}

/// The operator signs where the interface leaves it to the session.
fn signed(mut call: Call) -> Call {
    call.accounts[0].is_signer = true;
    call
}

/// Anything that two controllers can send.
fn pads(draws: &mut Random) -> [Pad; 2] {
    let unit = i32::from(STICK_UNIT);
    [(); 2].map(|()| Pad {
        stick: [0; 2].map(|_: i32| draws.between(-unit, unit) as i16),
        cstick: [0; 2].map(|_: i32| draws.between(-unit, unit) as i16),
        triggers: [0; 2].map(|_: i32| draws.between(0, 255) as u8),
        buttons: draws.between(0, 0x1f7f) as u16 & button::ALL,
    })
}

/// The inputs that [`Table::frame`] presses, frame after frame, without a chain.
pub fn reference_inputs() -> impl Iterator<Item = InputBuffer> {
    let mut draws = Random(2);
    (1..).map(move |frame: u32| {
        let mut inputs = InputBuffer {
            frame,
            ..InputBuffer::default()
        };
        for (slot, pad) in inputs.slots.iter_mut().zip(pads(&mut draws)) {
            (slot.pad, slot.sequence) = (pad, frame as u16);
        }
        inputs
    })
}

const _: () = assert!(RunInference::ACCOUNTS.len() == 5);
