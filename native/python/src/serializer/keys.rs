//! Strings that dicts have as keys, kept: the same few names come again and again.

use pyo3::ffi;

/// Longer keys are made each time.
const LONGEST: usize = 40;
const PLACES: usize = 1024;
/// Of so many bytes the first 8 and the last 8 are all.
const COVERED: usize = 16;

struct Place {
    size: usize,
    /// What is looked at first, and all there is to most keys.
    ends: (u64, u64),
    bytes: [u8; LONGEST],
    /// A strong reference to a str of these bytes, or null.
    text: *mut ffi::PyObject,
}

/// A table with one place for each hash; a new key takes the place of another.
pub struct Keys {
    places: Vec<Place>,
}

// SAFETY: the pointers are strong references to str objects, which any thread that holds the
// interpreter may use; every method of the table wants the interpreter.
unsafe impl Send for Keys {}

impl Keys {
    pub fn new() -> Self {
        let empty = || Place {
            size: 0,
            ends: (0, 0),
            bytes: [0; LONGEST],
            text: std::ptr::null_mut(),
        };
        Self {
            places: std::iter::repeat_with(empty).take(PLACES).collect(),
        }
    }

    /// A new reference to the str of these bytes; null, with Python's error set, if they are no
    /// UTF-8.
    ///
    /// # Safety
    /// The interpreter is attached.
    #[inline]
    pub unsafe fn text(&mut self, bytes: &[u8]) -> *mut ffi::PyObject {
        let size = bytes.len();
        if size == 0 || size > LONGEST {
            // SAFETY: a slice's bytes and their number.
            return unsafe { new_text(bytes) };
        }
        let ends = ends(bytes);
        let place = &mut self.places[hash(ends, size)];
        if place.size == size
            && place.ends == ends
            && (size <= COVERED || place.bytes[..size] == *bytes)
        {
            // SAFETY: a place with a size holds a str.
            unsafe { ffi::Py_INCREF(place.text) };
            return place.text;
        }
        // SAFETY: the new str is referred to once by the place and once by the caller, and what the
        // place held is given back.
        unsafe {
            let text = new_text(bytes);
            if !text.is_null() {
                let old = std::mem::replace(&mut place.text, text);
                (place.size, place.ends) = (size, ends);
                place.bytes[..size].copy_from_slice(bytes);
                ffi::Py_INCREF(text);
                ffi::Py_XDECREF(old);
            }
            text
        }
    }
}

/// A new str of these bytes, or null with Python's error set.
///
/// # Safety
/// The interpreter is attached.
#[inline]
pub unsafe fn new_text(bytes: &[u8]) -> *mut ffi::PyObject {
    // SAFETY: a slice's bytes and their number, which is at most isize::MAX.
    unsafe { ffi::PyUnicode_FromStringAndSize(bytes.as_ptr().cast(), bytes.len().cast_signed()) }
}

/// The first and last bytes; of at most `COVERED` bytes they are all.
#[inline]
fn ends(bytes: &[u8]) -> (u64, u64) {
    if let (Some(first), Some(last)) = (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
        return (u64::from_le_bytes(*first), u64::from_le_bytes(*last));
    }
    if let (Some(first), Some(last)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        return (
            u32::from_le_bytes(*first).into(),
            u32::from_le_bytes(*last).into(),
        );
    }
    let size = bytes.len();
    let byte = |index: usize| bytes.get(index).copied().map_or(0, u64::from);
    (byte(0) | byte(size / 2) << 8, byte(size.wrapping_sub(1)))
}

#[inline]
fn hash(ends: (u64, u64), size: usize) -> usize {
    let mixed = (ends.0 ^ ends.1.rotate_left(29) ^ size as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    usize::try_from(mixed >> (u64::BITS - PLACES.ilog2())).unwrap_or(0)
}
