"""What travels on the hot routes: whole columns of tasks in plain msgpack inside a codec frame.

A payload or result is itself where it is a plain value, else an extension of type `PACKED` that
holds its codec frame: the coordinator hands it on without decoding it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import msgspec
from msgspec import Meta
from msgspec.msgpack import Decoder, Encoder, Ext

from noob_cloud.cid import parse_cid
from noob_cloud.codec import Limits, dumps, loads
from noob_cloud.codec.frame import EXTENDED, MAGIC, VERSION, parse
from noob_cloud.codec.scan import check_items
from noob_cloud.exceptions import DecodeError
from noob_cloud.queue.interface import BlobName, Encoded

if TYPE_CHECKING:
    from collections.abc import Callable

FRAME_TYPE: Final = "application/vnd.noob-cloud.frame"
"""Media type of a codec frame."""
JSON_TYPE: Final = "application/json"
DRIVER_NODE: Final = "noob_cloud:drive"
"""The node_id of a run's driver task."""
DRIVE_TAG: Final = "noob:drive"
"""Tag of driver tasks; every worker may ask for it. With `+TAG`: for workers with that tag."""
DRIVER: Final = "/driver"
"""Ends the name under which a worker drives runs."""
LARGE: Final = 4 << 20
"""Bytes of a value from which on it travels as a blob."""
PACKED: Final = 70
"""Extension type of a value that is a codec frame by itself."""
BLOB: Final = 71
"""Extension type of the cid of a value that is a codec frame in the coordinator's blob store."""
_PLAIN = frozenset((type(None), bool, int, float, bytes))
_LOWEST, _HIGHEST = -(1 << 63), (1 << 64) - 1
_LONGEST_CID = 100
_SIZED = frozenset((bytes, str))
_NUMBER = 9
_SHORT = 1 << 14
"""A longer string or byte string is cheaper to hand on as a frame."""

T = TypeVar("T")

# ---- bounds: what is over them is refused while it is decoded, and costs nothing more

TaskId = Annotated[int, Meta(ge=0, lt=1 << 40)]
Token = tuple[Annotated[int, Meta(ge=0, lt=1 << 62)], Annotated[int, Meta(ge=0, lt=1 << 31)]]
Seconds = Annotated[float, Meta(ge=0, le=1e12)]
Count = Annotated[int, Meta(ge=0, lt=1 << 31)]
Name = Annotated[str, Meta(max_length=2_000)]
"""Of a worker, a run, a key, a request."""
NodeName = Annotated[str, Meta(max_length=100_000)]
"""The nodes of a fused stage are one name."""
Tag = Annotated[str, Meta(max_length=200)]
Text = Annotated[str, Meta(max_length=1_000_000)]
"""What went wrong, for people to read."""
_FEW: Final = Meta(max_length=100)


# ---- values


def pack(value: Any) -> Any:
    """Return what stands for a payload or result on the wire."""
    kind = type(value)
    if kind in _PLAIN:
        if kind is not int or _LOWEST <= value <= _HIGHEST:
            return value
    elif kind is str and value.isascii() and len(value) < _SHORT:
        return value
    elif kind is Encoded:
        return Ext(PACKED, bytes(value))
    return Ext(PACKED, dumps(value))


def unpack(packed: Any, *, decode: bool = True) -> Any:
    """Return the value that `packed` stands for; without `decode` its frame, as `Encoded`."""
    if type(packed) is Ext:
        if packed.code != PACKED:
            raise DecodeError(f"A value is of the unknown extension type {packed.code}.")
        return loads(bytes(packed.data)) if decode else Encoded(packed.data)
    return packed if decode else Encoded(dumps(packed))


def admit(packed: Any) -> Any:
    """Return what the queue is to store for a value that came over the network.

    Raises:
        DecodeError: it is an extension that is neither a codec frame nor the cid of one.
    """
    if type(packed) is not Ext:
        return packed
    data = bytes(packed.data)
    if packed.code == BLOB and len(data) < _LONGEST_CID:
        name = data.decode("latin-1")
        parse_cid(name)
        return BlobName(name)
    if packed.code != PACKED or not data.startswith(MAGIC):
        raise DecodeError("A payload or result is an extension value that is no codec frame.")
    return Encoded(data)


def size_of(packed: Any) -> int:
    """Return about how many bytes a packed value takes on the wire."""
    if type(packed) is Ext:
        return len(packed.data)  # type: ignore[arg-type] # bytes, or a view of them
    return len(packed) if type(packed) in _SIZED else _NUMBER


def total(column: list[Any]) -> int:
    """Return about how many bytes packed values take together; fast where all are plain."""
    if set(map(type, column)) <= _SIZED:
        return sum(map(len, column))
    return sum(map(size_of, column))


def by_cid(column: list[Any], put: Callable[[bytes], str]) -> list[Any]:
    """Return cids in the place of large values, once `put` has these: gateways carry 10 MB."""
    if total(column) <= LARGE:
        return column
    return [_by_cid(x, put) if size_of(x) > LARGE else x for x in column]


def _by_cid(packed: Any, put: Callable[[bytes], str]) -> Ext:
    frame = bytes(packed.data) if type(packed) is Ext else dumps(packed)
    return Ext(BLOB, put(frame).encode())


# ---- submit


class Options(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """How the tasks of one group are scheduled."""

    priority: int = 2
    affinity_tags: Annotated[tuple[Tag, ...], _FEW] = ()
    required_tags: Annotated[tuple[Tag, ...], _FEW] = ()
    timeout_seconds: float = 300.0
    max_retries: int = 3
    delay: float = 0.0
    key: Name | None = None
    run_id: Name | None = None
    queue_timeout: float | None = None
    memory: int | None = None
    """Bytes that a worker needs; of a task in the queue its tags say it."""


class Group(msgspec.Struct, array_like=True):
    """Tasks that are scheduled alike, as columns."""

    options: Options
    nodes: list[NodeName] | NodeName
    """One for each task, or the one of all."""
    epochs: list[Any]
    payloads: list[Any] | None = None
    uniques: list[Name | None] | None = None
    """Idempotency keys."""
    places: list[int] | None = None
    """Where each stands in the list of ids; None for one group in order."""


class Submit(msgspec.Struct, array_like=True):
    """Body of POST /tasks."""

    groups: list[Group]
    once: Name | None = None
    """Names this request: sent again, it answers with the same ids and adds nothing."""


class Submitted(msgspec.Struct, array_like=True):
    """Answer to POST /tasks."""

    ids: list[int]


class Move(msgspec.Struct, array_like=True):
    """Body of POST /checkpoints/{name}."""

    expected: Count
    """The version that the checkpoint has to have."""
    state: Annotated[bytes, Meta(max_length=1 << 20)]
    tasks: Submit
    marks: list[TaskId] = []
    """One for each task."""
    undo_above: TaskId | None = None
    forget_below: TaskId = 0


class Checkpoint(msgspec.Struct, array_like=True):
    """Answer to GET /checkpoints/{name} to a program."""

    version: int
    state: bytes


# ---- claim


class Ask(msgspec.Struct, array_like=True):
    """Body of POST /claims."""

    worker_id: Name
    limit: int = 1
    tags: Annotated[list[Tag], _FEW] | None = None
    """Narrows what the worker's identity may claim; None for all of it."""
    accept_untagged: bool = True
    lease_seconds: float | None = None
    wait: Seconds = 0.0


class Lot(msgspec.Struct, array_like=True):
    """Claimed tasks that share everything but their node, epoch and payload."""

    ids: list[int]
    nodes: list[str] | str
    epochs: list[Any]
    payloads: list[Any] | None
    token: tuple[int, int]
    terms: Options
    lease_expires_at: float | None
    created_at: float
    available_at: float
    uniques: list[str | None] | None = None
    trace: str | None = None
    """`traceparent` of what they belong to, where their client's work is traced."""


class Claimed(msgspec.Struct, array_like=True):
    """Answer to POST /claims."""

    lots: list[Lot]


# ---- outcomes


class Done(msgspec.Struct, array_like=True):
    """Completed tasks under one token."""

    token: Token
    ids: list[TaskId]
    results: list[Any] | None = None


class Failure(msgspec.Struct, array_like=True):
    """A task that failed."""

    task_id: TaskId
    token: Token
    error: Text
    traceback: Text | None = None
    retryable: bool = True
    refused: bool = False
    """The worker has other code: the task is for another one, and no attempt is counted."""


class Held(msgspec.Struct, array_like=True):
    """Tasks under one token."""

    token: Token
    ids: list[TaskId]


class Outcomes(msgspec.Struct, array_like=True):
    """Body of POST /outcomes."""

    worker_id: Name
    done: list[Done] = []
    failed: list[Failure] = []
    released: list[Held] = []
    started: list[Held] = []
    claim: Ask | None = None
    """Claim more in the same commit."""


class Settled(msgspec.Struct, array_like=True):
    """Answer to POST /outcomes."""

    refused: list[int]
    """Tasks whose lease is lost: another worker's, settled or cancelled."""
    statuses: dict[int, str]
    """What became of each failed task: delayed, dead, or ready where it was refused."""
    lots: list[Lot]


class Beat(msgspec.Struct, array_like=True):
    """Body of POST /heartbeats."""

    worker_id: Name
    held: list[Held] = []
    lease_seconds: float | None = None
    tags: Annotated[list[Tag], _FEW] = []
    """What the worker offers, for people to read."""
    running: Count = 0


class Beaten(msgspec.Struct, array_like=True):
    """Answer to POST /heartbeats."""

    lost: list[int]
    cancelled: list[int]


# ---- looking


class Wait(msgspec.Struct, array_like=True):
    """Body of POST /settled."""

    ids: list[TaskId]
    timeout: Seconds = 0.0
    at_least: Count | None = None
    most_bytes: Count | None = None
    """Of payloads and results in the answer, unless the first task alone has more."""


class View(msgspec.Struct, array_like=True):
    """Everything about one task."""

    task_id: int
    node_id: str
    epoch: Any
    payload: Any
    terms: Options
    status: str
    token: tuple[int, int] | None
    worker_id: str | None
    lease_expires_at: float | None
    created_at: float
    available_at: float
    started_at: float | None
    finished_at: float | None
    result: Any
    error: str | None
    traceback: str | None
    unique: str | None = None
    """Idempotency key."""


class Views(msgspec.Struct, array_like=True):
    """Answer to POST /settled, and of GET /tasks to a program."""

    tasks: list[View]
    more: bool = False
    """There are further ones, for which there was no room."""


# ---- runs


class Posted(msgspec.Struct, array_like=True):
    """Body of POST /runs/{id}/results: what the run's driver has."""

    task_id: TaskId
    token: Token
    first: TaskId
    """Position of the first of them."""
    results: list[Any]


class Result(msgspec.Struct, array_like=True):
    """One result of a run."""

    position: int
    cid: str
    packed: Any


class Results(msgspec.Struct, array_like=True):
    """Answer to GET /runs/{id}/results."""

    results: list[Result]
    total: int
    """Results that the run has so far."""


class NewRun(msgspec.Struct, array_like=True):
    """Body of POST /runs."""

    tube: Tag
    n: TaskId | None = None
    inputs: Any = None
    """One mapping for each epoch, packed."""
    run_id: Annotated[str, Meta(min_length=1, max_length=200)] | None = None
    placement: Any = None
    priority: int = 2
    affinity_tags: Annotated[tuple[Tag, ...], _FEW] = ()


# ---- frames

_encode = Encoder().encode
_DECODERS: dict[type, Decoder[Any]] = {}
_HEAD: Final = MAGIC + VERSION.to_bytes(2, "little") + EXTENDED.to_bytes(2, "little")
_NO_BUFFERS: Final = bytes(8)


def to_frame(value: msgspec.Struct) -> bytes:
    """Return a struct of this module as a codec frame."""
    body = _encode(value)
    return b"".join((_HEAD, len(body).to_bytes(8, "little"), _NO_BUFFERS, body))


def from_frame(kind: type[T], data: bytes, limits: Limits) -> T:
    """Return the struct of this module that a frame holds.

    Raises:
        DecodeError: it is not a frame, or not one of such a struct.
        LimitError: it is over the limits.
    """
    _flags, body, buffers = parse(memoryview(data), limits)
    if buffers:
        raise DecodeError("The frame has buffers out of band; these routes take none.")
    check_items(body, limits)
    decoder = _DECODERS.get(kind)
    if decoder is None:
        decoder = _DECODERS[kind] = Decoder(kind)
    try:
        found: T = decoder.decode(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise DecodeError(f"The frame holds no {kind.__name__}: {error}") from error
    return found
