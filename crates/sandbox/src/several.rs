//! Several backends behind one set of verbs. A new world's image says which: `BACKEND:IMAGE`, or an image
//! alone for the first. A snapshot goes on where it was taken.

use std::io::{self, Read, Write};
use std::sync::Arc;

use crate::error::{CreateError, StoreError};
use crate::model::{Reaped, Report, Snapshot, Spec};
use crate::{Backend, Sandbox};

/// Backends, the one that is taken by default first.
pub struct Several {
    first: Arc<dyn Backend>,
    others: Vec<Arc<dyn Backend>>,
    /// What is told of those that this host does not run.
    lacking: Vec<Report>,
    reaped: Reaped,
}

impl Several {
    /// The first is taken where nothing else is asked for.
    pub fn new(first: Arc<dyn Backend>, others: Vec<Arc<dyn Backend>>) -> Self {
        let mut reaped = first.reaped().clone();
        for other in &others {
            reaped.worlds += other.reaped().worlds;
            reaped
                .unreadable
                .extend_from_slice(&other.reaped().unreadable);
        }
        Self {
            first,
            others,
            lacking: Vec::new(),
            reaped,
        }
    }

    /// Tells of backends too that this host does not run.
    pub fn lacking(self, lacking: Vec<Report>) -> Self {
        Self { lacking, ..self }
    }

    fn all(&self) -> impl Iterator<Item = &Arc<dyn Backend>> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// The backend of an image, and the image's name there. What stands before a colon may be a part of an
    /// image's name, if no backend is called so.
    fn of_image<'a>(&self, image: Option<&'a str>) -> (&Arc<dyn Backend>, Option<&'a str>) {
        let named = image.and_then(|image| image.split_once(':'));
        let found = named.and_then(|(name, image)| {
            let backend = self.all().find(|backend| backend.name() == name)?;
            Some((backend, Some(image).filter(|image| !image.is_empty())))
        });
        found.unwrap_or((&self.first, image))
    }

    fn of_snapshot(&self, id: &str) -> Option<&Arc<dyn Backend>> {
        self.all().find(|backend| backend.snapshot(id).is_some())
    }

    fn keeper(&self, id: &str) -> Result<&Arc<dyn Backend>, StoreError> {
        self.of_snapshot(id)
            .ok_or_else(|| StoreError::NoSnapshot(id.into()))
    }
}

impl Backend for Several {
    fn name(&self) -> &'static str {
        self.first.name()
    }

    fn runs(&self, name: &str) -> bool {
        self.all().any(|backend| backend.runs(name))
    }

    fn report(&self) -> Report {
        self.first.report()
    }

    fn reports(&self) -> Vec<Report> {
        let open = self.all().flat_map(|one| one.reports());
        open.chain(self.lacking.clone()).collect()
    }

    fn reaped(&self) -> &Reaped {
        &self.reaped
    }

    fn home(&self, image: &str) -> &'static str {
        self.of_image(Some(image)).0.name()
    }

    fn offers(&self) -> Vec<String> {
        let of_others = self.others.iter().flat_map(|one| {
            let all = one.offers().into_iter();
            all.map(|image| format!("{}:{image}", one.name()))
        });
        self.first.offers().into_iter().chain(of_others).collect()
    }

    fn image(&self, name: Option<&str>) -> Result<String, CreateError> {
        let (backend, image) = self.of_image(name);
        let image = backend.image(image)?;
        if Arc::ptr_eq(backend, &self.first) {
            return Ok(image);
        }
        Ok(format!("{}:{image}", backend.name()))
    }

    fn create(&self, spec: &Spec) -> Result<Arc<dyn Sandbox>, CreateError> {
        let (backend, image) = self.of_image(spec.image.as_deref());
        let image = image.map(str::to_owned);
        backend.create(&Spec {
            image,
            ..spec.clone()
        })
    }

    fn restore(&self, snapshot: &str, spec: &Spec) -> Result<Arc<dyn Sandbox>, CreateError> {
        let backend = self.of_snapshot(snapshot);
        let backend = backend.ok_or_else(|| CreateError::NoSnapshot(snapshot.into()))?;
        backend.restore(snapshot, spec)
    }

    fn snapshots(&self) -> Vec<Snapshot> {
        let mut all: Vec<Snapshot> = self.all().flat_map(|one| one.snapshots()).collect();
        all.sort_by_key(|snapshot| snapshot.created);
        all
    }

    fn snapshot(&self, id: &str) -> Option<Snapshot> {
        self.all().find_map(|backend| backend.snapshot(id))
    }

    fn persist(&self, id: &str) -> Result<Snapshot, StoreError> {
        self.keeper(id)?.persist(id)
    }

    fn remove_snapshot(&self, id: &str) -> Result<(), StoreError> {
        self.keeper(id)?.remove_snapshot(id)
    }

    fn export(&self, id: &str, to: &mut dyn Write) -> Result<(), StoreError> {
        self.keeper(id)?.export(id, to)
    }

    fn archive(&self) -> &'static str {
        self.first.archive()
    }

    fn import(&self, from: &mut dyn Read) -> Result<Snapshot, StoreError> {
        /// Where a tar archive has the name of its first file.
        const NAME: usize = 100;
        let mut head = Vec::new();
        from.take(NAME as u64)
            .read_to_end(&mut head)
            .map_err(|source| StoreError::Io {
                doing: "reading an archive",
                source,
            })?;
        let backend = self
            .all()
            .find(|backend| head.starts_with(backend.archive().as_bytes()))
            .unwrap_or(&self.first);
        backend.import(&mut io::Cursor::new(&head).chain(from))
    }

    fn collect(&self) -> Result<u64, StoreError> {
        self.all().map(|backend| backend.collect()).sum()
    }
}
