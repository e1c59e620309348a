//! Many epochs of one graph in flight, each with counters of its own; maps open subepochs.

use std::collections::HashMap;
use std::sync::Arc;

use super::graph::{Graph, GraphError};
use super::scopes::{NO_SCOPE, Scopes, Way};

/// Most subepochs that one map may open at once.
pub const MAX_ITEMS: u32 = 1 << 24;

/// What a scheduler refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SchedulerError {
    /// The graph is none, or has a cycle.
    Graph(GraphError),
    /// The epoch is in flight already.
    EpochThere(u64),
    /// Numbers from `FIRST_SUBEPOCH` on are given by the scheduler.
    Reserved(u64),
    /// The epoch is not in flight.
    NoEpoch(u64),
    /// There are `limit` epochs in flight, subepochs included.
    TooManyEpochs(usize),
    /// The node has not been handed out, or has ended already.
    NotRunning {
        /// Of which epoch.
        epoch: u64,
        /// The node.
        node: u32,
    },
    /// The node opens no subepochs: nothing is in its scope.
    NoMap(u32),
    /// A map has more than `MAX_ITEMS` items.
    TooManyItems(u32),
}

impl From<GraphError> for SchedulerError {
    fn from(error: GraphError) -> Self {
        Self::Graph(error)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    Ready,
    Running,
    Ended,
}

/// One epoch, or one subepoch of a map.
#[derive(Debug, Default)]
struct Slab {
    map: u32,
    parent: Option<u64>,
    children: Vec<u64>,
    /// For how many edges each node still waits.
    left: Vec<u32>,
    states: Vec<State>,
    /// Nodes that are ready, the next one last of what is before `taken`.
    ready: Vec<u32>,
    taken: usize,
    /// Nodes that have not ended.
    open: usize,
}

/// Hands out the nodes of a graph as they become ready, for many epochs at once.
#[derive(Debug)]
pub struct Scheduler {
    graph: Arc<Graph>,
    scopes: Scopes,
    epochs: HashMap<u64, Slab>,
    idle: Vec<Slab>,
    /// What `left` begins with, by place among the nodes outside of maps.
    fresh: Vec<u32>,
    limit: usize,
    next_subepoch: u64,
}

/// Numbers from here on are of subepochs.
pub const FIRST_SUBEPOCH: u64 = 1 << 63;

impl Scheduler {
    /// Make a scheduler of a graph without cycles.
    ///
    /// `around` names the map whose items each node runs for (`NO_SCOPE`: none); an empty one says
    /// that there are no maps. At most `limit` epochs are in flight, subepochs included.
    ///
    /// # Errors
    /// The graph has a cycle, or `around` does not fit it.
    pub fn new(graph: Arc<Graph>, around: Vec<u32>, limit: usize) -> Result<Self, SchedulerError> {
        graph.topological_sort()?;
        let around = if around.is_empty() {
            vec![NO_SCOPE; graph.nodes() as usize]
        } else {
            around
        };
        let scopes = Scopes::new(&graph, around)?;
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
    /// It is in flight already, too many are, or its number is one of subepochs.
    pub fn add_epoch(&mut self, epoch: u64) -> Result<(), SchedulerError> {
        if epoch >= FIRST_SUBEPOCH {
            return Err(SchedulerError::Reserved(epoch));
        }
        if self.epochs.contains_key(&epoch) {
            return Err(SchedulerError::EpochThere(epoch));
        }
        self.check_room(1)?;
        let mut slab = self.idle.pop().unwrap_or_default();
        slab.begin(NO_SCOPE, None, self.scopes.members(NO_SCOPE), &self.fresh);
        self.epochs.insert(epoch, slab);
        Ok(())
    }

    /// Whether nodes of the epoch, or of its subepochs, have not ended.
    #[must_use]
    pub fn is_active(&self, epoch: u64) -> bool {
        self.epochs
            .get(&epoch)
            .is_some_and(|slab| slab.open > 0 || !slab.children.is_empty())
    }

    /// Forget an epoch and its subepochs; say whether it was in flight.
    pub fn end_epoch(&mut self, epoch: u64) -> bool {
        let Some(slab) = self.epochs.remove(&epoch) else {
            return false;
        };
        if let Some(parent) = slab.parent.and_then(|parent| self.epochs.get_mut(&parent)) {
            parent.children.retain(|&child| child != epoch);
        }
        for &child in &slab.children {
            self.end_epoch(child);
        }
        self.keep(slab);
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

    /// Hand out up to `limit` nodes of an epoch and of all its subepochs, the epoch's own first.
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
        slab.hand_out(limit - found.len().min(limit), &self.scopes, |node| {
            found.push((epoch, node));
        });
        let mut at = 0;
        while found.len() < limit {
            let Some(&child) = self
                .epochs
                .get(&epoch)
                .and_then(|slab| slab.children.get(at))
            else {
                break;
            };
            self.ready_within(child, limit, found)?;
            at += 1;
        }
        Ok(())
    }

    /// Note that nodes that were handed out have ended with all their signals.
    ///
    /// # Errors
    /// One was not handed out or has ended; those before it are noted.
    pub fn done(&mut self, epoch: u64, nodes: &[u32]) -> Result<(), SchedulerError> {
        self.check_epoch(epoch)?;
        for &node in nodes {
            self.end(epoch, node)?;
            self.tell(epoch, node);
        }
        self.tidy(epoch);
        Ok(())
    }

    /// Note that nodes ended without a signal: what waits for them in their epoch never runs.
    ///
    /// Who gathers their subepoch does not wait for it any more. A node need not have been handed
    /// out.
    ///
    /// # Errors
    /// One has ended already; those before it are noted.
    pub fn expire(&mut self, epoch: u64, nodes: &[u32]) -> Result<(), SchedulerError> {
        self.check_epoch(epoch)?;
        for &node in nodes {
            let state = self.state(epoch, node)?;
            if state == State::Ended {
                return Err(SchedulerError::NotRunning { epoch, node });
            }
            self.lapse(epoch, node);
        }
        self.tidy(epoch);
        Ok(())
    }

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
        if map >= self.graph.nodes() || self.scopes.members(map).is_empty() {
            return Err(SchedulerError::NoMap(map));
        }
        if self.state(epoch, map)? != State::Running {
            return Err(SchedulerError::NotRunning { epoch, node: map });
        }
        self.check_room(items as usize)?;
        let first = self.next_subepoch;
        self.next_subepoch += u64::from(items);
        let left = self.left_inside(epoch, map);
        for child in first..first + u64::from(items) {
            let mut slab = self.idle.pop().unwrap_or_default();
            slab.begin(map, Some(epoch), self.scopes.members(map), &left);
            self.epochs.insert(child, slab);
        }
        if let Some(slab) = self.epochs.get_mut(&epoch) {
            slab.children.extend(first..first + u64::from(items));
        }
        // an edge that leaves the map counts once so far; now once for each item
        for index in 0..self.scopes.outgoing[map as usize].len() {
            let gather = self.scopes.outgoing[map as usize][index];
            self.change(epoch, gather, i64::from(items) - 1);
        }
        self.done(epoch, &[map])?;
        Ok(first)
    }

    // ---- inside

    fn check_epoch(&self, epoch: u64) -> Result<(), SchedulerError> {
        if self.epochs.contains_key(&epoch) {
            Ok(())
        } else {
            Err(SchedulerError::NoEpoch(epoch))
        }
    }

    fn check_room(&self, more: usize) -> Result<(), SchedulerError> {
        if self.epochs.len() + more > self.limit {
            return Err(SchedulerError::TooManyEpochs(self.limit));
        }
        Ok(())
    }

    fn state(&self, epoch: u64, node: u32) -> Result<State, SchedulerError> {
        let slab = self
            .epochs
            .get(&epoch)
            .ok_or(SchedulerError::NoEpoch(epoch))?;
        if node >= self.graph.nodes() || self.scopes.of(node) != slab.map {
            return Err(SchedulerError::NotRunning { epoch, node });
        }
        Ok(slab.states[self.scopes.local[node as usize] as usize])
    }

    fn end(&mut self, epoch: u64, node: u32) -> Result<(), SchedulerError> {
        if self.state(epoch, node)? != State::Running {
            return Err(SchedulerError::NotRunning { epoch, node });
        }
        let local = self.scopes.local[node as usize] as usize;
        if let Some(slab) = self.epochs.get_mut(&epoch) {
            slab.states[local] = State::Ended;
            slab.open -= 1;
        }
        Ok(())
    }

    /// Tell all that wait for a node that it has ended.
    fn tell(&mut self, epoch: u64, node: u32) {
        if self.scopes.flat() {
            if let Some(slab) = self.epochs.get_mut(&epoch) {
                for &to in self.graph.successors(node) {
                    slab.change(to as usize, -1);
                }
            }
            return;
        }
        for index in 0..self.graph.successors(node).len() {
            let to = self.graph.successors(node)[index];
            match self.scopes.way(node, to) {
                Some(Way::Same) => self.change(epoch, to, -1),
                Some(Way::Outwards) => {
                    if let Some(parent) = self.epochs.get(&epoch).and_then(|slab| slab.parent) {
                        self.change(parent, to, -1);
                    }
                }
                Some(Way::Inwards) => self.change_inside(epoch, to),
                None => {}
            }
        }
    }

    fn change(&mut self, epoch: u64, node: u32, by: i64) {
        let local = self.scopes.local[node as usize] as usize;
        if let Some(slab) = self.epochs.get_mut(&epoch) {
            slab.change(local, by);
        }
    }

    /// A node outside has ended: every subepoch that has begun waits for one edge less.
    fn change_inside(&mut self, epoch: u64, to: u32) {
        let Some(slab) = self.epochs.get(&epoch) else {
            return;
        };
        for child in slab.children.clone() {
            if self
                .epochs
                .get(&child)
                .is_some_and(|slab| slab.map == self.scopes.of(to))
            {
                self.change(child, to, -1);
            } else {
                self.change_inside(child, to);
            }
        }
    }

    /// For how many edges the nodes of a map's scope wait when its subepochs begin.
    fn left_inside(&self, epoch: u64, map: u32) -> Vec<u32> {
        let members = self.scopes.members(map);
        let mut left: Vec<u32> = members
            .iter()
            .map(|&node| self.graph.indegree()[node as usize])
            .collect();
        for &(from, to) in &self.scopes.incoming[map as usize] {
            // the map itself ends when they have been opened, and tells them then
            if from != map && self.ended_around(epoch, from) {
                left[self.scopes.local[to as usize] as usize] -= 1;
            }
        }
        left
    }

    fn ended_around(&self, epoch: u64, node: u32) -> bool {
        let mut at = Some(epoch);
        while let Some(slab) = at.and_then(|number| self.epochs.get(&number)) {
            if slab.map == self.scopes.of(node) {
                return slab.states[self.scopes.local[node as usize] as usize] == State::Ended;
            }
            at = slab.parent;
        }
        false
    }

    /// End a node and all that waits for it in its epoch, without a signal.
    fn lapse(&mut self, epoch: u64, node: u32) {
        let mut next = vec![(epoch, node)];
        while let Some((epoch, node)) = next.pop() {
            let local = self.scopes.local[node as usize] as usize;
            let Some(slab) = self.epochs.get_mut(&epoch) else {
                continue;
            };
            if slab.states[local] == State::Ended {
                continue;
            }
            slab.states[local] = State::Ended;
            slab.open -= 1;
            let parent = slab.parent;
            let children = slab.children.clone();
            if !self.scopes.members(node).is_empty() {
                // a map that opens nothing: who would gather from it lapses, too
                let outgoing = &self.scopes.outgoing[node as usize];
                next.extend(outgoing.iter().map(|&gather| (epoch, gather)));
            }
            for index in 0..self.graph.successors(node).len() {
                let to = self.graph.successors(node)[index];
                match self.scopes.way(node, to) {
                    Some(Way::Same) => next.push((epoch, to)),
                    Some(Way::Outwards) => {
                        if let Some(parent) = parent {
                            self.change(parent, to, -1);
                        }
                    }
                    Some(Way::Inwards) => self.inside(&children, to, &mut next),
                    None => {}
                }
            }
        }
    }

    /// Find a node in all subepochs that have begun.
    fn inside(&self, children: &[u64], node: u32, found: &mut Vec<(u64, u32)>) {
        for &child in children {
            let Some(slab) = self.epochs.get(&child) else {
                continue;
            };
            if slab.map == self.scopes.of(node) {
                found.push((child, node));
            } else {
                self.inside(&slab.children, node, found);
            }
        }
    }

    /// Forget subepochs in which everything has ended.
    fn tidy(&mut self, epoch: u64) {
        let mut at = Some(epoch);
        while let Some(number) = at {
            let Some(slab) = self.epochs.get(&number) else {
                return;
            };
            for child in slab.children.clone() {
                if self.over(child) {
                    self.end_epoch(child);
                }
            }
            at = self.epochs.get(&number).and_then(|slab| slab.parent);
        }
    }

    fn over(&self, epoch: u64) -> bool {
        self.epochs
            .get(&epoch)
            .is_none_or(|slab| slab.open == 0 && slab.children.is_empty())
    }

    fn keep(&mut self, mut slab: Slab) {
        const IDLE: usize = 64;
        if self.idle.len() < IDLE {
            slab.children.clear();
            self.idle.push(slab);
        }
    }
}

impl Slab {
    fn begin(&mut self, map: u32, parent: Option<u64>, members: &[u32], left: &[u32]) {
        self.map = map;
        self.parent = parent;
        self.children.clear();
        self.left.clear();
        self.left.extend_from_slice(left);
        self.states.clear();
        self.states.resize(left.len(), State::Waiting);
        self.ready.clear();
        self.taken = 0;
        self.open = members.len();
        for local in 0..left.len() {
            if self.left[local] == 0 {
                self.states[local] = State::Ready;
                self.ready.push(u32::try_from(local).unwrap_or(u32::MAX));
            }
        }
    }

    fn change(&mut self, local: usize, by: i64) {
        let left = i64::from(self.left[local]) + by;
        self.left[local] = u32::try_from(left).unwrap_or(0);
        if left == 0 && self.states[local] == State::Waiting {
            self.states[local] = State::Ready;
            self.ready.push(u32::try_from(local).unwrap_or(u32::MAX));
        }
    }

    fn hand_out(&mut self, limit: usize, scopes: &Scopes, mut take: impl FnMut(u32)) {
        let members = scopes.members(self.map);
        let mut taken = 0;
        while taken < limit && self.taken < self.ready.len() {
            let local = self.ready[self.taken] as usize;
            self.taken += 1;
            if self.states[local] == State::Ready {
                self.states[local] = State::Running;
                take(members[local]);
                taken += 1;
            }
        }
        if self.taken == self.ready.len() {
            self.ready.clear();
            self.taken = 0;
        }
    }
}

#[cfg(test)]
#[path = "epochs_tests.rs"]
mod tests;
