//! Many epochs of one graph in flight, each with counters of its own; maps open subepochs.

use std::collections::HashMap;
use std::sync::Arc;

use super::error::{FIRST_SUBEPOCH, SchedulerError};
use super::graph::Graph;
use super::scopes::{NO_SCOPE, Scopes, Way};
use super::slab::{ENDED, LAPSED, RUNNING, Slab};

/// Slabs that are kept for epochs to come.
const IDLE: usize = 64;

/// Hands out the nodes of a graph as they become ready, for many epochs at once.
#[derive(Debug)]
pub struct Scheduler {
    pub(super) graph: Arc<Graph>,
    pub(super) scopes: Scopes,
    pub(super) epochs: HashMap<u64, Slab>,
    pub(super) idle: Vec<Slab>,
    /// For how many edges the nodes outside of maps wait at first.
    pub(super) fresh: Vec<u32>,
    pub(super) limit: usize,
    pub(super) next_subepoch: u64,
}

impl Scheduler {
    /// Make a scheduler of a graph without cycles.
    ///
    /// `around` names the map whose items each node runs for (`NO_SCOPE`: none); an empty one says
    /// that there are no maps. At most `limit` epochs are in flight, subepochs included.
    ///
    /// # Errors
    /// The graph has a cycle, or would have one with an edge from each map to the nodes that run for
    /// its items; or `around` does not fit it.
    pub fn new(graph: Arc<Graph>, around: Vec<u32>, limit: usize) -> Result<Self, SchedulerError> {
        graph.topological_sort()?;
        let around = if around.is_empty() {
            vec![NO_SCOPE; graph.nodes() as usize]
        } else {
            around
        };
        let scopes = Scopes::new(&graph, around)?;
        scopes.check_order(&graph)?;
        let fresh = scopes
            .members(NO_SCOPE)
            .iter()
            .map(|&n| graph.indegree()[n as usize])
            .collect();
        Ok(Self {
            graph,
            scopes,
            epochs: HashMap::new(),
            idle: Vec::new(),
            fresh,
            limit,
            next_subepoch: FIRST_SUBEPOCH,
        })
    }

    /// The graph.
    #[must_use]
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// How many epochs are in flight, subepochs included.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.epochs.len()
    }

    /// Begin an epoch.
    ///
    /// # Errors
    /// It is in flight already, its number is of subepochs, or too many are in flight.
    pub fn add_epoch(&mut self, epoch: u64) -> Result<(), SchedulerError> {
        if epoch >= FIRST_SUBEPOCH {
            return Err(SchedulerError::Reserved(epoch));
        }
        if self.epochs.contains_key(&epoch) {
            return Err(SchedulerError::EpochThere(epoch));
        }
        self.check_room(1)?;
        let mut slab = self.idle.pop().unwrap_or_default();
        slab.begin(NO_SCOPE, epoch, None, &self.fresh);
        self.epochs.insert(epoch, slab);
        Ok(())
    }

    /// Begin an epoch that is in flight again: nothing of it has been handed out or has ended.
    ///
    /// # Errors
    /// It is not in flight, or is a subepoch: those begin with their map.
    pub fn reset(&mut self, epoch: u64) -> Result<(), SchedulerError> {
        if !self.epochs.contains_key(&epoch) {
            return Err(SchedulerError::NoEpoch(epoch));
        }
        if epoch >= FIRST_SUBEPOCH {
            return Err(SchedulerError::Reserved(epoch));
        }
        self.forget(epoch);
        self.add_epoch(epoch)
    }

    /// Whether nodes of the epoch, or of its subepochs, have not ended.
    #[must_use]
    pub fn is_active(&self, epoch: u64) -> bool {
        self.epochs.get(&epoch).is_some_and(|slab| !slab.over())
    }

    /// Forget an epoch and its subepochs; say whether it was in flight.
    ///
    /// Who gathers a subepoch does not wait for it any more.
    pub fn end_epoch(&mut self, epoch: u64) -> bool {
        let Some(slab) = self.epochs.get(&epoch) else {
            return false;
        };
        if slab.parent.is_some() {
            let open: Vec<_> = self
                .scopes
                .members(slab.map)
                .iter()
                .map(|&n| (epoch, n))
                .collect();
            self.lapse(open);
        }
        self.forget(epoch);
        true
    }

    /// Hand out up to `limit` nodes of one (sub)epoch that are ready, first come, first served.
    ///
    /// # Errors
    /// It is not in flight.
    pub fn ready(
        &mut self,
        epoch: u64,
        limit: usize,
        found: &mut Vec<u32>,
    ) -> Result<(), SchedulerError> {
        let slab = self
            .epochs
            .get_mut(&epoch)
            .ok_or(SchedulerError::NoEpoch(epoch))?;
        slab.hand_out(limit, &self.scopes, |node| found.push(node));
        Ok(())
    }

    /// Hand out up to `limit` nodes of an epoch and of all its subepochs: the epoch's own first,
    /// then those of the subepoch that has been ready for longest.
    ///
    /// # Errors
    /// It is not in flight.
    pub fn ready_within(
        &mut self,
        epoch: u64,
        limit: usize,
        found: &mut Vec<(u64, u32)>,
    ) -> Result<(), SchedulerError> {
        let slab = self
            .epochs
            .get_mut(&epoch)
            .ok_or(SchedulerError::NoEpoch(epoch))?;
        slab.hand_out(limit, &self.scopes, |node| found.push((epoch, node)));
        if slab.parent.is_some() {
            return self.ready_below(epoch, limit, found);
        }
        while found.len() < limit {
            let Some(&child) = self.epochs.get(&epoch).and_then(|slab| slab.queue.front()) else {
                break;
            };
            if let Some(inner) = self.epochs.get_mut(&child) {
                let more = limit - found.len();
                inner.hand_out(more, &self.scopes, |node| found.push((child, node)));
                if !inner.ready.is_empty() {
                    break; // there is no room for the rest of it
                }
                inner.queued = false;
            }
            if let Some(slab) = self.epochs.get_mut(&epoch) {
                slab.queue.pop_front();
            }
        }
        Ok(())
    }

    /// Note that nodes that were handed out have ended with all their signals.
    ///
    /// # Errors
    /// One was not handed out or has ended; those before it are noted. One is a map, which `expand`
    /// ends: then none is.
    pub fn done(&mut self, epoch: u64, nodes: &[u32]) -> Result<(), SchedulerError> {
        if self.scopes.any
            && let Some(&map) = nodes.iter().find(|&&node| self.scopes.is_map(node))
        {
            return Err(SchedulerError::IsMap(map));
        }
        self.end(epoch, nodes)
    }

    /// Note that nodes ended without a signal: what waits for them in their epoch never runs.
    ///
    /// Who gathers their subepoch does not wait for it any more. A node need not have been handed
    /// out.
    ///
    /// # Errors
    /// One has ended already; those before it are noted.
    pub fn expire(&mut self, epoch: u64, nodes: &[u32]) -> Result<(), SchedulerError> {
        for &node in nodes {
            if matches!(self.state(epoch, node)?, ENDED | LAPSED) {
                return Err(SchedulerError::NotRunning { epoch, node });
            }
            self.lapse(vec![(epoch, node)]);
        }
        Ok(())
    }

    // ---- inside

    pub(super) fn end(&mut self, epoch: u64, nodes: &[u32]) -> Result<(), SchedulerError> {
        let Self {
            graph,
            scopes,
            epochs,
            ..
        } = self;
        let slab = epochs
            .get_mut(&epoch)
            .ok_or(SchedulerError::NoEpoch(epoch))?;
        let mut told = Ok(());
        let mut far = Vec::new();
        for &node in nodes {
            let Some(local) = scopes
                .local(slab.map, node)
                .filter(|&local| slab.states[local as usize] == RUNNING)
            else {
                told = Err(SchedulerError::NotRunning { epoch, node });
                break;
            };
            slab.states[local as usize] = ENDED;
            slab.open -= 1;
            if !scopes.any {
                // without maps a node's place is its number
                for &to in graph.successors(node) {
                    slab.less(to);
                }
                continue;
            }
            for &to in graph.successors(node) {
                match scopes.local(slab.map, to) {
                    Some(local) => slab.less(local),
                    None => far.push((node, to)),
                }
            }
        }
        self.announce(epoch);
        for (from, to) in far {
            self.tell(epoch, from, to);
        }
        self.tidy(epoch);
        told
    }

    pub(super) fn check_room(&self, more: usize) -> Result<(), SchedulerError> {
        if self.epochs.len() + more > self.limit {
            return Err(SchedulerError::TooManyEpochs(self.limit));
        }
        Ok(())
    }

    pub(super) fn state(&self, epoch: u64, node: u32) -> Result<u32, SchedulerError> {
        let slab = self
            .epochs
            .get(&epoch)
            .ok_or(SchedulerError::NoEpoch(epoch))?;
        let local = self.scopes.local(slab.map, node);
        local
            .map(|local| slab.states[local as usize])
            .ok_or(SchedulerError::NotRunning { epoch, node })
    }

    pub(super) fn change(&mut self, epoch: u64, node: u32) {
        if let Some(slab) = self.epochs.get_mut(&epoch)
            && let Some(local) = self.scopes.local(slab.map, node)
        {
            slab.less(local);
            self.announce(epoch);
        }
    }

    /// End nodes and all that waits for them in their epoch, without a signal.
    pub(super) fn lapse(&mut self, mut next: Vec<(u64, u32)>) {
        let mut touched = Vec::new();
        while let Some((epoch, node)) = next.pop() {
            let Some(slab) = self.epochs.get_mut(&epoch) else {
                continue;
            };
            let Some(local) = self.scopes.local(slab.map, node) else {
                continue;
            };
            if matches!(slab.states[local as usize], ENDED | LAPSED) {
                continue;
            }
            slab.states[local as usize] = LAPSED;
            slab.open -= 1;
            if touched.last() != Some(&epoch) {
                touched.push(epoch);
            }
            // a map that opens nothing: who would gather from it lapses, too
            let gathers = &self.scopes.outgoing[node as usize];
            next.extend(gathers.iter().map(|&gather| (epoch, gather)));
            for index in 0..self.graph.successors(node).len() {
                let to = self.graph.successors(node)[index];
                match self.scopes.way(node, to) {
                    Some(Way::Same) => next.push((epoch, to)),
                    Some(Way::Outwards) => self.tell(epoch, node, to),
                    Some(Way::Inwards) => self.inside(epoch, to, &mut next),
                    None => {}
                }
            }
        }
        for epoch in touched {
            self.tidy(epoch);
        }
    }

    /// Forget a subepoch in which everything has ended, and those around it likewise.
    pub(super) fn tidy(&mut self, epoch: u64) {
        let mut at = epoch;
        while let Some(slab) = self.epochs.get(&at)
            && let Some((parent, _)) = slab.parent
            && slab.over()
        {
            self.forget(at);
            at = parent;
        }
    }

    /// Forget an epoch and all its subepochs.
    pub(super) fn forget(&mut self, epoch: u64) {
        if let Some((parent, place)) = self.epochs.get(&epoch).and_then(|slab| slab.parent)
            && let Some(slab) = self.epochs.get_mut(&parent)
        {
            slab.children.swap_remove(place);
            let moved = slab.children.get(place).copied();
            if let Some(slab) = moved.and_then(|child| self.epochs.get_mut(&child)) {
                slab.parent = Some((parent, place));
            }
        }
        let mut next = vec![epoch];
        while let Some(slab) = next.pop().and_then(|epoch| self.epochs.remove(&epoch)) {
            next.extend_from_slice(&slab.children);
            if self.idle.len() < IDLE {
                self.idle.push(slab);
            }
        }
    }
}

#[cfg(test)]
#[path = "epochs_tests.rs"]
mod tests;
