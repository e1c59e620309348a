//! Memory of a pool as Python sees it: a `memoryview` over an object whose end gives the memory back.

use std::ffi::{c_int, c_void};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use noob_cloud_core_crate::pool::{Allocator, Memory, Region, forks};
use pyo3::ffi;
use pyo3::prelude::*;

/// What a pool and everything it handed out have in common.
pub struct Shared {
    pub memory: Memory,
    pub generation: u64,
    allocator: Mutex<Allocator>,
}

impl Shared {
    pub fn new(memory: Memory, capacity: usize) -> Self {
        Self {
            memory,
            generation: forks(),
            allocator: Mutex::new(Allocator::new(0, capacity)),
        }
    }

    /// No Python code runs while this is held, so no thread waits for itself.
    pub fn lock(&self) -> MutexGuard<'_, Allocator> {
        self.allocator
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this process made the pool; a lock that a fork has copied may never be free again.
    pub fn at_home(&self) -> bool {
        self.generation == forks()
    }
}

/// Bytes of a pool, exported through the buffer protocol.
#[pyclass(frozen, module = "noob_cloud_core", name = "_Lease")]
pub struct Lease {
    pub shared: Arc<Shared>,
    pub offset: usize,
    pub size: usize,
    /// What to give back at the end; nothing, for memory that another process handed out.
    pub region: Option<Region>,
}

#[pymethods]
impl Lease {
    /// # Safety
    /// Called by the interpreter, with a view to fill.
    unsafe fn __getbuffer__(
        slf: &Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        let lease = slf.get();
        let address = lease
            .shared
            .memory
            .address()
            .as_ptr()
            .wrapping_add(lease.offset);
        let size = ffi::Py_ssize_t::try_from(lease.size)?;
        // SAFETY: `view` is the interpreter's; the bytes lie in the mapping, which lives as long as
        // this object, to which the view gets a reference.
        let code = unsafe {
            ffi::PyBuffer_FillInfo(view, slf.as_ptr(), address.cast::<c_void>(), size, 0, flags)
        };
        if code < 0 {
            return Err(PyErr::fetch(slf.py()));
        }
        Ok(())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(region) = self.region
            && self.shared.at_home()
        {
            // A region is given once: by its only lease.
            let _ = self.shared.lock().give(region);
        }
    }
}
