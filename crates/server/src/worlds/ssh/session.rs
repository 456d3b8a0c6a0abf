//! One channel of a connection: what its client asks for is begun in the world, and the two are carried to
//! each other.

use std::sync::Arc;

use russh::server::{Handle, Msg};
use russh::{Channel, ChannelId, ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Sig};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use worldline_runtime::{Runtime, WorldError};
use worldline_sandbox::{Command, Running, Said, Stream};

use crate::limits::{MAX_SSH_VARIABLES, OUTPUT_QUEUE, SSH_HEARTBEAT};

/// The shell that commands and sessions run in, as a login to any machine has one.
const SHELL: &str = "/bin/bash";
/// The subsystem that moves files.
const SFTP: &str = "sftp";
/// Standard error, among a channel's streams.
const ERROR: u32 = 1;
/// What a session ends with when nobody knows how its command did.
const LOST: u32 = 255;

/// What is asked of a channel before something runs.
#[derive(Default)]
struct Wish {
    terminal: Option<(u32, u32)>,
    environment: Vec<(String, String)>,
}

/// Serves one channel until it closes.
pub(super) async fn serve(worlds: Runtime, world: String, channel: Channel<Msg>, client: Handle) {
    let id = channel.id();
    let (mut asked, tell) = channel.split();
    let mut wish = Wish::default();
    while let Some(message) = asked.wait().await {
        let begun = match message {
            ChannelMsg::RequestPty {
                term,
                col_width,
                row_height,
                ..
            } => {
                wish.terminal = Some((row_height, col_width));
                wish.environment.push(("TERM".into(), term));
                answer(&client, id, true).await;
                continue;
            }
            ChannelMsg::SetEnv {
                variable_name,
                variable_value,
                ..
            } => {
                let fits = wish.environment.len() < MAX_SSH_VARIABLES;
                if fits {
                    wish.environment.push((variable_name, variable_value));
                }
                answer(&client, id, fits).await;
                continue;
            }
            ChannelMsg::Exec { command, .. } => {
                let line = String::from_utf8_lossy(&command).into_owned();
                begin(&worlds, &world, wish.command(&[SHELL, "-c", &line])).await
            }
            ChannelMsg::RequestShell { .. } => {
                begin(&worlds, &world, wish.command(&[SHELL, "-l"])).await
            }
            ChannelMsg::RequestSubsystem { name, .. } if name == SFTP => {
                let (worlds, world) = (worlds.clone(), world.clone());
                waited(spawn_blocking(move || worlds.sftp(&world))).await
            }
            ChannelMsg::RequestSubsystem { .. }
            | ChannelMsg::RequestX11 { .. }
            | ChannelMsg::AgentForward { .. } => {
                answer(&client, id, false).await;
                continue;
            }
            ChannelMsg::Close => return,
            _ => continue,
        };
        answer(&client, id, true).await;
        match begun {
            Ok(running) => carry(running.into(), asked, tell).await,
            Err(error) => refuse(&tell, &error).await,
        }
        return;
    }
}

async fn answer(client: &Handle, channel: ChannelId, yes: bool) {
    // A client that is gone needs no answer.
    let _ = if yes {
        client.channel_success(channel).await
    } else {
        client.channel_failure(channel).await
    };
}

impl Wish {
    fn command(&self, argv: &[&str]) -> (Command, Option<(u32, u32)>) {
        let command = Command {
            environment: self.environment.clone(),
            ..Command::argv(argv.iter().copied())
        };
        (command, self.terminal)
    }
}

type Begun = Result<Box<dyn Running>, WorldError>;

async fn begin(worlds: &Runtime, world: &str, asked: (Command, Option<(u32, u32)>)) -> Begun {
    let (worlds, world) = (worlds.clone(), world.to_owned());
    waited(spawn_blocking(move || {
        worlds.launch(&world, &asked.0, asked.1)
    }))
    .await
}

async fn waited(task: tokio::task::JoinHandle<Begun>) -> Begun {
    task.await
        .map_err(|error| WorldError::Exec(std::io::Error::other(error).into()))?
}

/// Says why nothing runs, as a shell would.
async fn refuse(tell: &ChannelWriteHalf<Msg>, error: &WorldError) {
    let words = format!("worldline: {error}\r\n");
    let _ = tell.extended_data_bytes(ERROR, words.into_bytes()).await;
    let _ = tell.exit_status(LOST).await;
    let _ = tell.close().await;
}

/// Carries what the client types to what runs, and what that says to the client, until one of them is gone.
async fn carry(running: Arc<dyn Running>, mut typed: ChannelReadHalf, tell: ChannelWriteHalf<Msg>) {
    let (say, said) = mpsc::channel(OUTPUT_QUEUE);
    let heard = Arc::clone(&running);
    spawn_blocking(move || listen(&*heard, &say));
    let mut speaking = tokio::spawn(speak(said, tell));
    loop {
        let message = tokio::select! {
            _ = &mut speaking => return,
            message = typed.wait() => message,
        };
        let heard = Arc::clone(&running);
        let done = match message {
            None | Some(ChannelMsg::Close) => break,
            Some(ChannelMsg::Data { data }) => spawn_blocking(move || heard.write(&data)).await,
            Some(ChannelMsg::Eof) => spawn_blocking(move || heard.write(&[])).await,
            Some(ChannelMsg::WindowChange {
                col_width,
                row_height,
                ..
            }) => spawn_blocking(move || heard.resize(row_height, col_width)).await,
            Some(ChannelMsg::Signal { signal }) => match number(&signal) {
                Some(signal) => spawn_blocking(move || heard.signal(signal)).await,
                None => continue,
            },
            Some(_) => continue,
        };
        if !matches!(done, Ok(Ok(()))) {
            break;
        }
    }
    // Nobody listens any more: with its last holder what runs is hung up.
    speaking.abort();
}

/// Hears what runs until it ends or nobody wants to know.
fn listen(running: &dyn Running, say: &mpsc::Sender<Option<Said>>) {
    while !say.is_closed() {
        let said = match running.next(SSH_HEARTBEAT) {
            Ok(None) => continue,
            Ok(said) => said,
            Err(_) => None,
        };
        let ends = !matches!(said, Some(Said::Bytes(..)));
        if say.blocking_send(said).is_err() || ends {
            return;
        }
    }
}

/// Tells the client what is said; nothing at all means that what ran is lost.
async fn speak(mut said: mpsc::Receiver<Option<Said>>, tell: ChannelWriteHalf<Msg>) {
    while let Some(said) = said.recv().await {
        let told = match said {
            Some(Said::Bytes(Stream::Out, bytes)) => tell.data_bytes(bytes).await,
            Some(Said::Bytes(Stream::Error, bytes)) => tell.extended_data_bytes(ERROR, bytes).await,
            Some(Said::Ended(code)) => return farewell(&tell, code as u32).await,
            None => return farewell(&tell, LOST).await,
        };
        if told.is_err() {
            return;
        }
    }
}

async fn farewell(tell: &ChannelWriteHalf<Msg>, code: u32) {
    let _ = tell.exit_status(code).await;
    let _ = tell.eof().await;
    let _ = tell.close().await;
}

/// The kernel's number of a signal that a client may send.
fn number(signal: &Sig) -> Option<i32> {
    Some(match signal {
        Sig::HUP => 1,
        Sig::INT => 2,
        Sig::QUIT => 3,
        Sig::KILL => 9,
        Sig::USR1 => 10,
        Sig::TERM => 15,
        _ => return None,
    })
}
