//! The counters of one epoch, or of one subepoch of a map.

use std::collections::VecDeque;

use super::scopes::{NO_SCOPE, Scopes};

/// What is not a count of edges that a node still waits for.
pub(super) const READY: u32 = u32::MAX;
/// It was handed out.
pub(super) const RUNNING: u32 = u32::MAX - 1;
/// It ended with all its signals.
pub(super) const ENDED: u32 = u32::MAX - 2;
/// It ended without a signal.
pub(super) const LAPSED: u32 = u32::MAX - 3;
/// Counts are below.
pub(super) const NO_COUNT: u32 = u32::MAX - 4;

/// Nodes are counted by their place among those of their scope.
#[derive(Debug)]
pub(super) struct Slab {
    /// Whose items it is for.
    pub(super) map: u32,
    /// The epoch that it is a part of; itself, if it is no subepoch.
    pub(super) root: u64,
    /// The epoch of its map, and its place among `children` there.
    pub(super) parent: Option<(u64, usize)>,
    pub(super) children: Vec<u64>,
    /// For how many edges each node still waits (one that leaves a map counts for each item), or
    /// what became of it.
    pub(super) states: Vec<u32>,
    /// Nodes that are ready, in the order in which they became so.
    pub(super) ready: VecDeque<u32>,
    /// Nodes that have not ended.
    pub(super) open: usize,
    /// Subepochs of a root that have ready nodes.
    pub(super) queue: VecDeque<u64>,
    /// Whether it is in its root's queue.
    pub(super) queued: bool,
}

impl Default for Slab {
    fn default() -> Self {
        Self {
            map: NO_SCOPE,
            root: 0,
            parent: None,
            children: Vec::new(),
            states: Vec::new(),
            ready: VecDeque::new(),
            open: 0,
            queue: VecDeque::new(),
            queued: false,
        }
    }
}

impl Slab {
    /// Begin with nodes that wait for `left` edges each.
    pub(super) fn begin(
        &mut self,
        map: u32,
        root: u64,
        parent: Option<(u64, usize)>,
        left: &[u32],
    ) {
        self.map = map;
        self.root = root;
        self.parent = parent;
        self.children.clear();
        self.states.clear();
        self.states.extend_from_slice(left);
        self.ready.clear();
        self.open = left.len();
        self.queue.clear();
        self.queued = false;
        for (local, state) in (0..).zip(&mut self.states) {
            if *state == 0 {
                *state = READY;
                self.ready.push_back(local);
            }
        }
    }

    /// Whether everything has ended.
    pub(super) fn over(&self) -> bool {
        self.open == 0 && self.children.is_empty()
    }

    /// A node waits for one edge less.
    pub(super) fn less(&mut self, local: u32) {
        let state = &mut self.states[local as usize];
        if *state == 1 {
            *state = READY;
            self.ready.push_back(local);
        } else if *state < NO_COUNT {
            *state -= 1;
        }
    }

    /// Hand out up to `limit` nodes that are ready.
    pub(super) fn hand_out(&mut self, limit: usize, scopes: &Scopes, mut take: impl FnMut(u32)) {
        let members = scopes.members(self.map);
        let mut taken = 0;
        while taken < limit
            && let Some(local) = self.ready.pop_front()
        {
            // one that was told to end without a signal is not handed out any more
            let state = &mut self.states[local as usize];
            if *state == READY {
                *state = RUNNING;
                take(members[local as usize]);
                taken += 1;
            }
        }
    }
}
