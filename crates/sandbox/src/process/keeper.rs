//! Writes snapshots to the disk behind everyone's back.

use std::io;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use super::store::Store;
use crate::error::StoreError;

/// A thread that makes snapshots last, one after the other.
pub(super) struct Keeper(Mutex<Option<(Sender<String>, JoinHandle<()>)>>);

impl Keeper {
    pub(super) fn start(store: Arc<Store>) -> io::Result<Self> {
        let (sender, receiver) = channel::<String>();
        let work = move || {
            for id in receiver {
                match store.keep(&id) {
                    Ok(_) | Err(StoreError::NoSnapshot(_)) => {}
                    Err(error) => {
                        tracing::error!(snapshot = id, "will not survive a restart: {error}")
                    }
                }
            }
        };
        let thread = thread::Builder::new().name("keeper".into()).spawn(work)?;
        Ok(Self(Mutex::new(Some((sender, thread)))))
    }

    /// Has a snapshot written soon.
    pub(super) fn keep(&self, id: &str) {
        if let Some((sender, _)) = &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = sender.send(id.to_owned());
        }
    }

    /// Waits until all are written.
    pub(super) fn finish(&self) {
        let taken = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((sender, thread)) = taken {
            drop(sender);
            let _ = thread.join();
        }
    }
}
