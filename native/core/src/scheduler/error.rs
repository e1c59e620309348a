//! What a scheduler refuses.

use super::graph::GraphError;

/// Most subepochs that one map may open at once.
pub const MAX_ITEMS: u32 = 1 << 24;

/// Numbers from here on are of subepochs.
pub const FIRST_SUBEPOCH: u64 = 1 << 63;

/// What a scheduler refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SchedulerError {
    /// The graph is none, or has a cycle.
    Graph(GraphError),
    /// The epoch is in flight already.
    EpochThere(u64),
    /// Numbers from `FIRST_SUBEPOCH` on are given by `expand`.
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
    /// The node is a map: it ends when `expand` is told how many items it has.
    IsMap(u32),
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
