//! Binds `noob_cloud_core::event_store`: `FastEventStore`.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use noob_cloud_core_crate::event_store::{EventStore, Slab, SpillError, SpillFolder};
use noob_cloud_core_crate::hash::format_cid;
use pyo3::exceptions::{PyKeyError, PyOSError, PyOverflowError, PyValueError};
use pyo3::ffi;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};

type Value = Py<PyAny>;

/// A number, read with one call: the usual way asks first whether it could be made one.
#[derive(Clone, Copy)]
struct Number(u64);

impl<'a, 'py> FromPyObject<'a, 'py> for Number {
    type Error = PyErr;

    fn extract(given: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        // SAFETY: `given` is a live object; what is no integer is an error that is looked for.
        let number = unsafe { ffi::PyLong_AsUnsignedLongLong(given.as_ptr()) };
        if number == u64::MAX
            && let Some(error) = PyErr::take(given.py())
        {
            return Err(error);
        }
        Ok(Self(number))
    }
}

impl Number {
    fn small(self) -> PyResult<u32> {
        u32::try_from(self.0).map_err(|_| PyKeyError::new_err(format!("no column {}", self.0)))
    }
}

/// The events of many epochs, in slabs; those used least recently go to files.
#[pyclass(frozen, module = "noob_cloud_core")]
pub struct FastEventStore {
    held: Mutex<Held>,
    /// How events leave memory, and how they come back.
    codec: Option<(Value, Value)>,
    max_events: usize,
}

struct Held {
    store: EventStore<Value>,
    spill: Option<SpillFolder>,
    columns: usize,
}

#[pymethods]
impl FastEventStore {
    #[new]
    #[pyo3(signature = (*, max_events = None, folder = None, dumps = None, loads = None))]
    fn new(
        max_events: Option<usize>,
        folder: Option<PathBuf>,
        dumps: Option<Value>,
        loads: Option<Value>,
    ) -> PyResult<Self> {
        let (spill, codec) = match (max_events, folder, dumps, loads) {
            (None, None, None, None) => (None, None),
            (Some(1..), Some(folder), Some(dumps), Some(loads)) => {
                let spill = SpillFolder::new(&folder).map_err(refused)?;
                (Some(spill), Some((dumps, loads)))
            }
            _ => {
                return Err(PyValueError::new_err(
                    "max_events, at least 1, goes with a folder for what is over it, dumps and loads",
                ));
            }
        };
        let held = Held {
            store: EventStore::default(),
            spill,
            columns: 0,
        };
        let max_events = max_events.unwrap_or(usize::MAX);
        Ok(Self {
            held: Mutex::new(held),
            codec,
            max_events,
        })
    }

    #[pyo3(signature = (node, signal, /))]
    fn column(&self, node: &str, signal: &str) -> PyResult<u32> {
        let mut held = self.hold();
        let found = held.store.column(node, signal);
        held.columns = held.store.columns().len();
        found.ok_or_else(|| PyOverflowError::new_err("a store has up to 2^20 columns"))
    }

    #[pyo3(signature = (epoch, column, value, /))]
    fn add(&self, py: Python<'_>, epoch: Number, column: Number, value: Value) -> PyResult<()> {
        let (epoch, column) = (epoch.0, column.small()?);
        let over = {
            let (mut held, _) = self.at_hand(py, epoch)?;
            held.check(column)?;
            held.store.add(epoch, column, value);
            held.store.len() > self.max_events
        };
        if over { self.shrink(py, epoch) } else { Ok(()) }
    }

    #[pyo3(signature = (epoch, column, values, /))]
    fn add_batch(
        &self,
        py: Python<'_>,
        epoch: u64,
        column: u32,
        values: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let values: Vec<Value> = match values.cast::<PyList>() {
            Ok(list) => list.iter().map(Bound::unbind).collect(),
            Err(_) => values
                .try_iter()?
                .map(|v| Ok(v?.unbind()))
                .collect::<PyResult<_>>()?,
        };
        let over = {
            let (mut held, _) = self.at_hand(py, epoch)?;
            held.check(column)?;
            held.store.extend(epoch, column, values.into_iter());
            held.store.len() > self.max_events
        };
        if over { self.shrink(py, epoch) } else { Ok(()) }
    }

    #[pyo3(signature = (epoch, column, /))]
    fn get<'py>(&self, py: Python<'py>, epoch: u64, column: u32) -> PyResult<Bound<'py, PyList>> {
        let (found, recalled) = {
            let (mut held, recalled) = self.at_hand(py, epoch)?;
            held.check(column)?;
            let slab = held.store.get(epoch);
            (
                slab.map_or_else(Vec::new, |slab| copies(py, slab.column(column))),
                recalled,
            )
        };
        if recalled {
            self.shrink(py, epoch)?;
        }
        PyList::new(py, found)
    }

    #[pyo3(signature = (epochs, column, /))]
    fn get_batch<'py>(
        &self,
        py: Python<'py>,
        epochs: Vec<u64>,
        column: u32,
    ) -> PyResult<Vec<Bound<'py, PyList>>> {
        epochs
            .into_iter()
            .map(|epoch| self.get(py, epoch, column))
            .collect()
    }

    /// Every event of one column, with its epoch.
    #[pyo3(signature = (column, /))]
    fn values(&self, py: Python<'_>, column: u32) -> PyResult<Vec<(u64, Value)>> {
        let mut found = Vec::new();
        for epoch in self.epochs() {
            for value in self.get(py, epoch, column)? {
                found.push((epoch, value.unbind()));
            }
        }
        Ok(found)
    }

    #[pyo3(signature = (epoch, /))]
    fn events(&self, py: Python<'_>, epoch: u64) -> PyResult<Vec<(u32, Value)>> {
        let (found, recalled) = {
            let (mut held, recalled) = self.at_hand(py, epoch)?;
            let slab = held.store.get(epoch);
            (slab.map_or_else(Vec::new, |slab| pairs(py, slab)), recalled)
        };
        if recalled {
            self.shrink(py, epoch)?;
        }
        Ok(found)
    }

    #[pyo3(signature = (epoch, /))]
    fn clear(&self, epoch: u64) -> PyResult<bool> {
        let (slab, file) = {
            let mut held = self.hold();
            let slab = held.store.take(epoch);
            let file = held
                .spill
                .as_mut()
                .map_or(Ok(false), |spill| spill.remove(epoch));
            (slab, file)
        };
        // what is dropped here may run code, which may come back to this store: no lock is held
        Ok(slab.is_some() | file.map_err(refused)?)
    }

    fn epochs(&self) -> Vec<u64> {
        let held = self.hold();
        let mut found = held.store.epochs();
        found.extend(held.spill.iter().flat_map(SpillFolder::epochs));
        found.sort_unstable();
        found.dedup();
        found
    }

    fn columns(&self) -> Vec<(String, String)> {
        let held = self.hold();
        held.store
            .columns()
            .iter()
            .map(|(node, signal)| (node.to_string(), signal.to_string()))
            .collect()
    }

    fn __len__(&self) -> usize {
        let held = self.hold();
        held.store.len() + held.spill.as_ref().map_or(0, SpillFolder::events)
    }

    /// The content id of the file that holds an epoch; None while it is in memory.
    #[pyo3(signature = (epoch, /))]
    fn cid(&self, epoch: u64) -> PyResult<Option<String>> {
        let held = self.hold();
        if let Some(spilled) = held.spill.as_ref().and_then(|spill| spill.get(epoch)) {
            return Ok(Some(
                String::from_utf8_lossy(&format_cid(&spilled.digest)).into_owned(),
            ));
        }
        if held.store.peek(epoch).is_some() {
            return Ok(None);
        }
        Err(PyKeyError::new_err(format!("there is no epoch {epoch}")))
    }

    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let held = self.hold();
        let found = PyDict::new(py);
        found.set_item("resident", held.store.len())?;
        found.set_item(
            "spilled",
            held.spill.as_ref().map_or(0, SpillFolder::events),
        )?;
        found.set_item(
            "file_bytes",
            held.spill.as_ref().map_or(0, SpillFolder::bytes),
        )?;
        Ok(found)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Some((dumps, loads)) = &self.codec {
            visit.call(dumps)?;
            visit.call(loads)?;
        }
        if let Ok(held) = self.held.try_lock() {
            for value in held.store.values() {
                visit.call(value)?;
            }
        }
        Ok(())
    }

    fn __clear__(&self) {
        let store = std::mem::take(&mut self.hold().store);
        drop(store);
    }
}

impl FastEventStore {
    fn hold(&self) -> MutexGuard<'_, Held> {
        // nothing that is done while it is held calls the interpreter but for counting references
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hold the store with an epoch in memory, if there is one; say whether it was in a file.
    fn at_hand(&self, py: Python<'_>, epoch: u64) -> PyResult<(MutexGuard<'_, Held>, bool)> {
        let mut recalled = false;
        loop {
            let held = self.hold();
            if !held.is_spilled(epoch) {
                return Ok((held, recalled));
            }
            recalled = true;
            drop(held); // whatever decodes it may come back to this store
            self.recall(py, epoch)?;
        }
    }

    /// Bring an epoch back to memory, if it is in a file.
    fn recall(&self, py: Python<'_>, epoch: u64) -> PyResult<()> {
        let Some((_, loads)) = &self.codec else {
            return Ok(());
        };
        let (body, known) = {
            let held = self.hold();
            let Some(spill) = &held.spill else {
                return Ok(());
            };
            let Some(known) = spill.get(epoch) else {
                return Ok(());
            };
            (spill.read(epoch).map_err(refused)?, known)
        };
        let (columns, values): (Vec<u32>, Vec<Value>) = loads
            .bind(py)
            .call1((PyBytes::new(py, &body),))?
            .extract()?;
        let mut held = self.hold();
        let Held {
            spill,
            columns: number,
            ..
        } = &mut *held;
        let Some(spill) = spill
            .as_mut()
            .filter(|spill| spill.get(epoch) == Some(known))
        else {
            return Ok(()); // another thread was first; it may have added to it and written it again
        };
        let unknown = columns.iter().any(|&column| column as usize >= *number);
        if unknown || (columns.len(), values.len()) != (known.events, known.events) {
            return Err(PyValueError::new_err(format!(
                "loads did not give back the {} events of epoch {epoch} that dumps was given",
                known.events
            )));
        }
        spill.remove(epoch).map_err(refused)?;
        for (column, value) in columns.into_iter().zip(values) {
            held.store.add(epoch, column, value);
        }
        Ok(())
    }

    /// Send epochs to files until few enough events are in memory; not the one in use.
    fn shrink(&self, py: Python<'_>, in_use: u64) -> PyResult<()> {
        let Some((dumps, _)) = &self.codec else {
            return Ok(());
        };
        loop {
            let (epoch, stamp, columns, values) = {
                let held = self.hold();
                if held.store.len() <= self.max_events {
                    return Ok(());
                }
                let Some(epoch) = held.store.coldest().filter(|&epoch| epoch != in_use) else {
                    return Ok(());
                };
                let Some(slab) = held.store.peek(epoch) else {
                    return Ok(());
                };
                let (columns, values): (Vec<u32>, Vec<Value>) = pairs(py, slab).into_iter().unzip();
                (epoch, held.store.stamp(epoch), columns, values)
            };
            let body = dumps.bind(py).call1(((&columns, &values),))?;
            let body: &[u8] = body.extract()?;
            let taken = {
                let mut held = self.hold();
                if held.store.stamp(epoch) != stamp {
                    continue; // it was added to meanwhile, or is another one
                }
                if let Some(spill) = held.spill.as_mut() {
                    spill.write(epoch, columns.len(), body).map_err(refused)?;
                }
                held.store.take(epoch)
            };
            drop(taken);
        }
    }
}

impl Held {
    fn check(&self, column: u32) -> PyResult<()> {
        if column as usize >= self.columns {
            return Err(PyKeyError::new_err(format!(
                "there is no column {column}; column(node, signal) gives its number"
            )));
        }
        Ok(())
    }

    fn is_spilled(&self, epoch: u64) -> bool {
        self.spill
            .as_ref()
            .is_some_and(|spill| spill.get(epoch).is_some())
    }
}

fn copies(py: Python<'_>, values: &[Value]) -> Vec<Value> {
    values.iter().map(|value| value.clone_ref(py)).collect()
}

fn pairs(py: Python<'_>, slab: &Slab<Value>) -> Vec<(u32, Value)> {
    slab.iter()
        .map(|(column, value)| (column, value.clone_ref(py)))
        .collect()
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn refused(error: SpillError) -> PyErr {
    PyOSError::new_err(error.to_string())
}

/// Add the class of the event store to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<FastEventStore>()
}
