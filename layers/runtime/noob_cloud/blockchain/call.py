"""A task on the chain: the cid of a frame that names its run, its tube, its code, and the call.

Who has the frame can do the task. The run's name is in it, so that two runs of the same tube on the
same inputs are two purchases: results are public, and whoever buys a cid again may be sold the old
result.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from noob_cloud import codec
from noob_cloud.exceptions import CodecError, DecodeError
from noob_cloud.task import Outcome, StageCall
from noob_cloud.worker.function import FunctionCall

if TYPE_CHECKING:
    from noob_cloud.blobs import BlobStore

__all__ = ["ChainCall", "frame_of", "read_call", "value_in"]

_FIELDS = {"run", "tube", "code", "call"}


@dataclass(frozen=True, slots=True)
class ChainCall:
    """What a task's frame holds."""

    tube: str
    """cid of the tube, which is in the same store."""
    code: str | None
    """cid of the code that it wants."""
    payload: bytes
    """Frame of a `StageCall` or `FunctionCall`: what a queue's worker executes."""


def frame_of(call: StageCall | FunctionCall, *, run: str) -> bytes:
    """Return the frame of a call; its cid is the task's name on the chain.

    Raises:
        EncodeError: an input has no place in the wire format.
    """
    return bytes(
        codec.dumps(
            {"run": run, "tube": call.tube, "code": call.code, "call": bytes(codec.dumps(call))}
        )
    )


def read_call(store: BlobStore, cid: str) -> ChainCall:
    """Fetch a task's frame; a bare frame of a call is one too.

    Raises:
        BlobNotFoundError: the store does not have it.
        BlobCorruptError: the store gives other bytes.
        DecodeError: it is no call.
    """
    from noob_cloud.blobs.interface import verify  # noqa: PLC0415 - loads blake3

    frame = verify(cid, bytes(store.get(cid)), "the store")  # whatever the store has looked at
    value = _loads(frame, cid)
    if isinstance(value, StageCall | FunctionCall):
        return ChainCall(value.tube, value.code, frame)
    if type(value) is not dict or value.keys() != _FIELDS:
        raise DecodeError(f"{cid} holds a {type(value).__name__}, and no call of a tube.")
    tube, code, payload = value["tube"], value["code"], value["call"]
    if not isinstance(tube, str) or not isinstance(code, str | None):
        raise DecodeError(f"The call {cid} does not name its tube and code by their cids.")
    if not isinstance(payload, bytes):
        raise DecodeError(f"The call {cid} holds a {type(payload).__name__} in place of a frame.")
    return ChainCall(tube, code, payload)


def value_in(frame: bytes, cid: str) -> Any:
    """Return what a result's frame holds: outputs for each epoch, or an `Outcome` that is not ok.

    Raises:
        DecodeError: it holds no result of a stage.
    """
    value = _loads(frame, cid)
    if isinstance(value, list) or (isinstance(value, Outcome) and not value.ok):
        return value
    raise DecodeError(
        f"The result {cid} holds a {type(value).__name__}, and no outputs of a stage."
    )


def _loads(frame: bytes, cid: str) -> Any:
    try:
        return codec.loads(frame)
    except (CodecError, TypeError, ValueError) as error:
        raise DecodeError(f"{cid} holds no value: {error}") from error
