//! The same work on every core, with an answer that does not depend on how many there are.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use indicatif::{ProgressBar, ProgressStyle};

/// A bar for `count` pieces of work, hidden where there is no terminal.
pub(crate) fn progress(count: usize, what: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {bar:30} {pos}/{len}, {eta} left")
        .expect("the template is well-formed");
    ProgressBar::new(count as u64)
        .with_style(style)
        .with_message(what.to_owned())
}

/// `work(state, 0)`, `work(state, 1)`, …, `work(state, count - 1)` in order, each thread with a
/// `state` of its own.
pub(crate) fn map<S, T: Send>(
    count: usize,
    new_state: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, usize) -> T + Sync,
) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::with_capacity(count));
    let threads = thread::available_parallelism()
        .map_or(1, usize::from)
        .min(count.max(1));
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut state = new_state();
                loop {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    if i >= count {
                        break;
                    }
                    let result = work(&mut state, i);
                    results.lock().expect("no worker panics").push((i, result));
                }
            });
        }
    });
    let mut results = results.into_inner().expect("no worker panics");
    results.sort_by_key(|(i, _)| *i);
    results.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn answers_come_in_order_and_none_is_lost() {
        for count in [0, 1, 1000] {
            let squares = super::map(count, || (), |(), i| i * i);
            assert_eq!(squares, (0..count).map(|i| i * i).collect::<Vec<_>>());
        }
    }
}
