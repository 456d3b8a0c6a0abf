//! Machines that stand ready: each has its picture loaded and has not gone on from it. Starting a monitor and
//! loading a picture is most of what a branch costs, so one is kept of each picture that was used last.

use std::collections::VecDeque;
use std::io;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use super::Inner;
use super::monitor::Monitor;
use super::store::Picture;

/// How long the one who just took a machine has the processors to itself.
const PATIENCE: Duration = Duration::from_millis(300);

/// A machine that stands still at the moment of its picture.
pub(super) struct Ready {
    pub(super) id: String,
    pub(super) monitor: Monitor,
    pub(super) line: UnixStream,
}

/// What machines of a picture are made of.
#[derive(Clone)]
pub(super) struct Mould {
    pub(super) image: String,
    pub(super) picture: Picture,
    pub(super) mib: u32,
    pub(super) vcpus: u32,
}

impl Mould {
    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.picture.memory, &other.picture.memory)
            && Arc::ptr_eq(&self.picture.devices, &other.picture.devices)
    }
}

pub(super) struct Pool {
    ready: Mutex<VecDeque<(Mould, Ready)>>,
    wanted: usize,
    orders: Mutex<Option<Sender<Mould>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    /// Keeps at most this many ready; gives what [`fill`] takes.
    pub(super) fn new(wanted: usize) -> (Self, Receiver<Mould>) {
        let (orders, taken) = channel();
        let pool = Self {
            ready: Mutex::default(),
            wanted,
            orders: Mutex::new(Some(orders)),
        };
        (pool, taken)
    }

    /// One of a picture, if one is ready; another takes its place.
    pub(super) fn take(&self, mould: &Mould) -> Option<Ready> {
        let mut ready = lock(&self.ready);
        let at = ready.iter().position(|(other, _)| other.is(mould));
        let found = at.and_then(|at| ready.remove(at));
        drop(ready);
        if self.wanted > 0
            && let Some(orders) = &*lock(&self.orders)
        {
            let _ = orders.send(mould.clone());
        }
        found.map(|(_, one)| one)
    }

    fn put(&self, mould: Mould, one: Ready) {
        let mut ready = lock(&self.ready);
        if lock(&self.orders).is_some() {
            ready.push_front((mould, one));
        } else {
            end(one);
        }
        while ready.len() > self.wanted {
            if let Some((_, oldest)) = ready.pop_back() {
                end(oldest);
            }
        }
    }

    /// Ends all, and makes no more.
    pub(super) fn close(&self) {
        lock(&self.orders).take();
        lock(&self.ready).drain(..).for_each(|(_, one)| end(one));
    }
}

fn end(one: Ready) {
    if let Err(error) = one.monitor.end() {
        tracing::warn!(world = one.id, "ending a machine that stood ready: {error}");
    }
}

/// Makes machines ready until nobody wants any.
pub(super) fn fill(inner: Weak<Inner>, orders: Receiver<Mould>) -> io::Result<()> {
    let work = move || {
        while let Ok(mut mould) = orders.recv() {
            thread::sleep(PATIENCE);
            // Of several orders, the last is what will be wanted next.
            while let Ok(newer) = orders.try_recv() {
                mould = newer;
            }
            let Some(inner) = inner.upgrade() else { return };
            match inner.start(&mould, true) {
                Ok(one) => inner.pool.put(mould, one),
                Err(error) => tracing::warn!("no machine stands ready: {error}"),
            }
        }
    };
    thread::Builder::new()
        .name("machines".into())
        .spawn(work)
        .map(drop)
}
