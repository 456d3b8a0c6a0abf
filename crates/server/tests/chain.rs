//! Chains behind the arcade: what is asked of them is passed on, and what cannot be is said in words.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use worldline_arena::{Arena, Config, Shelf, World};
use worldline_cartridge::testing::{Size, cartridge};
use worldline_chain::table::Chains;
use worldline_chain::{Address, Commitment, Program, Rpc};
use worldline_server::{ChainAccess, Fetched, Options, Server};

const HEALTHY: &str = r#"{"jsonrpc":"2.0","id":1,"result":"ok"}"#;

/// An arcade over the chain at `url`, if there is one.
async fn arcade(folder: &tempfile::TempDir, url: Option<String>) -> SocketAddr {
    let world = World::new("micro", cartridge(Size::Interop, 7), Default::default());
    let config = Config {
        data: folder.path().into(),
        ..Config::default()
    };
    let (arena, _) = Arena::open(Shelf::new(vec![world]), config).unwrap();
    let chain = url.map(|url| ChainAccess {
        chains: Chains {
            l1: Rpc::new(&url, Commitment::Confirmed),
            rollup: Rpc::new(url, Commitment::Processed),
        },
        program: Program::default(),
        keeper: Some(Address::new_from_array([7; 32])),
        play_money: true,
        fetched: Fetched::default(),
    });
    let options = Options {
        chain,
        ..Options::default()
    };
    let server = Server::bind(Arc::new(arena), options).await.unwrap();
    let address = server.address();
    tokio::spawn(server.run());
    address
}

async fn ask(address: SocketAddr, request: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "{request} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer).await;
    answer
}

/// A chain that is well, whatever it is asked, and an address where there is none.
async fn chains() -> (String, String) {
    let chain = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = |listener: &TcpListener| format!("http://{}", listener.local_addr().unwrap());
    let there = url(&chain);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = chain.accept().await {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let head = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length";
            let answer = format!("{head}: {}\r\n\r\n{HEALTHY}", HEALTHY.len());
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    let nowhere = url(&TcpListener::bind("127.0.0.1:0").await.unwrap());
    (there, nowhere)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_reach_chains_through_the_arcade() {
    let (there, nowhere) = chains().await;
    let folder = tempfile::tempdir().unwrap();
    let address = arcade(&folder, Some(there)).await;
    let question = r#"{"jsonrpc":"2.0","id":1,"method":"getHealth"}"#;
    for which in ["l1", "rollup"] {
        let answer = ask(address, &format!("POST /api/chain/rpc/{which}"), question).await;
        assert!(answer.ends_with(HEALTHY), "{answer}");
    }
    let answer = ask(address, "GET /api/about", "").await;
    assert!(answer.contains(r#""play_money":true"#) && answer.contains(r#""home":"/""#));
    let answer = ask(address, "POST /api/chain/rpc/elsewhere", question).await;
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    let answer = ask(address, "POST /api/chain/rpc/l1", &" ".repeat(20 << 10)).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    let answer = ask(address, "GET /api/chain/matches/0OIl/states", "").await;
    assert!(answer.contains("bad_address"), "{answer}");

    let folder = tempfile::tempdir().unwrap();
    let address = arcade(&folder, Some(nowhere)).await;
    let answer = ask(address, "POST /api/chain/rpc/l1", question).await;
    assert!(
        answer.starts_with("HTTP/1.1 502") && answer.contains("chain"),
        "{answer}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_arcade_on_no_chain_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let address = arcade(&folder, None).await;
    let answer = ask(address, "GET /api/about", "").await;
    assert!(answer.contains(r#""chain":null"#), "{answer}");
    let answer = ask(address, "POST /api/chain/rpc/l1", "{}").await;
    assert!(
        answer.starts_with("HTTP/1.1 404") && answer.contains("no_chain"),
        "{answer}"
    );
}
