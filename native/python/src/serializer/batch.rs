//! Many values at once: hashed, put together and taken apart on all cores.

use noob_cloud_core_crate::cores::on_all_cores;
use noob_cloud_core_crate::hash;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyList, PyMemoryView, PyString, PyTuple};
use rayon::prelude::*;

use super::FastSerializer;
use super::frame::{self, Copy, Pending};
use super::view::View;

type Digest = [u8; hash::DIGEST_SIZE];

/// From this many bytes on, hashing lets other Python threads run.
const LONG: usize = 1 << 16;

/// The digest of bytes, or of their parts one after the other.
pub fn digest_of(py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<Digest> {
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

fn digest_bytes(py: Python<'_>, bytes: &[u8]) -> Digest {
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

/// A frame to be filled and hashed without the interpreter.
struct Job<'a> {
    copies: &'a [Copy],
    begin: *const u8,
    size: usize,
}

// SAFETY: each job is done by one thread, and its frame belongs to it alone until it is done.
unsafe impl Send for Job<'_> {}
// SAFETY: as above.
unsafe impl Sync for Job<'_> {}

impl<'a> Job<'a> {
    fn new(pending: &'a Pending<'_>) -> Self {
        Self {
            copies: &pending.copies,
            begin: pending.begin,
            size: pending.size,
        }
    }

    fn run(&self) -> Digest {
        for copy in self.copies {
            // SAFETY: the `Pending` outlives the job, and each job runs once.
            unsafe { copy.run() };
        }
        // SAFETY: the frame has `size` bytes, all of which are written by now.
        hash::digest(unsafe { std::slice::from_raw_parts(self.begin, self.size) })
    }
}

/// Canonical frames of many values with their cids; `one` leaves the other cores alone.
pub fn dumps_batch<'py>(
    slf: &Bound<'py, FastSerializer>,
    values: &Bound<'py, PyAny>,
    one: bool,
) -> PyResult<Bound<'py, PyList>> {
    let py = slf.py();
    let mut pending = Vec::new();
    for value in values.try_iter()? {
        pending.push(frame::write(slf, &value?, None, true, |frame| {
            frame.pending()
        })?);
    }
    let jobs: Vec<Job<'_>> = pending.iter().map(Job::new).collect();
    let digests: Vec<Digest> = py.detach(|| {
        if one {
            jobs.iter().map(Job::run).collect()
        } else {
            on_all_cores(|| jobs.par_iter().map(Job::run).collect())
        }
    });
    drop(jobs);
    let pairs = pending.into_iter().zip(&digests).map(|(pending, digest)| {
        let cid = PyString::from_bytes(py, &hash::format_cid(digest))?;
        PyTuple::new(py, [pending.frame.into_any(), cid.into_any()])
    });
    PyList::new(py, pairs.collect::<PyResult<Vec<_>>>()?)
}

/// Check that frames have these cids, on all cores; which one does not is the answer.
pub fn find_other<'py>(
    py: Python<'py>,
    frames: &[Bound<'py, PyAny>],
    cids: &[Bound<'py, PyAny>],
) -> PyResult<Option<usize>> {
    let views = frames.iter().map(View::of).collect::<PyResult<Vec<_>>>()?;
    let bytes: Vec<&[u8]> = views.iter().map(View::bytes).collect();
    let digests = py.detach(|| hash::digest_many(&bytes));
    for (index, (digest, cid)) in digests.iter().zip(cids).enumerate() {
        if !cid.eq(PyString::from_bytes(py, &hash::format_cid(digest))?)? {
            return Ok(Some(index));
        }
    }
    Ok(None)
}
