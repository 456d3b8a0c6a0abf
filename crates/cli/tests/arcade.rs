//! Two people play through the real server: a match, its result, its replay, a rematch.

mod common;

use common::{Arcade, Heard, hear, hear_text};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_players_play_a_match_and_its_replay_is_valid() {
    let arcade = Arcade::start();
    let worlds = arcade.get("/api/worlds");
    assert_eq!(
        (&worlds[0]["id"], &worlds[0]["kind"]),
        (&json!("micro"), &json!("world"))
    );

    let [mut one, mut two] = arcade.match_of_two(3).await;
    let mut watcher = arcade.socket(one.id, None).await;
    assert_eq!(hear_text(&mut watcher, "hello").await["seat"], Value::Null);
    let (result, other) = tokio::join!(one.play_until("result"), two.play_until("result"));
    assert_eq!(result, other);
    assert_eq!(
        (&result["frames"], &result["reason"]),
        (&json!(180), &json!("time"))
    );
    for player in [&one, &two] {
        assert_eq!(player.frames.len(), 180);
        assert!(player.saw_every_frame());
        assert_eq!(player.errors, Vec::<Value>::new());
    }
    assert_eq!(hear_text(&mut watcher, "result").await, result);

    let id = result["replay"].as_str().unwrap().to_owned();
    replay_is_valid(&arcade, &id);
    rematch(&arcade, [one, two]).await;
    let timing = arcade.get("/api/timing");
    assert!(timing["frames"].as_u64().unwrap() >= 180, "{timing}");
}

fn replay_is_valid(arcade: &Arcade, id: &str) {
    let (status, report) = arcade.post(&format!("/api/replays/{id}/verify"), &Value::Null);
    assert_eq!((status, &report["valid"]), (200, &json!(true)), "{report}");
    assert_eq!(report["signed_to"], json!([180, 180]));
    let said = arcade.worldline(&["verify", id]);
    assert!(said.status.success());
    let text = String::from_utf8_lossy(&said.stdout);
    assert!(
        text.starts_with("valid: all 180 frames follow; seat 0 signed its inputs up to frame 180"),
        "{text}"
    );

    let (_, states) = arcade.http("GET", &format!("/api/replays/{id}/states"), b"");
    assert_eq!(states.len(), 181 * 256);
    let frames = arcade.get(&format!("/api/replays/{id}/frames"));
    assert_eq!(frames["frames"].as_array().unwrap().len(), 181);
    let exported = arcade.worldline(&["replay", "export", id]);
    assert_eq!(
        serde_json::from_slice::<Value>(&exported.stdout).unwrap(),
        frames
    );
    assert_eq!(arcade.get("/api/replays")[0]["id"], id);
    let listed = arcade.worldline(&["replay", "list", "--json"]);
    assert_eq!(
        serde_json::from_slice::<Value>(&listed.stdout).unwrap()[0]["id"],
        id
    );
    let shown = arcade.worldline(&["replay", "show", id]);
    assert!(String::from_utf8_lossy(&shown.stdout).contains("0:03 (180 frames)"));

    let (_, mut file) = arcade.http("GET", &format!("/api/replays/{id}"), b"");
    file[16 + 8] ^= 0x20;
    let path = arcade.folder.path().join("forged.wlr");
    std::fs::write(&path, file).unwrap();
    let said = arcade.worldline(&["verify", path.to_str().unwrap(), "--json"]);
    let report: Value = serde_json::from_slice(&said.stdout).unwrap();
    assert!(!said.status.success());
    assert_eq!(
        report["finding"], "signature",
        "the signatures name the session"
    );
}

async fn rematch(arcade: &Arcade, [mut one, mut two]: [common::Player; 2]) {
    one.say(&json!({"type": "rematch"})).await;
    let next = one.play_until("rematch").await["session"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(two.play_until("rematch").await["session"], json!(next));
    let id = next.parse().unwrap();
    one.go_to(arcade, id).await;
    two.go_to(arcade, id).await;
    two.say(&json!({"type": "ready"})).await;
    tokio::join!(one.play_to(10), two.play_to(10));
    two.say(&json!({"type": "quit"})).await;
    let result = one.play_until("result").await;
    assert_eq!(
        (&result["winner"], &result["reason"]),
        (&json!(0), &json!("quit"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_player_against_a_random_opponent() {
    let arcade = Arcade::start();
    let mut player = arcade.create("random", 2).await;
    player.say(&json!({"type": "pick", "character": 20})).await;
    player.say(&json!({"type": "ready"})).await;
    let result = player.play_until("result").await;
    assert_eq!(result["frames"], 120);
    let (_, report) = arcade.post(&format!("/api/replays/{}/verify", player.id), &Value::Null);
    assert_eq!(
        (&report["valid"], &report["signed_to"]),
        (&json!(true), &json!([120, null])),
        "{report}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reloaded_page_comes_back_to_its_seat_and_keeps_signing() {
    let arcade = Arcade::start();
    let [mut one, mut two] = arcade.match_of_two(5).await;
    tokio::join!(one.play_to(70), two.play_to(70));
    let _ = one.socket.close(None).await;
    two.play_to(100).await;
    one.come_back(&arcade).await;
    let (result, _) = tokio::join!(one.play_until("result"), two.play_until("result"));
    assert_eq!(result["frames"], 300);
    assert!(two.saw_every_frame(), "the other player noticed nothing");
    let (_, report) = arcade.post(&format!("/api/replays/{}/verify", one.id), &Value::Null);
    assert_eq!(
        (&report["valid"], &report["signed_to"]),
        (&json!(true), &json!([300, 300])),
        "{report}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_window_on_a_seat_is_refused_and_the_first_plays_on() {
    let arcade = Arcade::start();
    let [mut one, mut two] = arcade.match_of_two(3).await;
    let mut thief = arcade.socket(one.id, Some(&one.token.clone())).await;
    assert_eq!(
        hear_text(&mut thief, "error").await["error_code"],
        "seat_busy"
    );
    assert!(matches!(hear(&mut thief).await, Heard::Closed));
    let (status, refusal) = arcade.post(
        &format!("/api/sessions/{}/join", one.id),
        &json!({"key": "02".repeat(32)}),
    );
    assert!(status == 409 || status == 400, "{refusal}");
    tokio::join!(one.play_until("result"), two.play_until("result"));
    assert!(one.saw_every_frame() && two.saw_every_frame());
}
