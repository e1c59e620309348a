//! Make a value of a body: what msgpack and the commonest extensions say, without Python.
//!
//! Tokens come from the core's safe reader; objects are made through the interpreter's C interface.
//! Nothing is allocated for a count that the bytes left cannot hold.

mod extensions;
mod pause;
mod values;

use std::sync::MutexGuard;

use noob_cloud_core_crate::msgpack::{Malformed, Reader as Tokens, too_deep, trailing};
use noob_cloud_core_crate::refusal::Limits;
use pyo3::ffi;
use pyo3::prelude::*;

use pause::Pause;

use crate::serializer::FastSerializer;
use crate::serializer::encode::{Failed, MAX_NEST};
use crate::serializer::keys::Keys;
use crate::serializer::reader::{Buffers, Reader, slice};

/// A new object, or Python's error indicator says why there is none.
type Made<'py> = Result<Bound<'py, PyAny>, Failed>;

/// The object that a body's bytes belong to, for views of parts of it.
pub struct Source<'a, 'py> {
    object: &'a Bound<'py, PyAny>,
    begin: usize,
}

impl<'a, 'py> Source<'a, 'py> {
    /// `bytes` are all of the bytes of `object`.
    pub fn new(object: &'a Bound<'py, PyAny>, bytes: &[u8]) -> Self {
        Self {
            object,
            begin: bytes.as_ptr().addr(),
        }
    }

    /// A memoryview of `part`, which lies within the object's bytes.
    fn view(&self, part: &[u8]) -> PyResult<Bound<'py, PyAny>> {
        let start = part.as_ptr().addr() - self.begin;
        slice(self.object, &(start..start + part.len()))
    }
}

/// What a reader for decoders in Python is made of, until one is called.
pub struct Rest<'a, 'py> {
    pub serializer: &'a Bound<'py, FastSerializer>,
    /// The Python `Limits`; None for the default.
    pub limits: Option<&'a Bound<'py, PyAny>>,
    pub copy: bool,
    pub buffers: Buffers<&'a Bound<'py, PyAny>>,
}

/// Bodies of fewer bytes cannot hold so many containers that a collection would begin.
const WORTH_A_PAUSE: usize = 1 << 10;

/// Makes the value of one body.
pub struct Decoder<'a, 'py> {
    py: Python<'py>,
    serializer: &'a FastSerializer,
    limits: Limits,
    source: Source<'a, 'py>,
    rest: Option<Rest<'a, 'py>>,
    reader: Option<Bound<'py, Reader>>,
    extended: bool,
    depth: usize,
    nest: usize,
    keys: Option<MutexGuard<'a, Keys>>,
    pause: Pause,
}

impl<'a, 'py> Decoder<'a, 'py> {
    /// A decoder of a whole body; `rest` is for the reader that decoders in Python are given.
    pub fn new(
        rest: Rest<'a, 'py>,
        limits: Limits,
        source: Source<'a, 'py>,
        extended: bool,
        size: usize,
    ) -> Self {
        let serializer = rest.serializer.get();
        Self {
            py: rest.serializer.py(),
            serializer,
            limits,
            source,
            rest: Some(rest),
            reader: None,
            extended,
            depth: 0,
            nest: 0,
            keys: serializer.keys.try_lock().ok(),
            pause: Pause::new(size >= WORTH_A_PAUSE),
        }
    }

    /// A decoder of a part that a decoder in Python asked for.
    pub fn inside(
        serializer: &'a FastSerializer,
        limits: Limits,
        source: Source<'a, 'py>,
        reader: Bound<'py, Reader>,
        (depth, nest): (usize, usize),
    ) -> Self {
        Self {
            py: reader.py(),
            serializer,
            limits,
            source,
            rest: None,
            reader: Some(reader),
            extended: true,
            depth,
            nest,
            keys: serializer.keys.try_lock().ok(),
            pause: Pause::NONE,
        }
    }

    /// Return the value that `body` is.
    pub fn read(&mut self, body: &[u8]) -> PyResult<Bound<'py, PyAny>> {
        self.whole(body, |decoder, tokens| decoder.value(tokens, false))
            .map_err(|Failed| self.error())
    }

    /// Return the value that an extension's payload is.
    pub fn descend(&mut self, payload: &[u8]) -> PyResult<Bound<'py, PyAny>> {
        self.deeper(payload, |decoder, tokens| decoder.value(tokens, false))
            .map_err(|Failed| self.error())
    }

    /// Return the list that an extension's payload must be.
    pub fn descend_list(
        &mut self,
        payload: &[u8],
        size: Option<usize>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.deeper(payload, |decoder, tokens| {
            let count = decoder.count(tokens)?;
            if let Some(size) = size
                && size != count
            {
                return Err(decoder.miscounted(count, size));
            }
            decoder.list(tokens, count)
        })
        .map_err(|Failed| self.error())
    }

    fn error(&self) -> PyErr {
        PyErr::fetch(self.py)
    }

    #[cold]
    fn fail(&self, error: PyErr) -> Failed {
        error.restore(self.py);
        Failed
    }

    #[cold]
    fn malformed(&self, message: &str) -> Failed {
        self.fail(self.serializer.bridge.malformed(self.py, message))
    }

    #[cold]
    fn broken(&self, how: Malformed) -> Failed {
        self.malformed(how.message())
    }

    #[cold]
    fn miscounted(&self, count: usize, size: usize) -> Failed {
        self.malformed(&format!(
            "An extension value has {count} items in place of {size}."
        ))
    }

    fn caught<T>(&self, result: PyResult<T>) -> Result<T, Failed> {
        result.map_err(|error| self.fail(error))
    }

    /// A new object, or the error that the interpreter has set.
    #[inline]
    unsafe fn own(&self, object: *mut ffi::PyObject) -> Made<'py> {
        // SAFETY: the caller gives a new reference or null.
        unsafe { Bound::from_owned_ptr_or_opt(self.py, object).ok_or(Failed) }
    }

    // ---- levels

    #[inline]
    fn enter(&mut self) -> Result<(), Failed> {
        self.nest += 1;
        if self.nest > MAX_NEST {
            return Err(self.fail(self.serializer.bridge.refused(self.py, &too_deep())));
        }
        Ok(())
    }

    /// Read all of `body` as `work` does.
    #[inline]
    fn whole<T>(
        &mut self,
        body: &[u8],
        work: impl FnOnce(&mut Self, &mut Tokens<'_>) -> Result<T, Failed>,
    ) -> Result<T, Failed> {
        let mut tokens = Tokens::new(body);
        let made = work(self, &mut tokens)?;
        if !tokens.rest().is_empty() {
            return Err(self.fail(self.serializer.bridge.refused(self.py, &trailing())));
        }
        Ok(made)
    }

    /// Read all of an extension's payload as `work` does, one level deeper.
    #[inline]
    fn deeper<T>(
        &mut self,
        payload: &[u8],
        work: impl FnOnce(&mut Self, &mut Tokens<'_>) -> Result<T, Failed>,
    ) -> Result<T, Failed> {
        if self.depth >= self.limits.depth {
            let limit = self.limits.depth;
            let message = format!("The frame nests deeper than {limit} levels (Limits.depth).");
            return Err(self.fail(self.serializer.bridge.limit(self.py, "depth", &message)));
        }
        self.depth += 1;
        let made = self.whole(payload, work)?;
        self.depth -= 1;
        Ok(made)
    }
}
