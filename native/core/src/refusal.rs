//! Why bytes or values are refused, as the codec's errors say it.

use std::fmt;

/// A refusal: the sentence of the error, and the limit that it names if it is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The limit of `Limits` that was met, or None for bytes that are not well-formed.
    pub limit: Option<&'static str>,
    /// The sentence.
    pub message: String,
}

impl Refusal {
    /// A refusal of malformed bytes.
    #[must_use]
    #[cold]
    pub fn malformed(message: String) -> Self {
        Self {
            limit: None,
            message,
        }
    }

    /// A refusal of what is over a limit.
    #[must_use]
    #[cold]
    pub fn limit(name: &'static str, message: String) -> Self {
        Self {
            limit: Some(name),
            message,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for Refusal {}

/// Bounds for one frame; `noob_cloud.codec.Limits` explains each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the frame with its buffers.
    pub total: usize,
    /// Bytes of the msgpack body.
    pub body: usize,
    /// Values in the body, keys counted.
    pub items: usize,
    /// Bytes of one string or byte string in the body.
    pub text: usize,
    /// Extension values inside each other.
    pub depth: usize,
    /// Bytes of one integer outside 64 bits, characters of one Decimal.
    pub digits: usize,
    /// Buffers out of band.
    pub buffers: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            total: 2 << 30,
            body: 256 << 20,
            items: 256 << 20,
            text: 256 << 20,
            depth: 128,
            digits: 4096,
            buffers: 65_536,
        }
    }
}
