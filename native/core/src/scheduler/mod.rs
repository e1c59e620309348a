//! Which nodes of a graph may run: topological order, levels, cycles, and many epochs in flight.

mod epochs;
mod graph;
mod scopes;

pub use epochs::{Scheduler, SchedulerError};
pub use graph::{Graph, GraphError};
pub use scopes::{NO_SCOPE, Scopes};
