//! What a decoder in Python is given: the reader, whose state goes on in Rust.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use noob_cloud_core_crate::refusal::Limits;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyMemoryView, PySlice};

use super::FastSerializer;
use super::decode::{Decoder, Source};
use super::view::View;

/// Where the buffers out of band are.
pub enum Buffers<T> {
    /// In the frame, an object with all of its bytes.
    Frame(T, Vec<Range<usize>>),
    /// In a sequence of views.
    Parts(T, usize),
}

impl Buffers<&Bound<'_, PyAny>> {
    /// The same, kept beyond the call.
    pub fn keep(self) -> Buffers<Py<PyAny>> {
        match self {
            Self::Frame(whole, ranges) => Buffers::Frame(whole.clone().unbind(), ranges),
            Self::Parts(views, count) => Buffers::Parts(views.clone().unbind(), count),
        }
    }
}

/// The state of one frame being read, as decoders in Python see it.
#[pyclass(frozen, module = "noob_cloud_core")]
pub struct Reader {
    serializer: Py<FastSerializer>,
    /// The Python `Limits`.
    #[pyo3(get)]
    limits: Py<PyAny>,
    native_limits: Limits,
    /// Whether arrays get memory of their own.
    #[pyo3(get)]
    copy: bool,
    buffers: Buffers<Py<PyAny>>,
    depth: AtomicUsize,
    nest: AtomicUsize,
}

impl Reader {
    pub fn new(
        serializer: Py<FastSerializer>,
        limits: Py<PyAny>,
        native_limits: Limits,
        copy: bool,
        buffers: Buffers<Py<PyAny>>,
    ) -> Self {
        let (depth, nest) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self {
            serializer,
            limits,
            native_limits,
            copy,
            buffers,
            depth,
            nest,
        }
    }

    /// Say where the decoder is, before Python is called.
    pub fn keep(&self, depth: usize, nest: usize) {
        self.depth.store(depth, Relaxed);
        self.nest.store(nest, Relaxed);
    }
}

fn inside<'py, T>(
    slf: &Bound<'py, Reader>,
    data: &Bound<'py, PyAny>,
    work: impl FnOnce(&mut Decoder<'_, 'py>, &[u8]) -> PyResult<T>,
) -> PyResult<T> {
    let reader = slf.get();
    let view = View::of(data)?;
    let (depth, nest) = (reader.depth.load(Relaxed), reader.nest.load(Relaxed));
    let source = Source::new(data, view.bytes());
    let mut decoder = Decoder::inside(
        reader.serializer.get(),
        reader.native_limits,
        source,
        slf.clone(),
        (depth, nest),
    );
    let made = work(&mut decoder, view.bytes());
    reader.keep(depth, nest);
    made
}

#[pymethods]
impl Reader {
    /// Return the value that an extension's payload is.
    fn nested<'py>(
        slf: &Bound<'py, Self>,
        data: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        inside(slf, data, |decoder, bytes| decoder.descend(bytes))
    }

    /// Return the list (of `size` items) that an extension's payload must be.
    #[pyo3(signature = (data, size=None))]
    fn items<'py>(
        slf: &Bound<'py, Self>,
        data: &Bound<'py, PyAny>,
        size: Option<usize>,
    ) -> PyResult<Bound<'py, PyAny>> {
        inside(slf, data, |decoder, bytes| {
            decoder.descend_list(bytes, size)
        })
    }

    /// Return the buffer out of band that a value names by its index.
    fn buffer<'py>(&self, index: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = index.py();
        let count = match &self.buffers {
            Buffers::Frame(_, ranges) => ranges.len(),
            Buffers::Parts(_, count) => *count,
        };
        let found = if index.is_exact_instance_of::<pyo3::types::PyInt>() {
            index.extract::<usize>().ok().filter(|&place| place < count)
        } else {
            None
        };
        let Some(place) = found else {
            let shown: String = index.str()?.to_string().chars().take(80).collect();
            let message = format!("The frame has no buffer {shown}.");
            return Err(self.serializer.get().bridge.malformed(py, &message));
        };
        let buffer = match &self.buffers {
            Buffers::Frame(whole, ranges) => slice(whole.bind(py), &ranges[place])?,
            Buffers::Parts(views, _) => views.bind(py).get_item(place)?,
        };
        buffer.call_method0(intern!(py, "toreadonly"))
    }
}

/// A memoryview of a part of an object's bytes.
pub fn slice<'py>(whole: &Bound<'py, PyAny>, range: &Range<usize>) -> PyResult<Bound<'py, PyAny>> {
    let view = PyMemoryView::from(whole)?;
    let (start, stop) = (range.start.cast_signed(), range.end.cast_signed());
    view.get_item(PySlice::new(view.py(), start, stop, 1))
}
