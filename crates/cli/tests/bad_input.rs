//! Nonsense from one client: a clear error to the one who sent it, the match of others untouched.

mod common;

use common::{Arcade, Heard, hear, hear_text};
use futures_util::SinkExt;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

#[test]
fn requests_that_make_no_sense_get_named_errors() {
    let arcade = Arcade::start();
    let key = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
    let create = |world: &str, stage: u32, key: &str, opponent: &str| {
        json!({"world": world, "stage": stage, "key": key, "opponent": opponent}).to_string()
    };
    let cases: Vec<(&str, &str, String, u16, &str)> = vec![
        ("POST", "/api/sessions", "{".into(), 400, "bad_json"),
        ("POST", "/api/sessions", "[]".into(), 400, "bad_json"),
        (
            "POST",
            "/api/sessions",
            "\u{0}\u{1}".into(),
            400,
            "bad_json",
        ),
        (
            "POST",
            "/api/sessions",
            "x".repeat(100_000),
            413,
            "too_large",
        ),
        (
            "POST",
            "/api/sessions",
            create("atlantis", 31, key, "human"),
            404,
            "unknown_world",
        ),
        (
            "POST",
            "/api/sessions",
            create("micro", 99, key, "human"),
            400,
            "unknown_stage",
        ),
        (
            "POST",
            "/api/sessions",
            create("micro", 3100, key, "human"),
            400,
            "bad_json",
        ),
        (
            "POST",
            "/api/sessions",
            create("micro", 31, "00", "human"),
            400,
            "bad_key",
        ),
        (
            "POST",
            "/api/sessions",
            create("micro", 31, &"00".repeat(32), "human"),
            400,
            "bad_key",
        ),
        (
            "POST",
            "/api/sessions",
            create("micro", 31, key, "god"),
            400,
            "bad_json",
        ),
        (
            "POST",
            "/api/sessions",
            create("micro", 31, key, "ghost"),
            400,
            "no_opponent",
        ),
        (
            "POST",
            "/api/sessions",
            create("micro", 31, key, "policy"),
            400,
            "no_opponent",
        ),
        (
            "POST",
            "/api/sessions/K7WQ2M/join",
            json!({"key": key}).to_string(),
            404,
            "unknown_session",
        ),
        (
            "GET",
            "/api/sessions/K7WQ2M",
            String::new(),
            404,
            "unknown_session",
        ),
        (
            "GET",
            "/api/sessions/..%2f..%2fx",
            String::new(),
            400,
            "bad_id",
        ),
        (
            "GET",
            "/api/replays/K7WQ2M",
            String::new(),
            404,
            "unknown_replay",
        ),
        (
            "POST",
            "/api/replays/K7WQ2M/verify",
            String::new(),
            404,
            "unknown_replay",
        ),
        ("GET", "/api/replays/%00", String::new(), 400, "bad_id"),
        ("GET", "/api/nothing", String::new(), 404, "not_found"),
        ("GET", "/../../etc/passwd", String::new(), 404, "not_found"),
    ];
    for (method, path, body, status, code) in cases {
        let (found, answer) = arcade.http(method, path, body.as_bytes());
        let answer: Value = serde_json::from_slice(&answer)
            .unwrap_or_else(|_| panic!("{path} is answered in JSON"));
        assert_eq!(
            (found, &answer["error_code"]),
            (status, &json!(code)),
            "{method} {path}: {answer}"
        );
        assert!(answer["detail"].as_str().unwrap().len() > 10);
    }
    let (status, _) =
        arcade.http_with("GET", "/api/worlds", b"", "Origin: http://evil.example\r\n");
    assert_eq!(status, 403, "a page of another site");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nonsense_on_a_socket_is_told_to_its_sender_only() {
    let arcade = Arcade::start();
    let [mut one, mut two] = arcade.match_of_two(6).await;
    one.play_to(10).await;
    let wild_pad = [1, 0, 1, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let unknown_button = [1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80];
    let nonsense = [
        (Message::text("{"), "bad_json"),
        (Message::text("null"), "bad_json"),
        (
            Message::text(json!({"type": "dance"}).to_string()),
            "bad_json",
        ),
        (
            Message::text(json!({"type": "pick", "character": -1}).to_string()),
            "bad_json",
        ),
        (
            Message::text(json!({"type": "pick", "character": 2}).to_string()),
            "wrong_phase",
        ),
        (
            Message::text(json!({"type": "ready"}).to_string()),
            "wrong_phase",
        ),
        (
            Message::text(json!({"type": "rematch"}).to_string()),
            "wrong_phase",
        ),
        (
            Message::text(json!({"type": "sign", "frame": 7, "signature": "00"}).to_string()),
            "bad_signature",
        ),
        (
            Message::text(
                json!({"type": "sign", "frame": 7, "signature": "00".repeat(64)}).to_string(),
            ),
            "no_mark",
        ),
        (Message::binary(vec![]), "bad_frame"),
        (Message::binary(vec![9; 16]), "bad_frame"),
        (Message::binary(vec![1; 1000]), "bad_frame"),
        (Message::binary(wild_pad.to_vec()), "bad_pad"),
        (Message::binary(unknown_button.to_vec()), "bad_pad"),
    ];
    for (message, code) in nonsense {
        one.socket.send(message).await.unwrap();
        let error = one.play_until("error").await;
        assert_eq!(error["error_code"], code, "{error}");
    }
    two.play_to(60).await;
    one.socket
        .send(Message::text(
            json!({"type": "sign", "frame": 60, "signature": "00".repeat(64)}).to_string(),
        ))
        .await
        .unwrap();
    let mut watcher = arcade.socket(one.id, None).await;
    watcher
        .send(Message::text(json!({"type": "quit"}).to_string()))
        .await
        .unwrap();
    assert_eq!(
        hear_text(&mut watcher, "error").await["error_code"],
        "watching"
    );
    let mut stranger = arcade
        .socket(one.id, Some("0123456789abcdef0123456789abcdef"))
        .await;
    assert_eq!(
        hear_text(&mut stranger, "error").await["error_code"],
        "bad_token"
    );
    two.play_until("result").await;
    assert!(two.saw_every_frame());
    assert_eq!(two.errors, Vec::<Value>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_is_too_large_ends_the_connection_with_a_reason() {
    let arcade = Arcade::start();
    let one = arcade.create("human", 5).await;
    let mut watcher = arcade.socket(one.id, None).await;
    watcher
        .send(Message::binary(vec![0; 100_000]))
        .await
        .unwrap();
    assert_eq!(
        hear_text(&mut watcher, "error").await["error_code"],
        "bad_message"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_is_dropped_and_the_other_player_does_not_feel_it() {
    let arcade = Arcade::start();
    let [mut one, mut two] = arcade.match_of_two(4).await;
    tokio::join!(one.play_to(30), two.play_to(30));
    let id = one.id;
    let flood = async {
        let mut watcher = arcade.socket(id, None).await;
        let ping = || Message::text(json!({"type": "ping", "t": 1}).to_string());
        for _ in 0..400 {
            watcher.send(ping()).await.unwrap();
        }
        let told = hear_text(&mut watcher, "error").await;
        // What is behind this many in one second is cut off, and with it the reason.
        for _ in 0..20_000 {
            if watcher.send(ping()).await.is_err() {
                break;
            }
        }
        while !matches!(hear(&mut watcher).await, Heard::Closed) {}
        told["error_code"].clone()
    };
    let (code, _, _) = tokio::join!(flood, one.play_until("result"), two.play_until("result"));
    assert_eq!(code, "rate_limited");
    assert!(one.saw_every_frame() && two.saw_every_frame());
    assert_eq!((one.frames.len(), two.frames.len()), (240, 240));
}
