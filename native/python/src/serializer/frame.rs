//! Put a body and its buffers together: as one frame, as parts, or as nothing but a cid.

use std::mem::MaybeUninit;

use noob_cloud_core_crate::frame::{ALIGN, check_body, check_total, lay_out};
use noob_cloud_core_crate::hash;
use noob_cloud_core_crate::msgpack::check_items;
use noob_cloud_core_crate::refusal::{Limits, Refusal};
use noob_cloud_core_crate::wire::{CANONICAL, EXTENDED, HEAD_SIZE, Header};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyMemoryView, PyString};

use super::FastSerializer;
use super::encode::{Encoder, Owner};
use super::output::Output;
use super::view::{View, new_bytes};

/// From this many bytes on, a frame that is nothing but bytes carries them out of band.
const LARGE: usize = 1 << 16;
/// Extension value 32, whose payload is the index 0.
const RAW_BODY: [u8; 3] = [0xd4, 32, 0];
/// A scratch of more bytes is given back.
const KEPT: usize = 1 << 20;

/// A body that is written, and what belongs to it.
pub struct Written<'a, 'py> {
    py: Python<'py>,
    serializer: &'a FastSerializer,
    limits: Limits,
    flags: u16,
    /// The head of a frame without buffers, then the body without what is spliced into it.
    bytes: &'a [u8],
    splices: Vec<(usize, Bound<'py, PyBytes>)>,
    /// Bytes of the body.
    size: usize,
    buffers: Vec<Bound<'py, PyAny>>,
}

/// Write `value` and let `finish` make of it what the caller wants.
pub fn write<'py, T>(
    slf: &Bound<'py, FastSerializer>,
    value: &Bound<'py, PyAny>,
    limits: Option<&Bound<'py, PyAny>>,
    canonical: bool,
    finish: impl FnOnce(&Written<'_, 'py>) -> PyResult<T>,
) -> PyResult<T> {
    let py = slf.py();
    let serializer = slf.get();
    let bounds = serializer.bridge.limits(limits)?;
    let mut held = serializer.scratch.try_lock().ok();
    let mut scratch = held
        .as_mut()
        .map(|held| std::mem::take(&mut **held))
        .unwrap_or_default();
    drop(held);
    scratch.clear();
    scratch.extend_from_slice(&[0; HEAD_SIZE]);
    let owner = Owner {
        serializer: slf,
        limits,
    };
    let mut encoder = Encoder::new(owner, Output::new(scratch), bounds, canonical);
    let mut buffers = Vec::new();
    let raw = if canonical { None } else { raw(value)? };
    let done = if let Some(raw) = raw {
        encoder.out.raw(&RAW_BODY);
        encoder.extended = true;
        buffers.push(raw);
        Ok(())
    } else {
        encoder.write(value)
    };
    if let Some(writer) = encoder.writer() {
        buffers.extend(writer.buffers(py).iter());
    }
    let flags = if canonical { CANONICAL } else { 0 } | if encoder.extended { EXTENDED } else { 0 };
    let splices = encoder.splices.take().unwrap_or_default();
    let size = encoder.out.len() - HEAD_SIZE + encoder.spliced;
    let mut scratch = encoder.out.into_vec();
    scratch[..HEAD_SIZE].copy_from_slice(&Header::new(flags, size, 0).to_bytes());
    let result = done
        .map_err(|error| serializer.bridge.encoding_failed(py, error))
        .and_then(|()| {
            finish(&Written {
                py,
                serializer,
                limits: bounds,
                flags,
                bytes: &scratch,
                splices,
                size,
                buffers,
            })
        });
    if scratch.capacity() <= KEPT
        && let Ok(mut held) = serializer.scratch.try_lock()
    {
        *held = scratch;
    }
    result
}

/// The bytes of a value that is nothing but many of them.
fn raw<'py>(value: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    // SAFETY: the type of a valid object is compared and no more.
    let kind = unsafe { ffi::Py_TYPE(value.as_ptr()) };
    if kind != &raw mut ffi::PyBytes_Type
        && kind != &raw mut ffi::PyByteArray_Type
        && kind != &raw mut ffi::PyMemoryView_Type
    {
        return Ok(None);
    }
    let py = value.py();
    let size = if kind == &raw mut ffi::PyMemoryView_Type {
        value.getattr(intern!(py, "nbytes"))?.extract()?
    } else {
        value.len()?
    };
    if size < LARGE {
        return Ok(None);
    }
    let view = PyMemoryView::from(value)?;
    Ok(Some(view.call_method1(intern!(py, "cast"), ("B",))?))
}

impl<'py> Written<'_, 'py> {
    fn refused(&self, refusal: &Refusal) -> PyErr {
        self.serializer.bridge.refused(self.py, refusal)
    }

    fn check(&self, body: &[u8]) -> PyResult<()> {
        check_items(body, &self.limits).map_err(|refusal| self.refused(&refusal))
    }

    /// The frame in one piece.
    pub fn joined(&self) -> PyResult<Bound<'py, PyBytes>> {
        if self.buffers.is_empty() {
            self.check_plain()?;
            if self.splices.is_empty() {
                self.check(&self.bytes[HEAD_SIZE..])?;
                return Ok(PyBytes::new(self.py, self.bytes));
            }
            return self.with_room_behind(0, &self.bytes[..HEAD_SIZE]);
        }
        let views = self.views()?;
        let sizes: Vec<usize> = views.iter().map(|view| view.bytes().len()).collect();
        let layout = lay_out(self.flags, self.size, &sizes, &self.limits)
            .map_err(|refusal| self.refused(&refusal))?;
        let start = layout.head.len();
        let frame = new_bytes(self.py, layout.total, |room| {
            let mut filler = Filler { room, end: 0 };
            filler.put(&layout.head);
            self.fill_body(&mut filler);
            for (view, &offset) in views.iter().zip(&layout.offsets) {
                filler.zero_to(offset);
                filler.put(view.bytes());
            }
        })?;
        self.check(&frame.as_bytes()[start..start + self.size])?;
        Ok(frame)
    }

    /// Check the size of a frame without buffers.
    fn check_plain(&self) -> PyResult<()> {
        check_body(self.size, &self.limits)
            .and_then(|()| check_total(HEAD_SIZE + self.size, &self.limits))
            .map_err(|refusal| self.refused(&refusal))
    }

    /// Head, body, and zeros behind them.
    fn with_room_behind(&self, padding: usize, head: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
        let total = head.len() + self.size + padding;
        let frame = new_bytes(self.py, total, |room| {
            let mut filler = Filler { room, end: 0 };
            filler.put(head);
            self.fill_body(&mut filler);
            filler.zero_to(total);
        })?;
        self.check(&frame.as_bytes()[head.len()..total - padding])?;
        Ok(frame)
    }

    /// The frame's parts, buffers as they are.
    pub fn parts(&self) -> PyResult<Bound<'py, PyList>> {
        if self.buffers.is_empty() {
            return PyList::new(self.py, [self.joined()?]);
        }
        let sizes = self.sizes()?;
        let layout = lay_out(self.flags, self.size, &sizes, &self.limits)
            .map_err(|refusal| self.refused(&refusal))?;
        let mut end = layout.head.len() + self.size;
        let padding = layout.offsets.first().map_or(0, |first| first - end);
        let parts = PyList::new(self.py, [self.with_room_behind(padding, &layout.head)?])?;
        end += padding;
        for ((buffer, &offset), &size) in self.buffers.iter().zip(&layout.offsets).zip(&sizes) {
            if offset > end {
                parts.append(PyBytes::new(self.py, &[0; ALIGN][..offset - end]))?;
            }
            if size > 0 {
                parts.append(buffer)?;
            }
            end = offset + size;
        }
        Ok(parts)
    }

    /// The cid of the frame, whose buffers are not copied.
    pub fn cid(&self) -> PyResult<Bound<'py, PyString>> {
        let views = self.views()?;
        let sizes: Vec<usize> = views.iter().map(|view| view.bytes().len()).collect();
        let layout = lay_out(self.flags, self.size, &sizes, &self.limits)
            .map_err(|refusal| self.refused(&refusal))?;
        let mut parts: Vec<&[u8]> = vec![&layout.head];
        self.each_piece(|piece| parts.push(piece));
        let mut end = layout.head.len() + self.size;
        for (view, &offset) in views.iter().zip(&layout.offsets) {
            parts.push(&[0; ALIGN][..offset - end]);
            parts.push(view.bytes());
            end = offset + view.bytes().len();
        }
        let text = hash::format_cid(&hash::digest_parts(&parts));
        PyString::from_bytes(self.py, &text)
    }

    fn views(&self) -> PyResult<Vec<View>> {
        self.buffers.iter().map(View::of).collect()
    }

    fn sizes(&self) -> PyResult<Vec<usize>> {
        let size =
            |buffer: &Bound<'py, PyAny>| buffer.getattr(intern!(self.py, "nbytes"))?.extract();
        self.buffers.iter().map(size).collect()
    }

    fn fill_body(&self, filler: &mut Filler<'_>) {
        self.each_piece(|piece| filler.put(piece));
    }

    /// The frame's parts, with neither its buffers nor its long byte strings copied.
    pub fn pieces(&self) -> PyResult<Bound<'py, PyList>> {
        let sizes = self.sizes()?;
        let layout = lay_out(self.flags, self.size, &sizes, &self.limits)
            .map_err(|refusal| self.refused(&refusal))?;
        let pieces = PyList::empty(self.py);
        let mut begin = HEAD_SIZE;
        let mut bytes = layout.head.clone();
        for (place, data) in &self.splices {
            bytes.extend_from_slice(&self.bytes[begin..*place]);
            pieces.append(PyBytes::new(self.py, &bytes))?;
            pieces.append(data)?;
            bytes.clear();
            begin = *place;
        }
        bytes.extend_from_slice(&self.bytes[begin..]);
        let mut end = layout.head.len() + self.size;
        for ((buffer, &offset), &size) in self.buffers.iter().zip(&layout.offsets).zip(&sizes) {
            bytes.resize(bytes.len() + offset - end, 0);
            end = offset + size;
            if size > 0 {
                pieces.append(PyBytes::new(self.py, &bytes))?;
                pieces.append(buffer)?;
                bytes.clear();
            }
        }
        if !bytes.is_empty() {
            pieces.append(PyBytes::new(self.py, &bytes))?;
        }
        Ok(pieces)
    }

    /// Walk over the body with what is spliced into it.
    fn each_piece<'b>(&'b self, mut take: impl FnMut(&'b [u8])) {
        let mut begin = HEAD_SIZE;
        for (place, data) in &self.splices {
            take(&self.bytes[begin..*place]);
            take(data.as_bytes());
            begin = *place;
        }
        take(&self.bytes[begin..]);
    }
}

/// Fills new memory from its start.
struct Filler<'a> {
    room: &'a mut [MaybeUninit<u8>],
    end: usize,
}

impl Filler<'_> {
    fn put(&mut self, bytes: &[u8]) {
        let room = &mut self.room[self.end..self.end + bytes.len()];
        let room = room.as_mut_ptr().cast::<u8>();
        // SAFETY: both have as many bytes, and new memory overlaps with nothing.
        unsafe { room.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        self.end += bytes.len();
    }

    fn zero_to(&mut self, end: usize) {
        self.room[self.end..end].fill(MaybeUninit::new(0));
        self.end = end;
    }
}
