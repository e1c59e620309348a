//! What the nodes of a graph are called.

use pyo3::exceptions::{PyKeyError, PyOverflowError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyInt, PyList};

/// Most nodes of a graph.
const MAX_NODES: usize = 1 << 26;

/// An empty place.
const NONE: u32 = u32::MAX;

/// The name of each node, or its number where numbers are the names.
pub struct Names {
    labels: Vec<Py<PyAny>>,
    /// The number of each label by its address, in a table with room for twice as many.
    ///
    /// Most nodes that are asked for are the very objects that were handed out. The labels are
    /// kept, so no other object gets their address.
    places: Vec<u32>,
    /// The number of each name; None where numbers are the names.
    numbers: Option<Py<PyDict>>,
}

impl Names {
    /// Read a number of nodes, or their names.
    pub fn new(nodes: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = nodes.py();
        let mut labels = Vec::new();
        let mut numbers = None;
        if nodes.is_instance_of::<PyInt>() {
            let count: usize = nodes.extract()?;
            check(count)?;
            for number in 0..count {
                labels.push(number.into_pyobject(py)?.into_any().unbind());
            }
        } else {
            let made = PyDict::new(py);
            for name in nodes.try_iter()? {
                let name = name?;
                if made.contains(&name)? {
                    return Err(PyValueError::new_err(format!(
                        "two nodes are called {name}"
                    )));
                }
                made.set_item(&name, labels.len())?;
                labels.push(name.unbind());
                check(labels.len())?;
            }
            numbers = Some(made.unbind());
        }
        let mut names = Self {
            places: vec![NONE; (2 * labels.len()).next_power_of_two()],
            labels,
            numbers,
        };
        for (number, label) in (0..).zip(&names.labels) {
            let place = names.seek(label.as_ptr() as usize);
            names.places[place] = number;
        }
        Ok(names)
    }

    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// The number of a node.
    pub fn number(&self, node: &Bound<'_, PyAny>) -> PyResult<u32> {
        if self.numbers.is_none()
            && let Some(number) = self.own(node)
        {
            return Ok(number);
        }
        match self.places[self.seek(node.as_ptr() as usize)] {
            NONE => self.number_of_equal(node),
            number => Ok(number),
        }
    }

    fn own(&self, node: &Bound<'_, PyAny>) -> Option<u32> {
        // SAFETY: `node` is a live object; what is no integer is an error that is looked for.
        let number = unsafe { ffi::PyLong_AsUnsignedLongLong(node.as_ptr()) };
        if number < self.labels.len() as u64 {
            return u32::try_from(number).ok();
        }
        drop(PyErr::take(node.py()));
        None
    }

    fn number_of_equal(&self, node: &Bound<'_, PyAny>) -> PyResult<u32> {
        let unknown = || PyKeyError::new_err(format!("no node is called {node}"));
        match &self.numbers {
            None => node
                .cast::<PyInt>()?
                .extract()
                .ok()
                .filter(|&number: &u32| (number as usize) < self.labels.len())
                .ok_or_else(unknown),
            Some(numbers) => numbers
                .bind(node.py())
                .get_item(node)?
                .ok_or_else(unknown)?
                .extract(),
        }
    }

    /// The numbers of nodes.
    pub fn numbers(&self, nodes: &Bound<'_, PyAny>) -> PyResult<Vec<u32>> {
        if let Ok(list) = nodes.cast::<PyList>() {
            let mut found = Vec::with_capacity(list.len());
            for node in list {
                found.push(self.number(&node)?);
            }
            return Ok(found);
        }
        nodes.try_iter()?.map(|node| self.number(&node?)).collect()
    }

    /// The node of a number.
    pub fn label<'a, 'py>(&'a self, py: Python<'py>, node: u32) -> &'a Bound<'py, PyAny> {
        self.labels[node as usize].bind(py)
    }

    /// The nodes of numbers.
    pub fn list<'py>(&self, py: Python<'py>, nodes: &[u32]) -> PyResult<Bound<'py, PyList>> {
        PyList::new(py, nodes.iter().map(|&node| self.label(py, node)))
    }

    /// Where an address is in the table, or would be.
    fn seek(&self, address: usize) -> usize {
        // Fibonacci hashing; objects are 16 bytes apart at least
        let mut place = (address >> 4).wrapping_mul(0x9E37_79B1) >> 12;
        loop {
            place &= self.places.len() - 1;
            let number = self.places[place];
            if number == NONE || self.labels[number as usize].as_ptr() as usize == address {
                return place;
            }
            place += 1;
        }
    }

    /// A node in words.
    pub fn text(&self, py: Python<'_>, node: u32) -> String {
        let label = self.labels.get(node as usize);
        label.map_or_else(|| node.to_string(), |label| label.bind(py).to_string())
    }
}

fn check(count: usize) -> PyResult<()> {
    if count > MAX_NODES {
        return Err(PyOverflowError::new_err(format!(
            "a graph has up to 2^26 nodes, not {count}"
        )));
    }
    Ok(())
}
