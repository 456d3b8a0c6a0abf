//! Open descriptors of a stopped process, as the loader will make them again.

use std::collections::BTreeMap;
use std::fs;
use std::io;

use super::capture::Failure;
use super::sys;
use crate::plan::descriptor;
use crate::wire::Put;

/// The interpreter's streams and socket, which every world gets anew.
const GIVEN: i32 = 4;
/// The loader keeps its own descriptors from here on.
const MOST: i32 = 900;
/// Flag in `/proc/PID/fdinfo`: closed on exec.
const CLOSE_ON_EXEC: u64 = 0o2000000;
/// Flags of a descriptor that making it again needs.
const KEPT_FLAGS: u64 = 0o4000; // does not block

struct One {
    number: i32,
    link: String,
    flags: u64,
    position: u64,
    info: String,
}

/// How a descriptor is made again.
struct Recipe {
    number: i32,
    kind: u32,
    path: String,
    numbers: Vec<u64>,
    bytes: Vec<u8>,
}

/// Describes all of them; also says which connections a branch will find closed.
pub(super) fn describe(pid: i32) -> Result<(Put, Vec<String>), Failure> {
    let all = read(pid).map_err(|error| Failure::Io("reading open files", error))?;
    if let Some(high) = all.iter().find(|one| one.number >= MOST) {
        return Err(Failure::Refused(format!(
            "it has descriptor {} open; {} is the highest that can be kept",
            high.number,
            MOST - 1
        )));
    }
    let mut recipes: Vec<Recipe> = Vec::new();
    let mut closed = Vec::new();
    let mut made: Vec<i32> = Vec::new();
    for (at, one) in all.iter().enumerate() {
        if made.contains(&one.number) {
            continue;
        }
        let earlier = all[..at]
            .iter()
            .find(|other| other.link == one.link && sys::same_file(pid, other.number, one.number));
        let recipe = match earlier {
            Some(other) => recipe(one, descriptor::SAME, vec![other.number as u64]),
            None => remake(pid, one, &all, &mut made, &mut closed)?,
        };
        recipes.push(recipe);
    }
    let mut put = Put::default().u32(recipes.len() as u32);
    for recipe in recipes {
        let numbers: Vec<u8> = recipe
            .numbers
            .iter()
            .flat_map(|number| number.to_le_bytes())
            .collect();
        put = put
            .u32(recipe.number as u32)
            .u32(recipe.kind)
            .bytes(&recipe.path)
            .bytes(numbers)
            .bytes(recipe.bytes);
    }
    Ok((put, closed))
}

fn recipe(one: &One, kind: u32, mut numbers: Vec<u64>) -> Recipe {
    if one.flags & CLOSE_ON_EXEC != 0 {
        numbers.push(u64::MAX);
    }
    Recipe {
        number: one.number,
        kind,
        path: one.link.clone(),
        numbers,
        bytes: Vec::new(),
    }
}

fn remake(
    pid: i32,
    one: &One,
    all: &[One],
    made: &mut Vec<i32>,
    closed: &mut Vec<String>,
) -> Result<Recipe, Failure> {
    let refuse = |what: String| Err(Failure::Refused(what));
    let flags = one.flags & KEPT_FLAGS;
    if one.link.starts_with("pipe:") {
        return pipe(pid, one, all, made);
    }
    if one.link.starts_with("socket:") {
        return socket(pid, one, all, made, closed)
            .map_err(|error| Failure::Io("looking at a socket", error));
    }
    if let Some(kind) = one.link.strip_prefix("anon_inode:") {
        return match kind {
            "[eventfd]" => {
                let count = field(&one.info, "eventfd-count:")
                    .map_or(0, |text| u64::from_str_radix(text, 16).unwrap_or(0));
                Ok(recipe(one, descriptor::EVENT, vec![flags, count]))
            }
            "[eventpoll]" => {
                let mut made = recipe(one, descriptor::EPOLL, vec![0]);
                made.bytes = watches(&one.info);
                Ok(made)
            }
            _ => refuse(format!("it has {kind} open (descriptor {})", one.number)),
        };
    }
    if !one.link.starts_with('/') || one.link.starts_with("/memfd:") {
        return refuse(format!(
            "it has {} open (descriptor {})",
            one.link, one.number
        ));
    }
    if let Some(path) = one.link.strip_suffix(" (deleted)") {
        return refuse(format!(
            "it has the removed file {path} open (descriptor {}); close it first",
            one.number
        ));
    }
    Ok(recipe(
        one,
        descriptor::FILE,
        vec![one.flags & !CLOSE_ON_EXEC, one.position],
    ))
}

fn pipe(pid: i32, one: &One, all: &[One], made: &mut Vec<i32>) -> Result<Recipe, Failure> {
    const WRITING: u64 = 1;
    let writes = |one: &One| one.flags & 3 == WRITING;
    let other = all
        .iter()
        .find(|other| other.link == one.link && writes(other) != writes(one));
    let Some(other) = other else {
        return Err(Failure::Refused(format!(
            "it has one end of a pipe open (descriptor {}), and not the other",
            one.number
        )));
    };
    let (reading, writing) = if writes(one) {
        (other, one)
    } else {
        (one, other)
    };
    let held = sys::descriptor_of(pid, reading.number).and_then(|fd| sys::waiting(&fd));
    if held.map_err(|error| Failure::Io("looking at a pipe", error))? > 0 {
        return Err(Failure::Refused(format!(
            "a pipe (descriptor {}) holds bytes that nobody has read yet",
            reading.number
        )));
    }
    made.extend([one.number, other.number]);
    let flags = reading.flags & KEPT_FLAGS;
    Ok(recipe(
        reading,
        descriptor::PIPE,
        vec![writing.number as u64, flags],
    ))
}

fn socket(
    pid: i32,
    one: &One,
    all: &[One],
    made: &mut Vec<i32>,
    closed: &mut Vec<String>,
) -> io::Result<Recipe> {
    let fd = sys::descriptor_of(pid, one.number)?;
    let family = sys::socket_option(&fd, libc::SO_DOMAIN)?;
    let listens = sys::socket_option(&fd, libc::SO_ACCEPTCONN)? == 1;
    let internet = family == libc::AF_INET || family == libc::AF_INET6;
    if listens && internet {
        const BACKLOG: u64 = 128;
        let mut made = recipe(
            one,
            descriptor::LISTENER,
            vec![BACKLOG, one.flags & KEPT_FLAGS],
        );
        made.bytes = sys::socket_address(&fd)?;
        return Ok(made);
    }
    if family == libc::AF_UNIX && !listens {
        // Both ends of a pair are made at once, and numbered so.
        let inode = |one: &One| {
            one.link
                .trim_start_matches("socket:[")
                .trim_end_matches(']')
                .parse::<u64>()
                .unwrap_or(0)
        };
        let other = all
            .iter()
            .find(|other| other.link.starts_with("socket:") && inode(other) == inode(one) + 1);
        if let Some(other) = other.filter(|other| !made.contains(&other.number)) {
            made.push(other.number);
            return Ok(recipe(
                one,
                descriptor::PAIR,
                vec![other.number as u64, one.flags & KEPT_FLAGS],
            ));
        }
    }
    let kind = if internet {
        "a network connection"
    } else {
        "a socket"
    };
    closed.push(format!("{kind} (descriptor {})", one.number));
    Ok(recipe(one, descriptor::CLOSED, Vec::new()))
}

/// What an `epoll` watches: number, events, data.
fn watches(info: &str) -> Vec<u8> {
    info.lines()
        .filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let at = |name: &str| {
                words
                    .iter()
                    .position(|word| *word == name)
                    .and_then(|at| words.get(at + 1))
                    .copied()
            };
            let hex = |text: &str| u64::from_str_radix(text, 16).ok();
            Some([
                at("tfd:")?.parse().ok()?,
                hex(at("events:")?)?,
                hex(at("data:")?)?,
            ])
        })
        .flatten()
        .flat_map(u64::to_le_bytes)
        .collect()
}

fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines()
        .find_map(|line| line.strip_prefix(name))
        .map(str::trim)
}

fn read(pid: i32) -> io::Result<Vec<One>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        let entry = entry?;
        let Some(number) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<i32>().ok())
        else {
            continue;
        };
        if number < GIVEN {
            continue;
        }
        let link = fs::read_link(entry.path())?.to_string_lossy().into_owned();
        let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}"))?;
        let flags = field(&info, "flags:")
            .and_then(|text| u64::from_str_radix(text, 8).ok())
            .unwrap_or(0);
        let position = field(&info, "pos:")
            .and_then(|text| text.parse().ok())
            .unwrap_or(0);
        all.insert(
            number,
            One {
                number,
                link,
                flags,
                position,
                info,
            },
        );
    }
    Ok(all.into_values().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_epoll_watches_is_read() {
        let info = "pos:\t0\nflags:\t02000002\ntfd:        5 events:       19 data:       5deadbeef  pos:0 ino:1 sdev:a\n";
        let words: Vec<u64> = watches(info)
            .as_chunks::<8>()
            .0
            .iter()
            .map(|word| u64::from_le_bytes(*word))
            .collect();
        assert_eq!(words, [5, 0x19, 0x5_dead_beef]);
        assert_eq!(field(info, "flags:"), Some("02000002"));
    }
}
