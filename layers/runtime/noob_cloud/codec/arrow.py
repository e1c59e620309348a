"""Arrow buffers, tables and record batches out of band, where pyarrow is installed."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from noob_cloud.codec import tags
from noob_cloud.codec.read import DECODERS
from noob_cloud.codec.write import ENCODERS, FINDERS, Ext
from noob_cloud.exceptions import DecodeError

if TYPE_CHECKING:
    from noob_cloud.codec.read import Reader
    from noob_cloud.codec.write import Writer

_SAFE_SINCE = 15
_BUFFER, _BATCH, _TABLE = range(3)


def _encode_buffer(writer: Writer, value: Any) -> Ext:
    index = writer.add(memoryview(value).cast("B"))
    return writer.ext(tags.ARROW, writer.nested([_BUFFER, index]))


def _encode_stream(kind: int, writer: Writer, value: Any) -> Ext:
    pa = sys.modules["pyarrow"]  # imported by whoever made the value
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, value.schema) as stream:
        stream.write(value)
    index = writer.add(memoryview(sink.getvalue()).cast("B"))
    return writer.ext(tags.ARROW, writer.nested([kind, index]))


def _encode_batch(writer: Writer, value: Any) -> Ext:
    return _encode_stream(_BATCH, writer, value)


def _encode_table(writer: Writer, value: Any) -> Ext:
    return _encode_stream(_TABLE, writer, value)


def _decode_arrow(reader: Reader, data: memoryview) -> Any:
    kind, index = reader.items(data, 2)
    buffer = reader.buffer(index)
    try:
        pa: Any = import_module("pyarrow")  # optional, and heavy
    except ImportError as error:
        raise DecodeError(
            "The frame holds Arrow data; install pyarrow to read it: pip install pyarrow"
        ) from error
    if int(pa.__version__.partition(".")[0]) < _SAFE_SINCE:  # CVE-2023-47248: it unpickled
        raise DecodeError(f"pyarrow {pa.__version__} is not safe to read with: upgrade it.")
    wrapped = pa.py_buffer(bytes(buffer) if reader.copy else buffer)
    if kind == _BUFFER:
        return wrapped
    with pa.ipc.open_stream(wrapped) as stream:
        table = stream.read_all()
    table.validate(full=True)
    if kind == _TABLE:
        return table
    batches = table.to_batches()
    if kind != _BATCH or len(batches) > 1:
        raise DecodeError("The frame holds Arrow data of an unknown kind.")
    return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema)


def _find(kind: type) -> None:
    arrow = sys.modules.get("pyarrow")
    if arrow is None:
        return
    if issubclass(kind, arrow.Buffer):
        ENCODERS[kind] = _encode_buffer
    elif kind is arrow.RecordBatch:
        ENCODERS[kind] = _encode_batch
    elif kind is arrow.Table:
        ENCODERS[kind] = _encode_table


FINDERS.append(_find)
DECODERS[tags.ARROW] = _decode_arrow
