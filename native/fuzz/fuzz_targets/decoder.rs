//! Any bytes, as a frame and as a body: read within their bounds or refused, never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use noob_cloud_core::frame;
use noob_cloud_core::msgpack::{Reader, Token, check_items, validate};
use noob_cloud_core::refusal::Limits;

fuzz_target!(|data: &[u8]| {
    let limits = Limits {
        total: 1 << 16,
        items: 1000,
        text: 1000,
        ..Limits::default()
    };
    if let Ok(found) = frame::parse(data, &limits) {
        body(&data[found.body.clone()]);
        let mut end = found.body.end;
        for buffer in found.buffers {
            assert!(end <= buffer.start && buffer.end <= data.len());
            end = buffer.end;
        }
        assert_eq!(end, data.len());
    }
    body(data);
});

fn body(data: &[u8]) {
    let limits = Limits {
        items: 20,
        text: 20,
        ..Limits::default()
    };
    let counted = check_items(data, &limits);
    let sound = validate(data, 50);
    if sound.is_ok() && data.len() <= 20 {
        assert!(counted.is_ok());
    }
    let mut reader = Reader::new(data);
    let mut left = 1usize;
    while left > 0 {
        left -= 1;
        match reader.next() {
            Ok(Token::Array(count)) => {
                assert!(count <= reader.rest().len());
                left += count;
            }
            Ok(Token::Map(count)) => {
                assert!(2 * count <= reader.rest().len());
                left += 2 * count;
            }
            Ok(Token::Ext(_, payload)) => drop(validate(payload, 10)),
            Ok(_) => {}
            Err(_) => {
                assert!(sound.is_err());
                return;
            }
        }
    }
    if reader.rest().is_empty() {
        assert!(!matches!(&sound, Err(refusal) if refusal.limit.is_none()));
    }
}
