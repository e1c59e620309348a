//! The core's refusals as exceptions.

use noob_cloud_core_crate::scheduler::{
    GraphError, MAX_DEPTH, MAX_EDGES, MAX_ITEMS, SchedulerError,
};
use pyo3::exceptions::{PyKeyError, PyOverflowError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyList;

use super::names::Names;

/// Why there is no such graph, or no order of it.
pub fn graph_error(py: Python<'_>, names: &Names, error: GraphError) -> PyErr {
    match error {
        GraphError::NoSuchNode { node, nodes } => PyValueError::new_err(format!(
            "an edge or a scope names node {node}; there are {nodes}"
        )),
        GraphError::TooManyEdges(count) => {
            PyOverflowError::new_err(format!("a graph has up to {MAX_EDGES} edges, not {count}"))
        }
        GraphError::Cycle(nodes) => cycle_error(py, names, &nodes),
        GraphError::AroundItself(node) => PyValueError::new_err(format!(
            "node {} is in its own scope, or in more than {MAX_DEPTH}",
            names.text(py, node)
        )),
        GraphError::Sideways { from, to } => PyValueError::new_err(format!(
            "the edge {} -> {} leaves more than one scope at once, or goes from one into another \
             beside it; gather one map at a time",
            names.text(py, from),
            names.text(py, to)
        )),
    }
}

/// The standard library's error for it: whoever knows `graphlib` knows how to read it.
fn cycle_error(py: Python<'_>, names: &Names, nodes: &[u32]) -> PyErr {
    let around: Vec<u32> = nodes.iter().chain(nodes.first()).copied().collect();
    let text: Vec<String> = around.iter().map(|&node| names.text(py, node)).collect();
    let message = format!("nodes are in a cycle: {}", text.join(" -> "));
    let made = PyModule::import(py, "graphlib").and_then(|home| {
        let list: Bound<'_, PyList> = names.list(py, &around)?;
        home.getattr("CycleError")?.call1((message, list))
    });
    made.map_or_else(|error| error, PyErr::from_value)
}

/// Why a scheduler refuses.
pub fn scheduler_error(py: Python<'_>, names: &Names, error: SchedulerError) -> PyErr {
    match error {
        SchedulerError::Graph(error) => graph_error(py, names, error),
        SchedulerError::EpochThere(epoch) => PyValueError::new_err(format!(
            "epoch {epoch} is in flight already; reset({epoch}) begins it again"
        )),
        SchedulerError::Reserved(epoch) => PyValueError::new_err(format!(
            "epoch {epoch} is not below 2^63: numbers from there on are of subepochs"
        )),
        SchedulerError::NoEpoch(epoch) => {
            PyKeyError::new_err(format!("epoch {epoch} is not in flight"))
        }
        SchedulerError::TooManyEpochs(limit) => PyOverflowError::new_err(format!(
            "there may be {limit} epochs in flight, subepochs included (limit=)"
        )),
        SchedulerError::NotRunning { epoch, node } => PyValueError::new_err(format!(
            "node {} of epoch {epoch} has not been handed out, or has ended already",
            names.text(py, node)
        )),
        SchedulerError::IsMap(node) => PyValueError::new_err(format!(
            "node {0} is a map: expand(epoch, {0}, items) ends it, also one of no items",
            names.text(py, node)
        )),
        SchedulerError::NoMap(node) => PyValueError::new_err(format!(
            "node {} is no map: nothing is in its scope",
            names.text(py, node)
        )),
        SchedulerError::TooManyItems(items) => {
            PyOverflowError::new_err(format!("a map has up to {MAX_ITEMS} items, not {items}"))
        }
    }
}
