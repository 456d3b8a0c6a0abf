//! Things that stand ready, for whoever would wait too long while one is made.

use std::collections::VecDeque;
use std::fmt::Display;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use crate::limits::MAX_READY;

type Make<T, E> = Box<dyn Fn() -> Result<T, E> + Send + Sync>;

pub(crate) struct Pool<T, E> {
    make: Make<T, E>,
    wanted: usize,
    stock: Mutex<Stock<T>>,
    taken: Condvar,
    filler: Mutex<Option<JoinHandle<()>>>,
}

struct Stock<T> {
    ready: VecDeque<T>,
    is_closed: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T: Send + 'static, E: Display + 'static> Pool<T, E> {
    /// Keeps this many ready from now on, and no more than [`MAX_READY`].
    pub(crate) fn new(
        wanted: usize,
        make: impl Fn() -> Result<T, E> + Send + Sync + 'static,
    ) -> io::Result<Arc<Self>> {
        let pool = Arc::new(Self {
            make: Box::new(make),
            wanted: wanted.min(MAX_READY),
            stock: Mutex::new(Stock {
                ready: VecDeque::new(),
                is_closed: false,
            }),
            taken: Condvar::new(),
            filler: Mutex::default(),
        });
        if wanted > 0 {
            let filling = Arc::clone(&pool);
            let thread = thread::Builder::new().name("pool".into());
            *lock(&pool.filler) = Some(thread.spawn(move || filling.fill())?);
        }
        Ok(pool)
    }

    /// One that is ready, or one made now. Another takes its place.
    pub(crate) fn take(&self) -> Result<T, E> {
        let ready = lock(&self.stock).ready.pop_front();
        self.taken.notify_one();
        ready.map_or_else(|| (self.make)(), Ok)
    }

    fn fill(&self) {
        loop {
            let full = |stock: &mut Stock<T>| stock.ready.len() >= self.wanted && !stock.is_closed;
            let stock = self.taken.wait_while(lock(&self.stock), full);
            if stock.unwrap_or_else(PoisonError::into_inner).is_closed {
                return;
            }
            match (self.make)() {
                Ok(one) => lock(&self.stock).ready.push_back(one),
                Err(error) => {
                    tracing::warn!("nothing stands ready: {error}");
                    self.wait_for_another();
                }
            }
        }
    }

    /// What failed is tried again when somebody takes one, and not before.
    fn wait_for_another(&self) {
        let stock = lock(&self.stock);
        if !stock.is_closed {
            drop(self.taken.wait(stock));
        }
    }

    /// Makes no more ready; gives those that nobody took.
    pub(crate) fn close(&self) -> VecDeque<T> {
        lock(&self.stock).is_closed = true;
        self.taken.notify_all();
        // It may be in the middle of one.
        if let Some(filler) = lock(&self.filler).take() {
            let _ = filler.join();
        }
        std::mem::take(&mut lock(&self.stock).ready)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::{Duration, Instant};

    fn until(what: impl Fn() -> bool) {
        let begun = Instant::now();
        while !what() {
            assert!(begun.elapsed() < Duration::from_secs(60));
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn what_is_taken_is_replaced_and_the_rest_is_given_back() {
        let made = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&made);
        let pool = Pool::new(2, move || {
            Ok::<_, String>(count.fetch_add(1, Ordering::SeqCst))
        });
        let pool = pool.unwrap();
        until(|| lock(&pool.stock).ready.len() == 2);
        assert_eq!(pool.take(), Ok(0));
        until(|| lock(&pool.stock).ready.len() == 2);
        assert_eq!(pool.close(), [1, 2]);
        assert_eq!(pool.take(), Ok(3));
        assert_eq!(made.load(Ordering::SeqCst), 4);
    }

    #[test]
    fn what_cannot_be_made_is_tried_again_when_one_is_taken() {
        let tried = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&tried);
        let make = move || match count.fetch_add(1, Ordering::SeqCst) {
            number @ 3.. => Ok(number),
            number => Err(number),
        };
        let pool = Pool::new(1, make).unwrap();
        until(|| {
            let stands = !lock(&pool.stock).ready.is_empty();
            if !stands {
                let _ = pool.take();
            }
            stands
        });
        assert!(pool.close().pop_front() >= Some(3));
    }

    #[test]
    fn without_a_wish_nothing_stands_ready() {
        let pool = Pool::new(0, || Ok::<_, String>(())).unwrap();
        assert_eq!(pool.take(), Ok(()));
        assert!(pool.close().is_empty());
    }
}
