//! `Allocator`: which bytes of a stretch are in use.

use std::sync::{Mutex, MutexGuard, PoisonError};

use noob_cloud_core_crate::pool::{self, Region};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::report;

/// Hand out regions of `[start, stop)` in size classes; thread safe.
#[pyclass(frozen, module = "noob_cloud_core")]
pub struct Allocator {
    inner: Mutex<pool::Allocator>,
}

impl Allocator {
    /// No Python code runs while this is held, so no thread waits for itself.
    fn lock(&self) -> MutexGuard<'_, pool::Allocator> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl Allocator {
    #[new]
    fn new(start: usize, stop: usize) -> PyResult<Self> {
        if !start.is_multiple_of(pool::ALIGN) || stop < start {
            return Err(PyValueError::new_err(format!(
                "a stretch starts at a multiple of {} and ends behind its start, not {start}, {stop}",
                pool::ALIGN
            )));
        }
        Ok(Self {
            inner: Mutex::new(pool::Allocator::new(start, stop)),
        })
    }

    #[getter]
    fn capacity(&self) -> usize {
        self.lock().capacity()
    }

    #[getter]
    fn used(&self) -> usize {
        self.lock().used()
    }

    fn take(&self, py: Python<'_>, size: isize) -> PyResult<(usize, usize)> {
        let taken = self.lock().take(usize::try_from(size).unwrap_or(0));
        match taken {
            Ok(region) => Ok((region.offset, region.size)),
            Err(error) => Err(report::error(py, error)),
        }
    }

    fn give(&self, py: Python<'_>, region: (usize, usize)) -> PyResult<()> {
        let (offset, size) = region;
        let given = self.lock().give(Region { offset, size });
        given.map_err(|error| report::error(py, error))
    }

    #[pyo3(signature = (keep = 0))]
    fn trim(&self, keep: usize) -> Vec<(usize, usize)> {
        self.lock().trim(keep)
    }

    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let usage = self.lock().usage();
        report::stats(py, &usage)
    }
}
