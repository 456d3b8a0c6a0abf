//! Firecracker's API: HTTP over a Unix socket, one request at a time.
//!
//! Requests are a line, three headers and a piece of JSON, and so are the answers, so there is no HTTP
//! library here: those that fit bring a runtime, for less than a page of plain reading and writing.
//! Fields and their meaning are Firecracker's own.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// How long an answer may take. Writing memory to a slow disk is the longest.
const PATIENCE: Duration = Duration::from_secs(300);
/// The request that stops a machine's processors or lets them go on, and how long it may take: a monitor whose
/// guest is turning the machine off may never answer it.
const STATE: &str = "PATCH /vm";
const STATE_PATIENCE: Duration = Duration::from_secs(20);
/// Longest head of an answer, bytes.
const MAX_HEAD: usize = 16 << 10;
/// Longest answer, bytes.
const MAX_ANSWER: usize = 1 << 20;

/// A request to a machine monitor failed.
#[derive(Debug, Error)]
pub enum ApiError {
    /// It understood, and will not.
    #[error("Firecracker refused {request} ({status}): {fault}")]
    Refused {
        /// The request.
        request: String,
        /// HTTP's status.
        status: u16,
        /// Its own words.
        fault: String,
    },
    /// It cannot be reached, or went away.
    #[error(
        "Firecracker does not answer {request}: {source}; its machine is lost, so branch another from the last snapshot"
    )]
    Lost {
        /// The request.
        request: String,
        /// What the system said.
        source: io::Error,
    },
}

/// The machine itself.
#[derive(Clone, Debug, Serialize)]
pub struct MachineConfig {
    /// Processors, 1 to 32.
    pub vcpu_count: u32,
    /// Memory, in MiB.
    pub mem_size_mib: u32,
    /// What it shows of the host's processor: `T2`, `T2S`, `T2CL`, `T2A`, `C3`, or all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_template: Option<String>,
    /// Whether snapshots may hold differences.
    pub track_dirty_pages: bool,
}

/// What it begins with.
#[derive(Clone, Debug, Serialize)]
pub struct BootSource {
    /// The kernel, as an ELF file.
    pub kernel_image_path: String,
    /// Its command line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot_args: Option<String>,
    /// Its first files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initrd_path: Option<String>,
}

/// So much at a time: a bucket of tokens (bytes, or operations) that fills again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenBucket {
    /// How many it holds.
    pub size: u64,
    /// How many there are at first, beside those.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub one_time_burst: Option<u64>,
    /// How long it takes to fill, in milliseconds.
    pub refill_time: u64,
}

/// What a device may move.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateLimiter {
    /// Bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<TokenBucket>,
    /// Operations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ops: Option<TokenBucket>,
}

/// A disk.
#[derive(Clone, Debug, Serialize)]
pub struct Drive {
    /// Its name.
    pub drive_id: String,
    /// Its file.
    pub path_on_host: String,
    /// Whether the guest begins from it.
    pub is_root_device: bool,
    /// Whether the guest may not write it.
    pub is_read_only: bool,
    /// What it may move.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limiter: Option<RateLimiter>,
}

/// A network card.
#[derive(Clone, Debug, Serialize)]
pub struct NetworkInterface {
    /// Its name.
    pub iface_id: String,
    /// The host's end: a tap device, in the monitor's own network namespace.
    pub host_dev_name: String,
    /// Its address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guest_mac: Option<String>,
    /// What it may receive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rx_rate_limiter: Option<RateLimiter>,
    /// What it may send.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tx_rate_limiter: Option<RateLimiter>,
}

/// A socket between guest and host.
#[derive(Clone, Debug, Serialize)]
pub struct Vsock {
    /// The guest's address, from 3.
    pub guest_cid: u32,
    /// The host's end.
    pub uds_path: String,
}

/// A device that takes memory back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Balloon {
    /// How much it is to take, in MiB.
    pub amount_mib: u32,
    /// Whether it gives some back before the guest ends a process.
    pub deflate_on_oom: bool,
    /// How often it counts, in seconds; 0 for never.
    pub stats_polling_interval_s: u16,
}

/// What a snapshot holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum SnapshotKind {
    /// All memory.
    Full,
    /// What was written since the last one, or since power-on.
    Diff,
}

/// Where a snapshot is to be written. The machine has to be paused.
#[derive(Clone, Debug, Serialize)]
pub struct SnapshotCreate {
    /// What it holds.
    pub snapshot_type: SnapshotKind,
    /// The file of its devices and registers.
    pub snapshot_path: String,
    /// The file of its memory.
    pub mem_file_path: String,
}

/// Where a snapshot is.
#[derive(Clone, Debug, Serialize)]
pub struct SnapshotLoad {
    /// The file of its devices and registers.
    pub snapshot_path: String,
    /// Its memory.
    pub mem_backend: MemoryBackend,
    /// Whether snapshots of what goes on from it may hold differences.
    pub enable_diff_snapshots: bool,
    /// Whether it goes on at once.
    pub resume_vm: bool,
}

/// Where memory comes from.
#[derive(Clone, Debug, Serialize)]
pub struct MemoryBackend {
    /// `File`: mapped, and copied where it is written.
    pub backend_type: &'static str,
    /// The file.
    pub backend_path: String,
}

impl MemoryBackend {
    /// A file.
    pub fn file(path: impl Into<String>) -> Self {
        Self {
            backend_type: "File",
            backend_path: path.into(),
        }
    }
}

/// What a machine is told to do at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Action {
    /// Begin.
    InstanceStart,
    /// Count everything into the metrics now.
    FlushMetrics,
    /// Ask the guest to end.
    SendCtrlAltDel,
}

/// A connection to one machine monitor.
#[derive(Debug)]
pub struct Api(UnixStream);

impl Api {
    /// Connects to a socket. Its path may be longer than a socket's address: it is reached through its
    /// folder.
    pub fn connect(folder: &Path, name: &str) -> io::Result<Self> {
        let folder = File::open(folder)?;
        let socket = format!("/proc/self/fd/{}/{name}", folder.as_raw_fd());
        let stream = UnixStream::connect(socket)?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self(stream))
    }

    /// Sets the machine's size.
    pub fn machine_config(&mut self, machine: &MachineConfig) -> Result<(), ApiError> {
        self.send("PUT", "/machine-config", machine)
    }

    /// Sets what it begins with.
    pub fn boot_source(&mut self, source: &BootSource) -> Result<(), ApiError> {
        self.send("PUT", "/boot-source", source)
    }

    /// Adds a disk.
    pub fn drive(&mut self, drive: &Drive) -> Result<(), ApiError> {
        self.send("PUT", &format!("/drives/{}", drive.drive_id), drive)
    }

    /// Adds a network card.
    pub fn network_interface(&mut self, card: &NetworkInterface) -> Result<(), ApiError> {
        let path = format!("/network-interfaces/{}", card.iface_id);
        self.send("PUT", &path, card)
    }

    /// Adds a socket between guest and host.
    pub fn vsock(&mut self, vsock: &Vsock) -> Result<(), ApiError> {
        self.send("PUT", "/vsock", vsock)
    }

    /// Adds a balloon.
    pub fn balloon(&mut self, balloon: &Balloon) -> Result<(), ApiError> {
        self.send("PUT", "/balloon", balloon)
    }

    /// Gives the balloon another size.
    pub fn inflate(&mut self, amount_mib: u32) -> Result<(), ApiError> {
        let amount = serde_json::json!({ "amount_mib": amount_mib });
        self.send("PATCH", "/balloon", &amount)
    }

    /// Gives a disk other limits.
    pub fn limit_drive(&mut self, id: &str, limits: &RateLimiter) -> Result<(), ApiError> {
        let change = serde_json::json!({ "drive_id": id, "rate_limiter": limits });
        self.send("PATCH", &format!("/drives/{id}"), &change)
    }

    /// Has the machine do something.
    pub fn action(&mut self, action: Action) -> Result<(), ApiError> {
        let action = serde_json::json!({ "action_type": action });
        self.send("PUT", "/actions", &action)
    }

    /// Stops the machine's processors.
    pub fn pause(&mut self) -> Result<(), ApiError> {
        self.send("PATCH", "/vm", &serde_json::json!({ "state": "Paused" }))
    }

    /// Lets them go on.
    pub fn resume(&mut self) -> Result<(), ApiError> {
        self.send("PATCH", "/vm", &serde_json::json!({ "state": "Resumed" }))
    }

    /// Writes a snapshot.
    pub fn create_snapshot(&mut self, snapshot: &SnapshotCreate) -> Result<(), ApiError> {
        self.send("PUT", "/snapshot/create", snapshot)
    }

    /// Goes on from a snapshot.
    pub fn load_snapshot(&mut self, snapshot: &SnapshotLoad) -> Result<(), ApiError> {
        self.send("PUT", "/snapshot/load", snapshot)
    }

    /// What the machine is.
    pub fn config(&mut self) -> Result<serde_json::Value, ApiError> {
        let request = "GET /vm/config";
        let answer = self.request("GET", "/vm/config", b"")?;
        serde_json::from_slice(&answer).map_err(|error| ApiError::Lost {
            request: request.into(),
            source: error.into(),
        })
    }

    fn send(&mut self, method: &str, path: &str, body: &impl Serialize) -> Result<(), ApiError> {
        let body = serde_json::to_vec(body).map_err(|error| ApiError::Lost {
            request: format!("{method} {path}"),
            source: error.into(),
        })?;
        self.request(method, path, &body).map(drop)
    }

    fn request(&mut self, method: &str, path: &str, body: &[u8]) -> Result<Vec<u8>, ApiError> {
        let request = format!("{method} {path}");
        let (status, answer) = self.exchange(&request, body).map_err(|source| {
            let request = request.clone();
            ApiError::Lost { request, source }
        })?;
        if (200..300).contains(&status) {
            return Ok(answer);
        }
        Err(ApiError::Refused {
            request,
            status,
            fault: fault(&answer),
        })
    }

    fn exchange(&mut self, request: &str, body: &[u8]) -> io::Result<(u16, Vec<u8>)> {
        let mut all = format!(
            "{request} HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        all.extend(body);
        let at_once = request == STATE;
        self.0
            .set_read_timeout(Some(if at_once { STATE_PATIENCE } else { PATIENCE }))?;
        self.0.write_all(&all)?;
        read_answer(&mut self.0)
    }
}

/// Firecracker's own words; whatever it sent, where there are none.
fn fault(answer: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Fault {
        fault_message: String,
    }
    match serde_json::from_slice::<Fault>(answer) {
        Ok(fault) => fault.fault_message,
        Err(_) => String::from_utf8_lossy(answer).into_owned(),
    }
}

/// Reads an answer: its status and what follows its head.
fn read_answer(from: &mut impl Read) -> io::Result<(u16, Vec<u8>)> {
    let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let mut read = Vec::new();
    let head = loop {
        const END: &[u8] = b"\r\n\r\n";
        if let Some(at) = read.windows(END.len()).position(|four| four == END) {
            break at + END.len();
        }
        if read.len() > MAX_HEAD {
            return Err(bad("the head of its answer does not end"));
        }
        more(from, &mut read)?;
    };
    let text = String::from_utf8_lossy(&read[..head]).into_owned();
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1));
    let status = status
        .and_then(|word| word.parse().ok())
        .ok_or_else(|| bad("its answer has no status"))?;
    let length = lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .map_or(Ok(0), |(_, value)| value.trim().parse::<usize>())
        .map_err(|_| bad("the length of its answer is no number"))?;
    if length > MAX_ANSWER {
        return Err(bad("its answer is longer than one can be"));
    }
    while read.len() < head + length {
        more(from, &mut read)?;
    }
    Ok((status, read[head..head + length].to_vec()))
}

fn more(from: &mut impl Read, onto: &mut Vec<u8>) -> io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it hung up")),
            Ok(count) => {
                onto.extend(&buffer[..count]);
                return Ok(());
            }
            // This program was stopped and goes on.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_in_pieces_and_to_their_end() {
        struct Drip<'a>(&'a [u8]);
        impl Read for Drip<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let count = self.0.len().min(3);
                buffer[..count].copy_from_slice(&self.0[..count]);
                self.0 = &self.0[count..];
                Ok(count)
            }
        }
        let answer = b"HTTP/1.1 400 \r\ncontent-length: 24\r\n\r\n{\"fault_message\":\"no\"}  ";
        let (status, body) = read_answer(&mut Drip(answer)).unwrap();
        assert_eq!((status, fault(&body).as_str()), (400, "no"));
        assert_eq!(
            read_answer(&mut Drip(b"HTTP/1.1 204 \r\n\r\n")).unwrap(),
            (204, Vec::new())
        );
    }

    #[test]
    fn nonsense_is_no_answer() {
        let endless = vec![b'x'; MAX_HEAD * 2];
        for answer in [
            &b"HTTP/1.1"[..],
            b"\r\n\r\n",
            b"HTTP/1.1 200 \r\nContent-Length: 99999999\r\n\r\n",
            b"HTTP/1.1 200 \r\nContent-Length: x\r\n\r\n",
            b"HTTP/1.1 200 \r\nContent-Length: 5\r\n\r\n1234",
            &endless,
        ] {
            assert!(read_answer(&mut &answer[..]).is_err());
        }
    }
}
