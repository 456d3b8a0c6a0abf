//! Matches against opponents that need no person, in real time, through a stop and a start of the
//! arena.

use std::path::Path;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use tokio::sync::broadcast::error::RecvError;
use worldline_abi::{Pad, STICK_UNIT};
use worldline_arena::limits::WATCH_QUEUE;
use worldline_arena::{
    Arena, Config, Event, Ghost, MatchId, NewMatch, Opponent, ResultView, Seated, Shelf, World,
    verify,
};
use worldline_cartridge::testing::{Size, cartridge, policy};

const FOX: u8 = 2;
const FALCO: u8 = 20;

fn shelf() -> Shelf {
    let world = World::new(
        "micro",
        cartridge(Size::Interop, 7),
        serde_json::Value::Null,
    );
    let player = World::new("player", policy(Size::Interop, 8), serde_json::Value::Null);
    let mut shelf = Shelf::new(vec![world, player]);
    let pads = (0..50).map(|at| Pad {
        stick: [STICK_UNIT / 50 * at, 0],
        ..Pad::default()
    });
    shelf.add_ghost(Ghost {
        stage: 31,
        character: FALCO,
        pads: pads.collect(),
    });
    shelf
}

fn open(data: &Path) -> Arena {
    Arena::open(
        shelf(),
        Config {
            data: data.into(),
            ..Config::default()
        },
    )
    .unwrap()
    .0
}

fn create(arena: &Arena, opponent: Opponent, seconds: u32) -> Seated {
    let key = SigningKey::from_bytes(&[3; 32]).verifying_key().to_bytes();
    let new = NewMatch {
        world: "micro".into(),
        stage: 31,
        key,
        opponent,
        seconds: Some(seconds),
    };
    arena.create(&new).unwrap()
}

/// Waits for the result of a match in which this player sits.
async fn result(arena: &Arena, id: MatchId, token: &str) -> ResultView {
    let mut player = arena.connect(id, Some(token)).unwrap();
    let _ = player.pick(FOX);
    let _ = player.ready();
    loop {
        match player.events.recv().await {
            Ok(Event::Result(result)) => return (*result).clone(),
            Ok(_) | Err(RecvError::Lagged(_)) => (),
            Err(RecvError::Closed) => panic!("the match is gone"),
        }
    }
}

/// Waits until a match has come to a frame, however late a busy machine lets it.
async fn until_frame(arena: &Arena, id: MatchId, frame: u32) {
    while arena.view(id).unwrap().frame < frame {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Plays a second in one arena and the rest in the next over the same folder.
async fn interrupted(opponent: Opponent) -> worldline_arena::Recording {
    let folder = tempfile::tempdir().unwrap();
    let arena = open(folder.path());
    let seat = create(&arena, opponent, 5);
    let token = seat.token.as_str();
    let playing = result(&arena, seat.id, token);
    tokio::select! {
        _ = playing => panic!("it has ended"),
        () = until_frame(&arena, seat.id, 60) => (),
    }
    drop(arena);

    let arena = open(folder.path());
    let view = arena.view(seat.id).unwrap();
    assert!(view.paused && view.frame >= 60, "{view:?}");
    let result = result(&arena, seat.id, token).await;
    assert_eq!((result.frames, result.reason), (300, "time"));
    let (recording, world) = arena.replay(seat.id).unwrap();
    let report = verify(&recording, &world.unwrap());
    assert!(report.valid, "{report:?}");
    recording
}

fn pads(recording: &worldline_arena::Recording) -> Vec<Pad> {
    recording
        .inputs
        .iter()
        .map(|inputs| inputs.slots[1].pad)
        .collect()
}

#[tokio::test]
async fn a_ghost_goes_on_where_it_was() {
    let recording = interrupted(Opponent::Ghost).await;
    assert_eq!(recording.session.characters, [FOX, FALCO]);
    let pads = pads(&recording);
    assert!((0..300).all(|at| pads[at].stick[0] == STICK_UNIT / 50 * (at % 50) as i16));
}

#[tokio::test]
async fn a_random_opponent_goes_on() {
    let pads = pads(&interrupted(Opponent::Random).await);
    assert!(pads.windows(2).filter(|two| two[0] != two[1]).count() > 5);
}

#[tokio::test]
async fn a_policy_goes_on() {
    let pads = pads(&interrupted(Opponent::Policy).await);
    assert!(pads.iter().all(Pad::is_valid));
    assert!(
        pads.windows(2).any(|two| two[0] != two[1]),
        "it does something"
    );
}

#[tokio::test]
async fn a_watcher_who_stalls_is_told_and_costs_the_match_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let arena = open(folder.path());
    let seat = create(&arena, Opponent::Random, 6);
    let mut stalled = arena.connect(seat.id, None).unwrap();
    let result = result(&arena, seat.id, seat.token.as_str()).await;
    assert_eq!(result.frames, 360);
    let lag = stalled.events.recv().await;
    assert!(matches!(lag, Err(RecvError::Lagged(missed)) if missed as usize > 360 - WATCH_QUEUE));
}

#[tokio::test]
async fn a_live_match_can_be_branched() {
    let folder = tempfile::tempdir().unwrap();
    let arena = open(folder.path());
    let seat = create(&arena, Opponent::Random, 4);
    assert!(arena.branch(seat.id).is_err(), "it has not begun");
    let playing = result(&arena, seat.id, seat.token.as_str());
    let look = async {
        until_frame(&arena, seat.id, 10).await;
        let mut branch = arena.branch(seat.id).unwrap();
        let frame = branch.state().frame;
        worldline_arena::rollout(std::slice::from_mut(&mut branch), 10, |_, _| {
            [Pad::default(); 2]
        })
        .unwrap();
        assert_eq!(branch.state().frame, frame + 10);
    };
    let (result, ()) = tokio::join!(playing, look);
    assert_eq!(result.frames, 240);
}
