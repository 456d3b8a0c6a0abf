//! Which worlds and snapshots there are, and what each of them last did.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;

use worldline_arena::{Arena, Branch};
use worldline_sandbox::{Backend, Images, Standing, Unreadable};

use crate::duck::{SqlError, Value};
use crate::error::WorldError;
use crate::id::{digest, fresh, now, now_micros};
use crate::limits::{MAX_REPLIES, TTL_WATCH};
use crate::model::{Instance, Snapshot, Source, TtlAction};
use crate::row::Row;
use crate::store::{Store, StoreError};
use crate::world::World;

/// What a runtime is opened over.
pub struct Config {
    /// The folder for the tables and the journal; made when missing.
    pub data: PathBuf,
    /// What runs code worlds, and the images that they begin from; or why nothing does.
    pub code: Result<(Arc<dyn Backend>, Images), String>,
    /// The matches of this machine.
    pub arena: Option<Arc<Arena>>,
}

/// What a start found of a former run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Worlds that ended with it.
    pub ended: Vec<String>,
    /// Snapshots that are gone: of matches, or not written yet when the former run was killed.
    pub lost: Vec<String>,
    /// Snapshots of backends that do not run here now. They stay, for when those do.
    pub away: Vec<String>,
    /// Snapshots whose files are there and cannot be read. They stay.
    pub unreadable: Vec<Unreadable>,
    /// Snapshots of the backend that no finished operation had made; removed.
    pub reaped: Vec<String>,
}

/// A world of the registry.
pub(crate) struct Entry {
    pub(crate) record: Mutex<Instance>,
    pub(crate) world: Mutex<Arc<dyn World>>,
    /// Taken by whatever changes its life, so that those come one after the other.
    pub(crate) turn: Mutex<()>,
    pub(crate) history: Mutex<History>,
}

/// The chain of a world's receipts, and how much was run in it.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    pub(crate) step: i64,
    pub(crate) hash: String,
    pub(crate) traced: i64,
}

/// A snapshot of the registry.
#[derive(Clone)]
pub(crate) struct Kept {
    pub(crate) record: Snapshot,
    pub(crate) branch: Option<Arc<Branch>>,
}

/// A branching that is made by one start after the other.
#[derive(Clone, Debug)]
pub(crate) struct Open {
    pub(crate) id: String,
    pub(crate) sum: i64,
}

#[derive(Default)]
pub(crate) struct Registry {
    pub(crate) instances: BTreeMap<String, Arc<Entry>>,
    pub(crate) snapshots: BTreeMap<String, Kept>,
    /// By snapshot.
    pub(crate) open: BTreeMap<String, Open>,
    /// By key: digest of the request, names of what it made. An empty answer is still being made.
    pub(crate) requests: BTreeMap<String, (String, String)>,
}

pub(crate) struct Inner {
    pub(crate) code: Result<(Arc<dyn Backend>, Images), String>,
    pub(crate) arena: Option<Arc<Arena>>,
    pub(crate) store: Store,
    pub(crate) registry: Mutex<Registry>,
}

/// All worlds of this machine, behind one set of verbs.
#[derive(Clone)]
pub struct Runtime(pub(crate) Arc<Inner>);

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Runtime {
    /// Opens the registry: snapshots go on, worlds of a former run have ended, and what an operation left
    /// half done is removed.
    pub fn open(config: Config) -> Result<(Self, Recovery), StoreError> {
        let store = Store::open(&config.data)?;
        let (mut registry, mut recovery) = (Registry::default(), Recovery::default());
        let mut rows = Vec::new();
        for (id, sort, record) in records(&store)? {
            if sort == "instance" {
                rows.extend([collapsed(&id), Row::Gone { id: id.clone() }]);
                recovery.ended.push(id);
                continue;
            }
            let record: Snapshot =
                serde_json::from_str(&record).map_err(|source| StoreError::Record {
                    id: id.clone(),
                    source,
                })?;
            match standing(&record, &config.code) {
                Standing::Gone => {
                    rows.extend([collapsed(&id), Row::Gone { id: id.clone() }]);
                    recovery.lost.push(id);
                    continue;
                }
                Standing::Away => recovery.away.push(id.clone()),
                Standing::Here | Standing::Unreadable(_) => (),
            }
            let branch = None;
            registry.snapshots.insert(id, Kept { record, branch });
        }
        if let Ok((backend, _)) = &config.code {
            recovery.unreadable.clone_from(&backend.reaped().unreadable);
            let ours = |own: &str| {
                registry
                    .snapshots
                    .values()
                    .any(|kept| matches!(&kept.record.source, Source::Sandbox(id) if id == own))
            };
            for stray in backend
                .snapshots()
                .into_iter()
                .filter(|snapshot| !ours(&snapshot.id))
            {
                match backend.remove_snapshot(&stray.id) {
                    Ok(()) => recovery.reaped.push(stray.id),
                    Err(error) => {
                        tracing::warn!(snapshot = stray.id, %error, "a stray snapshot stays")
                    }
                }
            }
        }
        registry.open = open_branchings(&store)?;
        registry.requests = requests(&store)?;
        if !rows.is_empty() {
            store.commit(rows)?;
        }
        let inner = Arc::new(Inner {
            code: config.code,
            arena: config.arena,
            store,
            registry: Mutex::new(registry),
        });
        watch(Arc::downgrade(&inner));
        Ok((Self(inner), recovery))
    }

    pub(crate) fn registry(&self) -> MutexGuard<'_, Registry> {
        lock(&self.0.registry)
    }

    pub(crate) fn entry(&self, id: &str) -> Result<Arc<Entry>, WorldError> {
        let found = self.registry().instances.get(id).cloned();
        found.ok_or_else(|| WorldError::NoInstance(id.into()))
    }

    pub(crate) fn kept(&self, id: &str) -> Result<Kept, WorldError> {
        let found = self.registry().snapshots.get(id).cloned();
        found.ok_or_else(|| WorldError::NoSnapshot(id.into()))
    }

    pub(crate) fn backend(&self) -> Result<&(Arc<dyn Backend>, Images), WorldError> {
        self.0
            .code
            .as_ref()
            .map_err(|why| WorldError::NoBackend(why.clone()))
    }

    /// Keeps an operation's rows.
    pub(crate) fn commit(&self, rows: Vec<Row>) -> Result<(), WorldError> {
        Ok(self.0.store.commit(rows)?)
    }

    /// Begins a request that has a key: gives its former answer, if there is one. A key that comes again
    /// with another request is refused.
    pub fn begin(&self, key: &str, body: &str) -> Result<Option<String>, WorldError> {
        crate::operate::fits(key, "the idempotency key")?;
        let body = digest(&[body]);
        let mut registry = self.registry();
        match registry.requests.get(key) {
            Some((before, answer)) if *before == body && !answer.is_empty() => {
                Ok(Some(answer.clone()))
            }
            Some((before, _)) if *before == body => Err(WorldError::KeyBusy),
            Some(_) => Err(WorldError::KeyReused),
            None => {
                if registry.requests.len() >= MAX_REPLIES {
                    registry.requests.retain(|_, (_, answer)| answer.is_empty());
                }
                registry.requests.insert(key.into(), (body, String::new()));
                Ok(None)
            }
        }
    }

    /// Ends a request that has a key: with its answer, or with nothing when it failed and may come again.
    pub fn finish(&self, key: &str, answer: Option<&str>) -> Result<(), WorldError> {
        let mut registry = self.registry();
        let Some(answer) = answer else {
            registry.requests.remove(key);
            return Ok(());
        };
        let Some(request) = registry.requests.get_mut(key) else {
            return Ok(());
        };
        request.1 = answer.into();
        let row = Row::Request {
            key: key.into(),
            body: request.0.clone(),
            answer: answer.into(),
            at: now_micros(),
        };
        drop(registry);
        self.commit(vec![row])
    }
}

/// Where a registered snapshot is.
pub(crate) fn standing<'a>(
    record: &Snapshot,
    code: &'a Result<(Arc<dyn Backend>, Images), String>,
) -> Standing<'a> {
    match (&record.source, code) {
        (Source::Image, _) => Standing::Here,
        (Source::Match, _) => Standing::Gone,
        (Source::Sandbox(own), Ok((backend, _))) => backend.standing(&record.backend, own),
        (Source::Sandbox(_), Err(_)) => Standing::Away,
    }
}

impl Entry {
    pub(crate) fn new(record: Instance, world: Arc<dyn World>) -> Self {
        Self {
            record: Mutex::new(record),
            world: Mutex::new(world),
            turn: Mutex::default(),
            history: Mutex::default(),
        }
    }

    pub(crate) fn record(&self) -> Instance {
        lock(&self.record).clone()
    }

    pub(crate) fn world(&self) -> Arc<dyn World> {
        lock(&self.world).clone()
    }

    /// Changes the record; gives it and its row.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Instance)) -> (Instance, Row) {
        let mut record = lock(&self.record);
        change(&mut record);
        (record.clone(), instance_row(&record))
    }

    /// The next receipt of this world.
    pub(crate) fn receipt(&self, operation: &str, detail: &str) -> Row {
        let entity = lock(&self.record).id.clone();
        let mut history = lock(&self.history);
        let from = history.hash.clone();
        history.hash = digest(&[&from, operation, detail]);
        history.step += 1;
        Row::Receipt {
            id: fresh("receipt"),
            entity,
            step: history.step,
            operation: operation.into(),
            detail: detail.into(),
            from,
            to: history.hash.clone(),
            at: now_micros(),
        }
    }
}

pub(crate) fn instance_row(record: &Instance) -> Row {
    let text = serde_json::to_string(record).unwrap_or_default();
    Row::Record {
        id: record.id.clone(),
        sort: "instance".into(),
        record: text,
    }
}

pub(crate) fn snapshot_row(record: &Snapshot) -> Row {
    let text = serde_json::to_string(record).unwrap_or_default();
    Row::Record {
        id: record.id.clone(),
        sort: "snapshot".into(),
        record: text,
    }
}

pub(crate) fn collapsed(id: &str) -> Row {
    Row::State {
        id: id.into(),
        state: "collapsed".into(),
        resolved_at: Some(now_micros()),
    }
}

fn texts(row: &[Value]) -> Vec<String> {
    row.iter().map(ToString::to_string).collect()
}

fn records(store: &Store) -> Result<Vec<(String, String, String)>, SqlError> {
    let rows = store
        .query(
            "SELECT id, sort, record FROM world_records ORDER BY id",
            &[],
        )?
        .rows;
    let triples = rows
        .iter()
        .map(|row| texts(row))
        .filter_map(|row| <[String; 3]>::try_from(row).ok());
    Ok(triples
        .map(|[id, sort, record]| (id, sort, record))
        .collect())
}

fn open_branchings(store: &Store) -> Result<BTreeMap<String, Open>, SqlError> {
    let rows = store
        .query(
            "SELECT snapshot_id, branch_id, gf3_sum FROM world_branches WHERE is_open",
            &[],
        )?
        .rows;
    let open = |row: &Vec<Value>| {
        let id = row.get(1)?.text()?.to_owned();
        Some((
            row.first()?.text()?.to_owned(),
            Open {
                id,
                sum: row.get(2)?.int()?,
            },
        ))
    };
    Ok(rows.iter().filter_map(open).collect())
}

fn requests(store: &Store) -> Result<BTreeMap<String, (String, String)>, SqlError> {
    let sql =
        "SELECT key, body_digest, answer FROM world_requests ORDER BY happened_at DESC LIMIT $1";
    let rows = store.query(sql, &[(MAX_REPLIES as i64).into()])?.rows;
    let triples = rows
        .iter()
        .map(|row| texts(row))
        .filter_map(|row| <[String; 3]>::try_from(row).ok());
    Ok(triples
        .map(|[key, body, answer]| (key, (body, answer)))
        .collect())
}

/// Ends or pauses what has lived long enough, until the runtime is gone.
fn watch(inner: Weak<Inner>) {
    let turn = move || {
        loop {
            thread::sleep(TTL_WATCH);
            let Some(inner) = inner.upgrade() else { return };
            Runtime(inner).expire();
        }
    };
    if let Err(error) = thread::Builder::new().name("ttl".into()).spawn(turn) {
        tracing::error!(%error, "no thread looks at times to live: nothing will expire");
    }
}

impl Runtime {
    fn expire(&self) {
        let now = now();
        let (worlds, snapshots) = {
            let registry = self.registry();
            let over = |entry: &&Arc<Entry>| {
                let record = lock(&entry.record);
                record.ttl.is_over(now)
                    && !(record.ttl.action == Some(TtlAction::Pause)
                        && record.status != crate::Status::Ready)
            };
            let worlds: Vec<Instance> = registry
                .instances
                .values()
                .filter(over)
                .map(|entry| entry.record())
                .collect();
            let snapshots: Vec<String> = registry
                .snapshots
                .values()
                .filter(|kept| kept.record.ttl.is_over(now))
                .map(|kept| kept.record.id.clone())
                .collect();
            (worlds, snapshots)
        };
        for record in worlds {
            let done = match record.ttl.action {
                Some(TtlAction::Pause) => self.pause(&record.id),
                _ => self.stop(&record.id),
            };
            if let Err(error) = done {
                tracing::warn!(world = record.id, %error, "its time is over, and it goes on");
            }
        }
        for id in snapshots {
            if let Err(error) = self.remove_snapshot(&id) {
                tracing::warn!(snapshot = id, %error, "its time is over, and it stays");
            }
        }
    }
}
