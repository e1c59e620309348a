//! Slabs by epoch, the least recently used one known at all times.

use std::collections::HashMap;

use super::slab::Slab;

/// Most columns of one store; a slab has room for each up to the highest it holds.
pub const MAX_COLUMNS: usize = 1 << 20;

const NONE: usize = usize::MAX;

#[derive(Debug)]
struct Entry<T> {
    epoch: u64,
    slab: Slab<T>,
    /// Of its last change.
    stamp: u64,
    /// Neighbours by how recently they were used.
    older: usize,
    newer: usize,
}

/// Events of one thread at a time, by epoch and column.
///
/// A column is one signal of one node, numbered by `column`.
#[derive(Debug)]
pub struct EventStore<T> {
    names: HashMap<(Box<str>, Box<str>), u32>,
    columns: Vec<(Box<str>, Box<str>)>,
    places: HashMap<u64, usize>,
    entries: Vec<Entry<T>>,
    idle: Vec<usize>,
    /// The epoch used last, which is most often the next one, too.
    newest: usize,
    oldest: usize,
    events: usize,
    /// The last stamp that was given: it only grows, so that an epoch that was taken out and came
    /// back is known for another one.
    stamp: u64,
}

impl<T> Default for EventStore<T> {
    fn default() -> Self {
        Self {
            names: HashMap::new(),
            columns: Vec::new(),
            places: HashMap::new(),
            entries: Vec::new(),
            idle: Vec::new(),
            newest: NONE,
            oldest: NONE,
            events: 0,
            stamp: 0,
        }
    }
}

impl<T> EventStore<T> {
    /// The number of a node's signal, the same each time; None when there are `MAX_COLUMNS`.
    pub fn column(&mut self, node: &str, signal: &str) -> Option<u32> {
        let name = (Box::from(node), Box::from(signal));
        if let Some(&known) = self.names.get(&name) {
            return Some(known);
        }
        let number = u32::try_from(self.columns.len())
            .ok()
            .filter(|&n| (n as usize) < MAX_COLUMNS)?;
        self.columns.push(name.clone());
        self.names.insert(name, number);
        Some(number)
    }

    /// The node and the signal of each column.
    #[must_use]
    pub fn columns(&self) -> &[(Box<str>, Box<str>)] {
        &self.columns
    }

    /// Add an event. The column must be one of `column`'s.
    pub fn add(&mut self, epoch: u64, column: u32, value: T) {
        let place = self.touch(epoch);
        self.stamp += 1;
        let entry = &mut self.entries[place];
        entry.stamp = self.stamp;
        entry.slab.push(column, value);
        self.events += 1;
    }

    /// Add many events of one epoch and column.
    pub fn extend(&mut self, epoch: u64, column: u32, values: impl Iterator<Item = T>) {
        let place = self.touch(epoch);
        self.stamp += 1;
        let entry = &mut self.entries[place];
        entry.stamp = self.stamp;
        self.events += entry.slab.extend(column, values);
    }

    /// The events of an epoch, which counts as a use.
    pub fn get(&mut self, epoch: u64) -> Option<&Slab<T>> {
        let place = *self.places.get(&epoch)?;
        self.renew(place);
        Some(&self.entries[place].slab)
    }

    /// The events of an epoch, which counts as none.
    #[must_use]
    pub fn peek(&self, epoch: u64) -> Option<&Slab<T>> {
        self.places
            .get(&epoch)
            .map(|&place| &self.entries[place].slab)
    }

    /// A number that an epoch has from one change to the next, and no epoch ever again.
    #[must_use]
    pub fn stamp(&self, epoch: u64) -> Option<u64> {
        self.places
            .get(&epoch)
            .map(|&place| self.entries[place].stamp)
    }

    /// Take an epoch out.
    pub fn take(&mut self, epoch: u64) -> Option<Slab<T>> {
        let place = self.places.remove(&epoch)?;
        self.unlink(place);
        self.idle.push(place);
        let slab = std::mem::take(&mut self.entries[place].slab);
        self.events -= slab.len();
        Some(slab)
    }

    /// The epoch that was not used for the longest time.
    #[must_use]
    pub fn coldest(&self) -> Option<u64> {
        self.entries.get(self.oldest).map(|entry| entry.epoch)
    }

    /// The epochs that are here, in their order.
    #[must_use]
    pub fn epochs(&self) -> Vec<u64> {
        let mut found: Vec<u64> = self.places.keys().copied().collect();
        found.sort_unstable();
        found
    }

    /// How many events are here.
    #[must_use]
    pub fn len(&self) -> usize {
        self.events
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events == 0
    }

    /// Every event, in no order.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.places
            .values()
            .flat_map(|&place| self.entries[place].slab.values())
    }

    fn touch(&mut self, epoch: u64) -> usize {
        if let Some(entry) = self.entries.get(self.newest)
            && entry.epoch == epoch
        {
            return self.newest;
        }
        if let Some(&place) = self.places.get(&epoch) {
            self.renew(place);
            return place;
        }
        let entry = Entry {
            epoch,
            slab: Slab::default(),
            stamp: 0,
            older: NONE,
            newer: NONE,
        };
        let place = if let Some(place) = self.idle.pop() {
            self.entries[place] = entry;
            place
        } else {
            self.entries.push(entry);
            self.entries.len() - 1
        };
        self.places.insert(epoch, place);
        self.link(place);
        place
    }

    fn renew(&mut self, place: usize) {
        if place != self.newest {
            self.unlink(place);
            self.link(place);
        }
    }

    fn link(&mut self, place: usize) {
        self.entries[place].older = self.newest;
        self.entries[place].newer = NONE;
        if self.newest == NONE {
            self.oldest = place;
        } else {
            self.entries[self.newest].newer = place;
        }
        self.newest = place;
    }

    fn unlink(&mut self, place: usize) {
        let (older, newer) = (self.entries[place].older, self.entries[place].newer);
        if older == NONE {
            self.oldest = newer;
        } else {
            self.entries[older].newer = newer;
        }
        if newer == NONE {
            self.newest = older;
        } else {
            self.entries[newer].older = older;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn columns_keep_their_number() {
        let mut store = EventStore::<i32>::default();
        assert_eq!(store.column("a", "value"), Some(0));
        assert_eq!(store.column("a", "n"), Some(1));
        assert_eq!(store.column("a", "value"), Some(0));
        assert_eq!(store.columns()[1], (Box::from("a"), Box::from("n")));
    }

    #[test]
    fn the_coldest_is_the_one_not_used_for_longest() {
        let mut store = EventStore::default();
        for epoch in [5, 6, 7] {
            store.add(epoch, 0, 'x');
        }
        assert_eq!(store.coldest(), Some(5));
        store.get(5);
        assert_eq!(store.coldest(), Some(6));
        assert!(store.peek(6).is_some());
        assert_eq!(store.coldest(), Some(6));
        assert_eq!(store.take(6).map(|slab| slab.len()), Some(1));
        assert_eq!(store.coldest(), Some(7));
        store.add(7, 0, 'y');
        assert_eq!(store.coldest(), Some(5));
        assert_eq!((store.len(), store.epochs()), (3, vec![5, 7]));
    }

    #[test]
    fn an_epoch_that_was_taken_out_and_came_back_is_another_one() {
        let mut store = EventStore::default();
        store.add(1, 0, 'x');
        let before = store.stamp(1);
        store.take(1);
        assert_eq!(store.stamp(1), None);
        store.add(1, 0, 'y');
        assert_ne!(store.stamp(1), before);
        let added = store.stamp(1);
        store.extend(1, 0, ['z'].into_iter());
        assert_ne!(store.stamp(1), added);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Add(u64, u32),
        Extend(u64, u32, u8),
        Get(u64),
        Take(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let (epoch, column) = (0_u64..6, 0_u32..4);
        prop::collection::vec(
            prop_oneof![
                4 => (epoch.clone(), column.clone()).prop_map(|(e, c)| Step::Add(e, c)),
                2 => (epoch.clone(), column, any::<u8>()).prop_map(|(e, c, n)| Step::Extend(e, c, n % 5)),
                1 => epoch.clone().prop_map(Step::Get),
                1 => epoch.prop_map(Step::Take),
            ],
            0..80,
        )
    }

    proptest! {
        /// Against a map of vectors, and a list of epochs by use.
        #[test]
        fn it_holds_what_was_added(steps in steps()) {
            let mut store = EventStore::default();
            let mut model: BTreeMap<u64, Vec<(u32, usize)>> = BTreeMap::new();
            let mut used: Vec<u64> = Vec::new();
            for (number, step) in steps.into_iter().enumerate() {
                let use_it = |epoch: u64, used: &mut Vec<u64>| {
                    used.retain(|&other| other != epoch);
                    used.push(epoch);
                };
                match step {
                    Step::Add(epoch, column) => {
                        store.add(epoch, column, number);
                        model.entry(epoch).or_default().push((column, number));
                        use_it(epoch, &mut used);
                    }
                    Step::Extend(epoch, column, n) => {
                        store.extend(epoch, column, (0..n).map(|_| number));
                        model.entry(epoch).or_default().extend((0..n).map(|_| (column, number)));
                        use_it(epoch, &mut used);
                    }
                    Step::Get(epoch) => {
                        if store.get(epoch).is_some() {
                            use_it(epoch, &mut used);
                        }
                    }
                    Step::Take(epoch) => {
                        let taken = store.take(epoch);
                        prop_assert_eq!(taken.is_some(), model.remove(&epoch).is_some());
                        used.retain(|&other| other != epoch);
                    }
                }
                prop_assert_eq!(store.coldest(), used.first().copied());
                prop_assert_eq!(store.epochs(), model.keys().copied().collect::<Vec<_>>());
                prop_assert_eq!(store.len(), model.values().map(Vec::len).sum::<usize>());
            }
            for (&epoch, events) in &model {
                let slab = store.peek(epoch).unwrap();
                let found: Vec<(u32, usize)> = slab.iter().map(|(c, &v)| (c, v)).collect();
                prop_assert_eq!(&found, events);
                for column in 0..4 {
                    let wanted: Vec<usize> =
                        events.iter().filter(|e| e.0 == column).map(|e| e.1).collect();
                    prop_assert_eq!(slab.column(column), &wanted[..]);
                }
            }
        }
    }
}
