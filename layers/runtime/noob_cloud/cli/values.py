"""Values on their way in (key=value, JSON) and out (anything as JSON)."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from datetime import date, datetime
from enum import Enum
from pathlib import Path
from typing import Any

from noob_cloud.cli.errors import UsageError


def inputs(pairs: Iterable[str]) -> dict[str, Any]:
    """Inputs as given: `key=value`, where the value is JSON or else text, or one JSON object.

    Raises:
        UsageError: a pair has no `=`, or a key that is no name.
    """
    found: dict[str, Any] = {}
    for pair in pairs:
        if pair.lstrip().startswith("{"):
            found.update(_object(pair))
            continue
        key, equals, text = pair.partition("=")
        if not equals or not key.strip().isidentifier():
            raise UsageError(f"--input {pair!r} is not key=value; write for example --input n=3")
        found[key.strip()] = guess(text)
    return found


def guess(text: str) -> Any:
    """JSON if it is JSON, else the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise UsageError(f"--input {text!r} is not a JSON object: {error}") from error
    if not isinstance(value, dict):
        raise UsageError(f"--input {text!r} is not a JSON object")
    return value


def tags(text: str | None) -> list[str]:
    """`gpu,cuda` as a list; None or nothing as an empty one."""
    return [tag.strip() for tag in (text or "").split(",") if tag.strip()]


def plain(value: Any) -> Any:
    """The value in JSON's types: arrays as lists, bytes as base64, dataclasses as objects."""
    if isinstance(value, Enum):
        return value.name if isinstance(value.value, int) else plain(value.value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping):
        return {str(plain(key)): plain(item) for key, item in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted((plain(item) for item in value), key=repr)
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return _object_to_plain(value)


def _object_to_plain(value: Any) -> Any:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(value).decode()
    if isinstance(value, (date, datetime)):
        return value.isoformat()
    if isinstance(value, Path):
        return str(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    for method in ("tolist", "model_dump"):
        if hasattr(value, method):
            return plain(getattr(value, method)())
    return repr(value)


def counted(number: int, noun: str) -> str:
    """`1 result`, `2,000 results`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def short(value: Any, *, width: int = 100) -> str:
    """The value on one line for a table, cut to `width` characters."""
    text = value if isinstance(value, str) else _outline(value)
    text = " ".join(text.split())
    return text if len(text) <= width else text[: width - 1] + "…"


def _outline(value: Any, *, depth: int = 2) -> str:
    """What a value is made of, without printing all of it."""
    shape = getattr(value, "shape", None)
    if shape is not None and hasattr(value, "dtype"):
        return f"array {'x'.join(map(str, shape)) or 'scalar'} {value.dtype}"
    if isinstance(value, Mapping):
        if not depth:
            return f"{{{len(value)} keys}}"
        parts = (f"{key}: {_outline(item, depth=depth - 1)}" for key, item in value.items())
        return "{" + ", ".join(parts) + "}"
    if isinstance(value, (list, tuple)) and (len(value) > 8 or not depth):  # noqa: PLR2004 a line
        return f"[{len(value)} items]"
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    return repr(value)
