//! Maps open subepochs, and gathers wait for all of them.

use std::collections::HashMap;

use super::epochs::Scheduler;
use super::error::{MAX_ITEMS, SchedulerError};
use super::scopes::Way;
use super::slab::{ENDED, LAPSED, NO_COUNT, RUNNING};

impl Scheduler {
    /// Open subepochs for the items of a map that was handed out, and note that the map ended.
    ///
    /// Returns the number of the first; the others follow it.
    ///
    /// # Errors
    /// The node is no map or was not handed out, or there would be too many epochs.
    pub fn expand(&mut self, epoch: u64, map: u32, items: u32) -> Result<u64, SchedulerError> {
        if items > MAX_ITEMS {
            return Err(SchedulerError::TooManyItems(items));
        }
        if !self.scopes.is_map(map) {
            return Err(SchedulerError::NoMap(map));
        }
        if self.state(epoch, map)? != RUNNING {
            return Err(SchedulerError::NotRunning { epoch, node: map });
        }
        self.check_room(items as usize)?;
        self.check_counts(epoch, map, items)?;
        let first = self.next_subepoch;
        self.next_subepoch += u64::from(items);
        let children = first..first + u64::from(items);
        let (left, lapsed) = self.left_inside(epoch, map);
        let root = self.epochs.get(&epoch).map_or(epoch, |slab| slab.root);
        let start = self
            .epochs
            .get(&epoch)
            .map_or(0, |slab| slab.children.len());
        for (place, child) in (start..).zip(children.clone()) {
            let mut slab = self.idle.pop().unwrap_or_default();
            slab.begin(map, root, Some((epoch, place)), &left);
            self.epochs.insert(child, slab);
        }
        if let Some(slab) = self.epochs.get_mut(&epoch) {
            slab.children.extend(children.clone());
        }
        self.multiply(epoch, map, items);
        for child in children.clone() {
            self.announce(child);
        }
        self.end(epoch, &[map])?;
        if !lapsed.is_empty() {
            let all = children.flat_map(|child| lapsed.iter().map(move |&node| (child, node)));
            self.lapse(all.collect());
        }
        Ok(first)
    }

    /// Refuse so many items that what gathers them would wait for more edges than are counted.
    fn check_counts(&self, epoch: u64, map: u32, items: u32) -> Result<(), SchedulerError> {
        let gathers = &self.scopes.outgoing[map as usize];
        let most = u64::from(items) * gathers.len() as u64 + self.graph.edges() as u64;
        if most < u64::from(NO_COUNT) {
            return Ok(());
        }
        // seldom: count exactly
        let mut more: HashMap<u32, u64> = HashMap::new();
        for &gather in gathers {
            *more.entry(gather).or_default() += u64::from(items);
        }
        for (gather, more) in more {
            let left = self.state(epoch, gather)?;
            if left < NO_COUNT && u64::from(left) + more >= u64::from(NO_COUNT) {
                return Err(SchedulerError::TooManyItems(items));
            }
        }
        Ok(())
    }

    /// An edge that leaves a map counts once until it is expanded; then once for each item.
    fn multiply(&mut self, epoch: u64, map: u32, items: u32) {
        let Some(slab) = self.epochs.get_mut(&epoch) else {
            return;
        };
        for &gather in &self.scopes.outgoing[map as usize] {
            let Some(local) = self.scopes.local(slab.map, gather) else {
                continue;
            };
            if items == 0 {
                slab.less(local);
            } else if slab.states[local as usize] < NO_COUNT {
                slab.states[local as usize] += items - 1;
            }
        }
        self.announce(epoch);
    }

    /// `ready_within` of a subepoch: its own subepochs, one after the other.
    pub(super) fn ready_below(
        &mut self,
        epoch: u64,
        limit: usize,
        found: &mut Vec<(u64, u32)>,
    ) -> Result<(), SchedulerError> {
        let mut at = 0;
        while found.len() < limit {
            let children = self.epochs.get(&epoch).map(|slab| &slab.children);
            let Some(&child) = children.and_then(|children| children.get(at)) else {
                break;
            };
            let mut inner = Vec::new();
            self.ready_within(child, limit - found.len(), &mut inner)?;
            found.extend(inner);
            at += 1;
        }
        Ok(())
    }

    /// Enter a subepoch with ready nodes into the queue of its epoch, unless it is there.
    pub(super) fn announce(&mut self, epoch: u64) {
        let Some(slab) = self.epochs.get_mut(&epoch) else {
            return;
        };
        if slab.queued || slab.parent.is_none() || slab.ready.is_empty() {
            return;
        }
        slab.queued = true;
        let root = slab.root;
        if let Some(slab) = self.epochs.get_mut(&root) {
            slab.queue.push_back(epoch);
        }
    }

    /// Tell a node outside of the (sub)epoch, or in its subepochs, that one it waits for has ended.
    pub(super) fn tell(&mut self, epoch: u64, from: u32, to: u32) {
        match self.scopes.way(from, to) {
            Some(Way::Same) => self.change(epoch, to),
            Some(Way::Outwards) => {
                if let Some((parent, _)) = self.epochs.get(&epoch).and_then(|slab| slab.parent) {
                    self.change(parent, to);
                }
            }
            Some(Way::Inwards) => {
                let mut found = Vec::new();
                self.inside(epoch, to, &mut found);
                for (child, to) in found {
                    self.change(child, to);
                }
            }
            None => {}
        }
    }

    /// For how many edges the nodes of a map's scope wait when its subepochs begin, and which of
    /// them wait for one that has lapsed.
    fn left_inside(&self, epoch: u64, map: u32) -> (Vec<u32>, Vec<u32>) {
        let members = self.scopes.members(map);
        let mut left: Vec<u32> = members
            .iter()
            .map(|&node| self.graph.indegree()[node as usize])
            .collect();
        let mut lapsed = Vec::new();
        for &(from, to) in &self.scopes.incoming[map as usize] {
            match self.state_around(epoch, from) {
                // the map itself ends when they have been opened, and tells them then
                Some(ENDED) => {
                    if let Some(local) = self.scopes.local(map, to) {
                        left[local as usize] -= 1;
                    }
                }
                Some(LAPSED) => lapsed.push(to),
                _ => {}
            }
        }
        (left, lapsed)
    }

    fn state_around(&self, epoch: u64, node: u32) -> Option<u32> {
        let mut at = Some(epoch);
        while let Some(slab) = at.and_then(|number| self.epochs.get(&number)) {
            if let Some(local) = self.scopes.local(slab.map, node) {
                return Some(slab.states[local as usize]);
            }
            at = slab.parent.map(|(parent, _)| parent);
        }
        None
    }

    /// Find a node in all subepochs that have begun.
    pub(super) fn inside(&self, epoch: u64, node: u32, found: &mut Vec<(u64, u32)>) {
        let mut next = vec![epoch];
        while let Some(slab) = next.pop().and_then(|epoch| self.epochs.get(&epoch)) {
            for &child in &slab.children {
                match self.epochs.get(&child) {
                    Some(slab) if slab.map == self.scopes.of(node) => found.push((child, node)),
                    Some(slab) if !slab.children.is_empty() => next.push(child),
                    _ => {}
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "maps_tests.rs"]
mod tests;
