//! What a world may reach of the network: names on a list, and nothing else.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};

use thiserror::Error;

/// Names on one list.
pub const MAX_NAMES: usize = 64;
/// What a name without a port may be reached at.
const PORTS: [u16; 2] = [80, 443];

/// An entry of a list cannot be read.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum NetworkError {
    /// It is of another form.
    #[error(
        "`{0}` is not NAME, NAME:PORT or NAME:PORT=ADDRESS; a name may begin with `*.` for all below it"
    )]
    Entry(String),
    /// There are too many.
    #[error("{0} names are on the list, and {MAX_NAMES} are the most")]
    TooMany(usize),
}

/// Why something is not reached.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum Refusal {
    #[error("{0}:{1} is not on this world's list of names")]
    NotListed(String, u16),
    #[error("{0} is not known")]
    Unknown(String),
    #[error("{0} is on the list, and stands for an address inside the host's own network")]
    Inside(String),
}

/// Names that a world may reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Names(Vec<Name>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Name {
    name: String,
    below: bool,
    port: Option<u16>,
    /// Where it is, said by whoever made the list: then no one is asked, and any address will do.
    address: Option<IpAddr>,
}

impl Name {
    fn parse(entry: &str) -> Option<Self> {
        let (place, address) = match entry.split_once('=') {
            Some((place, address)) => (place, Some(address.parse().ok()?)),
            None => (entry, None),
        };
        let (name, port) = match place.split_once(':') {
            Some((name, port)) => (name, Some(port.parse().ok().filter(|port| *port != 0)?)),
            None => (place, None),
        };
        let (name, below) = match name.strip_prefix("*.") {
            Some(name) => (name, true),
            None => (name, false),
        };
        let name = plain(name);
        let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        (!name.is_empty() && name.len() <= 253 && name.bytes().all(good)).then_some(Self {
            name,
            below,
            port,
            address,
        })
    }

    fn is(&self, name: &str, port: u16) -> bool {
        let port = match self.port {
            Some(only) => only == port,
            None => PORTS.contains(&port),
        };
        let below = || {
            let head = name.strip_suffix(&self.name);
            head.is_some_and(|head| head.len() > 1 && head.ends_with('.'))
        };
        port && if self.below {
            below()
        } else {
            name == self.name
        }
    }
}

/// A name as it is compared.
fn plain(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

impl Names {
    pub(crate) fn parse(entries: &[String]) -> Result<Self, NetworkError> {
        if entries.len() > MAX_NAMES {
            return Err(NetworkError::TooMany(entries.len()));
        }
        let read = |entry: &String| {
            Name::parse(entry).ok_or_else(|| NetworkError::Entry(entry.chars().take(80).collect()))
        };
        entries.iter().map(read).collect::<Result<_, _>>().map(Self)
    }

    /// Where a name is, if a world may reach it. The address that is used is the one that was looked at.
    pub(crate) fn find(&self, name: &str, port: u16) -> Result<Vec<SocketAddr>, Refusal> {
        let name = plain(name);
        let listed = self.0.iter().find(|one| one.is(&name, port));
        let Some(listed) = listed else {
            return Err(Refusal::NotListed(name, port));
        };
        if let Some(address) = listed.address {
            return Ok(vec![(address, port).into()]);
        }
        let found = (name.as_str(), port).to_socket_addrs();
        let Ok(found) = found else {
            return Err(Refusal::Unknown(name));
        };
        let outside: Vec<_> = found.filter(|one| is_outside(one.ip())).collect();
        if outside.is_empty() {
            return Err(Refusal::Inside(name));
        }
        Ok(outside)
    }
}

/// Whether an address is of the public network: names are given to addresses by others, and one of those
/// could be given to this host.
fn is_outside(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_outside_v4(address),
        IpAddr::V6(address) => is_outside_v6(address),
    }
}

fn is_outside_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = matches!(
        (a, b, c),
        (0 | 10 | 127 | 240..=255, ..) | (100, 64..=127, _) | (192, 0, 0) | (198, 18..=19, _)
    );
    !special
        && !address.is_private()
        && !address.is_link_local()
        && !address.is_multicast()
        && !address.is_documentation()
}

fn is_outside_v6(address: Ipv6Addr) -> bool {
    // Global unicast, without the parts that carry an address of version 4 inside.
    let [a, b, ..] = address.segments();
    a & 0xe000 == 0x2000 && a != 0x2002 && !(a == 0x2001 && (b == 0 || b == 0xdb8))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(entries: &[&str]) -> Result<Names, NetworkError> {
        Names::parse(
            &entries
                .iter()
                .map(|one| one.to_string())
                .collect::<Vec<_>>(),
        )
    }

    #[test]
    fn a_name_is_reached_at_its_ports_only() {
        let list = names(&["files.test:8080=192.0.2.7", "*.Deep.test.=10.0.0.1"]).unwrap();
        let at = |text: &str| Ok(vec![text.parse().unwrap()]);
        assert_eq!(list.find("FILES.test.", 8080), at("192.0.2.7:8080"));
        assert_eq!(list.find("a.b.deep.test", 443), at("10.0.0.1:443"));
        for (name, port) in [
            ("files.test", 80),
            ("files.test.evil", 8080),
            ("deep.test", 443),
            ("evildeep.test", 443),
            ("a.deep.test", 22),
            ("192.0.2.7", 8080),
        ] {
            assert!(
                matches!(list.find(name, port), Err(Refusal::NotListed(..))),
                "{name}"
            );
        }
    }

    #[test]
    fn a_listed_name_does_not_lead_inside() {
        let list = names(&["localhost:9", "127.0.0.1:9", "10.1.2.3", "169.254.169.254"]).unwrap();
        for (name, port) in [
            ("localhost", 9),
            ("127.0.0.1", 9),
            ("10.1.2.3", 80),
            ("169.254.169.254", 80),
        ] {
            assert_eq!(list.find(name, port), Err(Refusal::Inside(name.into())));
        }
        for inside in [
            "::1",
            "::ffff:127.0.0.1",
            "fe80::1",
            "fd00::1",
            "2002:7f00:1::",
            "64:ff9b::7f00:1",
        ] {
            assert!(!is_outside(inside.parse().unwrap()), "{inside}");
        }
        for outside in ["1.1.1.1", "93.184.216.34", "2606:4700::1111"] {
            assert!(is_outside(outside.parse().unwrap()), "{outside}");
        }
    }

    #[test]
    fn what_is_no_entry_is_refused_by_name() {
        for bad in [
            "", "*.", "a b", "a:0", "a:x", "a:70000", "a=b", "[::1]:80", "http://a",
        ] {
            assert_eq!(names(&[bad]), Err(NetworkError::Entry(bad.into())));
        }
        assert_eq!(names(&["a"; 65]), Err(NetworkError::TooMany(65)));
    }
}
