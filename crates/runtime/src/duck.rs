//! DuckDB through its C interface, loaded when a store is opened and not when the program is built:
//! building it takes half an hour, and whoever only plays never needs it.
//!
//! The signatures below are those of DuckDB's `duckdb.h`, version 1.5.
#![allow(unsafe_code)] // The library is C: this file, and no other, turns it into safe calls.

use std::ffi::{CStr, CString, c_char, c_void};
use std::path::{Path, PathBuf};
use std::ptr::null_mut;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use libloading::Library;
use serde::Serialize;
use thiserror::Error;

/// The version that set-up fetches and that this file was written against.
pub const VERSION: &str = "1.5.6";
/// The variable that names another copy of the library.
pub const VARIABLE: &str = "WORLDLINE_DUCKDB";
/// What the library is called.
const FILE: &str = "libduckdb.so";

/// DuckDB refuses.
#[derive(Debug, Clone, Error)]
pub enum SqlError {
    /// The library is not there.
    #[error(
        "DuckDB's library was not found in {0}: `cargo xtask worlds --setup` fetches it, or name it in {VARIABLE}"
    )]
    NoLibrary(String),
    /// The library is there and cannot be used.
    #[error(
        "DuckDB's library {path} cannot be used: {why}; this was written for version {VERSION}"
    )]
    BadLibrary {
        /// Which file.
        path: String,
        /// What the system said.
        why: String,
    },
    /// The tables are behind the journal, and cannot be written.
    #[error(
        "the tables of worlds cannot be written ({0}): nothing is lost, what was answered is in the journal; make room on the disk, or start again"
    )]
    Stuck(String),
    /// The file cannot be opened.
    #[error("cannot open {path}: {why}")]
    Open {
        /// Which file.
        path: String,
        /// What DuckDB said.
        why: String,
    },
    /// A statement failed.
    #[error("{0}")]
    Statement(String),
    /// A result has a type that is not read here.
    #[error("column `{column}` has a type that is not read here ({kind}): cast it to VARCHAR")]
    Type {
        /// Which column.
        column: String,
        /// DuckDB's number of the type.
        kind: u32,
    },
}

/// A value of a row, or of a statement's parameter.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Value {
    /// Nothing.
    Null,
    /// True or false.
    Bool(bool),
    /// Any integer of at most 64 bits.
    Int(i64),
    /// Either floating type.
    Float(f64),
    /// Text.
    Text(String),
}

impl Value {
    /// The text, if it is one.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The integer, if it is one.
    pub fn int(&self) -> Option<i64> {
        match self {
            Self::Int(value) => Some(*value),
            _ => None,
        }
    }

    /// The number, if it is one.
    pub fn float(&self) -> Option<f64> {
        match self {
            Self::Float(value) => Some(*value),
            Self::Int(value) => Some(*value as f64),
            _ => None,
        }
    }
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Null => Ok(()),
            Self::Bool(value) => value.fmt(f),
            Self::Int(value) => value.fmt(f),
            Self::Float(value) => value.fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
}

macro_rules! values {
    ($($from:ty => $to:expr;)*) => { $(impl From<$from> for Value { fn from(value: $from) -> Self { $to(value) } })* };
}
values! {
    &str => |value: &str| Self::Text(value.into());
    String => Self::Text;
    bool => Self::Bool;
    i64 => Self::Int;
    f64 => Self::Float;
}
impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// What a query gave.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Rows {
    /// The columns' names.
    pub columns: Vec<String>,
    /// The rows, each as long as `columns`.
    pub rows: Vec<Vec<Value>>,
}

type Handle = *mut c_void;

/// `duckdb_result`: passed by value in one call, so its size matters.
#[repr(C)]
#[derive(Clone, Copy)]
struct RawResult {
    deprecated: [u64; 3],
    pointers: [*mut c_void; 3],
}

/// `duckdb_string_t`: up to twelve bytes stand in it, more elsewhere.
#[repr(C)]
#[derive(Clone, Copy)]
struct RawString {
    length: u32,
    prefix: [u8; 4],
    rest: [u8; 8],
}

const INLINE: usize = 12;
const SUCCESS: i32 = 0;

macro_rules! interface {
    ($($name:ident: fn($($argument:ty),*) $(-> $answer:ty)?;)*) => {
        struct Api { $($name: unsafe extern "C" fn($($argument),*) $(-> $answer)?,)* _library: Library }

        impl Api {
            /// # Safety
            /// The library must be DuckDB, whose functions have these signatures.
            unsafe fn load(library: Library) -> Result<Self, libloading::Error> {
                Ok(Self {
                    $($name: *unsafe { library.get(concat!(stringify!($name), "\0").as_bytes()) }?,)*
                    _library: library,
                })
            }
        }
    };
}

interface! {
    duckdb_library_version: fn() -> *const c_char;
    duckdb_open_ext: fn(*const c_char, *mut Handle, Handle, *mut *mut c_char) -> i32;
    duckdb_close: fn(*mut Handle);
    duckdb_connect: fn(Handle, *mut Handle) -> i32;
    duckdb_disconnect: fn(*mut Handle);
    duckdb_query: fn(Handle, *const c_char, *mut RawResult) -> i32;
    duckdb_prepare: fn(Handle, *const c_char, *mut Handle) -> i32;
    duckdb_prepare_error: fn(Handle) -> *const c_char;
    duckdb_destroy_prepare: fn(*mut Handle);
    duckdb_bind_null: fn(Handle, u64) -> i32;
    duckdb_bind_boolean: fn(Handle, u64, bool) -> i32;
    duckdb_bind_int64: fn(Handle, u64, i64) -> i32;
    duckdb_bind_double: fn(Handle, u64, f64) -> i32;
    duckdb_bind_varchar_length: fn(Handle, u64, *const c_char, u64) -> i32;
    duckdb_execute_prepared: fn(Handle, *mut RawResult) -> i32;
    duckdb_result_error: fn(*mut RawResult) -> *const c_char;
    duckdb_destroy_result: fn(*mut RawResult);
    duckdb_column_count: fn(*mut RawResult) -> u64;
    duckdb_column_name: fn(*mut RawResult, u64) -> *const c_char;
    duckdb_column_type: fn(*mut RawResult, u64) -> u32;
    duckdb_fetch_chunk: fn(RawResult) -> Handle;
    duckdb_destroy_data_chunk: fn(*mut Handle);
    duckdb_data_chunk_get_size: fn(Handle) -> u64;
    duckdb_data_chunk_get_vector: fn(Handle, u64) -> Handle;
    duckdb_vector_get_data: fn(Handle) -> Handle;
    duckdb_vector_get_validity: fn(Handle) -> *mut u64;
    duckdb_interrupt: fn(Handle);
    duckdb_free: fn(Handle);
}

/// Where the library is looked for, in order: the variable, beside the program, the cache.
pub fn candidates() -> Vec<PathBuf> {
    let named = |key: &str| {
        std::env::var_os(key)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let beside = std::env::current_exe()
        .ok()
        .and_then(|program| Some(program.parent()?.join(FILE)));
    let cache = named("XDG_CACHE_HOME").or_else(|| named("HOME").map(|home| home.join(".cache")));
    let fetched = cache.map(|cache| cache.join("worldline/duckdb").join(VERSION).join(FILE));
    match named(VARIABLE) {
        Some(named) => vec![named],
        None => beside.into_iter().chain(fetched).collect(),
    }
}

/// A database file that is open.
pub struct Database {
    api: Arc<Api>,
    handle: Handle,
}

// Safety: DuckDB's database handle may be used from any thread; connections are made from it.
unsafe impl Send for Database {}
// Safety: as above; `connect` is the only call on it, and DuckDB locks inside.
unsafe impl Sync for Database {}

/// A connection: one statement at a time.
pub struct Connection {
    api: Arc<Api>,
    handle: Handle,
    /// Keeps the database open.
    _database: Arc<Database>,
}

// Safety: a connection may move between threads, and `&mut self` keeps it to one at a time.
unsafe impl Send for Connection {}

impl Database {
    /// Opens (or makes) a file.
    pub fn open(file: &Path) -> Result<Arc<Self>, SqlError> {
        let candidates = candidates();
        let listed = || {
            candidates
                .iter()
                .map(|path| path.display().to_string())
                .collect::<Vec<_>>()
                .join(", ")
        };
        let path = candidates
            .iter()
            .find(|path| path.is_file())
            .ok_or_else(|| SqlError::NoLibrary(listed()))?;
        let bad = |why: String| SqlError::BadLibrary {
            path: path.display().to_string(),
            why,
        };
        // Safety: a shared library runs code when loaded; this is the one that the user or set-up put there.
        let library = unsafe { Library::new(path) }.map_err(|error| bad(error.to_string()))?;
        // Safety: every function is asked for by the name it has in `duckdb.h`, with its signature there.
        let api = unsafe { Api::load(library) }.map_err(|error| bad(error.to_string()))?;
        // Safety: gives a static string.
        let version = unsafe { text((api.duckdb_library_version)()) };
        if !version.trim_start_matches('v').starts_with("1.") {
            return Err(bad(format!("it is version {version}")));
        }
        let refused = |why: String| SqlError::Open {
            path: file.display().to_string(),
            why,
        };
        let name = CString::new(file.as_os_str().as_encoded_bytes())
            .map_err(|_| refused("the path has a zero byte".into()))?;
        let (mut handle, mut why) = (null_mut(), null_mut());
        // Safety: all pointers are valid for the call; no configuration is given.
        if unsafe { (api.duckdb_open_ext)(name.as_ptr(), &mut handle, null_mut(), &mut why) }
            != SUCCESS
        {
            // Safety: on failure `why` is null or a string of DuckDB's, freed here.
            let said = unsafe { text(why) };
            unsafe { (api.duckdb_free)(why.cast()) };
            return Err(refused(said));
        }
        Ok(Arc::new(Self {
            api: Arc::new(api),
            handle,
        }))
    }

    /// A new connection.
    pub fn connect(self: &Arc<Self>) -> Result<Connection, SqlError> {
        let mut handle = null_mut();
        // Safety: the database is open as long as `self`.
        if unsafe { (self.api.duckdb_connect)(self.handle, &mut handle) } != SUCCESS {
            return Err(SqlError::Statement("DuckDB gives no connection".into()));
        }
        Ok(Connection {
            api: self.api.clone(),
            handle,
            _database: self.clone(),
        })
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // Safety: opened once, closed once, after its last connection.
        unsafe { (self.api.duckdb_close)(&mut self.handle) }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // Safety: connected once, disconnected once.
        unsafe { (self.api.duckdb_disconnect)(&mut self.handle) }
    }
}

/// A connection's handle, as another thread needs it to interrupt what the connection does.
#[derive(Clone, Copy)]
struct Interrupt(unsafe extern "C" fn(Handle), Handle);

// Safety: `duckdb_interrupt` is made to be called from other threads.
unsafe impl Send for Interrupt {}

impl Interrupt {
    fn stop(self) {
        // Safety: only `within` makes one, whose thread ends before the connection can.
        unsafe { (self.0)(self.1) }
    }
}

impl Connection {
    /// Does `work`, and interrupts its statement when it takes longer than `limit`.
    pub fn within<T>(&mut self, limit: Duration, work: impl FnOnce(&mut Self) -> T) -> T {
        let (done, over) = channel::<()>();
        let interrupt = Interrupt(self.api.duckdb_interrupt, self.handle);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                if over.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                    interrupt.stop();
                }
            });
            let answer = work(self);
            drop(done);
            answer
        })
    }

    /// Runs statements without parameters and without answers.
    pub fn script(&mut self, sql: &str) -> Result<(), SqlError> {
        let sql = statement(sql)?;
        let mut result = Answer::new(&self.api);
        // Safety: connection and result live for the call.
        let state = unsafe { (self.api.duckdb_query)(self.handle, sql.as_ptr(), &mut result.raw) };
        if state == SUCCESS {
            Ok(())
        } else {
            Err(result.error())
        }
    }

    /// Runs one statement.
    pub fn query(&mut self, sql: &str, parameters: &[Value]) -> Result<Rows, SqlError> {
        let api = self.api.clone();
        let sql = statement(sql)?;
        let mut prepared = Prepared {
            api: &api,
            handle: null_mut(),
        };
        // Safety: the prepared statement is destroyed with `prepared`, whether or not this fails.
        if unsafe { (api.duckdb_prepare)(self.handle, sql.as_ptr(), &mut prepared.handle) }
            != SUCCESS
        {
            return Err(SqlError::Statement(unsafe {
                text((api.duckdb_prepare_error)(prepared.handle))
            }));
        }
        for (at, value) in (1..).zip(parameters) {
            // Safety: the statement is prepared, and text is copied by the call.
            let state = unsafe {
                match value {
                    Value::Null => (api.duckdb_bind_null)(prepared.handle, at),
                    Value::Bool(value) => (api.duckdb_bind_boolean)(prepared.handle, at, *value),
                    Value::Int(value) => (api.duckdb_bind_int64)(prepared.handle, at, *value),
                    Value::Float(value) => (api.duckdb_bind_double)(prepared.handle, at, *value),
                    Value::Text(text) => (api.duckdb_bind_varchar_length)(
                        prepared.handle,
                        at,
                        text.as_ptr().cast(),
                        text.len() as u64,
                    ),
                }
            };
            if state != SUCCESS {
                return Err(SqlError::Statement(format!(
                    "parameter {at} cannot be bound"
                )));
            }
        }
        let mut result = Answer::new(&api);
        // Safety: as above.
        if unsafe { (api.duckdb_execute_prepared)(prepared.handle, &mut result.raw) } != SUCCESS {
            return Err(result.error());
        }
        result.rows()
    }

    /// Runs `work` so that all of it is kept, or nothing.
    pub fn transaction<T, E: From<SqlError>>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, E>,
    ) -> Result<T, E> {
        self.script("BEGIN TRANSACTION")?;
        match work(self) {
            Ok(done) => self.script("COMMIT").map(|()| done).map_err(E::from),
            Err(error) => {
                // A statement that failed may have ended the transaction already.
                let _ = self.script("ROLLBACK");
                Err(error)
            }
        }
    }
}

struct Prepared<'a> {
    api: &'a Api,
    handle: Handle,
}

impl Drop for Prepared<'_> {
    fn drop(&mut self) {
        // Safety: destroyed once; DuckDB accepts one whose preparation failed.
        unsafe { (self.api.duckdb_destroy_prepare)(&mut self.handle) }
    }
}

struct Answer<'a> {
    api: &'a Api,
    raw: RawResult,
}

impl<'a> Answer<'a> {
    fn new(api: &'a Api) -> Self {
        Self {
            api,
            raw: RawResult {
                deprecated: [0; 3],
                pointers: [null_mut(); 3],
            },
        }
    }

    fn error(&mut self) -> SqlError {
        // Safety: DuckDB filled the result, or left it empty, which it accepts.
        SqlError::Statement(unsafe { text((self.api.duckdb_result_error)(&mut self.raw)) })
    }

    fn rows(&mut self) -> Result<Rows, SqlError> {
        let api = self.api;
        // Safety: the result succeeded; columns are counted from 0 to its own count.
        let columns: Vec<(String, u32)> = unsafe {
            let count = (api.duckdb_column_count)(&mut self.raw);
            (0..count)
                .map(|at| {
                    (
                        text((api.duckdb_column_name)(&mut self.raw, at)),
                        (api.duckdb_column_type)(&mut self.raw, at),
                    )
                })
                .collect()
        };
        let mut rows = Vec::new();
        loop {
            // Safety: gives null after the last chunk; each is destroyed below.
            let chunk = Chunk {
                api,
                handle: unsafe { (api.duckdb_fetch_chunk)(self.raw) },
            };
            if chunk.handle.is_null() {
                break;
            }
            // Safety: the chunk lives in this turn of the loop.
            let size = unsafe { (api.duckdb_data_chunk_get_size)(chunk.handle) } as usize;
            let first = rows.len();
            rows.resize_with(first + size, || Vec::with_capacity(columns.len()));
            for (at, (column, kind)) in columns.iter().enumerate() {
                for (row, into) in rows[first..].iter_mut().enumerate() {
                    let value = chunk.value(at as u64, row, *kind);
                    into.push(value.ok_or_else(|| SqlError::Type {
                        column: column.clone(),
                        kind: *kind,
                    })?);
                }
            }
        }
        Ok(Rows {
            columns: columns.into_iter().map(|(name, _)| name).collect(),
            rows,
        })
    }
}

impl Drop for Answer<'_> {
    fn drop(&mut self) {
        // Safety: destroyed once; DuckDB accepts an empty one.
        unsafe { (self.api.duckdb_destroy_result)(&mut self.raw) }
    }
}

struct Chunk<'a> {
    api: &'a Api,
    handle: Handle,
}

impl Chunk<'_> {
    /// The value of a column and row; nothing for a type that is not read.
    fn value(&self, column: u64, row: usize, kind: u32) -> Option<Value> {
        // Safety: column and row are within the chunk, and the vector's layout is that of its type.
        unsafe {
            let vector = (self.api.duckdb_data_chunk_get_vector)(self.handle, column);
            let valid = (self.api.duckdb_vector_get_validity)(vector);
            if !valid.is_null() && *valid.add(row / 64) & 1 << (row % 64) == 0 {
                return Some(Value::Null);
            }
            let data = (self.api.duckdb_vector_get_data)(vector);
            Some(match kind {
                1 => Value::Bool(*data.cast::<bool>().add(row)),
                2 => Value::Int((*data.cast::<i8>().add(row)).into()),
                3 => Value::Int((*data.cast::<i16>().add(row)).into()),
                4 => Value::Int((*data.cast::<i32>().add(row)).into()),
                5 => Value::Int(*data.cast::<i64>().add(row)),
                6 => Value::Int((*data.cast::<u8>().add(row)).into()),
                7 => Value::Int((*data.cast::<u16>().add(row)).into()),
                8 => Value::Int((*data.cast::<u32>().add(row)).into()),
                10 => Value::Float((*data.cast::<f32>().add(row)).into()),
                11 => Value::Float(*data.cast::<f64>().add(row)),
                17 => Value::Text(string(&*data.cast::<RawString>().add(row))),
                _ => return None,
            })
        }
    }
}

impl Drop for Chunk<'_> {
    fn drop(&mut self) {
        if !self.handle.is_null() {
            // Safety: fetched once, destroyed once.
            unsafe { (self.api.duckdb_destroy_data_chunk)(&mut self.handle) }
        }
    }
}

fn string(raw: &RawString) -> String {
    let length = raw.length as usize;
    // Safety: up to twelve bytes stand after the length, `prefix` and `rest` being next to each other in
    // a C layout; longer text stands where the last eight bytes point to.
    let bytes = unsafe {
        let start = match length <= INLINE {
            true => (&raw const *raw).cast::<u8>().add(size_of::<u32>()),
            false => usize::from_ne_bytes(raw.rest) as *const u8,
        };
        std::slice::from_raw_parts(start, length)
    };
    String::from_utf8_lossy(bytes).into_owned()
}

/// # Safety
/// Null, or a string that ends with a zero byte.
unsafe fn text(raw: *const c_char) -> String {
    if raw.is_null() {
        return "it gives no reason".into();
    }
    // Safety: not null, and the caller's promise.
    unsafe { CStr::from_ptr(raw) }
        .to_string_lossy()
        .into_owned()
}

fn statement(sql: &str) -> Result<CString, SqlError> {
    CString::new(sql).map_err(|_| SqlError::Statement("a statement has no zero byte".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open() -> Connection {
        Database::open(Path::new(":memory:"))
            .unwrap()
            .connect()
            .unwrap()
    }

    #[test]
    fn values_come_back_as_they_went_in() {
        let mut duck = open();
        let values = [
            Value::Null,
            Value::Bool(true),
            Value::Int(-7),
            Value::Float(0.5),
            "short".into(),
            "longer than twelve bytes, as UTF-8: ünïcödé".into(),
            "".into(),
        ];
        let rows = duck
            .query("SELECT $1, $2, $3, $4, $5, $6, $7", &values)
            .unwrap();
        assert_eq!(rows.rows[0][1..], values[1..]);
        assert_eq!(rows.rows[0][0], Value::Null);
        let many = duck
            .query(
                "SELECT i::INT, 'row ' || i FROM range(5000) t(i) ORDER BY i",
                &[],
            )
            .unwrap();
        assert_eq!(many.rows.len(), 5000);
        assert_eq!(many.rows[4999], [Value::Int(4999), "row 4999".into()]);
    }

    #[test]
    fn a_transaction_keeps_all_or_nothing() {
        let mut duck = open();
        duck.script("CREATE TABLE t (x INT PRIMARY KEY)").unwrap();
        let twice = duck.transaction(|duck| {
            duck.query("INSERT INTO t VALUES (1)", &[])?;
            duck.query("INSERT INTO t VALUES (1)", &[])
        });
        assert!(matches!(twice, Err(SqlError::Statement(_))));
        assert_eq!(
            duck.query("SELECT count(*) FROM t", &[]).unwrap().rows[0][0],
            Value::Int(0)
        );
    }

    #[test]
    fn a_statement_that_takes_too_long_is_interrupted() {
        let mut duck = open();
        let endless = "SELECT count(*) FROM range(100000000000) a, range(100000000000) b WHERE a.range % 7 = b.range % 11";
        let started = std::time::Instant::now();
        let error = duck.within(Duration::from_millis(100), |duck| duck.query(endless, &[]));
        assert!(
            error.is_err() && started.elapsed().as_secs() < 20,
            "{:?}",
            started.elapsed()
        );
        assert!(duck.query("SELECT 1", &[]).is_ok(), "it can be asked again");
    }

    #[test]
    fn two_statements_are_not_one_query() {
        let error = open()
            .query("SELECT 1; SELECT 2", &[])
            .unwrap_err()
            .to_string();
        assert!(error.contains("multiple statements"), "{error}");
    }
}
