//! msgpack without values: what stands in bytes, token by token, and how a value's head is written.
//!
//! `Reader` is what the decoder reads with, and what the fuzz target `decoder` is about: it is safe
//! code, and promises that no token reaches beyond the bytes it was given.

#![expect(
    clippy::inline_always,
    reason = "the decoder is measured to be faster with its reader in it"
)]

use crate::refusal::{Limits, Refusal};

/// One value's head, or a whole scalar; the items of an array or a map follow it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Token<'a> {
    /// nil
    Nil,
    /// false, true
    Bool(bool),
    /// A non-negative integer.
    Uint(u64),
    /// An integer of a signed form.
    Int(i64),
    /// A float of 64 bits, or of 32.
    Float(f64),
    /// The bytes of a str, not yet known to be UTF-8.
    Str(&'a [u8]),
    /// bin
    Bin(&'a [u8]),
    /// An array of so many items; there are at least as many bytes.
    Array(usize),
    /// A map of so many pairs; there are at least twice as many bytes.
    Map(usize),
    /// An extension value: its code and payload.
    Ext(i8, &'a [u8]),
}

/// How bytes fail to be msgpack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// They end before the value does.
    Cut,
    /// Byte 0xc1, which begins no value.
    Reserved,
}

impl Malformed {
    /// The sentence for it.
    #[must_use]
    pub fn message(self) -> &'static str {
        match self {
            Self::Cut => "The frame's body is malformed: it is cut short.",
            Self::Reserved => "The frame's body is malformed: byte 0xc1 begins no value.",
        }
    }
}

/// Reads tokens of bytes, one after the other.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Read `data` from its first byte.
    #[must_use]
    pub fn new(data: &'a [u8]) -> Self {
        Self { rest: data }
    }

    /// The bytes not read yet.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    #[inline(always)]
    fn take(&mut self, size: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(size).ok_or(Malformed::Cut)?;
        self.rest = rest;
        Ok(taken)
    }

    #[inline(always)]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(Malformed::Cut)?;
        self.rest = rest;
        Ok(*taken)
    }

    #[inline(always)]
    fn size8(&mut self) -> Result<usize, Malformed> {
        Ok(usize::from(self.array::<1>()?[0]))
    }

    #[inline(always)]
    fn size16(&mut self) -> Result<usize, Malformed> {
        Ok(usize::from(u16::from_be_bytes(self.array()?)))
    }

    #[inline(always)]
    fn size32(&mut self) -> Result<usize, Malformed> {
        Ok(u32::from_be_bytes(self.array()?) as usize)
    }

    #[inline(always)]
    fn items(&self, count: usize) -> Result<Token<'a>, Malformed> {
        if count > self.rest.len() {
            return Err(Malformed::Cut);
        }
        Ok(Token::Array(count))
    }

    #[inline(always)]
    fn pairs(&self, count: usize) -> Result<Token<'a>, Malformed> {
        if count > self.rest.len() / 2 {
            return Err(Malformed::Cut);
        }
        Ok(Token::Map(count))
    }

    #[inline(always)]
    fn extension(&mut self, size: usize) -> Result<Token<'a>, Malformed> {
        let code = self.array::<1>()?[0].cast_signed();
        Ok(Token::Ext(code, self.take(size)?))
    }

    /// Read one token.
    ///
    /// # Errors
    /// The bytes end before it does, or begin no value.
    #[inline(always)]
    #[expect(
        clippy::should_implement_trait,
        reason = "it fails at the end instead of ending"
    )]
    pub fn next(&mut self) -> Result<Token<'a>, Malformed> {
        let first = self.array::<1>()?[0];
        Ok(match first {
            0x00..=0x7f => Token::Uint(u64::from(first)),
            0xe0..=0xff => Token::Int(i64::from(first.cast_signed())),
            0xa0..=0xbf => Token::Str(self.take(usize::from(first & 0x1f))?),
            0x80..=0x8f => self.pairs(usize::from(first & 0x0f))?,
            0x90..=0x9f => self.items(usize::from(first & 0x0f))?,
            0xc0 => Token::Nil,
            0xc1 => return Err(Malformed::Reserved),
            0xc2 => Token::Bool(false),
            0xc3 => Token::Bool(true),
            0xc4 => {
                let size = self.size8()?;
                Token::Bin(self.take(size)?)
            }
            0xc5 => {
                let size = self.size16()?;
                Token::Bin(self.take(size)?)
            }
            0xc6 => {
                let size = self.size32()?;
                Token::Bin(self.take(size)?)
            }
            0xc7 => {
                let size = self.size8()?;
                self.extension(size)?
            }
            0xc8 => {
                let size = self.size16()?;
                self.extension(size)?
            }
            0xc9 => {
                let size = self.size32()?;
                self.extension(size)?
            }
            0xca => Token::Float(f64::from(f32::from_be_bytes(self.array()?))),
            0xcb => Token::Float(f64::from_be_bytes(self.array()?)),
            0xcc => Token::Uint(u64::from(self.array::<1>()?[0])),
            0xcd => Token::Uint(u64::from(u16::from_be_bytes(self.array()?))),
            0xce => Token::Uint(u64::from(u32::from_be_bytes(self.array()?))),
            0xcf => Token::Uint(u64::from_be_bytes(self.array()?)),
            0xd0 => Token::Int(i64::from(self.array::<1>()?[0].cast_signed())),
            0xd1 => Token::Int(i64::from(i16::from_be_bytes(self.array()?))),
            0xd2 => Token::Int(i64::from(i32::from_be_bytes(self.array()?))),
            0xd3 => Token::Int(i64::from_be_bytes(self.array()?)),
            0xd4..=0xd8 => self.extension(1 << (first - 0xd4))?,
            0xd9 => {
                let size = self.size8()?;
                Token::Str(self.take(size)?)
            }
            0xda => {
                let size = self.size16()?;
                Token::Str(self.take(size)?)
            }
            0xdb => {
                let size = self.size32()?;
                Token::Str(self.take(size)?)
            }
            0xdc => {
                let count = self.size16()?;
                self.items(count)?
            }
            0xdd => {
                let count = self.size32()?;
                self.items(count)?
            }
            0xde => {
                let count = self.size16()?;
                self.pairs(count)?
            }
            0xdf => {
                let count = self.size32()?;
                self.pairs(count)?
            }
        })
    }
}

/// Check that `data` is exactly one well-formed value, without making it.
///
/// The payloads of extensions are not looked into. Takes memory for no more than the depth.
///
/// # Errors
/// The bytes are no value, more than one, or nest deeper than `depth`.
pub fn validate(data: &[u8], depth: usize) -> Result<(), Refusal> {
    let mut reader = Reader::new(data);
    let mut open: Vec<usize> = Vec::new();
    loop {
        let token = reader
            .next()
            .map_err(|error| Refusal::malformed(error.message().into()))?;
        let inside = match token {
            Token::Array(count) => count,
            Token::Map(count) => 2 * count,
            _ => 0,
        };
        if inside > 0 {
            if open.len() == depth {
                return Err(too_deep());
            }
            open.push(inside);
            continue;
        }
        while let Some(left) = open.last_mut() {
            *left -= 1;
            if *left > 0 {
                break;
            }
            open.pop();
        }
        if open.is_empty() {
            break;
        }
    }
    if reader.rest().is_empty() {
        Ok(())
    } else {
        Err(trailing())
    }
}

/// The refusal of bytes behind a value.
#[must_use]
#[cold]
pub fn trailing() -> Refusal {
    Refusal::malformed("The frame's body is malformed: it has trailing bytes.".into())
}

/// The refusal of lists and dicts that nest deeper than a reader goes.
#[must_use]
#[cold]
pub fn too_deep() -> Refusal {
    Refusal::limit("depth", "The frame nests lists and dicts too deep.".into())
}

/// Refuse a body with more values, or a longer string, than `limits` allow.
///
/// A body shorter than both needs no look, since every value takes a byte. What is in an
/// extension's payload counts, fixed extensions apart.
///
/// # Errors
/// It has more, or its bytes are not well-formed.
pub fn check_items(body: &[u8], limits: &Limits) -> Result<(), Refusal> {
    if body.len() <= limits.items && body.len() <= limits.text {
        return Ok(());
    }
    let mut rest = body;
    let mut count = 0usize;
    while !rest.is_empty() {
        count += 1;
        if count > limits.items {
            return Err(Refusal::limit(
                "items",
                format!(
                    "The frame holds more than {} values (Limits.items). Send many numbers as an \
                     array.",
                    limits.items
                ),
            ));
        }
        let step = step(rest, limits)?;
        rest = rest
            .get(step..)
            .ok_or_else(|| Refusal::malformed("The frame's body is cut short.".into()))?;
    }
    Ok(())
}

/// Bytes to the next value: over a scalar, into a container or an extension's payload.
fn step(rest: &[u8], limits: &Limits) -> Result<usize, Refusal> {
    let length = |width: usize| {
        let end = rest.len().min(1 + width);
        rest[1..end]
            .iter()
            .fold(0usize, |size, &byte| size << 8 | usize::from(byte))
    };
    let sized = |width: usize| {
        let size = length(width);
        if size > limits.text {
            return Err(Refusal::limit(
                "text",
                format!(
                    "The frame holds a string of {size} bytes, over the limit of {} \
                     (Limits.text). Send it as an array, or by cid through a blob store.",
                    limits.text
                ),
            ));
        }
        Ok(1 + width + size)
    };
    Ok(match rest[0] {
        first @ 0xa0..=0xbf => 1 + usize::from(first & 0x1f),
        0xc1 => {
            return Err(Refusal::malformed(Malformed::Reserved.message().into()));
        }
        0xc4 | 0xd9 => sized(1)?,
        0xc5 | 0xda => sized(2)?,
        0xc6 | 0xdb => sized(4)?,
        0xca | 0xce | 0xd2 | 0xdd | 0xdf => 5,
        0xcb | 0xcf | 0xd3 => 9,
        0xcc | 0xd0 => 2,
        0xcd | 0xd1 | 0xc7 | 0xdc | 0xde => 3,
        first @ 0xd4..=0xd8 => 2 + (1 << (first - 0xd4)),
        0xc8 => 4,
        0xc9 => 6,
        _ => 1,
    })
}

/// The head of an extension value whose payload has `size` bytes, and how long the head is.
///
/// # Panics
/// Never: a payload of 4 GiB or more is cut to what fits and refused by the body's limit before.
#[must_use]
pub fn extension_head(code: u8, size: usize) -> ([u8; 6], usize) {
    let wide = u32::try_from(size).unwrap_or(u32::MAX).to_be_bytes();
    match size {
        1 => ([0xd4, code, 0, 0, 0, 0], 2),
        2 => ([0xd5, code, 0, 0, 0, 0], 2),
        4 => ([0xd6, code, 0, 0, 0, 0], 2),
        8 => ([0xd7, code, 0, 0, 0, 0], 2),
        16 => ([0xd8, code, 0, 0, 0, 0], 2),
        0..=0xff => ([0xc7, wide[3], code, 0, 0, 0], 3),
        0x100..=0xffff => ([0xc8, wide[2], wide[3], code, 0, 0], 4),
        _ => ([0xc9, wide[0], wide[1], wide[2], wide[3], code], 6),
    }
}
