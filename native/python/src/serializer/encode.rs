//! Walk a value and write its body: what msgpack and the commonest extensions say, without Python.
//!
//! The walk asks the interpreter's C interface directly; everything it does not know is left to the
//! encoders in Python. Values are borrowed from the containers that hold them, and owned wherever
//! Python code may run and change those.

#![expect(
    clippy::inline_always,
    reason = "a call for each scalar is measured to cost a tenth of the walk"
)]

use std::ffi::c_int;
use std::ptr;

use noob_cloud_core_crate::refusal::Limits;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

use super::FastSerializer;
use super::layout::Layout;
use super::output::Output;
use super::recipe::{Mode, Recipe, Shape};
use super::scalars::{INTEGER, Library};
use super::writer::Writer;

/// Python's error indicator says what went wrong.
pub struct Failed;

type Written = Result<(), Failed>;

/// Containers inside each other, whatever they are; a thread's stack has room for more.
pub const MAX_NEST: usize = 1000;
/// Lists and dicts inside each other that canonical bytes allow.
const CANONICAL_ROOM: usize = 250;
/// From this many bytes on, a byte string is not copied into the body before the frame is made.
const SPLICE: usize = 4096;
const TUPLE: u8 = 1;
const SET: u8 = 2;
const FROZENSET: u8 = 3;
const OBJECT: u8 = 4;
const TEXT: u8 = 6;
const NAN: f64 = f64::from_bits(0x7ff8 << 48);

/// A strong reference for the time of a call.
struct Held(*mut ffi::PyObject);

impl Held {
    /// # Safety
    /// `object` is a valid object and the interpreter is attached.
    #[inline]
    unsafe fn new(object: *mut ffi::PyObject) -> Self {
        // SAFETY: as promised by the caller.
        unsafe { ffi::Py_INCREF(object) };
        Self(object)
    }
}

impl Drop for Held {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: `new` took the reference that is given back; values never outlive the walk, which
        // holds the interpreter.
        unsafe { ffi::Py_DECREF(self.0) };
    }
}

/// Who writes a frame, for the writer that encoders in Python are given.
#[derive(Clone, Copy)]
pub struct Owner<'a, 'py> {
    pub serializer: &'a Bound<'py, FastSerializer>,
    /// The Python `Limits`; None for the default.
    pub limits: Option<&'a Bound<'py, PyAny>>,
}

/// Writes one body.
pub struct Encoder<'a, 'py> {
    py: Python<'py>,
    serializer: &'a FastSerializer,
    pub out: Output,
    layout: Layout,
    limits: Limits,
    writer: Option<Py<Writer>>,
    owner: Option<Owner<'a, 'py>>,
    pub canonical: bool,
    /// Whether the body holds extension values.
    pub extended: bool,
    depth: usize,
    nest: usize,
    room: usize,
    inline: usize,
    /// Where byte strings belong that are put in when the frame is made.
    pub splices: Option<Vec<(usize, Bound<'py, PyBytes>)>>,
    pub spliced: usize,
}

impl<'a, 'py> Encoder<'a, 'py> {
    /// An encoder of a whole body.
    pub fn new(owner: Owner<'a, 'py>, out: Output, limits: Limits, canonical: bool) -> Self {
        Self {
            py: owner.serializer.py(),
            serializer: owner.serializer.get(),
            out,
            layout: owner.serializer.get().layout,
            limits,
            writer: None,
            owner: Some(owner),
            canonical,
            extended: false,
            depth: 0,
            nest: 0,
            room: CANONICAL_ROOM,
            inline: 0,
            splices: Some(Vec::new()),
            spliced: 0,
        }
    }

    /// An encoder of a part that an encoder in Python asked for.
    pub fn inside(
        py: Python<'py>,
        serializer: &'a FastSerializer,
        out: Output,
        limits: Limits,
        writer: Py<Writer>,
        canonical: bool,
    ) -> Self {
        Self {
            py,
            serializer,
            out,
            layout: serializer.layout,
            limits,
            writer: Some(writer),
            owner: None,
            canonical,
            extended: true,
            depth: 0,
            nest: 0,
            room: CANONICAL_ROOM,
            inline: 0,
            splices: None,
            spliced: 0,
        }
    }

    /// Go on from where the frame's walk is.
    pub fn place(&mut self, depth: usize, nest: usize, inline: usize) {
        (self.depth, self.nest, self.inline) = (depth, nest, inline);
    }

    /// Write `value`.
    pub fn write(&mut self, value: &Bound<'py, PyAny>) -> PyResult<()> {
        // SAFETY: a `Bound` is a valid object, and the interpreter is attached.
        unsafe { self.value(value.as_ptr()) }.map_err(|Failed| PyErr::fetch(self.py))
    }

    /// Write `value` one extension deeper.
    pub fn descend(&mut self, value: &Bound<'py, PyAny>) -> PyResult<()> {
        // SAFETY: a `Bound` is a valid object, and the interpreter is attached.
        unsafe { self.deeper(|encoder| encoder.value(value.as_ptr())) }
            .map_err(|Failed| PyErr::fetch(self.py))
    }

    /// The writer that encoders in Python were given, if one was.
    pub fn writer(&self) -> Option<&Writer> {
        self.writer.as_ref().map(Py::get)
    }

    #[cold]
    fn fail(&self, error: PyErr) -> Failed {
        error.restore(self.py);
        Failed
    }

    fn caught<T>(&self, result: PyResult<T>) -> Result<T, Failed> {
        result.map_err(|error| self.fail(error))
    }

    #[cold]
    fn too_deep(&self, message: &str) -> Failed {
        self.fail(self.serializer.bridge.limit(self.py, "depth", message))
    }

    #[cold]
    fn changed(&self) -> Failed {
        let message = "A list, dict or set changed its size while it was encoded.";
        self.fail(self.serializer.bridge.unencodable(self.py, message))
    }

    // ---- levels

    #[inline]
    fn enter(&mut self) -> Written {
        self.nest += 1;
        if self.nest > MAX_NEST {
            return Err(self.too_deep(
                "The value is nested deeper than this thread's stack allows. Does it contain \
                 itself?",
            ));
        }
        if self.canonical {
            if self.room == 0 {
                return Err(self.too_deep(&format!(
                    "The value nests lists and dicts deeper than {CANONICAL_ROOM} levels. Does it \
                     contain itself?"
                )));
            }
            self.room -= 1;
        }
        if self.out.len() > self.limits.body {
            return Err(self.too_long());
        }
        Ok(())
    }

    #[inline]
    fn leave(&mut self) {
        self.nest -= 1;
        if self.canonical {
            self.room += 1;
        }
    }

    #[cold]
    fn too_long(&self) -> Failed {
        let size = self.out.len() + self.spliced;
        let message = format!(
            "The body has {size} bytes or more, over the limit of {} (Limits.body). Pass large \
             data as arrays, or by cid through a blob store.",
            self.limits.body
        );
        self.fail(self.serializer.bridge.limit(self.py, "body", &message))
    }

    /// Do `work` one extension deeper, where lists and dicts may nest anew.
    #[inline]
    fn deeper(&mut self, work: impl FnOnce(&mut Self) -> Written) -> Written {
        if self.depth >= self.limits.depth {
            return Err(self.too_deep(&format!(
                "The value is nested deeper than {} levels (Limits.depth). Does it contain itself?",
                self.limits.depth
            )));
        }
        let room = std::mem::replace(&mut self.room, CANONICAL_ROOM);
        self.depth += 1;
        work(self)?;
        self.depth -= 1;
        self.room = room;
        Ok(())
    }

    // ---- values

    /// # Safety
    /// `object` is a valid object that lives through the call, or is held by a container that does
    /// and that nothing changes before this function takes a reference of its own.
    #[inline(always)]
    unsafe fn value(&mut self, object: *mut ffi::PyObject) -> Written {
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
    unsafe fn uncommon(
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
    unsafe fn text(&mut self, object: *mut ffi::PyObject) -> Written {
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
    fn utf8(&mut self, text: &[u8]) -> Written {
        if text.len() > self.limits.body {
            return Err(self.too_long());
        }
        self.out.text(text);
        Ok(())
    }

    /// Write a str with lone surrogates.
    #[cold]
    fn surrogates(&mut self, object: *mut ffi::PyObject) -> Written {
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
    unsafe fn float(&mut self, object: *mut ffi::PyObject) {
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
    unsafe fn integer(&mut self, object: *mut ffi::PyObject) -> Written {
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

    /// Write a scalar of the standard library.
    fn scalar(&mut self, code: i8, value: &Bound<'py, PyAny>) -> Written {
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

    unsafe fn binary(&mut self, object: *mut ffi::PyObject) -> Written {
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
    unsafe fn buffer(&mut self, object: *mut ffi::PyObject) -> Written {
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

    // ---- containers

    unsafe fn list(&mut self, object: *mut ffi::PyObject) -> Written {
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
    unsafe fn items(&mut self, object: *mut ffi::PyObject) -> Written {
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

    unsafe fn dict(&mut self, object: *mut ffi::PyObject) -> Written {
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
    unsafe fn tuple(&mut self, object: *mut ffi::PyObject) -> Written {
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
    unsafe fn set(&mut self, object: *mut ffi::PyObject, code: u8) -> Written {
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

    // ---- everything else

    /// Write a value that the caller holds by its class's recipe, or let Python encode it.
    unsafe fn other(
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
    fn call(
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

    unsafe fn attribute(
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
    unsafe fn follow(&mut self, shape: &Shape, object: *mut ffi::PyObject) -> Written {
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
    unsafe fn field(&mut self, value: &Bound<'py, PyAny>, mode: Mode) -> Written {
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
    fn listed(&self, value: &Bound<'py, PyAny>) -> Result<Bound<'py, PyAny>, Failed> {
        // SAFETY: the interpreter gives a new tuple, or the same one, or sets its error.
        unsafe {
            let tuple = ffi::PySequence_Tuple(value.as_ptr());
            Bound::from_owned_ptr_or_opt(self.py, tuple).ok_or(Failed)
        }
    }

    unsafe fn array_of(&mut self, tuple: &Bound<'py, PyAny>) -> Written {
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
}
