//! The real binary, and clients that speak to it as a browser does.
#![allow(dead_code, reason = "each test file uses its part")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use ed25519_dalek::{Signer, SigningKey};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};
use worldline_abi::{InputBuffer, Pad, STICK_UNIT, SessionState};
use worldline_arena::{FRAME_BYTES, MatchId, hex, sign};
use worldline_cartridge::testing::{Size, bytes};

/// Longer than anything here takes, also on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
const BINARY: &str = env!("CARGO_BIN_EXE_worldline");

/// Runs the command to its end.
pub(crate) fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(BINARY);
    command.args(arguments).stdin(Stdio::null());
    command.output().expect("the command runs")
}

/// A running `worldline serve` and its folders.
pub(crate) struct Arcade {
    pub(crate) folder: tempfile::TempDir,
    child: Child,
    pub(crate) address: String,
    pub(crate) said: Vec<String>,
}

impl Arcade {
    /// Starts it over a folder with one micro world of random weights.
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("worlds")).unwrap();
        std::fs::write(
            folder.path().join("worlds/micro.cart"),
            bytes(Size::Interop, 7),
        )
        .unwrap();
        Self::over(folder, None)
    }

    /// Starts it over a folder that another run has left, with a fault to die at.
    pub(crate) fn over(folder: tempfile::TempDir, fault: Option<&str>) -> Self {
        let fault = fault.map(|fault| ("WORLDLINE_FAULT", fault));
        Self::over_with(folder, fault.as_slice())
    }

    /// Starts it over a folder that another run has left, with these environment variables.
    pub(crate) fn over_with(folder: tempfile::TempDir, environment: &[(&str, &str)]) -> Self {
        let mut command = Self::command(
            folder.path(),
            &["serve", "--native", "--port", "0", "--site", "none"],
        );
        command.envs(environment.iter().copied());
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut said = Vec::new();
        let address = loop {
            let line = lines.next().expect("the server says where it is").unwrap();
            if let Some((_, link)) = line.split_once("Worldline is at http://") {
                break link.trim_end_matches('/').to_owned();
            }
            said.push(line);
        };
        Self {
            folder,
            child,
            address,
            said,
        }
    }

    fn command(folder: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command.args(arguments).env_remove("WORLDLINE_FAULT");
        command
            .arg("--worlds")
            .arg(folder.join("worlds"))
            .arg("--data")
            .arg(folder.join("data"));
        command
    }

    /// Runs another `worldline` command over the same folders.
    pub(crate) fn worldline(&self, arguments: &[&str]) -> Output {
        Self::command(self.folder.path(), arguments)
            .output()
            .unwrap()
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Ends it as `kill -9` does, and gives the folders back.
    pub(crate) fn kill(mut self) -> tempfile::TempDir {
        let _ = self.child.kill();
        let _ = self.child.wait();
        std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap())
    }

    /// Asks it to end, and gives the folders back.
    pub(crate) fn stop(mut self) -> tempfile::TempDir {
        self.end();
        std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap())
    }

    /// Waits until it has died by itself, and gives the folders back.
    pub(crate) fn wait_for_death(mut self) -> tempfile::TempDir {
        let status = self.child.wait().unwrap();
        assert!(!status.success());
        std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap())
    }

    pub(crate) fn is_dead(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// One HTTP request: status and body.
    pub(crate) fn http(&self, method: &str, path: &str, body: &[u8]) -> (u16, Vec<u8>) {
        self.http_with(method, path, body, "")
    }

    /// One HTTP request with further header lines.
    pub(crate) fn http_with(
        &self,
        method: &str,
        path: &str,
        body: &[u8],
        headers: &str,
    ) -> (u16, Vec<u8>) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let length = body.len();
        let host = &self.address;
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n").unwrap();
        // A server may refuse a body before it has read all of it.
        let _ = stream.write_all(body);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let end = answer
            .windows(4)
            .position(|four| four == b"\r\n\r\n")
            .expect("an answer has a head");
        let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        assert!(
            !head.contains("transfer-encoding"),
            "bodies here have a length"
        );
        (status, answer.split_off(end + 4))
    }

    pub(crate) fn get(&self, path: &str) -> Value {
        let (status, body) = self.http("GET", path, b"");
        assert_eq!(status, 200, "{path}: {}", String::from_utf8_lossy(&body));
        serde_json::from_slice(&body).unwrap()
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let (status, body) = self.http("POST", path, body.to_string().as_bytes());
        (status, serde_json::from_slice(&body).unwrap())
    }

    /// Opens a match and sits down in its first seat.
    pub(crate) async fn create(&self, opponent: &str, seconds: u32) -> Player {
        let key = SigningKey::from_bytes(&[1; 32]);
        let asked = json!({"world": "micro", "stage": 31, "key": hex(&key.verifying_key().to_bytes()), "opponent": opponent, "seconds": seconds});
        let (status, seat) = self.post("/api/sessions", &asked);
        assert_eq!(status, 200, "{seat}");
        Player::sit(self, &seat, key).await
    }

    pub(crate) async fn join(&self, id: MatchId) -> Player {
        let key = SigningKey::from_bytes(&[2; 32]);
        let (status, seat) = self.post(
            &format!("/api/sessions/{id}/join"),
            &json!({"key": hex(&key.verifying_key().to_bytes())}),
        );
        assert_eq!(status, 200, "{seat}");
        Player::sit(self, &seat, key).await
    }

    pub(crate) async fn socket(&self, id: MatchId, token: Option<&str>) -> Socket {
        let token = token
            .map(|token| format!("?token={token}"))
            .unwrap_or_default();
        let url = format!("ws://{}/api/sessions/{id}/ws{token}", self.address);
        connect_async(url).await.unwrap().0
    }

    /// Two people in a match that runs.
    pub(crate) async fn match_of_two(&self, seconds: u32) -> [Player; 2] {
        let mut one = self.create("human", seconds).await;
        let mut two = self.join(one.id).await;
        for player in [&mut one, &mut two] {
            player.say(&json!({"type": "pick", "character": 2})).await;
            player.say(&json!({"type": "ready"})).await;
        }
        [one, two]
    }
}

impl Arcade {
    fn end(&mut self) {
        if self.is_dead() {
            return;
        }
        let id = self.child.id().to_string();
        let _ = Command::new("kill").arg(id).status();
        let until = Instant::now() + PATIENCE;
        while !self.is_dead() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Arcade {
    /// Asks it to end, so that it takes along what stands ready for its worlds.
    fn drop(&mut self) {
        self.end();
    }
}

pub(crate) type Socket = WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>;

/// What a client hears.
#[derive(Debug)]
pub(crate) enum Heard {
    Frame(Box<SessionState>, Box<InputBuffer>),
    Text(Value),
    Closed,
}

/// The next thing said. Pings are answered and do not count: a server that only pings says nothing.
pub(crate) async fn hear(socket: &mut Socket) -> Heard {
    timeout(PATIENCE, next(socket))
        .await
        .expect("the server says something")
}

async fn next(socket: &mut Socket) -> Heard {
    loop {
        match socket.next().await {
            Some(Ok(Message::Binary(bytes))) => {
                assert_eq!((bytes.len(), &bytes[..4]), (FRAME_BYTES, &[1, 0, 0, 0][..]));
                let state = worldline_abi::copy(&bytes[4..260]).unwrap();
                let inputs = worldline_abi::copy(&bytes[260..]).unwrap();
                return Heard::Frame(Box::new(state), Box::new(inputs));
            }
            Some(Ok(Message::Text(text))) => {
                return Heard::Text(serde_json::from_str(&text).unwrap());
            }
            Some(Ok(Message::Close(_)) | Err(_)) | None => return Heard::Closed,
            Some(Ok(_)) => (),
        }
    }
}

/// Hears until a text of this type comes.
pub(crate) async fn hear_text(socket: &mut Socket, kind: &str) -> Value {
    loop {
        match hear(socket).await {
            Heard::Text(value) if value["type"] == kind => return value,
            Heard::Closed => panic!("closed while waiting for {kind}"),
            _ => (),
        }
    }
}

/// A person: presses pads, follows the frames, signs its inputs.
pub(crate) struct Player {
    pub(crate) id: MatchId,
    pub(crate) seat: u8,
    pub(crate) token: String,
    pub(crate) socket: Socket,
    key: SigningKey,
    hash: sign::RunningHash,
    sequence: u16,
    /// Frames heard, in order.
    pub(crate) frames: Vec<u32>,
    pub(crate) errors: Vec<Value>,
}

impl Player {
    async fn sit(arcade: &Arcade, seat: &Value, key: SigningKey) -> Self {
        let id: MatchId = seat["session"].as_str().unwrap().parse().unwrap();
        let token = seat["token"].as_str().unwrap().to_owned();
        let mut socket = arcade.socket(id, Some(&token)).await;
        // A socket opens before its player sits: until the server greets, the seat is free.
        let hello = hear_text(&mut socket, "hello").await;
        let seat = seat["seat"].as_u64().unwrap() as u8;
        assert_eq!(hello["seat"], seat, "{hello}");
        Self {
            id,
            seat,
            token,
            socket,
            key,
            hash: Default::default(),
            sequence: 0,
            frames: Vec::new(),
            errors: Vec::new(),
        }
    }

    /// Comes back to the same seat, as a reloaded page does.
    pub(crate) async fn come_back(&mut self, arcade: &Arcade) {
        self.go_to(arcade, self.id).await;
    }

    /// Takes the same seat in another match.
    pub(crate) async fn go_to(&mut self, arcade: &Arcade, id: MatchId) {
        self.socket = arcade.socket(id, Some(&self.token)).await;
        (self.id, self.sequence, self.hash) = (id, 0, Default::default());
        self.frames.clear();
    }

    pub(crate) async fn say(&mut self, message: &Value) {
        let _ = self.socket.send(Message::text(message.to_string())).await;
    }

    pub(crate) async fn press(&mut self, pad: Pad) {
        self.sequence = self.sequence.wrapping_add(1);
        let mut bytes = vec![1, 0];
        bytes.extend(self.sequence.to_le_bytes());
        bytes.extend_from_slice(bytemuck::bytes_of(&pad));
        let _ = self.socket.send(Message::binary(bytes)).await;
    }

    /// Plays one message: a frame is answered with a pad, a mark is signed.
    pub(crate) async fn play(&mut self) -> Heard {
        let heard = hear(&mut self.socket).await;
        match &heard {
            Heard::Frame(state, inputs) => self.follow(state, inputs).await,
            Heard::Text(value) if value["type"] == "resume" => {
                self.hash.0 =
                    worldline_arena::unhex(value["input_hash"].as_str().unwrap()).unwrap();
                self.frames = vec![value["frame"].as_u64().unwrap() as u32];
            }
            Heard::Text(value) if value["type"] == "error" => self.errors.push(value.clone()),
            _ => (),
        }
        heard
    }

    async fn follow(&mut self, state: &SessionState, inputs: &InputBuffer) {
        if self.frames.last().is_some_and(|last| *last == state.frame) {
            return;
        }
        self.frames.push(state.frame);
        let slot = &inputs.slots[usize::from(self.seat)];
        self.hash.push(inputs.frame, slot);
        let over = state.status == worldline_abi::status::ENDED;
        if sign::is_mark(state.frame) || over {
            let message = sign::message(&self.id.padded(), self.seat, state.frame, &self.hash);
            let signature = hex(&self.key.sign(&message).to_bytes());
            self.say(&json!({"type": "sign", "frame": state.frame, "signature": signature}))
                .await;
        }
        let across = if state.frame % 60 < 30 {
            STICK_UNIT
        } else {
            -STICK_UNIT
        };
        self.press(Pad {
            stick: [across, 0],
            ..Pad::default()
        })
        .await;
    }

    /// Plays until this frame has been heard.
    pub(crate) async fn play_to(&mut self, frame: u32) {
        while self.frames.last().is_none_or(|last| *last < frame) {
            if let Heard::Closed = self.play().await {
                panic!("closed before frame {frame}: {:?}", self.errors);
            }
        }
    }

    /// Plays until a text of this type comes.
    pub(crate) async fn play_until(&mut self, kind: &str) -> Value {
        loop {
            match self.play().await {
                Heard::Text(value) if value["type"] == kind => return value,
                Heard::Closed => panic!("closed while waiting for {kind}: {:?}", self.errors),
                _ => (),
            }
        }
    }

    /// Plays until the connection ends.
    pub(crate) async fn play_out(&mut self) {
        while !matches!(self.play().await, Heard::Closed) {}
    }

    /// No frame was left out and none came twice.
    pub(crate) fn saw_every_frame(&self) -> bool {
        self.frames.windows(2).all(|two| two[1] == two[0] + 1)
    }
}
