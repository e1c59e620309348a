//! Which bytes of a stretch are in use: a stack of free regions for each class over a first-fit map.
//!
//! What was used last is used first, and addresses never written are taken only when nothing below
//! fits, so that few pages are touched: the first write to a page costs more than the allocation.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::PoolError;
use super::class::{CLASSES, class_of, lines};

/// Bytes in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Region {
    /// Where it starts.
    pub offset: usize,
    /// How many bytes it has: a multiple of [`ALIGN`](super::ALIGN).
    pub size: usize,
}

/// What became of the takes of one class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClassUse {
    /// Bytes of a region of this class.
    pub size: usize,
    /// Served by a region of the class that was used before.
    pub hits: u64,
    /// Cut from a free stretch, or refused.
    pub misses: u64,
}

/// What an allocator has handed out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Use {
    /// Bytes there are.
    pub capacity: usize,
    /// Bytes in use.
    pub used: usize,
    /// Most bytes ever in use at once.
    pub high_water: usize,
    /// Bytes from the start up to the end of the highest region since the last trim.
    pub touched: usize,
    /// Regions in use.
    pub buffers: usize,
    /// The classes that were asked for, smallest first.
    pub classes: Vec<ClassUse>,
}

/// Spreads offsets, which are multiples of 64, over a table; nobody hostile chooses them.
#[derive(Default)]
struct OffsetHasher(u64);

impl Hasher for OffsetHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_usize(usize::from(*byte));
        }
    }

    fn write_usize(&mut self, number: usize) {
        let mixed = (self.0 ^ number as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = mixed ^ (mixed >> 32);
    }
}

#[derive(Default, Clone)]
struct Class {
    free: Vec<usize>,
    size: usize,
    hits: u64,
    misses: u64,
}

/// Hands out regions of `start..stop`.
pub struct Allocator {
    start: usize,
    stop: usize,
    used: usize,
    high_water: usize,
    /// Nothing at or above this was handed out since the last trim.
    frontier: usize,
    stretches: Vec<(usize, usize)>,
    classes: Vec<Class>,
    /// Regions on the stacks of the classes.
    stacked: usize,
    live: HashMap<usize, usize, BuildHasherDefault<OffsetHasher>>,
}

impl Allocator {
    /// Hand out what lies in `start..stop`; offsets are multiples of 64 if `start` is.
    #[must_use]
    pub fn new(start: usize, stop: usize) -> Self {
        let stop = stop.max(start);
        Self {
            start,
            stop,
            used: 0,
            high_water: 0,
            frontier: start,
            stretches: vec![(start, stop)],
            classes: vec![Class::default(); CLASSES],
            stacked: 0,
            live: HashMap::default(),
        }
    }

    /// Bytes there are.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.stop - self.start
    }

    /// Bytes in use.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used
    }

    /// Take at least `size` bytes.
    ///
    /// # Errors
    /// [`PoolError::Empty`] for no bytes, [`PoolError::Full`] when no free stretch is long enough.
    pub fn take(&mut self, size: usize) -> Result<Region, PoolError> {
        if size == 0 {
            return Err(PoolError::Empty);
        }
        if size > self.capacity() {
            return Err(self.full(size));
        }
        let (number, rounded) = class_of(size);
        let class = &mut self.classes[number];
        class.size = rounded;
        let region = if let Some(offset) = class.free.pop() {
            class.hits += 1;
            self.stacked -= 1;
            Region {
                offset,
                size: rounded,
            }
        } else {
            class.misses += 1;
            self.cut(rounded)
                .or_else(|| self.cut(lines(size)))
                .ok_or_else(|| self.full(size))?
        };
        self.live.insert(region.offset, region.size);
        self.used += region.size;
        self.high_water = self.high_water.max(self.used);
        Ok(region)
    }

    /// Give back what [`take`](Self::take) gave.
    ///
    /// # Errors
    /// [`PoolError::Unknown`] when the region is not in use; nothing changes then.
    pub fn give(&mut self, region: Region) -> Result<(), PoolError> {
        if self.live.get(&region.offset) != Some(&region.size) {
            return Err(PoolError::Unknown(region));
        }
        self.live.remove(&region.offset);
        self.used -= region.size;
        let (number, rounded) = class_of(region.size);
        if rounded == region.size {
            let class = &mut self.classes[number];
            class.size = rounded;
            class.free.push(region.offset);
            self.stacked += 1;
        } else {
            self.merge(vec![(region.offset, region.offset + region.size)]);
        }
        Ok(())
    }

    /// The sizes of what is in use, largest first.
    #[must_use]
    pub fn live(&self) -> Vec<usize> {
        let mut sizes: Vec<usize> = self.live.values().copied().collect();
        sizes.sort_unstable_by(|one, other| other.cmp(one));
        sizes
    }

    /// Count the first `bytes` as touched already.
    pub fn touch(&mut self, bytes: usize) {
        self.frontier = self.frontier.max(self.stop.min(self.start + bytes));
    }

    /// The free stretches above the first `keep` bytes that were in use since the last trim: what
    /// lies in them may be forgotten.
    pub fn trim(&mut self, keep: usize) -> Vec<(usize, usize)> {
        self.coalesce();
        let floor = self.start.saturating_add(keep).min(self.stop);
        let idle = self
            .stretches
            .iter()
            .map(|&(start, stop)| (start.max(floor), stop.min(self.frontier)))
            .filter(|(start, stop)| start < stop)
            .collect();
        let highest = match self.stretches.last() {
            Some(&(start, stop)) if stop == self.stop => start,
            _ => self.stop,
        };
        self.frontier = self.frontier.min(highest.max(floor));
        idle
    }

    /// What has been handed out so far.
    #[must_use]
    pub fn usage(&self) -> Use {
        let asked = self.classes.iter().filter(|c| c.hits + c.misses > 0);
        Use {
            capacity: self.capacity(),
            used: self.used,
            high_water: self.high_water,
            touched: self.frontier - self.start,
            buffers: self.live.len(),
            classes: asked
                .map(|class| ClassUse {
                    size: class.size,
                    hits: class.hits,
                    misses: class.misses,
                })
                .collect(),
        }
    }

    fn full(&self, size: usize) -> PoolError {
        PoolError::Full {
            size: size.checked_next_multiple_of(super::ALIGN).unwrap_or(size),
            capacity: self.capacity(),
            used: self.used,
        }
    }

    /// Cut `size` bytes from the lowest stretch that has them, coalescing before new pages are used.
    fn cut(&mut self, size: usize) -> Option<Region> {
        let mut found = self.first_fit(size);
        let touched = found.is_some_and(|i| self.stretches[i].0 + size <= self.frontier);
        if !touched && self.stacked > 0 {
            self.coalesce();
            found = self.first_fit(size);
        }
        let index = found?;
        let (offset, stop) = self.stretches[index];
        if offset + size == stop {
            self.stretches.remove(index);
        } else {
            self.stretches[index].0 = offset + size;
        }
        self.frontier = self.frontier.max(offset + size);
        Some(Region { offset, size })
    }

    fn first_fit(&self, size: usize) -> Option<usize> {
        self.stretches
            .iter()
            .position(|(start, stop)| stop - start >= size)
    }

    /// Empty the stacks into the map.
    fn coalesce(&mut self) {
        let mut back = Vec::with_capacity(self.stacked);
        for class in &mut self.classes {
            let size = class.size;
            back.extend(class.free.drain(..).map(|offset| (offset, offset + size)));
        }
        self.stacked = 0;
        self.merge(back);
    }

    fn merge(&mut self, back: Vec<(usize, usize)>) {
        self.stretches.extend(back);
        self.stretches.sort_unstable();
        self.stretches.dedup_by(|next, last| {
            let touches = last.1 == next.0;
            if touches {
                last.1 = next.1;
            }
            touches
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_region_that_is_not_in_use_is_refused() {
        let mut allocator = Allocator::new(0, 4096);
        let region = allocator.take(100).unwrap();
        allocator.give(region).unwrap();

        assert_eq!(allocator.give(region), Err(PoolError::Unknown(region)));
        assert_eq!(allocator.take(0), Err(PoolError::Empty));
        assert!(allocator.take(usize::MAX).is_err());
    }

    #[test]
    fn freed_neighbours_serve_a_larger_one_before_new_pages_are_touched() {
        let mut allocator = Allocator::new(0, 1 << 20);
        let small: Vec<_> = (0..64).map(|_| allocator.take(1024).unwrap()).collect();
        for region in small {
            allocator.give(region).unwrap();
        }

        assert_eq!(allocator.take(60_000).unwrap().offset, 0);
        assert_eq!(allocator.usage().touched, 64 * 1024);
    }

    #[test]
    fn what_fits_only_without_rounding_still_fits() {
        let mut allocator = Allocator::new(0, 4160);
        let region = allocator.take(4160).unwrap();
        assert_eq!(region.size, 4160);
        allocator.give(region).unwrap();
        assert_eq!(allocator.take(4160).unwrap().offset, 0);
    }

    #[test]
    fn a_trim_names_what_was_touched_and_is_free() {
        let mut allocator = Allocator::new(0, 1 << 20);
        let (low, high) = (allocator.take(4096).unwrap(), allocator.take(8192).unwrap());
        allocator.give(low).unwrap();
        assert_eq!(allocator.trim(1024), vec![(1024, 4096)]);
        allocator.give(high).unwrap();
        assert_eq!(allocator.trim(0), vec![(0, 12_288)]);
        assert_eq!(allocator.trim(0), vec![]);
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: if cfg!(miri) { 4 } else { 256 },
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn regions_never_overlap_and_all_comes_back(
            steps in proptest::collection::vec((any::<bool>(), 1usize..6000), 0..200)
        ) {
            let mut allocator = Allocator::new(64, 64 + 65_536);
            let mut taken: Vec<Region> = Vec::new();
            for (take, number) in steps {
                if take || taken.is_empty() {
                    match allocator.take(number) {
                        Ok(region) => {
                            prop_assert!(region.offset % 64 == 0 && region.size >= number);
                            prop_assert!(region.offset >= 64);
                            prop_assert!(region.offset + region.size <= 64 + 65_536);
                            let apart = taken.iter().all(|other| {
                                other.offset + other.size <= region.offset
                                    || region.offset + region.size <= other.offset
                            });
                            prop_assert!(apart, "{:?} overlaps", region);
                            taken.push(region);
                        }
                        Err(error) => prop_assert!(!taken.is_empty(), "{error}"),
                    }
                } else {
                    let region = taken.swap_remove(number % taken.len());
                    allocator.give(region).unwrap();
                }
                prop_assert_eq!(allocator.used(), taken.iter().map(|r| r.size).sum::<usize>());
            }
            for region in taken {
                allocator.give(region).unwrap();
            }
            prop_assert_eq!(allocator.take(65_536).unwrap().offset, 64);
        }
    }
}
