//! `noob_cloud_core`: the Rust core of noob-cloud as a Python module. Bindings only.

mod event_store;
mod pool;
mod scheduler;
mod serializer;

use pyo3::prelude::*;

/// What the package `noob_cloud` asks this module for; raised with every change of a signature.
const INTERFACE: u32 = 1;

/// The Rust core of noob-cloud: used by the package `noob_cloud` where it is installed.
#[pymodule]
fn noob_cloud_core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", noob_cloud_core_crate::VERSION)?;
    module.add("INTERFACE", INTERFACE)?;
    event_store::register(module)?;
    pool::register(module)?;
    scheduler::register(module)?;
    serializer::register(module)?;
    Ok(())
}
