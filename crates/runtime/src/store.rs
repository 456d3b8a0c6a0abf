//! The tables, and the journal in front of them.
//!
//! An operation is one line of the journal, written before it is answered; a thread carries lines into
//! the tables, many in one transaction, together with the number of the last line. So an answer waits
//! for a write and not for DuckDB; whatever was answered survives the end of the program at any moment;
//! and an operation is in the tables whole, or not at all. A line says `{"line":7,"rows":[…]}`; one that
//! is cut short was never answered, and is dropped. Only the tables are synchronised with the disk: a
//! machine that loses its power may lose the operations of the last moments, never a part of one.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Seek, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::duck::{Connection, Database, Rows, SqlError, Value};
use crate::limits::{MAX_JOURNAL, MAX_QUERY, MAX_ROWS, TABLES_RETRY};
use crate::row::Row;

const TABLES: &str = "worlds.duckdb";
const JOURNAL: &str = "worlds.journal";
const SCHEMA: &str = include_str!("schema.sql");

/// The store cannot be opened or written.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The system refuses.
    #[error("cannot keep the journal of worlds: {doing}: {source}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// DuckDB refuses.
    #[error(transparent)]
    Sql(#[from] SqlError),
    /// A snapshot is registered in words that this version does not know. Nothing was changed.
    #[error(
        "snapshot {id} is registered in words that cannot be read: {source}; start the version that wrote them"
    )]
    Record {
        /// The snapshot.
        id: String,
        /// What is wrong with them.
        source: serde_json::Error,
    },
}

fn io_error(doing: &'static str) -> impl Fn(io::Error) -> StoreError {
    move |source| StoreError::Io { doing, source }
}

#[derive(Serialize, Deserialize)]
struct Line {
    line: i64,
    rows: Vec<Row>,
}

pub(crate) struct Store {
    database: Arc<Database>,
    shared: Arc<Shared>,
    queue: Mutex<Option<Sender<Line>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    journal: Mutex<Journal>,
    tables: Mutex<Connection>,
    progress: Mutex<Progress>,
    moved: Condvar,
}

struct Journal {
    file: File,
    last: i64,
}

#[derive(Default)]
struct Progress {
    applied: i64,
    refused: Vec<String>,
    /// Why the tables cannot be written, while they cannot.
    stuck: Option<String>,
    /// What is not in the tables stays in the journal for the next start.
    closing: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Store {
    /// Opens the tables in a folder, and carries into them what the journal still holds.
    pub(crate) fn open(folder: &Path) -> Result<Self, StoreError> {
        std::fs::create_dir_all(folder).map_err(io_error("making the folder"))?;
        let database = Database::open(&folder.join(TABLES))?;
        let mut tables = database.connect()?;
        tables.script(SCHEMA)?;
        // Questions of callers are about these tables, not about the files of this machine.
        tables.script("SET enable_external_access = false; SET lock_configuration = true")?;
        let rows = tables.query("SELECT max(applied) FROM world_progress", &[])?;
        let mut applied = match rows
            .rows
            .first()
            .and_then(|row| row.first())
            .and_then(Value::int)
        {
            Some(applied) => applied,
            None => tables
                .query("INSERT INTO world_progress VALUES (0)", &[])
                .map(|_| 0)?,
        };
        let path = folder.join(JOURNAL);
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(path);
        let mut file = file.map_err(io_error("opening it"))?;
        let mut refused = Vec::new();
        for line in BufReader::new(&file).split(b'\n') {
            let line = line.map_err(io_error("reading it"))?;
            let Ok(line) = serde_json::from_slice::<Line>(&line) else {
                break;
            };
            if line.line > applied {
                applied = line.line;
                apply(&mut tables, &[line], &mut refused)?;
            }
        }
        tables.script("CHECKPOINT")?;
        file.set_len(0)
            .and_then(|()| file.rewind())
            .map_err(io_error("beginning it anew"))?;
        let shared = Arc::new(Shared {
            journal: Mutex::new(Journal {
                file,
                last: applied,
            }),
            tables: Mutex::new(tables),
            progress: Mutex::new(Progress {
                applied,
                refused,
                ..Progress::default()
            }),
            moved: Condvar::new(),
        });
        let (queue, lines) = channel();
        let writer = std::thread::Builder::new().name("tables".into());
        let writer = writer.spawn({
            let shared = shared.clone();
            move || shared.carry(&lines)
        });
        Ok(Self {
            database,
            shared,
            queue: Mutex::new(Some(queue)),
            writer: Mutex::new(Some(writer.map_err(io_error("starting a thread"))?)),
        })
    }

    /// Keeps the rows of one operation: all of them, or none. Returns when they survive this program.
    pub(crate) fn commit(&self, rows: Vec<Row>) -> Result<(), StoreError> {
        let mut journal = lock(&self.shared.journal);
        let line = Line {
            line: journal.last + 1,
            rows,
        };
        let mut text =
            serde_json::to_vec(&line).map_err(|error| io_error("encoding a line")(error.into()))?;
        text.push(b'\n');
        let start = journal
            .file
            .stream_position()
            .map_err(io_error("finding its end"))?;
        if let Err(error) = journal.file.write_all(&text) {
            // Half a line would hide every later one.
            let _ = journal
                .file
                .set_len(start)
                .and_then(|()| journal.file.seek(io::SeekFrom::Start(start)));
            return Err(io_error("writing a line")(error));
        }
        journal.last += 1;
        // In the order of the journal, so while it is locked.
        if let Some(queue) = &*lock(&self.queue) {
            let _ = queue.send(line);
        }
        Ok(())
    }

    /// Waits until the tables have all that was committed.
    pub(crate) fn flush(&self) -> Result<(), SqlError> {
        let last = lock(&self.shared.journal).last;
        let behind = |progress: &mut Progress| progress.applied < last && progress.stuck.is_none();
        let progress = lock(&self.shared.progress);
        let progress = self.shared.moved.wait_while(progress, behind);
        let progress = progress.unwrap_or_else(PoisonError::into_inner);
        match &progress.stuck {
            Some(why) if progress.applied < last => Err(SqlError::Stuck(why.clone())),
            _ => Ok(()),
        }
    }

    /// Operations whose rows the tables refused, in words.
    pub(crate) fn refused(&self) -> Vec<String> {
        lock(&self.shared.progress).refused.clone()
    }

    /// One statement of ours, over all that was committed.
    pub(crate) fn query(&self, sql: &str, values: &[Value]) -> Result<Rows, SqlError> {
        self.flush()?;
        lock(&self.shared.tables).query(sql, values)
    }

    /// One question of the caller's, which cannot change anything, nor see the machine's files.
    pub(crate) fn ask(&self, sql: &str) -> Result<Rows, SqlError> {
        self.flush()?;
        let mut connection = self.database.connect()?;
        connection.script("BEGIN TRANSACTION READ ONLY")?;
        let sql = sql.trim().trim_end_matches(';');
        connection.within(MAX_QUERY, |connection| readable(connection, sql))
    }
}

/// A question with its columns as types that can be read.
fn readable(connection: &mut Connection, sql: &str) -> Result<Rows, SqlError> {
    const READ: [&str; 6] = ["BOOLEAN", "INTEGER", "BIGINT", "FLOAT", "DOUBLE", "VARCHAR"];
    let columns = connection.query(&format!("DESCRIBE SELECT * FROM ({sql}\n)"), &[])?;
    let text = |value: Option<&Value>| value.and_then(Value::text).unwrap_or_default().to_owned();
    let columns: Vec<String> = columns
        .rows
        .iter()
        .map(|row| {
            let name = text(row.first()).replace('"', "\"\"");
            match READ.contains(&text(row.get(1)).as_str()) {
                true => format!("\"{name}\""),
                false => format!("\"{name}\"::VARCHAR AS \"{name}\""),
            }
        })
        .collect();
    connection.query(
        &format!(
            "SELECT {} FROM ({sql}\n) LIMIT {MAX_ROWS}",
            columns.join(", ")
        ),
        &[],
    )
}

impl Shared {
    fn carry(&self, lines: &Receiver<Line>) {
        while let Ok(first) = lines.recv() {
            let mut batch = vec![first];
            batch.extend(lines.try_iter());
            let mut refused = Vec::new();
            // DuckDB may be unable to write for a while, as when the disk is full: the journal keeps the
            // lines, and they are tried again.
            while let Err(error) = apply(&mut lock(&self.tables), &batch, &mut refused) {
                tracing::error!(%error, "the tables cannot be written");
                if self.is_closing_after(error.to_string()) {
                    return;
                }
            }
            let last = batch.last().map_or(0, |line| line.line);
            let mut progress = lock(&self.progress);
            progress.applied = last;
            progress.stuck = None;
            progress.refused.append(&mut refused);
            drop(progress);
            self.moved.notify_all();
            self.trim(last);
        }
    }

    /// Tells those who wait what is wrong, and waits for a while; whether the store is being closed.
    fn is_closing_after(&self, error: String) -> bool {
        let mut progress = lock(&self.progress);
        progress.stuck = Some(error);
        self.moved.notify_all();
        let open = |progress: &mut Progress| !progress.closing;
        let waited = self.moved.wait_timeout_while(progress, TABLES_RETRY, open);
        waited.unwrap_or_else(PoisonError::into_inner).0.closing
    }

    /// Begins the journal anew when it is long and all of it is in the tables.
    fn trim(&self, applied: i64) {
        let mut journal = lock(&self.journal);
        let long = journal
            .file
            .stream_position()
            .is_ok_and(|length| length > MAX_JOURNAL);
        if long && journal.last == applied {
            let _ = journal.file.set_len(0).and_then(|()| journal.file.rewind());
        }
    }
}

/// Writes lines in one transaction; where that fails, each in its own, so that one that the tables refuse
/// does not take others with it.
fn apply(
    tables: &mut Connection,
    lines: &[Line],
    refused: &mut Vec<String>,
) -> Result<(), SqlError> {
    if write(tables, lines).is_ok() {
        return Ok(());
    }
    for line in lines {
        if let Err(error) = write(tables, std::slice::from_ref(line)) {
            if !error.to_string().contains("Constraint") {
                return Err(error);
            }
            tracing::error!(%error, line = line.line, "the tables refuse an operation's rows");
            refused.push(format!("line {} of the journal: {error}", line.line));
            tables.query(
                "UPDATE world_progress SET applied = $1",
                &[line.line.into()],
            )?;
        }
    }
    Ok(())
}

fn write(tables: &mut Connection, lines: &[Line]) -> Result<(), SqlError> {
    tables.transaction(|tables| {
        for row in lines.iter().flat_map(|line| &line.rows) {
            row.apply(tables)?;
        }
        let last = lines.last().map_or(0, |line| line.line);
        tables
            .query(
                "UPDATE world_progress SET applied = $1 WHERE applied < $1",
                &[last.into()],
            )
            .map(drop)
    })
}

impl Drop for Store {
    fn drop(&mut self) {
        lock(&self.queue).take();
        lock(&self.shared.progress).closing = true;
        self.shared.moved.notify_all();
        if let Some(writer) = lock(&self.writer).take() {
            let _ = writer.join();
        }
        // Stock DuckDB reads a checkpointed file without our journal or its own.
        if let Err(error) = lock(&self.shared.tables).script("CHECKPOINT") {
            tracing::warn!(%error, "the tables were not checkpointed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entity(id: &str) -> Row {
        Row::Entity {
            id: id.into(),
            kind: "sandbox".into(),
            parent: None,
            snapshot: None,
            trit: 0,
            state: "running".into(),
            memory_mib: 64,
            vcpus: 1,
            boot_ms: Some(1.5),
            at: 1_700_000_000_000_000,
        }
    }

    fn count(store: &Store) -> i64 {
        store
            .query("SELECT count(*) FROM world_runtime_entities", &[])
            .unwrap()
            .rows[0][0]
            .int()
            .unwrap()
    }

    #[test]
    fn what_was_committed_is_in_the_tables_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        for at in 0..50 {
            store.commit(vec![entity(&format!("e{at}"))]).unwrap();
        }
        assert_eq!(count(&store), 50);
        drop(store);
        assert_eq!(count(&Store::open(folder.path()).unwrap()), 50);
    }

    #[test]
    fn a_journal_that_was_not_carried_over_is_carried_at_the_next_start_and_once_only() {
        let folder = tempfile::tempdir().unwrap();
        drop(Store::open(folder.path()).unwrap());
        // As `kill -9` leaves it: two whole lines, and one cut short.
        let mut text = Vec::new();
        for (line, id) in [(1, "a"), (2, "b")] {
            text.extend(
                serde_json::to_vec(&Line {
                    line,
                    rows: vec![entity(id)],
                })
                .unwrap(),
            );
            text.push(b'\n');
        }
        text.extend(b"{\"line\":3,\"rows\":[{\"ent");
        std::fs::write(folder.path().join(JOURNAL), &text).unwrap();
        let store = Store::open(folder.path()).unwrap();
        assert_eq!(count(&store), 2);
        drop(store);
        std::fs::write(folder.path().join(JOURNAL), &text).unwrap();
        let store = Store::open(folder.path()).unwrap();
        assert_eq!((count(&store), store.refused().len()), (2, 0));
    }

    #[test]
    fn a_store_whose_folder_vanished_says_so_and_closes() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        std::fs::remove_dir_all(folder.path()).unwrap();
        store.commit(vec![entity("b")]).unwrap();
        let said = store.query("SELECT 1", &[]).unwrap_err();
        assert!(matches!(said, SqlError::Stuck(_)), "{said}");
        drop(store);
    }

    #[test]
    fn rows_that_the_tables_refuse_take_no_others_with_them() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        store.commit(vec![entity("a")]).unwrap();
        store.commit(vec![entity("b"), entity("a")]).unwrap();
        store.commit(vec![entity("c")]).unwrap();
        assert_eq!((count(&store), store.refused().len()), (2, 1));
    }

    #[test]
    fn a_question_changes_nothing_and_sees_no_files() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        store.commit(vec![entity("a")]).unwrap();
        let rows = store
            .ask("SELECT entity_id, trit, created_at FROM world_runtime_entities;")
            .unwrap();
        assert_eq!(rows.columns, ["entity_id", "trit", "created_at"]);
        assert_eq!(
            rows.rows[0],
            ["a".into(), Value::Int(0), "2023-11-14 22:13:20".into()]
        );
        for sql in [
            "DELETE FROM world_runtime_entities",
            "SELECT 1) t; DELETE FROM world_runtime_entities; SELECT * FROM (SELECT 1",
            "SELECT * FROM read_csv('/etc/passwd')",
            "SELECT * FROM read_text('/etc/passwd')",
            "ATTACH 'x.duckdb'",
            "nonsense",
            "",
        ] {
            assert!(store.ask(sql).is_err(), "{sql}");
        }
        assert_eq!(count(&store), 1);
    }
}
