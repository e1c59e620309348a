//! A store that many threads use at once: epochs are spread over stores with a lock each.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::store::EventStore;

/// Events of many threads, for callers in Rust and for Pythons without a global lock.
///
/// Columns are numbers of the caller's own.
#[derive(Debug)]
pub struct SharedStore<T> {
    shards: Vec<Mutex<EventStore<T>>>,
}

impl<T> SharedStore<T> {
    /// Make a store with at least this many locks.
    #[must_use]
    pub fn new(shards: usize) -> Self {
        let shards = shards.max(1).next_power_of_two();
        Self {
            shards: (0..shards).map(|_| Mutex::default()).collect(),
        }
    }

    /// Add an event.
    pub fn add(&self, epoch: u64, column: u32, value: T) {
        self.shard(epoch).add(epoch, column, value);
    }

    /// Add many events of one epoch and column.
    pub fn extend(&self, epoch: u64, column: u32, values: impl Iterator<Item = T>) {
        self.shard(epoch).extend(epoch, column, values);
    }

    /// The events of one epoch and column.
    #[must_use]
    pub fn get(&self, epoch: u64, column: u32) -> Vec<T>
    where
        T: Clone,
    {
        self.shard(epoch)
            .get(epoch)
            .map_or_else(Vec::new, |slab| slab.column(column).to_vec())
    }

    /// Forget an epoch; return how many events it had.
    #[must_use]
    pub fn clear(&self, epoch: u64) -> usize {
        // what is dropped may call back: not while the lock is held
        let taken = self.shard(epoch).take(epoch);
        taken.map_or(0, |slab| slab.len())
    }

    /// How many events are here.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| hold(shard).len()).sum()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn shard(&self, epoch: u64) -> MutexGuard<'_, EventStore<T>> {
        // neighbouring epochs are in flight together: they go to different locks
        let place = usize::try_from(epoch % self.shards.len() as u64).unwrap_or(0);
        hold(&self.shards[place])
    }
}

fn hold<T>(shard: &Mutex<EventStore<T>>) -> MutexGuard<'_, EventStore<T>> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn threads_add_at_once_and_nothing_is_lost() {
        let store = SharedStore::new(6);
        let each = if cfg!(miri) { 20 } else { 2000 };
        thread::scope(|scope| {
            for thread in 0..4_u64 {
                let store = &store;
                scope.spawn(move || {
                    for number in 0..each {
                        store.add(number % 10, 0, (thread, number));
                        store.extend(number % 10, 1, [(thread, number); 2].into_iter());
                    }
                });
            }
        });
        assert_eq!(store.len() as u64, 4 * each * 3);
        let mut first = store.get(3, 0);
        first.sort_unstable();
        let wanted: Vec<(u64, u64)> = (0..4)
            .flat_map(|t| (0..each).filter(|n| n % 10 == 3).map(move |n| (t, n)))
            .collect();
        assert_eq!(first, wanted);
        assert_eq!(store.clear(3), 3 * wanted.len());
        assert!(store.get(3, 0).is_empty());
        assert!(!store.is_empty());
    }
}
