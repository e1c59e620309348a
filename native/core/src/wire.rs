//! The records around a body, in bincode's legacy encoding: little endian, fixed width.
//!
//! `wincode` writes and reads them; a test holds its bytes to those of bincode 2.

use wincode::{SchemaRead, SchemaWrite};

/// "NCF" and a zero.
pub const MAGIC: [u8; 4] = *b"NCF\0";
/// The version that this core reads and writes.
pub const VERSION: u16 = 1;
/// Flag: the body holds extension values.
pub const EXTENDED: u16 = 1;
/// Flag: the bytes are the canonical ones of their value.
pub const CANONICAL: u16 = 2;
/// Bytes of `Header`.
pub const HEAD_SIZE: usize = 24;
/// Bytes of one `Entry`.
pub const ENTRY_SIZE: usize = 20;

/// What a frame begins with: the head, and the count of the buffer table behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, SchemaWrite, SchemaRead)]
#[cfg_attr(test, derive(bincode::Encode))]
pub struct Header {
    /// `MAGIC`
    pub magic: [u8; 4],
    /// `VERSION`
    pub version: u16,
    /// `EXTENDED`, `CANONICAL`
    pub flags: u16,
    /// Bytes of the body.
    pub body: u64,
    /// Buffers, which is how bincode begins a `Vec<Entry>`.
    pub buffers: u64,
}

/// One line of the buffer table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, SchemaWrite, SchemaRead)]
#[cfg_attr(test, derive(bincode::Encode))]
pub struct Entry {
    /// From the start of the frame.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
    /// A power of two.
    pub align: u32,
}

impl Header {
    /// The head of a frame of ours.
    #[must_use]
    pub fn new(flags: u16, body: usize, buffers: usize) -> Self {
        Self {
            magic: MAGIC,
            version: VERSION,
            flags,
            body: body as u64,
            buffers: buffers as u64,
        }
    }

    /// Its bytes.
    #[must_use]
    #[inline]
    pub fn to_bytes(&self) -> [u8; HEAD_SIZE] {
        let mut bytes = [0; HEAD_SIZE];
        let written = wincode::serialize_into(&mut bytes[..], self);
        debug_assert!(written.is_ok(), "a header has {HEAD_SIZE} bytes");
        bytes
    }

    /// The header that `bytes` are; what it says is still to be checked.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; HEAD_SIZE]) -> Option<Self> {
        wincode::deserialize(bytes).ok()
    }
}

impl Entry {
    /// Its bytes.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; ENTRY_SIZE] {
        let mut bytes = [0; ENTRY_SIZE];
        let written = wincode::serialize_into(&mut bytes[..], self);
        debug_assert!(written.is_ok(), "an entry has {ENTRY_SIZE} bytes");
        bytes
    }

    /// The entry that `bytes` are; what it says is still to be checked.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; ENTRY_SIZE]) -> Option<Self> {
        wincode::deserialize(bytes).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::{Entry, Header};
    use proptest::prelude::*;

    /// A whole head as the format's documentation spells it.
    #[derive(bincode::Encode, wincode::SchemaWrite)]
    struct Whole {
        magic: [u8; 4],
        version: u16,
        flags: u16,
        body: u64,
        buffers: Vec<Entry>,
    }

    proptest! {
        #[test]
        fn heads_and_tables_are_what_bincode_writes(
            flags in 0u16..4, body: u64, table in prop::collection::vec(any::<(u64, u64, u32)>(), 0..9),
        ) {
            let entries: Vec<Entry> = table
                .iter()
                .map(|&(offset, length, align)| Entry { offset, length, align })
                .collect();
            let count = entries.len() as u64;
            let head = Header { magic: *b"NCF\0", version: 1, flags, body, buffers: count };
            let mut ours = head.to_bytes().to_vec();
            for entry in &entries {
                ours.extend(entry.to_bytes());
                prop_assert_eq!(Entry::from_bytes(&entry.to_bytes()), Some(*entry));
            }
            let whole = Whole { magic: *b"NCF\0", version: 1, flags, body, buffers: entries };

            let bincode = bincode::encode_to_vec(&whole, bincode::config::legacy()).unwrap();

            prop_assert_eq!(&ours, &bincode);
            prop_assert_eq!(&wincode::serialize(&whole).unwrap(), &bincode);
            prop_assert_eq!(Header::from_bytes(&head.to_bytes()), Some(head));
        }
    }
}
