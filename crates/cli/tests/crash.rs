//! Whatever moment the server dies in, a live match goes on after a restart or ends with its
//! replay: it is never lost silently.

mod common;

use common::{Arcade, Heard};
use serde_json::{Value, json};
use worldline_arena::fault;

/// Plays the match of a restarted server to its end and checks its replay.
async fn finish(arcade: &Arcade, players: &mut [common::Player; 2], frames: u32) {
    let [one, two] = players;
    one.come_back(arcade).await;
    two.come_back(arcade).await;
    let (result, _) = tokio::join!(one.play_until("result"), two.play_until("result"));
    assert_eq!(result["frames"], frames);
    check(arcade, one.id, frames);
}

fn check(arcade: &Arcade, id: worldline_arena::MatchId, frames: u32) {
    let (_, report) = arcade.post(&format!("/api/replays/{id}/verify"), &Value::Null);
    assert_eq!(
        (&report["valid"], &report["frames"]),
        (&json!(true), &json!(frames)),
        "{report}"
    );
    let journals = std::fs::read_dir(arcade.data().join("journal"))
        .unwrap()
        .count();
    assert_eq!(journals, 0, "the journal goes when the replay stands");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_match_goes_on_after_kill_nine() {
    let arcade = Arcade::start();
    let mut players = arcade.match_of_two(4).await;
    {
        let [one, two] = &mut players;
        tokio::join!(one.play_to(130), two.play_to(130));
    }
    let arcade = Arcade::over(arcade.kill(), None);
    let id = players[0].id;
    assert!(
        arcade
            .said
            .iter()
            .any(|line| line.contains(&format!("Session {id} was live"))),
        "{:?}",
        arcade.said
    );
    let view = arcade.get(&format!("/api/sessions/{id}"));
    assert_eq!(
        (&view["status"], &view["paused"]),
        (&json!("active"), &json!(true))
    );
    let frame = view["frame"].as_u64().unwrap();
    assert!(
        (100..=240).contains(&frame),
        "at most some frames are played again, not {frame}"
    );
    finish(&arcade, &mut players, 240).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fault_point_is_hit_and_survived() {
    for (name, passage) in [
        (fault::JOURNAL_APPENDED, 9),
        (fault::JOURNAL_TORN, 9),
        (fault::JOURNAL_SYNCED, 2),
        (fault::REPLAY_WRITTEN, 1),
        (fault::REPLAY_RENAMED, 1),
        (fault::JOURNAL_REMOVED, 1),
    ] {
        assert!(fault::ALL.contains(&name));
        let folder = Arcade::start().kill();
        let mut arcade = Arcade::over(folder, Some(&format!("{name}:{passage}")));
        let mut players = arcade.match_of_two(3).await;
        let [one, two] = &mut players;
        tokio::join!(one.play_out(), two.play_out());
        let id = one.id;
        for _ in 0..100 {
            if arcade.is_dead() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        assert!(arcade.is_dead(), "the fault {name} was not hit");

        let arcade = Arcade::over(arcade.wait_for_death(), None);
        let said = arcade.said.join("\n");
        assert!(
            said.contains(&id.to_string()) || name == fault::JOURNAL_REMOVED,
            "{name}: {said}"
        );
        if said.contains("was live") {
            finish(&arcade, &mut players, 180).await;
        } else {
            check(&arcade, id, 180);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_abandoned_recovery_still_ends_with_its_replay() {
    let arcade = Arcade::start();
    let mut players = arcade.match_of_two(60).await;
    players[0].play_to(30).await;
    let id = players[0].id;
    let arcade = Arcade::over(arcade.kill(), None);
    // One player comes back and quits: the match ends by its own rules.
    players[0].come_back(&arcade).await;
    players[0].say(&json!({"type": "quit"})).await;
    loop {
        match players[0].play().await {
            Heard::Text(value) if value["type"] == "result" => break,
            Heard::Closed => panic!("closed"),
            _ => (),
        }
    }
    let (_, report) = arcade.post(&format!("/api/replays/{id}/verify"), &Value::Null);
    assert_eq!(report["valid"], json!(true), "{report}");
}
