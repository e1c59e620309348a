//! Scalars of msgpack, and where the walk goes on for everything else.

#![expect(
    clippy::inline_always,
    reason = "a call for each scalar is measured to cost a tenth of the walk"
)]

use std::ffi::c_int;

use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::containers::{FROZENSET, SET};
use super::{Encoder, Failed, Held, Written};
use crate::serializer::layout::Layout;
use crate::serializer::scalars::INTEGER;

/// From this many bytes on, a byte string is not copied into the body before the frame is made.
const SPLICE: usize = 4096;
const TEXT: u8 = 6;
const NAN: f64 = f64::from_bits(0x7ff8 << 48);

impl Encoder<'_, '_> {
    /// # Safety
    /// `object` is a valid object that lives through the call, or is held by a container that does
    /// and that nothing changes before this function takes a reference of its own.
    #[inline(always)]
    pub(super) unsafe fn value(&mut self, object: *mut ffi::PyObject) -> Written {
        // SAFETY: each function is called with an object of the type it wants.
        unsafe {
            let kind = ffi::Py_TYPE(object);
            if kind == &raw mut ffi::PyUnicode_Type {
                self.text(object)
            } else if kind == &raw mut ffi::PyFloat_Type {
                self.float(object);
                Ok(())
            } else if kind == &raw mut ffi::PyLong_Type {
                self.integer(object)
            } else if kind == &raw mut ffi::PyDict_Type {
                self.dict(object)
            } else if kind == &raw mut ffi::PyList_Type {
                self.list(object)
            } else if kind == &raw mut ffi::PyBool_Type {
                self.out
                    .byte(if object == ffi::Py_True() { 0xc3 } else { 0xc2 });
                Ok(())
            } else if object == ffi::Py_None() {
                self.out.byte(0xc0);
                Ok(())
            } else {
                self.uncommon(kind, object)
            }
        }
    }

    #[inline(never)]
    pub(super) unsafe fn uncommon(
        &mut self,
        kind: *mut ffi::PyTypeObject,
        object: *mut ffi::PyObject,
    ) -> Written {
        // SAFETY: `object` is valid and held below wherever Python code may run.
        unsafe {
            if kind == &raw mut ffi::PyBytes_Type {
                return self.binary(object);
            }
            let _held = Held::new(object);
            if kind == &raw mut ffi::PyTuple_Type {
                self.tuple(object)
            } else if kind == &raw mut ffi::PySet_Type {
                self.set(object, SET)
            } else if kind == &raw mut ffi::PyFrozenSet_Type {
                self.set(object, FROZENSET)
            } else if kind == &raw mut ffi::PyByteArray_Type
                || kind == &raw mut ffi::PyMemoryView_Type
            {
                self.buffer(object)
            } else {
                self.other(kind, object)
            }
        }
    }

    #[inline]
    pub(super) unsafe fn text(&mut self, object: *mut ffi::PyObject) -> Written {
        if self.layout.direct
            // SAFETY: `object` is exactly a str that lives as long as what holds it.
            && let Some(text) = unsafe { self.layout.ascii(object) }
        {
            return self.utf8(text);
        }
        let mut size = 0;
        // SAFETY: `object` is a str, whose UTF-8 lives as long as it does.
        let data = unsafe { ffi::PyUnicode_AsUTF8AndSize(object, &raw mut size) };
        if data.is_null() {
            return self.surrogates(object);
        }
        // SAFETY: the interpreter promises `size` bytes at `data`.
        let text = unsafe { std::slice::from_raw_parts(data.cast::<u8>(), size.cast_unsigned()) };
        self.utf8(text)
    }

    #[inline]
    pub(super) fn utf8(&mut self, text: &[u8]) -> Written {
        if text.len() > self.limits.body {
            return Err(self.too_long());
        }
        self.out.text(text);
        Ok(())
    }

    /// Write a str with lone surrogates.
    #[cold]
    pub(super) fn surrogates(&mut self, object: *mut ffi::PyObject) -> Written {
        // SAFETY: `object` is a str; the error indicator is set, and cleared before the next call.
        unsafe {
            if ffi::PyErr_ExceptionMatches(ffi::PyExc_UnicodeEncodeError) == 0 {
                return Err(Failed);
            }
            ffi::PyErr_Clear();
            let (encoding, errors) = (c"utf-8".as_ptr(), c"surrogatepass".as_ptr());
            let encoded = ffi::PyUnicode_AsEncodedString(object, encoding, errors);
            let encoded = self.caught(Bound::from_owned_ptr_or_err(self.py, encoded))?;
            self.extended = true;
            self.out
                .extension(TEXT, encoded.cast_unchecked::<PyBytes>().as_bytes());
        }
        Ok(())
    }

    #[inline]
    pub(super) unsafe fn float(&mut self, object: *mut ffi::PyObject) {
        // SAFETY: `object` is exactly a float, so that this neither fails nor runs Python.
        let mut value = unsafe {
            if self.layout.direct {
                Layout::float(object)
            } else {
                ffi::PyFloat_AsDouble(object)
            }
        };
        if self.canonical && value.is_nan() {
            value = NAN;
        }
        self.out.float(value);
    }

    #[inline]
    pub(super) unsafe fn integer(&mut self, object: *mut ffi::PyObject) -> Written {
        if self.layout.direct
            // SAFETY: `object` is exactly an int.
            && let Some(value) = unsafe { self.layout.small_int(object) }
        {
            self.out.unsigned(value);
            return Ok(());
        }
        let mut overflow: c_int = 0;
        // SAFETY: `object` is exactly an int.
        let value = unsafe { ffi::PyLong_AsLongLongAndOverflow(object, &raw mut overflow) };
        if overflow == 0 {
            self.out.signed(value);
            return Ok(());
        }
        // SAFETY: as above.
        unsafe {
            let value = Borrowed::from_ptr(self.py, object).to_owned();
            if overflow > 0 {
                let bits = value.call_method0(intern!(self.py, "bit_length"));
                if self.caught(bits.and_then(|bits| bits.extract::<usize>()))? <= 64 {
                    self.out.unsigned(ffi::PyLong_AsUnsignedLongLong(object));
                    return Ok(());
                }
            }
            self.extended = true;
            self.scalar(INTEGER, &value)
        }
    }

    pub(super) unsafe fn binary(&mut self, object: *mut ffi::PyObject) -> Written {
        // SAFETY: `object` is exactly bytes.
        let value = unsafe { Borrowed::from_ptr(self.py, object).cast_unchecked::<PyBytes>() };
        let data = value.as_bytes();
        if data.len() > self.limits.body {
            return Err(self.too_long());
        }
        self.out.binary_head(data.len());
        match &mut self.splices {
            Some(splices) if data.len() >= SPLICE && self.depth == 0 => {
                self.spliced += data.len();
                splices.push((self.out.len(), value.to_owned()));
            }
            _ => self.out.raw(data),
        }
        Ok(())
    }

    /// Write a bytearray or memoryview, or say that its bytes do not lie one after the other.
    pub(super) unsafe fn buffer(&mut self, object: *mut ffi::PyObject) -> Written {
        // SAFETY: the interpreter fills the view, which is released after its bytes were copied
        // without Python code in between.
        unsafe {
            let mut view = std::mem::zeroed::<ffi::Py_buffer>();
            if ffi::PyObject_GetBuffer(object, &raw mut view, ffi::PyBUF_SIMPLE) != 0 {
                let error = PyErr::fetch(self.py);
                let shown = Borrowed::from_ptr(self.py, object).repr();
                let shown = shown.map_or_else(|_| "a buffer".into(), |text| text.to_string());
                let message = format!("{shown} could not be encoded: {error}");
                return Err(self.fail(self.serializer.bridge.unencodable(self.py, &message)));
            }
            let size = view.len.cast_unsigned();
            let fits = size <= self.limits.body;
            if fits {
                self.out.binary_head(size);
                if size > 0 {
                    self.out
                        .raw(std::slice::from_raw_parts(view.buf.cast::<u8>(), size));
                }
            }
            ffi::PyBuffer_Release(&raw mut view);
            if fits { Ok(()) } else { Err(self.too_long()) }
        }
    }
}
