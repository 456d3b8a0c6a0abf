//! The life of a match under random events: invariants hold after every one.

use super::*;
use crate::limits::SIGN_GRACE;
use crate::world::Scratch;
use ed25519_dalek::{Signer, SigningKey};
use proptest::prelude::*;
use worldline_abi::winner;
use worldline_cartridge::testing::{Size, cartridge};

const STAGE: u8 = 31;
const FOX: u8 = 2;
const SECOND: Duration = Duration::from_secs(1);

fn world() -> Arc<World> {
    static WORLD: std::sync::LazyLock<Arc<World>> = std::sync::LazyLock::new(|| {
        World::new(
            "micro",
            cartridge(Size::Interop, 7),
            serde_json::Value::Null,
        )
    });
    WORLD.clone()
}

fn key(seat: u8) -> SigningKey {
    SigningKey::from_bytes(&[seat + 1; 32])
}

/// A match, a clock that is turned by hand, and what both have led to.
struct Bench {
    game: Match,
    now: Now,
    scratches: Vec<Scratch>,
    kept: Punctuality,
    tokens: [Token; 2],
    finished: Vec<Arc<Recording>>,
    frames: usize,
}

impl Bench {
    fn new(clock: u32) -> Self {
        let tokens = [Token::random(), Token::random()];
        let setup = Setup {
            id: MatchId::random(),
            world: world(),
            stage: STAGE,
            clock,
            generator: 5,
            created: 0,
        };
        let game = Match::new(setup, key(0).verifying_key(), tokens[0].clone(), Now::ZERO);
        Self {
            game,
            now: Now::ZERO,
            scratches: Vec::new(),
            kept: Punctuality::default(),
            tokens,
            finished: Vec::new(),
            frames: 0,
        }
    }

    /// Both seats taken, connected, picked and ready; the countdown is over.
    fn live(clock: u32) -> Self {
        let mut bench = Self::new(clock);
        bench.join().unwrap();
        for seat in 0..2 {
            bench.connect(seat).unwrap();
            bench.game.pick(seat, FOX).unwrap();
            bench.game.ready(seat, bench.now).unwrap();
        }
        bench.pass(COUNTDOWN);
        assert_eq!(bench.game.status(), status::ACTIVE);
        bench
    }

    fn join(&mut self) -> Result<u8, SeatError> {
        self.game
            .join(key(1).verifying_key(), self.tokens[1].clone(), self.now)
    }

    fn connect(&mut self, seat: u8) -> Result<u8, SeatError> {
        self.game
            .connect(self.tokens[usize::from(seat)].clone().as_str(), self.now)
    }

    /// Lets time pass in steps of half a frame, as the clock thread does.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now = (self.now + Duration::from_micros(8_333)).min(end);
            while self.game.turn(self.now, &mut self.kept) == Turn::Frame {
                run_together(&mut [&mut self.game], self.now, &mut self.scratches);
            }
            self.collect();
        }
    }

    fn collect(&mut self) {
        for effect in self.game.effects() {
            match effect {
                Effect::Finish(recording) => self.finished.push(recording),
                Effect::Frame(_) => self.frames += 1,
                _ => (),
            }
        }
    }

    fn sign(&mut self, seat: u8, frame: u32) -> Result<(), SeatError> {
        let (_, message) = self.game.sign_message(seat, frame)?;
        let signature = key(seat).sign(&message).to_bytes();
        self.game.signed(seat, frame, signature)
    }

    fn frame(&self) -> u32 {
        self.game.game().map_or(0, |game| game.state.frame)
    }
}

#[test]
fn a_match_runs_sixty_frames_a_second_to_its_end() {
    let mut bench = Bench::live(180);
    let start = bench.frame();
    bench.pass(SECOND);
    assert_eq!(bench.frame() - start, 60);
    bench.pass(2 * SECOND);
    assert_eq!(bench.game.status(), status::ENDED);
    assert!(
        bench.finished.is_empty(),
        "the players may still sign the end"
    );
    bench.pass(SIGN_GRACE);
    assert_eq!(bench.finished.len(), 1);
    let recording = &bench.finished[0];
    assert_eq!(
        (recording.frames(), recording.result.end_reason),
        (180, end_reason::TIME)
    );
    assert_eq!(
        (bench.frames, bench.kept.missed, bench.kept.slips),
        (180, 0, 0)
    );
}

#[test]
fn a_late_clock_catches_up_and_gives_up_when_it_cannot() {
    let mut bench = Bench::live(1800);
    let before = bench.frame();
    bench.now += Duration::from_millis(400);
    bench.pass(Duration::from_millis(100));
    assert_eq!(bench.frame() - before, 30, "half a second is caught up");
    assert!(bench.kept.missed > 0 && bench.kept.slips == 0);
    let before = bench.frame();
    bench.now += 10 * SECOND;
    bench.pass(SECOND);
    assert_eq!(bench.kept.slips, 1);
    assert!(
        (60..70).contains(&(bench.frame() - before)),
        "ten seconds are not"
    );
}

#[test]
fn matches_stepped_together_are_what_they_are_alone() {
    let press = |bench: &mut Bench, at: i16| {
        for seat in 0..2u8 {
            let pad = Pad {
                stick: [at * 900, i16::from(seat) * 700],
                ..Pad::default()
            };
            bench.game.press(seat, pad, 1).unwrap();
        }
    };
    let lives = || {
        let mut benches: Vec<Bench> = (0..5).map(|_| Bench::live(40)).collect();
        for (at, bench) in benches.iter_mut().enumerate() {
            press(bench, at as i16);
        }
        benches
    };
    let (mut together, mut alone) = (lives(), lives());
    let mut scratches = Vec::new();
    for _ in 0..40 {
        let now = together[0].now;
        let mut games: Vec<&mut Match> = together.iter_mut().map(|one| &mut one.game).collect();
        run_together(&mut games, now, &mut scratches);
    }
    for (together, alone) in together.iter().zip(&mut alone) {
        alone.pass(SECOND);
        let states = [together, alone].map(|bench| bench.game.game().unwrap().state);
        assert_eq!(states[0], states[1]);
        assert_eq!(together.game.status(), status::ENDED);
    }
}

#[test]
fn two_players_cannot_sit_on_one_seat() {
    let mut bench = Bench::new(60);
    bench.join().unwrap();
    assert_eq!(bench.join(), Err(SeatError::SeatTaken(bench.game.id)));
    assert_eq!(bench.connect(0), Ok(0));
    assert_eq!(bench.connect(0), Err(SeatError::SeatBusy));
    assert_eq!(
        bench.game.connect("no such token", bench.now),
        Err(SeatError::BadToken)
    );
    bench.game.disconnect(0, bench.now);
    assert_eq!(bench.connect(0), Ok(0));
}

#[test]
fn a_player_who_stays_away_loses_and_one_who_returns_plays_on() {
    let mut bench = Bench::live(6000);
    bench.game.disconnect(1, bench.now);
    bench.pass(ABANDON_GRACE - SECOND);
    assert_eq!(bench.connect(1), Ok(1));
    bench.pass(2 * SECOND);
    assert_eq!(bench.game.status(), status::ACTIVE);
    bench.game.disconnect(1, bench.now);
    bench.pass(ABANDON_GRACE + SECOND);
    let result = bench.game.view(bench.now).result.unwrap();
    assert_eq!((result.winner, result.reason), (Some(0), "abandoned"));
}

#[test]
fn with_nobody_there_the_clock_stands_still() {
    let mut bench = Bench::live(6000);
    bench.pass(SECOND);
    (0..2).for_each(|seat| bench.game.disconnect(seat, bench.now));
    let frame = bench.frame();
    bench.pass(5 * SECOND);
    assert_eq!(bench.frame(), frame);
    assert!(bench.game.view(bench.now).paused);
    bench.connect(0).unwrap();
    bench.pass(COUNTDOWN + SECOND);
    assert_eq!(bench.frame(), frame + 60);
    bench.pass(ABANDON_GRACE);
    assert_eq!(bench.game.view(bench.now).result.unwrap().winner, Some(0));
}

#[test]
fn quitting_a_live_match_gives_it_to_the_other() {
    let mut bench = Bench::live(6000);
    bench.pass(SECOND);
    bench.game.quit(0, bench.now).unwrap();
    bench.collect();
    let result = bench.game.view(bench.now).result.unwrap();
    assert_eq!((result.winner, result.reason), (Some(1), "quit"));
    assert_eq!(
        bench.game.quit(0, bench.now).unwrap_err().code(),
        "wrong_phase"
    );
    assert_eq!(bench.finished.len(), 1);
}

#[test]
fn the_same_seats_meet_again_in_a_rematch() {
    let mut bench = Bench::live(60);
    bench.pass(2 * SECOND);
    let mut next = bench
        .game
        .rematch(MatchId::random(), 9, 0, bench.now)
        .unwrap();
    assert_eq!(next.status(), status::PICKING);
    for seat in 0..2 {
        let token = bench.tokens[usize::from(seat)].clone();
        assert_eq!(next.connect(token.as_str(), bench.now), Ok(seat));
        assert_eq!(
            next.ready(seat, bench.now),
            Ok(()),
            "characters are picked already"
        );
    }
    assert_eq!(next.status(), status::READY);
}

#[test]
fn signatures_are_taken_once_at_marks_and_late_at_the_end() {
    let mut bench = Bench::live(90);
    bench.pass(Duration::from_millis(1_100));
    assert_eq!(bench.sign(0, 59), Err(SeatError::NoMark(59)));
    assert_eq!(bench.sign(0, 60), Ok(()));
    assert_eq!(bench.sign(0, 60), Err(SeatError::NoMark(60)));
    bench.pass(SECOND + SIGN_GRACE);
    assert_eq!(bench.game.status(), status::ENDED);
    assert_eq!(bench.sign(1, 60), Ok(()));
    assert_eq!(bench.sign(1, 90), Ok(()), "after the store");
    bench.collect();
    let recording = bench.finished.last().unwrap();
    assert_eq!(recording.signatures.len(), 3);
    let report = crate::verify(recording, &world());
    assert!(report.valid, "{report:?}");
    assert_eq!(report.signed_to, [Some(60), Some(90)]);
}

/// What may happen to a match, in any order.
#[derive(Clone, Debug)]
enum Happening {
    Join,
    Connect(u8),
    Disconnect(u8),
    Pick(u8, u8),
    Ready(u8),
    Press(u8, i16),
    Sign(u8),
    Quit(u8),
    Watch(bool),
    Pass(u64),
}

fn happening() -> impl Strategy<Value = Happening> {
    use Happening::{Connect, Disconnect, Join, Pass, Pick, Press, Quit, Ready, Sign, Watch};
    let seat = || 0u8..2;
    prop_oneof![
        2 => Just(Join),
        6 => seat().prop_map(Connect),
        2 => seat().prop_map(Disconnect),
        4 => (seat(), prop_oneof![Just(2u8), Just(20), Just(99)]).prop_map(|(seat, character)| Pick(seat, character)),
        6 => seat().prop_map(Ready),
        4 => (seat(), any::<i16>()).prop_map(|(seat, stick)| Press(seat, stick)),
        2 => seat().prop_map(Sign),
        1 => seat().prop_map(Quit),
        1 => any::<bool>().prop_map(Watch),
        6 => (0u64..3_000).prop_map(Pass),
        1 => (10_000u64..30_000).prop_map(Pass),
    ]
}

/// What a happening may not touch, and whether it may have happened at all.
fn check(bench: &mut Bench, before: &MatchView, refused: bool) {
    bench.collect();
    let after = bench.game.view(bench.now);
    let rank = |view: &MatchView| {
        ["open", "picking", "ready", "active", "ended"]
            .iter()
            .position(|status| *status == view.status)
    };
    if refused {
        assert_eq!(after.seats, before.seats, "a refusal changes nothing");
        assert_eq!(after.status, before.status);
    }
    let fell_back = before.status == "ready" && after.status == "picking";
    assert!(
        rank(&after) >= rank(before) || fell_back,
        "{} to {}",
        before.status,
        after.status
    );
    assert!(after.frame >= before.frame);
    assert!(
        before.status != "ended" || after.frame == before.frame,
        "an ended match stands still"
    );
    assert_eq!(
        after.frame as usize, bench.frames,
        "every frame is told once"
    );
    if let Some(game) = bench.game.game() {
        assert_eq!(game.recording.frames(), game.state.frame);
        assert_eq!(game.is_over(), after.status == "ended");
    }
    assert_eq!(
        after.starts_in_ms.is_some() && after.status == "ready",
        after.status == "ready"
    );
    if after.result.is_some() {
        let recording = &bench.game.game().unwrap().recording;
        assert_ne!(recording.result.winner, winner::NONE);
        assert_eq!(recording.frames(), after.frame);
    }
    if after.status == "active" || after.status == "ready" {
        assert!(
            after
                .seats
                .iter()
                .all(|seat| seat.ready && seat.character.is_some())
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_order_of_events_breaks_a_match(events in prop::collection::vec(happening(), 1..60)) {
        let mut bench = Bench::new(600);
        let mut sequence = 0;
        for event in events {
            let before = bench.game.view(bench.now);
            let seated = |seat: u8| before.seats[usize::from(seat)].kind == "human";
            let connected = |seat: u8| before.seats[usize::from(seat)].connected;
            let refused = match event {
                Happening::Join => bench.join().is_err(),
                Happening::Connect(seat) if seated(seat) => bench.connect(seat).is_err(),
                Happening::Disconnect(seat) if connected(seat) => { bench.game.disconnect(seat, bench.now); false }
                Happening::Pick(seat, character) if connected(seat) => bench.game.pick(seat, character).is_err(),
                Happening::Ready(seat) if connected(seat) => bench.game.ready(seat, bench.now).is_err(),
                Happening::Press(seat, stick) if connected(seat) => {
                    sequence += 1;
                    bench.game.press(seat, Pad { stick: [stick, 0], ..Pad::default() }, sequence).is_err()
                }
                Happening::Sign(seat) if connected(seat) => { let frame = bench.frame() / 60 * 60; bench.sign(seat, frame).is_err() }
                Happening::Quit(seat) if connected(seat) => bench.game.quit(seat, bench.now).is_err(),
                Happening::Watch(coming) => { bench.game.watch(coming, bench.now); false }
                Happening::Pass(ms) => { bench.pass(Duration::from_millis(ms)); false }
                _ => false,
            };
            check(&mut bench, &before, refused);
        }
        let over = bench.game.view(bench.now).result.is_some();
        if over {
            bench.pass(SIGN_GRACE);
        }
        prop_assert_eq!(over, !bench.finished.is_empty(), "an end is stored, nothing else is");
        if let Some(recording) = bench.finished.last() {
            let report = crate::verify(recording, &world());
            prop_assert!(report.valid, "{report:?}");
        }
    }
}
