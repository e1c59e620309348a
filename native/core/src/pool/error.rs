//! What an allocator refuses.

use std::fmt;

use super::Region;

/// Why an allocator did not do what it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PoolError {
    /// A region has at least one byte.
    Empty,
    /// No free stretch is long enough.
    Full {
        /// Bytes asked for, in whole cache lines.
        size: usize,
        /// Bytes there are.
        capacity: usize,
        /// Bytes of them in use.
        used: usize,
    },
    /// This region is not in use.
    Unknown(Region),
}

impl fmt::Display for PoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "a buffer has at least 1 byte"),
            Self::Full {
                size,
                capacity,
                used,
            } => write!(
                f,
                "{size} bytes do not fit the shared arena of {capacity} bytes, of which {used} \
                 are in use"
            ),
            Self::Unknown(region) => write!(
                f,
                "the region of {} bytes at {} is not in use: it was given back before, or never \
                 taken",
                region.size, region.offset
            ),
        }
    }
}

impl std::error::Error for PoolError {}
