//! The way out: none by default, then names on a list and nothing else.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

use worldline_sandbox::{Backend, Spec};

use crate::{Play, Promise, world};

pub(crate) const PROMISES: &[Promise] = &[
    (
        "a_world_has_no_network_by_default",
        a_world_has_no_network_by_default,
    ),
    ("a_listed_name_is_reached", a_listed_name_is_reached),
    (
        "nothing_but_listed_names_is_reached",
        nothing_but_listed_names_is_reached,
    ),
    (
        "a_branch_reaches_what_its_snapshot_did",
        a_branch_reaches_what_its_snapshot_did,
    ),
    (
        "a_list_that_cannot_be_read_is_refused",
        a_list_that_cannot_be_read_is_refused,
    ),
];

/// A server on this host's loopback that says hello, and which port it has.
fn server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 4096];
            let _ = stream.read(&mut request);
            let _ = stream.write_all(
                b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello",
            );
        }
    });
    port
}

fn networked(names: &[String]) -> Spec {
    Spec {
        network: Some(names.to_vec()),
        ..Spec::default()
    }
}

/// Names for cells: a page, a tunnel to a place, and a connection past the proxy, each as text.
const REACH: &str = r#"
import os, socket, urllib.request, urllib.error
def page(url):
    try: return urllib.request.urlopen(url, timeout=30).read().decode()
    except urllib.error.HTTPError as error: return f"{error.code} {error.read().decode().strip()}"
    except OSError as error: return "none"
def tunnel(place):
    try:
        with socket.create_connection(("127.0.0.1", 61080), 30) as s:
            s.sendall(f"CONNECT {place} HTTP/1.1\r\n\r\n".encode())
            first = s.recv(4096).split(b"\r\n")[0].decode()
            if " 200 " not in first: return first
            s.sendall(b"GET / HTTP/1.0\r\n\r\n")
            got = b""
            while part := s.recv(4096): got += part
            return got.decode().split("\r\n\r\n")[-1]
    except OSError: return "none"
def direct(host, port):
    try: socket.create_connection((host, port), 5).close(); return "reached"
    except OSError: return "none"
"#;

fn a_world_has_no_network_by_default(backend: &dyn Backend) {
    let port = server();
    let world = world(backend);
    world.value(REACH);
    let asked = format!(
        "page('http://127.0.0.1:{port}/'), tunnel('127.0.0.1:{port}'), os.environ.get('HTTPS_PROXY')"
    );
    assert_eq!(world.value(&asked), "('none', 'none', None)");
    assert_eq!(world.line("echo \"[$https_proxy]\"").1, "[]\n");
    assert_eq!(
        world.value("sorted(name for _, name in socket.if_nameindex())"),
        "['lo']"
    );
}

fn a_listed_name_is_reached(backend: &dyn Backend) {
    let port = server();
    let spec = networked(&[format!("files.test:{port}=127.0.0.1")]);
    let world = backend.create(&spec).unwrap();
    world.value(REACH);
    assert_eq!(
        world.value(&format!("page('http://files.test:{port}/')")),
        "'hello'"
    );
    assert_eq!(
        world.value(&format!("tunnel('FILES.test:{port}')")),
        "'hello'"
    );
    let line = format!(
        "python3 -c \"import urllib.request as u; print(u.urlopen('http://files.test:{port}/').read())\""
    );
    assert_eq!(world.line(&line), (0, "b'hello'\n".into()));
    // Its own servers it reaches without the proxy.
    world.line("python3 -m http.server 8123 >/dev/null 2>&1 &");
    let listed = "import time; until = time.time() + 60\n\
        while (got := page('http://127.0.0.1:8123/')) == 'none' and time.time() < until: time.sleep(0.1)\n\
        got[:9]";
    assert_eq!(world.value(listed), "'<!DOCTYPE'");
}

fn nothing_but_listed_names_is_reached(backend: &dyn Backend) {
    let (port, other) = (server(), server());
    // The control: without a sandbox, all of it is reached.
    for port in [port, other] {
        assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    }
    let names = [
        format!("files.test:{port}=127.0.0.1"),
        format!("localhost:{other}"),
        "169.254.169.254".into(),
    ];
    let world = backend.create(&networked(&names)).unwrap();
    world.value(REACH);
    for place in [
        format!("127.0.0.1:{port}"),
        format!("127.0.0.1:{other}"),
        format!("localhost:{port}"),
        // On the list by name, which leads inside this host.
        format!("localhost:{other}"),
        format!("files.test:{other}"),
        format!("files.test.evil:{port}"),
        format!("[::1]:{port}"),
        format!("0:{other}"),
        format!("2130706433:{port}"),
        "169.254.169.254:80".into(),
    ] {
        assert_eq!(
            world.value(&format!("tunnel('{place}')")),
            "'HTTP/1.1 403 Refused'",
            "{place}"
        );
        let page = world.value(&format!("page('http://{place}/')"));
        assert!(page.contains("403") || page == "'none'", "{place}: {page}");
    }
    // Past the proxy there is nothing, neither names nor routes.
    for host in [
        "127.0.0.1",
        "10.0.0.1",
        "1.1.1.1",
        "files.test",
        "::1",
        "169.254.169.254",
    ] {
        assert_eq!(
            world.value(&format!("direct('{host}', {port})")),
            "'none'",
            "{host}"
        );
    }
    let junk = "s = socket.create_connection(('127.0.0.1', 61080)); s.sendall(b'\\x00\\xff' * 20000); s.close()";
    world.cell(junk);
    assert_eq!(
        world.value(&format!("tunnel('files.test:{port}')")),
        "'hello'"
    );
}

fn a_branch_reaches_what_its_snapshot_did(backend: &dyn Backend) {
    let port = server();
    let base = backend
        .create(&networked(&[format!("files.test:{port}=127.0.0.1")]))
        .unwrap();
    base.value(REACH);
    let snapshot = base.snapshot(None).unwrap().id;
    let same = backend.restore(&snapshot, &Spec::default()).unwrap();
    let none = backend.restore(&snapshot, &networked(&[])).unwrap();
    let asked = format!("tunnel('files.test:{port}'), 'http_proxy' in os.environ");
    assert_eq!(same.value(&asked), "('hello', True)");
    assert_eq!(none.value(&asked), "('none', False)");
    assert_eq!(none.line("echo \"[$https_proxy]\"").1, "[]\n");
    base.destroy();
    assert_eq!(same.value(&asked), "('hello', True)");
}

fn a_list_that_cannot_be_read_is_refused(backend: &dyn Backend) {
    for bad in ["", "http://a.test", "a.test:0", "a.test=elsewhere"] {
        let refused = backend
            .create(&networked(&[bad.into()]))
            .err()
            .unwrap()
            .to_string();
        assert!(refused.contains("NAME:PORT"), "{refused}");
    }
}
