//! What there is: images, snapshots, worlds, and the matches that people are at.

use std::sync::Arc;

use serde::Serialize;
use worldline_sandbox::{Image, Report};

use crate::error::WorldError;
use crate::model::{Instance, Kind, Metadata, Sizes, Snapshot, Source, Status, Ttl, WakeOn};
use crate::operate::instance_rows;
use crate::registry::{Entry, Runtime, collapsed};
use crate::row::Row;
use crate::world::LiveMatch;

/// What a world can begin from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ImageView {
    /// Its name.
    pub id: String,
    /// The sort of world that begins from it.
    pub kind: Kind,
    /// What it was made of.
    pub digest: String,
    /// Bytes.
    pub bytes: u64,
    /// When it was made: seconds since 1970; 0 where that is not known.
    pub created: u64,
}

/// What matches live on.
pub(crate) const ARENA: &str = "arena";
/// What the entity of a live match is called.
const MATCH: &str = "match_";

fn has(metadata: &Metadata, wanted: &Metadata) -> bool {
    wanted
        .iter()
        .all(|(key, value)| metadata.get(key) == Some(value))
}

impl Runtime {
    /// Root file systems and learned worlds.
    pub fn images(&self) -> Vec<ImageView> {
        let code = self.backend().map(|(backend, images)| {
            let view = |id: String| {
                let prefix = format!("{}:", backend.home(&id));
                let image = images.find(id.strip_prefix(&prefix).unwrap_or(&id)).ok();
                let of = |image: &Image| (image.digest.clone(), image.bytes, image.created);
                let (digest, bytes, created) = image.as_ref().map(of).unwrap_or_default();
                ImageView {
                    id,
                    kind: Kind::Sandbox,
                    digest,
                    bytes,
                    created,
                }
            };
            backend.offers().into_iter().map(view).collect()
        });
        let code: Vec<_> = code.unwrap_or_default();
        let learned = self
            .0
            .arena
            .iter()
            .flat_map(|arena| arena.shelf().worlds())
            .filter(|world| !world.is_policy());
        let learned = learned.map(|world| ImageView {
            id: world.id().into(),
            kind: Kind::Match,
            digest: worldline_arena::hex(&world.root()),
            bytes: world.card().bytes,
            created: 0,
        });
        code.into_iter().chain(learned).collect()
    }

    /// What this host gives for code worlds and lacks, backend by backend; or why there are none.
    pub fn reports(&self) -> Result<Vec<Report>, WorldError> {
        Ok(self.backend()?.0.reports())
    }

    /// Snapshots with these words, and this digest if one is given; oldest first.
    pub fn snapshots(&self, metadata: &Metadata, digest: Option<&str>) -> Vec<Snapshot> {
        let registry = self.registry();
        let all = registry.snapshots.values().map(|kept| &kept.record);
        let wanted = |one: &&Snapshot| {
            has(&one.metadata, metadata) && (digest.is_none() || one.digest.as_deref() == digest)
        };
        let mut found: Vec<_> = all.filter(wanted).cloned().collect();
        found.sort_by(|a, b| (a.created, &a.id).cmp(&(b.created, &b.id)));
        found
    }

    /// One snapshot.
    pub fn snapshot_record(&self, id: &str) -> Result<Snapshot, WorldError> {
        Ok(self.kept(id)?.record)
    }

    /// Whether a snapshot would survive this program at this moment. Those of code worlds are written in
    /// the background; those of matches never are.
    pub fn is_durable(&self, snapshot: &Snapshot) -> bool {
        match (&snapshot.source, &self.0.code) {
            (Source::Image, _) => true,
            (Source::Sandbox(own), Ok((backend, _))) => {
                // What is not at hand a former run has kept.
                backend.snapshot(own).is_none_or(|kept| kept.durable)
            }
            _ => false,
        }
    }

    /// Waits until everything that can be kept is kept, before the end of this program.
    pub fn settle(&self) {
        let snapshots = self.snapshots(&Metadata::new(), None);
        for snapshot in snapshots
            .iter()
            .filter(|snapshot| !self.is_durable(snapshot))
        {
            if let (Source::Sandbox(own), Ok((backend, _))) = (&snapshot.source, &self.0.code)
                && let Err(error) = backend.persist(own)
            {
                tracing::error!(snapshot = snapshot.id, %error, "it will not be there at the next start");
            }
        }
        if let Err(error) = self.0.store.flush() {
            tracing::error!(%error, "the next start carries them over");
        }
    }

    /// Worlds with these words, oldest first; live matches are among them.
    pub fn instances(&self, metadata: &Metadata) -> Result<Vec<Instance>, WorldError> {
        self.meet_matches()?;
        let entries: Vec<Arc<Entry>> = self.registry().instances.values().cloned().collect();
        let all = entries.iter().map(|entry| entry.record());
        let mut found: Vec<_> = all.filter(|one| has(&one.metadata, metadata)).collect();
        found.sort_by(|a, b| (a.created, &a.id).cmp(&(b.created, &b.id)));
        Ok(found)
    }

    /// One world.
    pub fn instance(&self, id: &str) -> Result<Instance, WorldError> {
        if id.starts_with(MATCH) {
            self.meet_matches()?;
        }
        Ok(self.entry(id)?.record())
    }

    /// Registers matches that have begun since, and those that have ended as ended.
    fn meet_matches(&self) -> Result<(), WorldError> {
        let Some(arena) = &self.0.arena else {
            return Ok(());
        };
        let live = arena.list();
        let mut registry = self.registry();
        let over = |id: &&String| {
            id.strip_prefix(MATCH)
                .is_some_and(|own| !live.iter().any(|view| view.session.as_str() == own))
        };
        let ended: Vec<String> = registry.instances.keys().filter(over).cloned().collect();
        let mut rows: Vec<Row> = ended
            .iter()
            .flat_map(|id| [collapsed(id), Row::Gone { id: id.clone() }])
            .collect();
        let mut begun = Vec::new();
        for view in live {
            let id = format!("{MATCH}{}", view.session);
            if registry.instances.contains_key(&id) {
                continue;
            }
            let world = Arc::new(LiveMatch {
                arena: arena.clone(),
                id: view.session,
            });
            let entry = Arc::new(Entry::new(live_match(&id, view.world), world));
            rows.extend(instance_rows(&entry, None, None));
            begun.push((id, entry));
        }
        if !rows.is_empty() {
            self.commit(rows)?;
        }
        registry.instances.retain(|id, _| !ended.contains(id));
        registry.instances.extend(begun);
        Ok(())
    }
}

fn live_match(id: &str, image: String) -> Instance {
    Instance {
        id: id.into(),
        kind: Kind::Match,
        created: crate::id::now(),
        status: Status::Ready,
        image,
        backend: ARENA.into(),
        snapshot: None,
        parent: None,
        sizes: Sizes {
            vcpus: 0,
            memory_mib: 0,
            disk_mib: 0,
        },
        metadata: Metadata::new(),
        ttl: Ttl::default(),
        wake_on: WakeOn::default(),
        trit: 0,
        seed: None,
        services: Vec::new(),
    }
}
