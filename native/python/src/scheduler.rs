//! Binds `noob_cloud_core::scheduler`: `FastScheduler`.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use noob_cloud_core_crate::scheduler::{Graph, GraphError, NO_SCOPE, Scheduler, SchedulerError};
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::{PyKeyError, PyOverflowError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyInt, PyList, PyRange};

/// Epochs in flight at once, subepochs included, unless the caller says otherwise.
const EPOCHS: usize = 1 << 20;

/// Which nodes of a graph may run, for many epochs at once.
#[pyclass(frozen, module = "noob_cloud_core")]
pub struct FastScheduler {
    graph: Arc<Graph>,
    scheduler: Mutex<Scheduler>,
    /// What each node is called: a name, or its number.
    labels: Vec<Py<PyAny>>,
    /// The number of each name; None where numbers are the names.
    numbers: Option<Py<PyDict>>,
}

#[pymethods]
impl FastScheduler {
    #[new]
    #[pyo3(signature = (nodes, edges, *, scopes = None, limit = EPOCHS))]
    fn new(
        py: Python<'_>,
        nodes: &Bound<'_, PyAny>,
        edges: &Bound<'_, PyAny>,
        scopes: Option<&Bound<'_, PyDict>>,
        limit: usize,
    ) -> PyResult<Self> {
        let (labels, numbers) = if nodes.is_instance_of::<PyInt>() {
            let count: u32 = nodes.extract()?;
            let labels = (0..count).map(|n| Ok(n.into_pyobject(py)?.into_any().unbind()));
            (labels.collect::<PyResult<Vec<_>>>()?, None)
        } else {
            let numbers = PyDict::new(py);
            let mut labels = Vec::new();
            for name in nodes.try_iter()? {
                let name = name?;
                if numbers.contains(&name)? {
                    return Err(PyValueError::new_err(format!(
                        "two nodes are called {name}"
                    )));
                }
                numbers.set_item(&name, labels.len())?;
                labels.push(name.unbind());
            }
            (labels, Some(numbers.unbind()))
        };
        let count = u32::try_from(labels.len())
            .map_err(|_| PyOverflowError::new_err("a graph has up to 2^32 - 1 nodes"))?;
        let number = |name: &Bound<'_, PyAny>| number_of(numbers.as_ref(), name);
        let pairs = pairs(edges, number)?;
        let graph = py
            .detach(|| Graph::new(count, &pairs))
            .map_err(|e| graph_error(py, &labels, e))?;
        let mut around = Vec::new();
        if let Some(scopes) = scopes {
            around = vec![NO_SCOPE; labels.len()];
            for (node, map) in scopes {
                let node = number(&node)? as usize;
                let map = number(&map)?;
                *around
                    .get_mut(node)
                    .ok_or_else(|| PyKeyError::new_err(node))? = map;
            }
        }
        let graph = Arc::new(graph);
        let scheduler = Scheduler::new(Arc::clone(&graph), around, limit)
            .map_err(|error| scheduler_error(py, &labels, error))?;
        Ok(Self {
            graph,
            scheduler: Mutex::new(scheduler),
            labels,
            numbers,
        })
    }

    /// How many nodes there are.
    fn __len__(&self) -> usize {
        self.labels.len()
    }

    /// How many edges there are.
    #[getter]
    fn edges(&self) -> usize {
        self.graph.edges()
    }

    fn topological_sort<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let order = py
            .detach(|| self.graph.topological_sort())
            .map_err(|error| graph_error(py, &self.labels, error))?;
        self.list(py, &order)
    }

    fn levels<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyList>>> {
        let levels = py
            .detach(|| self.graph.levels())
            .map_err(|error| graph_error(py, &self.labels, error))?;
        levels.iter().map(|level| self.list(py, level)).collect()
    }

    fn add_epoch(&self, py: Python<'_>, epoch: u64) -> PyResult<()> {
        self.hold()
            .add_epoch(epoch)
            .map_err(|error| scheduler_error(py, &self.labels, error))
    }

    fn is_active(&self, epoch: u64) -> bool {
        self.hold().is_active(epoch)
    }

    fn end_epoch(&self, epoch: u64) -> bool {
        self.hold().end_epoch(epoch)
    }

    /// Epochs in flight, subepochs included.
    #[getter]
    fn in_flight(&self) -> usize {
        self.hold().in_flight()
    }

    #[pyo3(signature = (epoch, limit = usize::MAX, /))]
    fn get_ready<'py>(
        &self,
        py: Python<'py>,
        epoch: u64,
        limit: usize,
    ) -> PyResult<Bound<'py, PyList>> {
        let mut found = Vec::new();
        let told = self.hold().ready(epoch, limit, &mut found);
        told.map_err(|error| scheduler_error(py, &self.labels, error))?;
        self.list(py, &found)
    }

    #[pyo3(signature = (epoch, limit = usize::MAX, /))]
    fn get_ready_within(
        &self,
        py: Python<'_>,
        epoch: u64,
        limit: usize,
    ) -> PyResult<Vec<(u64, Py<PyAny>)>> {
        let mut found = Vec::new();
        let told = self.hold().ready_within(epoch, limit, &mut found);
        told.map_err(|error| scheduler_error(py, &self.labels, error))?;
        let label = |node: u32| self.labels[node as usize].clone_ref(py);
        Ok(found
            .into_iter()
            .map(|(epoch, node)| (epoch, label(node)))
            .collect())
    }

    #[pyo3(signature = (epoch, nodes, /))]
    fn done(&self, py: Python<'_>, epoch: u64, nodes: &Bound<'_, PyAny>) -> PyResult<()> {
        let nodes = self.numbers(nodes)?;
        let told = self.hold().done(epoch, &nodes);
        told.map_err(|error| scheduler_error(py, &self.labels, error))
    }

    #[pyo3(signature = (epoch, nodes, limit = usize::MAX, /))]
    fn done_and_ready<'py>(
        &self,
        py: Python<'py>,
        epoch: u64,
        nodes: &Bound<'_, PyAny>,
        limit: usize,
    ) -> PyResult<Bound<'py, PyList>> {
        let nodes = self.numbers(nodes)?;
        let mut found = Vec::new();
        let told = {
            let mut scheduler = self.hold();
            scheduler
                .done(epoch, &nodes)
                .and_then(|()| scheduler.ready(epoch, limit, &mut found))
        };
        told.map_err(|error| scheduler_error(py, &self.labels, error))?;
        self.list(py, &found)
    }

    #[pyo3(signature = (epoch, nodes, /))]
    fn expire(&self, py: Python<'_>, epoch: u64, nodes: &Bound<'_, PyAny>) -> PyResult<()> {
        let nodes = self.numbers(nodes)?;
        let told = self.hold().expire(epoch, &nodes);
        told.map_err(|error| scheduler_error(py, &self.labels, error))
    }

    #[pyo3(signature = (epoch, node, items, /))]
    fn expand<'py>(
        &self,
        py: Python<'py>,
        epoch: u64,
        node: &Bound<'_, PyAny>,
        items: u32,
    ) -> PyResult<Bound<'py, PyRange>> {
        let node = number_of(self.numbers.as_ref(), node)?;
        let told = self.hold().expand(epoch, node, items);
        let first = told.map_err(|error| scheduler_error(py, &self.labels, error))?;
        let range = py
            .get_type::<PyRange>()
            .call1((first, first + u64::from(items)))?;
        Ok(range.cast_into()?)
    }
}

impl FastScheduler {
    fn hold(&self) -> MutexGuard<'_, Scheduler> {
        // nothing that is done while it is held waits for the interpreter
        self.scheduler
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn list<'py>(&self, py: Python<'py>, nodes: &[u32]) -> PyResult<Bound<'py, PyList>> {
        PyList::new(
            py,
            nodes
                .iter()
                .map(|&node| self.labels[node as usize].bind(py)),
        )
    }

    fn numbers(&self, nodes: &Bound<'_, PyAny>) -> PyResult<Vec<u32>> {
        if let Ok(list) = nodes.cast::<PyList>() {
            let mut found = Vec::with_capacity(list.len());
            for node in list {
                found.push(number_of(self.numbers.as_ref(), &node)?);
            }
            return Ok(found);
        }
        nodes
            .try_iter()?
            .map(|node| number_of(self.numbers.as_ref(), &node?))
            .collect()
    }
}

fn number_of(numbers: Option<&Py<PyDict>>, node: &Bound<'_, PyAny>) -> PyResult<u32> {
    match numbers {
        None => node.extract(),
        Some(numbers) => numbers
            .bind(node.py())
            .get_item(node)?
            .ok_or_else(|| PyKeyError::new_err(format!("no node is called {node}")))?
            .extract(),
    }
}

/// Read edges: a buffer of 32 bit numbers, two for each edge, or pairs of nodes.
fn pairs(
    edges: &Bound<'_, PyAny>,
    number: impl Fn(&Bound<'_, PyAny>) -> PyResult<u32>,
) -> PyResult<Vec<(u32, u32)>> {
    if let Ok(buffer) = PyBuffer::<u32>::get(edges) {
        let flat = buffer.to_vec(edges.py())?;
        let (pairs, []) = flat.as_chunks::<2>() else {
            return Err(PyValueError::new_err(format!(
                "a buffer of edges has two numbers for each, not {} in all",
                flat.len()
            )));
        };
        return Ok(pairs.iter().map(|&[from, to]| (from, to)).collect());
    }
    let mut found = Vec::with_capacity(edges.len().unwrap_or(0));
    for edge in edges.try_iter()? {
        let (from, to): (Bound<'_, PyAny>, Bound<'_, PyAny>) = edge?.extract()?;
        found.push((number(&from)?, number(&to)?));
    }
    Ok(found)
}

fn named(py: Python<'_>, labels: &[Py<PyAny>], node: u32) -> String {
    labels
        .get(node as usize)
        .map_or_else(|| node.to_string(), |label| label.bind(py).to_string())
}

fn graph_error(py: Python<'_>, labels: &[Py<PyAny>], error: GraphError) -> PyErr {
    match error {
        GraphError::NoSuchNode { node, nodes } => PyValueError::new_err(format!(
            "an edge or a scope names node {node}; there are {nodes}"
        )),
        GraphError::TooManyEdges(count) => {
            PyOverflowError::new_err(format!("a graph has up to 2^32 - 1 edges, not {count}"))
        }
        GraphError::Cycle(nodes) => cycle_error(py, labels, &nodes),
    }
}

/// The standard library's error for it: whoever knows `graphlib` knows how to read it.
fn cycle_error(py: Python<'_>, labels: &[Py<PyAny>], nodes: &[u32]) -> PyErr {
    let around = || nodes.iter().chain(nodes.first());
    let text: Vec<String> = around().map(|&node| named(py, labels, node)).collect();
    let made = PyModule::import(py, "graphlib").and_then(|home| {
        let list = PyList::new(py, around().filter_map(|&n| labels.get(n as usize)))?;
        let message = format!("nodes are in a cycle: {}", text.join(" -> "));
        home.getattr("CycleError")?.call1((message, list))
    });
    match made {
        Ok(error) => PyErr::from_value(error),
        Err(error) => error,
    }
}

fn scheduler_error(py: Python<'_>, labels: &[Py<PyAny>], error: SchedulerError) -> PyErr {
    let name = |node| named(py, labels, node);
    match error {
        SchedulerError::Graph(error) => graph_error(py, labels, error),
        SchedulerError::EpochThere(epoch) => {
            PyValueError::new_err(format!("epoch {epoch} is in flight already"))
        }
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
            name(node)
        )),
        SchedulerError::NoMap(node) => PyValueError::new_err(format!(
            "node {} is no map: nothing is in its scope",
            name(node)
        )),
        SchedulerError::TooManyItems(items) => {
            PyOverflowError::new_err(format!("a map has up to 2^24 items, not {items}"))
        }
    }
}

/// Add the class of the scheduler to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<FastScheduler>()
}
