"""A child process that runs what its worker hands it, and can be killed without harm.

Each message is two writes: a kind, one byte, and a body. The body of a call is the frame as it
came from the network: the worker itself never decodes it, nor imports user code.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
from dataclasses import replace
from importlib import import_module
from multiprocessing.connection import Connection
from threading import Thread
from typing import TYPE_CHECKING, Any, Final

from noob_cloud import codec
from noob_cloud.blobs.by_cid import InputFailedError, MissingBlobsError, resolving
from noob_cloud.exceptions import CodecError, DecodeError, LimitError, TaskCancelledError
from noob_cloud.interrupts import leave_to_parent
from noob_cloud.task import Outcome, StageCall
from noob_cloud.upstream import quieten
from noob_cloud.worker.by_hand import HandCall, execute_by_hand
from noob_cloud.worker.cache import TubeCache
from noob_cloud.worker.execute import execute, outcome_of_error
from noob_cloud.worker.function import FunctionCall, execute_function

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import FrameType

    Reply = tuple[bytes, bytes]
    """The kind of an answer and its body."""

TUBE: Final = b"T"
"""A tube's document; it is loaded at once."""
CALL: Final = b"C"
"""A frame of a `StageCall`, or of a dict with the fields of a `HandCall`."""

TASK: Final = b"K"
"""What `task_body` makes of a queue's task; the OUTCOME has the value alone."""

READY: Final = b"R"
"""The first message of a child, when it has started."""
OUTCOME: Final = b"O"
"""A frame of an `Outcome` that is ok."""
ERROR: Final = b"E"
"""A frame of an `Outcome` that is not."""
RAISED: Final = b"X"
"""A frame of an `Outcome` that is not, and that settles a run's task: its driver raises it."""
UNKNOWN: Final = b"N"
"""The call's tube is not here; the body is its cid."""
WANTED: Final = b"W"
"""The call names values by cid; the body is JSON, the cids of those that did not come with it."""
MALFORMED: Final = b"B"
"""The body could not be decoded; the body of the answer says why."""
TOO_LARGE: Final = b"L"
"""The body is over a limit of the wire format."""

UNREADABLE: Final = (CodecError, TypeError, MissingBlobsError, InputFailedError)
"""What `call_of` raises."""
NO_BLOBS: Final[Mapping[str, bytes]] = {}
INTERRUPT: Final = signal.SIGTERM
"""Stops the running node by an exception, so that its `finally` clauses run."""


class _Running:
    """Whether a node runs now, for the signal handler."""

    now = False


def answer(kind: bytes, frame: bytes, tubes: TubeCache) -> Reply:
    """Run one call; what its nodes raise is in the answer."""
    try:
        call = call_of(kind, frame)
    except UNREADABLE as error:
        return unreadable(error)
    if call.tube not in tubes:
        return UNKNOWN, call.tube.encode()
    if isinstance(call, FunctionCall):
        outcome, called = execute_function(call, tubes=tubes)
        return reply_of(outcome, kind, settles=called, raised=called)
    if isinstance(call, HandCall):
        return reply_of(execute_by_hand(call, tubes=tubes), kind, settles=False)
    return reply_of(execute(call, tubes=tubes), kind, settles=not call.retry_errors)


def unreadable(error: Exception) -> Reply:
    """Answer a call that `call_of` does not read: because of itself, or for want of a value."""
    if isinstance(error, MissingBlobsError):
        return WANTED, json.dumps(error.data["cids"]).encode()
    if isinstance(error, InputFailedError):
        return RAISED, codec.dumps(error.data["outcome"])
    return (TOO_LARGE if isinstance(error, LimitError) else MALFORMED), str(error).encode()


def reply_of(outcome: Outcome, kind: bytes, *, settles: bool, raised: bool | None = None) -> Reply:
    """Encode the answer to a message of this kind.

    Args:
        outcome: what became of the call.
        kind: CALL is answered with the outcome, TASK with its value alone.
        settles: what a node raised is the end of the task, for the driver of its run to raise.
        raised: whether it was a node that raised; by default that is so where the epoch is known.
    """
    if kind == CALL:
        return packed(outcome)
    reply = packed(outcome, alone=outcome.ok)
    if reply[0] == OUTCOME:
        return reply
    if raised is None:
        raised = outcome.epoch is not None or outcome.ok
    return (RAISED, reply[1]) if settles and raised else reply


def call_of(kind: bytes, frame: bytes) -> StageCall | HandCall | FunctionCall:
    """Read the body of a CALL or a TASK.

    Raises:
        CodecError, TypeError: it is not one.
        MissingBlobsError: it names values by cid that did not come with it.
        InputFailedError: one of them is the error of the task that was to make it.
    """
    return _task(frame) if kind == TASK else _call(frame)


def _call(frame: bytes) -> StageCall | HandCall:
    """Read what came by HTTP."""
    call = codec.loads(frame)
    if isinstance(call, dict):
        return HandCall(**call)
    if not isinstance(call, StageCall):
        raise DecodeError(f"the frame holds a {type(call).__name__}, not a StageCall")
    return call


def _task(body: bytes) -> StageCall | HandCall | FunctionCall:
    """Read what a queue holds: a call of a run, or what someone gave a task by hand."""
    at = 4 + int.from_bytes(body[:4], "big")
    by_hand = json.loads(body[4:at])
    rest = memoryview(body)
    frames = {}
    for cid, size in by_hand.pop("blobs", ()):
        frames[cid] = rest[at : at + size]
        at += size
    with resolving(frames):
        payload = codec.loads(rest[at:])
    if isinstance(payload, (StageCall, FunctionCall)):
        return payload
    if by_hand["tube"] is None:
        raise DecodeError(
            "the task was submitted by hand, and this worker was started without --tube, so it "
            f"knows no node {by_hand['node_id']!r}"
        )
    return HandCall(**by_hand, inputs=payload)


def task_body(
    *,
    tube: str | None,
    node_id: str,
    epoch: int,
    payload: bytes,
    blobs: Mapping[str, bytes] = NO_BLOBS,
) -> bytes:
    """Return the body of a TASK message; `blobs` are the frames that the payload names by cid."""
    told: dict[str, Any] = {"tube": tube, "node_id": node_id, "epoch": epoch}
    if blobs:
        told["blobs"] = [(cid, len(frame)) for cid, frame in blobs.items()]
    head = json.dumps(told).encode()
    return b"".join([len(head).to_bytes(4, "big"), head, *blobs.values(), payload])


def load(document: bytes, tubes: TubeCache) -> Reply:
    """Load a tube now; the outcome's value holds its cid and the names of its nodes."""
    cid = ""
    try:
        cid = tubes.add(document)
        with tubes.lend(cid) as cached:
            nodes = sorted(cached.tube.nodes)
    except LimitError as error:
        return TOO_LARGE, str(error).encode()
    except CodecError as error:
        return MALFORMED, str(error).encode()
    except BaseException as error:  # noqa: BLE001 - importing a tube's modules runs their code
        tubes.discard(cid)
        return packed(outcome_of_error(error))
    return packed(Outcome(ok=True, value={"cid": cid, "nodes": nodes}))


def packed(outcome: Outcome, *, alone: bool = False) -> Reply:
    """Encode an outcome, or its value `alone`; what cannot be encoded is an error outcome."""
    try:
        return (OUTCOME if outcome.ok else ERROR), codec.dumps(outcome.value if alone else outcome)
    except Exception as error:  # noqa: BLE001 - a value's own reduction may raise anything
        if not outcome.ok and outcome.value is not None:  # what came before it matters less
            return packed(replace(outcome, value=None))
        return ERROR, codec.dumps(outcome_of_error(error))


def serve(connection: Connection, tubes: TubeCache) -> None:
    """Answer messages until the worker hangs up."""
    import_module("noob_cloud.engine")  # upstream is slow to import: not in the first call's time
    connection.send_bytes(READY)
    connection.send_bytes(b"")
    while True:
        kind = connection.recv_bytes()
        body = connection.recv_bytes()
        try:
            _Running.now = True
            reply = load(body, tubes) if kind == TUBE else answer(kind, body, tubes)
            _Running.now = False
        except TaskCancelledError as error:  # it came between the node's end and the answer's
            _Running.now = False
            reply = packed(outcome_of_error(error))
        connection.send_bytes(reply[0])
        connection.send_bytes(reply[1])


def _interrupt(_signum: int, _frame: FrameType | None) -> None:
    if _Running.now:
        raise TaskCancelledError


def _end_with_parent(fd: int) -> None:
    """End this process when the worker is gone, whatever a node is doing."""
    poll = select.poll()
    poll.register(fd, getattr(select, "POLLRDHUP", 0))
    poll.poll()
    os._exit(1)


def main(setup: str) -> None:
    """Serve on a socket until its other end is closed.

    Args:
        setup: JSON with `fd`, `path` (the worker's `sys.path`) and `allowed_modules`.
    """
    settings = json.loads(setup)
    quieten()
    sys.path[:] = settings["path"]
    leave_to_parent()
    signal.signal(INTERRUPT, _interrupt)
    connection = Connection(settings["fd"])
    Thread(target=_end_with_parent, args=(settings["fd"],), daemon=True).start()
    try:
        serve(connection, TubeCache(allowed_modules=settings["allowed_modules"]))
    except (EOFError, OSError):
        os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
