//! What the serializer takes from the Python codec: its tables, its errors, its defaults.

use noob_cloud_core_crate::refusal::{Limits, Refusal};
use pyo3::exceptions::PyRecursionError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

/// The tables and callables of `noob_cloud.codec`, asked for once.
pub struct Bridge {
    /// type -> callable(writer, value) -> (code, payload)
    pub encoders: Py<PyDict>,
    /// code -> callable(reader, payload)
    pub decoders: Py<PyDict>,
    /// type -> `Recipe`
    pub recipes: Py<PyDict>,
    /// code -> `Maker`
    pub makers: Py<PyDict>,
    /// name -> (class, decode, whether its state is its keyword arguments)
    pub names: Py<PyDict>,
    /// callable(value) -> what encodes it; raises `EncodeError`
    pub find: Py<PyAny>,
    refusal: Py<PyAny>,
    unregistered: Py<PyAny>,
    unmade: Py<PyAny>,
    too_deep: Py<PyAny>,
    /// callable(msgpack of a timestamp) -> datetime
    pub timestamp: Py<PyAny>,
    /// `Limits` that hold unless told otherwise
    pub default: Py<PyAny>,
    encode_error: Py<PyAny>,
    decode_error: Py<PyAny>,
    limit_error: Py<PyAny>,
    default_limits: Limits,
}

impl Bridge {
    /// Take what is needed of `source`, a module or any object with these attributes.
    pub fn new(source: &Bound<'_, PyAny>) -> PyResult<Self> {
        let table = |name: &str| -> PyResult<Py<PyDict>> {
            Ok(source.getattr(name)?.cast_into::<PyDict>()?.unbind())
        };
        let any = |name: &str| -> PyResult<Py<PyAny>> { Ok(source.getattr(name)?.unbind()) };
        let default = source.getattr("DEFAULT")?;
        Ok(Self {
            encoders: table("ENCODERS")?,
            decoders: table("DECODERS")?,
            recipes: table("RECIPES")?,
            makers: table("MAKERS")?,
            names: table("NAMES")?,
            find: any("find")?,
            refusal: any("refusal")?,
            unregistered: any("unregistered")?,
            unmade: any("unmade")?,
            too_deep: any("too_deep")?,
            timestamp: any("decode_plain")?,
            encode_error: any("EncodeError")?,
            decode_error: any("DecodeError")?,
            limit_error: any("LimitError")?,
            default_limits: read_limits(&default)?,
            default: default.unbind(),
        })
    }

    /// The limits that a Python `Limits` holds; None stands for the default.
    #[inline]
    pub fn limits(&self, given: Option<&Bound<'_, PyAny>>) -> PyResult<Limits> {
        match given {
            None => Ok(self.default_limits),
            Some(limits) if limits.as_ptr() == self.default.as_ptr() => Ok(self.default_limits),
            Some(limits) => read_limits(limits),
        }
    }

    /// The Python `Limits` that was given, or the default.
    pub fn limits_object<'py>(
        &self,
        py: Python<'py>,
        given: Option<&Bound<'py, PyAny>>,
    ) -> Bound<'py, PyAny> {
        given.map_or_else(|| self.default.bind(py).clone(), Clone::clone)
    }

    /// A `LimitError` that names its limit.
    #[cold]
    pub fn limit(&self, py: Python<'_>, name: &str, message: &str) -> PyErr {
        let data = PyDict::new(py);
        let made = data
            .set_item(intern!(py, "limit"), name)
            .and_then(|()| self.limit_error.bind(py).call((message,), Some(&data)));
        made.map_or_else(|error| error, PyErr::from_value)
    }

    /// An `EncodeError`.
    #[cold]
    pub fn unencodable(&self, py: Python<'_>, message: &str) -> PyErr {
        let made = self.encode_error.bind(py).call1((message,));
        made.map_or_else(|error| error, PyErr::from_value)
    }

    /// A `DecodeError`.
    #[cold]
    pub fn malformed(&self, py: Python<'_>, message: &str) -> PyErr {
        let made = self.decode_error.bind(py).call1((message,));
        made.map_or_else(|error| error, PyErr::from_value)
    }

    /// The codec's error for a name that stands for no class here.
    #[cold]
    pub fn unregistered(&self, py: Python<'_>, name: &Bound<'_, PyAny>) -> PyErr {
        let made = self.unregistered.bind(py).call1((name,));
        made.map_or_else(|error| error, PyErr::from_value)
    }

    /// The codec's error for a state that makes no value of its class.
    #[cold]
    pub fn unmade(&self, py: Python<'_>, class: &Bound<'_, PyAny>, error: PyErr) -> PyErr {
        match self.unmade.bind(py).call1((class, error.value(py))) {
            Ok(made) => {
                let made = PyErr::from_value(made);
                made.set_cause(py, Some(error));
                made
            }
            Err(other) => other,
        }
    }

    /// The codec's error for a refusal.
    #[cold]
    pub fn refused(&self, py: Python<'_>, refusal: &Refusal) -> PyErr {
        match refusal.limit {
            Some(name) => self.limit(py, name, &refusal.message),
            None => self.malformed(py, &refusal.message),
        }
    }

    /// The codec's error for what encoding raised: a used-up stack has one of its own.
    #[cold]
    pub fn encoding_failed(&self, py: Python<'_>, error: PyErr) -> PyErr {
        if !error.is_instance_of::<PyRecursionError>(py) {
            return error;
        }
        let made = self.too_deep.bind(py).call1((error.value(py),));
        made.map_or_else(|error| error, PyErr::from_value)
    }

    /// The codec's error for what decoding raised; an interrupt stays what it is.
    #[cold]
    pub fn decoding_failed(&self, py: Python<'_>, error: PyErr) -> PyErr {
        if !error.is_instance_of::<pyo3::exceptions::PyException>(py) {
            return error;
        }
        let value = error.value(py);
        match self.refusal.bind(py).call1((value,)) {
            Ok(made) if made.is(value) => error,
            Ok(made) => {
                let made = PyErr::from_value(made);
                made.set_cause(py, Some(error));
                made
            }
            Err(other) => other,
        }
    }
}

fn read_limits(limits: &Bound<'_, PyAny>) -> PyResult<Limits> {
    let py = limits.py();
    let read = |name: &Bound<'_, PyString>| -> PyResult<usize> {
        let value = limits.getattr(name)?;
        // more than a machine can hold is no limit, less than nothing allows nothing
        Ok(match value.extract::<i128>() {
            Ok(size) => usize::try_from(size.max(0)).unwrap_or(usize::MAX),
            Err(_) if value.extract::<f64>().is_ok_and(|size| size > 0.0) => usize::MAX,
            Err(error) => return Err(error),
        })
    };
    Ok(Limits {
        total: read(intern!(py, "total"))?,
        body: read(intern!(py, "body"))?,
        items: read(intern!(py, "items"))?,
        text: read(intern!(py, "text"))?,
        depth: read(intern!(py, "depth"))?,
        digits: read(intern!(py, "digits"))?,
        buffers: read(intern!(py, "buffers"))?,
    })
}
