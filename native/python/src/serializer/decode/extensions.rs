//! Extension values: here where they are common, else by a decoder in Python.

use noob_cloud_core_crate::msgpack::{Token, extension_head};
use pyo3::exceptions::PyException;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple, PyType};

use super::{Decoder, Failed, Made};
use crate::serializer::reader::Reader;
use crate::serializer::recipe::{Maker, Mode};
use crate::serializer::scalars::{DECIMAL, INTEGER, Library};

const TUPLE: i8 = 1;
const SET: i8 = 2;
const FROZENSET: i8 = 3;
const OBJECT: i8 = 4;
const TIMESTAMP: i8 = -1;

impl<'py> Decoder<'_, 'py> {
    pub(super) fn extension(&mut self, code: i8, payload: &[u8]) -> Made<'py> {
        if code == TIMESTAMP {
            return self.timestamp(payload);
        }
        if !self.extended {
            return Err(self.malformed(&format!(
                "The frame holds an extension value of type {code}, yet its flags say that it has \
                 none."
            )));
        }
        match code {
            TUPLE => self.deeper(payload, |decoder, tokens| {
                let count = decoder.count(tokens)?;
                decoder.tuple(tokens, count, false)
            }),
            SET | FROZENSET => self.set(code, payload),
            OBJECT => self.object(payload),
            _ => self.other(code, payload),
        }
    }

    pub(super) fn set(&mut self, code: i8, payload: &[u8]) -> Made<'py> {
        self.deeper(payload, |decoder, tokens| {
            let count = decoder.count(tokens)?;
            decoder.enter()?;
            // SAFETY: the set is new and takes references of its own; a frozenset takes items for
            // as long as nobody else has seen it.
            unsafe {
                let nothing = std::ptr::null_mut();
                let set = decoder.own(if code == SET {
                    ffi::PySet_New(nothing)
                } else {
                    ffi::PyFrozenSet_New(nothing)
                })?;
                for _ in 0..count {
                    let item = decoder.value(tokens, true)?;
                    decoder.pause.lift();
                    let added = ffi::PySet_Add(set.as_ptr(), item.as_ptr());
                    decoder.pause.resume();
                    if added != 0 {
                        return Err(Failed);
                    }
                }
                decoder.nest -= 1;
                Ok(set)
            }
        })
    }

    /// Make a value of a registered class.
    pub(super) fn object(&mut self, payload: &[u8]) -> Made<'py> {
        let (name, state) = self.deeper(payload, |decoder, tokens| {
            let count = decoder.count(tokens)?;
            if count != 2 {
                return Err(decoder.miscounted(count, 2));
            }
            let mut ahead = *tokens;
            let name = if let Ok(Token::Str(text)) = ahead.next() {
                *tokens = ahead;
                decoder.key(text)?
            } else {
                decoder.value(tokens, false)?
            };
            Ok((name, decoder.value(tokens, false)?))
        })?;
        self.pause.lift();
        let made = self.build(&name, &state);
        self.pause.resume();
        self.caught(made)
    }

    pub(super) fn build(
        &self,
        name: &Bound<'py, PyAny>,
        state: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let bridge = &self.serializer.bridge;
        let entry = if name.is_exact_instance_of::<PyString>() {
            bridge.names.bind(self.py).get_item(name)?
        } else {
            None
        };
        let Some(entry) = entry else {
            return Err(bridge.unregistered(self.py, name));
        };
        let entry = entry.cast_into::<PyTuple>()?;
        let class = entry.get_item(0)?;
        let made = match state.cast_exact::<PyDict>() {
            Ok(fields) if entry.get_item(2)?.is_truthy()? => class.call((), Some(fields)),
            _ => entry.get_item(1)?.call1((state,)),
        };
        made.map_err(|error| {
            if error.is_instance_of::<PyException>(self.py) {
                bridge.unmade(self.py, &class, error)
            } else {
                error
            }
        })
    }

    /// Make a value of a class with a maker, or let Python decode it.
    pub(super) fn other(&mut self, code: i8, payload: &[u8]) -> Made<'py> {
        let bridge = &self.serializer.bridge;
        if (INTEGER..=DECIMAL).contains(&code) {
            if Library::goes_deeper(code) {
                self.deeper(&[], |_, _| Ok(()))?;
            }
            let library = &self.serializer.library;
            let made = library.value(self.py, code, payload, bridge, &self.limits);
            if let Some(made) = self.caught(made)? {
                return Ok(made);
            }
        }
        let maker = self.caught(bridge.makers.bind(self.py).get_item(code))?;
        if let Some(maker) = maker
            && let Ok(maker) = maker.cast_into::<Maker>()
        {
            return self.follow(maker.get(), payload);
        }
        let decode = self.caught(bridge.decoders.bind(self.py).get_item(code))?;
        let Some(decode) = decode else {
            return Err(self.malformed(&format!(
                "The frame holds an extension value of unknown type {code}."
            )));
        };
        self.pause.lift();
        let made = self.call(&decode, payload);
        self.pause.resume();
        self.caught(made)
    }

    pub(super) fn call(
        &mut self,
        decode: &Bound<'py, PyAny>,
        payload: &[u8],
    ) -> PyResult<Bound<'py, PyAny>> {
        if let (None, Some(rest)) = (&self.reader, self.rest.take()) {
            let limits = self
                .serializer
                .bridge
                .limits_object(self.py, rest.limits)
                .unbind();
            let serializer = rest.serializer.clone().unbind();
            let reader = Reader::new(
                serializer,
                limits,
                self.limits,
                rest.copy,
                rest.buffers.keep(),
            );
            self.reader = Some(Bound::new(self.py, reader)?);
        }
        let view = self.source.view(payload)?;
        if let Some(reader) = &self.reader {
            reader.get().keep(self.depth, self.nest);
        }
        decode.call1((self.reader.as_ref(), view))
    }

    pub(super) fn timestamp(&mut self, payload: &[u8]) -> Made<'py> {
        let (head, size) = extension_head(0xff, payload.len());
        let data = [&head[..size], payload].concat();
        let decode = self.serializer.bridge.timestamp.bind(self.py);
        self.caught(decode.call1((PyBytes::new(self.py, &data),)))
    }

    /// Set the attributes of a new value as its maker says.
    pub(super) fn follow(&mut self, maker: &Maker, payload: &[u8]) -> Made<'py> {
        self.deeper(payload, |decoder, tokens| {
            let count = decoder.count(tokens)?;
            if count != maker.fields.len() {
                return Err(decoder.miscounted(count, maker.fields.len()));
            }
            decoder.enter()?;
            let class = maker.class.as_ptr().cast::<ffi::PyTypeObject>();
            // SAFETY: the class is a plain one whose values are nothing but their attributes, and
            // nobody sees the new value before all of them are set.
            unsafe {
                let made = decoder.own(ffi::PyType_GenericAlloc(class, 0))?;
                for field in &maker.fields {
                    let value = decoder.value(tokens, false)?;
                    if let Some(kinds) = &field.kinds {
                        let kind = ffi::Py_TYPE(value.as_ptr()).cast();
                        if ffi::PySet_Contains(kinds.as_ptr(), kind) != 1 {
                            return Err(decoder.misplaced(maker, &value));
                        }
                    }
                    let value = decoder.field(maker, field.mode, value)?;
                    let (name, value) = (field.name.as_ptr(), value.as_ptr());
                    if ffi::PyObject_GenericSetAttr(made.as_ptr(), name, value) != 0 {
                        return Err(Failed);
                    }
                }
                decoder.nest -= 1;
                Ok(made)
            }
        })
    }

    /// Make of a list what its attribute holds.
    pub(super) fn field(
        &mut self,
        maker: &Maker,
        mode: Mode,
        value: Bound<'py, PyAny>,
    ) -> Made<'py> {
        if mode == Mode::Value {
            return Ok(value);
        }
        // SAFETY: a maker's kinds let nothing but lists through for the other modes, and each list
        // is looked at before anyone else can change it.
        unsafe {
            let list = value.cast_into_unchecked::<PyList>();
            if mode == Mode::Names {
                for item in &list {
                    if !item.is_exact_instance_of::<PyString>() {
                        return Err(self.misplaced(maker, &item));
                    }
                }
            }
            if mode == Mode::Rows {
                for (index, row) in list.iter().enumerate() {
                    if !row.is_exact_instance_of::<PyList>() {
                        return Err(self.misplaced(maker, &row));
                    }
                    let row = self.own(ffi::PyList_AsTuple(row.as_ptr()))?;
                    ffi::PyList_SetItem(list.as_ptr(), index.cast_signed(), row.into_ptr());
                }
            }
            self.own(ffi::PyList_AsTuple(list.as_ptr()))
        }
    }

    #[cold]
    pub(super) fn misplaced(&self, maker: &Maker, value: &Bound<'py, PyAny>) -> Failed {
        let name = |kind: &Bound<'py, PyType>| kind.name().map(|name| name.to_string());
        let noun = name(maker.class.bind(self.py)).unwrap_or_default();
        let kind = name(&value.get_type()).unwrap_or_default();
        self.malformed(&format!(
            "The frame holds a {noun} with a {kind} out of place."
        ))
    }
}
