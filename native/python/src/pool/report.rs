//! What the pool says: its errors as the package's own, its use as a dict.

use noob_cloud_core_crate::pool::{PoolError, Use};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// Where the errors live that the twin in Python raises.
const HOME: &str = "noob_cloud.buffers.error";

/// Make an error of the package by its name.
pub fn named(
    py: Python<'_>,
    name: &str,
    message: String,
    data: Option<&Bound<'_, PyDict>>,
) -> PyErr {
    let made = PyModule::import(py, HOME)
        .and_then(|home| home.getattr(name))
        .and_then(|class| class.call((message,), data));
    match made {
        Ok(error) => PyErr::from_value(error),
        Err(error) => error,
    }
}

/// Make the error that the twin raises for the same.
pub fn error(py: Python<'_>, error: PoolError) -> PyErr {
    let message = error.to_string();
    match error {
        PoolError::Full { size, capacity, .. } => {
            let data = PyDict::new(py);
            let filled = data
                .set_item("size", size)
                .and_then(|()| data.set_item("capacity", capacity));
            match filled {
                Ok(()) => named(py, "ArenaFullError", message, Some(&data)),
                Err(error) => error,
            }
        }
        _ => PyValueError::new_err(message),
    }
}

/// A pool's use as a dict.
pub fn stats<'py>(py: Python<'py>, usage: &Use) -> PyResult<Bound<'py, PyDict>> {
    let stats = PyDict::new(py);
    stats.set_item("capacity", usage.capacity)?;
    stats.set_item("in_use", usage.used)?;
    stats.set_item("buffers", usage.buffers)?;
    stats.set_item("high_water", usage.high_water)?;
    stats.set_item("touched", usage.touched)?;
    let classes = PyDict::new(py);
    for class in &usage.classes {
        classes.set_item(class.size, (class.hits, class.misses))?;
    }
    stats.set_item("classes", classes)?;
    Ok(stats)
}
