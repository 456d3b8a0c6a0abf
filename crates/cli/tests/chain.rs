//! The life of a world and of a match on our own chains, through the binary: nothing is called that
//! a person could not type.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use worldline_arena::Recording;
use worldline_cabinet::limits::FAUCET_LAMPORTS;
use worldline_cabinet::{L1, L1Config};
use worldline_cartridge::testing::{Size, bytes};

const FEE: u64 = 5_000;
/// Final Destination's number, on which the test world starts.
const STAGE: &str = "31";
/// A rollup that dies has forgotten less than this.
const FORGOTTEN: Duration = Duration::from_millis(1_500);

/// L1 in a box and a rollup, and a folder for everything else.
struct Chains {
    folder: tempfile::TempDir,
    child: Child,
    info: Value,
}

/// `worldline chain up`, and where it says that it is.
fn up(folder: &Path, ports: [&str; 2]) -> (Child, Value) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut child = Command::new(env!("CARGO_BIN_EXE_worldline"))
        .args(["chain", "up", "--json"])
        .args(["--l1-port", ports[0], "--rollup-port", ports[1]])
        .arg("--data")
        .arg(folder.join("chain"))
        .current_dir(root)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let info = serde_json::from_str(&line).expect("the chains say where they are");
    (child, info)
}

impl Chains {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (child, info) = up(folder.path(), ["0", "0"]);
        Self {
            folder,
            child,
            info,
        }
    }

    /// Kills both chains, as `kill -9` does, and starts them where they were.
    fn kill_and_start(&mut self) {
        self.kill();
        let port = |name: &str| {
            self.info[name]
                .as_str()
                .unwrap()
                .rsplit(':')
                .next()
                .unwrap()
        };
        let (child, info) = up(self.folder.path(), [port("l1"), port("rollup")]);
        assert_eq!(info, self.info, "they are who and where they were");
        self.child = child;
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Lamports of all accounts on L1, whose process must have ended.
    fn total(&self) -> u128 {
        let ledger = self.path("chain").join("l1");
        tokio::runtime::Runtime::new().unwrap().block_on(async {
            let l1 = L1::start(L1Config::new(ledger)).await.unwrap();
            let total = l1.total_lamports().await.unwrap();
            l1.stop();
            total
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().into()
    }

    /// A command of a wallet; both URLs where it takes both.
    fn command(&self, who: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_worldline"));
        command
            .current_dir(self.folder.path())
            .env("XDG_DATA_HOME", self.path("data"));
        command.args(arguments);
        command.args(["--l1", self.info["l1"].as_str().unwrap()]);
        if arguments[0] == "session" && arguments[1] != "history" {
            command.args(["--rollup", self.info["rollup"].as_str().unwrap()]);
        }
        if !who.is_empty() {
            command.arg("--keypair").arg(self.path(who));
        }
        command
    }

    fn run(&self, who: &str, arguments: &[&str]) -> Output {
        self.command(who, arguments).output().unwrap()
    }

    fn good(&self, who: &str, arguments: &[&str]) -> String {
        let output = self.run(who, arguments);
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {words}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn bad(&self, who: &str, arguments: &[&str]) -> String {
        let output = self.run(who, arguments);
        assert!(!output.status.success(), "{arguments:?} went through");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    fn json(&self, who: &str, arguments: &[&str]) -> Value {
        let arguments: Vec<&str> = arguments.iter().copied().chain(["--json"]).collect();
        serde_json::from_str(&self.good(who, &arguments)).unwrap()
    }

    /// A new wallet with SOL.
    fn rich(&self, who: &str, sol: &str) {
        let keypair = self.text(who);
        let made = Command::new(env!("CARGO_BIN_EXE_worldline"))
            .args(["chain", "wallet", "new", "--keypair", &keypair])
            .output()
            .unwrap();
        assert!(made.status.success());
        self.good(who, &["chain", "wallet", "airdrop", sol]);
    }

    fn lamports(&self, who: &str) -> u64 {
        self.json(who, &["chain", "wallet", "show"])["lamports"]
            .as_u64()
            .unwrap()
    }

    fn world(&self, address: &str) -> Option<Value> {
        let worlds = self.json("", &["chain", "worlds"]);
        let mut worlds = worlds.as_array().unwrap().iter();
        worlds.find(|world| world["world"] == address).cloned()
    }

    fn upload(&self, who: &str, file: &str) -> Value {
        self.json(who, &["upload", &self.text(file), "--yes"])
    }

    /// The micro world of random weights, as `world.cart` and on L1.
    fn micro(&self) -> String {
        std::fs::write(self.path("world.cart"), bytes(Size::Interop, 7)).unwrap();
        let world = self.upload("owner", "world.cart");
        world["world"].as_str().unwrap().into()
    }
}

impl Drop for Chains {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn wait(what: &str, mut look: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !look() {
        assert!(Instant::now() < end, "waited a minute for {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn ended(mut child: Child) -> String {
    let mut words = String::new();
    child
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut words)
        .unwrap();
    assert!(child.wait().unwrap().success(), "{words}");
    words
}

#[test]
fn a_world_comes_down_as_it_went_up_is_forked_and_retired_to_the_lamport() {
    let chains = Chains::start();
    chains.rich("owner", "100");
    let world = chains.micro();
    let again = chains.upload("owner", "world.cart");
    assert_eq!(
        (again["world"].as_str(), again["rent"].as_u64()),
        (Some(&*world), Some(0))
    );
    chains.good("", &["download", &world, "-o", &chains.text("down.cart")]);
    let uploaded = std::fs::read(chains.path("world.cart")).unwrap();
    assert!(
        std::fs::read(chains.path("down.cart")).unwrap() == uploaded,
        "not the same bytes"
    );

    chains.rich("forker", "100");
    let before = chains.lamports("forker");
    let fork = chains.json("forker", &["fork", &world, "--name", "mine", "--yes"]);
    let (address, rent) = (
        fork["world"].as_str().unwrap(),
        fork["rent"].as_u64().unwrap(),
    );
    let card = chains.world(address).unwrap();
    assert_eq!(
        (card["name"].as_str(), card["parent"].as_str()),
        (Some("mine"), Some(&*world))
    );
    assert_eq!(card["status"], "ready");
    chains.good("", &["download", address, "-o", &chains.text("fork.cart")]);
    let forked = std::fs::read(chains.path("fork.cart")).unwrap();
    assert_eq!(
        forked[576..],
        uploaded[576..],
        "the same weights behind another manifest"
    );

    let fees = fork["fees"].as_u64().unwrap();
    assert_eq!(
        before - chains.lamports("forker"),
        rent + fees,
        "the cost shown is the cost paid"
    );
    let words = chains.bad("owner", &["retire", address, "--yes"]);
    assert!(words.contains("only its owner"), "{words}");
    let retired = chains.json("forker", &["retire", address, "--yes"]);
    assert_eq!(retired["returned"].as_u64(), Some(rent));
    assert_eq!(
        before - chains.lamports("forker"),
        fees + FEE,
        "all but the fees came back"
    );
    assert!(chains.world(address).is_none());
}

#[test]
fn an_upload_that_was_killed_goes_on_where_it_was() {
    let chains = Chains::start();
    chains.rich("owner", "100");
    let file = bytes(Size::Small, 3);
    std::fs::write(chains.path("small.cart"), &file).unwrap();
    let path = chains.text("small.cart");
    let mut first = chains
        .command("owner", &["upload", &path, "--yes"])
        .spawn()
        .unwrap();
    wait("a draft", || {
        let worlds = chains.json("", &["chain", "worlds"]);
        worlds.as_array().is_some_and(|list| !list.is_empty())
    });
    wait("weights: only fees are paid, no more deposits", || {
        let before = chains.lamports("owner");
        std::thread::sleep(Duration::from_millis(100));
        (1..FEE * 1_000).contains(&(before - chains.lamports("owner")))
    });
    first.kill().unwrap();
    first.wait().unwrap();
    let worlds = chains.json("", &["chain", "worlds"]);
    assert_eq!(worlds[0]["status"], "draft", "it was killed in the middle");
    let second = chains.upload("owner", "small.cart");
    let whole = (file.len() / 960) as u64;
    let left = second["transactions"].as_u64().unwrap();
    assert!(
        left < whole,
        "{left} transactions of {whole} are sent again"
    );
    let world = second["world"].as_str().unwrap();
    chains.good("", &["download", world, "-o", &chains.text("down.cart")]);
    assert!(
        std::fs::read(chains.path("down.cart")).unwrap() == file,
        "not the same bytes"
    );
}

#[test]
fn a_match_is_played_settled_and_verified_and_one_changed_byte_is_found() {
    let chains = Chains::start();
    for who in ["owner", "payer", "one", "two"] {
        chains.rich(who, "100");
    }
    let world = chains.micro();
    let before = chains.lamports("payer");
    let create = [
        "session",
        "create",
        &world,
        "--stage",
        STAGE,
        "--seconds",
        "4",
        "--yes",
    ];
    let session = chains.json("payer", &create);
    let session = session["session"].as_str().unwrap();
    assert_eq!(
        chains.json("", &["session", "show", session])["on"],
        "rollup"
    );
    let words = chains.bad("owner", &["retire", &world, "--yes"]);
    assert!(words.contains("open sessions"), "{words}");

    chains.good("one", &["session", "join", session, "--seat", "0"]);
    chains.good("two", &["session", "join", session, "--seat", "1"]);
    // In the same block it would be the same transaction to the byte, and would be told that it landed.
    std::thread::sleep(Duration::from_millis(100));
    let words = chains.bad("two", &["session", "join", session, "--seat", "1"]);
    assert!(
        words.contains("SessionStatus") || words.contains("SeatTaken"),
        "{words}"
    );
    let replay = chains.text("match.wlr");
    let spawn = |who: &str, arguments: &[&str]| {
        chains
            .command(who, arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let ghost = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../worlds/ghost");
    let ghost = std::fs::read_dir(ghost)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let ghost = ghost.to_str().unwrap();
    let runs = spawn(
        "payer",
        &["session", "run", session, "-o", &replay, "--settle"],
    );
    let first = spawn(
        "one",
        &["session", "play", session, "--seat", "0", "--inputs", ghost],
    );
    let second = spawn(
        "two",
        &["session", "play", session, "--seat", "1", "--inputs", ghost],
    );
    std::thread::sleep(Duration::from_secs(2));
    chains.good(
        "one",
        &[
            "session",
            "ready",
            session,
            "--seat",
            "0",
            "--character",
            "2",
        ],
    );
    chains.good(
        "two",
        &[
            "session",
            "ready",
            session,
            "--seat",
            "1",
            "--character",
            "20",
        ],
    );
    let words = ended(runs);
    assert!(words.contains("240 frames recorded"), "{words}");
    ended(first);
    ended(second);

    let report = chains.json("", &["verify", session]);
    assert_eq!(
        (report["valid"].as_bool(), report["frames"].as_u64()),
        (Some(true), Some(240))
    );
    assert_eq!(
        report["signed_to"],
        serde_json::json!([240, 240]),
        "{report}"
    );
    let mut recording = Recording::decode(&std::fs::read(&replay).unwrap()).unwrap();
    recording.inputs[99].slots[0].pad.stick[0] ^= 1;
    std::fs::write(chains.path("false.wlr"), recording.encode()).unwrap();
    let output = chains.run(
        "",
        &[
            "verify",
            session,
            "--replay",
            &chains.text("false.wlr"),
            "--json",
        ],
    );
    assert!(!output.status.success());
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (
            report["valid"].as_bool(),
            report["first_bad_frame"].as_u64()
        ),
        (Some(false), Some(100))
    );

    let fetched = chains.text("fetched.wlr");
    chains.good("", &["replay", "fetch", session, "-o", &fetched]);
    assert!(std::fs::read(&fetched).unwrap() == std::fs::read(&replay).unwrap());
    let scores = chains.json("", &["leaderboard", &world]);
    assert_eq!(scores.as_array().unwrap().len(), 2, "{scores}");
    let address = chains.json("one", &["chain", "wallet", "show"])["address"].clone();
    let history = chains.json(
        "",
        &["session", "history", "--wallet", address.as_str().unwrap()],
    );
    assert_eq!(
        (
            history[0]["session"].as_str(),
            history[0]["replay"].as_bool()
        ),
        (Some(session), Some(true))
    );
    // Result, replay and two scores are kept; everything else came back but the fees.
    let paid = before - chains.lamports("payer");
    println!("a session cost its payer {paid} lamports");
    assert!(paid < 60_000_000, "{paid} lamports");

    chains.good("owner", &["retire", &world, "--yes"]);
    let words = chains.bad("", &["verify", session]);
    assert!(words.contains("--cartridge"), "{words}");
    let cartridge = chains.text("world.cart");
    let report = chains.json("", &["verify", session, "--cartridge", &cartridge]);
    assert_eq!(report["valid"], true);
}

#[test]
fn a_session_that_nobody_played_gives_its_deposits_back() {
    let chains = Chains::start();
    for who in ["owner", "payer"] {
        chains.rich(who, "100");
    }
    let world = chains.micro();
    let before = chains.lamports("payer");
    let session = chains.json(
        "payer",
        &["session", "create", &world, "--stage", STAGE, "--yes"],
    );
    let session = session["session"].as_str().unwrap();
    chains.good("payer", &["session", "close", session]);
    // The delegation program keeps 0.0003 SOL of each account that it gives back: three, and a page.
    let fees = before - chains.lamports("payer") - 4 * 300_000;
    assert!(
        fees.is_multiple_of(FEE) && fees < 20 * FEE,
        "{fees} lamports are gone"
    );
    let words = chains.bad("", &["session", "show", session]);
    assert!(words.contains("no session"), "{words}");
    chains.good("owner", &["retire", &world, "--yes"]);
}

/// The same session is killed when it was created, joined, in mid-match, and over but not settled.
#[test]
fn a_session_outlives_kill_nine_at_every_point_of_its_life() {
    let mut chains = Chains::start();
    for who in ["owner", "payer", "one", "two"] {
        chains.rich(who, "100");
    }
    let world = chains.micro();
    let before = chains.lamports("payer");
    let create = ["session", "create", &world, "--stage", STAGE];
    let create = [&create[..], &["--seconds", "8", "--yes"]].concat();
    let session = chains.json("payer", &create);
    let session = session["session"].as_str().unwrap();
    chains.kill_and_start();

    let seats = [("one", "0", "2"), ("two", "1", "20")];
    for (who, seat, _) in seats {
        chains.good(who, &["session", "join", session, "--seat", seat]);
    }
    std::thread::sleep(FORGOTTEN);
    chains.kill_and_start();

    let spawn = |chains: &Chains, who: &str, arguments: &[&str]| {
        let mut command = chains.command(who, arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let replay = chains.text("match.wlr");
    let run = ["session", "run", session, "-o", &replay];
    let mut runs = spawn(&chains, "payer", &run);
    for (who, seat, character) in seats {
        let ready = ["session", "ready", session, "--seat", seat];
        chains.good(who, &[&ready[..], &["--character", character]].concat());
    }
    let frame = |chains: &Chains| {
        let shown = chains.json("", &["session", "show", session]);
        shown["frame"].as_u64().unwrap()
    };
    wait("a second of the match", || frame(&chains) > 60);
    std::thread::sleep(FORGOTTEN);
    let reached = frame(&chains);
    chains.kill_and_start();
    assert!(!runs.wait().unwrap().success(), "its connection broke");
    assert!(
        frame(&chains) + 120 >= reached,
        "no more than two seconds are lost"
    );
    let play = ["session", "play", session, "--seat", "0"];
    let mut plays = spawn(&chains, "one", &play);
    wait("the end of the match", || {
        chains.json("", &["session", "show", session])["status"] == "ended"
    });
    assert!(
        plays.wait().unwrap().success(),
        "a player who came back played to the end"
    );
    std::thread::sleep(FORGOTTEN);
    chains.kill_and_start();

    chains.good("payer", &["session", "settle", session]);
    let words = chains.bad("", &["session", "show", session]);
    assert!(
        words.contains("no session"),
        "its deposits came back: {words}"
    );
    let history = chains.json("", &["session", "history"]);
    assert_eq!(history[0]["session"].as_str(), Some(session));
    assert_eq!(history[0]["result"]["frames"], 480, "{history}");
    let paid = before - chains.lamports("payer");
    assert!(paid < 60_000_000, "{paid} lamports");
    chains.kill();
    assert_eq!(chains.total(), u128::from(FAUCET_LAMPORTS));
}

#[test]
fn a_chain_that_is_not_there_is_said() {
    let output = Command::new(env!("CARGO_BIN_EXE_worldline"))
        .args(["chain", "worlds", "--l1", "http://127.0.0.1:1"])
        .output()
        .unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && words.contains("chain up"),
        "{words}"
    );
}
