//! Binding memory to a NUMA node.

use std::{fmt, fs, io};

/// What became of the wish to bind memory to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binding {
    /// Nobody asked.
    Unasked,
    /// The machine has one node: there is nothing to choose.
    OneNode,
    /// The pages come from this node.
    Node(usize),
}

impl fmt::Display for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unasked => write!(f, "not bound"),
            Self::OneNode => write!(f, "not bound: this machine has one node"),
            Self::Node(node) => write!(f, "bound to node {node}"),
        }
    }
}

/// The nodes of this machine that are online, from `/sys`; node 0 where the kernel does not say.
#[must_use]
pub fn nodes() -> Vec<usize> {
    let said = fs::read_to_string("/sys/devices/system/node/online").unwrap_or_default();
    let found = parse(said.trim());
    if found.is_empty() { vec![0] } else { found }
}

/// Read a list like `0-1,4`.
fn parse(list: &str) -> Vec<usize> {
    let range = |part: &str| -> Option<std::ops::RangeInclusive<usize>> {
        let (first, end) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse().ok()?..=end.parse().ok()?)
    };
    list.split(',').filter_map(range).flatten().collect()
}

/// The node mask of `mbind` with one bit set.
pub(super) fn mask(node: usize) -> io::Result<Vec<libc::c_ulong>> {
    if node >= 4096 {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    let mut words = vec![0; node / 64 + 1];
    words[node / 64] = 1 << (node % 64);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_nodes_is_read() {
        assert_eq!(parse("0-2,5"), [0, 1, 2, 5]);
        assert_eq!(parse("0"), [0]);
        assert!(parse("x").is_empty());
        assert!(!nodes().is_empty());
    }

    #[test]
    fn a_mask_has_one_bit() {
        assert_eq!(mask(0).unwrap(), [1]);
        assert_eq!(mask(65).unwrap(), [0, 2]);
        assert!(mask(5000).is_err());
    }
}
