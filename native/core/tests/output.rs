//! What the bindings' output writes is the shortest msgpack of it, and the reader reads it back.
//!
//! The output is where the serializer is unsafe without the interpreter: here Miri can look at it.

extern crate noob_cloud_core as noob_cloud_core_crate;

#[path = "../../python/src/serializer/output.rs"]
mod output;

use noob_cloud_core::msgpack::{Reader, Token};
use output::Output;
use proptest::prelude::*;

/// Write something behind `before` bytes, so that it meets every state of the buffer.
fn written(before: usize, write: impl FnOnce(&mut Output)) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(before);
    bytes.resize(before, 7);
    let mut out = Output::new(bytes);
    write(&mut out);
    assert!(out.bytes()[..before].iter().all(|&byte| byte == 7));
    out.bytes_mut().drain(..before);
    assert_eq!(out.len(), out.bytes().len());
    out.into_vec()
}

proptest! {
    #[test]
    fn integers(value: u64, shift in 0u32..64, before in 0usize..40) {
        let value = value >> shift;
        let bytes = written(before, |out| out.unsigned(value));

        prop_assert_eq!(Reader::new(&bytes).next(), Ok(Token::Uint(value)));
        let shortest = match value {
            0..=0x7f => 1,
            0x80..=0xff => 2,
            0x100..=0xffff => 3,
            0x1_0000..=0xffff_ffff => 5,
            _ => 9,
        };
        prop_assert_eq!(bytes.len(), shortest);
        let negative = !value.cast_signed() | i64::MIN >> shift.min(63);
        let bytes = written(before, |out| out.signed(negative));
        prop_assert_eq!(Reader::new(&bytes).next(), Ok(Token::Int(negative)));
    }

    #[test]
    fn floats_and_text(value: f64, text in "\\PC{0,80}", long in 0usize..70_000, before in 0usize..40) {
        let long = "x".repeat(long);
        let bytes = written(before, |out| {
            out.float(value);
            out.text(text.as_bytes());
            out.text(long.as_bytes());
            out.binary_head(text.len());
            out.raw(text.as_bytes());
            out.byte(0xc0);
        });

        let mut reader = Reader::new(&bytes);
        let Ok(Token::Float(back)) = reader.next() else { panic!("a float") };
        prop_assert_eq!(back.to_bits(), value.to_bits());
        prop_assert_eq!(reader.next(), Ok(Token::Str(text.as_bytes())));
        prop_assert_eq!(reader.next(), Ok(Token::Str(long.as_bytes())));
        prop_assert_eq!(reader.next(), Ok(Token::Bin(text.as_bytes())));
        prop_assert_eq!(reader.next(), Ok(Token::Nil));
        prop_assert!(reader.rest().is_empty());
    }

    #[test]
    fn extensions(size in 0usize..70_000, guess in 0usize..70_000, code in 0u8..128) {
        let payload = vec![3; size];
        let inner = written(5, |out| out.extension(code, &payload));
        let bytes = written(5, |out| {
            let outer = out.open(guess);
            let mark = out.open(size);
            out.raw(&payload);
            out.close(mark, code);
            out.close(outer, 1);
        });

        prop_assert_eq!(Reader::new(&inner).next(), Ok(Token::Ext(code.cast_signed(), &payload)));
        prop_assert_eq!(Reader::new(&bytes).next(), Ok(Token::Ext(1, &inner)));
        prop_assert_eq!(bytes, written(0, |out| out.extension(1, &inner)));
    }
}

#[test]
fn heads_of_containers() {
    for count in [0, 1, 15, 16, 255, 65_535, 65_536] {
        let mut bytes = written(3, |out| out.array(count));
        bytes.resize(bytes.len() + count, 0);
        assert_eq!(Reader::new(&bytes).next(), Ok(Token::Array(count)));
        let mut bytes = written(3, |out| out.map(count));
        bytes.resize(bytes.len() + 2 * count, 0);
        assert_eq!(Reader::new(&bytes).next(), Ok(Token::Map(count)));
    }
}
