//! The step on random worlds: its bytes, its bounds, its refusals.

use worldline_abi::{InputBuffer, Page, STICK_UNIT, SessionState, status};
use worldline_cartridge::testing::{CHARACTERS, Size, cartridge, policy};
use worldline_cartridge::{
    Actor, Cartridge, Lane, Scratch, StepError, act, begin, finish, layer, step, step_batch,
};
use worldline_mamba2::sample::Random;
use worldline_mamba2::{Kernels, Native, Scalar};

const STAGE: u8 = 31;

/// Anything that a controller can send.
fn inputs(frame: u32, random: &mut Random) -> InputBuffer {
    let mut inputs = InputBuffer {
        frame,
        ..InputBuffer::default()
    };
    let unit = i32::from(STICK_UNIT);
    for slot in &mut inputs.slots {
        slot.pad.stick = [0; 2].map(|_: i32| random.between(-unit, unit) as i16);
        slot.pad.cstick = [0; 2].map(|_: i32| random.between(-unit, unit) as i16);
        slot.pad.triggers = [0; 2].map(|_: i32| random.between(0, 255) as u8);
        slot.pad.buttons = random.between(0, 0x1F7F) as u16 & worldline_abi::button::ALL;
        slot.sequence = frame as u16;
    }
    inputs
}

struct Game<'c> {
    cartridge: &'c Cartridge,
    state: SessionState,
    pages: Vec<Page>,
    scratch: Box<Scratch>,
    random: Random,
}

impl<'c> Game<'c> {
    fn new(cartridge: &'c Cartridge, seed: u64) -> Self {
        let model = cartridge.model();
        Self {
            cartridge,
            state: model.start(STAGE, [CHARACTERS[0], CHARACTERS[1]]).unwrap(),
            pages: model.hidden().fresh(),
            scratch: Scratch::boxed(),
            random: Random(seed),
        }
    }

    fn play<K: Kernels>(&mut self, frames: u32, kernels: &K) {
        let model = self.cartridge.model();
        let mut hidden: Vec<&mut Page> = self.pages.iter_mut().collect();
        for _ in 0..frames {
            let inputs = inputs(self.state.frame + 1, &mut self.random);
            step(
                &model,
                &mut self.state,
                &mut hidden,
                &inputs,
                &mut self.scratch,
                kernels,
            )
            .unwrap();
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// The golden trace: whoever changes these bytes changes the arithmetic of every cartridge there is.
#[test]
fn every_kernel_gives_frame_600_its_golden_hash() {
    let micro = cartridge(Size::Micro, 1);
    assert_eq!(micro.root(), GOLDEN_ROOT);
    let trace = |kernels: &dyn Fn(&mut Game<'_>)| {
        let mut game = Game::new(&micro, 2);
        kernels(&mut game);
        hex(&game.state.chain)
    };
    assert_eq!(trace(&|game| game.play(600, &Scalar)), GOLDEN_CHAIN);
    for kernels in Native::available() {
        assert_eq!(
            trace(&|game| game.play(600, &kernels)),
            GOLDEN_CHAIN,
            "{}",
            kernels.name()
        );
    }
}

const GOLDEN_ROOT: &str = "28007a0386350efbb1ff617c640a6bf01de1d0ccce6848be7d69a5d977211580";
const GOLDEN_CHAIN: &str = "9c7773ca8ef9a43bb77f04017acec85693c15c121a86a7c0f42b02b5f43461de";

#[test]
fn ten_thousand_frames_stay_in_range() {
    let interop = cartridge(Size::Interop, 3);
    let mut game = Game::new(&interop, 4);
    game.play(10_000, &Scalar);
    let plan = *interop.model().plan();
    for player in &game.state.players {
        for field in plan.fields {
            let value = field.read(bytemuck::cast_ref(player));
            assert!((field.min..=field.max).contains(&value));
        }
    }
    assert_eq!(
        (game.state.frame, game.state.clock),
        (10_000, 28_800 - 10_000)
    );
    assert_ne!(
        game.state.players[0],
        Game::new(&interop, 4).state.players[0]
    );
}

/// The median frame of the last 300 against that of the first 300, doubled for a busy machine.
#[test]
fn frame_10_000_costs_what_frame_1_costs() {
    let interop = cartridge(Size::Interop, 3);
    let mut game = Game::new(&interop, 5);
    let median = |game: &mut Game<'_>| {
        let mut times = [(); 300].map(|()| {
            let begun = std::time::Instant::now();
            game.play(1, &Scalar);
            begun.elapsed()
        });
        times.sort_unstable();
        times[times.len() / 2]
    };
    let early = median(&mut game);
    game.play(9_400, &Scalar);
    let late = median(&mut game);
    assert!(
        late < 2 * early,
        "{early:?} a frame at first, {late:?} after 10,000"
    );
}

#[test]
fn layer_by_layer_gives_the_same_bytes() {
    let micro = cartridge(Size::Micro, 5);
    let (mut whole, mut parts) = (Game::new(&micro, 6), Game::new(&micro, 6));
    whole.play(20, &Scalar);
    let model = micro.model();
    let mut hidden: Vec<&mut Page> = parts.pages.iter_mut().collect();
    for _ in 0..20 {
        let inputs = inputs(parts.state.frame + 1, &mut parts.random);
        begin(
            &model,
            &parts.state,
            hidden.len(),
            &inputs,
            &mut parts.scratch,
            &Scalar,
        )
        .unwrap();
        for index in 0..model.layers() {
            layer(&model, index, &mut hidden, &mut parts.scratch, &Scalar).unwrap();
        }
        finish(
            &model,
            &mut parts.state,
            &inputs,
            &mut parts.scratch,
            &Scalar,
        );
    }
    assert_eq!((parts.state, parts.pages), (whole.state, whole.pages));
}

#[test]
fn a_batch_gives_the_bytes_of_single_steps() {
    let micro = cartridge(Size::Micro, 7);
    let model = micro.model();
    let mut single: Vec<Game<'_>> = (0..5).map(|seed| Game::new(&micro, seed)).collect();
    let mut batch: Vec<Game<'_>> = (0..5).map(|seed| Game::new(&micro, seed)).collect();
    single.iter_mut().for_each(|game| game.play(10, &Scalar));
    for frame in 1..=10 {
        let pads: Vec<InputBuffer> = batch
            .iter_mut()
            .map(|game| inputs(frame, &mut game.random))
            .collect();
        let mut hidden: Vec<Vec<&mut Page>> = Vec::new();
        let mut rest = Vec::new();
        for game in &mut batch {
            hidden.push(game.pages.iter_mut().collect());
            rest.push((&mut game.state, &mut game.scratch));
        }
        let lanes = rest.into_iter().zip(&mut hidden).zip(&pads);
        let mut lanes: Vec<Lane<'_, '_>> = lanes
            .map(|(((state, scratch), hidden), inputs)| Lane {
                state,
                hidden,
                inputs,
                scratch,
            })
            .collect();
        step_batch(&model, &mut lanes, &Scalar).unwrap();
    }
    for (single, batch) in single.iter().zip(&batch) {
        assert_eq!((single.state, &single.pages), (batch.state, &batch.pages));
    }
}

#[test]
fn what_cannot_be_stepped_is_refused_and_left_alone() {
    let micro = cartridge(Size::Micro, 8);
    let model = micro.model();
    let start = Game::new(&micro, 0).state;
    let expect = |state: SessionState, inputs: InputBuffer, drop_page: bool, error: StepError| {
        let mut game = Game::new(&micro, 0);
        game.state = state;
        let used = game.pages.len() - usize::from(drop_page);
        let mut hidden: Vec<&mut Page> = game.pages.iter_mut().take(used).collect();
        let result = step(
            &model,
            &mut game.state,
            &mut hidden,
            &inputs,
            &mut game.scratch,
            &Scalar,
        );
        assert_eq!(result, Err(error));
        assert_eq!(game.state, state);
    };
    let one = InputBuffer {
        frame: 1,
        ..InputBuffer::default()
    };
    let ended = SessionState {
        status: status::ENDED,
        ..start
    };
    expect(
        ended,
        one,
        false,
        StepError::NotActive {
            status: status::ENDED,
        },
    );
    expect(
        start,
        InputBuffer::default(),
        false,
        StepError::Frame {
            expected: 1,
            found: 0,
        },
    );
    expect(
        SessionState {
            version: 9,
            ..start
        },
        one,
        false,
        StepError::Version { found: 9 },
    );
    let pages = model.hidden().pages();
    expect(
        start,
        one,
        true,
        StepError::Pages {
            expected: pages,
            found: pages - 1,
        },
    );
    let (expected, found) = (start.schema_id, !start.schema_id);
    expect(
        SessionState {
            schema_id: found,
            ..start
        },
        one,
        false,
        StepError::Schema { expected, found },
    );
    assert!(model.start(99, [2, 2]).is_err());
}

#[test]
fn a_policy_plays_valid_pads_that_its_seed_decides() {
    let (world, policy) = (cartridge(Size::Interop, 9), policy(Size::Interop, 10));
    let model = policy.model();
    let play = |seat: usize, generator: u64| {
        let mut game = Game::new(&world, 0);
        let mut actor = Actor { seat, generator };
        let mut pages = model.hidden().fresh();
        let mut hidden: Vec<&mut Page> = pages.iter_mut().collect();
        let mut turn = |game: &mut Game<'_>| {
            let last = InputBuffer::default();
            let pad = act(
                &model,
                &mut actor,
                &game.state,
                &mut hidden,
                &last,
                &mut game.scratch,
                &Scalar,
            );
            game.play(1, &Scalar);
            pad.unwrap()
        };
        (0..50).map(|_| turn(&mut game)).collect::<Vec<_>>()
    };
    let pads = play(0, 1);
    assert!(pads.iter().all(worldline_abi::Pad::is_valid));
    assert!(pads.windows(2).any(|pair| pair[0] != pair[1]));
    assert_eq!(pads, play(0, 1));
    assert_ne!(pads, play(0, 2));
    assert_ne!(pads, play(1, 1));

    let mut game = Game::new(&world, 0);
    let mut hidden: Vec<&mut Page> = game.pages.iter_mut().collect();
    let one = InputBuffer {
        frame: 1,
        ..InputBuffer::default()
    };
    let wrong = step(
        &model,
        &mut game.state,
        &mut hidden,
        &one,
        &mut game.scratch,
        &Scalar,
    );
    assert_eq!(
        wrong,
        Err(StepError::Kind {
            expected: 0,
            found: 1
        })
    );
}
