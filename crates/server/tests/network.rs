//! Open to the network: TLS, and nothing without the token.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use worldline_arena::{Arena, Config, Shelf, World};
use worldline_cartridge::testing::{Size, cartridge};
use worldline_server::{Options, Server};

/// A person who clicks the browser's warning away: the certificate was made at start.
#[derive(Debug)]
struct Anyone;

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// The answer to a GET over TLS.
async fn get(address: SocketAddr, path: &str, headers: &str) -> String {
    ask(address, "GET", path, headers, "").await
}

/// The answer to a request over TLS.
async fn ask(address: SocketAddr, method: &str, path: &str, headers: &str, body: &str) -> String {
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone))
        .with_no_client_auth();
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .unwrap();
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_on_the_network_gets_nothing_without_the_token() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::new(
        "micro",
        cartridge(Size::Interop, 7),
        serde_json::Value::Null,
    );
    let config = Config {
        data: folder.path().into(),
        ..Config::default()
    };
    let (arena, _) = Arena::open(Shelf::new(vec![world]), config).unwrap();
    let options = Options {
        host: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        ..Options::default()
    };
    let server = Server::bind(Arc::new(arena), options).await.unwrap();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, server.address().port()));
    let link = server.link();
    let (_, token) = link
        .split_once("/?access=")
        .expect("the link carries the token");
    assert!(link.starts_with("https://"));
    let token = token.to_owned();
    tokio::spawn(server.run());

    // A client that never finishes its handshake holds nobody up.
    let _stalled = TcpStream::connect(address).await.unwrap();
    for path in ["/", "/api/worlds", "/api/worlds?access=wrong", "/?access="] {
        assert!(
            get(address, path, "").await.starts_with("HTTP/1.1 401"),
            "{path}"
        );
    }
    let entered = get(address, &format!("/?access={token}"), "").await;
    assert!(entered.starts_with("HTTP/1.1 303"), "{entered}");
    let cookie = format!("worldline_access={token}");
    assert!(entered.contains(&cookie) && entered.contains("HttpOnly; Secure"));
    let worlds = get(address, "/api/worlds", &format!("Cookie: {cookie}\r\n")).await;
    assert!(
        worlds.starts_with("HTTP/1.1 200") && worlds.contains("\"micro\""),
        "{worlds}"
    );

    // Plain HTTP is not answered.
    let mut plain = TcpStream::connect(address).await.unwrap();
    plain
        .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"));
}

/// All that is logged, at the finest level.
#[cfg(feature = "worlds")]
#[derive(Clone, Default)]
struct Log(Arc<std::sync::Mutex<Vec<u8>>>);

#[cfg(feature = "worlds")]
impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(feature = "worlds")]
#[test]
fn worlds_answer_to_the_key_alone_and_nobody_logs_it() {
    let folder = tempfile::tempdir().unwrap();
    let threads = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    threads.block_on(answer_to_the_key_alone(folder.path()));
    // All that is open in the folder is closed before that goes.
    drop(threads);
}

#[cfg(feature = "worlds")]
async fn answer_to_the_key_alone(folder: &std::path::Path) {
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .init();
    std::fs::create_dir(folder.join("user")).unwrap();
    let shelf = Shelf::new(vec![World::new(
        "micro",
        cartridge(Size::Micro, 7),
        serde_json::Value::Null,
    )]);
    let config = Config {
        data: folder.join("arena"),
        ..Config::default()
    };
    let (arena, _) = Arena::open(shelf, config).unwrap();
    let arena = Arc::new(arena);
    let (runtime, _) = worldline_runtime::Runtime::open(worldline_runtime::Config {
        data: folder.join("worlds"),
        code: Err("none in this test".into()),
        arena: Some(Arc::clone(&arena)),
    })
    .unwrap();
    let options = Options {
        host: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        worlds: Some(worldline_server::Worlds {
            runtime,
            ssh_port: 0,
            data: folder.join("user"),
        }),
        ..Options::default()
    };
    let server = Server::bind(arena, options).await.unwrap();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, server.address().port()));
    let token = server.link().split_once("/?access=").unwrap().1.to_owned();
    tokio::spawn(async { server.run().await.expect("a server that goes on") });

    let body = r#"{"image_id":"micro"}"#;
    let wrong = format!("{}x", &token[..token.len() - 1]);
    for headers in [
        String::new(),
        "Authorization: Bearer \r\n".into(),
        format!("Authorization: Bearer {wrong}\r\n"),
        format!("Authorization: Basic {token}\r\n"),
    ] {
        for (method, path) in [
            ("GET", "/instance"),
            ("POST", "/v1/sandboxes"),
            ("GET", "/openapi.json"),
        ] {
            // Who is not let in is not listened to either, so nothing follows the headers.
            let answer = ask(address, method, path, &headers, "").await;
            assert!(answer.starts_with("HTTP/1.1 401"), "{path}: {answer}");
        }
    }
    let key = format!("Authorization: Bearer {token}\r\n");
    let made = ask(address, "POST", "/v1/sandboxes", &key, body).await;
    assert!(
        made.starts_with("HTTP/1.1 200") && made.contains("ready"),
        "{made}"
    );
    let listed = get(address, "/instance", &key).await;
    assert!(
        listed.starts_with("HTTP/1.1 200") && listed.contains("micro"),
        "{listed}"
    );
    // What goes wrong is logged, and with it no key.
    let broken = ask(address, "POST", "/v1/sandboxes", &key, "{").await;
    assert!(broken.starts_with("HTTP/1.1 4"), "{broken}");
    tracing::info!("the end of the log");
    let log = String::from_utf8_lossy(&log.0.lock().unwrap()).into_owned();
    assert!(log.contains("the end of the log"));
    assert!(!log.contains(&token) && !log.contains(&wrong), "{log}");
}
