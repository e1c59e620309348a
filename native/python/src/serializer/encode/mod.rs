//! Walk a value and write its body: what msgpack and the commonest extensions say, without Python.
//!
//! The walk asks the interpreter's C interface directly; everything it does not know is left to the
//! encoders in Python. Values are borrowed from the containers that hold them, and owned wherever
//! Python code may run and change those.

mod classes;
mod containers;
mod values;

use noob_cloud_core_crate::refusal::Limits;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::serializer::FastSerializer;
use crate::serializer::layout::Layout;
use crate::serializer::output::Output;
use crate::serializer::writer::Writer;

/// Python's error indicator says what went wrong.
pub struct Failed;

type Written = Result<(), Failed>;

/// Containers inside each other, whatever they are; a thread's stack has room for more.
pub const MAX_NEST: usize = 1000;
/// Lists and dicts inside each other that canonical bytes allow.
const CANONICAL_ROOM: usize = 250;

/// A strong reference for the time of a call.
struct Held(*mut ffi::PyObject);

impl Held {
    /// # Safety
    /// `object` is a valid object and the interpreter is attached.
    #[inline]
    unsafe fn new(object: *mut ffi::PyObject) -> Self {
        // SAFETY: as promised by the caller.
        unsafe { ffi::Py_INCREF(object) };
        Self(object)
    }
}

impl Drop for Held {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: `new` took the reference that is given back; values never outlive the walk, which
        // holds the interpreter.
        unsafe { ffi::Py_DECREF(self.0) };
    }
}

/// Who writes a frame, for the writer that encoders in Python are given.
#[derive(Clone, Copy)]
pub struct Owner<'a, 'py> {
    pub serializer: &'a Bound<'py, FastSerializer>,
    /// The Python `Limits`; None for the default.
    pub limits: Option<&'a Bound<'py, PyAny>>,
}

/// Writes one body.
pub struct Encoder<'a, 'py> {
    py: Python<'py>,
    serializer: &'a FastSerializer,
    pub out: Output,
    layout: Layout,
    limits: Limits,
    writer: Option<Py<Writer>>,
    owner: Option<Owner<'a, 'py>>,
    pub canonical: bool,
    /// Whether the body holds extension values.
    pub extended: bool,
    depth: usize,
    nest: usize,
    room: usize,
    inline: usize,
    /// Where byte strings belong that are put in when the frame is made.
    pub splices: Option<Vec<(usize, Bound<'py, PyBytes>)>>,
    pub spliced: usize,
}

impl<'a, 'py> Encoder<'a, 'py> {
    /// An encoder of a whole body.
    pub fn new(owner: Owner<'a, 'py>, out: Output, limits: Limits, canonical: bool) -> Self {
        Self {
            py: owner.serializer.py(),
            serializer: owner.serializer.get(),
            out,
            layout: owner.serializer.get().layout,
            limits,
            writer: None,
            owner: Some(owner),
            canonical,
            extended: false,
            depth: 0,
            nest: 0,
            room: CANONICAL_ROOM,
            inline: 0,
            splices: Some(Vec::new()),
            spliced: 0,
        }
    }

    /// An encoder of a part that an encoder in Python asked for.
    pub fn inside(
        py: Python<'py>,
        serializer: &'a FastSerializer,
        out: Output,
        limits: Limits,
        writer: Py<Writer>,
        canonical: bool,
    ) -> Self {
        Self {
            py,
            serializer,
            out,
            layout: serializer.layout,
            limits,
            writer: Some(writer),
            owner: None,
            canonical,
            extended: true,
            depth: 0,
            nest: 0,
            room: CANONICAL_ROOM,
            inline: 0,
            splices: None,
            spliced: 0,
        }
    }

    /// Go on from where the frame's walk is.
    pub fn place(&mut self, depth: usize, nest: usize, inline: usize) {
        (self.depth, self.nest, self.inline) = (depth, nest, inline);
    }

    /// Write `value`.
    pub fn write(&mut self, value: &Bound<'py, PyAny>) -> PyResult<()> {
        // SAFETY: a `Bound` is a valid object, and the interpreter is attached.
        unsafe { self.value(value.as_ptr()) }.map_err(|Failed| PyErr::fetch(self.py))
    }

    /// Write `value` one extension deeper.
    pub fn descend(&mut self, value: &Bound<'py, PyAny>) -> PyResult<()> {
        // SAFETY: a `Bound` is a valid object, and the interpreter is attached.
        unsafe { self.deeper(|encoder| encoder.value(value.as_ptr())) }
            .map_err(|Failed| PyErr::fetch(self.py))
    }

    /// The writer that encoders in Python were given, if one was.
    pub fn writer(&self) -> Option<&Writer> {
        self.writer.as_ref().map(Py::get)
    }

    #[cold]
    fn fail(&self, error: PyErr) -> Failed {
        error.restore(self.py);
        Failed
    }

    fn caught<T>(&self, result: PyResult<T>) -> Result<T, Failed> {
        result.map_err(|error| self.fail(error))
    }

    #[cold]
    fn too_deep(&self, message: &str) -> Failed {
        self.fail(self.serializer.bridge.limit(self.py, "depth", message))
    }

    #[cold]
    fn changed(&self) -> Failed {
        let message = "A list, dict or set changed its size while it was encoded.";
        self.fail(self.serializer.bridge.unencodable(self.py, message))
    }

    // ---- levels

    #[inline]
    fn enter(&mut self) -> Written {
        self.nest += 1;
        if self.nest > MAX_NEST {
            return Err(self.too_deep(
                "The value is nested deeper than this thread's stack allows. Does it contain \
                 itself?",
            ));
        }
        if self.canonical {
            if self.room == 0 {
                return Err(self.too_deep(&format!(
                    "The value nests lists and dicts deeper than {CANONICAL_ROOM} levels. Does it \
                     contain itself?"
                )));
            }
            self.room -= 1;
        }
        if self.out.len() > self.limits.body {
            return Err(self.too_long());
        }
        Ok(())
    }

    #[inline]
    fn leave(&mut self) {
        self.nest -= 1;
        if self.canonical {
            self.room += 1;
        }
    }

    #[cold]
    fn too_long(&self) -> Failed {
        let size = self.out.len() + self.spliced;
        let message = format!(
            "The body has {size} bytes or more, over the limit of {} (Limits.body). Pass large \
             data as arrays, or by cid through a blob store.",
            self.limits.body
        );
        self.fail(self.serializer.bridge.limit(self.py, "body", &message))
    }

    /// Do `work` one extension deeper, where lists and dicts may nest anew.
    #[inline]
    fn deeper(&mut self, work: impl FnOnce(&mut Self) -> Written) -> Written {
        if self.depth >= self.limits.depth {
            return Err(self.too_deep(&format!(
                "The value is nested deeper than {} levels (Limits.depth). Does it contain itself?",
                self.limits.depth
            )));
        }
        let room = std::mem::replace(&mut self.room, CANONICAL_ROOM);
        self.depth += 1;
        work(self)?;
        self.depth -= 1;
        self.room = room;
        Ok(())
    }
}
