//! What an encoder in Python is given: the writer, whose state goes on in Rust.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use noob_cloud_core_crate::refusal::Limits;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyTuple};

use super::FastSerializer;
use super::encode::Encoder;
use super::output::Output;

/// The state of one frame being written, as encoders in Python see it.
#[pyclass(frozen, module = "noob_cloud_core")]
pub struct Writer {
    serializer: Py<FastSerializer>,
    /// The Python `Limits`.
    #[pyo3(get)]
    limits: Py<PyAny>,
    native_limits: Limits,
    /// Whether canonical bytes are written.
    #[pyo3(get)]
    canonical: bool,
    depth: AtomicUsize,
    nest: AtomicUsize,
    inline: AtomicUsize,
    buffers: Py<PyList>,
}

impl Writer {
    pub fn new(
        py: Python<'_>,
        serializer: Py<FastSerializer>,
        limits: Py<PyAny>,
        native_limits: Limits,
        canonical: bool,
    ) -> Self {
        Self {
            serializer,
            limits,
            native_limits,
            canonical,
            depth: AtomicUsize::new(0),
            nest: AtomicUsize::new(0),
            inline: AtomicUsize::new(0),
            buffers: PyList::empty(py).unbind(),
        }
    }

    /// Say where the walk is, before Python is called.
    pub fn keep(&self, depth: usize, nest: usize, inline: usize) {
        self.depth.store(depth, Relaxed);
        self.nest.store(nest, Relaxed);
        self.inline.store(inline, Relaxed);
    }

    pub fn buffers<'py>(&self, py: Python<'py>) -> &Bound<'py, PyList> {
        self.buffers.bind(py)
    }
}

#[pymethods]
impl Writer {
    /// Whether buffers must stay in the body: over zero inside a set.
    #[getter]
    fn inline(&self) -> usize {
        self.inline.load(Relaxed)
    }

    /// How many extension values the present one is inside of.
    #[getter]
    fn depth(&self) -> usize {
        self.depth.load(Relaxed)
    }

    /// Return what stands for an extension value of this type.
    #[staticmethod]
    fn ext<'py>(
        py: Python<'py>,
        code: u8,
        payload: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyTuple>> {
        (code, payload).into_pyobject(py)
    }

    /// Return the msgpack of `value`, one level deeper.
    fn nested<'py>(
        slf: &Bound<'py, Self>,
        value: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let py = slf.py();
        let writer = slf.get();
        let (depth, nest, inline) = (
            writer.depth(),
            writer.nest.load(Relaxed),
            writer.inline.load(Relaxed),
        );
        let serializer = writer.serializer.get();
        let mut encoder = Encoder::inside(
            py,
            serializer,
            Output::default(),
            writer.native_limits,
            slf.clone().unbind(),
            writer.canonical,
        );
        encoder.place(depth, nest, inline);
        let written = encoder.descend(value);
        writer.keep(depth, nest, inline);
        written?;
        Ok(PyBytes::new(py, encoder.out.bytes()))
    }

    /// Put a buffer of bytes out of band and return its index.
    fn add(&self, py: Python<'_>, buffer: &Bound<'_, PyAny>) -> PyResult<usize> {
        let buffers = self.buffers.bind(py);
        buffers.append(buffer)?;
        Ok(buffers.len() - 1)
    }
}
