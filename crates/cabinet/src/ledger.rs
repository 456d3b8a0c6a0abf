//! A chain on disk: a snapshot, and a journal of what happened since.
//!
//! ```text
//! folder/lock          held while a process runs on this ledger
//! folder/snapshot-N    all accounts at some block (none before the first)
//! folder/journal-N     the records since, oldest first
//! ```
//!
//! Both files are eight bytes `WLCABN01`, then frames: length `u32`, CRC-32 of the body `u32`, body;
//! integers are little-endian. A body is a [`Record`] in bincode 1 with fixed-width integers, its
//! fields in order. A snapshot appears under its name only when it is whole, so that damage in one
//! is an error; a journal may end in a torn frame, and what stands before it counts.
//!
//! Writing happens on a thread of its own, so that no disk delays a frame. The engine learns from
//! it when a record is on the disk, and calls nothing confirmed before.

use std::borrow::Cow;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;

use serde::{Deserialize, Serialize};
use solana_account::{AccountSharedData, ReadableAccount};
use solana_address::Address;
use solana_hash::Hash;

use crate::fault::{self, Fault};
use crate::history::Landed;
use crate::limits::RECORD_BYTES;

const MAGIC: &[u8; 8] = b"WLCABN01";

/// What one frame says: everything that changed up to the end of a block.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The block this leads to.
    pub slot: u64,
    /// Wall clock at its end, in milliseconds of Unix time.
    pub unix_millis: u64,
    /// Blockhashes since the record before, with their slots.
    pub hashes: Vec<(Hash, u64)>,
    /// The accounts that changed, as they are now.
    pub accounts: Vec<StoredAccount>,
    /// The transactions, oldest first. A rollup keeps none on disk.
    pub landed: Vec<Landed>,
    /// What the role adds: nothing on the box; tasks, delegations and commits on a rollup.
    pub role: Vec<u8>,
}

/// An account on disk. One without lamports does not exist (any more).
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StoredAccount {
    pub address: Address,
    pub lamports: u64,
    pub owner: Address,
    pub executable: bool,
    #[serde(with = "shared_bytes")]
    pub data: Arc<Vec<u8>>,
}

impl StoredAccount {
    pub(crate) fn of(address: Address, account: Option<&AccountSharedData>) -> Self {
        Self {
            address,
            lamports: account.map_or(0, ReadableAccount::lamports),
            owner: account.map(|account| *account.owner()).unwrap_or_default(),
            executable: account.is_some_and(ReadableAccount::executable),
            data: account
                .map(AccountSharedData::data_clone)
                .unwrap_or_default(),
        }
    }
}

/// Bytes behind an `Arc`, written at once and not one by one.
mod shared_bytes {
    use super::{Arc, Cow};
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(data: &Arc<Vec<u8>>, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(data)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Arc<Vec<u8>>, D::Error> {
        #[derive(Deserialize)]
        struct Bytes<'a>(#[serde(borrow)] Cow<'a, [u8]>);
        let Bytes(bytes) = Bytes::deserialize(from)?;
        Ok(Arc::new(bytes.into_owned()))
    }
}

/// A ledger could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenLedger {
    /// The operating system said no.
    #[error("{path}: cannot be {what}: {error}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// What the system said.
        error: io::Error,
    },
    /// Another process runs on it.
    #[error("{0}: another process runs on this ledger; stop it, or name another folder")]
    InUse(PathBuf),
    /// The file is not a ledger of this version.
    #[error("{0}: is no ledger file of version 1 (WLCABN01); name another folder, or remove it")]
    Unknown(PathBuf),
    /// A snapshot is damaged.
    #[error("{0}: is damaged; restore the folder from a copy, or remove it to start afresh")]
    Damaged(PathBuf),
}

fn io_error(path: &Path, what: &'static str) -> impl FnOnce(io::Error) -> OpenLedger {
    let path = path.to_owned();
    move |error| OpenLedger::Io { path, what, error }
}

type Then = Box<dyn FnOnce() + Send>;

enum Work {
    Append(Record, Then),
    Snapshot(Record),
}

/// The writing side of an open ledger.
pub(crate) struct Ledger {
    sender: Option<mpsc::Sender<Work>>,
    thread: Option<JoinHandle<()>>,
    state: Arc<State>,
}

struct State {
    journal_bytes: AtomicU64,
    snapshot_bytes: AtomicU64,
    fold_at: u64,
    failure: Mutex<Option<String>>,
}

impl Ledger {
    /// Opens or makes the ledger in `folder`, and returns what it holds, oldest first. A journal of
    /// more than `fold_at` bytes is to be folded.
    pub(crate) fn open(
        folder: &Path,
        fault: Arc<Fault>,
        fold_at: u64,
    ) -> Result<(Self, Vec<Record>), OpenLedger> {
        fs::create_dir_all(folder).map_err(io_error(folder, "made"))?;
        let lock_path = folder.join("lock");
        let lock = File::create(&lock_path).map_err(io_error(&lock_path, "made"))?;
        lock.try_lock()
            .map_err(|_| OpenLedger::InUse(folder.into()))?;

        let number = newest(folder)?;
        let mut records = Vec::new();
        let snapshot = snapshot_path(folder, number);
        let mut snapshot_bytes = 0;
        if number > 0 {
            let (found, whole) = read(&snapshot)?;
            if found.is_empty() || whole != length(&snapshot)? {
                return Err(OpenLedger::Damaged(snapshot));
            }
            records.extend(found);
            snapshot_bytes = whole;
        }
        let journal_path = journal_path(folder, number);
        let mut whole = MAGIC.len() as u64;
        if journal_path.exists() && length(&journal_path)? >= whole {
            let (found, end) = read(&journal_path)?;
            records.extend(found);
            whole = end;
        }
        let journal = start_journal(&journal_path, whole)?;
        remove_others(folder, number)?;

        let state = Arc::new(State {
            journal_bytes: AtomicU64::new(whole),
            snapshot_bytes: AtomicU64::new(snapshot_bytes),
            fold_at,
            failure: Mutex::default(),
        });
        let (sender, receiver) = mpsc::channel();
        let mut writer = Writer {
            folder: folder.into(),
            number,
            journal,
            fault,
            state: state.clone(),
            _lock: lock,
        };
        let thread = std::thread::Builder::new()
            .name("ledger".into())
            .spawn(move || writer.run(&receiver))
            .map_err(io_error(folder, "written by a thread"))?;
        let ledger = Self {
            sender: Some(sender),
            thread: Some(thread),
            state,
        };
        Ok((ledger, records))
    }

    /// Writes a record; `then` is called when it is on the disk, and never if that fails.
    pub(crate) fn append(&self, record: Record, then: impl FnOnce() + Send + 'static) {
        if let Some(sender) = &self.sender {
            // The thread ends only when this sender is dropped.
            let _ = sender.send(Work::Append(record, Box::new(then)));
        }
    }

    /// Whether the journal has grown enough to be folded into a snapshot.
    pub(crate) fn wants_snapshot(&self) -> bool {
        let journal = self.state.journal_bytes.load(Ordering::Relaxed);
        let snapshot = self.state.snapshot_bytes.load(Ordering::Relaxed);
        journal > snapshot.max(self.state.fold_at)
    }

    /// Replaces snapshot and journal by a snapshot of `record`, which must hold everything.
    pub(crate) fn snapshot(&self, record: Record) {
        self.state.journal_bytes.store(0, Ordering::Relaxed);
        if let Some(sender) = &self.sender {
            let _ = sender.send(Work::Snapshot(record));
        }
    }

    /// Why nothing is written any more, if so.
    pub(crate) fn failure(&self) -> Option<String> {
        self.state.failure.lock().ok()?.clone()
    }
}

impl Drop for Ledger {
    /// Waits until everything is on the disk.
    fn drop(&mut self) {
        self.sender = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Writer {
    folder: PathBuf,
    number: u64,
    journal: File,
    fault: Arc<Fault>,
    state: Arc<State>,
    _lock: File,
}

impl Writer {
    fn run(&mut self, work: &mpsc::Receiver<Work>) {
        while let Ok(first) = work.recv() {
            // One fsync for all that waits.
            let mut waiting = vec![first];
            waiting.extend(work.try_iter());
            if let Err(error) = self.write(waiting) {
                tracing::error!(folder = %self.folder.display(), %error, "the ledger cannot be written");
                if let Ok(mut failure) = self.state.failure.lock() {
                    *failure = Some(format!("{}: {error}", self.folder.display()));
                }
                return;
            }
        }
    }

    fn write(&mut self, waiting: Vec<Work>) -> io::Result<()> {
        let mut then = Vec::new();
        for work in waiting {
            match work {
                Work::Append(record, done) => {
                    self.append(&record)?;
                    then.push(done);
                }
                Work::Snapshot(record) => self.fold(&record)?,
            }
        }
        self.fault.point(fault::LEDGER_APPENDED);
        self.journal.sync_data()?;
        self.fault.point(fault::LEDGER_SYNCED);
        for done in then {
            done();
        }
        Ok(())
    }

    fn append(&mut self, record: &Record) -> io::Result<()> {
        let frame = frame(record)?;
        if self.fault.due(fault::LEDGER_TORN) {
            self.journal.write_all(&frame[..frame.len() / 2])?;
            self.journal.sync_data()?;
            fault::die(fault::LEDGER_TORN);
        }
        self.journal.write_all(&frame)?;
        let bytes = frame.len() as u64;
        self.state.journal_bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    fn fold(&mut self, record: &Record) -> io::Result<()> {
        let number = self.number + 1;
        let path = snapshot_path(&self.folder, number);
        let unfinished = path.with_extension("tmp");
        let frame = frame(record)?;
        let mut file = File::create(&unfinished)?;
        file.write_all(MAGIC)?;
        file.write_all(&frame)?;
        file.sync_all()?;
        self.fault.point(fault::SNAPSHOT_WRITTEN);
        fs::rename(&unfinished, &path)?;
        sync_folder(&self.folder)?;
        self.fault.point(fault::SNAPSHOT_RENAMED);
        let whole = MAGIC.len() as u64;
        self.journal =
            start_journal(&journal_path(&self.folder, number), whole).map_err(io::Error::other)?;
        self.number = number;
        self.state
            .snapshot_bytes
            .store(frame.len() as u64, Ordering::Relaxed);
        remove_others(&self.folder, number).map_err(io::Error::other)
    }
}

fn snapshot_path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("snapshot-{number}"))
}

fn journal_path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("journal-{number}"))
}

/// The number of the newest snapshot; 0 when there is none.
fn newest(folder: &Path) -> Result<u64, OpenLedger> {
    let mut newest = 0;
    for entry in fs::read_dir(folder).map_err(io_error(folder, "read"))? {
        let name = entry.map_err(io_error(folder, "read"))?.file_name();
        let number = name
            .to_str()
            .and_then(|name| name.strip_prefix("snapshot-")?.parse().ok());
        newest = newest.max(number.unwrap_or(0));
    }
    Ok(newest)
}

/// Opens a journal for appending behind its `whole` first bytes.
fn start_journal(path: &Path, whole: u64) -> Result<File, OpenLedger> {
    let is_new = !path.exists() || length(path)? < MAGIC.len() as u64;
    if is_new {
        fs::write(path, MAGIC).map_err(io_error(path, "made"))?;
        if let Some(folder) = path.parent() {
            sync_folder(folder).map_err(io_error(folder, "forced to disk"))?;
        }
    }
    let file = OpenOptions::new()
        .append(true)
        .open(path)
        .map_err(io_error(path, "opened"))?;
    file.set_len(whole)
        .map_err(io_error(path, "cut after its last whole record"))?;
    file.sync_all().map_err(io_error(path, "forced to disk"))?;
    Ok(file)
}

/// Removes older and unfinished files.
fn remove_others(folder: &Path, number: u64) -> Result<(), OpenLedger> {
    let kept = [snapshot_path(folder, number), journal_path(folder, number)];
    for entry in fs::read_dir(folder).map_err(io_error(folder, "read"))? {
        let path = entry.map_err(io_error(folder, "read"))?.path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        let ours = name.starts_with("snapshot-") || name.starts_with("journal-");
        if ours && !kept.contains(&path) {
            fs::remove_file(&path).map_err(io_error(&path, "removed"))?;
        }
    }
    Ok(())
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn length(path: &Path) -> Result<u64, OpenLedger> {
    Ok(fs::metadata(path)
        .map_err(io_error(path, "measured"))?
        .len())
}

fn frame(record: &Record) -> io::Result<Vec<u8>> {
    let mut frame = vec![0; 8];
    bincode::serialize_into(&mut frame, record).map_err(io::Error::other)?;
    let (head, body) = frame.split_at_mut(8);
    if body.len() > RECORD_BYTES {
        return Err(io::Error::other("a record is larger than is read back"));
    }
    head[..4].copy_from_slice(&(body.len() as u32).to_le_bytes());
    head[4..].copy_from_slice(&crc32fast::hash(body).to_le_bytes());
    Ok(frame)
}

/// All whole records of a file, and where the last of them ends.
fn read(path: &Path) -> Result<(Vec<Record>, u64), OpenLedger> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|mut file| file.read_to_end(&mut bytes))
        .map_err(io_error(path, "read"))?;
    if !bytes.starts_with(MAGIC) {
        return Err(OpenLedger::Unknown(path.into()));
    }
    let mut records = Vec::new();
    let mut at = MAGIC.len();
    while let Some((record, end)) = read_frame(&bytes, at) {
        records.push(record);
        at = end;
    }
    Ok((records, at as u64))
}

fn read_frame(bytes: &[u8], at: usize) -> Option<(Record, usize)> {
    let word = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let body = at + 8;
    let end = body.checked_add(word(at)? as usize)?;
    let body = bytes.get(body..end)?;
    if crc32fast::hash(body) != word(at + 4)? {
        return None;
    }
    Some((bincode::deserialize(body).ok()?, end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::JOURNAL_BYTES;

    fn record(slot: u64) -> Record {
        let account = AccountSharedData::new(slot, 300, &Address::new_from_array([3; 32]));
        Record {
            slot,
            unix_millis: 5,
            hashes: vec![(Hash::new_from_array([4; 32]), slot)],
            accounts: vec![StoredAccount::of(
                Address::new_from_array([slot as u8; 32]),
                Some(&account),
            )],
            landed: Vec::new(),
            role: vec![1, 2],
        }
    }

    fn write(folder: &Path, slots: std::ops::Range<u64>) {
        let (ledger, _) = Ledger::open(folder, Arc::default(), JOURNAL_BYTES).unwrap();
        for slot in slots {
            ledger.append(record(slot), || ());
        }
    }

    fn slots(folder: &Path) -> Vec<u64> {
        let (_ledger, records) = Ledger::open(folder, Arc::default(), JOURNAL_BYTES).unwrap();
        records.iter().map(|record| record.slot).collect()
    }

    #[test]
    fn every_torn_tail_leaves_the_records_before_it() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), 1..4);
        let journal = journal_path(folder.path(), 0);
        let whole = fs::read(&journal).unwrap();
        let size = (whole.len() - 8) / 3;
        for cut in 8..whole.len() {
            fs::write(&journal, &whole[..cut]).unwrap();
            let expected: Vec<u64> = (1..4).take((cut - 8) / size).collect();
            assert_eq!(slots(folder.path()), expected, "cut at {cut}");
        }
        // What is appended after a torn tail is found again.
        fs::write(&journal, &whole[..whole.len() - 1]).unwrap();
        write(folder.path(), 7..8);
        assert_eq!(slots(folder.path()), [1, 2, 7]);
    }

    #[test]
    fn a_flipped_bit_ends_the_journal_there() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), 1..4);
        let journal = journal_path(folder.path(), 0);
        let mut bytes = fs::read(&journal).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&journal, bytes).unwrap();
        assert_eq!(slots(folder.path()), [1]);
    }

    #[test]
    fn a_snapshot_replaces_what_was_before() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), 1..4);
        {
            let (ledger, _) = Ledger::open(folder.path(), Arc::default(), JOURNAL_BYTES).unwrap();
            ledger.snapshot(record(3));
            ledger.append(record(4), || ());
        }
        assert_eq!(slots(folder.path()), [3, 4]);
        assert!(!journal_path(folder.path(), 0).exists());
    }

    #[test]
    fn a_damaged_snapshot_and_a_foreign_file_are_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        {
            let (ledger, _) = Ledger::open(folder.path(), Arc::default(), JOURNAL_BYTES).unwrap();
            ledger.snapshot(record(3));
        }
        let path = snapshot_path(folder.path(), 1);
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, &bytes).unwrap();
        assert!(matches!(
            Ledger::open(folder.path(), Arc::default(), JOURNAL_BYTES),
            Err(OpenLedger::Damaged(_))
        ));
        bytes[7] = b'9';
        fs::write(&path, &bytes).unwrap();
        assert!(matches!(
            Ledger::open(folder.path(), Arc::default(), JOURNAL_BYTES),
            Err(OpenLedger::Unknown(_))
        ));
    }

    #[test]
    fn two_processes_do_not_share_a_ledger() {
        let folder = tempfile::tempdir().unwrap();
        let (_ledger, _) = Ledger::open(folder.path(), Arc::default(), JOURNAL_BYTES).unwrap();
        assert!(matches!(
            Ledger::open(folder.path(), Arc::default(), JOURNAL_BYTES),
            Err(OpenLedger::InUse(_))
        ));
    }
}
