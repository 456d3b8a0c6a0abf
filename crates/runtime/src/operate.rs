//! The life of worlds: image, snapshot, start, branch, pause, end. Each operation does its work first,
//! and then writes all of its rows at once: that is the moment from which it has happened.

use std::sync::Arc;
use std::time::Instant;

use worldline_arena::Branch;
use worldline_sandbox::{CreateError, Spec, Standing, child_seed};

use crate::error::WorldError;
use crate::id::{fresh, now, now_micros};
use crate::limits::{MAX_BRANCHES, MAX_METADATA, MAX_SNAPSHOTS, MAX_TEXT, MAX_TTL, MAX_WORLDS};
use crate::list::ARENA;
use crate::model::{
    Branching, Instance, Kind, Metadata, NewInstance, NewSnapshot, Note, Sizes, SizesAsked,
    Snapshot, Source, Status, Ttl, TtlAction, WakeOn,
};
use crate::registry::{
    Entry, Kept, Open, Runtime, collapsed, instance_row, lock, snapshot_row, standing,
};
use crate::row::Row;
use crate::trit;
use crate::world::{CodeWorld, MatchBranch, Moment, World};

/// Bytes in a MiB.
const MIB: f64 = (1 << 20) as f64;

pub(crate) fn fits(text: &str, what: &'static str) -> Result<(), WorldError> {
    if text.len() <= MAX_TEXT {
        Ok(())
    } else {
        Err(WorldError::TooLong(what))
    }
}

fn check_metadata(metadata: &Metadata) -> Result<(), WorldError> {
    if metadata.len() > MAX_METADATA {
        return Err(WorldError::TooLong("the metadata"));
    }
    metadata.iter().try_for_each(|(key, value)| {
        fits(key, "a key of metadata").and_then(|()| fits(value, "a value of metadata"))
    })
}

fn check_ttl(seconds: Option<u64>) -> Result<(), WorldError> {
    seconds
        .filter(|seconds| *seconds > MAX_TTL)
        .map_or(Ok(()), |seconds| Err(WorldError::Ttl(seconds)))
}

fn check_note(note: &Note) -> Result<(), WorldError> {
    check_metadata(&note.metadata)?;
    check_ttl(note.ttl_seconds)?;
    note.digest
        .as_deref()
        .map_or(Ok(()), |digest| fits(digest, "the digest"))
}

fn check_new(new: &NewInstance) -> Result<(), WorldError> {
    check_metadata(&new.metadata)?;
    check_ttl(new.ttl_seconds)?;
    asked_trit(&new.metadata).map(drop)
}

/// The label that metadata asks for.
fn asked_trit(metadata: &Metadata) -> Result<Option<i8>, WorldError> {
    let Some(text) = metadata.get("trit") else {
        return Ok(None);
    };
    let trit = text
        .trim_start_matches('+')
        .parse()
        .ok()
        .filter(|trit| (-1..=1).contains(trit));
    trit.map(Some).ok_or_else(|| WorldError::Trit(text.clone()))
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

impl Runtime {
    /// A snapshot of an image, before anything has run.
    pub fn create_snapshot(&self, new: &NewSnapshot) -> Result<Snapshot, WorldError> {
        check_note(&new.note)?;
        if let Some(kept) = self.by_digest(new.note.digest.as_deref()) {
            return Ok(kept);
        }
        let started = Instant::now();
        let (kind, image, branch) = self.image(new.image.as_deref())?;
        let backend = self.home(kind, &image);
        if kind == Kind::Match && new.sizes != Default::default() {
            return Err(WorldError::Sizes);
        }
        let sizes = match kind {
            Kind::Sandbox => new.sizes.or(Sizes::default()),
            Kind::Match => Sizes {
                vcpus: 0,
                memory_mib: 0,
                disk_mib: 0,
            },
        };
        let source = if branch.is_some() {
            Source::Match
        } else {
            Source::Image
        };
        let moment = Moment {
            source,
            branch,
            bytes: 0,
            pause_ms: 0.0,
        };
        let kept = kept(moment, (kind, image, backend), sizes, &new.note, None);
        let mut rows = snapshot_rows(&kept.record);
        rows.push(Row::Metric {
            id: fresh("metric"),
            entity: kept.record.id.clone(),
            boot_ms: None,
            snapshot_ms: Some(milliseconds(started)),
            branch_ms: None,
            memory_mb: None,
            at: now_micros(),
        });
        self.admit_snapshot(kept, rows)
    }

    /// A world that goes on from a snapshot.
    pub fn start(&self, snapshot: &str, new: &NewInstance) -> Result<Instance, WorldError> {
        check_new(new)?;
        let trit = asked_trit(&new.metadata)?;
        let kept = self.kept(snapshot)?;
        self.room(1)?;
        let started = Instant::now();
        let world = self.embody(&kept, new)?;
        let boot_ms = milliseconds(started);
        let record = child(&kept.record, new, trit.unwrap_or(0));
        let entry = Arc::new(Entry::new(record, world));
        let record = entry.record();
        let mut rows = instance_rows(&entry, Some(boot_ms), None);
        let mut registry = self.registry();
        rows.push(joined(&mut registry.open, &record, trit));
        self.commit(rows).inspect_err(|_| entry.world().destroy())?;
        registry.instances.insert(record.id.clone(), entry);
        Ok(record)
    }

    /// Keeps a moment of a world, which goes on.
    pub fn snapshot(&self, id: &str, note: &Note) -> Result<Snapshot, WorldError> {
        check_note(note)?;
        if let Some(kept) = self.by_digest(note.digest.as_deref()) {
            return Ok(kept);
        }
        let entry = self.entry(id)?;
        let _turn = lock(&entry.turn);
        let (kept, mut rows) = self.moment(&entry, note)?;
        let record = &kept.record;
        rows.push(Row::Branching {
            id: fresh("branch"),
            parent: record.world.clone(),
            snapshot: record.id.clone(),
            children: vec![record.id.clone()],
            kind: "snapshot".into(),
            snapshot_ms: Some(record.pause_ms),
            gf3_sum: 0,
            open: false,
            at: now_micros(),
        });
        rows.push(entry.receipt("snapshot", &record.id));
        self.admit_snapshot(kept, rows)
    }

    /// A snapshot of a world and worlds that go on from it: all of them, or none.
    pub fn branch(
        &self,
        id: &str,
        asked: &Branching,
    ) -> Result<(Snapshot, Vec<Instance>), WorldError> {
        if !(1..=MAX_BRANCHES).contains(&asked.count) {
            return Err(WorldError::Count(asked.count));
        }
        check_note(&asked.note)?;
        check_new(&asked.children)?;
        let trits = asked
            .trits
            .clone()
            .unwrap_or_else(|| trit::balanced(asked.count));
        let known = trits.iter().all(|trit| (-1..=1).contains(trit));
        if trits.len() != asked.count || !known || trit::sum(trits.iter().copied()) != 0 {
            return Err(WorldError::Unbalanced(trits));
        }
        self.room(asked.count)?;
        let entry = self.entry(id)?;
        let _turn = lock(&entry.turn);
        let started = Instant::now();
        let (kept, mut rows) = self.moment(
            &entry,
            &Note {
                digest: None,
                ..asked.note.clone()
            },
        )?;
        let worlds = self
            .embody_all(&kept, &asked.children, asked.count)
            .inspect_err(|_| self.discard(&kept))?;
        let branch_ms = milliseconds(started);
        let entries: Vec<_> = worlds
            .into_iter()
            .zip(&trits)
            .map(|(world, trit)| {
                Arc::new(Entry::new(
                    child(&kept.record, &asked.children, *trit),
                    world,
                ))
            })
            .collect();
        for child in &entries {
            rows.extend(instance_rows(
                child,
                None,
                Some(branch_ms / asked.count as f64),
            ));
        }
        let children: Vec<Instance> = entries.iter().map(|entry| entry.record()).collect();
        rows.push(Row::Branching {
            id: fresh("branch"),
            parent: Some(id.into()),
            snapshot: kept.record.id.clone(),
            children: children.iter().map(|child| child.id.clone()).collect(),
            kind: "fork".into(),
            snapshot_ms: Some(kept.record.pause_ms),
            gf3_sum: 0,
            open: false,
            at: now_micros(),
        });
        rows.push(entry.receipt("branch", &format!("{} {}", kept.record.id, asked.count)));
        let failed = |_: &WorldError| entries.iter().for_each(|entry| entry.world().destroy());
        let snapshot = self.admit_snapshot(kept, rows).inspect_err(failed)?;
        let mut registry = self.registry();
        registry
            .instances
            .extend(children.iter().map(|child| child.id.clone()).zip(entries));
        Ok((snapshot, children))
    }

    /// Ends a world. Its snapshots stay.
    pub fn stop(&self, id: &str) -> Result<(), WorldError> {
        let entry = self.entry(id)?;
        let _turn = lock(&entry.turn);
        if self.registry().instances.remove(id).is_none() {
            return Err(WorldError::NoInstance(id.into()));
        }
        entry.world().destroy();
        self.commit(vec![
            collapsed(id),
            Row::Gone { id: id.into() },
            entry.receipt("stop", ""),
        ])
    }

    /// Lets a world stand still. A second call does nothing.
    pub fn pause(&self, id: &str) -> Result<(), WorldError> {
        let entry = self.entry(id)?;
        let _turn = lock(&entry.turn);
        if entry.record().status == Status::Paused {
            return Ok(());
        }
        entry.world().pause()?;
        let (_, row) = entry.change(|record| record.status = Status::Paused);
        let state = Row::State {
            id: id.into(),
            state: "paused".into(),
            resolved_at: None,
        };
        self.commit(vec![row, state, entry.receipt("pause", "")])
    }

    /// Lets a world go on; a time to live that had paused it begins again. A second call does nothing.
    pub fn resume(&self, id: &str) -> Result<(), WorldError> {
        let entry = self.entry(id)?;
        let _turn = lock(&entry.turn);
        if entry.record().status != Status::Paused {
            return Ok(());
        }
        entry.world().resume()?;
        let (_, row) = entry.change(|record| {
            record.status = Status::Ready;
            if record.ttl.action == Some(TtlAction::Pause) {
                record.ttl = Ttl::from_now(record.ttl.seconds, record.ttl.action);
            }
        });
        let state = Row::State {
            id: id.into(),
            state: "running".into(),
            resolved_at: None,
        };
        self.commit(vec![row, state, entry.receipt("resume", "")])
    }

    /// Begins a world anew, with other sizes if they are asked for: its disk stays, and what ran in it is
    /// gone. A match, and a world that has ended by itself, begins from its snapshot again. One that cannot
    /// begin anew goes on.
    pub fn reboot(&self, id: &str, new: &NewInstance) -> Result<(), WorldError> {
        check_new(new)?;
        let entry = self.entry(id)?;
        let _turn = lock(&entry.turn);
        let record = entry.record();
        let Some(snapshot) = &record.snapshot else {
            let why = "it has players; branch it".into();
            return Err(WorldError::Refused {
                world: id.into(),
                what: "be rebooted",
                why,
            });
        };
        let sizes = new.sizes.or(record.sizes);
        if record.kind == Kind::Match && new.sizes != Default::default() {
            return Err(WorldError::Sizes);
        }
        let former = entry.world();
        let rebooted = match record.status {
            Status::Error => None,
            _ => former.reboot(&spec(
                &record.image,
                sizes,
                record.seed,
                new.network.clone(),
            ))?,
        };
        let world = match rebooted {
            Some(world) => world,
            None => self.begun_again(snapshot, &record, sizes)?,
        };
        *lock(&entry.world) = world;
        former.destroy();
        let (_, row) = entry.change(|record| {
            record.status = Status::Ready;
            record.sizes = sizes;
            if !new.metadata.is_empty() {
                record.metadata = new.metadata.clone();
            }
            if new.ttl_seconds.is_some() || new.ttl_action.is_some() {
                record.ttl = Ttl::from_now(new.ttl_seconds, new.ttl_action);
            }
        });
        let state = Row::State {
            id: id.into(),
            state: "running".into(),
            resolved_at: None,
        };
        self.commit(vec![row, state, entry.receipt("reboot", snapshot)])
    }

    fn begun_again(
        &self,
        snapshot: &str,
        record: &Instance,
        sizes: Sizes,
    ) -> Result<Arc<dyn World>, WorldError> {
        let asked = match record.kind {
            Kind::Match => SizesAsked::default(),
            Kind::Sandbox => sizes.into(),
        };
        let asked = NewInstance {
            sizes: asked,
            seed: record.seed,
            ..NewInstance::default()
        };
        self.embody(&self.kept(snapshot)?, &asked)
    }

    /// Gives a world's disk another size while it runs.
    pub fn resize_disk(&self, id: &str, mib: u32) -> Result<(), WorldError> {
        let entry = self.entry(id)?;
        let _turn = lock(&entry.turn);
        entry.world().resize_disk(mib)?;
        let (_, row) = entry.change(|record| record.sizes.disk_mib = mib);
        self.commit(vec![row, entry.receipt("resize", &mib.to_string())])
    }

    /// Changes what is said of a world, unless it has ended meanwhile.
    pub(crate) fn alter(
        &self,
        id: &str,
        change: impl FnOnce(&mut Instance),
    ) -> Result<Instance, WorldError> {
        let entry = self.entry(id)?;
        let _turn = lock(&entry.turn);
        self.entry(id)?;
        let (record, row) = entry.change(change);
        self.commit(vec![row]).map(|()| record)
    }

    /// Replaces a world's metadata.
    pub fn set_metadata(&self, id: &str, metadata: Metadata) -> Result<(), WorldError> {
        check_metadata(&metadata)?;
        self.alter(id, |record| record.metadata = metadata)
            .map(drop)
    }

    /// Sets how long a world lives from now on; without an action, the one it had.
    pub fn set_ttl(
        &self,
        id: &str,
        seconds: Option<u64>,
        action: Option<TtlAction>,
    ) -> Result<(), WorldError> {
        check_ttl(seconds)?;
        let set = |record: &mut Instance| {
            record.ttl = Ttl::from_now(seconds, action.or(record.ttl.action));
        };
        self.alter(id, set).map(drop)
    }

    /// Sets when a world resumes by itself; what is left out stays.
    pub fn set_wake_on(
        &self,
        id: &str,
        ssh: Option<bool>,
        http: Option<bool>,
    ) -> Result<(), WorldError> {
        let set = |record: &mut Instance| {
            let before = record.wake_on;
            record.wake_on = WakeOn {
                ssh: ssh.unwrap_or(before.ssh),
                http: http.unwrap_or(before.http),
            };
        };
        self.alter(id, set).map(drop)
    }

    /// Replaces a snapshot's metadata.
    pub fn set_snapshot_metadata(&self, id: &str, metadata: Metadata) -> Result<(), WorldError> {
        check_metadata(&metadata)?;
        self.change_snapshot(id, |record| record.metadata = metadata)
    }

    /// Sets how long a snapshot is kept from now on.
    pub fn set_snapshot_ttl(&self, id: &str, seconds: Option<u64>) -> Result<(), WorldError> {
        check_ttl(seconds)?;
        self.change_snapshot(id, |record| record.ttl = Ttl::from_now(seconds, None))
    }

    fn change_snapshot(
        &self,
        id: &str,
        change: impl FnOnce(&mut Snapshot),
    ) -> Result<(), WorldError> {
        let mut registry = self.registry();
        let kept = registry
            .snapshots
            .get_mut(id)
            .ok_or_else(|| WorldError::NoSnapshot(id.into()))?;
        change(&mut kept.record);
        let row = snapshot_row(&kept.record);
        self.commit(vec![row])
    }

    /// Forgets a snapshot. Worlds that go on from it do not notice.
    pub fn remove_snapshot(&self, id: &str) -> Result<(), WorldError> {
        let removed = self.registry().snapshots.remove(id);
        let kept = removed.ok_or_else(|| WorldError::NoSnapshot(id.into()))?;
        self.commit(vec![collapsed(id), Row::Gone { id: id.into() }])?;
        self.discard(&kept);
        Ok(())
    }

    /// Takes back what nothing refers to any more; gives the bytes.
    pub fn collect(&self) -> Result<u64, WorldError> {
        Ok(self.backend()?.0.collect()?)
    }

    fn by_digest(&self, digest: Option<&str>) -> Option<Snapshot> {
        let digest = digest?;
        let registry = self.registry();
        registry
            .snapshots
            .values()
            .find(|kept| kept.record.digest.as_deref() == Some(digest))
            .map(|kept| kept.record.clone())
    }

    fn room(&self, count: usize) -> Result<(), WorldError> {
        if self.registry().instances.len() + count > MAX_WORLDS {
            Err(WorldError::Full)
        } else {
            Ok(())
        }
    }

    /// The sort, name and start of an image: a root file system, or a learned world.
    fn image(&self, name: Option<&str>) -> Result<(Kind, String, Option<Branch>), WorldError> {
        /// Where a match begins unless it is branched from one that has begun.
        const GENERATOR: u64 = 1;
        if let (Some(name), Some(arena)) = (name, &self.0.arena)
            && let Some(world) = arena.shelf().get(name).filter(|world| !world.is_policy())
        {
            let first = |stage: u8| {
                let characters = world.characters(stage);
                let pair = [*characters.first()?, *characters.last()?];
                Branch::start(world, stage, pair, GENERATOR)
            };
            let branch = world.stages().into_iter().find_map(first);
            return Ok((
                Kind::Match,
                name.into(),
                Some(branch.ok_or_else(|| WorldError::NoImage(name.into()))?),
            ));
        }
        let (backend, _) = self.backend()?;
        Ok((Kind::Sandbox, backend.image(name)?, None))
    }

    /// What worlds of an image live on.
    fn home(&self, kind: Kind, image: &str) -> String {
        match (kind, self.backend()) {
            (Kind::Sandbox, Ok((backend, _))) => backend.home(image).into(),
            _ => ARENA.into(),
        }
    }

    /// A world with a snapshot's state.
    fn embody(&self, kept: &Kept, new: &NewInstance) -> Result<Arc<dyn World>, WorldError> {
        let mut worlds = self.embody_all(kept, new, 1)?;
        worlds.pop().ok_or(WorldError::Count(0))
    }

    fn embody_all(
        &self,
        kept: &Kept,
        new: &NewInstance,
        count: usize,
    ) -> Result<Vec<Arc<dyn World>>, WorldError> {
        let record = &kept.record;
        if let Some(branch) = &kept.branch {
            if new.sizes != Default::default() {
                return Err(WorldError::Sizes);
            }
            if new.network.is_some() {
                return Err(WorldError::Unreachable);
            }
            return Ok((0..count)
                .map(|_| Arc::new(MatchBranch::new(Branch::clone(branch))) as Arc<dyn World>)
                .collect());
        }
        let (backend, _) = self.backend()?;
        let sizes = new.sizes.or(record.sizes);
        let spec = spec(&record.image, sizes, new.seed, new.network.clone());
        let explain = |error| self.explain(record, error);
        let made = match &record.source {
            Source::Sandbox(own) if count == 1 => {
                vec![backend.restore(own, &spec).map_err(explain)?]
            }
            Source::Sandbox(own) => backend.branch(own, count, &spec).map_err(explain)?,
            _ => {
                let seeded = |at: usize| Spec {
                    seed: spec.seed.map(|seed| {
                        if count == 1 {
                            seed
                        } else {
                            child_seed(seed, at as u64)
                        }
                    }),
                    ..spec.clone()
                };
                (0..count)
                    .map(|at| backend.create(&seeded(at)))
                    .collect::<Result<_, _>>()?
            }
        };
        Ok(made
            .into_iter()
            .map(|sandbox| Arc::new(CodeWorld(sandbox)) as Arc<dyn World>)
            .collect())
    }

    /// Why there is no world of a registered snapshot: its backend may only know that it has none.
    fn explain(&self, record: &Snapshot, error: CreateError) -> WorldError {
        let id = record.id.clone();
        match (&error, standing(record, &self.0.code)) {
            (CreateError::NoSnapshot(_), Standing::Unreadable(why)) => CreateError::Damaged {
                id,
                why: why.into(),
            }
            .into(),
            (CreateError::NoSnapshot(_), Standing::Away) => WorldError::Away {
                snapshot: id,
                backend: record.backend.clone(),
            },
            _ => error.into(),
        }
    }

    /// A moment of a world as a snapshot that is not admitted yet, and its rows.
    fn moment(&self, entry: &Entry, note: &Note) -> Result<(Kept, Vec<Row>), WorldError> {
        if self.registry().snapshots.len() >= MAX_SNAPSHOTS {
            return Err(WorldError::FullOfSnapshots);
        }
        let started = Instant::now();
        let record = entry.record();
        let moment = entry.world().moment()?;
        let kept = kept(
            moment,
            (record.kind, record.image, record.backend),
            record.sizes,
            note,
            Some(record.id.clone()),
        );
        let mut rows = snapshot_rows(&kept.record);
        rows.push(Row::Metric {
            id: fresh("metric"),
            entity: record.id,
            boot_ms: None,
            snapshot_ms: Some(milliseconds(started)),
            branch_ms: None,
            memory_mb: Some(kept.record.bytes as f64 / MIB),
            at: now_micros(),
        });
        Ok((kept, rows))
    }

    fn admit_snapshot(&self, kept: Kept, rows: Vec<Row>) -> Result<Snapshot, WorldError> {
        let record = kept.record.clone();
        self.commit(rows).inspect_err(|_| self.discard(&kept))?;
        self.registry().snapshots.insert(record.id.clone(), kept);
        Ok(record)
    }

    /// Gives back what a snapshot holds in the backend.
    fn discard(&self, kept: &Kept) {
        if let (Source::Sandbox(own), Ok((backend, _))) = (&kept.record.source, &self.0.code)
            && let Err(error) = backend.remove_snapshot(own)
        {
            tracing::warn!(snapshot = kept.record.id, %error, "what it held stays");
        }
    }
}

fn spec(image: &str, sizes: Sizes, seed: Option<u64>, network: Option<Vec<String>>) -> Spec {
    Spec {
        image: Some(image.into()),
        memory_mib: sizes.memory_mib,
        vcpus: sizes.vcpus,
        disk_mib: sizes.disk_mib,
        seed,
        network,
    }
}

fn kept(
    moment: Moment,
    (kind, image, backend): (Kind, String, String),
    sizes: Sizes,
    note: &Note,
    world: Option<String>,
) -> Kept {
    let record = Snapshot {
        id: fresh("snapshot"),
        kind,
        created: now(),
        image,
        backend,
        sizes,
        digest: note.digest.clone(),
        metadata: note.metadata.clone(),
        ttl: Ttl::from_now(note.ttl_seconds, None),
        world,
        source: moment.source,
        bytes: moment.bytes,
        pause_ms: moment.pause_ms,
    };
    Kept {
        record,
        branch: moment.branch.map(Arc::new),
    }
}

fn snapshot_rows(record: &Snapshot) -> Vec<Row> {
    let entity = Row::Entity {
        id: record.id.clone(),
        kind: record.kind.name().into(),
        parent: record.world.clone(),
        snapshot: Some(record.id.clone()),
        trit: 0,
        state: "snapshotted".into(),
        memory_mib: record.sizes.memory_mib,
        vcpus: record.sizes.vcpus,
        boot_ms: None,
        at: now_micros(),
    };
    vec![entity, snapshot_row(record)]
}

fn child(snapshot: &Snapshot, new: &NewInstance, trit: i8) -> Instance {
    Instance {
        id: fresh("morphvm"),
        kind: snapshot.kind,
        created: now(),
        status: Status::Ready,
        image: snapshot.image.clone(),
        backend: snapshot.backend.clone(),
        snapshot: Some(snapshot.id.clone()),
        parent: snapshot.world.clone(),
        sizes: new.sizes.or(snapshot.sizes),
        metadata: new.metadata.clone(),
        ttl: Ttl::from_now(new.ttl_seconds, new.ttl_action),
        wake_on: WakeOn::default(),
        trit,
        seed: new.seed,
        services: Vec::new(),
    }
}

/// The rows of a world that begins.
pub(crate) fn instance_rows(
    entry: &Entry,
    boot_ms: Option<f64>,
    branch_ms: Option<f64>,
) -> Vec<Row> {
    let record = entry.record();
    let entity = Row::Entity {
        id: record.id.clone(),
        kind: record.kind.name().into(),
        parent: record.parent.clone(),
        snapshot: record.snapshot.clone(),
        trit: record.trit,
        state: "running".into(),
        memory_mib: record.sizes.memory_mib,
        vcpus: record.sizes.vcpus,
        boot_ms,
        at: now_micros(),
    };
    let metric = Row::Metric {
        id: fresh("metric"),
        entity: record.id.clone(),
        boot_ms,
        snapshot_ms: None,
        branch_ms,
        memory_mb: None,
        at: now_micros(),
    };
    let receipt = entry.receipt("create", record.snapshot.as_deref().unwrap_or(""));
    vec![entity, instance_row(&record), metric, receipt]
}

/// The branching of one start. One that asks for no label is a branching of its own, with label 0; those
/// that ask for labels are one branching together, from the first label until they balance.
fn joined(
    open: &mut std::collections::BTreeMap<String, Open>,
    record: &Instance,
    trit: Option<i8>,
) -> Row {
    let snapshot = record.snapshot.clone().unwrap_or_default();
    if let (Some(trit), Some(one)) = (trit, open.get_mut(&snapshot)) {
        one.sum = trit::sum([one.sum as i8, trit]);
        let row = Row::Joined {
            id: one.id.clone(),
            child: record.id.clone(),
            gf3_sum: one.sum,
        };
        if one.sum == 0 {
            open.remove(&snapshot);
        }
        return row;
    }
    let (id, sum) = (fresh("branch"), trit::sum(trit));
    if sum != 0 {
        open.insert(
            snapshot.clone(),
            Open {
                id: id.clone(),
                sum,
            },
        );
    }
    Row::Branching {
        id,
        parent: record.parent.clone(),
        snapshot,
        children: vec![record.id.clone()],
        kind: "fork".into(),
        snapshot_ms: None,
        gf3_sum: sum,
        open: sum != 0,
        at: now_micros(),
    }
}
