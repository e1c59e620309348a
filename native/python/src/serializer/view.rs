//! Bytes of another object, held for as long as they are looked at.

use std::mem::MaybeUninit;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// The bytes of an object with the buffer protocol.
pub struct View {
    buffer: Box<MaybeUninit<ffi::Py_buffer>>,
}

impl View {
    /// Ask `object` for its bytes, which must lie one after the other.
    pub fn of(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        let mut buffer = Box::new(MaybeUninit::uninit());
        // SAFETY: the interpreter fills the view or fails; a filled one is released once, on drop.
        let result = unsafe {
            ffi::PyObject_GetBuffer(object.as_ptr(), buffer.as_mut_ptr(), ffi::PyBUF_SIMPLE)
        };
        if result != 0 {
            // the view was not filled and must not be released
            return Err(PyErr::fetch(object.py()));
        }
        Ok(Self { buffer })
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: `of` made sure that the view is filled, and it is released only on drop.
        unsafe {
            let view = self.buffer.assume_init_ref();
            if view.len == 0 {
                return &[];
            }
            std::slice::from_raw_parts(view.buf.cast::<u8>(), view.len.cast_unsigned())
        }
    }
}

impl Drop for View {
    fn drop(&mut self) {
        // SAFETY: the view is filled; who holds a `View` works with the interpreter attached.
        unsafe { ffi::PyBuffer_Release(self.buffer.as_mut_ptr()) };
    }
}

/// New bytes of `size`; `fill` must write all of them.
pub fn new_bytes(
    py: Python<'_>,
    size: usize,
    fill: impl FnOnce(&mut [MaybeUninit<u8>]),
) -> PyResult<Bound<'_, PyBytes>> {
    // SAFETY: the new object is referred to here alone, and has `size` bytes.
    unsafe {
        let made = ffi::PyBytes_FromStringAndSize(std::ptr::null(), size.cast_signed());
        let made = Bound::from_owned_ptr_or_err(py, made)?;
        let data = ffi::PyBytes_AsString(made.as_ptr()).cast::<MaybeUninit<u8>>();
        fill(std::slice::from_raw_parts_mut(data, size));
        Ok(made.cast_into_unchecked())
    }
}
