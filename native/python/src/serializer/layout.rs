//! Where `CPython` keeps what floats, ints, lists and ASCII strings hold.
//!
//! The stable interface has a function for each of these reads, and a call for each value is what
//! most of the time of a walk goes into (measured: 4 times as fast as pickle with the functions, 7
//! times with the reads). So on versions whose layout is known, and where a probe of samples finds
//! every read to agree with its function, the walk reads directly; anywhere else it calls.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyFloat, PyInt, PyList, PyString};

/// Minor versions of `CPython` 3 whose headers were read: object sizes never change within one.
const KNOWN: std::ops::RangeInclusive<u8> = 11..=13;
/// From this one on an int's sign stands beside its size.
const TAGGED: u8 = 12;
/// Words to a float's value, an int's size, a str's length, a list's length.
const VALUE: usize = 2;
/// Words to an int's digits, a list's items.
const ITEMS: usize = 3;
/// Words to a str's state.
const STATE: usize = 4;
/// A str that is one block of ASCII.
const COMPACT_ASCII: u32 = 0x60;
const DIGIT: u32 = 30;

/// How values may be read.
#[derive(Clone, Copy)]
pub struct Layout {
    /// Whether they may at all.
    pub direct: bool,
    tagged: bool,
    /// Bytes to an ASCII string's text.
    text: usize,
}

impl Layout {
    /// Read nothing directly.
    pub const STABLE: Self = Self {
        direct: false,
        tagged: false,
        text: 0,
    };

    /// Find out how values may be read in this interpreter.
    pub fn probe(py: Python<'_>) -> PyResult<Self> {
        let version = py.version_info();
        let name: String = py
            .import("sys")?
            .getattr("implementation")?
            .getattr("name")?
            .extract()?;
        let known = version.major == 3 && KNOWN.contains(&version.minor) && name == "cpython";
        if !known || cfg!(any(target_endian = "big", not(target_pointer_width = "64"))) {
            return Ok(Self::STABLE);
        }
        // SAFETY: the text of an ASCII string lies within its object.
        let text = unsafe {
            let sample = PyString::new(py, "a sample");
            let mut size = 0;
            let data = ffi::PyUnicode_AsUTF8AndSize(sample.as_ptr(), &raw mut size);
            data.addr().wrapping_sub(sample.as_ptr().addr())
        };
        let found = Self {
            direct: text == 40 || text == 48,
            tagged: version.minor >= TAGGED,
            text,
        };
        // SAFETY: objects of these types have at least as many words in every version known.
        let sound = found.direct && unsafe { found.agrees(py)? };
        Ok(if sound { found } else { Self::STABLE })
    }

    /// Whether every read of some samples gives what the interpreter's functions do.
    unsafe fn agrees(self, py: Python<'_>) -> PyResult<bool> {
        // SAFETY: each read is of a sample of its type.
        unsafe {
            let floats = [0.0, 0.5, -1e300].into_iter().all(|value| {
                Self::float(PyFloat::new(py, value).as_ptr()).to_bits() == value.to_bits()
            });
            let ints = [
                0,
                1,
                255,
                256,
                0x3fff_ffff,
                0x4000_0000,
                (1 << 59) + 7,
                (1 << 60) - 1,
            ]
            .into_iter()
            .all(|value: i64| {
                let sample = PyInt::new(py, value);
                self.small_int(sample.as_ptr()) == Some(value.cast_unsigned())
            });
            let others = [-1, -5, -1000, -(1 << 40), 1 << 60, i64::MAX, i64::MIN]
                .into_iter()
                .all(|value| self.small_int(PyInt::new(py, value).as_ptr()).is_none());
            let list = PyList::new(py, [1, 2, 3])?;
            for value in 4..100 {
                list.append(value)?;
            }
            list.del_item(0)?;
            let lists = list.iter().enumerate().all(|(index, item)| {
                Self::item(list.as_ptr(), index.cast_signed()) == item.as_ptr()
            }) && Self::item(list.as_ptr(), list.len().cast_signed()).is_null()
                && Self::item(PyList::empty(py).as_ptr(), 0).is_null();
            let texts = ["", "a", "some text", "__name__", &"x".repeat(1000)]
                .into_iter()
                .all(|text| self.ascii(PyString::new(py, text).as_ptr()) == Some(text.as_bytes()))
                && self.ascii(PyString::intern(py, "interned").as_ptr()) == Some(b"interned");
            let wide = ["\u{e9}", "\u{20ac}", "\u{1f600}", "mostly ascii \u{e9}"]
                .into_iter()
                .all(|text| self.ascii(PyString::new(py, text).as_ptr()).is_none());
            Ok(floats && ints && others && lists && texts && wide)
        }
    }

    /// The value of a float.
    ///
    /// # Safety
    /// `object` is exactly a float, and `direct` holds, as for all of the following.
    #[inline]
    pub unsafe fn float(object: *mut ffi::PyObject) -> f64 {
        // SAFETY: a float's value is its third word.
        unsafe { object.cast::<f64>().add(VALUE).read() }
    }

    /// The value of an int that is not negative and has at most two digits.
    ///
    /// # Safety
    /// `object` is exactly an int.
    #[inline]
    pub unsafe fn small_int(self, object: *mut ffi::PyObject) -> Option<u64> {
        // SAFETY: an int's size is its third word, and as many digits as that says follow.
        unsafe {
            let size = object.cast::<usize>().add(VALUE).read();
            let digits = if !self.tagged {
                size
            } else if size & 3 == 2 {
                return None;
            } else {
                size >> 3
            };
            let digit = object.cast::<u64>().add(ITEMS).cast::<u32>();
            match digits {
                0 => Some(0),
                1 => Some(u64::from(digit.read())),
                2 => Some(u64::from(digit.read()) | u64::from(digit.add(1).read()) << DIGIT),
                _ => None,
            }
        }
    }

    /// The item of a list, borrowed; null beyond its end.
    ///
    /// # Safety
    /// `object` is exactly a list.
    #[inline]
    pub unsafe fn item(object: *mut ffi::PyObject, index: isize) -> *mut ffi::PyObject {
        // SAFETY: a list's length is its third word, its items are behind the fourth.
        unsafe {
            if index >= object.cast::<isize>().add(VALUE).read() {
                return std::ptr::null_mut();
            }
            object
                .cast::<*mut *mut ffi::PyObject>()
                .add(ITEMS)
                .read()
                .offset(index)
                .read()
        }
    }

    /// The text of a str that is one block of ASCII, which lives as long as the str.
    ///
    /// # Safety
    /// `object` is exactly a str.
    #[inline]
    pub unsafe fn ascii<'a>(self, object: *mut ffi::PyObject) -> Option<&'a [u8]> {
        // SAFETY: a str's length is its third word, its state the fifth; the text of an ASCII one
        // is where the probe found it.
        unsafe {
            let state = object.cast::<u64>().add(STATE).cast::<u32>().read();
            if state & COMPACT_ASCII != COMPACT_ASCII {
                return None;
            }
            let size = object.cast::<usize>().add(VALUE).read();
            Some(std::slice::from_raw_parts(
                object.cast::<u8>().add(self.text),
                size,
            ))
        }
    }
}
