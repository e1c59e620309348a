//! Binds `noob_cloud_core::pool`: `Allocator` and, on Linux, `BufferPool`.

mod allocator;
#[cfg(target_os = "linux")]
mod buffer_pool;
#[cfg(target_os = "linux")]
mod lease;
mod report;

use pyo3::prelude::*;

/// Add the classes of the pool to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<allocator::Allocator>()?;
    #[cfg(target_os = "linux")]
    module.add_class::<buffer_pool::BufferPool>()?;
    Ok(())
}
