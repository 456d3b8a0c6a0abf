//! A match's replay file on the chain.

use solana_instruction::Instruction as Call;
use worldline_abi::instruction::{
    CloseReplay, CreateReplay, FinishReplay, GROW_BYTES, GrowReplay, WRITE_BYTES, WriteReplay,
};
use worldline_abi::{
    Fault, ReplayAccount, ReplayHeader, ResultAccount, address, end_reason, kernels, replay_status,
};
use worldline_program_tests::{Chain, Table, Upload, derive, instruction, micro};

/// A recorded match and the bytes of a replay of it.
struct Recorded {
    chain: Chain,
    table: Table,
    replay: address::Address,
    file: Vec<u8>,
}

impl Recorded {
    fn new(body: usize) -> Self {
        let mut chain = Chain::rollup();
        let world = Upload::new(&mut chain, micro()).finish(&mut chain);
        let mut table = Table::ready(&mut chain, &world, kernels::SYSCALLS);
        let start = table.state(&chain);
        table.frame(&mut chain).unwrap();
        chain
            .send(&[&table.keys[0]], &[table.end(0, end_reason::QUIT)])
            .unwrap();
        let session = table.book(&chain).session;
        chain.send(&[&table.operator], &[table.record()]).unwrap();
        let kept: ResultAccount = chain.read(table.result);
        let header = ReplayHeader {
            frames: 1,
            session,
            start,
            result: kept.result,
            body_bytes: body as u32,
            ..ReplayHeader::default()
        };
        let body: Vec<u8> = (0..body).map(|at| at as u8).collect();
        let file = [bytemuck::bytes_of(&header), &body].concat();
        let replay = derive(&address::replay(&table.session));
        Self {
            chain,
            table,
            replay,
            file,
        }
    }

    fn create(&self) -> Call {
        let accounts = [
            self.table.operator(),
            self.table.result,
            self.replay,
            [0; 32],
        ];
        let bytes = self.file.len() as u32;
        instruction(&CreateReplay { bytes }, &[], &accounts, &[])
    }

    fn finish(&self) -> Call {
        let accounts = [self.table.operator(), self.table.result, self.replay];
        instruction(&FinishReplay {}, &[], &accounts, &[])
    }

    fn send(&mut self, call: Call) -> Result<(), Option<Fault>> {
        let operator = self.table.operator.insecure_clone();
        self.chain
            .send(&[&operator], &[call])
            .map_err(|refused| refused.fault)
    }

    fn write_all(&mut self) {
        self.send(self.create()).unwrap();
        let grow = instruction(
            &GrowReplay {},
            &[],
            &[self.table.operator(), self.replay, [0; 32]],
            &[],
        );
        for _ in 1..(self.file.len() + size_of::<ReplayAccount>()).div_ceil(GROW_BYTES) {
            self.send(grow.clone()).unwrap();
        }
        for (chunk, bytes) in self.file.clone().chunks(WRITE_BYTES).enumerate() {
            let body = WriteReplay {
                offset: (chunk * WRITE_BYTES) as u32,
            };
            let accounts = [self.table.operator(), self.replay];
            self.send(instruction(&body, bytes, &accounts, &[]))
                .unwrap();
        }
    }
}

#[test]
fn a_replay_is_written_finished_and_closed() {
    let mut recorded = Recorded::new(25_000);
    let before = recorded.chain.lamports(recorded.table.operator());
    recorded.write_all();
    recorded.send(recorded.finish()).unwrap();
    let data = recorded.chain.data(recorded.replay);
    assert_eq!(&data[size_of::<ReplayAccount>()..], recorded.file);
    let kept: ResultAccount = recorded.chain.read(recorded.table.result);
    assert_eq!(kept.replay, replay_status::FINISHED);

    let write = WriteReplay { offset: 0 };
    let accounts = [recorded.table.operator(), recorded.replay];
    let late = recorded
        .send(instruction(&write, &[1], &accounts, &[]))
        .unwrap_err();
    assert_eq!(late, Some(Fault::ReplayStatus), "what is finished stays");
    let accounts = [
        recorded.table.operator(),
        recorded.table.result,
        recorded.replay,
    ];
    recorded
        .send(instruction(&CloseReplay {}, &[], &accounts, &[]))
        .unwrap();
    assert!(!recorded.chain.exists(recorded.replay));
    let fees = before - recorded.chain.lamports(recorded.table.operator());
    assert!(
        fees < 1_000_000,
        "only signatures were paid: {fees} lamports"
    );
}

#[test]
fn a_replay_of_another_match_is_refused() {
    let result = size_of::<ReplayHeader>() - 304; // a byte of the result
    for wrong in [20, result] {
        let mut recorded = Recorded::new(100);
        recorded.file[wrong] ^= 1;
        recorded.write_all();
        assert_eq!(
            recorded.send(recorded.finish()),
            Err(Some(Fault::ReplayMismatch)),
            "{wrong}"
        );
    }
    let mut recorded = Recorded::new(100);
    recorded.file[848] ^= 1;
    recorded.write_all();
    assert_eq!(
        recorded.send(recorded.finish()),
        Err(Some(Fault::ReplayMismatch)),
        "its length"
    );
}

#[test]
fn only_the_operator_writes_it_and_only_inside() {
    let mut recorded = Recorded::new(100);
    let stranger = recorded.chain.person();
    let mut create = recorded.create();
    create.accounts[0].pubkey = solana_signer::Signer::pubkey(&stranger);
    let refused = recorded.chain.send(&[&stranger], &[create]).unwrap_err();
    assert_eq!(refused.fault, Some(Fault::NotAllowed));
    recorded.write_all();
    assert_eq!(
        recorded.send(recorded.create()),
        Err(Some(Fault::ReplayStatus)),
        "twice"
    );
    let accounts = [recorded.table.operator(), recorded.replay];
    for (offset, bytes) in [(u32::MAX, 1), (recorded.file.len() as u32, 1), (0, 997)] {
        let call = instruction(&WriteReplay { offset }, &vec![0; bytes], &accounts, &[]);
        let refused = recorded.send(call);
        assert_eq!(
            refused,
            Err(Some(Fault::OutOfRange)),
            "{bytes} bytes at {offset}"
        );
    }
}
