"""Which event starts which run: the file `events.toml` that users write.

[[on]]
s3 = "inbox/pictures/"            # or schedule = "rate(1 hour)", event = {...}, queue = "word"
tube = "tubes/tiles.yaml"         # beside this file; or the cid of a tube
inputs = { picture = "{uri}" }    # of the run's one epoch
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from noob_cloud.coordinator.routing import RESERVED
from noob_cloud.exceptions import MappingError

if TYPE_CHECKING:
    from collections.abc import Mapping as Fields

__all__ = ["FILE", "Entry", "Mapping", "check"]

FILE: Final = "events.toml"
_FIELD: Final = re.compile(r"\{([A-Za-z0-9_.-]+)\}")
_CID: Final = re.compile(r"baf[a-z2-7]{20,}")
_KINDS: Final = ("s3", "schedule", "event", "queue")
_SCHEDULE: Final = "schedule"
_YAML: Final = frozenset((".yaml", ".yml"))
_PLACEMENT: Final = ".cloud.yaml"


class Entry(BaseModel):
    """What one kind of event starts."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    s3: Annotated[str, Field(min_length=1)] | None = None
    """Objects whose key begins so."""
    suffix: str = ""
    """With `s3`: and ends so."""
    schedule: Annotated[str, Field(pattern=r"^(rate|cron)\(.+\)$")] | None = None
    event: dict[str, Any] | None = None
    """A pattern of EventBridge."""
    queue: Annotated[str, Field(min_length=1)] | None = None
    """Messages `{"on": "word", ...}` that somebody sends to the queue."""
    tube: Annotated[str, Field(min_length=1)]
    """A file beside the mapping, or the cid of a tube that the coordinator knows."""
    inputs: dict[str, Any] | None = None
    """Of the run's one epoch. `{key}` in a text is the event's; alone it keeps its type."""
    n: Annotated[int, Field(ge=0)] | None = None
    """Epochs, where there are no inputs; 1 by default."""
    priority: Literal["CRITICAL", "HIGH", "NORMAL", "LOW"] = "NORMAL"
    tags: tuple[str, ...] = ()
    """Of the worker that drives the run."""

    @model_validator(mode="after")
    def _check(self) -> Entry:
        named = [kind for kind in _KINDS if getattr(self, kind) is not None]
        if len(named) != 1:
            raise ValueError(f"needs exactly one of {', '.join(_KINDS)}; it has {named or 'none'}")
        if self.suffix and self.s3 is None:
            raise ValueError("suffix goes with s3 only")
        if self.inputs is not None and self.n is not None:
            raise ValueError("inputs are of one epoch, so n goes without them")
        if self.queue == _SCHEDULE:
            raise ValueError(f'messages {{"on": "{_SCHEDULE}"}} are those of schedules')
        if self.event is not None and not self.event:
            raise ValueError("event = {} would be every event there is; say which")
        ours = sorted(tag for tag in self.tags if tag.startswith(RESERVED))
        if ours:
            raise ValueError(f"tags that begin with {RESERVED!r} are ours: {ours}")
        path = PurePosixPath(self.tube)
        if not self.is_cid and (path.is_absolute() or ".." in path.parts):
            raise ValueError(f"tube {self.tube!r} is to lie beside this file, or below")
        if not self.is_cid and path.suffix not in _YAML:
            raise ValueError(f"tube {self.tube!r} is neither a YAML file nor a cid")
        return self

    @property
    def is_cid(self) -> bool:
        """Whether the tube is named by its cid."""
        return _CID.fullmatch(self.tube) is not None

    @property
    def kind(self) -> str:
        """Which of s3, schedule, event and queue it is."""
        return next(kind for kind in _KINDS if getattr(self, kind) is not None)

    def takes(self, kind: str, fields: Fields[str, Any]) -> bool:
        """Whether an event starts this."""
        if kind == "s3":
            key = str(fields["key"])
            if self.s3 is not None:
                return key.startswith(self.s3) and key.endswith(self.suffix)
            return self.event is not None and _matches(self.event, fields)
        if kind == "schedule":
            return self.schedule is not None and self.schedule == fields["schedule"]
        if kind == "queue":
            return self.queue is not None and self.queue == fields["on"]
        return self.event is not None and _matches(self.event, fields)

    def inputs_of(self, fields: Fields[str, Any]) -> dict[str, Any] | None:
        """Return the inputs with the event's fields in their places.

        Raises:
            MappingError: the event has no such field.
        """
        return None if self.inputs is None else _filled(self.inputs, fields)


class Mapping(BaseModel):
    """Every `[[on]]` of a file."""

    model_config = ConfigDict(extra="ignore", frozen=True)  # what else is in noob-cloud.toml

    on: Annotated[tuple[Entry, ...], Field(min_length=1)]

    @classmethod
    def load(cls, path: Path) -> Mapping:
        """Read a mapping file.

        Raises:
            MappingError: it is not one; the message says what is wrong where.
        """
        try:
            return cls.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
        except ValidationError as error:
            lines = [
                f"{'.'.join(map(str, each['loc'])) or 'file'}:"
                f" {each['msg'].removeprefix('Value error, ')}"
                for each in error.errors()
            ]
            raise MappingError(f"{path}: " + "; ".join(lines)) from error
        except (OSError, ValueError) as error:
            raise MappingError(f"{path} cannot be read: {error}") from error

    def files(self, folder: Path) -> dict[str, Path]:
        """Return the tubes, with their placements, that lie beside the file, by their names.

        Raises:
            MappingError: one is missing.
        """
        found: dict[str, Path] = {}
        for number, entry in enumerate(self.on):
            if entry.is_cid:
                continue
            path = folder / entry.tube
            if not path.is_file():
                raise MappingError(
                    f"on.{number}.tube: there is no {entry.tube} beside the mapping, in {folder};"
                    " name a tube's YAML file, or the cid of one that was sent before."
                )
            name = PurePosixPath(entry.tube)
            found[str(name)] = path
            placement = path.with_name(path.stem + _PLACEMENT)
            if placement.is_file():
                found[str(name.with_name(name.stem + _PLACEMENT))] = placement
        return found


def check(path: Path) -> dict[str, Path]:
    """Check a mapping file whole; return what is to lie beside the submit function's handler.

    Raises:
        MappingError: it is not one, or a tube is missing.
    """
    return {FILE: path, **Mapping.load(path).files(path.parent)}


def _filled(value: Any, fields: Fields[str, Any]) -> Any:
    if isinstance(value, dict):
        return {key: _filled(item, fields) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, fields) for item in value]
    if not isinstance(value, str):
        return value
    alone = _FIELD.fullmatch(value)
    if alone is not None:
        return _field(alone[1], fields)
    return _FIELD.sub(lambda found: str(_field(found[1], fields)), value)


def _field(name: str, fields: Fields[str, Any]) -> Any:
    found: Any = fields
    for part in name.split("."):
        if not isinstance(found, dict) or part not in found:
            raise MappingError(f"The event has no {name!r}, only {', '.join(sorted(fields))}.")
        found = found[part]
    return found


def _matches(pattern: Any, value: Any) -> bool:
    """Whether an event fits a pattern; what EventBridge alone can say, it has said already."""
    if isinstance(pattern, dict):
        return isinstance(value, dict) and all(
            key in value and _matches(item, value[key]) for key, item in pattern.items()
        )
    wanted = pattern if isinstance(pattern, list) else [pattern]
    if any(isinstance(item, dict) for item in wanted):
        return True
    return any(item in wanted for item in (value if isinstance(value, list) else [value]))
