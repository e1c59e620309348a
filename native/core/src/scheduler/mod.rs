//! Which nodes of a graph may run: topological order, levels, cycles, and many epochs in flight.

mod epochs;
mod error;
mod graph;
mod maps;
mod scopes;
mod slab;

pub use epochs::Scheduler;
pub use error::{FIRST_SUBEPOCH, MAX_ITEMS, SchedulerError};
pub use graph::{Graph, GraphError, MAX_EDGES};
pub use scopes::{MAX_DEPTH, NO_SCOPE, Scopes};
