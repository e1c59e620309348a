//! Many values' bytes hashed at once, on all cores.

use noob_cloud_core_crate::cores::on_all_cores;
use noob_cloud_core_crate::hash::{self, Digest};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyList, PyMemoryView, PyString};
use rayon::prelude::*;

use super::view::View;

/// From this many bytes on, hashing lets other Python threads run.
const LONG: usize = 1 << 16;

/// Bytes, or the parts that they come in.
struct Parts {
    views: Vec<View>,
}

impl Parts {
    fn of(data: &Bound<'_, PyAny>) -> PyResult<Self> {
        let whole = data.is_instance_of::<PyBytes>()
            || data.is_instance_of::<PyByteArray>()
            || data.is_instance_of::<PyMemoryView>();
        let views = if whole {
            vec![View::of(data)?]
        } else {
            data.try_iter()?
                .map(|part| View::of(&part?))
                .collect::<PyResult<_>>()?
        };
        Ok(Self { views })
    }

    fn bytes(&self) -> Vec<&[u8]> {
        self.views.iter().map(View::bytes).collect()
    }
}

fn digest_of(py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<Digest> {
    let Ok(bytes) = data.cast_exact::<PyBytes>() else {
        let parts = Parts::of(data)?;
        return Ok(hash::digest_parts(&parts.bytes()));
    };
    let bytes = bytes.as_bytes();
    if bytes.len() < LONG {
        return Ok(hash::digest(bytes));
    }
    Ok(py.detach(|| hash::digest(bytes)))
}

fn digests_of(py: Python<'_>, many: &Bound<'_, PyAny>, parallel: bool) -> PyResult<Vec<Digest>> {
    let many = many
        .try_iter()?
        .map(|data| Parts::of(&data?))
        .collect::<PyResult<Vec<_>>>()?;
    let many: Vec<Vec<&[u8]>> = many.iter().map(Parts::bytes).collect();
    Ok(py.detach(|| {
        if parallel {
            on_all_cores(|| {
                many.par_iter()
                    .map(|parts| hash::digest_parts(parts))
                    .collect()
            })
        } else {
            many.iter().map(|parts| hash::digest_parts(parts)).collect()
        }
    }))
}

/// Return the 32 byte BLAKE3 digest of bytes, or of their parts one after the other.
#[pyfunction]
fn digest<'py>(py: Python<'py>, data: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    Ok(PyBytes::new(py, &digest_of(py, data)?))
}

/// Return the cid of bytes, or of their parts one after the other.
#[pyfunction]
fn cid<'py>(py: Python<'py>, data: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyString>> {
    PyString::from_bytes(py, &hash::format_cid(&digest_of(py, data)?))
}

/// Return the BLAKE3 digest of each of many, bytes or their parts, computed on all cores.
#[pyfunction]
#[pyo3(signature = (many, *, parallel=true))]
fn hash_many<'py>(
    py: Python<'py>,
    many: &Bound<'py, PyAny>,
    parallel: bool,
) -> PyResult<Bound<'py, PyList>> {
    let digests = digests_of(py, many, parallel)?;
    PyList::new(py, digests.iter().map(|digest| PyBytes::new(py, digest)))
}

/// Return the cid of each of many, bytes or their parts, computed on all cores.
#[pyfunction]
#[pyo3(signature = (many, *, parallel=true))]
fn cid_many<'py>(
    py: Python<'py>,
    many: &Bound<'py, PyAny>,
    parallel: bool,
) -> PyResult<Bound<'py, PyList>> {
    let digests = digests_of(py, many, parallel)?;
    let cids = digests
        .iter()
        .map(|digest| PyString::from_bytes(py, &hash::format_cid(digest)));
    PyList::new(py, cids.collect::<PyResult<Vec<_>>>()?)
}

/// Add what this module offers.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(digest, module)?)?;
    module.add_function(wrap_pyfunction!(cid, module)?)?;
    module.add_function(wrap_pyfunction!(hash_many, module)?)?;
    module.add_function(wrap_pyfunction!(cid_many, module)?)
}
