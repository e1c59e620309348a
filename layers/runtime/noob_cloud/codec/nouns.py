"""The kit's own nouns: calls, outcomes, tokens, epochs, and the two meta signals."""

from __future__ import annotations

import sys
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from noob_cloud.codec import recipes, tags
from noob_cloud.codec.read import DECODERS
from noob_cloud.codec.registry import register
from noob_cloud.codec.write import ENCODERS, FINDERS, Ext
from noob_cloud.exceptions import DecodeError
from noob_cloud.task import (
    MISSING,
    Outcome,
    RunDriver,
    StageCall,
    Task,
    TaskPriority,
    TaskStatus,
    Token,
)

if TYPE_CHECKING:
    from noob_cloud.codec.read import Reader
    from noob_cloud.codec.write import Writer

_INTEGER, _NAME, _LIST, _FLAG = (frozenset((kind,)) for kind in (int, str, list, bool))
_NUMBER, _TEXT, _DICT = frozenset((int, float)), frozenset((str, type(None))), frozenset((dict,))
_CALL = (_NAME, _LIST, _LIST, _LIST, _TEXT, _FLAG)
_OUTCOME = (_FLAG, None, _TEXT, _TEXT, _LIST, _TEXT, _TEXT, None, _FLAG, _NUMBER, _DICT)
_SIGNALS = ("NoEvent", "Exhausted")


def _typed(state: list[Any], noun: str, kinds: Any) -> list[Any]:
    for item, allowed in zip(state, kinds, strict=True):
        if allowed and type(item) not in allowed:
            raise DecodeError(
                f"The frame holds a {noun} with a {type(item).__name__} out of place."
            )
    return state


def _encode_missing(writer: Writer, __: Any) -> Ext:
    return writer.ext(tags.MISSING, b"")


def _decode_missing(_: Reader, __: memoryview) -> Any:
    return MISSING


def _encode_token(writer: Writer, value: Token) -> Ext:
    return writer.ext(tags.TOKEN, writer.nested([value.epoch, value.attempt]))


def _decode_token(reader: Reader, data: memoryview) -> Token:
    epoch, attempt = _typed(reader.items(data, 2), "Token", (_INTEGER, _INTEGER))
    return Token(epoch, attempt)


def _encode_call(writer: Writer, value: StageCall) -> Ext:
    inputs = [list(row) for row in value.inputs]
    state = [
        value.tube,
        list(value.nodes),
        list(value.epochs),
        inputs,
        value.code,
        value.retry_errors,
    ]
    return writer.ext(tags.CALL, writer.nested(state))


def _decode_call(reader: Reader, data: memoryview) -> StageCall:
    state = _typed(reader.items(data, 6), "StageCall", _CALL)
    tube, nodes, epochs, inputs, code, retry_errors = state
    if not ({*map(type, nodes)} <= _NAME and {*map(type, inputs)} <= _LIST):
        raise DecodeError("The frame holds a StageCall whose nodes or inputs are of other types.")
    rows = tuple([tuple(row) for row in inputs])
    return StageCall(tube, tuple(nodes), tuple(epochs), rows, code, retry_errors)


def _encode_outcome(writer: Writer, value: Outcome) -> Ext:
    state = [
        value.ok,
        value.value,
        value.error_type,
        value.message,
        list(value.args),
        value.traceback,
        value.node_id,
        value.epoch,
        value.retryable,
        value.duration,
        value.metrics,
    ]
    return writer.ext(tags.OUTCOME, writer.nested(state))


def _decode_outcome(reader: Reader, data: memoryview) -> Outcome:
    state = _typed(reader.items(data, 11), "Outcome", _OUTCOME)
    state[4] = tuple(state[4])
    return Outcome(*state)


def _encode_epoch(writer: Writer, value: Any) -> Ext:
    wire = value.to_wire()
    flat = [wire] if type(wire) is int else [wire[0], *(part for step in wire[1:] for part in step)]
    return writer.ext(tags.EPOCH, writer.nested(flat))


def _decode_epoch(reader: Reader, data: memoryview) -> Any:
    from noob_core import Epoch  # noqa: PLC0415 - only a frame with an epoch needs upstream

    root, *flat = reader.items(data)
    return Epoch.from_wire([root, *zip(flat[::2], flat[1::2], strict=True)] if flat else root)


def _encode_signal(writer: Writer, value: Any) -> Ext:
    return writer.ext(tags.SIGNAL, bytes((_SIGNALS.index(value.name),)))


def _decode_signal(_: Reader, data: memoryview) -> Any:
    from noob.event import MetaSignal  # noqa: PLC0415 - only a frame with a signal needs upstream

    if len(data) != 1 or data[0] >= len(_SIGNALS):
        raise DecodeError("The frame holds a meta signal that this noob-cloud does not know.")
    return MetaSignal[_SIGNALS[data[0]]]


def _find_upstream(kind: type) -> None:
    core, event = sys.modules.get("noob_core"), sys.modules.get("noob.event")
    if core is not None and kind is core.Epoch:
        ENCODERS[kind] = _encode_epoch
    elif event is not None and kind is event.MetaSignal:
        ENCODERS[kind] = _encode_signal


FINDERS.append(_find_upstream)
ENCODERS.update(
    {
        type(MISSING): _encode_missing,
        Token: _encode_token,
        StageCall: _encode_call,
        Outcome: _encode_outcome,
    }
)
DECODERS.update(
    {
        tags.MISSING: _decode_missing,
        tags.TOKEN: _decode_token,
        tags.CALL: _decode_call,
        tags.OUTCOME: _decode_outcome,
        tags.EPOCH: _decode_epoch,
        tags.SIGNAL: _decode_signal,
    }
)
recipes.array(
    Token,
    tags.TOKEN,
    {"epoch": recipes.VALUE, "attempt": recipes.VALUE},
    (_INTEGER, _INTEGER),
)
recipes.array(
    StageCall,
    tags.CALL,
    {
        "tube": recipes.VALUE,
        "nodes": recipes.NAMES,
        "epochs": recipes.ITEMS,
        "inputs": recipes.ROWS,
        "code": recipes.VALUE,
        "retry_errors": recipes.VALUE,
    },
    _CALL,
)
recipes.array(
    Outcome,
    tags.OUTCOME,
    {
        field.name: recipes.ITEMS if field.name == "args" else recipes.VALUE
        for field in fields(Outcome)
    },
    _OUTCOME,
)
register(Task, "noob_cloud:Task")
register(TaskPriority, "noob_cloud:TaskPriority")
register(TaskStatus, "noob_cloud:TaskStatus")
register(RunDriver, "noob_cloud:RunDriver")
