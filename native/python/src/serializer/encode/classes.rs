//! Values of classes: by a recipe where there is one, else by an encoder in Python.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

use super::{Encoder, Failed, Written};
use crate::serializer::recipe::{Mode, Recipe, Shape};
use crate::serializer::scalars::Library;
use crate::serializer::writer::Writer;

const OBJECT: u8 = 4;

impl<'py> Encoder<'_, 'py> {
    /// Write a value that the caller holds by its class's recipe, or let Python encode it.
    pub(super) unsafe fn other(
        &mut self,
        kind: *mut ffi::PyTypeObject,
        object: *mut ffi::PyObject,
    ) -> Written {
        let bridge = &self.serializer.bridge;
        // SAFETY: both tables are dicts, whose values are borrowed and held before Python runs.
        unsafe {
            self.extended = true;
            let kind = kind.cast::<ffi::PyObject>();
            let recipe = ffi::PyDict_GetItemWithError(bridge.recipes.as_ptr(), kind);
            if !recipe.is_null() {
                let recipe = Borrowed::from_ptr(self.py, recipe).to_owned();
                if let Ok(recipe) = recipe.cast::<Recipe>() {
                    if let Shape::Scalar(code) = recipe.get().shape {
                        let object = Borrowed::from_ptr(self.py, object).to_owned();
                        return self.scalar(code, &object);
                    }
                    return self.follow(&recipe.get().shape, object);
                }
            }
            let encode = ffi::PyDict_GetItemWithError(bridge.encoders.as_ptr(), kind);
            let object = Borrowed::from_ptr(self.py, object);
            let encode = if encode.is_null() {
                if !ffi::PyErr_Occurred().is_null() {
                    return Err(Failed);
                }
                self.caught(bridge.find.bind(self.py).call1((object,)))?
            } else {
                Borrowed::from_ptr(self.py, encode).to_owned()
            };
            let result = self.call(&encode, object);
            self.caught(result)
        }
    }

    /// Let an encoder in Python make the extension value.
    pub(super) fn call(
        &mut self,
        encode: &Bound<'py, PyAny>,
        object: Borrowed<'_, 'py, PyAny>,
    ) -> PyResult<()> {
        if let (None, Some(owner)) = (&self.writer, self.owner) {
            let limits = self.serializer.bridge.limits_object(self.py, owner.limits);
            let serializer = owner.serializer.clone().unbind();
            let writer = Writer::new(
                self.py,
                serializer,
                limits.unbind(),
                self.limits,
                self.canonical,
            );
            self.writer = Some(Py::new(self.py, writer)?);
        }
        let writer = self
            .writer
            .as_ref()
            .map(|writer| writer.bind(self.py).clone());
        if let Some(writer) = &writer {
            writer.get().keep(self.depth, self.nest, self.inline);
        }
        let made = encode.call1((writer, object))?;
        let made = made.cast_into::<PyTuple>()?;
        let code: u8 = made.get_item(0)?.extract()?;
        let payload = made.get_item(1)?;
        self.out
            .extension(code, payload.cast::<PyBytes>()?.as_bytes());
        Ok(())
    }

    pub(super) unsafe fn attribute(
        &self,
        object: *mut ffi::PyObject,
        name: &Py<pyo3::types::PyString>,
    ) -> Result<Bound<'py, PyAny>, Failed> {
        // SAFETY: `object` is valid and held by the caller, `name` is a str.
        unsafe {
            let value = ffi::PyObject_GetAttr(object, name.as_ptr());
            Bound::from_owned_ptr_or_opt(self.py, value).ok_or(Failed)
        }
    }

    /// Write a value of a class with a recipe.
    pub(super) unsafe fn follow(&mut self, shape: &Shape, object: *mut ffi::PyObject) -> Written {
        // SAFETY: the caller holds `object`, and every attribute is owned until it is written.
        unsafe {
            let (code, items) = match shape {
                Shape::Array { code, fields } => (*code, fields.len()),
                Shape::Fields { fields, .. } => (OBJECT, 2 * fields.len()),
                Shape::State { .. } | Shape::Scalar(_) => (OBJECT, 2),
            };
            let mark = self.out.open(items);
            self.deeper(|encoder| {
                encoder.enter()?;
                match shape {
                    Shape::Array { fields, .. } => {
                        encoder.out.array(fields.len());
                        for (name, mode) in fields {
                            let value = encoder.attribute(object, name)?;
                            encoder.field(&value, *mode)?;
                        }
                    }
                    Shape::Fields { name, fields } => {
                        encoder.out.array(2);
                        encoder.out.raw(name);
                        encoder.enter()?;
                        encoder.out.map(fields.len());
                        for (name, key) in fields {
                            let value = encoder.attribute(object, name)?;
                            encoder.out.raw(key);
                            encoder.value(value.as_ptr())?;
                        }
                        encoder.leave();
                    }
                    Shape::Scalar(_) => {}
                    Shape::State { name, state } => {
                        let object = Borrowed::from_ptr(encoder.py, object);
                        let state = state.bind(encoder.py).call1((object,));
                        let state = encoder.caught(state)?;
                        encoder.out.array(2);
                        encoder.out.raw(name);
                        encoder.value(state.as_ptr())?;
                    }
                }
                encoder.leave();
                Ok(())
            })?;
            self.out.close(mark, code);
        }
        Ok(())
    }

    /// Write one attribute as its mode says.
    pub(super) unsafe fn field(&mut self, value: &Bound<'py, PyAny>, mode: Mode) -> Written {
        // SAFETY: `value` is owned by the caller, each row by the iteration.
        unsafe {
            if mode == Mode::Value {
                return self.value(value.as_ptr());
            }
            let list = self.listed(value)?;
            if mode != Mode::Rows {
                return self.array_of(&list);
            }
            self.enter()?;
            self.out
                .array(ffi::PyTuple_Size(list.as_ptr()).cast_unsigned());
            for index in 0..ffi::PyTuple_Size(list.as_ptr()) {
                let row = Borrowed::from_ptr(self.py, ffi::PyTuple_GetItem(list.as_ptr(), index));
                let row = self.listed(&row)?;
                self.array_of(&row)?;
            }
            self.leave();
        }
        Ok(())
    }

    /// The items of anything that can be iterated over, as a tuple of our own.
    pub(super) fn listed(&self, value: &Bound<'py, PyAny>) -> Result<Bound<'py, PyAny>, Failed> {
        // SAFETY: the interpreter gives a new tuple, or the same one, or sets its error.
        unsafe {
            let tuple = ffi::PySequence_Tuple(value.as_ptr());
            Bound::from_owned_ptr_or_opt(self.py, tuple).ok_or(Failed)
        }
    }

    pub(super) unsafe fn array_of(&mut self, tuple: &Bound<'py, PyAny>) -> Written {
        // SAFETY: `tuple` is exactly a tuple that the caller owns.
        unsafe {
            let count = ffi::PyTuple_Size(tuple.as_ptr());
            self.enter()?;
            self.out.array(count.cast_unsigned());
            for index in 0..count {
                self.value(ffi::PyTuple_GetItem(tuple.as_ptr(), index))?;
            }
            self.leave();
        }
        Ok(())
    }

    /// Write a scalar of the standard library.
    pub(super) fn scalar(&mut self, code: i8, value: &Bound<'py, PyAny>) -> Written {
        if Library::goes_deeper(code) {
            self.deeper(|_| Ok(()))?;
        }
        let serializer = self.serializer;
        let payload = serializer.library.payload(
            code,
            value,
            &serializer.bridge,
            &self.limits,
            self.canonical,
        );
        if let Some(payload) = self.caught(payload)? {
            self.out.extension(code.cast_unsigned(), &payload);
            return Ok(());
        }
        let encode = serializer
            .bridge
            .encoders
            .bind(self.py)
            .get_item(value.get_type());
        let Some(encode) = self.caught(encode)? else {
            let message = "A scalar has lost its encoder.";
            return Err(self.fail(serializer.bridge.unencodable(self.py, message)));
        };
        let written = self.call(&encode, value.as_borrowed());
        self.caught(written)
    }
}
