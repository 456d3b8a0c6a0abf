//! A world's way out, where it was given one: a proxy for HTTP that listens on the world's own loopback
//! and is answered out here. It reaches the names on the world's list, at addresses that it looks up
//! itself. The world has no other way, no routes and no name server, so nothing has to be filtered.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::host;
use crate::network::Names;

/// Where it listens in a world.
pub(crate) const PORT: u16 = 61_080;
/// How programs are told of it.
pub(crate) const URL: &str = "http://127.0.0.1:61080";
/// The variables that tell them, and those that say where not to use it.
pub(crate) const VARIABLES: [(&str, &str); 6] = [
    ("http_proxy", URL),
    ("https_proxy", URL),
    ("HTTP_PROXY", URL),
    ("HTTPS_PROXY", URL),
    ("no_proxy", "localhost,127.0.0.1"),
    ("NO_PROXY", "localhost,127.0.0.1"),
];
/// Connections of one world at a time.
pub(crate) const MOST: usize = 64;
/// Bytes of a request before its body.
const MAX_HEAD: usize = 16 << 10;
const PATIENCE: Duration = Duration::from_secs(20);
const STACK: usize = 128 << 10;

/// Answers a world's requests until it is dropped.
pub(crate) struct Proxy(TcpListener);

impl Proxy {
    pub(crate) fn start(listener: OwnedFd, names: Names) -> io::Result<Self> {
        let listener = TcpListener::from(listener);
        let (accepting, names) = (listener.try_clone()?, Arc::new(names));
        let accept = move || {
            let open = Arc::new(AtomicUsize::new(0));
            while let Ok((guest, _)) = accepting.accept() {
                if open.fetch_add(1, Ordering::AcqRel) >= MOST {
                    open.fetch_sub(1, Ordering::AcqRel);
                    continue;
                }
                let (names, counted) = (Arc::clone(&names), Arc::clone(&open));
                let served = in_thread(move || {
                    let _ = serve(guest, &names);
                    counted.fetch_sub(1, Ordering::AcqRel);
                });
                if served.is_err() {
                    open.fetch_sub(1, Ordering::AcqRel);
                }
            }
        };
        in_thread(accept)?;
        Ok(Self(listener))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        host::stop_listening(&self.0);
    }
}

fn in_thread(work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let thread = thread::Builder::new()
        .name("proxy".into())
        .stack_size(STACK);
    thread.spawn(work).map(drop)
}

/// One request, and then whatever is said.
pub(crate) fn serve(mut guest: TcpStream, names: &Names) -> io::Result<()> {
    guest.set_read_timeout(Some(PATIENCE))?;
    let Some((head, rest)) = read_head(&mut guest)? else {
        return refuse(&mut guest, 431, "the request is too long");
    };
    let Some(request) = Request::parse(&head) else {
        return refuse(
            &mut guest,
            400,
            "this is a proxy for HTTP: CONNECT NAME:PORT, or GET http://NAME/",
        );
    };
    let found = match names.find(&request.name, request.port) {
        Ok(found) => found,
        Err(refusal) => return refuse(&mut guest, 403, &refusal.to_string()),
    };
    let mut reached = Err(io::ErrorKind::NotFound.into());
    for address in found {
        reached = TcpStream::connect_timeout(&address, PATIENCE);
        if reached.is_ok() {
            break;
        }
    }
    let mut outside = match reached {
        Ok(outside) => outside,
        Err(error) => return refuse(&mut guest, 502, &format!("{}: {error}", request.name)),
    };
    guest.set_read_timeout(None)?;
    match &request.head {
        Some(head) => outside.write_all(head)?,
        None => guest.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?,
    }
    outside.write_all(&rest)?;
    carry(guest, outside)
}

/// Both ways, until both have said all.
fn carry(guest: TcpStream, outside: TcpStream) -> io::Result<()> {
    let (mut from, mut to) = (guest.try_clone()?, outside.try_clone()?);
    in_thread(move || {
        let _ = io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    })?;
    let (mut from, mut to) = (outside, guest);
    let copied = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
    if copied.is_err() {
        let _ = from.shutdown(Shutdown::Both);
    }
    Ok(())
}

fn refuse(guest: &mut TcpStream, code: u16, why: &str) -> io::Result<()> {
    let length = why.len() + 1;
    // In one piece: who reads once is to see all of it.
    let answer = format!(
        "HTTP/1.1 {code} Refused\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{why}\n"
    );
    guest.write_all(answer.as_bytes())
}

/// A request up to its empty line, and what came after that; `None` if it is too long.
fn read_head(guest: &mut TcpStream) -> io::Result<Option<(Vec<u8>, Vec<u8>)>> {
    const END: &[u8] = b"\r\n\r\n";
    let (mut all, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let count = guest.read(&mut buffer)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        all.extend_from_slice(&buffer[..count]);
        if let Some(at) = all.windows(END.len()).position(|four| four == END) {
            let rest = all.split_off(at + END.len());
            return Ok(Some((all, rest)));
        }
        if all.len() > MAX_HEAD {
            return Ok(None);
        }
    }
}

/// What is asked of the proxy.
#[derive(Debug, PartialEq, Eq)]
struct Request {
    name: String,
    port: u16,
    /// What the server is told; nothing where the two talk by themselves.
    head: Option<Vec<u8>>,
}

impl Request {
    fn parse(head: &[u8]) -> Option<Self> {
        let head = std::str::from_utf8(head).ok()?;
        let (line, fields) = head.split_once("\r\n")?;
        let mut words = line.split(' ');
        let (method, target, version) = (words.next()?, words.next()?, words.next()?);
        if words.next().is_some() || !version.starts_with("HTTP/1.") {
            return None;
        }
        if method == "CONNECT" {
            let (name, port) = place(target, None)?;
            return Some(Self {
                name,
                port,
                head: None,
            });
        }
        let target = target.strip_prefix("http://")?;
        let (authority, path) = target.split_at(target.find(['/', '?']).unwrap_or(target.len()));
        let (name, port) = place(authority, Some(80))?;
        let slash = if path.starts_with('/') { "" } else { "/" };
        let mut plain = format!("{method} {slash}{path} {version}\r\nConnection: close\r\n");
        const OURS: [&str; 4] = [
            "connection",
            "proxy-connection",
            "proxy-authorization",
            "keep-alive",
        ];
        for field in fields.split("\r\n").filter(|field| !field.is_empty()) {
            let (key, _) = field.split_once(':')?;
            if !OURS.iter().any(|ours| key.eq_ignore_ascii_case(ours)) {
                plain.push_str(field);
                plain.push_str("\r\n");
            }
        }
        plain.push_str("\r\n");
        Some(Self {
            name,
            port,
            head: Some(plain.into_bytes()),
        })
    }
}

/// A name and a port.
fn place(text: &str, usual: Option<u16>) -> Option<(String, u16)> {
    match text.rsplit_once(':') {
        Some((name, port)) => Some((name.to_owned(), port.parse().ok()?)),
        None => Some((text.to_owned(), usual?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read() {
        let asked = Request::parse(b"CONNECT a.test:443 HTTP/1.1\r\nHost: b\r\n\r\n").unwrap();
        assert_eq!(
            (asked.name.as_str(), asked.port, asked.head),
            ("a.test", 443, None)
        );
        let asked = Request::parse(
            b"GET http://a.test:81/x?y HTTP/1.1\r\nHost: a.test\r\nProxy-Authorization: secret\r\n\r\n",
        )
        .unwrap();
        assert_eq!((asked.name.as_str(), asked.port), ("a.test", 81));
        let head = b"GET /x?y HTTP/1.1\r\nConnection: close\r\nHost: a.test\r\n\r\n";
        assert_eq!(asked.head.as_deref(), Some(&head[..]));
        for bad in [
            "GET / HTTP/1.1\r\n\r\n",
            "CONNECT a HTTP/1.1\r\n\r\n",
            "\r\n\r\n",
            "GET ftp://a/ HTTP/1.1\r\n\r\n",
            "CONNECT a:1 x HTTP/1.1\r\n\r\n",
        ] {
            assert_eq!(Request::parse(bad.as_bytes()), None, "{bad}");
        }
    }
}
