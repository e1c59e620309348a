//! Lists, dicts, tuples and sets.

use std::ptr;

use pyo3::ffi;
use pyo3::prelude::*;

use super::{Encoder, Failed, Held, Written};
use crate::serializer::layout::Layout;

const TUPLE: u8 = 1;
pub(super) const SET: u8 = 2;
pub(super) const FROZENSET: u8 = 3;

impl Encoder<'_, '_> {
    pub(super) unsafe fn list(&mut self, object: *mut ffi::PyObject) -> Written {
        // SAFETY: `object` is exactly a list; its items are borrowed, and each is held by whatever
        // walks on into it.
        unsafe {
            let _held = Held::new(object);
            self.enter()?;
            self.items(object)?;
            self.leave();
        }
        Ok(())
    }

    /// Write the array of a list that the caller holds.
    pub(super) unsafe fn items(&mut self, object: *mut ffi::PyObject) -> Written {
        // SAFETY: as in `list`; an index beyond a list that shrank is an error, not a read.
        unsafe {
            let count = ffi::PyList_Size(object);
            self.out.array(count.cast_unsigned());
            for index in 0..count {
                let item = if self.layout.direct {
                    Layout::item(object, index)
                } else {
                    ffi::PyList_GetItem(object, index)
                };
                if item.is_null() {
                    ffi::PyErr_Clear();
                    return Err(self.changed());
                }
                self.value(item)?;
            }
            if ffi::PyList_Size(object) != count {
                return Err(self.changed());
            }
        }
        Ok(())
    }

    pub(super) unsafe fn dict(&mut self, object: *mut ffi::PyObject) -> Written {
        // SAFETY: `object` is exactly a dict. A key that is a str is written before anything runs;
        // for any other, key and value are held.
        unsafe {
            let _held = Held::new(object);
            self.enter()?;
            let count = ffi::PyDict_Size(object);
            self.out.map(count.cast_unsigned());
            let (mut place, mut left) = (0, count);
            let (mut key, mut item) = (ptr::null_mut(), ptr::null_mut());
            while ffi::PyDict_Next(object, &raw mut place, &raw mut key, &raw mut item) != 0 {
                left -= 1;
                if left < 0 {
                    return Err(self.changed());
                }
                if ffi::Py_TYPE(key) == &raw mut ffi::PyUnicode_Type {
                    self.text(key)?;
                    self.value(item)?;
                } else {
                    let (key, item) = (Held::new(key), Held::new(item));
                    self.value(key.0)?;
                    self.value(item.0)?;
                }
            }
            if left != 0 || ffi::PyDict_Size(object) != count {
                return Err(self.changed());
            }
            self.leave();
        }
        Ok(())
    }

    /// Write a tuple that the caller holds.
    pub(super) unsafe fn tuple(&mut self, object: *mut ffi::PyObject) -> Written {
        // SAFETY: `object` is exactly a tuple, which never changes.
        unsafe {
            let count = ffi::PyTuple_Size(object);
            self.extended = true;
            let mark = self.out.open(count.cast_unsigned());
            self.deeper(|encoder| {
                encoder.enter()?;
                encoder.out.array(count.cast_unsigned());
                for index in 0..count {
                    encoder.value(ffi::PyTuple_GetItem(object, index))?;
                }
                encoder.leave();
                Ok(())
            })?;
            self.out.close(mark, TUPLE);
        }
        Ok(())
    }

    /// Write a set's items sorted by their bytes.
    pub(super) unsafe fn set(&mut self, object: *mut ffi::PyObject, code: u8) -> Written {
        self.extended = true;
        // SAFETY: the iterator owns what it gives, and each item is held until it is written.
        unsafe {
            let count = ffi::PySet_Size(object).cast_unsigned();
            let mark = self.out.open(count);
            self.out.array(count);
            let begin = self.out.len();
            let mut ranges = Vec::new();
            let items = Bound::from_owned_ptr_or_err(self.py, ffi::PyObject_GetIter(object));
            let items = self.caught(items)?;
            self.inline += 1;
            loop {
                let item = ffi::PyIter_Next(items.as_ptr());
                if item.is_null() {
                    if ffi::PyErr_Occurred().is_null() {
                        break;
                    }
                    return Err(Failed);
                }
                let item = Bound::from_owned_ptr(self.py, item);
                let start = self.out.len();
                self.deeper(|encoder| encoder.value(item.as_ptr()))?;
                ranges.push(start..self.out.len());
            }
            self.inline -= 1;
            if ranges.len() != count {
                return Err(self.changed());
            }
            if count > 1 {
                let bytes = self.out.bytes();
                ranges.sort_unstable_by(|a, b| bytes[a.clone()].cmp(&bytes[b.clone()]));
                let mut sorted = Vec::with_capacity(bytes.len() - begin);
                for range in ranges {
                    sorted.extend_from_slice(&bytes[range]);
                }
                self.out.bytes_mut()[begin..].copy_from_slice(&sorted);
            }
            self.out.close(mark, code);
        }
        Ok(())
    }
}
