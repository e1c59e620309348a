//! Binds `noob_cloud_core::scheduler`: `FastScheduler`.

mod errors;
mod names;

use std::sync::{Arc, Mutex};

use noob_cloud_core_crate::scheduler::{Graph, NO_SCOPE, Scheduler, SchedulerError};
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::sync::MutexExt;
use pyo3::types::{PyDict, PyList, PyRange};

use errors::{graph_error, scheduler_error};
use names::Names;

/// Epochs in flight at once, subepochs included, unless the caller says otherwise.
const EPOCHS: usize = 1 << 20;

/// From so many nodes on other threads run meanwhile; below, it is done sooner than said.
const LONG: usize = 4096;

/// Which nodes of a graph may run, for many epochs at once.
#[pyclass(frozen, module = "noob_cloud_core")]
pub struct FastScheduler {
    graph: Arc<Graph>,
    /// Nothing that is done while it is held waits for the interpreter.
    scheduler: Mutex<Scheduler>,
    names: Names,
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
        let names = Names::new(nodes)?;
        let pairs = pairs(edges, &names)?;
        let mut around = Vec::new();
        if let Some(scopes) = scopes {
            around = vec![NO_SCOPE; names.len()];
            for (node, map) in scopes {
                around[names.number(&node)? as usize] = names.number(&map)?;
            }
        }
        let count = u32::try_from(names.len()).unwrap_or(u32::MAX);
        let made = py.detach(|| {
            let graph = Arc::new(Graph::new(count, &pairs)?);
            let scheduler = Scheduler::new(Arc::clone(&graph), around, limit)?;
            Ok((graph, scheduler))
        });
        let (graph, scheduler) = made.map_err(|error| scheduler_error(py, &names, error))?;
        Ok(Self {
            graph,
            scheduler: Mutex::new(scheduler),
            names,
        })
    }

    /// How many nodes there are.
    fn __len__(&self) -> usize {
        self.names.len()
    }

    /// How many edges there are.
    #[getter]
    fn edges(&self) -> usize {
        self.graph.edges()
    }

    /// Epochs in flight, subepochs included.
    #[getter]
    fn in_flight(&self, py: Python<'_>) -> usize {
        self.with(py, |scheduler| scheduler.in_flight())
    }

    fn topological_sort<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let order = py
            .detach(|| self.graph.topological_sort())
            .map_err(|error| graph_error(py, &self.names, error))?;
        self.names.list(py, &order)
    }

    fn levels<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyList>>> {
        let levels = py
            .detach(|| self.graph.levels())
            .map_err(|error| graph_error(py, &self.names, error))?;
        levels
            .iter()
            .map(|level| self.names.list(py, level))
            .collect()
    }

    #[pyo3(signature = (epoch, /))]
    fn add_epoch(&self, py: Python<'_>, epoch: u64) -> PyResult<()> {
        self.ask(py, |scheduler| scheduler.add_epoch(epoch))
    }

    #[pyo3(signature = (epoch, /))]
    fn reset(&self, py: Python<'_>, epoch: u64) -> PyResult<()> {
        self.ask_long(py, |scheduler| scheduler.reset(epoch))
    }

    #[pyo3(signature = (epoch, /))]
    fn is_active(&self, py: Python<'_>, epoch: u64) -> bool {
        self.with(py, |scheduler| scheduler.is_active(epoch))
    }

    #[pyo3(signature = (epoch, /))]
    fn end_epoch(&self, py: Python<'_>, epoch: u64) -> PyResult<bool> {
        self.ask_long(py, |scheduler| Ok(scheduler.end_epoch(epoch)))
    }

    #[pyo3(signature = (epoch, limit = usize::MAX, /))]
    fn get_ready<'py>(
        &self,
        py: Python<'py>,
        epoch: u64,
        limit: usize,
    ) -> PyResult<Bound<'py, PyList>> {
        let mut found = Vec::new();
        self.ask(py, |scheduler| scheduler.ready(epoch, limit, &mut found))?;
        self.names.list(py, &found)
    }

    #[pyo3(signature = (epoch, limit = usize::MAX, /))]
    fn get_ready_within<'py>(
        &self,
        py: Python<'py>,
        epoch: u64,
        limit: usize,
    ) -> PyResult<Bound<'py, PyList>> {
        let mut found = Vec::new();
        self.ask(py, |scheduler| {
            scheduler.ready_within(epoch, limit, &mut found)
        })?;
        let pairs = found
            .into_iter()
            .map(|(epoch, node)| (epoch, self.names.label(py, node)));
        PyList::new(py, pairs.collect::<Vec<_>>())
    }

    #[pyo3(signature = (epoch, nodes, /))]
    fn done(&self, py: Python<'_>, epoch: u64, nodes: &Bound<'_, PyAny>) -> PyResult<()> {
        let nodes = self.names.numbers(nodes)?;
        if nodes.len() < LONG {
            self.ask(py, |scheduler| scheduler.done(epoch, &nodes))
        } else {
            self.ask_long(py, |scheduler| scheduler.done(epoch, &nodes))
        }
    }

    #[pyo3(signature = (epoch, nodes, limit = usize::MAX, /))]
    fn done_and_ready<'py>(
        &self,
        py: Python<'py>,
        epoch: u64,
        nodes: &Bound<'_, PyAny>,
        limit: usize,
    ) -> PyResult<Bound<'py, PyList>> {
        let nodes = self.names.numbers(nodes)?;
        let mut found = Vec::with_capacity(limit.min(nodes.len()));
        self.ask(py, |scheduler| {
            scheduler.done(epoch, &nodes)?;
            scheduler.ready(epoch, limit, &mut found)
        })?;
        self.names.list(py, &found)
    }

    #[pyo3(signature = (epoch, nodes, /))]
    fn expire(&self, py: Python<'_>, epoch: u64, nodes: &Bound<'_, PyAny>) -> PyResult<()> {
        let nodes = self.names.numbers(nodes)?;
        self.ask_long(py, |scheduler| scheduler.expire(epoch, &nodes))
    }

    #[pyo3(signature = (epoch, node, items, /))]
    fn expand<'py>(
        &self,
        py: Python<'py>,
        epoch: u64,
        node: &Bound<'_, PyAny>,
        items: u32,
    ) -> PyResult<Bound<'py, PyRange>> {
        let node = self.names.number(node)?;
        let first = self.ask_long(py, |scheduler| scheduler.expand(epoch, node, items))?;
        let range = py
            .get_type::<PyRange>()
            .call1((first, first + u64::from(items)))?;
        Ok(range.cast_into()?)
    }
}

impl FastScheduler {
    fn with<T>(&self, py: Python<'_>, work: impl FnOnce(&mut Scheduler) -> T) -> T {
        match self.scheduler.lock_py_attached(py) {
            Ok(mut scheduler) => work(&mut scheduler),
            Err(poisoned) => work(&mut poisoned.into_inner()),
        }
    }

    fn ask<T>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut Scheduler) -> Result<T, SchedulerError>,
    ) -> PyResult<T> {
        self.with(py, work)
            .map_err(|error| scheduler_error(py, &self.names, error))
    }

    /// `ask`, while other threads run.
    fn ask_long<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut Scheduler) -> Result<T, SchedulerError> + Send,
    ) -> PyResult<T> {
        let told = py.detach(|| match self.scheduler.lock() {
            Ok(mut scheduler) => work(&mut scheduler),
            Err(poisoned) => work(&mut poisoned.into_inner()),
        });
        told.map_err(|error| scheduler_error(py, &self.names, error))
    }
}

/// Read edges: a buffer of 32 bit numbers, two for each edge, or pairs of nodes.
fn pairs(edges: &Bound<'_, PyAny>, names: &Names) -> PyResult<Vec<(u32, u32)>> {
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
        found.push((names.number(&from)?, names.number(&to)?));
    }
    Ok(found)
}

/// Add the class of the scheduler to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<FastScheduler>()
}
