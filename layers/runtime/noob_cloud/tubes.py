"""A tube as a value: what two machines must share to run the same thing, and nothing live.

Loading a tube imports modules, and importing is running code, so a worker passes the modules that
a tube may name; everything is checked before anything is imported.
"""

from __future__ import annotations

import sys
from collections import deque
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from importlib import import_module
from importlib.machinery import BuiltinImporter, FrozenImporter
from inspect import isclass, isgeneratorfunction, isroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noob_cloud.cid import cid, digest
from noob_cloud.codec import canonical, cid_of, loads
from noob_cloud.exceptions import (
    CodeMismatchError,
    DecodeError,
    NoobCloudError,
    PlanError,
    TubeRefusedError,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from noob import Tube
    from noob.tube import TubeSpecification
    from pydantic import BaseModel

__all__ = ["SAFE_BUILTINS", "TubeSource"]

# fmt: off
SAFE_BUILTINS = frozenset((
    "abs", "all", "any", "ascii", "bin", "bool", "bytes", "chr", "complex", "dict", "divmod",
    "enumerate", "float", "format", "frozenset", "hash", "hex", "int", "iter", "len", "list",
    "max", "min", "next", "oct", "ord", "pow", "print", "range", "repr", "reversed", "round",
    "set", "slice", "sorted", "str", "sum", "tuple", "zip",
))
# fmt: on
"""Builtins that any tube may name as a node; the others count as the module `builtins`."""
_SPECIAL = frozenset(("gather", "map", "return", "tube"))  # noob.node.SPECIAL_NODES
_OMITTED = frozenset(("noob_model", "noob_version", "extends"))
"""Of a specification: what changes with upstream's version, or is merged already."""


@dataclass(frozen=True)
class TubeSource:
    """The specification of a tube, with its nested tubes, and its tube-scoped input."""

    document: bytes
    """Canonical frame of {"spec": ..., "input": ...}; equal tubes have equal bytes."""

    @classmethod
    def of(cls, source: Any, input: Mapping[str, Any] | None = None) -> TubeSource:  # noqa: A002 - upstream's word
        """Return the source of a tube.

        Args:
            source: A loaded Tube, a TubeSpecification, a dict, a path, the id of a tube, or a
                TubeSource, which is returned as it is.
            input: Tube-scoped input; a loaded Tube brings its own.

        Raises:
            ValueError, KeyError: Nothing is found under this path or id.
            EncodeError: A parameter or an input has no place in the wire format.
        """
        if isinstance(source, TubeSource):
            return source
        from noob import Tube  # noqa: PLC0415 - upstream is heavy, and a worker may never need it
        from noob.tube import TubeSpecification  # noqa: PLC0415

        if isinstance(source, Tube):
            if source.spec is None:
                raise ValueError(
                    f"Tube {source.tube_id!r} has no specification, so it cannot travel."
                    " Make it with Tube.from_specification()."
                )
            given = dict(source.input if input is None else input)
            spec = _specification(source.spec, given)
            _undo_loading(source, spec.get("nodes", {}))
        else:
            given = dict(input or {})
            found = TubeSpecification.from_any(_plain(source))  # upstream writes into a dict
            spec = _specification(found, given)
        return cls(canonical({"spec": spec, "input": given}))

    @classmethod
    def from_document(cls, document: bytes) -> TubeSource:
        """Return the source that another machine's `document` holds.

        Raises:
            DecodeError: The bytes are not such a document.
            LimitError: They are over the limits of the wire format.
        """
        source = cls(bytes(document))
        _check_shape(source.value)
        return source

    @classmethod
    def sent(cls, spec: Any, input: Any = None) -> TubeSource:  # noqa: A002 - upstream's word
        """Return the source of a specification that somebody wrote by hand on another machine.

        It is checked as it came: what it extends or nests by name would be read from this
        machine's files.

        Raises:
            DecodeError: It is no specification of a tube.
            LimitError: It is over the limits of the wire format.
        """
        cls.from_document(canonical({"spec": spec, "input": input}))
        try:
            return cls.from_document(cls.of(spec, input=input).document)
        except NoobCloudError:
            raise
        except Exception as error:
            raise DecodeError(f"spec is not a tube specification: {error}") from error

    @property
    def value(self) -> dict[str, Any]:
        """The document decoded, anew each time, since loading writes into it."""
        value = loads(self.document)
        if type(value) is not dict or value.keys() != {"spec", "input"}:
            raise DecodeError("The frame holds no tube: it wants exactly 'spec' and 'input'.")
        return value

    @cached_property
    def cid(self) -> str:
        """Name of the tube: the cid of its document."""
        return cid(self.document)

    @cached_property
    def types(self) -> tuple[str, ...]:
        """Every import path that a node or an asset names, those of nested tubes included."""
        return tuple(dict.fromkeys(_types(self.value["spec"])))

    @cached_property
    def modules(self) -> tuple[str, ...]:
        """The modules that loading the tube imports, sorted."""
        return tuple(sorted({name for name in map(_module, self.types) if name}))

    @cached_property
    def origins(self) -> tuple[str, ...]:
        """The modules, and those where what they hand on was defined, sorted.

        What to allow for a tube of one's own: finding out imports its modules.

        Raises:
            CodeMismatchError: A module, or a name in it, is missing here.
        """
        found = {_origin(_resolve(type_, module)) for type_, module in self._imports()}
        return tuple(sorted({*self.modules, *filter(None, found)}))

    @cached_property
    def code(self) -> str:
        """Name of the code: the cid over each module that is not noob's own and its source file.

        Two machines with the same tube and the same code give the same results. Modules are found
        but not imported; one that is missing here counts as missing. Of one that this process has
        loaded it is the file as it was then.
        """
        names = [name for name in self.modules if name.split(".")[0] not in ("noob", "builtins")]
        return cid_of([[name, _source_digest(name)] for name in names])

    def load(self, allowed_modules: Collection[str] | None = None) -> Tube:
        """Return the tube, ready for a runner.

        Args:
            allowed_modules: Modules (with what is below them) that the tube may import; None
                trusts the tube.

        Raises:
            TubeRefusedError: The tube names another module. Nothing has been imported then.
            CodeMismatchError: It names something that is missing here.
            PlanError: It names something that cannot be called.
        """
        from noob_cloud.plan import load_tube  # noqa: PLC0415 - upstream is heavy

        value = self.value
        _check_shape(value)
        if allowed_modules is not None:
            self.check(allowed_modules)
        for type_, module in self._imports():
            _check_callable(type_, _resolve(type_, module))
            _source_digest(module)  # of what has just been imported, whatever the file says later
        return load_tube(value["spec"], input=value["input"])

    def check(self, allowed_modules: Collection[str]) -> None:
        """Refuse the tube if it may do more than run what `allowed_modules` define.

        Raises:
            TubeRefusedError: It names another module, or reaches one through a name that an
                allowed module merely imported, or a nested tube by its path or id.
        """
        allowed = frozenset(allowed_modules)
        for type_ in self.types:
            module = _module(type_)
            if module and not _within(module, allowed):
                raise _refusal(type_, module)
        for type_, module in self._imports():
            _check_origin(type_, _resolve(type_, module), allowed)

    def _imports(self) -> Iterator[tuple[str, str]]:
        for type_ in self.types:
            module = _module(type_)
            if module and module != "builtins":
                yield type_, module


# ---- dumping a specification


def _specification(spec: TubeSpecification, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a specification as plain values; upstream's dump would import every node's module."""
    dumped = _fields(spec, _OMITTED | {"nodes", "assets", "input"})
    for part in ("assets", "input", "nodes"):
        entries = getattr(spec, part)
        if entries:
            dumped[part] = {str(key): _fields(entry, {"id"}) for key, entry in entries.items()}
    for node in dumped.get("nodes", {}).values():
        params = node.get("params") or {}
        if node["type"] == "tube" and "tube" in params:
            defaults = {key: entry.default for key, entry in spec.input.items()}
            params["tube"] = _nested(params["tube"], {**defaults, **given, **params})
    return dumped


def _fields(model: BaseModel, omitted: Collection[str]) -> dict[str, Any]:
    """Return what was set, in the order of the model: an unset default is not a given one."""
    return {
        field.alias or name: _plain(getattr(model, name))
        for name, field in type(model).model_fields.items()
        if name in model.model_fields_set and name not in omitted
    }


def _nested(source: Any, given: Mapping[str, Any]) -> Any:
    """Return a nested tube in full, so that no other machine looks for its id or its file."""
    from noob.tube import TubeSpecification  # noqa: PLC0415 - upstream is heavy

    if isinstance(source, str) and source.startswith("input."):
        source = given[source.removeprefix("input.")]
    return _specification(TubeSpecification.from_any(_plain(source)), given)


def _undo_loading(tube: Tube, nodes: dict[str, Any]) -> None:
    """Drop the statefulness that loading wrote into `nodes`; keep what was enabled since.

    Inputs that loading put in the place of `input.NAME` stay: they are what the tube runs with.
    """
    for key, node in tube.nodes.items():
        entry = nodes.get(key)
        if entry is None:
            continue
        function = getattr(node, "fn", None)
        default = type(node).model_fields["stateful"].default
        if function is not None:
            default = isgeneratorfunction(function)
        if entry.get("stateful") == default:
            del entry["stateful"]
        given = entry.get("enabled", True)
        if isinstance(given, str) or given != node.enabled:
            entry["enabled"] = bool(node.enabled)


def _plain(value: Any) -> Any:
    """Return what a YAML file may hold without ruamel's and pydantic's own classes."""
    if isinstance(value, Enum):
        return value.value if type(value).__module__.startswith("noob.") else value
    if isinstance(value, dict):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    for kind in (str, float, int):
        if isinstance(value, kind) and type(value).__module__.startswith("ruamel."):
            return kind(value)
    return value


# ---- checking a document


def _check_shape(value: Mapping[str, Any]) -> None:
    spec = value["spec"]
    if type(spec) is not dict or type(value["input"]) is not dict:
        raise DecodeError("The document holds no tube: 'spec' and 'input' are mappings.")
    deque(_types(spec), maxlen=0)


def _types(spec: Mapping[str, Any]) -> Iterator[str]:
    if spec.get("extends"):  # it would be merged from this machine's files, unchecked
        raise DecodeError(
            "The document extends another tube instead of holding it. Make documents with"
            " TubeSource.of()."
        )
    for part in ("assets", "nodes"):
        entries = spec.get(part, {})
        if type(entries) is not dict:
            raise DecodeError(f"The document holds no tube: its {part} are no mapping.")
        for key, entry in entries.items():
            type_ = entry.get("type") if type(entry) is dict else None
            if type(type_) is not str:
                raise DecodeError(f"The document holds no tube: {key!r:.80} has no type.")
            yield type_
            params = entry.get("params")
            if type(params) is dict and "tube" in params:
                if type(params["tube"]) is dict:
                    yield from _types(params["tube"])
                elif type_ == "tube":
                    raise DecodeError(
                        f"The document names a nested tube by {str(params['tube'])[:80]!r} instead"
                        " of holding it. Make documents with TubeSource.of()."
                    )


def _module(type_: str) -> str:
    """Return the module that an import path needs, "" for what every noob has."""
    if "." in type_:
        return type_.rpartition(".")[0]
    return "" if type_ in _SPECIAL or type_ in SAFE_BUILTINS else "builtins"


def _within(module: str, allowed: Collection[str]) -> bool:
    parts = module.split(".")
    return any(".".join(parts[:size]) in allowed for size in range(1, len(parts) + 1))


def _resolve(type_: str, module: str) -> Any:
    try:
        return getattr(import_module(module), type_.rpartition(".")[2])
    except (ImportError, AttributeError) as error:
        raise CodeMismatchError(
            f"The tube names {type_[:200]}, which this machine does not have: {error}. Install the"
            " code that the tube's nodes come from.",
            module=module,
        ) from error


def _check_origin(type_: str, found: Any, allowed: Collection[str]) -> None:
    """Refuse `my_nodes.system` where my_nodes says `from os import system`."""
    from noob.node.tube import TubeNode  # noqa: PLC0415 - upstream is heavy

    if isclass(found) and issubclass(found, TubeNode):
        raise TubeRefusedError(
            f"The tube names {type_}, a class of nested tubes; a nested tube has the type 'tube'.",
            module=_module(type_),
        )
    origin = _origin(found)
    if origin is not None and not _within(origin, allowed):
        raise _refusal(type_, origin)


def _check_callable(type_: str, found: Any) -> None:
    if not callable(found):
        raise PlanError(
            f"The tube names {type_[:200]}, which is a {type(found).__name__} and cannot be called:"
            " the type of a node, or of an asset, is a class or a function."
        )


def _origin(found: Any) -> str | None:
    """Return the module where a function or class was defined; other objects are their module's."""
    origin = getattr(found, "__module__", None) if isroutine(found) or isclass(found) else None
    return origin if isinstance(origin, str) else None


def _refusal(type_: str, module: str) -> TubeRefusedError:
    return TubeRefusedError(
        f"The tube names {type_[:200]}, from the module {module[:200]!r}, which this worker may"
        f" not import. If you trust it, start the worker with --allow-module {module[:200]}",
        module=module,
    )


# ---- finding source files


def _source_digest(module: str) -> bytes | None:
    """Return the digest of a module's file; None if it is not found, b"" if it has no file."""
    loaded = sys.modules.get(module)
    spec = getattr(loaded, "__spec__", None) or _find_spec(module)
    if loaded is None or spec is None:
        return _digest_of(loaded, spec)
    known = _loaded.get(module)
    if known is None or known[0] is not spec:  # imported again, or reloaded
        known = _loaded[module] = (spec, _digest_of(loaded, spec))
    return known[1]


_loaded: dict[str, tuple[Any, bytes | None]] = {}
"""Digests of modules that are loaded, with the spec each was loaded by. A file may be changed
afterwards: this process goes on with what it has, and must say so."""


def _digest_of(loaded: Any, spec: Any) -> bytes | None:
    origin = getattr(spec, "origin", None) or getattr(loaded, "__file__", None)
    if origin is None:
        return None if spec is None else b""
    if origin in ("built-in", "frozen") or getattr(spec, "loader", None) in (
        BuiltinImporter,
        FrozenImporter,
    ):
        return b""
    try:
        return digest(Path(origin).read_bytes())
    except OSError:
        return None


def _find_spec(module: str) -> Any:
    """Find a module without importing its parents, as importlib.util.find_spec would."""
    path: Any = None
    spec: Any = None
    parts = module.split(".")
    for size in range(1, len(parts) + 1):
        name = ".".join(parts[:size])
        for finder in sys.meta_path:
            spec = finder.find_spec(name, path) if hasattr(finder, "find_spec") else None
            if spec is not None:
                break
        if spec is None:
            return None
        path = spec.submodule_search_locations
        if path is None and size < len(parts):
            return None
    return spec
