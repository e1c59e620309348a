"""One name for equal bytes, readable by every IPFS tool."""

from __future__ import annotations

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from noob_cloud.cid import DIGEST_SIZE, cid, digest, format_cid, is_cid, parse_cid, to_bytes32
from noob_cloud.exceptions import DecodeError

HELLO = "bafkr4ihkr4ld3m4gqkjf4reryxsy2s5tkbxprqkow6fin2iiyvreuzzab4"
"""`b"hello"`: CIDv1 (01), raw (55), blake3 (1e), 32 bytes (20), digest ea8f163d...620f."""


def test_known_cid() -> None:
    """The cid of known bytes is what other implementations say."""
    assert cid(b"hello") == HELLO
    assert parse_cid(HELLO).hex() == (
        "ea8f163db38682925e4491c5e58d4bb3506ef8c14eb78a86e908c5624a67200f"
    )


@pytest.mark.parametrize("size", [0, 1, 1024, 1025, (1 << 20) - 1, 1 << 20, (1 << 20) + 7])
def test_parts_and_kinds_of_buffers(size) -> None:
    """The cid is that of the bytes, however they are cut and whatever holds them."""
    data = bytes(range(256)) * (size // 256) + bytes(size % 256)
    name = cid(data)

    assert digest(data) == blake3(data).digest()
    assert cid(bytearray(data)) == cid(memoryview(data)) == name
    assert cid([data[:100], memoryview(data)[100:]]) == name
    assert cid(iter([data])) == name


@given(st.binary(min_size=DIGEST_SIZE, max_size=DIGEST_SIZE))
def test_format_and_parse(raw) -> None:
    """Every digest has one cid, which names it."""
    name = format_cid(raw)

    assert parse_cid(name) == to_bytes32(name) == raw
    assert is_cid(name)
    assert len(name) == 59


@pytest.mark.parametrize(
    "text",
    [
        "",
        "b",
        HELLO[:-1],
        HELLO + "a",
        HELLO.upper(),
        HELLO[:-1] + "5",  # bits beyond the digest
        HELLO[:-1] + "1",  # not in the alphabet
        HELLO[:20] + "A" + HELLO[21:],
        "bafkreifzjut3te7nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e",  # sha2-256
        "../../etc/passwd",
        HELLO[:-1] + "\u00e9",
        None,
        b"bafkr4i",
    ],
)
def test_what_is_no_cid(text) -> None:
    """Another hash, codec, alphabet or length is refused with what it should be."""
    assert not is_cid(text)
    with pytest.raises(DecodeError, match="cid"):
        parse_cid(text)


@pytest.mark.parametrize("size", [0, 31, 33])
def test_digest_of_another_length(size) -> None:
    """A digest has 32 bytes."""
    with pytest.raises(DecodeError, match="32 bytes"):
        format_cid(bytes(size))
