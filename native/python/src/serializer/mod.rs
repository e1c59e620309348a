//! `FastSerializer`: the wire format of the kit, written and read without Python where it can be.

#![expect(
    clippy::redundant_closure_for_method_calls,
    reason = "the methods have lifetimes that their paths cannot say"
)]

mod batch;
mod bridge;
mod decode;
mod encode;
mod frame;
mod keys;
mod layout;
mod output;
mod reader;
mod recipe;
mod scalars;
mod view;
mod writer;

use std::sync::Mutex;

use noob_cloud_core_crate::frame::parse;
use noob_cloud_core_crate::msgpack::check_items;
use noob_cloud_core_crate::wire::EXTENDED;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString};

use bridge::Bridge;
use decode::{Decoder, Rest, Source};
use keys::Keys;
use layout::Layout;
use reader::Buffers;
use scalars::Library;
use view::View;

/// Writes and reads frames of the wire format; `noob_cloud.codec` is its reference.
#[pyclass(frozen, module = "noob_cloud_core")]
pub struct FastSerializer {
    bridge: Bridge,
    layout: Layout,
    library: Library,
    keys: Mutex<Keys>,
    /// Memory of the latest body, to be written in again.
    scratch: Mutex<Vec<u8>>,
}

#[pymethods]
impl FastSerializer {
    /// A serializer with the tables and errors of `bridge`; by default those of `noob_cloud.codec`.
    ///
    /// With `stable` it reads values through the interpreter's stable interface alone.
    #[new]
    #[pyo3(signature = (bridge=None, *, stable=false))]
    fn new(py: Python<'_>, bridge: Option<&Bound<'_, PyAny>>, stable: bool) -> PyResult<Self> {
        let bridge = match bridge {
            Some(bridge) => Bridge::new(bridge)?,
            None => Bridge::new(py.import("noob_cloud.codec.native")?.as_any())?,
        };
        let layout = if stable {
            Layout::STABLE
        } else {
            Layout::probe(py)?
        };
        let library = Library::new(py)?;
        Ok(Self {
            bridge,
            layout,
            library,
            keys: Mutex::new(Keys::new()),
            scratch: Mutex::default(),
        })
    }

    /// Whether values are read directly, as is done where the interpreter's layout is known.
    #[getter]
    fn direct(&self) -> bool {
        self.layout.direct
    }

    /// Return `value` as one frame.
    #[pyo3(signature = (value, *, limits=None))]
    fn dumps<'py>(
        slf: &Bound<'py, Self>,
        value: &Bound<'py, PyAny>,
        limits: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        frame::write(slf, value, limits, false, |frame| frame.joined())
    }

    /// Return the parts of `value`'s frame, to be written one after the other.
    #[pyo3(signature = (value, *, limits=None))]
    fn dumps_parts<'py>(
        slf: &Bound<'py, Self>,
        value: &Bound<'py, PyAny>,
        limits: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyList>> {
        frame::write(slf, value, limits, false, |frame| frame.parts())
    }

    /// Return the one frame of `value` that its cid is taken of.
    fn canonical<'py>(
        slf: &Bound<'py, Self>,
        value: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        frame::write(slf, value, None, true, |frame| frame.joined())
    }

    /// Return the cid of `value`'s canonical bytes, without copying its arrays together.
    fn cid_of<'py>(
        slf: &Bound<'py, Self>,
        value: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyString>> {
        frame::write(slf, value, None, true, |frame| frame.cid())
    }

    /// Return the parts of `value`'s canonical frame, cut wherever that saves a copy.
    fn canonical_parts<'py>(
        slf: &Bound<'py, Self>,
        value: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyList>> {
        frame::write(slf, value, None, true, |frame| frame.pieces())
    }

    /// Return the value of one frame.
    #[pyo3(signature = (data, *, limits=None, copy=true))]
    fn loads<'py>(
        slf: &Bound<'py, Self>,
        data: &Bound<'py, PyAny>,
        limits: Option<&Bound<'py, PyAny>>,
        copy: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        if let Ok(bytes) = data.cast_exact::<PyBytes>() {
            return read_frame(slf, bytes.as_bytes(), data, limits, copy, false);
        }
        let py = slf.py();
        let whole = py.get_type::<pyo3::types::PyMemoryView>().call1((data,))?;
        let whole = whole.call_method1(intern!(py, "cast"), ("B",))?;
        let view = View::of(&whole)?;
        read_frame(slf, view.bytes(), &whole, limits, copy, true)
    }

    /// Return the value of a body whose frame was taken apart before.
    #[pyo3(signature = (flags, body, buffers, *, limits=None, copy=true))]
    fn loads_body<'py>(
        slf: &Bound<'py, Self>,
        flags: u16,
        body: &Bound<'py, PyAny>,
        buffers: &Bound<'py, PyAny>,
        limits: Option<&Bound<'py, PyAny>>,
        copy: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let serializer = slf.get();
        let bounds = serializer.bridge.limits(limits)?;
        let view = View::of(body)?;
        check_items(view.bytes(), &bounds)
            .map_err(|refusal| serializer.bridge.refused(py, &refusal))?;
        let extended = flags & EXTENDED != 0;
        let buffers = Buffers::Parts(buffers, buffers.len()?);
        let rest = Rest {
            serializer: slf,
            limits,
            copy,
            buffers,
        };
        // what decoders in Python may change while they run is read from a copy
        let owned = PyBytes::new(py, if extended { view.bytes() } else { b"" });
        let (object, bytes) = if extended {
            (owned.as_any(), owned.as_bytes())
        } else {
            (body, view.bytes())
        };
        let source = Source::new(object, bytes);
        Decoder::new(rest, bounds, source, extended, bytes.len())
            .read(bytes)
            .map_err(|error| serializer.bridge.decoding_failed(py, error))
    }
}

fn read_frame<'py>(
    serializer: &Bound<'py, FastSerializer>,
    bytes: &[u8],
    whole: &Bound<'py, PyAny>,
    limits: Option<&Bound<'py, PyAny>>,
    copy: bool,
    may_change: bool,
) -> PyResult<Bound<'py, PyAny>> {
    let py = serializer.py();
    let bridge = &serializer.get().bridge;
    let bounds = bridge.limits(limits)?;
    let frame = parse(bytes, &bounds).map_err(|refusal| bridge.refused(py, &refusal))?;
    let extended = frame.flags & EXTENDED != 0;
    let body = &bytes[frame.body];
    let buffers = Buffers::Frame(whole, frame.buffers);
    let rest = Rest {
        serializer,
        limits,
        copy,
        buffers,
    };
    let read = |object: &Bound<'py, PyAny>, all: &[u8], body: &[u8], rest| {
        Decoder::new(rest, bounds, Source::new(object, all), extended, body.len())
            .read(body)
            .map_err(|error| bridge.decoding_failed(py, error))
    };
    if may_change && extended {
        // decoders in Python may change what they run on: it is read from a copy
        let owned = PyBytes::new(py, body);
        return read(owned.as_any(), owned.as_bytes(), owned.as_bytes(), rest);
    }
    read(whole, bytes, body, rest)
}

/// Add what this module offers.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<FastSerializer>()?;
    module.add_class::<recipe::Recipe>()?;
    module.add_class::<recipe::Maker>()?;
    batch::register(module)
}
