//! The frame: head and buffer table, body, aligned buffers. Every length is checked, none trusted.

use std::ops::Range;

use crate::msgpack::check_items;
use crate::refusal::{Limits, Refusal};
use crate::wire::{CANONICAL, ENTRY_SIZE, EXTENDED, Entry, HEAD_SIZE, Header, MAGIC, VERSION};

/// Alignment of buffers within the frame: a cache line, and what Arrow asks for.
pub const ALIGN: usize = 64;
const MAX_ALIGN: u32 = 4096;

/// Where the parts of a sound frame are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// `EXTENDED`, `CANONICAL`
    pub flags: u16,
    /// The body's bytes.
    pub body: Range<usize>,
    /// Each buffer's bytes.
    pub buffers: Vec<Range<usize>>,
}

/// Find the parts of one whole frame.
///
/// # Errors
/// The bytes are not exactly one frame, or more than `limits` allow.
#[inline]
pub fn parse(data: &[u8], limits: &Limits) -> Result<Frame, Refusal> {
    check_total(data.len(), limits)?;
    let Some((head, _)) = data.split_first_chunk::<HEAD_SIZE>() else {
        return Err(Refusal::malformed(format!(
            "A frame has at least {HEAD_SIZE} bytes; there are {}.",
            data.len()
        )));
    };
    let header = Header::from_bytes(head)
        .ok_or_else(|| Refusal::malformed("The frame's head is malformed.".into()))?;
    check_header(&header, limits)?;
    let (body, count) = (to_size(header.body), to_size(header.buffers));
    let start = HEAD_SIZE.saturating_add(count.saturating_mul(ENTRY_SIZE));
    if start > data.len() {
        return Err(Refusal::malformed(format!(
            "The table of {count} buffers is longer than the frame."
        )));
    }
    let end = start.saturating_add(body);
    if end > data.len() {
        return Err(Refusal::malformed(format!(
            "The frame ends after {} of {end} bytes or more: cut short.",
            data.len()
        )));
    }
    let buffers = if count == 0 {
        Vec::new()
    } else {
        table(data, count, end)?
    };
    let last = buffers.last().map_or(end, |buffer| buffer.end);
    if last != data.len() {
        return Err(Refusal::malformed(format!(
            "The frame ends at byte {last}, yet {} bytes follow it.",
            data.len() - last
        )));
    }
    check_items(&data[start..end], limits)?;
    Ok(Frame {
        flags: header.flags,
        body: start..end,
        buffers,
    })
}

fn check_header(header: &Header, limits: &Limits) -> Result<(), Refusal> {
    if header.magic != MAGIC {
        return Err(Refusal::malformed(format!(
            "A frame begins with b'NCF\\x00', not b'{}'.",
            header.magic.escape_ascii()
        )));
    }
    if header.version != VERSION {
        return Err(Refusal::malformed(format!(
            "The frame is of version {}; this noob-cloud reads version {VERSION}. Upgrade the \
             older side.",
            header.version
        )));
    }
    if header.flags & !(EXTENDED | CANONICAL) != 0 {
        return Err(Refusal::malformed(format!(
            "The frame has unknown flags {:#06x}.",
            header.flags
        )));
    }
    if header.body > limits.body as u64 {
        return Err(body_limit("The body", to_size(header.body), limits, ""));
    }
    if header.buffers > limits.buffers as u64 {
        return Err(buffers_limit(
            "The frame",
            to_size(header.buffers),
            limits,
            "",
        ));
    }
    Ok(())
}

fn table(data: &[u8], count: usize, mut end: usize) -> Result<Vec<Range<usize>>, Refusal> {
    let mut buffers = Vec::with_capacity(count);
    let (entries, _) = data[HEAD_SIZE..].as_chunks::<ENTRY_SIZE>();
    for (index, bytes) in entries[..count].iter().enumerate() {
        let entry = Entry::from_bytes(bytes)
            .ok_or_else(|| Refusal::malformed("The buffer table is malformed.".into()))?;
        if !entry.align.is_power_of_two() || entry.align > MAX_ALIGN {
            return Err(Refusal::malformed(format!(
                "Buffer {index} has alignment {}, not a power of two to {MAX_ALIGN}.",
                entry.align
            )));
        }
        let begin = end.next_multiple_of(entry.align as usize);
        if entry.offset != begin as u64 {
            return Err(Refusal::malformed(format!(
                "Buffer {index} begins at byte {}, not at {begin} where the one before it and its \
                 alignment put it.",
                entry.offset
            )));
        }
        let stop = begin.saturating_add(to_size(entry.length));
        if stop > data.len() {
            return Err(Refusal::malformed(format!(
                "The frame ends after {} bytes; a buffer ends at {stop}.",
                data.len()
            )));
        }
        if data[end..begin].iter().any(|&byte| byte != 0) {
            return Err(Refusal::malformed(format!(
                "The padding before byte {begin} is not zero."
            )));
        }
        buffers.push(begin..stop);
        end = stop;
    }
    Ok(buffers)
}

/// The head and table of a frame to be written, and where its buffers stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Header and table.
    pub head: Vec<u8>,
    /// Where each buffer begins.
    pub offsets: Vec<usize>,
    /// Bytes of the whole frame.
    pub total: usize,
}

/// Lay out a frame with a body of `body` bytes and buffers of these `sizes`.
///
/// # Errors
/// It is over one of the `limits`.
pub fn lay_out(
    flags: u16,
    body: usize,
    sizes: &[usize],
    limits: &Limits,
) -> Result<Layout, Refusal> {
    check_body(body, limits)?;
    if sizes.len() > limits.buffers {
        let advice = " Stack small arrays into a larger one.";
        return Err(buffers_limit("The value", sizes.len(), limits, advice));
    }
    let mut head = Vec::with_capacity(HEAD_SIZE + ENTRY_SIZE * sizes.len());
    head.extend(Header::new(flags, body, sizes.len()).to_bytes());
    let mut end = HEAD_SIZE + ENTRY_SIZE * sizes.len() + body;
    let mut offsets = Vec::with_capacity(sizes.len());
    for &size in sizes {
        let offset = end.next_multiple_of(ALIGN);
        let entry = Entry {
            offset: offset as u64,
            length: size as u64,
            align: 64,
        };
        head.extend(entry.to_bytes());
        offsets.push(offset);
        end = offset.saturating_add(size);
    }
    check_total(end, limits)?;
    Ok(Layout {
        head,
        offsets,
        total: end,
    })
}

/// Refuse a body that is over the limit.
///
/// # Errors
/// It is.
#[inline]
pub fn check_body(size: usize, limits: &Limits) -> Result<(), Refusal> {
    if size > limits.body {
        let advice = " Pass large data as arrays, or by cid through a blob store.";
        return Err(body_limit("The body", size, limits, advice));
    }
    Ok(())
}

/// Refuse a frame that is over the limit.
///
/// # Errors
/// It is.
#[inline]
pub fn check_total(size: usize, limits: &Limits) -> Result<(), Refusal> {
    if size > limits.total {
        return Err(Refusal::limit(
            "total",
            format!(
                "The frame has {size} bytes, over the limit of {} (Limits.total). Send large \
                 values by cid through a blob store.",
                limits.total
            ),
        ));
    }
    Ok(())
}

#[cold]
fn body_limit(what: &str, size: usize, limits: &Limits, advice: &str) -> Refusal {
    let limit = limits.body;
    Refusal::limit(
        "body",
        format!("{what} has {size} bytes, over the limit of {limit} (Limits.body).{advice}"),
    )
}

#[cold]
fn buffers_limit(what: &str, count: usize, limits: &Limits, advice: &str) -> Refusal {
    let limit = limits.buffers;
    Refusal::limit(
        "buffers",
        format!("{what} has {count} buffers, over the limit of {limit} (Limits.buffers).{advice}"),
    )
}

fn to_size(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}
