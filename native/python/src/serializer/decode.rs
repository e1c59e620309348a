//! Make a value of a body: what msgpack and the commonest extensions say, without Python.
//!
//! Tokens come from the core's safe reader; objects are made through the interpreter's C interface.
//! Nothing is allocated for a count that the bytes left cannot hold.

use std::sync::MutexGuard;

use noob_cloud_core_crate::msgpack::{
    Malformed, Reader as Tokens, Token, extension_head, too_deep, trailing,
};
use noob_cloud_core_crate::refusal::Limits;
use pyo3::exceptions::PyException;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyList, PyString, PyTuple, PyType};

use super::FastSerializer;
use super::encode::{Failed, MAX_NEST};
use super::keys::{Keys, new_text};
use super::reader::{Buffers, Reader, slice};
use super::recipe::{Maker, Mode};
use super::scalars::{DECIMAL, INTEGER, Library};

const TUPLE: i8 = 1;
const SET: i8 = 2;
const FROZENSET: i8 = 3;
const OBJECT: i8 = 4;
const TIMESTAMP: i8 = -1;

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
    pub buffers: Buffers,
}

/// Cycle collection, put off while many containers are made that cannot be garbage yet.
struct Pause {
    paused: bool,
}

impl Pause {
    fn new(wanted: bool) -> Self {
        // SAFETY: the interpreter is attached while anything is decoded.
        let paused = wanted && unsafe { ffi::PyGC_Disable() } != 0;
        Self { paused }
    }

    /// Let Python code run as it always does.
    #[inline]
    fn lift(&self) {
        if self.paused {
            // SAFETY: as above.
            unsafe { ffi::PyGC_Enable() };
        }
    }

    /// Go on, unless Python code turned collection off for good.
    #[inline]
    fn resume(&mut self) {
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
            pause: Pause { paused: false },
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

    // ---- values

    /// Make the next value; where it must be hashable, arrays are made tuples.
    #[inline]
    fn value(&mut self, tokens: &mut Tokens<'_>, hashable: bool) -> Made<'py> {
        let token = tokens.next().map_err(|how| self.broken(how))?;
        // SAFETY: each call gives a new reference, or null with the error set.
        unsafe {
            match token {
                Token::Uint(value) => self.own(ffi::PyLong_FromUnsignedLongLong(value)),
                Token::Int(value) => self.own(ffi::PyLong_FromLongLong(value)),
                Token::Float(value) => self.own(ffi::PyFloat_FromDouble(value)),
                Token::Str(text) => self.own(new_text(text)),
                Token::Array(count) if !hashable => self.list(tokens, count),
                Token::Array(count) => self.tuple(tokens, count, true),
                Token::Map(count) => self.dict(tokens, count),
                Token::Nil => Ok(self.py.None().into_bound(self.py)),
                Token::Bool(value) => Ok(PyBool::new(self.py, value).to_owned().into_any()),
                Token::Bin(data) => {
                    let size = data.len().cast_signed();
                    self.own(ffi::PyBytes_FromStringAndSize(data.as_ptr().cast(), size))
                }
                Token::Ext(code, payload) => self.extension(code, payload),
            }
        }
    }

    fn list(&mut self, tokens: &mut Tokens<'_>, count: usize) -> Made<'py> {
        self.enter()?;
        // SAFETY: the list is new, has `count` places, and each is filled once; the reader has made
        // sure that there are as many bytes.
        unsafe {
            let list = self.own(ffi::PyList_New(count.cast_signed()))?;
            for index in 0..count.cast_signed() {
                let item = self.value(tokens, false)?;
                ffi::PyList_SetItem(list.as_ptr(), index, item.into_ptr());
            }
            self.nest -= 1;
            Ok(list)
        }
    }

    fn tuple(&mut self, tokens: &mut Tokens<'_>, count: usize, hashable: bool) -> Made<'py> {
        self.enter()?;
        // SAFETY: as in `list`.
        unsafe {
            let tuple = self.own(ffi::PyTuple_New(count.cast_signed()))?;
            for index in 0..count.cast_signed() {
                let item = self.value(tokens, hashable)?;
                ffi::PyTuple_SetItem(tuple.as_ptr(), index, item.into_ptr());
            }
            self.nest -= 1;
            Ok(tuple)
        }
    }

    fn dict(&mut self, tokens: &mut Tokens<'_>, count: usize) -> Made<'py> {
        self.enter()?;
        // SAFETY: the dict is new; it takes references of its own to key and value.
        unsafe {
            let dict = self.own(ffi::PyDict_New())?;
            for _ in 0..count {
                let mut ahead = *tokens;
                if let Ok(Token::Str(text)) = ahead.next() {
                    *tokens = ahead;
                    let key = self.key(text)?;
                    let item = self.value(tokens, false)?;
                    if ffi::PyDict_SetItem(dict.as_ptr(), key.as_ptr(), item.as_ptr()) != 0 {
                        return Err(Failed);
                    }
                    continue;
                }
                let key = self.value(tokens, true)?;
                let item = self.value(tokens, false)?;
                self.pause.lift(); // a key may be of a class of the user's
                let set = ffi::PyDict_SetItem(dict.as_ptr(), key.as_ptr(), item.as_ptr());
                self.pause.resume();
                if set != 0 {
                    return Err(Failed);
                }
            }
            self.nest -= 1;
            Ok(dict)
        }
    }

    #[inline]
    fn key(&mut self, text: &[u8]) -> Made<'py> {
        // SAFETY: the interpreter is attached; a new reference, or null with the error set.
        unsafe {
            let key = match &mut self.keys {
                Some(keys) => keys.text(text),
                None => new_text(text),
            };
            self.own(key)
        }
    }

    /// The number of items of the array that must come next.
    fn count(&mut self, tokens: &mut Tokens<'_>) -> Result<usize, Failed> {
        match tokens.next().map_err(|how| self.broken(how))? {
            Token::Array(count) => Ok(count),
            _ => Err(self.malformed(
                "The frame's body is malformed: an extension value holds no array where it must.",
            )),
        }
    }

    // ---- extension values

    fn extension(&mut self, code: i8, payload: &[u8]) -> Made<'py> {
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

    fn set(&mut self, code: i8, payload: &[u8]) -> Made<'py> {
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
    fn object(&mut self, payload: &[u8]) -> Made<'py> {
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

    fn build(
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
    fn other(&mut self, code: i8, payload: &[u8]) -> Made<'py> {
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

    fn call(&mut self, decode: &Bound<'py, PyAny>, payload: &[u8]) -> PyResult<Bound<'py, PyAny>> {
        if let (None, Some(rest)) = (&self.reader, self.rest.take()) {
            let limits = self
                .serializer
                .bridge
                .limits_object(self.py, rest.limits)
                .unbind();
            let serializer = rest.serializer.clone().unbind();
            let reader = Reader::new(serializer, limits, self.limits, rest.copy, rest.buffers);
            self.reader = Some(Bound::new(self.py, reader)?);
        }
        let view = self.source.view(payload)?;
        if let Some(reader) = &self.reader {
            reader.get().keep(self.depth, self.nest);
        }
        decode.call1((self.reader.as_ref(), view))
    }

    fn timestamp(&mut self, payload: &[u8]) -> Made<'py> {
        let (head, size) = extension_head(0xff, payload.len());
        let data = [&head[..size], payload].concat();
        let decode = self.serializer.bridge.timestamp.bind(self.py);
        self.caught(decode.call1((PyBytes::new(self.py, &data),)))
    }

    /// Set the attributes of a new value as its maker says.
    fn follow(&mut self, maker: &Maker, payload: &[u8]) -> Made<'py> {
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
    fn field(&mut self, maker: &Maker, mode: Mode, value: Bound<'py, PyAny>) -> Made<'py> {
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
    fn misplaced(&self, maker: &Maker, value: &Bound<'py, PyAny>) -> Failed {
        let name = |kind: &Bound<'py, PyType>| kind.name().map(|name| name.to_string());
        let noun = name(maker.class.bind(self.py)).unwrap_or_default();
        let kind = name(&value.get_type()).unwrap_or_default();
        self.malformed(&format!(
            "The frame holds a {noun} with a {kind} out of place."
        ))
    }
}
