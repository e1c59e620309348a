//! The bytes of a body as they are written: msgpack's shortest forms.

use noob_cloud_core_crate::msgpack::extension_head;

/// The longest head or scalar.
const ROOM: usize = 16;

/// A growing body.
#[derive(Default)]
pub struct Output {
    bytes: Vec<u8>,
}

/// A place where the head of an extension value goes once its payload is known.
#[derive(Clone, Copy)]
pub struct Mark {
    start: usize,
    guess: usize,
}

impl Output {
    /// Write behind what `bytes` hold.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { bytes }
    }

    pub fn into_vec(self) -> Vec<u8> {
        self.bytes
    }

    #[inline]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub fn bytes_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Write the first `size` of 16 bytes.
    #[inline]
    fn short(&mut self, bytes: [u8; ROOM], size: usize) {
        debug_assert!(size <= ROOM, "a head has at most {ROOM} bytes");
        if self.bytes.capacity() - self.bytes.len() < ROOM {
            self.bytes.reserve(ROOM.max(self.bytes.len()));
        }
        // SAFETY: there is room for 16 bytes behind the length, and `size` of them are initialised
        // by the write before they become part of it.
        unsafe {
            let end = self.bytes.as_mut_ptr().add(self.bytes.len());
            end.copy_from_nonoverlapping(bytes.as_ptr(), ROOM);
            self.bytes.set_len(self.bytes.len() + size);
        }
    }

    #[inline]
    fn head(&mut self, first: u8, value: u64, width: usize) {
        let mut bytes = [0; ROOM];
        bytes[0] = first;
        bytes[1..9].copy_from_slice(&(value << (64 - 8 * width)).to_be_bytes());
        self.short(bytes, 1 + width);
    }

    #[inline]
    pub fn byte(&mut self, byte: u8) {
        if self.bytes.len() == self.bytes.capacity() {
            self.bytes.reserve(ROOM.max(self.bytes.len()));
        }
        self.bytes.push(byte);
    }

    #[inline]
    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    #[inline]
    pub fn float(&mut self, value: f64) {
        self.head(0xcb, value.to_bits(), 8);
    }

    #[inline]
    pub fn unsigned(&mut self, value: u64) {
        match value {
            0..=0x7f => self.byte(value.to_le_bytes()[0]),
            0x80..=0xff => self.head(0xcc, value, 1),
            0x100..=0xffff => self.head(0xcd, value, 2),
            0x1_0000..=0xffff_ffff => self.head(0xce, value, 4),
            _ => self.head(0xcf, value, 8),
        }
    }

    #[inline]
    pub fn signed(&mut self, value: i64) {
        match value {
            0.. => self.unsigned(value.cast_unsigned()),
            -0x20..0 => self.byte(value.to_le_bytes()[0]),
            -0x80..-0x20 => self.head(0xd0, value.cast_unsigned(), 1),
            -0x8000..-0x80 => self.head(0xd1, value.cast_unsigned(), 2),
            -0x8000_0000..-0x8000 => self.head(0xd2, value.cast_unsigned(), 4),
            _ => self.head(0xd3, value.cast_unsigned(), 8),
        }
    }

    #[inline]
    pub fn text(&mut self, text: &[u8]) {
        let size = text.len();
        if let Ok(small @ 0..32) = u8::try_from(size) {
            if self.bytes.capacity() - self.bytes.len() < 1 + 32 {
                self.bytes.reserve(64.max(self.bytes.len()));
            }
            // SAFETY: there is room for 33 bytes behind the length, and each of the `1 + size` that
            // become part of it is initialised before.
            unsafe {
                let end = self.bytes.as_mut_ptr().add(self.bytes.len());
                end.write(0xa0 | small);
                copy_short(text, end.add(1));
                self.bytes.set_len(self.bytes.len() + 1 + size);
            }
            return;
        }
        self.long_text(text);
    }

    #[inline(never)]
    fn long_text(&mut self, text: &[u8]) {
        let size = text.len();
        match size {
            0..=0xff => self.head(0xd9, size as u64, 1),
            0x100..=0xffff => self.head(0xda, size as u64, 2),
            _ => self.head(0xdb, size as u64, 4),
        }
        self.raw(text);
    }

    #[inline]
    pub fn binary_head(&mut self, size: usize) {
        match size {
            0..=0xff => self.head(0xc4, size as u64, 1),
            0x100..=0xffff => self.head(0xc5, size as u64, 2),
            _ => self.head(0xc6, size as u64, 4),
        }
    }

    #[inline]
    pub fn array(&mut self, count: usize) {
        match count {
            0..=15 => self.byte(0x90 | count.to_le_bytes()[0]),
            16..=0xffff => self.head(0xdc, count as u64, 2),
            _ => self.head(0xdd, count as u64, 4),
        }
    }

    #[inline]
    pub fn map(&mut self, count: usize) {
        match count {
            0..=15 => self.byte(0x80 | count.to_le_bytes()[0]),
            16..=0xffff => self.head(0xde, count as u64, 2),
            _ => self.head(0xdf, count as u64, 4),
        }
    }

    /// Write a whole extension value.
    pub fn extension(&mut self, code: u8, payload: &[u8]) {
        let (head, size) = extension_head(code, payload.len());
        self.raw(&head[..size]);
        self.raw(payload);
    }

    /// Leave room for the head of an extension value whose payload holds `items` values or more.
    #[inline]
    pub fn open(&mut self, items: usize) -> Mark {
        let guess = match items {
            0..=0xfd => 3,
            0xfe..=0xfffc => 4,
            _ => 6,
        };
        let start = self.bytes.len();
        self.short([0; ROOM], guess);
        Mark { start, guess }
    }

    /// Write the head for what was written since.
    #[inline]
    pub fn close(&mut self, mark: Mark, code: u8) {
        let payload = mark.start + mark.guess;
        let size = self.bytes.len() - payload;
        let (head, width) = extension_head(code, size);
        if width != mark.guess {
            if width > mark.guess {
                self.bytes.extend_from_slice(&[0; 4][..width - mark.guess]);
            }
            self.bytes
                .copy_within(payload..payload + size, mark.start + width);
            self.bytes.truncate(mark.start + width + size);
        }
        self.bytes[mark.start..mark.start + width].copy_from_slice(&head[..width]);
    }
}

/// Copy fewer than 32 bytes without a call: two copies of a fixed size that may overlap.
///
/// # Safety
/// There are as many bytes at `to`.
#[inline]
unsafe fn copy_short(from: &[u8], to: *mut u8) {
    let size = from.len();
    // SAFETY: every copy lies within the first `size` bytes of both.
    unsafe {
        let (begin, end) = (from.as_ptr(), to);
        if size >= 16 {
            end.copy_from_nonoverlapping(begin, 16);
            end.add(size - 16)
                .copy_from_nonoverlapping(begin.add(size - 16), 16);
        } else if size >= 8 {
            end.copy_from_nonoverlapping(begin, 8);
            end.add(size - 8)
                .copy_from_nonoverlapping(begin.add(size - 8), 8);
        } else if size >= 4 {
            end.copy_from_nonoverlapping(begin, 4);
            end.add(size - 4)
                .copy_from_nonoverlapping(begin.add(size - 4), 4);
        } else if size > 0 {
            end.write(*begin);
            end.add(size / 2).write(*begin.add(size / 2));
            end.add(size - 1).write(*begin.add(size - 1));
        }
    }
}
