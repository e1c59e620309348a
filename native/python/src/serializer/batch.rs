//! Many values at once: hashed, put together and taken apart on all cores.

use noob_cloud_core_crate::hash;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyList, PyMemoryView};

use super::view::View;

/// From this many bytes on, hashing lets other Python threads run.
const LONG: usize = 1 << 16;

/// The digest of bytes, or of their parts one after the other.
pub fn digest_of(py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<[u8; hash::DIGEST_SIZE]> {
    if let Ok(bytes) = data.cast_exact::<PyBytes>() {
        return Ok(digest_bytes(py, bytes.as_bytes()));
    }
    let whole = data.is_instance_of::<PyBytes>()
        || data.is_instance_of::<PyByteArray>()
        || data.is_instance_of::<PyMemoryView>();
    if whole {
        return Ok(hash::digest(View::of(data)?.bytes()));
    }
    let parts = data.try_iter()?.collect::<PyResult<Vec<_>>>()?;
    let views = parts.iter().map(View::of).collect::<PyResult<Vec<_>>>()?;
    let parts: Vec<&[u8]> = views.iter().map(View::bytes).collect();
    Ok(hash::digest_parts(&parts))
}

fn digest_bytes(py: Python<'_>, bytes: &[u8]) -> [u8; hash::DIGEST_SIZE] {
    if bytes.len() < LONG {
        hash::digest(bytes)
    } else {
        py.detach(|| hash::digest(bytes))
    }
}

/// Return the BLAKE3 digest of each of many, computed on all cores.
#[pyfunction]
pub fn hash_many<'py>(py: Python<'py>, many: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyList>> {
    let many = many.try_iter()?.collect::<PyResult<Vec<_>>>()?;
    let views = many.iter().map(View::of).collect::<PyResult<Vec<_>>>()?;
    let bytes: Vec<&[u8]> = views.iter().map(View::bytes).collect();
    let digests = py.detach(|| hash::digest_many(&bytes));
    PyList::new(py, digests.iter().map(|digest| PyBytes::new(py, digest)))
}
