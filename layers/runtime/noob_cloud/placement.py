"""Where a tube's nodes may run: the file `NAME.cloud.yaml` beside `NAME.yaml`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noob_cloud.exceptions import PlacementError

if TYPE_CHECKING:
    from noob import Tube

_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/=-]{0,63}")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]i?)?B?", re.IGNORECASE)
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_BINARY = {"ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
_MOST_SECONDS = 7 * 24 * 3600.0
_MOST_RETRIES = 100
_MOST_CALLS = 100_000
_MOST_TAGS = 32


@dataclass(frozen=True, slots=True)
class NodePlacement:
    """Where one node may run, and how hard to try."""

    affinity: frozenset[str] = frozenset()
    """A worker with any of these tags may run it (empty: any worker)."""
    required: frozenset[str] = frozenset()
    """A worker must have all of these tags."""
    timeout: float | None = None
    """Longest run of one attempt, in seconds."""
    memory: int | None = None
    """Bytes that a worker needs."""
    retries: int | None = None
    """Further attempts after the first."""
    concurrency: int | None = None
    """Most calls at once, over all workers."""
    deterministic: bool = False
    """Whether equal inputs give equal outputs, so that results may be reused across runs."""


_ANYWHERE = NodePlacement()
_FIELDS = tuple(field.name for field in fields(NodePlacement))


class Placement(Mapping[str, NodePlacement]):
    """Node id to where it may run. A node without an entry runs anywhere."""

    def __init__(self, nodes: Mapping[str, NodePlacement] | None = None) -> None:
        self._nodes = dict(nodes or {})

    def __getitem__(self, node: str) -> NodePlacement:
        return self._nodes.get(node, _ANYWHERE)

    def __iter__(self) -> Iterator[str]:
        return iter(self._nodes)

    def __len__(self) -> int:
        return len(self._nodes)

    def __repr__(self) -> str:
        return f"Placement({self._nodes!r})"

    def get(self, node: str, default: Any = None) -> Any:
        """Return a node's placement: `default`, or anywhere, where it has no entry."""
        return self._nodes.get(node, _ANYWHERE if default is None else default)

    @classmethod
    def of(
        cls,
        given: Placement | Mapping[str, Any] | str | Path | None = None,
        *,
        tube: Tube | None = None,
        affinity: Mapping[str, Iterable[str]] | None = None,
    ) -> Placement:
        """Read a placement in any form that a runner takes, and hold it against the tube.

        Args:
            given: a placement, node id to its fields, or the path of a file.
            tube: what the nodes are checked against.
            affinity: node id to tags, for short; added to what `given` says.

        Raises:
            PlacementError: says which node and field, what the limit is, and the way out.
        """
        if given is None:
            nodes: dict[str, NodePlacement] = {}
        elif isinstance(given, Placement):
            nodes = dict(given.items())
        elif isinstance(given, Mapping):
            nodes = _nodes(given, "placement")
        else:
            nodes = dict(cls.load(given).items())
        for node, tags in (affinity or {}).items():
            old = nodes.get(node, _ANYWHERE)
            both = old.affinity | _tags(tags, f"affinity of {node}")
            values = {name: getattr(old, name) for name in _FIELDS}
            nodes[node] = NodePlacement(**{**values, "affinity": both})
        placement = cls(nodes)
        if tube is not None:
            placement.check(tube)
        return placement

    @classmethod
    def load(cls, path: str | Path) -> Placement:
        """Read a file; it is YAML with the nodes under `nodes:`.

        Raises:
            PlacementError: the file is missing, is not YAML, or says something that it may not.
        """
        from ruamel.yaml import YAML  # noqa: PLC0415 - slow to import, seldom needed
        from ruamel.yaml.error import YAMLError  # noqa: PLC0415 - see above

        path = Path(path)
        try:
            document = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise PlacementError(
                f"The placement file {path} cannot be read: {error.strerror}.", path=str(path)
            ) from error
        except (YAMLError, UnicodeDecodeError) as error:
            raise PlacementError(
                f"The placement file {path} is not YAML: {error}", path=str(path)
            ) from error
        if document is None:
            return cls()
        if not isinstance(document, Mapping):
            raise PlacementError(
                f"The placement file {path} holds a {type(document).__name__}; "
                "write `nodes:` with one entry for each node.",
                path=str(path),
            )
        extra = [str(key) for key in document if key != "nodes"]
        if extra:
            raise PlacementError(
                f"The placement file {path} has the unknown key {extra[0]!r}; "
                "its one key is `nodes:`.",
                path=str(path),
            )
        return cls(_nodes(document.get("nodes") or {}, str(path)))

    @classmethod
    def beside(cls, tube_path: str | Path) -> Placement:
        """Read `NAME.cloud.yaml` beside `NAME.yaml`; anywhere, where there is none."""
        path = Path(tube_path)
        beside = path.with_name(f"{path.stem}.cloud.yaml")
        return cls.load(beside) if beside.exists() else cls()

    def check(self, tube: Tube) -> None:
        """Hold the placement against a tube.

        Raises:
            PlacementError: it names a node that the tube has not, or tags one that cannot move.
        """
        for node_id, placed in self._nodes.items():
            node = tube.nodes.get(node_id)
            if node is None:
                known = ", ".join(sorted(tube.nodes)[:10])
                raise PlacementError(
                    f"The placement names the node {node_id!r}, which the tube has not; "
                    f"its nodes are {known}.",
                    node_id=node_id,
                )
            if node.stateful and (placed.affinity or placed.required):
                name = "affinity" if placed.affinity else "required"
                raise PlacementError(
                    f"The node {node_id!r} is stateful, so it runs where the runner runs and its "
                    f"{name} cannot be kept; set `stateful: false` in the tube if its calls may "
                    f"come in any order, or take {name} out.",
                    node_id=node_id,
                    field=name,
                )

    def document(self) -> dict[str, dict[str, Any]]:
        """Return plain values, without defaults: what a file or a message holds."""
        plain: dict[str, dict[str, Any]] = {}
        for node, placed in self._nodes.items():
            entry: dict[str, Any] = {}
            for name in _FIELDS:
                value = getattr(placed, name)
                if value != getattr(_ANYWHERE, name):
                    entry[name] = sorted(value) if isinstance(value, frozenset) else value
            plain[node] = entry
        return plain


def schema() -> dict[str, Any]:
    """Return the JSON schema of a placement file, for editors."""
    tags = {
        "type": "array",
        "items": {"type": "string", "pattern": f"^{_TAG.pattern}$"},
        "maxItems": _MOST_TAGS,
        "uniqueItems": True,
    }
    entry = {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "affinity": {**tags, "description": "A worker with any of these tags may run it."},
            "required": {**tags, "description": "A worker must have all of these tags."},
            "timeout": {
                "type": "number",
                "exclusiveMinimum": 0,
                "maximum": _MOST_SECONDS,
                "description": "Longest run of one attempt, in seconds.",
            },
            "memory": {
                "oneOf": [
                    {"type": "integer", "minimum": 1},
                    {"type": "string", "pattern": f"^{_SIZE.pattern}$"},
                ],
                "description": "Memory that a worker needs: bytes, or for example 2GiB.",
            },
            "retries": {
                "type": "integer",
                "minimum": 0,
                "maximum": _MOST_RETRIES,
                "description": "Further attempts after the first.",
            },
            "concurrency": {
                "type": "integer",
                "minimum": 1,
                "maximum": _MOST_CALLS,
                "description": "Most calls at once, over all workers.",
            },
            "deterministic": {
                "type": "boolean",
                "description": "Equal inputs give equal outputs: results may be reused.",
            },
        },
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Where the nodes of a noob tube may run",
        "type": "object",
        "additionalProperties": False,
        "properties": {"nodes": {"type": "object", "additionalProperties": entry}},
    }


def _nodes(given: Mapping[Any, Any], where: str) -> dict[str, NodePlacement]:
    if set(given) == {"nodes"} and isinstance(given["nodes"], Mapping):
        inner = given["nodes"]
        if not set(inner) & set(_FIELDS):
            given = inner
    return {str(node): _node(str(node), entry, where) for node, entry in given.items()}


def _node(node: str, entry: Any, where: str) -> NodePlacement:
    if isinstance(entry, NodePlacement):
        return entry
    if entry is None:
        return _ANYWHERE
    if not isinstance(entry, Mapping):
        raise PlacementError(
            f"{where}: {node} is {entry!r}; write a mapping of {', '.join(_FIELDS)}.",
            node_id=node,
        )
    values: dict[str, Any] = {}
    for name, value in entry.items():
        label = f"{where}: {name} of {node}"
        read = _READERS.get(name)
        if read is None:
            raise PlacementError(
                f"{label} is not a field; the fields are {', '.join(_FIELDS)}.",
                node_id=node,
                field=str(name),
            )
        if value is not None:
            values[name] = read(value, label)
    return NodePlacement(**values)


def _tags(value: Any, label: str) -> frozenset[str]:
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, Iterable) or isinstance(value, Mapping):
        raise PlacementError(f"{label} is {value!r}; write a list of tags, such as [gpu].")
    tags = list(value)
    if len(tags) > _MOST_TAGS:
        raise PlacementError(f"{label} has {len(tags)} tags; at most {_MOST_TAGS} are allowed.")
    for tag in tags:
        if not isinstance(tag, str) or not _TAG.fullmatch(tag):
            raise PlacementError(
                f"{label} has the tag {tag!r}; a tag is 1 to 64 letters, digits and . _ : / = -, "
                "and begins with a letter or a digit."
            )
    return frozenset(tags)


def _number(value: Any, label: str, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low < value <= high:
        raise PlacementError(f"{label} is {value!r}; write seconds above {low:g} up to {high:g}.")
    return float(value)


def _whole(value: Any, label: str, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise PlacementError(f"{label} is {value!r}; write a whole number from {low} to {high}.")
    return value


def _bytes(value: Any, label: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None or float(match[1]) <= 0:
        raise PlacementError(f"{label} is {value!r}; write bytes, or a size such as 2GiB or 512MB.")
    unit = (match[2] or "").lower()
    return int(float(match[1]) * {**_UNITS, **_BINARY}[unit])


def _flag(value: Any, label: str) -> bool:
    if not isinstance(value, bool):
        raise PlacementError(f"{label} is {value!r}; write true or false.")
    return value


_READERS: dict[str, Callable[[Any, str], Any]] = {
    "affinity": _tags,
    "required": _tags,
    "timeout": lambda value, label: _number(value, label, 0.0, _MOST_SECONDS),
    "memory": _bytes,
    "retries": lambda value, label: _whole(value, label, 0, _MOST_RETRIES),
    "concurrency": lambda value, label: _whole(value, label, 1, _MOST_CALLS),
    "deterministic": _flag,
}
