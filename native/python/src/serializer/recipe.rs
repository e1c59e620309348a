//! How values of a class are written and made without asking Python for each.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyFrozenSet, PyString, PyTuple, PyType};

use super::output::Output;

/// What becomes of one attribute.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It is written as it is.
    Value,
    /// It is written as a list and made a tuple again.
    Items,
    /// The same, of str alone.
    Names,
    /// A list of lists, made a tuple of tuples again.
    Rows,
}

impl Mode {
    fn of(number: u8) -> PyResult<Self> {
        match number {
            0 => Ok(Self::Value),
            1 => Ok(Self::Items),
            2 => Ok(Self::Names),
            3 => Ok(Self::Rows),
            _ => Err(PyValueError::new_err(format!(
                "{number} is no mode of a recipe"
            ))),
        }
    }
}

/// How values of one class are written.
pub enum Shape {
    /// A scalar of this type.
    Scalar(i8),
    /// An extension value whose payload is the array of these attributes.
    Array {
        code: u8,
        fields: Vec<(Py<PyString>, Mode)>,
    },
    /// An object with a map of these attributes; name and keys are msgpack already.
    Fields {
        name: Vec<u8>,
        fields: Vec<(Py<PyString>, Vec<u8>)>,
    },
    /// An object whose state a callable makes.
    State { name: Vec<u8>, state: Py<PyAny> },
}

/// How values of one class are written.
#[pyclass(frozen, module = "noob_cloud_core")]
pub struct Recipe {
    pub shape: Shape,
}

fn packed(text: &str) -> Vec<u8> {
    let mut out = Output::default();
    out.text(text.as_bytes());
    out.into_vec()
}

#[pymethods]
impl Recipe {
    /// An extension value of the type `code`: the array of these attributes, each in its mode.
    #[staticmethod]
    fn array(code: u8, attributes: Vec<Bound<'_, PyString>>, modes: Vec<u8>) -> PyResult<Self> {
        let fields = attributes.into_iter().zip(modes);
        let fields = fields.map(|(name, mode)| Ok((name.unbind(), Mode::of(mode)?)));
        Ok(Self {
            shape: Shape::Array {
                code,
                fields: fields.collect::<PyResult<_>>()?,
            },
        })
    }

    /// An object of this name, with a map of these attributes.
    #[staticmethod]
    fn fields(name: &str, attributes: Vec<Bound<'_, PyString>>) -> PyResult<Self> {
        let fields = attributes.into_iter().map(|field| {
            let key = packed(field.to_cow()?.as_ref());
            Ok((field.unbind(), key))
        });
        let fields = fields.collect::<PyResult<_>>()?;
        Ok(Self {
            shape: Shape::Fields {
                name: packed(name),
                fields,
            },
        })
    }

    /// A scalar of the standard library, of the type `code`.
    #[staticmethod]
    fn scalar(code: i8) -> Self {
        Self {
            shape: Shape::Scalar(code),
        }
    }

    /// An object of this name, with the state that a callable makes of it.
    #[staticmethod]
    fn state(name: &str, state: Py<PyAny>) -> Self {
        Self {
            shape: Shape::State {
                name: packed(name),
                state,
            },
        }
    }
}

/// How an extension value of attributes is made a value of a class again.
#[pyclass(frozen, module = "noob_cloud_core")]
pub struct Maker {
    pub class: Py<PyType>,
    pub fields: Vec<MadeField>,
}

/// One attribute that a `Maker` sets.
pub struct MadeField {
    pub name: Py<PyString>,
    pub mode: Mode,
    /// The types that it may have; any if there are none.
    pub kinds: Option<Py<PyFrozenSet>>,
}

#[pymethods]
impl Maker {
    /// The class has these attributes and nothing that its constructor would have to do besides.
    #[new]
    #[pyo3(signature = (class_, attributes, modes, kinds))]
    fn new(
        class_: Py<PyType>,
        attributes: Vec<Bound<'_, PyString>>,
        modes: Vec<u8>,
        kinds: &Bound<'_, PyTuple>,
    ) -> PyResult<Self> {
        let mut fields = Vec::new();
        for ((name, mode), kinds) in attributes.into_iter().zip(modes).zip(kinds) {
            let kinds: Option<Bound<'_, PyFrozenSet>> = if kinds.is_none() {
                None
            } else {
                Some(kinds.cast_into()?)
            };
            let (mode, kinds) = (Mode::of(mode)?, kinds.map(Bound::unbind));
            fields.push(MadeField {
                name: name.unbind(),
                mode,
                kinds,
            });
        }
        Ok(Self {
            class: class_,
            fields,
        })
    }
}
