//! `BufferPool`: buffers in shared memory.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use noob_cloud_core_crate::pool::{Binding, Memory};
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::{PyOSError, PyResourceWarning, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyMemoryView, PyTuple};

use super::lease::{Lease, Shared};
use super::report;

/// Writable buffers in shared memory of bounded size; thread safe.
#[pyclass(frozen, weakref, module = "noob_cloud_core")]
pub struct BufferPool {
    shared: Arc<Shared>,
    /// Made here, not mapped from another process.
    owner: bool,
    binding: Binding,
    closed: AtomicBool,
    leaked: Mutex<Vec<usize>>,
}

impl BufferPool {
    fn make(memory: Memory, owner: bool, binding: Binding) -> Self {
        let capacity = memory.len();
        Self {
            shared: Arc::new(Shared::new(memory, capacity)),
            owner,
            binding,
            closed: AtomicBool::new(false),
            leaked: Mutex::new(Vec::new()),
        }
    }

    fn open(&self, py: Python<'_>) -> PyResult<()> {
        if self.closed.load(Ordering::Acquire) {
            let message = "the pool is closed; make another one".to_owned();
            return Err(report::named(py, "PoolClosedError", message, None));
        }
        Ok(())
    }

    fn home(&self, py: Python<'_>) -> PyResult<()> {
        self.open(py)?;
        if !self.owner || !self.shared.at_home() {
            let message =
                "the pool belongs to the process that made it, which alone may take from \
                           it; this one may use view(offset, size)"
                    .to_owned();
            return Err(report::named(py, "PoolOwnerError", message, None));
        }
        Ok(())
    }
}

fn lend(py: Python<'_>, lease: Lease) -> PyResult<Bound<'_, PyMemoryView>> {
    PyMemoryView::from(Bound::new(py, lease)?.as_any())
}

fn refused(error: &io::Error) -> PyErr {
    match error.raw_os_error() {
        // The two arguments make Python choose the subclass that belongs to the number.
        Some(code) => PyOSError::new_err((code, error.to_string())),
        None => PyValueError::new_err(error.to_string()),
    }
}

#[pymethods]
impl BufferPool {
    #[new]
    #[pyo3(signature = (capacity, *, prefault = 0, numa_node = None))]
    fn new(capacity: usize, prefault: usize, numa_node: Option<usize>) -> PyResult<Self> {
        if capacity == 0 {
            return Err(PyValueError::new_err("a pool has at least 1 byte, not 0"));
        }
        let memory = Memory::create(capacity).map_err(|error| refused(&error))?;
        let binding = match numa_node {
            Some(node) => memory.bind(node).map_err(|error| refused(&error))?,
            None => Binding::Unasked,
        };
        memory.populate(prefault).map_err(|error| refused(&error))?;
        let pool = Self::make(memory, true, binding);
        pool.shared.lock().touch(prefault);
        Ok(pool)
    }

    /// Map the pool of another process.
    #[staticmethod]
    fn attach(fd: i32) -> PyResult<Self> {
        let memory = Memory::attach(fd).map_err(|error| refused(&error))?;
        Ok(Self::make(memory, false, Binding::Unasked))
    }

    #[getter]
    fn capacity(&self) -> usize {
        self.shared.memory.len()
    }

    #[getter]
    fn fd(&self, py: Python<'_>) -> PyResult<i32> {
        self.open(py)?;
        Ok(self.shared.memory.fd())
    }

    #[getter]
    fn numa(&self) -> String {
        self.binding.to_string()
    }

    fn take<'py>(&self, py: Python<'py>, size: isize) -> PyResult<Bound<'py, PyMemoryView>> {
        self.home(py)?;
        let size = usize::try_from(size).unwrap_or(0); // none is refused
        let taken = self.shared.lock().take(size);
        let region = taken.map_err(|error| report::error(py, error))?;
        lend(
            py,
            Lease {
                shared: Arc::clone(&self.shared),
                offset: region.offset,
                size,
                region: Some(region),
            },
        )
    }

    fn locate(&self, py: Python<'_>, view: &Bound<'_, PyAny>) -> PyResult<(usize, usize)> {
        self.open(py)?;
        let buffer = PyBuffer::<u8>::get(view)?;
        let base = self.shared.memory.address().as_ptr() as usize;
        let offset = (buffer.buf_ptr() as usize).wrapping_sub(base);
        let size = buffer.len_bytes();
        if offset > self.capacity() || size > self.capacity() - offset {
            return Err(PyValueError::new_err(format!(
                "the buffer of {size} bytes is none of this pool's"
            )));
        }
        Ok((offset, size))
    }

    fn view<'py>(
        &self,
        py: Python<'py>,
        offset: usize,
        size: usize,
    ) -> PyResult<Bound<'py, PyMemoryView>> {
        self.open(py)?;
        let capacity = self.capacity();
        if offset > capacity || size > capacity - offset {
            return Err(PyValueError::new_err(format!(
                "{size} bytes at {offset} do not lie in a pool of {capacity} bytes"
            )));
        }
        lend(
            py,
            Lease {
                shared: Arc::clone(&self.shared),
                offset,
                size,
                region: None,
            },
        )
    }

    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let usage = self.shared.lock().usage();
        let stats = report::stats(py, &usage)?;
        let leaked = self.leaked.lock().unwrap_or_else(PoisonError::into_inner);
        stats.set_item("leaked", leaked.clone())?;
        stats.set_item("numa", self.binding.to_string())?;
        Ok(stats)
    }

    #[pyo3(signature = (keep = 0))]
    fn trim(&self, py: Python<'_>, keep: usize) -> PyResult<usize> {
        self.home(py)?;
        // Nobody may take what is being discarded.
        let mut allocator = self.shared.lock();
        let mut bytes = 0;
        for (start, stop) in allocator.trim(keep) {
            bytes += self
                .shared
                .memory
                .discard(start, stop)
                .map_err(|error| refused(&error))?;
        }
        Ok(bytes)
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        if self.closed.swap(true, Ordering::AcqRel) || !self.owner || !self.shared.at_home() {
            return Ok(());
        }
        let live = self.shared.lock().live();
        if live.is_empty() {
            return Ok(());
        }
        let named: Vec<String> = live.iter().take(8).map(ToString::to_string).collect();
        let more = if live.len() > 8 { ", ..." } else { "" };
        let message = format!(
            "{} buffers of the pool were not given back, of {}{more} bytes; their memory stays \
             until nothing reads it\0",
            live.len(),
            named.join(", "),
        );
        *self.leaked.lock().unwrap_or_else(PoisonError::into_inner) = live;
        let text = std::ffi::CStr::from_bytes_with_nul(message.as_bytes())
            .map_err(|error| PyValueError::new_err(error.to_string()))?;
        PyErr::warn(py, &py.get_type::<PyResourceWarning>(), text, 1)
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    #[pyo3(signature = (*exception))]
    fn __exit__(&self, py: Python<'_>, exception: &Bound<'_, PyTuple>) -> PyResult<()> {
        let _ = exception; // it goes on its way
        self.close(py)
    }
}
