//! Any bytes are read within their bounds, and what is written is read back.

use noob_cloud_core::frame::{self, Frame};
use noob_cloud_core::msgpack::{Malformed, Reader, Token, check_items, extension_head, validate};
use noob_cloud_core::refusal::Limits;
use noob_cloud_core::wire::{HEAD_SIZE, Header};
use proptest::prelude::*;

/// A value, and one of the ways to write it.
#[derive(Debug, Clone)]
enum Value {
    Scalar(Vec<u8>),
    Array(Vec<Value>),
    Map(Vec<(Value, Value)>),
}

impl Value {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Scalar(bytes) => out.extend(bytes),
            Self::Array(items) => {
                out.push(0xdc);
                out.extend(u16::try_from(items.len()).unwrap().to_be_bytes());
                for item in items {
                    item.write(out);
                }
            }
            Self::Map(pairs) => {
                out.push(0x80 | u8::try_from(pairs.len()).unwrap());
                for (key, item) in pairs {
                    key.write(out);
                    item.write(out);
                }
            }
        }
    }

    fn depth(&self) -> usize {
        match self {
            Self::Scalar(_) => 0,
            Self::Array(items) => items
                .iter()
                .map(Self::depth)
                .max()
                .map_or(0, |depth| depth + 1),
            Self::Map(pairs) => {
                let depths = pairs
                    .iter()
                    .flat_map(|(key, item)| [key.depth(), item.depth()]);
                depths.max().map_or(0, |depth| depth + 1)
            }
        }
    }

    fn count(&self) -> usize {
        match self {
            Self::Scalar(_) => 1,
            Self::Array(items) => 1 + items.iter().map(Self::count).sum::<usize>(),
            Self::Map(pairs) => {
                1 + pairs
                    .iter()
                    .map(|(key, item)| key.count() + item.count())
                    .sum::<usize>()
            }
        }
    }
}

fn scalar() -> impl Strategy<Value = Value> {
    let sized = |first: u8| {
        prop::collection::vec(any::<u8>(), 0..20).prop_map(move |data| {
            let mut bytes = vec![first, u8::try_from(data.len()).unwrap()];
            bytes.extend(data);
            bytes
        })
    };
    prop_oneof![
        (0u8..0x80).prop_map(|byte| vec![byte]),
        prop::sample::select(vec![
            vec![0xc0],
            vec![0xc2],
            vec![0xc3],
            vec![0xff],
            vec![0xa0]
        ]),
        any::<u64>().prop_map(|n| [&[0xcf][..], &n.to_be_bytes()].concat()),
        any::<i32>().prop_map(|n| [&[0xd2][..], &n.to_be_bytes()].concat()),
        any::<f64>().prop_map(|n| [&[0xcb][..], &n.to_be_bytes()].concat()),
        sized(0xd9),
        sized(0xc4),
        any::<[u8; 4]>().prop_map(|data| [&[0xd6, 1][..], &data].concat()),
    ]
    .prop_map(Value::Scalar)
}

fn value() -> impl Strategy<Value = Value> {
    scalar().prop_recursive(5, 60, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::Array),
            prop::collection::vec((inner.clone(), inner), 0..8).prop_map(Value::Map),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_written_is_one_value_and_no_part_of_it_is(value in value()) {
        let mut bytes = Vec::new();
        value.write(&mut bytes);

        prop_assert_eq!(validate(&bytes, value.depth()), Ok(()));
        for size in 0..bytes.len() {
            prop_assert!(validate(&bytes[..size], 100).is_err());
        }
        if value.depth() > 0 {
            let refusal = validate(&bytes, value.depth() - 1).unwrap_err();
            prop_assert_eq!(refusal.limit, Some("depth"));
        }
        bytes.push(0xc0);
        prop_assert!(validate(&bytes, 100).is_err());
    }

    #[test]
    fn values_are_counted_to_the_last(value in value()) {
        let mut bytes = Vec::new();
        value.write(&mut bytes);
        let limits = |items, text| Limits { items, text, ..Limits::default() };

        if value.count() < bytes.len() {
            prop_assert_eq!(check_items(&bytes, &limits(value.count(), usize::MAX)), Ok(()));
        }
        let few = check_items(&bytes, &limits(value.count() - 1, usize::MAX));
        prop_assert_eq!(few.unwrap_err().limit, Some("items"));
    }

    #[test]
    fn any_bytes_are_read_within_their_bounds(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let mut reader = Reader::new(&bytes);
        let mut before = bytes.len();
        while let Ok(token) = reader.next() {
            prop_assert!(reader.rest().len() < before);
            before = reader.rest().len();
            match token {
                Token::Array(count) => prop_assert!(count <= before),
                Token::Map(count) => prop_assert!(2 * count <= before),
                Token::Str(part) | Token::Bin(part) | Token::Ext(_, part) => {
                    prop_assert!(part.len() < bytes.len());
                }
                _ => {}
            }
        }
        let _ = validate(&bytes, 10);
        let _ = check_items(&bytes, &Limits { items: 5, text: 5, ..Limits::default() });
        let _ = frame::parse(&bytes, &Limits::default());
    }

    #[test]
    fn a_frame_that_is_laid_out_is_parsed_again(
        body in prop::collection::vec(any::<u8>(), 0..200),
        sizes in prop::collection::vec(0usize..300, 0..5),
        flags in 0u16..4,
    ) {
        let limits = Limits::default();
        let layout = frame::lay_out(flags, body.len(), &sizes, &limits).unwrap();
        let mut bytes = layout.head.clone();
        bytes.extend(&body);
        for (&offset, &size) in layout.offsets.iter().zip(&sizes) {
            bytes.resize(offset, 0);
            bytes.resize(offset + size, 7);
        }
        let start = layout.head.len();
        let buffers = layout.offsets.iter().zip(&sizes);
        let buffers = buffers.map(|(&offset, &size)| offset..offset + size).collect();

        prop_assert_eq!(bytes.len(), layout.total);
        prop_assert_eq!(
            frame::parse(&bytes, &limits),
            Ok(Frame { flags, body: start..start + body.len(), buffers })
        );
        for size in 0..bytes.len() {
            prop_assert!(frame::parse(&bytes[..size], &limits).is_err());
        }
        bytes.push(0);
        prop_assert!(frame::parse(&bytes, &limits).is_err());
    }

    #[test]
    fn damaged_frames_are_refused_or_within_bounds(
        at in 0usize..44, byte: u8, size in 0usize..200,
    ) {
        let limits = Limits { total: 1000, ..Limits::default() };
        let mut bytes = frame::lay_out(1, 1, &[size], &limits).unwrap().head;
        bytes.push(0xc0);
        bytes.resize(64 + size, 0);
        bytes[at] = byte;
        if let Ok(frame) = frame::parse(&bytes, &limits) {
            prop_assert!(frame.body.end <= bytes.len());
            prop_assert!(frame.buffers.iter().all(|buffer| buffer.end <= bytes.len()));
        }
    }

    #[test]
    fn heads_of_extensions_are_the_shortest_and_read_back(size in 0usize..70_000, code in 0u8..128) {
        let (head, width) = extension_head(code, size);
        let bytes = [&head[..width], &vec![9; size]].concat();

        let mut reader = Reader::new(&bytes);

        prop_assert_eq!(reader.next(), Ok(Token::Ext(code.cast_signed(), &bytes[width..])));
        prop_assert!(reader.rest().is_empty());
        let shortest = match size {
            1 | 2 | 4 | 8 | 16 => 2,
            0..=255 => 3,
            256..=65_535 => 4,
            _ => 6,
        };
        prop_assert_eq!(width, shortest);
    }
}

#[test]
fn a_count_that_the_bytes_cannot_hold_is_cut_short() {
    for bytes in [
        &[0xdd, 0xff, 0xff, 0xff, 0xff][..],
        &[0xdf, 0, 0, 0, 1, 0],
        &[0x91],
    ] {
        assert_eq!(Reader::new(bytes).next(), Err(Malformed::Cut));
    }
    assert_eq!(Reader::new(&[0xc1]).next(), Err(Malformed::Reserved));
}

#[test]
fn limits_are_checked_before_the_table_is_read() {
    let limits = Limits {
        buffers: 3,
        body: 100,
        ..Limits::default()
    };
    for (header, name) in [
        (Header::new(0, 101, 0), "body"),
        (Header::new(0, usize::MAX, 0), "body"),
        (Header::new(0, 1, 4), "buffers"),
        (Header::new(0, 1, usize::MAX), "buffers"),
    ] {
        let mut bytes = header.to_bytes().to_vec();
        bytes.resize(HEAD_SIZE + 1, 0xc0);
        assert_eq!(frame::parse(&bytes, &limits).unwrap_err().limit, Some(name));
    }
}
