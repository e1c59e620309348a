//! BLAKE3 digests, and the cids that name them: version 1, raw, BLAKE3, in lower base32.

use crate::cores::on_all_cores;

/// Bytes of a digest.
pub const DIGEST_SIZE: usize = 32;
/// A BLAKE3 digest.
pub type Digest = [u8; DIGEST_SIZE];
/// Characters of a cid.
pub const CID_SIZE: usize = 59;
/// Version 1, raw, multihash BLAKE3, its length.
const PREFIX: [u8; 4] = [0x01, 0x55, 0x1e, 0x20];
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
/// From this many bytes on several threads hash faster than one.
const PARALLEL: usize = 1 << 20;

/// The digest of `data`.
#[must_use]
pub fn digest(data: &[u8]) -> Digest {
    digest_parts(&[data])
}

/// The digest of parts, one after the other.
#[must_use]
pub fn digest_parts(parts: &[&[u8]]) -> Digest {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        if part.len() < PARALLEL {
            hasher.update(part);
        } else {
            on_all_cores(|| hasher.update_rayon(part));
        }
    }
    *hasher.finalize().as_bytes()
}

/// A digest, written as a cid.
#[must_use]
pub fn format_cid(digest: &Digest) -> [u8; CID_SIZE] {
    let mut text = [b'b'; CID_SIZE];
    let (mut bits, mut held) = (0u32, 0u32);
    let mut at = 1;
    for &byte in PREFIX.iter().chain(digest) {
        bits = bits << 8 | u32::from(byte);
        held += 8;
        while held >= 5 {
            held -= 5;
            text[at] = ALPHABET[(bits >> held & 31) as usize];
            at += 1;
        }
        bits &= (1 << held) - 1;
    }
    text[at] = ALPHABET[(bits << (5 - held) & 31) as usize];
    text
}

#[cfg(test)]
mod tests {
    use super::{digest, digest_parts, format_cid};

    #[test]
    fn the_cid_of_nothing_is_the_known_one() {
        let cid = format_cid(&digest(b""));

        assert_eq!(
            std::str::from_utf8(&cid).unwrap(),
            "bafkr4ifpcne3t5pzugtkaqcn5i3nzskjtpfslsnnyejlpte2spfoihzsmi"
        );
    }

    #[test]
    fn parts_and_whole_agree() {
        let data: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();

        assert_eq!(digest(&data), digest_parts(&[&data[..10], &data[10..]]));
        assert_eq!(digest(&data), *blake3::hash(&data).as_bytes());
    }
}
