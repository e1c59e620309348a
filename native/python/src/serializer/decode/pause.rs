//! Cycle collection while a value is made.

use pyo3::ffi;

/// Cycle collection, put off while many containers are made that cannot be garbage yet.
pub struct Pause {
    paused: bool,
}

impl Pause {
    /// Nothing is put off.
    pub const NONE: Self = Self { paused: false };

    pub fn new(wanted: bool) -> Self {
        // SAFETY: the interpreter is attached while anything is decoded.
        let paused = wanted && unsafe { ffi::PyGC_Disable() } != 0;
        Self { paused }
    }

    /// Let Python code run as it always does.
    #[inline]
    pub fn lift(&self) {
        if self.paused {
            // SAFETY: as above.
            unsafe { ffi::PyGC_Enable() };
        }
    }

    /// Go on, unless Python code turned collection off for good.
    #[inline]
    pub fn resume(&mut self) {
        if self.paused {
            // SAFETY: as above.
            self.paused = unsafe { ffi::PyGC_Disable() } != 0;
        }
    }
}

impl Drop for Pause {
    fn drop(&mut self) {
        self.lift();
    }
}
