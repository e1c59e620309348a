"""Name bytes by their content: CIDv1, raw codec, BLAKE3, written in lower base32.

One identifier serves as the S3 key, the P2P block, the memo key and, as its 32 byte digest, the
contract's `bytes32`. The text is what IPFS tools print for `--cid-version 1 --hash blake3`.
"""

from __future__ import annotations

import re
from base64 import b32decode, b32encode
from binascii import Error as Base32Error
from typing import TYPE_CHECKING

from blake3 import blake3

from noob_cloud.exceptions import DecodeError
from noob_cloud.native import core

if TYPE_CHECKING:
    from collections.abc import Iterable

    Buffer = bytes | bytearray | memoryview

__all__ = [
    "DIGEST_SIZE",
    "cid",
    "cid_many",
    "cids_in",
    "digest",
    "format_cid",
    "is_cid",
    "parse_cid",
    "to_bytes32",
]

DIGEST_SIZE = 32
"""Bytes of a BLAKE3 digest."""
_PREFIX = bytes((0x01, 0x55, 0x1E, DIGEST_SIZE))  # CIDv1, raw, multihash blake3, its length
_TEXT_PREFIX = "bafkr4i"
_TEXT_SIZE = 59
_WRITTEN = re.compile(rb"bafkr4i[a-z2-7]{52}")
_PARALLEL = 1 << 20  # below this one thread hashes faster than several


def format_cid(digest: bytes) -> str:
    """Write a 32 byte digest as a cid.

    Raises:
        DecodeError: The digest has another length.
    """
    if len(digest) != DIGEST_SIZE:
        raise DecodeError(f"A digest has {DIGEST_SIZE} bytes; this one has {len(digest)}.")
    return "b" + b32encode(_PREFIX + digest).decode("ascii").rstrip("=").lower()


if TYPE_CHECKING or core is None:

    def digest(data: Buffer | Iterable[Buffer]) -> bytes:
        """Return the 32 byte BLAKE3 digest of `data`, or of its parts one after the other."""
        if isinstance(data, bytes | bytearray | memoryview):
            if len(data) < _PARALLEL:
                return blake3(data).digest()
            return blake3(data, max_threads=blake3.AUTO).digest()
        hasher = blake3()
        for part in data:
            hasher.update(part)
        return hasher.digest()

    def cid(data: Buffer | Iterable[Buffer]) -> str:
        """Return the cid of `data`, or of its parts one after the other."""
        return format_cid(digest(data))

    def cid_many(
        many: Iterable[Buffer | Iterable[Buffer]],
        *,
        parallel: bool = True,  # noqa: ARG001 - the core's
    ) -> list[str]:
        """Return the cid of each of many; the Rust core hashes them on all cores."""
        return [cid(data) for data in many]

else:
    digest, cid, cid_many = core.digest, core.cid, core.cid_many


def parse_cid(text: str) -> bytes:
    """Return the 32 byte digest that a cid names.

    Raises:
        DecodeError: The text is not a CIDv1 of raw bytes under BLAKE3 in lower base32.
    """
    if not isinstance(text, str) or len(text) != _TEXT_SIZE or not text.startswith(_TEXT_PREFIX):
        raise DecodeError(
            f"{str(text)[:80]!r} is not a cid of this kit: {_TEXT_SIZE} characters that begin with"
            f" {_TEXT_PREFIX!r} (CIDv1, raw, BLAKE3, lower base32)."
        )
    try:
        raw = b32decode((text[1:] + "======").upper() if text.islower() else "?")
    except (Base32Error, ValueError) as error:
        raise DecodeError(f"{text!r} is not a cid: it is not lower base32.") from error
    if raw[:4] != _PREFIX or format_cid(raw[4:]) != text:
        raise DecodeError(f"{text!r} is not a cid: its last character has bits that mean nothing.")
    return raw[4:]


def is_cid(text: object) -> bool:
    """Whether `text` is a cid that `parse_cid` accepts."""
    try:
        parse_cid(text)  # type: ignore[arg-type]
    except DecodeError:
        return False
    return True


def to_bytes32(text: str) -> bytes:
    """Return a cid as the contract's `bytes32`, which is its digest."""
    return parse_cid(text)


def cids_in(data: Buffer) -> set[str]:
    """Return every cid that is written in `data`, whatever the rest of it is."""
    return {found.decode("ascii") for found in _WRITTEN.findall(data)}
