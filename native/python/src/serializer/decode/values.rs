//! What msgpack itself can say.

use noob_cloud_core_crate::msgpack::{Reader as Tokens, Token};
use pyo3::ffi;
use pyo3::types::PyBool;

use super::{Decoder, Failed, Made};
use crate::serializer::keys::new_text;

impl<'py> Decoder<'_, 'py> {
    /// Make the next value; where it must be hashable, arrays are made tuples.
    #[inline]
    pub(super) fn value(&mut self, tokens: &mut Tokens<'_>, hashable: bool) -> Made<'py> {
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

    pub(super) fn list(&mut self, tokens: &mut Tokens<'_>, count: usize) -> Made<'py> {
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

    pub(super) fn tuple(
        &mut self,
        tokens: &mut Tokens<'_>,
        count: usize,
        hashable: bool,
    ) -> Made<'py> {
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

    pub(super) fn dict(&mut self, tokens: &mut Tokens<'_>, count: usize) -> Made<'py> {
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
    pub(super) fn key(&mut self, text: &[u8]) -> Made<'py> {
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
    pub(super) fn count(&mut self, tokens: &mut Tokens<'_>) -> Result<usize, Failed> {
        match tokens.next().map_err(|how| self.broken(how))? {
            Token::Array(count) => Ok(count),
            _ => Err(self.malformed(
                "The frame's body is malformed: an extension value holds no array where it must.",
            )),
        }
    }
}
